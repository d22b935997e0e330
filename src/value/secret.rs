//! Values that must not be shown.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

use serde_core::de::{Deserialize, Deserializer, Error as _, SeqAccess, Visitor};

use crate::error::MASK;
use crate::value::key;

/// A value that is never shown: `Debug` and `Display` print `******`.
///
/// Errors about it, its entry in `explain` and everything derived from it are masked too. Keys
/// whose names look secret are masked without it; this type makes sure.
///
/// Inside what serde buffers (`#[serde(flatten)]`, internally tagged and untagged types) it is masked
/// in errors but cannot be seen from outside: name such keys to
/// [`Builder::secret`](crate::Builder::secret).
///
/// It does not implement `Serialize`: what can be written out by accident will be. Serialize
/// [`expose`](Self::expose) where that is meant.
///
/// # Examples
///
/// ```
/// use liveprops::Secret;
///
/// let password = Secret::from("hunter2".to_string());
/// assert_eq!(format!("{password} {password:?}"), "****** ******");
/// assert_eq!(password.expose(), "hunter2");
/// ```
#[derive(Clone, Default, Eq, Hash, PartialEq)]
pub struct Secret<T>(T);

/// Tells the deserializer of this crate that everything below is secret.
pub(crate) const SECRET_NAME: &str = "$liveprops::Secret";

thread_local! {
    static READ: Cell<bool> = const { Cell::new(false) };
}

/// Does something, and says whether it read a secret: through any deserializer, so that what serde
/// buffers is noticed too.
pub(crate) fn noticing<R>(act: impl FnOnce() -> R) -> (R, bool) {
    let before = READ.replace(false);
    let outcome = act();
    let read = READ.get();
    READ.set(before || read);
    (outcome, read)
}

impl<T> Secret<T> {
    /// Hides a value.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself.
    pub const fn expose(&self) -> &T {
        &self.0
    }

    /// Gives the value out of its hiding.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> From<T> for Secret<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl<T> fmt::Display for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Secret<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        READ.set(true);
        deserializer.deserialize_newtype_struct(SECRET_NAME, SecretVisitor(PhantomData))
    }
}

struct SecretVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for SecretVisitor<T> {
    type Value = Secret<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a secret")
    }

    /// Any other deserializer, and serde's own buffer, would quote the value in its error.
    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<Secret<T>, D::Error> {
        match T::deserialize(inner) {
            Ok(value) => Ok(Secret(value)),
            Err(_) => Err(D::Error::custom("a secret that cannot be read")),
        }
    }

    /// The deserializer of this crate comes this way: it masks by itself and knows more.
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Secret<T>, A::Error> {
        match items.next_element()? {
            Some(value) => Ok(Secret(value)),
            None => Err(A::Error::custom("a secret that cannot be read")),
        }
    }
}

/// Whether a key looks as if its value were secret.
///
/// Case, `-` and `_` do not matter. A segment looks secret when it contains one of [`PARTS`], or
/// when one of its words (cut at `-`, `_` and spaces) is one of [`WORDS`]. What stands below such a
/// segment is secret as well.
pub(crate) fn looks_secret(key: &str) -> bool {
    key::segments(key).any(|segment| match segment {
        Ok(segment) => segment_looks_secret(&segment),
        Err(_) => segment_looks_secret(key),
    })
}

/// As [`looks_secret`] for one segment, taken as it is.
pub(crate) fn segment_looks_secret(segment: &str) -> bool {
    let gap = |c: char| matches!(c, '-' | '_' | ' ');
    let is_word = |word: &str| WORDS.iter().any(|known| word.eq_ignore_ascii_case(known));
    if segment.split(gap).any(is_word) {
        return true;
    }
    let mut joined: String = segment.chars().filter(|c| !gap(*c)).collect();
    joined.make_ascii_lowercase();
    PARTS.iter().any(|part| joined.contains(part))
}

/// Whether text is an address that carries a password: `redis://me:pw@host`, or a parameter with
/// such a name.
pub(crate) fn has_user_info(text: &str) -> bool {
    text.split("://").skip(1).any(|rest| {
        // A password may hold a `/`, so the search does not stop there: rather mask too much.
        let user = rest.split(' ').next().is_some_and(|url| url.contains('@'));
        // It may even hold blanks, but then there is a user's name in front.
        let spaced = rest.split_once('@').is_some_and(|(user, _)| {
            user.split_once(':').is_some_and(|(name, password)| {
                let port = password.split('/').next().unwrap_or_default();
                let port = port.bytes().all(|byte| byte.is_ascii_digit());
                !name.contains([' ', '/']) && !port
            })
        });
        let parameters = rest.split_once('?').map_or("", |(_, query)| query);
        let names = parameters
            .split(['&', ';'])
            .filter_map(|one| one.split_once('='));
        user || spaced
            || names
                .into_iter()
                .any(|(name, _)| segment_looks_secret(name))
    })
}

const PARTS: [&str; 13] = [
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "secret",
    "token",
    "apikey",
    "accesskey",
    "privatekey",
    "signingkey",
    "encryptionkey",
    "credential",
    "connectionstring",
];

const WORDS: [&str; 7] = ["pwd", "pass", "pw", "pin", "auth", "authorization", "dsn"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets_are_known_in_every_spelling() {
        for key in [
            "db.password",
            "DB_PASSWORD",
            "dbPassword",
            "api-key",
            "api_key",
            "apiKey",
            "a.token.b",
            "aws.secretAccessKey",
            "private-key",
            "credentials.user",
            "db.pwd",
            "DB_PASS",
            "auth",
            "PassPhrase",
            r#"x."my.secret""#,
            "smtp.pin",
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
        ] {
            assert!(!looks_secret(key), "{key}");
        }
    }

    #[test]
    fn an_address_with_a_password_is_known() {
        assert!(has_user_info("postgres://me:hunter2@db/x"));
        assert!(has_user_info("a://b, redis://:pw@h"));
        assert!(has_user_info("redis://me:p/w@host"));
        assert!(has_user_info("redis://me:p w@host"));
        assert!(has_user_info("pg://host/db?user=me&password=hunter2"));
        assert!(!has_user_info("http://host:80/path home@x"));
        assert!(!has_user_info("pg://host/db?user=me&sslmode=none"));
        assert!(!has_user_info("http://host/path home@x"));
        assert!(!has_user_info("me@home"));
    }

    #[test]
    fn a_secret_is_never_shown() {
        let secret = Secret::new(String::from("hunter2"));
        assert_eq!(
            format!("{secret}{secret:?}{:#?}", Some(&secret)),
            "************Some(\n    ******,\n)"
        );
        assert_eq!(secret.clone().into_inner(), "hunter2");
    }
}
