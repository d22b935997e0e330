//! A store that is restored from a backup: its revisions decrease.

use std::io::Read;
use std::sync::mpsc::channel;
use std::time::Duration;

use crate::consul::Client;
use crate::scenario::{SOON, Scenario, Store, health, is_up, report_time, wait_until};

/// Returns a snapshot of the agent.
fn snapshot(at: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let answer = ureq::get(format!("{at}/v1/snapshot")).call().unwrap();
    let mut body = answer.into_body().into_reader();
    body.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_restored_older_snapshot_is_followed() {
    let keys: Vec<(String, String)> = (0..20)
        .map(|n| (format!("app/n{n}"), n.to_string()))
        .collect();
    let keys: Vec<(&str, &str)> = keys.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let Some(scenario) = Scenario::<Client>::with(&keys) else {
        return;
    };
    let at = format!("http://127.0.0.1:{}", scenario.server.port());
    let older = snapshot(&at);
    for n in 100..200 {
        scenario.store.put("app/n0", n.to_string());
    }
    scenario.store.put("app/new", "1");
    scenario.store.delete("app/n19");
    let props = scenario.follow();
    let n0 = props.property::<i64>("n0").build().unwrap();
    let (send, changes) = channel();
    let _guard = props.on_change_under("", move |batch| {
        let keys = batch
            .changes()
            .iter()
            .map(|change| change.key().to_string());
        let _ = send.send(keys.collect::<Vec<String>>());
    });
    assert_eq!(n0.get(), 199);
    wait_until(SOON, "the source is up", || is_up(&props));
    let index = || -> u64 { health(&props).revision.unwrap().parse().unwrap() };
    let before = index();
    // The watch is active.
    std::thread::sleep(Duration::from_millis(500));
    let done = ureq::put(format!("{at}/v1/snapshot")).send(&older[..]);
    assert_eq!(done.unwrap().status(), 200);
    let took = wait_until(SOON, "what was", || n0.get() == 0);
    report_time::<Client>("an older snapshot restored", took);
    // A restore does not wake a blocking read; it ends at its time limit.
    assert!(took < Duration::from_secs(5), "{took:?}");
    let mut changed = changes.recv_timeout(SOON).unwrap();
    changed.sort();
    assert_eq!(changed, ["n0", "n19", "new"]);
    assert!(index() < before, "it went backwards");
    // The program follows the restored store.
    for n in 1..20 {
        scenario.store.put("app/n0", n.to_string());
        let took = wait_until(SOON, "a change", || n0.get() == n);
        assert!(took < Duration::from_secs(1), "{took:?}");
    }
    assert!(is_up(&props) && health(&props).withheld.is_none());
}
