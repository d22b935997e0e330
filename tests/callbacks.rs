//! Callbacks: when they run, in which order, and what they may do.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use liveprops::health::SourceEventKind;
use liveprops::property::Subscription;
use liveprops::sources::Memory;
use liveprops::{DynamicProperty, Error, ErrorKind, Key, Properties};
use support::child::{self, Child};
#[cfg(target_os = "linux")]
use support::proc::{status, threads, threads_named};
use support::{DEADLINE, Gate, eventually, reports, run_within};

fn one_key(value: u32) -> (Memory, Properties, DynamicProperty<u32>) {
    let memory = Memory::from([("n", value)]);
    let props = Properties::builder()
        .source(memory.clone())
        .build()
        .unwrap();
    let n = props.property::<u32>("n").build().unwrap();
    (memory, props, n)
}

fn inline_key(value: u32) -> (Memory, Properties, DynamicProperty<u32>) {
    let memory = Memory::from([("n", value)]);
    let props = Properties::builder()
        .inline_callbacks()
        .source(memory.clone())
        .build()
        .unwrap();
    let n = props.property::<u32>("n").build().unwrap();
    (memory, props, n)
}

#[test]
fn registering_calls_no_callback_and_a_change_has_old_new_origin_and_generation()
-> Result<(), Error> {
    let (memory, props, n) = inline_key(1);
    let (report, inbox) = reports();
    let _sub = n.on_change(move |change| {
        let origin = change.new_origin().map(ToString::to_string);
        let old_origin = change.old_origin().is_some();
        let key = change.key().to_string();
        report((
            *change.old_value(),
            *change.new_value(),
            key,
            origin,
            old_origin,
            change.generation(),
        ));
    });
    assert!(inbox.all().is_empty(), "not at registration");
    memory.set("n", 2)?;
    let generation = props.generation();
    let origin = props.explain("n").origin.map(|origin| origin.to_string());
    assert!(origin.is_some());
    assert_eq!(
        inbox.all(),
        [(1, 2, "n".to_owned(), origin, true, generation)]
    );
    Ok(())
}

#[test]
fn on_change_now_calls_once_before_it_returns_and_then_as_on_change_does() -> Result<(), Error> {
    let (memory, _props, n) = one_key(7);
    let (report, inbox) = reports();
    let here = thread::current().id();
    let _sub = n.on_change_now(move |value| report((*value, thread::current().id() == here)));
    assert_eq!(inbox.all(), [(7, true)]);
    memory.set("n", 8)?;
    assert_eq!(inbox.next(), (8, false));
    Ok(())
}

// dynamic-config fires its hooks when identical bytes are written again.
#[test]
fn only_a_different_typed_value_is_a_change() -> Result<(), Error> {
    let memory = Memory::from([("n", "1")]);
    let props = Properties::builder()
        .inline_callbacks()
        .source(memory.clone())
        .build()?;
    let number = props.property::<u32>("n").build()?;
    let text = props.property::<String>("n").build()?;
    let (report, numbers) = reports();
    let _a = number.on_change(move |change| report(*change.new_value()));
    let (report, texts) = reports();
    let _b = text.on_change(move |change| report(change.new_value().clone()));

    memory.set("n", "1")?;
    assert!(
        numbers.all().is_empty() && texts.all().is_empty(),
        "same text"
    );
    memory.set("n", "01")?;
    assert!(numbers.all().is_empty(), "the same number");
    assert_eq!(texts.all(), ["01"], "another text");
    memory.set("n", 1)?;
    assert!(numbers.all().is_empty());
    assert_eq!(texts.all(), ["1"]);
    Ok(())
}

#[test]
fn a_value_that_is_removed_and_restored_is_two_changes_for_a_fast_subscriber() -> Result<(), Error>
{
    let (memory, _props, n) = inline_key(1);
    let (report, inbox) = reports();
    let _sub = n.on_change(move |change| report((*change.old_value(), *change.new_value())));
    memory.set("n", 2)?;
    memory.set("n", 1)?;
    assert_eq!(inbox.all(), [(1, 2), (2, 1)]);
    Ok(())
}

#[test]
fn no_call_begins_after_its_guard_is_dropped_during_ten_thousand_commits() -> Result<(), Error> {
    let (memory, _props, n) = one_key(0);
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (memory, stop) = (memory.clone(), Arc::clone(&stop));
        thread::spawn(move || {
            let mut i = 0;
            while i < 10_000 || !stop.load(Ordering::Relaxed) {
                i += 1;
                memory.set("n", i).unwrap();
            }
        })
    };
    let late = Arc::new(AtomicU64::new(0));
    let mut called = 0;
    for round in 0..2_000 {
        let dropped = Arc::new(AtomicBool::new(false));
        let calls = Arc::new(AtomicU64::new(0));
        let sub = {
            let (dropped, late, calls) = (dropped.clone(), late.clone(), calls.clone());
            n.on_change(move |_| {
                calls.fetch_add(1, Ordering::Relaxed);
                if dropped.load(Ordering::SeqCst) {
                    late.fetch_add(1, Ordering::Relaxed);
                }
                // Long enough that the next change waits while the guard is dropped.
                if round % 4 == 0 {
                    thread::sleep(Duration::from_micros(300));
                }
            })
        };
        if round % 4 == 0 {
            eventually(Duration::from_millis(5), || {
                calls.load(Ordering::Relaxed) > 0
            });
        }
        // A running call may finish after a plain drop, so the flag is set when none runs.
        sub.close_and_wait().unwrap();
        dropped.store(true, Ordering::SeqCst);
        called += calls.load(Ordering::Relaxed);
    }
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    assert_eq!(late.load(Ordering::Relaxed), 0);
    assert!(called > 0, "the race was real");
    Ok(())
}

#[test]
fn closing_and_waiting_returns_when_no_call_is_running() -> Result<(), Error> {
    let (memory, _props, n) = one_key(0);
    let inside = Arc::new(AtomicBool::new(false));
    let (report, inbox) = reports();
    let sub = {
        let inside = Arc::clone(&inside);
        n.on_change(move |_| {
            inside.store(true, Ordering::SeqCst);
            report(());
            thread::sleep(Duration::from_millis(100));
            inside.store(false, Ordering::SeqCst);
        })
    };
    memory.set("n", 1)?;
    inbox.next();
    assert!(inside.load(Ordering::SeqCst));
    sub.close_and_wait().unwrap();
    assert!(!inside.load(Ordering::SeqCst));
    Ok(())
}

#[test]
fn a_dropped_guard_frees_what_its_callback_captured() -> Result<(), Error> {
    let (memory, props, n) = one_key(0);
    let captured = Arc::new(());
    let sub = {
        let captured = Arc::clone(&captured);
        n.on_change(move |_| drop(Arc::clone(&captured)))
    };
    let under = {
        let captured = Arc::clone(&captured);
        props.on_change_under("", move |_| drop(Arc::clone(&captured)))?
    };
    memory.set("n", 1)?;
    drop(sub);
    drop(under);
    assert!(eventually(DEADLINE, || Arc::strong_count(&captured) == 1));
    Ok(())
}

