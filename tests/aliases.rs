//! A field and its aliases in several layers, or twice in one.

#![allow(clippy::unwrap_used)]

use std::fmt::Debug;

use liveprops::sources::Memory;
use liveprops::{Error, Format, Key, Origin, Properties};
use serde::Deserialize;
use serde::de::DeserializeOwned;

#[derive(Clone, Debug, Deserialize, PartialEq)]
struct Limits {
    #[serde(default)]
    host: String,
    #[serde(alias = "maxBody", alias = "a_body", alias = "z_body")]
    max_body: u8,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
struct Flat {
    #[serde(flatten)]
    limits: Limits,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(tag = "kind")]
enum Tagged {
    A(Limits),
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(untagged)]
enum Untagged {
    A(Limits),
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
struct Nested {
    list: Vec<Limits>,
}

const NAMES: [&str; 4] = ["a_body", "maxBody", "max_body", "z_body"];

/// The properties of layers from the weakest to the strongest; the values count them.
fn layers(names: &[&str]) -> Properties {
    let mut builder = Properties::builder();
    for (at, name) in names.iter().enumerate() {
        let memory = Memory::named(&format!("layer{at}"));
        memory.set("x.kind", "A").unwrap();
        memory.set("x.host", "h").unwrap();
        memory.set(&format!("x.{name}"), at as i64).unwrap();
        builder = builder.source(memory);
    }
    builder.build().unwrap()
}

fn read<T: DeserializeOwned + Debug + 'static>(names: &[&str]) -> Result<T, String> {
    layers(names)
        .get("x")
        .map_err(|error| format!("{names:?}: {error}"))
}

#[test]
fn the_name_in_the_strongest_layer_counts_however_the_names_sort() {
    let check = |names: &[&str]| {
        let limits = Limits {
            host: "h".into(),
            max_body: names.len() as u8 - 1,
        };
        assert_eq!(read::<Limits>(names), Ok(limits.clone()));
        assert_eq!(
            read::<Flat>(names),
            Ok(Flat {
                limits: limits.clone()
            })
        );
        assert_eq!(read::<Tagged>(names), Ok(Tagged::A(limits.clone())));
        assert_eq!(read::<Untagged>(names), Ok(Untagged::A(limits)));
    };
    for one in NAMES {
        for other in NAMES.into_iter().filter(|other| *other != one) {
            check(&[one, other]);
        }
    }
    for names in [
        ["a_body", "max_body", "z_body"],
        ["z_body", "max_body", "a_body"],
    ] {
        let expected = Limits {
            host: "h".into(),
            max_body: 2,
        };
        assert_eq!(read::<Limits>(&names), Ok(expected.clone()));
        assert_eq!(read::<Flat>(&names), Ok(Flat { limits: expected }));
    }
}

#[test]
fn a_live_handle_follows_an_alias_that_sorts_before_its_field() -> Result<(), Error> {
    let (low, high) = (Memory::named("low"), Memory::named("high"));
    low.set("x.max_body", 1)?;
    let props = Properties::builder()
        .source(low)
        .source(high.clone())
        .build()?;
    let limits = props.bind::<Limits>("x").build()?;
    high.set("x.maxBody", 2)?;
    assert_eq!(limits.load().max_body, 2);
    high.set("x.max_body", 3).unwrap_err();
    high.remove("x.maxBody")?;
    high.set("x.max_body", 3)?;
    assert_eq!(limits.load().max_body, 3);
    Ok(())
}

fn toml(text: &str) -> Properties {
    struct Text(String);
    impl liveprops::Source for Text {
        fn origin(&self) -> Origin {
            Origin::new("text", "app.toml")
        }
        fn load(&self) -> Result<liveprops::Document, Error> {
            Format::from_extension("toml")
                .unwrap()
                .parse(self.0.as_bytes(), &self.origin())
        }
    }
    Properties::builder()
        .source(Text(text.to_owned()))
        .build()
        .unwrap()
}

#[test]
fn two_names_in_one_layer_are_an_error_with_both_places() {
    fn check<T: DeserializeOwned + Debug + 'static>(first: &str, second: &str) {
        let text = format!("[x]\nhost='h'\nkind='A'\n{first}=1\n{second}=2\n");
        let error = toml(&text).get::<T>("x").unwrap_err();
        let shown = error.to_string();
        assert_eq!(error.key().map(Key::as_str), Some("x"), "{shown}");
        for (name, line) in [(first, 4), (second, 5)] {
            let named = format!("`{name}` (text app.toml:{line}:1)");
            let at =
                shown.contains(&named) || shown.contains(&format!(":{line}:{}", name.len() + 2));
            assert!(at && shown.contains(&format!("`{name}`")), "{shown}");
        }
        assert!(!shown.contains(":2:") && !shown.contains(":3:"), "{shown}");
    }
    for one in NAMES {
        for other in NAMES.into_iter().filter(|other| *other != one) {
            check::<Limits>(one, other);
            check::<Flat>(one, other);
            check::<Tagged>(one, other);
        }
    }
}

