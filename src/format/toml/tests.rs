//! Tests of the values, positions and errors of TOML.

use proptest::prelude::*;

use super::*;
use crate::format::Format;
use crate::format::tests::{golden, value};
use crate::value::Value;
use crate::value::node::Node;

#[test]
fn every_value_has_its_position() {
    let text = "top = 1\r\n'a.b' = \"\u{e9}\"  # c\n[s]\n\u{22}\u{e9}\u{22} = { x = true, y.z = [1, [2.5, {q = 'w'}]] }\nday = 1979-05-27T07:32:00Z\n[[s.list]]\nn = 0x_ff\n"
        .replace("0x_ff", "0xff");
    assert_eq!(
        golden(Format::toml(), &text),
        "\"a.b\" = \"\u{e9}\" @2:9\n\
         s.day = \"1979-05-27T07:32:00Z\" @5:7\n\
         s.list = [{n = 0xff}] @6:1\n\
         s.\u{e9}.x = true @4:13\n\
         s.\u{e9}.y.z = [1, [2.5, {q = \"w\"}]] @4:25\n\
         top = 1 @1:7\n"
    );
}

#[test]
fn numbers_keep_their_digits_or_are_rejected() {
    let of = |text: &str| value(Format::toml(), &format!("v = {text}"));
    assert_eq!(of("0o17"), Ok(Value::from(15)));
    assert_eq!(of("1_000"), Ok(Value::from(1000)));
    assert_eq!(of("18446744073709551615"), Ok(Value::from(u64::MAX)));
    assert_eq!(of(&i128::MIN.to_string()), Ok(Value::from(i128::MIN)));
    assert_eq!(of("1e400"), Err(ErrorKind::Malformed));
    assert_eq!(
        of("12:30"),
        Ok(Value::from("12:30:00")),
        "TOML 1.1 has times"
    );
    assert_eq!(
        of("1979-05-27 07:32:00z"),
        Ok(Value::from("1979-05-27T07:32:00Z"))
    );
    assert_eq!(of("-inf"), Ok(Value::from(f64::NEG_INFINITY)));
    assert!(of("nan").unwrap().as_f64().unwrap().is_nan());
    for bad in ["012", "no", "1__0", "\"\\ud800\""] {
        assert_eq!(of(bad), Err(ErrorKind::Malformed), "{bad}");
    }
}

#[test]
fn the_error_for_a_repeated_name_has_its_whole_key() {
    for (text, key, first, second) in [
        ("[a.b]\nx = 1\n\n[a]\ny = 1\n[a.b]\n", "a.b", 1, 6),
        ("[a.b]\nx = 1\nx = 2", "a.b.x", 2, 3),
        ("[[l]]\n[[l]]\nx = 1\n'x' = 2", "l.1.x", 3, 4),
        ("a.b = 1\n[c]\nd = { e = 1,\n e = 2 }", "c.d.e", 3, 4),
        ("a = 1\n[b]\n[b]\n", "b", 2, 3),
    ] {
        let origin = Origin::new("f", "");
        let error = Format::toml().parse(text.as_bytes(), &origin).unwrap_err();
        assert_eq!(error.key_text(), Some(key), "{text}");
        let lines = format!("first on line {first} and again on line {second}");
        assert!(error.to_string().contains(&lines), "{text}: {error}");
    }
}

#[test]
fn brackets_and_dots_in_text_are_no_nesting() {
    let deep = "[.".repeat(200);
    for text in [
        format!("a = \"{deep}\\\"{deep}\""),
        format!("a = '{deep}'"),
        format!("a = '''{deep}\n'{deep}''''' # {deep}"),
        format!("a = \"\"\"{deep}\n\\\"\"{deep}\"\"\"\"\"\nb = 1 # {deep}"),
        format!("# {deep}\na = [ # {deep}\n]"),
        "a.b = [1.5, 2.5]\n".replace("1.5", &vec!["1.5"; 200].join(",")),
    ] {
        assert!(
            Format::toml()
                .parse(text.as_bytes(), &Origin::new("f", ""))
                .is_ok(),
            "{text}"
        );
    }
}

