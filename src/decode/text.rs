//! Reads text as numbers, booleans, lists and pairs.

use std::borrow::Cow;
use std::collections::HashSet;

use crate::decode::braces::{self, MANY_TABLES, MANY_VALUES};
use crate::value::key::{MAX_TABLES, MAX_VALUES};

/// An integer of any type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum AnyInteger {
    Signed(i128),
    /// Above `i128::MAX`.
    Huge(u128),
}

impl AnyInteger {
    pub(super) fn of(is_negative: bool, magnitude: u128) -> Result<Self, NumberError> {
        if is_negative {
            let number = 0i128.checked_sub_unsigned(magnitude);
            return number.map(Self::Signed).ok_or(NumberError::Range);
        }
        Ok(i128::try_from(magnitude).map_or(Self::Huge(magnitude), Self::Signed))
    }
}

/// Why a text is not the expected number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum NumberError {
    Empty,
    Malformed,
    Range,
    Inexact,
}

/// Reads an integer: surrounding space, a sign, `0x` `0o` `0b`, and `_` between digits.
pub(super) fn integer(text: &str) -> Result<AnyInteger, NumberError> {
    let text = text.trim();
    let bytes = text.as_bytes();
    let (is_negative, digits) = match bytes {
        [] => return Err(NumberError::Empty),
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        all => (false, all),
    };
    let (radix, digits) = match digits {
        [b'0', b'x' | b'X', rest @ ..] => (16, rest),
        [b'0', b'o' | b'O', rest @ ..] => (8, rest),
        [b'0', b'b' | b'B', rest @ ..] => (2, rest),
        rest => (10, rest),
    };
    // Fifteen digits of any base fit 60 bits, and 64-bit steps are much cheaper.
    let magnitude = if digits.len() <= 15 {
        u128::from(short_digits(digits, radix).ok_or(NumberError::Malformed)?)
    } else {
        long_digits(digits, radix)?
    };
    AnyInteger::of(is_negative, magnitude)
}

fn digit(byte: u8, radix: u32) -> Option<u32> {
    char::from(byte).to_digit(radix)
}

fn short_digits(digits: &[u8], radix: u32) -> Option<u64> {
    let mut value = 0;
    let mut after_digit = false;
    for &byte in digits {
        if byte == b'_' && after_digit {
            after_digit = false;
        } else {
            value = value * u64::from(radix) + u64::from(digit(byte, radix)?);
            after_digit = true;
        }
    }
    after_digit.then_some(value)
}

fn long_digits(digits: &[u8], radix: u32) -> Result<u128, NumberError> {
    let mut value = Some(0u128);
    let mut after_digit = false;
    for &byte in digits {
        if byte == b'_' && after_digit {
            after_digit = false;
        } else {
            let digit = digit(byte, radix).ok_or(NumberError::Malformed)?;
            value = value
                .and_then(|v| v.checked_mul(u128::from(radix)))
                .and_then(|v| v.checked_add(u128::from(digit)));
            after_digit = true;
        }
    }
    if !after_digit {
        return Err(NumberError::Malformed);
    }
    value.ok_or(NumberError::Range)
}

/// The two float types.
pub(super) trait Float: Copy + PartialEq + std::str::FromStr {
    fn of_i128(value: i128) -> Option<Self>;
    fn of_u128(value: u128) -> Option<Self>;
    fn of_f64(value: f64) -> Option<Self>;
    fn finite(self) -> bool;
    const ZERO: Self;
}

macro_rules! float {
    ($t:ty) => {
        impl Float for $t {
            fn of_i128(value: i128) -> Option<Self> {
                let float = value as $t;
                // 2^127 would saturate on the way back and look exact.
                (float < 170_141_183_460_469_231_731_687_303_715_884_105_728.0
                    && float as i128 == value)
                    .then_some(float)
            }
            fn of_u128(value: u128) -> Option<Self> {
                let float = value as $t;
                let below =
                    f64::from(float) < 340_282_366_920_938_463_463_374_607_431_768_211_456.0;
                (below && float as u128 == value).then_some(float)
            }
            fn of_f64(value: f64) -> Option<Self> {
                let mut float = value as $t;
                if value.is_finite() && f64::from(float) != value {
                    // Parsing the text rounds only once.
                    float = format!("{value:?}").parse().ok()?;
                }
                let overflows = value.is_finite() && !float.is_finite();
                let vanishes = value != 0.0 && float == 0.0;
                (!overflows && !vanishes).then_some(float)
            }
            fn finite(self) -> bool {
                self.is_finite()
            }
            const ZERO: Self = 0.0;
        }
    };
}
float!(f32);
float!(f64);

