//! One place of the tree: what it holds in each of its spellings, and how its faults are told.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};

use serde::de::{Deserialize, DeserializeOwned, Deserializer, Visitor};

use crate::decode::Mask;
use crate::decode::access::{Child, Map, Seq};
use crate::decode::braces;
use crate::decode::de::visit_int;
use crate::decode::decimal::Written;
use crate::decode::diagnose::collect::or_collect;
use crate::decode::diagnose::dummy::Dummy;
use crate::decode::diagnose::fault::{
    EMPTY_VARIABLE, Fault, Got, Place, is_inside_of_serde, shorten, type_name,
};
use crate::decode::diagnose::form::Shape;
use crate::decode::diagnose::identity::Texts;
use crate::decode::diagnose::report::{self, Slow};
use crate::decode::gaps;
use crate::decode::input::{Input, Path, Segment};
use crate::decode::text::{self, Float, NumberFault, Pair, Whole};
use crate::error::{Error, ErrorKind, MASK};
use crate::value::key::{self, MAX_DEPTH};
use crate::value::origin::Origin;
use crate::value::secret::{self, Secrets, buffered, looks_secret};
use crate::value::table::Table as Fields;
use crate::value::units;
use crate::value::{Value, malformed_case};

/// What was cut out of a text while its entries are read.
pub(super) enum Held<'a> {
    Nothing,
    Pairs(Vec<Pair<'a>>),
    Table(Option<Fields>),
}

/// What was cut out of a text while its items are read.
#[derive(Default)]
pub(super) struct HeldItems<'a> {
    texts: Vec<Cow<'a, str>>,
    /// The same items, if the text is JSON.
    json: Option<Box<[Value]>>,
}

/// What all places of one decoding share.
pub(super) struct Context<'a, 'de> {
    pub(super) key: &'a str,
    /// What stands at the key.
    root: (Input<'a>, Option<&'a Origin>),
    /// Whether serde asked for whatever there is, which is where it may have buffered.
    pub(super) any: Cell<bool>,
    /// Whether a secret was asked for.
    pub(super) secret: Cell<bool>,
    /// What the name that was read last converts to, if that is no text.
    pub(super) converted: Cell<Option<String>>,
    pub(super) notes: Option<&'a RefCell<Vec<String>>>,
    /// Whether what is handed over to be buffered is noted.
    traced: bool,
    /// What is handed over in place of what stands at a path.
    pub(super) instead: Option<(&'a str, &'a Value)>,
    pub(super) secrets: Option<&'a Secrets>,
    /// Only in the second pass.
    pub(super) slow: Option<&'a RefCell<Slow>>,
    /// What this pass has cost so far.
    pub(super) work: Cell<usize>,
    /// Where texts live that are handed over in the second pass.
    pub(super) texts: Option<&'de Texts>,
}

/// Where a decoding begins.
#[derive(Clone, Copy)]
pub(super) struct Root<'a> {
    pub(super) key: &'a str,
    input: Input<'a>,
    origin: Option<&'a Origin>,
    mask: Mask<'a>,
    notes: Option<&'a RefCell<Vec<String>>>,
    pub(super) traced: bool,
    instead: Option<(&'a str, &'a Value)>,
}

impl<'a> Root<'a> {
    pub(super) fn new(
        key: &'a str,
        input: Input<'a>,
        origin: Option<&'a Origin>,
        mask: Mask<'a>,
    ) -> Self {
        Self {
            key,
            input,
            origin,
            mask,
            notes: None,
            traced: false,
            instead: None,
        }
    }

    /// The same with another value at a path.
    pub(super) fn instead<'b>(self, path: &'b str, value: &'b Value) -> Root<'b>
    where
        'a: 'b,
    {
        let input = if path == self.key {
            Input::of_value(value)
        } else {
            self.input
        };
        Root {
            input,
            instead: Some((path, value)),
            ..self
        }
    }

    /// Notes that a secret belongs at a key.
    pub(super) fn note_secret(&self, key: String) {
        if let Some(notes) = self.notes {
            notes.borrow_mut().push(key);
        }
    }

