//! Changes that events must bring, long before the slow poll.

use std::io::{Seek, SeekFrom};
use std::os::unix::fs::symlink;
use std::process::Command;

use super::*;
use crate::source::conformance::Recorder;
use crate::sources::fs::watch::RENAME_GAP;
use crate::sources::fs::watch::testing::{SOON, retarget, watch_with};

fn begin(path: &Path) -> Watched {
    fs::write(path, text(0)).unwrap();
    let watched = watch(File::new(path));
    watched.expect("a", 0);
    watched
}

#[test]
fn rewriting_in_place_is_seen() {
    let dir = dir();
    let path = dir.path().join("app.toml");
    let watched = begin(&path);
    for value in 1..=3 {
        fs::write(&path, text(value)).unwrap();
        watched.expect("a", value);
    }
}

#[test]
fn overwriting_without_truncation_is_seen() {
    let dir = dir();
    let path = dir.path().join("app.toml");
    let watched = begin(&path);
    for value in 1..=3 {
        let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.seek(SeekFrom::Start(4)).unwrap();
        file.write_all(value.to_string().as_bytes()).unwrap();
        drop(file);
        watched.expect("a", value);
    }
}

#[test]
fn a_rename_from_the_same_and_from_another_directory_is_seen() {
    let (dir, other) = (dir(), dir());
    let path = dir.path().join("app.toml");
    let watched = begin(&path);
    for value in 1..=3 {
        replace(&path, &text(value));
        watched.expect("a", value);
    }
    for value in 4..=6 {
        let aside = other.path().join("x");
        fs::write(&aside, text(value)).unwrap();
        fs::rename(&aside, &path).unwrap();
        watched.expect("a", value);
    }
}

/// Rewrites a file of 800 equal values again and again. Every prefix of the file parses, so an update from
/// partial content has fewer keys or different values.
fn check_no_partial_content(chunks: usize, pause: Duration, rounds: i64) {
    let dir = dir();
    let path = dir.path().join("app.toml");
    let body = |value: i64| -> String { (0..800).map(|k| format!("k{k} = {value}\n")).collect() };
    fs::write(&path, body(0)).unwrap();
    let recorder = Recorder::new();
    recorder.reject_when(|document| {
        let mut values = document.iter().map(|(_, value, _)| value.clone());
        let first = values.next();
        document.len() != 800 || values.any(|value| Some(&value) != first.as_ref())
    });
    let watched = watch_with(File::new(&path), recorder);
    watched.expect("k799", 0);
    for value in 1..=rounds {
        let text = body(value);
        let mut file = fs::File::create(&path).unwrap();
        for chunk in text.as_bytes().chunks(text.len().div_ceil(chunks)) {
            file.write_all(chunk).unwrap();
            if chunks > 1 {
                sleep(Duration::from_millis(1));
            }
        }
        drop(file);
        if !pause.is_zero() {
            sleep(pause);
        }
    }
    watched.expect("k799", rounds);
    assert_eq!(watched.recorder.seen().rejected, 0, "half a file was sent");
}

#[test]
fn a_rewrite_in_one_go_is_never_applied_in_part() {
    check_no_partial_content(1, Duration::ZERO, 300);
    check_no_partial_content(1, Duration::from_millis(5), 150);
}

#[test]
fn a_rewrite_in_four_chunks_is_never_applied_in_part() {
    check_no_partial_content(4, Duration::from_micros(500), 150);
}

#[test]
fn a_rewrite_in_eight_chunks_is_never_applied_in_part() {
    check_no_partial_content(8, Duration::from_millis(5), 100);
    check_no_partial_content(8, Duration::from_millis(40), 20);
}

#[test]
fn changes_of_a_writer_that_hardly_pauses_are_seen() {
    let dir = dir();
    let path = dir.path().join("app.toml");
    let watched = begin(&path);
    let begun = Instant::now();
    let mut value = 0;
    while begun.elapsed() < Duration::from_secs(2) {
        value += 1;
        fs::write(&path, text(value)).unwrap();
        sleep(Duration::from_millis(8));
    }
    let changes = watched.recorder.seen().changes;
    assert!(changes >= 2, "only {changes} of {value} rewrites in 2 s");
    watched.expect("a", value);
}

