//! What a source delivers, and what its commit did.

use std::fmt;
use std::sync::Arc;

use crate::error::Error;
use crate::value::Value;
use crate::value::document::Document;
use crate::value::key::Key;
use crate::value::origin::Origin;

/// New values of a source: all of them, or what changed. Its `Debug` shows keys, never values, since one
/// may be a secret.
///
/// ```
/// use liveprops::{Document, Origin, Update};
///
/// let origin = Origin::new("store", "checkout");
/// let mut document = Document::new();
/// document.set("qps", 100, origin.clone())?;
/// let all = Update::full(document).at_revision("17");
/// let change = Update::delta().set("qps", 500, origin)?.remove("burst")?.at_revision("18");
/// assert_eq!(change.revision(), Some("18"));
/// # Ok::<(), liveprops::Error>(())
/// ```
#[derive(Clone)]
pub struct Update {
    pub(crate) content: Content,
    pub(crate) revision: Option<Arc<str>>,
    /// Whether the source undoes it if it is rejected.
    pub(crate) undone: bool,
}

impl fmt::Debug for Update {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.content {
            Content::Full(document) => f.debug_tuple("Full").field(document).finish(),
            Content::Delta(edits) => {
                let keys: Vec<&Key> = edits.iter().map(|edit| &edit.key).collect();
                f.debug_tuple("Delta").field(&keys).finish()
            }
        }
    }
}

#[derive(Clone)]
pub(crate) enum Content {
    Full(Document),
    Delta(Vec<Edit>),
}

/// One change of one key.
#[derive(Clone)]
pub(crate) struct Edit {
    pub(crate) key: Key,
    /// `None` removes the key and all below it from the layer.
    pub(crate) value: Option<(Value, Origin)>,
}

impl Update {
    /// Escapes all values: `${` in them is text, and no reference.
    pub(crate) fn escape_references(&mut self) {
        match &mut self.content {
            Content::Full(document) => document.escape_references(),
            Content::Delta(edits) => {
                let values = edits.iter_mut().filter_map(|edit| edit.value.as_mut());
                for (value, _) in values {
                    *value = std::mem::replace(value, Value::Unset).escaped();
                }
            }
        }
    }

    /// All values of the source. Keys that the document lacks are removed.
    pub fn full(document: Document) -> Self {
        let revision = document.revision.clone();
        Self {
            content: Content::Full(document),
            revision,
            undone: false,
        }
    }

    /// A list of changes, which are applied as one in the order in which they are added.
    pub fn delta() -> Self {
        Self {
            content: Content::Delta(Vec::new()),
            revision: None,
            undone: false,
        }
    }

    /// Sets the revision of the store after this update; see [`Source::poll`](crate::Source::poll). The
    /// default for a full update is the revision of its document.
    #[must_use]
    pub fn at_revision(mut self, revision: impl Into<Arc<str>>) -> Self {
        self.revision = Some(revision.into());
        self
    }

    /// The revision of the store after this update, if the source has one.
    pub fn revision(&self) -> Option<&str> {
        self.revision.as_deref()
    }

    /// The change of one key: its new value, or none.
    pub(crate) fn edit(key: Key, value: Option<(Value, Origin)>) -> Self {
        Self {
            content: Content::Delta(vec![Edit { key, value }]),
            revision: None,
            undone: false,
        }
    }

    /// Marks an update that the source undoes if it is rejected, so that it is never withheld.
    pub(crate) fn undone_if_rejected(mut self) -> Self {
        self.undone = true;
        self
    }

    /// Adds a new value of a key. [`Value::Unset`] sets a tombstone, which hides the key in lower layers.
    /// On a full update it sets the key of the document.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidKey`](crate::ErrorKind::InvalidKey) for a malformed key, and on a full update
    ///   for one that is both a value and a table.
    /// - [`ErrorKind::TooLarge`](crate::ErrorKind::TooLarge) for a key over 1 KiB.
    pub fn set(
        mut self,
        key: &str,
        value: impl Into<Value>,
        origin: Origin,
    ) -> Result<Self, Error> {
        match &mut self.content {
            Content::Full(document) => document.set(key, value, origin)?,
            Content::Delta(edits) => edits.push(Edit {
                key: Key::parse(key)?,
                value: Some((value.into(), origin)),
            }),
        }
        Ok(self)
    }

    /// Adds the removal of a key and all below it, so that the values of lower layers show. On a full
    /// update it removes the key of the document.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidKey`](crate::ErrorKind::InvalidKey) or
    /// [`ErrorKind::TooLarge`](crate::ErrorKind::TooLarge) for a malformed key of a delta.
    pub fn remove(mut self, key: &str) -> Result<Self, Error> {
        match &mut self.content {
            Content::Full(document) => drop(document.remove(key)),
            Content::Delta(edits) => edits.push(Edit {
                key: Key::parse(key)?,
                value: None,
            }),
        }
        Ok(self)
    }
}

/// What a commit did.
///
/// ```
/// use liveprops::Properties;
///
/// let props = Properties::builder().build()?;
/// let outcome = props.set("qps", 5)?;
/// assert_eq!((outcome.generation, outcome.changed), (props.generation(), 1));
/// assert!(outcome.rejected.is_empty());
/// # Ok::<(), liveprops::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CommitOutcome {
    /// The generation that has the update; the one before if nothing changed.
    pub generation: u64,
    /// How many keys of the merged tree changed.
    pub changed: usize,
    /// The errors of rejected keys, whose old values stay.
    pub rejected: Vec<Error>,
    /// The keys of the layer that keep their old values because of that.
    pub kept: Vec<Key>,
}
