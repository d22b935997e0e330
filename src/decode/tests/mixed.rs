//! Untagged enums whose values are written in several ways.

use std::fmt::Debug;

use super::*;
use crate::decode::diagnose::passes::PASSES;

#[derive(Debug, Deserialize, PartialEq)]
#[serde(untagged)]
enum NumberOrSwitch {
    Number(u32),
    Switch(bool),
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(untagged)]
enum Any {
    Wait(Duration),
    Number(u32),
    List(Vec<u16>),
    Point { x: u8, y: bool },
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(untagged)]
enum Named {
    Point { x: u8, y: bool },
    Range { from: u8, to: u8, step: Option<u8> },
    Name(String),
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Rule {
    Limit { value: NumberOrSwitch },
    Wait { value: Any },
}

#[derive(Debug, Deserialize, PartialEq)]
struct Rest<T> {
    id: u8,
    #[serde(flatten, bound = "T: Deserialize<'de>")]
    rest: HashMap<String, T>,
}

fn table(entries: &[(&str, Value)]) -> Value {
    let fields = entries.iter().cloned();
    Value::from(fields.collect::<BTreeMap<&str, Value>>())
}

fn point(at: usize) -> Value {
    table(&[
        ("x", (at % 256).to_string().into()),
        ("y", ["on", "0"][at % 2].into()),
    ])
}

fn number_or_switch(at: usize) -> Value {
    if at % 2 == 0 {
        at.to_string()
    } else {
        "on".to_owned()
    }
    .into()
}

fn any(at: usize) -> Value {
    match at % 6 {
        0 => format!("{at}s").into(),
        1 => at.to_string().into(),
        2 => format!("{},2", at % 999).into(),
        3 => point(at),
        4 => format!("x={},y=off", at % 256).into(),
        _ => 5.into(),
    }
}

fn named(at: usize) -> Value {
    match at % 3 {
        0 => point(at),
        1 => table(&[("from", "1".into()), ("to", (at % 200).to_string().into())]),
        _ => format!("n{at}").into(),
    }
}

fn rule(at: usize) -> Value {
    if at % 2 == 0 {
        table(&[
            ("kind", "limit".into()),
            ("value", number_or_switch(at / 2)),
        ])
    } else {
        table(&[("kind", "wait".into()), ("value", any(at / 2))])
    }
}

/// How many passes the values take as a list, a map and a flattened map.
fn passes<T: DeserializeOwned + Debug>(count: usize, value: fn(usize) -> Value) -> [usize; 3] {
    let count_passes = |read: &dyn Fn()| {
        let before = PASSES.get();
        read();
        PASSES.get() - before
    };
    let list = Value::from((0..count).map(value).collect::<Vec<_>>());
    let names: Vec<String> = (0..count).map(|at| format!("k{at}")).collect();
    let entries = names.iter().enumerate();
    let mut entries: Vec<_> = entries.map(|(at, name)| (&**name, value(at))).collect();
    let map = table(&entries);
    entries.push(("id", "1".into()));
    let flat = table(&entries);
    [
        count_passes(&|| assert_eq!(read::<Vec<T>>(list.clone()).unwrap().len(), count)),
        count_passes(&|| {
            let read = read::<HashMap<String, T>>(map.clone()).unwrap();
            assert_eq!(read.len(), count);
        }),
        count_passes(&|| assert_eq!(read::<Rest<T>>(flat.clone()).unwrap().rest.len(), count)),
    ]
}

#[test]
fn mixed_values_take_as_many_passes_for_many_as_for_few() {
    fn check<T: DeserializeOwned + Debug>(value: fn(usize) -> Value) {
        let few = passes::<T>(60, value);
        let many = passes::<T>(240, value);
        for (few, many) in few.into_iter().zip(many) {
            // A value that is not found by its address is found by halving.
            assert!(many <= few + few / 2, "{few} and {many}");
            assert!(many <= 150, "{many}");
        }
    }
    check::<NumberOrSwitch>(number_or_switch);
    check::<Any>(any);
    check::<Named>(named);
    check::<Rule>(rule);
}

#[test]
fn each_of_mixed_values_is_read_as_it_would_be_alone() {
    fn check<T: DeserializeOwned + Debug + PartialEq>(value: fn(usize) -> Value) {
        let all: Vec<T> = read((0..60).map(value).collect::<Vec<_>>()).unwrap();
        let names: Vec<String> = (0..60).map(|at| format!("k{at}")).collect();
        let entries = names.iter().enumerate();
        let mut entries: Vec<_> = entries.map(|(at, name)| (&**name, value(at))).collect();
        entries.push(("id", "1".into()));
        let flat: Rest<T> = read(table(&entries)).unwrap();
        for (at, read_in_list) in all.iter().enumerate() {
            let alone: T = read(value(at)).unwrap();
            assert_eq!(*read_in_list, alone, "{at}");
            assert_eq!(flat.rest[&names[at]], alone, "{at}");
        }
    }
    check::<NumberOrSwitch>(number_or_switch);
    check::<Any>(any);
    check::<Named>(named);
    check::<Rule>(rule);
    // The order in which the values stand does not matter.
    let switches: Vec<NumberOrSwitch> = read(vec!["on", "1", "7"]).unwrap();
    use NumberOrSwitch::{Number, Switch};
    assert_eq!(switches, [Switch(true), Number(1), Number(7)]);
}

#[test]
fn values_that_fit_no_variant_are_an_error_however_many_there_are() {
    let values: Vec<Value> = (0..300).map(any).chain(["nothing of it".into()]).collect();
    let before = PASSES.get();
    let error = read::<Vec<Any>>(values).unwrap_err();
    assert!(
        error.key_text().is_some_and(|key| key.starts_with("k.300")),
        "{error}"
    );
    assert!(PASSES.get() - before < 300, "{}", PASSES.get() - before);
}

/// An odd number.
#[derive(Debug, Deserialize, PartialEq)]
#[serde(try_from = "u32")]
struct Odd(u32);

impl TryFrom<u32> for Odd {
    type Error = String;

