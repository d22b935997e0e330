//! Many clients that poll one server, and many consecutive instances of one client.
//!
//! The machine is shared by all of this, so the tests of this file take turns.
#![cfg(all(target_os = "linux", feature = "http", feature = "toml"))]
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use liveprops::sources::Http;
use liveprops::{DynamicProperty, Properties, Source};
use support::child::{self, Child};
use support::proc::{open_files, threads};
use support::web::{Web, serve_if_asked};
use support::{eventually, wait_until};

const CLIENTS: usize = 200;
const POLL: Duration = Duration::from_secs(1);
/// How long anything that must happen may take.
const SOON: Duration = Duration::from_secs(10);
/// The piece of time that requests are counted in.
const WINDOW: Duration = Duration::from_millis(250);
/// How far the busiest piece may be above the mean.
const MOST: f64 = 3.0;
/// A machine where a single request takes that long tells nothing.
const BUSY: Duration = Duration::from_millis(100);
/// Between two requests of a bystander.
const PAUSE: Duration = Duration::from_millis(20);

static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// No test: the process that all others talk to.
#[test]
fn the_server_of_these_tests() {
    serve_if_asked();
}

fn web() -> Web {
    Web::start("the_server_of_these_tests")
}

/// The clock that the server notes arrivals by.
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

/// Clients of one document, each with everything of its own, and their server.
struct Fleet {
    web: Web,
    value: i64,
    clients: Vec<(Properties, DynamicProperty<i64>)>,
    bystander: Bystander,
}

impl Fleet {
    /// Starts all of them while the server stands still, so that it answers all at one moment.
    fn start() -> Self {
        let web = web();
        web.set("app.toml", "ok", "qps = 0");
        web.signal("-STOP");
        let clients = (0..CLIENTS)
            .map(|_| {
                let http = Http::new(web.url("http", "app.toml")).without_proxy();
                let http = http.poll(POLL).timeout(SOON).response_timeout(SOON);
                let props = Properties::builder()
                    .max_propagation(Duration::MAX)
                    .source(http.with(|policy| policy.optional_after(Duration::ZERO)))
                    .build()
                    .unwrap();
                let qps = props.property("qps").default(-1).build().unwrap();
                (props, qps)
            })
            .collect();
        let fleet = Self {
            bystander: Bystander::of(&web),
            web,
            value: 0,
            clients,
        };
        fleet.web.signal("-CONT");
        wait_until(SOON, "all have the first value", || fleet.agrees());
        fleet.bystander.waited();
        fleet
    }

    /// Whether all clients see the newest value and are well.
    fn agrees(&self) -> bool {
        let mut clients = self.clients.iter();
        clients.all(|(props, qps)| qps.get() == self.value && props.health().is_up())
    }

    fn arrivals_since(&self, moment: Duration) -> Vec<Duration> {
        let mut arrivals = self.web.arrivals("app.toml");
        arrivals.retain(|at| *at >= moment);
        arrivals
    }

    /// Wants the requests of some intervals from a moment on to be spread.
    fn spread_since(&self, moment: Duration, what: &str) -> Result<(), String> {
        let until = moment + 4 * POLL;
        wait_until(SOON, "some intervals", || now() > until);
        let waited = self.bystander.waited();
        let mut arrivals = self.arrivals_since(moment);
        arrivals.retain(|at| *at <= until);
        let mean = arrivals.len() as f64 / (4 * POLL).div_duration_f64(WINDOW);
        let peak = peak(&arrivals);
        println!(
            "{what}: {peak} at most and {mean:.0} at the mean in {WINDOW:?}, {:.2} times; \
             a bystander waited for {waited:?} at most",
            peak as f64 / mean
        );
        let polls = CLIENTS as f64 / POLL.div_duration_f64(WINDOW);
        assert!(mean > polls / 3.0, "{what}: all ask: {mean} of {polls}");
        match peak as f64 <= MOST * mean {
            true => Ok(()),
            // What waits comes in one burst, and says nothing of the clients.
            false if waited > BUSY => Err(format!("a bystander waited for {waited:?}")),
            false => panic!("{what}: a peak of {peak} over a mean of {mean}"),
        }
    }

    /// Kills the server for a while, at a moment when all wait for it and so fail together, and wants
    /// all clients back, spread, with a new value.
    fn outage(&mut self, length: Duration) -> Result<(), String> {
        self.freeze();
        self.web.kill();
        self.value += 1;
        let text = format!("qps = {}", self.value);
        self.web.set("app.toml", "ok", text);
        let over = Instant::now() + length;
        wait_until(SOON, "all notice", || {
            let mut clients = self.clients.iter();
            clients.all(|(props, _)| !props.health().is_up())
        });
        let old = self.value - 1;
        while Instant::now() < over {
            assert!(self.clients.iter().all(|(_, qps)| qps.get() == old));
            thread::sleep(Duration::from_millis(20));
        }
        self.web.restart();
        let back = now();
        self.bystander.waited();
        wait_until(SOON, "all have the new value", || self.agrees());
        println!("after {length:?} all agree within {:?}", now() - back);
        self.spread_since(back, "after an outage")
    }

    /// Has the server stand still until all clients wait for it.
    fn freeze(&self) {
        self.web.signal("-STOP");
        // Nothing tells from outside that all have asked.
        thread::sleep(POLL * 3 / 2);
    }

