//! The typed handle on one key.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use crate::error::{Error, ErrorKind};
use crate::property::builder;
use crate::property::listen::Changes;
use crate::property::reader::Reader;
use crate::property::slot::{Mapped, Slot, ValueGuard, Version};
use crate::property::subscription::{Subscriber, Subscription};
use crate::sync::discard::Contained;
use crate::tree::snapshot::Snapshot;
use crate::value::key::Key;
use crate::value::origin::Origin;

/// A typed handle on one key that always reads the current value.
///
/// Cloning is cheap and handles on the same key and type share their value. Reading takes no lock
/// and parses nothing: that was done when the value came. It allocates nothing either, except for
/// the copy that [`get`](Self::get) makes of a type like `String`; [`load`](Self::load) and
/// [`reader`](Self::reader) make none. A value that cannot
/// become a `T`, or that a validator refuses, never gets here; the last good one stays.
///
/// The handle outlives its [`Properties`](crate::Properties): it then keeps its last value.
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

/// A change of one property, as a callback sees it.
#[non_exhaustive]
pub struct Change<'a, T> {
    /// The value this subscriber saw last.
    pub old: &'a T,
    /// The value now.
    pub new: &'a T,
    /// The property's key.
    pub key: &'a Key,
    /// The generation that brought the new value.
    pub generation: u64,
    /// When that was, by the wall clock; for showing only.
    pub time: SystemTime,
    /// Where the old value was written.
    pub old_origin: Option<&'a Origin>,
    /// Where the new value is written; `None` for a default and for a struct.
    pub origin: Option<&'a Origin>,
}

