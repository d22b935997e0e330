//! When polls are due.

use std::time::Duration;

use super::{ALL, EVERY, NONE, STEP, Store};
use crate::engine::clock::FakeClock;
use crate::error::Error;
use crate::properties::Properties;
use crate::source::DEFAULT_TIMEOUT;

#[test]
fn polls_begin_at_random_within_the_interval_and_then_keep_it() -> Result<(), Error> {
    let mut starts = Vec::new();
    for _ in 0..6 {
        let (fake, clock) = FakeClock::new();
        let store = Store::new(&fake);
        let props = Properties::builder()
            .clock(clock)
            .source(store.clone())
            .build()?;
        assert_eq!(store.loads(), 1, "the first load is at once");
        store.until(STEP, Duration::from_secs(20), || store.loads() == 4);
        let loads = store.loads.lock().clone();
        let start = loads[1] - loads[0];
        assert!(start <= Duration::from_secs(5) + STEP, "{start:?}");
        starts.push(start);
        for pair in loads[1..].windows(2) {
            let pause = pair[1] - pair[0];
            let late = pause.checked_sub(Duration::from_secs(5));
            assert!(late.is_some_and(|late| late <= 2 * STEP), "{pause:?}");
        }
        assert!(props.get::<u32>("loads")? >= 3);
    }
    starts.sort();
    assert!(
        starts[5] - starts[0] > Duration::from_millis(500),
        "{starts:?}"
    );
    Ok(())
}

#[test]
fn programs_that_wait_for_one_slow_answer_do_not_fall_into_step() -> Result<(), Error> {
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
    store.until(STEP, EVERY + 4 * STEP, || store.loads() == 2 * count);
    store.hangs(NONE);
    store.until(STEP, EVERY + 4 * STEP, || store.loads() == 3 * count);
    let last = store.loads.lock()[2 * count..].to_vec();
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
fn a_refresh_does_not_move_the_polls() -> Result<(), Error> {
    let (fake, clock) = FakeClock::new();
    let store = Store::new(&fake);
    let props = Properties::builder()
        .clock(clock)
        .source(store.clone())
        .build()?;
    store.next_gap(STEP);
    let slot = store.loads.lock()[1];
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
fn a_first_load_has_the_timeout_of_the_start_and_not_of_a_poll() -> Result<(), Error> {
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
    store.until(Duration::ZERO, soon, || store.loads() == 1);
    let end = fake.now() + 3 * DEFAULT_TIMEOUT;
    while fake.now() < end {
        store.step(Duration::from_millis(500));
    }
    assert!(!build.is_finished());
    store.hangs(NONE);
    let props = build
        .join()
        .unwrap_or_else(|_| panic!("the build panicked"))?;
    assert_eq!((store.loads(), props.get::<usize>("loads")?), (1, 1));
    assert!(props.health().is_up());
    Ok(())
}

#[test]
fn a_refresh_during_a_slow_poll_has_the_time_of_two_loads() -> Result<(), Error> {
    let (fake, clock) = FakeClock::new();
    let store = Store::new(&fake);
    let props = Properties::builder()
        .clock(clock)
        .source(store.clone())
        .build()?;
    store.hangs(ALL);
    store.until(STEP, 2 * EVERY, || store.loads() == 2);
    let refreshing = props.clone();
    let refresh = std::thread::spawn(move || refreshing.refresh_now());
    let slow = DEFAULT_TIMEOUT - 4 * STEP;
    for loads in [2, 3] {
        // Nothing shows that the call has begun, so it gets some time for that.
        for _ in 0..20 {
            store.step(Duration::ZERO);
        }
        let end = fake.now() + slow;
        while fake.now() < end {
            store.step(STEP);
        }
        assert_eq!(store.loads(), loads);
        store.hangs(loads + 1..usize::MAX);
        store.until(Duration::ZERO, Duration::from_secs(1), || {
            loads == 3 || store.loads() == 3
        });
    }
    refresh.join().unwrap_or_else(|_| panic!("it panicked"))?;
    assert_eq!(props.get::<usize>("loads")?, 3);
    Ok(())
}
