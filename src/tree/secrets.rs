//! Which keys may hold a secret.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, OnceLock};

use parking_lot::RwLock;

use crate::value::key::{self, Key};
use crate::value::secret;

/// The keys whose values are never shown: those that look like it, those that were named to the
/// builder, and those that were ever read as [`Secret`](crate::Secret).
#[derive(Clone, Default)]
pub(crate) struct Secrets(Arc<Inner>);

#[derive(Default)]
struct Inner {
    keys: RwLock<BTreeSet<Key>>,
    more: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Secrets {
    pub(crate) fn add(&self, key: Key) {
        if self.0.keys.read().contains(&key) {
            return;
        }
        self.0.keys.write().insert(key);
        if let Some(more) = self.0.more.get() {
            more();
        }
    }

    /// Calls `more` after each key that is added from now on; only the first one given is called.
    pub(crate) fn when_more(&self, more: Box<dyn Fn() + Send + Sync>) {
        let _ = self.0.more.set(more);
    }

    /// Whether the value of a key, or something below it, may be a secret.
    pub(crate) fn hides(&self, key: &str) -> bool {
        // However it is spelled: `"a".b` is `a.b`.
        let canonical = key.contains('"').then(|| Key::parse(key).ok()).flatten();
        let key = canonical.as_ref().map_or(key, Key::as_str);
        secret::looks_secret(key)
            || self
                .0
                .keys
                .read()
                .iter()
                .any(|hidden| key::under(key, hidden.as_str()) || key::under(hidden.as_str(), key))
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Secrets")
            .field(&*self.0.keys.read())
            .finish()
    }
}
