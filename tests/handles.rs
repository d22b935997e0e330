//! Live handles: their values, shared state and cost.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::Duration;

use liveprops::health::Status;
use liveprops::property::Subscription;
use liveprops::sources::Memory;
use liveprops::{DynamicProperty, Error, ErrorKind, Key, MAX_KEY_BYTES, Properties, Value};
use serde::Deserialize;
use support::{Inbox, accept_if, eventually, reports};

fn inline(memory: &Memory) -> Properties {
    Properties::builder()
        .inline_callbacks()
        .source(memory.clone())
        .build()
        .unwrap()
}

fn record_values<T>(handle: &DynamicProperty<T>) -> (Subscription, Inbox<T>)
where
    T: Clone + PartialEq + Send + Sync + 'static,
{
    let (report, inbox) = reports();
    (
        handle.on_change(move |change| report(change.new_value().clone())),
        inbox,
    )
}

#[test]
fn a_handle_sees_a_key_that_is_created_after_it() -> Result<(), Error> {
    let memory = Memory::new();
    let props = inline(&memory);
    let with_default = props.property::<u32>("late").default(7).build()?;
    let optional = props.property::<Option<u32>>("late").build()?;
    let (_a, defaults) = record_values(&with_default);
    let (_b, options) = record_values(&optional);
    assert_eq!((with_default.get(), optional.get()), (7, None));
    memory.set("late", "8")?;
    assert_eq!((with_default.get(), optional.get()), (8, Some(8)));
    memory.remove("late")?;
    assert_eq!((with_default.get(), optional.get()), (7, None));
    assert_eq!(
        (defaults.all(), options.all()),
        (vec![8, 7], vec![Some(8), None])
    );
    // A new key with the value of the default is no change of the value.
    memory.set("late", 7)?;
    assert_eq!((defaults.all(), options.all()), (vec![], vec![Some(7)]));
    Ok(())
}

#[test]
fn a_missing_key_without_default_is_an_error_and_a_required_one_cannot_be_removed()
-> Result<(), Error> {
    let memory = Memory::new();
    let props = inline(&memory);
    let error = props.property::<u32>("n").build().unwrap_err();
    assert_eq!(
        (error.kind(), error.key().map(Key::as_str)),
        (ErrorKind::NotFound, Some("n"))
    );
    memory.set("n", 1)?;
    let n = props.property::<u32>("n").build()?;
    let rejected = memory.remove("n").unwrap_err();
    assert_eq!(
        (rejected.kind(), rejected.key().map(Key::as_str)),
        (ErrorKind::NotFound, Some("n"))
    );
    assert_eq!((n.get(), props.get::<u32>("n")?), (1, 1));
    drop(n);
    memory.remove("n")?;
    assert_eq!(
        props.get_opt::<u32>("n")?,
        None,
        "no handle needs it any more"
    );
    Ok(())
}

// For a malformed value, Archaius 1 silently returns the default and Archaius 2 reads null.
#[test]
fn the_default_replaces_a_missing_value_and_no_empty_or_malformed_one() -> Result<(), Error> {
    let memory = Memory::from([("empty", ""), ("bad", "abc")]);
    let props = inline(&memory);
    let (report, inbox) = reports();
    let _sub = props.on_source_event(move |event| report(format!("{:?}", event.kind)));
    assert_eq!(props.get_opt::<u32>("none")?, None);
    assert_eq!(props.get_opt::<String>("empty")?.as_deref(), Some(""));
    for key in ["empty", "bad"] {
        let error = props.get_opt::<u32>(key).unwrap_err();
        assert_eq!(
            (error.kind(), error.key().map(Key::as_str)),
            (ErrorKind::Mismatch, Some(key))
        );
        assert!(
            error.origin().is_some() && error.expected() == Some("u32"),
            "{error}"
        );
        let error = props.property::<u32>(key).default(3).build().unwrap_err();
        assert_eq!(
            error.kind(),
            ErrorKind::Mismatch,
            "not the default: {error}"
        );
    }
    assert_eq!(props.get_or("none", 3u32), 3);
    assert!(inbox.all().is_empty());
    assert_eq!(props.get_or("bad", 3u32), 3);
    assert!(inbox.next().starts_with("Malformed"), "and it is reported");
    assert!(
        props
            .health()
            .rejected
            .iter()
            .any(|error| error.error.key().map(Key::as_str) == Some("bad"))
    );
    Ok(())
}

#[test]
fn a_value_that_stops_parsing_keeps_the_last_good_one_until_it_recovers() -> Result<(), Error> {
    let memory = Memory::from([("n", "5")]);
    let props = inline(&memory);
    let n = props.property::<u32>("n").default(1).build()?;
    assert!(props.health().is_up());
    let error = memory.set("n", "abc").unwrap_err();
    assert_eq!(error.found(), Some("text \"abc\""));
    assert_eq!(n.get(), 5, "neither the default nor nothing");
    let health = props.health();
    assert!(!health.is_up(), "{health:?}");
    assert!(matches!(health.sources[0].status, Status::Stale { .. }));
    assert_eq!(props.explain("n").rejected.len(), 1);
    memory.set("n", "7")?;
    assert_eq!(n.get(), 7);
    assert!(props.health().is_up());
    Ok(())
}

