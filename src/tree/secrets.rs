//! Which keys may hold a secret.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::sync::lock::Mutex;
use crate::sync::process::ForkLock;
use crate::value::coerce::Hidden;
use crate::value::key::{self, Key};
use crate::value::secret;

/// The keys whose values are never shown: those that look like it, those that were named to the
/// builder, and those that were ever read as [`Secret`](crate::Secret).
#[derive(Clone, Default)]
pub(crate) struct Secrets(Arc<Inner>);

#[derive(Default)]
struct Inner {
    keys: ForkLock<BTreeSet<Key>>,
    /// How many keys could not be added, since another thread held the lock when this process was
    /// forked. Every key counts as a secret from then on.
    missed: AtomicU64,
    more: Mutex<Vec<Arc<More>>>,
}

/// What is done when a key turns out to hold a secret.
type More = dyn Fn(&Key) + Send + Sync;

impl Secrets {
    /// Hides a key from now on. In a fork nothing else is done about it: what the process shows and
    /// keeps besides the values belongs to its threads, which the fork does not have.
    pub(crate) fn add(&self, key: Key) {
        let inner = &*self.0;
        if inner.keys.read().is_some_and(|keys| keys.contains(&key)) {
            return;
        }
        match inner.keys.write() {
            Some(mut keys) => drop(keys.insert(key.clone())),
            None => {
                // A counter: its order with other memory does not matter.
                inner.missed.fetch_add(1, Ordering::Relaxed);
            }
        }
        if inner.keys.is_in_its_process() {
            let more = inner.more.lock().clone();
            more.iter().for_each(|more| more(&key));
        }
    }

    /// Calls `more` after each key that is added from now on.
    pub(crate) fn when_more(&self, more: impl Fn(&Key) + Send + Sync + 'static) {
        self.0.more.lock().push(Arc::new(more));
    }

    /// Makes [`hides`](Self::hides) wait while the result lives.
    #[cfg(test)]
    pub(crate) fn block(&self) -> impl Sized + '_ {
        self.0.keys.write()
    }

    /// Whether the value of a key, or something below it, may be a secret. Where the keys cannot be
    /// read, in a fork, it may be.
    pub(crate) fn hides(&self, key: &str) -> bool {
        self.hidden(key) != Hidden::No
    }

    /// Whether a key, or only something below it, may hold a secret.
    pub(crate) fn hidden(&self, key: &str) -> Hidden {
        // However it is spelled: `"a".b` is `a.b`.
        let canonical = key.contains('"').then(|| Key::parse(key).ok()).flatten();
        let key = canonical.as_ref().map_or(key, Key::as_str);
        if secret::looks_secret(key) {
            return Hidden::Whole;
        }
        if self.0.missed.load(Ordering::Relaxed) > 0 {
            return Hidden::Whole;
        }
        let Some(keys) = self.0.keys.read() else {
            return Hidden::Whole;
        };
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
        if keys.is_empty() {
            Hidden::No
        } else if above() {
            Hidden::Whole
        } else if below() {
            Hidden::Below
        } else {
            Hidden::No
        }
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.0.keys.read();
        f.debug_tuple("Secrets").field(&keys.as_deref()).finish()
    }
}

#[cfg(all(test, not(loom)))]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Secrets that another process has made.
    fn forked() -> Secrets {
        let inner = Inner {
            keys: ForkLock::of_another_process(),
            ..Inner::default()
        };
        let secrets = Secrets(Arc::new(inner));
        secrets.when_more(|key| panic!("`{key}` is reported in a fork"));
        secrets
    }

    #[test]
    fn a_fork_that_cannot_read_the_secret_keys_hides_every_key() {
        let secrets = forked();
        assert!(!secrets.hides("a"));
        let _held = secrets.0.keys.write();
        assert!(secrets.hides("a"));
    }

    #[test]
    fn a_fork_that_cannot_add_a_secret_key_hides_every_key() {
        let secrets = forked();
        secrets.add(Key::parse("a").unwrap());
        assert!(secrets.hides("a") && !secrets.hides("b"));
        let held = secrets.0.keys.read();
        secrets.add(Key::parse("b").unwrap());
        drop(held);
        assert!(secrets.hides("b") && secrets.hides("c"));
    }
}
