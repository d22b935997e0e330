//! Access control lists of ZooKeeper. The server sends no events for nodes that a session may not
//! read, and none for changes of an ACL.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use liveprops::Properties;
use liveprops::sources::ZooKeeper;

use crate::SECOND;
use crate::scenario::{SOON, Scenario, Store, health, is_up, report_time, wait_until};
use crate::support::Random;
use crate::zookeeper::{Acl, Client};

fn scenario() -> Option<Scenario<Client>> {
    let scenario = Scenario::<Client>::with(&[])?;
    let keys: Vec<String> = (0..20).map(|n| format!("app/stays{n}")).collect();
    let all: Vec<(&str, Option<&[u8]>)> =
        keys.iter().map(|k| (k.as_str(), Some(&b"1"[..]))).collect();
    scenario.store.change(&all);
    Some(scenario)
}

/// Creates a program that repeats a full read every second after changes.
fn follow(scenario: &Scenario<Client>) -> Properties {
    let source = ZooKeeper::prefix("app")
        .address(format!("127.0.0.1:{}", scenario.proxy.port()))
        .rescan_interval(SECOND);
    Properties::builder().source(source).build().unwrap()
}

fn get(props: &Properties, key: &str) -> Option<String> {
    props.get_opt::<String>(key).ok().flatten()
}

#[test]
fn nodes_that_an_acl_hid_are_found_by_the_next_full_read() {
    let Some(scenario) = scenario() else { return };
    let store = &scenario.store;
    for key in ["n", "deleted", "dir/known"] {
        store.put(&format!("app/{key}"), "1");
    }
    let props = follow(&scenario);
    // The server sends no event for these changes.
    for path in ["n", "deleted", "dir/known", "dir"] {
        store.set_acl(&format!("/app/{path}"), Acl::Own);
    }
    store.put("app/n", "2");
    store.set(&[("app/created", Some(b"1"))], Acl::Own);
    store.set(&[("app/dir/created", Some(b"1"))], Acl::Own);
    store.delete("app/deleted");
    store.delete("app/dir/known");
    let took = wait_until(SOON, "what was deleted is gone", || {
        get(&props, "deleted").is_none() && get(&props, "dir.known").is_none()
    });
    report_time::<Client>("deleted while it could not be read", took);
    wait_until(SOON, "what may not be read is a problem", || !is_up(&props));
    assert_eq!(
        get(&props, "n").as_deref(),
        Some("1"),
        "the last that was read"
    );
    for path in ["n", "created", "dir/created", "dir"] {
        store.set_acl(&format!("/app/{path}"), Acl::Open);
    }
    let took = wait_until(SOON, "what the store has", || scenario.agrees(&props));
    report_time::<Client>("all restrictions lifted", took);
    wait_until(SOON, "nothing is wrong", || is_up(&props));
    // Hidden and readable again before the next read.
    store.set_acl("/app/n", Acl::Own);
    store.put("app/n", "3");
    store.set_acl("/app/n", Acl::Open);
    store.set(&[("app/again", Some(b"1"))], Acl::Own);
    store.set_acl("/app/again", Acl::Open);
    wait_until(SOON, "what the store has", || scenario.agrees(&props));
}

#[test]
fn a_node_that_is_readable_again_is_found_while_others_change_without_a_pause() {
    let Some(scenario) = scenario() else { return };
    let props = scenario.follow();
    scenario.store.set(&[("app/private", Some(b"1"))], Acl::Own);
    // Without an event, only another session finds the change.
    scenario.proxy.cut();
    wait_until(SOON, "it is found", || !health(&props).problems.is_empty());
    scenario.store.set_acl("/app/private", Acl::Open);
    let mut n = 0;
    wait_until(SOON, "it is read", || {
        n += 1;
        scenario.store.put("app/stays0", n.to_string());
        std::thread::sleep(Duration::from_millis(20));
        get(&props, "private").is_some()
    });
}

#[test]
fn a_root_that_becomes_unreadable_is_reported_and_its_values_stay() {
    let Some(scenario) = scenario() else { return };
    let props = follow(&scenario);
    assert!(is_up(&props));
    scenario.store.set_acl("/app", Acl::Own);
    wait_until(SOON, "it is reported", || !is_up(&props));
    scenario.store.put("app/n", "1");
    scenario.store.delete("app/stays0");
    assert_eq!(get(&props, "stays1").as_deref(), Some("1"));
    scenario.store.set_acl("/app", Acl::Open);
    wait_until(SOON, "what the store has", || scenario.agrees(&props));
    wait_until(SOON, "nothing is wrong", || is_up(&props));
}

