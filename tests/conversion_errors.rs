//! An error about an unreadable value has the key, the layer, the type and the remedy.
#![cfg(all(feature = "toml", feature = "yaml", feature = "dotenv"))]
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap};

use liveprops::sources::{Env, File, Memory};
use liveprops::{Error, ErrorKind, Key, Properties, Value};
use serde::Deserialize;
use tempfile::TempDir;

/// Creates properties with one file below some environment variables.
fn props(name: &str, text: &str, variables: &[(&str, &str)]) -> (Properties, TempDir) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    let env = Env::prefix("APP_").vars(variables.iter().copied());
    let builder = Properties::builder().source(File::new(path)).source(env);
    (builder.build().unwrap(), dir)
}

fn bind_error<T: serde::de::DeserializeOwned + std::fmt::Debug>(
    (props, _dir): &(Properties, TempDir),
    key: &str,
) -> Error {
    props.snapshot().bind::<T>(key).unwrap_err()
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)] // only decoded
struct Peer {
    host: String,
    port: u16,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)] // only decoded
struct Peers {
    peers: Vec<Peer>,
}

#[test]
fn a_number_that_two_layers_spell_differently_is_given_twice() {
    let props = props("a.toml", "[m]\n80 = true\n", &[("APP_M__080", "off")]);
    let map = props.0.get::<BTreeMap<u16, bool>>("m").unwrap_err();
    for error in [map, bind_error::<HashMap<u16, bool>>(&props, "m")] {
        let shown = error.to_string();
        for part in [
            "`m`",
            "given twice",
            "`80`",
            "`080`",
            "APP_M__080",
            "a.toml:2:",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
    }
}

#[test]
fn a_number_that_one_file_spells_twice_is_given_twice() {
    let props = props("a.yaml", "m: {80: true, 0x50: false}\n", &[]);
    let error = props.0.get::<BTreeMap<u16, bool>>("m").unwrap_err();
    assert_eq!(error.key().map(Key::as_str), Some("m"), "{error}");
    assert!(error.to_string().contains("given twice"), "{error}");
}

#[test]
fn a_field_that_an_appended_item_lacks_names_the_variable_of_the_item() {
    let text = "peers: [{host: a, port: 1}, {host: b, port: 2}]\n";
    for variable in ["APP_PEERS__2__HOST", "APP_PEERS__3__HOST"] {
        let complete = [
            ("APP_PEERS__2__HOST", "c"),
            ("APP_PEERS__2__PORT", "3"),
            (variable, "d"),
        ];
        let variables = match variable {
            "APP_PEERS__2__HOST" => &complete[..1],
            _ => &complete[..],
        };
        let props = props("cv.yaml", text, variables);
        let error = bind_error::<Peers>(&props, "");
        let key = variable.to_ascii_lowercase();
        let key = key.trim_start_matches("app_").replace("__", ".");
        let key = key.replace("host", "port");
        assert_eq!(error.key().map(Key::as_str), Some(&*key), "{error}");
        let shown = error.to_string();
        assert!(shown.contains(variable), "{shown}");
        assert!(shown.contains("u16"), "{shown}");
        assert!(!shown.contains("cv.yaml"), "{shown}");
    }
}

#[test]
fn the_error_of_a_missing_field_names_the_line_of_its_item() {
    let text = "peers:\n  - host: a\n    port: 1\n  - host: b\n";
    let props = props("cv.yaml", text, &[]);
    let error = bind_error::<Peers>(&props, "");
    assert_eq!(
        error.key().map(Key::as_str),
        Some("peers.1.port"),
        "{error}"
    );
    let shown = error.to_string();
    assert!(shown.contains("cv.yaml:4:5"), "{shown}");
}

#[test]
fn the_error_of_a_missing_field_suggests_a_key() {
    #[derive(Debug, Deserialize)]
    #[allow(dead_code)] // only decoded
    struct Web {
        port: u16,
        bind: String,
    }
    let props = props("a.toml", "[web]\nprt = 80\n", &[]);
    for error in [
        bind_error::<Web>(&props, "web"),
        props.0.get::<Web>("web").unwrap_err(),
    ] {
        let errors: Vec<_> = error.iter().collect();
        assert_eq!(errors.len(), 2, "{error}");
        assert_eq!(
            errors[0].key().map(Key::as_str),
            Some("web.port"),
            "{error}"
        );
        assert_eq!(errors[0].expected(), Some("u16"), "{error}");
        assert_eq!(errors[1].expected(), Some("String"), "{error}");
        let shown = errors[1].to_string();
        assert!(shown.contains("not set: no layer defines it"), "{shown}");
        let shown = errors[0].to_string();
        assert!(shown.contains("did you mean `web.prt`?"), "{shown}");
    }
}

#[test]
fn a_snapshot_and_get_give_one_error_for_an_absent_key() {
    let props = props("a.toml", "zy = 80\n", &[]);
    let bound = bind_error::<u32>(&props, "zz");
    let got = props.0.get::<u32>("zz").unwrap_err();
    assert_eq!(bound.kind(), ErrorKind::NotFound, "{bound}");
    assert_eq!(bound.to_string(), got.to_string());
    assert!(bound.to_string().contains("not set"), "{bound}");
}

#[test]
fn a_null_in_a_list_is_named_as_null_with_its_line() {
    let props = props("a.yaml", "l:\n  - 1\n  - ~\n  - 3\n", &[]);
    let error = props.0.get::<Vec<u8>>("l").unwrap_err();
    assert_eq!(error.key().map(Key::as_str), Some("l.1"), "{error}");
    let shown = error.to_string();
    assert!(shown.contains("null"), "{shown}");
    assert!(shown.contains("a.yaml:3:5"), "{shown}");
    assert!(!shown.contains("no layer"), "{shown}");
}

#[test]
fn a_value_of_a_megabyte_is_explained_in_a_few_kilobytes() {
    let memory = Memory::from([("big", Value::from("x".repeat(1 << 20)))]);
    memory
        .set(
            "list",
            Value::from(vec!["y".repeat(1 << 19), "z".repeat(1 << 19)]),
        )
        .unwrap();
    let props = Properties::builder().source(memory).build().unwrap();
    for key in ["big", "list"] {
        let shown = props.explain(key).to_string();
        assert!(shown.len() < 20_000, "{key}: {} bytes", shown.len());
        assert!(
            shown.contains("bytes"),
            "{key}: {}",
            &shown[shown.len() - 200..]
        );
    }
}

/// Reads a text as a map; returns one line with the result or the error.
fn map_of(text: &str) -> Result<String, String> {
    let memory = liveprops::sources::Memory::from([("m", text)]);
    let props = Properties::builder().source(memory).build().unwrap();
    let map = props.get::<std::collections::BTreeMap<String, String>>("m");
    map.map(|map| format!("{map:?}"))
        .map_err(|error| error.to_string())
}

#[test]
fn text_of_entries_without_a_comma_is_rejected() {
    for text in [
        "host=db port=5432",
        "host=db  port = 5432",
        "host=db;port=5432",
        "host=db; port=5432",
        "a=1\nb=2",
        "a=1\r\n  b.c = 2",
        "a=1, b=2 c=3",
        "a=[1] b=2",
        "80=on 443=off",
        "url=http://h/x b=2",
        "a=1\n\"b\"=2",
    ] {
        let error = map_of(text).unwrap_err();
        assert!(error.contains("write `a=1, b=2`"), "{text}: {error}");
    }
    for text in [
        "{host = db\n port = 5432}",
        "{a = x b = 2}",
        "{a: x b: 2}",
        "{a: x; b: 2}",
        "{a = x\ny}",
        "{a = [x b = 2]}",
        "{\"a\": \"x\" \"b\": \"y\"}",
        "{\"a\": [\"x\" \"y\"]}",
        "{\"a\": {} \"b\": 1}",
        "{a\nb = 1}",
    ] {
        let error = map_of(text).unwrap_err();
        assert!(error.contains("missing comma"), "{text}: {error}");
    }
    for text in ["=1", "a=1, =2", "{= 1}"] {
        let error = map_of(text).unwrap_err();
        assert!(error.contains("without a name"), "{text}: {error}");
    }
}

#[test]
fn a_value_may_contain_characters_that_begin_no_entry() {
    for (text, value) in [
        ("k=http://h/?a=b&c=d", "http://h/?a=b&c=d"),
        ("k=base64==", "base64=="),
        ("k=-Xmx1g -Da=b", "-Xmx1g -Da=b"),
        ("k=a == b", "a == b"),
        ("k=x >= 3", "x >= 3"),
        ("k=A=1 run", "A=1 run"),
        ("k=jdbc:h2:mem:x;MODE=MySQL", "jdbc:h2:mem:x;MODE=MySQL"),
        ("k=jdbc:a://h:1;user=b;c=d", "jdbc:a://h:1;user=b;c=d"),
        ("k=\"a b=c\"", "a b=c"),
        ("k='a;b=c'", "a;b=c"),
        ("k=two words", "two words"),
        ("{k = http://h/?a=b}", "http://h/?a=b"),
        ("{k = -Xmx1g -Da=b}", "-Xmx1g -Da=b"),
        ("{k = 2024-01-01 10:30:00}", "2024-01-01 10:30:00"),
        ("{k: see http://h}", "see http://h"),
        ("{k: copy C:\\x}", "copy C:\\x"),
        ("{k = \"a b = c\"}", "a b = c"),
        ("{\n k = x y\n}", "x y"),
        ("{\"k\": \"\\u0041\"}", "A"),
    ] {
        let expected = Ok(format!("{{\"k\": {value:?}}}"));
        assert_eq!(map_of(text), expected, "{text}");
    }
    assert!(map_of("a=1,\nb=2\n").is_ok());
    assert!(map_of("{a = 1,\n b = 2,\n}").is_ok());
    assert!(map_of("{\"a.b\" = 1}").is_ok());
}

#[test]
fn text_in_braces_rejects_a_bare_dot_a_nul_and_a_signed_escape() {
    for (text, expected) in [
        ("{db.host = \"h\"}", "a name with a dot"),
        ("{\"a\":\"x\\u0000y\"}", "a NUL character"),
        ("{\"a\\u0000\":\"y\"}", "a NUL character"),
        ("{\"a\": \"\\u+041\"}", "an unknown escape"),
        ("{\"a\": 1", "a `{` that is not closed"),
    ] {
        let error = map_of(text).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
    }
    let memory = liveprops::sources::Memory::from([("l", "[\"a\\u0000b\"]")]);
    let props = Properties::builder().source(memory).build().unwrap();
    let error = props.get::<Vec<String>>("l").unwrap_err().to_string();
    assert!(error.contains("a NUL character"), "{error}");
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Retry {
    Off,
    Fixed { pause: u32 },
    Times(u32),
    Range(u32, u32),
}

#[test]
fn the_name_of_a_variant_alone_is_an_error_about_the_content_of_the_variant() {
    #[derive(Debug, Deserialize)]
    #[allow(dead_code)] // only decoded
    struct Of<T> {
        e: T,
    }
    for (text, variant) in [
        ("FIXED", "fixed"),
        ("fixed", "fixed"),
        ("times", "times"),
        ("Range", "range"),
    ] {
        let memory = Memory::from([("e", text)]);
        memory.set("l", vec![text]).unwrap();
        let props = Properties::builder().source(memory).build().unwrap();
        let field = props.get::<Of<Retry>>("").unwrap_err();
        let sole = props.get::<Retry>("e").unwrap_err();
        let item = props.get::<Vec<Retry>>("l").unwrap_err();
        for (error, at) in [(field, "e"), (sole, "e"), (item, "l.0")] {
            let part = format!(
                "`{at}.{variant}`: not set: no layer defines it: `{at}` names the variant alone; \
                 set `{at}.{variant}` in its place"
            );
            assert!(error.to_string().starts_with(&part), "{error}");
        }
    }
    // A text that has pairs is no item either.
    #[derive(Debug, Deserialize)]
    #[allow(dead_code)] // only decoded
    struct Server {
        host: String,
        port: u16,
    }
    let props = Properties::builder().source(Memory::from([("s", "host=a")]));
    let error = props
        .build()
        .unwrap()
        .get::<Server>("s")
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("`s.port`: not set: no layer defines it in the value of `s`"),
        "{error}"
    );
}

#[test]
fn a_variant_with_null_does_not_count_beside_another() {
    let null = || Value::Unset;
    let fixed = || Value::Table([("pause", Value::from(1))].into());
    let memory = Memory::new();
    let items = [
        Value::Table([("fixed", fixed()), ("off", null())].into()),
        Value::Table([("off", null())].into()),
    ];
    memory.set("l", Value::from(items.to_vec())).unwrap();
    memory.set("e.fixed.pause", 1).unwrap();
    memory.set("e.times", null()).unwrap();
    let props = Properties::builder().source(memory).build().unwrap();
    assert_eq!(
        props.get::<Vec<Retry>>("l").unwrap(),
        [Retry::Fixed { pause: 1 }, Retry::Off]
    );
    assert_eq!(props.get::<Retry>("e").unwrap(), Retry::Fixed { pause: 1 });
}
