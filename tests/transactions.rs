//! One batch is one generation: its changes are visible together or not at all.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use liveprops::property::Subscription;
use liveprops::sources::Memory;
use liveprops::{
    Document, DynamicProperty, Error, ErrorKind, Key, Layer, Properties, SourceId, Value,
};
use support::{reports, run_within};

#[test]
fn a_sum_rewritten_a_hundred_thousand_times_is_never_seen_broken() -> Result<(), Error> {
    let props = Properties::builder()
        .default("a", 50)
        .default("b", 50)
        .build()?;
    let a = props.property::<i64>("a").build()?;
    let b = props.property::<i64>("b").build()?;
    let done = Arc::new(AtomicBool::new(false));
    let reader = {
        let (props, a, b, done) = (props.clone(), a.clone(), b.clone(), Arc::clone(&done));
        thread::spawn(move || {
            let (mut reads, mut last) = (0u64, 0);
            while !done.load(Ordering::Relaxed) || reads == 0 {
                let view = props.snapshot();
                let named = view.get::<i64>("a").unwrap() + view.get::<i64>("b").unwrap();
                let handles = a.at(&view).unwrap() + b.at(&view).unwrap();
                assert_eq!((named, handles), (100, 100));
                assert!(view.generation() >= last);
                last = view.generation();
                reads += 1;
            }
            reads
        })
    };
    let writers: Vec<_> = [1u64, 2]
        .into_iter()
        .map(|seed| {
            let props = props.clone();
            thread::spawn(move || {
                let mut random = support::Random(seed * 77);
                for _ in 0..50_000 {
                    let x = random.below(101) as i64;
                    props
                        .transaction(|tx| {
                            tx.set("a", x)?;
                            tx.set("b", 100 - x)
                        })
                        .unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.join().unwrap();
    }
    done.store(true, Ordering::Relaxed);
    assert!(reader.join().unwrap() > 0);
    assert_eq!(a.get() + b.get(), 100);
    Ok(())
}

#[test]
fn a_commit_is_one_generation_unless_it_changes_nothing() -> Result<(), Error> {
    let props = Properties::builder().build()?;
    let first = props.generation();
    let applied = props.transaction(|tx| (0..20).try_for_each(|i| tx.set(&format!("k{i}"), i)))?;
    assert_eq!((applied.generation, applied.changed), (first + 1, 20));
    let again = props.transaction(|tx| (0..20).try_for_each(|i| tx.set(&format!("k{i}"), i)))?;
    assert_eq!((again.generation, again.changed), (first + 1, 0));
    assert_eq!(props.transaction(|_| Ok(()))?.changed, 0);
    // Within one transaction the last write counts.
    props.transaction(|tx| {
        tx.set("k0", "x")?;
        tx.remove("k0")?;
        tx.set("k1", "x")?;
        tx.set("k1", "y")
    })?;
    assert_eq!(props.get_opt::<String>("k0")?, None);
    assert_eq!(props.get::<String>("k1")?, "y");
    Ok(())
}

#[test]
fn a_transaction_with_invalid_writes_applies_none_and_names_all_of_them() -> Result<(), Error> {
    let props = Properties::builder()
        .inline_callbacks()
        .default("k3", 0)
        .build()?;
    let handles: Vec<_> = (0..20)
        .map(|i| {
            props
                .property::<u32>(&format!("k{i}"))
                .default(0)
                .build()
                .unwrap()
        })
        .collect();
    let (report, inbox) = reports();
    let _sub = props.on_change_under("", move |batch| report(batch.generation()))?;
    let before = (props.generation(), props.snapshot().keys());
    let error = props
        .transaction(|tx| {
            (0..20).try_for_each(|i| match i {
                4 | 17 => tx.set(&format!("k{i}"), "bad"),
                _ => tx.set(&format!("k{i}"), i),
            })
        })
        .unwrap_err();
    let mut keys: Vec<_> = error
        .iter()
        .map(|e| (e.key().unwrap().as_str(), e.kind()))
        .collect();
    keys.sort_unstable_by_key(|(key, _)| *key);
    assert_eq!(
        keys,
        [("k17", ErrorKind::Mismatch), ("k4", ErrorKind::Mismatch)]
    );
    assert_eq!((props.generation(), props.snapshot().keys()), before);
    assert!(handles.iter().all(|handle| handle.get() == 0));
    assert!(inbox.all().is_empty(), "no callback is called");
    Ok(())
}

#[test]
fn a_malformed_key_or_an_error_of_the_closure_prevents_the_transaction() -> Result<(), Error> {
    let props = Properties::builder().build()?;
    let error = props.transaction(|tx| {
        tx.set("good", 1)?;
        tx.set("a..b", 1)
    });
    assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidKey);
    let error = props.transaction(|tx| {
        tx.set("good", 1)?;
        Err(Error::new(ErrorKind::Rejected, "changed my mind"))
    });
    assert_eq!(error.unwrap_err().to_string(), "changed my mind");
    let root = props.transaction(|tx| tx.set("", 1)).unwrap_err();
    assert_eq!(root.kind(), ErrorKind::InvalidKey);
    let clash = props.transaction(|tx| {
        tx.set("x", 1)?;
        tx.set("x.y", 1)
    });
    assert_eq!(clash.unwrap_err().kind(), ErrorKind::InvalidKey);
    assert!(props.snapshot().keys().is_empty());
    Ok(())
}

#[test]
fn two_writers_lose_none_of_ten_thousand_increments() -> Result<(), Error> {
    let props = Properties::builder().default("n", 0).build()?;
    let conflicts = Arc::new(AtomicU64::new(0));
    let writers: Vec<_> = (0..2)
        .map(|w| {
            let (props, conflicts) = (props.clone(), Arc::clone(&conflicts));
            thread::spawn(move || {
                for _ in 0..5_000 {
                    loop {
                        let outcome = props.transaction(|tx| {
                            let n = tx.get::<i64>("n")?;
                            if w == 0 {
                                tx.if_generation(tx.view().generation());
                            } else {
                                let seen = (n > 0).then_some(Value::from(n));
                                tx.if_value("n", seen.or(Some(Value::from(0))))?;
                            }
                            tx.set("n", n + 1)
                        });
                        match outcome {
                            Ok(_) => break,
                            Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict),
                        }
                        conflicts.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        writer.join().unwrap();
    }
    assert_eq!(props.get::<u32>("n")?, 10_000);
    Ok(())
}

#[test]
fn a_condition_on_a_value_holds_for_values_absence_and_nothing_else() -> Result<(), Error> {
    let props = Properties::builder()
        .source(Memory::from([("a", "1"), ("table.x", "1")]))
        .build()?;
    let only_if = |key: &'static str, value: Option<Value>| {
        props.transaction(|tx| {
            tx.if_value(key, value)?;
            tx.set("out", "x")?;
            tx.remove("out")
        })
    };
    assert!(only_if("a", Some("1".into())).is_ok());
    assert!(only_if("none", None).is_ok());
    for (key, value) in [
        ("a", None),
        ("a", Some("2".into())),
        ("a", Some(1.into())),
        ("none", Some("1".into())),
        ("table", None), // it is there, as a table
        ("table", Some("1".into())),
    ] {
        let error = only_if(key, value).unwrap_err();
        assert_eq!(
            (error.kind(), error.key().map(Key::as_str)),
            (ErrorKind::Conflict, Some(key))
        );
    }
    Ok(())
}

#[test]
fn a_condition_on_a_list_item_or_a_value_inside_it_checks_only_that_value() -> Result<(), Error> {
    let memory = Memory::from([("ports", vec![80, 81])]);
    let server = |port: i64| Value::Table([("port", port)].into());
    memory.set("servers", vec![server(80), server(81)])?;
    let props = Properties::builder().source(memory).build()?;
    let only_if = |key: &str, value: Option<Value>| {
        let outcome = props.transaction(|tx| {
            tx.if_value(key, value)?;
            tx.set("out", "x")?;
            tx.remove("out")
        });
        outcome.map(|_| ()).map_err(|error| error.kind())
    };
    for key in ["ports.1", "servers.1.port"] {
        assert_eq!(only_if(key, Some(81.into())), Ok(()), "{key}");
        for other in [Some(80.into()), Some("81".into()), None] {
            let conflict = Err(ErrorKind::Conflict);
            assert_eq!(only_if(key, other.clone()), conflict, "{key} {other:?}");
        }
    }
    assert_eq!(only_if("ports.2", None), Ok(()), "there is no third item");
    assert_eq!(
        only_if("ports.2", Some(81.into())),
        Err(ErrorKind::Conflict)
    );
    Ok(())
}

#[test]
fn a_rule_over_two_keys_holds_whichever_source_would_break_it() -> Result<(), Error> {
    let (low, high) = (Memory::from([("min", 1)]), Memory::from([("max", 9)]));
    let props = Properties::builder()
        .source(low.clone())
        .source(high.clone())
        .validate(
            |tree| match (tree.get::<u32>("min"), tree.get::<u32>("max")) {
                (Ok(min), Ok(max)) if min > max => Err(format!("min {min} exceeds max {max}")),
                _ => Ok(()),
            },
        )
        .build()?;
    let both = || {
        (
            props.get::<u32>("min").unwrap(),
            props.get::<u32>("max").unwrap(),
        )
    };
    let error = low.set("min", 10).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Rejected);
    assert!(
        error.to_string().contains("min 10 exceeds max 9"),
        "{error}"
    );
    assert!(high.set("max", 0).is_err());
    assert!(props.set("max", 0).is_err());
    assert!(props.add_source(Memory::from([("max", 0)])).is_err());
    assert_eq!(both(), (1, 9));
    props.transaction(|tx| {
        tx.set("min", 20)?;
        tx.set("max", 30)
    })?;
    assert_eq!(both(), (20, 30), "together they may move");
    // Removing both overrides shows 1 and 9 again; removing one would break the rule.
    assert!(props.remove("max").is_err());
    props.transaction(|tx| {
        tx.remove("min")?;
        tx.remove("max")
    })?;
    assert_eq!(both(), (1, 9));
    // A rejected key of a memory is not kept: the next change does not restore it.
    low.set("other", 1)?;
    assert_eq!(both(), (1, 9));
    Ok(())
}

#[test]
fn a_tree_that_breaks_a_rule_is_not_built() {
    let error = Properties::builder()
        .source(Memory::from([("n", 1)]))
        .validate(|_| Err("never good enough".into()))
        .build()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Rejected);
    assert!(error.to_string().contains("never good enough"));
}

#[test]
fn a_source_of_single_keys_accepts_the_valid_keys_of_a_replacement() -> Result<(), Error> {
    let memory = Memory::from([("a", "1"), ("b", "2"), ("gone", "3")]);
    let props = Properties::builder().source(memory.clone()).build()?;
    let a = props.property::<u32>("a").build()?;
    let b = props.property::<u32>("b").build()?;
    let before = props.generation();
    let error = memory
        .replace([("a", "bad"), ("b", "20"), ("new", "4")])
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.key().map(Key::as_str)),
        (ErrorKind::Mismatch, Some("a"))
    );
    assert_eq!(
        (a.get(), b.get()),
        (1, 20),
        "the bad key keeps its old value"
    );
    assert_eq!(props.get::<u32>("new")?, 4);
    assert_eq!(props.get_opt::<u32>("gone")?, None);
    assert_eq!(props.generation(), before + 1);
    let health = props.health();
    assert_eq!(health.sources[0].rejections, 1);
    assert!(!health.is_up(), "one of its values was rejected");
    memory.set("a", "5")?;
    assert!(props.health().is_up());

    // A removal that a live handle rejects is such a key too.
    let error = memory.replace([("b", "21")]).unwrap_err();
    assert_eq!(
        (error.kind(), error.key().map(Key::as_str)),
        (ErrorKind::NotFound, Some("a"))
    );
    assert_eq!((a.get(), b.get()), (5, 21));
    Ok(())
}

#[test]
fn a_rejected_change_of_a_memory_is_not_kept_for_other_properties() -> Result<(), Error> {
    let memory = Memory::from([("a", "1"), ("b", "1")]);
    let props = Properties::builder().source(memory.clone()).build()?;
    let _a = props.property::<u32>("a").build()?;
    memory.set("a", "bad").unwrap_err();
    memory.remove("a").unwrap_err();
    memory.replace([("a", "bad"), ("b", "2")]).unwrap_err();
    // Inconsistent halves are not accepted either.
    memory.replace([("x", 1), ("x.y", 2)]).unwrap_err();
    let other = Properties::builder().source(memory).build()?;
    assert_eq!(other.get::<String>("a")?, "1");
    assert_eq!(other.get::<String>("b")?, "2");
    Ok(())
}

// Archaius 1: racing writers leave a handle stale in about 1 of 300 rounds; Archaius 2: two layers
// written at once leave the composite stale in 36 of 5,000.
#[test]
fn two_layers_written_concurrently_end_on_the_stronger_one() -> Result<(), Error> {
    const ROUNDS: u64 = 10_000;
    let (low, high) = (Memory::named("low"), Memory::named("high"));
    let props = Properties::builder()
        .sources([low.clone(), high.clone()])
        .build()?;
    let n = props.property::<u64>("n").default(0).build()?;
    let only_low = props.property::<u64>("low").default(0).build()?;
    let barrier = Arc::new(Barrier::new(3));
    let writers: Vec<_> = [(low, "low"), (high, "high")]
        .into_iter()
        .map(|(memory, own)| {
            let barrier = Arc::clone(&barrier);
            thread::spawn(move || {
                for round in 1..=ROUNDS {
                    barrier.wait();
                    memory
                        .set("n", round * 2 + u64::from(own == "high"))
                        .unwrap();
                    memory.set(own, round).unwrap();
                    barrier.wait();
                }
            })
        })
        .collect();
    let mut stale = 0;
    for round in 1..=ROUNDS {
        barrier.wait();
        barrier.wait();
        let handle_ok = n.get() == round * 2 + 1 && only_low.get() == round;
        let names_ok =
            props.get::<u64>("n")? == round * 2 + 1 && props.get::<u64>("high")? == round;
        stale += u64::from(!handle_ok || !names_ok);
    }
    for writer in writers {
        writer.join().unwrap();
    }
    assert_eq!(stale, 0);
    Ok(())
}

#[test]
fn when_a_commit_has_returned_every_thread_reads_at_least_its_generation() -> Result<(), Error> {
    const ROUNDS: u64 = 20_000;
    let props = Properties::builder()
        .default("n", 0)
        .default("t", "0")
        .build()?;
    let n = props.property::<u64>("n").build()?;
    let text = props.property::<String>("t").build()?;
    let returned = Arc::new(AtomicU64::new(0));
    let generation = Arc::new(AtomicU64::new(0));
    let reader = {
        let (props, returned, generation) = (props.clone(), returned.clone(), generation.clone());
        thread::spawn(move || {
            let mut view = text.reader();
            loop {
                let least = returned.load(Ordering::SeqCst);
                let least_generation = generation.load(Ordering::SeqCst);
                assert!(n.get() >= least);
                assert!(*n.load() >= least);
                assert!(view.get().parse::<u64>().unwrap() >= least);
                assert!(props.get::<u64>("n").unwrap() >= least);
                assert!(props.generation() >= least_generation);
                assert!(n.versioned().generation() <= props.generation() + 1);
                if least == ROUNDS {
                    return;
                }
            }
        })
    };
    for i in 1..=ROUNDS {
        let applied = props.transaction(|tx| {
            tx.set("n", i)?;
            tx.set("t", i.to_string())
        })?;
        generation.store(applied.generation, Ordering::SeqCst);
        returned.store(i, Ordering::SeqCst);
    }
    reader.join().unwrap();
    Ok(())
}

#[test]
fn a_callback_sees_everything_that_came_with_its_change() -> Result<(), Error> {
    let props = Properties::builder()
        .default("a", 0)
        .default("b", 0)
        .build()?;
    let (report, inbox) = reports();
    let a = props.property::<u32>("a").build()?;
    let b = props.property::<u32>("b").build()?;
    let view = props.clone();
    let _sub = a.on_change(move |change| {
        let named = view.get::<u32>("b").unwrap();
        report((
            *change.new_value(),
            b.get(),
            named,
            view.generation() >= change.generation(),
        ));
    });
    for i in 1..=500 {
        props.transaction(|tx| {
            tx.set("a", i)?;
            tx.set("b", i)
        })?;
    }
    loop {
        let (new, handle, named, generation) = inbox.next();
        assert!(handle >= new && named >= new && generation);
        if new == 500 {
            return Ok(());
        }
    }
}

#[test]
fn a_panic_of_a_validator_rejects_and_breaks_nothing() -> Result<(), Error> {
    let memory = Memory::from([("n", 1), ("m", 1)]);
    let props = Properties::builder()
        .source(memory.clone())
        .validate(|tree| {
            assert!(tree.get::<u32>("n").unwrap() != 13, "thirteen");
            Ok(())
        })
        .build()?;
    let m = props
        .property::<i32>("m")
        .validate(|m| match 100 / (m - 7) {
            ..200 => Ok(()),
            _ => Err("too large".into()),
        })
        .build()?;
    let error = memory.set("n", 13).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Panicked);
    assert!(error.to_string().contains("thirteen"), "{error}");
    let error = memory.set("m", 7).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Panicked);
    assert_eq!((m.get(), props.get::<u32>("n")?), (1, 1));
    memory.set("n", 14)?;
    memory.set("m", 9)?;
    assert_eq!((m.get(), props.get::<u32>("n")?), (9, 14));
    Ok(())
}

