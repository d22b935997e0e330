//! Sources that hang.

use std::time::Duration;

use super::{ALL, NONE, STEP, Store};
use crate::engine::clock::FakeClock;
use crate::engine::health::Status;
use crate::error::Error;
use crate::properties::Properties;

#[test]
fn a_store_that_hangs_is_loaded_ever_more_rarely_and_then_recovers() -> Result<(), Error> {
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
    let loads = store.loads.lock().clone();
    let hang = loads.len() - 1;
    assert!((8..=13).contains(&hang), "{hang} threads");
    assert!(
        loads[4] - loads[1] < Duration::from_secs(10),
        "soon at first"
    );
    let last = loads[hang] - loads[hang - 1];
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
    assert_eq!(props.get::<usize>("loads")?, hang + 2);
    store.hangs(NONE);
    Ok(())
}

#[test]
fn a_refresh_loads_a_store_whose_threads_hang_at_once() -> Result<(), Error> {
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
    store.hangs(0..store.loads() + 1);
    props.refresh_now()?;
    assert!(props.health().is_up());
    store.hangs(NONE);
    Ok(())
}

#[test]
fn a_store_whose_calls_return_late_is_loaded_again_soon() -> Result<(), Error> {
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
        store.loads() == 9
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
