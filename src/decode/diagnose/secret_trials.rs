//! Finds out whether a bad value may be a secret: a text in the place of a struct that holds one.
//!
//! A type shows its secret fields if serde does not buffer it, see
//! [`secret_paths`](crate::decode::diagnose::secret_paths). What serde buffers shows only while it is read.
//! So a *trial* runs a pass with a table in the place of the value. The table has one entry, whose value is
//! the probe. Trials end when a secret reads the probe, or when no table is left. The names of the entries
//! are those that the type asks for, the numbers of fields, which a derived `Deserialize` accepts in place
//! of names, and common names of secrets. An optional field that serde flattens is not found if it has
//! another name.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::Hash;
use std::rc::Rc;
use std::thread::LocalKey;

use crate::decode::diagnose::diagnosis::{Diagnosis, parent};
use crate::decode::diagnose::fault::{Fault, Location};
use crate::decode::diagnose::inference::Inference;
use crate::decode::diagnose::input_paths::{
    add_matching, list_of, names_below, values_below, values_of_items,
};
use crate::decode::diagnose::passes;
use crate::decode::diagnose::secret_paths::TypePath;
use crate::decode::diagnose::target::{Target, TypeOf};
use crate::decode::diagnose::trial::{self, SCALARS, TrialTable, entry, probe_value};
use crate::decode::request::Request;
use crate::error::ErrorKind;
use crate::value::Value;
use crate::value::key;
use crate::value::secret::buffered;

/// How many trials one request runs.
const MAX_TRIALS: usize = 200;

/// In place of what a type expects: the question whether an entry of an enum is a secret.
const UNREAD: &str = "\u{1}unread";

/// How many answers a thread keeps.
const MAX_MEMOIZED: usize = 1_000;

/// A type, a path inside it without indexes, and what the type expects there.
type Question = (TypeOf, Vec<String>, Option<String>);

/// A question, and the paths without indexes at which placeholders may have kept the type from a secret.
type Trial = (Question, BTreeSet<String>);

thread_local! {
    /// Whether trials have found a secret. A type that fails again costs no further trials.
    static SECRET_BELOW: RefCell<HashMap<Trial, bool>> = RefCell::default();
    /// The secret paths of types, as far as serde does not buffer them.
    static SECRET_PATHS: RefCell<HashMap<TypeOf, Rc<BTreeSet<TypePath>>>> = RefCell::default();
}

/// The trials of one request.
pub(crate) struct SecretTrials {
    count: Cell<usize>,
    /// Whether the type is known to read a secret somewhere.
    has_secret: Cell<bool>,
}

impl SecretTrials {
    pub(crate) fn new() -> Self {
        Self {
            count: Cell::new(0),
            has_secret: Cell::new(false),
        }
    }

    /// The answer to a question, by trials if it is not known. Without a trial left, a type that reads a secret
    /// somewhere may read one here.
    fn answer(
        &self,
        question: Question,
        diagnosis: &RefCell<Diagnosis>,
        ask: impl FnOnce() -> bool,
    ) -> bool {
        let replaced = diagnosis.borrow().replaced_paths();
        let is_secret = memoized(&SECRET_BELOW, (question, replaced), || {
            let is_secret = ask();
            (is_secret, is_secret || !self.is_spent())
        });
        if is_secret {
            self.has_secret.set(true);
        }
        is_secret || (self.is_spent() && self.has_secret.get())
    }

    fn is_spent(&self) -> bool {
        self.count.get() >= MAX_TRIALS
    }