#[test]
fn a_save_of_an_editor_is_seen_and_never_reported_as_a_missing_file() {
    let dir = dir();
    let path = dir.path().join("app.toml");
    let at = |name: &str| dir.path().join(name);
    let watched = begin(&path);
    for round in 0..3 {
        let value = round * 10;
        // vim: probes the directory, moves the file to a back-up, writes again, drops the back-up.
        fs::write(at(".app.toml.swp"), "swap").unwrap();
        fs::write(at("4913"), "").unwrap();
        fs::remove_file(at("4913")).unwrap();
        fs::rename(&path, at("app.toml~")).unwrap();
        fs::write(&path, text(value + 1)).unwrap();
        fs::remove_file(at("app.toml~")).unwrap();
        fs::remove_file(at(".app.toml.swp")).unwrap();
        watched.expect("a", value + 1);
        // emacs: a lock that is a dangling link, a copy as back-up, rewritten in place.
        symlink("me@here.1:2", at(".#app.toml")).unwrap();
        fs::rename(&path, at("app.toml~")).unwrap();
        fs::write(&path, text(value + 2)).unwrap();
        fs::remove_file(at(".#app.toml")).unwrap();
        watched.expect("a", value + 2);
        // nano: in place.
        fs::write(&path, text(value + 3)).unwrap();
        watched.expect("a", value + 3);
        // sed -i: a temporary file renamed over.
        let edit = format!("s/= .*/= {}/", value + 4);
        let done = Command::new("sed").arg("-i").arg(edit).arg(&path).status();
        assert!(done.unwrap().success());
        watched.expect("a", value + 4);
    }
    let failures = watched.recorder.seen().failures;
    assert!(failures.is_empty(), "{failures:?}");
    assert_eq!(watched.recorder.seen().changes, 13, "each change once");
}

#[test]
fn a_new_target_of_a_data_link_is_seen() {
    let dir = dir();
    let at = |name: &str| dir.path().join(name);
    let version = |value: i64| {
        let name = format!("..{value}");
        fs::create_dir(at(&name)).unwrap();
        fs::write(at(&name).join("app.toml"), text(value)).unwrap();
        PathBuf::from(name)
    };
    symlink(version(0), at("..data")).unwrap();
    symlink("..data/app.toml", at("app.toml")).unwrap();
    let watched = watch(File::new(at("app.toml")));
    watched.expect("a", 0);
    for value in 1..=3 {
        retarget(&at("..data"), &version(value));
        fs::remove_dir_all(at(&format!("..{}", value - 1))).unwrap();
        watched.expect("a", value);
    }
}

#[test]
fn a_new_target_of_a_link_above_the_file_is_seen() {
    let dir = dir();
    let at = |name: &str| dir.path().join(name);
    for value in 0..=3 {
        let config = at(&format!("rel{value}")).join("etc/deep");
        fs::create_dir_all(&config).unwrap();
        fs::write(config.join("app.toml"), text(value)).unwrap();
    }
    symlink("rel0", at("current")).unwrap();
    let watched = watch(File::new(at("current/etc/deep/app.toml")));
    watched.expect("a", 0);
    for value in 1..=3 {
        retarget(&at("current"), Path::new(&format!("rel{value}")));
        watched.expect("a", value);
    }
    // The new release is watched.
    fs::write(at("rel3/etc/deep/app.toml"), text(9)).unwrap();
    watched.expect("a", 9);
}

#[test]
fn a_link_that_is_removed_and_created_again_is_seen() {
    let dir = dir();
    let at = |name: &str| dir.path().join(name);
    for value in 0..=3 {
        fs::write(at(&format!("v{value}.toml")), text(value)).unwrap();
    }
    symlink("v0.toml", at("app.toml")).unwrap();
    let watched = watch(File::new(at("app.toml")));
    watched.expect("a", 0);
    for value in 1..=3 {
        fs::remove_file(at("app.toml")).unwrap();
        symlink(format!("v{value}.toml"), at("app.toml")).unwrap();
        watched.expect("a", value);
    }
}

