//! `${references}` in values: resolution, notification and rejection.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

#[cfg(feature = "toml")]
use std::sync::Arc;
#[cfg(feature = "toml")]
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use liveprops::explain::LayerValue;
use liveprops::health::Status;
use liveprops::sources::{Args, Env, Memory};
use liveprops::{Error, ErrorKind, Key, Properties, Schema, Source, Value};
#[cfg(any(feature = "toml", feature = "dotenv"))]
use liveprops::{Format, Origin};
use support::reports;

fn with<const N: usize>(values: [(&str, &str); N]) -> (Memory, Properties) {
    let memory = Memory::from(values);
    let props = Properties::builder()
        .inline_callbacks()
        .source(memory.clone())
        .build()
        .unwrap();
    (memory, props)
}

#[test]
fn references_are_replaced_nested_defaulted_escaped_or_left_as_written() {
    let (_memory, props) = with([
        ("host", "db"),
        ("port", "5432"),
        ("env", "prod"),
        ("url.prod", "https://prod"),
        ("which", "port"),
    ]);
    for (text, expected) in [
        ("${host}", "db"),
        ("${host}:${port}", "db:5432"),
        ("a ${host} b", "a db b"),
        ("${none:fallback}", "fallback"),
        ("${none:}", ""),
        ("${none:a:b}", "a:b"),
        ("${none:${host}}", "db"),
        ("${none:${also.none:deep}}", "deep"),
        ("${url.${env}}", "https://prod"),
        ("${${which}}", "5432"),
        ("${host:unused}", "db"),
        ("$${host}", "${host}"),
        ("$${host} ${host}", "${host} db"),
        ("US$$${port}", "US$5432"),
        ("$$$${port}", "$${port}"),
        ("$$$$${port}", "$$5432"),
        ("$$$${none", "$${none"),
        ("$$", "$$"),
        ("$${", "${"),
        ("$${none} $", "${none} $"),
        ("$$${port", "$${port"),
        ("${host", "${host"),
        ("$host {host} $", "$host {host} $"),
        ("${}", "${}"),
        ("${a b..c}", "${a b..c}"),
        ("${ host }", "db"),
        ("100%", "100%"),
    ] {
        props.set("x", text).unwrap();
        assert_eq!(props.get::<String>("x").unwrap(), expected, "{text}");
    }
}

#[test]
fn a_value_that_is_one_reference_has_the_type_of_its_target() -> Result<(), Error> {
    let (memory, props) = with([]);
    memory.set("n", 42)?;
    memory.set("list", vec![1, 2, 3])?;
    memory.set("copy", "${list}")?;
    memory.set("item", "${list.1}")?;
    memory.set("m", "${n}")?;
    memory.set("deep", vec!["${n}", "x${n}"])?;
    assert_eq!(props.get::<Vec<u32>>("copy")?, [1, 2, 3]);
    assert_eq!(props.get::<Value>("m")?, Value::from(42));
    assert_eq!(props.get::<u32>("item")?, 2);
    assert_eq!(props.get::<Vec<String>>("deep")?, ["42", "x42"]);
    memory.set("bad", "x${list}")?;
    let error = props.get::<String>("bad").unwrap_err();
    assert_eq!(
        (error.kind(), error.key().map(Key::as_str)),
        (ErrorKind::Reference, Some("bad"))
    );
    Ok(())
}

// Archaius 198: an interpolated value does not follow its reference.
#[test]
fn a_dependent_key_changes_once_per_change_of_its_reference_and_never_otherwise()
-> Result<(), Error> {
    let (memory, props) = with([
        ("host", "a"),
        ("port", "1"),
        ("addr", "${host}:${port}"),
        ("url", "http://${addr}/"),
        ("other", "${unrelated:x}"),
        ("lazy", "${later:none yet}"),
    ]);
    let (report, inbox) = reports();
    let subs: Vec<_> = ["addr", "url", "other", "lazy"]
        .into_iter()
        .map(|key| {
            let report = report.clone();
            let handle = props.property::<String>(key).build().unwrap();
            handle.on_change(move |change| report((key, change.new_value().clone())))
        })
        .collect();
    let calls = |expected: &[(&'static str, &str)]| {
        let mut calls = inbox.all();
        calls.sort();
        let expected: Vec<_> = expected
            .iter()
            .map(|(k, v)| (*k, (*v).to_owned()))
            .collect();
        assert_eq!(calls, expected);
    };
    memory.set("host", "b")?;
    calls(&[("addr", "b:1"), ("url", "http://b:1/")]);
    props.transaction(|tx| {
        tx.set("host", "c")?;
        tx.set("port", "2")
    })?;
    calls(&[("addr", "c:2"), ("url", "http://c:2/")]);
    memory.set("nobody", "1")?;
    memory.set("host", "hidden by the override")?;
    calls(&[]);
    memory.set("later", "now")?;
    calls(&[("lazy", "now")]);
    memory.remove("later")?;
    calls(&[("lazy", "none yet")]);
    // An unused default of a reference is no dependency.
    memory.set("unrelated", "x")?;
    calls(&[]);
    drop(subs);
    Ok(())
}

#[test]
fn references_are_resolved_against_the_merged_tree_not_their_own_layer() -> Result<(), Error> {
    let low = Memory::from([("name", "low"), ("greeting", "hello ${name}")]);
    let high = Memory::from([("name", "high")]);
    let props = Properties::builder()
        .source(low)
        .source(high.clone())
        .build()?;
    assert_eq!(props.get::<String>("greeting")?, "hello high");
    high.remove("name")?;
    assert_eq!(props.get::<String>("greeting")?, "hello low");
    high.unset("name")?;
    let error = props.get::<String>("greeting").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Reference);
    Ok(())
}

#[test]
fn a_cycle_is_an_error_of_its_keys_only_and_names_all_of_them() -> Result<(), Error> {
    let (memory, props) = with([("fine", "1"), ("user", "${a}"), ("a", "${b}"), ("b", "x")]);
    assert_eq!(props.get::<String>("user")?, "x");
    memory.set("b", "${c:1}")?;
    // The cycle appears only with an override, across two layers.
    props.set("c", "${a}")?;
    for key in ["a", "b", "c"] {
        let error = props.get::<String>(key).unwrap_err();
        assert_eq!(
            (error.kind(), error.key().map(Key::as_str)),
            (ErrorKind::Reference, Some(key))
        );
        let text = error.to_string();
        assert!(
            text.contains("a -> b -> c -> a")
                || text.contains("b -> c -> a -> b")
                || text.contains("c -> a -> b -> c"),
            "{text}"
        );
        assert!(props.explain(key).broken.is_some());
    }
    let error = props.get::<String>("user").unwrap_err();
    assert_eq!(
        (error.kind(), error.key().map(Key::as_str)),
        (ErrorKind::Reference, Some("user"))
    );
    assert_eq!(props.get::<u32>("fine")?, 1, "no other key is affected");
    assert_eq!(props.get_or("a", "default".to_owned()), "default");
    props.remove("c")?;
    assert_eq!(props.get::<String>("user")?, "1", "and it heals");
    memory.set("self", "${self}")?;
    let error = props.get::<String>("self").unwrap_err();
    assert!(error.to_string().contains("self -> self"), "{error}");
    Ok(())
}

#[test]
fn a_cycle_under_a_live_handle_is_rejected() -> Result<(), Error> {
    let (memory, props) = with([("a", "${b}"), ("b", "1")]);
    let a = props.property::<u32>("a").build()?;
    let error = props.set("b", "${a}").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Reference);
    assert!(memory.set("b", "${a}").is_err());
    assert_eq!((a.get(), props.get::<u32>("b")?), (1, 1));
    Ok(())
}

