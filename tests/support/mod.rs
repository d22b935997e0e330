//! What several test files need. No assertions of what is tested.
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
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use liveprops::Properties;
use liveprops::health::SourceHealth;

pub(crate) use random::Random;
pub(crate) use wait::{eventually, run_within, time_until, wait_until};

/// How long anything that must happen may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

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

/// A gate that stops callers while it is closed; open at first.
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

/// Compares a text with a file of this repository, which `GOLDEN=write` writes.
#[track_caller]
pub(crate) fn golden(path: &str, now: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var("GOLDEN").is_ok_and(|what| what == "write") {
        std::fs::write(&path, now).unwrap();
    }
    let then = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(now, then.replace("\r\n", "\n"));
}

/// The health of the strongest source.
pub(crate) fn first_source(props: &Properties) -> SourceHealth {
    props.health().sources.swap_remove(0)
}
