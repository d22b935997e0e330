//! Finds out which buffered value a fault is about, and moves the fault there.
//!
//! serde rejects a buffered value without its path, so the fault is located at the struct or the enum
//! around it. Further passes replace or leave out values until one remains.

use std::cell::RefCell;
use std::collections::HashSet;

use serde::de::DeserializeOwned;

use crate::decode::diagnose::diagnosis::Diagnosis;
use crate::decode::diagnose::fault::Fault;
use crate::decode::diagnose::form::Form;
use crate::decode::diagnose::passes::{Search, run_discarding};
use crate::decode::diagnose::rejection::{self, Rejection};
use crate::decode::diagnose::visits::{Visit, below, is_below};
use crate::decode::request::Request;
use crate::value::key::under;

/// What serde expects where its buffer holds several variants.
const ONE_VARIANT: &str = "map with a single key";

/// How many entries are left out one by one, in search of rivals.
const MAX_RIVALS: usize = 64;

/// Moves a fault about a buffered value to the location of that value.
pub(crate) fn locate<T: DeserializeOwned>(
    request: Request<'_>,
    diagnosis: &RefCell<Diagnosis>,
    fault: &mut Fault,
) {
    let pass = || run_discarding::<T>(request, diagnosis);
    let search = Search::new(diagnosis, &pass);
    let may_be_buffered = fault.may_be_buffered() || fault.0.duplicate.is_some();
    let Some(outer) = fault.0.location.clone().filter(|_| may_be_buffered) else {
        return;
    };
    if !search.inference().visits_below(&outer.path) {
        return;
    }
    let duplicate = fault
        .0
        .duplicate
        .or_else(|| rejection::last_duplicate_field().filter(|_| fault.0.custom));
    let (mut masked, mut quotes) = (false, false);
    let found = match search.find_equal(fault) {
        Some(found) => found,
        None => {
            let found = search.find_by_leaving_out(fault, &outer.path);
            masked = found.is_some() && fault.is_about_secret();
            let is_container = found.as_ref().is_some_and(Visit::is_container);
            quotes = (outer.masked || outer.may_quote) && is_container;
            found
        }
    };
    let found = found.or_else(|| search.find_only(fault, &outer.path));
    let path = found.as_ref().map_or(&outer.path, |visit| &visit.path);
    // The last pass may have visited markers; another one visits the values.
    search.inference().described_below = Some(path.clone());
    drop(pass());
    let mut inference = search.inference();
    inference.described_below = None;
    let location = found.and_then(|found| inference.location_of(&found.id));
    drop(inference);
    if let Some(mut location) = location {
        // The outer location is masked for all that it holds, this one for a single value.
        location.masked |= masked;
        location.may_quote |= quotes;
        fault.move_to(location);
    }
    search.find_rivals(fault, &outer.path, duplicate);
}

/// The faults of the values that the type rejects for the same reason as a located one: at most
/// `limit`, and how many more there are.
pub(crate) fn rejected_alike<T: DeserializeOwned>(
    request: Request<'_>,
    diagnosis: &RefCell<Diagnosis>,
    fault: &Fault,
    limit: usize,
) -> (Vec<Fault>, usize) {
    let (Some(rejection), Some(location)) = (fault.rejection_of_any_text(), &fault.0.location)
    else {
        return (Vec::new(), 0);
    };
    let pass = || run_discarding::<T>(request, diagnosis);
    let search = Search::new(diagnosis, &pass);
    let Some(mut visit) = search.inference().buffered_at(&location.path) else {
        return (Vec::new(), 0);
    };
    // The classes are known once the tables around have been probed.
    let known = search.inference().assumptions.entry_types.len();
    search.probe_tables(&mut visit);
    if search.inference().assumptions.entry_types.len() != known {
        drop(pass());
    }
    let mut alike = diagnosis.borrow().inference.alike(&visit, rejection);
    let left = alike.len().saturating_sub(limit);
    alike.truncate(limit);
    if alike.is_empty() {
        return (Vec::new(), left);
    }
    let ids = alike.into_iter().map(|visit| visit.id);
    let ids: Vec<String> = ids.collect();
    diagnosis.borrow_mut().inference.described_ids = ids.iter().cloned().collect();
    drop(pass());
    let inference = &mut diagnosis.borrow_mut().inference;
    inference.described_ids.clear();
    let text = |id: &String| inference.text_of(id);
    let faults = ids.iter().filter_map(text);
    let faults = faults.map(|(found, location)| {
        let rejection = rejection.clone();
        Fault::of_text(
            Rejection {
                found,
                subject: None,
                ..rejection
            },
            location,
        )
    });
    (faults.collect(), left)
}

