//! Text that spells a table, and tables that spell a variant.

use super::*;

#[derive(Debug, Deserialize, PartialEq)]
struct Server {
    url: String,
    #[serde(default)]
    port: u16,
    #[serde(default)]
    tags: Vec<String>,
    inner: Option<Box<Server>>,
}

fn server(url: &str, port: u16) -> Server {
    Server {
        url: url.into(),
        port,
        tags: Vec::new(),
        inner: None,
    }
}

#[test]
fn text_in_braces_is_a_table_where_one_is_wanted() {
    let expected = server("http://h?a=b", 80);
    for text in [
        r#"{"url":"http://h?a=b","port":80}"#,
        r#" { "port" : 80, "url" : "http:\/\/h?a=b", } "#,
        r#"{url = "http://h?a=b", port = 80}"#,
        "{url='http://h?a=b',port=80}",
        r#"{"url":"http://h?a=b","port":"80","inner":null}"#,
        r#"{"url":"http:\u002f\u002fh?a=b","port":8_0}"#,
    ] {
        assert_eq!(read::<Server>(text).unwrap(), expected, "{text}");
    }
    let nested = r#"{"url":"a","tags":["x","y,z","}"],"inner":{"url":"b","tags":[]}}"#;
    let read_nested = read::<Server>(nested).unwrap();
    assert_eq!(read_nested.tags, ["x", "y,z", "}"]);
    assert_eq!(read_nested.inner.unwrap().url, "b");
    let map: BTreeMap<String, u8> = read("{a=1,b=3}").unwrap();
    assert_eq!(map, BTreeMap::from([("a".into(), 1), ("b".into(), 3)]));
    assert_eq!(
        read::<HashMap<String, String>>(r#"{"url":"http://h?a=b"}"#).unwrap()["url"],
        "http://h?a=b"
    );
    assert_eq!(
        read::<BTreeMap<String, String>>(r#"{"v": 1.10, "w": 007}"#).unwrap()["v"],
        "1.10"
    );
    assert!(read::<BTreeMap<String, u8>>("{}").unwrap().is_empty());
    let value: BTreeMap<String, Value> = read(r#"{"a": 1, "b": [true, "1"]}"#).unwrap();
    assert_eq!(value["a"], Value::from(1));
    assert_eq!(value["b"], Value::from(vec![Value::from(true), "1".into()]));
    assert_eq!(read::<String>("{a=1}").unwrap(), "{a=1}");
}

#[test]
fn a_list_of_objects_reads_from_one_text() {
    let expected = [server("http://h?a=b,c", 1), server("x", 0)];
    for text in [
        r#"[{"url":"http://h?a=b,c","port":1},{"url":"x"}]"#,
        r#"[ {url = "http://h?a=b,c", port = 1}, {url = 'x'} ]"#,
        r#"{url = "http://h?a=b,c", port = 1}, {url = 'x'}"#,
    ] {
        assert_eq!(read::<Vec<Server>>(text).unwrap(), expected, "{text}");
    }
    let error = read::<Vec<Server>>(r#"[{"url":"x","port":70000}]"#).unwrap_err();
    assert_eq!(error.key_text(), Some("k.0.port"));
    assert_eq!(
        read::<Vec<String>>("{x},{y").unwrap(),
        ["{x}", "{y"],
        "text with braces stays text"
    );
    let map: BTreeMap<String, BTreeMap<String, u8>> = read("m={a=1,b=2}, n={a=3}").unwrap();
    assert_eq!((map["m"]["b"], map["n"]["a"]), (2, 3));
}

#[test]
fn text_that_is_no_table_is_an_error_that_names_the_forms() {
    for text in [
        "http://h?a=b",
        r#"{"url""#,
        r#"{"url":"x"} y"#,
        "{a}",
        r#"{"a":"\q"}"#,
        "{a=1,a=2}",
        "{a=1",
        r#""{"a":1}""#,
        "x",
    ] {
        let error = read::<HashMap<String, String>>(text).unwrap_err();
        assert_eq!(error.key_text(), Some("k"), "{text}");
        assert!(read::<Server>(text).is_err(), "{text}");
    }
    for error in [
        read::<HashMap<String, u8>>("x").unwrap_err(),
        read::<Server>("http://h").unwrap_err(),
        read::<Server>("http://h?a=b").unwrap_err(),
    ] {
        assert!(error.to_string().contains("write `a=1, b=2`"), "{error}");
    }
    let deep = "{a=".repeat(10_000);
    assert!(read::<Server>(deep).is_err());
}

#[test]
fn a_secret_in_a_text_of_a_table_is_masked_and_the_other_fields_are_not() {
    #[derive(Debug, Deserialize)]
    #[allow(dead_code)] // only decoded
    struct Db {
        port: u16,
        password: u32,
        word: Option<Secret<u32>>,
    }
    let text = r#"{"port": 70000, "password": "hunter2"}"#;
    let error = read::<Db>(text).unwrap_err();
    assert_eq!(keys(&error), ["k.password", "k.port"]);
    let shown = format!("{error} {error:?}");
    assert!(
        !shown.contains("hunter2") && shown.contains("70000"),
        "{shown}"
    );
    for bad in [
        r#"{"port": 1, "password": "hunter2""#,
        r#"{"port": 1, "a": {"api_key": "hunter2"}}}"#,
        r#"[{"password": "hunter2"}, {]"#,
        r#"{"port": 1, "password": 5, "word": "hunter2"}"#,
    ] {
        let error = read::<Db>(bad).unwrap_err();
        let error = format!("{error} {error:?}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    assert!(secret::holds_secret(&r#"{"password": "hunter2"}"#.into()));
    assert!(!secret::holds_secret(&r#"{"port": 1}"#.into()));
}

#[test]
fn a_name_with_null_is_a_unit_variant() {
    let null = || BTreeMap::from([("Unit", Value::Unset)]);
    assert_eq!(read::<Shape>(null()).unwrap(), Shape::Unit);
    let steps = Value::from(vec![Value::from(null()), "unit".into()]);
    assert_eq!(
        read::<Vec<Shape>>(steps).unwrap(),
        [Shape::Unit, Shape::Unit]
    );
    let new = BTreeMap::from([("New", Value::Unset)]);
    assert_eq!(read::<Shape>(new).unwrap_err().key_text(), Some("k.New"));
    let maybe = BTreeMap::from([("Maybe", Value::Unset)]);
    assert_eq!(read::<Shape>(maybe).unwrap(), Shape::Maybe(None));
    let two = BTreeMap::from([("Unit", Value::Unset), ("New", Value::Unset)]);
    assert!(read::<Shape>(two).is_err());
}

#[test]
fn an_error_names_the_type_and_not_how_it_is_read() {
    for error in [
        read::<Tagged>("x").unwrap_err(),
        read::<Vec<Tagged>>("x").unwrap_err(),
        read::<Adjacent>("x").unwrap_err(),
        read::<Untagged>(vec![5]).unwrap_err(),
        read::<Flat>(vec![1]).unwrap_err(),
        read::<BTreeMap<String, Untagged>>(BTreeMap::from([("a", vec![true])])).unwrap_err(),
        bind::<Tagged>(&[("size", 1.into())]).unwrap_err(),
    ] {
        let shown = error.to_string();
        assert!(!shown.contains("impl") && !shown.contains("__"), "{shown}");
    }
}
