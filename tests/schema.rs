//! A schema is enforced from the start on; unknown and unused keys are reported.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use liveprops::sources::Memory;
use liveprops::{
    ByteSize, Document, Error, ErrorKind, Key, Origin, Properties, Schema, Secret, Source, Value,
    Watching,
};
use serde::Deserialize;
use support::golden;

fn build(schema: Schema, source: &Memory) -> Result<Properties, Error> {
    Properties::builder()
        .source(source.clone())
        .schema(schema)
        .build()
}

/// Returns the message of the only violation.
fn fault(schema: Schema, source: &Memory) -> String {
    let error = build(schema, source).unwrap_err();
    assert_eq!(error.iter().count(), 1, "{error}");
    error.to_string()
}

fn violations(error: &Error) -> Vec<String> {
    error.iter().map(ToString::to_string).collect()
}

#[test]
fn each_rule_reports_its_violation() {
    let wrong = |value: Value| Memory::from([("a.b", value)]);
    let key = "a.b";

    let schema = Schema::new().declare(Schema::key::<u32>(key).required());
    assert_eq!(
        fault(schema, &Memory::default()),
        "`a.b`: required, but no layer defines it, expected u32"
    );
    let schema = Schema::new().declare(Schema::key::<u32>(key));
    assert_eq!(
        fault(schema, &wrong("many".into())),
        "`a.b`: not an integer, expected u32, found text \"many\" (memory @ 0)"
    );
    let schema = Schema::new().declare(Schema::key::<u32>(key).range(1..=9));
    assert_eq!(
        fault(schema, &wrong(10.into())),
        "`a.b`: out of range, expected 1..=9, found integer 10 (memory @ 0)"
    );
    let schema = Schema::new().declare(Schema::key::<f64>(key).range(0.0..1.0));
    assert_eq!(
        fault(schema, &wrong(1.0.into())),
        "`a.b`: out of range, expected 0.0..1.0, found float 1.0 (memory @ 0)"
    );
    let day = Duration::from_secs(86_400);
    let schema = Schema::new().declare(Schema::key::<Duration>(key).range(..day));
    assert_eq!(
        fault(schema, &wrong("2d".into())),
        "`a.b`: out of range, expected ..86400s, found text \"2d\" (memory @ 0)"
    );
    let schema =
        Schema::new().declare(Schema::key::<ByteSize>(key).range(ByteSize::from_bytes(1 << 10)..));
    assert_eq!(
        fault(schema, &wrong("3 B".into())),
        "`a.b`: out of range, expected 1 KiB.., found text \"3 B\" (memory @ 0)"
    );
    let schema = Schema::new().declare(Schema::key::<String>(key).length(1..=3));
    assert_eq!(
        fault(schema, &wrong("four".into())),
        "`a.b`: wrong length, expected length 1..=3, found text \"four\" (memory @ 0)"
    );
    let schema = Schema::new().declare(Schema::key::<String>(key).one_of(["dev", "prod"]));
    assert_eq!(
        fault(schema, &wrong("live".into())),
        "`a.b`: not one of the allowed values, expected one of \"dev\", \"prod\", found text \
         \"live\" (memory @ 0)"
    );
    let even = |n: &u32| match n % 2 {
        0 => Ok(()),
        _ => Err(format!("{n} is odd")),
    };
    let schema = Schema::new().declare(Schema::key::<u32>(key).validate("an even number", even));
    assert_eq!(
        fault(schema, &wrong(3.into())),
        "`a.b`: 3 is odd, expected an even number, found integer 3 (memory @ 0)"
    );
    let panics = |_: &u32| -> Result<(), String> { panic!("oh") };
    let schema = Schema::new().declare(Schema::key::<u32>(key).validate("never", panics));
    assert_eq!(
        fault(schema, &wrong(3.into())),
        "`a.b`: a validator of the schema panicked: oh (memory @ 0)"
    );
}

#[test]
fn values_that_fit_their_declarations_are_accepted() -> Result<(), Error> {
    let schema = Schema::new()
        .declare(Schema::key::<u32>("n").range(1..=9).one_of([3, 5]))
        .declare(
            Schema::key::<String>("mode")
                .one_of(["dev", "prod"])
                .length(1..),
        )
        .declare(Schema::key::<Vec<u16>>("ports"))
        .declare(Schema::key::<u8>("absent").range(5..))
        .strict("")
        .deny_unknown();
    let source = Memory::from([("n", "5"), ("mode", "prod"), ("ports", "80, 81")]);
    let props = build(schema, &source)?;
    assert_eq!(props.get::<Vec<u16>>("ports")?, [80, 81]);
    assert!(props.unknown_keys().is_empty());
    Ok(())
}

