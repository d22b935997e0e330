//! The deserializer: one place of the tree, asked for one type.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use serde::de::{DeserializeOwned, Deserializer, Visitor};

use crate::error::{Error, ErrorKind};
use crate::value::Value;
use crate::value::coerce::access::{Child, Map, One, Seq, Variant};
use crate::value::coerce::dummy::Dummy;
use crate::value::coerce::fault::{Fault, Place, shorten, type_name};
use crate::value::coerce::report::{self, Slow};
use crate::value::coerce::text::{self, Float, NumberFault, Whole};
use crate::value::key;
use crate::value::node::{Node, Table};
use crate::value::origin::Origin;
use crate::value::secret::{SECRET_NAME, has_user_info, looks_secret, segment_looks_secret};
use crate::value::units;

/// What stands at a place, in the form that is looked at.
#[derive(Clone, Copy)]
pub(super) enum Input<'a> {
    Absent,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(&'a str),
    List(&'a [Value]),
    Fields(&'a BTreeMap<Box<str>, Value>),
    Table(&'a Table),
    /// A table without names.
    Nothing,
    /// A reference that cannot be followed.
    Failed(&'a Error),
    /// Only while reporting: stands in for a value that is known to be bad.
    Dummy(usize),
}

impl<'a> Input<'a> {
    pub(super) fn of_value(value: &'a Value) -> Self {
        match value {
            Value::Unset => Input::Absent,
            Value::Bool(value) => Input::Bool(*value),
            Value::Int(value) => Input::Int(i128::from(*value)),
            Value::Big(value) => Input::Int(**value),
            Value::Float(value) => Input::Float(*value),
            Value::Text(value) => Input::Text(value),
            Value::List(items) => Input::List(items),
            Value::Table(fields) => Input::Fields(fields),
        }
    }

    /// The input, where it was written, and whether it may be secret.
    pub(super) fn of_node(node: &'a Node) -> (Self, Option<&'a Origin>, bool) {
        match node {
            Node::Leaf(leaf) => (Self::of_value(&leaf.value), Some(&leaf.origin), false),
            Node::Table(table) => (Input::Table(table), None, false),
            Node::Resolved(resolved) => {
                let input = match &resolved.value {
                    Ok(value) => Self::of_value(value),
                    Err(error) => Input::Failed(error),
                };
                (input, Some(&resolved.raw.origin), resolved.secret)
            }
        }
    }

    /// Kind and shortened value, for a message.
    pub(super) fn shown(&self) -> String {
        match self {
            Input::Absent => "nothing".into(),
            Input::Bool(value) => format!("boolean {value}"),
            Input::Int(value) => format!("integer {value}"),
            Input::Float(value) => format!("float {value:?}"),
            Input::Text(value) => format!("text {}", shorten(value)),
            Input::List(items) => format!("list of {}", items.len()),
            Input::Fields(fields) => format!("table of {}", fields.len()),
            Input::Table(table) => format!("table of {}", table.len()),
            Input::Nothing => "table of 0".into(),
            Input::Failed(_) => "a reference that cannot be followed".into(),
            Input::Dummy(_) => "a placeholder".into(),
        }
    }

    /// Whether anything in here looks secret by its name or is an address with a password.
    pub(super) fn holds_secret(&self) -> bool {
        match self {
            Input::Text(text) => has_user_info(text),
            Input::List(items) => items.iter().any(|v| Input::of_value(v).holds_secret()),
            Input::Fields(fields) => fields
                .iter()
                .any(|(name, v)| segment_looks_secret(name) || Input::of_value(v).holds_secret()),
            Input::Table(table) => table.map().iter().any(|entry| {
                let (input, _, secret) = Input::of_node(&entry.node);
                secret || segment_looks_secret(&entry.name) || input.holds_secret()
            }),
            _ => false,
        }
    }

    fn is_container(&self) -> bool {
        matches!(self, Input::List(_) | Input::Fields(_) | Input::Table(_))
    }

    /// Text of a scalar, for who wants text.
    fn text(&self) -> Option<Cow<'a, str>> {
        match *self {
            Input::Text(value) => Some(Cow::Borrowed(value)),
            Input::Bool(value) => Some(Cow::Borrowed(if value { "true" } else { "false" })),
            Input::Int(value) => Some(Cow::Owned(value.to_string())),
            Input::Float(value) => Some(Cow::Owned(format!("{value:?}"))),
            _ => None,
        }
    }
}

/// The way to a place, on the stack; it becomes text only when something goes wrong.
pub(super) struct Path<'a> {
    pub(super) parent: Option<&'a Path<'a>>,
    pub(super) segment: Segment<'a>,
}

#[derive(Clone, Copy)]
pub(super) enum Segment<'a> {
    Name(&'a str),
    Index(usize),
    /// The root, whose name the context knows, or a name that may be part of a secret.
    Hidden,
}

impl Path<'_> {
    fn write(&self, text: &mut String) {
        if let Some(parent) = self.parent {
            parent.write(text);
        }
        match self.segment {
            Segment::Name(name) => key::push_segment(text, name),
            Segment::Index(at) => key::push_segment(text, &at.to_string()),
            Segment::Hidden => {}
        }
    }
}

/// What all places of one decoding share.
pub(super) struct Context<'a> {
    pub(super) key: &'a str,
    /// Whether serde asked for whatever there is, which is where it may have buffered.
    pub(super) any: Cell<bool>,
    /// Whether a secret was asked for.
    secret: Cell<bool>,
    notes: Option<&'a RefCell<Vec<String>>>,
    /// Only in the second pass.
    pub(super) slow: Option<&'a RefCell<Slow>>,
}

