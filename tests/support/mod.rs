//! Helpers of several test files. They assert nothing about the tested behaviour.
#![allow(dead_code, unused_imports)] // each test file uses its own part

pub(crate) mod child;
#[cfg(unix)]
pub(crate) mod disk;
pub(crate) mod example;
pub(crate) mod hostile;
pub(crate) mod proc;
pub(crate) mod random;
pub(crate) mod wait;
#[cfg(all(feature = "http", target_os = "linux"))]
pub(crate) mod web;

use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use liveprops::Properties;
use liveprops::explain::Explanation;
use liveprops::health::SourceHealth;

pub(crate) use random::Random;
pub(crate) use wait::{eventually, run_within, time_until, wait_until};

/// The longest wait for an expected event.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// Returns a sender for callbacks and its receiver. Sending never fails, even after the test.
pub(crate) fn reports<T>() -> (impl Fn(T) + Clone + Send + 'static, Inbox<T>)
where
    T: Send + 'static,
{
    let (tx, rx): (Sender<T>, Receiver<T>) = channel();
    (move |item| drop(tx.send(item)), Inbox(rx))
}

/// Receives the reports of callbacks.
pub(crate) struct Inbox<T>(Receiver<T>);

impl<T: std::fmt::Debug> Inbox<T> {
    /// Returns the next report; panics if none comes in time.
    #[track_caller]
    pub(crate) fn next(&self) -> T {
        match self.0.recv_timeout(DEADLINE) {
            Ok(item) => item,
            Err(RecvTimeoutError::Timeout) => panic!("nothing was reported within {DEADLINE:?}"),
            Err(RecvTimeoutError::Disconnected) => panic!("the callback was dropped"),
        }
    }

    /// Returns the next report if it comes within `wait`.
    pub(crate) fn within(&self, wait: Duration) -> Option<T> {
        self.0.recv_timeout(wait).ok()
    }

    /// Returns all reports so far.
    pub(crate) fn all(&self) -> Vec<T> {
        self.0.try_iter().collect()
    }
}

/// A gate that blocks callers of [`pass`](Self::pass) while it is closed. Open by default.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub(crate) fn closed() -> Self {
        let gate = Self::default();
        gate.close();
        gate
    }

    pub(crate) fn close(&self) {
        *self.0.0.lock().unwrap() = true;
    }

    pub(crate) fn open(&self) {
        *self.0.0.lock().unwrap() = false;
        self.0.1.notify_all();
    }

    /// Waits until the gate is open.
    pub(crate) fn pass(&self) {
        let closed = self.0.0.lock().unwrap();
        drop(self.0.1.wait_while(closed, |closed| *closed).unwrap());
    }
}

/// Compares a text with a file of this repository. `GOLDEN=write` writes the file first.
#[track_caller]
pub(crate) fn golden(path: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var("GOLDEN").is_ok_and(|value| value == "write") {
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(actual, expected.replace("\r\n", "\n"));
}

/// Returns the result of a validator that accepts a value if `condition` is true.
pub(crate) fn accept_if(condition: bool) -> Result<(), String> {
    if condition {
        Ok(())
    } else {
        Err("not acceptable".to_owned())
    }
}

/// Returns the names of the layers that define the effective value.
pub(crate) fn winners(explanation: &Explanation) -> Vec<&str> {
    let winners = explanation.layers.iter().filter(|layer| layer.wins);
    winners.map(|layer| &*layer.name).collect()
}

/// Blocks until no other test of this program holds the returned guard.
pub(crate) fn run_exclusively() -> MutexGuard<'static, ()> {
    static RUNNING: Mutex<()> = Mutex::new(());
    RUNNING
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Returns the health of the strongest source.
pub(crate) fn first_source(props: &Properties) -> SourceHealth {
    props.health().sources.swap_remove(0)
}
