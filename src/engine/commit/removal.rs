//! Counts the keys that an update would remove, for the removal guard.

use std::time::Duration;

use crate::error::{Error, ErrorKind};
use crate::source::RemovalGuard;
use crate::tree::diff;
use crate::value::node::Table;

/// Removals within this window are added up, so that deleting a prefix key by key is noticed.
pub(super) const REMOVAL_WINDOW: Duration = Duration::from_secs(10);
/// An error names at most so many removed keys.
const MAX_NAMED: usize = 3;

/// The keys that an update would remove.
#[derive(Debug)]
pub(super) struct Removal {
    /// The number of removed keys and of all keys: of the current ones, or of those at the beginning of the
    /// window.
    pub(super) removed: usize,
    pub(super) total: usize,
    /// The number of removed keys and of all keys, of the current ones.
    at_once: (usize, usize),
    /// The first of these keys.
    first: Vec<String>,
}

impl Removal {
    /// The removed keys, if they are too many: of those in the baseline, which may be removed in small
    /// steps, or of the current ones, which may be many more.
    pub(super) fn excessive(
        limits: &RemovalGuard,
        [baseline, current, candidate]: [&Table; 3],
    ) -> Option<Self> {
        let removed_of = |before: &Table| (diff::count_removed(before, candidate), before.leaves());
        // Of a few keys, all may be removed one by one while others are added.
        let are_few = baseline.leaves() < limits.at_least && !candidate.is_empty();
        let slowly = (!are_few).then(|| removed_of(baseline));
        let at_once = removed_of(current);
        let counts = slowly.into_iter().chain([at_once]);
        let (removed, total) = counts
            .filter(|(removed, total)| limits.holds(*removed, *total))
            .max_by_key(|(removed, _)| *removed)?;
        Some(Self {
            removed,
            total,
            at_once,
            first: diff::first_removed(current, candidate, MAX_NAMED),
        })
    }

    pub(super) fn to_error(&self, consequence: &str) -> Error {
        let (removed, total) = self.at_once;
        let mut detail = format!("removes {removed} of {total} keys");
        if !self.first.is_empty() {
            let more = if removed > self.first.len() {
                ", ..."
            } else {
                ""
            };
            detail.push_str(&format!(" (`{}`{more})", self.first.join("`, `")));
        }
        if (self.removed, self.total) != self.at_once {
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
