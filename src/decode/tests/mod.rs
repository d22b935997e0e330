//! Tests of decoding. This file has the helpers and the types that the others share.

#![allow(clippy::unwrap_used)]

mod buffered;
mod buffered_errors;
mod buffered_text;
mod collected;
mod conversions;
mod errors;
mod escapes;
mod good_neighbours;
mod like_plain;
mod lists;
mod locations;
mod map_keys;
mod missing_below;
mod mixed;
mod properties;
mod ranges;
mod scalars;
mod secrets;
mod tables;
mod unread_secrets;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::*;
use crate::error::{ErrorKind, MASK};
use crate::value::document::Document;
use crate::value::node::{Leaf, Resolved};
use crate::value::secret::Secret;
use crate::value::units::ByteSize;

fn origin() -> Origin {
    Origin::new("file", "app.toml").at(3, 7)
}

fn read<T: DeserializeOwned>(value: impl Into<Value>) -> Result<T, Error> {
    let node = Node::of(value.into(), &origin());
    from_node("k", Some(&node), false)
}

fn document(entries: &[(&str, Value)]) -> Document {
    let mut document = Document::new();
    for (line, (key, value)) in entries.iter().enumerate() {
        let origin = Origin::new("file", "app.toml").at(line as u32 + 1, 1);
        document.set(key, value.clone(), origin).unwrap();
    }
    document
}

fn bind<T: DeserializeOwned>(entries: &[(&str, Value)]) -> Result<T, Error> {
    from_table("", Some(document(entries).root()), false)
}

fn text(entries: &[(&str, &str)]) -> Vec<(&'static str, Value)> {
    entries
        .iter()
        .map(|(k, v)| (&*Box::leak(k.to_string().into_boxed_str()), Value::from(*v)))
        .collect()
}

fn table<'a>(entries: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    let entries = entries.into_iter();
    Value::Table(entries.collect())
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(bound = "T: Deserialize<'de>")]
struct FlattenedMap<T> {
    id: u8,
    #[serde(flatten)]
    rest: BTreeMap<String, T>,
}

fn keys(error: &Error) -> Vec<String> {
    error
        .iter()
        .map(|e| e.key_text().unwrap_or_default().to_owned())
        .collect()
}

#[derive(Debug, Deserialize, PartialEq)]
#[allow(dead_code)] // only decoded
struct Twelve {
    a: u8,
    b: u16,
    c: u32,
    d: i64,
    e: bool,
    f: f64,
    g: String,
    h: Duration,
    i: Vec<u32>,
    j: Option<char>,
    k: IpAddr,
    l: Mode,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq)]
#[serde(rename_all = "kebab-case")]
enum Mode {
    Fast,
    VerySlow,
}

const TWELVE: [(&str, &str); 12] = [
    ("a", "1"),
    ("b", "2"),
    ("c", "3"),
    ("d", "-4"),
    ("e", "yes"),
    ("f", "1.5"),
    ("g", "x"),
    ("h", "5s"),
    ("i", "1,2"),
    ("j", "c"),
    ("k", "::1"),
    ("l", "VERY-slow"),
];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)] // only decoded
struct Outer {
    inner: Inner,
    list: Vec<Inner>,
    map: HashMap<String, Inner>,
    #[serde(default)]
    extra: u8,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)] // only decoded
struct Inner {
    x: u8,
    y: NonZeroU32,
}

#[derive(Debug, Deserialize, PartialEq)]
enum Shape {
    Unit,
    New(u8),
    Pair(u8, bool),
    Named { width: u8 },
    Maybe(Option<u8>),
}

#[test]
fn enums_read_from_names_and_from_tables_of_one_name() {
    assert_eq!(read::<Shape>("unit").unwrap(), Shape::Unit);
    assert_eq!(read::<Shape>("Maybe").unwrap(), Shape::Maybe(None));
    assert_eq!(read::<Shape>("New").unwrap_err().key_text(), Some("k.New"));
    let one = |name: &str, value: Value| read::<Shape>(BTreeMap::from([(name, value)]));
    assert_eq!(one("New", "5".into()).unwrap(), Shape::New(5));
    assert_eq!(one("pair", "5,no".into()).unwrap(), Shape::Pair(5, false));
    assert_eq!(
        one("Named", BTreeMap::from([("width", "3")]).into()).unwrap(),
        Shape::Named { width: 3 }
    );
    assert_eq!(one("Unit", "".into()).unwrap(), Shape::Unit);
    assert_eq!(
        one("New", "x".into()).unwrap_err().key_text(),
        Some("k.New")
    );
    assert!(read::<Shape>(BTreeMap::from([("New", 1), ("Unit", 2)])).is_err());
    let error = read::<Mode>("medium").unwrap_err();
    assert_eq!(
        error.to_string(),
        "`k`: unknown variant, expected one of `fast`, `very-slow`, found text \"medium\" (file app.toml:3:7)"
    );
    assert_eq!(read::<HashMap<Mode, u8>>("fast=1").unwrap()[&Mode::Fast], 1);
}

