//! Reads text in braces as a table: JSON, or an inline table such as `{a = 1, b = "x"}`.

use std::collections::HashSet;

use crate::decode::text;
use crate::value::Value;
use crate::value::key::{MAX_DEPTH, MAX_TABLES, MAX_VALUES};
use crate::value::table::Table;

/// Whether a text is meant as a table in braces.
pub(super) fn is_braced(text: &str) -> bool {
    text.trim_start().starts_with('{')
}

/// Reads a table: names with `=` or `:`, bare or quoted, and values that are bare, quoted, lists or
/// tables. A bare word that is no number, boolean or `null` is text.
pub(super) fn table(text: &str) -> Result<Table, &'static str> {
    let mut reader = Reader::new(text, false);
    reader.skip_space();
    let fields = reader.table(0)?;
    reader.skip_space();
    if reader.at < text.len() {
        return Err("text after the closing `}`");
    }
    Ok(fields)
}

/// The items of a JSON list; `None` if the text is no JSON.
pub(super) fn json_list(text: &str) -> Option<Box<[Value]>> {
    let mut reader = Reader::new(text, true);
    reader.skip_space();
    if reader.peek() != Some('[') {
        return None;
    }
    let list = reader.list(0).ok()?;
    reader.skip_space();
    match list {
        Value::List(items) if reader.at == text.len() => Some(items.iter().cloned().collect()),
        _ => None,
    }
}

/// Whether the text of a JSON list has an item with an escaped NUL, which every format rejects.
pub(super) fn list_holds_nul(text: &str) -> bool {
    let text = text.trim_start();
    if !text.starts_with('[') || !text.contains("\\u0000") {
        return false;
    }
    let mut reader = Reader::new(text, true);
    reader.list(0).is_err_and(|detail| detail == NUL)
}

/// Reads the text in the double quotes that a text begins with; returns it and the rest.
pub(super) fn unquote(text: &str) -> Result<(String, &str), &'static str> {
    let mut reader = Reader::new(text, true);
    let inside = reader.quoted('"')?;
    Ok((inside, reader.rest()))
}

/// A text has the same limits as a document.
pub(super) const MANY_TABLES: &str = "more than 100000 tables and lists in one text";
pub(super) const MANY_VALUES: &str = "more than 1000000 values in one text";

pub(super) const NUL: &str = "a NUL character";

const NO_JSON: &str = "no JSON";

const NO_COMMA: &str = "a missing comma between two entries";

