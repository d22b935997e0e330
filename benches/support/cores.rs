//! What a thread has of the machine. Asked of `/proc`, without which it is not known.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long `run` had a core, and not what passed meanwhile on a machine that has other things to
/// do; where that is not known, what `run` itself returns.
pub(crate) fn on_core(run: impl FnOnce() -> Duration) -> Duration {
    let before = used();
    let passed = run();
    match (before, used()) {
        (Some(before), Some(after)) => after - before,
        _ => passed,
    }
}

/// How long this thread had a core since it began.
fn used() -> Option<Duration> {
    // The system updates its accounting when a thread yields.
    thread::yield_now();
    let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanos = text.split_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(nanos))
}

/// Where each of several threads runs.
#[derive(Debug)]
pub(crate) struct Places(Vec<AtomicUsize>);

impl Places {
    pub(crate) fn of(threads: usize) -> Self {
        Self((0..threads).map(|_| AtomicUsize::new(usize::MAX)).collect())
    }

    /// Keeps this thread busy until the system has given each a core of its own, which takes it a
    /// while; for half a second at the most, as there may be fewer cores than threads.
    pub(crate) fn spread(&self, me: usize) {
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(500) {
            let Some(core) = core() else { return };
            self.0[me].store(core, Ordering::Relaxed);
            let all: Vec<usize> = self.0.iter().map(|at| at.load(Ordering::Relaxed)).collect();
            let alone = |at: &usize| all.iter().filter(|other| *other == at).count() == 1;
            if all.iter().all(|at| *at != usize::MAX && alone(at)) {
                return;
            }
        }
    }
}

/// Which core this thread is on.
fn core() -> Option<usize> {
    let text = fs::read_to_string("/proc/thread-self/stat").ok()?;
    // The second field, a name in parentheses, may hold anything; the core is the 39th.
    let (_, rest) = text.rsplit_once(')')?;
    rest.split_whitespace().nth(36)?.parse().ok()
}
