//! Processes without file events, stopped processes, and many short ones.
#![cfg(all(target_os = "linux", feature = "toml", feature = "watch"))]
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::fs;
use std::future::Future;
use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use liveprops::Properties;
use liveprops::health::SourceEventKind;
use liveprops::sources::{Dir, Env, File};

use support::child::{self, Child};
use support::disk::{ConfigDir, EventLog, is_up, replace, wait_for_event};
use support::proc::{status, threads};
use support::time_until;

const POLL: Duration = Duration::from_millis(200);

const INSTANCES: &str = "/proc/sys/user/max_inotify_instances";
const WATCHES: &str = "/proc/sys/user/max_inotify_watches";

#[test]
fn without_inotify_instances_files_are_polled_and_health_reports_it() {
    let test = "without_inotify_instances_files_are_polled_and_health_reports_it";
    run_with_zero_limit(test, INSTANCES);
}

#[test]
fn without_inotify_watches_files_are_polled_and_health_reports_it() {
    let test = "without_inotify_watches_files_are_polled_and_health_reports_it";
    run_with_zero_limit(test, WATCHES);
}

/// Runs a test in a user namespace in which a limit is 0.
fn run_with_zero_limit(test: &str, limit: &str) {
    if child::role().is_some() {
        return follow_without_events(limit);
    }
    let dry = format!("echo 0 > {limit}; exec \"$@\"");
    match Child::of(test).under(&["unshare", "-Ur", "sh", "-ec", &dry, "sh"]) {
        None => println!("skipped: unshare is not permitted"),
        Some(child) => child.succeeds(),
    }
}

fn follow_without_events(limit: &str) {
    let props = Properties::builder().build().unwrap();
    let event_log = EventLog::of(&props);
    let config_dir = ConfigDir::new("app.toml", "a = 0\n");
    let conf = ConfigDir::new("1.toml", "b = 0\n");
    let file = File::new(&config_dir.path).poll(POLL);
    props.add_source(file).unwrap();
    let dir = Dir::new(conf.dir.path()).poll(POLL);
    props.add_source(dir).unwrap();
    let degraded = || {
        let sources = props.health().sources;
        let shown = sources.iter().filter_map(|source| source.degraded.as_ref());
        shown.map(ToString::to_string).collect::<Vec<_>>()
    };
    let are_degraded = || {
        let all = degraded();
        all.len() == 2 && all.iter().all(|it| it.contains("events are not available"))
    };
    wait_for_event("both sources report missing events", are_degraded);
    for value in 1..=3 {
        replace(&config_dir.path, format!("a = {value}\n"));
        fs::write(&conf.path, format!("b = {value}\n")).unwrap();
        let seen = |key: &str| props.get::<i64>(key).unwrap() == value;
        let slack = Duration::from_millis(800);
        assert!(time_until(POLL * 2 + slack, || seen("a") && seen("b")).is_some());
        assert!(
            are_degraded(),
            "an answer does not hide it: {:?}",
            degraded()
        );
    }
    assert!(props.health().is_up(), "it is no failure");
    let reports = || event_log.count(|kind| matches!(kind, SourceEventKind::Degraded(_)));
    wait_for_event("each source reports it once", || reports() == 2);

    fs::write(limit, "100").unwrap();
    wait_for_event("the report ends once events work again", || {
        degraded().is_empty()
    });
    assert_eq!(reports(), 2);
    child::report("checked without file events");
}

