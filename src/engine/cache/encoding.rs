//! The bytes of a cache: what a layer held, when its source confirmed it, and a checksum over all of
//! it. Reading believes nothing: it is bounded in depth, in size and in what it allocates.
//!
//! ```text
//! magic, version, length, checksum | owner, confirmed, form, revision, table,
//!     names of what was left out, names of defaults that were hidden (if some were)
//! table = count, then name and node each; node = a table, or origin and value
//! ```
//!
//! Numbers are little-endian, a text is its length and its bytes. The name of a place stands where
//! it is needed first and is a number from then on.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::error::{Error, ErrorKind};
use crate::value::Value;
use crate::value::hamt::Entry;
use crate::value::key::{Key, MAX_DEPTH, MAX_KEY_BYTES, push_segment};
use crate::value::node::{Leaf, Node, Resolved, Table};
use crate::value::origin::Origin;

const MAGIC: [u8; 8] = *b"LIVEPROP";
/// Version 1 did not say in which form the texts are.
const VERSION: u32 = 2;
/// Magic, version, length of the rest, checksum.
const HEADER: usize = 8 + 4 + 8 + 4;

/// A larger file is neither written nor read.
pub(super) const MAX_BYTES: usize = 64 << 20;
/// Names, values and items: a document of 10 MiB holds fewer.
const MAX_PARTS: u32 = 6_000_000;
/// Tables and lists in each other: no source may nest half as deep.
const MAX_NESTING: usize = 2 * MAX_DEPTH;

mod tag {
    pub(super) const TABLE: u8 = 0;
    pub(super) const LEAF: u8 = 1;
    /// A leaf whose references were resolved for good.
    pub(super) const FIXED: u8 = 2;

    pub(super) const REFERENCES: u8 = 0;
    pub(super) const LITERAL: u8 = 1;

    pub(super) const UNSET: u8 = 0;
    pub(super) const FALSE: u8 = 1;
    pub(super) const TRUE: u8 = 2;
    pub(super) const INT: u8 = 3;
    pub(super) const BIG: u8 = 4;
    pub(super) const FLOAT: u8 = 5;
    pub(super) const TEXT: u8 = 6;
    pub(super) const LIST: u8 = 7;
    pub(super) const FIELDS: u8 = 8;
    /// A number or a boolean, and its text.
    pub(super) const SPELLED: u8 = 9;

    pub(super) const WHOLE: u8 = 0;
    pub(super) const LINE: u8 = 1;
    pub(super) const REVISION: u8 = 2;
    /// The places of a list and of what it holds.
    pub(super) const ITEMS: u8 = 3;
}

/// What `${` in the texts of a file means, before they are escaped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Form {
    /// It begins a reference.
    References,
    /// It was text, and is escaped.
    Literal,
}

/// What a source said last, as it is kept.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    /// When the source last said so.
    pub(crate) confirmed: SystemTime,
    pub(crate) form: Form,
    pub(crate) revision: Option<Arc<str>>,
    pub(crate) root: Table,
    /// The keys whose values were not to be written.
    pub(crate) left_out: Vec<Key>,
    /// The defaults that were not in a tree that was rolled back to, because a layer hid them.
    pub(crate) hidden: Vec<Key>,
}

impl Kept {
    /// Says that secrets are missing, if some are.
    pub(crate) fn without_secrets(&self) -> Option<Error> {
        let first = self.left_out.first()?;
        let count = self.left_out.len();
        let detail = format!(
            "one of {count} that started without a value, as secrets are not kept on disk; see \
             `Cached::with_secrets`"
        );
        Some(Error::new(ErrorKind::NotFound, detail).with_key(first))
    }
}

/// Values as bytes, sorted by name; leaves for which `hidden` holds are left out but for their
/// names, and the tables that hold nothing else.
///
/// `absent` are names of what was left out before.
pub(super) fn body(root: &Table, absent: &[Key], hidden: &dyn Fn(&str, &Value) -> bool) -> Vec<u8> {
    write(root, absent, hidden, false)
}

/// A tree that was in force, as bytes: what is fixed in it is written as it reads. `defaults` are
/// those that it hides.
pub(super) fn body_in_force(
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
        places: HashMap::new(),
        hidden,
        fixed,
        path: String::new(),
        left_out: absent.iter().map(Key::to_string).collect(),
    };
    writer.table(root);
    names(
        &mut writer.bytes,
        writer.left_out.iter().map(String::as_str),
    );
    writer.bytes
}

fn names<'a>(bytes: &mut Vec<u8>, names: impl ExactSizeIterator<Item = &'a str>) {
    number(bytes, names.len());
    names.for_each(|name| text(bytes, name));
}

