//! A document: all values of one source, as a tree with origins.

mod report;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::error::{Error, ErrorKind};
use crate::value::Value;
use crate::value::hamt::Entry;
use crate::value::key::{self, Key};
use crate::value::literal;
use crate::value::node::{self, Leaf, Node, Table};
use crate::value::origin::Origin;
use crate::value::secret::Credentials;
use crate::value::unread::Unread;

pub(crate) use report::Report;

/// A saved key of a document, with all below it.
pub(crate) enum SavedKey {
    Entry(Arc<Entry>),
    /// The key was absent. This many tables were above it: [`Document::restore_key`] creates the last one again if
    /// removing the key has removed it as an empty table.
    Absent(usize),
}

impl SavedKey {
    /// This, so that an absent key restores no table above it.
    pub(crate) fn without_tables(self) -> Self {
        match self {
            SavedKey::Entry(entry) => SavedKey::Entry(entry),
            SavedKey::Absent(_) => SavedKey::Absent(0),
        }
    }
}

/// The values of a source at one moment: keys, values, and where each was written.
///
/// ```
/// use liveprops::{Document, Origin, Value};
///
/// let mut document = Document::new();
/// document.set("fridge.temperature", 4, Origin::new("fridge", "door"))?;
/// assert_eq!(document.get("fridge.temperature"), Some(&Value::from(4)));
/// assert!(document.set("fridge", true, Origin::new("fridge", "door")).is_err());
/// # Ok::<(), liveprops::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Document {
    root: Table,
    report: Report,
    /// The parts that the source could not read: their last good values stay.
    unread: Unread,
    /// Texts as they were before their format escaped `${`: [`escape_references`](Self::escape_references) would
    /// escape them twice.
    unescaped: Vec<(Key, String)>,
    pub(crate) revision: Option<Arc<str>>,
}

impl Document {
    /// Creates a document without keys.
    pub fn new() -> Self {
        Self::default()
    }