#[test]
fn a_directory_that_is_mounted_over_is_detected_by_the_poll() {
    let test = "a_directory_that_is_mounted_over_is_detected_by_the_poll";
    if child::role().is_none() {
        match Child::of(test).under(&["unshare", "-Urm"]) {
            None => println!("skipped: unshare is not permitted"),
            Some(child) => child.succeeds(),
        }
        return;
    }
    let config_dir = ConfigDir::new("app.toml", "a = 1\n");
    let props = support::disk::open(File::new(&config_dir.path).poll(POLL));
    let a = props.property::<i64>("a").build().unwrap();
    let mount = |words: &[&str]| {
        let done = std::process::Command::new(words[0])
            .args(&words[1..])
            .status();
        assert!(done.unwrap().success(), "{words:?}");
    };
    let dir = config_dir.dir.path().to_str().unwrap();
    let slack = Duration::from_millis(800);
    // The directory itself does not change, so there is no event.
    mount(&["mount", "-t", "tmpfs", "tmpfs", dir]);
    assert!(time_until(POLL * 2 + slack, || !is_up(&props)).is_some());
    assert_eq!(a.get(), 1, "what is gone keeps its value");
    fs::write(&config_dir.path, "a = 2\n").unwrap();
    assert!(time_until(POLL * 2 + slack, || a.get() == 2).is_some());
    mount(&["umount", "-l", dir]);
    assert!(time_until(POLL * 2 + slack, || a.get() == 1).is_some());
    // The same file under another path.
    let other = tempfile::tempdir().unwrap();
    mount(&["mount", "--bind", dir, other.path().to_str().unwrap()]);
    fs::write(other.path().join("app.toml"), "a = 3\n").unwrap();
    assert!(time_until(POLL * 2 + slack, || a.get() == 3).is_some());
    mount(&["umount", "-l", other.path().to_str().unwrap()]);
    child::report("checked under mounts");
}

#[test]
fn a_process_that_was_stopped_catches_up_once() {
    let test = "a_process_that_was_stopped_catches_up_once";
    if let Some(path) = child::role() {
        return follow(&path);
    }
    let config_dir = ConfigDir::new("app.toml", "a = 0\n");
    let mut child = Child::of(test).role(config_dir.path.display()).start();
    let patience = Duration::from_secs(10);
    assert_eq!(child.output.recv_timeout(patience).unwrap(), "ready");
    replace(&config_dir.path, "a = 1\n");
    assert_eq!(child.output.recv_timeout(patience).unwrap(), "0 -> 1");
    child.signal("-STOP");
    wait_for_event("it is stopped", || child.state() == Some('T'));
    for value in 2..=50 {
        replace(&config_dir.path, format!("a = {value}\n"));
        thread::sleep(Duration::from_millis(40));
    }
    assert_eq!(child.output.try_recv().ok(), None, "it was stopped");
    child.signal("-CONT");
    assert_eq!(child.output.recv_timeout(patience).unwrap(), "1 -> 50");
    replace(&config_dir.path, "a = 51\n");
    assert_eq!(child.output.recv_timeout(patience).unwrap(), "50 -> 51");
    assert!(child.exits_successfully());
    assert!(
        child.output.try_recv().is_err(),
        "nothing is reported twice"
    );
}

/// Reports the changes of a file until the input ends.
fn follow(path: &str) {
    let props = support::disk::open(File::new(path));
    let a = props.property::<i64>("a").build().unwrap();
    let _guard = a.on_change(|change| {
        child::report(format!("{} -> {}", change.old_value(), change.new_value()))
    });
    child::report("ready");
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    assert!(is_up(&props));
}

#[test]
fn two_hundred_short_processes_exit_successfully() {
    const LIVES: usize = 200;
    let test = "two_hundred_short_processes_exit_successfully";
    if let Some(life) = child::role() {
        return run_short_process(life.parse().unwrap());
    }
    let dir = tempfile::tempdir().unwrap();
    let (next, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        // Competing work.
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        let workers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut bad = Vec::new();
                    loop {
                        let life = next.fetch_add(1, Ordering::Relaxed);
                        if life >= LIVES {
                            return bad;
                        }
                        let mut child = Child::of(test).role(life).temporary(dir.path()).start();
                        if !child.exits_successfully() || child.output.recv().is_err() {
                            bad.push(life);
                        }
                    }
                })
            })
            .collect();
        let bad: Vec<_> = workers.into_iter().map(|it| it.join()).collect();
        done.store(true, Ordering::Relaxed);
        let bad: Vec<_> = bad.into_iter().flat_map(Result::unwrap).collect();
        assert!(bad.is_empty(), "did not end well: {bad:?}");
    });
}

