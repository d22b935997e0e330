//! Fragments that are added, removed, broken, or switched together.

use std::fs;
use std::path::Path;
use std::thread::sleep;

use super::*;
use crate::source::conformance::{Editor, check};
use crate::sources::fs::watch::testing::{SOON, Watched, replace, watch};

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn start(path: &Path) -> Watched {
    watch(Dir::new(path).poll(Duration::from_millis(200)))
}

#[test]
fn fragments_are_read_in_the_order_of_names_and_other_files_are_skipped() {
    let dir = dir();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("20.toml"), "a = 2\nb = 2\n").unwrap();
    fs::write(at("10.toml"), "a = 1\nc = 1\n").unwrap();
    for foreign in [
        ".hidden.toml",
        "30.toml~",
        "30.toml.swp",
        "30.toml.bak",
        "notes",
        "x.md",
    ] {
        fs::write(at(foreign), "a = 9\nbroken").unwrap();
    }
    fs::create_dir(at("40.toml")).unwrap();
    let document = Dir::new(dir.path()).load().unwrap();
    assert_eq!(document.len(), 3);
    assert_eq!(document.get("a"), Some(&2.into()), "later wins");
    let origin = document.origin("c").unwrap();
    assert_eq!(origin.name(), at("10.toml").display().to_string());
    assert!(origin.line().is_some());
    assert!(document.problems().is_empty());
}

#[test]
fn a_broken_fragment_is_left_out_at_the_start_and_reported() {
    let dir = dir();
    for (name, text) in [
        ("1.toml", "a = 1"),
        ("2.toml", "broken"),
        ("3.toml", "c = 3"),
    ] {
        fs::write(dir.path().join(name), text).unwrap();
    }
    let document = Dir::new(dir.path()).load().unwrap();
    assert_eq!(document.len(), 2);
    assert_eq!(document.problems().len(), 1);
    assert!(document.problems()[0].to_string().contains("2.toml"));
}

#[test]
fn of_two_fragments_that_clash_the_later_wins_and_the_clash_is_reported() {
    let dir = dir();
    fs::write(dir.path().join("1.toml"), "a.b.c = 1\n").unwrap();
    fs::write(dir.path().join("2.toml"), "a.b = 2\n").unwrap();
    let document = Dir::new(dir.path()).load().unwrap();
    assert_eq!(document.get("a.b"), Some(&2.into()));
    assert_eq!(document.problems()[0].key_text(), Some("a.b"));
}

#[test]
fn a_missing_directory_is_an_error_that_names_it_unless_it_is_optional() {
    let missing = Dir::new("/no/such.d");
    let error = missing.load().unwrap_err();
    assert!(error.to_string().contains("/no/such.d"), "{error}");
    assert!(missing.allow_missing().load().unwrap().is_empty());
}

#[test]
fn fragments_that_are_added_changed_and_removed_are_followed() {
    let dir = dir();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("1.toml"), "a = 0\n").unwrap();
    let watched = start(dir.path());
    watched.expect("a", 0);
    for value in 1..=3 {
        fs::write(at("2.toml"), format!("b = {value}\n")).unwrap();
        watched.expect("b", value);
        replace(&at("1.toml"), &format!("a = {value}\n"));
        watched.expect("a", value);
        fs::rename(at("2.toml"), at("0.toml")).unwrap();
        replace(&at("0.toml"), &format!("b = {}\n", value * 10));
        watched.expect("b", value * 10);
        fs::remove_file(at("0.toml")).unwrap();
        watched.expect_none("b");
        assert_eq!(watched.get("a"), Some(value));
    }
}

#[test]
fn keys_stay_while_an_editor_renames_a_fragment() {
    let dir = dir();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("1.toml"), "a = 0\n").unwrap();
    let watched = start(dir.path());
    watched.expect("a", 0);
    for value in 1..=3 {
        fs::rename(at("1.toml"), at("1.toml~")).unwrap();
        sleep(Duration::from_millis(50));
        assert_eq!(watched.get("a"), Some(value - 1));
        fs::write(at("1.toml"), format!("a = {value}\n")).unwrap();
        watched.expect("a", value);
        fs::remove_file(at("1.toml~")).unwrap();
    }
    assert_eq!(watched.recorder.seen().changes, 4);
}

