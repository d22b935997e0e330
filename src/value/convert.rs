//! Conversions of the usual Rust types into a [`Value`], and its `Deserialize`.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;

use crate::value::Value;
use crate::value::scalar::{Bool, Number, Repr, Wide};
use crate::value::table::Table;

macro_rules! small_integers {
    ($($t:ty)*) => {$(
        impl From<$t> for Value {
            fn from(value: $t) -> Self {
                Value::Number(Number(Repr::Int(i64::from(value))))
            }
        }
    )*};
}
small_integers!(i8 i16 i32 i64 u8 u16 u32);

impl From<i128> for Value {
    fn from(value: i128) -> Self {
        match i64::try_from(value) {
            Ok(small) => Value::Number(Number(Repr::Int(small))),
            Err(_) => Value::Number(Number(Repr::Big(Wide::new(value)))),
        }
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Value::from(i128::from(value))
    }
}

impl From<u128> for Value {
    /// Beyond `i128::MAX` the digits are kept as text, which reads back as the same number.
    fn from(value: u128) -> Self {
        match i128::try_from(value) {
            Ok(fits) => Value::from(fits),
            Err(_) => Value::Text(value.to_string().into()),
        }
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Self {
        Value::from(value as u128)
    }
}

impl From<isize> for Value {
    fn from(value: isize) -> Self {
        Value::from(value as i128)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Value::Number(Number(Repr::Float(value)))
    }
}

impl From<f32> for Value {
    fn from(value: f32) -> Self {
        Value::from(f64::from(value))
    }
}

impl From<Number> for Value {
    fn from(value: Number) -> Self {
        Value::Number(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Value::Bool(Bool::new(value))
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Value::Text(value.into())
    }
}

impl From<char> for Value {
    fn from(value: char) -> Self {
        Value::Text(value.to_string().into())
    }
}

impl From<Box<str>> for Value {
    fn from(value: Box<str>) -> Self {
        Value::Text(value)
    }
}

impl From<Cow<'_, str>> for Value {
    fn from(value: Cow<'_, str>) -> Self {
        Value::Text(value.into())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Value::Text(value.into())
    }
}

impl<V: Into<Value>> From<Vec<V>> for Value {
    fn from(value: Vec<V>) -> Self {
        Value::List(value.into_iter().map(Into::into).collect())
    }
}

impl<V: Into<Value>, const N: usize> From<[V; N]> for Value {
    fn from(value: [V; N]) -> Self {
        Value::List(value.into_iter().map(Into::into).collect())
    }
}

impl From<Table> for Value {
    fn from(value: Table) -> Self {
        Value::Table(value)
    }
}

impl<K: Into<Box<str>>, V: Into<Value>> From<BTreeMap<K, V>> for Value {
    fn from(value: BTreeMap<K, V>) -> Self {
        Value::Table(value.into_iter().collect())
    }
}

impl<K: Into<Box<str>>, V: Into<Value>, S> From<HashMap<K, V, S>> for Value {
    fn from(value: HashMap<K, V, S>) -> Self {
        Value::Table(value.into_iter().collect())
    }
}

impl<'de> serde::de::Deserialize<'de> for Value {
    fn deserialize<D: serde::de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

// The source that decodes a value has limited its depth and size. Of a name that is repeated, the last value counts.
impl<'de> serde::de::Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u128<E>(self, value: u128) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Unset)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Unset)
    }

    fn visit_some<D: serde::de::Deserializer<'de>>(self, inner: D) -> Result<Value, D::Error> {
        serde::de::Deserialize::deserialize(inner)
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list.into()))
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = entries.next_entry::<Box<str>, Value>()? {
            fields.push(field);
        }
        Ok(Value::Table(fields.into_iter().collect()))
    }
}
