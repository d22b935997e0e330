//! Files and directories as sources: edits on the disk, and their effect on handles, callbacks,
//! health and explanations.
#![cfg(all(unix, feature = "toml", feature = "watch"))]
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use liveprops::explain::LayerValue;
use liveprops::health::{SourceEventKind, Status};
use liveprops::property::Subscription;
use liveprops::source::{RemovalGuard, Source};
use liveprops::sources::{Dir, File};
use liveprops::{DynamicProperty, ErrorKind, Key, Properties};

#[cfg(target_os = "linux")]
use support::child::{self, Child};
use support::disk::{
    self, ConfigDir, EventLog, SOON, health, is_up, open, replace, replace_link, stale,
    wait_for_event,
};
use support::time_until;

fn number(props: &Properties, key: &str) -> Option<i64> {
    props.get_opt(key).unwrap()
}

/// Returns a channel with the changes of a property.
fn changes(of: &DynamicProperty<i64>) -> (Receiver<(i64, i64)>, Subscription) {
    let (send, receive) = channel();
    let guard = of.on_change(move |change| {
        let _ = send.send((*change.old_value(), *change.new_value()));
    });
    (receive, guard)
}

#[test]
fn an_edit_by_rename_reaches_handle_and_callback_once_with_its_origin() {
    let config_dir = ConfigDir::new("app.toml", "[http]\nretries = 3\n");
    let props = config_dir.open();
    let retries = props.property::<u32>("http.retries").build().unwrap();
    let (send, changes) = channel();
    let _guard = retries.on_change(move |change| {
        let text = |origin: Option<&liveprops::Origin>| origin.unwrap().to_string();
        let seen = (
            *change.old_value(),
            *change.new_value(),
            change.generation(),
        );
        let _ = send.send((seen, text(change.old_origin()), text(change.new_origin())));
    });
    let before = props.generation();
    replace(&config_dir.path, "\n[http]\n  retries =  4\n");
    let (seen, old, new) = changes.recv_timeout(SOON).unwrap();
    assert_eq!(seen, (3, 4, before + 1));
    assert_eq!(old, config_dir.origin("2:11"));
    assert_eq!(new, config_dir.origin("3:14"));
    assert_eq!(retries.get(), 4, "the handle is not behind its callback");
    // Another change of the first edit would arrive before the second one.
    replace(&config_dir.path, "http.retries = 5\n");
    let (seen, ..) = changes.recv_timeout(SOON).unwrap();
    assert_eq!(seen, (4, 5, before + 2));
    assert!(changes.try_recv().is_err(), "each edit is reported once");
}

/// The debounce time of a file that is written in place.
const QUIET: Duration = Duration::from_millis(30);

#[test]
fn an_in_place_rewrite_is_never_half_applied() {
    const KEYS: usize = 800;
    const ROUNDS: usize = 300;
    // Every prefix of the text parses.
    let body = |value: usize| -> String {
        let lines = (0..KEYS).map(|key| format!("k{key} = {value}\n"));
        format!("[t]\n{}", lines.collect::<String>())
    };
    let config_dir = ConfigDir::new("app.toml", body(0));
    let props = config_dir.open();
    let table = props.bind::<BTreeMap<String, usize>>("t").build().unwrap();
    let (done, mixed) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut longest = Duration::ZERO;
    let versions = thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let (table, done, mixed) = (table.clone(), &done, &mixed);
                scope.spawn(move || {
                    let mut versions = HashSet::new();
                    let mut newest = 0;
                    while !done.load(Ordering::Relaxed) {
                        let seen = table.load();
                        let first = seen.values().next().copied().unwrap_or_default();
                        let whole = seen.len() == KEYS && seen.values().all(|it| *it == first);
                        if !whole || first < newest {
                            mixed.fetch_add(1, Ordering::Relaxed);
                        }
                        newest = first;
                        versions.insert(first);
                        drop(seen);
                        thread::sleep(Duration::from_micros(200));
                    }
                    versions
                })
            })
            .collect();
        for value in 1..=ROUNDS {
            let text = body(value);
            let (parts, pause) = match value % 5 {
                0 => (3, QUIET / 3),
                parts => (parts, Duration::ZERO),
            };
            let mut begun = Instant::now();
            let mut file = fs::File::create(&config_dir.path).unwrap();
            for part in text.as_bytes().chunks(text.len().div_ceil(parts)) {
                thread::sleep(pause);
                file.write_all(part).unwrap();
                longest = longest.max(begun.elapsed());
                begun = Instant::now();
            }
            drop(file);
            let long = value % 20 == 0;
            thread::sleep(if long { QUIET * 2 } else { QUIET / 20 });
        }
        time_until(SOON, || table.load().get("k799") == Some(&ROUNDS));
        done.store(true, Ordering::Relaxed);
        let versions = readers.into_iter().map(|reader| reader.join().unwrap());
        versions.fold(HashSet::new(), |all, some| &all | &some)
    });
    assert_eq!(table.load().get("k799"), Some(&ROUNDS), "the last is seen");
    assert!(versions.len() > 5, "only {} were seen", versions.len());
    let mixed = mixed.into_inner();
    if longest < QUIET {
        assert_eq!(mixed, 0, "half a file was seen");
    } else {
        // A writer that pauses for this long looks like one that has finished.
        println!("not checked: a writer stopped for {longest:?}; {mixed} halves were seen");
    }
}

