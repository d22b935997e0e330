//! Readers beside a writer. Times only: what they cost each other is not in the instructions.
//!
//! What counts is how long the readers had a core: whoever shares the machine does not distort it,
//! and neither does the writer by being put on a reader's core.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use liveprops::{DynamicProperty, Properties, sources::Memory};

use crate::support::cores::{Places, on_core};
use crate::support::{Case, timed};

/// How often the writer writes.
#[derive(Clone, Copy)]
enum Writer {
    Absent,
    /// A thousand times a second.
    Steady,
    /// Without a pause.
    Restless,
}

/// Runs each reader `n` times on a thread of its own beside the writer; the mean of how long they
/// had a core for it.
fn beside<R: FnMut() + Send>(
    n: u64,
    readers: Vec<R>,
    writer: Writer,
    mut write: impl FnMut(u32) + Send,
) -> Duration {
    let count = readers.len();
    let restless = matches!(writer, Writer::Restless);
    let places = Places::of(count + usize::from(restless));
    let over = AtomicBool::new(false);
    let (places, over) = (&places, &over);
    thread::scope(|scope| {
        scope.spawn(move || {
            if restless {
                places.spread(count);
            }
            let began = Instant::now();
            let mut value = 0;
            while !matches!(writer, Writer::Absent) && !over.load(Ordering::Relaxed) {
                value += 1;
                write(value);
                if let Writer::Steady = writer {
                    let next = began + Duration::from_millis(1) * value;
                    thread::sleep(next.saturating_duration_since(Instant::now()));
                }
            }
        });
        let read = |(me, read)| {
            scope.spawn(move || {
                places.spread(me);
                on_core(|| timed(n, read))
            })
        };
        let threads: Vec<_> = readers.into_iter().enumerate().map(read).collect();
        let took: Duration = threads.into_iter().map(|it| it.join().unwrap()).sum();
        over.store(true, Ordering::Relaxed);
        took / count as u32
    })
}

fn atomic(n: u64, readers: usize, writer: Writer) -> Duration {
    let atomic = Arc::new(AtomicU64::new(0));
    let reader = || {
        let atomic = Arc::clone(&atomic);
        move || {
            black_box(black_box(&atomic).load(Ordering::Relaxed));
        }
    };
    let readers = (0..readers).map(|_| reader()).collect();
    beside(n, readers, writer, |value| {
        atomic.store(value.into(), Ordering::Relaxed);
    })
}

/// Two keys of text and two of numbers, with handles built one after the other.
struct Rig {
    memory: Memory,
    numbers: [DynamicProperty<u32>; 2],
    texts: [DynamicProperty<String>; 2],
    props: Properties,
}

fn rig() -> Rig {
    let memory = Memory::from([("number0", "1"), ("number1", "1")]);
    for key in ["text0", "text1"] {
        memory.set(key, "a text of some length").unwrap();
    }
    let props = Properties::builder()
        .source(memory.clone())
        .build()
        .unwrap();
    Rig {
        numbers: ["number0", "number1"].map(|key| props.property(key).build().unwrap()),
        texts: ["text0", "text1"].map(|key| props.property(key).build().unwrap()),
        memory,
        props,
    }
}

fn get(n: u64, readers: usize, writer: Writer) -> Duration {
    let rig = rig();
    let reader = || {
        let handle = rig.numbers[0].clone();
        move || {
            black_box(black_box(&handle).get());
        }
    };
    let readers = (0..readers).map(|_| reader()).collect();
    beside(n, readers, writer, |value| {
        rig.memory.set("number0", value).unwrap();
    })
}

fn reader(n: u64, readers: usize, writer: Writer) -> Duration {
    let rig = rig();
    let reader = || {
        let mut reader = rig.texts[0].reader();
        move || {
            black_box(black_box(&mut reader).get());
        }
    };
    let readers = (0..readers).map(|_| reader()).collect();
    beside(n, readers, writer, |value| {
        rig.memory.set("text0", format!("text {value}")).unwrap();
    })
}

fn load(n: u64, readers: usize, writer: Writer) -> Duration {
    let rig = rig();
    let reader = || {
        let handle = rig.texts[0].clone();
        move || {
            black_box(black_box(&handle).load());
        }
    };
    let readers = (0..readers).map(|_| reader()).collect();
    beside(n, readers, writer, |value| {
        rig.memory.set("text0", format!("text {value}")).unwrap();
    })
}

/// Who commits while one of two neighbours is read.
#[derive(Clone, Copy)]
enum Other {
    Nobody,
    /// Another `Properties`: costs the machine the same, shares nothing.
    Stranger,
    /// The one next to it.
    Neighbour,
}