#[test]
fn a_validator_that_waits_delays_no_reader() -> Result<(), Error> {
    let memory = Memory::from([("n", 1)]);
    let (open, gate) = std::sync::mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let (report, inbox) = reports();
    let props = Properties::builder()
        .source(memory.clone())
        .validate(move |tree| {
            if tree.get::<u32>("n").unwrap_or(0) == 2 {
                report(());
                let _ = gate.lock().unwrap().recv();
            }
            Ok(())
        })
        .build()?;
    let n = props.property::<u32>("n").build()?;
    let writer = thread::spawn(move || memory.set("n", 2));
    inbox.next();
    for _ in 0..1_000 {
        assert_eq!((n.get(), *n.load(), props.get::<u32>("n")?), (1, 1, 1));
        let _ = (props.snapshot(), n.versioned(), props.explain("n"));
    }
    drop(open);
    writer.join().unwrap()?;
    assert_eq!(n.get(), 2);
    Ok(())
}

#[test]
fn a_validator_may_read_and_each_of_its_writes_fails_at_once() {
    run_within(Duration::from_secs(10), || {
        let memory = Memory::from([("n", 1)]);
        let cell: Arc<OnceLock<Properties>> = Arc::default();
        let inner = Arc::clone(&cell);
        let own = memory.clone();
        let (report, inbox) = reports();
        let props = Properties::builder()
            .source(memory.clone())
            .validate(move |tree| {
                let Some(props) = inner.get() else {
                    return Ok(());
                };
                let candidate = tree.get::<u32>("n").unwrap();
                let kinds = [
                    props.set("x", 1).map(drop).unwrap_err().kind(),
                    props.remove("x").map(drop).unwrap_err().kind(),
                    props
                        .transaction(|tx| tx.set("x", 1))
                        .map(drop)
                        .unwrap_err()
                        .kind(),
                    own.set("x", 1).unwrap_err().kind(),
                    props
                        .property::<u32>("n")
                        .build()
                        .map(drop)
                        .unwrap_err()
                        .kind(),
                    props
                        .on_change_under("", |_| {})
                        .map(drop)
                        .unwrap_err()
                        .kind(),
                    props
                        .add_source(Memory::new())
                        .map(drop)
                        .unwrap_err()
                        .kind(),
                ];
                let _ = (props.health(), props.explain("n"), props.snapshot());
                report((candidate, props.get::<u32>("n").unwrap(), kinds));
                Ok(())
            })
            .build()
            .unwrap();
        cell.set(props.clone()).unwrap();
        memory.set("n", 2).unwrap();
        let (candidate, current, kinds) = inbox.next();
        assert_eq!(
            (candidate, current),
            (2, 1),
            "the old tree is still in force"
        );
        assert_eq!(kinds, [ErrorKind::Reentrant; 7]);
        assert!(!props.snapshot().contains("x"));
        props.set("x", 1).unwrap();
        assert!(memory.remove("x").is_ok(), "the memory kept nothing of it");
    });
}