#[test]
fn identical_bytes_fire_nothing_and_make_no_generation() {
    let text = "a = 1\n";
    let config_dir = ConfigDir::new("app.toml", text);
    let props = config_dir.open();
    let a = props.property::<i64>("a").build().unwrap();
    let (changes, _guard) = changes(&a);
    let event_log = EventLog::of(&props);
    let before = props.generation();
    for _ in 0..5 {
        replace(&config_dir.path, text);
        fs::write(&config_dir.path, text).unwrap();
        thread::sleep(QUIET * 2);
    }
    replace(&config_dir.path, "a = 2\n");
    assert_eq!(changes.recv_timeout(SOON).unwrap(), (1, 2));
    assert_eq!(props.generation(), before + 1);
    wait_for_event("the update is reported", || event_log.updated() == 1);
    assert!(changes.try_recv().is_err());
    assert!(is_up(&props));
}

#[test]
fn a_value_that_moves_to_another_line_is_no_change_and_has_a_new_origin() {
    let config_dir = ConfigDir::new("app.toml", "a = 1\nb = 1\n");
    let props = config_dir.open();
    let a = props.property::<i64>("a").build().unwrap();
    let (value_changes, _guard) = changes(&a);
    let (batches, changes) = channel();
    let _under = props.on_change_under("", move |batch| {
        let _ = batches.send(batch.generation());
    });
    let before = props.generation();
    let explained_origin = |props: &Properties| props.explain("a").origin.unwrap().to_string();
    assert_eq!(explained_origin(&props), config_dir.origin("1:5"));
    replace(&config_dir.path, "# a comment\n\na = 1\nb = 1\n");
    wait_for_event("explain shows the new line", || {
        explained_origin(&props) == config_dir.origin("3:5")
    });
    let origin = || a.versioned().origin().map(ToString::to_string);
    assert_eq!(origin(), Some(config_dir.origin("3:5")));
    assert_eq!(props.generation(), before, "nothing changed");
    replace(&config_dir.path, "# a comment\n\na = 2\nb = 1\n");
    assert_eq!(value_changes.recv_timeout(SOON).unwrap(), (1, 2));
    assert_eq!(changes.recv_timeout(SOON).unwrap(), before + 1);
    assert!(value_changes.try_recv().is_err() && changes.try_recv().is_err());
}

#[test]
fn a_swap_of_a_mounted_config_map_is_one_generation_and_one_batch() {
    const FILES: i64 = 5;
    const SWAPS: i64 = 200;
    let dir = tempfile::tempdir().unwrap();
    let version = |value: i64| {
        let name = format!("..v{value}");
        fs::create_dir(dir.path().join(&name)).unwrap();
        for file in 0..FILES {
            let path = dir.path().join(&name).join(format!("f{file}.toml"));
            fs::write(path, format!("k{file} = {value}\n")).unwrap();
        }
        name
    };
    symlink(version(0), dir.path().join("..data")).unwrap();
    for file in 0..FILES {
        let name = format!("f{file}.toml");
        symlink(format!("..data/{name}"), dir.path().join(name)).unwrap();
    }
    let props = open(Dir::new(dir.path()));
    let (send, batches) = channel();
    let _guard = props.on_change_under("", move |batch| {
        let _ = send.send((batch.generation(), batch.changes().len()));
    });
    let (done, mixed) = (AtomicBool::new(false), AtomicUsize::new(0));
    let begin = props.generation();
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let view = props.snapshot();
                    let read = |file| view.get::<i64>(&format!("k{file}")).ok();
                    let seen: HashSet<_> = (0..FILES).map(read).collect();
                    if seen.len() != 1 || seen.contains(&None) {
                        mixed.fetch_add(1, Ordering::Relaxed);
                    }
                    thread::yield_now();
                }
            });
        }
        for value in 1..=SWAPS {
            let name = version(value);
            replace_link(&dir.path().join("..data"), &name);
            fs::remove_dir_all(dir.path().join(format!("..v{}", value - 1))).unwrap();
            let received = batches.recv_timeout(SOON);
            let want = (begin + value as u64, FILES as usize);
            if received != Ok(want) {
                done.store(true, Ordering::Relaxed);
                panic!("swap {value}: wanted {want:?}, received {received:?}");
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(mixed.into_inner(), 0, "a mix was seen");
    assert_eq!(props.generation(), begin + SWAPS as u64);
    assert!(batches.try_recv().is_err());
}

#[test]
fn a_replaced_link_to_a_release_directory_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for value in 0..=3 {
        fs::create_dir_all(at(&format!("rel{value}/etc"))).unwrap();
        fs::write(
            at(&format!("rel{value}/etc/app.toml")),
            format!("a = {value}\n"),
        )
        .unwrap();
    }
    symlink("rel0", at("current")).unwrap();
    let props = open(File::new(at("current/etc/app.toml")));
    let a = props.property::<i64>("a").build().unwrap();
    let (changes, _guard) = changes(&a);
    for value in 1..=3 {
        replace_link(&at("current"), &format!("rel{value}"));
        assert_eq!(changes.recv_timeout(SOON), Ok((value - 1, value)));
    }
    fs::remove_dir_all(at("rel2")).unwrap();
    replace(&at("rel3/etc/app.toml"), "a = 9\n");
    assert_eq!(changes.recv_timeout(SOON), Ok((3, 9)));
    assert!(is_up(&props));
}

#[test]
fn an_optional_file_that_appears_later_is_loaded_within_a_second() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for (round, parent) in ["", "deep", "three/levels/down"].into_iter().enumerate() {
        let parent = at(parent);
        let path = parent.join(format!("app{round}.toml"));
        let props = Properties::builder()
            .default("a", 0)
            .source(File::new(&path).allow_missing())
            .build()
            .unwrap();
        let a = props.property::<i64>("a").build().unwrap();
        let (changes, _guard) = changes(&a);
        assert_eq!(a.get(), 0, "the lower layer counts while there is no file");
        assert!(props.health().is_up(), "nothing is wrong");
        fs::create_dir_all(&parent).unwrap();
        fs::write(&path, "a = 1\n").unwrap();
        let begun = Instant::now();
        assert_eq!(changes.recv_timeout(SOON), Ok((0, 1)), "{}", path.display());
        let took = begun.elapsed();
        assert!(took < SOON, "{}: {took:?}", path.display());
    }
    let props = open(Dir::new(at("conf.d")).allow_missing());
    fs::create_dir(at("conf.d")).unwrap();
    fs::write(at("conf.d/1.toml"), "a = 1\n").unwrap();
    assert!(time_until(Duration::from_secs(1), || number(&props, "a") == Some(1)).is_some());
}