/// Where a decoding begins.
#[derive(Clone, Copy)]
pub(super) struct Root<'a> {
    pub(super) key: &'a str,
    input: Input<'a>,
    origin: Option<&'a Origin>,
    masked: bool,
    notes: Option<&'a RefCell<Vec<String>>>,
}

impl<'a> Root<'a> {
    pub(super) fn new(
        key: &'a str,
        input: Input<'a>,
        origin: Option<&'a Origin>,
        masked: bool,
    ) -> Self {
        Self {
            key,
            input,
            origin,
            masked,
            notes: None,
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

    pub(super) fn decode<T: DeserializeOwned>(self) -> Result<T, Error> {
        match self.run(None) {
            Ok(value) => Ok(value),
            Err(fault) => report::again(self, fault),
        }
    }

    pub(super) fn run<T: DeserializeOwned>(self, slow: Option<&RefCell<Slow>>) -> Result<T, Fault> {
        let context = Context {
            key: self.key,
            any: Cell::new(false),
            secret: Cell::new(false),
            notes: self.notes,
            slow,
        };
        let path = Path {
            parent: None,
            segment: Segment::Hidden,
        };
        let de = De {
            input: self.input,
            path: &path,
            context: &context,
            origin: self.origin,
            masked: self.masked,
            name: false,
        };
        T::deserialize(de).map_err(|fault| de.place_as::<T>(fault))
    }

    /// Whether a second pass could find more than the first, or even succeed.
    pub(super) fn worth_a_second_pass(&self) -> bool {
        !matches!(self.input, Input::Absent | Input::Failed(_))
    }
}

/// One place of the tree.
#[derive(Clone, Copy)]
pub(super) struct De<'a> {
    pub(super) input: Input<'a>,
    pub(super) path: &'a Path<'a>,
    pub(super) context: &'a Context<'a>,
    pub(super) origin: Option<&'a Origin>,
    pub(super) masked: bool,
    /// Whether this is the name of a table entry, not its value.
    pub(super) name: bool,
}

impl<'a> De<'a> {
    pub(super) fn path_text(&self) -> String {
        let mut text = self.context.key.to_owned();
        self.path.write(&mut text);
        text
    }

    fn is_masked(&self, path: &str) -> bool {
        self.masked
            || looks_secret(path)
            || matches!(self.input, Input::Text(text) if has_user_info(text))
    }

    pub(super) fn place_here(&self) -> Place {
        let path = self.path_text();
        Place {
            found: match self.input {
                Input::Absent | Input::Nothing => None,
                input => Some(input.shown()),
            },
            origin: self.origin.map(ToString::to_string),
            masked: self.is_masked(&path),
            name: self.name,
            path,
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
            place.masked |= self.context.secret.get() || self.input.holds_secret();
            if let Some(got) = &inner.got {
                place.found = got.shown().or(place.found);
            }
        }
        if inner.missing.is_some() {
            place.found = None;
        }
        let below = match (inner.missing, &inner.unknown) {
            (Some(field), _) => Some(field),
            (None, Some(field)) if !place.masked => Some(&**field),
            _ => None,
        };
        if let Some(field) = below {
            key::push_segment(&mut place.path, field);
            if let Some((input, origin)) = self.find(field) {
                place.masked |= segment_looks_secret(field) || input.holds_secret();
                place.found = Some(input.shown());
                place.origin = origin.or(self.origin).map(ToString::to_string);
            }
        }
        inner.place = Some(place);
        fault
    }

