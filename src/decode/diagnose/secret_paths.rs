//! Finds the fields of a type that are secrets, without a value: by running its `Deserialize`.
//!
//! [`secret_paths`] hands placeholders to the type and records each path at which it asks for a
//! [`Secret`](crate::Secret). It sees no fields that serde buffers; those are found by
//! [`secret_trials`](crate::decode::diagnose::secret_trials).

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer,
    MapAccess, SeqAccess, VariantAccess, Visitor,
};

use crate::decode::diagnose::fault::Fault;
use crate::decode::diagnose::placeholder::Placeholder;
use crate::decode::forward::{forward_fields_of_variant, forward_similar_methods};
use crate::sync::panics;
use crate::value::secret::SECRET_NAME;

/// A path inside a type; `None` stands for any index, or any name in a map.
pub(crate) type TypePath = Vec<Option<&'static str>>;

/// How deep recursive types are followed.
const MAX_NESTING: usize = 8;
/// How many paths of one type are visited.
const MAX_VISITED: usize = 2_000;
/// How often one type is deserialized.
const MAX_ROUNDS: usize = 200;

/// The paths at which a type reads a [`Secret`](crate::Secret).
///
/// A type that rejects a placeholder ends the whole struct. So the type is deserialized again without
/// the fields that are finished, until a round finishes no further path.
pub(crate) fn secret_paths<T: DeserializeOwned>() -> BTreeSet<TypePath> {
    secret_paths_with(drop::<T>)
}

/// As [`secret_paths`]; `discard` receives each value that the type made of placeholders.
pub(crate) fn secret_paths_with<T: DeserializeOwned>(discard: fn(T)) -> BTreeSet<TypePath> {
    // The type is user code, which may panic on placeholders.
    find_paths(&|finder| {
        drop(panics::catch(|| {
            T::deserialize(finder).map(discard).is_ok()
        }))
    })
}

/// Runs rounds of `deserialize` until one finishes no further path.
fn find_paths(deserialize: &dyn Fn(PathFinder<'_>)) -> BTreeSet<TypePath> {
    let progress = RefCell::new(Progress::default());
    for _ in 0..MAX_ROUNDS {
        let before = progress.borrow().finished.len();
        deserialize(PathFinder {
            progress: &progress,
            path: TypePath::new(),
        });
        let progress = progress.borrow();
        let is_stuck = progress.finished.len() == before;
        if is_stuck || progress.finished.contains(&TypePath::new()) {
            break;
        }
    }
    progress.into_inner().secrets
}

/// Whether a type is a [`Secret`](crate::Secret), an `Option` of one, or a wrapper of one.
pub(crate) fn is_secret_type<T: DeserializeOwned>() -> bool {
    let found = Cell::new(false);
    let _ = panics::catch(|| T::deserialize(SecretCheck(&found)).is_ok());
    found.get()
}

/// A deserializer without a value, which records whether the type asks for a secret first.
struct SecretCheck<'a>(&'a Cell<bool>);

/// The error of every request to [`SecretCheck`].
#[derive(Debug, thiserror::Error)]
#[error("no value")]
struct NoValue;

impl serde::de::Error for NoValue {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

impl<'de> Deserializer<'de> for SecretCheck<'_> {
    type Error = NoValue;

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, NoValue> {
        Err(NoValue)
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

/// What all rounds over one type have found.
#[derive(Default)]
struct Progress {
    secrets: BTreeSet<TypePath>,
    /// The paths at and below which no round finds anything new.
    finished: BTreeSet<TypePath>,
    visited: usize,
}

/// The deserializer at one path of a type.
#[derive(Clone)]
struct PathFinder<'a> {
    progress: &'a RefCell<Progress>,
    path: TypePath,
}

impl PathFinder<'_> {
    fn below(&self, name: Option<&'static str>) -> TypePath {
        self.path.iter().copied().chain([name]).collect()
    }