    /// Masks the fault of a value in the place of a table with a secret, and records the keys of the values that
    /// the type has not read because of it.
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
            self.record_values(target, request, diagnosis, &table, tag.as_deref());
        }
        if let Some(table) = unread_table(fault) {
            let values = values_below(request, table);
            if !values.is_empty() {
                return self.record_all(target, request, diagnosis, fault, table, values);
            }
        }
        match fault.0.location.as_ref() {
            Some(location) if may_replace_table(fault, location) => {
                let path = location.path.clone();
                self.mask_whole(target, request, diagnosis, fault, &path);
            }
            _ => self.record_untagged(target, request, diagnosis, fault),
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
        let Some(below) = self.secret_below(target, request, diagnosis, fault, path) else {
            return;
        };
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

    /// Records all values below a table, if the type reads a secret there: it has not come to it.
    fn record_all(
        &self,
        target: &dyn Target,
        request: Request<'_>,
        diagnosis: &RefCell<Diagnosis>,
        fault: &Fault,
        table: &str,
        values: Vec<String>,
    ) {
        let holds_secret = request.secret_keys.is_some()
            && self
                .secret_below(target, request, diagnosis, fault, table)
                .is_some();
        if holds_secret {
            values
                .into_iter()
                .for_each(|path| request.record_secret(path));
        }
    }

    /// Does the same for the values below an untagged enum whose variants all failed, without masking.
    fn record_untagged(
        &self,
        target: &dyn Target,
        request: Request<'_>,
        diagnosis: &RefCell<Diagnosis>,
        fault: &Fault,
    ) {
        let Some(location) = fault.0.location.as_ref().filter(|_| fault.0.custom) else {
            return;
        };
        if !diagnosis.borrow().inference.buffers_below(&location.path) {
            return;
        }
        let diagnosis = RefCell::new(diagnosis.borrow().fork());
        let (_, log) = passes::run_discarding(target, request, &diagnosis);
        for rejection in log
            .iter()
            .filter(|rejection| !SCALARS.contains(&&*rejection.expected))
        {
            let path = diagnosis
                .borrow()
                .inference
                .only_rejected(rejection, &location.path)
                .map(|visit| visit.path.clone());
            let below =
                path.and_then(|path| self.secret_below(target, request, &diagnosis, fault, &path));
            if let Some(below) = below {
                request.record_secret(below);
            }
        }
    }

    /// Records the secrets of a tagged or untagged enum that cannot be read, and of the other items if it is in a
    /// list: the type may not have come to them. Each of their values is replaced by the probe, in each variant.
    fn record_values(
        &self,
        target: &dyn Target,
        request: Request<'_>,
        diagnosis: &RefCell<Diagnosis>,
        table: &str,
        tag: Option<&str>,
    ) {
        if request.secret_keys.is_none() {
            return;
        }
        let trial_diagnosis = RefCell::new(diagnosis.borrow().fork_for(table));
        let run_trial = |entries: BTreeMap<Box<str>, Value>| {
            self.count.set(self.count.get() + 1);
            let value = Value::from(entries);
            trial::run(target, request, &trial_diagnosis, table, &value)
        };
        let tags: Vec<Option<(Box<str>, Value)>> = match tag {
            Some(tag) => {
                let asked = run_trial(BTreeMap::from([entry(tag, probe_value())]));
                let tags = asked.variants.iter();
                tags.map(|variant| Some(entry(tag, Value::from(*variant))))
                    .collect()
            }
            None => vec![None],
        };
        for (item, path) in values_of_items(request, table) {
            let names = names_below(request.key, &path);
            let names = names.iter().map(|name| without_index(name).to_owned());
            let unread = format!("{UNREAD} {}", tag.unwrap_or_default());
            let question = (target.identity(), names.collect(), Some(unread));
            let is_secret = self.answer(question, diagnosis, || {
                tags.iter().any(|tag| {
                    let mut entries = entries_to(&item, &path, probe_value());
                    entries.extend(tag.clone());
                    !self.is_spent() && run_trial(entries).reads_secret
                })
            });
            if is_secret {
                request.record_secret(path);
            }
        }
    }

    /// Records the values that the type is known to read as secrets, if it has come to them or not.
    pub(crate) fn record_known(&self, target: &dyn Target, request: Request<'_>) {
        if request.secret_keys.is_none() {
            return;
        }
        let mut found = Vec::new();
        for secret in self.secret_paths(target).iter() {
            add_matching(request.input, request.key, secret, &mut found);
        }
        found
            .into_iter()
            .for_each(|path| request.record_secret(path));
    }

    /// The secret paths of a type, as far as serde does not buffer them.
    fn secret_paths(&self, target: &dyn Target) -> Rc<BTreeSet<TypePath>> {
        let find = || (Rc::new(target.secret_paths()), true);
        let paths = memoized(&SECRET_PATHS, target.identity(), find);
        if !paths.is_empty() {
            self.has_secret.set(true);
        }
        paths
    }

    /// The key of a secret below a path, if the type reads one there.
    fn secret_below(
        &self,
        target: &dyn Target,
        request: Request<'_>,
        diagnosis: &RefCell<Diagnosis>,
        fault: &Fault,
        path: &str,
    ) -> Option<String> {
        let names = names_below(request.key, path);
        let of = target.identity();
        let secret_paths = self.secret_paths(target);
        let is_below = |secret: &&TypePath| {
            let matches =
                |(segment, name): (&Option<&str>, &String)| segment.is_none_or(|it| it == name);
            secret.len() > names.len() && secret.iter().zip(&names).all(matches)
        };
        if let Some(secret) = secret_paths.iter().find(is_below) {
            let mut below = path.to_owned();
            if let Some(name) = secret[names.len()] {
                key::push_segment(&mut below, name);
                return Some(below);
            }
            return Some(buffered::unnamed_below(path));
        }
        let names = names
            .iter()
            .map(|name| without_index(name).to_owned())
            .collect();
        let question = (of, names, fault.0.expected.clone());
        let ask = || self.run_trials(target, request, diagnosis, path);
        let is_secret = self.answer(question, diagnosis, ask);
        is_secret.then(|| buffered::unnamed_below(path))
    }

    /// Runs trials at a path; returns whether a secret reads the probe.
    fn run_trials(
        &self,
        target: &dyn Target,
        request: Request<'_>,
        diagnosis: &RefCell<Diagnosis>,
        path: &str,
    ) -> bool {
        let diagnosis = RefCell::new(diagnosis.borrow().fork_for(path));
        let run_trial = |value: &Value| {
            self.count.set(self.count.get() + 1);
            trial::run(target, request, &diagnosis, path, value)
        };
        let mut queue = VecDeque::from([TrialTable::default()]);
        while let Some(table) = queue.pop_front() {
            if self.is_spent() {
                break;
            }
            if trial::expand(&table, &run_trial, &mut queue) {
                return true;
            }
        }
        false
    }
}

