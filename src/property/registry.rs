//! The live slots and subscribers, by key.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Weak};

use crate::error::Error;
use crate::property::batch::Mailbox;
use crate::property::draft::AnySlot;
use crate::property::listen::Listener;
use crate::property::subscription::Subscriber;
use crate::sync::discard::discard;
use crate::sync::panics::Panicked;
use crate::tree::diff::LeafChange;
use crate::tree::snapshot::Generation;
use crate::value::key::Key;
use crate::value::scan;

/// The engine, as far as properties use it.
pub(crate) trait PropertyEngine: Send + Sync {
    /// Calls `f` between two commits, with the current generation and the registry.
    fn between_commits(
        &self,
        f: &mut dyn FnMut(&Arc<Generation>, &mut Registry),
    ) -> Result<(), Error>;

    /// The number of the generation in force.
    fn generation(&self) -> u64;

    /// Rejects what needs other threads or locks in a fork of the engine's process.
    fn check_process(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Remembers a key that is missing while a handle on it, or on the table there, is built.
    fn note_missing(&self, _key: &Key, _is_table: bool) {}

    /// Whether the keys that a handle reads are to be recorded.
    fn records_reads(&self) -> bool {
        false
    }

    /// Records the keys that a handle reads: its own, or those of the fields of a struct.
    fn note_read(&self, _keys: Vec<Key>) {}

    /// Queues a subscriber to run.
    fn schedule(&self, subscriber: Arc<Subscriber>);

    /// The depth, in a chain of callbacks, of the commit that this thread reports.
    fn cause(&self) -> u32;

    /// Reports a callback that panicked outside the dispatcher.
    fn callback_panicked(&self, panic: Panicked);

    /// Notifies a listener when the properties are closed.
    fn on_close(&self, listener: Weak<dyn Listener>);

    /// Whether the properties are closed, so that nothing changes any more.
    fn is_closed(&self) -> bool;

    /// Keeps a subscriber, or its owner, alive as long as the engine.
    fn keep(&self, holder: Arc<dyn std::any::Any + Send + Sync>);
}

/// A weak reference to an engine. Every slot has one, so it is a thin pointer.
pub(crate) type EngineRef = Arc<Weak<dyn PropertyEngine>>;

/// All live slots and subscribers of one engine.
///
/// There may be as many slots as keys, so an entry is small: 25 bytes at the hash of the key, and 33 with
/// the free capacity of a hash table. The key itself is in the slot.
#[derive(Default)]
pub(crate) struct Registry {
    slots: HashMap<u64, Slots, foldhash::fast::RandomState>,
    /// The keys of slots that may reach into a list: those with a number in the path.
    into_lists: BTreeSet<Key>,
    mailboxes: Vec<Weak<Mailbox>>,
    /// The slots that were added since the last pruning.
    added: usize,
    /// The hashes that the last pruning kept.
    kept: usize,
}

/// The minimum number of additions between two prunings.
const MIN_ADDED: usize = 64;

/// The slots at one hash; nearly always one.
enum Slots {
    One(Weak<dyn AnySlot>),
    #[allow(clippy::box_collection)] // a vector would make all the others larger
    Many(Box<Vec<Weak<dyn AnySlot>>>),
}

/// The addresses of the slots that were found so far: a list while there are few, as in most commits.
#[derive(Default)]
pub(crate) struct Seen {
    few: Vec<*const ()>,
    many: HashSet<*const (), foldhash::fast::RandomState>,
}

impl Seen {
    /// Adds an address; returns whether it is new.
    fn insert(&mut self, address: *const ()) -> bool {
        const FEW: usize = 8;
        if self.few.contains(&address) {
            return false;
        }
        if self.few.len() < FEW {
            self.few.push(address);
            return true;
        }
        self.many.insert(address)
    }
}

impl Slots {
    fn as_slice(&self) -> &[Weak<dyn AnySlot>] {
        match self {
            Slots::One(slot) => std::slice::from_ref(slot),
            Slots::Many(slots) => slots,
        }
    }

    fn push(&mut self, slot: Weak<dyn AnySlot>) {
        match self {
            Slots::One(one) if one.strong_count() == 0 => *one = slot,
            Slots::One(one) => *self = Slots::Many(Box::new(vec![Weak::clone(one), slot])),
            Slots::Many(slots) => push_pruned(slots, slot),
        }
    }

