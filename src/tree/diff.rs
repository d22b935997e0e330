//! Compares two trees leaf by leaf.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use crate::error::MASK;
use crate::sorted;
use crate::value::Value;
use crate::value::hamt::Entry;
use crate::value::key::{self, Key};
use crate::value::node::{Node, Table};
use crate::value::secret;

/// A leaf or an empty table that was added, removed or changed.
#[derive(Clone, Debug)]
pub(crate) struct LeafChange {
    pub(crate) key: Key,
    pub(crate) old: Option<Arc<Entry>>,
    pub(crate) new: Option<Arc<Entry>>,
    /// Whether only the origin differs, and the value is the same.
    pub(crate) moved: bool,
}

impl LeafChange {
    /// Whether the old or the new value is a list, whose items have keys, or a broken reference, which may
    /// be one to a list.
    pub(crate) fn holds_list(&self) -> bool {
        let mut entries = [&self.old, &self.new].into_iter().flatten();
        entries.any(|entry| match &entry.node {
            Node::Resolved(resolved) if resolved.value.is_err() => true,
            node => matches!(value(node), Some(Value::List(_) | Value::Table(_))),
        })
    }
}

/// Returns the value of a node with its references resolved; `None` for a table or a broken reference.
pub(crate) fn value(node: &Node) -> Option<&Value> {
    match node {
        Node::Leaf(leaf) => Some(&leaf.value),
        Node::Resolved(resolved) => resolved.value.as_ref().ok(),
        Node::Table(_) => None,
    }
}

/// Returns the text of a node for reports.
pub(crate) fn display_node(node: &Node, hidden: bool) -> String {
    match value(node) {
        Some(value) if hidden || secret::holds_secret(value) => MASK.to_owned(),
        Some(value) => value.to_string(),
        None => match node {
            Node::Table(table) if table.is_empty() => "an empty table".to_owned(),
            Node::Table(table) => format!("a table of {}", table.leaves()),
            _ => "a broken reference".to_owned(),
        },
    }
}

/// The differences between two trees.
#[derive(Debug, Default)]
pub(crate) struct Diff {
    pub(crate) changes: Vec<LeafChange>,
    /// The number of changes that are not listed, without those that only moved.
    pub(crate) unlisted: usize,
}

impl Diff {
    /// Whether both have the same keys, in any order.
    pub(crate) fn has_same_keys(&self, other: &Diff) -> bool {
        let sorted = |diff: &Diff| {
            let list = diff.changes.iter();
            let mut keys: Vec<_> = list.map(|c| (c.key.clone(), c.moved)).collect();
            sorted::sort(&mut keys);
            keys
        };
        self.unlisted == other.unlisted && sorted(self) == sorted(other)
    }
}

/// Compares two trees, and lists the changes or only counts them. Skips new leaves whose references are
/// not resolved yet.
pub(crate) fn diff(old: &Table, new: &Table, listed: bool) -> Diff {
    let mut builder = DiffBuilder::new(listed);
    builder.diff_tables(old, new, &mut String::new());
    builder.diff
}

/// Compares two trees that differ only at and below some keys.
///
/// The cost is that of the path to each key. [`diff`] compares 32 slots for each branch on the path.
pub(crate) fn diff_at_keys(old: &Table, new: &Table, keys: &[&Key], listed: bool) -> Diff {
    let mut keys = keys.to_vec();
    keys.sort_unstable();
    let mut builder = DiffBuilder::new(listed);
    let mut path = String::with_capacity(64);
    // The compared paths, if there is more than one key.
    let mut done: HashSet<String, foldhash::fast::RandomState> = HashSet::default();
    let several = keys.len() > 1;
    for key in keys {
        if several && key.lineage().any(|above| done.contains(above)) {
            continue;
        }
        builder.parsed_key = Some(key.clone());
        path.clear();
        let (mut old, mut new) = (old, new);
        let mut segments = key.segments().peekable();
        while let Some(name) = segments.next() {
            key::push_segment(&mut path, &name);
            let (x, y) = (old.get(&name), new.get(&name));
            match (x.map(|x| &x.node), y.map(|y| &y.node)) {
                (Some(Node::Table(a)), Some(Node::Table(b))) if segments.peek().is_some() => {
                    (old, new) = (a, b);
                }
                _ => {
                    builder.diff_entries(x, y, &mut path);
                    break;
                }
            }
        }
        if several {
            done.insert(path.clone());
        }
    }
    builder.diff
}

