//! The removal guard withholds a mass removal until it is confirmed, repeated or undone.
//!
//! Stores, files and memories fail, return or change their state while an update of theirs is withheld.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use liveprops::health::Status;
use liveprops::source::{RejectionScope, RemovalGuard};
use liveprops::sources::Memory;
use liveprops::{
    Document, Error, ErrorKind, Origin, Properties, Source, SourceContext, Update, Value, Watching,
};
use support::{DEADLINE, eventually, first_source};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn is_withheld(props: &Properties) -> bool {
    first_source(props).withheld.is_some()
}

/// Returns a document with the same value under `keys` keys.
fn document(value: i64, keys: usize) -> Document {
    let mut document = Document::new();
    for i in 0..keys {
        let origin = Origin::new("store", "test");
        document.set(&format!("k{i}"), value, origin).unwrap();
    }
    document
}

/// A store with a value and a number of keys, or without an answer.
#[derive(Clone)]
struct Store {
    answer: Arc<Mutex<Option<(i64, usize)>>>,
    loads: Arc<AtomicUsize>,
    every: Duration,
    rejection_scope: RejectionScope,
}

impl Store {
    fn of(value: i64, keys: usize) -> Self {
        Self {
            answer: Arc::new(Mutex::new(Some((value, keys)))),
            loads: Arc::default(),
            every: ms(20),
            rejection_scope: RejectionScope::Whole,
        }
    }

    fn set(&self, value: i64, keys: usize) {
        *self.answer.lock().unwrap() = Some((value, keys));
    }

    fn set_down(&self) {
        *self.answer.lock().unwrap() = None;
    }

    /// Waits for a number of further loads.
    fn asked(&self, times: usize) {
        let before = self.loads.load(Ordering::SeqCst);
        let asked = || self.loads.load(Ordering::SeqCst) >= before + times;
        assert!(eventually(DEADLINE, asked));
    }
}

impl Source for Store {
    fn origin(&self) -> Origin {
        Origin::new("store", "test")
    }

    fn load(&self) -> Result<Document, Error> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        match *self.answer.lock().unwrap() {
            Some((value, keys)) => Ok(document(value, keys)),
            None => Err(Error::new(ErrorKind::Unavailable, "the store is down")),
        }
    }

    fn watching(&self) -> Watching {
        Watching::Poll(self.every)
    }

    fn rejection_scope(&self) -> RejectionScope {
        self.rejection_scope
    }
}

/// A source that sends updates on request.
#[derive(Clone, Default)]
struct Pushed(Arc<Mutex<Option<SourceContext>>>, Option<RejectionScope>);

impl Pushed {
    fn with_scope(rejection_scope: RejectionScope) -> Self {
        Self(Arc::default(), Some(rejection_scope))
    }

    fn updates(&self) -> SourceContext {
        self.0.lock().unwrap().clone().unwrap()
    }
}

impl Source for Pushed {
    fn origin(&self) -> Origin {
        Origin::new("pushed", "test")
    }

    fn load(&self) -> Result<Document, Error> {
        Ok(Document::new())
    }

    fn watching(&self) -> Watching {
        Watching::Push
    }

    fn watch(&self, updates: &SourceContext) -> Result<(), Error> {
        *self.0.lock().unwrap() = Some(updates.clone());
        updates.send(Update::full(document(1, 20))).map(drop)
    }

    fn rejection_scope(&self) -> RejectionScope {
        self.1.unwrap_or(RejectionScope::Whole)
    }
}

/// Truncated and restored files.
#[cfg(feature = "toml")]
mod files {
    use liveprops::sources::{Dir, File};

    use super::*;

    fn replace(dir: &Path, keys: usize) {
        let text: String = (0..keys).map(|i| format!("k{i} = {i}\n")).collect();
        std::fs::write(dir.join("new"), text).unwrap();
        std::fs::rename(dir.join("new"), dir.join("app.toml")).unwrap();
    }

