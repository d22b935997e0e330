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
    runner: Arc<SourceRunner>,
    worker: Arc<Worker>,
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let runner = &self.runner;
        let mut state = runner.state.lock();
        if state.ended {
            return;
        }
        if self.worker.has_ended() {
            state.left = state.left.saturating_sub(1);
            // It has got somewhere, so the next attempt may.
            let soon = runner.clock.now() + backoff::after_failures(state.failures);
            state.revive = state.revive.map(|at| at.min(soon));
        } else if !state.resting {
            // It ended without being told to, which is our fault and not the source's.
            state.worker = None;
            state.count_failure();
            state.revive = Some(runner.clock.now() + backoff::after_failures(state.failures));
        }
        drop(state);
        runner.ring();
    }
}

/// Whether a thread goes on.
enum Then {
    GoOn,
    End,
}

impl Attempt {
    pub(super) fn new(runner: Arc<SourceRunner>, worker: Arc<Worker>) -> Self {
        Self { runner, worker }
    }

    pub(super) fn run(&self) {
        watchdog::runs(&self.runner);
        let updates = self.runner.updates(&self.worker);
        let admitted = self.runner.state.lock().admitted.is_some();
        if !admitted && matches!(self.first(&updates), Then::End) {
            return;
        }
        loop {
            let then = match self.runner.terms.watching {
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
        self.worker.begin(deadline);
        self.runner.ring();
        let outcome = guarded(run);
        self.worker.answered().then_some(outcome)
    }

    /// Waits until a moment, or for ever, or until somebody wants a round; says whether to go on.
    fn wait(&self, until: Option<Instant>) -> Then {
        let runner = &self.runner;
        let mut state = runner.state.lock();
        loop {
            if state.ended || self.worker.has_ended() {
                return Then::End;
            }
            if state.is_wanted() || until.is_some_and(|until| runner.clock.now() >= until) {
                return Then::GoOn;
            }
            runner.clock.wait(&runner.bell, &mut state, until);
        }
    }

    fn begin_round(&self) {
        self.runner.state.lock().begun += 1;
    }

    /// Commits what the source answered, which ends the round.
    fn commit(&self, updates: &SourceContext, update: Update) {
        let outcome = updates.send(update).and_then(|applied| whole(&applied));
        self.runner.answered(&self.worker, outcome);
    }

    /// Ends a round in which the source failed, and says how long to wait before the next.
    fn report_error(&self, error: Error) -> Duration {
        let mut state = self.runner.state.lock();
        let pause = self.runner.count_failure(&mut state, &error);
        state.round_over(Err(error));
        self.runner.bell.notify_all();
        pause
    }

    fn pause(&self, pause: Duration) -> Then {
        self.wait(self.runner.clock.now().checked_add(pause))
    }

    /// Loads until the builder has taken its values, or goes on without.
    fn first(&self, updates: &SourceContext) -> Then {
        let runner = &self.runner;
        loop {
            self.begin_round();
            let Some(outcome) = self.bounded(runner.terms.first, || runner.source.load()) else {
                return Then::End;
            };
            let mut state = runner.state.lock();
            let mut again = None;
            if let Err(error) = &outcome {
                let pause = runner.count_failure(&mut state, error);
                again = runner.clock.now().checked_add(pause);
                drop(state);
                if runner.is_patient() {
                    updates.report_error(error.clone());
                }
                state = runner.state.lock();
            } else {
                state.failures = 0;
            }
            // Else the builder has one attempt, and what comes of it decides.
            let until = again.filter(|_| runner.is_patient());
            state.first = Some(outcome);
            runner.bell.notify_all();
            loop {
                if state.ended || self.worker.has_ended() {
                    return Then::End;
                }
                if let Some(loaded) = state.admitted {
                    let first = state.first.take();
                    return self.after_admission(state, loaded, first, again, updates);
                }
                if until.is_some_and(|until| runner.clock.now() >= until) {
                    break;
                }
                runner.clock.wait(&runner.bell, &mut state, until);
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
            self.runner.bell.notify_all();
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
                let soon = || self.runner.clock.now() + backoff::after_failures(1);
                self.wait(Some(again.unwrap_or_else(soon)))
            }
        }
    }

    /// A source that is loaded once, and again when somebody wants it.
    fn load_once(&self, updates: &SourceContext) -> Then {
        {
            let mut state = self.runner.state.lock();
            if state.loaded && !state.is_wanted() {
                state.resting = true;
                state.worker = None;
                return Then::End;
            }
        }
        self.round(updates)
    }

    fn poll(&self, updates: &SourceContext, every: Duration) -> Then {
        let runner = &self.runner;
        let manual = runner.terms.policy.manual;
        let (due, next) = {
            let state = runner.state.lock();
            // After a failure its pause was waited for already.
            let due = !state.loaded || (state.failures > 0 && !manual);
            (
                due,
                backoff::next_poll(runner.clock.now(), every, state.slot),
            )
        };
        if !due {
            let next = next.filter(|_| !manual);
            if matches!(self.wait(next), Then::End) {
                return Then::End;
            }
            if next.is_some_and(|next| runner.clock.now() >= next) {
                runner.state.lock().slot = next;
            }
        }
        self.round(updates)
    }

    /// Asks the source once and commits what it says; waits after a failure.
    fn round(&self, updates: &SourceContext) -> Then {
        let runner = &self.runner;
        let engine = runner.engine.upgrade();
        let committed = engine.and_then(|engine| engine.health_registry.revision(runner.id));
        self.begin_round();
        let deadline = runner.terms.timing.load_deadline();
        match self.bounded(deadline, || runner.source.poll(committed.as_deref())) {
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
        let runner = &self.runner;
        let deadline = runner.terms.timing.load_deadline();
        match self.bounded(deadline, || runner.source.watch(updates)) {
            None => Then::End,
            Some(Ok(())) => {
                // It pushes from threads of its own from now on.
                let mut state = runner.state.lock();
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
        let runner = &self.runner;
        self.begin_round();
        let begun = runner.clock.now();
        let before = runner.state.lock().failures;
        self.worker.watch(runner.terms.timing.longest_silence());
        self.runner.ring();
        let outcome = guarded(|| runner.source.watch(updates));
        let again = self.worker.watched();
        if self.worker.has_ended() {
            return Then::End;
        }
        let error = match outcome {
            Err(error) => error,
            Ok(()) if again => return Then::GoOn,
            Ok(()) => Error::new(ErrorKind::Unavailable, "the watch ended by itself"),
        };
        updates.report_error(error.clone());
        let lasted = runner.clock.now().saturating_duration_since(begun) >= HEALTHY;
        let silent = {
            let mut state = runner.state.lock();
            if !lasted {
                // What breaks as soon as it begins would otherwise be begun without end.
                state.failures = state.failures.max(before);
            }
            lasted && state.failures > 0
        };
        let asked = error.retry_after().is_some();
        let pause = self.report_error(error);
        self.pause(if silent && !asked {
            pause.min(backoff::after_silence())
        } else {
            pause
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
