//! Beside a bad value that serde buffers, the good values are read and not named.

use super::*;

#[derive(Debug, Deserialize, PartialEq)]
struct Pair<C, D> {
    c: C,
    d: D,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Flat<T> {
    #[serde(flatten)]
    inner: T,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(tag = "k")]
enum Tagged<T> {
    A(T),
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(untagged)]
enum Untagged<T> {
    X(T),
    Y { zzz: u8 },
}

#[derive(Debug, Deserialize, PartialEq)]
struct Two {
    v: u8,
    w: u8,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Marker;

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Step {
    One,
    Many(u8),
}

fn entries(c: impl Into<Value>, d: impl Into<Value>) -> [(&'static str, Value); 3] {
    [("k", "A".into()), ("c", c.into()), ("d", d.into())]
}

/// The keys that errors name, in a flattened struct and in a tagged enum.
fn named<C, D>(c: impl Into<Value>, d: impl Into<Value>) -> [Vec<String>; 2]
where
    C: DeserializeOwned + std::fmt::Debug,
    D: DeserializeOwned + std::fmt::Debug,
{
    let entries = entries(c, d);
    let flat = bind::<Flat<Pair<C, D>>>(&entries).unwrap_err();
    let tagged = bind::<Tagged<Pair<C, D>>>(&entries).unwrap_err();
    [keys(&flat), keys(&tagged)]
}

fn list(items: &[Value]) -> Value {
    items.to_vec().into()
}

#[test]
fn only_the_bad_value_is_named() {
    assert_eq!(
        named::<Duration, bool>("30s", list(&[true.into()])),
        [["d"], ["d"]]
    );
    assert_eq!(
        named::<bool, Duration>(list(&[true.into()]), "30s"),
        [["c"], ["c"]]
    );
    assert_eq!(named::<Duration, Mode>("1m", "six"), [["d"], ["d"]]);
    assert_eq!(
        named::<Duration, String>("1m", list(&[1.into()])),
        [["d"], ["d"]]
    );
    assert_eq!(
        named::<Vec<u8>, String>("1,2", list(&[1.into()])),
        [["d"], ["d"]]
    );
    assert_eq!(
        named::<Duration, Vec<u8>>("1m", list(&[300.into()])),
        [["d.0"], ["d.0"]]
    );
    assert_eq!(
        named::<Two, Vec<u8>>("{v=1, w=2}", table([("a", 1.into())])),
        [["d"], ["d"]]
    );
    assert_eq!(named::<u8, bool>("5", 5), [["d"], ["d"]]);
    assert_eq!(
        named::<BTreeMap<u8, bool>, bool>(table([("5", true.into())]), 5),
        [["d"], ["d"]]
    );
    let clash = table([("080", true.into()), ("80", false.into())]);
    assert_eq!(
        named::<Duration, BTreeMap<u16, bool>>("1m", clash),
        [["d"], ["d"]]
    );
}

#[test]
fn values_that_serde_reports_alike_are_read_each_in_its_own_form() {
    fn check<C, D>(c: impl Into<Value>, d: impl Into<Value>)
    where
        C: DeserializeOwned + std::fmt::Debug + PartialEq,
        D: DeserializeOwned + std::fmt::Debug + PartialEq,
    {
        let entries = entries(c, d);
        let plain = || bind::<Pair<C, D>>(&entries).unwrap();
        let flat = bind::<Flat<Pair<C, D>>>(&entries);
        assert_eq!(
            flat.map(|it| it.inner).map_err(|e| e.to_string()),
            Ok(plain())
        );
        let tagged = bind::<Tagged<Pair<C, D>>>(&entries);
        assert_eq!(tagged.map_err(|e| e.to_string()), Ok(Tagged::A(plain())));
        let untagged = bind::<Untagged<Pair<C, D>>>(&entries);
        assert_eq!(
            untagged.map_err(|e| e.to_string()),
            Ok(Untagged::X(plain()))
        );
    }
    let numbered = || table([("0", Value::from(1)), ("1", 2.into())]);
    check::<Two, Vec<u16>>("{v=1, w=5}", numbered());
    check::<Vec<u16>, Two>(numbered(), "{v=1, w=5}");
    check::<Duration, Vec<u16>>("{secs=1, nanos=5}", numbered());
    check::<Vec<u16>, Duration>(numbered(), "{secs=1, nanos=5}");
    check::<BTreeMap<String, u8>, Vec<u16>>("a=1", numbered());
    check::<Duration, Vec<u16>>("1s", numbered());
    check::<u8, String>(5.0, 5);
    check::<String, u8>(5, 5.0);
    check::<u8, String>("5", 5);
    check::<u8, String>(5.0, 5.0);
    check::<u8, String>(1, true);
    check::<u8, (u8, String)>(5.0, list(&["1".into(), 5.into()]));
    check::<u8, Vec<String>>(5.0, list(&["1".into(), 5.into()]));
    check::<(u8, String), u8>("1, 5", "5");
    check::<(u8, String), u8>("1, 5", "0x5");
    check::<(u8, String), u8>("1, 5", 5.0);
    check::<((u8, u8), String), u8>("[[1, 5], [300]]", "5");
    check::<BTreeMap<String, u8>, Step>(table([]), "{one={}}");
    check::<BTreeMap<String, u8>, Marker>(table([]), table([]));
    check::<bool, String>("on", true);
    check::<String, bool>(true, "on");
}

#[test]
fn every_bad_value_is_named() {
    #[derive(Debug, Deserialize)]
    #[allow(dead_code)] // only decoded
    struct All<A, B, C, D> {
        a: A,
        b: B,
        c: C,
        d: D,
    }
    fn check<A, B, C, D>(values: [Value; 4], expected: &[&str])
    where
        A: DeserializeOwned + std::fmt::Debug,
        B: DeserializeOwned + std::fmt::Debug,
        C: DeserializeOwned + std::fmt::Debug,
        D: DeserializeOwned + std::fmt::Debug,
    {
        let mut entries = vec![("k", Value::from("A"))];
        entries.extend(["a", "b", "c", "d"].into_iter().zip(values));
        for error in [
            bind::<Flat<All<A, B, C, D>>>(&entries).unwrap_err(),
            bind::<Tagged<All<A, B, C, D>>>(&entries).unwrap_err(),
        ] {
            let mut keys = keys(&error);
            keys.sort_unstable();
            assert_eq!(keys, expected, "{error}");
            assert!(
                !error.to_string().contains("more values may be bad"),
                "{error}"
            );
        }
    }
    let bad_number = || Value::from(300);
    check::<u8, Vec<u16>, bool, u8>(
        [bad_number(), true.into(), "maybe".into(), 1.into()],
        &["a", "b", "c"],
    );
    check::<u8, String, BTreeMap<String, u32>, u8>(
        [
            bad_number(),
            list(&[1.into()]),
            table([("a", "x".into())]),
            1.into(),
        ],
        &["a", "b", "c.a"],
    );
    check::<Step, Vec<Step>, (u8, String), bool>(
        [
            "x".into(),
            list(&[1.into(), 5.into()]),
            true.into(),
            "maybe".into(),
        ],
        &["a", "b.0", "b.1", "c", "d"],
    );
}

#[test]
fn a_null_item_is_named_as_null() {
    let nulls = list(&[1.into(), Value::Unset]);
    for nulls in [nulls, "[1, null]".into()] {
        let error = bind::<Flat<Pair<Vec<u16>, u8>>>(&entries(nulls, 1)).unwrap_err();
        assert_eq!(keys(&error), ["c.1"], "{error}");
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        assert!(error.to_string().contains("the item is null"), "{error}");
    }
}

#[test]
fn a_text_that_an_inner_enum_accepts_stays_text() {
    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(untagged)]
    enum NumberOrText {
        Number(u32),
        Text(String),
    }
    let read = bind::<Untagged<Pair<NumberOrText, Vec<u8>>>>(&entries("5", "1,2")).unwrap();
    let expected = Pair {
        c: NumberOrText::Text("5".into()),
        d: vec![1, 2],
    };
    assert_eq!(read, Untagged::X(expected));
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
#[allow(dead_code)] // only decoded
enum Fee {
    Share(f64),
    Steps { first: u8 },
    Named(String),
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)] // only decoded
struct Billing {
    drain: Duration,
    fee: Fee,
    plinth: Secret<String>,
    size: ByteSize,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)] // only decoded
struct Flattened<T> {
    #[serde(flatten)]
    inner: T,
}

#[test]
fn a_good_duration_or_size_is_not_blamed_for_a_bad_enum_or_secret_beside_it() {
    let list = || Value::from(vec![Value::from(1)]);
    for (fee, plinth, bad) in [
        (list(), Value::from("x"), vec!["x.fee"]),
        (Value::from(1.5), list(), vec!["x.plinth"]),
        (list(), list(), vec!["x.fee", "x.plinth"]),
    ] {
        let fields = [
            ("drain", Value::from("30s")),
            ("fee", fee),
            ("plinth", plinth),
            ("size", Value::from("1 MiB")),
        ];
        let node = Node::of(table(fields), &origin());
        let error = from_node::<Flattened<Billing>>("x", Some(&node), false).unwrap_err();
        let keys: Vec<_> = error.iter().map(Error::key_text).collect();
        let bad: Vec<_> = bad.into_iter().map(Some).collect();
        assert_eq!(keys, bad, "{error}");
    }
}
