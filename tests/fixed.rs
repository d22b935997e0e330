//! Values that are fixed from the start on, and waiting for values at the start (VAL-4, VAL-5,
//! RES-3).
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::thread;
use std::time::{Duration, Instant};

use liveprops::health::SourceEventKind;
use liveprops::sources::Memory;
use liveprops::{Error, ErrorKind, Properties, Value};
use support::{Random, reports};

#[test]
fn a_key_that_needs_a_restart_keeps_its_value_and_says_what_waits() -> Result<(), Error> {
    let memory = Memory::from([("http.port", 80), ("qps", 1)]);
    let (report, told) = reports();
    let props = Properties::builder()
        .inline_callbacks()
        .restart_required("http.port")
        .on_source_event(move |event| {
            if let SourceEventKind::RestartRequired(pending) = &event.kind {
                report(pending.clone());
            }
        })
        .source(memory.clone())
        .build()?;
    let port = props.property::<u16>("http.port").default(8080).build()?;
    memory.set("http.port", 81)?;
    memory.set("qps", 2)?;
    assert_eq!((port.get(), props.get::<u16>("http.port")?), (80, 80));
    assert_eq!(props.get::<u32>("qps")?, 2);
    let pending = props.health().pending_restart;
    assert_eq!(pending.len(), 1);
    assert_eq!(pending[0].key.as_str(), "http.port");
    assert_eq!(pending[0].running.as_deref(), Some("80"));
    assert_eq!(pending[0].waiting.as_deref(), Some("81"));
    assert_eq!(
        pending[0].origin.as_ref().unwrap().to_string(),
        "memory @ 1"
    );
    assert_eq!(told.all(), pending, "told once");
    // Back to what it was: nothing waits.
    memory.set("http.port", 80)?;
    assert_eq!(props.health().pending_restart, []);
    // Away, or written by the program: it waits as well.
    memory.remove("http.port")?;
    assert_eq!(port.get(), 80);
    assert_eq!(props.health().pending_restart[0].waiting, None);
    props.set("http.port", 82)?;
    assert_eq!(port.get(), 80);
    assert_eq!(
        props.health().pending_restart[0].waiting.as_deref(),
        Some("82")
    );
    assert_eq!(told.all().len(), 2);
    Ok(())
}

#[test]
fn what_needs_a_restart_may_be_a_table_a_reference_a_secret_or_absent() -> Result<(), Error> {
    let memory = Memory::from([
        ("db.host", Value::from("a")),
        ("db.port", Value::from(1)),
        ("name", Value::from("${base}-x")),
        ("base", Value::from("one")),
        ("api.token", Value::from("s3cr3t")),
    ]);
    let props = Properties::builder()
        .inline_callbacks()
        .restart_required("db")
        .restart_required("name")
        .restart_required("api.token")
        .restart_required("later")
        .source(memory.clone())
        .build()?;
    memory.set("db.port", 2)?;
    memory.set("db.user", "new")?;
    memory.set("base", "two")?;
    memory.set("api.token", "0th3r")?;
    memory.set("later", 1)?;
    assert_eq!(props.get::<u16>("db.port")?, 1);
    assert_eq!(props.get_opt::<String>("db.user")?, None);
    assert_eq!(props.get::<String>("name")?, "one-x");
    assert_eq!(props.get::<String>("base")?, "two");
    assert_eq!(props.get_opt::<u32>("later")?, None);
    let health = format!("{:?}", props.health());
    assert!(
        !health.contains("0th3r") && !health.contains("s3cr3t"),
        "{health}"
    );
    let keys: Vec<String> = props
        .health()
        .pending_restart
        .iter()
        .map(|pending| pending.key.to_string())
        .collect();
    assert_eq!(keys, ["api.token", "db", "later"]);
    // A whole document says the same as its single keys did.
    memory.replace([
        ("db.host", Value::from("a")),
        ("db.port", Value::from(1)),
        ("name", Value::from("${base}-x")),
        ("api.token", Value::from("s3cr3t")),
    ])?;
    assert_eq!(props.health().pending_restart, []);
    assert_eq!(props.get::<String>("name")?, "one-x");
    Ok(())
}

#[test]
fn a_bootstrap_key_is_not_redefined_by_anyone_and_whoever_tries_is_reported() -> Result<(), Error> {
    let remote = Memory::named("remote");
    let props = Properties::builder()
        .bootstrap(Memory::from([("store.url", "good"), ("store.user", "me")]))
        .source(remote.clone())
        .build()?;
    remote.set("store.url", "evil")?;
    remote.set("qps", 5)?;
    remote.set("store.extra", 1)?;
    assert_eq!(props.get::<String>("store.url")?, "good");
    assert_eq!(props.get::<u32>("qps")?, 5);
    assert_eq!(
        props.get::<u32>("store.extra")?,
        1,
        "a key of its own beside them"
    );
    let refused = props.health().refused;
    assert_eq!(refused.len(), 1);
    let text = refused[0].error.to_string();
    assert!(
        text.contains("store.url") && text.contains("remote @ 1"),
        "{text}"
    );
    assert!(!text.contains("evil"), "{text}");

    let error = props.set("store.url", "mine").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert_eq!(error.key(), Some("store.url"));
    assert!(props.remove("store").is_err());
    remote.unset("store.user")?;
    assert_eq!(props.get::<String>("store.user")?, "me");
    // Nor by itself.
    props.refresh_now()?;
    Ok(())
}

