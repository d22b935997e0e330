//! Finds secrets that need no name: tokens of services and hashes of passwords.

use crate::value::secret::values::{OnSecret, words};

/// The prefixes of the tokens of services, and the minimum length behind the prefix.
const TOKENS: [(&str, usize); 65] = [
    // AWS: keys of users and of roles, and of Bedrock.
    ("AKIA", 16),
    ("ASIA", 16),
    ("ABSK", 40),
    // Git hosts.
    ("ghp_", 20),
    ("gho_", 20),
    ("ghu_", 20),
    ("ghs_", 20),
    ("ghr_", 20),
    ("github_pat_", 20),
    ("glpat-", 16),
    ("gldt-", 16),
    ("glrt-", 16),
    ("ATATT3", 20),
    ("ATBB", 20),
    // Chat.
    ("xoxb-", 10),
    ("xoxp-", 10),
    ("xoxa-", 10),
    ("xoxr-", 10),
    ("xoxs-", 10),
    ("xoxe.", 10),
    ("xapp-", 10),
    // Payment.
    ("sk_live_", 10),
    ("sk_test_", 10),
    ("rk_live_", 10),
    ("rk_test_", 10),
    ("whsec_", 10),
    ("sq0csp-", 20),
    ("shpat_", 20),
    ("shpss_", 20),
    // Google.
    ("AIza", 30),
    ("ya29.", 20),
    ("GOCSPX-", 20),
    // Models.
    ("sk-", 20),
    ("hf_", 30),
    // Packages.
    ("npm_", 30),
    ("pypi-", 16),
    ("dckr_pat_", 20),
    ("rubygems_", 30),
    // Mail and telephony.
    ("SG.", 40),
    ("key-", 32),
    ("xkeysib-", 30),
    // Platforms.
    ("dop_v1_", 30),
    ("doo_v1_", 30),
    ("hvs.", 20),
    ("hvb.", 20),
    ("hvr.", 20),
    ("dapi", 32),
    ("dp.pt.", 20),
    ("dp.st.", 20),
    ("dp.ct.", 20),
    ("dp.sa.", 20),
    ("dp.scim.", 20),
    ("dp.audit.", 20),
    ("tskey-", 20),
    ("b.AAAAA", 60),
    ("lin_api_", 20),
    ("PMAK-", 20),
    ("NRAK-", 20),
    ("sntrys_", 20),
    ("glsa_", 20),
    ("glc_", 20),
    ("sbp_", 20),
    ("pscale_pw_", 20),
    ("pscale_tkn_", 20),
    ("EAACEdEose0cBA", 10),
];

/// The prefixes of the hashes of passwords.
const HASHES: [&str; 14] = [
    "$1$",
    "$2a$",
    "$2b$",
    "$2y$",
    "$5$",
    "$6$",
    "$7$",
    "$y$",
    "$apr1$",
    "$argon2",
    "$scrypt$",
    "$pbkdf2",
    "SCRAM-SHA-256$",
    "pbkdf2_sha256$",
];

/// The shortest text that is looked at: no token is shorter than `xoxb-` and what follows it.
const MIN_LENGTH: usize = 15;

/// The shortest hash of a password.
const MIN_HASH_LENGTH: usize = 20;

/// Finds the hashes of passwords. Returns false if `on_secret` has ended the search.
pub(super) fn find_hashes(text: &str, on_secret: &mut OnSecret<'_>) -> bool {
    let is_hash =
        |word: &str| word.len() >= MIN_HASH_LENGTH && HASHES.iter().any(|it| word.starts_with(it));
    words(text, &[' ', '\t', '\n', '"', '\'', ':'])
        .all(|word| !is_hash(&text[word.clone()]) || on_secret(word))
}

/// The base64 of `-----BEGIN PRIV`, and of the same with the name of an algorithm.
const BASE64_PEM_HEADERS: [&str; 5] = [
    "LS0tLS1CRUdJTiBQUklW",
    "LS0tLS1CRUdJTiBSU0Eg",
    "LS0tLS1CRUdJTiBFQyBQ",
    "LS0tLS1CRUdJTiBPUEVOU1NI",
    "LS0tLS1CRUdJTiBFTkNSWVBU",
];