#[test]
fn a_required_file_that_is_absent_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let (file, conf) = (dir.path().join("no.toml"), dir.path().join("no/conf.d"));
    let error = Properties::builder()
        .source(File::new(&file))
        .source(Dir::new(&conf))
        .build()
        .unwrap_err();
    for path in [file, conf] {
        let path = path.display().to_string();
        assert!(error.to_string().contains(&path), "{error}");
    }
    assert!(error.iter().all(|it| it.kind() == ErrorKind::Unavailable));
}

#[test]
fn fragments_are_added_changed_and_removed_and_later_names_win() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("10-a.toml"), "tag = 10\na = 1\n").unwrap();
    fs::write(at("20-b.toml"), "tag = 20\nb = 1\n").unwrap();
    fs::write(at("30-c.toml"), "tag = 30\nc = 1\n").unwrap();
    fs::write(at("40-broken.toml"), "tag = 40\n[bro").unwrap();
    fs::write(at(".50-hidden.toml"), "tag = 50\n").unwrap();
    fs::write(at("60-notes.txt"), "tag = 60\n").unwrap();
    let props = open(Dir::new(dir.path()));
    assert_eq!(number(&props, "tag"), Some(30));
    let origin = || props.explain("tag").origin.unwrap().to_string();
    assert!(origin().ends_with("30-c.toml:1:7"), "{}", origin());
    let message = |part: &str| {
        let problems = health(&props).problems;
        problems
            .iter()
            .any(|problem| problem.to_string().contains(part))
    };
    assert!(message("40-broken.toml:2"), "{:?}", health(&props));

    fs::write(at("35-new.toml"), "tag = 35\n").unwrap();
    wait_for_event("an added fragment wins", || {
        number(&props, "tag") == Some(35)
    });
    fs::rename(at("35-new.toml"), at("05-new.toml")).unwrap();
    wait_for_event("renamed to the front it loses", || {
        number(&props, "tag") == Some(30)
    });
    fs::remove_file(at("30-c.toml")).unwrap();
    wait_for_event("a deleted fragment removes its keys", || {
        number(&props, "tag") == Some(20) && number(&props, "c").is_none()
    });
    replace(&at("20-b.toml"), "tag = [\n");
    wait_for_event("a broken fragment is reported", || message("20-b.toml"));
    assert_eq!(number(&props, "tag"), Some(20), "and keeps its values");
    replace(&at("40-broken.toml"), "tag = 40\n");
    wait_for_event("a repaired fragment counts", || {
        number(&props, "tag") == Some(40)
    });
    replace(&at("20-b.toml"), "b = 2\n");
    wait_for_event("the other one as well", || number(&props, "b") == Some(2));
    assert!(health(&props).problems.is_empty());
    assert_eq!(number(&props, "a"), Some(1));
}

#[test]
fn a_fragment_that_breaks_is_rejected_as_a_file_is_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("1.toml"), "a = 1\n").unwrap();
    fs::write(at("2.toml"), "b = 2\n").unwrap();
    let props = open(Dir::new(dir.path()).poll(Duration::from_millis(50)));
    let event_log = EventLog::of(&props);
    let rejected = || event_log.count(|kind| matches!(kind, SourceEventKind::Rejected(_)));
    assert!(is_up(&props));
    replace(&at("2.toml"), "b = [\n");
    wait_for_event("it is an event", || rejected() == 1);
    assert!(stale(&props).is_some_and(|why| why.contains("2.toml:1")));
    assert!(!props.health().is_up());
    let entry = &props.health().rejected[0];
    assert!(entry.error.to_string().contains("2.toml:1"), "{entry:?}");
    assert_eq!(entry.source, Some(health(&props).source));
    assert_eq!(number(&props, "b"), Some(2), "its values stay");
    let refreshed = props.refresh_now().unwrap_err().to_string();
    assert!(refreshed.contains("2.toml:1"), "{refreshed}");
    // Other files change in the meantime, which repeats no report.
    replace(&at("1.toml"), "a = 10\n");
    wait_for_event("others change", || number(&props, "a") == Some(10));
    assert!(!is_up(&props));
    assert_eq!((rejected(), health(&props).rejections), (1, 1));
    // The previous content counts as repaired, too.
    replace(&at("2.toml"), "b = 2\n");
    wait_for_event("it recovers", || is_up(&props));
    wait_for_event("which is an event", || event_log.recovered() == 1);
    assert_eq!(event_log.reconnected(), 0, "it has answered all the time");
    assert!(props.health().is_up());
    props.refresh_now().unwrap();
}

