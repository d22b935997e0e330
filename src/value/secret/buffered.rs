//! Finds the keys of the secrets that a type reads from serde's buffer.
//!
//! The buffer does not know the keys of its values. So a type that reads a secret from a buffer is decoded
//! again with a *trace*, which records each value that the deserializer visits, with its key. The key of
//! the secret is that of an equal value among those that may be in the buffer.

use std::cell::RefCell;

use crate::value::Value;
use crate::value::key;

/// The recording of this thread while it decodes.
enum Recording {
    Off,
    /// Records whether a secret was read from a buffer.
    AnySecret(bool),
    /// Records whether a secret that contains this text was read from a buffer.
    SecretWith(&'static str, bool),
    Trace(Trace),
}

thread_local! {
    static RECORDING: RefCell<Recording> = const { RefCell::new(Recording::Off) };
}

/// The keys that a type has read as secrets.
#[derive(Debug, Default)]
pub(crate) struct SecretKeys {
    /// The keys of the secrets.
    pub(crate) certain: Vec<String>,
    /// Keys of which one has a secret, and keys above an unknown key that has one.
    pub(crate) possible: Vec<String>,
}

impl SecretKeys {
    /// Removes repeated keys, and those that the decoder invented.
    pub(crate) fn normalize(&mut self, is_invented: impl Fn(&str) -> bool) {
        for keys in [&mut self.certain, &mut self.possible] {
            keys.retain(|key| !is_invented(key));
            keys.sort();
            keys.dedup();
        }
        let certain = &self.certain;
        self.possible
            .retain(|key| certain.binary_search(key).is_err());
    }
}

/// Why a value was visited.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum VisitKind {
    /// It is the value of the tree, in some form.
    Real,
    /// It replaces a bad value.
    Placeholder,
    /// It replaces a missing field.
    Missing,
}

/// A value that was visited for a type that accepts any type.
struct Visit {
    path: String,
    /// `None` for a list or a table.
    value: Option<Value>,
    /// The text of the value in the tree, whatever it was visited as.
    written: Option<String>,
    kind: VisitKind,
    /// Whether it is in no container that was visited.
    outermost: bool,
}

/// A value that is being read.
struct Scope {
    path: String,
    /// The number of visits before.
    start: usize,
}

#[derive(Default)]
struct Trace {
    visits: Vec<Visit>,
    scopes: Vec<Scope>,
    /// How many containers are being visited.
    depth: usize,
    keys: SecretKeys,
}

fn with_recording<R>(recording: Recording, act: impl FnOnce() -> R) -> (R, Recording) {
    /// Restores the outer recording, even in a panic.
    struct Restore(Recording);
    impl Drop for Restore {
        fn drop(&mut self) {
            let before = std::mem::replace(&mut self.0, Recording::Off);
            let _ = RECORDING.try_with(|it| it.replace(before));
        }
    }
    let Ok(before) = RECORDING.try_with(|it| it.replace(recording)) else {
        return (act(), Recording::Off);
    };
    let before = Restore(before);
    let outcome = act();
    let recording = RECORDING.try_with(|it| it.replace(Recording::Off));
    drop(before);
    (outcome, recording.unwrap_or(Recording::Off))
}

/// Runs `act` and returns whether it read a secret from serde's buffer.
pub(crate) fn detect_secrets<R>(act: impl FnOnce() -> R) -> (R, bool) {
    let (outcome, recording) = with_recording(Recording::AnySecret(false), act);
    (outcome, matches!(recording, Recording::AnySecret(true)))
}

/// Runs `act` and returns whether it read a secret with `text` in it from serde's buffer.
pub(crate) fn detect_text<R>(text: &'static str, act: impl FnOnce() -> R) -> (R, bool) {
    let (outcome, recording) = with_recording(Recording::SecretWith(text, false), act);
    (outcome, matches!(recording, Recording::SecretWith(_, true)))
}

fn contains_text(value: &Value, text: &str) -> bool {
    match value {
        Value::Text(value) => **value == *text,
        Value::List(items) => items.iter().any(|item| contains_text(item, text)),
        Value::Table(fields) => fields.values().any(|value| contains_text(value, text)),
        _ => false,
    }
}

