//! Finds the one of several equal values that a rejection is about.
//!
//! serde reports a rejected value without its path. So a pass replaces some of the equal values by markers. If
//! the pass rejects the same as before, then none of them was rejected.

use crate::decode::diagnose::fault::Fault;
use crate::decode::diagnose::fault_search::ONE_VARIANT;
use crate::decode::diagnose::inference::PROBE;
use crate::decode::diagnose::passes::{Outcome, Search};
use crate::decode::diagnose::rejection::{Rejection, Reported};
use crate::decode::diagnose::visits::Visit;

/// What serde expects where an enum is neither a name nor a table.
const NAME_OR_TABLE: &str = "string or map";

/// The marker that replaces one of several equal values.
pub(crate) fn marker(reported: &Reported, number: usize) -> Reported {
    match reported {
        Reported::Number(_) => Reported::Number((i64::MAX - number as i64).to_string()),
        _ => Reported::Text(format!("{PROBE} {number}")),
    }
}

impl Search<'_> {
    /// Finds the value that a fault is about. `all` are values that serde reports alike, in the order of their
    /// visits.
    pub(super) fn find_rejected(&self, fault: &Fault, all: &[Visit]) -> Option<Visit> {
        let is_same =
            |(result, _): &Outcome| result.as_ref().is_err_and(|other| other.is_like(fault));
        self.find_marked(all, fault.0.rejection.as_ref(), &is_same)
    }

    /// Finds the value that a rejection is about which a type hides, as an untagged enum does.
    pub(super) fn find_hidden(&self, rejection: &Rejection, all: &[Visit]) -> Option<Visit> {
        let is_same = |(_, log): &Outcome| {
            let before = self.inference().rejections_before;
            let log = log.get(before..).unwrap_or_default();
            log.iter()
                .any(|it| it.reported == rejection.reported && it.expected == rejection.expected)
        };
        self.find_marked(all, Some(rejection), &is_same)
    }

    /// Finds the value whose marker changes the outcome of a pass. Afterwards, the last pass is one without
    /// markers.
    fn find_marked(
        &self,
        all: &[Visit],
        rejection: Option<&Rejection>,
        is_same: &dyn Fn(&Outcome) -> bool,
    ) -> Option<Visit> {
        let mut left: Vec<&Visit> = all.iter().filter(|visit| !visit.is_name).collect();
        let mut found = None;
        while !left.is_empty() && !self.diagnosis.borrow().is_exhausted() {
            let Some(at) = self.last_marked(&left, is_same) else {
                break;
            };
            let visit = left.remove(at);
            let outcome = self.run_marked(&[visit]);
            if !is_same(&outcome) && !rejection.is_some_and(|it| accepts(it, &outcome)) {
                found = Some(visit.clone());
                break;
            }
        }
        drop(self.run_pass());
        found
    }

    /// The index of the last value without which the outcome is the same. serde mostly reads values in the
    /// order of their visits, so markers behind the rejected value change nothing.
    fn last_marked(&self, all: &[&Visit], is_same: &dyn Fn(&Outcome) -> bool) -> Option<usize> {
        if all.len() > 1 && is_same(&self.run_marked(all)) {
            return None;
        }
        let (mut low, mut high) = (0, all.len());
        while high - low > 1 {
            let middle = usize::midpoint(low, high);
            if is_same(&self.run_marked(&all[middle..])) {
                high = middle;
            } else {
                low = middle;
            }
        }
        Some(low)
    }

    /// Runs a pass with markers in the place of some values.
    fn run_marked(&self, all: &[&Visit]) -> Outcome {
        let markers = all
            .iter()
            .enumerate()
            .map(|(at, visit)| (visit.id.clone(), at));
        self.inference().markers = markers.collect();
        let outcome = self.run_pass();
        self.inference().markers.clear();
        outcome
    }
}

/// Whether the type accepts a value whose only marker it rejects: it expects another type than the rejection
/// names.
fn accepts(rejection: &Rejection, (result, log): &Outcome) -> bool {
    let of_fault = result
        .as_ref()
        .err()
        .and_then(|fault| fault.0.rejection.as_ref());
    let marker = marker(&rejection.reported, 0);
    let mut of_marker = log
        .iter()
        .chain(of_fault)
        .filter(|it| it.reported == marker)
        .peekable();
    let is_enum = [ONE_VARIANT, NAME_OR_TABLE].contains(&&*rejection.expected);
    of_marker.peek().is_some()
        && !of_marker
            .any(|it| it.expected == rejection.expected || (is_enum && it.variants.is_some()))
}
