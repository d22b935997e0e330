//! Values stay valid during all faults of their source.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use liveprops::health::Status;
use liveprops::source::{RemovalGuard, Timing};
use liveprops::sources::Memory;
use liveprops::{
    Document, Error, ErrorKind, Key, Origin, Properties, RejectionScope, Source, SourceContext,
    Update, Watching,
};
use store::Values;
use support::proc::{open_files, threads};
use support::{DEADLINE, Gate, eventually, first_source};

/// The state of a store, shared by all its sources.
mod store {
    use super::*;
    use std::sync::Mutex;

    #[derive(Clone, Default)]
    pub(crate) struct Values(Arc<Mutex<BTreeMap<String, i64>>>);

    impl Values {
        pub(crate) fn set(&self, key: &str, value: i64) {
            self.0.lock().unwrap().insert(key.to_owned(), value);
        }

        pub(crate) fn clear(&self) {
            self.0.lock().unwrap().clear();
        }

        pub(crate) fn document(&self) -> Document {
            let mut document = Document::new();
            for (key, value) in self.0.lock().unwrap().iter() {
                let origin = Origin::new("store", "test");
                document.set(key, *value, origin).unwrap();
            }
            document
        }
    }
}

/// A source of a store that can be down, slow or hanging.
#[derive(Clone)]
struct Store {
    values: Values,
    gate: Gate,
    down: Arc<AtomicBool>,
    loads: Arc<AtomicUsize>,
    every: Duration,
    timeout: Duration,
}

impl Store {
    fn new() -> Self {
        let store = Self {
            values: Values::default(),
            gate: Gate::default(),
            down: Arc::default(),
            loads: Arc::default(),
            every: Duration::from_millis(20),
            timeout: Duration::from_millis(300),
        };
        store.values.set("n", 1);
        store
    }

    fn every(mut self, every: Duration) -> Self {
        self.every = every;
        self
    }

    fn loads(&self) -> usize {
        self.loads.load(Ordering::SeqCst)
    }

    fn is_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }
}

impl Source for Store {
    fn origin(&self) -> Origin {
        Origin::new("store", "test")
    }

    fn load(&self) -> Result<Document, Error> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        self.gate.pass();
        match self.down.load(Ordering::SeqCst) {
            true => Err(Error::new(ErrorKind::Unavailable, "the store is down")),
            false => Ok(self.values.document()),
        }
    }

    fn watching(&self) -> Watching {
        Watching::Poll(self.every)
    }

    fn timing(&self) -> Timing {
        Timing::new().timeout(self.timeout)
    }
}

#[test]
fn a_hanging_source_is_abandoned_and_retried_without_affecting_others() -> Result<(), Error> {
    let store = Store::new();
    let memory = Memory::from([("m", 0)]);
    let props = Properties::builder()
        .source(memory.clone())
        .source(store.clone())
        .build()?;
    store.gate.close();
    assert!(eventually(DEADLINE, || {
        matches!(&first_source(&props).status, Status::Stale { reason, .. } if reason.kind() == ErrorKind::Timeout)
    }));
    // Other sources continue, and its own values stay.
    for n in 1..100 {
        memory.set("m", n)?;
        assert_eq!((props.get::<i64>("m")?, props.get::<i64>("n")?), (n, 1));
    }
    assert!(eventually(DEADLINE, || store.loads() >= 4));
    store.values.set("n", 2);
    store.gate.open();
    assert!(eventually(DEADLINE, || props.get::<i64>("n").unwrap() == 2));
    assert!(eventually(DEADLINE, || props.health().is_up()));
    Ok(())
}

#[test]
fn an_answer_after_its_deadline_changes_nothing() -> Result<(), Error> {
    struct Late(Store);
    impl Source for Late {
        fn origin(&self) -> Origin {
            self.0.origin()
        }
        fn load(&self) -> Result<Document, Error> {
            // Returns the data from before it was stopped.
            let document = self.0.values.document();
            self.0.loads.fetch_add(1, Ordering::SeqCst);
            self.0.gate.pass();
            Ok(document)
        }
        fn watching(&self) -> Watching {
            self.0.watching()
        }
        fn timing(&self) -> Timing {
            self.0.timing()
        }
    }
    let store = Store::new();
    let props = Properties::builder().source(Late(store.clone())).build()?;
    store.gate.close();
    let before = store.loads();
    assert!(eventually(DEADLINE, || store.loads() >= before + 2));
    store.values.set("n", 2);
    store.gate.open();
    assert!(eventually(DEADLINE, || props.get::<i64>("n").unwrap() == 2));
    let end = Instant::now() + Duration::from_millis(300);
    while Instant::now() < end {
        assert_eq!(props.get::<i64>("n")?, 2, "an old answer came back");
    }
    Ok(())
}

