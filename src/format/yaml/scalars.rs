//! Resolves scalars by the core schema of YAML 1.2.

use crate::value::Value;

/// The prefix of the core tags.
pub(super) const CORE_PREFIX: &str = "tag:yaml.org,2002:";

/// A tag of the core schema.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum CoreTag {
    Str,
    Int,
    Float,
    Bool,
    Null,
    Seq,
    Map,
}

impl CoreTag {
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "str" => CoreTag::Str,
            "int" => CoreTag::Int,
            "float" => CoreTag::Float,
            "bool" => CoreTag::Bool,
            "null" => CoreTag::Null,
            "seq" => CoreTag::Seq,
            "map" => CoreTag::Map,
            _ => return None,
        })
    }
}

/// Resolves a scalar with a tag, or one with neither quotes nor a tag. A number or boolean keeps its
/// spelling.
pub(super) fn resolve(tag: Option<CoreTag>, text: &str) -> Result<Value, &'static str> {
    let value = match tag {
        Some(CoreTag::Str) => return Ok(Value::from(text)),
        Some(CoreTag::Seq | CoreTag::Map) => return Err("a tag of a collection on a scalar"),
        _ => resolve_untagged(text),
    };
    let value = match (tag, value) {
        (None, value)
        | (Some(CoreTag::Bool), value @ Value::Bool(_))
        | (Some(CoreTag::Null), value @ Value::Unset) => value,
        (Some(CoreTag::Int), Value::Number(number)) if number.is_integer() => number.into(),
        (Some(CoreTag::Float), Value::Number(number)) if !number.is_integer() => number.into(),
        // An integer beyond `i128` is text.
        (Some(CoreTag::Int), value @ Value::Text(_)) if integer(text).is_some() => value,
        // Digits alone are a float too, unless they are hexadecimal or octal.
        (Some(CoreTag::Float), Value::Number(_) | Value::Text(_))
            if matches!(integer(text), Some((_, 10))) =>
        {
            match text.parse::<f64>() {
                Ok(value) if value.is_infinite() => return Err(BEYOND_FLOATS),
                Ok(value) => Value::from(value),
                Err(_) => return Err("`!!float` before a value that is not a float"),
            }
        }
        (Some(CoreTag::Float), Value::Text(_)) if is_number(text) => return Err(BEYOND_FLOATS),
        (Some(CoreTag::Int), _) => return Err("`!!int` before a value that is not an integer"),
        (Some(CoreTag::Float), _) => return Err("`!!float` before a value that is not a float"),
        (Some(CoreTag::Bool), _) => {
            return Err("`!!bool` before a value that is neither true nor false");
        }
        (Some(_), _) => return Err("`!!null` before a value that is not null"),
    };
    Ok(value.with_spelling(text))
}

const BEYOND_FLOATS: &str = "a number beyond the range of 64-bit floats";

fn unsigned(text: &str) -> &str {
    text.strip_prefix(['-', '+']).unwrap_or(text)
}

/// Returns the digits of an integer with their sign, and their radix.
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

/// Resolves a scalar with neither quotes nor a tag.
fn resolve_untagged(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Unset,
        "true" | "True" | "TRUE" => return Value::from(true),
        "false" | "False" | "FALSE" => return Value::from(false),
        ".nan" | ".NaN" | ".NAN" => return Value::from(f64::NAN),
        _ => {}
    }
    if let Some((digits, radix)) = integer(text) {
        let value = i128::from_str_radix(digits, radix).map(Value::from);
        // Text keeps the number for types that are larger than `i128`.
        return value.unwrap_or_else(|_| Value::from(text));
    }
    let unsigned = unsigned(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
        return Value::from(sign * f64::INFINITY);
    }
    match has_form_of_number(text).then(|| text.parse::<f64>()) {
        // An infinite one is more likely an unquoted hash such as `123e456`, which is text.
        Some(Ok(value)) if value.is_finite() => Value::from(value),
        _ => Value::from(text),
    }
}

/// Whether a text has only characters of a number. Rust parses `inf`, `nan` and the like as well, which are
/// text in YAML.
fn has_form_of_number(text: &str) -> bool {
    let unsigned = unsigned(text);
    let numeric = |c: char| matches!(c, '0'..='9' | '.' | 'e' | 'E' | '+' | '-');
    let begins = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    begins && unsigned.chars().all(numeric)
}

/// Whether a text is a number, even beyond the range of floats.
fn is_number(text: &str) -> bool {
    has_form_of_number(text) && text.parse::<f64>().is_ok()
}
