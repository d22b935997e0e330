//! The forms in which a value can be handed to serde's buffer.

use serde::de::Visitor;

use crate::decode::braces;
use crate::decode::de::visit_int;
use crate::decode::decimal::Written;
use crate::decode::diagnose::fault::{Fault, Got, Judged};
use crate::decode::diagnose::report::duration_parts;
use crate::decode::input::Input;
use crate::decode::place::De;
use crate::decode::text::{self, Whole};
use crate::value::units;

/// What a value is handed over as.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(in crate::decode) enum Form {
    /// As the tree holds it.
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
    /// As a list, though it is none: for the error that says what is wrong with it.
    BrokenList,
    Map,
    Unit,
    /// The name of a table that has no value for it.
    OnlyName,
    /// The one of these names that differs in case only.
    Name(&'static [&'static str]),
}

/// The names of a table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::decode) enum Shape {
    Empty,
    /// One name, and null.
    Null,
    /// The indexes of a list.
    Numbered,
    /// All are decimal, but some are missing or stand twice.
    Gaps,
    Named,
}

pub(in crate::decode) const INTEGERS: [&str; 12] = [
    "i8", "i16", "i32", "i64", "i128", "isize", "u8", "u16", "u32", "u64", "u128", "usize",
];

/// What serde calls the types that are read from a list.
const LISTS: [&str; 5] = ["sequence", "tuple", "array", "list", "set"];

impl Form {
    /// The form of a scalar that would satisfy a type that has refused it.
    pub(in crate::decode) fn of(input: Input<'_>, judged: &Judged) -> Option<Self> {
        if let (Input::Text(text), Some(names)) = (input, judged.variants) {
            if braces::is_braced(text) && Form::Map.fits(&input) {
                return Some(Form::Map);
            }
            let name = De::variant(text.trim(), names);
            return (name != text && names.contains(&name)).then_some(Form::Name(names));
        }
        let better = Self::wanted(input, judged);
        let better = better.iter().copied().find(|form| form.fits(&input));
        // It was given as something else, because of another value that is equal or in the same class.
        let plain = || (Got::of_input(&input.canonical())? != judged.got).then_some(Form::Plain);
        better.or_else(plain)
    }

