//! Runs one source: which thread runs it, and which rounds are requested. Replaces a thread that
//! hangs.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::engine::clock::Clock;
use crate::engine::core::Engine;
use crate::engine::supervisor::attempt::Attempt;
use crate::engine::supervisor::backoff::{self, MAX_PAUSE};
use crate::engine::supervisor::context::EngineSink;
use crate::engine::supervisor::state::{RunnerState, Thread};
use crate::engine::supervisor::watchdog::Watchdog;
use crate::engine::supervisor::worker::Worker;
use crate::engine::threads::Threads;
use crate::error::{Error, ErrorKind};
use crate::source::{Policy, RejectionScope, Source, SourceContext, Timing, Watching};
use crate::sync::lock::{Condvar, Mutex};
use crate::sync::panics;
use crate::tree::layer::SourceId;
use crate::value::document::Document;
use crate::value::origin::Origin;

/// After so many hung threads of one source, the pauses until the next attempt grow without a bound.
const MAX_HUNG: u32 = 3;
/// After so many hung threads, a refresh does not shorten such a pause any more.
const MAX_HUNG_FOR_REFRESH: u32 = 15;

/// The settings of a source, which the engine reads once.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub(crate) watching: Watching,
    pub(crate) rejection_scope: RejectionScope,
    pub(crate) timing: Timing,
    pub(crate) policy: Policy,
    /// How long an attempt to load it may take until the program runs.
    pub(crate) first: Duration,
    /// Whether only the start of the program loads it.
    pub(crate) bootstrap: bool,
}

/// One source and the state of its thread.
pub(crate) struct SourceRunner {
    pub(crate) id: SourceId,
    pub(crate) name: Arc<str>,
    pub(crate) terms: Terms,
    /// Whether the watchdog runs as long as the source is there. For any other source it runs while
    /// something is due.
    pub(super) needs_watchdog: bool,
    pub(super) source: Box<dyn Source>,
    pub(super) engine: Weak<Engine>,
    pub(super) clock: Clock,
    pub(super) started_at: Instant,
    watchdog: Weak<Watchdog>,
    pub(super) threads: Threads,
    pub(super) state: Mutex<RunnerState>,
    /// Notified when the state has changed.
    pub(super) changed: Condvar,
}

