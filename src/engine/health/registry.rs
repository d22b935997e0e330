//! The health of all sources, and the listeners to their events.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use crate::engine::clock::Clock;
use crate::engine::health::damper::Verdict;
use crate::engine::health::events::{self, Listeners};
use crate::engine::health::notes::Malformed;
use crate::engine::health::state::{Agreement, FromDisk, SourceState};
use crate::engine::health::{
    PendingRestart, Rejected, SourceEvent, SourceEventKind, SourceHealth, Status,
};
use crate::property::registry::PropertyEngine;
use crate::property::stale::Stale;
use crate::property::subscription::Subscription;
use crate::sorted::SortedMap;
use crate::sync::Cell;
use crate::sync::lock::Mutex;
use crate::tree::layer::{Layer, SourceId};
use crate::value::key::Key;

pub(crate) use crate::engine::health::events::{Notices, Wake};
pub(crate) use crate::engine::health::record::Acceptance;
pub(crate) use crate::engine::health::state::PendingRemoval;

/// The health of all sources.
pub(crate) struct HealthRegistry {
    pub(super) inner: Mutex<Inner>,
    listeners: Listeners,
    /// Read without a lock: each reading of a malformed value asks it.
    pub(super) malformed: Cell<Malformed>,
    pub(super) clock: Clock,
    /// Wakes the thread that calls [`report_due`](Self::report_due).
    wake: Wake,
}

#[derive(Default)]
pub(super) struct Inner {
    pub(super) sources: Vec<SourceState>,
    pub(super) rejected: VecDeque<Rejected>,
    pub(super) pending_restart: Vec<PendingRestart>,
    /// Keys that were missing when handles on them were built, and whether they are of tables.
    pub(super) missing: SortedMap<Key, bool>,
    /// The keys of handles, and of the fields of the structs that they read.
    pub(super) read: BTreeSet<Key>,
    /// The handles that keep their last good values, by the addresses of their slots.
    pub(super) stale: HashMap<usize, (Stale, SystemTime)>,
}

/// The policy of a source, as far as its health is concerned.
pub(crate) struct Expected {
    pub(crate) required: bool,
    pub(crate) max_stale: Duration,
    pub(crate) polled: bool,
}

impl HealthRegistry {
    pub(crate) fn new(clock: Clock, wake: Wake) -> Self {
        Self {
            inner: Mutex::default(),
            listeners: Listeners::default(),
            malformed: Cell::new(Arc::default()),
            clock,
            wake,
        }
    }

    pub(crate) fn register(
        &self,
        source: SourceId,
        name: Arc<str>,
        layer: Layer,
        expected: Expected,
    ) {
        let health = SourceHealth {
            source,
            name,
            layer,
            status: Status::Starting,
            last_success: None,
            age: None,
            max_stale: expected.max_stale,
            required: expected.required,
            revision: None,
            generation: 0,
            lag: None,
            cached: None,
            withheld: None,
            commits: 0,
            rejections: 0,
            problems: Vec::new(),
            hints: Vec::new(),
            degraded: None,
            guessed_secrets: Vec::new(),
            location: None,
        };
        let state = SourceState::new(health, expected.polled);
        self.inner.lock().sources.push(state);
    }

    pub(crate) fn remove(&self, source: SourceId, generation: u64) {
        let mut notices = Notices::default();
        {
            let mut inner = self.inner.lock();
            let is_it = |state: &SourceState| state.health.source == source;
            if let Some(at) = inner.sources.iter().position(is_it) {
                let mut state = inner.sources.remove(at);
                self.put(
                    &mut state,
                    &mut notices,
                    generation,
                    SourceEventKind::Removed,
                );
            }
        }
        notices.deliver();
    }

    pub(crate) fn set_layer(&self, source: SourceId, layer: Layer) {
        self.edit(source, |state| state.health.layer = layer);
    }

    /// Notes where a source reads from.
    pub(crate) fn set_location(&self, source: SourceId, location: Arc<str>) {
        self.edit(source, |state| state.health.location = Some(location));
    }

