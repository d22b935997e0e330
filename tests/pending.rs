//! What waits behind a pin or for a restart is judged on the day it comes, not on the day it takes
//! effect.
#![allow(missing_docs, clippy::unwrap_used)]

use liveprops::sources::Memory;
use liveprops::{Builder, Document, Error, ErrorKind, Origin, Properties, Source, Watching};

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
fn what_waits_behind_a_roll_back_is_refused_if_it_could_not_be_taken() -> Result<(), Error> {
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
fn where_the_layers_were_bad_before_they_may_change_behind_a_roll_back() -> Result<(), Error> {
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
fn over_a_roll_back_of_an_earlier_run_stands_what_this_start_sets() -> Result<(), Error> {
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
fn what_waits_for_a_restart_must_suit_handles_and_rules_of_today() -> Result<(), Error> {
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
fn what_only_the_start_sets_is_not_set_later_by_a_source_that_came_late() -> Result<(), Error> {
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
