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
//! - If the passes never came to the end: all values that serde may have buffered.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::rc::Rc;
use std::thread::LocalKey;

use crate::decode::diagnose::diagnosis::{Diagnosis, parent};
use crate::decode::diagnose::fault::{Fault, Location};
use crate::decode::diagnose::inference::Inference;
use crate::decode::diagnose::input_paths::{
    add_matching, list_of, names_below, values_below, values_of_items, words_at,
};
use crate::decode::diagnose::rejection::Reported;
use crate::decode::diagnose::secret_paths::{SecretPaths, SiteKind, TypePath};
use crate::decode::diagnose::secret_sites::{Exploration, Explored, NameAt};
use crate::decode::diagnose::target::{Target, TypeOf};
use crate::decode::diagnose::trial::{self, TrialResult, entry, is_scalar, probe_value};
use crate::decode::diagnose::visits::below;
use crate::decode::request::Request;
use crate::error::ErrorKind;
use crate::value::Value;
use crate::value::key;
use crate::value::secret::buffered;

/// How many trials one request runs.
const MAX_TRIALS: usize = 200;

/// How many answers a thread keeps.
const MAX_MEMOIZED: usize = 1_000;

/// How many names of the program's values are tried at once as those of secrets.
const MAX_NAMES: usize = 10_000;

