//! Changes without a callback: a channel, a future, a wait.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind};
use crate::property::slot::Slot;
use crate::property::version::Version;
use crate::sync::discard::discard;
use crate::sync::{Condvar, Mutex, lock};

/// Is notified after a commit is visible, without a lock of the engine.
pub(crate) trait Listener: Send + Sync {
    fn notify(self: Arc<Self>);
}

/// The changes of one property as a channel of length one: a slow receiver gets several changes as one,
/// with the newest value.
///
/// ```
/// use std::time::Duration;
/// use liveprops::{Properties, sources::Memory};
///
/// let memory = Memory::from([("qps", 1)]);
/// let props = Properties::builder().source(memory.clone()).build()?;
/// let qps = props.property::<u32>("qps").build()?;
/// let mut changes = qps.changes();
/// memory.set("qps", 2)?;
/// memory.set("qps", 3)?;
/// let change = changes.recv_timeout(Duration::from_secs(5))?;
/// assert_eq!(change.value, 3);
/// assert!(changes.try_recv().is_none());
/// # Ok::<(), liveprops::Error>(())
/// ```
pub struct Changes<T> {
    slot: Arc<Slot<T>>,
    signal: Arc<Signal>,
    last: Arc<Version<T>>,
}

/// Wakes a thread or a task when something may have changed.
#[derive(Default)]
pub(crate) struct Signal {
    state: Mutex<SignalState>,
    was_set: Condvar,
}

#[derive(Default)]
struct SignalState {
    is_set: bool,
    waker: Option<Waker>,
}

impl Signal {
    /// Clears the signal. The caller then reads the current state, and after that calls
    /// [`wait`](Self::wait).
    pub(crate) fn reset(&self) {
        self.state.lock().is_set = false;
    }

    /// Waits until the signal is set, or the time has come. Returns whether it is set.
    pub(crate) fn wait(&self, until: Option<Instant>) -> bool {
        let mut state = self.state.lock();
        while !state.is_set {
            let left = match until {
                Some(until) => until.saturating_duration_since(Instant::now()),
                None => Duration::from_secs(3600),
            };
            if left.is_zero() {
                return false;
            }
            self.was_set.wait_for(&mut state, left);
        }
        true
    }
}

/// The listeners of one event: of each commit, whatever it changes, or of the end.
#[derive(Default)]
pub(crate) struct Listeners(Mutex<Vec<Weak<dyn Listener>>>);

impl Listeners {
    pub(crate) fn add(&self, listener: Weak<dyn Listener>) {
        let mut listeners = self.0.lock();
        if listeners.len() == listeners.capacity() {
            listeners.retain(|listener| listener.strong_count() > 0);
        }
        listeners.push(listener);
    }

    /// Adds the live listeners to those that are notified.
    pub(crate) fn collect_into(&self, notified: &mut Vec<Arc<dyn Listener>>) {
        let mut listeners = self.0.lock();
        listeners.retain(|listener| listener.strong_count() > 0);
        notified.extend(listeners.iter().filter_map(Weak::upgrade));
    }
}

impl fmt::Debug for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listeners")
    }
}

impl Listener for Signal {
    fn notify(self: Arc<Self>) {
        let waker = {
            let mut state = self.state.lock();
            state.is_set = true;
            self.was_set.notify_all();
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T: PartialEq + Send + Sync + 'static> Changes<T> {
    pub(crate) fn new(slot: Arc<Slot<T>>) -> Self {
        let signal = Arc::new(Signal::default());
        let listener: Weak<Signal> = Arc::downgrade(&signal);
        if let Some(engine) = slot.engine().upgrade() {
            engine.on_close(listener.clone());
        }
        let last = slot.listen(listener);
        Self { slot, signal, last }
    }

    /// The version received last, or the one current when the channel was made.
    pub(crate) fn current(&self) -> Arc<Version<T>> {
        Arc::clone(&self.last)
    }

    /// The newest version if its value differs from the one received last, without waiting.
    pub fn try_recv(&mut self) -> Option<Arc<Version<T>>> {
        let now = self.slot.visible()?;
        // The same version is no change, even of a value that is not equal to itself.
        let differs = !Arc::ptr_eq(&now, &self.last) && now.value != self.last.value;
        self.last = now;
        differs.then(|| Arc::clone(&self.last))
    }

    /// Waits for a change, at most `timeout`.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Timeout`] if no change came.
    /// - [`ErrorKind::Closed`] once the last clone of the properties is dropped and the last change is
    ///   received, and in a fork.
    /// - [`ErrorKind::Reentrant`] inside a validator or a decoder of any properties, if there is no
    ///   change yet.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Arc<Version<T>>, Error> {
        self.slot.check_process()?;
        let until = Instant::now().checked_add(timeout);
        loop {
            self.signal.reset();
            if let Some(received) = self.received() {
                return received;
            }
            if lock::is_committing() {
                let detail = "a validator or a decoder may not wait for a change";
                return Err(Error::new(ErrorKind::Reentrant, detail).with_key(&self.slot.key));
            }
            if !self.signal.wait(until) {
                let detail = format!("did not change within {timeout:?}");
                return Err(Error::new(ErrorKind::Timeout, detail).with_key(&self.slot.key));
            }
        }
    }

    /// The next change, or the error once there can be none; `None` while one may still come.
    fn received(&mut self) -> Option<Result<Arc<Version<T>>, Error>> {
        // Read before the value, so that the last change is received before `Closed`.
        let is_closed = self.slot.is_closed();
        if let Some(version) = self.try_recv() {
            return Some(Ok(version));
        }
        is_closed.then(|| {
            let detail = "the properties were dropped, so the value cannot change any more";
            Err(Error::new(ErrorKind::Closed, detail).with_key(&self.slot.key))
        })
    }

    /// Resolves when the value differs from the one received last, on any executor.
    ///
    /// Dropping the future loses no change: the next future resolves with it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`] once the last clone of the properties is dropped and the last change is
    /// received, and in a fork of the process that built the properties.
    ///
    /// ```
    /// use liveprops::{ErrorKind, Properties, sources::Memory};
    ///
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let memory = Memory::from([("qps", 1)]);
    /// let props = Properties::builder().source(memory.clone()).build()?;
    /// let mut changes = props.property::<u32>("qps").build()?.changes();
    /// memory.set("qps", 2)?;
    /// assert_eq!(changes.changed().await?.value, 2);
    /// drop(props);
    /// assert_eq!(changes.changed().await.unwrap_err().kind(), ErrorKind::Closed);
    /// # Ok::<(), liveprops::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn changed(&mut self) -> Changed<'_, T> {
        Changed { changes: self }
    }
}

