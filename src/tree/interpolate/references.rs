//! The index of references: which leaf refers to which keys, and which leaves refer to a key.

use std::collections::{BTreeSet, HashMap};

use crate::value::key::Key;

/// The references of all leaves, by the leaf and by its targets.
#[derive(Debug, Default)]
pub(crate) struct ReferenceIndex {
    of: HashMap<Key, Vec<Key>>,
    /// The leaves that refer to a key.
    to: Dependents,
    /// The leaves that refer to something below a key.
    below: Dependents,
    /// The contextual values of which no case holds: weaker layers show in their place.
    passed_over: BTreeSet<Key>,
}

/// What one leaf refers to, after its references were followed.
#[derive(Debug)]
pub(crate) struct LeafReferences {
    pub(crate) leaf: Key,
    /// The keys it refers to; none if the index should forget the leaf.
    pub(crate) refers: Vec<Key>,
    /// Whether it is a contextual value of which no case holds.
    pub(crate) is_passed_over: bool,
}

impl LeafReferences {
    /// The leaf refers to nothing any more.
    pub(super) fn none(leaf: Key) -> Self {
        Self {
            leaf,
            refers: Vec::new(),
            is_passed_over: false,
        }
    }
}

/// The leaves that refer to each key, or to something below it.
#[derive(Debug, Default)]
struct Dependents(HashMap<Box<str>, BTreeSet<Key>>);

impl Dependents {
    fn add(&mut self, key: &str, leaf: &Key) {
        let leaves = self.0.entry(key.into()).or_default();
        leaves.insert(leaf.clone());
    }

    fn remove(&mut self, key: &str, leaf: &Key) {
        if let Some(leaves) = self.0.get_mut(key) {
            leaves.remove(leaf);
            if leaves.is_empty() {
                self.0.remove(key);
            }
        }
    }

    fn at(&self, key: &str) -> impl Iterator<Item = &Key> {
        self.0.get(key).into_iter().flatten()
    }
}

impl ReferenceIndex {
    /// Replaces what a leaf refers to; a leaf that refers to nothing is forgotten.
    pub(crate) fn set(&mut self, references: LeafReferences) {
        let LeafReferences {
            leaf,
            refers: keys,
            is_passed_over,
        } = references;
        for old in self.of.remove(&leaf).into_iter().flatten() {
            self.to.remove(old.as_str(), &leaf);
            for above in old.lineage().skip(1) {
                self.below.remove(above, &leaf);
            }
        }
        for key in &keys {
            self.to.add(key.as_str(), &leaf);
            for above in key.lineage().skip(1).filter(|above| !above.is_empty()) {
                self.below.add(above, &leaf);
            }
        }
        if is_passed_over {
            self.passed_over.insert(leaf.clone());
        } else {
            self.passed_over.remove(&leaf);
        }
        if !keys.is_empty() {
            self.of.insert(leaf, keys);
        }
    }

    /// Whether a leaf is a contextual value of which no case holds.
    pub(crate) fn is_passed_over(&self, leaf: &Key) -> bool {
        self.passed_over.contains(leaf)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    /// The keys a leaf refers to.
    pub(crate) fn of(&self, leaf: &Key) -> &[Key] {
        self.of.get(leaf).map_or(&[], Vec::as_slice)
    }

    /// The leaves that may read differently once `key` has changed.
    pub(super) fn dependents<'a>(&'a self, key: &'a Key) -> impl Iterator<Item = &'a Key> {
        // A reference may lead into a list, which is a leaf further up. A change further down may turn a key that
        // was absent, or was a value, into a table.
        let above = key.lineage().skip(1);
        self.to
            .at(key.as_str())
            .chain(self.below.at(key.as_str()))
            .chain(above.flat_map(|above| self.to.at(above)))
    }
}
