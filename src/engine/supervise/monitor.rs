//! Looks after all sources: leaves to itself what hangs, starts again what ended, and notices what
//! grew old.

use std::fmt;
use std::io;
use std::sync::{Arc, Weak};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use crate::engine::clock::Clock;
use crate::engine::core::Engine;
use crate::engine::dispatch;
use crate::engine::supervise::keeper::Keeper;
use crate::engine::threads::Threads;
use crate::tree::layer::SourceId;

/// All sources that run, and the thread that looks after them.
pub(crate) struct Monitor {
    pub(super) threads: Threads,
    pub(super) clock: Clock,
    state: Mutex<State>,
    bell: Condvar,
}

#[derive(Default)]
struct State {
    keepers: Vec<Arc<Keeper>>,
    running: bool,
    rung: bool,
    ended: bool,
}

impl Monitor {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            threads: Threads::default(),
            clock,
            state: Mutex::default(),
            bell: Condvar::new(),
        }
    }

    /// Looks after a source from now on.
    pub(super) fn add(&self, keeper: Arc<Keeper>) {
        self.state.lock().keepers.push(keeper);
    }

    pub(super) fn keeper(&self, id: SourceId) -> Option<Arc<Keeper>> {
        let state = self.state.lock();
        state.keepers.iter().find(|keeper| keeper.id == id).cloned()
    }

    pub(super) fn keepers(&self) -> Vec<Arc<Keeper>> {
        self.state.lock().keepers.clone()
    }

    /// Takes a source off the list.
    pub(super) fn remove(&self, id: SourceId) -> Option<Arc<Keeper>> {
        let mut state = self.state.lock();
        let at = state.keepers.iter().position(|keeper| keeper.id == id)?;
        self.bell.notify_all();
        Some(state.keepers.swap_remove(at))
    }

    /// Takes all sources off the list, for good.
    pub(super) fn end(&self) -> Vec<Arc<Keeper>> {
        let mut state = self.state.lock();
        state.ended = true;
        self.bell.notify_all();
        std::mem::take(&mut state.keepers)
    }

    /// Has the thread look again.
    pub(crate) fn ring(&self) {
        self.state.lock().rung = true;
        self.bell.notify_all();
    }

    /// Starts the thread, unless it runs.
    pub(super) fn run(self: &Arc<Self>, engine: Weak<Engine>) -> io::Result<()> {
        {
            let mut state = self.state.lock();
            if state.running || state.ended {
                return Ok(());
            }
            state.running = true;
        }
        let monitor = Arc::clone(self);
        let run = move || {
            // While it is in a callback it looks after nothing.
            dispatch::never_here();
            while monitor.look(&engine) {}
        };
        self.threads
            .spawn("liveprops-monitor", run)
            .inspect_err(|_| self.state.lock().running = false)
    }

    /// Looks once, and waits until it is time to look again; says whether to go on.
    fn look(&self, engine: &Weak<Engine>) -> bool {
        self.state.lock().rung = false;
        let mut next: Option<Instant> = None;
        for keeper in self.keepers() {
            next = next.into_iter().chain(keeper.check()).min();
        }
        let mut retry = None;
        if let Some(engine) = engine.upgrade() {
            retry = engine.free_retired();
            next = next
                .into_iter()
                .chain(engine.grown_old())
                .chain(retry)
                .min();
        }
        let mut state = self.state.lock();
        loop {
            let is_idle = state.keepers.is_empty() && retry.is_none() && !state.rung;
            if state.ended || is_idle {
                // The next source starts another.
                state.running = false;
                return false;
            }
            let now = self.clock.now();
            if state.rung || next.is_some_and(|next| next <= now) {
                return true;
            }
            self.clock.wait(&self.bell, &mut state, next);
        }
    }
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Monitor")
    }
}