#[test]
fn a_snapshot_never_changes_and_a_handle_reads_its_value_in_a_snapshot() -> Result<(), Error> {
    let props = Properties::builder().default("n", 1).build()?;
    let old = props.snapshot();
    let n = props.property::<u32>("n").build()?;
    let mapped = n.map(|n| n * 10);
    props.set("n", 2)?;
    props.set("extra", 1)?;
    assert_eq!((n.at(&old)?, mapped.at(&old)?), (1, 10));
    assert_eq!(
        (n.at(&props.snapshot())?, mapped.at(&props.snapshot())?),
        (2, 20)
    );
    assert_eq!(old.get_opt::<u32>("extra")?, None);
    assert!(old.generation() < props.generation() && old.time() <= props.snapshot().time());
    Ok(())
}

#[test]
fn a_transaction_reads_the_tree_of_its_start_and_never_shows_its_values() -> Result<(), Error> {
    let props = Properties::builder().default("n", 1).build()?;
    props.transaction(|tx| {
        tx.set("n", "hunter2")?;
        assert_eq!(tx.get::<u32>("n")?, 1);
        let shown = format!("{tx:?}");
        assert!(shown.contains('n') && !shown.contains("hunter2"));
        Ok(())
    })?;
    Ok(())
}

/// Calls that wait, each with its name and the kind of its error, if it fails.
type Outcomes = Vec<(&'static str, Option<ErrorKind>)>;

/// Calls every public function that may wait for another thread.
fn call_everything_that_waits(
    props: &Properties,
    n: &DynamicProperty<u32>,
    id: SourceId,
) -> Outcomes {
    const LONG: Duration = Duration::from_secs(3600);
    fn kind<T>(outcome: Result<T, Error>) -> Option<ErrorKind> {
        outcome.err().map(|error| error.kind())
    }
    let subscription = n.on_change(|_| {});
    vec![
        ("close_and_wait", kind(subscription.close_and_wait())),
        ("wait_until", kind(n.wait_until(|_| false, LONG))),
        ("recv_timeout", kind(n.changes().recv_timeout(LONG))),
        ("wait_for", kind(props.wait_for(["missing"], LONG))),
        ("refresh_now", kind(props.refresh_now())),
        ("refresh_source", kind(props.refresh_source(id))),
        ("add_source", kind(props.add_source(Memory::new()))),
        ("remove_source", kind(props.remove_source(id))),
        (
            "move_source",
            kind(props.move_source(id, Layer::new("x", 5))),
        ),
        ("confirm", kind(props.confirm(id))),
        ("rollback_to", kind(props.rollback_to(1))),
        ("unpin", kind(props.unpin())),
        ("history", kind(props.history())),
        ("check", kind(props.check(id, Document::new()))),
        ("set", kind(props.set("x", 1))),
        ("or_key", kind(n.or_key("other"))),
        ("on_change_under", kind(props.on_change_under("", |_| {}))),
    ]
}

/// A value with a decoder that the test provides.
#[derive(Clone, Debug, PartialEq)]
struct Decoded(u32);

type Decoder = Box<dyn Fn() + Send>;

thread_local! {
    /// An action that decoding a [`Decoded`] runs on this thread.
    static DECODES: RefCell<Option<Decoder>> = const { RefCell::new(None) };
}

impl<'de> serde::Deserialize<'de> for Decoded {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        if let Some(act) = DECODES.take() {
            act();
        }
        u32::deserialize(from).map(Decoded)
    }
}

