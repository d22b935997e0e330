//! Builds a tree from the parser's tables.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeFloat, DeInteger, DeTable, DeValue};

use crate::error::Error;
use crate::format::limits::{self, PathTracker, malformed_error};
use crate::format::positions::{ItemPositions, Locator};
use crate::format::toml::pieces::InlineTables;
use crate::value::Value;
use crate::value::node::{Leaf, Node, Table};
use crate::value::origin::Origin;

pub(super) struct Builder<'a> {
    text: &'a str,
    locator: Locator<'a>,
    pub(super) path: PathTracker,
    /// The positions of the outermost list and of the values in it.
    items: ItemPositions,
    /// The inline tables so far, if the document is parsed in pieces.
    pub(super) inline_tables: Option<InlineTables>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(text: &'a str, origin: &'a Origin) -> Self {
        Self {
            text,
            locator: Locator::new(text, origin),
            path: PathTracker::default(),
            items: ItemPositions::default(),
            inline_tables: None,
        }
    }

    /// Creates a builder for a document in pieces.
    pub(super) fn for_pieces(first: &'a str, origin: &'a Origin) -> Self {
        Self {
            inline_tables: Some(InlineTables::default()),
            ..Self::new(first, origin)
        }
    }

    /// Moves on to the next piece.
    pub(super) fn start_piece(&mut self, piece: &'a str) {
        self.locator.start_piece(piece);
        self.text = piece;
    }

    /// Returns the first byte of an item: a bracket for the table of a header, a brace for an inline table.
    /// Any other table starts with its name.
    pub(super) fn byte_at(&self, offset: usize) -> Option<u8> {
        self.text.as_bytes().get(offset).copied()
    }

    pub(super) fn table(&mut self, from: DeTable<'_>, offset: usize) -> Result<Table, Error> {
        self.open(offset)?;
        let mut table = Table::default();
        for (name, value) in from {
            let before = self.enter(name.get_ref(), name.span().start)?;
            let node = self.node(value)?;
            table.put(name.get_ref(), node);
            self.path.leave(before);
        }
        self.path.close();
        Ok(table)
    }

    pub(super) fn node(&mut self, value: Spanned<DeValue<'_>>) -> Result<Node, Error> {
        let span = value.span();
        let start = span.start;
        Ok(match value.into_inner() {
            DeValue::Table(below) => {
                if self.byte_at(start) == Some(b'{') {
                    if let Some(inline_tables) = &mut self.inline_tables {
                        inline_tables.insert(self.path.key());
                    }
                }
                Node::Table(self.table(below, start)?)
            }
            DeValue::Array(items) => {
                self.items.push(self.locator.position(start));
                let list = Value::List(self.list(items, start)?);
                let origin = self.locator.origin.with_items(self.items.take());
                Node::Leaf(Leaf::new(list, origin))
            }
            value => Node::Leaf(Leaf::new(
                self.value(value, span)?,
                self.locator.origin_at(start),
            )),
        })
    }

    fn value(&mut self, value: DeValue<'_>, span: Range<usize>) -> Result<Value, Error> {
        let offset = span.start;
        if !matches!(value, DeValue::Array(_) | DeValue::Table(_)) {
            self.path.add_value(|| self.locator.origin_at(offset))?;
        }
        Ok(match value {
            DeValue::String(text) if text.contains('\0') => {
                return Err(self.error(limits::NUL, offset));
            }
            DeValue::String(text) => Value::Text(text.into()),
            DeValue::Integer(digits) => self.integer(&digits, span)?,
            DeValue::Float(digits) => self.with_spelling(self.float(&digits, offset)?, span),
            DeValue::Boolean(value) => Value::from(value),
            DeValue::Datetime(_) => {
                let written = self.text.get(span).unwrap_or_default();
                Value::from(to_rfc3339(written))
            }
            DeValue::Array(items) => Value::List(self.list(items, offset)?),
            DeValue::Table(fields) => {
                self.open(offset)?;
                let mut table = Vec::new();
                let mut starts = Vec::new();
                for (name, value) in fields {
                    let before = self.enter(name.get_ref(), name.span().start)?;
                    let span = value.span();
                    starts.push((Box::from(&**name.get_ref()), self.items.len()));
                    self.items.push(self.locator.position(span.start));
                    let value = self.value(value.into_inner(), span)?;
                    table.push((name.into_inner(), value));
                    self.path.leave(before);
                }
                self.items.sort_fields(starts);
                self.path.close();
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
                self.items.push(self.locator.position(span.start));
                self.value(item.into_inner(), span)
            })
            .collect();
        self.path.close();
        list
    }

    fn integer(&self, digits: &DeInteger<'_>, span: Range<usize>) -> Result<Value, Error> {
        if let Ok(small) = i64::from_str_radix(digits.as_str(), digits.radix()) {
            return Ok(self.with_spelling(Value::from(small), span));
        }
        // The parser accepts `0x` alone.
        if digits.as_str().is_empty() {
            let detail = "a number without digits; write text in quotes";
            return Err(self.error(detail, span.start));
        }
        Ok(
            match i128::from_str_radix(digits.as_str(), digits.radix()) {
                Ok(value) => self.with_spelling(Value::from(value), span),
                // Text keeps the number for types that are larger than `i128`.
                Err(_) => Value::from(self.text.get(span).unwrap_or(digits.as_str())),
            },
        )
    }

    fn float(&self, digits: &DeFloat<'_>, offset: usize) -> Result<Value, Error> {
        let text = digits.as_str();
        match text.parse::<f64>() {
            Ok(value) if value.is_infinite() && !text.contains("inf") => {
                Err(self.error("a number beyond the range of 64-bit floats", offset))
            }
            Ok(value) => Ok(Value::from(value)),
            Err(_) => Err(self.error("not a number", offset)),
        }
    }

    /// Adds the spelling of a number in the text.
    fn with_spelling(&self, value: Value, span: Range<usize>) -> Value {
        match self.text.get(span) {
            Some(text) => value.with_spelling(text),
            None => value,
        }
    }

    fn error(&self, detail: &str, offset: usize) -> Error {
        let error = malformed_error(detail, self.locator.origin_at(offset));
        limits::with_key(error, self.path.key())
    }

    pub(super) fn enter(&mut self, name: &str, offset: usize) -> Result<usize, Error> {
        self.path.enter(name, || self.locator.origin_at(offset))
    }

    pub(super) fn open(&mut self, offset: usize) -> Result<(), Error> {
        self.path.open(|| self.locator.origin_at(offset))
    }
}

/// Converts a date, a time or both to RFC 3339: `T` between them, `Z` in upper case, and seconds. The
/// digits of a fraction stay.
fn to_rfc3339(written: &str) -> String {
    let mut text = written.to_ascii_uppercase().replace(' ', "T");
    let time = match text.find('T') {
        Some(at) => at + 1,
        // A date alone has its first hyphen where a time has its first colon or later.
        None if text.as_bytes().get(2) != Some(&b':') => return text,
        None => 0,
    };
    let minutes_end = (time + "00:00".len()).min(text.len());
    if text.as_bytes().get(minutes_end) != Some(&b':') && text.is_char_boundary(minutes_end) {
        text.insert_str(minutes_end, ":00");
    }
    text
}
