//! Runs five sources that fail at random, a thousand handles, writers, readers, slow and panicking
//! callbacks for minutes:
//!
//! ```text
//! SOAK_SECONDS=300 cargo test --release --test soak -- --ignored --nocapture
//! ```
#![cfg(all(feature = "toml", target_os = "linux"))]
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use liveprops::source::{RemovalGuard, Timing};
use liveprops::sources::{File, Memory};
use liveprops::{
    Document, DynamicProperty, Error, ErrorKind, Origin, Properties, RejectionScope, Source,
    SourceContext, Update, Watching,
};
use support::proc::{context_switches, status, threads};
use support::{Random, eventually};

/// The default of handles, which no reader may see.
const GONE: u64 = u64::MAX;
const HANDLES: usize = 1_000;

/// The behaviour of a store on a request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mood {
    Well,
    Down,
    Panics,
    Hangs,
    Slow,
    /// Returns an empty document.
    Empty,
    /// Returns a value that a handle cannot decode.
    Nonsense,
}

const MOODS: [Mood; 7] = [
    Mood::Well,
    Mood::Down,
    Mood::Panics,
    Mood::Hangs,
    Mood::Slow,
    Mood::Empty,
    Mood::Nonsense,
];

/// A store with one number under many keys.
struct Store {
    name: &'static str,
    keys: Vec<String>,
    value: AtomicU64,
    mood: Mutex<Mood>,
    bell: Condvar,
}

impl Store {
    fn new(name: &'static str, keys: usize) -> Arc<Self> {
        Arc::new(Self {
            name,
            keys: (0..keys).map(|i| format!("{name}.k{i}")).collect(),
            value: AtomicU64::new(1),
            mood: Mutex::new(Mood::Well),
            bell: Condvar::new(),
        })
    }

    fn is(&self, mood: Mood) {
        *self
            .mood
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner()) = mood;
        self.bell.notify_all();
    }

    fn mood(&self) -> Mood {
        *self
            .mood
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn document(&self) -> Result<Document, Error> {
        let mut document = Document::new();
        let origin = Origin::new("store", self.name);
        match self.mood() {
            Mood::Down => return Err(Error::new(ErrorKind::Unavailable, "is down")),
            Mood::Panics => panic!("{} panics", self.name),
            Mood::Hangs => {
                let mut mood = self.mood.lock().unwrap();
                while *mood == Mood::Hangs {
                    mood = self.bell.wait(mood).unwrap();
                }
                return Err(Error::new(ErrorKind::Unavailable, "hung"));
            }
            Mood::Empty => return Ok(document),
            Mood::Nonsense => {
                for key in &self.keys {
                    document.set(key, "nonsense", origin.clone())?;
                }
                return Ok(document);
            }
            Mood::Slow => thread::sleep(Duration::from_millis(100)),
            Mood::Well => {}
        }
        let value = self.value.load(Ordering::SeqCst);
        for key in &self.keys {
            document.set(key, value, origin.clone())?;
        }
        Ok(document)
    }
}

/// A source of a store, polled or watched.
struct Over(Arc<Store>, Watching);

impl Source for Over {
    fn origin(&self) -> Origin {
        Origin::new("store", self.0.name)
    }

    fn load(&self) -> Result<Document, Error> {
        self.0.document()
    }

    fn watching(&self) -> Watching {
        self.1
    }

    fn watch(&self, updates: &SourceContext) -> Result<(), Error> {
        while !updates.is_stopped() {
            // The engine reports rejections.
            let _ = updates.send(Update::full(self.0.document()?));
            updates.wait(Duration::from_millis(20));
        }
        Ok(())
    }

    fn timing(&self) -> Timing {
        Timing::new()
            .timeout(Duration::from_millis(200))
            .heartbeat_timeout(Duration::from_millis(500))
    }

