//! Parses JSON with `serde_json`.
//!
//! `serde_json` reports neither the position of a value nor the digits of a number beyond 64 bits. So the
//! builder follows it with a cursor in the text: both visit names and values in the same order.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use crate::error::Error;
use crate::format::limits::{
    self, PathTracker, duplicate_key_error, malformed_error, masked_key, too_deep_error,
};
use crate::format::positions::{self, ItemPositions, Locator};
use crate::value::Value;
use crate::value::document::Document;
use crate::value::node::{Leaf, Node, Table, value_and_table_error};
use crate::value::origin::Origin;

mod scan;

use scan::{last_unescaped_quote, next_token, value_end};

pub(crate) fn parse(text: &str, origin: &Origin) -> Result<Document, Error> {
    let mut builder = Builder {
        text,
        cursor: 0,
        locator: Locator::new(text, origin),
        path: PathTracker::default(),
        items: ItemPositions::default(),
        error: None,
    };
    let mut json = serde_json::Deserializer::from_str(text);
    let seed = ValueSeed {
        builder: &mut builder,
        in_list: false,
    };
    let parsed = seed
        .deserialize(&mut json)
        .and_then(|parsed| json.end().map(|()| parsed));
    if let Some(error) = builder.error.take() {
        return Err(error);
    }
    match parsed {
        Ok(Parsed::Table(root)) => Ok(Document::from_table(root)),
        Ok(Parsed::Value(_)) => {
            let (start, _) = next_token(text.as_bytes(), 0);
            let at = builder.locator.origin_at(start);
            Err(malformed_error("the document is not an object", at))
        }
        Err(error) => Err(syntax_error(text, &error, origin)),
    }
}

/// Converts an error of `serde_json`, whose columns count bytes.
fn syntax_error(text: &str, error: &serde_json::Error, origin: &Origin) -> Error {
    let line_start = match error.line() {
        0 | 1 => 0,
        line => text
            .match_indices('\n')
            .nth(line - 2)
            .map_or(text.len(), |(at, _)| at + 1),
    };
    let mut offset = (line_start + error.column().saturating_sub(1)).min(text.len());
    // For a line break in a string, the error is at the quote that opens the string.
    if error.column() == 0 && line_start > 0 {
        offset = last_unescaped_quote(&text[..line_start - 1]).unwrap_or(offset);
    }
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    let (line, column) = positions::position(text.as_bytes(), offset);
    let at = origin.at(line, column);
    // The message of a data error would quote the data. The builder's own data errors do not get here.
    if error.is_data() {
        return malformed_error("not a JSON document", at);
    }
    let message = error.to_string();
    if message.starts_with("recursion limit") {
        return too_deep_error(at);
    }
    let end = message.rfind(" at line ").unwrap_or(message.len());
    let message = &message[..end];
    match remedy(message) {
        Some(remedy) => malformed_error(format!("{message}; {remedy}"), at),
        None => malformed_error(message, at),
    }
}

/// Returns how to correct the text, by a message of `serde_json`.
fn remedy(message: &str) -> Option<&'static str> {
    match message {
        "expected value" => Some(
            "a value is text in double quotes, a number, `true`, `false`, `null`, a list or an object",
        ),
        "key must be a string" => Some("put the name in double quotes"),
        "trailing comma" => Some("remove the comma"),
        "trailing characters" => Some("a document is one object; remove what follows it"),
        _ if message.starts_with("EOF while parsing") => {
            Some("complete the document, which seems to be cut off")
        }
        _ => None,
    }
}

struct Builder<'a> {
    text: &'a str,
    /// The offset behind the last name or value, or inside a value that nests.
    cursor: usize,
    locator: Locator<'a>,
    path: PathTracker,
    /// The positions of the outermost list and of the values in it.
    items: ItemPositions,
    /// The builder's own error, of which `serde_json` gets only a placeholder.
    error: Option<Error>,
}

