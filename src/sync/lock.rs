//! Locks that record which thread holds them: values that are [discarded](super::discard) under a lock
//! are dropped after its release.

use std::cell::Cell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{self, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use crate::sync::discard::{Deferral, Discarded};

/// A mutex whose holder defers what it discards.
///
/// It is that of `std`, and so are all blocking locks of this crate. `parking_lot` keeps the threads
/// that wait in a table of the process, with pointers to their stacks. A fork inherits the table and
/// none of the threads, so a lock or a condition variable made in the child may follow such a pointer.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(sync::Mutex::new(value))
    }

    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        let deferral = Deferral::begin();
        MutexGuard {
            guard: Some(ignore_poison(self.0.lock())),
            _deferral: deferral,
        }
    }

    /// Locks the mutex if no thread holds it.
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let deferral = Deferral::begin();
        Some(MutexGuard {
            guard: Some(unless_held(self.0.try_lock())?),
            _deferral: deferral,
        })
    }

    #[inline]
    pub(crate) fn get_mut(&mut self) -> &mut T {
        ignore_poison(self.0.get_mut())
    }
}

/// Ignores that a thread has panicked while it held the lock: no lock of this crate guards state that
/// is inconsistent in between.
#[inline]
pub(super) fn ignore_poison<G>(locked: Result<G, PoisonError<G>>) -> G {
    locked.unwrap_or_else(PoisonError::into_inner)
}

/// As [`ignore_poison`]; `None` if a thread holds the lock.
pub(super) fn unless_held<G>(locked: Result<G, TryLockError<G>>) -> Option<G> {
    match locked {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(guard)) => Some(guard.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// Holds a [`Mutex`].
#[derive(Debug)]
pub(crate) struct MutexGuard<'a, T> {
    // Dropped in this order: the lock is released before the values that waited for it are dropped.
    /// `None` only while a [`Condvar`] waits.
    guard: Option<sync::MutexGuard<'a, T>>,
    _deferral: Deferral,
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        match &self.guard {
            Some(guard) => guard,
            None => unreachable!("only a condition variable takes the guard, and puts it back"),
        }
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        match &mut self.guard {
            Some(guard) => guard,
            None => unreachable!("only a condition variable takes the guard, and puts it back"),
        }
    }
}

/// A condition variable for a [`Mutex`]. A notification that nobody waits for costs no system call.
#[derive(Debug, Default)]
pub(crate) struct Condvar {
    condvar: sync::Condvar,
    /// How many threads wait. A waiter counts itself while it holds the mutex. The thread that notifies
    /// has held the mutex since, to change the awaited state, and so sees the count.
    waiters: AtomicUsize,
}

impl Condvar {
    pub(crate) const fn new() -> Self {
        Self {
            condvar: sync::Condvar::new(),
            waiters: AtomicUsize::new(0),
        }
    }

    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let held = guard.guard.take();
        self.waiters.fetch_add(1, Ordering::Relaxed);
        guard.guard = held.map(|held| ignore_poison(self.condvar.wait(held)));
        self.waiters.fetch_sub(1, Ordering::Relaxed);
    }

    /// Waits for a notification, at most this long. Returns whether the time was over.
    pub(crate) fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, time: Duration) -> bool {
        let Some(held) = guard.guard.take() else {
            return false;
        };
        self.waiters.fetch_add(1, Ordering::Relaxed);
        let (held, outcome) = ignore_poison(self.condvar.wait_timeout(held, time));
        self.waiters.fetch_sub(1, Ordering::Relaxed);
        guard.guard = Some(held);
        outcome.timed_out()
    }

    /// Waits for a notification, at most until then. Returns whether the time was over.
    pub(crate) fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, until: Instant) -> bool {
        self.wait_for(guard, until.saturating_duration_since(Instant::now()))
    }

    pub(crate) fn notify_one(&self) {
        if self.is_awaited() {
            self.condvar.notify_one();
        }
    }

    pub(crate) fn notify_all(&self) {
        if self.is_awaited() {
            self.condvar.notify_all();
        }
    }

    fn is_awaited(&self) -> bool {
        self.waiters.load(Ordering::Relaxed) > 0
    }
}

