//! What holds for all formats, each enabled one against the same corpus.

use std::fmt::Write as _;

use proptest::prelude::*;

use std::path::Path;

use super::*;
use crate::value::Value;

mod rules;

/// A format, and how it writes the things the corpus is made of.
struct Case {
    format: Format,
    /// `name = value` at the top level.
    pair: fn(&str, &str) -> String,
    /// Opens and closes a document of pairs.
    wrap: fn(&[String]) -> String,
    /// A value below that many tables, or a key of that many segments.
    nested: fn(usize) -> String,
    /// As `nested`, with lists; none in flat formats.
    lists: Option<fn(usize) -> String>,
    /// `a` given as a value and as a table, and where each is.
    clash: &'static [(&'static str, &'static str, &'static str)],
}

// Not every set of features has a use for each helper.
#[allow(dead_code)] // only decoded
fn lines(pairs: &[String]) -> String {
    pairs.join("\n") + "\n"
}

fn origin() -> Origin {
    Origin::new("file", "app")
}

fn cases() -> Vec<Case> {
    vec![
        #[cfg(feature = "toml")]
        Case {
            format: Format::toml(),
            pair: |name, value| format!("{name} = \"{value}\""),
            wrap: lines,
            nested: |levels| format!("{} = 1", vec!["a"; levels].join(".")),
            lists: Some(|levels| {
                format!("a = {}{}", "[".repeat(levels - 1), "]".repeat(levels - 1))
            }),
            clash: &[
                ("a = 1\na.b = 2", "value at 1:1", "table at 2:1"),
                ("a.b = 1\na = 2", "table at 1:1", "value at 2:1"),
                ("a = 1\n[a]\nb = 1", "value at 1:1", "table at 2:2"),
                ("a = 1\n[a.b]\nc = 1", "value at 1:1", "table at 2:2"),
                ("a = 1\na = {b = 1}", "value at 1:1", "table at 2:1"),
                ("a = {}\n a = 1", "table at 1:1", "value at 2:2"),
            ],
        },
        #[cfg(feature = "json")]
        Case {
            format: Format::json(),
            pair: |name, value| format!("\"{name}\": \"{value}\""),
            wrap: |pairs| format!("{{\n{}\n}}", pairs.join(",\n")),
            nested: |levels| format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels)),
            lists: Some(|levels| {
                format!(
                    "{{\"a\": {}{}}}",
                    "[".repeat(levels - 1),
                    "]".repeat(levels - 1)
                )
            }),
            clash: &[
                (
                    "{\"a\": 1,\n\"a\": {\"b\": 2}}",
                    "value at 1:2",
                    "table at 2:1",
                ),
                (
                    "{\"a\": {\"b\": 1},\n\"a\": 2}",
                    "table at 1:2",
                    "value at 2:1",
                ),
                (
                    "{\"a\": [{\"a\": {},\n\"a\": 2}]}",
                    "table at 1:9",
                    "value at 2:1",
                ),
            ],
        },
        #[cfg(feature = "yaml")]
        Case {
            format: Format::yaml(),
            pair: |name, value| format!("{name}: \"{value}\""),
            wrap: lines,
            nested: |levels| format!("{}1{}", "{a: ".repeat(levels), "}".repeat(levels)),
            lists: Some(|levels| format!("a:\n  {}1", "- ".repeat(levels - 1))),
            clash: &[
                ("a: 1\na:\n  b: 2", "value at 1:1", "table at 2:1"),
                ("a:\n  b: 1\na: 2", "table at 1:1", "value at 3:1"),
                ("b: &b {}\na: *b\na: 2", "table at 2:1", "value at 3:1"),
                ("b: &b {}\na: 1\na: *b", "value at 2:1", "table at 3:1"),
            ],
        },
        #[cfg(feature = "properties")]
        Case {
            format: Format::properties(),
            pair: |name, value| format!("{name} = {value}"),
            wrap: lines,
            nested: |levels| format!("{} = 1", vec!["a"; levels].join(".")),
            lists: None,
            clash: &[
                ("a=1\na.b=2", "value at 1:3", "table at 2:5"),
                ("a.b=1\na=2", "table at 1:5", "value at 2:3"),
                ("a.b.c=1\na.b.d=1\na.b=2", "table at 1:7", "value at 3:5"),
            ],
        },
        #[cfg(feature = "dotenv")]
        Case {
            format: Format::dotenv(),
            pair: |name, value| format!("{name}=\"{value}\""),
            wrap: lines,
            nested: |levels| format!("{}=1", vec!["a"; levels].join("__")),
            lists: None,
            // Such a line is left out.
            clash: &[],
        },
    ]
}

impl Case {
    fn parse(&self, text: impl AsRef<[u8]>) -> Result<Document, Error> {
        self.format.parse(text.as_ref(), &origin())
    }

