//! Several errors of one pass.

use super::*;

/// A field whose type hides an error.
fn lenient<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
    Ok(u8::deserialize(deserializer).unwrap_or(7))
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)] // only decoded
struct Item {
    strict: u8,
    #[serde(deserialize_with = "lenient", default)]
    lenient: u8,
    #[serde(default)]
    ip: Option<IpAddr>,
}

fn item(strict: &str, lenient: &str) -> Value {
    Value::from(BTreeMap::from([("strict", strict), ("lenient", lenient)]))
}

#[test]
fn all_bad_items_of_a_list_are_named_up_to_a_hundred() {
    let bad = |at: usize| {
        if at % 3 == 0 {
            format!("x{at}")
        } else {
            at.to_string()
        }
    };
    for count in [30usize, 1_000] {
        let texts: Vec<String> = (0..count).map(|at| bad(at % 250)).collect();
        let names: Vec<String> = (0..count)
            .filter(|at| (at % 250) % 3 == 0)
            .map(|at| format!("k.{at}"))
            .collect();
        let names = &names[..names.len().min(100)];
        let list = Value::from(texts.clone());
        assert_eq!(keys(&read::<Vec<u8>>(list).unwrap_err()), names);
        let error = read::<Vec<u8>>(texts.join(",")).unwrap_err();
        assert_eq!(keys(&error), names);
        let second = error.iter().nth(1).unwrap().to_string();
        assert!(
            second.contains("found text \"x3\" (file app.toml:3:7)"),
            "{second}"
        );
    }
}

#[test]
fn all_bad_entries_of_a_map_are_named_up_to_a_hundred() {
    let entries: BTreeMap<String, &str> = (100..400).map(|at| (format!("n{at}"), "x")).collect();
    let names: Vec<String> = (100..200).map(|at| format!("k.n{at}")).collect();
    let error = read::<BTreeMap<String, u16>>(Value::from(entries)).unwrap_err();
    assert_eq!(keys(&error), names);
}

#[test]
fn what_a_type_hides_is_no_error_beside_what_it_does_not() {
    let one = item("x", "y");
    assert_eq!(keys(&read::<Item>(one).unwrap_err()), ["k.strict"]);
    let good = item("1", "y");
    assert_eq!(read::<Item>(good.clone()).unwrap().lenient, 7);
    let list = Value::from(vec![
        item("x", "y"),
        good,
        item("1", "2"),
        item("300", "y"),
        item("", ""),
    ]);
    let error = read::<Vec<Item>>(list).unwrap_err();
    assert_eq!(keys(&error), ["k.0.strict", "k.3.strict", "k.4.strict"]);
}

#[test]
fn what_this_crate_rejects_and_what_types_reject_are_named_together() {
    let with = |at: usize| {
        let strict = if at % 2 == 0 { "x" } else { "1" };
        let ip = if at % 3 == 0 { "here" } else { "::1" };
        Value::from(BTreeMap::from([("strict", strict), ("ip", ip)]))
    };
    let list: Vec<Value> = (0..12).map(with).collect();
    let error = read::<Vec<Item>>(Value::from(list)).unwrap_err();
    let mut found = keys(&error);
    found.sort();
    let mut all: Vec<String> = (0..12)
        .step_by(2)
        .map(|at| format!("k.{at}.strict"))
        .collect();
    all.extend((0..12).step_by(3).map(|at| format!("k.{at}.ip")));
    all.sort();
    assert_eq!(found, all);
}

#[test]
fn each_kind_of_bad_item_is_named() {
    fn all_named<T: DeserializeOwned + std::fmt::Debug>(bad: &Value) {
        let list = Value::from(vec![bad.clone(), bad.clone(), bad.clone()]);
        let error = read::<Vec<T>>(list).unwrap_err();
        assert_eq!(
            keys(&error),
            ["k.0", "k.1", "k.2"],
            "{}",
            std::any::type_name::<T>()
        );
    }
    #[derive(Debug, Deserialize)]
    #[allow(dead_code)] // only decoded
    struct Pair {
        a: u8,
        b: u8,
    }
    #[derive(Debug, Deserialize)]
    enum Speed {
        Fast,
    }
    let text = Value::from("?");
    all_named::<u8>(&text);
    all_named::<i128>(&text);
    all_named::<NonZeroU32>(&text);
    all_named::<bool>(&text);
    all_named::<f32>(&text);
    all_named::<f64>(&text);
    all_named::<char>(&Value::from("ab"));
    all_named::<String>(&Value::from(vec![1]));
    all_named::<()>(&text);
    all_named::<Option<u8>>(&text);
    all_named::<Vec<u8>>(&Value::from(1));
    all_named::<(u8, u8)>(&Value::from("1,2,3"));
    all_named::<BTreeMap<String, u8>>(&text);
    all_named::<Pair>(&text);
    all_named::<Pair>(&Value::from("{a"));
    all_named::<Speed>(&Value::from(1));
    all_named::<Speed>(&Value::from(vec![1]));
    all_named::<Speed>(&text);
    all_named::<Duration>(&text);
    all_named::<ByteSize>(&text);
    all_named::<IpAddr>(&text);
    all_named::<Secret<u8>>(&text);
}

