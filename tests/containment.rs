//! Panics, mistakes and unexpected calls of user code do no harm.

#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::panic_any;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use liveprops::health::SourceEventKind;
use liveprops::sources::Memory;
use liveprops::{
    Document, DynamicProperty, Error, ErrorKind, Key, Origin, Properties, Schema, Secret, Source,
    SourceContext, Update, Value, Watching,
};

use support::{accept_if, eventually};

const SOON: Duration = Duration::from_secs(5);

#[test]
fn reading_a_missing_key_does_not_visit_all_keys() {
    let values: Memory = (0..200_000)
        .map(|i| (format!("section{}.key{i}", i % 2_000), i))
        .collect();
    let props = Properties::builder().source(values).build().unwrap();
    let began = Instant::now();
    for _ in 0..1_000 {
        assert_eq!(
            props.get::<u32>("section7.kex7").unwrap_err().kind(),
            ErrorKind::NotFound
        );
    }
    let each = began.elapsed() / 1_000;
    assert!(
        each < Duration::from_millis(20),
        "{each:?} for one missing key"
    );
    let near = props.get::<u32>("section7.kee7").unwrap_err().to_string();
    assert!(near.contains("section7.key7"), "{near}");
}

#[test]
fn an_event_callback_that_panics_does_not_get_the_event_of_its_panic() {
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
    assert!(eventually(SOON, || props.health().callback_panics >= 1));
    memory.set("a", 3).unwrap();
    assert!(eventually(SOON, || props.health().callback_panics >= 2));
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[test]
fn a_malformed_read_with_a_default_is_reported_once_and_not_to_its_reader() {
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
    assert!(eventually(SOON, || calls.load(Ordering::SeqCst) == 1));
    memory.set("b", "y").unwrap();
    assert_eq!(props.get_or("a", 7u32), 7);
    assert!(
        eventually(SOON, || calls.load(Ordering::SeqCst) == 2),
        "another generation"
    );
}

#[test]
fn a_discovered_secret_stays_masked_in_every_spelling() {
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
        "it is not declared as a secret"
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
fn a_value_that_panics_when_dropped_leaves_commits_complete() {
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

    fn watch(&self, updates: &SourceContext) -> Result<(), Error> {
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
fn a_shared_value_may_use_another_shared_value() {
    let props = Properties::builder().source(Nested).build().unwrap();
    assert!(eventually(SOON, || props.get_or("same", false)));
}

/// A shared value that needs another shared value of the same type.
struct Recursive(Sender<bool>);

struct Chain(Option<Arc<Chain>>);

impl Source for Recursive {
    fn origin(&self) -> Origin {
        Origin::new("recursive", "")
    }

    fn load(&self) -> Result<Document, Error> {
        Ok(Document::new())
    }

    fn watching(&self) -> Watching {
        Watching::Stream
    }

    fn watch(&self, updates: &SourceContext) -> Result<(), Error> {
        let inner = updates.clone();
        let chain = updates.shared(|| Chain(Some(inner.shared(|| Chain(None)))));
        let _ = self.0.send(chain.0.is_some());
        updates.wait(Duration::from_secs(60));
        Ok(())
    }
}

#[test]
fn the_constructor_of_a_shared_value_may_request_its_own_type() {
    let (sender, changes) = channel();
    let props = Properties::builder()
        .source(Recursive(sender))
        .build()
        .unwrap();
    assert!(changes.recv_timeout(SOON).expect("a lock is held for ever"));
    drop(props);
}

/// A source whose descriptions panic.
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
fn a_panic_in_a_description_of_a_source_is_an_error() {
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
fn the_override_layer_is_the_strongest_and_no_timeout_is_too_long() {
    let strong = liveprops::Layer::new("strong", i32::MAX);
    let props = Properties::builder()
        .source_in(strong, Memory::from([("a", 1)]))
        .load_timeout(Duration::MAX)
        .build()
        .unwrap();
    props.set("a", 2).unwrap();
    assert_eq!(props.get::<u32>("a").unwrap(), 2);
}

#[test]
fn a_value_unequal_to_itself_causes_no_endless_changes() {
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
        (error.kind(), error.key().map(Key::as_str)),
        (ErrorKind::Rejected, Some("min"))
    );
    assert!(
        error
            .origin()
            .is_some_and(|origin| origin.kind() == "memory")
    );
    assert_eq!(props.explain("min").rejected.len(), 1);
    assert_eq!(props.get::<Value>("min").unwrap(), Value::from(1));
}

#[test]
fn a_listener_given_to_the_builder_gets_the_event_of_the_first_load() {
    let (sender, changes) = std::sync::mpsc::channel();
    let _props = Properties::builder()
        .on_source_event(move |event| drop(sender.send(event.kind.clone())))
        .source(Memory::from([("a", 1)]))
        .build()
        .unwrap();
    let first = changes.recv_timeout(SOON).unwrap();
    assert!(matches!(first, SourceEventKind::Initialized), "{first:?}");
}

#[test]
fn the_panic_of_a_mapping_of_a_secret_fallback_is_masked() {
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

thread_local! {
    /// The properties that a [`Loud`] writes to while it is dropped on this thread.
    static WRITES_TO: RefCell<Option<Properties>> = const { RefCell::new(None) };
    /// The outcomes of those writes.
    static WRITES: RefCell<Vec<Option<ErrorKind>>> = const { RefCell::new(Vec::new()) };
    /// An action that a [`Loud`] runs once while it is decoded on this thread.
    static WHILE_DECODED: Cell<Option<Box<dyn FnOnce()>>> = const { Cell::new(None) };
    /// Whether a [`Loud`] panics after it has written.
    static PANICS: Cell<bool> = const { Cell::new(false) };
}

/// A value that writes a key while it is dropped, which fails under the commit lock.
#[derive(Debug, PartialEq)]
struct Loud(u32);

impl Loud {
    fn write_to(props: &Properties) {
        WRITES_TO.set(Some(props.clone()));
    }

    /// Returns the outcomes of the writes, at least one.
    fn writes() -> Vec<Option<ErrorKind>> {
        let writes = WRITES.take();
        assert!(!writes.is_empty(), "nothing was dropped");
        writes
    }

    fn stop() {
        PANICS.set(false);
        WRITES_TO.take();
        WRITES.take();
    }
}

impl Clone for Loud {
    fn clone(&self) -> Self {
        Self(self.0)
    }
}

impl Drop for Loud {
    fn drop(&mut self) {
        let Some(props) = WRITES_TO.with_borrow(Option::clone) else {
            return;
        };
        let outcome = props.set("dropped", i64::from(self.0));
        WRITES.with_borrow_mut(|writes| writes.push(outcome.err().map(|error| error.kind())));
        if PANICS.get() {
            panic_any(Bomb::nested(2));
        }
    }
}

impl<'de> serde::Deserialize<'de> for Loud {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        if let Some(act) = WHILE_DECODED.take() {
            act();
        }
        u32::deserialize(from).map(Loud)
    }
}

/// Panics when dropped, with a payload that does the same, up to the nesting depth.
#[derive(Debug)]
struct Bomb {
    nested: usize,
}

impl Bomb {
    fn nested(nested: usize) -> Self {
        Self { nested }
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        match self.nested.checked_sub(1) {
            Some(nested) => panic_any(Bomb { nested }),
            None => panic_any("the innermost"),
        }
    }
}

impl fmt::Display for Bomb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a bomb")
    }
}

impl std::error::Error for Bomb {}

/// Creates a memory with `a = 7` and `b = 7`, and properties with inline callbacks.
fn inline_pair() -> (Memory, Properties) {
    let memory = Memory::from([("a", 7), ("b", 7)]);
    let props = Properties::builder()
        .inline_callbacks()
        .source(memory.clone())
        .build()
        .unwrap();
    (memory, props)
}

fn counter() -> (Arc<AtomicUsize>, impl Fn() + Send + Sync + Clone + 'static) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let add = move || {
        counted.fetch_add(1, Ordering::SeqCst);
    };
    (count, add)
}

#[test]
fn a_commit_is_complete_although_the_last_handle_is_dropped_while_it_decodes() {
    for panics in [false, true] {
        let (_memory, props) = inline_pair();
        let handle = props.property::<Loud>("a").build().unwrap();
        let other = props.property::<u32>("b").build().unwrap();
        let (calls, call) = counter();
        let _sub = other.on_change(move |_| call());
        let before = props.generation();
        WHILE_DECODED.set(Some(Box::new(move || drop(handle))));
        Loud::write_to(&props);
        PANICS.set(panics);
        let outcome = props.transaction(|tx| {
            tx.set("a", 8)?;
            tx.set("b", 8)
        });
        assert_eq!(outcome.map(|applied| applied.changed).unwrap(), 2);
        let writes = Loud::writes();
        assert_eq!(writes, vec![None; writes.len()]);
        Loud::stop();
        assert_eq!((other.get(), props.get::<u32>("a").unwrap()), (8, 8));
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        assert!(props.generation() > before);
    }
}

/// Never decodes from a number above 7.
#[derive(Clone, Debug)]
struct Small(#[allow(dead_code)] Loud);

impl<'de> serde::Deserialize<'de> for Small {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let value = u32::deserialize(from)?;
        match value <= 7 {
            true => Ok(Self(Loud(value))),
            false => Err(serde::de::Error::custom("too large")),
        }
    }
}

#[test]
fn a_slot_whose_last_handle_is_dropped_during_a_rejection_is_dropped_without_a_lock() {
    let (memory, props) = inline_pair();
    let handle = props.property::<Loud>("a").build().unwrap();
    let small = props.property::<Small>("a").build().unwrap();
    WHILE_DECODED.set(Some(Box::new(move || drop(small))));
    Loud::write_to(&props);
    assert!(memory.set("a", 8).is_err());
    let writes = Loud::writes();
    assert_eq!(writes, vec![None; writes.len()]);
    Loud::stop();
    assert_eq!(handle.load().0, 7);
}

#[test]
fn no_value_is_dropped_under_the_commit_lock() {
    let (memory, props) = inline_pair();
    let strict = props
        .property::<Loud>("a")
        .default(Loud(0))
        .validate(|value| accept_if(value.0 < 100))
        .build()
        .unwrap();
    let mapped = strict.map(|value| Loud(value.0 + 1_000));
    let panicky = props
        .property::<Loud>("a")
        .validate(|value| {
            assert!(value.0 < 50, "panics");
            Ok(())
        })
        .build()
        .unwrap();
    let whole = Properties::builder()
        .source(Memory::from([("a", 1)]))
        .validate(|tree| match tree.get::<u32>("a") {
            Ok(a) if a > 2 => Err("too large".into()),
            _ => Ok(()),
        })
        .schema(
            Schema::new()
                .declare(Schema::key::<Loud>("a").validate("small", |a| accept_if(a.0 < 9))),
        )
        .build()
        .unwrap();
    let of_whole = whole.property::<Loud>("a").build().unwrap();
    let steps: [(&str, &dyn Fn()); 8] = [
        ("replaced", &|| memory.set("a", 8).unwrap()),
        ("rejected by a validator", &|| {
            memory.set("a", 200).unwrap_err();
        }),
        ("rejected by a validator that panics", &|| {
            memory.set("a", 60).unwrap_err();
        }),
        ("gone, so that a default is copied", &|| {
            drop(props.set("a", Value::Unset));
        }),
        ("rejected by a rule over the tree", &|| {
            whole.set("a", 3).unwrap_err();
        }),
        ("rejected by the schema", &|| {
            whole.set("a", 20).unwrap_err();
        }),
        ("a check", &|| {
            let id = props.snapshot().explain("a").layers[0].source;
            let mut document = Document::new();
            let origin = Origin::new("test", "");
            document.set("a", 9, origin).unwrap();
            drop(props.check(id, document));
        }),
        ("a handle that cannot be built", &|| {
            let never = props.property::<Loud>("a").validate(|_| accept_if(false));
            assert!(never.build().is_err());
        }),
    ];
    for (what, step) in steps {
        for target in [&props, &whole] {
            WRITES.take();
            Loud::write_to(target);
            step();
            let writes = WRITES.take();
            assert!(!writes.is_empty(), "{what}: nothing was dropped");
            assert_eq!(writes, vec![None; writes.len()], "{what}");
            Loud::stop();
        }
    }
    drop((strict, mapped, panicky, of_whole));
}

#[test]
fn a_payload_that_panics_while_it_is_dropped_is_contained_wherever_it_comes_from() {
    for nested in [0, 1, 2] {
        for inline in [true, false] {
            let memory = Memory::from([("a", 7), ("b", 7)]);
            let builder = Properties::builder().source(memory.clone());
            let props = match inline {
                true => builder.inline_callbacks().build().unwrap(),
                false => builder.build().unwrap(),
            };
            let armed = Arc::new(AtomicBool::new(false));
            let is_armed = Arc::clone(&armed);
            let strict = props
                .property::<u32>("a")
                .validate(move |_| {
                    if is_armed.load(Ordering::SeqCst) {
                        panic_any(Bomb::nested(nested));
                    }
                    Ok(())
                })
                .build()
                .unwrap();
            let is_armed = Arc::clone(&armed);
            let mapped = strict.map(move |value| {
                if is_armed.load(Ordering::SeqCst) {
                    panic_any(Bomb::nested(nested));
                }
                *value
            });
            let b = props.property::<u32>("b").build().unwrap();
            let (calls, call) = counter();
            let _sub = b.on_change(move |_| {
                call();
                panic_any(Bomb::nested(nested));
            });
            let call_under = calls.clone();
            let _under = props
                .on_change_under("b", move |_| {
                    call_under.fetch_add(1, Ordering::SeqCst);
                    panic_any(Bomb::nested(nested));
                })
                .unwrap();
            let _now = b.on_change_now(move |_| panic_any(Bomb::nested(nested)));
            for round in 1..=3 {
                armed.store(true, Ordering::SeqCst);
                let error = memory.set("a", 8).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Panicked);
                armed.store(false, Ordering::SeqCst);
                props.set("b", 7 + round as u32).unwrap();
                assert!(
                    eventually(SOON, || calls.load(Ordering::SeqCst) == 2 * round),
                    "the callbacks go on"
                );
            }
            assert_eq!((strict.get(), mapped.get()), (7, 7));
        }
    }
}

