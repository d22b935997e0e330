//! The forms in which a value can be visited by serde's buffer.

use std::borrow::Cow;
use std::time::Duration;

use serde::de::Visitor;

use crate::decode::braces;
use crate::decode::decimal::WrittenFloat;
use crate::decode::deserializer::ValueDeserializer;
use crate::decode::diagnose::fault::Fault;
use crate::decode::diagnose::rejection::{Rejection, Reported};
use crate::decode::input::Input;
use crate::decode::scalars::{duration_parts, visit_int};
use crate::decode::text::{self, AnyInteger};
use crate::sorted;
use crate::value::key;
use crate::value::units;

/// What a value is visited as.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Form {
    /// As it is written.
    Plain,
    /// A number or a boolean as its text.
    Text,
    /// Text without the space around it.
    Trimmed,
    Bool,
    Integer,
    F32,
    F64,
    Duration,
    List,
    /// As a list, though the text is none: for the error that describes what is wrong with the text.
    BrokenList,
    Map,
    Unit,
    /// The only name of a table, if its value is null.
    OnlyName,
    /// The one of these variants that differs in case only.
    Name(&'static [&'static str]),
}

/// What the names of a table allow to read it as.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum TableShape {
    Empty,
    /// One name, and null.
    Null,
    /// The indexes of a list.
    Numbered,
    /// Indexes of which some are missing or twice.
    Gaps,
    Named,
}

impl TableShape {
    /// The shape of a table with these names.
    pub(crate) fn of_names<'n>(names: impl Iterator<Item = &'n str>) -> Self {
        let Some(mut indexes) = names.map(key::list_index).collect::<Option<Vec<_>>>() else {
            return TableShape::Named;
        };
        sorted::sort(&mut indexes);
        if indexes.iter().enumerate().all(|(at, index)| at == *index) {
            TableShape::Numbered
        } else {
            TableShape::Gaps
        }
    }
}

/// serde's names for the integer types.
pub(crate) const INTEGERS: [&str; 12] = [
    "i8", "i16", "i32", "i64", "i128", "isize", "u8", "u16", "u32", "u64", "u128", "usize",
];

/// serde's names for the types that are read from a list.
pub(super) const LISTS: [&str; 5] = ["sequence", "tuple", "array", "list", "set"];

impl Form {
    /// The form of a scalar that a type may accept which has rejected it.
    pub(crate) fn of(input: Input<'_>, rejection: &Rejection) -> Option<Self> {
        if let (Input::Text(text), Some(names)) = (input, rejection.variants) {
            if braces::is_braced(text) && Form::Map.fits(input) {
                return Some(Form::Map);
            }
            let name = ValueDeserializer::variant(text.trim(), names);
            return (name != text && names.contains(&name)).then_some(Form::Name(names));
        }
        let better = Self::candidates(input, rejection);
        let better = better.iter().copied().find(|form| form.fits(input));
        // Its form comes from an equal value or from another value of its class.
        let plain = || {
            let reported = Reported::of_input(&input.canonical())?;
            // serde's buffer accepts no integer beyond 64 bits.
            (reported != rejection.reported && reported != Reported::Other).then_some(Form::Plain)
        };
        better.or_else(plain)
    }

