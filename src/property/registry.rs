//! Which slots and subscribers are alive, by key.

use std::any::TypeId;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Weak};

use crate::error::Error;
use crate::property::batch::Mailbox;
use crate::property::slot::AnySlot;
use crate::property::subscription::Subscriber;
use crate::tree::diff::LeafChange;
use crate::tree::snapshot::Generation;
use crate::value::key::Key;

/// What a handle needs of the engine that keeps it current.
pub(crate) trait Host: Send + Sync {
    /// Calls `f` between two commits, with the current generation and the registry.
    fn between_commits(
        &self,
        f: &mut dyn FnMut(&Arc<Generation>, &mut Registry),
    ) -> Result<(), Error>;

    /// The generation that is visible as a whole.
    fn generation(&self) -> u64;

    /// Has a subscriber run.
    fn schedule(&self, subscriber: Arc<Subscriber>);

    /// How deep in a chain of callbacks the commit is that this thread is telling of.
    fn cause(&self) -> u32;

    /// Reports a callback that panicked outside the dispatcher.
    fn callback_panicked(&self, panic: Box<dyn std::any::Any + Send>);

    /// Keeps a subscriber, or what holds it, alive as long as the engine.
    fn keep(&self, holder: Arc<dyn std::any::Any + Send + Sync>);
}

/// A slot that may be shared, with what it takes to know that it fits.
pub(crate) struct Shared {
    pub(crate) kind: TypeId,
    pub(crate) slot: Weak<dyn AnySlot>,
    /// The same slot with its type, for the handle.
    pub(crate) typed: Weak<dyn std::any::Any + Send + Sync>,
}

/// All live slots and subscribers of one engine.
#[derive(Default)]
pub(crate) struct Registry {
    slots: HashMap<Key, Vec<Shared>>,
    /// The keys of slots that may reach into a list: those with a number in the path.
    into_lists: BTreeSet<Key>,
    mailboxes: Vec<Weak<Mailbox>>,
    added: usize,
}

impl Registry {
    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty() && self.mailboxes.is_empty()
    }

    /// The slots of a key, for finding one to share.
    pub(crate) fn at(&self, key: &Key) -> &[Shared] {
        self.slots.get(key).map_or(&[], Vec::as_slice)
    }

    /// Adds a slot under each of its keys.
    pub(crate) fn add(&mut self, keys: &[Key], mut make: impl FnMut() -> Shared) {
        for key in keys {
            let slots = self.slots.entry(key.clone()).or_default();
            slots.retain(|shared| shared.slot.strong_count() > 0);
            slots.push(make());
            if key
                .segments()
                .any(|segment| segment.bytes().all(|b| b.is_ascii_digit()))
            {
                self.into_lists.insert(key.clone());
            }
        }
        // Dead slots of keys that nobody asks for again go once as many were added as are kept, so
        // the cost of looking at all is spread over the additions.
        self.added += 1;
        if self.added > self.slots.len().max(64) {
            self.added = 0;
            self.sweep();
        }
    }

    fn sweep(&mut self) {
        self.slots.retain(|_, slots| {
            slots.retain(|shared| shared.slot.strong_count() > 0);
            !slots.is_empty()
        });
        let slots = &self.slots;
        self.into_lists.retain(|key| slots.contains_key(key));
        self.mailboxes.retain(|mailbox| mailbox.strong_count() > 0);
    }

    pub(crate) fn subscribe(&mut self, mailbox: Weak<Mailbox>) {
        if self.mailboxes.len() == self.mailboxes.capacity() {
            self.mailboxes.retain(|mailbox| mailbox.strong_count() > 0);
        }
        self.mailboxes.push(mailbox);
    }

    /// The subscribers to whole subtrees.
    pub(crate) fn mailboxes(&mut self) -> Vec<Arc<Mailbox>> {
        self.mailboxes.retain(|mailbox| mailbox.strong_count() > 0);
        self.mailboxes.iter().filter_map(Weak::upgrade).collect()
    }

    /// The slots that one change touches, each once over all calls with the same `seen`.
    pub(crate) fn touched(
        &self,
        change: &LeafChange,
        seen: &mut HashSet<*const ()>,
    ) -> Vec<Arc<dyn AnySlot>> {
        let mut touched = Vec::new();
        let mut take = |slots: &[Shared]| {
            for slot in slots.iter().filter_map(|shared| shared.slot.upgrade()) {
                if seen.insert(Arc::as_ptr(&slot).cast()) {
                    touched.push(slot);
                }
            }
        };
        for place in change.key.lineage() {
            if let Some(slots) = self.slots.get(place) {
                take(slots);
            }
        }
        if !self.into_lists.is_empty() && change.holds_list() {
            for key in self.into_lists.range(change.key.clone()..) {
                if !key.as_str().starts_with(change.key.as_str()) {
                    break;
                }
                if key.is_under(&change.key) {
                    take(self.at(key));
                }
            }
        }
        touched
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("keys", &self.slots.len())
            .finish_non_exhaustive()
    }
}
