//! Records what happens to the sources: answers, updates, rejections and failures.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crate::engine::cache::{Restored, age};
use crate::engine::health::SourceEventKind;
use crate::engine::health::events::Notices;
use crate::engine::health::notes::MAX_REJECTED;
use crate::engine::health::registry::HealthRegistry;
use crate::engine::health::state::{
    Agreement, Contact, FromDisk, PendingRemoval, Phase, SourceState, Trouble, Withholding,
    is_rejection,
};
use crate::error::{Error, ErrorKind};
use crate::sorted::SortedMap;
use crate::tree::layer::SourceId;
use crate::value::document::Report;

/// An update of a source that was committed.
#[derive(Default)]
pub(crate) struct Acceptance {
    pub(crate) generation: u64,
    pub(crate) changed: bool,
    /// Whether the source had sent it before, and it was withheld until now.
    pub(crate) was_withheld: bool,
    /// The rejected parts of its document, if it brought one.
    pub(crate) problems: Option<Report>,
    pub(crate) revision: Option<Arc<str>>,
    /// Why parts of it are not in force.
    pub(crate) rejected: Vec<Error>,
    /// When the restored values that the first document keeps were confirmed.
    pub(crate) restored: Option<SystemTime>,
    /// The removals of it that are withheld.
    pub(crate) withheld: Option<PendingRemoval>,
    /// When the source sent it.
    pub(crate) received_at: Option<Instant>,
}

impl HealthRegistry {
    /// Records that a source answers, and that nothing is new since its last update. Returns whether
    /// that confirms what is in force.
    pub(crate) fn record_heartbeat(&self, source: SourceId, generation: u64) -> bool {
        let now = self.clock.now();
        let mut notices = Notices::default();
        let is_confirmed = {
            let mut inner = self.inner.lock();
            let Some(state) = inner.state_of(source) else {
                return false;
            };
            // It has not confirmed restored values.
            if matches!(state.from_disk, FromDisk::All(_)) {
                return false;
            }
            state.answer(&mut notices);
            state.health.last_success = Some(SystemTime::now());
            state.answered_at = Some(now);
            // Rejected and withheld values still count as current.
            if state.rejected.is_empty() {
                state.agreement = Agreement::At(now);
                self.report_good_contact(state, &mut notices, generation);
                true
            } else {
                state.restate();
                false
            }
        };
        notices.deliver();
        is_confirmed
    }

    /// Reports that everything is in force, if that is new.
    fn report_good_contact(&self, state: &mut SourceState, notices: &mut Notices, generation: u64) {
        let was_initialized = state.initialize();
        state.restate();
        let has_returned = state.contact.recover();
        if !was_initialized {
            self.put(state, notices, generation, SourceEventKind::Initialized);
        } else if has_returned {
            self.put(state, notices, generation, SourceEventKind::Reconnected);
        }
    }

    /// Records an update that was committed.
    ///
    /// As all that a commit leads to, it is written while the commit lock is held, so that the records
    /// follow the commits in their order. The holder of the lock delivers the notices later.
    pub(crate) fn record_accepted(
        &self,
        notices: &mut Notices,
        source: SourceId,
        mut acceptance: Acceptance,
    ) {
        let now = self.clock.now();
        let generation = acceptance.generation;
        let mut inner = self.inner.lock();
        // Of more than are kept, only the last ones would stay.
        let rejected = &acceptance.rejected;
        for error in &rejected[rejected.len().saturating_sub(MAX_REJECTED)..] {
            inner.note(notices, Some(source), generation, error.clone());
        }
        let Some(state) = inner.state_of(source) else {
            return;
        };
        // A later update may be recorded already: the first values are recorded after their commit.
        if generation < state.health.generation {
            return;
        }
        let was_rejecting = !state.rejected.is_empty();
        let is_whole = rejected.is_empty();
        state.record_origin(&acceptance);
        let (new_rejections, new_problems) = state.record_problems(notices, &mut acceptance, now);
        for problem in new_problems {
            inner.note(notices, Some(source), generation, problem);
        }
        let Some(state) = inner.state_of(source) else {
            return;
        };
        let changed = acceptance.changed;
        state.record_update(notices, acceptance, is_whole, now);
        self.report_update(state, notices, generation, (was_rejecting, changed));
        for error in new_rejections {
            self.put(state, notices, generation, SourceEventKind::Rejected(error));
        }
    }

