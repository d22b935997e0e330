//! Values that the program sets itself: for tests, for defaults, for overrides with a place of
//! their own among the layers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::{Error, ErrorKind};
use crate::source::{Queued, Refusal, Source, Update, Updates, Watching};
use crate::value::Value;
use crate::value::document::Document;
use crate::value::key::Key;
use crate::value::origin::Origin;

/// A source of values in memory. Clones share their values, so keep one to change them with.
///
/// A change is visible to every thread when the call that makes it returns. A value that the
/// properties refuse is not kept.
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
    values: BTreeMap<Key, Held>,
    /// Everybody who is told of changes.
    sinks: Vec<Updates>,
    revision: u64,
}

struct Held {
    value: Value,
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
    /// single keys, which keep their old values.
    pub fn replace<K: AsRef<str>, V: Into<Value>>(
        &self,
        values: impl IntoIterator<Item = (K, V)>,
    ) -> Result<(), Error> {
        let mut new = BTreeMap::new();
        for (key, value) in values {
            new.insert(Key::parse(key.as_ref())?, value.into());
        }
        let (queued, old, revision) = {
            let mut shared = self.shared.lock();
            shared.revision += 1;
            let revision = shared.revision;
            let new = new.into_iter();
            let new = new.map(|(key, value)| (key, Held { value, revision }));
            let old = std::mem::replace(&mut shared.values, new.collect());
            let document = match self.document(&shared) {
                Ok(document) => document,
                Err(error) => {
                    shared.values = old;
                    return Err(error);
                }
            };
            let sinks = shared.sinks.iter();
            let queued: Vec<Queued> = sinks
                .map(|sink| sink.queue(Update::full(document.clone())))
                .collect();
            (queued, old, revision)
        };
        let verdict = settle(queued);
        self.undo(&verdict, old, revision);
        verdict.outcome
    }

    /// Takes back what the properties have refused, unless somebody has changed it since.
    fn undo(&self, verdict: &Verdict, old: BTreeMap<Key, Held>, revision: u64) {
        if verdict.outcome.is_ok() {
            return;
        }
        let refused = |key: &Key| verdict.whole || verdict.keys.iter().any(|k| related(k, key));
        let mut shared = self.shared.lock();
        let latest = shared.revision == revision;
        let mut gone = BTreeSet::new();
        shared.values.retain(|key, held| {
            let undone = held.revision == revision && refused(key);
            if undone {
                gone.insert(key.clone());
            }
            !undone
        });
        for (key, held) in old {
            let free = gone.contains(&key) || (latest && !shared.values.contains_key(&key));
            if free && refused(&key) {
                shared.values.insert(key, held);
            }
        }
    }

    fn change(&self, key: Key, value: Option<Value>) -> Result<(), Error> {
        if key.is_root() && value.is_some() {
            return Err(Error::new(
                ErrorKind::InvalidKey,
                "the root holds no value; set the keys below it",
            ));
        }
        let (queued, old, revision) = {
            let mut shared = self.shared.lock();
            if value.is_some() {
                shared.fits(&key, value.as_ref())?;
            }
            shared.revision += 1;
            let revision = shared.revision;
            let old = shared.edit(&key, value.clone(), revision);
            let update = match &value {
                Some(value) => Update::delta().set(
                    key.as_str(),
                    value.clone(),
                    self.origin().revision(revision),
                ),
                None => Update::delta().remove(key.as_str()),
            }?;
            // Queued under the lock, so that changes are committed in the order they were made;
            // committed after it, so that callbacks may change this source again.
            shared.sinks.retain(|sink| !sink.is_stopped());
            let queued: Vec<Queued> = shared
                .sinks
                .iter()
                .map(|sink| sink.queue(update.clone()))
                .collect();
            (queued, old, revision)
        };
        let verdict = settle(queued);
        self.undo(&verdict, old.into_iter().collect(), revision);
        verdict.outcome
    }

