//! One thread's turn at a source: until it is told to end, or is left to itself because it hangs.

use std::fmt;
use std::time::{Duration, Instant};

use crate::engine::clock::Clock;
use crate::sync::lock::{Condvar, Mutex};
use crate::sync::panics;

/// Wakes a source from whatever it waits for.
pub(super) type Hook = Box<dyn Fn() + Send + Sync>;

/// What a thread that runs a source and those who watch over it know of each other.
pub(crate) struct Worker {
    state: Mutex<State>,
    bell: Condvar,
    clock: Clock,
}

#[derive(Default)]
struct State {
    /// Nothing it says counts any more.
    ended: bool,
    /// The watch is to return and is begun again.
    again: bool,
    hooks: Vec<Hook>,
    /// When it is left to itself unless it has answered.
    due: Option<Instant>,
    /// How long it may give no sign, and until when.
    silence: Option<(Duration, Instant)>,
}

impl Worker {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            state: Mutex::default(),
            bell: Condvar::new(),
            clock,
        }
    }

    /// Whether nothing it says counts any more.
    pub(super) fn has_ended(&self) -> bool {
        self.state.lock().ended
    }

    /// Whether a watch is to return.
    pub(super) fn is_stopped(&self) -> bool {
        let state = self.state.lock();
        state.ended || state.again
    }

    /// Waits for the order to return, and says whether it came.
    pub(super) fn wait(&self, pause: Duration) -> bool {
        let until = self.clock.now().checked_add(pause);
        let mut state = self.state.lock();
        loop {
            if state.ended || state.again {
                return true;
            }
            if until.is_some_and(|until| self.clock.now() >= until) {
                return false;
            }
            self.clock.wait(&self.bell, &mut state, until);
        }
    }

    /// Has a hook called once when a watch is to return.
    pub(super) fn on_stop(&self, hook: Hook) {
        let mut state = self.state.lock();
        if state.ended || state.again {
            drop(state);
            hook();
        } else {
            state.hooks.push(hook);
        }
    }

    /// From here on nothing it says counts. The hooks are the caller's to call.
    pub(super) fn end(&self) -> Vec<Hook> {
        let mut state = self.state.lock();
        state.ended = true;
        self.bell.notify_all();
        std::mem::take(&mut state.hooks)
    }

    /// Has a watch return and begin again. The hooks are the caller's to call.
    pub(super) fn again(&self) -> Vec<Hook> {
        let mut state = self.state.lock();
        state.again = true;
        self.bell.notify_all();
        std::mem::take(&mut state.hooks)
    }

    /// A bounded call begins.
    pub(super) fn begin(&self, deadline: Duration) {
        self.state.lock().due = self.clock.now().checked_add(deadline);
    }

    /// A bounded call is over; says whether its answer still counts.
    pub(super) fn answered(&self) -> bool {
        let mut state = self.state.lock();
        state.due = None;
        !state.ended
    }

    /// A watch begins.
    pub(super) fn watch(&self, silence: Option<Duration>) {
        let mut state = self.state.lock();
        let now = self.clock.now();
        state.silence = silence.and_then(|silence| Some((silence, now.checked_add(silence)?)));
    }

    /// A watch has returned: its hooks are done with it, the next one brings its own. Says whether
    /// it was asked to.
    pub(super) fn watched(&self) -> bool {
        let (hooks, again) = {
            let mut state = self.state.lock();
            state.silence = None;
            let again = std::mem::take(&mut state.again);
            (std::mem::take(&mut state.hooks), again)
        };
        // What they hold is the source's.
        for hook in hooks {
            let _ = panics::drop_contained(hook);
        }
        again
    }

    /// It has given a sign of life.
    pub(super) fn sign(&self) {
        let mut state = self.state.lock();
        let now = self.clock.now();
        if let Some((silence, until)) = &mut state.silence {
            *until = now.checked_add(*silence).unwrap_or(*until);
        }
    }

    /// Until when it may go on without an answer.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let state = self.state.lock();
        if state.ended {
            return None;
        }
        let silent = state.silence.map(|(_, until)| until);
        state.due.into_iter().chain(silent).min()
    }
}

/// Calls a source's hooks, which are its own code.
pub(super) fn call(hooks: Vec<Hook>) {
    for hook in hooks {
        let _ = panics::catch(hook);
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Worker")
    }
}