    fn rejection_scope(&self) -> RejectionScope {
        match self.1 {
            Watching::Stream => RejectionScope::PerKey,
            _ => RejectionScope::Whole,
        }
    }
}

/// Rewrites the file of numbers by one of several methods.
fn write(path: &Path, value: u64, method: u64) {
    let mut text = String::from("[file]\n");
    for i in 0..200 {
        text.push_str(&format!("k{i} = {value}\n"));
    }
    match method {
        0 => fs::write(path, text).unwrap(),
        1 => fs::write(path, "").unwrap(),
        2 => fs::write(path, "[file\nk0 = ").unwrap(),
        3 => drop(fs::remove_file(path)),
        _ => {
            let beside = path.with_extension("new");
            fs::write(&beside, text).unwrap();
            fs::rename(beside, path).unwrap();
        }
    }
}

/// The observations of a reader.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    reads: u64,
    /// Rounds with a read over a millisecond without a context switch.
    slow: u64,
    /// The longest pause of a thread that only reads a clock: a shared machine suspends its guests.
    slow_anyway: u64,
}

/// Reads all handles repeatedly.
fn read(handles: &[DynamicProperty<u64>], done: &AtomicBool) -> Seen {
    let own: Vec<AtomicU64> = handles.iter().map(|_| AtomicU64::new(1)).collect();
    let mut seen = Seen::default();
    while !done.load(Ordering::Relaxed) {
        seen.slow += u64::from(is_slow(handles, |handle| {
            let value = handle.get();
            assert_ne!(value, GONE, "{} flipped to its default", handle.key());
        }));
        seen.slow_anyway += u64::from(is_slow(&own, |number| {
            assert_ne!(number.load(Ordering::Acquire), GONE);
        }));
        seen.reads += 20 * handles.len() as u64;
    }
    seen
}

/// Returns whether one of many reads lasted over a millisecond without a context switch.
fn is_slow<T>(all: &[T], read: impl Fn(&T)) -> bool {
    let before = context_switches();
    let mut slowest = Duration::ZERO;
    for _ in 0..20 {
        for one in all {
            let began = Instant::now();
            read(one);
            slowest = slowest.max(began.elapsed());
        }
    }
    slowest > Duration::from_millis(1) && context_switches() == before
}

