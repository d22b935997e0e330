//! Maintains one document from the keys of a store, key by key.
//!
//! The document shares the unchanged part with its predecessor, so an update costs what changed. An
//! unreadable key affects no other key: the document omits and reports it, and the properties keep the
//! last value that they accepted.
//!
//! [`entries`] holds the keys and enforces the limits, [`content`] parses a value, [`assembly`] builds the
//! document, and [`update`] produces what the engine receives.

mod assembly;
mod content;
mod entries;
mod update;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::error::Error;
use crate::sources::shared::digest::Digest;
use crate::sources::shared::kv::mapping::Mapping;
use crate::sources::shared::kv::mirror::assembly::Assembly;
use crate::sources::shared::kv::mirror::content::Content;
use crate::sources::shared::kv::mirror::entries::{Entries, FaultChange, Item, key_cost};
use crate::sources::shared::kv::mirror::update::Unassembled;
use crate::value::origin::Origin;

#[allow(unused_imports)] // by some stores only
pub(crate) use entries::{KEY_BYTES, MAX_KEPT_BYTES, MAX_KEPT_KEYS};

/// One key of the store with its value.
#[derive(Clone, Debug)]
pub(crate) struct StoreEntry<'a> {
    pub(crate) key: &'a str,
    pub(crate) bytes: &'a [u8],
    pub(crate) revision: u64,
}

/// The current state of a store, as far as a source reads it.
#[derive(Debug)]
pub(crate) struct Mirror {
    mapping: Mapping,
    entries: Entries,
    assembly: Assembly,
    unassembled: Unassembled,
    digest: Digest,
    /// Whether the store has ever had one of the keys.
    had_key: bool,
}

impl Mirror {
    pub(crate) fn new(mapping: Mapping) -> Self {
        Self {
            entries: Entries::default(),
            assembly: Assembly::new(mapping.kind),
            unassembled: Unassembled::default(),
            digest: Digest::default(),
            had_key: false,
            mapping,
        }
    }

    /// The revision of a key's last readable value.
    #[allow(dead_code)] // by some stores only
    pub(crate) fn revision_of(&self, key: &str) -> Option<u64> {
        self.entries.item(key).map(|item| item.revision)
    }

    /// The known keys with this prefix, readable or not.
    #[allow(dead_code)] // by some stores only
    pub(crate) fn known_keys(&self, prefix: &str) -> Vec<&str> {
        self.entries.keys_with_prefix(prefix).collect()
    }

    /// Records that a key was set.
    #[allow(dead_code)] // by some stores only
    pub(crate) fn put(&mut self, entry: &StoreEntry<'_>) {
        self.put_within(entry, MAX_KEPT_BYTES);
    }

    /// Records that a key was set, unless more than `limit` bytes would be kept then.
    fn put_within(&mut self, entry: &StoreEntry<'_>, limit: usize) {
        let Some(target) = self.mapping.target(entry.key) else {
            return;
        };
        self.had_key = true;
        let key = self.entries.shared_key(entry.key);
        let origin = Origin::new(self.mapping.kind, entry.key).revision(entry.revision);
        let content =
            target.and_then(|target| Content::parse(&self.mapping, entry, target, &origin));
        match content {
            Err(fault) => {
                // A fault inside a document already has a line and a column.
                let fault = match fault.origin() {
                    None => fault.with_origin(&origin),
                    Some(_) => fault,
                };
                self.set_fault(key, fault, limit);
            }
            Ok(content) => {
                self.clear_fault(&key);
                let item = Item {
                    revision: entry.revision,
                    digest: self.digest.of(entry.bytes),
                    bytes: key_cost(&key) + entry.bytes.len(),
                    content,
                };
                if self.entries.insert(Arc::clone(&key), item, limit) {
                    self.mark_unsent(&key);
                }
            }
        }
    }

    /// Records that a key was deleted.
    pub(crate) fn delete(&mut self, key: &str) {
        self.clear_fault(key);
        self.mark_unsent(key);
        self.entries.remove(key);
    }

    /// Records that a key cannot be read: it keeps its last readable value.
    #[allow(dead_code)] // by some stores only
    pub(crate) fn reject(&mut self, key: &str, fault: Error) {
        if self.mapping.target(key).is_some() {
            let key = self.entries.shared_key(key);
            self.set_fault(key, fault, MAX_KEPT_BYTES);
        }
    }

    fn set_fault(&mut self, key: Arc<str>, fault: Error, limit: usize) {
        match self.entries.set_fault(Arc::clone(&key), fault, limit) {
            FaultChange::None => {}
            FaultChange::Text => self.unassembled.mark_problems(),
            FaultChange::Added => {
                self.mark_unsent(&key);
                self.unassembled.mark_problems();
            }
        }
    }

    fn clear_fault(&mut self, key: &str) {
        if self.entries.clear_fault(key) {
            self.mark_unsent(key);
            self.unassembled.mark_problems();
        }
    }

    /// Records that the next update must add the last readable value of a key, or remove it.
    fn mark_unsent(&mut self, key: &str) {
        match self.entries.key_value(key) {
            // A document may exclude any number of keys, or admit them again.
            Some((_, item)) if item.content.is_document() => self.unassembled.mark_all(),
            Some((key, _)) => self.unassembled.mark_key(key),
            None => {}
        }
    }

    /// Replaces the whole state.
    #[allow(dead_code)] // by some stores only
    pub(crate) fn replace<'a>(&mut self, all: impl IntoIterator<Item = StoreEntry<'a>>) {
        self.replace_except(all, |_| false);
    }

    /// Replaces the whole state, except that of skipped keys, which stays.
    pub(crate) fn replace_except<'a>(
        &mut self,
        all: impl IntoIterator<Item = StoreEntry<'a>>,
        is_skipped: impl Fn(&str) -> bool,
    ) {
        let known = self.entries.keys().filter(|key| !is_skipped(key));
        let mut removed: BTreeSet<Arc<str>> = known.cloned().collect();
        self.entries.mark_complete();
        for entry in all {
            removed.remove(entry.key);
            if !self.is_current(&entry) {
                // The reader of the store has already limited the size of what it read.
                self.put_within(&entry, usize::MAX);
            }
        }
        removed.iter().for_each(|key| self.delete(key));
    }

    /// Whether an entry is readable and known. A store that was reset may reuse a revision, so the digest
    /// counts as well.
    fn is_current(&self, entry: &StoreEntry<'_>) -> bool {
        let known = self.entries.item(entry.key);
        !self.entries.has_fault(entry.key)
            && known.is_some_and(|item| {
                item.revision == entry.revision && item.digest == self.digest.of(entry.bytes)
            })
    }

    /// Whether the store has to be read as a whole: the mirror dropped keys that exceeded its limits, and
    /// now they may fit. Until then [`update`](Self::update) fails.
    #[allow(dead_code)] // by some stores only
    pub(crate) fn needs_reload(&self) -> bool {
        self.entries.needs_reload()
    }
}

#[cfg(test)]
mod tests;