#[test]
fn a_detached_subscription_lives_as_long_as_the_properties() -> Result<(), Error> {
    let (memory, props, n) = one_key(0);
    let captured = Arc::new(());
    let (report, inbox) = reports();
    {
        let captured = Arc::clone(&captured);
        n.on_change(move |change| report((Arc::strong_count(&captured), *change.new_value()).1))
            .detach();
    }
    memory.set("n", 5)?;
    assert_eq!(inbox.next(), 5);
    drop(props);
    assert!(eventually(DEADLINE, || Arc::strong_count(&captured) == 1));
    Ok(())
}

#[test]
fn a_callback_that_panics_is_counted_and_the_four_others_are_always_called() -> Result<(), Error> {
    let (memory, props, n) = one_key(0);
    let (event, events) = reports();
    let _events = props.on_source_event(move |e| {
        if let SourceEventKind::CallbackPanicked(error) = &e.kind {
            event(error.to_string());
        }
    });
    let newest: Vec<Arc<AtomicU32>> = (0..5).map(|_| Arc::default()).collect();
    let _subs: Vec<Subscription> = newest
        .iter()
        .enumerate()
        .map(|(i, newest)| {
            let newest = Arc::clone(newest);
            n.on_change(move |change| {
                assert!(i != 2, "boom number {}", change.new_value());
                newest.store(*change.new_value(), Ordering::SeqCst);
            })
        })
        .collect();
    let rounds = 200;
    for round in 1..=rounds {
        memory.set("n", round)?;
        let all = |seen: &Arc<AtomicU32>| seen.load(Ordering::SeqCst) == round;
        assert!(eventually(DEADLINE, || {
            newest.iter().filter(|seen| all(seen)).count() == 4
                && props.health().callback_panics == u64::from(round)
        }));
    }
    assert!(events.next().contains("boom number 1"));
    assert_eq!(n.get(), rounds);
    Ok(())
}

#[test]
fn a_panic_inside_on_change_now_is_contained_too() -> Result<(), Error> {
    let (memory, props, n) = one_key(0);
    let (report, inbox) = reports();
    let _sub = n.on_change_now(move |value| {
        assert!(*value > 0, "not at zero");
        report(*value);
    });
    assert_eq!(props.health().callback_panics, 1);
    memory.set("n", 3)?;
    assert_eq!(inbox.next(), 3, "and it is called again");
    Ok(())
}

// notify 205, 463: deadlock when watch or unwatch is called from the handler.
fn every_call_is_legal_in_a_callback(inline: bool) {
    run_within(Duration::from_secs(20), move || {
        let memory = Memory::from([("n", 0)]);
        let mut builder = Properties::builder().source(memory.clone()).history(8);
        if inline {
            builder = builder.inline_callbacks();
        }
        let props = builder.build().unwrap();
        let n = props.property::<u32>("n").build().unwrap();
        let kept: Arc<Mutex<Vec<Subscription>>> = Arc::default();
        let own: Arc<Mutex<Option<Subscription>>> = Arc::default();
        let (report, inbox) = reports();
        let last = Arc::new(Mutex::new(Some(props.clone())));
        let sub = {
            let (memory, n, own, last) = (memory.clone(), n.clone(), own.clone(), last.clone());
            n.clone().on_change(move |change| {
                let Some(props) = last.lock().unwrap().clone() else {
                    return;
                };
                assert_eq!(props.get::<u32>("n").unwrap(), *change.new_value());
                assert_eq!(n.get(), *change.new_value());
                assert_eq!(n.load().to_string(), change.new_value().to_string());
                props.set("set", *change.new_value()).unwrap();
                memory.set("memory", *change.new_value()).unwrap();
                memory.replace([("n", *change.new_value())]).unwrap();
                let other = props.property::<u32>("set").default(0).build().unwrap();
                assert_eq!(other.get(), *change.new_value());
                assert_eq!(other.map(|v| v + 1).get(), change.new_value() + 1);
                assert!(n.or_key("set").is_ok());
                assert!(
                    props
                        .bind::<std::collections::BTreeMap<String, u32>>("")
                        .build()
                        .is_ok()
                );
                let mut kept = kept.lock().unwrap();
                kept.push(other.on_change(|_| {}));
                kept.push(other.on_change_now(|_| {}));
                kept.push(props.on_change_under("", |_| {}).unwrap());
                kept.push(props.on_source_event(|_| {}));
                kept.pop().unwrap().close_and_wait().unwrap();
                let applied = props
                    .transaction(|tx| tx.set("tx", tx.get::<u32>("n")?))
                    .unwrap();
                assert!(props.snapshot().generation() >= applied.generation);
                let id = props.add_source(Memory::from([("added", 1)])).unwrap();
                assert_eq!(props.get::<u32>("added").unwrap(), 1);
                props.refresh_source(id).unwrap();
                assert!(props.confirm(id).is_err(), "nothing is withheld");
                assert!(props.check(id, liveprops::Document::new()).is_ok());
                props.remove_source(id).unwrap();
                props.remove("set").unwrap();
                props.refresh_now().unwrap();
                props.wait_for(["n"], Duration::ZERO).unwrap();
                let newest = props.history().unwrap().last().unwrap().generation();
                props.rollback_to(newest).unwrap();
                assert!(props.pinned().is_some());
                props.unpin().unwrap();
                let _ = (
                    props.health(),
                    props.explain("n"),
                    props.scoped("n"),
                    n.versioned(),
                );
                assert_eq!(
                    n.wait_until(|_| true, Duration::ZERO).unwrap(),
                    *change.new_value()
                );
                drop(own.lock().unwrap().take());
                drop(props);
                drop(last.lock().unwrap().take());
                report(*change.new_value());
            })
        };
        *own.lock().unwrap() = Some(sub);
        drop(props);
        memory.set("n", 1).unwrap();
        assert_eq!(inbox.next(), 1);
        // The callback dropped its own subscription and the last clone: no call follows.
        assert!(last.lock().unwrap().is_none());
        memory.set("n", 2).unwrap();
        assert_eq!(n.get(), 1, "the handle keeps its last value");
        assert!(inbox.within(Duration::from_millis(20)).is_none());
    });
}

#[test]
fn every_call_is_legal_in_a_callback_on_its_own_thread() {
    every_call_is_legal_in_a_callback(false);
}

#[test]
fn every_call_is_legal_in_an_inline_callback() {
    every_call_is_legal_in_a_callback(true);
}