#[test]
fn no_call_waits_inside_a_validator_a_decoder_or_a_mapping() {
    run_within(Duration::from_secs(20), || {
        type Act = Box<dyn Fn() + Send>;
        let memory = Memory::from([("n", 1), ("m", 1)]);
        let act: Arc<Mutex<Option<Act>>> = Arc::default();
        let run = |act: &Arc<Mutex<Option<Act>>>| {
            let act = Arc::clone(act);
            move || {
                let act = act.lock().unwrap().take();
                if let Some(act) = act {
                    act();
                }
            }
        };
        let (in_rule, in_validator, in_mapping) = (run(&act), run(&act), run(&act));
        let stage = Arc::new(AtomicU64::new(0));
        let at = |wanted: u64| {
            let stage = Arc::clone(&stage);
            move || stage.load(Ordering::SeqCst) == wanted
        };
        let (is_rule, is_validator, is_mapping) = (at(0), at(1), at(2));
        let props = Properties::builder()
            .source(memory.clone())
            .validate(move |_| {
                if is_rule() {
                    in_rule();
                }
                Ok(())
            })
            .build()
            .unwrap();
        let n = props.property::<u32>("n").build().unwrap();
        let validated = props.property::<u32>("m").validate(move |_| {
            if is_validator() {
                in_validator();
            }
            Ok(())
        });
        let validated = validated.build().unwrap();
        let _mapped = validated.map(move |m| {
            if is_mapping() {
                in_mapping();
            }
            *m
        });
        let _decoded = props.property::<Decoded>("m").build().unwrap();
        let id = props.health().sources[0].source;
        let (busy, its_handle, its_id) = keep_committing();
        for call_site in 0..8 {
            let is_other = call_site >= 4;
            let call_site = call_site % 4;
            stage.store(call_site, Ordering::SeqCst);
            let (report, inbox) = reports();
            let (view, handle, id) = match is_other {
                true => (busy.clone(), its_handle.clone(), its_id),
                false => (props.clone(), n.clone(), id),
            };
            let wait: Act =
                Box::new(move || report(call_everything_that_waits(&view, &handle, id)));
            match call_site {
                3 => DECODES.set(Some(wait)),
                _ => *act.lock().unwrap() = Some(wait),
            }
            memory
                .set("m", 2 + call_site as u32 + 4 * u32::from(is_other))
                .unwrap();
            for (call, kind) in inbox.next() {
                let what = format!("{call} at site {call_site}, of others: {is_other}");
                assert_eq!(kind, Some(ErrorKind::Reentrant), "{what}");
            }
        }
        assert_eq!(props.get::<u32>("m").unwrap(), 9);
    });
}

