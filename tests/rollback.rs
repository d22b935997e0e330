//! A roll-back survives a restart.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use liveprops::sources::Memory;
use liveprops::{Builder, Error, ErrorKind, Layer, Properties, Secret, Value};
use support::{DEADLINE, eventually};

const GOOD: [(&str, &str); 4] = [
    ("qps", "100"),
    ("burst", "${qps}"),
    ("db.password", "hunter1"),
    ("app.line", "app:${db.password}@db"),
];
const BAD: [(&str, &str); 4] = [
    ("qps", "1"),
    ("burst", "7"),
    ("db.password", "hunter2"),
    ("app.line", "none"),
];

struct StateDir(tempfile::TempDir);

impl StateDir {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn builder(&self, memory: &Memory) -> Builder {
        Properties::builder()
            .inline_callbacks()
            .history(8)
            .state_dir(self.dir())
            .source(memory.clone())
    }

    fn start(&self, memory: &Memory) -> Properties {
        self.builder(memory).build().unwrap()
    }

    fn dir(&self) -> PathBuf {
        self.0.path().join("state")
    }

    fn file(&self) -> PathBuf {
        self.dir().join("rollback.cache")
    }

    /// A run that rolls back a bad push and ends.
    fn rolled_back(&self) -> u64 {
        let memory = Memory::from(GOOD);
        let props = self.start(&memory);
        let good = props.generation();
        memory.replace(BAD).unwrap();
        let applied = props.rollback_to(good).unwrap();
        assert!(applied.rejected.is_empty(), "{:?}", applied.rejected);
        assert!(self.file().exists(), "on disk when it returns");
        good
    }
}

fn holds(file: &Path, text: &str) -> bool {
    let bytes = fs::read(file).unwrap();
    bytes.windows(text.len()).any(|at| at == text.as_bytes())
}

#[test]
fn a_restart_begins_with_the_rolled_back_values_and_current_secrets() -> Result<(), Error> {
    let dir = StateDir::new();
    let good = dir.rolled_back();
    assert!(!holds(&dir.file(), "hunter"), "a secret is on disk");

    let memory = Memory::from(BAD);
    let props = dir.start(&memory);
    let qps = props.property::<u32>("qps").build()?;
    let burst = props.property::<u32>("burst").build()?;
    assert_eq!((qps.get(), burst.get()), (100, 100));
    let password = props.property::<Secret<String>>("db.password").build()?;
    assert_eq!(password.load().expose(), "hunter2");
    let line = props.property::<String>("app.line").build()?;
    assert_eq!(**line.load(), *"app:hunter2@db");
    let pinned = props.pinned().unwrap();
    assert_eq!((pinned.generation, pinned.by_earlier_run), (good, true));
    let explained = props.explain("qps").to_string();
    let expected = format!("rolled back to generation {good} of an earlier run");
    assert!(explained.contains(&expected), "{explained}");

    // Values of the layers stay pending; a changed secret is followed.
    let others = [("burst", "9"), ("app.line", "none")];
    let new = [("qps", "2"), ("new", "3"), ("db.password", "hunter3")];
    memory.replace(new.into_iter().chain(others))?;
    assert_eq!((qps.get(), burst.get()), (100, 100));
    assert_eq!(props.get_opt::<u32>("new")?, None);
    assert_eq!(password.load().expose(), "hunter3");
    assert_eq!(**line.load(), *"app:hunter3@db");
    drop(props);

    // Once more, and then the roll-back ends.
    let memory = Memory::from(BAD);
    let props = dir.start(&memory);
    assert_eq!(props.get::<u32>("qps")?, 100);
    props.unpin()?;
    assert_eq!(props.get::<u32>("qps")?, 1);
    assert_eq!(props.get::<String>("app.line")?, "none");
    assert!(!dir.file().exists());
    drop(props);
    let props = dir.start(&Memory::from(BAD));
    assert_eq!(props.get::<u32>("qps")?, 1);
    assert_eq!(props.pinned(), None);
    Ok(())
}

#[test]
fn a_damaged_roll_back_file_is_rejected_and_reported() -> Result<(), Error> {
    let dir = StateDir::new();
    dir.rolled_back();
    let whole = fs::read(dir.file()).unwrap();
    let cuts = (0..whole.len()).step_by(37).map(|at| whole[..at].to_vec());
    let flips = (0..whole.len()).step_by(11).map(|at| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        bytes
    });
    for bytes in cuts.chain(flips) {
        fs::write(dir.file(), &bytes).unwrap();
        let props = dir.start(&Memory::from(BAD));
        assert_eq!(props.get::<u32>("qps")?, 1);
        assert_eq!(props.pinned(), None);
        let rejected = props.health().rejected;
        let message = rejected.iter().map(|rejected| rejected.error.to_string());
        let message: Vec<String> = message.collect();
        assert!(
            message.iter().any(|t| t.contains("roll-back")),
            "{message:?}"
        );
    }
    Ok(())
}

