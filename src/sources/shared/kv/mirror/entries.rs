//! The keys of a store with their last readable values and their faults, and the limits of both.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::error::{Error, ErrorKind};
use crate::format::MAX_DOCUMENT_BYTES;
use crate::sources::shared::kv::mirror::content::Content;
use crate::value::origin::Origin;
use crate::value::unread::Unread;

/// The bytes that a key counts besides its name and its value.
pub(crate) const KEY_BYTES: usize = 32;

/// The most bytes that single changes may add up to. It is more than an update may have, so that the
/// mirror notices without a reload when the store shrinks below the limit again.
pub(crate) const MAX_KEPT_BYTES: usize = 2 * MAX_DOCUMENT_BYTES;

/// The most keys of an update, because a small key takes some 700 bytes of memory.
pub(super) const MAX_KEYS: usize = 150_000;

/// The most keys that are kept, for the same reason as [`MAX_KEPT_BYTES`].
pub(crate) const MAX_KEPT_KEYS: usize = 2 * MAX_KEYS;

/// The bytes that a key counts without its value.
pub(super) fn key_cost(key: &str) -> usize {
    KEY_BYTES + key.len()
}

/// The last readable value of a key.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) revision: u64,
    pub(super) digest: u64,
    /// The bytes of the key and its value, as the limits count them.
    pub(super) bytes: usize,
    pub(super) content: Content,
}

/// The effect of a new fault.
pub(super) enum FaultChange {
    None,
    /// The key already had a fault with another text.
    Text,
    /// The key had no fault.
    Added,
}

/// The kept keys.
#[derive(Debug, Default)]
pub(super) struct Entries {
    /// The last readable values. The document omits those of keys in `faults`, because the properties may
    /// have rejected them.
    items: BTreeMap<Arc<str>, Item>,
    /// The faults of the newest values.
    faults: BTreeMap<Arc<str>, Error>,
    /// The keys of `faults` as a document names them; none if they have changed since.
    unread: Option<Unread>,
    /// The bytes of `items` and `faults`.
    bytes: usize,
    /// Whether a key was dropped because of a limit.
    is_incomplete: bool,
}

impl Entries {
    pub(super) fn item(&self, key: &str) -> Option<&Item> {
        self.items.get(key)
    }

    pub(super) fn key_value(&self, key: &str) -> Option<(&Arc<str>, &Item)> {
        self.items.get_key_value(key)
    }

    pub(super) fn items(&self) -> impl DoubleEndedIterator<Item = (&Arc<str>, &Item)> {
        self.items.iter()
    }

    pub(super) fn faults(&self) -> &BTreeMap<Arc<str>, Error> {
        &self.faults
    }

    pub(super) fn has_fault(&self, key: &str) -> bool {
        self.faults.contains_key(key)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &Arc<str>> {
        self.items.keys().chain(self.faults.keys())
    }

    /// The known keys with a prefix, readable or not.
    pub(super) fn keys_with_prefix(&self, prefix: &str) -> impl Iterator<Item = &str> {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let items = self.items.range::<str, _>(from).map(|(key, _)| &**key);
        let faults = self.faults.range::<str, _>(from).map(|(key, _)| &**key);
        let items = items.take_while(move |key| key.starts_with(prefix));
        items.chain(faults.take_while(move |key| key.starts_with(prefix)))
    }

    /// The name of a key, shared with its item if there is one.
    pub(super) fn shared_key(&self, key: &str) -> Arc<str> {
        let known = self.items.get_key_value(key);
        known.map_or_else(|| key.into(), |(key, _)| Arc::clone(key))
    }

    /// Keeps a value, unless that exceeds a limit; returns whether it is kept. A value that does not grow
    /// always fits.
    pub(super) fn insert(&mut self, key: Arc<str>, item: Item, limit: usize) -> bool {
        let old = self.items.get(&key).map_or(0, |item| item.bytes);
        let bytes = self.bytes - old + item.bytes;
        let is_full = old == 0 && self.count() >= MAX_KEPT_KEYS;
        if is_full || item.bytes > old && bytes > limit {
            self.is_incomplete = true;
            return false;
        }
        self.bytes = bytes;
        self.items.insert(key, item);
        true
    }

    pub(super) fn remove(&mut self, key: &str) {
        if let Some(item) = self.items.remove(key) {
            self.bytes -= item.bytes;
        }
    }

    /// Sets the fault of a key, unless a new one exceeds a limit.
    pub(super) fn set_fault(&mut self, key: Arc<str>, fault: Error, limit: usize) -> FaultChange {
        if let Some(old) = self.faults.get_mut(&key) {
            let is_same = old.to_string() == fault.to_string();
            *old = fault;
            return if is_same {
                FaultChange::None
            } else {
                FaultChange::Text
            };
        }
        let bytes = self.bytes + key_cost(&key);
        if self.count() >= MAX_KEPT_KEYS || bytes > limit {
            self.is_incomplete = true;
            return FaultChange::None;
        }
        self.bytes = bytes;
        self.unread = None;
        self.faults.insert(key, fault);
        FaultChange::Added
    }

    /// Removes the fault of a key; returns whether it had one.
    pub(super) fn clear_fault(&mut self, key: &str) -> bool {
        let had_fault = self.faults.remove(key).is_some();
        if had_fault {
            self.unread = None;
            self.bytes -= key_cost(key);
        }
        had_fault
    }

    /// The keys with a fault, as a document names them.
    pub(super) fn unread(&mut self, kind: &'static str) -> Unread {
        let unread = self.unread.get_or_insert_with(|| {
            let mut unread = Unread::default();
            for key in self.faults.keys() {
                unread.add_fragment(&Origin::new(kind, &**key));
            }
            unread
        });
        unread.clone()
    }

    /// The number of kept keys, readable or not.
    pub(super) fn count(&self) -> usize {
        self.items.len() + self.faults.len()
    }

    pub(super) fn is_incomplete(&self) -> bool {
        self.is_incomplete
    }

    /// Notes that the store is about to be read as a whole.
    pub(super) fn mark_complete(&mut self) {
        self.is_incomplete = false;
    }

    /// Whether the kept keys fit into an update.
    pub(super) fn fits(&self) -> bool {
        self.bytes <= MAX_DOCUMENT_BYTES && self.count() <= MAX_KEYS
    }

    pub(super) fn needs_reload(&self) -> bool {
        self.is_incomplete && self.fits()
    }

    /// The error of keys that exceed the limits.
    pub(super) fn too_large(&self, path: &str) -> Error {
        let more = if self.is_incomplete { "more than " } else { "" };
        let detail = if self.needs_reload() {
            format!("had too much below `{path}`; the source reads everything again")
        } else if self.count() > MAX_KEYS {
            format!(
                "has {more}{} keys below `{path}`, and {MAX_KEYS} is the limit; name a longer prefix, or \
                 put several values into one document",
                self.count(),
            )
        } else {
            format!(
                "has {more}{} bytes below `{path}`, names included, and {MAX_DOCUMENT_BYTES} is the limit",
                self.bytes,
            )
        };
        Error::new(ErrorKind::TooLarge, detail)
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}