/// Returns the key of a secret with an unknown name below `key`. It hides the value of `key` unless that is
/// a table, and it hides no other key below.
pub(crate) fn unnamed_below(key: &str) -> String {
    let mut inside = key.to_owned();
    key::push_segment(&mut inside, UNNAMED);
    inside
}

/// The last segment of a key from [`unnamed_below`].
pub(crate) const UNNAMED: &str = "*";

/// Runs `act`, which [records its visits](record_visit), and returns the keys of the secrets that it read
/// from serde's buffer.
pub(crate) fn trace_secrets<R>(act: impl FnOnce() -> R) -> (R, SecretKeys) {
    let (outcome, recording) = with_recording(Recording::Trace(Trace::default()), act);
    match recording {
        Recording::Trace(trace) => (outcome, trace.keys),
        _ => (outcome, SecretKeys::default()),
    }
}

/// Whether this thread records secrets.
pub(crate) fn is_recording() -> bool {
    let is = |it: &RefCell<Recording>| !matches!(*it.borrow(), Recording::Off);
    RECORDING.try_with(is).unwrap_or(false)
}

/// Records a secret that was read from serde's buffer; `None` if it cannot be read as a value.
pub(crate) fn record(value: Option<&Value>) {
    let _ = RECORDING.try_with(|it| match &mut *it.borrow_mut() {
        Recording::Off => {}
        Recording::AnySecret(read) => *read = true,
        Recording::SecretWith(text, read) => {
            *read |= value.is_some_and(|value| contains_text(value, text))
        }
        Recording::Trace(trace) => trace.locate(value),
    });
}

fn trace<R>(act: impl FnOnce(&mut Trace) -> R) -> Option<R> {
    let with = |it: &RefCell<Recording>| match &mut *it.borrow_mut() {
        Recording::Trace(trace) => Some(act(trace)),
        _ => None,
    };
    RECORDING.try_with(with).ok().flatten()
}

/// Begins a pass over the value at a key.
pub(crate) fn begin(key: &str) {
    trace(|trace| {
        trace.visits.clear();
        trace.scopes.clear();
        trace.depth = 0;
        let path = key.to_owned();
        trace.scopes.push(Scope { path, start: 0 });
    });
}

/// Records the visit of a value; `None` is a list or a table.
pub(crate) fn record_visit(
    path: String,
    value: Option<Value>,
    written: Option<String>,
    kind: VisitKind,
) {
    trace(|trace| {
        trace.visits.push(Visit {
            path,
            value,
            written,
            kind,
            outermost: trace.depth == 0,
        });
    });
}

/// Records that the visits during `act` are in a container that is visited.
pub(crate) fn record_container<R>(act: impl FnOnce() -> R) -> R {
    trace(|trace| trace.depth += 1);
    let outcome = act();
    trace(|trace| trace.depth = trace.depth.saturating_sub(1));
    outcome
}

/// A value is being read while this lives.
pub(crate) struct Reading(());

pub(crate) fn reading(path: String) -> Reading {
    trace(|trace| {
        let start = trace.visits.len();
        trace.scopes.push(Scope { path, start });
    });
    Reading(())
}

impl Drop for Reading {
    fn drop(&mut self) {
        trace(Trace::leave);
    }
}

impl Trace {
    fn leave(&mut self) {
        let Some(scope) = self.scopes.pop() else {
            return;
        };
        let first = self.visits.get(scope.start);
        // The type around may have buffered this value, but nothing that only this value has visited.
        let is_buffered = first.is_some_and(|first| first.path == scope.path);
        if !is_buffered && self.depth == 0 {
            self.visits.truncate(scope.start);
        }
    }

