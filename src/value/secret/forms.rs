//! Which texts hold a secret by their form, whatever their key is called, and where in the text.
//!
//! Known are addresses with a user or a secret parameter, connection strings, headers, documents and
//! command lines with a secret name, private keys, and the tokens of services whose form is public.
//! What has no form, such as a password alone, cannot be known.

use std::ops::Range;

use crate::error::MASK;
use crate::value::secret::encode;
use crate::value::secret::names::{header_looks_secret, looks_secret, parameter_looks_secret};

/// Receives a secret part of a text; says whether to go on.
type Found<'a> = dyn FnMut(Range<usize>) -> bool + 'a;

/// Whether a text holds a secret by its form.
pub(crate) fn text_holds_secret(text: &str) -> bool {
    let mut any = false;
    find(text, &mut |_| {
        any = true;
        false
    });
    any
}

/// A text with the mask in place of the parts that are secret by their form.
pub(crate) fn mask_text(text: &str) -> String {
    let mut parts: Vec<Range<usize>> = Vec::new();
    find(text, &mut |part| {
        parts.push(part);
        true
    });
    mask_parts(text, parts)
}

/// A text with the mask in place of some of its parts, which may overlap.
pub(super) fn mask_parts(text: &str, mut parts: Vec<Range<usize>>) -> String {
    parts.sort_unstable_by_key(|part| (part.start, part.end));
    let mut masked = String::with_capacity(text.len());
    let mut done = 0;
    for part in parts {
        if part.start >= done {
            masked.push_str(&text[done..part.start]);
            masked.push_str(MASK);
        }
        done = done.max(part.end);
    }
    masked.push_str(&text[done..]);
    masked
}

/// Finds the secret parts of a text.
fn find(text: &str, found: &mut Found<'_>) {
    // Most texts are short and hold none of the signs of any form.
    if text.len() < 4 {
        return;
    }
    let has = |sign: u8| text.as_bytes().contains(&sign);
    let go_on = (!has(b'@') || (user_infos(text, found) && logins(text, found)))
        && (!has(b'=') || assignments(text, found))
        && (!has(b':') || fields(text, found))
        && (!has(b' ') || (schemes(text, found) && netrc(text, found)))
        && (!has(b'-') || private_keys(text, found))
        && (!has(b'/') || webhooks(text, found))
        && (!has(b'$') || hashes(text, found));
    if go_on {
        tokens(text, found);
    }
}

/// The user and the password in addresses: `redis://me:pw@host`.
fn user_infos(text: &str, found: &mut Found<'_>) -> bool {
    for (at, _) in text.match_indices("://") {
        let begin = at + 3;
        let rest = line(&text[begin..]);
        let word = rest
            .split([' ', '"', '\'', '<', '>'])
            .next()
            .unwrap_or_default();
        let authority = word.split(['/', '?', '#']).next().unwrap_or_default();
        // A password may hold what ends an authority, but then there is a user's name in front, and
        // no port: `me:p/w@host`. It may even hold blanks.
        let spaced = || {
            rest.split_once('@').is_some_and(|(user, _)| {
                user.split_once(':').is_some_and(|(name, password)| {
                    let port = password.split('/').next().unwrap_or_default();
                    !name.contains([' ', '/', '?']) && !port.bytes().all(|b| b.is_ascii_digit())
                })
            })
        };
        let end = match authority.contains('@') {
            true if authority.contains(':') => word.rfind('@'),
            true => authority.rfind('@'),
            false if spaced() => rest.rfind('@'),
            false if authority.contains(':') => word.rfind('@'),
            false => None,
        };
        if let Some(end) = end.filter(|end| *end > 0) {
            let user = &rest[..end];
            let password = user.split_once(':').map_or(user, |(_, password)| password);
            let is_shown = user != MASK && !is_reference(password);
            if is_shown && !found(begin..begin + end) {
                return false;
            }
        }
    }
    true
}

/// What stands before `name:password@host` and is no user's name.
const NO_USERS: [&str; 22] = [
    "acct",
    "domain",
    "email",
    "file",
    "group",
    "http",
    "https",
    "image",
    "jdbc",
    "jsr",
    "mail",
    "mailto",
    "member",
    "npm",
    "oci",
    "principal",
    "serviceaccount",
    "sip",
    "sips",
    "user",
    "workspace",
    "xmpp",
];

