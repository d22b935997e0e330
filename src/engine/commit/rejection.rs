//! Why a candidate is rejected, and which keys of an update led to that.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::engine::commit::CommitState;
use crate::error::Error;
use crate::tree::diff::LeafChange;
use crate::value::key::{Key, lineage};

/// A rule about the whole tree names at most so many changes.
const MAX_NAMED: usize = 4;
/// One rejection names at most so many keys.
pub(super) const MAX_CULPRITS: usize = 4096;

/// Why a candidate cannot be published.
pub(super) struct CandidateRejection {
    pub(super) error: Error,
    /// The changed keys that may have led to it.
    keys: Vec<Key>,
    /// Those of them that the error names; none if it names no single one.
    named: Vec<Key>,
    /// Those of them in the tables of the keys that the error names; none if it names no single one.
    beside: Vec<Key>,
}

impl CandidateRejection {
    /// All rejections as one error.
    pub(super) fn all(rejections: Vec<CandidateRejection>) -> Error {
        let errors = rejections.into_iter().map(|rejection| rejection.error);
        Error::all(errors.collect())
    }

    /// The rejection by a handle on these keys.
    pub(super) fn of_slot(error: Error, keys: &[Key], changes: &KeyIndex<'_>) -> Self {
        let (named, beside) = named(changes, &error, keys);
        Self {
            named,
            beside,
            keys: touching(changes, keys),
            error,
        }
    }

    /// A rejection of all these keys together.
    pub(super) fn together(error: Error, keys: Vec<Key>) -> Self {
        Self {
            error,
            keys,
            named: Vec::new(),
            beside: Vec::new(),
        }
    }

    /// Whether the error names all bad keys, and few.
    fn names_few(&self) -> bool {
        !self.named.is_empty() && self.error.iter().count() <= FEW && !self.error.is_partial()
    }
}

/// Of more bad keys than this at once, the tables around them are rejected: a decode names a few of many
/// bad values only, and each round decodes and merges again.
const FEW: usize = 4;

/// Which of the keys that led to a rejection are rejected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Scope {
    /// Those that the errors name, if these are few. The other keys of a struct may be good.
    Named,
    /// Those in the tables of the keys that the errors name.
    Beside,
    All,
}

impl CommitState {
    /// The keys of an update that led to a rejection, found by walking references back from the keys
    /// of the tree that changed. `own_key` returns the key of the update that sets a key of the tree.
    pub(super) fn culprits<'a>(
        &self,
        rejections: &'a [CandidateRejection],
        scope: Scope,
        own_key: impl Fn(&Key) -> Option<String>,
    ) -> Vec<String> {
        let mut culprits = Vec::new();
        let mut seen: BTreeSet<Key> = BTreeSet::new();
        let keys = |rejection: &'a CandidateRejection| match scope {
            Scope::Named if rejection.names_few() => &rejection.named,
            Scope::Named | Scope::Beside if !rejection.beside.is_empty() => &rejection.beside,
            _ => &rejection.keys,
        };
        let mut queue: Vec<Key> = rejections.iter().flat_map(keys).cloned().collect();
        while let Some(key) = queue.pop() {
            if !seen.insert(key.clone()) {
                continue;
            }
            match own_key(&key) {
                Some(culprit) => culprits.push(culprit),
                None => queue.extend(self.references.of(&key).iter().cloned()),
            }
        }
        culprits
    }
}

/// Names the changes that a rule about the whole tree has rejected: one error a key, for a few.
pub(super) fn with_changes<'a>(
    error: Error,
    changes: impl Iterator<Item = &'a LeafChange>,
) -> Error {
    let of = |change: &LeafChange| {
        let named = error.clone().with_key(&change.key);
        match change.new.as_ref().and_then(|new| new.node.origin()) {
            Some(origin) => named.with_origin(origin),
            None => named,
        }
    };
    let errors: Vec<Error> = changes.take(MAX_NAMED).map(of).collect();
    if errors.is_empty() {
        error
    } else {
        Error::all(errors)
    }
}

/// The changes at, above and below a slot's keys.
fn touching(changes: &KeyIndex<'_>, keys: &[Key]) -> Vec<Key> {
    let related = keys.iter().flat_map(|key| changes.related(key.as_str()));
    let touching: BTreeSet<&Key> = related.take(MAX_CULPRITS).collect();
    touching.into_iter().cloned().collect()
}

/// The changes at the keys that an error names, or below the nearest table above one in which
/// something changed, and those in the same tables. None if these are all changes of the slot, as
/// those in its own table are if more is wrong than the error lists.
fn named(changes: &KeyIndex<'_>, error: &Error, of_slot: &[Key]) -> (Vec<Key>, Vec<Key>) {
    let mut named: BTreeSet<&Key> = BTreeSet::new();
    let mut tables: BTreeSet<&str> = BTreeSet::new();
    let mut in_own_table = false;
    let is_of_slot = |key: &str| of_slot.iter().any(|of_slot| of_slot.as_str() == key);
    for one in error.iter() {
        let above = one.key_text().into_iter().flat_map(lineage);
        let mut above = above.take_while(|key| !is_of_slot(key));
        let Some(changed) = above.find(|key| changes.related(key).next().is_some()) else {
            return (Vec::new(), Vec::new());
        };
        named.extend(changes.related(changed).take(MAX_CULPRITS));
        let table = above.next();
        in_own_table |= table.is_none();
        tables.extend(table);
    }
    let owned = |keys: BTreeSet<&Key>| keys.into_iter().cloned().collect();
    if error.is_partial() && in_own_table {
        return (owned(named), Vec::new());
    }
    let beside = tables.iter().flat_map(|table| changes.related(table));
    let beside: BTreeSet<&Key> = beside.take(MAX_CULPRITS).chain(named.clone()).collect();
    (owned(named), owned(beside))
}

/// Keys in order, to find those at, above and below another key without looking at all of them.
pub(super) struct KeyIndex<'a>(BTreeMap<&'a str, &'a Key>);

impl<'a> KeyIndex<'a> {
    pub(super) fn new(keys: impl Iterator<Item = &'a Key>) -> Self {
        Self(keys.map(|key| (key.as_str(), key)).collect())
    }

    /// The keys that are this one, above it or below it.
    pub(super) fn related<'s>(&'s self, key: &'s str) -> impl Iterator<Item = &'a Key> + 's {
        let above = lineage(key).filter_map(|key| self.0.get(key).copied());
        let first = if key.is_empty() {
            String::new()
        } else {
            // Only keys below begin like this.
            format!("{key}.")
        };
        let all = (Bound::Included(first.as_str()), Bound::Unbounded);
        let below = self.0.range::<str, _>(all).map(|(_, key)| *key);
        let below = below.skip_while(move |found| key.is_empty() && found.is_root());
        above.chain(below.take_while(move |found| found.as_str().starts_with(&*first)))
    }
}
