//! Keeps the books of all sources, and tells who listens.

use std::cell::Cell;
use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;

use crate::engine::cache::{Kept, age};
use crate::engine::clock::Clock;
use crate::engine::health::{
    Health, Held, PendingRestart, Refused, SourceEvent, SourceEventKind, SourceHealth, Status,
};
use crate::error::{Error, MASK};
use crate::property::registry::Host;
use crate::property::subscription::{Subscriber, Subscription};
use crate::tree::layer::{Layer, SourceId};

const MAX_REFUSED: usize = 64;
const MAX_EVENTS: usize = 1024;

thread_local! {
    /// Whether this thread is inside a callback that listens to events.
    static LISTENING: Cell<bool> = const { Cell::new(false) };
}

/// Keeps the books.
pub(crate) struct Books {
    inner: Mutex<Inner>,
    listeners: Mutex<Vec<Weak<EventBox>>>,
    clock: Clock,
}

#[derive(Default)]
struct Inner {
    /// The keys whose malformed readings were told of in a generation.
    malformed: (u64, BTreeSet<String>),
    sources: Vec<Record>,
    refused: VecDeque<Refused>,
    pending_restart: Vec<PendingRestart>,
}

/// The health of one source, and the monotonic moments behind it.
struct Record {
    health: SourceHealth,
    /// Whether its changes are noticed by looking.
    polled: bool,
    /// When it last answered; of values kept on disk, when they were confirmed, as far as the wall
    /// clock tells.
    answered: Option<Instant>,
    /// Since when it has been without an answer.
    opened: SystemTime,
    /// Whether it was told that its values grew too old.
    told_old: bool,
    /// When what is held of it is believed.
    believed: Option<Instant>,
    /// Why its values cannot be kept on disk.
    unkept: Option<Error>,
}

impl Record {
    /// When its values will be too old, if it does not answer meanwhile.
    fn too_old_at(&self) -> Option<Instant> {
        match self.health.status {
            Status::Stale { .. } => self.answered?.checked_add(self.health.max_stale),
            _ => None,
        }
    }

    fn is_too_old(&self, now: Instant) -> bool {
        matches!(self.health.status, Status::Stale { .. })
            && self.too_old_at().is_none_or(|at| at <= now)
    }
}

