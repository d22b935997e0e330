//! Recognizes a fork of the process.
//!
//! A fork copies the memory of a process, and of its threads only the one that forks. A lock that
//! another thread held at the fork stays locked in the child for ever.

use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::sync::lock::{ignore_poison, unless_held};

/// The process that created something.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct ProcessId(u32);

impl ProcessId {
    pub(crate) fn current() -> Self {
        Self(std::process::id())
    }

    /// Whether the caller runs in this process. Costs a system call, so no read asks this.
    pub(crate) fn is_current(self) -> bool {
        self == Self::current()
    }
}

/// A lock that reads of properties take. No caller waits for it in a fork of its process.
///
/// The lock compares the process only if it is contended.
#[derive(Debug)]
pub(crate) struct ForkLock<T> {
    process: ProcessId,
    lock: RwLock<T>,
}

impl<T> ForkLock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self {
            process: ProcessId::current(),
            lock: RwLock::new(value),
        }
    }

    /// Whether the caller runs in the process that made the lock. Costs a system call.
    pub(crate) fn is_in_its_process(&self) -> bool {
        self.process.is_current()
    }

    /// Locks for reading; `None` in a fork where another thread writes, or wrote at the fork.
    #[inline]
    pub(crate) fn read(&self) -> Option<RwLockReadGuard<'_, T>> {
        unless_held(self.lock.try_read()).or_else(|| {
            let may_wait = self.is_in_its_process();
            may_wait.then(|| ignore_poison(self.lock.read()))
        })
    }

    /// Locks for writing; `None` in a fork where another thread holds the lock, or held it at the
    /// fork.
    pub(crate) fn write(&self) -> Option<RwLockWriteGuard<'_, T>> {
        unless_held(self.lock.try_write()).or_else(|| {
            let may_wait = self.is_in_its_process();
            may_wait.then(|| ignore_poison(self.lock.write()))
        })
    }
}

impl<T: Default> Default for ForkLock<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

#[cfg(all(test, not(loom)))]
impl<T: Default> ForkLock<T> {
    /// A lock that another process has made.
    pub(crate) fn of_another_process() -> Self {
        Self {
            process: ProcessId(0),
            lock: RwLock::default(),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_lock_of_another_process_can_be_locked_if_it_is_free_and_never_blocks() {
        let lock = ForkLock::<u32>::of_another_process();
        {
            let _first = lock.read();
            assert!(lock.read().is_some());
            assert!(lock.write().is_none());
        }
        let write = lock.write();
        assert!(write.is_some());
        assert!(lock.read().is_none() && lock.write().is_none());
    }
}
