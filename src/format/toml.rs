//! TOML, through the spanned tables of the `toml` crate.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::de::{DeArray, DeFloat, DeInteger, DeTable, DeValue};

use crate::error::{Error, ErrorKind};
use crate::format::limits::{Trail, malformed, too_deep, twice};
use crate::format::spans::{self, Lines};
use crate::value::Value;
use crate::value::document::Document;
use crate::value::key::{self, MAX_DEPTH};
use crate::value::node::{Leaf, Node, Table};
use crate::value::origin::Origin;

pub(crate) fn parse(text: &str, origin: &Origin) -> Result<Document, Error> {
    let at = |offset| {
        let (line, column) = spans::place(text.as_bytes(), offset);
        origin.at(line, column)
    };
    if let Some(offset) = deeper(text.as_bytes(), MAX_DEPTH) {
        return Err(too_deep(at(offset)));
    }
    let table = DeTable::parse(text).map_err(|fault| refuse(text, &fault, at))?;
    let mut builder = Builder {
        text,
        lines: Lines::new(text),
        origin,
        trail: Trail::default(),
    };
    Ok(Document::from_table(builder.table(table.into_inner(), 0)?))
}

/// Says in our words what the parser refused; its own rendering shows the line, secrets and all.
fn refuse(text: &str, fault: &toml::de::Error, at: impl Fn(usize) -> Origin) -> Error {
    let Some(span) = fault.span() else {
        return malformed(fault.message(), at(0));
    };
    let message = fault.message();
    if message.starts_with("duplicate key") || message.starts_with("cannot extend") {
        if let Some((key, first)) = earlier(text, span.clone()) {
            let first = at(first).line().map(|(line, _)| line);
            return twice(&key, first, at(span.start));
        }
        return Error::new(ErrorKind::InvalidKey, "a key is given twice")
            .with_origin(at(span.start));
    }
    malformed(message, at(span.start))
}

/// Finds the full key of a repeated name, and where the name was given first.
///
/// The parser tells only where the second one stands. So the document is read once more with
/// another name in that place: the table that holds it then is the one that holds the first.
fn earlier(text: &str, second: Range<usize>) -> Option<(String, usize)> {
    let name = text.get(second.clone())?;
    let alone = format!("{name} = 0");
    let alone = DeTable::parse(&alone).ok()?;
    let (name, _) = alone.get_ref().iter().next()?;
    let mut stand_in = String::from("stand-in");
    while text.contains(&stand_in) {
        stand_in.push('-');
    }
    let other = [&text[..second.start], &stand_in, &text[second.end..]].concat();
    let (table, _) = DeTable::parse_recoverable(&other);
    let mut key = String::new();
    let first = sibling(table.get_ref(), name.get_ref(), &stand_in, &mut key)?;
    Some((key, first))
}

fn sibling(table: &DeTable<'_>, name: &str, stand_in: &str, key: &mut String) -> Option<usize> {
    if table.contains_key(stand_in) {
        key::push_segment(key, name);
        return table.get_key_value(name).map(|(k, _)| k.span().start);
    }
    for (below, value) in table.iter() {
        let before = key.len();
        key::push_segment(key, below.get_ref());
        if let Some(found) = sibling_in(value.get_ref(), name, stand_in, key) {
            return Some(found);
        }
        key.truncate(before);
    }
    None
}

fn sibling_in(value: &DeValue<'_>, name: &str, stand_in: &str, key: &mut String) -> Option<usize> {
    match value {
        DeValue::Table(table) => sibling(table, name, stand_in, key),
        DeValue::Array(items) => items.iter().enumerate().find_map(|(i, item)| {
            let before = key.len();
            key::push_segment(key, &i.to_string());
            let found = sibling_in(item.get_ref(), name, stand_in, key);
            if found.is_none() {
                key.truncate(before);
            }
            found
        }),
        _ => None,
    }
}

/// Where brackets or dotted names first nest deeper than `limit`, if they do.
///
/// The parser has a limit of its own, but any crate of the program can turn it off (its feature
/// `unbounded`), and what it then builds could not even be dropped on a small stack.
fn deeper(text: &[u8], limit: usize) -> Option<usize> {
    let (mut open, mut dots, mut at) = (0usize, 0usize, 0usize);
    while let Some(byte) = text.get(at) {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            b'.' => dots += 1,
            b'\n' | b'=' | b',' => dots = 0,
            b'#' => {
                at += until(&text[at..], |b| b == b'\n');
                continue;
            }
            b'"' | b'\'' => {
                at = string_end(text, at);
                continue;
            }
            _ => {
                at += until(&text[at..], |b| MARKS[usize::from(b)]);
                continue;
            }
        }
        // A header's own brackets are no level, so there may be two more than the limit.
        if open > limit + 1 || dots > limit {
            return Some(at);
        }
        at += 1;
    }
    None
}

