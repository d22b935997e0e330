//! Custom sources, and the shutdown of properties.
//!
//! The tests count threads, so they run one after the other.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use liveprops::health::{SourceEventKind, Status};
use liveprops::source::Timing;
use liveprops::sources::Memory;
use liveprops::{
    Document, Error, ErrorKind, Key, Origin, Properties, Source, SourceContext, Update, Watching,
};
use support::proc::{open_files, threads_named};
use support::{DEADLINE, Gate, eventually, reports, run_exclusively, run_within};

type Load = Box<dyn Fn(u32) -> Result<Document, Error> + Send + Sync>;
type Watch = Box<dyn Fn(u32, &SourceContext) -> Result<(), Error> + Send + Sync>;

/// A custom source; each call gets the number of earlier calls.
struct Custom {
    load: Load,
    watch: Watch,
    watching: Watching,
    loads: AtomicU32,
    watches: AtomicU32,
}

impl Custom {
    fn new(watching: Watching) -> Self {
        Self {
            load: Box::new(|i| document(&[("n", i)])),
            watch: Box::new(|_, _| Ok(())),
            watching,
            loads: AtomicU32::new(0),
            watches: AtomicU32::new(0),
        }
    }

    fn load(
        mut self,
        load: impl Fn(u32) -> Result<Document, Error> + Send + Sync + 'static,
    ) -> Self {
        self.load = Box::new(load);
        self
    }

    fn watch(
        mut self,
        watch: impl Fn(u32, &SourceContext) -> Result<(), Error> + Send + Sync + 'static,
    ) -> Self {
        self.watch = Box::new(watch);
        self
    }
}

impl Source for Custom {
    fn origin(&self) -> Origin {
        Origin::new("custom", "here")
    }

    fn load(&self) -> Result<Document, Error> {
        (self.load)(self.loads.fetch_add(1, Ordering::SeqCst))
    }

    fn watch(&self, updates: &SourceContext) -> Result<(), Error> {
        (self.watch)(self.watches.fetch_add(1, Ordering::SeqCst), updates)
    }

    fn watching(&self) -> Watching {
        self.watching
    }
}

fn document(values: &[(&str, u32)]) -> Result<Document, Error> {
    let mut document = Document::new();
    for (key, value) in values {
        document.set(key, *value, Origin::new("custom", *key))?;
    }
    Ok(document)
}

const FAST_POLL: Watching = Watching::Poll(Duration::from_millis(1));

#[test]
fn a_polled_source_is_followed_and_a_deleted_key_goes() -> Result<(), Error> {
    let _exclusive = run_exclusively();
    let source = Custom::new(FAST_POLL).load(|i| {
        if i < 50 {
            document(&[("n", i), ("early", 1)])
        } else {
            document(&[("n", i.min(60))])
        }
    });
    let props = Properties::builder().source(source).build()?;
    let n = props.property::<u32>("n").build()?;
    assert_eq!(n.wait_until(|n| *n == 60, DEADLINE)?, 60);
    assert_eq!(props.get_opt::<u32>("early")?, None, "delete by omission");
    let generation = props.generation();
    thread::sleep(Duration::from_millis(20));
    assert_eq!(
        props.generation(),
        generation,
        "the same again is no change"
    );
    Ok(())
}

#[test]
fn a_streaming_source_sends_deltas_and_documents() -> Result<(), Error> {
    let _exclusive = run_exclusively();
    let source = Custom::new(Watching::Stream).watch(|_, updates| {
        let here = || Origin::new("custom", "stream");
        updates.send(Update::full(document(&[("n", 1), ("gone", 1)])?))?;
        updates.send(
            Update::delta()
                .set("n", 2, here())?
                .set("m", 2, here())?
                .remove("gone")?,
        )?;
        updates.send(Update::full(document(&[("n", 3)])?).set("k", 3, here())?)?;
        while !updates.wait(Duration::from_millis(5)) {
            updates.heartbeat();
        }
        Ok(())
    });
    let props = Properties::builder().source(source).build()?;
    assert!(eventually(DEADLINE, || props.get_opt::<u32>("k").unwrap() == Some(3)));
    let keys: Vec<_> = props
        .snapshot()
        .keys()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(keys, ["k", "n"]);
    assert!(props.health().is_up());
    let began = Instant::now();
    drop(props);
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    Ok(())
}

