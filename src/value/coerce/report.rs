//! The second pass: texts that serde buffered are tried as what it wanted, and if nothing helps,
//! every problem is collected.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

use serde_core::de::value::SeqDeserializer;
use serde_core::de::{DeserializeOwned, Deserializer, IntoDeserializer, Visitor};

use crate::error::Error;
use crate::value::coerce::dummy::LEVELS;
use crate::value::coerce::fault::{EMPTY_VARIABLE, Fault, Got};
use crate::value::coerce::form::Form;
use crate::value::coerce::learn::Learned;
use crate::value::coerce::passes;
use crate::value::coerce::place::{De, Root};
use crate::value::coerce::suspect::{self, Suspects};
use crate::value::key::{Key, push_segment, under};
use crate::value::units;

/// Enough for a person to start with; each one costs a decoding.
const MOST_ERRORS: usize = 100;
const MOST_ROUNDS: usize = 400;

/// What serde calls the type of a duration.
const DURATION: &str = "struct Duration";

/// Said about a value that serde buffers.
const BUFFERED: &str = " (serde buffers this value)";

/// Said about values of which serde does not say which one it means.
fn buffered_below(path: &str) -> String {
    let of = if path.is_empty() {
        String::new()
    } else {
        format!(" of `{path}`")
    };
    format!(" (serde buffers the fields{of} and does not say which one it means)")
}

/// What the second pass has learned so far. All paths are canonical keys.
#[derive(Default)]
pub(super) struct Slow {
    pub(super) learned: Learned,
    /// The bad values that serde reads as a duration, for which it takes few placeholders.
    durations: HashSet<String>,
    /// Broken references that no error tells yet.
    broken: Vec<Fault>,
    /// Placeholders handed over without knowing what they are for.
    dummied: Vec<String>,
    /// The places known to be bad, and which placeholder is tried for each.
    bad: HashMap<String, usize>,
    /// Names a struct does not want or a map cannot read.
    skipped: HashSet<String>,
    /// Fields that structs lack.
    missing: HashMap<String, Vec<&'static str>>,
}

impl Slow {
    /// The same knowledge, for passes from which nothing is to be learned.
    pub(super) fn fork(&self) -> Self {
        Self {
            learned: self.learned.clone(),
            durations: self.durations.clone(),
            broken: Vec::new(),
            dummied: Vec::new(),
            bad: self.bad.clone(),
            skipped: self.skipped.clone(),
            missing: self.missing.clone(),
        }
    }

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

    /// Whether a place stands for a field that its struct lacks.
    pub(super) fn is_missing(&self, path: &str) -> bool {
        let mut missing = self.missing.iter();
        missing.any(|(table, names)| names.iter().any(|name| child(table, name) == path))
    }

    pub(super) fn start(&mut self) {
        self.learned.start();
        self.dummied.clear();
    }

    /// Notes a broken reference, for which a placeholder is handed over from now on.
    pub(super) fn note_broken(&mut self, fault: Fault) {
        let path = fault.0.place.as_ref().map(|place| place.path.clone());
        if let Some(path) = path {
            if self.bad.insert(path, 0).is_none() {
                self.broken.push(fault);
            }
        }
    }

    fn tell_broken(&mut self, errors: &mut Vec<Error>, root: &str) {
        let broken = std::mem::take(&mut self.broken).into_iter();
        errors.extend(broken.map(|fault| fault.into_error(root)));
        errors.truncate(MOST_ERRORS);
    }

    /// Moves a fault about a buffered value to where that value stands, if there is only one.
    fn refine(&self, fault: &mut Fault) {
        self.move_to_value(fault);
        let may_be_buffered = fault.may_be_buffered();
        let inner = &mut *fault.0;
        let Some(place) = &mut inner.place else {
            return;
        };
        if !may_be_buffered || !self.learned.buffers_below(&place.path) {
            return;
        }
        inner.note = match place.found {
            Some(_) if self.learned.is_value(&place.path) => BUFFERED.into(),
            _ => buffered_below(&place.path).into(),
        };
        if let Some(seen) = self.learned.value_at(&place.path) {
            let is_blank = matches!(&seen.got, Got::Text(text) if text.trim().is_empty());
            if is_blank && place.variable {
                inner.detail = EMPTY_VARIABLE.to_owned();
                inner.custom = false;
            } else if inner.wanted.as_deref() == Some(DURATION) {
                let remedy = match &seen.got {
                    Got::Text(text) => units::duration(text).err(),
                    _ => Some(units::NO_UNIT),
                };
                inner.detail = remedy.map_or(std::mem::take(&mut inner.detail), str::to_owned);
            }
        }
        if place.origin.is_none() {
            place.origin = self.learned.origin_below(&place.path);
        }
    }

