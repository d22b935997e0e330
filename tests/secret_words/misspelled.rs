//! Fields that a type does not know and that are like one of its secret fields.

use std::collections::BTreeMap;
use std::fmt::Debug;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{SECRET, hidden, is_hidden};
use liveprops::sources::Memory;
use liveprops::{Format, Properties, Secret};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Strict {
    #[serde(default)]
    hush: Option<Secret<String>>,
    #[serde(default)]
    hushed: Option<u8>,
    #[serde(default)]
    name: Option<u8>,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)]
struct Loose {
    hush: Secret<String>,
    name: Option<u8>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Outer<T> {
    inner: Option<T>,
    items: Option<Vec<T>>,
    named: Option<BTreeMap<u8, T>>,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)]
enum Choice {
    #[serde(rename = "one")]
    One {
        hush: Secret<String>,
    },
    #[serde(rename = "two")]
    Two(Strict),
    Other,
}

/// Reads a tree in which a secret stands at a key with a wrong name; no error and no explanation shows it.
fn is_never_shown<T: DeserializeOwned + Debug + 'static>(yaml: &str, key: &str) {
    for bind in [false, true] {
        let text = yaml.replace("SECRET", SECRET);
        let memory = Memory::default();
        let document = Format::yaml().parse(text.as_bytes(), &liveprops::Origin::new("f", ""));
        for (at, value, _) in document.unwrap().iter() {
            memory.set(&at.to_string(), value.clone()).unwrap();
        }
        let props = Properties::builder().source(memory).build().unwrap();
        let shown = if bind {
            hidden(props.snapshot().bind::<T>("svc"))
        } else {
            hidden(props.get::<T>("svc"))
        };
        let explained = props.explain(key);
        let explained = format!("{explained} {explained:?}");
        assert!(
            !explained.contains("hunter2"),
            "{key} after {shown}: {explained}"
        );
        is_hidden(format!("{:?}", props.get::<u32>(key)));
    }
}

#[test]
fn an_unknown_field_that_is_like_a_secret_field_is_not_shown() {
    for name in ["hushh", "Hush", "HUSH", "hsuh", "hush-", "hus"] {
        let key = &format!("svc.{name}");
        let yaml = format!("svc: {{{name}: SECRET}}");
        is_never_shown::<Strict>(&yaml, key);
        is_never_shown::<Loose>(&yaml, key);
        for (above, at) in [
            (format!("svc: {{inner: {{{name}: SECRET}}}}"), "inner"),
            (
                format!("svc: {{items: [{{}}, {{{name}: SECRET}}]}}"),
                "items.1",
            ),
            (
                format!("svc: {{named: {{7: {{{name}: SECRET}}}}}}"),
                "named.7",
            ),
        ] {
            let key = &format!("svc.{at}.{name}");
            is_never_shown::<Outer<Strict>>(&above, key);
            is_never_shown::<Outer<Loose>>(&above, key);
        }
        for choice in ["one", "two"] {
            let yaml = format!("svc: {{{choice}: {{{name}: SECRET}}}}");
            is_never_shown::<Choice>(&yaml, &format!("svc.{choice}.{name}"));
        }
    }
    is_never_shown::<Outer<Strict>>("svc: {innner: {hush: SECRET}}", "svc.innner.hush");
    is_never_shown::<Strict>("svc: {hushh: [SECRET]}", "svc.hushh");
}

#[test]
fn an_unknown_field_that_is_like_a_plain_field_or_like_none_is_shown() {
    for (name, key) in [
        ("nmae", "svc.nmae"),
        ("husheed", "svc.husheed"),
        ("else", "svc.else"),
    ] {
        let memory = Memory::from([(key, "open-1")]);
        let props = Properties::builder().source(memory).build().unwrap();
        let error = props.get::<Strict>("svc").unwrap_err().to_string();
        assert!(error.contains("open-1"), "{name}: {error}");
        assert!(props.explain(key).to_string().contains("open-1"), "{name}");
    }
    let memory = Memory::from([("svc.hushh", "open-1")]);
    let builder = Properties::builder().source(memory).not_secret("svc.hushh");
    let error = builder.build().unwrap().get::<Strict>("svc").unwrap_err();
    assert!(error.to_string().contains("open-1"), "{error}");
}