/// A short process: starts everything, works and ends.
fn run_short_process(life: usize) {
    child::report("a life");
    let config_dir = ConfigDir::new("app.toml", "a = 0\n");
    let props = Properties::builder()
        .source(File::new(&config_dir.path))
        .source(Dir::new(config_dir.dir.path()))
        .source(File::new(config_dir.at("no/such.toml")).allow_missing())
        .source(Env::prefix("LIVEPROPS_"))
        .build()
        .unwrap();
    let a = props.property::<i64>("a").build().unwrap();
    let guard = a.on_change(|change| assert!(*change.new_value() > 0));
    fs::write(&config_dir.path, "a = 1\n").unwrap();
    match life % 5 {
        // Ends with everything still running.
        0 => std::process::exit(0),
        // The callback outlives the properties.
        1 => drop(props),
        // No thread waits.
        2 => guard.detach(),
        // Ends from another thread while this one continues.
        3 => {
            thread::spawn(|| std::process::exit(0));
            let begun = std::time::Instant::now();
            while begun.elapsed() < Duration::from_secs(10) {
                a.get();
            }
            panic!("still alive");
        }
        _ => wait_for_event("the change is seen", || a.get() == 1),
    }
}

/// Sets a limit of this process with `prlimit`; `unlimited` removes it.
fn limit(what: &str, most: impl std::fmt::Display) {
    // Only the soft limit, which can be raised again.
    let limit = format!("--{what}={most}:");
    let pid = std::process::id().to_string();
    let set = std::process::Command::new("prlimit")
        .args(["--pid", &pid, &limit])
        .status();
    assert!(set.unwrap().success(), "prlimit {limit}");
}

#[test]
fn a_build_without_threads_fails_without_leaks_and_a_later_one_succeeds() {
    let test = "a_build_without_threads_fails_without_leaks_and_a_later_one_succeeds";
    if child::role().is_none() {
        return Child::of(test).succeeds();
    }
    let config_dir = ConfigDir::new("app.toml", "a = 1\n");
    let before = threads();
    let kib = status("VmSize");
    // Enough memory for small allocations, but not for the stack of a thread.
    limit("as", (kib + 1024) * 1024);
    for _ in 0..20 {
        let error = Properties::builder()
            .source(File::new(&config_dir.path))
            .build()
            .unwrap_err();
        assert!(
            error.to_string().contains("no thread can be started"),
            "{error}"
        );
    }
    limit("as", "unlimited");
    assert_eq!(threads(), before);
    let props = Properties::builder()
        .source(File::new(&config_dir.path))
        .build()
        .unwrap();
    replace(&config_dir.path, "a = 2\n");
    wait_for_event("the change is seen", || props.get_or("a", 0) == 2);
    child::report("rejected, and then built");
}

#[test]
fn a_process_out_of_file_handles_keeps_its_values_and_recovers() {
    let test = "a_process_out_of_file_handles_keeps_its_values_and_recovers";
    if child::role().is_none() {
        return Child::of(test).succeeds();
    }
    let config_dir = ConfigDir::new("app.toml", "a = 1\n");
    let props = Properties::builder()
        .source(File::new(&config_dir.path).poll(POLL))
        .build()
        .unwrap();
    let a = props.property::<u32>("a").build().unwrap();
    wait_for_event("it is watched", || is_up(&props));
    replace(&config_dir.path, "a = 2\n");
    wait_for_event("the change is seen", || a.get() == 2);
    // The process that raises the limit again starts first: otherwise it would inherit the limit.
    let lift = format!(
        "read x; exec prlimit --pid {} --nofile=256:",
        std::process::id()
    );
    let mut lifter = std::process::Command::new("sh")
        .args(["-c", &lift])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // No handle is left; open ones stay open.
    limit("nofile", 3);
    fs::rename(&config_dir.path, config_dir.path.with_extension("away")).unwrap();
    wait_for_event("health shows that it cannot be read", || !is_up(&props));
    assert_eq!(a.get(), 2);
    assert!(props.get::<u32>("a").is_ok());
    // The end of its input makes it continue.
    drop(lifter.stdin.take());
    assert!(lifter.wait().unwrap().success());
    fs::write(&config_dir.path, "a = 3\n").unwrap();
    wait_for_event("the change is seen", || a.get() == 3);
    wait_for_event("all is well again", || is_up(&props));
    child::report("kept its values");
}

