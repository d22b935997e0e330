//! Writes a cache.

use std::collections::HashMap;
use std::time::SystemTime;

use crate::engine::cache::encoding::{HEADER, MAGIC, TextSyntax, VERSION, checksum, tag};
use crate::value::Value;
use crate::value::hamt::Entry;
use crate::value::key::{Key, push_segment};
use crate::value::node::{Node, Table};
use crate::value::origin::Origin;

/// Values as bytes, sorted by name. Of leaves for which `hidden` returns `true` only the keys are written;
/// a table with no other leaves is omitted.
///
/// `absent` are keys that were omitted before.
pub(in crate::engine::cache) fn body(
    root: &Table,
    absent: &[Key],
    hidden: &dyn Fn(&str, &Value) -> bool,
) -> Vec<u8> {
    write(root, absent, hidden, false)
}

/// A tree that was in force, as bytes: fixed values are written as they were resolved. `defaults` are the
/// keys of the defaults that it hides.
pub(in crate::engine::cache) fn body_in_force(
    root: &Table,
    absent: &[Key],
    defaults: &[Key],
    hidden: &dyn Fn(&str, &Value) -> bool,
) -> Vec<u8> {
    let mut bytes = write(root, absent, hidden, true);
    if !defaults.is_empty() {
        names(&mut bytes, defaults.iter().map(Key::as_str));
    }
    bytes
}

fn write(
    root: &Table,
    absent: &[Key],
    hidden: &dyn Fn(&str, &Value) -> bool,
    fixed: bool,
) -> Vec<u8> {
    let mut writer = Writer {
        bytes: Vec::new(),
        origins: HashMap::new(),
        hidden,
        fixed,
        path: String::new(),
        omitted: absent.iter().map(Key::to_string).collect(),
    };
    writer.table(root);
    names(&mut writer.bytes, writer.omitted.iter().map(String::as_str));
    writer.bytes
}

fn names<'a>(bytes: &mut Vec<u8>, names: impl ExactSizeIterator<Item = &'a str>) {
    number(bytes, names.len());
    names.for_each(|name| text(bytes, name));
}

/// A whole file around a [`body`].
pub(in crate::engine::cache) fn file(
    owner: &str,
    confirmed: SystemTime,
    syntax: TextSyntax,
    revision: Option<&str>,
    body: &[u8],
) -> Vec<u8> {
    let mut rest = Vec::with_capacity(HEADER + owner.len() + 64 + body.len());
    text(&mut rest, owner);
    let since = confirmed
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    rest.extend(since.as_secs().to_le_bytes());
    rest.extend(since.subsec_nanos().to_le_bytes());
    rest.push(match syntax {
        TextSyntax::References => tag::REFERENCES,
        TextSyntax::Literal => tag::LITERAL,
    });
    rest.push(u8::from(revision.is_some()));
    text(&mut rest, revision.unwrap_or_default());
    rest.extend(body);

    let mut file = Vec::with_capacity(HEADER + rest.len());
    file.extend(MAGIC);
    file.extend(VERSION.to_le_bytes());
    file.extend((rest.len() as u64).to_le_bytes());
    file.extend(checksum(&file, &rest).to_le_bytes());
    file.extend(rest);
    file
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    number(bytes, text.len());
    bytes.extend(text.as_bytes());
}

/// A longer text makes the file too large to be written.
fn number(bytes: &mut Vec<u8>, number: usize) {
    bytes.extend(u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
}

struct Writer<'a> {
    bytes: Vec<u8>,
    /// The kinds and names of origins that were written, with their numbers.
    origins: HashMap<(&'a str, &'a str), usize>,
    hidden: &'a dyn Fn(&str, &Value) -> bool,
    /// Whether fixed values are written as they were resolved.
    fixed: bool,
    path: String,
    /// The keys of hidden leaves, whose values are not written.
    omitted: Vec<String>,
}

impl<'a> Writer<'a> {
    /// Writes a table. Returns whether an entry was written.
    fn table(&mut self, table: &'a Table) -> bool {
        let at = self.bytes.len();
        number(&mut self.bytes, 0);
        let mut count = 0u32;
        for entry in table.map().sorted() {
            let path = self.path.len();
            push_segment(&mut self.path, &entry.name);
            count += u32::from(self.entry(entry));
            self.path.truncate(path);
        }
        self.bytes[at..at + 4].copy_from_slice(&count.to_le_bytes());
        count > 0
    }