#[test]
fn keys_with_dots_and_colons_are_referred_to_by_quoted_segments() -> Result<(), Error> {
    let (memory, props) = with([]);
    memory.set(r#"hosts."db.example.com".port"#, 5432)?;
    memory.set(r#"odd."a:b""#, "colon")?;
    memory.set("x", r#"${hosts."db.example.com".port}"#)?;
    memory.set("y", r#"${odd."a:b":default}"#)?;
    assert_eq!(props.get::<u16>("x")?, 5432);
    assert_eq!(props.get::<String>("y")?, "colon");
    memory.set(r#"hosts."db.example.com".port"#, 1)?;
    assert_eq!(props.get::<u16>("x")?, 1);
    Ok(())
}

// The value of a reference must not depend on the order of changes.
#[test]
fn a_reference_follows_a_key_that_becomes_a_table_and_goes() -> Result<(), Error> {
    let (memory, props) = with([("x", "${a:none}")]);
    assert_eq!(props.get::<String>("x")?, "none");
    memory.set("a.b", 1)?;
    let error = props.get::<String>("x").unwrap_err();
    assert!(error.to_string().contains("table"), "{error}");
    memory.set("a.c", 1)?;
    memory.remove("a.b")?;
    assert!(props.get::<String>("x").is_err());
    memory.remove("a.c")?;
    assert_eq!(props.get::<String>("x")?, "none");
    memory.set("a", "value")?;
    assert_eq!(props.get::<String>("x")?, "value");
    memory.remove("a")?;
    memory.set("a.b", 1)?;
    assert!(props.get::<String>("x").is_err());
    Ok(())
}

/// The tree built at once must read as the tree built step by step, references and all.
#[test]
fn references_do_not_depend_on_the_order_of_changes() -> Result<(), Error> {
    let keys = ["a", "a.x", "b", "c.y", "c.z", "d"];
    let texts = [
        "1",
        "${b}",
        "${a:d}",
        "${c.y}-${d:q}",
        "${a.x:${b:0}}",
        "${c}",
        "${d}",
        "$${d}",
    ];
    let mut random = support::Random(0xabcdef);
    for _ in 0..60 {
        let memory = Memory::new();
        let props = Properties::builder().source(memory.clone()).build()?;
        for step in 0..25 {
            let key = keys[random.below(keys.len() as u64) as usize];
            match random.below(4) {
                0 => memory.remove(key)?,
                // A key that is both a value and a table is rejected, as expected.
                _ => drop(memory.set(key, texts[random.below(texts.len() as u64) as usize])),
            }
            let fresh = Properties::builder().source(memory.clone()).build()?;
            for key in keys {
                let read = |props: &Properties| match props.get_opt::<String>(key) {
                    Ok(value) => Ok(value),
                    Err(error) => Err(error.kind()),
                };
                assert_eq!(
                    read(&props),
                    read(&fresh),
                    "{key} at step {step}: {:?}",
                    props.explain(key)
                );
            }
        }
    }
    Ok(())
}

#[test]
fn thirty_doublings_are_rejected_quickly_without_memory() -> Result<(), Error> {
    for list in [false, true] {
        let memory = Memory::new();
        let mut values = vec![("b0".to_owned(), Value::from("0123456789abcdef"))];
        for i in 1..=30 {
            let before = format!("${{b{}}}", i - 1);
            let value = match list {
                true => Value::from(vec![before.clone(), before]),
                false => Value::from(format!("{before}{before}")),
            };
            values.push((format!("b{i}"), value));
        }
        memory.replace(values)?;
        let began = Instant::now();
        let mut built = None;
        let info = allocation_counter::measure(|| {
            built = Some(Properties::builder().source(memory.clone()).build());
        });
        let props = built.unwrap()?;
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "{:?}",
            began.elapsed()
        );
        assert!(info.bytes_max < 64 << 20, "{} bytes", info.bytes_max);
        assert_eq!(
            props.get::<Value>("b30").unwrap_err().kind(),
            ErrorKind::Reference
        );
        let too_large = (1..=30).filter_map(|i| props.get::<Value>(&format!("b{i}")).err());
        assert!(
            too_large
                .into_iter()
                .any(|error| error.kind() == ErrorKind::TooLarge)
        );
        assert!(
            props.get::<Value>("b5").is_ok(),
            "the small ones stay readable"
        );
    }
    Ok(())
}

// Each value may be within the bound and all of them together still fill the memory.
#[test]
fn many_references_to_one_large_value_do_not_multiply_it() -> Result<(), Error> {
    let memory = Memory::new();
    let mut values = vec![("big".to_owned(), Value::from("x".repeat(1_000_000)))];
    values.extend((0..300).map(|i| (format!("r{i}"), Value::from("${big}"))));
    memory.replace(values)?;
    let mut built = None;
    let info = allocation_counter::measure(|| {
        built = Some(Properties::builder().source(memory.clone()).build());
    });
    assert!(info.bytes_max < 64 << 20, "{} MiB", info.bytes_max >> 20);
    drop(built);
    Ok(())
}

#[test]
fn a_chain_of_ten_thousand_references_is_an_error_and_no_overflow() -> Result<(), Error> {
    let memory = Memory::new();
    let mut values = vec![("k00000".to_owned(), "end".to_owned())];
    values.extend((1..10_000).map(|i| (format!("k{i:05}"), format!("${{k{:05}}}", i - 1))));
    memory.replace(values)?;
    let began = Instant::now();
    let mut built = None;
    let info = allocation_counter::measure(|| {
        built = Some(Properties::builder().source(memory.clone()).build());
    });
    let props = built.unwrap()?;
    assert!(info.bytes_max < 64 << 20, "{} bytes", info.bytes_max);
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(props.get::<String>("k00060")?, "end");
    let error = props.get::<String>("k09999").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Reference);
    assert!(
        error.to_string().len() < 1_000,
        "a message for a person: {}",
        error.to_string().len()
    );
    // The same chain in reverse, closed to a cycle.
    let cycle = Memory::new();
    cycle.replace(
        (0..10_000).map(|i| (format!("k{i:05}"), format!("${{k{:05}}}", (i + 1) % 10_000))),
    )?;
    let props = Properties::builder().source(cycle).build()?;
    let error = props.get::<String>("k00000").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Reference);
    assert!(error.to_string().len() < 1_000, "{error}");
    Ok(())
}

#[test]
fn endlessly_nested_references_are_an_error() -> Result<(), Error> {
    let (memory, props) = with([]);
    let deep = format!("{}x{}", "${a:".repeat(5_000), "}".repeat(5_000));
    memory.set("x", deep)?;
    assert_eq!(
        props.get::<String>("x").unwrap_err().kind(),
        ErrorKind::Reference
    );
    memory.set("y", "${".repeat(100_000))?;
    let unclosed = props.get::<String>("y")?;
    assert!(unclosed == "${".repeat(100_000), "{}", unclosed.len());
    let began = Instant::now();
    memory.set("z", "${a".repeat(20_000) + &"}".repeat(20_000))?;
    drop(props.get::<String>("z"));
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
    Ok(())
}

#[test]
fn values_derived_from_a_secret_are_masked() -> Result<(), Error> {
    let (memory, props) = with([
        ("db.password", "hunter2"),
        ("url", "pg://me:${db.password}@h"),
        ("again", "<${url}>"),
        ("plain", "x"),
    ]);
    let (report, inbox) = reports();
    let _sub = props.on_change_under("", move |batch| report(format!("{batch:?}")))?;
    assert_eq!(props.get::<String>("again")?, "<pg://me:hunter2@h>");
    for key in ["db.password", "url", "again", "db", ""] {
        let explanation = props.explain(key);
        assert!(
            !format!("{explanation} {explanation:?}").contains("hunter2"),
            "{explanation}"
        );
        let error = props.get::<u32>(key).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
    assert!(props.explain("plain").to_string().contains('x'));
    memory.set("db.password", "hunter22")?;
    let seen = inbox.next();
    assert!(
        !seen.contains("hunter2") && seen.contains("again"),
        "{seen}"
    );
    let error = props.property::<u32>("again").build().unwrap_err();
    assert!(!error.to_string().contains("hunter2"), "{error}");
    Ok(())
}

#[test]
fn a_reference_to_a_rejected_target_keeps_the_last_good_value() -> Result<(), Error> {
    let (memory, props) = with([("limit", "${base}"), ("base", "5")]);
    let limit = props.property::<u32>("limit").build()?;
    let error = memory.set("base", "many").unwrap_err();
    assert_eq!(error.key().map(Key::as_str), Some("limit"));
    assert_eq!(
        (limit.get(), props.get::<u32>("base")?),
        (5, 5),
        "rejected as one"
    );
    // Only the key that caused the error is left out.
    assert!(
        memory
            .replace([("limit", "${base}"), ("base", "bad"), ("good", "1")])
            .is_err()
    );
    assert_eq!((limit.get(), props.get::<u32>("good")?), (5, 1));
    Ok(())
}

#[cfg(feature = "toml")]
#[test]
fn the_first_matching_case_of_a_list_is_the_value() -> Result<(), Error> {
    let text = br#"
        env = "test"
        unrelated = 1
        timeout = [
            { if = { env = "prod", zone = ["eu", "us"] }, value = 5 },
            { if = { env = "prod" }, value = "${base}0" },
            { value = 30 },
        ]
        open = [{ if = { env = "prod" }, value = 1 }]
        base = 7
    "#;
    let document = Format::toml().parse(text, &Origin::new("file", "app.toml"))?;
    let file = Memory::new();
    file.replace(
        document
            .iter()
            .map(|(key, value, _)| (key.to_string(), value.clone())),
    )?;
    let props = Properties::builder()
        .inline_callbacks()
        .source(file.clone())
        .build()?;
    let timeout = props.property::<u32>("timeout").build()?;
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&calls);
    let _sub = timeout.on_change(move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
    });
    let sees = |value, called| {
        assert_eq!(timeout.get(), value);
        assert_eq!(calls.load(Ordering::SeqCst), called);
    };
    sees(30, 0);
    file.set("unrelated", 2)?;
    sees(30, 0);
    file.set("env", "prod")?;
    sees(70, 1);
    file.set("zone", "eu")?;
    sees(5, 2);
    file.set("zone", "moon")?;
    sees(70, 3);
    file.set("base", 8)?;
    sees(80, 4);
    assert_eq!(props.get::<u32>("open")?, 1);
    file.set("env", "test")?;
    sees(30, 5);
    assert_eq!(props.get_opt::<u32>("open")?, None);
    Ok(())
}

#[test]
fn a_reference_that_becomes_a_value_together_with_its_target_is_counted_once() -> Result<(), Error>
{
    let (memory, props) = with([("a", "${b}"), ("b", "1"), ("c", "${a}"), ("d", "${b}")]);
    let (report, changes) = reports();
    let _all = props.on_change_under("", move |batch| {
        let keys = batch
            .changes()
            .iter()
            .map(|change| change.key().to_string());
        report(keys.collect::<Vec<_>>());
    })?;
    memory.replace([("a", "2"), ("b", "3"), ("c", "${a}"), ("d", "3")])?;
    assert_eq!(changes.next(), ["a", "b", "c", "d"]);
    let applied = props.transaction(|tx| {
        tx.set("c", "${b}")?;
        tx.set("d", "${c}")
    })?;
    assert_eq!(
        applied.changed, 1,
        "c reads 3 and not 2, d reads 3 as before"
    );
    changes.next();
    let applied = props.transaction(|tx| {
        tx.set("b", "4")?;
        tx.set("c", "5")?;
        tx.set("d", Value::Table([("e", "6")].into()))
    });
    assert!(applied.is_err(), "a value and a table at once");
    let applied = props.transaction(|tx| {
        tx.set("b", "4")?;
        tx.set("c", "5")?;
        tx.set("d", "6")
    })?;
    assert_eq!(applied.changed, 3);
    assert_eq!(changes.next(), ["b", "c", "d"]);
    // Nothing refers to it any more.
    assert_eq!(props.set("b", "7")?.changed, 1);
    assert_eq!(changes.next(), ["b"]);
    Ok(())
}

#[test]
fn an_unresolved_reference_is_an_error_of_the_keys_that_refer_to_it_and_of_no_other()
-> Result<(), Error> {
    let (memory, props) = with([
        ("host", "db"),
        ("url", "http://${host}"),
        ("page", "${url}/index"),
        ("fallback", "${host:none}"),
        ("nested", "${no.such:${host}}"),
        ("fine", "1"),
    ]);
    memory.set("list", vec!["a", "${host}"])?;
    memory.set("item", "${list.0}")?;
    memory.remove("host")?;
    assert_eq!(props.get_opt::<String>("host")?, None, "it is gone");
    for key in ["url", "page", "nested", "list", "item"] {
        let error = props.get::<Value>(key).unwrap_err();
        let part = if key == "list" { "list.1" } else { key };
        assert_eq!(
            (error.kind(), error.key().map(Key::as_str)),
            (ErrorKind::Reference, Some(part)),
            "{error}"
        );
        assert!(error.to_string().contains("`host`"), "{error}");
        assert!(error.origin().is_some(), "{error}");
        let explanation = props.explain(key);
        assert_eq!(explanation.value, None);
        assert_eq!(explanation.broken.unwrap().kind(), ErrorKind::Reference);
        assert!(props.get_opt::<Value>(key).is_err(), "it is not absent");
        assert!(props.snapshot().contains(key));
    }
    assert_eq!(props.get::<String>("fallback")?, "none");
    assert_eq!(props.get::<u32>("fine")?, 1);
    assert_eq!(props.get::<String>("list.0")?, "a");
    let error = props.get_opt::<String>("list.1").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Reference);
    assert_eq!(props.get_opt::<String>("list.2")?, None);
    assert_eq!(props.get_opt::<String>("url.port")?, None);
    memory.set("host", "new")?;
    assert_eq!(props.get::<String>("page")?, "http://new/index");
    assert_eq!(props.get::<String>("list.1")?, "new");
    Ok(())
}

