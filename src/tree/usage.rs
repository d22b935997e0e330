//! Records which keys were read, to find unused ones.

use std::collections::BTreeSet;
use std::ops::Bound;

use crate::sync::process::ForkLock;
use crate::tree::snapshot::{Found, Generation};
use crate::value::key::Key;
use crate::value::node::Node;

/// The keys that were read. A table includes all keys below it.
#[derive(Debug, Default)]
pub(crate) struct Usage(ForkLock<BTreeSet<Key>>);

impl Usage {
    /// Records a key in any notation. Does nothing in a fork that cannot lock.
    pub(crate) fn record(&self, key: &str) {
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
    /// Records a key that was found. A missing key is not recorded, since a program may try any number of
    /// names.
    pub(crate) fn record_read(&self, key: &str, found: Found<'_>) {
        if let Some(usage) = self.usage.as_ref().filter(|_| !found.is_nothing()) {
            usage.record(key);
        }
    }

    /// Returns the keys with a value that were not read, and to which no read value refers.
    pub(crate) fn unused(&self) -> Vec<Key> {
        let read = self.usage.as_ref().and_then(|usage| usage.0.read());
        let Some(read) = read else {
            return Vec::new();
        };
        let mut read = BTreeSet::clone(&read);
        let mut unread = Vec::new();
        self.root.walk(&mut String::new(), &mut |key, entry| {
            if entry.node.table().is_none() {
                unread.extend(Key::parse(key).ok().map(|key| (key, entry)));
            }
        });
        // Each pass adds the targets of the references that were read.
        loop {
            let (used, rest): (Vec<_>, Vec<_>) =
                unread.into_iter().partition(|(key, _)| is_read(&read, key));
            unread = rest;
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
        let mut keys: Vec<Key> = unread.into_iter().map(|(key, _)| key).collect();
        keys.sort();
        keys
    }
}

/// Whether a key, one above it, or an item of the list at the key was read.
fn is_read(read: &BTreeSet<Key>, key: &Key) -> bool {
    let text = key.as_str();
    let mut items = read
        .range::<str, _>((Bound::Excluded(text), Bound::Unbounded))
        .take_while(|other| other.as_str().starts_with(text));
    key.lineage().any(|above| read.contains(above)) || items.any(|other| other.is_under(key))
}