    /// A guarded source of a file that is truncated while it is followed.
    fn cut(
        guard: RemovalGuard,
        source: impl FnOnce(&Path) -> Box<dyn Source>,
    ) -> (tempfile::TempDir, Properties) {
        let dir = tempfile::tempdir().unwrap();
        replace(dir.path(), 19);
        let source = source(dir.path()).with(|policy| policy.guarded(guard));
        let props = Properties::builder().source(source).build().unwrap();
        replace(dir.path(), 20);
        assert!(eventually(DEADLINE, || props.get::<i64>("k19").is_ok()));
        replace(dir.path(), 1);
        assert!(eventually(DEADLINE, || is_withheld(&props)));
        (dir, props)
    }

    fn file(dir: &Path) -> Box<dyn Source> {
        Box::new(File::new(dir.join("app.toml")).poll(ms(100)))
    }

    fn files(dir: &Path) -> Box<dyn Source> {
        Box::new(Dir::new(dir).poll(ms(100)))
    }

    #[test]
    fn a_file_that_is_truncated_and_restored_loses_no_later_change() {
        for source in [file, files] {
            let (dir, props) = cut(RemovalGuard::new().accept_after(ms(2_000)), source);
            replace(dir.path(), 20);
            assert!(eventually(DEADLINE, || !is_withheld(&props)));
            assert!(props.health().is_up());
            // No update is withheld that could be confirmed, now or after the time limit.
            assert!(props.confirm(first_source(&props).source).is_err());
            assert!(!eventually(ms(2_500), || props.get::<i64>("k7").is_err()));
            assert!(props.health().is_up());
        }
    }

    #[test]
    fn a_file_whose_truncation_was_confirmed_can_be_restored() {
        for source in [file, files] {
            let (dir, props) = cut(RemovalGuard::new(), source);
            props.confirm(first_source(&props).source).unwrap();
            assert!(props.get::<i64>("k7").is_err());
            replace(dir.path(), 20);
            assert!(eventually(DEADLINE, || props.get::<i64>("k7").is_ok()));
            assert!(eventually(DEADLINE, || props.health().is_up()));
        }
    }

    #[test]
    fn a_deleted_file_is_removed_once_confirmed_and_can_return() {
        let dir = tempfile::tempdir().unwrap();
        replace(dir.path(), 20);
        let source = File::new(dir.path().join("app.toml"))
            .poll(ms(100))
            .drop_when_missing()
            .with(|policy| policy.guarded(RemovalGuard::new()));
        let props = Properties::builder().source(source).build().unwrap();
        std::fs::remove_file(dir.path().join("app.toml")).unwrap();
        assert!(eventually(DEADLINE, || is_withheld(&props)));
        assert!(!props.health().is_up());
        props.confirm(first_source(&props).source).unwrap();
        assert!(props.get::<i64>("k7").is_err());
        replace(dir.path(), 20);
        assert!(eventually(DEADLINE, || props.get::<i64>("k7").is_ok()));
        assert!(eventually(DEADLINE, || props.health().is_up()));
    }
}

#[test]
fn a_heartbeat_discards_no_withheld_or_rejected_update() {
    let store = Pushed::default();
    let builder = Properties::builder().validate(|tree| match tree.get::<i64>("k0") {
        Ok(9) => Err("nine".into()),
        _ => Ok(()),
    });
    let source = store
        .clone()
        .with(|policy| policy.guarded(RemovalGuard::new()));
    let props = builder.source(source).build().unwrap();
    let updates = store.updates();
    for bad in [document(1, 0), document(9, 20)] {
        updates.send(Update::full(bad)).unwrap_err();
        updates.heartbeat();
        assert!(matches!(first_source(&props).status, Status::Stale { .. }));
        assert!(!props.health().is_up());
    }
    assert!(!is_withheld(&props), "its content has changed");
    updates.send(Update::full(document(1, 20))).unwrap();
    assert!(props.health().is_up());
}

#[test]
fn a_memory_whose_removal_is_withheld_has_the_values_of_the_properties() -> Result<(), Error> {
    let memory = Memory::from([("a", 1), ("b", 2)]);
    let guard = RemovalGuard::new().accept_after(ms(200));
    let source = memory.clone().with(|policy| policy.guarded(guard));
    let props = Properties::builder().source(source).build()?;
    let error = memory.replace(Vec::<(&str, i64)>::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Withheld);
    assert!(!is_withheld(&props));
    assert!(!eventually(ms(600), || props.get::<i64>("a").is_err()));
    memory.remove("a")?;
    assert_eq!(memory.remove("b").unwrap_err().kind(), ErrorKind::Withheld);
    memory.set("c", 3)?;
    assert_eq!((props.get::<i64>("b")?, props.get::<i64>("c")?), (2, 3));
    assert!(props.health().is_up());
    Ok(())
}

