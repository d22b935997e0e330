//! Names that mean the same thing to a type and come from several layers: the variants of an enum, or a
//! field and its alias. The one of the strongest layer counts.

use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::decode;
use crate::error::Error;
use crate::tree::snapshot::{Found, Generation};
use crate::value::Value;
use crate::value::hamt::Entry;
use crate::value::key::{self, Key, push_segment};
use crate::value::node::Node;

/// As many places of one value are decided.
const MOST: usize = 64;

impl Generation {
    /// What stands at a key without the names that a stronger layer replaces by others; `None` if there
    /// are none. `error` is what decoding it led to.
    pub(crate) fn without_rivals<T: DeserializeOwned>(
        &self,
        key: &str,
        found: Found<'_>,
        error: Error,
    ) -> Option<Arc<Entry>> {
        let mut node = match found {
            Found::Root(table) => Node::Table(table.clone()),
            Found::Entry(entry) => entry.node.clone(),
            Found::Nothing | Found::Inside(..) | Found::Broken(_) => return None,
        };
        let mut error = error;
        let mut changed = false;
        for _ in 0..MOST {
            let rivals: Vec<&Error> = error.iter().filter(|it| !it.rivals().is_empty()).collect();
            let mut removed = false;
            for one in rivals {
                removed |= self.keep_strongest(&mut node, key, one).is_some();
            }
            if !removed {
                break;
            }
            changed = true;
            match decode::from_node::<T>(key, Some(&node), true) {
                Ok(_) => break,
                Err(next) => error = next,
            }
        }
        let name = "".into();
        changed.then(|| Arc::new(Entry { name, node }))
    }

    /// Leaves the one of some names that the strongest layer sets; `None` if that is not one.
    fn keep_strongest(&self, node: &mut Node, key: &str, error: &Error) -> Option<()> {
        let at = error.key_text().unwrap_or_default();
        let names = error.rivals();
        let sets = |root, name: &str| {
            let mut place = at.to_owned();
            push_segment(&mut place, name);
            Found::in_tree(root, &place).is_ok_and(|found| !found.is_nothing() && !found.is_unset())
        };
        let strongest = self.layers.iter().find_map(|layer| {
            let set: Vec<&str> = names
                .iter()
                .map(|name| &**name)
                .filter(|name| sets(&layer.root, name))
                .collect();
            (!set.is_empty()).then_some(set)
        })?;
        let [kept] = strongest.as_slice() else {
            return None;
        };
        let depth = Key::parse(key).ok()?.segments().count();
        let path: Vec<_> = key::segments(at).collect::<Result<_, _>>().ok()?;
        let below = path.get(depth..)?;
        let mut removed = None;
        for name in names.iter().filter(|name| &***name != *kept) {
            let mut path: Vec<&str> = below.iter().map(AsRef::as_ref).collect();
            path.push(name);
            if remove(node, &path).is_some() {
                removed = Some(());
            }
        }
        removed
    }
}

/// Takes away what stands at a path, which may lead into a list.
fn remove(node: &mut Node, path: &[&str]) -> Option<()> {
    let table = match node {
        Node::Table(table) => table,
        Node::Leaf(leaf) => return remove_inside(&mut leaf.value, path),
        Node::Resolved(resolved) => {
            let value = resolved.value.as_mut().ok()?;
            return remove_inside(value, path);
        }
    };
    if table.remove_path(path).is_some() {
        return Some(());
    }
    let is_leaf = |at: &usize| {
        let entry = table.find(&path[..*at]);
        entry.is_some_and(|entry| !matches!(entry.node, Node::Table(_)))
    };
    let (way, inside) = path.split_at((1..path.len()).find(is_leaf)?);
    let mut leaf = table.find(way)?.node.clone();
    remove(&mut leaf, inside)?;
    table.put_path(way, leaf).ok().map(drop)
}

fn remove_inside(value: &mut Value, path: &[&str]) -> Option<()> {
    let (name, rest) = path.split_first()?;
    match value {
        Value::List(items) => remove_inside(items.get_mut(name.parse::<usize>().ok()?)?, rest),
        Value::Table(fields) if rest.is_empty() => fields.remove(name).map(drop),
        Value::Table(fields) => remove_inside(fields.get_mut(name)?, rest),
        _ => None,
    }
}
