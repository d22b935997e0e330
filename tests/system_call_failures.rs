//! System calls that hang, fail or kill their process.
//!
//! Each test runs in a child process with `support/faults.c` in front of the C library.
#![cfg(all(target_os = "linux", target_env = "gnu", feature = "toml"))]
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use liveprops::health::{SourceEventKind, SourceHealth, Status};
use liveprops::source::{RemovalGuard, Timing};
use liveprops::sources::{File, Memory};
use liveprops::{
    Document, Error, ErrorKind, Origin, Properties, Source, SourceContext, Update, Watching,
};
use support::child::{self, Child};
use support::{DEADLINE, Inbox, eventually, reports};

const SECOND: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(200);

/// The directories of the injected faults and of the affected files.
struct FaultDir(PathBuf);

impl FaultDir {
    /// Runs a test in a child with fault injection.
    fn of(test: &str, run: impl FnOnce(&FaultDir)) {
        if let Some(dir) = child::role() {
            run(&FaultDir(dir.into()));
            return child::report("done");
        }
        let temporary = tempfile::tempdir().unwrap();
        FaultDir::make(temporary.path()).child(test).succeeds();
    }

    fn make(dir: &Path) -> Self {
        let dirs = Self(dir.to_owned());
        fs::create_dir(dirs.faults()).unwrap();
        fs::create_dir(dirs.hit()).unwrap();
        fs::create_dir(dirs.0.join("well")).unwrap();
        dirs
    }

    fn child(&self, test: &str) -> Child {
        static SHIM: OnceLock<PathBuf> = OnceLock::new();
        let shim = SHIM.get_or_init(|| {
            let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/faults.c");
            let shim = Path::new(env!("CARGO_TARGET_TMPDIR")).join("faults.so");
            let mut cc = Command::new("cc");
            cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&shim);
            let status = cc.args([source, "-ldl"]).status();
            let built = status.is_ok_and(|status| status.success());
            assert!(built, "`cc`, which Rust links with, cannot build {source}");
            shim
        });
        let words = [
            "env".to_owned(),
            format!("LD_PRELOAD={}", shim.display()),
            format!("FAULTS={}", self.faults().display()),
            format!("FAULTS_UNDER={}/", self.hit().display()),
        ];
        let words = words.each_ref().map(String::as_str);
        let child = Child::of(test).role(self.0.display());
        child.under(&words).expect("`env` runs")
    }

    fn faults(&self) -> PathBuf {
        self.0.join("faults")
    }

    /// Returns the directory with injected faults.
    fn hit(&self) -> PathBuf {
        self.0.join("hit")
    }

    fn fault(&self, call: &str, what: &str) {
        let aside = self.faults().join("aside");
        fs::write(&aside, what).unwrap();
        fs::rename(aside, self.faults().join(call)).unwrap();
    }

    fn heal(&self, call: &str) {
        fs::remove_file(self.faults().join(call)).unwrap();
    }

    /// Returns the number of leftover temporary files.
    fn left(&self) -> usize {
        let files = fs::read_dir(self.hit().join("state"));
        let names = files.into_iter().flatten().flatten();
        let names = names.filter(|file| file.file_name().to_string_lossy().ends_with(".tmp"));
        names.count()
    }
}

/// Writes a file outside of the affected directory and renames it into that.
fn write(path: &Path, n: i64) {
    let aside = path.parent().unwrap().with_extension("aside");
    fs::write(&aside, format!("{} = {n}\n", key(path))).unwrap();
    fs::rename(aside, path).unwrap();
}

fn key(path: &Path) -> String {
    path.file_stem().unwrap().to_string_lossy().into_owned()
}

fn health(props: &Properties, of: &Path) -> SourceHealth {
    let name = of.display().to_string();
    let sources = props.health().sources;
    let found = sources.into_iter().find(|s| s.name.contains(&name));
    found.unwrap()
}

fn is_up(props: &Properties, of: &Path) -> bool {
    matches!(health(props, of).status, Status::Up)
}

