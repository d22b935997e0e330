//! `${references}` in values: what they become, who is told, and what is refused (LAY-6; faults
//! F21 and F22).
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

#[cfg(feature = "toml")]
use std::sync::Arc;
#[cfg(feature = "toml")]
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use liveprops::sources::Memory;
use liveprops::{Error, ErrorKind, Properties, Value};
#[cfg(feature = "toml")]
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
        ("${none}", "${none}"),
        ("x ${none} ${host}", "x ${none} db"),
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
fn a_value_that_is_one_reference_takes_over_the_type() -> Result<(), Error> {
    let (memory, props) = with([]);
    memory.set("n", 42)?;
    memory.set("list", vec![1, 2, 3])?;
    memory.set("copy", "${list}")?;
    memory.set("item", "${list.1}")?;
    memory.set("m", "${n}")?;
    memory.set("deep", vec!["${n}", "x${n}"])?;
    assert_eq!(props.get::<Vec<u32>>("copy")?, [1, 2, 3]);
    assert_eq!(props.get::<Value>("m")?, Value::Int(42));
    assert_eq!(props.get::<u32>("item")?, 2);
    assert_eq!(props.get::<Vec<String>>("deep")?, ["42", "x42"]);
    memory.set("bad", "x${list}")?;
    let error = props.get::<String>("bad").unwrap_err();
    assert_eq!(
        (error.kind(), error.key()),
        (ErrorKind::Reference, Some("bad"))
    );
    Ok(())
}

// Archaius 198: an interpolated value does not follow its reference.
#[test]
fn a_dependent_fires_once_for_a_change_of_what_it_refers_to_and_unrelated_ones_never()
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
            handle.on_change(move |change| report((key, change.new.clone())))
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
    // The default of a reference that is not taken is no dependency that fires.
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
    assert_eq!(props.get::<String>("greeting")?, "hello ${name}");
    Ok(())
}

#[test]
fn a_cycle_is_an_error_of_its_keys_alone_and_names_the_way_around() -> Result<(), Error> {
    let (memory, props) = with([("fine", "1"), ("user", "${a}"), ("a", "${b}"), ("b", "x")]);
    assert_eq!(props.get::<String>("user")?, "x");
    memory.set("b", "${c:1}")?;
    // The cycle appears only with an override, across two layers.
    props.set("c", "${a}")?;
    for key in ["a", "b", "c"] {
        let error = props.get::<String>(key).unwrap_err();
        assert_eq!(
            (error.kind(), error.key()),
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
        (error.kind(), error.key()),
        (ErrorKind::Reference, Some("user"))
    );
    assert_eq!(props.get::<u32>("fine")?, 1, "nobody else suffers");
    assert_eq!(props.get_or("a", "default".to_owned()), "default");
    props.remove("c")?;
    assert_eq!(props.get::<String>("user")?, "1", "and it heals");
    memory.set("self", "${self}")?;
    let error = props.get::<String>("self").unwrap_err();
    assert!(error.to_string().contains("self -> self"), "{error}");
    Ok(())
}

#[test]
fn a_cycle_that_a_live_handle_would_see_is_refused() -> Result<(), Error> {
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

// What a reference reads must not depend on the order in which things came to be.
#[test]
fn a_reference_to_a_place_that_turns_from_nothing_into_a_table_and_back_follows()
-> Result<(), Error> {
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
fn resolving_step_by_step_agrees_with_resolving_at_once() -> Result<(), Error> {
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
                // A value and a table at once is refused, which is fine.
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
fn thirty_doublings_are_refused_quickly_and_take_no_memory() -> Result<(), Error> {
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
    // The same chain the other way round, and closed into one cycle.
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
fn references_nested_in_each_other_without_end_are_an_error() -> Result<(), Error> {
    let (memory, props) = with([]);
    let deep = format!("{}x{}", "${a:".repeat(5_000), "}".repeat(5_000));
    memory.set("x", deep)?;
    assert_eq!(
        props.get::<String>("x").unwrap_err().kind(),
        ErrorKind::Reference
    );
    memory.set("y", "${".repeat(100_000))?;
    assert!(props.get::<String>("y").is_ok() || props.get::<String>("y").is_err());
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
fn what_is_derived_from_a_secret_is_masked_where_the_secret_is() -> Result<(), Error> {
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
        let told = props.explain(key);
        assert!(!format!("{told} {told:?}").contains("hunter2"), "{told}");
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
fn a_reference_whose_target_is_refused_keeps_the_last_good_value() -> Result<(), Error> {
    let (memory, props) = with([("limit", "${base}"), ("base", "5")]);
    let limit = props.property::<u32>("limit").build()?;
    let error = memory.set("base", "many").unwrap_err();
    assert_eq!(error.key(), Some("limit"));
    assert_eq!(
        (limit.get(), props.get::<u32>("base")?),
        (5, 5),
        "refused as one"
    );
    // Of several keys only the one that led to the trouble is left out.
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
fn of_a_list_of_cases_the_first_that_holds_is_the_value() -> Result<(), Error> {
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
    assert_eq!(
        props.get::<u32>("open").unwrap_err().kind(),
        ErrorKind::Reference
    );
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
        tx.set(
            "d",
            Value::Table(Box::new([("e".into(), Value::from("6"))].into())),
        )
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
