//! The way from one source to the engine.

use std::any::{Any, TypeId};
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::engine::core::{Engine, QueuedCommand};
use crate::engine::supervisor::attempt::whole;
use crate::engine::supervisor::runner::SourceRunner;
use crate::engine::supervisor::worker::Worker;
use crate::error::{Error, ErrorKind};
use crate::source::{CommitOutcome, Make, Refusal, Sink, Ticket, Update, Watching};
use crate::tree::layer::SourceId;

/// What one thread's turn at a source says goes to the engine, until the turn is over.
pub(super) struct EngineSink {
    engine: Weak<Engine>,
    runner: Weak<SourceRunner>,
    id: SourceId,
    refusal: Refusal,
    /// Whether its values contain no references.
    is_literal: bool,
    /// Whether to tell how late its changes are from when it says them.
    timed: bool,
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
            refusal: runner.terms.refusal,
            is_literal: runner.is_literal(),
            timed: runner.terms.watching == Watching::Stream,
            worker,
        }
    }

    /// The engine, unless what is said does not count any more, or counts in another process.
    fn engine(&self) -> Option<Arc<Engine>> {
        let engine = self.engine.upgrade()?;
        (engine.check_process().is_ok() && !self.worker.has_ended()).then_some(engine)
    }
}

struct EngineTicket {
    engine: Weak<Engine>,
    runner: Weak<SourceRunner>,
    worker: Arc<Worker>,
    placed: Result<Arc<QueuedCommand>, Error>,
}

impl Ticket for EngineTicket {
    fn commit(self: Box<Self>) -> Result<CommitOutcome, Error> {
        let engine = self.engine.upgrade().ok_or_else(closed)?;
        let outcome = engine.settle(&*self.placed?);
        if let Some(runner) = self.runner.upgrade() {
            let taken = outcome.as_ref().map_err(Error::clone).and_then(whole);
            let taken = taken.and_then(|()| engine.health_registry.is_whole(runner.id));
            runner.answered(&self.worker, taken);
        }
        outcome
    }
}

fn closed() -> Error {
    Error::new(
        ErrorKind::Closed,
        "the properties are gone, or the source was removed",
    )
}

impl Sink for EngineSink {
    fn queue(&self, mut update: Update) -> Box<dyn Ticket> {
        if self.is_literal {
            update.escape_references();
        }
        let placed = match self.engine() {
            Some(engine) => {
                let told = self.timed.then(|| engine.supervisor.clock().now());
                engine.update(self.id, update, self.refusal, told)
            }
            None => Err(closed()),
        };
        Box::new(EngineTicket {
            engine: Weak::clone(&self.engine),
            runner: Weak::clone(&self.runner),
            worker: Arc::clone(&self.worker),
            placed,
        })
    }

    fn report_error(&self, error: Error) {
        if let Some(engine) = self.engine() {
            let generation = engine.current.load().number();
            engine
                .health_registry
                .report_error(self.id, generation, error.clone());
            if let Some(runner) = self.runner.upgrade() {
                runner.report_error(&self.worker, error);
            }
            // From now on its values grow old.
            engine.supervisor.ring();
        }
    }

    fn heartbeat(&self) {
        if let Some(engine) = self.engine() {
            let generation = engine.current.load().number();
            if engine.health_registry.heartbeat(self.id, generation) {
                engine.cache.heartbeat(self.id);
            }
            if let Some(runner) = self.runner.upgrade() {
                runner.answered(&self.worker, Ok(()));
            }
        }
    }

    fn set_degraded(&self, reason: Option<Error>) {
        if let Some(engine) = self.engine() {
            let generation = engine.current.load().number();
            engine
                .health_registry
                .set_degraded(self.id, generation, reason);
            self.worker.sign();
        }
    }

    fn set_location(&self, place: Arc<str>) {
        if let Some(engine) = self.engine() {
            engine.health_registry.set_location(self.id, place);
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
            Some(engine) => engine.shared(kind, make),
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
