//! Bootstrap values, keys that need a restart, and waiting for keys at the start.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::thread;
use std::time::{Duration, Instant};

use liveprops::health::SourceEventKind;
use liveprops::sources::Memory;
use liveprops::{Error, ErrorKind, Key, Properties, Value};
use support::{Random, reports};

#[test]
fn a_key_that_needs_a_restart_keeps_its_value_and_reports_the_pending_one() -> Result<(), Error> {
    let memory = Memory::from([("http.port", 80), ("qps", 1)]);
    let (report, inbox) = reports();
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
    assert_eq!(inbox.all(), pending, "reported once");
    // The old value again: nothing is pending.
    memory.set("http.port", 80)?;
    assert_eq!(props.health().pending_restart, []);
    // A removal and a write of the program stay pending as well.
    memory.remove("http.port")?;
    assert_eq!(port.get(), 80);
    assert_eq!(props.health().pending_restart[0].waiting, None);
    props.set("http.port", 82)?;
    assert_eq!(port.get(), 80);
    assert_eq!(
        props.health().pending_restart[0].waiting.as_deref(),
        Some("82")
    );
    assert_eq!(inbox.all().len(), 2);
    Ok(())
}

#[test]
fn a_key_that_needs_a_restart_may_be_a_table_a_reference_a_secret_or_absent() -> Result<(), Error> {
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
    // A complete document has the same effect as single keys.
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
fn a_bootstrap_key_cannot_be_redefined_and_attempts_are_reported() -> Result<(), Error> {
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
    let rejected = props.health().rejected;
    assert_eq!(rejected.len(), 1);
    let text = rejected[0].error.to_string();
    assert!(
        text.contains("store.url") && text.contains("remote @ 1"),
        "{text}"
    );
    assert!(!text.contains("evil"), "{text}");

    let error = props.set("store.url", "mine").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Rejected);
    assert_eq!(error.key().map(Key::as_str), Some("store.url"));
    assert!(props.remove("store").is_err());
    remote.unset("store.user")?;
    assert_eq!(props.get::<String>("store.user")?, "me");
    // Nor by itself.
    props.refresh_now()?;
    Ok(())
}

#[test]
fn a_bootstrap_source_is_loaded_once_and_keeps_its_values() -> Result<(), Error> {
    let boot = Memory::from([("a", 1)]);
    let props = Properties::builder().bootstrap(boot.clone()).build()?;
    assert!(boot.set("a", 2).is_err());
    props.refresh_now()?;
    assert_eq!(props.get::<i64>("a")?, 1);
    Ok(())
}