/// One thread reads the first handle, another commits and reads the second without a pause.
fn neighbours<T: Send + Sync + 'static>(
    n: u64,
    other: Other,
    mut read: impl FnMut(&Rig) + Send,
    key: &str,
    handle: fn(&Rig) -> &DynamicProperty<T>,
) -> Duration {
    let own = rig();
    let stranger = rig();
    let (writer, written) = match other {
        Other::Nobody => (Writer::Absent, &own),
        Other::Stranger => (Writer::Restless, &stranger),
        Other::Neighbour => (Writer::Restless, &own),
    };
    let took = beside(n, vec![|| read(&own)], writer, |value| {
        written.memory.set(key, value).unwrap();
        black_box(handle(written).load());
    });
    assert!(own.props.generation() > 0);
    took
}

fn get_first(n: u64, other: Other) -> Duration {
    let read = |rig: &Rig| {
        black_box(black_box(&rig.numbers[0]).get());
    };
    neighbours(n, other, read, "number1", |rig| &rig.numbers[1])
}

fn load_first(n: u64, other: Other) -> Duration {
    let read = |rig: &Rig| {
        black_box(black_box(&rig.texts[0]).load());
    };
    neighbours(n, other, read, "text1", |rig| &rig.texts[1])
}

/// Readers keep nine tenths of their throughput.
const BUDGET: f64 = 1.1;

fn case(
    name: &'static str,
    floor: &'static str,
    budget: f64,
    n: u64,
    run: fn(u64) -> Duration,
) -> Case {
    Case {
        name,
        floor,
        budget,
        in_instructions: false,
        at_most: None,
        n,
        counted: 0,
        run,
    }
}

/// So many times take about 100 ms.
const CHEAP: u64 = 200_000_000;
const DEARER: u64 = 25_000_000;

#[rustfmt::skip] // a table
pub(crate) fn beside_a_writer() -> Vec<Case> {
    use Writer::{Absent, Steady};
    vec![
        case("atomic load", "", 0.0, CHEAP, |n| atomic(n, 1, Absent)),
        case("atomic load, writer", "atomic load", 0.0, CHEAP, |n| atomic(n, 1, Steady)),
        case("atomic load, two readers", "atomic load", 0.0, CHEAP, |n| atomic(n, 2, Absent)),
        case("atomic load, two readers and writer", "atomic load, two readers", 0.0, CHEAP, |n| atomic(n, 2, Steady)),
        case("get u32", "", 0.0, CHEAP, |n| get(n, 1, Absent)),
        case("get u32, writer", "get u32", BUDGET, CHEAP, |n| get(n, 1, Steady)),
        case("get u32, two readers", "get u32", BUDGET, CHEAP, |n| get(n, 2, Absent)),
        case("get u32, two readers and writer", "get u32, two readers", BUDGET, CHEAP, |n| get(n, 2, Steady)),
        case("reader get String", "", 0.0, CHEAP, |n| reader(n, 1, Absent)),
        case("reader get String, writer", "reader get String", BUDGET, CHEAP, |n| reader(n, 1, Steady)),
        case("reader get String, two readers", "reader get String", BUDGET, CHEAP, |n| reader(n, 2, Absent)),
        case("reader get String, two readers and writer", "reader get String, two readers", BUDGET, CHEAP, |n| reader(n, 2, Steady)),
        case("load String", "", 0.0, DEARER, |n| load(n, 1, Absent)),
        case("load String, writer", "load String", BUDGET, DEARER, |n| load(n, 1, Steady)),
        case("load String, two readers", "load String", BUDGET, DEARER, |n| load(n, 2, Absent)),
        case("load String, two readers and writer", "load String, two readers", BUDGET, DEARER, |n| load(n, 2, Steady)),
    ]
}

#[rustfmt::skip] // a table
pub(crate) fn beside_a_neighbour() -> Vec<Case> {
    use Other::{Neighbour, Nobody, Stranger};
    vec![
        case("get u32", "", 0.0, CHEAP, |n| get_first(n, Nobody)),
        case("get u32, commits elsewhere", "get u32", 0.0, CHEAP, |n| get_first(n, Stranger)),
        case("get u32, commits of its neighbour", "get u32, commits elsewhere", BUDGET, CHEAP, |n| get_first(n, Neighbour)),
        case("load String", "", 0.0, DEARER, |n| load_first(n, Nobody)),
        case("load String, commits elsewhere", "load String", 0.0, DEARER, |n| load_first(n, Stranger)),
        case("load String, commits of its neighbour", "load String, commits elsewhere", BUDGET, DEARER, |n| load_first(n, Neighbour)),
    ]
}