fn ping_pong(inline: bool) {
    let mut builder = Properties::builder().default("a", 0).default("b", 0);
    if inline {
        builder = builder.inline_callbacks();
    }
    let props = builder.build().unwrap();
    let a = props.property::<u32>("a").build().unwrap();
    let b = props.property::<u32>("b").build().unwrap();
    let (report, inbox) = reports();
    let bounce = |to: &'static str| {
        let (props, report) = (props.clone(), report.clone());
        move |change: &liveprops::property::Change<'_, u32>| {
            if let Err(error) = props.set(to, change.new_value() + 1) {
                report(error.kind());
            }
        }
    };
    let began = Instant::now();
    let subs = [a.on_change(bounce("b")), b.on_change(bounce("a"))];
    props.set("a", 1).unwrap();
    assert_eq!(inbox.next(), ErrorKind::Loop);
    assert!(began.elapsed() < DEADLINE, "{:?}", began.elapsed());
    assert!(
        inbox.within(Duration::from_millis(50)).is_none(),
        "one error"
    );
    let values = (a.get(), b.get());
    thread::sleep(Duration::from_millis(20));
    assert_eq!((a.get(), b.get()), values, "it stands still");
    let reported = |error: &Error| error.kind() == ErrorKind::Loop;
    assert_eq!(
        props
            .health()
            .rejected
            .iter()
            .filter(|e| reported(&e.error))
            .count(),
        1
    );
    drop(subs);
    props.set("a", 0).unwrap();
    assert_eq!(a.get(), 0, "and the properties go on");
}

#[test]
fn a_pair_of_callbacks_that_trigger_each_other_is_cut_off_and_reported_once() {
    ping_pong(false);
}

#[test]
fn an_inline_pair_of_callbacks_that_trigger_each_other_is_cut_off_too() {
    ping_pong(true);
}

#[test]
fn a_callback_that_triggers_itself_is_cut_off_and_reported() -> Result<(), Error> {
    for inline in [false, true] {
        let mut builder = Properties::builder().default("a", 0);
        if inline {
            builder = builder.inline_callbacks();
        }
        let props = builder.build()?;
        let a = props.property::<u32>("a").build()?;
        let (report, inbox) = reports();
        let again = props.clone();
        let sub = a.on_change(move |change| {
            // A bound, so that the test ends if the crate finds none.
            if *change.new_value() < 5_000 {
                if let Err(error) = again.set("a", change.new_value() + 1) {
                    report(error.kind());
                }
            } else {
                report(ErrorKind::Timeout);
            }
        });
        props.set("a", 1)?;
        assert_eq!(inbox.next(), ErrorKind::Loop, "inline: {inline}");
        assert!(a.get() < 100, "{}", a.get());
        drop(sub);
    }
    Ok(())
}

#[test]
fn a_busy_callback_that_writes_other_keys_is_never_mistaken_for_a_loop() -> Result<(), Error> {
    let (memory, props, n) = one_key(0);
    let (report, inbox) = reports();
    let writes = props.clone();
    let _sub = n.on_change(move |change| {
        report(
            writes
                .set("seen", *change.new_value())
                .map(|_| *change.new_value()),
        );
    });
    for i in 1..=2_000 {
        memory.set("n", i)?;
    }
    loop {
        if inbox.next()? == 2_000 {
            return Ok(());
        }
    }
}

/// Starts a thread that writes invalid values, each while the callback corrects the previous one.
fn a_callback_corrects_what_another_thread_writes(inline: bool) {
    const WRITES: i32 = 100;
    let mut builder = Properties::builder().default("a", 0);
    if inline {
        builder = builder.inline_callbacks();
    }
    let props = builder.build().unwrap();
    let a = props.property::<i32>("a").build().unwrap();
    let (corrected, next) = channel();
    let (written, go_on) = channel();
    let (report, inbox) = reports();
    let corrects = props.clone();
    let _sub = a.on_change(move |change| {
        if *change.new_value() < 0 {
            report(corrects.set("a", 0).map(|_| ()).map_err(|e| e.kind()));
            corrected.send(()).unwrap();
            go_on.recv_timeout(DEADLINE).unwrap();
        }
    });
    let writer = {
        let props = props.clone();
        thread::spawn(move || {
            for i in 2..=WRITES {
                next.recv_timeout(DEADLINE).unwrap();
                props.set("a", -i).unwrap();
                written.send(()).unwrap();
            }
            next.recv_timeout(DEADLINE).unwrap();
            written.send(()).unwrap();
        })
    };
    props.set("a", -1).unwrap();
    writer.join().unwrap();
    assert!(eventually(DEADLINE, || a.get() == 0), "{}", a.get());
    let corrections = inbox.all();
    assert_eq!(corrections.len(), WRITES as usize);
    assert!(corrections.iter().all(Result::is_ok), "{corrections:?}");
}

#[test]
fn a_callback_that_corrects_what_another_thread_writes_is_never_mistaken_for_a_loop() {
    a_callback_corrects_what_another_thread_writes(false);
}

#[test]
fn an_inline_callback_that_corrects_what_another_thread_writes_is_no_loop_either() {
    a_callback_corrects_what_another_thread_writes(true);
}

#[test]
fn a_pair_that_triggers_each_other_is_cut_off_after_writes_from_outside_too() -> Result<(), Error> {
    let props = Properties::builder()
        .default("a", 0)
        .default("b", 0)
        .build()?;
    let a = props.property::<u64>("a").build()?;
    let b = props.property::<u64>("b").build()?;
    let loops = Arc::new(AtomicU32::new(0));
    let calls = Arc::new(AtomicU64::new(0));
    let bounce = |to: &'static str| {
        let (props, loops, calls) = (props.clone(), Arc::clone(&loops), Arc::clone(&calls));
        move |change: &liveprops::property::Change<'_, u64>| {
            // A bound, so that the test ends if the crate finds no loop.
            if calls.fetch_add(1, Ordering::SeqCst) < 50_000 {
                if let Err(error) = props.set(to, change.new_value() + 1) {
                    assert_eq!(error.kind(), ErrorKind::Loop);
                    loops.fetch_add(1, Ordering::SeqCst);
                }
            }
        }
    };
    let _subs = [a.on_change(bounce("b")), b.on_change(bounce("a"))];
    for i in 1..=100 {
        props.set("a", i * 1_000)?;
    }
    assert!(eventually(DEADLINE, || loops.load(Ordering::SeqCst) > 0));
    // Each write of another thread starts a chain of at most 33 calls.
    assert!(eventually(DEADLINE, || {
        let before = calls.load(Ordering::SeqCst);
        thread::sleep(Duration::from_millis(50));
        before == calls.load(Ordering::SeqCst)
    }));
    assert!(calls.load(Ordering::SeqCst) <= 100 * 34, "{calls:?}");
    Ok(())
}

#[test]
fn a_slow_callback_delays_neither_commits_nor_others_and_sees_the_final_value_last()
-> Result<(), Error> {
    let (memory, _props, n) = one_key(0);
    let (report, slow) = reports();
    let (open, gate) = channel::<()>();
    let _slow = n.on_change(move |change| {
        report(*change.new_value());
        let _ = gate.recv();
    });
    let (report, fast) = reports();
    let _fast: Vec<_> = (0..99)
        .map(|_| {
            let report = report.clone();
            n.on_change(move |change| report(*change.new_value()))
        })
        .collect();
    for i in 1..=20 {
        memory.set("n", i)?;
        let mut reported = 0;
        while reported < 99 {
            reported += u32::from(fast.next() == i);
        }
    }
    drop(open);
    let seen: Vec<u32> = std::iter::from_fn(|| Some(slow.next()))
        .take_while(|i| *i < 20)
        .collect();
    assert!(seen.len() <= 3, "pending changes collapse: {seen:?}");
    assert!(seen.is_sorted());
    Ok(())
}

