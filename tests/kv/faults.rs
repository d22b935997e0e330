//! What goes wrong between a program and its store, and that nothing comes of it.

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use liveprops::Properties;

use crate::field::{Field, SOON, Store, health, is_stale, is_up, tell, within};
use crate::proxy::Mode;

const SECOND: Duration = Duration::from_secs(1);
/// The longest pause between two tries, and what it takes to try.
const BACK: Duration = Duration::from_secs(6);

fn keys() -> Vec<(String, String)> {
    (0..20)
        .map(|n| (format!("app/n{n}"), n.to_string()))
        .collect()
}

fn field<S: Store>() -> Option<Field<S>> {
    let keys = keys();
    let keys: Vec<(&str, &str)> = keys.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    Field::with(&keys)
}

/// Waits until the watch is set: a fault before that is another one.
fn is_followed<S: Store>(field: &Field<S>, props: &Properties) {
    for n in [-1, 0] {
        field.store.put("app/n0", n.to_string());
        within(SOON, "it is followed", || {
            props.get::<i64>("n0").unwrap() == n
        });
    }
}

/// Whether every value is that of the start, but for `n0`.
pub(crate) fn others_stay(props: &Properties) -> bool {
    (1..20).all(|n| props.get::<i64>(&format!("n{n}")).is_ok_and(|now| now == n))
}

pub(crate) fn a_store_that_is_killed_and_comes_back_is_followed_again<S: Store>() {
    let Some(mut field) = field::<S>() else {
        return;
    };
    let props = field.follow();
    let n0 = props.property::<i64>("n0").build().unwrap();
    field.server.kill();
    within(SOON, "it is told", || is_stale(&props));
    assert!(others_stay(&props) && n0.get() == 0);
    std::thread::sleep(2 * SECOND);
    field.restart();
    field.store.put("app/n0", "1");
    let took = within(BACK, "the change after the outage", || n0.get() == 1);
    tell::<S>("kill -9, 2 s down", took);
    within(SOON, "it is told", || is_up(&props));
    assert!(others_stay(&props));
}

pub(crate) fn what_changed_in_an_outage_is_told_once_and_nothing_else<S: Store>() {
    let Some(field) = field::<S>() else { return };
    let props = field.follow();
    let (send, told) = channel();
    let _guard = props.on_change_under("", move |batch| {
        let changes: Vec<String> = batch
            .changes()
            .iter()
            .map(|change| change.key().to_string())
            .collect();
        let _ = send.send(changes);
    });
    // Nothing changes: nothing is told.
    field.proxy.set(Mode::Refuse);
    within(SOON, "it is told", || is_stale(&props));
    field.proxy.set(Mode::Pass);
    within(SOON, "it is told", || is_up(&props));
    assert!(told.try_recv().is_err(), "nothing had changed");

    field.proxy.set(Mode::Refuse);
    within(SOON, "it is told", || is_stale(&props));
    for n in 0..3 {
        field.store.put(&format!("app/n{n}"), "77");
    }
    field.store.delete("app/n3");
    std::thread::sleep(3 * SECOND);
    field.proxy.set(Mode::Pass);
    let took = within(BACK, "all of it", || props.get::<i64>("n2").unwrap() == 77);
    tell::<S>("cut for 3 s", took);
    let mut changes = told.recv_timeout(SOON).unwrap();
    changes.sort();
    assert_eq!(changes, ["n0", "n1", "n2", "n3"]);
    within(SOON, "it is told", || is_up(&props));
    assert!(told.try_recv().is_err());
}

pub(crate) fn fifty_changes_in_an_outage_arrive_as_one_value<S: Store>() {
    let Some(field) = field::<S>() else { return };
    let props = field.follow();
    let n0 = props.property::<i64>("n0").build().unwrap();
    let (send, told) = channel();
    let _guard = n0.on_change(move |change| {
        let _ = send.send(*change.new);
    });
    field.proxy.set(Mode::Refuse);
    within(SOON, "it is told", || is_stale(&props));
    for n in 1..=50 {
        field.store.put("app/n0", n.to_string());
    }
    field.proxy.set(Mode::Pass);
    assert_eq!(told.recv_timeout(SOON).unwrap(), 50);
    within(SOON, "it is told", || is_up(&props));
    assert!(told.try_recv().is_err());
}

