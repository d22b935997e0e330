//! What editors, programs and deployments do with files, each three times in a row.
//!
//! These need events; the poll alone is tested in `polled`.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::*;
use crate::sources::fs::watch::testing::{Watched, replace, watch};

#[cfg(feature = "watch")]
mod events;
#[cfg(unix)]
mod flood;
mod load;
mod odd;
mod polled;
#[cfg(all(feature = "watch", target_os = "linux"))]
mod seen;

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn text(value: i64) -> String {
    format!("a = {value}\n")
}

#[test]
fn a_file_that_is_required_and_missing_fails_the_load_and_is_named() {
    let file = File::new("/no/such/app.toml");
    let error = file.load().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("/no/such/app.toml"), "{error}");
    assert!(file.allow_missing().load().unwrap().is_empty());
}

#[test]
fn an_origin_has_the_path_as_it_was_given() {
    let dir = dir();
    let path = dir.path().join("./app.toml");
    fs::write(&path, "a = 1\n").unwrap();
    let document = File::new(&path).load().unwrap();
    let origin = document.origin("a").unwrap();
    assert_eq!(origin.name(), path.display().to_string());
    assert_eq!(origin.line().map(|at| at.0), Some(1));
}

#[test]
fn a_required_file_that_is_missing_names_its_whole_path_and_the_remedy() {
    let error = File::new("not/there.toml").load().unwrap_err().to_string();
    let path = std::env::current_dir().unwrap().join("not/there.toml");
    for part in [
        &path.display().to_string(),
        "create it",
        "File::allow_missing",
    ] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn an_optional_file_of_an_unknown_format_is_an_error_even_if_it_is_missing() {
    let error = File::new("not-there.ini")
        .allow_missing()
        .load()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    assert!(error.to_string().contains("ini"), "{error}");
    let props = crate::Properties::builder().source(File::new("not-there.ini").allow_missing());
    assert!(props.build().is_err());
}

#[test]
fn an_unknown_extension_is_rejected_unless_a_format_is_named() {
    let dir = dir();
    let path = dir.path().join("app.conf");
    fs::write(&path, "a = 1\n").unwrap();
    let error = File::new(&path).load().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    let format = Format::from_extension("toml").unwrap();
    assert_eq!(File::new(&path).format(format).load().unwrap().len(), 1);
}

#[test]
fn a_cascade_is_cumulative_and_only_its_first_file_is_required() {
    let dir = dir();
    fs::write(dir.path().join("app.toml"), "a = 1\n").unwrap();
    fs::write(dir.path().join("app-prod-eu.toml"), "a = 3\n").unwrap();
    let files = File::cascade(dir.path().join("app.toml"), ["prod", "eu"]).unwrap();
    let loaded: Vec<_> = files
        .iter()
        .map(|file| file.load().unwrap().len())
        .collect();
    assert_eq!(loaded, [1, 0, 1]);
    let missing = File::cascade(dir.path().join("other.toml"), ["prod"]).unwrap();
    assert!(missing[0].load().is_err() && missing[1].load().is_ok());
}

#[test]
fn profiles_that_would_leave_the_directory_are_rejected() {
    let long = "x".repeat(65);
    for bad in [
        "", ".", "..", "../x", "a/b", "a\\b", "a\0", "a\n", "ä", &long,
    ] {
        assert!(File::cascade("app.toml", [bad]).is_err(), "{bad:?}");
    }
    assert!(File::cascade("app.toml", ["a-b_c.9"]).is_ok());
    assert!(File::cascade("..", ["a"]).is_err());
}

#[test]
fn a_file_that_parses_again_a_moment_later_does_not_fail_the_start() {
    for _ in 0..50 {
        let dir = dir();
        let path = dir.path().join("app.toml");
        fs::write(&path, "a = 1\nb").unwrap();
        let begun = Instant::now();
        let writer = {
            let path = path.clone();
            std::thread::spawn(move || {
                sleep(Duration::from_millis(30));
                fs::write(path, "a = 1\nb = 2\n").unwrap();
                begun.elapsed()
            })
        };
        let loaded = File::new(&path).load();
        // On a busy machine the file may be written too late.
        if writer.join().unwrap() < Duration::from_millis(50) {
            assert_eq!(loaded.unwrap().len(), 2);
            return;
        }
    }
    panic!("the machine is too busy to write a file in time");
}