#[test]
fn several_stuck_callbacks_leave_room_for_the_others() -> Result<(), Error> {
    let (memory, props, n) = one_key(0);
    let release = Gate::closed();
    let (report, inbox) = reports();
    let mut subs = Vec::new();
    for i in 0..12 {
        let (release, report) = (release.clone(), report.clone());
        subs.push(n.on_change(move |change| {
            if i % 2 == 0 {
                release.pass();
            } else {
                report(*change.new_value());
            }
        }));
    }
    for round in 1..=3 {
        memory.set("n", round)?;
        for _ in 0..6 {
            assert_eq!(inbox.next(), round);
        }
    }
    release.open();
    drop(subs);
    drop(props);
    Ok(())
}

#[test]
fn every_subscriber_sees_increasing_values_and_the_last_of_a_hundred_thousand_commits()
-> Result<(), Error> {
    let memory = Memory::new();
    let props = Properties::builder().source(memory.clone()).build()?;
    let keys = ["k.a", "k.b", "k.c", "k.d"];
    let mut newest: Vec<Arc<(AtomicU64, AtomicU64)>> = Vec::new();
    let mut subs = Vec::new();
    for key in keys {
        let handle = props.property::<u64>(key).default(0).build()?;
        for _ in 0..3 {
            let state: Arc<(AtomicU64, AtomicU64)> = Arc::default();
            newest.push(Arc::clone(&state));
            subs.push(handle.on_change(move |change| {
                let (value, generation) = (&state.0, &state.1);
                // Values and generations increase, and each old value is the last new one.
                assert!(value.swap(*change.new_value(), Ordering::SeqCst) == *change.old_value());
                assert!(*change.new_value() > *change.old_value());
                assert!(
                    generation.swap(change.generation(), Ordering::SeqCst) < change.generation()
                );
            }));
        }
    }
    let mut random = support::Random(42);
    let mut finals = [0u64; 4];
    for i in 1..=100_000u64 {
        let k = random.below(4) as usize;
        finals[k] = i;
        memory.set(keys[k], i)?;
    }
    for (i, state) in newest.iter().enumerate() {
        let last = finals[i / 3];
        assert!(
            eventually(DEADLINE, || state.0.load(Ordering::SeqCst) == last),
            "{i}"
        );
    }
    assert_eq!(props.health().callback_panics, 0);
    Ok(())
}

// Archaius 65, 136: one callback per batch, not per key.
#[test]
fn a_transaction_of_twenty_keys_is_one_call_of_twenty_changes() -> Result<(), Error> {
    let props = Properties::builder()
        .inline_callbacks()
        .default("db.k3", "old")
        .build()?;
    let (report, inbox) = reports();
    let _sub = props.on_change_under("db", move |batch| {
        let changes: Vec<_> = batch
            .changes()
            .iter()
            .map(|c| {
                (
                    c.key().to_string(),
                    c.old_value().cloned(),
                    c.new_value().cloned(),
                )
            })
            .collect();
        let seen = batch.snapshot().get_opt::<u32>("db.k7").unwrap();
        report((batch.generation(), changes, seen));
    })?;
    let applied = props.transaction(|tx| {
        for i in 0..20 {
            tx.set(&format!("db.k{i}"), i)?;
        }
        tx.set("other.key", 1)
    })?;
    assert_eq!(applied.changed, 21);
    let calls = inbox.all();
    assert_eq!(calls.len(), 1);
    let (generation, changes, seen) = &calls[0];
    assert_eq!(
        (*generation, changes.len(), *seen),
        (applied.generation, 20, Some(7))
    );
    assert!(changes.is_sorted_by_key(|(key, ..)| key.clone()));
    let old = |key: &str| changes.iter().find(|(k, ..)| k == key).unwrap().1.clone();
    assert_eq!((old("db.k3"), old("db.k4")), (Some("old".into()), None));

    props.set("other.key", 2)?;
    props.set("dbx", 2)?;
    assert!(inbox.all().is_empty(), "nothing under the prefix changed");
    props.remove("db")?;
    let calls = inbox.all();
    assert_eq!((calls.len(), calls[0].1.len()), (1, 20));
    Ok(())
}

#[test]
fn batches_come_in_order_and_lose_no_key_however_slow_the_subscriber_is() -> Result<(), Error> {
    let props = Properties::builder().build()?;
    let (report, inbox) = reports();
    let gate = Gate::closed();
    let open = gate.clone();
    let _sub = props.on_change_under("", move |batch| {
        open.pass();
        let changes = batch.changes().iter();
        let changes: Vec<_> = changes
            .map(|c| (c.key().to_string(), c.new_value().cloned()))
            .collect();
        report((batch.generation(), changes));
    })?;
    for i in 0..1_000 {
        props.set(&format!("k{}", i % 300), i)?;
    }
    let last = props.generation();
    gate.open();
    let (mut at, mut model) = (0, std::collections::BTreeMap::new());
    while at < last {
        let (generation, changes) = inbox.next();
        assert!(generation > at);
        at = generation;
        model.extend(changes);
    }
    for (key, value) in &model {
        let number: i64 = key[1..].parse().unwrap();
        let newest = (0..1_000).rev().find(|i| i % 300 == number).unwrap();
        assert_eq!(value, &Some(newest.into()), "{key}");
    }
    assert_eq!(model.len(), 300);
    Ok(())
}

// The queue of a stuck subscriber is bounded by the keys, not by the commits.
#[test]
fn ten_thousand_commits_need_no_memory_for_a_stuck_subscriber() -> Result<(), Error> {
    let props = Properties::builder().build()?;
    let gate = Gate::closed();
    let open = gate.clone();
    let (report, inbox) = reports();
    let _sub = props.on_change_under("", move |batch| {
        report(
            batch
                .changes()
                .last()
                .and_then(|change| change.get::<String>().unwrap()),
        );
        open.pass();
    })?;
    let text = |i: u32| format!("{i:01000}");
    props.set("k", text(0))?;
    inbox.next();
    let info = allocation_counter::measure(|| {
        for i in 1..=10_000 {
            props.set("k", text(i)).unwrap();
        }
    });
    assert!(
        info.bytes_current < 1_000_000,
        "{} bytes wait",
        info.bytes_current
    );
    gate.open();
    let seen = std::iter::from_fn(|| inbox.next()).position(|seen| seen == text(10_000));
    assert!(seen.is_some_and(|calls| calls <= 65), "{seen:?}");
    Ok(())
}

