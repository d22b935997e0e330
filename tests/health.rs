//! Health and events report what happened, in order, once for each cause.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use liveprops::health::{SourceEventKind, Status};
use liveprops::source::RemovalGuard;
use liveprops::sources::{File, Memory};
use liveprops::{
    Builder, Document, Error, ErrorKind, Key, Origin, Properties, RejectionScope, Source,
    SourceContext, Update, Watching,
};
use support::{DEADLINE, eventually, first_source, reports};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A builder that rejects nine at `n`.
fn no_nine() -> Builder {
    Properties::builder().validate(|tree| match tree.get::<i64>("n") {
        Ok(9) => Err("nine".into()),
        _ => Ok(()),
    })
}

type Said = Result<Vec<(&'static str, i64)>, Error>;

/// A polled source of what a function says at each of its loads.
#[derive(Clone)]
struct Polled {
    load: Arc<dyn Fn(usize) -> Said + Send + Sync>,
    loads: Arc<AtomicUsize>,
    rejection_scope: RejectionScope,
}

impl Polled {
    fn new(load: impl Fn(usize) -> Said + Send + Sync + 'static) -> Self {
        Self {
            load: Arc::new(load),
            loads: Arc::default(),
            rejection_scope: RejectionScope::Whole,
        }
    }

    /// Says this of `n`; negative: is down.
    fn of(n: &Arc<AtomicI64>) -> Self {
        let n = Arc::clone(n);
        Self::new(move |_| match n.load(Ordering::SeqCst) {
            n if n < 0 => Err(down()),
            n => Ok(vec![("n", n)]),
        })
    }

    fn loads(&self) -> usize {
        self.loads.load(Ordering::SeqCst)
    }
}

fn down() -> Error {
    Error::new(ErrorKind::Unavailable, "the store is down")
}

impl Source for Polled {
    fn origin(&self) -> Origin {
        Origin::new("store", "test")
    }

    fn load(&self) -> Result<Document, Error> {
        let load = self.loads.fetch_add(1, Ordering::SeqCst);
        let mut document = Document::new();
        for (key, value) in (self.load)(load)? {
            document.set(key, value, self.origin())?;
        }
        Ok(document)
    }

    fn watching(&self) -> Watching {
        Watching::Poll(ms(20))
    }

    fn rejection_scope(&self) -> RejectionScope {
        self.rejection_scope
    }
}

#[test]
fn a_slow_callback_does_not_restore_an_earlier_state() {
    let memory = Memory::from([("n", 1), ("a", 1), ("port", 1)]);
    let (report, told) = reports();
    let props = no_nine()
        .inline_callbacks()
        .restart_required("port")
        .on_source_event(move |event| report(event.generation))
        .source(memory.clone())
        .build()
        .unwrap();
    let (called, is_called) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let a = props.property::<i64>("a").default(0).build().unwrap();
    let _slow = a.on_change(move |_| {
        called.send(()).unwrap();
        let _ = released.lock().unwrap().recv();
    });
    let first = memory.clone();
    let first = thread::spawn(move || first.replace([("n", 1), ("a", 2), ("port", 2)]));
    is_called.recv().unwrap();
    // The books say what is in force before anybody hears of it.
    assert_eq!(first_source(&props).generation, props.generation());
    memory.set("port", 3).unwrap();
    memory.set("n", 2).unwrap();
    memory.set("n", 9).unwrap_err();
    release.send(()).unwrap();
    first.join().unwrap().unwrap();
    let health = props.health();
    assert_eq!(health.sources[0].generation, health.generation);
    assert!(!health.is_up(), "the last that it said was rejected");
    assert_eq!(health.pending_restart[0].waiting.as_deref(), Some("3"));
    let told = told.all();
    assert!(
        told.is_sorted() && told.contains(&health.generation),
        "{told:?}"
    );
}

#[test]
fn health_and_events_follow_the_commits_of_all_threads() {
    const ROUNDS: i64 = 2_000;
    let memory = Memory::from([("a", 0), ("b", 0)]);
    let (report, told) = reports();
    let props = Properties::builder()
        .restart_required("a")
        .restart_required("b")
        .on_source_event(move |event| report(event.generation))
        .source(memory.clone())
        .build()
        .unwrap();
    for round in 1..=ROUNDS / 100 {
        let writers = ["a", "b"].map(|key| {
            let memory = memory.clone();
            thread::spawn(move || {
                for i in 1..=100 {
                    memory.set(key, round * 100 + i).unwrap();
                }
            })
        });
        for writer in writers {
            writer.join().unwrap();
        }
        let health = props.health();
        assert_eq!(health.sources[0].generation, health.generation);
        let waiting = health.pending_restart.iter();
        let waiting: Vec<_> = waiting.map(|it| it.waiting.clone().unwrap()).collect();
        let last = (round * 100 + 100).to_string();
        assert_eq!(waiting, [last.clone(), last]);
    }
    let last = props.generation();
    let mut before = 0;
    while before < last {
        let next = told.next();
        assert!(next >= before, "{next} after {before}");
        before = next;
    }
}

#[test]
fn a_key_that_stays_rejected_shows_in_overall_health_and_is_reported_once() {
    let bad = Arc::new(AtomicBool::new(false));
    let says = Arc::clone(&bad);
    let mut store = Polled::new(move |load| {
        let byte = if says.load(Ordering::SeqCst) { 900 } else { 1 };
        Ok(vec![("load", load as i64), ("byte", byte)])
    });
    store.rejection_scope = RejectionScope::PerKey;
    let (report, told) = reports();
    let props = Properties::builder()
        .on_source_event(move |event| match &event.kind {
            SourceEventKind::Rejected(_) => report("rejected"),
            SourceEventKind::Stale(_) => report("stale"),
            _ => {}
        })
        .source(store.clone().with(|policy| policy.max_stale(ms(300))))
        .build()
        .unwrap();
    let byte = props.property::<u8>("byte").build().unwrap();
    bad.store(true, Ordering::SeqCst);
    assert_eq!(told.next(), "rejected");
    assert!(!props.health().is_up());
    assert_eq!(told.next(), "stale");
    let loads = store.loads();
    assert!(eventually(DEADLINE, || store.loads() >= loads + 5));
    assert_eq!(byte.get(), 1);
    assert_eq!(first_source(&props).rejections, 1);
    // How often it came is told all the same.
    assert!(props.health().rejected[0].count > 5);
    bad.store(false, Ordering::SeqCst);
    assert!(eventually(DEADLINE, || props.health().is_up()));
    assert!(told.all().is_empty());
}

#[test]
fn a_rejection_shows_at_once_whatever_max_stale_is() {
    let memory = Memory::from([("n", 1)]);
    let source = memory
        .clone()
        .with(|policy| policy.max_stale(Duration::from_secs(3_600)));
    let props = no_nine().source(source).build().unwrap();
    memory.set("n", 9).unwrap_err();
    assert!(!props.health().is_up());
    assert!(matches!(props.status(), Status::Stale { .. }));
    memory.set("n", 2).unwrap();
    assert!(props.health().is_up());
}

#[test]
fn a_document_rejected_repeatedly_is_counted_and_reported_once() {
    let n = Arc::new(AtomicI64::new(1));
    let (report, told) = reports();
    let props = no_nine()
        .inline_callbacks()
        .on_source_event(move |event| report(format!("{:?}", event.kind)))
        .source(Polled::of(&n).with(|policy| policy.manual()))
        .build()
        .unwrap();
    n.store(9, Ordering::SeqCst);
    props.refresh_now().unwrap_err();
    let first = props.health().rejected[0].time;
    for _ in 0..4 {
        props.refresh_now().unwrap_err();
    }
    let health = props.health();
    assert_eq!(health.rejected.len(), 1);
    assert_eq!(health.rejected[0].count, 5);
    assert!(health.rejected[0].time > first);
    assert_eq!(health.sources[0].rejections, 1);
    let told = told.all();
    let rejected = told.iter().filter(|event| event.contains("Rejected"));
    assert_eq!(rejected.count(), 1, "{told:?}");
}

#[test]
fn a_source_that_pushes_is_starting_until_it_has_pushed() {
    #[derive(Clone, Default)]
    struct Silent(Arc<Mutex<Option<SourceContext>>>);
    impl Source for Silent {
        fn origin(&self) -> Origin {
            Origin::new("silent", "test")
        }
        fn load(&self) -> Result<Document, Error> {
            Ok(Document::new())
        }
        fn watching(&self) -> Watching {
            Watching::Push
        }
        fn watch(&self, updates: &SourceContext) -> Result<(), Error> {
            *self.0.lock().unwrap() = Some(updates.clone());
            Ok(())
        }
    }
    let silent = Silent::default();
    let props = Properties::builder()
        .source(silent.clone())
        .build()
        .unwrap();
    let source = first_source(&props);
    assert!(matches!(source.status, Status::Starting));
    assert_eq!((source.last_success, source.generation), (None, 0));
    assert!(!props.health().is_up());
    let updates = silent.0.lock().unwrap().clone().unwrap();
    let update = Update::delta().set("n", 1, silent.origin()).unwrap();
    updates.send(update).unwrap();
    assert!(props.health().is_up());
    assert!(first_source(&props).last_success.is_some());
}

#[test]
fn a_late_source_is_down_until_its_values_are_in_force() {
    let n = Arc::new(AtomicI64::new(-1));
    let (report, told) = reports();
    let props = no_nine()
        .on_source_event(move |event| {
            let kind = format!("{:?}", event.kind);
            report(kind.split('(').next().unwrap().to_owned());
        })
        .source(Polled::of(&n).with(|policy| policy.optional()))
        .build()
        .unwrap();
    assert_eq!(told.next(), "Suspended");
    n.store(9, Ordering::SeqCst);
    assert_eq!(told.next(), "Rejected");
    // It answers, and gives nothing that could grow stale.
    let source = first_source(&props);
    assert!(matches!(source.status, Status::Down { .. }), "{source:?}");
    assert_eq!(source.last_success, None);
    assert!(!props.health().is_up());
    n.store(2, Ordering::SeqCst);
    assert_eq!(told.next(), "Initialized");
    assert_eq!(props.get::<i64>("n").unwrap(), 2);
    assert!(props.health().is_up());
    n.store(-1, Ordering::SeqCst);
    assert_eq!(told.next(), "Suspended");
    n.store(2, Ordering::SeqCst);
    assert_eq!(told.next(), "Reconnected");
}

#[test]
fn a_source_reconnects_only_after_a_failed_contact() {
    let n = Arc::new(AtomicI64::new(1));
    let (report, told) = reports();
    let props = no_nine()
        .inline_callbacks()
        .on_source_event(move |event| {
            let kind = format!("{:?}", event.kind);
            report(kind.split('(').next().unwrap().to_owned());
        })
        .source(Polled::of(&n).with(|policy| policy.manual()))
        .build()
        .unwrap();
    told.all();
    let refresh = |value| {
        n.store(value, Ordering::SeqCst);
        let _ = props.refresh_now();
        told.all()
    };
    assert_eq!(refresh(9), ["Rejected"]);
    assert_eq!(refresh(2), ["Recovered", "Updated"], "it was only rejected");
    assert_eq!(refresh(-1), ["Suspended"]);
    assert_eq!(refresh(2), ["Reconnected"]);
    assert_eq!(refresh(-1), ["Suspended"]);
    assert_eq!(refresh(9), ["Rejected"], "it answers, and is not up");
    assert_eq!(refresh(3), ["Reconnected", "Updated"]);
}

#[test]
fn a_rejection_is_reported_again_after_a_failure_in_between() {
    let n = Arc::new(AtomicI64::new(1));
    let (report, told) = reports();
    let props = no_nine()
        .inline_callbacks()
        .on_source_event(move |event| {
            let kind = format!("{:?}", event.kind);
            report(kind.split('(').next().unwrap().to_owned());
        })
        .source(Polled::of(&n).with(|policy| policy.manual()))
        .build()
        .unwrap();
    told.all();
    let refresh = |value| {
        n.store(value, Ordering::SeqCst);
        let _ = props.refresh_now();
        told.all()
    };
    assert_eq!(refresh(9), ["Rejected"]);
    assert_eq!(refresh(9), [""; 0], "nothing has changed");
    assert_eq!(refresh(-1), ["Suspended"]);
    assert_eq!(refresh(9), ["Rejected"], "it answers again");
    assert_eq!(refresh(2), ["Reconnected", "Updated"]);
}

#[test]
fn a_confirmed_removal_is_no_reconnection() {
    let count = Arc::new(AtomicI64::new(4));
    let counted = Arc::clone(&count);
    let store = Polled::new(move |_| {
        let keys = [("a", 1), ("b", 1), ("c", 1), ("n", 1)];
        let count = usize::try_from(counted.load(Ordering::SeqCst)).unwrap();
        Ok(keys[..count].to_vec())
    });
    let (report, told) = reports();
    let props = Properties::builder()
        .inline_callbacks()
        .on_source_event(move |event| report(format!("{:?}", event.kind)))
        .source(store.with(|policy| {
            policy
                .manual()
                .guarded(RemovalGuard::new().max_removed_ratio(0.5).min_keys(1))
        }))
        .build()
        .unwrap();
    told.all();
    count.store(1, Ordering::SeqCst);
    props.refresh_now().unwrap_err();
    assert!(told.next().starts_with("Rejected"));
    props.confirm(first_source(&props).source).unwrap();
    assert_eq!(told.all(), ["Recovered", "Updated"]);
}

#[test]
fn failures_whose_messages_differ_in_numbers_are_reported_once() {
    let store = Polled::new(|load| match load {
        0 => Ok(vec![("n", 1)]),
        1..4 => {
            let detail = format!("no answer within {}ms, request 7f{load}", 100 + load);
            Err(Error::new(ErrorKind::Unavailable, detail))
        }
        4 => Err(Error::new(ErrorKind::Unavailable, "no such host")),
        _ => Ok(vec![("n", 2)]),
    });
    let (report, told) = reports();
    let props = Properties::builder()
        .on_source_event(move |event| {
            if let SourceEventKind::Suspended(error) = &event.kind {
                report(error.to_string());
            }
        })
        .source(store.with(|policy| policy.manual()))
        .build()
        .unwrap();
    for load in 1..5 {
        let error = props.refresh_now().unwrap_err().to_string();
        // Health has the newest all the same.
        let Status::Stale { reason, .. } = first_source(&props).status else {
            panic!("not stale");
        };
        assert_eq!(reason.to_string(), error, "{load}");
    }
    props.refresh_now().unwrap();
    assert!(told.next().contains("request"));
    assert!(told.next().contains("no such host"));
    assert!(told.all().is_empty());
}

#[test]
fn values_that_may_grow_old_for_ever_never_count_as_too_old() {
    let n = Arc::new(AtomicI64::new(1));
    let source = Polled::of(&n).with(|policy| policy.max_stale(Duration::MAX));
    let props = Properties::builder().source(source).build().unwrap();
    n.store(-1, Ordering::SeqCst);
    let is_stale = || matches!(first_source(&props).status, Status::Stale { .. });
    assert!(eventually(DEADLINE, is_stale));
    assert!(props.health().is_up());
}

#[test]
fn lag_is_the_time_in_which_a_change_may_have_waited() {
    let n = Arc::new(AtomicI64::new(1));
    let source = Polled::of(&n).with(|policy| policy.manual());
    let props = Properties::builder().source(source).build().unwrap();
    props.refresh_now().unwrap();
    let looked = Instant::now();
    assert!(eventually(DEADLINE, || looked.elapsed() >= ms(60)));
    n.store(2, Ordering::SeqCst);
    props.refresh_now().unwrap();
    let lag = first_source(&props).lag.unwrap();
    assert!(lag >= ms(60) && lag < DEADLINE, "{lag:?}");
    // A look that finds nothing new leaves it.
    props.refresh_now().unwrap();
    assert_eq!(first_source(&props).lag, Some(lag));
}

#[test]
fn each_version_of_a_file_that_cannot_be_parsed_is_counted_and_listed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.toml");
    std::fs::write(&path, "n = 1").unwrap();
    let file = File::new(&path).with(|policy| policy.manual());
    let props = Properties::builder().source(file).build().unwrap();
    for version in 0..20 {
        let lines = "\n".repeat(version);
        std::fs::write(&path, format!("{lines}n = = 1")).unwrap();
        // The second try finds the same version.
        for _ in 0..2 {
            props.refresh_now().unwrap_err();
        }
    }
    let health = props.health();
    assert_eq!(health.sources[0].rejections, 20);
    assert_eq!(health.rejected.len(), 20);
    for (line, rejected) in (1..).zip(&health.rejected) {
        let origin = rejected.error.origin().unwrap();
        assert!(
            origin.to_string().contains(&format!("app.toml:{line}:")),
            "{origin}"
        );
        assert_eq!(rejected.source, Some(health.sources[0].source));
    }
    assert_eq!(props.get::<i64>("n").unwrap(), 1);
}

