//! A view of the keys under a prefix.

use serde::de::DeserializeOwned;

use crate::error::Error;
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
/// It reads, writes and subscribes as [`Properties`] does, and holds nothing but the prefix.
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
    /// [`ErrorKind::InvalidKey`](crate::ErrorKind::InvalidKey) if the prefix is malformed.
    pub fn scoped(&self, prefix: &str) -> Result<Scoped, Error> {
        Ok(Scoped {
            props: self.props.clone(),
            prefix: self.full(prefix)?,
        })
    }

    /// As [`Properties::get`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn get<T: DeserializeOwned + 'static>(&self, key: &str) -> Result<T, Error> {
        self.props.get(self.full(key)?.as_str())
    }

    /// As [`Properties::get_opt`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn get_opt<T: DeserializeOwned + 'static>(&self, key: &str) -> Result<Option<T>, Error> {
        self.props.get_opt(self.full(key)?.as_str())
    }

    /// As [`Properties::get_or`].
    pub fn get_or<T: DeserializeOwned + 'static>(&self, key: &str, default: T) -> T {
        match self.full(key) {
            Ok(key) => self.props.get_or(key.as_str(), default),
            // Let the malformed key be reported as any other bad reading.
            Err(_) => self.props.get_or(key, default),
        }
    }

    /// As [`Properties::property`].
    pub fn property<T: DeserializeOwned + Send + Sync + 'static>(
        &self,
        key: &str,
    ) -> PropertyBuilder<T> {
        PropertyBuilder::new(self.props.host(), self.prefix.clone(), key, false)
    }

    /// As [`Properties::bind`].
    pub fn bind<T: DeserializeOwned + Send + Sync + 'static>(
        &self,
        key: &str,
    ) -> PropertyBuilder<T> {
        PropertyBuilder::new(self.props.host(), self.prefix.clone(), key, true)
    }

    /// As [`Properties::on_change_under`]; the batch names keys in full.
    ///
    /// # Errors
    ///
    /// As there.
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

    /// As [`Properties::set`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn set(&self, key: &str, value: impl Into<Value>) -> Result<CommitOutcome, Error> {
        self.props.set(self.full(key)?.as_str(), value)
    }

    /// As [`Properties::remove`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn remove(&self, key: &str) -> Result<CommitOutcome, Error> {
        self.props.remove(self.full(key)?.as_str())
    }
}
