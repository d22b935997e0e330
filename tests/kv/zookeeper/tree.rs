//! The tree of ZooKeeper: requirements of the tree caches of Curator and Kazoo.

use std::collections::BTreeMap;
use std::sync::mpsc::channel;
use std::time::Duration;

use liveprops::Properties;

use crate::scenario::{SOON, Scenario, Store, is_up, report_time, wait_until};
use crate::support::Random;
use crate::zookeeper::Client;

fn values_of(props: &Properties) -> BTreeMap<String, String> {
    let snapshot = props.snapshot();
    let value = |key: &str| snapshot.get::<String>(key).unwrap();
    let keys = snapshot.keys();
    keys.iter()
        .map(|key| (key.to_string(), value(&key.to_string())))
        .collect()
}

#[test]
fn after_random_changes_amid_cuts_the_tree_equals_the_store() {
    let Some(scenario) = Scenario::<Client>::with(&[]) else {
        return;
    };
    for n in 0..20 {
        scenario.store.put(&format!("app/stays{n}"), "1");
    }
    let props = scenario.follow();
    let mut random = Random::new("tree");
    // A node may have data and children, which clash.
    let mut tree: BTreeMap<String, String> = BTreeMap::new();
    for step in 0..400 {
        let depth = 1 + random.index(3);
        let names: Vec<String> = (0..depth)
            .map(|_| ["a", "b", "c"][random.index(3)].to_owned())
            .collect();
        let path = names.join("/");
        let below = format!("{path}/");
        match random.index(3) {
            // Deletes a node with everything below it, deepest nodes first.
            0 => {
                let gone: Vec<String> = tree
                    .keys()
                    .filter(|key| **key == path || key.starts_with(&below))
                    .rev()
                    .cloned()
                    .collect();
                for key in &gone {
                    scenario.store.delete(&format!("app/{key}"));
                    tree.remove(key);
                }
                // The writer caches the folders that it has created.
                if !gone.is_empty() {
                    scenario.store.forget();
                }
            }
            _ => {
                let value = step.to_string();
                for end in 1..depth {
                    let folder = names[..end].join("/");
                    tree.entry(folder).or_default();
                }
                scenario.store.put(&format!("app/{path}"), &value);
                tree.insert(path, value);
            }
        }
        if random.index(20) == 0 {
            scenario.proxy.cut();
        }
        std::thread::sleep(Duration::from_millis(random.below(8)));
    }
    let is_above = |key: &str| {
        let below = format!("{key}/");
        let mut others = tree.iter();
        others.any(|(other, value)| other.starts_with(&below) && !value.is_empty())
    };
    let mut wanted: BTreeMap<String, String> = tree
        .iter()
        .filter(|(key, value)| !value.is_empty() && !is_above(key))
        .map(|(key, value)| (key.replace('/', "."), value.clone()))
        .collect();
    wanted.extend((0..20).map(|n| (format!("stays{n}"), "1".to_owned())));
    let took = wait_until(SOON, "what the store has", || values_of(&props) == wanted);
    report_time::<Client>("a random tree: equal", took);
    // A value hidden by deeper keys is a rejected part.
    let hides = tree
        .iter()
        .any(|(key, value)| !value.is_empty() && is_above(key));
    wait_until(SOON, "health follows", || is_up(&props) != hides);
}

#[test]
fn nothing_is_reported_after_the_end() {
    let Some(scenario) = Scenario::<Client>::with(&[("app/n0", "0"), ("app/n1", "0")]) else {
        return;
    };
    let props = scenario.follow();
    let (send, changes) = channel();
    let guard = props.on_change_under("", move |batch| {
        let _ = send.send(batch.changes().len());
    });
    scenario.store.put("app/n0", "1");
    assert_eq!(changes.recv_timeout(SOON), Ok(1));
    drop(props);
    wait_until(SOON, "the session ends", || scenario.proxy.open() == 0);
    scenario.store.put("app/n0", "2");
    scenario.store.put("app/n1", "2");
    std::thread::sleep(Duration::from_millis(300));
    assert!(changes.try_recv().is_err());
    drop(guard);
}
