//! The health of one source, and what it follows from.

use std::collections::HashSet;
use std::time::{Duration, Instant, SystemTime};

use crate::engine::health::damper::{Damper, State, cause};
use crate::engine::health::events::News;
use crate::engine::health::{Held, SourceEventKind, SourceHealth, Status};
use crate::error::{Error, ErrorKind};

/// The health of one source, and what it follows from.
pub(super) struct SourceState {
    pub(super) health: SourceHealth,
    /// Whether its changes are noticed by looking.
    pub(super) polled: bool,
    /// When it last answered; of values kept on disk, when they were confirmed, as far as the wall
    /// clock tells.
    pub(super) answered: Option<Instant>,
    /// When it last said what is in force as a whole.
    pub(super) agreed: Option<Instant>,
    /// Since when it has been without an answer.
    pub(super) opened: SystemTime,
    /// Whether values of it are in force.
    pub(super) has_values: bool,
    /// Whether its first values were told of.
    pub(super) told_first: bool,
    /// Its last contact failed.
    pub(super) failing: Option<Trouble>,
    /// Whether a contact has failed since all was well.
    pub(super) lost_contact: bool,
    /// What it said last, or a part of that, is not in force.
    pub(super) refusing: Option<Trouble>,
    /// Items of lists in it that are not in force, since the lists do not reach up to them.
    pub(super) ignored_items: Vec<Error>,
    /// Since when there have been such items, and the first of them.
    pub(super) ignoring: Option<Trouble>,
    /// All that is rejected of it, each with its text.
    pub(super) rejected: Vec<(String, Error)>,
    pub(super) damper: Damper,
    /// Whether it was told that its values grew too old.
    pub(super) told_old: bool,
    /// When what is held of it is believed.
    pub(super) believed: Option<Instant>,
    /// Whether it has failed since it said what is held.
    pub(super) interrupted: bool,
    /// Why its values cannot be kept on disk.
    pub(super) unkept: Option<Error>,
}

pub(super) struct Trouble {
    pub(super) since: SystemTime,
    pub(super) reason: Error,
}

/// Whether a source answered, and its answer is rejected because of its content.
pub(super) fn is_rejection(error: &Error) -> bool {
    use ErrorKind::{InvalidKey, Malformed, Mismatch, TooLarge};
    matches!(error.kind(), Malformed | InvalidKey | Mismatch | TooLarge)
}

impl SourceState {
    /// Brings the status up to date with what it follows from.
    pub(super) fn restate(&mut self) {
        let troubles = [&self.failing, &self.refusing, &self.ignoring];
        let since = troubles.into_iter().flatten().map(|it| it.since).min();
        let reason = troubles.into_iter().flatten().next();
        let reason = reason.map(|trouble| trouble.reason.clone());
        self.health.status = match (since, reason) {
            (Some(since), Some(reason)) if self.has_values => Status::Stale { since, reason },
            (_, Some(reason)) => Status::Down { reason },
            _ if self.has_values => Status::Up,
            _ => Status::Starting,
        };
    }

    /// What of it is not in force although it was received.
    pub(super) fn refused(&self) -> Option<&Trouble> {
        self.refusing.as_ref().or(self.ignoring.as_ref())
    }

