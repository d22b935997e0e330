//! The changes of a `Memory` that are not committed yet, so that each can be undone alone: later changes
//! stay.

use std::collections::VecDeque;

use crate::value::document::{Document, SavedKey};
use crate::value::key::Key;

/// Changes in the order in which they were made. A change is removed once it and all earlier ones are
/// committed or rejected.
#[derive(Default)]
pub(super) struct Journal(VecDeque<Change>);

struct Change {
    revision: u64,
    edit: Edit,
    is_open: bool,
}

/// The state before and after a change.
pub(super) enum Edit {
    All {
        before: Box<Document>,
        after: Box<Document>,
    },
    One {
        key: Key,
        before: SavedKey,
        after: SavedKey,
    },
}

impl Journal {
    /// Adds a new change.
    pub(super) fn add(&mut self, revision: u64, edit: Edit) {
        self.0.push_back(Change {
            revision,
            edit,
            is_open: true,
        });
    }

    /// Undoes the rejected part of a change: the keys in `kept`, or all of it.
    pub(super) fn record_outcome(
        &mut self,
        values: &mut Document,
        revision: u64,
        kept: Option<&[Key]>,
    ) {
        let Some(at) = self.0.iter().position(|change| change.revision == revision) else {
            return;
        };
        self.0[at].is_open = false;
        if kept.is_none_or(|kept| !kept.is_empty()) {
            for later in self.0.range(at + 1..).rev() {
                later.edit.undo(values);
            }
            let remains = self.0[at].edit.reject(values, kept);
            for later in self.0.range_mut(at + 1..) {
                later.edit.redo(values);
            }
            if !remains {
                self.0.remove(at);
            }
        }
        while self.0.front().is_some_and(|change| !change.is_open) {
            self.0.pop_front();
        }
    }
}

impl Edit {
    fn undo(&self, values: &mut Document) {
        match self {
            Edit::All { before, .. } => *values = (**before).clone(),
            Edit::One { key, before, .. } => values.restore_key(key, before),
        }
    }

    /// Makes the change again, after the changes before it.
    fn redo(&mut self, values: &mut Document) {
        match self {
            Edit::All { before, after } => **before = std::mem::replace(values, (**after).clone()),
            Edit::One { key, before, after } => {
                *before = values.save_key(key);
                values.restore_key(key, after);
            }
        }
    }

    /// Undoes the rejected part of the newest change; returns whether a part of it remains.
    fn reject(&mut self, values: &mut Document, kept: Option<&[Key]>) -> bool {
        match (self, kept) {
            (Edit::All { before, after }, Some(kept)) => {
                for key in kept {
                    values.restore_key(key, &before.save_key(key).without_tables());
                }
                **after = values.clone();
                true
            }
            (edit, _) => {
                edit.undo(values);
                false
            }
        }
    }
}
