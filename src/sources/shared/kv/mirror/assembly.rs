//! Builds one document from the contents of the keys, and finds keys that exclude each other.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::error::{Error, ErrorKind};
use crate::sources::shared::kv::mapping::{Mapping, Target};
use crate::sources::shared::kv::mirror::content::Content;
use crate::sources::shared::kv::mirror::entries::Entries;
use crate::value::document::Document;
use crate::value::key::Key;
use crate::value::origin::Origin;

#[derive(Debug)]
pub(super) struct Assembly {
    kind: &'static str,
    document: Document,
    /// The key of the store that each property or subtree is from.
    owners: BTreeMap<Key, Arc<str>>,
    /// Keys that another key of the store excludes.
    clashes: BTreeMap<Arc<str>, Error>,
}

impl Assembly {
    pub(super) fn new(kind: &'static str) -> Self {
        Self {
            kind,
            document: Document::new(),
            owners: BTreeMap::new(),
            clashes: BTreeMap::new(),
        }
    }

    pub(super) fn document(&self) -> &Document {
        &self.document
    }

    pub(super) fn clashes(&self) -> &BTreeMap<Arc<str>, Error> {
        &self.clashes
    }

    /// Builds the document from all entries.
    pub(super) fn rebuild(&mut self, entries: &Entries) {
        *self = Self::new(self.kind);
        // A deeper key wins, because there are more of them.
        let contents = entries.items().rev();
        let contents = contents.map(|(key, item)| (key, item.content.clone()));
        // A document wins over single keys, because it takes effect as a whole or not at all.
        let (documents, values): (Vec<_>, Vec<_>) =
            contents.partition(|(_, content)| content.is_document());
        for (key, content) in documents.into_iter().chain(values) {
            if let Err(clash) = self.set(key, content, entries) {
                self.clashes.insert(Arc::clone(key), clash);
            }
        }
    }

    /// Adds, changes or removes one key; returns `false` where only a rebuild can do that.
    pub(super) fn apply(&mut self, key: &Arc<str>, entries: &Entries, mapping: &Mapping) -> bool {
        if let Some(item) = entries.item(key) {
            return self.set(key, item.content.clone(), entries).is_ok();
        }
        let Some(Ok(Target::Value(property))) = mapping.target(key) else {
            return false;
        };
        // The key may have been set and removed since the last update.
        if self.owners.get(&property) == Some(key) {
            self.owners.remove(&property);
            self.document.remove_key(&property);
        }
        true
    }

    fn set(&mut self, key: &Arc<str>, content: Content, entries: &Entries) -> Result<(), Error> {
        let (property, value, origin) = match content {
            Content::Value(property, value, origin) => (property, value, origin),
            Content::Document(property, document) => {
                return self.mount(key, property, document, entries);
            }
        };
        let is_owner = self.check_owner(key, &property, &origin, entries)?;
        // An unreadable key still excludes others from its property.
        if entries.has_fault(key) {
            self.document.remove_key(&property);
        } else {
            self.document.set_key(&property, value, &origin)?;
        }
        if !is_owner {
            self.owners.insert(property, Arc::clone(key));
        }
        Ok(())
    }

    /// Adds the document of a key as a subtree, or as the whole document.
    fn mount(
        &mut self,
        key: &Arc<str>,
        at: Key,
        document: Document,
        entries: &Entries,
    ) -> Result<(), Error> {
        let is_unread = entries.has_fault(key);
        if at.is_root() {
            if !is_unread {
                self.document = document;
            }
            return Ok(());
        }
        let origin = Origin::new(self.kind, &**key);
        self.check_owner(key, &at, &origin, entries)?;
        if !is_unread {
            let (root, report) = document.into_parts();
            self.document.mount(&at, root, &origin)?;
            let problems = report.problems.into_iter();
            problems.for_each(|problem| self.document.report_problem(problem));
        }
        self.owners.insert(at, Arc::clone(key));
        Ok(())
    }

    /// Whether a property already belongs to a key.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidKey`] if another key owns the property, one above it, or one below it.
    fn check_owner(
        &self,
        key: &Arc<str>,
        property: &Key,
        origin: &Origin,
        entries: &Entries,
    ) -> Result<bool, Error> {
        let clash = |detail: String| {
            let error = Error::new(ErrorKind::InvalidKey, detail);
            Err(error.with_key(property).with_origin(origin))
        };
        let mut is_owner = false;
        for at in property.lineage() {
            let Some(owner) = self.owners.get(at) else {
                continue;
            };
            if at != property.as_str() {
                return clash(format!("is ignored: `{owner}` is above it"));
            }
            if owner != key {
                return clash(format!("is ignored: `{owner}` is the same property"));
            }
            is_owner = true;
        }
        // The document rejects a value above others by itself, but it lacks the unreadable keys.
        if !entries.faults().is_empty() && self.has_owner_below(property) {
            let detail = "would be both a value and a table: other keys stand below it";
            return clash(detail.to_owned());
        }
        Ok(is_owner)
    }

    fn has_owner_below(&self, property: &Key) -> bool {
        let first = format!("{property}.");
        let after = (Bound::Included(first.as_str()), Bound::Unbounded);
        let mut below = self.owners.range::<str, _>(after);
        below
            .next()
            .is_some_and(|(key, _)| key.as_str().starts_with(&first))
    }
}