    /// Has the server stand still for longer than an interval, so that all wait for it, and wants
    /// them spread again once all are answered.
    fn pause(&mut self) -> Result<(), String> {
        self.freeze();
        let back = now();
        self.web.signal("-CONT");
        let mut all = Vec::new();
        wait_until(SOON, "all are answered", || {
            all = self.arrivals_since(back);
            all.len() >= CLIENTS
        });
        self.bystander.waited();
        self.spread_since(all[CLIENTS - 1], "after a pause")
    }
}

/// How many arrive within the busiest window.
fn peak(arrivals: &[Duration]) -> usize {
    let within = |from: Duration| {
        let window = from..from + WINDOW;
        arrivals.iter().filter(|at| window.contains(*at)).count()
    };
    arrivals.iter().copied().map(within).max().unwrap_or(0)
}

/// A bystander that asks the server all the time: how long it waits says how busy the machine is.
struct Bystander {
    longest: Arc<AtomicU64>,
    end: Arc<AtomicBool>,
}

impl Bystander {
    fn of(web: &Web) -> Self {
        let all = Self {
            longest: Arc::default(),
            end: Arc::default(),
        };
        web.set("bystander.toml", "ok", "");
        let http = Http::new(web.url("http", "bystander.toml")).without_proxy();
        let http = http.timeout(SOON).response_timeout(SOON);
        let (longest, end) = (Arc::clone(&all.longest), Arc::clone(&all.end));
        thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                let begun = Instant::now();
                thread::sleep(PAUSE);
                let _ = http.load();
                let took = begun.elapsed().saturating_sub(PAUSE);
                longest.fetch_max(took.as_millis() as u64, Ordering::Relaxed);
            }
        });
        all
    }

    /// The longest time it waited since it was asked last.
    fn waited(&self) -> Duration {
        Duration::from_millis(self.longest.swap(0, Ordering::Relaxed))
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
    }
}

/// Tries again where the machine, and not the fleet, made a burst.
#[track_caller]
fn wants(mut attempt: impl FnMut() -> Result<(), String>) {
    for _ in 0..5 {
        match attempt() {
            Ok(()) => return,
            Err(why) => println!("once more: {why}"),
        }
    }
    panic!("the machine is too busy to tell");
}

#[test]
fn a_fleet_that_starts_at_one_moment_polls_spread_over_its_interval() {
    let _turn = turn();
    wants(|| Fleet::start().spread_since(now(), "after the start"));
}

#[test]
fn a_fleet_comes_back_spread_and_agrees_on_the_new_value_after_an_outage() {
    let _turn = turn();
    let mut fleet = Fleet::start();
    wants(|| fleet.outage(Duration::from_secs(4)));
}

#[test]
#[ignore = "takes a minute"]
fn a_fleet_comes_back_spread_and_agrees_on_the_new_value_after_a_long_outage() {
    let _turn = turn();
    let mut fleet = Fleet::start();
    wants(|| fleet.outage(Duration::from_secs(30)));
}

#[test]
fn a_fleet_that_a_pause_of_the_server_brought_into_step_leaves_it() {
    let _turn = turn();
    let mut fleet = Fleet::start();
    wants(|| fleet.pause());
}

#[test]
fn two_hundred_instances_with_an_address_and_a_cache_leave_no_thread_and_no_file_open() {
    let test = "two_hundred_instances_with_an_address_and_a_cache_leave_no_thread_and_no_file_open";
    // In a process of its own, where nobody else comes and goes.
    if let Some(url) = child::role() {
        return two_hundred_lives(&url);
    }
    let _turn = turn();
    let web = web();
    web.set("app.toml", "ok", "qps = 7");
    web.set("hang.toml", "hang", "");
    let url = web.url("http", "app.toml");
    Child::of(test).role(url).succeeds();
}

fn two_hundred_lives(url: &str) {
    let open = || (threads(), open_files());
    let state = tempfile::tempdir().unwrap();
    let life = |i: u32| {
        let http = |url: &str| {
            let http = Http::new(url).without_proxy();
            http.poll(Duration::from_millis(10))
                .timeout(Duration::from_millis(500))
        };
        let mut builder = Properties::builder()
            .state_dir(state.path())
            .source(http(url).timeout(SOON / 2).with(|policy| policy.cached()));
        if i % 50 == 1 {
            // Dropped while it is being asked.
            let hangs = http(&url.replace("app", "hang"));
            let hangs = hangs.with(|policy| policy.cached().optional_after(Duration::ZERO));
            builder = builder.source(hangs);
        }
        let props = builder.build().unwrap();
        let qps = props.property::<i64>("qps").build().unwrap();
        let told = qps.on_change(|_| {});
        assert_eq!(qps.get(), 7);
        if i % 4 == 0 {
            props.refresh_now().unwrap();
        }
        match i % 3 {
            0 => drop((props, told, qps)),
            1 => drop((told, qps, props)),
            // A handle may live longer.
            _ => {
                drop((props, told));
                assert_eq!(qps.get(), 7);
            }
        }
    };
    let settled = |before: (usize, usize)| {
        eventually(SOON, || open() == before);
        open()
    };
    // Whatever is made once for all.
    let before = open();
    life(1);
    let before = settled(before);
    let begun = Instant::now();
    for i in 0..200 {
        life(i);
    }
    let took = begun.elapsed();
    assert_eq!(settled(before), before, "(threads, files)");
    let kept = fs::read_dir(state.path()).unwrap().count();
    assert!((1..=3).contains(&kept), "{kept} files are kept");
    child::say(format!("{before:?} threads and files after {took:?}"));
}