    fn try_from(number: u32) -> Result<Self, String> {
        (number % 2 == 1)
            .then_some(Self(number))
            .ok_or_else(|| format!("{number} is even"))
    }
}

/// The form that `a` needs depends on the value of `b`.
#[derive(Debug, Deserialize, PartialEq)]
#[serde(untagged)]
enum Pair {
    Numbers { a: u32, b: Odd },
    Lists { a: Vec<u32>, b: Vec<u32> },
}

#[test]
fn items_that_each_need_a_form_of_their_own_are_read_up_to_a_limit() {
    let read_pairs = |count: usize| {
        let pair = |at: usize| table(&[("a", "1".into()), ("b", at.to_string().into())]);
        read::<Vec<Pair>>((0..count).map(pair).collect::<Vec<_>>())
    };
    assert_eq!(read_pairs(60).unwrap().len(), 60);
    let before = PASSES.get();
    let error = read_pairs(300).unwrap_err().to_string();
    assert!(
        error.contains("too many values here want a conversion of their own"),
        "{error}"
    );
    assert!(PASSES.get() - before < 300, "{}", PASSES.get() - before);
}

#[test]
fn a_key_that_the_type_does_not_have_is_not_converted() {
    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(untagged)]
    enum Root {
        X { l: Vec<u16> },
    }
    for unread in ["a", "c", "z"] {
        let root = bind::<Root>(&text(&[("l", "1"), (unread, "1")]));
        assert_eq!(root.unwrap(), Root::X { l: vec![1] }, "{unread}");
    }
    // Inside of another buffer too.
    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(untagged)]
    enum Outer {
        Y { z: u8 },
        X { root: Root },
    }
    let outer = bind::<Outer>(&text(&[("root.l", "1"), ("root.c", "1"), ("c", "1")]));
    let root = Root::X { l: vec![1] };
    assert_eq!(outer.unwrap(), Outer::X { root });
}