#[test]
fn a_panic_payload_is_dropped_without_the_commit_lock() {
    let memory = Memory::from([("a", 7)]);
    let armed = Arc::new(AtomicBool::new(false));
    let is_armed = Arc::clone(&armed);
    let props = Properties::builder()
        .source(memory.clone())
        .validate(move |tree| {
            // The payload writes as well, when the old value is in force again.
            if is_armed.load(Ordering::SeqCst) && tree.get::<u32>("a").is_ok_and(|a| a == 8) {
                panic_any(Loud(1));
            }
            Ok(())
        })
        .build()
        .unwrap();
    let is_armed = Arc::clone(&armed);
    let handle = props.property::<u32>("a").validate(move |a| {
        if is_armed.load(Ordering::SeqCst) && *a > 10 {
            panic_any(Loud(2));
        }
        Ok(())
    });
    let handle = handle.build().unwrap();
    let is_armed = Arc::clone(&armed);
    let mapped = handle.map(move |a| {
        if is_armed.load(Ordering::SeqCst) && *a == 10 {
            panic_any(Loud(3));
        }
        *a
    });
    for value in [8, 10, 11] {
        armed.store(true, Ordering::SeqCst);
        let write = || memory.set("a", value).unwrap_err().kind();
        Loud::write_to(&props);
        assert_eq!(write(), ErrorKind::Panicked);
        let writes = Loud::writes();
        assert_eq!(writes, vec![None; writes.len()]);
        Loud::stop();
    }
    armed.store(false, Ordering::SeqCst);
    assert_eq!(mapped.get(), 7);
}

