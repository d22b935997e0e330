//! Keeps the health registry of all sources, and tells who listens.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use crate::engine::cache::{Kept, age};
use crate::engine::clock::Clock;
use crate::engine::health::damper::{Damper, Verdict};
use crate::engine::health::events::{self, Listeners, MAX_EVENTS};
use crate::engine::health::state::{SourceState, Trouble, is_rejection};
use crate::engine::health::{
    Held, PendingRestart, Refused, SourceEvent, SourceEventKind, SourceHealth, StaleProperty,
    Status,
};
use crate::error::{Error, ErrorKind, MASK};
use crate::property::registry::Host;
use crate::property::stale::{Stale, StaleChange};
use crate::property::subscription::Subscription;
use crate::sync::Cell;
use crate::sync::lock::Mutex;
use crate::tree::layer::{Layer, SourceId};
use crate::value::document::Report;
use crate::value::key::Key;

pub(crate) use crate::engine::health::events::{News, Wake};

const MAX_REFUSED: usize = 64;
/// As many missing keys are compared with those that are set.
const MAX_MISSING: usize = 256;
/// As many keys of handles, and of the fields of bound structs, are compared with those that are set.
const MAX_READ: usize = 1_000;

/// Keeps the health registry.
pub(crate) struct HealthRegistry {
    pub(super) inner: Mutex<Inner>,
    listeners: Listeners,
    /// Read without a lock: it is asked by each reading of a malformed value.
    malformed: Cell<Malformed>,
    pub(super) clock: Clock,
    /// Wakes who calls [`grown_old`](Self::grown_old).
    wake: Wake,
}

#[derive(Default)]
pub(super) struct Inner {
    pub(super) sources: Vec<SourceState>,
    pub(super) refused: VecDeque<Refused>,
    pub(super) pending_restart: Vec<PendingRestart>,
    /// Keys that were missing when handles on them were built, and whether they are of tables.
    missing: BTreeMap<Key, bool>,
    /// The keys of handles, and of the fields of the structs that they read.
    read: BTreeSet<Key>,
    /// The handles that keep their last good values, by the addresses of their slots.
    pub(super) stale: BTreeMap<usize, (Stale, SystemTime)>,
}

/// The keys whose malformed readings were told of in a generation.
#[derive(Default)]
struct Malformed {
    generation: u64,
    keys: BTreeSet<Arc<str>>,
}

impl Inner {
    fn record(&mut self, source: SourceId) -> Option<&mut SourceState> {
        let mut sources = self.sources.iter_mut();
        sources.find(|record| record.health.source == source)
    }

    /// Records a clash, which counts once for each generation.
    fn note_clash(&mut self, news: &mut News, generation: u64, error: Error) {
        let text = error.to_string();
        let mut known = self.refused.iter();
        let is_counted = known.any(|old| {
            old.source.is_none() && old.generation == generation && old.error.to_string() == text
        });
        if is_counted {
            news.errors.push(error);
        } else {
            self.note(news, None, generation, error);
        }
    }

    /// Remembers a refusal or a clash, the same one once.
    fn note(&mut self, news: &mut News, source: Option<SourceId>, generation: u64, error: Error) {
        let text = error.to_string();
        let same = |old: &Refused| old.source == source && old.error.to_string() == text;
        let before = self.refused.iter().position(same);
        let before = before.and_then(|at| self.refused.remove(at));
        if self.refused.len() == MAX_REFUSED {
            news.errors
                .extend(self.refused.pop_front().map(|old| old.error));
        }
        self.refused.push_back(Refused {
            source,
            error,
            time: SystemTime::now(),
            count: before.as_ref().map_or(1, |old| old.count + 1),
            generation,
        });
        news.errors.extend(before.map(|old| old.error));
    }
}

/// What the program wants of a source, as far as its health is concerned.
pub(crate) struct Expected {
    pub(crate) required: bool,
    pub(crate) max_stale: Duration,
    pub(crate) polled: bool,
}

