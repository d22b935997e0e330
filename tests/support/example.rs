//! The examples as programs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

/// When a file was written; nothing if there is none.
fn written(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}

/// When the newest file of Rust below a directory was written.
fn newest(dir: &Path) -> Option<SystemTime> {
    let entries = fs::read_dir(dir).ok()?.flatten();
    let of = |entry: fs::DirEntry| match entry.path() {
        path if path.is_dir() => newest(&path),
        path if path.extension().is_some_and(|it| it == "rs") => written(&path),
        _ => None,
    };
    entries.filter_map(of).max()
}

/// The program of an example.
pub(crate) fn example(name: &str, features: &str) -> PathBuf {
    // Beside the tests, where the same build has put it.
    let tests = std::env::current_exe().unwrap();
    let example = tests
        .ancestors()
        .nth(2)
        .unwrap()
        .join("examples")
        .join(name);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let newest = newest(&root.join("src")).max(newest(&root.join("examples")));
    if written(&example) < newest {
        // Only a run of all tests builds the examples.
        let mut cargo = Command::new(env!("CARGO"));
        let build = cargo.args(["build", "--example", name, "--features", features]);
        assert!(build.status().unwrap().success());
    }
    example
}
