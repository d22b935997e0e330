//! Which keys refer to which.

use std::collections::{BTreeSet, HashMap};

use crate::value::key::Key;

/// Which leaf refers to which keys, and the other way round.
#[derive(Debug, Default)]
pub(crate) struct References {
    of: HashMap<Key, Vec<Key>>,
    /// The leaves that refer to a key.
    to: Index,
    /// The leaves that refer to something below a key.
    below: Index,
    /// The contextual values of which no case holds: weaker layers show in their place.
    passed_over: BTreeSet<Key>,
}

/// What became of one leaf whose references were followed.
#[derive(Debug)]
pub(crate) struct Followed {
    pub(crate) leaf: Key,
    /// The keys it refers to; none if it is to be forgotten.
    pub(crate) refers: Vec<Key>,
    /// Whether it is a contextual value of which no case holds.
    pub(crate) is_passed_over: bool,
}

impl Followed {
    /// A leaf that refers to nothing any more.
    pub(super) fn forgotten(leaf: Key) -> Self {
        Self {
            leaf,
            refers: Vec::new(),
            is_passed_over: false,
        }
    }
}

#[derive(Debug, Default)]
struct Index(HashMap<Box<str>, BTreeSet<Key>>);

impl Index {
    fn add(&mut self, place: &str, leaf: &Key) {
        let leaves = self.0.entry(place.into()).or_default();
        leaves.insert(leaf.clone());
    }

    fn remove(&mut self, place: &str, leaf: &Key) {
        if let Some(leaves) = self.0.get_mut(place) {
            leaves.remove(leaf);
            if leaves.is_empty() {
                self.0.remove(place);
            }
        }
    }

    fn at(&self, place: &str) -> impl Iterator<Item = &Key> {
        self.0.get(place).into_iter().flatten()
    }
}

impl References {
    /// Replaces what a leaf refers to; a leaf that refers to nothing is forgotten.
    pub(crate) fn set(&mut self, followed: Followed) {
        let Followed {
            leaf,
            refers: keys,
            is_passed_over,
        } = followed;
        for old in self.of.remove(&leaf).into_iter().flatten() {
            self.to.remove(old.as_str(), &leaf);
            for place in old.lineage().skip(1) {
                self.below.remove(place, &leaf);
            }
        }
        for key in &keys {
            self.to.add(key.as_str(), &leaf);
            for place in key.lineage().skip(1).filter(|place| !place.is_empty()) {
                self.below.add(place, &leaf);
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
        // A reference may reach into a list, which is a leaf further up; and what was absent or a
        // value becomes a table through a change further down.
        let above = key.lineage().skip(1);
        self.to
            .at(key.as_str())
            .chain(self.below.at(key.as_str()))
            .chain(above.flat_map(|place| self.to.at(place)))
    }
}
