//! Backtracking over the forms that the variants of an untagged enum expect of the same value.
//!
//! The search tries the forms in the order of the variants. A form that one variant expects may spoil
//! the value for a later variant. So the search keeps the other choices, each with the assumptions of
//! its time, until the enum can be read or no choice is left.

use crate::decode::diagnose::assumptions::Assumptions;
use crate::decode::diagnose::form::Form;
use crate::decode::diagnose::inference::Inference;
use crate::decode::diagnose::visits::Visit;

/// How many alternatives of one enum are tried.
const MAX_RETRIES: usize = 32;

/// The choices that are left for the enum that fails at present.
#[derive(Clone, Default)]
pub(crate) struct Alternatives {
    /// The path of the enum.
    path: String,
    retries: usize,
    remaining: Vec<Alternative>,
}

/// A form that another variant expects, and the assumptions of the time when it was passed over.
#[derive(Clone)]
struct Alternative {
    visit: Visit,
    form: Form,
    assumptions: Assumptions,
}

impl Inference {
    /// Returns the first of the forms that the variants of the enum at `path` expect, and keeps the
    /// others. Without any, returns to the alternative that was kept last.
    pub(crate) fn choose_alternative(
        &mut self,
        path: &str,
        choices: Vec<(Visit, Form)>,
    ) -> Option<(Visit, Form)> {
        if self.alternatives.path != path {
            self.alternatives = Alternatives {
                path: path.to_owned(),
                ..Alternatives::default()
            };
        }
        let mut choices = choices.into_iter();
        let Some(first) = choices.next() else {
            return self.next_alternative();
        };
        let is_first = |visit: &Visit, form| visit.id == first.0.id && form == first.1;
        let others: Vec<_> = choices
            .filter(|(visit, form)| !is_first(visit, *form))
            .collect();
        for (visit, form) in others.into_iter().rev() {
            let alternative = self.alternative(visit, form);
            self.alternatives.remaining.push(alternative);
        }
        Some(first)
    }

    fn alternative(&self, visit: Visit, form: Form) -> Alternative {
        Alternative {
            visit,
            form,
            assumptions: self.assumptions.clone(),
        }
    }

    fn next_alternative(&mut self) -> Option<(Visit, Form)> {
        if self.alternatives.retries >= MAX_RETRIES {
            return None;
        }
        let next = self.alternatives.remaining.pop()?;
        self.alternatives.retries += 1;
        self.assumptions = next.assumptions;
        self.count_retry();
        Some((next.visit, next.form))
    }
}