#[test]
fn an_unreachable_source_is_no_rejection() {
    let n = Arc::new(AtomicI64::new(1));
    let store = Polled::of(&n).with(|policy| policy.manual());
    let props = Properties::builder().source(store).build().unwrap();
    n.store(-1, Ordering::SeqCst);
    props.refresh_now().unwrap_err();
    let health = props.health();
    assert_eq!(health.sources[0].rejections, 0);
    assert!(health.rejected.is_empty());
}

#[test]
fn only_the_newest_rejections_are_kept() {
    let memory = Memory::from([("n", 1)]);
    let props = Properties::builder()
        .source(memory.clone())
        .build()
        .unwrap();
    let _n = props.property::<u8>("n").build().unwrap();
    for i in 0..100 {
        memory.set("n", 1_000 + i).unwrap_err();
        // The message names no value: a key tells them apart.
        let key = format!("k{i}");
        memory.set(&key, "text").unwrap();
        props.get_or(&key, 1u32);
    }
    let rejected = props.health().rejected;
    assert_eq!(rejected.len(), 64);
    assert_eq!(
        rejected.last().unwrap().error.key().map(Key::as_str),
        Some("k99")
    );
}

#[test]
fn a_slow_event_listener_misses_the_oldest_events() {
    let memory = Memory::from([("n", 0)]);
    let props = Properties::builder()
        .source(memory.clone())
        .build()
        .unwrap();
    let (release, released) = mpsc::channel::<()>();
    let (report, told) = reports();
    let _events = props.on_source_event(move |event| {
        report(event.generation);
        let _ = released.recv();
    });
    memory.set("n", 1).unwrap();
    let first = told.next();
    for n in 2..=2_000 {
        memory.set("n", n).unwrap();
    }
    drop(release);
    let last = props.generation();
    let mut events = vec![first];
    while events.last() < Some(&last) {
        events.push(told.next());
    }
    // The one that was being told, and those that waited.
    assert_eq!(events.len(), 1 + 1_024);
    assert!(events[2..].windows(2).all(|pair| pair[0] < pair[1]));
}

