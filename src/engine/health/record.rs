//! The health of one source, and what it follows from.

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime};

use crate::engine::health::events::News;
use crate::engine::health::{Held, SourceHealth, Status};
use crate::error::Error;

/// The health of one source, and what it follows from.
pub(super) struct Record {
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
    /// A contact failed, and listeners have not been notified of a good one since.
    pub(super) was_unreachable: bool,
    /// What it said last, or a part of that, is not in force.
    pub(super) refusing: Option<Trouble>,
    /// Why, of all that was refused of it.
    pub(super) rejected: BTreeSet<String>,
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

impl Record {
    /// Brings the status up to date with what it follows from.
    pub(super) fn restate(&mut self) {
        let since = [&self.failing, &self.refusing];
        let since = since.into_iter().flatten().map(|it| it.since).min();
        let reason = self.failing.as_ref().or(self.refusing.as_ref());
        let reason = reason.map(|trouble| trouble.reason.clone());
        self.health.status = match (since, reason) {
            (Some(since), Some(reason)) if self.has_values => Status::Stale { since, reason },
            (_, Some(reason)) => Status::Down { reason },
            _ if self.has_values => Status::Up,
            _ => Status::Starting,
        };
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
        let troubles = [&self.failing, &self.refusing].into_iter().flatten();
        news.errors
            .extend(troubles.map(|trouble| trouble.reason.clone()));
    }

    /// What was refused of it now, of which that is news which was not refused the last time.
    pub(super) fn refuse(&mut self, refused: &[Error]) -> Vec<Error> {
        let texts = refused.iter().map(Error::to_string);
        let (mut news, mut rejected) = (Vec::new(), BTreeSet::new());
        for (error, text) in refused.iter().zip(texts) {
            if !self.rejected.contains(&text) {
                news.push(error.clone());
            }
            rejected.insert(text);
        }
        self.health.refusals += news.len() as u64;
        self.rejected = rejected;
        let since = self.since();
        self.refusing = refused.first().map(|reason| Trouble {
            since: self.refusing.as_ref().map_or(since, |old| old.since),
            reason: reason.clone(),
        });
        news
    }

    pub(super) fn hold(&mut self, held: Option<(Held, Option<Instant>)>) {
        self.health.held = held.map(|(held, _)| held);
        self.believed = held.and_then(|(_, believed)| believed);
        self.interrupted = false;
    }
}

/// What tells one cause of a failure from another: a number in a message, such as a time or an
/// address, may differ each time.
pub(super) fn cause(error: &Error) -> String {
    let text = error.to_string();
    let words = text.split(|c: char| !c.is_alphanumeric());
    let words = words.filter(|word| !word.contains(|c: char| c.is_ascii_digit()));
    words.collect::<Vec<_>>().join(" ")
}
