//! Measures reading one value that may change: by a handle, or from a struct that is swapped or locked.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Cache};
use dynamic_config::dynamic_config;
use liveprops::{Properties, sources::Memory};
use serde::Deserialize;

use super::{floor, other, ours};
use crate::harness::{Column, How, Job, Probe, calibrate, timed};
use crate::inputs;

pub(crate) fn job() -> Job {
    let column = |title, how| Column {
        title,
        how,
        size: 0,
    };
    Job {
        name: "read",
        title: "Reading one value that may change",
        note: "A `u32` in a struct of three fields, unless stated otherwise. The writer changes it \
               up to 1,000 times a second. The values are in the first-level cache of the \
               processor. Ratios are of one thread.",
        columns: vec![
            column("one thread", How::Time),
            column("instructions", How::Instructions),
            column("two threads", How::Two),
            column("two and a writer", How::TwoWritten),
            column("writes/s", How::Writes),
        ],
        base: 0,
        counted: Some(1),
        remark: "",
        contenders: vec![
            floor("`AtomicU64`, relaxed load", atomic),
            ours("liveprops `handle.get()`, `u32`", handle_get),
            ours("liveprops `reader.get()`, `String`", reader_text),
            ours("liveprops `reader.get()`, struct", reader_struct),
            ours("liveprops `handle.load()`, struct", handle_load),
            other("`arc_swap::Cache::load`", arc_swap_cache),
            other("`ArcSwap::load`", arc_swap_load),
            other("`ArcSwap::load_full`", arc_swap_load_full),
            other("`parking_lot::RwLock`", parking_lot_rwlock),
            other("`std::sync::RwLock`", std_rwlock),
            other("`tokio::sync::watch`, `borrow()`", tokio_watch),
            other("dynamic-config `current().field`", dynamic_config_current),
        ],
    }
}

/// The settings of a program.
#[derive(Clone, PartialEq, Deserialize)]
struct Service {
    qps: u32,
    name: String,
    region: String,
}

fn service(qps: u32) -> Service {
    Service {
        qps,
        name: "checkout".to_owned(),
        region: "eu-central".to_owned(),
    }
}

const TEXT: &str = "[service]\nqps = 7\nname = \"checkout\"\nregion = \"eu-central\"\n";

fn atomic(probe: &Probe) -> Option<f64> {
    let qps = AtomicU64::new(7);
    measure(
        probe,
        || || black_box(&qps).load(Ordering::Relaxed) as u32,
        |new| qps.store(new.into(), Ordering::Relaxed),
    )
}

fn live() -> (Memory, Properties) {
    let memory = Memory::new();
    memory.set("service.qps", 7).unwrap();
    memory.set("service.name", "checkout").unwrap();
    memory.set("service.region", "eu-central").unwrap();
    let props = Properties::builder()
        .source(memory.clone())
        .build()
        .unwrap();
    (memory, props)
}

fn handle_get(probe: &Probe) -> Option<f64> {
    let (memory, props) = live();
    let qps = props.property::<u32>("service.qps").build().unwrap();
    measure(
        probe,
        || || black_box(&qps).get(),
        |new| memory.set("service.qps", new).unwrap(),
    )
}

fn reader_text(probe: &Probe) -> Option<f64> {
    let (memory, props) = live();
    let name = props.property::<String>("service.name").build().unwrap();
    measure(
        probe,
        || {
            let mut reader = name.reader();
            move || black_box(&mut reader).get().len() as u32
        },
        |new| {
            memory
                .set("service.name", format!("checkout{new}"))
                .unwrap()
        },
    )
}

fn reader_struct(probe: &Probe) -> Option<f64> {
    let (memory, props) = live();
    let service = props.bind::<Service>("service").build().unwrap();
    measure(
        probe,
        || {
            let mut reader = service.reader();
            move || black_box(&mut reader).get().qps
        },
        |new| memory.set("service.qps", new).unwrap(),
    )
}

fn handle_load(probe: &Probe) -> Option<f64> {
    let (memory, props) = live();
    let service = props.bind::<Service>("service").build().unwrap();
    measure(
        probe,
        || || black_box(&service).load().qps,
        |new| memory.set("service.qps", new).unwrap(),
    )
}

