//! A view of the keys under a prefix.

use serde::de::DeserializeOwned;

use crate::error::Error;
#[cfg(doc)]
use crate::error::ErrorKind;
use crate::properties::Properties;
use crate::property::batch::Batch;
use crate::property::builder::PropertyBuilder;
use crate::property::subscription::Subscription;
use crate::source::CommitOutcome;
use crate::tree::explain::Explanation;
use crate::value::Value;
use crate::value::key::Key;

/// A view of the keys under a prefix, by their names below it; made by [`Properties::scoped`].
///
/// It reads, writes and subscribes as [`Properties`] do, and has no state but the prefix.
///
/// ```
/// use liveprops::{Properties, sources::Memory};
///
/// let props = Properties::builder().source(Memory::from([("db.pool.max", 10)])).build()?;
/// let pool = props.scoped("db.pool")?;
/// assert_eq!(pool.get::<u32>("max")?, 10);
/// pool.set("max", 20)?;
/// assert_eq!(props.get::<u32>("db.pool.max")?, 20);
/// # Ok::<(), liveprops::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Scoped {
    pub(super) props: Properties,
    pub(super) prefix: Key,
}

impl Scoped {
    fn full(&self, key: &str) -> Result<Key, Error> {
        self.prefix.join(&Key::parse(key)?)
    }

    /// The prefix.
    pub fn prefix(&self) -> &Key {
        &self.prefix
    }

    /// A view further down.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidKey`] if the prefix is malformed.
    pub fn scoped(&self, prefix: &str) -> Result<Scoped, Error> {
        Ok(Scoped {
            props: self.props.clone(),
            prefix: self.full(prefix)?,
        })
    }

    /// The current value of a key.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::NotFound`] if no layer defines the key.
    /// - [`ErrorKind::Mismatch`] if its value cannot become a `T`.
    /// - [`ErrorKind::Reference`] if a reference in it, or in a key that it refers to, is unresolved or
    ///   broken.
    /// - [`ErrorKind::InvalidKey`] for a malformed key.
    pub fn get<T: DeserializeOwned + 'static>(&self, key: &str) -> Result<T, Error> {
        self.props.get(self.full(key)?.as_str())
    }

    /// The current value of a key, or `None` if no layer defines it.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Mismatch`] if its value cannot become a `T`.
    /// - [`ErrorKind::Reference`] if a reference in it, or in a key that it refers to, is unresolved or
    ///   broken.
    /// - [`ErrorKind::InvalidKey`] for a malformed key.
    pub fn get_opt<T: DeserializeOwned + 'static>(&self, key: &str) -> Result<Option<T>, Error> {
        self.props.get_opt(self.full(key)?.as_str())
    }

    /// The current value of a key, or `default` if no layer defines it, as [`Properties::get_or`].
    pub fn get_or<T: DeserializeOwned + 'static>(&self, key: &str, default: T) -> T {
        match self.full(key) {
            Ok(key) => self.props.get_or(key.as_str(), default),
            // A malformed key is reported as any other failed read.
            Err(_) => self.props.get_or(key, default),
        }
    }

    /// Begins a live handle on a key, as [`Properties::property`].
    pub fn property<T: DeserializeOwned + Send + Sync + 'static>(
        &self,
        key: &str,
    ) -> PropertyBuilder<T> {
        PropertyBuilder::new(self.props.engine_ref(), self.prefix.clone(), key, false)
    }

    /// Begins a live handle on a subtree as a struct, as [`Properties::bind`].
    pub fn bind<T: DeserializeOwned + Send + Sync + 'static>(
        &self,
        key: &str,
    ) -> PropertyBuilder<T> {
        PropertyBuilder::new(self.props.engine_ref(), self.prefix.clone(), key, true)
    }

    /// Calls `callback` once per generation with all its changes under a prefix, as
    /// [`Properties::on_change_under`]. The batch names keys in full.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidKey`] if the prefix is malformed.
    /// - [`ErrorKind::Reentrant`] inside a validator, and [`ErrorKind::Closed`] in a fork.
    pub fn on_change_under(
        &self,
        prefix: &str,
        callback: impl FnMut(&Batch) + Send + 'static,
    ) -> Result<Subscription, Error> {
        self.props.subscribe(self.full(prefix)?, callback)
    }

    /// Explains a key, as [`Properties::explain`] does; the explanation names it in full.
    pub fn explain(&self, key: &str) -> Explanation {
        match self.full(key) {
            Ok(key) => self.props.explain(key.as_str()),
            Err(error) => Explanation::of_malformed(&self.props.snapshot().0, key, error),
        }
    }

    /// Sets a key in the override layer, as [`Properties::set`].
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidKey`] for a malformed key.
    /// - [`ErrorKind::Rejected`], [`ErrorKind::Mismatch`] or [`ErrorKind::NotFound`] if a validator, the
    ///   schema or a live handle does not accept the resulting tree.
    /// - [`ErrorKind::Loop`] if callbacks trigger each other without end.
    /// - [`ErrorKind::Reentrant`] inside a validator, and [`ErrorKind::Closed`] in a fork.
    pub fn set(&self, key: &str, value: impl Into<Value>) -> Result<CommitOutcome, Error> {
        self.props.set(self.full(key)?.as_str(), value)
    }

    /// Removes a key and all below it from the override layer, as [`Properties::remove`].
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidKey`] for a malformed key.
    /// - [`ErrorKind::Rejected`], [`ErrorKind::Mismatch`] or [`ErrorKind::NotFound`] if a validator, the
    ///   schema or a live handle does not accept the resulting tree.
    /// - [`ErrorKind::Loop`] if callbacks trigger each other without end.
    /// - [`ErrorKind::Reentrant`] inside a validator, and [`ErrorKind::Closed`] in a fork.
    pub fn remove(&self, key: &str) -> Result<CommitOutcome, Error> {
        self.props.remove(self.full(key)?.as_str())
    }
}