/// Logins without a scheme: `me:pw@tcp(host)/db`, `me:pw@host`, `me/pw@//host/service`.
fn logins(text: &str, found: &mut Found<'_>) -> bool {
    for word in words(text, &[' ', '\t', '\n', '"', '\'', ',', ';']) {
        let Some(at) = text[word.clone()].rfind('@') else {
            continue;
        };
        let (head, tail) = (
            &text[word.start..word.start + at],
            &text[word.start + at + 1..word.end],
        );
        if head.contains("://") || tail.starts_with("sha256:") || tail.starts_with("sha512:") {
            continue;
        }
        let is_login = match head.split_once(':') {
            Some((name, _)) if name.eq_ignore_ascii_case("jdbc") => {
                let login = head.rsplit(':').next().unwrap_or_default();
                login.split_once('/').is_some_and(|(user, password)| {
                    !user.is_empty() && !password.is_empty() && !is_reference(password)
                })
            }
            Some((name, password)) => is_user(name, password, tail),
            None => head.split_once('/').is_some_and(|(user, password)| {
                let is_plain = !user.is_empty()
                    && !password.is_empty()
                    && !password.contains('/')
                    && !is_reference(password);
                is_plain && is_service(tail)
            }),
        };
        if is_login && !found(word.start..word.start + at) {
            return false;
        }
    }
    true
}

fn is_user(name: &str, password: &str, tail: &str) -> bool {
    let plain = |c: char| c.is_alphanumeric() || "-_.+%$\\".contains(c);
    let numeric = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let is_host = tail.starts_with(|c: char| c.is_alphanumeric() || "[(/".contains(c));
    // `user:me@example.com` names a member of a team, `user:pw@tcp(h)/d` a login.
    let is_bare = !tail.contains(['(', '/', ':']);
    let is_other = NO_USERS.iter().any(|it| name.eq_ignore_ascii_case(it))
        && (is_bare || !name.eq_ignore_ascii_case("user"));
    !name.is_empty()
        && name.chars().all(plain)
        && !password.is_empty()
        && !is_reference(password)
        && is_host
        && !is_other
        && !(numeric(name) && numeric(password))
}

/// Whether a text is a database as Oracle's clients take it.
fn is_service(tail: &str) -> bool {
    let has_port = || {
        tail.split_once(':').is_some_and(|(host, rest)| {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            !host.is_empty()
                && digits > 0
                && matches!(rest.as_bytes().get(digits), Some(b'/' | b':'))
        })
    };
    tail.starts_with("//") || tail.starts_with('(') || has_port()
}

/// Values behind `=` and a secret name, in the queries of addresses, connection strings, command lines
/// and documents.
fn assignments(text: &str, found: &mut Found<'_>) -> bool {
    for (at, _) in text.match_indices('=') {
        let (name, lead) = name_before(&text[..at]);
        let is_query = matches!(lead, Some('?' | '&' | '#'));
        let is_secret = match is_query {
            true => parameter_looks_secret(name),
            false => name.len() < 80 && looks_secret(name),
        };
        if !is_secret {
            continue;
        }
        let begin = at + 1 + blanks(&text[at + 1..]);
        let ends: &[char] = match lead {
            Some('?' | '&' | '#') => &['&', ';', '#', ' ', '\n', '"', '\'', '<', '>'],
            _ if text.contains(';') => &[';', '\n'],
            _ => &[' ', '\t', '\n'],
        };
        let value = value_at(text, begin, ends);
        if is_shown_value(&text[value.clone()]) && !found(value) {
            return false;
        }
    }
    true
}

/// The name that ends a text, and what stands before it.
fn name_before(text: &str) -> (&str, Option<char>) {
    let text = text.trim_end_matches([' ', '"', '\'']);
    let ends = |c: char| "=;,&?#{}()[]\"'\n<>|".contains(c);
    let begin = text.rfind(ends).map_or(0, |at| {
        at + text[at..].chars().next().map_or(1, char::len_utf8)
    });
    let lead = text[..begin].chars().next_back();
    let name = text[begin..].trim();
    // `host=h password=pw` has blanks between the pairs, `Shared Key=pw` in a name.
    let most = if lead == Some('=') { 1 } else { 3 };
    let from = name
        .rmatch_indices([' ', '\t'])
        .nth(most - 1)
        .map_or(0, |(at, _)| at + 1);
    (&name[from..], lead)
}

