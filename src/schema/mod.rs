//! What is declared of keys: types, ranges, what is required, what is secret.
//!
//! ```
//! use liveprops::{ErrorKind, Properties, Schema, sources::Memory};
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
//!     "`db.password`: required, and no layer defines it, wanted string",
//!     "`http.port`: not an integer, wanted u16, found text \"eighty\" (memory @ 0)",
//!     "`ratelimit.qps`: out of range, wanted 1..=10000, found text \"0\" (memory @ 0)",
//! ]);
//!
//! let source = Memory::from([("db.password", "hunter2"), ("http.port", "80"), ("http.prot", "81")]);
//! let props = Properties::builder().source(source.clone()).schema(schema).build()?;
//! assert_eq!(props.get::<u32>("ratelimit.qps")?, 100);
//! assert_eq!(props.unknown_keys()[0].to_string(), "`http.prot` is not declared, did you mean `http.port`? (memory @ 0)");
//!
//! let refused = source.set("http.port", 70_000).unwrap_err(); // later, too
//! assert_eq!(refused.key(), Some("http.port"));
//! assert_eq!(props.get::<u16>("http.port")?, 80);
//! # Ok::<(), liveprops::Error>(())
//! ```

mod check;
mod declaration;
mod json;
mod shape;
mod text;
mod unknown;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use serde_core::de::DeserializeOwned;

use crate::error::{Error, ErrorKind};
use crate::schema::declaration::Field;
use crate::tree::secrets::Secrets;
use crate::value::coerce;
use crate::value::document::Document;
use crate::value::key::Key;
use crate::value::origin::Origin;
use crate::value::secret::looks_secret;

pub use crate::schema::declaration::Declaration;
pub use crate::schema::unknown::Unknown;

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
    strict: Vec<Key>,
    deny_unknown: bool,
    /// What is wrong with the schema itself.
    faults: Vec<Error>,
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
        match self.fields.entry(key) {
            Entry::Vacant(place) => {
                place.insert(field);
            }
            Entry::Occupied(place) => {
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
            Ok(prefix) => self.strict.push(prefix),
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
        &self,
        defaults: &mut Document,
        secrets: &Secrets,
        faults: &mut Vec<Error>,
    ) {
        faults.extend(self.faults.iter().cloned());
        let origin = Origin::new("schema", "");
        let mut below = Document::new();
        for (key, field) in &self.fields {
            if field.secret {
                secrets.add(key.clone());
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

    /// Whether a key is declared by its own name.
    fn has(&self, key: &str) -> bool {
        self.fields.contains_key(key)
    }

    /// Whether what a key holds is not to be shown.
    fn hides(&self, key: &Key, field: &Field) -> bool {
        let mut above = key.lineage().filter_map(|place| self.fields.get(place));
        above.any(|field| field.secret)
            || looks_secret(key.as_str())
            || field.default.as_ref().is_some_and(coerce::holds_secret)
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schema")
            .field("keys", &self.fields.len())
            .field("strict", &self.strict)
            .finish_non_exhaustive()
    }
}