    /// Reports what a committed update has changed.
    fn report_update(
        &self,
        state: &mut SourceState,
        notices: &mut Notices,
        generation: u64,
        (was_rejecting, changed): (bool, bool),
    ) {
        let was_initialized = state.initialize();
        state.restate();
        let has_returned = state.is_up() && state.contact.recover();
        if !was_initialized {
            self.put(state, notices, generation, SourceEventKind::Initialized);
            return;
        }
        if has_returned {
            self.put(state, notices, generation, SourceEventKind::Reconnected);
        } else if was_rejecting && state.is_up() {
            self.put(state, notices, generation, SourceEventKind::Recovered);
        }
        if changed {
            self.put(state, notices, generation, SourceEventKind::Updated);
        }
    }

    /// Records an update that is rejected as a whole, or withheld.
    pub(crate) fn record_rejected(
        &self,
        notices: &mut Notices,
        source: SourceId,
        generation: u64,
        error: Error,
        withheld: Option<PendingRemoval>,
    ) {
        let mut inner = self.inner.lock();
        inner.note(notices, Some(source), generation, error.clone());
        let Some(state) = inner.state_of(source) else {
            return;
        };
        // The parts of the document in force that were rejected still are.
        let problems = state.health.problems.iter().cloned();
        let all = std::iter::once(error).chain(problems).collect();
        let new = state.reject(notices, all);
        state.answer(notices);
        state.withholding = Withholding::new(withheld);
        state.restate();
        for error in new {
            self.put(state, notices, generation, SourceEventKind::Rejected(error));
        }
    }

    /// Records that restored values are in force: the source did not answer, or its first update is
    /// withheld.
    pub(crate) fn record_restored(
        &self,
        source: SourceId,
        generation: u64,
        restored: &Restored,
        reason: Error,
    ) {
        let now = self.clock.now();
        let mut notices = Notices::default();
        self.edit(source, |state| {
            let health = &mut state.health;
            health.last_success = Some(restored.confirmed);
            health.revision.clone_from(&restored.revision);
            health.generation = generation;
            // Until the source answers, which brings other hints.
            health.hints = restored.missing_secrets_hint().into_iter().collect();
            state.answered_at = now.checked_sub(age(restored.confirmed));
            state.agreement = match state.answered_at {
                Some(at) => Agreement::At(at),
                None => Agreement::Unknown,
            };
            state.phase = Phase::Initialized;
            state.set_from_disk(FromDisk::All(restored.confirmed));
            let trouble = Trouble {
                since: restored.confirmed,
                reason: reason.clone(),
            };
            let is_withheld = reason.kind() == ErrorKind::Withheld;
            state.contact = if is_withheld {
                Contact::FirstWithheld(trouble)
            } else {
                Contact::Failed(trouble)
            };
            state.restate();
            if !is_withheld {
                let kind = SourceEventKind::Suspended(reason);
                self.put(state, &mut notices, generation, kind);
            }
        });
        notices.deliver();
    }

    /// Records the first values of a source that pushes, and the errors of its rejected parts.
    pub(crate) fn record_first_push(&self, source: SourceId, report: Report) {
        self.edit(source, |state| {
            state.health.problems = report.problems;
            state.health.hints = report.hints;
            if state.phase == Phase::Starting {
                state.phase = Phase::Arrived;
            }
        });
    }

    /// Notes why the file of a source in the cache, or its values, cannot be used.
    pub(crate) fn note_unusable_cache(&self, source: SourceId, generation: u64, reason: Error) {
        let mut notices = Notices::default();
        self.note_of(&mut notices, source, generation, reason);
        notices.deliver();
    }

    /// Records that a source does not answer, or that its answer is rejected as a whole.
    pub(crate) fn report_error(&self, source: SourceId, generation: u64, reason: Error) {
        let mut notices = Notices::default();
        let mut inner = self.inner.lock();
        if is_rejection(&reason) {
            inner.note(&mut notices, Some(source), generation, reason.clone());
        }
        if let Some(state) = inner.state_of(source) {
            if state.fail(reason.clone()) {
                let kind = SourceEventKind::Suspended(reason);
                self.put(state, &mut notices, generation, kind);
            }
        }
        drop(inner);
        notices.deliver();
    }

    /// Records that a source works, but not as it should; `None`: it does again.
    pub(crate) fn set_degraded(&self, source: SourceId, generation: u64, reason: Option<Error>) {
        let mut notices = Notices::default();
        self.edit(source, |state| {
            let before = std::mem::replace(&mut state.health.degraded, reason.clone());
            let text = |error: Option<&Error>| error.map(Error::to_string);
            let is_new = text(before.as_ref()) != text(reason.as_ref());
            if let (true, Some(reason)) = (is_new, reason) {
                let kind = SourceEventKind::Degraded(reason);
                self.put(state, &mut notices, generation, kind);
            }
        });
        notices.deliver();
    }

