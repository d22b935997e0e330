//! Live handles of several types, each with its expectation.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use liveprops::property::{PropertyBuilder, Reader, Subscription};
use liveprops::sources::Memory;
use liveprops::{DynamicProperty, Error, ErrorKind, Properties, Value};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::naive::{Node, Raw, Read, Seen, View, find, path};
use crate::steps::{Asked, KEYS};

/// Reads typed values of the model by new properties with a single layer. Those have no changes,
/// merges or references.
pub(crate) struct Oracle<'a> {
    view: &'a View,
    props: Properties,
}

impl<'a> Oracle<'a> {
    pub(crate) fn new(view: &'a View) -> Self {
        let values = view.leaves.iter().map(|(key, seen)| {
            let value = match seen {
                Seen::Value(value) => literal(value),
                Seen::Broken(broken) => {
                    let Some(Node::Leaf(raw)) = find(&view.merged, &path(key)) else {
                        unreachable!("what is broken is a leaf");
                    };
                    let reference = match broken.unresolved {
                        true => "${defined.nowhere}".to_owned(),
                        false => format!("${{{key}}}"),
                    };
                    match raw.is_another() {
                        true => Value::from(reference),
                        false => broken_like(raw, &reference),
                    }
                }
                Seen::Empty => Value::Table(Default::default()),
            };
            (key.as_str(), value)
        });
        let memory: Memory = values.collect();
        let props = Properties::builder()
            .inline_callbacks()
            .source(memory)
            .build()
            .unwrap();
        Self { view, props }
    }

    fn get<T: DeserializeOwned + 'static>(&self, key: &str, bind: bool) -> Result<T, ErrorKind> {
        let read = match bind {
            true => self.props.snapshot().bind(key),
            false => self.props.get(key),
        };
        read.map_err(|error| kind_of(&error))
    }
}

/// Represents errors about unresolved references only: a live handle keeps its value.
pub(crate) const UNRESOLVED: ErrorKind = ErrorKind::Unavailable;

fn kind_of(error: &Error) -> ErrorKind {
    let mut all = error.iter();
    match all.all(|error| error.to_string().contains("which no layer defines")) {
        true => UNRESOLVED,
        false => error.kind(),
    }
}

/// Creates a value with the parts of `raw`, in which parts with references are broken.
fn broken_like(raw: &Raw, reference: &str) -> Value {
    match raw {
        Raw::List(items) => {
            let items = items.iter().map(|item| broken_like(item, reference));
            Value::List(items.collect())
        }
        Raw::Table(fields) => {
            let fields = fields.iter();
            let fields = fields.map(|(k, v)| (k.as_str(), broken_like(v, reference)));
            Value::Table(fields.collect())
        }
        raw if raw.refers() => Value::from(format!("<{reference}>")),
        raw => literal(&raw.value()),
    }
}

/// Doubles all dollars before a brace: an odd one would begin a reference.
fn escaped(text: &str) -> String {
    let mut pieces = text.split('{');
    let mut escaped = pieces.next_back().unwrap_or_default().to_owned();
    for piece in pieces.rev() {
        let dollars = piece.len() - piece.trim_end_matches('$').len();
        escaped = format!("{piece}{}{{{escaped}", "$".repeat(dollars));
    }
    escaped
}

/// Escapes a value so that nothing in it is a reference.
fn literal(value: &Value) -> Value {
    match value {
        Value::Text(text) => Value::from(escaped(text)),
        Value::List(items) => Value::List(items.iter().map(literal).collect()),
        Value::Table(fields) => {
            let fields = fields.iter().map(|(k, v)| (k, literal(v)));
            Value::Table(fields.collect())
        }
        other => other.clone(),
    }
}

