//! Readers and writers at full speed: no mixed snapshot, no decreasing version, no stale value
//! after a commit has returned, no lost change.
//!
//! Short by default; `cargo test --release --test stress -- --ignored --test-threads=1` runs the
//! long form.
#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use liveprops::sources::Memory;
use liveprops::{ErrorKind, Properties, Value};
use serde::Deserialize;

const SHORT: Duration = Duration::from_millis(600);
const LONG: Duration = Duration::from_secs(60);

/// Ends the other threads when one has ended or failed.
struct Running<'a>(&'a AtomicBool);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
struct Range {
    low: u64,
    high: u64,
    name: String,
}

/// Writes `i` to all keys in one commit, every second time through the override layer.
fn write(props: &Properties, memory: &Memory, i: u64) {
    let name = Value::from(format!("number {i}"));
    if i % 2 == 0 {
        let keys = ["range.low", "range.high", "single"];
        let numbers = keys.into_iter().map(|key| (key, Value::from(i)));
        let all: Vec<(&str, Value)> = numbers.chain([("range.name", name)]).collect();
        memory.replace(all).unwrap();
    } else {
        // The references make one key of the tree depend on another.
        memory
            .replace([
                ("range.low", Value::from(i)),
                ("range.high", Value::from("${range.low}")),
                ("single", Value::from("${range.high}")),
                ("range.name", name),
            ])
            .unwrap();
    }
    let low: u64 = props.get("range.low").unwrap();
    assert_eq!(low, i, "the writer reads what it wrote");
}

fn snapshots_and_handles(time: Duration) {
    let memory = Memory::new();
    memory.set("range.low", 0).unwrap();
    memory.set("range.high", 0).unwrap();
    memory.set("range.name", "number 0").unwrap();
    memory.set("single", 0).unwrap();
    let props = Properties::builder()
        .source(memory.clone())
        .build()
        .unwrap();
    let single = props.property::<u64>("single").build().unwrap();
    let double = single.map(|single| single * 2);
    let range = props.bind::<Range>("range").build().unwrap();
    let visible = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let reads = AtomicU64::new(0);

    let read = || {
        let _running = Running(&stop);
        let (mut ranges, mut singles) = (range.reader(), single.reader());
        let (mut last_generation, mut last_get, mut last_cell, mut last_double) = (0, 0, 0, 0);
        let mut rounds = 0;
        while !stop.load(Ordering::Acquire) {
            rounds += 1;
            let least = visible.load(Ordering::Acquire);

            let get = single.get();
            assert!(get >= last_get, "get went back");
            assert!(get >= least, "get is stale");
            let version = single.versioned();
            assert!(version.value >= get && version.value >= last_cell);
            let load = *single.load();
            assert!(load >= version.value, "load went back");
            let cached = *singles.get();
            assert!(cached >= load, "the reader went back");
            (last_get, last_cell) = (get, cached);

            let doubled = double.get();
            assert!(doubled >= last_double && doubled >= 2 * least);
            last_double = doubled;

            for range in [range.get(), ranges.get().clone(), range.load().clone()] {
                assert_eq!(range.low, range.high, "a mixed struct");
                assert_eq!(range.name, format!("number {}", range.low));
                assert!(range.low >= least, "a stale struct");
            }

            let snapshot = props.snapshot();
            assert!(snapshot.generation() >= last_generation);
            last_generation = snapshot.generation();
            let low: u64 = snapshot.get("range.low").unwrap();
            assert!(low >= least, "a stale snapshot");
            assert_eq!(snapshot.get::<u64>("range.high").unwrap(), low);
            assert_eq!(snapshot.get::<u64>("single").unwrap(), low);
            assert_eq!(single.at(&snapshot).unwrap(), low);
            // The number of a generation is visible only after all its values.
            assert!(single.get() >= low, "the handle lags behind the snapshot");
        }
        reads.fetch_add(rounds, Ordering::Relaxed);
    };
    thread::scope(|scope| {
        scope.spawn(read);
        scope.spawn(read);
        let until = Instant::now() + time;
        let _running = Running(&stop);
        let mut i = 0;
        while Instant::now() < until && !stop.load(Ordering::Acquire) {
            i += 1;
            write(&props, &memory, i);
            visible.store(i, Ordering::Release);
        }
        assert_eq!(props.generation(), i + 1);
    });
    println!("{} rounds of reads", reads.load(Ordering::Relaxed));
}

