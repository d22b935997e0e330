#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::decode::from_node;
use crate::error::Error;
use crate::value::Value;
use crate::value::node::Node;
use crate::value::origin::Origin;
use crate::value::units::ByteSize;

/// A number as a format reads it: the nearest float, with its text.
fn written(text: &str) -> Value {
    let float: f64 = text.replace('_', "").parse().unwrap();
    Value::from(float).with_spelling(text)
}

fn read<T: DeserializeOwned>(value: &Value) -> Result<T, Error> {
    let node = Node::of(value.clone(), &Origin::new("file", "app.toml").at(3, 7));
    from_node("k", Some(&node), false)
}

#[derive(Debug, Deserialize)]
struct Flat<T> {
    #[serde(flatten)]
    all: BTreeMap<String, T>,
}

/// As [`read`], where serde buffers the value.
fn buffered<T: DeserializeOwned>(value: &Value) -> Result<T, Error> {
    let table = BTreeMap::from([("v", value.clone())]);
    let node = Node::of(
        Value::from(vec![Value::from(table)]),
        &Origin::new("file", "f"),
    );
    let mut all: Vec<Flat<T>> = from_node("k", Some(&node), false)?;
    Ok(all.remove(0).all.remove("v").unwrap())
}

/// The digits of the integer that a decimal number is, by moving the point through the text.
fn naive(whole: &str, fraction: &str, exponent: i32) -> Option<String> {
    let digits = format!("{whole}{fraction}");
    let point = whole.len() as i32 + exponent;
    let (before, after) = if point <= 0 {
        (String::new(), digits)
    } else {
        let mut digits = digits;
        while (digits.len() as i32) < point {
            digits.push('0');
        }
        let after = digits.split_off(point as usize);
        (digits, after)
    };
    let before = before.trim_start_matches('0');
    let before = if before.is_empty() { "0" } else { before };
    after
        .bytes()
        .all(|digit| digit == b'0')
        .then(|| before.to_owned())
}

/// Whether a type reads just the integer that was written, and nothing else.
fn agrees<T>(value: &Value, text: &str, digits: Option<&str>)
where
    T: DeserializeOwned + PartialEq + std::fmt::Debug + std::str::FromStr,
{
    let expected: Option<T> = digits.and_then(|digits| digits.parse().ok());
    let found = read::<T>(value);
    let kind = std::any::type_name::<T>();
    assert_eq!(
        found.as_ref().ok(),
        expected.as_ref(),
        "{text} as {kind}: {found:?}"
    );
}

fn agrees_buffered<T>(value: &Value, text: &str, digits: Option<&str>)
where
    T: DeserializeOwned + PartialEq + std::fmt::Debug + std::str::FromStr,
{
    let expected: Option<T> = digits.and_then(|digits| digits.parse().ok());
    let found = buffered::<T>(value);
    let kind = std::any::type_name::<T>();
    assert_eq!(
        found.as_ref().ok(),
        expected.as_ref(),
        "{text} buffered as {kind}: {found:?}"
    );
}

fn check(value: &Value, text: &str, digits: Option<&str>) {
    agrees::<u8>(value, text, digits);
    agrees::<i64>(value, text, digits);
    agrees::<u64>(value, text, digits);
    agrees::<i128>(value, text, digits);
    agrees::<u128>(value, text, digits);
    agrees_buffered::<u8>(value, text, digits);
    agrees_buffered::<i64>(value, text, digits);
    agrees_buffered::<u64>(value, text, digits);
    let size = digits
        .and_then(|digits| digits.parse().ok())
        .map(ByteSize::from_bytes);
    assert_eq!(read::<ByteSize>(value).ok(), size, "{text}");
    assert_eq!(buffered::<ByteSize>(value).ok(), size, "{text} buffered");
    let zero = (digits == Some("0")).then_some(Duration::ZERO);
    assert_eq!(read::<Duration>(value).ok(), zero, "{text}");
    assert_eq!(buffered::<Duration>(value).ok(), zero, "{text} buffered");
}

