//! One thread that runs a source, until it is asked to end, or is abandoned because it hangs.

use std::fmt;
use std::time::{Duration, Instant};

use crate::engine::clock::Clock;
use crate::sync::lock::{Condvar, Mutex};
use crate::sync::panics;

/// Wakes a source that waits.
pub(super) type Hook = Box<dyn Fn() + Send + Sync>;

/// The state that a thread which runs a source shares with the watchdog.
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

/// The request to the thread.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Request {
    #[default]
    GoOn,
    /// The watch returns and begins again.
    RestartWatch,
    /// The thread ends; its later reports are rejected.
    End,
}

/// The activity of the thread, with its deadline.
#[derive(Clone, Copy, Debug, Default)]
enum Activity {
    #[default]
    Unbounded,
    Call {
        until: Instant,
    },
    /// A watch that reports something at least this often.
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

    /// Whether the thread was asked to end, so that its later reports are rejected.
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

    /// Rejects all later reports of the thread. The caller calls the hooks.
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

    /// Begins a call with a deadline.
    pub(super) fn begin_call(&self, deadline: Duration) {
        let until = self.clock.now().checked_add(deadline);
        self.state.lock().activity = match until {
            Some(until) => Activity::Call { until },
            None => Activity::Unbounded,
        };
    }

    /// Ends a call. Returns whether its answer is still accepted.
    pub(super) fn end_call(&self) -> bool {
        let mut state = self.state.lock();
        state.activity = Activity::Unbounded;
        state.request != Request::End
    }

    /// Begins a watch.
    pub(super) fn begin_watch(&self, silence: Option<Duration>) {
        let mut state = self.state.lock();
        let now = self.clock.now();
        let watch = silence.and_then(|silence| {
            let until = now.checked_add(silence)?;
            Some(Activity::Watch { silence, until })
        });
        state.activity = watch.unwrap_or_default();
    }

    /// Ends a watch and drops its hooks. Returns whether the watch was asked to return.
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
        // Their `Drop` is the source's code.
        for hook in hooks {
            let _ = panics::drop_contained(hook);
        }
        request == Request::RestartWatch
    }

    /// Extends the deadline of a watch, since the source has reported something.
    pub(super) fn extend_deadline(&self) {
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
