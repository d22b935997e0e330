//! Keeps one source running: load, then watch or poll, again after a failure, and on another thread
//! when one hangs.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::engine::clock::Clock;
use crate::engine::core::Engine;
use crate::engine::supervise::life::{self, Hook, Life};
use crate::engine::supervise::monitor::Monitor;
use crate::engine::supervise::pause::{self, MAX_PAUSE};
use crate::engine::supervise::sink::EngineSink;
use crate::engine::threads::Threads;
use crate::error::{Error, ErrorKind};
use crate::property::slot::panicked;
use crate::source::{Applied, Policy, Refusal, Source, Start, Timing, Update, Updates, Watching};
use crate::tree::layer::SourceId;
use crate::value::document::Document;
use crate::value::origin::Origin;

/// The shortest pause between two loads.
const MIN_POLL: Duration = Duration::from_millis(1);
/// As many threads of one source may hang before no other is started for it.
const MAX_LEFT: usize = 3;

/// What a source says of itself, asked once.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub(crate) watching: Watching,
    pub(crate) refusal: Refusal,
    pub(crate) timing: Timing,
    pub(crate) policy: Policy,
    /// Whether only the start of the program loads it.
    pub(crate) bootstrap: bool,
}

/// One source and what runs it.
pub(crate) struct Keeper {
    pub(crate) id: SourceId,
    pub(crate) name: Arc<str>,
    pub(crate) terms: Terms,
    source: Box<dyn Source>,
    engine: Weak<Engine>,
    clock: Clock,
    began: Instant,
    monitor: Weak<Monitor>,
    state: Mutex<State>,
    bell: Condvar,
}

#[derive(Default)]
struct State {
    /// It is over: the source was removed, or the engine ends.
    ended: bool,
    /// The thread that runs it, if one does.
    life: Option<Arc<Life>>,
    /// It needs no thread until somebody asks.
    resting: bool,
    /// When the next thread is to be started in place of one that is gone.
    revive: Option<Instant>,
    /// What wakes a thread that was left to itself.
    hooks: Vec<Hook>,
    /// How many threads hang.
    left: usize,
    failures: u32,
    /// How long the newest poll waited for its answer; none after a failure, and before the first.
    waited: Option<Duration>,
    /// What the newest load before the admission brought.
    first: Option<Result<Document, Error>>,
    /// Whether the layer is in the tree, and then whether it holds what the source has loaded.
    admitted: Option<bool>,
    loaded: bool,
    /// The number of the newest round, one load or one watch, that has begun, that is over, and
    /// that somebody waits for.
    begun: u64,
    over: u64,
    wanted: u64,
    outcome: Option<Result<(), Error>>,
}

impl State {
    fn is_wanted(&self) -> bool {
        self.wanted > self.begun
    }
}

