//! What differs between two trees, leaf by leaf.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use crate::error::MASK;
use crate::value::Value;
use crate::value::hamt::Entry;
use crate::value::key::{self, Key};
use crate::value::node::{Node, Table};
use crate::value::secret;

/// One leaf (or empty table) of the merged tree that came, went or changed.
#[derive(Clone, Debug)]
pub(crate) struct LeafChange {
    pub(crate) key: Key,
    pub(crate) old: Option<Arc<Entry>>,
    pub(crate) new: Option<Arc<Entry>>,
    /// The value is the same and only the place where it is written differs.
    pub(crate) moved: bool,
}

impl LeafChange {
    /// Whether a list stands or stood here, into which keys may reach, or would if its reference was
    /// not broken.
    pub(crate) fn holds_list(&self) -> bool {
        let mut entries = [&self.old, &self.new].into_iter().flatten();
        entries.any(|entry| match &entry.node {
            Node::Resolved(resolved) if resolved.value.is_err() => true,
            node => matches!(value(node), Some(Value::List(_) | Value::Table(_))),
        })
    }
}

/// The value at a node, after its references; `None` for a table or a broken reference.
pub(crate) fn value(node: &Node) -> Option<&Value> {
    match node {
        Node::Leaf(leaf) => Some(&leaf.value),
        Node::Resolved(resolved) => resolved.value.as_ref().ok(),
        Node::Table(_) => None,
    }
}