#[test]
fn a_fork_continues_to_read_without_waiting() {
    let test = "a_fork_continues_to_read_without_waiting";
    if child::role().is_some() {
        return fork_while_everything_is_busy();
    }
    run_with_forks(test, |line| line == "the fork ends");
}

#[test]
fn a_fork_reads_secrets_and_masks_them_while_other_threads_hold_every_lock() {
    let test = "a_fork_reads_secrets_and_masks_them_while_other_threads_hold_every_lock";
    if child::role().is_some() {
        return fork_while_others_read_secrets();
    }
    let mut ended = 0;
    run_with_forks(test, |line| {
        ended += usize::from(line.starts_with("fork"));
        ended == FORKS
    });
}

/// Runs a test in another process in which `getppid` forks. A printed line ends the test.
fn run_with_forks(test: &str, mut is_last: impl FnMut(&str) -> bool) {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/fork.c");
    let shim = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{test}.so"));
    let mut cc = std::process::Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&shim);
    let built = cc.arg(source).status().is_ok_and(|status| status.success());
    assert!(built, "`cc`, which Rust links with, cannot build {source}");
    let preload = format!("LD_PRELOAD={}", shim.display());
    let words = ["env", &preload, "FORK=1"];
    let mut child = Child::of(test).under(&words).unwrap().start();
    let patience = Duration::from_secs(20);
    let mut lines = Vec::new();
    while lines.last().is_none_or(|last: &String| !is_last(last)) {
        match child.output.recv_timeout(patience) {
            Ok(line) => lines.push(line),
            Err(_) => panic!("a fork hangs after: {lines:#?}"),
        }
    }
    assert!(child.exits_successfully(), "{lines:#?}");
}

const FORKS: usize = 60;

/// Forks repeatedly while other threads acquire the locks of reading a secret.
fn fork_while_others_read_secrets() {
    use liveprops::sources::Memory;
    use liveprops::{ErrorKind, Secret};

    #[derive(serde::Deserialize)]
    struct Login {
        word: Secret<String>,
    }

    // The reads of the parent before the last fork, and 20 per fork.
    const KEYS: usize = 8000;
    let of_parent = (0..KEYS).map(|at| format!("p.k{at}"));
    let keys = of_parent.chain((0..FORKS * 20).map(|at| format!("c.k{at}.word")));
    let memory: Memory = keys.map(|key| (key, "hunter2")).collect();
    let own = Memory::from([("n", 0)]);
    let mut builder = Properties::builder()
        .track_usage()
        .source(memory)
        .source(own.clone());
    for at in 0..20 {
        builder = builder.source(Memory::from([(format!("s{at}"), 1)]));
    }
    let props = builder.build().unwrap();
    type Act = Box<dyn FnMut(&Properties, usize) + Send>;
    let repeat = |mut act: Act| {
        let props = props.clone();
        thread::spawn(move || {
            for round in 0.. {
                act(&props, round);
            }
        });
    };
    repeat(Box::new(|props, _| drop(props.health())));
    repeat(Box::new(|props, _| drop(props.explain("n"))));
    repeat(Box::new(|props, _| drop(props.unused_keys())));
    repeat(Box::new(|props, round| {
        drop(props.get::<Secret<String>>(&format!("p.k{}", round % KEYS)));
    }));
    let writer = own.clone();
    repeat(Box::new(move |_, round| {
        writer.set("n", round as i64).unwrap();
    }));
    for fork in 0..FORKS {
        // Each fork happens while other locks are held.
        thread::sleep(Duration::from_millis(fork as u64 % 7));
        if std::os::unix::process::parent_id() != 0 {
            continue;
        }
        for at in 0..20 {
            let key = format!("c.k{}", fork * 20 + at);
            let word = format!("{key}.word");
            let secret = match at % 3 {
                0 => props.get::<Secret<String>>(&word).unwrap(),
                1 => props.snapshot().bind::<Login>(&key).unwrap().word,
                _ => props.get::<Login>(&key).unwrap().word,
            };
            assert_eq!(secret.expose(), "hunter2");
            let read = props.get_opt::<Secret<String>>(&word).unwrap();
            assert!(read.is_some());
            let other = Secret::new(String::new());
            assert_eq!(props.get_or(&word, other).expose(), "hunter2");
            if at % 3 != 1 {
                let shown = props.explain(&word).to_string();
                assert!(!shown.contains("hunter2"), "{shown}");
                let error = props.get::<u32>(&word).unwrap_err().to_string();
                assert!(!error.contains("hunter2"), "{error}");
            }
        }
        if fork % 10 == 0 {
            drop(props.unused_keys());
        }
        drop(format!("{own:?}"));
        for outcome in [own.set("n", 1), own.remove("n"), own.replace([("n", 1)])] {
            let kind = outcome.map_err(|error| error.kind());
            assert!(matches!(kind, Ok(()) | Err(ErrorKind::Closed)), "{kind:?}");
        }
        child::report(format!("fork {fork} ends"));
        std::process::exit(0);
    }
    // The forks end by themselves, or the test ends all of them.
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    std::process::exit(0);
}

