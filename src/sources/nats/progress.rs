//! The deadline of a read of everything: progress extends it, up to a limit.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::{self, Instant};

/// How long a read of everything may take without progress.
pub(super) const PROGRESS_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a read of everything may take altogether.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a long read sends a heartbeat.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// The progress of a read, over all its attempts.
pub(super) struct ReadProgress<'a> {
    /// The most changes that one attempt brought.
    most: Cell<usize>,
    deadline: Cell<Instant>,
    end: Instant,
    last_heartbeat: Cell<Instant>,
    heartbeat: &'a dyn Fn(),
}

impl<'a> ReadProgress<'a> {
    pub(super) fn new(heartbeat: &'a dyn Fn()) -> Self {
        let now = Instant::now();
        Self {
            most: Cell::new(0),
            deadline: Cell::new(now + PROGRESS_TIMEOUT),
            end: now + READ_TIMEOUT,
            last_heartbeat: Cell::new(now),
            heartbeat,
        }
    }

    /// Records that an attempt has brought `count` changes: more than any before extend the deadline.
    pub(super) fn reached(&self, count: usize) {
        if count <= self.most.get() {
            return;
        }
        self.most.set(count);
        let now = Instant::now();
        self.deadline.set((now + PROGRESS_TIMEOUT).min(self.end));
        if now - self.last_heartbeat.get() > HEARTBEAT {
            self.last_heartbeat.set(now);
            (self.heartbeat)();
        }
    }

    /// Waits until the deadline has passed; returns the timeout that it is from.
    pub(super) async fn timeout(&self) -> Duration {
        loop {
            let deadline = self.deadline.get();
            time::sleep_until(deadline).await;
            if self.deadline.get() <= deadline {
                return if deadline < self.end {
                    PROGRESS_TIMEOUT
                } else {
                    READ_TIMEOUT
                };
            }
        }
    }
}