    /// Notes the keys that are not written to the cache because they look secret.
    pub(crate) fn set_guessed_secrets(&self, source: SourceId, guessed: Vec<Key>) {
        self.edit(source, |state| state.health.guessed_secrets = guessed);
    }

    /// Schedules when the withheld update of a source is accepted without another one.
    pub(crate) fn accept_at(&self, source: SourceId, at: Instant) {
        self.edit(source, |state| state.withholding.set_accept_at(Some(at)));
    }

    /// Whether a source has failed since its update was withheld; returned once for each failure.
    pub(crate) fn take_interrupted(&self, source: SourceId) -> bool {
        let taken = self.edit(source, |state| state.withholding.take_interruption());
        taken == Some(true)
    }

    /// The revision of what is in force, which the source is polled from.
    pub(crate) fn revision(&self, source: SourceId) -> Option<Arc<str>> {
        // Restored values may lack secrets, so the source must send everything.
        let current = |state: &mut SourceState| {
            let is_restored = matches!(state.from_disk, FromDisk::All(_));
            state.health.revision.clone().filter(|_| !is_restored)
        };
        self.edit(source, current)?
    }

    /// Whether the first values of a source have arrived.
    pub(crate) fn has_arrived(&self, source: SourceId) -> bool {
        self.edit(source, |state| state.has_values()) == Some(true)
    }

    pub(super) fn edit<R>(
        &self,
        source: SourceId,
        change: impl FnOnce(&mut SourceState) -> R,
    ) -> Option<R> {
        self.inner.lock().state_of(source).map(change)
    }

    /// Reports an event that concerns no single source.
    pub(crate) fn report_event(&self, generation: u64, kind: SourceEventKind) {
        let mut notices = Notices::default();
        self.put_whole(&mut notices, generation, kind);
        notices.deliver();
    }

    pub(super) fn put_whole(&self, notices: &mut Notices, generation: u64, kind: SourceEventKind) {
        if !events::is_listening() {
            self.listeners.put(notices, || SourceEvent {
                source: None,
                name: Arc::from("liveprops"),
                kind,
                repeated: 0,
                generation,
            });
        }
    }

    /// Puts an event of a source into the mailboxes of the listeners, unless it is damped.
    pub(super) fn put(
        &self,
        state: &mut SourceState,
        notices: &mut Notices,
        generation: u64,
        kind: SourceEventKind,
    ) {
        if matches!(kind, SourceEventKind::Updated) {
            // Never damped, and part of every commit.
            self.put_undamped(state, notices, generation, (kind, 0));
            return;
        }
        match state.damper.check(&kind, self.clock.now()) {
            Verdict::Report(repeated) => {
                self.put_undamped(state, notices, generation, (kind, repeated));
            }
            Verdict::Suppress => {}
            Verdict::SuppressAndWake => notices.wake = Some(Arc::clone(&self.wake)),
        }
    }

    fn put_undamped(
        &self,
        state: &SourceState,
        notices: &mut Notices,
        generation: u64,
        (kind, repeated): (SourceEventKind, u64),
    ) {
        self.listeners.put(notices, || SourceEvent {
            source: Some(state.health.source),
            name: Arc::clone(&state.health.name),
            kind,
            repeated,
            generation,
        });
    }

    pub(crate) fn subscribe(
        &self,
        engine: Weak<dyn PropertyEngine>,
        callback: impl FnMut(&SourceEvent) + Send + 'static,
    ) -> Subscription {
        self.listeners.subscribe(engine, callback)
    }

    /// Reports values that have grown too old, and suppressed events that are due. Returns when the next
    /// is due, and the sources whose withheld updates are to be accepted.
    pub(crate) fn report_due(&self, generation: u64) -> (Option<Instant>, Vec<SourceId>) {
        let now = self.clock.now();
        let mut next: Option<Instant> = None;
        let mut notices = Notices::default();
        let mut accepted = Vec::new();
        for state in &mut self.inner.lock().sources {
            let mut due = state.withholding.accept_at();
            if due.is_some_and(|at| at <= now) {
                due = None;
                state.withholding.set_accept_at(None);
                accepted.push(state.health.source);
            }
            let mut damper = std::mem::take(&mut state.damper);
            for event in damper.take_due(now, || state.events()) {
                self.put_undamped(state, &mut notices, generation, event);
            }
            next = next.into_iter().chain(due).chain(damper.next_due()).min();
            state.damper = damper;
            let too_old_at = self.report_stale(state, &mut notices, generation, now);
            next = next.into_iter().chain(too_old_at).min();
        }
        notices.deliver();
        (next, accepted)
    }