/// A few addresses, by thread. It allocates nothing and needs no `Drop`, so that a thread-local one
/// works while the thread's other variables are dropped.
#[derive(Debug)]
pub(crate) struct Addresses(Cell<[usize; Self::MAX]>);

impl Addresses {
    /// The capacity.
    pub(crate) const MAX: usize = 8;

    pub(crate) const fn new() -> Self {
        Self(Cell::new([0; Self::MAX]))
    }

    pub(crate) fn contains(&self, address: usize) -> bool {
        self.0.get().contains(&address)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.get() == [0; Self::MAX]
    }

    /// Adds an address, which must not be 0; `false` if there is no room.
    #[must_use]
    pub(crate) fn insert(&self, address: usize) -> bool {
        self.replace(0, address)
    }

    pub(crate) fn remove(&self, address: usize) {
        self.replace(address, 0);
    }

    fn replace(&self, old: usize, new: usize) -> bool {
        let mut all = self.0.get();
        let Some(at) = all.iter().position(|one| *one == old) else {
            return false;
        };
        all[at] = new;
        self.0.set(all);
        true
    }
}

thread_local! {
    /// The commit locks that this thread holds.
    static COMMITS: Addresses = const { Addresses::new() };
    /// The commit locks of the properties that this thread builds.
    static BUILDS: Addresses = const { Addresses::new() };
}

/// Whether this thread is inside a commit: in a validator or a decoder, if the caller is user code.
///
/// Such a thread holds up all other commits of those properties, so no call of it waits for another
/// thread, whichever properties the call belongs to. Two rules ensure that:
///
/// - A call that waits for sources, callbacks or changes checks this first, and returns `Reentrant`.
/// - A call that commits locks a contended [`CommitLock`] only if the thread holds no other one. It
///   returns `Reentrant` otherwise, and withdraws a command that it has enqueued.
///
/// One exception is the lock of properties that the thread is [building](Building). Another is a command
/// that another thread has begun to commit: the call waits for its outcome. A thread begins to commit a
/// command before user code inside can enqueue another, so such threads never wait in a cycle.
pub(crate) fn is_committing() -> bool {
    COMMITS
        .try_with(|commits| !commits.is_empty())
        .unwrap_or(false)
}

/// Marks a commit lock as that of properties which this thread builds, for as long as this lives.
/// No other code has such properties yet: a thread that holds the lock runs one of their sources, and does
/// not wait for this thread.
#[derive(Debug)]
pub(crate) struct Building(usize);

impl Building {
    pub(crate) fn begin<T>(lock: &CommitLock<T>) -> Self {
        let address = lock.address();
        // Without capacity the lock counts as any other.
        let is_recorded = BUILDS.try_with(|builds| builds.insert(address));
        Self(if is_recorded == Ok(true) { address } else { 0 })
    }

    fn is_of(address: usize) -> bool {
        BUILDS
            .try_with(|builds| builds.contains(address))
            .unwrap_or(false)
    }
}

impl Drop for Building {
    fn drop(&mut self) {
        if self.0 != 0 {
            let _ = BUILDS.try_with(|builds| builds.remove(self.0));
        }
    }
}

/// The lock around a commit. It is the only lock under which user code runs, so it records the thread that
/// holds it.
#[derive(Debug)]
pub(crate) struct CommitLock<T>(sync::Mutex<T>);

/// Why a [`CommitLock`] cannot be locked on this thread.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum CannotLock {
    /// The thread holds this lock.
    IsHeld,
    /// The thread holds as many commit locks as it can count.
    TooManyNested,
    /// Another thread holds this lock, and this thread holds another commit lock.
    IsBusy,
}

