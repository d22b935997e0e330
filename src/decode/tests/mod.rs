#![allow(clippy::unwrap_used)]

mod buffered;
mod buffered_errors;
mod buffered_text;
mod collected;
mod map_keys;
mod mixed;
mod places;
mod tables;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;
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

fn keys(error: &Error) -> Vec<String> {
    error
        .iter()
        .map(|e| e.key_text().unwrap_or_default().to_owned())
        .collect()
}

/// Counts the rows, so that the table cannot shrink unnoticed.
#[derive(Default)]
struct Rows(usize);

impl Rows {
    fn good<T: DeserializeOwned + PartialEq + std::fmt::Debug>(
        &mut self,
        rows: impl IntoIterator<Item = (impl Into<Value>, T)>,
    ) {
        for (value, expected) in rows {
            let value = value.into();
            self.0 += 1;
            match read::<T>(value.clone()) {
                Ok(found) => assert_eq!(found, expected, "{value}"),
                Err(error) => panic!("{value} as {}: {error}", std::any::type_name::<T>()),
            }
        }
    }

    fn bad<T: DeserializeOwned + std::fmt::Debug>(
        &mut self,
        rows: impl IntoIterator<Item = impl Into<Value>>,
    ) {
        for value in rows {
            let value = value.into();
            self.0 += 1;
            let Err(error) = read::<T>(value.clone()) else {
                panic!("{value} became a {}", std::any::type_name::<T>());
            };
            for error in error.iter() {
                assert_eq!(error.kind(), ErrorKind::Mismatch, "{value}: {error}");
                assert!(
                    error.key_text().is_some_and(|key| key.starts_with('k')),
                    "{error}"
                );
                assert!(error.expected().is_some(), "{value}: {error}");
                assert!(error.found().is_some(), "{value}: {error}");
                assert_eq!(
                    error.origin().map(ToString::to_string).as_deref(),
                    Some("file app.toml:3:7"),
                    "{value}"
                );
            }
        }
    }
}

