//! Records what a type is given, so that a secret that serde buffers first is found by its value.
//!
//! Only a traced pass records: one during which [`buffered`] collects visits. Every other pass is forwarded.

use std::fmt;

use serde::de::{Deserializer, EnumAccess, Error, MapAccess, SeqAccess, Visitor};

use crate::decode::deserializer::ValueDeserializer;
use crate::decode::input::Input;
use crate::value::Value;
use crate::value::secret::buffered::{self, VisitKind};

/// Forwards a visit to the visitor of the type, and records it in a traced pass.
pub(crate) struct VisitRecorder<'a, 'de, V> {
    visitor: V,
    de: ValueDeserializer<'a, 'de>,
}

impl<'a, 'de, V> VisitRecorder<'a, 'de, V> {
    pub(crate) fn new(de: ValueDeserializer<'a, 'de>, visitor: V) -> Self {
        Self { visitor, de }
    }

    /// Records a value, or `None` for a list or a table, and returns the visitor of the type.
    fn into_recorded(self, value: impl FnOnce() -> Option<Value>) -> V {
        if self.de.is_traced() && !self.de.is_name {
            record_visit_of(&self.de, value());
        }
        self.visitor
    }

    /// Records a list or a table, which is no name, and what is in it.
    fn visit_container<R>(self, visit: impl FnOnce(V) -> R) -> R {
        let is_traced = self.de.is_traced();
        let visitor = self.into_recorded(|| None);
        if is_traced {
            return buffered::record_container(|| visit(visitor));
        }
        visit(visitor)
    }
}

#[cold]
fn record_visit_of(de: &ValueDeserializer<'_, '_>, value: Option<Value>) {
    let path = de.path_text();
    // A placeholder may stand for a key that diagnosis knows to be missing.
    let kind = match (de.input, de.context.diagnosis) {
        (Input::Placeholder(_), Some(diagnosis)) if diagnosis.borrow().is_missing(&path) => {
            VisitKind::Missing
        }
        (Input::Placeholder(_), _) => VisitKind::Placeholder,
        (Input::Absent, _) => VisitKind::Missing,
        _ => VisitKind::Real,
    };
    let written = de.input.text().map(|text| text.into_owned());
    buffered::record_visit(path, value, written, kind);
}

macro_rules! scalars {
    ($($method:ident $t:ty, $value:ident => $recorded:expr;)*) => {$(
        fn $method<E: Error>(self, $value: $t) -> Result<V::Value, E> {
            self.into_recorded(|| Some($recorded)).$method($value)
        }
    )*};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for VisitRecorder<'_, 'de, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    scalars! {
        visit_bool bool, value => Value::from(value);
        visit_i8 i8, value => Value::from(value);
        visit_i16 i16, value => Value::from(value);
        visit_i32 i32, value => Value::from(value);
        visit_i64 i64, value => Value::from(value);
        visit_i128 i128, value => Value::from(value);
        visit_u8 u8, value => Value::from(value);
        visit_u16 u16, value => Value::from(value);
        visit_u32 u32, value => Value::from(value);
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
        self.into_recorded(|| Some(Value::Unset)).visit_unit()
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.into_recorded(|| Some(Value::Unset)).visit_none()
    }

    // The deserializer in an option, a newtype or a variant is one of this crate, which records by itself.
    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.visitor.visit_some(inner)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.visitor.visit_newtype_struct(inner)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<V::Value, A::Error> {
        self.visit_container(|visitor| visitor.visit_seq(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<V::Value, A::Error> {
        self.visit_container(|visitor| visitor.visit_map(entries))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, variant: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_enum(variant)
    }
}