#[test]
fn a_fragment_that_breaks_keeps_its_values_while_others_change() {
    let dir = dir();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("1.toml"), "a = 0\n").unwrap();
    fs::write(at("2.toml"), "b = 0\n").unwrap();
    let watched = start(dir.path());
    watched.expect("b", 0);
    for value in 1..=3 {
        fs::write(at("1.toml"), "broken").unwrap();
        let is_reported = |n: usize| {
            let problems = |seen: &crate::source::conformance::Seen| seen.document.problems().len();
            watched.recorder.wait_for(SOON, |seen| problems(seen) == n)
        };
        assert!(is_reported(1));
        fs::write(at("2.toml"), format!("b = {value}\n")).unwrap();
        watched.expect("b", value);
        assert_eq!(watched.get("a"), Some(value - 1));
        fs::write(at("1.toml"), format!("a = {value}\n")).unwrap();
        watched.expect("a", value);
        assert!(is_reported(0));
    }
}

#[test]
fn a_fragment_that_lost_its_last_value_keeps_its_values_unless_it_may_be_empty() {
    let dir = dir();
    let at = |name: &str| dir.path().join(name);
    let often = Duration::from_millis(100);
    for (round, cut) in (0..).zip(["", "# A comment.\n", "[b]\n"]) {
        fs::write(at("1.toml"), format!("a = {round}\n")).unwrap();
        fs::write(at("2.toml"), "c = 0\n").unwrap();
        let keeps = watch(Dir::new(dir.path()).poll(often));
        let drops = watch(Dir::new(dir.path()).poll(often).allow_empty());
        keeps.expect("a", round);
        drops.expect("a", round);
        fs::write(at("1.toml"), cut).unwrap();
        drops.expect_none("a");
        let reported = keeps.recorder.wait_for(SOON, |seen| {
            let problems = seen.document.problems();
            problems
                .iter()
                .any(|it| it.to_string().contains("became empty"))
        });
        assert!(reported, "{cut:?}");
        // The other fragments still change.
        fs::write(at("2.toml"), "c = 1\n").unwrap();
        keeps.expect("c", 1);
        assert_eq!(keeps.get("a"), Some(round), "{cut:?}");
    }
}

#[test]
fn a_fragment_that_is_removed_and_rewritten_again_and_again_keeps_its_keys() {
    let dir = dir();
    let path = dir.path().join("1.toml");
    fs::write(&path, "a = 0\n").unwrap();
    let often = Duration::from_millis(10);
    let mut watched = vec![watch(Dir::new(dir.path()).without_watch().poll(often))];
    if cfg!(feature = "watch") {
        watched.push(watch(Dir::new(dir.path())));
    }
    watched.iter().for_each(|watched| watched.expect("a", 0));
    let lacks_key = |watched: &Watched| watched.get("a").is_none();
    let begun = std::time::Instant::now();
    let mut value = 0;
    while begun.elapsed() < Duration::from_secs(2) {
        value += 1;
        fs::remove_file(&path).unwrap();
        sleep(Duration::from_millis(4));
        fs::write(&path, format!("a = {value}\n")).unwrap();
        sleep(Duration::from_millis(4));
        assert!(!watched.iter().any(lacks_key), "after {value} rewrites");
    }
    watched
        .iter()
        .for_each(|watched| watched.expect("a", value));
}

#[test]
fn a_directory_that_vanishes_keeps_everything_and_is_found_again() {
    let dir = dir();
    let path = dir.path().join("conf.d");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("1.toml"), "a = 0\n").unwrap();
    let watched = start(&path);
    watched.expect("a", 0);
    for value in 1..=3 {
        let failures = watched.recorder.seen().failures.len();
        fs::rename(&path, dir.path().join(format!("away{value}"))).unwrap();
        let is_reported = watched
            .recorder
            .wait_for(SOON, |seen| seen.failures.len() > failures);
        assert!(is_reported, "round {value}");
        assert_eq!(watched.get("a"), Some(value - 1));
        fs::create_dir(&path).unwrap();
        fs::write(path.join("1.toml"), format!("a = {value}\n")).unwrap();
        watched.expect("a", value);
    }
}