#[test]
fn a_fork_builds_its_own_properties_while_threads_of_its_parent_wait() {
    let test = "a_fork_builds_its_own_properties_while_threads_of_its_parent_wait";
    const BUILDERS: usize = 8;
    if child::role().is_some() {
        return fork_and_build(BUILDERS);
    }
    let mut built = 0;
    run_with_forks(test, |line| {
        built += usize::from(line == "built");
        built == BUILDERS
    });
}

/// Forks while many threads wait. Each fork follows a file.
fn fork_and_build(forks: usize) {
    let config_dir = ConfigDir::new("app.toml", "a = 1\n");
    let open = || {
        let file = File::new(&config_dir.path).without_watch().poll(POLL);
        Properties::builder().source(file).build().unwrap()
    };
    let parents: Vec<Properties> = (0..40).map(|_| open()).collect();
    for _ in 0..forks {
        if std::os::unix::process::parent_id() != 0 {
            continue;
        }
        let props = open();
        let a = props.property::<i64>("a").build().unwrap();
        let (report, reported) = std::sync::mpsc::channel();
        let subscription = a.on_change(move |change| report.send(*change.new_value()).unwrap());
        for value in 2..50 {
            props.set("a", value).unwrap();
        }
        props.refresh_now().unwrap();
        while reported.recv_timeout(Duration::from_secs(10)).unwrap() != 49 {}
        subscription.close_and_wait().unwrap();
        drop(props);
        child::report("built");
        std::process::exit(0);
    }
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    drop(parents);
}

