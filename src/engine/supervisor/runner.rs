//! Keeps the health registry of one source that runs: which thread runs it, which rounds are over and who waits
//! for them. Replaces a thread that hangs.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::engine::clock::Clock;
use crate::engine::core::Engine;
use crate::engine::supervisor::attempt::Attempt;
use crate::engine::supervisor::backoff::{self, MAX_PAUSE};
use crate::engine::supervisor::context::EngineSink;
use crate::engine::supervisor::watchdog::Watchdog;
use crate::engine::supervisor::worker::{self, Hook, Worker};
use crate::engine::threads::Threads;
use crate::error::{Error, ErrorKind};
use crate::source::{Policy, References, Refusal, Source, SourceContext, Start, Timing, Watching};
use crate::sync::lock::{Condvar, Mutex};
use crate::sync::panics;
use crate::tree::layer::SourceId;
use crate::value::document::Document;
use crate::value::origin::Origin;

/// As many threads of one source may hang before the pauses until the next attempt begin to grow
/// without a bound.
const MAX_LEFT: u32 = 3;
/// As many may hang before a refresh does not shorten such a pause any more.
const MAX_ASKED: u32 = 15;

/// What a source says of itself, asked once.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub(crate) watching: Watching,
    pub(crate) refusal: Refusal,
    pub(crate) timing: Timing,
    pub(crate) policy: Policy,
    /// How long an attempt to load it may take until the program runs.
    pub(crate) first: Duration,
    /// Whether only the start of the program loads it.
    pub(crate) bootstrap: bool,
}

/// One source and what runs it.
pub(crate) struct SourceRunner {
    pub(crate) id: SourceId,
    pub(crate) name: Arc<str>,
    pub(crate) terms: Terms,
    /// Whether the watchdog runs as long as the source is there. For any other source it runs while
    /// something is due.
    pub(super) needs_monitor: bool,
    pub(super) source: Box<dyn Source>,
    pub(super) engine: Weak<Engine>,
    pub(super) clock: Clock,
    began: Instant,
    watchdog: Weak<Watchdog>,
    threads: Threads,
    pub(super) state: Mutex<State>,
    pub(super) bell: Condvar,
}

#[derive(Default)]
pub(super) struct State {
    /// It is over: the source was removed, or the engine ends.
    pub(super) ended: bool,
    /// The thread that runs it, if one does.
    pub(super) worker: Option<Arc<Worker>>,
    /// What a bootstrap source that pushes has been given after the start.
    late: Option<Arc<Worker>>,
    /// It needs no thread until somebody asks.
    pub(super) resting: bool,
    /// When the next thread is to be started in place of one that is gone.
    pub(super) revive: Option<Instant>,
    /// What is still to be called to wake threads, and whether another thread is at it.
    hooks: Vec<Hook>,
    waking: bool,
    /// How many threads hang.
    pub(super) left: u32,
    pub(super) failures: u32,
    /// When the newest poll was due that somebody's wish did not bring forward: the next are whole
    /// intervals later. None after a failure, and before the first.
    pub(super) slot: Option<Instant>,
    /// What the newest load before the admission brought.
    pub(super) first: Option<Result<Document, Error>>,
    /// Whether the layer is in the tree, and then whether it holds what the source has loaded.
    pub(super) admitted: Option<bool>,
    pub(super) loaded: bool,
    /// The number of the newest round, one load or one watch, that has begun, that is over, and
    /// that somebody waits for.
    pub(super) begun: u64,
    over: u64,
    wanted: u64,
    outcome: Option<Result<(), Error>>,
    /// Until when a watch has to end the round that is wanted of it.
    answer_by: Option<Instant>,
}