    /// Reports values that are too old, once; returns when they will be.
    fn report_stale(
        &self,
        state: &mut SourceState,
        notices: &mut Notices,
        generation: u64,
        now: Instant,
    ) -> Option<Instant> {
        let Agreement::At(agreed_at) = state.agreement else {
            return None;
        };
        // Values that may not grow old at all have been reported as what is wrong with them.
        if state.health.max_stale.is_zero() {
            return None;
        }
        let at = state.too_old_at()?;
        let Status::Stale { reason, .. } = &state.health.status else {
            return None;
        };
        if at > now {
            return Some(at);
        }
        let kind = SourceEventKind::Stale(reason.clone());
        state.agreement = Agreement::ReportedStale(agreed_at);
        self.put(state, notices, generation, kind);
        None
    }
}

impl fmt::Debug for HealthRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HealthRegistry")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::clock::FakeClock;
    use crate::error::{Error, ErrorKind};
    use std::sync::mpsc::channel;

    #[test]
    fn a_suppressed_event_about_a_key_that_becomes_secret_is_reported_without_its_text() {
        let (fake, clock) = FakeClock::new();
        let health_registry = HealthRegistry::new(clock, Arc::new(|| ()));
        let source = SourceId(7);
        let expected = Expected {
            required: true,
            max_stale: Duration::ZERO,
            polled: false,
        };
        health_registry.register(source, Arc::from("test"), Layer::new("test", 0), expected);
        let odd = || Error::new(ErrorKind::Mismatch, "found hunter").with_key_text("door");
        let answer = |rejected: Vec<Error>| Acceptance {
            rejected,
            ..Acceptance::default()
        };
        let mut notices = Notices::default();
        for _ in 0..3 {
            health_registry.record_accepted(&mut notices, source, answer(vec![odd()]));
            health_registry.record_accepted(&mut notices, source, answer(Vec::new()));
        }
        health_registry.record_accepted(&mut notices, source, answer(vec![odd()]));
        health_registry.hide(&|key| key == "door", &|_| None);
        let mut inner = health_registry.inner.lock();
        let state = inner.state_of(source).unwrap();
        fake.advance(Duration::from_secs(6));
        let mut damper = std::mem::take(&mut state.damper);
        let due = damper.take_due(health_registry.clock.now(), || state.events());
        let [(SourceEventKind::Rejected(error), 1)] = &due[..] else {
            panic!("{due:?}");
        };
        assert!(!error.to_string().contains("hunter"), "{error}");
        let memory = format!("{damper:?} {:?} {:?}", state.rejected, state.health);
        assert!(!memory.contains("hunter"), "{memory}");
        drop(inner);
        notices.deliver();
    }

    #[test]
    fn a_malformed_reading_that_was_reported_waits_for_nobody() {
        let health_registry = Arc::new(HealthRegistry::new(Clock::default(), Arc::new(|| ())));
        let error = || Error::new(ErrorKind::Mismatch, "not a number");
        for generation in [1, 2] {
            health_registry.report_malformed("n", generation, error());
        }
        assert_eq!(
            health_registry.inner.lock().rejected.len(),
            1,
            "the same one"
        );
        let locked = health_registry.inner.lock();
        let (done, is_done) = channel();
        let reader = Arc::clone(&health_registry);
        let thread = std::thread::spawn(move || {
            reader.report_malformed("n", 2, error());
            let _ = done.send(());
        });
        let outcome = is_done.recv_timeout(Duration::from_secs(5));
        drop(locked);
        assert!(thread.join().is_ok());
        assert!(outcome.is_ok(), "it waited for the health_registry");
        assert_eq!(health_registry.inner.lock().rejected[0].count, 2);
    }
}
