//! The keys and values of a store become properties.

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use liveprops::health::Status;
use liveprops::source::Scope;
use liveprops::sources::Memory;
use liveprops::{ErrorKind, Properties, Source, Value};

use crate::scenario::{SOON, Scenario, Store, health, is_up, report_time, wait_until};

pub(crate) fn values_and_changes_are_seen_and_a_deleted_key_falls_through<S: Store>() {
    let Some(scenario) = Scenario::<S>::with(&[("app/rate/qps", "100"), ("app/name", "shop")])
    else {
        return;
    };
    // Two keys are a large part of a small store, so the removal guard is disabled.
    (0..8).for_each(|n| scenario.store.put(&format!("app/stays{n}"), "1"));
    let below = Memory::from([("rate.qps", 1)]);
    let props = Properties::builder()
        .source(below)
        .source(S::prefix(scenario.proxy.port(), "app"))
        .build()
        .unwrap();
    let qps = props.property::<u32>("rate.qps").build().unwrap();
    assert_eq!(qps.get(), 100);
    assert_eq!(props.get::<String>("name").unwrap(), "shop");
    let origin = props.explain("rate.qps").origin.unwrap().to_string();
    assert!(origin.contains("app"), "{origin}");
    for n in 0..20 {
        scenario.store.put("app/rate/qps", (n + 200).to_string());
        let took = wait_until(SOON, "a change", || qps.get() == n + 200);
        if n == 19 {
            report_time::<S>("put to handle", took);
        }
    }
    scenario.store.put("app/new/deep/key", "1");
    wait_until(SOON, "a new key", || {
        props.get::<u32>("new.deep.key").is_ok()
    });
    scenario.store.delete("app/rate/qps");
    wait_until(SOON, "a deletion", || qps.get() == 1);
    scenario.store.delete("app/name");
    wait_until(SOON, "another", || {
        props.get_opt::<String>("name").unwrap().is_none()
    });
    let health = props.health().sources;
    let health = health
        .iter()
        .find(|source| source.revision.is_some())
        .unwrap();
    assert!(health.required && health.commits >= 20, "{health:?}");
}

pub(crate) fn a_prefix_ends_at_its_separator<S: Store>() {
    let all = [
        ("app/a", "1"),
        ("apple/b", "2"),
        ("ap", "3"),
        ("other/app/c", "4"),
    ];
    let Some(scenario) = Scenario::<S>::with(&all) else {
        return;
    };
    let props = scenario.follow();
    let keys: Vec<String> = props
        .snapshot()
        .keys()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(keys, ["a"]);
}

pub(crate) fn one_transaction_is_one_generation_and_one_call<S: Store>() {
    let Some(scenario) = Scenario::<S>::with(&[("app/n0", "0"), ("app/gone", "1")]) else {
        return;
    };
    let props = scenario.follow();
    let (send, batches) = channel();
    let _guard = props.on_change_under("", move |batch| {
        let _ = send.send((batch.changes().len(), batch.generation()));
    });
    let before = props.generation();
    let keys: Vec<String> = (0..63).map(|n| format!("app/n{n}")).collect();
    let mut changes: Vec<(&str, Option<&[u8]>)> = keys
        .iter()
        .map(|key| (key.as_str(), Some(&b"7"[..])))
        .collect();
    changes.push(("app/gone", None));
    scenario.store.change(&changes);
    let (count, generation) = batches.recv_timeout(SOON).unwrap();
    assert_eq!((count, generation), (64, before + 1));
    assert_eq!(props.generation(), before + 1);
    assert!(batches.try_recv().is_err());
}

pub(crate) fn a_value_that_is_no_text_or_too_large_is_rejected_alone<S: Store>() {
    let good: Vec<(String, String)> = (0..9)
        .map(|n| (format!("app/good{n}"), n.to_string()))
        .collect();
    let good: Vec<(&str, &str)> = good.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let Some(scenario) = Scenario::<S>::with(&good) else {
        return;
    };
    let pem = "-----BEGIN CERTIFICATE-----\nMIIB+zCCAaGgAwIBAgIU\n-----END CERTIFICATE-----\n";
    scenario.store.put("app/pem", pem);
    scenario.store.put("app/bad", [0xff, 0xfe, 0]);
    let props = scenario.follow();
    assert_eq!(props.snapshot().keys().len(), 10);
    assert_eq!(props.get::<String>("pem").unwrap(), pem);
    let problems = health(&props).problems;
    assert_eq!(problems.len(), 1, "{problems:?}");
    let message = problems[0].to_string();
    assert!(
        message.contains("bad") && message.contains("UTF-8"),
        "{message}"
    );
    // A valid value stays if a bad one replaces it.
    scenario.store.put("app/good1", [0xff]);
    wait_until(SOON, "the second value is reported", || {
        health(&props).problems.len() == 2
    });
    assert_eq!(props.get::<u32>("good1").unwrap(), 1);
    scenario.store.put("app/good2", "22");
    wait_until(SOON, "others change", || {
        props.get::<u32>("good2").unwrap() == 22
    });
    // The largest value of the store, minus its overhead, is read if it is within the limit of the
    // crate.
    let large = "x".repeat(S::LARGEST - (2 << 10));
    scenario.store.put("app/large", &large);
    if large.len() <= 1 << 20 {
        wait_until(SOON, "the large value is read", || {
            props.get_opt::<String>("large").unwrap().as_ref() == Some(&large)
        });
    } else {
        wait_until(SOON, "the value is rejected alone", || {
            let problems = health(&props).problems;
            problems.iter().any(|it| it.to_string().contains("1048576"))
        });
    }
    scenario.store.put("app/good2", "23");
    wait_until(SOON, "others change", || {
        props.get::<u32>("good2").unwrap() == 23
    });
    scenario.store.put("app/good1", "11");
    scenario.store.delete("app/large");
    scenario.store.delete("app/bad");
    wait_until(SOON, "both are over", || health(&props).problems.is_empty());
    assert_eq!(props.get::<u32>("good1").unwrap(), 11);
    assert!(is_up(&props));
}

