//! Values that the program sets itself: for tests, for defaults, and for overrides as a layer of their own.

use std::fmt;
use std::sync::Arc;

use crate::error::{Error, ErrorKind};
use crate::source::{Queued, RejectionScope, Source, SourceContext, Update, Watching};
use crate::sync::lock::{Mutex, MutexGuard};
use crate::value::Value;
use crate::value::document::Document;
use crate::value::key::Key;
use crate::value::origin::Origin;

mod journal;

use journal::{Edit, Journal};

/// A source of values in memory. Clones share their values, so keep one to change them with.
///
/// A change is visible to every thread when the call that makes it returns. A value that the
/// properties reject is not kept, and a removal that they reject is undone. One memory may serve
/// several properties; if only some of them reject a value, the others keep it until the key is
/// changed again.
///
/// ```
/// use liveprops::{Properties, sources::Memory};
///
/// let memory = Memory::from([("greeting", "hello")]);
/// let props = Properties::builder().source(memory.clone()).build()?;
/// memory.set("greeting", "goodbye")?;
/// assert_eq!(props.get::<String>("greeting")?, "goodbye");
/// memory.remove("greeting")?;
/// assert_eq!(props.get_opt::<String>("greeting")?, None);
/// # Ok::<(), liveprops::Error>(())
/// ```
#[derive(Clone)]
pub struct Memory {
    origin: Origin,
    shared: Arc<Mutex<Shared>>,
    /// The process that created this.
    process: u32,
}

/// How often a fork tries to lock the values. A thread of the fork unlocks them soon, but a thread that held
/// the lock at the fork never does.
const MAX_TRIES_IN_FORK: usize = 1000;

#[derive(Default)]
struct Shared {
    values: Document,
    /// The error of the values given at the start.
    fault: Option<Error>,
    /// The properties that use this source.
    sinks: Vec<SourceContext>,
    revision: u64,
    /// The changes that may have to be undone.
    journal: Journal,
}

impl Memory {
    /// Creates an empty source.
    pub fn new() -> Self {
        Self::named("")
    }

    /// Creates an empty source with a name for messages and explanations.
    pub fn named(name: &str) -> Self {
        Self {
            origin: Origin::new("memory", name),
            shared: Arc::default(),
            process: std::process::id(),
        }
    }

    /// Locks the values. In a fork, a lock that another thread held at the fork is an error.
    fn lock(&self) -> Result<MutexGuard<'_, Shared>, Error> {
        if let Some(shared) = self.shared.try_lock() {
            return Ok(shared);
        }
        if std::process::id() == self.process {
            return Ok(self.shared.lock());
        }
        for _ in 0..MAX_TRIES_IN_FORK {
            std::thread::yield_now();
            if let Some(shared) = self.shared.try_lock() {
                return Ok(shared);
            }
        }
        let detail = "another thread held the values when this process was forked: make a new \
                      `Memory` in the fork";
        Err(Error::new(ErrorKind::Closed, detail).with_origin(self.origin.clone()))
    }

    /// Sets a key. [`Value::Unset`] sets a tombstone: the key reads as absent although weaker
    /// layers define it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidKey`] if the key is malformed, the root, or would be a value and a
    /// table at once; the error of the properties that reject the value. In a fork of the process that
    /// made the source, [`ErrorKind::Closed`] if another thread held its values at the fork.
    pub fn set(&self, key: &str, value: impl Into<Value>) -> Result<(), Error> {
        self.change(key, Some(value.into()))
    }

    /// Makes a key read as absent although weaker layers define it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidKey`] if the key is malformed, the root, or a table here; the error of the properties that
    /// reject the change; [`ErrorKind::Closed`] in a fork, as for [`set`](Self::set).
    pub fn unset(&self, key: &str) -> Result<(), Error> {
        self.set(key, Value::Unset)
    }

    /// Removes a key and all below it, so that weaker layers show. The root removes everything.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidKey`] if the key is malformed; the error of the properties that reject the change;
    /// [`ErrorKind::Closed`] in a fork, as for [`set`](Self::set).
    pub fn remove(&self, key: &str) -> Result<(), Error> {
        self.change(key, None)
    }

    /// Replaces all values in one change: keys that are not given are removed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidKey`] if a key is malformed, the root, or would be a value and a table at once;
    /// [`ErrorKind::Closed`] in a fork, as for [`set`](Self::set). Then nothing is replaced. The error of the
    /// properties that reject single keys: these keep their old values there, and the others are replaced.
    pub fn replace<K: AsRef<str>, V: Into<Value>>(
        &self,
        values: impl IntoIterator<Item = (K, V)>,
    ) -> Result<(), Error> {
        let mut shared = self.lock()?;
        let revision = shared.revision + 1;
        let origin = self.origin.revision(revision);
        let mut document = Document::new();
        for (key, value) in values {
            document.set(key.as_ref(), value, origin.clone())?;
        }
        shared.fault = None;
        let before = std::mem::replace(&mut shared.values, document.clone());
        let edit = Edit::All {
            before: Box::new(before),
            after: Box::new(document.clone()),
        };
        let queued = shared.queue(Update::full(document), edit);
        drop(shared);
        self.commit(queued, revision)
    }

    fn change(&self, key: &str, value: Option<Value>) -> Result<(), Error> {
        let key = Key::parse(key)?;
        let mut shared = self.lock()?;
        let revision = shared.revision + 1;
        // Changes the values in place: a copy of the path to the key, as the layers make it, would double
        // the cost.
        let values = &mut shared.values;
        let all = key.is_root().then(|| values.clone());
        let before = values.save_key(&key);
        let update = match value {
            Some(value) => {
                let origin = self.origin.revision(revision);
                values.set_key(&key, value.clone(), &origin)?;
                Some((value, origin))
            }
            None => {
                values.remove_key(&key);
                None
            }
        };
        let edit = match all {
            Some(before) => Edit::All {
                before: Box::new(before),
                after: Box::new(values.clone()),
            },
            None => Edit::One {
                key: key.clone(),
                before,
                after: values.save_key(&key).without_tables(),
            },
        };
        // Queued under the lock, so that changes are committed in the order in which they were made;
        // committed after it, so that callbacks may change this source again.
        let queued = shared.queue(Update::edit(key, update), edit);
        drop(shared);
        self.commit(queued, revision)
    }

    /// Commits a change, undoes its rejected part, and returns the error of that.
    fn commit(&self, queued: Vec<Queued>, revision: u64) -> Result<(), Error> {
        if queued.is_empty() {
            return Ok(());
        }
        let Commit { outcome, kept } = commit_all(queued);
        let mut shared = self.lock()?;
        let Shared {
            journal, values, ..
        } = &mut *shared;
        journal.record_outcome(values, revision, kept.as_deref());
        outcome
    }
}

