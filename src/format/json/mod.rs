//! JSON, through `serde_json`.
//!
//! `serde_json` tells neither where a value stands nor, beyond 64 bits, what digits it had. So a
//! cursor goes through the text beside it: both see names and values in the same order, and the
//! cursor knows the offset of each.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use crate::error::Error;
use crate::format::limits::{self, Trail, malformed, shown, too_deep, twice};
use crate::format::spans::{self, Lines, Spots};
use crate::value::Value;
use crate::value::document::Document;
use crate::value::node::{Leaf, Node, Table, both};
use crate::value::origin::Origin;

pub(crate) fn parse(text: &str, origin: &Origin) -> Result<Document, Error> {
    let mut builder = Builder {
        text,
        at: 0,
        lines: Lines::new(text),
        origin,
        trail: Trail::default(),
        spots: Spots::default(),
        fault: None,
    };
    let mut json = serde_json::Deserializer::from_str(text);
    let slot = Slot {
        builder: &mut builder,
        in_list: false,
    };
    let built = slot
        .deserialize(&mut json)
        .and_then(|built| json.end().map(|()| built));
    let fault = builder.fault.take();
    match (fault, built) {
        (Some(fault), _) => Err(fault),
        (None, Err(fault)) => Err(refuse(text, &fault, origin)),
        (None, Ok(Built::Table(root))) => Ok(Document::from_table(root)),
        (None, Ok(Built::Value(_))) => {
            let start = token(text.as_bytes(), 0).0;
            Err(malformed(
                "the document is not an object",
                builder.place(start),
            ))
        }
    }
}

/// Says where `serde_json` stopped; its columns count bytes.
fn refuse(text: &str, fault: &serde_json::Error, origin: &Origin) -> Error {
    let line_start = match fault.line() {
        0 | 1 => 0,
        line => text
            .match_indices('\n')
            .nth(line - 2)
            .map_or(text.len(), |(at, _)| at + 1),
    };
    let mut offset = (line_start + fault.column().saturating_sub(1)).min(text.len());
    // A line break in a string: what is wrong begins with the string.
    if fault.column() == 0 && line_start > 0 {
        offset = open_quote(&text[..line_start - 1]).unwrap_or(offset);
    }
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    let (line, column) = spans::place(text.as_bytes(), offset);
    let at = origin.at(line, column);
    // A fault in the data would quote the data; all that this file raises are told elsewhere.
    if fault.is_data() {
        return malformed("not a JSON document", at);
    }
    let message = fault.to_string();
    if message.starts_with("recursion limit") {
        return too_deep(at);
    }
    let end = message.rfind(" at line ").unwrap_or(message.len());
    let message = &message[..end];
    match advice(message) {
        Some(advice) => malformed(format!("{message}; {advice}"), at),
        None => malformed(message, at),
    }
}

/// Where the string begins in which a text ends.
fn open_quote(text: &str) -> Option<usize> {
    let is_plain = |(at, _): &(usize, &str)| {
        let slashes = text[..*at].bytes().rev().take_while(|byte| *byte == b'\\');
        slashes.count() % 2 == 0
    };
    text.rmatch_indices('"').find(is_plain).map(|(at, _)| at)
}

/// How to put right what `serde_json` refuses.
fn advice(message: &str) -> Option<&'static str> {
    match message {
        "expected value" => Some(
            "a value is text in double quotes, a number, `true`, `false`, `null`, a list or an object",
        ),
        "key must be a string" => Some("put the name in double quotes"),
        "trailing comma" => Some("remove the comma"),
        "trailing characters" => Some("a document is one object; remove what follows it"),
        cut if cut.starts_with("EOF while parsing") => {
            Some("complete the document, which seems to be cut off")
        }
        _ => None,
    }
}

struct Builder<'a> {
    text: &'a str,
    /// Where the cursor stands.
    at: usize,
    lines: Lines<'a>,
    origin: &'a Origin,
    trail: Trail,
    /// The places of the list at hand and of what it holds.
    spots: Spots,
    /// What was refused here; `serde_json` only learns that something was.
    fault: Option<Error>,
}