    /// As [`place`](Self::place), where the words of a user's type do not say which type it was.
    #[cold]
    pub(super) fn place_as<T>(&self, mut fault: Fault) -> Fault {
        if fault.0.place.is_none() && fault.0.custom && fault.0.wanted.is_none() {
            fault.0.wanted = Some(type_name::<T>());
        }
        self.place(fault)
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

    #[cold]
    fn fault(&self, detail: &str, wanted: impl Into<String>) -> Fault {
        self.place(Fault::mismatch(detail, wanted))
    }

    /// The fault of an input that is nothing like what was wanted.
    #[cold]
    fn refuse(&self, wanted: impl Into<String>) -> Fault {
        match self.input {
            Input::Absent => {
                let mut fault = Fault::mismatch("not set", wanted);
                fault.0.kind = ErrorKind::Missing;
                self.place(fault)
            }
            Input::Failed(error) => self.place(Fault::done(error.clone())),
            Input::Text(text) if text.trim().is_empty() => self.fault("empty text", wanted),
            _ => self.fault("wrong type", wanted),
        }
    }

    fn whole(&self, wanted: &str, range: &dyn Fn() -> String) -> Result<Whole, Fault> {
        match self.input {
            Input::Int(value) => Ok(Whole::Signed(value)),
            Input::Text(text) => text::whole(text).map_err(|fault| match fault {
                NumberFault::Empty => self.fault("empty text", wanted),
                NumberFault::Range => self.fault("out of range", range()),
                _ => self.fault("not an integer", wanted),
            }),
            Input::Float(_) => Err(self.fault("not an integer", wanted)),
            _ => Err(self.refuse(wanted)),
        }
    }

    fn float<F: Float>(&self, wanted: &str) -> Result<F, Fault> {
        let float = match self.input {
            Input::Float(value) => F::of_f64(value).ok_or(NumberFault::Range),
            Input::Int(value) => F::of_i128(value).ok_or(NumberFault::Inexact),
            Input::Text(text) => text::float(text),
            _ => return Err(self.refuse(wanted)),
        };
        float.map_err(|fault| match fault {
            NumberFault::Empty => self.fault("empty text", wanted),
            NumberFault::Malformed => self.fault("not a number", wanted),
            NumberFault::Range => self.fault("out of range", wanted),
            NumberFault::Inexact => self.fault("an integer this type cannot hold exactly", wanted),
        })
    }

    fn dummy(&self) -> Option<Dummy> {
        match self.input {
            Input::Dummy(level) => Some(Dummy::new(level)),
            _ => None,
        }
    }

    /// The items of a list in any of its spellings. `held` keeps what was cut out of text.
    fn items<'b>(
        &self,
        held: &'b mut Vec<Cow<'a, str>>,
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
                *held = text::items(text).map_err(|detail| self.fault(detail, wanted()))?;
                let children = held.iter().enumerate();
                Ok(children
                    .map(|(at, t)| Child::item(at, Input::Text(t)))
                    .collect())
            }
            Input::Table(_) | Input::Fields(_) | Input::Nothing => {
                let children = self.entries().unwrap_or_default();
                let mut numbered = Vec::with_capacity(children.len());
                for child in children {
                    let Some(at) = text::index(child.name) else {
                        return Err(self.refuse(wanted()));
                    };
                    numbered.push((at, child));
                }
                numbered.sort_by_key(|(at, _)| *at);
                if numbered.windows(2).any(|pair| pair[0].0 == pair[1].0) {
                    return Err(self.fault("two names with the same number", wanted()));
                }
                Ok(numbered.into_iter().map(|(_, child)| child).collect())
            }
            _ => Err(self.refuse(wanted())),
        }
    }

    /// The entries of a table by name; `None` if this is no table.
    fn entries(&self) -> Option<Vec<Child<'a>>> {
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

    /// The entries of a table, or of text such as `a=1, b=2`.
    fn pairs<'b>(
        &self,
        held: &'b mut Vec<(Cow<'a, str>, Cow<'a, str>)>,
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
        *held = text::pairs(text).map_err(|detail| self.fault(detail, wanted()))?;
        // A name cut out of a secret text is part of the secret: keep it out of every path.
        let masked = self.is_masked(&self.path_text());
        Ok(held
            .iter()
            .map(|(name, value)| Child {
                name,
                segment: if masked {
                    Segment::Hidden
                } else {
                    Segment::Name(name)
                },
                input: Input::Text(value),
                origin: None,
                masked,
            })
            .collect())
    }

    fn seq<'de, V: Visitor<'de>>(self, len: Option<usize>, visitor: V) -> Result<V::Value, Fault> {
        let mut held = Vec::new();
        let items = self.items(&mut held, &type_name::<V::Value>)?;
        if let Some(len) = len {
            if items.len() != len {
                let detail = format!("{} items instead of {len}", items.len());
                return Err(self.fault(&detail, type_name::<V::Value>()));
            }
        }
        visitor
            .visit_seq(Seq::new(self, items))
            .map_err(|fault| self.place(fault))
    }

    fn map<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let mut held = Vec::new();
        let entries = self.pairs(&mut held, &type_name::<V::Value>)?;
        visitor
            .visit_map(Map::new(self, entries))
            .map_err(|fault| self.place(fault))
    }

    fn duration<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let read = match self.input {
            Input::Text(text) => units::duration(text),
            Input::Int(0) => Ok(std::time::Duration::ZERO),
            Input::Int(_) | Input::Float(_) => Err(units::NO_UNIT),
            _ => return self.map(visitor),
        };
        let value = read.map_err(|detail| self.fault(detail, "Duration"))?;
        visitor
            .visit_seq(report::duration_parts(value))
            .map_err(|fault| self.place(fault))
    }

    /// The one of `variants` that a name means: itself, or the only one that differs in case.
    fn variant<'n>(name: &'n str, variants: &'static [&'static str]) -> &'n str {
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

