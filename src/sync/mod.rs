//! Primitives for concurrency: those of std, or loom's models of them under `--cfg loom`; and [`Cell`],
//! the only wrapper around arc-swap.

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

#[cfg(not(loom))]
pub(crate) use std::thread::{self, JoinHandle, ThreadId};

#[cfg(not(loom))]
pub(crate) use lock::{Condvar, Mutex};

#[cfg(not(loom))]
pub(crate) use swapped::{Cached, Cell, Guard};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU8, AtomicU64, Ordering};

#[cfg(loom)]
pub(crate) use loom::thread::{self, JoinHandle, ThreadId};

#[cfg(loom)]
pub(crate) use modeled::{Cached, Cell, Condvar, Guard, Mutex};

use std::sync::Arc;
use std::time::Duration;

pub(crate) mod discard;
pub(crate) mod lock;
pub(crate) mod panics;
pub(crate) mod process;
pub(crate) mod random;
pub(crate) mod runner;

/// Waits for a notification, at most this long, and reports whether the time was over. May wake for
/// nothing.
#[cfg(not(loom))]
pub(crate) fn wait_or_time_out<T>(
    condvar: &Condvar,
    guard: &mut lock::MutexGuard<'_, T>,
    time: Duration,
) -> bool {
    condvar.wait_for(guard, time)
}

/// In a model the time is over at once, whatever other threads do meanwhile.
#[cfg(loom)]
pub(crate) fn wait_or_time_out<T>(
    condvar: &Condvar,
    guard: &mut modeled::MutexGuard<'_, T>,
    _: Duration,
) -> bool {
    condvar.time_out(guard);
    true
}

/// Something that owns a [`Cell`], so that a [`Cached`] view can keep the owner alive.
pub(crate) trait HasCell {
    /// The type of the value in the cell.
    type Content;

    fn cell(&self) -> &Cell<Self::Content>;
}

#[cfg(not(loom))]
mod swapped {
    use std::ops::Deref;

    use arc_swap::{ArcSwap, Cache};

    use super::{Arc, HasCell};

    /// A shared pointer that is read without a lock and replaced as a whole.
    ///
    /// A stored value is seen by every load that happens after the store returned, on any thread.
    #[derive(Debug)]
    pub(crate) struct Cell<T>(ArcSwap<T>);

    /// The value of a [`Cell`] at a load. Keep it short: a thread has cheap room for eight.
    pub(crate) type Guard<T> = arc_swap::Guard<Arc<T>>;

    impl<T> Cell<T> {
        pub(crate) fn new(value: Arc<T>) -> Self {
            Self(ArcSwap::new(value))
        }

        #[inline]
        pub(crate) fn load(&self) -> Guard<T> {
            self.0.load()
        }

        #[inline]
        pub(crate) fn full(&self) -> Arc<T> {
            self.0.load_full()
        }

        pub(crate) fn store(&self, value: Arc<T>) {
            self.0.store(value);
        }

        /// Stores a value and returns the one before.
        pub(crate) fn swap(&self, value: Arc<T>) -> Arc<T> {
            self.0.swap(value)
        }
    }

    /// A private copy of a cell's pointer, refreshed only when the cell has another value.
    #[derive(Debug)]
    pub(crate) struct Cached<O: HasCell>(Cache<CellOwner<O>, Arc<O::Content>>);

    /// The owner of a cell as a reference to the cell, for arc-swap's cache.
    #[derive(Debug)]
    struct CellOwner<O>(Arc<O>);

    impl<O: HasCell> Deref for CellOwner<O> {
        type Target = ArcSwap<O::Content>;

        #[inline]
        fn deref(&self) -> &Self::Target {
            &self.0.cell().0
        }
    }

    impl<O: HasCell> Cached<O> {
        pub(crate) fn new(owner: Arc<O>) -> Self {
            Self(Cache::new(CellOwner(owner)))
        }

        #[inline]
        pub(crate) fn load(&mut self) -> &O::Content {
            self.0.load()
        }
    }
}

#[cfg(loom)]
mod modeled {
    use std::fmt;
    use std::time::Duration;

    use loom::sync::atomic::{AtomicUsize, Ordering};

    use super::{Arc, HasCell};

