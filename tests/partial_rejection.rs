//! A bad value rejects only its own key, and every rejected key is reported.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use liveprops::sources::Memory;
use liveprops::{
    Document, DynamicProperty, Error, Origin, Properties, RejectionScope, Source, SourceContext,
    Update, Value, Watching,
};
use serde::Deserialize;

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Http {
    port: u16,
    #[serde(default)]
    host: String,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Storage {
    Disk { path: String },
    S3 { bucket: String },
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
struct App {
    http: Http,
    storage: Storage,
    #[serde(default)]
    note: String,
    #[serde(default)]
    limits: BTreeMap<String, u32>,
}

fn v(value: impl Into<Value>) -> Value {
    value.into()
}

fn defaults() -> Memory {
    let defaults = Memory::named("base");
    defaults
        .replace([
            ("http.port", v(80)),
            ("storage.kind", v("disk")),
            ("storage.path", v("/tmp")),
        ])
        .unwrap();
    defaults
}

/// A store whose values do not depend on whether the engine accepts them.
#[derive(Clone, Default)]
struct Store(Arc<Mutex<Stored>>);

#[derive(Default)]
struct Stored {
    values: BTreeMap<String, Value>,
    updates: Option<SourceContext>,
}

impl Store {
    fn set<'a>(&self, values: impl IntoIterator<Item = (&'a str, Value)>) {
        let mut stored = self.0.lock().unwrap();
        let values = values.into_iter();
        stored
            .values
            .extend(values.map(|(key, value)| (key.to_owned(), value)));
        stored.push();
    }

    fn remove(&self, key: &str) {
        let mut stored = self.0.lock().unwrap();
        stored.values.remove(key);
        stored.push();
    }
}

impl Stored {
    fn push(&self) {
        let mut document = Document::new();
        for (key, value) in &self.values {
            let origin = Origin::new("store", key.clone());
            document.set(key, value.clone(), origin).unwrap();
        }
        if let Some(updates) = &self.updates {
            let _ = updates.send(Update::full(document));
        }
    }
}

impl Source for Store {
    fn origin(&self) -> Origin {
        Origin::new("store", "")
    }

    fn load(&self) -> Result<Document, Error> {
        unreachable!("a source that pushes is not loaded")
    }

    fn watching(&self) -> Watching {
        Watching::Push
    }

    fn watch(&self, updates: &SourceContext) -> Result<(), Error> {
        let mut stored = self.0.lock().unwrap();
        stored.updates = Some(updates.clone());
        stored.push();
        Ok(())
    }

    fn rejection_scope(&self) -> RejectionScope {
        RejectionScope::PerKey
    }
}

struct Fixture {
    store: Store,
    props: Properties,
    app: DynamicProperty<App>,
    qps: DynamicProperty<u32>,
}

fn fixture() -> Fixture {
    let store = Store::default();
    let props = Properties::builder()
        .source(defaults())
        .source(store.clone())
        .build()
        .unwrap();
    let app = props.bind::<App>("").build().unwrap();
    let qps = props.property("ratelimit.qps").default(61).build().unwrap();
    Fixture {
        store,
        props,
        app,
        qps,
    }
}

impl Fixture {
    fn rejected(&self) -> Vec<String> {
        let rejected = self.props.health().rejected;
        let errors = rejected.iter().flat_map(|rejected| rejected.error.iter());
        let mut keys: Vec<String> = errors.filter_map(|e| Some(e.key()?.to_string())).collect();
        keys.sort();
        keys.dedup();
        keys
    }
}

