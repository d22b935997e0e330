//! Many clients of one server, and many consecutive instances of one client.
//!
//! Each test loads the whole machine, so they run one after the other.
#![cfg(all(target_os = "linux", feature = "http", feature = "toml"))]
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use liveprops::sources::Http;
use liveprops::{DynamicProperty, Properties, Source};
use support::child::{self, Child};
use support::proc::{open_files, threads};
use support::web::{Web, serve_as_child};
use support::{DEADLINE, eventually, run_exclusively, wait_until};

const CLIENTS: usize = 200;
const POLL: Duration = Duration::from_secs(1);
/// The interval in which requests are counted.
const WINDOW: Duration = Duration::from_millis(250);
/// The largest ratio of the busiest interval to the mean.
const MOST: f64 = 3.0;
/// The machine is too slow for the test if a single request lasts longer.
const BUSY: Duration = Duration::from_millis(100);
/// The pause between two requests of a bystander.
const PAUSE: Duration = Duration::from_millis(20);

/// Not a test: the server process of all others.
#[test]
fn the_server_of_these_tests() {
    serve_as_child();
}

fn web() -> Web {
    Web::start("the_server_of_these_tests")
}

/// Returns the time on the clock of the log of the server.
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

/// Clients of one document that share nothing, and their server.
struct Fleet {
    web: Web,
    value: i64,
    clients: Vec<(Properties, DynamicProperty<i64>)>,
    bystander: Bystander,
}

