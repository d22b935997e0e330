//! What the rounds of a diagnosis know: which values are bad, and what replaces them.
//!
//! A bad value is replaced by a [`Placeholder`] in further passes. If the type rejects that too, it
//! gets another one; if none fits, the value is left out.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::decode::diagnose::budget::Budget;
use crate::decode::diagnose::buffered_placeholder::{BufferedPlaceholder, DURATION};
use crate::decode::diagnose::collect::Collected;
use crate::decode::diagnose::fault::{EMPTY_VARIABLE, Fault, WRONG_TYPE};
use crate::decode::diagnose::fault_search::ONE_VARIANT;
use crate::decode::diagnose::form::INTEGERS;
use crate::decode::diagnose::inference::Inference;
use crate::decode::diagnose::placeholder::{LEVELS, Placeholder};
use crate::decode::diagnose::rejection::{Rejection, Reported};
use crate::decode::diagnose::visits::below;
use crate::decode::diagnose::wording::is_serde_internal;
use crate::decode::input::Path;
use crate::decode::location::NULL_ITEM;
use crate::error::{Error, ErrorKind};
use crate::value::key::{Key, under};
use crate::value::units;

/// How many errors are reported: enough for a person to start with.
pub(super) const MAX_ERRORS: usize = 100;

/// The hint of a fault about a buffered value.
const BUFFERED_VALUE: &str = " (serde buffers this value)";

/// The hint where too many values of one class expect different forms.
const TOO_MANY: &str = " (too many values here want a conversion of their own; write numbers and booleans \
                        without quotes, or give the enum a tag)";

/// The hint of a fault about one of several buffered values.
fn buffered_below(path: &str) -> String {
    let of = if path.is_empty() {
        String::new()
    } else {
        format!(" of `{path}`")
    };
    format!(" (serde buffers the fields{of} and does not say which one it means)")
}

/// The state of a diagnosis. All paths are canonical keys.
#[derive(Default)]
pub(crate) struct Diagnosis {
    pub(crate) inference: Inference,
    pub(super) collected: Collected,
    pub(crate) budget: Budget,
    /// The placeholders that each buffered value has had, the present one last.
    buffered_placeholders: HashMap<String, Vec<BufferedPlaceholder>>,
    /// The types of missing fields.
    missing_types: HashMap<String, String>,
    /// The faults that were collected in a pass and not reported yet.
    unreported: Vec<Fault>,
    /// The paths of the placeholders that this pass has visited without knowing their types.
    pub(super) visited_placeholders: Vec<String>,
    /// The paths of the bad values, and which placeholder replaces each.
    bad_values: HashMap<String, usize>,
    /// The entries that are left out: those with bad names, and those that no placeholder fits.
    skipped: HashSet<String>,
    /// The missing fields of each struct.
    missing: HashMap<String, Vec<&'static str>>,
    /// The paths at and below which no round reads all values: those beside or below a value that no placeholder
    /// fits.
    pub(super) unread: BTreeSet<String>,
}

impl Diagnosis {
    /// A copy for passes whose results do not count.
    pub(crate) fn fork(&self) -> Self {
        Self {
            inference: self.inference.clone(),
            buffered_placeholders: self.buffered_placeholders.clone(),
            bad_values: self.bad_values.clone(),
            skipped: self.skipped.clone(),
            missing: self.missing.clone(),
            ..Self::default()
        }
    }

    /// As [`fork`](Self::fork), without placeholders at and around a path, and below it: the type reads what a
    /// trial puts there.
    pub(super) fn fork_for(&self, path: &str) -> Self {
        let mut fork = self.fork();
        let is_apart = |bad: &str| !under(bad, path) && !under(path, bad);
        fork.bad_values.retain(|bad, _| is_apart(bad));
        fork.skipped.retain(|skipped| is_apart(skipped));
        fork.missing.retain(|table, _| !under(table, path));
        fork
    }

    /// The level of the placeholder for a path, if the value there is bad.
    pub(crate) fn placeholder_level(&self, path: impl FnOnce() -> String) -> Option<usize> {
        if self.bad_values.is_empty() {
            return None;
        }
        self.bad_values.get(&path()).copied()
    }

    /// The present placeholder of a buffered value.
    pub(crate) fn buffered_placeholder(&self, path: &str) -> BufferedPlaceholder {
        let used = self.buffered_placeholders.get(path);
        used.and_then(|used| used.last())
            .copied()
            .unwrap_or_default()
    }

    /// Whether a placeholder replaces the value at a path.
    pub(super) fn is_bad(&self, path: &str) -> bool {
        self.bad_values.contains_key(path)
    }

    /// Whether an entry of a table is left out.
    pub(crate) fn is_skipped(&self, table: &str, name: &str) -> bool {
        !self.skipped.is_empty() && self.skipped.contains(&below(table, name))
    }

