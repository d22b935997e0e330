//! Pauses after failures.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{EVERY, STEP, Store};
use crate::engine::clock::FakeClock;
use crate::engine::health::{SourceEventKind, Status};
use crate::error::{Error, ErrorKind};
use crate::properties::Properties;
use crate::source::{MAX_RETRY_AFTER, Source, SourceContext, Update, Watching};
use crate::sync::lock::Mutex;
use crate::value::document::Document;
use crate::value::origin::Origin;

#[test]
fn a_store_that_is_down_for_ten_minutes_is_loaded_again_and_again_and_then_recovers()
-> Result<(), Error> {
    let (fake, clock) = FakeClock::new();
    let store = Store::new(&fake);
    let props = Properties::builder()
        .clock(clock)
        .source(store.clone())
        .build()?;
    let before = props.get::<u32>("loads")?;
    *store.down.lock() = true;
    let step = Duration::from_millis(500);
    let end = fake.now() + Duration::from_secs(600);
    while fake.now() < end {
        store.step(step);
        assert_eq!(props.get::<u32>("loads")?, before, "values stay");
    }
    let loads = store.loads.lock().clone();
    let gap = loads.windows(2).map(|pair| pair[1] - pair[0]).max();
    assert!(gap <= Some(Duration::from_secs(5) + 4 * step), "{gap:?}");
    assert!(loads.len() > 120, "{}", loads.len());
    assert!(loads.len() < 480, "too often: {}", loads.len());
    let source = props.health().sources[0].clone();
    assert!(matches!(source.status, Status::Stale { .. }));
    assert!(
        source.age >= Some(Duration::from_secs(590)),
        "{:?}",
        source.age
    );

    *store.down.lock() = false;
    store.until(step, Duration::from_secs(6), || props.health().is_up());
    assert!(props.get::<u32>("loads")? > before);
    Ok(())
}

#[test]
fn unconfirmed_values_are_too_old_exactly_at_their_limit() -> Result<(), Error> {
    let (fake, clock) = FakeClock::new();
    let store = Store::new(&fake);
    let reports = Arc::new(Mutex::new(0));
    let count = Arc::clone(&reports);
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
    while *reports.lock() == 0 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(1));
    }
    store.step(Duration::from_secs(20));
    assert_eq!(*reports.lock(), 1);
    *store.down.lock() = false;
    store.until(STEP, Duration::from_secs(6), || props.health().is_up());
    assert_eq!(props.get::<u32>("loads")? as usize, store.loads());
    Ok(())
}

#[test]
fn a_pause_that_a_store_asks_for_is_kept_up_to_the_cap() -> Result<(), Error> {
    let (fake, clock) = FakeClock::new();
    let store = Store::new(&fake);
    let props = Properties::builder()
        .clock(clock)
        .source(store.clone())
        .build()?;
    *store.down.lock() = true;
    let slack = 4 * STEP;
    for wanted in [10, 20, 3_600] {
        *store.retry_after.lock() = Some(Duration::from_secs(wanted));
        store.next_gap(STEP);
        let gap = store.next_gap(STEP);
        let least = Duration::from_secs(wanted).min(MAX_RETRY_AFTER);
        assert!(gap >= least, "{wanted}: {gap:?}");
        assert!(gap <= least + EVERY + slack, "{wanted}: {gap:?}");
        let Status::Stale { reason, .. } = props.health().sources[0].status.clone() else {
            panic!("it is up");
        };
        let text = format!("wants no retry for {wanted}s");
        assert!(reason.to_string().contains(&text), "{reason}");
    }
    // Without such a pause the retry comes soon, and after a recovery polls keep their interval.
    *store.retry_after.lock() = None;
    store.next_gap(STEP);
    assert!(store.next_gap(STEP) <= EVERY + slack);
    *store.down.lock() = false;
    store.until(STEP, EVERY + slack, || props.health().is_up());
    assert!(store.next_gap(STEP) <= EVERY + slack);
    *store.down.lock() = true;
    store.next_gap(STEP);
    let gap = store.next_gap(Duration::from_millis(10));
    assert!(
        gap <= Duration::from_millis(500),
        "counted from the start: {gap:?}"
    );
    Ok(())
}