impl Keeper {
    pub(super) fn new(
        engine: &Engine,
        monitor: &Arc<Monitor>,
        id: SourceId,
        name: Arc<str>,
        terms: Terms,
        source: Box<dyn Source>,
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            name,
            terms,
            source,
            engine: engine.weak(),
            clock: monitor.clock.clone(),
            began: monitor.clock.now(),
            monitor: Arc::downgrade(monitor),
            state: Mutex::default(),
            bell: Condvar::new(),
        })
    }

    // ---- What the builder asks ----

    /// Has a source whose changes are pushed say all it has, now.
    pub(crate) fn attach(self: &Arc<Self>) -> Result<(), Error> {
        let life = Arc::new(Life::new(self.clock.clone()));
        {
            let mut state = self.state.lock();
            state.life = Some(Arc::clone(&life));
            state.loaded = true;
        }
        let updates = self.updates(&life);
        guarded(|| self.source.watch(&updates))
    }

    /// Waits for the first load until `deadline`, as long as the policy wants to.
    pub(crate) fn wait_for_first(
        &self,
        deadline: Instant,
        cached: bool,
    ) -> Result<Document, Error> {
        let until = match self.terms.policy.start {
            Start::Required(None) => Some(deadline),
            Start::Required(Some(time)) | Start::Optional(time) => self.began.checked_add(time),
            Start::Waits => None,
        };
        // With the values of last time at hand, the first failure is enough.
        let patient = self.is_patient() && !cached;
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
                        Error::new(ErrorKind::Timeout, detail).with_origin(&self.name)
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
    fn is_patient(&self) -> bool {
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
        self.bell.notify_all();
    }

    // ---- What the program asks ----

    /// Wants another round, and says which; `None` for a source that pushes, which is always
    /// current.
    pub(super) fn want(self: &Arc<Self>) -> Option<u64> {
        if self.terms.watching == Watching::Push || self.terms.bootstrap {
            return None;
        }
        let (number, life) = {
            let mut state = self.state.lock();
            let number = state.begun + 1;
            state.wanted = state.wanted.max(number);
            self.bell.notify_all();
            if std::mem::take(&mut state.resting) {
                state.revive = Some(self.clock.now());
            }
            (number, state.life.clone())
        };
        match life {
            Some(life) if self.terms.watching == Watching::Stream => life.again(),
            _ => self.ring(),
        }
        Some(number)
    }

    /// Waits for a round to be over and says what became of it.
    pub(super) fn wait_for(&self, number: u64, until: Instant) -> Result<(), Error> {
        let mut state = self.state.lock();
        loop {
            if state.over >= number {
                return state.outcome.clone().unwrap_or(Ok(()));
            }
            if state.ended {
                return Err(closed());
            }
            if self.clock.now() >= until {
                let detail = "did not answer in time; its values stay, and it is asked again";
                return Err(Error::new(ErrorKind::Timeout, detail).with_origin(&self.name));
            }
            self.clock.wait(&self.bell, &mut state, Some(until));
        }
    }

    /// How long a round may take.
    pub(super) fn patience(&self) -> Duration {
        // A thread that hangs is noticed and replaced a little after its deadline.
        self.terms.timing.load_deadline() + Duration::from_secs(1)
    }

    /// Tells it to end, and does not wait.
    pub(super) fn end(&self) {
        let (life, hooks) = {
            let mut state = self.state.lock();
            state.ended = true;
            self.bell.notify_all();
            (state.life.take(), std::mem::take(&mut state.hooks))
        };
        life::call(hooks);
        if let Some(life) = life {
            life::call(life.end());
        }
    }

    // ---- What the monitor asks ----

    /// Leaves a thread that hangs to itself and starts another when it is time; says when to look
    /// again.
    pub(super) fn check(self: &Arc<Self>, threads: &Threads) -> Option<Instant> {
        let now = self.clock.now();
        let mut hung = None;
        let mut state = self.state.lock();
        if state.ended {
            return None;
        }
        if let Some(life) = &state.life {
            match life.deadline() {
                Some(due) if due <= now => {
                    let hooks = life.end();
                    let detail = match state.admitted {
                        None => "gave no answer to the first load in time",
                        Some(_) => "gave no answer in time",
                    };
                    let detail =
                        format!("{detail}; left to itself, and asked again on another thread");
                    let error = Error::new(ErrorKind::Timeout, detail).with_origin(&self.name);
                    state.hooks = hooks;
                    state.life = None;
                    state.left += 1;
                    state.failures = state.failures.saturating_add(1);
                    state.revive = Some(now + pause::after_failures(state.failures));
                    self.round_over(&mut state, Err(error.clone()));
                    if state.admitted.is_none() {
                        state.first = Some(Err(error.clone()));
                    }
                    hung = Some(error);
                }
                due => return due,
            }
        }
        let next = match state.revive {
            Some(at) if at > now => Some(at),
            // One of them has to return first.
            Some(_) if state.left > MAX_LEFT => None,
            Some(_) => match self.start_on(&mut state, threads) {
                Ok(()) => None,
                Err(error) => {
                    hung = Some(error);
                    state.failures = state.failures.saturating_add(1);
                    state.revive = Some(now + pause::after_failures(state.failures));
                    state.revive
                }
            },
            None => None,
        };
        drop(state);
        if let Some(error) = hung {
            self.report(error);
        }
        next
    }

    /// Starts a thread for the source.
    pub(super) fn start(self: &Arc<Self>, threads: &Threads) -> Result<(), Error> {
        self.start_on(&mut self.state.lock(), threads)
    }

    fn start_on(self: &Arc<Self>, state: &mut State, threads: &Threads) -> Result<(), Error> {
        let life = Arc::new(Life::new(self.clock.clone()));
        let hooks = std::mem::take(&mut state.hooks);
        let (keeper, its_life) = (Arc::clone(self), Arc::clone(&life));
        // Made on the thread: where none starts, it must not be dropped under the lock held here.
        let run = move || {
            let turn = Turn {
                keeper,
                life: its_life,
            };
            // They wake a thread that was left to itself, and may hang as it does.
            let woken = turn.bounded(|| {
                life::call(hooks);
                Ok(())
            });
            if woken.is_some() {
                turn.run();
            }
        };
        match threads.spawn("liveprops-source", run) {
            Ok(()) => {
                state.life = Some(life);
                state.revive = None;
                state.resting = false;
                Ok(())
            }
            Err(cause) => {
                let detail = format!("no thread can be started for it: {cause}");
                Err(Error::new(ErrorKind::Unavailable, detail).with_origin(&self.name))
            }
        }
    }

    // ---- What the thread and the sink ask ----

    fn updates(self: &Arc<Self>, life: &Arc<Life>) -> Updates {
        Updates::new(Arc::new(EngineSink::new(
            Weak::clone(&self.engine),
            self,
            Arc::clone(life),
        )))
    }

    fn ring(&self) {
        if let Some(monitor) = self.monitor.upgrade() {
            monitor.ring();
        }
    }

    fn report(&self, error: Error) {
        if let Some(engine) = self.engine.upgrade() {
            let generation = engine.current.load().number();
            engine.books.failed(self.id, generation, error);
        }
    }

    /// Counts a failure and says how long to wait after it.
    fn count_failure(&self, state: &mut State, error: &Error) -> Duration {
        state.failures = state.failures.saturating_add(1);
        let interval = match self.terms.watching {
            Watching::Poll(every) => every,
            _ => MAX_PAUSE,
        };
        pause::asked_for(state.failures, error.retry_after(), interval)
    }

    fn round_over(&self, state: &mut State, outcome: Result<(), Error>) {
        if state.over < state.begun {
            state.over = state.begun;
            state.outcome = Some(outcome);
            self.bell.notify_all();
        }
    }

    /// A thread that is not left to itself has said something that ends its round.
    pub(super) fn said(&self, life: &Life, outcome: Result<(), Error>) {
        life.sign();
        if !life.has_ended() {
            self.round_over(&mut self.state.lock(), outcome);
        }
    }
}

