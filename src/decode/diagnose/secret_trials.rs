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
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::Hash;
use std::rc::Rc;
use std::thread::LocalKey;

use serde::de::DeserializeOwned;

use crate::decode::diagnose::diagnosis::Diagnosis;
use crate::decode::diagnose::fault::{Fault, Location};
use crate::decode::diagnose::passes;
use crate::decode::diagnose::secret_paths::{TypePath, secret_paths_with};
use crate::decode::diagnose::trial::{self, SCALARS, TrialTable};
use crate::decode::request::Request;
use crate::value::Value;
use crate::value::key;
use crate::value::secret::buffered;

/// How many trials one request runs.
const MAX_TRIALS: usize = 200;

/// How many answers a thread keeps.
const MAX_MEMOIZED: usize = 1_000;

/// A type, a path inside it without indexes, and what the type expects there.
type Question = (TypeOf, Vec<String>, Option<String>);

/// A type by its name, and by a function of its own, since two types may have one name.
type TypeOf = (&'static str, usize);

thread_local! {
    /// Whether trials have found a secret. A type that fails again costs no further trials.
    static SECRET_BELOW: RefCell<HashMap<Question, bool>> = RefCell::default();
    /// The secret paths of types, as far as serde does not buffer them.
    static SECRET_PATHS: RefCell<HashMap<TypeOf, Rc<BTreeSet<TypePath>>>> = RefCell::default();
}

/// The trials of one request.
pub(crate) struct SecretTrials {
    count: Cell<usize>,
}

impl SecretTrials {
    pub(crate) fn new() -> Self {
        Self {
            count: Cell::new(0),
        }
    }

    /// Masks the fault of a value in the place of a table with a secret, and records its key as secret as long
    /// as it is no table.
    pub(crate) fn mask<T: DeserializeOwned>(
        &self,
        request: Request<'_>,
        diagnosis: &RefCell<Diagnosis>,
        fault: &mut Fault,
    ) {
        let Some(location) = fault
            .0
            .location
            .as_ref()
            .filter(|location| may_replace_table(fault, location))
        else {
            self.record_untagged::<T>(request, diagnosis, fault);
            return;
        };
        let path = location.path.clone();
        let Some(below) = self.secret_below::<T>(request, diagnosis, fault, &path) else {
            return;
        };
        if let Some(location) = &mut fault.0.location {
            location.masked = true;
        }
        request.record_secret(below);
    }

    /// Does the same for the values below an untagged enum whose variants all failed, without masking.
    fn record_untagged<T: DeserializeOwned>(
        &self,
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
        let (_, log) = passes::run_discarding::<T>(request, &diagnosis);
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
                path.and_then(|path| self.secret_below::<T>(request, &diagnosis, fault, &path));
            if let Some(below) = below {
                request.record_secret(below);
            }
        }
    }

    /// The key of a secret below a path, if the type reads one there.
    fn secret_below<T: DeserializeOwned>(
        &self,
        request: Request<'_>,
        diagnosis: &RefCell<Diagnosis>,
        fault: &Fault,
        path: &str,
    ) -> Option<String> {
        let rest = path.get(request.key.len()..).unwrap_or_default();
        let names: Vec<String> = key::segments(rest.strip_prefix('.').unwrap_or(rest))
            .map_while(Result::ok)
            .map(Into::into)
            .collect();
        let of = type_of::<T>();
        let secret_paths = memoized(&SECRET_PATHS, of, || {
            (Rc::new(secret_paths_with(std::mem::forget::<T>)), true)
        });
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
        let is_secret = memoized(&SECRET_BELOW, question, || {
            let is_secret = self.run_trials::<T>(request, diagnosis, path);
            (is_secret, is_secret || self.count.get() < MAX_TRIALS)
        });
        is_secret.then(|| buffered::unnamed_below(path))
    }

    /// Runs trials at a path; returns whether a secret reads the probe.
    fn run_trials<T: DeserializeOwned>(
        &self,
        request: Request<'_>,
        diagnosis: &RefCell<Diagnosis>,
        path: &str,
    ) -> bool {
        let diagnosis = RefCell::new(diagnosis.borrow().fork());
        let run_trial = |value: &Value| {
            self.count.set(self.count.get() + 1);
            trial::run::<T>(request, &diagnosis, path, value)
        };
        let mut queue = VecDeque::from([TrialTable::default()]);
        while let Some(table) = queue.pop_front() {
            if self.count.get() >= MAX_TRIALS {
                break;
            }
            if trial::expand(&table, &run_trial, &mut queue) {
                return true;
            }
        }
        false
    }
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
    let is_plain =
        |expected: &String| SCALARS.contains(&expected.split(" (").next().unwrap_or_default());
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

/// The name of an entry, with `*` in place of an index.
fn without_index(name: &str) -> &str {
    if name.bytes().all(|byte| byte.is_ascii_digit()) {
        "*"
    } else {
        name
    }
}