#[test]
fn every_input_of_the_table_reads_as_it_says() {
    let mut rows = Rows::default();
    rows.good::<u8>([
        ("0", 0),
        ("255", 255),
        ("+5", 5),
        (" 7 ", 7),
        ("\t7\n", 7),
        ("012", 12),
        ("01", 1),
        ("1_0", 10),
        ("0xff", 255),
        ("0XFF", 255),
        ("0o17", 15),
        ("0b101", 5),
    ]);
    rows.bad::<u8>([
        "256",
        "-1",
        "",
        " ",
        "1.5",
        "1e1",
        "abc",
        "0x",
        "0x100",
        "_1",
        "1_",
        "1__0",
        "--1",
        "+-1",
        "+",
        "-",
        "1 0",
        "1,0",
        "٣",
        "0x_1",
        "1\u{0}",
        "nan",
        "true",
        "12:30",
        "9999999999999999999999",
        "999999999999999999999999999999999999999999999999",
    ]);
    rows.good::<i8>([("-128", -128), ("127", 127), ("-0", 0), ("-0x10", -16)]);
    rows.bad::<i8>(["-129", "128", "- 5"]);
    rows.good::<u32>([
        ("1_000_000", 1_000_000),
        ("4294967295", u32::MAX),
        ("0000000000000000000000001", 1),
    ]);
    rows.bad::<u32>(["4294967296", "-1"]);
    rows.good::<i64>([
        ("-9223372036854775808", i64::MIN),
        ("9223372036854775807", i64::MAX),
    ]);
    rows.bad::<i64>(["-9223372036854775809", "9223372036854775808"]);
    rows.good::<u64>([("18446744073709551615", u64::MAX)]);
    rows.bad::<u64>(["18446744073709551616"]);
    rows.good::<i128>([("-170141183460469231731687303715884105728", i128::MIN)]);
    rows.bad::<i128>([
        "-170141183460469231731687303715884105729",
        "170141183460469231731687303715884105728",
    ]);
    rows.good::<u128>([("340282366920938463463374607431768211455", u128::MAX)]);
    rows.bad::<u128>(["340282366920938463463374607431768211456", "-1"]);
    rows.good::<usize>([("5", 5)]);
    rows.good::<u16>([
        (Value::from(65535), 65535),
        (Value::from(2.0), 2),
        (Value::from(-0.0), 0),
    ]);
    rows.bad::<u16>([
        Value::from(65536),
        Value::from(-1),
        Value::from(2.5),
        Value::from(65536.0),
        Value::from(-1.0),
        Value::from(f64::NAN),
        Value::from(f64::INFINITY),
        Value::from(true),
    ]);
    rows.good::<u64>([(Value::from(u64::MAX), u64::MAX)]);
    rows.bad::<u64>([Value::from(i128::MAX)]);
    rows.bad::<NonZeroU32>(["0"]);
    rows.good::<NonZeroU32>([("3", NonZeroU32::new(3).unwrap())]);
    rows.good::<f64>([
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("-0.25", -0.25),
        (" 2 ", 2.0),
        ("1_000.5", 1000.5),
        (".5", 0.5),
        ("1.", 1.0),
        ("inf", f64::INFINITY),
        ("-inf", f64::NEG_INFINITY),
        ("1E-3", 0.001),
        ("9007199254740992", 9_007_199_254_740_992.0),
        ("0e-999", 0.0),
    ]);
    assert!(read::<f64>("nan").unwrap().is_nan());
    rows.bad::<f64>([
        "1e400",
        "-1e400",
        "NaN",
        "infinity",
        "Inf",
        "",
        "1,5",
        "1.5.5",
        "e5",
        "9007199254740993",
        "1_.5",
        "1._5",
        "abc",
        "1e-999",
        "0x1p3",
        ".",
    ]);
    rows.good::<f64>([
        (Value::from(3), 3.0),
        (Value::from(1i64 << 53), 9_007_199_254_740_992.0),
    ]);
    rows.bad::<f64>([
        Value::from((1i64 << 53) + 1),
        Value::from(i128::MAX),
        Value::from(true),
    ]);
    rows.good::<f32>([("0.1", 0.1), ("16777216", 16_777_216.0)]);
    rows.good::<f32>([(Value::from(0.1), 0.1)]);
    rows.bad::<f32>(["1e39", "16777217"]);
    rows.bad::<f32>([Value::from(1e39), Value::from(16_777_217)]);
    rows.good::<bool>([
        ("true", true),
        ("T", true),
        ("Yes", true),
        ("y", true),
        ("ON", true),
        ("1", true),
        (" on ", true),
        ("false", false),
        ("f", false),
        ("NO", false),
        ("N", false),
        ("off", false),
        ("0", false),
    ]);
    rows.bad::<bool>(["", "2", "01", "yess", "enabled", "null", "-1"]);
    rows.bad::<bool>([Value::from(1), Value::from(0), Value::from(1.0)]);
    rows.good::<char>([("x", 'x'), (" ", ' '), (" é ", 'é'), ("🦀", '🦀')]);
    rows.good::<char>([(Value::from(5), '5')]);
    rows.bad::<char>(["", "ab", "  "]);
    rows.good::<String>([
        ("", String::new()),
        (" a ", " a ".into()),
        ("007", "007".into()),
        ("true", "true".into()),
    ]);
    rows.good::<String>([
        (Value::from(1234), "1234".to_string()),
        (Value::from(true), "true".into()),
        (Value::from(1.5), "1.5".into()),
        (Value::from(i128::MAX), i128::MAX.to_string()),
    ]);
    rows.bad::<String>([Value::from(vec!["a"])]);
    let seconds = Duration::from_secs;
    rows.good::<Duration>([
        ("30s", seconds(30)),
        ("1h 5m", seconds(3900)),
        ("250ms", Duration::from_millis(250)),
        ("1.5s", Duration::from_millis(1500)),
        ("2d", seconds(172_800)),
        ("PT1H5M", seconds(3900)),
        ("0", seconds(0)),
    ]);
    rows.good::<Duration>([(Value::from(0), seconds(0))]);
    rows.bad::<Duration>([
        "",
        "30",
        "1.5",
        "-1s",
        "5 parsecs",
        "0.0000000001s",
        "18446744073709551616s",
    ]);
    rows.bad::<Duration>([Value::from(30), Value::from(0.5), Value::from(true)]);
    rows.good::<ByteSize>([
        ("10 MiB", ByteSize::from_bytes(10 << 20)),
        ("512", ByteSize::from_bytes(512)),
    ]);
    rows.good::<ByteSize>([(Value::from(7), ByteSize::from_bytes(7))]);
    rows.good::<IpAddr>([
        ("::1", "::1".parse().unwrap()),
        ("10.0.0.1", "10.0.0.1".parse().unwrap()),
    ]);
    rows.bad::<IpAddr>(["localhost", "", "10.0.0"]);
    rows.good::<SocketAddr>([("[::1]:80", "[::1]:80".parse().unwrap())]);
    rows.good::<PathBuf>([("/etc/x", PathBuf::from("/etc/x"))]);
    rows.good::<Option<u8>>([("5", Some(5))]);
    rows.bad::<Option<u8>>(["", "x"]);
    rows.good::<()>([("", ()), (" ", ())]);
    rows.bad::<()>(["x"]);
    rows.good::<(u8, String)>([("1, a", (1, "a".to_string())), ("[2,'b']", (2, "b".into()))]);
    rows.bad::<(u8, String)>(["1", "1,a,b", "x,a", ""]);
    rows.good::<BTreeMap<u8, bool>>([
        ("1=on, 2=off", BTreeMap::from([(1, true), (2, false)])),
        ("", BTreeMap::new()),
    ]);
    rows.bad::<BTreeMap<u8, bool>>(["1", "x=on", "1=maybe", "1=on,1=off"]);
    assert!(rows.0 >= 150, "only {} rows", rows.0);
}