impl Builder<'_> {
    /// Moves the cursor over the next name or value, or into a value that nests. Returns its offset.
    fn advance(&mut self) -> usize {
        let (start, end) = next_token(self.text.as_bytes(), self.cursor);
        self.cursor = end;
        start
    }

    /// Stores an error and returns the placeholder for `serde_json`.
    fn fail<E: serde::de::Error>(&mut self, error: Error) -> E {
        self.error = Some(error);
        E::custom("rejected")
    }

    fn open<E: serde::de::Error>(&mut self, offset: usize) -> Result<(), E> {
        let opened = self.path.open(|| self.locator.origin_at(offset));
        opened.map_err(|error| self.fail(error))
    }

    fn enter<E: serde::de::Error>(&mut self, name: &str, offset: usize) -> Result<usize, E> {
        let entered = self.path.enter(name, || self.locator.origin_at(offset));
        entered.map_err(|error| self.fail(error))
    }

    /// Counts a value.
    fn value<E: serde::de::Error>(
        &mut self,
        offset: usize,
        value: impl Into<Value>,
    ) -> Result<Parsed, E> {
        let counted = self.path.add_value(|| self.locator.origin_at(offset));
        counted.map_err(|error| self.fail(error))?;
        Ok(Parsed::Value(value.into()))
    }

    fn parse_number(&self, offset: usize) -> Result<Value, Error> {
        let rest = &self.text[offset..];
        let in_number = |c: char| matches!(c, '0'..='9' | '+' | '-' | '.' | 'e' | 'E');
        let digits = &rest[..rest.find(|c| !in_number(c)).unwrap_or(rest.len())];
        let error = |detail| {
            let error = malformed_error(detail, self.locator.origin_at(offset));
            limits::with_key(error, self.path.key())
        };
        if !digits.contains(['.', 'e', 'E']) {
            let unsigned = digits.strip_prefix('-').unwrap_or(digits);
            if unsigned.is_empty() || !unsigned.bytes().all(|b| b.is_ascii_digit()) {
                return Err(error("not a number"));
            }
            return Ok(match digits.parse::<i128>() {
                Ok(value) => Value::from(value).with_spelling(digits),
                // Text keeps the number for types that are larger than `i128`.
                Err(_) => Value::from(digits),
            });
        }
        match digits.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Value::from(value).with_spelling(digits)),
            Ok(_) => Err(error("a number beyond the range of 64-bit floats")),
            Err(_) => Err(error("not a number")),
        }
    }

    /// Creates the error for the name at `again` that the object at `object` has already.
    #[cold]
    fn duplicate_name_error(
        &self,
        object: usize,
        again: usize,
        was_table: bool,
        is_table: bool,
    ) -> Error {
        let first = self.first_occurrence(object, again);
        let first = first.map(|offset| self.locator.origin_at(offset));
        let (key, again) = (self.path.key(), self.locator.origin_at(again));
        if was_table != is_table {
            return value_and_table_error(&masked_key(key), first.as_ref(), was_table, &again);
        }
        let line = first.and_then(|first| first.line()).map(|(line, _)| line);
        duplicate_key_error(key, line, again)
    }

    /// Finds the first name of the object at `object` that equals the name at `again`.
    fn first_occurrence(&self, object: usize, again: usize) -> Option<usize> {
        let text = self.text.as_bytes();
        let decode = |(start, end)| -> Option<Cow<'_, str>> {
            serde_json::from_str(self.text.get(start..end)?).ok()
        };
        let name = decode(next_token(text, again))?;
        let mut at = object + 1;
        loop {
            let (start, end) = next_token(text, at);
            if decode((start, end))? == name {
                return Some(start);
            }
            at = value_end(text, end)?;
        }
    }
}

/// A parsed value. An object outside lists is a subtree.
enum Parsed {
    Value(Value),
    Table(Table),
}

impl Parsed {
    fn is_table(&self) -> bool {
        matches!(self, Self::Table(_) | Self::Value(Value::Table(_)))
    }
}

/// Parses the next value.
struct ValueSeed<'b, 'a> {
    builder: &'b mut Builder<'a>,
    in_list: bool,
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_, '_> {
    type Value = Parsed;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Parsed, D::Error> {
        let Self { builder, in_list } = self;
        let offset = builder.advance();
        if in_list {
            builder.items.push(builder.locator.position(offset));
        }
        from.deserialize_any(ValueVisitor {
            builder,
            in_list,
            offset,
        })
    }
}

/// Parses the value at an offset.
struct ValueVisitor<'b, 'a> {
    builder: &'b mut Builder<'a>,
    in_list: bool,
    offset: usize,
}

impl ValueVisitor<'_, '_> {
    fn number<E: serde::de::Error>(self) -> Result<Parsed, E> {
        match self.builder.parse_number(self.offset) {
            Ok(value) => self.builder.value(self.offset, value),
            Err(error) => Err(self.builder.fail(error)),
        }
    }
}