#[test]
fn a_text_with_escaped_references_is_written_as_a_literal() {
    for text in ["", "{", "a${b}", "$${a}", "${a.${b}:$${c}}$", "$$$${"] {
        let props = Properties::builder()
            .source(Memory::from([("a", escaped(text))]))
            .build()
            .unwrap();
        assert_eq!(props.get::<String>("a").unwrap(), text);
    }
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
struct Bound {
    x: Option<u32>,
    y: String,
    z: Option<Value>,
}

/// The calls of a subscription: old value, new value, generation.
type Reported = Arc<Mutex<Vec<(String, String, u64)>>>;

/// Returns the expected value of a handle.
type Expectation = Box<dyn Fn(&Oracle<'_>) -> Result<String, ErrorKind>>;

pub(crate) struct Handle {
    /// The value that the model expects.
    pub(crate) expected: Expectation,
    readings: Box<dyn FnMut() -> Vec<String>>,
    subscribe: Box<dyn Fn(Reported) -> Subscription>,
    version: Box<dyn Fn() -> u64>,
    keys: Vec<&'static str>,
    value: String,
    generation: u64,
    watching: Vec<(Subscription, Reported)>,
}

impl Handle {
    /// Builds a handle, which must exist exactly if the model expects it.
    pub(crate) fn ask(props: &Properties, asked: &Asked, oracle: &Oracle<'_>) -> Option<Self> {
        let key = KEYS[asked.key];
        let own = vec![key];
        let two = vec![key, KEYS[asked.fallback]];
        match asked.kind {
            0 => plain::<u32>(props, asked, own, 7, |v| *v != 2, oracle),
            1 => plain::<String>(props, asked, own, "no".into(), |v| v.len() < 5, oracle),
            2 => plain::<Option<u32>>(props, asked, own, Some(9), |v| *v != Some(1), oracle),
            3 => plain::<Vec<String>>(props, asked, own, vec![], |v| v.len() < 2, oracle),
            4 => bound(props, asked, key, oracle),
            5 => plain::<u32>(props, asked, two, 7, |v| *v != 1, oracle),
            6 => mapped(props, asked, two, oracle),
            _ => plain::<Value>(
                props,
                asked,
                own,
                0.into(),
                |v| *v != Value::from(4),
                oracle,
            ),
        }
    }

    pub(crate) fn watch(&mut self) {
        let reported = Reported::default();
        let guard = (self.subscribe)(Arc::clone(&reported));
        self.watching.push((guard, reported));
    }

    pub(crate) fn unwatch(&mut self) {
        self.watching.pop();
    }

    /// Returns whether a change of a key can affect the handle, apart from references. Hiding a
    /// table changes all its keys, so the first segment decides.
    pub(crate) fn concerns(&self, key: &str) -> bool {
        let first = |key: &str| path(key).swap_remove(0);
        self.keys.iter().any(|own| first(own) == first(key))
    }

    pub(crate) fn compare(&mut self, oracle: &Oracle<'_>, generation: u64, grown: u64) {
        let wanted = match (self.expected)(oracle) {
            Err(UNRESOLVED) => self.value.clone(),
            value => value.unwrap_or_else(|kind| {
                panic!("a live handle on {:?} has no value: {kind:?}", self.keys)
            }),
        };
        for reading in (self.readings)() {
            assert_eq!(reading, wanted, "{:?}", self.keys);
        }
        let version = (self.version)();
        assert!(version >= self.generation, "a version went back");
        assert!(version <= generation);
        let old = std::mem::replace(&mut self.value, wanted);
        let changed = old != self.value;
        assert!(!changed || grown == 1);
        if changed {
            assert_eq!(version, generation);
        }
        self.generation = version;
        for (_, reported) in &self.watching {
            let reported = std::mem::take(&mut *reported.lock().unwrap());
            if changed {
                assert_eq!(reported, [(old.clone(), self.value.clone(), generation)]);
            } else {
                assert_eq!(reported, []);
            }
        }
    }
}

fn plain<T: DeserializeOwned + Clone + Debug + PartialEq + Send + Sync + 'static>(
    props: &Properties,
    asked: &Asked,
    keys: Vec<&'static str>,
    default: T,
    accept: fn(&T) -> bool,
    oracle: &Oracle<'_>,
) -> Option<Handle> {
    let builder = terms(props.property::<T>(keys[0]), asked, &keys, &default, accept);
    let expected = expectation(asked, keys.clone(), default, accept, false);
    handle(builder.build(), keys, show(expected), oracle)
}

fn bound(
    props: &Properties,
    asked: &Asked,
    key: &'static str,
    oracle: &Oracle<'_>,
) -> Option<Handle> {
    let (default, accept) = (Bound::default(), |v: &Bound| v.y.len() < 5);
    let builder = terms(props.bind(key), asked, &[key], &default, accept);
    let expected = expectation(asked, vec![key], default, accept, true);
    handle(builder.build(), vec![key], show(expected), oracle)
}

/// A property computed from another one, whose own handle is dropped.
fn mapped(
    props: &Properties,
    asked: &Asked,
    keys: Vec<&'static str>,
    oracle: &Oracle<'_>,
) -> Option<Handle> {
    let (default, accept) = ("dflt".to_owned(), |v: &String| v.len() < 6);
    let builder = terms(props.property(keys[0]), asked, &keys, &default, accept);
    let expected = expectation(asked, keys.clone(), default, accept, false);
    let built = builder.build().map(|parent| {
        parent
            .map(|text| text.len() as u64)
            .map(|length| length / 2)
    });
    let expected = move |oracle: &Oracle<'_>| expected(oracle).map(|text| text.len() as u64 / 2);
    handle(built, keys, show(expected), oracle)
}

fn terms<T: DeserializeOwned + Clone + Send + Sync + 'static>(
    mut builder: PropertyBuilder<T>,
    asked: &Asked,
    keys: &[&str],
    default: &T,
    accept: fn(&T) -> bool,
) -> PropertyBuilder<T> {
    for key in &keys[1..] {
        builder = builder.or_key(key);
    }
    if asked.default {
        builder = builder.default(default.clone());
    }
    if asked.validator {
        builder = builder.validate(move |value| match accept(value) {
            true => Ok(()),
            false => Err("not acceptable".to_owned()),
        });
    }
    builder
}

