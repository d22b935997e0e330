//! Hides what a failed read has not read, if it may be a secret.
//!
//! The passes over a value find the secrets that the type reads. They do not find those in and below a bad
//! value, nor those that the type has not come to. So where the type may read a secret, see
//! [`secret_paths`](crate::decode::diagnose::secret_paths) and
//! [`secret_sites`](crate::decode::diagnose::secret_sites), everything that is not known to be plain is hidden:
//!
//! - A bad value, unless its type accepts neither a table nor a list. A *trial* finds that out: a pass with
//!   another value in its place.
//! - The values of an enum whose variant is not known or cannot be read, except those that a variant reads as
//!   scalars and none as a secret.
//! - What the passes have not come to: all values that serde may have buffered there.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use crate::decode::diagnose::diagnosis::{Diagnosis, parent};
use crate::decode::diagnose::fault::{Fault, Location};
use crate::decode::diagnose::inference::Inference;
use crate::decode::diagnose::input_paths::{
    add_matching, items_at, list_of, names_below, values_below, values_of_items,
};
use crate::decode::diagnose::rejection::Reported;
use crate::decode::diagnose::target::Target;
use crate::decode::diagnose::trial::{self, TrialResult, entry, is_scalar, probe_value};
use crate::decode::diagnose::type_secrets::{
    MAX_NAMES, Question, holds_secret, keep_plain, known_plain, names_at, secret_below,
    secret_paths,
};
use crate::decode::diagnose::visits::below;
use crate::decode::request::Request;
use crate::error::ErrorKind;
use crate::value::Value;
use crate::value::key;
use crate::value::secret::buffered;
use crate::value::table::Table;

/// How many trials one request runs.
const MAX_TRIALS: usize = 200;

/// What serde expects as the content of a variant without content.
const UNIT: &str = "unit";

/// The trials of one request.
pub(crate) struct SecretTrials {
    count: Cell<usize>,
    /// The paths of values that were not read and are no secrets.
    plain: RefCell<BTreeSet<String>>,
}

impl SecretTrials {
    pub(crate) fn new() -> Self {
        Self {
            count: Cell::new(0),
            plain: RefCell::default(),
        }
    }

    fn may_run(&self, diagnosis: &RefCell<Diagnosis>) -> bool {
        self.count.get() < MAX_TRIALS && !diagnosis.borrow().budget.is_spent()
    }

    /// Masks the fault of a value that may be a secret, and records the keys of the values that the type has not
    /// read because of it.
    pub(crate) fn mask(
        &self,
        target: &dyn Target,
        request: Request<'_>,
        diagnosis: &RefCell<Diagnosis>,
        fault: &mut Fault,
    ) {
        let unread = unread_enum(fault, &diagnosis.borrow().inference);
        if let Some((table, tag)) = unread {
            let values = values_below(request, &table);
            if values.is_empty() || is_item(fault) {
                return self.mask_whole(target, request, diagnosis, fault, &table);
            }
            return self.record_unread(target, request, diagnosis, &table, tag.as_deref());
        }
        if let Some(table) = unread_table(fault) {
            let values = values_below(request, table);
            if !values.is_empty() {
                return self.record_all(target, request, table, values);
            }
        }
        let Some(location) = fault.0.location.as_ref() else {
            return;
        };
        let path = location.path.clone();
        if location.is_name {
            let values = values_below(request, &path).into_iter();
            self.record_all(
                target,
                request,
                &path,
                values.chain([path.clone()]).collect(),
            );
        } else if may_replace_table(fault, location) {
            self.mask_whole(target, request, diagnosis, fault, &path);
        }
    }

    /// Masks the fault if the type reads a secret below a path, and records the path as secret as long as it is
    /// no table.
    fn mask_whole(
        &self,
        target: &dyn Target,
        request: Request<'_>,
        diagnosis: &RefCell<Diagnosis>,
        fault: &mut Fault,
        path: &str,
    ) {
        let Some(below) = secret_below(target, request, path) else {
            return;
        };
        let is_guess = below == buffered::unnamed_below(path);
        let expected = fault.0.expected.as_deref().unwrap_or_default();
        let question = question(target, request, path, expected);
        if is_guess && self.accepts_only_scalars(target, request, diagnosis, path, question) {
            return;
        }
        if is_guess && self.has_only_names(target, request, diagnosis, path, fault) {
            return;
        }
        if let Some(location) = &mut fault.0.location {
            location.masked = true;
        }
        request.record_secret(below);
        // Of a list no item is known to be plain.
        request.record_secret(buffered::unnamed_below(path));
        // The type may not have come to the items beside it.
        if let Some(list) = list_of(request, path) {
            let items = values_below(request, list).into_iter();
            let items = items.filter(|item| key::parent(item) == list);
            items.for_each(|item| request.record_secret(buffered::unnamed_below(&item)));
        }
    }

