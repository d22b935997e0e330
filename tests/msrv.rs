//! No dependency of the crate, with any feature, needs a newer Rust version than the stated one.
//! The `incompatible_msrv` lint of clippy checks the crate itself. `tests/msrv.sh` builds it with
//! the stated version.

#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

#[test]
fn no_dependency_needs_a_newer_rust_than_the_crate_states() {
    let manifest = include_str!("../Cargo.toml");
    let (_, features) = manifest.split_once("[features]").unwrap();
    let (features, _) = features.split_once("\n[").unwrap();
    let names = features.lines().filter_map(|line| line.split_once(" = "));
    let names: Vec<&str> = names.map(|(name, _)| name).collect();
    assert!(names.contains(&"toml") && names.contains(&"nats"));
    none_is_newer(&names.join(","));
}

fn none_is_newer(features: &str) {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-default-features",
            "--features",
            features,
        ])
        .args([
            "--manifest-path",
            concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"),
        ])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let packages: BTreeMap<String, Value> = list(&metadata["packages"])
        .into_iter()
        .map(|package| (text(&package["id"]), package))
        .collect();
    let nodes: BTreeMap<String, Value> = list(&metadata["resolve"]["nodes"])
        .into_iter()
        .map(|node| (text(&node["id"]), node))
        .collect();

    let root = text(&metadata["resolve"]["root"]);
    let stated = version(&packages[&root]["rust_version"]).unwrap();
    let (mut seen, mut queue) = (BTreeSet::new(), vec![root]);
    let mut newer = Vec::new();
    while let Some(id) = queue.pop() {
        if !seen.insert(id.clone()) {
            continue;
        }
        if version(&packages[&id]["rust_version"]).is_some_and(|needs| needs > stated) {
            newer.push(id.clone());
        }
        for dependency in list(&nodes[&id]["deps"]) {
            // Without dependencies of tests, and without loom, which only models use.
            let kinds = list(&dependency["dep_kinds"]);
            let used = kinds.iter().any(|kind| {
                kind["kind"].as_str() != Some("dev") && !text(&kind["target"]).contains("loom")
            });
            if used {
                queue.push(text(&dependency["pkg"]));
            }
        }
    }
    assert!(seen.len() > 20, "the dependencies were not found: {seen:?}");
    assert!(newer.is_empty(), "need a newer Rust: {newer:?}");
}

fn version(value: &Value) -> Option<(u32, u32)> {
    let mut parts = value
        .as_str()?
        .split('.')
        .map(|part| part.parse().unwrap_or(0));
    Some((parts.next()?, parts.next().unwrap_or(0)))
}