fn five() -> Schema {
    Schema::new()
        .declare(
            Schema::key::<u32>("ratelimit.qps")
                .range(1..=10_000)
                .default(100),
        )
        .declare(Schema::key::<u32>("db.pin").required().secret())
        .declare(Schema::key::<u16>("http.port").required())
        .declare(Schema::key::<String>("mode").one_of(["dev", "prod"]))
        .declare(Schema::key::<String>("name").required())
        .strict("")
}

#[test]
fn five_faults_are_one_report_of_five() {
    let source = Memory::from([
        ("ratelimit.qps", "0"),
        ("db.pin", "hunter2"),
        ("http.port", "70000"),
        ("mode", "live"),
        ("nmae", "shop"),
    ]);
    let error = build(five(), &source).unwrap_err();
    assert_eq!(
        violations(&error),
        [
            "`db.pin`: not an integer, expected u32, found ****** (memory @ 0)",
            "`http.port`: out of range, expected u16 (0 to 65535), found text \"70000\" (memory @ 0)",
            "`mode`: not one of the allowed values, expected one of \"dev\", \"prod\", found text \
             \"live\" (memory @ 0)",
            "`name`: required, but no layer defines it (`nmae` is there), expected string",
            "`ratelimit.qps`: out of range, expected 1..=10000, found text \"0\" (memory @ 0)",
        ]
    );
    // Denying unknown keys adds one more.
    let error = build(five().deny_unknown(), &source).unwrap_err();
    let messages = violations(&error);
    assert_eq!(messages.len(), 6);
    assert_eq!(
        messages[5],
        "`nmae`: not declared in the schema; did you mean `name`? (memory @ 0)"
    );
}

#[test]
fn all_bad_fields_of_a_declared_struct_are_reported() {
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Upstream {
        port: u16,
        retries: u8,
    }
    let schema = Schema::new()
        .declare(Schema::key::<Upstream>("upstream"))
        .strict("");
    let source = Memory::from([("upstream.port", "x"), ("upstream.retries", "y")]);
    let error = build(schema.clone(), &source).unwrap_err();
    let keys: Vec<_> = error.iter().filter_map(Error::key).collect();
    assert_eq!(keys, ["upstream.port", "upstream.retries"]);
    let source = Memory::from([("upstream.port", "1"), ("upstream.retries", "2")]);
    let props = build(schema, &source).unwrap();
    assert!(props.unknown_keys().is_empty(), "what is below is declared");
}

#[test]
fn a_later_update_is_rejected_key_by_key() -> Result<(), Error> {
    let source = Memory::from([
        ("ratelimit.qps", "5"),
        ("db.pin", "1234"),
        ("http.port", "80"),
        ("name", "shop"),
    ]);
    let props = build(five().deny_unknown(), &source)?;
    let wrong = |key: &str, value: &str| source.set(key, value).unwrap_err();

    let rejected = wrong("ratelimit.qps", "0");
    assert_eq!(rejected.kind(), ErrorKind::Rejected);
    assert_eq!(rejected.key().map(Key::as_str), Some("ratelimit.qps"));
    assert_eq!(rejected.expected(), Some("1..=10000"));
    assert_eq!(props.get::<u32>("ratelimit.qps")?, 5);
    assert!(!wrong("db.pin", "hunter2").to_string().contains("hunter2"));
    assert_eq!(wrong("db.pin", "hunter2").kind(), ErrorKind::Mismatch);
    let unknown = wrong("http.prot", "1");
    assert_eq!(
        unknown.to_string().split(" (").next(),
        Some("`http.prot`: not declared in the schema; did you mean `http.port`?")
    );
    let missing = source.remove("http.port").unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert_eq!(props.get::<u16>("http.port")?, 80);
    assert!(props.explain("ratelimit.qps").rejected.len() == 1);
    source.remove("ratelimit.qps")?;
    assert_eq!(props.get::<u32>("ratelimit.qps")?, 100, "the default");
    Ok(())
}

#[test]
fn only_rejected_keys_keep_their_old_values() -> Result<(), Error> {
    let source = Memory::from([("db.pin", "1"), ("http.port", "80"), ("name", "shop")]);
    let props = build(five(), &source)?;
    // A source of single values that replaces all of them at once.
    let next = [
        ("db.pin", "2"),
        ("http.port", "x"),
        ("name", "store"),
        ("mode", "live"),
    ];
    // `health` and `explain` report it.
    source.replace(next).ok();
    for key in ["http.port", "mode"] {
        let rejected = props.explain(key).rejected;
        assert_eq!(rejected.len(), 1);
        assert_eq!(rejected[0].key().map(Key::as_str), Some(key));
    }
    assert_eq!(props.get::<u32>("db.pin")?, 2);
    assert_eq!(props.get::<u16>("http.port")?, 80);
    assert_eq!(props.get::<String>("name")?, "store");
    assert_eq!(props.get_opt::<String>("mode")?, None);
    Ok(())
}

