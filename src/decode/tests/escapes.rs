//! Quotes, escapes and null in text mean the same in lists, maps and braces.

use super::*;

type Lists = BTreeMap<String, Vec<String>>;

#[derive(Debug, Deserialize, PartialEq)]
#[serde(untagged)]
enum Untagged {
    List(Vec<String>),
}

#[derive(Debug, Deserialize, PartialEq)]
struct Lines {
    a: Vec<String>,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Flat {
    #[serde(flatten)]
    lines: Lines,
}

/// The text of a list in each of its notations, and the items that it means.
const LISTS: [(&str, &[&str]); 12] = [
    (r#"["l1\nl2","\u00fcber"]"#, &["l1\nl2", "über"]),
    (
        r#"["a\tb", "c\/d", "\r\b\f"]"#,
        &["a\tb", "c/d", "\r\u{8}\u{c}"],
    ),
    (r#"["\ud83d\ude00"]"#, &["\u{1f600}"]),
    (r#"["a\\nb", "\"q\""]"#, &["a\\nb", "\"q\""]),
    (r#"["C:\\x", "]\\"]"#, &["C:\\x", "]\\"]),
    (r#""a\nb", c"#, &["a\nb", "c"]),
    (r#"["a\nb", c\n]"#, &["a\nb", "c\\n"]),
    (r"['\\srv\x']", &[r"\\srv\x"]),
    (r"'\\srv\x', b", &[r"\\srv\x", "b"]),
    (r#"['a\"b', 'x\']"#, &[r#"a\"b"#, r"x\"]),
    (r"\\srv\x, b", &[r"\\srv\x", "b"]),
    (r#"['say "a"', "it's"]"#, &["say \"a\"", "it's"]),
];

#[test]
fn an_item_in_double_quotes_has_the_escapes_of_json_and_one_in_single_quotes_has_none() {
    for (text, items) in LISTS {
        assert_eq!(read::<Vec<String>>(text).unwrap(), items, "{text}");
        let any = items.iter().map(|item| Value::from(*item));
        assert_eq!(
            read::<Vec<Value>>(text).unwrap(),
            any.collect::<Vec<_>>(),
            "{text}"
        );
        let untagged = Untagged::List(items.iter().map(ToString::to_string).collect());
        assert_eq!(read::<Untagged>(text).unwrap(), untagged, "{text}");
        let entries = [("a", Value::from(text))];
        let lines = bind::<Lines>(&entries).unwrap();
        assert_eq!(bind::<Flat>(&entries).unwrap(), Flat { lines }, "{text}");
        let nested = read::<Vec<Vec<String>>>(format!("[[1], {}]", bracketed(text)).as_str());
        assert_eq!(nested.unwrap()[1], items, "{text}");
        let braced = read::<Lists>(format!("{{a = {}}}", bracketed(text)).as_str());
        assert_eq!(braced.unwrap()["a"], items, "{text}");
        let pairs = read::<Lists>(format!("b=1, a={}", bracketed(text)).as_str());
        assert_eq!(pairs.unwrap()["a"], items, "{text}");
    }
}

fn bracketed(text: &str) -> String {
    if text.starts_with('[') {
        text.to_owned()
    } else {
        format!("[{text}]")
    }
}

#[test]
fn a_value_of_a_map_has_the_same_escapes_as_an_item() {
    for (text, value) in [
        (r#"a="x\ny""#, "x\ny"),
        (r#"{a="x\ny"}"#, "x\ny"),
        (r#"{"a":"x\ny"}"#, "x\ny"),
        (r#"a="\u00fc""#, "ü"),
        (r#"a="x\"y""#, "x\"y"),
        (r#"a="\\srv""#, r"\srv"),
        (r"a='\\srv\x'", r"\\srv\x"),
        (r"{a='\\srv\x'}", r"\\srv\x"),
        (r"a='x\ny'", r"x\ny"),
        (r"{a='x\ny'}", r"x\ny"),
        (r"a=C:\\x", r"C:\\x"),
    ] {
        let map: BTreeMap<String, String> = read(text).unwrap();
        assert_eq!(map["a"], value, "{text}");
    }
}

#[test]
fn an_unknown_escape_is_an_error_everywhere() {
    for text in [
        r#"["\q"]"#,
        r#""\q", b"#,
        r#"a="\q""#,
        r#"{a="\q"}"#,
        r#"["C:\x"]"#,
    ] {
        let errors = [
            read::<Vec<String>>(text).err(),
            read::<BTreeMap<String, String>>(text).err(),
        ];
        let is_named = |error: &Error| error.to_string().contains("an unknown escape in quotes");
        assert!(errors.iter().flatten().any(is_named), "{text}: {errors:?}");
    }
}

#[test]
fn null_in_the_text_of_a_json_list_is_null() {
    let error = read::<Vec<String>>(r#"["a", null]"#).unwrap_err();
    assert_eq!(keys(&error), ["k.1"], "{error}");
    assert!(error.to_string().contains(NULL_ITEM), "{error}");
    let options = read::<Vec<Option<String>>>(r#"["a", null]"#).unwrap();
    assert_eq!(options, [Some("a".to_owned()), None]);
    assert_eq!(
        read::<Vec<Option<u8>>>("[1,null]").unwrap(),
        [Some(1), None]
    );
    assert_eq!(read::<Vec<Option<u8>>>("[null]").unwrap(), [None]);
    assert_eq!(
        read::<Vec<String>>(r#"["null", "a"]"#).unwrap(),
        ["null", "a"]
    );
    // No JSON.
    assert_eq!(read::<Vec<String>>("[a, null]").unwrap(), ["a", "null"]);
    assert_eq!(read::<Vec<String>>("a, null").unwrap(), ["a", "null"]);
    let items = items(&Value::from(r#"["a", null]"#)).unwrap();
    assert_eq!(items, [Value::from("a"), Value::Unset]);
}

#[test]
fn null_in_a_list_is_the_same_in_text_and_in_a_document() {
    let document = Value::from(vec![Value::from("a"), Value::Unset]);
    let text = Value::from(r#"["a", null]"#);
    fn both<T: DeserializeOwned + std::fmt::Debug + PartialEq>(one: &Value, other: &Value) {
        let one = read::<T>(one.clone());
        let other = read::<T>(other.clone());
        match (one, other) {
            (Ok(one), Ok(other)) => assert_eq!(one, other),
            (one, other) => {
                let (one, other) = (one.unwrap_err(), other.unwrap_err());
                assert_eq!(one.to_string(), other.to_string());
            }
        }
    }
    both::<Vec<String>>(&document, &text);
    both::<Vec<Option<String>>>(&document, &text);
    both::<Vec<Value>>(&document, &text);
    both::<Untagged>(&document, &text);
    both::<(String, Option<u8>)>(&document, &text);
}
