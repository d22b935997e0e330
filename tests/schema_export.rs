//! The exported JSON Schema and the crate accept the same documents.
#![cfg(feature = "json")]
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::Duration;

use liveprops::schema::Declaration;
use liveprops::{
    ByteSize, Document, Error, Format, Origin, Properties, Schema, Source, Value, Watching,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};

/// Returns whether a document satisfies an export. Supports only the keywords that exports use.
/// `tests/schema-validator` checks patterns with an independent validator.
fn valid(export: &Json, document: &Json) -> bool {
    satisfies(export, export, document)
}

fn satisfies(export: &Json, schema: &Json, document: &Json) -> bool {
    let valid = |schema: &Json, document: &Json| satisfies(export, schema, document);
    let words = match schema {
        Json::Bool(verdict) => return *verdict,
        schema => schema.as_object().unwrap(),
    };
    let number = document.as_f64();
    let length = document.as_str().map(|text| text.chars().count() as u64);
    let named = |name: &str| words.get("properties").and_then(|all| all.get(name));
    words.iter().all(|(word, rule)| match word.as_str() {
        "type" => match rule {
            Json::Array(types) => types.iter().any(|one| is(one, document)),
            one => is(one, document),
        },
        "enum" => {
            let mut values = rule.as_array().unwrap().iter();
            values.any(|value| equal(value, document))
        }
        "minimum" => number.is_none_or(|n| n >= rule.as_f64().unwrap()),
        "maximum" => number.is_none_or(|n| n <= rule.as_f64().unwrap()),
        "exclusiveMinimum" => number.is_none_or(|n| n > rule.as_f64().unwrap()),
        "exclusiveMaximum" => number.is_none_or(|n| n < rule.as_f64().unwrap()),
        "minLength" => length.is_none_or(|n| n >= rule.as_u64().unwrap()),
        "maxLength" => length.is_none_or(|n| n <= rule.as_u64().unwrap()),
        "properties" => document.as_object().is_none_or(|fields| {
            let mut fields = fields.iter();
            fields.all(|(name, field)| named(name).is_none_or(|rule| valid(rule, field)))
        }),
        "required" => document.as_object().is_none_or(|fields| {
            let mut names = rule.as_array().unwrap().iter();
            names.all(|name| fields.contains_key(name.as_str().unwrap()))
        }),
        "additionalProperties" => document.as_object().is_none_or(|fields| {
            let mut others = fields.iter().filter(|(name, _)| named(name).is_none());
            others.all(|(_, field)| valid(rule, field))
        }),
        "items" => document.as_array().is_none_or(|items| {
            assert!(!words.contains_key("prefixItems"), "not for all items");
            items.iter().all(|item| valid(rule, item))
        }),
        "prefixItems" => document.as_array().is_none_or(|items| {
            let mut pairs = items.iter().zip(rule.as_array().unwrap());
            pairs.all(|(item, rule)| valid(rule, item))
        }),
        "minItems" => {
            let items = document.as_array();
            items.is_none_or(|items| items.len() as u64 >= rule.as_u64().unwrap())
        }
        "allOf" => {
            let mut rules = rule.as_array().unwrap().iter();
            rules.all(|rule| valid(rule, document))
        }
        "anyOf" => {
            let mut rules = rule.as_array().unwrap().iter();
            rules.any(|rule| valid(rule, document))
        }
        "$ref" => {
            let pointer = rule.as_str().unwrap().strip_prefix('#').unwrap();
            valid(export.pointer(pointer).unwrap(), document)
        }
        "const" => equal(rule, document),
        "not" => !valid(rule, document),
        "default" => {
            let mut bare = words.clone();
            bare.remove("default");
            assert!(valid(&Json::Object(bare), rule), "{rule} is a default");
            true
        }
        "$schema" | "$defs" | "pattern" | "$comment" | "description" | "deprecated"
        | "writeOnly" | "x-restart-required" => true,
        word => panic!("the validator does not know `{word}`"),
    })
}

fn is(name: &Json, document: &Json) -> bool {
    match name.as_str().unwrap() {
        "object" => document.is_object(),
        "array" => document.is_array(),
        "string" => document.is_string(),
        "boolean" => document.is_boolean(),
        "number" => document.is_number(),
        "integer" => document.as_f64().is_some_and(|n| n.fract() == 0.0),
        name => panic!("no type is called `{name}`"),
    }
}

fn equal(a: &Json, b: &Json) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

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

fn export(schema: &Schema) -> Json {
    serde_json::from_str(&schema.to_json_schema()).unwrap()
}

/// Checks documents with the export and with the crate.
fn check_both(schema: &Schema, good: &[Json], bad: &[Json]) {
    let exported = export(schema);
    let each = good.iter().map(|document| (document, true));
    for (document, expected) in each.chain(bad.iter().map(|document| (document, false))) {
        let verdict = valid(&exported, document);
        assert_eq!(verdict, expected, "{document} against {exported:#}");
        let builder = Properties::builder().source(Once(document.to_string()));
        let built = builder.schema(schema.clone().deny_unknown()).build();
        assert_eq!(built.is_ok(), expected, "{document}: {built:?}");
    }
}

