//! A slot: the current value of one property, shared by all handles on it.
//!
//! The value lives in a swap cell as a [`Version`]; a value that fits a word is kept as bits beside
//! it, so that `get` costs one atomic load. Both are written by the commit alone, the cell first.

use std::fmt;
use std::sync::{Arc, Weak};

use crate::error::Error;
use crate::property::draft::AnySlot;
use crate::property::inline;
use crate::property::listen::Listener;
use crate::property::registry::{EngineRef, push_pruned};
use crate::property::rule::{Mapped, Rule};
use crate::property::version::Version;
use crate::sync::{AtomicU64, Cell, Guard, HasCell, Mutex, Ordering};
use crate::value::key::Key;

/// The current value of one property.
///
/// There may be as many slots as keys, so a slot is small: with its version, one of a number takes 128
/// bytes, and a default 64 more.
///
/// The fields that a commit writes come first, 32 bytes of 88. So no cache line of 64 bytes holds the
/// `bits` of one slot and a written field of another one.
#[repr(C)]
pub(crate) struct Slot<T> {
    /// The value as bits, if it fits; see [`inline`].
    bits: AtomicU64,
    pub(super) cell: Cell<Version<T>>,
    followers: Mutex<Option<Box<Followers>>>,
    engine: EngineRef,
    pub(crate) key: Key,
    pub(crate) rule: Rule<T>,
}

/// The listeners of a slot and the slots that are mapped from it; most slots have none.
#[derive(Default)]
struct Followers {
    listeners: Vec<Weak<dyn Listener>>,
    mapped_slots: Vec<Weak<dyn AnySlot>>,
}

impl<T> HasCell for Slot<T> {
    type Content = Version<T>;

    #[inline]
    fn cell(&self) -> &Cell<Version<T>> {
        &self.cell
    }
}

