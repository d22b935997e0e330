//! What serde has buffered: in which form each value is wanted.
//!
//! serde buffers a value before a type asks for it. The type then judges the buffered value, and its
//! error says what it wanted, but not where. So the decoding is repeated until each value has the
//! form that its type wants. Values that have the same type are given the same form at once:
//!
//! - A site is a place whose value serde asked for without a type.
//! - A class is the path of a site with `*` in place of each index, and in place of each name in a
//!   table that turned out to be a map. A tagged table adds the value of its tag.
//! - A probe is an additional entry that no type can read. If an error is about it, the table is a
//!   map: all of its entries have one type. A struct ignores it. A list is probed at its end, which
//!   tells a list from a tuple.
//!
//! So the number of passes depends on how many classes a type has, not on how many values there are.

use std::collections::{HashMap, HashSet};

use crate::value::coerce::access::Child;
use crate::value::coerce::fault::{self, Got, Judged, Place};
use crate::value::coerce::form::{Form, Shape};
use crate::value::coerce::input::{Input, Path, Segment};
use crate::value::coerce::place::De;
use crate::value::coerce::untagged::Alternatives;
use crate::value::key::{push_segment, under};

/// The name and the text of a probe.
pub(super) const PROBE: &str = "\u{1}liveprops probe";
/// The part of it that also stands in keys and messages, where the first character is escaped.
pub(super) const PROBE_WORDS: &str = "liveprops probe";

/// Separates the segments of a class.
pub(super) const STEP: char = '\u{1f}';
pub(super) const EACH: &str = "*";
/// Stands behind the class of a table for the names in it.
pub(super) const NAMES: char = '\u{1e}';
/// Stands between the class of a table and the value of its tag.
pub(super) const VARIANT: char = '\u{1d}';

/// What is known about the values that serde buffers.
#[derive(Default)]
pub(super) struct Learned {
    /// What this pass has handed over.
    seen: Vec<Seen>,
    pub(super) forms: HashMap<String, Form>,
    /// Forms that differ from that of the class, by place.
    pub(super) exact: HashMap<String, Form>,
    /// The places that gave a class its form.
    pub(super) witnesses: HashMap<String, Vec<String>>,
    pub(super) tried: HashSet<(String, Form)>,
    /// Whether the entries of a container have one type, by class.
    pub(super) kinds: HashMap<String, Kind>,
    tables: HashSet<String>,
    /// The tables that are read as lists.
    pub(super) listed: HashSet<String>,
    /// The entry that is the tag, by the class of its table.
    pub(super) tags: HashMap<String, String>,
    pub(super) alternatives: Alternatives,
    news: bool,
    pub(super) probing: Option<String>,
    pub(super) tokens: HashMap<String, usize>,
    /// The places that are left out while the value that a fault is about is looked for.
    pub(super) dropped: HashSet<String>,
    /// The texts of each entry of tables of one class, while a tag is looked for.
    pub(super) texts: Option<HashMap<String, Texts>>,
    pub(super) said_before: usize,
    /// Whether errors are collected.
    pub(super) reporting: bool,
    /// The place at and below which the next pass notes what an error shows.
    pub(super) place_at: Option<String>,
    /// Values of which it notes the same.
    pub(super) places: HashSet<String>,
}

/// The texts in each table of a class, with the path of the table.
type Texts = Vec<(String, HashMap<String, String>)>;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    /// All of one type.
    Homogeneous,
    /// Each name or index has its own type.
    Fixed,
}

/// A value that was handed over without knowing what it is for.
#[derive(Clone)]
pub(super) struct Seen {
    pub(super) path: String,
    pub(super) id: String,
    pub(super) class: String,
    pub(super) got: Got,
    raw: Raw,
    pub(super) name: bool,
    /// The tag of an enum, which serde does not buffer.
    tag: bool,
    pub(super) place: Option<Place>,
}

/// A value as the tree holds it.
#[derive(Clone)]
enum Raw {
    Text(String),
    Bool(bool),
    Int(i64),
    Big(Box<i128>),
    Float(f64),
    Table(Shape),
    /// An item of JSON text.
    Item(String),
    Other,
}

