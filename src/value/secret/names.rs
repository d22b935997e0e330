//! Which names of keys, parameters and headers look as if their values were secret.
//!
//! A key is read as a row of words, which end at `.`, `-`, `_`, blanks and where the case changes:
//! `private.key`, `private_key` and `privateKey` are the same words. The tables below name the words,
//! and the pairs of words, that mark a secret, and the words around them that take that back, such as
//! `max` before `tokens` and `ttl` behind `token`.

use crate::value::key;

/// A word that holds one of these marks a secret.
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
const WORDS: [&str; 41] = [
    "pwd",
    "pass",
    "passkey",
    "pswd",
    "psw",
    "pin",
    "auth",
    "authorization",
    "dsn",
    "cred",
    "creds",
    "sas",
    "jwt",
    "otp",
    "totp",
    "psk",
    "salt",
    "pepper",
    "hmac",
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
    "requirepass",
    "dbpass",
    "userpass",
    "rootpass",
    "adminpass",
    "smtppass",
    "mailpass",
    "ftppass",
    "keypass",
    "storepass",
    "bindpass",
];

/// Before `key` or `keys`, these mark a secret: `api_key`, `private.key`.
const KEYS: [&str; 31] = [
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
];

/// Other pairs of words that mark a secret.
const PAIRS: [(&str, &str); 5] = [
    ("connection", "string"),
    ("connection", "strings"),
    ("jaas", "config"),
    ("snmp", "community"),
    ("pass", "word"),
];

/// Behind a mark, these say that the value tells about a secret and is none: `token_ttl`.
const ABOUT: [&str; 42] = [
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
];

/// Pairs of words that are no secret although the second is a mark: `max_tokens`, `proxy_pass`.
const PLAIN: [(&[&str], &[&str]); 3] = [
    (
        &["tokens", "token"],
        &[
            "cached",
            "completion",
            "count",
            "input",
            "max",
            "min",
            "num",
            "number",
            "output",
            "prompt",
            "total",
        ],
    ),
    (
        &["pass"],
        &["all", "band", "first", "high", "low", "proxy", "second"],
    ),
    (&["pin"], &["gpio", "led"]),
];

/// Query parameters that hold a secret in addresses, besides those whose names look like it.
const PARAMETERS: [&str; 13] = [
    "sig",
    "signature",
    "code",
    "key",
    "ticket",
    "assertion",
    "samlresponse",
    "x-amz-signature",
    "x-amz-credential",
    "x-amz-security-token",
    "x-goog-signature",
    "x-goog-credential",
    "x-oss-signature",
];

/// Headers that hold a secret, besides those whose names look like it.
const HEADERS: [&str; 4] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
];

/// Whether a key looks as if its value were secret. What stands below such a name is secret as well.
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

/// Whether a query parameter may hold what nobody should see. An escaped name may be any.
pub(crate) fn parameter_looks_secret(name: &str) -> bool {
    name.contains('%')
        || PARAMETERS.iter().any(|it| name.eq_ignore_ascii_case(it))
        || looks_secret(name)
}

/// Whether a header may hold what nobody should see.
pub(super) fn header_looks_secret(name: &str) -> bool {
    HEADERS.iter().any(|it| name.eq_ignore_ascii_case(it)) || looks_secret(name)
}

/// The words of a key, looked at one after the other.
#[derive(Default)]
struct Words {
    before: String,
    word: String,
    /// The word before marks a secret, unless the next takes that back.
    marked: bool,
}

impl Words {
    fn all(mut self, text: &str) -> bool {
        self.add(text) || self.end()
    }

    /// Adds the words of a text; says whether a secret is certain by now.
    fn add(&mut self, text: &str) -> bool {
        text.split(|c: char| !c.is_alphanumeric())
            .filter(|chunk| !chunk.is_empty())
            .any(|chunk| self.chunk(chunk))
    }

    fn end(&self) -> bool {
        self.marked
    }

    /// Adds the words of a text that only the case parts.
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
                marks |= self.marked;
                begin = at;
            }
            last = Some(c);
        }
        if self.push(&chunk[begin..]) {
            return true;
        }
        marks |= self.marked;
        // Of odd spellings, such as `PASSword`, the plainest marks are known.
        if begin > 0 && !marks {
            let whole = chunk.to_ascii_lowercase();
            self.marked = holds_part(&whole) && PARTS[..8].iter().any(|it| whole.contains(it));
        }
        false
    }

    /// Adds a word; says whether the one before it marks a secret for certain.
    fn push(&mut self, word: &str) -> bool {
        std::mem::swap(&mut self.before, &mut self.word);
        self.word.clear();
        let plain = word.trim_end_matches(|c: char| c.is_ascii_digit());
        let plain = if plain.is_empty() { word } else { plain };
        self.word
            .extend(plain.chars().map(|c| c.to_ascii_lowercase()));
        if self.marked && !ABOUT.contains(&self.word.as_str()) {
            return true;
        }
        self.marked = self.is_mark();
        false
    }

    /// Whether the word marks a secret, seen with the one before it.
    fn is_mark(&self) -> bool {
        let (before, word) = (self.before.as_str(), self.word.as_str());
        let marks = match word {
            "key" | "keys" => KEYS.contains(&before),
            "secretary" | "passwordless" => false,
            _ => {
                WORDS.contains(&word)
                    || word.ends_with("token")
                    || word.ends_with("tokens")
                    || word.ends_with("pwd")
                    || word.ends_with("pw")
                    || holds_part(word)
                    || PAIRS.contains(&(before, word))
            }
        };
        let is_plain = |(marks, befores): &(&[&str], &[&str])| {
            marks.contains(&word) && befores.contains(&before)
        };
        marks && !PLAIN.iter().any(is_plain)
    }
}

/// Whether a word holds one of [`PARTS`]. Most words hold none of the few texts that all of these share.
fn holds_part(word: &str) -> bool {
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
                holds_part(part) && holds_part(&format!("x{part}")),
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
            "proxy_pass",
            "passThrough",
            "password_file",
            "tls.key",
        ] {
            assert!(!looks_secret(key), "{key}");
        }
    }
}
