use super::*;
use crate::error::ErrorKind;
use crate::format::Format;
use crate::format::tests::{golden, value};
use crate::value::Value;

fn parse(text: &str) -> Result<Document, Error> {
    Format::yaml().parse(text.as_bytes(), &Origin::new("f", ""))
}

#[test]
fn every_value_has_its_position() {
    let text = "# c\na.b: \"\u{e9}\"\r\n\u{e9}: {x: 1, y: [2, {z: ~}]}\nblock: |\n  one\n  two\nlist:\n- 1.5\n- k: v\nnone:\n";
    assert_eq!(
        golden(Format::yaml(), text),
        "\"a.b\" = \"\u{e9}\" @2:6\n\
         block = \"one\\ntwo\\n\" @5:3\n\
         list = [1.5, {k = \"v\"}] @8:3\n\
         none = unset @10:5\n\
         \u{e9}.x = 1 @3:8\n\
         \u{e9}.y = [2, {z = unset}] @3:14\n"
    );
}

#[test]
fn scalars_follow_the_core_schema() {
    let of = |text: &str| value(Format::yaml(), &format!("v: {text}"));
    for text in [
        "no",
        "12:30",
        "1_000",
        "inf",
        "1.2.3",
        "0xg",
        "-",
        "2001-12-14",
        "e5",
    ] {
        assert_eq!(
            of(text),
            if text == "-" {
                Err(ErrorKind::Malformed)
            } else {
                Ok(Value::from(text))
            }
        );
    }
    assert_eq!(of("012"), Ok(Value::from(12)));
    assert_eq!(of("'12'"), Ok(Value::from("12")));
    assert_eq!(of("!!str 12"), Ok(Value::from("12")));
    assert_eq!(of("!!int '12'"), Ok(Value::from(12)));
    assert_eq!(of("! 12"), Ok(Value::from("12")));
    assert_eq!(of("0x1F"), Ok(Value::from(31)));
    assert_eq!(of("0o17"), Ok(Value::from(15)));
    assert_eq!(of("+.5e1"), Ok(Value::from(5.0)));
    assert_eq!(of("-.inf"), Ok(Value::from(f64::NEG_INFINITY)));
    assert_eq!(of("18446744073709551615"), Ok(Value::from(u64::MAX)));
    assert_eq!(of(&i128::MAX.to_string()), Ok(Value::from(i128::MAX)));
    for bad in [
        "!!float 1e400",
        "!!binary aGk=",
        "!mine x",
        "*nobody",
        "\"\\ud800\"",
    ] {
        assert_eq!(of(bad), Err(ErrorKind::Malformed), "{bad}");
    }
}

#[test]
fn aliases_and_merge_keys_are_resolved() {
    let text = "base: &b {x: 1, y: 2}\nmore: &m {y: 3, z: 4}\nuse:\n  <<: [*b, *m]\n  x: 9\nalso: *b\nl: [*b]\n";
    assert_eq!(
        golden(Format::yaml(), text),
        "also.x = 1 @1:14\nalso.y = 2 @1:20\nbase.x = 1 @1:14\nbase.y = 2 @1:20\n\
         l = [{x = 1, y = 2}] @7:4\nmore.y = 3 @2:14\nmore.z = 4 @2:20\n\
         use.x = 9 @5:6\nuse.y = 2 @1:20\nuse.z = 4 @2:20\n"
    );
    assert!(parse("'<<': 1").is_ok(), "a quoted name is a name");
    assert!(parse("<<: 1").is_err());
}