/// Reads a float. Text of an integer must be exact, as a typed integer must.
pub(super) fn float<F: Float>(text: &str) -> Result<F, NumberError> {
    let text = text.trim();
    if matches!(text, "nan" | "inf" | "-inf") {
        return text.parse().map_err(|_| NumberError::Malformed);
    }
    match integer(text) {
        Ok(AnyInteger::Signed(value)) => return F::of_i128(value).ok_or(NumberError::Inexact),
        Ok(AnyInteger::Huge(value)) => return F::of_u128(value).ok_or(NumberError::Inexact),
        Err(NumberError::Malformed) => {}
        Err(error) => return Err(error),
    }
    let is_of_number =
        |b: u8| b.is_ascii_digit() || matches!(b, b'.' | b'+' | b'-' | b'e' | b'E' | b'_');
    if !text.bytes().all(is_of_number) {
        return Err(NumberError::Malformed);
    }
    let plain = without_separators(text).ok_or(NumberError::Malformed)?;
    let value: F = plain.parse().map_err(|_| NumberError::Malformed)?;
    let mantissa = plain.split(['e', 'E']).next().unwrap_or_default();
    let vanished = value == F::ZERO && mantissa.bytes().any(|b| matches!(b, b'1'..=b'9'));
    if !value.finite() || vanished {
        return Err(NumberError::Range);
    }
    Ok(value)
}

pub(super) fn without_separators(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('_') {
        return Some(Cow::Borrowed(text));
    }
    let bytes = text.as_bytes();
    let digit = |at: Option<usize>| {
        at.and_then(|at| bytes.get(at))
            .is_some_and(u8::is_ascii_digit)
    };
    let is_between_digits = |at: usize| digit(at.checked_sub(1)) && digit(Some(at + 1));
    let is_valid = (0..bytes.len()).all(|at| bytes[at] != b'_' || is_between_digits(at));
    is_valid.then(|| Cow::Owned(text.replace('_', "")))
}

/// Reads a boolean word in any case.
pub(super) fn boolean(text: &str) -> Option<bool> {
    let text = text.trim();
    let is = |words: &[&str]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is(&["true", "t", "yes", "y", "on", "1"]) {
        Some(true)
    } else if is(&["false", "f", "no", "n", "off", "0"]) {
        Some(false)
    } else {
        None
    }
}

/// Splits comma text, or the text of an array in brackets, into its items.
pub(super) fn items(text: &str) -> Result<Vec<Cow<'_, str>>, &'static str> {
    if braces::list_holds_nul(text) {
        return Err(braces::NUL);
    }
    let mut rest = Pieces::new(unbracketed(text)?);
    let mut items = Vec::new();
    let mut tables = 0;
    while let Some((item, _)) = rest.next(b",")? {
        tables += usize::from(item.starts_with(['{', '[']));
        if tables > MAX_TABLES {
            return Err(MANY_TABLES);
        }
        if items.len() >= MAX_VALUES {
            return Err(MANY_VALUES);
        }
        items.push(item);
    }
    Ok(items)
}

/// The detail of a text that is no table.
pub(super) const NO_TABLE: &str =
    "not a table: write `a=1, b=2`, `{a = 1, b = 2}` or JSON such as `{\"a\": 1}`";

pub(super) const NO_NAME: &str = "an entry without a name";

pub(super) const OPEN_QUOTE: &str = "a quote that is not closed";

const NO_COMMA: &str = "a value behind which another entry begins without a comma: write `a=1, b=2`, or put the value in quotes";

/// A name and its value, borrowed unless they hold escapes.
pub(super) type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

/// Splits text such as `a=1, b=2` into its pairs.
pub(super) fn pairs(text: &str) -> Result<Vec<Pair<'_>>, &'static str> {
    let mut rest = Pieces::new(text.trim());
    let mut pairs: Vec<Pair<'_>> = Vec::new();
    while let Some((name, stop)) = rest.next(b"=,")? {
        if stop != Some(b'=') {
            return Err(NO_TABLE);
        }
        // A name has none of these: the text has another form, and is split where no pair ends.
        if name.contains(['{', '}', '[', ']', '"', '?', '\n', '\r']) || name.contains("://") {
            return Err(NO_TABLE);
        }
        if name.is_empty() {
            return Err(NO_NAME);
        }
        let is_bare = !rest.rest.trim_start().starts_with(['"', '\'']);
        let value = match rest.next(b",")? {
            Some((value, _)) if is_bare && runs_on(&value, &['=']) => return Err(NO_COMMA),
            Some((value, _)) => value,
            None => Cow::Borrowed(""),
        };
        if pairs.len() >= MAX_VALUES {
            return Err(MANY_VALUES);
        }
        pairs.push((name, value));
    }
    let mut names = HashSet::with_capacity(pairs.len());
    if pairs.iter().all(|(name, _)| names.insert(&**name)) {
        Ok(pairs)
    } else {
        Err("a name that occurs twice")
    }
}

/// Whether another entry begins in a bare value: a name and its sign, behind a blank, a line break or `;`.
///
/// `?a=b`, `-Da=b`, `a == b` and the parameters of an address behind `;` begin none.
pub(super) fn runs_on(value: &str, signs: &[char]) -> bool {
    let begin = if value.starts_with(['[', '{']) {
        closing(value.as_bytes()).unwrap_or(0)
    } else {
        0
    };
    let is_end = |c: char| c.is_whitespace() || c == ';';
    let mut in_address = false;
    let mut next = begin;
    while let Some(at) = value[next..].find(is_end).map(|at| next + at) {
        let word = &value[next..at];
        in_address |= word.contains("://") || word.starts_with("jdbc:");
        in_address &= value[at..].starts_with(';');
        let rest = value[at..].trim_start_matches(is_end);
        next = value.len() - rest.len();
        if !in_address && begins_entry(rest, signs) {
            return true;
        }
    }
    false
}

