//! The examples as programs.

use std::path::PathBuf;
use std::process::Command;

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
    if !example.exists() {
        // Only a run of all tests builds the examples.
        let mut cargo = Command::new(env!("CARGO"));
        let build = cargo.args(["build", "--example", name, "--features", features]);
        assert!(build.status().unwrap().success());
    }
    example
}
