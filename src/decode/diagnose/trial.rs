//! One trial: a pass with another value in the place of one, to find out whether the type reads a secret there.
//!
//! See [`secret_sites`](crate::decode::diagnose::secret_sites) and
//! [`secret_trials`](crate::decode::diagnose::secret_trials).

use std::cell::RefCell;

use crate::decode::diagnose::diagnosis::Diagnosis;
use crate::decode::diagnose::fault::Fault;
use crate::decode::diagnose::inference::PROBE;
use crate::decode::diagnose::rejection::{self, Rejection, Reported};
use crate::decode::diagnose::secret_paths::{SiteTrial, TypePath};
use crate::decode::diagnose::target::Target;
use crate::decode::diagnose::text_arena::TextArena;
use crate::decode::input::Input;
use crate::decode::request::Request;
use crate::sorted::SortedSet;
use crate::sync::panics;
use crate::value::Value;
use crate::value::key;
use crate::value::secret::buffered;
use crate::value::table::Table;

/// The prefix of a name that stands for the number of a field.
pub(super) const FIELD_NUMBER: &str = "\u{1}liveprops field ";

/// The names of scalar types, those of serde first.
const SCALARS: [&str; 22] = [
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
    "struct Duration",
    "Duration",
    "ByteSize",
];

/// The names that a type asks for.
#[derive(Default)]
struct RequestedNames {
    fields: SortedSet<&'static str>,
    variants: SortedSet<&'static str>,
    lengths: SortedSet<usize>,
    lacks_variant: bool,
    messages: usize,
}

thread_local! {
    /// The names that the type asks for during a trial.
    static REQUESTED: RefCell<Option<RequestedNames>> = const { RefCell::new(None) };
}