#[test]
fn two_names_in_an_item_of_a_list_are_named() {
    let text = "[x]\nlist=[{a_body=1, host='h', max_body=2}]\n";
    let error = toml(text).get::<Nested>("x").unwrap_err();
    assert_eq!(error.key().map(Key::as_str), Some("x.list.0"), "{error}");
    for name in ["`a_body`", "`max_body`"] {
        assert!(error.to_string().contains(name), "{error}");
    }
    let props = toml("x='a_body=1, max_body=2'\n");
    let error = props.get::<Limits>("x").unwrap_err().to_string();
    assert!(
        error.contains("`a_body`") && error.contains("`max_body`"),
        "{error}"
    );
}

fn read_x<T: DeserializeOwned + Debug + 'static>(props: &Properties) -> Result<T, String> {
    props.get("x").map_err(|error| error.to_string())
}

/// A weaker layer with some names, and a stronger one with one name.
fn two_layers(weaker: &[&str], stronger: &str) -> Properties {
    let (low, high) = (Memory::named("low"), Memory::named("high"));
    for (key, value) in [("x.kind", "A"), ("x.host", "h")] {
        low.set(key, value).unwrap();
    }
    for name in weaker {
        low.set(&format!("x.{name}"), 1).unwrap();
    }
    high.set(&format!("x.{stronger}"), 2).unwrap();
    let builder = Properties::builder().source(low).source(high);
    builder.build().unwrap()
}

#[test]
fn a_name_of_a_stronger_layer_counts_over_several_names_of_a_weaker_one() {
    let expected = Limits {
        host: "h".into(),
        max_body: 2,
    };
    for stronger in NAMES {
        let others: Vec<&str> = NAMES.into_iter().filter(|it| *it != stronger).collect();
        let groups = [
            vec![others[0], others[1]],
            vec![others[0], others[2]],
            vec![others[1], others[2]],
            others,
        ];
        for weaker in groups {
            let props = two_layers(&weaker, stronger);
            let what = format!("{stronger} over {weaker:?}");
            assert_eq!(read_x(&props), Ok(expected.clone()), "{what}");
            let limits = expected.clone();
            assert_eq!(read_x(&props), Ok(Flat { limits }), "{what}");
            assert_eq!(read_x(&props), Ok(Tagged::A(expected.clone())), "{what}");
            assert_eq!(read_x(&props), Ok(Untagged::A(expected.clone())), "{what}");
        }
    }
}

