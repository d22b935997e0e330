//! Recognizes and masks secret values. Every output of the crate uses this module.
//!
//! A value is secret
//!
//! - by the name of its key (`names`);
//! - by the form of its text: `forms` runs the finders of `addresses`, `logins`, `assignments`, `documents`,
//!   `commands` and `tokens`, which share `values`; `contents` looks into lists and tables;
//! - because a key was named, or read as a [`Secret`] (`keys`; `buffered` finds such keys behind serde's
//!   buffer);
//! - because a source sends it to its server (`credentials`, in the encodings of `encode`).
//!
//! `quoted` finds secrets that another text quotes.

use std::cell::Cell;
use std::fmt;

use crate::error::MASK;

mod addresses;
mod assignments;
pub(crate) mod buffered;
mod commands;
mod contents;
mod credentials;
mod documents;
mod encode;
mod files;
mod forms;
mod keys;
mod logins;
mod names;
mod quoted;
mod tokens;
mod values;

pub(crate) use contents::{
    fields_hold_secret, holds_secret, list_holds_secret, names_secret, node_holds_secret,
    table_holds_secret, value_text_holds_secret,
};
pub use credentials::Credentials;
#[allow(unused_imports)] // by the sources that have addresses
pub(crate) use forms::mask_text;
pub(crate) use forms::text_holds_secret;
pub(crate) use keys::Secrets;
pub(crate) use names::looks_secret;
#[allow(unused_imports)] // by the sources that have addresses
pub(crate) use names::parameter_looks_secret;
pub(crate) use quoted::Quoted;

/// A value that is never shown: `Debug` and `Display` print `******`.
///
/// Errors about it, its entry in `explain` and all values derived from it are masked too. A key with a secret
/// name is masked without this type; this type masks any key.
///
/// Reading a key as a `Secret`, or as a type with one inside, makes the key secret from then on: in every
/// output and in files on disk. Every way to read does so: by name, by a handle, by a struct, from a
/// snapshot, from a change. Where serde buffers (`#[serde(flatten)]`, internally tagged and untagged types),
/// the key is found by its value among the buffered values of that type. If several of these are equal, all
/// of their keys become secret.
///
/// If the whole value is a reference (`password: "${vault.pw}"`), the key that it refers to becomes secret as
/// well. So do the keys that the items of a secret list or the entries of a secret table refer to as a whole. If a reference is only a part of the text (`dsn: "user:${pw}@db"`), `pw` may or may not be the
/// secret: read `pw` itself as a `Secret`, or name it with [`Builder::secret`](crate::Builder::secret).
///
/// It does not implement `Serialize`, so that no secret is written by accident. To write one, serialize
/// [`expose`](Self::expose).
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

/// The name by which the deserializer of this crate recognizes a secret.
pub(crate) const SECRET_NAME: &str = "$liveprops::Secret";

thread_local! {
    static READ: Cell<bool> = const { Cell::new(false) };
}

/// Records that this thread reads a secret.
pub(crate) fn record_read() {
    READ.set(true);
}

/// Runs `act` and returns whether it read a secret, with any deserializer, including serde's buffer.
pub(crate) fn detect_secret_read<R>(act: impl FnOnce() -> R) -> (R, bool) {
    let before = READ.replace(false);
    let outcome = act();
    let read = READ.get();
    READ.set(before || read);
    (outcome, read)
}

impl<T> Secret<T> {
    /// Wraps a value.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// Returns the value.
    pub const fn expose(&self) -> &T {
        &self.0
    }

    /// Unwraps the value.
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

#[cfg(test)]
mod tests {
    use super::*;

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