// Values set in a memory while another source loads must be in force, in their order.
#[test]
fn values_pushed_during_the_build_are_neither_lost_nor_reordered() -> Result<(), Error> {
    let _exclusive = run_exclusively();
    let memory = Memory::from([("a", 1)]);
    let pushed = memory.clone();
    let slow = Custom::new(Watching::Never).load(move |_| {
        pushed.set("b", 1)?;
        pushed.set("stale", 1)?;
        pushed.replace([("a", 2), ("c", 2)])?;
        pushed.set("d", 3)?;
        Ok(Document::new())
    });
    let props = Properties::builder()
        .source(memory.clone())
        .source(slow)
        .build()?;
    let keys: Vec<_> = props
        .snapshot()
        .keys()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(keys, ["a", "c", "d"]);
    assert_eq!(props.get::<u32>("a")?, 2);
    memory.set("a", 4)?;
    assert_eq!(props.get::<u32>("a")?, 4);
    Ok(())
}

// Archaius 548: a first poll that fails blocks the start for ever, or the source is dropped for
// ever.
#[test]
fn a_source_that_hangs_in_load_fails_the_build_at_the_deadline_by_name() {
    let _exclusive = run_exclusively();
    let release = Gate::closed();
    let open = release.clone();
    let hung = Custom::new(FAST_POLL).load(move |_| {
        open.pass();
        document(&[])
    });
    let fails = Custom::new(FAST_POLL).load(|_| {
        Err(Error::new(
            ErrorKind::Unavailable,
            "the fridge does not answer",
        ))
    });
    let began = Instant::now();
    let error = Properties::builder()
        .load_timeout(Duration::from_millis(100))
        .source(hung)
        .source(fails)
        .build()
        .unwrap_err();
    let took = began.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    let text = error.to_string();
    assert!(
        text.contains("custom here") && text.contains("deadline"),
        "{text}"
    );
    assert!(
        text.contains("the fridge does not answer"),
        "both at once: {text}"
    );
    assert_eq!(error.iter().count(), 2);
    release.open();
    assert!(
        eventually(DEADLINE, || threads_named("liveprops") == 0),
        "{} threads stay",
        threads_named("liveprops")
    );
}

#[test]
fn a_source_that_panics_in_its_first_load_fails_the_build() {
    let _exclusive = run_exclusively();
    let source = Custom::new(FAST_POLL).load(|_| panic!("no fridge"));
    let error = Properties::builder().source(source).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Panicked);
    assert!(error.to_string().contains("no fridge"), "{error}");
    assert!(eventually(DEADLINE, || threads_named("liveprops") == 0));
}

#[test]
fn a_source_that_fails_and_panics_later_keeps_its_values_and_recovers() -> Result<(), Error> {
    let _exclusive = run_exclusively();
    let source = Custom::new(FAST_POLL).load(|i| match i {
        0 => document(&[("n", 1)]),
        1 => Err(Error::new(ErrorKind::Unavailable, "away")),
        2 => panic!("burnt"),
        3 => document(&[("n", 300)]), // rejected by the handle below
        _ => document(&[("n", 2)]),
    });
    let props = Properties::builder().source(source).build()?;
    let n = props.property::<u8>("n").build()?;
    let (report, inbox) = reports();
    let _events = props.on_source_event(move |event| {
        report(match &event.kind {
            SourceEventKind::Suspended(error) => format!("suspended {error}"),
            SourceEventKind::Reconnected => "reconnected".into(),
            SourceEventKind::Rejected(error) => {
                format!("rejected {:?}", error.key().map(Key::as_str))
            }
            other => format!("{other:?}"),
        });
    });
    assert_eq!(n.wait_until(|n| *n == 2, DEADLINE)?, 2);
    assert!(eventually(DEADLINE, || props.health().is_up()));
    let messages: Vec<String> =
        std::iter::from_fn(|| inbox.within(Duration::from_millis(50))).collect();
    let at = |what: &str| messages.iter().position(|event| event.contains(what));
    assert!(at("burnt").is_some(), "{messages:?}");
    assert!(at("rejected Some(\"n\")") > at("burnt"), "{messages:?}");
    assert!(at("reconnected") > at("rejected"), "{messages:?}");
    assert_eq!(props.health().sources[0].rejections, 1);
    Ok(())
}

