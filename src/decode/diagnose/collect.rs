//! Collecting errors: several of one pass, and how many passes are worth it.
//!
//! A type may hide an error, so the first one of each place must come out of a whole decoding. The places
//! of other items of the same list or map have the same type: what this crate refuses there is noted, and
//! a placeholder goes to the type at once. So a list of bad items costs a few passes, not one for each
//! item.

use std::collections::HashSet;

use crate::decode::diagnose::dummy::Dummy;
use crate::decode::diagnose::fault::Fault;
use crate::decode::diagnose::learn::{EACH, STEP};
use crate::decode::input::{Path, Segment};
use crate::decode::place::De;

/// All passes together may do so much, and all that the largest one does so often again. The rest of the
/// errors of a long value is left out: those that types of the user find, of which a pass finds one.
const FREE_WORK: usize = 1 << 19;
const MOST_PASSES: usize = 16;

/// What an entry of a list or a table costs, beside a byte of a text that is cut into entries. Looking at
/// it costs as much once more.
const ENTRY: usize = 8;
/// What a value costs that serde buffers.
const HANDED: usize = 128;
/// What a byte of a text costs that is searched for secrets.
const SEARCH: usize = 32;

/// What the passes that look for errors know of places of the same type.
#[derive(Default)]
pub(in crate::decode) struct Collected {
    /// The classes of lists and maps, whose entries have one type.
    repeating: HashSet<String>,
    /// The classes of places of which an error has come out.
    reported: HashSet<String>,
    /// The path and the class of the fault that was raised last.
    raised: Option<(String, String)>,
    /// What all passes have cost, and the most that one has.
    total: usize,
    largest: usize,
    /// What the last pass has cost.
    last: usize,
}

impl Collected {
    /// Counts a pass.
    pub(in crate::decode) fn count(&mut self, work: usize) {
        self.total = self.total.saturating_add(work);
        self.largest = self.largest.max(work);
        self.last = work;
    }

    /// Leaves out the last pass: each that finds a form is needed, and there are as many as forms.
    pub(in crate::decode) fn forgive(&mut self) {
        self.total = self.total.saturating_sub(std::mem::take(&mut self.last));
    }

    /// Whether the passes have cost so much that no other one is worth it.
    pub(in crate::decode) fn is_spent(&self) -> bool {
        self.total > FREE_WORK.saturating_add(MOST_PASSES.saturating_mul(self.largest))
    }

    /// The path of a place with `*` for each entry of a list or a map; `None` if a name is not known.
    fn class(&self, path: &Path<'_>) -> Option<String> {
        let Some(parent) = path.parent else {
            return Some(String::new());
        };
        let mut class = self.class(parent)?;
        let each = self.repeating.contains(&class);
        class.push(STEP);
        match path.segment {
            Segment::Hidden => return None,
            _ if each => class.push_str(EACH),
            Segment::Name(name) => class.push_str(name),
            Segment::Index(at) => class.push_str(&at.to_string()),
        }
        Some(class)
    }

    /// Notes a list or a map.
    fn note_repeating(&mut self, path: &Path<'_>) {
        if let Some(class) = self.class(path) {
            self.repeating.insert(class);
        }
    }

    /// Whether a fault at a place can be noted: no type hides those of its class.
    pub(in crate::decode) fn may_note(&mut self, path: &Path<'_>, fault: &Fault) -> bool {
        let Some(class) = self.class(path) else {
            return false;
        };
        if self.reported.contains(&class) {
            return true;
        }
        let place = fault.0.place.as_ref();
        self.raised = place.map(|place| (place.path.clone(), class));
        false
    }

    /// Notes that the error of a place has come out.
    pub(in crate::decode) fn report(&mut self, path: &str) {
        let raised = self.raised.take();
        let class = raised.filter(|(at, _)| at == path).map(|(_, class)| class);
        self.reported.extend(class);
    }
}

impl De<'_, '_> {
    /// Notes a list or a map, whose entries have one type.
    pub(in crate::decode) fn note_repeating(&self) {
        if let Some(slow) = self.context.slow {
            let slow = &mut *slow.borrow_mut();
            if slow.learned.reporting {
                slow.collected.note_repeating(self.path);
            }
        }
    }

    /// Counts the entries of a list or a table, or one that is looked at.
    pub(in crate::decode) fn count_entries(&self, entries: usize) {
        self.count(ENTRY * entries);
    }

    /// Counts a value that serde buffers.
    pub(in crate::decode) fn count_handed(&self) {
        self.count(HANDED);
    }

    /// Counts a text that is searched for secrets.
    pub(in crate::decode) fn count_search(&self, text: &str) {
        self.count(SEARCH * text.len());
    }

    /// Counts what this pass costs, such as the bytes of a text that is cut up.
    pub(in crate::decode) fn count(&self, work: usize) {
        let total = self.context.work.get();
        self.context.work.set(total.saturating_add(work));
    }

    /// The placeholder for a value that this crate refuses, if its fault can be noted; otherwise the
    /// fault, which is to travel up.
    #[cold]
    pub(in crate::decode) fn collected(&self, fault: Fault) -> Result<Dummy, Fault> {
        match self.context.slow {
            Some(slow) if !self.name => slow.borrow_mut().collect(self.path, fault),
            _ => Err(fault),
        }
    }
}

/// The value of a result; or else a placeholder for what was asked for, if the fault can be noted.
macro_rules! or_collect {
    ($self:ident, $result:expr, $dummy:ident => $answer:expr) => {
        match $result {
            Ok(value) => value,
            Err(fault) => {
                let $dummy = $self.collected(fault)?;
                return $answer.map_err(|fault| $self.place(fault));
            }
        }
    };
}
pub(in crate::decode) use or_collect;
