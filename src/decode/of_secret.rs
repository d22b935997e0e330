//! `Deserialize` of [`Secret`]: no error shows the value, and its key is recorded.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error as _, SeqAccess, Visitor};

use crate::decode;
use crate::value::Value;
use crate::value::secret::{self, SECRET_NAME, Secret, buffered};

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Secret<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        secret::record_read();
        deserializer.deserialize_newtype_struct(SECRET_NAME, SecretVisitor(PhantomData))
    }
}

struct SecretVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for SecretVisitor<T> {
    type Value = Secret<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a secret")
    }

    /// Any other deserializer, such as serde's buffer. Its errors would quote the value.
    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<Secret<T>, D::Error> {
        let unreadable = || D::Error::custom("a secret that cannot be read");
        if buffered::is_recording() && inner.is_human_readable() {
            let value = Value::deserialize(inner);
            buffered::record(value.as_ref().ok());
            let value = value.map_err(|_| unreadable())?;
            return decode::read_bare(&value)
                .map(Secret::new)
                .ok_or_else(unreadable);
        }
        T::deserialize(inner)
            .map(Secret::new)
            .map_err(|_| unreadable())
    }

    /// The deserializer of this crate, which masks its own errors.
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Secret<T>, A::Error> {
        match items.next_element()? {
            Some(value) => Ok(Secret::new(value)),
            None => Err(A::Error::custom("a secret that cannot be read")),
        }
    }
}
