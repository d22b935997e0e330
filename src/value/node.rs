//! The trees: tables of names, with values at the leaves.

use std::sync::Arc;

use crate::error::{Error, ErrorKind};
use crate::value::Value;
use crate::value::hamt::{Entry, Map};
use crate::value::key::{self, Key};
use crate::value::origin::Origin;
use crate::value::scan::{Scan, Seed};

/// A node of a tree.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    Leaf(Leaf),
    Table(Table),
    /// Only in a merged tree: a leaf whose value has references.
    Resolved(Box<Resolved>),
}

/// A value and where it was written.
#[derive(Clone, Debug)]
pub(crate) struct Leaf {
    pub(crate) value: Value,
    pub(crate) origin: Origin,
}

/// A leaf after its `${references}` were followed.
#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    /// The value that results, or why there is none; the origin is that of the raw leaf.
    pub(crate) value: Result<Value, Error>,
    pub(crate) raw: Leaf,
    /// The length of the longest chain of references that lead to the value.
    pub(crate) chain: u32,
    /// Whether the value depends on a key that may be secret, as far as was known then.
    pub(crate) secret: bool,
    /// The keys it refers to.
    pub(crate) refers: Box<[Key]>,
    /// Whether it stays as it is when these keys change.
    pub(crate) fixed: bool,
}

/// A part of a leaf whose reference is broken.
pub(crate) enum InsideBroken<'a> {
    /// A part without references, which can be read.
    Value(&'a Value),
    /// A part with references, or one that the broken reference would have.
    Broken,
    Nothing,
}

impl Resolved {
    /// The key that this refers to, if it is a single reference and nothing else.
    pub(crate) fn sole_target(&self) -> Option<&Key> {
        let Value::Text(text) = &self.raw.value else {
            return None;
        };
        let is_sole = text.starts_with("${") && text.ends_with('}');
        match &*self.refers {
            [only] if is_sole && text.matches("${").count() == 1 => Some(only),
            _ => None,
        }
    }

    /// Whether this is broken and would be another value as a whole, perhaps a list.
    pub(crate) fn stands_for_another(&self) -> bool {
        let raw = &self.raw.value;
        self.value.is_err() && (matches!(raw, Value::Text(_)) || raw.cases().is_some())
    }

    /// The part at a path inside this leaf, whose reference is broken.
    pub(crate) fn inside_broken<S: AsRef<str>>(&self, path: &[S]) -> InsideBroken<'_> {
        if self.stands_for_another() {
            let mut names = path.iter().map(AsRef::as_ref);
            return if names.any(|name| name.bytes().all(|byte| byte.is_ascii_digit())) {
                InsideBroken::Broken
            } else {
                InsideBroken::Nothing
            };
        }
        match self.raw.value.descend(path) {
            Some(part) if !part.may_refer() => InsideBroken::Value(part),
            Some(_) => InsideBroken::Broken,
            None => InsideBroken::Nothing,
        }
    }
}

/// A key that would be a value and a table at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clash;

/// Creates the error for a key that would be both a value and a table.
pub(crate) fn value_and_table_error(
    key: &str,
    first: Option<&Origin>,
    first_is_table: bool,
    second: &Origin,
) -> Error {
    let (first_kind, second_kind) = if first_is_table {
        ("a table", "a value")
    } else {
        ("a value", "a table")
    };
    let first = first.map(|origin| format!("{first_kind} at {origin}, "));
    let detail = format!(
        "would be both a value and a table: {}{second_kind} at {second}; rename one of them",
        first.unwrap_or_default()
    );
    Error::new(ErrorKind::InvalidKey, detail)
        .with_key_text(key)
        .with_origin(second)
}

/// A table of names.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    map: Map,
    /// The number of leaves below; an empty table counts as one.
    leaves: u32,
    /// Whether there may be a tombstone or a reference below: a layer and the merged tree cannot share such
    /// a table. Set when such a node is added, and never cleared.
    special: bool,
}

impl Leaf {
    pub(crate) fn new(value: Value, origin: Origin) -> Self {
        Self { value, origin }
    }
}

impl Node {
    /// A value as a node. A table becomes a subtree, whose leaves have the same origin.
    pub(crate) fn of(value: Value, origin: &Origin) -> Node {
        match value {
            Value::Table(fields) => {
                let mut table = Table::default();
                for (name, value) in fields {
                    table.put(&name, Node::of(value, origin));
                }
                Node::Table(table)
            }
            value => Node::Leaf(Leaf::new(value, origin.clone())),
        }
    }