    fn kind(&self, text: impl AsRef<[u8]>) -> ErrorKind {
        match self.parse(text) {
            Ok(_) => panic!("{}: was accepted", self.format.name()),
            Err(error) => error.kind(),
        }
    }

    fn document(&self, pairs: &[(&str, &str)]) -> String {
        let pairs: Vec<_> = pairs.iter().map(|(n, v)| (self.pair)(n, v)).collect();
        (self.wrap)(&pairs)
    }
}

#[test]
fn a_document_cut_at_any_byte_gives_an_answer() {
    for case in cases() {
        let mut pairs = Vec::new();
        for i in 0..300 {
            pairs.push((case.pair)(&format!("key_{i}"), &format!("v\u{e9}{i}")));
        }
        let mut text = (case.wrap)(&pairs);
        while text.len() < 4096 {
            text.push('\n');
        }
        for cut in 0..=4096.min(text.len()) {
            let _ = case.parse(&text.as_bytes()[..cut]);
        }
        assert_eq!(
            case.parse(&text).unwrap().len(),
            300,
            "{}",
            case.format.name()
        );
    }
}

#[test]
fn a_byte_order_mark_and_crlf_change_nothing() {
    for case in cases() {
        let text = case.document(&[("a", "1"), ("b", "x y")]);
        let plain = case.parse(&text).unwrap();
        let marked = format!("\u{feff}{}", text.replace('\n', "\r\n"));
        let marked = case.parse(marked).unwrap();
        assert_eq!(
            plain.get("a"),
            Some(&Value::from("1")),
            "{}",
            case.format.name()
        );
        assert_eq!(plain, marked, "{}", case.format.name());
        for key in ["a", "b"] {
            assert_eq!(
                plain.origin(key),
                marked.origin(key),
                "{}",
                case.format.name()
            );
        }
    }
}

#[test]
fn broken_text_is_rejected_with_its_place() {
    for case in cases() {
        let name = case.format.name();
        let good = case.document(&[("a", "1"), ("b", "x_y")]);
        let at = good.find('_').unwrap();
        let mut bad = good.clone().into_bytes();
        bad[at] = 0xFF;
        let error = case.parse(&bad).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{name}");
        assert!(
            error.to_string().contains(&format!("byte {at}, line ")),
            "{error}"
        );
        bad[at] = 0;
        let error = case.parse(&bad).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{name}");
        assert!(error.to_string().contains("NUL"), "{error}");
        let (line, column) = positions::position(good.as_bytes(), at);
        assert_eq!(
            error.origin().map(ToString::to_string),
            Some(format!("file app:{line}:{column}"))
        );
    }
}

#[test]
fn line_separators_and_control_characters_never_panic() {
    for case in cases() {
        for odd in [
            "\u{2028}", "\u{85}", "\u{b}", "\u{c}", "\r", "\u{7f}", "\u{1b}", "\u{feff}",
        ] {
            let _ = case.parse(case.document(&[("a", odd), ("b", "1")]));
            let _ = case.parse(case.document(&[(odd, "1")]));
            let _ = case.parse(odd);
        }
    }
}

#[test]
fn half_of_a_surrogate_pair_is_rejected_where_it_can_be_written() {
    for case in cases() {
        // Dotenv has no such escape: there it is plain text.
        if case.format.name() == "dotenv" {
            continue;
        }
        for half in [r"\ud800", r"\udfff x", r"x \ud800A"] {
            let text = (case.wrap)(&[(case.pair)("a", half)]);
            let parsed = case.format.parse(text.as_bytes(), &origin());
            assert!(parsed.is_err(), "{}: {text}", case.format.name());
        }
    }
}

#[test]
fn ten_mebibytes_are_read_and_one_byte_more_is_rejected() {
    for case in cases() {
        let name = case.format.name();
        let frame = case.document(&[("a", "")]).len();
        let long = "x".repeat(MAX_DOCUMENT_BYTES - frame);
        let text = case.document(&[("a", &long)]);
        assert_eq!(text.len(), MAX_DOCUMENT_BYTES);
        assert_eq!(
            case.parse(&text).unwrap().get("a"),
            Some(&Value::from(long)),
            "{name}"
        );
        assert_eq!(case.kind(text + " "), ErrorKind::TooLarge, "{name}");
    }
}

#[test]
fn sixty_four_levels_are_read_and_one_more_is_rejected() {
    for case in cases() {
        let name = case.format.name();
        let key = vec!["a"; 64].join(".");
        assert!(
            case.parse((case.nested)(64)).unwrap().get(&key).is_some(),
            "{name}"
        );
        for levels in [65, 66, 90, 200, 300] {
            assert_eq!(
                case.kind((case.nested)(levels)),
                ErrorKind::TooLarge,
                "{name} {levels}"
            );
        }
        if let Some(lists) = case.lists {
            assert!(case.parse(lists(64)).is_ok(), "{name}");
            for levels in [65, 66, 90, 200, 300] {
                assert_eq!(
                    case.kind(lists(levels)),
                    ErrorKind::TooLarge,
                    "{name} {levels}"
                );
            }
        }
    }
}

