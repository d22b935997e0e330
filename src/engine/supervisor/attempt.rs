//! One thread's attempt at a source: the first load, then rounds of loading or watching, with a pause
//! after a failure.

use std::ops::ControlFlow::{self, Break, Continue};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::supervisor::runner::{SourceRunner, catch_source_panic};
use crate::engine::supervisor::state::{Admission, RunnerState, Thread};
use crate::engine::supervisor::worker::Worker;
use crate::engine::supervisor::{backoff, watchdog};
use crate::error::{Error, ErrorKind};
use crate::source::{CommitOutcome, SourceContext, Update, Watching};
use crate::sync::lock::MutexGuard;

/// The shortest pause between two loads.
const MIN_POLL: Duration = Duration::from_millis(1);

/// A watch that breaks after less than this was not healthy, whatever it has sent.
const HEALTHY: Duration = Duration::from_secs(1);

/// One thread's attempt at a source.
pub(super) struct Attempt {
    runner: Arc<SourceRunner>,
    worker: Arc<Worker>,
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let runner = &self.runner;
        let mut state = runner.state.lock();
        if state.has_ended() {
            return;
        }
        let soon = |failures| runner.clock.now() + backoff::after_failures(failures);
        if self.worker.has_ended() {
            state.hung = state.hung.saturating_sub(1);
            if let Thread::Restarting(Some(at)) = state.thread {
                // The thread hangs no longer, so the next attempt may succeed.
                let restart_at = soon(state.failures).min(at);
                state.set_thread(Thread::Restarting(Some(restart_at)));
            }
        } else if self.is_running(&state) {
            // The thread ended by itself, which is our fault and not the source's.
            state.count_failure();
            let restart_at = soon(state.failures);
            state.set_thread(Thread::Restarting(Some(restart_at)));
        }
        drop(state);
        runner.wake_watchdog();
    }
}

impl Attempt {
    pub(super) fn new(runner: Arc<SourceRunner>, worker: Arc<Worker>) -> Self {
        Self { runner, worker }
    }

    pub(super) fn run(&self) {
        watchdog::set_runner(&self.runner);
        let updates = self.runner.updates(&self.worker);
        // A break ends the thread.
        let _ = self.run_rounds(&updates);
    }

    fn run_rounds(&self, updates: &SourceContext) -> ControlFlow<()> {
        let is_awaited = self.runner.state.lock().admission.is_awaited();
        if is_awaited {
            self.load_first(updates)?;
        }
        loop {
            match self.runner.terms.watching {
                Watching::Never => self.load_once(updates)?,
                Watching::Poll(every) => self.poll(updates, every.max(MIN_POLL))?,
                Watching::Stream => self.stream(updates)?,
                Watching::Push => self.attach(updates)?,
            }
        }
    }

    /// Runs code of the source that has to answer in time. Breaks if it did not.
    fn bounded<R>(
        &self,
        deadline: Duration,
        run: impl FnOnce() -> Result<R, Error>,
    ) -> ControlFlow<(), Result<R, Error>> {
        self.worker.begin_call(deadline);
        self.runner.wake_watchdog();
        let outcome = catch_source_panic(run);
        if self.worker.end_call() {
            Continue(outcome)
        } else {
            Break(())
        }
    }

    /// Whether this thread runs the source.
    fn is_running(&self, state: &RunnerState) -> bool {
        matches!(&state.thread, Thread::Running(worker) if Arc::ptr_eq(worker, &self.worker))
    }

    fn check_end(&self, state: &RunnerState) -> ControlFlow<()> {
        if state.has_ended() || self.worker.has_ended() {
            Break(())
        } else {
            Continue(())
        }
    }

    /// Waits until a moment, or for ever, or until a round is requested.
    fn wait(&self, until: Option<Instant>) -> ControlFlow<()> {
        let runner = &self.runner;
        let mut state = runner.state.lock();
        loop {
            self.check_end(&state)?;
            let is_over = until.is_some_and(|until| runner.clock.now() >= until);
            if is_over || state.rounds.is_requested() {
                return Continue(());
            }
            runner.clock.wait(&runner.changed, &mut state, until);
        }
    }

    fn begin_round(&self) {
        self.runner.state.lock().rounds.begin();
    }

    /// Commits an answer of the source, which ends the round.
    fn commit(&self, updates: &SourceContext, update: Update) {
        let outcome = updates
            .send(update)
            .and_then(|outcome| check_whole(&outcome));
        self.runner.record_answer(&self.worker, outcome);
    }

    /// Ends a round in which the source failed. Returns how long to wait before the next.
    fn end_failed_round(&self, error: Error) -> Duration {
        let mut state = self.runner.state.lock();
        let pause = self.runner.count_failure(&mut state, &error);
        state.rounds.end(Err(error));
        self.runner.changed.notify_all();
        pause
    }

    /// Reports a failure, and waits.
    fn fail(&self, updates: &SourceContext, error: Error) -> ControlFlow<()> {
        updates.report_error(error.clone());
        let pause = self.end_failed_round(error);
        self.pause(pause)
    }

    fn pause(&self, pause: Duration) -> ControlFlow<()> {
        self.wait(self.runner.clock.now().checked_add(pause))
    }