fn expectation<T: DeserializeOwned + Clone + 'static>(
    asked: &Asked,
    keys: Vec<&'static str>,
    default: T,
    accept: fn(&T) -> bool,
    bind: bool,
) -> impl Fn(&Oracle<'_>) -> Result<T, ErrorKind> + use<T> {
    let default = asked.default.then_some(default);
    let validator = asked.validator;
    move |oracle| {
        for key in &keys {
            if oracle.view.read(key) == Read::Missing {
                continue;
            }
            let value = oracle.get::<T>(key, false)?;
            if validator && !accept(&value) {
                return Err(ErrorKind::Rejected);
            }
            return Ok(value);
        }
        match &default {
            Some(default) => Ok(default.clone()),
            None => oracle.get(keys[0], bind),
        }
    }
}

fn show<T: Debug>(expected: impl Fn(&Oracle<'_>) -> Result<T, ErrorKind> + 'static) -> Expectation {
    Box::new(move |oracle| expected(oracle).map(|value| format!("{value:?}")))
}

fn handle<T: Clone + Debug + PartialEq + Send + Sync + 'static>(
    built: Result<DynamicProperty<T>, Error>,
    keys: Vec<&'static str>,
    expected: Expectation,
    oracle: &Oracle<'_>,
) -> Option<Handle> {
    let wanted = expected(oracle);
    let prop = match (built, &wanted) {
        (Ok(prop), Ok(_)) => prop,
        (Err(error), Err(kind)) => {
            assert_eq!(kind_of(&error), *kind, "{error}");
            return None;
        }
        (built, wanted) => panic!("{keys:?}: {built:?} and not {wanted:?}"),
    };
    let mut reader: Reader<T> = prop.reader();
    let (read, listen, version) = (prop.clone(), prop.clone(), prop);
    Some(Handle {
        expected,
        readings: Box::new(move || {
            vec![
                format!("{:?}", read.get()),
                format!("{:?}", *read.load()),
                format!("{:?}", reader.get()),
                format!("{:?}", read.versioned().value),
            ]
        }),
        subscribe: Box::new(move |reported| {
            listen.on_change(move |change| {
                let (old, new) = (
                    format!("{:?}", change.old_value()),
                    format!("{:?}", change.new_value()),
                );
                reported
                    .lock()
                    .unwrap()
                    .push((old, new, change.generation()));
            })
        }),
        version: Box::new(move || version.versioned().generation()),
        keys,
        value: wanted.unwrap(),
        generation: 0,
        watching: Vec::new(),
    })
}