#[test]
fn a_fragment_that_was_rejected_and_then_breaks_keeps_its_last_accepted_values() {
    for broken in ["x = = \n", "# Nothing.\n", ""] {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("10-a.toml"), "x = 1\n").unwrap();
        fs::write(at("20-b.toml"), "y = 1\n").unwrap();
        let props = open(Dir::new(dir.path()).poll(Duration::from_millis(50)));
        let x = props.property::<u32>("x").build().unwrap();
        replace(&at("10-a.toml"), "x = \"many\"\n");
        wait_for_event("the text is rejected", || {
            stale(&props).is_some_and(|why| why.contains("many"))
        });
        replace(&at("10-a.toml"), broken);
        wait_for_event("the fragment is reported", || {
            stale(&props).is_some_and(|why| why.contains("10-a.toml") && !why.contains("many"))
        });
        replace(&at("20-b.toml"), "y = 2\n");
        wait_for_event("another fragment changes", || {
            number(&props, "y") == Some(2)
        });
        assert_eq!(x.get(), 1, "{broken:?}");
        let why = stale(&props).unwrap();
        assert!(why.contains("10-a.toml") && !why.contains("many"), "{why}");
        replace(&at("10-a.toml"), "x = 3\n");
        wait_for_event("the fragment is repaired", || x.get() == 3 && is_up(&props));
    }
}

#[test]
fn a_fragment_that_was_never_accepted_has_no_values_after_it_breaks() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("10-a.toml"), "x = 1\n").unwrap();
    let props = open(Dir::new(dir.path()).poll(Duration::from_millis(50)));
    let x = props.property::<u32>("x").build().unwrap();
    replace(&at("20-b.toml"), "x = \"many\"\nz = 1\n");
    wait_for_event("the text is rejected", || {
        stale(&props).is_some_and(|why| why.contains("many"))
    });
    replace(&at("20-b.toml"), "z = = \n");
    replace(&at("10-a.toml"), "x = 2\n");
    wait_for_event("another fragment changes", || x.get() == 2);
    wait_for_event("the fragment is reported", || {
        stale(&props).is_some_and(|why| why.contains("20-b.toml:1"))
    });
    assert_eq!(number(&props, "z"), None);
    // A fragment without values removes nothing here.
    replace(&at("20-b.toml"), "# Nothing.\n");
    wait_for_event("nothing is wrong", || is_up(&props));
}

#[test]
fn a_fragment_that_breaks_after_a_confirmed_removal_does_not_bring_the_keys_back() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("10-a.toml"), "a = 1\nb = 1\nc = 1\nd = 1\n").unwrap();
    fs::write(at("20-b.toml"), "y = 1\n").unwrap();
    let source =
        Dir::new(dir.path()).with(|policy| policy.guarded(RemovalGuard::new().min_keys(1)));
    let props = open(source);
    // The watch has sent its first update.
    replace(&at("20-b.toml"), "y = 2\n");
    wait_for_event("the watch goes on", || number(&props, "y") == Some(2));
    replace(&at("10-a.toml"), "a = 1\n");
    wait_for_event("the removal is withheld", || {
        health(&props).withheld.is_some()
    });
    props.confirm(health(&props).source).unwrap();
    assert_eq!(number(&props, "b"), None);
    replace(&at("10-a.toml"), "a = =\n");
    replace(&at("20-b.toml"), "y = 3\n");
    wait_for_event("another fragment changes", || {
        number(&props, "y") == Some(3)
    });
    let values = ["a", "b", "c"].map(|key| number(&props, key));
    assert_eq!(values, [Some(1), None, None]);
    assert!(stale(&props).is_some_and(|why| why.contains("10-a.toml:1")));
}

#[test]
fn a_file_of_a_cascade_that_was_rejected_and_then_breaks_keeps_its_last_accepted_values() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("app.toml"), "x = 1\ny = 1\n").unwrap();
    fs::write(at("app-prod.toml"), "x = 2\n").unwrap();
    let files = File::cascade(at("app.toml"), ["prod"]).unwrap();
    let files = files
        .into_iter()
        .map(|it| it.poll(Duration::from_millis(50)));
    let props = Properties::builder().sources(files).build().unwrap();
    let x = props.property::<u32>("x").build().unwrap();
    let reports = |text: &str| {
        let all = props.health().sources;
        all.iter()
            .any(|it| format!("{:?}", it.status).contains(text))
    };
    replace(&at("app-prod.toml"), "x = \"many\"\n");
    wait_for_event("the text is rejected", || reports("many"));
    replace(&at("app-prod.toml"), "x = = \n");
    wait_for_event("the file is reported", || {
        reports("app-prod.toml:1") && !reports("many")
    });
    replace(&at("app.toml"), "x = 1\ny = 2\n");
    wait_for_event("the other file changes", || number(&props, "y") == Some(2));
    assert_eq!(x.get(), 2);
    replace(&at("app-prod.toml"), "x = 3\n");
    wait_for_event("the file is repaired", || {
        x.get() == 3 && props.health().is_up()
    });
}

#[test]
fn a_broken_link_keeps_its_values_until_the_link_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let (conf, at) = (dir.path().join("conf.d"), |name: &str| {
        dir.path().join(name)
    });
    fs::create_dir(&conf).unwrap();
    fs::write(at("real.toml"), "b = 2\n").unwrap();
    fs::write(conf.join("1.toml"), "a = 1\n").unwrap();
    symlink("../real.toml", conf.join("2.toml")).unwrap();
    let props = open(Dir::new(&conf));
    assert_eq!(number(&props, "b"), Some(2));
    for round in 3..5 {
        fs::remove_file(at("real.toml")).unwrap();
        wait_for_event("it is reported", || !is_up(&props));
        let why = stale(&props).unwrap();
        assert!(why.contains("2.toml") && why.contains("link"), "{why}");
        assert_eq!(number(&props, "b"), Some(round - 1));
        fs::write(at("real.toml"), format!("b = {round}\n")).unwrap();
        wait_for_event("the target is back", || number(&props, "b") == Some(round));
        wait_for_event("all is well", || is_up(&props));
    }
    fs::remove_file(at("real.toml")).unwrap();
    wait_for_event("it is reported", || !is_up(&props));
    fs::remove_file(conf.join("2.toml")).unwrap();
    wait_for_event("the name is gone", || number(&props, "b").is_none());
    wait_for_event("all is well", || is_up(&props));
}

