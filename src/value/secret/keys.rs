//! The secret keys of a tree: those with secret names, those that the program named, and those that were
//! read as secrets.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::sync::lock::Mutex;
use crate::sync::process::ForkLock;
use crate::value::Value;
use crate::value::key::{self, Key};
use crate::value::secret::buffered::{self, SecretKeys, UNNAMED};
use crate::value::secret::contents;
use crate::value::secret::names;

/// The keys whose values are never shown: those with secret names, those that were named to the builder,
/// and those that were read as [`Secret`](crate::Secret).
#[derive(Clone, Default)]
pub(crate) struct Secrets(Arc<Inner>);

#[derive(Default)]
struct Inner {
    keys: ForkLock<BTreeSet<Key>>,
    /// The keys that are guesses: one of several has the secret.
    possible: ForkLock<BTreeSet<Key>>,
    /// The keys that are not secret whatever their names are, by the program's choice.
    plain: OnceLock<BTreeSet<Key>>,
    /// Whether a key may be a misspelling of one that is declared secret.
    lookalikes: OnceLock<Box<Lookalikes>>,
    /// The number of keys that could not be added because another thread had the lock when this process
    /// was forked. If there are any, every key is secret.
    missed: AtomicU64,
    /// The number of keys that were added.
    added: AtomicU64,
    /// Called after each key that is added.
    listeners: Mutex<Vec<Arc<Listener>>>,
}

/// Whether a key may be a misspelling of one that is declared secret.
type Lookalikes = dyn Fn(&str) -> bool + Send + Sync;

/// Receives each key that is added.
type Listener = dyn Fn(&Key) + Send + Sync;

impl Secrets {
    /// Adds a secret key. In a fork, no listener is called: the listeners belong to threads that the fork does
    /// not have.
    pub(crate) fn add(&self, key: Key) {
        let inner = &*self.0;
        if inner.keys.read().is_some_and(|keys| keys.contains(&key)) {
            let is_possible = inner.possible.read().is_some_and(|it| it.contains(&key));
            if is_possible {
                if let Some(mut possible) = inner.possible.write() {
                    possible.remove(&key);
                }
            }
            return;
        }
        self.add_new(key);
    }

    /// The number of keys that were added.
    pub(crate) fn count(&self) -> u64 {
        self.0.added.load(Ordering::Acquire)
    }

    fn add_new(&self, key: Key) {
        let inner = &*self.0;
        match inner.keys.write() {
            Some(mut keys) => drop(keys.insert(key.clone())),
            None => {
                // A counter: its order with other memory does not matter.
                inner.missed.fetch_add(1, Ordering::Relaxed);
            }
        }
        // ORDERING: pairs with the load in `count`: a thread that reads the number reads the key as well.
        inner.added.fetch_add(1, Ordering::Release);
        if inner.keys.is_in_its_process() {
            let listeners = inner.listeners.lock().clone();
            listeners.iter().for_each(|listener| listener(&key));
        }
    }

    /// Adds secret keys.
    pub(crate) fn add_all(&self, keys: impl IntoIterator<Item = String>) {
        let keys = keys.into_iter().filter_map(|key| Key::parse(&key).ok());
        keys.for_each(|key| self.add(key));
    }

    /// Adds the keys that were read as secrets. Possible ones count as guesses.
    pub(crate) fn add_read(&self, read: SecretKeys) {
        self.add_all(read.certain);
        let keys = read.possible.into_iter();
        for key in keys.filter_map(|key| Key::parse(&key).ok()) {
            let is_unnamed = key.segments().last().is_some_and(|name| name == UNNAMED);
            let named = key
                .lineage()
                .nth(usize::from(is_unnamed))
                .unwrap_or_default();
            if self.is_plain(named) || self.0.keys.read().is_some_and(|it| it.contains(&key)) {
                continue;
            }
            if let Some(mut possible) = self.0.possible.write() {
                possible.insert(key.clone());
            }
            self.add_new(key);
        }
    }

    /// Calls `listener` after each key that is added from now on.
    pub(crate) fn on_new_key(&self, listener: impl Fn(&Key) + Send + Sync + 'static) {
        self.0.listeners.lock().push(Arc::new(listener));
    }

