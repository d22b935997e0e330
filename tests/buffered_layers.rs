//! Several names of one field in different layers, in types that serde buffers.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use liveprops::sources::Memory;
use liveprops::{Key, Properties, Value};
use serde::Deserialize;
use serde::de::DeserializeOwned;

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Storage {
    S3 { bucket: String },
    File { path: String },
}

#[derive(Debug, Deserialize, PartialEq)]
struct Flat<T> {
    id: u8,
    #[serde(flatten)]
    inner: T,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(tag = "kind")]
enum Tagged<T> {
    X(T),
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(untagged)]
enum Untagged<T> {
    X(T),
}

fn layers(lower: &[(&str, &str)], higher: &[(&str, &str)]) -> Properties {
    let text = |(key, value): &(&str, &str)| ((*key).to_owned(), Value::from(*value));
    let source = |entries: &[(&str, &str)]| Memory::from_iter(entries.iter().map(text));
    let both = source(&[("id", "1"), ("kind", "X")]);
    let builder = Properties::builder().source(both);
    let builder = builder.source(source(lower)).source(source(higher));
    builder.build().unwrap()
}

/// Reads all layers as a plain type and as each type that serde buffers.
fn everywhere<T: DeserializeOwned + Clone + 'static>(props: &Properties) -> [(&'static str, T); 4] {
    let Tagged::X(tagged) = props.get("").unwrap();
    let Untagged::X(untagged) = props.get("").unwrap();
    [
        ("plain", props.get("").unwrap()),
        ("flattened", props.get::<Flat<T>>("").unwrap().inner),
        ("tagged", tagged),
        ("untagged", untagged),
    ]
}

#[test]
fn the_strongest_layer_decides_between_variants_that_serde_buffers() {
    #[derive(Clone, Debug, Deserialize, PartialEq)]
    struct Inner {
        storage: Storage,
        size: u8,
    }
    let s3 = ("storage.s3.bucket", "1");
    let file = ("storage.file.path", "1");
    for (lower, higher, is_file) in [(s3, file, true), (file, s3, false)] {
        let props = layers(&[lower, ("size", "5")], &[higher]);
        for (which, inner) in everywhere::<Inner>(&props) {
            assert_eq!(
                matches!(inner.storage, Storage::File { .. }),
                is_file,
                "{which}"
            );
            assert_eq!(inner.size, 5);
        }
    }
    let all: BTreeMap<&str, &str> = BTreeMap::from([("a.s3.bucket", "x"), ("b.s3.bucket", "y")]);
    let lower: Vec<_> = all.into_iter().collect();
    let props = layers(&lower, &[("a.file.path", "z")]);
    #[derive(Debug, Deserialize)]
    struct Rest {
        #[serde(rename = "id")]
        _id: u8,
        #[serde(rename = "kind")]
        _kind: String,
        #[serde(flatten)]
        rest: BTreeMap<String, Storage>,
    }
    let rest = props.get::<Rest>("").unwrap().rest;
    assert_eq!(rest["a"], Storage::File { path: "z".into() });
    assert_eq!(rest["b"], Storage::S3 { bucket: "y".into() });
}

#[test]
fn the_strongest_layer_decides_between_variants_of_an_item() {
    let s3 = BTreeMap::from([("s3", BTreeMap::from([("bucket", "x")]))]);
    let lower = Memory::from([("l", Value::from(vec![s3]))]);
    let higher = Memory::from([("l.0.file.path", "y")]);
    let props = Properties::builder()
        .source(lower)
        .source(higher)
        .build()
        .unwrap();
    let file = Storage::File { path: "y".into() };
    assert_eq!(
        props.get::<Vec<Storage>>("l").unwrap(),
        std::slice::from_ref(&file)
    );
    #[derive(Debug, Deserialize)]
    struct Lists {
        l: Vec<Storage>,
    }
    assert_eq!(props.get::<Lists>("").unwrap().l, [file]);
}

#[test]
fn the_strongest_layer_decides_between_a_field_and_its_alias_that_serde_buffers() {
    #[derive(Clone, Debug, Deserialize, PartialEq)]
    struct Paint {
        #[serde(alias = "colour")]
        color: String,
        size: u8,
    }
    for (lower, higher) in [("colour", "color"), ("color", "colour")] {
        let props = layers(&[(lower, "7"), ("size", "7")], &[(higher, "b")]);
        for (which, paint) in everywhere::<Paint>(&props) {
            assert_eq!(paint.color, "b", "{which}, {higher}");
            assert_eq!(paint.size, 7);
        }
    }
}

#[test]
fn names_of_one_layer_that_mean_the_same_thing_are_an_error_that_names_them() {
    #[derive(Clone, Debug, Deserialize, PartialEq)]
    struct Inner {
        storage: Storage,
    }
    let both = [("storage.s3.bucket", "x"), ("storage.file.path", "y")];
    let props = layers(&[], &both);
    for error in [
        props.get::<Flat<Inner>>("").unwrap_err(),
        props.get::<Tagged<Inner>>("").unwrap_err(),
    ] {
        assert_eq!(error.key().map(Key::as_str), Some("storage"), "{error}");
        let shown = error.to_string();
        assert!(shown.contains("by `file` and `s3`; leave one"), "{shown}");
    }
}
