//! Finds the fields of a type that are secrets, without a value: by running its `Deserialize`.
//!
//! [`secret_paths`] hands placeholders to the type and records each path at which it asks for a
//! [`Secret`](crate::Secret). It sees no fields that serde buffers. It records where serde may buffer, and
//! [`secret_sites`](crate::decode::diagnose::secret_sites) finds out what the type reads there.

use std::cell::{Cell, RefCell};
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer,
    MapAccess, SeqAccess, VariantAccess, Visitor,
};

use crate::decode::Mask;
use crate::decode::deserializer::ValueDeserializer;
use crate::decode::diagnose::diagnosis::Diagnosis;
use crate::decode::diagnose::fault::Fault;
use crate::decode::diagnose::placeholder::Placeholder;
use crate::decode::forward::{forward_fields_of_variant, forward_similar_methods};
use crate::decode::input::Input;
use crate::decode::request::Request;
use crate::sorted::{SortedMap, SortedSet};
use crate::sync::panics;
use crate::value::Value;
use crate::value::secret::SECRET_NAME;

/// A path inside a type; `None` stands for any index, or any name in a map.
pub(crate) type TypePath = Vec<Option<&'static str>>;

/// How deep recursive types are followed.
const MAX_NESTING: usize = 8;
/// How many paths of one type are visited.
const MAX_VISITED: usize = 2_000;
/// How often one type is deserialized.
const MAX_ROUNDS: usize = 200;

/// What the `Deserialize` of a type shows of its secrets.
#[derive(Debug, Default)]
pub(crate) struct SecretPaths {
    /// The paths at which the type reads a [`Secret`](crate::Secret).
    pub(crate) secrets: SortedSet<TypePath>,
    /// The paths at and below which the type may read further secrets: serde may buffer the value there, or the
    /// type has rejected the placeholders before it had read all of it.
    pub(crate) sites: SortedMap<TypePath, SiteKind>,
}

/// What serde may buffer at a site.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum SiteKind {
    /// The value, of any kind.
    Any,
    /// The entries of a table: the struct may have flattened fields.
    Entries,
}

/// The paths at which a type reads a [`Secret`](crate::Secret).
///
/// A type that rejects a placeholder ends the whole struct. So the type is deserialized again without
/// the fields that are finished, until a round finishes no further path.
pub(crate) fn secret_paths<T: DeserializeOwned>() -> SortedSet<TypePath> {
    secret_paths_with(drop::<T>).secrets
}

/// As [`secret_paths`], with the sites; `discard` receives each value that the type made of placeholders.
pub(crate) fn secret_paths_with<T: DeserializeOwned>(discard: fn(T)) -> SecretPaths {
    // The type is user code, which may panic on placeholders.
    find_paths(&|finder| {
        drop(panics::catch(|| {
            T::deserialize(finder).map(discard).is_ok()
        }))
    })
}

/// Runs rounds of `deserialize` until one finishes no further path.
fn find_paths(deserialize: &dyn Fn(PathFinder<'_>)) -> SecretPaths {
    let progress = RefCell::new(Progress::default());
    for _ in 0..MAX_ROUNDS {
        let before = progress.borrow().finished.len();
        deserialize(PathFinder {
            progress: &progress,
            path: TypePath::new(),
            trial: None,
        });
        let progress = progress.borrow();
        let is_stuck = progress.finished.len() == before;
        if is_stuck || progress.finished.contains(&TypePath::new()) {
            break;
        }
    }
    progress.into_inner().found
}

/// A value that the type reads at one of its paths, and nothing else.
pub(crate) struct SiteTrial<'a> {
    pub(crate) site: &'a TypePath,
    pub(crate) value: &'a Value,
    pub(crate) diagnosis: &'a RefCell<Diagnosis>,
    /// Receives the keys that the type reads as secrets.
    pub(crate) secret_keys: &'a RefCell<Vec<String>>,
}

impl SiteTrial<'_> {
    /// Runs the `Deserialize` of a type. Its value is leaked: a `Drop` is user code.
    pub(super) fn run<T: DeserializeOwned>(&self) -> Result<(), Fault> {
        let progress = RefCell::new(Progress::default());
        let finder = PathFinder {
            progress: &progress,
            path: TypePath::new(),
            trial: Some(self),
        };
        T::deserialize(finder).map(std::mem::forget)
    }

    fn read<'de, R>(
        &self,
        read: impl FnOnce(ValueDeserializer<'_, 'de>) -> Result<R, Fault>,
    ) -> Result<R, Fault> {
        let input = Input::of_value(self.value);
        Request::new("", input, None, Mask::from(true))
            .recording_secrets(self.secret_keys)
            .substitute("", self.value)
            .read(Some(self.diagnosis), None, read)
    }
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
    found: SecretPaths,
    /// The paths at and below which no round finds anything new.
    finished: SortedSet<TypePath>,
    /// The paths of enums.
    enums: SortedSet<TypePath>,
    visited: usize,
}