#[test]
fn a_hundred_thousand_levels_are_an_error_on_a_small_stack() {
    let work = || {
        for case in cases() {
            let name = case.format.name();
            let mut texts = vec![(case.nested)(100_000)];
            texts.extend(case.lists.map(|lists| lists(100_000)));
            for text in texts {
                assert_eq!(case.kind(&text), ErrorKind::TooLarge, "{name}");
                assert!(case.parse(&text[..text.len() / 2]).is_err(), "{name}");
            }
            for open in [
                "[", "{", "- ", "? ", "a: [", "x = [", "[[", "{a=", "{\"a\":[",
            ] {
                let _ = case.parse(open.repeat(100_000));
            }
        }
    };
    let thread = std::thread::Builder::new().stack_size(2 << 20);
    thread.spawn(work).unwrap().join().unwrap();
}

#[test]
fn a_key_of_a_kibibyte_is_read_and_a_longer_one_is_rejected() {
    for case in cases() {
        let name = case.format.name();
        let long = "k".repeat(1024);
        assert_eq!(
            case.parse(case.document(&[(&long, "1")])).unwrap().len(),
            1,
            "{name}"
        );
        let text = match name {
            // YAML itself limits a key to 1,024 characters, unless it stands in braces.
            "yaml" => format!("{{{long}k: 1}}"),
            _ => case.document(&[(&format!("{long}k"), "1")]),
        };
        assert_eq!(case.kind(&text), ErrorKind::TooLarge, "{name}");
        let error = case.parse(text).unwrap_err();
        let shown = error.to_string();
        assert!(!shown.contains("``"), "{name}: {shown}");
        // In the other formats a bare name may be a malformed value.
        let wanted = format!("`{}`: not a valid key: longer", &long[..80]);
        let is_named = matches!(name, "toml" | "json");
        assert_eq!(shown.contains(&wanted), is_named, "{name}: {shown}");
    }
}

#[test]
fn a_long_key_below_a_table_is_named_by_its_beginning() {
    let long = "k".repeat(1024);
    for (name, text) in [
        ("toml", format!("[a]\n{long} = 1\n")),
        ("json", format!("{{\"a\": {{\"{long}\": 1}}}}")),
        ("yaml", format!("a: {{{long}: 1}}")),
    ] {
        let Some(format) = Format::from_extension(name) else {
            continue;
        };
        let error = format.parse(text.as_bytes(), &origin()).unwrap_err();
        let wanted = match name {
            "yaml" => "`a`: a key in it is longer than 1024 bytes".to_owned(),
            _ => format!("`a.{}`: not a valid key", &long[..78]),
        };
        let shown = error.to_string();
        assert!(shown.starts_with(&wanted), "{name}: {shown}");
    }
}

#[test]
fn a_key_given_twice_rejects_the_document_and_names_both_lines() {
    for case in cases() {
        let name = case.format.name();
        let text = case.document(&[("x", "0"), ("dup", "hunter2"), ("y", "0"), ("dup", "2")]);
        let line = |nth| {
            let at = text.match_indices("dup").nth(nth).unwrap().0;
            positions::position(text.as_bytes(), at).0
        };
        let error = match case.parse(&text) {
            // Dotenv reports the line instead.
            Ok(document) if name == "dotenv" => document.problems()[0].clone(),
            parsed => parsed.unwrap_err(),
        };
        assert_eq!(error.kind(), ErrorKind::InvalidKey, "{name}");
        assert_eq!(error.key_text(), Some("dup"), "{name}");
        let wanted = format!("first on line {} and again on line {}", line(0), line(1));
        assert!(error.to_string().contains(&wanted), "{name}: {error}");
    }
}

#[test]
fn a_key_that_is_a_value_and_a_table_rejects_the_document() {
    for case in cases() {
        for (text, first, second) in case.clash {
            let error = case.parse(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidKey, "{text}: {error}");
            assert!(
                error.key_text().is_some_and(|key| key.starts_with('a')),
                "{text}: {error}"
            );
            let place = |at: &&str| at.replace("at ", "at file app:");
            let wanted = format!(
                "would be both a value and a table: a {}, a {}; rename one of them",
                place(first),
                place(second)
            );
            assert!(error.to_string().contains(&wanted), "{text}: {error}");
        }
    }
}

