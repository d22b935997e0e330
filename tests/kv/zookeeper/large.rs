//! Trees whose read takes long.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use liveprops::sources::ZooKeeper;
use liveprops::{Properties, Source};

use crate::SECOND;
use crate::scenario::{SOON, Scenario, Store, health, is_up, report_time, wait_until};
use crate::zookeeper::Client;
use crate::zookeeper_standin::{CHILDREN, DATA, StandIn, data, names};

const COUNT: usize = 260;
const EACH: Duration = Duration::from_millis(20);

/// A server with a delay per node. All nodes together need longer than the time limit of a stalled
/// load.
fn slow() -> StandIn {
    StandIn::start(|peer| {
        loop {
            let question = peer.question()?;
            let is_root = question.path == "/app";
            let body = match question.kind {
                CHILDREN => names((0..COUNT).map(|n| format!("n{n}"))),
                DATA if is_root => data(b"", COUNT as i32),
                DATA => {
                    std::thread::sleep(EACH);
                    data(b"1", 0)
                }
                _ => Vec::new(),
            };
            peer.answer(&question, &body)?;
        }
    })
}

#[test]
fn a_tree_is_read_as_long_as_answers_come() {
    let server = slow();
    let source = || ZooKeeper::prefix("app").address(server.address());
    assert!(source().timing().worst_case_latency(source().watching()) < Some(10 * SECOND));
    let begun = Instant::now();
    assert_eq!(source().load().unwrap().iter().count(), COUNT);
    assert!(begun.elapsed() >= EACH * COUNT as u32);
    // Neither a start with retries nor the watch begins the read again.
    let before = server.sessions.load(Ordering::SeqCst);
    let patient = source().with(|policy| policy.required_within(60 * SECOND));
    let props = Properties::builder().source(patient).build().unwrap();
    assert_eq!(props.snapshot().keys().len(), COUNT);
    wait_until(SOON, "it follows", || {
        is_up(&props) && health(&props).location.is_some()
    });
    let sessions = server.sessions.load(Ordering::SeqCst) - before;
    assert_eq!(sessions, 2, "one for the load, one for the watch");
}

#[test]
fn a_hundred_thousand_nodes_are_loaded_and_followed() {
    let Some(scenario) = Scenario::<Client>::with(&[]) else {
        return;
    };
    let value = "x".repeat(30);
    let keys: Vec<String> = (0..100_000)
        .map(|n| format!("app/section{}/key{n}", n % 100))
        .collect();
    for some in keys.chunks(1000) {
        let all: Vec<(&str, Option<&[u8]>)> = some
            .iter()
            .map(|key| (key.as_str(), Some(value.as_bytes())))
            .collect();
        scenario.store.create(&all);
    }
    let begun = Instant::now();
    let props = scenario
        .builder()
        .load_timeout(60 * SECOND)
        .build()
        .unwrap();
    report_time::<Client>("100,000 nodes loaded", begun.elapsed());
    assert_eq!(props.snapshot().keys().len(), 100_000);
    scenario.store.put("app/section0/key0", "7");
    let took = wait_until(SOON, "a change", || {
        props.get_opt::<String>("section0.key0").unwrap().as_deref() == Some("7")
    });
    report_time::<Client>("a change among 100,000 nodes, with the second load", took);
    wait_until(SOON, "the source is up", || is_up(&props));
}
