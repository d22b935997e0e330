//! A thread's turn at a source: the first load, then rounds of loading or watching, with a pause
//! after a failure.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::supervisor::runner::{SourceRunner, State, guarded};
use crate::engine::supervisor::worker::Worker;
use crate::engine::supervisor::{backoff, watchdog};
use crate::error::{Error, ErrorKind};
use crate::source::{CommitOutcome, SourceContext, Update, Watching};
use crate::sync::lock::MutexGuard;
use crate::value::document::Document;

/// The shortest pause between two loads.
const MIN_POLL: Duration = Duration::from_millis(1);

/// A watch that breaks after less than this was not healthy, whatever it said.
const HEALTHY: Duration = Duration::from_secs(1);

/// A thread's turn at a source.
pub(super) struct Attempt {
    keeper: Arc<SourceRunner>,
    life: Arc<Worker>,
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let keeper = &self.keeper;
        let mut state = keeper.state.lock();
        if state.ended {
            return;
        }
        if self.life.has_ended() {
            state.left = state.left.saturating_sub(1);
            // It has got somewhere, so the next attempt may.
            let soon = keeper.clock.now() + backoff::after_failures(state.failures);
            state.revive = state.revive.map(|at| at.min(soon));
        } else if !state.resting {
            // It ended without being told to, which is our fault and not the source's.
            state.life = None;
            state.count_failure();
            state.revive = Some(keeper.clock.now() + backoff::after_failures(state.failures));
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

impl Attempt {
    pub(super) fn new(keeper: Arc<SourceRunner>, life: Arc<Worker>) -> Self {
        Self { keeper, life }
    }

    pub(super) fn run(&self) {
        watchdog::runs(&self.keeper);
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
                Watching::Push => self.attach(&updates),
            };
            if matches!(then, Then::End) {
                return;
            }
        }
    }

    /// Runs code of the source that has to answer in time; `None` if it did not.
    fn bounded<R>(
        &self,
        deadline: Duration,
        run: impl FnOnce() -> Result<R, Error>,
    ) -> Option<Result<R, Error>> {
        self.life.begin(deadline);
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

    /// Commits what the source answered, which ends the round.
    fn commit(&self, updates: &SourceContext, update: Update) {
        let outcome = updates.send(update).and_then(|applied| whole(&applied));
        self.keeper.answered(&self.life, outcome);
    }

    /// Ends a round in which the source failed, and says how long to wait before the next.
    fn report_error(&self, error: Error) -> Duration {
        let mut state = self.keeper.state.lock();
        let pause = self.keeper.count_failure(&mut state, &error);
        state.round_over(Err(error));
        self.keeper.bell.notify_all();
        pause
    }

    fn pause(&self, pause: Duration) -> Then {
        self.wait(self.keeper.clock.now().checked_add(pause))
    }

    /// Loads until the builder has taken its values, or goes on without.
    fn first(&self, updates: &SourceContext) -> Then {
        let keeper = &self.keeper;
        loop {
            self.begin_round();
            let Some(outcome) = self.bounded(keeper.terms.first, || keeper.source.load()) else {
                return Then::End;
            };
            let mut state = keeper.state.lock();
            let mut again = None;
            if let Err(error) = &outcome {
                let pause = keeper.count_failure(&mut state, error);
                again = keeper.clock.now().checked_add(pause);
                drop(state);
                if keeper.is_patient() {
                    updates.report_error(error.clone());
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
        updates: &SourceContext,
    ) -> Then {
        if loaded {
            state.round_over(Ok(()));
            self.keeper.bell.notify_all();
            return Then::GoOn;
        }
        drop(state);
        match first {
            Some(Ok(document)) => {
                self.commit(updates, Update::full(document));
                Then::GoOn
            }
            // The builder has seen the failure, and told of it.
            _ => {
                let soon = || self.keeper.clock.now() + backoff::after_failures(1);
                self.wait(Some(again.unwrap_or_else(soon)))
            }
        }
    }

    /// A source that is loaded once, and again when somebody wants it.
    fn load_once(&self, updates: &SourceContext) -> Then {
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

    fn poll(&self, updates: &SourceContext, every: Duration) -> Then {
        let keeper = &self.keeper;
        let manual = keeper.terms.policy.manual;
        let (due, next) = {
            let state = keeper.state.lock();
            // After a failure its pause was waited for already.
            let due = !state.loaded || (state.failures > 0 && !manual);
            (
                due,
                backoff::next_poll(keeper.clock.now(), every, state.slot),
            )
        };
        if !due {
            let next = next.filter(|_| !manual);
            if matches!(self.wait(next), Then::End) {
                return Then::End;
            }
            if next.is_some_and(|next| keeper.clock.now() >= next) {
                keeper.state.lock().slot = next;
            }
        }
        self.round(updates)
    }

    /// Asks the source once and commits what it says; waits after a failure.
    fn round(&self, updates: &SourceContext) -> Then {
        let keeper = &self.keeper;
        let engine = keeper.engine.upgrade();
        let committed = engine.and_then(|engine| engine.books.revision(keeper.id));
        self.begin_round();
        let deadline = keeper.terms.timing.load_deadline();
        match self.bounded(deadline, || keeper.source.poll(committed.as_deref())) {
            None => Then::End,
            Some(Ok(update)) => {
                self.commit(updates, update);
                Then::GoOn
            }
            Some(Err(error)) => {
                updates.report_error(error.clone());
                let pause = self.report_error(error);
                self.pause(pause)
            }
        }
    }

    /// Has a source that could not begin to push begin again, until it can.
    fn attach(&self, updates: &SourceContext) -> Then {
        let keeper = &self.keeper;
        let deadline = keeper.terms.timing.load_deadline();
        match self.bounded(deadline, || keeper.source.watch(updates)) {
            None => Then::End,
            Some(Ok(())) => {
                // It pushes from threads of its own from now on.
                let mut state = keeper.state.lock();
                (state.failures, state.loaded) = (0, true);
                state.resting = true;
                Then::End
            }
            Some(Err(error)) => {
                updates.report_error(error.clone());
                let pause = self.report_error(error);
                self.pause(pause)
            }
        }
    }

    fn stream(&self, updates: &SourceContext) -> Then {
        let keeper = &self.keeper;
        self.begin_round();
        let begun = keeper.clock.now();
        let before = keeper.state.lock().failures;
        self.life.watch(keeper.terms.timing.longest_silence());
        self.keeper.ring();
        let outcome = guarded(|| keeper.source.watch(updates));
        let again = self.life.watched();
        if self.life.has_ended() {
            return Then::End;
        }
        let error = match outcome {
            Err(error) => error,
            Ok(()) if again => return Then::GoOn,
            Ok(()) => Error::new(ErrorKind::Unavailable, "the watch ended by itself"),
        };
        updates.report_error(error.clone());
        let lasted = keeper.clock.now().saturating_duration_since(begun) >= HEALTHY;
        let silent = {
            let mut state = keeper.state.lock();
            if !lasted {
                // What breaks as soon as it begins would otherwise be begun without end.
                state.failures = state.failures.max(before);
            }
            lasted && state.failures > 0
        };
        let asked = error.retry_after().is_some();
        let pause = self.report_error(error);
        self.pause(match silent && !asked {
            true => pause.min(backoff::after_silence()),
            false => pause,
        })
    }
}

/// Whether an update was taken as a whole.
pub(super) fn whole(applied: &CommitOutcome) -> Result<(), Error> {
    match applied.refused.is_empty() {
        true => Ok(()),
        false => Err(Error::all(applied.refused.clone())),
    }
}
