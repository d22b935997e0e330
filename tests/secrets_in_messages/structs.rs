//! A value that stands where a struct with a secret belongs is not shown; neighbours of secrets are.

use super::*;

/// What can be read in any way.
trait Reads: serde::de::DeserializeOwned + Debug + Send + Sync + 'static {}

impl<T: serde::de::DeserializeOwned + Debug + Send + Sync + 'static> Reads for T {}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
#[allow(dead_code)] // only decoded
enum Auth {
    Token {
        token: Secret<String>,
    },
    Login {
        user: String,
        pass: Option<Secret<String>>,
    },
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)] // only decoded
struct Plain {
    host: String,
    password: Secret<String>,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)] // only decoded
struct Optional {
    host: Option<String>,
    code: Option<Secret<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "kind")]
#[allow(dead_code)] // only decoded
enum Tagged {
    Open {},
    Locked { code: Secret<String> },
}

#[derive(Debug, Deserialize)]
#[serde(tag = "t", content = "c")]
#[allow(dead_code)] // only decoded
enum Adjacent {
    Open,
    Locked { code: Secret<String> },
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)] // only decoded
enum External {
    Open,
    Locked { code: Secret<String> },
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)] // only decoded
struct Flat {
    host: String,
    #[serde(flatten)]
    plain: Inner,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)] // only decoded
struct Inner {
    port: u16,
    phrase: Secret<String>,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)] // only decoded
struct Around<T> {
    peer: T,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)] // only decoded
struct Flattened<T> {
    #[serde(flatten)]
    around: Around<T>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
#[allow(dead_code)] // only decoded
enum Either<T> {
    Around { peer: T },
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)] // only decoded
struct Nested<T> {
    more: T,
}

/// Reads a struct of which the field `peer` is a text, in whatever way.
#[track_caller]
fn hides_peer<T: Reads>(what: &str) {
    let read = |read: fn(&Properties) -> Result<(), Error>| {
        let props = of(Format::yaml(), "app:\n  peer: hunter2zz\n  other: 1\n");
        let shown = hidden(read(&props));
        assert!(shown.contains("app"), "{what}: {shown}");
        let explained = props.explain("app.peer");
        is_hidden(format!("{explained} {explained:?}"));
        is_hidden(format!("{:?}", props.health()));
    };
    read(|props| props.get::<Around<T>>("app").map(drop));
    read(|props| props.get::<T>("app.peer").map(drop));
    read(|props| props.snapshot().bind::<Around<T>>("app").map(drop));
    read(|props| props.bind::<Around<T>>("app").build().map(drop));
    read(|props| props.get::<Flattened<T>>("app").map(drop));
    read(|props| props.get::<Either<T>>("app").map(drop));
}

#[test]
fn a_text_where_a_struct_with_a_secret_belongs_is_not_shown() {
    hides_peer::<Plain>("plain");
    hides_peer::<Optional>("optional");
    hides_peer::<External>("external");
    hides_peer::<Nested<Plain>>("nested");
    hides_peer::<Option<Plain>>("option");
}

#[test]
fn a_text_where_a_buffered_type_with_a_secret_belongs_is_not_shown() {
    hides_peer::<Auth>("untagged");
    hides_peer::<Tagged>("tagged");
    hides_peer::<Adjacent>("adjacent");
    hides_peer::<Flat>("flattened");
    hides_peer::<Nested<Auth>>("nested");
    hides_peer::<Option<Tagged>>("option");
}

#[test]
fn an_item_where_a_struct_with_a_secret_belongs_is_not_shown() {
    fn check<T: Reads>() {
        let props = of(Format::yaml(), "app:\n  peers: [hunter2zz]\n");
        hidden(props.get::<std::collections::BTreeMap<String, Vec<T>>>("app"));
        is_hidden(props.explain("app.peers").to_string());
        is_hidden(props.explain("app.peers.0").to_string());
    }
    check::<Plain>();
    check::<Auth>();
    check::<Tagged>();
}

#[test]
fn the_other_fields_are_shown_once_the_struct_is_written_as_one() {
    let memory = Memory::from([("app.peer", SECRET)]);
    let props = Properties::builder()
        .source(memory.clone())
        .build()
        .unwrap();
    hidden(props.get::<Around<Plain>>("app"));
    hidden(props.get::<Around<Auth>>("app"));
    memory.remove("app.peer").unwrap();
    memory.set("app.peer.host", "h-1").unwrap();
    let explained = props.explain("app.peer.host").to_string();
    assert!(explained.contains("h-1"), "{explained}");
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
#[allow(dead_code)] // only decoded
enum Size {
    Number(u32),
    Range { min: u32, max: u32 },
}

#[test]
fn a_text_where_a_struct_without_a_secret_belongs_is_shown() {
    fn check<T: Reads>(what: &str) {
        let props = of(Format::yaml(), "app:\n  peer: big\n  password: hunter2zz\n");
        for error in [
            props.get::<Around<T>>("app").unwrap_err(),
            props.get::<Flattened<T>>("app").unwrap_err(),
            props.get::<Either<T>>("app").unwrap_err(),
        ] {
            let shown = hidden(Err::<(), _>(error));
            let is_shown = shown.contains("\"big\"") || shown.contains("table of 2");
            assert!(is_shown, "{what}: {shown}");
        }
        let explained = props.explain("app.peer").to_string();
        assert!(explained.contains("big"), "{explained}");
    }
    check::<Size>("untagged");
    check::<Nested<u32>>("struct");
    check::<Vec<Size>>("list");
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)] // only decoded
struct Limit {
    qps: u32,
    #[serde(default)]
    burst: u32,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)] // only decoded
struct App<T> {
    limit: T,
    #[serde(flatten)]
    login: Login,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)] // only decoded
struct Login {
    user: String,
    phrase: Secret<String>,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)] // only decoded
struct Both<T> {
    #[serde(flatten)]
    login: Login,
    #[serde(flatten)]
    rest: Rest<T>,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)] // only decoded
struct Rest<T> {
    limit: T,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
#[allow(dead_code)] // only decoded
enum Limits {
    Limit(Limit),
}

#[test]
fn an_error_beside_a_flattened_secret_names_its_field_and_what_was_expected() {
    fn check<T: Reads>(what: &str, says: &[&str]) {
        let text = "app:\n  limit: {qps: x}\n  user: me\n  phrase: hunter2zz\n";
        let props = of(Format::yaml(), text);
        let error = props.get::<T>("app").unwrap_err();
        let shown = hidden(Err::<(), _>(error));
        println!("{what}: {shown}");
        assert!(
            says.iter().all(|part| shown.contains(part)),
            "{what}: {shown}"
        );
    }
    let field = ["`app.limit.qps`", "expected u32", "text \"x\""];
    check::<App<Limit>>("struct beside flattened", &field);
    check::<Both<Limit>>("flattened beside flattened", &field);
    let name = "untagged enum Limits";
    check::<Both<Limits>>("untagged beside flattened", &[name, "table of"]);
    check::<App<Limits>>("untagged in struct", &["`app.limit`", name, "table of 1"]);
}
