//! One key of few and of many, with few handles and with many, and transactions.

use std::sync::OnceLock;
use std::time::Duration;

use liveprops::{DynamicProperty, Properties, sources::Memory};

use crate::support::{Case, timed, timed_over};

/// Properties with live handles, built once a process.
struct Rig {
    memory: Memory,
    handles: Vec<DynamicProperty<u32>>,
    props: Properties,
}

fn key(i: usize) -> String {
    format!("section{}.key{}", i / 100, i % 100)
}

fn bare_rig(keys: usize) -> Rig {
    let memory: Memory = (0..keys).map(|i| (key(i), i as u32)).collect();
    let props = Properties::builder()
        .source(memory.clone())
        .build()
        .unwrap();
    Rig {
        memory,
        handles: Vec::new(),
        props,
    }
}

/// So many keys with a handle on one of each `1 / handles`.
fn rig(keys: usize, handles: usize) -> Rig {
    let mut rig = bare_rig(keys);
    let build = |i| rig.props.property(&key(i * keys / handles)).build();
    rig.handles = (0..handles).map(|i| build(i).unwrap()).collect();
    rig
}

fn few() -> &'static Rig {
    static RIG: OnceLock<Rig> = OnceLock::new();
    RIG.get_or_init(|| rig(1_000, 1_000))
}

fn more() -> &'static Rig {
    static RIG: OnceLock<Rig> = OnceLock::new();
    RIG.get_or_init(|| rig(100_000, 1_000))
}

fn many() -> &'static Rig {
    static RIG: OnceLock<Rig> = OnceLock::new();
    RIG.get_or_init(|| rig(1_000_000, 1_000))
}

/// A handle on each of 100,000 keys.
fn all_with_handles() -> &'static Rig {
    static RIG: OnceLock<Rig> = OnceLock::new();
    RIG.get_or_init(|| rig(100_000, 100_000))
}

/// 100,000 handles on the same key of 1,000, which share one slot.
fn shared() -> &'static Rig {
    static RIG: OnceLock<Rig> = OnceLock::new();
    RIG.get_or_init(|| {
        let mut rig = bare_rig(1_000);
        let build = |_| rig.props.property(&key(0)).build().unwrap();
        rig.handles = (0..100_000).map(build).collect();
        rig
    })
}

/// So many handles on the same key of 1,000 that cannot share: each has a rule of its own.
fn ruled(handles: usize) -> Rig {
    let mut rig = bare_rig(1_000);
    let build = |_| {
        let property = rig.props.property(&key(0));
        property.validate(|_| Ok(())).build().unwrap()
    };
    rig.handles = (0..handles).map(build).collect();
    rig
}

fn ruled_once() -> &'static Rig {
    static RIG: OnceLock<Rig> = OnceLock::new();
    RIG.get_or_init(|| ruled(1))
}

fn ruled_often() -> &'static Rig {
    static RIG: OnceLock<Rig> = OnceLock::new();
    RIG.get_or_init(|| ruled(1_000))
}

fn ruled_very_often() -> &'static Rig {
    static RIG: OnceLock<Rig> = OnceLock::new();
    RIG.get_or_init(|| ruled(10_000))
}

/// Changes one key at a time. It cycles through 64 keys, because the depth of a key in the trie
/// depends on the hash seed of the process.
fn one_key(rig: &Rig, n: u64) -> Duration {
    let changed: [_; 64] = std::array::from_fn(|i| {
        let handle = &rig.handles[i * 7919 % rig.handles.len()];
        (handle.key().to_string(), handle)
    });
    // Larger than all present values, so that each commit is a change.
    let mut value = changed
        .iter()
        .map(|(_, handle)| handle.get())
        .max()
        .unwrap();
    timed_over(n, &changed, |(key, handle)| {
        value += 1;
        rig.memory.set(key, value).unwrap();
        assert_eq!(handle.get(), value);
    })
}

fn transaction(rig: &Rig, changes: usize, n: u64) -> Duration {
    let keys: Vec<String> = (0..changes).map(key).collect();
    let mut value = rig.handles[0].get();
    timed(n, || {
        value += 1;
        rig.props
            .transaction(|tx| keys.iter().try_for_each(|key| tx.set(key, value)))
            .unwrap();
    })
}

fn case(
    name: &'static str,
    floor: &'static str,
    budget: f64,
    n: u64,
    counted: u64,
    run: fn(u64) -> Duration,
) -> Case {
    Case {
        name,
        floor,
        budget,
        in_instructions: false,
        at_most: None,
        n,
        counted,
        run,
    }
}

const ONE: &str = "one key of 1,000";
const MANY: &str = "one key of 1,000,000";
const OF_MANY: &str = "one of 1,000,000";
const OF_ALL: &str = "one of 100,000, each with a handle";
const A_HANDLE: &str = "the same, a handle";
/// In which one key of a million is to be visible.
const VISIBLE: Duration = Duration::from_micros(5);
const RULED: &str = "one key, 1 handle with a validator";

/// The floor of the rest.
pub(crate) fn one_of_few() -> Case {
    case(ONE, "", 0.0, 20_000, 2_000, |n| one_key(few(), n))
}

#[rustfmt::skip] // a table
pub(crate) fn cases() -> Vec<Case> {
    vec![
        one_of_few(),
        case("one key of 100,000", ONE, 2.0, 20_000, 2_000, |n| one_key(more(), n)),
        case(MANY, ONE, 2.0, 20_000, 2_000, |n| one_key(many(), n)).within(VISIBLE),
        case("one key, 100,000 handles on it, which share one slot", ONE, 0.0, 20_000, 2_000, |n| one_key(shared(), n)),
        case("one key of 100,000, each with a handle", ONE, 2.0, 20_000, 2_000, |n| one_key(all_with_handles(), n)),
        case(RULED, ONE, 0.0, 20_000, 2_000, |n| one_key(ruled_once(), n)),
        // A budget of as many times one handle's: each costs no more for the others being there.
        case("one key, 1,000 handles with a validator, each a slot of its own", RULED, 1_000.0, 200, 100, |n| one_key(ruled_often(), n)),
        case("one key, 10,000 handles with a validator, each a slot of its own", RULED, 10_000.0, 20, 5, |n| one_key(ruled_very_often(), n)),
        case(A_HANDLE, RULED, 1.0, 20, 0, |n| one_key(ruled_very_often(), n) / 10_000),
    ]
}

/// After the others: the layer above all sources hides what these set.
#[rustfmt::skip] // a table
pub(crate) fn transactions() -> Vec<Case> {
    vec![
        case(OF_MANY, "", 0.0, 20_000, 2_000, |n| transaction(many(), 1, n)),
        case("1,000 keys of 1,000,000, one with a handle", OF_MANY, 1_000.0, 20, 10, |n| transaction(many(), 1_000, n)),
        case(OF_ALL, "", 0.0, 20_000, 2_000, |n| transaction(all_with_handles(), 1, n)),
        case("1,000 keys of 100,000, each with a handle", OF_ALL, 1_000.0, 20, 10, |n| transaction(all_with_handles(), 1_000, n)),
    ]
}