impl Inner {
    fn status(&self, now: Instant) -> Status {
        let mut down = None;
        let mut stale: Option<(SystemTime, &Error)> = None;
        let mut starting = false;
        for record in &self.sources {
            let since_then = match &record.health.status {
                Status::Starting => {
                    starting = true;
                    None
                }
                Status::Up => None,
                Status::Down { reason } if record.health.required => {
                    down = Some(reason);
                    None
                }
                Status::Down { reason } => Some((record.opened, reason)),
                Status::Stale { since, reason } => {
                    record.is_too_old(now).then_some((*since, reason))
                }
            };
            // The oldest trouble is told of.
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

struct EventBox {
    waiting: Mutex<VecDeque<SourceEvent>>,
    subscriber: Arc<Subscriber>,
}

/// What the program wants of a source, as far as its health is concerned.
pub(crate) struct Expected {
    pub(crate) required: bool,
    pub(crate) max_stale: Duration,
    pub(crate) polled: bool,
}

/// What a source said that was taken, as far as the books are concerned.
#[derive(Default)]
pub(crate) struct Answer {
    pub(crate) generation: u64,
    pub(crate) changed: bool,
    /// Replaces what its document left out, if it brought one.
    pub(crate) problems: Option<Vec<Error>>,
    pub(crate) revision: Option<Arc<str>>,
    /// Why a part of what it said is not in force.
    pub(crate) refused: Option<Error>,
    /// When it was told.
    pub(crate) told: Option<Instant>,
}

impl Books {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            inner: Mutex::default(),
            listeners: Mutex::default(),
            clock,
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
            degraded: None,
        };
        self.inner.lock().sources.push(Record {
            health,
            polled,
            answered: None,
            opened: SystemTime::now(),
            told_old: false,
            believed: None,
            unkept: None,
        });
    }

    /// The revision of what is in force, which the source is asked from.
    pub(crate) fn revision(&self, source: SourceId) -> Option<Arc<str>> {
        // What is kept on disk may lack what is secret, so it is no ground for asking what is new.
        let current = |record: &mut Record| {
            let health = &record.health;
            health.revision.clone().filter(|_| health.cached.is_none())
        };
        self.edit(source, current)?
    }

    pub(crate) fn close(&self, source: SourceId, generation: u64) {
        let name = self.edit(source, |record| Arc::clone(&record.health.name));
        self.inner
            .lock()
            .sources
            .retain(|record| record.health.source != source);
        if let Some(name) = name {
            self.tell(Some(source), name, generation, SourceEventKind::Removed);
        }
    }

    pub(crate) fn moved(&self, source: SourceId, layer: Layer) {
        self.edit(source, |record| record.health.layer = layer);
    }

    fn edit<R>(&self, source: SourceId, change: impl FnOnce(&mut Record) -> R) -> Option<R> {
        let mut inner = self.inner.lock();
        inner
            .sources
            .iter_mut()
            .find(|record| record.health.source == source)
            .map(change)
    }

    /// The source answered, and nothing is new.
    pub(crate) fn alive(&self, source: SourceId, generation: u64) {
        // Of values from last time it has said nothing yet.
        if self.edit(source, |record| record.health.cached.is_some()) == Some(true) {
            return;
        }
        self.answered(
            source,
            Answer {
                generation,
                ..Answer::default()
            },
        );
    }

    /// The source said something that was taken.
    pub(crate) fn answered(&self, source: SourceId, answer: Answer) {
        let Answer {
            generation,
            changed,
            problems,
            revision,
            refused,
            told,
        } = answer;
        let now = self.clock.now();
        let told = self.edit(source, |record| {
            let health = &mut record.health;
            let status = match (&health.status, &refused) {
                (_, None) => Status::Up,
                (Status::Stale { since, .. }, Some(reason)) => Status::Stale {
                    since: *since,
                    reason: reason.clone(),
                },
                (_, Some(reason)) => Status::Stale {
                    since: SystemTime::now(),
                    reason: reason.clone(),
                },
            };
            let before = std::mem::replace(&mut health.status, status);
            if changed {
                let since = match record.polled {
                    true => record.answered,
                    false => told,
                };
                health.lag = since.map(|since| now.saturating_duration_since(since));
                health.generation = generation;
                health.commits += 1;
            }
            health.last_success = Some(SystemTime::now());
            record.answered = Some(now);
            health.cached = None;
            if let Some(problems) = problems {
                health.problems = problems;
            }
            // What a part of was refused is asked for again.
            if refused.is_none() {
                record.told_old = false;
                health.held = None;
                if revision.is_some() {
                    health.revision = revision;
                }
            }
            (before, Arc::clone(&health.name))
        });
        let Some((before, name)) = told else {
            return;
        };
        match before {
            Status::Starting => {
                self.tell(Some(source), name, generation, SourceEventKind::Initialized)
            }
            Status::Up if changed => {
                self.tell(Some(source), name, generation, SourceEventKind::Updated)
            }
            Status::Up => {}
            _ if refused.is_some() => {
                if changed {
                    self.tell(Some(source), name, generation, SourceEventKind::Updated);
                }
            }
            _ => {
                self.tell(
                    Some(source),
                    Arc::clone(&name),
                    generation,
                    SourceEventKind::Reconnected,
                );
                if changed {
                    self.tell(Some(source), name, generation, SourceEventKind::Updated);
                }
            }
        }
    }

    /// The source did not answer, and the values that were kept of it are in force.
    pub(crate) fn kept(&self, source: SourceId, generation: u64, kept: &Kept, reason: Error) {
        let now = self.clock.now();
        let name = self.edit(source, |record| {
            let health = &mut record.health;
            health.status = Status::Stale {
                since: kept.confirmed,
                reason: reason.clone(),
            };
            health.cached = Some(kept.confirmed);
            health.last_success = Some(kept.confirmed);
            health.revision.clone_from(&kept.revision);
            health.generation = generation;
            record.answered = now.checked_sub(age(kept.confirmed));
            Arc::clone(&health.name)
        });
        if let Some(name) = name {
            let kind = SourceEventKind::Suspended(reason);
            self.tell(Some(source), name, generation, kind);
        }
    }

    /// What was kept of a source on disk is of no use.
    pub(crate) fn unusable(&self, source: SourceId, generation: u64, reason: Error) {
        self.note_of(Some(source), generation, reason);
    }

    /// The values of a source cannot be kept on disk; `None`: they can.
    pub(crate) fn unkept(&self, source: SourceId, generation: u64, reason: Option<Error>) {
        let told = self.edit(source, |record| {
            let before = std::mem::replace(&mut record.unkept, reason.clone());
            before.is_none().then(|| Arc::clone(&record.health.name))
        });
        if let (Some(Some(name)), Some(reason)) = (told, reason) {
            let kind = SourceEventKind::Degraded(reason);
            self.tell(Some(source), name, generation, kind);
        }
    }

    /// What the newest document of a source left out.
    pub(crate) fn left_out(&self, source: SourceId, problems: Vec<Error>) {
        self.edit(source, |record| record.health.problems = problems);
    }

    /// The source does not answer, or answers nonsense.
    pub(crate) fn failed(&self, source: SourceId, generation: u64, reason: Error) {
        let told = self.edit(source, |record| {
            let health = &mut record.health;
            let fresh = matches!(health.status, Status::Up | Status::Starting);
            let news = match &health.status {
                Status::Stale { reason: old, .. } | Status::Down { reason: old } => {
                    old.to_string() != reason.to_string()
                }
                _ => true,
            };
            health.status = match (&health.status, health.last_success) {
                (Status::Stale { since, .. }, _) => Status::Stale {
                    since: *since,
                    reason: reason.clone(),
                },
                (_, Some(_)) => Status::Stale {
                    since: SystemTime::now(),
                    reason: reason.clone(),
                },
                (_, None) => Status::Down {
                    reason: reason.clone(),
                },
            };
            (fresh || news).then(|| Arc::clone(&health.name))
        });
        if let Some(Some(name)) = told {
            self.tell(
                Some(source),
                name,
                generation,
                SourceEventKind::Suspended(reason),
            );
        }
    }

    /// The source works, but not as it should; `None`: it does again.
    pub(crate) fn degraded(&self, source: SourceId, generation: u64, reason: Option<Error>) {
        let told = self.edit(source, |record| {
            let health = &mut record.health;
            let before = std::mem::replace(&mut health.degraded, reason.clone());
            let text = |error: Option<&Error>| error.map(Error::to_string);
            let news = text(before.as_ref()) != text(reason.as_ref());
            news.then(|| Arc::clone(&health.name))
        });
        if let (Some(Some(name)), Some(reason)) = (told, reason) {
            let kind = SourceEventKind::Degraded(reason);
            self.tell(Some(source), name, generation, kind);
        }
    }

    /// An update or one of its keys was refused.
    pub(crate) fn refused(&self, source: SourceId, generation: u64, errors: &[Error], whole: bool) {
        let name = self.edit(source, |record| {
            let health = &mut record.health;
            if let (true, Some(reason), Status::Stale { reason: old, .. }) =
                (whole, errors.first(), &health.status)
            {
                // The same document offered again is no news.
                if old.to_string() == reason.to_string() {
                    return None;
                }
            }
            health.refusals += errors.len() as u64;
            if let (true, Some(reason)) = (whole, errors.first()) {
                let since = match &health.status {
                    Status::Stale { since, .. } => *since,
                    _ => SystemTime::now(),
                };
                health.status = Status::Stale {
                    since,
                    reason: reason.clone(),
                };
            }
            Some(Arc::clone(&health.name))
        });
        if name == Some(None) {
            return;
        }
        let name = name.flatten();
        for error in errors {
            self.note_of(Some(source), generation, error.clone());
            if let Some(name) = &name {
                self.tell(
                    Some(source),
                    Arc::clone(name),
                    generation,
                    SourceEventKind::Rejected(error.clone()),
                );
            }
        }
    }

    /// A reading with a default met a malformed value: told once for each key and generation, since
    /// the reading may be on a path that is run often.
    pub(crate) fn malformed(&self, key: &str, generation: u64, error: Error) {
        {
            let mut inner = self.inner.lock();
            if inner.malformed.0 != generation {
                inner.malformed = (generation, BTreeSet::new());
            }
            if inner.malformed.1.len() >= MAX_EVENTS || !inner.malformed.1.insert(key.to_owned()) {
                return;
            }
        }
        self.note(generation, error.clone());
        self.whole(generation, SourceEventKind::Malformed(error));
    }

    /// The keys that wait for a restart now.
    pub(crate) fn waits_for_restart(&self, generation: u64, pending: Vec<PendingRestart>) {
        let before = std::mem::replace(&mut self.inner.lock().pending_restart, pending.clone());
        for one in pending {
            if !before.contains(&one) {
                self.whole(generation, SourceEventKind::RestartRequired(one));
            }
        }
    }

    /// Takes away what is shown of keys that turned out to hold secrets.
    pub(crate) fn hide(&self, hidden: &dyn Fn(&str) -> bool) {
        let scrub = |error: &mut Error| {
            if let Some(scrubbed) = error.without(hidden) {
                *error = scrubbed;
            }
        };
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        inner
            .refused
            .iter_mut()
            .for_each(|refused| scrub(&mut refused.error));
        for pending in &mut inner.pending_restart {
            if hidden(pending.key.as_str()) {
                let shown = pending.running.iter_mut().chain(&mut pending.waiting);
                shown.for_each(|text| MASK.clone_into(text));
            }
        }
        for record in &mut inner.sources {
            let health = &mut record.health;
            health.problems.iter_mut().for_each(scrub);
            if let Status::Stale { reason, .. } | Status::Down { reason } = &mut health.status {
                scrub(reason);
            }
        }
    }

    /// Remembers what concerns the whole.
    pub(crate) fn note(&self, generation: u64, error: Error) {
        self.note_of(None, generation, error);
    }

    /// Remembers a refusal or a clash, the same one once.
    fn note_of(&self, source: Option<SourceId>, generation: u64, error: Error) {
        let mut inner = self.inner.lock();
        let text = error.to_string();
        let same = |old: &Refused| old.source == source && old.error.to_string() == text;
        let before = inner.refused.iter().position(same);
        let count = before.and_then(|at| inner.refused.remove(at));
        if inner.refused.len() == MAX_REFUSED {
            inner.refused.pop_front();
        }
        inner.refused.push_back(Refused {
            source,
            error,
            time: SystemTime::now(),
            count: count.map_or(1, |old| old.count + 1),
            generation,
        });
    }

    pub(crate) fn whole(&self, generation: u64, kind: SourceEventKind) {
        if LISTENING.get() {
            return;
        }
        self.tell(None, Arc::from("liveprops"), generation, kind);
    }

    fn tell(
        &self,
        source: Option<SourceId>,
        name: Arc<str>,
        generation: u64,
        kind: SourceEventKind,
    ) {
        let boxes: Vec<Arc<EventBox>> = {
            let mut listeners = self.listeners.lock();
            listeners.retain(|listener| listener.strong_count() > 0);
            listeners.iter().filter_map(Weak::upgrade).collect()
        };
        for listener in boxes {
            {
                let mut waiting = listener.waiting.lock();
                if waiting.len() == MAX_EVENTS {
                    waiting.pop_front();
                }
                waiting.push_back(SourceEvent {
                    source,
                    name: Arc::clone(&name),
                    kind: kind.clone(),
                    generation,
                });
            }
            crate::property::listen::Listener::tell(Arc::clone(&listener.subscriber));
        }
    }

    pub(crate) fn subscribe(
        &self,
        host: Weak<dyn Host>,
        mut callback: impl FnMut(&SourceEvent) + Send + 'static,
    ) -> Subscription {
        let reports = Weak::clone(&host);
        let events = Arc::new_cyclic(|events: &Weak<EventBox>| {
            let events = Weak::clone(events);
            let job = move || {
                // One at a time, so that a panic loses one event and no more.
                let Some(events) = events.upgrade() else {
                    return;
                };
                let (event, more) = {
                    let mut waiting = events.waiting.lock();
                    (waiting.pop_front(), !waiting.is_empty())
                };
                if more {
                    events.subscriber.poke();
                }
                if let Some(event) = event {
                    // What the callback itself causes is counted and not told: it would be told to
                    // the callback, for ever.
                    let before = LISTENING.replace(true);
                    let outcome = catch_unwind(AssertUnwindSafe(|| callback(&event)));
                    if let (Err(panic), Some(host)) = (outcome, reports.upgrade()) {
                        host.callback_panicked(panic);
                    }
                    LISTENING.set(before);
                }
            };
            EventBox {
                waiting: Mutex::default(),
                subscriber: Subscriber::new(host, Box::new(job)),
            }
        });
        let mut listeners = self.listeners.lock();
        if listeners.len() == listeners.capacity() {
            listeners.retain(|listener| listener.strong_count() > 0);
        }
        listeners.push(Arc::downgrade(&events));
        drop(listeners);
        let subscriber = Arc::clone(&events.subscriber);
        Subscription::holding(subscriber, events)
    }

    pub(crate) fn health(&self, generation: u64, callback_panics: u64) -> Health {
        let now = self.clock.now();
        let inner = self.inner.lock();
        let of = |record: &Record| SourceHealth {
            age: record
                .answered
                .map(|answered| now.saturating_duration_since(answered)),
            degraded: record
                .health
                .degraded
                .clone()
                .or_else(|| record.unkept.clone()),
            ..record.health.clone()
        };
        let mut sources: Vec<_> = inner.sources.iter().map(of).collect();
        sources.sort_by_key(|health| (health.layer.rank(), std::cmp::Reverse(health.source)));
        Health {
            generation,
            status: inner.status(now),
            sources,
            refused: inner.refused.iter().cloned().collect(),
            pending_restart: inner.pending_restart.clone(),
            callback_panics,
        }
    }

    /// How the whole is doing.
    pub(crate) fn status(&self) -> Status {
        let now = self.clock.now();
        self.inner.lock().status(now)
    }

    /// What is held of a source, and when it will be believed.
    pub(crate) fn held(&self, source: SourceId, held: Option<Held>, believed: Option<Instant>) {
        self.edit(source, |record| {
            record.health.held = held;
            record.believed = believed;
        });
    }

    /// Tells of values that grew too old; says when to look again, and of which sources what is held
    /// is to be believed.
    pub(crate) fn grown_old(&self, generation: u64) -> (Option<Instant>, Vec<SourceId>) {
        let now = self.clock.now();
        let mut next = None;
        let mut old = Vec::new();
        let mut believed = Vec::new();
        for record in &mut self.inner.lock().sources {
            match record.believed {
                Some(at) if at <= now => {
                    record.believed = None;
                    believed.push(record.health.source);
                }
                at => next = next.into_iter().chain(at).min(),
            }
            // What may not grow old at all has been told of as what it is.
            if record.told_old || record.health.max_stale.is_zero() {
                continue;
            }
            match (record.too_old_at(), &record.health.status) {
                (Some(at), Status::Stale { reason, .. }) if at <= now => {
                    record.told_old = true;
                    old.push((
                        record.health.source,
                        Arc::clone(&record.health.name),
                        reason.clone(),
                    ));
                }
                (at, _) => next = next.into_iter().chain(at).min(),
            }
        }
        for (source, name, reason) in old {
            self.tell(
                Some(source),
                name,
                generation,
                SourceEventKind::Stale(reason),
            );
        }
        (next, believed)
    }

    /// The newest refusals of a key, its subtree or its parents.
    pub(crate) fn refused_of(&self, key: &str) -> Vec<Error> {
        use crate::value::key::under;
        let concerns = |error: &Error| {
            error
                .iter()
                .any(|e| e.key().is_some_and(|k| under(k, key) || under(key, k)))
        };
        self.inner
            .lock()
            .refused
            .iter()
            .map(|refused| &refused.error)
            .filter(|error| concerns(error))
            .cloned()
            .collect()
    }
}

impl fmt::Debug for Books {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Books")
    }
}
