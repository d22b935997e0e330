//! Records that belong to no single source: rejections, clashes, stale handles, and the keys that handles
//! read.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use crate::engine::health::events::{MAX_EVENTS, Notices};
use crate::engine::health::registry::{HealthRegistry, Inner};
use crate::engine::health::state::SourceState;
use crate::engine::health::{PendingRestart, Rejected, SourceEventKind, StaleProperty};
use crate::error::{Error, MASK};
use crate::property::stale::StaleChange;
use crate::sorted::{SortedMap, SortedSet};
use crate::tree::layer::SourceId;
use crate::value::key::Key;

/// At most so many rejections and clashes are remembered.
pub(super) const MAX_REJECTED: usize = 64;
/// At most so many missing keys are compared with those that are set.
const MAX_MISSING: usize = 256;
/// At most so many keys of handles, and of the fields of bound structs, are compared with those that are
/// set.
const MAX_READ: usize = 1_000;

/// The keys whose malformed readings were reported in a generation.
#[derive(Default)]
pub(super) struct Malformed {
    generation: u64,
    keys: SortedSet<Arc<str>>,
}

impl Inner {
    pub(super) fn state_of(&mut self, source: SourceId) -> Option<&mut SourceState> {
        let mut sources = self.sources.iter_mut();
        sources.find(|state| state.health.source == source)
    }

    /// Records a clash, which counts once for each generation.
    fn note_clash(&mut self, notices: &mut Notices, generation: u64, error: Error) {
        let text = error.to_string();
        let mut known = self.rejected.iter();
        let is_counted = known.any(|old| {
            old.source.is_none() && old.generation == generation && old.error.to_string() == text
        });
        if is_counted {
            notices.errors.push(error);
        } else {
            self.note(notices, None, generation, error);
            if let Some(noted) = self.rejected.back_mut() {
                noted.is_clash = true;
            }
        }
    }

    /// Remembers a rejection or a clash, the same one once.
    pub(super) fn note(
        &mut self,
        notices: &mut Notices,
        source: Option<SourceId>,
        generation: u64,
        error: Error,
    ) {
        let text = error.to_string();
        let same = |old: &Rejected| old.source == source && old.error.to_string() == text;
        let before = self.rejected.iter().position(same);
        let before = before.and_then(|at| self.rejected.remove(at));
        if self.rejected.len() == MAX_REJECTED {
            notices
                .errors
                .extend(self.rejected.pop_front().map(|old| old.error));
        }
        self.rejected.push_back(Rejected {
            source,
            error,
            time: SystemTime::now(),
            count: before.as_ref().map_or(1, |old| old.count + 1),
            generation,
            is_clash: false,
        });
        notices.errors.extend(before.map(|old| old.error));
    }
}

impl HealthRegistry {
    /// Records an error that concerns no single source.
    pub(crate) fn note(&self, generation: u64, error: Error) {
        let mut notices = Notices::default();
        let mut inner = self.inner.lock();
        inner.note(&mut notices, None, generation, error);
        drop(inner);
        notices.deliver();
    }

    /// Records a rejected update that leaves the health of its source as it is.
    pub(crate) fn note_of(
        &self,
        notices: &mut Notices,
        source: SourceId,
        generation: u64,
        error: Error,
    ) {
        self.inner
            .lock()
            .note(notices, Some(source), generation, error);
    }

    /// Records a clash that a commit has found.
    pub(crate) fn note_clash(&self, notices: &mut Notices, generation: u64, error: Error) {
        self.inner.lock().note_clash(notices, generation, error);
    }

    /// Reports that a reading with a default met a malformed value: once for each key and generation,
    /// since the reading may be on a path that is run often.
    pub(crate) fn report_malformed(&self, key: &str, generation: u64, error: Error) {
        let is_reported = |reported: &Malformed| {
            let is_full = reported.keys.len() >= MAX_EVENTS;
            reported.generation == generation && (is_full || reported.keys.contains(key))
        };
        if is_reported(&self.malformed.load()) {
            return;
        }
        let mut notices = Notices::default();
        {
            let mut inner = self.inner.lock();
            let before = self.malformed.full();
            if is_reported(&before) {
                return;
            }
            let mut keys = if before.generation == generation {
                before.keys.clone()
            } else {
                SortedSet::new()
            };
            keys.insert(key.into());
            self.malformed
                .store(Arc::new(Malformed { generation, keys }));
            inner.note(&mut notices, None, generation, error.clone());
        }
        self.put_whole(&mut notices, generation, SourceEventKind::Malformed(error));
        notices.deliver();
    }

