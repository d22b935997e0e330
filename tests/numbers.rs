//! A number is exactly the written one in every format: rounding is an error.
#![cfg(feature = "toml")]
#![allow(missing_docs, clippy::unwrap_used)]

use std::time::Duration;

use liveprops::sources::{Env, Memory};
use liveprops::{ByteSize, Document, Error, Format, Origin, Properties, Source, Value};

struct Fixed(Document);

impl Source for Fixed {
    fn origin(&self) -> Origin {
        Origin::new("fixed", "")
    }

    fn load(&self) -> Result<Document, Error> {
        Ok(self.0.clone())
    }
}

fn properties(format: &Format, text: &str) -> Properties {
    let document = format.parse(text.as_bytes(), &Origin::new("file", "app"));
    let source = Fixed(document.unwrap());
    Properties::builder().source(source).build().unwrap()
}

/// Returns the number in each format with numbers.
fn typed(number: &str) -> Vec<(&'static str, Properties)> {
    let mut all = vec![(
        "toml",
        properties(&Format::toml(), &format!("v = {number}")),
    )];
    all.push((
        "toml reference",
        properties(&Format::toml(), &format!("w = {number}\nv = '${{w}}'")),
    ));
    #[cfg(feature = "yaml")]
    all.push(("yaml", properties(&Format::yaml(), &format!("v: {number}"))));
    #[cfg(feature = "json")]
    all.push((
        "json",
        properties(&Format::json(), &format!("{{\"v\": {number}}}")),
    ));
    all
}

/// Returns the number in each format with text only.
fn texts(number: &str) -> Vec<(&'static str, Properties)> {
    let env = Env::prefix("APP_").vars([("APP_V", number)]);
    let mut all = vec![("env", Properties::builder().source(env).build().unwrap())];
    let memory = Memory::from([("v", number)]);
    all.push((
        "memory",
        Properties::builder().source(memory).build().unwrap(),
    ));
    #[cfg(feature = "properties")]
    all.push((
        "properties",
        properties(&Format::properties(), &format!("v={number}")),
    ));
    #[cfg(feature = "dotenv")]
    all.push((
        "dotenv",
        properties(&Format::dotenv(), &format!("V={number}")),
    ));
    all
}

#[test]
fn an_integer_with_a_fraction_or_an_exponent_is_exact_in_every_format() {
    for (number, i64, u64, u128) in [
        ("9007199254740993.0", true, true, "9007199254740993"),
        (
            "12345678901234567890.0",
            false,
            true,
            "12345678901234567890",
        ),
        ("1e23", false, false, "100000000000000000000000"),
        ("1.0e23", false, false, "100000000000000000000000"),
        ("9223372036854775808.0", false, true, "9223372036854775808"),
        ("1e19", false, true, "10000000000000000000"),
        ("5.0", true, true, "5"),
    ] {
        for (format, props) in typed(number) {
            let what = format!("{number} in {format}");
            let expected = |fits: bool| fits.then(|| u128.parse().unwrap());
            let found = props.get::<i64>("v").ok();
            assert_eq!(found, expected(i64).map(|n: u64| n as i64), "{what}");
            assert_eq!(props.get::<u64>("v").ok(), expected(u64), "{what}");
            assert_eq!(
                props.get::<ByteSize>("v").ok(),
                expected(u64).map(ByteSize::from_bytes),
                "{what}"
            );
            assert_eq!(props.get::<u128>("v").unwrap().to_string(), u128, "{what}");
            assert_eq!(props.get::<String>("v").unwrap(), number, "{what}");
        }
    }
}

#[test]
fn a_fraction_that_no_float_represents_is_still_a_fraction() {
    for number in ["0.99999999999999999999", "1.00000000000000000001", "1e-400"] {
        for (format, props) in typed(number).into_iter().chain(texts(number)) {
            let error = props.get::<u8>("v").unwrap_err().to_string();
            assert!(
                error.contains("not an integer"),
                "{number} in {format}: {error}"
            );
            assert!(props.get::<ByteSize>("v").is_err(), "{number} in {format}");
            assert!(props.get::<Duration>("v").is_err(), "{number} in {format}");
            assert_eq!(props.get::<String>("v").unwrap(), number, "{format}");
        }
    }
}