#[test]
fn a_live_handle_keeps_its_last_good_value_while_its_reference_is_unresolved() -> Result<(), Error>
{
    let (memory, props) = with([("host", "a"), ("url", "http://${host}"), ("port", "1")]);
    let url = props.property::<String>("url").build()?;
    let defaulted = props
        .property::<String>("url")
        .default("default".to_owned())
        .build()?;
    let fallback = props.property::<String>("url").or_key("port").build()?;
    let mapped = url.map(|url| url.len());
    let (report, inbox) = reports();
    let _sub = url.on_change(move |change| report(change.new_value().clone()));
    let generation = props.generation();
    let applied = memory.remove("host").map(|()| props.generation())?;
    assert_eq!(applied, generation + 1, "the update is accepted");
    assert_eq!(props.get_opt::<String>("host")?, None);
    for handle in [&url, &defaulted, &fallback] {
        assert_eq!(handle.get(), "http://a");
    }
    assert_eq!(mapped.get(), 8);
    assert!(inbox.all().is_empty());
    let health = props.health();
    assert!(!health.is_up());
    assert_eq!(health.stale_properties.len(), 3, "{health:?}");
    for stale in &health.stale_properties {
        assert_eq!(stale.key.as_str(), "url");
        assert_eq!(stale.reason.kind(), ErrorKind::Reference);
        assert!(
            stale.reason.to_string().contains("`host`"),
            "{}",
            stale.reason
        );
        assert!(stale.reason.origin().is_some());
    }
    assert!(matches!(props.status(), Status::Stale { .. }));
    // An unrelated commit does not affect this.
    memory.set("port", "2")?;
    assert_eq!(props.health().stale_properties.len(), 3);
    drop(fallback);
    assert_eq!(props.health().stale_properties.len(), 2);
    memory.set("host", "b")?;
    assert_eq!(url.get(), "http://b");
    assert_eq!(mapped.get(), 8);
    assert_eq!(inbox.all(), ["http://b"]);
    let health = props.health();
    assert!(health.is_up(), "{health:?}");
    assert!(health.stale_properties.is_empty());
    Ok(())
}

