//! A test controls the clock of polls, retries and staleness.
#![cfg(feature = "test-util")]
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use liveprops::health::Status;
use liveprops::test_util::ManualClock;
use liveprops::{Document, Error, ErrorKind, Origin, Properties, Source, Watching};
use support::{DEADLINE, eventually};

const MINUTE: Duration = Duration::from_secs(60);

/// A polled source with a number as its value. A negative number makes the source fail.
#[derive(Clone, Default)]
struct Store(Arc<AtomicI64>);

impl Source for Store {
    fn origin(&self) -> Origin {
        Origin::new("store", "test")
    }

    fn load(&self) -> Result<Document, Error> {
        let n = self.0.load(Ordering::SeqCst);
        if n < 0 {
            return Err(Error::new(ErrorKind::Unavailable, "the store is down"));
        }
        let mut document = Document::new();
        document.set("n", n, self.origin())?;
        Ok(document)
    }

    fn watching(&self) -> Watching {
        Watching::Poll(MINUTE)
    }
}

#[test]
fn a_manual_clock_passes_an_hour_of_polls_and_failures_at_once() -> Result<(), Error> {
    let begun = Instant::now();
    let (clock, store) = (ManualClock::new(), Store::default());
    let props = Properties::builder()
        .manual_clock(&clock)
        .max_propagation(Duration::MAX)
        .source(store.clone().with(|policy| policy.max_stale(10 * MINUTE)))
        .build()?;
    store.0.store(1, Ordering::SeqCst);
    let n = || props.get::<i64>("n").unwrap();
    assert_eq!(n(), 0, "the time stands still");
    clock.advance(2 * MINUTE);
    assert!(eventually(DEADLINE, || n() == 1));

    store.0.store(-1, Ordering::SeqCst);
    clock.advance(2 * MINUTE);
    assert!(props.health().is_up(), "the value is not old yet");
    clock.advance(30 * MINUTE);
    let is_stale = || matches!(props.status(), Status::Stale { .. });
    assert!(eventually(DEADLINE, is_stale));
    assert_eq!(n(), 1, "the last good value stays");

    store.0.store(2, Ordering::SeqCst);
    clock.advance(26 * MINUTE);
    assert!(eventually(DEADLINE, || n() == 2 && props.health().is_up()));
    assert!(begun.elapsed() < Duration::from_secs(30));
    Ok(())
}