impl<T> fmt::Debug for Change<'_, T> {
    /// Shows where the values were written, not the values: they may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Change")
            .field("key", self.key)
            .field("generation", &self.generation)
            .field("old_origin", &self.old_origin)
            .field("origin", &self.origin)
            .finish_non_exhaustive()
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
        match self.slot.small() {
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
    /// While a commit is on its way this may be one change ahead of [`get`](Self::get), never behind
    /// it.
    pub fn versioned(&self) -> Arc<Version<T>> {
        self.slot.full()
    }

    /// The value of this property in a snapshot.
    ///
    /// # Errors
    ///
    /// As building the handle in that generation would have: a snapshot older than the handle may
    /// hold a value that is not acceptable.
    pub fn at(&self, snapshot: &Snapshot) -> Result<T, Error> {
        self.slot
            .rule
            .draw(&self.slot.key, &snapshot.0, None)
            .map(|drawn| drawn.value)
    }

    /// The key.
    pub fn key(&self) -> &Key {
        &self.slot.key
    }

    /// Calls `callback` after each change of the typed value, from now on.
    ///
    /// Calls come one at a time and in the order of generations, on a thread of the crate. A slow
    /// callback delays nobody else, up to 64 that are slow at the same time: the changes that come
    /// meanwhile collapse into the newest, and the last call always carries the final value. The
    /// callback may use any part of this crate and may panic; the panic is counted and reported.
    ///
    /// Where the system has no thread to give, calls wait until it has: each commit tries again, and
    /// so do [`Properties::health`](crate::Properties::health), which shows it, and the thread that
    /// looks after sources that are polled or watched. A thread ends when it has been idle for 10
    /// seconds.
    ///
    /// A callback whose own write calls it again, directly or through other callbacks, is cut off
    /// after 32 calls in a row with [`ErrorKind::Loop`]. A write from outside in between begins the
    /// count again.
    pub fn on_change(&self, callback: impl FnMut(&Change<'_, T>) + Send + 'static) -> Subscription
    where
        T: PartialEq,
    {
        let mut callback = Contained::new(callback);
        let slot = Contained::new(Arc::clone(&self.slot));
        let base = slot.full();
        let mut last = Contained::new(Arc::clone(&base));
        let subscriber = Subscriber::new(
            Weak::clone(self.slot.host()),
            Box::new(move || {
                let Some(now) = slot.settled() else {
                    return;
                };
                let before = std::mem::replace(&mut *last, now);
                if last.value != before.value {
                    callback(&Change {
                        old: &before.value,
                        new: &last.value,
                        key: &slot.key,
                        generation: last.generation(),
                        time: last.time(),
                        old_origin: before.origin(),
                        origin: last.origin(),
                    });
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
            Weak::clone(self.slot.host()),
            Box::new(move || {
                let now = match (slot.settled(), &*last) {
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
        // Before anybody knows the subscriber, so that this call is the first.
        let base = self.slot.full();
        if let Some(panic) = subscriber.run(|_| ()).panic {
            if let Some(host) = self.slot.host().upgrade() {
                host.callback_panicked(panic);
            }
        }
        self.attach(&subscriber, &base);
        Subscription::new(subscriber)
    }

    fn attach(&self, subscriber: &Arc<Subscriber>, base: &Arc<Version<T>>) {
        let listener: std::sync::Weak<Subscriber> = Arc::downgrade(subscriber);
        let now = self.slot.listen(listener);
        if !Arc::ptr_eq(&now, base) {
            // A commit came between reading the base and getting on the list.
            crate::property::listen::Listener::tell(Arc::clone(subscriber));
        }
    }

    /// A channel of the changes from now on, the newest only.
    pub fn changes(&self) -> Changes<T>
    where
        T: PartialEq,
    {
        Changes::new(Arc::clone(&self.slot))
    }

    /// Resolves when the value differs from what it is now, on any executor.
    ///
    /// For a loop, keep a [`changes`](Self::changes) and await
    /// [`changed`](crate::property::Changes::changed) on it, which misses nothing in between.
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
    /// [`ErrorKind::Timeout`] if it did not in time; [`ErrorKind::Closed`] if it did not before the
    /// last clone of the properties was dropped, and in a fork; [`ErrorKind::Reentrant`] if it does
    /// not yet and the caller is a validator or a decoder, of any properties.
    pub fn wait_until(
        &self,
        mut wanted: impl FnMut(&T) -> bool,
        timeout: Duration,
    ) -> Result<T, Error>
    where
        T: Clone + PartialEq,
    {
        self.slot.check_process()?;
        let late = || {
            Error::new(
                ErrorKind::Timeout,
                format!("did not become what was waited for within {timeout:?}"),
            )
            .with_key(self.key())
        };
        let until = Instant::now().checked_add(timeout);
        let mut changes = self.changes();
        let mut now = changes.current();
        // The commit that brought it may not have ended: reading by name would not show it yet.
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
                    ErrorKind::Timeout => late(),
                    _ => error,
                })?;
        }
    }

    /// A property computed from this one: once when it changes, not when it is read.
    ///
    /// Not to be called from inside a validator or another mapping of the same properties: what is
    /// made there keeps its first value. It counts as changed when its own value differs. A panic
    /// in `compute` refuses the update that led to it; the panic of the very first call is passed on
    /// to the caller.
    pub fn map<U: Send + Sync + 'static>(
        &self,
        compute: impl Fn(&T) -> U + Send + Sync + 'static,
    ) -> DynamicProperty<U> {
        let compute = Arc::new(Contained::new(compute));
        let again = Arc::clone(&compute);
        let parent = Contained::new(Arc::clone(&self.slot));
        let mapped = Mapped {
            staged: Contained::new(Box::new(move |version| {
                let version = version.downcast_ref::<Arc<Version<T>>>()?;
                Some(version.derive(compute(&version.value)))
            })),
            fresh: Contained::new(Box::new(move |generation| {
                let drawn = parent.rule.draw(&parent.key, generation, None)?;
                Ok(drawn.map(|value| again(value)))
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
    /// As building the handle; [`ErrorKind::InvalidConfig`] for a property made by [`map`](Self::map).
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
