//! A value that replaces a table of a weaker layer, and the keys that it hides.

use liveprops::sources::Env;

use super::*;

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[allow(dead_code)]
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