#[test]
fn a_bad_key_under_a_bound_root_rejects_no_other_key() {
    for (key, value) in [
        ("http.prt", "5"),
        ("http.port", "abc"),
        ("limits.a", "x"),
        ("storage.kind", "gcs"),
        ("storage.kind", "s3"),
    ] {
        let fixture = fixture();
        fixture.store.set([
            (key, v(value)),
            ("ratelimit.qps", v(5)),
            ("note", v("two")),
            ("http.host", v("h")),
        ]);
        let app = fixture.app.get();
        assert_eq!(
            (fixture.qps.get(), &*app.note),
            (5, "two"),
            "{key} = {value}"
        );
        assert_eq!((app.http.port, &*app.http.host), (80, "h"), "{key}");
        let explained = fixture.props.explain(key);
        assert!(!explained.rejected.is_empty(), "{key}: {explained}");
        assert!(fixture.props.explain("note").rejected.is_empty(), "{key}");

        // The store's later updates still contain the bad key.
        fixture.store.set([("note", v("three"))]);
        fixture.store.set([("ratelimit.qps", v(6))]);
        assert_eq!(
            (fixture.qps.get(), &*fixture.app.get().note),
            (6, "three"),
            "{key}"
        );
        fixture.store.remove(key);
        assert!(
            fixture.props.health().is_up(),
            "{key}: {:?}",
            fixture.props.health()
        );
    }
}

#[test]
fn keys_that_are_rejected_together_are_all_reported() {
    #[derive(Clone, Debug, Deserialize, PartialEq)]
    struct Range {
        low: u32,
        high: u32,
    }
    let fixture = fixture();
    fixture
        .store
        .set([("range.low", v(1)), ("range.high", v(2))]);
    let range = fixture
        .props
        .property::<Range>("range")
        .validate(|range| match range.low <= range.high {
            true => Ok(()),
            false => Err("low is above high".to_owned()),
        })
        .build()
        .unwrap();
    fixture.store.set([
        ("range.low", v(9)),
        ("range.high", v(3)),
        ("note", v("two")),
    ]);
    assert_eq!(range.get(), Range { low: 1, high: 2 });
    assert_eq!(fixture.app.get().note, "two");
    for key in ["range.low", "range.high"] {
        let explained = fixture.props.explain(key);
        assert!(!explained.rejected.is_empty(), "{key}: {explained}");
    }
    let rejected = fixture.rejected();
    for key in ["range.low", "range.high"] {
        assert!(
            rejected.iter().any(|name| name == key || name == "range"),
            "{rejected:?}"
        );
    }
}

#[test]
fn a_failed_validator_of_the_tree_is_reported_for_each_rejected_key() {
    let store = Memory::named("store");
    let props = Properties::builder()
        .source(store.clone())
        .validate(|tree| match tree.get::<u32>("a") {
            Ok(9) => Err("nine".into()),
            _ => Ok(()),
        })
        .build()
        .unwrap();
    store.set("kept", 1).unwrap();
    let names: Vec<String> = (0..10).map(|i| format!("b{i}")).collect();
    let mut all = vec![("a", v(9)), ("kept", v(2))];
    all.extend(names.iter().map(|name| (&**name, v(1))));
    let _ = store.replace(all);
    assert_eq!(props.get::<u32>("kept").unwrap(), 1);
    for name in names.iter().map(String::as_str).chain(["a", "kept"]) {
        let explained = props.explain(name);
        assert!(!explained.rejected.is_empty(), "{name}: {explained}");
    }
}