#[test]
fn a_stored_roll_back_that_has_become_invalid_leaves_the_layers_in_force() -> Result<(), Error> {
    let dir = StateDir::new();
    dir.rolled_back();
    let strict = |memory: &Memory, most: u32| {
        let rule = move |view: &liveprops::Snapshot| match view.get("qps").unwrap_or(0u32) {
            qps if qps > most => Err(format!("{qps} is more than {most}")),
            _ => Ok(()),
        };
        dir.builder(memory).validate(rule).build()
    };
    let memory = Memory::from(BAD);
    let props = strict(&memory, 50)?;
    assert_eq!(props.get::<u32>("qps")?, 1);
    assert_eq!(props.pinned(), None);
    let rejected = props.health().rejected;
    let message = rejected[0].error.to_string();
    assert!(
        message.contains("roll-back") && message.contains("100 is more than 50"),
        "{message}"
    );
    drop(props);
    // The roll-back is kept: the rule that rejects it may be wrong.
    assert_eq!(strict(&memory, 1000)?.get::<u32>("qps")?, 100);

    let error = strict(&memory, 0).unwrap_err();
    let message: Vec<String> = error.iter().map(ToString::to_string).collect();
    assert!(
        message.iter().any(|t| t.contains("100 is more than 0")),
        "{message:?}"
    );
    assert!(
        message.iter().any(|t| t.contains("1 is more than 0")),
        "{message:?}"
    );

    // Ending a roll-back that is not in force deletes it.
    let props = strict(&memory, 50)?;
    props.unpin()?;
    assert!(!dir.file().exists());
    Ok(())
}

#[test]
fn a_roll_back_that_cannot_be_written_is_in_force_and_reported() -> Result<(), Error> {
    let dir = StateDir::new();
    // A file prevents the directory.
    fs::write(dir.dir(), "").unwrap();
    let memory = Memory::from(GOOD);
    let props = dir.start(&memory);
    let good = props.generation();
    memory.replace(BAD)?;
    let applied = props.rollback_to(good)?;
    assert_eq!(props.get::<u32>("qps")?, 100);
    assert_eq!(applied.rejected[0].kind(), ErrorKind::Unavailable);
    let message = applied.rejected[0].to_string();
    assert!(message.contains("until the next restart only"), "{message}");
    let rejected = props.health().rejected;
    assert!(
        rejected
            .iter()
            .any(|rejected| rejected.error.to_string() == message)
    );
    props.unpin()?;
    assert_eq!(props.get::<u32>("qps")?, 1);
    Ok(())
}

#[test]
fn a_value_that_turns_out_to_be_secret_is_removed_from_disk() -> Result<(), Error> {
    let dir = StateDir::new();
    let values = |seal: &str| {
        let values = [("qps", "1"), ("seal", seal)];
        values.map(|(key, value)| (key, Value::from(value)))
    };
    let memory = Memory::from(values("walrus1"));
    let props = dir.start(&memory);
    let good = props.generation();
    memory.set("qps", 2)?;
    props.rollback_to(good)?;
    assert!(holds(&dir.file(), "walrus1"));
    let seal = props.property::<Secret<String>>("seal").build()?;
    assert!(eventually(DEADLINE, || !holds(&dir.file(), "walrus1")));
    assert_eq!(seal.load().expose(), "walrus1");
    drop((seal, props));
    let props = dir.start(&Memory::from(values("walrus2")));
    let seal = props.property::<Secret<String>>("seal").build()?;
    assert_eq!(seal.load().expose(), "walrus2");
    assert_eq!(props.get::<u32>("qps")?, 1);
    Ok(())
}

#[test]
fn a_key_that_needs_a_restart_begins_with_its_rolled_back_value() -> Result<(), Error> {
    let dir = StateDir::new();
    dir.rolled_back();
    let memory = Memory::from(BAD);
    let props = dir.builder(&memory).restart_required("qps").build()?;
    assert_eq!(props.get::<u32>("qps")?, 100);
    props.unpin()?;
    assert_eq!(props.get::<u32>("qps")?, 100);
    assert_eq!(props.get::<u32>("burst")?, 7);
    let pending = props.health().pending_restart;
    assert_eq!(pending[0].waiting.as_deref(), Some("\"1\""));
    Ok(())
}

#[test]
fn a_process_that_shares_the_directory_does_not_end_the_roll_back_of_another() -> Result<(), Error>
{
    let dir = StateDir::new();
    let other = dir.start(&Memory::from([("seal", "x")]));
    dir.rolled_back();
    // It discovers a secret and has no roll-back to end.
    let _: Secret<String> = other.get("seal")?;
    other.unpin()?;
    drop(other);
    assert!(dir.file().exists());
    assert_eq!(dir.start(&Memory::from(BAD)).get::<u32>("qps")?, 100);
    Ok(())
}

