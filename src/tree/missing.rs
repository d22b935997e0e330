//! Adds to an error why a key is missing, and where a value that came by reference was written.

use serde::de::DeserializeOwned;

use crate::decode;
use crate::error::{Error, ErrorKind};
use crate::tree::diff;
use crate::tree::explain::{Absence, absence};
use crate::tree::similar_key::SimilarKey;
use crate::tree::snapshot::{Found, Generation};
use crate::value::Value;
use crate::value::key::{self, Key};
use crate::value::node::Node;
use crate::value::origin::Origin;

/// Limits the referred values that one error names.
const MAX_REFERRED: usize = 3;
/// Limits the references that are followed to the origin of a value.
const MAX_CHAIN: usize = 64;

/// The detail of an error about a key that no layer defines.
pub(crate) const UNDEFINED: &str = "not set: no layer defines it";

/// The key above a key.
fn parent(key: &str) -> Option<&str> {
    key::lineage(key).nth(1)
}

impl Generation {
    /// Adds to each missing key why it is missing: where it is unset, or which key may be meant.
    pub(crate) fn explain_missing(&self, error: Error) -> Error {
        if error.iter().nth(1).is_some() {
            let all = error.iter().cloned();
            return Error::all(all.map(|error| self.explain_missing(error)).collect());
        }
        let Some(missing) = error
            .key_text()
            .filter(|_| error.kind() == ErrorKind::NotFound)
        else {
            return error;
        };
        // The item is there, as null: no other key is meant.
        if error.detail() == Some(decode::NULL_ITEM) {
            return error;
        }
        let explained = |detail: String| {
            let explained = Error::new(ErrorKind::NotFound, detail).with_key_text(missing);
            // It names keys and quotes no value.
            let explained = explained.with_shareable_detail();
            match error.expected() {
                Some(wanted) => explained.with_expected(wanted),
                None => explained,
            }
        };
        if let Some(absent) = self.explain_absence(missing, error.origin(), &explained) {
            return absent;
        }
        // Below a key only a name with a dot tells more than the nearest name does: `"a.b"` is not `a.b`.
        let similar = self.similar_key(missing).or_else(|| {
            let below = self.similar_key_below(missing);
            below.filter(SimilarKey::has_dotted_name)
        });
        if let Some(similar) = similar {
            return similar.explain(missing, &error);
        }
        match self.nearest(missing) {
            Some(near) => explained(format!("{UNDEFINED}; did you mean `{near}`?")),
            None => explained(UNDEFINED.to_owned()),
        }
    }

    /// What to write in place of a key that no layer defines: the suggestion of
    /// [`explain_missing`](Self::explain_missing) alone.
    pub(crate) fn advice(&self, missing: &str) -> Option<String> {
        let similar = self.similar_key(missing);
        let nearest = || Some(format!("did you mean `{}`?", self.nearest(missing)?));
        similar.map(|similar| similar.advice()).or_else(nearest)
    }

    /// The error about a missing key that a layer mentions. `item_origin` is the origin of the list's item in
    /// which the key is missing.
    fn explain_absence(
        &self,
        missing: &str,
        item_origin: Option<&Origin>,
        explained: &dyn Fn(String) -> Error,
    ) -> Option<Error> {
        let found = Found::in_tree(&self.root, missing).ok()?;
        if !found.is_nothing() && !found.reads_as_unset() {
            return None;
        }
        match absence(self, missing).0 {
            Absence::Unset { key, origin } => {
                let with = (key.as_str() != missing).then(|| format!(" together with `{key}`"));
                let with = with.unwrap_or_default();
                let detail = format!("unset{with}, so values of weaker layers do not count");
                Some(explained(detail).with_origin(origin))
            }
            Absence::Hidden { key, origin } => {
                if let Some(layer) = self.layer_of_replaced_table(key.as_str(), missing) {
                    let detail = format!(
                        "not set: the value of `{key}` replaces the table of {layer}, which defines it"
                    );
                    return Some(explained(detail).with_origin(origin));
                }
                let item = item_origin.and_then(|at| Some((at, parent(missing)?)));
                Some(match item {
                    Some((at, item)) => {
                        explained(self.absence_in_item(item, missing)).with_origin(at)
                    }
                    None => explained(format!("{UNDEFINED} below the value of `{key}`"))
                        .with_origin(origin),
                })
            }
            Absence::NotKept { source } => {
                let detail = format!(
                    "has no value until {source} answers in full, as secrets are not kept on \
                     disk; see `Cached::with_secrets`"
                );
                Some(explained(detail))
            }
            Absence::NoCase { origin } => {
                let detail = "no case of the contextual value matches; add a case without `if`";
                Some(explained(detail.to_owned()).with_origin(origin))
            }
            Absence::Undefined => None,
        }
    }

