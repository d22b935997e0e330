//! Faults of stores and connections change no value.

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use liveprops::Properties;

use crate::SECOND;
use crate::proxy::Mode;
use crate::scenario::{
    Reader, SOON, Scenario, Store, health, is_stale, is_up, report, report_time, wait_until,
};
use crate::server::Server;
use crate::support::child::{self, Child};
use crate::support::proc::{open_files, threads};
use crate::support::run_exclusively;

/// The longest back-off plus the time of a connection attempt.
pub(crate) const BACK: Duration = Duration::from_secs(6);
/// The back-off reaches its maximum after this time of failures.
const FULL: Duration = Duration::from_millis(6500);
/// The read timeout of a store that does not answer.
const TIMEOUT: Duration = Duration::from_millis(3500);
/// The time after which a silent store is stale.
const DEADLINE: Duration = Duration::from_secs(7);

fn keys() -> Vec<(String, String)> {
    (0..20)
        .map(|n| (format!("app/n{n}"), n.to_string()))
        .collect()
}

fn scenario<S: Store>() -> Option<Scenario<S>> {
    let keys = keys();
    let keys: Vec<(&str, &str)> = keys.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    Scenario::with(&keys)
}

/// Waits until the watch is active: an earlier fault is a different case.
fn is_followed<S: Store>(scenario: &Scenario<S>, props: &Properties) {
    for n in [-1, 0] {
        scenario.store.put("app/n0", n.to_string());
        wait_until(SOON, "the program follows the store", || {
            props.get::<i64>("n0").unwrap() == n
        });
    }
}

/// Returns whether every value except `n0` is unchanged since the start.
pub(crate) fn others_stay(props: &Properties) -> bool {
    (1..20).all(|n| props.get::<i64>(&format!("n{n}")).is_ok_and(|now| now == n))
}

/// Runs a test concurrently for several durations of a fault.
fn for_each(lengths: &[u64], run: impl Fn(u64) + Sync) {
    std::thread::scope(|scope| {
        for length in lengths {
            let run = &run;
            scope.spawn(move || run(*length));
        }
    });
}

/// Returns the length of a long outage in seconds; short by default, to keep the tests fast.
fn long() -> u64 {
    let seconds = std::env::var("LIVEPROPS_OUTAGE").map(|it| it.parse().unwrap());
    seconds.unwrap_or(12)
}

pub(crate) fn a_killed_store_is_followed_again_after_any_time<S: Store>() {
    for_each(&[2, long()], killed_for::<S>);
}

fn killed_for<S: Store>(seconds: u64) {
    let Some(mut scenario) = scenario::<S>() else {
        return;
    };
    let props = scenario.follow();
    let reader = Reader::of(&props);
    let n0 = props.property::<i64>("n0").build().unwrap();
    scenario.server.kill();
    let killed = Instant::now();
    wait_until(SOON, "the source is stale", || is_stale(&props));
    assert!(others_stay(&props) && n0.get() == 0);
    while killed.elapsed() < SECOND * seconds as u32 {
        std::thread::sleep(SECOND / 100);
    }
    let tries = scenario.proxy.connections();
    let full = tries.iter().filter(|at| **at > killed + FULL).count() as u64;
    assert!(
        full <= seconds.saturating_sub(FULL.as_secs()),
        "{full} tries in the last of {seconds} s"
    );
    scenario.restart();
    scenario.store.put("app/n0", "1");
    scenario.store.delete("app/n19");
    let took = wait_until(BACK, "the change after the outage", || n0.get() == 1);
    report_time::<S>(&format!("kill -9, {seconds} s down"), took);
    reader.assert_recovered(&scenario, &props);
}