#[test]
fn alias_bombs_are_rejected() {
    let mut lists = String::from("a0: &a0 [x, x]\n");
    let mut maps = String::from("a0: &a0 {x: 1}\n");
    let mut merges = maps.clone();
    let mut shared = maps.clone();
    for i in 1..60 {
        let last = i - 1;
        lists += &format!("a{i}: &a{i} [*a{last}, *a{last}]\n");
        maps += &format!("a{i}: &a{i} {{p: *a{last}, q: *a{last}}}\n");
        merges += &format!("a{i}: &a{i} {{<<: [*a{last}, *a{last}]}}\n");
        shared += &format!("a{i}: &a{i} {{p: {{<<: *a{last}}}, q: {{<<: *a{last}}}}}\n");
    }
    for bomb in [lists, maps, merges, shared] {
        assert_eq!(
            parse(&bomb).unwrap_err().kind(),
            ErrorKind::TooLarge,
            "{bomb}"
        );
    }
    let long = format!(
        "a: &a {}\nl: [{}]",
        "x".repeat(1 << 20),
        ["*a"; 11].join(", ")
    );
    assert_eq!(parse(&long).unwrap_err().kind(), ErrorKind::TooLarge);
}

#[test]
fn a_document_that_is_no_configuration_is_rejected() {
    for text in [
        "a: &a [*a]",
        "a: 1\n---\nb: 2",
        "? [a]\n: 1",
        "? {a: 1}\n: 1",
        "- 1",
        "x",
        "a: &a x\n*a : 1",
    ] {
        assert_eq!(
            parse(text).unwrap_err().kind(),
            ErrorKind::Malformed,
            "{text}"
        );
    }
    for empty in ["", "# c\n", "---\n", "~", "---\n...\n"] {
        assert!(parse(empty).unwrap().is_empty(), "{empty:?}");
    }
    let error = parse("a:\n  - x: 1\n  - x: 1\n    y: 2\n    x: 3").unwrap_err();
    assert_eq!(error.key_text(), Some("a.1.x"), "{error}");
}