#[test]
fn a_hanging_file_system_blocks_only_its_own_source() {
    let test = "a_hanging_file_system_blocks_only_its_own_source";
    FaultDir::of(test, |dirs| {
        let (slow, well) = (
            dirs.hit().join("slow.toml"),
            dirs.0.join("well").join("well.toml"),
        );
        write(&slow, 1);
        write(&well, 1);
        let build = || {
            Properties::builder()
                .source(File::new(&slow).poll(POLL))
                .source(File::new(&well).poll(POLL))
                .build()
                .unwrap()
        };
        let props = build();
        let seen = |props: &Properties, path: &Path, n: i64, within: Duration| {
            let key = key(path);
            eventually(within, || props.get::<i64>(&key).unwrap() == n)
        };
        dirs.fault("read", "hang");
        write(&slow, 2);
        for n in 2..12 {
            write(&well, n);
            assert!(
                seen(&props, &well, n, SECOND),
                "the other source is delayed"
            );
        }
        let stale = || matches!(health(&props, &slow).status, Status::Stale { .. });
        assert!(eventually(DEADLINE, stale), "the failure is not reported");
        assert!(seen(&props, &slow, 1, Duration::ZERO), "it keeps its value");
        // The source recovers by itself.
        dirs.heal("read");
        assert!(seen(&props, &slow, 2, DEADLINE));
        assert!(eventually(DEADLINE, || is_up(&props, &slow)));
        dirs.fault("read", "hang");
        write(&slow, 3);
        write(&well, 20);
        assert!(seen(&props, &well, 20, DEADLINE));
        let begun = Instant::now();
        drop(props);
        let took = begun.elapsed();
        assert!(took < 5 * SECOND, "the end took {took:?}");
        dirs.heal("read");
    });
}

#[test]
fn a_file_that_cannot_be_opened_or_read_keeps_its_values_and_comes_back() {
    let test = "a_file_that_cannot_be_opened_or_read_keeps_its_values_and_comes_back";
    FaultDir::of(test, |dirs| {
        let path = dirs.hit().join("app.toml");
        write(&path, 0);
        let file = File::new(&path).poll(POLL);
        let props = Properties::builder().source(file).build().unwrap();
        let app = props.property::<i64>("app").build().unwrap();
        let faults = [
            ("open", libc::EACCES),
            ("open", libc::EIO),
            ("open", libc::EMFILE),
            ("open", libc::ENFILE),
            ("open", libc::ESTALE),
            ("read", libc::EIO),
            ("read", libc::EISDIR),
        ];
        for (n, (call, error)) in (1..).zip(faults) {
            dirs.fault(call, &error.to_string());
            write(&path, n);
            let Some(reason) = stale_reason(&props, &path) else {
                panic!("{call} with {error} is not reported");
            };
            assert!(reason.contains("app.toml"), "{reason}");
            assert_eq!(app.get(), n - 1);
            dirs.heal(call);
            let begun = Instant::now();
            assert!(
                eventually(DEADLINE, || app.get() == n),
                "{call} with {error}"
            );
            let took = begun.elapsed();
            assert!(took < 2 * POLL + SECOND, "{call} with {error}: {took:?}");
            assert!(eventually(DEADLINE, || is_up(&props, &path)));
        }
    });
}

fn stale_reason(props: &Properties, path: &Path) -> Option<String> {
    let mut found = None;
    eventually(DEADLINE, || {
        if let Status::Stale { reason, .. } = health(props, path).status {
            found = Some(reason.to_string());
        }
        found.is_some()
    });
    found
}

/// The store of `kept`, which does not answer.
struct Silent;

impl Source for Silent {
    fn origin(&self) -> Origin {
        Origin::new("memory", "")
    }

    fn load(&self) -> Result<Document, Error> {
        Err(Error::new(ErrorKind::Unavailable, "the store is down"))
    }
}

fn caching(dirs: &FaultDir, source: impl Source) -> Result<Properties, Error> {
    Properties::builder()
        .state_dir(dirs.hit().join("state"))
        .source(source.with(|policy| policy.cached()))
        .history(4)
        .build()
}

/// Returns the value that a start without the store has.
fn kept(dirs: &FaultDir) -> Option<i64> {
    let props = caching(dirs, Silent).ok()?;
    assert_eq!(props.health().sources[0].rejections, 0);
    props.get("n").ok()
}

