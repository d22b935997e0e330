//! What is declared of keys: types, ranges, what is required, what is secret.
//!
//! ```
//! use liveprops::{ErrorKind, Key, Properties, Schema, sources::Memory};
//!
//! let schema = Schema::new()
//!     .declare(Schema::key::<u32>("ratelimit.qps").range(1..=10_000).default(100))
//!     .declare(Schema::key::<String>("db.password").required().secret())
//!     .declare(Schema::key::<u16>("http.port").required().restart_required())
//!     .strict("");
//!
//! let source = Memory::from([("ratelimit.qps", "0"), ("http.port", "eighty")]);
//! let error = Properties::builder()
//!     .source(source.clone())
//!     .schema(schema.clone())
//!     .build()
//!     .unwrap_err();
//! let told: Vec<String> = error.iter().map(ToString::to_string).collect();
//! assert_eq!(told, [
//!     "`db.password`: required, and no layer defines it, expected string",
//!     "`http.port`: not an integer, expected u16, found text \"eighty\" (memory @ 0)",
//!     "`ratelimit.qps`: out of range, expected 1..=10000, found text \"0\" (memory @ 0)",
//! ]);
//!
//! let source = Memory::from([("db.password", "hunter2"), ("http.port", "80"), ("http.prot", "81")]);
//! let props = Properties::builder().source(source.clone()).schema(schema).build()?;
//! assert_eq!(props.get::<u32>("ratelimit.qps")?, 100);
//! assert_eq!(props.unknown_keys()[0].to_string(), "`http.prot` is not declared, did you mean `http.port`? (memory @ 0)");
//!
//! let refused = source.set("http.port", 70_000).unwrap_err(); // later, too
//! assert_eq!(refused.key().map(Key::as_str), Some("http.port"));
//! assert_eq!(props.get::<u16>("http.port")?, 80);
//! # Ok::<(), liveprops::Error>(())
//! ```

mod check;
mod declaration;
mod json;
mod nearest;
mod shape;
mod text;
mod unknown;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, OnceLock};

use serde::de::DeserializeOwned;

use crate::decode::Way;
use crate::error::{Error, ErrorKind};
use crate::schema::declaration::{Fault, Field};
use crate::schema::nearest::{Lookalikes, Names};
use crate::schema::shape::Kind;
use crate::value::document::Document;
use crate::value::key::Key;
use crate::value::secret::Secrets;

pub use crate::schema::declaration::Declaration;
pub use crate::schema::unknown::{Deprecated, Unknown};

/// The keys a program knows, with their types and rules; given to
/// [`Builder::schema`](crate::Builder::schema).
///
/// At the start everything that breaks it is told in one error, see [`Error::iter`]; later an
/// update that breaks it is refused, key by key where the source allows that, and the old values
/// stay. Only the rules of keys that a commit has to do with are looked at.
///
/// It can be kept (it is cheap to clone) and written out as [text](Self::to_text) or as
/// [JSON Schema](Self::to_json_schema).
///
/// ```
/// use liveprops::Schema;
///
/// let schema = Schema::new()
///     .declare(Schema::key::<u32>("ratelimit.qps").range(1..=10_000).default(100));
/// assert!(schema.to_text().contains("1..=10000"));
/// ```
#[derive(Clone, Default)]
#[must_use = "a schema does nothing until it is given to a builder"]
pub struct Schema {
    fields: BTreeMap<Key, Field>,
    strict: BTreeSet<Key>,
    deny_unknown: bool,
    /// What is wrong with the schema itself.
    faults: Vec<Error>,
    /// What else is not to be shown: of a schema that is in use, all that its builder was told.
    secrets: Secrets,
    /// Made for the first undeclared key.
    names: OnceLock<Arc<Names>>,
}