fn closed() -> Error {
    Error::new(
        ErrorKind::Closed,
        "the properties are gone, or the source was removed",
    )
}

/// A thread's turn at a source.
struct Turn {
    keeper: Arc<Keeper>,
    life: Arc<Life>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let keeper = &self.keeper;
        let mut state = keeper.state.lock();
        if state.ended {
            return;
        }
        if self.life.has_ended() {
            state.left = state.left.saturating_sub(1);
        } else if !state.resting {
            // It ended without being told to, which is our fault and not the source's.
            state.life = None;
            state.failures = state.failures.saturating_add(1);
            state.revive = Some(keeper.clock.now() + pause::after_failures(state.failures));
        }
        drop(state);
        keeper.ring();
    }
}

/// Whether a thread goes on.
enum Then {
    GoOn,
    End,
}

impl Turn {
    fn run(&self) {
        let updates = self.keeper.updates(&self.life);
        let admitted = self.keeper.state.lock().admitted.is_some();
        if !admitted && matches!(self.first(&updates), Then::End) {
            return;
        }
        loop {
            let then = match self.keeper.terms.watching {
                Watching::Never => self.load_once(&updates),
                Watching::Poll(every) => self.poll(&updates, every.max(MIN_POLL)),
                Watching::Stream => self.stream(&updates),
                Watching::Push => Then::End,
            };
            if matches!(then, Then::End) {
                return;
            }
        }
    }

