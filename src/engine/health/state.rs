//! The state of one source, and the status that follows from it.
//!
//! Six parts change independently of each other: whether there are values ([`Phase`]), which of them come
//! from disk ([`FromDisk`]), whether the source answers ([`Contact`]), when its values were last confirmed
//! ([`Agreement`]), what is rejected ([`Problems`]), and what is withheld ([`Withholding`]).

use std::collections::HashSet;
use std::time::{Duration, Instant, SystemTime};

use crate::engine::health::damper::Damper;
use crate::engine::health::event_state::{EventState, cause};
use crate::engine::health::events::Notices;
use crate::engine::health::{SourceEventKind, SourceHealth, Status, WithheldRemoval};
use crate::error::{Error, ErrorKind};

pub(super) struct SourceState {
    /// What is shown. The status follows from the other fields; see [`restate`](Self::restate).
    pub(super) health: SourceHealth,
    /// Whether its changes are noticed by polling.
    pub(super) is_polled: bool,
    pub(super) registered_at: SystemTime,
    pub(super) phase: Phase,
    pub(super) from_disk: FromDisk,
    pub(super) contact: Contact,
    /// When it last answered; of restored values, when they were confirmed by the wall clock.
    pub(super) answered_at: Option<Instant>,
    pub(super) agreement: Agreement,
    /// What is rejected of its last update.
    pub(super) rejected: Problems,
    /// Items of lists that are not in force, since the lists do not reach up to them.
    pub(super) ignored_items: Problems,
    pub(super) withholding: Withholding,
    pub(super) damper: Damper,
    /// Why its values cannot be written to the cache.
    pub(super) cache_failure: Option<Error>,
}

/// Whether values of a source are in force.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Phase {
    Starting,
    /// Its first values are in force, and have not been reported.
    Arrived,
    Initialized,
}

/// Which values in force were restored from disk, with the time of their last confirmation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum FromDisk {
    Nothing,
    /// Those of the parts that an answer lacked, or of which it was rejected.
    Part(SystemTime),
    /// All: the source has not answered.
    All(SystemTime),
}

/// How the last contacts went.
pub(super) enum Contact {
    Good,
    /// The last contact failed.
    Failed(Trouble),
    /// It answers again after a failure, and not everything is in force yet.
    Returned,
    /// Restored values are in force, since the first update is withheld.
    FirstWithheld(Trouble),
}

/// When everything that a source sends was last in force.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Agreement {
    /// Never, or before the clock began.
    Unknown,
    At(Instant),
    /// As [`At`](Self::At); that this is too long ago has been reported.
    ReportedStale(Instant),
}

/// A withheld removal, and when it is accepted without another update.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PendingRemoval {
    pub(crate) removal: WithheldRemoval,
    pub(crate) accept_at: Option<Instant>,
}

/// Whether an update of a source is withheld.
pub(super) enum Withholding {
    Nothing,
    Withheld(PendingRemoval),
    /// The source has failed since: nobody knows whether it would still send the withheld update.
    Interrupted(WithheldRemoval),
}

pub(super) struct Trouble {
    pub(super) since: SystemTime,
    pub(super) reason: Error,
}

/// Errors that exist now, each with its text.
#[derive(Debug)]
pub(super) struct Problems {
    /// When the first of them began; meaningless without errors.
    since: SystemTime,
    errors: Vec<(String, Error)>,
}

/// Whether a source answered, and its answer is rejected because of its content.
pub(super) fn is_rejection(error: &Error) -> bool {
    use ErrorKind::{InvalidKey, Malformed, Mismatch, TooLarge};
    matches!(error.kind(), Malformed | InvalidKey | Mismatch | TooLarge)
}

impl FromDisk {
    pub(super) fn confirmed(self) -> Option<SystemTime> {
        match self {
            FromDisk::Nothing => None,
            FromDisk::Part(at) | FromDisk::All(at) => Some(at),
        }
    }

    /// The state after an update that replaces all values, or keeps earlier ones.
    pub(super) fn after_update(self, keeps_values: bool) -> Self {
        match self.confirmed().filter(|_| keeps_values) {
            Some(at) => FromDisk::Part(at),
            None => FromDisk::Nothing,
        }
    }
}

impl Contact {
    pub(super) fn trouble(&self) -> Option<&Trouble> {
        match self {
            Contact::Failed(trouble) | Contact::FirstWithheld(trouble) => Some(trouble),
            Contact::Good | Contact::Returned => None,
        }
    }

    fn trouble_mut(&mut self) -> Option<&mut Trouble> {
        match self {
            Contact::Failed(trouble) | Contact::FirstWithheld(trouble) => Some(trouble),
            Contact::Good | Contact::Returned => None,
        }
    }

    /// Notes that the source answers. Returns what was wrong.
    pub(super) fn answer(&mut self) -> Option<Error> {
        let next = match self {
            Contact::Good | Contact::FirstWithheld(_) => Contact::Good,
            Contact::Failed(_) | Contact::Returned => Contact::Returned,
        };
        match std::mem::replace(self, next) {
            Contact::Failed(trouble) | Contact::FirstWithheld(trouble) => Some(trouble.reason),
            Contact::Good | Contact::Returned => None,
        }
    }

