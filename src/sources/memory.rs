//! Values that the program sets itself: for tests, for defaults, for overrides with a place of
//! their own among the layers.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::{Error, ErrorKind};
use crate::source::{Queued, Refusal, Source, Update, Updates, Watching};
use crate::value::Value;
use crate::value::document::Document;
use crate::value::key::Key;
use crate::value::map::Entry;
use crate::value::node::Table;
use crate::value::origin::Origin;

/// A source of values in memory. Clones share their values, so keep one to change them with.
///
/// A change is visible to every thread when the call that makes it returns. A value that the
/// properties refuse is not kept, and a removal that they refuse is undone.
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
    name: Arc<str>,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    /// Exactly what the layer made of it holds, unless that has refused something.
    values: Table,
    /// Why the values given at the start are no document.
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
            name: name.into(),
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
        self.change(Key::parse(key)?, Some(value.into()))
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
        self.change(Key::parse(key)?, None)
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
        let values: Vec<(K, V)> = values.into_iter().collect();
        let queued: Vec<Queued> = {
            let mut shared = self.shared.lock();
            let origin = self.origin().revision(shared.revision + 1);
            let mut document = Document::new();
            for (key, value) in values {
                document.set(key.as_ref(), value, origin.clone())?;
            }
            shared.revision += 1;
            shared.values = document.root().clone();
            shared.fault = None;
            shared
                .sinks
                .iter()
                .map(|sink| sink.queue(Update::full(document.clone())))
                .collect()
        };
        settle(queued)
    }

    fn change(&self, key: Key, value: Option<Value>) -> Result<(), Error> {
        let path: Vec<_> = key.segments().collect();
        let (queued, change) = {
            let mut shared = self.shared.lock();
            let before = shared.values.clone();
            let revision = shared.revision + 1;
            let origin = self.origin().revision(revision);
            let update = match &value {
                Some(value) => Update::delta().set(key.as_str(), value.clone(), origin.clone()),
                None => Update::delta().remove(key.as_str()),
            }?;
            match value {
                Some(value) => {
                    let mut document = Document::from_table(before.clone());
                    document.set_path(&path, value, &origin)?;
                    shared.values = document.into_parts().0;
                }
                None if path.is_empty() => shared.values = Table::default(),
                None => drop(shared.values.remove_path(&path)),
            }
            shared.revision = revision;
            let change = Change {
                made: shared.values.find(&path).cloned(),
                before,
                revision,
            };
            // Queued under the lock, so that changes are committed in the order they were made;
            // committed after it, so that callbacks may change this source again.
            shared.sinks.retain(|sink| !sink.is_stopped());
            let queued: Vec<Queued> = shared
                .sinks
                .iter()
                .map(|sink| sink.queue(update.clone()))
                .collect();
            (queued, change)
        };
        let outcome = settle(queued);
        if outcome.is_err() {
            self.shared.lock().undo(&path, &change);
        }
        outcome
    }
}

/// What one call has changed, for undoing it if it is refused.
struct Change {
    before: Table,
    made: Option<Arc<Entry>>,
    revision: u64,
}

impl Shared {
    fn document(&self) -> Result<Document, Error> {
        match &self.fault {
            Some(fault) => Err(fault.clone()),
            None => Ok(Document::from_table(self.values.clone())),
        }
    }

    /// Takes a refused change back, unless somebody has changed the key since.
    fn undo(&mut self, path: &[Cow<'_, str>], change: &Change) {
        if self.revision == change.revision {
            self.values = change.before.clone();
            return;
        }
        let same = match (self.values.find(path), &change.made) {
            (Some(now), Some(made)) => Arc::ptr_eq(now, made),
            (None, None) => true,
            _ => false,
        };
        if same {
            self.values.remove_path(path);
            if let Some(old) = change.before.find(path) {
                // In vain if the key lies below a value now: then that has taken its place.
                let _ = self.values.put_path(path, old.node.clone());
            }
        }
    }
}

fn settle(queued: Vec<Queued>) -> Result<(), Error> {
    let mut outcome = Ok(());
    for queued in queued {
        match queued.commit() {
            Ok(applied) => {
                if let (Ok(()), Some(error)) = (&outcome, applied.refused.into_iter().next()) {
                    outcome = Err(error);
                }
            }
            // Properties that are gone refuse nothing.
            Err(error) if error.kind() == ErrorKind::Closed => {}
            Err(error) => outcome = Err(error),
        }
    }
    outcome
}

impl Source for Memory {
    fn origin(&self) -> Origin {
        Origin::new("memory", &*self.name)
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
            let origin = memory.origin().revision(0);
            let mut document = Document::new();
            for (key, value) in values {
                if let Ok(key) = Key::parse(key.as_ref()) {
                    let path: Vec<_> = key.segments().collect();
                    if let Err(error) = document.set_path(&path, value.into(), &origin) {
                        shared.fault.get_or_insert(error);
                    }
                }
            }
            shared.values = document.into_parts().0;
        }
        memory
    }
}

impl fmt::Debug for Memory {
    /// Shows the keys, never the values: one may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = self.shared.lock();
        f.debug_struct("Memory")
            .field("name", &self.name)
            .field("values", &Document::from_table(shared.values.clone()))
            .finish()
    }
}
