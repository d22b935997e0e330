//! Recognizes keys, parameters and headers whose values are secret by their names.
//!
//! A key is split into words at `.`, `-`, `_`, blanks and where the case changes: `private.key`,
//! `private_key` and `privateKey` have the same words. The tables below have the words and the pairs of
//! words that make a key secret. They also have the words beside these that keep it plain, which means not
//! secret: `max` before `tokens`, `ttl` behind `token`.

use crate::value::key;

/// A word that contains one of these is secret.
const SECRET_PARTS: [&str; 29] = [
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "passwort",
    "kennwort",
    "secret",
    "credential",
    "apikey",
    "accesskey",
    "privatekey",
    "signingkey",
    "signkey",
    "encryptionkey",
    "masterkey",
    "accountkey",
    "sharedkey",
    "sharedaccess",
    "storagekey",
    "sessionkey",
    "authkey",
    "licensekey",
    "licencekey",
    "connectionstring",
    "connstr",
    "authtoken",
    "accesstoken",
    "refreshtoken",
    "bearertoken",
];

/// These words are secret.
const SECRET_WORDS: [&str; 31] = [
    "pin",
    "auth",
    "authorization",
    "sas",
    "salt",
    "pepper",
    "mnemonic",
    "nkey",
    "nkeys",
    "keytab",
    "basicauth",
    "masterauth",
    "httpauth",
    "proxyauth",
    "registryauth",
    "dockercfg",
    "dockerconfigjson",
    "tok",
    "bearer",
    "cookie",
    "preshared",
    "redisauth",
    "dbauth",
    "mongoauth",
    "mqttauth",
    "pins",
    "salts",
    "pincode",
    "pwhash",
    "pwdhash",
    "passhash",
];

/// A word that ends with one of these is secret: `mysqlpass`, `wifipsk`.
const SECRET_ENDINGS: [&str; 23] = [
    "token",
    "tokens",
    "pwd",
    "pw",
    "pass",
    "passw",
    "passkey",
    "pswd",
    "psw",
    "cred",
    "creds",
    "dsn",
    "jwt",
    "psk",
    "otp",
    "hmac",
    "sessionid",
    "sessid",
    "pwds",
    "dsns",
    "jwts",
    "psks",
    "otps",
];

/// Plain words that end with one of [`SECRET_ENDINGS`], or contain one of [`SECRET_PARTS`].
const PLAIN_WORDS: [&str; 26] = [
    "secretary",
    "passwordless",
    "sacred",
    "compass",
    "gyrocompass",
    "encompass",
    "bypass",
    "trespass",
    "overpass",
    "underpass",
    "surpass",
    "allpass",
    "bandpass",
    "highpass",
    "lowpass",
    "multipass",
    "singlepass",
    "onepass",
    "twopass",
    "prepass",
    "subpass",
    "renderpass",
    "computepass",
    "keepass",
    "lastpass",
    "gpgkey",
];

/// Before `key` or `keys`, these are secret: `api_key`, `private.key`.
const KEY_PURPOSES: [&str; 52] = [
    "access",
    "account",
    "admin",
    "aes",
    "api",
    "app",
    "application",
    "auth",
    "consumer",
    "decryption",
    "deploy",
    "encrypt",
    "encryption",
    "function",
    "functions",
    "hmac",
    "ingestion",
    "integration",
    "jwt",
    "licence",
    "license",
    "master",
    "private",
    "session",
    "shared",
    "sign",
    "signing",
    "ssh",
    "storage",
    "subscription",
    "unseal",
    "cipher",
    "cookie",
    "crypt",
    "crypto",
    "mailgun",
    "openai",
    "sendgrid",
    "stripe",
    "twilio",
    "webhook",
    "write",
    "preshared",
    "serviceaccount",
    "storageaccount",
    "fernet",
    "enc",
    "age",
    "search",
    "gpg",
    "pgp",
    "instrumentation",
];

