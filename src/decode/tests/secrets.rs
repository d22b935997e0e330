//! No error shows a secret, and the keys that are read as secrets are recorded.

use super::*;

#[test]
fn secrets_are_in_no_message() {
    let planted = "hunter2";
    fn check<T: DeserializeOwned + std::fmt::Debug>(result: Result<T, Error>) {
        let error = result.unwrap_err();
        for shown in [
            format!("{error}"),
            format!("{error:?}"),
            format!("{error:#?}"),
        ] {
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
    fn types<T: DeserializeOwned + std::fmt::Debug>(key: &str, value: Value, masked: bool) {
        let result = from_value::<T>(key, &value, &origin(), masked);
        if result.is_err() {
            check(result);
        }
    }
    for (key, masked) in [
        ("plain", true),
        ("db.password", false),
        ("a.token.b", false),
    ] {
        for value in [
            planted.into(),
            "hunter2=1, x".into(),
            "hunter2=x".into(),
            "hunter2,hunter2".into(),
            Value::from(vec![planted]),
            BTreeMap::from([("x", planted)]).into(),
            "u://hunter2@h".into(),
            "[hunter2".into(),
        ] {
            let value: Value = value;
            types::<u8>(key, value.clone(), masked);
            types::<f64>(key, value.clone(), masked);
            types::<bool>(key, value.clone(), masked);
            types::<char>(key, value.clone(), masked);
            types::<IpAddr>(key, value.clone(), masked);
            types::<Loud>(key, value.clone(), masked);
            types::<Mode>(key, value.clone(), masked);
            types::<Tagged>(key, value.clone(), masked);
            types::<Untagged>(key, value.clone(), masked);
            types::<Shape>(key, value.clone(), masked);
            types::<Duration>(key, value.clone(), masked);
            types::<ByteSize>(key, value.clone(), masked);
            types::<Vec<u8>>(key, value.clone(), masked);
            types::<HashMap<String, u8>>(key, value.clone(), masked);
            types::<HashMap<u8, u8>>(key, value.clone(), masked);
            types::<Nothing>(key, value.clone(), masked);
            types::<Outer>(key, value.clone(), masked);
        }
    }
    check(read::<Secret<u8>>(planted));
    check(read::<Secret<Loud>>(planted));
    check(read::<Vec<Secret<u8>>>("hunter2,1"));
    check(read::<Option<Secret<IpAddr>>>(planted));
    check(read::<u8>("postgres://me:hunter2@db"));
    check(read::<Loud>("postgres://me:hunter2@db"));
    check(bind::<Login>(&[("word", planted.into())]));
    check(bind::<FlatSecret>(&[("plain", planted.into())]));
    check(bind::<FlatName>(&[("api_key", planted.into())]));
    check(bind::<HashMap<String, u8>>(&[("password", planted.into())]));
    let node = Node::Resolved(Box::new(Resolved {
        value: Ok(planted.into()),
        raw: Leaf::new("${x}".into(), origin()),
        chain: 1,
        secret: true,
        refers: Box::default(),
        fixed: false,
    }));
    let error = from_node::<u8>("k", Some(&node), false).unwrap_err();
    assert_eq!(error.found(), Some(MASK));
    check::<u8>(Err(error));
}

#[test]
fn the_keys_read_as_secrets_are_noted() {
    let document = document(&text(&[("a", "1"), ("b.c", "2"), ("d", "3")]));
    #[derive(Deserialize)]
    #[allow(dead_code)] // only decoded
    struct Holder {
        a: Secret<u8>,
        b: HashMap<String, Secret<String>>,
        d: u8,
    }
    let mut secrets = SecretKeys::default();
    from_table_recording::<Holder>("app", Some(document.root()), false, &mut secrets).unwrap();
    assert_eq!(secrets.certain, ["app.a", "app.b.c"]);
    let node = Node::of("x".into(), &origin());
    from_node_recording::<Secret<String>>("k", Some(&node), false, &mut secrets).unwrap();
    assert_eq!(secrets.certain.last().map(String::as_str), Some("k"));
    assert!(secrets.possible.is_empty());
}

#[derive(Debug)]
#[allow(dead_code)] // only decoded
struct Wrapper(Vec<Secret<Loud>>);

impl<'de> Deserialize<'de> for Wrapper {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let inner = Vec::deserialize(deserializer);
        inner
            .map(Wrapper)
            .map_err(|e| serde::de::Error::custom(format!("wrapped: {e}")))
    }
}

#[test]
fn a_type_that_wraps_an_error_cannot_show_a_secret() {
    let error = read::<Wrapper>("hunter2, x").unwrap_err();
    assert!(
        !format!("{error:?}")
            .split("found")
            .next()
            .unwrap()
            .contains("hunter2"),
        "{error}"
    );
}
