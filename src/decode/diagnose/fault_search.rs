//! Finds out which buffered value a fault is about, and moves the fault there.
//!
//! serde rejects a buffered value without its path, so the fault is located at the struct or the enum
//! around it. Further passes replace or leave out values until one remains.

use std::cell::RefCell;
use std::collections::HashSet;

use crate::decode::diagnose::buffered_placeholder::is_without_content;
use crate::decode::diagnose::diagnosis::{Diagnosis, parent};
use crate::decode::diagnose::fault::{Fault, Location};
use crate::decode::diagnose::passes::{Search, run_discarding};
use crate::decode::diagnose::rejection::{self, Rejection, Reported};
use crate::decode::diagnose::target::Target;
use crate::decode::diagnose::visits::{Visit, below, is_below};
use crate::decode::request::Request;
use crate::value::key::under;

/// What serde expects where its buffer holds several variants.
pub(super) const ONE_VARIANT: &str = "map with a single key";

/// How many entries are left out one by one, in search of rivals.
const MAX_RIVALS: usize = 64;

/// Moves a fault about a buffered value to the location of that value.
pub(crate) fn locate(
    target: &dyn Target,
    request: Request<'_>,
    diagnosis: &RefCell<Diagnosis>,
    fault: &mut Fault,
) {
    let pass = || run_discarding(target, request, diagnosis);
    let search = Search::new(diagnosis, &pass);
    let reason = fault.reason();
    search.locate(request, fault);
    let is_same = |other: &Fault| other.reason() == reason;
    fault.0.is_consequence = search.is_of_invented_tag(fault, &is_same);
}

/// Makes a fault that of rivals, with their origins.
fn set_rivals(
    request: &Request<'_>,
    fault: &mut Fault,
    table: String,
    names: Vec<String>,
    duplicate: Option<&str>,
) {
    let origin = |name: &String| {
        duplicate?;
        request.first_origin_of(&below(&table, name))
    };
    let origins = names.iter().map(origin);
    let origins = origins.collect();
    fault.set_rivals(table, names, origins, duplicate);
}

/// The faults of the values that the type rejects for the same reason as a located one: at most
/// `limit`, and how many more there are.
pub(crate) fn rejected_alike(
    target: &dyn Target,
    request: Request<'_>,
    diagnosis: &RefCell<Diagnosis>,
    fault: &Fault,
    limit: usize,
) -> (Vec<Fault>, usize) {
    let (Some(rejection), Some(location)) = (fault.rejection_of_any_text(), &fault.0.location)
    else {
        return (Vec::new(), 0);
    };
    if diagnosis.borrow().is_bad(&location.path) {
        return (Vec::new(), 0);
    }
    let pass = || run_discarding(target, request, diagnosis);
    let search = Search::new(diagnosis, &pass);
    let Some(mut visit) = search.inference().buffered_at(&location.path) else {
        return (Vec::new(), 0);
    };
    // The classes are known once the tables around have been probed.
    let known = search.inference().assumptions.entry_types.len();
    search.probe_tables(&mut visit);
    search.probe_lists(&visit, rejection);
    if search.inference().assumptions.entry_types.len() != known {
        drop(pass());
        let Some(known) = search.inference().buffered_at(&location.path) else {
            return (Vec::new(), 0);
        };
        visit = known;
    }
    let mut alike = diagnosis.borrow().inference.texts_alike(&visit, rejection);
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
    let faults = faults.map(|(reported, location)| {
        let rejection = rejection.clone();
        Fault::of_text(
            Rejection {
                reported,
                subject: None,
                ..rejection
            },
            location,
        )
    });
    (faults.collect(), left)
}

