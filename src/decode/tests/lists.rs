//! Lists in each of their notations.

use super::*;

#[test]
fn a_list_is_the_same_in_every_spelling() {
    let expected = ["a", "b,c", "d \"e\""].map(String::from).to_vec();
    for spelling in [
        r#"a, "b,c", d "e""#,
        r#" a ,'b,c', "d \"e\"""#,
        r#"a,"b,c",'d "e"',"#,
        r#"[a, "b,c", 'd "e"']"#,
        r#"["a", "b,c", "d \"e\"",]"#,
    ] {
        assert_eq!(
            read::<Vec<String>>(spelling).unwrap(),
            expected,
            "{spelling}"
        );
    }
    assert_eq!(
        read::<Vec<String>>(vec!["a", "b,c", "d \"e\""]).unwrap(),
        expected
    );
    let children = [
        ("a.2", "d \"e\"".into()),
        ("a.1", "b,c".into()),
        ("a.00", "a".into()),
    ];
    assert_eq!(
        bind::<BTreeMap<String, Vec<String>>>(&children).unwrap()["a"],
        expected
    );
    let many: Vec<(String, Value)> = (0..12).map(|n| (format!("a.{n}"), n.into())).collect();
    let many: Vec<(&str, Value)> = many.iter().map(|(k, v)| (&**k, v.clone())).collect();
    let numbers = bind::<BTreeMap<String, Vec<i64>>>(&many).unwrap();
    assert_eq!(
        numbers["a"],
        (0..12).collect::<Vec<_>>(),
        "by number, not by text"
    );
    let gap = [("a.0", "x".into()), ("a.2", "z".into())];
    let error = bind::<BTreeMap<String, Vec<String>>>(&gap).unwrap_err();
    let gap = "item 1 is missing between item 0 (file app.toml:1:1) and item 2";
    assert!(error.to_string().contains(gap), "{error}");
}

#[test]
fn odd_lists_read_as_documented() {
    let list = |text: &str| read::<Vec<String>>(text).unwrap();
    assert_eq!(list(""), [""; 0]);
    assert_eq!(list(" [ ] "), [""; 0]);
    assert_eq!(list("\"\""), [""]);
    assert_eq!(list("a,,b"), ["a", "", "b"]);
    assert_eq!(list("a,"), ["a"]);
    assert_eq!(list("O'Brien, x"), ["O'Brien", "x"]);
    assert_eq!(list(r"'C:\dir', 'a\\b'"), [r"C:\dir", r"a\\b"]);
    assert_eq!(list("[::1]:80, [::2]:80"), ["[::1]:80", "[::2]:80"]);
    assert_eq!(
        read::<Vec<Vec<u8>>>("[[1,2],[3]]").unwrap(),
        [vec![1, 2], vec![3]]
    );
    assert_eq!(
        read::<Vec<Vec<u8>>>(vec!["1,2", "3"]).unwrap(),
        [vec![1, 2], vec![3]]
    );
    assert_eq!(list("héé, 'ü'"), ["héé", "ü"]);
    assert_eq!(read::<BTreeSet<u8>>("1,1,2").unwrap().len(), 2);
    for bad in ["[a", "\"a", "\"a\" b", "[[a]"] {
        assert!(read::<Vec<String>>(bad).is_err(), "{bad}");
    }
    assert_eq!(
        keys(&read::<Vec<u8>>("1,x,,300").unwrap_err()),
        ["k.1", "k.2", "k.3"]
    );
    let twice = [("a.1", "x".into()), ("a.01", "y".into())];
    let error = bind::<BTreeMap<String, Vec<String>>>(&twice).unwrap_err();
    assert_eq!(error.key_text(), Some("a"));
    assert!(bind::<BTreeMap<String, Vec<String>>>(&[("a.x", "y".into())]).is_err());
}

#[test]
fn text_that_nests_without_end_is_rejected() {
    assert!(read::<Nest>("[[],[[]]]").is_ok());
    let deep = "[".repeat(10_000) + &"]".repeat(10_000);
    let error = read::<Nest>(deep).unwrap_err();
    assert!(error.to_string().contains("nested too deep"), "{error}");
}

#[test]
fn a_null_in_a_list_is_none_or_missing() {
    let list = Value::from(vec![Value::from(1), Value::Unset]);
    assert_eq!(
        read::<Vec<Option<u8>>>(list.clone()).unwrap(),
        [Some(1), None]
    );
    let error = read::<Vec<u8>>(list).unwrap_err();
    assert_eq!(
        (error.kind(), error.key_text()),
        (ErrorKind::NotFound, Some("k.1"))
    );
}

#[test]
fn a_text_is_never_split_twice() {
    assert_eq!(
        read::<Vec<String>>(vec!["a,b", "[c]"]).unwrap(),
        ["a,b", "[c]"]
    );
}

#[test]
fn paths_look_inside_lists_and_tables() {
    let value = Value::from(vec![
        BTreeMap::from([("host", "a")]),
        BTreeMap::from([("host", "b")]),
    ]);
    assert_eq!(value.descend(["1", "host"]), Some(&"b".into()));
    assert_eq!(value.descend(["2", "host"]), None);
    assert_eq!(value.descend(["+1"]), None);
    assert_eq!(value.descend([""; 0]), Some(&value));
}