#[test]
fn a_silent_watch_is_restarted() -> Result<(), Error> {
    /// Its watch sends an update only when it begins.
    struct Mute(Store);
    impl Source for Mute {
        fn origin(&self) -> Origin {
            self.0.origin()
        }
        fn load(&self) -> Result<Document, Error> {
            Ok(self.0.values.document())
        }
        fn watching(&self) -> Watching {
            Watching::Stream
        }
        fn watch(&self, updates: &SourceContext) -> Result<(), Error> {
            updates.send(Update::full(self.0.values.document()))?;
            self.0.loads.fetch_add(1, Ordering::SeqCst);
            while !updates.wait(Duration::from_secs(60)) {}
            Ok(())
        }
        fn timing(&self) -> Timing {
            Timing::new().heartbeat_timeout(Duration::from_millis(200))
        }
    }
    let store = Store::new();
    let props = Properties::builder().source(Mute(store.clone())).build()?;
    assert!(eventually(DEADLINE, || store.loads() == 1));
    store.values.set("n", 2);
    assert!(eventually(DEADLINE, || props.get::<i64>("n").unwrap() == 2));
    assert!(store.loads() >= 2);
    Ok(())
}

#[test]
fn a_refresh_waits_for_the_present_state_of_the_source() -> Result<(), Error> {
    let store = Store::new().every(Duration::from_secs(5));
    let props = Properties::builder()
        .source(store.clone().with(|policy| policy.manual()))
        .build()?;
    for n in 2..50 {
        store.values.set("n", n);
        props.refresh_now()?;
        assert_eq!(props.get::<i64>("n")?, n);
    }
    let loads = store.loads();
    thread::sleep(Duration::from_millis(100));
    assert_eq!(store.loads(), loads, "no load was requested");

    store.is_down(true);
    let error = props.refresh_now().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(!props.health().is_up());
    store.is_down(false);
    props.refresh_now()?;
    assert!(props.health().is_up());
    Ok(())
}

#[test]
fn refreshes_during_a_poll_share_the_next_poll() -> Result<(), Error> {
    let mut store = Store::new();
    store.timeout = Duration::from_secs(5);
    let props = Properties::builder()
        .source(store.clone().with(|policy| policy.manual()))
        .build()?;
    store.gate.close();
    let ask = || {
        let props = props.clone();
        thread::spawn(move || props.refresh_now())
    };
    let first = ask();
    assert!(eventually(DEADLINE, || store.loads() == 2));
    store.values.set("n", 7);
    let more: Vec<_> = (0..10).map(|_| ask()).collect();
    thread::sleep(Duration::from_millis(100));
    store.gate.open();
    first.join().unwrap()?;
    for one in more {
        one.join().unwrap()?;
    }
    assert_eq!(props.get::<i64>("n")?, 7);
    assert_eq!(store.loads(), 3);
    Ok(())
}

#[test]
fn the_environment_and_files_are_read_again_on_request() -> Result<(), Error> {
    use liveprops::sources::{Env, File};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.properties");
    if liveprops::Format::of_path(&path).is_none() {
        return Ok(());
    }
    std::fs::write(&path, "a = 1\n").unwrap();
    let props = Properties::builder()
        .source(File::new(&path))
        .source(Env::prefix("RESILIENCE_").vars([("RESILIENCE_B", "2")]))
        .build()?;
    let beside = dir.path().join("new");
    for n in 2..20 {
        std::fs::write(&beside, format!("a = {n}\n")).unwrap();
        std::fs::rename(&beside, &path).unwrap();
        props.refresh_now()?;
        assert_eq!(props.get::<i64>("a")?, n);
        assert_eq!(props.get::<i64>("b")?, 2);
    }
    Ok(())
}