#[test]
fn a_refresh_ignores_the_pause_that_a_store_asks_for() -> Result<(), Error> {
    let (fake, clock) = FakeClock::new();
    let store = Store::new(&fake);
    let props = Properties::builder()
        .clock(clock)
        .source(store.clone())
        .build()?;
    *store.down.lock() = true;
    *store.retry_after.lock() = Some(Duration::from_secs(20));
    store.next_gap(STEP);
    let loads = store.loads();
    *store.down.lock() = false;
    props.refresh_now()?;
    assert_eq!(store.loads(), loads + 1);
    assert!(props.health().is_up());
    assert_eq!(props.get::<usize>("loads")?, loads + 1);
    Ok(())
}

#[test]
fn a_start_without_a_store_keeps_the_pause_that_the_store_asks_for() -> Result<(), Error> {
    let (fake, clock) = FakeClock::new();
    let store = Store::new(&fake);
    *store.down.lock() = true;
    *store.retry_after.lock() = Some(Duration::from_secs(20));
    let props = Properties::builder()
        .clock(clock)
        .source(store.clone().with(|policy| policy.optional()))
        .build()?;
    assert_eq!(store.loads(), 1);
    *store.down.lock() = false;
    let gap = store.next_gap(STEP);
    assert!(gap >= Duration::from_secs(20), "{gap:?}");
    store.until(STEP, STEP * 4, || props.health().is_up());
    Ok(())
}

#[test]
fn a_source_that_is_loaded_on_request_is_not_retried_after_a_failure() -> Result<(), Error> {
    let (fake, clock) = FakeClock::new();
    let store = Store::new(&fake);
    let props = Properties::builder()
        .clock(clock)
        .source(store.clone().with(|policy| policy.manual()))
        .build()?;
    *store.down.lock() = true;
    assert!(props.refresh_now().is_err());
    let step = Duration::from_millis(500);
    let end = fake.now() + Duration::from_secs(60);
    while fake.now() < end {
        store.step(step);
    }
    assert_eq!(store.loads(), 2);
    assert!(props.refresh_now().is_err());
    assert_eq!(store.loads(), 3);
    *store.down.lock() = false;
    props.refresh_now()?;
    assert_eq!(props.get::<usize>("loads")?, 4);
    Ok(())
}

/// A source whose watch breaks after a while.
#[derive(Clone)]
struct BreakingWatch {
    store: Store,
    /// Whether the watch is silent until it breaks, and how long it lasts.
    behaviour: Arc<Mutex<(bool, Duration)>>,
}

impl Source for BreakingWatch {
    fn origin(&self) -> Origin {
        self.store.origin()
    }

    fn load(&self) -> Result<Document, Error> {
        Ok(Document::new())
    }

    fn watching(&self) -> Watching {
        Watching::Stream
    }

    fn watch(&self, updates: &SourceContext) -> Result<(), Error> {
        let document = self.store.load()?;
        let (is_silent, lasts) = *self.behaviour.lock();
        if !is_silent {
            updates.send(Update::full(document))?;
        }
        updates.wait(lasts);
        Err(Error::new(ErrorKind::Unavailable, "the watch broke"))
    }
}

#[test]
fn a_watch_that_lasted_restarts_soon_and_one_that_broke_at_once_ever_later() -> Result<(), Error> {
    let second = Duration::from_secs(1);
    let (fake, clock) = FakeClock::new();
    let store = Store::new(&fake);
    let behaviour = Arc::new(Mutex::new((true, Duration::ZERO)));
    let source = BreakingWatch {
        store: store.clone(),
        behaviour: Arc::clone(&behaviour),
    };
    let props = Properties::builder().clock(clock).source(source).build()?;
    let gaps = || -> Vec<_> { (0..10).map(|_| store.next_gap(STEP)).collect() };
    let set = |is_silent: bool, lasts: Duration| {
        *behaviour.lock() = (is_silent, lasts);
        store.next_gap(STEP);
    };
    store.until(STEP, second * 60, || store.loads() >= 8);
    // Never more than one attempt a second, whether the store answers or not.
    assert!(gaps().iter().all(|gap| *gap >= second), "too soon");
    set(false, Duration::ZERO);
    assert!(gaps().iter().all(|gap| *gap >= second), "too soon");
    // A silent store may answer at any time.
    set(true, 3 * second);
    let silent = gaps();
    let most = 3 * second + second / 2 + 3 * STEP;
    assert!(silent.iter().all(|gap| *gap <= most), "{silent:?}");
    set(false, second + STEP);
    let healthy = gaps();
    let most = second + Duration::from_millis(400) + 4 * STEP;
    assert!(healthy.iter().all(|gap| *gap <= most), "{healthy:?}");
    assert!(props.get::<usize>("loads")? > 20);
    Ok(())
}