impl Builder<'_> {
    /// The offset of the next name or value, and a step beyond it, or into it if it nests.
    fn next(&mut self) -> usize {
        let (start, end) = token(self.text.as_bytes(), self.at);
        self.at = end;
        start
    }

    fn place(&self, offset: usize) -> Origin {
        let (line, column) = self.lines.place(offset);
        self.origin.at(line, column)
    }

    fn refuse<E: serde::de::Error>(&mut self, fault: Error) -> E {
        self.fault = Some(fault);
        E::custom("rejected")
    }

    fn open(&mut self, offset: usize) -> Result<(), Error> {
        let (lines, origin) = (&self.lines, self.origin);
        self.trail.open(|| {
            let (line, column) = lines.place(offset);
            origin.at(line, column)
        })
    }

    fn enter(&mut self, name: &str, offset: usize) -> Result<usize, Error> {
        let (lines, origin) = (&self.lines, self.origin);
        self.trail.enter(name, || {
            let (line, column) = lines.place(offset);
            origin.at(line, column)
        })
    }

    fn value<E: serde::de::Error>(
        &mut self,
        offset: usize,
        value: impl Into<Value>,
    ) -> Result<Built, E> {
        let (lines, origin) = (&self.lines, self.origin);
        let counted = self.trail.value(|| {
            let (line, column) = lines.place(offset);
            origin.at(line, column)
        });
        match counted {
            Ok(()) => Ok(Built::Value(value.into())),
            Err(fault) => Err(self.refuse(fault)),
        }
    }

    fn number(&self, offset: usize) -> Result<Value, Error> {
        let rest = &self.text[offset..];
        let inside = |c: char| matches!(c, '0'..='9' | '+' | '-' | '.' | 'e' | 'E');
        let digits = &rest[..rest.find(|c| !inside(c)).unwrap_or(rest.len())];
        let fault =
            |detail| limits::with_key(malformed(detail, self.place(offset)), self.trail.key());
        if !digits.contains(['.', 'e', 'E']) {
            let unsigned = digits.strip_prefix('-').unwrap_or(digits);
            if unsigned.is_empty() || !unsigned.bytes().all(|b| b.is_ascii_digit()) {
                return Err(fault("not a number"));
            }
            return Ok(match digits.parse::<i128>() {
                Ok(value) => Value::from(value).with_spelling(digits),
                // As text, they are the same number for who has room for it.
                Err(_) => Value::from(digits),
            });
        }
        match digits.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Value::from(value).with_spelling(digits)),
            Ok(_) => Err(fault("a number beyond the range of 64-bit floats")),
            Err(_) => Err(fault("not a number")),
        }
    }

    /// Where the object that begins at `object` first has a name.
    #[cold]
    fn first_place(&self, object: usize, name: &str) -> Option<Origin> {
        let text = self.text.as_bytes();
        let mut at = object + 1;
        loop {
            let (start, end) = token(text, at);
            let key: Cow<'_, str> = serde_json::from_str(self.text.get(start..end)?).ok()?;
            if key == name {
                return Some(self.place(start));
            }
            at = skip(text, end)?;
        }
    }
}

/// Where the next token that is no separator begins and ends; a bracket ends after itself.
fn token(text: &[u8], mut at: usize) -> (usize, usize) {
    let between = |b: &u8| matches!(b, b' ' | b'\t' | b'\r' | b'\n' | b',' | b':' | b']' | b'}');
    while text.get(at).is_some_and(between) {
        at += 1;
    }
    let start = at;
    match text.get(at) {
        None => {}
        Some(b'{' | b'[') => at += 1,
        Some(b'"') => {
            at += 1;
            while let Some(byte) = text.get(at) {
                at += if *byte == b'\\' { 2 } else { 1 };
                if *byte == b'"' {
                    break;
                }
            }
        }
        Some(_) => {
            while text.get(at).is_some_and(|b| !between(b)) {
                at += 1;
            }
        }
    }
    (start.min(text.len()), at.min(text.len()))
}

/// The end of the value that begins after `at`, nested ones and all.
fn skip(text: &[u8], at: usize) -> Option<usize> {
    let (start, mut end) = token(text, at);
    if !matches!(text.get(start)?, b'{' | b'[') {
        return Some(end);
    }
    let mut depth = 1;
    while depth > 0 {
        match text.get(end)? {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            b'"' => {
                end = token(text, end).1;
                continue;
            }
            _ => {}
        }
        end += 1;
    }
    Some(end)
}

/// A value, or the subtree it becomes outside lists.
enum Built {
    Value(Value),
    Table(Table),
}

/// A place where a value is to come.
struct Slot<'b, 'a> {
    builder: &'b mut Builder<'a>,
    in_list: bool,
}

impl<'de> DeserializeSeed<'de> for Slot<'_, '_> {
    type Value = Built;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Built, D::Error> {
        let offset = self.builder.next();
        if self.in_list {
            self.builder.spots.push(self.builder.lines.place(offset));
        }
        from.deserialize_any(Here { slot: self, offset })
    }
}

/// A place whose offset is known.
struct Here<'b, 'a> {
    slot: Slot<'b, 'a>,
    offset: usize,
}