    pub(super) fn noting<'b>(self, notes: &'b RefCell<Vec<String>>) -> Root<'b>
    where
        'a: 'b,
    {
        Root {
            notes: Some(notes),
            ..self
        }
    }

    /// Notes what is handed over to be buffered; see [`buffered`].
    pub(super) fn traced(self) -> Self {
        Self {
            traced: true,
            ..self
        }
    }

    #[inline]
    pub(super) fn decode<T: DeserializeOwned>(self) -> Result<T, Error> {
        match self.run(None) {
            Ok(value) => Ok(value),
            Err(fault) => report::again(self, fault),
        }
    }

    #[inline]
    pub(super) fn run<'de, T: Deserialize<'de>>(
        self,
        slow: Option<(&RefCell<Slow>, &'de Texts)>,
    ) -> Result<T, Fault> {
        let context = Context {
            key: self.key,
            root: (self.input, self.origin),
            any: Cell::new(false),
            secret: Cell::new(false),
            converted: Cell::new(None),
            notes: self.notes,
            traced: self.traced,
            instead: self.instead,
            secrets: self.mask.secrets,
            work: Cell::new(0),
            slow: slow.map(|(slow, _)| slow),
            texts: slow.map(|(_, texts)| texts),
        };
        if self.traced {
            buffered::begin(self.key);
        }
        let path = Path {
            parent: None,
            segment: Segment::Hidden,
            variant: None,
        };
        let de = De {
            input: self.input,
            path: &path,
            context: &context,
            origin: self.origin,
            masked: self.mask.all,
            name: false,
            json: None,
        };
        let result = T::deserialize(de).map_err(|fault| de.place_as::<T>(fault));
        if let Some((slow, _)) = slow {
            slow.borrow_mut().collected.count(context.work.get());
        }
        result
    }

    pub(super) fn is_table(&self) -> bool {
        matches!(self.input, Input::Table(_) | Input::Nothing)
    }

    /// Whether a second pass could find more than the first, or even succeed.
    pub(super) fn worth_a_second_pass(&self) -> bool {
        !matches!(self.input, Input::Absent | Input::Failed(_))
    }
}

/// Said about a float that a program set.
const LOST_DIGITS: &str = "a float has lost the last digits of so large an integer; set an integer";
/// Said about a null in a list.
pub(crate) const NULL_ITEM: &str = "the item is null; write a value, or leave the item out";

/// As many names that mean the same thing are shown.
const MOST_RIVALS: usize = 4;

/// Where a table begins: the first line on which one of its values was written.
pub(super) fn first_origin(input: Input<'_>) -> Option<&Origin> {
    let Input::Table(table) = input else {
        return None;
    };
    let entries = table.map().sorted().into_iter();
    let origins = entries.filter_map(|entry| {
        let (input, origin, _) = Input::of_node(&entry.node);
        origin.or_else(|| first_origin(input))
    });
    origins.reduce(|first, origin| {
        if first.line() <= origin.line() {
            first
        } else {
            origin
        }
    })
}

/// One place of the tree.
#[derive(Clone, Copy)]
pub(super) struct De<'a, 'de> {
    pub(super) input: Input<'a>,
    pub(super) path: &'a Path<'a>,
    pub(super) context: &'a Context<'a, 'de>,
    pub(super) origin: Option<&'a Origin>,
    pub(super) masked: bool,
    /// Whether this is the name of a table entry, not its value.
    pub(super) name: bool,
    /// An item of JSON text, as JSON has it: for who asks for anything.
    pub(super) json: Option<&'a Value>,
}

impl<'a, 'de> De<'a, 'de> {
    pub(super) fn path_text(&self) -> String {
        let mut text = self.context.key.to_owned();
        self.path.write(&mut text);
        text
    }

    #[inline]
    pub(super) fn is_traced(&self) -> bool {
        self.context.traced
    }