#[test]
fn a_bootstrap_source_is_loaded_once_and_keeps_what_it_said() -> Result<(), Error> {
    let boot = Memory::from([("a", 1)]);
    let props = Properties::builder().bootstrap(boot.clone()).build()?;
    boot.set("a", 2)?;
    props.refresh_now()?;
    assert_eq!(props.get::<i64>("a")?, 1);
    Ok(())
}

#[test]
fn waiting_for_keys_ends_when_they_are_there_and_names_who_is_missing() -> Result<(), Error> {
    let memory = Memory::from([("a", 1)]);
    let props = Properties::builder().source(memory.clone()).build()?;
    props.wait_for(["a"], Duration::ZERO)?;
    let error = props
        .wait_for(["a", "b.c", "d"], Duration::from_millis(20))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("`b.c`, `d`"), "{error}");
    let later = memory.clone();
    let writer = thread::spawn(move || {
        for key in ["x", "b.c", "y", "d"] {
            thread::sleep(Duration::from_millis(20));
            later.set(key, 1).unwrap();
        }
    });
    let began = Instant::now();
    props.wait_for(["a", "b.c", "d"], Duration::from_secs(10))?;
    assert!(began.elapsed() < Duration::from_secs(5));
    writer.join().unwrap();
    Ok(())
}

#[test]
fn whatever_happens_frozen_keys_stay_and_all_others_are_what_the_layers_say() -> Result<(), Error> {
    const KEYS: [&str; 8] = ["a", "t.u", "t.v.w", "t.v.x", "t.v", "t", "l", "b.c"];
    const FROZEN: [&str; 3] = ["t.v", "a", "b.c"];
    for seed in 1..60 {
        let mut random = Random(seed * 0x9E37_79B9);
        let memories: Vec<Memory> = (0..3).map(|_| Memory::new()).collect();
        let change = |random: &mut Random| {
            let memory = &memories[random.below(3) as usize];
            let key = KEYS[random.below(8) as usize];
            // What clashes is refused, here as there.
            let _ = match random.below(6) {
                0 => memory.remove(key),
                1 => memory.unset(key),
                2 => memory.set(key, Value::Table(Box::default())),
                _ => memory.set(key, random.below(4) as i64),
            };
        };
        (0..6).for_each(|_| change(&mut random));
        let build = || {
            let mut builder = Properties::builder().inline_callbacks();
            for memory in &memories {
                builder = builder.source(memory.clone());
            }
            builder
        };
        let frozen = FROZEN.into_iter();
        let props = frozen
            .fold(build(), |b, key| b.restart_required(key))
            .build()?;
        let first = props.snapshot();
        let under = |key: &str, top: &str| key == top || key.starts_with(&format!("{top}."));
        let is_frozen = |key: &str| FROZEN.iter().any(|top| under(key, top));
        let read = |tree: &liveprops::Snapshot, key: &str| tree.get_opt::<Value>(key).ok();
        for step in 0..40 {
            change(&mut random);
            let (now, anew) = (props.snapshot(), build().build()?.snapshot());
            let keys = |tree: &liveprops::Snapshot, frozen: bool| -> Vec<String> {
                let keys = tree.keys().into_iter().map(|key| key.to_string());
                keys.filter(|key| is_frozen(key) == frozen).collect()
            };
            let at = format!("seed {seed} step {step}");
            assert_eq!(keys(&now, true), keys(&first, true), "{at}");
            for key in keys(&first, true) {
                assert_eq!(read(&now, &key), read(&first, &key), "{at} {key}");
            }
            // A value further up waits as well: it leaves no room for what is frozen below it.
            let waits_above = |key: &String| key == "t" && first.contains("t.v");
            let mut others = keys(&anew, false);
            others.retain(|key| !waits_above(key));
            assert_eq!(keys(&now, false), others, "{at}");
            for key in others {
                assert_eq!(read(&now, &key), read(&anew, &key), "{at} {key}");
            }
            let waits = props.health().pending_restart.into_iter();
            let waits: Vec<String> = waits.map(|pending| pending.key.to_string()).collect();
            for top in FROZEN {
                let differs = read(&anew, top) != read(&first, top)
                    || keys(&anew, true)
                        .iter()
                        .any(|key| under(key, top) && read(&anew, key) != read(&first, key))
                    || keys(&first, true)
                        .iter()
                        .any(|key| under(key, top) && read(&anew, key) != read(&first, key));
                assert!(
                    !differs || waits.contains(&top.to_owned()),
                    "{at} {top} {waits:?}"
                );
            }
        }
    }
    Ok(())
}
