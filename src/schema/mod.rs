//! Declares keys: their types, ranges and defaults, and which are required or secret.
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
//! let errors: Vec<String> = error.iter().map(ToString::to_string).collect();
//! assert_eq!(errors, [
//!     "`db.password`: required, but no layer defines it, expected string",
//!     "`http.port`: not an integer, expected u16, found text \"eighty\" (memory @ 0)",
//!     "`ratelimit.qps`: out of range, expected 1..=10000, found text \"0\" (memory @ 0)",
//! ]);
//!
//! let source = Memory::from([("db.password", "hunter2"), ("http.port", "80"), ("http.prot", "81")]);
//! let props = Properties::builder().source(source.clone()).schema(schema).build()?;
//! assert_eq!(props.get::<u32>("ratelimit.qps")?, 100);
//! assert_eq!(props.unknown_keys()[0].to_string(), "`http.prot` is not declared, did you mean `http.port`? (memory @ 0)");
//!
//! let rejected = source.set("http.port", 70_000).unwrap_err(); // later, too
//! assert_eq!(rejected.key().map(Key::as_str), Some("http.port"));
//! assert_eq!(props.get::<u16>("http.port")?, 80);
//! # Ok::<(), liveprops::Error>(())
//! ```

mod check;
mod declaration;
mod field;
mod json;
mod nearest;
mod rule;
mod shape;
mod text;
mod unknown;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, OnceLock};

use serde::de::DeserializeOwned;

use crate::decode::TypePath;
use crate::error::{Error, ErrorKind};
use crate::schema::field::{DeclarationFault, Field};
use crate::schema::nearest::{Lookalikes, Names};
use crate::schema::shape::Kind;
use crate::value::document::Document;
use crate::value::key::Key;
use crate::value::secret::Secrets;

pub use crate::schema::declaration::Declaration;
pub use crate::schema::unknown::{Deprecated, Unknown};

/// The keys that a program declares, with their types and rules; given to
/// [`Builder::schema`](crate::Builder::schema).
///
/// At the start one error reports everything that breaks the schema; see [`Error::iter`]. Later an
/// update that breaks it is rejected, key by key where the source allows that, and the old values stay.
/// A commit checks only the keys that it changes.
///
/// A schema is cheap to clone, and can be written as [text](Self::to_text) or as
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
    /// The errors of the schema itself.
    faults: Vec<Error>,
    /// The secret keys of the properties that use the schema.
    secrets: Secrets,
    /// Computed for the first undeclared key.
    names: OnceLock<Arc<Names>>,
}