/// Returns all keys with their values and origins.
fn all(props: &Properties) -> Vec<(String, Result<Value, ErrorKind>, Option<String>)> {
    let view = props.snapshot();
    let read = |key: &liveprops::Key| {
        let value = view
            .get::<Value>(key.as_str())
            .map_err(|error| error.kind());
        let origin = view.explain(key.as_str()).origin;
        (
            key.to_string(),
            value,
            origin.map(|origin| origin.to_string()),
        )
    };
    view.keys().iter().map(read).collect()
}

#[test]
fn a_joined_list_does_not_grow_with_each_restart() -> Result<(), Error> {
    let dir = StateDir::new();
    let start = || -> Result<_, Error> {
        let memory = Memory::from([("l", vec![2])]);
        let builder = dir.builder(&memory).append("l").default("l", vec![1]);
        Ok((
            builder.bootstrap(Memory::from([("b", "1")])).build()?,
            memory,
        ))
    };
    let (props, memory) = start()?;
    let (good, before) = (props.generation(), all(&props));
    memory.set("l", vec![3])?;
    props.rollback_to(good)?;
    drop(props);
    for _ in 0..3 {
        let (props, _memory) = start()?;
        assert_eq!(props.get::<Vec<i64>>("l")?, [1, 2]);
        assert_eq!(all(&props), before);
    }
    let (props, _memory) = start()?;
    props.unpin()?;
    assert_eq!(props.get::<Vec<i64>>("l")?, [1, 2], "joined by the layers");
    Ok(())
}

#[test]
fn a_hidden_default_stays_hidden_after_a_restart() -> Result<(), Error> {
    let dir = StateDir::new();
    let memory = || {
        let memory = Memory::from([("feature.new", Value::Unset), ("t", Value::Unset)]);
        memory.set("n", "${feature.new:none}").unwrap();
        memory
    };
    let start = |memory: &Memory, more: bool| {
        let builder = dir
            .builder(memory)
            .default("feature.new", true)
            .default("t.a.b", 1)
            .default("t.c", 1);
        match more {
            true => builder
                .default("t.new.in.this.release", 1)
                .default("fresh", 1)
                .build(),
            false => builder.build(),
        }
    };
    let first = memory();
    let props = start(&first, false)?;
    let (good, before) = (props.generation(), all(&props));
    first.set("n", "bad")?;
    props.rollback_to(good)?;
    drop(props);
    for _ in 0..2 {
        let props = start(&memory(), false)?;
        assert_eq!(props.get_opt::<bool>("feature.new")?, None);
        assert_eq!(all(&props), before);
    }
    let props = start(&memory(), true)?;
    assert_eq!(props.get_opt::<bool>("feature.new")?, None);
    assert_eq!(props.get::<u32>("t.new.in.this.release")?, 1);
    assert_eq!(props.get::<u32>("fresh")?, 1);
    assert_eq!(props.get_opt::<u32>("t.c")?, None);
    Ok(())
}

#[test]
fn a_hidden_default_list_is_not_joined_with_the_rolled_back_list() -> Result<(), Error> {
    let dir = StateDir::new();
    let upper = Memory::from([("hosts.0", "b"), ("other.0", "b")]);
    let start = |more: bool| {
        let lower = Memory::from([("hosts", Value::Unset), ("other", Value::Unset)]);
        let builder = dir
            .builder(&upper)
            .source_in(Layer::new("lower", 100), lower)
            .default("hosts", "a,c")
            .default("other", vec!["a", "c"]);
        match more {
            true => builder.default("fresh", 1).build(),
            false => builder.build(),
        }
    };
    let props = start(false)?;
    let (good, before) = (props.generation(), all(&props));
    assert_eq!(props.get::<Vec<String>>("hosts")?, ["b"]);
    upper.set("hosts.0", "bad")?;
    props.rollback_to(good)?;
    drop(props);
    upper.set("hosts.0", "b")?;
    for _ in 0..2 {
        let props = start(false)?;
        assert_eq!(all(&props), before);
    }
    let props = start(true)?;
    for key in ["hosts", "other"] {
        assert_eq!(props.get::<Vec<String>>(key)?, ["b"], "{key}");
    }
    assert_eq!(props.get::<u32>("fresh")?, 1);
    Ok(())
}

#[test]
fn a_value_that_was_fixed_at_the_start_is_restored_and_not_followed_again() -> Result<(), Error> {
    let dir = StateDir::new();
    let start = |memory: &Memory| dir.builder(memory).restart_required("name").build();
    let values = [("name", "${base}-$${base}"), ("base", "one")];
    let memory = Memory::from(values);
    let props = start(&memory)?;
    memory.set("base", "two")?;
    let good = props.generation();
    let before = all(&props);
    assert_eq!(props.get::<String>("name")?, "one-${base}");
    memory.set("base", "three")?;
    props.rollback_to(good)?;
    drop(props);
    for _ in 0..2 {
        let props = start(&Memory::from(values))?;
        assert_eq!(props.get::<String>("name")?, "one-${base}");
        assert_eq!(all(&props), before);
    }
    Ok(())
}
