use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use proptest::prelude::*;

use super::{encoding, file};
use crate::error::Error;
use crate::properties::Properties;
use crate::source::{Source, Watching};
use crate::value::Value;
use crate::value::document::Document;
use crate::value::origin::Origin;

const OWNER: &str = "store https://config.example/app";

fn moment() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::new(1_750_000_000, 7)
}

fn bytes(document: &Document) -> Vec<u8> {
    let body = encoding::body(document.root(), &[], &|_, _| false);
    encoding::file(
        OWNER,
        moment(),
        encoding::TextSyntax::References,
        Some("4711"),
        &body,
    )
}

fn listed(document: &Document) -> Vec<(String, Value, Origin)> {
    let all = document.iter();
    all.map(|(key, value, origin)| (key.to_string(), value.clone(), origin.clone()))
        .collect()
}

fn to_document(restored: encoding::Restored) -> Document {
    let mut document = Document::new();
    let mut leaves = Vec::new();
    restored.root.walk(&mut String::new(), &mut |key, entry| {
        leaves.push((key.to_owned(), entry.node.clone()));
    });
    for (key, node) in leaves {
        match node {
            crate::value::node::Node::Leaf(leaf) => {
                document.set(&key, leaf.value, leaf.origin).unwrap();
            }
            _ => {
                let empty = Value::Table(Default::default());
                document.set(&key, empty, Origin::new("", "")).unwrap();
            }
        }
    }
    document
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Unset),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<i128>().prop_map(Value::from),
        any::<u64>().prop_map(|bits| Value::from(f64::from_bits(bits))),
        ".{0,20}".prop_map(|text| Value::Text(text.into())),
        any::<i16>().prop_map(|value| Value::from(value).with_spelling(&format!("{value:#x}"))),
        any::<bool>().prop_map(|value| Value::from(value).with_spelling("YES")),
        any::<f64>().prop_map(|value| Value::from(value).with_spelling(&format!("{value:e}0"))),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| Value::List(items.into())),
            prop::collection::btree_map(".{0,6}", inner, 0..4).prop_map(|fields| {
                let fields: BTreeMap<Box<str>, Value> = fields
                    .into_iter()
                    .map(|(name, value)| (name.into(), value))
                    .collect();
                Value::from(fields)
            }),
        ]
    })
}

fn origins() -> impl Strategy<Value = Origin> {
    let name = prop_oneof![Just("app.toml"), Just("other.toml")];
    (name, any::<u32>(), any::<u64>(), 0..4).prop_map(|(name, line, revision, which)| {
        let origin = Origin::new("file", name);
        match which {
            0 => origin,
            1 => origin.at(line, line / 2),
            2 => origin.with_items(vec![(line, 1), (line, 2), (1, line)]),
            _ => origin.revision(revision),
        }
    })
}

fn documents() -> impl Strategy<Value = Document> {
    let key = prop::collection::vec(".{0,5}", 1..4);
    prop::collection::vec((key, values(), origins()), 0..12).prop_map(|entries| {
        let mut document = Document::new();
        for (path, value, origin) in entries {
            let path: Vec<_> = path.into_iter().map(Into::into).collect();
            // A key that clashes with one before it is left out.
            let _ = document.set_path(&path, value, &origin);
        }
        document
    })
}

proptest! {
    #[test]
    fn a_written_file_is_read_back(document in documents()) {
        let bytes = bytes(&document);
        let restored = encoding::read(&bytes, OWNER).unwrap();
        prop_assert_eq!(restored.confirmed, moment());
        prop_assert_eq!(restored.revision.as_deref(), Some("4711"));
        prop_assert_eq!(restored.root.leaves(), document.root().leaves());
        let body = encoding::body(&restored.root, &[], &|_, _| false);
        prop_assert_eq!(encoding::file(OWNER, moment(), encoding::TextSyntax::References, Some("4711"), &body), bytes);
        prop_assert_eq!(listed(&to_document(restored)), listed(&document));
    }

    #[test]
    fn any_bytes_are_rejected_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(encoding::read(&bytes, OWNER).is_err());
    }

    #[test]
    fn a_body_of_any_bytes_under_a_good_checksum_never_panics(
        noise in prop::collection::vec(prop_oneof![0u8..9, any::<u8>()], 0..300),
        at in any::<prop::sample::Index>(),
        document in documents(),
    ) {
        let _ = encoding::read(&encoding::file(OWNER, moment(), encoding::TextSyntax::References, None, &noise), OWNER);
        let mut body = encoding::body(document.root(), &[], &|_, _| false);
        let at = at.index(body.len());
        body.splice(at.., noise);
        let _ = encoding::read(&encoding::file(OWNER, moment(), encoding::TextSyntax::References, None, &body), OWNER);
    }
}

