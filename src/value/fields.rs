//! Finds the fields that a type reads, by probing its `Deserialize` without a value.

use std::cell::RefCell;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, Visitor,
};

use crate::sorted::{SortedMap, SortedSet};
use crate::sync::panics;

/// The most probes of a type. Each probe finds one field.
const MAX_PROBES: usize = 256;
/// Structs that nest deeper are not probed.
const MAX_DEPTH: usize = 8;

/// The names from a type down to a field.
type Path = Vec<&'static str>;

/// A field that a type reads and that is no struct.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Field {
    /// The names from the type down to the field; none if the type itself is no struct.
    pub(crate) path: Path,
    /// Whether the type reads text there.
    pub(crate) is_text: bool,
}

/// The fields of a type and of the structs in it. The content of lists, maps and enums depends on a value.
///
/// The probe answers each request for a value with an error, so no value of the type is created.
pub(crate) fn fields_of<T: DeserializeOwned>() -> Vec<Field> {
    let seen = RefCell::new(Seen::default());
    for _ in 0..MAX_PROBES {
        let before = seen.borrow().explored.len();
        let root = Probe {
            seen: &seen,
            path: Path::new(),
        };
        // The implementation is the user's code.
        let _ = panics::catch(|| T::deserialize(root).is_ok());
        let now = seen.borrow();
        if now.explored.len() == before || now.explored.contains(&Path::new()) {
            break;
        }
    }
    let fields = seen.into_inner().fields.into_iter();
    fields
        .map(|(path, is_text)| Field { path, is_text })
        .collect()
}

#[derive(Default)]
struct Seen {
    fields: SortedMap<Path, bool>,
    /// The paths below which all fields are found.
    explored: SortedSet<Path>,
}

/// A deserializer without a value, for one path of a type.
struct Probe<'a> {
    seen: &'a RefCell<Seen>,
    path: Path,
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

impl Probe<'_> {
    fn record(self, is_text: bool) -> NoValue {
        let mut seen = self.seen.borrow_mut();
        seen.explored.insert(self.path.clone());
        seen.fields.insert(self.path, is_text);
        NoValue
    }
}

macro_rules! leaves {
    ($is_text:literal: $($method:ident($($argument:ty),*))*) => {$(
        fn $method<V: Visitor<'de>>(self, $(_: $argument,)* _: V) -> Result<V::Value, NoValue> {
            Err(self.record($is_text))
        }
    )*};
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = NoValue;

    leaves! { true: deserialize_str() deserialize_string() }
    leaves! { false:
        deserialize_any() deserialize_bool() deserialize_char() deserialize_bytes()
        deserialize_byte_buf() deserialize_unit() deserialize_identifier()
        deserialize_ignored_any() deserialize_f32() deserialize_f64()
        deserialize_i8() deserialize_i16() deserialize_i32() deserialize_i64() deserialize_i128()
        deserialize_u8() deserialize_u16() deserialize_u32() deserialize_u64() deserialize_u128()
        deserialize_seq() deserialize_map() deserialize_tuple(usize)
        deserialize_unit_struct(&'static str) deserialize_tuple_struct(&'static str, usize)
        deserialize_enum(&'static str, &'static [&'static str])
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

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, NoValue> {
        let is_duration = name == "Duration" && fields == ["secs", "nanos"];
        if is_duration || fields.is_empty() || self.path.len() >= MAX_DEPTH {
            return Err(self.record(false));
        }
        let below = |name: &'static str| -> Path {
            let names = self.path.iter().copied();
            names.chain([name]).collect()
        };
        let is_open = |path: &Path| !self.seen.borrow().explored.contains(path);
        let Some(path) = fields.iter().map(|name| below(name)).find(is_open) else {
            self.seen.borrow_mut().explored.insert(self.path);
            return Err(NoValue);
        };
        let before = self.seen.borrow().explored.len();
        let outcome = visitor.visit_map(OneField(Some(Probe {
            seen: self.seen,
            path: path.clone(),
        })));
        // The visitor has not read the field.
        let mut seen = self.seen.borrow_mut();
        if seen.explored.len() == before {
            seen.explored.insert(path);
        }
        outcome
    }
}

/// A table of one field.
struct OneField<'a>(Option<Probe<'a>>);

impl<'de> MapAccess<'de> for OneField<'_> {
    type Error = NoValue;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, NoValue> {
        let name = self.0.as_ref().and_then(|probe| probe.path.last().copied());
        let Some(name) = name else {
            return Ok(None);
        };
        let name: StrDeserializer<'_, NoValue> = name.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, NoValue> {
        match self.0.take() {
            Some(probe) => seed.deserialize(probe),
            None => Err(NoValue),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::collections::HashMap;
    use std::time::Duration;

    use serde::Deserialize;

    use crate::value::secret::Secret;

    fn shown<T: DeserializeOwned>() -> Vec<String> {
        let shown = |field: Field| {
            let kind = if field.is_text { " text" } else { "" };
            format!("{}{kind}", field.path.join("."))
        };
        fields_of::<T>().into_iter().map(shown).collect()
    }

    #[derive(Deserialize)]
    #[allow(dead_code, reason = "only the probe uses the fields")]
    #[serde(rename_all = "kebab-case", default)]
    struct Server {
        host_name: String,
        max_body: Option<u32>,
        #[serde(alias = "time_out")]
        timeout: Duration,
        inner_most: Inner,
        tags: Vec<String>,
        more: HashMap<String, String>,
    }

    impl Default for Server {
        fn default() -> Self {
            panic!("the probe creates no value");
        }
    }

    #[derive(Deserialize)]
    #[allow(dead_code, reason = "only the probe uses the fields")]
    struct Inner {
        pw: Secret<String>,
        n: u8,
        next: Option<Box<Inner>>,
    }

    #[test]
    fn the_fields_of_a_struct_and_of_those_in_it_are_found_without_a_value() {
        let all = shown::<Server>();
        for field in [
            "host-name text",
            "max-body",
            "timeout",
            "time_out",
            "inner-most.pw text",
            "inner-most.n",
            "inner-most.next.pw text",
            "tags",
            "more",
        ] {
            assert!(all.iter().any(|it| it == field), "{field}: {all:?}");
        }
        assert!(all.len() < MAX_PROBES, "{all:?}");
    }

    #[test]
    fn a_type_that_is_no_struct_has_one_field_without_a_name() {
        assert_eq!(shown::<u32>(), [""]);
        assert_eq!(shown::<Secret<String>>(), [" text"]);
        assert_eq!(shown::<Option<String>>(), [" text"]);
        assert_eq!(shown::<Duration>(), [""]);
        assert_eq!(shown::<Vec<String>>(), [""]);
    }
}