#[test]
fn equal_texts_of_neighbours_are_read_as_each_field_wants() {
    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "lowercase")]
    enum Storage {
        S3 { bucket: String },
    }
    #[derive(Debug, Deserialize, PartialEq)]
    struct Fields {
        st: Storage,
        l: Vec<u16>,
        t: (u8, String),
        c: char,
        f: f32,
        m: BTreeMap<u16, bool>,
    }
    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(untagged)]
    enum Untagged {
        X(Fields),
    }
    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(tag = "kind")]
    enum Tagged {
        X(Fields),
    }
    #[derive(Debug, Deserialize, PartialEq)]
    struct Flat {
        #[serde(flatten)]
        fields: Fields,
    }
    for bucket in ["1", "1,2", "1=1", "zz", "7", "on"] {
        let entries = text(&[
            ("kind", "X"),
            ("st.s3.bucket", bucket),
            ("l", "1"),
            ("t", "1,2"),
            ("c", "1"),
            ("f", "1"),
            ("m", "1=1"),
        ]);
        let expected = || Fields {
            st: Storage::S3 {
                bucket: bucket.to_owned(),
            },
            l: vec![1],
            t: (1, "2".to_owned()),
            c: '1',
            f: 1.0,
            m: BTreeMap::from([(1, true)]),
        };
        assert_eq!(
            bind::<Untagged>(&entries).unwrap(),
            Untagged::X(expected()),
            "{bucket}"
        );
        assert_eq!(
            bind::<Tagged>(&entries).unwrap(),
            Tagged::X(expected()),
            "{bucket}"
        );
        assert_eq!(
            bind::<Flat>(&entries).unwrap().fields,
            expected(),
            "{bucket}"
        );
    }
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(untagged)]
enum ListOrMap {
    List(Vec<u16>),
    Map(BTreeMap<u16, bool>),
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(untagged)]
enum MapOrList {
    Map(BTreeMap<u16, bool>),
    List(Vec<u16>),
}

#[test]
fn a_table_of_numbers_is_a_map_where_it_is_no_list() {
    let eighty = || table(&[("80", true.into()), ("443", "off".into())]);
    let map = || BTreeMap::from([(80, true), (443, false)]);
    assert_eq!(read::<ListOrMap>(eighty()).unwrap(), ListOrMap::Map(map()));
    assert_eq!(read::<MapOrList>(eighty()).unwrap(), MapOrList::Map(map()));
    let zero = table(&[("0", true.into())]);
    let off = BTreeMap::from([(0, true)]);
    assert_eq!(read::<ListOrMap>(zero).unwrap(), ListOrMap::Map(off));
    let list = table(&[("0", "1".into()), ("1", 2.into())]);
    assert_eq!(
        read::<ListOrMap>(list).unwrap(),
        ListOrMap::List(vec![1, 2])
    );
    let flat = table(&[
        ("id", 1.into()),
        ("a", eighty()),
        ("b", "1,2".into()),
        ("c", "80=on,443=off".into()),
        ("d", table(&[("0", "7".into())])),
    ]);
    let flat: Rest<ListOrMap> = read(flat).unwrap();
    assert_eq!(flat.rest["a"], ListOrMap::Map(map()));
    assert_eq!(flat.rest["b"], ListOrMap::List(vec![1, 2]));
    assert_eq!(flat.rest["c"], ListOrMap::Map(map()));
    assert_eq!(flat.rest["d"], ListOrMap::List(vec![7]));
    // Where only a list is wanted, the error says what is missing.
    let gap = table(&[
        ("id", 1.into()),
        ("a", table(&[("0", 1.into()), ("2", 1.into())])),
    ]);
    let error = read::<Rest<Vec<u8>>>(gap).unwrap_err();
    assert!(error.to_string().contains("item 1 is missing"), "{error}");
}
