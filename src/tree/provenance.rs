//! The leaf and the layer that a value of the merged tree comes from.

use std::sync::Arc;

use crate::tree::found::Found;
use crate::tree::layer;
use crate::tree::merge::{self, ComposedValue};
use crate::tree::snapshot::Generation;
use crate::value::Value;
use crate::value::hamt::Entry;
use crate::value::key::Key;
use crate::value::node::{Leaf, Node, Table};
use crate::value::origin::Origin;

/// Where a value of the merged tree comes from.
#[derive(Default)]
pub(crate) struct Provenance {
    /// The leaf with the origin of the value; `None` for a table.
    pub(crate) leaf: Option<Arc<Entry>>,
    /// The index of the layer that has the value, if only one has it.
    pub(crate) layer: Option<usize>,
}

impl Generation {
    /// Returns where a value comes from.
    ///
    /// An item of a composed list has no leaf of its own, so the returned leaf is made from the item.
    pub(crate) fn provenance(&self, key: &str, found: Found<'_>) -> Provenance {
        let Some(leaf) = found.leaf() else {
            return Provenance::default();
        };
        let Some(composed) = self.composed_value(key, leaf) else {
            return Provenance {
                leaf: Some(Arc::clone(leaf)),
                layer: self.layer_of_leaf(key, leaf),
            };
        };
        let layer = match composed.layers.as_slice() {
            [only] => Some(*only),
            _ => None,
        };
        let leaf = match (found, composed.origin) {
            (Found::Inside(item, _), Some(origin)) => Arc::new(Entry {
                name: leaf.name.clone(),
                node: Node::Leaf(Leaf::new(item.clone(), origin)),
            }),
            _ => Arc::clone(leaf),
        };
        Provenance {
            leaf: Some(leaf),
            layer,
        }
    }

    /// The layers whose values are in force at a key, the strongest first. There is none for a table,
    /// and none for a value that only a roll-back or a pending restart keeps in force.
    pub(crate) fn winners(&self, key: &str, found: Found<'_>) -> Vec<usize> {
        let Some(leaf) = found.leaf() else {
            return Vec::new();
        };
        match self.composed_value(key, leaf) {
            Some(composed) => composed.layers,
            None => self.layer_of_leaf(key, leaf).into_iter().collect(),
        }
    }

    /// The origin of the value at a key.
    pub(crate) fn origin(&self, key: &str, found: Found<'_>) -> Option<Origin> {
        self.provenance(key, found).leaf?.node.origin().cloned()
    }

    /// The strongest layer that has an equal leaf at a key. The layers are sorted, the strongest first.
    fn layer_of_leaf(&self, key: &str, leaf: &Arc<Entry>) -> Option<usize> {
        self.layers.iter().position(|layer| {
            Found::in_tree(&layer.root, key)
                .ok()
                .and_then(|found| found.leaf())
                .is_some_and(|own| same_leaf(own, leaf))
        })
    }

    /// The value at a key, if the leaf at or above it is a composed list.
    fn composed_value(&self, key: &str, leaf: &Arc<Entry>) -> Option<ComposedValue> {
        let is_list = matches!(leaf.node.written(), Some(Value::List(_)));
        // Only these can be composed lists: a list, a broken leaf, which may have been a list, and any leaf if
        // `append` joins lists.
        let is_broken = matches!(&leaf.node, Node::Resolved(it) if it.value.is_err());
        if !is_list && !is_broken && self.append.is_empty() {
            return None;
        }
        let key = Key::parse(key).ok()?;
        let path: Vec<_> = key.segments().collect();
        let roots: Vec<&Table> = self.layers.iter().map(|layer| &layer.root).collect();
        let bootstrap_count = layer::count_bootstrap(&self.layers);
        let composed = merge::find_composed_value(&roots, &self.append, bootstrap_count, &path)?;
        // A pin or a pending restart may keep another value in force.
        same_leaf(&composed.list, leaf).then_some(composed)
    }
}

/// Whether two leaves have the same value as written, and the same origin.
fn same_leaf(a: &Entry, b: &Entry) -> bool {
    // The merged tree shares the entry of a leaf that only one layer has, so the pointers are usually equal.
    if std::ptr::eq(a, b) {
        return true;
    }
    let written = a.node.written();
    written.is_some() && a.node.origin() == b.node.origin() && written == b.node.written()
}
