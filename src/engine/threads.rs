//! A group of threads that ends within a bound.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::sync::lock::{Condvar, Mutex};

use crate::sync::panics;
use crate::sync::{JoinHandle, thread};

/// How long the end of an engine waits for threads that hang, before they are left to themselves.
pub(crate) const PATIENCE: Duration = Duration::from_millis(900);

/// Threads that are ended together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Threads(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    handles: Mutex<Vec<JoinHandle<()>>>,
    ended: Condvar,
}

/// Notifies the group that a thread is about to end, for whatever reason.
struct Exit(Arc<Inner>);

impl Drop for Exit {
    fn drop(&mut self) {
        let _handles = self.0.handles.lock();
        self.0.ended.notify_all();
    }
}

impl Threads {
    /// Starts a thread, or returns why the system cannot.
    pub(crate) fn spawn(&self, name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
        self.spawn_boxed(name, Box::new(run))
    }

    fn spawn_boxed(&self, name: &str, run: Box<dyn FnOnce() + Send>) -> io::Result<()> {
        let exit = Exit(Arc::clone(&self.0));
        let run = move || {
            let _exit = exit;
            // The handle of the thread must not keep what user code panicked with.
            let _ = panics::catch(run);
        };
        let builder = thread::Builder::new().name(name.to_owned());
        // At the end of a thread, starting another may panic: what it needs may be gone.
        let spawned = panics::catch(|| builder.spawn(run));
        let handle = spawned.unwrap_or_else(|panic| Err(io::Error::other(panic.message())))?;
        let mut handles = self.0.handles.lock();
        #[cfg(not(loom))]
        handles.retain(|handle| !handle.is_finished());
        handles.push(handle);
        Ok(())
    }

    /// Removes the calling thread, which is about to end, from the group. Without a handle, the system frees
    /// the thread's resources at its end.
    pub(crate) fn forget_current(&self) {
        // A model waits for all threads.
        if cfg!(loom) {
            return;
        }
        let me = thread::current().id();
        self.0
            .handles
            .lock()
            .retain(|handle| handle.thread().id() != me);
    }

    #[cfg(all(test, not(loom)))]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.handles.lock().is_empty()
    }

    /// Waits for all threads. A model has no time, and its threads all end.
    #[cfg(loom)]
    pub(crate) fn join(&self, _: Instant) {
        loop {
            let next = self.0.handles.lock().pop();
            match next {
                Some(handle) => handle.join().expect("a thread that ends well"),
                None => return,
            }
        }
    }

    /// Waits for all threads but the calling one, at the longest until `until`.
    #[cfg(not(loom))]
    pub(crate) fn join(&self, until: Instant) {
        let me = thread::current().id();
        let mut handles = self.0.handles.lock();
        loop {
            handles.retain(|handle| handle.thread().id() != me && !handle.is_finished());
            let now = Instant::now();
            if handles.is_empty() || now >= until {
                // A thread that hangs in foreign code is abandoned; it uses no part of the engine.
                handles.clear();
                return;
            }
            // A thread notifies just before it ends, so look again shortly after.
            self.0
                .ended
                .wait_for(&mut handles, (until - now).min(Duration::from_millis(1)));
        }
    }
}