#[derive(Debug, Deserialize, PartialEq)]
struct Flat {
    id: u8,
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Rest {
    limit: u32,
    password: String,
    on: bool,
    every: Duration,
    twin: u8,
    twin_name: String,
    ports: Vec<u16>,
}

const FLAT: [(&str, &str); 8] = [
    ("id", "1"),
    ("limit", "1_000"),
    ("password", "1234"),
    ("on", "yes"),
    ("every", "1m"),
    ("twin", "5"),
    ("twin_name", "5"),
    ("ports", "80, 443"),
];

#[test]
fn flattened_fields_read_from_text_and_a_password_of_digits_stays_text() {
    let flat: Flat = bind(&text(&FLAT)).unwrap();
    let rest = Rest {
        limit: 1000,
        password: "1234".into(),
        on: true,
        every: Duration::from_secs(60),
        twin: 5,
        twin_name: "5".into(),
        ports: vec![80, 443],
    };
    assert_eq!(flat, Flat { id: 1, rest });
}

#[test]
fn a_long_flattened_list_reads_from_text() {
    let ports: Vec<String> = (0..2000).map(|port| port.to_string()).collect();
    let ports = ports.join(",");
    let mut entries = FLAT;
    entries[7].1 = &ports;
    let flat: Flat = bind(&text(&entries)).unwrap();
    assert_eq!(flat.rest.ports.len(), 2000);
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Tagged {
    Disk { size: u32, label: String },
    Net { port: u16 },
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(tag = "t", content = "c")]
enum Adjacent {
    A { n: u8 },
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(untagged)]
enum Untagged {
    Range { from: u8, to: u8 },
    Word(String),
}

#[test]
fn tagged_and_untagged_enums_read_from_text() {
    let disk: Tagged = bind(&text(&[("kind", "disk"), ("size", "5"), ("label", "5")])).unwrap();
    assert_eq!(
        disk,
        Tagged::Disk {
            size: 5,
            label: "5".into()
        }
    );
    let a: Adjacent = bind(&text(&[("t", "A"), ("c.n", "5")])).unwrap();
    assert_eq!(a, Adjacent::A { n: 5 });
    let range: Untagged = bind(&text(&[("from", "1"), ("to", "2")])).unwrap();
    assert_eq!(range, Untagged::Range { from: 1, to: 2 });
    assert_eq!(read::<Untagged>("5").unwrap(), Untagged::Word("5".into()));
    let error = bind::<Tagged>(&text(&[("kind", "net"), ("port", "70000")])).unwrap_err();
    assert_eq!(keys(&error), ["port"]);
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct Loud;

impl TryFrom<String> for Loud {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Err(format!("cannot use {text}"))
    }
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "RawLogin")]
struct Login;

#[derive(Deserialize)]
struct RawLogin {
    word: Secret<String>,
}

impl TryFrom<RawLogin> for Login {
    type Error = String;

    fn try_from(raw: RawLogin) -> Result<Self, String> {
        Err(format!("bad word {}", raw.word.expose()))
    }
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)] // only decoded
struct FlatSecret {
    #[serde(flatten)]
    inner: SecretNumber,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)] // only decoded
struct SecretNumber {
    plain: Secret<u32>,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)] // only decoded
struct FlatName {
    #[serde(flatten)]
    inner: NameNumber,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)] // only decoded
struct NameNumber {
    api_key: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Debug, Deserialize)]
#[allow(dead_code)] // only decoded
struct Nest(Vec<Nest>);

#[derive(Debug, Deserialize)]
#[allow(dead_code)] // only decoded
struct Aliased {
    #[serde(alias = "old")]
    new: NonZeroU32,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)] // only decoded
struct Around {
    first: Aliased,
    second: Tagged,
    third: u8,
}

#[test]
fn an_alias_is_read_like_the_name_itself() {
    assert_eq!(
        bind::<Aliased>(&text(&[("old", "5")])).unwrap().new.get(),
        5
    );
}
