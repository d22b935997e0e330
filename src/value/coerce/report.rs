//! The second pass: texts that serde buffered are tried as what it wanted, and if nothing helps,
//! every problem is collected.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

use serde_core::de::value::SeqDeserializer;
use serde_core::de::{DeserializeOwned, Deserializer, IntoDeserializer, Visitor};

use crate::error::Error;
use crate::value::coerce::de::visit_int;
use crate::value::coerce::dummy::{Dummy, LEVELS};
use crate::value::coerce::fault::{Fault, Got, Place};
use crate::value::coerce::input::Input;
use crate::value::coerce::place::{De, Root};
use crate::value::coerce::text::{self, Whole};
use crate::value::key::{Key, push_segment, under};
use crate::value::units;

/// Enough for a person to start with; each one costs a decoding.
const MOST_ERRORS: usize = 100;
const MOST_ROUNDS: usize = 400;

/// What the second pass has learned so far. All paths are canonical keys.
#[derive(Default)]
pub(super) struct Slow {
    /// The scalars handed over in this round without knowing what they are for.
    seen: Vec<Seen>,
    /// Placeholders handed over in the same way.
    dummied: Vec<String>,
    guesses: HashMap<String, Guess>,
    guess_all: bool,
    /// The places known to be bad, and which placeholder is tried for each.
    bad: HashMap<String, usize>,
    /// Names a struct does not want or a map cannot read.
    skipped: HashSet<String>,
    /// Fields that structs lack.
    missing: HashMap<String, Vec<&'static str>>,
}

struct Seen {
    place: Place,
    text: Option<String>,
    got: Got,
}

/// What to read a text as.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Guess {
    Text,
    Bool,
    Number,
    Duration,
    List,
}

impl Guess {
    /// What would satisfy a type that expects this, if the text can be it.
    fn of(text: &str, expected: &str) -> Option<Self> {
        let has = |words: &[&str]| words.iter().any(|word| expected.contains(word));
        if has(&["string", "str", "char"]) && !has(&["struct"]) {
            None
        } else if has(&["bool"]) {
            text::boolean(text).map(|_| Guess::Bool)
        } else if has(&["Duration"]) {
            units::duration(text).ok().map(|_| Guess::Duration)
        } else if has(&["sequence", "tuple", "array", "list"]) {
            Some(Guess::List)
        } else {
            is_number(text).then_some(Guess::Number)
        }
    }

    fn blind(text: &str) -> Self {
        match text.trim() {
            "true" | "false" => Guess::Bool,
            text if is_number(text) => Guess::Number,
            _ => Guess::Text,
        }
    }
}

fn is_number(text: &str) -> bool {
    text::float::<f64>(text).is_ok() || text::whole(text).is_ok()
}

impl Slow {
    /// The placeholder to use at a path, if the value there is bad.
    pub(super) fn level(&self, path: &str) -> Option<usize> {
        self.bad.get(path).copied()
    }

    pub(super) fn is_skipped(&self, table: &str, name: &str) -> bool {
        !self.skipped.is_empty() && self.skipped.contains(&child(table, name))
    }

