//! Runs the example `resilient`: its server fails and recovers, and so does the program.
#![cfg(all(target_os = "linux", feature = "http", feature = "toml"))]
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use support::example::example;

#[test]
fn the_example_shows_each_step_in_order_and_ends_by_itself() {
    let program = example("resilient");
    let begun = Instant::now();
    let output = Command::new(program).output().unwrap();
    let took = begun.elapsed();
    let shown = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    println!("{shown}{errors}in {took:?}");
    assert!(output.status.success());
    assert!(took < Duration::from_secs(20), "{took:?}");
    let mut rest = shown.as_str();
    for line in [
        "the server answers 100",
        "the program starts\n",
        "limit 100, up\n",
        "the server is killed",
        "limit 100, stale: ",
        "Connection refused",
        "the program ends",
        "the program starts again, without the server",
        "limit 100, stale with the values stored on disk: ",
        "Connection refused",
        "the server is back and answers 250",
        "limit 250, up\n",
        "every step went as expected",
    ] {
        let at = rest.find(line);
        let at = at.unwrap_or_else(|| panic!("`{line}` is missing, or in the wrong order"));
        rest = &rest[at + line.len()..];
    }
}