/// Counts the leaves that were removed from a layer, even if their values moved.
pub(crate) fn count_removed(old: &Table, new: &Table) -> usize {
    let mut count = 0;
    old.map().diff(new.map(), &mut |x, y| {
        let Some(x) = x else { return };
        count += match (&x.node, y.map(|y| &y.node)) {
            (Node::Table(a), Some(Node::Table(b))) => count_removed(a, b),
            (Node::Table(a), _) => a.leaves().max(1),
            (_, Some(Node::Leaf(_) | Node::Resolved(_))) => 0,
            (_, _) => 1,
        };
    });
    count
}

/// Returns the first `most` keys, by name, of the leaves that were removed from a layer.
pub(crate) fn first_removed(old: &Table, new: &Table, most: usize) -> Vec<String> {
    let mut keys = BTreeSet::new();
    walk_removed(old, new, &mut |key, _| {
        if keys.len() < most || keys.last().is_some_and(|last: &String| key < last.as_str()) {
            keys.insert(key.to_owned());
            if keys.len() > most {
                keys.pop_last();
            }
        }
    });
    keys.into_iter().collect()
}

/// Calls `f` with the key and the old entry of each leaf that was removed from a layer.
pub(crate) fn walk_removed<'a>(
    old: &'a Table,
    new: &Table,
    f: &mut dyn FnMut(&str, &'a Arc<Entry>),
) {
    old.walk(&mut String::new(), &mut |key, entry| {
        if !has_key(new, key, entry) {
            f(key, entry);
        }
    });
}

/// Whether a layer has a leaf of another layer.
pub(crate) fn has_key(layer: &Table, key: &str, leaf: &Entry) -> bool {
    let path: Result<Vec<_>, _> = key::segments(key).collect();
    let found = path.ok().and_then(|path| layer.find(&path));
    let was_table = leaf.node.table().is_some();
    found.is_some_and(|found| was_table || found.node.table().is_none())
}

/// Returns a layer with the leaves that were removed from it.
pub(crate) fn with_removed(old: &Table, new: &Table) -> Table {
    let mut kept = new.clone();
    old.map().diff(new.map(), &mut |x, y| {
        let Some(x) = x else { return };
        match (&x.node, y.map(|y| &y.node)) {
            (Node::Table(a), Some(Node::Table(b))) => {
                kept.put(&x.name, Node::Table(with_removed(a, b)));
            }
            (Node::Leaf(_) | Node::Resolved(_), Some(Node::Leaf(_) | Node::Resolved(_))) => {}
            // A value and a table of the same key exclude each other.
            (_, _) => drop(kept.insert(Arc::clone(x))),
        }
    });
    kept
}

struct DiffBuilder {
    listed: bool,
    /// A parsed key, which saves parsing the same one again.
    parsed_key: Option<Key>,
    diff: Diff,
}

impl DiffBuilder {
    fn new(listed: bool) -> Self {
        Self {
            listed,
            parsed_key: None,
            diff: Diff::default(),
        }
    }

    fn diff_tables(&mut self, old: &Table, new: &Table, path: &mut String) {
        if old.is_empty() && !new.is_empty() && !self.listed && !new.special() {
            // For a first load, the number of leaves is enough.
            self.diff.unlisted += new.leaves();
            return;
        }
        old.map().diff(new.map(), &mut |x, y| {
            let Some(either) = x.or(y) else {
                return;
            };
            if let (Some(x), Some(y)) = (x, y) {
                // Most leaves of a reloaded document are equal, and need no path.
                if is_unchanged(&x.node, &y.node) {
                    return;
                }
            }
            let length = path.len();
            key::push_segment(path, &either.name);
            self.diff_entries(x, y, path);
            path.truncate(length);
        });
    }