    /// Makes [`hides`](Self::hides) wait while the result lives.
    #[cfg(test)]
    pub(crate) fn block(&self) -> impl Sized + '_ {
        self.0.keys.write()
    }

    /// Sets the plain keys: they are not secret, whatever their names are. Only the first call has an
    /// effect.
    pub(crate) fn set_plain(&self, keys: BTreeSet<Key>) {
        let _ = self.0.plain.set(keys);
    }

    /// Adds the keys for which `is_like` returns true to those that look secret. Only the first call has
    /// an effect.
    pub(crate) fn set_lookalikes(&self, is_like: impl Fn(&str) -> bool + Send + Sync + 'static) {
        let _ = self.0.lookalikes.set(Box::new(is_like));
    }

    /// Whether the value of a key, or a value below it, may be a secret. True in a fork that cannot read
    /// the keys.
    pub(crate) fn hides(&self, key: &str) -> bool {
        with_canonical(key, |key| {
            // The keys below a key start with it and a dot.
            let is_below = |keys: &BTreeSet<Key>| {
                let first = child_prefix(key);
                let mut after = keys.range::<str, _>((Bound::Included(&*first), Bound::Unbounded));
                after
                    .next()
                    .is_some_and(|next| key::under(next.as_str(), key))
            };
            self.looks_secret(key) || self.is_added(key, is_below)
        })
    }

    /// As [`hides`](Self::hides), for a part of a list: hidden also if another part of the list is secret.
    pub(crate) fn hides_part(&self, key: &str) -> bool {
        let above = key::lineage(key).filter_map(|item| item.rsplit_once('.'));
        let mut lists = above.filter(|(_, index)| key::list_index(index).is_some());
        self.hides(key) || lists.any(|(list, _)| self.hides(list))
    }

    /// Returns the names directly below a key that are secret or have a secret below; `None` in a fork that
    /// cannot read the keys.
    pub(crate) fn names_below(&self, key: &str) -> Option<BTreeSet<String>> {
        if self.0.missed.load(Ordering::Relaxed) > 0 {
            return None;
        }
        let keys = self.0.keys.read()?;
        if keys.is_empty() {
            return Some(BTreeSet::new());
        }
        let names = with_canonical(key, |key| {
            let first = child_prefix(key);
            let after = keys.range::<str, _>((Bound::Included(&*first), Bound::Unbounded));
            let rest = after.map_while(|key| key.as_str().strip_prefix(&*first));
            let names = rest.filter_map(|rest| key::segments(rest).next()?.ok());
            names.map(Cow::into_owned).collect()
        });
        Some(names)
    }

    /// Whether the value of a key may be a secret, apart from the values below it.
    pub(crate) fn is_secret(&self, key: &str) -> bool {
        with_canonical(key, |key| {
            self.looks_secret(key) || self.is_added(key, |_| false)
        })
    }

    /// Whether a value must not be shown at a key.
    pub(crate) fn hides_value(&self, key: &str, value: &Value) -> bool {
        let form_counts = !self.form_is_plain(key);
        self.hides(key)
            || contents::names_secret(value)
            || (form_counts && contents::holds_secret(value))
    }

    /// Whether a key is secret because it was named or read as a secret, and not by a guess.
    pub(crate) fn is_known(&self, key: &str) -> bool {
        let is_guess = |key: &str| {
            let possible = self.0.possible.read();
            possible.is_some_and(|it| key::lineage(key).any(|above| it.contains(above)))
        };
        with_canonical(key, |key| self.is_added(key, |_| false) && !is_guess(key))
    }

    /// The keys at and below `key` that were named or read as secrets, and not by a guess: `key` itself if one above
    /// it is.
    pub(crate) fn known_in(&self, key: &Key) -> Vec<String> {
        if self.is_known(key.as_str()) {
            return vec![key.as_str().to_owned()];
        }
        let Some(keys) = self.0.keys.read().filter(|keys| !keys.is_empty()) else {
            return Vec::new();
        };
        let first = child_prefix(key.as_str());
        let after = keys.range::<str, _>((Bound::Included(&*first), Bound::Unbounded));
        let below = after.take_while(|below| below.as_str().starts_with(&*first));
        let possible = self.0.possible.read();
        let is_guess = |key: &Key| possible.as_ref().is_some_and(|it| it.contains(key));
        let known = below.filter(|below| !is_guess(below));
        known.map(|below| below.as_str().to_owned()).collect()
    }

    /// Whether a key is plain: not secret by the program's choice.
    pub(crate) fn is_plain(&self, key: &str) -> bool {
        let plain = self.0.plain.get().filter(|plain| !plain.is_empty());
        plain.is_some_and(|plain| with_canonical(key, |key| plain.contains(key)))
    }

    /// Whether the form of a value at a key is ignored, because the key or one above it is plain.
    pub(crate) fn form_is_plain(&self, key: &str) -> bool {
        let plain = self.0.plain.get().filter(|plain| !plain.is_empty());
        plain.is_some_and(|plain| {
            with_canonical(key, |key| {
                key::lineage(key).any(|above| plain.contains(above))
            })
        })
    }

    /// Whether a key looks secret. Below a plain key, only the names below it are considered.
    pub(crate) fn looks_secret(&self, key: &str) -> bool {
        let plain = self.0.plain.get().filter(|plain| !plain.is_empty());
        let plain = plain.and_then(|plain| key::lineage(key).find(|above| plain.contains(*above)));
        match plain {
            Some(plain) => {
                let below = key.get(plain.len()..).unwrap_or_default();
                names::looks_secret(below.strip_prefix('.').unwrap_or(below))
            }
            None => {
                let lookalikes = self.0.lookalikes.get();
                names::looks_secret(key) || lookalikes.is_some_and(|is_like| is_like(key))
            }
        }
    }

    /// Whether a key or one above it was added, or one that `below` finds.
    fn is_added(&self, key: &str, below: impl Fn(&BTreeSet<Key>) -> bool) -> bool {
        if self.0.missed.load(Ordering::Relaxed) > 0 {
            return true;
        }
        let Some(keys) = self.0.keys.read() else {
            return true;
        };
        !keys.is_empty() && (key::lineage(key).any(|above| keys.contains(above)) || below(&keys))
    }

    /// Whether a key is in an item of a list that replaces a table with a secret, see
    /// [`unnamed_below`](crate::value::secret::buffered::unnamed_below).
    pub(crate) fn hides_item(&self, key: &str) -> bool {
        let Some(keys) = self.0.keys.read().filter(|keys| !keys.is_empty()) else {
            return false;
        };
        with_canonical(key, |key| {
            let above = key::lineage(key).filter_map(|item| item.rsplit_once('.'));
            let mut lists = above.filter(|(_, index)| key::list_index(index).is_some());
            lists.any(|(list, _)| keys.contains(&*buffered::unnamed_below(list)))
        })
    }
}