/// Forks during a commit and a callback, while another thread holds the locks of both.
fn fork_while_everything_is_busy() {
    use liveprops::sources::Memory;
    use liveprops::{ErrorKind, Value};
    use std::sync::Arc;
    use std::sync::mpsc::channel;

    let config_dir = ConfigDir::new("app.toml", "a = 1\n");
    let memory = Memory::from([("n", 1)]);
    let (committing, is_committing) = channel();
    let props = Properties::builder()
        .source(memory.clone())
        .source(File::new(&config_dir.path).poll(POLL))
        .validate(move |tree| {
            if tree.get::<i64>("n").is_ok_and(|n| n == 3) {
                let _ = committing.send(());
                thread::sleep(Duration::from_secs(3600));
            }
            Ok(())
        })
        .build()
        .unwrap();
    let n = props.property::<i64>("n").build().unwrap();
    let mut changes = n.changes();
    let (calling, is_calling) = channel();
    let stuck = n.on_change(move |_| {
        let _ = calling.send(());
        thread::sleep(Duration::from_secs(3600));
    });
    let idle = n.on_change(|_| ());
    let under = props.on_change_under("", |_| ()).unwrap();
    memory.set("n", 2).unwrap();
    is_calling.recv().unwrap();
    let writer = memory.clone();
    thread::spawn(move || writer.set("n", 3));
    is_committing.recv().unwrap();
    assert_eq!(changes.try_recv().unwrap().value, 2);

    if std::os::unix::process::parent_id() != 0 {
        // The fork ends by itself, or the test ends both.
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        std::process::exit(0);
    }
    let closed = |what: &str, kind: Option<ErrorKind>| {
        assert_eq!(kind, Some(ErrorKind::Closed), "{what}");
        child::report(what);
    };
    let kind = |error: liveprops::Error| error.kind();
    let long = Duration::from_secs(3600);
    assert_eq!((n.get(), props.get::<i64>("n").unwrap()), (2, 2));
    assert_eq!(props.snapshot().get::<i64>("a").unwrap(), 1);
    assert_eq!(props.explain("n").layers.len(), 3);
    assert!(props.get_or("n", Vec::<bool>::new()).is_empty());
    child::report("it reads");
    assert!(!props.health().is_up());
    assert!(!matches!(props.status(), liveprops::health::Status::Up));
    child::report("health is not up");
    closed("refresh_now", props.refresh_now().err().map(kind));
    closed("set", props.set("x", 1).err().map(kind));
    closed("remove", props.remove("x").err().map(kind));
    closed(
        "transaction",
        props.transaction(|tx| tx.set("x", 1)).err().map(kind),
    );
    closed(
        "add_source",
        props.add_source(Memory::new()).err().map(kind),
    );
    let source = props.snapshot().explain("n").layers[1].source;
    closed(
        "refresh_source",
        props.refresh_source(source).err().map(kind),
    );
    closed("remove_source", props.remove_source(source).err().map(kind));
    closed("confirm", props.confirm(source).err().map(kind));
    closed("history", props.history().err().map(kind));
    closed("rollback_to", props.rollback_to(1).err().map(kind));
    closed("unpin", props.unpin().err().map(kind));
    closed(
        "check",
        props
            .check(source, liveprops::Document::new())
            .err()
            .map(kind),
    );
    closed("wait_for", props.wait_for(["never"], long).err().map(kind));
    closed(
        "property",
        props.property::<i64>("a").build().err().map(kind),
    );
    closed("bind", props.bind::<Value>("a").build().err().map(kind));
    closed(
        "wait_until",
        n.wait_until(|n| *n == 9, long).err().map(kind),
    );
    closed("recv_timeout", changes.recv_timeout(long).err().map(kind));
    let on_change_under = props.on_change_under("", |_| ());
    closed("on_change_under", on_change_under.err().map(kind));
    drop(n.on_change(|_| ()));
    drop(n.changes());
    drop(props.on_source_event(|_| ()));
    n.on_change(|_| ()).detach();
    assert_eq!(n.map(|n| n + 1).get(), 3);
    child::report("subscribing waits for nothing");
    let waker = std::task::Waker::noop();
    let mut context = std::task::Context::from_waker(waker);
    let polled = std::pin::pin!(changes.changed()).poll(&mut context);
    let Poll::Ready(Err(error)) = polled else {
        panic!("it would stay pending for ever");
    };
    assert_eq!(error.kind(), ErrorKind::Closed);
    stuck.close_and_wait().unwrap();
    idle.close_and_wait().unwrap();
    drop(under);
    child::report("subscriptions end");
    let clone = props.clone();
    drop(props);
    drop(clone);
    child::report("dropping waits for nothing");
    assert_eq!(n.get(), 2);
    let own = Properties::builder()
        .source(Memory::from([("n", 7)]))
        .build()
        .unwrap();
    own.set("n", 8).unwrap();
    assert_eq!(own.get::<i64>("n").unwrap(), 8);
    assert!(own.health().is_up());
    drop(own);
    drop(Arc::new(n));
    child::report("the fork ends");
    std::process::exit(0);
}