macro_rules! or_dummy {
    ($self:ident . $method:ident ( $($arg:expr),* )) => {
        if let Some(dummy) = $self.dummy() {
            return dummy.$method($($arg),*).map_err(|fault| $self.place(fault));
        }
    };
}

macro_rules! integers {
    ($($method:ident $visit:ident $t:ident)*) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            or_dummy!(self.$method(visitor));
            let range = || format!("{} ({} to {})", stringify!($t), $t::MIN, $t::MAX);
            let number = match self.whole(stringify!($t), &range)? {
                Whole::Signed(number) => $t::try_from(number).ok(),
                Whole::Huge(number) => $t::try_from(number).ok(),
            };
            match number {
                Some(number) => visitor.$visit(number).map_err(|fault| self.place(fault)),
                None => Err(self.fault("out of range", range())),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for De<'_> {
    type Error = Fault;

    integers! {
        deserialize_i8 visit_i8 i8
        deserialize_i16 visit_i16 i16
        deserialize_i32 visit_i32 i32
        deserialize_i64 visit_i64 i64
        deserialize_i128 visit_i128 i128
        deserialize_u8 visit_u8 u8
        deserialize_u16 visit_u16 u16
        deserialize_u32 visit_u32 u32
        deserialize_u64 visit_u64 u64
        deserialize_u128 visit_u128 u128
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.context.any.set(true);
        match self.context.slow {
            Some(slow) if !self.name => report::any(self, slow, visitor),
            _ => self.plain_any(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        or_dummy!(self.deserialize_bool(visitor));
        let value = match self.input {
            Input::Bool(value) => value,
            Input::Text(text) if !text.trim().is_empty() => match text::boolean(text) {
                Some(value) => value,
                None => return Err(self.fault("not a boolean", "bool")),
            },
            _ => return Err(self.refuse("bool")),
        };
        visitor.visit_bool(value).map_err(|fault| self.place(fault))
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        or_dummy!(self.deserialize_f32(visitor));
        let value = self.float::<f32>("f32")?;
        visitor.visit_f32(value).map_err(|fault| self.place(fault))
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        or_dummy!(self.deserialize_f64(visitor));
        let value = self.float::<f64>("f64")?;
        visitor.visit_f64(value).map_err(|fault| self.place(fault))
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        or_dummy!(self.deserialize_char(visitor));
        let Some(text) = self.input.text() else {
            return Err(self.refuse("char"));
        };
        let only = |text: &str| {
            let mut chars = text.chars();
            chars.next().filter(|_| chars.next().is_none())
        };
        match only(&text).or_else(|| only(text.trim())) {
            Some(c) => visitor.visit_char(c).map_err(|fault| self.place(fault)),
            None if text.is_empty() => Err(self.fault("empty text", "char")),
            None => Err(self.fault("not a single character", "char")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        or_dummy!(self.deserialize_str(visitor));
        match self.input.text() {
            Some(text) => visitor
                .visit_str(&text)
                .map_err(|fault| self.place_as::<V::Value>(fault)),
            None => Err(self.refuse(type_name::<V::Value>())),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        or_dummy!(self.deserialize_bytes(visitor));
        match self.input {
            Input::Text(text) => visitor
                .visit_bytes(text.as_bytes())
                .map_err(|fault| self.place(fault)),
            _ => self.seq(None, visitor),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        or_dummy!(self.deserialize_option(visitor));
        let result = match self.input {
            Input::Absent => visitor.visit_none(),
            _ => visitor.visit_some(self),
        };
        result.map_err(|fault| self.place(fault))
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        or_dummy!(self.deserialize_unit(visitor));
        let empty = match self.input {
            Input::Text(text) => text.trim().is_empty(),
            _ => self.entries().is_some_and(|entries| entries.is_empty()),
        };
        if empty {
            visitor.visit_unit().map_err(|fault| self.place(fault))
        } else {
            Err(self.refuse("nothing but empty text"))
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let result = if name == SECRET_NAME {
            self.context.secret.set(true);
            self.masked = true;
            if let Some(notes) = self.context.notes {
                notes.borrow_mut().push(self.path_text());
            }
            visitor.visit_seq(One(Some(self)))
        } else {
            visitor.visit_newtype_struct(self)
        };
        result.map_err(|fault| self.place(fault))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        or_dummy!(self.deserialize_seq(visitor));
        self.seq(None, visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Fault> {
        or_dummy!(self.deserialize_tuple(len, visitor));
        self.seq(Some(len), visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        or_dummy!(self.deserialize_map(visitor));
        self.map(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        or_dummy!(self.deserialize_struct(name, fields, visitor));
        if name == "Duration" && fields == ["secs", "nanos"] {
            return self.duration(visitor);
        }
        if let Input::Text(text) = self.input {
            if !text.trim().is_empty() && !text.contains('=') {
                return Err(self.refuse(type_name::<V::Value>()));
            }
        }
        self.map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        or_dummy!(self.deserialize_enum(name, variants, visitor));
        let wanted = type_name::<V::Value>;
        if let Some(text) = self.input.text() {
            let text = text.trim();
            if text.is_empty() {
                return Err(self.fault("empty text", wanted()));
            }
            let variant = Self::variant(text, variants);
            let path = Path {
                parent: Some(self.path),
                // An unknown name is just text, which may be secret.
                segment: if variants.contains(&variant) {
                    Segment::Name(variant)
                } else {
                    Segment::Hidden
                },
            };
            let content = De {
                input: Input::Absent,
                path: &path,
                ..self
            };
            return visitor
                .visit_enum(Variant {
                    name: variant,
                    content,
                })
                .map_err(|fault| self.place(fault));
        }
        let Some(entries) = self.entries() else {
            return Err(self.refuse(wanted()));
        };
        let [child] = entries.as_slice() else {
            return Err(self.fault("not the name of a variant and nothing else", wanted()));
        };
        let path = Path {
            parent: Some(self.path),
            segment: child.segment,
        };
        visitor
            .visit_enum(Variant {
                name: Self::variant(child.name, variants),
                content: child.de(&self, &path),
            })
            .map_err(|fault| self.place(fault))
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit().map_err(|fault| self.place(fault))
    }
}

impl De<'_> {
    /// Hands over what there is, text as text.
    pub(super) fn plain_any<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let result = match self.input {
            Input::Bool(value) => visitor.visit_bool(value),
            Input::Int(value) => visit_int(value, visitor),
            Input::Float(value) => visitor.visit_f64(value),
            Input::Text(text) => visitor.visit_str(text),
            Input::List(_) => return self.seq(None, visitor),
            Input::Fields(_) | Input::Table(_) | Input::Nothing => return self.map(visitor),
            // A null in a list.
            Input::Absent if self.path.parent.is_some() => visitor.visit_unit(),
            Input::Absent | Input::Failed(_) | Input::Dummy(_) => {
                return Err(self.refuse(type_name::<V::Value>()));
            }
        };
        result.map_err(|fault| self.place_as::<V::Value>(fault))
    }

    pub(super) fn list_any<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.seq(None, visitor)
    }
}

/// Hands an integer over in the smallest form: serde's buffer knows only 64 bits.
pub(super) fn visit_int<'de, V: Visitor<'de>>(value: i128, visitor: V) -> Result<V::Value, Fault> {
    if let Ok(small) = i64::try_from(value) {
        visitor.visit_i64(small)
    } else if let Ok(small) = u64::try_from(value) {
        visitor.visit_u64(small)
    } else {
        visitor.visit_i128(value)
    }
}
