//! Watches all sources: abandons threads that hang, restarts threads that ended, and does the work of the
//! engine that is due.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::sync::{Arc, Weak};
use std::time::Instant;

use crate::engine::clock::Clock;
use crate::engine::core::Engine;
use crate::engine::dispatcher;
use crate::engine::supervisor::runner::SourceRunner;
use crate::engine::threads::Threads;
use crate::error::{Error, ErrorKind};
use crate::sync::lock::{Condvar, Mutex};
use crate::tree::layer::SourceId;

thread_local! {
    /// The address of the runner whose source this thread runs; 0 if it runs none.
    static RUNNER: Cell<usize> = const { Cell::new(0) };
}

/// Records that this thread runs a source until it ends.
pub(super) fn set_runner(runner: &Arc<SourceRunner>) {
    RUNNER.set(Arc::as_ptr(runner).addr());
}

/// All sources that run, and the thread that watches them.
pub(crate) struct Watchdog {
    pub(super) threads: Threads,
    pub(super) clock: Clock,
    state: Mutex<WatchdogState>,
    /// Notified when the thread is to check again.
    woken: Condvar,
}

#[derive(Default)]
struct WatchdogState {
    runners: Vec<Arc<SourceRunner>>,
    /// The sources whose threads wait for rounds of other sources, with those.
    waits: Vec<(SourceId, Vec<SourceId>)>,
    is_running: bool,
    is_woken: bool,
    has_ended: bool,
}

impl WatchdogState {
    /// Whether the thread of a source waits for another source, perhaps through others.
    fn waits_for(&self, waiting: SourceId, awaited: SourceId) -> bool {
        let mut reached = vec![waiting];
        let mut at = 0;
        while let Some(source) = reached.get(at).copied() {
            if source == awaited {
                return true;
            }
            let next = self.waits.iter().filter(|(waits, _)| *waits == source);
            for other in next.flat_map(|(_, others)| others) {
                if !reached.contains(other) {
                    reached.push(*other);
                }
            }
            at += 1;
        }
        false
    }
}

/// Records that the thread of a source waits for others, until this is dropped.
pub(super) struct Waiting<'a> {
    watchdog: &'a Watchdog,
    source: SourceId,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.watchdog.state.lock();
        let is_own = |(source, _): &(SourceId, Vec<SourceId>)| *source == self.source;
        if let Some(at) = state.waits.iter().position(is_own) {
            state.waits.swap_remove(at);
        }
    }
}

impl Watchdog {
    /// Records that this thread waits for rounds of sources. Rejects a thread that runs one of them, or one
    /// that they wait for.
    pub(super) fn begin_waiting(&self, sources: &[SourceId]) -> Result<Option<Waiting<'_>>, Error> {
        let own_runner = RUNNER.get();
        let mut state = self.state.lock();
        let is_own = |runner: &&Arc<SourceRunner>| Arc::as_ptr(runner).addr() == own_runner;
        let Some((own, name)) = state
            .runners
            .iter()
            .find(is_own)
            .map(|runner| (runner.id, Arc::clone(&runner.name)))
        else {
            return Ok(None);
        };
        if sources.iter().any(|source| state.waits_for(*source, own)) {
            let detail = "waits for a source on the thread of that source: refresh from a callback \
                          that runs on a thread of its own, or from another thread";
            return Err(Error::new(ErrorKind::Reentrant, detail).with_source_name(&name));
        }
        state.waits.push((own, sources.to_vec()));
        Ok(Some(Waiting {
            watchdog: self,
            source: own,
        }))
    }

    pub(super) fn new(clock: Clock) -> Self {
        Self {
            threads: Threads::default(),
            clock,
            state: Mutex::default(),
            woken: Condvar::new(),
        }
    }

    /// Watches a source from now on.
    pub(super) fn add(&self, runner: Arc<SourceRunner>) {
        self.state.lock().runners.push(runner);
    }

    pub(super) fn runner(&self, id: SourceId) -> Option<Arc<SourceRunner>> {
        let state = self.state.lock();
        state.runners.iter().find(|runner| runner.id == id).cloned()
    }

    pub(super) fn runners(&self) -> Vec<Arc<SourceRunner>> {
        self.state.lock().runners.clone()
    }

    /// Removes a source.
    pub(super) fn remove(&self, id: SourceId) -> Option<Arc<SourceRunner>> {
        let mut state = self.state.lock();
        let at = state.runners.iter().position(|runner| runner.id == id)?;
        // The thread ends if it waited for this source only.
        state.is_woken = true;
        self.woken.notify_all();
        Some(state.runners.swap_remove(at))
    }

    /// Removes all sources, for good.
    pub(super) fn end(&self) -> Vec<Arc<SourceRunner>> {
        let mut state = self.state.lock();
        state.has_ended = true;
        self.woken.notify_all();
        std::mem::take(&mut state.runners)
    }

    /// Has the thread check again, if it runs.
    pub(crate) fn wake(&self) {
        self.state.lock().is_woken = true;
        self.woken.notify_all();
    }

    /// Has the thread check again; starts it if it does not run.
    pub(super) fn wake_or_start(self: &Arc<Self>, engine: Weak<Engine>) {
        // In this order: a thread that is about to end either sees the flag or is replaced.
        self.wake();
        // Where no thread starts, the next commit does what the thread would have done.
        let _ = self.run(engine);
    }

    /// Starts the thread, unless it runs.
    pub(super) fn run(self: &Arc<Self>, engine: Weak<Engine>) -> io::Result<()> {
        {
            let mut state = self.state.lock();
            if state.is_running || state.has_ended {
                return Ok(());
            }
            state.is_running = true;
        }
        let watchdog = Arc::clone(self);
        let run = move || {
            // While it is in a callback it watches nothing.
            dispatcher::never_here();
            while watchdog.check(&engine) {}
        };
        self.threads
            .spawn("liveprops-watchdog", run)
            .inspect_err(|_| self.state.lock().is_running = false)
    }

    /// Checks once, and waits until the next check is due. Returns whether to go on.
    fn check(&self, engine: &Weak<Engine>) -> bool {
        self.state.lock().is_woken = false;
        let mut next: Option<Instant> = None;
        for runner in self.runners() {
            next = next.into_iter().chain(runner.check()).min();
        }
        if let Some(engine) = engine.upgrade() {
            let due = [
                engine.free_unused(),
                engine.dispatcher.retry_at(self.clock.now()),
                engine.run_due(),
            ];
            next = next.into_iter().chain(due.into_iter().flatten()).min();
        }
        let mut state = self.state.lock();
        loop {
            let is_needed = state.runners.iter().any(|runner| runner.needs_watchdog);
            let is_idle = !is_needed && next.is_none() && !state.is_woken;
            if state.has_ended || is_idle {
                // Decided under the lock that `wake` and `run` take: a call before this is seen, and
                // one after it starts another thread.
                state.is_running = false;
                return false;
            }
            let now = self.clock.now();
            if state.is_woken || next.is_some_and(|next| next <= now) {
                return true;
            }
            self.clock.wait(&self.woken, &mut state, next);
        }
    }
}

impl fmt::Debug for Watchdog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watchdog")
    }
}
