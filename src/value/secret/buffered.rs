//! Where the secrets stand that are read from what serde had buffered.
//!
//! A buffer does not know the places of its values. So a type that reads a secret from one is decoded
//! once more, with a trace: it notes what is handed over at which place, and each secret is looked for
//! in what is buffered while it is read.

use std::cell::RefCell;

use crate::value::Value;
use crate::value::key;

/// What is noted while something is decoded.
enum State {
    Nothing,
    /// Whether a secret was read from a buffer.
    Whether(bool),
    /// Whether a secret had a text in it.
    Has(&'static str, bool),
    Where(Trace),
}

thread_local! {
    static STATE: RefCell<State> = const { RefCell::new(State::Nothing) };
}

/// The keys of the secrets that were read from buffers.
#[derive(Debug, Default)]
pub(crate) struct Places {
    /// Where such a secret stands.
    pub(crate) certain: Vec<String>,
    /// Where one may stand: among other places, or unseen in a part.
    pub(crate) possible: Vec<String>,
}

impl Places {
    /// Leaves each key once, and none of which `is_invented` holds.
    pub(crate) fn settle(&mut self, is_invented: impl Fn(&str) -> bool) {
        for keys in [&mut self.certain, &mut self.possible] {
            keys.retain(|key| !is_invented(key));
            keys.sort_unstable();
            keys.dedup();
        }
        let certain = &self.certain;
        self.possible
            .retain(|key| certain.binary_search(key).is_err());
    }
}

/// How a value came to be handed over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Handing {
    /// It is the value, in some form.
    Real,
    /// It stands in for a bad value.
    StandIn,
    /// It stands in for a field that is missing.
    Missing,
}

/// What was handed over to who asked for whatever there is.
struct Handed {
    path: String,
    /// `None` for a list or a table.
    value: Option<Value>,
    /// The text that stands there, whatever it was handed over as.
    written: Option<String>,
    handing: Handing,
    /// Whether it is in nothing else that was handed over.
    outermost: bool,
}

/// A place that is being read.
struct Scope {
    path: String,
    /// How much was handed over before.
    start: usize,
}

#[derive(Default)]
struct Trace {
    handed: Vec<Handed>,
    scopes: Vec<Scope>,
    /// How many lists and tables are being handed over.
    depth: usize,
    places: Places,
}

fn recording<R>(state: State, act: impl FnOnce() -> R) -> (R, State) {
    /// Puts back what was noted before, even in a panic.
    struct Before(State);
    impl Drop for Before {
        fn drop(&mut self) {
            let before = std::mem::replace(&mut self.0, State::Nothing);
            let _ = STATE.try_with(|it| it.replace(before));
        }
    }
    let Ok(before) = STATE.try_with(|it| it.replace(state)) else {
        return (act(), State::Nothing);
    };
    let before = Before(before);
    let outcome = act();
    let state = STATE.try_with(|it| it.replace(State::Nothing));
    drop(before);
    (outcome, state.unwrap_or(State::Nothing))
}

/// Does something, and says whether it read a secret from what serde had buffered.
pub(crate) fn noticing<R>(act: impl FnOnce() -> R) -> (R, bool) {
    let (outcome, state) = recording(State::Whether(false), act);
    (outcome, matches!(state, State::Whether(true)))
}

/// Does something, and says whether it read a secret with a text in it from what serde had buffered.
pub(crate) fn looking_for<R>(text: &'static str, act: impl FnOnce() -> R) -> (R, bool) {
    let (outcome, state) = recording(State::Has(text, false), act);
    (outcome, matches!(state, State::Has(_, true)))
}

fn has(value: &Value, text: &str) -> bool {
    match value {
        Value::Text(value) => **value == *text,
        Value::List(items) => items.iter().any(|item| has(item, text)),
        Value::Table(fields) => fields.values().any(|value| has(value, text)),
        _ => false,
    }
}

/// The key of a secret whose name is not known below another key. It hides what stands at that key as
/// long as this is no table, and no other key below.
pub(crate) fn inside_of(key: &str) -> String {
    let mut inside = key.to_owned();
    key::push_segment(&mut inside, INSIDE);
    inside
}

/// The name of a secret whose name is not known.
pub(super) const INSIDE: &str = "*";

/// Does something that [notes](handed) what it hands over, and gives the places of the secrets that it
/// read from that.
pub(crate) fn tracing<R>(act: impl FnOnce() -> R) -> (R, Places) {
    let (outcome, state) = recording(State::Where(Trace::default()), act);
    match state {
        State::Where(trace) => (outcome, trace.places),
        _ => (outcome, Places::default()),
    }
}

pub(crate) fn is_recording() -> bool {
    let is = |it: &RefCell<State>| !matches!(*it.borrow(), State::Nothing);
    STATE.try_with(is).unwrap_or(false)
}

/// Notes a secret that was read from a buffer; `None` if it cannot be read as a value.
pub(crate) fn record(value: Option<&Value>) {
    let _ = STATE.try_with(|it| match &mut *it.borrow_mut() {
        State::Nothing => {}
        State::Whether(read) => *read = true,
        State::Has(text, read) => *read |= value.is_some_and(|value| has(value, text)),
        State::Where(trace) => trace.locate(value),
    });
}

fn trace<R>(act: impl FnOnce(&mut Trace) -> R) -> Option<R> {
    let with = |it: &RefCell<State>| match &mut *it.borrow_mut() {
        State::Where(trace) => Some(act(trace)),
        _ => None,
    };
    STATE.try_with(with).ok().flatten()
}