impl Here<'_, '_> {
    fn number<E: serde::de::Error>(self) -> Result<Built, E> {
        let builder = self.slot.builder;
        match builder.number(self.offset) {
            Ok(value) => builder.value(self.offset, value),
            Err(fault) => Err(builder.refuse(fault)),
        }
    }
}

impl<'de> Visitor<'de> for Here<'_, '_> {
    type Value = Built;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Built, E> {
        self.slot.builder.value(self.offset, Value::Unset)
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Built, E> {
        self.slot.builder.value(self.offset, Value::from(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Built, E> {
        self.slot.builder.value(self.offset, Value::from(value))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Built, E> {
        self.slot.builder.value(self.offset, Value::from(value))
    }

    /// Also the integers that `serde_json` has no room for.
    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Built, E> {
        self.number()
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Built, E> {
        let builder = self.slot.builder;
        if text.contains('\0') {
            let fault = malformed(limits::NUL, builder.place(self.offset));
            return Err(builder.refuse(limits::with_key(fault, builder.trail.key())));
        }
        builder.value(self.offset, Value::from(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Built, A::Error> {
        let builder = self.slot.builder;
        if let Err(fault) = builder.open(self.offset) {
            return Err(builder.refuse(fault));
        }
        if !self.slot.in_list {
            builder.spots.push(builder.lines.place(self.offset));
        }
        let mut list = Vec::new();
        loop {
            let slot = Slot {
                builder: &mut *builder,
                in_list: true,
            };
            match from.next_element_seed(slot)? {
                None => break,
                Some(Built::Value(value)) => list.push(value),
                // A slot in a list builds no subtrees.
                Some(Built::Table(_)) => return Err(A::Error::custom("rejected")),
            }
        }
        builder.trail.close();
        Ok(Built::Value(Value::List(list.into())))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Built, A::Error> {
        if self.slot.builder.text.as_bytes().get(self.offset) != Some(&b'{') {
            // Another crate of the program turned on `arbitrary_precision`, which hands numbers
            // over as maps.
            while from.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return self.number();
        }
        let Slot { builder, in_list } = self.slot;
        if let Err(fault) = builder.open(self.offset) {
            return Err(builder.refuse(fault));
        }
        let mut table = Table::default();
        let mut fields: BTreeMap<Box<str>, Value> = BTreeMap::new();
        let mut starts = Vec::new();
        while let Some(name) = from.next_key_seed(Name)? {
            let at_name = builder.next();
            let before = match builder.enter(&name, at_name) {
                Ok(before) => before,
                Err(fault) => return Err(builder.refuse(fault)),
            };
            let at_value = token(builder.text.as_bytes(), builder.at).0;
            if in_list {
                starts.push((Box::from(&*name), builder.spots.len()));
            }
            let value = from.next_value_seed(Slot {
                builder: &mut *builder,
                in_list,
            })?;
            let is_table = match &value {
                Built::Value(value) => matches!(value, Value::Table(_)),
                Built::Table(_) => true,
            };
            let was_table = match value {
                Built::Value(value) if in_list => {
                    let old = fields.insert(name.into(), value);
                    old.map(|old| matches!(old, Value::Table(_)))
                }
                Built::Value(value) => {
                    let origin = match &value {
                        Value::List(_) => builder.origin.with_items(builder.spots.take()),
                        _ => builder.place(at_value),
                    };
                    let leaf = Leaf::new(value, origin);
                    let old = table.put(&name, Node::Leaf(leaf));
                    old.map(|old| old.node.table().is_some())
                }
                Built::Table(below) => {
                    let old = table.put(&name, Node::Table(below));
                    old.map(|old| old.node.table().is_some())
                }
            };
            if let Some(was_table) = was_table {
                let name = serde_json::from_str::<Cow<'_, str>>(
                    &builder.text[at_name..token(builder.text.as_bytes(), at_name).1],
                )
                .unwrap_or_default();
                let first = builder.first_place(self.offset, &name);
                let (key, again) = (builder.trail.key(), builder.place(at_name));
                let fault = if was_table == is_table {
                    let line = first.and_then(|first| first.line());
                    twice(key, line.map(|(line, _)| line), again)
                } else {
                    both(&shown(key), first.as_ref(), was_table, &again)
                };
                return Err(builder.refuse(fault));
            }
            builder.trail.leave(before);
        }
        builder.trail.close();
        builder.spots.sort_fields(starts);
        Ok(if in_list {
            Built::Value(Value::from(fields))
        } else {
            Built::Table(table)
        })
    }
}

/// A name, borrowed from the document unless it holds escapes.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
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