impl Fleet {
    /// Starts all clients while the server is stopped, so that it answers all of them at the same
    /// time.
    fn start() -> Self {
        let web = web();
        web.set("app.toml", "ok", "qps = 0");
        web.signal("-STOP");
        let clients = (0..CLIENTS)
            .map(|_| {
                let http = Http::new(web.url("http", "app.toml")).without_proxy();
                let http = http.poll(POLL).timeout(DEADLINE).response_timeout(DEADLINE);
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
        wait_until(DEADLINE, "all have the first value", || fleet.agrees());
        fleet.bystander.waited();
        fleet
    }

    /// Returns whether all clients are up and have the newest value.
    fn agrees(&self) -> bool {
        let mut clients = self.clients.iter();
        clients.all(|(props, qps)| qps.get() == self.value && props.health().is_up())
    }

    fn arrivals_since(&self, moment: Duration) -> Vec<Duration> {
        let mut arrivals = self.web.arrivals("app.toml");
        arrivals.retain(|at| *at >= moment);
        arrivals
    }

    /// Asserts that the requests of some intervals are spread.
    fn spread_since(&self, moment: Duration, what: &str) -> Result<(), String> {
        let until = moment + 4 * POLL;
        wait_until(DEADLINE, "some intervals", || now() > until);
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
            // Waiting requests arrive in one burst, which the clients do not cause.
            false if waited > BUSY => Err(format!("a bystander waited for {waited:?}")),
            false => panic!("{what}: a peak of {peak} over a mean of {mean}"),
        }
    }

    /// Kills the server for a while when all clients wait for it and so fail at the same time.
    /// Asserts that all clients recover with a new value and spread requests.
    fn outage(&mut self, length: Duration) -> Result<(), String> {
        self.freeze();
        self.web.kill();
        self.value += 1;
        let text = format!("qps = {}", self.value);
        self.web.set("app.toml", "ok", text);
        let over = Instant::now() + length;
        wait_until(DEADLINE, "all notice", || {
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
        wait_until(DEADLINE, "all have the new value", || self.agrees());
        println!("after {length:?} all agree within {:?}", now() - back);
        self.spread_since(back, "after an outage")
    }

    /// Stops the server until all clients wait for it.
    fn freeze(&self) {
        self.web.signal("-STOP");
        // The server cannot detect that all clients have sent a request.
        thread::sleep(POLL * 3 / 2);
    }

    /// Stops the server for longer than an interval, so that all clients wait for it. Asserts that
    /// their requests are spread again after its answers.
    fn pause(&mut self) -> Result<(), String> {
        self.freeze();
        let back = now();
        self.web.signal("-CONT");
        let mut all = Vec::new();
        wait_until(DEADLINE, "all are answered", || {
            all = self.arrivals_since(back);
            all.len() >= CLIENTS
        });
        self.bystander.waited();
        self.spread_since(all[CLIENTS - 1], "after a pause")
    }
}

/// Returns the number of arrivals in the busiest interval.
fn peak(arrivals: &[Duration]) -> usize {
    let within = |from: Duration| {
        let window = from..from + WINDOW;
        arrivals.iter().filter(|at| window.contains(*at)).count()
    };
    arrivals.iter().copied().map(within).max().unwrap_or(0)
}

/// A client that sends requests continuously. Its latency shows the load of the machine.
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
        let http = http.timeout(DEADLINE).response_timeout(DEADLINE);
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

    /// Returns the longest latency since the last call.
    fn waited(&self) -> Duration {
        Duration::from_millis(self.longest.swap(0, Ordering::Relaxed))
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
    }
}

/// Repeats a test if the machine, not the fleet, caused a burst.
#[track_caller]
fn wants(mut attempt: impl FnMut() -> Result<(), String>) {
    for _ in 0..5 {
        match attempt() {
            Ok(()) => return,
            Err(why) => println!("once more: {why}"),
        }
    }
    panic!("the machine is too busy for this test");
}

#[test]
fn a_fleet_that_starts_at_the_same_time_spreads_its_polls() {
    let _exclusive = run_exclusively();
    wants(|| Fleet::start().spread_since(now(), "after the start"));
}

#[test]
fn a_fleet_recovers_with_spread_requests_and_the_new_value_after_an_outage() {
    let _exclusive = run_exclusively();
    let mut fleet = Fleet::start();
    wants(|| fleet.outage(Duration::from_secs(4)));
}

#[test]
#[ignore = "needs a minute"]
fn a_fleet_recovers_with_spread_requests_and_the_new_value_after_a_long_outage() {
    let _exclusive = run_exclusively();
    let mut fleet = Fleet::start();
    wants(|| fleet.outage(Duration::from_secs(30)));
}

#[test]
fn a_fleet_synchronized_by_a_pause_of_the_server_spreads_again() {
    let _exclusive = run_exclusively();
    let mut fleet = Fleet::start();
    wants(|| fleet.pause());
}

#[test]
fn two_hundred_instances_with_an_address_and_a_cache_leave_no_thread_and_no_file_open() {
    let test = "two_hundred_instances_with_an_address_and_a_cache_leave_no_thread_and_no_file_open";
    // In another process, where no other test opens threads and files.
    if let Some(url) = child::role() {
        return two_hundred_lives(&url);
    }
    let _exclusive = run_exclusively();
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
        let mut builder = Properties::builder().state_dir(state.path()).source(
            http(url)
                .timeout(DEADLINE / 2)
                .with(|policy| policy.cached()),
        );
        if i % 50 == 1 {
            // Dropped during a request.
            let hangs = http(&url.replace("app", "hang"));
            let hangs = hangs.with(|policy| policy.cached().optional_after(Duration::ZERO));
            builder = builder.source(hangs);
        }
        let props = builder.build().unwrap();
        let qps = props.property::<i64>("qps").build().unwrap();
        let subscription = qps.on_change(|_| {});
        assert_eq!(qps.get(), 7);
        if i % 4 == 0 {
            props.refresh_now().unwrap();
        }
        match i % 3 {
            0 => drop((props, subscription, qps)),
            1 => drop((subscription, qps, props)),
            // A handle may live longer.
            _ => {
                drop((props, subscription));
                assert_eq!(qps.get(), 7);
            }
        }
    };
    let open_after_drop = |before: (usize, usize)| {
        eventually(DEADLINE, || open() == before);
        open()
    };
    // Creates everything that exists once per process.
    let before = open();
    life(1);
    let before = open_after_drop(before);
    let begun = Instant::now();
    for i in 0..200 {
        life(i);
    }
    let took = begun.elapsed();
    assert_eq!(open_after_drop(before), before, "(threads, files)");
    let kept = fs::read_dir(state.path()).unwrap().count();
    assert!((1..=3).contains(&kept), "{kept} files are kept");
    child::report(format!("{before:?} threads and files after {took:?}"));
}
