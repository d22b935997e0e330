//! What is handed over to who asks for whatever there is, noted with its place.

use std::fmt;

use serde::de::{Deserializer, EnumAccess, Error, MapAccess, SeqAccess, Visitor};

use crate::decode::input::Input;
use crate::decode::place::De;
use crate::value::Value;
use crate::value::secret::buffered::{self, Handing};

/// Passes on what is handed over at a place, and notes it in a pass that is traced.
pub(in crate::decode) struct Watch<'a, 'de, V> {
    visitor: V,
    de: De<'a, 'de>,
}

impl<'a, 'de, V> Watch<'a, 'de, V> {
    pub(in crate::decode) fn new(de: De<'a, 'de>, visitor: V) -> Self {
        Self { visitor, de }
    }

    /// Notes a value, or a list or a table, and gives the visitor.
    fn note(self, value: impl FnOnce() -> Option<Value>) -> V {
        if self.de.is_traced() && !self.de.name {
            note(&self.de, value());
        }
        self.visitor
    }
}

#[cold]
fn note(de: &De<'_, '_>, value: Option<Value>) {
    let path = de.path_text();
    let handing = match (de.input, de.context.slow) {
        (Input::Dummy(_), Some(slow)) if slow.borrow().is_missing(&path) => Handing::Missing,
        (Input::Dummy(_), _) => Handing::StandIn,
        (Input::Absent, _) => Handing::Missing,
        _ => Handing::Real,
    };
    let written = de.input.text().map(|text| text.into_owned());
    buffered::handed(path, value, written, handing);
}

macro_rules! scalars {
    ($($method:ident $t:ty, $value:ident => $noted:expr;)*) => {$(
        fn $method<E: Error>(self, $value: $t) -> Result<V::Value, E> {
            self.note(|| Some($noted)).$method($value)
        }
    )*};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Watch<'_, 'de, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    scalars! {
        visit_bool bool, value => Value::from(value);
        visit_i8 i8, value => Value::from(i64::from(value));
        visit_i16 i16, value => Value::from(i64::from(value));
        visit_i32 i32, value => Value::from(i64::from(value));
        visit_i64 i64, value => Value::from(value);
        visit_i128 i128, value => Value::from(value);
        visit_u8 u8, value => Value::from(i64::from(value));
        visit_u16 u16, value => Value::from(i64::from(value));
        visit_u32 u32, value => Value::from(i64::from(value));
        visit_u64 u64, value => Value::from(value);
        visit_u128 u128, value => Value::from(value);
        visit_f32 f32, value => Value::from(f64::from(value));
        visit_f64 f64, value => Value::from(value);
        visit_char char, value => Value::from(value.to_string());
        visit_str &str, value => Value::from(value);
        visit_borrowed_str &'de str, value => Value::from(value);
        visit_string String, value => Value::from(value.as_str());
        visit_bytes &[u8], value => Value::from(String::from_utf8_lossy(value).into_owned());
        visit_borrowed_bytes &'de [u8], value => Value::from(String::from_utf8_lossy(value).into_owned());
        visit_byte_buf Vec<u8>, value => Value::from(String::from_utf8_lossy(&value).into_owned());
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.note(|| Some(Value::Unset)).visit_unit()
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.note(|| Some(Value::Unset)).visit_none()
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.visitor.visit_some(inner)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.visitor.visit_newtype_struct(inner)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<V::Value, A::Error> {
        let traced = self.de.is_traced();
        let visitor = self.note(|| None);
        if traced {
            return buffered::inside(|| visitor.visit_seq(items));
        }
        visitor.visit_seq(items)
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<V::Value, A::Error> {
        let traced = self.de.is_traced();
        let visitor = self.note(|| None);
        if traced {
            return buffered::inside(|| visitor.visit_map(entries));
        }
        visitor.visit_map(entries)
    }

    fn visit_enum<A: EnumAccess<'de>>(self, variant: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_enum(variant)
    }
}
