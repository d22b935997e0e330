//! What it holds: bytes of heap for each key and each handle, and how much more while reloading.
//!
//! `cargo bench --bench memory`
//!
//! Allocations are counted on one thread only, so everything is done on this one: the file is read
//! by the source when it is asked to, and its document handed in by [`Told`]. What is counted are
//! the bytes asked for, without what an allocator adds.

#![allow(missing_docs, clippy::unwrap_used)]

#[path = "cases/told.rs"]
mod told;

use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};

use allocation_counter::{AllocationInfo, measure};
use liveprops::{Document, DynamicProperty, Key, Properties, Source, sources::File};
use told::{Told, parsed, toml_text};

const KEYS: usize = 100_000;

/// Runs something, and says with its result what it allocated, at the end and at most.
fn measured<R>(run: impl FnOnce() -> R) -> (R, AllocationInfo) {
    let mut result = None;
    let info = measure(|| result = Some(run()));
    (result.unwrap(), info)
}

/// A table of Markdown with these columns.
fn table(title: &str, columns: [&str; 5]) {
    println!("\n### {title}\n");
    println!("| {} |", columns.join(" | "));
    println!("|---|--:|--:|--:|--:|");
}

fn row(name: &str, bytes: f64, each: f64, floor: Option<f64>, budget: Option<f64>) {
    let dash = |figure: Option<String>| figure.unwrap_or("-".to_owned());
    println!(
        "| {name} | {bytes:.0} | {each:.1} | {} | {} |",
        dash(floor.map(|floor| format!("{:.2}", bytes / floor))),
        dash(budget.map(|budget| budget.to_string())),
    );
}

/// 100,000 keys with numbers, or with texts of about 20 bytes.
fn texts(changed: usize) -> [(&'static str, String); 2] {
    let numbers = toml_text(changed);
    let words = numbers
        .lines()
        .map(|line| match line.split_once(" = ") {
            Some((key, value)) => format!("{key} = \"the value of {value:0>7}\"\n"),
            None => format!("{line}\n"),
        })
        .collect();
    [("numbers", numbers), ("texts", words)]
}

/// Every value another.
fn all_changed(text: &str) -> String {
    text.replace(" = ", " = 1").replace("= 1\"", "= \"1")
}

fn keys(dir: &Path) {
    table(
        &format!("Live bytes of {KEYS} keys"),
        ["what", "bytes", "a key", "ratio", "budget"],
    );
    for (kind, text) in texts(1) {
        let path = put(dir, &text);
        let each = |info: &AllocationInfo| {
            let bytes = info.bytes_current as f64;
            (bytes, bytes / KEYS as f64)
        };
        let (table, info) = measured(|| toml::from_str::<toml::Table>(&text).unwrap());
        let (floor, a_key) = each(&info);
        row(&format!("toml::Table, {kind}"), floor, a_key, None, None);
        drop(table);
        let (document, info) = measured(|| load(&path));
        let (bytes, a_key) = each(&info);
        row(
            &format!("document, {kind}"),
            bytes,
            a_key,
            Some(floor),
            None,
        );
        drop(document);
        let (held, info) = measured(|| {
            let (told, props) = Told::alone();
            told.say(load(&path));
            (told, props)
        });
        let (bytes, a_key) = each(&info);
        let name = format!("properties with origins, {kind}");
        row(&name, bytes, a_key, Some(floor), Some(1.5));
        drop(held);
    }
}

/// What a handle on each key takes, with its share of the registry: in properties of their own.
fn held(
    name: &str,
    make: impl Fn(&Properties, &str) -> DynamicProperty<u32>,
) -> (Properties, Vec<DynamicProperty<u32>>) {
    let (told, props) = Told::alone();
    told.say(parsed(&toml_text(1)));
    let keys: Vec<Key> = props.snapshot().keys();
    assert_eq!(keys.len(), KEYS);
    let mut handles = Vec::with_capacity(KEYS);
    let info = measure(|| handles.extend(keys.iter().map(|key| make(&props, key.as_str()))));
    let bytes = info.bytes_current as f64;
    row(name, bytes, bytes / KEYS as f64, None, Some(128.0));
    (props, handles)
}

fn handles() {
    table(
        &format!("Live bytes of {KEYS} handles, one on each of {KEYS} keys"),
        ["what", "bytes", "a handle", "ratio", "budget"],
    );
    held("u32", |props, key| props.property(key).build().unwrap());
    let (_props, handles) = held("u32 with a default", |props, key| {
        props.property(key).default(1).build().unwrap()
    });
    let (clones, info) = measured(|| {
        let mut clones = Vec::with_capacity(KEYS);
        clones.extend(handles.iter().cloned());
        clones
    });
    let bytes = info.bytes_current as f64;
    row(
        "a clone, where it is kept",
        bytes,
        bytes / KEYS as f64,
        None,
        None,
    );
    drop(black_box(clones));
    let mut subscriptions = Vec::with_capacity(KEYS);
    let info = measure(|| subscriptions.extend(handles.iter().map(|it| it.on_change(|_| {}))));
    let bytes = info.bytes_current as f64;
    row("a subscription", bytes, bytes / KEYS as f64, None, None);
}

fn reloads(dir: &Path) {
    table(
        &format!("Bytes at most while {KEYS} keys are reloaded"),
        ["what", "bytes", "a key", "of what lives before", "budget"],
    );
    for ((kind, text), (_, one)) in texts(1).into_iter().zip(texts(2)) {
        let path = put(dir, &text);
        let ((told, _props), info) = measured(|| {
            let (told, props) = Told::alone();
            told.say(load(&path));
            (told, props)
        });
        let live = info.bytes_current as f64;
        let say = |name: &str, over: u64, budget| {
            let bytes = live + over as f64;
            let name = format!("{name}, {kind}");
            row(&name, bytes, bytes / KEYS as f64, Some(live), budget);
        };
        say("before", 0, None);
        say("beside its text", text.len() as u64, None);
        let (_, info) = measured(|| toml::from_str::<toml::Table>(&text).unwrap());
        say("beside toml::Table being made", info.bytes_max, None);
        let (_, info) = measured(|| parsed(&text));
        say("beside a document being made", info.bytes_max, None);
        let document = parsed(&one);
        let (_, info) = measured(|| told.say(document));
        say(
            "a document made before, one key changed",
            info.bytes_max,
            None,
        );
        for (what, text) in [
            ("nothing changed", one.clone()),
            ("one key changed", text.clone()),
            ("all keys changed", all_changed(&text)),
        ] {
            let path = put(dir, &text);
            let (_, info) = measured(|| told.say(load(&path)));
            say(
                &format!("reload of the file, {what}"),
                info.bytes_max,
                Some(2.2),
            );
            // All was on this thread: what came is about what went.
            assert!((info.bytes_current as f64).abs() < live / 10.0);
        }
    }
}

fn load(path: &Path) -> Document {
    File::new(path).load().unwrap()
}

fn put(dir: &Path, text: &str) -> PathBuf {
    let path = dir.join("large.toml");
    fs::write(&path, text).unwrap();
    path
}

fn main() {
    let dir = tempfile::tempdir().unwrap();
    keys(dir.path());
    handles();
    reloads(dir.path());
}