#[test]
fn a_list_is_the_same_in_every_spelling() {
    let expected = ["a", "b,c", "d \"e\""].map(String::from).to_vec();
    for spelling in [
        r#"a, "b,c", d "e""#,
        r#" a ,'b,c', "d \"e\"""#,
        r#"a,"b,c",'d "e"',"#,
        r#"[a, "b,c", 'd "e"']"#,
        r#"["a", "b,c", "d \"e\"",]"#,
    ] {
        assert_eq!(
            read::<Vec<String>>(spelling).unwrap(),
            expected,
            "{spelling}"
        );
    }
    assert_eq!(
        read::<Vec<String>>(vec!["a", "b,c", "d \"e\""]).unwrap(),
        expected
    );
    let children = [
        ("a.2", "d \"e\"".into()),
        ("a.1", "b,c".into()),
        ("a.00", "a".into()),
    ];
    assert_eq!(
        bind::<BTreeMap<String, Vec<String>>>(&children).unwrap()["a"],
        expected
    );
    let many: Vec<(String, Value)> = (0..12).map(|n| (format!("a.{n}"), n.into())).collect();
    let many: Vec<(&str, Value)> = many.iter().map(|(k, v)| (&**k, v.clone())).collect();
    let numbers = bind::<BTreeMap<String, Vec<i64>>>(&many).unwrap();
    assert_eq!(
        numbers["a"],
        (0..12).collect::<Vec<_>>(),
        "by number, not by text"
    );
    let gap = [("a.0", "x".into()), ("a.2", "z".into())];
    let error = bind::<BTreeMap<String, Vec<String>>>(&gap).unwrap_err();
    let gap = "item 1 is missing between item 0 (file app.toml:1:1) and item 2";
    assert!(error.to_string().contains(gap), "{error}");
}

