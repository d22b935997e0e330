//! The state of a source: its thread, its admission to the tree, and its rounds.

use std::sync::Arc;
use std::time::Instant;

use crate::engine::supervisor::worker::{Hook, Worker};
use crate::error::Error;
use crate::value::document::Document;

#[derive(Default)]
pub(super) struct RunnerState {
    pub(super) thread: Thread,
    pub(super) admission: Admission,
    pub(super) rounds: Rounds,
    /// The worker by which a bootstrap source that pushes learns that later changes are rejected.
    pub(super) late: Option<Arc<Worker>>,
    /// The hooks that a thread still has to call; `None` while no thread calls hooks.
    pub(super) hooks: Option<Vec<Hook>>,
    /// How many threads hang in the source.
    pub(super) hung: u32,
    /// How many attempts have failed in a row.
    pub(super) failures: u32,
    /// When the newest scheduled poll was due: the next are whole intervals later. `None` after a
    /// failure, and before the first.
    pub(super) last_poll_due: Option<Instant>,
}

/// Which thread runs the source.
#[derive(Default)]
pub(super) enum Thread {
    /// None: it has not been started, or it needs no thread until a round is requested.
    #[default]
    Idle,
    Running(Arc<Worker>),
    /// It pushes from threads of its own.
    Pushing(Arc<Worker>),
    /// The last one hangs or has failed, and another is started then; `None`: later than the clock
    /// reaches.
    Restarting(Option<Instant>),
    /// None any more: the source was removed, or the engine ends.
    Ended,
}

/// Whether the layer of the source is in the tree.
pub(super) enum Admission {
    /// It is not in the tree. The builder waits for the result of the first load; this is the newest one.
    Awaited(Option<Result<Document, Error>>),
    /// It is in the tree without values that the source has loaded. The builder has not received this
    /// result of the first load.
    WithoutValues(Option<Result<Document, Error>>),
    /// It is in the tree, and the source has loaded values.
    Loaded,
}

impl Default for Admission {
    fn default() -> Self {
        Admission::Awaited(None)
    }
}

/// The rounds of a source, one load or one watch each, by their numbers.
#[derive(Default)]
pub(super) struct Rounds {
    begun: u64,
    ended: u64,
    requested: u64,
    outcome: Option<Result<(), Error>>,
    /// Until when a watch has to end the requested round.
    pub(super) answer_by: Option<Instant>,
}

impl Rounds {
    pub(super) fn begin(&mut self) {
        self.begun += 1;
    }

    pub(super) fn is_requested(&self) -> bool {
        self.requested > self.begun
    }

    /// Requests another round and returns its number.
    pub(super) fn request(&mut self, answer_by: Option<Instant>) -> u64 {
        let number = self.begun + 1;
        self.requested = self.requested.max(number);
        self.answer_by = self.answer_by.or(answer_by);
        number
    }

    /// Ends the current round.
    pub(super) fn end(&mut self, outcome: Result<(), Error>) {
        if self.ended < self.begun {
            self.ended = self.begun;
            self.outcome = Some(outcome);
        }
        if self.ended >= self.requested {
            self.answer_by = None;
        }
    }

    /// Ends the current round of a thread that hangs, and the requested one if a watch has not begun
    /// it in time.
    pub(super) fn end_hung(&mut self, now: Instant, error: Error) {
        if self.answer_by.is_some_and(|by| by <= now) {
            self.begun = self.begun.max(self.requested);
        }
        self.end(Err(error));
    }

    /// The outcome of a round, or of a later one.
    pub(super) fn outcome(&self, number: u64) -> Option<Result<(), Error>> {
        let outcome = || self.outcome.clone().unwrap_or(Ok(()));
        (self.ended >= number).then(outcome)
    }
}

impl Admission {
    /// Removes the result of the first load, if there is one.
    pub(super) fn take_first(&mut self) -> Option<Result<Document, Error>> {
        match self {
            Admission::Awaited(first) | Admission::WithoutValues(first) => first.take(),
            Admission::Loaded => None,
        }
    }

    pub(super) fn put_first(&mut self, result: Result<Document, Error>) {
        match self {
            Admission::Awaited(first) | Admission::WithoutValues(first) => *first = Some(result),
            Admission::Loaded => {}
        }
    }

    pub(super) fn is_awaited(&self) -> bool {
        matches!(self, Admission::Awaited(_))
    }

    pub(super) fn is_loaded(&self) -> bool {
        matches!(self, Admission::Loaded)
    }

    /// Records that the layer is in the tree, with values that the source has loaded or without.
    pub(super) fn admit(&mut self, is_loaded: bool) {
        let first = self.take_first();
        *self = if is_loaded {
            Admission::Loaded
        } else {
            Admission::WithoutValues(first)
        };
    }
}

impl RunnerState {
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.thread, Thread::Ended)
    }

    /// The worker of the source, if it has one.
    pub(super) fn worker(&self) -> Option<&Arc<Worker>> {
        match &self.thread {
            Thread::Running(worker) | Thread::Pushing(worker) => Some(worker),
            Thread::Idle | Thread::Restarting(_) | Thread::Ended => None,
        }
    }

    /// Changes which thread runs the source, unless it has ended. Returns the worker before.
    pub(super) fn set_thread(&mut self, thread: Thread) -> Option<Arc<Worker>> {
        if self.has_ended() {
            return None;
        }
        match std::mem::replace(&mut self.thread, thread) {
            Thread::Running(worker) | Thread::Pushing(worker) => Some(worker),
            Thread::Idle | Thread::Restarting(_) | Thread::Ended => None,
        }
    }

    pub(super) fn count_failure(&mut self) {
        self.failures = self.failures.saturating_add(1);
        self.last_poll_due = None;
    }

    /// Records that the source works.
    pub(super) fn count_success(&mut self) {
        self.failures = 0;
        if !self.admission.is_awaited() {
            self.admission = Admission::Loaded;
        }
    }
}