/// The entries of a table that has only the value at a path below it.
fn entries_to(table: &str, path: &str, value: Value) -> BTreeMap<Box<str>, Value> {
    let names = names_below(table, path);
    let Some((first, rest)) = names.split_first() else {
        return BTreeMap::new();
    };
    let value = rest.iter().rfold(value, |inner, name| {
        if key::list_index(name).is_some() {
            return Value::from(vec![inner]);
        }
        Value::Table([entry(name, inner)].into())
    });
    BTreeMap::from([entry(first, value)])
}

/// The table of an enum whose variant is not known or cannot be read, and the name of its tag.
fn unread_enum(fault: &Fault, inference: &Inference) -> Option<(String, Option<String>)> {
    let path = &fault.0.location.as_ref()?.path;
    if let Some(tag) = fault.0.missing_field {
        // serde asks for the tag of a table that it has buffered.
        let table = parent(path).unwrap_or_default();
        let is_buffered = inference.buffered_at(&table).is_some();
        return is_buffered.then(|| (table, Some(tag.to_owned())));
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

/// The value of a key: the kept one, or else that of `make`, which also says whether to keep it.
fn memoized<K: Eq + Hash, V: Clone>(
    all: &'static LocalKey<RefCell<HashMap<K, V>>>,
    key: K,
    make: impl FnOnce() -> (V, bool),
) -> V {
    let known = |all: &RefCell<HashMap<K, V>>| all.borrow().get(&key).cloned();
    if let Some(known) = all.try_with(known).ok().flatten() {
        return known;
    }
    let (value, is_final) = make();
    if is_final {
        let _ = all.try_with(|all| {
            let mut all = all.borrow_mut();
            if all.len() >= MAX_MEMOIZED {
                all.clear();
            }
            all.insert(key, value.clone());
        });
    }
    value
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
    SCALARS.contains(&expected.split(" (").next().unwrap_or_default())
}

/// The name of an entry, with `*` in place of an index.
fn without_index(name: &str) -> &str {
    if name.bytes().all(|byte| byte.is_ascii_digit()) {
        "*"
    } else {
        name
    }
}
