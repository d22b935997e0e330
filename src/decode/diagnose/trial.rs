//! One trial: a pass with a table in the place of a value, to find out whether the type reads a secret there.
//!
//! See [`secret_trials`](crate::decode::diagnose::secret_trials).

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::de::DeserializeOwned;

use crate::decode::diagnose::diagnosis::Diagnosis;
use crate::decode::diagnose::fault::Fault;
use crate::decode::diagnose::form::LISTS;
use crate::decode::diagnose::inference::PROBE;
use crate::decode::diagnose::rejection::{self, Found, Rejection};
use crate::decode::diagnose::text_arena::TextArena;
use crate::decode::request::Request;
use crate::sync::panics;
use crate::value::Value;
use crate::value::key;
use crate::value::secret;
use crate::value::secret::buffered::{self, SecretKeys};

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

/// Whether serde's name for what a type expects is that of a scalar.
pub(super) fn is_scalar_type(expected: &str) -> bool {
    SCALARS.contains(&expected.split(" (").next().unwrap_or_default())
}

/// Whether serde's name for what a type expects is that of a list.
fn is_list_type(expected: &str) -> bool {
    let mut words = expected.split(|c: char| !c.is_alphanumeric());
    words.any(|word| LISTS.contains(&word))
}

/// A part of serde's message about an enum that is flattened, which names no variants.
const HIDDEN_VARIANTS: &str = "found in flattened data";

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
    above: Vec<(Option<Tag>, String)>,
    tag: Option<Tag>,
    /// How many of the tables around it lead to the first table.
    start: usize,
}

/// The name and the value of the tag of a table.
pub(super) type Tag = (&'static str, &'static str);

fn tag_entry((name, variant): Tag) -> (Box<str>, Value) {
    entry(name, Value::from(variant))
}

impl TrialTable {
    /// The first table, at some names below the place of the trial. `tag` is that of the table around it.
    pub(super) fn at(names: &[String], tag: Option<Tag>) -> Self {
        let last = names.len().checked_sub(1);
        let tag_at = |at: usize| tag.filter(|_| Some(at) == last);
        let above = names.iter().enumerate();
        Self {
            above: above.map(|(at, name)| (tag_at(at), name.clone())).collect(),
            tag: None,
            start: names.len(),
        }
    }

    /// A list of one item at some names below the place of the trial.
    pub(super) fn list_at(names: &[String], item: Value) -> Value {
        Self::at(names, None).around(Value::from(vec![item]))
    }

    /// The outermost table, with these entries in the innermost one. What has an index is in a list.
    pub(super) fn with(&self, mut entries: BTreeMap<Box<str>, Value>) -> Value {
        entries.extend(self.tag.map(tag_entry));
        self.around(Value::from(entries))
    }

    /// The tables around a value.
    fn around(&self, inner: Value) -> Value {
        self.above.iter().rfold(inner, |inner, (above, name)| {
            if key::list_index(name).is_some() {
                return Value::from(vec![inner]);
            }
            let mut entries = BTreeMap::from([entry(name, inner)]);
            entries.extend(above.map(tag_entry));
            Value::from(entries)
        })
    }
}

/// The result of a trial.
pub(super) struct TrialResult {
    /// Whether a secret has read the probe.
    pub(super) reads_secret: bool,
    /// Whether the type has asked for any secret.
    pub(super) asks_secret: bool,
    fields: BTreeSet<&'static str>,
    pub(super) variants: BTreeSet<&'static str>,
    /// Whether a type has rejected the probe.
    rejected: bool,
    /// Whether only scalars have.
    is_scalar: bool,
    /// Whether it was read as the name of a variant.
    is_variant: bool,
    /// What was expected in place of the probe.
    expected: Option<String>,
    /// Whether a type has expected a list in place of a table.
    pub(super) expects_list: bool,
    /// Whether serde looks for the name of a variant that it does not tell.
    has_hidden_variants: bool,
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

    /// The fields that the type has asked for.
    pub(super) fn fields(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.fields.iter().copied()
    }

    /// Whether a type that is no secret has rejected the probe.
    pub(super) fn is_plain(&self) -> bool {
        self.is_scalar || self.is_variant
    }

    /// Whether the type has asked for the value at a path itself, and rejected it.
    pub(super) fn has_fault_exactly_at(&self, path: &str) -> bool {
        self.fault_path.as_deref() == Some(path)
    }
}

