//! Where a type reads secrets, asked of its `Deserialize` while there is no value yet.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer,
    MapAccess, SeqAccess, VariantAccess, Visitor,
};

use crate::decode::diagnose::dummy::Dummy;
use crate::decode::diagnose::fault::Fault;
use crate::sync::panics;
use crate::value::secret::SECRET_NAME;

/// The names from a type down to a place inside; `None` is any name or index.
pub(crate) type Way = Vec<Option<&'static str>>;

/// Types that nest without end stop here.
const DEEPEST: usize = 8;

/// As many places are looked at, and as often is a type asked.
const MOST_PLACES: usize = 2_000;
const MOST_ASKED: usize = 200;

/// The places where a type reads a [`Secret`](crate::Secret), as far as it tells.
///
/// A type may refuse a placeholder, which ends a whole struct: it is asked again without the fields
/// that have been seen, as long as there is something new.
pub(crate) fn secret_places<T: DeserializeOwned>() -> BTreeSet<Way> {
    secret_places_with(drop::<T>)
}

/// As [`secret_places`], where `done` gets each value that a type made of placeholders.
pub(in crate::decode) fn secret_places_with<T: DeserializeOwned>(done: fn(T)) -> BTreeSet<Way> {
    let seen = RefCell::new(Seen::default());
    for _ in 0..MOST_ASKED {
        let before = seen.borrow().done.len();
        let probe = Probe {
            seen: &seen,
            way: Way::new(),
        };
        // It is the user's code, and does not reckon with placeholders.
        let _ = panics::catch(|| T::deserialize(probe).map(done).is_ok());
        let now = seen.borrow();
        if now.done.len() == before || now.done.contains(&Way::new()) {
            break;
        }
    }
    seen.into_inner().secrets
}

/// Whether a type is a [`Secret`](crate::Secret), or one in an `Option` or a wrapper. It is asked for
/// no value, and asked at no cost.
pub(crate) fn is_secret_type<T: DeserializeOwned>() -> bool {
    let found = Cell::new(false);
    let _ = panics::catch(|| T::deserialize(TypeOnly(&found)).is_ok());
    found.get()
}

/// Has no value to give, and notes whether a secret is asked for.
struct TypeOnly<'a>(&'a Cell<bool>);

/// There is no value.
#[derive(Debug, thiserror::Error)]
#[error("no value")]
struct NoValue;

impl serde::de::Error for NoValue {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

macro_rules! no_values {
    ($($method:ident($($argument:ty),*))*) => {$(
        fn $method<V: Visitor<'de>>(self, $(_: $argument,)* _: V) -> Result<V::Value, NoValue> {
            Err(NoValue)
        }
    )*};
}

