//! An exported JSON Schema and `build` give the same verdict on the same document.
//!
//! Each test generates documents from values at the limits of types. An independent validator
//! checks the document with the export, and `build` checks it with the schema. `SCHEMA_CASES` sets
//! the number of documents of each test.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::Duration;

use liveprops::schema::Declaration;
use liveprops::{
    ByteSize, Document, Error, Format, Origin, Properties, Schema, Secret, Source, Watching,
};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};

/// A JSON document as a source.
struct Once(String);

impl Source for Once {
    fn origin(&self) -> Origin {
        Origin::new("document", "")
    }

    fn load(&self) -> Result<Document, Error> {
        Format::json().parse(self.0.as_bytes(), &self.origin())
    }

    fn watching(&self) -> Watching {
        Watching::Never
    }
}

/// The declaration of a key, as far as the verdict depends on it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wanted {
    Integer,
    F32,
    F64,
    Bool,
    Text,
    Char,
    Duration,
    Size,
}

struct Case {
    name: String,
    wanted: Wanted,
    list: bool,
    /// Whether the export states all rules; otherwise a comment states some of them.
    whole: bool,
    schema: Schema,
    validator: jsonschema::Validator,
}

fn validator(schema: &Schema) -> jsonschema::Validator {
    let export: Json = serde_json::from_str(&schema.to_json_schema()).unwrap();
    jsonschema::draft202012::meta::validate(&export)
        .unwrap_or_else(|error| panic!("{error}: {export:#}"));
    jsonschema::draft202012::new(&export).unwrap_or_else(|error| panic!("{error}: {export:#}"))
}

fn build(schema: &Schema, document: &Json) -> Result<Properties, Error> {
    let source = Once(document.to_string());
    Properties::builder()
        .source(source)
        .schema(schema.clone())
        .build()
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name: &str, wanted, list, whole, schema: Schema| {
        cases.push(Case {
            name: name.to_owned(),
            wanted,
            list,
            whole,
            validator: validator(&schema),
            schema,
        });
    };
    macro_rules! types {
        ($($wanted:ident: $($t:ty)*;)*) => {$($(
            let (name, wanted) = (stringify!($t), Wanted::$wanted);
            add(name, wanted, false, true, one(key::<$t>()));
            add(name, wanted, false, true, one(key::<Option<$t>>()));
            add(name, wanted, false, true, one(key::<Secret<$t>>()));
            add(name, wanted, true, true, one(key::<Vec<$t>>()));
        )*)*};
    }
    types! {
        Integer: u8 u16 u32 u64 u128 i8 i16 i32 i64 i128 usize isize;
        F32: f32;
        F64: f64;
        Bool: bool;
        Text: String;
        Char: char;
        Duration: Duration;
        Size: ByteSize;
    }
    let mut add = |name: &str, wanted, schema| add(name, wanted, false, true, schema);
    use Wanted::{Bool, Char, F32, F64, Integer, Size, Text};
    add("u8 1..=5", Integer, one(key::<u8>().range(1..=5)));
    add("i64 -5..5", Integer, one(key::<i64>().range(-5..5)));
    add("u64 2^53..", Integer, one(key::<u64>().range(1 << 53..)));
    add("u8 of", Integer, one(key::<u8>().one_of([1, 5, 255])));
    add("f64 0.5..1", F64, one(key::<f64>().range(0.5..1.0)));
    add("f64 ..=inf", F64, one(key::<f64>().range(..=f64::INFINITY)));
    add("f64 of", F64, one(key::<f64>().one_of(["1", "0.5"])));
    add(
        "u128 from 3e38",
        Integer,
        one(key::<u128>().range(3 * 10_u128.pow(38)..)),
    );
    add("f32 -1..=1", F32, one(key::<f32>().range(-1.0..=1.0)));
    add("text ..0", Text, one(key::<String>().length(..0)));
    add("text ..=0", Text, one(key::<String>().length(..=0)));
    add("text 2..5", Text, one(key::<String>().length(2..5)));
    add(
        "text 5..3",
        Text,
        one(key::<String>().length(5..).length(..3)),
    );
    add(
        "text of",
        Text,
        one(key::<String>().one_of(["", "ab", "5"])),
    );
    add(
        "char of",
        Char,
        one(key::<char>().one_of(["a", " ", "5", "^", "-", "\\"])),
    );
    add("bool of", Bool, one(key::<bool>().one_of(["yes"])));
    add("nothing", Integer, one(key::<u8>().one_of([1]).one_of([2])));
    let seconds = Duration::from_secs;
    add(
        "time 0..",
        Wanted::Duration,
        one(key::<Duration>().range(seconds(0)..)),
    );
    let mut partial = |name: &str, wanted, list, schema| {
        cases.push(Case {
            name: name.to_owned(),
            wanted,
            list,
            whole: false,
            validator: validator(&schema),
            schema,
        });
    };
    let time = key::<Duration>();
    partial(
        "time 1s..",
        Wanted::Duration,
        false,
        one(time.range(seconds(1)..)),
    );
    let time = key::<Duration>();
    partial(
        "time of",
        Wanted::Duration,
        false,
        one(time.one_of(["60s"])),
    );
    let size = key::<ByteSize>();
    partial("size of", Size, false, one(size.one_of(["1 KiB"])));
    partial(
        "char a..=f",
        Char,
        false,
        one(key::<char>().range('a'..='f')),
    );
    let list = key::<Vec<u8>>();
    partial("list of", Integer, true, one(list.one_of([vec![1, 2]])));
    let list = key::<Vec<u8>>();
    partial("list [1]..", Integer, true, one(list.range(vec![1]..)));
    let size = key::<ByteSize>();
    let size = size.range(ByteSize::from_bytes(1024)..ByteSize::from_bytes(4096));
    partial("size 1k..4k", Size, false, one(size));
    let odd = key::<u8>().validate("odd", |n| {
        (n % 2 == 1).then_some(()).ok_or_else(|| "even".into())
    });
    partial("odd", Integer, false, one(odd));
    cases
}

