//! Which errors a failed request reports, with their keys, kinds and texts.

use super::*;

#[test]
fn three_broken_fields_of_twelve_give_one_error_with_three_keys() {
    let mut entries = TWELVE;
    assert!(bind::<Twelve>(&text(&entries)).is_ok());
    entries[1].1 = "65536";
    entries[7].1 = "5";
    entries[10].1 = "nowhere";
    let error = bind::<Twelve>(&text(&entries)).unwrap_err();
    assert_eq!(keys(&error), ["b", "h", "k"]);
    let shown = error.to_string();
    assert!(shown.contains("u16 (0 to 65535)"), "{shown}");
    assert!(
        shown.contains("`30s`") && shown.contains("file app.toml:11:1"),
        "{shown}"
    );
}

#[test]
fn every_field_can_be_broken_at_once() {
    let entries: Vec<_> = TWELVE.map(|(key, _)| (key, "[")).to_vec();
    let error = bind::<Twelve>(&text(&entries)).unwrap_err();
    // Only text and a single character may be a bracket.
    assert_eq!(
        keys(&error),
        ["a", "b", "c", "d", "e", "f", "h", "i", "k", "l"]
    );
}

#[test]
fn missing_and_bad_fields_are_reported_together() {
    let mut entries = TWELVE.to_vec();
    entries[2].1 = "x";
    entries.remove(0);
    entries.pop();
    let error = bind::<Twelve>(&text(&entries)).unwrap_err();
    assert_eq!(keys(&error), ["c", "a", "l"]);
    let kinds: Vec<_> = error.iter().map(Error::kind).collect();
    assert_eq!(
        kinds,
        [
            ErrorKind::Mismatch,
            ErrorKind::NotFound,
            ErrorKind::NotFound
        ]
    );
    let error = from_table::<Twelve>("svc", None, false).unwrap_err();
    assert_eq!(error.iter().count(), 11);
    assert_eq!(error.key_text(), Some("svc.a"));
}

#[test]
fn nested_problems_are_all_found_with_their_full_keys() {
    let error = bind::<Outer>(&text(&[
        ("inner.x", "300"),
        ("inner.y", "0"),
        ("list.0.x", "1"),
        ("list.0.y", "1"),
        ("list.1.x", "b"),
        ("map.\"a.b\".x", "c"),
        ("map.\"a.b\".y", "7"),
        ("typo", "1"),
        ("extra", "-1"),
    ]))
    .unwrap_err();
    assert_eq!(
        keys(&error),
        [
            "extra",
            "inner.x",
            "inner.y",
            "list.1.x",
            "list.1.y",
            "map.\"a.b\".x",
            "typo"
        ]
    );
    assert!(error.to_string().contains("unknown field"), "{error}");
}

#[test]
fn missing_empty_and_malformed_are_three_things() {
    let missing = from_node::<u32>("k", None, false).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert_eq!(missing.key_text(), Some("k"));
    let unset = Node::Leaf(Leaf::new(Value::Unset, origin()));
    assert_eq!(
        from_node::<u32>("k", Some(&unset), false)
            .unwrap_err()
            .kind(),
        ErrorKind::NotFound
    );
    assert_eq!(from_node::<Option<u32>>("k", None, false).unwrap(), None);
    let empty = read::<u32>("").unwrap_err();
    assert!(empty.to_string().contains("empty text"), "{empty}");
    let malformed = read::<u32>("abc").unwrap_err();
    assert_eq!(
        malformed.to_string(),
        "`k`: not an integer, expected u32, found text \"abc\" (file app.toml:3:7)"
    );
    let range = read::<u8>(300).unwrap_err();
    assert_eq!(
        range.to_string(),
        "`k`: out of range, expected u8 (0 to 255), found integer 300 (file app.toml:3:7)"
    );
}

#[test]
fn problems_of_flattened_fields_name_the_field() {
    let mut entries = FLAT;
    entries[0].1 = "x";
    entries[1].1 = "many";
    entries[5].1 = "300";
    let error = bind::<Flat>(&text(&entries)).unwrap_err();
    assert_eq!(keys(&error), ["id", "limit", "twin"]);
    let error = bind::<Flat>(&text(&entries[1..])).unwrap_err();
    assert!(keys(&error).contains(&"id".to_string()), "{error}");
}

#[test]
fn words_of_a_users_type_are_kept_when_nothing_is_secret() {
    let error = read::<Loud>("x").unwrap_err();
    assert!(error.to_string().contains("cannot use x"), "{error}");
    let error = read::<Vec<IpAddr>>("::1, nowhere").unwrap_err();
    assert_eq!(error.key_text(), Some("k.1"));
    assert_eq!(error.expected(), Some("IpAddr"));
}

#[test]
fn an_unresolved_reference_is_its_own_error() {
    let fault = Error::new(ErrorKind::Reference, "a cycle").with_key_text("k");
    let node = Node::Resolved(Box::new(Resolved {
        value: Err(fault),
        raw: Leaf::new("${k}".into(), origin()),
        chain: 1,
        secret: false,
        refers: Box::default(),
        fixed: false,
    }));
    assert_eq!(
        from_node::<u8>("k", Some(&node), false).unwrap_err().kind(),
        ErrorKind::Reference
    );
    assert!(from_node::<Option<u8>>("k", Some(&node), false).is_err());
    assert!(from_node::<IgnoredAny>("k", Some(&node), false).is_ok());
}

#[test]
fn a_struct_that_is_bad_as_a_whole_hides_no_other_problem() {
    let bad = text(&[("first", "5"), ("second", "x"), ("third", "y")]);
    let error = bind::<Around>(&bad).unwrap_err();
    assert_eq!(keys(&error), ["first", "second", "third"]);
}

#[test]
fn a_long_value_is_cut_in_a_message() {
    let error = read::<u8>("x".repeat(5000)).unwrap_err();
    assert!(error.found().unwrap().chars().count() <= 42, "{error}");
}

#[test]
fn defaults_fill_an_absent_table() {
    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(default)]
    struct Limits {
        burst: u32,
        every: Duration,
    }
    impl Default for Limits {
        fn default() -> Self {
            let every = Duration::from_secs(1);
            Self { burst: 10, every }
        }
    }
    assert_eq!(
        from_table::<Limits>("x", None, false).unwrap(),
        Limits::default()
    );
    let some: Limits = bind(&text(&[("burst", "5")])).unwrap();
    assert_eq!(some.burst, 5);
    assert_eq!(
        from_node::<Limits>("x", None, false).unwrap_err().kind(),
        ErrorKind::NotFound
    );
}