// Archaius: a chained property ignores its fallback when only the fallback changes.
#[test]
fn a_chain_of_three_keys_follows_the_first_existing_one() -> Result<(), Error> {
    let memory = Memory::new();
    let props = inline(&memory);
    let chain = props
        .property::<u32>("a")
        .or_key("b")
        .or_key("c")
        .default(0)
        .build()?;
    let texts = props
        .property::<String>("a")
        .or_key("b")
        .or_key("c")
        .default("-".into())
        .build()?;
    let (_a, calls) = record_values(&chain);
    let (_b, text_calls) = record_values(&texts);
    type Step = (&'static str, Option<u32>, u32, usize);
    let steps: [Step; 12] = [
        ("c", Some(3), 3, 1),
        ("c", Some(33), 33, 1), // only the last link changes
        ("b", Some(2), 2, 1),
        ("c", Some(3), 2, 0), // shadowed
        ("a", Some(1), 1, 1),
        ("b", Some(22), 1, 0),
        ("c", None, 1, 0),
        ("a", None, 22, 1),
        ("b", Some(22), 22, 0), // the same again
        ("b", None, 0, 1),
        ("a", Some(0), 0, 0), // the same as the default
        ("unrelated", Some(9), 0, 0),
    ];
    for (i, (key, value, expected, fired)) in steps.into_iter().enumerate() {
        match value {
            Some(value) => memory.set(key, value)?,
            None => memory.remove(key)?,
        }
        assert_eq!(chain.get(), expected, "step {i}");
        assert_eq!(calls.all().len(), fired, "calls at step {i}");
        if i < 10 {
            let text = if expected == 0 {
                "-".to_owned()
            } else {
                expected.to_string()
            };
            assert_eq!(texts.get(), text, "step {i}");
            assert_eq!(text_calls.all().len(), fired, "text calls at step {i}");
        }
    }
    Ok(())
}

#[test]
fn a_fallback_of_a_handle_replaces_absent_values_but_no_malformed_ones() -> Result<(), Error> {
    let memory = Memory::from([("b", 2)]);
    let props = inline(&memory);
    let plain = props.property::<Option<u32>>("a").build()?;
    let chained = plain.or_key("b")?;
    let (_sub, calls) = record_values(&chained);
    assert_eq!((plain.get(), chained.get()), (None, Some(2)));
    memory.set("b", 3)?;
    assert_eq!(calls.all(), [Some(3)]);
    assert!(memory.set("a", "x").is_err(), "rejected, not passed over");
    assert_eq!(chained.get(), Some(3));
    assert!(
        chained.map(|v| *v).or_key("c").is_err(),
        "a mapped one has no keys"
    );
    Ok(())
}

#[test]
fn a_value_is_converted_and_mapped_once_per_change_and_never_by_a_read() -> Result<(), Error> {
    static DECODED: AtomicUsize = AtomicUsize::new(0);
    #[derive(Clone, PartialEq)]
    struct Counted(u32);
    impl<'de> Deserialize<'de> for Counted {
        fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
            DECODED.fetch_add(1, Ordering::Relaxed);
            u32::deserialize(d).map(Counted)
        }
    }
    let memory = Memory::from([("n", "1"), ("other", "1")]);
    let props = inline(&memory);
    let n = props.property::<Counted>("n").build()?;
    let mapped = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&mapped);
    let double = n.map(move |n| {
        counter.fetch_add(1, Ordering::Relaxed);
        n.0 * 2
    });
    let twice = double.map(|d| d * 2);
    let (_sub, calls) = record_values(&double);
    let counts = || {
        (
            DECODED.load(Ordering::Relaxed),
            mapped.load(Ordering::Relaxed),
        )
    };
    assert_eq!(counts(), (1, 1));
    for _ in 0..1_000 {
        let mut reader = n.reader();
        assert!(reader.get().0 == 1 && n.get().0 == 1 && double.get() == 2);
        let _ = (n.load(), n.versioned(), twice.get());
    }
    assert_eq!(counts(), (1, 1), "reading converts nothing");
    memory.set("other", "2")?;
    assert_eq!(counts(), (1, 1), "nor does an unrelated change");
    for i in 2..=50u32 {
        memory.set("n", i.to_string())?;
        assert_eq!((double.get(), twice.get()), (i * 2, i * 4));
        assert_eq!(counts(), (i as usize, i as usize));
        assert_eq!(calls.all(), [i * 2]);
    }
    Ok(())
}

// Archaius 2: a bad custom mapping.
#[test]
fn a_panic_of_a_mapping_rejects_its_update() -> Result<(), Error> {
    let memory = Memory::from([("n", 1)]);
    let props = inline(&memory);
    let n = props.property::<u32>("n").build()?;
    let inverse = n.map(|n| 100 / n);
    let error = memory.set("n", 0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Panicked);
    assert_eq!((n.get(), inverse.get()), (1, 100));
    memory.set("n", 2)?;
    assert_eq!((n.get(), inverse.get()), (2, 50));
    Ok(())
}