pub(crate) fn changes_during_an_outage_are_reported_once_and_nothing_else<S: Store>() {
    let Some(scenario) = scenario::<S>() else {
        return;
    };
    let props = scenario.follow();
    let reader = Reader::of(&props);
    let (send, received) = channel();
    let _guard = props.on_change_under("", move |batch| {
        let changes: Vec<String> = batch
            .changes()
            .iter()
            .map(|change| change.key().to_string())
            .collect();
        let _ = send.send(changes);
    });
    // An outage without changes reports no change.
    scenario.proxy.set(Mode::Refuse);
    wait_until(SOON, "the source is stale", || is_stale(&props));
    scenario.proxy.set(Mode::Pass);
    wait_until(SOON, "the source is up", || is_up(&props));
    assert!(received.try_recv().is_err(), "nothing had changed");

    scenario.proxy.set(Mode::Refuse);
    wait_until(SOON, "the source is stale", || is_stale(&props));
    for n in 0..3 {
        scenario.store.put(&format!("app/n{n}"), "77");
    }
    scenario.store.delete("app/n3");
    std::thread::sleep(3 * SECOND);
    scenario.proxy.set(Mode::Pass);
    let took = wait_until(BACK, "all changes", || {
        props.get::<i64>("n2").unwrap() == 77
    });
    report_time::<S>("cut for 3 s", took);
    let mut changes = received.recv_timeout(SOON).unwrap();
    changes.sort();
    assert_eq!(changes, ["n0", "n1", "n2", "n3"]);
    reader.assert_recovered(&scenario, &props);
    assert!(received.try_recv().is_err());
}

pub(crate) fn fifty_changes_in_an_outage_arrive_as_one_value<S: Store>() {
    let Some(scenario) = scenario::<S>() else {
        return;
    };
    let props = scenario.follow();
    let n0 = props.property::<i64>("n0").build().unwrap();
    let (send, changes) = channel();
    let _guard = n0.on_change(move |change| {
        let _ = send.send(*change.new_value());
    });
    scenario.proxy.set(Mode::Refuse);
    wait_until(SOON, "the source is stale", || is_stale(&props));
    for n in 1..=50 {
        scenario.store.put("app/n0", n.to_string());
    }
    scenario.proxy.set(Mode::Pass);
    assert_eq!(changes.recv_timeout(SOON).unwrap(), 50);
    wait_until(SOON, "the source is up", || is_up(&props));
    assert!(changes.try_recv().is_err());
}

pub(crate) fn the_values_of_a_wiped_store_stay<S: Store>() {
    let Some(mut scenario) = scenario::<S>() else {
        return;
    };
    for n in 100..130 {
        scenario.store.put("app/n0", n.to_string());
    }
    let props = scenario.follow();
    let reader = Reader::of(&props);
    scenario.server.kill();
    scenario.server.wipe();
    scenario.restart();
    scenario.store.put("app/n0", "1");
    let took = wait_until(BACK, "an update is withheld", || {
        health(&props).withheld.is_some()
    });
    report_time::<S>("wiped: withheld", took);
    assert!(
        others_stay(&props),
        "most keys are gone there, and stay here"
    );
    // The store gets the same keys again, with other revisions.
    for (key, value) in keys().iter().skip(1) {
        scenario.store.put(key, value);
    }
    wait_until(SOON, "nothing is withheld any more", || {
        health(&props).withheld.is_none()
    });
    scenario.store.put("app/n0", "2");
    wait_until(SOON, "the program follows the store", || {
        props.get::<i64>("n0").unwrap() == 2
    });
    assert!(others_stay(&props));
    reader.assert_recovered(&scenario, &props);
}

pub(crate) fn a_replaced_store_is_read_from_scratch<S: Store>() {
    let Some(mut scenario) = scenario::<S>() else {
        return;
    };
    for n in 100..130 {
        scenario.store.put("app/n0", n.to_string());
    }
    let props = scenario.follow();
    let reader = Reader::of(&props);
    is_followed(&scenario, &props);
    // The new store lacks one key and has a lower revision.
    let mut other = self::scenario::<S>().unwrap();
    other.store.put("app/n0", "1");
    other.store.delete("app/n7");
    std::mem::swap(&mut scenario.server, &mut other.server);
    std::mem::swap(&mut scenario.store, &mut other.store);
    scenario.proxy.set_target(scenario.server.port());
    let took = wait_until(2 * SECOND, "the values of the new store", || {
        scenario.agrees(&props)
    });
    report_time::<S>("another store in its place", took);
    scenario.store.put("app/n0", "2");
    let took = wait_until(2 * SECOND, "a change", || {
        props.get::<i64>("n0").unwrap() == 2
    });
    assert!(took < 2 * SECOND);
    reader.assert_recovered(&scenario, &props);
}