    /// Loads until the builder has received the values, or goes on without.
    fn load_first(&self, updates: &SourceContext) -> ControlFlow<()> {
        let runner = &self.runner;
        loop {
            self.begin_round();
            let outcome = self.bounded(runner.terms.first, || runner.source.load())?;
            let mut retry_at = None;
            if let Err(error) = &outcome {
                let pause = runner.count_failure(&mut runner.state.lock(), error);
                retry_at = runner.clock.now().checked_add(pause);
                if runner.is_patient() {
                    updates.report_error(error.clone());
                }
            } else {
                runner.state.lock().failures = 0;
            }
            let mut state = runner.state.lock();
            state.admission.put_first(outcome);
            runner.changed.notify_all();
            // A builder that is not patient allows one attempt.
            let until = retry_at.filter(|_| runner.is_patient());
            loop {
                self.check_end(&state)?;
                if !state.admission.is_awaited() {
                    return self.continue_admitted(state, retry_at, updates);
                }
                if until.is_some_and(|until| runner.clock.now() >= until) {
                    break;
                }
                runner.clock.wait(&runner.changed, &mut state, until);
            }
        }
    }

    /// Goes on after the layer is in the tree. Commits a result that came after the builder went on.
    fn continue_admitted(
        &self,
        mut state: MutexGuard<'_, RunnerState>,
        retry_at: Option<Instant>,
        updates: &SourceContext,
    ) -> ControlFlow<()> {
        let first = match &mut state.admission {
            Admission::WithoutValues(first) => first.take(),
            Admission::Awaited(_) | Admission::Loaded => {
                state.rounds.end(Ok(()));
                self.runner.changed.notify_all();
                return Continue(());
            }
        };
        drop(state);
        match first {
            Some(Ok(document)) => {
                self.commit(updates, Update::full(document));
                Continue(())
            }
            // The builder has reported the failure.
            _ => {
                let soon = || self.runner.clock.now() + backoff::after_failures(1);
                self.wait(Some(retry_at.unwrap_or_else(soon)))
            }
        }
    }

    /// Loads a source that is loaded once, and again when a round is requested.
    fn load_once(&self, updates: &SourceContext) -> ControlFlow<()> {
        {
            let mut state = self.runner.state.lock();
            if state.admission.is_loaded() && !state.rounds.is_requested() {
                state.set_thread(Thread::Idle);
                return Break(());
            }
        }
        self.load(updates)
    }

    fn poll(&self, updates: &SourceContext, every: Duration) -> ControlFlow<()> {
        let runner = &self.runner;
        let manual = runner.terms.policy.manual;
        let (is_due, next) = {
            let state = runner.state.lock();
            // After a failure its pause is over already.
            let is_due = !state.admission.is_loaded() || (state.failures > 0 && !manual);
            let now = runner.clock.now();
            (is_due, backoff::next_poll(now, every, state.last_poll_due))
        };
        if !is_due {
            let next = next.filter(|_| !manual);
            self.wait(next)?;
            if next.is_some_and(|next| runner.clock.now() >= next) {
                runner.state.lock().last_poll_due = next;
            }
        }
        self.load(updates)
    }

    /// Polls the source once and commits its answer; waits after a failure.
    fn load(&self, updates: &SourceContext) -> ControlFlow<()> {
        let runner = &self.runner;
        let engine = runner.engine.upgrade();
        let committed = engine.and_then(|engine| engine.health_registry.revision(runner.id));
        self.begin_round();
        let deadline = runner.terms.timing.load_deadline();
        match self.bounded(deadline, || runner.source.poll(committed.as_deref()))? {
            Ok(update) => {
                self.commit(updates, update);
                Continue(())
            }
            Err(error) => self.fail(updates, error),
        }
    }

    /// Retries until a source that pushes has begun to push.
    fn attach(&self, updates: &SourceContext) -> ControlFlow<()> {
        let runner = &self.runner;
        let deadline = runner.terms.timing.load_deadline();
        match self.bounded(deadline, || runner.source.watch(updates))? {
            Ok(()) => {
                let mut state = runner.state.lock();
                state.count_success();
                state.set_thread(Thread::Pushing(Arc::clone(&self.worker)));
                Break(())
            }
            Err(error) => self.fail(updates, error),
        }
    }

    fn stream(&self, updates: &SourceContext) -> ControlFlow<()> {
        let runner = &self.runner;
        self.begin_round();
        let begun = runner.clock.now();
        let failures_before = runner.state.lock().failures;
        self.worker
            .begin_watch(runner.terms.timing.longest_silence());
        runner.wake_watchdog();
        let outcome = catch_source_panic(|| runner.source.watch(updates));
        let is_restarted = self.worker.end_watch();
        if self.worker.has_ended() {
            return Break(());
        }
        let error = match outcome {
            Err(error) => error,
            Ok(()) if is_restarted => return Continue(()),
            Ok(()) => Error::new(ErrorKind::Unavailable, "the watch ended without an error"),
        };
        updates.report_error(error.clone());
        let has_lasted = runner.clock.now().saturating_duration_since(begun) >= HEALTHY;
        let was_silent = {
            let mut state = runner.state.lock();
            if !has_lasted {
                // A watch that breaks as soon as it begins would otherwise be begun without end.
                state.failures = state.failures.max(failures_before);
            }
            has_lasted && state.failures > 0
        };
        let names_pause = error.retry_after().is_some();
        let pause = self.end_failed_round(error);
        self.pause(if was_silent && !names_pause {
            pause.min(backoff::after_silence())
        } else {
            pause
        })
    }
}

/// Returns the rejections of an update that was committed in part as an error.
pub(super) fn check_whole(outcome: &CommitOutcome) -> Result<(), Error> {
    if outcome.rejected.is_empty() {
        Ok(())
    } else {
        Err(Error::all(outcome.rejected.clone()))
    }
}
