//! The first load of a source, as the builder sees it.

use std::sync::Arc;
use std::time::Instant;

use crate::engine::supervisor::backoff;
use crate::engine::supervisor::runner::{SourceRunner, catch_source_panic};
use crate::engine::supervisor::state::Thread;
use crate::engine::supervisor::worker::{self, Worker};
use crate::error::{Error, ErrorKind};
use crate::source::{References, Start, Watching};
use crate::value::document::Document;

impl SourceRunner {
    /// Has a source that pushes send all its values now.
    pub(super) fn attach(self: &Arc<Self>) -> Result<(), Error> {
        let worker = Arc::new(Worker::new(self.clock.clone()));
        let pushing = Thread::Pushing(Arc::clone(&worker));
        self.state.lock().set_thread(pushing);
        let updates = self.updates(&worker);
        catch_source_panic(|| self.source.watch(&updates))
    }

    /// Has a source that could not begin to push retry after its admission.
    pub(super) fn defer_attach(&self, error: Error) {
        let mut state = self.state.lock();
        // Later reports of the failed attempt are rejected.
        let hooks = state.set_thread(Thread::Idle).map(|worker| worker.end());
        state.count_failure();
        state.admission.put_first(Err(error));
        drop(state);
        if let Some(hooks) = hooks {
            worker::call(hooks);
        }
    }

    /// Why a source could not begin to push, if it could not.
    pub(crate) fn take_attach_error(&self) -> Option<Error> {
        self.state.lock().admission.take_first()?.err()
    }

    /// Lets a bootstrap source that pushes learn that later changes are rejected.
    pub(crate) fn watch_late_changes(self: &Arc<Self>) {
        let worker = Arc::new(Worker::new(self.clock.clone()));
        {
            let mut state = self.state.lock();
            if state.has_ended() {
                return;
            }
            state.late = Some(Arc::clone(&worker));
        }
        let updates = self.updates(&worker);
        // The commit reports a first document that differs from the one of the start.
        let _ = catch_source_panic(|| match self.source.watching() {
            Watching::Push => self.source.watch(&updates),
            _ => Ok(()),
        });
    }

    /// Whether the start may go on without the source, or with restored values.
    pub(super) fn is_dispensable(&self) -> bool {
        let policy = &self.terms.policy;
        policy.cache.is_some() || matches!(policy.start, Start::Optional(_))
    }

    /// Whether the start waits for values, and not only for one attempt.
    pub(super) fn is_patient(&self) -> bool {
        matches!(
            self.terms.policy.start,
            Start::Required(Some(_)) | Start::Waits
        )
    }

    /// Whether the values of the source contain no references.
    pub(crate) fn is_literal(&self) -> bool {
        self.terms.policy.references == References::Literal
    }

    /// Until when the start waits for the first load; `None`: however long it takes.
    pub(crate) fn waits_until(&self, deadline: Instant) -> Option<Instant> {
        match self.terms.policy.start {
            Start::Required(None) => Some(deadline),
            Start::Required(Some(time)) | Start::Optional(time) => {
                self.started_at.checked_add(time)
            }
            Start::Waits => None,
        }
    }

    /// Waits for the first load, as long as the policy allows. With restored values, or if the start
    /// fails anyhow, one answer is enough, whatever it is.
    pub(crate) fn wait_for_first(
        &self,
        deadline: Instant,
        is_restored: bool,
        is_doomed: bool,
    ) -> Result<Document, Error> {
        let policy = self.waits_until(deadline);
        let one_load = self
            .started_at
            .checked_add(self.terms.timing.load_deadline());
        let until = policy
            .into_iter()
            .chain(one_load.filter(|_| is_restored))
            .chain(is_doomed.then_some(deadline))
            .min();
        let retries = self.is_patient() && !is_restored && !is_doomed;
        let mut state = self.state.lock();
        loop {
            let is_late = until.is_some_and(|until| self.clock.now() >= until);
            match state.admission.take_first() {
                Some(Ok(document)) => return Ok(document),
                Some(Err(error)) if is_late || !retries => return Err(error),
                Some(Err(error)) => state.admission.put_first(Err(error)),
                None if is_late => {
                    let detail = "did not answer before the deadline of the initial load";
                    return Err(Error::new(ErrorKind::Timeout, detail).with_source_name(&self.name));
                }
                None => {}
            }
            if state.has_ended() {
                return Err(Error::closed());
            }
            self.clock.wait(&self.changed, &mut state, until);
        }
    }

    /// Records that the layer is in the tree, with values that the source has loaded or without.
    pub(crate) fn admit(&self, is_loaded: bool) {
        let mut state = self.state.lock();
        state.admission.admit(is_loaded);
        let attaches_again =
            self.terms.watching == Watching::Push && matches!(state.thread, Thread::Idle);
        if attaches_again {
            let restart_at = self.clock.now() + backoff::after_failures(state.failures);
            state.set_thread(Thread::Restarting(Some(restart_at)));
        }
        self.changed.notify_all();
        drop(state);
        if attaches_again {
            if let Some(engine) = self.engine.upgrade() {
                engine.supervisor.wake_or_start(&engine);
            }
        }
    }
}
