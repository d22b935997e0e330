//! The forms in which a value can be visited by serde's buffer.

use serde::de::Visitor;

use crate::decode::braces;
use crate::decode::decimal::WrittenFloat;
use crate::decode::deserializer::ValueDeserializer;
use crate::decode::diagnose::fault::Fault;
use crate::decode::diagnose::rejection::{Found, Rejection};
use crate::decode::input::Input;
use crate::decode::scalars::{duration_parts, visit_int};
use crate::decode::text::{self, Whole};
use crate::value::key;
use crate::value::units;

/// What a value is visited as.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(in crate::decode) enum Form {
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
    /// As a list, though the text is none: for the error that says what is wrong with it.
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
pub(in crate::decode) enum TableShape {
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
    pub(in crate::decode) fn of_names<'n>(names: impl Iterator<Item = &'n str>) -> Self {
        let Some(mut indexes) = names.map(key::list_index).collect::<Option<Vec<_>>>() else {
            return TableShape::Named;
        };
        indexes.sort_unstable();
        if indexes.iter().enumerate().all(|(at, index)| at == *index) {
            TableShape::Numbered
        } else {
            TableShape::Gaps
        }
    }
}

/// serde's names for the integer types.
pub(in crate::decode) const INTEGERS: [&str; 12] = [
    "i8", "i16", "i32", "i64", "i128", "isize", "u8", "u16", "u32", "u64", "u128", "usize",
];

/// serde's names for the types that are read from a list.
const LISTS: [&str; 5] = ["sequence", "tuple", "array", "list", "set"];

impl Form {
    /// The form of a scalar that a type may accept which has rejected it.
    pub(in crate::decode) fn of(input: Input<'_>, rejection: &Rejection) -> Option<Self> {
        if let (Input::Text(text), Some(names)) = (input, rejection.variants) {
            if braces::is_braced(text) && Form::Map.fits(&input) {
                return Some(Form::Map);
            }
            let name = ValueDeserializer::variant(text.trim(), names);
            return (name != text && names.contains(&name)).then_some(Form::Name(names));
        }
        let better = Self::candidates(input, rejection);
        let better = better.iter().copied().find(|form| form.fits(&input));
        // Its form comes from an equal value or from another value of its class.
        let plain = || {
            let found = Found::of_input(&input.canonical())?;
            // serde's buffer accepts no integer beyond 64 bits.
            (found != rejection.found && found != Found::Other).then_some(Form::Plain)
        };
        better.or_else(plain)
    }

    /// The forms that a type may expect which has rejected a scalar, whether the scalar can be read in them
    /// or not.
    pub(in crate::decode) fn candidates(
        input: Input<'_>,
        rejection: &Rejection,
    ) -> &'static [Self] {
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
    pub(in crate::decode) fn of_table(shape: TableShape, rejection: &Rejection) -> Option<Self> {
        let mut words = rejection.expected.split(|c: char| !c.is_alphanumeric());
        match (&rejection.found, shape) {
            (Found::Map, TableShape::Null) if rejection.expected == "map with a single key" => {
                Some(Form::OnlyName)
            }
            (Found::Map, TableShape::Empty | TableShape::Null)
                if rejection.expected.starts_with("unit") =>
            {
                Some(Form::Unit)
            }
            (Found::Map, TableShape::Empty | TableShape::Null | TableShape::Numbered) => words
                .any(|word| LISTS.contains(&word))
                .then_some(Form::List),
            (Found::Map, TableShape::Gaps) => words
                .any(|word| LISTS.contains(&word))
                .then_some(Form::BrokenList),
            (Found::Seq | Found::Unit, _) => Some(Form::Plain),
            _ => None,
        }
    }