thread_local! {
    /// Where types read secrets, and where serde may buffer values of them.
    static SECRET_PATHS: RefCell<HashMap<TypeOf, Rc<SecretPaths>>> = RefCell::default();
    /// What trials have found at the sites of types. A type that fails again costs no further trials.
    static SITES: RefCell<HashMap<(TypeOf, TypePath), Rc<RefCell<Explored>>>> = RefCell::default();
}

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
        let Some(below) = self.secret_below(target, request, path) else {
            return;
        };
        let is_guess = below == buffered::unnamed_below(path);
        if is_guess && self.accepts_only_scalars(target, request, diagnosis, path) {
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
        if request.secret_keys.is_some() && self.secret_below(target, request, table).is_some() {
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
        if request.secret_keys.is_none() || self.secret_below(target, request, table).is_none() {
            return;
        }
        let trial_diagnosis = RefCell::new(diagnosis.borrow().fork_for(table));
        let run_trial = |entries: BTreeMap<Box<str>, Value>| {
            let value = Value::from(entries);
            self.run_trial(target, request, &trial_diagnosis, table, &value)
        };
        let asked = tag.and_then(|tag| run_trial(BTreeMap::from([entry(tag, probe_value())])));
        let variants = asked.iter().flat_map(|asked| &asked.variants);
        let of_variant = |variant: &&'static str| Some(entry(tag?, Value::from(*variant)));
        let mut tags: Vec<Option<_>> = variants.map(of_variant).collect();
        if tags.is_empty() {
            // No tag is missing or unknown.
            tags.push(None);
        }
        let tag_path = tag.map(|tag| below(table, tag));
        for (item, path) in values_of_items(request, table) {
            let run_with = |value: Value, tag: &Option<(Box<str>, Value)>| {
                let mut entries = entries_to(&item, &path, value);
                entries.extend(tag.clone());
                run_trial(entries)
            };
            if tag_path.as_ref() == Some(&path) || is_plain(&tags, &run_with) {
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

    /// Whether the type accepts neither a table nor a list in the place of a value.
    fn accepts_only_scalars(
        &self,
        target: &dyn Target,
        request: Request<'_>,
        diagnosis: &RefCell<Diagnosis>,
        path: &str,
    ) -> bool {
        let diagnosis = RefCell::new(diagnosis.borrow().fork_for(path));
        let run = |value: Value| self.run_trial(target, request, &diagnosis, path, &value);
        let table = run(Value::from(BTreeMap::<Box<str>, Value>::new()));
        let list = run(Value::from(Vec::<Value>::new()));
        let (Some(table), Some(list)) = (table, list) else {
            return false;
        };
        // Other values may be rejected too, but alike in both trials.
        let rejected = |by: &TrialResult, other: &TrialResult, as_what: &Reported| {
            let others = other.expected_for(as_what);
            let mut own = by.expected_for(as_what);
            for expected in others {
                if let Some(at) = own.iter().position(|own| *own == expected) {
                    own.remove(at);
                }
            }
            own.iter()
                .map(|expected| (*expected).to_owned())
                .collect::<BTreeSet<_>>()
        };
        let as_table = rejected(&table, &list, &Reported::Map);
        let as_list = rejected(&list, &table, &Reported::Seq);
        let is_read = |trial: &TrialResult| {
            !trial.failed || !trial.fields.is_empty() || !trial.variants.is_empty()
        };
        !is_read(&table) && !is_read(&list) && !as_table.is_empty() && as_table == as_list
    }

    /// Records the values that serde may have buffered. Call it if the passes never came to the end.
    pub(crate) fn record_buffered(&self, target: &dyn Target, request: Request<'_>) {
        if request.secret_keys.is_none() {
            return;
        }
        for (site, kind) in &self.secret_paths(target).sites {
            let mut found = Vec::new();
            add_matching(request.input, request.key, site, &mut found);
            let names = || found.iter().flat_map(|path| names_at(request, path, site));
            if !found.is_empty() && holds_secret(target, site, *kind, names) {
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
        for secret in &self.secret_paths(target).secrets {
            add_matching(request.input, request.key, secret, &mut found);
        }
        found
            .into_iter()
            .for_each(|path| request.record_secret(path));
    }

    fn secret_paths(&self, target: &dyn Target) -> Rc<SecretPaths> {
        memoized(&SECRET_PATHS, target.identity(), || {
            Rc::new(target.secret_paths())
        })
    }

    /// The key of a secret at or below a path, if the type may read one there.
    fn secret_below(
        &self,
        target: &dyn Target,
        request: Request<'_>,
        path: &str,
    ) -> Option<String> {
        let names = names_below(request.key, path);
        let paths = self.secret_paths(target);
        let is_below = |secret: &&TypePath| secret.len() >= names.len() && is_alike(secret, &names);
        if let Some(secret) = paths.secrets.iter().find(is_below) {
            let mut below = path.to_owned();
            return match secret.get(names.len()) {
                None => Some(below),
                Some(Some(name)) => {
                    key::push_segment(&mut below, name);
                    Some(below)
                }
                Some(None) => Some(buffered::unnamed_below(path)),
            };
        }
        let mut sites = paths
            .sites
            .iter()
            .filter(|(site, _)| is_alike(site, &names));
        let is_secret = sites.any(|(site, kind)| {
            holds_secret(target, site, *kind, || names_at(request, path, site))
        });
        is_secret.then(|| buffered::unnamed_below(path))
    }
}

/// Whether a path of a type and the names of a path agree as far as both go.
fn is_alike(of_type: &TypePath, names: &[String]) -> bool {
    let mut both = of_type.iter().zip(names);
    both.all(|(segment, name)| segment.is_none_or(|segment| segment == name))
}

/// Whether a type may read a secret at a site. `names` are those that the program's values have.
fn holds_secret<N: Iterator<Item = NameAt>>(
    target: &dyn Target,
    site: &TypePath,
    kind: SiteKind,
    names: impl Fn() -> N,
) -> bool {
    let question = (target.identity(), site.clone());
    let explored = memoized(&SITES, question, Rc::default);
    // A type that reads itself from the properties while it is explored may hold one.
    let Ok(mut explored) = explored.try_borrow_mut() else {
        return true;
    };
    if !explored.has_secret {
        let run = |value: &Value| trial::run_at(target, site, value);
        let names = names().take(MAX_NAMES).collect();
        Exploration::new(&run, kind == SiteKind::Entries).explore(&mut explored, names);
    }
    explored.has_secret
}

/// The names that the values at and below a path have, and the words of its text.
fn names_at(request: Request<'_>, path: &str, site: &TypePath) -> impl Iterator<Item = NameAt> {
    let site_depth = site.len();
    let below = values_below(request, path).into_iter();
    let names = below.chain([path.to_owned()]).flat_map(move |path| {
        let names = names_below(request.key, &path).into_iter().enumerate();
        names.filter_map(move |(at, name)| Some((Some(at.checked_sub(site_depth)?), name)))
    });
    let words = words_at(request, path).into_iter();
    let all = names.chain(words.map(|word| (None, word)));
    all.filter(|(_, name)| key::list_index(name).is_none())
}

fn record(request: Request<'_>, paths: Vec<String>) {
    paths
        .into_iter()
        .for_each(|path| request.record_secret(path));
}

/// Whether an enum reads a value as a scalar in one of its variants, and as a secret in none.
fn is_plain(
    tags: &[Option<(Box<str>, Value)>],
    run_with: &dyn Fn(Value, &Option<(Box<str>, Value)>) -> Option<TrialResult>,
) -> bool {
    let mut is_plain = false;
    for tag in tags {
        let probe = run_with(probe_value(), tag);
        let table = run_with(Value::from(BTreeMap::<Box<str>, Value>::new()), tag);
        let (Some(probe), Some(table)) = (probe, table) else {
            return false;
        };
        if probe.reads_secret || table.reads_secret {
            return false;
        }
        let scalars = |result: &TrialResult| {
            let expected = result.expected_for(&Reported::Map);
            expected.into_iter().filter(|it| is_scalar(it)).count()
        };
        is_plain |= scalars(&table) > scalars(&probe);
    }
    is_plain
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

/// The kept value of a key.
fn known<K: Eq + Hash, V: Clone>(
    all: &'static LocalKey<RefCell<HashMap<K, V>>>,
    key: &K,
) -> Option<V> {
    let known = |all: &RefCell<HashMap<K, V>>| all.borrow().get(key).cloned();
    all.try_with(known).ok().flatten()
}

fn keep<K: Eq + Hash, V>(all: &'static LocalKey<RefCell<HashMap<K, V>>>, key: K, value: V) {
    let _ = all.try_with(|all| {
        let mut all = all.borrow_mut();
        if all.len() >= MAX_MEMOIZED {
            all.clear();
        }
        all.insert(key, value);
    });
}

/// The value of a key: the kept one, or else that of `make`.
fn memoized<K: Eq + Hash, V: Clone>(
    all: &'static LocalKey<RefCell<HashMap<K, V>>>,
    key: K,
    make: impl FnOnce() -> V,
) -> V {
    known(all, &key).unwrap_or_else(|| {
        let value = make();
        keep(all, key, value.clone());
        value
    })
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
