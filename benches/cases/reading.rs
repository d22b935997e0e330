//! Each way of reading beside its floor.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, Cache};
use liveprops::{Properties, sources::Memory};

use crate::support::{Case, timed, timed_over};

const N: u64 = 2_000_000;
const COUNTED: u64 = 20_000;

const TEXT: &str = "a text of some length";

fn name(i: usize) -> String {
    format!("section{}.key{}", i / 100, i % 100)
}

fn props(keys: usize) -> Properties {
    let memory: Memory = (0..keys).map(|i| (name(i), i as u32)).collect();
    Properties::builder().source(memory).build().unwrap()
}

fn text() -> Properties {
    Properties::builder()
        .source(Memory::from([("motd", TEXT)]))
        .build()
        .unwrap()
}

/// Names from the whole tree: the depth of a name depends on the hash seed of the process.
fn names(keys: usize) -> [String; 64] {
    std::array::from_fn(|i| name(i * 7919 % keys))
}

/// What by-name reading is compared with: a typed map from names behind an ArcSwap.
type Map = std::collections::HashMap<String, u32, foldhash::fast::RandomState>;

fn map(keys: usize, n: u64) -> Duration {
    let map: Map = (0..keys).map(|i| (name(i), i as u32)).collect();
    let swap = ArcSwap::from_pointee(map);
    timed_over(n, &names(keys), |name| {
        swap.load().get(black_box(name.as_str())).copied()
    })
}

fn by_name(keys: usize, n: u64) -> Duration {
    let props = props(keys);
    timed_over(n, &names(keys), |name| {
        props.get::<u32>(black_box(name)).unwrap()
    })
}

fn case(name: &'static str, floor: &'static str, budget: f64, run: fn(u64) -> Duration) -> Case {
    Case {
        name,
        floor,
        budget,
        in_instructions: false,
        at_most: None,
        n: N,
        counted: COUNTED,
        run,
    }
}

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("atomic load", "", 0.0, |n| {
            let atomic = Arc::new(AtomicU64::new(7));
            timed(n, || black_box(&atomic).load(Ordering::Relaxed))
        }),
        case("handle get u32", "atomic load", 2.0, |n| {
            let handle = props(10).property::<u32>("section0.key7").build().unwrap();
            timed(n, || black_box(&handle).get())
        }),
        case("handle get f64", "atomic load", 2.0, |n| {
            let handle = props(10).property::<f64>("section0.key7").build().unwrap();
            timed(n, || black_box(&handle).get())
        }),
        case("arc-swap cache", "", 0.0, |n| {
            let swap = Arc::new(ArcSwap::from_pointee(String::from(TEXT)));
            let mut cache = Cache::new(swap);
            timed(n, || {
                black_box(black_box(&mut cache).load());
            })
        }),
        case("reader get String", "arc-swap cache", 1.2, |n| {
            let mut reader = text().property::<String>("motd").build().unwrap().reader();
            timed(n, || {
                black_box(black_box(&mut reader).get());
            })
        }),
        case("arc-swap load", "", 0.0, |n| {
            let swap = ArcSwap::from_pointee(String::from(TEXT));
            timed(n, || black_box(&swap).load())
        }),
        case("handle load String", "arc-swap load", 1.1, |n| {
            let handle = text().property::<String>("motd").build().unwrap();
            timed(n, || black_box(&handle).load())
        }),
        case("map by name, 10 keys", "", 0.0, |n| map(10, n)),
        case("by name, 10 keys", "map by name, 10 keys", 2.0, |n| {
            by_name(10, n)
        })
        .in_instructions(),
        case("map by name, 100,000 keys", "", 0.0, |n| map(100_000, n)),
        case(
            "by name, 100,000 keys",
            "map by name, 100,000 keys",
            2.0,
            |n| by_name(100_000, n),
        )
        .in_instructions(),
        case("snapshot", "arc-swap load", 0.0, |n| {
            let props = props(10);
            timed(n, || black_box(&props).snapshot())
        }),
    ]
}
