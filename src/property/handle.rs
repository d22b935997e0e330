//! The typed handle on one key.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind};
use crate::property::builder;
use crate::property::change::Change;
use crate::property::listen::{Changes, Listener};
use crate::property::reader::Reader;
use crate::property::rule::Mapped;
use crate::property::slot::Slot;
use crate::property::subscription::{Subscriber, Subscription};
use crate::property::version::{ValueGuard, Version};
use crate::sync::discard::Contained;
use crate::tree::snapshot::Snapshot;
use crate::value::key::Key;

/// A typed handle on one key that always reads the current value.
///
/// Cloning is cheap, and handles on the same key and type share their value. A read takes no lock and
/// parses nothing, since the commit has decoded the value. It allocates nothing either, except for the
/// copy that [`get`](Self::get) makes of a type like `String`; [`load`](Self::load) and
/// [`reader`](Self::reader) make none. An update with a value that cannot become a `T`, or that a
/// validator rejects, is rejected, and the last good value stays.
///
/// The handle outlives its [`Properties`](crate::Properties), and then keeps its last value.
///
/// ```
/// use liveprops::{Properties, sources::Memory};
///
/// let memory = Memory::from([("ratelimit.qps", 100)]);
/// let props = Properties::builder().source(memory.clone()).build()?;
/// let qps = props.property::<u32>("ratelimit.qps").build()?;
/// assert_eq!(qps.get(), 100);
/// memory.set("ratelimit.qps", 500)?;
/// assert_eq!(qps.get(), 500);
/// assert!(memory.set("ratelimit.qps", "many").is_err());
/// assert_eq!(qps.get(), 500);
/// # Ok::<(), liveprops::Error>(())
/// ```
pub struct DynamicProperty<T> {
    pub(crate) slot: Arc<Slot<T>>,
}

impl<T> Clone for DynamicProperty<T> {
    fn clone(&self) -> Self {
        Self {
            slot: Arc::clone(&self.slot),
        }
    }
}

