//! The supervisor by a clock of the test's own: what is due when.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::sync::lock::Mutex;

use crate::engine::clock::FakeClock;
use crate::engine::health::{SourceEventKind, Status};
use crate::error::{Error, ErrorKind};
use crate::properties::Properties;
use crate::source::{
    DEFAULT_TIMEOUT, MAX_RETRY_AFTER, Source, SourceContext, Timing, Update, Watching,
};
use crate::value::document::Document;
use crate::value::origin::Origin;

/// A polled source that notes when it is asked, and fails while it is down.
#[derive(Clone)]
struct Store {
    clock: Arc<FakeClock>,
    asked: Arc<Mutex<Vec<Instant>>>,
    down: Arc<Mutex<bool>>,
    /// For how long it wants no retry when it fails.
    busy: Arc<Mutex<Option<Duration>>>,
    /// The calls with these numbers, from 1, do not return for now.
    stuck: Arc<Mutex<Range<usize>>>,
    timeout: Duration,
}

impl Store {
    fn new(clock: &Arc<FakeClock>) -> Self {
        Self {
            clock: Arc::clone(clock),
            asked: Arc::default(),
            down: Arc::default(),
            busy: Arc::default(),
            stuck: Arc::default(),
            timeout: DEFAULT_TIMEOUT,
        }
    }

    fn asked(&self) -> usize {
        self.asked.lock().len()
    }

    /// When it was last asked.
    fn last(&self) -> Instant {
        let asked = self.asked.lock();
        asked[asked.len() - 1]
    }

    fn hangs(&self, calls: Range<usize>) {
        *self.stuck.lock() = calls;
    }

    /// Lets time go on in steps until something holds; panics after `most`.
    fn until(&self, step: Duration, most: Duration, holds: impl Fn() -> bool) {
        let end = self.clock.now() + most;
        while !holds() {
            assert!(self.clock.now() < end, "not within {most:?}");
            self.step(step);
        }
    }

    /// Lets it be asked once more. Returns how long after the time before.
    fn next_gap(&self, step: Duration) -> Duration {
        let before = self.asked();
        self.until(step, Duration::from_secs(60), || self.asked() > before);
        let asked = self.asked.lock();
        asked[before] - asked[before - 1]
    }

    /// Lets some time go by, and the threads notice it.
    fn step(&self, step: Duration) {
        self.clock.advance(step);
        self.clock.catch_up();
    }
}

impl Source for Store {
    fn origin(&self) -> Origin {
        Origin::new("store", "test")
    }

    fn load(&self) -> Result<Document, Error> {
        let number = {
            let mut asked = self.asked.lock();
            asked.push(self.clock.now());
            asked.len()
        };
        while self.stuck.lock().contains(&number) {
            std::thread::sleep(Duration::from_millis(1));
        }
        if *self.down.lock() {
            let error = Error::new(ErrorKind::Unavailable, "is down");
            return Err(match *self.busy.lock() {
                Some(pause) => error.with_retry_after(pause),
                None => error,
            });
        }
        let mut document = Document::new();
        document.set("asked", self.asked() as i64, self.origin())?;
        Ok(document)
    }

    fn watching(&self) -> Watching {
        Watching::Poll(EVERY)
    }

    fn timing(&self) -> Timing {
        Timing::new().timeout(self.timeout)
    }
}

const ALL: Range<usize> = 0..usize::MAX;
const NONE: Range<usize> = 0..0;
const EVERY: Duration = Duration::from_secs(5);
const STEP: Duration = Duration::from_millis(50);