fn arc_swap_cache(probe: &Probe) -> Option<f64> {
    let swap = Arc::new(ArcSwap::from_pointee(service(7)));
    measure(
        probe,
        || {
            let mut cache = Cache::new(Arc::clone(&swap));
            move || black_box(&mut cache).load().qps
        },
        |new| swap.store(Arc::new(service(new))),
    )
}

fn arc_swap_load(probe: &Probe) -> Option<f64> {
    let swap = ArcSwap::from_pointee(service(7));
    measure(
        probe,
        || || black_box(&swap).load().qps,
        |new| swap.store(Arc::new(service(new))),
    )
}

fn arc_swap_load_full(probe: &Probe) -> Option<f64> {
    let swap = ArcSwap::from_pointee(service(7));
    measure(
        probe,
        || || black_box(&swap).load_full().qps,
        |new| swap.store(Arc::new(service(new))),
    )
}

fn parking_lot_rwlock(probe: &Probe) -> Option<f64> {
    let lock = parking_lot::RwLock::new(service(7));
    measure(
        probe,
        || || black_box(&lock).read().qps,
        |new| lock.write().qps = new,
    )
}

fn std_rwlock(probe: &Probe) -> Option<f64> {
    let lock = std::sync::RwLock::new(service(7));
    measure(
        probe,
        || || black_box(&lock).read().unwrap().qps,
        |new| lock.write().unwrap().qps = new,
    )
}

fn tokio_watch(probe: &Probe) -> Option<f64> {
    let (sender, receiver) = tokio::sync::watch::channel(service(7));
    measure(
        probe,
        || {
            let receiver = receiver.clone();
            move || black_box(&receiver).borrow().qps
        },
        |new| sender.send_modify(|service| service.qps = new),
    )
}

#[dynamic_config]
#[derive(Deserialize)]
struct Dynamic {
    qps: u32,
    #[allow(dead_code)] // the structs of all contenders have the same size
    name: String,
    #[allow(dead_code)]
    region: String,
}

/// Uses the attribute and `current()`, like the start of its documentation. An override and a reload
/// change a value: no other method keeps the layers.
fn dynamic_config_current(probe: &Probe) -> Option<f64> {
    let (_dir, path) = inputs::file(TEXT);
    let builder = Dynamic::builder("service").file(path.to_str().unwrap());
    builder.init().unwrap();
    measure(
        probe,
        || || Dynamic::current().qps,
        |new| {
            Dynamic::set_override("qps", new).unwrap();
            builder.reload().unwrap();
        },
    )
}

/// Measures a read, with a view per thread, and a write.
fn measure<R: FnMut() -> u32>(
    probe: &Probe,
    reader: impl Fn() -> R + Sync,
    write: impl Fn(u32) + Sync,
) -> Option<f64> {
    let n = || calibrate(Duration::from_millis(15), &mut reader()).0;
    let two = |n, write| two(n, &reader, write);
    match probe.how {
        How::Two => {
            let n = n();
            probe.readings(None, || Some(two(n, None).0))
        }
        How::TwoWritten => {
            let n = n();
            probe.readings(None, || Some(two(n, Some(&write)).0))
        }
        How::Writes => Some(two(8 * n(), Some(&write)).1),
        _ => probe.time(reader()),
    }
}

/// Measures nanoseconds per read while two threads read, and changes of the writer per second.
fn two<R: FnMut() -> u32>(
    n: u64,
    reader: &(impl Fn() -> R + Sync),
    write: Option<&(dyn Fn(u32) + Sync)>,
) -> (f64, f64) {
    let together = Barrier::new(3);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut read = reader();
                    together.wait();
                    timed(n, &mut read)
                })
            })
            .collect();
        let writer = scope.spawn(|| {
            together.wait();
            let began = Instant::now();
            let mut written = 0;
            while let (Some(write), false) = (write, done.load(Ordering::Relaxed)) {
                written += 1;
                write(written);
                let next = began + Duration::from_millis(written.into());
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            }
            f64::from(written) / began.elapsed().as_secs_f64()
        });
        let sum: Duration = readers.into_iter().map(|one| one.join().unwrap()).sum();
        done.store(true, Ordering::Relaxed);
        (
            sum.as_secs_f64() * 1e9 / 2.0 / n as f64,
            writer.join().unwrap(),
        )
    })
}
