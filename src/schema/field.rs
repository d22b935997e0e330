//! A declared key without its type: how its value is checked.

use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::decode::TypePath;
use crate::error::{Error, ErrorKind, MASK};
use crate::schema::Schema;
use crate::schema::rule::{Limit, Rule};
use crate::schema::shape::{Kind, Shape};
use crate::sync::discard::Discard;
use crate::sync::panics;
use crate::tree::quoted::without_secrets;
use crate::tree::snapshot::{Found, Generation};
use crate::value::Value;
use crate::value::hamt::Entry;
use crate::value::key::Key;
use crate::value::node::Node;
use crate::value::origin::Origin;
use crate::value::secret::{self, detect_secret_read};

/// A declared key whatever its type.
#[derive(Clone)]
pub(super) struct Field {
    pub(super) shape: Shape,
    pub(super) limits: Vec<Limit>,
    pub(super) default: Option<Value>,
    pub(super) required: bool,
    /// Whether the key is secret with all below it.
    pub(super) secret: bool,
    /// The keys below it at which the type, or the default, has secrets.
    pub(super) secret_keys: Vec<Key>,
    /// The paths at which the type has secrets whose names depend on the value.
    pub(super) secret_paths: Vec<TypePath>,
    /// Whether the default or an allowed value contains a secret.
    pub(super) reveals_secret: bool,
    pub(super) restart_required: bool,
    pub(super) deprecated: Option<String>,
    pub(super) description: String,
    pub(super) faults: Vec<DeclarationFault>,
    pub(super) check: Check,
}

/// An error of the declaration itself. Which of the texts is reported depends on whether its key is
/// hidden, and that is known when all keys are declared.
#[derive(Clone)]
pub(super) struct DeclarationFault {
    pub(super) plain: Error,
    pub(super) masked: Error,
}

/// Whether a key is hidden, computed for an error only.
pub(super) type IsHidden<'a> = &'a dyn Fn() -> bool;

/// Checks the value at a key; the generation is `None` for a default that is in no tree yet.
pub(super) type Check = Arc<
    dyn Fn(&str, Found<'_>, IsHidden<'_>, Option<&Generation>) -> Result<(), Error> + Send + Sync,
>;

impl Field {
    /// Adds a path in the type at which a secret is read.
    pub(super) fn add_secret_path(&mut self, key: &Key, mut path: TypePath) {
        // A list of secrets is one.
        while path.last().is_some_and(Option::is_none) {
            path.pop();
        }
        let names: Option<Vec<&str>> = path.iter().copied().collect();
        match names {
            Some(names) if names.is_empty() => self.secret = true,
            Some(names) => {
                let below = Key::from_segments(names).and_then(|below| key.join(&below));
                self.secret_keys.extend(below);
            }
            None => self.secret_paths.push(path),
        }
    }

    /// The error of a default that is not acceptable; the default is in no tree yet.
    pub(super) fn default_fault(&self, key: &Key, is_hidden: IsHidden<'_>) -> Option<Error> {
        let default = self.default.as_ref().filter(|value| !value.may_refer())?;
        let entry = Arc::new(Entry {
            name: "default".into(),
            node: Node::of(default.clone(), &origin()),
        });
        let is_hidden = || self.reveals_secret || is_hidden();
        self.check(key.as_str(), Found::Entry(&entry), &is_hidden, None)
            .err()
    }

    /// The error of the value at the key in a generation, if it is not acceptable.
    pub(super) fn fault(
        &self,
        key: &Key,
        generation: &Generation,
        schema: &Schema,
    ) -> Option<Error> {
        let found = match Found::in_tree(&generation.root, key.as_str()) {
            Ok(found) => found,
            Err(error) => return Some(error),
        };
        if !found.is_nothing() {
            let is_hidden = || generation.hides(key.as_str(), found);
            let verdict = self.check(key.as_str(), found, &is_hidden, Some(generation));
            // After a start from the cache, the secrets that other values refer to are missing.
            let is_fault = |error: &Error| self.required || !error.is_unresolved();
            return verdict.err().filter(is_fault);
        }
        self.required.then(|| self.missing(key, generation, schema))
    }

