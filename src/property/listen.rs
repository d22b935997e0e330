//! Ways to hear of a change besides a callback: a channel, a future, a wait.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind};
use crate::property::slot::{Slot, Version};
use crate::sync::discard::discard;
use crate::sync::{Condvar, Mutex, lock};

/// Who is told after a commit is visible. Called with no lock of the engine held.
pub(crate) trait Listener: Send + Sync {
    fn tell(self: Arc<Self>);
}

/// The changes of one property, the newest first of all: whoever reads slowly sees pending changes
/// collapse into the last one.
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
    bell: Arc<Bell>,
    last: Arc<Version<T>>,
}

/// Rings when something may have changed, for a thread or for a task.
#[derive(Default)]
pub(crate) struct Bell {
    state: Mutex<Rung>,
    rang: Condvar,
}

#[derive(Default)]
struct Rung {
    rung: bool,
    waker: Option<Waker>,
}

impl Bell {
    /// Clears the signal. The caller then reads the current state, and after that calls
    /// [`wait`](Self::wait).
    pub(crate) fn reset(&self) {
        self.state.lock().rung = false;
    }

    /// Waits until it rings, at most until then, and reports whether it rang.
    pub(crate) fn wait(&self, until: Option<Instant>) -> bool {
        let mut state = self.state.lock();
        while !state.rung {
            let left = match until {
                Some(until) => until.saturating_duration_since(Instant::now()),
                None => Duration::from_secs(3600),
            };
            if left.is_zero() {
                return false;
            }
            self.rang.wait_for(&mut state, left);
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

    /// Adds those who still listen to the ones who are notified.
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

impl Listener for Bell {
    fn tell(self: Arc<Self>) {
        let waker = {
            let mut state = self.state.lock();
            state.rung = true;
            self.rang.notify_all();
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T: PartialEq + Send + Sync + 'static> Changes<T> {
    pub(crate) fn new(slot: Arc<Slot<T>>) -> Self {
        let bell = Arc::new(Bell::default());
        let listener: Weak<Bell> = Arc::downgrade(&bell);
        if let Some(host) = slot.host().upgrade() {
            host.on_close(listener.clone());
        }
        let last = slot.listen(listener);
        Self { slot, bell, last }
    }

    /// The version received last, or the one current when the channel was made.
    pub(crate) fn current(&self) -> Arc<Version<T>> {
        Arc::clone(&self.last)
    }

    /// The newest version if its value differs from the one received last, without waiting.
    pub fn try_recv(&mut self) -> Option<Arc<Version<T>>> {
        let now = self.slot.settled()?;
        // The same version is no change, even of a value that is not equal to itself.
        let differs = !Arc::ptr_eq(&now, &self.last) && now.value != self.last.value;
        self.last = now;
        differs.then(|| Arc::clone(&self.last))
    }

    /// Waits for a change, at most `timeout`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Timeout`] if none came; [`ErrorKind::Closed`] once the last clone of the
    /// properties is dropped and the last change is received, and in a fork; [`ErrorKind::Reentrant`]
    /// if called from inside a validator or a decoder, of any properties, and no change is there yet.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Arc<Version<T>>, Error> {
        self.slot.check_process()?;
        let until = Instant::now().checked_add(timeout);
        loop {
            self.bell.reset();
            if let Some(received) = self.received() {
                return received;
            }
            if lock::is_committing() {
                let detail = "a validator or a decoder may not wait for a change";
                return Err(Error::new(ErrorKind::Reentrant, detail).with_key(&self.slot.key));
            }
            if !self.bell.wait(until) {
                let detail = format!("did not change within {timeout:?}");
                return Err(Error::new(ErrorKind::Timeout, detail).with_key(&self.slot.key));
            }
        }
    }

    /// The next change, or the error once there can be none; `None` while one may still come.
    fn received(&mut self) -> Option<Result<Arc<Version<T>>, Error>> {
        // Read before the value, so that the last change is received before the end.
        let is_closed = self.slot.is_closed();
        if let Some(version) = self.try_recv() {
            return Some(Ok(version));
        }
        is_closed.then(|| {
            let detail = "the properties were dropped, so it does not change any more";
            Err(Error::new(ErrorKind::Closed, detail).with_key(&self.slot.key))
        })
    }

    /// Resolves when the value differs from the one received last, on any executor.
    ///
    /// Dropping the future loses nothing: the next one starts where this one stood.
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

/// Resolves to the next change; see [`Changes::changed`].
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
            // Nothing changes any more, and the lock may be held for ever.
            return Poll::Ready(Err(error.with_key(&changes.slot.key)));
        }
        // How a waker is cloned and dropped is the executor's code, which runs without a lock.
        let waker = context.waker().clone();
        // The waker goes in first: a change or the end after this line wakes it, one before is seen
        // below.
        let before = changes.bell.state.lock().waker.replace(waker);
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
    use crate::property::registry::{Host, Registry};
    use crate::property::slot::{Drawn, Mapped, Rule};
    use crate::property::subscription::Subscriber;
    use crate::sync::discard::Contained;
    use crate::sync::panics::Panicked;
    use crate::tree::snapshot::{Generation, Stamp};
    use crate::value::key::Key;

    /// An engine of which only the generation in force is known.
    #[derive(Default)]
    struct InForce(AtomicU64);

    impl Host for InForce {
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
        let stamp = Arc::new(Stamp {
            number: value,
            time: SystemTime::UNIX_EPOCH,
            layers: Arc::default(),
            pinned: None,
        });
        Version::new(Drawn::default_of(value), stamp)
    }

    #[test]
    fn a_change_is_received_only_once_its_generation_is_in_force() {
        let host = Arc::new(InForce::default());
        let weak: Weak<InForce> = Arc::downgrade(&host);
        let weak: Weak<dyn Host> = weak;
        let rule = Rule::Map(Box::new(Mapped {
            staged: Contained::new(Box::new(|_| None)),
            fresh: Contained::new(Box::new(|_| {
                Err(Error::new(ErrorKind::NotFound, "has no keys"))
            })),
            fallbacks: Box::default(),
        }));
        let slot = Slot::with(Key::root(), rule, Arc::new(weak), version(0));
        let (report, called) = std::sync::mpsc::channel();
        let handle = DynamicProperty {
            slot: Arc::clone(&slot),
        };
        let _sub = handle.on_change(move |change| report.send(*change.new).unwrap());
        let mut changes = Changes::new(Arc::clone(&slot));
        let notify = |slot: &Slot<u64>| {
            let mut told = Vec::new();
            slot.notify(&mut told);
            told.into_iter().for_each(Listener::tell);
        };
        slot.publish(Arc::new(version(1)));
        // Another thread may look at any time.
        notify(&slot);
        assert!(changes.try_recv().is_none());
        assert!(called.try_recv().is_err());
        host.0.store(1, Ordering::SeqCst);
        notify(&slot);
        assert_eq!(changes.try_recv().unwrap().value, 1);
        assert_eq!(called.try_recv(), Ok(1));
    }
}