#[test]
fn a_file_that_nests_without_end_is_rejected() {
    for part in [
        // A table of one name, which is a table of one name, ...
        [&1u32.to_le_bytes()[..], &0u32.to_le_bytes(), &[0]].concat(),
        // A list of one list of one list, ...
        [&[7][..], &1u32.to_le_bytes()].concat(),
    ] {
        let mut body = Vec::new();
        if part[0] == 7 {
            body.extend(1u32.to_le_bytes());
            body.extend([1, 0, 0, 0, b'a', 1, 0, 0, 0, 0]);
            body.extend([0, 0, 0, 0, 0, 0, 0, 0, 0]);
        }
        body.extend(part.repeat(1_000_000));
        let error = encoding::read(
            &encoding::file(
                OWNER,
                moment(),
                encoding::TextSyntax::References,
                None,
                &body,
            ),
            OWNER,
        )
        .unwrap_err();
        assert!(
            error.contains("nested too deep") || error.contains("too long a key"),
            "{error}"
        );
    }
}

#[test]
fn counts_of_billions_allocate_nothing() {
    let huge = u32::MAX.to_le_bytes();
    for body in [huge.to_vec(), [&1u32.to_le_bytes()[..], &huge].concat()] {
        assert!(
            encoding::read(
                &encoding::file(
                    OWNER,
                    moment(),
                    encoding::TextSyntax::References,
                    None,
                    &body
                ),
                OWNER
            )
            .is_err()
        );
    }
}

/// The bytes of an entry: a name, and a leaf with an integer.
fn entry(name: &str) -> Vec<u8> {
    let length = u32::try_from(name.len()).unwrap().to_le_bytes();
    let mut bytes = [&length[..], name.as_bytes(), &[1, 0, 0, 0, 0]].concat();
    // The first origin has a kind and a name, both empty; a second one would refer to number 0 only.
    bytes.extend([0; 8]);
    bytes.push(0);
    bytes.push(3);
    bytes.extend(1i64.to_le_bytes());
    bytes
}

fn reason(body: &[u8]) -> String {
    encoding::read(
        &encoding::file(
            OWNER,
            moment(),
            encoding::TextSyntax::References,
            None,
            body,
        ),
        OWNER,
    )
    .unwrap_err()
}

#[test]
fn contents_that_no_tree_may_have_are_rejected() {
    let mut twice = 2u32.to_le_bytes().to_vec();
    twice.extend(entry("a"));
    let second = entry("a");
    // Without the kind and the name of its origin, which is known by now.
    twice.extend([&second[..10], &second[18..]].concat());
    assert!(reason(&twice).contains("twice"), "{}", reason(&twice));

    let long = [&1u32.to_le_bytes()[..], &entry(&"x".repeat(2_000))].concat();
    assert!(
        reason(&long).contains("too long a key"),
        "{}",
        reason(&long)
    );

    // A list of items of a byte each takes far more memory than its bytes.
    let mut list = 1u32.to_le_bytes().to_vec();
    list.extend(&entry("a")[..19]);
    list.push(7);
    list.extend(7_000_000u32.to_le_bytes());
    list.extend(vec![2; 7_000_000]);
    assert!(
        reason(&list).contains("too many values"),
        "{}",
        reason(&list)
    );
}