    /// Since when it has been in trouble: since now, if it was not.
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
            Status::Stale { .. } => self.agreed?.checked_add(self.health.max_stale),
            _ => None,
        }
    }

    pub(super) fn is_too_old(&self, now: Instant) -> bool {
        match (&self.health.status, self.agreed) {
            (Status::Stale { .. }, Some(_)) => self.too_old_at().is_some_and(|at| at <= now),
            // From before the clock began.
            (Status::Stale { .. }, None) => self.health.max_stale != Duration::MAX,
            _ => false,
        }
    }

    /// Keeps what is about to be replaced until no lock is held.
    pub(super) fn spare(&self, news: &mut News) {
        let troubles = [&self.failing, &self.refusing, &self.ignoring];
        let troubles = troubles.into_iter().flatten();
        news.errors
            .extend(troubles.map(|trouble| trouble.reason.clone()));
    }

    /// Notes that the source failed; returns whether that has not been reported yet.
    pub(super) fn fail(&mut self, reason: Error) -> bool {
        let is_new = match (&self.failing, &self.refusing) {
            (Some(old), _) => {
                old.reason.kind() != reason.kind() || cause(&old.reason) != cause(&reason)
            }
            (None, Some(old)) => old.reason.to_string() != reason.to_string(),
            (None, None) => true,
        };
        let last = self.failing.as_ref().map(|old| old.reason.to_string());
        if is_rejection(&reason) && last.as_ref() != Some(&reason.to_string()) {
            self.health.refusals += 1;
        }
        let since = self.since();
        self.lost_contact = true;
        self.failing = Some(Trouble {
            since: self.failing.as_ref().map_or(since, |old| old.since),
            reason,
        });
        // Nobody knows whether the source would still give what is withheld.
        (self.interrupted, self.believed) = (self.health.held.is_some(), None);
        self.restate();
        is_new
    }

    /// Those of some errors that are not rejected already.
    pub(super) fn unknown(&self, errors: &[Error]) -> Vec<Error> {
        if errors.is_empty() {
            return Vec::new();
        }
        let known: HashSet<&str> = self.rejected.iter().map(|(text, _)| &**text).collect();
        let new = errors.iter();
        new.filter(|error| !known.contains(&*error.to_string()))
            .cloned()
            .collect()
    }

    /// Notes all that is rejected of it now; returns what was not rejected the last time. After a
    /// failure all of it is new, since the failure was reported last.
    pub(super) fn reject(&mut self, news: &mut News, rejected: Vec<Error>) -> Vec<Error> {
        if rejected.is_empty() && self.rejected.is_empty() {
            self.refusing = None;
            return rejected;
        }
        let rejected: Vec<(String, Error)> = rejected
            .into_iter()
            .map(|error| (error.to_string(), error))
            .collect();
        let known = self.rejected.iter().filter(|_| self.failing.is_none());
        let known: HashSet<&str> = known.map(|(text, _)| &**text).collect();
        let new = rejected.iter().filter(|(text, _)| !known.contains(&**text));
        let new: Vec<Error> = new.map(|(_, error)| error.clone()).collect();
        self.health.refusals += new.len() as u64;
        let since = self.since();
        self.refusing = rejected.first().map(|(_, reason)| Trouble {
            since: self.refusing.as_ref().map_or(since, |old| old.since),
            reason: reason.clone(),
        });
        let before = std::mem::replace(&mut self.rejected, rejected);
        news.errors
            .extend(before.into_iter().map(|(_, error)| error));
        new
    }

    /// Changes each error with `scrub`, which returns whether it changed one.
    pub(super) fn scrub(&mut self, scrub: impl Fn(&mut Error) -> bool) {
        let before = self.events();
        let mut changes = false;
        for (text, error) in &mut self.rejected {
            if scrub(error) {
                *text = error.to_string();
                changes = true;
            }
        }
        let troubles = [&mut self.failing, &mut self.refusing];
        let reasons = troubles
            .into_iter()
            .flatten()
            .map(|trouble| &mut trouble.reason);
        let degraded = self.health.degraded.iter_mut().chain(&mut self.unkept);
        for error in reasons.chain(degraded).chain(&mut self.health.problems) {
            changes |= scrub(error);
        }
        if !changes {
            return;
        }
        self.restate();
        // The same states in the same order, each with the text that it has now.
        for (before, after) in before.iter().zip(self.events()) {
            if let (Some(before), Some(after)) = (State::of(before), State::of(&after)) {
                self.damper.rename(before, after);
            }
        }
    }

    /// The events of all states that the source is in.
    pub(super) fn events(&self) -> Vec<SourceEventKind> {
        let failing = self.failing.iter().map(|trouble| &trouble.reason);
        let degraded = self.health.degraded.iter().chain(&self.unkept);
        failing
            .map(|reason| SourceEventKind::Suspended(reason.clone()))
            .chain(
                self.rejected
                    .iter()
                    .map(|(_, error)| SourceEventKind::Rejected(error.clone())),
            )
            .chain(
                self.ignored_items
                    .iter()
                    .map(|error| SourceEventKind::Rejected(error.clone())),
            )
            .chain(degraded.map(|reason| SourceEventKind::Degraded(reason.clone())))
            .chain(match &self.health.status {
                Status::Up => vec![SourceEventKind::Reconnected, SourceEventKind::Recovered],
                Status::Stale { reason, .. } if self.told_old => {
                    vec![SourceEventKind::Stale(reason.clone())]
                }
                _ => Vec::new(),
            })
            .collect()
    }

    pub(super) fn hold(&mut self, held: Option<(Held, Option<Instant>)>) {
        self.health.held = held.map(|(held, _)| held);
        self.believed = held.and_then(|(_, believed)| believed);
        self.interrupted = false;
    }
}