#[test]
fn handles_of_one_key_and_type_share_their_value_and_other_types_work_beside_them()
-> Result<(), Error> {
    let memory = Memory::from([("n", "5")]);
    let props = inline(&memory);
    let one = props.property::<String>("n").build()?;
    let two = props.property::<String>("n").build()?;
    let shares = |a: &DynamicProperty<String>, b: &DynamicProperty<String>| {
        Arc::ptr_eq(&a.versioned(), &b.versioned())
    };
    assert!(shares(&one, &two) && shares(&one, &one.clone()));
    let with_default = props.property::<String>("n").default("d".into()).build()?;
    let checked = props.property::<String>("n").validate(|_| Ok(())).build()?;
    assert!(!shares(&one, &with_default) && !shares(&one, &checked));
    let numbers = (
        props.property::<u8>("n").build()?,
        props.property::<u64>("n").build()?,
        props.property::<f64>("n").build()?,
        props.property::<Duration>("n").build(),
        props.property::<Vec<u32>>("n").build()?,
    );
    assert!(numbers.3.is_err(), "a number has no unit");
    memory.set("n", "6")?;
    assert_eq!((one.get().as_str(), two.get().as_str()), ("6", "6"));
    assert_eq!(
        (numbers.0.get(), numbers.1.get(), numbers.2.get()),
        (6, 6, 6.0)
    );
    assert_eq!(numbers.4.get(), [6]);
    Ok(())
}

// Archaius 51, 163, 487, 499: handles and callbacks are never freed.
#[test]
fn half_a_million_handles_made_and_dropped_over_a_thousand_keys_leave_the_memory_flat()
-> Result<(), Error> {
    let memory = Memory::new();
    let props = inline(&memory);
    let keys: Vec<String> = (0..1_000).map(|i| format!("app.key{i}")).collect();
    for key in &keys {
        memory.set(key, 1)?;
    }
    let churn = |rounds: usize| {
        for _ in 0..rounds {
            for key in &keys {
                let handle = props.property::<u32>(key).build().unwrap();
                drop(handle.on_change(|_| {}));
            }
        }
    };
    churn(5);
    let info = allocation_counter::measure(|| churn(100));
    let each = info.bytes_current as f64 / 100_000.0;
    assert!(
        each.abs() < 1.0,
        "{} bytes stay of 100,000 handles",
        info.bytes_current
    );

    // Subscriptions on one long-lived handle and on the whole tree.
    let kept = props.property::<u32>("app.key0").build()?;
    let subscribe = |count: usize| {
        for _ in 0..count {
            drop(kept.on_change(|_| {}));
            drop(kept.changes());
            drop(kept.map(|v| *v));
            drop(props.on_change_under("app", |_| {}));
            drop(props.on_source_event(|_| {}));
            props.wait_for(["app.key0"], Duration::ZERO).unwrap();
        }
    };
    subscribe(1_000);
    memory.set("app.key0", 2)?;
    let info = allocation_counter::measure(|| {
        subscribe(20_000);
        memory.set("app.key0", 3).unwrap();
    });
    assert!(
        info.bytes_current < 20_000,
        "{} bytes stay",
        info.bytes_current
    );
    Ok(())
}

// A reader frees nothing that a writer can free: it may be serving a request.
#[test]
fn a_reader_that_drops_the_last_snapshot_of_a_generation_frees_no_tree() -> Result<(), Error> {
    const KEYS: usize = 1_000;
    let memory = Memory::new();
    let fill = |round: usize| memory.replace((0..KEYS).map(|i| (format!("k{i}"), round + i)));
    fill(0)?;
    let props = Properties::builder().source(memory.clone()).build()?;
    for round in 1..=3 {
        let read = props.snapshot();
        assert_eq!(read.get::<usize>("k7")?, round + 6);
        fill(round)?;
        let reader = thread::spawn(move || allocation_counter::measure(|| drop(read)));
        let frees = -reader.join().unwrap().count_current;
        assert!(frees < 10, "a reader freed {frees} allocations");
    }
    Ok(())
}

#[test]
fn a_handle_follows_a_key_of_any_length() -> Result<(), Error> {
    let props = Properties::builder().build()?;
    for length in (1..=100).chain([MAX_KEY_BYTES / 2, MAX_KEY_BYTES]) {
        let plain = "k".repeat(length);
        // Keys of several segments, the last one short.
        let deep = format!("{}.z", "s".repeat(length.saturating_sub(2).max(1)));
        for key in [&plain, &deep] {
            let handle = props.property::<u32>(key).default(0).build()?;
            props.set(key, 1)?;
            assert_eq!(handle.get(), 1, "{length} bytes");
            props.remove(key)?;
            assert_eq!(handle.get(), 0, "{length} bytes");
        }
    }
    Ok(())
}