#[test]
fn a_tab_separates_a_name_from_its_value() {
    let text = "a:\t1\nb: \t-1\nc:\t\t-2.5 # c\nd:\n  e:\tx y\nf:\t[1,\t2]\n? g\n:\th\n{}";
    let text = text.trim_end_matches("{}");
    assert_eq!(
        golden(Format::yaml(), text),
        "a = 1 @1:4\nb = -1 @2:5\nc = -2.5 @3:5\nd.e = \"x y\" @5:6\nf = [1, 2] @6:4\ng = \"h\" @8:3\n"
    );
    assert_eq!(golden(Format::yaml(), "{a:\t1}"), "a = 1 @1:5\n");
    for bad in ["a:\t- 1", "a:\tb: 1", "a:\n\tb: 1"] {
        assert!(parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn an_anchor_may_name_a_key() {
    assert_eq!(
        golden(Format::yaml(), "&k a: 1\nb: *k\n&n 012: x\nc: [*n]"),
        "012 = \"x\" @3:9\na = 1 @1:7\nb = \"a\" @1:1\nc = [012] @4:4\n"
    );
}

#[test]
fn core_tags_may_be_written_in_full() {
    let of = |text: &str| value(Format::yaml(), &format!("v: {text}"));
    assert_eq!(of("!<tag:yaml.org,2002:str> 1"), Ok(Value::from("1")));
    assert_eq!(of("!<tag:yaml.org,2002:seq> [1]"), Ok(Value::from(vec![1])));
    assert!(parse("!<tag:yaml.org,2002:map> {!<tag:yaml.org,2002:str> a: 1}").is_ok());
    assert!(parse("%TAG !y! tag:yaml.org,2002:\n--- \na: !y!int 1").is_ok());
    for bad in [
        "!<tag:yaml.org,2002:binary> 1",
        "!<str> 1",
        "!!seq 1",
        "!!str [1]",
        "!!map [1]",
    ] {
        assert_eq!(of(bad), Err(ErrorKind::Malformed), "{bad}");
    }
}

#[test]
fn a_core_tag_rejects_other_values_with_their_position() {
    let of = |text: &str| value(Format::yaml(), &format!("v: {text}"));
    assert_eq!(of("!!int 0x1F"), Ok(Value::from(31)));
    assert_eq!(of("!!int \"12\""), Ok(Value::from(12)));
    assert_eq!(of("!!float 1"), Ok(Value::from(1.0)));
    assert_eq!(of("!!float .inf"), Ok(Value::from(f64::INFINITY)));
    assert_eq!(of("!!bool TRUE"), Ok(Value::from(true)));
    assert_eq!(of("!!null ~"), Ok(Value::Unset));
    assert_eq!(of("!!null ''"), Ok(Value::Unset));
    assert_eq!(of("!!str"), Ok(Value::from("")));
    for bad in [
        "!!int abc",
        "!!int 1.5",
        "!!int true",
        "!!int",
        "!!bool maybe",
        "!!bool yes",
        "!!bool 1",
        "!!float x",
        "!!float 0x1F",
        "!!float true",
        "!!null x",
        "!!null 0",
    ] {
        let error = parse(&format!("a: 1\nv: {bad}")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{bad}");
        assert!(
            error.origin().unwrap().to_string().starts_with("f:2:"),
            "{bad}: {error}"
        );
        assert!(!error.to_string().contains("abc"), "{error}");
    }
    assert!(parse("!!int x: 1").is_err(), "of a name too");
}

#[test]
fn a_syntax_error_names_the_line_of_a_tab_and_the_remedy() {
    let cases = [
        ("a: b\n\tc: d\n", "2:1", "spaces"),
        ("a:\n  b: x\n  \tc: y\n", "3:3", "spaces"),
        ("user: @x\n", "1:7", "quotes"),
        ("a: \"hunter2\n", "", "close the quote"),
        ("a: [1, 2\n", "", "close the list"),
        ("a: 1\nhunter2\n", "", "`name: value`"),
    ];
    for (text, position, remedy) in cases {
        let error = parse(text).unwrap_err().to_string();
        assert!(
            error.contains(position) && error.contains(remedy),
            "{text:?}: {error}"
        );
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn a_name_without_its_colon_is_rejected_on_its_own_line() {
    for (text, position) in [
        ("a: 1\nb:2\n", "f:2:1"),
        ("a: 1\nb:2", "f:2:1"),
        ("a: 1\nb\n", "f:2:1"),
        ("a: 1\nb:2\nc: 3\n", "f:2:1"),
        ("a: 1\nb:2\n\n  # x\n\n", "f:2:1"),
        ("a:\n  b: 1\n  c:2\nd: 1\n", "f:3:3"),
        ("a: 1\r\nb:2 # c\r\nd: 1\r\n", "f:2:1"),
    ] {
        let error = parse(text).unwrap_err();
        assert_eq!(
            error.origin().map(ToString::to_string).as_deref(),
            Some(position),
            "{text:?}: {error}"
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
        &format!("+{}", u128::MAX),
    ] {
        let text = Value::from(digits);
        assert_eq!(
            value(Format::yaml(), &format!("v: {digits}")),
            Ok(text.clone())
        );
        assert_eq!(
            value(Format::yaml(), &format!("v: [{digits}]")),
            Ok(Value::from(vec![text]))
        );
    }
    let of = |text: &str| value(Format::yaml(), &format!("v: {text}"));
    let long = "9".repeat(400);
    assert_eq!(of(&long), Ok(Value::from(&*long)));
    assert_eq!(of(&format!("!!int {long}")), Ok(Value::from(&*long)));
    assert_eq!(of(&format!("!!float {long}")), Err(ErrorKind::Malformed));
    assert_eq!(of(&format!("!!bool {long}")), Err(ErrorKind::Malformed));
    let float = of(&format!("!!float {}", u128::MAX)).unwrap();
    assert_eq!(float.canonical(), &Value::from(u128::MAX as f64));
}

#[test]
fn a_number_that_no_float_holds_is_its_text() {
    for text in ["1e400", "-1e400", "1e9999999", "123e456"] {
        let found = parse(&format!("commit: {text}\nl: [{text}]\n")).unwrap();
        assert_eq!(found.get("commit"), Some(&Value::from(text)), "{text}");
    }
}