    fn entry(&mut self, entry: &'a Entry) -> bool {
        let at = self.bytes.len();
        text(&mut self.bytes, &entry.name);
        let is_written = match &entry.node {
            Node::Table(below) => {
                self.bytes.push(tag::TABLE);
                // A table that was empty to begin with is a value.
                self.table(below) || below.is_empty()
            }
            Node::Leaf(leaf) => self.leaf(tag::LEAF, &leaf.origin, &leaf.value),
            // Only in a merged tree, and in a bootstrap layer.
            Node::Resolved(resolved) => {
                let (origin, written) = (&resolved.raw.origin, &resolved.raw.value);
                match &resolved.value {
                    Ok(value) if self.fixed && resolved.fixed => {
                        self.leaf(tag::FIXED, origin, value)
                    }
                    _ => self.leaf(tag::LEAF, origin, written),
                }
            }
        };
        if !is_written {
            self.bytes.truncate(at);
        }
        is_written
    }

    fn leaf(&mut self, tag: u8, origin: &'a Origin, value: &'a Value) -> bool {
        if (self.hidden)(&self.path, value) {
            self.omitted.push(self.path.clone());
            return false;
        }
        self.bytes.push(tag);
        self.origin(origin);
        self.value(value);
        true
    }

    fn origin(&mut self, origin: &'a Origin) {
        let new = self.origins.len();
        let (kind, name) = (origin.kind(), origin.name());
        let known = *self.origins.entry((kind, name)).or_insert(new);
        number(&mut self.bytes, known);
        if known == new {
            text(&mut self.bytes, kind);
            text(&mut self.bytes, name);
        }
        if let Some(positions) = origin.items() {
            self.bytes.push(tag::ITEMS);
            number(&mut self.bytes, positions.len());
            for (line, column) in positions {
                self.bytes.extend(line.to_le_bytes());
                self.bytes.extend(column.to_le_bytes());
            }
            return;
        }
        match (origin.line(), origin.revised()) {
            (Some((line, column)), _) => {
                self.bytes.push(tag::LINE);
                self.bytes.extend(line.to_le_bytes());
                self.bytes.extend(column.to_le_bytes());
            }
            (None, Some(revision)) => {
                self.bytes.push(tag::REVISION);
                self.bytes.extend(revision.to_le_bytes());
            }
            (None, None) => self.bytes.push(tag::WHOLE),
        }
    }

    fn value(&mut self, value: &Value) {
        if let Some(spelled) = value.spelled() {
            self.bytes.push(tag::SPELLED);
            self.value(spelled.value());
            text(&mut self.bytes, spelled.as_str());
            return;
        }
        let bytes = &mut self.bytes;
        match value {
            Value::Unset => bytes.push(tag::UNSET),
            Value::Bool(value) if value.get() => bytes.push(tag::TRUE),
            Value::Bool(_) => bytes.push(tag::FALSE),
            Value::Number(value) => match (value.as_i64(), value.as_i128(), value.as_f64()) {
                (Some(value), ..) => {
                    bytes.push(tag::INT);
                    bytes.extend(value.to_le_bytes());
                }
                (None, Some(value), _) => {
                    bytes.push(tag::BIG);
                    bytes.extend(value.to_le_bytes());
                }
                (None, None, value) => {
                    bytes.push(tag::FLOAT);
                    bytes.extend(value.unwrap_or_default().to_bits().to_le_bytes());
                }
            },
            Value::Text(value) => {
                bytes.push(tag::TEXT);
                text(bytes, value);
            }
            Value::List(items) => {
                bytes.push(tag::LIST);
                number(bytes, items.len());
                items.iter().for_each(|item| self.value(item));
            }
            Value::Table(fields) => {
                bytes.push(tag::FIELDS);
                number(bytes, fields.len());
                for (name, value) in fields.iter() {
                    text(&mut self.bytes, name);
                    self.value(value);
                }
            }
        }
    }
}
