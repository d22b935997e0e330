//! Placeholders: invented values in the place of bad ones, while errors are collected.

use std::iter::RepeatN;

use serde::de::value::{MapDeserializer, SeqDeserializer, StrDeserializer};
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, VariantAccess, Visitor,
};

use crate::decode::diagnose::fault::Fault;
use crate::decode::diagnose::rejection::Reported;
use crate::decode::forward::{forward_fields_of_variant, forward_similar_methods};

/// How many placeholders a type is offered.
pub(crate) const LEVELS: usize = 6;

const TEXTS: [&str; LEVELS] = [
    "",
    "1",
    "127.0.0.1",
    "127.0.0.1:1",
    "http://localhost/",
    "a=1",
];
const NUMBERS: [u8; LEVELS] = [0, 1, 2, 10, 60, 100];

/// How deep types are followed that nest through their first variant.
const MAX_NESTING: usize = 16;

/// A deserializer that answers any request with a simple value. A type that rejects it is offered the next
/// level.
#[derive(Clone, Copy)]
pub(crate) struct Placeholder {
    level: usize,
    depth: usize,
}

impl Placeholder {
    pub(crate) fn new(level: usize) -> Self {
        let level = level.min(LEVELS - 1);
        Self { level, depth: 0 }
    }

    pub(crate) fn level(self) -> usize {
        self.level
    }

    /// What `deserialize_any` visits, as serde reports it.
    pub(crate) fn reported(self) -> Reported {
        match self.level {
            0 => Reported::Number("0".to_owned()),
            1 => Reported::Text(String::new()),
            2 => Reported::Bool(false),
            3 => Reported::Unit,
            4 => Reported::Seq,
            _ => Reported::Map,
        }
    }

    /// What the methods for numbers visit.
    pub(crate) fn number(self) -> u8 {
        NUMBERS[self.level]
    }

    /// The text for a type that accepts any type, but rejects all but text; `None` at the last level.
    pub(crate) fn text(self) -> Option<&'static str> {
        TEXTS.get(self.level + 1).copied()
    }

    fn inner(self) -> Result<Self, Fault> {
        if self.depth == MAX_NESTING {
            return Err(<Fault as serde::de::Error>::custom("nested too deep"));
        }
        let depth = self.depth + 1;
        Ok(Self { depth, ..self })
    }

    fn repeated(self, count: usize) -> SeqDeserializer<RepeatN<Self>, Fault> {
        SeqDeserializer::new(std::iter::repeat_n(self, count))
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident $t:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            visitor.$visit($t::from(NUMBERS[self.level]))
        }
    )*};
}

impl IntoDeserializer<'_, Fault> for Placeholder {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Placeholder {
    type Error = Fault;

    forward_similar_methods!();

    numbers! {
        deserialize_i16 visit_i16 i16
        deserialize_i32 visit_i32 i32
        deserialize_i64 visit_i64 i64
        deserialize_i128 visit_i128 i128
        deserialize_u8 visit_u8 u8
        deserialize_u16 visit_u16 u16
        deserialize_u32 visit_u32 u32
        deserialize_u64 visit_u64 u64
        deserialize_u128 visit_u128 u128
        deserialize_f32 visit_f32 f32
        deserialize_f64 visit_f64 f64
        deserialize_char visit_char char
    }

    fn deserialize_i8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_i8(NUMBERS[self.level] as i8)
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.level {
            0 => visitor.visit_u64(0),
            1 => visitor.visit_str(""),
            2 => visitor.visit_bool(false),
            3 => visitor.visit_unit(),
            4 => self.deserialize_seq(visitor),
            _ => self.deserialize_map(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_bool(self.level % 2 == 1)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_str(TEXTS[self.level])
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_bytes(TEXTS[self.level].as_bytes())
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_none()
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self.inner()?)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_tuple(0, visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Fault> {
        let placeholder = self.inner()?;
        visitor.visit_seq(placeholder.repeated(len))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_struct("", &[], visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let placeholder = self.inner()?;
        // The names include aliases, and a struct rejects a field that is set twice. So the fields come
        // by position first. The next level serves types that read no positions.
        if self.level % 2 == 0 && !fields.is_empty() {
            return visitor.visit_seq(placeholder.repeated(fields.len()));
        }
        let entries = fields.iter().map(|name| (*name, placeholder));
        visitor.visit_map(MapDeserializer::new(entries))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let placeholder = self.inner()?;
        let name = variants.get(self.level % variants.len().max(1));
        visitor.visit_enum(Chosen {
            placeholder,
            name: name.copied().unwrap_or_default(),
        })
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }
}

/// A variant with placeholders as its content.
struct Chosen {
    placeholder: Placeholder,
    name: &'static str,
}

impl<'de> EnumAccess<'de> for Chosen {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Fault> {
        let name: StrDeserializer<'_, Fault> = self.name.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for Chosen {
    type Error = Fault;

    forward_fields_of_variant!(placeholder);

    fn unit_variant(self) -> Result<(), Fault> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Fault> {
        seed.deserialize(self.placeholder)
    }
}