#[test]
fn waiting_for_keys_ends_when_they_are_set_or_names_the_missing_ones() -> Result<(), Error> {
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
fn frozen_keys_stay_and_all_others_follow_the_layers() -> Result<(), Error> {
    const KEYS: [&str; 8] = ["a", "t.u", "t.v.w", "t.v.x", "t.v", "t", "l", "b.c"];
    const FROZEN: [&str; 3] = ["t.v", "a", "b.c"];
    for seed in 1..60 {
        let mut random = Random(seed * 0x9E37_79B9);
        let memories: Vec<Memory> = (0..3).map(|_| Memory::new()).collect();
        let change = |random: &mut Random| {
            let memory = &memories[random.below(3) as usize];
            let key = KEYS[random.below(8) as usize];
            // Both reject a clash.
            let _ = match random.below(6) {
                0 => memory.remove(key),
                1 => memory.unset(key),
                2 => memory.set(key, Value::Table(Default::default())),
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
            let (now, rebuilt) = (props.snapshot(), build().build()?.snapshot());
            let keys = |tree: &liveprops::Snapshot, frozen: bool| -> Vec<String> {
                let keys = tree.keys().into_iter().map(|key| key.to_string());
                keys.filter(|key| is_frozen(key) == frozen).collect()
            };
            let at = format!("seed {seed} step {step}");
            assert_eq!(keys(&now, true), keys(&first, true), "{at}");
            for key in keys(&first, true) {
                assert_eq!(read(&now, &key), read(&first, &key), "{at} {key}");
            }
            // A value above a frozen key stays pending as well, since it would hide the frozen key.
            let waits_above = |key: &String| key == "t" && first.contains("t.v");
            let mut others = keys(&rebuilt, false);
            others.retain(|key| !waits_above(key));
            assert_eq!(keys(&now, false), others, "{at}");
            for key in others {
                assert_eq!(read(&now, &key), read(&rebuilt, &key), "{at} {key}");
            }
            let waits = props.health().pending_restart.into_iter();
            let waits: Vec<String> = waits.map(|pending| pending.key.to_string()).collect();
            for top in FROZEN {
                let differs = read(&rebuilt, top) != read(&first, top)
                    || keys(&rebuilt, true)
                        .iter()
                        .any(|key| under(key, top) && read(&rebuilt, key) != read(&first, key))
                    || keys(&first, true)
                        .iter()
                        .any(|key| under(key, top) && read(&rebuilt, key) != read(&first, key));
                assert!(
                    !differs || waits.contains(&top.to_owned()),
                    "{at} {top} {waits:?}"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn a_joined_list_that_bootstrap_sets_ignores_other_layers() -> Result<(), Error> {
    let remote = Memory::named("remote");
    remote.set("hosts", vec!["evil"])?;
    let props = Properties::builder()
        .append("hosts")
        .append("free")
        .default("hosts", vec!["default"])
        .default("free", vec!["default"])
        .bootstrap(Memory::from([("hosts", vec!["a"])]))
        .bootstrap(Memory::from([("hosts", vec!["b"])]))
        .source(remote.clone())
        .build()?;
    assert_eq!(props.get::<Vec<String>>("hosts")?, ["a", "b"]);
    assert_eq!(props.get::<String>("hosts.0")?, "a");
    remote.set("hosts", vec!["worse"])?;
    remote.set("free", vec!["more"])?;
    assert_eq!(props.get::<Vec<String>>("hosts")?, ["a", "b"]);
    assert_eq!(props.get::<Vec<String>>("free")?, ["default", "more"]);
    let rejected = props.health().rejected;
    assert_eq!(
        rejected.len(),
        2,
        "both values of remote, no default: {rejected:?}"
    );
    Ok(())
}

#[test]
fn references_and_cases_of_bootstrap_values_keep_what_they_are_at_the_start() -> Result<(), Error> {
    let case = |region: &str, value: &str| {
        let wanted = [("region", Value::from(region))];
        let fields = [
            ("if", Value::Table(wanted.into())),
            ("value", Value::from(value)),
        ];
        Value::Table(fields.into())
    };
    let boot = Memory::from([
        ("store.url", Value::from("https://${host}/${late:none}")),
        ("store.hosts", Value::from(vec!["${host}"])),
        (
            "store.zone",
            Value::from(vec![case("eu", "1"), case("us", "2")]),
        ),
        ("store.loop", Value::from("${store.loop}")),
    ]);
    let remote = Memory::from([("host", "good"), ("region", "eu")]);
    let props = Properties::builder()
        .append("store.hosts")
        .bootstrap(boot)
        .source(remote.clone())
        .build()?;
    let url = props.property::<String>("store.url").build()?;
    let reads = || -> Result<_, Error> {
        let hosts: Vec<String> = props.get("store.hosts")?;
        Ok((url.get(), hosts, props.get::<String>("store.zone")?))
    };
    let first = reads()?;
    assert_eq!(first.0, "https://good/none");
    assert_eq!((&*first.1, &*first.2), (&["good".to_owned()][..], "1"));
    let loops = props.get::<String>("store.loop").unwrap_err();
    assert_eq!(loops.kind(), ErrorKind::Reference);

    remote.set("host", "evil")?;
    remote.set("region", "us")?;
    props.set("late", "later")?;
    let added = props.add_source(Memory::from([("host", "worse")]))?;
    assert_eq!(reads()?, first);
    remote.replace([("host", "worst")])?;
    props.remove_source(added)?;
    assert_eq!(reads()?, first);
    let explained = props.explain("store.url");
    assert_eq!(explained.value.as_deref(), Some("\"https://good/none\""));
    assert!(explained.layers[0].wins, "{explained}");
    Ok(())
}

#[test]
fn no_source_can_get_the_rank_of_bootstrap_and_no_bootstrap_source_can_leave_it()
-> Result<(), Error> {
    let boot = || Memory::from([("a", 1)]);
    let props = Properties::builder()
        .bootstrap(boot())
        .source(Memory::new())
        .build()?;
    let sources = props.health().sources;
    let (fixed, other) = (&sources[0], &sources[1]);
    let evil = || Memory::from([("a", 2)]);
    for rejected in [
        props.add_source_in(fixed.layer.clone(), evil()).map(drop),
        props
            .move_source(other.source, fixed.layer.clone())
            .map(drop),
        props
            .move_source(fixed.source, liveprops::Layer::new("weak", 100))
            .map(drop),
        props.remove_source(fixed.source).map(drop),
        Properties::builder()
            .bootstrap(boot())
            .source_in(fixed.layer.clone(), evil())
            .build()
            .map(drop),
    ] {
        let error = rejected.expect_err("the rank is reserved");
        assert_eq!(error.kind(), ErrorKind::Rejected, "{error}");
    }
    assert_eq!(props.get::<u32>("a")?, 1);
    assert_eq!(props.health().sources.len(), 2);
    Ok(())
}

#[test]
fn a_source_that_hides_a_bootstrap_key_by_a_tombstone_above_is_reported() -> Result<(), Error> {
    let remote = Memory::named("remote");
    let props = Properties::builder()
        .bootstrap(Memory::from([("store.tls.on", "yes")]))
        .source(remote.clone())
        .build()?;
    remote.unset("store")?;
    assert_eq!(props.get::<String>("store.tls.on")?, "yes");
    let rejected = props.health().rejected;
    assert_eq!(rejected.len(), 1, "{rejected:?}");
    assert_eq!(
        rejected[0].error.key().map(Key::as_str),
        Some("store.tls.on")
    );
    assert!(rejected[0].error.to_string().contains("remote @ 1"));

    let late = Memory::named("late");
    late.unset("store.tls")?;
    props.add_source(late)?;
    let rejected = props.health().rejected;
    assert!(
        rejected
            .iter()
            .any(|r| r.error.to_string().contains("late @ 1"))
    );
    Ok(())
}

#[test]
fn the_program_writes_neither_at_nor_above_nor_below_a_bootstrap_value() -> Result<(), Error> {
    let boot = Memory::from([("store", Value::from("x")), ("gone", Value::Unset)]);
    let props = Properties::builder().bootstrap(boot).build()?;
    for key in ["store", "store.port", "store.tls.on", "gone", "gone.too"] {
        let error = props.set(key, 1).expect_err("without effect");
        assert_eq!(error.kind(), ErrorKind::Rejected, "{key}: {error}");
        assert_eq!(error.key().map(Key::as_str), Some(key));
    }
    props.set("other", 1)?;
    Ok(())
}

#[test]
fn a_bootstrap_source_that_changes_later_gets_an_error() -> Result<(), Error> {
    let boot = Memory::from([("a", 1)]);
    let props = Properties::builder().bootstrap(boot.clone()).build()?;
    for late in [
        boot.set("a", 2),
        boot.set("b", 2),
        boot.remove("a"),
        boot.unset("a"),
        boot.replace([("a", 3)]),
    ] {
        assert_eq!(late.unwrap_err().kind(), ErrorKind::Rejected);
    }
    boot.set("a", 1)?;
    boot.replace([("a", 1)])?;
    assert_eq!(props.get::<i64>("a")?, 1);
    assert_eq!(props.get_opt::<i64>("b")?, None);
    let id = props.health().sources[0].source;
    let checked = props.check(id, liveprops::Document::new()).unwrap_err();
    assert_eq!(checked.kind(), ErrorKind::Rejected, "as it would be");
    let health = props.health();
    assert!(health.is_up(), "its values are in force: {health:?}");
    assert!(!health.rejected.is_empty(), "each attempt is reported");
    // A rejected change is undone.
    drop(props);
    let again = Properties::builder().bootstrap(boot).build()?;
    assert_eq!(again.get::<i64>("a")?, 1);
    Ok(())
}

#[test]
fn a_write_below_a_table_that_needs_a_restart_leaves_origins_as_explained() -> Result<(), Error> {
    let memory = Memory::from([("http.port", 80), ("http.limit", 5)]);
    let props = Properties::builder()
        .inline_callbacks()
        .restart_required("http")
        .source(memory.clone())
        .build()?;
    let port = props.property::<u16>("http.port").build()?;
    let agree = |step: &str| {
        let version = port.versioned();
        let explained = props.explain("http.port");
        assert_eq!(version.value, 80, "{step}");
        assert_eq!(explained.value.as_deref(), Some("80"), "{step}");
        assert_eq!(
            version.origin(),
            explained.origin.as_ref(),
            "{step}: {explained}"
        );
        let winners = explained.layers.iter().filter(|layer| layer.wins);
        let winners: Vec<&str> = winners.map(|layer| &*layer.name).collect();
        assert_eq!(version.layer().as_slice(), winners, "{step}: {explained}");
    };
    props.set("http.port", 80)?;
    agree("the same value from a stronger layer");
    props.set("http.host", "x")?;
    agree("a key beside it waits");
    memory.set("http.limit", 6)?;
    agree("another one waits");
    props.remove("http.host")?;
    agree("the key beside it is gone");
    props.remove("http.port")?;
    agree("the weaker layer is back");
    memory.replace([("http.port", 80), ("http.limit", 5)])?;
    agree("a whole document with other origins");
    assert_eq!(props.health().pending_restart, []);
    Ok(())
}

#[test]
fn an_item_of_a_list_that_needs_a_restart_keeps_its_list() -> Result<(), Error> {
    let listen = |port: i64, more: &str| {
        let item = [("port", Value::from(port)), ("more", Value::from(more))];
        Value::List(vec![Value::Table(item.into())].into())
    };
    let schema = liveprops::Schema::new()
        .declare(liveprops::Schema::key::<u16>("listen.0.port").restart_required());
    let plain = Properties::builder().restart_required("listen.0.port");
    for builder in [plain, Properties::builder().schema(schema)] {
        let memory = Memory::from([("listen", listen(80, "a"))]);
        let props = builder.source(memory.clone()).build()?;
        memory.set("listen", listen(81, "b"))?;
        assert_eq!(props.get::<u16>("listen.0.port")?, 80);
        assert_eq!(
            props.get::<String>("listen.0.more")?,
            "a",
            "a list is one value"
        );
        let pending = props.health().pending_restart;
        assert_eq!(pending.len(), 1);
        assert_eq!(pending[0].key.as_str(), "listen");
        memory.remove("listen")?;
        assert_eq!(props.get::<u16>("listen.0.port")?, 80);
        memory.set("listen", listen(80, "a"))?;
        assert_eq!(props.health().pending_restart, []);
    }
    // A list that is added later stays pending as well.
    let memory = Memory::new();
    let late = Properties::builder()
        .restart_required("listen.0.port")
        .source(memory.clone())
        .build()?;
    memory.set("listen", listen(81, "b"))?;
    assert_eq!(late.get_opt::<u16>("listen.0.port")?, None);
    assert_eq!(late.health().pending_restart.len(), 1);
    Ok(())
}

#[test]
fn the_whole_tree_cannot_need_a_restart() {
    let error = Properties::builder()
        .restart_required("")
        .build()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidKey);
    assert!(error.to_string().contains("restart_required"), "{error}");
}

#[test]
fn a_key_that_needs_a_restart_and_is_absent_at_an_empty_start_stays_absent() -> Result<(), Error> {
    let props = Properties::builder()
        .restart_required("http.port")
        .build()?;
    assert_eq!(props.generation(), 0);
    props.add_source(Memory::from([("http.port", 80)]))?;
    assert_eq!(props.get_opt::<u16>("http.port")?, None);
    assert_eq!(props.health().pending_restart.len(), 1);
    Ok(())
}

#[test]
fn a_secret_in_a_bootstrap_value_that_is_overridden_is_not_shown() -> Result<(), Error> {
    let hidden = [
        ("url", Value::from("http://${api.token}")),
        ("l", Value::from(vec!["${api.token}"])),
    ];
    let props = Properties::builder()
        .append("l")
        .bootstrap(Memory::from(hidden))
        .bootstrap(Memory::from([
            ("url", Value::from("http://plain")),
            ("l", Value::from(1)),
        ]))
        .source(Memory::from([("api.token", "hunter2")]))
        .build()?;
    assert_eq!(props.get::<String>("url")?, "http://plain");
    for key in ["url", "l", "l.0"] {
        let explained = props.explain(key);
        let shown = format!("{explained} {explained:?}");
        assert!(!shown.contains("hunter2"), "{key}: {shown}");
    }
    Ok(())
}