/// Lists the keys, empty tables, values and origins of a document.
fn entries(document: &Document) -> Vec<String> {
    let mut all = Vec::new();
    document.root().walk(&mut String::new(), &mut |key, entry| {
        all.push(match &entry.node {
            Node::Leaf(leaf) => format!("{key} = {} at {}", leaf.value, leaf.origin),
            _ => format!("{key} is an empty table"),
        });
    });
    all.sort();
    all
}

/// Checks that the pieces and the whole have equal results. Returns whether the pieces were enough.
fn in_pieces(text: &str, min_piece: usize) -> Result<bool, TestCaseError> {
    let origin = Origin::new("f", "");
    let of = |result: Result<Document, Error>| match result {
        Ok(document) => entries(&document),
        Err(error) => vec![format!("{error} {error:?}")],
    };
    let of_whole = of(parse_with_min_piece(text, &origin, usize::MAX));
    let of_pieces = of(parse_with_min_piece(text, &origin, min_piece));
    prop_assert_eq!(of_pieces, of_whole, "{}", text);
    let cuts = scan::find_cuts(text.as_bytes(), MAX_DEPTH, min_piece).unwrap_or_default();
    for cut in &cuts {
        prop_assert!(text[..*cut].ends_with('\n'));
        prop_assert!(
            text[*cut..]
                .trim_start_matches([' ', '\t'])
                .starts_with('[')
        );
    }
    Ok(pieces::parse(text, &cuts, &origin).is_some())
}

#[test]
fn independent_sections_are_parsed_in_pieces() {
    for text in [
        "top = 1\n[a]\nx = 1\n[b]\nx = 2",
        "[a]\n[b]\n",
        "[a.b]\nx = 1\n[a.c]\nx = 1\n[a.b.d]\nx = 2\n",
        "[a]\nb.c = 1\n[a.b.d]\nx = 1\n[a.e]\n",
        "a.b = 1\r\n  [ a . c ] # c\r\nx = 1\r\n\t['a'.\"d\"]\r\n",
        "x = '''\n[a]\n'''\ny = [\n[1]\n]\n[a]\nx = 1\n[b]\nx = { y = [\n[2]\n] }\n[c]",
        "[a]\n[[l]]\nx = 1\n[ l . m ]\n[[ l ]]\nx = 2\n[[l.n]]\n[b]\n[[m]]\n[c]\n",
        "\n\n# only a comment\n[a]\n[b]\n# and another\n",
    ] {
        assert!(in_pieces(text, 1).unwrap(), "{text}");
    }
}

#[test]
fn a_text_whose_pieces_conflict_is_parsed_as_a_whole() {
    for text in [
        "[a]\n[a]\n",
        "[a.b]\n[a]\nx = 1\n",
        "[a]\nb = 1\n[a.b]\n",
        "[a]\nb = 1\n[a.b.c]\n",
        "[a]\nb.c = 1\n[a.b]\n",
        "[a]\nb = { c = 1 }\n[a.b.d]\n",
        "a = {}\n[a.b]\n",
        "a.b = { c = 1 }\n[a.b.d]\n",
        "[[l]]\n[a]\n[[l]]\n",
        "[[l]]\n[a]\n['l'.m]\n",
        "[l.m]\n[[l]]\n",
        "l = [{}]\n[[l]]\n",
        "[a]\nx = '''\n[b]\n",
        "[a]\nx = \"\n[b]\n\"\n",
        "[a]\nx\n[b]\n",
        "[a]\n[b]\nx = 1e400\n",
    ] {
        assert!(!in_pieces(text, 1).unwrap(), "{text}");
    }
}