/// Other secret pairs of words.
const SECRET_PAIRS: [(&str, &str); 20] = [
    ("session", "id"),
    ("sess", "id"),
    ("connection", "string"),
    ("connection", "strings"),
    ("conn", "str"),
    ("sasl", "jaas"),
    ("jaas", "config"),
    ("snmp", "community"),
    ("pass", "word"),
    ("shared", "access"),
    ("kenn", "wort"),
    ("private", "pem"),
    ("v", "community"),
    ("v2c", "community"),
    ("recovery", "code"),
    ("recovery", "codes"),
    ("backup", "code"),
    ("backup", "codes"),
    ("unlock", "code"),
    ("unlock", "codes"),
];

/// Behind a secret word, these keep a key plain: its value describes a secret, as that of `token_ttl`.
const METADATA_WORDS: [&str; 50] = [
    "algorithm",
    "bucket",
    "budget",
    "count",
    "dir",
    "directory",
    "enabled",
    "endpoint",
    "expiration",
    "expires",
    "expiry",
    "file",
    "interval",
    "issuer",
    "len",
    "length",
    "lifetime",
    "limit",
    "max",
    "mechanism",
    "method",
    "min",
    "mode",
    "name",
    "path",
    "policy",
    "provider",
    "public",
    "rate",
    "required",
    "rotation",
    "size",
    "through",
    "thru",
    "filter",
    "timeout",
    "ttl",
    "type",
    "uri",
    "url",
    "usage",
    "window",
    "audience",
    "audiences",
    "format",
    "kind",
    "only",
    "realm",
    "scope",
    "scopes",
];

/// Words that are secret at the end of a key, and before [`ADDRESS_WORDS`]: `webhook`, `webhook.url`.
const SECRET_IF_LAST: [&str; 3] = ["webhook", "webhooks", "cookies"];
const ADDRESS_WORDS: [&str; 4] = ["url", "urls", "uri", "endpoint"];

/// Behind `cookie`, these keep a key plain, besides [`METADATA_WORDS`].
const COOKIE_ATTRIBUTES: [&str; 11] = [
    "age",
    "config",
    "domain",
    "http",
    "httponly",
    "https",
    "lax",
    "partitioned",
    "same",
    "samesite",
    "secure",
];

/// Words that are plain behind certain words of their segment: `max_tokens`, `high_pass`.
const PLAIN_AFTER: [(&[&str], &[&str]); 5] = [
    (
        &["tokens"],
        &[
            "cached",
            "completion",
            "count",
            "input",
            "output",
            "prompt",
            "reasoning",
        ],
    ),
    (&["token"], &["count", "max", "min", "num", "number"]),
    (&["pass"], &["all", "band", "high", "low"]),
    (&["cookie"], &["accept", "secure"]),
    (&["tok"], &["tic", "tik"]),
];

/// As [`PLAIN_AFTER`], also behind words of the segment before: `max.tokens`.
const PLAIN_ACROSS_SEGMENTS: [(&[&str], &[&str]); 2] = [
    (&["tokens"], &["max", "min", "num", "number", "total"]),
    (&["pin", "pins"], &["gpio", "led"]),
];

/// Query parameters that are secret in addresses, besides those with secret names.
const SECRET_PARAMETERS: [&str; 9] = [
    "sig",
    "code",
    "key",
    "ticket",
    "assertion",
    "samlresponse",
    "x-amz-credential",
    "x-amz-security-token",
    "x-goog-credential",
];

/// Headers that are secret, besides those with secret names.
const SECRET_HEADERS: [&str; 4] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
];

/// Whether the value of a key is secret by its name. The values below it are secret as well.
pub(crate) fn looks_secret(key: &str) -> bool {
    if !key.contains('"') {
        return KeyScan::default().finds_secret(key);
    }
    let mut scan = KeyScan::default();
    for segment in key::segments(key) {
        let Ok(segment) = segment else {
            return KeyScan::default().finds_secret(key);
        };
        if scan.scan(&segment) {
            return true;
        }
    }
    scan.ends_secret()
}

/// Whether a query parameter is secret by its name. An escaped name counts as secret.
pub(crate) fn parameter_looks_secret(name: &str) -> bool {
    name.contains('%')
        || SECRET_PARAMETERS
            .iter()
            .any(|it| name.eq_ignore_ascii_case(it))
        || is_signature(name)
        || looks_secret(name)
}