/// What a store says of a revision, and what it was asked from.
#[derive(Clone, Default)]
struct Numbered {
    is_up: Arc<AtomicBool>,
    asked: Arc<Mutex<Vec<Option<String>>>>,
    streams: bool,
}

impl Source for Numbered {
    fn origin(&self) -> Origin {
        Origin::new("numbered", "test")
    }

    fn load(&self) -> Result<Document, Error> {
        if !self.is_up.load(Ordering::SeqCst) {
            return Err(down());
        }
        let mut document = Document::new();
        document.set("n", 1, self.origin())?;
        document.set_revision("r1");
        Ok(document)
    }

    fn poll(&self, committed: Option<&str>) -> Result<Update, Error> {
        self.asked
            .lock()
            .unwrap()
            .push(committed.map(str::to_owned));
        self.load().map(Update::full)
    }

    fn watching(&self) -> Watching {
        match self.streams {
            true => Watching::Stream,
            false => Watching::Poll(ms(20)),
        }
    }

    fn watch(&self, updates: &SourceContext) -> Result<(), Error> {
        // Alive, and nothing has changed since it said nothing.
        while !updates.wait(ms(5)) {
            updates.heartbeat();
            self.asked.lock().unwrap().push(None);
        }
        Ok(())
    }
}

/// Starts from what was kept of a store that is down.
fn start_from_disk(dir: &std::path::Path, store: &Numbered) -> Properties {
    let start = |up: bool| {
        store.is_up.store(up, Ordering::SeqCst);
        let source = store.clone().with(|policy| policy.cached());
        Properties::builder()
            .state_dir(dir)
            .source(source)
            .build()
            .unwrap()
    };
    drop(start(true));
    store.asked.lock().unwrap().clear();
    start(false)
}