#[test]
fn odd_lists_read_as_documented() {
    let list = |text: &str| read::<Vec<String>>(text).unwrap();
    assert_eq!(list(""), [""; 0]);
    assert_eq!(list(" [ ] "), [""; 0]);
    assert_eq!(list("\"\""), [""]);
    assert_eq!(list("a,,b"), ["a", "", "b"]);
    assert_eq!(list("a,"), ["a"]);
    assert_eq!(list("O'Brien, x"), ["O'Brien", "x"]);
    assert_eq!(list(r"'C:\dir', 'a\\b'"), [r"C:\dir", r"a\b"]);
    assert_eq!(list("[::1]:80, [::2]:80"), ["[::1]:80", "[::2]:80"]);
    assert_eq!(
        read::<Vec<Vec<u8>>>("[[1,2],[3]]").unwrap(),
        [vec![1, 2], vec![3]]
    );
    assert_eq!(
        read::<Vec<Vec<u8>>>(vec!["1,2", "3"]).unwrap(),
        [vec![1, 2], vec![3]]
    );
    assert_eq!(list("héé, 'ü'"), ["héé", "ü"]);
    assert_eq!(read::<BTreeSet<u8>>("1,1,2").unwrap().len(), 2);
    for bad in ["[a", "\"a", "\"a\" b", "[[a]"] {
        assert!(read::<Vec<String>>(bad).is_err(), "{bad}");
    }
    assert_eq!(
        keys(&read::<Vec<u8>>("1,x,,300").unwrap_err()),
        ["k.1", "k.2", "k.3"]
    );
    let twice = [("a.1", "x".into()), ("a.01", "y".into())];
    let error = bind::<BTreeMap<String, Vec<String>>>(&twice).unwrap_err();
    assert_eq!(error.key_text(), Some("a"));
    assert!(bind::<BTreeMap<String, Vec<String>>>(&[("a.x", "y".into())]).is_err());
}

#[derive(Debug, Deserialize, PartialEq)]
#[allow(dead_code)]
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

#[test]
fn three_broken_fields_of_twelve_give_one_error_with_three_keys() {
    let mut entries = TWELVE;
    assert!(bind::<Twelve>(&text(&entries)).is_ok());
    entries[1].1 = "65536";
    entries[7].1 = "5";
    entries[10].1 = "nowhere";
    let error = bind::<Twelve>(&text(&entries)).unwrap_err();
    assert_eq!(keys(&error), ["b", "h", "k"]);
    let shown = error.to_string();
    assert!(shown.contains("u16 (0 to 65535)"), "{shown}");
    assert!(
        shown.contains("`30s`") && shown.contains("file app.toml:11:1"),
        "{shown}"
    );
}

#[test]
fn every_field_can_be_broken_at_once() {
    let entries: Vec<_> = TWELVE.map(|(key, _)| (key, "[")).to_vec();
    let error = bind::<Twelve>(&text(&entries)).unwrap_err();
    // Only text and a single character may be a bracket.
    assert_eq!(
        keys(&error),
        ["a", "b", "c", "d", "e", "f", "h", "i", "k", "l"]
    );
}

#[test]
fn missing_and_bad_fields_are_reported_together() {
    let mut entries = TWELVE.to_vec();
    entries[2].1 = "x";
    entries.remove(0);
    entries.pop();
    let error = bind::<Twelve>(&text(&entries)).unwrap_err();
    assert_eq!(keys(&error), ["c", "a", "l"]);
    let kinds: Vec<_> = error.iter().map(Error::kind).collect();
    assert_eq!(
        kinds,
        [
            ErrorKind::Mismatch,
            ErrorKind::NotFound,
            ErrorKind::NotFound
        ]
    );
    let error = from_table::<Twelve>("svc", None, false).unwrap_err();
    assert_eq!(error.iter().count(), 11);
    assert_eq!(error.key_text(), Some("svc.a"));
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Outer {
    inner: Inner,
    list: Vec<Inner>,
    map: HashMap<String, Inner>,
    #[serde(default)]
    extra: u8,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)]