#[test]
fn the_target_of_a_link_to_another_directory_is_followed() {
    let (dir, other) = (dir(), dir());
    let (path, target) = (dir.path().join("app.toml"), other.path().join("real.toml"));
    fs::write(&target, text(0)).unwrap();
    symlink(&target, &path).unwrap();
    let watched = watch(File::new(&path));
    watched.expect("a", 0);
    for value in 1..=3 {
        fs::write(&target, text(value)).unwrap();
        watched.expect("a", value);
    }
    for value in 4..=6 {
        replace(&target, &text(value));
        watched.expect("a", value);
    }
}

#[test]
fn a_file_that_becomes_a_link_or_a_directory_and_a_file_again_is_followed() {
    let (dir, other) = (dir(), dir());
    let (path, target) = (dir.path().join("app.toml"), other.path().join("real.toml"));
    let watched = begin(&path);
    for round in 0..3 {
        let value = round * 10;
        fs::write(&target, text(value + 1)).unwrap();
        retarget(&path, &target);
        watched.expect("a", value + 1);
        replace(&target, &text(value + 2));
        watched.expect("a", value + 2);
        replace(&path, &text(value + 3));
        watched.expect("a", value + 3);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        sleep(Duration::from_millis(20));
        fs::remove_dir(&path).unwrap();
        replace(&path, &text(value + 4));
        watched.expect("a", value + 4);
        replace(&path, &text(value + 5));
        watched.expect("a", value + 5);
    }
}

#[test]
fn the_values_of_a_file_that_is_removed_and_created_again_stay_until_it_is_read() {
    let dir = dir();
    let path = dir.path().join("app.toml");
    let watched = begin(&path);
    for (round, gap) in [0, 30, 400].into_iter().enumerate() {
        fs::remove_file(&path).unwrap();
        sleep(Duration::from_millis(gap));
        assert_eq!(watched.get("a"), Some(round as i64));
        fs::write(&path, text(round as i64 + 1)).unwrap();
        watched.expect("a", round as i64 + 1);
    }
    watched.expect_failure("does not exist");
    assert_eq!(watched.recorder.seen().failures.len(), 1);
}

#[test]
fn values_are_dropped_with_the_file_only_on_request() {
    let dir = dir();
    let path = dir.path().join("app.toml");
    fs::write(&path, text(0)).unwrap();
    let (keeps, drops) = (
        watch(File::new(&path)),
        watch(File::new(&path).drop_when_missing()),
    );
    keeps.expect("a", 0);
    drops.expect("a", 0);
    for value in 1..=3 {
        let begun = Instant::now();
        fs::remove_file(&path).unwrap();
        drops.expect_none("a");
        assert!(begun.elapsed() >= GRACE);
        assert_eq!(keeps.get("a"), Some(value - 1));
        fs::write(&path, text(value)).unwrap();
        drops.expect("a", value);
        keeps.expect("a", value);
    }
    // Without its directory it is unknown whether the file was removed, so the values stay.
    fs::remove_dir_all(dir.path()).unwrap();
    drops.expect_failure("does not exist");
    sleep(GRACE + RENAME_GAP);
    assert_eq!(drops.get("a"), Some(3));
}

#[test]
fn a_file_that_is_removed_and_rewritten_again_and_again_is_not_missing() {
    let dir = dir();
    let path = dir.path().join("app.toml");
    fs::write(&path, text(0)).unwrap();
    let watched = watch(File::new(&path).drop_when_missing());
    watched.expect("a", 0);
    let (begun, mut value) = (Instant::now(), 0);
    while begun.elapsed() < 2 * GRACE {
        value += 1;
        fs::remove_file(&path).unwrap();
        sleep(Duration::from_millis(8));
        fs::write(&path, text(value)).unwrap();
        sleep(Duration::from_millis(2));
        assert!(watched.get("a").is_some(), "after {value} rewrites");
    }
    watched.expect("a", value);
    assert!(watched.recorder.seen().failures.is_empty());
}

#[test]
fn a_parent_that_is_removed_and_created_again_is_followed() {
    let dir = dir();
    let parent = dir.path().join("conf");
    fs::create_dir(&parent).unwrap();
    let path = parent.join("app.toml");
    let watched = begin(&path);
    for value in 1..=6 {
        fs::remove_dir_all(&parent).unwrap();
        if value % 2 == 0 {
            sleep(Duration::from_millis(60));
        }
        fs::create_dir(&parent).unwrap();
        fs::write(&path, text(value)).unwrap();
        watched.expect("a", value);
        fs::write(&path, text(value * 10)).unwrap();
        watched.expect("a", value * 10);
    }
}

