//! Waits for conditions, with a time limit.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Returns the time until `condition` was true; `None` if it was not true within `limit`.
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

/// Returns whether `condition` becomes true within `limit`.
pub(crate) fn eventually(limit: Duration, condition: impl FnMut() -> bool) -> bool {
    time_until(limit, condition).is_some()
}

/// Waits until `condition` is true and returns the time; panics after `limit`.
#[track_caller]
pub(crate) fn wait_until(limit: Duration, what: &str, condition: impl FnMut() -> bool) -> Duration {
    let took = time_until(limit, condition);
    took.unwrap_or_else(|| panic!("not within {limit:?}: {what}"))
}

/// Runs `f` on another thread and panics if `f` does not end within `limit`, as in a deadlock.
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
