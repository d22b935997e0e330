//! Where a type reads secrets in a value whose references are broken.
//!
//! Such a value has no items and no fields, so the decoding ends before it gets to a secret in it. It is
//! read once more with its references as they are written, only to find the keys of the secrets.

use std::cell::Cell;

use serde::de::DeserializeOwned;

use crate::decode::{self, SecretKeys};
use crate::tree::snapshot::{Found, Generation};
use crate::value::Value;
use crate::value::key::Key;
use crate::value::node::{Node, Resolved};

/// A node whose broken values are as they are written; `None` if no value is broken.
fn as_written(node: &Node) -> Option<Node> {
    let is_broken = Cell::new(false);
    let written = node.map_resolved(&|resolved| match &resolved.value {
        Ok(_) => Node::Resolved(Box::new(resolved.clone())),
        Err(_) => {
            is_broken.set(true);
            Node::Leaf(resolved.raw.clone())
        }
    });
    is_broken.get().then_some(written)
}

/// Adds the keys at and below `key` that a `T` reads as secrets although references there are broken.
pub(crate) fn add_secrets<T: DeserializeOwned>(key: &str, node: &Node, secrets: &mut SecretKeys) {
    if let Some(written) = as_written(node) {
        drop(decode::from_node_recording::<T>(
            key,
            Some(&written),
            false,
            secrets,
        ));
    }
}

impl Generation {
    /// As [`add_secrets`], for the value of a key.
    pub(crate) fn add_broken_secrets<T: DeserializeOwned>(
        &self,
        key: &str,
        found: Found<'_>,
        secrets: &mut SecretKeys,
    ) {
        match found {
            Found::Nothing | Found::Inside(..) => {}
            Found::Root(table) => add_secrets::<T>(key, &Node::Table(table.clone()), secrets),
            Found::Entry(entry) => add_secrets::<T>(key, &entry.node, secrets),
            Found::Broken(entry) => {
                let Some((value, origin)) = self.written_inside(key).zip(entry.node.origin())
                else {
                    return;
                };
                drop(decode::from_value_recording::<T>(
                    key, value, origin, false, secrets,
                ));
            }
        }
    }

    /// A part of a value with references, as it is written; the whole value if it would become another.
    fn written_inside(&self, key: &str) -> Option<&Value> {
        let (resolved, path) = self.resolved_above(key)?;
        let written = &resolved.raw.value;
        written.descend(&path).or(Some(written))
    }

    /// The value with references that holds the value of a key, and the path from there.
    fn resolved_above(&self, key: &str) -> Option<(&Resolved, Vec<String>)> {
        let key = Key::parse(key).ok()?;
        let path: Vec<String> = key.segments().map(Into::into).collect();
        (1..path.len()).find_map(|end| match &self.root.find(&path[..end])?.node {
            Node::Resolved(resolved) => Some((&**resolved, path[end..].to_vec())),
            Node::Leaf(_) | Node::Table(_) => None,
        })
    }
}
