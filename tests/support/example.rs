//! Builds examples.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// Returns the features of this build.
fn features() -> String {
    let mut features = Vec::new();
    macro_rules! add {
        ($($name:literal)*) => { $(if cfg!(feature = $name) { features.push($name); })* };
    }
    add!("default" "toml" "json" "yaml" "properties" "dotenv" "watch");
    add!("http" "consul" "etcd" "nats" "zookeeper" "test-util");
    features.join(",")
}

/// Builds an example with the profile and features of this test; returns the path of the program.
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
    // With these variables of the test, cargo would run the build scripts of dependencies again.
    let prefixes = [
        "CARGO_PKG_",
        "CARGO_MANIFEST_",
        "CARGO_CRATE_",
        "CARGO_BIN_",
    ];
    for (variable, _) in std::env::vars_os() {
        let variable = variable.to_string_lossy();
        if prefixes.iter().any(|prefix| variable.starts_with(prefix)) {
            cargo.env_remove(variable.as_ref());
        }
    }
    assert!(cargo.status().unwrap().success(), "building {name} failed");
    built.push(name.to_owned());
    program
}