/// What a source said that was taken, as far as the health registry are concerned.
#[derive(Default)]
pub(crate) struct Answer {
    pub(crate) generation: u64,
    pub(crate) changed: bool,
    /// Whether it is what it had said before, and is believed now.
    pub(crate) confirmed: bool,
    /// Replaces what its document left out, if it brought one.
    pub(crate) problems: Option<Report>,
    pub(crate) revision: Option<Arc<str>>,
    /// Why parts of what it said are not in force.
    pub(crate) refused: Vec<Error>,
    /// What of it is held, and when that is believed.
    pub(crate) held: Option<(Held, Option<Instant>)>,
    /// When it was told.
    pub(crate) told: Option<Instant>,
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

    pub(crate) fn open(
        &self,
        source: SourceId,
        name: Arc<str>,
        layer: Layer,
        Expected {
            required,
            max_stale,
            polled,
        }: Expected,
    ) {
        let health = SourceHealth {
            source,
            name,
            layer,
            status: Status::Starting,
            last_success: None,
            age: None,
            max_stale,
            required,
            revision: None,
            generation: 0,
            lag: None,
            cached: None,
            held: None,
            commits: 0,
            refusals: 0,
            problems: Vec::new(),
            hints: Vec::new(),
            degraded: None,
            guessed_secrets: Vec::new(),
            location: None,
        };
        self.inner.lock().sources.push(SourceState {
            health,
            polled,
            answered: None,
            agreed: None,
            opened: SystemTime::now(),
            has_values: false,
            told_first: false,
            failing: None,
            lost_contact: false,
            refusing: None,
            ignored_items: Vec::new(),
            ignoring: None,
            rejected: Vec::new(),
            damper: Damper::default(),
            told_old: false,
            believed: None,
            interrupted: false,
            unkept: None,
        });
    }

    /// Has what is withheld of a source accepted then, although it is not sent again.
    pub(crate) fn accept_at(&self, source: SourceId, at: Instant) {
        self.edit(source, |record| record.believed = Some(at));
    }

    /// The revision of what is in force, which the source is asked from.
    pub(crate) fn revision(&self, source: SourceId) -> Option<Arc<str>> {
        // What is kept on disk may lack what is secret, so it is no ground for asking what is new.
        let current = |record: &mut SourceState| {
            let health = &record.health;
            health.revision.clone().filter(|_| health.cached.is_none())
        };
        self.edit(source, current)?
    }

    pub(crate) fn close(&self, source: SourceId, generation: u64) {
        let mut news = News::default();
        {
            let mut inner = self.inner.lock();
            let is_it = |record: &SourceState| record.health.source == source;
            if let Some(at) = inner.sources.iter().position(is_it) {
                let mut record = inner.sources.remove(at);
                self.put(&mut record, &mut news, generation, SourceEventKind::Removed);
            }
        }
        news.tell();
    }

    pub(crate) fn moved(&self, source: SourceId, layer: Layer) {
        self.edit(source, |record| record.health.layer = layer);
    }

    fn edit<R>(&self, source: SourceId, change: impl FnOnce(&mut SourceState) -> R) -> Option<R> {
        self.inner.lock().record(source).map(change)
    }

    /// The source answered, and nothing is new since it last said something; says whether what is in
    /// force is confirmed by that.
    pub(crate) fn heartbeat(&self, source: SourceId, generation: u64) -> bool {
        let now = self.clock.now();
        let mut news = News::default();
        let confirmed = {
            let mut inner = self.inner.lock();
            let Some(record) = inner.record(source) else {
                return false;
            };
            // Of values from last time it has said nothing yet.
            if record.health.cached.is_some() {
                return false;
            }
            record.failing = None;
            record.health.last_success = Some(SystemTime::now());
            record.answered = Some(now);
            // What was refused, or is held, it says still.
            let confirmed = record.refusing.is_none();
            if confirmed {
                (record.has_values, record.told_old) = (true, false);
                record.agreed = Some(now);
            }
            record.restate();
            if !confirmed {
                return false;
            }
            let reconnects = std::mem::take(&mut record.lost_contact);
            if !std::mem::replace(&mut record.told_first, true) {
                self.put(record, &mut news, generation, SourceEventKind::Initialized);
            } else if reconnects {
                self.put(record, &mut news, generation, SourceEventKind::Reconnected);
            }
            confirmed
        };
        news.tell();
        confirmed
    }