#[test]
fn ephemeral_nodes_of_an_ended_session_are_removed_whatever_their_acl() {
    let Some(scenario) = scenario() else { return };
    let props = follow(&scenario);
    let other = Client::connect(&scenario.server);
    other.create_ephemeral("/app/seen", b"1", Acl::Open);
    other.create_ephemeral("/app/hidden", b"1", Acl::Open);
    wait_until(SOON, "both are there", || {
        get(&props, "seen").is_some() && get(&props, "hidden").is_some()
    });
    scenario.store.set_acl("/app/hidden", Acl::Own);
    other.close();
    wait_until(SOON, "both are gone", || {
        get(&props, "seen").is_none() && get(&props, "hidden").is_none()
    });
    wait_until(SOON, "nothing is wrong", || is_up(&props));
    assert!(scenario.agrees(&props));
}

/// A simple model of the store: folders and leaves, each restricted or not.
#[derive(Default)]
struct Model {
    /// `None` for a folder.
    nodes: BTreeMap<String, Option<String>>,
    restricted: BTreeSet<String>,
}

impl Model {
    fn has_children(&self, path: &str) -> bool {
        let below = format!("{path}/");
        self.nodes.keys().any(|other| other.starts_with(&below))
    }

    /// Returns whether a folder above the node is restricted.
    fn is_below_restricted(&self, path: &str) -> bool {
        let ends = path.match_indices('/').map(|(at, _)| at);
        ends.into_iter()
            .any(|end| self.restricted.contains(&path[..end]))
    }

    /// Returns the differences between a program and the model, except restricted nodes.
    fn fault(&self, props: &Properties) -> Option<String> {
        let leaves = self.nodes.iter().filter_map(|(path, value)| {
            let value = value.as_ref()?;
            Some((path.replace('/', "."), path, value))
        });
        let mut wanted: BTreeSet<String> = (0..20).map(|n| format!("stays{n}")).collect();
        for (key, path, value) in leaves {
            wanted.insert(key.clone());
            let found = get(props, &key);
            let is_restricted = self.restricted.contains(path);
            let fine = match &found {
                Some(found) => is_restricted || found == value,
                None => is_restricted || self.is_below_restricted(path),
            };
            if !fine {
                return Some(format!("{key} is {found:?}, and {value} is there"));
            }
        }
        let keys = props.snapshot().keys();
        let extra = keys.iter().find(|key| !wanted.contains(&key.to_string()));
        extra.map(|key| format!("{key} is gone from the store"))
    }

    fn change(&mut self, random: &mut Random, store: &Client, step: usize) {
        let folders = ["", "d0/", "d1/", "d0/d2/"];
        let folder = folders[random.index(folders.len())];
        let leaf = format!("{folder}n{}", random.index(3));
        let any: Vec<String> = self.nodes.keys().cloned().collect();
        match (random.index(8), any.is_empty()) {
            (0..=2, _) | (_, true) => {
                let own = match random.index(3) {
                    0 if !self.nodes.contains_key(&leaf) => Acl::Own,
                    _ => Acl::Open,
                };
                for (end, _) in leaf.match_indices('/') {
                    self.nodes.entry(leaf[..end].to_owned()).or_default();
                }
                store.set(
                    &[(&format!("app/{leaf}"), Some(step.to_string().as_bytes()))],
                    own,
                );
                if matches!(own, Acl::Own) {
                    self.restricted.insert(leaf.clone());
                }
                self.nodes.insert(leaf, Some(step.to_string()));
            }
            (3, _) => {
                let path = &any[random.index(any.len())];
                if !self.has_children(path) {
                    store.delete(&format!("app/{path}"));
                    store.forget();
                    self.nodes.remove(path);
                    self.restricted.remove(path);
                }
            }
            (4 | 5, _) => {
                let path = &any[random.index(any.len())];
                store.set_acl(&format!("/app/{path}"), Acl::Own);
                self.restricted.insert(path.clone());
            }
            _ => {
                let path = &any[random.index(any.len())];
                store.set_acl(&format!("/app/{path}"), Acl::Open);
                self.restricted.remove(path);
            }
        }
    }
}

#[test]
fn after_random_changes_of_nodes_and_acls_the_tree_equals_the_store() {
    let Some(scenario) = scenario() else { return };
    let props = follow(&scenario);
    let mut random = Random::new("acl");
    let mut model = Model::default();
    for round in 0..5 {
        for step in 0..80 {
            model.change(&mut random, &scenario.store, 100 * round + step);
            if random.index(30) == 0 {
                scenario.proxy.cut();
            }
            if random.index(4) == 0 {
                std::thread::sleep(Duration::from_millis(random.below(40)));
            }
        }
        let mut fault = None;
        let begun = std::time::Instant::now();
        while begun.elapsed() < SOON {
            fault = model.fault(&props);
            if fault.is_none() {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(fault.is_none(), "round {round}: {fault:?}");
    }
    for path in std::mem::take(&mut model.restricted) {
        scenario.store.set_acl(&format!("/app/{path}"), Acl::Open);
    }
    let took = wait_until(SOON, "what the store has", || scenario.agrees(&props));
    report_time::<Client>("a random tree with ACLs: equal", took);
    wait_until(SOON, "nothing is wrong", || is_up(&props));
}