#[test]
fn an_update_costs_the_same_after_a_hundred_thousand_handles_came_and_went() -> Result<(), Error> {
    let memory = Memory::from([("n", 0)]);
    let props = inline(&memory);
    // Properties without handles create no list of changes.
    let _other = props.property::<Option<u32>>("other").build()?;
    let update = |from: u32| {
        let info = allocation_counter::measure(|| {
            for i in 0..100 {
                memory.set("n", from + i + 1).unwrap();
            }
        });
        info.count_total
    };
    update(0);
    let before = update(1_000);
    for i in 0..100_000 {
        drop(
            props
                .property::<Option<u32>>(&format!("gone.k{}", i % 5_000))
                .build()?,
        );
    }
    let after = update(2_000);
    assert!(
        after <= before + before / 10,
        "{before} allocations before, {after} after"
    );
    Ok(())
}

#[test]
fn ten_thousand_handles_on_one_key_all_follow_it() -> Result<(), Error> {
    let memory = Memory::from([("n", 0)]);
    let props = Properties::builder().source(memory.clone()).build()?;
    // Validators prevent sharing of slots, so ten thousand values are converted.
    let own: Vec<_> = (0..10_000)
        .map(|_| {
            props
                .property::<u32>("n")
                .validate(|_| Ok(()))
                .build()
                .unwrap()
        })
        .collect();
    let shared: Vec<_> = (0..10_000)
        .map(|_| props.property::<u32>("n").build().unwrap())
        .collect();
    memory.set("n", 1)?;
    assert!(own.iter().chain(&shared).all(|n| n.get() == 1));
    Ok(())
}

// Archaius: static singletons (46, 149, 562).
#[test]
fn two_properties_in_one_process_are_independent() -> Result<(), Error> {
    let (one, two) = (Memory::from([("n", 1)]), Memory::from([("n", 2)]));
    let (first, second) = (inline(&one), inline(&two));
    let (a, b) = (
        first.property::<u32>("n").build()?,
        second.property::<u32>("n").build()?,
    );
    let (_sub, calls) = record_values(&b);
    first.set("n", 10)?;
    assert_eq!((a.get(), b.get()), (10, 2));
    assert!(calls.all().is_empty());
    drop(first);
    second.set("n", 20)?;
    assert_eq!((a.get(), b.get()), (10, 20));
    Ok(())
}

#[test]
fn one_memory_can_serve_two_properties() -> Result<(), Error> {
    let memory = Memory::from([("n", 1)]);
    let (first, second) = (inline(&memory), inline(&memory));
    memory.set("n", 2)?;
    assert_eq!((first.get::<u32>("n")?, second.get::<u32>("n")?), (2, 2));
    drop(first);
    memory.set("n", 3)?;
    assert_eq!(second.get::<u32>("n")?, 3);
    Ok(())
}

#[test]
fn the_metadata_always_belongs_to_the_value_during_many_writes() -> Result<(), Error> {
    let (low, high) = (Memory::named("low"), Memory::named("high"));
    low.set("n", 0u64)?;
    let props = Properties::builder()
        .source(low.clone())
        .source(high.clone())
        .build()?;
    let n = props.property::<u64>("n").build()?;
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (n, done) = (n.clone(), Arc::clone(&done));
            thread::spawn(move || {
                let (mut checked, mut last) = (0u64, 0u64);
                let mut reader = n.reader();
                while !done.load(Ordering::Relaxed) || checked == 0 {
                    let small = n.get();
                    let version = n.versioned();
                    assert!(version.value >= small, "versioned is never behind get");
                    // Even values are written by `low`, odd ones by `high`.
                    let wanted = if version.value % 2 == 0 {
                        "memory low"
                    } else {
                        "memory high"
                    };
                    let origin = version.origin().unwrap();
                    assert_eq!(format!("{} {}", origin.kind(), origin.name()), wanted);
                    assert_eq!(version.layer(), Some(wanted));
                    assert!(version.generation() >= last, "generations never go back");
                    last = version.generation();
                    let cached = reader.versioned();
                    let layer = if cached.value % 2 == 0 {
                        "memory low"
                    } else {
                        "memory high"
                    };
                    assert_eq!(cached.layer(), Some(layer));
                    assert!(cached.generation() >= last);
                    last = cached.generation();
                    checked += 1;
                }
                checked
            })
        })
        .collect();
    for i in 0..10_000u64 {
        // high shows an odd value; then low prepares the next even one, and high lets it show.
        high.set("n", 4 * i + 1)?;
        low.set("n", 4 * i + 2)?;
        high.remove("n")?;
    }
    done.store(true, Ordering::Relaxed);
    for reader in readers {
        assert!(reader.join().unwrap() > 0);
    }
    Ok(())
}

