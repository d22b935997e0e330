//! What several test files need: waiting with a deadline, and sources that misbehave on demand.
//! No assertions of what is tested.
#![allow(dead_code)] // each test file uses its own part

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// How long anything that must happen may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// Waits until `cond` holds; whether it did before the deadline.
pub(crate) fn eventually(deadline: Duration, mut cond: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + deadline;
    while !cond() {
        if Instant::now() >= until {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    true
}

/// A sender for callbacks and its receiver; sending never fails, even after the test has ended.
pub(crate) fn reports<T>() -> (impl Fn(T) + Clone + Send + 'static, Inbox<T>)
where
    T: Send + 'static,
{
    let (tx, rx): (Sender<T>, Receiver<T>) = channel();
    (move |item| drop(tx.send(item)), Inbox(rx))
}

/// What callbacks reported.
pub(crate) struct Inbox<T>(Receiver<T>);

impl<T: std::fmt::Debug> Inbox<T> {
    /// The next report; panics if none comes in time.
    #[track_caller]
    pub(crate) fn next(&self) -> T {
        match self.0.recv_timeout(DEADLINE) {
            Ok(item) => item,
            Err(RecvTimeoutError::Timeout) => panic!("nothing was reported within {DEADLINE:?}"),
            Err(RecvTimeoutError::Disconnected) => panic!("the callback is gone"),
        }
    }

    /// The next report, if it comes within `wait`.
    pub(crate) fn within(&self, wait: Duration) -> Option<T> {
        self.0.recv_timeout(wait).ok()
    }

    /// Everything reported up to now.
    pub(crate) fn all(&self) -> Vec<T> {
        self.0.try_iter().collect()
    }
}

/// Runs `f` on a thread of its own and panics if it does not end in time: a watchdog for
/// deadlocks.
#[track_caller]
pub(crate) fn within<R: Send + 'static>(
    limit: Duration,
    f: impl FnOnce() -> R + Send + 'static,
) -> R {
    let (tx, rx) = channel();
    let thread = std::thread::spawn(move || {
        let _ = tx.send(f());
    });
    match rx.recv_timeout(limit) {
        Ok(result) => {
            let _ = thread.join();
            result
        }
        Err(RecvTimeoutError::Timeout) => panic!("not done within {limit:?}"),
        Err(RecvTimeoutError::Disconnected) => match thread.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => panic!("the thread ended without an answer"),
        },
    }
}

/// A cheap, seeded source of random numbers (xorshift).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