#[cfg(unix)]
fn config_map(source: impl Fn(&Path) -> Dir, rounds: i64) {
    use crate::source::conformance::Recorder;
    use crate::sources::fs::watch::testing::{retarget, watch_with};
    use std::os::unix::fs::symlink;
    let dir = dir();
    let at = |name: &str| dir.path().join(name);
    let version = |value: i64| {
        let name = format!("..{value}");
        fs::create_dir(at(&name)).unwrap();
        for file in 0..5 {
            let text = format!("f{file} = {value}\n");
            fs::write(at(&name).join(format!("{file}.toml")), text).unwrap();
        }
        PathBuf::from(name)
    };
    symlink(version(0), at("..data")).unwrap();
    for file in 0..5 {
        symlink(format!("..data/{file}.toml"), at(&format!("{file}.toml"))).unwrap();
    }
    let recorder = Recorder::new();
    recorder.reject_when(|document| {
        let mut values = document.iter().map(|(_, value, _)| value.clone());
        let first = values.next();
        document.len() != 5 || values.any(|value| Some(&value) != first.as_ref())
    });
    let watched = watch_with(source(dir.path()), recorder);
    watched.expect("f4", 0);
    for value in 1..=rounds {
        retarget(&at("..data"), &version(value));
        fs::remove_dir_all(at(&format!("..{}", value - 1))).unwrap();
        if value % 3 == 0 {
            watched.expect("f4", value);
        }
    }
    watched.expect("f4", rounds);
    assert_eq!(
        watched.recorder.seen().rejected,
        0,
        "files of two versions were sent"
    );
    // A version without one of the files, whose link is removed too, is one update.
    version(-1);
    fs::remove_file(at("..-1/4.toml")).unwrap();
    watched.recorder.reject_when(|document| document.len() != 4);
    let begun = Instant::now();
    retarget(&at("..data"), Path::new("..-1"));
    fs::remove_file(at("4.toml")).unwrap();
    let at_once = begun.elapsed() < crate::sources::fs::watch::RENAME_GAP / 2;
    watched.expect("f3", -1);
    watched.expect_none("f4");
    // On a busy machine the link may dangle for longer than the gap.
    if at_once {
        let rejected = watched.recorder.seen().rejected;
        assert_eq!(rejected, 0, "the removal was sent in two updates");
    }
    // A link that stays keeps its values and is reported.
    watched.recorder.reject_when(|_| false);
    version(-2);
    fs::remove_file(at("..-2/3.toml")).unwrap();
    retarget(&at("..data"), Path::new("..-2"));
    watched.expect("f2", -2);
    let reported = |n: usize| {
        let has = |seen: &crate::source::conformance::Seen| seen.document.problems().len() == n;
        watched.recorder.wait_for(SOON, has)
    };
    assert!(reported(1));
    assert_eq!(watched.get("f3"), Some(-1));
    fs::remove_file(at("3.toml")).unwrap();
    watched.expect_none("f3");
    assert!(reported(0));
}

#[cfg(all(feature = "watch", target_os = "linux"))]
#[test]
fn all_files_of_a_mounted_config_map_switch_together() {
    config_map(|path| Dir::new(path), 60);
}

#[cfg(unix)]
#[test]
fn all_files_of_a_mounted_config_map_switch_together_when_polled() {
    let polled = |path: &Path| {
        Dir::new(path)
            .without_watch()
            .poll(Duration::from_millis(25))
    };
    config_map(polled, 12);
}

struct Fragments(PathBuf);

impl Editor for Fragments {
    fn set(&self, key: &str, text: &str) {
        fs::write(
            self.0.join(format!("{key}.toml")),
            format!("{key} = \"{text}\"\n"),
        )
        .unwrap();
    }

    fn remove(&self, key: &str) {
        fs::remove_file(self.0.join(format!("{key}.toml"))).unwrap();
    }
}

#[test]
fn a_directory_keeps_the_contract_of_a_source() {
    let dir = dir();
    let editor = Fragments(dir.path().to_path_buf());
    let make = || Dir::new(dir.path()).poll(Duration::from_millis(200));
    assert_eq!(check(&make, &editor), Ok(()));
}

#[test]
fn files_of_unknown_format_are_named_in_a_hint_while_they_are_there() {
    let dir = dir();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("10.toml"), "a = 1\n").unwrap();
    fs::write(at("password"), "hunter2").unwrap();
    fs::write(at(".hidden"), "x").unwrap();
    fs::create_dir(at("sub")).unwrap();
    let document = Dir::new(dir.path()).load().unwrap();
    assert!(document.problems().is_empty(), "{:?}", document.problems());
    let [hint] = document.hints() else {
        panic!("{:?}", document.hints());
    };
    let text = hint.to_string();
    assert!(
        text.contains("ignored: `password`; set their format"),
        "{text}"
    );
    assert!(!text.contains("hunter2"), "{text}");

    let properties = crate::Properties::builder()
        .source(Dir::new(dir.path()).poll(Duration::from_millis(50)))
        .build()
        .unwrap();
    let hints = || properties.health().sources[0].hints.len();
    assert_eq!(hints(), 1);
    assert!(properties.health().is_up());
    fs::remove_file(at("password")).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while hints() > 0 {
        assert!(Instant::now() < deadline, "the hint stays");
        sleep(Duration::from_millis(20));
    }
    let text = Format::new("text", |_, _| Ok(Document::new()));
    fs::write(at("token"), "x").unwrap();
    let document = Dir::new(dir.path()).format(text).load().unwrap();
    assert!(document.hints().is_empty(), "every file is read");
}
