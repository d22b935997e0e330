//! A document: everything one source says, as a tree with origins.

use std::borrow::Cow;
use std::collections::BTreeMap;
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

/// What stands at one key of a document.
pub(crate) enum Standing {
    Entry(Arc<Entry>),
    /// Nothing, below so many tables, the last of which may be empty.
    Nothing(usize),
}

impl Standing {
    /// Without the tables on the way.
    pub(crate) fn alone(self) -> Self {
        match self {
            Standing::Entry(entry) => Standing::Entry(entry),
            Standing::Nothing(_) => Standing::Nothing(0),
        }
    }
}

/// Everything a source says at one moment: keys, values, and where each was written.
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
    unread: Unread,
    /// The texts that the format escaped because they hold no reference, as they would be without.
    unescaped: BTreeMap<Key, String>,
    pub(crate) revision: Option<Arc<str>>,
}

/// What a source reports beside its values.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    pub(crate) problems: Vec<Error>,
    pub(crate) hints: Vec<Error>,
    /// Whether last good values stay for parts that could not be read.
    pub(crate) keeps_values: bool,
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
    /// As [`set`](Self::set).
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
            Err(_) => Err(clash(&self.root, key, path, origin)),
        }
    }

    /// Removes a key and all below it; says whether there was something.
    pub fn remove(&mut self, key: &str) -> bool {
        Key::parse(key).is_ok_and(|key| !key.is_root() && self.remove_key(&key))
    }

    /// Puts a whole table at a key where nothing stands.
    #[cfg(any(
        feature = "consul",
        feature = "etcd",
        feature = "nats",
        feature = "zookeeper"
    ))]
    pub(crate) fn mount(&mut self, key: &Key, table: Table, origin: &Origin) -> Result<(), Error> {
        let path: Vec<_> = key.segments().collect();
        let refuse =
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
            return refuse(ErrorKind::TooLarge, &detail);
        }
        let taken = self.root.find(&path).is_some();
        if taken || self.root.put_path(&path, Node::Table(table)).is_err() {
            return Err(clash(&self.root, key, &path, origin));
        }
        Ok(())
    }

    /// Removes a key and all below it, the root with all there is; says whether there was
    /// something.
    pub(crate) fn remove_key(&mut self, key: &Key) -> bool {
        if key.is_root() {
            return !std::mem::take(&mut self.root).is_empty();
        }
        let path: Vec<_> = key.segments().collect();
        self.root.remove_path(&path).is_some()
    }

    /// What stands at a key and below it, for putting it back.
    pub(crate) fn standing(&self, key: &Key) -> Standing {
        let mut table = &self.root;
        let mut segments = key.segments().peekable();
        let mut tables = 0;
        while let Some(segment) = segments.next() {
            let Some(entry) = table.get(&segment) else {
                break;
            };
            if segments.peek().is_none() {
                return Standing::Entry(Arc::clone(entry));
            }
            let Some(below) = entry.node.table() else {
                break;
            };
            (table, tables) = (below, tables + 1);
        }
        Standing::Nothing(tables)
    }

    /// Makes a key and all below it what it was.
    pub(crate) fn put_back(&mut self, key: &Key, was: &Standing) {
        let path: Vec<_> = key.segments().collect();
        self.root.remove_path(&path);
        // In vain if a value stands further up by now: then that has taken its place.
        let _ = match was {
            Standing::Entry(entry) => self.root.put_path(&path, entry.node.clone()),
            // Removing what was below it has taken an empty table away.
            Standing::Nothing(tables) if self.root.find(&path[..*tables]).is_none() => {
                let empty = Node::Table(Table::default());
                self.root.put_path(&path[..*tables], empty)
            }
            Standing::Nothing(_) => Ok(None),
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
            // Keys were checked on their way in, so none is lost here.
            if let (Ok(key), Node::Leaf(_)) = (Key::parse(key), &entry.node) {
                all.push(key);
            }
        });
        all.sort_unstable();
        all.into_iter().filter_map(|key| {
            let leaf = self.leaf(key.as_str())?;
            Some((key, &leaf.value, &leaf.origin))
        })
    }

    /// How many keys there are, which is as many as [`iter`](Self::iter) yields: a table is no key. The
    /// call takes time in proportion to the document.
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

    /// Lays another document over this one: tables merge, values and lists replace.
    pub fn merge(&mut self, over: Document) {
        overlay(&mut self.root, &over.root);
        let is_replaced = |key: &Key| over.root.find(key.segments()).is_some();
        self.unescaped.retain(|key, _| !is_replaced(key));
        self.unescaped.extend(over.unescaped);
        self.report.problems.extend(over.report.problems);
        self.report.hints.extend(over.report.hints);
        self.unread.extend(&over.unread);
    }

    /// Reports a part of the source that could not be read, with the reason. Its last good values
    /// stay.
    ///
    /// The engine rejects the part: it reports an event, adds an entry to the list of rejections, and
    /// the source is not [`Up`](crate::health::Status::Up). The values stay in force and in the cache
    /// for as long as the source reports the part. Which values stay depends on the problem:
    ///
    /// - With a [key](Error::with_key): the values of this key and below.
    /// - Without a key, with an [origin](Error::with_origin): the values that were written there.
    /// - Without both: every value that this document lacks. No removal takes effect while the source
    ///   reports such a problem. Give the problem a key or an origin, so that other keys can be
    ///   removed.
    ///
    /// A problem for which no value has to stay belongs in [`warn`](Self::warn).
    ///
    /// # Examples
    ///
    /// ```
    /// use liveprops::{Document, Error, ErrorKind, Origin};
    ///
    /// let broken = Origin::new("file", "limits.toml");
    /// let mut document = Document::new();
    /// document.report(Error::new(ErrorKind::Malformed, "no syntax").with_origin(broken));
    /// assert_eq!(document.problems().len(), 1);
    /// ```
    pub fn report(&mut self, problem: Error) {
        self.unread.add(&problem);
        self.report.problems.push(problem);
    }

    /// Reports a problem of the source for which no last good value stays.
    ///
    /// Use it for something that was read and does not count, such as a name that maps to no key, and
    /// for warnings. The engine treats it as [`report`](Self::report) does: an event, an entry in the
    /// list of rejections, and a source that is not [`Up`](crate::health::Status::Up). Keys that this
    /// document lacks are removed. A source that watches can show a reason that changes no status by
    /// [`SourceContext::set_degraded`](crate::SourceContext::set_degraded).
    pub fn warn(&mut self, problem: Error) {
        self.report.problems.push(problem);
    }

    /// Reports something that was read as documented and probably is a mistake.
    ///
    /// It is shown in [`SourceHealth::hints`](crate::health::SourceHealth::hints). It changes no
    /// status, causes no event and rejects nothing.
    pub fn hint(&mut self, hint: Error) {
        self.report.hints.push(hint);
    }

    /// The hints that were reported by [`hint`](Self::hint).
    pub fn hints(&self) -> &[Error] {
        &self.report.hints
    }

    /// Reports a fragment that could not be read, such as one of several files.
    pub(crate) fn report_fragment(&mut self, fragment: &Origin, problem: Error) {
        self.unread.add_fragment(fragment);
        self.report.problems.push(problem);
    }

    /// Reports a fragment that has no values, such as a file that was emptied. The report counts if
    /// last good values of the fragment are there: then they stay.
    pub(crate) fn report_emptied(&mut self, fragment: &Origin, problem: Error) {
        self.unread.add_emptied(fragment, problem);
    }

    /// Names all fragments that could not be read at once.
    #[cfg(any(
        feature = "consul",
        feature = "etcd",
        feature = "nats",
        feature = "zookeeper"
    ))]
    pub(crate) fn set_unread(&mut self, unread: Unread) {
        self.unread = unread;
    }

    /// Has fragments override those with smaller names.
    pub(crate) fn set_later_wins(&mut self) {
        self.unread.set_later_wins();
    }

    /// Adds the last good values of the parts that could not be read, as `before` holds them, and the
    /// problems of emptied fragments that keep some.
    pub(crate) fn keep_last_good(&mut self, before: &Table) {
        let kept = self.unread.keep_last_good(&mut self.root, before);
        self.report.keeps_values = kept.is_some();
        self.report.problems.extend(kept.unwrap_or_default());
    }

    /// Whether a part of the source could not be read.
    pub(crate) fn is_partial(&self) -> bool {
        !self.unread.is_empty()
    }

    /// The keys among `left_out` that still lack a value because a part of the source could not be read.
    pub(crate) fn still_left_out(&self, left_out: &[Key]) -> Arc<[Key]> {
        let is_missing = |key: &&Key| {
            self.unread.may_have(key.as_str()) && self.root.find(key.segments()).is_none()
        };
        left_out.iter().filter(is_missing).cloned().collect()
    }

    /// Has all values contain no references: `${` in them is text.
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

    /// Notes a text that the format has escaped, as it would be without.
    #[cfg(feature = "dotenv")]
    pub(crate) fn set_unescaped(&mut self, key: Key, text: String) {
        self.unescaped.insert(key, text);
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

    /// What was rejected and why.
    pub fn problems(&self) -> &[Error] {
        &self.report.problems
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

/// Refuses a key at which, or above which, something of the other kind stands.
pub(crate) fn clash<S: AsRef<str>>(root: &Table, key: &Key, path: &[S], origin: &Origin) -> Error {
    let (first, is_table) = root.in_the_way(path).unwrap_or_default();
    node::both(key.as_str(), first, is_table, origin)
}

fn overlay(base: &mut Table, over: &Table) {
    for entry in over.map().iter() {
        let below = base
            .get(&entry.name)
            .and_then(|old| old.node.table().cloned());
        match (&entry.node, below) {
            (Node::Table(over), Some(mut merged)) => {
                overlay(&mut merged, over);
                base.put(&entry.name, Node::Table(merged));
            }
            _ => {
                base.insert(entry.clone());
            }
        }
    }
}

impl PartialEq for Document {
    /// Whether both hold the same keys with the same values, wherever they were written.
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
    fn a_key_that_is_both_a_value_and_a_table_is_refused_with_both_places() {
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