#[test]
fn a_fragment_that_is_replaced_by_a_directory_keeps_its_values() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("1.toml"), "a = 1\n").unwrap();
    fs::create_dir(at("2.toml")).unwrap();
    let props = open(Dir::new(dir.path()).poll(Duration::from_millis(50)));
    assert!(is_up(&props), "a subdirectory is no fragment");
    fs::remove_file(at("1.toml")).unwrap();
    fs::create_dir(at("1.toml")).unwrap();
    wait_for_event("it is reported", || !is_up(&props));
    assert_eq!(number(&props, "a"), Some(1));
    fs::remove_dir(at("1.toml")).unwrap();
    wait_for_event("the name is gone", || {
        number(&props, "a").is_none() && is_up(&props)
    });
}

#[test]
fn overlays_of_a_cascade_appear_and_vanish_and_the_base_shows_again() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("app.toml"), "tag = 1\nbase = 1\n").unwrap();
    fs::write(at("app-prod-eu.toml"), "tag = 3\neu = 1\n").unwrap();
    let props = Properties::builder()
        .sources(File::cascade(at("app.toml"), ["prod", "eu"]).unwrap())
        .build()
        .unwrap();
    let tag = props.property::<i64>("tag").build().unwrap();
    let (changes, _guard) = changes(&tag);
    assert_eq!((tag.get(), number(&props, "eu")), (3, Some(1)));

    fs::write(at("app-prod.toml"), "tag = 2\nprod = 1\n").unwrap();
    wait_for_event("the overlay in the middle is read", || {
        number(&props, "prod") == Some(1)
    });
    assert_eq!(tag.get(), 3, "the stronger one still wins");
    let layer_of = |name: &str| {
        let layers = props.explain("tag").layers;
        let layer = layers.into_iter().find(|layer| layer.name.ends_with(name));
        (layer.as_ref().unwrap().wins, layer.unwrap().value)
    };
    assert!(matches!(layer_of("app-prod.toml"), (false, LayerValue::Value(two)) if two == "2"));

    fs::remove_file(at("app-prod-eu.toml")).unwrap();
    assert_eq!(changes.recv_timeout(SOON * 2), Ok((3, 2)));
    assert_eq!(number(&props, "eu"), None);
    fs::remove_file(at("app-prod.toml")).unwrap();
    assert_eq!(changes.recv_timeout(SOON * 2), Ok((2, 1)));
    fs::write(at("app-prod-eu.toml"), "tag = 4\n").unwrap();
    assert_eq!(changes.recv_timeout(SOON), Ok((1, 4)));
    assert_eq!(number(&props, "base"), Some(1));
    assert!(props.health().is_up(), "{:?}", props.health());
}

#[test]
fn an_overlay_that_loses_its_last_value_keeps_its_values_in_every_format() {
    let cuts = [
        ("toml", "a = 2\n", "# A comment.\n"),
        ("toml", "a = 2\n", "[table]\n"),
        ("json", r#"{"a": 2}"#, "{}"),
        ("json", r#"{"a": 2}"#, r#"{"b": {}}"#),
        ("yaml", "a: 2\n", "---\n"),
        ("yaml", "a: 2\n", "# A comment.\n"),
        ("yaml", "a: 2\n", "{}"),
        ("properties", "a=2\n", "! A comment.\n"),
        ("env", "A=2\n", "# A comment.\n"),
    ];
    for (extension, full, cut) in cuts.into_iter().filter(|cut| disk::is_supported(cut.0)) {
        let config_dir = ConfigDir::new("base.toml", "a = 1\n");
        let name = format!("over.{extension}");
        fs::write(config_dir.at(&name), full).unwrap();
        let over = File::new(config_dir.at(&name))
            .allow_missing()
            .drop_when_missing();
        let props = Properties::builder()
            .source(File::new(&config_dir.path))
            .source(over)
            .build()
            .unwrap();
        assert_eq!(number(&props, "a"), Some(2));
        fs::write(config_dir.at(&name), cut).unwrap();
        let reason = || {
            let sources = props.health().sources;
            let over = sources.iter().find(|it| it.name.contains(&name)).cloned();
            match over.unwrap().status {
                Status::Stale { reason, .. } => Some(reason.to_string()),
                _ => None,
            }
        };
        let what = format!("{name} with {cut:?} is reported");
        wait_for_event(&what, || reason().is_some());
        let reason = reason().unwrap();
        assert!(reason.contains("became empty"), "{reason}");
        assert!(reason.contains("allow_empty"), "{reason}");
        assert_eq!(number(&props, "a"), Some(2), "{name}: {cut:?}");
        fs::write(config_dir.at(&name), full.replace('2', "3")).unwrap();
        wait_for_event(&name, || number(&props, "a") == Some(3));
        assert!(time_until(SOON, || props.health().is_up()).is_some());
        // A deleted file is intended: its values are removed.
        fs::remove_file(config_dir.at(&name)).unwrap();
        wait_for_event(&name, || number(&props, "a") == Some(1));
    }
}

/// Runs a test in a mount namespace, for each permitted kind of mount.
#[cfg(target_os = "linux")]
#[test]
fn a_directory_that_is_unmounted_and_mounted_again_is_watched_again() {
    let test = "a_directory_that_is_unmounted_and_mounted_again_is_watched_again";
    if child::role().is_some() {
        let mounts = [
            ("device", "mount -o loop image at"),
            ("memory", "mount -t tmpfs none at"),
            ("other", "mount --bind elsewhere at"),
        ];
        let followed = thread::scope(|scope| {
            let run = |(name, mount)| scope.spawn(move || remount(name, mount));
            mounts.map(run).map(|mount| mount.join().unwrap())
        });
        return child::report(format!(
            "followed {}",
            followed.into_iter().flatten().count()
        ));
    }
    match Child::of(test).under(&["unshare", "-m"]) {
        None => println!("skipped: unshare is not permitted"),
        Some(child) => child.succeeds(),
    }
}

/// Unmounts and mounts the directory of a followed file; `None` if mounts of this kind are not
/// permitted.
#[cfg(target_os = "linux")]
fn remount<'a>(name: &'a str, mount: &str) -> Option<&'a str> {
    const POLL: Duration = Duration::from_secs(1);
    let dir = tempfile::tempdir().unwrap();
    let shell = |line: &str| {
        let mut shell = Command::new("sh");
        let done = shell.args(["-ec", line]).current_dir(dir.path()).output();
        done.unwrap().status.success()
    };
    let image = "mkdir at elsewhere; truncate -s 4M image; ! type mkfs.ext4 || mkfs.ext4 -q image";
    if !shell(image) || !shell(mount) {
        println!("skipped: {name}");
        return None;
    }
    let path = dir.path().join("at/app.toml");
    let text = |value: i64| format!("a = {value}\n");
    replace(&path, text(0));
    let props = open(File::new(&path).poll(POLL));
    assert_eq!(number(&props, "a"), Some(0));
    // The source may be reading the file.
    let unmounted = time_until(SOON, || shell("umount at"));
    assert!(unmounted.is_some() && shell(mount), "{name}");
    // Without a watch, polls find these changes.
    let (mut value, mut quick) = (0, 0);
    let followed = time_until(10 * POLL, || {
        value += 1;
        replace(&path, text(value));
        let seen = time_until(3 * POLL, || number(&props, "a") == Some(value));
        let seen = seen.expect("no change is lost");
        quick = if seen < POLL / 3 { quick + 1 } else { 0 };
        quick == 4
    });
    drop(props);
    shell("umount at");
    assert!(followed.is_some(), "{name}: only polls find changes");
    Some(name)
}