#[test]
fn a_watch_that_panics_or_ends_is_restarted() -> Result<(), Error> {
    let _exclusive = run_exclusively();
    let source = Custom::new(Watching::Stream).watch(|i, updates| match i {
        0 => panic!("the wire broke"),
        1 => Err(Error::new(ErrorKind::Unavailable, "rejected")),
        2 => Ok(()),
        _ => {
            updates.send(Update::full(document(&[("n", 9)])?))?;
            updates.wait(DEADLINE);
            Ok(())
        }
    });
    let props = Properties::builder().source(source).build()?;
    let began = Instant::now();
    let stale = eventually(DEADLINE, || {
        matches!(props.health().sources[0].status, Status::Stale { .. })
    });
    assert!(stale, "reported");
    assert_eq!(
        props
            .property::<u32>("n")
            .build()?
            .wait_until(|n| *n == 9, DEADLINE)?,
        9
    );
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
    // Health is updated after the value is visible.
    assert!(eventually(DEADLINE, || props.health().is_up()));
    Ok(())
}

#[test]
fn dropping_the_last_clone_ends_every_thread_even_with_a_source_that_hangs() -> Result<(), Error> {
    let _exclusive = run_exclusively();
    let release = Gate::closed();
    let open = release.clone();
    let hung = Custom::new(Watching::Stream).watch(move |_, _| {
        open.pass();
        Ok(())
    });
    let memory = Memory::from([("m", 1)]);
    let props = Properties::builder()
        .max_propagation(Duration::MAX)
        .source(hung)
        .source(Custom::new(Watching::Poll(Duration::from_secs(3_600))))
        .source(memory.clone())
        .build()?;
    let (report, inbox) = reports();
    let m = props.property::<u32>("m").build()?;
    let _sub = m.on_change(move |change| report(*change.new_value()));
    memory.set("m", 2)?;
    assert_eq!(inbox.next(), 2);
    assert!(threads_named("liveprops") >= 3);
    let clone = props.clone();
    drop(props);
    assert!(
        threads_named("liveprops") >= 3,
        "a clone keeps everything going"
    );
    let began = Instant::now();
    drop(clone);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(
        threads_named("liveprops") <= 1,
        "only the hung one: {}",
        threads_named("liveprops")
    );
    release.open();
    assert!(eventually(DEADLINE, || threads_named("liveprops") == 0));
    Ok(())
}

#[test]
fn a_hanging_callback_and_a_hanging_source_delay_the_drop_no_longer_than_one_of_them()
-> Result<(), Error> {
    let _exclusive = run_exclusively();
    let release = Gate::closed();
    let open = release.clone();
    let gate = release.clone();
    let hung = Custom::new(Watching::Stream)
        .load(|_| document(&[]))
        .watch(move |_, _| {
            gate.pass();
            Ok(())
        });
    let memory = Memory::from([("n", 1)]);
    let props = Properties::builder()
        .source(memory.clone())
        .source(hung)
        .build()?;
    let (report, inbox) = reports();
    let _sub = props.property::<u32>("n").build()?.on_change(move |_| {
        report(());
        open.pass();
    });
    memory.set("n", 2)?;
    inbox.next();
    let began = Instant::now();
    drop(props);
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    release.open();
    assert!(eventually(DEADLINE, || threads_named("liveprops") == 0));
    Ok(())
}

#[test]
fn a_removed_source_ends_its_thread() -> Result<(), Error> {
    let _exclusive = run_exclusively();
    let props = Properties::builder().build()?;
    let id = props.add_source(Custom::new(FAST_POLL))?;
    // A thread gets its name shortly after its start.
    let both = || threads_named("liveprops") == 2;
    assert!(eventually(DEADLINE, both), "its own, and the monitor");
    props.remove_source(id)?;
    assert!(eventually(DEADLINE, || threads_named("liveprops") == 0));
    assert!(props.health().sources.is_empty());
    Ok(())
}