/// Finds tokens of services, each with a login or an option before it. Returns false if `on_secret` has ended
/// the search.
pub(super) fn find_tokens(text: &str, on_secret: &mut OnSecret<'_>) -> bool {
    if text.len() < MIN_LENGTH {
        return true;
    }
    let is_separator =
        |byte: &u8| byte.is_ascii_whitespace() || b"\"',;=/&?()<>[]{}|@`\\".contains(byte);
    let mut begin = 0;
    let ends = text
        .bytes()
        .enumerate()
        .filter(|(_, byte)| is_separator(byte));
    for end in ends.map(|(at, _)| at).chain([text.len()]) {
        let run = begin..end;
        begin = end + 1;
        if run.len() < MIN_LENGTH {
            continue;
        }
        let run_text = &text[run.clone()];
        let last_part = run_text.rsplit(':').next();
        let token = last_part
            .filter(|it| it.len() >= MIN_LENGTH)
            .unwrap_or(run_text);
        if !(is_token(token) || is_bot_token(run_text)) {
            continue;
        }
        if !on_secret(run) {
            return false;
        }
    }
    true
}

/// Whether what follows a prefix looks random, and is no name as in `sk-learn-model-2024`.
fn looks_random(text: &str) -> bool {
    let is_long = |part: &str| part.len() >= 16 && part.bytes().any(|b| b.is_ascii_digit());
    text.bytes().any(|b| b.is_ascii_uppercase()) || text.split(['-', '_', '.']).any(is_long)
}

fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_".contains(&byte)
}

/// Whether a word is a token.
fn is_token(word: &str) -> bool {
    let is_random_run = |text: &str, least: usize| {
        let length = text
            .bytes()
            .take_while(|b| is_base64url(*b) || *b == b'.')
            .count();
        length >= least && looks_random(text)
    };
    let begins = |(begin, least): &(&str, usize)| {
        let rest = word.strip_prefix(begin);
        rest.is_some_and(|rest| is_random_run(rest, *least))
    };
    TOKENS.iter().any(begins)
        || BASE64_PEM_HEADERS
            .iter()
            .any(|begin| word.starts_with(begin))
        || is_jwt(word)
        || is_seed(word)
        || is_old_vault_token(word)
}

/// Whether a word is a JSON web token: the base64 of `{"`, and two more parts.
fn is_jwt(word: &str) -> bool {
    let mut parts = word.split('.');
    let plain = |part: &str| part.len() >= 4 && part.bytes().all(is_base64url);
    word.starts_with("eyJ")
        && parts.next().is_some_and(plain)
        && parts.next().is_some_and(plain)
        && parts.next().is_some()
}

/// Whether a word is a token of Vault before 1.10: `s.`, 24 letters and digits, and perhaps a namespace.
fn is_old_vault_token(word: &str) -> bool {
    let Some(rest) = word.strip_prefix("s.") else {
        return false;
    };
    let (token, namespace) = rest.split_once('.').unwrap_or((rest, ""));
    let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let has_digit = token.bytes().any(|byte| byte.is_ascii_digit());
    let has_uppercase = token.bytes().any(|byte| byte.is_ascii_uppercase());
    token.len() == 24
        && is_plain(token)
        && is_plain(namespace)
        && namespace.len() <= 6
        && has_digit
        && has_uppercase
}

/// Whether a word is the seed of an NKey, the key pair of a NATS user or server.
fn is_seed(word: &str) -> bool {
    let has_kind = word
        .as_bytes()
        .get(1)
        .is_some_and(|kind| b"ACNOUX".contains(kind));
    word.len() == 58
        && word.starts_with('S')
        && has_kind
        && word
            .bytes()
            .all(|b| b.is_ascii_uppercase() || (b'2'..=b'7').contains(&b))
}

/// Whether a word is the token of a Telegram bot: perhaps `bot`, a number, a colon and 35
/// characters.
fn is_bot_token(word: &str) -> bool {
    let (id, token) = word.split_once(':').unwrap_or_default();
    let id = id.strip_prefix("bot").unwrap_or(id);
    (8..=10).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_digit())
        && token.len() == 35
        && token.bytes().all(is_base64url)
}