#[test]
fn a_source_whose_changes_may_come_too_late_fails_the_build_with_the_sum() {
    let store = Store::new().every(Duration::from_secs(60));
    let error = Properties::builder()
        .source(store.clone())
        .build()
        .unwrap_err()
        .to_string();
    for part in [
        "60.3s",
        "interval 60s",
        "timeout 300ms",
        "10s",
        "max_propagation",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
    let allowed = Properties::builder()
        .max_propagation(Duration::from_secs(61))
        .source(store.clone())
        .build();
    assert!(allowed.is_ok());
    let manual = Properties::builder()
        .source(store.with(|policy| policy.manual()))
        .build();
    assert!(manual.is_ok());
}

#[test]
fn an_optional_source_that_was_down_is_used_once_it_is_up() -> Result<(), Error> {
    let store = Store::new();
    store.is_down(true);
    let began = Instant::now();
    let props = Properties::builder()
        .source(Memory::from([("n", 0)]))
        .source(store.clone().with(|policy| policy.optional()))
        .build()?;
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!(props.get::<i64>("n")?, 0);
    assert!(matches!(first_source(&props).status, Status::Down { .. }));
    assert!(!props.health().is_up());
    store.is_down(false);
    assert!(eventually(DEADLINE, || props.get::<i64>("n").unwrap() == 1));
    assert!(props.health().is_up());
    Ok(())
}

#[test]
fn a_hanging_optional_source_delays_the_start_by_its_timeout_only() -> Result<(), Error> {
    let mut store = Store::new();
    store.timeout = Duration::from_secs(3);
    store.gate.close();
    let began = Instant::now();
    let props = Properties::builder()
        .source(
            store
                .clone()
                .with(|policy| policy.optional_after(Duration::from_millis(200))),
        )
        .build()?;
    let took = began.elapsed();
    assert!(
        took >= Duration::from_millis(200) && took < Duration::from_millis(2_500),
        "{took:?}"
    );
    assert_eq!(props.get_opt::<i64>("n")?, None);
    // The update that then arrives is not requested twice.
    store.gate.open();
    assert!(eventually(DEADLINE, || props.get_opt::<i64>("n").unwrap() == Some(1)));
    Ok(())
}

#[test]
fn a_start_waits_for_a_required_source_until_its_deadline() -> Result<(), Error> {
    let store = Store::new();
    store.is_down(true);
    let late = store.clone();
    let waker = thread::spawn(move || {
        thread::sleep(Duration::from_millis(400));
        late.is_down(false);
    });
    let props = Properties::builder()
        .source(
            store
                .clone()
                .with(|policy| policy.required_within(DEADLINE)),
        )
        .build()?;
    assert_eq!(props.get::<i64>("n")?, 1);
    waker.join().unwrap();

    store.is_down(true);
    let began = Instant::now();
    let error = Properties::builder()
        .source(
            store
                .clone()
                .with(|policy| policy.required_within(Duration::from_millis(300))),
        )
        .build()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(began.elapsed() >= Duration::from_millis(300));
    // Without a start timeout, the first failure ends the start.
    let began = Instant::now();
    assert!(Properties::builder().source(store.clone()).build().is_err());
    assert!(began.elapsed() < Duration::from_secs(5));
    Ok(())
}

#[test]
fn a_waiting_start_continues_once_the_source_is_available() -> Result<(), Error> {
    let store = Store::new();
    store.is_down(true);
    let late = store.clone();
    let waker = thread::spawn(move || {
        thread::sleep(Duration::from_millis(600));
        late.is_down(false);
    });
    let props = Properties::builder()
        .load_timeout(Duration::from_millis(100))
        .source(store.with(|policy| policy.wait_forever()))
        .build()?;
    assert_eq!(props.get::<i64>("n")?, 1);
    waker.join().unwrap();
    Ok(())
}

#[test]
fn a_mass_removal_is_withheld_until_it_is_confirmed() -> Result<(), Error> {
    let store = Store::new();
    for i in 0..100 {
        store.values.set(&format!("k{i}"), i);
    }
    let guarded = store
        .clone()
        .with(|policy| policy.manual().guarded(RemovalGuard::new()));
    let props = Properties::builder().source(guarded).build()?;
    let kept = store.values.clone();
    store.values.clear();
    let error = props.refresh_now().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Withheld);
    assert!(error.to_string().contains("101 of 101"), "{error}");
    assert_eq!(props.get::<i64>("k7")?, 7);
    let withheld = first_source(&props).withheld.unwrap();
    assert_eq!((withheld.removed, withheld.total), (101, 101));
    // A repeated removal is not accepted either.
    assert!(props.refresh_now().is_err());
    // A removal of half of the keys is no mass removal.
    for i in 0..60 {
        kept.set(&format!("k{i}"), i + 1);
    }
    props.refresh_now()?;
    assert_eq!(props.get::<i64>("k7")?, 8);
    assert_eq!(props.get_opt::<i64>("k80")?, None);
    assert_eq!(first_source(&props).withheld, None);

    store.values.clear();
    assert!(props.refresh_now().is_err());
    let id = first_source(&props).source;
    assert_eq!(props.confirm(id)?.changed, 60);
    assert_eq!(props.get_opt::<i64>("k7")?, None);
    assert!(props.health().is_up());
    assert!(props.confirm(id).is_err(), "nothing is withheld any more");
    Ok(())
}