    #[cfg(any(
        feature = "toml",
        feature = "json",
        feature = "yaml",
        feature = "properties",
        feature = "dotenv"
    ))]
    pub(crate) fn from_table(root: Table) -> Self {
        Self {
            root,
            ..Self::default()
        }
    }

    /// Sets a key; a table as value becomes a subtree.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidKey`] if the key is malformed, is the root, or would be both a
    /// value and a table; [`ErrorKind::TooLarge`] over the limits of a [`Key`].
    pub fn set(&mut self, key: &str, value: impl Into<Value>, origin: Origin) -> Result<(), Error> {
        self.set_key(&Key::parse(key)?, value.into(), &origin)
    }

    /// Sets a key given as its segments, dots and all.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidKey`] if the path is empty or has an empty segment, or if the key would be both a value and
    /// a table; [`ErrorKind::TooLarge`] over the limits of a [`Key`].
    pub fn set_path(
        &mut self,
        path: &[Cow<'_, str>],
        value: Value,
        origin: &Origin,
    ) -> Result<(), Error> {
        self.put(&Key::from_segments(path)?, path, value, origin)
    }

    pub(crate) fn set_key(
        &mut self,
        key: &Key,
        value: Value,
        origin: &Origin,
    ) -> Result<(), Error> {
        let path: Vec<_> = key.segments().collect();
        self.put(key, &path, value, origin)
    }

    fn put(
        &mut self,
        key: &Key,
        path: &[Cow<'_, str>],
        value: Value,
        origin: &Origin,
    ) -> Result<(), Error> {
        if key.is_root() {
            let detail = "the root cannot have a value; set the keys below it";
            return Err(Error::new(ErrorKind::InvalidKey, detail).with_origin(origin));
        }
        let fits = value.check(path.len());
        fits.map_err(|error| error.with_key(key).with_origin(origin))?;
        match self.root.put_path(path, Node::of(value, origin)) {
            Ok(_) => Ok(()),
            Err(_) => Err(clash_error(&self.root, key, path, origin)),
        }
    }

    /// Removes a key and all below it. Returns whether it existed; the root cannot be removed.
    pub fn remove(&mut self, key: &str) -> bool {
        Key::parse(key).is_ok_and(|key| !key.is_root() && self.remove_key(&key))
    }

    /// Adds a table at a key that is absent.
    #[cfg(any(
        feature = "consul",
        feature = "etcd",
        feature = "nats",
        feature = "zookeeper"
    ))]
    pub(crate) fn mount(&mut self, key: &Key, table: Table, origin: &Origin) -> Result<(), Error> {
        let path: Vec<_> = key.segments().collect();
        let reject =
            |kind, detail: &str| Err(Error::new(kind, detail).with_key(key).with_origin(origin));
        let mut deepest = 0;
        table.walk(&mut String::new(), &mut |key, entry| {
            let inside = match &entry.node {
                Node::Leaf(leaf) => leaf.value.depth(),
                _ => 0,
            };
            deepest = deepest.max(key::segments(key).count() + inside);
        });
        if path.len() + deepest > key::MAX_DEPTH {
            let detail = format!("nested deeper than {} levels", key::MAX_DEPTH);
            return reject(ErrorKind::TooLarge, &detail);
        }
        let exists = self.root.find(&path).is_some();
        if exists || self.root.put_path(&path, Node::Table(table)).is_err() {
            return Err(clash_error(&self.root, key, &path, origin));
        }
        Ok(())
    }

    /// Removes a key and all below it; the root is the whole document. Returns whether it existed.
    pub(crate) fn remove_key(&mut self, key: &Key) -> bool {
        if key.is_root() {
            return !std::mem::take(&mut self.root).is_empty();
        }
        let path: Vec<_> = key.segments().collect();
        self.root.remove_path(&path).is_some()
    }

    /// Saves a key and all below it, for [`restore_key`](Self::restore_key).
    pub(crate) fn save_key(&self, key: &Key) -> SavedKey {
        let mut table = &self.root;
        let mut segments = key.segments().peekable();
        let mut tables = 0;
        while let Some(segment) = segments.next() {
            let Some(entry) = table.get(&segment) else {
                break;
            };
            if segments.peek().is_none() {
                return SavedKey::Entry(Arc::clone(entry));
            }
            let Some(below) = entry.node.table() else {
                break;
            };
            (table, tables) = (below, tables + 1);
        }
        SavedKey::Absent(tables)
    }

    /// Restores a key and all below it.
    pub(crate) fn restore_key(&mut self, key: &Key, saved: &SavedKey) {
        let path: Vec<_> = key.segments().collect();
        self.root.remove_path(&path);
        // Fails if a key above has a value by now: that value stays.
        let _ = match saved {
            SavedKey::Entry(entry) => self.root.put_path(&path, entry.node.clone()),
            // The path of no table is the root, which is always found.
            SavedKey::Absent(tables) if self.root.find(&path[..*tables]).is_none() => {
                let empty = Node::Table(Table::default());
                self.root.put_path(&path[..*tables], empty)
            }
            SavedKey::Absent(_) => Ok(None),
        };
    }

    /// The value of a key; `None` for a table.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.leaf(key).map(|leaf| &leaf.value)
    }

    /// Where the value of a key was written.
    pub fn origin(&self, key: &str) -> Option<&Origin> {
        self.leaf(key).map(|leaf| &leaf.origin)
    }

    fn leaf(&self, key: &str) -> Option<&Leaf> {
        match &self
            .root
            .find(key::segments(key).map_while(Result::ok))?
            .node
        {
            Node::Leaf(leaf) => Some(leaf),
            _ => None,
        }
    }

    /// All keys in order, with values and origins.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &Value, &Origin)> {
        let mut all = Vec::new();
        self.root.walk(&mut String::new(), &mut |key, entry| {
            // Keys were checked when they were set, so each can be parsed.
            if let (Ok(key), Node::Leaf(_)) = (Key::parse(key), &entry.node) {
                all.push(key);
            }
        });
        all.sort();
        all.into_iter().filter_map(|key| {
            let leaf = self.leaf(key.as_str())?;
            Some((key, &leaf.value, &leaf.origin))
        })
    }

    /// The number of keys that [`iter`](Self::iter) yields: a table is no key. The call takes time in
    /// proportion to the document.
    pub fn len(&self) -> usize {
        let mut count = 0;
        self.root.walk(&mut String::new(), &mut |_, entry| {
            count += usize::from(entry.node.table().is_none());
        });
        count
    }

    /// Whether there is no key and no table. A document of empty tables has no key and is not empty.
    pub fn is_empty(&self) -> bool {
        self.root.is_empty()
    }

    /// Lays another document over this one: tables merge, values and lists replace. The revision stays.
    pub fn merge(&mut self, over: Document) {
        merge_tables(&mut self.root, &over.root);
        let is_replaced = |key: &Key| over.root.find(key.segments()).is_some();
        self.unescaped.retain(|(key, _)| !is_replaced(key));
        self.unescaped.extend(over.unescaped);
        self.report.problems.extend(over.report.problems);
        self.report.hints.extend(over.report.hints);
        self.unread.extend(&over.unread);
    }

    /// Escapes each `${` in the values, so that none is a reference.
    pub(crate) fn escape_references(&mut self) {
        self.root.escape_references();
        for (key, text) in std::mem::take(&mut self.unescaped) {
            let path: Vec<_> = key.segments().collect();
            let leaf = self.leaf(key.as_str());
            if let Some(origin) = leaf.map(|leaf| leaf.origin.clone()) {
                let value = Value::from(literal::escape(&text));
                // A leaf replaces a leaf.
                let _ = self
                    .root
                    .put_path(&path, Node::Leaf(Leaf::new(value, origin)));
            }
        }
    }

    /// Records the unescaped form of a text that the format has escaped.
    #[cfg(feature = "dotenv")]
    pub(crate) fn set_unescaped(&mut self, key: Key, text: String) {
        self.unescaped.push((key, text));
    }

    /// Names the store's revision of this document, such as an index or an entity tag, to be shown
    /// in the source's health.
    pub fn set_revision(&mut self, revision: impl Into<Arc<str>>) {
        self.revision = Some(revision.into());
    }

    /// The store's revision of this document, if the source names one.
    pub fn revision(&self) -> Option<&str> {
        self.revision.as_deref()
    }

    /// Masks credentials in the problems and in the revision.
    pub(crate) fn mask(&mut self, credentials: &Credentials) {
        let report = &mut self.report;
        for problem in report.problems.iter_mut().chain(&mut report.hints) {
            *problem = credentials.mask_error(problem.clone());
        }
        let revision = self.revision.as_deref();
        if let Some(masked) = revision.and_then(|revision| credentials.masked(revision)) {
            self.revision = Some(masked.into());
        }
    }

    pub(crate) fn root(&self) -> &Table {
        &self.root
    }

    pub(crate) fn into_parts(self) -> (Table, Report) {
        (self.root, self.report)
    }
}

