//! All changes of one generation under a prefix, in one call.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Weak};

use serde::de::DeserializeOwned;

use crate::error::{Error, MASK, Plain};
use crate::property::registry::Host;
use crate::property::subscription::Subscriber;
use crate::sync::Mutex;
use crate::tree::diff::{self, LeafChange};
use crate::tree::secrets::Secrets;
use crate::tree::snapshot::Snapshot;
use crate::value::Value;
use crate::value::coerce;
use crate::value::key::Key;
use crate::value::map::Entry;
use crate::value::origin::Origin;

/// The generations that wait for a slow subscriber before they are joined into one batch.
const MAX_PENDING: usize = 64;

/// All keys under a prefix that one generation changed.
///
/// A subscriber that falls more than 64 generations behind sees the oldest joined into one batch,
/// with the oldest `old` and the newest `new` of each key.
pub struct Batch {
    /// The newest generation in the batch.
    generation: u64,
    changes: Vec<KeyChange>,
    snapshot: Snapshot,
}

impl Batch {
    /// The generation that brought the changes; the newest, if several were joined.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The changed keys in order.
    pub fn changes(&self) -> &[KeyChange] {
        &self.changes
    }

    /// The tree as it was when the newest of these changes became visible.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("generation", &self.generation)
            .field("changes", &self.changes)
            .finish_non_exhaustive()
    }
}

/// One key that came, went or changed. Shown with its secrets masked.
#[derive(Clone)]
pub struct KeyChange {
    key: Key,
    old: Option<Arc<Entry>>,
    new: Option<Arc<Entry>>,
    hidden: bool,
}

impl KeyChange {
    /// The key.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The value before; `None` if the key was absent. Not masked.
    pub fn old(&self) -> Option<&Value> {
        self.old.as_ref().and_then(|entry| diff::value(&entry.node))
    }

    /// The value now; `None` if the key is absent. Not masked.
    pub fn new(&self) -> Option<&Value> {
        self.new.as_ref().and_then(|entry| diff::value(&entry.node))
    }

    /// Where the value was written before.
    pub fn old_origin(&self) -> Option<&Origin> {
        self.old.as_ref().and_then(|entry| entry.node.origin())
    }

    /// Where the value is written now.
    pub fn new_origin(&self) -> Option<&Origin> {
        self.new.as_ref().and_then(|entry| entry.node.origin())
    }

    /// The value now as a `T`, `None` if the key is absent.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Mismatch`](crate::ErrorKind::Mismatch) if it cannot become one.
    pub fn get<T: DeserializeOwned>(&self) -> Result<Option<T>, Error> {
        match &self.new {
            Some(entry) => {
                coerce::decode(self.key.as_str(), Some(&entry.node), self.hidden).map(Some)
            }
            None => Ok(None),
        }
    }
}

impl fmt::Display for KeyChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |value: Option<&Value>| match value {
            None => "absent".to_owned(),
            Some(value) if self.hidden || coerce::holds_secret(value) => MASK.to_owned(),
            Some(value) => value.to_string(),
        };
        write!(
            f,
            "{}: {} -> {}",
            Plain(self.key.as_str()),
            Plain(&show(self.old())),
            Plain(&show(self.new()))
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

/// What one generation changed, as a commit hands it to all mailboxes.
pub(crate) struct Commit {
    pub(crate) snapshot: Snapshot,
    pub(crate) changes: Vec<LeafChange>,
}

/// The changes that wait for one subscriber to a subtree.
pub(crate) struct Mailbox {
    prefix: Key,
    waiting: Mutex<VecDeque<Arc<Commit>>>,
    pub(crate) subscriber: Arc<Subscriber>,
}

impl Mailbox {
    /// Makes a mailbox whose callback is called with one batch at a time.
    pub(crate) fn new(
        prefix: Key,
        secrets: Secrets,
        host: Weak<dyn Host>,
        mut callback: impl FnMut(&Batch) + Send + 'static,
    ) -> Arc<Self> {
        Arc::new_cyclic(|mailbox: &Weak<Mailbox>| {
            let mailbox = Weak::clone(mailbox);
            let job = move || {
                let Some(mailbox) = mailbox.upgrade() else {
                    return;
                };
                let Some((batch, more)) = mailbox.next(&secrets) else {
                    return;
                };
                if more {
                    // Marked while it runs, the subscriber is queued again when this run ends.
                    mailbox.subscriber.poke();
                }
                callback(&batch);
            };
            Self {
                prefix,
                waiting: Mutex::new(VecDeque::new()),
                subscriber: Subscriber::new(host, Box::new(job)),
            }
        })
    }

    /// Takes a commit in; says whether it concerns this subscriber.
    pub(crate) fn put(&self, commit: &Arc<Commit>) -> bool {
        let concerns = commit
            .changes
            .iter()
            .any(|change| !change.moved && change.key.is_under(&self.prefix));
        if concerns {
            self.waiting.lock().push_back(Arc::clone(commit));
        }
        concerns
    }

    fn next(&self, secrets: &Secrets) -> Option<(Batch, bool)> {
        let (taken, more) = {
            let mut waiting = self.waiting.lock();
            let surplus = waiting.len().saturating_sub(MAX_PENDING);
            let end = waiting.len().min(1 + surplus);
            let taken: Vec<_> = waiting.drain(..end).collect();
            (taken, !waiting.is_empty())
        };
        let newest = taken.last()?;
        let snapshot = newest.snapshot.clone();
        let mut changes: BTreeMap<&Key, KeyChange> = BTreeMap::new();
        for change in taken.iter().flat_map(|commit| &commit.changes) {
            if change.moved || !change.key.is_under(&self.prefix) {
                continue;
            }
            let entry = changes.entry(&change.key).or_insert_with(|| KeyChange {
                key: change.key.clone(),
                old: change.old.clone(),
                new: None,
                hidden: secrets.hides(change.key.as_str()) || change.derives_from_secret(),
            });
            entry.new.clone_from(&change.new);
        }
        let mut changes: Vec<_> = changes.into_values().collect();
        if taken.len() > 1 {
            changes.retain(|change| match (&change.old, &change.new) {
                (Some(old), Some(new)) => !diff::same(&old.node, &new.node),
                (old, new) => old.is_some() != new.is_some(),
            });
        }
        Some((
            Batch {
                generation: snapshot.generation(),
                changes,
                snapshot,
            },
            more,
        ))
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mailbox({})", self.prefix)
    }
}