    /// Records that the values of a source cannot be written to the cache; `None`: they can.
    pub(crate) fn set_cache_failure(
        &self,
        source: SourceId,
        generation: u64,
        reason: Option<Error>,
    ) {
        let mut notices = Notices::default();
        self.edit(source, |state| {
            let before = std::mem::replace(&mut state.cache_failure, reason.clone());
            if let (None, Some(reason)) = (before, reason) {
                let kind = SourceEventKind::Degraded(reason);
                self.put(state, &mut notices, generation, kind);
            }
        });
        notices.deliver();
    }

    /// Records all items of lists that are not in force now.
    pub(crate) fn record_ignored_items(
        &self,
        notices: &mut Notices,
        generation: u64,
        items: Vec<(SourceId, Error)>,
    ) {
        let mut of_source = SortedMap::group(items);
        let mut inner = self.inner.lock();
        let mut new: Vec<(Option<SourceId>, Error)> = Vec::new();
        for state in &mut inner.sources {
            let source = state.health.source;
            let items = of_source.remove(&source).unwrap_or_default();
            let new_items = state.ignored_items.new_among(&items);
            let since = state.since();
            state.ignored_items.replace(notices, items, since);
            let was_up = state.is_up();
            if state.has_values() {
                state.restate();
            }
            if !was_up && state.is_up() {
                self.put(state, notices, generation, SourceEventKind::Recovered);
            }
            for error in new_items {
                new.push((Some(source), error.clone()));
                self.put(state, notices, generation, SourceEventKind::Rejected(error));
            }
        }
        // Those of the overrides and the defaults.
        new.extend(of_source.into_values().flatten().map(|error| (None, error)));
        for (source, error) in new {
            inner.note(notices, source, generation, error);
        }
    }
}

impl SourceState {
    /// Records what is rejected of an update, by the commit and in its document. Returns what is new
    /// of all that, and of the document alone.
    fn record_problems(
        &mut self,
        notices: &mut Notices,
        acceptance: &mut Acceptance,
        now: Instant,
    ) -> (Vec<Error>, Vec<Error>) {
        if let Some(report) = acceptance.problems.take() {
            let problems = std::mem::replace(&mut self.health.problems, report.problems);
            let hints = std::mem::replace(&mut self.health.hints, report.hints);
            notices.errors.extend(problems.into_iter().chain(hints));
        }
        let problems = self.health.problems.iter().cloned();
        let mut all = std::mem::take(&mut acceptance.rejected);
        all.extend(problems);
        if all.is_empty() {
            self.agreement = Agreement::At(now);
        }
        let new_problems = self.rejected.new_among(&self.health.problems);
        (self.reject(notices, all), new_problems)
    }

    /// Records an update that is in force.
    fn record_update(
        &mut self,
        notices: &mut Notices,
        acceptance: Acceptance,
        is_whole: bool,
        now: Instant,
    ) {
        if acceptance.changed {
            let since = if self.is_polled {
                self.answered_at
            } else {
                acceptance.received_at
            };
            self.health.lag = since.map(|since| now.saturating_duration_since(since));
            self.health.generation = acceptance.generation;
            self.health.commits += 1;
        }
        if acceptance.was_withheld {
            // No revision stands for all of it.
            self.health.revision = None;
        } else {
            self.health.last_success = Some(SystemTime::now());
            self.answered_at = Some(now);
            self.answer(notices);
            // An update of which a part was rejected is polled again.
            if is_whole && acceptance.revision.is_some() {
                self.health.revision = acceptance.revision;
            }
        }
        self.withholding = Withholding::new(acceptance.withheld);
    }

    /// Records which values come from disk after an update.
    fn record_origin(&mut self, acceptance: &Acceptance) {
        let is_partial = match &acceptance.problems {
            Some(report) => report.keeps_values,
            // Single keys confirm no other key.
            None => matches!(self.from_disk, FromDisk::Part(_)) && !acceptance.was_withheld,
        };
        let keeps_values =
            is_partial || !acceptance.rejected.is_empty() || acceptance.withheld.is_some();
        let from_disk = match acceptance.restored {
            Some(confirmed) => FromDisk::Part(confirmed),
            None => self.from_disk.after_update(keeps_values),
        };
        self.set_from_disk(from_disk);
    }

    fn set_from_disk(&mut self, from_disk: FromDisk) {
        self.from_disk = from_disk;
        self.health.cached = from_disk.confirmed();
    }
}