#[test]
fn no_error_quotes_a_value() {
    for case in cases() {
        let good = case.document(&[("first", "x"), ("password", "hunter2"), ("last", "x")]);
        let mut texts = vec![good.replace("\"hunter2\"", "hunter2")];
        for i in 0..good.len() {
            texts.push(good[..i].to_owned());
            for odd in [
                "\"", "'", "[", "}", "\\", "\\u12", "&", "*", "!", "%", "@", "`", ":", "=", "\n",
                "\t", "\u{1}", ",",
            ] {
                texts.push(format!("{}{odd}{}", &good[..i], &good[i..]));
            }
        }
        texts.push(case.document(&[("password", "hunter2"), ("password", "hunter2")]));
        for text in texts {
            // A value that ended up as a name is shown as one.
            if let Err(error) = case.parse(&text) {
                let shown = format!(
                    "{error} {error:?} {:?}",
                    std::error::Error::source(&error).map(|s| s.to_string())
                );
                assert!(
                    !shown.contains("hunter"),
                    "{}: {text:?}: {shown}",
                    case.format.name()
                );
                assert!(error.origin().is_some(), "{text:?}: {error}");
            }
        }
    }
}

#[test]
fn formats_are_found_by_extension_and_by_name() {
    for case in cases() {
        let name = case.format.name();
        let extension = if name == "dotenv" { "env" } else { name };
        let upper = extension.to_uppercase();
        assert_eq!(Format::from_extension(&upper).map(|f| f.name()), Some(name));
        let path = format!("/etc/app.{extension}");
        assert_eq!(
            Format::of_path(Path::new(&path)).map(|f| f.name()),
            Some(name)
        );
    }
    let of = |path: &str| Format::of_path(Path::new(path)).map(|f| f.name());
    let dotenv = cfg!(feature = "dotenv").then_some("dotenv");
    assert_eq!(of("x/.env"), dotenv);
    assert_eq!(of(".env.local"), dotenv);
    assert_eq!(of("x.yml"), cfg!(feature = "yaml").then_some("yaml"));
    assert_eq!(of("x.txt"), None);
    assert_eq!(of("toml"), None);
    assert_eq!(of("/"), None);
}

#[test]
fn a_format_of_your_own_is_given_checked_text() {
    fn one(text: &str, origin: &Origin) -> Result<Document, Error> {
        let mut document = Document::new();
        document.set("all", text, origin.at(1, 1))?;
        Ok(document)
    }
    let format = Format::new("one", one);
    let document = format.parse("\u{feff}x".as_bytes(), &origin()).unwrap();
    assert_eq!(document.get("all"), Some(&Value::from("x")));
    assert!(format.parse(b"a\0", &origin()).is_err());
    assert_eq!(format!("{format:?}"), "Format(one)");
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for case in cases() {
            let _ = case.parse(&bytes);
        }
    }

    #[test]
    fn random_signs_never_panic(text in "[\\]\\[{}:=,.#'\"\\\\ \n\r\t&*!|>%@`<?~+u0-9a-cx\u{e9}-]{0,120}") {
        for case in cases() {
            let _ = case.parse(&text);
        }
    }
}

/// Writes each key with its value and place, for comparison with a golden text.
#[allow(dead_code)] // only decoded
pub(super) fn golden(format: Format, text: &str) -> String {
    let document = format
        .parse(text.as_bytes(), &Origin::new("f", ""))
        .unwrap();
    let mut out = String::new();
    for (key, value, origin) in document.iter() {
        let (line, column) = origin.line().unwrap();
        writeln!(out, "{key} = {value} @{line}:{column}").unwrap();
    }
    out
}

/// The value of `v` in a document without its spelling, or the kind of the error.
#[allow(dead_code)] // only decoded
pub(super) fn value(format: Format, text: &str) -> Result<Value, ErrorKind> {
    let document = format.parse(text.as_bytes(), &origin());
    let document = document.map_err(|error| error.kind())?;
    Ok(document.get("v").unwrap().canonical().clone())
}

#[test]
fn a_format_whose_feature_is_off_is_named_with_the_feature() {
    for (name, feature) in [
        ("a.toml", "toml"),
        ("a.json", "json"),
        ("a.yaml", "yaml"),
        ("a.YML", "yaml"),
        ("a.properties", "properties"),
        (".env.local", "dotenv"),
        ("prod.env", "dotenv"),
    ] {
        let text = Format::unknown(Path::new(name));
        assert!(
            text.contains(&format!("the feature `{feature}`")),
            "{name}: {text}"
        );
        let known = Format::of_path(Path::new(name));
        assert!(
            known.is_none_or(|format| format.name() == feature),
            "{name}"
        );
    }
    for name in ["notes", "a.ini", ""] {
        let text = Format::unknown(Path::new(name));
        assert!(text.contains("with `format`"), "{name}: {text}");
    }
}
