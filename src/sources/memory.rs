//! Values that the program sets itself: for tests, for defaults, for overrides with a place of
//! their own among the layers.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::{Error, ErrorKind};
use crate::source::{Queued, Refusal, Source, Update, Updates, Watching};
use crate::value::Value;
use crate::value::document::{Document, Standing};
use crate::value::key::Key;
use crate::value::origin::Origin;

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
}

#[derive(Default)]
struct Shared {
    values: Document,
    /// What is wrong with the values given at the start.
    fault: Option<Error>,
    /// Everybody who is told of changes.
    sinks: Vec<Updates>,
    revision: u64,
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
        }
    }

    /// Sets a key. [`Value::Unset`] sets a tombstone: the key reads as absent although weaker
    /// layers define it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidKey`] if the key is malformed, the root, or would be a value and a
    /// table at once; why the properties refuse the value, if they do.
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
        let (queued, before, revision) = {
            let mut shared = self.shared.lock();
            let origin = self.origin.revision(shared.revision + 1);
            let mut document = Document::new();
            for (key, value) in values {
                document.set(key.as_ref(), value, origin.clone())?;
            }
            shared.revision += 1;
            shared.fault = None;
            let before = std::mem::replace(&mut shared.values, document.clone());
            (shared.tell(Update::full(document)), before, shared.revision)
        };
        self.conclude(settle(queued), &Before::All(before), revision)
    }

    fn change(&self, key: &str, value: Option<Value>) -> Result<(), Error> {
        let key = Key::parse(key)?;
        let (queued, before, revision) = {
            let mut shared = self.shared.lock();
            let revision = shared.revision + 1;
            let values = &mut shared.values;
            // The values are changed in place: a copy of the way to the key, as the layers make it,
            // would double what a change costs.
            let before = match key.is_root() {
                true => Before::All(values.clone()),
                false => Before::One(key.clone(), values.standing(&key)),
            };
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
            shared.revision = revision;
            // Queued under the lock, so that changes are committed in the order they were made;
            // committed after it, so that callbacks may change this source again.
            (shared.tell(Update::edit(key, edit)), before, revision)
        };
        self.conclude(settle(queued), &before, revision)
    }

    /// Takes back what was refused, and tells why.
    fn conclude(&self, verdict: Verdict, before: &Before, revision: u64) -> Result<(), Error> {
        if !matches!(
            &verdict,
            Verdict {
                outcome: Ok(()),
                kept: Some(_)
            }
        ) {
            self.shared.lock().undo(&verdict, before, revision);
        }
        verdict.outcome
    }
}

/// What a change replaced.
enum Before {
    All(Document),
    One(Key, Standing),
}

impl Shared {
    fn document(&self) -> Result<Document, Error> {
        match &self.fault {
            Some(fault) => Err(fault.clone()),
            None => Ok(self.values.clone()),
        }
    }

    /// Takes back what was refused of a change, unless it has been changed again since.
    fn undo(&mut self, verdict: &Verdict, before: &Before, revision: u64) {
        let kept = match (&verdict.kept, before) {
            (Some(kept), _) => kept.as_slice(),
            (None, Before::All(before)) if self.revision == revision => {
                self.values = before.clone();
                return;
            }
            (None, Before::All(_)) => &[],
            (None, Before::One(key, _)) => std::slice::from_ref(key),
        };
        for key in kept {
            let all;
            let was = match before {
                Before::One(only, was) if only == key => was,
                Before::One(..) => continue,
                Before::All(document) => {
                    all = document.standing(key);
                    &all
                }
            };
            let newer = self
                .values
                .origin(key.as_str())
                .is_some_and(|now| Some(now) != was.origin() && *now != now.revision(revision));
            if !newer {
                self.values.put_back(key, was);
            }
        }
    }

    /// Queues an update for everybody who is still there.
    fn tell(&mut self, update: Update) -> Vec<Queued> {
        self.sinks.retain(|sink| !sink.is_stopped());
        let Some((last, others)) = self.sinks.split_last() else {
            return Vec::new();
        };
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
        self.shared.lock().document()
    }

    fn watching(&self) -> Watching {
        Watching::Push
    }

    fn watch(&self, updates: &Updates) -> Result<(), Error> {
        let queued = {
            let mut shared = self.shared.lock();
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
        let shared = self.shared.lock();
        f.debug_struct("Memory")
            .field("name", &self.origin.name())
            .field("values", &shared.values)
            .finish()
    }
}