pub(crate) fn a_frozen_store_is_reported_and_its_values_stay<S: Store>() {
    for_each(&[5, 20], frozen_for::<S>);
}

fn frozen_for<S: Store>(seconds: u64) {
    let Some(scenario) = scenario::<S>() else {
        return;
    };
    let props = scenario.follow();
    let reader = Reader::of(&props);
    is_followed(&scenario, &props);
    scenario.server.freeze();
    let frozen = Instant::now();
    let limit = DEADLINE + SECOND;
    let reported_after = wait_until(limit, "the source is stale", || is_stale(&props));
    while frozen.elapsed() < SECOND * seconds as u32 {
        assert!(is_stale(&props) && others_stay(&props));
        std::thread::sleep(SECOND / 100);
    }
    scenario.server.thaw();
    scenario.store.put("app/n0", "1");
    let took = wait_until(SECOND * 3 / 2, "the change after it", || {
        props.get::<i64>("n0").unwrap() == 1
    });
    report_time::<S>(&format!("frozen for {seconds} s: reported"), reported_after);
    report_time::<S>(&format!("frozen for {seconds} s: recovered"), took);
    reader.assert_recovered(&scenario, &props);
}

pub(crate) fn a_half_open_connection_is_closed<S: Store>() {
    let Some(scenario) = scenario::<S>() else {
        return;
    };
    let props = scenario.follow();
    let reader = Reader::of(&props);
    is_followed(&scenario, &props);
    scenario.proxy.set(Mode::HalfOpen);
    scenario.store.put("app/n0", "1");
    scenario.store.delete("app/n19");
    let took = wait_until(DEADLINE + SECOND, "the source is stale", || {
        is_stale(&props)
    });
    report_time::<S>("half-open: reported", took);
    assert!(others_stay(&props));
    scenario.proxy.set(Mode::Pass);
    // Requests sent earlier never get an answer.
    let took = wait_until(TIMEOUT + SECOND, "the change", || {
        props.get::<i64>("n0").unwrap() == 1
    });
    report_time::<S>("half-open: recovered", took);
    reader.assert_recovered(&scenario, &props);
}

pub(crate) fn a_connection_that_is_reset_or_stalls_is_replaced<S: Store>() {
    let Some(scenario) = scenario::<S>() else {
        return;
    };
    let props = scenario.follow();
    let reader = Reader::of(&props);
    is_followed(&scenario, &props);
    for (n, mode) in [(1, Mode::Reset), (2, Mode::Stall)] {
        let connections = || scenario.proxy.connections().len();
        let before = connections();
        scenario.proxy.set(mode);
        scenario.store.put("app/n0", n.to_string());
        let took = wait_until(DEADLINE + SECOND, "the source is stale", || {
            is_stale(&props)
        });
        report_time::<S>(&format!("{mode:?}: reported"), took);
        wait_until(BACK, "the program reconnects", || connections() > before);
        assert!(others_stay(&props));
        scenario.proxy.set(Mode::Pass);
        let took = wait_until(BACK, "the change", || props.get::<i64>("n0").unwrap() == n);
        report_time::<S>(&format!("{mode:?}: recovered"), took);
        reader.assert_recovered(&scenario, &props);
    }
}

pub(crate) fn a_store_that_is_absent_at_the_start_is_used_once_it_is_up<S: Store>() {
    let mut server = Server::prepare(S::KIND, &[]);
    let source = || S::prefix(server.port(), "app");
    let props = Properties::builder()
        .source(liveprops::Source::with(source(), |policy| {
            policy.optional()
        }))
        .build()
        .unwrap();
    assert!(props.get_opt::<i64>("n1").unwrap().is_none());
    let error = Properties::builder()
        .load_timeout(2 * SECOND)
        .source(source())
        .build()
        .unwrap_err();
    assert!(error.to_string().contains("app"), "{error}");
    // The back-off has reached its maximum.
    std::thread::sleep(FULL);
    if !server.restart() {
        return;
    }
    let store = S::connect(&server);
    store.change(&[("app/n0", Some(b"0")), ("app/n1", Some(b"1"))]);
    let took = wait_until(BACK, "the source is up", || {
        props.get_opt::<i64>("n1").unwrap() == Some(1)
    });
    report_time::<S>("absent at the start", took);
    Reader::of(&props).assert_recovered(&Scenario::<S>::of(server), &props);
}