#[test]
fn a_mass_removal_is_not_accepted_from_a_store_that_fails_after_it() {
    let mut store = Store::of(1, 20);
    store.every = ms(50);
    let guard = RemovalGuard::new().accept_after(ms(300));
    let source = store.clone().with(|policy| policy.guarded(guard));
    let props = Properties::builder().source(source).build().unwrap();
    store.set(1, 0);
    assert!(eventually(DEADLINE, || is_withheld(&props)));
    store.set_down();
    assert!(!eventually(ms(1_000), || props.get::<i64>("k7").is_err()));
    assert!(!props.health().is_up());
    // The source repeats the removal, and the time starts again.
    store.set(1, 0);
    assert!(eventually(DEADLINE, || props.get::<i64>("k7").is_err()));
    assert!(eventually(DEADLINE, || props.health().is_up()));
}

#[test]
fn a_mass_removal_is_withheld_until_the_source_repeats_it() -> Result<(), Error> {
    let store = Store::of(1, 20);
    let guard = RemovalGuard::new().accept_after(ms(200));
    let source = store.clone().with(|policy| policy.manual().guarded(guard));
    let props = Properties::builder().source(source).build()?;
    store.set(1, 0);
    props.refresh_now().unwrap_err();
    assert!(!eventually(ms(600), || props.get::<i64>("k7").is_err()));
    props.refresh_now()?;
    assert_eq!(props.get_opt::<i64>("k7")?, None);
    Ok(())
}

#[test]
fn a_poll_without_changes_discards_a_withheld_update() -> Result<(), Error> {
    /// Sends the removals since the requested revision. Each state has one revision.
    struct Log(Arc<AtomicBool>, Arc<Mutex<Vec<Option<String>>>>);
    impl Log {
        fn revision(wiped: bool) -> &'static str {
            if wiped { "wiped" } else { "whole" }
        }
    }
    impl Source for Log {
        fn origin(&self) -> Origin {
            Origin::new("log", "test")
        }
        fn load(&self) -> Result<Document, Error> {
            let wiped = self.0.load(Ordering::SeqCst);
            let mut document = document(1, if wiped { 0 } else { 20 });
            document.set_revision(Self::revision(wiped));
            Ok(document)
        }
        fn poll(&self, committed: Option<&str>) -> Result<Update, Error> {
            let wiped = self.0.load(Ordering::SeqCst);
            let mut asked = self.1.lock().unwrap();
            asked.push(committed.map(str::to_owned));
            let mut update = match committed {
                None => return self.load().map(Update::full),
                Some(_) => Update::delta(),
            };
            if wiped && committed == Some("whole") {
                for i in 0..20 {
                    update = update.remove(&format!("k{i}"))?;
                }
            }
            Ok(update.at_revision(Self::revision(wiped)))
        }
        fn watching(&self) -> Watching {
            Watching::Poll(ms(1_000))
        }
    }
    let (wiped, asked) = (Arc::new(AtomicBool::new(false)), Arc::default());
    let log = Log(Arc::clone(&wiped), Arc::clone(&asked));
    let source = log.with(|policy| policy.manual().guarded(RemovalGuard::new()));
    let props = Properties::builder().source(source).build()?;
    let id = first_source(&props).source;
    wiped.store(true, Ordering::SeqCst);
    props.refresh_now().unwrap_err();
    // Restored: nothing has changed since the update in force.
    wiped.store(false, Ordering::SeqCst);
    props.refresh_now()?;
    assert!(!is_withheld(&props));
    assert!(props.confirm(id).is_err());
    // A confirmed update has no revision, so the source loads everything.
    wiped.store(true, Ordering::SeqCst);
    props.refresh_now().unwrap_err();
    props.confirm(id)?;
    assert_eq!(props.get_opt::<i64>("k7")?, None);
    assert_eq!(first_source(&props).revision, None);
    wiped.store(false, Ordering::SeqCst);
    props.refresh_now()?;
    assert_eq!(props.get::<i64>("k7")?, 1);
    assert_eq!(asked.lock().unwrap().last(), Some(&None));
    Ok(())
}