#[test]
fn a_watch_does_not_resume_from_the_revision_of_the_cache() {
    let dir = tempfile::tempdir().unwrap();
    let store = Numbered::default();
    let props = start_from_disk(dir.path(), &store);
    // What is kept may lack secrets, so it is no ground for asking what is new.
    assert_eq!(first_source(&props).revision.as_deref(), Some("r1"));
    assert!(eventually(DEADLINE, || !store
        .asked
        .lock()
        .unwrap()
        .is_empty()));
    assert_eq!(store.asked.lock().unwrap()[0], None);
    store.is_up.store(true, Ordering::SeqCst);
    assert!(eventually(DEADLINE, || props.health().is_up()));
    let from = || store.asked.lock().unwrap().last().cloned();
    assert!(eventually(DEADLINE, || from() == Some(Some("r1".into()))));
}

#[test]
fn a_heartbeat_does_not_confirm_cached_values() {
    let dir = tempfile::tempdir().unwrap();
    let store = Numbered {
        streams: true,
        ..Numbered::default()
    };
    let props = start_from_disk(dir.path(), &store);
    let confirmed = first_source(&props).cached.unwrap();
    let alive = || store.asked.lock().unwrap().len();
    let before = alive();
    assert!(eventually(DEADLINE, || alive() >= before + 5));
    let source = first_source(&props);
    assert_eq!(source.cached, Some(confirmed));
    assert!(matches!(source.status, Status::Stale { .. }));
    assert!(!props.health().is_up());
}