    /// The error of a required key that is absent, with the key that may be meant instead.
    fn missing(&self, key: &Key, generation: &Generation, schema: &Schema) -> Error {
        let mut detail = String::from("required, but no layer defines it");
        let below = || match self.shape.kind {
            Kind::Any => generation.similar_key_below(key.as_str()),
            _ => None,
        };
        let similar = generation.similar_key(key.as_str()).or_else(below);
        if let Some(similar) = similar.filter(|similar| !schema.has(similar.key.as_str())) {
            detail.push_str(&format!("; {}", similar.advice()));
        } else {
            let near = generation.nearest(key.as_str());
            if let Some(near) = near.filter(|near| !schema.has(near)) {
                detail.push_str(&format!(" (`{near}` is there)"));
            }
        }
        Error::new(ErrorKind::NotFound, detail)
            .with_key(key)
            .with_expected(self.shape.name.clone())
    }

    /// Decodes a value and runs the validators; both may be user code.
    fn check(
        &self,
        key: &str,
        found: Found<'_>,
        is_hidden: IsHidden<'_>,
        generation: Option<&Generation>,
    ) -> Result<(), Error> {
        let check = || (self.check)(key, found, is_hidden, generation);
        let (verdict, read_secret) = detect_secret_read(|| panics::catch(check));
        verdict.unwrap_or_else(|panic| {
            // The panic message may quote the value, or any part of it.
            let masked = read_secret || is_hidden() || holds_secret(found, generation);
            let message = if masked {
                MASK.to_owned()
            } else {
                without_secrets(panic.message(), generation.as_slice())
            };
            let error = Error::from_panic("a validator of the schema", &message);
            Err(located(error, key, found))
        })
    }
}

/// Decodes a value as the declared type and applies the rules.
pub(super) fn check_value<T: DeserializeOwned + 'static>(
    rules: &[Rule<T>],
    key: &str,
    found: Found<'_>,
    is_hidden: IsHidden<'_>,
    generation: Option<&Generation>,
) -> Result<(), Error> {
    let (value, read_secret) = detect_secret_read(|| match generation {
        Some(generation) => generation.decode_recording(key, found),
        None => found
            .decode(key, false.into())
            .or_else(|_| found.decode(key, is_hidden().into())),
    });
    let value: Discard<T> = Discard::new(value?);
    let broken = rules
        .iter()
        .find_map(|rule| Some((rule, rule.check(&value).err()?)));
    let Some((rule, reason)) = broken else {
        return Ok(());
    };
    let masked = read_secret || is_hidden();
    let reason = match &rule.limit {
        // The reason may quote the value, or any part of it.
        Limit::Named(_) if masked || holds_secret(found, generation) => {
            "rejected by a validator of the schema".to_owned()
        }
        Limit::Named(_) => without_secrets(&reason, generation.as_slice()),
        _ => reason,
    };
    let error = Error::new(ErrorKind::Rejected, reason);
    let error = error.with_expected(rule.limit.shown(masked));
    let error = match found.description(masked) {
        Some(shown) => error.with_found(shown),
        None => error,
    };
    Err(located(error, key, found))
}

/// Whether a part of a value looks secret, or was made from a secret.
fn holds_secret(found: Found<'_>, generation: Option<&Generation>) -> bool {
    let (Found::Entry(entry) | Found::Inside(_, entry) | Found::Broken(entry)) = found else {
        return false;
    };
    let mut derived = false;
    if let (Some(generation), Some(table)) = (generation, entry.node.table()) {
        table.walk(&mut String::new(), &mut |_, entry| {
            derived |= generation.derives_from_secret(entry);
        });
    }
    derived || secret::node_holds_secret(&entry.node)
}

fn located(error: Error, key: &str, found: Found<'_>) -> Error {
    let error = error.with_key_text(key);
    match found.origin() {
        Some(origin) => error.with_origin(origin),
        None => error,
    }
}

/// The origin of a default.
pub(super) fn origin() -> Origin {
    Origin::new("schema", "")
}
