//! Runs each source on a thread of its own: load, then watch or poll, again after a failure. A thread
//! that hangs in a source is abandoned, and another one retries; nothing else waits for it.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use crate::engine::clock::Clock;
use crate::engine::core::Engine;
use crate::engine::supervisor::watchdog::Watchdog;
use crate::error::{Error, ErrorKind};
use crate::source::{RejectionScope, Source};
use crate::tree::layer::SourceId;

mod attempt;
mod backoff;
mod context;
mod first;
mod hooks;
pub(crate) mod runner;
mod state;
#[cfg(test)]
mod tests;
mod watchdog;
mod worker;

pub(crate) use runner::{SourceRunner, Terms, catch_source_panic};

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

    /// Starts a source. One that pushes sends all its values now; any other begins its first load on a
    /// thread of its own.
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
        let run = if runner.needs_watchdog {
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
                Err(error) if runner.is_dispensable() => {
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

    /// Has a source end, without waiting.
    pub(crate) fn remove(&self, id: SourceId) {
        if let Some(runner) = self.watchdog.remove(id) {
            runner.end();
        }
    }

    /// Polls sources again, all or one, and waits for the outcome.
    pub(crate) fn refresh(&self, only: Option<SourceId>) -> Result<(), Error> {
        let runners = match only {
            None => self.watchdog.runners(),
            Some(id) => {
                let absent = || {
                    Error::new(
                        ErrorKind::NotFound,
                        format!("{id} does not exist, or was removed"),
                    )
                };
                vec![self.watchdog.runner(id).ok_or_else(absent)?]
            }
        };
        let ids: Vec<SourceId> = runners.iter().map(|runner| runner.id).collect();
        let _waiting = self.watchdog.begin_waiting(&ids)?;
        let now = self.watchdog.clock.now();
        // All rounds are requested before the first is waited for.
        let rounds: Vec<_> = runners
            .iter()
            .filter_map(|runner| Some((runner, runner.request_round()?)))
            .collect();
        let errors: Vec<Error> = rounds
            .into_iter()
            .filter_map(|(runner, round)| {
                let until = now.checked_add(runner.patience());
                runner.wait_for(round, until).err()
            })
            .collect();
        if errors.is_empty() {
            Ok(())
        } else {
            Err(Error::all(errors))
        }
    }

    /// Runs code that may take long, such as user code, on a thread of its own. Returns whether the thread
    /// could be started.
    pub(crate) fn spawn_aside(&self, run: impl FnOnce() + Send + 'static) -> bool {
        self.watchdog.threads.spawn("liveprops-commit", run).is_ok()
    }

    /// How much of an update of a source is rejected together.
    pub(crate) fn rejection_scope(&self, id: SourceId) -> RejectionScope {
        self.watchdog
            .runner(id)
            .map_or(RejectionScope::Whole, |runner| runner.terms.rejection_scope)
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

    /// Has all sources end.
    pub(crate) fn stop(&self) {
        for runner in self.watchdog.end() {
            runner.end();
        }
    }

    /// Has the watchdog check again, if it runs.
    pub(crate) fn wake(&self) {
        self.watchdog.wake();
    }

    /// Has the watchdog check again; starts it if it does not run.
    pub(crate) fn wake_or_start(&self, engine: &Engine) {
        self.watchdog.wake_or_start(engine.weak());
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
