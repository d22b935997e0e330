use super::*;
use crate::error::ErrorKind;
use crate::format::Format;
use crate::format::tests::{golden, value};

#[test]
fn every_value_has_its_position() {
    let text = "{\"a.b\": \"\\\"}\u{e9}\",\r\n \"\u{e9}\": [1, {\"x\": [], \"y\": null}], \"o\": {\n\"t\\u0065\":\n true, \"u\":{}},\"n\":null, \"f\": -1.50e1}";
    assert_eq!(
        golden(Format::json(), text),
        "\"a.b\" = \"\\\"}\u{e9}\" @1:9\n\
         f = -1.50e1 @4:31\n\
         n = unset @4:20\n\
         o.te = true @4:2\n\
         \u{e9} = [1, {x = [], y = unset}] @2:7\n"
    );
}

#[test]
fn numbers_keep_their_digits_or_are_rejected() {
    let of = |text: &str| value(Format::json(), &format!("{{\"v\": {text}}}"));
    assert_eq!(of("-7"), Ok(Value::from(-7)));
    assert_eq!(of("18446744073709551615"), Ok(Value::from(u64::MAX)));
    assert_eq!(of("18446744073709551616"), Ok(Value::from(1i128 << 64)));
    assert_eq!(of(&i128::MIN.to_string()), Ok(Value::from(i128::MIN)));
    assert_eq!(
        of("[1, 18446744073709551616]"),
        Ok(Value::from(vec![1, 1i128 << 64]))
    );
    assert_eq!(of("1.5"), Ok(Value::from(1.5)));
    for bad in [
        "1e400",
        "012",
        "no",
        "12:30",
        "NaN",
        "+1",
        "\"\\ud800\"",
        "\"\\udc00x\"",
    ] {
        assert_eq!(of(bad), Err(ErrorKind::Malformed), "{bad}");
    }
}

#[test]
fn the_error_for_a_repeated_name_has_its_whole_key() {
    for (text, key, first, second) in [
        (
            "{\"a\": {\n\"b\": [\"}\", {\"x\": 1}],\n\"x\": 1,\n\"\\u0078\": 2}}",
            "a.x",
            3,
            4,
        ),
        (
            "{\"l\": [{\"y\": {\"x\": 1},\n\"x\": 1,\n\"x\": 2}]}",
            "l.x",
            2,
            3,
        ),
    ] {
        let origin = Origin::new("f", "");
        let error = Format::json().parse(text.as_bytes(), &origin).unwrap_err();
        assert_eq!(error.key_text(), Some(key), "{text}");
        let lines = format!("first on line {first} and again on line {second}");
        assert!(error.to_string().contains(&lines), "{text}: {error}");
    }
}

#[test]
fn only_an_object_is_a_document() {
    let parse = |text: &str| Format::json().parse(text.as_bytes(), &Origin::new("f", ""));
    for text in [
        "",
        "1",
        "\"hunter2\"",
        "[]",
        "null",
        "{} {}",
        "{\"a\": 1,}",
        "18446744073709551616",
    ] {
        assert_eq!(
            parse(text).unwrap_err().kind(),
            ErrorKind::Malformed,
            "{text}"
        );
    }
    assert!(parse(" {} ").unwrap().is_empty());
    let error = parse("{\n  \"\u{e9}\": x}").unwrap_err();
    assert_eq!(
        error.origin().map(ToString::to_string).as_deref(),
        Some("f:2:8"),
        "{error}"
    );
}

#[test]
fn a_syntax_error_names_the_remedy() {
    let cases = [
        ("{\"a\": hunter2}", "double quotes"),
        ("{a: 1}", "name in double quotes"),
        ("{\"a\": 1,}", "remove the comma"),
        ("{\"a\": 1", "cut off"),
        ("{} {}", "one object"),
    ];
    for (text, remedy) in cases {
        let error = Format::json().parse(text.as_bytes(), &Origin::new("f", ""));
        let error = error.unwrap_err().to_string();
        assert!(error.contains(remedy), "{text}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
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
    ] {
        let text = Value::from(digits);
        assert_eq!(
            value(Format::json(), &format!("{{\"v\": {digits}}}")),
            Ok(text.clone())
        );
        assert_eq!(
            value(Format::json(), &format!("{{\"v\": [{digits}]}}")),
            Ok(Value::from(vec![text]))
        );
    }
}

#[test]
fn a_line_break_in_a_string_is_reported_where_the_string_begins() {
    for (text, at) in [
        ("{\"a\": \"x\ny\"}", "f:1:7"),
        ("{\n  \"a\": \"x \\\" y\n\"}", "f:2:8"),
        ("{\"a\nb\": 1}", "f:1:2"),
    ] {
        let error = Format::json().parse(text.as_bytes(), &Origin::new("f", ""));
        let error = error.unwrap_err();
        let origin = error.origin().map(ToString::to_string);
        assert_eq!(origin.as_deref(), Some(at), "{text}");
    }
}