    /// Notes that this is read while the result lives, in a pass that is traced.
    #[inline]
    pub(super) fn reading(&self) -> Option<buffered::Reading> {
        self.context
            .traced
            .then(|| buffered::reading(self.path_text()))
    }

    pub(super) fn is_secret_by_name(&self, path: &str) -> bool {
        let secrets = self.context.secrets;
        secrets.map_or_else(|| looks_secret(path), |secrets| secrets.is_secret(path))
    }

    pub(super) fn is_masked(&self, path: &str) -> bool {
        let by_name = || match self.context.secrets {
            Some(secrets) if self.input.is_container() => secrets.is_secret(path),
            // A text may spell what stands below.
            Some(secrets) => secrets.hides(path),
            None => looks_secret(path),
        };
        let is_plain = || {
            self.context
                .secrets
                .is_some_and(|it| it.form_is_plain(path))
        };
        let by_form = || match self.input {
            Input::Text(text) => {
                self.count_search(text);
                secret::value_text_holds_secret(text)
            }
            _ => false,
        };
        self.masked || by_name() || (by_form() && !is_plain())
    }

    pub(super) fn place_here(&self) -> Place {
        let path = self.path_text();
        Place {
            found: match self.input {
                Input::Absent | Input::Nothing => None,
                input => Some(input.shown()),
            },
            origin: self
                .item_origin()
                .or_else(|| self.origin.cloned())
                .or_else(|| first_origin(self.input).cloned()),
            masked: self.is_masked(&path),
            quotes: false,
            name: self.name,
            variable: self.origin.is_some_and(|origin| origin.kind() == "env"),
            path,
        }
    }

    /// Where this was written, if it is in a list.
    #[cold]
    fn item_origin(&self) -> Option<Origin> {
        let path = self.path.segments()?;
        let (mut input, mut origin) = self.context.root;
        let mut path = path.as_slice();
        while let Input::Table(table) = input {
            let (name, rest) = path.split_first()?;
            (input, origin, _) = Input::of_node(&table.get(name)?.node);
            path = rest;
        }
        match input {
            Input::List(items) => origin?.of_item(items, path),
            _ => None,
        }
    }

    /// Adds key, found value and origin to a fault that has none yet: this is the nearest place.
    #[cold]
    pub(super) fn place(&self, mut fault: Fault) -> Fault {
        let inner = &mut *fault.0;
        // A struct that does not know a name says so itself, one level up.
        if inner.place.is_some() || (self.name && inner.unknown.is_some()) {
            return fault;
        }
        let mut place = self.place_here();
        if self.input.is_container() && (inner.custom || inner.got.is_some()) {
            // What serde quotes may come from any place below.
            let holds_secret = self.context.secret.get()
                || self.context.secrets.is_some_and(|it| it.hides(&place.path))
                || self.input.holds_secret();
            place.quotes |= holds_secret;
            if let Some(found) = inner.got.as_ref().and_then(Got::shown) {
                place.found = Some(found);
                place.masked |= holds_secret;
            }
        }
        if inner.missing.is_some() {
            place.found = None;
            // What is missing was written nowhere, least of all where a sibling was.
            if self.origin.is_none() && self.item_origin().is_none() {
                place.origin = None;
            }
        }
        let below = match (inner.missing, &inner.unknown) {
            (Some(field), _) => Some(field),
            (None, Some(field)) if !place.masked => Some(&**field),
            _ => None,
        };
        if let Some(field) = below {
            key::push_segment(&mut place.path, field);
            if let Some((input, origin)) = self.find(field) {
                let path = place.path.as_str();
                let is_secret = match self.context.secrets {
                    Some(secrets) => secrets.hides(path),
                    None => looks_secret(path),
                };
                place.masked |= is_secret || input.holds_secret();
                place.found = Some(input.shown());
                place.origin = origin.or(self.origin).cloned();
            }
        }
        inner.place = Some(place);
        fault
    }