#[test]
fn pieces_have_the_minimum_size() {
    let text: String = (0..100).map(|i| format!("[s{i}]\nx = {i}\n")).collect();
    let cuts = scan::find_cuts(text.as_bytes(), MAX_DEPTH, 100).unwrap();
    let mut start = 0;
    for cut in cuts {
        assert!((100..120).contains(&(cut - start)), "{start}..{cut}");
        start = cut;
    }
    assert!(text.len() - start < 120);
    assert!(in_pieces(&text, 100).unwrap());
}

/// Names that are often equal, in every way of writing them.
fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "a",
        "b",
        "c",
        "a",
        "b",
        "c",
        "'a'",
        "\"b\"",
        r#""\u0063""#,
        "'a.b'",
        "'['",
        "\"]\"",
        "''",
    ])
}

fn path() -> impl Strategy<Value = String> {
    let dot = prop::sample::select(vec![".", ".", " . ", ".\t"]);
    (prop::collection::vec(name(), 1..4), dot).prop_map(|(names, dot)| names.join(dot))
}

fn item() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "1",
        "\"\u{e9}\" # [a]",
        "'''\n[a]\n[[b]] \"\"\"'''",
        "\"\"\"\n[a]\n\\\"\"\" '''\n  [c]\n\"\"\"\"",
        "\"\"\"\n[a]\n\\\"\"\" '''\n  [c]\n\"\"\"",
        "[\n[1], # ]\n  [\"]\"]\n]",
        "{}",
        "{ a = 1, b.c = {} }",
        "{ a = [\n[1]\n] }",
        "[{ a = 1 }]",
        "1979-05-27 07:32:00Z",
        "'''\n[a]",
        "[\n[a]",
        "170141183460469231731687303715884105728",
        "\"\n[a]\n\"",
        "'[a]\n[b]'",
    ])
}

fn line() -> impl Strategy<Value = String> {
    let lead = prop::sample::select(vec!["", "", "", " ", "\t "]);
    let tail = prop::sample::select(vec!["", "", "", " # [a]", " ", " x", "\r"]);
    let text = prop_oneof![
        6 => path().prop_map(|path| format!("[{path}]")),
        1 => path().prop_map(|path| format!("[[{path}]]")),
        1 => path().prop_map(|path| format!("[ {path}\t]")),
        6 => (path(), item()).prop_map(|(path, item)| format!("{path} = {item}")),
        1 => Just(String::new()),
        1 => prop::sample::select(vec!["# [a]", "[", "]]", "[[a]", "}", "\u{feff}[a]", "\u{b}"])
            .prop_map(str::to_owned),
    ];
    (lead, text, tail).prop_map(|(lead, text, tail)| format!("{lead}{text}{tail}"))
}

/// Lines that are valid by themselves.
fn valid_line() -> impl Strategy<Value = String> {
    let item = prop::sample::select(vec!["1", "{}", "{ a.b = 1 }", "[{}]", "'''\n[a]\n'''"]);
    prop_oneof![
        6 => path().prop_map(|path| format!("[{path}]")),
        1 => path().prop_map(|path| format!("[[{path}]]")),
        3 => (path(), item).prop_map(|(path, item)| format!("{path} = {item}")),
    ]
}

proptest! {
    #[test]
    fn pieces_and_the_whole_have_equal_results(
        lines in prop_oneof![
            prop::collection::vec(line(), 0..8),
            prop::collection::vec(valid_line(), 0..8),
        ],
        end in prop::sample::select(vec!["\n", "\r\n"]),
        piece in prop::sample::select(vec![1usize, 1, 5, 20]),
    ) {
        in_pieces(&lines.join(end), piece)?;
    }

    #[test]
    fn pieces_of_any_text_and_the_whole_have_equal_results(
        text in "([\\[\\]{}=.,ab'\"# \n\r]|\n\\[|a=1\n|\\]\n){0,40}",
    ) {
        in_pieces(&text, 1)?;
    }
}