#[test]
fn a_float_that_underflows_to_zero_is_an_error_in_every_format() {
    for (format, props) in typed("1e-400").into_iter().chain(texts("1e-400")) {
        for error in [
            props.get::<f64>("v").unwrap_err(),
            props.get::<f32>("v").unwrap_err(),
        ] {
            assert!(
                error.to_string().contains("out of range"),
                "{format}: {error}"
            );
        }
    }
    for (format, props) in typed("1e-50").into_iter().chain(texts("1e-50")) {
        assert_eq!(props.get::<f64>("v").unwrap(), 1e-50, "{format}");
        assert!(props.get::<f32>("v").is_err(), "{format}");
    }
    for (format, props) in typed("1e39").into_iter().chain(texts("1e39")) {
        assert!(props.get::<f32>("v").is_err(), "{format}");
    }
}

#[test]
fn the_text_of_a_number_with_a_fraction_or_an_exponent_is_no_integer() {
    for number in ["9007199254740993.0", "1e3", "1.0"] {
        for (format, props) in texts(number) {
            assert!(props.get::<u64>("v").is_err(), "{number} in {format}");
            assert!(props.get::<f64>("v").is_ok(), "{number} in {format}");
        }
    }
}

#[test]
fn a_number_in_text_that_spells_a_table_is_exact() {
    let env = Env::prefix("APP_").vars([("APP_V", r#"{"a": 1e23, "b": [9007199254740993.0]}"#)]);
    let props = Properties::builder().source(env).build().unwrap();
    #[derive(serde::Deserialize)]
    struct Table {
        a: u128,
    }
    assert_eq!(props.get::<Table>("v").unwrap().a, 10u128.pow(23));
    let env = Env::prefix("APP_").vars([("APP_V", r#"[{"b": 9007199254740993.0}]"#)]);
    let props = Properties::builder().source(env).build().unwrap();
    #[derive(serde::Deserialize)]
    struct Item {
        b: u64,
    }
    let items = props.get::<Vec<Item>>("v");
    assert!(items.is_err() || items.unwrap()[0].b == 9_007_199_254_740_993);
}

#[test]
fn a_float_that_a_program_sets_is_an_integer_only_if_no_digit_is_lost() {
    let memory = Memory::new();
    let props = Properties::builder()
        .source(memory.clone())
        .build()
        .unwrap();
    memory.set("v", 9_007_199_254_740_991.0).unwrap();
    assert_eq!(props.get::<u64>("v").unwrap(), 9_007_199_254_740_991);
    memory.set("v", 1e19).unwrap();
    assert_eq!(props.get::<u64>("v").unwrap(), 10_000_000_000_000_000_000);
    memory.set("v", Value::from(2_f64.powi(63))).unwrap();
    let error = props.get::<u64>("v").unwrap_err().to_string();
    assert!(error.contains("set an integer"), "{error}");
    assert_eq!(props.get::<f64>("v").unwrap(), 2_f64.powi(63));
}

#[test]
fn an_integer_beyond_i128_reads_as_in_text_in_every_format() {
    let most = u128::MAX.to_string();
    let power = "170141183460469231731687303715884105728";
    let below = "-170141183460469231731687303715884105729";
    let long = "1234567890".repeat(4);
    for digits in [power, &most, below, &long] {
        let [(_, text), ..] = &texts(digits)[..] else {
            panic!("no text");
        };
        for (format, props) in typed(digits) {
            let what = format!("{digits} in {format}");
            assert_eq!(props.get::<String>("v").unwrap(), digits, "{what}");
            assert_eq!(props.get::<u128>("v").ok(), digits.parse().ok(), "{what}");
            assert!(props.get::<i128>("v").is_err(), "{what}");
            assert!(props.get::<u64>("v").is_err(), "{what}");
            assert!(props.get::<bool>("v").is_err(), "{what}");
            let float = props.get::<f64>("v").ok();
            assert_eq!(float, text.get::<f64>("v").ok(), "{what}");
            assert_eq!(float.is_some(), digits == power, "{what}");
        }
    }
}
