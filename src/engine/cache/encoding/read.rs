//! Reads a cache.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::engine::cache::encoding::{
    HEADER, MAGIC, MAX_NESTING, MAX_PARTS, Restored, TextSyntax, VERSION, checksum, tag,
};
use crate::value::Value;
use crate::value::key::{Key, MAX_KEY_BYTES, push_segment};
use crate::value::node::{Leaf, Node, Resolved, Table};
use crate::value::origin::Origin;

/// The reason why bytes are not a cache of this owner.
type Reason = String;

/// Reads a file of `owner`, or returns why it is not one.
pub(in crate::engine::cache) fn read(bytes: &[u8], owner: &str) -> Result<Restored, Reason> {
    let mut reader = Reader {
        bytes,
        origins: Vec::new(),
        path: String::new(),
        parts: 0,
    };
    reader.check_header(bytes)?;
    let found = reader.text()?;
    if found != owner {
        return Err(format!("of another source, {found:?}"));
    }
    let seconds = u64::from_le_bytes(reader.array()?);
    let nanos = u32::from_le_bytes(reader.array()?);
    let since = Duration::from_secs(seconds).checked_add(Duration::from_nanos(nanos.into()));
    let confirmed = since.and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since));
    let confirmed = confirmed.ok_or("damaged: no such time")?;
    let syntax = match reader.byte()? {
        tag::REFERENCES => TextSyntax::References,
        tag::LITERAL => TextSyntax::Literal,
        _ => return Err("damaged: no such syntax of texts".to_owned()),
    };
    let revised = reader.byte()? != 0;
    let revision = reader.text()?;
    let revision = revised.then(|| Arc::from(revision));
    let root = reader.table(0)?;
    let missing_secrets = reader.names()?;
    let hidden_defaults = if reader.bytes.is_empty() {
        Vec::new()
    } else {
        reader.names()?
    };
    if !reader.bytes.is_empty() {
        return Err(format!("damaged: {} bytes too many", reader.bytes.len()));
    }
    Ok(Restored {
        confirmed,
        syntax,
        revision,
        root,
        missing_secrets,
        hidden_defaults,
    })
}

struct Reader<'a> {
    /// The rest of the bytes.
    bytes: &'a [u8],
    /// The origins whose kind and name were read so far, without positions.
    origins: Vec<Origin>,
    path: String,
    /// The number of names, values and items so far.
    parts: u32,
}

impl<'a> Reader<'a> {
    /// Reads the header of `bytes`, and checks that the rest is as it was written.
    fn check_header(&mut self, bytes: &[u8]) -> Result<(), Reason> {
        let short = |_| format!("cut short: {} bytes are not even a header", bytes.len());
        if self.array().map_err(short)? != MAGIC {
            return Err("not a cache: it begins with other bytes".to_owned());
        }
        let version = u32::from_le_bytes(self.array().map_err(short)?);
        if version != VERSION {
            return Err(format!(
                "of format version {version}, and this program reads version {VERSION}"
            ));
        }
        let length = u64::from_le_bytes(self.array().map_err(short)?);
        let sum = u32::from_le_bytes(self.array().map_err(short)?);
        let rest = self.bytes;
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
        Ok(())
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Reason> {
        let ended = || "damaged: it ends in the middle".to_owned();
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or_else(ended)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Reason> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn byte(&mut self) -> Result<u8, Reason> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    fn number(&mut self) -> Result<usize, Reason> {
        let number = u32::from_le_bytes(self.array()?);
        usize::try_from(number).map_err(|_| "damaged: too large a number".to_owned())
    }

    fn text(&mut self) -> Result<&'a str, Reason> {
        let length = self.number()?;
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).map_err(|_| "damaged: not UTF-8".to_owned())
    }

    fn names(&mut self) -> Result<Vec<Key>, Reason> {
        let mut names = Vec::new();
        for _ in 0..self.number()? {
            let key = Key::parse(self.text()?);
            names.push(key.map_err(|_| "damaged: no such key")?);
        }
        Ok(names)
    }

    fn table(&mut self, depth: usize) -> Result<Table, Reason> {
        check_nesting(depth)?;
        let mut table = Table::default();
        for _ in 0..self.number()? {
            self.count_part()?;
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

    fn origin(&mut self) -> Result<Origin, Reason> {
        let index = self.number()?;
        if index == self.origins.len() {
            let (kind, name) = (self.text()?, self.text()?);
            self.origins.push(Origin::new(kind, name));
        }
        let origin = self.origins.get(index).cloned();
        let origin = origin.ok_or("damaged: no such origin")?;
        match self.byte()? {
            tag::WHOLE => Ok(origin),
            tag::LINE => {
                let line = u32::from_le_bytes(self.array()?);
                Ok(origin.at(line, u32::from_le_bytes(self.array()?)))
            }
            tag::ITEMS => {
                let mut positions = Vec::new();
                for _ in 0..self.number()? {
                    let line = u32::from_le_bytes(self.array()?);
                    positions.push((line, u32::from_le_bytes(self.array()?)));
                }
                Ok(origin.with_items(positions))
            }
            tag::REVISION => Ok(origin.revision(u64::from_le_bytes(self.array()?))),
            _ => Err("damaged: no such position".to_owned()),
        }
    }

    /// Bounds the parts: even a part of one byte takes memory.
    fn count_part(&mut self) -> Result<(), Reason> {
        self.parts += 1;
        if self.parts > MAX_PARTS {
            Err("damaged: too many values".to_owned())
        } else {
            Ok(())
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value, Reason> {
        check_nesting(depth)?;
        self.count_part()?;
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

/// A value that is not resolved again, even if its text looks like a reference.
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

fn check_nesting(depth: usize) -> Result<(), Reason> {
    if depth > MAX_NESTING {
        Err("damaged: nested too deep".to_owned())
    } else {
        Ok(())
    }
}
