//! Changes of a memory that the properties have not answered yet, so that each can be taken back
//! alone: what others have changed since stays.

use std::collections::VecDeque;

use crate::value::document::{Document, Standing};
use crate::value::key::Key;

/// Changes in the order they were made. An answered one stays as long as one before it is open.
#[derive(Default)]
pub(super) struct Journal(VecDeque<Change>);

struct Change {
    revision: u64,
    what: What,
    open: bool,
}

/// What a change replaced, and by what.
pub(super) enum What {
    All {
        was: Box<Document>,
        now: Box<Document>,
    },
    One {
        key: Key,
        was: Standing,
        now: Standing,
    },
}

impl Journal {
    /// Notes a change that was just made.
    pub(super) fn made(&mut self, revision: u64, what: What) {
        self.0.push_back(Change {
            revision,
            what,
            open: true,
        });
    }

    /// Takes back what was refused of a change: the keys in `kept`, or all of it.
    pub(super) fn answered(&mut self, values: &mut Document, revision: u64, kept: Option<&[Key]>) {
        let Some(at) = self.0.iter().position(|made| made.revision == revision) else {
            return;
        };
        self.0[at].open = false;
        if kept.is_none_or(|kept| !kept.is_empty()) {
            for later in self.0.range(at + 1..).rev() {
                later.what.undo(values);
            }
            let stays = self.0[at].what.refuse(values, kept);
            for later in self.0.range_mut(at + 1..) {
                later.what.again(values);
            }
            if !stays {
                self.0.remove(at);
            }
        }
        while self.0.front().is_some_and(|made| !made.open) {
            self.0.pop_front();
        }
    }
}

impl What {
    fn undo(&self, values: &mut Document) {
        match self {
            What::All { was, .. } => *values = (**was).clone(),
            What::One { key, was, .. } => values.put_back(key, was),
        }
    }

    /// Makes the change on top of what was before it by now.
    fn again(&mut self, values: &mut Document) {
        match self {
            What::All { was, now } => **was = std::mem::replace(values, (**now).clone()),
            What::One { key, was, now } => {
                *was = values.standing(key);
                values.put_back(key, now);
            }
        }
    }

    /// Takes back what was refused of the newest change; says whether something of it stays.
    fn refuse(&mut self, values: &mut Document, kept: Option<&[Key]>) -> bool {
        match (self, kept) {
            (What::All { was, now }, Some(kept)) => {
                for key in kept {
                    values.put_back(key, &was.standing(key).alone());
                }
                **now = values.clone();
                true
            }
            (what, _) => {
                what.undo(values);
                false
            }
        }
    }
}