#[test]
fn a_repeated_mass_removal_is_accepted_if_accept_after_is_set() -> Result<(), Error> {
    let store = Store::new();
    let guard = RemovalGuard::new().accept_after(Duration::from_millis(300));
    let props = Properties::builder()
        .source(store.clone().with(|policy| policy.guarded(guard)))
        .build()?;
    store.values.clear();
    assert!(eventually(DEADLINE, || first_source(&props)
        .withheld
        .is_some()));
    assert_eq!(props.get::<i64>("n")?, 1);
    assert!(eventually(DEADLINE, || props
        .get_opt::<i64>("n")
        .unwrap()
        .is_none()));
    assert!(eventually(DEADLINE, || props.health().is_up()));
    Ok(())
}

/// A store that sends changes key by key, like a watched prefix.
#[derive(Clone, Default)]
struct Watched(Arc<std::sync::Mutex<Option<SourceContext>>>);

impl Watched {
    fn send(&self, update: Update) -> Result<liveprops::CommitOutcome, Error> {
        let updates = self.0.lock().unwrap().clone().unwrap();
        updates.send(update)
    }
}

impl Source for Watched {
    fn origin(&self) -> Origin {
        Origin::new("watched", "test")
    }

    fn load(&self) -> Result<Document, Error> {
        Ok(Document::new())
    }

    fn watching(&self) -> Watching {
        Watching::Push
    }

    fn watch(&self, updates: &SourceContext) -> Result<(), Error> {
        *self.0.lock().unwrap() = Some(updates.clone());
        let mut document = Document::new();
        for i in 0..20 {
            document.set(&format!("k{i}"), i, self.origin())?;
        }
        updates.send(Update::full(document)).map(drop)
    }

    fn rejection_scope(&self) -> RejectionScope {
        RejectionScope::PerKey
    }
}

#[test]
fn a_prefix_that_is_wiped_key_by_key_is_withheld() -> Result<(), Error> {
    let store = Watched::default();
    let props = Properties::builder()
        .source(
            store
                .clone()
                .with(|policy| policy.guarded(RemovalGuard::new())),
        )
        .build()?;
    let mut withheld = 0;
    for i in 0..20 {
        withheld += usize::from(
            store
                .send(Update::delta().remove(&format!("k{i}"))?)
                .is_err(),
        );
    }
    assert_eq!(withheld, 10, "up to half of them may go");
    assert_eq!(props.get_opt::<i64>("k9")?, None);
    assert_eq!(props.get::<i64>("k10")?, 10);
    // Values set in the meantime are in force.
    let set = Update::delta().set("new", 1, store.origin())?;
    let applied = store.send(set)?;
    assert_eq!(applied.rejected[0].kind(), ErrorKind::Withheld);
    assert_eq!(props.get::<i64>("new")?, 1);
    assert_eq!(props.get::<i64>("k10")?, 10);

    let id = first_source(&props).source;
    props.confirm(id)?;
    assert_eq!(props.get_opt::<i64>("k10")?, None);
    assert_eq!(props.get::<i64>("new")?, 1);
    Ok(())
}

#[test]
fn a_withheld_removal_that_is_undone_leaves_nothing_behind() -> Result<(), Error> {
    let store = Watched::default();
    let props = Properties::builder()
        .source(
            store
                .clone()
                .with(|policy| policy.guarded(RemovalGuard::all())),
        )
        .build()?;
    let mut wipe = Update::delta();
    for i in 0..20 {
        wipe = wipe.remove(&format!("k{i}"))?;
    }
    assert_eq!(store.send(wipe).unwrap_err().kind(), ErrorKind::Withheld);
    assert_eq!(props.get::<i64>("k3")?, 3);
    // The store gets its keys again, one by one.
    for i in 0..20 {
        assert!(first_source(&props).withheld.is_some());
        store.send(Update::delta().set(&format!("k{i}"), i + 30, store.origin())?)?;
        assert_eq!(props.get::<i64>(&format!("k{i}"))?, i + 30);
        assert_eq!(props.get::<i64>("k19")?, if i == 19 { 49 } else { 19 });
    }
    assert_eq!(first_source(&props).withheld, None);
    assert!(props.health().is_up());
    Ok(())
}