/// Values behind `:` and a secret name: headers, JSON and YAML.
fn fields(text: &str, found: &mut Found<'_>) -> bool {
    for (at, _) in text.match_indices(':') {
        let before = text[..at].trim_end();
        let quoted = before.ends_with(['"', '\'']);
        let before = before.trim_end_matches(['\\', '"', '\'']);
        let named = |c: char| c.is_alphanumeric() || "-_.".contains(c);
        let begin = before.len()
            - before
                .chars()
                .rev()
                .take_while(|c| named(*c))
                .map(char::len_utf8)
                .sum::<usize>();
        let name = &before[begin..];
        let lead = before[..begin].trim_end_matches([' ', '\t']);
        let is_begin = lead.is_empty() || lead.ends_with(['\n', '{', ',', '"', '\'', '-', '?']);
        let after = &text[at + 1..];
        let is_field = quoted || (is_begin && after.starts_with([' ', '\t']));
        if name.is_empty() || !is_field || !header_looks_secret(name) {
            continue;
        }
        let begin = at + 1 + blanks(after);
        let ends: &[char] = match quoted || lead.ends_with(['{', ',']) {
            true => &[',', '}', '\n'],
            false => &['\n', '\r', '"', '\''],
        };
        let value = match text[begin..].starts_with(['{', '[']) {
            true => begin..text.len(),
            false => value_at(text, begin, ends),
        };
        if is_shown_value(&text[value.clone()]) && !found(value) {
            return false;
        }
    }
    true
}

/// The value that begins at a place: in quotes or braces, or up to one of `ends`.
fn value_at(text: &str, begin: usize, ends: &[char]) -> Range<usize> {
    let rest = &text[begin..];
    // A quote inside of text that is quoted itself.
    let slash = usize::from(rest.starts_with('\\'));
    let close = match rest[slash..].chars().next() {
        Some('"') => '"',
        Some('\'') => '\'',
        Some('{') => '}',
        _ => {
            let end = rest.find(ends).unwrap_or(rest.len());
            return begin..begin + rest[..end].trim_end().len();
        }
    };
    let inner = begin + slash + 1;
    let mut escaped = false;
    let end = text[inner..].find(|c: char| {
        let is_end = c == close && (!escaped || slash > 0);
        escaped = c == '\\' && !escaped;
        is_end
    });
    let end = end.map_or(text.len(), |end| inner + end);
    inner..end - usize::from(slash > 0 && text[inner..end].ends_with('\\'))
}

/// Whether a value may be a secret: it is none if it is empty, masked or a mere switch.
fn is_shown_value(value: &str) -> bool {
    let value = value.trim();
    let is_switch = matches!(value, "" | "null" | "~" | "true" | "false");
    !is_switch && !value.starts_with(MASK) && !is_reference(value)
}

/// Whether a text is a reference to a key and nothing else: what it stands for is not in it. A default
/// in it may be a secret.
fn is_reference(text: &str) -> bool {
    let name = text.strip_prefix("${").and_then(|it| it.strip_suffix('}'));
    let plain = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    name.is_some_and(|name| name.chars().all(plain))
}

/// Credentials behind the name of their scheme: `Basic dTpw`, `Bearer abc`.
fn schemes(text: &str, found: &mut Found<'_>) -> bool {
    let mut scheme: &str = "";
    for word in words(text, &[' ', '\t', '\n', '"', '\'', ',']) {
        let credential = &text[word.clone()];
        let is_long = credential.len() >= 20
            || (credential.len() >= 8 && credential.bytes().any(|byte| byte.is_ascii_digit()));
        let is_secret = match scheme.to_ascii_lowercase().as_str() {
            "basic" => encode::from_base64(credential).is_some_and(|bytes| bytes.contains(&b':')),
            "bearer" | "token" | "apikey" | "geniekey" | "bot" | "negotiate" | "ntlm" => is_long,
            "aws4-hmac-sha256" | "sharedkey" | "sharedkeylite" | "sharedaccesssignature" => true,
            "digest" => credential.contains('='),
            _ => false,
        };
        let names_one = scheme.len() > 8 || scheme.eq_ignore_ascii_case("digest");
        // Such a credential has several parts.
        let end = if names_one {
            word.start + line(&text[word.start..]).len()
        } else {
            word.end
        };
        let is_shown = !credential.starts_with(MASK) && !is_reference(credential);
        if is_secret && is_shown && !found(word.start..end) {
            return false;
        }
        scheme = credential.trim_end_matches(':');
    }
    true
}