#[test]
fn a_change_with_an_older_time_stamp_is_detected() {
    let config_dir = ConfigDir::new("app.toml", "a = 0\n");
    let props = config_dir.open();
    let a = props.property::<i64>("a").build().unwrap();
    let (changes, _guard) = changes(&a);
    for value in 1..=3 {
        let aside = config_dir.at(".restored");
        fs::write(&aside, format!("a = {value}\n")).unwrap();
        let days = Duration::from_secs(86_400 * value as u64);
        let file = fs::File::options().write(true).open(&aside).unwrap();
        file.set_modified(SystemTime::now() - days).unwrap();
        fs::rename(&aside, &config_dir.path).unwrap();
        assert_eq!(changes.recv_timeout(SOON), Ok((value - 1, value)));
    }
}

#[test]
fn each_save_of_an_editor_is_one_change_and_never_a_missing_file() {
    let config_dir = ConfigDir::new("app.toml", "a = 0\n");
    let props = config_dir.open();
    let a = props.property::<i64>("a").build().unwrap();
    let (changes, _guard) = changes(&a);
    let event_log = EventLog::of(&props);
    let text = |value: i64| format!("a = {value}\n");
    for round in (0..9).step_by(3) {
        // vim with a back-up: moves the file, writes a new one, deletes the back-up.
        fs::write(config_dir.at(".app.toml.swp"), "swap").unwrap();
        fs::write(config_dir.at("4913"), "").unwrap();
        fs::remove_file(config_dir.at("4913")).unwrap();
        fs::rename(&config_dir.path, config_dir.at("app.toml~")).unwrap();
        fs::write(&config_dir.path, text(round + 1)).unwrap();
        fs::remove_file(config_dir.at("app.toml~")).unwrap();
        fs::remove_file(config_dir.at(".app.toml.swp")).unwrap();
        assert_eq!(changes.recv_timeout(SOON), Ok((round, round + 1)));
        // sed -i: a new file renamed over.
        let edit = format!("s/= .*/= {}/", round + 2);
        let mut sed = Command::new("sed");
        assert!(
            sed.arg("-i")
                .arg(edit)
                .arg(&config_dir.path)
                .status()
                .unwrap()
                .success()
        );
        assert_eq!(changes.recv_timeout(SOON), Ok((round + 1, round + 2)));
        // nano and a shell redirection: write in place.
        fs::write(&config_dir.path, text(round + 3)).unwrap();
        assert_eq!(changes.recv_timeout(SOON), Ok((round + 2, round + 3)));
    }
    wait_for_event("each edit is reported", || event_log.updated() == 9);
    assert_eq!(event_log.events().len(), 9, "{:?}", event_log.events());
    assert!(changes.try_recv().is_err());
}

#[test]
fn without_file_events_changes_are_found_by_polling() {
    let config_dir = ConfigDir::new("app.toml", "a = 0\n");
    let poll = Duration::from_millis(200);
    let props = open(File::new(&config_dir.path).without_watch().poll(poll));
    let conf = tempfile::tempdir().unwrap();
    fs::write(conf.path().join("1.toml"), "b = 0\n").unwrap();
    props
        .add_source(Dir::new(conf.path()).without_watch().poll(poll))
        .unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&seen);
    let a = props.property::<i64>("a").build().unwrap();
    let _guard = a.on_change(move |change| {
        into.lock()
            .unwrap()
            .push((*change.old_value(), *change.new_value()))
    });
    for value in 1..=3 {
        fs::write(&config_dir.path, format!("a = {value}\n")).unwrap();
        replace(&conf.path().join("1.toml"), format!("b = {value}\n"));
        let both = || a.get() == value && number(&props, "b") == Some(value);
        // Two poll intervals, the debounce time, and a margin for a busy machine.
        assert!(time_until(poll * 2 + Duration::from_millis(800), both).is_some());
    }
    wait_for_event("all changes are reported", || {
        *seen.lock().unwrap() == [(0, 1), (1, 2), (2, 3)]
    });
    let asked_for = props
        .health()
        .sources
        .iter()
        .all(|it| it.degraded.is_none());
    assert!(asked_for && stale_anywhere(&props).is_none());
}