/// Panics in each of its calls, and while it is dropped.
struct Explosive {
    in_origin: bool,
}

impl Source for Explosive {
    fn origin(&self) -> Origin {
        if self.in_origin {
            panic_any(Bomb::nested(2));
        }
        Origin::new("explosive", "")
    }

    fn load(&self) -> Result<Document, Error> {
        panic_any(Bomb::nested(2));
    }
}

impl Drop for Explosive {
    fn drop(&mut self) {
        panic_any(Bomb::nested(1));
    }
}

#[test]
fn a_panic_in_a_source_during_the_build_is_an_error() {
    for in_origin in [true, false] {
        let source = Explosive { in_origin };
        let error = Properties::builder().source(source).build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Panicked);
    }
    let props = Properties::builder().build().unwrap();
    for in_origin in [true, false] {
        let source = Explosive { in_origin };
        let error = props.add_source(source).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Panicked);
    }
}

/// Panics when woken. When dropped, it writes the value that its task waits for.
struct LoudWaker(Properties, Arc<AtomicUsize>);

impl Wake for LoudWaker {
    fn wake(self: Arc<Self>) {
        panic_any(Bomb::nested(2));
    }
}

impl Drop for LoudWaker {
    fn drop(&mut self) {
        let next = 100 + self.1.fetch_add(1, Ordering::SeqCst);
        self.0.set("a", next as u32).unwrap();
    }
}