/// Whether a text begins with a name and one of some signs.
fn begins_entry(text: &str, signs: &[char]) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || "_-.\"'".contains(c);
    let rest = text.trim_start_matches(is_part);
    let name = &text[..text.len() - rest.len()];
    let rest = rest.trim_start_matches([' ', '\t']);
    let Some(sign) = rest.chars().next().filter(|c| signs.contains(c)) else {
        return false;
    };
    let after = &rest[1..];
    let is_named = !name.is_empty() && !name.starts_with(['-', '.']);
    if sign == '=' {
        return is_named && !after.starts_with('=');
    }
    // Behind `:`, these are a time, an address, a Windows path or a Rust path.
    let is_word = !name.starts_with(|c: char| c.is_ascii_digit());
    is_named && is_word && !after.starts_with(['/', '\\', ':'])
}

/// The inside of array text; comma text as it is.
fn unbracketed(text: &str) -> Result<&str, &'static str> {
    let text = text.trim();
    if !text.starts_with('[') {
        return Ok(text);
    }
    let end = closing(text.as_bytes()).ok_or("a `[` that is not closed")?;
    // `[::1]:80, [::2]:80` begins with a bracket and is comma text all the same.
    Ok(if end + 1 == text.len() {
        text[1..end].trim()
    } else {
        text
    })
}

/// The position at which the bracket or brace at the start of a text is closed.
fn closing(text: &[u8]) -> Option<usize> {
    let mut depth = 0usize;
    let mut braces = 0usize;
    let mut quote = None;
    // A quote opens only where an item begins, so that `[it's]` is closed.
    let mut at_item_start = true;
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        match (quote, byte) {
            (Some(b'"'), b'\\') => at += 1,
            (Some(open), byte) if open == byte => quote = None,
            (Some(_), _) => {}
            (None, b'"' | b'\'') if at_item_start => quote = Some(byte),
            (None, b'[' | b'{') => {
                depth += 1;
                braces += usize::from(byte == b'{');
            }
            (None, b']' | b'}') => {
                depth -= 1;
                braces -= usize::from(byte == b'}').min(braces);
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
        at_item_start = matches!(byte, b'[' | b',' | b'{')
            || (braces > 0 && matches!(byte, b':' | b'='))
            || (at_item_start && byte.is_ascii_whitespace());
        at += 1;
    }
    None
}

/// Splits text at separators outside of quotes and brackets.
struct Pieces<'a> {
    rest: &'a str,
}

type Piece<'a> = (Cow<'a, str>, Option<u8>);

impl<'a> Pieces<'a> {
    fn new(text: &'a str) -> Self {
        Self { rest: text }
    }

    /// The next piece and the separator behind it; nothing after a last separator.
    fn next(&mut self, stops: &[u8]) -> Result<Option<Piece<'a>>, &'static str> {
        let text = self.rest.trim_start();
        let piece = match text.as_bytes().first() {
            None => return Ok(None),
            Some(&quote @ (b'"' | b'\'')) => {
                let (inside, after) = unquote(text, quote)?;
                let after = after.trim_start();
                let stop = after.bytes().next();
                if stop.is_some_and(|b| !stops.contains(&b)) {
                    return Err("text after a closing quote");
                }
                self.rest = after.get(1..).unwrap_or_default();
                return Ok(Some((inside, stop)));
            }
            Some(b'[') => closing(text.as_bytes()).ok_or("a `[` that is not closed")?,
            // Text may have a brace of its own, such as a template.
            Some(b'{') => closing(text.as_bytes()).unwrap_or(0),
            Some(_) => 0,
        };
        let end = text.as_bytes()[piece..]
            .iter()
            .position(|b| stops.contains(b))
            .map(|at| at + piece);
        let (item, rest) = match end {
            Some(at) => (&text[..at], &text[at + 1..]),
            None => (text, ""),
        };
        self.rest = rest;
        let stop = end.map(|at| text.as_bytes()[at]);
        Ok(Some((Cow::Borrowed(item.trim_end()), stop)))
    }
}

/// Reads the quoted text that a text begins with; returns its content and the rest of the text. Double quotes
/// hold the escapes of JSON; single quotes hold none.
fn unquote(text: &str, quote: u8) -> Result<(Cow<'_, str>, &str), &'static str> {
    let inside = &text[1..];
    let end = inside.bytes().position(|byte| byte == quote);
    let end = end.ok_or(OPEN_QUOTE)?;
    if quote == b'"' && inside[..end].contains('\\') {
        let (inside, rest) = braces::unquote(text)?;
        return Ok((Cow::Owned(inside), rest));
    }
    Ok((Cow::Borrowed(&inside[..end]), &inside[end + 1..]))
}