/// The passwords of a file for `netrc`.
fn netrc(text: &str, found: &mut Found<'_>) -> bool {
    if !text.contains("login ") {
        return true;
    }
    let mut before = "";
    for word in words(text, &[' ', '\t', '\n']) {
        let is_password = before == "password" && !text[word.clone()].starts_with(MASK);
        if is_password && !found(word.clone()) {
            return false;
        }
        before = &text[word];
    }
    true
}

/// What private keys begin with, up to which the text is shown.
const PRIVATE_KEYS: [&str; 3] = [
    "AGE-SECRET-KEY-1",
    "PuTTY-User-Key-File-",
    "-----BEGIN OpenVPN Static key",
];

/// Private keys in PEM and in other forms of text.
fn private_keys(text: &str, found: &mut Found<'_>) -> bool {
    for (at, begin) in text.match_indices("-----BEGIN ") {
        let title = text[at + begin.len()..].split("-----").next();
        if title.is_some_and(|title| title.contains("PRIVATE KEY")) {
            return found(at..text.len());
        }
    }
    PRIVATE_KEYS
        .iter()
        .all(|begin| text.find(begin).is_none_or(|at| found(at..text.len())))
}

/// Addresses that are secret themselves: whoever knows one may post there.
const WEBHOOKS: [&str; 8] = [
    "hooks.slack.com/services/",
    "hooks.slack.com/workflows/",
    "hooks.slack.com/triggers/",
    "discord.com/api/webhooks/",
    "discordapp.com/api/webhooks/",
    "api.telegram.org/bot",
    "outlook.office.com/webhook/",
    "webhook.office.com/webhookb2/",
];

fn webhooks(text: &str, found: &mut Found<'_>) -> bool {
    WEBHOOKS.iter().all(|place| {
        let Some(at) = text.find(place) else {
            return true;
        };
        let begin = at + place.len();
        let end = text[begin..].find([' ', '"', '\'', '\n']);
        let end = end.map_or(text.len(), |end| begin + end);
        begin == end || text[begin..].starts_with(MASK) || found(begin..end)
    })
}

