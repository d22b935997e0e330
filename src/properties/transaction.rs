//! Writes of the program, collected and committed as one.

use std::fmt;

use serde::de::DeserializeOwned;

use crate::engine::commit::Condition;
use crate::error::Error;
use crate::source::Edit;
use crate::tree::snapshot::Snapshot;
use crate::value::Value;
use crate::value::key::Key;
use crate::value::origin::Origin;

/// Writes into the override layer that become visible together or not at all; see
/// [`Properties::transaction`](crate::Properties::transaction).
pub struct Transaction {
    view: Snapshot,
    edits: Vec<Edit>,
    conditions: Vec<Condition>,
    origin: Origin,
}

impl Transaction {
    pub(crate) fn new(view: Snapshot) -> Self {
        Self {
            view,
            edits: Vec::new(),
            conditions: Vec::new(),
            origin: Origin::new("override", "set by the program"),
        }
    }

    pub(crate) fn into_parts(self) -> (Vec<Edit>, Vec<Condition>) {
        (self.edits, self.conditions)
    }

    /// The tree as it was when the transaction began; it does not show the transaction's own
    /// writes.
    pub fn view(&self) -> &Snapshot {
        &self.view
    }

    /// The value a key had when the transaction began.
    ///
    /// # Errors
    ///
    /// As [`Snapshot::get`].
    pub fn get<T: DeserializeOwned + 'static>(&self, key: &str) -> Result<T, Error> {
        self.view.get(key)
    }

    /// Sets a key; [`Value::Unset`] hides it in all sources.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidKey`](crate::ErrorKind::InvalidKey) if the key is malformed.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) -> Result<(), Error> {
        let value = Some((value.into(), self.origin.clone()));
        self.edits.push(Edit {
            key: Key::parse(key)?,
            value,
        });
        Ok(())
    }

    /// Takes a key and all below it out of the override layer, so that the sources show again.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    pub fn remove(&mut self, key: &str) -> Result<(), Error> {
        self.edits.push(Edit {
            key: Key::parse(key)?,
            value: None,
        });
        Ok(())
    }

    /// Makes a key read as absent whatever the sources say.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    pub fn unset(&mut self, key: &str) -> Result<(), Error> {
        self.set(key, Value::Unset)
    }

    /// Has the commit fail with a conflict unless this generation is the one in force then.
    pub fn if_generation(&mut self, generation: u64) {
        self.conditions.push(Condition::Generation(generation));
    }

    /// Has the commit fail with a conflict unless the key has this value then; `None` for absent,
    /// which a table is not. A number or a boolean may be spelled in any way, unless `value` has a
    /// spelling.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    pub fn if_value(&mut self, key: &str, value: Option<Value>) -> Result<(), Error> {
        self.conditions
            .push(Condition::Value(Key::parse(key)?, value));
        Ok(())
    }
}

impl fmt::Debug for Transaction {
    /// Shows the keys, never the values: one may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&Key> = self.edits.iter().map(|edit| &edit.key).collect();
        f.debug_struct("Transaction")
            .field("keys", &keys)
            .finish_non_exhaustive()
    }
}
