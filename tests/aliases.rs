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
