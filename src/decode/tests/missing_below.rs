//! A missing field of a table that serde buffers is named below that table.

use super::*;

#[derive(Debug, Deserialize)]
#[allow(dead_code)] // only decoded
struct Sub {
    q: u8,
    r: String,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)] // only decoded
struct One<T> {
    m: T,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)] // only decoded
struct Flat<T> {
    #[serde(flatten)]
    inner: T,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "k")]
#[allow(dead_code)] // only decoded
enum Tagged<T> {
    A { m: T },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)] // only decoded
struct Strict {
    a: Sub,
    q: u8,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)] // only decoded
struct WithOwn {
    m: Sub,
    r: u8,
}

/// The keys of the errors about `m`, in a flattened struct and in a tagged enum.
fn keys_of<T: DeserializeOwned + std::fmt::Debug>(value: &Value) -> [Vec<String>; 2] {
    let entries = [("x.k", Value::from("A")), ("x.m", value.clone())];
    let flat = bind::<BTreeMap<String, Flat<One<T>>>>(&entries).unwrap_err();
    let tagged = bind::<BTreeMap<String, Tagged<T>>>(&entries).unwrap_err();
    [keys(&flat), keys(&tagged)]
}

#[test]
fn a_missing_field_below_flatten_or_a_tag_has_the_key_of_its_own_table() {
    let lacking = table([("q", 1.into())]);
    let whole = table([("q", 1.into()), ("r", "a".into())]);
    for (keys, expected) in [
        (keys_of::<Sub>(&lacking), "x.m.r"),
        (keys_of::<Sub>(&"q=1".into()), "x.m.r"),
        (keys_of::<Sub>(&"{q=1}".into()), "x.m.r"),
        (keys_of::<Sub>(&table([("r", "a".into())])), "x.m.q"),
        (
            keys_of::<Vec<Sub>>(&vec![lacking.clone()].into()),
            "x.m.0.r",
        ),
        (
            keys_of::<Vec<Sub>>(&vec![whole.clone(), lacking.clone(), whole.clone()].into()),
            "x.m.1.r",
        ),
        (
            keys_of::<BTreeMap<String, Sub>>(&table([("a", whole), ("z", lacking.clone())])),
            "x.m.z.r",
        ),
        (
            keys_of::<One<Sub>>(&table([("m", lacking.clone())])),
            "x.m.m.r",
        ),
        (
            keys_of::<Strict>(&table([("a", lacking.clone()), ("q", 1.into())])),
            "x.m.a.r",
        ),
        (keys_of::<Strict>(&table([("q", 1.into())])), "x.m.a"),
    ] {
        assert_eq!(keys, [[expected], [expected]]);
    }
}

#[test]
fn each_missing_field_is_named_once() {
    let lacking = table([("q", 1.into())]);
    let list = Value::from(vec![lacking.clone(), lacking.clone()]);
    let [flat, tagged] = keys_of::<Vec<Sub>>(&list);
    assert_eq!(flat, ["x.m.0.r", "x.m.1.r"]);
    assert_eq!(tagged, flat);
    let entries = [("m", lacking)];
    let error = bind::<Flat<WithOwn>>(&entries).unwrap_err();
    let mut named = keys(&error);
    named.sort_unstable();
    assert_eq!(named, ["m.r", "r"], "{error}");
    let error = bind::<Flat<One<Sub>>>(&[("n", 1.into())]).unwrap_err();
    assert_eq!(keys(&error), ["m"], "{error}");
}

#[test]
fn a_missing_field_of_an_item_names_the_origin_of_the_item_alone() {
    let lacking = table([("q", 1.into())]);
    let error = bind::<Flat<One<Vec<Sub>>>>(&[("m", vec![lacking].into())]).unwrap_err();
    assert!(error.to_string().contains("app.toml:1:1"), "{error}");
    let error = bind::<Flat<One<Sub>>>(&[("m.q", 1.into())]).unwrap_err();
    assert_eq!(error.to_string(), "`m.r`: not set");
}