impl Search<'_> {
    /// Finds the one of several equal values that a fault is about; `None` if nothing is equal.
    fn find_equal(&self, fault: &Fault) -> Option<Option<Visit>> {
        let rejection = fault.0.rejection.as_ref()?;
        let location = fault.0.location.as_ref()?;
        let all = self.inference().all_of(rejection, &location.path);
        let candidates: Vec<_> = all.into_iter().map(|visit| (visit, Form::Plain)).collect();
        if let ([(visit, _)], Some(_)) = (candidates.as_slice(), rejection.subject) {
            return Some(Some(visit.clone()));
        }
        if candidates.len() < 2 || !rejection.found.has_marker() {
            return None;
        }
        let found = self.choose_by_marker(rejection, &candidates);
        Some(found.map(|(visit, _)| visit))
    }

    /// Finds the only value that a fault can be about.
    fn find_only(&self, fault: &Fault, below: &str) -> Option<Visit> {
        self.inference().only(fault, below).cloned()
    }

    /// Finds the value that a fault is about by leaving out others. serde reads the values in the order
    /// of their visits, so those after the value do not matter.
    fn find_by_leaving_out(&self, fault: &Fault, below: &str) -> Option<Visit> {
        let is_known = self.inference().only(fault, below).is_some();
        let all = self.inference().all_below(below);
        if all.is_empty() || is_known {
            return None;
        }
        let found = self.last_relevant(fault, &all)?;
        self.itself_or_around(fault, &all, found)
    }

    /// The last value without which the fault would be another one.
    pub(super) fn last_relevant<'s>(&self, fault: &Fault, all: &'s [Visit]) -> Option<&'s Visit> {
        let is_relevant = |from: usize| {
            let omitted = all[from..].iter().map(|visit| visit.path.clone());
            self.inference().omitted = omitted.collect();
            let (result, _) = self.run_pass();
            self.inference().omitted.clear();
            !result.is_err_and(|other| other.is_like(fault))
        };
        if all.is_empty() || !is_relevant(0) {
            return None;
        }
        let (mut low, mut high) = (0, all.len());
        while high - low > 1 {
            let middle = usize::midpoint(low, high);
            if is_relevant(middle) {
                low = middle;
            } else {
                high = middle;
            }
        }
        all.get(low)
    }

    /// The value that a fault is about: the found one if it is rejected without its neighbours too, or
    /// else the container around it.
    fn itself_or_around(&self, fault: &Fault, all: &[Visit], found: &Visit) -> Option<Visit> {
        let mut found = found.clone();
        loop {
            let related =
                |other: &&Visit| under(&other.path, &found.path) || under(&found.path, &other.path);
            let others = all.iter().filter(|other| !related(other));
            let omitted: HashSet<String> = others.map(|other| other.path.clone()).collect();
            if omitted.is_empty() {
                return Some(found);
            }
            self.inference().omitted = omitted;
            let (result, _) = self.run_pass();
            self.inference().omitted.clear();
            if result.is_err_and(|other| other.is_like(fault)) {
                return Some(found);
            }
            let around = all.iter().rfind(|other| is_below(&found.path, &other.path));
            // Without a container, the fault is about everything that serde has buffered.
            found = around?.clone();
        }
    }

    /// Finds the rivals, if they are what is wrong: several variants of an enum, or two spellings of a
    /// field.
    fn find_rivals(&self, fault: &mut Fault, below: &str, duplicate: Option<&'static str>) {
        let is_variants = fault.0.expected.as_deref() == Some(ONE_VARIANT);
        if !fault.0.rivals.is_empty() || !(is_variants || duplicate.is_some() || fault.0.custom) {
            return;
        }
        let tables = self.inference().entries_below(below);
        let found = if is_variants {
            let location = fault.0.location.as_ref();
            let here =
                |(table, _): &&(String, Vec<_>)| location.is_some_and(|it| it.path == *table);
            tables.iter().find(here).cloned()
        } else {
            let field = |name: &&str| duplicate.is_none_or(|duplicate| duplicate == *name);
            let count: usize = tables.iter().map(|(_, names)| names.len()).sum();
            let mut tables = tables.iter();
            let found = tables.find_map(|(table, names)| {
                let may_be = names.iter().any(|name| field(&name.as_str()));
                let is_few = duplicate.is_some() || names.len() == 2;
                let rivals = (may_be && is_few && count <= MAX_RIVALS)
                    .then(|| self.rivals_in(table, names, duplicate.is_some()))?;
                (rivals.len() > 1).then(|| (table.clone(), rivals))
            });
            drop(self.run_pass());
            found
        };
        if let Some((table, names)) = found.filter(|(_, names)| names.len() > 1) {
            fault.set_rivals(table, names, duplicate.filter(|_| !is_variants));
        }
    }

    /// The entries of a table without which the fault is gone.
    fn rivals_in(&self, table: &str, names: &[String], is_duplicate: bool) -> Vec<String> {
        let is_rival = |name: &&String| {
            let left_out = below(table, name);
            self.inference().omitted = HashSet::from([left_out]);
            let (result, _) = self.run_pass();
            self.inference().omitted.clear();
            match (result, is_duplicate) {
                (Ok(()), _) => true,
                // Other values may still expect another form.
                (Err(fault), true) => {
                    fault.0.missing_field.is_none() && rejection::last_duplicate_field().is_none()
                }
                (Err(_), false) => false,
            }
        };
        names.iter().filter(is_rival).cloned().collect()
    }
}