    /// Notes that everything is in force. Returns whether a failure ends with that.
    pub(super) fn recover(&mut self) -> bool {
        let has_returned = matches!(self, Contact::Returned);
        if has_returned {
            *self = Contact::Good;
        }
        has_returned
    }
}

impl Agreement {
    fn at(self) -> Option<Instant> {
        match self {
            Agreement::Unknown => None,
            Agreement::At(at) | Agreement::ReportedStale(at) => Some(at),
        }
    }
}

impl Withholding {
    pub(super) fn new(pending: Option<PendingRemoval>) -> Self {
        pending.map_or(Withholding::Nothing, Withholding::Withheld)
    }

    pub(super) fn removal(&self) -> Option<WithheldRemoval> {
        match self {
            Withholding::Nothing => None,
            Withholding::Withheld(pending) => Some(pending.removal),
            Withholding::Interrupted(removal) => Some(*removal),
        }
    }

    /// Notes that the source has failed.
    fn interrupt(&mut self) {
        if let Some(removal) = self.removal() {
            *self = Withholding::Interrupted(removal);
        }
    }

    /// Whether the source has failed since the update was withheld; returned once for each failure.
    pub(super) fn take_interruption(&mut self) -> bool {
        let Withholding::Interrupted(removal) = *self else {
            return false;
        };
        let accept_at = None;
        *self = Withholding::Withheld(PendingRemoval { removal, accept_at });
        true
    }

    pub(super) fn accept_at(&self) -> Option<Instant> {
        match self {
            Withholding::Withheld(pending) => pending.accept_at,
            Withholding::Nothing | Withholding::Interrupted(_) => None,
        }
    }

    /// Schedules when the withheld update is accepted.
    pub(super) fn set_accept_at(&mut self, at: Option<Instant>) {
        if let Withholding::Withheld(pending) = self {
            pending.accept_at = at;
        }
    }
}

