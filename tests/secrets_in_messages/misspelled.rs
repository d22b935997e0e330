//! Names that a type does not know. The value at such a name may be a secret of the field that was meant.

use std::collections::BTreeMap;
use std::fmt::Debug;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{SECRET, hidden};
use liveprops::sources::Memory;
use liveprops::{Format, Origin, Properties, Secret};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)] // only decoded
struct Strict {
    hush: Option<Secret<String>>,
    name: Option<u8>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)] // only decoded
struct Outer {
    inner: Option<Strict>,
    items: Option<Vec<Strict>>,
    named: Option<BTreeMap<u8, Strict>>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
#[allow(dead_code)] // only decoded
enum Tagged {
    One { hush: Option<Secret<String>> },
}

#[derive(Debug, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
#[allow(dead_code)] // only decoded
enum Untagged {
    One { hush: Secret<String> },
    Two { name: u8 },
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(dead_code)] // only decoded
enum External {
    One(Strict),
}

/// Reads a document with [`SECRET`] at a name that `T` does not know, and says the error that names no value.
fn error_of<T: DeserializeOwned + Debug + 'static>(yaml: &str) -> String {
    let text = yaml.replace("SECRET", SECRET);
    let document = Format::yaml().parse(text.as_bytes(), &Origin::new("f", ""));
    let memory = Memory::default();
    for (at, value, _) in document.unwrap().iter() {
        memory.set(&at.to_string(), value.clone()).unwrap();
    }
    let props = Properties::builder().source(memory).build().unwrap();
    hidden(props.snapshot().bind::<T>("svc"));
    hidden(props.get::<T>("svc"))
}

#[test]
fn an_error_about_an_unknown_field_names_it_and_shows_no_value() {
    for name in ["hushh", "HUSH", "hsuh", "else"] {
        let wrong = format!("{name}: SECRET");
        let errors = [
            error_of::<Strict>(&format!("svc: {{{wrong}}}")),
            error_of::<Strict>(&format!("svc: {{{name}: [SECRET]}}")),
            error_of::<Strict>(&format!("svc: {{{name}: {{a: SECRET}}}}")),
            error_of::<Outer>(&format!("svc: {{inner: {{{wrong}}}}}")),
            error_of::<Outer>(&format!("svc: {{items: [{{}}, {{{wrong}}}]}}")),
            error_of::<Outer>(&format!("svc: {{named: {{7: {{{wrong}}}}}}}")),
            error_of::<Tagged>(&format!("svc: {{kind: one, {wrong}}}")),
            error_of::<External>(&format!("svc: {{one: {{{wrong}}}}}")),
        ];
        for error in errors {
            assert!(error.contains(name), "{name}: {error}");
        }
        error_of::<Untagged>(&format!("svc: {{{wrong}}}"));
    }
}
