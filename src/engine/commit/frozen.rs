//! The keys that keep the value they have at the start, which are *frozen*, and the values that wait for a
//! restart.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::engine::commit::bootstrap::{path_of_leaf_above, same_tables};
use crate::sorted::SortedMap;
use crate::tree::diff;
use crate::tree::snapshot::{Found, Generation, PendingRestarts};
use crate::value::hamt::Entry;
use crate::value::key::Key;
use crate::value::node::{Leaf, Node, Resolved, Table};
use crate::value::origin::Origin;

/// All frozen keys, and what they replace in the layers.
#[derive(Debug, Default)]
pub(crate) struct FrozenKeys {
    keys: Vec<FrozenKey>,
    overlay: Overlay,
}

/// What the frozen keys replace in the merged layers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overlay {
    /// The frozen keys for which the merged layers have another node than the one in force.
    replaced: SortedMap<Key, Replaced>,
    /// Of these, the keys whose value a restart changes.
    pub(crate) pending_restarts: Arc<PendingRestarts>,
}

/// The node of the merged layers at a frozen key.
#[derive(Clone, Debug)]
struct Replaced {
    layered: Option<Arc<Entry>>,
    /// Whether a value of a key above was removed, because the frozen key needs a table there.
    displaced: bool,
}

/// A key that keeps the value it had at the start.
#[derive(Debug)]
struct FrozenKey {
    key: Key,
    path: Vec<String>,
    /// The node at the start, its references resolved for good; `None` if the key was absent.
    node: Option<Node>,
}

impl FrozenKey {
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
        let (node, needs_restart) = match (&self.node, &layered) {
            (None, None) => return self.keep_absent(merged),
            (None, Some(_)) => (None, true),
            (Some(frozen), layered) => {
                let mut needs_restart = false;
                let layered = layered.as_ref().map(|entry| &entry.node);
                let node = replacement(frozen, layered, &mut needs_restart)?;
                (Some(node), needs_restart)
            }
        };
        merged.remove_path(&self.path);
        let mut displaced = false;
        if let Some(node) = node {
            // A value that the layers have above the key by now waits for the restart as well.
            if let Some(above) = path_of_leaf_above(merged, &self.path) {
                merged.remove_path(above);
                displaced = true;
            }
            let _ = merged.put_path(&self.path, node);
        }
        Some((Replaced { layered, displaced }, needs_restart))
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
        let above = path_of_leaf_above(merged, &self.path)?;
        merged.remove_path(above);
        let replaced = Replaced {
            layered: Some(Arc::new(layered)),
            displaced: true,
        };
        Some((replaced, true))
    }
}

/// Returns the node that replaces the one of the merged layers; `None` if they are the same. Sets
/// `needs_restart` if a restart would change the value.
///
/// A leaf that the layers write as at the start keeps the layers' present origin.
fn replacement(frozen: &Node, layered: Option<&Node>, needs_restart: &mut bool) -> Option<Node> {
    match (frozen, layered) {
        (Node::Table(frozen), Some(Node::Table(layered))) => {
            table_replacement(frozen, layered, needs_restart)
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
            *needs_restart = true;
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

fn table_replacement(frozen: &Table, layered: &Table, needs_restart: &mut bool) -> Option<Node> {
    if !frozen.special() && same_tables(frozen, layered) {
        return None;
    }
    let mut differs = false;
    let mut kept = frozen.clone();
    for entry in frozen.map().iter() {
        let layered = layered.get(&entry.name);
        let node = replacement(&entry.node, layered.map(|entry| &entry.node), needs_restart);
        match (node, layered) {
            (Some(node), _) => {
                differs = true;
                kept.put(&entry.name, node);
            }
            (None, Some(layered)) => drop(kept.insert(Arc::clone(layered))),
            (None, None) => {}
        }
    }
    let is_more = |entry: &Arc<Entry>| frozen.get(&entry.name).is_none();
    if layered.map().iter().any(is_more) {
        (differs, *needs_restart) = (true, true);
    }
    differs.then_some(Node::Table(kept))
}

/// The keys to freeze for some keys: an item of a list is frozen with its list, since a list changes as a
/// whole.
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
            .filter_map(|key| FrozenKey::of(key, now))
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
        let mut replaced = SortedMap::new();
        let mut pending_restarts = PendingRestarts::new();
        for frozen in &self.keys {
            if let Some((node, needs_restart)) = frozen.put_into(merged) {
                if needs_restart {
                    pending_restarts.insert(frozen.key.clone(), node.layered.clone());
                }
                replaced.insert(frozen.key.clone(), node);
            }
        }
        Some(Overlay {
            replaced,
            pending_restarts: Arc::new(pending_restarts),
        })
    }

    /// The keys that wait for a restart.
    pub(crate) fn pending_restarts(&self) -> &Arc<PendingRestarts> {
        &self.overlay.pending_restarts
    }

    /// Whether a key waits for a restart that did not wait before, or waited with another value.
    pub(crate) fn has_new(&self, pending_restarts: &PendingRestarts) -> bool {
        let is_known = |key: &Key, entry: &Option<Arc<Entry>>| {
            let before = self.overlay.pending_restarts.get(key);
            before.is_some_and(|before| same_entry(before, entry))
        };
        let mut all = pending_restarts.iter();
        all.any(|(key, entry)| !is_known(key, entry))
    }

    /// Records the overlay of the tree in force. Returns whether other keys wait for a restart than
    /// before.
    pub(crate) fn set_overlay(&mut self, overlay: &Overlay) -> bool {
        let pending_restarts = &overlay.pending_restarts;
        let is_same = self.overlay.pending_restarts.len() == pending_restarts.len()
            && !self.has_new(pending_restarts);
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