#[test]
fn a_rejected_update_is_requested_again_from_the_last_accepted_revision() -> Result<(), Error> {
    /// Sends numbered changes of one key, starting after the requested number.
    struct Log {
        changes: Arc<std::sync::Mutex<Vec<i64>>>,
        asked: Arc<std::sync::Mutex<Vec<Option<String>>>>,
    }
    impl Source for Log {
        fn origin(&self) -> Origin {
            Origin::new("log", "test")
        }
        fn load(&self) -> Result<Document, Error> {
            let changes = self.changes.lock().unwrap();
            let mut document = Document::new();
            document.set("n", *changes.last().unwrap(), self.origin())?;
            document.set_revision(changes.len().to_string());
            Ok(document)
        }
        fn poll(&self, committed: Option<&str>) -> Result<Update, Error> {
            self.asked
                .lock()
                .unwrap()
                .push(committed.map(str::to_owned));
            let changes = self.changes.lock().unwrap();
            let from: usize = committed.unwrap().parse().unwrap();
            let mut update = Update::delta();
            for n in &changes[from..] {
                update = update.set("n", *n, self.origin())?;
            }
            Ok(update.at_revision(changes.len().to_string()))
        }
        fn watching(&self) -> Watching {
            Watching::Poll(Duration::from_secs(5))
        }
    }
    let (changes, asked) = (Arc::default(), Arc::default());
    let log = Log {
        changes: Arc::clone(&changes),
        asked: Arc::clone(&asked),
    };
    changes.lock().unwrap().extend([1, 2, 3, 4]);
    let limit = Memory::from([("limit", 4)]);
    let props = Properties::builder()
        .source(limit.clone())
        .source(log.with(|policy| policy.manual()))
        .validate(
            |tree| match (tree.get::<i64>("n"), tree.get::<i64>("limit")) {
                (Ok(n), Ok(limit)) if n > limit => Err("over the limit".into()),
                _ => Ok(()),
            },
        )
        .build()?;
    changes.lock().unwrap().push(5);
    assert!(props.refresh_now().is_err());
    assert_eq!(props.get::<i64>("n")?, 4);
    assert_eq!(first_source(&props).revision.as_deref(), Some("4"));
    assert!(props.refresh_now().is_err());
    limit.set("limit", 9)?;
    props.refresh_now()?;
    assert_eq!(props.get::<i64>("n")?, 5);
    assert_eq!(first_source(&props).revision.as_deref(), Some("5"));
    props.refresh_now()?;
    let asked = asked.lock().unwrap().clone();
    let from: Vec<_> = asked.iter().map(|from| from.as_deref().unwrap()).collect();
    assert_eq!(from, ["4", "4", "4", "5"]);
    Ok(())
}

#[test]
fn health_has_the_revision_in_force_its_time_and_its_lag() -> Result<(), Error> {
    let store = Store::new();
    let props = Properties::builder().source(store.clone()).build()?;
    store.values.set("n", 2);
    assert!(eventually(DEADLINE, || props.get::<i64>("n").unwrap() == 2));
    assert!(eventually(DEADLINE, || first_source(&props).commits == 2));
    let source = first_source(&props);
    assert_eq!(source.generation, props.generation());
    assert!(
        source.lag.unwrap() < Duration::from_secs(5),
        "{:?}",
        source.lag
    );
    assert!(source.age.unwrap() < Duration::from_secs(5));
    assert!(source.required);
    store.is_down(true);
    assert!(eventually(DEADLINE, || !props.health().is_up()));
    let before = first_source(&props).age.unwrap();
    thread::sleep(Duration::from_millis(50));
    assert!(first_source(&props).age.unwrap() >= before + Duration::from_millis(50));
    Ok(())
}

#[test]
fn rejections_are_listed_with_source_reason_time_and_count() -> Result<(), Error> {
    let store = Store::new();
    let props = Properties::builder()
        .source(store.clone().with(|policy| policy.manual()))
        .validate(|tree| match tree.get::<i64>("n") {
            Ok(n) if n > 5 => Err("too many".into()),
            _ => Ok(()),
        })
        .build()?;
    store.values.set("n", 6);
    assert!(props.refresh_now().is_err());
    store.values.set("n", 7);
    assert!(props.refresh_now().is_err());
    let rejected = props.health().rejected;
    let last = rejected.last().unwrap();
    assert_eq!(last.source, Some(first_source(&props).source));
    assert!(last.error.to_string().contains("too many"));
    assert_eq!(last.error.key().map(Key::as_str), Some("n"));
    assert!(last.time.elapsed().unwrap() < DEADLINE);
    assert_eq!(last.generation, props.generation());
    assert!(last.count >= 1);
    Ok(())
}

#[test]
fn a_thousand_starts_and_ends_leave_no_thread_and_no_file_open() -> Result<(), Error> {
    let round = || -> Result<(), Error> {
        let store = Store::new();
        let props = Properties::builder()
            .source(Memory::from([("m", 0)]))
            .source(store.clone())
            .source(store.clone().with(|policy| policy.optional()))
            .build()?;
        assert_eq!(props.get::<i64>("n")?, 1);
        Ok(())
    };
    round()?;
    let (threads_before, files_before) = (threads(), open_files());
    for _ in 0..1_000 {
        round()?;
    }
    // Other tests of this process open and close files.
    assert!(eventually(DEADLINE, || threads() <= threads_before + 16
        && open_files() <= files_before + 16));
    Ok(())
}

