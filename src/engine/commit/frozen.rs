//! The keys that keep the value they have at the start, and the values that wait for a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::engine::commit::bootstrap::{leaf_above, same_tables};
use crate::tree::diff;
use crate::tree::snapshot::{Found, Generation, Pending};
use crate::value::hamt::Entry;
use crate::value::key::Key;
use crate::value::node::{Leaf, Node, Resolved, Table};
use crate::value::origin::Origin;

/// All frozen keys, and what they replace in the layers.
#[derive(Debug, Default)]
pub(crate) struct FrozenKeys {
    keys: Vec<Frozen>,
    overlay: Overlay,
}

/// What the frozen keys replace in the merged layers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overlay {
    /// The frozen keys for which the merged layers have another node than the one in force.
    replaced: BTreeMap<Key, Replaced>,
    /// Of these, the keys whose value a restart changes.
    pub(crate) pending: Arc<Pending>,
}

/// The node of the merged layers at a frozen key.
#[derive(Clone, Debug)]
struct Replaced {
    layered: Option<Arc<Entry>>,
    /// Whether a value that stands further up had to give way.
    displaced: bool,
}

/// A key that keeps the value it had at the start.
#[derive(Debug)]
struct Frozen {
    key: Key,
    path: Vec<String>,
    /// The node at the start, its references resolved for good; `None` if the key was absent.
    node: Option<Node>,
}

impl Frozen {
    /// Freezes a key; `None` if its reference is broken, since it has no value to keep.
    fn of(key: Key, now: &Generation) -> Option<Self> {
        let path: Vec<String> = key.segments().map(|name| name.into_owned()).collect();
        let node = now.root.find(&path).map(|entry| entry.node.clone());
        if matches!(&node, Some(Node::Resolved(resolved)) if resolved.value.is_err()) {
            return None;
        }
        Some(Self {
            key,
            path,
            node: node.as_ref().map(Node::fixed),
        })
    }

    /// Replaces the node of the merged layers by the frozen one. Returns the replaced node, if they
    /// differ, and whether a restart changes the value.
    fn put_into(&self, merged: &mut Table) -> Option<(Replaced, bool)> {
        let layered = merged.find(&self.path).cloned();
        let (node, is_pending) = match (&self.node, &layered) {
            (None, None) => return self.keep_absent(merged),
            (None, Some(_)) => (None, true),
            (Some(frozen), layered) => {
                let mut is_pending = false;
                let layered = layered.as_ref().map(|entry| &entry.node);
                let node = instead(frozen, layered, &mut is_pending)?;
                (Some(node), is_pending)
            }
        };
        merged.remove_path(&self.path);
        let mut displaced = false;
        if let Some(node) = node {
            // A value that stands further up by now has to wait as well.
            if let Some(above) = leaf_above(merged, &self.path) {
                merged.remove_path(&self.path[..above]);
                displaced = true;
            }
            let _ = merged.put_path(&self.path, node);
        }
        Some((Replaced { layered, displaced }, is_pending))
    }

    /// Removes a list that contains the key, which is absent at the start.
    fn keep_absent(&self, merged: &mut Table) -> Option<(Replaced, bool)> {
        let Ok(Found::Inside(value, entry)) = Found::in_tree(merged, self.key.as_str()) else {
            return None;
        };
        let origin = entry.node.origin()?.clone();
        let layered = Entry {
            name: entry.name.clone(),
            node: Node::Leaf(Leaf::new(value.clone(), origin)),
        };
        let above = leaf_above(merged, &self.path)?;
        merged.remove_path(&self.path[..above]);
        let replaced = Replaced {
            layered: Some(Arc::new(layered)),
            displaced: true,
        };
        Some((replaced, true))
    }
}

/// Returns the node that replaces the one of the merged layers; `None` if they are the same.
///
/// A leaf that the layers write as at the start keeps the layers' present origin.
fn instead(frozen: &Node, layered: Option<&Node>, is_pending: &mut bool) -> Option<Node> {
    match (frozen, layered) {
        (Node::Table(frozen), Some(Node::Table(layered))) => {
            table_instead(frozen, layered, is_pending)
        }
        (Node::Resolved(frozen), Some(Node::Leaf(layered)))
            if frozen.raw.value == layered.value =>
        {
            Some(fixed_at(frozen, &layered.origin))
        }
        // Nothing has changed here since the references were followed for the last time.
        (Node::Resolved(frozen), Some(Node::Resolved(layered)))
            if !layered.fixed && frozen.raw.value == layered.raw.value =>
        {
            Some(fixed_at(frozen, &layered.raw.origin))
        }
        (frozen, Some(layered))
            if layered.written().is_some() && frozen.written() == layered.written() =>
        {
            None
        }
        _ => {
            *is_pending = true;
            Some(frozen.clone())
        }
    }
}

/// A frozen value with the origin that it has now.
fn fixed_at(frozen: &Resolved, origin: &Origin) -> Node {
    let mut node = frozen.clone();
    node.raw.origin = origin.clone();
    Node::Resolved(Box::new(node))
}