    /// The source said something that was taken.
    ///
    /// As all that a commit leads to, it is written while the commit lock is held, so that the health registry
    /// follow the commits in their order; the news is for whoever holds it to tell later.
    pub(crate) fn answered(&self, news: &mut News, source: SourceId, answer: Answer) {
        let Answer {
            generation,
            changed,
            confirmed,
            problems,
            revision,
            refused,
            held,
            told,
        } = answer;
        let now = self.clock.now();
        let mut inner = self.inner.lock();
        // Of more than are kept, only the last ones would stay.
        for error in &refused[refused.len().saturating_sub(MAX_REFUSED)..] {
            inner.note(news, Some(source), generation, error.clone());
        }
        let Some(record) = inner.record(source) else {
            return;
        };
        // What came later may be here already: the first values are told of after their commit.
        if generation < record.health.generation {
            return;
        }
        let was_rejecting = record.refusing.is_some();
        let is_whole = refused.is_empty();
        record.spare(news);
        if let Some(problems) = problems {
            let Report { problems, hints } = problems;
            let before = std::mem::replace(&mut record.health.problems, problems);
            news.errors.extend(before);
            news.errors
                .extend(std::mem::replace(&mut record.health.hints, hints));
        }
        let from_commit = refused.len();
        let all: Vec<Error> = refused
            .into_iter()
            .chain(record.health.problems.iter().cloned())
            .collect();
        if all.is_empty() {
            record.told_old = false;
            record.agreed = Some(now);
        }
        let new_problems: Vec<Error> = record.unknown(&all[from_commit..]);
        let rejected = record.reject(news, all);
        for problem in new_problems {
            inner.note(news, Some(source), generation, problem);
        }
        let Some(record) = inner.record(source) else {
            return;
        };
        let health = &mut record.health;
        if changed {
            let since = match record.polled {
                true => record.answered,
                false => told,
            };
            health.lag = since.map(|since| now.saturating_duration_since(since));
            health.generation = generation;
            health.commits += 1;
        }
        if confirmed {
            // It was held, so there is no revision that all of was taken.
            health.revision = None;
        } else {
            health.last_success = Some(SystemTime::now());
            record.answered = Some(now);
            record.failing = None;
            // What a part of was refused is asked for again.
            if is_whole && revision.is_some() {
                health.revision = revision;
            }
        }
        health.cached = None;
        record.has_values = true;
        record.hold(held);
        record.restate();
        let is_well = matches!(record.health.status, Status::Up);
        let reconnects = is_well && std::mem::take(&mut record.lost_contact);
        if !std::mem::replace(&mut record.told_first, true) {
            self.put(record, news, generation, SourceEventKind::Initialized);
        } else {
            if reconnects {
                self.put(record, news, generation, SourceEventKind::Reconnected);
            } else if was_rejecting && is_well {
                self.put(record, news, generation, SourceEventKind::Recovered);
            }
            if changed {
                self.put(record, news, generation, SourceEventKind::Updated);
            }
        }
        for error in rejected {
            self.put(record, news, generation, SourceEventKind::Rejected(error));
        }
    }

    /// What the source said is refused as a whole, or is held.
    pub(crate) fn refused(
        &self,
        news: &mut News,
        source: SourceId,
        generation: u64,
        error: Error,
        held: Option<(Held, Option<Instant>)>,
    ) {
        let mut inner = self.inner.lock();
        inner.note(news, Some(source), generation, error.clone());
        let Some(record) = inner.record(source) else {
            return;
        };
        record.spare(news);
        // The parts of the document in force that were rejected still are.
        let problems = record.health.problems.iter().cloned();
        let all = std::iter::once(error).chain(problems).collect();
        let rejected = record.reject(news, all);
        record.failing = None;
        record.hold(held);
        record.restate();
        for error in rejected {
            self.put(record, news, generation, SourceEventKind::Rejected(error));
        }
    }

    /// Whether a source has failed since it said what is held of it; asked once for each failure.
    pub(crate) fn was_interrupted(&self, source: SourceId) -> bool {
        let taken = self.edit(source, |record| std::mem::take(&mut record.interrupted));
        taken == Some(true)
    }