fn key<T: DeserializeOwned + 'static>() -> Declaration<T> {
    Schema::key("k")
}

fn one<T: DeserializeOwned + 'static>(declaration: Declaration<T>) -> Schema {
    Schema::new().declare(declaration)
}

/// Numbers at the limits of types, as written in a document.
const NUMBERS: &[&str] = &[
    "0",
    "-0",
    "1",
    "-1",
    "2",
    "5",
    "6",
    "-5",
    "-6",
    "127",
    "128",
    "-128",
    "-129",
    "255",
    "256",
    "1000",
    "1024",
    "4095",
    "4096",
    "32767",
    "32768",
    "65535",
    "65536",
    "2147483647",
    "2147483648",
    "-2147483649",
    "4294967295",
    "4294967296",
    "16777216",
    "16777217",
    "9007199254740992",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "18446744073709551615",
    "0.0",
    "-0.0",
    "1.0",
    "5.0",
    "-5.0",
    "255.0",
    "256.0",
    "0.5",
    "-0.5",
    "0.25",
    "0.75",
    "0.1",
    "1.5",
    "5.000001",
    "1e0",
    "1e2",
    "1E2",
    "1e-2",
    "2.5e1",
    "1e18",
    "1e20",
    "-1e20",
    "1e38",
    "1.7014118346046923e38",
    "2e38",
    "3.4028234e38",
    "3.4028235e38",
    "3.4028236e38",
    "3.5e38",
    "1e39",
    "-1e39",
    "1e300",
    "1e-300",
    "1e-60",
];