// Added and removed keys leave nothing behind.
#[test]
fn keys_that_come_and_go_need_no_memory_for_a_stuck_subscriber() -> Result<(), Error> {
    let props = Properties::builder().build()?;
    let (report, inbox) = reports();
    let (open, gate) = channel::<()>();
    let _sub = props.on_change_under("", move |batch| {
        let keys = batch
            .changes()
            .iter()
            .map(|change| change.key().to_string());
        report(keys.collect::<Vec<_>>());
        let _ = gate.recv();
    })?;
    props.set("begin", 1)?;
    assert_eq!(inbox.next(), ["begin"]);
    let info = allocation_counter::measure(|| {
        for i in 0..20_000 {
            let key = format!("key{i}");
            props.set(&key, i).unwrap();
            props.remove(&key).unwrap();
        }
        props.set("end", 1).unwrap();
    });
    assert!(
        info.bytes_current < 200_000,
        "{} bytes wait",
        info.bytes_current
    );
    drop(open);
    assert_eq!(inbox.next(), ["end"], "what came and went is left out");
    Ok(())
}

#[test]
fn changes_during_a_slow_call_are_one_batch_with_the_oldest_and_newest_values() -> Result<(), Error>
{
    let props = Properties::builder()
        .default("changes", 0)
        .default("comes_back", 0)
        .default("goes", 0)
        .build()?;
    let (report, inbox) = reports();
    let (open, gate) = channel::<()>();
    let _sub = props.on_change_under("", move |batch| {
        let changes = batch.changes().iter().map(ToString::to_string);
        let seen = batch.snapshot().get_opt::<u32>("changes").unwrap();
        report((batch.generation(), changes.collect::<Vec<_>>(), seen));
        let _ = gate.recv_timeout(DEADLINE);
    })?;
    props.set("begin", 1)?;
    inbox.next();
    for i in 1..=3 {
        props.set("changes", i)?;
        props.set("comes_back", i)?;
    }
    props.set("comes", 1)?;
    props.set("goes", 5)?;
    props.set("comes_back", 0)?;
    let last = props.generation();
    drop(open);
    let (generation, changes, seen) = inbox.next();
    assert_eq!((generation, seen), (last, Some(3)));
    let changes: Vec<_> = changes
        .iter()
        .map(|change| change.split(" (").next().unwrap())
        .collect();
    assert_eq!(
        changes,
        ["changes: 0 -> 3", "comes: absent -> 1", "goes: 0 -> 5"]
    );
    assert!(
        inbox.within(Duration::from_millis(20)).is_none(),
        "one batch"
    );
    Ok(())
}

#[test]
fn a_batch_without_net_changes_calls_no_callback() -> Result<(), Error> {
    let props = Properties::builder().default("n", 0).build()?;
    let (report, inbox) = reports();
    let (open, gate) = channel::<()>();
    let _sub = props.on_change_under("", move |batch| {
        report(batch.changes().len());
        let _ = gate.recv_timeout(DEADLINE);
    })?;
    props.set("begin", 1)?;
    assert_eq!(inbox.next(), 1);
    props.set("n", 1)?;
    props.set("n", 0)?;
    props.set("new", 1)?;
    props.remove("new")?;
    drop(open);
    assert!(inbox.within(Duration::from_millis(50)).is_none());
    props.set("n", 1)?;
    assert_eq!(inbox.next(), 1);
    Ok(())
}

#[test]
fn a_batch_of_several_generations_shows_no_secret_that_one_of_them_replaced() -> Result<(), Error> {
    let memory = Memory::from([("db.password", "hunter2"), ("copy", "${db.password}")]);
    let props = Properties::builder()
        .source(memory.clone())
        .secret("db.password")
        .build()?;
    assert_eq!(props.get::<String>("copy")?, "hunter2");
    let (report, inbox) = reports();
    let (open, gate) = channel::<()>();
    let _sub = props.on_change_under("", move |batch| {
        report(format!("{batch:?}"));
        let _ = gate.recv_timeout(DEADLINE);
    })?;
    memory.set("begin", 1)?;
    inbox.next();
    memory.set("copy", "plain")?;
    memory.set("copy", "plainer")?;
    drop(open);
    let shown = inbox.next();
    assert!(
        shown.contains("copy") && !shown.contains("hunter2"),
        "{shown}"
    );
    Ok(())
}

#[test]
fn a_batch_leaves_out_values_that_only_move_to_another_layer() -> Result<(), Error> {
    let (weak, strong) = (Memory::from([("n", 1)]), Memory::from([("n", 1), ("m", 1)]));
    let props = Properties::builder()
        .inline_callbacks()
        .source(weak)
        .source(strong.clone())
        .build()?;
    let (report, inbox) = reports();
    let _sub = props.on_change_under("", move |batch| {
        let keys = batch
            .changes()
            .iter()
            .map(|change| change.key().to_string());
        report(keys.collect::<Vec<_>>());
    })?;
    strong.remove("n")?;
    assert!(inbox.all().is_empty(), "the value is the same");
    strong.replace([("n", 1), ("m", 2)])?;
    assert_eq!(inbox.all(), [["m"]]);
    Ok(())
}

// An idle thread ends after 10 seconds.
#[test]
#[cfg(target_os = "linux")]
fn the_threads_of_idle_properties_end() {
    if child::role().is_none() {
        return Child::of("the_threads_of_idle_properties_end").succeeds();
    }
    let before = threads();
    let (report, inbox) = reports();
    let all: Vec<_> = (0..50)
        .map(|_| {
            let (memory, props, n) = one_key(0);
            let report = report.clone();
            let sub = n.on_change(move |change| report(*change.new_value()));
            memory.set("n", 1).unwrap();
            (memory, props, n, sub)
        })
        .collect();
    all.iter().for_each(|_| assert_eq!(inbox.next(), 1));
    assert!(threads() >= before + 50);
    assert!(eventually(3 * DEADLINE, || threads() == before));
    for (memory, ..) in &all {
        memory.set("n", 2).unwrap();
        assert_eq!(inbox.next(), 2, "called again");
    }
    child::report("all ended");
}

// A reader of a replaced tree or value needs the watchdog only for a short time.
#[test]
#[cfg(target_os = "linux")]
fn the_threads_of_properties_end_after_their_readers_are_done() {
    if child::role().is_none() {
        return Child::of("the_threads_of_properties_end_after_their_readers_are_done").succeeds();
    }
    let watchdogs = || threads_named("liveprops-watch");
    let all: Vec<_> = (0..20)
        .map(|_| {
            let memory = Memory::from([("n", 0)]);
            let builder = Properties::builder().source(memory.clone());
            let props = builder.build().unwrap();
            let text = props.property::<String>("text").default(String::new());
            (memory, props, text.build().unwrap())
        })
        .collect();
    for round in 0..2 {
        let handles: Vec<_> = all
            .iter()
            .map(|(memory, props, text)| {
                let mut reader = text.reader();
                reader.get();
                let snapshot = props.snapshot();
                memory.set("text", format!("{round}")).unwrap();
                (snapshot, reader)
            })
            .collect();
        assert!(
            eventually(DEADLINE, || watchdogs() == 20),
            "one retries for each"
        );
        drop(handles);
        assert!(
            eventually(3 * DEADLINE, || watchdogs() == 0),
            "{} watchdogs are left in round {round}",
            watchdogs()
        );
    }
    child::report("all ended");
}

