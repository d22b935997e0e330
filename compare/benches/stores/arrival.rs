//! Measures how long a value takes from a put to a contender.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// A value that takes longer ends the bench.
const TIMEOUT: Duration = Duration::from_secs(20);

/// When a contender received the expected value.
///
/// The contender records the time itself, so no figure includes waking the thread that waits.
pub(crate) struct Arrival {
    base: Instant,
    waiter: Thread,
    expected: AtomicU64,
    /// Nanoseconds since `base`; 0 until the event arrives.
    event_at: AtomicU64,
    /// Nanoseconds since `base`; 0 until the value arrives.
    value_at: AtomicU64,
}

/// Times from before the put.
pub(crate) struct Latency {
    /// Until the change event; equals `value` where the event contains the value.
    pub(crate) event: Duration,
    pub(crate) value: Duration,
}

impl Arrival {
    /// Creates a measurement that wakes the calling thread.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            base: Instant::now(),
            waiter: thread::current(),
            expected: AtomicU64::new(0),
            event_at: AtomicU64::new(0),
            value_at: AtomicU64::new(0),
        })
    }

    fn now(&self) -> u64 {
        self.base.elapsed().as_nanos() as u64
    }

    /// Records an event that does not contain the new value.
    pub(crate) fn record_event(&self) {
        self.event_at.store(self.now(), Ordering::Release);
    }

    /// Records a value as text; ignores every other than the expected one.
    pub(crate) fn record(&self, value: &[u8]) {
        let value = std::str::from_utf8(value).ok();
        if let Some(value) = value.and_then(|text| text.parse().ok()) {
            self.record_value(value);
        }
    }

    pub(crate) fn record_value(&self, value: u64) {
        if value == self.expected.load(Ordering::Acquire) {
            self.value_at.store(self.now(), Ordering::Release);
            self.waiter.unpark();
        }
    }

    /// Puts a value, waits until it arrives and returns its latency.
    pub(crate) fn measure(&self, value: u64, put: impl FnOnce()) -> Latency {
        self.event_at.store(0, Ordering::Release);
        self.value_at.store(0, Ordering::Release);
        self.expected.store(value, Ordering::Release);
        let began = self.now();
        put();
        let limit = Instant::now() + TIMEOUT;
        let since = |at: u64| Duration::from_nanos(at.saturating_sub(began));
        loop {
            match self.value_at.load(Ordering::Acquire) {
                0 => thread::park_timeout(limit.saturating_duration_since(Instant::now())),
                value_at => {
                    let event_at = match self.event_at.load(Ordering::Acquire) {
                        0 => value_at,
                        event_at => event_at,
                    };
                    return Latency {
                        event: since(event_at),
                        value: since(value_at),
                    };
                }
            }
            assert!(Instant::now() < limit, "{value} does not arrive");
        }
    }
}