    /// Runs code of the source that has to answer in time; `None` if it did not.
    fn bounded<R>(&self, run: impl FnOnce() -> Result<R, Error>) -> Option<Result<R, Error>> {
        self.life.begin(self.keeper.terms.timing.load_deadline());
        self.keeper.ring();
        let outcome = guarded(run);
        self.life.answered().then_some(outcome)
    }

    /// Waits until a moment, or for ever, or until somebody wants a round; says whether to go on.
    fn wait(&self, until: Option<Instant>) -> Then {
        let keeper = &self.keeper;
        let mut state = keeper.state.lock();
        loop {
            if state.ended || self.life.has_ended() {
                return Then::End;
            }
            if state.is_wanted() || until.is_some_and(|until| keeper.clock.now() >= until) {
                return Then::GoOn;
            }
            keeper.clock.wait(&keeper.bell, &mut state, until);
        }
    }

    fn begin_round(&self) {
        self.keeper.state.lock().begun += 1;
    }

    /// Notes how long a poll waited for its answer, if it goes on as before. After the first of all,
    /// and the first after a failure, the next is spread over the whole interval: others may have
    /// started, or failed, at the same moment.
    fn waited(&self, waited: Duration) {
        let mut state = self.keeper.state.lock();
        let steady = state.loaded && state.failures == 0;
        state.waited = steady.then_some(waited);
    }

    /// Ends a round in which the source answered; a refusal of what it said is no failure of its.
    fn answered(&self, outcome: Result<Applied, Error>) {
        let mut state = self.keeper.state.lock();
        (state.failures, state.loaded) = (0, true);
        self.keeper.round_over(&mut state, outcome.and_then(whole));
    }

    /// Ends a round in which the source failed, and says how long to wait before the next.
    fn failed(&self, error: Error) -> Duration {
        let mut state = self.keeper.state.lock();
        let pause = self.keeper.count_failure(&mut state, &error);
        self.keeper.round_over(&mut state, Err(error));
        pause
    }

    fn pause(&self, pause: Duration) -> Then {
        self.wait(self.keeper.clock.now().checked_add(pause))
    }

    /// Loads until the builder has taken its values, or goes on without.
    fn first(&self, updates: &Updates) -> Then {
        let keeper = &self.keeper;
        loop {
            self.begin_round();
            let Some(outcome) = self.bounded(|| keeper.source.load()) else {
                return Then::End;
            };
            let mut state = keeper.state.lock();
            let mut again = None;
            if let Err(error) = &outcome {
                let pause = keeper.count_failure(&mut state, error);
                again = keeper.clock.now().checked_add(pause);
                drop(state);
                if keeper.is_patient() {
                    updates.failed(error.clone());
                }
                state = keeper.state.lock();
            } else {
                state.failures = 0;
            }
            // Else the builder has one attempt, and what comes of it decides.
            let until = again.filter(|_| keeper.is_patient());
            state.first = Some(outcome);
            keeper.bell.notify_all();
            loop {
                if state.ended || self.life.has_ended() {
                    return Then::End;
                }
                if let Some(loaded) = state.admitted {
                    let first = state.first.take();
                    return self.after_admission(state, loaded, first, again, updates);
                }
                if until.is_some_and(|until| keeper.clock.now() >= until) {
                    break;
                }
                keeper.clock.wait(&keeper.bell, &mut state, until);
            }
        }
    }