    /// As [`place`](Self::place), where the words of a user's type do not say which type it was.
    #[cold]
    pub(super) fn place_as<T>(&self, mut fault: Fault) -> Fault {
        let inner = &mut *fault.0;
        let place = inner.place.as_ref();
        if place.is_none() && inner.custom && inner.wanted.is_none() {
            inner.wanted = Some(type_name::<T>());
            inner.by_type = true;
        }
        let is_here = || place.is_none_or(|place| place.path == self.path_text());
        let is_inside = inner.wanted.as_deref().is_some_and(is_inside_of_serde);
        if is_inside && inner.asked.is_none() && is_here() {
            inner.asked = Some(type_name::<T>()).filter(|name| !is_inside_of_serde(name));
        }
        self.place(fault)
    }

    /// Notes what a name converts to: no other name of its map may be the same.
    #[inline]
    pub(super) fn convert(&self, value: impl FnOnce() -> String) {
        if self.name {
            self.context.converted.set(Some(value()));
        }
    }

    fn find(&self, name: &str) -> Option<(Input<'a>, Option<&'a Origin>)> {
        match self.input {
            Input::Table(table) => {
                let (input, origin, _) = Input::of_node(&table.get(name)?.node);
                Some((input, origin))
            }
            Input::Fields(fields) => Some((Input::of_value(fields.get(name)?), None)),
            _ => None,
        }
    }

    /// As [`place`](Self::place), and names the two spellings of a field that is set twice. `last` is
    /// the name that was read last.
    #[cold]
    fn place_twice(&self, fault: Fault, last: Option<&str>) -> Fault {
        let (Some(field), None, Some(last)) = (fault.0.twice, &fault.0.place, last) else {
            return self.place(fault);
        };
        // What serde has buffered is judged after all was read.
        let is_buffered = self.context.slow.is_some_and(|slow| {
            let mut path = self.path_text();
            key::push_segment(&mut path, last);
            slow.borrow().learned.buffers_below(&path)
        });
        if is_buffered {
            return self.place(fault);
        }
        let mut both = self.entries().unwrap_or_default();
        both.retain(|child| child.name == field || child.name == last);
        match both.len() {
            2 => self.rivals(&both, &format!("`{field}` is set twice"), String::new()),
            _ => self.place(fault),
        }
    }

    /// The fault of several names that mean the same thing.
    #[cold]
    pub(super) fn rivals(&self, all: &[Child<'_>], what: &str, wanted: String) -> Fault {
        let place = |child: &Child<'_>| {
            let origin = child.origin.or_else(|| first_origin(child.input));
            match origin {
                Some(origin) => format!("`{}` ({origin})", child.name),
                None => format!("`{}`", child.name),
            }
        };
        let names: Vec<String> = all.iter().take(MOST_RIVALS).map(place).collect();
        let detail = match names.is_empty() || self.is_masked(&self.path_text()) {
            true => format!("{what}; leave one"),
            false => format!("{what}: by {}; leave one of them", names.join(" and ")),
        };
        let mut fault = match all.is_empty() {
            true => Fault::mismatch("no variant is set", wanted),
            false if wanted.is_empty() => Fault::new(ErrorKind::Mismatch, detail),
            false => Fault::mismatch(&detail, wanted),
        };
        fault.0.rivals = all.iter().map(|child| child.name.into()).collect();
        self.place(fault)
    }

    /// The fault of two names of a map that convert to one key.
    #[cold]
    pub(super) fn given_twice(&self, first: Child<'_>, second: Child<'_>) -> Fault {
        let mut fault = self.rivals(&[first, second], "a key is given twice", String::new());
        // Which of them counts depends on no layer.
        fault.0.rivals.clear();
        fault
    }

    #[cold]
    pub(super) fn fault(&self, detail: &str, wanted: impl Into<String>) -> Fault {
        let is_variable = self.origin.is_some_and(|origin| origin.kind() == "env");
        if is_variable && detail == "empty text" {
            return self.place(Fault::mismatch(EMPTY_VARIABLE, wanted));
        }
        self.place(Fault::mismatch(detail, wanted))
    }

