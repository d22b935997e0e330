//! What a user's code may do to the crate without harm: panic where it is asked something, hear of
//! its own mistakes, ask for what is not there.

#![allow(missing_docs, clippy::unwrap_used)]

use std::panic::panic_any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use liveprops::health::SourceEventKind;
use liveprops::sources::Memory;
use liveprops::{
    Document, Error, ErrorKind, Origin, Properties, Secret, Source, Update, Updates, Value,
    Watching,
};

fn within(limit: Duration, mut want: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + limit;
    while Instant::now() < until {
        if want() {
            return true;
        }
        std::thread::yield_now();
    }
    false
}

const SOON: Duration = Duration::from_secs(5);

#[test]
fn asking_for_a_missing_key_of_many_costs_no_walk_over_all() {
    let values: Memory = (0..200_000)
        .map(|i| (format!("section{}.key{i}", i % 2_000), i))
        .collect();
    let props = Properties::builder().source(values).build().unwrap();
    let began = Instant::now();
    for _ in 0..1_000 {
        assert_eq!(
            props.get::<u32>("section7.kex7").unwrap_err().kind(),
            ErrorKind::Missing
        );
    }
    let each = began.elapsed() / 1_000;
    assert!(
        each < Duration::from_millis(5),
        "{each:?} for one missing key"
    );
    let near = props.get::<u32>("section7.kee7").unwrap_err().to_string();
    assert!(near.contains("section7.key7"), "{near}");
}

#[test]
fn a_callback_of_events_that_panics_is_not_told_of_its_own_panic() {
    let memory = Memory::from([("a", 1)]);
    let props = Properties::builder()
        .source(memory.clone())
        .build()
        .unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&calls);
    let _sub = props.on_source_event(move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
        panic!("as always");
    });
    memory.set("a", 2).unwrap();
    assert!(within(SOON, || props.health().callback_panics >= 1));
    memory.set("a", 3).unwrap();
    assert!(within(SOON, || props.health().callback_panics >= 2));
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[test]
fn a_malformed_reading_with_a_default_is_told_once_and_not_to_who_makes_it() {
    let memory = Memory::from([("a", "x")]);
    let props = Properties::builder()
        .source(memory.clone())
        .build()
        .unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    let (counter, view) = (Arc::clone(&calls), props.clone());
    let _sub = props.on_source_event(move |event| {
        if matches!(event.kind, SourceEventKind::Malformed(_)) {
            counter.fetch_add(1, Ordering::SeqCst);
            view.get_or("b", 7u32);
        }
    });
    for _ in 0..100 {
        assert_eq!(props.get_or("a", 7u32), 7);
    }
    assert!(within(SOON, || calls.load(Ordering::SeqCst) == 1));
    memory.set("b", "y").unwrap();
    assert_eq!(props.get_or("a", 7u32), 7);
    assert!(
        within(SOON, || calls.load(Ordering::SeqCst) == 2),
        "another generation"
    );
}

#[test]
fn a_secret_stays_one_however_it_is_spelled_and_whenever_it_was_found_out() {
    let memory = Memory::from([
        ("vault.x", "hunter2"),
        ("license", "hunter2"),
        ("url", "x-${license}-y"),
    ]);
    let props = Properties::builder()
        .source(memory)
        .secret("vault.x")
        .build()
        .unwrap();
    let shown = |key: &str| {
        let error = props.get::<u32>(key).unwrap_err();
        format!("{} {error} {error:?}", props.explain(key))
    };
    for key in ["vault.x", "\"vault\".x", "\"vault\".\"x\""] {
        assert!(!shown(key).contains("hunter2"), "{}", shown(key));
    }
    assert!(
        shown("url").contains("hunter2"),
        "nobody has said that it is a secret"
    );
    let _license = props.get::<Secret<String>>("license").unwrap();
    for key in ["license", "url"] {
        assert!(!shown(key).contains("hunter2"), "{}", shown(key));
    }
}

/// Panics when it is dropped, while armed.
#[derive(Clone, Debug, PartialEq)]
struct Grenade(u32);

static ARMED: AtomicBool = AtomicBool::new(false);

impl Drop for Grenade {
    fn drop(&mut self) {
        if ARMED.load(Ordering::SeqCst) && !std::thread::panicking() {
            panic_any("dropped");
        }
    }
}

impl<'de> serde::Deserialize<'de> for Grenade {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        u32::deserialize(from).map(Grenade)
    }
}

#[test]
fn a_value_that_panics_when_dropped_tears_no_commit() {
    let memory = Memory::from([("a", 7)]);
    let props = Properties::builder()
        .source(memory.clone())
        .build()
        .unwrap();
    let first = props.property::<Grenade>("a").build().unwrap();
    let second = props.property::<u32>("a").build().unwrap();
    ARMED.store(true, Ordering::SeqCst);
    memory.set("a", 8).unwrap();
    assert_eq!(first.load().0, 8);
    assert_eq!(
        (
            second.get(),
            props.get::<u32>("a").unwrap(),
            props.generation()
        ),
        (8, 8, 2)
    );
    ARMED.store(false, Ordering::SeqCst);
}

struct Client(Arc<Runtime>);
struct Runtime;

struct Nested;

impl Source for Nested {
    fn origin(&self) -> Origin {
        Origin::new("nested", "")
    }

    fn load(&self) -> Result<Document, Error> {
        Ok(Document::new())
    }

    fn watching(&self) -> Watching {
        Watching::Stream
    }