#[test]
fn a_value_that_only_moves_to_another_layer_has_a_new_origin_and_calls_no_callback()
-> Result<(), Error> {
    let (low, high) = (Memory::named("low"), Memory::named("high"));
    low.set("n", 1)?;
    let props = Properties::builder()
        .inline_callbacks()
        .sources([low, high.clone()])
        .build()?;
    let n = props.property::<u32>("n").build()?;
    let (_sub, calls) = record_values(&n);
    let before = n.versioned();
    props.set("unrelated", 1)?;
    high.set("n", 1)?;
    let after = n.versioned();
    assert_eq!(after.layer(), Some("memory high"));
    assert_eq!(
        after.generation(),
        before.generation(),
        "the value is as old as it was"
    );
    assert!(calls.all().is_empty());
    Ok(())
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
struct Row {
    k0: u32,
    k1: u32,
    k2: u32,
    k3: u32,
    k4: u32,
    k5: u32,
    k6: u32,
    k7: u32,
}

impl Row {
    fn whole(&self) -> bool {
        let all = [
            self.k0, self.k1, self.k2, self.k3, self.k4, self.k5, self.k6, self.k7,
        ];
        all.iter().all(|k| *k == all[0])
    }
}

// Archaius 1: a poll is applied key by key, so readers see half of it.
#[test]
fn every_kind_of_read_returns_a_consistent_struct() -> Result<(), Error> {
    let props = Properties::builder().build()?;
    let write =
        |i: u32| props.transaction(|tx| (0..8).try_for_each(|k| tx.set(&format!("row.k{k}"), i)));
    write(0)?;
    let row = props.bind::<Row>("row").build()?;
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (row, props, done) = (row.clone(), props.clone(), Arc::clone(&done));
            thread::spawn(move || {
                let (mut reader, mut last, mut reads) = (row.reader(), 0, 0u64);
                while !done.load(Ordering::Relaxed) {
                    let now = row.load().k0;
                    assert!(row.load().whole() && reader.get().whole() && row.get().whole());
                    assert!(now >= last, "never back");
                    last = now;
                    let view = props.snapshot();
                    let named = view.get::<u32>("row.k0").unwrap();
                    assert_eq!(view.get::<u32>("row.k7").unwrap(), named);
                    assert_eq!(row.at(&view).unwrap().k3, named);
                    reads += 1;
                }
                reads
            })
        })
        .collect();
    for i in 1..=5_000 {
        write(i)?;
        assert_eq!(row.load().k7, i, "visible when the commit has returned");
    }
    done.store(true, Ordering::Relaxed);
    for reader in readers {
        assert!(reader.join().unwrap() > 0);
    }
    Ok(())
}

#[test]
fn a_struct_of_twelve_fields_with_three_broken_is_one_error_of_three_paths() -> Result<(), Error> {
    #[derive(Clone, Debug, Deserialize, PartialEq)]
    #[allow(dead_code)]
    struct Twelve {
        a: u8,
        b: i16,
        c: u32,
        d: u64,
        e: f64,
        f: bool,
        g: String,
        h: Duration,
        i: Vec<u16>,
        j: Option<u32>,
        k: std::collections::BTreeMap<String, u32>,
        l: Inner,
    }
    #[derive(Clone, Debug, Deserialize, PartialEq)]
    struct Inner {
        min: u32,
        #[serde(default)]
        max: u32,
    }
    let memory = Memory::new();
    let good: [(&str, &str); 11] = [
        ("t.a", "1"),
        ("t.b", "-2"),
        ("t.c", "3"),
        ("t.d", "18446744073709551615"),
        ("t.e", "1.5"),
        ("t.f", "yes"),
        ("t.g", "007"),
        ("t.h", "1m 30s"),
        ("t.i", "1, 2, 3"),
        ("t.k", "x=1, y=2"),
        ("t.l.min", "4"),
    ];
    memory.replace(good)?;
    let props = inline(&memory);
    let twelve = props.bind::<Twelve>("t").build()?;
    let before = twelve.get();
    assert_eq!(
        (before.d, before.g.as_str(), before.j),
        (u64::MAX, "007", None)
    );
    assert_eq!((before.h, before.l.max), (Duration::from_secs(90), 0));

    let error = props
        .transaction(|tx| {
            tx.set("t.a", "256")?;
            tx.set("t.h", "soon")?;
            tx.set("t.l.min", "few")?;
            tx.set("t.g", "good")
        })
        .unwrap_err();
    let mut keys: Vec<_> = error.iter().filter_map(Error::key).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["t.a", "t.h", "t.l.min"], "{error}");
    assert_eq!(twelve.get(), before, "the old struct stays whole");
    assert_eq!(props.get::<String>("t.g")?, "007");
    Ok(())
}

#[test]
fn an_absent_subtree_binds_through_the_defaults_of_its_fields() -> Result<(), Error> {
    #[derive(Clone, Debug, Default, Deserialize, PartialEq)]
    #[serde(default)]
    struct Limit {
        qps: u32,
        name: String,
    }
    let memory = Memory::new();
    let props = inline(&memory);
    let limit = props.bind::<Limit>("limit").build()?;
    let (_sub, calls) = record_values(&limit);
    assert_eq!(limit.get(), Limit::default());
    memory.set("limit.qps", 5)?;
    assert_eq!(limit.get().qps, 5);
    memory.remove("limit.qps")?;
    assert_eq!(limit.get(), Limit::default());
    assert_eq!(calls.all().len(), 2);
    // The empty key binds the whole tree.
    memory.set("qps", 9)?;
    assert_eq!(props.bind::<Limit>("").build()?.get().qps, 9);
    Ok(())
}

