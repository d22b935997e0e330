//! Bytes of heap for each key and each handle, and the peak while reloading.
//!
//! `cargo bench --bench memory`
//!
//! Allocations are counted on one thread only, so everything runs on this thread: [`ManualSource`]
//! commits the document. The count is of requested bytes, without the overhead of the allocator.

#![allow(missing_docs, clippy::unwrap_used)]

#[path = "cases/manual_source.rs"]
mod manual_source;
mod support;

use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};

use allocation_counter::{AllocationInfo, measure};
use liveprops::{Document, DynamicProperty, Key, Properties, Source, sources::File};
use manual_source::{ManualSource, parsed, toml_text};
use support::or_dash;
use support::verdict::{Verdict, times};

const KEYS: usize = 100_000;

/// Runs something; returns its result and what it allocated, at the end and at the peak.
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

/// The budget of a row.
enum Budget {
    None,
    /// At most so many times the floor.
    Times(f64),
    /// At most so many bytes for each key or handle.
    Each(f64),
}

struct Row<'a> {
    name: &'a str,
    bytes: f64,
    each: f64,
    /// The bytes that the row is compared with.
    floor: Option<f64>,
    budget: Budget,
}

impl Row<'_> {
    fn print(&self, verdict: &mut Verdict) {
        let (ratio, each) = match self.budget {
            Budget::None => (0.0, None),
            Budget::Times(ratio) => (ratio, None),
            Budget::Each(bytes) => (0.0, Some(bytes)),
        };
        let text = match self.budget {
            Budget::None => "-".to_owned(),
            Budget::Times(ratio) => times(ratio),
            Budget::Each(bytes) => format!("{bytes} bytes each"),
        };
        let over = each.filter(|most| self.each > *most).map(|_| text.clone());
        println!(
            "| {} | {:.0} | {} | {} | {text} |",
            self.name,
            self.bytes,
            verdict.cell(self.name, "bytes each", &format!("{:.1}", self.each), over),
            or_dash(self.floor, |floor| {
                verdict.ratio(self.name, "bytes", self.bytes / floor, ratio)
            }),
        );
    }
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

/// Changes every value.
fn all_changed(text: &str) -> String {
    text.replace(" = ", " = 1").replace("= 1\"", "= \"1")
}

fn keys(dir: &Path, verdict: &mut Verdict) {
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
        Row {
            name: &format!("toml::Table, {kind}"),
            bytes: floor,
            each: a_key,
            floor: None,
            budget: Budget::None,
        }
        .print(verdict);
        drop(table);
        let (document, info) = measured(|| load(&path));
        let (bytes, a_key) = each(&info);
        Row {
            name: &format!("document, {kind}"),
            bytes,
            each: a_key,
            floor: Some(floor),
            budget: Budget::None,
        }
        .print(verdict);
        drop(document);
        let (kept, info) = measured(|| {
            let (source, props) = ManualSource::with_properties();
            source.send(load(&path));
            (source, props)
        });
        let (bytes, a_key) = each(&info);
        let name = format!("properties with origins, {kind}");
        Row {
            name: &name,
            bytes,
            each: a_key,
            floor: Some(floor),
            budget: Budget::Times(1.5),
        }
        .print(verdict);
        drop(kept);
    }
}

/// The cost of a handle on each key, with its share of the registry, in properties of their own.
fn handles_of(
    name: &str,
    verdict: &mut Verdict,
    make: impl Fn(&Properties, &str) -> DynamicProperty<u32>,
) -> (Properties, Vec<DynamicProperty<u32>>) {
    let (source, props) = ManualSource::with_properties();
    source.send(parsed(&toml_text(1)));
    let keys: Vec<Key> = props.snapshot().keys();
    assert_eq!(keys.len(), KEYS);
    let mut handles = Vec::with_capacity(KEYS);
    let info = measure(|| handles.extend(keys.iter().map(|key| make(&props, key.as_str()))));
    let bytes = info.bytes_current as f64;
    Row {
        name,
        bytes,
        each: bytes / KEYS as f64,
        floor: None,
        budget: Budget::Each(128.0),
    }
    .print(verdict);
    (props, handles)
}

fn handles(verdict: &mut Verdict) {
    table(
        &format!("Live bytes of {KEYS} handles, one on each of {KEYS} keys"),
        ["what", "bytes", "a handle", "ratio", "budget"],
    );
    handles_of("u32", verdict, |props, key| {
        props.property(key).build().unwrap()
    });
    let (_props, handles) = handles_of("u32 with a default", verdict, |props, key| {
        props.property(key).default(1).build().unwrap()
    });
    let (clones, info) = measured(|| {
        let mut clones = Vec::with_capacity(KEYS);
        clones.extend(handles.iter().cloned());
        clones
    });
    let bytes = info.bytes_current as f64;
    Row {
        name: "a clone, where it is kept",
        bytes,
        each: bytes / KEYS as f64,
        floor: None,
        budget: Budget::None,
    }
    .print(verdict);
    drop(black_box(clones));
    let mut subscriptions = Vec::with_capacity(KEYS);
    let info = measure(|| subscriptions.extend(handles.iter().map(|it| it.on_change(|_| {}))));
    let bytes = info.bytes_current as f64;
    Row {
        name: "a subscription",
        bytes,
        each: bytes / KEYS as f64,
        floor: None,
        budget: Budget::None,
    }
    .print(verdict);
}

fn reloads(dir: &Path, verdict: &mut Verdict) {
    table(
        &format!("Bytes at most while {KEYS} keys are reloaded"),
        ["what", "bytes", "a key", "of what lives before", "budget"],
    );
    for ((kind, text), (_, one)) in texts(1).into_iter().zip(texts(2)) {
        let path = put(dir, &text);
        let ((source, _props), info) = measured(|| {
            let (source, props) = ManualSource::with_properties();
            source.send(load(&path));
            (source, props)
        });
        let live = info.bytes_current as f64;
        let mut row = |name: &str, over: u64, budget| {
            let bytes = live + over as f64;
            let name = format!("{name}, {kind}");
            Row {
                name: &name,
                bytes,
                each: bytes / KEYS as f64,
                floor: Some(live),
                budget,
            }
            .print(verdict);
        };
        row("before", 0, Budget::None);
        row("beside its text", text.len() as u64, Budget::None);
        let (_, info) = measured(|| toml::from_str::<toml::Table>(&text).unwrap());
        row(
            "beside toml::Table being made",
            info.bytes_max,
            Budget::None,
        );
        let (_, info) = measured(|| parsed(&text));
        row("beside a document being made", info.bytes_max, Budget::None);
        let document = parsed(&one);
        let (_, info) = measured(|| source.send(document));
        row(
            "a document made before, one key changed",
            info.bytes_max,
            Budget::None,
        );
        for (what, text) in [
            ("nothing changed", one.clone()),
            ("one key changed", text.clone()),
            ("all keys changed", all_changed(&text)),
        ] {
            let path = put(dir, &text);
            let (_, info) = measured(|| source.send(load(&path)));
            row(
                &format!("reload of the file, {what}"),
                info.bytes_max,
                Budget::Times(2.2),
            );
            // Everything ran on this thread, so allocated and freed bytes are about equal.
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
    let mut verdict = Verdict::default();
    keys(dir.path(), &mut verdict);
    handles(&mut verdict);
    reloads(dir.path(), &mut verdict);
    verdict.print();
}