#[test]
fn a_store_that_fails_and_recovers_is_reported_in_exactly_these_steps() -> Result<(), Error> {
    let store = Store::new();
    let (report, inbox) = support::reports();
    let props = Properties::builder()
        .inline_callbacks()
        .on_source_event(move |event| {
            let kind = format!("{:?}", event.kind);
            report(kind.split('(').next().unwrap().to_owned());
        })
        .source(
            store
                .clone()
                .with(|policy| policy.max_stale(Duration::from_millis(300))),
        )
        .build()?;
    store.values.set("n", 2);
    assert!(eventually(DEADLINE, || props.get::<i64>("n").unwrap() == 2));
    store.is_down(true);
    assert!(eventually(DEADLINE, || matches!(
        props.status(),
        Status::Stale { .. }
    )));
    let stale_told = Instant::now() + DEADLINE;
    let mut steps = Vec::new();
    while !steps.contains(&"Stale".to_owned()) && Instant::now() < stale_told {
        steps.extend(inbox.within(Duration::from_millis(50)));
    }
    store.values.set("n", 3);
    store.is_down(false);
    assert!(eventually(DEADLINE, || props.get::<i64>("n").unwrap() == 3));
    assert!(eventually(DEADLINE, || props.health().is_up()));
    // Nothing changes any more, and nothing is reported.
    thread::sleep(Duration::from_millis(200));
    steps.extend(inbox.all());
    assert_eq!(
        steps,
        [
            "Initialized",
            "Updated",
            "Suspended",
            "Stale",
            "Reconnected",
            "Updated"
        ]
    );
    Ok(())
}

/// A store with a closure as its watch. The closure gets the number of the watch, starting at 0.
struct Streamed<F> {
    silence: Option<Duration>,
    watch: F,
    watches: AtomicUsize,
}

impl<F: Fn(usize, &SourceContext) -> Result<(), Error> + Send + Sync + 'static> Streamed<F> {
    fn new(silence: Option<Duration>, watch: F) -> Self {
        Self {
            silence,
            watch,
            watches: AtomicUsize::new(0),
        }
    }
}

impl<F: Fn(usize, &SourceContext) -> Result<(), Error> + Send + Sync + 'static> Source
    for Streamed<F>
{
    fn origin(&self) -> Origin {
        Origin::new("streamed", "test")
    }

    fn load(&self) -> Result<Document, Error> {
        Ok(Document::new())
    }

    fn watching(&self) -> Watching {
        Watching::Stream
    }

    fn watch(&self, updates: &SourceContext) -> Result<(), Error> {
        (self.watch)(self.watches.fetch_add(1, Ordering::SeqCst), updates)
    }

    fn timing(&self) -> Timing {
        let timing = Timing::new().timeout(Duration::from_millis(300));
        match self.silence {
            None => timing,
            Some(silence) => timing.heartbeat_timeout(silence),
        }
    }
}

fn update_of(n: i64) -> Update {
    let origin = Origin::new("streamed", "test");
    Update::delta().set("n", n, origin).unwrap()
}

/// Sends heartbeats until it has to stop.
fn send_heartbeats(updates: &SourceContext) -> Result<(), Error> {
    while !updates.wait(Duration::from_millis(10)) {
        updates.heartbeat();
    }
    Ok(())
}

#[test]
fn a_watch_that_does_not_answer_a_refresh_is_restarted() -> Result<(), Error> {
    let gate = Gate::default();
    gate.close();
    let closed = gate.clone();
    let stuck = Streamed::new(None, move |number, updates| {
        if number == 0 {
            updates.send(update_of(1))?;
            closed.pass();
        }
        updates.send(update_of(2))?;
        send_heartbeats(updates)
    });
    let props = Properties::builder().source(stuck).build()?;
    assert!(eventually(DEADLINE, || props.get_opt::<i64>("n").unwrap() == Some(1)));
    let error = props.refresh_now().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("another thread"), "{error}");
    assert!(eventually(DEADLINE, || props.get::<i64>("n").unwrap() == 2));
    assert!(eventually(DEADLINE, || props.health().is_up()));
    gate.open();
    props.refresh_now()
}

#[test]
fn an_abandoned_watch_is_woken_and_its_reports_are_ignored() -> Result<(), Error> {
    let gate = Gate::default();
    gate.close();
    let (report, outcomes) = support::reports();
    let report = std::sync::Mutex::new(report);
    let waits = gate.clone();
    let streamed = Streamed::new(Some(Duration::from_millis(200)), move |number, updates| {
        if number > 0 {
            updates.send(update_of(2))?;
            return send_heartbeats(updates);
        }
        updates.send(update_of(1))?;
        let hook = waits.clone();
        updates.on_stop(move || hook.open());
        waits.pass();
        let outcome = updates.send(update_of(99)).map_err(|error| error.kind());
        report.lock().unwrap()(outcome.map(|applied| applied.changed));
        Ok(())
    });
    let props = Properties::builder().source(streamed).build()?;
    assert_eq!(outcomes.next(), Err(ErrorKind::Closed));
    assert!(eventually(DEADLINE, || props.get_opt::<i64>("n").unwrap() == Some(2)));
    assert!(eventually(DEADLINE, || props.health().is_up()));
    assert_eq!(props.get::<i64>("n")?, 2);
    Ok(())
}