/// Tries each entry that a table may have; returns whether one of them is a secret, or may be. Adds the tables below
/// it to the queue.
pub(super) fn expand(
    table: &TrialTable,
    run_trial: &dyn Fn(&Value) -> TrialResult,
    queue: &mut VecDeque<TrialTable>,
) -> bool {
    let plain = run_trial(&table.with(BTreeMap::new()));
    let common = COMMON_NAMES.iter().map(|name| entry(name, probe_value()));
    if plain.reads_secret
        || plain.has_hidden_variants
        || run_trial(&table.with(common.collect())).reads_secret
        || fill(table, &plain, run_trial)
    {
        return true;
    }
    let names = plain.fields.iter().map(|name| (*name).to_owned());
    let numbers = (0..MAX_FIELDS).map(|at| format!("{FIELD_NUMBER}{at}"));
    for name in names.chain(numbers) {
        let run = |value| run_trial(&table.with(BTreeMap::from([entry(&name, value)])));
        let result = run(probe_value());
        if result.reads_secret {
            return true;
        }
        let is_list = result.expected.as_deref().is_some_and(is_list_type);
        if is_list && run(Value::from(vec![probe_value()])).reads_secret {
            return true;
        }
        let is_number = field_number(&name).is_some();
        if is_number && !result.rejected && result.fields == plain.fields {
            // There is no field with such a number.
            break;
        }
        if table.above.len() >= table.start + MAX_NESTING || result.is_scalar {
            continue;
        }
        let tag = plain.fields.iter().find(|field| **field == name);
        match tag.filter(|_| !result.variants.is_empty() && table.tag.is_none()) {
            Some(tag) => queue.extend(result.variants.iter().map(|variant| TrialTable {
                above: table.above.clone(),
                tag: Some((*tag, *variant)),
                start: table.start,
            })),
            None => {
                let mut above = table.above.clone();
                above.push((table.tag, name));
                if is_list {
                    above.push((None, "0".to_owned()));
                }
                queue.push_back(TrialTable {
                    above,
                    tag: None,
                    start: table.start,
                });
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

/// A number that only types of long numbers accept.
const NUMBER_PROBE: i64 = -7_340_193_558_217;

/// The probe for a type that accepts any text.
pub(super) fn number_probe() -> Value {
    Value::from(NUMBER_PROBE)
}

pub(super) fn entry(name: &str, value: Value) -> (Box<str>, Value) {
    (name.into(), value)
}

/// Runs a pass with a table in the place of the value at a path.
pub(super) fn run<T: DeserializeOwned>(
    request: Request<'_>,
    diagnosis: &RefCell<Diagnosis>,
    path: &str,
    value: &Value,
) -> TrialResult {
    let secret_keys = RefCell::new(SecretKeys::default());
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
            let result = request.run::<T>(Some((diagnosis, &arena)));
            result.map(std::mem::forget).err()
        })
    };
    // The type is user code, which may panic on such tables.
    let decode = || buffered::detect_text(PROBE, || panics::catch(decode));
    let ((outcome, read), asks_secret) = secret::detect_secret_read(decode);
    let requested = REQUESTED.replace(outer).unwrap_or_default();
    let (fault, log) = outcome.unwrap_or_default();
    let fault = fault.filter(|fault| fault.0.missing_field.is_none());
    let is_hidden = |fault: &Fault| fault.0.custom && fault.0.detail.contains(HIDDEN_VARIANTS);
    let has_hidden_variants = fault.as_ref().is_some_and(is_hidden);
    let location = fault.and_then(|fault| fault.0.location);
    let probes = [
        Found::Text(PROBE.to_owned()),
        Found::Number(NUMBER_PROBE.to_string()),
    ];
    let of_probe: Vec<&Rejection> = log.iter().filter(|it| probes.contains(&it.found)).collect();
    let is_below = |key: &String| key != path && key::under(key, path);
    TrialResult {
        reads_secret: read || secret_keys.borrow().certain.iter().any(is_below),
        asks_secret,
        fields: requested.fields,
        variants: requested.variants,
        rejected: !of_probe.is_empty(),
        is_scalar: !of_probe.is_empty() && of_probe.iter().all(|it| is_scalar_type(&it.expected)),
        is_variant: !of_probe.is_empty() && of_probe.iter().all(|it| it.variants.is_some()),
        expected: of_probe.last().map(|it| it.expected.clone()),
        expects_list: log
            .iter()
            .any(|it| it.found == Found::Map && is_list_type(&it.expected)),
        has_hidden_variants,
        fault_path: location.map(|location| location.path),
    }
}
