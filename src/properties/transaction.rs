//! Writes of the program, committed as one.

use std::fmt;

use serde::de::DeserializeOwned;

use crate::engine::commit::Condition;
use crate::error::Error;
#[cfg(doc)]
use crate::error::ErrorKind;
use crate::properties::Properties;
use crate::source::{CommitOutcome, Edit};
use crate::tree::snapshot::Snapshot;
use crate::value::Value;
use crate::value::key::Key;
use crate::value::origin::Origin;

/// Writes to the override layer that become visible together or not at all; see
/// [`Properties::transaction`](crate::Properties::transaction).
///
/// ```
/// use liveprops::{Properties, sources::Memory};
///
/// let props = Properties::builder().source(Memory::from([("qps", 100)])).build()?;
/// props.transaction(|tx| {
///     let qps: u32 = tx.get("qps")?;
///     tx.if_value("qps", Some(qps.into()))?;
///     tx.set("qps", qps * 2)
/// })?;
/// assert_eq!(props.get::<u32>("qps")?, 200);
/// # Ok::<(), liveprops::Error>(())
/// ```
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

    /// The value that a key had when the transaction began.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::NotFound`] if no layer defines the key.
    /// - [`ErrorKind::Mismatch`] if its value cannot become a `T`.
    /// - [`ErrorKind::Reference`] if a reference in it is unresolved or broken.
    /// - [`ErrorKind::InvalidKey`] for a malformed key.
    pub fn get<T: DeserializeOwned + 'static>(&self, key: &str) -> Result<T, Error> {
        self.view.get(key)
    }

    /// Sets a key; [`Value::Unset`] hides it in all sources.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidKey`], or [`ErrorKind::TooLarge`] for a key over 1 KiB.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) -> Result<(), Error> {
        let value = Some((value.into(), self.origin.clone()));
        self.edits.push(Edit {
            key: Key::parse(key)?,
            value,
        });
        Ok(())
    }

    /// Removes a key and all below it from the override layer, so that the values of the sources show
    /// again.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidKey`], or [`ErrorKind::TooLarge`] for a key over 1 KiB.
    pub fn remove(&mut self, key: &str) -> Result<(), Error> {
        self.edits.push(Edit {
            key: Key::parse(key)?,
            value: None,
        });
        Ok(())
    }

    /// Makes a key read as absent whatever the sources have.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidKey`], or [`ErrorKind::TooLarge`] for a key over 1 KiB.
    pub fn unset(&mut self, key: &str) -> Result<(), Error> {
        self.set(key, Value::Unset)
    }

    /// Lets the commit fail with [`ErrorKind::Conflict`] unless this generation is in force.
    pub fn if_generation(&mut self, generation: u64) {
        self.conditions.push(Condition::Generation(generation));
    }

    /// Lets the commit fail with [`ErrorKind::Conflict`] unless the key has this value. `None` is for an
    /// absent key; a table is not absent. A number or a boolean may be spelled in any way, unless `value`
    /// has a spelling.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidKey`], or [`ErrorKind::TooLarge`] for a key over 1 KiB.
    pub fn if_value(&mut self, key: &str, value: Option<Value>) -> Result<(), Error> {
        self.conditions
            .push(Condition::Value(Key::parse(key)?, value));
        Ok(())
    }
}

impl Properties {
    /// Sets a key in the override layer, which is stronger than all sources but the bootstrap sources.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidKey`] for a malformed key, and for one that the layer cannot have, such as
    ///   an item past the end of a list.
    /// - [`ErrorKind::Rejected`], [`ErrorKind::Mismatch`] or [`ErrorKind::NotFound`] if a validator, the
    ///   schema or a live handle does not accept the resulting tree.
    /// - [`ErrorKind::Loop`] if callbacks trigger each other without end.
    /// - [`ErrorKind::Reentrant`] [inside a validator](Self#inside-validators-and-decoders), and
    ///   [`ErrorKind::Closed`] in a fork.
    ///
    /// ```
    /// use liveprops::{Properties, sources::Memory};
    ///
    /// let props = Properties::builder().source(Memory::from([("qps", 100)])).build()?;
    /// props.set("qps", 5)?;
    /// assert_eq!(props.get::<u32>("qps")?, 5);
    /// props.remove("qps")?;
    /// assert_eq!(props.get::<u32>("qps")?, 100);
    /// # Ok::<(), liveprops::Error>(())
    /// ```
    pub fn set(&self, key: &str, value: impl Into<Value>) -> Result<CommitOutcome, Error> {
        self.transaction(|tx| tx.set(key, value))
    }

    /// Removes a key and all below it from the override layer, so that the values of the sources show
    /// again.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidKey`] for a malformed key.
    /// - [`ErrorKind::Rejected`], [`ErrorKind::Mismatch`] or [`ErrorKind::NotFound`] if a validator, the
    ///   schema or a live handle does not accept the resulting tree.
    /// - [`ErrorKind::Loop`] if callbacks trigger each other without end.
    /// - [`ErrorKind::Reentrant`] [inside a validator](Self#inside-validators-and-decoders), and
    ///   [`ErrorKind::Closed`] in a fork.
    pub fn remove(&self, key: &str) -> Result<CommitOutcome, Error> {
        self.transaction(|tx| tx.remove(key))
    }

    /// Writes several keys of the override layer in one generation: all become visible, or none.
    ///
    /// ```
    /// use liveprops::{ErrorKind, Properties};
    ///
    /// let props = Properties::builder().build()?;
    /// props.transaction(|tx| {
    ///     tx.set("range.min", 1)?;
    ///     tx.set("range.max", 9)
    /// })?;
    /// let seen = props.generation();
    /// props.set("range.max", 10)?;
    /// let late = props.transaction(|tx| {
    ///     tx.if_generation(seen);
    ///     tx.set("range.max", 11)
    /// });
    /// assert_eq!(late.unwrap_err().kind(), ErrorKind::Conflict);
    /// # Ok::<(), liveprops::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// - The error that `write` returns, such as [`ErrorKind::InvalidKey`] of a malformed key.
    /// - [`ErrorKind::Conflict`] if a condition does not hold.
    /// - [`ErrorKind::Rejected`], [`ErrorKind::Mismatch`] or [`ErrorKind::NotFound`], for all keys at
    ///   once, if a validator, the schema or a live handle does not accept the resulting tree.
    /// - [`ErrorKind::Loop`] if callbacks trigger each other without end.
    /// - [`ErrorKind::Reentrant`] [inside a validator](Self#inside-validators-and-decoders), and
    ///   [`ErrorKind::Closed`] in a fork.
    pub fn transaction(
        &self,
        write: impl FnOnce(&mut Transaction) -> Result<(), Error>,
    ) -> Result<CommitOutcome, Error> {
        let mut transaction = Transaction::new(self.snapshot());
        write(&mut transaction)?;
        let (edits, conditions) = transaction.into_parts();
        self.0.engine.write(edits, conditions)
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
