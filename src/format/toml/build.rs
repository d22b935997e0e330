//! From the parser's tables to ours, each value with its place.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeFloat, DeInteger, DeTable, DeValue};

use crate::error::Error;
use crate::format::limits::{self, Trail, malformed};
use crate::format::spans::{Lines, Spots};
use crate::format::toml::pieces::Inline;
use crate::value::Value;
use crate::value::node::{Leaf, Node, Table};
use crate::value::origin::{Origin, Spot};

pub(super) struct Builder<'a> {
    text: &'a str,
    places: Places<'a>,
    pub(super) trail: Trail,
    /// The places of the list at hand and of what it holds.
    spots: Spots,
    /// Filled for the pieces that follow.
    pub(super) inline: Option<Inline>,
}

/// Where the values of a text, or of a piece of it that begins with a line, were written.
struct Places<'a> {
    origin: &'a Origin,
    lines: Lines<'a>,
    /// Lines before the piece.
    before: u32,
}

impl Places<'_> {
    fn at(&self, offset: usize) -> Origin {
        let (line, column) = self.spot(offset);
        self.origin.at(line, column)
    }

    fn spot(&self, offset: usize) -> Spot {
        let (line, column) = self.lines.place(offset);
        (self.before + line, column)
    }
}

impl<'a> Builder<'a> {
    pub(super) fn new(text: &'a str, origin: &'a Origin) -> Self {
        Self {
            text,
            places: Places {
                origin,
                lines: Lines::new(text),
                before: 0,
            },
            trail: Trail::default(),
            spots: Spots::default(),
            inline: None,
        }
    }

    /// Begins with the first of several pieces.
    pub(super) fn of_pieces(first: &'a str, origin: &'a Origin) -> Self {
        Self {
            inline: Some(Inline::default()),
            ..Self::new(first, origin)
        }
    }

    /// Goes on to the piece that follows.
    pub(super) fn turn(&mut self, next: &'a str) {
        self.places.before += self.places.lines.place(self.text.len()).0 - 1;
        self.places.lines = Lines::new(next);
        self.text = next;
    }

    /// The sign an item begins with: a bracket for the table of a header, a brace for an inline
    /// one; a table without a sign of its own begins with its name.
    pub(super) fn sign(&self, offset: usize) -> Option<u8> {
        self.text.as_bytes().get(offset).copied()
    }

    pub(super) fn table(&mut self, from: DeTable<'_>, offset: usize) -> Result<Table, Error> {
        self.open(offset)?;
        let mut table = Table::default();
        for (name, value) in from {
            let before = self.enter(name.get_ref(), name.span().start)?;
            let node = self.node(value)?;
            table.put(name.get_ref(), node);
            self.trail.leave(before);
        }
        self.trail.close();
        Ok(table)
    }

    pub(super) fn node(&mut self, value: Spanned<DeValue<'_>>) -> Result<Node, Error> {
        let span = value.span();
        let start = span.start;
        Ok(match value.into_inner() {
            DeValue::Table(below) => {
                if self.sign(start) == Some(b'{') {
                    if let Some(inline) = &mut self.inline {
                        inline.note(self.trail.key());
                    }
                }
                Node::Table(self.table(below, start)?)
            }
            DeValue::Array(items) => {
                self.spots.push(self.places.spot(start));
                let list = Value::List(self.list(items, start)?);
                let origin = self.places.origin.with_items(self.spots.take());
                Node::Leaf(Leaf::new(list, origin))
            }
            value => Node::Leaf(Leaf::new(self.value(value, span)?, self.places.at(start))),
        })
    }

