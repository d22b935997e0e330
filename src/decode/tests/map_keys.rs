//! Maps two of whose names convert to one key.

use std::net::IpAddr;
use std::num::NonZeroU8;

use super::*;

#[derive(Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd)]
enum Level {
    Low,
    #[serde(alias = "max")]
    High,
}

/// Reads a map with two names, and asserts that the error names both with their places.
#[track_caller]
fn is_given_twice<T: DeserializeOwned + std::fmt::Debug>(one: &str, other: &str) {
    let key = |name: &str| {
        let mut key = "m".to_owned();
        crate::value::key::push_segment(&mut key, name);
        key
    };
    let entries = [(key(one), Value::from(1)), (key(other), 1.into())];
    let entries = entries
        .each_ref()
        .map(|(key, value)| (&**key, value.clone()));
    let error = match bind::<T>(&entries) {
        Ok(value) => panic!("`{one}` and `{other}` read as {value:?}"),
        Err(error) => error,
    };
    let shown = error.to_string();
    for part in [one, other, "given twice", "app.toml:1:1", "app.toml:2:1"] {
        assert!(shown.contains(part), "{one} {other}: {shown}");
    }
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)] // only decoded
struct Holder<K: std::hash::Hash + Eq> {
    m: HashMap<K, u8>,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)] // only decoded
struct Sorted<K: Ord> {
    m: BTreeMap<K, u8>,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)] // only decoded
struct Flat<K: std::hash::Hash + Eq> {
    m: FlatInner<K>,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)] // only decoded
struct FlatInner<K: std::hash::Hash + Eq> {
    #[serde(flatten)]
    all: HashMap<K, u8>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
#[allow(dead_code)] // only decoded
enum Untagged<K: std::hash::Hash + Eq> {
    Map { m: HashMap<K, u8> },
}

#[test]
fn two_names_of_one_key_are_an_error_that_names_both() {
    macro_rules! check {
        ($($t:ty: $one:literal, $other:literal;)*) => {$(
            is_given_twice::<Holder<$t>>($one, $other);
            is_given_twice::<Sorted<$t>>($one, $other);
        )*};
    }
    check! {
        u16: "80", "0x50";
        u16: "80", "080";
        u64: "1000", "1_000";
        i8: "5", "+5";
        i128: "-5", "-05";
        usize: "1", "0b1";
        NonZeroU8: "7", "07";
        bool: "true", "on";
        char: "a", " a";
        Level: "High", "max";
        Level: "Low", "low";
        IpAddr: "::1", "0::1";
    }
}

#[test]
fn two_names_of_one_key_are_an_error_where_serde_buffers() {
    macro_rules! check {
        ($($t:ty: $one:literal, $other:literal;)*) => {$(
            is_given_twice::<Flat<$t>>($one, $other);
            is_given_twice::<Untagged<$t>>($one, $other);
        )*};
    }
    check! {
        u16: "80", "0x50";
        u16: "80", "080";
        i8: "5", "+5";
        bool: "true", "on";
        Level: "Low", "low";
    }
}

#[test]
fn names_of_different_keys_make_a_map() {
    let map: BTreeMap<u16, u8> = bind(&[("80", 1.into()), ("81", 1.into())]).unwrap();
    assert_eq!(map.len(), 2);
    let map: BTreeMap<String, u8> = bind(&[("80", 1.into()), ("080", 1.into())]).unwrap();
    assert_eq!(map.len(), 2);
    let map: BTreeMap<Level, u8> = bind(&[("low", 1.into()), ("max", 1.into())]).unwrap();
    assert_eq!(map.len(), 2);
    let map: HashMap<bool, u8> = bind(&[("yes", 1.into()), ("no", 1.into())]).unwrap();
    assert_eq!(map.len(), 2);
}

#[test]
fn a_text_with_two_names_of_one_key_is_an_error() {
    let error = read::<BTreeMap<u16, bool>>("80=on,080=off").unwrap_err();
    assert!(error.to_string().contains("given twice"), "{error}");
    let error = read::<BTreeMap<u16, bool>>("{80=on,0x50=off}").unwrap_err();
    assert!(error.to_string().contains("given twice"), "{error}");
}
