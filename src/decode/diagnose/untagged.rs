//! Alternatives of untagged enums: each variant may want the same value in another form.
//!
//! The forms are tried in the order of the variants. What one variant wants may spoil what a later one
//! needs, so the other choices are kept until the enum reads or no choice is left.

use std::collections::{HashMap, HashSet};

use crate::decode::diagnose::classes::{Forms, Written};
use crate::decode::diagnose::form::Form;
use crate::decode::diagnose::learn::{Kind, Learned, Seen};

/// As many alternatives of one enum are gone back to at most.
const MOST_RETRIES: usize = 32;

/// The choices that were not taken, for the enum that is read at present.
#[derive(Clone, Default)]
pub(in crate::decode) struct Alternatives {
    /// Where the enum stands.
    place: String,
    retries: usize,
    untaken: Vec<Alternative>,
}

/// A form that another variant wants, with what was known when it was left.
#[derive(Clone)]
struct Alternative {
    seen: Seen,
    form: Form,
    forms: HashMap<String, Forms>,
    exact: HashMap<String, Form>,
    witnesses: HashMap<String, Vec<(String, Form)>>,
    tried: HashSet<(String, Form)>,
    kinds: HashMap<String, Kind>,
    listed: HashSet<String>,
    tags: HashMap<String, String>,
    split: HashSet<String>,
    promoted: HashSet<(String, Written, Form)>,
}

impl Learned {
    /// Takes the first of the forms that the variants of an enum want, and keeps the others; without
    /// one, goes back to the last that was kept.
    pub(in crate::decode) fn choose_alternative(
        &mut self,
        place: &str,
        wanted: Vec<(Seen, Form)>,
    ) -> Option<(Seen, Form)> {
        if self.alternatives.place != place {
            self.alternatives = Alternatives {
                place: place.to_owned(),
                ..Alternatives::default()
            };
        }
        let mut wanted = wanted.into_iter();
        let Some(first) = wanted.next() else {
            return self.next_alternative();
        };
        let is_first = |seen: &Seen, form| seen.id == first.0.id && form == first.1;
        let others: Vec<_> = wanted
            .filter(|(seen, form)| !is_first(seen, *form))
            .collect();
        for (seen, form) in others.into_iter().rev() {
            let alternative = self.alternative(seen, form);
            self.alternatives.untaken.push(alternative);
        }
        Some(first)
    }

    fn alternative(&self, seen: Seen, form: Form) -> Alternative {
        Alternative {
            seen,
            form,
            forms: self.forms.clone(),
            exact: self.exact.clone(),
            witnesses: self.witnesses.clone(),
            tried: self.tried.clone(),
            kinds: self.kinds.clone(),
            listed: self.listed.clone(),
            tags: self.tags.clone(),
            split: self.split.clone(),
            promoted: self.promoted.clone(),
        }
    }

    fn next_alternative(&mut self) -> Option<(Seen, Form)> {
        if self.alternatives.retries >= MOST_RETRIES {
            return None;
        }
        let next = self.alternatives.untaken.pop()?;
        self.alternatives.retries += 1;
        self.forms = next.forms;
        self.exact = next.exact;
        self.witnesses = next.witnesses;
        self.tried = next.tried;
        self.kinds = next.kinds;
        self.listed = next.listed;
        self.tags = next.tags;
        self.split = next.split;
        self.promoted = next.promoted;
        self.note_retry();
        Some((next.seen, next.form))
    }
}