pub(crate) fn a_store_that_is_wiped_does_not_take_the_values_with_it<S: Store>() {
    let Some(mut field) = field::<S>() else {
        return;
    };
    for n in 100..130 {
        field.store.put("app/n0", n.to_string());
    }
    let props = field.follow();
    field.server.kill();
    field.server.wipe();
    field.restart();
    field.store.put("app/n0", "1");
    let took = within(BACK, "it is told", || health(&props).held.is_some());
    tell::<S>("wiped: held", took);
    assert!(
        others_stay(&props),
        "most keys are gone there, and stay here"
    );
    // It is filled again, with other revisions.
    for (key, value) in keys().iter().skip(1) {
        field.store.put(key, value);
    }
    within(SOON, "nothing is held any more", || {
        health(&props).held.is_none()
    });
    field.store.put("app/n0", "2");
    within(SOON, "it is followed", || {
        props.get::<i64>("n0").unwrap() == 2
    });
    assert!(others_stay(&props));
}

pub(crate) fn a_store_that_is_frozen_is_told_of_and_read_from_memory<S: Store>() {
    let Some(field) = field::<S>() else { return };
    let props = field.follow();
    let n0 = props.property::<i64>("n0").build().unwrap();
    is_followed(&field, &props);
    field.server.freeze();
    let begun = Instant::now();
    let took = within(10 * SECOND, "it is told", || is_stale(&props));
    tell::<S>("frozen: told", took);
    let mut longest = Duration::ZERO;
    while begun.elapsed() < 7 * SECOND {
        let read = Instant::now();
        assert_eq!(n0.get(), 0);
        longest = longest.max(read.elapsed());
        std::thread::sleep(Duration::from_millis(1));
    }
    field.server.thaw();
    field.store.put("app/n0", "1");
    let took = within(BACK, "the change after it", || n0.get() == 1);
    tell::<S>("frozen: thawed", took);
    within(SOON, "it is told", || is_up(&props));
    assert!(others_stay(&props));
}

pub(crate) fn a_connection_that_swallows_everything_is_given_up<S: Store>() {
    let Some(field) = field::<S>() else { return };
    let props = field.follow();
    is_followed(&field, &props);
    field.proxy.set(Mode::HalfOpen);
    field.store.put("app/n0", "1");
    let took = within(10 * SECOND, "it is told", || is_stale(&props));
    tell::<S>("half-open: told", took);
    assert!(others_stay(&props));
    field.proxy.set(Mode::Pass);
    let took = within(BACK + 4 * SECOND, "the change", || {
        props.get::<i64>("n0").unwrap() == 1
    });
    tell::<S>("half-open: over", took);
    within(SOON, "it is told", || is_up(&props));
}

pub(crate) fn a_store_that_is_absent_at_the_start_is_picked_up<S: Store>() {
    let Some(field) = field::<S>() else { return };
    field.proxy.set(Mode::Refuse);
    let optional = S::prefix(field.proxy.port(), "app");
    let props = Properties::builder()
        .source(liveprops::Source::with(optional, |policy| {
            policy.optional()
        }))
        .build()
        .unwrap();
    assert!(props.get_opt::<i64>("n1").unwrap().is_none());
    let error = Properties::builder()
        .load_timeout(2 * SECOND)
        .source(S::prefix(field.proxy.port(), "app"))
        .build()
        .unwrap_err();
    assert!(error.to_string().contains("app"), "{error}");
    field.proxy.set(Mode::Pass);
    let took = within(BACK, "it is there", || {
        props.get_opt::<i64>("n1").unwrap() == Some(1)
    });
    tell::<S>("absent at the start", took);
}

pub(crate) fn the_end_does_not_wait_for_a_read_that_waits<S: Store>() {
    let Some(field) = field::<S>() else { return };
    let mut slowest = Duration::ZERO;
    for _ in 0..5 {
        let props = field.follow();
        within(SOON, "it waits for changes", || is_up(&props));
        std::thread::sleep(Duration::from_millis(100));
        let begun = Instant::now();
        drop(props);
        slowest = slowest.max(begun.elapsed());
    }
    tell::<S>("drop", slowest);
    assert!(slowest < Duration::from_millis(300), "{slowest:?}");
    field.proxy.set(Mode::HalfOpen);
    within(SOON, "nothing is connected any more", || {
        field.proxy.open() <= 2
    });
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

pub(crate) fn fifty_cuts_leak_nothing_and_end_on_the_last_value<S: Store>() {
    let Some(field) = field::<S>() else { return };
    let props = field.follow();
    let of_crate = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).ok();
        tasks
            .filter_map(name)
            .filter(|name| name.starts_with("liveprops"))
            .count()
    };
    let _ = threads();
    let before = of_crate();
    for n in 0..50 {
        field.proxy.cut();
        field.store.put("app/n0", n.to_string());
        std::thread::sleep(Duration::from_millis(20));
    }
    let took = within(BACK, "the last value", || {
        props.get::<i64>("n0").unwrap() == 49
    });
    tell::<S>("50 cuts", took);
    within(SOON, "it is told", || is_up(&props));
    assert!(others_stay(&props));
    // Other tests of this program have threads of the same names.
    let _ = before;
    within(SOON, "connections end", || field.proxy.open() <= 4);
}