/// During a trial, records fields that a struct has or lacks.
pub(crate) fn record_fields(names: &[&'static str]) {
    REQUESTED.with_borrow_mut(|requested| {
        if let Some(requested) = requested {
            requested.fields.extend(names.iter().copied());
        }
    });
}

/// During a trial, records the variants of an enum.
pub(crate) fn record_variants(names: &[&'static str]) {
    REQUESTED.with_borrow_mut(|requested| {
        if let Some(requested) = requested {
            requested.variants.extend(names.iter().copied());
        }
    });
}

/// During a trial, records the length of a list that is too short for a tuple.
pub(crate) fn record_length(length: usize, expected: &str) {
    REQUESTED.with_borrow_mut(|requested| {
        if let Some(requested) = requested.as_mut().filter(|_| expected.contains("tuple")) {
            requested.lengths.insert(length);
        }
    });
}

/// During a trial, records the message of a type.
pub(crate) fn record_message(message: &str) {
    REQUESTED.with_borrow_mut(|requested| {
        if let Some(requested) = requested {
            requested.lacks_variant |= message.starts_with(NO_VARIANT);
            requested.messages += 1;
        }
    });
}

/// How serde begins the message of a flattened enum without a variant.
const NO_VARIANT: &str = "no variant of enum ";

/// The number of the field that a name stands for.
pub(crate) fn field_number(name: &str) -> Option<u64> {
    name.strip_prefix(FIELD_NUMBER)?.parse().ok()
}

/// The result of a trial.
pub(super) struct TrialResult {
    /// Whether the type has read the probe as a secret; on an invented value, whether it has read any secret.
    pub(super) reads_secret: bool,
    /// The fields that the type has or asks for.
    pub(super) fields: SortedSet<&'static str>,
    pub(super) variants: SortedSet<&'static str>,
    /// The lengths of lists that are too short for a tuple.
    pub(super) lengths: SortedSet<usize>,
    /// Whether a flattened enum has found none of its variants, which it does not name.
    pub(super) lacks_variant: bool,
    /// How many messages types have made of their own.
    pub(super) messages: usize,
    /// Whether all types that have rejected the probe are scalars, and any has.
    pub(super) is_scalar: bool,
    /// What was expected in place of the probe.
    pub(super) expected: Option<String>,
    /// Whether the pass has failed.
    pub(super) failed: bool,
    /// The path of the fault, if it is about a value.
    fault_path: Option<String>,
    /// What was expected in place of that value.
    fault_expected: Option<String>,
    rejections: Vec<Rejection>,
}

impl TrialResult {
    fn new(
        reads_secret: bool,
        requested: RequestedNames,
        fault: Option<Fault>,
        rejections: Vec<Rejection>,
    ) -> Self {
        let failed = fault.is_some();
        let fault_expected = fault.as_ref().and_then(|fault| fault.0.expected.clone());
        let fault = fault.filter(|fault| fault.0.missing_field.is_none());
        let location = fault.and_then(|fault| fault.0.location);
        let location = location.filter(|location| !location.is_name);
        let result = Self {
            reads_secret,
            fields: requested.fields,
            variants: requested.variants,
            lengths: requested.lengths,
            lacks_variant: requested.lacks_variant,
            messages: requested.messages,
            is_scalar: false,
            expected: None,
            failed,
            fault_path: location.map(|location| location.path),
            fault_expected: None,
            rejections,
        };
        let of_probe = result.expected_for(&Reported::Text(PROBE.to_owned()));
        let mut of_any = of_probe
            .iter()
            .copied()
            .chain(fault_expected.as_deref())
            .peekable();
        let is_scalar = of_any.peek().is_some() && of_any.all(self::is_scalar);
        let expected = of_probe.last().map(|it| (*it).to_owned());
        Self {
            is_scalar,
            expected,
            fault_expected,
            ..result
        }
    }

    /// What types have expected in place of values that serde reports like this.
    pub(super) fn expected_for(&self, reported: &Reported) -> Vec<&str> {
        let all = self.rejections.iter();
        let of_it = all.filter(|rejection| rejection.reported == *reported);
        of_it.map(|rejection| &*rejection.expected).collect()
    }

    pub(super) fn rejects(&self, reported: &Reported) -> bool {
        !self.expected_for(reported).is_empty()
    }

    /// Whether a type has rejected a scalar of this value.
    pub(super) fn rejects_value(&self, value: &Value) -> bool {
        let reported = Reported::of_input(&Input::of_value(value));
        reported.is_some_and(|reported| self.rejects(&reported))
    }

    pub(super) fn rejects_probe(&self) -> bool {
        self.expected.is_some()
    }

    /// Whether the fault is about the value at a path below the site. A fault of a buffered value has the path of
    /// the site.
    pub(super) fn is_about(&self, path: &str) -> bool {
        !path.is_empty() && self.fault_path.as_deref() == Some(path)
    }

    /// Whether the fault is about the value at a path, which is to be a scalar.
    pub(super) fn wants_scalar(&self, path: &str) -> bool {
        self.is_about(path) && self.fault_expected.as_deref().is_some_and(is_scalar)
    }

    /// Whether the fault is at or below an entry of a table.
    pub(super) fn has_fault_at(&self, name: &str) -> bool {
        let path = self.fault_path.as_deref();
        let mut segments = path.into_iter().flat_map(key::segments);
        segments.any(|segment| segment.is_ok_and(|segment| segment == name))
    }
}

/// Whether serde names the type of a scalar like this.
pub(super) fn is_scalar(expected: &str) -> bool {
    // A range may follow the type.
    SCALARS.contains(&expected.split(" (").next().unwrap_or_default())
}

/// Values of which most types accept one.
pub(super) fn samples() -> impl Iterator<Item = Value> {
    let list = Value::from(Vec::<Value>::new());
    let table = Value::from(Table::new());
    scalars().chain([list, table])
}

/// Values of which most scalar types accept one.
pub(super) fn scalars() -> impl Iterator<Item = Value> {
    let others = [Value::from(1), Value::from(true), Value::from(1.5)];
    TEXTS.into_iter().map(Value::from).chain(others)
}

/// Texts of which most types accept one.
pub(super) const TEXTS: [&str; 12] = [
    "1",
    "1s",
    "a=1",
    "127.0.0.1",
    "127.0.0.1:1",
    "http://localhost/",
    "1.0.0",
    "info",
    "* * * * *",
    "2020-01-01",
    "2020-01-01T00:00:00Z",
    "00000000-0000-0000-0000-000000000000",
];

/// A value of a scalar type.
pub(super) fn value_of(expected: &str) -> Option<Value> {
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

/// Runs a pass with another value in the place of the value at a path.
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
    let arena = TextArena::new();
    let decode = || {
        // The `Drop` of a value is user code, which must not run under the commit lock. As answers are kept,
        // few values are leaked.
        let result = target.run_pass(&request, diagnosis, &arena);
        target.forget_value();
        result
    };
    let run = || record(decode);
    let ((fault, requested, rejections), read) = buffered::detect_text(PROBE, run);
    let is_below = |key: &String| key != path && key::under(key, path);
    let reads_secret = read || secret_keys.borrow().iter().any(is_below);
    TrialResult::new(reads_secret, requested, fault, rejections)
}

/// Reads an invented value at a path of the type, and nothing else.
pub(super) fn run_at(target: &dyn Target, site: &TypePath, value: &Value) -> TrialResult {
    let secret_keys = RefCell::new(Vec::new());
    let trial = SiteTrial {
        site,
        value,
        diagnosis: &RefCell::default(),
        secret_keys: &secret_keys,
    };
    let run = || record(|| target.run_trial(&trial));
    let ((fault, requested, rejections), read) = buffered::detect_secrets(run);
    let reads_secret = read || !secret_keys.borrow().is_empty();
    TrialResult::new(reads_secret, requested, fault, rejections)
}

/// Runs a pass, which is user code and may panic on invented values.
fn record(
    pass: impl FnOnce() -> Result<(), Fault>,
) -> (Option<Fault>, RequestedNames, Vec<Rejection>) {
    let outer = REQUESTED.replace(Some(RequestedNames::default()));
    let recorded = || rejection::record(|| pass().err());
    let (fault, log) = panics::catch(recorded).unwrap_or_default();
    let requested = REQUESTED.replace(outer).unwrap_or_default();
    (fault, requested, log)
}
