//! The watcher itself: it is shared, overflows, fails, or misses events.

use std::sync::Arc;
use std::sync::mpsc::channel;

use notify::event::{
    CreateKind, DataChange, Event, EventKind, Flag, ModifyKind, RemoveKind, RenameMode,
};
use notify::{EventHandler, RecursiveMode, Watcher, WatcherKind};

use super::*;
use crate::source::conformance::Recorder;
use crate::sources::fs::watch::shared_watcher::{Handler, SharedWatcher};
use crate::sources::fs::watch::testing::{SOON, watch_with};

/// A watcher that sees nothing, and whose handler a test can call.
#[derive(Default, Clone)]
struct FakeWatcher {
    handlers: Arc<Mutex<Vec<Handler>>>,
    /// How many more watches may be made.
    limit: Option<Arc<Mutex<usize>>>,
    /// Events that arrive before the next request is answered.
    queued: Arc<Mutex<Vec<Event>>>,
}

impl Watcher for FakeWatcher {
    fn new<F: EventHandler>(_: F, _: notify::Config) -> notify::Result<Self> {
        unreachable!("the tests construct it")
    }

    fn watch(&mut self, _: &Path, _: RecursiveMode) -> notify::Result<()> {
        let Some(limit) = &self.limit else {
            return Ok(());
        };
        let mut left = limit.lock();
        match left.checked_sub(1) {
            None => Err(notify::Error::new(notify::ErrorKind::MaxFilesWatch)),
            Some(less) => {
                *left = less;
                Ok(())
            }
        }
    }

    fn unwatch(&mut self, _: &Path) -> notify::Result<()> {
        for event in self.queued.lock().drain(..) {
            self.feed(Ok(event));
        }
        Ok(())
    }

    fn kind() -> WatcherKind {
        WatcherKind::NullWatcher
    }
}

impl FakeWatcher {
    /// A recorder whose sources get this watcher.
    fn recorder(&self) -> Recorder {
        let fake = self.clone();
        recorder_with(SharedWatcher::with(move |handler| {
            fake.handlers.lock().push(handler);
            Ok(Box::new(fake.clone()))
        }))
    }

    fn feed(&self, event: notify::Result<Event>) {
        self.handlers.lock()[0].handle_event(event);
    }
}

fn recorder_with(watcher: SharedWatcher) -> Recorder {
    let recorder = Recorder::new();
    recorder.updates().shared(move || watcher);
    recorder
}

fn begin(path: &Path, poll: u64, recorder: Recorder) -> Watched {
    fs::write(path, text(0)).unwrap();
    let file = File::new(path).poll(Duration::from_millis(poll));
    let watched = watch_with(file, recorder);
    watched.expect("a", 0);
    watched
}

#[test]
fn after_an_overflow_everything_is_read_again() {
    let dir = dir();
    let path = dir.path().join("app.toml");
    let fake = FakeWatcher::default();
    let watched = begin(&path, 60_000, fake.recorder());
    for value in 1..=3 {
        fs::write(&path, text(value)).unwrap();
        fake.feed(Ok(Event::new(EventKind::Other).set_flag(Flag::Rescan)));
        watched.expect("a", value);
    }
    fs::write(&path, text(4)).unwrap();
    fake.feed(Err(notify::Error::generic("the watcher has a problem")));
    watched.expect("a", 4);
}

#[test]
fn only_a_move_onto_the_name_proves_that_a_file_is_complete() {
    let dir = dir();
    let path = dir.path().join("app.toml");
    let fake = FakeWatcher::default();
    let watched = begin(&path, 60_000, fake.recorder());
    let renamed = |mode| EventKind::Modify(ModifyKind::Name(mode));
    let mut value = 0;
    let mut time_of = |kind| {
        value += 1;
        fs::write(&path, text(value)).unwrap();
        let begun = Instant::now();
        fake.feed(Ok(Event::new(kind).add_path(path.clone())));
        watched.expect("a", value);
        begun.elapsed()
    };
    let unproven = [
        EventKind::Remove(RemoveKind::File),
        renamed(RenameMode::From),
        renamed(RenameMode::Any),
        EventKind::Create(CreateKind::File),
    ];
    for kind in unproven {
        let took = time_of(kind);
        assert!(
            took >= DEBOUNCE,
            "{kind:?} proves nothing, but took {took:?}"
        );
    }
    let proven = (0..5).map(|_| time_of(renamed(RenameMode::To)));
    let quickest = proven.min().unwrap();
    assert!(quickest < DEBOUNCE, "a rename took {quickest:?}");
}

#[test]
fn a_file_that_is_written_right_after_its_rename_does_not_count_as_complete() {
    let dir = dir();
    let path = dir.path().join("app.toml");
    let fake = FakeWatcher::default();
    let watched = begin(&path, 60_000, fake.recorder());
    let event = |kind| Event::new(kind).add_path(path.clone());
    fs::write(&path, text(1)).unwrap();
    let written = EventKind::Modify(ModifyKind::Data(DataChange::Any));
    fake.queued.lock().push(event(written));
    let begun = Instant::now();
    fake.feed(Ok(event(EventKind::Modify(ModifyKind::Name(
        RenameMode::To,
    )))));
    watched.expect("a", 1);
    let took = begun.elapsed();
    assert!(took >= DEBOUNCE, "{took:?}");
}