// Three trees of 2.6 MB and their changes: the one of the running call, the first one of its next
// batch, and the one in force. A tree per generation needed 292 MB for 64 generations.
#[test]
#[cfg(target_os = "linux")]
fn a_stuck_callback_retains_less_than_thirty_megabytes_of_a_small_tree() {
    const TEST: &str = "a_stuck_callback_retains_less_than_thirty_megabytes_of_a_small_tree";
    const MOST: usize = 30 << 20;
    if child::role().is_none() {
        return Child::of(TEST).succeeds();
    }
    let memory = Memory::new();
    let fill = |round: u32| {
        let pairs = (0..10_000).map(|i| (format!("section{}.key{i}", i % 100), round * 10_000 + i));
        memory.replace(pairs).unwrap();
    };
    let props = Properties::builder()
        .source(memory.clone())
        .build()
        .unwrap();
    let (report, inbox) = reports();
    let (open, gate) = channel::<()>();
    let _sub = props
        .on_change_under("", move |batch| {
            report(batch.changes().len());
            let _ = gate.recv();
        })
        .unwrap();
    // The allocator keeps some memory of each commit for a short time.
    (0..4).for_each(fill);
    inbox.next();
    let before = status("VmRSS") as usize * 1024;
    (4..24).for_each(fill);
    let grown = (status("VmRSS") as usize * 1024).saturating_sub(before);
    assert!(grown < MOST, "{grown} bytes");
    child::report(format!("{grown} bytes are retained"));
    drop(open);
    assert_eq!(inbox.next(), 10_000);
}

#[test]
fn a_channel_of_changes_collapses_to_the_newest_and_times_out_by_name() -> Result<(), Error> {
    let (memory, _props, n) = one_key(1);
    let mut changes = n.changes();
    assert!(changes.try_recv().is_none());
    memory.set("n", 2)?;
    memory.set("n", 3)?;
    assert_eq!(changes.recv_timeout(DEADLINE)?.value, 3);
    assert!(changes.try_recv().is_none());
    memory.set("n", "03")?;
    let error = changes.recv_timeout(Duration::from_millis(20)).unwrap_err();
    assert_eq!(
        (error.kind(), error.key().map(Key::as_str)),
        (ErrorKind::Timeout, Some("n"))
    );
    let writer = thread::spawn(move || memory.set("n", 4));
    assert_eq!(changes.recv_timeout(DEADLINE)?.value, 4);
    writer.join().unwrap()
}

/// A minimal executor with one thread.
fn block_on<F: Future>(future: F, limit: Duration) -> Option<F::Output> {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let until = Instant::now() + limit;
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(output);
        }
        let left = until.checked_duration_since(Instant::now())?;
        thread::park_timeout(left);
    }
}

#[test]
fn a_change_wakes_a_task_on_a_hand_made_executor() -> Result<(), Error> {
    let (memory, _props, n) = one_key(1);
    assert!(
        block_on(n.changed(), Duration::from_millis(20)).is_none(),
        "nothing changed"
    );

    let mut changes = n.changes();
    memory.set("n", 2)?;
    // Between the channel and the await: not missed.
    assert_eq!(block_on(changes.changed(), DEADLINE).unwrap()?.value, 2);
    // A dropped future loses nothing.
    {
        let mut dropped = pin!(changes.changed());
        let noop: Pin<&mut _> = dropped.as_mut();
        let mut context = Context::from_waker(Waker::noop());
        assert!(noop.poll(&mut context).is_pending());
    }
    memory.set("n", 3)?;
    assert_eq!(block_on(changes.changed(), DEADLINE).unwrap()?.value, 3);

    let (started, start) = reports();
    let task = thread::spawn({
        let n = n.clone();
        move || {
            let mut future = pin!(n.changed());
            let mut context = Context::from_waker(Waker::noop());
            assert!(future.as_mut().poll(&mut context).is_pending());
            started(());
            block_on(future, DEADLINE).map(|version| version.unwrap().value)
        }
    });
    start.next();
    memory.set("n", 4)?;
    assert_eq!(task.join().unwrap(), Some(4));
    Ok(())
}

#[test]
fn dropping_the_properties_ends_each_wait_for_a_change() -> Result<(), Error> {
    let (memory, props, n) = one_key(1);
    let (mut changes, mut last) = (n.changes(), n.changes());
    memory.set("n", 2)?;
    changes.recv_timeout(DEADLINE)?;
    let (started, start) = reports();
    let threads: Vec<thread::JoinHandle<Error>> = vec![
        thread::spawn({
            let (n, started) = (n.clone(), started.clone());
            move || {
                let mut future = pin!(n.changed());
                let mut context = Context::from_waker(Waker::noop());
                assert!(future.as_mut().poll(&mut context).is_pending());
                started(());
                block_on(future, DEADLINE).unwrap().unwrap_err()
            }
        }),
        thread::spawn({
            let started = started.clone();
            move || {
                started(());
                changes.recv_timeout(DEADLINE).unwrap_err()
            }
        }),
        thread::spawn({
            let n = n.clone();
            move || {
                started(());
                n.wait_until(|n| *n == 9, DEADLINE).unwrap_err()
            }
        }),
    ];
    (0..threads.len()).for_each(|_| start.next());
    drop(props);
    for thread in threads {
        let error = thread.join().unwrap();
        assert_eq!(
            (error.kind(), error.key().map(Key::as_str)),
            (ErrorKind::Closed, Some("n"))
        );
    }
    // A change before the end is received before the end.
    assert_eq!(last.recv_timeout(DEADLINE)?.value, 2);
    let error = last.recv_timeout(DEADLINE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    Ok(())
}

#[test]
fn waiting_until_a_value_satisfies_ends_with_it_or_with_a_timeout() -> Result<(), Error> {
    let (memory, _props, n) = one_key(1);
    assert_eq!(n.wait_until(|v| *v == 1, Duration::ZERO)?, 1, "already so");
    let began = Instant::now();
    let error = n
        .wait_until(|v| *v == 9, Duration::from_millis(50))
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.key().map(Key::as_str)),
        (ErrorKind::Timeout, Some("n"))
    );
    assert!((50..1_000).contains(&began.elapsed().as_millis()));
    let writer = thread::spawn(move || {
        for i in 2..=9 {
            memory.set("n", i).unwrap();
            thread::sleep(Duration::from_millis(1));
        }
    });
    assert_eq!(n.wait_until(|v| *v == 9, DEADLINE)?, 9);
    writer.join().unwrap();
    Ok(())
}