    /// The forms that a type may expect which has rejected a scalar, whether the scalar can be read in them
    /// or not.
    pub(crate) fn candidates(input: Input<'_>, rejection: &Rejection) -> &'static [Self] {
        let expected = rejection.expected.as_str();
        let words = || expected.split(|c: char| !c.is_alphanumeric());
        let has = |names: &[&str]| words().any(|word| names.contains(&word));
        let is_braced = matches!(input, Input::Text(text) if braces::is_braced(text));
        if expected == "struct Duration" && !is_braced {
            &[Form::Duration]
        } else if expected == "a map"
            || expected.starts_with("struct ")
            || expected.starts_with("struct variant ")
            || expected.starts_with("internally tagged enum ")
            || expected.starts_with("adjacently tagged enum ")
        {
            &[Form::Map]
        } else if expected == "string or map" {
            &[Form::Text]
        } else if expected == "a character" {
            &[Form::Trimmed, Form::Text]
        } else if expected.contains("string") || expected == "any value" {
            &[Form::Text]
        } else if has(&["boolean", "bool"]) {
            &[Form::Bool]
        } else if has(&["f32"]) {
            &[Form::F32]
        } else if has(&["f64"]) {
            &[Form::F64]
        } else if has(&INTEGERS) {
            &[Form::Integer]
        } else if has(&LISTS) {
            &[Form::List, Form::BrokenList]
        } else if expected.starts_with("unit") {
            &[Form::Unit]
        } else {
            // The message of a user's type. It has rejected the value, so other forms do no harm.
            &[Form::Integer, Form::F64, Form::Text]
        }
    }

    /// The form of a table that a type may accept which has rejected it.
    pub(crate) fn of_table(shape: TableShape, rejection: &Rejection) -> Option<Self> {
        let mut words = rejection.expected.split(|c: char| !c.is_alphanumeric());
        match (&rejection.reported, shape) {
            (Reported::Map, TableShape::Null) if rejection.expected == "map with a single key" => {
                Some(Form::OnlyName)
            }
            (Reported::Map, TableShape::Empty | TableShape::Null)
                if rejection.expected.starts_with("unit") =>
            {
                Some(Form::Unit)
            }
            (Reported::Map, TableShape::Empty | TableShape::Null | TableShape::Numbered) => words
                .any(|word| LISTS.contains(&word))
                .then_some(Form::List),
            (Reported::Map, TableShape::Gaps) => words
                .any(|word| LISTS.contains(&word))
                .then_some(Form::BrokenList),
            (Reported::Seq | Reported::Unit, _) => Some(Form::Plain),
            _ => None,
        }
    }

    /// Whether a scalar can be read in this form. Without the digits of a float, its value decides.
    fn fits(self, input: Input<'_>) -> bool {
        match (self, input.canonical()) {
            (Form::Integer, Input::Float(value)) => value.fract() == 0.0,
            (Form::Duration, Input::Float(value)) => value == 0.0,
            _ => self.read(input).is_some(),
        }
    }

    /// Reads a scalar in this form; `None` if it cannot be read so.
    fn read(self, input: Input<'_>) -> Option<Formed<'_>> {
        let variant = ValueDeserializer::variant;
        match (self, input.canonical()) {
            (Form::Plain, _) => Some(Formed::Plain),
            (Form::Trimmed, Input::Text(text)) if text.trim().len() != text.len() => {
                Some(Formed::Text(Cow::Borrowed(text.trim())))
            }
            (Form::Bool, Input::Text(text)) => text::boolean(text).map(Formed::Bool),
            (Form::Integer, Input::Text(text)) => text::integer(text).ok().map(Formed::Integer),
            (Form::Integer, Input::Float(_)) => {
                let number = WrittenFloat::of(input)?.integer();
                number.ok().map(Formed::Integer)
            }
            (Form::F32, Input::Text(text)) => text::float(text).ok().map(Formed::F32),
            (Form::F64, Input::Text(text)) => text::float(text).ok().map(Formed::F64),
            (Form::Duration, Input::Text(text)) => units::duration(text).ok().map(Formed::Duration),
            (Form::Duration, Input::Int(0)) => Some(Formed::Duration(Duration::ZERO)),
            (Form::Duration, Input::Float(_)) if WrittenFloat::of(input)?.is_zero() => {
                Some(Formed::Duration(Duration::ZERO))
            }
            (Form::List, Input::Text(text)) => text::items(text).ok().map(|_| Formed::List),
            (Form::BrokenList, Input::Text(text)) => text::items(text).err().map(|_| Formed::List),
            (Form::Map, Input::Text(text)) if braces::is_braced(text) => {
                braces::table(text).ok().map(|_| Formed::Map)
            }
            (Form::Map, Input::Text(text)) => text::pairs(text).ok().map(|_| Formed::Map),
            (Form::Unit, Input::Text(text)) if text.trim().is_empty() => Some(Formed::Unit),
            (Form::Name(names), Input::Text(text)) => {
                let name = variant(text.trim(), names);
                let is_known = names.contains(&name);
                is_known.then_some(Formed::Text(Cow::Borrowed(name)))
            }
            (Form::Text, Input::Bool(_) | Input::Int(_) | Input::Big(_) | Input::Float(_)) => {
                input.text().map(Formed::Text)
            }
            _ => None,
        }
    }

    /// The value in this form; `None` if it cannot be visited so.
    pub(crate) fn apply<'a>(self, de: &ValueDeserializer<'a, '_>) -> Option<Formed<'a>> {
        match (de.input, self) {
            (Input::Table(_) | Input::Fields(_) | Input::AbsentTable, _) => match self {
                Form::List if !matches!(de.shape(), TableShape::Gaps | TableShape::Named) => {
                    Some(Formed::List)
                }
                Form::BrokenList if de.shape() == TableShape::Gaps => Some(Formed::List),
                Form::Unit if matches!(de.shape(), TableShape::Empty | TableShape::Null) => {
                    Some(Formed::Unit)
                }
                Form::OnlyName if de.shape() == TableShape::Null => {
                    let name = de.sole_null_entry()?.name;
                    Some(Formed::Text(Cow::Borrowed(name)))
                }
                _ => None,
            },
            // As it is written, and not with its JSON type.
            (input, Form::Text) if de.json.is_some() => input.text().map(Formed::Text),
            (input, _) => self.read(input),
        }
    }
}

/// A value in one of its forms.
pub(crate) enum Formed<'a> {
    Plain,
    Text(Cow<'a, str>),
    Bool(bool),
    Integer(AnyInteger),
    F32(f32),
    F64(f64),
    Duration(Duration),
    List,
    Map,
    Unit,
}

impl Formed<'_> {
    pub(crate) fn is_plain(&self) -> bool {
        matches!(self, Formed::Plain)
    }

    /// How serde reports the value after its visit.
    pub(crate) fn reported_as(&self, de: &ValueDeserializer<'_, '_>) -> Reported {
        match self {
            Formed::Plain => match de.written().and_then(WrittenFloat::vanished) {
                Some(text) => Reported::Text(text.to_owned()),
                None => Reported::of_input(&de.input.canonical()).unwrap_or(Reported::Other),
            },
            Formed::Text(text) => Reported::Text(text.clone().into_owned()),
            Formed::Bool(value) => Reported::Bool(*value),
            Formed::Integer(AnyInteger::Signed(value)) => Reported::Number(value.to_string()),
            Formed::Integer(AnyInteger::Huge(value)) => Reported::Number(value.to_string()),
            Formed::F32(value) => Reported::Number(format!("{:?}", f64::from(*value))),
            Formed::F64(value) => Reported::Number(format!("{value:?}")),
            Formed::Duration(_) | Formed::List => Reported::Seq,
            Formed::Map => Reported::Map,
            Formed::Unit => Reported::Unit,
        }
    }

    /// Visits the value.
    pub(crate) fn visit<'de, V: Visitor<'de>>(
        self,
        de: ValueDeserializer<'_, 'de>,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let result = match self {
            Formed::Plain => return de.visit_plain(visitor),
            Formed::List => return de.seq(None, visitor),
            Formed::Map => return de.map(visitor),
            Formed::Text(text) => de.visit_text(&text, visitor),
            Formed::Bool(value) => visitor.visit_bool(value),
            Formed::Integer(AnyInteger::Signed(value)) => visit_int(value, visitor),
            Formed::Integer(AnyInteger::Huge(value)) => visitor.visit_u128(value),
            Formed::F32(value) => visitor.visit_f32(value),
            Formed::F64(value) => visitor.visit_f64(value),
            Formed::Duration(value) => visitor.visit_seq(duration_parts(value)),
            Formed::Unit => visitor.visit_unit(),
        };
        result.map_err(|fault| de.locate_as::<V::Value>(fault))
    }
}