#[test]
fn a_watch_is_renewed_in_case_it_ended_unnoticed() {
    let dir = dir();
    let path = dir.path().join("app.toml");
    let limit = Arc::new(Mutex::new(1_000));
    let fake = FakeWatcher {
        limit: Some(Arc::clone(&limit)),
        ..FakeWatcher::default()
    };
    let watched = begin(&path, 200, fake.recorder());
    let before = *limit.lock();
    let alive = watched.recorder.seen().alive;
    let is_renewed = watched.recorder.wait_for(2 * SOON, |seen| {
        seen.alive > alive + 8 && *limit.lock() < before
    });
    assert_eq!(is_renewed, cfg!(target_os = "linux"), "{before}");
}

#[test]
fn a_new_directory_is_read_again_once_it_is_watched() {
    let dir = dir();
    let conf = dir.path().join("conf");
    fs::create_dir(&conf).unwrap();
    let path = conf.join("app.toml");
    let fake = FakeWatcher::default();
    let recorder = fake.recorder();
    let file = path.clone();
    // Changed again after it was read, before its directory is watched.
    recorder.reject_when(move |document| {
        if document.get("a") == Some(&crate::Value::from(1)) {
            replace(&file, &text(2));
        }
        false
    });
    let watched = begin(&path, 60_000, recorder);
    fs::rename(&conf, dir.path().join("old")).unwrap();
    fs::create_dir(&conf).unwrap();
    fs::write(&path, text(1)).unwrap();
    let renamed = EventKind::Modify(ModifyKind::Name(RenameMode::To));
    fake.feed(Ok(Event::new(renamed).add_path(path.clone())));
    watched.expect("a", 2);
    // An event of the new directory.
    replace(&path, &text(3));
    fake.feed(Ok(Event::new(renamed).add_path(path.clone())));
    watched.expect("a", 3);
}

#[cfg(target_os = "linux")]
#[test]
fn a_real_overflow_loses_nothing() {
    let dir = dir();
    let path = dir.path().join("app.toml");
    let recorder = Recorder::new();
    let watched = begin(&path, 60_000, recorder.clone());
    let watcher = recorder.updates().shared(SharedWatcher::new);
    let stalled = watcher.stall();
    for round in 0..7_000 {
        // Three events each; appended, because some file systems flush what is truncated.
        let noise = dir.path().join(format!("noise{}", round % 7));
        let mut noise = fs::File::options()
            .append(true)
            .create(true)
            .open(noise)
            .unwrap();
        noise.write_all(b"x").unwrap();
    }
    replace(&path, &text(1));
    drop(stalled);
    watched.expect("a", 1);
    for value in 2..=3 {
        replace(&path, &text(value));
        watched.expect("a", value);
    }
}

#[test]
fn without_a_watcher_files_are_polled_and_health_shows_that() {
    let dir = dir();
    let path = dir.path().join("app.toml");
    let watcher =
        SharedWatcher::with(|_| Err(notify::Error::io(std::io::Error::from_raw_os_error(24))));
    let watched = begin(&path, 60, recorder_with(watcher));
    for value in 1..=3 {
        fs::write(&path, text(value)).unwrap();
        watched.expect("a", value);
    }
    watched.expect_degraded("file events are not available");
    assert!(watched.recorder.seen().failures.is_empty());
}

#[test]
fn at_the_limit_of_watches_files_are_polled_until_more_are_allowed() {
    let dir = dir();
    let path = dir.path().join("app.toml");
    let limit = Arc::new(Mutex::new(2));
    let fake = FakeWatcher {
        limit: Some(Arc::clone(&limit)),
        ..FakeWatcher::default()
    };
    let watched = begin(&path, 60, fake.recorder());
    watched.expect_degraded("the limit of file watches is reached");
    fs::write(&path, text(1)).unwrap();
    watched.expect("a", 1);
    watched.expect_degraded("the limit of file watches is reached");
    *limit.lock() = 1_000;
    let are_watched = || *limit.lock() < 1_000;
    let alive = watched.recorder.seen().alive;
    assert!(
        watched
            .recorder
            .wait_for(SOON, |seen| seen.alive > alive + 3)
    );
    assert!(
        are_watched(),
        "the watches were made when that was possible"
    );
    let seen = watched.recorder.seen();
    assert!(seen.degraded.is_none() && seen.failures.is_empty());
}