#[test]
fn a_source_that_fails_to_load_is_not_added_and_leaves_no_thread() -> Result<(), Error> {
    let _exclusive = run_exclusively();
    let props = Properties::builder().build()?;
    for _ in 0..20 {
        let source = Custom::new(FAST_POLL)
            .load(|_| Err(Error::new(ErrorKind::Unavailable, "not reachable")));
        let error = props.add_source(source).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }
    assert!(props.health().sources.is_empty());
    assert!(eventually(DEADLINE, || threads_named("liveprops") == 0));
    Ok(())
}

#[test]
fn the_last_clone_may_be_dropped_on_a_thread_of_the_crate() -> Result<(), Error> {
    let _exclusive = run_exclusively();
    let memory = Memory::from([("n", 1)]);
    let props = Properties::builder()
        .source(memory.clone())
        .source(Custom::new(FAST_POLL))
        .build()?;
    let slot = Arc::new(Mutex::new(Some(props.clone())));
    let (report, inbox) = reports();
    let last = Arc::clone(&slot);
    let sub = props.on_change_under("x", move |_| {
        let began = Instant::now();
        drop(last.lock().unwrap().take());
        report(began.elapsed());
    })?;
    props.set("x", 1)?;
    // The callback may run before or after this: one of the two drops the last clone.
    drop(props);
    let took = inbox.next();
    assert!(took < Duration::from_secs(5), "{took:?}");
    drop(sub);
    assert!(eventually(DEADLINE, || threads_named("liveprops") == 0));
    Ok(())
}

#[test]
fn properties_can_be_built_read_awaited_and_dropped_in_an_async_runtime() -> Result<(), Error> {
    let _exclusive = run_exclusively();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    runtime.unwrap().block_on(async {
        let memory = Memory::from([("n", 1)]);
        let props = Properties::builder()
            .source(memory.clone())
            .source(Custom::new(FAST_POLL).load(|_| document(&[])))
            .build()?;
        let n = props.property::<u32>("n").build()?;
        let changed = n.changed();
        memory.set("n", 2)?;
        let change = tokio::time::timeout(DEADLINE, changed).await;
        assert!(change.is_ok(), "a change before the first poll is missed");
        drop(props);
        assert!(eventually(DEADLINE, || threads_named("liveprops") == 0));
        assert_eq!(n.get(), 2);
        Ok(())
    })
}

#[test]
fn a_thousand_instances_leave_no_thread_and_no_file_behind() -> Result<(), Error> {
    let _exclusive = run_exclusively();
    let before = (threads_named("liveprops"), open_files());
    for i in 0..1_000u32 {
        let memory = Memory::from([("n", 0)]);
        let props = Properties::builder()
            .max_propagation(Duration::MAX)
            .source(memory.clone())
            .source(Custom::new(Watching::Poll(Duration::from_secs(60))).load(|_| document(&[])))
            .build()?;
        let n = props.property::<u32>("n").build()?;
        let (report, inbox) = reports();
        let sub = n.on_change(move |change| report(*change.new_value()));
        memory.set("n", i + 1)?;
        if i % 10 == 0 {
            assert_eq!(inbox.next(), i + 1);
        }
        drop((props, sub));
    }
    assert!(
        // Hanging threads of other tests may end in the meantime.
        eventually(DEADLINE, || threads_named("liveprops") <= before.0
            && open_files() <= before.1),
        "{:?}",
        (threads_named("liveprops"), open_files())
    );
    Ok(())
}

#[test]
fn sources_share_one_value_of_a_type_within_their_properties_and_not_beyond() -> Result<(), Error> {
    let _exclusive = run_exclusively();
    let seen: Arc<Mutex<Vec<usize>>> = Arc::default();
    let source = || {
        let seen = Arc::clone(&seen);
        Custom::new(Watching::Stream)
            .load(|_| document(&[]))
            .watch(move |_, updates| {
                let shared = updates.shared(|| vec![0u8; 16]);
                seen.lock().unwrap().push(shared.as_ptr().addr());
                updates.wait(DEADLINE);
                Ok(())
            })
    };
    let first = Properties::builder()
        .source(source())
        .source(source())
        .build()?;
    let second = Properties::builder().source(source()).build()?;
    assert!(eventually(DEADLINE, || seen.lock().unwrap().len() == 3));
    let mut addresses = seen.lock().unwrap().clone();
    addresses.sort_unstable();
    addresses.dedup();
    assert_eq!(addresses.len(), 2);
    drop((first, second));
    Ok(())
}

