//! Which keys may hold a secret.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::value::key::{self, Key};
use crate::value::secret;

/// The keys whose values are never shown: those that look like it, those that were named to the
/// builder, and those that were ever read as [`Secret`](crate::Secret).
#[derive(Clone, Debug, Default)]
pub(crate) struct Secrets(Arc<RwLock<BTreeSet<Key>>>);

impl Secrets {
    pub(crate) fn add(&self, key: Key) {
        if !self.0.read().contains(&key) {
            self.0.write().insert(key);
        }
    }

    /// Whether the value of a key, or something below it, may be a secret.
    pub(crate) fn hides(&self, key: &str) -> bool {
        // However it is spelled: `"a".b` is `a.b`.
        let canonical = key.contains('"').then(|| Key::parse(key).ok()).flatten();
        let key = canonical.as_ref().map_or(key, Key::as_str);
        secret::looks_secret(key)
            || self
                .0
                .read()
                .iter()
                .any(|hidden| key::under(key, hidden.as_str()) || key::under(hidden.as_str(), key))
    }
}
