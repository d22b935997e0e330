//! Finds cycles of threads that wait for each other's callbacks.
//!
//! Each thread that runs callbacks has a [`Runner`], which records the callback that the thread waits for.
//! A thread records that first, and then follows the records from thread to thread. The last thread of a
//! cycle to record finds all other records, so at least one thread finds the cycle. The callbacks may belong
//! to any properties.

use std::cell::OnceCell;
use std::fmt;
use std::sync::Arc;

use crate::sync::{Mutex, ThreadId, thread};

/// Something that runs on one thread at a time, and whose end other threads wait for.
pub(crate) trait Awaited: Send + Sync {
    /// The thread on which it runs now.
    fn runner(&self) -> Option<Arc<Runner>>;
}

/// A thread that runs callbacks.
pub(crate) struct Runner {
    thread: ThreadId,
    /// The callback that the thread waits for.
    awaited: Mutex<Option<Arc<dyn Awaited>>>,
}

#[cfg(not(loom))]
thread_local! {
    /// The runner of this thread, from its first callback on.
    static CURRENT: OnceCell<Arc<Runner>> = const { OnceCell::new() };
}

#[cfg(loom)]
loom::thread_local! {
    static CURRENT: OnceCell<Arc<Runner>> = OnceCell::new();
}

/// The thread is part of a cycle of threads that would wait for each other.
#[derive(Debug)]
pub(crate) struct WaitCycle;

/// Records that a thread waits, until this is dropped.
#[derive(Debug)]
pub(crate) struct Waiting(Option<Arc<Runner>>);

impl Runner {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            thread: thread::current().id(),
            awaited: Mutex::new(None),
        })
    }

    /// Returns the runner of this thread. While the thread's variables are dropped, each call makes
    /// another one, without the callback that the thread waits for.
    pub(crate) fn current() -> Arc<Self> {
        let current = CURRENT.try_with(|current| Arc::clone(current.get_or_init(Self::new)));
        current.unwrap_or_else(|_| Self::new())
    }

    /// Whether this is the runner of the calling thread.
    pub(crate) fn is_current(&self) -> bool {
        self.thread == thread::current().id()
    }

    /// Records that this thread waits for `awaited`, or finds that `awaited` waits for this thread.
    pub(crate) fn begin_waiting(awaited: Arc<dyn Awaited>) -> Result<Waiting, WaitCycle> {
        // Nobody waits for a thread that has never run a callback.
        let current = CURRENT.try_with(|current| current.get().cloned());
        let Some(current) = current.ok().flatten() else {
            return Ok(Waiting(None));
        };
        *current.awaited.lock() = Some(Arc::clone(&awaited));
        let waiting = Waiting(Some(current));
        if leads_to_this_thread(awaited) {
            Err(WaitCycle)
        } else {
            Ok(waiting)
        }
    }
}

/// Whether something waits for this thread, perhaps through other threads.
fn leads_to_this_thread(mut awaited: Arc<dyn Awaited>) -> bool {
    let mut passed = Vec::new();
    while let Some(runner) = awaited.runner() {
        if runner.is_current() {
            return true;
        }
        if passed.contains(&runner.thread) {
            // A cycle of other threads, one of which finds it.
            return false;
        }
        passed.push(runner.thread);
        let next = runner.awaited.lock().clone();
        match next {
            Some(next) => awaited = next,
            None => return false,
        }
    }
    false
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(runner) = &self.0 {
            let awaited = runner.awaited.lock().take();
            drop(awaited);
        }
    }
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner")
            .field("thread", &self.thread)
            .finish_non_exhaustive()
    }
}
