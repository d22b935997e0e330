//! One trial: a pass with a table in the place of a value, to find out whether the type reads a secret there.
//!
//! See [`secret_trials`](crate::decode::diagnose::secret_trials).

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::decode::diagnose::diagnosis::Diagnosis;
use crate::decode::diagnose::inference::PROBE;
use crate::decode::diagnose::rejection::{self, Rejection, Reported};
use crate::decode::diagnose::target::Target;
use crate::decode::diagnose::text_arena::TextArena;
use crate::decode::request::Request;
use crate::sync::panics;
use crate::value::Value;
use crate::value::key;
use crate::value::secret::buffered;

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
pub(super) const SCALARS: [&str; 19] = [
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

/// The names that a type asks for.
#[derive(Default)]
struct RequestedNames {
    fields: BTreeSet<&'static str>,
    variants: BTreeSet<&'static str>,
}

thread_local! {
    /// The names that the type asks for during a trial.
    static REQUESTED: RefCell<Option<RequestedNames>> = const { RefCell::new(None) };
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

/// The table of a trial: the tables around it, and its tag.
#[derive(Clone, Default)]
pub(super) struct TrialTable {
    /// The tables around it, each with its tag and the name of the entry that leads on.
    above: Vec<(Tag, String)>,
    tag: Tag,
}

/// The name and the value of the tag of a table.
type Tag = Option<(&'static str, &'static str)>;

impl TrialTable {
    /// The outermost table, with these entries in the innermost one.
    fn with(&self, mut entries: BTreeMap<Box<str>, Value>) -> Value {
        let tag = |tag: Tag| tag.map(|(name, variant)| entry(name, Value::from(variant)));
        entries.extend(tag(self.tag));
        let inner = Value::from(entries);
        self.above.iter().rfold(inner, |inner, (above, name)| {
            let mut entries = BTreeMap::from([entry(name, inner)]);
            entries.extend(tag(*above));
            Value::from(entries)
        })
    }
}

/// The result of a trial.
pub(super) struct TrialResult {
    /// Whether a secret has read the probe.
    pub(super) reads_secret: bool,
    fields: BTreeSet<&'static str>,
    pub(super) variants: BTreeSet<&'static str>,
    /// Whether a type has rejected the probe.
    rejected: bool,
    /// Whether only scalars have.
    is_scalar: bool,
    /// What was expected in place of the probe.
    expected: Option<String>,
    /// The path of the fault.
    fault_path: Option<String>,
}

impl TrialResult {
    /// Whether the fault is at or below an entry of a table.
    fn has_fault_at(&self, name: &str) -> bool {
        let path = self.fault_path.as_deref();
        let mut segments = path.into_iter().flat_map(key::segments);
        segments.any(|segment| segment.is_ok_and(|segment| segment == name))
    }
}

/// Tries each entry that a table may have; returns whether one of them is a secret. Adds the tables below
/// it to the queue.
pub(super) fn expand(
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
    let mut texts = TEXTS.iter();
    for _ in 0..2 * MAX_FIELDS {
        let next = requested
            .iter()
            .find(|name| !entries.contains_key(**name))
            .copied();
        let is_again = last.is_some();
        let Some(name) = last.take().or(next) else {
            return false;
        };
        if !is_again {
            texts = TEXTS.iter();
        }
        entries.entry(Box::from(name)).or_insert_with(probe_value);
        let result = run_trial(&table.with(entries.clone()));
        if result.reads_secret {
            return true;
        }
        requested.extend(&result.fields);
        if result.expected.is_some() || result.has_fault_at(name) {
            // The entry that was added last has another type.
            let typed = result.expected.as_deref().and_then(value_of);
            let variant = result.variants.first().filter(|_| !is_again);
            let value = typed.or_else(|| variant.map(|variant| Value::from(*variant)));
            let Some(value) = value.or_else(|| texts.next().map(|text| Value::from(*text))) else {
                return false;
            };
            entries.insert(name.into(), value);
            last = Some(name);
        }
    }
    false
}

/// Texts of which most types accept one.
const TEXTS: [&str; 6] = [
    "1",
    "1s",
    "a=1",
    "127.0.0.1",
    "127.0.0.1:1",
    "http://localhost/",
];

/// A value of a scalar type.
fn value_of(expected: &str) -> Option<Value> {
    match expected {
        "bool" | "a boolean" => Some(Value::from(true)),
        "char" | "a character" => Some(Value::from("x")),
        "f32" | "f64" => Some(Value::from(1.5)),
        "i8" | "i16" | "i32" | "i64" | "i128" | "u8" | "u16" | "u32" | "u64" | "u128" => {
            Some(Value::from(1))
        }
        _ => None,
    }
}

pub(super) fn probe_value() -> Value {
    Value::from(PROBE)
}

pub(super) fn entry(name: &str, value: Value) -> (Box<str>, Value) {
    (name.into(), value)
}

/// Runs a pass with a table in the place of the value at a path.
pub(super) fn run(
    target: &dyn Target,
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
            let result = target.run_pass(&request, diagnosis, &arena);
            target.forget_value();
            result.err()
        })
    };
    // The type is user code, which may panic on such tables.
    let (outcome, read) = buffered::detect_text(PROBE, || panics::catch(decode));
    let requested = REQUESTED.replace(outer).unwrap_or_default();
    let (fault, log) = outcome.unwrap_or_default();
    let fault = fault.filter(|fault| fault.0.missing_field.is_none());
    let location = fault.and_then(|fault| fault.0.location);
    let of_probe: Vec<&Rejection> = log
        .iter()
        .filter(|it| it.reported == Reported::Text(PROBE.to_owned()))
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
        fault_path: location.map(|location| location.path),
    }
}