    /// Drops dead slots; returns whether any is left.
    fn prune(&mut self) -> bool {
        match self {
            Slots::One(slot) => slot.strong_count() > 0,
            Slots::Many(slots) => {
                prune(slots);
                match slots.as_slice() {
                    [] => return false,
                    [one] => *self = Slots::One(Weak::clone(one)),
                    _ => {}
                }
                true
            }
        }
    }
}

/// Drops the dead entries of a list, and capacity that few live ones do not need.
fn prune<T: ?Sized>(list: &mut Vec<Weak<T>>) {
    list.retain(|entry| entry.strong_count() > 0);
    if list.capacity() > 4 * list.len() {
        list.shrink_to(2 * list.len());
    }
}

/// Adds to a list of which entries die. A full list is pruned, and as many additions follow until
/// it is full again, so the cost of pruning is spread over the additions.
pub(crate) fn push_pruned<T: ?Sized>(list: &mut Vec<Weak<T>>, entry: Weak<T>) {
    if list.len() == list.capacity() {
        prune(list);
        list.reserve(list.len().max(1));
    }
    list.push(entry);
}

impl Registry {
    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty() && self.mailboxes.is_empty()
    }

    /// The live slots of a key, the newest first. The caller [discards](discard) each that it does
    /// not keep.
    pub(crate) fn at(&self, key: &str) -> impl Iterator<Item = Arc<dyn AnySlot>> {
        let slots = self.slots.get(&scan::hash(key.as_bytes()));
        slots
            .map_or(&[][..], Slots::as_slice)
            .iter()
            .rev()
            .filter_map(move |slot| {
                let slot = slot.upgrade()?;
                if slot.is_on(key) {
                    return Some(slot);
                }
                // This may be the last owner by now.
                discard(slot);
                None
            })
    }

    /// Adds a slot under each of its keys.
    pub(crate) fn add(&mut self, slot: &Arc<dyn AnySlot>) {
        for key in slot.keys() {
            self.slots
                .entry(scan::hash(key.as_str().as_bytes()))
                .and_modify(|slots| slots.push(Arc::downgrade(slot)))
                .or_insert_with(|| Slots::One(Arc::downgrade(slot)));
            if key
                .segments()
                .any(|segment| segment.bytes().all(|b| b.is_ascii_digit()))
            {
                self.into_lists.insert(key);
            }
        }
        // Dead slots of keys that nobody asks for again are dropped once as many were added as the
        // last pruning kept. So the cost of pruning is spread over the additions.
        self.added += 1;
        if self.added > self.kept.max(MIN_ADDED) {
            self.prune();
        }
    }

    fn prune(&mut self) {
        self.slots.retain(|_, slots| slots.prune());
        (self.added, self.kept) = (0, self.slots.len());
        if self.slots.capacity() > 4 * self.kept.max(MIN_ADDED) {
            self.slots.shrink_to(2 * self.kept);
        }
        let live = |key: &Key| {
            self.slots
                .contains_key(&scan::hash(key.as_str().as_bytes()))
        };
        self.into_lists.retain(live);
        prune(&mut self.mailboxes);
    }

    pub(crate) fn subscribe(&mut self, mailbox: Weak<Mailbox>) {
        push_pruned(&mut self.mailboxes, mailbox);
    }

    /// The subscribers to whole subtrees. The caller [discards](discard) each that it does not keep.
    pub(crate) fn mailboxes(&mut self) -> Vec<Arc<Mailbox>> {
        self.mailboxes.retain(|mailbox| mailbox.strong_count() > 0);
        self.mailboxes.iter().filter_map(Weak::upgrade).collect()
    }

    /// The slots that one change touches, each once over all calls with the same `seen`. The caller
    /// [discards](discard) each that it does not keep.
    pub(crate) fn touched(&self, change: &LeafChange, seen: &mut Seen) -> Vec<Arc<dyn AnySlot>> {
        let mut touched = Vec::new();
        let mut add = |key: &str| {
            for slot in self.at(key) {
                if seen.insert(Arc::as_ptr(&slot).cast()) {
                    touched.push(slot);
                } else {
                    discard(slot);
                }
            }
        };
        change.key.lineage().for_each(&mut add);
        if !self.into_lists.is_empty() && change.holds_list() {
            for key in self.into_lists.range(change.key.clone()..) {
                if !key.as_str().starts_with(change.key.as_str()) {
                    break;
                }
                if key.is_under(&change.key) {
                    add(key.as_str());
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
