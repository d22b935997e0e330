//! Passes the updates of one source to the engine.

use std::any::{Any, TypeId};
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::engine::core::Engine;
use crate::engine::queue::QueuedCommand;
use crate::engine::supervisor::attempt::check_whole;
use crate::engine::supervisor::runner::SourceRunner;
use crate::engine::supervisor::worker::Worker;
use crate::error::Error;
use crate::source::{CommitOutcome, Make, RejectionScope, Sink, Ticket, Update, Watching};
use crate::tree::layer::SourceId;

/// Passes the reports of one worker of a source to the engine, until the worker has ended.
pub(super) struct EngineSink {
    engine: Weak<Engine>,
    runner: Weak<SourceRunner>,
    id: SourceId,
    rejection_scope: RejectionScope,
    /// Whether its values contain no references.
    is_literal: bool,
    /// Whether the lag of its changes counts from when it sends them.
    is_timed: bool,
    worker: Arc<Worker>,
}

impl EngineSink {
    pub(super) fn new(
        engine: Weak<Engine>,
        runner: &Arc<SourceRunner>,
        worker: Arc<Worker>,
    ) -> Self {
        Self {
            engine,
            runner: Arc::downgrade(runner),
            id: runner.id,
            rejection_scope: runner.terms.rejection_scope,
            is_literal: runner.is_literal(),
            is_timed: runner.terms.watching == Watching::Stream,
            worker,
        }
    }

    /// The engine, unless the worker has ended, or the engine is that of another process.
    fn engine(&self) -> Option<Arc<Engine>> {
        let engine = self.engine.upgrade()?;
        (engine.check_process().is_ok() && !self.worker.has_ended()).then_some(engine)
    }
}

struct EngineTicket {
    engine: Weak<Engine>,
    runner: Weak<SourceRunner>,
    worker: Arc<Worker>,
    queued: Result<Arc<QueuedCommand>, Error>,
}

impl Ticket for EngineTicket {
    fn commit(self: Box<Self>) -> Result<CommitOutcome, Error> {
        let engine = self.engine.upgrade().ok_or_else(Error::closed)?;
        let outcome = engine.commit_up_to(&*self.queued?);
        if let Some(runner) = self.runner.upgrade() {
            let answer = outcome.as_ref().map_err(Error::clone).and_then(check_whole);
            let answer = answer.and_then(|()| engine.health_registry.check_whole(runner.id));
            runner.record_answer(&self.worker, answer);
        }
        outcome
    }
}

impl Sink for EngineSink {
    fn queue(&self, mut update: Update) -> Box<dyn Ticket> {
        if self.is_literal {
            update.escape_references();
        }
        let queued = match self.engine() {
            Some(engine) => {
                let received_at = self.is_timed.then(|| engine.supervisor.clock().now());
                engine.enqueue_update(self.id, update, self.rejection_scope, received_at)
            }
            None => Err(Error::closed()),
        };
        Box::new(EngineTicket {
            engine: Weak::clone(&self.engine),
            runner: Weak::clone(&self.runner),
            worker: Arc::clone(&self.worker),
            queued,
        })
    }

    fn report_error(&self, error: Error) {
        if let Some(engine) = self.engine() {
            let generation = engine.current.load().number();
            engine
                .health_registry
                .report_error(self.id, generation, error.clone());
            if let Some(runner) = self.runner.upgrade() {
                runner.record_error(&self.worker, error);
            }
            // From now on its values grow old, which the watchdog reports.
            engine.supervisor.wake();
        }
    }

    fn heartbeat(&self) {
        if let Some(engine) = self.engine() {
            let generation = engine.current.load().number();
            if engine.health_registry.record_heartbeat(self.id, generation) {
                engine.cache.record_heartbeat(self.id);
            }
            if let Some(runner) = self.runner.upgrade() {
                runner.record_answer(&self.worker, Ok(()));
            }
        }
    }

    fn set_degraded(&self, reason: Option<Error>) {
        if let Some(engine) = self.engine() {
            let generation = engine.current.load().number();
            engine
                .health_registry
                .set_degraded(self.id, generation, reason);
            self.worker.extend_deadline();
        }
    }

    fn set_location(&self, location: Arc<str>) {
        if let Some(engine) = self.engine() {
            engine.health_registry.set_location(self.id, location);
        }
    }

    fn is_stopped(&self) -> bool {
        // Before the lock, which another thread may have held at a fork.
        let engine = self.engine.upgrade();
        engine.is_none_or(|engine| engine.check_process().is_err()) || self.worker.is_stopped()
    }

    fn wait(&self, pause: Duration) -> bool {
        self.worker.wait(pause)
    }

    fn on_stop(&self, hook: Box<dyn Fn() + Send + Sync>) {
        self.worker.on_stop(hook);
    }

    fn shared(&self, kind: TypeId, make: Make<'_>) -> Arc<dyn Any + Send + Sync> {
        match self.engine.upgrade() {
            Some(engine) => engine.shared.get_or_make(kind, make),
            None => make(),
        }
    }
}

impl fmt::Debug for EngineSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineSink")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