/// Whether a parameter is a signature, by its last word: `X-Amz-Signature`, `url.sig`.
fn is_signature(name: &str) -> bool {
    let ends_with = |end: &str| {
        let begin = name.len().checked_sub(end.len());
        let last = begin.and_then(|begin| name.get(begin..));
        last.is_some_and(|last| last.eq_ignore_ascii_case(end))
    };
    ["signature", "-sig", "_sig", ".sig"]
        .into_iter()
        .any(ends_with)
}

/// Whether a header is secret by its name.
pub(super) fn header_looks_secret(name: &str) -> bool {
    SECRET_HEADERS
        .iter()
        .any(|it| name.eq_ignore_ascii_case(it))
        || looks_secret(name)
}

/// Scans the words of a key one after the other.
#[derive(Default)]
struct KeyScan {
    previous: String,
    word: String,
    kind: WordKind,
    /// Whether the word is the first one of its segment.
    is_first: bool,
}

/// How the last word, together with the one before it, decides whether the key is secret.
#[derive(Clone, Copy, Default, Eq, PartialEq)]
enum WordKind {
    #[default]
    Plain,
    /// The key is secret unless one of [`METADATA_WORDS`] follows.
    Secret,
    /// As `Secret`, and names of the next segment are never metadata: `tokens.public`.
    SecretPlural,
    /// As `Secret`, unless one of [`COOKIE_ATTRIBUTES`] follows.
    Cookie,
    /// The key is secret if no other word follows, apart from [`ADDRESS_WORDS`] and numbers.
    SecretIfLast,
}

impl KeyScan {
    fn finds_secret(mut self, key: &str) -> bool {
        self.scan(key) || self.ends_secret()
    }

    /// Scans the words of a text. Returns whether the key is secret, whatever follows.
    fn scan(&mut self, text: &str) -> bool {
        text.split('.').any(|segment| {
            self.is_first = true;
            segment
                .split(|c: char| !c.is_alphanumeric())
                .filter(|chunk| !chunk.is_empty())
                .any(|chunk| self.scan_chunk(chunk))
        })
    }

    /// Whether the key is secret if no word follows.
    fn ends_secret(&self) -> bool {
        self.kind != WordKind::Plain
    }

    /// Scans letters and digits, which are split into words where the case changes.
    fn scan_chunk(&mut self, chunk: &str) -> bool {
        let mut begin = 0;
        let mut any_secret = false;
        let mut letters = chunk.char_indices().peekable();
        let mut last = None;
        while let Some((at, c)) = letters.next() {
            let next_is_lower = letters.peek().is_some_and(|(_, next)| next.is_lowercase());
            let is_start = c.is_uppercase()
                && last.is_some_and(|last: char| !last.is_uppercase() || next_is_lower);
            if is_start && at > begin {
                if self.push(&chunk[begin..at]) {
                    return true;
                }
                any_secret |= self.ends_secret();
                begin = at;
            }
            last = Some(c);
        }
        if self.push(&chunk[begin..]) {
            return true;
        }
        any_secret |= self.ends_secret();
        // Unusual cases, such as `PASSword` or `dockerCfg`: the whole chunk may be a secret word.
        if begin > 0 && !any_secret {
            let whole = chunk.to_ascii_lowercase();
            let is_word = whole.len() >= 6 && SECRET_WORDS.contains(&&*whole);
            let has_part =
                || contains_part(&whole) && SECRET_PARTS[..8].iter().any(|it| whole.contains(it));
            if is_word || has_part() {
                self.kind = WordKind::Secret;
            }
        }
        false
    }

    /// Scans a word. Returns whether it leaves the key secret because of the word before.
    fn push(&mut self, word: &str) -> bool {
        std::mem::swap(&mut self.previous, &mut self.word);
        self.word.clear();
        let without_number = word.trim_end_matches(|c: char| c.is_ascii_digit());
        let word = if without_number.is_empty() {
            word
        } else {
            without_number
        };
        self.word
            .extend(word.chars().map(|c| c.to_ascii_lowercase()));
        if self.confirms_previous() {
            return true;
        }
        self.kind = self.kind_of_word();
        self.is_first = false;
        false
    }

