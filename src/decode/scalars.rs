//! Reads scalars: numbers, durations, sizes and the names of variants.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::de::value::SeqDeserializer;
use serde::de::{Deserializer, IntoDeserializer, Visitor};

use crate::decode::braces;
use crate::decode::decimal::WrittenFloat;
use crate::decode::deserializer::ValueDeserializer;
use crate::decode::diagnose::collect::or_collect;
use crate::decode::diagnose::fault::Fault;
use crate::decode::input::Input;
use crate::decode::text::{self, AnyInteger, Float, NumberError};
use crate::value::units;

/// The detail of a float that a program set.
const LOST_DIGITS: &str = "a float has lost the last digits of so large an integer; set an integer";

impl<'a, 'de> ValueDeserializer<'a, 'de> {
    /// The value as a float with the digits of its source; `None` if it is no float.
    pub(super) fn written(&self) -> Option<WrittenFloat<'a>> {
        WrittenFloat::of(self.input)
    }

    /// Reads an integer. `range` describes the type where the number does not fit.
    pub(super) fn integer(
        &self,
        expected: &str,
        range: &dyn Fn() -> String,
    ) -> Result<AnyInteger, Fault> {
        match self.input.canonical() {
            Input::Int(value) => Ok(AnyInteger::Signed(i128::from(value))),
            Input::Big(value) => Ok(AnyInteger::Signed(value.get())),
            Input::Text(text) => text::integer(text).map_err(|error| match error {
                NumberError::Empty => self.fault("empty text", expected),
                NumberError::Range => self.fault("out of range", range()),
                _ => self.fault("not an integer", expected),
            }),
            // Programs that write JSON and YAML do not distinguish `5.0` from `5`.
            _ => match self.written() {
                Some(written) => written.integer().map_err(|error| match error {
                    NumberError::Range => self.fault("out of range", range()),
                    NumberError::Inexact => self.fault(LOST_DIGITS, expected),
                    _ => self.fault("not an integer", expected),
                }),
                None => Err(self.wrong_type(expected)),
            },
        }
    }

    /// Reads a boolean.
    pub(super) fn boolean(&self) -> Result<bool, Fault> {
        match self.input.canonical() {
            Input::Bool(value) => Ok(value),
            Input::Text(text) if !text.trim().is_empty() => {
                text::boolean(text).ok_or_else(|| self.fault("not a boolean", "bool"))
            }
            _ => Err(self.wrong_type("bool")),
        }
    }

    /// Reads a single character, which may have space around it.
    pub(super) fn character(&self) -> Result<char, Fault> {
        let only = |text: &str| {
            let mut chars = text.chars();
            chars.next().filter(|_| chars.next().is_none())
        };
        match self.input.text() {
            Some(text) if text.is_empty() => Err(self.fault("empty text", "char")),
            Some(text) => only(&text)
                .or_else(|| only(text.trim()))
                .ok_or_else(|| self.fault("not a single character", "char")),
            None => Err(self.wrong_type("char")),
        }
    }

    /// Reads a float.
    pub(super) fn float<F: Float>(&self, expected: &str) -> Result<F, Fault> {
        let float = match self.input.canonical() {
            Input::Int(value) => F::of_i128(i128::from(value)).ok_or(NumberError::Inexact),
            Input::Big(value) => F::of_i128(value.get()).ok_or(NumberError::Inexact),
            Input::Text(text) => text::float(text),
            _ => match self.written() {
                Some(written) => written.float(),
                None => return Err(self.wrong_type(expected)),
            },
        };
        float.map_err(|error| match error {
            NumberError::Empty => self.fault("empty text", expected),
            NumberError::Malformed => self.fault("not a number", expected),
            NumberError::Range => self.fault("out of range", expected),
            NumberError::Inexact => {
                self.fault("an integer this type cannot hold exactly", expected)
            }
        })
    }

    /// Reads a duration.
    pub(super) fn duration<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let read = match self.input.canonical() {
            Input::Text(text) if braces::is_braced(text) => return self.map(visitor),
            Input::Text(text) => units::duration(text),
            Input::Int(0) => Ok(Duration::ZERO),
            Input::Float(_) if self.written().is_some_and(WrittenFloat::is_zero) => {
                Ok(Duration::ZERO)
            }
            Input::Int(_) | Input::Big(_) | Input::Float(_) => Err(units::NO_UNIT),
            _ => return self.map(visitor),
        };
        let value = read.map_err(|detail| self.fault(detail, "Duration"));
        let value = or_collect!(self, value, placeholder => {
            placeholder.deserialize_struct("Duration", &["secs", "nanos"], visitor)
        });
        self.record_name(|| value.as_nanos().to_string());
        visitor
            .visit_seq(duration_parts(value))
            .map_err(|fault| self.locate(fault))
    }

    /// Reads a [`ByteSize`](crate::ByteSize).
    pub(super) fn size<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let number = match self.input.canonical() {
            Input::Text(text) => self.size_of_text(text),
            Input::Float(value) if value.fract() == 0.0 => {
                match self.integer("ByteSize", &|| "ByteSize".to_owned()) {
                    Ok(AnyInteger::Huge(_)) => Err(self.fault("out of range", "ByteSize")),
                    Ok(AnyInteger::Signed(number)) => Ok(number),
                    Err(fault) => Err(fault),
                }
            }
            Input::Big(number) => Ok(number.get()),
            Input::Bool(_) => Err(self.wrong_type("ByteSize")),
            _ => {
                let result = visitor.visit_newtype_struct(self);
                return result.map_err(|fault| self.locate_as::<V::Value>(fault));
            }
        };
        let number = number.and_then(|number| {
            if number > i128::from(u64::MAX) {
                return Err(self.fault("out of range", "ByteSize"));
            }
            Ok(number)
        });
        let number = or_collect!(self, number, placeholder => placeholder.deserialize_u64(visitor));
        self.record_name(|| number.to_string());
        visit_int(number, visitor).map_err(|fault| self.locate_as::<V::Value>(fault))
    }

    fn size_of_text(&self, text: &str) -> Result<i128, Fault> {
        units::byte_size(text)
            .map(|size| i128::from(size.bytes()))
            .or_else(|detail| match text::integer(text) {
                // A number in another base has no unit.
                Ok(AnyInteger::Signed(number)) if !text.trim_start().starts_with('-') => Ok(number),
                _ => Err(self.fault(detail, "ByteSize")),
            })
    }

    /// The variant that a name means: itself, or the only one that differs in case.
    pub(super) fn variant<'n>(name: &'n str, variants: &'static [&'static str]) -> &'n str {
        if variants.contains(&name) {
            return name;
        }
        let mut alike = variants.iter().filter(|v| v.eq_ignore_ascii_case(name));
        match (alike.next(), alike.next()) {
            (Some(one), None) => one,
            // The name may be an alias, or the enum may have a catch-all variant.
            _ => name,
        }
    }
}