fn stale_anywhere(props: &Properties) -> Option<String> {
    (!props.health().is_up()).then(|| format!("{:?}", props.health()))
}

#[test]
fn a_file_that_is_removed_and_restored_keeps_its_values() {
    let config_dir = ConfigDir::new("app.toml", "a = 1\n");
    let props = config_dir.open();
    let event_log = EventLog::of(&props);
    fs::remove_file(&config_dir.path).unwrap();
    wait_for_event("health reports that it is missing", || {
        stale(&props).is_some_and(|why| why.contains("app.toml"))
    });
    assert_eq!(number(&props, "a"), Some(1));
    fs::write(&config_dir.path, "a = 1\n").unwrap();
    wait_for_event("it is up again", || is_up(&props));
    wait_for_event("the recovery is reported", || event_log.reconnected() == 1);
    assert_eq!(event_log.updated(), 0, "nothing changed");
}

#[test]
fn an_app_overrides_common_files_and_a_profile_overrides_both() {
    use liveprops::source::Scope;
    let dir = tempfile::tempdir().unwrap();
    let scope = Scope::app("checkout").profile("prod");
    let names = ["common", "common-prod", "checkout", "checkout-prod"];
    let path = |name: &str| dir.path().join(format!("{name}.toml"));
    for name in names {
        fs::write(path(name), format!("tag = \"{name}\"\n")).unwrap();
    }
    let props = Properties::builder()
        .sources(File::of_scope(dir.path(), &scope, "toml").unwrap())
        .build()
        .unwrap();
    let tag = props
        .property::<String>("tag")
        .default("nobody".into())
        .build()
        .unwrap();
    for name in names.into_iter().rev() {
        wait_for_event(name, || tag.get() == name);
        fs::remove_file(path(name)).unwrap();
    }
    wait_for_event("no overlay is left", || tag.get() == "nobody");
    fs::write(path("common-prod"), "tag = \"back\"\n").unwrap();
    wait_for_event("it is back", || tag.get() == "back");
    assert!(File::of_scope("", &Scope::app("../etc"), "toml").is_err());
    assert!(File::of_scope("", &Scope::app("a").profile("b/c"), "toml").is_err());
}

/// One file of this format.
#[cfg(all(feature = "yaml", feature = "json"))]
fn file_of(extension: &str, text: &str) -> (ConfigDir, Properties) {
    let config_dir = ConfigDir::new("app.toml", "");
    let path = config_dir.at(&format!("it.{extension}"));
    fs::write(&path, text).unwrap();
    let props = open(File::new(&path));
    (config_dir, props)
}

#[cfg(all(feature = "yaml", feature = "json"))]
#[test]
fn a_number_keeps_its_spelling_when_it_is_read_as_text() {
    let as_text = |extension: &str, pairs: &[(&str, &str)]| {
        let text: Vec<_> = pairs.iter().map(|(line, _)| *line).collect();
        let (_desk, props) = file_of(extension, &text.join("\n"));
        for (at, (line, wanted)) in pairs.iter().enumerate() {
            if !wanted.is_empty() {
                let key = format!("k{at}");
                assert_eq!(
                    &props.get::<String>(&key).unwrap(),
                    wanted,
                    "{extension} {line}"
                );
                let explained = props.explain(&key);
                assert_eq!(
                    explained.value.as_deref(),
                    Some(*wanted),
                    "{extension} {line}"
                );
            }
        }
    };
    as_text(
        "yaml",
        &[
            ("k0: 3.10", "3.10"),
            ("k1: 01234", "01234"),
            ("k2: 12e03", "12e03"),
            ("k3: +4930123", "+4930123"),
            ("k4: 0x00ff00", "0x00ff00"),
            ("k5: TRUE", "TRUE"),
            ("k6: 5", "5"),
            ("k7: 1.0", "1.0"),
            (
                "k8: 170141183460469231731687303715884105727",
                "170141183460469231731687303715884105727",
            ),
            ("k9: .5", ".5"),
            ("k10: 0o17", "0o17"),
            ("k11: !!float 1", "1"),
            ("k12: -0", "-0"),
            ("k13: .INF", ".INF"),
        ],
    );
    as_text(
        "toml",
        &[
            ("k0 = 1_000", "1_000"),
            ("k1 = 0xFF", "0xFF"),
            ("k2 = 1.10", "1.10"),
            ("k3 = +1", "+1"),
            ("k4 = 1e3", "1e3"),
            ("k5 = 7", "7"),
            ("k6 = true", "true"),
            ("k7 = 6_0.5_0", "6_0.5_0"),
            ("k8 = +inf", "+inf"),
        ],
    );
    as_text(
        "json",
        &[
            ("{", ""),
            ("\"k1\": 1.10,", "1.10"),
            ("\"k2\": 1E3,", "1E3"),
            ("\"k3\": -0,", "-0"),
            ("\"k4\": 18446744073709551616,", "18446744073709551616"),
            ("\"k5\": 12", "12"),
            ("}", ""),
        ],
    );
}

