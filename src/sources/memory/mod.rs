//! Values that the program sets itself: for tests, for defaults, for overrides with a place of
//! their own among the layers.

use std::fmt;
use std::sync::Arc;

use crate::sync::lock::{Mutex, MutexGuard};

use crate::error::{Error, ErrorKind};
use crate::source::{Queued, Refusal, Source, SourceContext, Update, Watching};
use crate::value::Value;
use crate::value::document::Document;
use crate::value::key::Key;
use crate::value::origin::Origin;

mod journal;

use journal::{Journal, What};

/// A source of values in memory. Clones share their values, so keep one to change them with.
///
/// A change is visible to every thread when the call that makes it returns. A value that the
/// properties refuse is not kept, and a removal that they refuse is undone. One memory may serve
/// several properties; if only some of them refuse a value, the others keep it until the key is
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
    /// The process that made this.
    process: u32,
}

/// How often a fork tries to lock the values. A thread of the fork holds the lock shortly; a thread
/// of the process that was forked holds it for ever.
const TRIES_IN_A_FORK: usize = 1000;

#[derive(Default)]
struct Shared {
    values: Document,
    /// What is wrong with the values given at the start.
    fault: Option<Error>,
    /// Everybody who is told of changes.
    sinks: Vec<SourceContext>,
    revision: u64,
    /// What may have to be taken back.
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
        for _ in 0..TRIES_IN_A_FORK {
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
    /// table at once; why the properties refuse the value, if they do. In a fork of the process that
    /// made the source, [`ErrorKind::Closed`] if another thread held its values at the fork.
    pub fn set(&self, key: &str, value: impl Into<Value>) -> Result<(), Error> {
        self.change(key, Some(value.into()))
    }

    /// Makes a key read as absent although weaker layers define it.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    pub fn unset(&self, key: &str) -> Result<(), Error> {
        self.set(key, Value::Unset)
    }

    /// Removes a key and all below it, so that weaker layers show.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    pub fn remove(&self, key: &str) -> Result<(), Error> {
        self.change(key, None)
    }

    /// Replaces everything as one: what is not given is gone.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set); then nothing is replaced, except that the properties may refuse
    /// single keys, which keep their old values there.
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
        let was = std::mem::replace(&mut shared.values, document.clone());
        let what = What::All {
            was: Box::new(was),
            now: Box::new(document.clone()),
        };
        let queued = shared.tell(Update::full(document), what);
        drop(shared);
        self.conclude(queued, revision)
    }

    fn change(&self, key: &str, value: Option<Value>) -> Result<(), Error> {
        let key = Key::parse(key)?;
        let mut shared = self.lock()?;
        let revision = shared.revision + 1;
        // The values are changed in place: a copy of the way to the key, as the layers make it,
        // would double what a change costs.
        let values = &mut shared.values;
        let all = key.is_root().then(|| values.clone());
        let was = values.standing(&key);
        let edit = match value {
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
        let what = match all {
            Some(was) => What::All {
                was: Box::new(was),
                now: Box::new(values.clone()),
            },
            None => What::One {
                key: key.clone(),
                was,
                now: values.standing(&key).alone(),
            },
        };
        // Queued under the lock, so that changes are committed in the order they were made;
        // committed after it, so that callbacks may change this source again.
        let queued = shared.tell(Update::edit(key, edit), what);
        drop(shared);
        self.conclude(queued, revision)
    }

    /// Commits a change, takes back what is refused of it, and tells why.
    fn conclude(&self, queued: Vec<Queued>, revision: u64) -> Result<(), Error> {
        if queued.is_empty() {
            return Ok(());
        }
        let Verdict { outcome, kept } = settle(queued);
        let mut shared = self.lock()?;
        let Shared {
            journal, values, ..
        } = &mut *shared;
        journal.answered(values, revision, kept.as_deref());
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

    /// Queues a change that was just made for everybody who is still there, if anybody is.
    fn tell(&mut self, update: Update, what: What) -> Vec<Queued> {
        let update = update.undone_if_rejected();
        self.revision += 1;
        self.sinks.retain(|sink| !sink.is_stopped());
        let Some((last, others)) = self.sinks.split_last() else {
            return Vec::new();
        };
        self.journal.made(self.revision, what);
        let mut queued: Vec<_> = others
            .iter()
            .map(|sink| sink.queue(update.clone()))
            .collect();
        queued.push(last.queue(update));
        queued
    }
}

/// What became of a change.
struct Verdict {
    outcome: Result<(), Error>,
    /// The keys that somebody refused and left as they were; `None` if all of it was refused.
    kept: Option<Vec<Key>>,
}

fn settle(queued: Vec<Queued>) -> Verdict {
    let mut verdict = Verdict {
        outcome: Ok(()),
        kept: Some(Vec::new()),
    };
    for queued in queued {
        match queued.commit() {
            Ok(applied) => {
                if let Some(kept) = &mut verdict.kept {
                    kept.extend(applied.kept);
                }
                if let (Ok(()), Some(error)) =
                    (&verdict.outcome, applied.refused.into_iter().next())
                {
                    verdict.outcome = Err(error);
                }
            }
            // Properties that are gone refuse nothing.
            Err(error) if error.kind() == ErrorKind::Closed => {}
            Err(error) => {
                verdict.outcome = Err(error);
                verdict.kept = None;
            }
        }
    }
    verdict
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

    fn refusal(&self) -> Refusal {
        Refusal::PerKey
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: AsRef<str>, V: Into<Value>, const N: usize> From<[(K, V); N]> for Memory {
    /// Takes keys and values. A malformed key is left out; [`Memory::set`] would tell. A key that
    /// is a value and a table at once makes the first load fail.
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