#[test]
fn the_error_for_text_without_quotes_names_the_expected_value() {
    let error = Format::toml().parse(b"a = hunter2", &Origin::new("f", ""));
    let error = error.unwrap_err().to_string();
    assert!(error.contains("expected text in quotes"), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn the_error_for_a_value_names_the_remedy_and_shows_no_text() {
    let quotes = "text in quotes";
    for (value, parts) in [
        ("08", ["leading zero", "without it"]),
        ("01.5", ["leading zero", "without it"]),
        ("None", ["no null", "leave the key out"]),
        ("null", ["no null", "leave the key out"]),
        ("nil", ["no null", "leave the key out"]),
        ("True", ["`true` or `false`", quotes]),
        ("yes", ["`true` or `false`", quotes]),
        ("OFF", ["`true` or `false`", quotes]),
        ("1,5", ["ends with its line", "list in brackets"]),
        ("1.2.3.4", ["float", quotes]),
        ("10.0.0.0/8", ["float", quotes]),
        ("1_", ["`_`", quotes]),
        ("2020-13-01", ["date", quotes]),
        ("12:30:xx", ["time", quotes]),
        ("0xfg", ["hexadecimal", quotes]),
        ("info7q", ["not a value", quotes]),
        ("nan7q", ["not a value", quotes]),
        ("truex7q", ["not a value", quotes]),
    ] {
        for (text, position) in [
            (format!("a = {value}"), "f:1:"),
            (format!("[t]\na = {value}\n"), "f:2:"),
        ] {
            let error = Format::toml().parse(text.as_bytes(), &Origin::new("f", ""));
            let error = error.unwrap_err().to_string();
            for part in parts.iter().chain([&position]) {
                assert!(error.contains(part), "{text}: {error}");
            }
            for part in ["expected nothing", "7q", "13-01", "08"] {
                assert!(!error.contains(part), "{text}: {error}");
            }
        }
    }
}

#[test]
fn a_key_without_a_value_in_braces_is_reported_as_such() {
    for text in [
        "{hunter2}",
        "{hunter2 = }",
        "{a = 1, hunter2}",
        "{\"hunter2\"}",
        "{'hunter2'}",
        "{a = {hunter2}}",
        "[{hunter2}]",
        "{hunter2 # don't\n}",
        "{\nhunter2 =\n}",
        "{hunter2.a}",
    ] {
        let text = format!("pw = {text}\n");
        let error = Format::toml().parse(text.as_bytes(), &Origin::new("f", ""));
        let error = error.unwrap_err().to_string();
        assert!(
            error.starts_with("a key without a value; expected `=` and a value (f:"),
            "{error}"
        );
    }
    // Here a quote is missing.
    for text in ["pw = 'hunter2\n", "pw = {a = 'hunter2\n}\n"] {
        let error = Format::toml().parse(text.as_bytes(), &Origin::new("f", ""));
        let error = error.unwrap_err().to_string();
        assert!(
            error.starts_with("invalid literal string, expected `'`"),
            "{error}"
        );
    }
}

#[test]
fn an_integer_beyond_i128_is_its_text() {
    for digits in [
        "170141183460469231731687303715884105728",
        "-170141183460469231731687303715884105729",
        &u128::MAX.to_string(),
        &"1".repeat(40),
        &format!("-{}", "1".repeat(40)),
        &format!("0x{:X}", u128::MAX),
        "340_282_366_920_938_463_463_374_607_431_768_211_455",
    ] {
        let text = Value::from(digits);
        assert_eq!(
            value(Format::toml(), &format!("v = {digits}")),
            Ok(text.clone())
        );
        assert_eq!(
            value(Format::toml(), &format!("v = [{digits}]")),
            Ok(Value::from(vec![text]))
        );
    }
}

#[test]
fn a_number_without_digits_is_rejected() {
    for text in ["0x", "0o", "0b"] {
        for document in [
            format!("v = {text}"),
            format!("v = [1, {text}]"),
            format!("v = {{a = {text}}}"),
        ] {
            let found = value(Format::toml(), &document);
            assert_eq!(found, Err(ErrorKind::Malformed), "{document}");
        }
    }
}
