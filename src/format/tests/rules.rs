//! Rules that each format implements itself: byte order marks, escapes, positions, limits.

use super::*;

#[test]
fn a_second_byte_order_mark_is_rejected() {
    for case in cases() {
        let name = case.format.name();
        let text = case.document(&[("a", "1")]);
        let error = case.parse(format!("\u{feff}\u{feff}{text}")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{name}: {error}");
        assert!(
            error.to_string().contains("byte order mark"),
            "{name}: {error}"
        );
        // Joined files have one inside.
        let second = case.document(&[("a", "1"), ("\u{feff}b", "1")]);
        assert!(case.parse(&second).is_err(), "{name}: {second}");
        let value = case.document(&[("a", "x\u{feff}y")]);
        assert!(
            case.parse(value).is_ok(),
            "{name}: it may be part of a text"
        );
        if name != "json" {
            assert!(
                case.parse(format!("{text}\u{feff}# c\n")).is_err(),
                "{name}"
            );
        }
    }
}

#[test]
fn an_escaped_nul_is_rejected() {
    for case in cases() {
        let name = case.format.name();
        // Dotenv has no such escape.
        if name == "dotenv" {
            continue;
        }
        let pair = (case.pair)("a", "x\\u0000y");
        let error = case.parse((case.wrap)(&[pair])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{name}: {error}");
        assert!(error.to_string().contains("NUL"), "{name}: {error}");
        assert!(error.origin().is_some(), "{name}: {error}");
    }
    for (name, texts) in [
        (
            "json",
            &[
                "{\"a\": [\"\\u0000\"]}",
                "{\"\\u0000\": 1}",
                "{\"a\": [{\"\\u0000\": 1}]}",
            ][..],
        ),
        (
            "toml",
            &[
                "a = ['x', \"\\u0000\"]",
                "\"\\u0000\" = 1",
                "a = \"\\x00\"",
                "a = {\"\\U00000000\" = 1}",
            ],
        ),
        (
            "yaml",
            &[
                "a: [\"\\0\"]",
                "\"\\x00\": 1",
                "a: \"\\u0000\"",
                "? \"\\0\"\n: 1",
            ],
        ),
        ("properties", &["a=\\u0000", "\\u0000=1"]),
    ] {
        let Some(format) = Format::from_extension(name) else {
            continue;
        };
        for text in texts {
            let error = format.parse(text.as_bytes(), &origin()).unwrap_err();
            assert_eq!(
                error.kind(),
                ErrorKind::Malformed,
                "{name}: {text}: {error}"
            );
        }
    }
}

#[test]
fn an_item_of_a_list_has_its_own_position() {
    for (name, text, positions) in [
        (
            "json",
            "{\"l\": [\n1,\n {\"b\": 1,\n\"a\": [2,\n3]}, 4]}",
            [
                (1, 7),
                (2, 1),
                (3, 2),
                (4, 6),
                (4, 7),
                (5, 1),
                (3, 8),
                (5, 6),
            ],
        ),
        (
            "toml",
            "l = [\n1,\n {b = 1,\na = [2,\n3]}, 4]",
            [
                (1, 5),
                (2, 1),
                (3, 2),
                (4, 5),
                (4, 6),
                (5, 1),
                (3, 7),
                (5, 6),
            ],
        ),
        (
            "yaml",
            "l:\n- 1\n- b: 1\n  a: [2,\n   3]\n- 4",
            [
                (2, 3),
                (2, 3),
                (3, 3),
                (4, 6),
                (4, 7),
                (5, 4),
                (3, 6),
                (6, 3),
            ],
        ),
    ] {
        let Some(format) = Format::from_extension(name) else {
            continue;
        };
        let document = format.parse(text.as_bytes(), &origin()).unwrap();
        assert_eq!(
            document.origin("l").unwrap().items(),
            Some(&positions[..]),
            "{name}"
        );
        let Some(Value::List(items)) = document.get("l") else {
            panic!("{name}");
        };
        let at = |path: &str| {
            let path: Vec<_> = path.split('.').map(str::to_owned).collect();
            let item = document.origin("l").unwrap().of_item(items, &path);
            item.and_then(|item| item.line())
        };
        let expected = [
            ("0", 1),
            ("1", 2),
            ("1.a", 3),
            ("1.a.1", 5),
            ("1.b", 6),
            ("2", 7),
        ];
        for (path, index) in expected {
            assert_eq!(at(path), Some(positions[index]), "{name} {path}");
        }
        assert_eq!(at("3"), None);
        assert_eq!(at("1.c"), None);
    }
}

#[test]
fn the_error_for_a_malformed_line_does_not_show_it() {
    let secret = "Ww_Qq9.==";
    let long = format!("{{Ww_Qq9{}: 1}}", "x".repeat(1024));
    for (name, texts) in [
        (
            "properties",
            &["Ww_Qq9.==", "a=1\n.Ww_Qq9=", "a=x\n  Ww_\"Qq9"][..],
        ),
        (
            "env",
            &["Ww_Qq9.==", "A=1\nWw_Qq9___=", "Ww_Qq9", "Ww_Qq9-x=1"],
        ),
        (
            "yaml",
            &["a: 1\nWw_Qq9.==", "a: 1\n Ww_Qq9: 2", "a: [\nWw_Qq9", &long],
        ),
        ("toml", &["a = 1\nWw_Qq9.==", "Ww_Qq9", "a = Ww_Qq9"]),
        ("json", &["Ww_Qq9", "{\"a\": Ww_Qq9}", "{\"a\": 1} Ww_Qq9"]),
    ] {
        let Some(format) = Format::from_extension(name) else {
            continue;
        };
        for text in texts {
            let errors = match format.parse(text.as_bytes(), &origin()) {
                Ok(document) => document.problems().to_vec(),
                Err(error) => vec![error],
            };
            assert!(!errors.is_empty() || *text == secret, "{name}: was read");
            for error in errors {
                let shown = format!("{error} {error:?}");
                assert!(!shown.contains("Qq9"), "{name}: {text}: {shown}");
                assert!(error.origin().is_some(), "{name}: {text}");
            }
        }
    }
}

#[test]
fn a_document_counts_the_keys_that_it_lists() {
    for (name, text) in [
        ("toml", "[a]\n[b.c]\nd = {}\ne = 1"),
        ("json", "{\"a\": {}, \"b\": {\"c\": {\"d\": {}, \"e\": 1}}}"),
        ("yaml", "a: {}\nb: {c: {d: {}, e: 1}}"),
    ] {
        let Some(format) = Format::from_extension(name) else {
            continue;
        };
        let document = format.parse(text.as_bytes(), &origin()).unwrap();
        assert_eq!((document.len(), document.iter().count()), (1, 1), "{name}");
        assert!(!document.is_empty(), "{name}: it has tables");
    }
}

#[test]
fn more_tables_or_values_than_the_limit_are_rejected() {
    for (name, tables, values) in [
        ("toml", ("a = [", "{},", "]"), ("a = [", "1,", "]")),
        (
            "json",
            ("{\"a\": [{}", ",{}", "]}"),
            ("{\"a\": [1", ",1", "]}"),
        ),
        ("yaml", ("a: [", "{},", "]"), ("a: [", "1,", "]")),
    ] {
        let Some(format) = Format::from_extension(name) else {
            continue;
        };
        for ((head, piece, tail), most) in [(tables, 100_000), (values, 1_000_000)] {
            // In a debug build a million values of YAML take seconds.
            let sizes = match most {
                100_000 => &[most - 4, most + 1][..],
                _ => &[most + 200_001][..],
            };
            for size in sizes {
                let text = [head, &piece.repeat(*size), tail].concat();
                let parsed = format.parse(text.as_bytes(), &origin());
                if *size < most {
                    assert!(parsed.is_ok(), "{name} {size}");
                } else {
                    let error = parsed.unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::TooLarge, "{name}");
                    assert!(error.to_string().contains("more than"), "{name}: {error}");
                }
            }
        }
    }
}
