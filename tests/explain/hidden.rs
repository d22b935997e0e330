//! A value that replaces a table of a weaker layer, and the keys that it hides.

use liveprops::sources::Env;

use super::*;

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[allow(dead_code)] // only decoded
struct Web {
    port: u16,
    max_body: u32,
}

fn over_a_file(value: &str) -> Properties {
    let memory = Memory::named("low");
    memory.set("http.port", 80).unwrap();
    memory.set("http.max_body", 5).unwrap();
    let env = Env::prefix("APP_").vars([("APP_HTTP", value)]);
    Properties::builder()
        .source(memory)
        .source(env)
        .build()
        .unwrap()
}

#[test]
fn the_error_of_a_hidden_key_names_the_layer_that_defines_it() {
    let check_message = |what: &str, error: Error| {
        let text = error.to_string();
        for part in [
            "the value of `http` replaces the table of memory low, which defines it",
            "env APP_HTTP",
        ] {
            assert!(text.contains(part), "{what}: {text}");
        }
        assert!(!text.contains("no layer defines"), "{what}: {text}");
    };
    let text = over_a_file("po");
    check_message("get", text.get::<u16>("http.port").unwrap_err());
    check_message(
        "handle",
        text.property::<u16>("http.port").build().unwrap_err(),
    );
    let table = over_a_file("{\"port\": 84}");
    check_message("struct", table.get::<Web>("http").unwrap_err());
    check_message("bind", table.bind::<Web>("http").build().unwrap_err());
    // Keys that no layer defines keep their usual error.
    let error = text.get::<u16>("http.none").unwrap_err().to_string();
    assert!(error.contains("no layer defines it"), "{error}");
}

#[test]
fn a_value_that_replaces_a_table_is_reported_but_not_rejected() {
    let props = over_a_file("po");
    let explanation = props.explain("http");
    assert!(explanation.rejected.is_empty(), "{explanation}");
    assert_eq!(explanation.clashes.len(), 1, "{explanation}");
    let text = explanation.to_string();
    assert!(text.contains("\n  note: `http`"), "{text}");
    assert!(!text.contains("rejected"), "{text}");
    let rejected = props.health().rejected;
    assert!(rejected.iter().all(|one| one.is_clash), "{rejected:?}");
    assert!(props.health().is_up());
}

#[test]
fn what_is_ignored_of_a_key_that_becomes_secret_keeps_its_reason() -> Result<(), Error> {
    let (low, high) = (Memory::named("low"), Memory::named("high"));
    low.set("door.code", 1)?;
    low.set("hall", vec![1, 2])?;
    low.set(
        "items",
        vec![Value::Table([("a".to_owned(), Value::from(1))].into())],
    )?;
    high.set("door", "open")?;
    high.set("hall.7", 3)?;
    high.set("items.0.a.b", 4)?;
    high.set("gate", "open")?;
    let props = Properties::builder()
        .bootstrap(Memory::from([("gate", "shut")]))
        .source(low.clone())
        .source(high.clone())
        .build()?;
    let shown = || {
        let rejected = props.health().rejected.into_iter();
        let rejected = rejected.map(|one| one.error.to_string());
        let ignored = props.health().sources.into_iter();
        let ignored = ignored.flat_map(|one| one.problems);
        let mut all: Vec<_> = rejected
            .chain(ignored.map(|error| error.to_string()))
            .collect();
        all.sort();
        all
    };
    let before = shown();
    for part in ["`door`", "`gate`", "`hall.7`", "`items.0.a`"] {
        assert!(before.iter().any(|text| text.contains(part)), "{before:#?}");
    }
    for key in ["door", "gate", "hall", "hall.7", "items", "items.0.a"] {
        let _ = props.get::<liveprops::Secret<Value>>(key);
    }
    assert_eq!(shown(), before);
    // The next commit finds the same.
    low.set("door.code", 2)?;
    low.set("hall", vec![3, 4])?;
    low.set(
        "items",
        vec![Value::Table([("a".to_owned(), Value::from(2))].into())],
    )?;
    assert_eq!(shown(), before);
    Ok(())
}
