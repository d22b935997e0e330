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
//! - If values of one class want different forms, as in an untagged enum, the items of the class are
//!   told apart: by the value of a tag, or else by what they look like.
//!
//! So the number of passes depends on how many classes a type has and in how many ways its values are
//! written, not on how many values there are.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

use crate::decode::access::Child;
use crate::decode::diagnose::classes::{Forms, Written, look};
use crate::decode::diagnose::fault::{self, Fault, Got, Judged, Place};
use crate::decode::diagnose::form::{Form, Shape};
use crate::decode::diagnose::identity::address;
use crate::decode::diagnose::untagged::Alternatives;
use crate::decode::input::{Input, Path, Segment};
use crate::decode::place::De;
use crate::value::key::{self, Key, push_segment, under};
use crate::value::origin::Origin;
use crate::value::scalar::Wide;

/// The name and the text of a probe.
pub(in crate::decode) const PROBE: &str = "\u{1}liveprops probe";
/// The part of it that also stands in keys and messages, where the first character is escaped.
pub(in crate::decode) const PROBE_WORDS: &str = "liveprops probe";

/// Separates the segments of a class.
pub(in crate::decode) const STEP: char = '\u{1f}';
pub(in crate::decode) const EACH: &str = "*";
/// Stands behind the class of a table for the names in it.
pub(in crate::decode) const NAMES: char = '\u{1e}';
/// Stands between the class of a table and the value of its tag.
pub(in crate::decode) const VARIANT: char = '\u{1d}';

/// As many values may want a form that others of their class do not want.
const MOST_EXCEPTIONS: usize = 256;

/// Beside so many values others are looked for.
const MOST_NEAR: usize = 16;

/// Whether a class is that of an item of a class, or of a value in it.
fn is_in_class(class: &str, item: &str) -> bool {
    let rest = class.strip_prefix(item);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([STEP, NAMES, VARIANT]))
}

/// The classes on the way to a class that stand for one of several items, outermost first.
fn items_around(class: &str) -> Vec<&str> {
    let ends = class
        .match_indices([STEP, VARIANT, NAMES])
        .map(|(at, _)| at);
    let ends = ends.chain([class.len()]);
    let items = ends.map(|end| &class[..end]);
    items.filter(|item| item.ends_with(EACH)).collect()
}

/// The innermost item that was told apart to which a value belongs, and the field of it.
fn field_of_variant(class: &str) -> Option<(&str, &str)> {
    let item = class.rfind(&format!("{EACH}{VARIANT}"))? + EACH.len();
    let start = item + class[item..].find(STEP)? + STEP.len_utf8();
    let end = class[start..].find([STEP, VARIANT, NAMES]);
    let field = &class[..end.map_or(class.len(), |end| start + end)];
    Some((&class[..item], field))
}

/// What is known about the values that serde buffers.
#[derive(Clone, Default)]
pub(in crate::decode) struct Learned {
    /// What this pass has handed over.
    seen: Vec<Seen>,
    by_got: HashMap<Got, Vec<usize>>,
    /// The values that the addresses of their texts tell apart.
    addresses: HashMap<usize, usize>,
    /// The forms of each class.
    pub(in crate::decode) forms: HashMap<String, Forms>,
    /// Forms that differ from that of the class, by place.
    pub(in crate::decode) exact: HashMap<String, Form>,
    /// The places that gave a class its form.
    pub(in crate::decode) witnesses: HashMap<String, Vec<(String, Form)>>,
    pub(in crate::decode) tried: HashSet<(String, Form)>,
    /// Whether the entries of a container have one type, by class.
    pub(in crate::decode) kinds: HashMap<String, Kind>,
    tables: HashSet<String>,
    /// The tables that are read as lists.
    pub(in crate::decode) listed: HashSet<String>,
    /// The entry that is the tag, by the class of its table.
    pub(in crate::decode) tags: HashMap<String, String>,
    /// The classes whose items are told apart by their looks.
    pub(in crate::decode) split: HashSet<String>,
    /// The forms of classes that were put before the others.
    pub(in crate::decode) promoted: HashSet<(String, Written, Form)>,
    /// How many values did not want what others of their class want.
    exceptions: usize,
    pub(in crate::decode) alternatives: Alternatives,
    news: bool,
    pub(in crate::decode) probing: Option<String>,
    pub(in crate::decode) tokens: HashMap<String, usize>,
    /// The places that are left out while the value that a fault is about is looked for.
    pub(in crate::decode) dropped: HashSet<String>,
    /// The texts of each entry of tables of one class, while a tag is looked for.
    pub(in crate::decode) texts: Option<HashMap<String, Texts>>,
    pub(in crate::decode) said_before: usize,
    /// Whether errors are collected.
    pub(in crate::decode) reporting: bool,
    /// The place at and below which the next pass notes what an error shows.
    pub(in crate::decode) place_at: Option<String>,
    /// Values of which it notes the same.
    pub(in crate::decode) places: HashSet<String>,
}

