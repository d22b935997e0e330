//! The leaf and the layer that a value of the merged tree comes from.

use std::sync::Arc;

use crate::tree::found::Found;
use crate::tree::layer;
use crate::tree::merge::{self, SharedList};
use crate::tree::snapshot::Generation;
use crate::value::Value;
use crate::value::hamt::Entry;
use crate::value::key::Key;
use crate::value::node::{Leaf, Node, Table};
use crate::value::origin::Origin;

impl Generation {
    /// The leaf of a value, with its origin, and the index of the layer if only one layer has the value.
    ///
    /// For an item of a list of several layers, the leaf is made up of the item and its origin.
    pub(crate) fn source_leaf(
        &self,
        key: &str,
        found: Found<'_>,
    ) -> (Option<Arc<Entry>>, Option<usize>) {
        let Some(leaf) = found.leaf() else {
            return (None, None);
        };
        let Some(shared) = self.shared_list(key, leaf) else {
            return (Some(Arc::clone(leaf)), self.layer_of_leaf(key, leaf));
        };
        let layer = match shared.layers.as_slice() {
            [only] => Some(*only),
            _ => None,
        };
        let item = match found {
            Found::Inside(value, _) => shared.origin.map(|origin| {
                let node = Node::Leaf(Leaf::new(value.clone(), origin));
                let name = leaf.name.clone();
                Arc::new(Entry { name, node })
            }),
            _ => None,
        };
        (item.or_else(|| Some(Arc::clone(leaf))), layer)
    }

    /// The layers whose values are in force at a key, the strongest first. There is none for a table,
    /// and none for a value that only a roll-back or a pending restart keeps in force.
    pub(crate) fn winners(&self, key: &str, found: Found<'_>) -> Vec<usize> {
        let Some(leaf) = found.leaf() else {
            return Vec::new();
        };
        match self.shared_list(key, leaf) {
            Some(shared) => shared.layers,
            None => self.layer_of_leaf(key, leaf).into_iter().collect(),
        }
    }

    /// The origin of the value at a key.
    pub(crate) fn origin(&self, key: &str, found: Found<'_>) -> Option<Origin> {
        let (leaf, _) = self.source_leaf(key, found);
        leaf?.node.origin().cloned()
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

    /// The list of several layers that is in force at or above a key, if there is one.
    fn shared_list(&self, key: &str, leaf: &Arc<Entry>) -> Option<SharedList> {
        let is_list = matches!(leaf.node.written(), Some(Value::List(_)));
        // Only these can have parts of several layers: a list, a broken leaf, which may have been a list, and any
        // leaf if `append` joins lists.
        let is_broken = matches!(&leaf.node, Node::Resolved(it) if it.value.is_err());
        if !is_list && !is_broken && self.append.is_empty() {
            return None;
        }
        let key = Key::parse(key).ok()?;
        let path: Vec<_> = key.segments().collect();
        let roots: Vec<&Table> = self.layers.iter().map(|layer| &layer.root).collect();
        let bootstrap_count = layer::count_bootstrap(&self.layers);
        let shared = merge::shared_list(&roots, &self.append, bootstrap_count, &path)?;
        // A pin or a pending restart may keep another value in force.
        same_leaf(&shared.entry, leaf).then_some(shared)
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