    /// Records all values below a table, if the type may read a secret there: it has not come to it.
    fn record_all(
        &self,
        target: &dyn Target,
        request: Request<'_>,
        table: &str,
        values: Vec<String>,
    ) {
        if request.secret_keys.is_some() && secret_below(target, request, table).is_some() {
            record(request, values);
        }
    }

    /// Records the values of a tagged or untagged enum that cannot be read, and of the other items if it is in a
    /// list: the type may not have come to them.
    fn record_unread(
        &self,
        target: &dyn Target,
        request: Request<'_>,
        diagnosis: &RefCell<Diagnosis>,
        table: &str,
        tag: Option<&str>,
    ) {
        if request.secret_keys.is_none() || secret_below(target, request, table).is_none() {
            return;
        }
        let trial_diagnosis = RefCell::new(diagnosis.borrow().fork_for(table));
        let run_trial = |entries: Vec<Entry>| {
            let value = Value::Table(Table::from_fields(entries));
            self.run_trial(target, request, &trial_diagnosis, table, &value)
        };
        let asked = tag.and_then(|tag| run_trial(vec![entry(tag, probe_value())]));
        let variants = asked.iter().flat_map(|asked| &asked.variants);
        let of_variant = |variant: &&'static str| Some(entry(tag?, Value::from(*variant)));
        let mut tags: Vec<TagEntry> = variants.map(of_variant).collect();
        if tags.is_empty() {
            // No tag is missing or unknown.
            tags.push(None);
        }
        let tag_path = tag.map(|tag| below(table, tag));
        for (item, path) in values_of_items(request, table) {
            let run_with = |value: Value, tag: &TagEntry| {
                let mut entries = entries_to(request, &item, &path, value);
                entries.extend(tag.clone());
                run_trial(entries)
            };
            let question = question(target, request, &path, tag.unwrap_or_default());
            if tag_path.as_ref() == Some(&path) || is_plain(&path, &tags, &run_with, question) {
                self.plain.borrow_mut().insert(path);
            } else {
                request.record_secret(path);
            }
        }
    }

    /// Runs a trial, unless the trials have cost enough.
    fn run_trial(
        &self,
        target: &dyn Target,
        request: Request<'_>,
        diagnosis: &RefCell<Diagnosis>,
        path: &str,
        value: &Value,
    ) -> Option<TrialResult> {
        if !self.may_run(diagnosis) {
            return None;
        }
        self.count.set(self.count.get() + 1);
        Some(trial::run(target, request, diagnosis, path, value))
    }

    /// Whether a fault is about an enum whose variants have no content.
    fn has_only_names(
        &self,
        target: &dyn Target,
        request: Request<'_>,
        diagnosis: &RefCell<Diagnosis>,
        path: &str,
        fault: &Fault,
    ) -> bool {
        let rejection = fault.0.rejection.as_ref();
        let variants = rejection.and_then(|rejection| rejection.variants);
        let diagnosis = RefCell::new(diagnosis.borrow().fork_for(path));
        let mut is_unit = |variant: &&str| {
            let value = Value::Table([entry(variant, probe_value())].into());
            let trial = self.run_trial(target, request, &diagnosis, path, &value);
            trial
                .is_some_and(|trial| !trial.reads_secret && trial.expected.as_deref() == Some(UNIT))
        };
        variants.is_some_and(|variants| variants.iter().all(&mut is_unit))
    }

