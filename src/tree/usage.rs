//! Which keys were ever read, if somebody wants to know.

use std::collections::BTreeSet;
use std::ops::Bound;

use crate::sync::process::ForkLock;
use crate::tree::snapshot::{Found, Generation};
use crate::value::key::Key;
use crate::value::node::Node;

/// The keys that were read, by whatever way: a table stands for all below it.
#[derive(Debug, Default)]
pub(crate) struct Usage(ForkLock<BTreeSet<Key>>);

impl Usage {
    /// Notes that a key is read; it may be spelled in any way. In a fork that cannot lock, it does
    /// nothing.
    pub(crate) fn note(&self, key: &str) {
        let Some(read) = self.0.read() else {
            return;
        };
        if read.contains(key) {
            return;
        }
        drop(read);
        if let (Ok(key), Some(mut read)) = (Key::parse(key), self.0.write()) {
            read.insert(key);
        }
    }
}

impl Generation {
    /// Notes that what was found at a key is read. What is not there is not noted: names that are
    /// made up on the way would add up.
    pub(crate) fn note(&self, key: &str, found: Found<'_>) {
        if let Some(usage) = self.usage.as_ref().filter(|_| !found.is_nothing()) {
            usage.note(key);
        }
    }

    /// The keys with a value that were never read, and that nothing that was read refers to.
    pub(crate) fn unused(&self) -> Vec<Key> {
        let read = self.usage.as_ref().and_then(|usage| usage.0.read());
        let Some(read) = read else {
            return Vec::new();
        };
        let mut read = BTreeSet::clone(&read);
        let mut leaves = Vec::new();
        self.root.walk(&mut String::new(), &mut |key, entry| {
            if entry.node.table().is_none() {
                leaves.extend(Key::parse(key).ok().map(|key| (key, entry)));
            }
        });
        loop {
            let (used, rest): (Vec<_>, Vec<_>) =
                leaves.into_iter().partition(|(key, _)| is_read(&read, key));
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

/// Whether a key was read, or one above it, or an item of the list that stands there.
fn is_read(read: &BTreeSet<Key>, key: &Key) -> bool {
    let text = key.as_str();
    let mut after = read
        .range::<str, _>((Bound::Excluded(text), Bound::Unbounded))
        .take_while(|other| other.as_str().starts_with(text));
    key.lineage().any(|place| read.contains(place)) || after.any(|other| other.is_under(key))
}
