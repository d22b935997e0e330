//! The supervisor by a clock of the test's own: what is due when.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::engine::clock::Fake;
use crate::engine::health::{SourceEventKind, Status};
use crate::error::{Error, ErrorKind};
use crate::properties::Properties;
use crate::source::{Source, Watching};
use crate::value::document::Document;
use crate::value::origin::Origin;

/// A polled source that notes when it is asked and fails when it is told to.
#[derive(Clone)]
struct Store {
    clock: Arc<Fake>,
    asked: Arc<Mutex<Vec<Instant>>>,
    down: Arc<Mutex<bool>>,
}

impl Store {
    fn new(clock: &Arc<Fake>) -> Self {
        Self {
            clock: Arc::clone(clock),
            asked: Arc::default(),
            down: Arc::default(),
        }
    }

    fn asked(&self) -> usize {
        self.asked.lock().len()
    }

    /// Lets time go on in steps until something holds; panics after `most`.
    fn until(&self, step: Duration, most: Duration, holds: impl Fn() -> bool) {
        let end = self.clock.now() + most;
        while !holds() {
            assert!(self.clock.now() < end, "not within {most:?}");
            self.step(step);
        }
    }

    /// Lets some time go by, and the threads notice it.
    fn step(&self, step: Duration) {
        self.clock.advance(step);
        std::thread::sleep(Duration::from_millis(3));
    }
}

impl Source for Store {
    fn origin(&self) -> Origin {
        Origin::new("store", "test")
    }

    fn load(&self) -> Result<Document, Error> {
        self.asked.lock().push(self.clock.now());
        if *self.down.lock() {
            return Err(Error::new(ErrorKind::Unavailable, "is down"));
        }
        let mut document = Document::new();
        document.set("asked", self.asked() as i64, self.origin())?;
        Ok(document)
    }

    fn watching(&self) -> Watching {
        Watching::Poll(Duration::from_secs(5))
    }
}

const STEP: Duration = Duration::from_millis(50);

#[test]
fn polls_begin_spread_over_the_interval_and_then_keep_it() -> Result<(), Error> {
    let mut starts = Vec::new();
    for _ in 0..6 {
        let (fake, clock) = Fake::new();
        let store = Store::new(&fake);
        let props = Properties::builder()
            .clock(clock)
            .source(store.clone())
            .build()?;
        assert_eq!(store.asked(), 1, "the first load is at once");
        store.until(STEP, Duration::from_secs(20), || store.asked() == 4);
        let asked = store.asked.lock().clone();
        let start = asked[1] - asked[0];
        assert!(start <= Duration::from_secs(5) + STEP, "{start:?}");
        starts.push(start);
        for pair in asked[1..].windows(2) {
            let pause = pair[1] - pair[0];
            let late = pause.checked_sub(Duration::from_secs(5));
            assert!(late.is_some_and(|late| late <= 2 * STEP), "{pause:?}");
        }
        assert!(props.get::<u32>("asked")? >= 3);
    }
    starts.sort();
    assert!(
        starts[5] - starts[0] > Duration::from_millis(500),
        "{starts:?}"
    );
    Ok(())
}

#[test]
fn a_store_that_is_down_for_ten_minutes_is_asked_all_the_time_and_taken_back_at_once()
-> Result<(), Error> {
    let (fake, clock) = Fake::new();
    let store = Store::new(&fake);
    let props = Properties::builder()
        .clock(clock)
        .source(store.clone())
        .build()?;
    let before = props.get::<u32>("asked")?;
    *store.down.lock() = true;
    let step = Duration::from_millis(500);
    let end = fake.now() + Duration::from_secs(600);
    while fake.now() < end {
        store.step(step);
        assert_eq!(props.get::<u32>("asked")?, before, "values stay");
    }
    let asked = store.asked.lock().clone();
    let gap = asked.windows(2).map(|pair| pair[1] - pair[0]).max();
    assert!(gap <= Some(Duration::from_secs(5) + 4 * step), "{gap:?}");
    assert!(asked.len() > 120, "{}", asked.len());
    let source = props.health().sources[0].clone();
    assert!(matches!(source.status, Status::Stale { .. }));
    assert!(
        source.age >= Some(Duration::from_secs(590)),
        "{:?}",
        source.age
    );

    *store.down.lock() = false;
    store.until(step, Duration::from_secs(6), || props.health().is_up());
    assert!(props.get::<u32>("asked")? > before);
    Ok(())
}

#[test]
fn values_that_no_one_confirms_are_too_old_exactly_at_their_limit() -> Result<(), Error> {
    let (fake, clock) = Fake::new();
    let store = Store::new(&fake);
    let told = Arc::new(Mutex::new(0));
    let count = Arc::clone(&told);
    let props = Properties::builder()
        .clock(clock)
        .inline_callbacks()
        .on_source_event(move |event| {
            if matches!(event.kind, SourceEventKind::Stale(_)) {
                *count.lock() += 1;
            }
        })
        .source(
            store
                .clone()
                .with(|policy| policy.max_stale(Duration::from_secs(60))),
        )
        .build()?;
    let confirmed = fake.now();
    *store.down.lock() = true;
    store.until(STEP, Duration::from_secs(10), || {
        matches!(props.health().sources[0].status, Status::Stale { .. })
    });
    assert!(props.health().is_up(), "old, and not too old");
    let limit = confirmed + Duration::from_secs(60);
    while fake.now() + STEP < limit {
        store.clock.advance(STEP);
        assert!(matches!(props.status(), Status::Up));
    }
    store.clock.advance(limit - fake.now());
    assert!(matches!(props.status(), Status::Stale { .. }));
    let end = Instant::now() + Duration::from_secs(5);
    while *told.lock() == 0 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(1));
    }
    store.step(Duration::from_secs(20));
    assert_eq!(*told.lock(), 1);
    *store.down.lock() = false;
    store.until(STEP, Duration::from_secs(6), || props.health().is_up());
    assert_eq!(props.get::<u32>("asked")? as usize, store.asked());
    Ok(())
}