#[test]
fn a_wake_hook_runs_once_when_the_source_is_stopped() -> Result<(), Error> {
    let _exclusive = run_exclusively();
    let (report, inbox) = reports();
    let source = Custom::new(Watching::Stream).watch(move |_, updates| {
        let (wake, woken) = std::sync::mpsc::channel();
        let stopped = report.clone();
        updates.on_stop(move || {
            stopped("stop");
            let _ = wake.send(());
        });
        report("watch");
        let _ = woken.recv();
        assert!(updates.is_stopped());
        Ok(())
    });
    let props = Properties::builder().source(source).build()?;
    assert_eq!(inbox.next(), "watch");
    run_within(Duration::from_secs(1), move || drop(props));
    assert_eq!(inbox.next(), "stop");
    assert!(inbox.within(Duration::from_millis(20)).is_none());
    Ok(())
}

// A suspension is followed by one poll, not by a burst of missed ones.
#[test]
fn a_slow_poll_is_not_followed_by_a_burst_of_polls() -> Result<(), Error> {
    let _exclusive = run_exclusively();
    let times: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let seen = Arc::clone(&times);
    let source = Custom::new(Watching::Poll(Duration::from_millis(20))).load(move |i| {
        seen.lock().unwrap().push(Instant::now());
        if i == 1 {
            thread::sleep(Duration::from_millis(300));
        }
        document(&[])
    });
    let _props = Properties::builder().source(source).build()?;
    assert!(eventually(DEADLINE, || times.lock().unwrap().len() >= 5));
    let times = times.lock().unwrap();
    let gaps: Vec<_> = times.windows(2).skip(1).map(|w| w[1] - w[0]).collect();
    assert!(
        gaps.iter().all(|gap| *gap >= Duration::from_millis(19)),
        "{gaps:?}"
    );
    Ok(())
}

/// A source with its own code for drop and stop.
struct Parting<D: Fn() + Send + Sync + 'static> {
    watching: Watching,
    dropped: D,
    stopped: Option<fn()>,
}

impl<D: Fn() + Send + Sync + 'static> Drop for Parting<D> {
    fn drop(&mut self) {
        (self.dropped)();
    }
}

impl<D: Fn() + Send + Sync + 'static> Source for Parting<D> {
    fn origin(&self) -> Origin {
        Origin::new("parting", "here")
    }

    fn load(&self) -> Result<Document, Error> {
        document(&[("n", 1)])
    }

    fn watching(&self) -> Watching {
        self.watching
    }

    fn watch(&self, updates: &SourceContext) -> Result<(), Error> {
        if self.watching == Watching::Stream {
            updates.on_stop(self.stopped.unwrap());
            updates.heartbeat();
            updates.wait(DEADLINE);
        }
        Ok(())
    }

    fn timing(&self) -> Timing {
        Timing::new().timeout(Duration::from_millis(200))
    }
}

#[test]
fn a_source_whose_drop_or_hook_hangs_blocks_no_other_thread() -> Result<(), Error> {
    static RELEASE: AtomicBool = AtomicBool::new(false);
    fn hangs() {
        while !RELEASE.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(5));
        }
    }
    let _exclusive = run_exclusively();
    let quick = |what: &str, run: &mut dyn FnMut()| {
        let began = Instant::now();
        run();
        assert!(began.elapsed() < Duration::from_secs(5), "{what}");
    };
    for watching in [Watching::Never, Watching::Push, FAST_POLL, Watching::Stream] {
        let source = || Parting {
            watching,
            dropped: hangs,
            stopped: Some(hangs),
        };
        let props = Properties::builder().source(source()).build()?;
        let id = props.add_source(source())?;
        quick("remove", &mut || drop(props.remove_source(id)));
        if watching == Watching::Stream {
            let listens = || props.health().sources[0].commits > 0 || props.health().is_up();
            assert!(eventually(DEADLINE, listens));
            quick("refresh", &mut || drop(props.refresh_now()));
        }
        let mut props = Some(props);
        quick("drop", &mut || drop(props.take()));
    }
    RELEASE.store(true, Ordering::Relaxed);
    assert!(
        eventually(DEADLINE, || threads_named("liveprops") == 0),
        "{}",
        threads_named("liveprops")
    );
    Ok(())
}