#[test]
fn thousands_of_bad_keys_reject_no_other_key() {
    let fixture = fixture();
    let names: Vec<String> = (0..2_000).map(|i| format!("limits.k{i}")).collect();
    let bad = names.iter().map(|name| (&**name, v("x")));
    let good = [("ratelimit.qps", v(5)), ("note", v("two"))];
    fixture.store.set(bad.chain(good));
    assert_eq!((fixture.qps.get(), fixture.app.get().limits.len()), (5, 0));
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
struct Numbers {
    #[serde(flatten)]
    all: BTreeMap<String, liveprops::Secret<u32>>,
}

#[test]
fn bad_keys_of_one_struct_reject_no_good_key_of_another_struct() {
    #[derive(Clone, Debug, Default, Deserialize, PartialEq)]
    #[serde(default)]
    struct Many {
        a: u8,
        b: u8,
        c: u8,
        d: u8,
        e: u8,
        f: u8,
    }
    #[derive(Clone, Debug, Default, Deserialize, PartialEq)]
    #[serde(default)]
    struct Outer {
        inner: Many,
    }
    let store = Store::default();
    let props = Properties::builder().source(store.clone()).build().unwrap();
    let _many = props.bind::<Many>("many").build().unwrap();
    let other = props.bind::<Outer>("other").build().unwrap();
    let bad = ["many.a", "many.b", "many.c", "many.d", "many.e"].map(|key| (key, v("x")));
    let of_other = [("other.inner.a", v("x")), ("other.inner.b", v(2))];
    store.set(bad.into_iter().chain(of_other));
    assert_eq!(other.get().inner.b, 2);
}

#[test]
fn one_bad_secret_in_a_map_of_a_thousand_rejects_no_other_secret() {
    let store = Store::default();
    let props = Properties::builder().source(store.clone()).build().unwrap();
    let numbers = props.bind::<Numbers>("m").build().unwrap();
    let names: Vec<String> = (0..1_000).map(|i| format!("m.k{i}")).collect();
    let value = |i: usize| if i == 700 { v("x") } else { v(i.to_string()) };
    let entries = names.iter().enumerate();
    store.set(entries.map(|(i, name)| (&**name, value(i))));
    assert_eq!(numbers.get().all.len(), 999);
    let explained = props.explain("m.k700");
    assert!(!explained.rejected.is_empty(), "{explained}");
}

#[test]
fn the_last_report_counts_hundreds_of_rejected_keys_that_no_report_names() {
    let store = Store::default();
    let props = Properties::builder().source(store.clone()).build().unwrap();
    let numbers = props.bind::<Numbers>("m").build().unwrap();
    let names: Vec<String> = (0..400).map(|i| format!("m.k{i}")).collect();
    let value = |i: usize| {
        if i % 2 == 0 { v("x") } else { v(i.to_string()) }
    };
    let entries = names.iter().enumerate();
    store.set(entries.map(|(i, name)| (&**name, value(i))));
    assert_eq!(numbers.get().all.len(), 0);
    let rejected = props.health().rejected;
    let text = rejected.last().unwrap().error.to_string();
    assert!(text.contains("more keys are rejected with it"), "{text}");
    // The bad keys that were found are reported too.
    let explained = props.explain("m.k0");
    assert!(!explained.rejected.is_empty(), "{explained}");
}

#[test]
fn a_bad_value_with_several_handles_on_it_is_one_problem() {
    #[derive(Clone, Debug, Deserialize, PartialEq)]
    struct Server {
        port: u16,
        #[serde(default)]
        size: u16,
    }
    let memory = Memory::from([("s.port", v(80))]);
    let store = Store::default();
    let props = Properties::builder()
        .source(memory.clone())
        .source(store.clone())
        .build()
        .unwrap();
    let _server = props.bind::<Server>("s").build().unwrap();
    let _port = props.property::<u16>("s.port").build().unwrap();
    let error = memory.set("s.port", "many").unwrap_err();
    assert_eq!(error.iter().count(), 1, "{error}");
    assert!(error.to_string().starts_with("`s.port`: "), "{error}");
    // The struct reports another problem beside it.
    let origin = || Origin::new("store", "test");
    let bad = Update::delta()
        .set("s.port", "many", origin())
        .and_then(|update| update.set("s.size", "big", origin()))
        .and_then(|update| update.set("good", 1, origin()))
        .unwrap();
    let updates = store.0.lock().unwrap().updates.clone().unwrap();
    let outcome = updates.send(bad).unwrap();
    let problems: Vec<String> = outcome
        .rejected
        .iter()
        .flat_map(Error::iter)
        .map(ToString::to_string)
        .collect();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert_eq!(props.get::<u32>("good").unwrap(), 1);
}