#[test]
fn panics_of_wakers_and_of_replaced_wakers_are_contained() {
    use std::future::Future;
    let (done, is_done) = channel();
    let thread = std::thread::spawn(move || {
        let (_memory, props) = inline_pair();
        let a = props.property::<u32>("a").build().unwrap();
        let b = props.property::<u32>("b").build().unwrap();
        let (calls, call) = counter();
        let mut changes = a.changes();
        let _sub = b.on_change(move |_| call());
        let drops = Arc::new(AtomicUsize::new(0));
        for round in 0..3 {
            for _ in 0..2 {
                // Dropped here, except for the clone in the changes.
                let waker = Waker::from(Arc::new(LoudWaker(props.clone(), Arc::clone(&drops))));
                let mut changed = std::pin::pin!(changes.changed());
                let _ = changed.as_mut().poll(&mut Context::from_waker(&waker));
            }
            let write = props.transaction(|tx| {
                tx.set("a", 10 + round)?;
                tx.set("b", 10 + round)
            });
            assert!(write.is_ok());
        }
        assert_eq!(calls.load(Ordering::SeqCst), 3);
        done.send(drops.load(Ordering::SeqCst)).unwrap();
    });
    let drops = is_done.recv_timeout(SOON).expect("a lock is held for ever");
    assert_eq!(drops, 6, "each waker is dropped");
    thread.join().unwrap();
}