#[test]
fn an_accepted_removal_that_is_rejected_for_another_reason_is_retried() -> Result<(), Error> {
    let need = Memory::from([("need", 1)]);
    let store = Pushed::default();
    let guard = RemovalGuard::new().accept_after(ms(100));
    let props = Properties::builder()
        .source(need.clone())
        .source(store.clone().with(|policy| policy.guarded(guard)))
        .validate(
            |tree| match (tree.get::<i64>("need"), tree.get::<i64>("k7")) {
                (Ok(1), Err(_)) => Err("k7 is needed".into()),
                _ => Ok(()),
            },
        )
        .build()?;
    store
        .updates()
        .send(Update::full(document(1, 0)))
        .unwrap_err();
    let rejected = || {
        let rejected = props.health().rejected;
        rejected
            .iter()
            .any(|it| it.error.to_string().contains("k7 is needed"))
    };
    assert!(eventually(DEADLINE, rejected), "health reports the reason");
    assert_eq!(props.get::<i64>("k7")?, 1);
    need.set("need", 0)?;
    assert!(eventually(DEADLINE, || props.get::<i64>("k7").is_err()));
    assert!(eventually(DEADLINE, || props.health().is_up()));
    Ok(())
}

#[test]
fn a_wipe_of_recent_keys_is_withheld() -> Result<(), Error> {
    let store = Store::of(1, 8);
    let source = store
        .clone()
        .with(|policy| policy.manual().guarded(RemovalGuard::new()));
    let props = Properties::builder().source(source).build()?;
    props.refresh_now()?;
    store.set(1, 1_000);
    props.refresh_now()?;
    store.set(1, 8);
    let error = props.refresh_now().unwrap_err();
    assert!(error.to_string().contains("992 of 1000"), "{error}");
    assert_eq!(props.snapshot().keys().len(), 1_000);
    Ok(())
}

#[test]
fn a_dry_run_reports_what_publication_would_do() -> Result<(), Error> {
    let store = Store::of(1, 20);
    let source = store
        .clone()
        .with(|policy| policy.manual().guarded(RemovalGuard::new()));
    let props = Properties::builder().source(source).build()?;
    let id = first_source(&props).source;
    // Within one window: the second removal exceeds the limit only together with the first. The third is
    // within the limit, and the source replaces all its values at once.
    for (keys, passes) in [(12, true), (8, false), (11, true), (12, true)] {
        assert_eq!(props.check(id, document(1, keys)).is_ok(), passes, "{keys}");
        store.set(1, keys);
        assert_eq!(props.refresh_now().is_ok(), passes, "{keys}");
    }
    Ok(())
}

#[test]
fn a_withdrawn_removal_cannot_be_confirmed() -> Result<(), Error> {
    let store = Store::of(1, 20);
    let source = store
        .clone()
        .with(|policy| policy.manual().guarded(RemovalGuard::new()));
    let props = Properties::builder()
        .source(source)
        .validate(|tree| match tree.get::<i64>("k0") {
            Ok(9) => Err("nine".into()),
            _ => Ok(()),
        })
        .build()?;
    store.set(1, 0);
    props.refresh_now().unwrap_err();
    store.set(9, 20);
    let error = props.refresh_now().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Rejected);
    assert!(!is_withheld(&props));
    assert!(props.confirm(first_source(&props).source).is_err());
    assert_eq!(props.get::<i64>("k7")?, 1);
    Ok(())
}

fn kept(dir: &Path, keys: usize) {
    let source = Store::of(1, keys).with(|policy| policy.cached());
    let props = Properties::builder().state_dir(dir).source(source).build();
    drop(props.unwrap());
}