    /// Records the keys that wait for a restart now.
    pub(crate) fn record_pending_restarts(
        &self,
        notices: &mut Notices,
        generation: u64,
        pending_restarts: Vec<PendingRestart>,
    ) {
        let all = pending_restarts.clone();
        let before = std::mem::replace(&mut self.inner.lock().pending_restart, all);
        for one in pending_restarts {
            if !before.contains(&one) {
                let kind = SourceEventKind::RestartRequired(one);
                self.put_whole(notices, generation, kind);
            }
        }
    }

    /// Records handles that keep their last good values, since references are unresolved, or no longer
    /// do.
    pub(crate) fn record_stale(&self, notices: &mut Notices, generation: u64, change: StaleChange) {
        let mut events = Vec::new();
        {
            let mut inner = self.inner.lock();
            for one in change.recovered {
                let before = inner.stale.remove(&one.address());
                notices
                    .errors
                    .extend(before.map(|(before, _)| before.reason));
                events.push(SourceEventKind::PropertyRecovered(one.key));
            }
            for one in change.stale {
                let before = inner.stale.remove(&one.address());
                let since = before
                    .as_ref()
                    .map_or_else(SystemTime::now, |before| before.1);
                let is_new = before.as_ref().is_none_or(|(before, _)| {
                    !before.is_alive() || before.reason.to_string() != one.reason.to_string()
                });
                if is_new {
                    events.push(SourceEventKind::PropertyStale(StaleProperty {
                        key: one.key.clone(),
                        since,
                        reason: one.reason.clone(),
                    }));
                }
                inner.stale.insert(one.address(), (one, since));
                notices
                    .errors
                    .extend(before.map(|(before, _)| before.reason));
            }
            inner.stale.retain(|_, (one, _)| one.is_alive());
        }
        for kind in events {
            self.put_whole(notices, generation, kind);
        }
    }

    /// Masks keys that turned out to hold secrets. `without_quotes` is for texts that may quote the value
    /// of such a key in an error about another one.
    pub(crate) fn hide(
        &self,
        is_hidden: &dyn Fn(&str) -> bool,
        without_quotes: &dyn Fn(&str) -> Option<String>,
    ) {
        let scrub = |error: &mut Error| {
            let scrubbed = error
                .without(is_hidden)
                .or_else(|| error.without_quotes(without_quotes));
            let changes = scrubbed.is_some();
            if let Some(scrubbed) = scrubbed {
                *error = scrubbed;
            }
            changes
        };
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        for rejected in &mut inner.rejected {
            scrub(&mut rejected.error);
        }
        for (stale, _) in inner.stale.values_mut() {
            scrub(&mut stale.reason);
        }
        for pending in &mut inner.pending_restart {
            if is_hidden(pending.key.as_str()) {
                let shown = pending.running.iter_mut().chain(&mut pending.waiting);
                shown.for_each(|text| MASK.clone_into(text));
            }
        }
        for state in &mut inner.sources {
            state.scrub(scrub);
        }
    }

    /// Remembers a key that was missing when a handle on it was built.
    pub(crate) fn note_missing(&self, key: &Key, is_table: bool) {
        let missing = &mut self.inner.lock().missing;
        if missing.len() < MAX_MISSING {
            *missing.get_or_insert_with(key.clone(), || false) |= is_table;
        }
    }

    /// The keys that were missing when handles on them were built, and whether they are of tables.
    pub(crate) fn missing(&self) -> SortedMap<Key, bool> {
        self.inner.lock().missing.clone()
    }

    /// Whether the keys that a handle reads are to be recorded.
    pub(crate) fn records_reads(&self) -> bool {
        self.inner.lock().read.len() < MAX_READ
    }

    /// Records the keys that a handle reads.
    pub(crate) fn note_read(&self, keys: Vec<Key>) {
        let read = &mut self.inner.lock().read;
        for key in keys {
            if read.len() >= MAX_READ {
                break;
            }
            read.insert(key);
        }
    }

    /// The recorded keys that handles read.
    pub(crate) fn read_keys(&self) -> BTreeSet<Key> {
        self.inner.lock().read.clone()
    }
}