/// What a node reads as, for showing.
pub(crate) fn shown(node: &Node, hidden: bool) -> String {
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

/// What differs between two trees.
#[derive(Debug, Default)]
pub(crate) struct Diff {
    pub(crate) changes: Vec<LeafChange>,
    /// How many leaves came, went or changed without being listed.
    pub(crate) uncounted: usize,
}

impl Diff {
    /// Whether both found the same keys, in whatever order.
    pub(crate) fn is(&self, other: &Diff) -> bool {
        let sorted = |diff: &Diff| {
            let list = diff.changes.iter();
            let mut keys: Vec<_> = list.map(|c| (c.key.clone(), c.moved)).collect();
            keys.sort();
            keys
        };
        self.uncounted == other.uncounted && sorted(self) == sorted(other)
    }
}

/// Finds what differs: listed, or merely counted if nobody wants the list. Leaves whose references
/// are still to be followed are left out: they are compared when they have been.
pub(crate) fn diff(old: &Table, new: &Table, listed: bool) -> Diff {
    let mut sink = Sink {
        listed,
        at_hand: None,
        diff: Diff::default(),
    };
    tables(old, new, &mut String::new(), &mut sink);
    sink.diff
}

/// As [`diff`] for two trees that differ at and below a few keys and nowhere else: what that costs
/// is the way to the keys, where comparing the tables on that way costs 32 slots a branch.
pub(crate) fn along(old: &Table, new: &Table, keys: &[&Key], listed: bool) -> Diff {
    let mut keys = keys.to_vec();
    keys.sort_unstable();
    let mut sink = Sink {
        listed,
        at_hand: None,
        diff: Diff::default(),
    };
    let mut at = String::with_capacity(64);
    // The places compared so far, if there is more than one key.
    let mut done: HashSet<String, foldhash::fast::RandomState> = HashSet::default();
    let several = keys.len() > 1;
    for key in keys {
        if several && key.lineage().any(|place| done.contains(place)) {
            continue;
        }
        sink.at_hand = Some(key.clone());
        at.clear();
        let (mut old, mut new) = (old, new);
        let mut segments = key.segments().peekable();
        while let Some(name) = segments.next() {
            key::push_segment(&mut at, &name);
            let (x, y) = (old.get(&name), new.get(&name));
            match (x.map(|x| &x.node), y.map(|y| &y.node)) {
                (Some(Node::Table(a)), Some(Node::Table(b))) if segments.peek().is_some() => {
                    (old, new) = (a, b);
                }
                _ => {
                    pair(x, y, &mut at, &mut sink);
                    break;
                }
            }
        }
        if several {
            done.insert(at.clone());
        }
    }
    sink.diff
}

/// How many leaves of a layer are not there any more, wherever their values went.
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

/// The keys of leaves of a layer that are not there any more, the first ones by name.
pub(crate) fn first_removed(old: &Table, new: &Table, most: usize) -> Vec<String> {
    let mut keys = BTreeSet::new();
    old.walk(&mut String::new(), &mut |key, was| {
        let path: Result<Vec<_>, _> = key::segments(key).collect();
        let now = path.ok().and_then(|path| new.find(&path));
        let is_table = was.node.table().is_some();
        let is_there = now.is_some_and(|now| is_table || now.node.table().is_none());
        let is_early =
            || keys.len() < most || keys.last().is_some_and(|last: &String| key < last.as_str());
        if !is_there && is_early() {
            keys.insert(key.to_owned());
            if keys.len() > most {
                keys.pop_last();
            }
        }
    });
    keys.into_iter().collect()
}

struct Sink {
    listed: bool,
    /// A key that is there already, perhaps the one to be listed.
    at_hand: Option<Key>,
    diff: Diff,
}

fn tables(old: &Table, new: &Table, at: &mut String, sink: &mut Sink) {
    if old.is_empty() && !new.is_empty() && !sink.listed && !new.special() {
        // A first load: nobody asks which, and there are as many as the table knows it has.
        sink.diff.uncounted += new.leaves();
        return;
    }
    old.map().diff(new.map(), &mut |x, y| {
        let Some(either) = x.or(y) else {
            return;
        };
        if let (Some(x), Some(y)) = (x, y) {
            // Most leaves of a document that is loaded again: not worth writing the key for.
            if is_as_before(&x.node, &y.node) {
                return;
            }
        }
        let length = at.len();
        key::push_segment(at, &either.name);
        pair(x, y, at, sink);
        at.truncate(length);
    });
}

/// What differs between two entries of one name.
fn pair(x: Option<&Arc<Entry>>, y: Option<&Arc<Entry>>, at: &mut String, sink: &mut Sink) {
    match (x, y) {
        (Some(x), Some(y)) if Arc::ptr_eq(x, y) => {}
        (Some(x), Some(y)) => match (&x.node, &y.node) {
            (Node::Table(a), Node::Table(b)) => tables(a, b, at, sink),
            (Node::Table(a), _) => {
                whole(x, a, at, sink, true);
                leaf(None, Some(y), at, sink);
            }
            (_, Node::Table(b)) => {
                leaf(Some(x), None, at, sink);
                whole(y, b, at, sink, false);
            }
            _ => leaf(Some(x), Some(y), at, sink),
        },
        (Some(x), None) => match &x.node {
            Node::Table(a) => whole(x, a, at, sink, true),
            _ => leaf(Some(x), None, at, sink),
        },
        (None, Some(y)) => match &y.node {
            Node::Table(b) => whole(y, b, at, sink, false),
            _ => leaf(None, Some(y), at, sink),
        },
        (None, None) => {}
    }
}

/// A table that came or went with all it holds.
fn whole(entry: &Arc<Entry>, table: &Table, at: &mut String, sink: &mut Sink, gone: bool) {
    let (listed, special) = (sink.listed, table.special());
    let mut tell = |at: &str, entry: &Arc<Entry>| {
        if gone {
            leaf(Some(entry), None, at, sink);
        } else {
            leaf(None, Some(entry), at, sink);
        }
    };
    if table.is_empty() {
        tell(at, entry);
    } else if listed || special {
        table.walk(at, &mut tell);
    } else {
        sink.diff.uncounted += table.leaves();
    }
}

fn leaf(old: Option<&Arc<Entry>>, new: Option<&Arc<Entry>>, at: &str, sink: &mut Sink) {
    let mut moved = false;
    if let Some(new) = new {
        if matches!(&new.node, Node::Leaf(leaf) if leaf.value.may_refer()) {
            return;
        }
        if let Some(old) = old {
            if same(&old.node, &new.node) {
                if is_written_alike(&old.node, &new.node) {
                    return;
                }
                moved = true;
            }
        }
    }
    if !sink.listed {
        sink.diff.uncounted += usize::from(!moved);
        return;
    }
    let key = match &sink.at_hand {
        Some(key) if key.as_str() == at => Ok(key.clone()),
        _ => Key::parse(at),
    };
    if let Ok(key) = key {
        let (old, new) = (old.cloned(), new.cloned());
        sink.diff.changes.push(LeafChange {
            key,
            old,
            new,
            moved,
        });
    }
}

/// Whether a leaf reads the same and is written at the same place.
fn is_as_before(old: &Node, new: &Node) -> bool {
    match (old, new) {
        (Node::Leaf(old), Node::Leaf(new)) => {
            old.value == new.value && old.origin == new.origin && !new.value.may_refer()
        }
        _ => false,
    }
}

/// Whether two leaves read the same.
pub(crate) fn same(a: &Node, b: &Node) -> bool {
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

/// Whether two leaves that read the same have the same origin, and, if a reference is broken, the same
/// parts: those without references can be read.
pub(crate) fn is_written_alike(old: &Node, new: &Node) -> bool {
    let is_broken = value(new).is_none();
    old.origin() == new.origin() && (!is_broken || old.written() == new.written())
}

/// Whether two nodes have the same values as written, whatever their origins: references count as
/// texts.
pub(crate) fn same_as_written(a: &Node, b: &Node) -> bool {
    match (a, b) {
        (Node::Table(a), Node::Table(b)) => {
            let mut same = true;
            a.map().diff(b.map(), &mut |x, y| {
                let both = x.zip(y);
                same &= both.is_some_and(|(x, y)| same_as_written(&x.node, &y.node));
            });
            same
        }
        (a, b) => a.written().is_some() && a.written() == b.written(),
    }
}