// Law 1; rivals: config-rs 3 allocations a get, dynamic-config's `current()` a reference count.
#[test]
fn a_million_reads_allocate_nothing() -> Result<(), Error> {
    let memory = Memory::from([("n", Value::from(1)), ("text", Value::from("hello"))]);
    let props = inline(&memory);
    let n = props.property::<u32>("n").build()?;
    let text = props.property::<String>("text").build()?;
    let pair = props
        .bind::<std::collections::BTreeMap<String, String>>("")
        .build()?;
    let (mut reader, mut table) = (text.reader(), pair.reader());
    let mut sum = 0u64;
    let mut pass = || {
        for _ in 0..200_000 {
            sum += u64::from(n.get()) + u64::from(*n.load());
            sum += reader.get().len() as u64 + text.load().len() as u64;
            sum += table.get().len() as u64;
        }
        for _ in 0..1_000 {
            sum += u64::from(props.get::<u32>("n").unwrap());
            sum += props.get_opt::<u64>("n").unwrap().unwrap();
            sum += u64::from(props.get_or("absent", 1u8)) + props.generation();
            sum += props.snapshot().get::<u64>("n").unwrap();
        }
    };
    pass();
    let info = allocation_counter::measure(pass);
    assert_eq!((info.count_total, info.bytes_total), (0, 0));
    assert!(sum > 0);
    // After a change the first read refreshes, still without an allocation.
    memory.set("text", "goodbye")?;
    let info = allocation_counter::measure(|| assert_eq!(reader.get(), "goodbye"));
    assert_eq!(info.count_total, 0);
    Ok(())
}

// Names are looked up segment by segment, and a small tree has another layout.
#[test]
fn reads_by_name_in_a_large_tree_allocate_nothing() -> Result<(), Error> {
    let name = |i: u32| match i % 2 {
        0 => format!("section{}.key{}", i / 100, i % 100),
        _ => format!("section{}.deep.key{}", i / 100, i % 100),
    };
    let memory: Memory = (0..100_000).map(|i| (name(i), i)).collect();
    let props = inline(&memory);
    assert_eq!(props.snapshot().keys().len(), 100_000);
    let names: Vec<(u32, String)> = (0..1_000).map(|i| (i * 97, name(i * 97))).collect();
    let pass = || {
        for (i, name) in &names {
            let name = name.as_str();
            assert_eq!(props.get::<u32>(name).unwrap(), *i);
            assert_eq!(props.get_opt::<u64>(name).unwrap(), Some(u64::from(*i)));
            assert_eq!(props.get_or(name, u32::MAX), *i);
            assert_eq!(props.snapshot().get::<u32>(name).unwrap(), *i);
        }
        for absent in ["absent", "section7.absent", "section7.deep.absent", "a.b.c"] {
            assert_eq!(props.get_opt::<u32>(absent).unwrap(), None);
            assert_eq!(props.get_or(absent, 7u32), 7);
        }
    };
    pass();
    let info = allocation_counter::measure(pass);
    assert_eq!((info.count_total, info.bytes_total), (0, 0));
    Ok(())
}

#[test]
fn reading_continues_after_the_properties_are_dropped() -> Result<(), Error> {
    let memory = Memory::from([("n", 1)]);
    let props = inline(&memory);
    let n = props.property::<u32>("n").build()?;
    let mapped = n.map(|n| n + 1);
    let view = props.snapshot();
    let mut reader = n.reader();
    let scoped = props.scoped("x")?;
    drop(scoped);
    let builder = props.property::<u32>("n");
    drop(props);
    memory.set("n", 2)?;
    assert_eq!(
        (n.get(), *n.load(), *reader.get(), mapped.get()),
        (1, 1, 1, 2)
    );
    assert_eq!(
        (n.versioned().value, n.at(&view)?, view.get::<u32>("n")?),
        (1, 1, 1)
    );
    assert_eq!(builder.build().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(n.map(|n| n + 2).get(), 3, "even a new mapping");
    drop(n.on_change(|_| {}));
    let (report, inbox) = reports();
    let _sub = n.on_change_now(move |value| report(*value));
    assert_eq!(inbox.all(), [1]);
    Ok(())
}

#[test]
fn a_validator_of_a_handle_vetoes_on_set_on_add_and_at_build() -> Result<(), Error> {
    let memory = Memory::from([("n", 5)]);
    let props = inline(&memory);
    let n = props
        .property::<u32>("n")
        .validate(|n| accept_if(*n < 10))
        .build()?;
    let reason = |n: &u32| {
        if *n < 10 {
            Ok(())
        } else {
            Err(format!("{n} is no digit"))
        }
    };
    let late = props
        .property::<u32>("late")
        .default(1)
        .validate(reason)
        .build()?;
    let error = memory.set("n", 10).unwrap_err();
    assert_eq!(
        (error.kind(), error.key().map(Key::as_str)),
        (ErrorKind::Rejected, Some("n"))
    );
    let error = memory.set("late", 11).unwrap_err();
    assert!(error.to_string().contains("11 is no digit"), "{error}");
    assert_eq!(
        (n.get(), late.get(), props.get_opt::<u32>("late")?),
        (5, 1, None)
    );
    let error = props
        .property::<u32>("n")
        .validate(|n| accept_if(*n > 5))
        .build()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Rejected);
    let error = props
        .property::<u32>("x")
        .default(50)
        .validate(|n| accept_if(*n < 10))
        .build()
        .unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::Rejected,
        "the default must pass too"
    );
    Ok(())
}

