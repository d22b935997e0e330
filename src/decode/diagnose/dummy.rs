//! Placeholders: while errors are collected, they stand in for the values known to be bad.

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};

use crate::decode::diagnose::fault::{Fault, Got};

/// How many different placeholders there are before a type is given up on.
pub(in crate::decode) const LEVELS: usize = 6;

const TEXTS: [&str; LEVELS] = [
    "",
    "1",
    "127.0.0.1",
    "127.0.0.1:1",
    "http://localhost/",
    "a=1",
];
const NUMBERS: [u8; LEVELS] = [0, 1, 2, 10, 60, 100];

/// Types that nest without end through their first variant stop here.
const DEEPEST: usize = 16;

/// Answers any request with something simple. Types that refuse it are asked again with the next
/// level.
#[derive(Clone, Copy)]
pub(in crate::decode) struct Dummy {
    level: usize,
    depth: usize,
}

impl Dummy {
    pub(in crate::decode) fn new(level: usize) -> Self {
        let level = level.min(LEVELS - 1);
        Self { level, depth: 0 }
    }

    /// What `deserialize_any` hands over.
    pub(in crate::decode) fn got(self) -> Got {
        match self.level {
            0 => Got::Number("0".to_owned()),
            1 => Got::Text(String::new()),
            2 => Got::Bool(false),
            3 => Got::Unit,
            4 => Got::Seq,
            _ => Got::Map,
        }
    }

    /// The text for who asks for anything and wants a text; `None` at the last level.
    pub(in crate::decode) fn text(self) -> Option<&'static str> {
        TEXTS.get(self.level + 1).copied()
    }

    fn inner(self) -> Result<Self, Fault> {
        if self.depth == DEEPEST {
            return Err(<Fault as serde::de::Error>::custom("nested too deep"));
        }
        let depth = self.depth + 1;
        Ok(Self { depth, ..self })
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident $t:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            visitor.$visit($t::from(NUMBERS[self.level]))
        }
    )*};
}

impl<'de> Deserializer<'de> for Dummy {
    type Error = Fault;

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

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_bytes(TEXTS[self.level].as_bytes())
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_none()
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
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
        let dummy = self.inner()?;
        visitor.visit_seq(Several { dummy, left: 0 })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Fault> {
        let dummy = self.inner()?;
        visitor.visit_seq(Several { dummy, left: len })
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_tuple(len, visitor)
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
        let dummy = self.inner()?;
        // The names hold the aliases too, and a field that is set twice is refused: by position
        // first. Types that know no positions get their turn at the next level.
        if self.level % 2 == 0 && !fields.is_empty() {
            let left = fields.len();
            return visitor.visit_seq(Several { dummy, left });
        }
        visitor.visit_map(Fields {
            dummy,
            names: fields.iter(),
        })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let dummy = self.inner()?;
        let name = variants.get(self.level % variants.len().max(1));
        visitor.visit_enum(Chosen {
            dummy,
            name: name.copied().unwrap_or_default(),
        })
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }
}

/// So many placeholders in a row.
struct Several {
    dummy: Dummy,
    left: usize,
}

impl<'de> SeqAccess<'de> for Several {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Fault> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(self.dummy).map(Some)
    }
}

/// A placeholder for each field.
struct Fields {
    dummy: Dummy,
    names: std::slice::Iter<'static, &'static str>,
}

impl<'de> MapAccess<'de> for Fields {
    type Error = Fault;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Fault> {
        let Some(name) = self.names.next() else {
            return Ok(None);
        };
        let name: StrDeserializer<'_, Fault> = (*name).into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        seed.deserialize(self.dummy)
    }
}

/// One variant with placeholders in it.
struct Chosen {
    dummy: Dummy,
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

    fn unit_variant(self) -> Result<(), Fault> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Fault> {
        seed.deserialize(self.dummy)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Fault> {
        self.dummy.deserialize_tuple(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.dummy.deserialize_struct("", fields, visitor)
    }
}