/// Texts that are almost valid for a type.
const TEXTS: &[&str] = &[
    "",
    " ",
    "  ",
    "a",
    "b",
    "g",
    "ab",
    " a ",
    "\ta",
    "abc",
    "abcd",
    "abcde",
    "ä",
    "äö",
    "😀",
    "😀😀",
    "5",
    "^",
    "-",
    "\\",
    "]",
    "0",
    "00",
    "0s",
    "30",
    "30s",
    " 30 s ",
    "1.5s",
    "1.s",
    ".5s",
    "s",
    "5x",
    "1h 5m",
    "1h5m",
    "1h5",
    "1m 1h",
    "1s 1s",
    "0.5ns",
    "1.0ns",
    "0.0005us",
    "0.25us",
    "0.0000005ms",
    "0.000000001s",
    "0.0000000001s",
    "1.000000000s",
    "1.000000000m",
    "1.0000000000m",
    "1.1_1h",
    "1_000ms",
    "1__0s",
    "1_s",
    "1._5s",
    "_1s",
    "-5s",
    "+5s",
    "7µs",
    "7μs",
    "7us",
    "2d",
    "1w",
    "1w1ns",
    "2 hours 3 minutes 4 seconds",
    "2 hour 1 sec",
    "3 mins",
    "4 hrs",
    "1e3s",
    "P",
    "PT",
    "P1D",
    "P1DT",
    "P1DT2H",
    "PT1H5M",
    "PT5M1H",
    "P1W2D",
    "P2W",
    "PT0.5S",
    "P1Y",
    "P1M",
    "1D",
    "5S",
    "1H",
    "PT1H ",
    "pt1h",
    "+10s",
    "1 B",
    "1.0",
    "1.5",
    "+5",
    "+ 5",
    "64k",
    "64kB",
    "64KB",
    "64KiB",
    "0x10",
    "0X1_f",
    "0o17",
    "0b1_1",
    "0x",
    "-0",
    "-00",
    "+0x1",
    "64Ki",
    "64ki",
    "10 MiB",
    "10mib",
    "1.5GB",
    "0.5B",
    "0.0005kB",
    "0.001kB",
    "1.500kB",
    "0.1234567 MB",
    "0.123456 MB",
    "3 bytes",
    "3 byte",
    "3 Bytes",
    "7b",
    "1e3",
    "1 MiB 2",
    "MiB",
    "15EiB",
    "1.5 KiB",
    "\u{a0}1s",
    "1\n",
    "1s\n",
    "true",
    "yes",
    "1,2",
    "[1]",
    "a=1",
];

fn number() -> impl Strategy<Value = Json> {
    let spelled = select(NUMBERS).prop_map(|number| serde_json::from_str(number).unwrap());
    let integer = any::<i64>().prop_map(|number| json!(number));
    let float = any::<f64>().prop_filter_map("not finite", |number| {
        serde_json::Number::from_f64(number).map(Json::Number)
    });
    let small = (-300_i64..300, select(&[1.0, 2.0, 4.0, 10.0][..]));
    let small = small.prop_map(|(number, part)| json!(number as f64 / part));
    prop_oneof![6 => spelled, 1 => integer, 1 => float, 2 => small]
}

fn text() -> impl Strategy<Value = Json> {
    let digits = "[0-9_.]{1,5}";
    let unit = select(
        &[
            "w", "d", "h", "m", "s", "ms", "us", "ns", " sec", "mins", "kB", "KiB", "mb", "GB",
            "B", "", "x", " ",
        ][..],
    );
    let parts = proptest::collection::vec((digits, unit, select(&["", " "][..])), 1..4);
    let parts = parts.prop_map(|parts| {
        let parts = parts.iter();
        parts
            .map(|(n, unit, space)| format!("{n}{unit}{space}"))
            .collect::<String>()
    });
    let iso = "P([0-9]{1,2}[WDYM]){0,2}(T([0-9]{1,2}(\\.[0-9])?[HMS]){0,3})?";
    let texts = select(TEXTS).prop_map(str::to_owned);
    let any = proptest::collection::vec(any::<char>(), 0..3).prop_map(|c| c.into_iter().collect());
    prop_oneof![6 => texts, 2 => parts, 1 => iso, 1 => any]
        // Only one of Rust and JavaScript treats these two as space.
        .prop_filter("not space for all", |text: &String| {
            !text.contains(['\u{85}', '\u{feff}'])
        })
        .prop_map(Json::String)
}

