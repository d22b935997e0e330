//! `Deserialize` of [`ByteSize`]: from text with a unit, or from a number of bytes.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Unexpected, Visitor};

use crate::decode::diagnose::fault;
use crate::decode::text;
use crate::value::units::{ByteSize, SIZE_NAME, byte_size};

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(SIZE_NAME, SizeVisitor { is_exact: false })
    }
}

struct SizeVisitor {
    /// Whether floats are rejected: then the search tries the integer that was written.
    is_exact: bool,
}

impl<'de> Visitor<'de> for SizeVisitor {
    type Value = ByteSize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size such as `10 MiB`")
    }

    /// A deserializer visits text or a number, whatever it has.
    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<ByteSize, D::Error> {
        let is_exact = is_buffer::<D>();
        inner.deserialize_any(SizeVisitor { is_exact })
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<ByteSize, E> {
        Ok(ByteSize::from_bytes(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<ByteSize, E> {
        let invalid = |_| E::invalid_value(Unexpected::Signed(value), &self);
        u64::try_from(value)
            .map(ByteSize::from_bytes)
            .map_err(invalid)
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<ByteSize, E> {
        let whole = value.fract() == 0.0 && (0.0..2_f64.powi(64)).contains(&value);
        if whole && !self.is_exact {
            Ok(ByteSize::from_bytes(value as u64))
        } else {
            Err(E::invalid_value(Unexpected::Float(value), &self))
        }
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ByteSize, E> {
        byte_size(text)
            .or_else(|detail| natural(text).map(ByteSize::from_bytes).ok_or(detail))
            .map_err(E::custom)
    }
}

/// The number of a text in any base, if 64 bits hold it.
fn natural(text: &str) -> Option<u64> {
    match text::integer(text) {
        Ok(text::AnyInteger::Signed(number)) => u64::try_from(number).ok(),
        _ => None,
    }
}

/// Whether a deserializer is serde's buffer, filled by this crate, by the name of its error type.
fn is_buffer<D>() -> bool {
    let errors = std::any::type_name::<fault::Fault>();
    std::any::type_name::<D>().contains(errors)
}
