//! Repeats the decoding until each buffered value has the form that its type expects.
//!
//! Each pass runs the type's `Deserialize` over the whole value and records what serde rejected. From
//! that, [`Search`] chooses the value that gets another form in the next pass. It stops when the type
//! accepts everything, or when no form helps: then the fault goes to
//! [`report`](crate::decode::diagnose::report).

use std::cell::{RefCell, RefMut};
use std::collections::HashSet;

use crate::decode::diagnose::assumptions::{EntryTypes, Guess};
use crate::decode::diagnose::class_paths::with_each;
use crate::decode::diagnose::diagnosis::Diagnosis;
use crate::decode::diagnose::fault::{Fault, Location};
use crate::decode::diagnose::form::Form;
use crate::decode::diagnose::inference::{Inference, PROBE, PROBE_WORDS};
use crate::decode::diagnose::rejection::{self, Rejection, Reported};
use crate::decode::diagnose::target::Target;
use crate::decode::diagnose::text_arena::TextArena;
use crate::decode::diagnose::visits::Visit;
use crate::decode::request::Request;
use crate::sorted;

/// The result of a pass without its value, and all rejections of the pass.
pub(crate) type Outcome = (Result<(), Fault>, Vec<Rejection>);

#[cfg(test)]
thread_local! {
    /// How many passes this thread has run.
    pub(crate) static PASSES: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Decodes until each buffered value has the form that its type expects, or until a fault remains. The target
/// keeps the value of the last pass.
pub(crate) fn decode_in_passes(
    target: &dyn Target,
    request: Request<'_>,
    diagnosis: &RefCell<Diagnosis>,
) -> Result<(), Fault> {
    let pass = || run_discarding(target, request, diagnosis);
    let search = Search::new(diagnosis, &pass);
    loop {
        let (result, log) = run(target, request, diagnosis);
        if search.inference().take_found_tag() {
            target.drop_value();
            continue;
        }
        match result {
            Ok(()) => {
                target.keep_value();
                if search.confirm_lists() && search.confirm_forms() {
                    return Ok(());
                }
            }
            Err(fault) => {
                // The rejection of a single value is cheap to act on.
                let is_too_much = fault.0.custom && diagnosis.borrow().is_exhausted();
                if is_too_much || !search.improve_form(&fault, &log) {
                    if search.inference().restore_form(&fault) {
                        continue;
                    }
                    return Err(fault);
                }
                diagnosis.borrow_mut().budget.uncount_last_pass();
            }
        }
    }
}

/// Runs one pass. The target has its value.
fn run(target: &dyn Target, request: Request<'_>, diagnosis: &RefCell<Diagnosis>) -> Outcome {
    diagnosis.borrow_mut().start_pass();
    #[cfg(test)]
    PASSES.with(|passes| passes.set(passes.get() + 1));
    let arena = TextArena::new();
    let (mut result, mut log) = rejection::record(|| target.run_pass(&request, diagnosis, &arena));
    let inference = &diagnosis.borrow().inference;
    let of_fault = result
        .as_mut()
        .err()
        .and_then(|fault| fault.0.rejection.as_mut());
    for rejection in log.iter_mut().chain(of_fault) {
        inference.resolve(&mut rejection.subject);
    }
    (result, log)
}

/// Runs one pass for its fault and its rejections.
pub(crate) fn run_discarding(
    target: &dyn Target,
    request: Request<'_>,
    diagnosis: &RefCell<Diagnosis>,
) -> Outcome {
    let outcome = run(target, request, diagnosis);
    target.drop_value();
    outcome
}

/// Finds out by further passes what a fault is about.
pub(super) struct Search<'a> {
    pub(super) diagnosis: &'a RefCell<Diagnosis>,
    pass: &'a dyn Fn() -> Outcome,
}

impl<'a> Search<'a> {
    pub(super) fn new(diagnosis: &'a RefCell<Diagnosis>, pass: &'a dyn Fn() -> Outcome) -> Self {
        Self { diagnosis, pass }
    }

    pub(super) fn run_pass(&self) -> Outcome {
        (self.pass)()
    }