/// Returns the prefix of all keys below a key.
fn child_prefix(key: &str) -> String {
    let mut first = String::with_capacity(key.len() + 1);
    first.push_str(key);
    if !key.is_empty() {
        first.push('.');
    }
    first
}

/// Runs `act` with the canonical form of a key: `a.b` for `"a".b`.
fn with_canonical<R>(key: &str, act: impl FnOnce(&str) -> R) -> R {
    let canonical = key.contains('"').then(|| Key::parse(key).ok()).flatten();
    act(canonical.as_ref().map_or(key, Key::as_str))
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
        secrets.on_new_key(|key| panic!("`{key}` is reported in a fork"));
        secrets
    }

    #[test]
    fn a_fork_that_cannot_read_the_secret_keys_hides_every_key() {
        let secrets = forked();
        assert!(!secrets.hides("a"));
        let _guard = secrets.0.keys.write();
        assert!(secrets.hides("a"));
    }

    #[test]
    fn a_fork_that_cannot_add_a_secret_key_hides_every_key() {
        let secrets = forked();
        secrets.add(Key::parse("a").unwrap());
        assert!(secrets.hides("a") && !secrets.hides("b"));
        let guard = secrets.0.keys.read();
        secrets.add(Key::parse("b").unwrap());
        drop(guard);
        assert!(secrets.hides("b") && secrets.hides("c"));
    }
}