    fn descend(&self, name: Option<&'static str>) -> Result<Self, Fault> {
        let mut progress = self.progress.borrow_mut();
        progress.visited += 1;
        if self.path.len() >= MAX_NESTING || progress.visited > MAX_VISITED {
            let path = self.below(name);
            progress.finished.insert(path);
            return Err(Fault::custom("the type nests too deep"));
        }
        Ok(Self {
            progress: self.progress,
            path: self.below(name),
        })
    }

    fn is_finished(&self, name: Option<&'static str>) -> bool {
        self.progress.borrow().finished.contains(&self.below(name))
    }

    fn finish(&self) {
        let path = self.path.clone();
        self.progress.borrow_mut().finished.insert(path);
    }

    /// Finishes this path, and answers the request with a placeholder that most types accept.
    fn leaf(&self) -> Placeholder {
        self.finish();
        Placeholder::new(1)
    }

    /// Finishes this path if all paths below it are finished.
    fn finish_if_all<R>(&self, names: &[Option<&'static str>], outcome: R) -> R {
        if names.iter().all(|name| self.is_finished(*name)) {
            self.finish();
        }
        outcome
    }

    /// Answers a request for a table with the entries of these names that are not finished.
    fn entries<'de, V: Visitor<'de>>(
        self,
        names: &[Option<&'static str>],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let mut unfinished = names.to_vec();
        unfinished.retain(|name| !self.is_finished(*name));
        let outcome = visitor.visit_map(Entries {
            finder: self.clone(),
            names: unfinished.into_iter(),
            current: None,
        });
        self.finish_if_all(names, outcome)
    }
}

macro_rules! leaves {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            self.leaf().$method(visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for PathFinder<'_> {
    type Error = Fault;

    forward_similar_methods!();

    leaves! {
        deserialize_any deserialize_bool deserialize_char deserialize_str
        deserialize_bytes deserialize_unit deserialize_identifier
        deserialize_ignored_any deserialize_f32 deserialize_f64
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
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
        self.progress.borrow_mut().secrets.insert(self.path);
        visitor.visit_newtype_struct(leaf)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_tuple(1, visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Fault> {
        let items = Items {
            finder: self.clone(),
            left: len,
        };
        let outcome = visitor.visit_seq(items);
        self.finish_if_all(&[None], outcome)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.entries(&[None], visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let names: Vec<_> = fields.iter().copied().map(Some).collect();
        self.entries(&names, visitor)
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
            .find(|name| !self.is_finished(Some(name)));
        // An enum that is finished accepts any variant.
        let Some(name) = next.or(variants.first()).copied() else {
            return self.leaf().deserialize_unit(visitor);
        };
        let outcome = self.descend(Some(name)).and_then(|finder| {
            let chosen = Chosen { finder, name };
            visitor.visit_enum(chosen)
        });
        self.finish_if_all(&names, outcome)
    }
}

/// The items of a list or a tuple.
struct Items<'a> {
    finder: PathFinder<'a>,
    left: usize,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Fault> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(self.finder.descend(None)?).map(Some)
    }
}

/// The entries of a struct or a map.
struct Entries<'a> {
    finder: PathFinder<'a>,
    names: std::vec::IntoIter<Option<&'static str>>,
    current: Option<&'static str>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Fault;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Fault> {
        let Some(name) = self.names.next() else {
            return Ok(None);
        };
        self.current = name;
        let Some(name) = name else {
            return seed.deserialize(Placeholder::new(1)).map(Some);
        };
        let name: StrDeserializer<'_, Fault> = name.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        seed.deserialize(self.finder.descend(self.current)?)
    }
}

/// One variant of an enum.
struct Chosen<'a> {
    finder: PathFinder<'a>,
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
                self.finder.leaf();
                Err(fault)
            }
        }
    }
}

impl<'de> VariantAccess<'de> for Chosen<'_> {
    type Error = Fault;

    forward_fields_of_variant!(finder);

    fn unit_variant(self) -> Result<(), Fault> {
        self.finder.leaf();
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Fault> {
        seed.deserialize(self.finder)
    }
}