/// The cause of an error. When dropped, it reads the health and panics.
#[derive(Debug)]
struct Nosy {
    props: Arc<Mutex<Option<Properties>>>,
    dropped: Arc<AtomicUsize>,
}

impl fmt::Display for Nosy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a nosy cause")
    }
}

impl std::error::Error for Nosy {}

impl Drop for Nosy {
    fn drop(&mut self) {
        let props = self.props.lock().unwrap().clone();
        if let Some(props) = props {
            let _ = (props.health(), props.status(), props.set("nosy", 1));
        }
        self.dropped.fetch_add(1, Ordering::SeqCst);
        panic_any(Bomb::nested(1));
    }
}

/// A source that reports errors with such causes by every method.
struct Complainer {
    props: Arc<Mutex<Option<Properties>>>,
    dropped: Arc<AtomicUsize>,
    done: Sender<()>,
}

impl Complainer {
    fn error(&self, text: String) -> Error {
        Error::new(ErrorKind::Unavailable, text).with_cause(Nosy {
            props: Arc::clone(&self.props),
            dropped: Arc::clone(&self.dropped),
        })
    }
}

impl Source for Complainer {
    fn origin(&self) -> Origin {
        Origin::new("complainer", "")
    }

    fn load(&self) -> Result<Document, Error> {
        let mut document = Document::new();
        document.report_unreadable(self.error("a problem of the first load".to_owned()));
        Ok(document)
    }