#[test]
fn polls_begin_spread_over_the_interval_and_then_keep_it() -> Result<(), Error> {
    let mut starts = Vec::new();
    for _ in 0..6 {
        let (fake, clock) = FakeClock::new();
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
    let (fake, clock) = FakeClock::new();
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
    assert!(asked.len() < 480, "it is not pressed: {}", asked.len());
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
    assert_eq!(props.get::<u32>("asked")? as usize, store.asked());
    Ok(())
}

#[test]
fn a_store_that_wants_no_retry_is_left_alone_that_long_and_never_longer_than_the_cap()
-> Result<(), Error> {
    let (fake, clock) = FakeClock::new();
    let store = Store::new(&fake);
    let props = Properties::builder()
        .clock(clock)
        .source(store.clone())
        .build()?;
    *store.down.lock() = true;
    let slack = 4 * STEP;
    for wanted in [10, 20, 3_600] {
        *store.busy.lock() = Some(Duration::from_secs(wanted));
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
    // A store that names no pause is asked soon, and a store that is back in its interval.
    *store.busy.lock() = None;
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
fn a_refresh_asks_a_store_that_wants_no_retry_at_once() -> Result<(), Error> {
    let (fake, clock) = FakeClock::new();
    let store = Store::new(&fake);
    let props = Properties::builder()
        .clock(clock)
        .source(store.clone())
        .build()?;
    *store.down.lock() = true;
    *store.busy.lock() = Some(Duration::from_secs(20));
    store.next_gap(STEP);
    let asked = store.asked();
    *store.down.lock() = false;
    props.refresh_now()?;
    assert_eq!(store.asked(), asked + 1);
    assert!(props.health().is_up());
    assert_eq!(props.get::<usize>("asked")?, asked + 1);
    Ok(())
}

#[test]
fn a_start_without_a_store_that_wants_no_retry_leaves_it_alone_too() -> Result<(), Error> {
    let (fake, clock) = FakeClock::new();
    let store = Store::new(&fake);
    *store.down.lock() = true;
    *store.busy.lock() = Some(Duration::from_secs(20));
    let props = Properties::builder()
        .clock(clock)
        .source(store.clone().with(|policy| policy.optional()))
        .build()?;
    assert_eq!(store.asked(), 1);
    *store.down.lock() = false;
    let gap = store.next_gap(STEP);
    assert!(gap >= Duration::from_secs(20), "{gap:?}");
    store.until(STEP, STEP * 4, || props.health().is_up());
    Ok(())
}

#[test]
fn programs_that_one_slow_answer_gathers_keep_apart() -> Result<(), Error> {
    let (fake, clock) = FakeClock::new();
    let store = Store {
        timeout: 3 * EVERY,
        ..Store::new(&fake)
    };
    let props: Vec<_> = (0..12)
        .map(|_| {
            Properties::builder()
                .clock(clock.clone())
                .source(store.clone())
                .max_propagation(Duration::MAX)
                .build()
        })
        .collect::<Result<_, _>>()?;
    store.hangs(ALL);
    // Each waits, and none as long as it may.
    let count = props.len();
    store.until(STEP, EVERY + 4 * STEP, || store.asked() == 2 * count);
    store.hangs(NONE);
    store.until(STEP, EVERY + 4 * STEP, || store.asked() == 3 * count);
    let last = store.asked.lock()[2 * count..].to_vec();
    let spread = last[count - 1] - last[0];
    assert!(spread > EVERY / 5, "{spread:?}");
    Ok(())
}

#[test]
fn a_poll_begins_an_interval_after_the_one_before_however_long_that_took() -> Result<(), Error> {
    let (fake, clock) = FakeClock::new();
    let store = Store::new(&fake);
    let _props = Properties::builder()
        .clock(clock)
        .source(store.clone())
        .build()?;
    for took in [Duration::from_secs(1), DEFAULT_TIMEOUT - 4 * STEP] {
        for _ in 0..3 {
            store.hangs(ALL);
            store.next_gap(STEP);
            let began = store.last();
            while fake.now() < began + took {
                store.step(STEP);
            }
            store.hangs(NONE);
            let gap = store.next_gap(STEP);
            assert!(gap >= EVERY - STEP && gap <= EVERY + 2 * STEP, "{gap:?}");
        }
    }
    Ok(())
}

#[test]
fn a_refresh_leaves_the_polls_where_they_are() -> Result<(), Error> {
    let (fake, clock) = FakeClock::new();
    let store = Store::new(&fake);
    let props = Properties::builder()
        .clock(clock)
        .source(store.clone())
        .build()?;
    store.next_gap(STEP);
    let slot = store.asked.lock()[1];
    for _ in 0..20 {
        store.step(STEP);
        props.refresh_now()?;
    }
    store.next_gap(STEP);
    let late = store.last() - slot;
    assert!(late >= EVERY && late <= EVERY + 2 * STEP, "{late:?}");
    Ok(())
}

#[test]
fn a_store_that_hangs_for_good_is_asked_ever_more_rarely_and_taken_back() -> Result<(), Error> {
    let (fake, clock) = FakeClock::new();
    let store = Store {
        timeout: Duration::from_secs(1),
        ..Store::new(&fake)
    };
    let props = Properties::builder()
        .clock(clock)
        .source(store.clone())
        .build()?;
    store.hangs(ALL);
    let step = Duration::from_millis(250);
    let end = fake.now() + Duration::from_secs(300);
    while fake.now() < end {
        store.step(step);
    }
    let asked = store.asked.lock().clone();
    let hang = asked.len() - 1;
    assert!((8..=13).contains(&hang), "{hang} threads");
    assert!(
        asked[4] - asked[1] < Duration::from_secs(10),
        "soon at first"
    );
    let last = asked[hang] - asked[hang - 1];
    assert!(last > Duration::from_secs(30), "{last:?}");
    let Status::Stale { reason, .. } = props.health().sources[0].status.clone() else {
        panic!("it is up");
    };
    let text = format!("{hang} threads hang");
    assert!(reason.to_string().contains(&text), "{reason}");

    // Those stay where they are, and the next attempt succeeds.
    store.hangs(0..hang + 2);
    let long = Duration::from_secs(2_000);
    store.until(Duration::from_secs(2), long, || props.health().is_up());
    assert_eq!(props.get::<usize>("asked")?, hang + 2);
    store.hangs(NONE);
    Ok(())
}

#[test]
fn a_refresh_asks_a_store_whose_threads_hang_at_once() -> Result<(), Error> {
    let (fake, clock) = FakeClock::new();
    let store = Store {
        timeout: Duration::from_secs(1),
        ..Store::new(&fake)
    };
    let props = Properties::builder()
        .clock(clock)
        .source(store.clone())
        .build()?;
    store.hangs(ALL);
    store.until(STEP, Duration::from_secs(60), || {
        let health = props.health();
        matches!(&health.sources[0].status, Status::Stale { reason, .. }
            if reason.to_string().contains("4 threads hang"))
    });
    store.hangs(0..store.asked() + 1);
    props.refresh_now()?;
    assert!(props.health().is_up());
    store.hangs(NONE);
    Ok(())
}

#[test]
fn a_store_that_returns_after_all_is_asked_again_soon() -> Result<(), Error> {
    let (fake, clock) = FakeClock::new();
    let store = Store {
        timeout: Duration::from_secs(1),
        ..Store::new(&fake)
    };
    let props = Properties::builder()
        .clock(clock)
        .source(store.clone())
        .build()?;
    store.hangs(ALL);
    store.until(Duration::from_millis(250), Duration::from_secs(200), || {
        store.asked() == 9
    });
    // Let the newest of them be left to itself as well.
    let end = fake.now() + Duration::from_secs(2);
    while fake.now() < end {
        store.step(STEP);
    }
    store.hangs(NONE);
    store.until(STEP, Duration::from_secs(6), || props.health().is_up());
    Ok(())
}

#[test]
fn a_source_that_is_loaded_on_request_is_not_asked_again_because_it_failed() -> Result<(), Error> {
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
    assert_eq!(store.asked(), 2);
    assert!(props.refresh_now().is_err());
    assert_eq!(store.asked(), 3);
    *store.down.lock() = false;
    props.refresh_now()?;
    assert_eq!(props.get::<usize>("asked")?, 4);
    Ok(())
}

#[test]
fn a_first_load_has_the_time_of_the_start_and_not_of_a_poll() -> Result<(), Error> {
    let (fake, clock) = FakeClock::new();
    let store = Store::new(&fake);
    store.hangs(ALL);
    let source = store.clone();
    let build = std::thread::spawn(move || {
        Properties::builder()
            .clock(clock)
            .load_timeout(Duration::from_secs(60))
            .source(source)
            .build()
    });
    let soon = Duration::from_secs(1);
    store.until(Duration::ZERO, soon, || store.asked() == 1);
    let end = fake.now() + 3 * DEFAULT_TIMEOUT;
    while fake.now() < end {
        store.step(Duration::from_millis(500));
    }
    assert!(!build.is_finished());
    store.hangs(NONE);
    let props = build
        .join()
        .unwrap_or_else(|_| panic!("the build panicked"))?;
    assert_eq!((store.asked(), props.get::<usize>("asked")?), (1, 1));
    assert!(props.health().is_up());
    Ok(())
}

#[test]
fn a_refresh_during_a_slow_poll_has_the_time_of_both() -> Result<(), Error> {
    let (fake, clock) = FakeClock::new();
    let store = Store::new(&fake);
    let props = Properties::builder()
        .clock(clock)
        .source(store.clone())
        .build()?;
    store.hangs(ALL);
    store.until(STEP, 2 * EVERY, || store.asked() == 2);
    let asks = props.clone();
    let refresh = std::thread::spawn(move || asks.refresh_now());
    let slow = DEFAULT_TIMEOUT - 4 * STEP;
    for asked in [2, 3] {
        // Nothing shows that the call has begun, so it gets some time for that.
        for _ in 0..20 {
            store.step(Duration::ZERO);
        }
        let end = fake.now() + slow;
        while fake.now() < end {
            store.step(STEP);
        }
        assert_eq!(store.asked(), asked);
        store.hangs(asked + 1..usize::MAX);
        store.until(Duration::ZERO, Duration::from_secs(1), || {
            asked == 3 || store.asked() == 3
        });
    }
    refresh.join().unwrap_or_else(|_| panic!("it panicked"))?;
    assert_eq!(props.get::<usize>("asked")?, 3);
    Ok(())
}

/// A stream that breaks, sooner or later.
#[derive(Clone)]
struct Wire {
    store: Store,
    /// Whether it is silent before that, and how long it lasts.
    manner: Arc<Mutex<(bool, Duration)>>,
}

impl Source for Wire {
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
        let (mute, lasts) = *self.manner.lock();
        if !mute {
            updates.send(Update::full(document))?;
        }
        updates.wait(lasts);
        Err(Error::new(ErrorKind::Unavailable, "the wire broke"))
    }
}

#[test]
fn a_watch_that_lasted_is_begun_again_soon_and_one_that_broke_at_once_ever_later()
-> Result<(), Error> {
    let second = Duration::from_secs(1);
    let (fake, clock) = FakeClock::new();
    let store = Store::new(&fake);
    let manner = Arc::new(Mutex::new((true, Duration::ZERO)));
    let wire = Wire {
        store: store.clone(),
        manner: Arc::clone(&manner),
    };
    let props = Properties::builder().clock(clock).source(wire).build()?;
    let gaps = || -> Vec<_> { (0..10).map(|_| store.next_gap(STEP)).collect() };
    let set = |mute: bool, lasts: Duration| {
        *manner.lock() = (mute, lasts);
        store.next_gap(STEP);
    };
    store.until(STEP, second * 60, || store.asked() >= 8);
    // Never more than one attempt a second, whether the store answers or not.
    assert!(gaps().iter().all(|gap| *gap >= second), "it is pressed");
    set(false, Duration::ZERO);
    assert!(gaps().iter().all(|gap| *gap >= second), "it is pressed");
    // A silent store may answer at any time.
    set(true, 3 * second);
    let silent = gaps();
    let most = 3 * second + second / 2 + 3 * STEP;
    assert!(silent.iter().all(|gap| *gap <= most), "{silent:?}");
    set(false, second + STEP);
    let healthy = gaps();
    let most = second + Duration::from_millis(400) + 4 * STEP;
    assert!(healthy.iter().all(|gap| *gap <= most), "{healthy:?}");
    assert!(props.get::<usize>("asked")? > 20);
    Ok(())
}