    /// The value in its notation for text, and without it otherwise.
    fn input_of<'a>(self, input: Input<'a>) -> Input<'a> {
        match self {
            Form::Text => input,
            _ => input.canonical(),
        }
    }

    /// Whether a scalar can be read in this form.
    fn fits(self, input: &Input<'_>) -> bool {
        match (self, &self.input_of(*input)) {
            (Form::Plain, _) => true,
            (
                Form::Text,
                Input::Bool(_)
                | Input::Int(_)
                | Input::Big(_)
                | Input::Float(_)
                | Input::Spelled(_),
            ) => true,
            (Form::Trimmed, Input::Text(text)) => text.trim().len() != text.len(),
            (Form::Bool, Input::Text(text)) => text::boolean(text).is_some(),
            (Form::Integer, Input::Text(text)) => text::whole(text).is_ok(),
            // The digits decide whether it is an integer, and not all callers have them.
            (Form::Integer, Input::Float(value)) => value.fract() == 0.0,
            (Form::F32, Input::Text(text)) => text::float::<f32>(text).is_ok(),
            (Form::F64, Input::Text(text)) => text::float::<f64>(text).is_ok(),
            (Form::Duration, Input::Text(text)) => units::duration(text).is_ok(),
            (Form::Duration, Input::Int(value)) => *value == 0,
            (Form::Duration, Input::Float(value)) => *value == 0.0,
            (Form::List, Input::Text(text)) => text::items(text).is_ok(),
            (Form::BrokenList, Input::Text(text)) => text::items(text).is_err(),
            (Form::Map, Input::Text(text)) if braces::is_braced(text) => {
                braces::table(text).is_ok()
            }
            (Form::Map, Input::Text(text)) => text::pairs(text).is_ok(),
            (Form::Unit, Input::Text(text)) => text.trim().is_empty(),
            (Form::Name(names), Input::Text(text)) => {
                names.contains(&ValueDeserializer::variant(text.trim(), names))
            }
            _ => false,
        }
    }

    /// Whether a value can be visited in this form.
    pub(in crate::decode) fn applies(self, de: &ValueDeserializer<'_, '_>) -> bool {
        match de.input {
            Input::Table(_) | Input::Fields(_) | Input::Nothing => match self {
                Form::List => !matches!(de.shape(), TableShape::Gaps | TableShape::Named),
                Form::BrokenList => de.shape() == TableShape::Gaps,
                Form::Unit => matches!(de.shape(), TableShape::Empty | TableShape::Null),
                Form::OnlyName => de.shape() == TableShape::Null,
                _ => false,
            },
            // As it is written, and not with its JSON type.
            _ if self == Form::Text && de.json.is_some() => true,
            input => match (self, de.written()) {
                (Form::Integer, Some(written)) => written.whole().is_ok(),
                (Form::Duration, Some(written)) => written.is_zero(),
                _ => self.fits(&input),
            },
        }
    }

    /// How serde reports a value that was visited in this form.
    pub(in crate::decode) fn reported_as(self, de: &ValueDeserializer<'_, '_>) -> Found {
        let input = &self.input_of(de.input);
        let text = |input: &Input<'_>| input.text().unwrap_or_default().into_owned();
        match (self, input) {
            (Form::Text, _) => Found::Text(text(input)),
            (Form::Trimmed, _) => Found::Text(text(input).trim().to_owned()),
            (Form::Bool, Input::Text(text)) => Found::Bool(text::boolean(text).unwrap_or_default()),
            (Form::Integer, Input::Text(text)) => match text::whole(text) {
                Ok(Whole::Signed(value)) => Found::Number(value.to_string()),
                Ok(Whole::Huge(value)) => Found::Number(value.to_string()),
                Err(_) => Found::Other,
            },
            (Form::Integer, Input::Float(_)) => match de.written().map(WrittenFloat::whole) {
                Some(Ok(Whole::Signed(value))) => Found::Number(value.to_string()),
                _ => Found::Other,
            },
            (Form::Plain, Input::Float(_)) => match de.written().and_then(WrittenFloat::vanished) {
                Some(text) => Found::Text(text.to_owned()),
                None => Found::of_input(input).unwrap_or(Found::Other),
            },
            (Form::F32, Input::Text(text)) => match text::float::<f32>(text) {
                Ok(value) => Found::Number(format!("{:?}", f64::from(value))),
                Err(_) => Found::Other,
            },
            (Form::F64, Input::Text(text)) => match text::float::<f64>(text) {
                Ok(value) => Found::Number(format!("{value:?}")),
                Err(_) => Found::Other,
            },
            (Form::Duration | Form::List | Form::BrokenList, _) => Found::Seq,
            (Form::Map, _) => Found::Map,
            (Form::Unit, _) => Found::Unit,
            (Form::OnlyName, _) => match de.sole_null_entry() {
                Some(child) => Found::Text(child.name.to_owned()),
                None => Found::Map,
            },
            (Form::Name(names), Input::Text(text)) => {
                Found::Text(ValueDeserializer::variant(text.trim(), names).to_owned())
            }
            (_, input) => Found::of_input(input).unwrap_or(Found::Other),
        }
    }

    /// Visits a value in this form.
    pub(in crate::decode) fn visit<'de, V: Visitor<'de>>(
        self,
        de: ValueDeserializer<'_, 'de>,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let result = match (self, self.input_of(de.input)) {
            (Form::Text, input) => de.visit_text(&input.text().unwrap_or_default(), visitor),
            (Form::Trimmed, Input::Text(text)) => de.visit_text(text.trim(), visitor),
            (Form::Bool, Input::Text(text)) => {
                visitor.visit_bool(text::boolean(text).unwrap_or_default())
            }
            (Form::Integer, Input::Text(text)) => match text::whole(text) {
                Ok(Whole::Signed(value)) => visit_int(value, visitor),
                Ok(Whole::Huge(value)) => visitor.visit_u128(value),
                Err(_) => return de.visit_plain(visitor),
            },
            (Form::Integer, Input::Float(_)) => match de.written().map(WrittenFloat::whole) {
                Some(Ok(Whole::Signed(value))) => visit_int(value, visitor),
                Some(Ok(Whole::Huge(value))) => visitor.visit_u128(value),
                _ => return de.visit_plain(visitor),
            },
            (Form::F32, Input::Text(text)) => match text::float(text) {
                Ok(value) => visitor.visit_f32(value),
                Err(_) => return de.visit_plain(visitor),
            },
            (Form::F64, Input::Text(text)) => match text::float(text) {
                Ok(value) => visitor.visit_f64(value),
                Err(_) => return de.visit_plain(visitor),
            },
            (Form::Duration, Input::Text(text)) => {
                visitor.visit_seq(duration_parts(units::duration(text).unwrap_or_default()))
            }
            (Form::Duration, _) => visitor.visit_seq(duration_parts(std::time::Duration::ZERO)),
            (Form::List | Form::BrokenList, _) => return de.seq(None, visitor),
            (Form::Map, Input::Text(_)) => return de.map(visitor),
            (Form::Unit, _) => visitor.visit_unit(),
            (Form::OnlyName, _) => match de.sole_null_entry() {
                Some(child) => de.visit_text(child.name, visitor),
                None => return de.visit_plain(visitor),
            },
            (Form::Name(names), Input::Text(text)) => {
                de.visit_text(ValueDeserializer::variant(text.trim(), names), visitor)
            }
            _ => return de.visit_plain(visitor),
        };
        result.map_err(|fault| de.locate_as::<V::Value>(fault))
    }
}