pub(crate) fn a_key_may_hold_a_document<S: Store>() {
    let Some(scenario) =
        Scenario::<S>::with(&[("app/limits", "qps = 5\n[deep]\nx = 1\n"), ("app/n", "1")])
    else {
        return;
    };
    scenario.store.put("all", "whole = true\n");
    let mounted = Properties::builder()
        .source(S::with_document(scenario.proxy.port(), "app", "limits"))
        .build()
        .unwrap();
    let whole = Properties::builder()
        .source(S::document(scenario.proxy.port(), "all"))
        .build()
        .unwrap();
    assert_eq!(mounted.get::<u32>("limits.deep.x").unwrap(), 1);
    assert_eq!(mounted.get::<u32>("n").unwrap(), 1);
    assert!(whole.get::<bool>("whole").unwrap());
    scenario.store.put("app/limits", "qps = ");
    scenario.store.put("all", "whole = ");
    wait_until(SOON, "the source is not up", || {
        health(&mounted).problems.len() == 1 && !is_up(&whole)
    });
    assert_eq!(mounted.get::<u32>("limits.qps").unwrap(), 5);
    let message = health(&mounted).problems[0].to_string();
    assert!(message.contains("limits:1:"), "line and column: {message}");
    let message = format!("{:?}", health(&whole).status);
    assert!(message.contains("all:1:"), "line and column: {message}");
    // The problem stays until the value is repaired, even if polls return no changes.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(6) {
        assert!(!is_up(&whole), "{:?}", begun.elapsed());
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(whole.get::<bool>("whole").unwrap());
    scenario.store.put("app/limits", "qps = 6\n");
    scenario.store.put("all", "whole = false\n");
    wait_until(SOON, "both are good again", || {
        mounted.get::<u32>("limits.qps").unwrap() == 6 && !whole.get::<bool>("whole").unwrap()
    });
    assert!(mounted.get_opt::<Value>("limits.deep.x").unwrap().is_none());
    wait_until(SOON, "the source is up", || {
        is_up(&whole) && health(&mounted).problems.is_empty()
    });
}

pub(crate) fn a_document_that_is_absent_at_the_start_is_an_error_unless_it_is_optional<S: Store>() {
    let Some(scenario) = Scenario::<S>::with(&[("app/n", "1")]) else {
        return;
    };
    let source = || S::document(scenario.proxy.port(), "all");
    let error = Properties::builder().source(source()).build().unwrap_err();
    let error = error.to_string();
    for part in ["does not exist", "policy.optional()", "all"] {
        assert!(error.contains(part), "{error}");
    }
    let props = Properties::builder()
        .source(source().with(|policy| policy.optional()))
        .build()
        .unwrap();
    let status = format!("{:?}", health(&props).status);
    assert!(status.contains("does not exist"), "{status}");
    scenario.store.put("all", "qps = 5\n");
    wait_until(SOON, "the document", || {
        props.get_opt::<u32>("qps").unwrap() == Some(5)
    });
    wait_until(SOON, "the source is up", || is_up(&props));
}

pub(crate) fn a_prefix_without_keys_is_a_hint<S: Store>() {
    let Some(scenario) = Scenario::<S>::with(&[("app/n", "1")]) else {
        return;
    };
    let props = Properties::builder()
        .source(S::prefix(scenario.proxy.port(), "nope"))
        .build()
        .unwrap();
    assert!(is_up(&props));
    let hints = health(&props).hints;
    assert_eq!(hints.len(), 1, "{hints:?}");
    let hint = hints[0].to_string();
    assert!(
        hint.contains("begins with `") && hint.contains("nope"),
        "{hint}"
    );
    scenario.store.put("nope/n", "1");
    wait_until(SOON, "a key", || {
        props.get_opt::<u32>("n").unwrap() == Some(1)
    });
    wait_until(SOON, "no hint", || health(&props).hints.is_empty());
}