struct Inner {
    x: u8,
    y: NonZeroU32,
}

#[test]
fn nested_problems_are_all_found_with_their_full_keys() {
    let error = bind::<Outer>(&text(&[
        ("inner.x", "300"),
        ("inner.y", "0"),
        ("list.0.x", "1"),
        ("list.0.y", "1"),
        ("list.1.x", "b"),
        ("map.\"a.b\".x", "c"),
        ("map.\"a.b\".y", "7"),
        ("typo", "1"),
        ("extra", "-1"),
    ]))
    .unwrap_err();
    assert_eq!(
        keys(&error),
        [
            "extra",
            "inner.x",
            "inner.y",
            "list.1.x",
            "list.1.y",
            "map.\"a.b\".x",
            "typo"
        ]
    );
    assert!(error.to_string().contains("unknown field"), "{error}");
}

#[test]
fn missing_empty_and_malformed_are_three_things() {
    let missing = from_node::<u32>("k", None, false).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert_eq!(missing.key_text(), Some("k"));
    let unset = Node::Leaf(Leaf::new(Value::Unset, origin()));
    assert_eq!(
        from_node::<u32>("k", Some(&unset), false)
            .unwrap_err()
            .kind(),
        ErrorKind::NotFound
    );
    assert_eq!(from_node::<Option<u32>>("k", None, false).unwrap(), None);
    let empty = read::<u32>("").unwrap_err();
    assert!(empty.to_string().contains("empty text"), "{empty}");
    let malformed = read::<u32>("abc").unwrap_err();
    assert_eq!(
        malformed.to_string(),
        "`k`: not an integer, expected u32, found text \"abc\" (file app.toml:3:7)"
    );
    let range = read::<u8>(300).unwrap_err();
    assert_eq!(
        range.to_string(),
        "`k`: out of range, expected u8 (0 to 255), found integer 300 (file app.toml:3:7)"
    );
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

#[test]
fn problems_of_flattened_fields_name_the_field() {
    let mut entries = FLAT;
    entries[0].1 = "x";
    entries[1].1 = "many";
    entries[5].1 = "300";
    let error = bind::<Flat>(&text(&entries)).unwrap_err();
    assert_eq!(keys(&error), ["id", "limit", "twin"]);
    let error = bind::<Flat>(&text(&entries[1..])).unwrap_err();
    assert!(keys(&error).contains(&"id".to_string()), "{error}");
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
#[allow(dead_code)]
struct FlatSecret {
    #[serde(flatten)]
    inner: SecretNumber,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)]
struct SecretNumber {
    plain: Secret<u32>,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)]
struct FlatName {
    #[serde(flatten)]
    inner: NameNumber,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)]