impl<'de> Visitor<'de> for ValueVisitor<'_, '_> {
    type Value = Parsed;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Parsed, E> {
        self.builder.value(self.offset, Value::Unset)
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Parsed, E> {
        self.builder.value(self.offset, Value::from(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Parsed, E> {
        self.builder.value(self.offset, Value::from(value))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Parsed, E> {
        self.builder.value(self.offset, Value::from(value))
    }

    /// Visits floats, and integers beyond 64 bits.
    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Parsed, E> {
        self.number()
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Parsed, E> {
        let builder = self.builder;
        if text.contains('\0') {
            let error = malformed_error(limits::NUL, builder.locator.origin_at(self.offset));
            return Err(builder.fail(limits::with_key(error, builder.path.key())));
        }
        builder.value(self.offset, Value::from(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Parsed, A::Error> {
        let builder = self.builder;
        builder.open(self.offset)?;
        if !self.in_list {
            builder.items.push(builder.locator.position(self.offset));
        }
        let mut list = Vec::new();
        loop {
            let seed = ValueSeed {
                builder: &mut *builder,
                in_list: true,
            };
            match from.next_element_seed(seed)? {
                None => break,
                Some(Parsed::Value(value)) => list.push(value),
                // An object in a list is a `Value`.
                Some(Parsed::Table(_)) => return Err(A::Error::custom("rejected")),
            }
        }
        builder.path.close();
        Ok(Parsed::Value(Value::List(list.into())))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Parsed, A::Error> {
        if self.builder.text.as_bytes().get(self.offset) != Some(&b'{') {
            // `arbitrary_precision`, which another crate may enable, represents numbers as maps.
            while from.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return self.number();
        }
        self.builder.open(self.offset)?;
        if self.in_list {
            self.fields(from)
        } else {
            self.subtree(from)
        }
    }
}

impl ValueVisitor<'_, '_> {
    /// Parses an object outside lists.
    fn subtree<'de, A: MapAccess<'de>>(self, mut from: A) -> Result<Parsed, A::Error> {
        let builder = self.builder;
        let mut table = Table::default();
        while let Some(name) = from.next_key_seed(NameSeed)? {
            let name_start = builder.advance();
            let before = builder.enter(&name, name_start)?;
            let (value_start, _) = next_token(builder.text.as_bytes(), builder.cursor);
            let value = from.next_value_seed(ValueSeed {
                builder: &mut *builder,
                in_list: false,
            })?;
            let is_table = value.is_table();
            let node = match value {
                Parsed::Table(table) => Node::Table(table),
                Parsed::Value(list @ Value::List(_)) => {
                    let origin = builder.locator.origin.with_items(builder.items.take());
                    Node::Leaf(Leaf::new(list, origin))
                }
                Parsed::Value(value) => {
                    Node::Leaf(Leaf::new(value, builder.locator.origin_at(value_start)))
                }
            };
            if let Some(old) = table.put(&name, node) {
                let was_table = old.node.table().is_some();
                let error =
                    builder.duplicate_name_error(self.offset, name_start, was_table, is_table);
                return Err(builder.fail(error));
            }
            builder.path.leave(before);
        }
        builder.path.close();
        Ok(Parsed::Table(table))
    }

    /// Parses an object in a list.
    fn fields<'de, A: MapAccess<'de>>(self, mut from: A) -> Result<Parsed, A::Error> {
        let builder = self.builder;
        let mut fields: BTreeMap<Box<str>, Value> = BTreeMap::new();
        let mut starts = Vec::new();
        while let Some(name) = from.next_key_seed(NameSeed)? {
            let name_start = builder.advance();
            let before = builder.enter(&name, name_start)?;
            starts.push((Box::from(&*name), builder.items.len()));
            let value = from.next_value_seed(ValueSeed {
                builder: &mut *builder,
                in_list: true,
            })?;
            let is_table = value.is_table();
            // An object in a list is a `Value`.
            let Parsed::Value(value) = value else {
                return Err(A::Error::custom("rejected"));
            };
            if let Some(old) = fields.insert(name.into(), value) {
                let was_table = matches!(old, Value::Table(_));
                let error =
                    builder.duplicate_name_error(self.offset, name_start, was_table, is_table);
                return Err(builder.fail(error));
            }
            builder.path.leave(before);
        }
        builder.path.close();
        builder.items.sort_fields(starts);
        Ok(Parsed::Value(Value::from(fields)))
    }
}

/// Parses a name; it is borrowed from the document unless it contains escapes.
struct NameSeed;

impl<'de> DeserializeSeed<'de> for NameSeed {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for NameSeed {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E: serde::de::Error>(self, name: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(name))
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}

#[cfg(test)]
mod tests;