impl Schema {
    /// A schema that declares nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins the declaration of a key that holds a `T`; [`declare`](Self::declare) takes it.
    ///
    /// `T` may also be a struct or a map: then the key is a subtree, and all below it is declared.
    pub fn key<T: DeserializeOwned + 'static>(key: &str) -> Declaration<T> {
        Declaration::new(key)
    }

    /// Adds a declared key.
    ///
    /// What is wrong with a declaration, such as a malformed key, a default that breaks its own
    /// rules or a key declared twice, is told when the properties are built.
    pub fn declare<T: DeserializeOwned + 'static>(mut self, declaration: Declaration<T>) -> Self {
        match declaration.finish(&mut self.faults) {
            Some((key, field)) => self.put(key, field),
            None => self,
        }
    }

    fn put(mut self, key: Key, field: Field) -> Self {
        self.names = OnceLock::new();
        match self.fields.entry(key) {
            Entry::Vacant(place) => {
                place.insert(field);
            }
            Entry::Occupied(mut place) => {
                // What one of them hides is not shown because of the other.
                let first = place.get_mut();
                first.secret |= field.secret;
                first.leaks |= field.leaks;
                first.marks.extend(field.marks);
                first.ways.extend(field.ways);
                let faults = field.faults.into_iter();
                self.faults.extend(faults.map(|fault| fault.masked));
                let detail = "declared twice in the schema";
                let fault = Error::new(ErrorKind::InvalidKey, detail).with_key(place.key());
                self.faults.push(fault);
            }
        }
        self
    }

    /// Wants all keys under a prefix to be declared; the empty prefix is the whole tree. Those that
    /// are not are listed by [`Properties::unknown_keys`](crate::Properties::unknown_keys).
    pub fn strict(mut self, prefix: &str) -> Self {
        match Key::parse(prefix) {
            Ok(prefix) => drop(self.strict.insert(prefix)),
            Err(error) => self.faults.push(error),
        }
        self
    }

    /// Makes an undeclared key under a [strict](Self::strict) prefix an error at the start, and an
    /// update that brings one a refused update.
    pub fn deny_unknown(mut self) -> Self {
        self.deny_unknown = true;
        self
    }

    /// Both schemas as one.
    pub(crate) fn and(mut self, other: Schema) -> Self {
        self.strict.extend(other.strict);
        self.deny_unknown |= other.deny_unknown;
        self.faults.extend(other.faults);
        other
            .fields
            .into_iter()
            .fold(self, |all, (key, field)| all.put(key, field))
    }

    /// The keys whose values take effect with the next start only.
    pub(crate) fn restart_required(&self) -> impl Iterator<Item = &Key> {
        let fields = self.fields.iter();
        fields.filter_map(|(key, field)| field.restart.then_some(key))
    }

    /// Adds the defaults of the schema below those of the program, names its secrets, and tells
    /// what is wrong with the schema itself.
    pub(crate) fn settle(
        &mut self,
        defaults: &mut Document,
        secrets: &Secrets,
        faults: &mut Vec<Error>,
    ) {
        faults.extend(self.faults.iter().cloned());
        self.marks().into_iter().for_each(|key| secrets.add(key));
        self.secrets = secrets.clone();
        self.hide_lookalikes(secrets);
        let origin = declaration::origin();
        let mut below = Document::new();
        for (key, field) in &self.fields {
            let hidden = || secrets.hides(key.as_str());
            if !field.faults.is_empty() {
                let masked = field.leaks || hidden();
                let told = |fault: &Fault| match masked {
                    true => fault.masked.clone(),
                    false => fault.open.clone(),
                };
                faults.extend(field.faults.iter().map(told));
            }
            if let Some(error) = field.fault_of_default(key, &hidden) {
                faults.extend(error.iter().cloned());
            }
            if let Some(default) = &field.default {
                if let Err(error) = below.set_key(key, default.clone(), &origin) {
                    faults.push(error);
                }
            }
        }
        below.merge(std::mem::take(defaults));
        *defaults = below;
    }

    /// Hides the keys that may be misspellings of declared secrets.
    fn hide_lookalikes(&self, secrets: &Secrets) {
        let declared: BTreeSet<Key> = self.fields.keys().cloned().collect();
        let secret = declared.iter().filter(|key| secrets.hides(key.as_str()));
        let secret = secret.cloned().collect();
        if let Some(lookalikes) = Lookalikes::of(declared, secret) {
            secrets.set_lookalikes(move |key| lookalikes.has(key));
        }
    }

    /// The declared keys.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.fields.keys()
    }

    /// Whether a key is declared by its own name.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.fields.contains_key(key)
    }

    /// The keys that are declared secret, by a declaration, a type or a default.
    fn marks(&self) -> BTreeSet<Key> {
        let mut marks = BTreeSet::new();
        for (key, field) in &self.fields {
            marks.extend(field.secret.then(|| key.clone()));
            marks.extend(field.marks.iter().cloned());
            if field.ways.is_empty() {
                continue;
            }
            let above = key.segments().count();
            for below in self.below(key.as_str()) {
                let names: Vec<_> = below.segments().skip(above).collect();
                let leads = |way: &Way| {
                    let mut steps = way.iter().zip(&names);
                    steps.all(|(wanted, name)| wanted.is_none_or(|wanted| wanted == name))
                };
                if field.ways.iter().any(leads) {
                    marks.insert(below.clone());
                }
            }
        }
        marks
    }

    /// How much of a key is not to be shown, given the [`marks`](Self::marks).
    fn veil(&self, marks: &BTreeSet<Key>, key: &Key, field: &Field) -> Veil {
        let marked = key.lineage().any(|place| marks.contains(place));
        // What the builder was told, and what was read as a secret; it hides what is above, too.
        let told = self.secrets.hides(key.as_str());
        if marked
            || self.secrets.looks_secret(key.as_str())
            || (told && field.shape.kind != Kind::Any)
        {
            return Veil::Whole;
        }
        let below = (Bound::Excluded(key.as_str()), Bound::Unbounded);
        // What sorts behind a key may begin with it and yet not be below it, such as `a-b` and `a`.
        let mut begin = marks
            .range::<str, _>(below)
            .take_while(|mark| mark.as_str().starts_with(key.as_str()));
        let inside = begin.any(|mark| mark.is_under(key)) || self.shows(key);
        match told || field.leaks || inside {
            true => Veil::Part,
            false => Veil::None,
        }
    }

    /// Whether a declared key below another one looks secret.
    fn shows(&self, key: &Key) -> bool {
        self.below(key.as_str())
            .any(|below| self.secrets.looks_secret(below.as_str()))
    }
}

/// How much of a key is not to be shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Veil {
    None,
    /// Something in its values.
    Part,
    Whole,
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schema")
            .field("keys", &self.fields.len())
            .field("strict", &self.strict)
            .finish_non_exhaustive()
    }
}
