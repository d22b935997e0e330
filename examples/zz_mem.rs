#![allow(missing_docs, clippy::unwrap_used)]
use liveprops::{Format, Origin, Properties, sources::Memory};
fn text() -> String {
    let mut text = String::new();
    for s in 0..1000 {
        text.push_str(&format!("[section{s}]\n"));
        for i in 0..100 {
            text.push_str(&format!("key{i} = {i}\n"));
        }
    }
    text
}
fn text2() -> String {
    let mut text = String::new();
    for s in 0..1000 {
        text.push_str(&format!("[section{s}]\n"));
        for i in 0..50 {
            text.push_str(&format!(
                "number_of_things_{i} = {i}\nname_of_thing_{i} = \"the value of {i}\"\n"
            ));
        }
    }
    text
}
fn main() {
    for t in [text(), text2()] {
        let mut keep = None;
        let i =
            allocation_counter::measure(|| keep = Some(toml::from_str::<toml::Table>(&t).unwrap()));
        println!("toml::Table {} B/key", i.bytes_current / 100_000);
        let mut doc = None;
        let i = allocation_counter::measure(|| {
            doc = Some(
                Format::toml()
                    .parse(t.as_bytes(), &Origin::new("file", "x.toml"))
                    .unwrap(),
            )
        });
        println!(
            "document {} B/key max {}",
            i.bytes_current / 100_000,
            i.bytes_max / 100_000
        );
        drop(keep);
    }
    let memory: Memory = (0..100_000)
        .map(|i| (format!("section{}.key{}", i / 100, i % 100), i as u32))
        .collect();
    let props = Properties::builder().source(memory).build().unwrap();
    let mut hs = Vec::with_capacity(100_000);
    let i = allocation_counter::measure(|| {
        for i in 0..100_000 {
            hs.push(
                props
                    .property::<u32>(&format!("section{}.key{}", i / 100, i % 100))
                    .build()
                    .unwrap(),
            );
        }
    });
    println!(
        "handle {} B count {}",
        i.bytes_current / 100_000,
        i.count_current / 100_000
    );
    let mut hs2 = Vec::with_capacity(100_000);
    let i = allocation_counter::measure(|| {
        for i in 0..100_000 {
            hs2.push(
                props
                    .property::<u32>(&format!("section{}.key{}", i / 100, i % 100))
                    .default(1)
                    .build()
                    .unwrap(),
            );
        }
    });
    println!(
        "handle with default {} B count {}",
        i.bytes_current / 100_000,
        i.count_current / 100_000
    );
}