    fn watching(&self) -> Watching {
        Watching::Stream
    }

    fn watch(&self, updates: &SourceContext) -> Result<(), Error> {
        for round in 0..100 {
            updates.report_error(self.error(format!("failure {}", "x".repeat(round))));
            updates.set_degraded(Some(self.error(format!("degraded {}", "x".repeat(round)))));
            let mut document = Document::new();
            document.report_unreadable(self.error(format!("problem {round}")));
            // Every second one is rejected.
            let value = if round % 2 == 0 { "text" } else { "7" };
            document.set("n", value, self.origin())?;
            let _ = updates.send(Update::full(document));
            drop(updates.queue(Update::full(Document::new())));
        }
        let _ = self.done.send(());
        updates.wait(Duration::from_secs(60));
        Err(self.error("the end".to_owned()))
    }
}

#[test]
fn the_cause_of_an_error_may_ask_for_the_health_and_panic_while_it_is_dropped() {
    let shared: Arc<Mutex<Option<Properties>>> = Arc::default();
    let dropped = Arc::new(AtomicUsize::new(0));
    let (done, is_done) = channel();
    let source = Complainer {
        props: Arc::clone(&shared),
        dropped: Arc::clone(&dropped),
        done,
    };
    let props = Properties::builder()
        .on_source_event(|_| {})
        .source(source)
        .build()
        .unwrap();
    let n = props.property::<u32>("n").default(0).build().unwrap();
    *shared.lock().unwrap() = Some(props.clone());
    is_done
        .recv_timeout(SOON * 4)
        .expect("a lock is held for ever");
    assert!(dropped.load(Ordering::SeqCst) > 100);
    assert!(props.set("x", 1).is_ok());
    let _ = n.get();
    // The causes must not keep the properties alive.
    shared.lock().unwrap().take();
}

/// Counts how often it is dropped, and panics each time.
struct Trap(Arc<AtomicUsize>);

impl Drop for Trap {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
        panic_any(Bomb::nested(1));
    }
}

impl Trap {
    fn touch(&self) {
        let _ = &self.0;
    }
}

#[test]
fn each_closure_that_panics_when_dropped_is_contained() {
    for inline in [true, false] {
        let dropped = Arc::new(AtomicUsize::new(0));
        let mut traps = 0;
        let mut trap = || {
            traps += 1;
            Trap(Arc::clone(&dropped))
        };
        let memory = Memory::from([("a", 7)]);
        let mut builder = Properties::builder().source(memory);
        for _ in 0..2 {
            let (trap, event) = (trap(), trap());
            builder = builder
                .validate(move |_| {
                    trap.touch();
                    Ok(())
                })
                .on_source_event(move |_| event.touch());
        }
        if inline {
            builder = builder.inline_callbacks();
        }
        let props = builder.build().unwrap();
        let mut handles: Vec<DynamicProperty<u32>> = Vec::new();
        for _ in 0..2 {
            let (one, two, three) = (trap(), trap(), trap());
            let handle = props.property::<u32>("a");
            let handle = handle.validate(move |_| {
                one.touch();
                Ok(())
            });
            let handle = handle.validate(move |_| {
                two.touch();
                Ok(())
            });
            let handle = handle.build().unwrap();
            handles.push(handle.map(move |value| {
                three.touch();
                *value
            }));
            let (change, now, under, event) = (trap(), trap(), trap(), trap());
            handle.on_change(move |_| change.touch()).detach();
            handle.on_change_now(move |_| now.touch()).detach();
            let under = props.on_change_under("", move |_| under.touch());
            under.unwrap().detach();
            props.on_source_event(move |_| event.touch()).detach();
            handles.push(handle);
        }
        let closed = trap();
        drop(handles[0].on_change(move |_| closed.touch()));
        props.set("a", 8).unwrap();
        drop(handles);
        drop(props);
        assert!(
            eventually(SOON, || dropped.load(Ordering::SeqCst) == traps),
            "{} of {traps} were dropped",
            dropped.load(Ordering::SeqCst)
        );
    }
}