    /// What is wrong with an item of a list that lacks a key, or with a text that is read as a table or names a
    /// variant without its content.
    fn absence_in_item(&self, item: &str, missing: &str) -> String {
        let value = match Found::in_tree(&self.root, item) {
            Ok(Found::Entry(entry)) => diff::value(&entry.node),
            Ok(Found::Inside(value, _)) => Some(value),
            _ => None,
        };
        let Some(scalar) = value.filter(|it| !matches!(it, Value::List(_) | Value::Table(_)))
        else {
            return format!("{UNDEFINED} in the item `{item}`");
        };
        let text = scalar
            .as_str()
            .map_or_else(|| scalar.to_string(), str::to_owned);
        let name = key::segments(missing).last().and_then(Result::ok);
        if name.is_some_and(|name| text.trim().eq_ignore_ascii_case(&name)) {
            return format!(
                "{UNDEFINED}: `{item}` names the variant alone; set `{missing}` in its place"
            );
        }
        format!("{UNDEFINED} in the value of `{item}`")
    }

    /// The name of the strongest layer that has a table at `above` in which `missing` has a value.
    fn layer_of_replaced_table(&self, above: &str, missing: &str) -> Option<&str> {
        let layer = self.layers.iter().find(|layer| {
            let in_layer = |key| Found::in_tree(&layer.root, key).unwrap_or(Found::Nothing);
            let is_table = matches!(in_layer(above), Found::Entry(at) if at.node.table().is_some());
            let found = in_layer(missing);
            is_table && !found.is_nothing() && !found.is_unset()
        })?;
        Some(&layer.name)
    }

    /// Adds to "mismatch" the key that the value refers to, and where that was written.
    pub(crate) fn explain_referred(&self, error: Error) -> Error {
        if error.iter().nth(1).is_some() {
            let all = error.iter().cloned();
            return Error::all(all.map(|error| self.explain_referred(error)).collect());
        }
        if error.kind() != ErrorKind::Mismatch {
            return error;
        }
        let found = error
            .key_text()
            .and_then(|key| Found::in_tree(&self.root, key).ok());
        let leaf = found.and_then(|found| found.leaf());
        let Some(Node::Resolved(resolved)) = leaf.map(|entry| &entry.node) else {
            return error;
        };
        // The keys of a contextual value are those of its conditions as well.
        if resolved.raw.value.cases().is_some() {
            return error;
        }
        // In `${a.${secret}}` the secret is a part of the key's name.
        if self.refers_to_secret(resolved) {
            return error;
        }
        let places: Vec<String> = resolved
            .refers
            .iter()
            .filter_map(|key| self.written_at(key))
            .take(MAX_REFERRED)
            .collect();
        if places.is_empty() {
            return error;
        }
        error.with_note(&format!("the value comes from {}", places.join(" and ")))
    }

    /// The key at the end of a chain of plain references, and where its value was written.
    fn written_at(&self, key: &Key) -> Option<String> {
        let mut key = key.clone();
        for _ in 0..MAX_CHAIN {
            let entry = Found::in_tree(&self.root, key.as_str()).ok()?.leaf()?;
            match &entry.node {
                Node::Resolved(resolved) => match resolved.sole_target() {
                    Some(next) => key = next.clone(),
                    None => break,
                },
                _ => break,
            }
        }
        let found = Found::in_tree(&self.root, key.as_str()).ok()?;
        let origin = self.origin(key.as_str(), found)?;
        Some(format!("`{key}` ({origin})"))
    }

    /// As [`explain_missing`](Self::explain_missing) for a key that is read as a `T`. If that is a struct, also
    /// suggests a similar key for each of its fields.
    pub(crate) fn explain_missing_of<T: DeserializeOwned>(&self, key: &str, error: Error) -> Error {
        let is_absent = error.kind() == ErrorKind::NotFound && error.key_text() == Some(key);
        if !is_absent || self.similar_key(key).is_some() {
            return self.explain_missing(error);
        }
        // Read from an empty table, a struct misses each of its required fields, and any other type itself.
        let as_table = decode::from_table::<T>(key, None, true).map(drop);
        let fields = match &as_table {
            Ok(()) => Vec::new(),
            Err(errors) => errors.iter().filter_map(Error::key_text).collect(),
        };
        if fields.contains(&key) {
            return self.explain_missing(error);
        }
        let mut fields = fields.into_iter();
        let similar = fields.find_map(|field| self.similar_key(field));
        match similar.or_else(|| self.similar_key_below(key)) {
            Some(similar) => similar.explain(key, &error),
            None => self.explain_missing(error),
        }
    }
}
