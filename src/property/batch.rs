//! All changes of one generation under a prefix, in one call.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Weak};

use crate::property::registry::Host;
use crate::property::subscription::Subscriber;
use crate::sync::Mutex;
use crate::tree::change::{self, KeyChange};
use crate::tree::diff::{self, LeafChange};
use crate::tree::secrets::Secrets;
use crate::tree::snapshot::Snapshot;
use crate::value::key::Key;

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

/// What one generation changed, as a commit hands it to all mailboxes.
pub(crate) struct Commit {
    pub(crate) snapshot: Snapshot,
    pub(crate) changes: Vec<LeafChange>,
}

/// The changes that wait for one subscriber to a subtree.
pub(crate) struct Mailbox {
    prefix: Key,
    waiting: Mutex<Waiting>,
    secrets: Secrets,
    pub(crate) subscriber: Arc<Subscriber>,
}

#[derive(Default)]
struct Waiting {
    /// The generations that were joined because too many wait; they come first.
    joined: Option<Joined>,
    commits: VecDeque<Arc<Commit>>,
}

/// Several generations as one.
struct Joined {
    snapshot: Snapshot,
    changes: BTreeMap<Key, KeyChange>,
    several: bool,
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
                let Some((batch, more)) = mailbox.next() else {
                    return;
                };
                if more {
                    // Marked while it runs, the subscriber is queued again when this run ends.
                    mailbox.subscriber.poke();
                }
                // What was joined may have come back to where it was.
                if !batch.changes.is_empty() {
                    callback(&batch);
                }
            };
            Self {
                prefix,
                waiting: Mutex::new(Waiting::default()),
                secrets,
                subscriber: Subscriber::new(host, Box::new(job)),
            }
        })
    }

    /// Takes a commit in; says whether it concerns this subscriber.
    pub(crate) fn put(&self, commit: &Arc<Commit>) -> bool {
        let concerns = commit.changes.iter().any(|change| self.concerns(change));
        if concerns {
            let mut waiting = self.waiting.lock();
            waiting.commits.push_back(Arc::clone(commit));
            if waiting.commits.len() > MAX_PENDING {
                if let Some(oldest) = waiting.commits.pop_front() {
                    let joined = waiting.joined.take();
                    waiting.joined = Some(self.join(joined, &oldest));
                }
            }
        }
        concerns
    }

    fn concerns(&self, change: &LeafChange) -> bool {
        !change.moved && change.key.is_under(&self.prefix)
    }

    /// Adds a generation to those that were joined before.
    fn join(&self, joined: Option<Joined>, commit: &Commit) -> Joined {
        let several = joined.is_some();
        let mut changes = joined.map(|joined| joined.changes).unwrap_or_default();
        for change in commit.changes.iter().filter(|change| self.concerns(change)) {
            let hidden = change::is_hidden(change, &self.secrets, &[&commit.snapshot.0]);
            let entry = changes
                .entry(change.key.clone())
                .or_insert_with(|| KeyChange {
                    key: change.key.clone(),
                    old: change.old.clone(),
                    new: None,
                    hidden,
                });
            entry.new.clone_from(&change.new);
            entry.hidden |= hidden;
        }
        Joined {
            snapshot: commit.snapshot.clone(),
            changes,
            several,
        }
    }

    fn next(&self) -> Option<(Batch, bool)> {
        let mut waiting = self.waiting.lock();
        let joined = match waiting.joined.take() {
            Some(joined) => joined,
            None => {
                let commit = waiting.commits.pop_front()?;
                self.join(None, &commit)
            }
        };
        let more = !waiting.commits.is_empty();
        drop(waiting);
        let mut changes: Vec<_> = joined.changes.into_values().collect();
        if joined.several {
            changes.retain(|change| match (&change.old, &change.new) {
                (Some(old), Some(new)) => !diff::same(&old.node, &new.node),
                (old, new) => old.is_some() != new.is_some(),
            });
        }
        Some((
            Batch {
                generation: joined.snapshot.generation(),
                changes,
                snapshot: joined.snapshot,
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