struct NameNumber {
    api_key: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[test]
fn secrets_are_in_no_message() {
    let planted = "hunter2";
    fn check<T: DeserializeOwned + std::fmt::Debug>(result: Result<T, Error>) {
        let error = result.unwrap_err();
        for shown in [
            format!("{error}"),
            format!("{error:?}"),
            format!("{error:#?}"),
        ] {
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
    fn types<T: DeserializeOwned + std::fmt::Debug>(key: &str, value: Value, masked: bool) {
        let result = from_value::<T>(key, &value, &origin(), masked);
        if result.is_err() {
            check(result);
        }
    }
    for (key, masked) in [
        ("plain", true),
        ("db.password", false),
        ("a.token.b", false),
    ] {
        for value in [
            planted.into(),
            "hunter2=1, x".into(),
            "hunter2=x".into(),
            "hunter2,hunter2".into(),
            Value::from(vec![planted]),
            BTreeMap::from([("x", planted)]).into(),
            "u://hunter2@h".into(),
            "[hunter2".into(),
        ] {
            let value: Value = value;
            types::<u8>(key, value.clone(), masked);
            types::<f64>(key, value.clone(), masked);
            types::<bool>(key, value.clone(), masked);
            types::<char>(key, value.clone(), masked);
            types::<IpAddr>(key, value.clone(), masked);
            types::<Loud>(key, value.clone(), masked);
            types::<Mode>(key, value.clone(), masked);
            types::<Tagged>(key, value.clone(), masked);
            types::<Untagged>(key, value.clone(), masked);
            types::<Shape>(key, value.clone(), masked);
            types::<Duration>(key, value.clone(), masked);
            types::<ByteSize>(key, value.clone(), masked);
            types::<Vec<u8>>(key, value.clone(), masked);
            types::<HashMap<String, u8>>(key, value.clone(), masked);
            types::<HashMap<u8, u8>>(key, value.clone(), masked);
            types::<Nothing>(key, value.clone(), masked);
            types::<Outer>(key, value.clone(), masked);
        }
    }
    check(read::<Secret<u8>>(planted));
    check(read::<Secret<Loud>>(planted));
    check(read::<Vec<Secret<u8>>>("hunter2,1"));
    check(read::<Option<Secret<IpAddr>>>(planted));
    check(read::<u8>("postgres://me:hunter2@db"));
    check(read::<Loud>("postgres://me:hunter2@db"));
    check(bind::<Login>(&[("word", planted.into())]));
    check(bind::<FlatSecret>(&[("plain", planted.into())]));
    check(bind::<FlatName>(&[("api_key", planted.into())]));
    check(bind::<HashMap<String, u8>>(&[("password", planted.into())]));
    let node = Node::Resolved(Box::new(Resolved {
        value: Ok(planted.into()),
        raw: Leaf::new("${x}".into(), origin()),
        chain: 1,
        secret: true,
        refers: Box::default(),
        fixed: false,
    }));
    let error = from_node::<u8>("k", Some(&node), false).unwrap_err();
    assert_eq!(error.found(), Some(MASK));
    check::<u8>(Err(error));
}

#[test]
fn words_of_a_users_type_are_kept_when_nothing_is_secret() {
    let error = read::<Loud>("x").unwrap_err();
    assert!(error.to_string().contains("cannot use x"), "{error}");
    let error = read::<Vec<IpAddr>>("::1, nowhere").unwrap_err();
    assert_eq!(error.key_text(), Some("k.1"));
    assert_eq!(error.expected(), Some("IpAddr"));
}

#[test]
fn the_keys_read_as_secrets_are_noted() {
    let document = document(&text(&[("a", "1"), ("b.c", "2"), ("d", "3")]));
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Holder {
        a: Secret<u8>,
        b: HashMap<String, Secret<String>>,
        d: u8,
    }
    let mut secrets = Places::default();
    from_table_noting::<Holder>("app", Some(document.root()), false, &mut secrets).unwrap();
    assert_eq!(secrets.certain, ["app.a", "app.b.c"]);
    let node = Node::of("x".into(), &origin());
    from_node_noting::<Secret<String>>("k", Some(&node), false, &mut secrets).unwrap();
    assert_eq!(secrets.certain.last().map(String::as_str), Some("k"));
    assert!(secrets.possible.is_empty());
}

#[test]
fn an_unresolved_reference_is_its_own_error() {
    let fault = Error::new(ErrorKind::Reference, "a cycle").with_key_text("k");
    let node = Node::Resolved(Box::new(Resolved {
        value: Err(fault),
        raw: Leaf::new("${k}".into(), origin()),
        chain: 1,
        secret: false,
        refers: Box::default(),
        fixed: false,
    }));
    assert_eq!(
        from_node::<u8>("k", Some(&node), false).unwrap_err().kind(),
        ErrorKind::Reference
    );
    assert!(from_node::<Option<u8>>("k", Some(&node), false).is_err());
    assert!(from_node::<IgnoredAny>("k", Some(&node), false).is_ok());
}

#[test]
fn a_value_reads_back_as_itself() {
    let value = Value::from(BTreeMap::from([
        ("a", Value::from(u64::MAX)),
        ("b", Value::from(i128::MIN)),
        (
            "c",
            Value::from(vec![Value::from(1.5), "x".into(), Value::Unset]),
        ),
        ("d", Value::from("5")),
    ]));
    assert_eq!(read::<Value>(value.clone()).unwrap(), value);
    assert_eq!(
        from_node::<Value>("k", None, false).unwrap_err().kind(),
        ErrorKind::NotFound
    );
}

#[test]
fn paths_look_inside_lists_and_tables() {
    let value = Value::from(vec![
        BTreeMap::from([("host", "a")]),
        BTreeMap::from([("host", "b")]),
    ]);
    assert_eq!(value.descend(["1", "host"]), Some(&"b".into()));
    assert_eq!(value.descend(["2", "host"]), None);
    assert_eq!(value.descend(["+1"]), None);
    assert_eq!(value.descend([""; 0]), Some(&value));
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)]
struct Nest(Vec<Nest>);

#[derive(Debug, Deserialize)]
#[allow(dead_code)]
struct Aliased {
    #[serde(alias = "old")]
    new: NonZeroU32,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)]
struct Around {
    first: Aliased,
    second: Tagged,
    third: u8,
}

#[test]
fn text_that_nests_without_end_is_refused() {
    assert!(read::<Nest>("[[],[[]]]").is_ok());
    let deep = "[".repeat(10_000) + &"]".repeat(10_000);
    let error = read::<Nest>(deep).unwrap_err();
    assert!(error.to_string().contains("nested too deep"), "{error}");
}

#[test]
fn a_struct_that_is_bad_as_a_whole_hides_no_other_problem() {
    let bad = text(&[("first", "5"), ("second", "x"), ("third", "y")]);
    let error = bind::<Around>(&bad).unwrap_err();
    assert_eq!(keys(&error), ["first", "second", "third"]);
}

#[test]
fn an_alias_is_read_like_the_name_itself() {
    assert_eq!(
        bind::<Aliased>(&text(&[("old", "5")])).unwrap().new.get(),
        5
    );
}

#[derive(Debug)]
#[allow(dead_code)]
struct Wrapper(Vec<Secret<Loud>>);

impl<'de> Deserialize<'de> for Wrapper {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let inner = Vec::deserialize(deserializer);
        inner
            .map(Wrapper)
            .map_err(|e| serde::de::Error::custom(format!("wrapped: {e}")))
    }
}