fn table_instead(frozen: &Table, layered: &Table, is_pending: &mut bool) -> Option<Node> {
    if !frozen.special() && same_tables(frozen, layered) {
        return None;
    }
    let mut differs = false;
    let mut kept = frozen.clone();
    for entry in frozen.map().iter() {
        let there = layered.get(&entry.name);
        let node = instead(&entry.node, there.map(|there| &there.node), is_pending);
        match (node, there) {
            (Some(node), _) => {
                differs = true;
                kept.put(&entry.name, node);
            }
            (None, Some(there)) => drop(kept.insert(Arc::clone(there))),
            (None, None) => {}
        }
    }
    let is_more = |entry: &Arc<Entry>| frozen.get(&entry.name).is_none();
    if layered.map().iter().any(is_more) {
        (differs, *is_pending) = (true, true);
    }
    differs.then_some(Node::Table(kept))
}

/// The keys to freeze for those that are named: an item of a list is frozen with its list, since a
/// list changes as a whole.
fn whole_lists(keys: &[Key], root: &Table) -> BTreeSet<Key> {
    let whole: BTreeSet<Key> = keys.iter().map(|key| whole_list(key, root)).collect();
    let has_above = |key: &Key| {
        let mut above = key.lineage().skip(1);
        above.any(|above| whole.contains(above))
    };
    let outermost = whole.iter().filter(|key| !has_above(key));
    outermost.cloned().collect()
}

/// The key of the list that a key reaches into, or may reach into once there is one.
fn whole_list(key: &Key, root: &Table) -> Key {
    let path: Vec<_> = key.segments().collect();
    let is_index = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
    let mut table = Some(root);
    for (at, name) in path.iter().enumerate() {
        if at > 0 && table.is_none() && is_index(name) {
            return Key::from_segments(&path[..at]).unwrap_or_else(|_| key.clone());
        }
        let entry = table.and_then(|table| table.get(name));
        table = entry.and_then(|entry| entry.node.table());
    }
    key.clone()
}

impl FrozenKeys {
    /// Freezes keys at their present values, without the contextual values of which no case holds.
    /// Returns whether a frozen value still follows other keys.
    pub(crate) fn freeze(
        &mut self,
        keys: &[Key],
        now: &Generation,
        is_passed_over: &dyn Fn(&Key) -> bool,
    ) -> bool {
        let keys = whole_lists(keys, &now.root);
        self.keys = keys
            .into_iter()
            .filter(|key| !is_passed_over(key))
            .filter_map(|key| Frozen::of(key, now))
            .collect();
        let mut nodes = self.keys.iter().filter_map(|frozen| frozen.node.as_ref());
        nodes.any(Node::special)
    }

    /// Puts the nodes of the layers in place of the frozen ones, so that a change can be merged into
    /// the tree. Returns `false` if the layers must be merged again for that.
    #[must_use]
    pub(crate) fn remove_from(&self, merged: &mut Table) -> bool {
        let replaced = &self.overlay.replaced;
        if replaced.values().any(|replaced| replaced.displaced) {
            return false;
        }
        for frozen in &self.keys {
            let Some(replaced) = replaced.get(&frozen.key) else {
                // The node of the layers is in force.
                continue;
            };
            merged.remove_path(&frozen.path);
            if let Some(entry) = &replaced.layered {
                let _ = merged.put_path(&frozen.path, entry.node.clone());
            }
        }
        true
    }

    /// Puts the frozen nodes in place of those of the layers; `None` if no key is frozen.
    ///
    /// All of them, whatever changed: a merged tree may be that of a layer, and contain no frozen
    /// node.
    pub(crate) fn put_into(&self, merged: &mut Table) -> Option<Overlay> {
        if self.keys.is_empty() {
            return None;
        }
        let mut replaced = BTreeMap::new();
        let mut pending = Pending::new();
        for frozen in &self.keys {
            if let Some((node, is_pending)) = frozen.put_into(merged) {
                if is_pending {
                    pending.insert(frozen.key.clone(), node.layered.clone());
                }
                replaced.insert(frozen.key.clone(), node);
            }
        }
        Some(Overlay {
            replaced,
            pending: Arc::new(pending),
        })
    }

    /// The keys that wait for a restart.
    pub(crate) fn pending(&self) -> &Arc<Pending> {
        &self.overlay.pending
    }

    /// The keys that did not wait for a restart before, or for another value.
    pub(crate) fn new_pending<'p>(&self, pending: &'p Pending) -> impl Iterator<Item = &'p Key> {
        let is_known = |key: &Key, entry: &Option<Arc<Entry>>| {
            let before = self.overlay.pending.get(key);
            before.is_some_and(|before| same_entry(before, entry))
        };
        let new = pending.iter();
        new.filter(move |(key, entry)| !is_known(key, entry))
            .map(|(key, _)| key)
    }

    /// Notes the overlay of the tree in force. Returns whether other keys wait for a restart than
    /// before.
    pub(crate) fn set_overlay(&mut self, overlay: &Overlay) -> bool {
        let is_same = self.overlay.pending.len() == overlay.pending.len()
            && self.new_pending(&overlay.pending).next().is_none();
        self.overlay = overlay.clone();
        !is_same
    }
}

fn same_entry(a: &Option<Arc<Entry>>, b: &Option<Arc<Entry>>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => diff::same_as_written(&a.node, &b.node),
        _ => false,
    }
}
