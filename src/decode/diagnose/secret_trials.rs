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

use serde::de::DeserializeOwned;

use crate::decode::diagnose::diagnosis::Diagnosis;
use crate::decode::diagnose::fault::{Fault, Location};
use crate::decode::diagnose::inference::PROBE;
use crate::decode::diagnose::passes;
use crate::decode::diagnose::rejection::{self, Found, Rejection};
use crate::decode::diagnose::secret_paths::{TypePath, secret_paths_with};
use crate::decode::diagnose::text_arena::TextArena;
use crate::decode::request::Request;
use crate::sync::panics;
use crate::value::Value;
use crate::value::key;
use crate::value::secret::buffered;

/// How many trials one request runs.
const MAX_TRIALS: usize = 200;
/// How many fields of one struct are tried by number.
const MAX_FIELDS: usize = 16;
/// How deep the tables of trials nest.
const MAX_NESTING: usize = 3;

/// The prefix of a name that stands for the number of a field.
const FIELD_NUMBER: &str = "\u{1}liveprops field ";

/// Common names of secret fields.
const COMMON_NAMES: [&str; 18] = [
    "password",
    "passwd",
    "pass",
    "passphrase",
    "pwd",
    "secret",
    "token",
    "key",
    "api_key",
    "apikey",
    "access_key",
    "secret_key",
    "private_key",
    "credentials",
    "auth",
    "code",
    "pin",
    "dsn",
];

/// serde's names for the types of scalars.
const SCALARS: [&str; 19] = [
    "bool",
    "a boolean",
    "char",
    "a character",
    "a string",
    "a borrowed string",
    "i8",
    "i16",
    "i32",
    "i64",
    "i128",
    "u8",
    "u16",
    "u32",
    "u64",
    "u128",
    "f32",
    "f64",
    "String",
];

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

    /// The names that the type asks for during a trial.
    static REQUESTED: RefCell<Option<RequestedNames>> = const { RefCell::new(None) };
}

/// The names that a type asks for.
#[derive(Default)]
struct RequestedNames {
    fields: BTreeSet<&'static str>,
    variants: BTreeSet<&'static str>,
}

