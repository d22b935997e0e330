//! Reads a cache.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::engine::cache::encoding::{
    Form, HEADER, MAGIC, MAX_NESTING, MAX_PARTS, Restored, VERSION, checksum, tag,
};
use crate::value::Value;
use crate::value::key::{Key, MAX_KEY_BYTES, push_segment};
use crate::value::node::{Leaf, Node, Resolved, Table};
use crate::value::origin::Origin;

/// Why bytes are not a cache of this owner.
type Fault = String;

/// Reads a file of `owner`, or returns why it is not one.
pub(in crate::engine::cache) fn read(bytes: &[u8], owner: &str) -> Result<Restored, Fault> {
    let mut reader = Reader {
        bytes,
        places: Vec::new(),
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
    Ok(Restored {
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
    /// Reads the header of `bytes`, and checks that the rest is as it was written.
    fn check_header(&mut self, bytes: &[u8]) -> Result<(), Fault> {
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
        if self.parts > MAX_PARTS {
            Err("damaged: too many values".to_owned())
        } else {
            Ok(())
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
    if depth > MAX_NESTING {
        Err("damaged: nested too deep".to_owned())
    } else {
        Ok(())
    }
}