pub(crate) fn a_key_inside_a_document_is_a_clash_and_the_document_stays<S: Store>() {
    let Some(scenario) =
        Scenario::<S>::with(&[("app/limits", "qps = 1\nburst = 2\n"), ("app/n", "1")])
    else {
        return;
    };
    let follow = || {
        let source = S::with_document(scenario.proxy.port(), "app", "limits");
        Properties::builder().source(source).build().unwrap()
    };
    let props = follow();
    scenario.store.put("app/limits/qps", "9");
    wait_until(SOON, "health reports it", || {
        health(&props).problems.len() == 1
    });
    let message = health(&props).problems[0].to_string();
    assert!(
        message.contains("is ignored") && message.contains("qps"),
        "{message}"
    );
    // A program that starts now reports the same.
    for props in [&props, &follow()] {
        assert_eq!(props.get::<u32>("limits.qps").unwrap(), 1);
        assert_eq!(props.get::<u32>("limits.burst").unwrap(), 2);
        assert_eq!(health(props).problems.len(), 1);
    }
    scenario.store.delete("app/limits/qps");
    wait_until(SOON, "the source has recovered", || {
        health(&props).problems.is_empty()
    });
    assert_eq!(props.get::<u32>("limits.qps").unwrap(), 1);
}

pub(crate) fn scopes_are_layers_and_a_value_walks_down_as_stronger_ones_go<S: Store>() {
    let names = ["common", "common-prod", "shop", "shop-prod"];
    let keys = names.map(|name| format!("conf/{name}/qps"));
    let values: Vec<(&str, &str)> = keys
        .iter()
        .map(String::as_str)
        .zip(["0", "1", "2", "3"])
        .collect();
    let Some(scenario) = Scenario::<S>::with(&values) else {
        return;
    };
    // A second key stays in each layer, so that the removal guard accepts the deletion.
    for name in names {
        let stays: Vec<String> = (0..9).map(|n| format!("conf/{name}/stays{n}")).collect();
        stays.iter().for_each(|key| scenario.store.put(key, "1"));
    }
    let scope = Scope::app("shop").profile("prod");
    let sources = S::of_scope(scenario.proxy.port(), "conf", &scope);
    let props = Properties::builder().sources(sources).build().unwrap();
    let qps = props.property::<u32>("qps").default(99).build().unwrap();
    for n in (0..4).rev() {
        wait_until(SOON, "the next layer shows", || qps.get() == n);
        scenario.store.delete(&keys[n as usize]);
    }
    wait_until(SOON, "the default is left", || qps.get() == 99);
}

pub(crate) fn ten_thousand_keys_are_loaded_and_one_change_is_one_change<S: Store>() {
    let Some(scenario) = Scenario::<S>::with(&[]) else {
        return;
    };
    let keys: Vec<String> = (0..10_000)
        .map(|n| format!("app/k{}/n{n}", n % 100))
        .collect();
    for some in keys.chunks(64) {
        let changes: Vec<(&str, Option<&[u8]>)> = some
            .iter()
            .map(|key| (key.as_str(), Some(&b"1"[..])))
            .collect();
        scenario.store.change(&changes);
    }
    let begun = std::time::Instant::now();
    let props = scenario.follow();
    report_time::<S>("load of 10,000 keys", begun.elapsed());
    assert_eq!(props.snapshot().keys().len(), 10_000);
    let before = props.generation();
    scenario.store.put("app/k7/n7", "2");
    let took = wait_until(SOON, "a change", || props.get::<u32>("k7.n7").unwrap() == 2);
    report_time::<S>("one change among 10,000 keys", took);
    assert_eq!(props.generation(), before + 1);
}

pub(crate) fn a_store_over_the_limit_is_rejected_and_read_once_it_is_below<S: Store>() {
    let Some(scenario) = Scenario::<S>::with(&[("app/n", "0")]) else {
        return;
    };
    let props = scenario.follow();
    let large = vec![b'x'; 400 << 10];
    for n in 0..60 {
        scenario.store.put(&format!("app/large{n}"), &large);
    }
    scenario.store.put("app/n", "1");
    wait_until(SOON, "health reports it", || match health(&props).status {
        Status::Stale { reason, .. } => reason.kind() == ErrorKind::TooLarge,
        _ => false,
    });
    // Nearly as many keys as before stay, since a mass removal would be withheld.
    for n in 20..60 {
        scenario.store.delete(&format!("app/large{n}"));
    }
    wait_until(SOON, "what is left", || {
        let has = |key: &str| {
            props
                .get::<String>(key)
                .is_ok_and(|text| text.len() == large.len())
        };
        has("large0") && has("large19") && props.get::<u32>("n").unwrap() == 1
    });
    wait_until(SOON, "the source is up", || is_up(&props));
    assert!(props.get_opt::<String>("large20").unwrap().is_none());
}
