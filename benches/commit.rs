//! What a change costs, from the source's call to the value every thread reads: one key of few and
//! of many, a transaction, a reload of a large file with one changed line.
//!
//! `cargo bench --bench commit`

#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::sync::OnceLock;
use std::time::Duration;

use liveprops::source::Update;
use liveprops::{DynamicProperty, Format, Origin, Properties, Source, Watching, sources::Memory};
use support::{Case, timed};

/// Properties of so many keys with 1,000 live handles, built once a process.
struct Rig {
    memory: Memory,
    handles: Vec<DynamicProperty<u32>>,
    props: Properties,
}

fn key(i: usize) -> String {
    format!("section{}.key{}", i / 100, i % 100)
}

fn rig(keys: usize) -> Rig {
    let memory: Memory = (0..keys).map(|i| (key(i), i as u32)).collect();
    let props = Properties::builder()
        .source(memory.clone())
        .build()
        .unwrap();
    let handles = (0..1_000)
        .map(|i| {
            props
                .property::<u32>(&key(i * keys / 1_000))
                .build()
                .unwrap()
        })
        .collect();
    Rig {
        memory,
        handles,
        props,
    }
}

fn few() -> &'static Rig {
    static RIG: OnceLock<Rig> = OnceLock::new();
    RIG.get_or_init(|| rig(1_000))
}

fn many() -> &'static Rig {
    static RIG: OnceLock<Rig> = OnceLock::new();
    RIG.get_or_init(|| rig(1_000_000))
}

fn one_key(rig: &Rig, n: u64) -> Duration {
    let key = key(0);
    let mut value = 0u32;
    timed(n, || {
        value += 1;
        rig.memory.set(&key, value).unwrap();
        assert_eq!(rig.handles[0].get(), value);
    })
}

fn transaction(rig: &Rig, n: u64) -> Duration {
    let keys: Vec<String> = (0..1_000).map(key).collect();
    let mut value = 0u32;
    timed(n, || {
        value += 1;
        rig.props
            .transaction(|tx| keys.iter().try_for_each(|key| tx.set(key, value)))
            .unwrap();
    })
}

/// A source that is told to commit a text.
struct Told(std::sync::Mutex<Option<liveprops::Updates>>);

impl Source for &'static Told {
    fn origin(&self) -> Origin {
        Origin::new("file", "large.toml")
    }

    fn load(&self) -> Result<liveprops::Document, liveprops::Error> {
        Ok(liveprops::Document::new())
    }

    fn watching(&self) -> Watching {
        Watching::Push
    }

    fn watch(&self, updates: &liveprops::Updates) -> Result<(), liveprops::Error> {
        *self.0.lock().unwrap() = Some(updates.clone());
        Ok(())
    }
}

fn toml_text(changed: usize) -> String {
    let mut text = String::new();
    for section in 0..1_000 {
        text.push_str(&format!("[section{section}]\n"));
        for i in 0..100 {
            let value = if section == 500 && i == 50 {
                changed
            } else {
                i
            };
            text.push_str(&format!("key{i} = {value}\n"));
        }
    }
    text
}

fn reload(n: u64) -> Duration {
    static TOLD: Told = Told(std::sync::Mutex::new(None));
    static PROPS: OnceLock<Properties> = OnceLock::new();
    let props = PROPS.get_or_init(|| Properties::builder().source(&TOLD).build().unwrap());
    let updates = TOLD.0.lock().unwrap().clone().unwrap();
    let handle = props
        .property::<u32>("section500.key50")
        .default(0)
        .build()
        .unwrap();
    let texts = [toml_text(1_000), toml_text(2_000)];
    let origin = Origin::new("file", "large.toml");
    let first = Format::toml().parse(texts[0].as_bytes(), &origin).unwrap();
    updates.send(Update::full(first)).unwrap();
    let mut turn = 0;
    timed(n, || {
        turn += 1;
        let document = Format::toml()
            .parse(texts[turn % 2].as_bytes(), &origin)
            .unwrap();
        updates.send(Update::full(document)).unwrap();
        assert_eq!(handle.get(), if turn % 2 == 0 { 1_000 } else { 2_000 });
    })
}

fn main() {
    support::main(
        "Committing",
        &[
            Case {
                name: "one key of 1,000",
                floor: "",
                budget: 0.0,
                n: 20_000,
                counted: 2_000,
                run: |n| one_key(few(), n),
            },
            Case {
                name: "one key of 1,000,000",
                floor: "one key of 1,000",
                budget: 2.0,
                n: 20_000,
                counted: 0,
                run: |n| one_key(many(), n),
            },
            Case {
                name: "1,000 keys of 1,000,000",
                floor: "one key of 1,000,000",
                budget: 1_000.0,
                n: 20,
                counted: 0,
                run: |n| transaction(many(), n),
            },
            Case {
                name: "toml::Table of 100,000 keys",
                floor: "",
                budget: 0.0,
                n: 4,
                counted: 2,
                run: |n| {
                    let text = toml_text(1);
                    timed(n, || toml::from_str::<toml::Table>(&text).unwrap())
                },
            },
            Case {
                name: "reload of 100,000 keys, one changed",
                floor: "toml::Table of 100,000 keys",
                budget: 1.3,
                n: 4,
                counted: 2,
                run: reload,
            },
        ],
    );
}