    fn move_to_value(&self, fault: &mut Fault) {
        let (Some(got), Some(place)) = (&fault.0.got, &fault.0.place) else {
            return;
        };
        let one = self.learned.only(got, &place.path);
        if let Some(place) = one.and_then(|seen| seen.place.clone()) {
            // The mask of the outer place was for all it holds; here it is known what it was.
            fault.0.place = Some(place);
        }
    }

    /// Notes what is bad, so that the next round gets past it; says whether there is hope.
    fn learn(&mut self, fault: Fault, errors: &mut Vec<Error>, root: &str) -> bool {
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
            (fault.0.got.is_some() || fault.0.custom)
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
        if fault.0.wanted.as_deref() == Some(DURATION) {
            self.durations.insert(path.clone());
        }
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

/// Decodes again after a failure: with values in other forms, or else to find all that is wrong.
#[cold]
pub(super) fn again<T: DeserializeOwned>(root: Root<'_>, mut first: Fault) -> Result<T, Error> {
    if !root.worth_a_second_pass() {
        return Err(first.into_error(root.key));
    }
    let slow = RefCell::new(Slow::default());
    // No other form of the values helps against a broken reference.
    if first.0.done.is_none() {
        if let Ok(value) = passes::decode_in_passes(root, &slow) {
            return Ok(value);
        }
    }
    slow.borrow_mut().learned.with_places = true;
    let mut errors = Vec::new();
    let suspects = Suspects::new();
    for _ in 0..MOST_ROUNDS {
        let result = passes::decode_in_passes::<T>(root, &slow);
        slow.borrow_mut().tell_broken(&mut errors, root.key);
        let Err(mut fault) = result else {
            break;
        };
        passes::locate::<T>(root, &slow, &mut fault);
        slow.borrow().refine(&mut fault);
        if !root.traced {
            suspects.mask::<T>(root, &slow, &mut fault);
        }
        let go_on = slow.borrow_mut().learn(fault, &mut errors, root.key);
        if !go_on || errors.len() >= MOST_ERRORS {
            break;
        }
    }
    if errors.is_empty() {
        suspects.mask::<T>(root, &slow, &mut first);
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
    let name = de.input.text().filter(|_| de.name);
    if let Some(number) = name.and_then(|name| suspect::field_number(&name)) {
        return visitor.visit_u64(number);
    }
    if let Some(dummy) = de.dummy() {
        let is_duration = {
            let mut slow = slow.borrow_mut();
            let site = slow.learned.site(&de);
            slow.learned.note(site, &de, Got::Other, false);
            let path = de.path_text();
            let is_duration = slow.durations.contains(&path);
            slow.dummied.push(path);
            is_duration
        };
        if is_duration {
            let parts = duration_parts(Duration::ZERO);
            return visitor.visit_seq(parts).map_err(|fault| de.place(fault));
        }
        return dummy
            .deserialize_any(visitor)
            .map_err(|fault| de.place(fault));
    }
    let (form, token) = {
        let learned = &mut slow.borrow_mut().learned;
        let site = learned.site(&de);
        let token = learned.token(&site);
        let form = learned.form(&site, &de);
        let shown = match form {
            Form::Plain => de.as_json(),
            _ => de,
        };
        let got = match token {
            Some(at) => passes::token_for(&form.got(&shown), at),
            None => form.got(&shown),
        };
        let token = token.map(|_| got.clone());
        learned.note(site, &de, got, false);
        learned.handed_over();
        (form, token)
    };
    let de = match form {
        Form::Plain => de.as_json(),
        _ => de,
    };
    let handed = match token {
        None => return form.hand_over(de, visitor),
        Some(Got::Text(token)) => visitor.visit_str(&token),
        Some(Got::Number(token)) => visitor.visit_i64(token.parse().unwrap_or(i64::MAX)),
        Some(_) => return form.hand_over(de, visitor),
    };
    handed.map_err(|fault| de.place(fault))
}

/// Hands over the name of an entry, or the tag of an enum, in the second pass.
pub(super) fn identifier<'de, V: Visitor<'de>>(
    de: De<'_>,
    slow: &RefCell<Slow>,
    visitor: V,
) -> Result<V::Value, Fault> {
    let form = {
        let learned = &mut slow.borrow_mut().learned;
        if !de.name {
            learned.note_tag(&de);
        }
        let site = learned.site(&de);
        let form = learned.form(&site, &de);
        learned.note(site, &de, form.got(&de), true);
        form
    };
    match form {
        Form::Plain => de.deserialize_str(visitor),
        form => form.hand_over(de, visitor),
    }
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