    /// Whether the type accepts neither a table nor a list in the place of a value.
    fn accepts_only_scalars(
        &self,
        target: &dyn Target,
        request: Request<'_>,
        diagnosis: &RefCell<Diagnosis>,
        path: &str,
        question: Question,
    ) -> bool {
        if known_plain(&question) == Some(false) {
            return false;
        }
        let diagnosis = RefCell::new(diagnosis.borrow().fork_for(path));
        let run = |value: Value| self.run_trial(target, request, &diagnosis, path, &value);
        let table = run(Value::from(Table::new()));
        let list = run(Value::from(Vec::<Value>::new()));
        let (Some(table), Some(list)) = (table, list) else {
            return false;
        };
        if !table.failed || !list.failed {
            // The value of a trial that succeeds is leaked, so there is one such trial only.
            keep_plain(question, false);
            return false;
        }
        let is_read = |trial: &TrialResult| !trial.fields.is_empty() || !trial.variants.is_empty();
        !is_read(&table) && !is_read(&list) && reject_alike(&table, &list)
    }

    /// Records the values that serde may have buffered, at and below the paths at which the type has not read all
    /// values.
    pub(crate) fn record_unread_values(
        &self,
        target: &dyn Target,
        request: Request<'_>,
        unread: &BTreeSet<String>,
    ) {
        if request.secret_keys.is_none() || unread.is_empty() {
            return;
        }
        for (site, kind) in &secret_paths(target).sites {
            let mut found = Vec::new();
            add_matching(request.input, request.key, site, &mut found);
            // What is unread is in the site, or the site is in what is unread.
            let unread_at = |path: &String| {
                let inside = unread.iter().find(|unread| key::under(unread, path));
                inside
                    .or_else(|| {
                        unread
                            .iter()
                            .any(|unread| key::under(path, unread))
                            .then_some(path)
                    })
                    .cloned()
            };
            let found: Vec<String> = found.iter().filter_map(unread_at).collect();
            let names = || {
                let names = found.iter().flat_map(|path| names_at(request, path, site));
                names.take(MAX_NAMES).collect()
            };
            if !found.is_empty() && holds_secret(target, site, *kind, &names) {
                found
                    .iter()
                    .for_each(|path| self.record_values(request, path));
            }
        }
    }

    /// Records the values below a path that are not known to be plain, or the value there if it is no table.
    fn record_values(&self, request: Request<'_>, path: &str) {
        let mut values = values_below(request, path);
        if values.is_empty() {
            request.record_secret(buffered::unnamed_below(path));
        }
        values.retain(|path| !self.plain.borrow().contains(path));
        record(request, values);
    }

    /// Records the values that the type is known to read as secrets, if it has come to them or not.
    pub(crate) fn record_known(&self, target: &dyn Target, request: Request<'_>) {
        if request.secret_keys.is_none() {
            return;
        }
        let mut found = Vec::new();
        for secret in &secret_paths(target).secrets {
            add_matching(request.input, request.key, secret, &mut found);
        }
        found
            .into_iter()
            .for_each(|path| request.record_secret(path));
    }
}

fn record(request: Request<'_>, paths: Vec<String>) {
    paths
        .into_iter()
        .for_each(|path| request.record_secret(path));
}

/// Whether a type has rejected a table and a list for the same reason. Other values may be rejected too, but alike in
/// both trials.
fn reject_alike(table: &TrialResult, list: &TrialResult) -> bool {
    let rejected = |by: &TrialResult, other: &TrialResult, reported: &Reported| {
        let mut own = by.expected_for(reported);
        for expected in other.expected_for(reported) {
            if let Some(at) = own.iter().position(|own| *own == expected) {
                own.remove(at);
            }
        }
        let own = own.into_iter().map(str::to_owned);
        own.collect::<BTreeSet<String>>()
    };
    let as_table = rejected(table, list, &Reported::Map);
    !as_table.is_empty() && as_table == rejected(list, table, &Reported::Seq)
}

/// The question whether the value at a path is plain.
fn question(target: &dyn Target, request: Request<'_>, path: &str, about: &str) -> Question {
    let names = names_below(request.key, path);
    (target.identity(), names, about.to_owned())
}

/// The name and the value of an entry.
type Entry = (Box<str>, Value);

/// The tag of an enum, if it has one.
type TagEntry = Option<Entry>;

