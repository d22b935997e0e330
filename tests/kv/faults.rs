//! Faults between a program and its store change no value.

use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use liveprops::Properties;

use crate::proxy::Mode;
use crate::scenario::{
    Reader, SOON, Scenario, Store, health, is_stale, is_up, say, tell, wait_until,
};
use crate::server::Server;
use crate::support::child::{self, Child};
use crate::support::proc::{open_files, threads};

const SECOND: Duration = Duration::from_secs(1);
/// The longest pause between two tries, and what it takes to try.
pub(crate) const BACK: Duration = Duration::from_secs(6);
/// After this time of tries in vain the pauses do not grow any more.
const FULL: Duration = Duration::from_millis(6500);
/// How long it takes to give up a store that does not answer when it is read.
const TIMEOUT: Duration = Duration::from_millis(3500);
/// When a store that says nothing is stale at the latest.
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

/// Waits until the watch is set: a fault before that is another one.
fn is_followed<S: Store>(scenario: &Scenario<S>, props: &Properties) {
    for n in [-1, 0] {
        scenario.store.put("app/n0", n.to_string());
        wait_until(SOON, "it is followed", || {
            props.get::<i64>("n0").unwrap() == n
        });
    }
}

/// Whether every value is that of the start, but for `n0`.
pub(crate) fn others_stay(props: &Properties) -> bool {
    (1..20).all(|n| props.get::<i64>(&format!("n{n}")).is_ok_and(|now| now == n))
}

/// Runs a test for several lengths of a fault, all at the same time.
fn for_each(lengths: &[u64], run: impl Fn(u64) + Sync) {
    std::thread::scope(|scope| {
        for length in lengths {
            let run = &run;
            scope.spawn(move || run(*length));
        }
    });
}

/// The length of a long outage in seconds: less than it might be, so that the tests take less.
fn long() -> u64 {
    let seconds = std::env::var("LIVEPROPS_OUTAGE").map(|it| it.parse().unwrap());
    seconds.unwrap_or(12)
}

pub(crate) fn a_store_that_is_killed_is_followed_again_however_long_it_was_gone<S: Store>() {
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
    wait_until(SOON, "it is told", || is_stale(&props));
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
    tell::<S>(&format!("kill -9, {seconds} s down"), took);
    reader.is_well(&scenario, &props);
}

pub(crate) fn changes_during_an_outage_are_reported_once_and_nothing_else<S: Store>() {
    let Some(scenario) = scenario::<S>() else {
        return;
    };
    let props = scenario.follow();
    let reader = Reader::of(&props);
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
    scenario.proxy.set(Mode::Refuse);
    wait_until(SOON, "it is told", || is_stale(&props));
    scenario.proxy.set(Mode::Pass);
    wait_until(SOON, "it is told", || is_up(&props));
    assert!(told.try_recv().is_err(), "nothing had changed");

    scenario.proxy.set(Mode::Refuse);
    wait_until(SOON, "it is told", || is_stale(&props));
    for n in 0..3 {
        scenario.store.put(&format!("app/n{n}"), "77");
    }
    scenario.store.delete("app/n3");
    std::thread::sleep(3 * SECOND);
    scenario.proxy.set(Mode::Pass);
    let took = wait_until(BACK, "all of it", || props.get::<i64>("n2").unwrap() == 77);
    tell::<S>("cut for 3 s", took);
    let mut changes = told.recv_timeout(SOON).unwrap();
    changes.sort();
    assert_eq!(changes, ["n0", "n1", "n2", "n3"]);
    reader.is_well(&scenario, &props);
    assert!(told.try_recv().is_err());
}