/// Calls `test` while stuck callbacks block all threads, or, inline, while a committing thread is
/// stuck in one.
fn while_callbacks_are_stuck(inline: bool, test: impl FnOnce(&Properties, &Memory)) {
    let memory = Memory::from([("stuck", 0), ("n", 0)]);
    let mut builder = Properties::builder().source(memory.clone());
    if inline {
        builder = builder.inline_callbacks();
    }
    let props = builder.build().unwrap();
    let stuck = props.property::<u32>("stuck").build().unwrap();
    let gate = Gate::closed();
    let (report, inbox) = reports();
    let subs: Vec<_> = (0..if inline { 1 } else { 64 })
        .map(|_| {
            let (gate, report) = (gate.clone(), report.clone());
            stuck.on_change(move |_| {
                report(());
                gate.pass();
            })
        })
        .collect();
    let writer = {
        let memory = memory.clone();
        thread::spawn(move || memory.set("stuck", 1).unwrap())
    };
    subs.iter().for_each(|_| inbox.next());
    test(&props, &memory);
    gate.open();
    writer.join().unwrap();
}

/// Changes `n` and then adds `late` on another thread.
fn change_soon(memory: &Memory) -> thread::JoinHandle<()> {
    let memory = memory.clone();
    thread::spawn(move || {
        thread::sleep(Duration::from_millis(30));
        memory.set("n", 1).unwrap();
        memory.set("late", 1).unwrap();
    })
}

#[test]
fn a_waiter_for_a_change_needs_no_callback_thread() {
    for inline in [false, true] {
        while_callbacks_are_stuck(inline, |props, memory| {
            let n = props.property::<u32>("n").build().unwrap();
            let mut changes = n.changes();
            let future = n.changed();
            let writer = change_soon(memory);
            let began = Instant::now();
            props.wait_for(["late"], DEADLINE).unwrap();
            n.wait_until(|n| *n == 1, DEADLINE).unwrap();
            changes.recv_timeout(DEADLINE).unwrap();
            assert_eq!(block_on(future, DEADLINE).unwrap().unwrap().value, 1);
            props.refresh_now().unwrap();
            assert!(began.elapsed() < DEADLINE / 2, "{:?}", began.elapsed());
            writer.join().unwrap();
        });
    }
}

// The commit that wakes the waiter also calls a stuck inline callback.
#[test]
fn a_waiter_for_a_change_is_woken_before_its_inline_callbacks() -> Result<(), Error> {
    let (memory, props, n) = inline_key(0);
    let (open, gate) = channel::<()>();
    let _sub = n.on_change(move |_| {
        let _ = gate.recv_timeout(DEADLINE);
    });
    let _under = props.on_change_under("", |_| {})?;
    let mut changes = n.changes();
    let waits = {
        let props = props.clone();
        thread::spawn(move || {
            let began = Instant::now();
            let found = props.wait_for(["late"], DEADLINE);
            found.map(|()| began.elapsed())
        })
    };
    let receives = thread::spawn(move || {
        let began = Instant::now();
        changes.recv_timeout(DEADLINE).map(|_| began.elapsed())
    });
    let writer = thread::spawn(move || {
        thread::sleep(Duration::from_millis(30));
        memory.replace([("n", 1), ("late", 1)])
    });
    assert!(waits.join().unwrap()? < DEADLINE / 2);
    assert!(receives.join().unwrap()? < DEADLINE / 2);
    drop(open);
    writer.join().unwrap().map(|_| ())
}

#[test]
fn waiting_for_a_key_ends_with_the_commit_that_brings_it_or_names_what_is_missing()
-> Result<(), Error> {
    let props = Properties::builder().build()?;
    let error = props
        .wait_for(["a", "b"], Duration::from_millis(20))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("`a`, `b`"), "{error}");
    let writes = props.clone();
    let writer = thread::spawn(move || {
        for i in 0..100 {
            writes.set(&format!("other{i}"), i).unwrap();
        }
        writes.set("a.below", 1).unwrap();
        writes.set("b", 1).unwrap();
    });
    props.wait_for(["a", "b"], DEADLINE)?;
    writer.join().unwrap();
    Ok(())
}

#[test]
fn the_events_of_a_source_come_in_order() -> Result<(), Error> {
    let props = Properties::builder().inline_callbacks().build()?;
    let (report, inbox) = reports();
    let _sub = props.on_source_event(move |event| {
        let name = match &event.kind {
            SourceEventKind::Initialized => "initialized",
            SourceEventKind::Updated => "updated",
            SourceEventKind::Rejected(_) => "rejected",
            SourceEventKind::Recovered => "recovered",
            SourceEventKind::Removed => "removed",
            SourceEventKind::Malformed(_) => "malformed",
            other => panic!("unexpected {other:?}"),
        };
        report((name, event.source));
    });
    let memory = Memory::from([("n", 1)]);
    let id = props.add_source(memory.clone())?;
    let _n = props.property::<u32>("n").build()?;
    memory.set("n", 2)?;
    memory.set("n", "two").unwrap_err();
    memory.set("n", 3)?;
    props.set("x", "text")?;
    assert_eq!(props.get_or("x", 5u32), 5);
    props.remove_source(id).unwrap_err();
    memory.set("n", 4)?;
    drop(_n);
    props.remove_source(id)?;
    let events: Vec<_> = inbox.all();
    let expected = [
        ("initialized", Some(id)),
        ("updated", Some(id)),
        ("rejected", Some(id)),
        ("recovered", Some(id)),
        ("updated", Some(id)),
        ("malformed", None),
        ("updated", Some(id)),
        ("removed", Some(id)),
    ];
    assert_eq!(events, expected);
    Ok(())
}

#[test]
fn inline_callbacks_have_run_when_the_commit_returns_on_its_thread() -> Result<(), Error> {
    let (memory, _props, n) = inline_key(0);
    let (report, inbox) = reports();
    let _sub = n.on_change(move |change| report((*change.new_value(), thread::current().id())));
    for i in 1..=100 {
        memory.set("n", i)?;
        assert_eq!(inbox.all(), [(i, thread::current().id())]);
    }
    Ok(())
}

// Two instances are independent (Archaius: static singletons).
#[test]
fn an_inline_callback_that_writes_to_another_instance_runs_its_callbacks() -> Result<(), Error> {
    let (first, _one, a) = inline_key(0);
    let (second, _two, b) = inline_key(0);
    let (report, inbox) = reports();
    let _a = a.on_change(move |change| second.set("n", *change.new_value()).unwrap());
    let _b = b.on_change(move |change| report(*change.new_value()));
    first.set("n", 1)?;
    assert_eq!(inbox.all(), [1]);
    Ok(())
}

#[test]
fn a_subscriber_registered_during_many_writes_ends_on_the_final_value() -> Result<(), Error> {
    let (memory, _props, n) = one_key(0);
    let done = Arc::new(AtomicBool::new(false));
    let writer = {
        let (memory, done) = (memory.clone(), Arc::clone(&done));
        thread::spawn(move || {
            let mut i = 0;
            while !done.load(Ordering::Relaxed) {
                i += 1;
                memory.set("n", i).unwrap();
            }
            i
        })
    };
    let mut subs = Vec::new();
    for _ in 0..200 {
        let newest = Arc::new(AtomicU32::new(0));
        let seen = Arc::clone(&newest);
        let handle = n.clone();
        subs.push((
            handle.get(),
            newest,
            n.on_change(move |change| {
                seen.store(*change.new_value(), Ordering::SeqCst);
            }),
        ));
        thread::yield_now();
    }
    done.store(true, Ordering::Relaxed);
    let last = writer.join().unwrap();
    // A callback registered after the last write gets no call.
    memory.set("n", last + 1)?;
    for (i, (_, newest, _sub)) in subs.iter().enumerate() {
        assert!(
            eventually(DEADLINE, || newest.load(Ordering::SeqCst) == last + 1),
            "{i}"
        );
    }
    Ok(())
}