#[test]
fn serving_continues_whichever_system_call_of_the_cache_fails() {
    let test = "serving_continues_whichever_system_call_of_the_cache_fails";
    FaultDir::of(test, |dirs| {
        let memory = Memory::from([("n", 0)]);
        let props = caching(dirs, memory.clone()).unwrap();
        let degraded = || props.health().sources[0].degraded.is_some();
        let calls = ["open", "write", "fsync", "rename"];
        let errors = [libc::EIO, libc::ENOSPC, libc::EDQUOT, libc::EROFS];
        let mut n = 0;
        for call in calls {
            for error in errors {
                n += 1;
                dirs.fault(call, &error.to_string());
                let begun = Instant::now();
                memory.set("n", n).unwrap();
                let took = begun.elapsed();
                assert!(took < 5 * SECOND, "the commit waited {took:?}");
                assert_eq!(props.get::<i64>("n").unwrap(), n);
                assert!(eventually(DEADLINE, degraded), "{call} with {error}");
                assert_eq!(dirs.left(), 0, "{call} with {error}");
                assert!(props.health().is_up());
                dirs.heal(call);
                assert!(eventually(DEADLINE, || !degraded()), "{call} with {error}");
            }
        }
        drop(props);
        assert_eq!(kept(dirs), Some(n));
    });
}

#[test]
fn a_kill_at_any_system_call_leaves_the_old_or_the_new_cache() {
    let test = "a_kill_at_any_system_call_leaves_the_old_or_the_new_cache";
    let steps = ["open", "write", "fsync", "rename", "renamed"];
    if let Some(dir) = child::role() {
        let dirs = FaultDir(dir.into());
        let memory = Memory::from([("n", 1)]);
        let props = caching(&dirs, memory.clone()).unwrap();
        assert!(eventually(DEADLINE, || kept(&dirs) == Some(1)));
        let good = props.generation();
        memory.set("n", 2).unwrap();
        assert!(eventually(DEADLINE, || kept(&dirs) == Some(2)));
        child::report("ready");
        // The parent injects the fault after this line.
        let faults = || steps.iter().any(|step| dirs.faults().join(step).exists());
        assert!(eventually(DEADLINE, faults));
        match dirs.0.join("roll back").exists() {
            true => drop(props.rollback_to(good)),
            false => memory.set("n", 3).unwrap(),
        }
        assert!(!eventually(DEADLINE, || false), "it survived");
    }
    for step in steps {
        for roll_back in [false, true] {
            let temporary = tempfile::tempdir().unwrap();
            let dirs = FaultDir::make(temporary.path());
            if roll_back {
                fs::write(dirs.0.join("roll back"), "").unwrap();
            }
            let mut child = dirs.child(test).start();
            assert_eq!(child.output.recv_timeout(DEADLINE).unwrap(), "ready");
            dirs.fault(step, "kill");
            assert!(!child.exits_successfully());
            dirs.heal(step);
            let expected = match (step, roll_back) {
                ("renamed", false) => 3,
                ("renamed", true) => 1,
                _ => 2,
            };
            assert_eq!(kept(&dirs), Some(expected), "{step}, {roll_back}");
            assert_eq!(dirs.left(), 0, "the next start cleans up after {step}");
        }
    }
}

#[test]
fn a_file_is_synced_before_its_rename_and_its_directory_afterwards() {
    let test = "a_file_is_synced_before_its_rename_and_its_directory_afterwards";
    FaultDir::of(test, |dirs| {
        fs::write(dirs.faults().join("trace"), "").unwrap();
        let above = dirs.hit().join("made");
        let state = above.join("state");
        let source = Memory::from([("n", 0)]).with(|policy| policy.cached());
        let builder = Properties::builder().state_dir(&state);
        drop(builder.source(source).build().unwrap());
        let trace = fs::read_to_string(dirs.faults().join("trace")).unwrap();
        let calls = trace.lines().filter_map(|line| line.split_once(' '));
        let calls: Vec<(&str, &Path)> = calls.map(|(call, path)| (call, Path::new(path))).collect();
        let is = |path: &Path, end: &str| path.extension().is_some_and(|e| e == end);
        let put = calls
            .iter()
            .position(|(call, path)| *call == "rename" && is(path, "cache"))
            .unwrap();
        let synced = |(call, path): &&(&str, &Path)| *call == "fsync" && is(path, "tmp");
        let written = calls[..put]
            .iter()
            .rposition(|(call, _)| *call == "write")
            .unwrap();
        assert!(
            calls[written..put].iter().any(|call| synced(&call)),
            "{trace}"
        );
        let is_sync_of_state = |(call, path): &(&str, &Path)| *call == "fsync" && *path == state;
        assert!(calls[put..].iter().any(is_sync_of_state), "{trace}");
        // The directory is new, so its parent is synced as well.
        let made = |(call, path): &(&str, &Path)| *call == "fsync" && *path == above;
        assert!(calls[..put].iter().any(made), "{trace}");
    });
}

