//! Texts that spell a table or a list, where serde asks for anything.

use std::fmt::Debug;

use super::*;

#[derive(Debug, Deserialize, PartialEq)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Kind {
    A { size: ByteSize, n: u8 },
    B { ttl: Duration },
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Pace {
    Fast,
    Slow { step: Duration },
}

#[derive(Debug, Deserialize, PartialEq)]
struct Plain<T> {
    v: T,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Flattened<T> {
    #[serde(flatten)]
    inner: Plain<T>,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum InTag<T> {
    One { v: T },
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(untagged)]
enum NoTag<T> {
    One { v: T },
}

/// Reads a value in a plain, a flattened, a tagged and an untagged field.
fn everywhere<T: DeserializeOwned + PartialEq + Debug>(value: impl Into<Value>) -> T {
    let value = value.into();
    let entries = [("v", value.clone()), ("kind", "one".into())];
    let plain = bind::<Plain<T>>(&entries).unwrap().v;
    assert_eq!(bind::<Flattened<T>>(&entries).unwrap().inner.v, plain);
    let InTag::One { v } = bind::<InTag<T>>(&entries).unwrap();
    assert_eq!(v, plain);
    let NoTag::One { v } = bind::<NoTag<T>>(&entries).unwrap();
    assert_eq!(v, plain);
    plain
}

#[test]
fn json_text_reads_like_a_table_where_an_enum_is_wanted() {
    let a = || Kind::A {
        size: ByteSize::from(1000),
        n: 2,
    };
    let ttl = Duration::from_secs(3);
    let step = Duration::from_secs(5);
    for text in [
        r#"{"kind":"a","size":"1kB","n":"2"}"#,
        r#"{"kind":"a","size":1000,"n":2}"#,
        "{kind = 'A', size = '1 kB', n = 2}",
    ] {
        assert_eq!(everywhere::<Kind>(text), a(), "{text}");
        assert_eq!(read::<Kind>(text).unwrap(), a(), "{text}");
        let list = format!(r#"[{text}, {{"kind":"b","ttl":"3s"}}]"#);
        assert_eq!(everywhere::<Vec<Kind>>(list), [a(), Kind::B { ttl }]);
    }
    for text in [r#"{"slow":{"step":"5s"}}"#, "{SLOW = {step = '5s'}}"] {
        assert_eq!(everywhere::<Pace>(text), Pace::Slow { step }, "{text}");
        let list = format!("[{text}, fast]");
        assert_eq!(
            everywhere::<Vec<Pace>>(list),
            [Pace::Slow { step }, Pace::Fast]
        );
    }
    assert_eq!(read::<Pace>(r#"{"fast":null}"#).unwrap(), Pace::Fast);
    let error = read::<Pace>(r#"{"slow":{"step":"5"}}"#).unwrap_err();
    assert_eq!(keys(&error), ["k.slow.step"], "{error}");
    let error = read::<Pace>(r#"{"slow":"#).unwrap_err();
    assert_eq!(keys(&error), ["k"], "{error}");
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(untagged)]
enum NumberOrList {
    Num(u32),
    List(Vec<u32>),
    S { a: u8 },
}

#[test]
fn list_text_converts_for_an_untagged_enum_that_takes_no_text() {
    for text in ["1,2", "[1,2]", "[\"1\", 2]"] {
        assert_eq!(
            everywhere::<NumberOrList>(text),
            NumberOrList::List(vec![1, 2]),
            "{text}"
        );
    }
    assert_eq!(everywhere::<NumberOrList>("7"), NumberOrList::Num(7));
    for text in ["a=7", r#"{"a":"7"}"#] {
        assert_eq!(everywhere::<NumberOrList>(text), NumberOrList::S { a: 7 });
    }
    assert_eq!(
        everywhere::<Vec<NumberOrList>>("[5, [1, 2], {\"a\": 3}]"),
        [
            NumberOrList::Num(5),
            NumberOrList::List(vec![1, 2]),
            NumberOrList::S { a: 3 }
        ]
    );
    assert!(read::<NumberOrList>("many").is_err());
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(untagged)]
enum Any {
    Num(u32),
    Bool(bool),
    Named { name: String, per: Duration },
    List(Vec<u32>),
    Text(String),
}

#[test]
fn the_items_of_a_json_text_keep_their_types_where_anything_is_asked_for() {
    let text = r#"[5, "x", {"name":7,"per":"3s"}, true, [1], "5"]"#;
    let expected = || {
        let named = Any::Named {
            name: "7".into(),
            per: Duration::from_secs(3),
        };
        let (list, five) = (Any::List(vec![1]), Any::Text("5".into()));
        [
            Any::Num(5),
            Any::Text("x".into()),
            named,
            Any::Bool(true),
            list,
            five,
        ]
    };
    assert_eq!(read::<Vec<Any>>(text).unwrap(), expected());
    let without_number = text.replace(", \"5\"", "");
    assert_eq!(everywhere::<Vec<Any>>(without_number), expected()[..5]);
    let values: Vec<Value> = read("[5, \"5\", 1.10]").unwrap();
    assert_eq!(values[..2], [Value::from(5), "5".into()]);
    assert_eq!(
        read::<Vec<String>>("[5, \"5\", 1.10]").unwrap(),
        ["5", "5", "1.10"]
    );
    // What is no JSON is text, as in `a, b`.
    let texts = |text: &str| everywhere::<Vec<Value>>(text);
    assert_eq!(texts("[5, x]"), ["5".into(), Value::from("x")]);
    assert_eq!(texts("5, 6"), ["5".into(), Value::from("6")]);
    assert_eq!(texts("[007, 1]"), ["007".into(), Value::from("1")]);
    // A type decides as before.
    assert_eq!(everywhere::<Vec<bool>>("[1, 0, true]"), [true, false, true]);
    assert_eq!(
        everywhere::<Vec<String>>(r#"[{"a":1}, [1, 2], 1.10, true, "x"]"#),
        [r#"{"a":1}"#, "[1, 2]", "1.10", "true", "x"]
    );
    assert_eq!(everywhere::<Vec<u32>>("[1, \"0x10\", 3]"), [1, 16, 3]);
    assert_eq!(
        everywhere::<Vec<Vec<u8>>>("[[1, 2], [3]]"),
        [vec![1, 2], vec![3]]
    );
}

#[test]
fn a_number_keeps_its_spelling_when_it_is_read_as_text() {
    let spelled = [
        (Value::from(3.1), "3.10"),
        (Value::from(42), "0042"),
        (Value::from(1000), "1_000"),
        (Value::from(true), "True"),
    ];
    for (value, spelling) in spelled {
        let value = value.with_spelling(spelling);
        assert_eq!(everywhere::<String>(value.clone()), spelling);
        let list = Value::from(vec![value.clone(), "x".into()]);
        assert_eq!(everywhere::<Vec<String>>(list), [spelling, "x"]);
        assert_eq!(everywhere::<Option<String>>(value), Some(spelling.into()));
    }
    assert_eq!(everywhere::<u16>(Value::from(42).with_spelling("0042")), 42);
}

#[test]
fn a_duration_reads_from_text_of_its_table() {
    for text in ["{secs=1,nanos=5}", r#"{"secs":1,"nanos":"5"}"#] {
        assert_eq!(everywhere::<Duration>(text), Duration::new(1, 5), "{text}");
    }
}