/// Runs callbacks in parallel, spread over several properties. Each one closes the next one and
/// waits for it. Returns the outcomes, and the number of calls afterwards.
fn close_in_a_circle(
    callbacks: usize,
    spread: usize,
    inline: bool,
) -> (Vec<Result<(), Error>>, u32) {
    let memories: Vec<Memory> = (0..spread).map(|_| Memory::new()).collect();
    let all: Vec<Properties> = memories
        .iter()
        .map(|memory| {
            let builder = Properties::builder().source(memory.clone());
            let builder = match inline {
                true => builder.inline_callbacks(),
                false => builder,
            };
            builder.build().unwrap()
        })
        .collect();
    let cells: Vec<Arc<Mutex<Option<Subscription>>>> =
        (0..callbacks).map(|_| Arc::default()).collect();
    let barrier = Arc::new(std::sync::Barrier::new(callbacks));
    let calls = Arc::new(AtomicU32::new(0));
    let (report, inbox) = reports();
    for at in 0..callbacks {
        let key = format!("k{at}");
        let handle = all[at % spread].property::<u32>(&key).default(0);
        let next = Arc::clone(&cells[(at + 1) % callbacks]);
        let (barrier, calls, report) = (Arc::clone(&barrier), Arc::clone(&calls), report.clone());
        let subscription = handle.build().unwrap().on_change(move |_| {
            calls.fetch_add(1, Ordering::SeqCst);
            barrier.wait();
            let next = next.lock().unwrap().take().unwrap();
            report(next.close_and_wait());
        });
        *cells[at].lock().unwrap() = Some(subscription);
    }
    let writers: Vec<_> = (0..callbacks)
        .map(|at| {
            let memory = memories[at % spread].clone();
            thread::spawn(move || memory.set(&format!("k{at}"), 1).unwrap())
        })
        .collect();
    let outcomes = (0..callbacks).map(|_| inbox.next()).collect();
    for writer in writers {
        writer.join().unwrap();
    }
    let before = calls.load(Ordering::SeqCst);
    for at in 0..callbacks {
        memories[at % spread].set(&format!("k{at}"), 2).unwrap();
    }
    drop(all);
    (outcomes, calls.load(Ordering::SeqCst) - before)
}

#[test]
fn callbacks_that_close_each_other_in_a_circle_get_an_error_and_end() {
    run_within(DEADLINE * 10, || {
        for (callbacks, spread, inline) in [
            (2, 1, false),
            (3, 1, false),
            (5, 1, false),
            (2, 2, false),
            (3, 2, false),
            (2, 2, true),
            (3, 3, true),
        ] {
            for _ in 0..20 {
                let (outcomes, late) = close_in_a_circle(callbacks, spread, inline);
                let rejected = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
                let kinds: Vec<_> = rejected.map(Error::kind).collect();
                assert!(
                    !kinds.is_empty(),
                    "{callbacks} over {spread}, inline: {inline}"
                );
                assert!(kinds.iter().all(|kind| *kind == ErrorKind::Reentrant));
                assert_eq!(late, 0, "a closed callback is called");
            }
        }
    });
}

#[test]
fn a_callback_may_wait_for_callbacks_that_do_not_wait_for_it() {
    run_within(DEADLINE * 2, || {
        let props = Properties::builder().build().unwrap();
        let cells: [Arc<Mutex<Option<Subscription>>>; 3] = Default::default();
        let barrier = Arc::new(std::sync::Barrier::new(3));
        let (report, inbox) = reports();
        let keys = ["a", "b", "c"];
        for at in 0..3 {
            let next = cells.get(at + 1).map(Arc::clone);
            let (barrier, report) = (Arc::clone(&barrier), report.clone());
            let handle = props.property::<u32>(keys[at]).default(0).build().unwrap();
            let subscription = handle.on_change(move |_| {
                barrier.wait();
                match &next {
                    Some(next) => {
                        let next = next.lock().unwrap().take().unwrap();
                        report((at, next.close_and_wait().is_ok()));
                    }
                    None => {
                        thread::sleep(Duration::from_millis(20));
                        report((at, true));
                    }
                }
            });
            *cells[at].lock().unwrap() = Some(subscription);
        }
        for key in keys {
            props.set(key, 1).unwrap();
        }
        let ended = [inbox.next(), inbox.next(), inbox.next()];
        assert_eq!(ended, [(2, true), (1, true), (0, true)]);
    });
}

#[test]
fn an_inline_callback_runs_on_the_thread_of_its_commit_while_others_run_theirs() -> Result<(), Error>
{
    let memory = Memory::from([("a", 0), ("b", 0)]);
    let props = Properties::builder()
        .inline_callbacks()
        .source(memory.clone())
        .build()?;
    let (a_runs, a_is_running) = channel();
    let (b_runs, b_is_running) = channel();
    let (a_ends, a_has_ended) = channel();
    let (report, ran_on) = channel();
    let (a, b) = (
        props.property::<u32>("a").build()?,
        props.property::<u32>("b").build()?,
    );
    let _a = a.on_change(move |_| {
        a_runs.send(()).unwrap();
        b_is_running.recv_timeout(Duration::from_secs(10)).unwrap();
    });
    let _b = b.on_change(move |_| {
        b_runs.send(()).unwrap();
        a_has_ended.recv_timeout(Duration::from_secs(10)).unwrap();
    });
    let _second = b.on_change(move |_| report.send(thread::current().id()).unwrap());
    let other = memory.clone();
    let of_a = thread::spawn(move || {
        other.set("a", 1).unwrap();
        a_ends.send(()).unwrap();
    });
    a_is_running.recv_timeout(Duration::from_secs(10)).unwrap();
    memory.set("b", 1)?;
    assert_eq!(ran_on.try_recv(), Ok(thread::current().id()));
    of_a.join().unwrap();
    Ok(())
}

#[test]
fn inline_callbacks_of_one_instance_may_change_another() {
    let build = || Properties::builder().inline_callbacks().build().unwrap();
    let (one, two) = (build(), build());
    let reported = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&reported);
    let b = two.property::<u32>("b").default(0).build().unwrap();
    let _two = b.on_change(move |change| log.lock().unwrap().push(*change.new_value()));
    let other = two.clone();
    let a = one.property::<u32>("a").default(0).build().unwrap();
    let _one = a.on_change(move |change| {
        other.set("b", *change.new_value()).unwrap();
    });
    one.set("a", 5).unwrap();
    assert_eq!(*reported.lock().unwrap(), [5]);
}
