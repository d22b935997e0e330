//! What the passes assume about the classes of buffered values: their forms, and which entries have one type.
//!
//! An assumption may turn out wrong. So [`Alternatives`](crate::decode::diagnose::alternatives::Alternatives)
//! keeps copies, and returns to them.

use std::collections::{HashMap, HashSet};

use crate::decode::diagnose::class_forms::{Forms, Notation};
use crate::decode::diagnose::class_paths::{
    EACH, STEP, field_of_variant, is_in_class, items_around,
};
use crate::decode::diagnose::fault::Fault;
use crate::decode::diagnose::form::Form;
use crate::decode::diagnose::inference::Inference;
use crate::decode::diagnose::visits::Visit;
use crate::value::key::under;

/// Assumptions that may turn out wrong.
#[derive(Clone, Default)]
pub(super) struct Assumptions {
    /// The forms of each class.
    pub(crate) forms: HashMap<String, Forms>,
    /// The forms of sites that differ from those of their class.
    pub(crate) exceptions: HashMap<String, Form>,
    /// The sites, with their forms, that a class got its forms from.
    pub(crate) evidence: HashMap<String, Vec<(String, Form)>>,
    /// The forms that a site had already.
    pub(crate) tried: HashSet<(String, Form)>,
    /// Whether the entries of a container have one type, by its class.
    pub(crate) entry_types: HashMap<String, EntryTypes>,
    /// The classes of tables that are read as lists.
    pub(crate) read_as_list: HashSet<String>,
    /// The name of the tag, by the class of its table.
    pub(crate) tags: HashMap<String, String>,
    /// The classes whose items are split by their signatures.
    pub(crate) split_classes: HashSet<String>,
    /// The forms that were put before the others of their class.
    pub(crate) promoted: HashSet<(String, Notation, Form)>,
}

/// A form of a class that was chosen from the rejections of several variants.
pub(crate) type Guess = (String, Notation, Form);

/// Whether the entries of a container have one type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum EntryTypes {
    /// As in a list or a map.
    Uniform,
    /// As in a tuple or a struct.
    Distinct,
}

impl Inference {
    /// Gives the items of a tuple forms of their own, instead of one for all. Items of which no form is known
    /// are read as they are written.
    pub(crate) fn separate_items(&mut self, list: &str, formed: &HashMap<String, Form>) {
        let each = format!("{list}{STEP}{EACH}");
        let assumptions = &mut self.assumptions;
        assumptions.tried.clear();
        let classes = assumptions
            .forms
            .keys()
            .filter(|class| class.starts_with(&each));
        for class in classes.cloned().collect::<Vec<_>>() {
            assumptions.forms.remove(&class);
            for (id, form) in assumptions.evidence.remove(&class).unwrap_or_default() {
                let form = formed.get(&id).copied().unwrap_or(form);
                assumptions.exceptions.insert(id, form);
            }
        }
    }

    /// Whether a value has another form already, which others of its class expect.
    pub(crate) fn conflicts(&self, visit: &Visit) -> bool {
        let has_forms = self.assumptions.forms.contains_key(&visit.class);
        (has_forms && visit.form.is_some()) || self.assumptions.exceptions.contains_key(&visit.id)
    }

    /// Gives a form to a value, and to the others of its class where none of them conflicts.
    pub(crate) fn set_form(&mut self, visit: &Visit, form: Form) {
        self.assumptions.tried.insert((visit.id.clone(), form));
        if form == Form::List {
            self.assumptions.read_as_list.insert(visit.class.clone());
        }
        if !self.conflicts(visit) {
            let class = || visit.class.clone();
            let assumptions = &mut self.assumptions;
            let forms = assumptions.forms.entry(class()).or_default();
            forms.add(visit.notation, &visit.earlier_forms, form);
            let evidence = assumptions.evidence.entry(class()).or_default();
            evidence.push((visit.id.clone(), form));
            return;
        }
        let is_split = self
            .assumptions
            .split_classes
            .iter()
            .any(|item| is_in_class(&visit.class, item));
        let promoted = (visit.class.clone(), visit.notation, form);
        if is_split && self.assumptions.promoted.insert(promoted) {
            self.exception_count += 1;
            // Other values may expect their form again.
            self.assumptions
                .tried
                .retain(|(id, _)| under(id, &visit.id));
            let forms = &mut self.assumptions.forms;
            let forms = forms.entry(visit.class.clone()).or_default();
            forms.promote(visit.notation, form);
        } else {
            self.set_exception(visit, form);
        }
    }

    /// Records that a form may not be needed.
    pub(crate) fn record_guess(&mut self, visit: &Visit, form: Form) {
        let guess = (visit.class.clone(), visit.notation, form);
        if form != Form::Plain && !self.guesses.contains(&guess) {
            self.guesses.push(guess);
        }
    }

    /// Removes a form of a class.
    pub(crate) fn remove_form(&mut self, (class, notation, form): &Guess) {
        if let Some(forms) = self.assumptions.forms.get_mut(class) {
            forms.remove(*notation, *form);
        }
    }

    /// Gives a value a form of its own.
    pub(crate) fn set_exception(&mut self, visit: &Visit, form: Form) {
        self.exception_count += 1;
        self.assumptions.tried.insert((visit.id.clone(), form));
        self.assumptions.exceptions.insert(visit.id.clone(), form);
    }

    /// Gives a value the form of its class again, if the type has rejected it as it is written: the value was not
    /// what kept the enum beside it from being read. Returns whether there is such a value.
    pub(super) fn restore_form(&mut self, fault: &Fault) -> bool {
        let (Some(rejection), Some(location)) = (&fault.0.rejection, &fault.0.location) else {
            return false;
        };
        let is_wrong = |visit: &Visit| {
            let is_plain = self.assumptions.exceptions.get(&visit.id) == Some(&Form::Plain);
            is_plain && visit.raw.form(rejection).is_some()
        };
        let mut rejected = self.all_rejected(rejection, &location.path).into_iter();
        let found = rejected.find(is_wrong);
        found.is_some_and(|visit| self.assumptions.exceptions.remove(&visit.id).is_some())
    }

    /// Splits the class of a value that expects another form than others of its class; returns whether
    /// there was a class to split.
    pub(crate) fn split(&mut self, visit: &Visit, form: Form) -> bool {
        let mut items = items_around(&visit.class);
        let field = field_of_variant(&visit.class);
        items.extend(
            field
                .filter(|(item, _)| self.assumptions.tags.contains_key(*item))
                .map(|(_, field)| field),
        );
        let is_split = items
            .iter()
            .any(|item| self.assumptions.split_classes.contains(*item));
        let promoted = (visit.class.clone(), visit.notation, form);
        if is_split && !self.assumptions.promoted.contains(&promoted) {
            return false;
        }
        let is_new = |item: &&&str| {
            !self.assumptions.split_classes.contains(**item)
                && !self.assumptions.tags.contains_key(**item)
        };
        let Some(item) = items
            .iter()
            .rev()
            .find(is_new)
            .map(|item| (*item).to_owned())
        else {
            return false;
        };
        self.exception_count += 1;
        self.forget_below(&item);
        self.assumptions.split_classes.insert(item);
        true
    }

    /// Forgets the forms of the items of a class.
    pub(super) fn forget_below(&mut self, item: &str) {
        self.assumptions
            .forms
            .retain(|class, _| !is_in_class(class, item));
        self.assumptions
            .evidence
            .retain(|class, _| !is_in_class(class, item));
        self.assumptions.tried.clear();
    }
}
