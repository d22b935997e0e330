//! One thread that runs a source, until it has to end, or is abandoned because it hangs.

use std::fmt;
use std::time::{Duration, Instant};

use crate::engine::clock::Clock;
use crate::sync::lock::{Condvar, Mutex};
use crate::sync::panics;

/// Wakes a source from whatever it waits for.
pub(super) type Hook = Box<dyn Fn() + Send + Sync>;

/// What a thread that runs a source shares with the watchdog.
pub(crate) struct Worker {
    state: Mutex<WorkerState>,
    /// Notified when the thread is to stop.
    stopped: Condvar,
    clock: Clock,
}

#[derive(Default)]
struct WorkerState {
    request: Request,
    activity: Activity,
    hooks: Vec<Hook>,
}

/// What the thread is asked to do.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Request {
    #[default]
    GoOn,
    /// The watch is to return, and begins again.
    RestartWatch,
    /// Nothing that the thread sends counts any more.
    End,
}

/// What the thread does that has to be over in time.
#[derive(Clone, Copy, Debug, Default)]
enum Activity {
    #[default]
    Unbounded,
    Call {
        until: Instant,
    },
    /// A watch that gives a sign of life at least this often.
    Watch {
        silence: Duration,
        until: Instant,
    },
}

impl WorkerState {
    fn is_stopped(&self) -> bool {
        self.request != Request::GoOn
    }
}

impl Worker {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            state: Mutex::default(),
            stopped: Condvar::new(),
            clock,
        }
    }

    /// Whether nothing that the thread sends counts any more.
    pub(super) fn has_ended(&self) -> bool {
        self.state.lock().request == Request::End
    }

    /// Whether a watch is to return.
    pub(super) fn is_stopped(&self) -> bool {
        self.state.lock().is_stopped()
    }

    /// Waits until a watch is to return, at most this long. Returns whether it is.
    pub(super) fn wait(&self, pause: Duration) -> bool {
        let until = self.clock.now().checked_add(pause);
        let mut state = self.state.lock();
        loop {
            if state.is_stopped() {
                return true;
            }
            if until.is_some_and(|until| self.clock.now() >= until) {
                return false;
            }
            self.clock.wait(&self.stopped, &mut state, until);
        }
    }

    /// Has a hook called once when a watch is to return.
    pub(super) fn on_stop(&self, hook: Hook) {
        let mut state = self.state.lock();
        if state.is_stopped() {
            drop(state);
            hook();
        } else {
            state.hooks.push(hook);
        }
    }

    /// From here on nothing that the thread sends counts. The caller calls the hooks.
    pub(super) fn end(&self) -> Vec<Hook> {
        self.request(Request::End)
    }

    /// Has a watch return and begin again. The caller calls the hooks.
    pub(super) fn restart_watch(&self) -> Vec<Hook> {
        self.request(Request::RestartWatch)
    }

    fn request(&self, request: Request) -> Vec<Hook> {
        let mut state = self.state.lock();
        if state.request != Request::End {
            state.request = request;
        }
        self.stopped.notify_all();
        std::mem::take(&mut state.hooks)
    }

    /// A bounded call begins.
    pub(super) fn begin_call(&self, deadline: Duration) {
        let until = self.clock.now().checked_add(deadline);
        self.state.lock().activity = match until {
            Some(until) => Activity::Call { until },
            None => Activity::Unbounded,
        };
    }

    /// A bounded call is over. Returns whether its answer still counts.
    pub(super) fn end_call(&self) -> bool {
        let mut state = self.state.lock();
        state.activity = Activity::Unbounded;
        state.request != Request::End
    }

    /// A watch begins.
    pub(super) fn begin_watch(&self, silence: Option<Duration>) {
        let mut state = self.state.lock();
        let now = self.clock.now();
        let watch = silence.and_then(|silence| {
            let until = now.checked_add(silence)?;
            Some(Activity::Watch { silence, until })
        });
        state.activity = watch.unwrap_or_default();
    }

    /// A watch has returned; its hooks are dropped, the next one brings its own. Returns whether it was
    /// asked to return.
    pub(super) fn end_watch(&self) -> bool {
        let (hooks, request) = {
            let mut state = self.state.lock();
            state.activity = Activity::Unbounded;
            let request = state.request;
            if request == Request::RestartWatch {
                state.request = Request::GoOn;
            }
            (std::mem::take(&mut state.hooks), request)
        };
        // What they hold is the source's.
        for hook in hooks {
            let _ = panics::drop_contained(hook);
        }
        request == Request::RestartWatch
    }

    /// The source has given a sign of life.
    pub(super) fn sign(&self) {
        let mut state = self.state.lock();
        let now = self.clock.now();
        if let Activity::Watch { silence, until } = &mut state.activity {
            *until = now.checked_add(*silence).unwrap_or(*until);
        }
    }

    /// Until when the thread may go on without an answer.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let state = self.state.lock();
        match state.activity {
            _ if state.request == Request::End => None,
            Activity::Unbounded => None,
            Activity::Call { until } | Activity::Watch { until, .. } => Some(until),
        }
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