#[test]
fn all_sources_share_one_watcher_and_leave_nothing_behind() {
    let dir = dir();
    let recorder = Recorder::new();
    let made = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&made);
    let watcher = recorder.updates().shared(move || {
        SharedWatcher::with(move |handler| {
            *counted.lock() += 1;
            let watcher = notify::RecommendedWatcher::new(handler, notify::Config::default())?;
            Ok(Box::new(watcher))
        })
    });
    let files: Vec<_> = ["a", "b", "c"]
        .into_iter()
        .map(|name| {
            let path = dir.path().join(format!("{name}.toml"));
            fs::write(&path, "x = 1\n").unwrap();
            watch_with(File::new(path), recorder.clone())
        })
        .collect();
    assert!(recorder.wait_for(SOON, |seen| seen.updates == 3));
    files.into_iter().for_each(drop);
    assert_eq!(*made.lock(), 1);
    assert!(
        format!("{watcher:?}").contains("directories: []"),
        "{watcher:?}"
    );
    let pulse = watcher.pulse();
    drop(recorder);
    drop(watcher);
    assert_eq!(pulse.strong_count(), 0, "the watcher's thread has ended");
}

#[test]
fn changes_of_other_files_and_reads_of_the_file_cause_no_reading() {
    let dir = dir();
    let path = dir.path().join("app.toml");
    let watched = begin(&path, 60_000, Recorder::new());
    let count = || {
        let seen = watched.recorder.seen();
        seen.alive + seen.updates
    };
    let before = count();
    let mut log = fs::File::create(dir.path().join("app.log")).unwrap();
    for round in 0..1_000 {
        writeln!(log, "{round}").unwrap();
        if round % 10 == 0 {
            fs::write(dir.path().join("app.toml.lock"), "x").unwrap();
        }
    }
    for _ in 0..100 {
        fs::read(&path).unwrap();
    }
    fs::write(&path, text(1)).unwrap();
    watched.expect("a", 1);
    sleep(Duration::from_millis(500));
    let readings = count() - before;
    assert!(readings <= 5, "{readings} readings for one write");
}

#[test]
fn directories_that_swap_names_are_followed_under_their_new_names() {
    let dir = dir();
    let at = |name: &str| dir.path().join(name);
    let recorder = Recorder::new();
    for name in ["x", "y"] {
        fs::create_dir(at(name)).unwrap();
        fs::write(at(name).join("app.toml"), format!("{name} = 0\n")).unwrap();
    }
    let one = watch_with(File::new(at("x/app.toml")), recorder.clone());
    let two = watch_with(File::new(at("y/app.toml")), Recorder::new());
    one.expect("x", 0);
    two.expect("y", 0);
    for value in 1..=3 {
        fs::rename(at("x"), at("z")).unwrap();
        fs::rename(at("y"), at("x")).unwrap();
        fs::rename(at("z"), at("y")).unwrap();
        fs::write(at("x/app.toml"), format!("x = {value}\n")).unwrap();
        fs::write(at("y/app.toml"), format!("y = {value}\n")).unwrap();
        one.expect("x", value);
        two.expect("y", value);
    }
}

/// Prints how long a replaced file takes to arrive, next to the barest loop over notify.
#[test]
#[ignore = "a measurement: run it alone, in release"]
fn latency() {
    const ROUNDS: i64 = 400;
    let dir = dir();
    let path = dir.path().join("app.toml");
    let body = |value: i64| -> String {
        let rest: String = (0..50).map(|k| format!("k{k} = {k}\n")).collect();
        text(value) + &rest
    };
    fs::write(&path, body(0)).unwrap();
    let median = |mut times: Vec<Duration>| {
        times.sort_unstable();
        (times[times.len() / 2], times[times.len() * 99 / 100])
    };
    let change = |value: i64, seen: &dyn Fn(i64)| {
        let aside = dir.path().join("aside");
        fs::write(&aside, body(value)).unwrap();
        sleep(Duration::from_millis(3));
        let begun = Instant::now();
        fs::rename(&aside, &path).unwrap();
        seen(value);
        begun.elapsed()
    };
    for _ in 0..2 {
        let (sender, events) = channel::<notify::Result<Event>>();
        let mut bare = notify::recommended_watcher(sender).unwrap();
        bare.watch(dir.path(), RecursiveMode::NonRecursive).unwrap();
        let source = File::new(&path);
        let wait = |value| {
            for event in events.iter() {
                let event = event.unwrap();
                if !matches!(event.kind, EventKind::Modify(_)) || !event.paths.contains(&path) {
                    continue;
                }
                let document = source.parse(&fs::read(&path).unwrap()).unwrap();
                if document.get("a") == Some(&crate::Value::from(value)) {
                    return;
                }
            }
        };
        let times = (1..=ROUNDS).map(|value| change(value, &wait)).collect();
        println!("bare notify loop    p50, p99: {:?}", median(times));
        drop(bare);
        let watched = watch(File::new(&path));
        watched.expect("a", ROUNDS);
        let wait = |value| watched.expect("a", value);
        let times = (1..=ROUNDS).map(|value| change(value, &wait)).collect();
        println!("rename to update    p50, p99: {:?}", median(times));
    }
}
