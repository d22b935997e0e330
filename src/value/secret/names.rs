//! Recognizes the names of keys, parameters and headers whose values are secret.
//!
//! A key is split into words at `.`, `-`, `_`, blanks and where the case changes: `private.key`,
//! `private_key` and `privateKey` are the same words. The tables below have the words and the pairs of
//! words that mark a secret, and the words around them that cancel the mark, such as `max` before
//! `tokens` and `ttl` behind `token`.

use crate::value::key;

/// A word that contains one of these marks a secret.
const PARTS: [&str; 29] = [
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

/// A word that is one of these marks a secret.
const WORDS: [&str; 31] = [
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

/// A word that ends with one of these marks a secret: `mysqlpass`, `wifipsk`.
const ENDS: [&str; 23] = [
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

/// Words that end with one of [`ENDS`], or contain one of [`PARTS`], and mark no secret.
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

/// Before `key` or `keys`, these mark a secret: `api_key`, `private.key`.
const KEYS: [&str; 52] = [
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

/// Other pairs of words that mark a secret.
const PAIRS: [(&str, &str); 20] = [
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

/// Behind a mark, these say that the value is about a secret, and is none: `token_ttl`.
const ABOUT: [&str; 50] = [
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

/// Marks of which only the last word of a key counts, and these behind it: `webhook`, `webhook.url`.
const LAST: [&str; 3] = ["webhook", "webhooks", "cookies"];
const BEHIND_LAST: [&str; 4] = ["url", "urls", "uri", "endpoint"];

/// Behind `cookie`, these say how it is sent, besides those of [`ABOUT`].
const ABOUT_COOKIE: [&str; 11] = [
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

/// Words before a mark in the same segment that cancel it: `max_tokens`, `high_pass`.
const PLAIN: [(&[&str], &[&str]); 5] = [
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

/// As [`PLAIN`], also in the segment before: `max.tokens`.
const PLAIN_ACROSS: [(&[&str], &[&str]); 2] = [
    (&["tokens"], &["max", "min", "num", "number", "total"]),
    (&["pin", "pins"], &["gpio", "led"]),
];

/// Query parameters that are secret in addresses, besides those with secret names.
const PARAMETERS: [&str; 9] = [
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
const HEADERS: [&str; 4] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
];

/// Whether the value of a key is secret by its name. The values below such a name are secret as well.
pub(crate) fn looks_secret(key: &str) -> bool {
    let mut words = Words::default();
    if !key.contains('"') {
        return words.add(key) || words.end();
    }
    for segment in key::segments(key) {
        let found = match segment {
            Ok(segment) => words.add(&segment),
            Err(_) => return Words::default().all(key),
        };
        if found {
            return true;
        }
    }
    words.end()
}

/// Whether a query parameter is secret by its name. An escaped name may be any.
pub(crate) fn parameter_looks_secret(name: &str) -> bool {
    name.contains('%')
        || PARAMETERS.iter().any(|it| name.eq_ignore_ascii_case(it))
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
    HEADERS.iter().any(|it| name.eq_ignore_ascii_case(it)) || looks_secret(name)
}

/// Scans the words of a key one after the other.
#[derive(Default)]
struct Words {
    before: String,
    word: String,
    mark: Mark,
    /// Whether a dot stands between the word and the one before it.
    is_first: bool,
}

/// Whether the last word marks a secret.
#[derive(Clone, Copy, Default, Eq, PartialEq)]
enum Mark {
    #[default]
    None,
    /// It does, unless the next word cancels the mark.
    Any,
    /// As `Any`, and the names below are those of secrets: `tokens.public`.
    Plural,
    /// As `Any`, for a cookie.
    Cookie,
    /// It does if no other word follows.
    Last,
}

impl Words {
    fn all(mut self, text: &str) -> bool {
        self.add(text) || self.end()
    }

    /// Scans the words of a text; returns whether a word marks a secret for certain.
    fn add(&mut self, text: &str) -> bool {
        text.split('.').any(|segment| {
            self.is_first = true;
            segment
                .split(|c: char| !c.is_alphanumeric())
                .filter(|chunk| !chunk.is_empty())
                .any(|chunk| self.chunk(chunk))
        })
    }

    /// Whether the last word marks a secret.
    fn end(&self) -> bool {
        self.mark != Mark::None
    }

    /// Scans the words of a text that are separated by case alone.
    fn chunk(&mut self, chunk: &str) -> bool {
        let mut begin = 0;
        let mut marks = false;
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
                marks |= self.end();
                begin = at;
            }
            last = Some(c);
        }
        if self.push(&chunk[begin..]) {
            return true;
        }
        marks |= self.end();
        // Odd spellings, such as `PASSword` or `dockerCfg`, are known for the plainest marks.
        if begin > 0 && !marks {
            let whole = chunk.to_ascii_lowercase();
            let is_word = whole.len() >= 6 && WORDS.contains(&&*whole);
            let has_part =
                || contains_part(&whole) && PARTS[..8].iter().any(|it| whole.contains(it));
            if is_word || has_part() {
                self.mark = Mark::Any;
            }
        }
        false
    }

    /// Scans a word; returns whether the one before it marks a secret for certain.
    fn push(&mut self, word: &str) -> bool {
        std::mem::swap(&mut self.before, &mut self.word);
        self.word.clear();
        let plain = word.trim_end_matches(|c: char| c.is_ascii_digit());
        let plain = if plain.is_empty() { word } else { plain };
        self.word
            .extend(plain.chars().map(|c| c.to_ascii_lowercase()));
        if self.is_certain() {
            return true;
        }
        self.mark = self.mark_of_word();
        self.is_first = false;
        false
    }

    /// Whether the word does not cancel the mark of the one before it.
    fn is_certain(&self) -> bool {
        let word = self.word.as_str();
        match self.mark {
            Mark::None => false,
            Mark::Any => !ABOUT.contains(&word),
            Mark::Plural => self.is_first || !ABOUT.contains(&word),
            Mark::Cookie => !ABOUT.contains(&word) && !ABOUT_COOKIE.contains(&word),
            Mark::Last => {
                BEHIND_LAST.contains(&word) || word.bytes().all(|byte| byte.is_ascii_digit())
            }
        }
    }

    /// The mark of the word, together with the one before it.
    fn mark_of_word(&self) -> Mark {
        let (before, word) = (self.before.as_str(), self.word.as_str());
        let marks = match word {
            "key" | "keys" => KEYS.contains(&before) || before.ends_with("api"),
            _ => {
                let marks = WORDS.contains(&word)
                    || ENDS.iter().any(|end| word.ends_with(end))
                    || is_key(word)
                    || contains_part(word)
                    || PAIRS.contains(&(before, word));
                marks && !PLAIN_WORDS.contains(&word)
            }
        };
        let is_plain = |(marks, befores): &(&[&str], &[&str])| {
            marks.contains(&word) && befores.contains(&before)
        };
        let is_plain =
            PLAIN_ACROSS.iter().any(is_plain) || (!self.is_first && PLAIN.iter().any(is_plain));
        let is_plural = || word.ends_with('s') && !word.ends_with("ss") && word != "sas";
        match word {
            _ if LAST.contains(&word) => Mark::Last,
            _ if !marks || is_plain => Mark::None,
            "cookie" => Mark::Cookie,
            _ if is_plural() => Mark::Plural,
            _ => Mark::Any,
        }
    }
}

/// Whether a word is the purpose of a key and `key`: `sshkey`.
fn is_key(word: &str) -> bool {
    let purpose = word.strip_suffix('s').unwrap_or(word).strip_suffix("key");
    purpose.is_some_and(|purpose| KEYS.contains(&purpose))
}

/// Whether a word contains one of [`PARTS`]. Most words contain none of the texts that these share.
fn contains_part(word: &str) -> bool {
    const SHARED: [&str; 6] = ["pass", "key", "secret", "cred", "conn", "access"];
    const SHORTEST: usize = 6;
    let may = word.len() >= SHORTEST
        && (SHARED.iter().any(|it| word.contains(it))
            || word.contains("wort")
            || word.ends_with("token"));
    may && PARTS.iter().any(|part| word.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_found() {
        for part in PARTS {
            assert!(
                contains_part(part) && contains_part(&format!("x{part}")),
                "{part}"
            );
        }
    }

    #[test]
    fn names_of_secrets_are_known_in_every_spelling() {
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