#[test]
fn a_name_of_a_weaker_layer_does_not_decide_between_names_of_a_stronger_one() {
    let (low, high) = (Memory::named("low"), Memory::named("high"));
    low.set("x.z_body", 1).unwrap();
    high.set("x.a_body", 2).unwrap();
    high.set("x.max_body", 3).unwrap();
    let props = Properties::builder()
        .source(low)
        .source(high)
        .build()
        .unwrap();
    let error = props.get::<Limits>("x").unwrap_err().to_string();
    assert!(
        error.contains("`a_body` (memory high") && error.contains("`max_body` (memory high"),
        "{error}"
    );
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
struct Pool {
    size: u8,
    name: String,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default, alias = "limits")]
    bounds: Option<Bounds>,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
struct Bounds {
    low: u8,
    high: u8,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
struct Server {
    #[serde(alias = "a_pool", alias = "z_pool")]
    pool: Pool,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
struct FlatServer {
    #[serde(flatten)]
    server: Server,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
struct Servers {
    servers: Vec<Server>,
}

fn memories<const N: usize>(layers: [&[(&str, liveprops::Value)]; N]) -> ([Memory; N], Properties) {
    let mut builder = Properties::builder();
    let memories = std::array::from_fn(|at| Memory::named(&format!("layer{at}")));
    for (memory, values) in memories.iter().zip(layers) {
        for (key, value) in values {
            memory.set(key, value.clone()).unwrap();
        }
        builder = builder.source(memory.clone());
    }
    (memories, builder.build().unwrap())
}

#[test]
fn a_table_under_an_alias_merges_like_one_under_the_name_of_the_field() {
    const POOLS: [&str; 3] = ["a_pool", "pool", "z_pool"];
    let pool = |size: u8| Server {
        pool: Pool {
            size,
            name: "p".into(),
            tags: vec!["b".into()],
            bounds: Some(Bounds { low: 1, high: 20 }),
        },
    };
    for weaker in POOLS {
        for stronger in POOLS {
            let key = |name: &str, rest: &str| format!("x.{name}.{rest}");
            let weak: [(String, liveprops::Value); 5] = [
                (key(weaker, "size"), 1.into()),
                (key(weaker, "name"), "p".into()),
                (key(weaker, "tags"), vec!["a"].into()),
                (key(weaker, "bounds.low"), 1.into()),
                (key(weaker, "bounds.high"), 2.into()),
            ];
            let strong: [(String, liveprops::Value); 3] = [
                (key(stronger, "size"), 2.into()),
                (key(stronger, "tags"), vec!["b"].into()),
                (key(stronger, "limits.high"), 20.into()),
            ];
            let weak = weak.each_ref().map(|(key, value)| (&**key, value.clone()));
            let strong = strong
                .each_ref()
                .map(|(key, value)| (&**key, value.clone()));
            let ([low, _], props) = memories([&weak, &strong]);
            let what = format!("{stronger} over {weaker}");
            assert_eq!(read_x(&props), Ok(pool(2)), "{what}");
            let server = pool(2);
            assert_eq!(read_x(&props), Ok(FlatServer { server }), "{what}");
            // A live handle follows both layers.
            let live = props.bind::<Server>("x").build().unwrap();
            low.set(&key(weaker, "name"), "q").unwrap();
            assert_eq!(live.load().pool.name, "q", "{what}");
        }
    }
}

#[test]
fn the_strongest_layer_decides_about_each_value_of_a_table_with_several_names() {
    let ([..], props) = memories([
        &[("x.pool.size", 1.into()), ("x.pool.name", "low".into())],
        &[("x.a_pool.size", 2.into())],
        &[("x.pool.size", 3.into()), ("x.pool.tags", vec!["t"].into())],
        &[("x.z_pool.name", "high".into())],
    ]);
    let expected = Pool {
        size: 3,
        name: "high".into(),
        tags: vec!["t".into()],
        bounds: None,
    };
    assert_eq!(read_x(&props), Ok(Server { pool: expected }));
}

#[test]
fn a_value_and_a_table_under_two_names_replace_each_other() {
    let ([..], props) = memories([
        &[("x.pool.size", 1.into()), ("x.pool.name", "low".into())],
        &[("x.a_pool", "size=2, name=text".into())],
    ]);
    assert_eq!(props.get::<Server>("x").unwrap().pool.name, "text");
    let ([..], props) = memories([
        &[("x.a_pool", "size=2, name=text".into())],
        &[("x.pool.size", 1.into()), ("x.pool.name", "high".into())],
    ]);
    assert_eq!(props.get::<Server>("x").unwrap().pool.name, "high");
}

#[test]
fn a_table_under_an_alias_merges_in_an_item_of_a_list() {
    let pool = liveprops::Value::from(liveprops::Table::from([
        ("size", liveprops::Value::from(1)),
        ("name", "p".into()),
    ]));
    let server = liveprops::Table::from([("pool", pool)]);
    let ([..], props) = memories([
        &[("x.servers", vec![server].into())],
        &[("x.servers.0.a_pool.size", 2.into())],
    ]);
    let servers = props.get::<Servers>("x").unwrap().servers;
    assert_eq!((servers[0].pool.size, &*servers[0].pool.name), (2, "p"));
}

#[test]
fn tables_of_two_names_in_one_layer_are_an_error_also_below_a_third_name() {
    let ([..], props) = memories([
        &[("x.pool.size", 1.into()), ("x.a_pool.name", "p".into())],
        &[("x.z_pool.size", 2.into())],
    ]);
    let error = props.get::<Server>("x").unwrap_err().to_string();
    assert!(
        error.contains("`pool`") && error.contains("`a_pool`"),
        "{error}"
    );
}

#[test]
fn the_tables_of_two_variants_are_not_merged() {
    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "lowercase")]
    enum Storage {
        S3 {
            bucket: String,
            region: Option<String>,
        },
        File {
            bucket: String,
            region: Option<String>,
        },
    }
    let ([..], props) = memories([
        &[
            ("x.file.bucket", "low".into()),
            ("x.file.region", "r".into()),
        ],
        &[("x.s3.bucket", "high".into())],
    ]);
    let expected = Storage::S3 {
        bucket: "high".into(),
        region: None,
    };
    assert_eq!(read_x(&props), Ok(expected));
}

#[test]
fn a_secret_is_masked_under_all_names_of_its_field() {
    #[derive(Deserialize)]
    struct Login {
        #[serde(alias = "a_door")]
        door: Door,
    }
    #[derive(Deserialize)]
    struct Door {
        #[serde(alias = "a_word")]
        word: liveprops::Secret<String>,
        #[serde(default)]
        count: u8,
    }
    let ([..], props) = memories([
        &[("x.door.word", "hunter2".into())],
        &[("x.a_door.count", 1.into())],
    ]);
    let login = props.get::<Login>("x").unwrap();
    assert_eq!(
        (login.door.word.expose().as_str(), login.door.count),
        ("hunter2", 1)
    );
    let shown = props.explain("x.door.word").to_string();
    assert!(!shown.contains("hunter2"), "{shown}");

    let ([..], props) = memories([
        &[("x.door.word", "hunter2".into())],
        &[("x.door.a_word", "hunter3".into())],
    ]);
    let login = props.get::<Login>("x").unwrap();
    assert_eq!(login.door.word.expose(), "hunter3");
    for key in ["x.door.word", "x.door.a_word"] {
        let shown = props.explain(key).to_string();
        assert!(!shown.contains("hunter"), "{key}: {shown}");
    }
}

#[test]
fn a_removal_acts_on_the_name_as_it_is_written() {
    let ([_, high], props) = memories([&[("x.max_body", 1.into())], &[]]);
    let limits = props.bind::<Limits>("x").build().unwrap();
    high.unset("x.maxBody").unwrap();
    assert_eq!(limits.load().max_body, 1);
    assert_eq!(props.get::<Limits>("x").unwrap().max_body, 1);
    high.unset("x.max_body").unwrap_err();
    assert!(props.get::<Limits>("x").is_ok());
}