/// Creates properties with a thread that commits until the process ends.
fn keep_committing() -> (Properties, DynamicProperty<u32>, SourceId) {
    let memory = Memory::from([("n", 1)]);
    let (report, inbox) = reports();
    let props = Properties::builder()
        .source(memory.clone())
        .validate(move |tree| {
            if tree.get::<u32>("n").is_ok_and(|n| n == 2) {
                report(());
                loop {
                    thread::park();
                }
            }
            Ok(())
        })
        .build()
        .unwrap();
    let n = props.property::<u32>("n").build().unwrap();
    let id = props.health().sources[0].source;
    thread::spawn(move || memory.set("n", 2));
    inbox.next();
    // Dropping the last clone would wait for the commit.
    std::mem::forget(props.clone());
    (props, n, id)
}

#[test]
fn a_validator_changes_and_builds_other_properties_and_waits_for_none() {
    run_within(Duration::from_secs(20), || {
        let memory = Memory::from([("n", 1)]);
        let other = Properties::builder().source(memory.clone()).build();
        let other = other.unwrap();
        let n = other.property::<u32>("n").build().unwrap();
        let id = other.health().sources[0].source;
        let (report, inbox) = reports();
        let view = other.clone();
        let props = Properties::builder()
            .validate(move |tree| {
                if !tree.contains("x") {
                    return Ok(());
                }
                view.set("written", 1).unwrap();
                memory.set("n", 2).unwrap();
                let own = Properties::builder()
                    .source(Memory::from([("n", 3)]))
                    .build()
                    .unwrap();
                assert_eq!(own.get::<u32>("n").unwrap(), 3);
                let outcomes = call_everything_that_waits(&view, &n, id);
                let rejected = |(call, kind)| (kind == Some(ErrorKind::Reentrant)).then_some(call);
                report(outcomes.into_iter().filter_map(rejected).collect());
                Ok(())
            })
            .build()
            .unwrap();
        props.set("x", 1).unwrap();
        let rejected: Vec<_> = inbox.next();
        let waiting = [
            "close_and_wait",
            "wait_until",
            "recv_timeout",
            "wait_for",
            "refresh_now",
            "refresh_source",
            "add_source",
        ];
        assert_eq!(rejected, waiting);
        assert_eq!(other.get::<u32>("written").unwrap(), 1);
    });
}