impl Raw {
    fn of(de: &De<'_>) -> Self {
        match de.input.canonical() {
            Input::Text(text) if de.json.is_some() => Raw::Item(text.to_owned()),
            Input::Text(text) => Raw::Text(text.to_owned()),
            Input::Bool(value) => Raw::Bool(value),
            Input::Int(value) => Raw::Int(value),
            Input::Big(value) => Raw::Big(Box::new(*value)),
            Input::Float(value) => Raw::Float(value),
            Input::Table(_) | Input::Fields(_) | Input::Nothing => Raw::Table(de.shape()),
            _ => Raw::Other,
        }
    }

    fn form(&self, judged: &Judged) -> Option<Form> {
        let input = match self {
            Raw::Text(text) => Input::Text(text),
            Raw::Bool(value) => Input::Bool(*value),
            Raw::Int(value) => Input::Int(*value),
            Raw::Big(value) => Input::Big(value),
            Raw::Float(value) => Input::Float(*value),
            Raw::Table(shape) => return Form::of_table(*shape, judged),
            Raw::Item(text) => return Self::form_of_item(text, judged),
            Raw::Other => return None,
        };
        Form::of(input, judged)
    }

    /// The form of an item of JSON text: if it is wrong as JSON has it, it is just text.
    fn form_of_item(text: &str, judged: &Judged) -> Option<Form> {
        let plain = || (judged.got != Got::Text(text.to_owned())).then_some(Form::Text);
        match Form::of(Input::Text(text), judged) {
            Some(Form::Plain) | None => plain(),
            form => form,
        }
    }
}

impl Seen {
    /// Whether a form gives up what is known of a value.
    pub(super) fn falls_back(&self, form: Form) -> bool {
        form == Form::Plain || (form == Form::Text && matches!(self.raw, Raw::Item(_)))
    }

    /// Whether serde may have buffered it, which it does with no name and no tag.
    fn is_buffered(&self) -> bool {
        !self.name && !self.tag
    }

    pub(super) fn is_container(&self) -> bool {
        matches!(self.got, Got::Map | Got::Seq)
    }
}

/// Whether a path leads to a place inside of another one.
pub(super) fn is_below(path: &str, above: &str) -> bool {
    path != above && under(path, above)
}

fn below(table: &str, name: &str) -> String {
    let mut path = table.to_owned();
    push_segment(&mut path, name);
    path
}

/// Where a value stands, in two spellings.
pub(super) struct Site {
    path: String,
    id: String,
    class: String,
    name: bool,
}

impl Learned {
    pub(super) fn site(&self, de: &De<'_>) -> Site {
        let path = de.path_text();
        let (id, class) = if de.name {
            let table = de.path.parent.map(|table| self.class(table));
            let class = table.unwrap_or_default();
            (format!("{path}{NAMES}"), format!("{class}{NAMES}"))
        } else {
            (path.clone(), self.class(de.path))
        };
        let name = de.name;
        Site {
            path,
            id,
            class,
            name,
        }
    }

    fn class(&self, path: &Path<'_>) -> String {
        let Some(parent) = path.parent else {
            return String::new();
        };
        let mut class = self.class(parent);
        let listed = self.listed.contains(&class);
        if let Some(variant) = path.variant {
            class.push(VARIANT);
            class.push_str(variant);
        }
        let kind = self.kinds.get(&class);
        let each = match path.segment {
            Segment::Index(_) => kind != Some(&Kind::Fixed),
            _ if listed => kind != Some(&Kind::Fixed),
            _ => kind == Some(&Kind::Homogeneous),
        };
        class.push(STEP);
        match path.segment {
            _ if each => class.push_str(EACH),
            Segment::Name(name) => class.push_str(name),
            Segment::Index(at) => class.push_str(&at.to_string()),
            Segment::Hidden => class.push('?'),
        }
        class
    }

    /// The form that a value is handed over in.
    pub(super) fn form(&self, site: &Site, de: &De<'_>) -> Form {
        let form = self
            .exact
            .get(&site.id)
            .or_else(|| self.forms.get(&site.class));
        form.copied()
            .filter(|form| form.applies(de))
            .unwrap_or(Form::Plain)
    }

    pub(super) fn note(&mut self, site: Site, de: &De<'_>, got: Got, tag: bool) {
        let shows = self.place_at.as_ref();
        let shows = shows.is_some_and(|at| under(&site.path, at));
        let shows = shows || self.places.contains(&site.id);
        let place = shows.then(|| de.place_here());
        self.seen.push(Seen {
            path: site.path,
            id: site.id,
            class: site.class,
            got,
            raw: Raw::of(de),
            name: site.name,
            tag,
            place,
        });
    }

