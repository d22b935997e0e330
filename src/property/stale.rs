//! Handles that keep their last good value because a reference in their new value is unresolved.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};

use crate::error::Error;
use crate::property::draft::{AnySlot, Drafts};
use crate::value::key::Key;

/// A slot whose value could not be decoded, since a reference is unresolved.
#[derive(Clone)]
pub(crate) struct Stale {
    slot: Weak<dyn AnySlot>,
    pub(crate) key: Key,
    pub(crate) reason: Error,
}

impl Stale {
    pub(crate) fn new(slot: &Arc<dyn AnySlot>, key: Key, reason: Error) -> Self {
        Self {
            slot: Arc::downgrade(slot),
            key,
            reason,
        }
    }

    /// The address of the slot, which is unique while this lives.
    pub(crate) fn address(&self) -> usize {
        self.slot.as_ptr().cast::<()>() as usize
    }

    /// Whether a handle is left.
    pub(crate) fn is_alive(&self) -> bool {
        self.slot.strong_count() > 0
    }
}

impl fmt::Debug for Stale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stale")
            .field("key", &self.key)
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}

/// The stale slots of one engine, by address.
#[derive(Debug, Default)]
pub(crate) struct StaleSlots {
    slots: HashMap<usize, Stale>,
    /// How many the last pruning kept.
    kept: usize,
}

/// The slots that became stale through a commit, and those that recovered.
#[derive(Debug, Default)]
pub(crate) struct StaleChange {
    pub(crate) stale: Vec<Stale>,
    pub(crate) recovered: Vec<Stale>,
}

impl StaleChange {
    pub(crate) fn is_empty(&self) -> bool {
        self.stale.is_empty() && self.recovered.is_empty()
    }
}

impl StaleSlots {
    /// Notes what a commit published, and which slots it left as they were.
    pub(crate) fn commit(&mut self, published: &Drafts, stale: Vec<Stale>) -> StaleChange {
        let mut recovered = Vec::new();
        if !self.slots.is_empty() {
            let published = published.addresses();
            recovered.extend(published.filter_map(|address| self.slots.remove(&address)));
        }
        for one in &stale {
            self.slots.insert(one.address(), one.clone());
        }
        // So the cost of pruning is spread over the additions.
        if self.slots.len() > 2 * self.kept + 16 {
            self.slots.retain(|_, one| one.is_alive());
            self.kept = self.slots.len();
        }
        StaleChange { stale, recovered }
    }
}