#[test]
fn a_transaction_is_rejected_as_a_whole() -> Result<(), Error> {
    let source = Memory::from([("db.pin", "1"), ("http.port", "80"), ("name", "shop")]);
    let props = build(five(), &source)?;
    let seen = props.generation();
    let error = props
        .transaction(|tx| {
            tx.set("name", "store")?;
            tx.set("http.port", 0.5)?;
            tx.set("mode", "live")
        })
        .unwrap_err();
    let keys: Vec<_> = error.iter().filter_map(Error::key).collect();
    assert_eq!(keys, ["http.port", "mode"]);
    assert_eq!(props.get::<String>("name")?, "shop");
    assert_eq!(props.generation(), seen);
    Ok(())
}

#[test]
fn a_source_with_a_required_key_cannot_be_removed() -> Result<(), Error> {
    let schema = Schema::new().declare(Schema::key::<u16>("port").required().default(80));
    let props = Properties::builder().schema(schema).build()?;
    let error = props.set("port", Value::Unset).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(error.key().map(Key::as_str), Some("port"));
    Ok(())
}

#[test]
fn a_value_that_changes_through_a_reference_is_validated() -> Result<(), Error> {
    let schema = Schema::new().declare(Schema::key::<u32>("b").range(..10));
    let source = Memory::from([("a", "5"), ("b", "${a}")]);
    let props = build(schema, &source)?;
    assert_eq!(
        source.set("a", "50").unwrap_err().key().map(Key::as_str),
        Some("b")
    );
    assert_eq!(props.get::<u32>("a")?, 5);
    Ok(())
}

#[test]
fn a_value_above_a_declared_key_is_rejected() -> Result<(), Error> {
    let schema = Schema::new()
        .declare(Schema::key::<u32>("a.b").required())
        .declare(Schema::key::<u32>("list.1").range(..5));
    let (low, high) = (Memory::from([("a.b", 1)]), Memory::default());
    let props = Properties::builder()
        .source(low)
        .source(high.clone())
        .schema(schema)
        .build()?;
    assert_eq!(
        high.set("a", 5).unwrap_err().key().map(Key::as_str),
        Some("a.b")
    );
    assert_eq!(props.get::<u32>("a.b")?, 1);
    high.set("list", vec![9, 4, 9])?;
    let error = high.set("list", vec![9, 5, 9]).unwrap_err();
    assert_eq!(error.key().map(Key::as_str), Some("list.1"));
    assert_eq!(props.get::<Vec<u32>>("list")?, [9, 4, 9]);
    Ok(())
}