    /// The layer is in the tree. What came after the builder went on is committed now.
    fn after_admission(
        &self,
        mut state: MutexGuard<'_, State>,
        loaded: bool,
        first: Option<Result<Document, Error>>,
        again: Option<Instant>,
        updates: &Updates,
    ) -> Then {
        if loaded {
            self.keeper.round_over(&mut state, Ok(()));
            return Then::GoOn;
        }
        drop(state);
        match first {
            Some(Ok(document)) => {
                self.answered(updates.send(Update::full(document)));
                Then::GoOn
            }
            // The builder has seen the failure, and told of it.
            _ => {
                let soon = || self.keeper.clock.now() + pause::after_failures(1);
                self.wait(Some(again.unwrap_or_else(soon)))
            }
        }
    }

    /// A source that is loaded once, and again when somebody wants it.
    fn load_once(&self, updates: &Updates) -> Then {
        {
            let mut state = self.keeper.state.lock();
            if state.loaded && !state.is_wanted() {
                state.resting = true;
                state.life = None;
                return Then::End;
            }
        }
        self.round(updates)
    }

    fn poll(&self, updates: &Updates, every: Duration) -> Then {
        let keeper = &self.keeper;
        let (due, waited) = {
            let state = keeper.state.lock();
            // After a failure its pause was waited for already.
            (!state.loaded || state.failures > 0, state.waited)
        };
        let pause = pause::between_polls(every, waited);
        let until = match keeper.terms.policy.manual {
            true => None,
            false => keeper.clock.now().checked_add(pause),
        };
        if !due && matches!(self.wait(until), Then::End) {
            return Then::End;
        }
        self.round(updates)
    }

    /// Asks the source once and commits what it says; waits after a failure.
    fn round(&self, updates: &Updates) -> Then {
        let keeper = &self.keeper;
        let engine = keeper.engine.upgrade();
        let committed = engine.and_then(|engine| engine.books.revision(keeper.id));
        self.begin_round();
        let began = keeper.clock.now();
        match self.bounded(|| keeper.source.poll(committed.as_deref())) {
            None => Then::End,
            Some(Ok(update)) => {
                self.waited(keeper.clock.now().saturating_duration_since(began));
                self.answered(updates.send(update));
                Then::GoOn
            }
            Some(Err(error)) => {
                updates.failed(error.clone());
                let pause = self.failed(error);
                self.pause(pause)
            }
        }
    }

    fn stream(&self, updates: &Updates) -> Then {
        let keeper = &self.keeper;
        self.begin_round();
        let began = keeper.clock.now();
        self.life.watch(keeper.terms.timing.longest_silence());
        self.keeper.ring();
        let outcome = guarded(|| keeper.source.watch(updates));
        let again = self.life.watched();
        if self.life.has_ended() {
            return Then::End;
        }
        if keeper.clock.now() - began > MAX_PAUSE {
            keeper.state.lock().failures = 0;
        }
        let error = match outcome {
            Err(error) => error,
            Ok(()) if again => return Then::GoOn,
            Ok(()) => Error::new(ErrorKind::Unavailable, "the watch ended by itself"),
        };
        updates.failed(error.clone());
        let pause = self.failed(error);
        self.pause(pause)
    }
}

/// Whether an update was taken as a whole.
fn whole(applied: Applied) -> Result<(), Error> {
    match applied.refused.is_empty() {
        true => Ok(()),
        false => Err(Error::all(applied.refused)),
    }
}

/// Runs a source's code; a panic in it is an error.
pub(crate) fn guarded<R>(run: impl FnOnce() -> Result<R, Error>) -> Result<R, Error> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| Err(panicked("the source", &*panic)))
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let source = std::mem::replace(&mut self.source, Box::new(Gone));
        // How it is dropped is its own code.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(source)));
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

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