    /// The fault of an input that is nothing like what was wanted.
    #[cold]
    pub(super) fn refuse(&self, wanted: impl Into<String>) -> Fault {
        match self.input {
            Input::Absent | Input::Nothing => {
                let is_item = matches!(self.path.segment, Segment::Index(_));
                let mut fault =
                    Fault::mismatch(if is_item { NULL_ITEM } else { "not set" }, wanted);
                fault.0.kind = ErrorKind::NotFound;
                self.place(fault)
            }
            Input::Failed(error) => {
                // What looks like a reference may be a part of the secret.
                let masked = error.is_unresolved() && self.is_masked(&self.path_text());
                let masked = masked.then(|| error.without(&|_| true)).flatten();
                self.place(Fault::done(masked.unwrap_or_else(|| error.clone())))
            }
            Input::Text(text) if text.trim().is_empty() => self.fault("empty text", wanted),
            Input::List(items) => {
                let masked = self.is_masked(&self.path_text());
                match malformed_case(items).filter(|_| !masked) {
                    Some(malformed) => self.fault(&format!("wrong type: {malformed}"), wanted),
                    None => self.fault("wrong type", wanted),
                }
            }
            _ => self.fault("wrong type", wanted),
        }
    }

    /// The float that stands here, as it was written.
    pub(super) fn written(&self) -> Option<Written<'a>> {
        Written::of(self.input)
    }

    pub(super) fn whole(&self, wanted: &str, range: &dyn Fn() -> String) -> Result<Whole, Fault> {
        match self.input.canonical() {
            Input::Int(value) => Ok(Whole::Signed(i128::from(value))),
            Input::Big(value) => Ok(Whole::Signed(value.get())),
            Input::Text(text) => text::whole(text).map_err(|fault| match fault {
                NumberFault::Empty => self.fault("empty text", wanted),
                NumberFault::Range => self.fault("out of range", range()),
                _ => self.fault("not an integer", wanted),
            }),
            // JSON and YAML do not tell `5.0` from `5`, and neither do many programs that write them.
            _ => match self.written() {
                Some(written) => written.whole().map_err(|fault| match fault {
                    NumberFault::Range => self.fault("out of range", range()),
                    NumberFault::Inexact => self.fault(LOST_DIGITS, wanted),
                    _ => self.fault("not an integer", wanted),
                }),
                None => Err(self.refuse(wanted)),
            },
        }
    }

    pub(super) fn float<F: Float>(&self, wanted: &str) -> Result<F, Fault> {
        let float = match self.input.canonical() {
            Input::Int(value) => F::of_i128(i128::from(value)).ok_or(NumberFault::Inexact),
            Input::Big(value) => F::of_i128(value.get()).ok_or(NumberFault::Inexact),
            Input::Text(text) => text::float(text),
            _ => match self.written() {
                Some(written) => written.float(),
                None => return Err(self.refuse(wanted)),
            },
        };
        float.map_err(|fault| match fault {
            NumberFault::Empty => self.fault("empty text", wanted),
            NumberFault::Malformed => self.fault("not a number", wanted),
            NumberFault::Range => self.fault("out of range", wanted),
            NumberFault::Inexact => self.fault("an integer this type cannot hold exactly", wanted),
        })
    }

    #[inline]
    pub(super) fn dummy(&self) -> Option<Dummy> {
        match self.input {
            Input::Dummy(level) => Some(Dummy::new(level)),
            Input::Failed(_) => self.stand_in(),
            _ => None,
        }
    }

    /// While errors are collected, a broken reference is noted, and a placeholder takes its place.
    #[cold]
    pub(super) fn stand_in(&self) -> Option<Dummy> {
        let slow = self.context.slow?;
        if !slow.borrow().learned.reporting {
            return None;
        }
        let fault = self.refuse("");
        slow.borrow_mut().note_broken(fault);
        Some(Dummy::new(0))
    }

    /// Cuts text up. A tree has its depth checked where it comes in; text nests only here.
    fn cut<P>(
        &self,
        text: &'a str,
        how: &dyn Fn(&'a str) -> Result<Vec<P>, &'static str>,
        wanted: &dyn Fn() -> String,
    ) -> Result<Vec<P>, Fault> {
        self.count(text.len());
        let pieces = if self.path.depth() < MAX_DEPTH {
            how(text)
        } else {
            Err("nested too deep")
        };
        pieces.map_err(|detail| self.fault(detail, wanted()))
    }

    /// The items of a list in any of its spellings. `held` keeps what was cut out of text.
    pub(super) fn items<'b>(
        &self,
        held: &'b mut HeldItems<'a>,
        wanted: &dyn Fn() -> String,
    ) -> Result<Vec<Child<'b>>, Fault>
    where
        'a: 'b,
    {
        match self.input {
            Input::List(items) => {
                let children = items.iter().enumerate();
                Ok(children
                    .map(|(at, v)| Child::item(at, Input::of_value(v)))
                    .collect())
            }
            Input::Text(text) => {
                held.texts = self.cut(text, &text::items, wanted)?;
                let json = braces::json_list(text);
                held.json = json.filter(|json| json.len() == held.texts.len());
                // An item of a secret text is a part of it. An error of the pass that takes notes is
                // shown by none.
                let shows = self.context.notes.is_none();
                let masks = shows.then(|| self.masked_items(&held.texts));
                let masked = |at| masks.as_ref().is_some_and(|masks| masks.hides(at));
                let json = held.json.as_deref();
                let item = |(at, text)| Child {
                    masked: masked(at),
                    json: json.and_then(|json| json.get(at)),
                    ..Child::item(at, Input::Text(text))
                };
                Ok(held
                    .texts
                    .iter()
                    .map(|text| &**text)
                    .enumerate()
                    .map(item)
                    .collect())
            }
            Input::Table(_) | Input::Fields(_) | Input::Nothing => {
                let children = self.entries().unwrap_or_default();
                let mut numbered = Vec::with_capacity(children.len());
                for child in children {
                    let Some(at) = key::list_index(child.name) else {
                        return Err(self.no_index(&child, wanted()));
                    };
                    numbered.push((at, child));
                }
                numbered.sort_by_key(|(at, _)| *at);
                if numbered.windows(2).any(|pair| pair[0].0 == pair[1].0) {
                    return Err(self.fault("two names with the same number", wanted()));
                }
                if let Some(detail) = gaps::detail(&numbered) {
                    return Err(self.fault(&detail, wanted()));
                }
                Ok(numbered.into_iter().map(|(_, child)| child).collect())
            }
            _ => Err(self.refuse(wanted())),
        }
    }

    /// The fault of a table that is no list, since a name is no index.
    #[cold]
    fn no_index(&self, child: &Child<'_>, wanted: String) -> Fault {
        let path = self.path_text();
        let mut below = path.clone();
        key::push_segment(&mut below, child.name);
        let hidden = child.masked || self.is_masked(&path) || self.is_masked(&below);
        let name = if hidden {
            MASK.to_owned()
        } else {
            shorten(child.name).replace('"', "`")
        };
        let detail = format!(
            "wrong type: {name} is no index; a table is a list if its names are `0`, `1` and so on"
        );
        let mut fault = self.fault(&detail, wanted);
        let origin = child.origin.or_else(|| first_origin(child.input));
        if let (Some(place), Some(origin)) = (&mut fault.0.place, origin) {
            place.origin = Some(origin.clone());
        }
        fault
    }

    /// The table that text in braces spells.
    pub(super) fn braced(
        &self,
        text: &'a str,
        wanted: &dyn Fn() -> String,
    ) -> Result<Fields, Fault> {
        let cut = |text: &'a str| Ok(vec![braces::table(text)?]);
        let tables = self.cut(text, &cut, wanted)?;
        Ok(tables.into_iter().next().unwrap_or_default())
    }

    /// An item of JSON text as JSON has it, and all else as it is.
    pub(super) fn as_json(self) -> Self {
        match self.json {
            Some(value) => De {
                input: Input::of_value(value),
                json: None,
                ..self
            },
            None => self,
        }
    }

    /// The names of a table: decimal ones can be read as a list.
    pub(super) fn shape(&self) -> Shape {
        let entries = self.entries().unwrap_or_default();
        if entries.is_empty() && self.only_null().is_some() {
            Shape::Null
        } else if entries.is_empty() {
            Shape::Empty
        } else {
            Shape::of_names(entries.iter().map(|child| child.name))
        }
    }

    /// The entries of a table by name; `None` if this is no table.
    pub(super) fn entries(&self) -> Option<Vec<Child<'a>>> {
        let children = match self.input {
            Input::Nothing => return Some(Vec::new()),
            Input::Fields(fields) => fields
                .iter()
                .map(|(name, value)| Child::of_value(name, value))
                .filter(Child::is_set)
                .collect(),
            Input::Table(table) => table
                .map()
                .sorted()
                .into_iter()
                .map(|entry| Child::of_node(&entry.name, &entry.node))
                .filter(Child::is_set)
                .collect(),
            _ => return None,
        };
        Some(children)
    }

    /// The only name of a table whose value is null, as in `- Start:`.
    pub(super) fn only_null(&self) -> Option<Child<'a>> {
        match self.input {
            Input::Fields(fields) if fields.len() == 1 => {
                let (name, value) = fields.iter().next()?;
                Some(Child::of_value(name, value))
            }
            Input::Table(table) if table.len() == 1 => {
                let entry = table.map().iter().next()?;
                Some(Child::of_node(&entry.name, &entry.node))
            }
            _ => None,
        }
    }

    /// The entries of a table, or of text such as `a=1, b=2`, `{a = 1}` or `{"a": 1}`. `held` keeps
    /// what was cut out of text.
    pub(super) fn pairs<'b>(
        &self,
        held: &'b mut Held<'a>,
        wanted: &dyn Fn() -> String,
    ) -> Result<Vec<Child<'b>>, Fault>
    where
        'a: 'b,
    {
        if let Some(entries) = self.entries() {
            return Ok(entries);
        }
        let Input::Text(text) = self.input else {
            return Err(self.refuse(wanted()));
        };
        if braces::is_braced(text) {
            *held = Held::Table(Some(self.braced(text, wanted)?));
        } else {
            *held = Held::Pairs(self.cut(text, &text::pairs, wanted)?);
        }
        // A name cut out of a secret text is part of the secret: keep it out of every path. A table in
        // braces that holds a secret field is none itself.
        let masked = match held {
            Held::Table(Some(fields)) => self.masks_fields(fields),
            Held::Table(None) => self.masked,
            Held::Nothing | Held::Pairs(_) => self.is_masked(&self.path_text()),
        };
        let mut entries: Vec<_> = match held {
            Held::Nothing | Held::Table(None) => Vec::new(),
            Held::Pairs(pairs) => {
                let of = |(name, value): &'b Pair<'a>| Child::of_text(name, value);
                pairs.iter().map(of).collect()
            }
            Held::Table(Some(fields)) => fields
                .iter()
                .map(|(name, value)| Child::of_value(name, value))
                .filter(Child::is_set)
                .collect(),
        };
        if masked {
            for child in &mut entries {
                child.segment = Segment::Hidden;
                child.masked = true;
            }
        }
        Ok(entries)
    }

    pub(super) fn seq<V: Visitor<'de>>(
        self,
        len: Option<usize>,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let mut held = HeldItems::default();
        let items = self.items(&mut held, &type_name::<V::Value>);
        let items = items.and_then(|items| match len {
            Some(len) if items.len() != len => {
                let detail = format!("{} items instead of {len}", items.len());
                Err(self.fault(&detail, type_name::<V::Value>()))
            }
            _ => Ok(items),
        });
        let items = or_collect!(self, items, dummy => match len {
            Some(len) => dummy.deserialize_tuple(len, visitor),
            None => dummy.deserialize_seq(visitor),
        });
        visitor
            .visit_seq(Seq::new(self, items))
            .map_err(|fault| self.place(fault))
    }

    pub(super) fn map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let mut held = Held::Nothing;
        let entries = self.pairs(&mut held, &type_name::<V::Value>);
        let entries = or_collect!(self, entries, dummy => dummy.deserialize_map(visitor));
        let last = Cell::new(None);
        visitor
            .visit_map(Map::new(self, entries, &last))
            .map_err(|fault| self.place_twice(fault, last.get()))
    }

    /// Reads a struct. Of two fields the first comes first: an adjacently tagged enum then knows its
    /// tag before its content, and serde need not buffer that.
    pub(super) fn fields<V: Visitor<'de>>(
        self,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let mut held = Held::Nothing;
        let entries = self.pairs(&mut held, &type_name::<V::Value>);
        let mut entries =
            or_collect!(self, entries, dummy => dummy.deserialize_struct("", names, visitor));
        // What a struct calls its fields is no part of a secret.
        for child in &mut entries {
            if names.contains(&child.name) {
                child.segment = Segment::Name(child.name);
            }
        }
        if let ([first, second], [a, b]) = (names, entries.as_mut_slice()) {
            if a.name == *second && b.name == *first {
                std::mem::swap(a, b);
            }
        }
        let last = Cell::new(None);
        visitor
            .visit_map(Map::new(self, entries, &last))
            .map_err(|fault| self.place_twice(fault, last.get()))
    }

    pub(super) fn duration<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let read = match self.input.canonical() {
            Input::Text(text) if braces::is_braced(text) => return self.map(visitor),
            Input::Text(text) => units::duration(text),
            Input::Int(0) => Ok(std::time::Duration::ZERO),
            Input::Float(_) if self.written().is_some_and(Written::is_zero) => {
                Ok(std::time::Duration::ZERO)
            }
            Input::Int(_) | Input::Big(_) | Input::Float(_) => Err(units::NO_UNIT),
            _ => return self.map(visitor),
        };
        let value = read.map_err(|detail| self.fault(detail, "Duration"));
        let value = or_collect!(self, value, dummy => {
            dummy.deserialize_struct("Duration", &["secs", "nanos"], visitor)
        });
        self.convert(|| value.as_nanos().to_string());
        visitor
            .visit_seq(report::duration_parts(value))
            .map_err(|fault| self.place(fault))
    }

    pub(super) fn size<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let number = match self.input.canonical() {
            Input::Text(text) => self.size_of_text(text),
            Input::Float(value) if value.fract() == 0.0 => {
                match self.whole("ByteSize", &|| "ByteSize".to_owned()) {
                    Ok(Whole::Huge(_)) => Err(self.fault("out of range", "ByteSize")),
                    Ok(Whole::Signed(number)) => Ok(number),
                    Err(fault) => Err(fault),
                }
            }
            _ => {
                let result = visitor.visit_newtype_struct(self);
                return result.map_err(|fault| self.place_as::<V::Value>(fault));
            }
        };
        let number = or_collect!(self, number, dummy => dummy.deserialize_u64(visitor));
        self.convert(|| number.to_string());
        visit_int(number, visitor).map_err(|fault| self.place_as::<V::Value>(fault))
    }

    fn size_of_text(&self, text: &str) -> Result<i128, Fault> {
        units::byte_size(text)
            .map(|size| i128::from(size.bytes()))
            .or_else(|detail| match text::whole(text) {
                // A number in another base has no unit.
                Ok(Whole::Signed(number)) if !text.trim_start().starts_with('-') => Ok(number),
                _ => Err(self.fault(detail, "ByteSize")),
            })
    }

    /// The one of `variants` that a name means: itself, or the only one that differs in case.
    pub(super) fn variant<'n>(name: &'n str, variants: &'static [&'static str]) -> &'n str {
        if variants.contains(&name) {
            return name;
        }
        let mut alike = variants.iter().filter(|v| v.eq_ignore_ascii_case(name));
        match (alike.next(), alike.next()) {
            (Some(one), None) => one,
            // An alias or the catch-all of the enum may still know it.
            _ => name,
        }
    }
}
