mod documents;
mod limits;

use std::collections::BTreeMap;

use super::update::MAX_PROBLEMS;
use super::*;
use crate::error::ErrorKind;
use crate::format::Format;
use crate::sources::shared::kv::mapping::MAX_VALUE_BYTES;
use crate::value::document::Document;

fn mirror() -> Mirror {
    Mirror::new(Mapping::prefix("test", '/', "app"))
}

fn mirror_with(documents: &[&str]) -> Mirror {
    let mut mapping = Mapping::prefix("test", '/', "app");
    for key in documents {
        mapping.add_document(key, lines());
    }
    Mirror::new(mapping)
}

fn put(mirror: &mut Mirror, key: &str, value: &[u8], revision: u64) {
    mirror.put(&StoreEntry {
        key,
        bytes: value,
        revision,
    });
}

/// A line is a name and a value; one that is neither breaks the document.
fn lines() -> Format {
    Format::new("lines", |text, origin| {
        let mut document = Document::new();
        for (number, line) in (1..).zip(text.lines()) {
            let (name, value) = line
                .split_once('=')
                .ok_or_else(|| Error::new(ErrorKind::Malformed, "no value"))?;
            document.set(name, value, origin.at(number, 1))?;
        }
        Ok(document)
    })
}

/// The values of a program that starts with the document of an earlier run.
fn restored(mirror: &mut Mirror, kept: &Document) -> Vec<String> {
    let mut document = mirror.document("1").unwrap();
    document.keep_last_good(kept.root());
    let all = document.iter();
    all.map(|(key, value, _)| format!("{key} = {value}"))
        .collect()
}

/// The problems of the document.
fn problems(mirror: &mut Mirror) -> Vec<String> {
    let document = mirror.document("1").unwrap();
    document
        .problems()
        .iter()
        .map(ToString::to_string)
        .collect()
}

/// The values of the document, and the number of its problems.
fn state(mirror: &mut Mirror) -> (Vec<String>, usize) {
    let document = mirror.document("1").unwrap();
    let lines = document
        .iter()
        .map(|(key, value, _)| format!("{key}={value}"));
    (lines.collect(), document.problems().len())
}

#[test]
fn a_key_that_cannot_be_read_keeps_its_kept_value_and_a_deleted_one_does_not() {
    let mut before = mirror();
    for (key, value) in [("app/a", "1"), ("app/b", "2"), ("app/c", "3")] {
        put(&mut before, key, value.as_bytes(), 1);
    }
    let kept = before.document("1").unwrap();
    let mut now = mirror();
    put(&mut now, "app/a", b"10", 2);
    put(&mut now, "app/b", &[0xff], 2);
    assert_eq!(restored(&mut now, &kept), ["a = \"10\"", "b = \"2\""]);
    // More faults than are reported one by one.
    for key in 0..2 * MAX_PROBLEMS {
        put(&mut now, &format!("app/0{key}"), &[0xff], 3);
    }
    assert_eq!(restored(&mut now, &kept), ["a = \"10\"", "b = \"2\""]);
    now.delete("app/b");
    assert_eq!(restored(&mut now, &kept), ["a = \"10\""]);
}

#[test]
fn a_key_that_cannot_be_read_keeps_the_accepted_value_and_not_a_rejected_one() {
    for documents in [&[][..], &["x"]] {
        let mut mirror = mirror_with(documents);
        let (good, bad) = if documents.is_empty() {
            ("1", "many")
        } else {
            ("a=1", "a=many")
        };
        put(&mut mirror, "app/x", good.as_bytes(), 1);
        put(&mut mirror, "app/y", b"1", 1);
        let accepted = mirror.document("1").unwrap();
        // The properties reject this value and keep the one before.
        put(&mut mirror, "app/x", bad.as_bytes(), 2);
        mirror.document("2").unwrap();
        put(&mut mirror, "app/x", &[0xff], 3);
        put(&mut mirror, "app/y", b"2", 3);
        let values = restored(&mut mirror, &accepted);
        assert!(values.contains(&"y = \"2\"".to_owned()), "{values:?}");
        let values = values.concat();
        assert!(
            values.contains("= \"1\"") && !values.contains("many"),
            "{values}"
        );
        // The same text again, which may be acceptable by now.
        put(&mut mirror, "app/x", bad.as_bytes(), 4);
        let values = restored(&mut mirror, &accepted).concat();
        assert!(values.contains("many"), "{values}");
    }
}