    fn locate(&mut self, value: Option<&Value>) {
        let start = self.scopes.last().map_or(0, |scope| scope.start);
        let visits = self.visits.get(start..).unwrap_or_default();
        let found = value.map_or(SearchResult::Nowhere, |value| find_value(visits, value));
        match found {
            SearchResult::At(mut paths) if paths.len() == 1 => self.keys.certain.append(&mut paths),
            SearchResult::At(mut paths) => self.keys.possible.append(&mut paths),
            SearchResult::OnlyPlaceholders => {}
            SearchResult::Nowhere => {
                let mut outermost = visits.iter().filter(|it| it.outermost).peekable();
                if outermost.peek().is_none() {
                    // The secret is part of a placeholder or of a text.
                    let here = self.scopes.last().map(|scope| unnamed_below(&scope.path));
                    self.keys.possible.extend(here);
                    return;
                }
                let paths = outermost.map(|it| it.path.clone());
                self.keys.possible.extend(paths);
            }
        }
    }
}

enum SearchResult {
    At(Vec<String>),
    /// Only in placeholders. The real values have visits of their own.
    OnlyPlaceholders,
    Nowhere,
}

fn find_value(visits: &[Visit], value: &Value) -> SearchResult {
    let all = |is: &dyn Fn(&Visit) -> bool| -> Vec<&Visit> {
        visits.iter().filter(|it| is(it)).collect()
    };
    let mut matches = all(&|it| it.holds(value, visits, Value::eq));
    if matches.is_empty() {
        matches = all(&|it| it.holds(value, visits, same_text) || it.is_written(value));
    }
    if matches.is_empty() {
        return SearchResult::Nowhere;
    }
    let of = |kind: VisitKind| {
        let of_it = matches.iter().filter(|it| it.kind == kind);
        let mut paths: Vec<String> = of_it.map(|it| it.path.clone()).collect();
        paths.sort();
        paths.dedup();
        paths
    };
    let kinds = [VisitKind::Missing, VisitKind::Real, VisitKind::Placeholder];
    match kinds.map(of) {
        [missing, ..] if missing.len() == 1 => SearchResult::At(missing),
        [missing, ..] if !missing.is_empty() => SearchResult::OnlyPlaceholders,
        [_, real, _] if !real.is_empty() => SearchResult::At(real),
        [_, _, placeholder] if placeholder.len() == 1 => SearchResult::At(placeholder),
        _ => SearchResult::OnlyPlaceholders,
    }
}

impl Visit {
    /// Whether the visited value contains all of a value.
    fn holds(&self, value: &Value, visits: &[Visit], equal: fn(&Value, &Value) -> bool) -> bool {
        let below = |name: &str, value: &Value| {
            let mut path = self.path.clone();
            key::push_segment(&mut path, name);
            let mut there = visits.iter().filter(|it| it.path == path);
            there.any(|it| it.holds(value, visits, equal))
        };
        match (&self.value, value) {
            (None, Value::Table(fields)) => {
                self.is_opaque(visits) || fields.iter().all(|(name, value)| below(name, value))
            }
            (None, Value::List(items)) => {
                let mut items = items.iter().enumerate();
                self.is_opaque(visits) || items.all(|(at, item)| below(&at.to_string(), item))
            }
            (Some(visited), value) => equal(visited, value),
            (None, _) => false,
        }
    }

    /// Whether the tree has the text of a value here.
    fn is_written(&self, value: &Value) -> bool {
        let written = self.written.as_deref();
        written.is_some_and(|written| scalar_text(value).as_deref() == Some(written))
    }

    /// Whether nothing below was visited, as in a duration.
    fn is_opaque(&self, visits: &[Visit]) -> bool {
        let below = |it: &Visit| it.path != self.path && key::under(&it.path, &self.path);
        !visits.iter().any(below)
    }
}

/// Whether two scalars have the same text.
fn same_text(one: &Value, other: &Value) -> bool {
    let canonical = |value: &Value| scalar_text(value.canonical());
    scalar_text(one).is_some_and(|one| Some(one) == scalar_text(other)) || {
        let one = canonical(one);
        one.is_some() && one == canonical(other)
    }
}

/// The text of a scalar.
fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::Unset | Value::List(_) | Value::Table(_) => None,
        scalar => Some(scalar.to_string()),
    }
}