/// During a trial, records fields that a struct has or lacks.
pub(crate) fn record_fields(names: &[&'static str]) {
    REQUESTED.with_borrow_mut(|requested| {
        if let Some(requested) = requested {
            requested.fields.extend(names);
        }
    });
}

/// During a trial, records the variants of an enum.
pub(crate) fn record_variants(names: &[&'static str]) {
    REQUESTED.with_borrow_mut(|requested| {
        if let Some(requested) = requested {
            requested.variants.extend(names);
        }
    });
}

/// The number of the field that a name stands for.
pub(crate) fn field_number(name: &str) -> Option<u64> {
    name.strip_prefix(FIELD_NUMBER)?.parse().ok()
}

/// The trials of one request.
pub(crate) struct SecretTrials {
    count: Cell<usize>,
}

/// The table of a trial: the tables around it, and its tag.
#[derive(Clone, Default)]
struct TrialTable {
    /// The tables around it, each with its tag and the name of the entry that leads on.
    above: Vec<(Tag, String)>,
    tag: Tag,
}

/// The name and the value of the tag of a table.
type Tag = Option<(&'static str, &'static str)>;

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
            run::<T>(request, &diagnosis, path, value)
        };
        let mut queue = VecDeque::from([TrialTable::default()]);
        while let Some(table) = queue.pop_front() {
            if self.count.get() >= MAX_TRIALS {
                break;
            }
            if expand(&table, &run_trial, &mut queue) {
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

/// Tries each entry that a table may have; returns whether one of them is a secret. Adds the tables below
/// it to the queue.
fn expand(
    table: &TrialTable,
    run_trial: &dyn Fn(&Value) -> TrialResult,
    queue: &mut VecDeque<TrialTable>,
) -> bool {
    let plain = run_trial(&table.with(BTreeMap::new()));
    let common = COMMON_NAMES.iter().map(|name| entry(name, probe_value()));
    if plain.reads_secret
        || run_trial(&table.with(common.collect())).reads_secret
        || fill(table, &plain, run_trial)
    {
        return true;
    }
    let names = plain.fields.iter().map(|name| (*name).to_owned());
    let numbers = (0..MAX_FIELDS).map(|at| format!("{FIELD_NUMBER}{at}"));
    for name in names.chain(numbers) {
        let result = run_trial(&table.with(BTreeMap::from([entry(&name, probe_value())])));
        if result.reads_secret {
            return true;
        }
        let is_number = field_number(&name).is_some();
        if is_number && !result.rejected && result.fields == plain.fields {
            // There is no field with such a number.
            break;
        }
        if table.above.len() >= MAX_NESTING || result.is_scalar {
            continue;
        }
        let tag = plain.fields.iter().find(|field| **field == name);
        match tag.filter(|_| !result.variants.is_empty() && table.tag.is_none()) {
            Some(tag) => queue.extend(result.variants.iter().map(|variant| TrialTable {
                above: table.above.clone(),
                tag: Some((*tag, *variant)),
            })),
            None => {
                let mut above = table.above.clone();
                above.push((table.tag, name));
                queue.push_back(TrialTable { above, tag: None });
            }
        }
    }
    false
}

/// Adds the entries that the type asks for one by one: a struct reads what it flattens once it has all of its
/// own fields. Returns whether one of them is a secret.
fn fill(
    table: &TrialTable,
    plain: &TrialResult,
    run_trial: &dyn Fn(&Value) -> TrialResult,
) -> bool {
    let mut entries = BTreeMap::new();
    let mut requested = plain.fields.clone();
    let mut last: Option<&'static str> = None;
    for _ in 0..2 * MAX_FIELDS {
        let next = requested
            .iter()
            .find(|name| !entries.contains_key(**name))
            .copied();
        let Some(name) = last.take().or(next) else {
            return false;
        };
        entries.entry(Box::from(name)).or_insert_with(probe_value);
        let result = run_trial(&table.with(entries.clone()));
        if result.reads_secret {
            return true;
        }
        requested.extend(result.fields);
        if let Some(expected) = result.expected {
            // The entry that was added last has another type.
            let Some(value) = value_of(&expected) else {
                return false;
            };
            entries.insert(name.into(), value);
            last = Some(name);
        }
    }
    false
}

/// A value of a scalar type.
fn value_of(expected: &str) -> Option<Value> {
    match expected {
        "bool" | "a boolean" => Some(Value::Bool(true)),
        "char" | "a character" => Some(Value::from("x")),
        "f32" | "f64" => Some(Value::from(1.5)),
        "i8" | "i16" | "i32" | "i64" | "i128" | "u8" | "u16" | "u32" | "u64" | "u128" => {
            Some(Value::from(1))
        }
        _ => None,
    }
}

fn probe_value() -> Value {
    Value::from(PROBE)
}

fn entry(name: &str, value: Value) -> (Box<str>, Value) {
    (name.into(), value)
}

impl TrialTable {
    /// The outermost table, with these entries in the innermost one.
    fn with(&self, mut entries: BTreeMap<Box<str>, Value>) -> Value {
        let tag = |tag: Tag| tag.map(|(name, variant)| entry(name, Value::from(variant)));
        entries.extend(tag(self.tag));
        let inner = Value::Table(Box::new(entries));
        self.above.iter().rfold(inner, |inner, (above, name)| {
            let mut entries = BTreeMap::from([entry(name, inner)]);
            entries.extend(tag(*above));
            Value::Table(Box::new(entries))
        })
    }
}

/// The result of a trial.
struct TrialResult {
    /// Whether a secret has read the probe.
    reads_secret: bool,
    fields: BTreeSet<&'static str>,
    variants: BTreeSet<&'static str>,
    /// Whether a type has rejected the probe.
    rejected: bool,
    /// Whether only scalars have.
    is_scalar: bool,
    /// What was expected in place of the probe.
    expected: Option<String>,
}

/// Runs a pass with a table in the place of the value at a path.
fn run<T: DeserializeOwned>(
    request: Request<'_>,
    diagnosis: &RefCell<Diagnosis>,
    path: &str,
    value: &Value,
) -> TrialResult {
    let secret_keys = RefCell::new(Vec::new());
    let request = request
        .recording_secrets(&secret_keys)
        .substitute(path, value);
    diagnosis.borrow_mut().start_pass();
    let outer = REQUESTED.replace(Some(RequestedNames::default()));
    let arena = TextArena::new();
    let decode = || {
        rejection::record(|| {
            // The `Drop` of a value is user code, which must not run under the commit lock. As answers are
            // kept, few values are leaked.
            let _ = request
                .run::<T>(Some((diagnosis, &arena)))
                .map(std::mem::forget);
        })
    };
    // The type is user code, which may panic on such tables.
    let (outcome, read) = buffered::detect_text(PROBE, || panics::catch(decode));
    let requested = REQUESTED.replace(outer).unwrap_or_default();
    let log = outcome.map(|(_, log)| log).unwrap_or_default();
    let of_probe: Vec<&Rejection> = log
        .iter()
        .filter(|it| it.found == Found::Text(PROBE.to_owned()))
        .collect();
    let is_below = |key: &String| key != path && key::under(key, path);
    TrialResult {
        reads_secret: read || secret_keys.borrow().iter().any(is_below),
        fields: requested.fields,
        variants: requested.variants,
        rejected: !of_probe.is_empty(),
        is_scalar: !of_probe.is_empty()
            && of_probe.iter().all(|it| SCALARS.contains(&&*it.expected)),
        expected: of_probe.last().map(|it| it.expected.clone()),
    }
}