/// The bytes that matter for the nesting.
const MARKS: [bool; 256] = {
    let mut marks = [false; 256];
    let bytes = b"[]{}.\n=,#\"'";
    let mut i = 0;
    while i < bytes.len() {
        marks[bytes[i] as usize] = true;
        i += 1;
    }
    marks
};

fn until(text: &[u8], stop: impl Fn(u8) -> bool) -> usize {
    text.iter().position(|b| stop(*b)).unwrap_or(text.len())
}

/// Where the string ends that begins with the quote at `at`.
fn string_end(text: &[u8], at: usize) -> usize {
    let quote = text[at];
    let long = text[at..].starts_with(&[quote; 3]);
    let mut at = at + if long { 3 } else { 1 };
    while let Some(byte) = text.get(at) {
        if *byte == b'\\' && quote == b'"' {
            // A line break ends a short string even after a backslash.
            at += if !long && text.get(at + 1) == Some(&b'\n') {
                1
            } else {
                2
            };
        } else if !long && matches!(byte, b'\n') {
            return at;
        } else if !long && *byte == quote {
            return at + 1;
        } else if long && text[at..].starts_with(&[quote; 3]) {
            // Up to two more quotes belong to the content.
            return at + until(&text[at..], |b| b != quote).min(5);
        } else {
            at += 1;
        }
    }
    text.len()
}

struct Builder<'a> {
    text: &'a str,
    lines: Lines<'a>,
    origin: &'a Origin,
    trail: Trail,
}