/// Creates two properties, each with a memory. A validator of each one sets the key `other` in the
/// other properties and in their memory, while both validators run.
fn write_across() -> ([(Properties, Memory); 2], [Outcomes; 2]) {
    let cells: [Arc<OnceLock<(Properties, Memory)>>; 2] = Default::default();
    let barrier = Arc::new(Barrier::new(2));
    let (report, inbox) = reports();
    let report = Arc::new(Mutex::new(report));
    let pair = [0, 1].map(|at: usize| {
        let other = Arc::clone(&cells[1 - at]);
        let (barrier, report) = (Arc::clone(&barrier), Arc::clone(&report));
        let memory = Memory::new();
        let props = Properties::builder()
            .source(memory.clone())
            .validate(move |tree| {
                let is_first = tree.contains("x") && !tree.contains("late");
                let Some((props, memory)) = other.get().filter(|_| is_first) else {
                    return Ok(());
                };
                barrier.wait();
                let outcomes: Outcomes = vec![
                    ("set", props.set("other", 1).err().map(|error| error.kind())),
                    (
                        "Memory::set",
                        memory.set("other", 2).err().map(|error| error.kind()),
                    ),
                    (
                        "add_source",
                        props
                            .add_source(Memory::new())
                            .err()
                            .map(|error| error.kind()),
                    ),
                ];
                barrier.wait();
                report.lock().unwrap()(outcomes);
                Ok(())
            })
            .build()
            .unwrap();
        cells[at].set((props.clone(), memory.clone())).unwrap();
        (props, memory)
    });
    let writers = pair.clone().map(|(props, _)| {
        thread::spawn(move || {
            props.set("x", 1).unwrap();
        })
    });
    let outcomes = [inbox.next(), inbox.next()];
    for writer in writers {
        writer.join().unwrap();
    }
    (pair, outcomes)
}

