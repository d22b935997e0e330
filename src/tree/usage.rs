//! Which keys were ever read, if somebody wants to know.

use std::collections::BTreeSet;

use parking_lot::RwLock;

use crate::tree::snapshot::{Found, Generation};
use crate::value::key::Key;
use crate::value::node::Node;

/// The keys that were read, by whatever way: a table stands for all below it.
#[derive(Debug, Default)]
pub(crate) struct Usage(RwLock<BTreeSet<Key>>);

impl Usage {
    /// Notes that a key is read; it may be spelled in any way.
    pub(crate) fn note(&self, key: &str) {
        if self.0.read().contains(key) {
            return;
        }
        if let Ok(key) = Key::parse(key) {
            self.0.write().insert(key);
        }
    }
}

impl Generation {
    /// Notes that what was found at a key is read. What is not there is not noted: names that are
    /// made up on the way would add up.
    pub(crate) fn note(&self, key: &str, found: Found<'_>) {
        let Some(usage) = &self.usage else {
            return;
        };
        match found {
            Found::Nothing => {}
            Found::Root(_) | Found::Entry(_) => usage.note(key),
            Found::Inside(..) => {
                // The leaf that holds it counts as read.
                let key = Key::parse(key);
                let mut places = key.iter().flat_map(Key::lineage);
                let leaf = places
                    .find(|place| matches!(Found::in_tree(&self.root, place), Ok(Found::Entry(_))));
                if let Some(leaf) = leaf {
                    usage.note(leaf);
                }
            }
        }
    }

    /// The keys with a value that were never read, and that nothing that was read refers to.
    pub(crate) fn unused(&self) -> Vec<Key> {
        let Some(usage) = &self.usage else {
            return Vec::new();
        };
        let mut read = usage.0.read().clone();
        let mut leaves = Vec::new();
        self.root.walk(&mut String::new(), &mut |key, entry| {
            if entry.node.table().is_none() {
                leaves.extend(Key::parse(key).ok().map(|key| (key, entry)));
            }
        });
        loop {
            let (used, rest): (Vec<_>, Vec<_>) = leaves
                .into_iter()
                .partition(|(key, _)| key.lineage().any(|place| read.contains(place)));
            leaves = rest;
            let before = read.len();
            for (_, entry) in used {
                if let Node::Resolved(resolved) = &entry.node {
                    read.extend(resolved.refers.iter().cloned());
                }
            }
            if read.len() == before {
                break;
            }
        }
        let mut keys: Vec<Key> = leaves.into_iter().map(|(key, _)| key).collect();
        keys.sort_unstable();
        keys
    }
}