/// What the tokens of services begin with, and how many characters follow at least.
const TOKENS: [(&str, usize); 58] = [
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

/// What the hashes of passwords begin with.
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

fn hashes(text: &str, found: &mut Found<'_>) -> bool {
    let is_hash = |word: &str| word.len() >= 20 && HASHES.iter().any(|it| word.starts_with(it));
    words(text, &[' ', '\t', '\n', '"', '\'', ':'])
        .all(|word| !is_hash(&text[word.clone()]) || found(word))
}

/// The base64 of `-----BEGIN PRIV`, and of the same with the name of an algorithm.
const PEMS: [&str; 5] = [
    "LS0tLS1CRUdJTiBQUklW",
    "LS0tLS1CRUdJTiBSU0Eg",
    "LS0tLS1CRUdJTiBFQyBQ",
    "LS0tLS1CRUdJTiBPUEVOU1NI",
    "LS0tLS1CRUdJTiBFTkNSWVBU",
];

/// Tokens whose form is public, wherever they stand.
fn tokens(text: &str, found: &mut Found<'_>) -> bool {
    if text.len() < 14 {
        return true;
    }
    let is_gap = |byte: &u8| byte.is_ascii_whitespace() || b"\"',;=/&?()<>[]{}|@`\\".contains(byte);
    let mut begin = 0;
    let ends = text.bytes().enumerate().filter(|(_, byte)| is_gap(byte));
    for end in ends.map(|(at, _)| at).chain([text.len()]) {
        let run = begin..end;
        begin = end + 1;
        if run.len() < 14 {
            continue;
        }
        let word = &text[run.clone()];
        // A login or an option may stand before a token.
        let word = word
            .rsplit(':')
            .next()
            .filter(|it| it.len() >= 14)
            .unwrap_or(word);
        if !(is_token(word) || is_bot(&text[run.clone()])) {
            continue;
        }
        if !found(run) {
            return false;
        }
    }
    true
}

fn is_token(word: &str) -> bool {
    let plain = |text: &str, least: usize| {
        let length = text
            .bytes()
            .take_while(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
            .count();
        length >= least
            && text
                .bytes()
                .any(|b| b.is_ascii_digit() || b.is_ascii_uppercase())
    };
    let begins = |(begin, least): &(&str, usize)| {
        let first = word.as_bytes().first() == begin.as_bytes().first();
        first
            && word
                .strip_prefix(begin)
                .is_some_and(|rest| plain(rest, *least))
    };
    TOKENS.iter().any(begins)
        || PEMS.iter().any(|begin| word.starts_with(begin))
        || is_jwt(word)
        || is_seed(word)
}

/// Whether a text is a JSON web token: the base64 of `{"`, and two more parts.
fn is_jwt(word: &str) -> bool {
    let mut parts = word.split('.');
    let plain = |part: &str| {
        part.len() >= 4
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    word.starts_with("eyJ")
        && parts.next().is_some_and(plain)
        && parts.next().is_some_and(plain)
        && parts.next().is_some()
}

/// Whether a text is the seed of an NKey.
fn is_seed(word: &str) -> bool {
    let kind = word
        .as_bytes()
        .get(1)
        .is_some_and(|kind| b"ACNOUX".contains(kind));
    word.len() == 58
        && word.starts_with('S')
        && kind
        && word
            .bytes()
            .all(|b| b.is_ascii_uppercase() || (b'2'..=b'7').contains(&b))
}

/// Whether a text is the token of a bot of Telegram: a number, a colon and 35 characters.
fn is_bot(word: &str) -> bool {
    let (id, token) = word.split_once(':').unwrap_or_default();
    let id = id.strip_prefix("bot").unwrap_or(id);
    (8..=10).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_digit())
        && token.len() == 35
        && token
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
}

/// The words of a text, by where they stand.
fn words<'a>(text: &'a str, gaps: &'a [char]) -> impl Iterator<Item = Range<usize>> + 'a {
    let base = text.as_ptr() as usize;
    text.split(gaps)
        .filter(|word| !word.is_empty())
        .map(move |word| {
            let begin = word.as_ptr() as usize - base;
            begin..begin + word.len()
        })
}

/// A text up to the end of its line.
fn line(text: &str) -> &str {
    text.split(['\n', '\r']).next().unwrap_or_default()
}

/// How many blanks a text begins with.
fn blanks(text: &str) -> usize {
    text.len() - text.trim_start_matches([' ', '\t']).len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_with_a_password_is_known() {
        for text in [
            "postgres://me:hunter2@db/x",
            "a://b, redis://:pw@h",
            "redis://me:p/w@host",
            "redis://me:p w@host",
            "pg://host/db?user=me&password=hunter2",
            "redis://me:${db.password:hunter2}@host",
        ] {
            assert!(text_holds_secret(text), "{text}");
        }
        for text in [
            "http://host:80/path home@x",
            "pg://host/db?user=me&sslmode=none",
            "http://host/path home@x",
            "http://host/@scope/package",
            "me@home",
            "redis://me:${db.password}@host",
            "me:${db.password}@tcp(h)/d",
            "host=h password=${db.password}",
        ] {
            assert!(!text_holds_secret(text), "{text}");
        }
    }

    #[test]
    fn only_the_secret_part_of_a_text_is_masked() {
        for (text, masked) in [
            ("get redis://me:pw@h/0 now", "get redis://******@h/0 now"),
            ("http://h/x?a=b&sig=S#c", "http://h/x?a=b&sig=******#c"),
            (
                "http://h/cb#access_token=t&a=b",
                "http://h/cb#access_token=******&a=b",
            ),
            ("host=h password=pw port=5", "host=h password=****** port=5"),
            ("Server=h;Pwd=p w;Port=1", "Server=h;Pwd=******;Port=1"),
            ("u=\"a\" password=\"b c\";", "u=\"a\" password=\"******\";"),
            ("Authorization: Basic dTpw", "Authorization: ******"),
            ("use Bearer abcdefgh12 here", "use Bearer ****** here"),
            (
                "{\"a\": 1, \"password\": \"p\\\"w\"}",
                "{\"a\": 1, \"password\": \"******\"}",
            ),
            ("me:pw@tcp(h:3306)/d", "******@tcp(h:3306)/d"),
            ("nothing = special", "nothing = special"),
        ] {
            assert_eq!(mask_text(text), masked);
            assert_eq!(mask_text(masked), masked, "masked twice");
        }
    }
}