impl State {
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted > self.begun
    }

    pub(super) fn count_failure(&mut self) {
        self.failures = self.failures.saturating_add(1);
        self.slot = None;
    }

    pub(super) fn round_over(&mut self, outcome: Result<(), Error>) {
        if self.over < self.begun {
            self.over = self.begun;
            self.outcome = Some(outcome);
        }
        if self.over >= self.wanted {
            self.answer_by = None;
        }
    }
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
        let needs_monitor = terms.watching != Watching::Push
            || !policy.max_stale.is_zero()
            || policy.guard.is_some();
        Arc::new(Self {
            id,
            name,
            terms,
            needs_monitor,
            source,
            engine: engine.weak(),
            clock: watchdog.clock.clone(),
            began: watchdog.clock.now(),
            watchdog: Arc::downgrade(watchdog),
            threads: watchdog.threads.clone(),
            state: Mutex::default(),
            bell: Condvar::new(),
        })
    }

    // ---- What the builder asks ----

    /// Has a source whose changes are pushed say all it has, now.
    pub(crate) fn attach(self: &Arc<Self>) -> Result<(), Error> {
        let worker = Arc::new(Worker::new(self.clock.clone()));
        {
            let mut state = self.state.lock();
            state.worker = Some(Arc::clone(&worker));
            state.loaded = true;
        }
        let updates = self.updates(&worker);
        guarded(|| self.source.watch(&updates))
    }

    /// Gives a bootstrap source that pushes a way to learn that later changes are rejected.
    pub(crate) fn watch_late_changes(self: &Arc<Self>) {
        let worker = Arc::new(Worker::new(self.clock.clone()));
        {
            let mut state = self.state.lock();
            if state.ended {
                return;
            }
            state.late = Some(Arc::clone(&worker));
        }
        let updates = self.updates(&worker);
        // The commit reports a first document that differs from the one of the start.
        let _ = guarded(|| match self.source.watching() {
            Watching::Push => self.source.watch(&updates),
            _ => Ok(()),
        });
    }

    /// Whether the start may go on without the source, or with what the cache holds of it.
    pub(super) fn may_do_without(&self) -> bool {
        let policy = &self.terms.policy;
        policy.cache.is_some() || matches!(policy.start, Start::Optional(_))
    }

    /// Whether the values of the source contain no references.
    pub(crate) fn is_literal(&self) -> bool {
        self.terms.policy.references == References::Literal
    }

    /// Has a source that could not begin to push begin again after its admission.
    pub(super) fn defer_attach(&self, error: Error) {
        let mut state = self.state.lock();
        // What the failed attempt may still send does not count.
        let hooks = state.worker.take().map(|worker| worker.end());
        state.loaded = false;
        state.count_failure();
        state.first = Some(Err(error));
        drop(state);
        if let Some(hooks) = hooks {
            worker::call(hooks);
        }
    }

    /// Why a source could not begin to push, if it could not.
    pub(crate) fn take_attach_error(&self) -> Option<Error> {
        self.state.lock().first.take()?.err()
    }

    /// Until when the start waits for the first load; `None`: however long it takes.
    pub(crate) fn waits_until(&self, deadline: Instant) -> Option<Instant> {
        match self.terms.policy.start {
            Start::Required(None) => Some(deadline),
            Start::Required(Some(time)) | Start::Optional(time) => self.began.checked_add(time),
            Start::Waits => None,
        }
    }

    /// Waits for the first load, as long as the policy wants to; where something else is there to go
    /// on with, or the start fails anyhow, for one answer, whatever it is.
    pub(crate) fn wait_for_first(
        &self,
        deadline: Instant,
        cached: bool,
        doomed: bool,
    ) -> Result<Document, Error> {
        let policy = self.waits_until(deadline);
        let one_load = self.began.checked_add(self.terms.timing.load_deadline());
        let until = policy
            .into_iter()
            .chain(one_load.filter(|_| cached))
            .chain(doomed.then_some(deadline))
            .min();
        let patient = self.is_patient() && !cached && !doomed;
        let mut state = self.state.lock();
        loop {
            match state.first.take() {
                Some(Ok(document)) => return Ok(document),
                Some(Err(error)) if !patient => return Err(error),
                Some(Err(error)) => state.first = Some(Err(error)),
                None => {}
            }
            if until.is_some_and(|until| self.clock.now() >= until) {
                return Err(match state.first.take() {
                    Some(Err(error)) => error,
                    _ => {
                        let detail = "did not answer before the deadline of the initial load";
                        Error::new(ErrorKind::Timeout, detail).with_source_name(&self.name)
                    }
                });
            }
            if state.ended {
                return Err(closed());
            }
            self.clock.wait(&self.bell, &mut state, until);
        }
    }

    /// Whether the start wants an answer, and not only an attempt.
    pub(super) fn is_patient(&self) -> bool {
        matches!(
            self.terms.policy.start,
            Start::Required(Some(_)) | Start::Waits
        )
    }

    /// The layer is in the tree; `loaded` says whether with what the source has loaded.
    pub(crate) fn admit(&self, loaded: bool) {
        let mut state = self.state.lock();
        state.admitted = Some(loaded);
        state.loaded |= loaded;
        let attaches_again = self.terms.watching == Watching::Push && state.worker.is_none();
        if attaches_again && !state.ended {
            state.revive = Some(self.clock.now() + backoff::after_failures(state.failures));
        }
        self.bell.notify_all();
        drop(state);
        if attaches_again {
            if let Some(engine) = self.engine.upgrade() {
                engine.supervisor.wake(&engine);
            }
        }
    }

    // ---- What the program asks ----

    /// Wants another round, and says which; `None` for a source that pushes, which is always
    /// current.
    pub(super) fn want(self: &Arc<Self>) -> Option<u64> {
        if self.terms.watching == Watching::Push || self.terms.bootstrap {
            return None;
        }
        let (number, worker) = {
            let mut state = self.state.lock();
            let number = state.begun + 1;
            state.wanted = state.wanted.max(number);
            if state.answer_by.is_none() {
                state.answer_by = self.answer_by();
            }
            let rests = std::mem::take(&mut state.resting);
            if rests || state.revive.is_some() && state.left <= MAX_ASKED {
                state.revive = Some(self.clock.now());
            }
            self.bell.notify_all();
            (number, state.worker.clone())
        };
        if let (Watching::Stream, Some(worker)) = (self.terms.watching, worker) {
            self.wake(worker.again());
        }
        self.ring();
        Some(number)
    }

    /// Until when a round has to be over that is wanted now, where no load's deadline bounds it.
    fn answer_by(&self) -> Option<Instant> {
        match self.terms.watching {
            Watching::Stream => self.clock.now().checked_add(self.two_rounds()),
            _ => None,
        }
    }

    /// The time of the round that runs and of the one that is wanted.
    fn two_rounds(&self) -> Duration {
        self.terms.timing.load_deadline().saturating_mul(2)
    }

    /// Waits for a round to be over and says what became of it.
    pub(super) fn wait_for(&self, number: u64, until: Option<Instant>) -> Result<(), Error> {
        let mut state = self.state.lock();
        loop {
            if state.over >= number {
                return state.outcome.clone().unwrap_or(Ok(()));
            }
            if state.ended {
                return Err(closed());
            }
            if until.is_some_and(|until| self.clock.now() >= until) {
                let detail = "did not answer in time; its values stay, and it is asked again";
                return Err(Error::new(ErrorKind::Timeout, detail).with_source_name(&self.name));
            }
            self.clock.wait(&self.bell, &mut state, until);
        }
    }

    /// How long to wait for a round.
    pub(super) fn patience(&self) -> Duration {
        // A thread that hangs is noticed and replaced a little after its deadline.
        self.two_rounds().saturating_add(Duration::from_secs(1))
    }

    /// Tells it to end, and does not wait.
    pub(super) fn end(self: &Arc<Self>) {
        let lives = {
            let mut state = self.state.lock();
            state.ended = true;
            self.bell.notify_all();
            [state.worker.take(), state.late.take()]
        };
        for worker in lives.into_iter().flatten() {
            self.wake(worker.end());
        }
    }

    /// Has hooks called on a thread of their own: they are the source's code, and may hang as it
    /// does.
    fn wake(self: &Arc<Self>, hooks: Vec<Hook>) {
        if hooks.is_empty() {
            return;
        }
        {
            let mut state = self.state.lock();
            state.hooks.extend(hooks);
            if std::mem::replace(&mut state.waking, true) {
                return;
            }
        }
        let runner = Arc::clone(self);
        let spawned = self
            .threads
            .spawn("liveprops-source", move || runner.call_hooks());
        if spawned.is_err() {
            // A thread that nobody wakes stays for good.
            self.call_hooks();
        }
    }

    fn call_hooks(&self) {
        loop {
            let hooks = {
                let mut state = self.state.lock();
                state.waking = !state.hooks.is_empty();
                std::mem::take(&mut state.hooks)
            };
            if hooks.is_empty() {
                return;
            }
            worker::call(hooks);
        }
    }

    // ---- What the watchdog asks ----

    /// Leaves a thread that hangs to itself and starts another when it is time; says when to look
    /// again.
    pub(super) fn check(self: &Arc<Self>) -> Option<Instant> {
        let now = self.clock.now();
        let (mut trouble, mut hooks) = (None, Vec::new());
        let mut state = self.state.lock();
        if state.ended {
            return None;
        }
        if let Some(worker) = state.worker.clone() {
            match worker.deadline().into_iter().chain(state.answer_by).min() {
                Some(due) if due <= now => {
                    hooks = worker.end();
                    trouble = Some(self.leave(&mut state, now));
                }
                due => return due,
            }
        }
        let next = match state.revive {
            Some(at) if at > now => Some(at),
            Some(_) => match self.start_on(&mut state) {
                Ok(()) => None,
                Err(error) => {
                    trouble = Some(error);
                    state.count_failure();
                    state.revive = Some(now + backoff::after_failures(state.failures));
                    state.revive
                }
            },
            None => None,
        };
        drop(state);
        self.wake(hooks);
        if let Some(error) = trouble {
            self.report(error);
        }
        next
    }

    /// Leaves the thread that runs it to itself, and says why.
    fn leave(&self, state: &mut State, now: Instant) -> Error {
        state.worker = None;
        state.left = state.left.saturating_add(1);
        state.count_failure();
        let what = match state.admitted {
            None => "gave no answer to the first load in time",
            Some(_) => "gave no answer in time",
        };
        let (pause, then) = match state.left.checked_sub(MAX_LEFT + 1) {
            None => {
                let then = "left to itself, and asked again on another thread".to_owned();
                (backoff::after_failures(state.failures), then)
            }
            // Each costs a thread, perhaps for good.
            Some(more) => {
                let (pause, most) = backoff::while_threads_hang(more);
                let left = state.left;
                let then = format!("{left} threads hang in it, so it is left alone for {most:?}");
                (pause, then)
            }
        };
        // Too far away for the clock is never.
        state.revive = now.checked_add(pause);
        let error = Error::new(ErrorKind::Timeout, format!("{what}; {then}"));
        let error = error.with_source_name(&self.name);
        if state.answer_by.is_some_and(|by| by <= now) {
            // Whoever wanted a round of a watch has waited for it long enough.
            state.begun = state.begun.max(state.wanted);
        }
        state.round_over(Err(error.clone()));
        if state.admitted.is_none() {
            state.first = Some(Err(error.clone()));
        }
        self.bell.notify_all();
        error
    }

    /// Starts a thread for the source.
    pub(super) fn start(self: &Arc<Self>) -> Result<(), Error> {
        self.start_on(&mut self.state.lock())
    }

    fn start_on(self: &Arc<Self>, state: &mut State) -> Result<(), Error> {
        let worker = Arc::new(Worker::new(self.clock.clone()));
        let (runner, its_life) = (Arc::clone(self), Arc::clone(&worker));
        // Made on the thread: where none starts, it must not be dropped under the lock held here.
        let run = move || {
            runner.clock.thread_begins();
            Attempt::new(runner, its_life).run();
        };
        self.clock.expect_thread();
        match self.threads.spawn("liveprops-source", run) {
            Ok(()) => {
                state.worker = Some(worker);
                state.revive = None;
                state.resting = false;
                state.answer_by = self.answer_by().filter(|_| state.is_wanted());
                Ok(())
            }
            Err(cause) => {
                let detail = format!("no thread can be started for it: {cause}");
                Err(Error::new(ErrorKind::Unavailable, detail).with_source_name(&self.name))
            }
        }
    }

    // ---- What the thread and the sink ask ----

    pub(super) fn updates(self: &Arc<Self>, worker: &Arc<Worker>) -> SourceContext {
        SourceContext::new(Arc::new(EngineSink::new(
            Weak::clone(&self.engine),
            self,
            Arc::clone(worker),
        )))
    }

    pub(super) fn ring(&self) {
        if let Some(watchdog) = self.watchdog.upgrade() {
            // A source that pushes may begin again after the watchdog has ended.
            watchdog.wake(Weak::clone(&self.engine));
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

    /// Counts a failure and says how long to wait after it.
    pub(super) fn count_failure(&self, state: &mut State, error: &Error) -> Duration {
        state.count_failure();
        let interval = match self.terms.watching {
            Watching::Poll(every) => every,
            _ => MAX_PAUSE,
        };
        backoff::asked_for(state.failures, error.retry_after(), interval)
    }

    /// A thread that is not left to itself has answered, which ends its round; a refusal of what it
    /// said is no failure of its.
    pub(super) fn answered(&self, worker: &Worker, outcome: Result<(), Error>) {
        worker.sign();
        let mut state = self.state.lock();
        if !worker.has_ended() {
            (state.failures, state.loaded) = (0, true);
            state.round_over(outcome);
            self.bell.notify_all();
        }
    }

    /// A thread that is not left to itself has failed, which ends its round.
    pub(super) fn report_error(&self, worker: &Worker, error: Error) {
        worker.sign();
        let mut state = self.state.lock();
        if !worker.has_ended() {
            state.round_over(Err(error));
            self.bell.notify_all();
        }
    }
}

fn closed() -> Error {
    Error::new(
        ErrorKind::Closed,
        "the properties are gone, or the source was removed",
    )
}

/// Runs a source's code; a panic in it is an error.
pub(crate) fn guarded<R>(run: impl FnOnce() -> Result<R, Error>) -> Result<R, Error> {
    panics::catch(run).unwrap_or_else(|panic| Err(Error::from_panic("the source", panic.message())))
}

impl Drop for SourceRunner {
    fn drop(&mut self) {
        let source = std::mem::replace(&mut self.source, Box::new(Gone));
        let hooks = std::mem::take(&mut self.state.get_mut().hooks);
        // How they are dropped is the source's code, which whoever drops the last clone does not
        // wait for.
        let run = move || {
            let _ = panics::drop_contained(source);
            for hook in hooks {
                let _ = panics::drop_contained(hook);
            }
        };
        // Where no thread starts, they are dropped right here.
        let _ = panics::catch(|| drop(self.threads.spawn("liveprops-source", run)));
    }
}

/// Stands where a source was.
struct Gone;

impl Source for Gone {
    fn origin(&self) -> Origin {
        Origin::new("nothing", "")
    }

    fn load(&self) -> Result<Document, Error> {
        Err(closed())
    }
}

impl fmt::Debug for SourceRunner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceRunner")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
