//! The names of the fields beside those that a type reads as secrets.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess,
    SeqAccess, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use crate::decode::diagnose::dummy::Dummy;
use crate::decode::diagnose::probe::Way;
use crate::sync::panics;

type Names = &'static [&'static str];

/// The names of the fields of each struct on the ways to some places of a type, by the way to it.
pub(crate) fn fields_on<'w, T: DeserializeOwned>(
    ways: impl IntoIterator<Item = &'w Way>,
) -> BTreeMap<Way, Names> {
    let seen = RefCell::default();
    for way in ways {
        let follow = Follow {
            seen: &seen,
            way,
            depth: 0,
        };
        // It is the user's code, and is given no value.
        let _ = panics::catch(|| T::deserialize(follow).is_ok());
    }
    seen.into_inner()
}

/// There is no value.
#[derive(Debug, thiserror::Error)]
#[error("no value")]
struct NoValue;

impl serde::de::Error for NoValue {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

/// One place on a way.
#[derive(Clone, Copy)]
struct Follow<'a> {
    seen: &'a RefCell<BTreeMap<Way, Names>>,
    way: &'a Way,
    depth: usize,
}

impl Follow<'_> {
    /// The next name on the way, and the place that it leads to.
    fn next(self) -> Option<(Option<&'static str>, Self)> {
        let name = *self.way.get(self.depth)?;
        let depth = self.depth + 1;
        Some((name, Self { depth, ..self }))
    }
}

impl<'de> Deserializer<'de> for Follow<'_> {
    type Error = NoValue;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, NoValue> {
        Err(NoValue)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NoValue> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, NoValue> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NoValue> {
        visitor.visit_seq(One(self.next()))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, NoValue> {
        visitor.visit_seq(One(self.next()))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, NoValue> {
        visitor.visit_seq(One(self.next()))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NoValue> {
        visitor.visit_map(One(self.next()))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: Names,
        visitor: V,
    ) -> Result<V::Value, NoValue> {
        let here = self.way.get(..self.depth).unwrap_or_default().to_vec();
        self.seen.borrow_mut().insert(here, fields);
        visitor.visit_map(One(self.next()))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: Names,
        visitor: V,
    ) -> Result<V::Value, NoValue> {
        visitor.visit_enum(One(self.next()))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct identifier ignored_any
    }
}

/// The only item, entry or variant.
struct One<'a>(Option<(Option<&'static str>, Follow<'a>)>);

impl<'de> SeqAccess<'de> for One<'_> {
    type Error = NoValue;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, NoValue> {
        let next = self.0.take();
        next.map(|(_, next)| seed.deserialize(next)).transpose()
    }
}

impl<'de> MapAccess<'de> for One<'_> {
    type Error = NoValue;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, NoValue> {
        let Some((name, _)) = self.0 else {
            return Ok(None);
        };
        let Some(name) = name else {
            // Of a map any name will do, also one that is a number.
            let any = seed.deserialize(Dummy::new(1));
            return any.map(Some).map_err(|_| NoValue);
        };
        let name: StrDeserializer<'_, NoValue> = name.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, NoValue> {
        let (_, next) = self.0.take().ok_or(NoValue)?;
        seed.deserialize(next)
    }
}

impl<'de, 'a> EnumAccess<'de> for One<'a> {
    type Error = NoValue;
    type Variant = Follow<'a>;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Follow<'a>), NoValue> {
        let Some((Some(name), next)) = self.0 else {
            return Err(NoValue);
        };
        let name: StrDeserializer<'_, NoValue> = name.into_deserializer();
        Ok((seed.deserialize(name)?, next))
    }
}

impl<'de> VariantAccess<'de> for Follow<'_> {
    type Error = NoValue;

    fn unit_variant(self) -> Result<(), NoValue> {
        Err(NoValue)
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, NoValue> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, NoValue> {
        self.deserialize_tuple(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: Names,
        visitor: V,
    ) -> Result<V::Value, NoValue> {
        self.deserialize_struct("", fields, visitor)
    }
}
