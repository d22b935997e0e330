//! What changed from one tree to another, for showing and reading.

use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::decode::{self, Mask};
use crate::error::{Error, MASK, Plain};
use crate::sorted;
use crate::tree::broken_secrets;
use crate::tree::diff::{self, LeafChange};
use crate::tree::interpolate::add_referred;
use crate::tree::snapshot::Generation;
use crate::value::Value;
use crate::value::hamt::Entry;
use crate::value::key::Key;
use crate::value::node::{Node, Table};
use crate::value::origin::Origin;
use crate::value::secret::Secrets;

/// A key that was added, removed or changed. Its `Display` and `Debug` mask secrets.
///
/// [`Batch::changes`](crate::property::Batch::changes) and
/// [`Snapshot::changes_since`](crate::Snapshot::changes_since) have them.
///
/// ```
/// use liveprops::{Properties, sources::Memory};
///
/// let memory = Memory::from([("qps", 100)]);
/// let props = Properties::builder().source(memory.clone()).build()?;
/// let before = props.snapshot();
/// memory.set("qps", 500)?;
/// let changes = props.snapshot().changes_since(&before);
/// let change = &changes[0];
/// assert_eq!(change.key().as_str(), "qps");
/// assert_eq!(change.old_value(), Some(&100.into()));
/// assert_eq!(change.get::<u32>()?, Some(500));
/// assert_eq!(change.to_string(), "qps: 100 -> 500 (memory @ 1)");
/// # Ok::<(), liveprops::Error>(())
/// ```
#[derive(Clone)]
pub struct KeyChange {
    pub(crate) key: Key,
    pub(crate) old: Option<Arc<Entry>>,
    pub(crate) new: Option<Arc<Entry>>,
    pub(crate) hidden: bool,
    /// Decides which values are masked, at the time when this is shown.
    pub(crate) secrets: Secrets,
    /// The tree of the new value if that has references; empty otherwise.
    pub(crate) tree: Table,
}

impl KeyChange {
    /// The key.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The value before; `None` if the key was absent, or was an empty table. Not masked.
    pub fn old_value(&self) -> Option<&Value> {
        self.old.as_ref().and_then(|entry| diff::value(&entry.node))
    }

    /// The value now; `None` if the key is absent, or is an empty table. Not masked.
    pub fn new_value(&self) -> Option<&Value> {
        self.new.as_ref().and_then(|entry| diff::value(&entry.node))
    }

    /// Where the old value was written; `None` if the key was absent.
    pub fn old_origin(&self) -> Option<&Origin> {
        self.old.as_ref().and_then(|entry| entry.node.origin())
    }

    /// Where the new value is written; `None` if the key is absent.
    pub fn new_origin(&self) -> Option<&Origin> {
        self.new.as_ref().and_then(|entry| entry.node.origin())
    }

    /// The new value as a `T`; `None` if the key is absent. Reading it as a
    /// [`Secret`](crate::Secret) makes the key secret.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Mismatch`](crate::ErrorKind::Mismatch) if the value cannot become a `T`.
    /// - [`ErrorKind::Reference`](crate::ErrorKind::Reference) if a reference in it is unresolved or
    ///   broken.
    pub fn get<T: DeserializeOwned>(&self) -> Result<Option<T>, Error> {
        let Some(entry) = &self.new else {
            if decode::is_secret_type::<T>() {
                self.secrets.add(self.key.clone());
            }
            return Ok(None);
        };
        let key = self.key.as_str();
        let mut secrets = decode::SecretKeys::default();
        let outcome = decode::from_node_recording(key, Some(&entry.node), false, &mut secrets);
        if outcome.is_err() {
            broken_secrets::add_secrets::<T>(key, &entry.node, &mut secrets);
        }
        add_referred(&self.tree, &mut secrets.certain);
        add_referred(&self.tree, &mut secrets.possible);
        self.secrets.add_read(secrets);
        let mask = Mask {
            all: self.hidden || self.secrets.is_secret(key),
            secrets: Some(&self.secrets),
        };
        outcome
            .or_else(|_| decode::from_node(key, Some(&entry.node), mask))
            .map_err(|error| self.masked(error))
            .map(Some)
    }

    /// An error without what looks like an unresolved reference of a key that is secret by now.
    fn masked(&self, error: Error) -> Error {
        let Some(Node::Resolved(resolved)) = self.new.as_ref().map(|entry| &entry.node) else {
            return error;
        };
        let broken = resolved.value.as_ref().err();
        let is_secret = broken
            .filter(|broken| broken.is_unresolved())
            .is_some_and(|broken| {
                let mut keys = [Some(broken), broken.quoted()]
                    .into_iter()
                    .flatten()
                    .filter_map(Error::key_text);
                keys.any(|key| self.secrets.hides_part(key))
            });
        let masked = is_secret.then(|| error.without(&|_| true)).flatten();
        masked.unwrap_or(error)
    }
}

impl fmt::Display for KeyChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |entry: Option<&Arc<Entry>>| {
            let Some(entry) = entry else {
                return "absent".to_owned();
            };
            let hides = |value| self.secrets.hides_value(self.key.as_str(), value);
            match diff::value(&entry.node) {
                Some(value) if self.hidden || hides(value) => MASK.to_owned(),
                Some(value) => value.to_string(),
                None => diff::display_node(&entry.node, true),
            }
        };
        write!(
            f,
            "{}: {} -> {}",
            Plain(self.key.as_str()),
            Plain(&show(self.old.as_ref())),
            Plain(&show(self.new.as_ref()))
        )?;
        match self.new_origin().or(self.old_origin()) {
            Some(origin) => write!(f, " ({})", Plain(&origin.to_string())),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for KeyChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whether a change may show a secret, by what is known of secrets now.
pub(crate) fn is_hidden(change: &LeafChange, secrets: &Secrets, trees: &[&Generation]) -> bool {
    let entries = || change.old.iter().chain(&change.new);
    let derives = |tree: &&Generation| entries().any(|entry| tree.derives_from_secret(entry));
    secrets.hides(change.key.as_str()) || trees.iter().any(derives)
}

/// The tree that the references of a new value lead into; empty if it has none.
pub(crate) fn referred_tree(change: &LeafChange, after: &Generation) -> Table {
    match &change.new {
        Some(new) if new.node.special() => after.root.clone(),
        _ => Table::default(),
    }
}

/// What changed from one generation to another, in the order of the keys.
pub(crate) fn between(before: &Generation, after: &Generation) -> Vec<KeyChange> {
    let mut changes: Vec<KeyChange> = diff::diff(&before.root, &after.root, true)
        .changes
        .into_iter()
        .filter(|change| !change.moved)
        .map(|change| KeyChange {
            hidden: is_hidden(&change, &after.secrets, &[before, after]),
            secrets: after.secrets.clone(),
            tree: referred_tree(&change, after),
            key: change.key,
            old: change.old,
            new: change.new,
        })
        .collect();
    sorted::sort_by(&mut changes, |a, b| a.key.cmp(&b.key));
    changes
}