    /// This with its references resolved for good.
    pub(crate) fn fixed(&self) -> Node {
        self.map_resolved(&|resolved| {
            let mut fixed = resolved.clone();
            fixed.fixed = true;
            Node::Resolved(Box::new(fixed))
        })
    }

    /// This with each resolved leaf replaced by the result of `map`.
    pub(crate) fn map_resolved(&self, map: &dyn Fn(&Resolved) -> Node) -> Node {
        match self {
            Node::Resolved(resolved) => map(resolved),
            Node::Table(table) if table.special => {
                let mut mapped = table.clone();
                for entry in table.map.iter().filter(|entry| entry.node.special()) {
                    mapped.put(&entry.name, entry.node.map_resolved(map));
                }
                Node::Table(mapped)
            }
            node => node.clone(),
        }
    }

    /// Whether this is a tombstone or a reference, or may contain one; see [`Table`].
    pub(crate) fn special(&self) -> bool {
        match self {
            Node::Leaf(leaf) => matches!(leaf.value, Value::Unset) || leaf.value.may_refer(),
            Node::Table(table) => table.special,
            Node::Resolved(_) => true,
        }
    }

    /// The number of leaves in this; an empty table counts as one.
    fn leaves(&self) -> u32 {
        match self {
            Node::Table(table) if !table.is_empty() => table.leaves,
            _ => 1,
        }
    }

    pub(crate) fn table(&self) -> Option<&Table> {
        match self {
            Node::Table(table) => Some(table),
            _ => None,
        }
    }

    /// The value as its layer wrote it; a table has none.
    pub(crate) fn written(&self) -> Option<&Value> {
        match self {
            Node::Leaf(leaf) => Some(&leaf.value),
            Node::Resolved(resolved) => Some(&resolved.raw.value),
            Node::Table(_) => None,
        }
    }

    /// Where the value was written, or the first value of a table.
    pub(crate) fn first_origin(&self) -> Option<&Origin> {
        let Some(table) = self.table() else {
            return self.origin();
        };
        let mut first = None;
        table.walk(&mut String::new(), &mut |_, entry| {
            let here = entry.node.origin();
            first = match (first, here) {
                (Some(a), Some(b)) if Origin::line(a) <= b.line() => Some(a),
                (a, b) => b.or(a),
            };
        });
        first
    }

    /// Where the value was written; a table has no single origin.
    pub(crate) fn origin(&self) -> Option<&Origin> {
        match self {
            Node::Leaf(leaf) => Some(&leaf.origin),
            Node::Resolved(resolved) => Some(&resolved.raw.origin),
            Node::Table(_) => None,
        }
    }
}

impl Table {
    pub(crate) fn get(&self, name: &str) -> Option<&Arc<Entry>> {
        self.map.get(name)
    }

    pub(crate) fn insert(&mut self, entry: Arc<Entry>) -> Option<Arc<Entry>> {
        self.special |= entry.node.special();
        self.leaves += entry.node.leaves();
        let old = self.map.insert(entry);
        self.subtract_leaves(old.as_ref());
        old
    }

    fn subtract_leaves(&mut self, old: Option<&Arc<Entry>>) {
        if let Some(old) = old {
            self.leaves -= old.node.leaves();
        }
    }

    pub(crate) fn put(&mut self, name: &str, node: Node) -> Option<Arc<Entry>> {
        self.insert(Arc::new(Entry {
            name: name.into(),
            node,
        }))
    }

    pub(crate) fn remove(&mut self, name: &str) -> Option<Arc<Entry>> {
        let old = self.map.remove(name);
        self.subtract_leaves(old.as_ref());
        old
    }

    /// Puts a node at a path, and creates the tables above it.
    ///
    /// Fails if a key above has a value, or if the node would replace a table by a value or a value by a
    /// table. The path must not be empty.
    pub(crate) fn put_path<S: AsRef<str>>(
        &mut self,
        path: &[S],
        node: Node,
    ) -> Result<Option<Arc<Entry>>, Clash> {
        let Some((name, rest)) = path.split_first() else {
            return Err(Clash);
        };
        let name = name.as_ref();
        if rest.is_empty() {
            return match self.map.get(name) {
                Some(old) if old.node.table().is_some() != node.table().is_some() => Err(Clash),
                _ => Ok(self.put(name, node)),
            };
        }
        match self.map.get(name) {
            Some(entry) if entry.node.table().is_none() => return Err(Clash),
            Some(_) => {}
            None => drop(self.put(name, Node::Table(Table::default()))),
        }
        let Some(entry) = self.map.get_mut(name) else {
            return Err(Clash);
        };
        let before = entry.node.leaves();
        let Node::Table(table) = &mut Arc::make_mut(entry).node else {
            return Err(Clash);
        };
        // A clash below is with an existing node, so no table was created above it.
        let old = table.put_path(rest, node)?;
        self.special |= table.special;
        self.leaves = self.leaves - before + table.leaves;
        Ok(old)
    }