impl<T: Send + Sync + 'static> DynamicProperty<T> {
    /// The current value. For numbers, `bool` and `char` this is one atomic load; for other types
    /// a load and a clone, which [`load`](Self::load) and [`reader`](Self::reader) save.
    #[inline]
    pub fn get(&self) -> T
    where
        T: Clone,
    {
        match self.slot.load_inline() {
            Some(value) => value,
            None => self.slot.load().value.clone(),
        }
    }

    /// The current value without cloning it. Keep the guard short, and not across an `await`.
    #[inline]
    pub fn load(&self) -> ValueGuard<T> {
        ValueGuard(self.slot.load())
    }

    /// A private view for one thread or task: the cheapest read of a type of any size.
    pub fn reader(&self) -> Reader<T> {
        Reader::new(Arc::clone(&self.slot))
    }

    /// The current value with its generation, time, layer and origin, which always belong to it.
    ///
    /// During a commit this may be one change ahead of [`get`](Self::get), never behind it.
    pub fn versioned(&self) -> Arc<Version<T>> {
        self.slot.full()
    }

    /// The value of this property in a snapshot.
    ///
    /// # Errors
    ///
    /// A snapshot older than the handle may have a value that is not acceptable.
    ///
    /// - [`ErrorKind::NotFound`] if all keys are absent and there is no default.
    /// - [`ErrorKind::Mismatch`] if the value cannot become a `T`.
    /// - [`ErrorKind::Reference`] if a reference in it is unresolved or broken.
    /// - [`ErrorKind::Rejected`] if a validator rejects the value, and [`ErrorKind::Panicked`] if it panics.
    pub fn at(&self, snapshot: &Snapshot) -> Result<T, Error> {
        self.slot
            .rule
            .decode(&self.slot.key, &snapshot.0, None)
            .map(|decoded| decoded.value)
    }

    /// The key.
    pub fn key(&self) -> &Key {
        &self.slot.key
    }

    /// Calls `callback` after each change of the typed value, from now on.
    ///
    /// Calls come one at a time and in the order of generations, on a thread of the crate. A slow
    /// callback delays no other one, as long as at most 64 are slow at the same time. The changes that
    /// come meanwhile are merged into one, so the last call always has the final value. The callback may
    /// use any part of this crate and may panic; the panic is counted and reported.
    ///
    /// If the system cannot start a thread, calls wait until it can. Each commit tries again, and so do
    /// [`Properties::health`](crate::Properties::health), which shows it, and the thread that watches the
    /// sources. A thread ends after 10 idle seconds.
    ///
    /// If a callback's own write calls it again, directly or through other callbacks, the write returns
    /// [`ErrorKind::Loop`] after 32 calls in a row. A write from outside restarts the count.
    pub fn on_change(&self, callback: impl FnMut(&Change<'_, T>) + Send + 'static) -> Subscription
    where
        T: PartialEq,
    {
        let mut callback = Contained::new(callback);
        let slot = Contained::new(Arc::clone(&self.slot));
        let base = slot.full();
        let mut last = Contained::new(Arc::clone(&base));
        let subscriber = Subscriber::new(
            Weak::clone(self.slot.engine()),
            Box::new(move || {
                let Some(now) = slot.visible() else {
                    return;
                };
                let before = std::mem::replace(&mut *last, now);
                if last.value != before.value {
                    callback(&Change::new(&slot.key, &before, &last));
                }
            }),
        );
        self.attach(&subscriber, &base);
        Subscription::new(subscriber)
    }

    /// Calls `callback` with the current value before this returns, then after each change, as
    /// [`on_change`](Self::on_change) does.
    pub fn on_change_now(&self, callback: impl FnMut(&T) + Send + 'static) -> Subscription
    where
        T: PartialEq,
    {
        let mut callback = Contained::new(callback);
        let slot = Contained::new(Arc::clone(&self.slot));
        let mut last: Contained<Option<Arc<Version<T>>>> = Contained::new(None);
        let subscriber = Subscriber::new(
            Weak::clone(self.slot.engine()),
            Box::new(move || {
                let now = match (slot.visible(), &*last) {
                    (Some(now), _) => now,
                    (None, None) => slot.full(),
                    (None, Some(_)) => return,
                };
                let before = last.replace(Arc::clone(&now));
                if before.is_none_or(|before| before.value != now.value) {
                    callback(&now.value);
                }
            }),
        );
        // Before the subscriber is attached, so that this call is the first.
        let base = self.slot.full();
        if let Some(panic) = subscriber.run(|_| ()).panic {
            if let Some(engine) = self.slot.engine().upgrade() {
                engine.callback_panicked(panic);
            }
        }
        self.attach(&subscriber, &base);
        Subscription::new(subscriber)
    }

    fn attach(&self, subscriber: &Arc<Subscriber>, base: &Arc<Version<T>>) {
        let listener: Weak<Subscriber> = Arc::downgrade(subscriber);
        let now = self.slot.listen(listener);
        if !Arc::ptr_eq(&now, base) {
            // A commit came between the read of the base and the addition of the listener.
            Listener::notify(Arc::clone(subscriber));
        }
    }

    /// A channel of the changes from now on, which keeps only the newest.
    pub fn changes(&self) -> Changes<T>
    where
        T: PartialEq,
    {
        Changes::new(Arc::clone(&self.slot))
    }

    /// Resolves when the value differs from what it is now, on any executor.
    ///
    /// For a loop, keep a [`changes`](Self::changes) and await
    /// [`changed`](crate::property::Changes::changed) on it, which misses no change in between.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`] once the last clone of the properties is dropped, and in a fork of the
    /// process that built the properties.
    pub fn changed(&self) -> impl Future<Output = Result<Arc<Version<T>>, Error>> + Send + use<T>
    where
        T: PartialEq,
    {
        let mut changes = self.changes();
        async move { changes.changed().await }
    }

    /// Waits until the value satisfies `wanted`, at most `timeout`, and returns it.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Timeout`] if the value did not satisfy `wanted` in time.
    /// - [`ErrorKind::Closed`] if it did not before the last clone of the properties was dropped, and in a
    ///   fork.
    /// - [`ErrorKind::Reentrant`] inside a validator or a decoder of any properties, if the value does not
    ///   satisfy `wanted` yet.
    pub fn wait_until(
        &self,
        mut wanted: impl FnMut(&T) -> bool,
        timeout: Duration,
    ) -> Result<T, Error>
    where
        T: Clone + PartialEq,
    {
        self.slot.check_process()?;
        let timed_out = || {
            Error::new(
                ErrorKind::Timeout,
                format!("condition not met within {timeout:?}"),
            )
            .with_key(self.key())
        };
        let until = Instant::now().checked_add(timeout);
        let mut changes = self.changes();
        let mut now = changes.current();
        // Its commit may not have ended, so that a read by name would not show it yet.
        while !self.slot.is_visible(&now) {
            std::thread::yield_now();
        }
        loop {
            if wanted(&now.value) {
                return Ok(now.value.clone());
            }
            let left = match until {
                Some(until) => until.saturating_duration_since(Instant::now()),
                None => Duration::MAX,
            };
            now = changes
                .recv_timeout(left)
                .map_err(|error| match error.kind() {
                    ErrorKind::Timeout => timed_out(),
                    _ => error,
                })?;
        }
    }

    /// A property computed from this one, once for each change and not for each read.
    ///
    /// It changes when its own value differs. A panic in `compute` rejects the update that led to it; the
    /// panic of the first call propagates to the caller. A property that is created inside a validator or
    /// another mapping of the same properties keeps its first value.
    pub fn map<U: Send + Sync + 'static>(
        &self,
        compute: impl Fn(&T) -> U + Send + Sync + 'static,
    ) -> DynamicProperty<U> {
        let compute = Arc::new(Contained::new(compute));
        let compute_again = Arc::clone(&compute);
        let parent = Contained::new(Arc::clone(&self.slot));
        let mapped = Mapped {
            from_version: Contained::new(Box::new(move |version| {
                let version = version.downcast_ref::<Arc<Version<T>>>()?;
                Some(version.with_value(compute(&version.value)))
            })),
            from_generation: Contained::new(Box::new(move |generation| {
                let decoded = parent.rule.decode(&parent.key, generation, None)?;
                Ok(decoded.map(|value| compute_again(value)))
            })),
            fallbacks: self.slot.rule.fallbacks().into(),
        };
        DynamicProperty {
            slot: Slot::mapped(&self.slot, mapped),
        }
    }

    /// This property with one more key to fall back to, before its default.
    ///
    /// The key of a handle of a [scoped view](crate::Scoped) is named below the view's prefix, as it
    /// is for [`PropertyBuilder::or_key`](crate::property::PropertyBuilder::or_key).
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidConfig`] for a property made by [`map`](Self::map).
    /// - [`ErrorKind::InvalidKey`] for a malformed key.
    /// - [`ErrorKind::NotFound`] if all keys are absent and there is no default.
    /// - [`ErrorKind::Mismatch`] if the value of the new key cannot become a `T`.
    /// - [`ErrorKind::Reference`] if a reference in it is unresolved or broken.
    /// - [`ErrorKind::Rejected`] if a validator rejects it, and [`ErrorKind::Panicked`] if it panics.
    /// - [`ErrorKind::Reentrant`] inside a validator, and [`ErrorKind::Closed`] once the properties are
    ///   dropped, and in a fork.
    pub fn or_key(&self, key: &str) -> Result<Self, Error> {
        builder::with_fallback(&self.slot, key)
    }
}

impl<T> fmt::Debug for DynamicProperty<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the value: it may be a secret.
        f.debug_struct("DynamicProperty")
            .field("key", &self.slot.key)
            .finish_non_exhaustive()
    }
}