/// The canonical text of an address of the standard library.
pub(super) fn address<T>(text: &str) -> Option<String> {
    if !std::any::type_name::<T>().starts_with("core::net::") {
        return None;
    }
    let ip = text.parse().map(|ip: IpAddr| ip.to_string()).ok();
    ip.or_else(|| text.parse().map(|at: SocketAddr| at.to_string()).ok())
}

/// Visits an integer in the smallest type that holds it: serde's buffer knows only 64 bits.
pub(super) fn visit_int<'de, V: Visitor<'de>>(value: i128, visitor: V) -> Result<V::Value, Fault> {
    if let Ok(small) = i64::try_from(value) {
        visitor.visit_i64(small)
    } else if let Ok(small) = u64::try_from(value) {
        visitor.visit_u64(small)
    } else {
        visitor.visit_i128(value)
    }
}

type DurationParts = SeqDeserializer<std::array::IntoIter<DurationPart, 2>, Fault>;

/// A duration as serde's own implementation reads it.
pub(crate) fn duration_parts(value: Duration) -> DurationParts {
    let nanos = u64::from(value.subsec_nanos());
    SeqDeserializer::new([DurationPart(value.as_secs()), DurationPart(nanos)].into_iter())
}

/// The seconds or the nanoseconds of a duration.
pub(crate) struct DurationPart(u64);

impl IntoDeserializer<'_, Fault> for DurationPart {
    type Deserializer = serde::de::value::U64Deserializer<Fault>;

    fn into_deserializer(self) -> Self::Deserializer {
        self.0.into_deserializer()
    }
}