#[test]
fn a_key_that_an_unreadable_key_excludes_stays_excluded() {
    for (hidden, key) in [
        ("app/a.b", "app/a/b"),
        ("app/a", "app/a/b"),
        ("app/d/x", "app/d"),
        ("app/d", "app/d/x/y"),
    ] {
        let mut mirror = mirror_with(&["d", "d/x/y"]);
        put(&mut mirror, key, b"c=1", 1);
        let accepted = mirror.document("1").unwrap();
        put(&mut mirror, hidden, b"c=2", 2);
        let before = restored(&mut mirror, &accepted);
        put(&mut mirror, key, b"\xff", 3);
        assert_eq!(restored(&mut mirror, &accepted), before, "{hidden} {key}");
        // The key that clashes is set last.
        let mut mirror = mirror_with(&["d", "d/x/y"]);
        put(&mut mirror, key, b"c=1", 1);
        put(&mut mirror, key, b"\xff", 2);
        put(&mut mirror, hidden, b"c=2", 3);
        assert_eq!(restored(&mut mirror, &accepted), before, "{hidden} {key}");
    }
}

#[test]
fn a_prefix_without_keys_is_a_hint_until_there_is_one() {
    let hints = |mirror: &mut Mirror| -> Vec<String> {
        let document = mirror.document("1").unwrap();
        assert!(document.problems().is_empty());
        document.hints().iter().map(ToString::to_string).collect()
    };
    let mut mirror = mirror();
    let wanted = "no key of the store begins with `app/` (test app/)";
    assert_eq!(hints(&mut mirror), [wanted]);
    put(&mut mirror, "apple/a", b"1", 1);
    assert_eq!(hints(&mut mirror), [wanted]);
    put(&mut mirror, "app/a", b"1", 1);
    assert_eq!(hints(&mut mirror), Vec::<String>::new());
    mirror.delete("app/a");
    assert_eq!(hints(&mut mirror), [wanted]);
    let mut whole = Mirror::new(Mapping::prefix("test", '/', ""));
    assert_eq!(hints(&mut whole), ["the store has no keys (test)"]);
}

#[test]
fn an_unchanged_state_is_no_update() {
    let mut mirror = mirror();
    assert!(mirror.update("1").unwrap().is_none());
    put(&mut mirror, "app/a", b"1", 1);
    put(&mut mirror, "other", b"1", 1);
    assert!(mirror.update("1").unwrap().is_some());
    assert!(mirror.update("1").unwrap().is_none());
    let all = [("app/a", 1), ("other", 7)];
    mirror.replace(all.map(|(key, revision)| StoreEntry {
        key,
        bytes: b"1",
        revision,
    }));
    assert!(mirror.update("2").unwrap().is_none());
    mirror.replace([]);
    assert!(mirror.update("3").unwrap().is_some());
}

#[test]
fn a_value_that_is_not_text_is_rejected_alone_and_the_old_one_stays() {
    let mut mirror = mirror();
    for n in 0..9 {
        put(&mut mirror, &format!("app/good{n}"), b"1", 1);
    }
    put(&mut mirror, "app/k", b"old", 1);
    assert_eq!(state(&mut mirror).1, 0);
    let accepted = mirror.document("1").unwrap();
    put(&mut mirror, "app/k", b"\xff\xfe", 2);
    put(&mut mirror, "app/large", &vec![b'x'; (1 << 20) + 1], 2);
    put(&mut mirror, "app/a//b", b"1", 2);
    assert_eq!(state(&mut mirror).1, 3);
    let lines = restored(&mut mirror, &accepted);
    assert_eq!(lines.len(), 10);
    assert!(lines.contains(&"k = \"old\"".to_owned()), "{lines:?}");
    let text = mirror.document("1").unwrap().problems()[1].to_string();
    assert!(
        text.contains("app/k") && text.contains("byte 0 of 2"),
        "{text}"
    );
    for key in ["app/k", "app/large", "app/a//b"] {
        mirror.delete(key);
    }
    assert_eq!(state(&mut mirror).1, 0);
}

#[test]
fn an_unreadable_key_keeps_its_values_and_those_below_until_it_is_readable_or_removed() {
    let mut mirror = mirror();
    let all = ["app/a", "app/dir/b", "app/dirs"].map(|key| StoreEntry {
        key,
        bytes: b"1",
        revision: 1,
    });
    mirror.replace(all.clone());
    mirror.replace_except([], |key| key.starts_with("app/dir/"));
    mirror.reject("app/dir", Error::new(ErrorKind::Unavailable, "closed"));
    assert_eq!(state(&mut mirror), (vec!["dir.b=\"1\"".to_owned()], 1));
    mirror.reject("other", Error::new(ErrorKind::Unavailable, "closed"));
    assert!(mirror.update("2").unwrap().is_none());
    // The same revision as before it was closed.
    mirror.replace(all.clone());
    mirror.reject("app/a", Error::new(ErrorKind::Unavailable, "closed"));
    assert_eq!(state(&mut mirror).1, 1);
    mirror.replace(all);
    assert_eq!(state(&mut mirror).1, 0);
    assert_eq!(state(&mut mirror).0.len(), 3);
}