    /// Compares two entries of the same name.
    fn diff_entries(
        &mut self,
        old: Option<&Arc<Entry>>,
        new: Option<&Arc<Entry>>,
        path: &mut String,
    ) {
        if let (Some(x), Some(y)) = (old, new) {
            match (&x.node, &y.node) {
                _ if Arc::ptr_eq(x, y) => return,
                (Node::Table(a), Node::Table(b)) => return self.diff_tables(a, b, path),
                (Node::Table(_), _) | (_, Node::Table(_)) => {}
                _ => return self.add_leaf(old, new, path),
            }
        }
        if let Some(old) = old {
            self.add_all(old, path, Direction::Removed);
        }
        if let Some(new) = new {
            self.add_all(new, path, Direction::Added);
        }
    }

    /// Adds the changes for an entry that was added or removed with all leaves below it.
    fn add_all(&mut self, entry: &Arc<Entry>, path: &mut String, direction: Direction) {
        let listed = self.listed;
        let mut add = |path: &str, entry: &Arc<Entry>| match direction {
            Direction::Added => self.add_leaf(None, Some(entry), path),
            Direction::Removed => self.add_leaf(Some(entry), None, path),
        };
        match &entry.node {
            Node::Table(table) if !table.is_empty() => {
                if listed || table.special() {
                    table.walk(path, &mut add);
                } else {
                    self.diff.unlisted += table.leaves();
                }
            }
            _ => add(path, entry),
        }
    }

    fn add_leaf(&mut self, old: Option<&Arc<Entry>>, new: Option<&Arc<Entry>>, path: &str) {
        let mut moved = false;
        if let Some(new) = new {
            if matches!(&new.node, Node::Leaf(leaf) if leaf.value.may_refer()) {
                return;
            }
            if let Some(old) = old {
                if same_value(&old.node, &new.node) {
                    if same_source(&old.node, &new.node) {
                        return;
                    }
                    moved = true;
                }
            }
        }
        if !self.listed {
            self.diff.unlisted += usize::from(!moved);
            return;
        }
        let key = match &self.parsed_key {
            Some(key) if key.as_str() == path => Ok(key.clone()),
            _ => Key::parse(path),
        };
        if let Ok(key) = key {
            let (old, new) = (old.cloned(), new.cloned());
            self.diff.changes.push(LeafChange {
                key,
                old,
                new,
                moved,
            });
        }
    }
}

#[derive(Clone, Copy)]
enum Direction {
    Added,
    Removed,
}

/// Whether two leaves have the same value and origin.
fn is_unchanged(old: &Node, new: &Node) -> bool {
    match (old, new) {
        (Node::Leaf(old), Node::Leaf(new)) => {
            old.value == new.value && old.origin == new.origin && !new.value.may_refer()
        }
        _ => false,
    }
}

/// Whether two leaves have the same value with references resolved. Errors are compared by their texts.
pub(crate) fn same_value(a: &Node, b: &Node) -> bool {
    match (a, b) {
        (Node::Resolved(a), Node::Resolved(b)) => match (&a.value, &b.value) {
            (Ok(a), Ok(b)) => a == b,
            (Err(a), Err(b)) => a.to_string() == b.to_string(),
            _ => false,
        },
        (Node::Table(a), Node::Table(b)) => a.is_empty() && b.is_empty(),
        _ => matches!((value(a), value(b)), (Some(a), Some(b)) if a == b),
    }
}

/// Whether two leaves of the same value have the same origin and, if a reference is broken, the same text:
/// its parts without references can be read.
pub(crate) fn same_source(old: &Node, new: &Node) -> bool {
    let is_broken = value(new).is_none();
    old.origin() == new.origin() && (!is_broken || old.written() == new.written())
}

/// Whether two nodes have the same values before references are resolved. Origins do not matter.
pub(crate) fn same_as_written(a: &Node, b: &Node) -> bool {
    match (a, b) {
        (Node::Table(a), Node::Table(b)) => {
            let mut same = true;
            a.map().diff(b.map(), &mut |x, y| {
                let pair = x.zip(y);
                same &= pair.is_some_and(|(x, y)| same_as_written(&x.node, &y.node));
            });
            same
        }
        (a, b) => a.written().is_some() && a.written() == b.written(),
    }
}
