//! Which keys may hold a secret.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use crate::value::key::{self, Key};
use crate::value::secret;

/// The keys whose values are never shown: those that look like it, those that were named to the
/// builder, and those that were ever read as [`Secret`](crate::Secret).
#[derive(Clone, Default)]
pub(crate) struct Secrets(Arc<Inner>);

#[derive(Default)]
struct Inner {
    keys: RwLock<BTreeSet<Key>>,
    more: Mutex<Vec<Arc<More>>>,
}

/// What is done when a key turns out to hold a secret.
type More = dyn Fn(&Key) + Send + Sync;

impl Secrets {
    pub(crate) fn add(&self, key: Key) {
        if self.0.keys.read().contains(&key) {
            return;
        }
        self.0.keys.write().insert(key.clone());
        let more = self.0.more.lock().clone();
        more.iter().for_each(|more| more(&key));
    }

    /// Calls `more` after each key that is added from now on.
    pub(crate) fn when_more(&self, more: impl Fn(&Key) + Send + Sync + 'static) {
        self.0.more.lock().push(Arc::new(more));
    }

    /// Makes [`hides`](Self::hides) wait while the result lives.
    #[cfg(test)]
    pub(crate) fn block(&self) -> impl Drop + '_ {
        self.0.keys.write()
    }

    /// Whether the value of a key, or something below it, may be a secret.
    pub(crate) fn hides(&self, key: &str) -> bool {
        // However it is spelled: `"a".b` is `a.b`.
        let canonical = key.contains('"').then(|| Key::parse(key).ok()).flatten();
        let key = canonical.as_ref().map_or(key, Key::as_str);
        if secret::looks_secret(key) {
            return true;
        }
        let keys = self.0.keys.read();
        let above = || key::lineage(key).any(|place| keys.contains(place));
        // What stands below a key begins with it and a dot.
        let below = || {
            let mut first = String::with_capacity(key.len() + 1);
            first.push_str(key);
            if !key.is_empty() {
                first.push('.');
            }
            let mut after = keys.range::<str, _>((Bound::Included(&*first), Bound::Unbounded));
            after
                .next()
                .is_some_and(|next| key::under(next.as_str(), key))
        };
        !keys.is_empty() && (above() || below())
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Secrets")
            .field(&*self.0.keys.read())
            .finish()
    }
}