    pub(super) fn missing_at(&self, path: &str) -> Vec<&'static str> {
        self.missing.get(path).cloned().unwrap_or_default()
    }

    fn guess(&self, path: &str, text: &str) -> Guess {
        match self.guesses.get(path) {
            Some(guess) => *guess,
            None if self.guess_all => Guess::blind(text),
            None => Guess::Text,
        }
    }

    /// Finds a text that serde wants as something else; says whether there is one.
    fn adjust(&mut self, fault: &Fault) -> bool {
        let (Some(got), Some(place)) = (&fault.0.got, &fault.0.place) else {
            return false;
        };
        let wanted = fault.0.wanted.as_deref().unwrap_or_default();
        for seen in &self.seen {
            let Some(text) = &seen.text else { continue };
            if seen.got != *got || !under(&seen.place.path, &place.path) {
                continue;
            }
            let next = match (self.guesses.get(&seen.place.path), got) {
                (None, Got::Text(_)) => Guess::of(text, wanted),
                // It wanted text after all: the other one of two equal texts was meant.
                (Some(Guess::Bool | Guess::Number), Got::Bool(_) | Got::Number(_))
                    if wanted.contains("string") =>
                {
                    Some(Guess::Text)
                }
                _ => None,
            };
            if let Some(next) = next {
                let path = seen.place.path.clone();
                if next != Guess::Text {
                    self.guess_siblings(&path, wanted);
                }
                self.guesses.insert(path, next);
                return true;
            }
        }
        false
    }

    /// The items of one list are of one type: guesses them all in one round.
    fn guess_siblings(&mut self, path: &str, wanted: &str) {
        let list = |path: &str| {
            let (list, name) = path.rsplit_once('.')?;
            text::index(name).map(|_| list.len())
        };
        let Some(end) = list(path) else { return };
        for seen in &self.seen {
            let other = &seen.place.path;
            if list(other) != Some(end) || other[..end] != path[..end] {
                continue;
            }
            let guess = seen.text.as_ref().and_then(|t| Guess::of(t, wanted));
            if let Some(guess) = guess {
                self.guesses.entry(other.clone()).or_insert(guess);
            }
        }
    }

    /// Moves a fault about a buffered value to where that value stands, if there is only one.
    fn refine(&self, fault: &mut Fault) {
        let (Some(got), Some(place)) = (&fault.0.got, &fault.0.place) else {
            return;
        };
        let mut seen = self
            .seen
            .iter()
            .filter(|seen| seen.got == *got && under(&seen.place.path, &place.path));
        if let (Some(one), None) = (seen.next(), seen.next()) {
            // The mask of the outer place was for all it holds; here it is known what it was.
            fault.0.place = Some(one.place.clone());
        }
    }

    /// Notes what is bad, so that the next round gets past it; says whether there is hope.
    fn learn(&mut self, mut fault: Fault, errors: &mut Vec<Error>, root: &str) -> bool {
        self.refine(&mut fault);
        let Some(place) = &fault.0.place else {
            errors.push(fault.into_error(root));
            return false;
        };
        let path = place.path.clone();
        if path == root {
            if !self.is_consequence(&fault, &path) || errors.is_empty() {
                errors.push(fault.into_error(root));
            }
            return false;
        }
        // A fault inside of a placeholder: another placeholder may do.
        let outermost = self.bad.keys().filter(|bad| under(&path, bad)).min();
        if let Some(bad) = outermost.cloned() {
            let level = self.bad.entry(bad.clone()).or_default();
            *level += 1;
            return *level < LEVELS || self.give_up(&bad, root);
        }
        // The same, where serde has buffered the placeholder.
        let bumped = self.dummied.iter().find(|dummied| {
            fault.0.got.is_some()
                && under(dummied, &path)
                && self
                    .bad
                    .get(*dummied)
                    .is_some_and(|level| level + 1 < LEVELS)
        });
        if let Some(level) = bumped.and_then(|path| self.bad.get_mut(path)) {
            *level += 1;
            return true;
        }
        if place.name || fault.0.unknown.is_some() {
            if !self.skipped.insert(path.clone()) {
                return self.give_up(&path, root);
            }
            errors.push(fault.into_error(root));
            return true;
        }
        if let Some(field) = fault.0.missing {
            if let Some(parent) = parent(&path) {
                self.missing.entry(parent).or_default().push(field);
            }
        }
        let consequence = self.is_consequence(&fault, &path);
        self.bad.insert(path, 0);
        if !consequence {
            errors.push(fault.into_error(root));
        }
        true
    }

    /// Whether a fault may only be there because placeholders stand below.
    fn is_consequence(&self, fault: &Fault, path: &str) -> bool {
        let below = |bad: &String| bad != path && under(bad, path);
        fault.0.missing.is_none() && self.bad.keys().any(below)
    }

    /// No placeholder fits: leaves the value out, so that at least its siblings are looked at.
    /// Where that was done, replaces the whole table around it.
    fn give_up(&mut self, path: &str, root: &str) -> bool {
        if self.skipped.insert(path.to_owned()) {
            return true;
        }
        match parent(path) {
            Some(parent) if under(&parent, root) && parent != root => {
                self.bad.insert(parent, 0).is_none()
            }
            _ => false,
        }
    }
}

fn child(table: &str, name: &str) -> String {
    let mut path = table.to_owned();
    push_segment(&mut path, name);
    path
}

fn parent(path: &str) -> Option<String> {
    let key = Key::parse(path).ok()?;
    key.lineage().nth(1).map(str::to_owned)
}