#[test]
fn a_handle_on_an_item_of_a_list_keeps_its_value_while_a_reference_in_it_is_unresolved()
-> Result<(), Error> {
    let (memory, props) = with([("host", "a")]);
    memory.set("list", vec!["x", "<${host}>"])?;
    let item = |key: &str| {
        props
            .property::<String>(key)
            .default("default".to_owned())
            .build()
    };
    let (first, second, third) = (item("list.0")?, item("list.1")?, item("list.2")?);
    memory.remove("host")?;
    assert_eq!(
        (
            first.get().as_str(),
            second.get().as_str(),
            third.get().as_str()
        ),
        ("x", "<a>", "default")
    );
    let stale = props.health().stale_properties;
    let keys: Vec<&str> = stale.iter().map(|stale| stale.key.as_str()).collect();
    assert_eq!(keys, ["list.1"]);
    memory.set("host", "b")?;
    assert_eq!(second.get(), "<b>");
    assert!(props.health().is_up());
    Ok(())
}

#[derive(serde::Deserialize)]
struct Server {
    url: String,
    limit: u32,
}

#[test]
fn a_bound_struct_keeps_its_last_good_value_as_a_whole_while_a_reference_is_unresolved()
-> Result<(), Error> {
    let (memory, props) = with([
        ("host", "a"),
        ("server.url", "http://${host}"),
        ("server.limit", "1"),
    ]);
    let server = props.bind::<Server>("server").build()?;
    let limit = props.property::<u32>("server.limit").build()?;
    memory.remove("host")?;
    memory.set("server.limit", "2")?;
    assert_eq!(
        (server.load().url.as_str(), server.load().limit),
        ("http://a", 1)
    );
    assert_eq!(limit.get(), 2, "another handle on the same key follows");
    let stale = props.health().stale_properties;
    assert_eq!(stale.len(), 1);
    assert_eq!(stale[0].key.as_str(), "server");
    assert_eq!(stale[0].reason.key().map(Key::as_str), Some("server.url"));
    // Other errors are rejected as usual.
    let error = memory.set("server.limit", "many").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch, "{error}");
    memory.set("host", "b")?;
    assert_eq!(
        (server.load().url.as_str(), server.load().limit),
        ("http://b", 2)
    );
    assert!(props.health().is_up());
    Ok(())
}

#[test]
fn a_bad_field_beside_an_unresolved_reference_is_rejected() -> Result<(), Error> {
    let (memory, props) = with([
        ("host", "a"),
        ("server.url", "http://${host}"),
        ("server.limit", "1"),
    ]);
    let server = props.bind::<Server>("server").build()?;
    let rejected = props.transaction(|tx| {
        tx.unset("host")?;
        tx.set("server.limit", "many")
    });
    assert!(rejected.unwrap_err().to_string().contains("server.limit"));
    assert_eq!(props.get::<String>("host")?, "a", "as one");
    memory.remove("host")?;
    assert!(memory.set("server.limit", "many").is_err());
    assert_eq!(server.load().limit, 1);
    Ok(())
}

#[test]
fn a_handle_cannot_be_built_on_an_unresolved_reference_even_with_a_default() -> Result<(), Error> {
    let (memory, props) = with([("url", "http://${host}")]);
    memory.set("host", "a")?;
    let other = props.property::<String>("url").build()?;
    memory.remove("host")?;
    assert_eq!(other.get(), "http://a");
    for builder in [
        props.property::<String>("url"),
        props
            .property::<String>("url")
            .default("default".to_owned()),
        props.property::<String>("url").or_key("other"),
    ] {
        let error = builder.build().unwrap_err();
        assert_eq!(
            (error.kind(), error.key().map(Key::as_str)),
            (ErrorKind::Reference, Some("url"))
        );
    }
    // A read with a default returns the default and reports the value.
    assert_eq!(props.get_or("url", "default".to_owned()), "default");
    assert_eq!(
        props.health().rejected[0].error.kind(),
        ErrorKind::Reference
    );
    assert_eq!(props.health().broken_references.len(), 1);
    memory.set("host", "a")?;
    assert_eq!(props.property::<String>("url").build()?.get(), "http://a");
    assert!(props.health().broken_references.is_empty());
    Ok(())
}

#[test]
fn a_condition_whose_key_is_unresolved_is_an_error_of_the_contextual_value() -> Result<(), Error> {
    let (memory, props) = with([("region", "eu"), ("zone", "${region}")]);
    let case = |wanted: &str, value: i64| {
        let wanted = Value::Table([("zone", Value::from(wanted))].into());
        Value::Table([("if", wanted), ("value", Value::from(value))].into())
    };
    let last = Value::Table([("value", Value::from(9))].into());
    memory.set(
        "limit",
        Value::List(vec![case("eu", 1), case("us", 2), last].into()),
    )?;
    let limit = props.property::<u32>("limit").build()?;
    memory.remove("region")?;
    let error = props.get::<u32>("limit").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Reference);
    assert!(error.to_string().contains("`region`"), "{error}");
    assert_eq!(limit.get(), 1);
    assert_eq!(props.health().stale_properties.len(), 1);
    memory.set("region", "us")?;
    assert_eq!(limit.get(), 2);
    // An absent key is no unresolved reference: it has none of the wanted values.
    memory.remove("zone")?;
    assert_eq!(limit.get(), 9);
    assert!(props.health().is_up());
    Ok(())
}

#[test]
fn an_unresolved_reference_is_shown_by_a_dry_run_and_by_batches_and_snapshots() -> Result<(), Error>
{
    let (memory, props) = with([("host", "a"), ("url", "http://${host}")]);
    let url = props.property::<String>("url").build()?;
    let source = props.health().sources[0].source;
    let mut candidate = liveprops::Document::new();
    candidate.set("url", "http://${host}", liveprops::Origin::new("test", "1"))?;
    let checked = props.check(source, candidate)?;
    assert!(checked.rejected.is_empty());
    assert_eq!(checked.stale_properties.len(), 1);
    assert_eq!(
        checked.stale_properties[0].reason.key().map(Key::as_str),
        Some("url")
    );
    let error = checked.snapshot.get::<String>("url").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Reference);
    assert!(props.health().is_up(), "nothing has changed");

    let before = props.snapshot();
    let (report, inbox) = reports();
    let _sub = props.on_change_under("", move |batch| {
        let seen = batch.changes().iter();
        report(
            seen.map(|c| (c.key().to_string(), c.new_value().cloned()))
                .collect::<Vec<_>>(),
        );
    })?;
    memory.remove("host")?;
    assert_eq!(
        inbox.next(),
        [("host".to_owned(), None), ("url".to_owned(), None)]
    );
    assert_eq!(before.get::<String>("url")?, "http://a");
    let changes = props.snapshot().changes_since(&before);
    assert_eq!(changes.len(), 2);
    assert_eq!(
        changes[1].get::<String>().unwrap_err().kind(),
        ErrorKind::Reference
    );
    memory.set("host", "a")?;
    assert_eq!(inbox.next().len(), 2);
    assert_eq!(url.get(), "http://a");
    Ok(())
}

#[test]
fn a_start_needs_the_references_of_required_keys_and_later_they_are_reported() -> Result<(), Error>
{
    let schema = || Schema::new().declare(Schema::key::<String>("url").required());
    let memory = Memory::from([("url", "http://${host}")]);
    let built = Properties::builder()
        .schema(schema())
        .source(memory.clone())
        .build();
    assert_eq!(built.unwrap_err().kind(), ErrorKind::Reference);
    let optional = Schema::new().declare(Schema::key::<String>("url"));
    let builder = Properties::builder().schema(optional);
    let props = builder.source(memory.clone()).build()?;
    assert_eq!(props.health().broken_references.len(), 1);
    drop(props);
    memory.set("host", "a")?;
    let props = Properties::builder()
        .schema(schema())
        .source(memory.clone())
        .build()?;
    memory.remove("host")?;
    assert_eq!(
        props.get::<String>("url").unwrap_err().kind(),
        ErrorKind::Reference
    );
    assert_eq!(
        props.health().broken_references[0].key().map(Key::as_str),
        Some("url")
    );
    Ok(())
}