pub(crate) fn fifty_changes_in_an_outage_arrive_as_one_value<S: Store>() {
    let Some(scenario) = scenario::<S>() else {
        return;
    };
    let props = scenario.follow();
    let n0 = props.property::<i64>("n0").build().unwrap();
    let (send, told) = channel();
    let _guard = n0.on_change(move |change| {
        let _ = send.send(*change.new_value());
    });
    scenario.proxy.set(Mode::Refuse);
    wait_until(SOON, "it is told", || is_stale(&props));
    for n in 1..=50 {
        scenario.store.put("app/n0", n.to_string());
    }
    scenario.proxy.set(Mode::Pass);
    assert_eq!(told.recv_timeout(SOON).unwrap(), 50);
    wait_until(SOON, "it is told", || is_up(&props));
    assert!(told.try_recv().is_err());
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
    let took = wait_until(BACK, "it is told", || health(&props).withheld.is_some());
    tell::<S>("wiped: withheld", took);
    assert!(
        others_stay(&props),
        "most keys are gone there, and stay here"
    );
    // It is filled again, with other revisions.
    for (key, value) in keys().iter().skip(1) {
        scenario.store.put(key, value);
    }
    wait_until(SOON, "nothing is withheld any more", || {
        health(&props).withheld.is_none()
    });
    scenario.store.put("app/n0", "2");
    wait_until(SOON, "it is followed", || {
        props.get::<i64>("n0").unwrap() == 2
    });
    assert!(others_stay(&props));
    reader.is_well(&scenario, &props);
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
    // It has the same keys, but for one, and has seen fewer changes.
    let mut other = self::scenario::<S>().unwrap();
    other.store.put("app/n0", "1");
    other.store.delete("app/n7");
    std::mem::swap(&mut scenario.server, &mut other.server);
    std::mem::swap(&mut scenario.store, &mut other.store);
    scenario.proxy.aim(scenario.server.port());
    let took = wait_until(2 * SECOND, "what it holds", || scenario.agrees(&props));
    tell::<S>("another store in its place", took);
    scenario.store.put("app/n0", "2");
    let took = wait_until(2 * SECOND, "a change", || {
        props.get::<i64>("n0").unwrap() == 2
    });
    assert!(took < 2 * SECOND);
    reader.is_well(&scenario, &props);
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
    let told = wait_until(limit, "it is told", || is_stale(&props));
    while frozen.elapsed() < SECOND * seconds as u32 {
        assert!(is_stale(&props) && others_stay(&props));
        std::thread::sleep(SECOND / 100);
    }
    scenario.server.thaw();
    scenario.store.put("app/n0", "1");
    let took = wait_until(SECOND * 3 / 2, "the change after it", || {
        props.get::<i64>("n0").unwrap() == 1
    });
    tell::<S>(&format!("frozen for {seconds} s: told"), told);
    tell::<S>(&format!("frozen for {seconds} s: over"), took);
    reader.is_well(&scenario, &props);
}

pub(crate) fn a_connection_that_swallows_everything_is_closed<S: Store>() {
    let Some(scenario) = scenario::<S>() else {
        return;
    };
    let props = scenario.follow();
    let reader = Reader::of(&props);
    is_followed(&scenario, &props);
    scenario.proxy.set(Mode::HalfOpen);
    scenario.store.put("app/n0", "1");
    scenario.store.delete("app/n19");
    let took = wait_until(DEADLINE + SECOND, "it is told", || is_stale(&props));
    tell::<S>("half-open: told", took);
    assert!(others_stay(&props));
    scenario.proxy.set(Mode::Pass);
    // What was sent before is never answered.
    let took = wait_until(TIMEOUT + SECOND, "the change", || {
        props.get::<i64>("n0").unwrap() == 1
    });
    tell::<S>("half-open: over", took);
    reader.is_well(&scenario, &props);
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
        let took = wait_until(DEADLINE + SECOND, "it is told", || is_stale(&props));
        tell::<S>(&format!("{mode:?}: told"), took);
        wait_until(BACK, "it is begun anew", || connections() > before);
        assert!(others_stay(&props));
        scenario.proxy.set(Mode::Pass);
        let took = wait_until(BACK, "the change", || props.get::<i64>("n0").unwrap() == n);
        tell::<S>(&format!("{mode:?}: over"), took);
        reader.is_well(&scenario, &props);
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
    // Its pauses are at their longest by then.
    std::thread::sleep(FULL);
    if !server.restart() {
        return;
    }
    let store = S::connect(&server);
    store.change(&[("app/n0", Some(b"0")), ("app/n1", Some(b"1"))]);
    let took = wait_until(BACK, "it is there", || {
        props.get_opt::<i64>("n1").unwrap() == Some(1)
    });
    tell::<S>("absent at the start", took);
    Reader::of(&props).is_well(&Scenario::<S>::of(server), &props);
}