/// Decodes again after a failure: with better guesses, or else to find all that is wrong.
#[cold]
pub(super) fn again<T: DeserializeOwned>(root: Root<'_>, first: Fault) -> Result<T, Error> {
    if !root.worth_a_second_pass() {
        return Err(first.into_error(root.key));
    }
    let slow = RefCell::new(Slow::default());
    let mut errors = Vec::new();
    let mut tried_all = false;
    for _ in 0..MOST_ROUNDS {
        let fault = match root.run(Some(&slow)) {
            Ok(value) if errors.is_empty() && slow.borrow().bad.is_empty() => return Ok(value),
            Ok(_) => break,
            Err(fault) => fault,
        };
        let mut state = slow.borrow_mut();
        let mut go_on = state.adjust(&fault);
        if !go_on && !tried_all && errors.is_empty() {
            tried_all = true;
            if state.seen.iter().any(|seen| seen.text.is_some()) {
                let every = RefCell::new(Slow {
                    guess_all: true,
                    ..Slow::default()
                });
                if let Ok(value) = root.run(Some(&every)) {
                    return Ok(value);
                }
            }
        }
        if !go_on {
            go_on = state.learn(fault, &mut errors, root.key);
        }
        state.seen.clear();
        state.dummied.clear();
        if !go_on || errors.len() >= MOST_ERRORS {
            break;
        }
    }
    if errors.is_empty() {
        errors.push(first.into_error(root.key));
    }
    Err(Error::all(errors))
}

/// Hands over what there is in the second pass, and remembers what was handed over.
pub(super) fn any<'de, V: Visitor<'de>>(
    de: De<'_>,
    slow: &RefCell<Slow>,
    visitor: V,
) -> Result<V::Value, Fault> {
    let got = match de.input.canonical() {
        Input::Dummy(level) => {
            slow.borrow_mut().dummied.push(de.path_text());
            let dummy = Dummy::new(level).deserialize_any(visitor);
            return dummy.map_err(|fault| de.place(fault));
        }
        Input::Text(text) => return any_text(de, text, slow, visitor),
        Input::Bool(value) => Got::Bool(value),
        Input::Int(value) => Got::Number(value.to_string()),
        Input::Big(value) => Got::Number(value.to_string()),
        Input::Float(value) => Got::Number(format!("{value:?}")),
        _ => return de.plain_any(visitor),
    };
    slow.borrow_mut().seen.push(Seen {
        place: de.place_here(),
        text: None,
        got,
    });
    de.plain_any(visitor)
}

fn any_text<'de, V: Visitor<'de>>(
    de: De<'_>,
    text: &str,
    slow: &RefCell<Slow>,
    visitor: V,
) -> Result<V::Value, Fault> {
    let place = de.place_here();
    let guess = slow.borrow().guess(&place.path, text);
    let note = |got| {
        let text = Some(text.to_owned());
        slow.borrow_mut().seen.push(Seen { place, text, got });
    };
    let result = match guess {
        Guess::Bool => {
            let value = text::boolean(text).unwrap_or_default();
            note(Got::Bool(value));
            visitor.visit_bool(value)
        }
        Guess::Number => match (text::whole(text), text::float::<f64>(text)) {
            (Ok(Whole::Signed(value)), _) => {
                note(Got::Number(value.to_string()));
                visit_int(value, visitor)
            }
            (Ok(Whole::Huge(value)), _) => {
                note(Got::Number(value.to_string()));
                visitor.visit_u128(value)
            }
            (Err(_), Ok(value)) => {
                note(Got::Number(format!("{value:?}")));
                visitor.visit_f64(value)
            }
            (Err(_), Err(_)) => {
                note(Got::Text(text.into()));
                visitor.visit_str(text)
            }
        },
        Guess::Duration => {
            note(Got::Other);
            let value = units::duration(text).unwrap_or_default();
            visitor.visit_seq(duration_parts(value))
        }
        Guess::List => {
            note(Got::Other);
            return de.list_any(visitor);
        }
        Guess::Text => {
            note(Got::Text(text.into()));
            visitor.visit_str(text)
        }
    };
    result.map_err(|fault| de.place(fault))
}

type Parts = SeqDeserializer<std::array::IntoIter<Part, 2>, Fault>;

/// A duration in the form that serde's own implementation reads.
pub(super) fn duration_parts(value: Duration) -> Parts {
    let nanos = u64::from(value.subsec_nanos());
    SeqDeserializer::new([Part(value.as_secs()), Part(nanos)].into_iter())
}

/// A number whatever width is asked for.
pub(super) struct Part(u64);

impl IntoDeserializer<'_, Fault> for Part {
    type Deserializer = serde_core::de::value::U64Deserializer<Fault>;

    fn into_deserializer(self) -> Self::Deserializer {
        self.0.into_deserializer()
    }
}