/// Whether an enum accepts only scalars for a value in one of its variants, and reads it as a secret in none.
fn is_plain(
    path: &str,
    tags: &[TagEntry],
    run_with: &dyn Fn(Value, &TagEntry) -> Option<TrialResult>,
    question: Question,
) -> bool {
    if let Some(known) = known_plain(&question) {
        return known;
    }
    let (mut is_plain, mut reads_secret, mut is_leaked) = (false, false, false);
    for tag in tags {
        let probe = run_with(probe_value(), tag);
        let table = run_with(Value::from(Table::new()), tag);
        let list = run_with(Value::from(Vec::<Value>::new()), tag);
        let (Some(probe), Some(table), Some(list)) = (probe, table, list) else {
            return false;
        };
        let trials = [&probe, &table, &list];
        reads_secret |= trials.iter().any(|trial| trial.reads_secret);
        is_leaked |= trials.iter().any(|trial| !trial.failed);
        is_plain |= probe.is_scalar || reject_alike(&table, &list);
        is_plain |= table.wants_scalar(path) && list.wants_scalar(path);
    }
    let is_plain = is_plain && !reads_secret;
    if is_plain || reads_secret || is_leaked {
        keep_plain(question, is_plain);
    }
    is_plain
}

/// The entries of a table that has only the value at a path below it. In a list, the items before it stay: those of
/// a tuple have types of their own.
fn entries_to(request: Request<'_>, table: &str, path: &str, value: Value) -> Vec<Entry> {
    let names = names_below(table, path);
    let Some((first, rest)) = names.split_first() else {
        return Vec::new();
    };
    let mut above = vec![below(table, first)];
    for name in rest {
        above.push(below(&above[above.len() - 1], name));
    }
    let value = rest.iter().zip(&above).rfold(value, |inner, (name, list)| {
        let Some(at) = key::list_index(name) else {
            return Value::Table([entry(name, inner)].into());
        };
        let mut items = items_at(request, list);
        items.truncate(at);
        items.push(inner);
        Value::from(items)
    });
    vec![entry(first, value)]
}

/// The table of an enum whose variant is not known or cannot be read, and the name of its tag.
fn unread_enum(fault: &Fault, inference: &Inference) -> Option<(String, Option<String>)> {
    let path = &fault.0.location.as_ref()?.path;
    if let Some(tag) = fault.0.missing_field {
        // serde asks for the tag of a table that it has buffered.
        let table = parent(path).unwrap_or_default();
        let is_buffered = inference.buffered_at(&table).is_some();
        let tag = inference.tag_in(&table).unwrap_or_else(|| tag.to_owned());
        return is_buffered.then_some((table, Some(tag)));
    }
    if has_unknown_variant(fault) {
        let (table, tag) = inference.tag_at(path)?;
        return Some((table, Some(tag)));
    }
    let is_buffered = fault.0.custom && inference.buffers_below(path);
    is_buffered.then(|| (path.clone(), None))
}

/// The table whose values the type has not read: its name is not that of a variant, or the type expects no table.
fn unread_table(fault: &Fault) -> Option<&str> {
    let location = fault.0.location.as_ref()?;
    let is_table = location.description.as_deref().is_some_and(is_table);
    let is_mismatch = fault.0.kind == ErrorKind::Mismatch && !fault.0.custom;
    let expects_other = is_table && is_mismatch && !expects_scalar(fault);
    (has_unknown_variant(fault) || expects_other).then_some(&location.path)
}

/// Whether a fault is about the first item of a list, which serde reads as the tag of an enum.
fn is_item(fault: &Fault) -> bool {
    let path = fault.0.location.as_ref().map(|location| &*location.path);
    has_unknown_variant(fault) && path.is_some_and(|path| path.ends_with(".0"))
}

fn has_unknown_variant(fault: &Fault) -> bool {
    let rejection = fault.0.rejection.as_ref();
    rejection.is_some_and(|rejection| rejection.variants.is_some())
}

/// Whether a fault may be about a value in the place of a table.
fn may_replace_table(fault: &Fault, location: &Location) -> bool {
    !location.masked
        && !location.is_name
        && fault.0.complete.is_none()
        && fault.0.missing_field.is_none()
        && fault.0.unknown_field.is_none()
        && location
            .description
            .as_deref()
            .is_some_and(|found| !is_table(found))
        && !expects_scalar(fault)
}

/// Whether the description of a value is that of a table.
fn is_table(description: &str) -> bool {
    description.starts_with("table of")
}

fn expects_scalar(fault: &Fault) -> bool {
    let expected = fault.0.expected.as_deref().unwrap_or_default();
    is_scalar(expected)
}