#[test]
fn a_source_that_panics_when_dropped_does_not_prevent_shutdown() -> Result<(), Error> {
    let _exclusive = run_exclusively();
    for watching in [Watching::Never, Watching::Push, FAST_POLL] {
        let source = || Parting {
            watching,
            dropped: || panic!("not without a noise"),
            stopped: None,
        };
        let props = Properties::builder()
            .source(Custom::new(FAST_POLL))
            .source(source())
            .build()?;
        let id = props.add_source(source())?;
        props.remove_source(id)?;
        assert!(props.get::<u32>("n").is_ok());
        drop(props);
        assert!(eventually(DEADLINE, || threads_named("liveprops") == 0));
    }
    Ok(())
}

#[test]
fn a_watch_is_woken_when_it_is_stopped() -> Result<(), Error> {
    let _exclusive = run_exclusively();
    let (report, begun) = reports();
    let report = Mutex::new(report);
    let source = Custom::new(Watching::Stream).watch(move |_, updates| {
        let (wake, woken) = std::sync::mpsc::channel();
        let kept = wake.clone();
        updates.on_stop(move || wake.send(()).unwrap_or_default());
        report.lock().unwrap()(());
        // The watch checks nothing else, and a dropped hook wakes no thread.
        let _ = woken.recv();
        drop(kept);
        Ok(())
    });
    let props = Properties::builder().build()?;
    let id = props.add_source(source)?;
    begun.next();
    props.remove_source(id)?;
    assert!(eventually(DEADLINE, || threads_named("liveprops") == 0));
    Ok(())
}

#[test]
fn a_hanging_source_is_detected_after_all_others_are_removed() -> Result<(), Error> {
    let _exclusive = run_exclusively();
    let props = Properties::builder().build()?;
    let id = props.add_source(Custom::new(FAST_POLL))?;
    props.remove_source(id)?;
    assert!(eventually(DEADLINE, || threads_named("liveprops") == 0));
    let release = Gate::closed();
    let open = release.clone();
    let silent = Custom::new(Watching::Stream).watch(move |_, _| {
        open.pass();
        Ok(())
    });
    struct Silent(Custom);
    impl Source for Silent {
        fn origin(&self) -> Origin {
            self.0.origin()
        }
        fn load(&self) -> Result<Document, Error> {
            Source::load(&self.0)
        }
        fn watching(&self) -> Watching {
            self.0.watching()
        }
        fn watch(&self, updates: &SourceContext) -> Result<(), Error> {
            Source::watch(&self.0, updates)
        }
        fn timing(&self) -> Timing {
            Timing::new().heartbeat_timeout(Duration::from_millis(100))
        }
    }
    props.add_source(Silent(silent))?;
    let noticed = || matches!(props.health().sources[0].status, Status::Stale { .. });
    assert!(eventually(DEADLINE, noticed));
    release.open();
    Ok(())
}

#[test]
fn a_thread_that_ends_without_a_fault_of_its_source_is_replaced() -> Result<(), Error> {
    /// A source that panics when the engine drops it.
    #[derive(Debug)]
    struct Cause;
    impl Drop for Cause {
        fn drop(&mut self) {
            if !thread::panicking() {
                panic!("dropped");
            }
        }
    }
    impl std::fmt::Display for Cause {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a cause")
        }
    }
    impl std::error::Error for Cause {}
    let _exclusive = run_exclusively();
    let source = Custom::new(FAST_POLL).load(|i| match i {
        1 => Err(Error::new(ErrorKind::Unavailable, "away").with_cause(Cause)),
        _ => document(&[("n", i)]),
    });
    let props = Properties::builder().source(source).build()?;
    let n = props.property::<u32>("n").build()?;
    assert!(n.wait_until(|n| *n > 5, DEADLINE)? > 5);
    Ok(())
}

/// A source that increments its value on request.
struct Counter {
    key: &'static str,
    value: Arc<AtomicU32>,
    watching: Watching,
}

impl Source for Counter {
    fn origin(&self) -> Origin {
        Origin::new("counter", self.key)
    }

    fn load(&self) -> Result<Document, Error> {
        document(&[(self.key, self.value.load(Ordering::SeqCst))])
    }

    fn watch(&self, updates: &SourceContext) -> Result<(), Error> {
        loop {
            updates.send(Update::full(self.load()?))?;
            if updates.wait(Duration::from_millis(5)) {
                return Ok(());
            }
        }
    }

