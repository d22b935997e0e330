//! Whether a value stands where a type reads a secret: a text in place of a struct that holds one.
//!
//! What a type reads without a buffer it tells by itself, see [`probe`]. What serde buffers is known only
//! while it is read. So the value is replaced by tables with one entry, which is a token, until a secret
//! reads the token or no table is left to try. The names of the entries are those that serde misses, the
//! numbers of fields, which a derived `Deserialize` takes in place of names, and names that secrets have.
//! A field that serde flattens, that may be missing and that has another name is not found.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::Hash;
use std::rc::Rc;
use std::thread::LocalKey;

use serde::de::DeserializeOwned;

use crate::decode::diagnose::fault;
use crate::decode::diagnose::fault::{Fault, Got, Judged};
use crate::decode::diagnose::identity::Texts;
use crate::decode::diagnose::learn::PROBE;
use crate::decode::diagnose::passes;
use crate::decode::diagnose::probe::{Way, secret_places_with};
use crate::decode::diagnose::report::Slow;
use crate::decode::place::Root;
use crate::sync::panics;
use crate::value::Value;
use crate::value::key;
use crate::value::secret::buffered;

/// As many tables are tried for all errors of one decoding, and fields by number for one struct.
const MOST_TRIED: usize = 200;
const MOST_FIELDS: usize = 16;
/// As deep is the deepest table.
const DEEPEST: usize = 3;

/// What the name of an entry that stands for the number of a field begins with.
const NUMBER: &str = "\u{1}liveprops field ";