impl<'de> Deserializer<'de> for TypeOnly<'_> {
    type Error = NoValue;

    no_values! {
        deserialize_any() deserialize_bool() deserialize_char() deserialize_str()
        deserialize_string() deserialize_bytes() deserialize_byte_buf() deserialize_unit()
        deserialize_identifier() deserialize_ignored_any() deserialize_f32() deserialize_f64()
        deserialize_i8() deserialize_i16() deserialize_i32() deserialize_i64() deserialize_i128()
        deserialize_u8() deserialize_u16() deserialize_u32() deserialize_u64() deserialize_u128()
        deserialize_seq() deserialize_map() deserialize_tuple(usize)
        deserialize_unit_struct(&'static str) deserialize_tuple_struct(&'static str, usize)
        deserialize_struct(&'static str, &'static [&'static str])
        deserialize_enum(&'static str, &'static [&'static str])
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NoValue> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, NoValue> {
        if name == SECRET_NAME {
            self.0.set(true);
            return Err(NoValue);
        }
        visitor.visit_newtype_struct(self)
    }
}

#[derive(Default)]
struct Seen {
    secrets: BTreeSet<Way>,
    /// Where nothing new is to be seen.
    done: BTreeSet<Way>,
    places: usize,
}

/// One place of a type.
struct Probe<'a> {
    seen: &'a RefCell<Seen>,
    way: Way,
}

impl Probe<'_> {
    fn below(&self, name: Option<&'static str>) -> Way {
        self.way.iter().copied().chain([name]).collect()
    }

    fn child(&self, name: Option<&'static str>) -> Result<Self, Fault> {
        let mut seen = self.seen.borrow_mut();
        seen.places += 1;
        if self.way.len() >= DEEPEST || seen.places > MOST_PLACES {
            let way = self.below(name);
            seen.done.insert(way);
            return Err(Fault::custom("too much of it"));
        }
        Ok(Self {
            seen: self.seen,
            way: self.below(name),
        })
    }

    fn is_done(&self, name: Option<&'static str>) -> bool {
        self.seen.borrow().done.contains(&self.below(name))
    }

    fn done(&self, way: Way) {
        self.seen.borrow_mut().done.insert(way);
    }

    /// Ends here, with a placeholder that most types take.
    fn leaf(&self) -> Dummy {
        self.done(self.way.clone());
        Dummy::new(1)
    }

    /// Is done once all that is below is.
    fn all<R>(&self, names: &[Option<&'static str>], outcome: R) -> R {
        if names.iter().all(|name| self.is_done(*name)) {
            self.done(self.way.clone());
        }
        outcome
    }

    fn again(&self) -> Self {
        Self {
            seen: self.seen,
            way: self.way.clone(),
        }
    }
}

macro_rules! leaves {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            self.leaf().$method(visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Fault;

    leaves! {
        deserialize_any deserialize_bool deserialize_char deserialize_str deserialize_string
        deserialize_bytes deserialize_byte_buf deserialize_unit deserialize_identifier
        deserialize_ignored_any deserialize_f32 deserialize_f64
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.leaf().deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        if name != SECRET_NAME {
            return visitor.visit_newtype_struct(self);
        }
        let leaf = self.leaf();
        self.seen.borrow_mut().secrets.insert(self.way);
        visitor.visit_newtype_struct(leaf)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_tuple(1, visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Fault> {
        let row = Row {
            probe: self.again(),
            left: len,
        };
        let outcome = visitor.visit_seq(row);
        self.all(&[None], outcome)
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
        let one = Entry(Some(self.again()));
        let outcome = visitor.visit_map(one);
        self.all(&[None], outcome)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let names: Vec<_> = fields.iter().copied().map(Some).collect();
        let mut left = names.clone();
        left.retain(|name| !self.is_done(*name));
        let outcome = visitor.visit_map(Fields {
            probe: self.again(),
            left: left.into_iter(),
            name: None,
        });
        self.all(&names, outcome)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let names: Vec<_> = variants.iter().copied().map(Some).collect();
        let next = names
            .iter()
            .flatten()
            .find(|name| !self.is_done(Some(name)));
        // Of one that is done any will do.
        let Some(name) = next.or(variants.first()).copied() else {
            return self.leaf().deserialize_unit(visitor);
        };
        let outcome = self.child(Some(name)).and_then(|probe| {
            let chosen = Chosen { probe, name };
            visitor.visit_enum(chosen)
        });
        self.all(&names, outcome)
    }
}

/// The items of a list or a tuple.
struct Row<'a> {
    probe: Probe<'a>,
    left: usize,
}

impl<'de> SeqAccess<'de> for Row<'_> {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Fault> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(self.probe.child(None)?).map(Some)
    }
}

/// The only entry of a map.
struct Entry<'a>(Option<Probe<'a>>);

impl<'de> MapAccess<'de> for Entry<'_> {
    type Error = Fault;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Fault> {
        match self.0 {
            Some(_) => seed.deserialize(Dummy::new(1)).map(Some),
            None => Ok(None),
        }
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        match self.0.take() {
            Some(probe) => seed.deserialize(probe.child(None)?),
            None => Err(Fault::custom("no entry is left")),
        }
    }
}

/// The fields of a struct that have not been seen.
struct Fields<'a> {
    probe: Probe<'a>,
    left: std::vec::IntoIter<Option<&'static str>>,
    name: Option<&'static str>,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Fault;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Fault> {
        self.name = self.left.next().flatten();
        let Some(name) = self.name else {
            return Ok(None);
        };
        let name: StrDeserializer<'_, Fault> = name.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        seed.deserialize(self.probe.child(self.name)?)
    }
}

/// One variant of an enum.
struct Chosen<'a> {
    probe: Probe<'a>,
    name: &'static str,
}

impl<'de> EnumAccess<'de> for Chosen<'_> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Fault> {
        let name: StrDeserializer<'_, Fault> = self.name.into_deserializer();
        match seed.deserialize(name) {
            Ok(value) => Ok((value, self)),
            Err(fault) => {
                self.probe.leaf();
                Err(fault)
            }
        }
    }
}

impl<'de> VariantAccess<'de> for Chosen<'_> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        self.probe.leaf();
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Fault> {
        seed.deserialize(self.probe)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Fault> {
        self.probe.deserialize_tuple(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.probe.deserialize_struct("", fields, visitor)
    }
}