/// The texts in each table of a class, with the path of the table.
type Texts = Vec<(String, HashMap<String, String>)>;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::decode) enum Kind {
    /// All of one type.
    Homogeneous,
    /// Each name or index has its own type.
    Fixed,
}

/// A value that was handed over without knowing what it is for.
#[derive(Clone)]
pub(in crate::decode) struct Seen {
    pub(in crate::decode) path: String,
    pub(in crate::decode) id: String,
    pub(in crate::decode) class: String,
    pub(in crate::decode) got: Got,
    raw: Raw,
    pub(in crate::decode) written: Written,
    /// The form that was known for it.
    pub(in crate::decode) given: Option<Form>,
    /// The forms that earlier variants of an enum want of it.
    pub(in crate::decode) earlier: Vec<Form>,
    pub(in crate::decode) name: bool,
    /// The tag of an enum, which serde does not buffer.
    tag: bool,
    pub(in crate::decode) place: Option<Place>,
}

/// A value as the tree holds it.
#[derive(Clone)]
enum Raw {
    Text(String),
    Bool(bool),
    Int(i64),
    Big(Wide),
    Float(f64),
    Table(Shape),
    /// An item of JSON text.
    Item(String),
    Other,
}

impl Raw {
    fn of(de: &De<'_, '_>) -> Self {
        match de.input.canonical() {
            Input::Text(text) if de.json.is_some() => Raw::Item(text.to_owned()),
            Input::Text(text) => Raw::Text(text.to_owned()),
            Input::Bool(value) => Raw::Bool(value),
            Input::Int(value) => Raw::Int(value),
            Input::Big(value) => Raw::Big(value),
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
            Raw::Big(value) => Input::Big(*value),
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
    pub(in crate::decode) fn falls_back(&self, form: Form) -> bool {
        form == Form::Plain || (form == Form::Text && matches!(self.raw, Raw::Item(_)))
    }

    /// Whether it is an item of many alike by itself.
    pub(in crate::decode) fn is_item(&self) -> bool {
        items_around(&self.class).last().is_some_and(|item| {
            let rest = &self.class[item.len()..];
            rest.is_empty() || (rest.starts_with(VARIANT) && !rest.contains(STEP))
        })
    }

    /// Whether serde may have buffered it, which it does with no name and no tag.
    fn is_buffered(&self) -> bool {
        !self.name && !self.tag
    }

    pub(in crate::decode) fn is_container(&self) -> bool {
        matches!(self.got, Got::Map | Got::Seq)
    }
}

/// Whether a path leads to a place inside of another one.
pub(in crate::decode) fn is_below(path: &str, above: &str) -> bool {
    path != above && under(path, above)
}

fn parent(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(parent, _)| parent)
}

pub(in crate::decode) fn below(table: &str, name: &str) -> String {
    let mut path = table.to_owned();
    push_segment(&mut path, name);
    path
}

/// Where a value stands, in two spellings.
pub(in crate::decode) struct Site {
    path: String,
    id: String,
    class: String,
    name: bool,
}

impl Learned {
    pub(in crate::decode) fn site(&self, de: &De<'_, '_>) -> Site {
        let path = de.path_text();
        let (id, class) = if de.name {
            let table = de.path.parent.map(|table| self.class(table));
            let class = table.unwrap_or_default();
            (format!("{path}{NAMES}"), format!("{class}{NAMES}"))
        } else {
            let mut class = self.class(de.path);
            if self.split.contains(&class) && !self.tags.contains_key(&class) {
                class.push(VARIANT);
                class.push_str(&look(de.input));
            }
            (path.clone(), class)
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
        let mut listed = self.listed.contains(&class);
        if let Some(variant) = path.variant {
            class.push(VARIANT);
            class.push_str(variant);
            listed |= self.listed.contains(&class);
        }
        let kind = self.kinds.get(&class);
        let each = match path.segment {
            Segment::Index(_) => kind != Some(&Kind::Fixed),
            Segment::Name(name) if listed && key::list_index(name).is_some() => {
                kind != Some(&Kind::Fixed)
            }
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

    /// The form that is known for a value.
    pub(in crate::decode) fn form(&self, site: &Site, de: &De<'_, '_>) -> Option<Form> {
        let exact = self.exact.get(&site.id).copied();
        let applies = |form: Form| form.applies(de);
        let of_class = || {
            let forms = self.forms.get(&site.class)?;
            forms.find(Written::of(de), applies)
        };
        exact.filter(|form| applies(*form)).or_else(of_class)
    }

    pub(in crate::decode) fn note(
        &mut self,
        site: Site,
        de: &De<'_, '_>,
        got: Got,
        given: Option<Form>,
        tag: bool,
    ) {
        let same = self.by_got.entry(got.clone()).or_default();
        same.push(self.seen.len());
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
            written: Written::of(de),
            given,
            earlier: Vec::new(),
            name: site.name,
            tag,
            place,
        });
    }

    /// Notes that serde asks for the tag of an enum here.
    pub(in crate::decode) fn note_tag(&mut self, de: &De<'_, '_>) {
        let (Some(table), Segment::Name(name)) = (de.path.parent, de.path.segment) else {
            return;
        };
        let class = self.class(table);
        self.news |= self.tags.insert(class, name.to_owned()).is_none();
    }

    /// Notes a container whose entries serde asks for with a type.
    pub(in crate::decode) fn note_kind(&mut self, path: &Path<'_>, homogeneous: bool) {
        let kind = if homogeneous {
            Kind::Homogeneous
        } else {
            Kind::Fixed
        };
        let class = self.class(path);
        self.kinds.insert(class, kind);
    }

    /// Adds the probe to the entries of a table, and finds the value of its tag.
    pub(in crate::decode) fn enter_table<'a>(
        &mut self,
        de: &De<'_, '_>,
        entries: &mut Vec<Child<'a>>,
    ) -> Option<Cow<'a, str>> {
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
        let look = || Cow::Owned(look(de.input));
        let variant = match (variant, self.split.contains(&class)) {
            (Some(tag), _) => Some(Cow::Borrowed(tag)),
            (None, is_split) => is_split.then(look),
        };
        if let Some(variant) = &variant {
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
    pub(in crate::decode) fn enter_list(&mut self, de: &De<'_, '_>, items: &mut Vec<Child<'_>>) {
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
    pub(in crate::decode) fn token(&self, site: &Site) -> Option<usize> {
        self.tokens.get(&site.id).copied()
    }

    /// The values that a verdict may be about.
    pub(in crate::decode) fn judged(&self, judged: &Judged) -> Vec<usize> {
        match judged.at {
            Some(at) => vec![at],
            None => self.by_got.get(&judged.got).cloned().unwrap_or_default(),
        }
    }

    /// Notes the address of the text that was handed over last.
    pub(in crate::decode) fn identify(&mut self, text: &str) {
        if let Some(last) = self.seen.len().checked_sub(1) {
            self.addresses.insert(address(text), last);
        }
    }

    /// Replaces the addresses in what was said by the values that were there.
    pub(in crate::decode) fn resolve(&self, at: &mut Option<usize>) {
        *at = at.and_then(|address| self.addresses.get(&address).copied());
    }

    /// The only value that a fault can be about.
    pub(in crate::decode) fn only(&self, fault: &Fault, below: &str) -> Option<&Seen> {
        self.only_judged(&fault.judged_here()?, below)
    }

    /// The only value that was judged so.
    pub(in crate::decode) fn only_judged(&self, judged: &Judged, below: &str) -> Option<&Seen> {
        let judged = self.judged(judged);
        let seen = judged.into_iter().filter_map(|at| self.seen.get(at));
        let mut seen = seen.filter(|seen| under(&seen.path, below));
        match (seen.next(), seen.next()) {
            (Some(one), None) => Some(one),
            _ => None,
        }
    }

    /// Where the first of the values below a place was written.
    pub(in crate::decode) fn origin_below(&self, path: &str) -> Option<Origin> {
        let below = self.seen.iter().filter(|seen| under(&seen.path, path));
        below
            .filter_map(|seen| seen.place.as_ref()?.origin.clone())
            .next()
    }

    /// Whether a scalar was handed over at a place.
    pub(in crate::decode) fn is_value(&self, path: &str) -> bool {
        let here = |seen: &Seen| {
            seen.is_buffered() && seen.path == path && !matches!(seen.raw, Raw::Table(_))
        };
        self.seen.iter().any(here)
    }

    /// The scalar that was handed over at a place.
    pub(in crate::decode) fn value_at(&self, path: &str) -> Option<&Seen> {
        let here = |seen: &&Seen| {
            !seen.name && seen.path == path && matches!(seen.got, Got::Text(_) | Got::Number(_))
        };
        self.seen.iter().find(here)
    }

    /// Whether anything was handed over at a place or below.
    pub(in crate::decode) fn hands_over_below(&self, path: &str) -> bool {
        self.seen.iter().any(|seen| under(&seen.path, path))
    }

    /// The place where a value was handed over in a pass that noted it.
    pub(in crate::decode) fn place_of(&self, id: &str) -> Option<Place> {
        let seen = self.seen.iter().find(|seen| seen.id == id);
        seen.and_then(|seen| seen.place.clone())
    }

    /// A value with its place, in a pass that noted it.
    pub(in crate::decode) fn text_of(&self, id: &str) -> Option<(Got, Place)> {
        let seen = self.seen.iter().find(|seen| seen.id == id)?;
        Some((seen.got.clone(), seen.place.clone()?))
    }

    /// The value that serde may have buffered at a place.
    pub(in crate::decode) fn buffered_at(&self, path: &str) -> Option<Seen> {
        let mut seen = self.seen.iter();
        let found = seen.find(|seen| seen.is_buffered() && seen.path == path);
        found.cloned()
    }

    /// The other texts of the class of a value that no form makes what its type wants.
    pub(in crate::decode) fn alike(&self, refused: &Seen, judged: &Judged) -> Vec<Seen> {
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
    pub(in crate::decode) fn all_below(&self, path: &str) -> Vec<Seen> {
        let below = |seen: &&Seen| seen.is_buffered() && is_below(&seen.path, path);
        self.seen.iter().filter(below).cloned().collect()
    }

    /// The tables at and below a place, each with the names of what was handed over of it.
    pub(in crate::decode) fn entries_below(&self, path: &str) -> Vec<(String, Vec<String>)> {
        let mut tables: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for seen in self
            .seen
            .iter()
            .filter(|seen| !seen.name && is_below(&seen.path, path))
        {
            let Ok(key) = Key::parse(&seen.path) else {
                continue;
            };
            let around = key.lineage().nth(1).unwrap_or_default();
            if let Some(name) = key.segments().last() {
                tables
                    .entry(around.to_owned())
                    .or_default()
                    .push(name.into_owned());
            }
        }
        tables.into_iter().collect()
    }

    /// The outermost of many alike that were handed over below a place.
    pub(in crate::decode) fn items_below(&self, path: &str) -> Vec<Seen> {
        let mut items: Vec<Seen> = Vec::new();
        for seen in &self.seen {
            let is_inside = items
                .last()
                .is_some_and(|item| under(&seen.path, &item.path));
            if seen.is_buffered() && is_below(&seen.path, path) && seen.is_item() && !is_inside {
                items.push(seen.clone());
            }
        }
        items
    }

    /// Whether serde has buffered something at a place or below.
    pub(in crate::decode) fn buffers_below(&self, path: &str) -> bool {
        let mut seen = self.seen.iter();
        seen.any(|seen| seen.is_buffered() && under(&seen.path, path))
    }

    pub(in crate::decode) fn start(&mut self) {
        self.seen.clear();
        self.by_got.clear();
        self.addresses.clear();
    }

    /// Whether something was learned in passing, so that the last pass is out of date.
    pub(in crate::decode) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.news)
    }

    pub(in crate::decode) fn seen(&self, at: usize) -> Option<Seen> {
        self.seen.get(at).cloned()
    }

    /// The values that a verdict may be about and that could have another form, with that form.
    pub(in crate::decode) fn candidates(&self, judged: &Judged, below: &str) -> Vec<(usize, Form)> {
        let all = self.judged(judged);
        let find = |name: bool| -> Vec<(usize, Form)> {
            let seen = all.iter().filter_map(|at| Some((*at, self.seen.get(*at)?)));
            seen.filter(|(_, seen)| seen.name == name && under(&seen.path, below))
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

    /// The forms that a verdict about a value asks for, whether that can be read so or not.
    pub(in crate::decode) fn wanted(&self, at: usize, judged: &Judged) -> &'static [Form] {
        match self.seen.get(at).map(|seen| &seen.raw) {
            Some(Raw::Text(text)) if judged.variants.is_none() => {
                Form::wanted(Input::Text(text), judged)
            }
            _ => &[],
        }
    }

    /// The tables on the way to a class that have not been probed, outermost first.
    pub(in crate::decode) fn unknown_table(&self, class: &str) -> Option<String> {
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
    pub(in crate::decode) fn unknown_list(&self) -> Option<String> {
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
    pub(in crate::decode) fn not_a_list(&mut self, list: &str) {
        self.kinds.insert(list.to_owned(), Kind::Fixed);
        let each = format!("{list}{STEP}{EACH}");
        let below: Vec<String> = self
            .forms
            .keys()
            .filter(|class| class.starts_with(&each))
            .cloned()
            .collect();
        for class in below {
            self.forms.remove(&class);
            for (id, form) in self.witnesses.remove(&class).unwrap_or_default() {
                self.exact.insert(id, form);
            }
        }
    }

    /// Whether a value is read in another form already, as others of its class are.
    pub(in crate::decode) fn conflicts(&self, seen: &Seen) -> bool {
        let has_forms = self.forms.contains_key(&seen.class);
        (has_forms && seen.given.is_some()) || self.exact.contains_key(&seen.id)
    }

    pub(in crate::decode) fn set(&mut self, seen: &Seen, form: Form) {
        self.tried.insert((seen.id.clone(), form));
        if form == Form::List {
            self.listed.insert(seen.class.clone());
        }
        if !self.conflicts(seen) {
            let forms = self.forms.entry(seen.class.clone()).or_default();
            forms.add(seen.written, &seen.earlier, form);
            let witnesses = self.witnesses.entry(seen.class.clone()).or_default();
            witnesses.push((seen.id.clone(), form));
            return;
        }
        let is_split = self.split.iter().any(|item| is_in_class(&seen.class, item));
        let promoted = (seen.class.clone(), seen.written, form);
        if is_split && self.promoted.insert(promoted) {
            self.exceptions += 1;
            // Others may ask for their form again.
            self.tried.retain(|(id, _)| under(id, &seen.id));
            let forms = self.forms.entry(seen.class.clone()).or_default();
            forms.promote(seen.written, form);
        } else {
            self.except(seen, form);
        }
    }

    /// Gives a value a form of its own.
    pub(in crate::decode) fn except(&mut self, seen: &Seen, form: Form) {
        self.exceptions += 1;
        self.tried.insert((seen.id.clone(), form));
        self.exact.insert(seen.id.clone(), form);
    }

    /// Tells the items apart by their looks to which a value belongs that wants another form than
    /// others of its class; says whether that was done.
    pub(in crate::decode) fn split(&mut self, seen: &Seen, form: Form) -> bool {
        let mut items = items_around(&seen.class);
        let field = field_of_variant(&seen.class);
        items.extend(
            field
                .filter(|(item, _)| self.tags.contains_key(*item))
                .map(|(_, field)| field),
        );
        let is_split = items.iter().any(|item| self.split.contains(*item));
        let promoted = (seen.class.clone(), seen.written, form);
        if is_split && !self.promoted.contains(&promoted) {
            return false;
        }
        let is_new = |item: &&&str| !self.split.contains(**item) && !self.tags.contains_key(**item);
        let Some(item) = items
            .iter()
            .rev()
            .find(is_new)
            .map(|item| (*item).to_owned())
        else {
            return false;
        };
        self.exceptions += 1;
        self.forget_below(&item);
        self.split.insert(item);
        true
    }

    /// Forgets the forms of the items of a class.
    fn forget_below(&mut self, item: &str) {
        self.forms.retain(|class, _| !is_in_class(class, item));
        self.witnesses.retain(|class, _| !is_in_class(class, item));
        self.tried.clear();
    }

    /// Whether so many values want a form of their own that the search ends.
    pub(in crate::decode) fn is_exhausted(&self) -> bool {
        self.exceptions >= MOST_EXCEPTIONS
    }

    /// Notes that an earlier choice is taken back.
    pub(in crate::decode) fn note_retry(&mut self) {
        self.exceptions += 1;
    }

    /// The innermost value at or around some others that others of its class have given its form.
    pub(in crate::decode) fn given_around(&self, all: &[usize], below: &str) -> Option<Seen> {
        let places = all.iter().filter_map(|at| self.seen.get(*at));
        let mut around: Vec<&Seen> = places
            .flat_map(|inner| {
                self.seen
                    .iter()
                    .filter(|seen| under(&inner.path, &seen.path))
            })
            .filter(|seen| !seen.name && under(&seen.path, below))
            .filter(|seen| seen.given.is_some_and(|form| form != Form::Plain))
            .filter(|seen| !self.tried.contains(&(seen.id.clone(), Form::Plain)))
            .collect();
        around.sort_by_key(|seen| seen.path.len());
        around.last().map(|seen| (*seen).clone())
    }

    /// The outermost of many alike to which a value belongs, or else the place above them.
    pub(in crate::decode) fn item_around(&self, at: Option<usize>, below: &str) -> String {
        if self
            .seen
            .iter()
            .any(|seen| !seen.name && seen.path == below)
        {
            return below.to_owned();
        }
        let inner = at.and_then(|at| self.seen.get(at));
        let item = inner.and_then(|inner| {
            let around = self.seen.iter();
            around
                .filter(|seen| !seen.name && is_below(&seen.path, below) && seen.is_item())
                .find(|seen| under(&inner.path, &seen.path))
        });
        item.map_or(below, |item| &item.path).to_owned()
    }

    /// The innermost table around a class that stands for each of several and has no tag yet.
    pub(in crate::decode) fn untagged_item(&self, class: &str) -> Option<String> {
        let ends = class.match_indices(STEP).map(|(at, _)| at);
        let tables = ends.map(|end| &class[..end]);
        let mut tables =
            tables.filter(|table| table.ends_with(EACH) && !self.tags.contains_key(*table));
        tables.next_back().map(str::to_owned)
    }

    /// The entry that tells the variants of tables of one class apart: of those that differ between
    /// two tables that disagree, the one with the fewest texts.
    pub(in crate::decode) fn choose_tag(&mut self, table: &str, seen: &Seen) -> bool {
        let Some(mut texts) = self.texts.take() else {
            return false;
        };
        let texts = texts.remove(table).unwrap_or_default();
        let around = |path: &str| {
            let around = texts.iter().find(|(table, _)| under(path, table));
            around.map(|(_, entries)| entries)
        };
        let witness = self
            .witnesses
            .get(&seen.class)
            .and_then(|ids| ids.first())
            .map(|(id, _)| id);
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
            // What wants different forms is no tag.
            .filter(|(name, _)| below(parent(&seen.path), name) != seen.path)
            .filter(|(name, _)| everywhere(name))
            .map(|(name, _)| (texts_of(name).len(), name))
            .filter(|(distinct, _)| distinct * 2 <= texts.len().max(4))
            .min();
        let Some((_, tag)) = tag else {
            return false;
        };
        self.tags.insert(table.to_owned(), tag.clone());
        self.forget_below(table);
        true
    }

    /// How much serde had said when the last value was handed over: what it says later is about
    /// values that are all buffered.
    pub(in crate::decode) fn handed_over(&mut self) {
        self.said_before = fault::noted();
    }

    /// The values below a place that a verdict may be about.
    pub(in crate::decode) fn judged_below(&self, judged: &Judged, below: &str) -> Vec<usize> {
        let mut all = self.judged(judged);
        all.retain(|at| {
            self.seen
                .get(*at)
                .is_some_and(|seen| under(&seen.path, below))
        });
        // What is inside was handed over after what it is inside of.
        let holds = |pair: &[usize]| is_below(&self.seen[pair[1]].path, &self.seen[pair[0]].path);
        let outer: Vec<_> = all
            .windows(2)
            .filter(|pair| holds(pair))
            .map(|it| it[0])
            .collect();
        all.retain(|at| !outer.contains(at));
        all
    }

    /// Whether values belong to more than one of many alike.
    pub(in crate::decode) fn are_of_several_items(&self, all: &[usize]) -> bool {
        let path = |at: &usize| self.seen.get(*at).map(|seen| parent(&seen.path));
        let is_item = |at: &usize| self.seen.get(*at).is_some_and(Seen::is_item);
        all.iter().any(is_item) || all.windows(2).any(|pair| path(&pair[0]) != path(&pair[1]))
    }

    /// Those of the values of a verdict that stand near others.
    pub(in crate::decode) fn near(
        &self,
        judged: &Judged,
        others: &[usize],
        below: &str,
    ) -> Vec<usize> {
        let mut all = self.judged_below(judged, below);
        let others: Vec<&str> = others
            .iter()
            .filter_map(|at| Some(&*self.seen.get(*at)?.path))
            .take(MOST_NEAR)
            .collect();
        all.retain(|at| others.iter().any(|other| self.is_near(*at, other)));
        all
    }

    /// Whether a value stands at, around, inside or beside a place. Items of a list or a map do not
    /// stand beside each other.
    pub(in crate::decode) fn is_near(&self, at: usize, path: &str) -> bool {
        let Some(seen) = self.seen.get(at) else {
            return false;
        };
        // One variant may complain about a field of what another variant refuses as a whole.
        let nested = under(&seen.path, path) || under(path, &seen.path);
        nested || (parent(&seen.path) == parent(path) && !seen.is_item())
    }

    /// All places where a value was handed over that serde may have reported.
    pub(in crate::decode) fn all_of(&self, judged: &Judged, below: &str) -> Vec<Seen> {
        let all = self.judged_below(judged, below).into_iter();
        let seen = all.filter_map(|at| self.seen.get(at));
        seen.filter(|seen| !seen.name).cloned().collect()
    }
}