/// Like [`check_both`], for the values of one key.
fn values<T: DeserializeOwned + 'static>(
    declaration: Declaration<T>,
    good: &[Json],
    bad: &[Json],
) -> Json {
    let schema = Schema::new().declare(declaration);
    let whole = |values: &[Json]| -> Vec<Json> {
        let values = values.iter();
        values.map(|value| json!({ "k": value })).collect()
    };
    check_both(&schema, &whole(good), &whole(bad));
    export(&schema)["properties"]["k"].clone()
}

fn key<T: DeserializeOwned + 'static>() -> Declaration<T> {
    Schema::key("k")
}

fn comment(of: &Json) -> &str {
    of["$comment"].as_str().unwrap_or_default()
}

#[test]
fn allowed_values_have_the_type_of_the_key() {
    let one_of = |values: &[&str]| values.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>();
    values(
        key::<u32>().one_of(["1", "0x2"]),
        &[json!(1), json!(2)],
        &[json!(3), json!(-1), json!("x")],
    );
    values(
        key::<Vec<String>>().one_of(["a,b", "c"]),
        &[json!(["a", "b"]), json!(["c"])],
        &[json!(["a"]), json!([])],
    );
    values(
        key::<Vec<u8>>().one_of([vec!["1", "2"]]),
        &[json!([1, 2])],
        &[json!([1])],
    );
    values(
        key::<bool>().one_of(["yes"]),
        &[json!(true)],
        &[json!(false)],
    );
    values(
        key::<f64>().one_of(["1"]),
        &[json!(1), json!(1.0)],
        &[json!(1.5)],
    );
    values(key::<String>().one_of([1, 2]), &[json!("1")], &[json!("3")]);
    values(
        key::<Option<u8>>().one_of([1]).one_of([1, 2]),
        &[json!(1)],
        &[json!(2)],
    );
    let nothing = values(
        key::<u8>().one_of([1]).one_of([2]),
        &[],
        &[json!(1), json!(2)],
    );
    assert_eq!(nothing["not"], json!({}));
    // A description covers values with several spellings.
    let times = values(
        key::<Duration>().one_of(one_of(&["60s"])),
        &[json!("1m")],
        &[],
    );
    assert_eq!(comment(&times), "one of \"60s\"");
    let sizes = values(
        key::<ByteSize>().one_of(["1 KiB"]),
        &[json!(1024), json!("1024 B")],
        &[],
    );
    assert_eq!(comment(&sizes), "one of \"1 KiB\"");
    #[derive(Deserialize, PartialEq)]
    struct Level(u8);
    let level = values(
        key::<Level>().one_of(["1", "2"]),
        &[json!(1), json!(2)],
        &[],
    );
    assert_eq!(comment(&level), "one of \"1\", \"2\"");
    #[derive(Deserialize, PartialEq)]
    #[serde(rename_all = "lowercase")]
    enum Mode {
        Dev,
        Prod,
        Live,
    }
    assert!(Mode::Dev != Mode::Prod && Mode::Live != Mode::Prod);
    values(
        key::<Mode>().one_of(["dev", "prod"]),
        &[json!("dev")],
        &[json!("live"), json!("x")],
    );
}

#[test]
fn defaults_have_the_type_of_the_key() {
    let default = |export: Json| export["default"].clone();
    let of = |text: &str| Value::from(text);
    let int = values(key::<u32>().default(of("0x10")), &[json!(1)], &[json!(-1)]);
    assert_eq!(default(int), json!(16));
    let flag = values(
        key::<bool>().default(of("yes")),
        &[json!(false)],
        &[json!("x")],
    );
    assert_eq!(default(flag), json!(true));
    let list = values(key::<Vec<String>>().default(of("a, b")), &[json!([])], &[]);
    assert_eq!(default(list), json!(["a", "b"]));
    let list = values(
        key::<Vec<u8>>().default(of("1, 2")),
        &[json!([3])],
        &[json!([300])],
    );
    assert_eq!(default(list), json!([1, 2]));
    let float = values(key::<f64>().default(1), &[json!(2.5)], &[json!("x")]);
    assert_eq!(default(float), json!(1.0));
    let text = values(key::<String>().default(80), &[json!("a")], &[]);
    assert_eq!(default(text), json!("80"));
    let time = values(
        key::<Duration>().default(of("30s")),
        &[json!("1m")],
        &[json!(5)],
    );
    assert_eq!(default(time), json!("30s"));
    let float = values(key::<f64>().default(of("inf")), &[json!(1)], &[]);
    assert_eq!(
        (default(float.clone()), comment(&float)),
        (Json::Null, "default \"inf\"")
    );
    let schema = Schema::new()
        .declare(key::<u32>().default("${other}"))
        .declare(Schema::key::<u32>("other").default(1));
    let refers = &export(&schema)["properties"]["k"];
    assert_eq!(
        (&refers["default"], comment(refers)),
        (&Json::Null, "default \"${other}\"")
    );
}

