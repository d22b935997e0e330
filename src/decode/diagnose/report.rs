//! The second pass: texts that serde buffered are tried as what it wanted, and if nothing helps,
//! every problem is collected.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

use serde::de::value::SeqDeserializer;
use serde::de::{DeserializeOwned, Deserializer, IntoDeserializer, Visitor};

use crate::decode::diagnose::collect::Collected;
use crate::decode::diagnose::dummy::{Dummy, LEVELS};
use crate::decode::diagnose::fault::{EMPTY_VARIABLE, Fault, Got, is_inside_of_serde};
use crate::decode::diagnose::form::Form;
use crate::decode::diagnose::learn::Learned;
use crate::decode::diagnose::passes;
use crate::decode::diagnose::suspect::{self, Suspects};
use crate::decode::input::Path;
use crate::decode::place::{De, Root};
use crate::error::{Error, ErrorKind};
use crate::value::key::{Key, push_segment, under};
use crate::value::units;

/// Enough for a person to start with; one that a type of the user finds costs a decoding.
const MOST_ERRORS: usize = 100;
const MOST_ROUNDS: usize = 400;

/// Said where that was not enough.
const MORE: &str = "more values may be bad: serde buffers them, and the search ended here";

/// What serde calls the type of a duration.
const DURATION: &str = "struct Duration";

/// Said about a value that serde buffers.
const BUFFERED: &str = " (serde buffers this value)";

/// Said where too many values of one class want different forms.
const TOO_MANY: &str = " (too many values here want a conversion of their own; write numbers and booleans \
                        without quotes, or give the enum a tag)";

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
pub(in crate::decode) struct Slow {
    pub(in crate::decode) learned: Learned,
    pub(in crate::decode) collected: Collected,
    /// What stands in for the bad values whose types take few placeholders.
    stand_ins: HashMap<String, StandIn>,
    /// The types of the fields that structs lack.
    wanted: HashMap<String, String>,
    /// The faults of values that placeholders stand in for, which no error tells yet.
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

/// What is handed over for a bad value to who asks for anything.
#[derive(Clone, Copy, Debug)]
enum StandIn {
    Duration,
    Text,
}

impl Slow {
    /// The same knowledge, for passes from which nothing is to be learned.
    pub(in crate::decode) fn fork(&self) -> Self {
        Self {
            learned: self.learned.clone(),
            stand_ins: self.stand_ins.clone(),
            bad: self.bad.clone(),
            skipped: self.skipped.clone(),
            missing: self.missing.clone(),
            ..Self::default()
        }
    }

    /// The placeholder to use at a path, if the value there is bad.
    pub(in crate::decode) fn level(&self, path: impl FnOnce() -> String) -> Option<usize> {
        if self.bad.is_empty() {
            return None;
        }
        self.bad.get(&path()).copied()
    }

    pub(in crate::decode) fn is_skipped(&self, table: &str, name: &str) -> bool {
        !self.skipped.is_empty() && self.skipped.contains(&child(table, name))
    }

    pub(in crate::decode) fn missing_at(&self, path: &str) -> Vec<&'static str> {
        self.missing.get(path).cloned().unwrap_or_default()
    }

    /// Notes the type of a field that a struct lacks.
    pub(in crate::decode) fn note_wanted(&mut self, path: &str, wanted: impl FnOnce() -> String) {
        if self.is_missing(path) && !self.wanted.contains_key(path) {
            self.wanted.insert(path.to_owned(), wanted());
        }
    }

    /// Adds what is wanted to the errors of missing fields.
    fn name_wanted(&self, error: Error) -> Error {
        let wanted = error.key_text().and_then(|key| self.wanted.get(key));
        let wanted = wanted.filter(|wanted| !is_inside_of_serde(wanted));
        match wanted {
            Some(wanted) if error.kind() == ErrorKind::NotFound && error.expected().is_none() => {
                error.with_expected(wanted.as_str())
            }
            _ => error,
        }
    }

    /// Whether the search for errors has cost enough.
    pub(in crate::decode) fn is_exhausted(&self) -> bool {
        self.learned.reporting && self.collected.is_spent()
    }

    /// Whether a place stands for a field that its struct lacks.
    pub(in crate::decode) fn is_missing(&self, path: &str) -> bool {
        let mut missing = self.missing.iter();
        missing.any(|(table, names)| names.iter().any(|name| child(table, name) == path))
    }

    pub(in crate::decode) fn start(&mut self) {
        self.learned.start();
        self.dummied.clear();
    }

    /// A placeholder for a value whose fault is noted, or the fault.
    pub(in crate::decode) fn collect(
        &mut self,
        path: &Path<'_>,
        fault: Fault,
    ) -> Result<Dummy, Fault> {
        // A pass that finds something out needs the fault.
        let learned = &self.learned;
        let asks =
            learned.probing.is_some() || !learned.tokens.is_empty() || !learned.dropped.is_empty();
        let has_room = self.broken.len() < MOST_ERRORS;
        if !learned.reporting || asks || fault.0.done.is_some() {
            return Err(fault);
        }
        if !self.collected.may_note(path, &fault) || !has_room {
            return Err(fault);
        }
        self.note_broken(fault);
        Ok(Dummy::new(0))
    }

