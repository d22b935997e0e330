//! Adds to an error why a key is missing, and where a value that came by reference was written.

use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::decode;
use crate::error::{Error, ErrorKind};
use crate::tree::diff;
use crate::tree::explain::{Absence, absence};
use crate::tree::similar_key::SimilarKey;
use crate::tree::snapshot::{Found, Generation};
use crate::value::Value;
use crate::value::hamt::Entry;
use crate::value::key::{self, Key};
use crate::value::node::Node;
use crate::value::origin::Origin;

/// Limits the referred values that one error names.
const MOST_REFERRED: usize = 3;
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
        let spelled = self.similar_key(missing).or_else(|| {
            let below = self.similar_key_below(missing);
            below.filter(SimilarKey::has_dotted_name)
        });
        if let Some(spelled) = spelled {
            return spelled.explain(missing, &error);
        }
        match self.nearest(missing) {
            Some(near) => explained(format!("{UNDEFINED}; did you mean `{near}`?")),
            None => explained(UNDEFINED.to_owned()),
        }
    }

    /// What to write in place of a key that no layer defines, as the error of reading it says.
    pub(crate) fn advice(&self, missing: &str) -> Option<String> {
        let spelled = self.similar_key(missing);
        let nearest = || Some(format!("did you mean `{}`?", self.nearest(missing)?));
        spelled.map(|spelled| spelled.advice()).or_else(nearest)
    }

    /// The error about a missing key that a layer mentions. `beside` is where the item of a list was
    /// written that lacks it.
    fn explain_absence(
        &self,
        missing: &str,
        beside: Option<&Origin>,
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
                if let Some(layer) = self.replaced_table_with(key.as_str(), missing) {
                    let detail = format!(
                        "not set: the value of `{key}` replaces the table of {layer}, which defines it"
                    );
                    return Some(explained(detail).with_origin(origin));
                }
                let item = beside.and_then(|at| Some((at, parent(missing)?)));
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

    /// What is wrong with an item of a list, or with a text that is read as a table, that lacks a key.
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
    fn replaced_table_with(&self, above: &str, missing: &str) -> Option<&str> {
        let layer = self.layers.iter().find(|layer| {
            let in_layer = |key| Found::in_tree(&layer.root, key).unwrap_or(Found::Nothing);
            let is_table = matches!(in_layer(above), Found::Entry(at) if at.node.table().is_some());
            let found = in_layer(missing);
            is_table && !found.is_nothing() && !found.is_unset()
        })?;
        Some(&layer.name)
    }

    /// Adds to "mismatch" the key that the value was referred from, and where that was written.
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
        // The name of a key may be made of a secret.
        if self.refers_to_secret(resolved) {
            return error;
        }
        let sources: Vec<String> = resolved
            .refers
            .iter()
            .filter_map(|key| self.written_at(key))
            .take(MOST_REFERRED)
            .collect();
        if sources.is_empty() {
            return error;
        }
        error.with_note(&format!("the value comes from {}", sources.join(" and ")))
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

    /// The key with the most similar last name that is there: help for a person, so only the
    /// neighbours are looked at, and not all of a crowd.
    pub(crate) fn nearest(&self, key: &str) -> Option<String> {
        let key = Key::parse(key).ok()?;
        let path: Vec<_> = key.segments().collect();
        let mut table = &self.root;
        for (depth, wanted) in path.iter().enumerate() {
            if let Some(below) = table.get(wanted).and_then(|entry| entry.node.table()) {
                table = below;
                continue;
            }
            let letters = wanted.chars().count();
            // Every name of one letter is near every other.
            let most = (letters / 3).clamp(1, 2).min(letters.saturating_sub(1));
            let similar = |entry: &&Arc<Entry>| {
                let name = &*entry.name;
                let near = most > 0 && !name.is_empty();
                let near = near && name.chars().count().abs_diff(letters) <= most;
                // The name itself is there with another meaning, such as a tombstone.
                near.then(|| (strsim::osa_distance(name, wanted), name.to_owned()))
                    .filter(|(far, _)| (1..=most).contains(far))
            };
            let neighbours = table.map().iter().take(2_000);
            let (_, name) = neighbours.filter_map(|entry| similar(&entry)).min()?;
            let mut names: Vec<&str> = path.iter().map(AsRef::as_ref).collect();
            names[depth] = &name;
            let near = Key::from_segments(names).ok()?;
            let found = Found::in_tree(&self.root, near.as_str()).ok()?;
            return (!found.is_nothing()).then(|| near.to_string());
        }
        None
    }
}

impl Generation {
    /// As [`explain_missing`](Self::explain_missing) for a key that is read as a `T`: if that is a
    /// struct or a map, also the key that may be meant for one below.
    pub(crate) fn explain_missing_of<T: DeserializeOwned>(&self, key: &str, error: Error) -> Error {
        let is_absent = error.kind() == ErrorKind::NotFound && error.key_text() == Some(key);
        if !is_absent || self.similar_key(key).is_some() {
            return self.explain_missing(error);
        }
        // The missing fields of a table are below it.
        let as_table = decode::from_table::<T>(key, None, true).map(drop);
        let fields = match &as_table {
            Ok(()) => Vec::new(),
            Err(errors) => errors.iter().filter_map(Error::key_text).collect(),
        };
        if fields.contains(&key) {
            return self.explain_missing(error);
        }
        let mut fields = fields.into_iter();
        let spelled = fields.find_map(|field| self.similar_key(field));
        match spelled.or_else(|| self.similar_key_below(key)) {
            Some(spelled) => spelled.explain(key, &error),
            None => self.explain_missing(error),
        }
    }
}