pub(crate) fn the_end_does_not_wait_for_a_read_that_waits<S: Store>() {
    let Some(scenario) = scenario::<S>() else {
        return;
    };
    let mut all: Vec<Duration> = (0..7)
        .map(|_| {
            let props = scenario.follow();
            wait_until(SOON, "it waits for changes", || is_up(&props));
            // It has read, has paused, and waits.
            std::thread::sleep(Duration::from_millis(400));
            let begun = Instant::now();
            drop(props);
            begun.elapsed()
        })
        .collect();
    all.sort();
    tell::<S>("drop", all[3]);
    // A machine that is busy makes one or the other late.
    assert!(all[3] < SECOND / 10 && all[6] < SECOND / 2, "{all:?}");
    wait_until(SOON, "nothing is connected any more", || {
        scenario.proxy.open() == 0
    });
}

/// How many threads and files of this process are open.
fn open() -> [usize; 2] {
    [threads(), open_files()]
}

/// Runs a test in a process of its own, where nobody else has threads and files that come and go.
fn alone<S: Store>(test: &str, run: impl FnOnce()) {
    const DONE: &str = "done";
    if child::role().is_some() {
        run();
        return child::say(DONE);
    }
    let store = std::any::type_name::<S>().split("::").nth(1).unwrap();
    let mut child = Child::of(&format!("{store}::{test}")).start();
    let ended = child.ends_well();
    let said = || child.said.recv_timeout(SECOND).ok();
    let said: Vec<String> = std::iter::from_fn(said).collect();
    // One that was told of no test that it has ends well, too.
    let done = said.last().is_some_and(|last| last == DONE);
    said.into_iter().for_each(say);
    assert!(ended && done, "the child failed");
}

/// Waits until no more threads and files are open than there were.
#[track_caller]
fn nothing_leaks(before: [usize; 2], what: &str) {
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
    alone::<S>(test, || {
        let Some(scenario) = scenario::<S>() else {
            return;
        };
        // Whatever is made once for all.
        drop(scenario.follow());
        wait_until(SOON, "it has ended", || scenario.proxy.open() == 0);
        let before = open();
        // The more often one was cut off, the later it comes back; so there are some.
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
        tell::<S>("50 cuts", took);
        for (props, reader) in programs.iter().zip(&readers) {
            reader.is_well(&scenario, props);
        }
        let made = connections() - first;
        assert!(made >= 30, "only {made} connections were made");
        nothing_leaks(following, "after 50 cuts");
        wait_until(SOON, "the server forgets them", || {
            scenario.store.readers() <= programs.len()
        });
        drop((programs, readers));
        nothing_leaks(before, "after the end");
    });
}

const PROGRAMS: usize = 200;
/// The piece of time in which connections and requests are counted.
const WINDOW: Duration = Duration::from_millis(250);

/// How many fall into the busiest piece of a time, and into each at the mean.
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
    // One store at a time, or they would be in each other's way.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let test = "two_hundred_programs_come_back_without_a_rush";
    alone::<S>(test, two_hundred_programs::<S>);
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
        say(format!(
            "{:?}: {PROGRAMS} programs, {what}: {peak} in 250 ms at most, {mean:.0} at the mean",
            S::KIND
        ));
        // Few are always uneven.
        assert!(
            peak as f64 <= 5.0 * mean.max(8.0),
            "{what}: {peak} of {mean}"
        );
        (peak, mean)
    };
    scenario.server.kill();
    let killed = Instant::now();
    wait_until(3 * SECOND, "all are told", || programs.iter().all(is_stale));
    while killed.elapsed() < 3 * SECOND {
        std::thread::sleep(SECOND / 100);
    }
    let tries = scenario.proxy.connections();
    let (peak, mean) = spread("tries in an outage", tries, killed, Instant::now());
    // Fewer than five of each, and never all of them at once.
    let limit = 5.0 * PROGRAMS as f64 / 12.0;
    assert!(peak <= PROGRAMS && mean < limit, "{peak}, {mean}");
    scenario.restart();
    scenario.store.put("app/n0", "1");
    let ready = Instant::now();
    let took = wait_until(10 * SECOND, "all have it", || all_have(1));
    tell::<S>("200 programs, 3 s down", took);
    let back = Instant::now();
    let made = scenario.proxy.connections();
    spread("connections on the return", made, ready, back);
    std::thread::sleep(5 * SECOND);
    let after = Instant::now();
    let (peak, _) = spread("requests after it", scenario.proxy.requests(), back, after);
    assert!(peak <= PROGRAMS / 2, "{peak} requests at once");
    assert!(programs.iter().all(|props| scenario.agrees(props)));
    drop(programs);
    nothing_leaks(before, "after the end");
}