/// What a source does at each load while it alternates.
fn alternates(load: usize) -> Said {
    match load % 3 {
        0 => Ok(vec![("n", 1)]),
        1 => Err(down()),
        _ => Ok(vec![("n", 9)]),
    }
}

#[test]
fn a_source_that_alternates_causes_two_events_of_each_kind_and_its_last_state_is_reported() {
    let lasts = Arc::new(Mutex::new(None::<Said>));
    let stays = Arc::clone(&lasts);
    let mut source = Polled::new(move |load| {
        let stays = stays.lock().unwrap();
        stays.clone().unwrap_or_else(|| alternates(load))
    });
    source.rejection_scope = RejectionScope::Whole;
    let (report, reported) = reports();
    let props = no_nine()
        .on_source_event(move |event| {
            let kind = format!("{:?}", event.kind);
            report((kind.split('(').next().unwrap().to_owned(), event.repeated));
        })
        .source(source.clone())
        .build()
        .unwrap();
    let mut seen = Vec::new();
    assert!(eventually(DEADLINE * 2, || {
        // Health is exact all the time, whatever the events say.
        let status = props.health().sources[0].status.clone();
        if let Status::Stale { reason, .. } = status {
            seen.push(reason.kind());
        }
        source.loads() > 40
    }));
    assert!(seen.contains(&ErrorKind::Unavailable) && seen.contains(&ErrorKind::Rejected));
    let events: Vec<String> = reported.all().into_iter().map(|(kind, _)| kind).collect();
    for kind in ["Suspended", "Rejected", "Reconnected"] {
        let count = events.iter().filter(|event| *event == kind).count();
        assert_eq!(count, 2, "{kind}: {events:?}");
    }
    assert!(events.len() <= 7, "{events:?}");
    // A state that lasts is reported, with the count of what was withheld.
    for (state, wanted) in [
        (Err(down()), "Suspended"),
        (Ok(vec![("n", 1)]), "Reconnected"),
    ] {
        *lasts.lock().unwrap() = Some(state);
        let (kind, repeated) = reported.next();
        assert_eq!(kind, wanted);
        if wanted == "Suspended" {
            assert!(repeated > 5, "{repeated}");
        }
    }
    assert!(props.health().is_up());
}