#[test]
fn a_roll_back_and_a_transaction_may_leave_a_reference_unresolved() -> Result<(), Error> {
    let memory = Memory::from([("url", "http://${host}")]);
    let props = Properties::builder()
        .history(8)
        .source(memory.clone())
        .build()?;
    let without_host = props.generation();
    props.set("host", "a")?;
    let with_host = props.generation();
    let url = props.property::<String>("url").build()?;
    props.rollback_to(without_host)?;
    assert_eq!(url.get(), "http://a");
    assert_eq!(props.health().stale_properties.len(), 1);
    assert_eq!(props.health().broken_references.len(), 1);
    props.rollback_to(with_host)?;
    assert!(props.health().is_up());
    props.unpin()?;
    assert!(props.health().is_up());
    props.transaction(|tx| {
        tx.remove("host")?;
        tx.set("other", 1)
    })?;
    assert_eq!(
        (url.get().as_str(), props.get::<u32>("other")?),
        ("http://a", 1)
    );
    assert_eq!(props.health().stale_properties.len(), 1);
    Ok(())
}

#[test]
fn unresolved_references_stay_as_written_if_the_builder_allows_it() -> Result<(), Error> {
    let memory = Memory::from([("host", "a"), ("url", "http://${host}/${path}")]);
    let props = Properties::builder()
        .keep_unresolved_references()
        .source(memory.clone())
        .build()?;
    let url = props.property::<String>("url").build()?;
    assert_eq!(url.get(), "http://a/${path}");
    memory.remove("host")?;
    assert_eq!(url.get(), "http://${host}/${path}");
    assert!(props.health().is_up());
    Ok(())
}

#[test]
fn single_raw_values_contain_no_references_whether_they_are_secret_or_not() -> Result<(), Error> {
    let text = "x${y:z}w $${a} $$$${b";
    let env =
        Env::prefix("APP_").vars([("APP_PASSWORD", text), ("APP_NAME", text), ("APP_Y", "1")]);
    let args = [format!("--arg={text}"), format!("--arg.secret={text}")];
    let args = [args[0].replace("--arg=", "--plain="), args[1].clone()];
    let props = Properties::builder()
        .source(env)
        .source(Args::from(args))
        .build()?;
    for key in ["password", "name", "plain", "arg.secret"] {
        assert_eq!(props.get::<String>(key)?, text, "{key}");
    }
    let layers = props.explain("name").layers.into_iter();
    let values: Vec<LayerValue> = layers.map(|layer| layer.value).collect();
    assert!(
        values.contains(&LayerValue::Value(format!("{text:?}"))),
        "unchanged: {values:?}"
    );
    Ok(())
}

#[cfg(feature = "dotenv")]
#[test]
fn single_quotes_and_the_escape_of_dotenv_are_literal() -> Result<(), Error> {
    let text = br#"
        A=1
        SINGLE='${a} $${a} $a'
        DOUBLE="\${a}"
        MIXED="\${a} ${a}"
        DOLLAR="US\$${a}"
        DOLLARS="US$\${a} \$\${a} \$\$${a}"
        ESCAPED="$${a}"
        EXPANDED="<${a}>"
        BARE=<${a}>
        BARE_LITERAL=\${a}
        BARE_MIXED=x\${a} ${a} $\${a} C:\$bin \a # c
        PASSWORD='x${y:z}w'
    "#;
    let document = Format::dotenv().parse(text, &Origin::new("file", ".env"))?;
    let file = Memory::new();
    let values = document.iter();
    file.replace(values.map(|(key, value, _)| (key.to_string(), value.clone())))?;
    let props = Properties::builder().source(file).build()?;
    for (key, expected) in [
        ("single", "${a} $${a} $a"),
        ("double", "${a}"),
        ("mixed", "${a} 1"),
        ("dollar", "US$1"),
        ("dollars", "US$${a} $${a} $$1"),
        ("escaped", "${a}"),
        ("expanded", "<1>"),
        ("bare", "<1>"),
        ("bare_literal", "${a}"),
        ("bare_mixed", "x${a} 1 $${a} C:\\$bin \\a"),
        ("password", "x${y:z}w"),
    ] {
        assert_eq!(props.get::<String>(key)?, expected, "{key}");
    }
    Ok(())
}

#[test]
fn a_source_declares_whether_its_values_contain_references() -> Result<(), Error> {
    let vars = [("APP_A", "1"), ("APP_B", "<${a}>")];
    let env = || Env::prefix("APP_").vars(vars);
    let read = |source: Box<dyn liveprops::Source>| -> Result<String, Error> {
        let props = Properties::builder().source(source).build()?;
        props.get::<String>("b")
    };
    assert_eq!(read(Box::new(env()))?, "<${a}>");
    assert_eq!(read(Box::new(env().with_references()))?, "<1>");
    let followed = env().with(|policy| policy.with_references());
    assert_eq!(read(Box::new(followed))?, "<1>");
    let optional = env().with(|policy| policy.optional());
    assert_eq!(read(Box::new(optional))?, "<${a}>");
    let args = Args::from(["--a=1", "--b=<${a}>"]);
    assert_eq!(read(Box::new(args.clone()))?, "<${a}>");
    assert_eq!(read(Box::new(args.with_references()))?, "<1>");

    // The result is the same for values at the start, of a document and of single changes.
    let memory = Memory::from([("b", "<${a}>")]);
    let source = memory.clone().with(|policy| policy.without_references());
    let props = Properties::builder().source(source).build()?;
    assert_eq!(props.get::<String>("b")?, "<${a}>");
    memory.set("b", "$${a}")?;
    assert_eq!(props.get::<String>("b")?, "$${a}");
    memory.set("list", vec!["${a}", "$"])?;
    assert_eq!(props.get::<Vec<String>>("list")?, ["${a}", "$"]);
    memory.replace([("b", "${a}"), ("a", "1")])?;
    assert_eq!(props.get::<String>("b")?, "${a}");
    // Another source may refer to them, and the program may as well.
    props.set("c", "${b} ${a}")?;
    assert_eq!(props.get::<String>("c")?, "${a} 1");
    let source = props.health().sources[0].source;
    let mut candidate = liveprops::Document::new();
    candidate.set("b", "${c}", liveprops::Origin::new("test", "1"))?;
    let checked = props.check(source, candidate)?;
    assert_eq!(checked.snapshot.get::<String>("b")?, "${c}");
    Ok(())
}