fn duration_table() -> impl Strategy<Value = Json> {
    let part = || proptest::option::weighted(0.9, prop_oneof![number(), text()]);
    (part(), part(), proptest::option::weighted(0.1, number())).prop_map(|(secs, nanos, more)| {
        let fields = [("secs", secs), ("nanos", nanos), ("more", more)];
        let fields = fields.into_iter();
        let there = fields.filter_map(|(name, value)| Some((name.to_owned(), value?)));
        Json::Object(there.collect())
    })
}

fn value() -> impl Strategy<Value = Json> {
    let scalar = prop_oneof![
        8 => number(),
        8 => text(),
        1 => any::<bool>().prop_map(Json::Bool),
        1 => duration_table(),
        1 => Just(json!({})),
    ];
    let scalar = scalar.boxed();
    let list = proptest::collection::vec(scalar.clone(), 0..4).prop_map(Json::Array);
    prop_oneof![3 => scalar, 1 => list]
}

/// Returns whether the export describes values of this JSON type for the key. `build` also reads
/// others, such as text for a number.
fn described(wanted: Wanted, list: bool, value: &Json) -> bool {
    if list {
        let items = value.as_array();
        return items.is_some_and(|items| items.iter().all(|item| described(wanted, false, item)));
    }
    match (wanted, value) {
        (Wanted::Integer | Wanted::F32 | Wanted::F64, value) => value.is_number(),
        (Wanted::Bool, value) => value.is_boolean(),
        (Wanted::Text | Wanted::Char, value) => value.is_string(),
        (Wanted::Duration, Json::Object(fields)) => fields.values().all(Json::is_number),
        (Wanted::Duration | Wanted::Size, value) => value.is_string() || value.is_number(),
    }
}

/// Returns whether a number in the value underflows to zero as `f32`.
fn vanishes(value: &Json) -> bool {
    match value {
        Json::Array(items) => items.iter().any(vanishes),
        value => {
            let number = value.as_f64().unwrap_or_default();
            number != 0.0 && number as f32 == 0.0
        }
    }
}

/// Whether `build` rejects a value for a reason that the export does not state.
fn unspeakable(wanted: Wanted, value: &Json, error: &Error) -> bool {
    let detail = error.to_string();
    match wanted {
        _ if detail.contains("a NUL character") => true,
        Wanted::F32 if vanishes(value) => detail.contains("out of range"),
        Wanted::F32 | Wanted::F64 => detail.contains("cannot hold exactly"),
        Wanted::Size => {
            ["larger than", "finer than"]
                .iter()
                .any(|fault| detail.contains(fault))
                && detail.contains("found text")
        }
        // The sum of its parts is too large.
        Wanted::Duration => detail.contains("larger than") || detail.contains("overflow"),
        _ => false,
    }
}

fn cases_per_test() -> u32 {
    let cases = std::env::var("SCHEMA_CASES").ok();
    cases.and_then(|cases| cases.parse().ok()).unwrap_or(4_000)
}

