//! Secrets that a type has not come to, since its value cannot be read, are marked all the same.

use super::*;

#[derive(Debug, Deserialize)]
#[serde(tag = "kind")]
#[allow(dead_code)] // only decoded
enum Store {
    S3 { sesame: Secret<String>, parts: u32 },
    Disk { path: String },
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
#[allow(dead_code)] // only decoded
enum Login {
    Token {
        opener: Secret<String>,
        ttl: u32,
    },
    Pair {
        who: String,
        word: Secret<String>,
        n: u8,
    },
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)] // only decoded
struct Alpha {
    alpha: Secret<String>,
    beta: u16,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)] // only decoded
struct Beside<T> {
    #[serde(flatten)]
    inner: Alpha,
    level: T,
}

/// The keys that a failed read marks as secrets.
fn marked<T: DeserializeOwned + std::fmt::Debug>(value: Value) -> Vec<String> {
    let node = Node::of(value, &origin());
    let mut secrets = SecretKeys::default();
    let error = from_node_recording::<T>("x", Some(&node), false, &mut secrets).unwrap_err();
    let shown = error.to_string();
    assert!(!shown.contains("hunter2"), "{shown}");
    let mut keys = secrets.certain;
    keys.append(&mut secrets.possible);
    keys.sort_unstable();
    keys
}

fn store(kind: Option<&str>) -> Value {
    let kind = kind.map(|kind| ("kind", Value::from(kind)));
    let rest = [("sesame", "hunter2abc".into()), ("parts", 1.into())];
    table(kind.into_iter().chain(rest))
}

#[test]
fn the_secrets_of_a_tagged_enum_are_marked_if_its_tag_is_wrong_or_missing() {
    assert_eq!(marked::<Store>(store(Some("S4"))), ["x.sesame"]);
    assert_eq!(marked::<Store>(store(None)), ["x.sesame"]);
    let list = || Value::from(vec![store(Some("S3")), store(Some("S4"))]);
    let keys = marked::<Vec<Store>>(list());
    assert!(keys.contains(&"x.1.sesame".to_owned()), "{keys:?}");
    let map = table([("a", store(None))]);
    let mut keys = marked::<BTreeMap<String, Store>>(map);
    // `*` hides a text in the place of the table, and no key below it.
    keys.retain(|key| key != "x.a.*");
    assert_eq!(keys, ["x.a.sesame"]);
    // Again, with the answers that the thread has kept.
    assert_eq!(marked::<Store>(store(Some("S4"))), ["x.sesame"]);
}

#[test]
fn the_secrets_of_an_untagged_enum_are_marked_if_no_variant_can_be_read() {
    let pair = || {
        table([
            ("who", "u".into()),
            ("word", "hunter2abc".into()),
            ("n", Value::from(-1)),
        ])
    };
    assert_eq!(marked::<Login>(pair()), ["x.word"]);
    let token = table([("opener", "hunter2abc".into()), ("ttl", "soon".into())]);
    assert_eq!(marked::<Login>(token), ["x.opener"]);
    let keys = marked::<Vec<Login>>(vec![pair()].into());
    assert!(keys.contains(&"x.0.word".to_owned()), "{keys:?}");
    assert!(!keys.contains(&"x.0.who".to_owned()), "{keys:?}");
}

#[test]
fn a_text_in_place_of_a_struct_with_a_flattened_secret_beside_other_fields_is_masked() {
    assert!(!marked::<Beside<u8>>("hunter2abc".into()).is_empty());
    assert!(!marked::<Beside<bool>>("hunter2abc".into()).is_empty());
    assert!(!marked::<Beside<Duration>>("hunter2abc".into()).is_empty());
    assert!(!marked::<Beside<ByteSize>>("hunter2abc".into()).is_empty());
    assert!(!marked::<Beside<IpAddr>>("hunter2abc".into()).is_empty());
    assert!(!marked::<Beside<NonZeroU32>>("hunter2abc".into()).is_empty());
    assert!(!marked::<Beside<Vec<u8>>>("hunter2abc".into()).is_empty());
    assert!(!marked::<Beside<Mode>>("hunter2abc".into()).is_empty());
}