#[test]
fn a_store_wiped_while_the_program_was_down_is_withheld_at_the_start() -> Result<(), Error> {
    let dir = tempfile::tempdir().unwrap();
    kept(dir.path(), 100);
    let store = Store::of(1, 0);
    let start = |store: &Store| {
        let source = store.clone();
        let source = source.with(|policy| policy.manual().cached().guarded(RemovalGuard::new()));
        Properties::builder()
            .state_dir(dir.path())
            .source(source)
            .build()
    };
    let props = start(&store)?;
    assert_eq!(props.get::<i64>("k7")?, 1);
    assert!(!props.health().is_up());
    let source = first_source(&props);
    let withheld = source.withheld.unwrap();
    assert_eq!((withheld.removed, withheld.total), (100, 100));
    assert!(source.cached.is_some());
    let Status::Stale { reason, .. } = source.status else {
        panic!("not stale");
    };
    assert_eq!(reason.kind(), ErrorKind::Withheld);
    // A repeated removal stays withheld and can be confirmed.
    store.asked(1);
    assert_eq!(props.get::<i64>("k7")?, 1);
    props.confirm(source.source)?;
    assert_eq!(props.get_opt::<i64>("k7")?, None);
    assert!(eventually(DEADLINE, || props.health().is_up()));
    drop(props);
    // The previous number of keys is accepted.
    kept(dir.path(), 100);
    let props = start(&Store::of(2, 90))?;
    assert_eq!(props.get::<i64>("k7")?, 2);
    assert!(props.health().is_up());
    Ok(())
}

#[test]
fn invalid_cached_values_withhold_nothing() -> Result<(), Error> {
    let dir = tempfile::tempdir().unwrap();
    kept(dir.path(), 100);
    let store = Store::of(2, 3);
    let source = store.with(|policy| policy.cached().guarded(RemovalGuard::new()));
    let props = Properties::builder()
        .state_dir(dir.path())
        .source(source)
        .validate(|tree| match tree.get::<i64>("k0") {
            Ok(1) => Err("ones are out of date".into()),
            _ => Ok(()),
        })
        .build()?;
    assert_eq!(props.get::<i64>("k0")?, 2);
    assert_eq!(props.snapshot().keys().len(), 3);
    assert!(props.health().is_up());
    assert!(first_source(&props).cached.is_none() && !is_withheld(&props));
    Ok(())
}

#[test]
fn a_source_that_pushes_is_guarded_like_any_other() {
    let (report, stale) = support::reports();
    let store = Pushed::default();
    let guard = RemovalGuard::new().accept_after(ms(200));
    let max_stale = ms(300);
    let props = Properties::builder()
        .on_source_event(move |event| {
            if matches!(event.kind, liveprops::health::SourceEventKind::Stale(_)) {
                report(());
            }
        })
        .source(store.clone().with(|policy| policy.guarded(guard)))
        .build()
        .unwrap();
    store
        .updates()
        .send(Update::full(document(1, 0)))
        .unwrap_err();
    assert!(eventually(DEADLINE, || props.get::<i64>("k7").is_err()));
    drop(props);

    let store = Pushed::default();
    let props = Properties::builder()
        .source(store.clone().with(|policy| policy.max_stale(max_stale)))
        .build()
        .unwrap();
    let (report, grown_old) = support::reports();
    let _events = props.on_source_event(move |event| {
        if matches!(event.kind, liveprops::health::SourceEventKind::Stale(_)) {
            report(());
        }
    });
    store
        .updates()
        .report_error(Error::new(ErrorKind::Unavailable, "away"));
    assert!(props.health().is_up());
    grown_old.next();
    assert!(!props.health().is_up());
    assert!(stale.all().is_empty());
}

#[test]
fn few_keys_may_all_be_replaced_one_by_one() -> Result<(), Error> {
    let memory = Memory::from([("a", 1), ("b", 2)]);
    let source = memory
        .clone()
        .with(|policy| policy.guarded(RemovalGuard::new()));
    let props = Properties::builder().source(source).build()?;
    memory.set("c", 3)?;
    memory.remove("a")?;
    memory.remove("b")?;
    assert_eq!(props.snapshot().keys().len(), 1);
    assert!(memory.remove("c").is_err(), "then nothing would be left");
    Ok(())
}