/// The deserializer at one path of a type.
#[derive(Clone)]
struct PathFinder<'a> {
    progress: &'a RefCell<Progress>,
    path: TypePath,
    /// In a trial, only the path to its site is read.
    trial: Option<&'a SiteTrial<'a>>,
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
            trial: self.trial,
        })
    }

    /// The trial whose site is here.
    fn trial_here(&self) -> Option<&SiteTrial<'_>> {
        self.trial.filter(|trial| *trial.site == self.path)
    }

    /// In a trial, the name of the entry that leads to the site.
    fn name_on_the_way(&self) -> Option<Option<&'static str>> {
        self.trial?.site.get(self.path.len()).copied()
    }

    /// Records that the type may read secrets at or below a path that it does not show.
    fn add_site(&self, site: TypePath, kind: SiteKind) {
        let mut progress = self.progress.borrow_mut();
        progress.found.sites.get_or_insert_with(site, || kind);
    }

    /// Records a struct of two fields as a site if one may be the tag of an enum, and the other its content.
    fn add_if_tagged(&self, one: &'static str, other: &'static str) {
        let progress = self.progress.borrow();
        let is_tag = |name| progress.enums.contains(&self.below(Some(name)));
        let is_content = |name| progress.found.sites.contains_key(&self.below(Some(name)));
        let is_tagged = (is_tag(one) && is_content(other)) || (is_tag(other) && is_content(one));
        drop(progress);
        if is_tagged {
            self.add_site(self.path.clone(), SiteKind::Any);
        }
    }

    /// Records that serde may buffer the value here, or the table that it is an entry of.
    fn add_buffer(&self) {
        self.add_site(self.path.clone(), SiteKind::Any);
        if let Some((None, around)) = self.path.split_last() {
            self.add_site(around.to_vec(), SiteKind::Entries);
        }
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
        unfinished.retain(|name| match self.name_on_the_way() {
            Some(next) => next == *name,
            None => !self.is_finished(*name),
        });
        let outcome = visitor.visit_map(Entries {
            finder: self.clone(),
            names: unfinished.into_iter(),
            current: None,
        });
        self.finish_if_all(names, outcome)
    }
}

/// Reads the value of a trial whose site is here.
macro_rules! or_trial {
    ($self:ident . $method:ident ( $($arg:expr),* )) => {
        if let Some(trial) = $self.trial_here() {
            return trial.read(|de| de.$method($($arg),*));
        }
    };
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
        deserialize_bool deserialize_char deserialize_str
        deserialize_bytes deserialize_unit deserialize_ignored_any deserialize_f32 deserialize_f64
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        or_trial!(self.deserialize_any(visitor));
        self.add_buffer();
        self.leaf().deserialize_any(visitor)
    }

    /// Answers the request for the tag of an enum, whose content serde may buffer.
    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if let Some((_, around)) = self.path.split_last() {
            self.add_site(around.to_vec(), SiteKind::Any);
        }
        self.leaf().deserialize_identifier(visitor)
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
        self.progress.borrow_mut().found.secrets.insert(self.path);
        visitor.visit_newtype_struct(leaf)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        or_trial!(self.deserialize_seq(visitor));
        self.deserialize_tuple(1, visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Fault> {
        or_trial!(self.deserialize_tuple(len, visitor));
        let left = Cell::new(len);
        let items = Items {
            finder: self.clone(),
            left: &left,
        };
        let outcome = visitor.visit_seq(items);
        if left.get() > 0 {
            self.add_site(self.path.clone(), SiteKind::Any);
        }
        self.finish_if_all(&[None], outcome)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        or_trial!(self.deserialize_map(visitor));
        self.entries(&[None], visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        or_trial!(self.deserialize_struct(name, fields, visitor));
        let names: Vec<_> = fields.iter().copied().map(Some).collect();
        let outcome = self.clone().entries(&names, visitor);
        if let [one, other] = fields {
            self.add_if_tagged(one, other);
        }
        outcome
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let names: Vec<_> = variants.iter().copied().map(Some).collect();
        self.progress.borrow_mut().enums.insert(self.path.clone());
        let is_next = |name: &&&'static str| match self.name_on_the_way() {
            Some(next) => next == Some(**name),
            None => !self.is_finished(Some(**name)),
        };
        let next = names.iter().flatten().find(is_next);
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
    left: &'a Cell<usize>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Fault> {
        if self.left.get() == 0 {
            return Ok(None);
        }
        let item = seed.deserialize(self.finder.descend(None)?)?;
        self.left.set(self.left.get() - 1);
        Ok(Some(item))
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
            let key = seed.deserialize(Placeholder::new(1));
            if key.is_err() {
                self.finder
                    .add_site(self.finder.path.clone(), SiteKind::Any);
            }
            return key.map(Some);
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
