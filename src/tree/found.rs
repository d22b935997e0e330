//! Finds a key in a tree, and decodes its value.

use std::borrow::Cow;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::decode::{self, Mask, SecretKeys};
use crate::error::{Error, ErrorKind};
use crate::tree::diff;
use crate::value::Value;
use crate::value::hamt::Entry;
use crate::value::key;
use crate::value::node::{InsideBroken, Node, Table};
use crate::value::origin::Origin;
use crate::value::plain::plain;
use crate::value::scan::Seed;

/// What a tree has at a key.
#[derive(Clone, Copy)]
pub(crate) enum Found<'a> {
    Nothing,
    Root(&'a Table),
    Entry(&'a Arc<Entry>),
    /// Inside a list: the value, and the leaf that holds it.
    Inside(&'a Value, &'a Arc<Entry>),
    /// Inside a leaf whose reference is broken.
    Broken(&'a Arc<Entry>),
}

impl<'a> Found<'a> {
    /// Finds a key.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidKey`] for a malformed key.
    pub(crate) fn in_tree(root: &'a Table, key: &str) -> Result<Self, Error> {
        // The fast path: most keys are plain and present.
        if let Some(entry) = root.find_bare(key, Seed::get()) {
            return Ok(Found::Entry(entry));
        }
        let mut table = root;
        let mut segments = key::segments(key);
        let Some(first) = segments.next() else {
            return Ok(Found::Root(root));
        };
        let mut name = first?;
        loop {
            let Some(entry) = table.get(&name) else {
                // A malformed rest of the key is an error all the same.
                return segments
                    .find_map(Result::err)
                    .map_or(Ok(Found::Nothing), Err);
            };
            let Some(next) = segments.next() else {
                return Ok(Found::Entry(entry));
            };
            name = next?;
            match &entry.node {
                Node::Table(below) => table = below,
                leaf => {
                    let mut rest = vec![name];
                    for segment in segments {
                        rest.push(segment?);
                    }
                    if let Node::Resolved(resolved) = leaf {
                        if resolved.value.is_err() {
                            return Ok(match resolved.inside_broken(&rest) {
                                InsideBroken::Value(value) => Found::Inside(value, entry),
                                InsideBroken::Broken => Found::Broken(entry),
                                InsideBroken::Nothing => Found::Nothing,
                            });
                        }
                    }
                    let value = diff::value(leaf);
                    let inside = value.and_then(|value| value.descend(&rest));
                    return Ok(inside.map_or(Found::Nothing, |value| Found::Inside(value, entry)));
                }
            }
        }
    }

    pub(crate) fn is_nothing(&self) -> bool {
        matches!(self, Found::Nothing)
    }

    /// Whether it is a tombstone.
    pub(crate) fn is_unset(&self) -> bool {
        matches!(self, Found::Entry(entry) if entry.node.written() == Some(&Value::Unset))
    }

    /// Whether it reads as absent, by a tombstone or by a reference to nothing.
    pub(crate) fn reads_as_unset(&self) -> bool {
        matches!(self, Found::Entry(entry) if diff::value(&entry.node) == Some(&Value::Unset))
    }

    pub(crate) fn origin(&self) -> Option<&'a Origin> {
        self.leaf().and_then(|entry| entry.node.origin())
    }

    /// The leaf that holds the value; a table has none.
    pub(crate) fn leaf(&self) -> Option<&'a Arc<Entry>> {
        match self {
            Found::Entry(entry) | Found::Inside(_, entry) | Found::Broken(entry) => {
                entry.node.table().is_none().then_some(*entry)
            }
            Found::Nothing | Found::Root(_) => None,
        }
    }

    /// The value for a message; `None` for a table.
    pub(crate) fn description(&self, masked: bool) -> Option<String> {
        let (value, derived) = match self {
            Found::Nothing | Found::Root(_) | Found::Broken(..) => return None,
            Found::Entry(entry) => (diff::value(&entry.node)?, entry),
            Found::Inside(value, entry) => (*value, entry),
        };
        let secret = matches!(&derived.node, Node::Resolved(r) if r.secret);
        Some(decode::describe(value, masked || secret))
    }

    /// The value without serde, for a type that needs none.
    pub(super) fn plain<T: 'static>(&self) -> Option<T> {
        match self {
            Found::Entry(entry) => plain(diff::value(&entry.node)?),
            Found::Inside(value, _) => plain(value),
            Found::Nothing | Found::Root(_) | Found::Broken(..) => None,
        }
    }

    pub(crate) fn decode<T: DeserializeOwned>(
        &self,
        key: &str,
        mut mask: Mask<'_>,
    ) -> Result<T, Error> {
        match self {
            Found::Nothing => decode::from_node(key, None, mask),
            Found::Root(table) => decode::from_table(key, Some(table), mask),
            Found::Entry(entry) => decode::from_node(key, Some(&entry.node), mask),
            Found::Broken(entry) => {
                let error = decode::from_node::<T>(key, Some(&entry.node), mask).err();
                Err(error.unwrap_or_else(|| Error::new(ErrorKind::Reference, "cannot be read")))
            }
            Found::Inside(value, entry) => {
                mask.all |= matches!(&entry.node, Node::Resolved(r) if r.secret);
                let nowhere = Origin::new("", "");
                let origin = entry.node.origin().unwrap_or(&nowhere);
                let decode = |origin: &Origin| decode::from_value(key, value, origin, mask);
                decode(origin).or_else(|error| match item_origin(key, entry) {
                    Some(item) => decode(&item),
                    None => Err(error),
                })
            }
        }
    }

    /// As [`decode`](Self::decode) without a mask, and adds the keys that were read as a secret.
    pub(super) fn decode_recording<T: DeserializeOwned>(
        &self,
        key: &str,
        secrets: &mut SecretKeys,
    ) -> Result<T, Error> {
        match self {
            Found::Nothing => decode::from_node_recording(key, None, false, secrets),
            Found::Root(table) => decode::from_table_recording(key, Some(table), false, secrets),
            Found::Entry(entry) => {
                decode::from_node_recording(key, Some(&entry.node), false, secrets)
            }
            Found::Broken(_) => self.decode(key, false.into()),
            Found::Inside(value, entry) => {
                let nowhere = Origin::new("", "");
                let origin = entry.node.origin().unwrap_or(&nowhere);
                decode::from_value_recording(key, value, origin, false, secrets)
            }
        }
    }
}

/// The origin of the item of a list at a key, below the leaf that is the list.
#[cold]
fn item_origin(key: &str, leaf: &Entry) -> Option<Origin> {
    let Some(Value::List(items)) = diff::value(&leaf.node) else {
        return None;
    };
    let origin = leaf.node.origin()?;
    let path: Vec<String> = key::segments(key)
        .map_while(Result::ok)
        .map(Cow::into_owned)
        .collect();
    // The name of the leaf tells which part of the key leads to it: the first path that is in the list.
    (1..path.len())
        .filter(|end| path[end - 1] == *leaf.name)
        .find_map(|end| origin.of_item(items, &path[end..]))
}