impl Schema {
    /// A schema that declares nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins the declaration of a key that holds a `T`, for [`declare`](Self::declare).
    ///
    /// `T` may also be a struct or a map: then the key is a subtree, and all below it is declared.
    /// The declaration is the one place for the default of a declared key and to mark it as secret.
    pub fn key<T: DeserializeOwned + 'static>(key: &str) -> Declaration<T> {
        Declaration::new(key)
    }

    /// Adds a declared key.
    ///
    /// [`Builder::build`](crate::Builder::build) reports the errors of a declaration:
    /// [`ErrorKind::InvalidKey`] for a malformed key or one that is declared twice, and
    /// [`ErrorKind::Rejected`] or [`ErrorKind::Mismatch`] for a default that is not acceptable.
    pub fn declare<T: DeserializeOwned + 'static>(mut self, declaration: Declaration<T>) -> Self {
        match declaration.finish(&mut self.faults) {
            Some((key, field)) => self.put(key, field),
            None => self,
        }
    }

    fn put(mut self, key: Key, field: Field) -> Self {
        self.names = OnceLock::new();
        match self.fields.entry(key) {
            Entry::Vacant(entry) => {
                entry.insert(field);
            }
            Entry::Occupied(mut entry) => {
                // A secret of either declaration stays hidden.
                let first = entry.get_mut();
                first.secret |= field.secret;
                first.reveals_secret |= field.reveals_secret;
                first.secret_keys.extend(field.secret_keys);
                first.secret_paths.extend(field.secret_paths);
                let faults = field.faults.into_iter();
                self.faults.extend(faults.map(|fault| fault.masked));
                let detail = "declared twice in the schema";
                let fault = Error::new(ErrorKind::InvalidKey, detail).with_key(entry.key());
                self.faults.push(fault);
            }
        }
        self
    }

    /// Expects all keys under a prefix to be declared; the empty prefix is the whole tree.
    /// [`Properties::unknown_keys`](crate::Properties::unknown_keys) lists the ones that are not.
    pub fn strict(mut self, prefix: &str) -> Self {
        match Key::parse(prefix) {
            Ok(prefix) => drop(self.strict.insert(prefix)),
            Err(error) => self.faults.push(error),
        }
        self
    }

    /// Rejects undeclared keys under a [strict](Self::strict) prefix: at the start, and in each update.
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

    /// The keys that keep the value of the start.
    pub(crate) fn restart_required(&self) -> impl Iterator<Item = &Key> {
        let fields = self.fields.iter();
        fields.filter_map(|(key, field)| field.restart_required.then_some(key))
    }

    /// Adds the secret keys to those of the builder, and returns the defaults of the schema.
    ///
    /// Reports the errors of the schema itself.
    pub(crate) fn install(&mut self, secrets: &Secrets, faults: &mut Vec<Error>) -> Document {
        faults.extend(self.faults.iter().cloned());
        self.secret_keys()
            .into_iter()
            .for_each(|key| secrets.add(key));
        self.secrets = secrets.clone();
        self.hide_lookalikes(secrets);
        let origin = field::origin();
        let mut defaults = Document::new();
        for (key, field) in &self.fields {
            let is_hidden = || secrets.hides(key.as_str());
            if !field.faults.is_empty() {
                let masked = field.reveals_secret || is_hidden();
                let shown = |fault: &DeclarationFault| {
                    if masked {
                        fault.masked.clone()
                    } else {
                        fault.plain.clone()
                    }
                };
                faults.extend(field.faults.iter().map(shown));
            }
            if let Some(error) = field.default_fault(key, &is_hidden) {
                faults.extend(error.iter().cloned());
            }
            if let Some(default) = &field.default {
                if let Err(error) = defaults.set_key(key, default.clone(), &origin) {
                    faults.push(error);
                }
            }
        }
        defaults
    }

    /// The error of a key that is declared, if the builder sets what its declaration has to set.
    pub(crate) fn reject_declared(&self, key: &Key, instead: &str) -> Option<Error> {
        self.has(key.as_str()).then(|| {
            let detail = format!("declared in the schema: use `{instead}` there");
            Error::new(ErrorKind::InvalidKey, detail).with_key(key)
        })
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

    /// The keys that are secret by a declaration, a type or a default.
    fn secret_keys(&self) -> BTreeSet<Key> {
        let mut secret_keys = BTreeSet::new();
        for (key, field) in &self.fields {
            secret_keys.extend(field.secret.then(|| key.clone()));
            secret_keys.extend(field.secret_keys.iter().cloned());
            if field.secret_paths.is_empty() {
                continue;
            }
            let above = key.segments().count();
            for below in self.below(key.as_str()) {
                let names: Vec<_> = below.segments().skip(above).collect();
                let matches = |path: &TypePath| {
                    let mut steps = path.iter().zip(&names);
                    steps.all(|(wanted, name)| wanted.is_none_or(|wanted| wanted == name))
                };
                if field.secret_paths.iter().any(matches) {
                    secret_keys.insert(below.clone());
                }
            }
        }
        secret_keys
    }

    /// How much of a key is masked, given the [`secret_keys`](Self::secret_keys).
    fn masking(&self, secret_keys: &BTreeSet<Key>, key: &Key, field: &Field) -> Masking {
        let is_secret = key.lineage().any(|above| secret_keys.contains(above));
        // Also by the builder, or because it was read as a secret; both hide the keys above, too.
        let is_hidden = self.secrets.hides(key.as_str());
        if is_secret
            || self.secrets.looks_secret(key.as_str())
            || (is_hidden && field.shape.kind != Kind::Any)
        {
            return Masking::Whole;
        }
        let after = (Bound::Excluded(key.as_str()), Bound::Unbounded);
        // A key that sorts after another may begin with it and not be below it, such as `a-b` and `a`.
        let mut after = secret_keys
            .range::<str, _>(after)
            .take_while(|other| other.as_str().starts_with(key.as_str()));
        let has_secret_below =
            after.any(|other| other.is_under(key)) || self.looks_secret_below(key);
        if is_hidden || field.reveals_secret || has_secret_below {
            Masking::Part
        } else {
            Masking::None
        }
    }

    /// Whether a declared key below another one looks secret.
    fn looks_secret_below(&self, key: &Key) -> bool {
        self.below(key.as_str())
            .any(|below| self.secrets.looks_secret(below.as_str()))
    }
}

/// How much of a key is masked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Masking {
    None,
    /// A part of its values.
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