    fn value(&mut self, value: DeValue<'_>, span: Range<usize>) -> Result<Value, Error> {
        let offset = span.start;
        if !matches!(value, DeValue::Array(_) | DeValue::Table(_)) {
            self.trail.value(|| self.places.at(offset))?;
        }
        Ok(match value {
            DeValue::String(text) if text.contains('\0') => {
                return Err(self.fault(limits::NUL, offset));
            }
            DeValue::String(text) => Value::Text(text.into()),
            DeValue::Integer(digits) => self.integer(&digits, span)?,
            DeValue::Float(digits) => self.spelled(self.float(&digits, offset)?, span),
            DeValue::Boolean(value) => Value::from(value),
            DeValue::Datetime(_) => {
                let written = self.text.get(span).unwrap_or_default();
                Value::from(rfc3339(written))
            }
            DeValue::Array(items) => Value::List(self.list(items, offset)?),
            DeValue::Table(fields) => {
                self.open(offset)?;
                let mut table = Vec::new();
                let mut starts = Vec::new();
                for (name, value) in fields {
                    let before = self.enter(name.get_ref(), name.span().start)?;
                    let span = value.span();
                    starts.push((Box::from(&**name.get_ref()), self.spots.len()));
                    self.spots.push(self.places.spot(span.start));
                    let value = self.value(value.into_inner(), span)?;
                    table.push((name.into_inner(), value));
                    self.trail.leave(before);
                }
                self.spots.sort_fields(starts);
                self.trail.close();
                Value::Table(table.into_iter().collect())
            }
        })
    }

    fn list(&mut self, items: DeArray<'_>, offset: usize) -> Result<Box<[Value]>, Error> {
        self.open(offset)?;
        let list = items
            .into_iter()
            .map(|item| {
                let span = item.span();
                self.spots.push(self.places.spot(span.start));
                self.value(item.into_inner(), span)
            })
            .collect();
        self.trail.close();
        list
    }

    fn integer(&self, digits: &DeInteger<'_>, span: Range<usize>) -> Result<Value, Error> {
        if let Ok(small) = i64::from_str_radix(digits.as_str(), digits.radix()) {
            return Ok(self.spelled(Value::from(small), span));
        }
        // The parser accepts `0x` alone.
        if digits.as_str().is_empty() {
            let detail = "a number without digits; write text in quotes";
            return Err(self.fault(detail, span.start));
        }
        Ok(
            match i128::from_str_radix(digits.as_str(), digits.radix()) {
                Ok(value) => self.spelled(Value::from(value), span),
                // As text, they are the same number for who has room for it.
                Err(_) => Value::from(self.text.get(span).unwrap_or(digits.as_str())),
            },
        )
    }

    fn float(&self, digits: &DeFloat<'_>, offset: usize) -> Result<Value, Error> {
        let text = digits.as_str();
        match text.parse::<f64>() {
            Ok(value) if value.is_infinite() && !text.contains("inf") => {
                Err(self.fault("a number beyond the range of 64-bit floats", offset))
            }
            Ok(value) => Ok(Value::from(value)),
            Err(_) => Err(self.fault("not a number", offset)),
        }
    }

    /// A number as the text writes it.
    fn spelled(&self, value: Value, span: Range<usize>) -> Value {
        match self.text.get(span) {
            Some(text) => value.with_spelling(text),
            None => value,
        }
    }

    fn fault(&self, detail: &str, offset: usize) -> Error {
        let fault = malformed(detail, self.places.at(offset));
        limits::with_key(fault, self.trail.key())
    }

    pub(super) fn enter(&mut self, name: &str, offset: usize) -> Result<usize, Error> {
        self.trail.enter(name, || self.places.at(offset))
    }

    pub(super) fn open(&mut self, offset: usize) -> Result<(), Error> {
        self.trail.open(|| self.places.at(offset))
    }
}

/// A date, a time or both as RFC 3339 writes them: with `T` between them, `Z` in upper case, and
/// seconds. The digits of a fraction stay.
fn rfc3339(written: &str) -> String {
    let mut text = written.to_ascii_uppercase().replace(' ', "T");
    let time = match text.find('T') {
        Some(at) => at + 1,
        // A date alone has its first hyphen where a time has its first colon or later.
        None if text.as_bytes().get(2) != Some(&b':') => return text,
        None => 0,
    };
    let minutes = time + "00:00".len();
    if text.as_bytes().get(minutes) != Some(&b':') && text.is_char_boundary(minutes.min(text.len()))
    {
        text.insert_str(minutes.min(text.len()), ":00");
    }
    text
}