pub(crate) fn shutdown_does_not_wait_for_a_blocking_read<S: Store>() {
    let Some(scenario) = scenario::<S>() else {
        return;
    };
    let mut all: Vec<Duration> = (0..7)
        .map(|_| {
            let props = scenario.follow();
            wait_until(SOON, "it waits for changes", || is_up(&props));
            // The source has read everything and waits for changes.
            std::thread::sleep(Duration::from_millis(400));
            let begun = Instant::now();
            drop(props);
            begun.elapsed()
        })
        .collect();
    all.sort();
    report_time::<S>("drop", all[3]);
    // A busy machine may delay single measurements.
    assert!(all[3] < SECOND / 10 && all[6] < SECOND / 2, "{all:?}");
    wait_until(SOON, "nothing is connected any more", || {
        scenario.proxy.open() == 0
    });
}

/// Returns the numbers of threads and open files of this process.
fn open() -> [usize; 2] {
    [threads(), open_files()]
}

/// Runs a test in another process, where no other test opens threads and files.
fn run_in_child<S: Store>(test: &str, run: impl FnOnce()) {
    const DONE: &str = "done";
    if child::role().is_some() {
        run();
        return child::report(DONE);
    }
    let store = std::any::type_name::<S>().split("::").nth(1).unwrap();
    let mut child = Child::of(&format!("{store}::{test}")).start();
    let ended = child.exits_successfully();
    let lines = || child.output.recv_timeout(SECOND).ok();
    let lines: Vec<String> = std::iter::from_fn(lines).collect();
    // A test program also succeeds if its filter matches no test.
    let done = lines.last().is_some_and(|last| last == DONE);
    lines.into_iter().for_each(report);
    assert!(ended && done, "the child failed");
}

/// Waits until the numbers of threads and files are back at `before`.
#[track_caller]
fn assert_no_leaks(before: [usize; 2], what: &str) {
    let begun = Instant::now();
    let mut now = open();
    while now.iter().zip(before).any(|(now, before)| *now > before) {
        let shown = format!("{what}: {before:?} threads and files, and then {now:?}");
        assert!(begun.elapsed() < SOON, "{shown}");
        std::thread::sleep(SECOND / 100);
        now = open();
    }
}

pub(crate) fn fifty_cuts_leak_nothing_and_end_on_the_last_value<S: Store>() {
    let test = "fifty_cuts_leak_nothing_and_end_on_the_last_value";
    run_in_child::<S>(test, || {
        let Some(scenario) = scenario::<S>() else {
            return;
        };
        // Creates everything that exists once per process.
        drop(scenario.follow());
        wait_until(SOON, "it has ended", || scenario.proxy.open() == 0);
        let before = open();
        // The back-off grows with each cut, so several programs share the cuts.
        let programs: Vec<Properties> = (0..10).map(|_| scenario.follow()).collect();
        let readers: Vec<Reader> = programs.iter().map(Reader::of).collect();
        programs
            .iter()
            .for_each(|props| is_followed(&scenario, props));
        wait_until(SOON, "all are connected", || {
            scenario.proxy.open() >= programs.len() * S::CONNECTIONS
        });
        let connections = || scenario.proxy.connections().len();
        let (following, first) = (open(), connections());
        for n in 1..=50 {
            scenario.proxy.cut();
            scenario.store.put("app/n0", n.to_string());
            std::thread::sleep(SECOND / 10);
        }
        let took = wait_until(BACK, "the last value", || {
            programs
                .iter()
                .all(|props| props.get::<i64>("n0").unwrap() == 50)
        });
        report_time::<S>("50 cuts", took);
        for (props, reader) in programs.iter().zip(&readers) {
            reader.assert_recovered(&scenario, props);
        }
        let made = connections() - first;
        assert!(made >= 30, "only {made} connections were made");
        assert_no_leaks(following, "after 50 cuts");
        wait_until(SOON, "the server forgets them", || {
            scenario.store.readers() <= programs.len()
        });
        drop((programs, readers));
        assert_no_leaks(before, "after the end");
    });
}