    fn watch(&self, updates: &Updates) -> Result<(), Error> {
        let inner = updates.clone();
        let client = updates.shared(|| Client(inner.shared(|| Runtime)));
        let again = updates.shared(|| Runtime);
        let same = Arc::ptr_eq(&client.0, &again);
        updates.send(Update::delta().set("same", same, self.origin())?)?;
        updates.wait(Duration::from_secs(60));
        Ok(())
    }
}

#[test]
fn what_is_shared_may_share_something_else() {
    let props = Properties::builder().source(Nested).build().unwrap();
    assert!(within(SOON, || props.get_or("same", false)));
}

/// Panics in what it is asked about itself.
struct Rude {
    in_origin: bool,
    in_watching: bool,
}

impl Source for Rude {
    fn origin(&self) -> Origin {
        assert!(!self.in_origin, "no origin");
        Origin::new("rude", "")
    }

    fn load(&self) -> Result<Document, Error> {
        Ok(Document::new())
    }

    fn watching(&self) -> Watching {
        assert!(!self.in_watching, "no watching");
        Watching::Poll(Duration::from_millis(5))
    }
}

#[test]
fn a_source_that_panics_when_asked_about_itself_is_an_error() {
    for in_origin in [true, false] {
        let rude = Rude {
            in_origin,
            in_watching: !in_origin,
        };
        let error = Properties::builder().source(rude).build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Panicked);
    }
}

#[test]
fn no_rank_beats_the_override_layer_and_no_timeout_is_too_long() {
    let strong = liveprops::Layer::new("strong", i32::MIN);
    let props = Properties::builder()
        .source_in(strong, Memory::from([("a", 1)]))
        .load_timeout(Duration::MAX)
        .build()
        .unwrap();
    props.set("a", 2).unwrap();
    assert_eq!(props.get::<u32>("a").unwrap(), 2);
}

#[test]
fn a_value_unequal_to_itself_is_no_endless_change() {
    let memory = Memory::from([("a", f64::NAN)]);
    let props = Properties::builder()
        .source(memory.clone())
        .build()
        .unwrap();
    let handle = props.property::<f64>("a").build().unwrap();
    let mut changes = handle.changes();
    assert!(changes.try_recv().is_none());
    memory.set("a", 1.0).unwrap();
    assert_eq!(changes.try_recv().unwrap().value, 1.0);
    assert!(changes.try_recv().is_none());
}

#[test]
fn a_rule_over_the_tree_blames_the_keys_that_changed() {
    let memory = Memory::from([("min", 1), ("max", 9)]);
    let props = Properties::builder()
        .source(memory.clone())
        .validate(
            |tree| match (tree.get::<u32>("min"), tree.get::<u32>("max")) {
                (Ok(min), Ok(max)) if min <= max => Ok(()),
                _ => Err("min must not exceed max".to_owned()),
            },
        )
        .build()
        .unwrap();
    let error = memory.set("min", 10).unwrap_err();
    assert_eq!(
        (error.kind(), error.key()),
        (ErrorKind::Refused, Some("min"))
    );
    assert!(
        error
            .origin()
            .is_some_and(|origin| origin.starts_with("memory"))
    );
    assert_eq!(props.explain("min").refused.len(), 1);
    assert_eq!(props.get::<Value>("min").unwrap(), Value::Int(1));
}

#[test]
fn a_listener_given_to_the_builder_hears_of_the_first_load() {
    let (tell, told) = std::sync::mpsc::channel();
    let _props = Properties::builder()
        .on_source_event(move |event| drop(tell.send(event.kind.clone())))
        .source(Memory::from([("a", 1)]))
        .build()
        .unwrap();
    let first = told.recv_timeout(SOON).unwrap();
    assert!(matches!(first, SourceEventKind::Initialized), "{first:?}");
}

#[test]
fn what_a_mapping_of_a_secret_fallback_panics_with_is_masked() {
    let memory = Memory::from([("db.password", "hunter2")]);
    let props = Properties::builder()
        .source(memory.clone())
        .build()
        .unwrap();
    let p = props
        .property::<String>("plain")
        .or_key("db.password")
        .build()
        .unwrap();
    let m = p.map(|v| {
        assert!(v == "hunter2", "bad value {v}");
        v.len()
    });
    let error = memory.set("db.password", "topsecret").unwrap_err();
    assert_eq!(m.get(), 7);
    let text = format!("{error} {error:?}");
    assert!(!text.contains("topsecret"), "{text}");
}

#[test]
fn a_default_of_a_handle_that_cannot_be_built_is_dropped_outside_the_commit_lock() {
    static PROPS: std::sync::OnceLock<Properties> = std::sync::OnceLock::new();
    static DROPS: std::sync::Mutex<Vec<Option<ErrorKind>>> = std::sync::Mutex::new(Vec::new());

    #[derive(Clone, serde::Deserialize)]
    struct Loud {
        #[allow(dead_code)]
        x: u32,
    }

    impl Drop for Loud {
        fn drop(&mut self) {
            let outcome = PROPS.get().unwrap().set("dropped", 1);
            DROPS
                .lock()
                .unwrap()
                .push(outcome.err().map(|error| error.kind()));
        }
    }

    let memory = Memory::from([("loud", "no table")]);
    let props = Properties::builder().source(memory).build().unwrap();
    PROPS.set(props.clone()).ok().unwrap();
    let loud = props.property::<Loud>("loud").default(Loud { x: 1 });
    assert!(loud.build().is_err());
    let drops = DROPS.lock().unwrap().clone();
    assert!(
        !drops.is_empty() && drops.iter().all(Option::is_none),
        "{drops:?}"
    );
}
