//! How a [`ByteSize`] is read: from text with a unit, or from a number of bytes.

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
    /// Whether floats are refused: then the integer that was written comes instead.
    is_exact: bool,
}

impl<'de> Visitor<'de> for SizeVisitor {
    type Value = ByteSize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size such as `10 MiB`")
    }

    /// Any other deserializer says by itself whether there is text or a number.
    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<ByteSize, D::Error> {
        let is_exact = is_buffer::<D>();
        inner.deserialize_any(SizeVisitor { is_exact })
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<ByteSize, E> {
        Ok(ByteSize::from_bytes(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<ByteSize, E> {
        let refused = |_| E::invalid_value(Unexpected::Signed(value), &self);
        u64::try_from(value)
            .map(ByteSize::from_bytes)
            .map_err(refused)
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

/// The number that text spells in any base, if 64 bits hold it.
fn natural(text: &str) -> Option<u64> {
    match text::whole(text) {
        Ok(text::Whole::Signed(number)) => u64::try_from(number).ok(),
        _ => None,
    }
}

/// Whether a deserializer is the buffer of serde, filled by this crate. If its name does not say so, it
/// is taken for that of another crate.
fn is_buffer<D>() -> bool {
    let errors = std::any::type_name::<fault::Fault>();
    std::any::type_name::<D>().contains(errors)
}