    /// The values that were kept of a source are in force: it did not answer, or not with what is
    /// believed.
    pub(crate) fn kept(&self, source: SourceId, generation: u64, kept: &Kept, reason: Error) {
        let now = self.clock.now();
        let mut news = News::default();
        self.edit(source, |record| {
            let health = &mut record.health;
            health.cached = Some(kept.confirmed);
            health.last_success = Some(kept.confirmed);
            health.revision.clone_from(&kept.revision);
            health.generation = generation;
            // Until it answers, which brings hints of its own.
            health.hints = kept.without_secrets().into_iter().collect();
            record.answered = now.checked_sub(age(kept.confirmed));
            record.agreed = record.answered;
            (record.has_values, record.told_first) = (true, true);
            record.lost_contact = reason.kind() != ErrorKind::Withheld;
            record.failing = Some(Trouble {
                since: kept.confirmed,
                reason: reason.clone(),
            });
            record.restate();
            if reason.kind() != ErrorKind::Withheld {
                let kind = SourceEventKind::Suspended(reason);
                self.put(record, &mut news, generation, kind);
            }
        });
        news.tell();
    }

    /// What was kept of a source on disk is of no use.
    pub(crate) fn unusable(&self, source: SourceId, generation: u64, reason: Error) {
        let mut news = News::default();
        let mut inner = self.inner.lock();
        inner.note(&mut news, Some(source), generation, reason);
        drop(inner);
        news.tell();
    }

    /// The values of a source cannot be kept on disk; `None`: they can.
    pub(crate) fn unkept(&self, source: SourceId, generation: u64, reason: Option<Error>) {
        let mut news = News::default();
        self.edit(source, |record| {
            let before = std::mem::replace(&mut record.unkept, reason.clone());
            if let (None, Some(reason)) = (before, reason) {
                let kind = SourceEventKind::Degraded(reason);
                self.put(record, &mut news, generation, kind);
            }
        });
        news.tell();
    }

    /// Records the keys that are not kept on disk because they look secret.
    pub(crate) fn left_out(&self, source: SourceId, guessed: Vec<Key>) {
        self.edit(source, |record| record.health.guessed_secrets = guessed);
    }

    /// Records the first values of a source that pushes, and the errors of its rejected parts.
    pub(crate) fn arrived(&self, source: SourceId, report: Report) {
        self.edit(source, |record| {
            record.health.problems = report.problems;
            record.health.hints = report.hints;
            record.has_values = true;
        });
    }

    /// Whether the first values of a source have arrived.
    pub(crate) fn has_arrived(&self, source: SourceId) -> bool {
        self.edit(source, |record| record.has_values) == Some(true)
    }

    /// The source does not answer, or its answer is rejected as a whole.
    pub(crate) fn report_error(&self, source: SourceId, generation: u64, reason: Error) {
        let mut news = News::default();
        let mut inner = self.inner.lock();
        if is_rejection(&reason) {
            inner.note(&mut news, Some(source), generation, reason.clone());
        }
        if let Some(record) = inner.record(source) {
            if record.fail(reason.clone()) {
                let kind = SourceEventKind::Suspended(reason);
                self.put(record, &mut news, generation, kind);
            }
        }
        drop(inner);
        news.tell();
    }

    /// The source works, but not as it should; `None`: it does again.
    pub(crate) fn set_degraded(&self, source: SourceId, generation: u64, reason: Option<Error>) {
        let mut news = News::default();
        self.edit(source, |record| {
            let before = std::mem::replace(&mut record.health.degraded, reason.clone());
            let text = |error: Option<&Error>| error.map(Error::to_string);
            let is_news = text(before.as_ref()) != text(reason.as_ref());
            if let (true, Some(reason)) = (is_news, reason) {
                let kind = SourceEventKind::Degraded(reason);
                self.put(record, &mut news, generation, kind);
            }
        });
        news.tell();
    }

    /// Where a source reads from.
    pub(crate) fn set_location(&self, source: SourceId, place: Arc<str>) {
        self.edit(source, |record| record.health.location = Some(place));
    }

