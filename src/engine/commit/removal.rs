//! Counts the keys that an update would remove, for the removal guard.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, ErrorKind};
use crate::source::RemovalGuard;
use crate::tree::diff;
use crate::value::hamt::Entry;
use crate::value::node::Table;

/// Removals within this window are added up, so that deleting a prefix key by key is noticed.
pub(super) const REMOVAL_WINDOW: Duration = Duration::from_secs(10);
/// An error names at most so many removed keys.
const MAX_NAMED: usize = 3;

/// The keys that an update would remove.
#[derive(Debug)]
pub(super) struct Removal {
    /// How many of `total` keys are removed: of the current keys, or of those at the beginning of the window.
    pub(super) removed: usize,
    pub(super) total: usize,
    /// How many of the current keys are removed, and how many there are.
    removed_now: (usize, usize),
    /// The first of the current keys that are removed.
    first: Vec<String>,
    /// Whether these are more than the guard allows.
    pub(super) is_excessive: bool,
}

/// The keys that the updates over the limits would remove and that are not back yet. Every key in force stays
/// until all of them are back.
#[derive(Debug)]
pub(super) struct WithheldKeys {
    /// The layer in force when the first of these updates was withheld. A key that is created later is not
    /// withheld: a restore does not bring it back.
    in_force_before: Table,
    keys: HashMap<String, Arc<Entry>>,
}

/// Which of the withheld keys an update brings back.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Return {
    /// Whether it has some of them.
    pub(super) has_any: bool,
    /// Whether it lacks some of them.
    pub(super) is_partial: bool,
}

impl WithheldKeys {
    pub(super) fn new(in_force: &Table) -> Self {
        Self {
            in_force_before: in_force.clone(),
            keys: HashMap::new(),
        }
    }

    /// Adds the keys that an update over the limits lacks.
    pub(super) fn add_removed(&mut self, candidate: &Table) {
        let keys = &mut self.keys;
        diff::walk_removed(&self.in_force_before, candidate, &mut |key, entry| {
            if !keys.contains_key(key) {
                keys.insert(key.to_owned(), Arc::clone(entry));
            }
        });
    }

    /// Removes the keys that an update brings back. If one of them goes once more, that is another removal.
    pub(super) fn remove_returned(&mut self, candidate: &Table) {
        self.keys
            .retain(|key, entry| !diff::has_key(candidate, key, entry));
    }

    pub(super) fn returned(&self, candidate: &Table) -> Return {
        let mut returned = Return::default();
        for (key, entry) in &self.keys {
            let is_back = diff::has_key(candidate, key, entry);
            returned.has_any |= is_back;
            returned.is_partial |= !is_back;
        }
        returned
    }
}

impl Removal {
    /// The removed keys, if they are too many of the current keys, or of those in the baseline. The baseline
    /// shows a removal in small steps; the current keys may be many more.
    pub(super) fn excessive(
        limits: &RemovalGuard,
        [baseline, current, candidate]: [&Table; 3],
    ) -> Option<Self> {
        let removed_of = |before: &Table| (diff::count_removed(before, candidate), before.leaves());
        // Of a few keys, all may be removed one by one while others are added.
        let are_few = baseline.leaves() < limits.at_least && !candidate.is_empty();
        let removed_in_window = (!are_few).then(|| removed_of(baseline));
        let removed_now = removed_of(current);
        let counts = removed_in_window.into_iter().chain([removed_now]);
        let (removed, total) = counts
            .filter(|(removed, total)| limits.holds(*removed, *total))
            .max_by_key(|(removed, _)| *removed)?;
        Some(Self {
            removed,
            total,
            removed_now,
            first: diff::first_removed(current, candidate, MAX_NAMED),
            is_excessive: true,
        })
    }

    /// The removed keys, as few as they may be.
    pub(super) fn of(current: &Table, candidate: &Table) -> Self {
        let (removed, total) = (diff::count_removed(current, candidate), current.leaves());
        Self {
            removed,
            total,
            removed_now: (removed, total),
            first: diff::first_removed(current, candidate, MAX_NAMED),
            is_excessive: false,
        }
    }

    pub(super) fn withheld_error(&self) -> Error {
        self.error("withheld until the keys return or `Properties::confirm` accepts the removal")
    }

    pub(super) fn rejected_error(&self) -> Error {
        self.error("the update is rejected")
    }

    fn error(&self, consequence: &str) -> Error {
        let (removed, total) = self.removed_now;
        let mut detail = format!("removes {removed} of {total} keys");
        if !self.first.is_empty() {
            let more = if removed > self.first.len() {
                ", ..."
            } else {
                ""
            };
            detail.push_str(&format!(" (`{}`{more})", self.first.join("`, `")));
        }
        if (self.removed, self.total) != self.removed_now {
            detail.push_str(&format!(
                ", and {} of the {} before: removals within {} seconds are added up",
                self.removed,
                self.total,
                REMOVAL_WINDOW.as_secs()
            ));
        }
        Error::new(ErrorKind::Withheld, format!("{detail}; {consequence}"))
    }
}