#[test]
fn a_hidden_value_is_not_written_and_an_empty_table_is() {
    let mut document = Document::new();
    let origin = Origin::new("file", "app.toml");
    document
        .set("db.password", "hunter2", origin.clone())
        .unwrap();
    document.set("db.port", 5432, origin.clone()).unwrap();
    document
        .set("only.hidden.pin", 1234, origin.clone())
        .unwrap();
    document
        .set("empty", Value::Table(Default::default()), origin)
        .unwrap();
    let hidden = |key: &str, _: &Value| key.ends_with("password") || key.ends_with("pin");
    let body = encoding::body(document.root(), &[], &hidden);
    assert!(!body.windows(7).any(|bytes| bytes == b"hunter2"));
    let restored = encoding::read(
        &encoding::file(
            OWNER,
            moment(),
            encoding::TextSyntax::References,
            None,
            &body,
        ),
        OWNER,
    )
    .unwrap();
    let mut keys = Vec::new();
    restored
        .root
        .walk(&mut String::new(), &mut |key, _| keys.push(key.to_owned()));
    keys.sort();
    assert_eq!(keys, ["db.port", "empty"]);
    assert!(restored.root.get("only").is_none());
}

#[test]
fn names_are_readable_and_differ() {
    let name = file::file_name(OWNER);
    assert!(
        name.starts_with("store-https-config-example-app-"),
        "{name}"
    );
    assert_ne!(name, file::file_name("store https://config.example/app/"));
    assert!(!file::file_name("../../etc/passwd").contains('/'));
    assert!(file::file_name(&"x".repeat(10_000)).len() < 80);
    assert!(!file::file_name("").starts_with('.'));
}

#[test]
fn a_start_removes_the_files_of_writers_that_have_ended_and_of_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let this = file::Writer::this();
    let mut ended = std::process::Command::new("true").spawn().unwrap();
    ended.wait().unwrap();
    let with = |process| file::Writer { process, ..this };
    let (dead, init) = (with(ended.id()), with(1));
    let earlier = file::Writer {
        run: !this.run,
        ..this
    };
    let elsewhere = |writer| file::Writer {
        space: !this.space,
        ..writer
    };
    let unknown = |writer| file::Writer { space: 0, ..writer };
    let left = [dead, earlier];
    let used = [
        this,
        init,
        elsewhere(this),
        elsewhere(dead),
        elsewhere(earlier),
        unknown(dead),
        unknown(earlier),
    ];
    let path = |writer: file::Writer| dir.path().join(writer.file_name(7));
    for writer in left.into_iter().chain(used) {
        std::fs::write(path(writer), b"half").unwrap();
    }
    file::StateDir::open(dir.path().to_path_buf());
    // Where numbers of processes mean nothing, only the age counts.
    let certain = this.space != 0;
    assert!(
        left.into_iter()
            .all(|writer| path(writer).exists() != certain)
    );
    for writer in used {
        assert!(path(writer).exists(), "{writer:?}");
    }
    let hour = SystemTime::now() - Duration::from_secs(3_600);
    for writer in used {
        let file = std::fs::File::options().write(true).open(path(writer));
        file.unwrap().set_modified(hour).unwrap();
    }
    file::StateDir::open(dir.path().to_path_buf());
    for writer in used {
        assert_eq!(path(writer).exists(), writer == this, "{writer:?}");
    }
}

/// A source that sends the same for ever.
struct Steady;

impl Source for Steady {
    fn origin(&self) -> Origin {
        Origin::new("steady", "")
    }

    fn load(&self) -> Result<Document, Error> {
        let mut document = Document::new();
        document.set("n", 1, self.origin())?;
        Ok(document)
    }

    fn watching(&self) -> Watching {
        Watching::Poll(Duration::from_millis(10))
    }
}

#[test]
fn an_unchanged_answer_is_written_now_and_then() {
    let dir = tempfile::tempdir().unwrap();
    let path = file::path(dir.path(), "steady");
    let builder = Properties::builder().state_dir(dir.path());
    let source = Steady.with(|policy| policy.cached());
    let props = builder.source(source).build().unwrap();
    let confirmed = || {
        let bytes = file::read(&path).ok()??;
        Some(encoding::read(&bytes, "steady").unwrap().confirmed)
    };
    let (mut seen, began) = (Vec::new(), Instant::now());
    while seen.len() < 4 {
        assert!(began.elapsed() < Duration::from_secs(20), "{seen:?}");
        match confirmed() {
            Some(confirmed) if seen.last() != Some(&confirmed) => seen.push(confirmed),
            _ => std::thread::sleep(Duration::from_millis(5)),
        }
    }
    for two in seen.windows(2) {
        let apart = two[1].duration_since(two[0]).unwrap();
        assert!(apart >= super::writer::FRESH, "{apart:?}");
    }
    drop(props);
}
