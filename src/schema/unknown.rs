//! Keys that nobody declared.

use std::fmt;
use std::sync::Arc;

use crate::error::Plain;
use crate::schema::Schema;
use crate::tree::diff;
use crate::tree::snapshot::{Found, Generation, distance};
use crate::value::Value;
use crate::value::key::Key;
use crate::value::map::Entry;
use crate::value::origin::Origin;

/// For as many undeclared keys the nearest declared one is looked for: help for a person.
const MAX_HELPED: usize = 1_000;

/// A key under a strict prefix that the schema does not declare; its value is not shown.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Unknown {
    /// The key.
    pub key: Key,
    /// Where it was written.
    pub origin: Option<Origin>,
    /// The declared key that may be meant.
    pub nearest: Option<Key>,
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not declared", Plain(self.key.as_str()))?;
        if let Some(near) = &self.nearest {
            write!(f, ", did you mean `{}`?", Plain(near.as_str()))?;
        }
        match &self.origin {
            Some(origin) => write!(f, " ({})", Plain(&origin.to_string())),
            None => Ok(()),
        }
    }
}

impl Schema {
    /// The undeclared keys of a generation under the strict prefixes, in order.
    pub(crate) fn unknown(&self, generation: &Generation) -> Vec<Unknown> {
        let undeclared = self.undeclared(generation).into_iter().enumerate();
        undeclared
            .map(|(at, (key, entry))| Unknown {
                nearest: (at < MAX_HELPED)
                    .then(|| self.nearest(key.as_str()).cloned())
                    .flatten(),
                origin: entry.node.origin().cloned(),
                key,
            })
            .collect()
    }

    pub(super) fn undeclared<'g>(&self, generation: &'g Generation) -> Vec<(Key, &'g Arc<Entry>)> {
        let mut all = Vec::new();
        // A prefix below another one is looked at with it.
        let outermost = self.strict.iter().filter(|prefix| {
            let mut others = self.strict.iter();
            !others.any(|other| other != *prefix && prefix.is_under(other))
        });
        for prefix in outermost {
            let mut look = |key: &str, entry: &'g Arc<Entry>| {
                if !self.declares(key, entry) {
                    all.extend(Key::parse(key).ok().map(|key| (key, entry)));
                }
            };
            let path = &mut prefix.as_str().to_owned();
            match Found::in_tree(&generation.root, prefix.as_str()) {
                Ok(Found::Root(table)) => table.walk(path, &mut look),
                Ok(Found::Entry(entry)) => match entry.node.table() {
                    Some(table) if !table.is_empty() => table.walk(path, &mut look),
                    _ => look(path, entry),
                },
                _ => {}
            }
        }
        all.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        all.dedup_by(|(a, _), (b, _)| a == b);
        all
    }

    pub(super) fn is_strict(&self, key: &Key) -> bool {
        self.strict.iter().any(|prefix| key.is_under(prefix))
    }

    /// Whether a leaf belongs to a declared key, or declared keys reach into it.
    pub(super) fn declares(&self, key: &str, entry: &Entry) -> bool {
        let mut place = key;
        loop {
            if self.fields.contains_key(place) {
                return true;
            }
            match place.rfind('.') {
                // In a quoted segment it is no key, and nothing is found there.
                Some(dot) => place = &place[..dot],
                None => break,
            }
        }
        let holds_more = match diff::value(&entry.node) {
            Some(value) => matches!(value, Value::List(_) | Value::Table(_)),
            None => entry.node.table().is_some(),
        };
        holds_more && self.below(key).next().is_some()
    }

    /// The declared key that is spelled most alike.
    pub(super) fn nearest(&self, key: &str) -> Option<&Key> {
        let most = (key.len() / 5).clamp(2, 3);
        self.fields
            .keys()
            .filter(|known| known.as_str().len().abs_diff(key.len()) <= most)
            .map(|known| (distance(known.as_str(), key), known))
            .filter(|(far, known)| *far <= most && *far < known.as_str().len().min(key.len()))
            .min()
            .map(|(_, known)| known)
    }
}