/// Begins a pass over what stands at a key.
pub(crate) fn begin(key: &str) {
    trace(|trace| {
        trace.handed.clear();
        trace.scopes.clear();
        trace.depth = 0;
        let path = key.to_owned();
        trace.scopes.push(Scope { path, start: 0 });
    });
}

/// Notes what is handed over at a place: a value, or a list or a table.
pub(crate) fn handed(path: String, value: Option<Value>, written: Option<String>, how: Handing) {
    trace(|trace| {
        trace.handed.push(Handed {
            path,
            value,
            written,
            handing: how,
            outermost: trace.depth == 0,
        });
    });
}

/// Notes that what is handed over meanwhile is in a list or a table that is handed over.
pub(crate) fn inside<R>(act: impl FnOnce() -> R) -> R {
    trace(|trace| trace.depth += 1);
    let outcome = act();
    trace(|trace| trace.depth = trace.depth.saturating_sub(1));
    outcome
}

/// A place is read while this lives.
pub(crate) struct Reading(());

pub(crate) fn reading(path: String) -> Reading {
    trace(|trace| {
        let start = trace.handed.len();
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
        let first = self.handed.get(scope.start);
        // What is handed over itself, the type around it may have buffered. The rest was used up.
        let is_buffered = first.is_some_and(|first| first.path == scope.path);
        if !is_buffered && self.depth == 0 {
            self.handed.truncate(scope.start);
        }
    }

    fn locate(&mut self, value: Option<&Value>) {
        let start = self.scopes.last().map_or(0, |scope| scope.start);
        let near = self.handed.get(start..).unwrap_or_default();
        let found = value.map_or(Found::Nowhere, |value| find(near, value));
        match found {
            Found::At(mut paths) if paths.len() == 1 => self.places.certain.append(&mut paths),
            Found::At(mut paths) => self.places.possible.append(&mut paths),
            Found::StandIns => {}
            Found::Nowhere => {
                let mut outermost = near.iter().filter(|it| it.outermost).peekable();
                if outermost.peek().is_none() {
                    // Read from what stands in for a value, or from a part of a text.
                    let here = self.scopes.last().map(|scope| inside_of(&scope.path));
                    self.places.possible.extend(here);
                    return;
                }
                let paths = outermost.map(|it| it.path.clone());
                self.places.possible.extend(paths);
            }
        }
    }
}

enum Found {
    At(Vec<String>),
    /// Only in what stands in for values, which are looked for by themselves.
    StandIns,
    Nowhere,
}

fn find(near: &[Handed], value: &Value) -> Found {
    let all = |is: &dyn Fn(&Handed) -> bool| -> Vec<&Handed> {
        near.iter().filter(|it| is(it)).collect()
    };
    let mut matches = all(&|it| it.holds(value, near, Value::eq));
    if matches.is_empty() {
        matches = all(&|it| it.holds(value, near, alike) || it.is_written(value));
    }
    if matches.is_empty() {
        return Found::Nowhere;
    }
    let of = |handing: Handing| {
        let of_it = matches.iter().filter(|it| it.handing == handing);
        let mut paths: Vec<String> = of_it.map(|it| it.path.clone()).collect();
        paths.sort_unstable();
        paths.dedup();
        paths
    };
    let kinds = [Handing::Missing, Handing::Real, Handing::StandIn];
    match kinds.map(of) {
        [missing, ..] if missing.len() == 1 => Found::At(missing),
        [missing, ..] if !missing.is_empty() => Found::StandIns,
        [_, real, _] if !real.is_empty() => Found::At(real),
        [_, _, stand_in] if stand_in.len() == 1 => Found::At(stand_in),
        _ => Found::StandIns,
    }
}

impl Handed {
    /// Whether what was handed over here has all of a value.
    fn holds(&self, value: &Value, near: &[Handed], equal: fn(&Value, &Value) -> bool) -> bool {
        let below = |name: &str, value: &Value| {
            let mut path = self.path.clone();
            key::push_segment(&mut path, name);
            let mut there = near.iter().filter(|it| it.path == path);
            there.any(|it| it.holds(value, near, equal))
        };
        match (&self.value, value) {
            (None, Value::Table(fields)) => {
                self.is_opaque(near) || fields.iter().all(|(name, value)| below(name, value))
            }
            (None, Value::List(items)) => {
                let mut items = items.iter().enumerate();
                self.is_opaque(near) || items.all(|(at, item)| below(&at.to_string(), item))
            }
            (Some(handed), value) => equal(handed, value),
            (None, _) => false,
        }
    }

    fn is_written(&self, value: &Value) -> bool {
        let written = self.written.as_deref();
        written.is_some_and(|written| text(value).as_deref() == Some(written))
    }

    /// Whether nothing is known of what stands below, such as of the parts of a duration.
    fn is_opaque(&self, near: &[Handed]) -> bool {
        let below = |it: &Handed| it.path != self.path && key::under(&it.path, &self.path);
        !near.iter().any(below)
    }
}

fn alike(one: &Value, other: &Value) -> bool {
    let canonical = |value: &Value| text(value.canonical());
    text(one).is_some_and(|one| Some(one) == text(other)) || {
        let one = canonical(one);
        one.is_some() && one == canonical(other)
    }
}

/// The text of a value that has none below it.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::Unset | Value::List(_) | Value::Table(_) => None,
        scalar => Some(scalar.to_string()),
    }
}