    fn watching(&self) -> Watching {
        self.watching
    }
}

#[test]
fn an_inline_callback_cannot_wait_for_the_source_on_whose_thread_it_runs() -> Result<(), Error> {
    let _exclusive = run_exclusively();
    for watching in [Watching::Poll(Duration::from_millis(5)), Watching::Stream] {
        let value = Arc::new(AtomicU32::new(0));
        let counter = Counter {
            key: "n",
            value: Arc::clone(&value),
            watching,
        };
        let props = Properties::builder()
            .inline_callbacks()
            .source(counter)
            .build()?;
        let other = props.add_source(Memory::from([("other", 1)]))?;
        let n = props.property::<u32>("n").build()?;
        let id = props
            .health()
            .sources
            .iter()
            .find(|s| s.source != other)
            .map(|s| s.source);
        let id = id.unwrap();
        let (report, inbox) = reports();
        let weak = props.clone();
        let sub = n.on_change(move |change| {
            let began = Instant::now();
            let all = weak.refresh_now().map_err(|error| error.kind());
            let one = weak.refresh_source(id).map_err(|error| error.kind());
            let others = weak.refresh_source(other).map_err(|error| error.kind());
            report((*change.new_value(), all, one, others, began.elapsed()));
        });
        for round in 1..=2 {
            value.store(round, Ordering::SeqCst);
            let (seen, all, one, others, took) = inbox.next();
            assert_eq!(seen, round, "the source goes on");
            assert_eq!(all, Err(ErrorKind::Reentrant));
            assert_eq!(one, Err(ErrorKind::Reentrant));
            assert_eq!(
                others,
                Ok(()),
                "no thread has to answer for a source that pushes"
            );
            assert!(took < Duration::from_secs(5), "{took:?}");
        }
        sub.close_and_wait()?;
        props.refresh_now()?;
    }
    Ok(())
}

/// How often two callbacks may miss each other, and how long one waits for the other.
const ROUNDS: u32 = 20;
const MEETING: Duration = Duration::from_millis(500);

#[test]
fn two_inline_callbacks_cannot_wait_for_the_sources_of_each_other() -> Result<(), Error> {
    let _exclusive = run_exclusively();
    let values: [Arc<AtomicU32>; 2] = Default::default();
    let keys = ["a", "b"];
    let mut builder = Properties::builder().inline_callbacks();
    for (key, value) in keys.into_iter().zip(&values) {
        builder = builder.source(Counter {
            key,
            value: Arc::clone(value),
            watching: Watching::Poll(Duration::from_millis(5)),
        });
    }
    let props = builder.build()?;
    let sources = props.health().sources;
    let id_of = |key: &str| {
        let found = sources.iter().find(|source| source.name.ends_with(key));
        found.unwrap().source
    };
    // The callbacks of a round meet if two threads commit. One thread may commit both changes instead: then
    // its first callback waits for nobody, and another round is needed.
    let arrived: Arc<[AtomicU32; ROUNDS as usize]> =
        Arc::new(std::array::from_fn(|_| AtomicU32::new(0)));
    let (report, inbox) = reports();
    let mut subs = Vec::new();
    for (key, other) in [("a", "b"), ("b", "a")] {
        let (props, id, arrived, report) = (
            props.clone(),
            id_of(other),
            Arc::clone(&arrived),
            report.clone(),
        );
        subs.push(
            props
                .property::<u32>(key)
                .build()?
                .on_change(move |change| {
                    let arrived = &arrived[*change.new_value() as usize - 1];
                    arrived.fetch_add(1, Ordering::SeqCst);
                    let both_wait = eventually(MEETING, || arrived.load(Ordering::SeqCst) == 2);
                    let began = Instant::now();
                    let outcome = props.refresh_source(id).map_err(|error| error.kind());
                    report((both_wait, outcome, began.elapsed()));
                }),
        );
    }
    for round in 1..=ROUNDS {
        for value in &values {
            value.store(round, Ordering::SeqCst);
        }
        let mut outcomes = [inbox.next(), inbox.next()];
        if !outcomes.iter().all(|(both_wait, ..)| *both_wait) {
            continue;
        }
        outcomes.sort_by_key(|(_, outcome, _)| outcome.is_ok());
        assert_eq!(outcomes[0].1, Err(ErrorKind::Reentrant));
        assert_eq!(outcomes[1].1, Ok(()), "the other one goes on");
        for (_, _, took) in outcomes {
            assert!(took < Duration::from_secs(5), "{took:?}");
        }
        return Ok(());
    }
    panic!("one thread committed both changes in each of {ROUNDS} rounds");
}