#[test]
fn queued_updates_of_an_abandoned_watch_do_not_count_for_the_next() -> Result<(), Error> {
    let (begun, queued) = support::reports();
    let (begun, (left, next)) = (
        std::sync::Mutex::new(begun),
        (Gate::default(), Gate::default()),
    );
    left.close();
    next.close();
    let gates = (left.clone(), next.clone());
    let (report, outcomes) = support::reports();
    let report = std::sync::Mutex::new(report);
    let streamed = Streamed::new(Some(Duration::from_millis(500)), move |number, updates| {
        match number {
            0 => {
                let waiting = updates.queue(update_of(1));
                gates.0.pass();
                report.lock().unwrap()(waiting.commit().is_ok());
                return Ok(());
            }
            1 => updates.send(update_of(2)).map(drop)?,
            _ => {
                begun.lock().unwrap()(());
                gates.1.pass();
                updates.send(update_of(3))?;
            }
        }
        send_heartbeats(updates)
    });
    let props = Properties::builder().source(streamed).build()?;
    assert!(eventually(DEADLINE, || props.get_opt::<i64>("n").unwrap() == Some(2)));
    let asks = props.clone();
    let refresh = thread::spawn(move || asks.refresh_now().map(|()| asks.get::<i64>("n")));
    queued.next();
    left.open();
    outcomes.next();
    // If its round had ended, it would return now.
    let early = eventually(Duration::from_millis(50), || refresh.is_finished());
    next.open();
    assert!(!early);
    assert_eq!(refresh.join().unwrap()??, 3);
    Ok(())
}

#[test]
fn a_refresh_names_the_rejected_keys_of_its_poll() -> Result<(), Error> {
    struct PerKey(Store);
    impl Source for PerKey {
        fn origin(&self) -> Origin {
            self.0.origin()
        }
        fn load(&self) -> Result<Document, Error> {
            self.0.load()
        }
        fn watching(&self) -> Watching {
            self.0.watching()
        }
        fn rejection_scope(&self) -> RejectionScope {
            RejectionScope::PerKey
        }
    }
    let store = Store::new();
    let props = Properties::builder()
        .source(PerKey(store.clone()).with(|policy| policy.manual()))
        .build()?;
    let _n = props.property::<u8>("n").build()?;
    store.values.set("n", 1_000);
    store.values.set("m", 1);
    let error = props.refresh_now().unwrap_err();
    assert_eq!(error.key().map(Key::as_str), Some("n"));
    assert_eq!(props.get::<i64>("m")?, 1);
    Ok(())
}

#[test]
fn a_slow_callback_or_validator_hides_no_other_hanging_source() -> Result<(), Error> {
    let (callback, validator) = (Gate::default(), Gate::default());
    for gate in [&callback, &validator] {
        let (first, second, wiped) = (Store::new(), Store::new(), Store::new());
        wiped.values.set("wiped", 1);
        let (calls, checks) = (callback.clone(), validator.clone());
        let (report, inbox) = support::reports();
        let ready = Arc::new(AtomicBool::new(false));
        let checking = Arc::clone(&ready);
        let guard = RemovalGuard::new().accept_after(Duration::from_millis(200));
        let check = report.clone();
        let check = std::sync::Mutex::new(check);
        let props = Properties::builder()
            .inline_callbacks()
            .on_source_event(move |event| {
                if format!("{:?}", event.kind).starts_with("Suspended") {
                    report("callback");
                    calls.pass();
                }
            })
            .validate(move |tree| {
                if checking.load(Ordering::SeqCst) && !tree.contains("wiped") {
                    check.lock().unwrap()("validator");
                    checks.pass();
                }
                Ok(())
            })
            .source(first.clone())
            .source(second.clone())
            .source(wiped.clone().with(|policy| policy.guarded(guard)))
            .build()?;
        ready.store(true, Ordering::SeqCst);
        gate.close();
        match std::ptr::eq(gate, &callback) {
            true => first.gate.close(),
            false => wiped.values.clear(),
        }
        inbox.next();
        second.gate.close();
        let stale = |at: usize| {
            matches!(&props.health().sources[at].status,
            Status::Stale { reason, .. } if reason.kind() == ErrorKind::Timeout)
        };
        // The strongest source comes first.
        assert!(eventually(DEADLINE, || stale(1)));
        for gate in [gate, &first.gate, &second.gate] {
            gate.open();
        }
    }
    Ok(())
}