/// Names that fields with secrets have.
const GUESSES: [&str; 18] = [
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

/// What serde calls types that hold nothing else.
const PLAIN: [&str; 19] = [
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

/// So many verdicts are remembered.
const MOST_KNOWN: usize = 1_000;

/// What a verdict is about: a type, a path in it without indexes, and what was wanted there.
type About = (TypeOf, Vec<String>, Option<String>);

/// A type by its name, and by a function of its own, since two types may have one name.
type TypeOf = (&'static str, usize);

thread_local! {
    /// Whether a secret belongs at a place. A type that is read again and again fails at no further cost.
    static KNOWN: RefCell<HashMap<About, bool>> = RefCell::default();
    /// Where types read secrets, as far as they tell.
    static WAYS: RefCell<HashMap<TypeOf, Rc<BTreeSet<Way>>>> = RefCell::default();

    /// The names that serde asks for while a table is tried.
    static ASKED: RefCell<Option<Asked>> = const { RefCell::new(None) };
}

/// What serde asks for.
#[derive(Default)]
struct Asked {
    fields: BTreeSet<&'static str>,
    variants: BTreeSet<&'static str>,
}

/// Notes the fields that a struct has or lacks, while a table is tried.
pub(in crate::decode) fn note_fields(names: &[&'static str]) {
    ASKED.with_borrow_mut(|asked| {
        if let Some(asked) = asked {
            asked.fields.extend(names);
        }
    });
}

/// Notes the variants that an enum has, while a table is tried.
pub(in crate::decode) fn note_variants(names: &[&'static str]) {
    ASKED.with_borrow_mut(|asked| {
        if let Some(asked) = asked {
            asked.variants.extend(names);
        }
    });
}

/// The number of the field that the name of an entry stands for.
pub(in crate::decode) fn field_number(name: &str) -> Option<u64> {
    name.strip_prefix(NUMBER)?.parse().ok()
}

/// What finds out whether values stand in for secrets, for the errors of one decoding.
pub(in crate::decode) struct Suspects {
    tried: Cell<usize>,
}

/// A table to be tried: entries that lead to it, and the tag that it has.
#[derive(Clone, Default)]
struct Shape {
    above: Vec<(Tag, String)>,
    tag: Tag,
}

type Tag = Option<(&'static str, &'static str)>;

impl Suspects {
    pub(in crate::decode) fn new() -> Self {
        Self {
            tried: Cell::new(0),
        }
    }

    /// Masks what a fault says of a value that stands in place of a table with a secret in it, and notes
    /// that the key holds one as long as it is no table.
    pub(in crate::decode) fn mask<T: DeserializeOwned>(
        &self,
        root: Root<'_>,
        slow: &RefCell<Slow>,
        fault: &mut Fault,
    ) {
        let Some(place) = fault
            .0
            .place
            .as_ref()
            .filter(|place| is_suspect(fault, place))
        else {
            self.note_values::<T>(root, slow, fault);
            return;
        };
        let path = place.path.clone();
        let Some(below) = self.secret_below::<T>(root, slow, fault, &path) else {
            return;
        };
        if let Some(place) = &mut fault.0.place {
            place.masked = true;
        }
        root.note_secret(below);
    }

    /// Notes the values in place of tables with secrets in what an untagged enum refuses as a whole.
    fn note_values<T: DeserializeOwned>(
        &self,
        root: Root<'_>,
        slow: &RefCell<Slow>,
        fault: &Fault,
    ) {
        let Some(place) = fault.0.place.as_ref().filter(|_| fault.0.custom) else {
            return;
        };
        if !slow.borrow().learned.buffers_below(&place.path) {
            return;
        }
        let slow = RefCell::new(slow.borrow().fork());
        let (_, log) = passes::dry::<T>(root, &slow);
        for judged in log
            .iter()
            .filter(|judged| !PLAIN.contains(&&*judged.wanted))
        {
            let path = slow
                .borrow()
                .learned
                .only_judged(judged, &place.path)
                .map(|seen| seen.path.clone());
            let below = path.and_then(|path| self.secret_below::<T>(root, &slow, fault, &path));
            if let Some(below) = below {
                root.note_secret(below);
            }
        }
    }

    /// The key of the secret below a path, as far as it is known.
    fn secret_below<T: DeserializeOwned>(
        &self,
        root: Root<'_>,
        slow: &RefCell<Slow>,
        fault: &Fault,
        path: &str,
    ) -> Option<String> {
        let rest = path.get(root.key.len()..).unwrap_or_default();
        let names: Vec<String> = key::segments(rest.strip_prefix('.').unwrap_or(rest))
            .map_while(Result::ok)
            .map(Into::into)
            .collect();
        let of = type_of::<T>();
        let ways = remembered(&WAYS, of, || {
            (Rc::new(secret_places_with(std::mem::forget::<T>)), true)
        });
        let leads = |way: &&Way| {
            let is_way = |(way, name): (&Option<&str>, &String)| way.is_none_or(|way| way == name);
            way.len() > names.len() && way.iter().zip(&names).all(is_way)
        };
        if let Some(way) = ways.iter().find(leads) {
            let mut below = path.to_owned();
            if let Some(name) = way[names.len()] {
                key::push_segment(&mut below, name);
                return Some(below);
            }
            return Some(buffered::inside_of(path));
        }
        let names = names.iter().map(|name| class(name).to_owned()).collect();
        let about = (of, names, fault.0.wanted.clone());
        let is_secret = remembered(&KNOWN, about, || {
            let is_secret = self.try_tables::<T>(root, slow, path);
            (is_secret, is_secret || self.tried.get() < MOST_TRIED)
        });
        is_secret.then(|| buffered::inside_of(path))
    }

    fn try_tables<T: DeserializeOwned>(
        &self,
        root: Root<'_>,
        slow: &RefCell<Slow>,
        path: &str,
    ) -> bool {
        let slow = RefCell::new(slow.borrow().fork());
        let try_one = |value: &Value| {
            self.tried.set(self.tried.get() + 1);
            run::<T>(root, &slow, path, value)
        };
        let mut queue = VecDeque::from([Shape::default()]);
        while let Some(shape) = queue.pop_front() {
            if self.tried.get() >= MOST_TRIED {
                break;
            }
            if expand(&shape, &try_one, &mut queue) {
                return true;
            }
        }
        false
    }
}

fn type_of<T: DeserializeOwned>() -> TypeOf {
    let own: fn(Root<'_>, &RefCell<Slow>) -> passes::Outcome = passes::dry::<T>;
    (std::any::type_name::<T>(), own as usize)
}

/// What was made before, or is made now; said with it is whether that is worth remembering.
fn remembered<K: Eq + Hash, V: Clone>(
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
            if all.len() >= MOST_KNOWN {
                all.clear();
            }
            all.insert(key, value.clone());
        });
    }
    value
}

/// Whether a fault may be about a value that stands in place of a table.
fn is_suspect(fault: &Fault, place: &fault::Place) -> bool {
    let is_table = |found: &String| found.starts_with("table of");
    let is_plain = |wanted: &String| PLAIN.contains(&wanted.split(" (").next().unwrap_or_default());
    !place.masked
        && !place.name
        && fault.0.done.is_none()
        && fault.0.missing.is_none()
        && fault.0.unknown.is_none()
        && place.found.as_ref().is_some_and(|found| !is_table(found))
        && !fault.0.wanted.as_ref().is_some_and(is_plain)
}

/// The name of an entry without the index of an item.
fn class(name: &str) -> &str {
    if name.bytes().all(|byte| byte.is_ascii_digit()) {
        "*"
    } else {
        name
    }
}

/// Tries a table with each entry that it may have; says whether one of them is a secret.
fn expand(shape: &Shape, try_one: &dyn Fn(&Value) -> Tried, queue: &mut VecDeque<Shape>) -> bool {
    let plain = try_one(&shape.with(BTreeMap::new()));
    let guesses = GUESSES.iter().map(|name| entry(name, token()));
    if plain.read || try_one(&shape.with(guesses.collect())).read || fill(shape, &plain, try_one) {
        return true;
    }
    let names = plain.fields.iter().map(|name| (*name).to_owned());
    let numbers = (0..MOST_FIELDS).map(|at| format!("{NUMBER}{at}"));
    for name in names.chain(numbers) {
        let tried = try_one(&shape.with(BTreeMap::from([entry(&name, token())])));
        if tried.read {
            return true;
        }
        let is_number = field_number(&name).is_some();
        if is_number && !tried.judged && tried.fields == plain.fields {
            // There is no field with such a number.
            break;
        }
        if shape.above.len() >= DEEPEST || tried.is_plain {
            continue;
        }
        let tag = plain.fields.iter().find(|field| **field == name);
        match tag.filter(|_| !tried.variants.is_empty() && shape.tag.is_none()) {
            Some(tag) => queue.extend(tried.variants.iter().map(|variant| Shape {
                above: shape.above.clone(),
                tag: Some((*tag, *variant)),
            })),
            None => {
                let mut above = shape.above.clone();
                above.push((shape.tag, name));
                queue.push_back(Shape { above, tag: None });
            }
        }
    }
    false
}

/// Tries a table with all entries that are missed, one after the other: a struct reads what it flattens
/// once it has all its own fields. Says whether one of them is a secret.
fn fill(shape: &Shape, plain: &Tried, try_one: &dyn Fn(&Value) -> Tried) -> bool {
    let mut entries = BTreeMap::new();
    let mut missed = plain.fields.clone();
    let mut last: Option<&'static str> = None;
    for _ in 0..2 * MOST_FIELDS {
        let next = missed
            .iter()
            .find(|name| !entries.contains_key(**name))
            .copied();
        let Some(name) = last.take().or(next) else {
            return false;
        };
        entries.entry(Box::from(name)).or_insert_with(token);
        let tried = try_one(&shape.with(entries.clone()));
        if tried.read {
            return true;
        }
        missed.extend(tried.fields);
        if let Some(wanted) = tried.wanted {
            // What was added last has another type.
            let Some(value) = value_of(&wanted) else {
                return false;
            };
            entries.insert(name.into(), value);
            last = Some(name);
        }
    }
    false
}

/// A value of a type that holds nothing else.
fn value_of(wanted: &str) -> Option<Value> {
    match wanted {
        "bool" | "a boolean" => Some(Value::from(true)),
        "char" | "a character" => Some(Value::from("x")),
        "f32" | "f64" => Some(Value::from(1.5)),
        "i8" | "i16" | "i32" | "i64" | "i128" | "u8" | "u16" | "u32" | "u64" | "u128" => {
            Some(Value::from(1))
        }
        _ => None,
    }
}

fn token() -> Value {
    Value::from(PROBE)
}

fn entry(name: &str, value: Value) -> (Box<str>, Value) {
    (name.into(), value)
}

impl Shape {
    /// The table with some entries, in all tables around it.
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

/// What came out of a table.
struct Tried {
    /// Whether a secret read the token.
    read: bool,
    fields: BTreeSet<&'static str>,
    variants: BTreeSet<&'static str>,
    /// Whether somebody read the token, and whether that was no table.
    judged: bool,
    is_plain: bool,
    /// What was wanted in place of the token.
    wanted: Option<String>,
}

/// Decodes with a table in place of the value at a path.
fn run<T: DeserializeOwned>(
    root: Root<'_>,
    slow: &RefCell<Slow>,
    path: &str,
    value: &Value,
) -> Tried {
    let notes = RefCell::new(Vec::new());
    let root = root.noting(&notes).instead(path, value);
    slow.borrow_mut().start();
    let outer = ASKED.replace(Some(Asked::default()));
    let texts = Texts::new();
    let decode = || {
        fault::noting(|| {
            // The `Drop` of a value is user code, which must not run under the lock of a commit. As the
            // verdict is remembered, few values are leaked.
            let _ = root.run::<T>(Some((slow, &texts))).map(std::mem::forget);
        })
    };
    // It is the user's code, and does not reckon with such tables.
    let (outcome, read) = buffered::looking_for(PROBE, || panics::catch(decode));
    let asked = ASKED.replace(outer).unwrap_or_default();
    let log = outcome.map(|(_, log)| log).unwrap_or_default();
    let of_token: Vec<&Judged> = log
        .iter()
        .filter(|it| it.got == Got::Text(PROBE.to_owned()))
        .collect();
    let is_below = |noted: &String| noted != path && key::under(noted, path);
    Tried {
        read: read || notes.borrow().iter().any(is_below),
        fields: asked.fields,
        variants: asked.variants,
        judged: !of_token.is_empty(),
        is_plain: !of_token.is_empty() && of_token.iter().all(|it| PLAIN.contains(&&*it.wanted)),
        wanted: of_token.last().map(|it| it.wanted.clone()),
    }
}
