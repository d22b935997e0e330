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
    check::<bool, String>("on", true);
    check::<String, bool>(true, "on");
}