/// The error of a system without threads.
const NO_THREAD: &str = "11";

/// Creates properties with one key and a due callback that found no thread.
fn starved(dirs: &FaultDir, builder: liveprops::Builder) -> (Memory, Properties, Inbox<u32>) {
    let memory = Memory::from([("n", 0)]);
    let props = builder.source(memory.clone()).build().unwrap();
    let (report, inbox) = reports();
    let n = props.property::<u32>("n").build().unwrap();
    n.on_change(move |change| report(*change.new_value()))
        .detach();
    dirs.fault("thread", NO_THREAD);
    for i in 1..=10 {
        memory.set("n", i).unwrap();
    }
    assert_eq!(n.get(), 10, "commits need no thread");
    (memory, props, inbox)
}

/// Returns why the properties are not up.
fn trouble(props: &Properties) -> Option<Error> {
    let health = props.health();
    assert_eq!(health.is_up(), matches!(props.status(), Status::Up));
    match health.status {
        Status::Stale { reason, .. } => Some(reason),
        _ => None,
    }
}

#[test]
fn a_callback_that_found_no_thread_is_reported_and_runs_with_the_next_commit() {
    const TEST: &str = "a_callback_that_found_no_thread_is_reported_and_runs_with_the_next_commit";
    FaultDir::of(TEST, |dirs| {
        let (memory, props, inbox) = starved(dirs, Properties::builder());
        let reason = trouble(&props).unwrap();
        assert_eq!(reason.kind(), ErrorKind::Unavailable);
        assert!(
            reason.to_string().contains("no thread can be started"),
            "{reason}"
        );
        let rejected = props.health().rejected;
        assert_eq!(rejected.len(), 1, "reported once: {rejected:?}");
        assert!(inbox.all().is_empty());

        dirs.heal("thread");
        memory.set("other", 1).unwrap();
        assert_eq!(inbox.next(), 10, "the final value");
        assert!(trouble(&props).is_none());
        for i in 11..=20 {
            memory.set("n", i).unwrap();
            assert_eq!(inbox.next(), i);
        }
    });
}

#[test]
fn a_callback_that_found_no_thread_runs_when_health_is_read() {
    const TEST: &str = "a_callback_that_found_no_thread_runs_when_health_is_read";
    FaultDir::of(TEST, |dirs| {
        let (_memory, props, inbox) = starved(dirs, Properties::builder());
        assert!(trouble(&props).is_some());
        dirs.heal("thread");
        assert!(trouble(&props).is_none());
        assert_eq!(inbox.next(), 10);
    });
}

/// A source with frequent polls, which has a thread.
struct Often;

impl Source for Often {
    fn origin(&self) -> Origin {
        Origin::new("often", "")
    }

    fn load(&self) -> Result<Document, Error> {
        let mut document = Document::new();
        document.set("often", 1, self.origin())?;
        Ok(document)
    }

    fn watching(&self) -> Watching {
        Watching::Poll(Duration::from_secs(3600))
    }
}

#[test]
fn a_callback_that_found_no_thread_runs_by_itself_where_sources_have_threads() {
    const TEST: &str = "a_callback_that_found_no_thread_runs_by_itself_where_sources_have_threads";
    FaultDir::of(TEST, |dirs| {
        let builder = Properties::builder().max_propagation(Duration::from_secs(7200));
        let (_memory, _props, inbox) = starved(dirs, builder.source(Often));
        assert!(inbox.within(Duration::from_millis(250)).is_none());
        dirs.heal("thread");
        assert_eq!(inbox.next(), 10);
    });
}

/// A source whose watch sends neither updates nor heartbeats.
struct Mute;

impl Source for Mute {
    fn origin(&self) -> Origin {
        Origin::new("mute", "")
    }

    fn load(&self) -> Result<Document, Error> {
        Ok(Document::new())
    }

    fn watching(&self) -> Watching {
        Watching::Stream
    }

    fn watch(&self, _: &SourceContext) -> Result<(), Error> {
        std::thread::sleep(Duration::from_secs(3600));
        Ok(())
    }