impl<T> CommitLock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(sync::Mutex::new(value))
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Whether this thread holds the lock.
    pub(crate) fn is_held(&self) -> bool {
        COMMITS
            .try_with(|commits| commits.contains(self.address()))
            .unwrap_or(false)
    }

    /// Runs `f` under the lock. The second part of the result is what `f` discarded: the caller
    /// decides when it is dropped.
    ///
    /// Waits for another thread only as [`is_committing`] allows.
    pub(crate) fn with<R>(
        &self,
        f: impl FnOnce(&mut T) -> R,
    ) -> Result<(R, Discarded), CannotLock> {
        if self.is_held() {
            return Err(CannotLock::IsHeld);
        }
        let deferral = Deferral::begin();
        let outcome = {
            let may_wait = !is_committing() || Building::is_of(self.address());
            let _held = HeldCommitLock::new(self.address())?;
            let mut guard = if may_wait {
                ignore_poison(self.0.lock())
            } else {
                unless_held(self.0.try_lock()).ok_or(CannotLock::IsBusy)?
            };
            f(&mut guard)
        };
        Ok((outcome, deferral.end()))
    }

    /// As [`with`](Self::with), but `None` if any thread holds the lock.
    pub(crate) fn try_with<R>(&self, f: impl FnOnce(&mut T) -> R) -> Option<(R, Discarded)> {
        let deferral = Deferral::begin();
        let outcome = {
            let mut guard = unless_held(self.0.try_lock())?;
            let _held = HeldCommitLock::new(self.address()).ok()?;
            f(&mut guard)
        };
        Some((outcome, deferral.end()))
    }
}

/// Records that this thread holds a commit lock, or waits for it, until this is dropped.
struct HeldCommitLock(usize);

impl HeldCommitLock {
    fn new(address: usize) -> Result<Self, CannotLock> {
        match COMMITS.try_with(|commits| commits.insert(address)) {
            Ok(false) => Err(CannotLock::TooManyNested),
            // Without thread-local storage no thread can be known.
            Ok(true) | Err(_) => Ok(Self(address)),
        }
    }
}

impl Drop for HeldCommitLock {
    fn drop(&mut self) {
        let _ = COMMITS.try_with(|commits| commits.remove(self.0));
    }
}

impl fmt::Display for CannotLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IsHeld => f.write_str(
                "called from inside a validator or a decoder of the same properties, where nothing can be changed",
            ),
            Self::TooManyNested => write!(
                f,
                "validators or decoders of {} properties called each other; one chain may not reach further",
                Addresses::MAX
            ),
            Self::IsBusy => f.write_str(
                "called from inside a validator or a decoder, which may not wait, while another \
                 thread commits to these properties: call again after the commit",
            ),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_commit_lock_rejects_the_thread_that_holds_it_and_a_chain_that_is_too_long() {
        fn nest(locks: &[CommitLock<()>]) -> usize {
            let Some((first, rest)) = locks.split_first() else {
                return 0;
            };
            match first.with(|()| {
                assert_eq!(first.with(|()| ()).unwrap_err(), CannotLock::IsHeld);
                nest(rest)
            }) {
                Ok((depth, _)) => depth + 1,
                Err(error) => {
                    assert_eq!(error, CannotLock::TooManyNested);
                    0
                }
            }
        }
        let locks: Vec<_> = (0..Addresses::MAX + 1)
            .map(|_| CommitLock::new(()))
            .collect();
        assert_eq!(nest(&locks), Addresses::MAX);
        assert!(!is_committing());
    }

    #[test]
    fn a_commit_lock_that_another_thread_holds_rejects_a_thread_that_holds_another_one() {
        use std::sync::mpsc::channel;

        let (own, other) = (CommitLock::new(()), CommitLock::new(()));
        let (held, is_held) = channel();
        let (release, is_released) = channel::<()>();
        std::thread::scope(|scope| {
            let other = &other;
            scope.spawn(move || {
                let _ = other.with(|()| {
                    held.send(())?;
                    is_released
                        .recv()
                        .map_err(Box::<dyn std::error::Error>::from)
                });
            });
            is_held.recv().unwrap_or_default();
            let nested = own.with(|()| other.with(|()| ()).map(drop));
            assert_eq!(
                nested.map(|(rejected, _)| rejected),
                Ok(Err(CannotLock::IsBusy))
            );
            // The other thread is not waited for before it is released.
            let _building = Building::begin(other);
            let nested = own.with(|()| {
                drop(release);
                other.with(|()| ()).map(drop)
            });
            assert_eq!(nested.map(|(locked, _)| locked), Ok(Ok(())));
        });
        assert_eq!(
            own.with(|()| other.with(|()| ()).map(drop)).map(|it| it.0),
            Ok(Ok(()))
        );
    }
}