#[test]
fn each_write_of_a_validator_to_busy_other_properties_is_applied_or_fails() {
    const ROUNDS: usize = 300;
    run_within(Duration::from_secs(60), || {
        let cells: [Arc<OnceLock<Properties>>; 3] = Default::default();
        let (report, inbox) = reports();
        let report = Arc::new(Mutex::new(report));
        let all = [0, 1, 2].map(|at: usize| {
            let next = (at + 1) % 3;
            let (other, report) = (Arc::clone(&cells[next]), Arc::clone(&report));
            let last = Mutex::new(0);
            let props = Properties::builder()
                .validate(move |tree| {
                    let round = tree.get_opt::<usize>("round").unwrap().unwrap_or(0);
                    let is_new = std::mem::replace(&mut *last.lock().unwrap(), round) != round;
                    if let Some(other) = other.get().filter(|_| is_new) {
                        let key = format!("written.k{at}-{round}");
                        let outcome = other.set(&key, 1).map(drop);
                        let outcome = outcome.map_err(|error| error.kind());
                        report.lock().unwrap()((next, key, outcome));
                    }
                    Ok(())
                })
                .build()
                .unwrap();
            cells[at].set(props.clone()).unwrap();
            props
        });
        let writers = all.clone().map(|props| {
            thread::spawn(move || {
                for round in 1..=ROUNDS {
                    props.set("round", round as u64).unwrap();
                }
            })
        });
        for writer in writers {
            writer.join().unwrap();
        }
        let outcomes = inbox.all();
        assert_eq!(outcomes.len(), 3 * ROUNDS);
        for (props, key, outcome) in outcomes {
            assert!(matches!(outcome, Ok(()) | Err(ErrorKind::Reentrant)));
            let is_applied = all[props].snapshot().contains(&key);
            assert_eq!(is_applied, outcome.is_ok(), "{key}: {outcome:?}");
        }
    });
}

#[test]
fn validators_of_two_properties_that_write_to_each_other_fail_and_change_nothing() {
    run_within(Duration::from_secs(20), || {
        let (pair, outcomes) = write_across();
        for (call, kind) in outcomes.into_iter().flatten() {
            assert_eq!(kind, Some(ErrorKind::Reentrant), "{call}");
        }
        for (props, memory) in pair {
            assert_eq!(props.get::<u32>("x").unwrap(), 1);
            // A commit would include leftover changes.
            memory.set("late", 1).unwrap();
            assert!(!props.snapshot().contains("other"));
            assert!(!format!("{memory:?}").contains("other"), "{memory:?}");
        }
    });
}