#[test]
fn one_of_two_keys_for_a_property_counts_and_the_other_is_reported_until_it_is_removed() {
    let mut mirror = mirror();
    put(&mut mirror, "app/a.b", b"dot", 1);
    put(&mut mirror, "app/a/b", b"slash", 1);
    assert_eq!(state(&mut mirror), (vec!["a.b=\"slash\"".to_owned()], 1));
    mirror.delete("app/a/b");
    assert_eq!(state(&mut mirror), (vec!["a.b=\"dot\"".to_owned()], 0));
    // A value with another one below it.
    put(&mut mirror, "app/a", b"up", 2);
    assert_eq!(state(&mut mirror), (vec!["a.b=\"dot\"".to_owned()], 1));
    mirror.delete("app/a.b");
    assert_eq!(state(&mut mirror), (vec!["a=\"up\"".to_owned()], 0));
}

#[test]
fn a_new_fault_is_reported_and_the_same_one_only_once() {
    let mut mirror = mirror();
    put(&mut mirror, "app/k", b"\xff", 1);
    assert!(mirror.update("1").unwrap().is_some());
    put(&mut mirror, "app/k", b"\xff", 1);
    assert!(mirror.update("2").unwrap().is_none());
    put(&mut mirror, "app/k", &vec![b'x'; MAX_VALUE_BYTES + 1], 2);
    assert!(mirror.update("3").unwrap().is_some());
    let closed = || Error::new(ErrorKind::Unavailable, "closed");
    mirror.reject("app/k", closed());
    assert!(mirror.update("4").unwrap().is_some());
    mirror.reject("app/k", closed());
    assert!(mirror.update("5").unwrap().is_none());
    assert!(problems(&mut mirror)[0].contains("closed"));
}

#[test]
fn random_changes_lead_to_the_state_of_a_fresh_mirror() {
    use proptest::prelude::*;

    let documents = ["b", "d", "x/y"];
    let keys = [
        "app/a",
        "app/a/b",
        "app/a.b",
        "app/b/c",
        "app/b",
        "app/b/c/d",
        "app/b/new",
        "app/d",
        "app/d/c",
        "app/x",
        "app/x/y",
        "app/x.y",
        "app/x/y/z",
        "app/x/other",
    ];
    let values = ["", "1", "2", "c=1\nz=2", "c.d=1", "\u{fffd}"];
    let bytes = |value: &'static str| match value {
        "\u{fffd}" => &b"\xff"[..],
        text => text.as_bytes(),
    };
    let is_broken = |key: &str, value: &str| {
        let key = key.trim_start_matches("app/");
        let is_document = documents.contains(&key);
        value == "\u{fffd}" || is_document && value.len() == 1
    };
    let change = (0..keys.len(), prop::option::of(0..values.len()));
    let batches = prop::collection::vec(prop::collection::vec(change, 1..4), 1..12);
    proptest!(|(batches in batches)| {
        let mut mirror = mirror_with(&documents);
        // What is broken leaves what was good before it.
        let (mut store, mut good) = (BTreeMap::new(), BTreeMap::new());
        for (revision, batch) in (1..).zip(batches) {
            for (key, value) in batch {
                let key = keys[key];
                match value {
                    Some(value) => {
                        let value = values[value];
                        store.insert(key, (value, revision));
                        if !is_broken(key, value) {
                            good.insert(key, (value, revision));
                        }
                        put(&mut mirror, key, bytes(value), revision);
                    }
                    None => {
                        store.remove(key);
                        good.remove(key);
                        mirror.delete(key);
                    }
                }
            }
            mirror.update("1").unwrap();
            let mut fresh = mirror_with(&documents);
            for all in [&good, &store] {
                fresh.replace(all.iter().map(|(key, (value, revision))| StoreEntry {
                    key,
                    bytes: bytes(value),
                    revision: *revision,
                }));
            }
            prop_assert_eq!(state(&mut mirror), state(&mut fresh));
            prop_assert_eq!(problems(&mut mirror), problems(&mut fresh));
            prop_assert_eq!(mirror.entries.bytes(), fresh.entries.bytes());
        }
    });
}