    fn timing(&self) -> Timing {
        Timing::new().heartbeat_timeout(Duration::from_millis(100))
    }
}

// The watchdog runs no callbacks, so an inline callback needs another thread there.
#[test]
fn a_source_and_an_inline_callback_that_found_no_thread_get_one_later() {
    const TEST: &str = "a_source_and_an_inline_callback_that_found_no_thread_get_one_later";
    FaultDir::of(TEST, |dirs| {
        let (report, inbox) = reports();
        let props = Properties::builder()
            .inline_callbacks()
            .source(Mute)
            .build()
            .unwrap();
        dirs.fault("thread", NO_THREAD);
        let _sub = props.on_source_event(move |event| {
            if let SourceEventKind::Suspended(error) = &event.kind {
                report(error.to_string());
            }
        });
        assert!(eventually(DEADLINE, || {
            let source = props.health().sources.remove(0);
            matches!(source.status, Status::Stale { reason, .. }
                if reason.to_string().contains("no thread can be started for it"))
        }));
        let rejected = props.health().rejected.remove(0).error.to_string();
        assert!(rejected.contains("the callbacks"), "{rejected}");
        assert!(inbox.all().is_empty());
        dirs.heal("thread");
        assert!(inbox.next().contains("gave no answer in time"));
        assert!(inbox.next().contains("no thread can be started for it"));
        // The watch on the new thread sends nothing either.
        assert!(inbox.next().contains("gave no answer in time"));
    });
}

/// A source that loses most of its keys when it is watched.
struct Shrinks;

impl Source for Shrinks {
    fn origin(&self) -> Origin {
        Origin::new("shrinks", "")
    }

    fn load(&self) -> Result<Document, Error> {
        let mut document = Document::new();
        for i in 0..20 {
            document.set(&format!("k{i}"), i, self.origin())?;
        }
        Ok(document)
    }

    fn watching(&self) -> Watching {
        Watching::Stream
    }

    fn watch(&self, updates: &SourceContext) -> Result<(), Error> {
        let mut document = Document::new();
        document.set("k0", 0, self.origin())?;
        let _ = updates.send(Update::full(document));
        while !updates.wait(SECOND) {
            updates.heartbeat();
        }
        Ok(())
    }
}

// Validators may hang, and the watchdog must not.
#[test]
fn an_update_that_accept_after_accepts_waits_for_its_own_thread() {
    const TEST: &str = "an_update_that_accept_after_accepts_waits_for_its_own_thread";
    FaultDir::of(TEST, |dirs| {
        let (report, inbox) = reports();
        let guard = RemovalGuard::new().accept_after(Duration::from_millis(200));
        let props = Properties::builder()
            .source(Shrinks.with(|policy| policy.guarded(guard)))
            .validate(move |tree| {
                if !tree.contains("k1") {
                    report(std::thread::current().name().map(str::to_owned));
                }
                Ok(())
            })
            .build()
            .unwrap();
        assert!(eventually(DEADLINE, || props.health().sources[0]
            .withheld
            .is_some()));
        dirs.fault("thread", NO_THREAD);
        assert_eq!(inbox.within(SECOND), None);
        dirs.heal("thread");
        assert_eq!(inbox.next().as_deref(), Some("liveprops-commit"));
        assert!(eventually(DEADLINE, || !props.snapshot().contains("k1")));
    });
}

#[test]
fn a_start_without_threads_fails_and_a_later_one_works() {
    const TEST: &str = "a_start_without_threads_fails_and_a_later_one_works";
    FaultDir::of(TEST, |dirs| {
        let start = || {
            Properties::builder()
                .state_dir(dirs.hit().join("state"))
                .source(File::new(dirs.hit().join("app.toml")))
                .build()
        };
        fs::write(dirs.hit().join("app.toml"), "n = 1").unwrap();
        dirs.fault("thread", NO_THREAD);
        let error = start().unwrap_err();
        assert!(error.to_string().contains("thread"), "{error}");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        let memory = Memory::from([("n", 1)]);
        let props = Properties::builder().source(memory).build().unwrap();
        let error = props
            .add_source(File::new(dirs.hit().join("app.toml")))
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        dirs.heal("thread");
        assert_eq!(start().unwrap().get::<u32>("n").unwrap(), 1);
        props
            .add_source(File::new(dirs.hit().join("app.toml")))
            .unwrap();
    });
}