impl Builder<'_> {
    fn at(&self, offset: usize) -> Origin {
        let (line, column) = self.lines.place(offset);
        self.origin.at(line, column)
    }

    fn table(&mut self, from: DeTable<'_>, offset: usize) -> Result<Table, Error> {
        self.open(offset)?;
        let mut table = Table::default();
        for (name, value) in from {
            let before = self.enter(name.get_ref(), name.span().start)?;
            let span = value.span();
            let start = span.start;
            let node = match value.into_inner() {
                DeValue::Table(below) => Node::Table(self.table(below, start)?),
                value => Node::Leaf(Leaf::new(self.value(value, span)?, self.at(start))),
            };
            table.put(name.get_ref(), node);
            self.trail.leave(before);
        }
        self.trail.close();
        Ok(table)
    }

    fn value(&mut self, value: DeValue<'_>, span: Range<usize>) -> Result<Value, Error> {
        let offset = span.start;
        Ok(match value {
            DeValue::String(text) => Value::Text(text.into()),
            DeValue::Integer(digits) => self.integer(&digits, offset)?,
            DeValue::Float(digits) => self.float(&digits, offset)?,
            DeValue::Boolean(value) => Value::Bool(value),
            // The parser's own rendering would not be as it was written.
            DeValue::Datetime(_) => Value::from(self.text.get(span).unwrap_or_default()),
            DeValue::Array(items) => Value::List(self.list(items, offset)?),
            DeValue::Table(fields) => {
                self.open(offset)?;
                let mut table = BTreeMap::new();
                for (name, value) in fields {
                    let before = self.enter(name.get_ref(), name.span().start)?;
                    let span = value.span();
                    let value = self.value(value.into_inner(), span)?;
                    table.insert(name.into_inner().into(), value);
                    self.trail.leave(before);
                }
                self.trail.close();
                Value::Table(Box::new(table))
            }
        })
    }

    fn list(&mut self, items: DeArray<'_>, offset: usize) -> Result<Box<[Value]>, Error> {
        self.open(offset)?;
        let list = items
            .into_iter()
            .map(|item| {
                let span = item.span();
                self.value(item.into_inner(), span)
            })
            .collect();
        self.trail.close();
        list
    }

    fn integer(&self, digits: &DeInteger<'_>, offset: usize) -> Result<Value, Error> {
        if let Ok(small) = i64::from_str_radix(digits.as_str(), digits.radix()) {
            return Ok(Value::Int(small));
        }
        i128::from_str_radix(digits.as_str(), digits.radix())
            .map(Value::from)
            .map_err(|_| self.fault("an integer beyond 128 bits", offset))
    }

    fn float(&self, digits: &DeFloat<'_>, offset: usize) -> Result<Value, Error> {
        let text = digits.as_str();
        match text.parse::<f64>() {
            Ok(value) if value.is_infinite() && !text.contains("inf") => {
                Err(self.fault("a number beyond the range of 64-bit floats", offset))
            }
            Ok(value) => Ok(Value::Float(value)),
            Err(_) => Err(self.fault("not a number", offset)),
        }
    }

    fn fault(&self, detail: &str, offset: usize) -> Error {
        let fault = malformed(detail, self.at(offset));
        fault.with_key(self.trail.key())
    }

    fn enter(&mut self, name: &str, offset: usize) -> Result<usize, Error> {
        let (lines, origin) = (&self.lines, self.origin);
        self.trail.enter(name, || {
            let (line, column) = lines.place(offset);
            origin.at(line, column)
        })
    }

    fn open(&mut self, offset: usize) -> Result<(), Error> {
        let (lines, origin) = (&self.lines, self.origin);
        self.trail.open(|| {
            let (line, column) = lines.place(offset);
            origin.at(line, column)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Format;
    use crate::format::tests::{golden, value};

    #[test]
    fn every_value_has_its_place() {
        let text = "top = 1\r\n'a.b' = \"\u{e9}\"  # c\n[s]\n\u{22}\u{e9}\u{22} = { x = true, y.z = [1, [2.5, {q = 'w'}]] }\nday = 1979-05-27T07:32:00Z\n[[s.list]]\nn = 0x_ff\n"
            .replace("0x_ff", "0xff");
        assert_eq!(
            golden(Format::toml(), &text),
            "\"a.b\" = \"\u{e9}\" @2:9\n\
             s.day = \"1979-05-27T07:32:00Z\" @5:7\n\
             s.list = [{n = 255}] @6:1\n\
             s.\u{e9}.x = true @4:13\n\
             s.\u{e9}.y.z = [1, [2.5, {q = \"w\"}]] @4:25\n\
             top = 1 @1:7\n"
        );
    }

    #[test]
    fn numbers_keep_their_digits_or_are_refused() {
        let of = |text: &str| value(Format::toml(), &format!("v = {text}"));
        assert_eq!(of("0o17"), Ok(Value::Int(15)));
        assert_eq!(of("1_000"), Ok(Value::Int(1000)));
        assert_eq!(of("18446744073709551615"), Ok(Value::from(u64::MAX)));
        assert_eq!(of(&i128::MIN.to_string()), Ok(Value::from(i128::MIN)));
        assert_eq!(of(&u128::MAX.to_string()), Err(ErrorKind::Malformed));
        assert_eq!(of("1e400"), Err(ErrorKind::Malformed));
        assert_eq!(of("12:30"), Ok(Value::from("12:30")), "TOML 1.1 has times");
        assert_eq!(
            of("1979-05-27 07:32:00z"),
            Ok(Value::from("1979-05-27 07:32:00z"))
        );
        assert_eq!(of("-inf"), Ok(Value::Float(f64::NEG_INFINITY)));
        assert!(matches!(of("nan"), Ok(Value::Float(value)) if value.is_nan()));
        for bad in ["012", "no", "1__0", "\"\\ud800\""] {
            assert_eq!(of(bad), Err(ErrorKind::Malformed), "{bad}");
        }
    }

    #[test]
    fn a_repeated_name_is_told_with_its_whole_key() {
        for (text, key, first, second) in [
            ("[a.b]\nx = 1\n\n[a]\ny = 1\n[a.b]\n", "a.b", 1, 6),
            ("[a.b]\nx = 1\nx = 2", "a.b.x", 2, 3),
            ("[[l]]\n[[l]]\nx = 1\n'x' = 2", "l.1.x", 3, 4),
            ("a.b = 1\n[c]\nd = { e = 1,\n e = 2 }", "c.d.e", 3, 4),
            ("a = 1\n[a.b]\n", "a", 1, 2),
        ] {
            let origin = Origin::new("f", "");
            let error = Format::toml().parse(text.as_bytes(), &origin).unwrap_err();
            assert_eq!(error.key(), Some(key), "{text}");
            let lines = format!("first on line {first} and again on line {second}");
            assert!(error.to_string().contains(&lines), "{text}: {error}");
        }
    }

    #[test]
    fn brackets_and_dots_in_text_are_no_nesting() {
        let deep = "[.".repeat(200);
        for text in [
            format!("a = \"{deep}\\\"{deep}\""),
            format!("a = '{deep}'"),
            format!("a = '''{deep}\n'{deep}''''' # {deep}"),
            format!("a = \"\"\"{deep}\n\\\"\"{deep}\"\"\"\"\"\nb = 1 # {deep}"),
            format!("# {deep}\na = [ # {deep}\n]"),
            "a.b = [1.5, 2.5]\n".replace("1.5", &vec!["1.5"; 200].join(",")),
        ] {
            assert!(
                Format::toml()
                    .parse(text.as_bytes(), &Origin::new("f", ""))
                    .is_ok(),
                "{text}"
            );
        }
    }
}