fn run<S: Strategy>(strategy: S, test: impl Fn(S::Value) -> Result<(), TestCaseError>)
where
    S::Value: std::fmt::Debug,
{
    let config = Config {
        cases: cases_per_test(),
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new(config)
        .run(&strategy, test)
        .unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn an_export_and_build_give_the_same_verdict_on_each_value() {
    let cases = cases();
    let indexes = 0..cases.len();
    run((indexes, value()), |(at, value)| {
        let case = &cases[at];
        let document = json!({ "k": value });
        let valid = case.validator.is_valid(&document);
        let built = build(&case.schema, &document).map(drop);
        let agree = match (valid, &built) {
            (true, Ok(())) | (false, Err(_)) => true,
            (true, Err(error)) => !case.whole || unspeakable(case.wanted, &value, error),
            (false, Ok(())) => !described(case.wanted, case.list, &value),
        };
        let name = &case.name;
        let export = || case.schema.to_json_schema();
        prop_assert!(
            agree,
            "{name}: {value}: valid: {valid}, {built:?}, {}",
            export()
        );
        Ok(())
    });
}

/// Names, some of them numbers, which may mean items of a list.
fn name() -> impl Strategy<Value = String> {
    select(&["a", "b", "c", "0", "1", "00", "x y"][..]).prop_map(str::to_owned)
}

#[derive(Clone, Copy, Debug)]
enum Holds {
    Number,
    Any,
}

type Declared = (Vec<String>, Holds, bool, bool);

fn declared() -> impl Strategy<Value = Declared> {
    let holds = select(&[Holds::Number, Holds::Any][..]);
    let path = proptest::collection::vec(name(), 1..4);
    (path, holds, any::<bool>(), any::<bool>())
}

fn tree() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        4 => (0..9_u8).prop_map(|n| json!(n)),
        1 => Just(json!(300)),
        1 => Just(json!("x")),
        1 => Just(json!({})),
        1 => Just(json!([])),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let table = proptest::collection::vec((name(), inner.clone()), 0..4);
        let table = table.prop_map(|fields| Json::Object(fields.into_iter().collect()));
        let list = proptest::collection::vec(inner, 0..4).prop_map(Json::Array);
        prop_oneof![3 => table, 1 => list]
    })
}

fn key_of(path: &[String]) -> String {
    let segments = path.iter().map(|name| match name.contains(' ') {
        true => format!("\"{name}\""),
        false => name.clone(),
    });
    segments.collect::<Vec<_>>().join(".")
}

fn schema_of(declared: &[Declared], strict: &[Vec<String>]) -> Schema {
    let mut schema = Schema::new().deny_unknown();
    let mut seen = BTreeMap::new();
    for (path, holds, required, default) in declared {
        let key = key_of(path);
        if seen.insert(key.clone(), ()).is_some() {
            continue;
        }
        macro_rules! declare {
            ($t:ty, $default:expr) => {{
                let mut declaration = Schema::key::<$t>(&key);
                if *required {
                    declaration = declaration.required();
                }
                if *default && path.len() == 1 {
                    declaration = declaration.default($default);
                }
                schema.declare(declaration)
            }};
        }
        schema = match holds {
            Holds::Number => declare!(u8, 5),
            Holds::Any => declare!(liveprops::Value, 5),
        };
    }
    strict
        .iter()
        .fold(schema, |schema, prefix| schema.strict(&key_of(prefix)))
}

#[test]
fn an_export_and_build_give_the_same_verdict_on_each_tree() {
    let declared = proptest::collection::vec(declared(), 0..4);
    let strict = proptest::collection::vec(proptest::collection::vec(name(), 0..3), 0..3);
    let root = proptest::collection::vec((name(), tree()), 0..4);
    let root = root.prop_map(|fields| Json::Object(fields.into_iter().collect()));
    run((declared, strict, root), |(declared, strict, document)| {
        let schema = schema_of(&declared, &strict);
        let valid = validator(&schema).is_valid(&document);
        let built = build(&schema, &document).map(drop);
        if built
            .as_ref()
            .is_err_and(|error| error.kind() == liveprops::ErrorKind::InvalidKey)
        {
            return Ok(());
        }
        let export = || schema.to_json_schema();
        prop_assert!(
            valid == built.is_ok(),
            "{document}: valid: {valid}, {built:?}, {}",
            export()
        );
        Ok(())
    });
}
