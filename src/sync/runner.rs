//! Finds circles of threads that wait for each other's callbacks.
//!
//! Each thread that runs callbacks has a [`Runner`], which notes what the thread waits for. A thread
//! notes that first, and then follows the notes from thread to thread. Of the threads of a circle,
//! the one that notes last finds all other notes, so at least one thread finds the circle. The
//! callbacks may belong to any properties.

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
    /// What the thread waits for.
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

/// The thread is part of a circle of threads that would wait for each other.
#[derive(Debug)]
pub(crate) struct Circle;

/// As long as this lives, the thread is noted to wait.
#[derive(Debug)]
pub(crate) struct Waiting(Option<Arc<Runner>>);

impl Runner {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            thread: thread::current().id(),
            awaited: Mutex::new(None),
        })
    }

    /// Returns the runner of this thread. While the thread's variables are dropped each call makes
    /// another one, which knows the thread and not what it waits for.
    pub(crate) fn current() -> Arc<Self> {
        let current = CURRENT.try_with(|current| Arc::clone(current.get_or_init(Self::new)));
        current.unwrap_or_else(|_| Self::new())
    }

    /// Whether this is the runner of the calling thread.
    pub(crate) fn is_current(&self) -> bool {
        self.thread == thread::current().id()
    }

    /// Notes that this thread waits for `awaited`, or finds that `awaited` waits for this thread.
    pub(crate) fn begin_waiting(awaited: Arc<dyn Awaited>) -> Result<Waiting, Circle> {
        // Nobody waits for a thread that has never run a callback.
        let current = CURRENT.try_with(|current| current.get().cloned());
        let Some(current) = current.ok().flatten() else {
            return Ok(Waiting(None));
        };
        *current.awaited.lock() = Some(Arc::clone(&awaited));
        let waiting = Waiting(Some(current));
        if leads_to_this_thread(awaited) {
            Err(Circle)
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
            // A circle of others, of whom one finds it.
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