struct Reader<'a> {
    text: &'a str,
    at: usize,
    /// Whether only JSON is accepted.
    is_json: bool,
    /// The tables and lists so far.
    tables: usize,
    /// The other values so far.
    values: usize,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str, is_json: bool) -> Self {
        Self {
            text,
            at: 0,
            is_json,
            tables: 0,
            values: 0,
        }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn skip_space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// Consumes the space before a character, and the character with the space behind it if it is the next one;
    /// returns whether it is.
    fn consume(&mut self, c: char) -> bool {
        self.skip_space();
        let found = self.peek() == Some(c);
        if found {
            self.at += c.len_utf8();
            self.skip_space();
        }
        found
    }

    /// Counts a table or a list.
    fn open(&mut self, depth: usize) -> Result<(), &'static str> {
        self.tables += 1;
        if depth > MAX_DEPTH {
            return Err("nested too deep");
        }
        if self.tables > MAX_TABLES {
            return Err(MANY_TABLES);
        }
        Ok(())
    }

    fn table(&mut self, depth: usize) -> Result<Table, &'static str> {
        self.open(depth)?;
        if !self.consume('{') {
            return Err("no `{` at its start");
        }
        let mut names = HashSet::new();
        let mut fields = Vec::new();
        while !self.consume('}') {
            let name = self.name()?;
            let has_sign = (!self.is_json && self.consume('=')) || self.consume(':');
            if !has_sign {
                return Err("a name without `=` or `:` in braces");
            }
            let value = self.value(depth + 1)?;
            if !names.insert(name.clone()) {
                return Err("a name that occurs twice");
            }
            fields.push((name.into(), value));
            if !self.consume(',') {
                match self.peek() {
                    Some('}') => {}
                    None | Some(']') => return Err("a `{` that is not closed"),
                    Some(_) => return Err(NO_COMMA),
                }
            }
        }
        Ok(Table::from_fields(fields))
    }

    fn list(&mut self, depth: usize) -> Result<Value, &'static str> {
        self.open(depth)?;
        self.consume('[');
        let mut items = Vec::new();
        while !self.consume(']') {
            items.push(self.value(depth + 1)?);
            if !self.consume(',') {
                match self.peek() {
                    Some(']') => {}
                    None | Some('}') => return Err("a `[` that is not closed"),
                    Some(_) => return Err(NO_COMMA),
                }
            }
        }
        Ok(Value::List(items.into()))
    }

    fn name(&mut self) -> Result<String, &'static str> {
        if let Some(quote) = self.quote() {
            return self.quoted(quote);
        }
        if self.is_json {
            return Err(NO_JSON);
        }
        let name = self.bare(&['=', ':', ',', '{', '}', '[', ']', '"']);
        if name.is_empty() {
            return Err(text::NO_NAME);
        }
        if name.contains(['\n', '\r']) {
            return Err(NO_COMMA);
        }
        if name.contains('.') {
            return Err("a name with a dot: put it in quotes, or write a nested table");
        }
        Ok(name.into())
    }

    fn value(&mut self, depth: usize) -> Result<Value, &'static str> {
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(MANY_VALUES);
        }
        match self.peek() {
            Some('{') => self.table(depth).map(Value::Table),
            Some('[') => self.list(depth),
            Some('"' | '\'') => match self.quote() {
                Some(quote) => self.quoted(quote).map(Value::from),
                None => Err(NO_JSON),
            },
            _ if self.is_json => json_scalar(self.bare(&[',', '}', ']'])).ok_or(NO_JSON),
            _ => {
                let word = self.bare(&[',', '}', ']']);
                if word.contains(['\n', '\r']) || text::runs_on(word, &['=', ':']) {
                    return Err(NO_COMMA);
                }
                Ok(scalar(word))
            }
        }
    }

    fn quote(&self) -> Option<char> {
        self.peek()
            .filter(|c| *c == '"' || (*c == '\'' && !self.is_json))
    }

    fn bare(&mut self, ends: &[char]) -> &'a str {
        let rest = self.rest();
        let end = rest.find(ends).unwrap_or(rest.len());
        self.at += end;
        rest[..end].trim()
    }

    /// Quoted text: with the escapes of JSON in `"`, and without any in `'`.
    fn quoted(&mut self, quote: char) -> Result<String, &'static str> {
        self.at += quote.len_utf8();
        let mut text = String::new();
        loop {
            let c = self.next().ok_or(text::OPEN_QUOTE)?;
            match c {
                c if c == quote => return Ok(text),
                '\\' if quote == '"' => text.push(self.escape()?),
                c => text.push(c),
            }
        }
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn escape(&mut self) -> Result<char, &'static str> {
        const UNKNOWN: &str =
            "an unknown escape in quotes: write `\\\\` for a backslash, or use single quotes";
        Ok(match self.next().ok_or(UNKNOWN)? {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'b' => '\u{8}',
            'f' => '\u{c}',
            c @ ('"' | '\\' | '/' | '\'') => c,
            'u' => {
                let first = self.utf16_unit().ok_or(UNKNOWN)?;
                let second = match first {
                    0xd800..0xdc00 if self.rest().starts_with("\\u") => {
                        self.at += 2;
                        self.utf16_unit()
                    }
                    _ => None,
                };
                let units = std::iter::once(first).chain(second);
                let mut decoded = char::decode_utf16(units);
                let decoded = decoded.next().and_then(Result::ok).ok_or(UNKNOWN)?;
                if decoded == '\0' {
                    return Err(NUL);
                }
                decoded
            }
            _ => return Err(UNKNOWN),
        })
    }

    fn utf16_unit(&mut self) -> Option<u16> {
        let digits = self.rest().get(..4)?;
        self.at += 4;
        // A sign would be read as well.
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        u16::from_str_radix(digits, 16).ok()
    }
}

/// The value of a bare word. A number in an unusual notation stays text, which is read as the same number
/// and keeps its notation.
fn scalar(word: &str) -> Value {
    match word {
        "true" => return Value::from(true),
        "false" => return Value::from(false),
        "null" => return Value::Unset,
        _ => {}
    }
    if let Ok(number) = word.parse::<i64>() {
        if number.to_string() == word {
            return Value::from(number);
        }
    }
    match word.parse::<f64>() {
        Ok(number) if number.is_finite() && format!("{number:?}") == word => {
            Value::from(number).with_spelling(word)
        }
        _ => Value::from(word),
    }
}

/// The value of a bare word in JSON. A number keeps its notation.
fn json_scalar(word: &str) -> Option<Value> {
    if let "true" | "false" | "null" = word {
        return Some(scalar(word));
    }
    let digits = word.strip_prefix('-').unwrap_or(word);
    let is_number = digits.starts_with(|c: char| c.is_ascii_digit());
    let has_leading_zero =
        digits.starts_with('0') && digits[1..].starts_with(|c: char| c.is_ascii_digit());
    if !is_number || has_leading_zero {
        return None;
    }
    if let Ok(number) = word.parse::<i128>() {
        return Some(Value::from(number).with_spelling(word));
    }
    let number = word.parse::<f64>().ok().filter(|number| number.is_finite());
    Some(Value::from(number?).with_spelling(word))
}