impl Shared {
    fn document(&self) -> Result<Document, Error> {
        match &self.fault {
            Some(fault) => Err(fault.clone()),
            None => Ok(self.values.clone()),
        }
    }

    /// Queues a change for all properties that still use this source.
    fn queue(&mut self, update: Update, edit: Edit) -> Vec<Queued> {
        let update = update.undone_if_rejected();
        self.revision += 1;
        self.sinks.retain(|sink| !sink.is_stopped());
        let Some((last, others)) = self.sinks.split_last() else {
            return Vec::new();
        };
        self.journal.add(self.revision, edit);
        let mut queued: Vec<_> = others
            .iter()
            .map(|sink| sink.queue(update.clone()))
            .collect();
        queued.push(last.queue(update));
        queued
    }
}

/// The outcome of a change.
struct Commit {
    outcome: Result<(), Error>,
    /// The keys that some properties rejected and kept as they were; `None` if one rejected the whole change.
    kept: Option<Vec<Key>>,
}

fn commit_all(queued: Vec<Queued>) -> Commit {
    let mut commit = Commit {
        outcome: Ok(()),
        kept: Some(Vec::new()),
    };
    for queued in queued {
        match queued.commit() {
            Ok(applied) => {
                if let Some(kept) = &mut commit.kept {
                    kept.extend(applied.kept);
                }
                if let (Ok(()), Some(error)) =
                    (&commit.outcome, applied.rejected.into_iter().next())
                {
                    commit.outcome = Err(error);
                }
            }
            // Closed properties reject nothing.
            Err(error) if error.kind() == ErrorKind::Closed => {}
            Err(error) => {
                commit.outcome = Err(error);
                commit.kept = None;
            }
        }
    }
    commit
}

impl Source for Memory {
    fn origin(&self) -> Origin {
        self.origin.clone()
    }

    fn load(&self) -> Result<Document, Error> {
        self.lock()?.document()
    }

    fn watching(&self) -> Watching {
        Watching::Push
    }

    fn watch(&self, updates: &SourceContext) -> Result<(), Error> {
        let queued = {
            let mut shared = self.lock()?;
            let document = shared.document()?;
            shared.sinks.push(updates.clone());
            updates.queue(Update::full(document))
        };
        queued.commit().map(drop)
    }

    fn rejection_scope(&self) -> RejectionScope {
        RejectionScope::PerKey
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: AsRef<str>, V: Into<Value>, const N: usize> From<[(K, V); N]> for Memory {
    /// Creates a source with these keys and values. A malformed key, or a key that would be a value and a table
    /// at once, is left out and makes the first load fail.
    fn from(values: [(K, V); N]) -> Self {
        values.into_iter().collect()
    }
}

impl<K: AsRef<str>, V: Into<Value>> FromIterator<(K, V)> for Memory {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(values: I) -> Self {
        let memory = Self::new();
        {
            let mut shared = memory.shared.lock();
            let origin = memory.origin.revision(0);
            for (key, value) in values {
                if let Err(error) = shared.values.set(key.as_ref(), value, origin.clone()) {
                    shared.fault.get_or_insert(error);
                }
            }
        }
        memory
    }
}

impl fmt::Debug for Memory {
    /// Shows the keys, never the values: one may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Memory");
        shown.field("name", &self.origin.name());
        match self.lock() {
            Ok(shared) => shown.field("values", &shared.values).finish(),
            Err(_) => shown.finish_non_exhaustive(),
        }
    }
}
