//! Waiting for a condition, with a deadline.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Returns how long it took until `condition` held; `None` if it did not hold within `limit`.
pub(crate) fn time_until(limit: Duration, mut condition: impl FnMut() -> bool) -> Option<Duration> {
    let begun = Instant::now();
    while !condition() {
        if begun.elapsed() >= limit {
            return None;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Some(begun.elapsed())
}

/// Returns whether `condition` held within `limit`.
pub(crate) fn eventually(limit: Duration, condition: impl FnMut() -> bool) -> bool {
    time_until(limit, condition).is_some()
}

/// Waits until `condition` holds and returns how long that took; panics after `limit`.
#[track_caller]
pub(crate) fn wait_until(limit: Duration, what: &str, condition: impl FnMut() -> bool) -> Duration {
    let took = time_until(limit, condition);
    took.unwrap_or_else(|| panic!("not within {limit:?}: {what}"))
}

/// Runs `f` on a thread of its own and panics if `f` does not end in time, as in a deadlock.
#[track_caller]
pub(crate) fn run_within<R: Send + 'static>(
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
