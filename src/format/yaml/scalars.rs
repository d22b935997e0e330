//! Scalars after the core schema of YAML 1.2.

use crate::value::Value;

/// What the core tags begin with.
pub(super) const CORE: &str = "tag:yaml.org,2002:";

/// A tag of the core schema.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Core {
    Str,
    Int,
    Float,
    Bool,
    Null,
    Seq,
    Map,
}

impl Core {
    pub(super) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "str" => Core::Str,
            "int" => Core::Int,
            "float" => Core::Float,
            "bool" => Core::Bool,
            "null" => Core::Null,
            "seq" => Core::Seq,
            "map" => Core::Map,
            _ => return None,
        })
    }
}

/// A scalar by the rule of its tag, or one without quotes and without a tag; the spelling of a number
/// or a boolean stays.
pub(super) fn tagged(tag: Option<Core>, text: &str) -> Result<Value, &'static str> {
    let value = match tag {
        Some(Core::Str) => return Ok(Value::from(text)),
        Some(Core::Seq | Core::Map) => return Err("a tag of a collection on a scalar"),
        _ => resolve(text)?,
    };
    let value = match (tag, value) {
        (None, value)
        | (Some(Core::Bool), value @ Value::Bool(_))
        | (Some(Core::Null), value @ Value::Unset) => value,
        (Some(Core::Int), Value::Number(number)) if number.is_integer() => number.into(),
        (Some(Core::Float), Value::Number(number)) if !number.is_integer() => number.into(),
        // Only an integer that is too long for `i128` is text here.
        (Some(Core::Int), value @ Value::Text(_)) if integer(text).is_some() => value,
        // Digits alone are a float too, unless they are hexadecimal or octal.
        (Some(Core::Float), Value::Number(_) | Value::Text(_))
            if matches!(integer(text), Some((_, 10))) =>
        {
            match text.parse::<f64>() {
                Ok(value) if value.is_infinite() => return Err(BEYOND_FLOATS),
                Ok(value) => Value::from(value),
                Err(_) => return Err("`!!float` before what is no float"),
            }
        }
        (Some(Core::Float), Value::Text(_)) if is_number(text) => return Err(BEYOND_FLOATS),
        (Some(Core::Int), _) => return Err("`!!int` before what is no integer"),
        (Some(Core::Float), _) => return Err("`!!float` before what is no float"),
        (Some(Core::Bool), _) => return Err("`!!bool` before what is neither true nor false"),
        (Some(_), _) => return Err("`!!null` before what is not null"),
    };
    Ok(value.with_spelling(text))
}

const BEYOND_FLOATS: &str = "a number beyond the range of 64-bit floats";

fn unsigned(text: &str) -> &str {
    text.strip_prefix(['-', '+']).unwrap_or(text)
}

/// The digits of an integer, with their sign, and their radix.
fn integer(text: &str) -> Option<(&str, u32)> {
    let digits = |text: &str, radix| !text.is_empty() && text.chars().all(|c| c.is_digit(radix));
    if digits(unsigned(text), 10) {
        return Some((text, 10));
    }
    if let Some(octal) = text.strip_prefix("0o").filter(|rest| digits(rest, 8)) {
        return Some((octal, 8));
    }
    let hex = text.strip_prefix("0x").filter(|rest| digits(rest, 16));
    hex.map(|hex| (hex, 16))
}

/// A scalar without quotes, after the core schema.
fn resolve(text: &str) -> Result<Value, &'static str> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Unset),
        "true" | "True" | "TRUE" => return Ok(Value::from(true)),
        "false" | "False" | "FALSE" => return Ok(Value::from(false)),
        ".nan" | ".NaN" | ".NAN" => return Ok(Value::from(f64::NAN)),
        _ => {}
    }
    if let Some((digits, radix)) = integer(text) {
        let value = i128::from_str_radix(digits, radix).map(Value::from);
        // As text, they are the same number for who has room for it.
        return Ok(value.unwrap_or_else(|_| Value::from(text)));
    }
    let unsigned = unsigned(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
        return Ok(Value::from(sign * f64::INFINITY));
    }
    if has_form_of_number(text) {
        return match text.parse::<f64>() {
            // As text, it is what an unquoted hash such as `123e456` is meant to be.
            Ok(value) if value.is_infinite() => Ok(Value::from(text)),
            Ok(value) => Ok(Value::from(value)),
            Err(_) => Ok(Value::from(text)),
        };
    }
    Ok(Value::from(text))
}

/// Whether a text has only what a number has. Rust also reads `inf`, `nan` and the like, which are text here.
fn has_form_of_number(text: &str) -> bool {
    let unsigned = unsigned(text);
    let numeric = |c: char| matches!(c, '0'..='9' | '.' | 'e' | 'E' | '+' | '-');
    let begins = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    begins && unsigned.chars().all(numeric)
}

/// Whether a text is a number, perhaps one beyond the range of floats.
fn is_number(text: &str) -> bool {
    has_form_of_number(text) && text.parse::<f64>().is_ok()
}