#[test]
fn the_removal_error_counts_earlier_removals_and_names_the_window() -> Result<(), Error> {
    let pushed = Pushed::default();
    let guarded = pushed
        .clone()
        .with(|policy| policy.guarded(RemovalGuard::new()));
    let props = Properties::builder().source(guarded).build()?;
    let updates = pushed.updates();
    updates.send(Update::full(document(1, 20)))?;
    updates.send(Update::full(document(1, 12)))?;
    let error = updates.send(Update::full(document(1, 8))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Withheld);
    let message = error.to_string();
    for part in ["4 of 12 keys", "12 of the 20", "10 seconds"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    let withheld = first_source(&props).withheld.unwrap();
    assert_eq!((withheld.removed, withheld.total), (12, 20));
    // Replacing everything at once is no removal.
    updates.send(Update::full(document(1, 12)))?;
    let message = updates
        .send(Update::full(Document::new()))
        .unwrap_err()
        .to_string();
    assert!(message.contains("12 of 12 keys"), "{message}");
    Ok(())
}

#[test]
fn replacing_a_large_table_by_a_smaller_one_counts_as_removal() -> Result<(), Error> {
    let memory = Memory::new();
    let fields = |count: usize| {
        let fields = (0..count).map(|n| (format!("k{n}"), 1));
        Value::Table(fields.collect())
    };
    memory.set("t", fields(20))?;
    let guarded = memory
        .clone()
        .with(|policy| policy.guarded(RemovalGuard::new()));
    let pushed = Pushed::default();
    let store = pushed
        .clone()
        .with(|policy| policy.guarded(RemovalGuard::new()));
    let props = Properties::builder()
        .source(guarded)
        .source(store)
        .build()?;
    assert_eq!(
        memory.set("t", fields(1)).unwrap_err().kind(),
        ErrorKind::Withheld
    );
    assert!(props.get_opt::<u32>("t.k19")?.is_some(), "it stays");
    // The same for a source of deltas, whose other keys still change.
    let origin = Origin::new("pushed", "test");
    let wipe = Update::delta().set("s", fields(20), origin.clone())?;
    pushed.updates().send(wipe)?;
    let wipe = Update::delta()
        .set("s", fields(1), origin.clone())?
        .set("k0", 7, origin)?;
    for n in 1..20 {
        pushed
            .updates()
            .send(Update::delta().remove(&format!("k{n}"))?)
            .ok();
    }
    let applied = pushed.updates().send(wipe)?;
    assert_eq!(applied.rejected[0].kind(), ErrorKind::Withheld);
    assert!(props.get_opt::<u32>("s.k19")?.is_some(), "it stays");
    assert_eq!(props.get::<u32>("k0")?, 7);
    Ok(())
}

/// How many keys a source has, and how many of them `k0`.. have the value 1, as it was before the wipe.
fn in_force(props: &Properties) -> (usize, usize) {
    let snapshot = props.snapshot();
    let old = |key: &&liveprops::Key| snapshot.get::<i64>(key.as_str()).is_ok_and(|n| n == 1);
    (
        snapshot.keys().len(),
        snapshot.keys().iter().filter(old).count(),
    )
}

#[test]
fn a_wiped_prefix_that_is_restored_key_by_key_loses_no_key() -> Result<(), Error> {
    let cases = [
        (RejectionScope::PerKey, false),
        (RejectionScope::PerKey, true),
        (RejectionScope::Whole, true),
    ];
    for (scope, deltas) in cases {
        for keys in [10, 5] {
            let case = format!("{keys} keys, {scope:?}, deltas: {deltas}");
            let pushed = Pushed::with_scope(scope);
            let guarded = pushed
                .clone()
                .with(|policy| policy.guarded(RemovalGuard::new()));
            let props = Properties::builder().source(guarded).build()?;
            let updates = pushed.updates();
            // A window of removals begins with these keys.
            updates.send(Update::full(Document::new())).unwrap_err();
            props.confirm(first_source(&props).source)?;
            updates.send(Update::full(document(1, keys)))?;
            assert_eq!(in_force(&props), (keys, keys), "{case}");
            updates.send(Update::full(Document::new())).unwrap_err();
            for back in 1..keys {
                let update = if deltas {
                    let origin = Origin::new("store", "test");
                    Update::delta().set(&format!("k{}", back - 1), 1, origin)?
                } else {
                    Update::full(document(1, back))
                };
                let _ = updates.send(update);
                assert_eq!(in_force(&props), (keys, keys), "{case}, {back} are back");
                let withheld = first_source(&props).withheld.unwrap();
                let counts = (withheld.removed, withheld.total);
                assert_eq!(counts, (keys - back, keys), "{case}, {back} are back");
                assert!(!props.health().is_up(), "{case}");
            }
            updates.send(Update::full(document(2, keys)))?;
            assert_eq!(in_force(&props), (keys, 0), "{case}");
            assert!(!is_withheld(&props) && props.health().is_up(), "{case}");
            // Back to normal: half of them may go again.
            updates.send(Update::full(document(2, keys - keys / 2)))?;
        }
    }
    Ok(())
}

#[test]
fn a_polled_store_that_is_restored_key_by_key_loses_no_key() -> Result<(), Error> {
    let mut store = Store::of(1, 10);
    store.rejection_scope = RejectionScope::PerKey;
    let source = store
        .clone()
        .with(|policy| policy.manual().guarded(RemovalGuard::new()));
    let props = Properties::builder().source(source).build()?;
    for back in 0..10 {
        store.set(2, back);
        let _ = props.refresh_now();
        assert!(is_withheld(&props));
        let old = if back < 5 { 10 } else { 10 - back };
        assert_eq!(in_force(&props), (10, old), "{back} are back");
    }
    store.set(2, 10);
    props.refresh_now()?;
    assert_eq!(in_force(&props), (10, 0));
    assert!(props.health().is_up());
    Ok(())
}

#[test]
fn keys_that_return_with_other_values_have_them_as_soon_as_most_keys_are_back() -> Result<(), Error>
{
    let pushed = Pushed::with_scope(RejectionScope::PerKey);
    let guarded = pushed
        .clone()
        .with(|policy| policy.guarded(RemovalGuard::new()));
    let props = Properties::builder().source(guarded).build()?;
    let updates = pushed.updates();
    // A document of few keys is withheld as a whole, since it may be a wrong one.
    for back in [0, 9] {
        updates.send(Update::full(document(2, back))).unwrap_err();
        assert_eq!(in_force(&props), (20, 20), "{back} are back");
    }
    for back in [10, 19] {
        let outcome = updates.send(Update::full(document(2, back)))?;
        assert_eq!(outcome.rejected[0].kind(), ErrorKind::Withheld);
        assert_eq!(in_force(&props), (20, 20 - back), "{back} are back");
        let candidate = props.check(first_source(&props).source, document(3, back))?;
        assert_eq!(candidate.snapshot.keys().len(), 20, "a dry run agrees");
        assert_eq!(candidate.rejected[0].kind(), ErrorKind::Withheld);
    }
    // While a withheld key is missing, the others that go once more stay as well.
    updates.send(Update::full(document(2, 15)))?;
    assert_eq!(in_force(&props), (20, 1));
    updates.send(Update::full(document(2, 20)))?;
    assert_eq!(in_force(&props), (20, 0));
    assert!(!is_withheld(&props) && props.health().is_up());
    Ok(())
}

#[test]
fn of_a_restored_prefix_the_keys_that_stay_away_are_removed_once_confirmed() -> Result<(), Error> {
    let pushed = Pushed::with_scope(RejectionScope::PerKey);
    let guarded = pushed
        .clone()
        .with(|policy| policy.guarded(RemovalGuard::new()));
    let props = Properties::builder().source(guarded).build()?;
    let updates = pushed.updates();
    updates.send(Update::full(document(1, 0))).unwrap_err();
    updates.send(Update::full(document(2, 18)))?;
    assert_eq!(in_force(&props).0, 20);
    props.confirm(first_source(&props).source)?;
    assert_eq!(in_force(&props), (18, 0));
    assert!(!is_withheld(&props) && props.health().is_up());
    Ok(())
}

#[test]
fn of_a_restored_prefix_the_keys_that_stay_away_are_removed_in_the_end() -> Result<(), Error> {
    let guard = RemovalGuard::new().accept_after(ms(300));
    let pushed = Pushed::with_scope(RejectionScope::PerKey);
    let guarded = pushed.clone().with(|policy| policy.guarded(guard));
    let props = Properties::builder().source(guarded).build()?;
    let updates = pushed.updates();
    updates.send(Update::full(document(1, 0))).unwrap_err();
    updates.send(Update::full(document(2, 18)))?;
    assert_eq!(in_force(&props), (20, 2));
    assert!(eventually(DEADLINE, || in_force(&props) == (18, 0)));
    assert!(eventually(DEADLINE, || props.health().is_up()));

    let mut store = Store::of(1, 20);
    store.every = ms(50);
    store.rejection_scope = RejectionScope::PerKey;
    let source = store.clone().with(|policy| policy.guarded(guard));
    let props = Properties::builder().source(source).build()?;
    store.set(1, 0);
    assert!(eventually(DEADLINE, || is_withheld(&props)));
    store.set(2, 18);
    assert!(eventually(DEADLINE, || in_force(&props) == (18, 0)));
    assert!(eventually(DEADLINE, || props.health().is_up()));
    Ok(())
}

#[test]
fn a_key_that_is_created_and_removed_during_a_restore_goes_at_its_end() -> Result<(), Error> {
    let origin = || Origin::new("store", "test");
    let cases = [
        (RejectionScope::PerKey, false),
        (RejectionScope::PerKey, true),
        (RejectionScope::Whole, true),
    ];
    for (scope, deltas) in cases {
        let case = format!("{scope:?}, deltas: {deltas}");
        let pushed = Pushed::with_scope(scope);
        let guarded = pushed
            .clone()
            .with(|policy| policy.guarded(RemovalGuard::new()));
        let props = Properties::builder().source(guarded).build()?;
        let updates = pushed.updates();
        updates.send(Update::full(Document::new())).unwrap_err();
        let mut restore = Vec::new();
        if deltas {
            restore.push(Update::delta().set("k99", 2, origin())?);
            restore.push(Update::delta().remove("k99")?);
            for n in 0..19 {
                restore.push(Update::delta().set(&format!("k{n}"), 2, origin())?);
            }
        } else {
            let mut with_new = document(2, 18);
            with_new.set("k99", 2, origin())?;
            restore.push(Update::full(with_new));
            restore.push(Update::full(document(2, 18)));
        }
        for update in restore {
            let _ = updates.send(update);
            assert_eq!(in_force(&props).0, 21, "{case}");
            assert!(is_withheld(&props), "{case}");
        }
        if deltas {
            updates.send(Update::delta().set("k19", 2, origin())?)?;
        } else {
            updates.send(Update::full(document(2, 20)))?;
        }
        assert_eq!(in_force(&props), (20, 0), "{case}");
        assert_eq!(props.get_opt::<i64>("k99")?, None, "{case}");
        assert!(!is_withheld(&props) && props.health().is_up(), "{case}");
    }
    Ok(())
}

#[test]
fn a_document_within_the_limits_replaces_the_values_after_an_empty_one() -> Result<(), Error> {
    let pushed = Pushed::default();
    let guarded = pushed
        .clone()
        .with(|policy| policy.guarded(RemovalGuard::new()));
    let props = Properties::builder().source(guarded).build()?;
    let updates = pushed.updates();
    updates.send(Update::full(document(1, 0))).unwrap_err();
    updates.send(Update::full(document(2, 9))).unwrap_err();
    assert_eq!(in_force(&props), (20, 20));
    let candidate = props.check(first_source(&props).source, document(2, 19))?;
    assert_eq!(
        candidate.snapshot.keys().len(),
        19,
        "as a dry run announces"
    );
    updates.send(Update::full(document(2, 19)))?;
    assert_eq!(in_force(&props), (19, 0));
    assert!(!is_withheld(&props) && props.health().is_up());

    let store = Store::of(1, 20);
    let source = store
        .clone()
        .with(|policy| policy.manual().guarded(RemovalGuard::new()));
    let props = Properties::builder().source(source).build()?;
    store.set(1, 0);
    props.refresh_now().unwrap_err();
    store.set(2, 19);
    props.refresh_now()?;
    assert_eq!(in_force(&props), (19, 0));
    assert!(!is_withheld(&props) && props.health().is_up());
    Ok(())
}
