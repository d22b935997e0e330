//! A change that waits for a restart, or behind a roll-back, is validated when it arrives.
#![allow(missing_docs, clippy::unwrap_used)]

use liveprops::sources::Memory;
use liveprops::{Builder, Document, Error, ErrorKind, Key, Origin, Properties, Source, Watching};

fn builder(memory: &Memory) -> Builder {
    Properties::builder()
        .inline_callbacks()
        .history(8)
        .source(memory.clone())
}

fn few(view: &liveprops::Snapshot) -> Result<(), String> {
    match view.get("qps").unwrap_or(0u32) {
        qps if qps > 1000 => Err(format!("{qps} is more than 1000")),
        _ => Ok(()),
    }
}

#[test]
fn a_change_behind_a_roll_back_is_rejected_if_it_is_invalid() -> Result<(), Error> {
    let memory = Memory::from([("qps", "100"), ("other", "1")]);
    let props = builder(&memory).validate(few).build()?;
    let qps = props.property::<u32>("qps").build()?;
    let good = props.generation();
    memory.set("qps", "200")?;
    props.rollback_to(good)?;
    for bad in ["5000", "nonsense"] {
        let error = memory.set("qps", bad).unwrap_err();
        assert!(error.to_string().contains(bad), "{error}");
    }
    assert!(memory.remove("qps").is_err(), "a handle needs it");
    memory.set("other", "2")?;
    memory.set("qps", "300")?;
    assert_eq!((qps.get(), props.get::<u32>("other")?), (100, 1));
    props.unpin()?;
    assert_eq!((qps.get(), props.get::<u32>("other")?), (300, 2));
    Ok(())
}

#[test]
fn layers_that_were_invalid_before_may_change_behind_a_roll_back() -> Result<(), Error> {
    let dir = tempfile::tempdir().unwrap();
    let start = |memory: &Memory| builder(memory).validate(few).state_dir(dir.path()).build();
    let memory = Memory::from([("qps", "100")]);
    let props = start(&memory)?;
    let good = props.generation();
    memory.set("qps", "200")?;
    props.rollback_to(good)?;
    drop(props);

    let memory = Memory::from([("qps", "5000")]);
    let props = start(&memory)?;
    assert_eq!(props.get::<u32>("qps")?, 100);
    memory.set("other", "1")?;
    assert!(props.unpin().is_err());
    memory.set("qps", "300")?;
    props.unpin()?;
    assert_eq!(props.get::<u32>("qps")?, 300);
    Ok(())
}

#[test]
fn bootstrap_values_override_a_roll_back_of_an_earlier_run() -> Result<(), Error> {
    let dir = tempfile::tempdir().unwrap();
    let start = |address: &str, memory: &Memory| {
        builder(memory)
            .bootstrap(Memory::from([("store.address", address)]))
            .default("new.in.this.release", 7)
            .state_dir(dir.path())
            .build()
    };
    let memory = Memory::from([("qps", 1)]);
    let props = start("old", &memory)?;
    let good = props.generation();
    memory.set("qps", 2)?;
    props.rollback_to(good)?;
    drop(props);
    let props = start("new", &Memory::from([("qps", 2)]))?;
    assert_eq!(props.get::<u32>("qps")?, 1);
    assert_eq!(props.get::<String>("store.address")?, "new");
    assert_eq!(props.get::<u32>("new.in.this.release")?, 7);
    Ok(())
}

#[test]
fn a_change_that_waits_for_a_restart_must_satisfy_present_handles_and_rules() -> Result<(), Error> {
    let memory = Memory::from([("qps", "100"), ("url", "http://${host}"), ("host", "a")]);
    let rule = |view: &liveprops::Snapshot| match view.get::<String>("url").unwrap_or_default() {
        url if url.contains("bad") => Err(format!("{url} is bad")),
        _ => few(view),
    };
    let props = builder(&memory)
        .restart_required("qps")
        .restart_required("url")
        .validate(rule)
        .build()?;
    let qps = props.property::<u32>("qps").build()?;
    for bad in ["many", "5000"] {
        let error = memory.set("qps", bad).unwrap_err();
        assert!(error.to_string().contains(bad), "{error}");
    }
    assert!(memory.set("url", "http://${host}.bad").is_err());
    assert!(props.health().pending_restart.is_empty());
    memory.set("qps", "500")?;
    memory.set("url", "https://${host}")?;
    assert_eq!(qps.get(), 100);
    assert_eq!(props.get::<String>("url")?, "http://a");
    assert_eq!(props.health().pending_restart.len(), 2);
    Ok(())
}