impl Search<'_> {
    /// Moves a fault about a buffered value to the location of that value.
    fn locate(&self, request: Request<'_>, fault: &mut Fault) {
        if let (Some(field), [_, _, ..]) = (fault.0.duplicate, fault.0.read_names.as_slice()) {
            if let Some((table, names)) = self.find_read_spellings(field, fault) {
                set_rivals(&request, fault, table, names, Some(field));
            }
            return;
        }
        if let Some(field) = fault.0.missing_field {
            if let Some(table) = self.find_table_without(field, fault) {
                if let Some(location) = &mut fault.0.location {
                    location.path = below(&table, field);
                    location.origin = request.origin_of(&table);
                }
            }
            return;
        }
        if let Some(field) = fault.0.unknown_field.clone() {
            if let Some(visit) = self.find_unknown_field(&field, fault) {
                if let Some(location) = self.describe(&visit) {
                    fault.move_to(location);
                }
            }
            return;
        }
        let may_be_buffered = fault.may_be_buffered() || fault.0.duplicate.is_some();
        let Some(outer) = fault.0.location.clone().filter(|_| may_be_buffered) else {
            return;
        };
        if !self.inference().has_visits_below(&outer.path) {
            return;
        }
        let duplicate = fault
            .0
            .duplicate
            .or_else(|| rejection::last_duplicate_field().filter(|_| fault.0.custom));
        let (mut masked, mut quotes) = (false, false);
        let found = self.find_equal(fault).or_else(|| {
            let found = self.find_by_leaving_out(fault, &outer.path);
            masked = found.is_some() && fault.is_about_secret();
            let is_container = found.as_ref().is_some_and(Visit::is_container);
            quotes = (outer.masked || outer.may_quote) && is_container;
            found
        });
        let found = found.or_else(|| self.find_only(fault, &outer.path));
        let location = match &found {
            Some(found) => self.describe(found),
            None => self.describe_below(&outer.path, ""),
        };
        if let Some(mut location) = location {
            // The outer location is masked for all that it holds, this one for a single value.
            location.masked |= masked;
            location.may_quote |= quotes;
            fault.move_to(location);
        }
        let is_variants = fault.0.expected.as_deref() == Some(ONE_VARIANT);
        let duplicate = duplicate.filter(|_| !is_variants);
        if let Some((table, names)) = self.find_rivals(fault, &outer.path, duplicate) {
            set_rivals(&request, fault, table, names, duplicate);
        }
    }

    /// The location of a visited value, by a further pass.
    fn describe(&self, visit: &Visit) -> Option<Location> {
        self.describe_below(&visit.path, &visit.id)
    }

    /// Runs a pass that records the locations of the visits at and below a path; returns the location of one.
    fn describe_below(&self, path: &str, id: &str) -> Option<Location> {
        self.inference().described_below = Some(path.to_owned());
        drop(self.run_pass());
        self.inference().described_below = None;
        self.inference().location_of(id)
    }

    /// Finds the one of several values that a fault is about, if serde reports them alike.
    fn find_equal(&self, fault: &Fault) -> Option<Visit> {
        let path = &fault.0.location.as_ref()?.path;
        let mut all = match (&fault.0.rejection, fault.0.length) {
            (Some(rejection), _) => self.inference().all_rejected(rejection, path),
            (None, Some(length)) => self.inference().lists_of_length(length, path),
            (None, None) => return None,
        };
        all.retain(|visit| !visit.is_name);
        let rejection = fault.0.rejection.as_ref();
        match (all.as_slice(), rejection.map(|it| it.subject.is_some())) {
            ([visit], Some(true)) => Some(visit.clone()),
            ([_], Some(false)) => None,
            (all, _) => self.find_rejected(fault, all),
        }
    }

    /// Whether a fault is due to the invented tag of an enum: the enum has none with another tag.
    fn is_of_invented_tag(&self, fault: &Fault, is_same: &dyn Fn(&Fault) -> bool) -> bool {
        let Some(location) = &fault.0.location else {
            return false;
        };
        let tags = self.diagnosis.borrow().invented_tags(&location.path);
        tags.iter().any(|tag| {
            let set = |level: fn(usize) -> usize| self.diagnosis.borrow_mut().set_level(tag, level);
            set(|level| level + 1);
            let (result, _) = self.run_pass();
            set(|level| level - 1);
            // A name of another variant is not enough for an enum without a tag.
            !result.is_err_and(|other| is_same(&other) || is_without_content(&other))
        })
    }

    /// Finds the entry of a buffered table that its type does not know, if it is in another table than that of the
    /// fault.
    fn find_unknown_field(&self, field: &str, fault: &Fault) -> Option<Visit> {
        let table = parent(&fault.0.location.as_ref()?.path).unwrap_or_default();
        let all = self.inference().entries_named(field, &table);
        let is_here = |path: &str| {
            let result = self.run_without([path.to_owned()]);
            !result.is_err_and(|other| other.is_like(fault))
        };
        if all.is_empty() || is_here(&below(&table, field)) {
            return None;
        }
        all.into_iter()
            .take(MAX_RIVALS)
            .find(|visit| is_here(&visit.path))
    }

    /// Finds the only value that a fault can be about.
    fn find_only(&self, fault: &Fault, path: &str) -> Option<Visit> {
        let rejection = fault.0.rejection.as_ref()?;
        self.inference().only_rejected(rejection, path).cloned()
    }

    /// Finds the value that a fault is about by leaving out others. serde reads the values in the order
    /// of their visits, so those after the value do not matter.
    fn find_by_leaving_out(&self, fault: &Fault, path: &str) -> Option<Visit> {
        let is_known = self.find_only(fault, path).is_some();
        let all = self.inference().buffered_visits_below(path);
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
            let result = self.run_without(omitted);
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
            if self
                .run_without(omitted)
                .is_err_and(|other| other.is_like(fault))
            {
                return Some(found);
            }
            let around = all.iter().rfind(|other| is_below(&found.path, &other.path));
            // Without a container, the fault is about everything that serde has buffered.
            found = around?.clone();
        }
    }

    /// Finds the rivals, if they are what is wrong: several variants of an enum, or two spellings of the
    /// field `duplicate`. Returns their table and their names.
    fn find_rivals(
        &self,
        fault: &Fault,
        path: &str,
        duplicate: Option<&'static str>,
    ) -> Option<(String, Vec<String>)> {
        if !fault.0.rivals.is_empty() {
            return None;
        }
        if let Some(field) = duplicate {
            return self.find_buffered_spellings(field, path);
        }
        let tables = self.inference().entries_below(path);
        if fault.0.expected.as_deref() == Some(ONE_VARIANT) {
            let here = &fault.0.location.as_ref()?.path;
            let found = tables.into_iter().find(|(table, _)| table == here);
            return found.filter(|(_, names)| names.len() > 1);
        }
        let count: usize = tables.iter().map(|(_, names)| names.len()).sum();
        if !fault.0.custom || count > MAX_RIVALS {
            return None;
        }
        let found = tables.into_iter().find(|(table, names)| {
            let is_gone = |name: &String| self.run_without([below(table, name)]).is_ok();
            names.len() == 2 && names.iter().all(is_gone)
        });
        drop(self.run_pass());
        found
    }

    /// Finds the buffered table that lacks a field, if it is another one than that of the fault: the outermost one
    /// that the type accepts once it has the field.
    fn find_table_without(&self, field: &'static str, fault: &Fault) -> Option<String> {
        let outer = parent(&fault.0.location.as_ref()?.path)?;
        let all = self.inference().buffered_visits_below(&outer);
        if !all.iter().any(|visit| visit.reported == Reported::Map) {
            return None;
        }
        let has_field = |table: &str| {
            let path = below(table, field);
            all.iter().any(|visit| visit.path == path)
        };
        let lacks_field = |table: &str| {
            if self.diagnosis.borrow().is_skipped(table, field)
                || self.diagnosis.borrow().is_bad(table)
            {
                return true;
            }
            if has_field(table) || !self.diagnosis.borrow_mut().add_field(table, field) {
                return false;
            }
            let (result, _) = self.run_pass();
            self.diagnosis.borrow_mut().remove_field(table, field);
            let is_unknown = |other: &Fault| other.0.unknown_field.as_deref() == Some(field);
            !result.is_err_and(|other| other.is_like(fault) || is_unknown(&other))
        };
        if lacks_field(&outer) {
            return None;
        }
        // Without a table of that name, another one would lack the field too.
        let is_other = |visit: &&Visit| visit.entry().is_some_and(|(_, name)| name != field);
        let containers = all.iter().filter(|visit| visit.is_container());
        let containers: Vec<Visit> = containers.filter(is_other).cloned().collect();
        let last = self.last_relevant(fault, &containers)?;
        let tables = all.iter().filter(|visit| visit.reported == Reported::Map);
        let mut around = tables.filter(|table| under(&last.path, &table.path));
        let found = around.find(|table| lacks_field(&table.path));
        found.map(|table| table.path.clone())
    }

    /// Finds the two spellings of a field that a struct has read without a buffer.
    fn find_read_spellings(&self, field: &str, fault: &Fault) -> Option<(String, Vec<String>)> {
        let table = &fault.0.location.as_ref()?.path;
        let (last, before) = fault.0.read_names.split_last()?;
        let paths: Vec<String> = before.iter().map(|name| below(table, name)).collect();
        let is_same = |omitted: &[String]| {
            let other = self.run_without(omitted.iter().cloned());
            other.is_err_and(|other| {
                other.0.duplicate == Some(field) && other.0.read_names.last() == Some(last)
            })
        };
        let first = find_one(&paths, is_same)?;
        let names = [&before[first], last];
        Some((table.clone(), names.map(|name| name.to_string()).into()))
    }

    /// Finds the first two spellings of a field that serde has buffered. serde reads the values in the order of
    /// their visits.
    fn find_buffered_spellings(&self, field: &str, path: &str) -> Option<(String, Vec<String>)> {
        let all = self.inference().buffered_visits_below(path);
        let is_twice = |omitted: &mut dyn Iterator<Item = &Visit>| {
            let omitted = omitted.map(|visit| visit.path.clone());
            drop(self.run_without(omitted));
            rejection::last_duplicate_field() == Some(field)
        };
        let (mut low, mut high) = (0, all.len());
        while high - low > 1 {
            let middle = usize::midpoint(low, high);
            if is_twice(&mut all[middle..].iter()) {
                high = middle;
            } else {
                low = middle;
            }
        }
        let (table, last) = all[..high].last().and_then(Visit::entry)?;
        let is_here = |visit: &&Visit| visit.entry().is_some_and(|(other, _)| other == table);
        let before: Vec<Visit> = all[..high - 1].iter().filter(is_here).cloned().collect();
        let is_same = |omitted: &[Visit]| is_twice(&mut all[high..].iter().chain(omitted));
        let first = find_one(&before, is_same);
        drop(self.run_pass());
        let (_, first) = before[first?].entry()?;
        Some((table, vec![first, last]))
    }

    /// Finds out which lists around a rejected value are tuples, whose items do not have one type. The values that
    /// seem to be alike have placeholders meanwhile, so that the type reads the probe.
    fn probe_lists(&self, rejected: &Visit, rejection: &Rejection) {
        loop {
            let list = self.inference().unknown_list_around(&rejected.class);
            let Some(list) = list else {
                return;
            };
            let alike = self.inference().texts_alike(rejected, rejection);
            let paths = alike
                .into_iter()
                .chain([rejected.clone()])
                .map(|visit| visit.path);
            let paths: Vec<String> = paths.collect();
            let formed = self.inference().formed_sites();
            self.diagnosis
                .borrow_mut()
                .add_placeholders(&paths, rejection);
            if !self.probe(&list) {
                self.inference().separate_items(&list, &formed);
            }
            self.diagnosis.borrow_mut().remove_placeholders(&paths);
            drop(self.run_pass());
        }
    }

    /// Runs a pass that leaves out some paths.
    fn run_without(&self, omitted: impl IntoIterator<Item = String>) -> Result<(), Fault> {
        let omitted = omitted.into_iter().collect();
        self.inference().omitted = omitted;
        let (result, _) = self.run_pass();
        self.inference().omitted.clear();
        result
    }
}

/// Finds the index of the one item that matters: leaving out any of the others makes no difference.
fn find_one<T>(all: &[T], is_same_without: impl Fn(&[T]) -> bool) -> Option<usize> {
    let (mut low, mut high) = (0, all.len());
    while high - low > 1 {
        let middle = usize::midpoint(low, high);
        if is_same_without(&all[low..middle]) {
            low = middle;
        } else {
            high = middle;
        }
    }
    (low < high && !is_same_without(&all[low..high])).then_some(low)
}