#[test]
fn a_validator_may_not_wait_for_sources() -> Result<(), Error> {
    let slot: Arc<std::sync::Mutex<Option<Properties>>> = Arc::default();
    let inside = Arc::clone(&slot);
    let (report, kinds) = support::reports();
    let report = std::sync::Mutex::new(report);
    let store = Store::new();
    let more = store.clone();
    let memory = Memory::from([("m", 1)]);
    let props = Properties::builder()
        .source(memory.clone())
        .source(store.clone())
        .validate(move |_| {
            if let Some(props) = inside.lock().unwrap().take() {
                let asked = props.refresh_now().map_err(|error| error.kind());
                let added = props.add_source(more.clone()).map_err(|error| error.kind());
                report.lock().unwrap()((asked, added.map(drop)));
            }
            Ok(())
        })
        .build()?;
    store.gate.close();
    *slot.lock().unwrap() = Some(props.clone());
    memory.set("m", 2)?;
    let reentrant = Err(ErrorKind::Reentrant);
    assert_eq!(kinds.next(), (reentrant, reentrant));
    store.gate.open();
    Ok(())
}

#[test]
fn times_too_long_for_the_clock_mean_forever() -> Result<(), Error> {
    let mut store = Store::new();
    store.timeout = Duration::MAX;
    let props = Properties::builder()
        .load_timeout(Duration::MAX)
        .source(store.clone().with(|policy| policy.manual()))
        .source(Streamed::new(Some(Duration::MAX), |_, updates| {
            updates.heartbeat();
            send_heartbeats(updates)
        }))
        .max_propagation(Duration::MAX)
        .build()?;
    store.values.set("n", 2);
    props.refresh_now()?;
    assert_eq!(props.get::<i64>("n")?, 2);
    props.wait_for(["n"], Duration::MAX)
}

#[test]
fn a_start_that_must_fail_does_not_wait_for_a_source_that_is_down() {
    let (waited, missing) = (Store::new(), Store::new());
    waited.is_down(true);
    missing.is_down(true);
    for (key, last) in [("bad..key", None), ("good", Some(missing))] {
        let waits = waited.clone().with(|policy| policy.wait_forever());
        let error = support::run_within(DEADLINE, move || {
            let builder = Properties::builder().default(key, 1).source(waits);
            match last {
                None => builder.build(),
                Some(missing) => builder.source(missing).build(),
            }
            .unwrap_err()
        });
        assert_eq!(error.iter().count(), 2, "{error}");
    }
}

#[test]
fn a_slow_callback_hides_no_existing_key() -> Result<(), Error> {
    let gate = Gate::default();
    let withheld = gate.clone();
    let props = Properties::builder().inline_callbacks().build()?;
    props.set("a", 1)?;
    let (report, called) = support::reports();
    let _slow = props.property::<i64>("a").build()?.on_change(move |_| {
        report(());
        withheld.pass();
    });
    gate.close();
    let waits = props.clone();
    let waiting = thread::spawn(move || waits.wait_for(["late"], Duration::from_millis(500)));
    assert!(!eventually(Duration::from_millis(50), || waiting.is_finished()));
    let sets = props.clone();
    let setting = thread::spawn(move || {
        sets.transaction(|tx| {
            tx.set("a", 2)?;
            tx.set("late", 1)
        })
    });
    called.next();
    let outcome = waiting.join().unwrap();
    gate.open();
    setting.join().unwrap()?;
    outcome
}

#[test]
fn the_sum_counts_the_intervals_that_a_slow_answer_leaves_out() {
    let worst = |every, timeout| {
        let timing = Timing::new().timeout(Duration::from_millis(timeout));
        timing.worst_case_latency(Watching::Poll(Duration::from_millis(every)))
    };
    for (every, timeout, expected) in [
        (5_000, 4_000, 9_000),
        (4_000, 4_000, 8_000),
        (500, 1_000, 2_000),
        (400, 1_000, 2_200),
        (5_000, 0, 5_000),
    ] {
        let expected = Some(Duration::from_millis(expected));
        assert_eq!(worst(every, timeout), expected, "{every} {timeout}");
    }
    let mut store = Store::new().every(Duration::from_secs(2));
    store.timeout = Duration::from_secs(5);
    let error = Properties::builder().source(store).build().unwrap_err();
    let error = error.to_string();
    for part in ["11s", "interval 2s × 3", "timeout 5s"] {
        assert!(error.contains(part), "{part}: {error}");
    }
}
