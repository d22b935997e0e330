//! What callers read of the health registry.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crate::engine::health::registry::{HealthRegistry, Inner};
use crate::engine::health::state::SourceState;
use crate::engine::health::{
    CallbackHealth, Health, Rejected, SourceHealth, StaleProperty, Status,
};
use crate::error::Error;
use crate::property::stale::Stale;
use crate::sorted;
use crate::tree::layer::SourceId;
use crate::tree::snapshot::Generation;
use crate::value::key::under;

impl Inner {
    /// How the whole is doing. `starved`: since when callbacks wait for a thread, and why.
    fn status(&self, now: Instant, starved: Option<&(SystemTime, Error)>) -> Status {
        let mut down = None;
        let mut stale = starved.map(|(since, reason)| (*since, reason));
        for (one, since) in self.stale.values().filter(|(one, _)| one.is_alive()) {
            if stale.is_none_or(|old| *since < old.0) {
                stale = Some((*since, &one.reason));
            }
        }
        let mut starting = false;
        for state in &self.sources {
            let since_then = match &state.health.status {
                Status::Starting => {
                    starting = true;
                    None
                }
                Status::Up => None,
                Status::Down { reason } if state.health.required => {
                    down = Some(reason);
                    None
                }
                Status::Down { reason } => Some((state.registered_at, reason)),
                Status::Stale { since, reason } => match state.not_in_force().next() {
                    Some((_, reason)) => Some((*since, reason)),
                    None => state.is_too_old(now).then_some((*since, reason)),
                },
            };
            // The oldest trouble is reported.
            if let Some(found) = since_then {
                if stale.is_none_or(|old| found.0 < old.0) {
                    stale = Some(found);
                }
            }
        }
        match (down, stale) {
            (Some(reason), _) => Status::Down {
                reason: reason.clone(),
            },
            (None, Some((since, reason))) => Status::Stale {
                since,
                reason: reason.clone(),
            },
            _ if starting => Status::Starting,
            _ => Status::Up,
        }
    }
}

/// The health of a source as callers see it.
fn shown(state: &SourceState, now: Instant) -> SourceHealth {
    let health = &state.health;
    let problems = health.problems.iter().chain(state.ignored_items.iter());
    let degraded = health.degraded.as_ref().or(state.cache_failure.as_ref());
    SourceHealth {
        age: state
            .answered_at
            .map(|at| now.saturating_duration_since(at)),
        withheld: state.withholding.removal(),
        degraded: degraded.cloned(),
        problems: problems.cloned().collect(),
        ..health.clone()
    }
}

impl StaleProperty {
    /// A handle that becomes stale now.
    pub(crate) fn now(stale: Stale) -> Self {
        Self {
            key: stale.key,
            since: SystemTime::now(),
            reason: stale.reason,
        }
    }
}

impl Status {
    /// The values stay as they were at the fork, and nothing asks the sources any more.
    pub(crate) fn in_a_fork(reason: Error) -> Self {
        Status::Stale {
            since: SystemTime::now(),
            reason,
        }
    }
}

impl Health {
    /// What can be reported where a lock may be held for ever.
    pub(crate) fn in_a_fork(generation: u64, callback_panics: u64, reason: Error) -> Self {
        Health {
            generation,
            status: Status::in_a_fork(reason),
            sources: Vec::new(),
            rejected: Vec::new(),
            pending_restart: Vec::new(),
            stale_properties: Vec::new(),
            broken_references: Vec::new(),
            callback_panics,
        }
    }
}

impl HealthRegistry {
    /// Where the sources read from, as far as they have reported it.
    pub(crate) fn locations(&self) -> Vec<(SourceId, Arc<str>)> {
        let inner = self.inner.lock();
        let sources = inner.sources.iter().map(|state| &state.health);
        sources
            .filter_map(|health| Some((health.source, health.location.clone()?)))
            .collect()
    }

    /// Returns the rejected parts of a source's last document as an error, if there are any.
    pub(crate) fn check_whole(&self, source: SourceId) -> Result<(), Error> {
        let inner = self.inner.lock();
        let mut sources = inner.sources.iter();
        let state = sources.find(|state| state.health.source == source);
        match state.map(|state| &state.health.problems) {
            Some(problems) if !problems.is_empty() => Err(Error::all(problems.clone())),
            _ => Ok(()),
        }
    }

    pub(crate) fn health(&self, in_force: &Generation, callbacks: CallbackHealth) -> Health {
        let now = self.clock.now();
        let inner = self.inner.lock();
        let mut sources: Vec<_> = inner
            .sources
            .iter()
            .map(|state| shown(state, now))
            .collect();
        sorted::sort_by_key(&mut sources, |health| {
            health.layer.precedence(health.source)
        });
        let stale = inner.stale.values().filter(|(one, _)| one.is_alive());
        let stale = stale.map(|(one, since)| StaleProperty {
            key: one.key.clone(),
            since: *since,
            reason: one.reason.clone(),
        });
        let mut stale: Vec<StaleProperty> = stale.collect();
        sorted::sort_by(&mut stale, |a, b| a.key.cmp(&b.key));
        Health {
            generation: in_force.number(),
            status: inner.status(now, callbacks.starved.as_ref()),
            sources,
            rejected: inner.rejected.iter().cloned().collect(),
            pending_restart: inner.pending_restart.clone(),
            stale_properties: stale,
            broken_references: in_force.broken_references(),
            callback_panics: callbacks.panics,
        }
    }

    /// How the whole is doing.
    pub(crate) fn status(&self, starved: Option<(SystemTime, Error)>) -> Status {
        let now = self.clock.now();
        self.inner.lock().status(now, starved.as_ref())
    }

    /// The newest rejections and the newest clashes of a key, its subtree or its parents.
    pub(crate) fn rejected_of(&self, key: &str) -> (Vec<Error>, Vec<Error>) {
        let concerns = |error: &Error| {
            error
                .iter()
                .any(|e| e.key_text().is_some_and(|k| under(k, key) || under(key, k)))
        };
        let inner = self.inner.lock();
        let of_key = inner.rejected.iter().filter(|it| concerns(&it.error));
        let (clashes, rejected): (Vec<_>, Vec<_>) = of_key.partition(|it| it.is_clash);
        let errors = |all: Vec<&Rejected>| all.into_iter().map(|it| it.error.clone()).collect();
        (errors(rejected), errors(clashes))
    }
}
