//! What loading costs: 8 MB of TOML, and the same as JSON, beside what its parser alone makes of it.
//!
//! `cargo bench --bench load --all-features`

#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::time::Duration;

use liveprops::{Format, Origin};
use support::{Case, timed};

fn toml_text() -> String {
    let mut text = String::new();
    let mut section = 0;
    while text.len() < 8_000_000 {
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

fn load(format: Format, text: &str, n: u64) -> Duration {
    let origin = Origin::new("file", "large");
    timed(n, || format.parse(text.as_bytes(), &origin).unwrap())
}

fn main() {
    let case = |name, floor, budget, run| Case {
        name,
        floor,
        budget,
        n: 2,
        counted: 1,
        run,
    };
    #[cfg_attr(not(feature = "json"), allow(unused_mut))] // only JSON adds more
    let mut cases = vec![
        case("toml::Table", "", 0.0, |n| {
            let text = toml_text();
            timed(n, || toml::from_str::<toml::Table>(&text).unwrap())
        }),
        case("TOML document with origins", "toml::Table", 1.3, |n| {
            load(Format::toml(), &toml_text(), n)
        }),
    ];
    #[cfg(feature = "json")]
    {
        fn json_text() -> String {
            let table: toml::Table = toml::from_str(&toml_text()).unwrap();
            serde_json::to_string(&table).unwrap()
        }
        cases.push(case("serde_json::Value", "", 0.0, |n| {
            let text = json_text();
            timed(n, || {
                serde_json::from_str::<serde_json::Value>(&text).unwrap()
            })
        }));
        cases.push(case(
            "JSON document with origins",
            "serde_json::Value",
            2.0,
            |n| {
                let text = json_text();
                load(Format::json(), &text, n)
            },
        ));
    }
    support::main(&[("Loading 8 MB", cases)]);
}