#[cfg(all(feature = "yaml", feature = "json"))]
#[test]
fn a_number_is_the_same_number_however_it_is_spelled() {
    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct All {
        hex: u32,
        float: f64,
        whole: u16,
        flag: bool,
        list: Vec<i64>,
        texts: Vec<String>,
        #[serde(flatten)]
        rest: BTreeMap<String, f64>,
    }
    let text = "hex: 0x1F\nfloat: 3.10\nwhole: 12e03\nflag: TRUE\nlist: [010, +5]\ntexts: [010, 1.50, True]\nx: 1.10\n";
    let (config_dir, props) = file_of("yaml", text);
    let all: All = props.get("").unwrap();
    let texts = ["010", "1.50", "True"].map(str::to_owned);
    let wanted = All {
        hex: 31,
        float: 3.1,
        whole: 12_000,
        flag: true,
        list: vec![10, 5],
        texts: texts.to_vec(),
        rest: BTreeMap::from([("x".to_owned(), 1.1)]),
    };
    assert_eq!(all, wanted);
    let error = props.get::<u8>("whole").unwrap_err();
    assert_eq!(error.found(), Some("float 12e03"));
    // Another spelling of the same number is a change of the text.
    let version = props.property::<String>("float").build().unwrap();
    replace(&config_dir.at("it.yaml"), text.replace("3.10", "3.1"));
    wait_for_event("the text changes", || version.get() == "3.1");
    // A condition compares the number, or the number and its spelling.
    let written = props.transaction(|tx| {
        tx.if_value("hex", Some(31.into()))?;
        tx.if_value(
            "hex",
            Some(liveprops::Value::from(31).with_spelling("0x1F")),
        )?;
        tx.set("z", 1)
    });
    written.unwrap();
    let written = props.transaction(|tx| {
        tx.if_value(
            "hex",
            Some(liveprops::Value::from(31).with_spelling("0x1f")),
        )?;
        tx.set("z", 2)
    });
    assert_eq!(written.unwrap_err().kind(), ErrorKind::Conflict);
}

#[test]
fn a_toml_date_reads_as_rfc_3339() {
    let dates = [
        ("1979-05-27 07:32:00", "1979-05-27T07:32:00"),
        ("1979-05-27T07:32:00Z", "1979-05-27T07:32:00Z"),
        (
            "1979-05-27t00:32:00.500-07:00",
            "1979-05-27T00:32:00.500-07:00",
        ),
        ("1979-05-27 07:32z", "1979-05-27T07:32:00Z"),
        ("1979-05-27 07:32", "1979-05-27T07:32:00"),
        ("1979-05-27", "1979-05-27"),
        ("07:32:00", "07:32:00"),
        ("07:32", "07:32:00"),
    ];
    let mut text = String::new();
    for (at, (written, _)) in dates.iter().enumerate() {
        text.push_str(&format!("d{at} = {written}\n"));
    }
    let config_dir = ConfigDir::new("app.toml", &text);
    let props = config_dir.open();
    for (at, (written, wanted)) in dates.iter().enumerate() {
        let key = format!("d{at}");
        assert_eq!(&props.get::<String>(&key).unwrap(), wanted, "{written}");
        let date = props.get::<toml::value::Datetime>(&key).unwrap();
        assert_eq!(date, wanted.parse().unwrap(), "{written}");
    }
    assert!(props.get::<toml::value::Date>("d5").is_ok());
    assert!(props.get::<toml::value::Time>("d6").is_ok());
    let error = props.get::<toml::value::Date>("d6").unwrap_err();
    assert_eq!(error.key().map(Key::as_str), Some("d6"));
}

#[cfg(feature = "yaml")]
#[test]
fn a_unit_variant_may_be_written_in_yaml_with_a_colon_behind_it() {
    #[derive(Debug, PartialEq, serde::Deserialize)]
    enum Step {
        Start,
        Wait(u32),
    }
    let dir = ConfigDir::new(
        "app.yaml",
        "plain: Start\nsteps:\n- Start:\n- Wait: 5\n- Start\n",
    );
    let props = dir.open();
    assert_eq!(props.get::<Step>("plain").unwrap(), Step::Start);
    let steps = props.get::<Vec<Step>>("steps").unwrap();
    assert_eq!(steps, [Step::Start, Step::Wait(5), Step::Start]);
}

#[test]
fn an_invalid_item_is_reported_with_its_own_line() {
    #[derive(Debug, serde::Deserialize)]
    #[allow(dead_code)]
    struct Server {
        port: u16,
    }
    let text = "\n\nports = [\n  80,\n\n\n  \"many\",\n]\n[[servers]]\nport = 1\n[[servers]]\nport = 70000\n[[servers]]\nhost = 1\n";
    let config_dir = ConfigDir::new("app.toml", text);
    let props = config_dir.open();
    let error = props.get::<Vec<u16>>("ports").unwrap_err();
    assert_eq!(error.key().map(Key::as_str), Some("ports.1"));
    assert_eq!(
        error.origin().map(ToString::to_string).as_deref(),
        Some(&*config_dir.origin("7:3"))
    );
    let error = props.get::<u16>("ports.1").unwrap_err();
    assert_eq!(
        error.origin().map(ToString::to_string).as_deref(),
        Some(&*config_dir.origin("7:3"))
    );
    let error = props.get::<u16>("servers.1.port").unwrap_err();
    assert_eq!(
        error.origin().map(ToString::to_string).as_deref(),
        Some(&*config_dir.origin("12:8"))
    );
    let error = props.get::<Vec<Server>>("servers").unwrap_err();
    let origins: Vec<_> = error
        .iter()
        .map(|one| one.origin().unwrap().to_string())
        .collect();
    assert_eq!(origins[0], config_dir.origin("12:8"), "{error}");
    let all = props.get::<BTreeMap<String, Vec<u16>>>("").unwrap_err();
    assert!(
        all.iter()
            .any(|one| one.origin().map(ToString::to_string) == Some(config_dir.origin("7:3"))),
        "{all}"
    );
}
