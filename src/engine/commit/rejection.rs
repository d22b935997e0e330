//! Why a candidate is rejected, and which keys of an update led to that.

use std::collections::BTreeSet;
use std::ops::Bound;

use crate::engine::commit::CommitState;
use crate::error::Error;
use crate::sorted::SortedSet;
use crate::tree::diff::LeafChange;
use crate::value::key::{Key, lineage};

/// A rule about the whole tree names at most so many changes.
const MAX_NAMED: usize = 4;
/// One rejection names at most so many keys.
pub(super) const MAX_CULPRITS: usize = 4096;
/// Of more bad keys than this at once, the tables around them are rejected: a decode names a few of many
/// bad values only, and each round decodes and merges again.
const MAX_NAMED_BAD: usize = 4;

/// Why a candidate cannot be published.
pub(super) struct CandidateRejection {
    pub(super) error: Error,
    /// The changed keys that may have led to it.
    keys: Vec<Key>,
    suspects: Suspects,
}

/// The changed keys that the error of a rejection points to; none if it points to no single one.
#[derive(Default)]
struct Suspects {
    /// The keys that the error names.
    named: Vec<Key>,
    /// The keys in the same tables as these.
    beside: Vec<Key>,
}

impl CandidateRejection {
    /// All rejections as one error.
    pub(super) fn all(rejections: Vec<CandidateRejection>) -> Error {
        let errors = rejections.into_iter().map(|rejection| rejection.error);
        Error::all(errors.collect())
    }

    /// The rejection by a handle on these keys.
    pub(super) fn of_slot(error: Error, keys: &[Key], changes: &KeyIndex) -> Self {
        Self {
            suspects: Suspects::of_slot(&error, keys, changes),
            keys: touching(changes, keys),
            error,
        }
    }

    /// A rejection of all these keys together.
    pub(super) fn together(error: Error, keys: Vec<Key>) -> Self {
        Self {
            error,
            keys,
            suspects: Suspects::default(),
        }
    }

    /// Whether the error names all bad keys, and few.
    fn names_few(&self) -> bool {
        let named = &self.suspects.named;
        !named.is_empty() && self.error.iter().count() <= MAX_NAMED_BAD && !self.error.is_partial()
    }
}

/// Which of the keys that led to a rejection are rejected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Scope {
    /// Those that the errors name, if these are few. The other keys of a struct may be good.
    Named,
    /// Those in the same tables as the keys that the errors name.
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
            Scope::Named if rejection.names_few() => &rejection.suspects.named,
            Scope::Named | Scope::Beside if !rejection.suspects.beside.is_empty() => {
                &rejection.suspects.beside
            }
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
pub(super) fn naming_changes<'a>(
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
fn touching(changes: &KeyIndex, keys: &[Key]) -> Vec<Key> {
    let related = keys.iter();
    let related = related.flat_map(|key| changes.related(key.as_str(), MAX_CULPRITS));
    let touching: BTreeSet<Key> = related.take(MAX_CULPRITS).cloned().collect();
    touching.into_iter().collect()
}

impl Suspects {
    /// The changes that the error of a slot points to.
    ///
    /// An error may name a key without a change, such as a missing one. Then the nearest key above it that is
    /// related to a change counts in its place. If that is a key of the slot, the error points to no single
    /// change.
    fn of_slot(error: &Error, slot_keys: &[Key], changes: &KeyIndex) -> Self {
        let mut named: BTreeSet<Key> = BTreeSet::new();
        let mut tables: SortedSet<&str> = SortedSet::new();
        let mut in_own_table = false;
        let is_of_slot = |key: &str| slot_keys.iter().any(|slot_key| slot_key.as_str() == key);
        for one in error.iter() {
            let lineage = one.key_text().into_iter().flat_map(lineage);
            let mut inside_slot = lineage.take_while(|key| !is_of_slot(key));
            let Some(changed) = inside_slot.find(|key| changes.has_related(key)) else {
                return Self::default();
            };
            let related = changes.related(changed, MAX_CULPRITS);
            named.extend(related.into_iter().cloned());
            let table = inside_slot.next();
            in_own_table |= table.is_none();
            tables.extend(table);
        }
        // The keys that a partial error does not list may be anywhere in the table of the slot.
        let beside = if error.is_partial() && in_own_table {
            BTreeSet::new()
        } else {
            let beside = tables.iter();
            let beside = beside.flat_map(|table| changes.related(table, MAX_CULPRITS));
            let beside = beside.take(MAX_CULPRITS).cloned();
            beside.chain(named.iter().cloned()).collect()
        };
        Self {
            named: named.into_iter().collect(),
            beside: beside.into_iter().collect(),
        }
    }
}

/// Keys in order, to find those at, above and below another key without looking at all of them.
pub(super) struct KeyIndex(BTreeSet<Key>);

impl KeyIndex {
    pub(super) fn new<'a>(keys: impl Iterator<Item = &'a Key>) -> Self {
        Self(keys.cloned().collect())
    }

    /// Whether there is a key that is this one, above it or below it.
    pub(super) fn has_related(&self, key: &str) -> bool {
        !self.related(key, 1).is_empty()
    }

    /// The first keys that are this one, above it or below it: those above first, and at most this many.
    pub(super) fn related(&self, key: &str, most: usize) -> Vec<&Key> {
        let mut related: Vec<&Key> = lineage(key).filter_map(|key| self.0.get(key)).collect();
        let first = if key.is_empty() {
            String::new()
        } else {
            // Only keys below begin like this.
            format!("{key}.")
        };
        for found in self
            .0
            .range::<str, _>((Bound::Included(&*first), Bound::Unbounded))
        {
            if related.len() >= most || !found.as_str().starts_with(&*first) {
                break;
            }
            if !(key.is_empty() && found.is_root()) {
                related.push(found);
            }
        }
        related.truncate(most);
        related
    }
}