/// A whole file around a [`body`].
pub(super) fn file(
    owner: &str,
    confirmed: SystemTime,
    form: Form,
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
    rest.push(match form {
        Form::References => tag::REFERENCES,
        Form::Literal => tag::LITERAL,
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

fn checksum(header: &[u8], rest: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    hasher.update(rest);
    hasher.finalize()
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    number(bytes, text.len());
    bytes.extend(text.as_bytes());
}

/// What is longer than this says makes the file too large to be written.
fn number(bytes: &mut Vec<u8>, number: usize) {
    bytes.extend(u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
}

struct Writer<'a> {
    bytes: Vec<u8>,
    places: HashMap<(&'a str, &'a str), usize>,
    hidden: &'a dyn Fn(&str, &Value) -> bool,
    /// Whether what is fixed is written as it reads.
    fixed: bool,
    path: String,
    left_out: Vec<String>,
}

impl<'a> Writer<'a> {
    /// Says whether there is anything in it.
    fn table(&mut self, table: &'a Table) -> bool {
        let at = self.bytes.len();
        number(&mut self.bytes, 0);
        let mut entries: Vec<&'a Arc<Entry>> = table.map().iter().collect();
        entries.sort_unstable_by(|a, b| a.name.as_bytes().cmp(b.name.as_bytes()));
        let mut count = 0u32;
        for entry in entries {
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
        let there = match &entry.node {
            Node::Table(below) => {
                self.bytes.push(tag::TABLE);
                // A table that was empty to begin with says something.
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
        if !there {
            self.bytes.truncate(at);
        }
        there
    }

    fn leaf(&mut self, tag: u8, origin: &'a Origin, value: &'a Value) -> bool {
        if (self.hidden)(&self.path, value) {
            self.left_out.push(self.path.clone());
            return false;
        }
        self.bytes.push(tag);
        self.origin(origin);
        self.value(value);
        true
    }

    fn origin(&mut self, origin: &'a Origin) {
        let new = self.places.len();
        let place = (origin.kind(), origin.name());
        let known = *self.places.entry(place).or_insert(new);
        number(&mut self.bytes, known);
        if known == new {
            text(&mut self.bytes, place.0);
            text(&mut self.bytes, place.1);
        }
        if let Some(spots) = origin.items() {
            self.bytes.push(tag::ITEMS);
            number(&mut self.bytes, spots.len());
            for (line, column) in spots {
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

/// Why bytes are not a cache of this owner.
type Fault = String;

/// Reads a file of `owner`, or says why it is not one.
pub(super) fn read(bytes: &[u8], owner: &str) -> Result<Kept, Fault> {
    let mut reader = Reader {
        bytes,
        places: Vec::new(),
        path: String::new(),
        parts: 0,
    };
    let short = |_| format!("cut short: {} bytes are not even a header", bytes.len());
    if reader.array().map_err(short)? != MAGIC {
        return Err("not a cache: it begins with other bytes".to_owned());
    }
    let version = u32::from_le_bytes(reader.array().map_err(short)?);
    if version != VERSION {
        return Err(format!(
            "of format version {version}, and this program reads version {VERSION}"
        ));
    }
    let length = u64::from_le_bytes(reader.array().map_err(short)?);
    let sum = u32::from_le_bytes(reader.array().map_err(short)?);
    let rest = reader.bytes;
    if rest.len() as u64 != length {
        let there = rest.len();
        return Err(format!(
            "damaged: {there} bytes where {length} were written"
        ));
    }
    let header = bytes.get(..HEADER - 4).unwrap_or_default();
    if checksum(header, rest) != sum {
        return Err("damaged: its checksum is wrong".to_owned());
    }
    let found = reader.text()?;
    if found != owner {
        return Err(format!("of another source, {found:?}"));
    }
    let seconds = u64::from_le_bytes(reader.array()?);
    let nanos = u32::from_le_bytes(reader.array()?);
    let since = Duration::from_secs(seconds).checked_add(Duration::from_nanos(nanos.into()));
    let confirmed = since.and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since));
    let confirmed = confirmed.ok_or("damaged: no such time")?;
    let form = match reader.byte()? {
        tag::REFERENCES => Form::References,
        tag::LITERAL => Form::Literal,
        _ => return Err("damaged: no such form of texts".to_owned()),
    };
    let revised = reader.byte()? != 0;
    let revision = reader.text()?;
    let revision = revised.then(|| Arc::from(revision));
    let root = reader.table(0)?;
    let left_out = reader.names()?;
    let hidden = if reader.bytes.is_empty() {
        Vec::new()
    } else {
        reader.names()?
    };
    if !reader.bytes.is_empty() {
        return Err(format!("damaged: {} bytes too many", reader.bytes.len()));
    }
    Ok(Kept {
        confirmed,
        form,
        revision,
        root,
        left_out,
        hidden,
    })
}

struct Reader<'a> {
    /// What is still to be read.
    bytes: &'a [u8],
    places: Vec<Origin>,
    path: String,
    /// What was read so far.
    parts: u32,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Fault> {
        let ended = || "damaged: it ends in the middle".to_owned();
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or_else(ended)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    fn number(&mut self) -> Result<usize, Fault> {
        let number = u32::from_le_bytes(self.array()?);
        usize::try_from(number).map_err(|_| "damaged: too large a number".to_owned())
    }

    fn text(&mut self) -> Result<&'a str, Fault> {
        let length = self.number()?;
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).map_err(|_| "damaged: not UTF-8".to_owned())
    }

    fn names(&mut self) -> Result<Vec<Key>, Fault> {
        let mut names = Vec::new();
        for _ in 0..self.number()? {
            let key = Key::parse(self.text()?);
            names.push(key.map_err(|_| "damaged: no such key")?);
        }
        Ok(names)
    }

    fn table(&mut self, depth: usize) -> Result<Table, Fault> {
        nested(depth)?;
        let mut table = Table::default();
        for _ in 0..self.number()? {
            self.part()?;
            let name = self.text()?;
            let path = self.path.len();
            push_segment(&mut self.path, name);
            if self.path.len() > MAX_KEY_BYTES {
                return Err("damaged: too long a key".to_owned());
            }
            let node = match self.byte()? {
                tag::TABLE => Node::Table(self.table(depth + 1)?),
                tag::LEAF => {
                    let origin = self.origin()?;
                    Node::Leaf(Leaf::new(self.value(depth + 1)?, origin))
                }
                tag::FIXED => {
                    let origin = self.origin()?;
                    Node::Resolved(Box::new(fixed(Leaf::new(self.value(depth + 1)?, origin))))
                }
                _ => return Err("damaged: no such node".to_owned()),
            };
            if table.put(name, node).is_some() {
                return Err("damaged: a key is there twice".to_owned());
            }
            self.path.truncate(path);
        }
        Ok(table)
    }

    fn origin(&mut self) -> Result<Origin, Fault> {
        let place = self.number()?;
        if place == self.places.len() {
            let (kind, name) = (self.text()?, self.text()?);
            self.places.push(Origin::new(kind, name));
        }
        let place = self.places.get(place).cloned();
        let place = place.ok_or("damaged: no such place")?;
        match self.byte()? {
            tag::WHOLE => Ok(place),
            tag::LINE => {
                let line = u32::from_le_bytes(self.array()?);
                Ok(place.at(line, u32::from_le_bytes(self.array()?)))
            }
            tag::ITEMS => {
                let mut spots = Vec::new();
                for _ in 0..self.number()? {
                    let line = u32::from_le_bytes(self.array()?);
                    spots.push((line, u32::from_le_bytes(self.array()?)));
                }
                Ok(place.with_items(spots))
            }
            tag::REVISION => Ok(place.revision(u64::from_le_bytes(self.array()?))),
            _ => Err("damaged: no such origin".to_owned()),
        }
    }

    /// Whatever its bytes are, a part takes some memory.
    fn part(&mut self) -> Result<(), Fault> {
        self.parts += 1;
        match self.parts > MAX_PARTS {
            true => Err("damaged: too many values".to_owned()),
            false => Ok(()),
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value, Fault> {
        nested(depth)?;
        self.part()?;
        Ok(match self.byte()? {
            tag::UNSET => Value::Unset,
            tag::FALSE => Value::from(false),
            tag::TRUE => Value::from(true),
            tag::INT => Value::from(i64::from_le_bytes(self.array()?)),
            tag::BIG => Value::from(i128::from_le_bytes(self.array()?)),
            tag::FLOAT => Value::from(f64::from_bits(u64::from_le_bytes(self.array()?))),
            tag::SPELLED => {
                let value = self.value(depth + 1)?;
                value.with_spelling(self.text()?)
            }
            tag::TEXT => Value::Text(self.text()?.into()),
            tag::LIST => {
                let mut items = Vec::new();
                for _ in 0..self.number()? {
                    items.push(self.value(depth + 1)?);
                }
                Value::List(items.into())
            }
            tag::FIELDS => {
                let mut fields = Vec::new();
                for _ in 0..self.number()? {
                    let name: Box<str> = self.text()?.into();
                    fields.push((name, self.value(depth + 1)?));
                }
                Value::Table(fields.into_iter().collect())
            }
            _ => return Err("damaged: no such value".to_owned()),
        })
    }
}

/// A value that stays as it reads, whatever references its text seems to hold.
fn fixed(leaf: Leaf) -> Resolved {
    Resolved {
        value: Ok(leaf.value.clone()),
        raw: leaf,
        chain: 0,
        secret: false,
        refers: Box::default(),
        fixed: true,
    }
}

fn nested(depth: usize) -> Result<(), Fault> {
    match depth > MAX_NESTING {
        true => Err("damaged: nested too deep".to_owned()),
        false => Ok(()),
    }
}