    /// Whether the word before is secret, and this word does not change that.
    fn confirms_previous(&self) -> bool {
        let word = self.word.as_str();
        match self.kind {
            WordKind::Plain => false,
            WordKind::Secret => !METADATA_WORDS.contains(&word),
            WordKind::SecretPlural => self.is_first || !METADATA_WORDS.contains(&word),
            WordKind::Cookie => {
                !METADATA_WORDS.contains(&word) && !COOKIE_ATTRIBUTES.contains(&word)
            }
            WordKind::SecretIfLast => {
                ADDRESS_WORDS.contains(&word) || word.bytes().all(|byte| byte.is_ascii_digit())
            }
        }
    }

    fn kind_of_word(&self) -> WordKind {
        let (previous, word) = (self.previous.as_str(), self.word.as_str());
        let is_secret = match word {
            "key" | "keys" => KEY_PURPOSES.contains(&previous) || previous.ends_with("api"),
            _ => {
                let is_secret = SECRET_WORDS.contains(&word)
                    || SECRET_ENDINGS.iter().any(|end| word.ends_with(end))
                    || is_key(word)
                    || contains_part(word)
                    || SECRET_PAIRS.contains(&(previous, word));
                is_secret && !PLAIN_WORDS.contains(&word)
            }
        };
        let matches = |(words, before): &(&[&str], &[&str])| {
            words.contains(&word) && before.contains(&previous)
        };
        let is_plain = PLAIN_ACROSS_SEGMENTS.iter().any(matches)
            || (!self.is_first && PLAIN_AFTER.iter().any(matches));
        let is_plural = || word.ends_with('s') && !word.ends_with("ss") && word != "sas";
        match word {
            _ if SECRET_IF_LAST.contains(&word) => WordKind::SecretIfLast,
            _ if !is_secret || is_plain => WordKind::Plain,
            "cookie" => WordKind::Cookie,
            _ if is_plural() => WordKind::SecretPlural,
            _ => WordKind::Secret,
        }
    }
}

/// Whether a word is the purpose of a key and `key`: `sshkey`.
fn is_key(word: &str) -> bool {
    let purpose = word.strip_suffix('s').unwrap_or(word).strip_suffix("key");
    purpose.is_some_and(|purpose| KEY_PURPOSES.contains(&purpose))
}

/// Whether a word contains one of [`SECRET_PARTS`]. A check for the texts that these share is faster for
/// most words.
fn contains_part(word: &str) -> bool {
    const SHARED: [&str; 6] = ["pass", "key", "secret", "cred", "conn", "access"];
    const SHORTEST: usize = 6;
    let may_contain = word.len() >= SHORTEST
        && (SHARED.iter().any(|it| word.contains(it))
            || word.contains("wort")
            || word.ends_with("token"));
    may_contain && SECRET_PARTS.iter().any(|part| word.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_found() {
        for part in SECRET_PARTS {
            assert!(
                contains_part(part) && contains_part(&format!("x{part}")),
                "{part}"
            );
        }
    }

    #[test]
    fn secret_names_are_recognized_in_every_spelling() {
        for key in [
            "db.password",
            "DB_PASSWORD",
            "dbPassword",
            "api-key",
            "api_key",
            "apiKey",
            "APIKey",
            "a.token.b",
            "aws.secretAccessKey",
            "private-key",
            "private.key",
            "access.key.id",
            "credentials.user",
            "db.pwd",
            "DB_PASS",
            "dbPass",
            "auth",
            "authHeader",
            "PassPhrase",
            "PASSword",
            r#"x."my.secret""#,
            r#"private."key""#,
            "smtp.pin",
            "password2",
            "sasl.jaas.config",
            "proxy.password",
            "input_password",
        ] {
            assert!(looks_secret(key), "{key}");
        }
        for key in [
            "",
            "author",
            "compass",
            "limits.burst",
            "pinned",
            "keys",
            "passage",
            "a..b",
            "monkey",
            "keyboard",
            "tokenizer",
            "max_tokens",
            "maxTokens",
            "max.tokens",
            "token_ttl",
            "passenger",
            "key_count",
            "public_key",
            "jwt.publicKey",
            "partition.key",
            "secretary",
            "passThrough",
            "password_file",
            "tls.key",
        ] {
            assert!(!looks_secret(key), "{key}");
        }
    }
}
