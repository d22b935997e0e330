//! The supervisor, by a clock that the test moves.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::clock::FakeClock;
use crate::error::{Error, ErrorKind};
use crate::source::{DEFAULT_TIMEOUT, Source, Timing, Watching};
use crate::sync::lock::Mutex;
use crate::value::document::Document;
use crate::value::origin::Origin;

mod back_off;
mod hangs;
mod polls;

/// A polled source that records its loads, and fails while it is down.
#[derive(Clone)]
struct Store {
    clock: Arc<FakeClock>,
    loads: Arc<Mutex<Vec<Instant>>>,
    down: Arc<Mutex<bool>>,
    /// The pause that its error refreshing for.
    retry_after: Arc<Mutex<Option<Duration>>>,
    /// The loads with these numbers, from 1, do not return while they are in the range.
    stuck: Arc<Mutex<Range<usize>>>,
    timeout: Duration,
}

impl Store {
    fn new(clock: &Arc<FakeClock>) -> Self {
        Self {
            clock: Arc::clone(clock),
            loads: Arc::default(),
            down: Arc::default(),
            retry_after: Arc::default(),
            stuck: Arc::default(),
            timeout: DEFAULT_TIMEOUT,
        }
    }

    fn loads(&self) -> usize {
        self.loads.lock().len()
    }

    /// The time of the last load.
    fn last(&self) -> Instant {
        let loads = self.loads.lock();
        loads[loads.len() - 1]
    }

    fn hangs(&self, calls: Range<usize>) {
        *self.stuck.lock() = calls;
    }

    /// Advances the clock in steps until `holds` returns `true`; panics after `most`.
    fn until(&self, step: Duration, most: Duration, holds: impl Fn() -> bool) {
        let end = self.clock.now() + most;
        while !holds() {
            assert!(self.clock.now() < end, "not within {most:?}");
            self.step(step);
        }
    }

    /// Advances the clock until the next load. Returns the time since the one before.
    fn next_gap(&self, step: Duration) -> Duration {
        let before = self.loads();
        self.until(step, Duration::from_secs(60), || self.loads() > before);
        let loads = self.loads.lock();
        loads[before] - loads[before - 1]
    }

    /// Advances the clock, and waits until the threads have done what is due.
    fn step(&self, step: Duration) {
        self.clock.advance(step);
        self.clock.catch_up();
    }
}

impl Source for Store {
    fn origin(&self) -> Origin {
        Origin::new("store", "test")
    }

    fn load(&self) -> Result<Document, Error> {
        let number = {
            let mut loads = self.loads.lock();
            loads.push(self.clock.now());
            loads.len()
        };
        while self.stuck.lock().contains(&number) {
            std::thread::sleep(Duration::from_millis(1));
        }
        if *self.down.lock() {
            let error = Error::new(ErrorKind::Unavailable, "is down");
            return Err(match *self.retry_after.lock() {
                Some(pause) => error.with_retry_after(pause),
                None => error,
            });
        }
        let mut document = Document::new();
        document.set("loads", self.loads() as i64, self.origin())?;
        Ok(document)
    }

    fn watching(&self) -> Watching {
        Watching::Poll(EVERY)
    }

    fn timing(&self) -> Timing {
        Timing::new().timeout(self.timeout)
    }
}

const ALL: Range<usize> = 0..usize::MAX;
const NONE: Range<usize> = 0..0;
const EVERY: Duration = Duration::from_secs(5);
const STEP: Duration = Duration::from_millis(50);