    fn document(&self, shared: &Shared) -> Result<Document, Error> {
        let mut document = Document::new();
        for (key, held) in &shared.values {
            let path: Vec<_> = key.segments().collect();
            document.set_path(
                &path,
                held.value.clone(),
                &self.origin().revision(held.revision),
            )?;
        }
        Ok(document)
    }
}

impl Shared {
    /// Refuses a key that would be a value and a table at once.
    fn fits(&self, key: &Key, value: Option<&Value>) -> Result<(), Error> {
        let table = |value: &Value| matches!(value, Value::Table(_));
        let above = key.lineage().skip(1).find(|above| {
            self.values
                .get(*above)
                .is_some_and(|held| !table(&held.value))
        });
        let below = || {
            let mut below = self
                .values
                .range(key.clone()..)
                .map(|(other, _)| other)
                .skip_while(|other| *other == key);
            below
                .find(|other| other.is_under(key))
                .filter(|_| !value.is_some_and(table))
        };
        let clash = match above {
            Some(above) => Some(above.to_owned()),
            None => below().map(|below| below.as_str().to_owned()),
        };
        match clash {
            Some(other) => {
                let detail = format!(
                    "would be a value and a table at once, because of `{other}`; remove that first"
                );
                Err(Error::new(ErrorKind::InvalidKey, detail).with_key(key))
            }
            None => Ok(()),
        }
    }

    /// Changes one key and hands back what it replaces.
    fn edit(&mut self, key: &Key, value: Option<Value>, revision: u64) -> Vec<(Key, Held)> {
        match value {
            Some(value) => {
                let old = self.values.insert(key.clone(), Held { value, revision });
                old.map(|held| (key.clone(), held)).into_iter().collect()
            }
            None => {
                let gone: Vec<Key> = self
                    .values
                    .keys()
                    .filter(|old| old.is_under(key))
                    .cloned()
                    .collect();
                gone.into_iter()
                    .filter_map(|key| self.values.remove_entry(&key))
                    .collect()
            }
        }
    }
}

/// What became of a change.
struct Verdict {
    outcome: Result<(), Error>,
    /// Whether all of it was refused.
    whole: bool,
    /// The keys that were refused otherwise.
    keys: Vec<Key>,
}

fn settle(queued: Vec<Queued>) -> Verdict {
    let mut verdict = Verdict {
        outcome: Ok(()),
        whole: false,
        keys: Vec::new(),
    };
    for queued in queued {
        match queued.commit() {
            Ok(applied) => {
                let keys = applied.refused.iter().flat_map(Error::iter);
                let keys = keys.filter_map(|error| Key::parse(error.key()?).ok());
                verdict.keys.extend(keys);
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
                verdict.whole = true;
            }
        }
    }
    verdict
}

/// Whether one key is the other or stands above it.
fn related(a: &Key, b: &Key) -> bool {
    a.is_under(b) || b.is_under(a)
}

impl Source for Memory {
    fn origin(&self) -> Origin {
        Origin::new("memory", &*self.name)
    }

    fn load(&self) -> Result<Document, Error> {
        self.document(&self.shared.lock())
    }

    fn watching(&self) -> Watching {
        Watching::Push
    }

    fn watch(&self, updates: &Updates) -> Result<(), Error> {
        let queued = {
            let mut shared = self.shared.lock();
            let document = self.document(&shared)?;
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
    /// Takes keys and values. A malformed key is left out; [`Memory::set`] would tell.
    fn from(values: [(K, V); N]) -> Self {
        values.into_iter().collect()
    }
}

impl<K: AsRef<str>, V: Into<Value>> FromIterator<(K, V)> for Memory {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(values: I) -> Self {
        let memory = Self::new();
        {
            let mut shared = memory.shared.lock();
            for (key, value) in values {
                if let Ok(key) = Key::parse(key.as_ref()) {
                    shared.values.insert(
                        key,
                        Held {
                            value: value.into(),
                            revision: 0,
                        },
                    );
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
            .field("name", &self.name)
            .field("keys", &shared.values.keys())
            .finish()
    }
}