impl SourceRunner {
    pub(super) fn new(
        engine: &Engine,
        watchdog: &Arc<Watchdog>,
        id: SourceId,
        name: Arc<str>,
        terms: Terms,
        source: Box<dyn Source>,
    ) -> Arc<Self> {
        let policy = &terms.policy;
        let needs_watchdog = terms.watching != Watching::Push
            || !policy.max_stale.is_zero()
            || policy.guard.is_some();
        Arc::new(Self {
            id,
            name,
            terms,
            needs_watchdog,
            source,
            engine: engine.weak(),
            clock: watchdog.clock.clone(),
            started_at: watchdog.clock.now(),
            watchdog: Arc::downgrade(watchdog),
            threads: watchdog.threads.clone(),
            state: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    // ---- For the program ----

    /// Requests another round and returns its number; `None` for a source that pushes, which is always
    /// current.
    pub(super) fn request_round(self: &Arc<Self>) -> Option<u64> {
        if self.terms.watching == Watching::Push || self.terms.bootstrap {
            return None;
        }
        let (number, worker) = {
            let mut state = self.state.lock();
            let answer_by = self.answer_by();
            let number = state.rounds.request(answer_by);
            let starts = match state.thread {
                Thread::Idle => state.admission.is_loaded(),
                Thread::Restarting(at) => at.is_some() && state.hung <= MAX_HUNG_FOR_REFRESH,
                Thread::Running(_) | Thread::Pushing(_) | Thread::Ended => false,
            };
            if starts {
                let now = self.clock.now();
                state.set_thread(Thread::Restarting(Some(now)));
            }
            self.changed.notify_all();
            (number, state.worker().cloned())
        };
        if let (Watching::Stream, Some(worker)) = (self.terms.watching, worker) {
            self.call_aside(worker.restart_watch());
        }
        self.wake_watchdog();
        Some(number)
    }

    /// Until when a round has to be over that is requested now, where no load's deadline bounds it.
    fn answer_by(&self) -> Option<Instant> {
        match self.terms.watching {
            Watching::Stream => self.clock.now().checked_add(self.two_rounds()),
            _ => None,
        }
    }

    /// The time of the current round and of the requested one.
    fn two_rounds(&self) -> Duration {
        self.terms.timing.load_deadline().saturating_mul(2)
    }

    /// Waits for the outcome of a round.
    pub(super) fn wait_for(&self, number: u64, until: Option<Instant>) -> Result<(), Error> {
        let mut state = self.state.lock();
        loop {
            if let Some(outcome) = state.rounds.outcome(number) {
                return outcome;
            }
            if state.has_ended() {
                return Err(Error::closed());
            }
            if until.is_some_and(|until| self.clock.now() >= until) {
                let detail = "did not answer in time; its values stay, and it is tried again";
                return Err(Error::new(ErrorKind::Timeout, detail).with_source_name(&self.name));
            }
            self.clock.wait(&self.changed, &mut state, until);
        }
    }

    /// How long to wait for a round.
    pub(super) fn patience(&self) -> Duration {
        // A thread that hangs is noticed and replaced a little after its deadline.
        self.two_rounds().saturating_add(Duration::from_secs(1))
    }

    /// Has the source end, without waiting.
    pub(super) fn end(self: &Arc<Self>) {
        let workers = {
            let mut state = self.state.lock();
            let worker = state.set_thread(Thread::Ended);
            self.changed.notify_all();
            [worker, state.late.take()]
        };
        for worker in workers.into_iter().flatten() {
            self.call_aside(worker.end());
        }
    }

    // ---- For the watchdog ----

    /// Abandons a thread that hangs, and starts another when it is time. Returns when to check again.
    pub(super) fn check(self: &Arc<Self>) -> Option<Instant> {
        let now = self.clock.now();
        let (mut trouble, mut hooks) = (None, Vec::new());
        let mut state = self.state.lock();
        if let Thread::Running(worker) = &state.thread {
            let answer_by = state.rounds.answer_by;
            match worker.deadline().into_iter().chain(answer_by).min() {
                Some(due) if due <= now => {
                    hooks = worker.end();
                    trouble = Some(self.abandon_thread(&mut state, now));
                }
                due => return due,
            }
        }
        let mut next = None;
        if let Thread::Restarting(Some(at)) = state.thread {
            if at > now {
                next = Some(at);
            } else if let Err(error) = self.start_on(&mut state) {
                trouble = Some(error);
                state.count_failure();
                next = Some(now + backoff::after_failures(state.failures));
                state.set_thread(Thread::Restarting(next));
            }
        }
        drop(state);
        self.call_aside(hooks);
        if let Some(error) = trouble {
            self.report(error);
        }
        next
    }

    /// Abandons the thread that runs the source. Returns the error to report.
    fn abandon_thread(&self, state: &mut RunnerState, now: Instant) -> Error {
        state.hung = state.hung.saturating_add(1);
        state.count_failure();
        let what = if state.admission.is_awaited() {
            "gave no answer to the first load in time"
        } else {
            "gave no answer in time"
        };
        let (pause, then) = match state.hung.checked_sub(MAX_HUNG + 1) {
            None => {
                let then = "abandoned, and tried again on another thread".to_owned();
                (backoff::after_failures(state.failures), then)
            }
            // Each costs a thread, perhaps for good.
            Some(more) => {
                let (pause, longest) = backoff::while_threads_hang(more);
                let hung = state.hung;
                let then =
                    format!("{hung} threads hang in it, so it is left alone for {longest:?}");
                (pause, then)
            }
        };
        state.set_thread(Thread::Restarting(now.checked_add(pause)));
        let error = Error::new(ErrorKind::Timeout, format!("{what}; {then}"));
        let error = error.with_source_name(&self.name);
        state.rounds.end_hung(now, error.clone());
        if state.admission.is_awaited() {
            state.admission.put_first(Err(error.clone()));
        }
        self.changed.notify_all();
        error
    }

    /// Starts a thread for the source.
    pub(super) fn start(self: &Arc<Self>) -> Result<(), Error> {
        self.start_on(&mut self.state.lock())
    }

    fn start_on(self: &Arc<Self>, state: &mut RunnerState) -> Result<(), Error> {
        let worker = Arc::new(Worker::new(self.clock.clone()));
        let (runner, its_worker) = (Arc::clone(self), Arc::clone(&worker));
        // The attempt is created on the thread: if none starts, it must not be dropped under this lock.
        let run = move || {
            runner.clock.thread_begins();
            Attempt::new(runner, its_worker).run();
        };
        self.clock.expect_thread();
        match self.threads.spawn("liveprops-source", run) {
            Ok(()) => {
                state.set_thread(Thread::Running(worker));
                let is_requested = state.rounds.is_requested();
                state.rounds.answer_by = self.answer_by().filter(|_| is_requested);
                Ok(())
            }
            Err(cause) => {
                let detail = format!("no thread can be started for it: {cause}");
                Err(Error::new(ErrorKind::Unavailable, detail).with_source_name(&self.name))
            }
        }
    }

    // ---- For the thread and the sink ----

    pub(super) fn updates(self: &Arc<Self>, worker: &Arc<Worker>) -> SourceContext {
        SourceContext::new(Arc::new(EngineSink::new(
            Weak::clone(&self.engine),
            self,
            Arc::clone(worker),
        )))
    }

    pub(super) fn wake_watchdog(&self) {
        if let Some(watchdog) = self.watchdog.upgrade() {
            // A source that pushes may begin again after the watchdog has ended.
            watchdog.wake_or_start(Weak::clone(&self.engine));
        }
    }

    fn report(&self, error: Error) {
        if let Some(engine) = self.engine.upgrade() {
            let generation = engine.current.load().number();
            engine
                .health_registry
                .report_error(self.id, generation, error);
        }
    }

    /// Counts a failure and returns how long to wait after it.
    pub(super) fn count_failure(&self, state: &mut RunnerState, error: &Error) -> Duration {
        state.count_failure();
        let interval = match self.terms.watching {
            Watching::Poll(every) => every,
            _ => MAX_PAUSE,
        };
        backoff::asked_for(state.failures, error.retry_after(), interval)
    }

    /// Records that the source has answered, unless its thread was abandoned. That ends the round; a
    /// rejection of the answer is no failure of the source.
    pub(super) fn record_answer(&self, worker: &Worker, outcome: Result<(), Error>) {
        worker.extend_deadline();
        let mut state = self.state.lock();
        if !worker.has_ended() {
            state.count_success();
            state.rounds.end(outcome);
            self.changed.notify_all();
        }
    }

    /// Records that the source has failed, unless its thread was abandoned. That ends the round.
    pub(super) fn record_error(&self, worker: &Worker, error: Error) {
        worker.extend_deadline();
        let mut state = self.state.lock();
        if !worker.has_ended() {
            state.rounds.end(Err(error));
            self.changed.notify_all();
        }
    }
}

/// Runs a source's code; a panic in it is an error.
pub(crate) fn catch_source_panic<R>(run: impl FnOnce() -> Result<R, Error>) -> Result<R, Error> {
    Error::catch("the source", run)
}

impl Drop for SourceRunner {
    fn drop(&mut self) {
        let source = std::mem::replace(&mut self.source, Box::new(NoSource));
        let hooks = self.state.get_mut().hooks.take();
        // Their `Drop` is the source's code, so it runs on a thread of its own.
        let run = move || {
            let _ = panics::drop_contained(source);
            for hook in hooks.into_iter().flatten() {
                let _ = panics::drop_contained(hook);
            }
        };
        // Where no thread starts, they are dropped right here.
        let _ = panics::catch(|| drop(self.threads.spawn("liveprops-source", run)));
    }
}

/// Replaces a source that is dropped.
struct NoSource;

impl Source for NoSource {
    fn origin(&self) -> Origin {
        Origin::new("nothing", "")
    }

    fn load(&self) -> Result<Document, Error> {
        Err(Error::closed())
    }
}

impl fmt::Debug for SourceRunner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceRunner")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
