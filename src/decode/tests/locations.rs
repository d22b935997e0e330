//! An error names the key of the bad value, and the type that the field of that key expects.

use super::*;

#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
#[allow(dead_code)] // only decoded
enum Tagged {
    A {
        c: char,
        l: Vec<u16>,
        b: bool,
        ip: std::net::IpAddr,
        part_size: ByteSize,
    },
}

fn tagged(changes: &[(&str, Value)]) -> Error {
    let mut entries: Vec<(&str, Value)> = vec![
        ("v.kind", "a".into()),
        ("v.c", "x".into()),
        ("v.l", Value::from(vec![Value::from(1)])),
        ("v.b", "on".into()),
        ("v.ip", "::1".into()),
        ("v.part_size", "1 kB".into()),
    ];
    for (key, value) in changes {
        entries.retain(|(other, _)| other != key);
        entries.push((key, value.clone()));
    }
    bind::<BTreeMap<String, Tagged>>(&entries).unwrap_err()
}

#[test]
fn each_bad_field_of_a_tagged_enum_is_named_with_its_own_type() {
    let error = tagged(&[
        ("v.c", "ab".into()),
        ("v.l", Value::from(vec![Value::from(70_000)])),
    ]);
    assert_eq!(keys(&error), ["v.c", "v.l.0"], "{error}");
    let errors: Vec<_> = error.iter().collect();
    assert_eq!(errors[0].expected(), Some("a character"), "{error}");
    assert_eq!(errors[1].expected(), Some("u16"), "{error}");
}

#[test]
fn each_bad_text_of_a_tagged_enum_is_named() {
    let error = tagged(&[
        ("v.c", "ab".into()),
        ("v.l", "70000".into()),
        ("v.b", "maybe".into()),
        ("v.ip", "localhost".into()),
        ("v.part_size", "1x".into()),
    ]);
    let mut named = keys(&error);
    named.sort_unstable();
    assert_eq!(
        named,
        ["v.b", "v.c", "v.ip", "v.l.0", "v.part_size"],
        "{error}"
    );
    for error in error.iter() {
        assert_ne!(error.expected(), Some("Tagged"), "{error}");
    }
}

#[test]
fn a_bad_size_in_a_tagged_enum_wants_a_size() {
    for bad in ["1x", "64k", "-1"] {
        let error = tagged(&[("v.part_size", bad.into())]);
        assert_eq!(keys(&error), ["v.part_size"], "{error}");
        assert_eq!(error.expected(), Some("ByteSize"), "{error}");
    }
}

#[test]
fn a_field_of_a_text_with_a_secret_is_named() {
    #[derive(Debug, Deserialize)]
    #[allow(dead_code)] // only decoded
    struct Db {
        host: String,
        password: Secret<String>,
        port: u16,
    }
    for text in [
        "host=a,password=hunter2,port=xyz",
        "{\"host\":\"a\",\"password\":\"hunter2\",\"port\":\"xyz\"}",
    ] {
        let error = bind::<BTreeMap<String, Db>>(&[("d", text.into())]).unwrap_err();
        assert_eq!(keys(&error), ["d.port"], "{text}: {error}");
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn only_a_value_that_serde_buffers_is_said_to_be_buffered() {
    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    #[allow(dead_code)] // only decoded
    enum Level {
        Low,
        High,
    }
    #[derive(Debug, Deserialize)]
    #[allow(dead_code)] // only decoded
    struct Plain {
        level: Option<Level>,
        size: ByteSize,
        sizes: Vec<ByteSize>,
    }
    let entries = [
        ("level", Value::from("huge")),
        ("size", Value::from(1.5)),
        ("sizes", Value::from(vec![Value::from(-1)])),
    ];
    let error = bind::<Plain>(&entries).unwrap_err();
    assert_eq!(keys(&error), ["level", "size", "sizes.0"], "{error}");
    assert!(!error.to_string().contains("buffers"), "{error}");
    let error = read::<ByteSize>(1.5).unwrap_err();
    assert!(!error.to_string().contains("buffers"), "{error}");
    let flat = tagged(&[("v.b", "maybe".into())]);
    assert!(flat.to_string().contains("buffers"), "{flat}");
}

#[test]
fn no_message_names_the_inside_of_serde() {
    #[derive(Debug, Deserialize)]
    #[serde(untagged)]
    #[allow(dead_code)] // only decoded
    enum Either {
        Number(u8),
        Table { b: u8 },
    }
    #[derive(Debug, Deserialize)]
    #[allow(dead_code)] // only decoded
    struct Flat {
        #[serde(flatten)]
        all: BTreeMap<String, Vec<u8>>,
    }
    let null = || Value::from(vec![Value::Unset]);
    let errors = [
        from_node::<Either>("k", None, false).unwrap_err(),
        from_node::<Option<Either>>("k", Some(&Node::of("x".into(), &origin())), false)
            .unwrap_err(),
        from_node::<Tagged>("k", None, false).unwrap_err(),
        read::<Vec<Either>>(null()).unwrap_err(),
        read::<Vec<Tagged>>(null()).unwrap_err(),
        read::<Tagged>("x").unwrap_err(),
        read::<Tagged>(1).unwrap_err(),
        bind::<Flat>(&[("x", null())]).unwrap_err(),
        bind::<Flat>(&[("x", 1.into())]).unwrap_err(),
        tagged(&[("v.l", null())]),
        from_table::<Either>("k", None, false).unwrap_err(),
    ];
    for error in errors {
        let shown = error.to_string();
        for inside in ["Content", "any value", "__", "Visitor"] {
            assert!(!shown.contains(inside), "{shown}");
        }
    }
    let error = from_node::<Either>("k", None, false).unwrap_err();
    assert_eq!(error.expected(), Some("Either"), "{error}");
    let error = read::<Vec<Either>>(null()).unwrap_err();
    assert_eq!(error.expected(), Some("Either"), "{error}");
}

#[test]
fn a_missing_field_names_the_type_that_is_wanted() {
    #[derive(Debug, Deserialize)]
    #[allow(dead_code)] // only decoded
    struct Web {
        port: u16,
        host: String,
        list: Vec<u8>,
    }
    #[derive(Debug, Deserialize)]
    #[allow(dead_code)] // only decoded
    struct All {
        web: Web,
        storage: Tagged,
    }
    let error = bind::<All>(&[("web.host", "a".into())]).unwrap_err();
    assert_eq!(keys(&error), ["web.port", "web.list", "storage"], "{error}");
    let wanted: Vec<_> = error.iter().map(Error::expected).collect();
    assert_eq!(
        wanted,
        [Some("u16"), Some("Vec<u8>"), Some("Tagged")],
        "{error}"
    );
    for error in error.iter() {
        assert!(error.to_string().contains("not set"), "{error}");
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}

#[test]
fn an_absent_table_that_is_read_as_a_scalar_is_not_set() {
    let error = from_table::<u32>("zz", None, false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.to_string().contains("not set"), "{error}");
}

#[test]
fn a_null_in_a_list_is_named_as_null() {
    let list = Value::from(vec![Value::from(1), Value::Unset, Value::from(3)]);
    let error = read::<Vec<u8>>(list).unwrap_err();
    assert_eq!(error.key_text(), Some("k.1"), "{error}");
    let shown = error.to_string();
    assert!(shown.contains("null") && shown.contains("u8"), "{shown}");
    assert!(!shown.contains("no layer"), "{shown}");
}