impl Problems {
    pub(super) fn none() -> Self {
        Self {
            since: SystemTime::UNIX_EPOCH,
            errors: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Error> {
        self.errors.iter().map(|(_, error)| error)
    }

    pub(super) fn first(&self) -> Option<&Error> {
        self.iter().next()
    }

    /// Those of some errors that are not among these.
    pub(super) fn new_among(&self, errors: &[Error]) -> Vec<Error> {
        if errors.is_empty() {
            return Vec::new();
        }
        let known: HashSet<&str> = self.errors.iter().map(|(text, _)| &**text).collect();
        let new = errors.iter();
        new.filter(|error| !known.contains(&*error.to_string()))
            .cloned()
            .collect()
    }

    /// Replaces the errors, which exist since `since` if there were none before.
    pub(super) fn replace(&mut self, notices: &mut Notices, errors: Vec<Error>, since: SystemTime) {
        if self.errors.is_empty() {
            self.since = since;
        }
        let errors = errors.into_iter().map(|error| (error.to_string(), error));
        let before = std::mem::replace(&mut self.errors, errors.collect());
        let before = before.into_iter().map(|(_, error)| error);
        notices.errors.extend(before);
    }

    /// Changes each error with `scrub`, which returns whether it changed one.
    fn scrub(&mut self, scrub: impl Fn(&mut Error) -> bool) -> bool {
        let mut changes = false;
        for (text, error) in &mut self.errors {
            if scrub(error) {
                *text = error.to_string();
                changes = true;
            }
        }
        changes
    }
}

impl SourceState {
    pub(super) fn new(health: SourceHealth, is_polled: bool) -> Self {
        Self {
            health,
            is_polled,
            registered_at: SystemTime::now(),
            phase: Phase::Starting,
            from_disk: FromDisk::Nothing,
            contact: Contact::Good,
            answered_at: None,
            agreement: Agreement::Unknown,
            rejected: Problems::none(),
            ignored_items: Problems::none(),
            withholding: Withholding::Nothing,
            damper: Damper::default(),
            cache_failure: None,
        }
    }

    pub(super) fn has_values(&self) -> bool {
        self.phase != Phase::Starting
    }

    /// Notes that the first values are reported. Returns whether they were reported before.
    pub(super) fn initialize(&mut self) -> bool {
        std::mem::replace(&mut self.phase, Phase::Initialized) == Phase::Initialized
    }

    /// All that is wrong: since when, and why. The contact comes first, then the content.
    fn troubles(&self) -> impl Iterator<Item = (SystemTime, &Error)> {
        let contact = self.contact.trouble();
        let contact = contact.map(|trouble| (trouble.since, &trouble.reason));
        contact.into_iter().chain(self.not_in_force())
    }

    /// What was received and is not in force: since when, and why.
    pub(super) fn not_in_force(&self) -> impl Iterator<Item = (SystemTime, &Error)> {
        [&self.rejected, &self.ignored_items]
            .into_iter()
            .filter_map(|problems| Some((problems.since, problems.first()?)))
    }

    /// Brings the status up to date with what it follows from.
    pub(super) fn restate(&mut self) {
        let since = self.troubles().map(|(since, _)| since).min();
        let reason = self.troubles().next().map(|(_, reason)| reason.clone());
        self.health.status = match (since, reason) {
            (Some(since), Some(reason)) if self.has_values() => Status::Stale { since, reason },
            (_, Some(reason)) => Status::Down { reason },
            _ if self.has_values() => Status::Up,
            _ => Status::Starting,
        };
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(self.health.status, Status::Up)
    }

    /// Since when something has been wrong: since now, if nothing was.
    pub(super) fn since(&self) -> SystemTime {
        match &self.health.status {
            Status::Stale { since, .. } => *since,
            _ => SystemTime::now(),
        }
    }

    /// When its values will be too old, if nothing happens meanwhile; never, if the clock does not
    /// reach that far.
    pub(super) fn too_old_at(&self) -> Option<Instant> {
        match self.health.status {
            Status::Stale { .. } => self.agreement.at()?.checked_add(self.health.max_stale),
            _ => None,
        }
    }

    pub(super) fn is_too_old(&self, now: Instant) -> bool {
        match (&self.health.status, self.agreement.at()) {
            (Status::Stale { .. }, Some(_)) => self.too_old_at().is_some_and(|at| at <= now),
            // From before the clock began.
            (Status::Stale { .. }, None) => self.health.max_stale != Duration::MAX,
            _ => false,
        }
    }

    /// Notes that the source answers; what was wrong is dropped without a lock.
    pub(super) fn answer(&mut self, notices: &mut Notices) {
        notices.errors.extend(self.contact.answer());
    }

    /// Notes that the source failed. Returns whether that has not been reported yet.
    pub(super) fn fail(&mut self, reason: Error) -> bool {
        let old = self.contact.trouble();
        let is_new = match (old, self.rejected.first()) {
            (Some(old), _) => {
                old.reason.kind() != reason.kind() || cause(&old.reason) != cause(&reason)
            }
            (None, Some(old)) => old.to_string() != reason.to_string(),
            (None, None) => true,
        };
        let last = old.map(|old| old.reason.to_string());
        if is_rejection(&reason) && last.as_ref() != Some(&reason.to_string()) {
            self.health.rejections += 1;
        }
        let since = old.map_or_else(|| self.since(), |old| old.since);
        self.contact = Contact::Failed(Trouble { since, reason });
        self.withholding.interrupt();
        self.restate();
        is_new
    }

    /// Notes all that is rejected of it now. Returns what was not rejected the last time. After a
    /// failure all of it is new, since the failure was reported last.
    pub(super) fn reject(&mut self, notices: &mut Notices, rejected: Vec<Error>) -> Vec<Error> {
        let new = if self.contact.trouble().is_some() {
            rejected.clone()
        } else {
            self.rejected.new_among(&rejected)
        };
        self.health.rejections += new.len() as u64;
        let since = self.since();
        self.rejected.replace(notices, rejected, since);
        new
    }

    /// Changes each error with `scrub`, which returns whether it changed one.
    pub(super) fn scrub(&mut self, scrub: impl Fn(&mut Error) -> bool) {
        let before = self.events();
        let mut changes = self.rejected.scrub(&scrub);
        let reason = self.contact.trouble_mut();
        let reason = reason.into_iter().map(|trouble| &mut trouble.reason);
        let degraded = self.health.degraded.iter_mut();
        let degraded = degraded.chain(&mut self.cache_failure);
        for error in reason.chain(degraded).chain(&mut self.health.problems) {
            changes |= scrub(error);
        }
        if !changes {
            return;
        }
        self.restate();
        // The same states in the same order, each with the text that it has now.
        for (before, after) in before.iter().zip(self.events()) {
            if let (Some(before), Some(after)) = (EventState::of(before), EventState::of(&after)) {
                self.damper.rename(before, after);
            }
        }
    }

    /// The events of all states that the source is in.
    pub(super) fn events(&self) -> Vec<SourceEventKind> {
        let mut events = Vec::new();
        if let Some(trouble) = self.contact.trouble() {
            events.push(SourceEventKind::Suspended(trouble.reason.clone()));
        }
        for errors in [&self.rejected, &self.ignored_items] {
            events.extend(errors.iter().cloned().map(SourceEventKind::Rejected));
        }
        let degraded = self.health.degraded.iter().chain(&self.cache_failure);
        events.extend(degraded.cloned().map(SourceEventKind::Degraded));
        match &self.health.status {
            Status::Up => {
                events.push(SourceEventKind::Reconnected);
                events.push(SourceEventKind::Recovered);
            }
            Status::Stale { reason, .. }
                if matches!(self.agreement, Agreement::ReportedStale(_)) =>
            {
                events.push(SourceEventKind::Stale(reason.clone()));
            }
            _ => {}
        }
        events
    }
}
