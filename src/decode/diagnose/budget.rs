//! How much work a diagnosis may do, so that a long bad value does not block its caller.

use crate::decode::deserializer::ValueDeserializer;

/// The passes together may do this much work, and [`MAX_PASSES`] times that of the largest one. Beyond
/// that, errors are left out: a user's type reports one error per pass.
const FREE_WORK: usize = 1 << 19;
const MAX_PASSES: usize = 16;

/// The cost of an entry of a list or a table, in bytes of a text that is split into entries. Reading the
/// entry costs as much again.
const ENTRY: usize = 8;
/// The cost of a value that serde buffers.
const VISIT: usize = 128;
/// The cost of a byte of a text that is searched for secrets.
const SEARCH: usize = 32;

/// What the passes of a diagnosis have cost.
#[derive(Default)]
pub(crate) struct Budget {
    total: usize,
    /// The cost of the most expensive pass.
    largest: usize,
    last: usize,
}

impl Budget {
    /// Adds the cost of a pass.
    pub(crate) fn count(&mut self, work: usize) {
        self.total = self.total.saturating_add(work);
        self.largest = self.largest.max(work);
        self.last = work;
    }

    /// Subtracts the last pass: a pass that finds a form is needed, and there are few forms.
    pub(crate) fn uncount_last_pass(&mut self) {
        self.total = self.total.saturating_sub(std::mem::take(&mut self.last));
    }

    /// Whether the passes have cost so much that the search ends.
    pub(crate) fn is_spent(&self) -> bool {
        self.total > FREE_WORK.saturating_add(MAX_PASSES.saturating_mul(self.largest))
    }
}

impl ValueDeserializer<'_, '_> {
    /// Counts the entries of a list or a table, or one entry that is read.
    pub(crate) fn count_entries(&self, entries: usize) {
        self.count(ENTRY * entries);
    }

    /// Counts a value that serde buffers.
    pub(crate) fn count_visit(&self) {
        self.count(VISIT);
    }

    /// Counts a text that is searched for secrets.
    pub(crate) fn count_search(&self, text: &str) {
        self.count(SEARCH * text.len());
    }

    /// Counts the cost of something in this pass, such as the bytes of a text that is split.
    pub(crate) fn count(&self, work: usize) {
        let total = self.context.work.get();
        self.context.work.set(total.saturating_add(work));
    }
}
