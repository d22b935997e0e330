//! Finds out whether a type reads a secret at a place that its value does not lead to.
//!
//! A type shows its secret fields if serde does not buffer it, see
//! [`secret_paths`](crate::decode::diagnose::secret_paths). What serde buffers shows only while it is read.
//! So a *trial* runs a pass with a table in the place of the value. The table has one entry, whose value is
//! the probe. Trials end when a secret reads the probe, or when no table is left. The names of the entries
//! are those that the type asks for, the numbers of fields, which a derived `Deserialize` accepts in place
//! of names, and common names of secrets. An optional field that serde flattens is not found if it has
//! another name.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;
use std::marker::PhantomData;
use std::rc::Rc;
use std::thread::LocalKey;

use serde::de::DeserializeOwned;

use crate::decode::diagnose::diagnosis::{Diagnosis, parent};
use crate::decode::diagnose::fault::{Fault, Location};
use crate::decode::diagnose::passes;
use crate::decode::diagnose::secret_paths::type_tree;
use crate::decode::diagnose::trial::{
    self, Tag, TrialResult, TrialTable, entry, is_scalar_type, number_probe, probe_value,
};
use crate::decode::diagnose::type_tree::{Content, TypeTree};
use crate::decode::request::Request;
use crate::value::Value;
use crate::value::key;

/// How many trials one request runs.
const MAX_TRIALS: usize = 200;

/// How many answers a thread keeps.
const MAX_MEMOIZED: usize = 1_000;

/// A type, and a path inside it without indexes.
type Question = (TypeOf, Vec<String>);

/// A type by its name, and by a function of its own, since two types may have one name.
type TypeOf = (&'static str, usize);

/// The names for an entry of any list, and of any map.
const EACH: [&str; 2] = ["0", "a"];

/// What a type reads where nothing is known of it.
static ANY: TypeTree = TypeTree::any();

thread_local! {
    /// Whether trials have found a secret. A type that fails again costs no further trials.
    static SECRET_BELOW: RefCell<HashMap<Question, bool>> = RefCell::default();
    /// What trials have found out about single values.
    static VERDICTS: RefCell<HashMap<Question, Verdict>> = RefCell::default();
    /// The tags of tagged enums.
    static TAGS: RefCell<HashMap<Question, Rc<[Tag]>>> = RefCell::default();
    /// What types read, as far as serde does not buffer them.
    static TYPE_TREES: RefCell<HashMap<TypeOf, Rc<TypeTree>>> = RefCell::default();
}

/// What is known of a value that a type reads from serde's buffer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    Secret,
    /// A type that is no secret reads it.
    Plain,
    Unknown,
}

/// The trials of one request.
pub(crate) struct SecretTrials {
    count: Cell<usize>,
    /// Whether the type has asked for any secret.
    asks_secret: Cell<bool>,
}

impl SecretTrials {
    pub(crate) fn new() -> Self {
        Self {
            count: Cell::new(0),
            asks_secret: Cell::new(false),
        }
    }

    /// Masks the fault of a value in the place of a table with a secret.
    pub(crate) fn mask<T: DeserializeOwned>(
        &self,
        request: Request<'_>,
        diagnosis: &RefCell<Diagnosis>,
        fault: &mut Fault,
    ) {
        let location = fault.0.location.as_ref();
        let Some(location) = location.filter(|location| may_replace_table(fault, location)) else {
            return;
        };
        let scope = TrialScope::<T>::new(request, diagnosis, self);
        if !scope.holds_secret(&location.path, &[]) {
            return;
        }
        if let Some(location) = &mut fault.0.location {
            location.masked = true;
        }
    }
}

/// A type whose value is tried out.
pub(super) struct TrialScope<'a, T> {
    pub(super) request: Request<'a>,
    diagnosis: &'a RefCell<Diagnosis>,
    trials: &'a SecretTrials,
    /// What the type reads, as far as it shows.
    pub(super) tree: Rc<TypeTree>,
    of: PhantomData<fn() -> T>,
}