    /// Notes a fault of its own, such as a broken reference, for which a placeholder is handed over from now on.
    pub(in crate::decode) fn note_broken(&mut self, fault: Fault) {
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

    /// Adds to a fault about a buffered value what is known of that value.
    fn refine(&self, fault: &mut Fault) {
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
        if self.learned.is_exhausted() {
            inner.note += TOO_MANY;
        }
        if let Some(seen) = self.learned.value_at(&place.path) {
            if let (None, Got::Text(text)) = (&inner.wanted, &seen.got) {
                let is_size = units::byte_size(text).err() == Some(inner.detail.as_str());
                inner.wanted = is_size.then(|| "ByteSize".to_owned());
            }
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
        if self.replace_placeholder(&fault) {
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
        if let Some(stand_in) = self.stand_in(&fault, &path) {
            self.stand_ins.insert(path.clone(), stand_in);
        }
        self.collected.report(&path);
        // What was left out, as nothing could stand in for it, has an error of its own.
        let consequence =
            consequence || (fault.0.missing.is_some() && self.skipped.contains(&path));
        self.bad.insert(path, 0);
        if !consequence {
            errors.push(fault.into_error(root));
        }
        true
    }

    /// Takes another placeholder for a bad value that serde buffers, if the fault may be about the one
    /// before; says whether there is another one.
    fn replace_placeholder(&mut self, fault: &Fault) -> bool {
        let Some(place) = &fault.0.place else {
            return false;
        };
        let may_be = |path: &&String| {
            let level = self.bad.get(*path);
            under(path, &place.path) && level.is_some_and(|level| level + 1 < LEVELS)
        };
        let is_of_value = fault.0.got.is_some() || fault.0.custom;
        let mut dummied = self.dummied.iter().filter(|_| is_of_value);
        let Some(path) = dummied.find(may_be) else {
            return false;
        };
        if let Some(level) = self.bad.get_mut(path) {
            *level += 1;
        }
        true
    }

    fn stand_in(&self, fault: &Fault, path: &str) -> Option<StandIn> {
        let is_text = || {
            let seen = self.learned.value_at(path);
            fault.0.custom && seen.is_some_and(|seen| matches!(seen.got, Got::Text(_)))
        };
        match fault.0.wanted.as_deref() {
            Some(DURATION) => Some(StandIn::Duration),
            Some("a character") => Some(StandIn::Text),
            _ => is_text().then_some(StandIn::Text),
        }
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
pub(in crate::decode) fn again<T: DeserializeOwned>(
    root: Root<'_>,
    mut first: Fault,
) -> Result<T, Error> {
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
    slow.borrow_mut().learned.reporting = true;
    let mut errors = Vec::new();
    let suspects = Suspects::new();
    for _ in 0..MOST_ROUNDS {
        let result = passes::decode_in_passes::<T>(root, &slow);
        slow.borrow_mut().tell_broken(&mut errors, root.key);
        let Err(mut fault) = result else {
            break;
        };
        if errors.len() >= MOST_ERRORS {
            break;
        }
        if slow.borrow().is_exhausted() && !errors.is_empty() {
            if slow.borrow_mut().replace_placeholder(&fault) {
                continue;
            }
            // The fault may be that of a good value whose form is not known yet.
            let last = errors.pop();
            errors.extend(last.map(|last: Error| last.with_more(MORE)));
            break;
        }
        passes::locate::<T>(root, &slow, &mut fault);
        let room = MOST_ERRORS - errors.len();
        let (mut others, left) = passes::refused_alike::<T>(root, &slow, &fault, room - 1);
        slow.borrow().refine(&mut fault);
        if !root.traced {
            suspects.mask::<T>(root, &slow, &mut fault);
            others.iter_mut().for_each(|other| other.mask_as(&fault));
        }
        let mut go_on = slow.borrow_mut().learn(fault, &mut errors, root.key);
        for mut other in others {
            slow.borrow().refine(&mut other);
            go_on &= slow.borrow_mut().learn(other, &mut errors, root.key);
        }
        if left > 0 {
            let note = format!("{left} more values are refused for the same reason");
            let last = errors.pop();
            errors.extend(last.map(|last| last.with_more(&note)));
        }
        if !go_on || errors.len() >= MOST_ERRORS {
            break;
        }
    }
    if errors.is_empty() {
        suspects.mask::<T>(root, &slow, &mut first);
        errors.push(first.into_error(root.key));
    }
    if errors.len() >= MOST_ERRORS && !errors.iter().any(Error::is_partial) {
        let note = format!("of more errors the first {MOST_ERRORS} are listed");
        let last = errors.pop();
        errors.extend(last.map(|last| last.with_more(&note)));
    }
    let slow = slow.into_inner();
    let errors = errors.into_iter().map(|error| slow.name_wanted(error));
    Err(Error::all(errors.collect()))
}

/// Hands over what there is in the second pass, and remembers what was handed over.
pub(in crate::decode) fn any<'de, V: Visitor<'de>>(
    de: De<'_, 'de>,
    slow: &RefCell<Slow>,
    visitor: V,
) -> Result<V::Value, Fault> {
    let name = de.input.text().filter(|_| de.name);
    if let Some(number) = name.and_then(|name| suspect::field_number(&name)) {
        return visitor.visit_u64(number);
    }
    if let Some(dummy) = de.dummy() {
        return placeholder(de, dummy, slow, visitor);
    }
    let (form, token) = {
        let learned = &mut slow.borrow_mut().learned;
        let site = learned.site(&de);
        let token = learned.token(&site);
        let given = learned.form(&site, &de);
        let form = given.unwrap_or(Form::Plain);
        let shown = match form {
            Form::Plain => de.as_json(),
            _ => de,
        };
        let got = match token {
            Some(at) => passes::token_for(&form.got(&shown), at),
            None => form.got(&shown),
        };
        let token = token.map(|_| got.clone());
        if form != Form::Plain {
            de.convert(|| format!("{got:?}"));
        }
        learned.note(site, &de, got, given, false);
        learned.handed_over();
        de.count_handed();
        (form, token)
    };
    let de = match form {
        Form::Plain => de.as_json(),
        _ => de,
    };
    let handed = match token {
        None => {
            return form
                .hand_over(de, visitor)
                .map_err(|fault| refused(&de, fault));
        }
        Some(Got::Text(token)) => visitor.visit_str(&token),
        Some(Got::Number(token)) => visitor.visit_i64(token.parse().unwrap_or(i64::MAX)),
        Some(_) => return form.hand_over(de, visitor),
    };
    handed.map_err(|fault| de.place(fault))
}

/// Hands over a placeholder in the second pass.
fn placeholder<'de, V: Visitor<'de>>(
    de: De<'_, 'de>,
    dummy: Dummy,
    slow: &RefCell<Slow>,
    visitor: V,
) -> Result<V::Value, Fault> {
    let path = de.path_text();
    let stand_in = slow.borrow().stand_ins.get(&path).copied();
    let text = dummy.text();
    let got = match (stand_in, text) {
        (Some(StandIn::Duration), _) => Got::Seq,
        (Some(StandIn::Text), Some(text)) => Got::Text(text.to_owned()),
        (Some(StandIn::Text), None) => Dummy::new(0).got(),
        (None, _) => dummy.got(),
    };
    {
        let mut slow = slow.borrow_mut();
        let site = slow.learned.site(&de);
        slow.learned.note(site, &de, got, None, false);
        slow.dummied.push(path);
    }
    let handed = match (stand_in, text) {
        (Some(StandIn::Duration), _) => visitor.visit_seq(duration_parts(Duration::ZERO)),
        (Some(StandIn::Text), Some(text)) => visitor.visit_str(text),
        (Some(StandIn::Text), None) => Dummy::new(0).deserialize_any(visitor),
        (None, _) => dummy.deserialize_any(visitor),
    };
    handed.map_err(|fault| de.place(fault))
}

/// A fault of handing over is about what was handed over, unless it comes from a place below.
fn refused(de: &De<'_, '_>, mut fault: Fault) -> Fault {
    let place = fault.0.place.as_ref();
    fault.0.direct |= place.is_some_and(|place| place.path == de.path_text());
    fault
}

/// Hands over the name of an entry, or the tag of an enum, in the second pass.
pub(in crate::decode) fn identifier<'de, V: Visitor<'de>>(
    de: De<'_, 'de>,
    slow: &RefCell<Slow>,
    visitor: V,
) -> Result<V::Value, Fault> {
    let form = {
        let learned = &mut slow.borrow_mut().learned;
        if !de.name {
            learned.note_tag(&de);
        }
        let site = learned.site(&de);
        let given = learned.form(&site, &de);
        let form = given.unwrap_or(Form::Plain);
        let got = form.got(&de);
        if form != Form::Plain {
            de.convert(|| format!("{got:?}"));
        }
        learned.note(site, &de, got, given, true);
        form
    };
    match form {
        Form::Plain => match (de.dummy(), de.input.text()) {
            (None, Some(text)) => de
                .text_any(&text, visitor)
                .map_err(|fault| de.place_as::<V::Value>(fault)),
            _ => de.deserialize_str(visitor),
        },
        form => form.hand_over(de, visitor),
    }
}

type Parts = SeqDeserializer<std::array::IntoIter<Part, 2>, Fault>;

/// A duration in the form that serde's own implementation reads.
pub(in crate::decode) fn duration_parts(value: Duration) -> Parts {
    let nanos = u64::from(value.subsec_nanos());
    SeqDeserializer::new([Part(value.as_secs()), Part(nanos)].into_iter())
}

/// A number whatever width is asked for.
pub(in crate::decode) struct Part(u64);

impl IntoDeserializer<'_, Fault> for Part {
    type Deserializer = serde::de::value::U64Deserializer<Fault>;

    fn into_deserializer(self) -> Self::Deserializer {
        self.0.into_deserializer()
    }
}
