//! Delivers all changes under a prefix as batches.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::sync::{Arc, Weak};

use crate::property::registry::PropertyEngine;
use crate::property::subscription::Subscriber;
use crate::sync::Mutex;
use crate::tree::change::{self, KeyChange};
use crate::tree::diff::{self, LeafChange};
use crate::tree::snapshot::Snapshot;
use crate::value::key::Key;
use crate::value::secret::Secrets;

/// All keys under a prefix that changed since the call before.
///
/// [`Properties::on_change_under`](crate::Properties::on_change_under) calls its callback with one
/// batch for each generation. Generations that come while the callback runs become one batch: the
/// newest snapshot, and of each key the oldest old value and the newest new value. A key that has
/// its old value again is left out.
///
/// ```
/// use std::sync::mpsc::channel;
/// use liveprops::{Properties, sources::Memory};
///
/// let memory = Memory::from([("http.port", 80), ("http.backlog", 10), ("qps", 1)]);
/// let props = Properties::builder().source(memory.clone()).inline_callbacks().build()?;
/// let (report, reports) = channel();
/// let _subscription = props.on_change_under("http", move |batch| {
///     let keys: Vec<String> = batch.changes().iter().map(|change| change.key().to_string()).collect();
///     let port: u16 = batch.snapshot().get("http.port").unwrap();
///     report.send((keys, port, batch.generation())).unwrap();
/// })?;
/// memory.replace([("http.port", 81), ("http.backlog", 20), ("qps", 2)])?;
/// let (keys, port, generation) = reports.recv().unwrap();
/// assert_eq!(keys, ["http.backlog", "http.port"]);
/// assert_eq!((port, generation), (81, props.generation()));
/// # Ok::<(), liveprops::Error>(())
/// ```
pub struct Batch {
    /// The newest generation in the batch.
    generation: u64,
    changes: Vec<KeyChange>,
    snapshot: Snapshot,
}

impl Batch {
    /// The generation that brought the changes; the newest one if several were merged.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The changed keys in order.
    pub fn changes(&self) -> &[KeyChange] {
        &self.changes
    }

    /// The tree of that generation.
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

/// The changes of one generation, which a commit puts into all mailboxes.
pub(crate) struct Commit {
    pub(crate) snapshot: Snapshot,
    pub(crate) changes: Vec<LeafChange>,
}

/// The changes that one subscriber to a subtree has not received yet.
pub(crate) struct Mailbox {
    prefix: Key,
    undelivered: Mutex<Undelivered>,
    secrets: Secrets,
    pub(crate) subscriber: Arc<Subscriber>,
}

/// The changes of any number of commits. They retain one generation, and two values of each key.
#[derive(Default)]
enum Undelivered {
    #[default]
    Nothing,
    /// The usual case, without a copy.
    One(Arc<Commit>),
    Several(Merged),
}

/// Several commits as one.
struct Merged {
    snapshot: Snapshot,
    changes: BTreeMap<Key, KeyChange>,
}

impl Mailbox {
    /// Creates a mailbox whose callback gets one batch at a time.
    pub(crate) fn new(
        prefix: Key,
        secrets: Secrets,
        engine: Weak<dyn PropertyEngine>,
        mut callback: impl FnMut(&Batch) + Send + 'static,
    ) -> Arc<Self> {
        Arc::new_cyclic(|mailbox: &Weak<Mailbox>| {
            let mailbox = Weak::clone(mailbox);
            let job = move || {
                let batch = mailbox.upgrade().and_then(|mailbox| mailbox.drain());
                if let Some(batch) = batch {
                    callback(&batch);
                }
            };
            Self {
                prefix,
                undelivered: Mutex::default(),
                secrets,
                subscriber: Subscriber::new(engine, Box::new(job)),
            }
        })
    }

    /// Adds a commit; returns whether it concerns this subscriber.
    pub(crate) fn put(&self, commit: &Arc<Commit>) -> bool {
        let concerns = commit.changes.iter().any(|change| self.concerns(change));
        if concerns {
            let mut undelivered = self.undelivered.lock();
            let merged = match std::mem::take(&mut *undelivered) {
                Undelivered::Nothing => {
                    *undelivered = Undelivered::One(Arc::clone(commit));
                    return true;
                }
                Undelivered::One(first) => self.merge(Merged::at(&first), &first),
                Undelivered::Several(merged) => merged,
            };
            let merged = self.merge(merged, commit);
            if !merged.changes.is_empty() {
                *undelivered = Undelivered::Several(merged);
            }
        }
        concerns
    }