/// A source that returns the next document at each load.
struct Documents(AtomicUsize, &'static [&'static [(&'static str, u32)]]);

impl Source for Documents {
    fn origin(&self) -> Origin {
        Origin::new("documents", "")
    }

    fn load(&self) -> Result<Document, Error> {
        let at = self.0.fetch_add(1, Ordering::Relaxed);
        let mut document = Document::new();
        for (key, value) in self.1[at] {
            document.set(key, *value, self.origin())?;
        }
        Ok(document)
    }

    fn watching(&self) -> Watching {
        Watching::Never
    }
}

#[test]
fn a_document_is_rejected_as_a_whole() -> Result<(), Error> {
    let schema = Schema::new()
        .declare(Schema::key::<u32>("a").range(..10))
        .declare(Schema::key::<u32>("b").range(..10));
    let source = Documents(
        AtomicUsize::new(0),
        &[&[("a", 1), ("b", 1)], &[("a", 2), ("b", 20)], &[("a", 3)]],
    );
    let props = Properties::builder()
        .source(source)
        .schema(schema)
        .build()?;
    let error = props.refresh_now().unwrap_err();
    assert_eq!(
        error.to_string(),
        "`b`: out of range, expected ..10, found integer 20 (documents)"
    );
    assert_eq!((props.get::<u32>("a")?, props.get::<u32>("b")?), (1, 1));
    props.refresh_now()?;
    assert_eq!(props.get::<u32>("a")?, 3);
    Ok(())
}

#[test]
fn a_handle_and_the_schema_reject_with_one_message() -> Result<(), Error> {
    let schema = Schema::new().declare(Schema::key::<u32>("n").range(..10));
    let source = Memory::from([("n", 1)]);
    let props = build(schema, &source)?;
    let n = props.property::<u32>("n").build()?;
    let error = source.set("n", "many").unwrap_err();
    assert_eq!(error.iter().count(), 1, "{error}");
    assert!(source.set("n", 10).is_err());
    assert_eq!(n.get(), 1);
    Ok(())
}

#[test]
fn defaults_stand_in_the_weakest_layer_and_name_the_schema() -> Result<(), Error> {
    let schema = Schema::new()
        .declare(Schema::key::<u32>("a").default(1))
        .declare(Schema::key::<u32>("b"));
    let props = Properties::builder()
        .default("c", 2)
        .schema(schema)
        .build()?;
    assert_eq!(props.get::<u32>("a")?, 1);
    assert_eq!(props.get_opt::<u32>("b")?, None);
    assert_eq!(props.get::<u32>("c")?, 2, "the program's default");
    let explanation = props.explain("a");
    assert_eq!(explanation.origin.unwrap().kind(), "schema");
    let explanation = props.explain("c");
    assert_eq!(explanation.origin.unwrap().kind(), "default");
    Ok(())
}

#[test]
fn the_builder_gives_no_default_and_no_secrecy_to_a_declared_key() {
    let schema = Schema::new().declare(Schema::key::<String>("door.code").default("plain"));
    let error = Properties::builder()
        .schema(schema.clone())
        .default("door.code", "hunter2")
        .secret("door.code")
        .build()
        .unwrap_err();
    let errors: Vec<String> = error.iter().map(ToString::to_string).collect();
    assert_eq!(
        errors,
        [
            "`door.code`: declared in the schema: use `Declaration::secret` there",
            "`door.code`: declared in the schema: use `Declaration::default` there",
        ]
    );
    assert!(
        error
            .iter()
            .all(|error| error.kind() == ErrorKind::InvalidKey)
    );
    let above = Properties::builder().schema(schema).secret("door");
    assert!(above.default("door.floor", 1).build().is_ok());
}

#[test]
fn a_value_comes_from_the_strongest_layer_that_has_one() -> Result<(), Error> {
    let schema = Schema::new().declare(Schema::key::<String>("k").default("schema"));
    let source = Memory::new();
    let props = Properties::builder()
        .source_in(liveprops::Layer::new("low", 100), Memory::new())
        .source(source.clone())
        .schema(schema)
        .build()?;
    let k = props
        .property::<String>("k")
        .default("handle".into())
        .build()?;
    let absent = props
        .property::<String>("absent")
        .default("handle".into())
        .build()?;
    assert_eq!(k.get(), "schema", "also where the handle has a default");
    assert_eq!(absent.get(), "handle");
    source.set("k", "source")?;
    assert_eq!(k.get(), "source");
    let later = props.add_source(Memory::from([("k", "later")]))?;
    assert_eq!(k.get(), "later");
    let high = liveprops::Layer::new("high", 900);
    let high = props.add_source_in(high, Memory::from([("k", "high")]))?;
    assert_eq!(k.get(), "high");
    props.set("k", "override")?;
    assert_eq!(k.get(), "override");
    props.remove("k")?;
    for (source, shows) in [(high, "later"), (later, "source")] {
        props.remove_source(source)?;
        assert_eq!(k.get(), shows);
    }
    Ok(())
}

#[test]
fn a_fault_of_the_schema_itself_is_reported_at_once() {
    let schema = Schema::new()
        .declare(Schema::key::<u32>("a..b"))
        .declare(Schema::key::<u32>("a").default("x"))
        .declare(Schema::key::<u32>("b").range(..5).default(9))
        .declare(Schema::key::<u32>("c").one_of(["d"]))
        .declare(Schema::key::<u32>("c"))
        .strict(".");
    let error = build(schema, &Memory::default()).unwrap_err();
    assert_eq!(error.iter().count(), 6, "{error}");
    let default = "`b`: out of range, expected ..5, found integer 9 (schema)";
    assert!(violations(&error).contains(&default.to_owned()), "{error}");
}

#[test]
fn two_schemas_are_merged() {
    let first = Schema::new().declare(Schema::key::<u32>("a").required());
    let second = Schema::new().declare(Schema::key::<u32>("b").required());
    let both = Properties::builder().schema(first).schema(second).build();
    assert_eq!(both.unwrap_err().iter().count(), 2);
}

#[test]
fn undeclared_keys_are_listed_with_the_nearest_name() -> Result<(), Error> {
    let schema = Schema::new()
        .declare(Schema::key::<u32>("ratelimit.qps"))
        .declare(Schema::key::<Vec<u32>>("list"))
        .strict("");
    let source = Memory::from([
        ("ratelimt.qps", "hunter2"),
        ("ratelimit.qsp", "1"),
        ("other", "1"),
        ("list", "1, 2"),
    ]);
    let props = build(schema, &source)?;
    let unknown = props.unknown_keys();
    let seen: Vec<_> = unknown
        .iter()
        .map(|u| (u.key.as_str(), u.nearest.as_ref().map(|key| key.as_str())))
        .collect();
    assert_eq!(
        seen,
        [
            ("other", None),
            ("ratelimit.qsp", Some("ratelimit.qps")),
            ("ratelimt.qps", Some("ratelimit.qps")),
        ]
    );
    assert!(!format!("{unknown:?}{}", unknown[2]).contains("hunter2"));
    source.remove("other")?;
    assert_eq!(props.unknown_keys().len(), 2, "as of now");
    Ok(())
}

#[test]
fn a_later_key_is_denied_below_a_strict_prefix_only() -> Result<(), Error> {
    let schema = Schema::new()
        .declare(Schema::key::<u32>("http.port"))
        .strict("http")
        .deny_unknown();
    let source = Memory::from([("http.port", 1), ("other.x", 1)]);
    let props = build(schema, &source)?;
    source.set("other.y", 2)?;
    source.set("https", 2)?;
    assert_eq!(props.get::<u32>("other.y")?, 2);
    let error = source.set("http.prot", 2).unwrap_err();
    assert_eq!(
        (error.kind(), error.key().map(Key::as_str)),
        (ErrorKind::Rejected, Some("http.prot"))
    );
    assert!(error.to_string().contains("did you mean `http.port`?"));
    assert!(props.set("http.prot", 2).is_err());
    assert!(props.unknown_keys().is_empty());
    Ok(())
}

#[test]
fn the_nearest_declared_key_is_suggested() -> Result<(), Error> {
    let mut schema = Schema::new().strict("");
    for key in ["ttl", "db.url", "http.port", "ratelimit.max_burst"] {
        schema = schema.declare(Schema::key::<u32>(key));
    }
    let old = Schema::key::<u32>("http.prt").deprecated("use http.port");
    let schema = schema.declare(old);
    let wrong = [
        ("HTTP.PORT", Some("http.port")),
        ("abl", None),
        ("db.ssl", None),
        ("http.prot", Some("http.port")),
        ("max_burst", Some("ratelimit.max_burst")),
        ("port", Some("http.port")),
        ("ratelimit.burst", Some("ratelimit.max_burst")),
        ("tls", None),
    ];
    let source: Memory = wrong.iter().map(|(key, _)| (*key, 1)).collect();
    let props = build(schema, &source)?;
    let unknown = props.unknown_keys();
    let messages: Vec<_> = unknown
        .iter()
        .map(|u| (u.key.as_str(), u.nearest.as_ref().map(|near| near.as_str())))
        .collect();
    assert_eq!(messages, wrong);
    Ok(())
}

#[test]
fn suggestions_for_many_keys_are_quick() -> Result<(), Error> {
    let name = |i: u32| format!("some.{}.name{i:06}", i % 300);
    let mut schema = Schema::new().strict("").deny_unknown();
    for i in 0..20_000 {
        schema = schema.declare(Schema::key::<u32>(&name(i)));
    }
    let props = build(schema.clone(), &Memory::default())?;
    let crowd = |n: u32| (0..n).map(|i| (format!("some.{}.nmae{i:06}", i % 300), 1));
    let memory = Memory::default();
    let _props = build(schema.clone(), &memory)?;
    let start = std::time::Instant::now();
    assert!(memory.replace(crowd(100)).is_err());
    assert!(build(schema, &crowd(1_000).collect()).is_err());
    // Without a limit this needs seconds, even in an optimized build.
    let took = start.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    drop(props);
    Ok(())
}

#[test]
fn deprecated_keys_that_are_set_are_reported() -> Result<(), Error> {
    let schema = Schema::new()
        .declare(Schema::key::<u16>("port").deprecated("use http.port"))
        .declare(Schema::key::<u16>("idle").deprecated("").default(5))
        .declare(Schema::key::<u16>("never").deprecated("drop it"))
        .declare(Schema::key::<std::collections::BTreeMap<String, u8>>("old").deprecated("use new"))
        .declare(Schema::key::<u8>("list.0").deprecated("use first"));
    let source = Memory::from([("port", 80), ("old.b", 1), ("old.a", 1)]);
    let props = build(schema, &source)?;
    let messages = || -> Vec<String> {
        let keys = props.deprecated_keys().into_iter();
        keys.map(|key| key.to_string()).collect()
    };
    assert_eq!(
        messages(),
        [
            "`old.a` is deprecated: use new (memory @ 0)",
            "`old.b` is deprecated: use new (memory @ 0)",
            "`port` is deprecated: use http.port (memory @ 0)",
        ]
    );
    let first = &props.deprecated_keys()[2];
    assert_eq!(
        (first.key.as_str(), &*first.instead),
        ("port", "use http.port")
    );
    source.replace([("idle", Value::from(6)), ("list", vec![1, 2].into())])?;
    assert_eq!(
        messages(),
        [
            "`idle` is deprecated (memory @ 1)",
            "`list.0` is deprecated: use first (memory @ 1)",
        ]
    );
    let none = Properties::builder().default("port", 1).build()?;
    assert!(none.deprecated_keys().is_empty() && none.schema().is_none());
    Ok(())
}

#[test]
fn properties_return_their_schema() -> Result<(), Error> {
    let first = Schema::new().declare(Schema::key::<u16>("a"));
    let second = Schema::new().declare(Schema::key::<u16>("b").default(1));
    let props = Properties::builder().schema(first).schema(second).build()?;
    let text = props.schema().unwrap().to_text();
    assert_eq!(text.lines().count(), 3, "{text}");
    // It equals a new one.
    let again = props.schema().unwrap().clone();
    let again = again.declare(Schema::key::<u16>("c"));
    let props = Properties::builder().schema(again).build()?;
    assert_eq!(props.get::<u16>("b")?, 1);
    assert_eq!(props.schema().unwrap().to_text().lines().count(), 4);
    Ok(())
}

#[test]
fn only_strict_prefixes_are_listed() -> Result<(), Error> {
    let schema = Schema::new()
        .declare(Schema::key::<u32>("a.b"))
        .strict("a")
        .strict("a.c")
        .strict("list");
    let source = Memory::from([("a.c.x", 1), ("a.b", 2), ("ab", 3), ("z", 4)]);
    let props = build(schema.clone(), &source)?;
    let keys = |props: &Properties| -> Vec<String> {
        let keys = props.unknown_keys().into_iter();
        keys.map(|unknown| unknown.key.to_string()).collect()
    };
    assert_eq!(keys(&props), ["a.c.x"]);
    let props = Properties::builder().source(source).build()?;
    assert!(keys(&props).is_empty(), "without a schema");
    Ok(())
}

#[test]
fn three_of_ten_keys_are_used() -> Result<(), Error> {
    let source: Memory = (0..10).map(|i| (format!("k{i}"), i)).collect();
    let props = Properties::builder().source(source).track_usage().build()?;
    assert_eq!(props.unused_keys().len(), 10);
    assert_eq!(props.get::<u32>("k1")?, 1);
    assert_eq!(props.get_or("k2", 9u32), 2);
    assert_eq!(props.snapshot().get_opt::<u32>("k3")?, Some(3));
    assert_eq!(props.get_opt::<u32>("made.up")?, None);
    props.explain("k4");
    let unused: Vec<String> = props
        .unused_keys()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(unused, ["k0", "k4", "k5", "k6", "k7", "k8", "k9"]);
    Ok(())
}

#[test]
fn handles_structs_fallbacks_lists_and_references_are_uses() -> Result<(), Error> {
    #[derive(Clone, PartialEq, Deserialize)]
    struct Db {
        host: String,
    }
    let source = Memory::from([
        ("db.host", Value::from("h")),
        ("db.left.over", 1.into()),
        ("handle", 1.into()),
        ("fallback", 1.into()),
        ("list", vec![1, 2].into()),
        ("items", vec![1, 2].into()),
        ("refers", "${referred}".into()),
        ("referred", "${further}".into()),
        ("further", 1.into()),
        ("quoted.a b", 1.into()),
        ("never", 1.into()),
    ]);
    let props = Properties::builder()
        .source(source.clone())
        .track_usage()
        .build()?;
    drop(props.property::<u32>("handle").or_key("fallback").build()?);
    let db = props.bind::<Db>("db").build()?;
    assert_eq!(props.get::<u32>("list.0")?, 1);
    assert_eq!(props.property::<u32>("items.1").build()?.get(), 2);
    assert_eq!(props.get::<u32>("refers")?, 1);
    assert_eq!(props.get::<u32>("\"quoted\".\"a b\"")?, 1);
    assert_eq!(db.load().host, "h");
    let unused = || -> Vec<String> {
        let keys = props.unused_keys().into_iter();
        keys.map(|key| key.to_string()).collect()
    };
    assert_eq!(unused(), ["never"]);
    source.set("new", 1)?;
    assert_eq!(unused(), ["never", "new"]);
    Ok(())
}

#[test]
fn usage_is_tracked_only_if_it_is_enabled() -> Result<(), Error> {
    let props = Properties::builder().default("a", 1).build()?;
    assert!(props.unused_keys().is_empty());
    Ok(())
}

#[test]
fn a_commit_runs_only_the_rules_of_changed_keys() -> Result<(), Error> {
    let asked = Arc::new(AtomicUsize::new(0));
    let mut schema = Schema::new();
    for i in 0..1_000 {
        let asked = Arc::clone(&asked);
        let count = move |_: &u32| {
            asked.fetch_add(1, Ordering::Relaxed);
            Ok(())
        };
        schema = schema.declare(Schema::key::<u32>(&format!("s.k{i}")).validate("counted", count));
    }
    let keys = |n: u32| (0..1_000).map(move |i| (format!("s.k{i}"), i + n / 1_000));
    let source: Memory = keys(0).chain([("other".to_owned(), 0)]).collect();
    let props = build(schema, &source)?;
    let since = || asked.swap(0, Ordering::Relaxed);
    assert_eq!(since(), 1_000, "the first load asks all");
    source.set("other", 1)?;
    assert_eq!(since(), 0);
    source.set("s.k7", 70_000)?;
    assert_eq!(since(), 1);
    props.set("s.k8", 1)?;
    assert_eq!(since(), 1);
    source.replace(keys(0).chain([("s.k9".to_owned(), 1)]))?;
    assert_eq!(since(), 2, "k7 is as before again, and k9 is new");
    Ok(())
}

#[test]
fn secrets_of_the_schema_are_masked_everywhere() -> Result<(), Error> {
    let schema = Schema::new()
        .declare(
            Schema::key::<String>("a.b")
                .length(..20)
                .secret()
                .default("hunter2"),
        )
        .declare(Schema::key::<Secret<u32>>("c"))
        .declare(
            Schema::key::<String>("d")
                .secret()
                .one_of(["hunter2", "hunter3"])
                .validate("named", |_| panic!("hunter2")),
        );
    for text in [schema.to_text(), schema.to_json_schema()] {
        assert!(!text.contains("hunter"), "{text}");
    }
    let source = Memory::from([("x", "y")]);
    let props = build(schema, &source)?;
    assert!(!props.explain("a.b").to_string().contains("hunter2"));
    for (key, value) in [
        ("a.b", "hunter2 and much more text"),
        ("c", "hunter2"),
        ("d", "hunter4"),
        ("d", "hunter3"),
    ] {
        let error = source.set(key, value).unwrap_err();
        assert_eq!(error.key().map(Key::as_str), Some(key));
        assert!(!format!("{error} {error:?}").contains("hunter"), "{error}");
    }
    assert!(!format!("{:?}", props.health()).contains("hunter"));
    Ok(())
}

fn documented() -> Schema {
    Schema::new()
        .declare(
            Schema::key::<u32>("ratelimit.qps")
                .range(1..=10_000)
                .default(100)
                .describe("requests a second"),
        )
        .declare(
            Schema::key::<String>("db.password")
                .required()
                .default("hunter2"),
        )
        .declare(
            Schema::key::<u16>("http.port")
                .required()
                .restart_required(),
        )
        .declare(Schema::key::<u16>("port").deprecated("use http.port"))
        .declare(
            Schema::key::<String>("mode")
                .one_of(["dev", "prod"])
                .default("dev")
                .describe("a \"quoted\"\nline"),
        )
        .declare(Schema::key::<Duration>("http.timeout").default("30s"))
        .declare(Schema::key::<ByteSize>("http.body").range(..=ByteSize::from_bytes(1 << 20)))
        .declare(Schema::key::<Vec<String>>("hosts").default(vec!["a", "b"]))
        .declare(
            Schema::key::<f64>("ratio")
                .range(0.0..1.0)
                .validate("not a half", |r| match *r {
                    0.5 => Err("a half".into()),
                    _ => Ok(()),
                })
                .validate("real", |_| Ok(())),
        )
        .declare(Schema::key::<bool>("\"a.b\".on").default(true))
        .declare(Schema::key::<std::collections::BTreeMap<String, u8>>(
            "weights",
        ))
        .declare(Schema::key::<String>("name").length(1..21))
        .strict("http")
}

#[test]
fn many_unknown_keys_are_one_more_fault() -> Result<(), Error> {
    let schema = Schema::new()
        .declare(Schema::key::<u32>("known"))
        .strict("")
        .deny_unknown();
    let crowd = || {
        (0..500)
            .map(|i| (format!("k{i:03}"), 1))
            .chain([("known".to_owned(), 1)])
    };
    let error = build(schema.clone(), &crowd().collect()).unwrap_err();
    assert_eq!(error.iter().count(), 101);
    assert!(
        error
            .to_string()
            .contains("`k100`: not declared in the schema, one of 400 more")
    );
    let source = Memory::default();
    let props = build(schema, &source)?;
    source.replace(crowd()).ok();
    assert_eq!(props.snapshot().keys().len(), 1, "the others are rejected");
    assert_eq!(props.get::<u32>("known")?, 1);
    Ok(())
}

#[test]
fn the_text_export_matches_its_golden_file() {
    golden("tests/golden/schema.txt", &documented().to_text());
}

#[test]
fn the_json_schema_export_matches_its_golden_file() {
    let text = documented().to_json_schema();
    golden("tests/golden/schema.json", &text);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["properties"]["http"]["additionalProperties"], false);
    assert_eq!(json["required"], serde_json::json!(["http"]));
}

/// Compares a text with a golden file.
#[test]
fn a_default_inside_a_list_is_an_error_of_the_declaration() {
    for key in ["hosts.0.port", "hosts.1", "a.hosts.00.port"] {
        let schema = Schema::new().declare(Schema::key::<u16>(key).default(80));
        let error = Properties::builder().schema(schema).build().unwrap_err();
        assert_eq!(
            (error.kind(), error.key().map(Key::as_str)),
            (ErrorKind::InvalidKey, Some(key))
        );
        assert!(
            error.to_string().contains("does not reach into a list"),
            "{error}"
        );
    }
    // Neither a missing default nor a key outside of lists is an error.
    let schema = Schema::new()
        .declare(Schema::key::<u16>("hosts.0.port"))
        .declare(Schema::key::<u16>("0.port").default(80));
    let props = Properties::builder().schema(schema).build().unwrap();
    assert_eq!(props.get::<u16>("0.port").unwrap(), 80);
}

#[test]
fn a_declared_key_that_needs_a_restart_keeps_its_value_until_then() {
    let memory = Memory::from([("http.port", 80)]);
    let schema = Schema::new().declare(Schema::key::<u16>("http.port").restart_required());
    let props = Properties::builder()
        .source(memory.clone())
        .schema(schema)
        .build()
        .unwrap();
    memory.set("http.port", 81).unwrap();
    assert_eq!(props.get::<u16>("http.port").unwrap(), 80);
    let pending = props.health().pending_restart;
    assert_eq!(pending[0].waiting.as_deref(), Some("81"));
}

#[test]
fn a_value_that_would_break_the_next_start_is_rejected_now() {
    let memory = Memory::from([
        ("http.port", Value::from(80)),
        ("http.host", "a".into()),
        ("n", 1.into()),
    ]);
    let schema = Schema::new()
        .declare(Schema::key::<u16>("http.port").range(1..=1024).required())
        .declare(Schema::key::<String>("http.host").restart_required());
    let props = Properties::builder()
        .source(memory.clone())
        .restart_required("http")
        .schema(schema)
        .build()
        .unwrap();
    let error = memory.set("http.port", 70_000).unwrap_err();
    assert_eq!(error.key().map(Key::as_str), Some("http.port"), "{error}");
    assert!(error.to_string().contains("70000"), "{error}");
    let error = memory.set("http.port", 2_000).unwrap_err();
    assert!(error.to_string().contains("1..=1024"), "{error}");
    let error = memory.remove("http.port").unwrap_err();
    assert_eq!(error.key().map(Key::as_str), Some("http.port"), "{error}");
    assert!(props.health().pending_restart.is_empty());

    memory.set("http.port", 443).unwrap();
    memory.set("n", 2).unwrap(); // what waits already is not looked at again
    assert_eq!(props.get::<u16>("http.port").unwrap(), 80);
    let pending = props.health().pending_restart;
    assert_eq!(pending.len(), 1, "{pending:?}");
}

#[test]
fn keys_that_differ_by_underscore_dash_and_dot_are_near_each_other() -> Result<(), Error> {
    let schema = || {
        Schema::new()
            .declare(Schema::key::<u32>("ratelimit.qps"))
            .declare(Schema::key::<u32>("http.max-idle"))
            .strict("")
    };
    let env = liveprops::sources::Env::prefix("APP_")
        .vars([("APP_RATELIMIT_QPS", "1"), ("APP_HTTP__MAX__IDLE", "2")]);
    let props = Properties::builder().schema(schema()).source(env).build()?;
    let unknown = props.unknown_keys();
    let near: Vec<(&str, Option<&str>)> = unknown
        .iter()
        .map(|it| (it.key.as_str(), it.nearest.as_ref().map(|key| key.as_str())))
        .collect();
    let wanted = [
        ("http.max.idle", Some("http.max-idle")),
        ("ratelimit_qps", Some("ratelimit.qps")),
    ];
    assert_eq!(near, wanted);
    assert!(
        unknown[1].to_string().contains("APP_RATELIMIT_QPS"),
        "{}",
        unknown[1]
    );
    // A missing declared key is a hint, even if no code reads it.
    let health = props.health();
    assert!(health.is_up(), "{health:?}");
    let hints = &health.sources[0].hints;
    assert_eq!(hints.len(), 2, "{hints:?}");
    assert!(
        hints[1].to_string().contains("`APP_RATELIMIT__QPS`"),
        "{}",
        hints[1]
    );
    Ok(())
}

#[test]
fn a_required_key_that_is_missing_names_the_variable_that_is_spelled_nearly_like_it() {
    let schema = Schema::new().declare(Schema::key::<u32>("ratelimit.qps").required());
    let env = liveprops::sources::Env::prefix("APP_").vars([("APP_RATELIMIT_QPS", "1")]);
    let error = Properties::builder()
        .schema(schema)
        .source(env)
        .build()
        .unwrap_err();
    let error = error.to_string();
    for part in [
        "ratelimit.qps",
        "`APP_RATELIMIT_QPS`",
        "`APP_RATELIMIT__QPS`",
    ] {
        assert!(error.contains(part), "{error}");
    }
}