impl<'a, T: DeserializeOwned> TrialScope<'a, T> {
    pub(super) fn new(
        request: Request<'a>,
        diagnosis: &'a RefCell<Diagnosis>,
        trials: &'a SecretTrials,
    ) -> Self {
        let make = || (Rc::new(type_tree(std::mem::forget::<T>)), true);
        Self {
            request,
            diagnosis,
            trials,
            tree: memoized(&TYPE_TREES, type_of::<T>(), make),
            of: PhantomData,
        }
    }

    /// Whether the type reads a secret at or below the names below a place. The place is a value, or a field
    /// that is missing. After too many trials, a secret that the type has asked for may be there.
    pub(super) fn holds_secret(&self, place: &str, names: &[String]) -> bool {
        let mut path = names_below(self.request.key, place);
        path.extend_from_slice(names);
        let (entry, known, path) = self.tree.find(&path);
        if entry.has_secret || !entry.may_hold_secret() {
            return entry.has_secret;
        }
        // What is not known to be at a place may be that of any entry of the table around it.
        let entry = if known < path.len() { &ANY } else { entry };
        memoized(&SECRET_BELOW, (type_of::<T>(), path), || {
            let mut paths: Vec<_> = EACH.iter().flat_map(|each| entry.any_paths(each)).collect();
            paths.sort_unstable();
            paths.dedup();
            let mut paths = paths.into_iter();
            let is_secret = paths.any(|below| self.find_secret(place, &[names, &below].concat()));
            let is_final = is_secret || !self.is_spent();
            (
                is_secret || (!is_final && self.trials.asks_secret.get()),
                is_final,
            )
        })
    }

    fn is_spent(&self) -> bool {
        self.trials.count.get() >= MAX_TRIALS
    }

    /// Runs trials at the names below a place; returns whether a secret reads the probe.
    fn find_secret(&self, place: &str, names: &[String]) -> bool {
        let diagnosis = RefCell::new(self.diagnosis.borrow().fork_at(place));
        let table = TrialTable::at(names, None);
        let expects_list = self
            .run(&diagnosis, place, &table.with(BTreeMap::new()))
            .expects_list;
        if self.search(&diagnosis, place, VecDeque::from([table])) {
            return true;
        }
        if expects_list {
            let item = [names, &["0".to_owned()]].concat();
            let list = TrialTable::list_at(names, probe_value());
            return self.run(&diagnosis, place, &list).reads_secret
                || self.search(
                    &diagnosis,
                    place,
                    VecDeque::from([TrialTable::at(&item, None)]),
                );
        }
        // The content of an adjacently tagged enum is read once its tag is.
        let path = [names_below(self.request.key, place), names.to_vec()].concat();
        let around = path
            .split_last()
            .map(|(_, around)| self.tree.find(around).0);
        if around.is_none_or(|around| around.content != Content::Struct) {
            return false;
        }
        let table = parent(place).filter(|_| names.is_empty());
        let (place, names) = match &table {
            Some(table) => (table.as_str(), names_below(table, place)),
            None => (place, names.to_vec()),
        };
        let diagnosis = RefCell::new(self.diagnosis.borrow().fork_at(place));
        let around = names
            .split_last()
            .map(|(_, around)| around)
            .unwrap_or_default();
        let tags = self.tags(&diagnosis, place, around);
        let tables = tags.iter().map(|tag| TrialTable::at(&names, Some(*tag)));
        self.search(&diagnosis, place, tables.collect())
    }