    /// The model of the swap cell: an index, read and written through loom's atomics with the
    /// orderings arc-swap promises, into a list of all values ever stored. The list's own lock is
    /// invisible to loom and so orders nothing.
    pub(crate) struct Cell<T> {
        at: AtomicUsize,
        stored: std::sync::Mutex<Vec<Arc<T>>>,
    }

    pub(crate) type Guard<T> = Arc<T>;

    impl<T> Cell<T> {
        pub(crate) fn new(value: Arc<T>) -> Self {
            Self {
                at: AtomicUsize::new(0),
                stored: std::sync::Mutex::new(vec![value]),
            }
        }

        pub(crate) fn load(&self) -> Guard<T> {
            self.full()
        }

        pub(crate) fn full(&self) -> Arc<T> {
            self.numbered().1
        }

        /// The value and its number.
        fn numbered(&self) -> (usize, Arc<T>) {
            // ORDERING: arc-swap's load is an acquire; it pairs with the swap in `store`.
            let at = self.at.load(Ordering::Acquire);
            let stored = self.stored.lock().expect("never poisoned in a model");
            (at, Arc::clone(&stored[at]))
        }

        pub(crate) fn store(&self, value: Arc<T>) {
            drop(self.swap(value));
        }

        /// One access, as in arc-swap: behind a load of the same thread, loom would not look for
        /// the loads of other threads that this one changes.
        pub(crate) fn swap(&self, value: Arc<T>) -> Arc<T> {
            let at = {
                let mut stored = self.stored.lock().expect("never poisoned in a model");
                stored.push(value);
                stored.len() - 1
            };
            // ORDERING: arc-swap's store is a swap at least as strong as this.
            let before = self.at.swap(at, Ordering::AcqRel);
            let stored = self.stored.lock().expect("never poisoned in a model");
            Arc::clone(&stored[before])
        }
    }

    impl<T> fmt::Debug for Cell<T> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Cell")
        }
    }

    /// The model of arc-swap's cache: a relaxed load checks whether there is another value, and then
    /// the cell is loaded.
    #[derive(Debug)]
    pub(crate) struct Cached<O: HasCell> {
        owner: Arc<O>,
        at: usize,
        held: Arc<O::Content>,
    }

    impl<O: HasCell> Cached<O> {
        pub(crate) fn new(owner: Arc<O>) -> Self {
            let (at, held) = owner.cell().numbered();
            Self { owner, at, held }
        }

        pub(crate) fn load(&mut self) -> &O::Content {
            let cell = self.owner.cell();
            if cell.at.load(Ordering::Relaxed) != self.at {
                (self.at, self.held) = cell.numbered();
            }
            &self.held
        }
    }

    /// loom's mutex with the shape of parking_lot's.
    #[derive(Debug)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            MutexGuard {
                mutex: &self.0,
                held: Some(self.0.lock().expect("never poisoned in a model")),
            }
        }
    }

    impl<T: Default> Default for Mutex<T> {
        fn default() -> Self {
            Self::new(T::default())
        }
    }

    /// Holds the lock, except while [`Condvar::wait`] waits.
    pub(crate) struct MutexGuard<'a, T> {
        mutex: &'a loom::sync::Mutex<T>,
        held: Option<loom::sync::MutexGuard<'a, T>>,
    }

    impl<T> std::ops::Deref for MutexGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            self.held.as_ref().expect("held")
        }
    }

    impl<T> std::ops::DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.held.as_mut().expect("held")
        }
    }

    #[derive(Debug)]
    pub(crate) struct Condvar(loom::sync::Condvar);

    impl Default for Condvar {
        fn default() -> Self {
            Self(loom::sync::Condvar::new())
        }
    }

    impl Condvar {
        pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
            let held = guard.held.take().expect("held");
            guard.held = Some(self.0.wait(held).expect("never poisoned in a model"));
        }

        /// Time does not pass in a model: this waits for the notification.
        pub(crate) fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, _: Duration) {
            self.wait(guard);
        }

        /// Releases the lock, as waiting does, and locks it again at once.
        pub(super) fn time_out<T>(&self, guard: &mut MutexGuard<'_, T>) {
            drop(guard.held.take());
            guard.held = Some(guard.mutex.lock().expect("never poisoned in a model"));
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }

        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }
    }
}