    /// A reading with a default met a malformed value: told once for each key and generation, since
    /// the reading may be on a path that is run often.
    pub(crate) fn malformed(&self, key: &str, generation: u64, error: Error) {
        let told = |told: &Malformed| {
            let is_full = told.keys.len() >= MAX_EVENTS;
            told.generation == generation && (is_full || told.keys.contains(key))
        };
        if told(&self.malformed.load()) {
            return;
        }
        let mut news = News::default();
        {
            let mut inner = self.inner.lock();
            let before = self.malformed.full();
            if told(&before) {
                return;
            }
            let mut keys = match before.generation == generation {
                true => before.keys.clone(),
                false => BTreeSet::new(),
            };
            keys.insert(key.into());
            self.malformed
                .store(Arc::new(Malformed { generation, keys }));
            inner.note(&mut news, None, generation, error.clone());
        }
        self.put_whole(&mut news, generation, SourceEventKind::Malformed(error));
        news.tell();
    }

    /// The keys that wait for a restart now.
    pub(crate) fn waits_for_restart(
        &self,
        news: &mut News,
        generation: u64,
        pending: Vec<PendingRestart>,
    ) {
        let before = std::mem::replace(&mut self.inner.lock().pending_restart, pending.clone());
        for one in pending {
            if !before.contains(&one) {
                let kind = SourceEventKind::RestartRequired(one);
                self.put_whole(news, generation, kind);
            }
        }
    }

    /// Handles keep their last good values, since references are unresolved, or no longer do.
    pub(crate) fn stale(&self, news: &mut News, generation: u64, change: StaleChange) {
        let mut events = Vec::new();
        {
            let mut inner = self.inner.lock();
            for one in change.recovered {
                let before = inner.stale.remove(&one.address());
                news.errors.extend(before.map(|(before, _)| before.reason));
                events.push(SourceEventKind::PropertyRecovered(one.key));
            }
            for one in change.stale {
                let before = inner.stale.remove(&one.address());
                let since = before
                    .as_ref()
                    .map_or_else(SystemTime::now, |before| before.1);
                let is_news = before.as_ref().is_none_or(|(before, _)| {
                    !before.is_alive() || before.reason.to_string() != one.reason.to_string()
                });
                if is_news {
                    events.push(SourceEventKind::PropertyStale(StaleProperty {
                        key: one.key.clone(),
                        since,
                        reason: one.reason.clone(),
                    }));
                }
                inner.stale.insert(one.address(), (one, since));
                news.errors.extend(before.map(|(before, _)| before.reason));
            }
            inner.stale.retain(|_, (one, _)| one.is_alive());
        }
        for kind in events {
            self.put_whole(news, generation, kind);
        }
    }

    /// Takes away what is shown of keys that turned out to hold secrets. `quoting` is for words that
    /// may quote the value of such a key in an error about another one.
    pub(crate) fn hide(
        &self,
        hidden: &dyn Fn(&str) -> bool,
        quoting: &dyn Fn(&str) -> Option<String>,
    ) {
        let scrub = |error: &mut Error| {
            let scrubbed = error
                .without(hidden)
                .or_else(|| error.without_quotes(quoting));
            let changes = scrubbed.is_some();
            if let Some(scrubbed) = scrubbed {
                *error = scrubbed;
            }
            changes
        };
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        for refused in &mut inner.refused {
            scrub(&mut refused.error);
        }
        for (stale, _) in inner.stale.values_mut() {
            scrub(&mut stale.reason);
        }
        for pending in &mut inner.pending_restart {
            if hidden(pending.key.as_str()) {
                let shown = pending.running.iter_mut().chain(&mut pending.waiting);
                shown.for_each(|text| MASK.clone_into(text));
            }
        }
        for record in &mut inner.sources {
            record.scrub(scrub);
        }
    }

    /// Remembers a key that was missing when a handle on it was built.
    pub(crate) fn note_missing(&self, key: &Key, is_table: bool) {
        let missing = &mut self.inner.lock().missing;
        if missing.len() < MAX_MISSING {
            *missing.entry(key.clone()).or_default() |= is_table;
        }
    }