    /// Notes that serde asks for the tag of an enum here.
    pub(super) fn note_tag(&mut self, de: &De<'_>) {
        let (Some(table), Segment::Name(name)) = (de.path.parent, de.path.segment) else {
            return;
        };
        let class = self.class(table);
        self.news |= self.tags.insert(class, name.to_owned()).is_none();
    }

    /// Notes a container whose entries serde asks for with a type.
    pub(super) fn note_kind(&mut self, path: &Path<'_>, homogeneous: bool) {
        let kind = if homogeneous {
            Kind::Homogeneous
        } else {
            Kind::Fixed
        };
        let class = self.class(path);
        self.kinds.insert(class, kind);
    }

    /// Adds the probe to the entries of a table, and finds the value of its tag.
    pub(super) fn enter_table<'a>(
        &mut self,
        de: &De<'_>,
        entries: &mut Vec<Child<'a>>,
    ) -> Option<&'a str> {
        if !self.dropped.is_empty() {
            let path = de.path_text();
            entries.retain(|entry| !self.dropped.contains(&below(&path, entry.name)));
        }
        let mut class = self.class(de.path);
        if self.texts.is_some() {
            self.note_texts(&class, &de.path_text(), entries);
        }
        let tag = self.tags.get(&class);
        let text = |child: &Child<'a>| match child.input {
            Input::Text(text) => Some(text),
            _ => None,
        };
        let variant = tag.and_then(|tag| {
            let child = entries.iter().find(|child| child.name == tag);
            child.and_then(text)
        });
        if let Some(variant) = variant {
            class.push(VARIANT);
            class.push_str(variant);
        }
        if self.probing.as_ref() == Some(&class) {
            entries.insert(0, Child::of_text(PROBE, PROBE));
        }
        self.tables.insert(class);
        variant
    }

    /// Adds the probe to the end of a list.
    pub(super) fn enter_list(&mut self, de: &De<'_>, items: &mut Vec<Child<'_>>) {
        let path = de.path;
        if !self.dropped.is_empty() {
            let list = de.path_text();
            let name = |item: &Child<'_>| match item.segment {
                Segment::Index(at) => at.to_string(),
                _ => item.name.to_owned(),
            };
            items.retain(|item| !self.dropped.contains(&below(&list, &name(item))));
        }
        if self.probing.is_some() && self.probing == Some(self.class(path)) {
            items.push(Child::item(items.len(), Input::Text(PROBE)));
        }
    }

    fn note_texts(&mut self, class: &str, path: &str, entries: &[Child<'_>]) {
        let Some(texts) = &mut self.texts else { return };
        if !class.ends_with(EACH) {
            return;
        }
        let text = |child: &Child<'_>| match child.input {
            Input::Text(text) => Some((child.name.to_owned(), text.to_owned())),
            _ => None,
        };
        let entries = entries.iter().filter_map(text).collect();
        let texts = texts.entry(class.to_owned()).or_default();
        texts.push((path.to_owned(), entries));
    }

    /// What stands in for a value in a pass that finds out which of several equal ones is meant.
    pub(super) fn token(&self, site: &Site) -> Option<usize> {
        self.tokens.get(&site.id).copied()
    }

    /// Where the values stand that a verdict may be about.
    pub(super) fn places_of<'a>(&'a self, judged: &'a Judged) -> impl Iterator<Item = &'a str> {
        let seen = self.seen.iter();
        seen.filter(|seen| seen.got == judged.got)
            .map(|seen| seen.path.as_str())
    }

    /// The only value that a fault can be about.
    pub(super) fn only(&self, got: &Got, below: &str) -> Option<&Seen> {
        let mut seen = self
            .seen
            .iter()
            .filter(|seen| seen.got == *got && under(&seen.path, below));
        match (seen.next(), seen.next()) {
            (Some(one), None) => Some(one),
            _ => None,
        }
    }

    /// Where the first of the values below a place was written.
    pub(super) fn origin_below(&self, path: &str) -> Option<String> {
        let below = self.seen.iter().filter(|seen| under(&seen.path, path));
        below
            .filter_map(|seen| seen.place.as_ref()?.origin.clone())
            .next()
    }

    /// Whether a scalar was handed over at a place.
    pub(super) fn is_value(&self, path: &str) -> bool {
        let here = |seen: &Seen| {
            seen.is_buffered() && seen.path == path && !matches!(seen.raw, Raw::Table(_))
        };
        self.seen.iter().any(here)
    }

    /// The scalar that was handed over at a place.
    pub(super) fn value_at(&self, path: &str) -> Option<&Seen> {
        let here = |seen: &&Seen| {
            !seen.name && seen.path == path && matches!(seen.got, Got::Text(_) | Got::Number(_))
        };
        self.seen.iter().find(here)
    }

    /// Whether anything was handed over at a place or below.
    pub(super) fn hands_over_below(&self, path: &str) -> bool {
        self.seen.iter().any(|seen| under(&seen.path, path))
    }

    /// The place where a value was handed over in a pass that noted it.
    pub(super) fn place_of(&self, id: &str) -> Option<Place> {
        let seen = self.seen.iter().find(|seen| seen.id == id);
        seen.and_then(|seen| seen.place.clone())
    }

    /// A value with its place, in a pass that noted it.
    pub(super) fn text_of(&self, id: &str) -> Option<(Got, Place)> {
        let seen = self.seen.iter().find(|seen| seen.id == id)?;
        Some((seen.got.clone(), seen.place.clone()?))
    }

    /// The value that serde may have buffered at a place.
    pub(super) fn buffered_at(&self, path: &str) -> Option<Seen> {
        let mut seen = self.seen.iter();
        let found = seen.find(|seen| seen.is_buffered() && seen.path == path);
        found.cloned()
    }

    /// The other texts of the class of a value that no form makes what its type wants.
    pub(super) fn alike(&self, refused: &Seen, judged: &Judged) -> Vec<Seen> {
        let is_alike = |seen: &&Seen| {
            let is_text = matches!(seen.raw, Raw::Text(_) | Raw::Item(_));
            let other = || Judged {
                got: seen.got.clone(),
                ..judged.clone()
            };
            seen.is_buffered()
                && seen.class == refused.class
                && seen.id != refused.id
                && matches!(seen.got, Got::Text(_))
                && is_text
                && seen.raw.form(&other()).is_none()
        };
        self.seen.iter().filter(is_alike).cloned().collect()
    }

    /// All that was handed over below a place, in that order, but for names and tags.
    pub(super) fn all_below(&self, path: &str) -> Vec<Seen> {
        let below = |seen: &&Seen| seen.is_buffered() && is_below(&seen.path, path);
        self.seen.iter().filter(below).cloned().collect()
    }

    /// Whether serde has buffered something at a place or below.
    pub(super) fn buffers_below(&self, path: &str) -> bool {
        let mut seen = self.seen.iter();
        seen.any(|seen| seen.is_buffered() && under(&seen.path, path))
    }

    /// How many values this pass has handed over.
    pub(super) fn handed(&self) -> usize {
        self.seen.len()
    }

    pub(super) fn start(&mut self) {
        self.seen.clear();
    }

    /// Whether something was learned in passing, so that the last pass is out of date.
    pub(super) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.news)
    }

    pub(super) fn seen(&self, at: usize) -> Option<Seen> {
        self.seen.get(at).cloned()
    }

    /// The values that a verdict may be about and that could have another form, with that form.
    pub(super) fn candidates(&self, judged: &Judged, below: &str) -> Vec<(usize, Form)> {
        let fits = |seen: &Seen| seen.got == judged.got && under(&seen.path, below);
        let find = |name: bool| -> Vec<(usize, Form)> {
            let seen = self.seen.iter().enumerate();
            seen.filter(|(_, seen)| seen.name == name && fits(seen))
                .filter_map(|(at, seen)| Some((at, seen.raw.form(judged)?)))
                .filter(|(at, form)| {
                    let id = &self.seen[*at].id;
                    !self.tried.contains(&(id.clone(), *form))
                })
                .collect()
        };
        let values = find(false);
        if values.is_empty() {
            find(true)
        } else {
            values
        }
    }

    /// The tables on the way to a class that have not been probed, outermost first.
    pub(super) fn unknown_table(&self, class: &str) -> Option<String> {
        let ends = class.match_indices(STEP).map(|(at, _)| at);
        ends.map(|end| &class[..end])
            .find(|table| {
                self.tables.contains(*table)
                    && !self.listed.contains(*table)
                    && !self.kinds.contains_key(*table)
            })
            .map(str::to_owned)
    }

    /// Lists whose items were given one form without a proof that they have one type.
    pub(super) fn unknown_list(&self) -> Option<String> {
        let each = format!("{STEP}{EACH}");
        let lists = self.forms.keys().flat_map(|class| {
            let ends = class.match_indices(&each).map(|(at, _)| at);
            ends.map(|end| &class[..end]).collect::<Vec<_>>()
        });
        lists
            .filter(|list| !self.kinds.contains_key(*list))
            .min()
            .map(str::to_owned)
    }

    /// Forgets what was concluded from one item of a tuple for the others.
    pub(super) fn not_a_list(&mut self, list: &str) {
        self.kinds.insert(list.to_owned(), Kind::Fixed);
        let each = format!("{list}{STEP}{EACH}");
        let below: Vec<String> = self
            .forms
            .keys()
            .filter(|class| class.starts_with(&each))
            .cloned()
            .collect();
        for class in below {
            let Some(form) = self.forms.remove(&class) else {
                continue;
            };
            for id in self.witnesses.remove(&class).unwrap_or_default() {
                self.exact.insert(id, form);
            }
        }
    }

    pub(super) fn set(&mut self, seen: &Seen, form: Form) {
        self.tried.insert((seen.id.clone(), form));
        if form == Form::List {
            self.listed.insert(seen.class.clone());
        }
        if self.forms.contains_key(&seen.class) {
            self.exact.insert(seen.id.clone(), form);
            return;
        }
        self.forms.insert(seen.class.clone(), form);
        let witnesses = self.witnesses.entry(seen.class.clone()).or_default();
        witnesses.push(seen.id.clone());
    }

    /// The innermost table around a class that stands for each of several and has no tag yet.
    pub(super) fn untagged_item(&self, class: &str) -> Option<String> {
        let ends = class.match_indices(STEP).map(|(at, _)| at);
        let tables = ends.map(|end| &class[..end]);
        let mut tables =
            tables.filter(|table| table.ends_with(EACH) && !self.tags.contains_key(*table));
        tables.next_back().map(str::to_owned)
    }

    /// The entry that tells the variants of tables of one class apart: of those that differ between
    /// two tables that disagree, the one with the fewest texts.
    pub(super) fn choose_tag(&mut self, table: &str, seen: &Seen) -> bool {
        let Some(mut texts) = self.texts.take() else {
            return false;
        };
        let texts = texts.remove(table).unwrap_or_default();
        let around = |path: &str| {
            let around = texts.iter().find(|(table, _)| under(path, table));
            around.map(|(_, entries)| entries)
        };
        let witness = self.witnesses.get(&seen.class).and_then(|ids| ids.first());
        let (Some(one), Some(other)) = (witness.and_then(|id| around(id)), around(&seen.path))
        else {
            return false;
        };
        let texts_of = |name: &str| -> HashSet<&String> {
            let texts = texts.iter().filter_map(|(_, entries)| entries.get(name));
            texts.collect()
        };
        let everywhere = |name: &str| texts.iter().all(|(_, entries)| entries.contains_key(name));
        let tag = one
            .iter()
            .filter(|(name, text)| other.get(*name).is_some_and(|other| other != *text))
            .filter(|(name, _)| everywhere(name))
            .map(|(name, _)| (texts_of(name).len(), name))
            .filter(|(distinct, _)| distinct * 2 <= texts.len().max(4))
            .min();
        let Some((_, tag)) = tag else {
            return false;
        };
        self.tags.insert(table.to_owned(), tag.clone());
        let below = format!("{table}{STEP}");
        self.forms.retain(|class, _| !class.starts_with(&below));
        self.witnesses.retain(|class, _| !class.starts_with(&below));
        self.tried.clear();
        true
    }

    /// How much serde had said when the last value was handed over: what it says later is about
    /// values that are all buffered.
    pub(super) fn handed_over(&mut self) {
        self.said_before = fault::noted();
    }

    /// All places where a value was handed over that serde may have reported.
    pub(super) fn all_of(&self, judged: &Judged, below: &str) -> Vec<Seen> {
        let seen = self.seen.iter();
        seen.filter(|seen| !seen.name && seen.got == judged.got && under(&seen.path, below))
            .cloned()
            .collect()
    }
}