impl<T: Send + Sync + 'static> Slot<T> {
    /// Makes a slot that follows `parent`.
    pub(crate) fn mapped<P: Send + Sync + 'static>(
        parent: &Arc<Slot<P>>,
        mapped: Mapped<T>,
    ) -> Arc<Self> {
        let mut mapped = Some(mapped);
        let mut make = || {
            let now = parent.full();
            // After a panic here the closures are dropped by `mapped`, without the lock.
            let decoded = (mapped.as_ref()?.from_version)(&now)?;
            let version = Version::new(decoded, Arc::clone(&now.stamp));
            let mapped = mapped.take()?;
            Some(Self::with(
                parent.key.clone(),
                Rule::Map(Box::new(mapped)),
                Arc::clone(&parent.engine),
                version,
            ))
        };
        let mut slot = None;
        if let Some(engine) = parent.engine.upgrade() {
            // Between two commits, so that the child misses none that the parent gets.
            let _ = engine.between_commits(&mut |_, _| {
                slot = make();
                if let Some(slot) = &slot {
                    let child: Weak<Self> = Arc::downgrade(slot);
                    parent.add_mapped_slot(child);
                }
            });
        }
        // Without an engine nothing changes any more.
        match slot.or_else(make) {
            Some(slot) => slot,
            None => unreachable!("a mapping of a slot's own version always has a value"),
        }
    }

    pub(super) fn with(
        key: Key,
        rule: Rule<T>,
        engine: EngineRef,
        version: Version<T>,
    ) -> Arc<Self> {
        Arc::new(Self {
            bits: AtomicU64::new(inline::to_bits(&version.value).unwrap_or(0)),
            cell: Cell::new(Arc::new(version)),
            followers: Mutex::default(),
            engine,
            key,
            rule,
        })
    }

    /// The engine that updates this slot.
    pub(crate) fn engine(&self) -> &EngineRef {
        &self.engine
    }

    /// Whether the properties are closed, so that nothing changes any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.engine
            .upgrade()
            .is_none_or(|engine| engine.is_closed())
    }

    /// Loads the value from the bits, if its type fits a word.
    #[inline(always)]
    pub(crate) fn load_inline(&self) -> Option<T>
    where
        T: Clone,
    {
        // ORDERING: Acquire; pairs with the Release in `publish`.
        // Orders: a thread that sees the new bits also sees the cell that was stored before them, so a
        // `get` followed by a `versioned` never goes back. Weaker breaks exactly that on machines
        // that reorder loads; on x86 both are the same instruction. Stronger buys nothing.
        // Proof: property/models.rs, `the_cell_is_never_older_than_the_bits`.
        inline::from_bits(self.bits.load(Ordering::Acquire))
    }

    #[inline]
    pub(crate) fn load(&self) -> Guard<Version<T>> {
        self.cell.load()
    }

    #[inline]
    pub(crate) fn full(&self) -> Arc<Version<T>> {
        self.cell.full()
    }

    /// Rejects what needs other threads or locks in a fork of the engine's process.
    pub(crate) fn check_process(&self) -> Result<(), Error> {
        self.engine
            .upgrade()
            .map_or(Ok(()), |engine| engine.check_process())
    }

    /// The current version for a subscriber. `None` while its commit is not visible as a whole: that
    /// commit notifies all subscribers once it is.
    pub(crate) fn visible(&self) -> Option<Arc<Version<T>>> {
        let now = self.full();
        self.is_visible(&now).then_some(now)
    }

    /// Whether the generation that brought a version is in force.
    pub(crate) fn is_visible(&self, version: &Version<T>) -> bool {
        let engine = self.engine.upgrade();
        engine.is_none_or(|engine| version.generation() <= engine.generation())
    }

    /// Makes a version current. Only a commit calls this, one at a time.
    ///
    /// Returns the version before, since its drop is user code and has to wait.
    pub(crate) fn publish(&self, version: Arc<Version<T>>) -> Arc<Version<T>> {
        let bits = inline::to_bits(&version.value);
        let before = self.cell.swap(version);
        if let Some(bits) = bits {
            // ORDERING: Release; pairs with the Acquire in `load_inline`, see there.
            self.bits.store(bits, Ordering::Release);
        }
        before
    }

    /// Adds a listener and returns the version that is current at that moment. Each later change
    /// notifies the listener.
    pub(crate) fn listen(&self, listener: Weak<dyn Listener>) -> Arc<Version<T>> {
        if self.check_process().is_err() {
            // No commit follows, and the lock may be held for ever.
            return self.cell.full();
        }
        let mut followers = self.followers.lock();
        push_pruned(&mut followers.get_or_insert_default().listeners, listener);
        // Read under the lock that `collect_listeners` takes after publishing. A commit that takes the lock
        // before has published already and is seen here; one that takes it later finds the listener.
        // Proof: property/models.rs, `each_change_is_in_the_answer_or_notified`.
        self.cell.full()
    }

    /// Adds the listeners to those that the commit notifies, after the version was published.
    pub(super) fn collect_listeners(&self, notified: &mut Vec<Arc<dyn Listener>>) {
        if let Some(followers) = &mut *self.followers.lock() {
            followers
                .listeners
                .retain(|listener| match listener.upgrade() {
                    Some(listener) => {
                        notified.push(listener);
                        true
                    }
                    None => false,
                });
        }
    }

    fn add_mapped_slot(&self, slot: Weak<dyn AnySlot>) {
        let mut followers = self.followers.lock();
        push_pruned(&mut followers.get_or_insert_default().mapped_slots, slot);
    }

    /// The slots that are mapped from this one.
    pub(super) fn mapped_slots(&self) -> Vec<Arc<dyn AnySlot>> {
        match &*self.followers.lock() {
            Some(followers) => followers
                .mapped_slots
                .iter()
                .filter_map(Weak::upgrade)
                .collect(),
            None => Vec::new(),
        }
    }
}

impl<T> fmt::Debug for Slot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom), target_pointer_width = "64"))]
mod tests {
    use std::mem::{offset_of, size_of};

    use super::*;
    use crate::property::rule::Spec;

    #[test]
    fn a_slot_of_a_number_takes_128_bytes_with_its_version() {
        // An `Arc` has two counts before its content.
        let counts = 2 * size_of::<usize>();
        let slot = counts + size_of::<Slot<u32>>();
        let version = counts + size_of::<Version<u32>>();
        assert_eq!((slot, version), (88, 40));
        assert_eq!(size_of::<Spec<u32>>(), 64);
    }

    #[test]
    fn no_cache_line_has_a_written_field_of_one_slot_and_the_bits_of_another() {
        const LINE: usize = 64;
        let counts = 2 * size_of::<usize>();
        let written =
            counts + offset_of!(Slot<u32>, followers) + size_of::<Mutex<Option<Box<()>>>>();
        let next = counts + size_of::<Slot<u32>>() + counts + offset_of!(Slot<u32>, bits);
        // An allocation is aligned to 16 bytes.
        assert!(
            next.next_multiple_of(16) - written >= LINE,
            "{written} {next}"
        );
        assert_eq!(offset_of!(Slot<u32>, bits), 0);
    }
}