    fn concerns(&self, change: &LeafChange) -> bool {
        !change.moved && change.key.is_under(&self.prefix)
    }

    /// Adds a commit to those before it.
    fn merge(&self, mut merged: Merged, commit: &Commit) -> Merged {
        merged.snapshot = commit.snapshot.clone();
        for change in commit.changes.iter().filter(|change| self.concerns(change)) {
            let hidden = change::is_hidden(change, &self.secrets, &[&commit.snapshot.0]);
            match merged.changes.entry(change.key.clone()) {
                Entry::Vacant(entry) => {
                    entry.insert(KeyChange {
                        key: change.key.clone(),
                        old: change.old.clone(),
                        new: change.new.clone(),
                        hidden,
                        secrets: self.secrets.clone(),
                        tree: change::referred_tree(change, &commit.snapshot.0),
                    });
                }
                Entry::Occupied(mut entry) => {
                    let merged_change = entry.get_mut();
                    merged_change.new.clone_from(&change.new);
                    merged_change.tree = change::referred_tree(change, &commit.snapshot.0);
                    merged_change.hidden |= hidden;
                    if has_old_value(merged_change) {
                        entry.remove();
                    }
                }
            }
        }
        merged
    }

    /// Removes the changes, as one batch.
    fn drain(&self) -> Option<Batch> {
        // A guard in the `match` would lock the mailbox until the end of the merge.
        let undelivered = std::mem::take(&mut *self.undelivered.lock());
        let merged = match undelivered {
            Undelivered::Nothing => return None,
            Undelivered::One(commit) => self.merge(Merged::at(&commit), &commit),
            Undelivered::Several(merged) => merged,
        };
        Some(Batch {
            generation: merged.snapshot.generation(),
            changes: merged.changes.into_values().collect(),
            snapshot: merged.snapshot,
        })
    }
}

impl Merged {
    /// No changes, at the generation of a commit.
    fn at(commit: &Commit) -> Self {
        Self {
            snapshot: commit.snapshot.clone(),
            changes: BTreeMap::new(),
        }
    }
}

/// Whether a key has its old value again.
fn has_old_value(change: &KeyChange) -> bool {
    match (&change.old, &change.new) {
        (Some(old), Some(new)) => diff::same_value(&old.node, &new.node),
        (old, new) => old.is_none() && new.is_none(),
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mailbox({})", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::properties::Properties;
    use crate::sources::Memory;

    #[test]
    fn a_commit_does_not_wait_for_a_callback_that_merges_a_large_batch() {
        let memory = Memory::from([("n", 1)]);
        let builder = Properties::builder().source(memory.clone());
        let props = builder.build().unwrap();
        let before = props.snapshot();
        memory.set("n", 2).unwrap();
        let snapshot = props.snapshot();
        let commit = Arc::new(Commit {
            changes: diff::diff(&before.0.root, &snapshot.0.root, true).changes,
            snapshot,
        });
        let secrets = Secrets::default();
        let engine: Weak<crate::engine::core::Engine> = Weak::new();
        let mailbox = Mailbox::new(Key::root(), secrets.clone(), engine, |_| {});
        assert!(mailbox.put(&commit));
        // The merge asks which keys are secret.
        let merge_waits = secrets.block();
        let drained = Arc::clone(&mailbox);
        let callback = thread::spawn(move || drained.drain().map(|batch| batch.changes.len()));
        let (report, is_free) = channel();
        let committer = thread::spawn(move || {
            while !matches!(*mailbox.undelivered.lock(), Undelivered::Nothing) {
                thread::yield_now();
            }
            report.send(()).unwrap();
        });
        let outcome = is_free.recv_timeout(Duration::from_secs(5));
        drop(merge_waits);
        assert_eq!(callback.join().unwrap(), Some(1));
        committer.join().unwrap();
        assert!(outcome.is_ok(), "the mailbox is locked during the merge");
    }
}