    /// The node that clashes with one at a path: a value above, or else the node there. Returns its first
    /// origin, and whether it is a table.
    pub(crate) fn clashing<S: AsRef<str>>(&self, path: &[S]) -> Option<(Option<&Origin>, bool)> {
        let mut on_path = (1..=path.len()).filter_map(|end| self.find(&path[..end]));
        let entry = on_path
            .find(|entry| entry.node.table().is_none())
            .or_else(|| self.find(path))?;
        Some((entry.node.first_origin(), entry.node.table().is_some()))
    }

    /// Removes the entry at a path, and the tables above it that are empty then.
    pub(crate) fn remove_path<S: AsRef<str>>(&mut self, path: &[S]) -> Option<Arc<Entry>> {
        let (name, rest) = path.split_first()?;
        let name = name.as_ref();
        if rest.is_empty() {
            return self.remove(name);
        }
        self.find(path)?;
        let entry = self.map.get_mut(name)?;
        let before = entry.node.leaves();
        let Node::Table(table) = &mut Arc::make_mut(entry).node else {
            return None;
        };
        let old = table.remove_path(rest);
        self.leaves = self.leaves - before + table.leaves;
        if table.is_empty() {
            self.map.remove(name);
        }
        old
    }

    pub(crate) fn map(&self) -> &Map {
        &self.map
    }

    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    pub(crate) fn special(&self) -> bool {
        self.special
    }

    /// The entry at a path below this table; `None` for an empty path.
    pub(crate) fn find<S: AsRef<str>>(
        &self,
        path: impl IntoIterator<Item = S>,
    ) -> Option<&Arc<Entry>> {
        let mut table = self;
        let mut path = path.into_iter().peekable();
        loop {
            let entry = table.get(path.next()?.as_ref())?;
            if path.peek().is_none() {
                return Some(entry);
            }
            table = entry.node.table()?;
        }
    }

    /// The number of existing tables above a path.
    #[cfg(any(feature = "properties", feature = "dotenv"))]
    pub(crate) fn tables_on<S: AsRef<str>>(&self, path: &[S]) -> usize {
        let mut table = self;
        let mut count = 0;
        for name in path.iter().take(path.len().saturating_sub(1)) {
            let Some(below) = table.get(name.as_ref()).and_then(|e| e.node.table()) else {
                break;
            };
            (table, count) = (below, count + 1);
        }
        count
    }

    /// The entry of a key without quotes; `None` also for a key that the full parser has to read.
    #[inline]
    pub(crate) fn find_bare(&self, key: &str, seed: Seed) -> Option<&Arc<Entry>> {
        let key = key.as_bytes();
        let scan = Scan::new(key, seed);
        let mut table = self;
        let mut rest = key;
        loop {
            let (length, hash) = scan.segment(rest);
            let (name, after) = rest.split_at_checked(length)?;
            if name.is_empty() {
                // The root, or not a key.
                return None;
            }
            let entry = table.map.get_hashed(name, hash)?;
            match after {
                [] => return Some(entry),
                [b'.', more @ ..] => rest = more,
                _ => return None,
            }
            table = entry.node.table()?;
        }
    }

    /// The number of leaves below; a list counts as one, and so does an empty table.
    pub(crate) fn leaves(&self) -> usize {
        let leaves = self.leaves as usize;
        debug_assert_eq!(leaves, self.counted(), "the count is kept by each change");
        leaves
    }

    #[allow(dead_code)] // where assertions are off
    fn counted(&self) -> usize {
        let mut count = 0;
        self.walk(&mut String::new(), &mut |_, _| count += 1);
        count
    }

    /// Calls `f` with the canonical key and the node of each leaf and each empty table below.
    pub(crate) fn walk<'a>(&'a self, path: &mut String, f: &mut dyn FnMut(&str, &'a Arc<Entry>)) {
        for entry in self.map.iter() {
            let before = path.len();
            key::push_segment(path, &entry.name);
            match &entry.node {
                Node::Table(table) if !table.is_empty() => table.walk(path, f),
                _ => f(path, entry),
            }
            path.truncate(before);
        }
    }
}