/// A struct with many fields, of which serde buffers each.
#[test]
fn a_bad_field_of_many_buffered_ones_is_the_only_one_reported() {
    #[derive(Deserialize)]
    struct AnyInteger {
        #[serde(flatten)]
        #[allow(dead_code)] // only decoded
        all: Many,
    }
    macro_rules! many {
        ($($name:ident)*) => {
            #[derive(Deserialize)]
            #[allow(dead_code)] // only decoded
            struct Many { $($name: u32,)* }
            const NAMES: &[&str] = &[$(stringify!($name)),*];
        };
    }
    many! {
        a0 a1 a2 a3 a4 a5 a6 a7 a8 a9 b0 b1 b2 b3 b4 b5 b6 b7 b8 b9 c0 c1 c2 c3 c4 c5 c6 c7 c8 c9
        d0 d1 d2 d3 d4 d5 d6 d7 d8 d9 e0 e1 e2 e3 e4 e5 e6 e7 e8 e9 f0 f1 f2 f3 f4 f5 f6 f7 f8 f9
        g0 g1 g2 g3 g4 g5 g6 g7 g8 g9 h0 h1 h2 h3 h4 h5 h6 h7 h8 h9
    }
    let value = |name: &str| Value::from(if name == "a0" { "x" } else { "5" });
    let entries: Vec<(&str, Value)> = NAMES.iter().map(|name| (*name, value(name))).collect();
    let error = bind::<AnyInteger>(&entries).map(drop).unwrap_err();
    let keys: Vec<_> = error.iter().map(Error::key_text).collect();
    assert_eq!(keys, [Some("a0")], "{error}");
    assert!(!error.is_partial(), "{error}");
}

#[test]
fn one_bad_secret_of_a_thousand_is_found_and_is_known_to_be_the_only_one() {
    #[derive(Deserialize)]
    struct AnyInteger<T> {
        #[serde(flatten)]
        #[allow(dead_code)] // only decoded
        all: BTreeMap<String, T>,
    }
    let names: Vec<String> = (0..1_000).map(|at| format!("k{at}")).collect();
    let value = |at: usize| {
        Value::from(if at == 700 {
            "x".to_owned()
        } else {
            at.to_string()
        })
    };
    let entries = names.iter().enumerate();
    let entries: Vec<(&str, Value)> = entries.map(|(at, name)| (&**name, value(at))).collect();
    for error in [
        bind::<AnyInteger<Secret<u32>>>(&entries)
            .map(drop)
            .unwrap_err(),
        bind::<AnyInteger<u32>>(&entries).map(drop).unwrap_err(),
    ] {
        let keys: Vec<_> = error.iter().map(Error::key_text).collect();
        assert_eq!(keys, [Some("k700")], "{error}");
        assert!(!error.is_partial(), "{error}");
    }
}

#[test]
fn several_texts_out_of_range_in_a_buffered_map_are_each_reported_as_that() {
    #[derive(Deserialize)]
    struct AnyInteger<T> {
        #[serde(flatten)]
        #[allow(dead_code)] // only decoded
        all: BTreeMap<String, T>,
    }
    fn check<T: DeserializeOwned>(texts: &[&str]) {
        let names = ["a", "b", "c", "d"];
        let entries = names.iter().zip(texts);
        let entries: Vec<(&str, Value)> = entries
            .map(|(name, text)| (*name, Value::from(*text)))
            .collect();
        let error = bind::<AnyInteger<T>>(&entries).map(drop).unwrap_err();
        assert_eq!(error.iter().count(), texts.len(), "{error}");
        for error in error.iter() {
            assert!(error.to_string().contains("out of range"), "{error}");
        }
    }
    check::<u8>(&["300", "300"]);
    check::<u8>(&["300", "301"]);
    check::<u8>(&["-1", "-1", "-1"]);
    check::<i8>(&["0x100", "0x100"]);
}