#[test]
fn all_ranges_and_lengths_hold() {
    values(
        key::<u32>().range(..=9).range(3..),
        &[json!(3), json!(9)],
        &[json!(2), json!(10)],
    );
    values(
        key::<i64>().range(..=9).range(..9).range(..=9).range(-5..),
        &[json!(8), json!(-5)],
        &[json!(9), json!(-6)],
    );
    values(
        key::<u8>().range(..=400_u16 as u8),
        &[json!(0)],
        &[json!(300), json!(-1)],
    );
    values(
        key::<f64>().range(0.5..).range(..1.0),
        &[json!(0.5)],
        &[json!(1), json!(0.4)],
    );
    values(
        key::<Option<u32>>().range(Some(2)..Some(5)),
        &[json!(2), json!(4)],
        &[json!(1), json!(5)],
    );
    values(
        key::<String>().length(2..).length(..5).length(1..=9),
        &[json!("ää"), json!("abcd")],
        &[json!("a"), json!("abcde")],
    );
    let none = values(key::<String>().length(..0), &[], &[json!(""), json!("a")]);
    assert_eq!(none["allOf"], json!([false]));
    let size = values(
        key::<ByteSize>().range(ByteSize::from_bytes(1024)..ByteSize::from_bytes(4096)),
        &[json!(1024), json!("2 KiB")],
        &[json!(4096), json!(1)],
    );
    assert_eq!(comment(&size), "range 1 KiB..4 KiB");
    let second = Duration::from_secs(1);
    let time = values(
        key::<Duration>().range(second..),
        &[json!("2s")],
        &[json!(5)],
    );
    assert_eq!(comment(&time), "range 1s..");
    let letter = values(key::<char>().range('a'..='f'), &[json!("c")], &[]);
    assert_eq!(comment(&letter), "range 'a'..='f'");
    let list = values(
        key::<Vec<u8>>().range(vec![1]..),
        &[json!([2, 0])],
        &[json!(["x"])],
    );
    assert_eq!(comment(&list), "range [1]..");
    let endless = values(key::<f64>().range(..=f64::INFINITY), &[json!(1)], &[]);
    assert_eq!(comment(&endless), "range ..=inf");
}

#[test]
fn an_item_of_a_list_may_be_declared() {
    let schema = Schema::new()
        .declare(Schema::key::<String>("hosts.0.name").required())
        .declare(Schema::key::<u16>("hosts.1.port"))
        .strict("");
    check_both(
        &schema,
        &[
            json!({"hosts": [{"name": "a"}]}),
            json!({"hosts": [{"name": "a", "more": 1}, {"port": 80}, {"port": "x"}]}),
            json!({"hosts": {"0": {"name": "a"}}}),
        ],
        &[
            json!({}),
            json!({"hosts": []}),
            json!({"hosts": [{}]}),
            json!({"hosts": [{"name": "a"}, {"port": 70_000}]}),
            json!({"hosts": {"0": {"name": "a", "more": 1}}}),
        ],
    );
    let schema = Schema::new()
        .declare(Schema::key::<Vec<u8>>("list"))
        .declare(Schema::key::<u8>("list.1").range(..5));
    check_both(
        &schema,
        &[json!({"list": [9, 4, 9]}), json!({})],
        &[json!({"list": [9, 5]}), json!({"list": [9, 4, 300]})],
    );
}

#[test]
fn strict_prefixes_are_strict_whatever_is_declared() {
    let schema = Schema::new()
        .declare(Schema::key::<u8>("http.port"))
        .declare(Schema::key::<BTreeMap<String, u8>>("open.map"))
        .strict("http")
        .strict("old.gone")
        .strict("open.map.x");
    check_both(
        &schema,
        &[
            json!({"http": {"port": 1}, "other": {"x": 1}}),
            json!({"old": {"kept": 1}}),
            json!({"old": 5}),
            json!({"open": {"map": {"x": 1}}}),
        ],
        &[
            json!({"http": {"prot": 1}}),
            json!({"old": {"gone": {"x": 1}}}),
            json!({"old": {"gone": 1}}),
        ],
    );
}

#[test]
fn a_deprecated_key_has_its_remedy_in_the_export() {
    let old = values(key::<u8>().deprecated("use http.port"), &[json!(1)], &[]);
    assert_eq!(old["deprecated"], true);
    assert_eq!(comment(&old), "deprecated: use http.port");
    let both = values(
        key::<u8>().deprecated("").validate("odd", |n| {
            (n % 2 == 1).then_some(()).ok_or_else(|| "even".into())
        }),
        &[json!(1)],
        &[],
    );
    assert_eq!((&both["deprecated"], comment(&both)), (&json!(true), "odd"));
}
