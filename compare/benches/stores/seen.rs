//! When a contender saw a value that somebody waits for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// Nothing takes that long.
const LATE: Duration = Duration::from_secs(20);

/// The contender takes down when it saw the value, and wakes the thread that waits for that: how
/// long the waking takes is in nobody's figure.
pub(crate) struct Seen {
    base: Instant,
    waiter: Thread,
    wanted: AtomicU64,
    /// In nanoseconds; 0 while it is not seen.
    told_at: AtomicU64,
    seen_at: AtomicU64,
}

/// How late a value was.
pub(crate) struct Late {
    /// That something has changed; as `seen` where that says the value too.
    pub(crate) told: Duration,
    pub(crate) seen: Duration,
}

impl Seen {
    /// For the thread that calls this to wait.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            base: Instant::now(),
            waiter: thread::current(),
            wanted: AtomicU64::new(0),
            told_at: AtomicU64::new(0),
            seen_at: AtomicU64::new(0),
        })
    }

    fn now(&self) -> u64 {
        self.base.elapsed().as_nanos() as u64
    }

    /// It is known that something has changed, and not yet to what.
    pub(crate) fn told(&self) {
        self.told_at.store(self.now(), Ordering::Release);
    }

    /// This is a value now.
    pub(crate) fn saw(&self, value: &[u8]) {
        let value = std::str::from_utf8(value).ok();
        if let Some(value) = value.and_then(|text| text.parse().ok()) {
            self.saw_number(value);
        }
    }

    pub(crate) fn saw_number(&self, value: u64) {
        if value == self.wanted.load(Ordering::Acquire) {
            self.seen_at.store(self.now(), Ordering::Release);
            self.waiter.unpark();
        }
    }

    /// Has a value put, and waits until it is seen; says how late that was.
    pub(crate) fn after(&self, value: u64, put: impl FnOnce()) -> Late {
        self.told_at.store(0, Ordering::Release);
        self.seen_at.store(0, Ordering::Release);
        self.wanted.store(value, Ordering::Release);
        let began = self.now();
        put();
        let limit = Instant::now() + LATE;
        let since = |at: u64| Duration::from_nanos(at.saturating_sub(began));
        loop {
            match self.seen_at.load(Ordering::Acquire) {
                0 => thread::park_timeout(limit.saturating_duration_since(Instant::now())),
                at => {
                    let told = match self.told_at.load(Ordering::Acquire) {
                        0 => at,
                        told => told,
                    };
                    return Late {
                        told: since(told),
                        seen: since(at),
                    };
                }
            }
            assert!(Instant::now() < limit, "{value} is not seen");
        }
    }
}