#[test]
fn a_late_bootstrap_source_sets_nothing() -> Result<(), Error> {
    #[derive(Clone, Default)]
    struct Late(std::sync::Arc<std::sync::atomic::AtomicU32>);

    impl Source for Late {
        fn origin(&self) -> Origin {
            Origin::new("late", "")
        }

        fn load(&self) -> Result<Document, Error> {
            let calls = self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            if calls == 0 {
                return Err(Error::new(ErrorKind::Unavailable, "not yet"));
            }
            let mut document = Document::new();
            document.set("store.address", "late", self.origin())?;
            Ok(document)
        }

        fn watching(&self) -> Watching {
            Watching::Never
        }
    }

    let late = Late::default();
    let memory = Memory::from([("store.address", "weak")]);
    let props = builder(&memory)
        .bootstrap(late.clone().with(|policy| policy.optional()))
        .build()?;
    assert_eq!(props.get::<String>("store.address")?, "weak");
    let _ = props.refresh_now();
    assert_eq!(props.get::<String>("store.address")?, "weak");
    Ok(())
}

#[test]
fn a_source_change_behind_a_roll_back_is_rejected_if_it_is_invalid_without_it() -> Result<(), Error>
{
    let (low, high) = (
        Memory::from([("qps", "10")]),
        Memory::from([("qps", "100")]),
    );
    let props = builder(&low)
        .source_in(liveprops::Layer::new("high", 900), high.clone())
        .validate(few)
        .build()?;
    let needed = Memory::from([("needed", 1)]);
    let needed_id = props.add_source(needed.clone())?;
    let _needed = props.property::<u32>("needed").build()?;
    let high_id = props.health().sources[0].source;
    let good = props.generation();
    high.set("qps", "200")?;
    props.rollback_to(good)?;

    let gone = props.remove_source(needed_id).unwrap_err();
    assert_eq!(gone.key().map(Key::as_str), Some("needed"), "{gone}");
    let many = Memory::from([("qps", "5000")]);
    let top = liveprops::Layer::new("top", 990);
    assert!(props.add_source_in(top.clone(), many).is_err());
    low.set("qps", "nonsense")?;
    let _qps = props.property::<u32>("qps").build()?;
    let moved = props.move_source(high_id, liveprops::Layer::new("low", 100));
    assert_eq!(moved.unwrap_err().key().map(Key::as_str), Some("qps"));
    assert!(props.pinned().is_some());
    assert_eq!(props.get::<u32>("qps")?, 100);
    // A valid source may be moved and removed.
    props.move_source(needed_id, top)?;
    let other = props.add_source(Memory::from([("other", 1)]))?;
    props.remove_source(other)?;
    props.unpin()?;
    assert_eq!(props.get::<u32>("qps")?, 200);
    Ok(())
}

#[test]
fn keys_that_wait_for_a_restart_are_listed_while_rolled_back() -> Result<(), Error> {
    let dir = tempfile::tempdir().unwrap();
    let start = |memory: &Memory| {
        let builder = builder(memory).state_dir(dir.path());
        builder
            .restart_required("port")
            .restart_required("new")
            .build()
    };
    let memory = Memory::from([("port", "80"), ("qps", "1")]);
    let props = start(&memory)?;
    let good = props.generation();
    let pending = |props: &Properties| -> Vec<(String, Option<String>)> {
        let pending = props.health().pending_restart.into_iter();
        pending
            .map(|one| (one.key.to_string(), one.waiting))
            .collect()
    };
    let waits = |key: &str, value: &str| (key.to_owned(), Some(format!("{value:?}")));
    memory.set("qps", "2")?;
    props.rollback_to(good)?;
    memory.set("port", "81")?;
    assert_eq!(pending(&props), [waits("port", "81")]);
    memory.set("new", "1")?;
    assert_eq!(pending(&props), [waits("new", "1"), waits("port", "81")]);
    memory.remove("new")?;
    assert_eq!(pending(&props), [waits("port", "81")]);
    drop(props);

    let props = start(&Memory::from([("port", "82"), ("qps", "2")]))?;
    assert_eq!(props.get::<u16>("port")?, 80, "rolled back to");
    assert_eq!(pending(&props), [waits("port", "82")], "from the start on");
    props.unpin()?;
    assert_eq!(props.get::<u16>("port")?, 80);
    assert_eq!(pending(&props), [waits("port", "82")]);
    Ok(())
}

#[test]
fn a_source_that_is_rejected_at_generation_0_does_not_end_a_roll_back() -> Result<(), Error> {
    let dir = tempfile::tempdir().unwrap();
    let start = |memory: &Memory| builder(memory).validate(few).state_dir(dir.path()).build();
    let memory = Memory::new();
    let props = start(&memory)?;
    memory.set("qps", "1")?;
    props.rollback_to(0)?;
    drop(props);
    let props = start(&Memory::new())?;
    assert_eq!((props.generation(), props.pinned().is_some()), (0, true));
    assert!(props.add_source(Memory::from([("qps", "5000")])).is_err());
    assert!(props.pinned().is_some());
    props.add_source(Memory::from([("qps", "5")]))?;
    assert_eq!(props.get_opt::<u32>("qps")?, None, "rolled back to nothing");
    Ok(())
}