#[test]
fn inline_callbacks_may_wait_for_the_sources_of_each_other_one_after_the_other() -> Result<(), Error>
{
    let _exclusive = run_exclusively();
    let values: [Arc<AtomicU32>; 2] = Default::default();
    let mut builder = Properties::builder().inline_callbacks();
    for (key, value) in ["a", "b"].into_iter().zip(&values) {
        builder = builder.source(Counter {
            key,
            value: Arc::clone(value),
            watching: Watching::Poll(Duration::from_millis(5)),
        });
    }
    let props = builder.build()?;
    let sources = props.health().sources;
    let (report, inbox) = reports();
    let mut subs = Vec::new();
    for (key, other) in [("a", "b"), ("b", "a")] {
        let found = sources.iter().find(|source| source.name.ends_with(other));
        let (id, props, report) = (found.unwrap().source, props.clone(), report.clone());
        subs.push(
            props
                .clone()
                .property::<u32>(key)
                .build()?
                .on_change(move |_| {
                    report(props.refresh_source(id).map_err(|error| error.kind()));
                }),
        );
    }
    for round in 1..=3 {
        for value in &values {
            // The thread of the other source may commit the change along with its own update and
            // run the callback. The wait fails there.
            let works = (0..20).any(|_| {
                value.fetch_add(1, Ordering::SeqCst);
                let outcome = inbox.next();
                assert!(matches!(outcome, Ok(()) | Err(ErrorKind::Reentrant)));
                outcome.is_ok()
            });
            assert!(works, "round {round}");
        }
    }
    Ok(())
}

#[test]
fn an_inline_callback_on_the_thread_of_a_source_may_change_sources_and_drop_the_properties()
-> Result<(), Error> {
    let _exclusive = run_exclusively();
    let value = Arc::new(AtomicU32::new(0));
    let counter = Counter {
        key: "n",
        value: Arc::clone(&value),
        watching: Watching::Poll(Duration::from_millis(5)),
    };
    let props = Properties::builder()
        .inline_callbacks()
        .default("n", 0)
        .source(counter)
        .build()?;
    let id = props.health().sources[0].source;
    let n = props.property::<u32>("n").build()?;
    let (report, inbox) = reports();
    let last = Mutex::new(Some(props.clone()));
    let _sub = n.on_change(move |_| {
        let Some(props) = last.lock().unwrap().take() else {
            return;
        };
        let began = Instant::now();
        let another = Counter {
            key: "another",
            value: Arc::default(),
            watching: Watching::Poll(Duration::from_secs(1)),
        };
        props.add_source(another).unwrap();
        props.wait_for(["another"], Duration::ZERO).unwrap();
        props.remove_source(id).unwrap();
        props.refresh_now().unwrap();
        drop(props);
        report(began.elapsed());
    });
    drop(props);
    value.store(1, Ordering::SeqCst);
    let took = inbox.next();
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert!(eventually(DEADLINE, || threads_named("liveprops") == 0));
    Ok(())
}

#[test]
fn properties_whose_sources_push_need_no_thread_until_a_callback_is_due() -> Result<(), Error> {
    let _exclusive = run_exclusively();
    assert!(
        eventually(DEADLINE, || threads_named("liveprops") == 0),
        "those of other tests end"
    );
    let memory = Memory::from([("n", 0)]);
    let props = Properties::builder().source(memory.clone()).build()?;
    let n = props.property::<u32>("n").build()?;
    let (report, inbox) = reports();
    memory.set("n", 1)?;
    assert_eq!(threads_named("liveprops"), 0);
    let _sub = n.on_change(move |change| report(*change.new_value()));
    assert_eq!(threads_named("liveprops"), 0);
    memory.set("n", 2)?;
    assert_eq!((inbox.next(), threads_named("liveprops")), (2, 1));
    Ok(())
}