#[cfg(unix)]
mod the_end_of_a_thread {
    use super::*;
    use support::child::{self, Child};

    /// A thread-local that uses properties when it is dropped.
    struct AtTheEnd(
        Properties,
        DynamicProperty<String>,
        Option<Properties>,
        Sender<()>,
    );

    impl Drop for AtTheEnd {
        fn drop(&mut self) {
            let Self(props, handle, last, done) = self;
            props.set("a", "at the end").unwrap();
            assert_eq!(handle.get(), "at the end");
            assert_eq!(&**handle.load(), "at the end");
            assert_eq!(handle.reader().get(), "at the end");
            assert_eq!(props.get::<String>("a").unwrap(), "at the end");
            let (calls, call) = counter();
            let sub = handle.on_change(move |_| call());
            let under = props.on_change_under("", |_| {}).unwrap();
            props.set("a", "and after it").unwrap();
            assert!(eventually(SOON, || calls.load(Ordering::SeqCst) == 1));
            sub.close_and_wait().unwrap();
            drop(under);
            let id = props.explain("a").layers[0].source;
            let mut document = Document::new();
            document
                .set("a", "checked", Origin::new("test", ""))
                .unwrap();
            props.check(id, document).unwrap();
            let other = Properties::builder()
                .source(Memory::from([("b", 1)]))
                .build()
                .unwrap();
            let bad = other.property::<u32>("b").validate(|b| accept_if(*b < 5));
            let bad = bad.build().unwrap();
            assert_eq!(other.set("b", 9).unwrap_err().kind(), ErrorKind::Rejected);
            assert_eq!(bad.get(), 1);
            let added = other.add_source(Nested).unwrap();
            other.remove_source(added).unwrap();
            let missing = other.wait_for(["none"], Duration::from_millis(1));
            assert_eq!(missing.unwrap_err().kind(), ErrorKind::Timeout);
            other.refresh_now().unwrap();
            drop(last.take());
            done.send(()).unwrap();
        }
    }

    thread_local! {
        static FIRST: RefCell<Option<AtTheEnd>> = const { RefCell::new(None) };
    }

    #[test]
    fn properties_work_while_the_variables_of_a_thread_are_dropped() {
        if child::role().is_none() {
            let test =
                "the_end_of_a_thread::properties_work_while_the_variables_of_a_thread_are_dropped";
            return Child::of(test).succeeds();
        }
        for inline in [true, false] {
            for uses_first in [true, false] {
                let build = || {
                    let builder = Properties::builder().source(Memory::from([("a", "x")]));
                    match inline {
                        true => builder.inline_callbacks().build().unwrap(),
                        false => builder.build().unwrap(),
                    }
                };
                let (props, last) = (build(), build());
                let handle = props.property::<String>("a").build().unwrap();
                let (done, is_done) = channel();
                let view = props.clone();
                let thread = std::thread::spawn(move || {
                    let at_the_end = AtTheEnd(view.clone(), handle.clone(), Some(last), done);
                    // Thread-locals are dropped in the order of their first use.
                    let use_all = || {
                        view.set("a", "used").unwrap();
                        assert_eq!(handle.get(), "used");
                        drop(view.on_change_under("", |_| {}).unwrap());
                    };
                    if uses_first {
                        use_all();
                    }
                    FIRST.set(Some(at_the_end));
                    if !uses_first {
                        use_all();
                    }
                });
                thread.join().unwrap();
                is_done.try_recv().unwrap();
                assert_eq!(props.get::<String>("a").unwrap(), "and after it");
            }
        }
        child::report("all orders work");
    }
}