/// The error of a key that would be both a value and a table, or that has a value already.
pub(crate) fn clash_error<S: AsRef<str>>(
    root: &Table,
    key: &Key,
    path: &[S],
    origin: &Origin,
) -> Error {
    let (first, is_table) = root.clashing(path).unwrap_or_default();
    node::value_and_table_error(key.as_str(), first, is_table, origin)
}

fn merge_tables(base: &mut Table, over: &Table) {
    for entry in over.map().iter() {
        let below = base
            .get(&entry.name)
            .and_then(|old| old.node.table().cloned());
        match (&entry.node, below) {
            (Node::Table(over), Some(mut merged)) => {
                merge_tables(&mut merged, over);
                base.put(&entry.name, Node::Table(merged));
            }
            _ => {
                base.insert(entry.clone());
            }
        }
    }
}

impl PartialEq for Document {
    /// Whether both have the same keys with the same values, wherever they were written.
    fn eq(&self, other: &Self) -> bool {
        let plain = |document: &Self| -> Vec<(Key, Value)> {
            document.iter().map(|(k, v, _)| (k, v.clone())).collect()
        };
        plain(self) == plain(other)
    }
}

impl fmt::Debug for Document {
    /// Shows the keys and where they were written, never the values: one may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for (key, _, origin) in self.iter() {
            map.entry(&key, origin);
        }
        map.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_both_a_value_and_a_table_is_rejected_with_both_origins() {
        let at = |name: &str| Origin::new("env", name);
        for (first, second, wanted) in [
            (
                "log",
                "log.dir",
                "a value at env log, a table at env log.dir",
            ),
            (
                "log",
                "log.dir.a",
                "a value at env log, a table at env log.dir.a",
            ),
            (
                "log.dir",
                "log",
                "a table at env log.dir, a value at env log",
            ),
            (
                "log.dir.a",
                "log",
                "a table at env log.dir.a, a value at env log",
            ),
        ] {
            let mut document = Document::new();
            document.set(first, "x", at(first)).unwrap();
            let error = document.set(second, "y", at(second)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidKey);
            assert_eq!(error.key_text(), Some(second));
            let wanted = format!("would be both a value and a table: {wanted}");
            assert!(error.to_string().contains(&wanted), "{error}");
        }
    }

    #[test]
    fn a_table_without_keys_is_not_counted_and_not_listed() {
        let mut document = Document::new();
        let table = Value::Table(Default::default());
        document
            .set("a.b", table, Origin::new("memory", ""))
            .unwrap();
        assert_eq!((document.len(), document.iter().count()), (0, 0));
        assert!(!document.is_empty());
        document.set("a.c", 1, Origin::new("memory", "")).unwrap();
        assert_eq!((document.len(), document.iter().count()), (1, 1));
    }
}