// Lost updates leave an Archaius handle stale in 1 of 300 rounds.
#[test]
fn handles_built_during_many_writes_are_never_stale() -> Result<(), Error> {
    let memory = Memory::from([("n", 0)]);
    let props = Properties::builder().source(memory.clone()).build()?;
    let done = Arc::new(AtomicBool::new(false));
    let writer = {
        let (memory, done) = (memory.clone(), Arc::clone(&done));
        thread::spawn(move || {
            for i in 1.. {
                memory.set("n", i).unwrap();
                if done.load(Ordering::Relaxed) {
                    return i;
                }
            }
            0
        })
    };
    let mut handles = Vec::new();
    for i in 0..2_000 {
        let handle = match i % 2 {
            0 => props.property::<u32>("n").build()?,
            _ => props.property::<u32>("n").validate(|_| Ok(())).build()?,
        };
        handles.push(handle.map(|n| *n));
        handles.push(handle);
    }
    done.store(true, Ordering::Relaxed);
    let last = writer.join().unwrap();
    assert!(handles.iter().all(|handle| handle.get() == last));
    Ok(())
}

#[test]
fn an_item_of_a_list_and_a_table_inside_one_can_be_followed() -> Result<(), Error> {
    let memory = Memory::from([("hosts", vec!["a", "b"])]);
    let props = inline(&memory);
    let second = props.property::<Option<String>>("hosts.1").build()?;
    let (_sub, calls) = record_values(&second);
    memory.set("hosts", vec!["a", "c"])?;
    memory.set("hosts", vec!["z", "c"])?;
    memory.set("hosts", vec!["z"])?;
    assert_eq!(calls.all(), [Some("c".to_owned()), None]);
    assert_eq!(second.get(), None);
    Ok(())
}

#[test]
fn an_awaited_value_is_read_by_handle_and_by_name() {
    let memory = Memory::from([("n", 0u64)]);
    let props = Properties::builder()
        .source(memory.clone())
        .build()
        .unwrap();
    let p = props.property::<u64>("n").build().unwrap();
    // many more slots on the same key, to widen the window
    let more: Vec<_> = (0..3000)
        .map(|_| {
            props
                .property::<u64>("n")
                .validate(|_| Ok(()))
                .build()
                .unwrap()
        })
        .collect();
    let (q, pr) = (p.clone(), props.clone());
    let back = Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = Arc::clone(&back);
    let t = std::thread::spawn(move || {
        for n in 1..400u64 {
            q.wait_until(|v| *v >= n, Duration::from_secs(20)).unwrap();
            let (g, by) = (q.get(), pr.get::<u64>("n").unwrap());
            if g < n || by < n {
                log.lock().unwrap().push((n, g, by));
            }
        }
    });
    for n in 1..400u64 {
        memory.set("n", n).unwrap();
    }
    t.join().unwrap();
    drop(more);
    let back = back.lock().unwrap();
    assert!(
        back.is_empty(),
        "{} {:?}",
        back.len(),
        &back[..back.len().min(5)]
    );
}
#[test]
fn handles_with_different_settings_share_nothing_and_outlive_dropped_ones() {
    let memory = Memory::from([("n", 1)]);
    let props = Properties::builder()
        .source(memory.clone())
        .build()
        .unwrap();
    let mut kept = Vec::new();
    for i in 0..2000u32 {
        let a = props.property::<u32>("n").default(i % 7).build().unwrap();
        let b = props.property::<Option<u32>>("n").build().unwrap();
        let c = props.property::<u32>("m").or_key("n").build().unwrap();
        let d = props.property::<u32>("m").default(i % 5).build().unwrap();
        let e = props
            .property::<u32>(&format!("n{i}"))
            .or_key("n")
            .build()
            .unwrap();
        if i % 13 == 0 {
            kept.push((a, b, c, d, e, i));
        }
        if i % 100 == 0 {
            memory.set("n", 10 + i).unwrap();
            for (a, b, c, d, e, j) in &kept {
                assert_eq!(
                    (a.get(), b.get(), c.get(), d.get(), e.get()),
                    (10 + i, Some(10 + i), 10 + i, j % 5, 10 + i)
                );
            }
        }
    }
    // handles (c, e) of required keys are live: removal rejected
    memory.remove("n").unwrap_err();
    kept.iter().for_each(|(a, ..)| assert!(a.get() >= 10));
    let kept: Vec<_> = kept
        .into_iter()
        .map(|(a, b, _, d, _, j)| (a, b, d, j))
        .collect();
    memory.remove("n").unwrap();
    for (a, b, d, j) in &kept {
        assert_eq!((a.get(), b.get(), d.get()), (j % 7, None, j % 5));
    }
    memory.set("m", 77).unwrap();
    for (_, _, d, _) in &kept {
        assert_eq!(d.get(), 77);
    }
    drop(props);
    for (a, b, d, j) in &kept {
        assert_eq!((a.get(), b.get(), d.get()), (j % 7, None, 77));
    }
}

