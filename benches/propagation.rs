//! How late a change is: from the rename of a file, or the call of a source, to the callback and to
//! a thread that reads.
//!
//! `cargo bench --bench propagation`

#![allow(missing_docs, clippy::unwrap_used)]

#[path = "cases/files.rs"]
mod files;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use liveprops::{DynamicProperty, Properties, property::Subscription, sources::Memory};
use support::latency::{self, Budget, Latency};
use support::verdict::Verdict;

/// A property with one subscriber that reports when it was called.
struct Subscribed {
    memory: Memory,
    property: DynamicProperty<u32>,
    called: Arc<AtomicU64>,
    _subscription: Option<Subscription>,
    base: Instant,
    value: u32,
}

impl Subscribed {
    fn new(inline: bool, subscribed: bool) -> Self {
        let keys = 1_000;
        let memory: Memory = (0..keys).map(|i| (format!("key{i}"), 0u32)).collect();
        let builder = Properties::builder().source(memory.clone());
        let builder = match inline {
            true => builder.inline_callbacks(),
            false => builder,
        };
        let props = builder.build().unwrap();
        let property = props.property::<u32>("key7").build().unwrap();
        let base = Instant::now();
        let called = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&called);
        let subscription = subscribed.then(|| {
            property.on_change(move |_| {
                seen.store(base.elapsed().as_nanos() as u64, Ordering::Release);
            })
        });
        // For ever: what a bench leaves behind ends with its process.
        std::mem::forget(props);
        Self {
            memory,
            property,
            called,
            _subscription: subscription,
            base,
            value: 0,
        }
    }

    /// Commits and waits for the callback; returns when it came.
    fn until_called(&mut self) -> Duration {
        self.value += 1;
        self.called.store(0, Ordering::Relaxed);
        let began = self.base.elapsed();
        self.memory.set("key7", self.value).unwrap();
        loop {
            // Awake, so that this thread's way to sleep is not in the way of the other's awakening.
            match self.called.load(Ordering::Acquire) {
                0 => std::hint::spin_loop(),
                at => break Duration::from_nanos(at) - began,
            }
        }
    }

    /// Commits; returns when the value is visible to all.
    fn until_returned(&mut self) -> Duration {
        self.value += 1;
        let began = Instant::now();
        self.memory.set("key7", self.value).unwrap();
        assert_eq!(self.property.get(), self.value);
        began.elapsed()
    }
}

/// What waking a sleeping thread costs on this machine, whoever does it.
fn wake() -> impl FnMut() -> Duration {
    let base = Instant::now();
    let woken = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&woken);
    let (send, receive): (_, Receiver<()>) = channel();
    thread::spawn(move || {
        for () in receive {
            seen.store(base.elapsed().as_nanos() as u64, Ordering::Release);
        }
    });
    move || {
        woken.store(0, Ordering::Relaxed);
        let began = base.elapsed();
        send.send(()).unwrap();
        loop {
            match woken.load(Ordering::Acquire) {
                0 => std::hint::spin_loop(),
                at => break Duration::from_nanos(at) - began,
            }
        }
    }
}

/// Long enough for the thread that was woken to sleep again.
fn rested(mut once: impl FnMut() -> Duration) -> impl FnMut() -> Duration {
    move || {
        thread::sleep(Duration::from_micros(200));
        once()
    }
}

fn main() {
    let case = |name, floor, budget, once| Latency {
        name,
        floor,
        budget,
        once,
    };
    let mut verdict = Verdict::default();
    let title = "A file renamed over";
    latency::main(title, 100, files::renamed(), &mut verdict);
    let title = "A file renamed over by the same bytes";
    latency::main(title, 50, files::same(), &mut verdict);
    let micros = |us| Budget::AtMost(Duration::from_micros(us));
    let [mut inline, mut returned] = [(), ()].map(|()| Subscribed::new(true, true));
    let mut dispatched = Subscribed::new(false, true);
    let mut alone = Subscribed::new(true, false);
    latency::main(
        "Memory source set",
        10_000,
        vec![
            case(
                "no subscriber, set to return",
                "",
                Budget::None,
                Box::new(move || alone.until_returned()),
            ),
            case(
                "inline, set to callback",
                "no subscriber, set to return",
                micros(2),
                Box::new(move || inline.until_called()),
            ),
            case(
                "inline, set to return",
                "no subscriber, set to return",
                Budget::None,
                Box::new(move || returned.until_returned()),
            ),
            case(
                "waking a thread by a channel",
                "",
                Budget::None,
                Box::new(rested(wake())),
            ),
            case(
                "dispatcher, set to callback",
                "waking a thread by a channel",
                micros(30),
                Box::new(rested(move || dispatched.until_called())),
            ),
        ],
        &mut verdict,
    );
    verdict.print();
}