#[test]
fn values_without_references_stay_so_in_the_cache() -> Result<(), Error> {
    struct Store(bool);
    impl liveprops::Source for Store {
        fn origin(&self) -> liveprops::Origin {
            liveprops::Origin::new("store", "a")
        }
        fn load(&self) -> Result<liveprops::Document, Error> {
            if !self.0 {
                return Err(Error::new(ErrorKind::Unavailable, "down"));
            }
            let mut document = liveprops::Document::new();
            document.set("b", "<$${a}${a}>", self.origin())?;
            Ok(document)
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let start = |is_up| {
        let store = Store(is_up).with(|policy| policy.cached().without_references());
        Properties::builder()
            .state_dir(dir.path())
            .source(store)
            .build()
    };
    for is_up in [true, false] {
        assert_eq!(start(is_up)?.get::<String>("b")?, "<$${a}${a}>");
    }
    Ok(())
}

#[cfg(feature = "dotenv")]
#[test]
fn quotes_of_a_dotenv_file_without_references_escape_nothing() -> Result<(), Error> {
    struct Dotenv;
    impl liveprops::Source for Dotenv {
        fn origin(&self) -> liveprops::Origin {
            liveprops::Origin::new("dotenv", "a")
        }
        fn load(&self) -> Result<liveprops::Document, Error> {
            let text = b"A='${b}'\nB=\"\\${a} ${a}\"\nC=${a}\nD=$${a}";
            Format::dotenv().parse(text, &self.origin())
        }
    }
    let source = Dotenv.with(|policy| policy.without_references());
    let props = Properties::builder().source(source).build()?;
    for (key, expected) in [
        ("a", "${b}"),
        ("b", "${a} ${a}"),
        ("c", "${a}"),
        ("d", "$${a}"),
    ] {
        assert_eq!(props.get::<String>(key)?, expected, "{key}");
    }
    Ok(())
}

/// Creates a contextual value with cases for values of `env`.
fn cases<const N: usize>(cases: [(&str, Value); N]) -> Value {
    let case = |(wanted, value): (&str, Value)| {
        let wanted = Value::Table([("env", Value::from(wanted))].into());
        Value::Table([("if", wanted), ("value", value)].into())
    };
    Value::List(cases.into_iter().map(case).collect())
}

#[test]
fn a_contextual_value_without_a_matching_case_is_absent() -> Result<(), Error> {
    let memory = Memory::from([("env", "dev")]);
    memory.set("limit", cases([("prod", 5.into())]))?;
    memory.set("copy", "${limit}")?;
    memory.set("or", "${limit:none}")?;
    let props = Properties::builder()
        .inline_callbacks()
        .source(memory.clone())
        .build()?;
    let limit = props.property::<u32>("limit").default(7).build()?;
    let (report, inbox) = reports();
    let _sub = limit.on_change(move |change| report(*change.new_value()));
    assert_eq!(limit.get(), 7);
    let absent = |props: &Properties| -> Result<(), Error> {
        assert_eq!(props.get_opt::<u32>("limit")?, None);
        assert_eq!(
            props.get::<u32>("limit").unwrap_err().kind(),
            ErrorKind::NotFound
        );
        assert!(!props.snapshot().contains("limit"));
        assert!(
            !props
                .snapshot()
                .keys()
                .iter()
                .any(|key| key.as_str() == "limit")
        );
        assert_eq!(
            props.get::<String>("copy").unwrap_err().kind(),
            ErrorKind::Reference
        );
        assert_eq!(props.get::<String>("or")?, "none");
        Ok(())
    };
    absent(&props)?;
    let before = props.snapshot();
    memory.set("env", "prod")?;
    assert_eq!((limit.get(), inbox.all()), (5, vec![5]));
    assert_eq!(props.get::<String>("or")?, "5");
    assert_eq!(props.get::<u32>("copy")?, 5);
    let changes = props.snapshot().changes_since(&before);
    let keys: Vec<&str> = changes.iter().map(|change| change.key().as_str()).collect();
    assert_eq!(keys, ["copy", "env", "limit", "or"]);
    memory.set("env", "dev")?;
    assert_eq!((limit.get(), inbox.all()), (7, vec![7]));
    absent(&props)?;
    // A handle that needs the key rejects the change, as it does a removal.
    memory.set("env", "prod")?;
    let required = props.property::<u32>("limit").build()?;
    assert_eq!(
        memory.set("env", "dev").unwrap_err().kind(),
        ErrorKind::NotFound
    );
    assert_eq!(required.get(), 5);
    drop(required);
    // The value itself may change while no case holds.
    memory.set("env", "dev")?;
    memory.set("limit", cases([("test", 6.into()), ("dev", 8.into())]))?;
    assert_eq!(limit.get(), 8);
    memory.set("limit", cases([("test", 6.into())]))?;
    memory.remove("limit")?;
    memory.set("env", "test")?;
    absent(&props)?;
    memory.set("limit", 9)?;
    assert_eq!(limit.get(), 9);
    memory.set("env", "dev")?;
    assert_eq!(limit.get(), 9);
    Ok(())
}

#[test]
fn below_a_contextual_value_without_a_matching_case_the_weaker_layers_apply() -> Result<(), Error> {
    let lowest = Memory::from([("base", "1")]);
    let low = Memory::new();
    let high = Memory::from([("env", "dev")]);
    high.set("limit", cases([("prod", 5.into())]))?;
    let props = Properties::builder()
        .inline_callbacks()
        .default("limit", 7)
        .source(lowest.clone())
        .source(low.clone())
        .source(high.clone())
        .build()?;
    let limit = props.property::<u32>("limit").build()?;
    let (report, inbox) = reports();
    let _sub = props.on_change_under("limit", move |batch| {
        report(
            batch
                .changes()
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>(),
        );
    })?;
    let sees = |value: u32, layer: usize, changes: usize| {
        assert_eq!(limit.get(), value);
        assert_eq!(props.get::<u32>("limit").unwrap(), value);
        let explanation = props.explain("limit");
        let winners: Vec<usize> = (0..explanation.layers.len())
            .filter(|at| explanation.layers[*at].wins)
            .collect();
        assert_eq!(winners, [layer], "{explanation}");
        assert_eq!(inbox.all().len(), changes);
    };
    // The override layer is the strongest of five.
    sees(7, 4, 0);
    lowest.set("limit", "${base}")?;
    sees(1, 3, 1);
    lowest.set("base", 2)?;
    sees(2, 3, 1);
    low.set("limit", cases([("test", 3.into())]))?;
    sees(2, 3, 0);
    high.set("env", "test")?;
    sees(3, 2, 1);
    high.set("env", "prod")?;
    sees(5, 1, 1);
    lowest.set("limit", 4)?;
    sees(5, 1, 0);
    high.set("env", "dev")?;
    sees(4, 3, 1);
    assert!(high.unset("limit").is_err(), "a tombstone hides them all");
    Ok(())
}

#[test]
fn a_table_shows_below_a_contextual_value_without_a_matching_case() -> Result<(), Error> {
    let low = Memory::from([("pool.size", "${n}"), ("pool.name", "x"), ("n", "3")]);
    let high = Memory::from([("env", "prod"), ("copy", "${pool.size:none}")]);
    high.set("pool", cases([("prod", 5.into())]))?;
    let props = Properties::builder()
        .inline_callbacks()
        .source(low.clone())
        .source(high.clone())
        .build()?;
    let (report, inbox) = reports();
    let _sub = props.on_change_under("", move |batch| {
        let keys = batch
            .changes()
            .iter()
            .map(|change| change.key().to_string());
        report(keys.collect::<Vec<_>>());
    })?;
    let sees = |pool: Option<u32>, size: Option<u32>, copy: &str| {
        assert_eq!(props.get::<u32>("pool").ok(), pool);
        assert_eq!(props.get::<u32>("pool.size").ok(), size);
        assert_eq!(props.get::<String>("copy").unwrap(), copy);
    };
    sees(Some(5), None, "none");
    high.set("env", "dev")?;
    sees(None, Some(3), "3");
    assert_eq!(
        inbox.next(),
        ["copy", "env", "pool", "pool.name", "pool.size"]
    );
    low.set("n", 4)?;
    sees(None, Some(4), "4");
    assert_eq!(inbox.next(), ["copy", "n", "pool.size"]);
    low.set("pool.more", "${n}")?;
    assert_eq!(inbox.next(), ["pool.more"]);
    high.set("env", "prod")?;
    sees(Some(5), None, "none");
    assert_eq!(
        inbox.next(),
        ["copy", "env", "pool", "pool.more", "pool.name", "pool.size"]
    );
    low.set("n", 5)?;
    assert_eq!(inbox.next(), ["n"]);
    high.set("env", "dev")?;
    sees(None, Some(5), "5");
    Ok(())
}

/// The tree built at once must read as the tree built step by step, contextual values and all.
#[test]
fn contextual_values_do_not_depend_on_the_order_of_changes() -> Result<(), Error> {
    let keys = ["a", "a.x", "b", "env", "c"];
    let mut random = support::Random(0x5eed);
    for round in 0..60 {
        let layers = [Memory::new(), Memory::new(), Memory::new()];
        let build = || {
            let sources = layers.clone();
            Properties::builder()
                .default("b", "d")
                .sources(sources)
                .build()
        };
        let props = build()?;
        for step in 0..30 {
            let key = keys[random.below(keys.len() as u64) as usize];
            let layer = &layers[random.below(3) as usize];
            let plain = ["1", "2", "${b}", "${a.x:q}", "${c}"][random.below(5) as usize];
            let value = match random.below(3) {
                0 => cases([("1", plain.into()), ("2", "${c:z}".into())]),
                _ => Value::from(plain),
            };
            match random.below(5) {
                0 => layer.remove(key)?,
                1 => layer.unset(key).unwrap_or_default(),
                // A key that is both a value and a table is rejected, as expected.
                _ => drop(layer.set(key, value)),
            }
            let fresh = build()?;
            let read = |props: &Properties, key: &str| match props.get_opt::<String>(key) {
                Ok(value) => Ok(value),
                Err(error) => Err(error.kind()),
            };
            for key in keys {
                let (now, rebuilt) = (read(&props, key), read(&fresh, key));
                assert_eq!(
                    now,
                    rebuilt,
                    "{key}, round {round}, step {step}: {:?}",
                    props.explain(key)
                );
            }
            let mut changes = props.snapshot().changes_since(&fresh.snapshot());
            // The error of a cycle begins at any of its keys.
            changes.retain(|change| change.old_value().is_some() || change.new_value().is_some());
            assert!(
                changes.is_empty(),
                "round {round}, step {step}: {changes:?}"
            );
        }
    }
    Ok(())
}

#[test]
fn the_missing_key_of_a_reference_in_a_secret_is_named_and_the_secret_is_not() -> Result<(), Error>
{
    let (_memory, props) = with([
        ("db.url", "postgres://me:hunter2@${db.host}/x"),
        ("db.password", "${vault.pw}"),
        ("api.token", "hunter2-${API_TOKEN}"),
        ("session.secret", "${OLD_PASSWORD}"),
        ("copy", "${db.url}"),
    ]);
    for (key, missing) in [
        ("db.url", "`db.host`"),
        ("db.password", "`vault.pw`"),
        ("api.token", "`API_TOKEN`"),
        ("session.secret", "`OLD_PASSWORD`"),
        ("copy", "`db.host`"),
    ] {
        let error = props.get::<String>(key).unwrap_err();
        assert!(error.to_string().contains(missing), "{error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
        let explanation = props.explain(key);
        assert!(explanation.to_string().contains(missing), "{explanation}");
        assert!(
            !explanation.to_string().contains("hunter2"),
            "{explanation}"
        );
        let broken = props.health().broken_references;
        let broken = broken
            .iter()
            .find(|error| error.key().map(Key::as_str) == Some(key));
        let broken = broken.unwrap().to_string();
        assert!(broken.contains(missing), "{broken}");
        assert!(!broken.contains("hunter2"), "{broken}");
    }
    Ok(())
}

#[test]
fn a_part_of_a_secret_that_looks_like_a_reference_is_not_shown() -> Result<(), Error> {
    let memory = Memory::from([("word", "hunter2")]);
    for (key, secret) in [
        ("a.password", "x${hunter2}y"),
        ("b.password", "hu${nter2}"),
        ("c.password", "${Hunter2Zq81}"),
        ("d.password", "correct${horse}staple"),
        ("e.password", "x${q1.Z9x}"),
        ("f.password", "x${db.hunter2:${nter2}}"),
        ("g.password", "${${word}.z}"),
        ("h.password", "${correct horse battery}"),
    ] {
        memory.set(key, secret)?;
    }
    let props = Properties::builder().source(memory).build()?;
    let health = props.health();
    let hidden = ["unter2", "nter2", "horse", "Z9x", "Zq81"];
    for key in ["a", "b", "c", "d", "e", "f", "g"] {
        let key = format!("{key}.password");
        let mut texts = vec![props.explain(&key).to_string()];
        texts.push(props.get::<String>(&key).unwrap_err().to_string());
        texts.extend(health.broken_references.iter().map(Error::to_string));
        for text in texts {
            assert!(!hidden.iter().any(|part| text.contains(part)), "{text}");
        }
    }
    Ok(())
}

#[test]
fn a_broken_reference_names_the_key_that_is_spelled_otherwise() -> Result<(), Error> {
    let (_memory, props) = with([
        ("b", "1"),
        ("db.host", "h"),
        ("x", "${B}"),
        ("y", "${DB__HOST}"),
    ]);
    for (key, meant) in [("x", "did you mean `b`?"), ("y", "did you mean `db.host`?")] {
        let error = props.get::<String>(key).unwrap_err().to_string();
        assert!(error.contains(meant), "{error}");
    }
    Ok(())
}

#[test]
fn an_error_about_a_referred_value_names_where_the_value_comes_from() -> Result<(), Error> {
    let lower = Memory::named("lower");
    lower.replace([("q", "five"), ("part", "x")])?;
    let (memory, _) = with([
        ("a", "${q}"),
        ("b", "${a}"),
        ("c", "1${part}"),
        ("s.n", "${q}"),
    ]);
    memory.set("d", vec!["1", "${q}"])?;
    let props = Properties::builder().source(lower).source(memory).build()?;
    let origin = |key: &str| props.explain(key).origin.unwrap().to_string();
    for (key, from) in [("a", "q"), ("b", "q"), ("c", "part")] {
        let error = props.get::<u32>(key).unwrap_err();
        let text = error.to_string();
        assert_eq!(error.kind(), ErrorKind::Mismatch);
        assert!(
            text.contains(&format!("`{from}` ({})", origin(from))),
            "{text}"
        );
        assert_eq!(
            error.origin().map(ToString::to_string).as_deref(),
            Some(&*origin(key)),
            "{text}"
        );
    }
    let error = props.get::<Vec<u32>>("d").unwrap_err().to_string();
    assert!(error.contains("`q`"), "{error}");
    type Map = std::collections::BTreeMap<String, u32>;
    let error = props.get::<Map>("s").unwrap_err().to_string();
    assert!(error.contains("`q`"), "{error}");
    Ok(())
}

/// A contextual value of one case.
fn case_if(key: &str, wanted: impl Into<Value>, value: impl Into<Value>) -> Value {
    let wanted = Value::Table([(key, wanted)].into());
    let fields = [("if", wanted), ("value", value.into())];
    Value::List([Value::Table(fields.into())].into())
}

#[test]
fn a_condition_compares_as_the_type_of_the_wanted_value_reads_the_key() -> Result<(), Error> {
    let memory = Memory::new();
    memory.set("debug", case_if("dbg", true, "yes"))?;
    memory.set("quiet", case_if("dbg", false, "yes"))?;
    memory.set("http", case_if("port", 80, "yes"))?;
    memory.set("half", case_if("ratio", 0.5, "yes"))?;
    memory.set(
        "any",
        case_if("port", Value::List([443.into(), 80.into()].into()), "yes"),
    )?;
    memory.set("text", case_if("port", "80", "yes"))?;
    let props = Properties::builder().source(memory.clone()).build()?;
    let holds = |key: &str| props.get_opt::<String>(key).map(|value| value.is_some());
    for text in ["on", "1", "yes", "TRUE", " true ", "t"] {
        memory.set("dbg", text)?;
        assert_eq!(props.get::<bool>("dbg").ok(), Some(true), "{text}");
        assert!(holds("debug")?, "{text}");
        assert!(!holds("quiet")?, "{text}");
    }
    for text in ["off", "0", "No", "FALSE"] {
        memory.set("dbg", text)?;
        assert!(holds("quiet")?, "{text}");
        assert!(!holds("debug")?, "{text}");
    }
    memory.set("dbg", "maybe")?;
    assert!(!holds("debug")? && !holds("quiet")?);
    for text in ["80", "080", " 80 ", "0x50", "8_0"] {
        memory.set("port", text)?;
        assert_eq!(props.get::<u16>("port")?, 80, "{text}");
        assert!(holds("http")? && holds("any")?, "{text}");
        assert_eq!(holds("text")?, text == "80", "a text is compared as text");
    }
    memory.set("port", 80)?;
    assert!(holds("http")? && holds("any")? && holds("text")?);
    memory.set("port", 80.5)?;
    assert!(!holds("http")? && !holds("text")?);
    for text in ["0.5", ".5", "5e-1", "0.50"] {
        memory.set("ratio", text)?;
        assert_eq!(holds("half")?, props.get::<f64>("ratio").is_ok(), "{text}");
    }
    Ok(())
}

#[test]
fn an_error_about_a_list_of_malformed_cases_names_the_fault() -> Result<(), Error> {
    let table = |fields: Vec<(&str, Value)>| Value::Table(fields.into_iter().collect());
    let wanted = || table(vec![("env", "prod".into())]);
    for (first, fault) in [
        (table(vec![("iff", wanted()), ("value", 1.into())]), "`iff`"),
        (table(vec![("if", wanted()), ("vale", 1.into())]), "`vale`"),
        (
            table(vec![
                ("if", wanted()),
                ("value", 1.into()),
                ("note", 1.into()),
            ]),
            "`note`",
        ),
        (table(vec![("if", wanted())]), "no `value`"),
        (
            table(vec![("if", "prod".into()), ("value", 1.into())]),
            "an `if` that is no table",
        ),
    ] {
        let memory = Memory::new();
        memory.set(
            "t",
            Value::List([table(vec![("value", 3.into())]), first].into()),
        )?;
        let props = Properties::builder().source(memory).build()?;
        let error = props.get::<u32>("t").unwrap_err();
        let text = error.to_string();
        assert_eq!(error.kind(), ErrorKind::Mismatch, "{text}");
        assert!(text.contains(fault) && text.contains("case 1"), "{text}");
        // A program that reads a list gets the list.
        assert!(props.get::<Vec<Value>>("t").is_ok());
    }
    Ok(())
}

#[test]
fn a_secret_that_is_a_reference_makes_the_referenced_key_secret() -> Result<(), Error> {
    let (_memory, props) = with([
        ("w", "zebra"),
        ("between", "${w}"),
        ("v", "${between}"),
        ("part", "lion"),
        ("mixed", "a${part}b"),
    ]);
    props.get::<liveprops::Secret<String>>("v")?;
    for key in ["v", "between", "w"] {
        let message = props.explain(key).to_string();
        assert!(!message.contains("zebra"), "{message}");
    }
    let before = props.snapshot();
    props.set("other", "tiger")?;
    props.set("refers", "${other}")?;
    for change in props.snapshot().changes_since(&before) {
        if change.key().as_str() == "refers" {
            change.get::<liveprops::Secret<String>>()?;
        }
    }
    assert!(!props.explain("other").to_string().contains("tiger"));
    props.get::<liveprops::Secret<String>>("mixed")?;
    assert!(!props.explain("mixed").to_string().contains("lion"));
    assert!(props.explain("part").to_string().contains("lion"));
    Ok(())
}

#[test]
fn the_first_broken_reference_of_a_text_decides_whatever_else_changes() -> Result<(), Error> {
    for also_changes in [false, true] {
        let (memory, props) = with([("b", "1"), ("c", "x")]);
        let unresolved = |text: &str| -> Result<bool, Error> {
            props.transaction(|tx| {
                if also_changes {
                    tx.set("b", "x${y")?;
                }
                tx.set("a", text)
            })?;
            let error = props.get::<String>("a").unwrap_err();
            Ok(error.to_string().contains("no layer defines"))
        };
        // `b.x` is undefined, since `b` is a text.
        assert!(unresolved("${b.x}${a}")?, "{also_changes}");
        assert!(unresolved("${c}${b.x}${a}")?, "{also_changes}");
        assert!(!unresolved("${c}${a}${b.x}")?, "{also_changes}");
        drop(memory);
    }
    Ok(())
}

#[test]
fn a_cycle_through_a_name_that_is_itself_a_reference_ends_when_the_name_changes() {
    let (memory, props) = with([("b", "a"), ("c", "1")]);
    memory.set("a", "${${b}}").unwrap();
    let broken = props.get::<String>("a").unwrap_err();
    assert_eq!(broken.kind(), ErrorKind::Reference);
    memory.set("b", "c").unwrap();
    assert_eq!(props.get::<String>("a").unwrap(), "1");
}

#[test]
fn a_reference_follows_its_key_into_a_table_and_out_again() {
    let (memory, props) = with([("a", "${t:none}")]);
    assert_eq!(props.get::<String>("a").unwrap(), "none");
    memory.set("t.x", 1).unwrap();
    let broken = props.get::<String>("a").unwrap_err();
    assert_eq!(broken.kind(), ErrorKind::Reference);
    memory.remove("t.x").unwrap();
    assert_eq!(props.get::<String>("a").unwrap(), "none");
}

#[test]
fn a_handle_on_an_item_follows_although_another_item_of_the_list_is_broken() -> Result<(), Error> {
    let empty = || Value::Table([("a", 1); 0].into());
    for value in [Value::from("x"), Value::from(vec![1]), empty()] {
        let memory = Memory::new();
        memory.set("l", vec!["${missing}"])?;
        let props = Properties::builder().source(memory).build()?;
        let item = props.property::<Value>("l.1");
        let item = item.default(Value::from("default")).build()?;
        props.set("l.1", value.clone())?;
        assert_eq!(props.get::<Value>("l.1")?, value);
        assert_eq!(item.get(), value);
    }
    Ok(())
}

#[test]
fn a_broken_reference_inside_a_list_is_reported_at_its_item() -> Result<(), Error> {
    let table = |name: &str, value: &str| Value::Table([(name, Value::from(value))].into());
    let list = |items: Vec<Value>| Value::from(items);
    let cases = [
        ("x.1", list(vec!["fine".into(), "${missing}".into()])),
        (
            "x.1",
            list(vec!["${fine}".into(), "a ${fine} and ${missing}".into()]),
        ),
        (
            "x.0.1",
            list(vec![list(vec![1.into(), "${missing}".into()])]),
        ),
        (
            "x.1.port",
            list(vec![1.into(), table("port", "${missing}")]),
        ),
        ("x.0.\"a.b\"", list(vec![table("a.b", "${table}")])),
        ("x.2", list(vec![1.into(), 2.into(), "${broken}".into()])),
        ("x", "${missing}".into()),
    ];
    for (at, value) in cases {
        let (memory, props) = with([("fine", "1"), ("table.a", "1"), ("broken", "${gone}")]);
        memory.set("x", value)?;
        let key = |error: Error| error.key().map(|key| key.as_str().to_owned());
        let at = Some(at.to_owned());
        let error = props.get::<Value>("x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Reference);
        assert!(
            error
                .to_string()
                .starts_with(&format!("`{}`", at.as_deref().unwrap())),
            "{error}"
        );
        assert_eq!(key(error), at);
        assert_eq!(key(props.explain("x").broken.unwrap()), at);
        let broken = props.health().broken_references;
        assert!(broken.into_iter().any(|error| key(error) == at));
        let handle = props.property::<Vec<Value>>("x").build();
        assert_eq!(key(handle.unwrap_err()), at);
        let item = props.get::<Value>(at.as_deref().unwrap()).unwrap_err();
        assert_eq!(key(item), at);
    }
    Ok(())
}

#[test]
fn an_error_of_a_broken_target_shows_its_cause_once() -> Result<(), Error> {
    let (memory, props) = with([]);
    memory.set("url", "http://${host}")?;
    memory.set("through", "see ${url}")?;
    memory.set("further", "${through}")?;
    memory.set("list", vec!["${through}"])?;
    for key in ["through", "further", "list"] {
        let error = props.get::<Value>(key).unwrap_err();
        let mut shown = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(inner) = cause {
            shown += &inner.to_string();
            cause = inner.source();
        }
        assert_eq!(
            shown.matches("refers to `host`").count(),
            1,
            "{key}: {shown}"
        );
    }
    Ok(())
}