proptest! {
    #[test]
    fn an_integer_is_the_one_that_the_digits_say(
        negative: bool,
        whole in "(0{0,3}[0-9]{1,20}|[1-9]0{0,40}|9{1,40})",
        fraction in "(0{0,25}|[0-9]{0,25}|9{0,25}|0{0,20}[1-9])",
        exponent in prop_oneof![Just(None), (-45i32..45).prop_map(Some), Just(Some(-400))],
    ) {
        let exponent_text = exponent.map_or(".".to_owned(), |_| String::new());
        let point = if fraction.is_empty() { exponent_text } else { format!(".{fraction}") };
        let power = exponent.map_or(String::new(), |e| format!("e{e}"));
        let sign = if negative { "-" } else { "" };
        let text = format!("{sign}{whole}{point}{power}");
        let value = written(&text);
        let digits = naive(&whole, &fraction, exponent.unwrap_or(0));
        let digits = digits.map(|digits| match digits.as_str() {
            "0" => digits,
            _ => format!("{sign}{digits}"),
        });
        check(&value, &text, digits.as_deref());
    }

    #[test]
    fn a_float_reads_alike_from_its_number_and_from_its_text(
        mantissa in "[0-9]{1,20}\\.[0-9]{1,20}",
        exponent in -350i32..308,
    ) {
        let text = format!("{mantissa}e{exponent}");
        let parsed: f64 = text.parse().unwrap();
        prop_assume!(parsed.is_finite());
        let (number, text) = (written(&text), Value::from(text.as_str()));
        assert_eq!(read::<f64>(&number).ok(), read::<f64>(&text).ok());
        assert_eq!(read::<f32>(&number).ok(), read::<f32>(&text).ok());
        let zero = mantissa.bytes().all(|b| matches!(b, b'0' | b'.'));
        assert_eq!(read::<f64>(&number).is_ok(), parsed != 0.0 || zero);
        assert_eq!(buffered::<f64>(&number).ok(), read::<f64>(&number).ok());
    }

    #[test]
    fn the_float_of_a_program_is_its_own_integer_or_an_error(value: i128) {
        for value in [value, value >> 50, value >> 64, value >> 76] {
            let float = value as f64;
            let found = read::<i128>(&Value::from(float));
            if float.abs() <= 9_007_199_254_740_992.0 {
                assert_eq!(found.unwrap(), value);
            } else if let Ok(found) = found {
                assert_eq!((found, found.to_string()), (float as i128, format!("{float}")));
            }
        }
    }
}

#[test]
fn digits_that_a_float_loses_are_no_part_of_an_integer() {
    for (text, digits) in [
        ("9007199254740993.0", Some("9007199254740993")),
        ("9007199254740992.0", Some("9007199254740992")),
        ("12345678901234567890.0", Some("12345678901234567890")),
        ("1.8446744073709551615e19", Some("18446744073709551615")),
        ("18446744073709551616.0", Some("18446744073709551616")),
        ("1e23", Some("100000000000000000000000")),
        ("1e38", Some("100000000000000000000000000000000000000")),
        ("3.4e38", Some("340000000000000000000000000000000000000")),
        ("3.5e38", None),
        ("1e300", None),
        ("0.99999999999999999999", None),
        ("1.00000000000000000001", None),
        ("9007199254740993.5", None),
        ("1e-400", None),
        ("1e-99999999999999999999", None),
        ("0e-99999999999999999999", Some("0")),
        ("0.000e5", Some("0")),
        ("-0.0", Some("0")),
        ("-5.0", Some("-5")),
        ("1_000.0", Some("1000")),
        ("1_0.5e1", Some("105")),
        ("+1.50e1", Some("15")),
        ("25e-1", None),
        ("250e-1", Some("25")),
        (".5e1", Some("5")),
        ("5.", Some("5")),
    ] {
        check(&written(text), text, digits);
    }
}