    fn search(
        &self,
        diagnosis: &RefCell<Diagnosis>,
        place: &str,
        mut queue: VecDeque<TrialTable>,
    ) -> bool {
        let run_trial = |value: &Value| self.run(diagnosis, place, value);
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

    fn run(&self, diagnosis: &RefCell<Diagnosis>, place: &str, value: &Value) -> TrialResult {
        let trials = self.trials;
        trials.count.set(trials.count.get() + 1);
        let result = trial::run::<T>(self.request, diagnosis, place, value);
        trials
            .asks_secret
            .set(trials.asks_secret.get() || result.asks_secret);
        result
    }

    /// Whether a value below a table is a secret. A probe takes its place, in each variant of a tagged enum.
    pub(super) fn judge(&self, table: &str, path: &str) -> Verdict {
        let (_, _, typed) = self.tree.find(&names_below(self.request.key, path));
        let names = names_below(table, path);
        // Which part of the path is the table makes a difference.
        let question = (
            type_of::<T>(),
            [typed, vec![names.len().to_string()]].concat(),
        );
        memoized(&VERDICTS, question, || {
            let diagnosis = RefCell::new(self.diagnosis.borrow().fork_at(table));
            let tags = self.tags(&diagnosis, table, &[]);
            let verdict = self.try_out(&diagnosis, table, path, &tags);
            (verdict, verdict == Verdict::Secret || !self.is_spent())
        })
    }

    fn try_out(
        &self,
        diagnosis: &RefCell<Diagnosis>,
        table: &str,
        path: &str,
        tags: &[Tag],
    ) -> Verdict {
        let names = names_below(table, path);
        let untagged = tags.is_empty().then_some(None);
        let mut verdict = Verdict::Unknown;
        for tag in tags.iter().copied().map(Some).chain(untagged) {
            for probe in [probe_value(), number_probe()] {
                if self.is_spent() {
                    return Verdict::Unknown;
                }
                let mut entries = entries_to(&names, probe);
                let tag = tag.filter(|(name, _)| names.first().is_none_or(|first| first != name));
                entries.extend(tag.map(|(name, variant)| entry(name, Value::from(variant))));
                let result = self.run(diagnosis, table, &Value::from(entries));
                if result.reads_secret {
                    return Verdict::Secret;
                }
                let is_typed = result.has_fault_exactly_at(path) && !self.holds_secret(path, &[]);
                if is_typed || result.is_plain() {
                    verdict = Verdict::Plain;
                    break;
                }
            }
        }
        verdict
    }

    /// The tag of an enum, at names below a place, with each of its variants; none if there is no tag.
    fn tags(&self, diagnosis: &RefCell<Diagnosis>, place: &str, names: &[String]) -> Rc<[Tag]> {
        let path = [names_below(self.request.key, place), names.to_vec()].concat();
        let (_, _, typed) = self.tree.find(&path);
        memoized(&TAGS, (type_of::<T>(), typed), || {
            let table = TrialTable::at(names, None);
            let run = |entries| self.run(diagnosis, place, &table.with(entries));
            let mut tags = Vec::new();
            for name in run(BTreeMap::new()).fields() {
                let result = run(BTreeMap::from([entry(name, probe_value())]));
                tags.extend(result.variants.iter().map(|variant| (name, *variant)));
            }
            (tags.into(), !self.is_spent())
        })
    }
}

/// The names of a path below another one.
pub(super) fn names_below(above: &str, path: &str) -> Vec<String> {
    let rest = path.get(above.len()..).unwrap_or_default();
    key::segments(rest.strip_prefix('.').unwrap_or(rest))
        .map_while(Result::ok)
        .map(Into::into)
        .collect()
}

/// The entries of a table that has only the value at a path below it.
fn entries_to(names: &[String], value: Value) -> BTreeMap<Box<str>, Value> {
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

/// The identity of a type.
fn type_of<T: DeserializeOwned>() -> TypeOf {
    let own: fn(Request<'_>, &RefCell<Diagnosis>) -> passes::Outcome = passes::run_discarding::<T>;
    (std::any::type_name::<T>(), own as usize)
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
    let is_table = |found: &String| found.starts_with("table of");
    let is_plain = |expected: &String| is_scalar_type(expected);
    !location.masked
        && !location.is_name
        && fault.0.complete.is_none()
        && fault.0.missing_field.is_none()
        && fault.0.unknown_field.is_none()
        && location
            .description
            .as_ref()
            .is_some_and(|found| !is_table(found))
        && !fault.0.expected.as_ref().is_some_and(is_plain)
}
