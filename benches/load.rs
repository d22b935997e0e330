//! What loading costs: 10 MB of TOML, and the same as JSON, beside what its parser alone makes of it.
//! Parsing by itself, and the whole of it: from a file to properties that can be read.
//!
//! `cargo bench --bench load --all-features`

#![allow(missing_docs, clippy::unwrap_used)]

#[path = "cases/manual_source.rs"]
#[allow(dead_code)] // only the source itself
mod manual_source;
mod support;

use std::cell::RefCell;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use liveprops::{Format, Origin, Properties, Source, sources::File};
use manual_source::ManualSource;
use support::{Case, timed};
use tempfile::TempDir;

/// As much as fits into 10 MB.
fn toml_text() -> String {
    let mut text = String::new();
    let mut section = 0;
    while text.len() < 9_990_000 {
        text.push_str(&format!("[section{section}]\n"));
        for i in 0..50 {
            text.push_str(&format!(
                "number_of_things_{i} = {i}\nname_of_thing_{i} = \"the value of {i}\"\n"
            ));
        }
        section += 1;
    }
    text
}

const KEY: &str = "section7.number_of_things_42";

fn parse(format: Format, text: &str, n: u64) -> Duration {
    let origin = Origin::new("file", "large");
    timed(n, || format.parse(text.as_bytes(), &origin).unwrap())
}

fn file(name: &str, text: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    fs::write(&path, text).unwrap();
    (dir, path)
}

fn read_to_table(n: u64) -> Duration {
    let (_dir, path) = file("large.toml", &toml_text());
    timed(n, || {
        let text = fs::read_to_string(&path).unwrap();
        toml::from_str::<toml::Table>(&text).unwrap()
    })
}

/// Until a value can be read. What follows is not timed: a file that is watched is read again, and
/// the properties end.
fn build(name: &str, text: &str, n: u64) -> Duration {
    let (_dir, path) = file(name, text);
    let built = RefCell::new(None);
    (0..n)
        .map(|_| {
            let took = timed(1, || {
                let source = File::new(&path);
                let props = Properties::builder().source(source).build().unwrap();
                assert_eq!(props.get::<u32>(KEY).unwrap(), 42);
                *built.borrow_mut() = Some(props);
            });
            drop(built.take());
            took
        })
        .sum()
}

/// The same on one thread, where it can be counted, and until all is gone again.
fn load(name: &str, text: &str, n: u64) -> Duration {
    let (_dir, path) = file(name, text);
    timed(n, || {
        let (source, props) = ManualSource::with_properties();
        source.send(File::new(&path).load().unwrap());
        assert_eq!(props.get::<u32>(KEY).unwrap(), 42);
    })
}

const TABLE: &str = "toml::Table";
const READ_TABLE: &str = "read the file, toml::Table";

fn case(
    name: &'static str,
    floor: &'static str,
    budget: f64,
    counted: u64,
    run: fn(u64) -> Duration,
) -> Case {
    Case {
        name,
        floor,
        budget,
        in_instructions: false,
        at_most: None,
        n: 2,
        counted,
        run,
    }
}

#[rustfmt::skip] // a table
fn toml_cases() -> Vec<Case> {
    vec![
        case(TABLE, "", 0.0, 1, |n| {
            let text = toml_text();
            timed(n, || toml::from_str::<toml::Table>(&text).unwrap())
        }),
        case("TOML document with origins", TABLE, 1.3, 1, |n| parse(Format::toml(), &toml_text(), n)),
        case(READ_TABLE, "", 0.0, 1, read_to_table),
        case("TOML file to properties", READ_TABLE, 1.3, 0, |n| build("large.toml", &toml_text(), n)),
        case("TOML file to properties and gone, on one thread", READ_TABLE, 1.3, 1, |n| load("large.toml", &toml_text(), n)),
    ]
}

#[cfg(feature = "json")]
mod json {
    use super::*;

    const VALUE: &str = "serde_json::Value";
    const READ_VALUE: &str = "read the file, serde_json::Value";

    fn json_text() -> String {
        let table: toml::Table = toml::from_str(&toml_text()).unwrap();
        serde_json::to_string(&table).unwrap()
    }

    fn read_to_value(n: u64) -> Duration {
        let (_dir, path) = file("large.json", &json_text());
        timed(n, || {
            let text = fs::read_to_string(&path).unwrap();
            serde_json::from_str::<serde_json::Value>(&text).unwrap()
        })
    }

    #[rustfmt::skip] // a table
    pub(super) fn cases() -> Vec<Case> {
        vec![
            case(VALUE, "", 0.0, 1, |n| {
                let text = json_text();
                timed(n, || serde_json::from_str::<serde_json::Value>(&text).unwrap())
            }),
            case("JSON document with origins", VALUE, 2.0, 1, |n| parse(Format::json(), &json_text(), n)),
            case(READ_VALUE, "", 0.0, 1, read_to_value),
            case("JSON file to properties", READ_VALUE, 2.0, 0, |n| build("large.json", &json_text(), n)),
            case("JSON file to properties and gone, on one thread", READ_VALUE, 2.0, 1, |n| load("large.json", &json_text(), n)),
        ]
    }
}

fn main() {
    support::main(&[
        ("Loading 10 MB of TOML", toml_cases()),
        #[cfg(feature = "json")]
        ("Loading 10 MB of JSON", json::cases()),
    ]);
}