    pub(super) fn inference(&self) -> RefMut<'_, Inference> {
        RefMut::map(self.diagnosis.borrow_mut(), |diagnosis| {
            &mut diagnosis.inference
        })
    }

    /// Gives a value the form that its type expects; returns whether there is such a value.
    fn improve_form(&self, fault: &Fault, log: &[Rejection]) -> bool {
        if self.inference().is_exhausted() {
            return false;
        }
        let Some((mut visit, form)) = self.choose(fault, log) else {
            return false;
        };
        self.probe_tables(&mut visit);
        let conflict = self.inference().conflicts(&visit);
        if conflict && self.find_tag(&visit) {
            return true;
        }
        // Without an enum, only the items of a tuple have several types.
        let is_of_tuple = !fault.0.custom && visit.is_item();
        let mut inference = self.inference();
        match (conflict, is_of_tuple) {
            (true, true) => inference.set_exception(&visit, form),
            (true, false) if inference.split(&visit, form) => {}
            _ => inference.set_form(&visit, form),
        }
        if fault.0.rejection.is_none() {
            inference.record_guess(&visit, form);
        }
        true
    }

    /// Chooses the value that a fault is about, and the form that its type expects.
    fn choose(&self, fault: &Fault, log: &[Rejection]) -> Option<(Visit, Form)> {
        let fault_path = fault.0.location.as_ref()?.path.as_str();
        if let Some(rejection) = &fault.0.rejection {
            return self.choose_for(rejection, fault_path, Some(fault));
        }
        if !fault.0.custom {
            return None;
        }
        // The message of an untagged enum or of a user's type. The last rejections caused it.
        let (rejections, last) = self.rejections_of_enum(fault, log, fault_path);
        let mut choices: Vec<_> = Vec::new();
        for (at, rejection) in rejections.iter().enumerate() {
            if let Some((mut visit, form)) = self.choose_for(rejection, fault_path, None) {
                visit.earlier_forms =
                    self.forms_of_earlier_variants(&rejections[..=at], &visit, form);
                choices.push((visit, form));
            }
        }
        // The form as it is comes last: another variant may expect what one variant rejects.
        sorted::sort_by_key(&mut choices, |(visit, form)| visit.is_fallback(*form));
        let mut inference = self.inference();
        let item = inference.item_around(last.first().copied(), fault_path);
        let chosen = inference.choose_alternative(&item, choices);
        chosen.or_else(|| {
            Some((
                inference.innermost_formed_around(&last, fault_path)?,
                Form::Plain,
            ))
        })
    }

    /// The rejections of the values of the enum whose variants all failed, each once, and the indexes
    /// of the visits that the last rejection may be about.
    fn rejections_of_enum(
        &self,
        fault: &Fault,
        log: &[Rejection],
        fault_path: &str,
    ) -> (Vec<Rejection>, Vec<usize>) {
        let before = self.inference().rejections_before;
        let log = log.get(before..).unwrap_or_default();
        let Some(last) = log.last() else {
            return (Vec::new(), Vec::new());
        };
        self.probe_around(last, fault_path);
        let mut last = self.inference().rejected_below(last, fault_path);
        if last.len() > 1 && self.inference().are_of_several_items(&last) {
            let found = self.relevant_item(fault, fault_path);
            drop(self.run_pass());
            if let Some(path) = found {
                let is_here = |at: &usize| self.inference().is_near(*at, &path);
                let here: Vec<_> = last.iter().copied().filter(is_here).collect();
                last = if here.is_empty() { last } else { here };
            }
        }
        let inference = self.inference();
        let near = |rejection: &Rejection| inference.rejected_near(rejection, &last, fault_path);
        let start = log.iter().rposition(|rejection| near(rejection).is_empty());
        let mut known = HashSet::new();
        let mut rejections = Vec::new();
        for rejection in &log[start.map_or(0, |at| at + 1)..] {
            if known.insert((rejection.subject, &rejection.reported, &rejection.expected)) {
                rejections.push(Rejection {
                    candidates: near(rejection),
                    ..rejection.clone()
                });
            }
        }
        (rejections, last)
    }

    /// The path of the innermost item without which the fault would be another one.
    fn relevant_item(&self, fault: &Fault, fault_path: &str) -> Option<String> {
        let mut found: Option<String> = None;
        loop {
            let path = found.as_deref().unwrap_or(fault_path);
            let items = self.inference().items_below(path);
            match self.last_relevant(fault, &items) {
                Some(item) => found = Some(item.path.clone()),
                None => return found,
            }
        }
    }

    /// Probes the tables around the value that a rejection is about.
    fn probe_around(&self, rejection: &Rejection, fault_path: &str) {
        let first = self
            .inference()
            .rejected_below(rejection, fault_path)
            .first()
            .copied();
        let visit = first.and_then(|first| self.inference().visit(first));
        // The visits of a pass without the probe are needed.
        if visit.is_some_and(|mut visit| self.probe_tables(&mut visit)) {
            drop(self.run_pass());
        }
    }

    /// The forms that earlier variants expect of the value of which the last rejection expects `form`.
    fn forms_of_earlier_variants(
        &self,
        rejections: &[Rejection],
        visit: &Visit,
        form: Form,
    ) -> Vec<Form> {
        if !visit.is_item() {
            return Vec::new();
        }
        let Some(at) = rejections.last().and_then(|rejection| rejection.subject) else {
            return Vec::new();
        };
        let of_value = rejections
            .iter()
            .filter(|rejection| rejection.subject == Some(at));
        let forms = of_value.flat_map(|rejection| self.inference().candidate_forms(at, rejection));
        forms
            .copied()
            .take_while(|earlier| *earlier != form)
            .collect()
    }

    /// Chooses the value that a rejection is about, and its form. `fault` is the fault that the rejection led
    /// to; without one, the rejection is that of one of several variants.
    fn choose_for(
        &self,
        rejection: &Rejection,
        fault_path: &str,
        fault: Option<&Fault>,
    ) -> Option<(Visit, Form)> {
        let is_fault = fault.is_some();
        let mut all = self.inference().candidates(rejection, fault_path);
        // A broken list would keep the other variants from being tried.
        all.retain(|(_, form)| is_fault || *form != Form::BrokenList);
        if !rejection.candidates.is_empty() {
            all.retain(|(at, _)| rejection.candidates.contains(at));
        }
        let of = |(at, form)| Some((self.inference().visit(at)?, form));
        let mut candidates: Vec<_> = all.into_iter().filter_map(of).collect();
        if let Some(rejected) = self.choose_equal(fault, rejection, fault_path, &candidates) {
            candidates.retain(|(visit, _)| visit.id == rejected.id);
        }
        if !is_fault {
            // A value without a form is more likely to be the one that the variant rejects.
            sorted::sort_by_key(&mut candidates, |(visit, _)| visit.form.is_some());
        }
        let is_new = |(_, form): &(Visit, Form)| *form != Form::Plain;
        let at = candidates.iter().position(is_new).unwrap_or(0);
        candidates.into_iter().nth(at)
    }

    /// Of values that serde reports alike, finds the one that a rejection is about. `None` if any of them will
    /// do: they share a class that has no form yet.
    fn choose_equal(
        &self,
        fault: Option<&Fault>,
        rejection: &Rejection,
        fault_path: &str,
        candidates: &[(Visit, Form)],
    ) -> Option<Visit> {
        if rejection.subject.is_some() || candidates.is_empty() {
            return None;
        }
        let all: Vec<Visit> = match fault {
            Some(_) => self.inference().all_rejected(rejection, fault_path),
            None => candidates.iter().map(|(visit, _)| visit.clone()).collect(),
        };
        let first = all.first()?;
        let is_alike = all.iter().all(|visit| visit.class == first.class)
            && !self
                .inference()
                .assumptions
                .forms
                .contains_key(&first.class);
        if all.len() < 2 || is_alike {
            return None;
        }
        match fault {
            Some(fault) => self.find_rejected(fault, &all),
            None => self.find_hidden(rejection, &all),
        }
    }

    /// Finds out which of the tables around a value are maps, and corrects the value's class. Returns
    /// whether any table had to be probed.
    pub(super) fn probe_tables(&self, visit: &mut Visit) -> bool {
        let mut any = false;
        loop {
            let Some(table) = self.inference().unknown_table(&visit.class) else {
                return any;
            };
            if self.probe(&table) {
                visit.class = with_each(&visit.class, &table);
            }
            any = true;
        }
    }

    /// Finds out whether the entries of a container have one type: whether the type reads an additional
    /// entry like the others.
    pub(super) fn probe(&self, container: &str) -> bool {
        self.inference().probing = Some(container.to_owned());
        let (result, log) = self.run_pass();
        let is_uniform = result.is_err_and(|fault| is_about_probe(&fault, &log));
        let mut inference = self.inference();
        inference.probing = None;
        let types = if is_uniform {
            EntryTypes::Uniform
        } else {
            EntryTypes::Distinct
        };
        let known = &mut inference.assumptions.entry_types;
        known.insert(container.to_owned(), types);
        is_uniform
    }

    /// Probes the lists whose items share a form; returns whether none of them is a tuple.
    fn confirm_lists(&self) -> bool {
        let mut all = true;
        let formed = self.inference().formed_sites();
        loop {
            let Some(list) = self.inference().unknown_list() else {
                return all;
            };
            if !self.probe(&list) {
                self.inference().separate_items(&list, &formed);
                all = false;
            }
        }
    }

    /// Removes the guessed forms without which the type can be read too: a type inside may have accepted the value as
    /// another variant. Returns whether all guesses were needed.
    fn confirm_forms(&self) -> bool {
        let mut all = true;
        while let Some(guess) = self.next_guess() {
            let assumptions = self.inference().assumptions.clone();
            self.inference().remove_form(&guess);
            let (result, _) = self.run_pass();
            if result.is_err() {
                self.inference().assumptions = assumptions;
            } else {
                all = false;
            }
        }
        all
    }

    fn next_guess(&self) -> Option<Guess> {
        self.inference().guesses.pop()
    }

    /// Finds the tag of the tables around a value whose form conflicts with that of others.
    fn find_tag(&self, visit: &Visit) -> bool {
        let Some(table) = self.inference().untagged_item(&visit.class) else {
            return false;
        };
        self.inference().table_texts = Some(Default::default());
        drop(self.run_pass());
        self.inference().choose_tag(&table, visit)
    }
}

/// Whether a pass has failed because of the probe.
fn is_about_probe(fault: &Fault, log: &[Rejection]) -> bool {
    if fault.0.unknown_field.is_some() {
        return false;
    }
    let probe = Reported::Text(PROBE.to_owned());
    let mut rejections = log.iter().chain(&fault.0.rejection);
    let is_shown = |location: &Location| {
        let description = location.description.as_deref().unwrap_or_default();
        location.path.contains(PROBE_WORDS) || description.contains(PROBE_WORDS)
    };
    rejections.any(|it| it.reported == probe) || fault.0.location.as_ref().is_some_and(is_shown)
}
