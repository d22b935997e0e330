//! Trees that take long to read.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use liveprops::sources::ZooKeeper;
use liveprops::{Properties, Source};

use crate::scenario::{SOON, Scenario, Store, health, is_up, tell, wait_until};
use crate::zookeeper::Client;
use crate::zookeeper_standin::{CHILDREN, DATA, StandIn, data, names};

const SECOND: Duration = Duration::from_secs(1);
const COUNT: usize = 260;
const EACH: Duration = Duration::from_millis(20);

/// A server that takes some time for each node, and all of them longer than one load may take that
/// gets nowhere.
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
    // A start that goes on asking does not begin anew either, and no more does what follows it.
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
    tell::<Client>("100,000 nodes loaded", begun.elapsed());
    assert_eq!(props.snapshot().keys().len(), 100_000);
    scenario.store.put("app/section0/key0", "7");
    let took = wait_until(SOON, "a change", || {
        props.get_opt::<String>("section0.key0").unwrap().as_deref() == Some("7")
    });
    tell::<Client>("a change among 100,000 nodes, with the second load", took);
    wait_until(SOON, "it is up", || is_up(&props));
}