#[test]
fn a_fallback_of_a_handle_of_a_view_is_named_below_the_view() -> Result<(), Error> {
    let memory = Memory::from([("db.new", 1), ("old", 2), ("db.old", 3)]);
    let props = Properties::builder().source(memory.clone()).build()?;
    let view = props.scoped("db")?;
    let built = view
        .property::<u32>("new")
        .or_key("old")
        .default(0)
        .build()?;
    let added = view
        .property::<u32>("new")
        .default(0)
        .build()?
        .or_key("old")?;
    let plain = view.property::<u32>("new").build()?.or_key("old")?;
    let bound = view.bind::<u32>("new").build()?.or_key("old")?;
    let twice = view.property::<u32>("none").build().or_else(|_| {
        let none = view.property::<u32>("none").default(0).build()?;
        none.or_key("no.more")?.or_key("old")
    })?;
    let whole = props
        .property::<u32>("db.new")
        .default(0)
        .build()?
        .or_key("old")?;
    memory.remove("db.new")?;
    for handle in [built, added, plain, bound, twice] {
        assert_eq!(handle.get(), 3, "{:?}", handle.key());
    }
    assert_eq!(whole.get(), 2, "of no view");
    Ok(())
}

/// A value with an expensive drop that records the dropping thread.
#[derive(Debug)]
struct Costly {
    value: u32,
}

/// The dropped values, each with the dropping thread.
static COSTLY_DROPS: Mutex<Vec<(u32, ThreadId)>> = Mutex::new(Vec::new());

impl<'de> Deserialize<'de> for Costly {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        u32::deserialize(from).map(|value| Self { value })
    }
}

impl Drop for Costly {
    fn drop(&mut self) {
        let drops = &mut *COSTLY_DROPS.lock().unwrap();
        drops.push((self.value, thread::current().id()));
    }
}

fn dropped(value: u32) -> Option<ThreadId> {
    let drops = COSTLY_DROPS.lock().unwrap();
    let mut drops = drops.iter();
    drops.find_map(|(dropped, by)| (*dropped == value).then_some(*by))
}

#[test]
fn a_previous_value_is_never_dropped_by_a_reader_but_soon_without_another_commit()
-> Result<(), Error> {
    let memory = Memory::from([("costly", 1_001)]);
    let props = Properties::builder().source(memory.clone()).build()?;
    let handle = props.property::<Costly>("costly").build()?;
    let (to_reader, orders) = std::sync::mpsc::channel::<()>();
    let (from_reader, reports) = std::sync::mpsc::channel();
    let reads = {
        let handle = handle.clone();
        thread::spawn(move || {
            let mut reader = handle.reader();
            for changed in [1_002, 1_003, 1_004, 1_005] {
                let before = reader.get().value;
                let guard = handle.load();
                let version = handle.versioned();
                from_reader.send(before).unwrap();
                orders.recv().unwrap();
                assert_eq!((guard.value, version.value.value), (before, before));
                assert_eq!(reader.get().value, changed);
                drop((guard, version));
            }
            from_reader.send(0).unwrap();
            orders.recv().unwrap();
            thread::current().id()
        })
    };
    for value in [1_002, 1_003, 1_004, 1_005] {
        reports.recv().unwrap();
        memory.set("costly", value)?;
        to_reader.send(()).unwrap();
    }
    reports.recv().unwrap();
    for value in 1_001..=1_004 {
        assert!(
            eventually(Duration::from_secs(5), || dropped(value).is_some()),
            "{value} is kept without a reader"
        );
    }
    to_reader.send(()).unwrap();
    let reader = reads.join().unwrap();
    for value in 1_001..=1_004 {
        assert_ne!(dropped(value), Some(reader), "{value}");
    }
    Ok(())
}

#[test]
fn idle_readers_keep_one_value_each_however_often_it_changes() -> Result<(), Error> {
    let memory = Memory::from([("costly", 2_000_000)]);
    let props = Properties::builder().source(memory.clone()).build()?;
    let handle = props.property::<Costly>("costly").build()?;
    let mut kept = Vec::new();
    for value in 2_000_001..2_010_000u32 {
        if value % 100 == 0 {
            kept.push((handle.reader(), handle.versioned()));
        }
        memory.set("costly", value)?;
    }
    let is_ours = |(value, _): &&(u32, ThreadId)| (2_000_000..2_010_000).contains(value);
    let drops = || COSTLY_DROPS.lock().unwrap().iter().filter(is_ours).count();
    let alive = 10_000 - drops();
    assert!(alive <= 2 * kept.len() + 10, "{alive} for {}", kept.len());
    let kept_values = kept.len();
    drop(kept);
    assert!(
        eventually(Duration::from_secs(10), || drops() == 9_999),
        "{} of {kept_values} are kept without a reader",
        9_999 - drops()
    );
    Ok(())
}