    /// The keys that were missing when handles on them were built, and whether they are of tables.
    pub(crate) fn missing(&self) -> BTreeMap<Key, bool> {
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

    /// Remembers what concerns the whole.
    pub(crate) fn note(&self, generation: u64, error: Error) {
        let mut news = News::default();
        let mut inner = self.inner.lock();
        inner.note(&mut news, None, generation, error);
        drop(inner);
        news.tell();
    }

    /// Records a rejected update that leaves the health of its source as it is.
    pub(crate) fn note_of(&self, news: &mut News, source: SourceId, generation: u64, error: Error) {
        self.inner
            .lock()
            .note(news, Some(source), generation, error);
    }

    /// Records all items of lists that are not in force now.
    pub(crate) fn ignored_items(
        &self,
        news: &mut News,
        generation: u64,
        items: Vec<(SourceId, Error)>,
    ) {
        let mut of_source: BTreeMap<SourceId, Vec<Error>> = BTreeMap::new();
        for (source, error) in items {
            of_source.entry(source).or_default().push(error);
        }
        let mut inner = self.inner.lock();
        let mut new: Vec<(Option<SourceId>, Error)> = Vec::new();
        for record in &mut inner.sources {
            let source = record.health.source;
            let now = of_source.remove(&source).unwrap_or_default();
            let texts: BTreeSet<String> =
                record.ignored_items.iter().map(Error::to_string).collect();
            let unknown = now
                .iter()
                .filter(|error| !texts.contains(&error.to_string()));
            let unknown: Vec<Error> = unknown.cloned().collect();
            let since = record.ignoring.as_ref().map(|trouble| trouble.since);
            record.spare(news);
            record.ignoring = now.first().map(|reason| Trouble {
                since: since.unwrap_or_else(|| record.since()),
                reason: reason.clone(),
            });
            news.errors
                .extend(std::mem::replace(&mut record.ignored_items, now));
            let was_well = matches!(record.health.status, Status::Up);
            if record.has_values {
                record.restate();
            }
            if !was_well && matches!(record.health.status, Status::Up) {
                self.put(record, news, generation, SourceEventKind::Recovered);
            }
            for error in unknown {
                new.push((Some(source), error.clone()));
                self.put(record, news, generation, SourceEventKind::Rejected(error));
            }
        }
        // What the program itself has set, or has by default.
        new.extend(of_source.into_values().flatten().map(|error| (None, error)));
        for (source, error) in new {
            inner.note(news, source, generation, error);
        }
    }

    /// Remembers what a commit found.
    pub(crate) fn note_clash(&self, news: &mut News, generation: u64, error: Error) {
        self.inner.lock().note_clash(news, generation, error);
    }

    pub(crate) fn whole(&self, generation: u64, kind: SourceEventKind) {
        let mut news = News::default();
        self.put_whole(&mut news, generation, kind);
        news.tell();
    }

    fn put_whole(&self, news: &mut News, generation: u64, kind: SourceEventKind) {
        if !events::is_listening() {
            self.listeners.put(news, || SourceEvent {
                source: None,
                name: Arc::from("liveprops"),
                kind,
                repeated: 0,
                generation,
            });
        }
    }

    /// Puts an event of a source where those who listen find it.
    fn put(
        &self,
        record: &mut SourceState,
        news: &mut News,
        generation: u64,
        kind: SourceEventKind,
    ) {
        if matches!(kind, SourceEventKind::Updated) {
            // Never damped, and part of every commit.
            self.put_undamped(record, news, generation, (kind, 0));
            return;
        }
        match record.damper.judge(&kind, self.clock.now()) {
            Verdict::Report(repeated) => {
                self.put_undamped(record, news, generation, (kind, repeated));
            }
            Verdict::Withhold => {}
            Verdict::WithholdAndWake => news.wake = Some(Arc::clone(&self.wake)),
        }
    }

    fn put_undamped(
        &self,
        record: &SourceState,
        news: &mut News,
        generation: u64,
        (kind, repeated): (SourceEventKind, u64),
    ) {
        self.listeners.put(news, || SourceEvent {
            source: Some(record.health.source),
            name: Arc::clone(&record.health.name),
            kind,
            repeated,
            generation,
        });
    }

    pub(crate) fn subscribe(
        &self,
        host: Weak<dyn Host>,
        callback: impl FnMut(&SourceEvent) + Send + 'static,
    ) -> Subscription {
        self.listeners.subscribe(host, callback)
    }

    /// Tells of values that grew too old; says when to look again, and of which sources what is held
    /// is to be believed.
    pub(crate) fn grown_old(&self, generation: u64) -> (Option<Instant>, Vec<SourceId>) {
        let now = self.clock.now();
        let mut next = None;
        let mut news = News::default();
        let mut believed = Vec::new();
        for record in &mut self.inner.lock().sources {
            match record.believed {
                Some(at) if at <= now => {
                    record.believed = None;
                    believed.push(record.health.source);
                }
                at => next = next.into_iter().chain(at).min(),
            }
            let mut damper = std::mem::take(&mut record.damper);
            for event in damper.take_due(now, || record.events()) {
                self.put_undamped(record, &mut news, generation, event);
            }
            next = next.into_iter().chain(damper.next_due()).min();
            record.damper = damper;
            // What may not grow old at all has been told of as what it is.
            if record.told_old || record.health.max_stale.is_zero() {
                continue;
            }
            match (record.too_old_at(), &record.health.status) {
                (Some(at), Status::Stale { reason, .. }) if at <= now => {
                    let kind = SourceEventKind::Stale(reason.clone());
                    record.told_old = true;
                    self.put(record, &mut news, generation, kind);
                }
                (at, _) => next = next.into_iter().chain(at).min(),
            }
        }
        news.tell();
        (next, believed)
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
    use crate::engine::clock::Fake;
    use std::sync::mpsc::channel;

    #[test]
    fn a_withheld_rejection_of_a_key_that_becomes_secret_is_reported_without_its_text() {
        let (fake, clock) = Fake::new();
        let health_registry = HealthRegistry::new(clock, Arc::new(|| ()));
        let source = SourceId(7);
        let expected = Expected {
            required: true,
            max_stale: Duration::ZERO,
            polled: false,
        };
        health_registry.open(source, Arc::from("test"), Layer::new("test", 0), expected);
        let odd = || Error::new(ErrorKind::Mismatch, "found hunter").with_key_text("door");
        let answer = |refused: Vec<Error>| Answer {
            refused,
            ..Answer::default()
        };
        let mut news = News::default();
        for _ in 0..3 {
            health_registry.answered(&mut news, source, answer(vec![odd()]));
            health_registry.answered(&mut news, source, answer(Vec::new()));
        }
        health_registry.answered(&mut news, source, answer(vec![odd()]));
        health_registry.hide(&|key| key == "door", &|_| None);
        let mut inner = health_registry.inner.lock();
        let record = inner.record(source).unwrap();
        fake.advance(Duration::from_secs(6));
        let mut damper = std::mem::take(&mut record.damper);
        let due = damper.take_due(health_registry.clock.now(), || record.events());
        let [(SourceEventKind::Rejected(error), 1)] = &due[..] else {
            panic!("{due:?}");
        };
        assert!(!error.to_string().contains("hunter"), "{error}");
        let memory = format!("{damper:?} {:?} {:?}", record.rejected, record.health);
        assert!(!memory.contains("hunter"), "{memory}");
        drop(inner);
        news.tell();
    }

    #[test]
    fn a_malformed_reading_that_was_told_of_waits_for_nobody() {
        let health_registry = Arc::new(HealthRegistry::new(Clock::default(), Arc::new(|| ())));
        let error = || Error::new(ErrorKind::Mismatch, "not a number");
        for generation in [1, 2] {
            health_registry.malformed("n", generation, error());
        }
        assert_eq!(
            health_registry.inner.lock().refused.len(),
            1,
            "the same one"
        );
        let held = health_registry.inner.lock();
        let (done, is_done) = channel();
        let reader = Arc::clone(&health_registry);
        let thread = std::thread::spawn(move || {
            reader.malformed("n", 2, error());
            let _ = done.send(());
        });
        let outcome = is_done.recv_timeout(Duration::from_secs(5));
        drop(held);
        assert!(thread.join().is_ok());
        assert!(outcome.is_ok(), "it waited for the health_registry");
        assert_eq!(health_registry.inner.lock().refused[0].count, 2);
    }
}