impl<T> fmt::Debug for Changes<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes")
            .field("key", &self.slot.key)
            .finish_non_exhaustive()
    }
}

/// The future of the next change; made by [`Changes::changed`].
///
/// ```
/// use std::future::Future;
/// use liveprops::{Properties, property::Changed, sources::Memory};
///
/// let props = Properties::builder().source(Memory::from([("qps", 1)])).build()?;
/// let mut changes = props.property::<u32>("qps").build()?.changes();
/// let future: Changed<'_, u32> = changes.changed();
/// # fn is_future(_: impl Future) {}
/// # is_future(future);
/// # Ok::<(), liveprops::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "a future does nothing unless it is awaited"]
pub struct Changed<'a, T> {
    changes: &'a mut Changes<T>,
}

impl<T: PartialEq + Send + Sync + 'static> Future for Changed<'_, T> {
    type Output = Result<Arc<Version<T>>, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let changes = &mut *self.get_mut().changes;
        if let Err(error) = changes.slot.check_process() {
            // No commit follows in a fork, and the lock may be held for ever.
            return Poll::Ready(Err(error.with_key(&changes.slot.key)));
        }
        // The clone and the drop of a waker are code of the executor, which runs without a lock.
        let waker = context.waker().clone();
        // The waker is stored first: a later change wakes it, and an earlier one is received below.
        let before = changes.signal.state.lock().waker.replace(waker);
        discard(before);
        changes.received().map_or(Poll::Pending, Poll::Ready)
    }
}

#[cfg(all(test, not(loom)))]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::any::Any;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::SystemTime;

    use super::*;
    use crate::property::handle::DynamicProperty;
    use crate::property::registry::{PropertyEngine, Registry};
    use crate::property::rule::{Decoded, Mapped, Rule};
    use crate::property::subscription::Subscriber;
    use crate::sync::discard::Contained;
    use crate::sync::panics::Panicked;
    use crate::tree::snapshot::{Generation, GenerationStamp};
    use crate::value::key::Key;

    /// An engine of which only the generation in force is known.
    #[derive(Default)]
    struct InForce(AtomicU64);

    impl PropertyEngine for InForce {
        fn between_commits(
            &self,
            _: &mut dyn FnMut(&Arc<Generation>, &mut Registry),
        ) -> Result<(), Error> {
            Ok(())
        }

        fn generation(&self) -> u64 {
            self.0.load(Ordering::SeqCst)
        }

        fn schedule(&self, subscriber: Arc<Subscriber>) {
            subscriber.run(|_| ());
        }

        fn cause(&self) -> u32 {
            0
        }

        fn callback_panicked(&self, _: Panicked) {}

        fn on_close(&self, _: Weak<dyn Listener>) {}

        fn is_closed(&self) -> bool {
            false
        }

        fn keep(&self, _: Arc<dyn Any + Send + Sync>) {}
    }

    fn version(value: u64) -> Version<u64> {
        let stamp = Arc::new(GenerationStamp {
            number: value,
            time: SystemTime::UNIX_EPOCH,
            layers: Arc::default(),
            pinned: None,
        });
        Version::new(Decoded::default_of(value), stamp)
    }

    #[test]
    fn a_change_is_received_only_once_its_generation_is_in_force() {
        let engine = Arc::new(InForce::default());
        let weak: Weak<InForce> = Arc::downgrade(&engine);
        let weak: Weak<dyn PropertyEngine> = weak;
        let rule = Rule::Map(Box::new(Mapped {
            from_version: Contained::new(Box::new(|_| None)),
            from_generation: Contained::new(Box::new(|_| {
                Err(Error::new(ErrorKind::NotFound, "has no keys"))
            })),
            fallbacks: Box::default(),
        }));
        let slot = Slot::with(Key::root(), rule, Arc::new(weak), version(0));
        let (report, called) = std::sync::mpsc::channel();
        let handle = DynamicProperty {
            slot: Arc::clone(&slot),
        };
        let _sub = handle.on_change(move |change| report.send(*change.new_value()).unwrap());
        let mut changes = Changes::new(Arc::clone(&slot));
        let notify = |slot: &Slot<u64>| {
            let mut notified = Vec::new();
            slot.collect_listeners(&mut notified);
            notified.into_iter().for_each(Listener::notify);
        };
        slot.publish(Arc::new(version(1)));
        // Another thread may look at any time.
        notify(&slot);
        assert!(changes.try_recv().is_none());
        assert!(called.try_recv().is_err());
        engine.0.store(1, Ordering::SeqCst);
        notify(&slot);
        assert_eq!(changes.try_recv().unwrap().value, 1);
        assert_eq!(called.try_recv(), Ok(1));
    }
}