#[test]
fn a_validator_may_close_the_subscription_of_a_committing_callback() {
    run_within(Duration::from_secs(20), || {
        let props = Properties::builder().default("n", 1).build().unwrap();
        let cell: Arc<Mutex<Option<Subscription>>> = Arc::default();
        let (in_callback, is_in_callback) = std::sync::mpsc::channel();
        let (in_validator, is_in_validator) = std::sync::mpsc::channel::<()>();
        let own = Arc::clone(&cell);
        let m = props.property::<u32>("m").default(0);
        let (report, inbox) = reports();
        let waits = Mutex::new(is_in_callback);
        let m = m.validate(move |_| {
            let subscription = own.lock().unwrap().take();
            if let Some(subscription) = subscription {
                waits.lock().unwrap().recv().unwrap();
                in_validator.send(()).unwrap();
                report(subscription.close_and_wait().unwrap_err().kind());
            }
            Ok(())
        });
        let m = m.build().unwrap();
        let n = props.property::<u32>("n").build().unwrap();
        let view = props.clone();
        let subscription = n.on_change(move |_| {
            in_callback.send(()).unwrap();
            is_in_validator.recv().unwrap();
            view.set("from_the_callback", 1).unwrap();
        });
        *cell.lock().unwrap() = Some(subscription);
        // The callback runs while the validator does.
        let writer = {
            let props = props.clone();
            thread::spawn(move || props.set("n", 2).unwrap())
        };
        writer.join().unwrap();
        props.set("m", 1).unwrap();
        assert_eq!(inbox.next(), ErrorKind::Reentrant);
        assert_eq!(m.get(), 1);
        props
            .wait_for(["from_the_callback"], Duration::from_secs(10))
            .unwrap();
    });
}

#[test]
fn a_callback_may_wait_for_a_later_change() {
    for inline in [true, false] {
        run_within(Duration::from_secs(20), move || {
            let builder = Properties::builder().default("n", 1).default("m", 1);
            let props = match inline {
                true => builder.inline_callbacks().build().unwrap(),
                false => builder.build().unwrap(),
            };
            let n = props.property::<u32>("n").build().unwrap();
            let m = props.property::<u32>("m").build().unwrap();
            let (report, inbox) = reports();
            let (view, waits) = (props.clone(), m.clone());
            let _sub = n.on_change(move |_| {
                let other = waits.on_change(|_| {});
                other.close_and_wait().unwrap();
                view.refresh_now().unwrap();
                view.wait_for(["n"], Duration::from_secs(10)).unwrap();
                let reached = waits.wait_until(|m| *m == 2, Duration::from_secs(10));
                report(reached.unwrap());
            });
            let writer = {
                let props = props.clone();
                thread::spawn(move || props.set("n", 2).unwrap())
            };
            while props.generation() < 2 {
                thread::yield_now();
            }
            props.set("m", 2).unwrap();
            assert_eq!(inbox.next(), 2);
            writer.join().unwrap();
        });
    }
}

#[test]
fn a_validator_may_drop_the_last_clones_of_its_own_and_other_properties() {
    run_within(Duration::from_secs(20), || {
        let props = Properties::builder().default("n", 1).build().unwrap();
        let cell: Arc<Mutex<Option<Properties>>> = Arc::default();
        let own = Arc::clone(&cell);
        let took = Arc::new(Mutex::new(None));
        let time = Arc::clone(&took);
        let n = props.property::<u32>("n").validate(move |_| {
            let last = own.lock().unwrap().take();
            if let Some(last) = last {
                let begun = Instant::now();
                drop(last);
                *time.lock().unwrap() = Some(begun.elapsed());
            }
            Ok(())
        });
        let n = n.build().unwrap();
        // A callback that waits for the commit keeps a thread busy.
        let (busy, is_busy) = std::sync::mpsc::channel();
        let view = props.clone();
        let weak = props.property::<u32>("other").default(0).build().unwrap();
        let (go_on, may_go_on) = std::sync::mpsc::channel::<()>();
        weak.on_change(move |_| {
            busy.send(()).unwrap();
            may_go_on.recv().unwrap();
        })
        .detach();
        props.set("other", 1).unwrap();
        is_busy.recv().unwrap();
        let memory = Memory::from([("n", 2)]);
        props.add_source(memory.clone()).unwrap();
        drop(view);
        *cell.lock().unwrap() = Some(props);
        memory.set("n", 3).unwrap();
        let took = took.lock().unwrap().expect("the validator ran");
        assert!(took < Duration::from_millis(800), "{took:?}");
        assert_eq!(n.get(), 3);
        go_on.send(()).unwrap();
    });
}

#[test]
fn a_table_is_not_absent_for_a_condition() {
    let builder = Properties::builder().source(Memory::from([("a.x", 1)]));
    let props = builder.build().unwrap();
    let outcome = props.transaction(|tx| {
        tx.if_value("a", None)?;
        tx.set("b", 1)
    });
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Conflict);
}