#[test]
fn a_type_that_wraps_an_error_cannot_show_a_secret() {
    let error = read::<Wrapper>("hunter2, x").unwrap_err();
    assert!(
        !format!("{error:?}")
            .split("found")
            .next()
            .unwrap()
            .contains("hunter2"),
        "{error}"
    );
}

fn survives<T>(number: T)
where
    T: DeserializeOwned + Copy + PartialEq + std::fmt::Debug + std::fmt::Display + Into<Value>,
{
    assert_eq!(read::<T>(number).unwrap(), number);
    assert_eq!(read::<T>(number.to_string()).unwrap(), number);
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Unset),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0..5i64).prop_map(Value::from),
        any::<i128>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        "[\\[\\]\"',=\\\\ a1.]{0,12}".prop_map(Value::from),
        "(PT|P)?[0-9._]{0,4}[a-zA-Z]{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 6, |inner| {
        let name = prop_oneof![
            "[a-l]",
            "[0-9]{1,2}",
            "inner|list|map|kind|x|y|size|t|c|New|Pair|\\PC{0,3}"
        ];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::btree_map(name, inner, 0..6).prop_map(Value::from),
        ]
    })
}

proptest! {
    #[test]
    fn integers_survive(a: i128, b: u64, c: i64, d: u128) {
        survives(a);
        survives(b);
        survives(c);
        assert_eq!(read::<u128>(d).unwrap(), d);
    }

    #[test]
    fn finite_floats_survive_as_text(a: f64) {
        prop_assume!(a.is_finite());
        assert_eq!(read::<f64>(format!("{a:?}")).unwrap(), a);
    }

    #[test]
    fn quoted_items_survive(items: Vec<String>) {
        let quote = |s: &String| format!("\"{}\"", s.replace('\\', "\\\\").replace('"', "\\\""));
        let quoted: Vec<_> = items.iter().map(quote).collect();
        assert_eq!(read::<Vec<String>>(quoted.join(", ")).unwrap(), items.clone());
        assert_eq!(read::<Vec<String>>(format!("[{}]", quoted.join(","))).unwrap(), items);
    }

    #[test]
    fn nothing_panics(value in any_value()) {
        fn go<T: DeserializeOwned>(value: &Value) {
            drop(from_value::<T>("k", value, &origin(), false));
            drop(from_node::<T>("k", Some(&Node::of(value.clone(), &origin())), false));
            drop(from_node::<Secret<T>>("k", Some(&Node::of(value.clone(), &origin())), true));
        }
        go::<u8>(&value);
        go::<f32>(&value);
        go::<String>(&value);
        go::<char>(&value);
        go::<Duration>(&value);
        go::<ByteSize>(&value);
        go::<IpAddr>(&value);
        go::<Vec<u32>>(&value);
        go::<(u8, String, bool)>(&value);
        go::<HashMap<String, Vec<u8>>>(&value);
        go::<BTreeMap<u8, Value>>(&value);
        go::<Twelve>(&value);
        go::<Outer>(&value);
        go::<Shape>(&value);
        go::<Tagged>(&value);
        go::<Adjacent>(&value);
        go::<Untagged>(&value);
        go::<Flat>(&value);
        go::<Value>(&value);
        go::<Loud>(&value);
    }
}