#[test]
#[ignore = "needs minutes: see the top of the file"]
fn long_random_failures_change_no_good_value() -> Result<(), Error> {
    let seconds = std::env::var("SOAK_SECONDS").ok();
    let seconds: u64 = seconds.and_then(|it| it.parse().ok()).unwrap_or(60);
    // The panics of the callback are intended.
    std::panic::set_hook(Box::new(|info| {
        let text = info.to_string();
        if !text.contains("panics") {
            eprintln!("{text}");
        }
    }));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("soak.toml");
    write(&path, 1, 9);
    let polled = Store::new("polled", 200);
    let other = Store::new("other", 200);
    let watched = Store::new("watched", 200);
    let memory: Memory = (0..200).map(|i| (format!("memory.k{i}"), 1u64)).collect();
    let every = Watching::Poll(Duration::from_millis(30));
    let guarded = |source| Over::with(source, |policy| policy.guarded(RemovalGuard::new()));
    let props = Properties::builder()
        .source(File::new(&path).poll(Duration::from_millis(500)))
        .source(guarded(Over(Arc::clone(&polled), every)))
        .source(guarded(Over(Arc::clone(&other), every)))
        .source(guarded(Over(Arc::clone(&watched), Watching::Stream)))
        .source(memory.clone())
        .build()?;
    let names = ["file", "polled", "other", "watched", "memory"];
    let handles: Vec<DynamicProperty<u64>> = (0..HANDLES)
        .map(|i| {
            let key = format!("{}.k{}", names[i % 5], i / 5);
            props.property::<u64>(&key).default(GONE).build()
        })
        .collect::<Result<_, _>>()?;
    let called = Arc::new(AtomicUsize::new(0));
    let subscriptions: Vec<_> = handles
        .iter()
        .enumerate()
        .map(|(i, handle)| {
            let called = Arc::clone(&called);
            handle.on_change(move |_| {
                called.fetch_add(1, Ordering::Relaxed);
                match i % 100 {
                    0 => thread::sleep(Duration::from_millis(200)),
                    1 => panic!("a callback panics"),
                    _ => {}
                }
            })
        })
        .collect();

    let done = Arc::new(AtomicBool::new(false));
    let mut workers = Vec::new();
    for (i, store) in [&polled, &other, &watched].into_iter().enumerate() {
        let (store, done) = (Arc::clone(store), Arc::clone(&done));
        workers.push(thread::spawn(move || {
            let mut random = Random(7 + i as u64);
            while !done.load(Ordering::Relaxed) {
                store.value.fetch_add(1, Ordering::SeqCst);
                store.is(MOODS[random.below(MOODS.len() as u64) as usize]);
                thread::sleep(Duration::from_millis(20 + random.below(400)));
            }
        }));
    }
    {
        let (path, done, memory) = (path.clone(), Arc::clone(&done), memory.clone());
        workers.push(thread::spawn(move || {
            let mut random = Random(11);
            let mut value = 1;
            while !done.load(Ordering::Relaxed) {
                value += 1;
                write(&path, value, random.below(6));
                // Some changes are rejected.
                let key = format!("memory.k{}", random.below(200));
                let _ = memory.set(&key, value);
                let _ = memory.set(&key, "nonsense");
                thread::sleep(Duration::from_millis(random.below(30)));
            }
        }));
    }
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (handles, done) = (handles.clone(), Arc::clone(&done));
            thread::spawn(move || read(&handles, &done))
        })
        .collect();

    // The state after a while has to be the final one.
    let quarter = Duration::from_millis(seconds * 250);
    thread::sleep(quarter);
    let (threads_before, memory_before) = (threads(), status("VmRSS"));
    thread::sleep(quarter * 3);
    let (threads_after, memory_after) = (threads(), status("VmRSS"));
    done.store(true, Ordering::Relaxed);
    for worker in workers {
        worker.join().unwrap();
    }
    let mut seen = Seen::default();
    for reader in readers {
        let one = reader.join().unwrap();
        seen.reads += one.reads;
        seen.slow += one.slow;
        seen.slow_anyway += one.slow_anyway;
    }

    // All sources recover, and the properties converge by themselves.
    for store in [&polled, &other, &watched] {
        store.value.store(1_000_000, Ordering::SeqCst);
        store.is(Mood::Well);
    }
    write(&path, 1_000_000, 9);
    memory.replace((0..200).map(|i| (format!("memory.k{i}"), 1_000_000u64)))?;
    let all = || handles.iter().all(|handle| handle.get() == 1_000_000);
    let began = Instant::now();
    assert!(
        eventually(Duration::from_secs(20), all),
        "{:?}",
        props.health()
    );
    let converged = began.elapsed();
    assert!(eventually(Duration::from_secs(20), || props
        .health()
        .is_up()));
    let health = props.health();
    println!(
        "{seconds} s: {seen:?}; {} generations, {} calls, {} panics; \
         threads {threads_before} -> {threads_after}, KiB {memory_before} -> {memory_after}; \
         converged in {converged:?}",
        props.generation(),
        called.load(Ordering::Relaxed),
        health.callback_panics,
    );
    assert!(
        seen.slow <= 2 * seen.slow_anyway + 3,
        "slow reads: {seen:?}"
    );
    assert!(threads_after <= threads_before + 16, "threads grow");
    let grown = memory_after.saturating_sub(memory_before);
    assert!(grown <= memory_before / 20 + 4_096, "memory grows");
    drop((subscriptions, props));
    assert!(
        eventually(Duration::from_secs(5), || threads() <= 12),
        "{}",
        threads()
    );
    Ok(())
}