#[test]
fn a_part_that_stays_rejected_is_no_event_after_an_update_that_is_rejected_as_a_whole() {
    struct Partial(Arc<AtomicI64>);

    impl Source for Partial {
        fn origin(&self) -> Origin {
            Origin::new("partial", "")
        }

        fn load(&self) -> Result<Document, Error> {
            let mut document = Document::new();
            document.set("n", self.0.load(Ordering::SeqCst), self.origin())?;
            let broken = Error::new(ErrorKind::Malformed, "cannot be read");
            document.report_unreadable(broken.with_key("part".parse::<Key>()?));
            Ok(document)
        }
    }

    let n = Arc::new(AtomicI64::new(1));
    let (report, reported) = reports();
    let props = no_nine()
        .inline_callbacks()
        .on_source_event(move |event| {
            if let SourceEventKind::Rejected(error) = &event.kind {
                report(error.key().map(ToString::to_string));
            }
        })
        .source(Partial(Arc::clone(&n)).with(|policy| policy.manual()))
        .build()
        .unwrap();
    for value in [9, 1, 9, 2] {
        n.store(value, Ordering::SeqCst);
        props.refresh_now().unwrap_err();
    }
    let events = reported.all();
    let parts = events.iter().filter(|key| key.as_deref() == Some("part"));
    assert_eq!(parts.count(), 1, "{events:?}");
    let health = first_source(&props);
    assert_eq!(health.problems.len(), 1);
    let Status::Stale { reason, .. } = health.status else {
        panic!("{health:?}");
    };
    assert_eq!(reason.key().map(Key::as_str), Some("part"));
    assert_eq!(props.get::<i64>("n").unwrap(), 2);
}