#[test]
fn a_null_in_a_list_is_none_or_missing() {
    let list = Value::from(vec![Value::from(1), Value::Unset]);
    assert_eq!(
        read::<Vec<Option<u8>>>(list.clone()).unwrap(),
        [Some(1), None]
    );
    let error = read::<Vec<u8>>(list).unwrap_err();
    assert_eq!(
        (error.kind(), error.key_text()),
        (ErrorKind::NotFound, Some("k.1"))
    );
}

#[test]
fn a_text_is_never_split_twice() {
    assert_eq!(
        read::<Vec<String>>(vec!["a,b", "[c]"]).unwrap(),
        ["a,b", "[c]"]
    );
}

#[test]
fn a_long_value_is_cut_in_a_message() {
    let error = read::<u8>("x".repeat(5000)).unwrap_err();
    assert!(error.found().unwrap().chars().count() <= 42, "{error}");
}

#[test]
fn defaults_fill_an_absent_table() {
    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(default)]
    struct Limits {
        burst: u32,
        every: Duration,
    }
    impl Default for Limits {
        fn default() -> Self {
            let every = Duration::from_secs(1);
            Self { burst: 10, every }
        }
    }
    assert_eq!(
        from_table::<Limits>("x", None, false).unwrap(),
        Limits::default()
    );
    let some: Limits = bind(&text(&[("burst", "5")])).unwrap();
    assert_eq!(some.burst, 5);
    assert_eq!(
        from_node::<Limits>("x", None, false).unwrap_err().kind(),
        ErrorKind::NotFound
    );
}

#[test]
fn a_duration_reads_from_a_table_too() {
    let table = BTreeMap::from([("nanos", Value::from(5)), ("secs", Value::from(1))]);
    assert_eq!(read::<Duration>(table).unwrap(), Duration::new(1, 5));
}
