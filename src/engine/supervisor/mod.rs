//! Runs each source on a thread of its own: load, then watch or poll, again after a failure. A
//! source that hangs is left to itself and asked again on another thread; nothing else waits for it.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use crate::engine::clock::Clock;
use crate::engine::core::Engine;
use crate::engine::supervisor::watchdog::Watchdog;
use crate::error::{Error, ErrorKind};
use crate::source::{Refusal, Source};
use crate::tree::layer::SourceId;

mod attempt;
mod backoff;
mod context;
pub(crate) mod runner;
#[cfg(test)]
mod tests;
mod watchdog;
mod worker;

pub(crate) use runner::{SourceRunner, Terms, guarded};

/// All sources that run.
pub(crate) struct Supervisor {
    watchdog: Arc<Watchdog>,
}

impl Supervisor {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            watchdog: Arc::new(Watchdog::new(clock)),
        }
    }

    /// Starts a source: one that pushes is asked to send all it has, now; any other begins its
    /// first load on a thread of its own.
    pub(crate) fn start(
        &self,
        engine: &Engine,
        id: SourceId,
        name: Arc<str>,
        terms: Terms,
        source: Box<dyn Source>,
    ) -> Result<Arc<SourceRunner>, Error> {
        let pushes = terms.watching == crate::source::Watching::Push;
        let runner = SourceRunner::new(engine, &self.watchdog, id, name, terms, source);
        self.watchdog.add(Arc::clone(&runner));
        let run = if runner.needs_monitor {
            self.watchdog.run(engine.weak()).map_err(|cause| {
                let detail = format!("no thread can be started for it: {cause}");
                Error::new(ErrorKind::Unavailable, detail).with_source_name(&runner.name)
            })
        } else {
            Ok(())
        };
        let started = run.and_then(|()| {
            if !pushes {
                return runner.start();
            }
            match runner.attach() {
                Err(error) if runner.may_do_without() => {
                    runner.defer_attach(error);
                    Ok(())
                }
                attached => attached,
            }
        });
        match started {
            Ok(()) => Ok(runner),
            Err(error) => {
                self.remove(id);
                Err(error)
            }
        }
    }

    /// Tells a source to end, and does not wait.
    pub(crate) fn remove(&self, id: SourceId) {
        if let Some(runner) = self.watchdog.remove(id) {
            runner.end();
        }
    }

    /// Asks sources again, all or one, and waits for what comes of it.
    pub(crate) fn refresh(&self, only: Option<SourceId>) -> Result<(), Error> {
        let runners = match only {
            None => self.watchdog.runners(),
            Some(id) => {
                let gone = || Error::new(ErrorKind::NotFound, format!("{id} is not there"));
                vec![self.watchdog.runner(id).ok_or_else(gone)?]
            }
        };
        let ids: Vec<SourceId> = runners.iter().map(|runner| runner.id).collect();
        let _waits = self.watchdog.wait_for(&ids)?;
        let now = self.watchdog.clock.now();
        // All are asked before the first is waited for.
        let rounds: Vec<_> = runners
            .iter()
            .filter_map(|runner| Some((runner, runner.want()?)))
            .collect();
        let errors: Vec<Error> = rounds
            .into_iter()
            .filter_map(|(runner, round)| {
                let until = now.checked_add(runner.patience());
                runner.wait_for(round, until).err()
            })
            .collect();
        match errors.is_empty() {
            true => Ok(()),
            false => Err(Error::all(errors)),
        }
    }

    /// Runs what may take long, such as code of the user's, while the watchdog goes on. Reports
    /// whether a thread could be started for it.
    pub(crate) fn aside(&self, run: impl FnOnce() + Send + 'static) -> bool {
        self.watchdog.threads.spawn("liveprops-commit", run).is_ok()
    }

    /// How far a refusal of what a source says reaches.
    pub(crate) fn refusal(&self, id: SourceId) -> Refusal {
        self.watchdog
            .runner(id)
            .map_or(Refusal::Whole, |runner| runner.terms.refusal)
    }

    /// Whether the values of a source contain no references.
    pub(crate) fn is_literal(&self, id: SourceId) -> bool {
        let runner = self.watchdog.runner(id);
        runner.is_some_and(|runner| runner.is_literal())
    }

    /// Waits for the threads of the sources, at the longest until `until`.
    pub(crate) fn join(&self, until: Instant) {
        self.watchdog.threads.join(until);
    }

    /// Tells all sources to end.
    pub(crate) fn stop(&self) {
        for runner in self.watchdog.end() {
            runner.end();
        }
    }

    /// What the watchdog waits for may come earlier than it knows.
    pub(crate) fn ring(&self) {
        self.watchdog.ring();
    }

    /// Has the watchdog look again; starts it if it does not run.
    pub(crate) fn wake(&self, engine: &Engine) {
        self.watchdog.wake(engine.weak());
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.watchdog.clock
    }
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Supervisor")
    }
}