    /// The missing fields of the struct at a path.
    pub(crate) fn missing_at(&self, path: &str) -> Vec<&'static str> {
        self.missing.get(path).cloned().unwrap_or_default()
    }

    /// Adds a placeholder for a field that a table may lack, unless it has one.
    pub(super) fn add_field(&mut self, table: &str, field: &'static str) -> bool {
        let path = below(table, field);
        if self.bad_values.contains_key(&path) {
            return false;
        }
        let fields = self.missing.entry(table.to_owned()).or_default();
        fields.push(field);
        self.bad_values.insert(path, 0);
        true
    }

    /// Reverts [`add_field`](Self::add_field).
    pub(super) fn remove_field(&mut self, table: &str, field: &'static str) {
        if let Some(fields) = self.missing.get_mut(table) {
            fields.retain(|other| *other != field);
        }
        self.bad_values.remove(&below(table, field));
    }

    /// The placeholders beside and around a path that may be the invented tags of enums.
    pub(super) fn invented_tags(&self, path: &str) -> Vec<String> {
        let is_tag = |tag: &&String| {
            let is_name = matches!(self.buffered_placeholder(tag), BufferedPlaceholder::Name(_));
            is_name && *tag != path && parent(tag).is_some_and(|table| under(path, &table))
        };
        self.bad_values.keys().filter(is_tag).cloned().collect()
    }

    /// Changes the level of a placeholder.
    pub(super) fn set_level(&mut self, path: &str, level: impl FnOnce(usize) -> usize) {
        if let Some(present) = self.bad_values.get_mut(path) {
            *present = level(*present);
        }
    }

    /// Puts placeholders in the place of values that a type rejects alike.
    pub(super) fn add_placeholders(&mut self, paths: &[String], rejection: &Rejection) {
        let kind = match rejection.expected.as_str() {
            "a boolean" => BufferedPlaceholder::Simple(2),
            _ => BufferedPlaceholder::Number,
        };
        for path in paths {
            self.bad_values.insert(path.clone(), 0);
            self.buffered_placeholders.insert(path.clone(), vec![kind]);
        }
    }

    /// Reverts [`add_placeholders`](Self::add_placeholders).
    pub(super) fn remove_placeholders(&mut self, paths: &[String]) {
        for path in paths {
            self.bad_values.remove(path);
            self.buffered_placeholders.remove(path);
        }
    }

    /// Records the type of a missing field.
    pub(crate) fn record_missing_type(&mut self, path: &str, expected: impl FnOnce() -> String) {
        if self.is_missing(path) && !self.missing_types.contains_key(path) {
            self.missing_types.insert(path.to_owned(), expected());
        }
    }

    /// Adds the type of the field to the error of a missing field.
    pub(super) fn add_missing_type(&self, error: Error) -> Error {
        let expected = error.key_text().and_then(|key| self.missing_types.get(key));
        let expected = expected.filter(|expected| !is_serde_internal(expected));
        match expected {
            Some(expected) if error.kind() == ErrorKind::NotFound && error.expected().is_none() => {
                error.with_expected(expected.as_str())
            }
            _ => error,
        }
    }

    /// Whether the search for errors has cost enough.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.inference.reporting && self.budget.is_spent()
    }

    /// Whether a path is that of a missing field.
    pub(crate) fn is_missing(&self, path: &str) -> bool {
        let mut missing = self.missing.iter();
        missing.any(|(table, names)| names.iter().any(|name| below(table, name) == path))
    }

    /// Forgets the visits of the last pass.
    pub(super) fn start_pass(&mut self) {
        self.inference.start_pass();
        self.visited_placeholders.clear();
    }

    /// A placeholder for a bad value, if its fault can be collected in this pass; otherwise the fault.
    pub(super) fn collect(&mut self, path: &Path<'_>, fault: Fault) -> Result<Placeholder, Fault> {
        // A pass that tests something needs the fault as its result.
        let inference = &self.inference;
        let is_test = inference.probing.is_some()
            || !inference.markers.is_empty()
            || !inference.omitted.is_empty();
        if !inference.reporting || is_test || fault.0.complete.is_some() {
            return Err(fault);
        }
        if !self.collected.may_collect(path, &fault) || self.unreported.len() >= MAX_ERRORS {
            return Err(fault);
        }
        self.collect_fault(fault);
        Ok(Placeholder::new(0))
    }

    /// Collects a fault, and puts a placeholder in the place of its value from now on.
    pub(crate) fn collect_fault(&mut self, fault: Fault) {
        let path = fault
            .0
            .location
            .as_ref()
            .map(|location| location.path.clone());
        if let Some(path) = path {
            if self.bad_values.insert(path, 0).is_none() {
                self.unreported.push(fault);
            }
        }
    }

    /// Takes the faults that were collected in the last pass.
    pub(super) fn take_collected(&mut self) -> Vec<Fault> {
        std::mem::take(&mut self.unreported)
    }

    /// Adds what is known of the buffered value that a fault is about: a hint, a type, a remedy.
    pub(super) fn refine(&self, fault: &mut Fault) {
        let may_be_buffered = fault.may_be_buffered();
        let inner = &mut *fault.0;
        let Some(location) = &mut inner.location else {
            return;
        };
        if !may_be_buffered || !self.inference.buffers_below(&location.path) {
            return;
        }
        let is_null = self.inference.is_null(&location.path);
        let is_value = location.description.is_some() && self.inference.is_value(&location.path);
        inner.hint = if is_null || is_value {
            BUFFERED_VALUE.into()
        } else {
            buffered_below(&location.path).into()
        };
        if self.inference.is_exhausted() {
            inner.hint += TOO_MANY;
        }
        if is_null {
            inner.kind = ErrorKind::NotFound;
            inner.detail = NULL_ITEM.to_owned();
            inner.custom = false;
        }
        if let Some(visit) = self.inference.value_at(&location.path) {
            if let (None, Reported::Text(text)) = (&inner.expected, &visit.reported) {
                let is_size = units::byte_size(text).err() == Some(inner.detail.as_str());
                inner.expected = is_size.then(|| "ByteSize".to_owned());
                if is_size && visit.is_boolean() {
                    inner.detail = WRONG_TYPE.to_owned();
                    inner.custom = false;
                }
            }
            let is_short =
                |expected: &str| INTEGERS.contains(&expected) && !expected.ends_with("128");
            if visit.is_long_integer() && inner.expected.as_deref().is_some_and(is_short) {
                inner.detail = "out of range".to_owned();
            }
            let is_blank =
                matches!(&visit.reported, Reported::Text(text) if text.trim().is_empty());
            if is_blank && location.is_variable {
                inner.detail = EMPTY_VARIABLE.to_owned();
                inner.custom = false;
            } else if inner.expected.as_deref() == Some(DURATION) {
                let remedy = match &visit.reported {
                    Reported::Text(text) => units::duration(text).err(),
                    _ => Some(units::NO_UNIT),
                };
                inner.detail = remedy.map_or(std::mem::take(&mut inner.detail), str::to_owned);
            }
        }
        if location.origin.is_none() {
            location.origin = self.inference.origin_below(&location.path);
        }
    }

    /// Reports a fault, and makes the next round get past it; returns whether another round may find more.
    pub(super) fn work_around(
        &mut self,
        fault: Fault,
        errors: &mut Vec<Error>,
        root: &str,
    ) -> bool {
        let Some(location) = &fault.0.location else {
            errors.push(fault.into_error(root));
            return false;
        };
        let path = location.path.clone();
        if path == root {
            return self.work_around_root(fault, errors, root);
        }
        if self.add_field_of_placeholder(&fault, &path) {
            return true;
        }
        // The fault is inside of a placeholder, so another one may fit.
        let bad = self.bad_values.keys().filter(|bad| under(&path, bad));
        if let Some(bad) = bad.max_by_key(|bad| bad.len()).cloned() {
            return self.next_placeholder(&bad, &fault) || self.give_up(&bad, root);
        }
        // As above, if serde has buffered the placeholder.
        if self.replace_placeholder(&fault) {
            return true;
        }
        if location.is_name || fault.0.unknown_field.is_some() {
            if !self.skipped.insert(path.clone()) {
                return self.give_up(&path, root);
            }
            if !fault.0.is_consequence {
                errors.push(fault.into_error(root));
            }
            return true;
        }
        if let Some(field) = fault.0.missing_field {
            // A value that no placeholder fits was left out, and has an error of its own.
            if self.skipped.contains(&path) {
                return self.give_up(&path, root);
            }
            if let Some(parent) = parent(&path) {
                self.missing.entry(parent).or_default().push(field);
            }
        }
        let is_consequence = fault.0.is_consequence || self.is_consequence(&fault, &path);
        if !fault.0.is_consequence && is_consequence && self.may_hide_others(&fault, &path) {
            self.unread.insert(path.clone());
        }
        self.collected.record_reported(&path);
        self.bad_values.insert(path.clone(), 0);
        self.choose_buffered(&path, &fault);
        if !is_consequence {
            errors.push(fault.into_error(root));
        }
        true
    }

    /// As [`work_around`](Self::work_around) for a fault of the whole value, which no placeholder can replace.
    fn work_around_root(&mut self, fault: Fault, errors: &mut Vec<Error>, root: &str) -> bool {
        if errors.is_empty() {
            errors.push(fault.into_error(root));
            return false;
        }
        if self.replace_placeholder(&fault) {
            return true;
        }
        if !self.is_consequence(&fault, root) {
            errors.push(fault.into_error(root));
        } else if self.may_hide_others(&fault, root) {
            self.unread.insert(root.to_owned());
        }
        false
    }

    /// Adds a field that a placeholder lacks; returns whether the fault is about one.
    fn add_field_of_placeholder(&mut self, fault: &Fault, path: &str) -> bool {
        let (Some(field), Some(table)) = (fault.0.missing_field, parent(path)) else {
            return false;
        };
        let is_placeholder = self.bad_values.contains_key(&table)
            && self.buffered_placeholder(&table) == BufferedPlaceholder::Table;
        is_placeholder && self.add_field(&table, field)
    }

    /// Chooses the placeholder that the type of a buffered value accepts according to its fault; returns
    /// whether it is a new one.
    fn choose_buffered(&mut self, path: &str, fault: &Fault) -> bool {
        let is_text = || {
            let visit = self.inference.value_at(path);
            fault.0.custom && visit.is_some_and(|visit| matches!(visit.reported, Reported::Text(_)))
        };
        let present = self
            .buffered_placeholders
            .get(path)
            .and_then(|used| used.last());
        let next = BufferedPlaceholder::accepted_by(fault, present.copied());
        let next = next.or_else(|| is_text().then_some(BufferedPlaceholder::Text));
        let Some(next) = next else {
            return false;
        };
        let used = self
            .buffered_placeholders
            .entry(path.to_owned())
            .or_default();
        if used.contains(&next) {
            return false;
        }
        used.push(next);
        for name in next.names() {
            self.bad_values.insert(below(path, &name), 0);
        }
        true
    }

    /// Replaces the placeholder of a bad value by the next one; returns whether there is one.
    fn next_placeholder(&mut self, path: &str, fault: &Fault) -> bool {
        let is_buffered = self
            .visited_placeholders
            .iter()
            .any(|visited| visited == path);
        if is_buffered && self.choose_buffered(path, fault) {
            self.bad_values.insert(path.to_owned(), 0);
            return true;
        }
        let level = self.bad_values.entry(path.to_owned()).or_default();
        *level += 1;
        *level < LEVELS
    }

    /// Replaces the placeholder of a bad value that serde buffers by the next one, if the fault may be
    /// about it; returns whether there is one.
    pub(super) fn replace_placeholder(&mut self, fault: &Fault) -> bool {
        let Some(location) = &fault.0.location else {
            return false;
        };
        let is_of_value = fault.0.rejection.is_some() || fault.0.custom;
        let may_be = |path: &&String| {
            let level = self.bad_values.get(*path).copied();
            let level = level.filter(|_| is_of_value && under(path, &location.path));
            level.is_some_and(|level| {
                let reported = self.buffered_placeholder(path).reported(level);
                let rejection = fault.0.rejection.as_ref();
                let is_it = rejection
                    .is_none_or(|it| it.reported == reported || it.reported == Reported::Other);
                is_it && level + 1 < LEVELS
            })
        };
        let path = self.visited_placeholders.iter().find(may_be).cloned();
        path.is_some_and(|path| self.next_placeholder(&path, fault))
    }

    /// Whether a fault may be due to the placeholders below its path. They add no field and no spelling.
    fn is_consequence(&self, fault: &Fault, path: &str) -> bool {
        let below = |bad: &String| bad != path && under(bad, path);
        // An enum without its bad variant has none.
        let is_variant = fault.0.expected.as_deref() == Some(ONE_VARIANT);
        let is_of_names = fault.0.missing_field.is_some() || fault.0.are_spellings;
        (!is_of_names && self.bad_values.keys().any(below))
            || (is_variant && self.skipped.iter().any(below))
    }

    /// Whether the fault of a placeholder may hide those of values that serde reads later. A type that has too few
    /// or too many items, or no variant, has read all of them.
    fn may_hide_others(&self, fault: &Fault, path: &str) -> bool {
        let is_read = fault.0.length.is_some() || fault.0.expected.as_deref() == Some(ONE_VARIANT);
        !is_read && self.inference.buffers_below(path)
    }

    /// Leaves out a value that no placeholder fits, so that the others of its table are read. If it is
    /// left out already, replaces the whole table.
    fn give_up(&mut self, path: &str, root: &str) -> bool {
        if self.skipped.insert(path.to_owned()) {
            return true;
        }
        let above = parent(path).filter(|above| under(above, root) && above != root);
        self.unread
            .insert(above.as_deref().unwrap_or(root).to_owned());
        let Some(parent) = above else {
            return false;
        };
        if self.bad_values.contains_key(&parent) {
            return self.give_up(&parent, root);
        }
        self.bad_values.insert(parent, 0);
        true
    }
}

/// The path of the container around a path.
pub(super) fn parent(path: &str) -> Option<String> {
    let key = Key::parse(path).ok()?;
    key.lineage().nth(1).map(str::to_owned)
}