/// Writers of several sources and of the override layer. Every commit is one generation, and
/// subscribers see each value of each key.
fn committers(time: Duration) {
    let sources = [Memory::named("one"), Memory::named("two")];
    for (i, source) in sources.iter().enumerate() {
        source.set(&format!("key.s{i}"), 0).unwrap();
    }
    let builder = Properties::builder();
    let props = sources
        .iter()
        .fold(builder, |builder, source| builder.source(source.clone()))
        .build()
        .unwrap();
    props.set("key.over", 0).unwrap();
    let first = props.generation();
    let commits = AtomicU64::new(0);

    type Chain = Arc<Mutex<std::collections::BTreeMap<String, Value>>>;
    let chain = Chain::default();
    let newest = Arc::new(AtomicU64::new(0));
    let (log, seen) = (Arc::clone(&chain), Arc::clone(&newest));
    let _under = props
        .on_change_under("key", move |batch| {
            let before = seen.swap(batch.generation(), Ordering::AcqRel);
            assert!(before < batch.generation(), "batches out of order");
            let mut log = log.lock().unwrap();
            for change in batch.changes() {
                let new = change.new_value().unwrap().clone();
                let before = log.insert(change.key().to_string(), new);
                let before = before.unwrap_or(Value::from(0));
                assert_eq!(change.old_value(), Some(&before), "a change was lost");
            }
        })
        .unwrap();
    let over = props.property::<u64>("key.over").build().unwrap();
    let reported = Arc::new(AtomicU64::new(0));
    let last = Arc::clone(&reported);
    let _sub = over.on_change(move |change| {
        let before = last.swap(*change.new_value(), Ordering::AcqRel);
        assert_eq!(*change.old_value(), before, "a change was lost");
    });

    let until = Instant::now() + time;
    let write = |key: &str, set: &dyn Fn(&str, u64)| {
        let mut i = 0;
        while Instant::now() < until {
            i += 1;
            set(key, i);
            assert_eq!(props.get::<u64>(key).unwrap(), i, "not visible on return");
        }
        commits.fetch_add(i, Ordering::Relaxed);
        i
    };
    let (write, props) = (&write, &props);
    let over_last = thread::scope(|scope| {
        for (i, source) in sources.iter().enumerate() {
            scope.spawn(move || {
                write(&format!("key.s{i}"), &|key, value| {
                    source.set(key, value).unwrap();
                })
            });
        }
        let overrides = scope.spawn(move || {
            let set = |key: &str, value: u64| {
                let applied = props.set(key, value).unwrap();
                assert_eq!(applied.changed, 1);
                assert!(props.generation() >= applied.generation);
            };
            write("key.over", &set)
        });
        overrides.join().unwrap()
    });
    let commits = commits.load(Ordering::Relaxed);
    assert_eq!(
        props.generation() - first,
        commits,
        "one commit, one generation"
    );
    let patience = Instant::now() + Duration::from_secs(10);
    while newest.load(Ordering::Acquire) < props.generation()
        || reported.load(Ordering::Acquire) < over_last
    {
        assert!(Instant::now() < patience, "the last change is not reported");
        thread::sleep(Duration::from_millis(1));
    }
    for (key, value) in chain.lock().unwrap().iter() {
        assert_eq!(&props.get::<Value>(key).unwrap(), value, "{key}");
    }
    assert_eq!(props.health().callback_panics, 0);
    println!("{commits} commits");
}

/// Conditional increments by several threads: each fails if another write came in between.
fn increments(time: Duration) {
    let props = Properties::builder().build().unwrap();
    props.set("count", 0).unwrap();
    let until = Instant::now() + time;
    let increment = |by_value: bool| {
        let mut done = 0;
        while Instant::now() < until {
            let outcome = props.transaction(|tx| {
                let now: u64 = tx.get("count")?;
                match by_value {
                    true => tx.if_value("count", Some(now.into()))?,
                    false => tx.if_generation(tx.view().generation()),
                }
                tx.set("count", now + 1)
            });
            match outcome {
                Ok(_) => done += 1,
                Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict),
            }
        }
        done
    };
    let done: u64 = thread::scope(|scope| {
        let threads = [true, false, true].map(|by_value| scope.spawn(move || increment(by_value)));
        threads.into_iter().map(|t| t.join().unwrap()).sum()
    });
    assert_eq!(props.get::<u64>("count").unwrap(), done);
    println!("{done} increments");
}

/// Subscriptions are added and closed while values change. None is called after closing it has
/// returned.
fn subscriptions(time: Duration) {
    let memory = Memory::new();
    memory.set("n", 0).unwrap();
    let props = Properties::builder()
        .source(memory.clone())
        .build()
        .unwrap();
    let n = props.property::<u64>("n").build().unwrap();
    let until = Instant::now() + time;
    let rounds = thread::scope(|scope| {
        scope.spawn(|| {
            let mut i = 0;
            while Instant::now() < until {
                i += 1;
                memory.set("n", i).unwrap();
            }
        });
        let mut rounds = 0;
        while Instant::now() < until {
            rounds += 1;
            let over = Arc::new(AtomicBool::new(false));
            let (late, late_too) = (Arc::clone(&over), Arc::clone(&over));
            let mut last = None;
            let one = n.on_change(move |change| {
                assert!(!late.load(Ordering::Acquire), "called after the end");
                assert!(
                    last.is_none_or(|last| last == *change.old_value()),
                    "a change was lost"
                );
                last = Some(*change.new_value());
            });
            let two = props
                .on_change_under("", move |_| {
                    assert!(!late_too.load(Ordering::Acquire), "called after the end");
                })
                .unwrap();
            if rounds % 3 == 0 {
                thread::yield_now();
            }
            one.close_and_wait().unwrap();
            two.close_and_wait().unwrap();
            over.store(true, Ordering::Release);
        }
        rounds
    });
    assert_eq!(props.health().callback_panics, 0);
    println!("{rounds} subscriptions");
}

#[test]
fn readers_see_whole_generations_in_order_and_nothing_stale() {
    snapshots_and_handles(SHORT);
}

#[test]
fn commits_of_many_threads_are_one_generation_each_and_no_change_is_lost() {
    committers(SHORT);
}

#[test]
fn conditional_increments_add_up() {
    increments(SHORT / 2);
}

#[test]
fn no_callback_is_called_after_closing_it_has_returned() {
    subscriptions(SHORT / 2);
}

#[test]
#[ignore = "runs for a minute"]
fn long_readers_see_whole_generations_in_order_and_nothing_stale() {
    snapshots_and_handles(LONG);
}

#[test]
#[ignore = "runs for a minute"]
fn long_commits_of_many_threads_are_one_generation_each_and_no_change_is_lost() {
    committers(LONG);
}

#[test]
#[ignore = "runs for a minute"]
fn long_conditional_increments_add_up() {
    increments(LONG);
}

#[test]
#[ignore = "runs for a minute"]
fn long_no_callback_is_called_after_closing_it_has_returned() {
    subscriptions(LONG);
}