    /// The forms that a type may want that has refused a scalar, whether that can be read so or not.
    pub(in crate::decode) fn wanted(input: Input<'_>, judged: &Judged) -> &'static [Self] {
        let wanted = judged.wanted.as_str();
        let words = || wanted.split(|c: char| !c.is_alphanumeric());
        let has = |names: &[&str]| words().any(|word| names.contains(&word));
        let is_braced = matches!(input, Input::Text(text) if braces::is_braced(text));
        if wanted == "struct Duration" && !is_braced {
            &[Form::Duration]
        } else if wanted == "a map"
            || wanted.starts_with("struct ")
            || wanted.starts_with("struct variant ")
            || wanted.starts_with("internally tagged enum ")
            || wanted.starts_with("adjacently tagged enum ")
        {
            &[Form::Map]
        } else if wanted == "string or map" {
            &[Form::Text]
        } else if wanted == "a character" {
            &[Form::Trimmed, Form::Text]
        } else if wanted.contains("string") || wanted == "any value" {
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
        } else if wanted.starts_with("unit") {
            &[Form::Unit]
        } else {
            // The words of a user's type: it has refused what there is, so nothing is lost.
            &[Form::Integer, Form::F64, Form::Text]
        }
    }

    /// The form of a table for who wants a list, or nothing.
    pub(in crate::decode) fn of_table(shape: Shape, judged: &Judged) -> Option<Self> {
        let mut words = judged.wanted.split(|c: char| !c.is_alphanumeric());
        match (&judged.got, shape) {
            (Got::Map, Shape::Null) if judged.wanted == "map with a single key" => {
                Some(Form::OnlyName)
            }
            (Got::Map, Shape::Empty | Shape::Null) if judged.wanted.starts_with("unit") => {
                Some(Form::Unit)
            }
            (Got::Map, Shape::Empty | Shape::Null | Shape::Numbered) => words
                .any(|word| LISTS.contains(&word))
                .then_some(Form::List),
            (Got::Map, Shape::Gaps) => words
                .any(|word| LISTS.contains(&word))
                .then_some(Form::BrokenList),
            (Got::Seq | Got::Unit, _) => Some(Form::Plain),
            _ => None,
        }
    }

    /// What is handed over like this: the spelling of a number is for who wants text.
    fn input_of<'a>(self, input: Input<'a>) -> Input<'a> {
        match self {
            Form::Text => input,
            _ => input.canonical(),
        }
    }

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
            // Whether it is one, only its digits say, and not all who ask know them.
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
                names.contains(&De::variant(text.trim(), names))
            }
            _ => false,
        }
    }

    /// Whether a value can be handed over like this.
    pub(in crate::decode) fn applies(self, de: &De<'_, '_>) -> bool {
        match de.input {
            Input::Table(_) | Input::Fields(_) | Input::Nothing => match self {
                Form::List => !matches!(de.shape(), Shape::Gaps | Shape::Named),
                Form::BrokenList => de.shape() == Shape::Gaps,
                Form::Unit => matches!(de.shape(), Shape::Empty | Shape::Null),
                Form::OnlyName => de.shape() == Shape::Null,
                _ => false,
            },
            // As it is written, not as JSON has it.
            _ if self == Form::Text && de.json.is_some() => true,
            input => match (self, de.written()) {
                (Form::Integer, Some(written)) => written.whole().is_ok(),
                (Form::Duration, Some(written)) => written.is_zero(),
                _ => self.fits(&input),
            },
        }
    }

    /// How serde reports a value back that it got like this.
    pub(in crate::decode) fn got(self, de: &De<'_, '_>) -> Got {
        let input = &self.input_of(de.input);
        let text = |input: &Input<'_>| input.text().unwrap_or_default().into_owned();
        match (self, input) {
            (Form::Text, _) => Got::Text(text(input)),
            (Form::Trimmed, _) => Got::Text(text(input).trim().to_owned()),
            (Form::Bool, Input::Text(text)) => Got::Bool(text::boolean(text).unwrap_or_default()),
            (Form::Integer, Input::Text(text)) => match text::whole(text) {
                Ok(Whole::Signed(value)) => Got::Number(value.to_string()),
                Ok(Whole::Huge(value)) => Got::Number(value.to_string()),
                Err(_) => Got::Other,
            },
            (Form::Integer, Input::Float(_)) => match de.written().map(Written::whole) {
                Some(Ok(Whole::Signed(value))) => Got::Number(value.to_string()),
                _ => Got::Other,
            },
            (Form::Plain, Input::Float(_)) => match de.written().and_then(Written::vanished) {
                Some(text) => Got::Text(text.to_owned()),
                None => Got::of_input(input).unwrap_or(Got::Other),
            },
            (Form::F32, Input::Text(text)) => match text::float::<f32>(text) {
                Ok(value) => Got::Number(format!("{:?}", f64::from(value))),
                Err(_) => Got::Other,
            },
            (Form::F64, Input::Text(text)) => match text::float::<f64>(text) {
                Ok(value) => Got::Number(format!("{value:?}")),
                Err(_) => Got::Other,
            },
            (Form::Duration | Form::List | Form::BrokenList, _) => Got::Seq,
            (Form::Map, _) => Got::Map,
            (Form::Unit, _) => Got::Unit,
            (Form::OnlyName, _) => match de.only_null() {
                Some(child) => Got::Text(child.name.to_owned()),
                None => Got::Map,
            },
            (Form::Name(names), Input::Text(text)) => {
                Got::Text(De::variant(text.trim(), names).to_owned())
            }
            (_, input) => Got::of_input(input).unwrap_or(Got::Other),
        }
    }

    /// Hands a value over.
    pub(in crate::decode) fn hand_over<'de, V: Visitor<'de>>(
        self,
        de: De<'_, 'de>,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let result = match (self, self.input_of(de.input)) {
            (Form::Text, input) => de.text_any(&input.text().unwrap_or_default(), visitor),
            (Form::Trimmed, Input::Text(text)) => de.text_any(text.trim(), visitor),
            (Form::Bool, Input::Text(text)) => {
                visitor.visit_bool(text::boolean(text).unwrap_or_default())
            }
            (Form::Integer, Input::Text(text)) => match text::whole(text) {
                Ok(Whole::Signed(value)) => visit_int(value, visitor),
                Ok(Whole::Huge(value)) => visitor.visit_u128(value),
                Err(_) => return de.plain_any(visitor),
            },
            (Form::Integer, Input::Float(_)) => match de.written().map(Written::whole) {
                Some(Ok(Whole::Signed(value))) => visit_int(value, visitor),
                Some(Ok(Whole::Huge(value))) => visitor.visit_u128(value),
                _ => return de.plain_any(visitor),
            },
            (Form::F32, Input::Text(text)) => match text::float(text) {
                Ok(value) => visitor.visit_f32(value),
                Err(_) => return de.plain_any(visitor),
            },
            (Form::F64, Input::Text(text)) => match text::float(text) {
                Ok(value) => visitor.visit_f64(value),
                Err(_) => return de.plain_any(visitor),
            },
            (Form::Duration, Input::Text(text)) => {
                visitor.visit_seq(duration_parts(units::duration(text).unwrap_or_default()))
            }
            (Form::Duration, _) => visitor.visit_seq(duration_parts(std::time::Duration::ZERO)),
            (Form::List | Form::BrokenList, _) => return de.list_any(visitor),
            (Form::Map, Input::Text(_)) => return de.map(visitor),
            (Form::Unit, _) => visitor.visit_unit(),
            (Form::OnlyName, _) => match de.only_null() {
                Some(child) => de.text_any(child.name, visitor),
                None => return de.plain_any(visitor),
            },
            (Form::Name(names), Input::Text(text)) => {
                de.text_any(De::variant(text.trim(), names), visitor)
            }
            _ => return de.plain_any(visitor),
        };
        result.map_err(|fault| de.place_as::<V::Value>(fault))
    }
}
