//! Neither an exported schema nor an error of a schema shows a secret.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeMap;

use liveprops::sources::Memory;
use liveprops::{Error, Properties, Schema, Secret, Value};
use serde::Deserialize;

/// A part of every secret, and of no other text.
const SECRET: &str = "hunter2";

#[derive(Clone, Debug, PartialEq)]
struct Own(String);

impl<'de> Deserialize<'de> for Own {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            // The type rejects the simple texts that probing a type uses.
            "" | "1" => Err(serde::de::Error::custom("rejected")),
            text if text.contains("panic") => panic!("{text}"),
            text if text.contains("bad") => Err(serde::de::Error::custom(format!("{text} is bad"))),
            _ => Ok(Self(text)),
        }
    }
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[allow(dead_code)]
struct Door {
    first: Own,
    code: Secret<Own>,
    #[serde(default)]
    floor: u8,
    #[serde(default)]
    lock: Option<Lock>,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
enum Lock {
    None,
    Key { teeth: Secret<String> },
    Pair(u8, Secret<u8>),
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[allow(dead_code)]
struct Flat {
    #[serde(flatten)]
    door: BTreeMap<String, Secret<String>>,
}

fn table<const N: usize>(fields: [(&str, Value); N]) -> Value {
    Value::from(BTreeMap::from(fields))
}

fn door(code: &str) -> Value {
    table([("first", "x".into()), ("code", code.into())])
}

fn exports(schema: &Schema) -> String {
    format!("{}\n{}", schema.to_text(), schema.to_json_schema())
}

/// Returns everything that a schema shows, including its errors.
fn everything_shown(schema: Schema) -> String {
    let exports = exports(&schema);
    match Properties::builder().schema(schema).build() {
        Ok(props) => format!("{exports}\n{props:?}"),
        Err(error) => format!("{exports}\n{error}\n{error:?}"),
    }
}

fn only(
    declaration: liveprops::schema::Declaration<impl serde::de::DeserializeOwned + 'static>,
) -> Schema {
    Schema::new().declare(declaration)
}

#[test]
fn a_default_with_a_secret_of_any_type_is_not_shown() {
    for schema in [
        only(Schema::key::<Secret<Own>>("k").default(SECRET)),
        only(Schema::key::<Option<Secret<Own>>>("k").default(SECRET)),
        only(Schema::key::<Vec<Secret<String>>>("k").default(vec![SECRET])),
        only(Schema::key::<(u8, Secret<String>)>("k").default(vec![Value::from(1), SECRET.into()])),
        only(
            Schema::key::<BTreeMap<String, Secret<String>>>("k")
                .default(table([("a", SECRET.into())])),
        ),
        only(Schema::key::<Door>("k").default(door(SECRET))),
        only(Schema::key::<Vec<Door>>("k").default(vec![door(SECRET)])),
        only(Schema::key::<Flat>("k").default(table([("a", SECRET.into())]))),
        only(Schema::key::<String>("k").default(format!("redis://me:{SECRET}@host"))),
        only(Schema::key::<Value>("k").default(table([("password", SECRET.into())]))),
    ] {
        let message = everything_shown(schema);
        assert!(!message.contains(SECRET), "{message}");
    }
}

#[test]
fn an_error_about_a_bad_default_of_a_secret_does_not_show_it() {
    let bad = format!("bad {SECRET}");
    for schema in [
        only(Schema::key::<Secret<u32>>("k").default(SECRET)),
        only(Schema::key::<Secret<Own>>("k").default(&*bad)),
        only(Schema::key::<Secret<Own>>("k").default(format!("panic {SECRET}"))),
        only(Schema::key::<Door>("k").default(door(&bad))),
        only(Schema::key::<Vec<Secret<u8>>>("k").default(vec![SECRET])),
        only(
            Schema::key::<Door>("k")
                .default(door(SECRET))
                .validate("no", |door| Err(format!("not {:?}", door.code.expose().0))),
        ),
        only(
            Schema::key::<Door>("k")
                .default(door(SECRET))
                .validate("no", |d| panic!("{}", d.code.expose().0)),
        ),
        only(
            Schema::key::<Flat>("k")
                .default(table([("a", SECRET.into())]))
                .validate("no", |d| panic!("{}", d.door["a"].expose())),
        ),
        only(
            Schema::key::<Secret<Own>>("k")
                .default(SECRET)
                .validate("no", |d| panic!("{}", d.expose().0)),
        ),
    ] {
        assert!(
            Properties::builder()
                .schema(schema.clone())
                .build()
                .is_err()
        );
        let message = everything_shown(schema);
        assert!(!message.contains(SECRET), "{message}");
    }
}

#[test]
fn allowed_values_and_bounds_of_a_secret_are_not_shown() {
    for schema in [
        only(Schema::key::<Vec<Secret<String>>>("k").one_of([vec![SECRET]])),
        only(Schema::key::<Secret<Own>>("k").one_of([SECRET, "bad hunter2"])),
        only(Schema::key::<Door>("k").one_of([door(SECRET)])),
        only(Schema::key::<String>("k").one_of([format!("redis://me:{SECRET}@host")])),
        only(Schema::key::<u32>("k").one_of([SECRET]).secret()),
        only(
            Schema::key::<String>("k")
                .range(SECRET.to_owned()..)
                .secret()
                .default("a"),
        ),
        only(Schema::key::<String>("vault").secret())
            .declare(Schema::key::<u32>("vault.k").one_of([SECRET])),
    ] {
        let message = everything_shown(schema);
        assert!(!message.contains(SECRET), "{message}");
    }
    let address = format!("redis://me:{SECRET}@host");
    let schema = only(Schema::key::<String>("k").one_of([address]));
    let props = Properties::builder().schema(schema).build().unwrap();
    let error = props.set("k", "other").unwrap_err();
    assert!(!format!("{error:?}").contains(SECRET), "{error}");
    let pin = only(
        Schema::key::<u32>("k")
            .range(4_711..=4_712)
            .secret()
            .default(5),
    );
    let text = everything_shown(pin);
    assert!(!text.contains("471"), "{text}");
}

#[test]
fn a_value_that_one_key_hides_is_not_shown_by_another() {
    let outer =
        || Schema::key::<BTreeMap<String, Value>>("a").default(table([("b", SECRET.into())]));
    let string = || Schema::key::<String>("a.b");
    for schema in [
        // A secret child hides the default of its parent.
        only(outer()).declare(string().secret()),
        only(outer()).declare(Schema::key::<Secret<Own>>("a.b")),
        only(Schema::key::<Value>("a").default(table([("pin", SECRET.into())])))
            .declare(Schema::key::<u8>("a.pin")),
        // A secret parent hides its children.
        only(Schema::key::<Value>("a").secret()).declare(string().default(SECRET)),
        only(Schema::key::<Value>("a").secret()).declare(string().default(SECRET).length(..3)),
        only(Schema::key::<Door>("a"))
            .declare(Schema::key::<String>("a.code").default(SECRET).length(..3)),
        only(Schema::key::<Door>("a"))
            .declare(Schema::key::<String>("a.lock.Key.teeth").default(SECRET)),
        only(Schema::key::<Vec<Door>>("a"))
            .declare(Schema::key::<String>("a.0.code").default(SECRET)),
        only(Schema::key::<BTreeMap<String, Secret<String>>>("a"))
            .declare(string().default(SECRET)),
        // Declared twice, once as a secret.
        only(string().default(SECRET)).declare(string().secret()),
        only(string().secret()).declare(Schema::key::<u8>("a.b").one_of([SECRET])),
    ] {
        let message = everything_shown(schema);
        assert!(!message.contains(SECRET), "{message}");
    }
}

#[test]
fn a_value_that_is_not_secret_is_shown() {
    let schema = Schema::new()
        .declare(
            Schema::key::<BTreeMap<String, String>>("a").default(table([("b", "seen".into())])),
        )
        .declare(Schema::key::<String>("a-b").secret().default(SECRET))
        .declare(Schema::key::<Vec<Door>>("doors"))
        .declare(Schema::key::<u8>("doors.0.floor").default(7))
        .declare(
            Schema::key::<String>("d")
                .length(..3)
                .default("seen as well"),
        );
    let message = everything_shown(schema);
    assert!(
        message.contains("seen\"") && message.contains("seen as well") && message.contains("7")
    );
    let line = message
        .lines()
        .find(|line| line.starts_with("doors.0.floor"));
    assert!(!line.unwrap().contains("secret"), "{message}");
}

#[test]
fn the_secrets_of_the_builder_are_those_of_its_schema() -> Result<(), Error> {
    let key = || Schema::key::<String>("a.b").default(SECRET);
    let schema = only(key().length(..3).one_of([SECRET]));
    let built = Properties::builder().secret("a").schema(schema).build();
    let error = built.unwrap_err();
    assert!(!format!("{error:?}").contains(SECRET), "{error}");
    let props = Properties::builder()
        .secret("a")
        .schema(only(key()))
        .build()?;
    let used = exports(props.schema().unwrap());
    assert!(!used.contains(SECRET), "{used}");
    Ok(())
}

#[test]
fn a_rule_that_panics_over_a_later_value_quotes_no_secret() -> Result<(), Error> {
    let schema = Schema::new()
        .declare(
            Schema::key::<Secret<Own>>("own")
                .validate("calm", |own| panic!("{own:?} {}", own.expose().0)),
        )
        .declare(
            Schema::key::<Door>("door").validate("calm", |door| panic!("{}", door.code.expose().0)),
        )
        .declare(
            Schema::key::<Flat>("flat")
                .validate("calm", |flat| panic!("{}", flat.door["a"].expose())),
        )
        .declare(Schema::key::<Value>("any").validate("calm", |any| panic!("{any}")))
        .declare(Schema::key::<Own>("plain").validate("calm", |own| panic!("{}", own.0)));
    let source = Memory::from([("x", SECRET), ("db.password", SECRET)]);
    let props = Properties::builder()
        .source(source.clone())
        .schema(schema)
        .build()?;
    for (key, value) in [
        ("own", SECRET.into()),
        ("own", format!("panic {SECRET}").into()),
        ("door", door(SECRET)),
        ("flat", table([("a", SECRET.into())])),
        ("any", table([("password", SECRET.into())])),
        ("any", table([("url", "x ${db.password}".into())])),
        ("any", "${db.password}".into()),
    ] {
        let error = props.set(key, value).unwrap_err();
        assert!(!format!("{error:?}").contains(SECRET), "{error}");
        assert!(error.to_string().contains("panicked"), "{error}");
    }
    let error = source.set("plain", "what is no secret").unwrap_err();
    assert!(error.to_string().contains("what is no secret"), "{error}");
    Ok(())
}

#[test]
fn a_rule_does_not_quote_a_value_that_turned_out_to_be_secret() -> Result<(), Error> {
    let calm = |any: &Value| match any.to_string().contains("boom") {
        true => panic!("{any}"),
        false => Ok(()),
    };
    let schema = only(Schema::key::<Value>("any").validate("calm", calm));
    let source = Memory::from([("late.seal", SECRET), ("any.url", "x ${late.seal}")]);
    let builder = Properties::builder().source(source.clone());
    let props = builder.schema(schema).build()?;
    let _: Secret<String> = props.get("late.seal")?;
    let error = source.set("any.other", "boom").unwrap_err();
    assert!(!format!("{error:?}").contains(SECRET), "{error}");
    Ok(())
}

#[test]
fn a_secret_in_a_type_is_known_before_there_is_a_value() -> Result<(), Error> {
    let schema =
        only(Schema::key::<Option<Door>>("door")).declare(Schema::key::<Vec<Secret<Own>>>("codes"));
    let source = Memory::from([("x", 1)]);
    let props = Properties::builder()
        .source(source.clone())
        .schema(schema)
        .build()?;
    let pair = table([("Pair", vec![Value::from(1), SECRET.into()].into())]);
    let lock = table([
        ("lock", pair),
        ("code", format!("bad {SECRET}").into()),
        ("floor", SECRET.into()),
    ]);
    // Rejected at once: no secret has been read before.
    source.set("door", lock).ok();
    source.set("codes", vec![format!("bad {SECRET}")]).ok();
    for key in ["door", "door.code", "codes", "codes.0"] {
        let explanation = format!("{} {:?}", props.explain(key), props.explain(key).rejected);
        let code = explanation.replace(&format!("text \"{SECRET}\""), "the floor, which is none");
        assert!(!code.contains(SECRET), "{key}: {code}");
    }
    Ok(())
}
