//! The examples as programs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// The features that this test has been built with.
fn features() -> String {
    let mut features = Vec::new();
    macro_rules! add {
        ($($name:literal)*) => { $(if cfg!(feature = $name) { features.push($name); })* };
    }
    add!("default" "toml" "json" "yaml" "properties" "dotenv" "watch");
    add!("http" "consul" "etcd" "nats" "zookeeper");
    features.join(",")
}

/// The program of an example, built as the test is: after a run of all tests there is nothing to do.
pub(crate) fn example(name: &str) -> PathBuf {
    static BUILT: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let tests = std::env::current_exe().unwrap();
    let profile = tests.ancestors().nth(2).unwrap();
    let program = profile.join("examples").join(name);
    let mut built = BUILT.lock().unwrap();
    if built.iter().any(|it| it == name) {
        return program;
    }
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["build", "--quiet", "--example", name])
        .args(["--no-default-features", "--features", &features()])
        .arg("--target-dir")
        .arg(profile.parent().unwrap())
        .arg("--manifest-path")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"));
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    // What cargo tells this test of itself would have the scripts of dependencies run anew.
    let told = [
        "CARGO_PKG_",
        "CARGO_MANIFEST_",
        "CARGO_CRATE_",
        "CARGO_BIN_",
    ];
    for (variable, _) in std::env::vars_os() {
        let variable = variable.to_string_lossy();
        if told.iter().any(|start| variable.starts_with(start)) {
            cargo.env_remove(variable.as_ref());
        }
    }
    assert!(cargo.status().unwrap().success(), "{name} is not built");
    built.push(name.to_owned());
    program
}