#[test]
fn a_number_that_vanishes_or_overflows_is_no_float() {
    for text in ["1e-400", "-1e-400", "0.1e-399"] {
        assert!(read::<f64>(&written(text)).is_err(), "{text}");
        assert!(read::<f32>(&written(text)).is_err(), "{text}");
        assert!(buffered::<f64>(&written(text)).is_err(), "{text}");
        assert!(read::<f64>(&Value::from(text)).is_err(), "{text}");
        assert_eq!(read::<String>(&written(text)).unwrap(), text);
        assert_eq!(buffered::<String>(&written(text)).unwrap(), text);
    }
    for text in ["1e-50", "1e39", "-3.5e38"] {
        assert!(read::<f64>(&written(text)).is_ok(), "{text}");
        assert!(read::<f32>(&written(text)).is_err(), "{text}");
        assert!(read::<f32>(&Value::from(text)).is_err(), "{text}");
    }
    for text in [
        "0e-400",
        "0.0",
        "-0.0",
        "5e-324",
        "1.00000000000000000001",
        "9007199254740993.0",
    ] {
        let float: f64 = text.parse().unwrap();
        assert_eq!(read::<f64>(&written(text)).unwrap(), float, "{text}");
        assert_eq!(buffered::<f64>(&written(text)).unwrap(), float, "{text}");
    }
}

#[test]
fn a_number_stays_a_number_for_a_type_that_takes_anything() {
    for text in [
        "9007199254740993.0",
        "0.99999999999999999999",
        "1.10",
        "1e23",
    ] {
        let float: f64 = text.parse().unwrap();
        assert_eq!(
            read::<Value>(&written(text)).unwrap(),
            Value::from(float),
            "{text}"
        );
    }
    // No float holds any of it.
    assert_eq!(
        read::<Value>(&written("1e-400")).unwrap(),
        Value::from("1e-400")
    );
}

#[test]
fn another_deserializer_gives_a_size_as_a_float() {
    let size = |json: &str| serde_json::from_str::<ByteSize>(json);
    assert_eq!(size("5.0").unwrap(), ByteSize::from_bytes(5));
    assert_eq!(
        size("1e19").unwrap(),
        ByteSize::from_bytes(10_000_000_000_000_000_000)
    );
    assert!(size("5.5").is_err());
}

#[test]
fn a_spelling_that_is_no_decimal_number_does_not_count() {
    for (value, text) in [
        (1234.0, "1.234"),
        (0.5, "50%"),
        (8.0, "0x1p3"),
        (3.0, "three"),
    ] {
        let value = Value::from(value).with_spelling(text);
        assert_eq!(
            read::<u16>(&value).ok(),
            read::<u16>(value.canonical()).ok(),
            "{text}"
        );
        assert_eq!(
            read::<f64>(&value).ok(),
            read::<f64>(value.canonical()).ok(),
            "{text}"
        );
    }
}

#[test]
fn a_float_whose_digits_are_lost_is_an_error_that_says_so() {
    let error = read::<u64>(&Value::from(2_f64.powi(63)))
        .unwrap_err()
        .to_string();
    for part in [
        "k",
        "u64",
        "lost the last digits",
        "set an integer",
        "float 9.2",
    ] {
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(
        read::<u64>(&Value::from(1e19)).unwrap(),
        10_000_000_000_000_000_000
    );
}

#[test]
fn a_long_number_is_read_in_one_pass() {
    let nines = "9".repeat(2_000_000);
    let value = Value::from(f64::INFINITY).with_spelling(&nines);
    assert!(read::<u64>(&value).is_err());
    let zeros = format!("5.{}e0", "0".repeat(2_000_000));
    assert_eq!(read::<u64>(&written(&zeros)).unwrap(), 5);
}