const PROGRAMS: usize = 200;
/// The interval in which connections and requests are counted.
const WINDOW: Duration = Duration::from_millis(250);

/// Returns the largest and the mean number of events per interval.
fn rate(all: &[Instant], from: Instant, until: Instant) -> (usize, f64) {
    let during = |from: Instant, until: Instant| {
        let moments = all.iter().filter(move |at| **at >= from && **at < until);
        moments.count()
    };
    let pieces = (until - from).div_duration_f64(WINDOW);
    let begins = all.iter().filter(|at| **at >= from && **at < until);
    let peak = begins.map(|at| during(*at, until.min(*at + WINDOW)));
    (peak.max().unwrap_or(0), during(from, until) as f64 / pieces)
}

pub(crate) fn two_hundred_programs_come_back_without_a_rush<S: Store>() {
    // The programs of several stores would overload the machine.
    let _exclusive = run_exclusively();
    let test = "two_hundred_programs_come_back_without_a_rush";
    run_in_child::<S>(test, two_hundred_programs::<S>);
}

fn two_hundred_programs<S: Store>() {
    let Some(mut scenario) = scenario::<S>() else {
        return;
    };
    drop(scenario.follow());
    wait_until(SOON, "it has ended", || scenario.proxy.open() == 0);
    let before = open();
    let programs: Vec<Properties> = (0..PROGRAMS).map(|_| scenario.follow()).collect();
    let all_have = |n: i64| {
        let mut programs = programs.iter();
        programs.all(|props| props.get::<i64>("n0").unwrap() == n && is_up(props))
    };
    scenario.store.put("app/n0", "-1");
    wait_until(SOON, "all follow", || all_have(-1));
    let spread = |what: &str, times: Vec<Instant>, from: Instant, until: Instant| {
        let times = &times;
        let (peak, mean) = rate(times, from, until);
        report(format!(
            "{:?}: {PROGRAMS} programs, {what}: {peak} in 250 ms at most, {mean:.0} at the mean",
            S::KIND
        ));
        // A small number is always uneven.
        assert!(
            peak as f64 <= 5.0 * mean.max(8.0),
            "{what}: {peak} of {mean}"
        );
        (peak, mean)
    };
    scenario.server.kill();
    let killed = Instant::now();
    wait_until(3 * SECOND, "all sources are stale", || {
        programs.iter().all(is_stale)
    });
    while killed.elapsed() < 3 * SECOND {
        std::thread::sleep(SECOND / 100);
    }
    let tries = scenario.proxy.connections();
    let (peak, mean) = spread("tries in an outage", tries, killed, Instant::now());
    // Fewer than five requests per program, never all at the same time.
    let limit = 5.0 * PROGRAMS as f64 / 12.0;
    assert!(peak <= PROGRAMS && mean < limit, "{peak}, {mean}");
    scenario.restart();
    scenario.store.put("app/n0", "1");
    let ready = Instant::now();
    let took = wait_until(10 * SECOND, "all have it", || all_have(1));
    report_time::<S>("200 programs, 3 s down", took);
    let back = Instant::now();
    let made = scenario.proxy.connections();
    spread("connections on the return", made, ready, back);
    std::thread::sleep(5 * SECOND);
    let after = Instant::now();
    let (peak, _) = spread("requests after it", scenario.proxy.requests(), back, after);
    assert!(peak <= PROGRAMS / 2, "{peak} requests at once");
    assert!(programs.iter().all(|props| scenario.agrees(props)));
    drop(programs);
    assert_no_leaks(before, "after the end");
}