#[test]
fn a_parent_that_is_moved_away_and_replaced_is_followed() {
    let dir = dir();
    let parent = dir.path().join("conf/deep");
    fs::create_dir_all(&parent).unwrap();
    let path = parent.join("app.toml");
    let watched = begin(&path);
    for value in 1..=3 {
        let next = dir.path().join("next");
        fs::create_dir_all(next.join("deep")).unwrap();
        fs::write(next.join("deep/app.toml"), text(value)).unwrap();
        fs::rename(
            dir.path().join("conf"),
            dir.path().join(format!("old{value}")),
        )
        .unwrap();
        fs::rename(&next, dir.path().join("conf")).unwrap();
        watched.expect("a", value);
        fs::write(&path, text(value * 10)).unwrap();
        watched.expect("a", value * 10);
    }
}

#[test]
fn a_file_below_directories_that_do_not_exist_yet_is_seen() {
    let dir = dir();
    for round in 1..=3 {
        let root = dir.path().join(format!("a{round}"));
        let path = root.join("b/c/app.toml");
        let watched = watch(File::new(&path).allow_missing());
        assert!(watched.recorder.wait_for(SOON, |seen| seen.updates == 1));
        fs::create_dir(&root).unwrap();
        fs::create_dir(root.join("b")).unwrap();
        if round == 3 {
            sleep(Duration::from_millis(100));
        }
        fs::create_dir(root.join("b/c")).unwrap();
        fs::write(&path, text(round)).unwrap();
        watched.expect("a", round);
        assert!(watched.recorder.seen().failures.is_empty());
    }
}

#[test]
fn an_older_or_equal_time_stamp_hides_nothing() {
    let dir = dir();
    let path = dir.path().join("app.toml");
    let watched = begin(&path);
    let old = std::time::SystemTime::now() - Duration::from_secs(86_400);
    for value in 1..=3 {
        let file = fs::File::create(&path).unwrap();
        (&file).write_all(text(value).as_bytes()).unwrap();
        file.set_modified(old).unwrap();
        drop(file);
        watched.expect("a", value);
    }
    for value in 4..=6 {
        let aside = dir.path().join("aside");
        fs::write(&aside, text(value)).unwrap();
        let file = fs::File::options().write(true).open(&aside).unwrap();
        file.set_modified(old).unwrap();
        drop(file);
        fs::rename(&aside, &path).unwrap();
        watched.expect("a", value);
    }
}

#[test]
fn the_last_of_many_quick_changes_wins() {
    let dir = dir();
    let path = dir.path().join("app.toml");
    let watched = begin(&path);
    for value in 1..=200 {
        replace(&path, &text(value));
    }
    watched.expect("a", 200);
}

/// Many more rewrites than the tests above, and how long a busy writer delays a change.
#[test]
#[ignore = "a measurement: takes a minute"]
fn stress() {
    for (chunks, rounds) in [(1, 5_000), (4, 2_500), (8, 2_500)] {
        check_no_partial_content(chunks, Duration::ZERO, rounds);
        println!("{chunks} chunks: 0 of {rounds} applied in part");
    }
    for pause in [0, 500, 5_000, 30_000, 60_000] {
        let dir = dir();
        let path = dir.path().join("app.toml");
        let watched = begin(&path);
        let (begun, mut value) = (Instant::now(), 0);
        let (mut gap, mut last_seen, mut changes) = (Duration::ZERO, Instant::now(), 1);
        while begun.elapsed() < Duration::from_secs(5) {
            value += 1;
            fs::write(&path, text(value)).unwrap();
            sleep(Duration::from_micros(pause));
            if watched.recorder.seen().changes > changes {
                changes = watched.recorder.seen().changes;
                gap = gap.max(last_seen.elapsed());
                last_seen = Instant::now();
            }
        }
        gap = gap.max(last_seen.elapsed());
        watched.expect("a", value);
        println!("pause {pause} µs: {changes} of {value} seen, longest gap {gap:?}");
    }
}
