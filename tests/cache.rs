//! The cache file has the last good values, complete or not at all, and a start without the store
//! uses it.
#![allow(missing_docs, clippy::unwrap_used)]
#![cfg(unix)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use liveprops::health::{SourceEventKind, SourceHealth, Status};
use liveprops::property::Subscription;
use liveprops::source::{Cached, RemovalGuard, Timing};
use liveprops::{
    Document, Error, ErrorKind, Key, Origin, Properties, Schema, Secret, Source, SourceContext,
    Update, Value, Watching,
};
use support::child::{self, Child};
use support::{Random, eventually, first_source};

/// How long anything may take that has to happen.
const SOON: Duration = Duration::from_secs(10);
/// How long a change may take to be durable.
const DURABLE: Duration = Duration::from_secs(2);

/// A store that can be down, and the source over it, which is polled.
#[derive(Clone, Default)]
struct Store {
    name: String,
    values: Arc<Mutex<BTreeMap<String, Value>>>,
    down: Arc<AtomicBool>,
    hangs: Arc<AtomicBool>,
}

impl Store {
    fn of(values: &[(&str, Value)]) -> Self {
        let store = Self {
            name: "test".to_owned(),
            ..Self::default()
        };
        values
            .iter()
            .for_each(|(key, value)| store.set(key, value.clone()));
        store
    }

    fn down(name: &str) -> Self {
        let store = Self {
            name: name.to_owned(),
            ..Self::default()
        };
        store.is_down(true);
        store
    }

    fn set(&self, key: &str, value: impl Into<Value>) {
        self.values
            .lock()
            .unwrap()
            .insert(key.to_owned(), value.into());
    }

    fn is_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }
}

impl Source for Store {
    fn origin(&self) -> Origin {
        Origin::new("store", &self.name)
    }

    fn load(&self) -> Result<Document, Error> {
        while self.hangs.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(1));
        }
        if self.down.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "the store is down"));
        }
        let mut document = Document::new();
        for (key, value) in &*self.values.lock().unwrap() {
            document.set(key, value.clone(), self.origin()).unwrap();
        }
        document.set_revision("4711");
        Ok(document)
    }

    fn watching(&self) -> Watching {
        Watching::Poll(Duration::from_millis(20))
    }

    fn timing(&self) -> Timing {
        Timing::new().timeout(Duration::from_millis(500))
    }
}

/// A place for state, and what is in it.
struct Place {
    _temporary: tempfile::TempDir,
    dir: PathBuf,
}

impl Place {
    fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path().join("state");
        Self {
            _temporary: temporary,
            dir,
        }
    }

    /// One that another process has made.
    fn at(dir: &str) -> Self {
        Self {
            dir: PathBuf::from(dir),
            ..Self::new()
        }
    }

    fn start(&self, store: &Store) -> Result<Properties, Error> {
        self.start_as(store, Cached::new())
    }

    fn start_as(&self, store: &Store, cached: Cached) -> Result<Properties, Error> {
        let source = store.clone().with(|policy| policy.cached_as(cached));
        Properties::builder()
            .state_dir(&self.dir)
            .source(source)
            .build()
    }

    /// Keeps some values and ends.
    fn keep(&self, values: &[(&str, Value)]) -> PathBuf {
        drop(self.start(&Store::of(values)).unwrap());
        self.file()
    }

    fn file(&self) -> PathBuf {
        let mut files = files(&self.dir);
        assert_eq!(files.len(), 1, "{files:?}");
        files.remove(0)
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

fn all_bytes(dir: &Path) -> Vec<u8> {
    files(dir)
        .iter()
        .flat_map(|file| fs::read(file).unwrap_or_default())
        .collect()
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

type Diary = Arc<Mutex<Vec<SourceEventKind>>>;

fn diary(props: &Properties) -> (Diary, Subscription) {
    let events = Diary::default();
    let into = Arc::clone(&events);
    let guard = props.on_source_event(move |event| into.lock().unwrap().push(event.kind.clone()));
    (events, guard)
}

/// Makes a kept file say that it was confirmed earlier, with a checksum that is right again.
fn set_back(file: &Path, by: Duration) {
    let mut bytes = fs::read(file).unwrap();
    let owner = u32::from_le_bytes(bytes[24..28].try_into().unwrap()) as usize;
    let at = 28 + owner;
    let then = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) - by.as_secs();
    bytes[at..at + 8].copy_from_slice(&then.to_le_bytes());
    seal(&mut bytes);
    fs::write(file, bytes).unwrap();
}

fn seal(bytes: &mut [u8]) {
    let mut sum = !0u32;
    for byte in bytes[..20].iter().chain(&bytes[24..]) {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg());
        }
    }
    bytes[20..24].copy_from_slice(&(!sum).to_le_bytes());
}

#[test]
fn a_start_without_the_store_uses_the_cache_until_the_store_answers() {
    let place = Place::new();
    place.keep(&[("n", 1.into()), ("text", "good".into())]);

    let store = Store::of(&[("n", 2.into())]);
    store.is_down(true);
    let begun = Instant::now();
    let props = place.start(&store).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5));
    let n = props.property::<i64>("n").build().unwrap();
    assert_eq!(
        (n.get(), props.get::<String>("text").unwrap().as_str()),
        (1, "good")
    );

    let health = first_source(&props);
    let Status::Stale { since, reason } = &health.status else {
        panic!("{health:?}");
    };
    assert!(reason.to_string().contains("the store is down"), "{reason}");
    assert_eq!(health.cached, Some(*since));
    assert!(since.elapsed().unwrap() < SOON);
    assert!(health.age.unwrap() < SOON);
    assert_eq!(health.revision.as_deref(), Some("4711"));
    assert!(health.required && !props.health().is_up());
    let explained = props.explain("n");
    let layer = explained
        .layers
        .iter()
        .find(|layer| layer.name == "store test")
        .unwrap();
    assert_eq!(layer.cached, Some(*since));
    assert!(
        explained.to_string().contains("kept on disk, confirmed"),
        "{explained}"
    );
    assert!(layer.origin.is_some());

    let (events, _guard) = diary(&props);
    store.is_down(false);
    assert!(eventually(SOON, || n.get() == 2
        && first_source(&props).cached.is_none()));
    assert_eq!(
        props.get_opt::<String>("text").unwrap(),
        None,
        "replaced as a whole"
    );
    assert!(eventually(SOON, || props.health().is_up()));
    assert!(eventually(SOON, || {
        let events = events.lock().unwrap();
        events
            .iter()
            .any(|kind| matches!(kind, SourceEventKind::Reconnected))
    }));
    assert!(
        props
            .explain("n")
            .layers
            .iter()
            .all(|layer| layer.cached.is_none())
    );

    // And what it says now is kept.
    drop(props);
    let props = place.start(&Store::down("test")).unwrap();
    assert_eq!(props.get::<i64>("n").unwrap(), 2);
}

#[test]
fn a_store_that_hangs_is_not_waited_for_longer_than_its_deadline() {
    let place = Place::new();
    place.keep(&[("n", 1.into())]);
    let store = Store::of(&[("n", 2.into())]);
    store.hangs.store(true, Ordering::SeqCst);
    let source = store.clone().with(|policy| policy.wait_forever().cached());
    let begun = Instant::now();
    let props = Properties::builder()
        .state_dir(&place.dir)
        .source(source)
        .build()
        .unwrap();
    assert!(
        begun.elapsed() < Duration::from_secs(4),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(props.get::<i64>("n").unwrap(), 1);
    store.hangs.store(false, Ordering::SeqCst);
    assert!(eventually(SOON, || props.get::<i64>("n").unwrap() == 2));
}

#[test]
fn a_cached_source_needs_a_directory_and_a_unique_name() {
    let store = || Store::of(&[("n", 1.into())]).with(|policy| policy.cached());
    let error = Properties::builder()
        .source(store())
        .build()
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("Builder::state_dir") && error.contains("store test"),
        "{error}"
    );

    let place = Place::new();
    let both = Properties::builder()
        .state_dir(&place.dir)
        .source(store())
        .source(store());
    let error = both.build().unwrap_err().to_string();
    assert!(error.contains("share a file"), "{error}");
}

#[test]
fn a_source_that_is_added_later_is_cached_too() {
    let place = Place::new();
    let add = |store: Store| {
        let props = Properties::builder().state_dir(&place.dir).build().unwrap();
        let id = props.add_source(store.with(|policy| policy.cached()))?;
        Ok::<_, Error>((props, id))
    };
    drop(add(Store::of(&[("n", 1.into())])).unwrap());
    let (props, id) = add(Store::down("test")).unwrap();
    assert_eq!(props.get::<i64>("n").unwrap(), 1);
    props.remove_source(id).unwrap();
    assert_eq!(props.get_opt::<i64>("n").unwrap(), None);
    props
        .add_source(Store::down("test").with(|policy| policy.cached()))
        .unwrap();
    assert_eq!(
        props.get::<i64>("n").unwrap(),
        1,
        "removing a source leaves its file"
    );
}

#[test]
fn damage_anywhere_is_rejected_with_a_reason() {
    let place = Place::new();
    let file = place.keep(&[("n", 1.into()), ("text", "good".into())]);
    let good = fs::read(&file).unwrap();
    let flips = (0..good.len()).map(|at| {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        bytes
    });
    let cuts = (0..good.len()).map(|at| good[..at].to_vec());
    let longer = [[&good[..], b"\0"].concat()];
    let mut tried = 0;
    for bytes in flips.chain(cuts).chain(longer) {
        fs::write(&file, bytes).unwrap();
        let error = place.start(&Store::down("test")).unwrap_err().to_string();
        let rejected = ["damaged", "cut short", "not a cache", "of format version"];
        let why = rejected.iter().any(|reason| error.contains(reason));
        assert!(why && error.contains("the store is down"), "{error}");
        tried += 1;
    }
    println!("{tried} damaged files of {} bytes rejected", good.len());
    assert!(tried > 200);

    // An optional source starts without it, and a store that answers is preferred to it.
    let optional = Store::down("test").with(|policy| policy.optional().cached());
    let props = Properties::builder()
        .state_dir(&place.dir)
        .source(optional)
        .build()
        .unwrap();
    assert!(matches!(first_source(&props).status, Status::Down { .. }));
    assert!(
        props
            .health()
            .rejected
            .iter()
            .any(|it| it.error.to_string().contains("damaged"))
    );
    drop(props);
    let props = place.start(&Store::of(&[("n", 3.into())])).unwrap();
    assert_eq!(props.get::<i64>("n").unwrap(), 3);
    assert!(
        props
            .health()
            .rejected
            .iter()
            .any(|it| it.error.to_string().contains("damaged"))
    );
    drop(props);
    fs::write(&file, &good).unwrap();
    assert!(place.start(&Store::down("test")).is_ok());
}

#[test]
fn a_cache_file_of_another_owner_or_version_is_rejected() {
    let place = Place::new();
    let file = place.keep(&[("n", 1.into())]);
    let good = fs::read(&file).unwrap();
    let error = place.start(&Store::down("other")).unwrap_err().to_string();
    assert!(error.contains("no values are cached"), "{error}");

    let mut foreign = good.clone();
    let owner = foreign
        .windows(4)
        .position(|bytes| bytes == b"test")
        .unwrap();
    foreign[owner] = b'b';
    seal(&mut foreign);
    fs::write(&file, foreign).unwrap();
    let error = place.start(&Store::down("test")).unwrap_err().to_string();
    assert!(
        error.contains("of another source, \"store best\""),
        "{error}"
    );

    let mut newer = good;
    newer[8] = 3;
    seal(&mut newer);
    fs::write(&file, newer).unwrap();
    let error = place.start(&Store::down("test")).unwrap_err().to_string();
    assert!(error.contains("of format version 3"), "{error}");
}

#[test]
fn cached_texts_of_another_encoding_are_not_used() {
    let start = |place: &Place, store: &Store, is_literal: bool| {
        let source = store.clone().with(|policy| match is_literal {
            true => policy.cached().without_references(),
            false => policy.cached(),
        });
        let builder = Properties::builder().state_dir(&place.dir);
        builder.source(source).build()
    };
    for was_literal in [false, true] {
        let place = Place::new();
        let greeting = || Store::of(&[("greeting", "x${y:z}w".into())]);
        drop(start(&place, &greeting(), was_literal).unwrap());
        let props = start(&place, &Store::down("test"), was_literal).unwrap();
        let read = if was_literal { "x${y:z}w" } else { "xzw" };
        assert_eq!(props.get::<String>("greeting").unwrap(), read);
        drop(props);
        let error = start(&place, &Store::down("test"), !was_literal).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("Policy::without_references"), "{error}");
        assert!(!error.contains("y:z"), "{error}");

        // Where nothing looks like a reference, both forms are the same.
        let place = Place::new();
        let plain = Store::of(&[("n", 1.into()), ("price", "$5 {net}".into())]);
        drop(start(&place, &plain, was_literal).unwrap());
        let props = start(&place, &Store::down("test"), !was_literal).unwrap();
        assert_eq!(props.get::<String>("price").unwrap(), "$5 {net}");
    }
}

#[test]
fn the_age_is_shown_and_may_be_limited() {
    let place = Place::new();
    let file = place.keep(&[("n", 1.into())]);
    let month = Duration::from_secs(31 * 86_400);
    set_back(&file, month);
    let kept = fs::read(&file).unwrap();
    {
        let props = place.start(&Store::down("test")).unwrap();
        let health = first_source(&props);
        let age = health.age.unwrap();
        assert!(age >= month && age < month + SOON, "{age:?}");
        assert!(health.cached.unwrap().elapsed().unwrap() >= month);
        assert!(
            props
                .explain("n")
                .to_string()
                .contains("confirmed 31 d ago")
        );
    }
    assert_eq!(fs::read(&file).unwrap(), kept, "only an answer confirms it");
    {
        // Not even where it is written anew, because less of it is to be there.
        let props = place.start(&Store::down("test")).unwrap();
        let _: Secret<i64> = props.get("n").unwrap();
    }
    let now = fs::read(&file).unwrap();
    assert_ne!(now, kept, "a secret was taken out");
    let props = place.start(&Store::down("test")).unwrap();
    assert!(first_source(&props).cached.unwrap().elapsed().unwrap() >= month);
    drop(props);
    fs::write(&file, kept).unwrap();

    let most = Cached::new().max_age(Duration::from_secs(30 * 86_400));
    let error = place
        .start_as(&Store::down("test"), most)
        .unwrap_err()
        .to_string();
    assert!(error.contains("31 d old, and 30 d is the most"), "{error}");
    let most = Cached::new().max_age(Duration::from_secs(32 * 86_400));
    assert!(place.start_as(&Store::down("test"), most).is_ok());
}

#[test]
fn a_rejected_value_never_reaches_the_disk() {
    let place = Place::new();
    let store = Store::of(&[("n", 1.into())]);
    let start = |store: &Store| {
        let source = store.clone().with(|policy| policy.cached());
        let builder = Properties::builder().state_dir(&place.dir).source(source);
        builder.validate(|tree| match tree.get_opt::<i64>("n") {
            Ok(Some(n)) if n > 100 => Err("n must not exceed 100".into()),
            _ => Ok(()),
        })
    };
    let props = start(&store).build().unwrap();
    store.set("n", 666);
    assert!(eventually(SOON, || first_source(&props).rejections > 0));
    drop(props);
    let props = start(&Store::down("test")).build().unwrap();
    assert_eq!(props.get::<i64>("n").unwrap(), 1);
}

#[test]
fn cached_values_that_are_invalid_now_are_not_used() {
    let place = Place::new();
    place.keep(&[("n", 1.into())]);
    let strict = |source: Box<dyn Source>| {
        let builder = Properties::builder().state_dir(&place.dir).source(source);
        builder.validate(|tree| match tree.get_opt::<i64>("n") {
            Ok(Some(1)) => Err("1 is not good any more".into()),
            _ => Ok(()),
        })
    };
    let required = Store::down("test").with(|policy| policy.cached());
    let error = strict(Box::new(required)).build().unwrap_err().to_string();
    assert!(
        error.contains("the store is down") && error.contains("not good any more"),
        "{error}"
    );

    let optional = Store::down("test").with(|policy| policy.optional().cached());
    let props = strict(Box::new(optional)).build().unwrap();
    assert_eq!(props.get_opt::<i64>("n").unwrap(), None);
    assert!(matches!(first_source(&props).status, Status::Down { .. }));
    assert!(first_source(&props).cached.is_none());
    let rejected = props.health().rejected;
    assert!(
        rejected
            .iter()
            .any(|it| it.error.to_string().contains("not good any more"))
    );
}

#[test]
fn only_the_invalid_ones_of_several_cached_values_are_dropped() {
    let place = Place::new();
    let (good, bad) = (Store::down("good"), Store::down("bad"));
    good.set("a", 1);
    bad.set("b", 1);
    let build = |check: bool| {
        let cached = |store: &Store| store.clone().with(|policy| policy.optional().cached());
        let builder = Properties::builder().state_dir(&place.dir);
        let builder = builder.source(cached(&good)).source(cached(&bad));
        let b = Schema::key::<i64>("b").validate("not wanted any more", move |_| {
            (!check).then_some(()).ok_or_else(|| "not accepted".into())
        });
        builder.schema(Schema::new().declare(b)).build().unwrap()
    };
    good.is_down(false);
    bad.is_down(false);
    drop(build(false));
    good.is_down(true);
    bad.is_down(true);
    let props = build(true);
    assert_eq!(props.get::<i64>("a").unwrap(), 1);
    assert_eq!(props.get_opt::<i64>("b").unwrap(), None);
    let cached = |name: &str| {
        let health = props.health();
        let of = |source: &&SourceHealth| source.name.ends_with(name);
        health.sources.iter().find(of).unwrap().cached.is_some()
    };
    assert!(cached("good") && !cached("bad"));
}

#[test]
fn an_emptied_store_is_withheld_after_a_start_from_the_cache() {
    let place = Place::new();
    place.keep(&[("n", 1.into())]);
    let store = Store::down("test");
    let source = store
        .clone()
        .with(|policy| policy.guarded(RemovalGuard::new()).cached());
    let builder = Properties::builder().state_dir(&place.dir).source(source);
    let props = builder.build().unwrap();
    store.is_down(false);
    assert!(eventually(SOON, || first_source(&props).withheld.is_some()));
    assert_eq!(props.get::<i64>("n").unwrap(), 1);
    assert!(first_source(&props).cached.is_some());
}

#[test]
fn the_cache_omits_secrets_unless_it_is_told_to_keep_them() {
    let place = Place::new();
    let values: &[(&str, Value)] = &[
        ("db.password", "hunter2-by-name".into()),
        ("db.port", 5432.into()),
        ("seen.as.code", "hunter2-by-type".into()),
        ("named", "hunter2-by-builder".into()),
        ("dsn", "postgres://me:hunter2-by-value@db".into()),
        (
            "list",
            vec![BTreeMap::from([("token", "hunter2-in-list")])].into(),
        ),
    ];
    let build = |cached: Cached| {
        // Asked once, so that no answer has it written anew.
        let source = Store::of(values).with(|policy| policy.manual().cached_as(cached));
        let builder = Properties::builder().state_dir(&place.dir).source(source);
        builder.secret("named").build().unwrap()
    };
    let props = build(Cached::new());
    assert!(eventually(SOON, || !files(&place.dir).is_empty()));
    let code = props
        .property::<Secret<String>>("seen.as.code")
        .build()
        .unwrap();
    assert!(eventually(DURABLE, || !holds(
        &all_bytes(&place.dir),
        "hunter2"
    )));
    drop((props, code));
    let bytes = all_bytes(&place.dir);
    assert!(!holds(&bytes, "hunter2") && holds(&bytes, "port"));
    let props = place.start(&Store::down("test")).unwrap();
    assert_eq!(props.get::<u16>("db.port").unwrap(), 5432);
    assert_eq!(props.get_opt::<String>("db.password").unwrap(), None);
    let Status::Stale { reason, .. } = first_source(&props).status else {
        panic!("not stale");
    };
    let told = reason.to_string();
    assert!(told.contains("secrets are not kept on disk"), "{told}");
    drop(props);
    // Who needs one is told why it is not there.
    let down = Store::down("test").with(|policy| policy.cached());
    let schema = Schema::new().declare(Schema::key::<String>("db.password").required());
    let builder = Properties::builder().state_dir(&place.dir).schema(schema);
    let error = builder.source(down).build().unwrap_err();
    let told: Vec<String> = error.iter().map(ToString::to_string).collect();
    assert!(told.iter().any(|t| t.contains("required")), "{told:?}");
    assert!(
        told.iter().any(|t| t.contains("Cached::with_secrets")),
        "{told:?}"
    );

    drop(build(Cached::new().with_secrets()));
    for how in ["name", "type", "builder", "value"] {
        assert!(
            holds(&all_bytes(&place.dir), &format!("hunter2-by-{how}")),
            "{how}"
        );
    }
    let props = place.start(&Store::down("test")).unwrap();
    assert_eq!(
        props.get::<String>("db.password").unwrap(),
        "hunter2-by-name"
    );
}

#[test]
fn a_link_at_a_path_of_the_cache_is_never_followed() {
    let place = Place::new();
    let file = place.keep(&[("n", 1.into())]);
    let treasure = place.dir.with_file_name("treasure");
    fs::write(&treasure, b"gold").unwrap();
    // What an attacker may have seen once: every name that a first write could have.
    for process in [std::process::id(), 1] {
        for n in 0..8 {
            let name = format!(".liveprops-{process}-0000000000000000-{n}.tmp");
            symlink(&treasure, place.dir.join(name)).unwrap();
        }
    }
    fs::rename(&file, place.dir.with_file_name("aside")).unwrap();
    symlink(place.dir.with_file_name("aside"), &file).unwrap();
    let error = place.start(&Store::down("test")).unwrap_err().to_string();
    assert!(error.contains("not a regular file"), "{error}");
    let kept = fs::read(place.dir.with_file_name("aside")).unwrap();

    fs::remove_file(&file).unwrap();
    symlink(&treasure, &file).unwrap();
    drop(place.start(&Store::of(&[("n", 2.into())])).unwrap());
    assert_eq!(fs::read(&treasure).unwrap(), b"gold");
    assert_eq!(fs::read(place.dir.with_file_name("aside")).unwrap(), kept);
    assert!(
        fs::symlink_metadata(&file).unwrap().is_file(),
        "the link itself was replaced"
    );
    let props = place.start(&Store::down("test")).unwrap();
    assert_eq!(props.get::<i64>("n").unwrap(), 2);
}

#[test]
fn only_files_without_a_possible_owner_are_removed() {
    let place = Place::new();
    fs::create_dir(&place.dir).unwrap();
    let at = |name: &str| place.dir.join(name);
    let (old, new) = (at(".liveprops-1-aa-0.tmp"), at(".liveprops-2-aa-0.tmp"));
    let foreign = at("notes.tmp");
    for path in [&old, &new, &foreign] {
        fs::write(path, b"half").unwrap();
    }
    let hour = SystemTime::now() - Duration::from_secs(3_600);
    for path in [&old, &foreign] {
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(hour).unwrap();
    }
    drop(place.start(&Store::of(&[("n", 1.into())])).unwrap());
    assert!(!old.exists());
    assert!(new.exists() && foreign.exists());
    assert_eq!(files(&place.dir).len(), 3);
}

/// Two containers on one directory: each is process 1 of its own.
#[cfg(target_os = "linux")]
#[test]
fn a_start_in_one_container_leaves_the_file_that_another_container_writes() {
    const TEST: &str = "a_start_in_one_container_leaves_the_file_that_another_container_writes";
    if let Some(role) = child::role() {
        let (dir, what) = role.rsplit_once(' ').unwrap();
        if what == "starts" {
            let props = Place::at(dir)
                .start(&Store::of(&[("n", 1.into())]))
                .unwrap();
            drop(props);
            return child::report("started");
        }
        let (stream, props) = streaming(Path::new(dir));
        let (events, _guard) = diary(&props);
        child::report("ready");
        let (closed, is_closed) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let _ = std::io::stdin().read_line(&mut String::new());
            let _ = closed.send(());
        });
        for n in 1.. {
            stream.send_large(n);
            if is_closed.try_recv().is_ok() {
                break;
            }
        }
        let failed = |kind: &SourceEventKind| matches!(kind, SourceEventKind::Degraded(_));
        assert!(!events.lock().unwrap().iter().any(failed), "a write failed");
        return;
    }
    let place = Place::new();
    for wrapper in [
        &["unshare", "--pid", "--fork"][..],
        &["unshare", "--pid", "--fork", "--mount-proc"],
    ] {
        let child = |what: &str| {
            let child = Child::of(TEST).role(format!("{} {what}", place.dir.display()));
            child.under(wrapper)
        };
        let Some(writer) = child("writes") else {
            eprintln!("skipped: {wrapper:?} is not allowed here");
            continue;
        };
        let mut writer = writer.start();
        writer.output.recv_timeout(SOON).unwrap();
        let mut seen = 0;
        let begun = Instant::now();
        // Starts meet files that are being written, again and again.
        while seen < 5 && begun.elapsed() < Duration::from_secs(20) {
            let is_aside = |path: &PathBuf| path.extension().is_some_and(|it| it == "tmp");
            let before: Vec<_> = files(&place.dir).into_iter().filter(is_aside).collect();
            if before.is_empty() {
                continue;
            }
            seen += 1;
            let starter = child("starts").unwrap().start();
            starter.output.recv_timeout(SOON).unwrap();
        }
        assert!(seen > 0, "no file was seen while it was written");
        assert!(writer.exits_successfully(), "{wrapper:?}");
    }
}

#[test]
fn an_unwritable_cache_directory_is_reported_once_and_changes_nothing_else() {
    let place = Place::new();
    // A directory cannot be made below a file.
    fs::write(&place.dir, b"in the way").unwrap();
    let store = Store::of(&[("n", 1.into())]);
    let props = place.start(&store).unwrap();
    let (events, _guard) = diary(&props);
    assert!(eventually(SOON, || first_source(&props).degraded.is_some()));
    let reason = first_source(&props).degraded.unwrap().to_string();
    assert!(reason.contains("cannot be cached"), "{reason}");
    assert!(props.health().is_up());
    store.set("n", 2);
    assert!(eventually(SOON, || props.get::<i64>("n").unwrap() == 2));
    thread::sleep(Duration::from_millis(800));
    let told = events.lock().unwrap();
    let told = told
        .iter()
        .filter(|kind| matches!(kind, SourceEventKind::Degraded(_)));
    assert!(told.count() <= 1);

    fs::remove_file(&place.dir).unwrap();
    assert!(eventually(SOON, || first_source(&props).degraded.is_none()));
    drop(props);
    let props = place.start(&Store::down("test")).unwrap();
    assert_eq!(props.get::<i64>("n").unwrap(), 2);
}

#[test]
fn a_rename_that_fails_leaves_nothing_behind() {
    let place = Place::new();
    let file = place.keep(&[("n", 1.into())]);
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    fs::write(file.join("in the way"), b"").unwrap();
    let props = place.start(&Store::of(&[("n", 2.into())])).unwrap();
    assert!(eventually(SOON, || first_source(&props).degraded.is_some()));
    assert_eq!(files(&place.dir), [file]);
}

/// A small file system of its own, unmounted at the end.
struct Mounted(PathBuf);

impl Mounted {
    fn new(dir: &Path, options: &str) -> Option<Self> {
        fs::create_dir_all(dir).unwrap();
        let dir = dir.to_owned();
        let mut mount = Command::new("mount");
        let mount = mount
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(&dir);
        let done = mount.output().is_ok_and(|output| output.status.success());
        done.then_some(Self(dir))
    }

    fn again(&self, options: &str) {
        let mut mount = Command::new("mount");
        let done = mount.args(["-o", options]).arg(&self.0).status().unwrap();
        assert!(done.success());
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_or_read_only_file_system_keeps_nothing_from_working() {
    let place = Place::new();
    let Some(mounted) = Mounted::new(&place.dir, "size=16k,mode=700") else {
        println!("SKIPPED: no file system can be mounted here");
        return;
    };
    let store = Store::of(&[("n", 1.into())]);
    let props = place.start(&store).unwrap();
    assert!(eventually(SOON, || !files(&place.dir).is_empty()));
    let file = place.file();
    store.set("large", "x".repeat(30_000));
    store.set("n", 2);
    assert!(eventually(SOON, || props.get::<i64>("n").unwrap() == 2));
    assert!(eventually(SOON, || first_source(&props).degraded.is_some()));
    assert_eq!(
        files(&place.dir),
        *std::slice::from_ref(&file),
        "nothing half written stays"
    );
    assert!(props.health().is_up());
    let old = {
        let copy = Place::new();
        fs::create_dir(&copy.dir).unwrap();
        fs::copy(&file, copy.dir.join(file.file_name().unwrap())).unwrap();
        copy.start(&Store::down("test"))
            .unwrap()
            .get::<i64>("n")
            .unwrap()
    };
    assert_eq!(old, 1, "the old file is still whole");

    store.values.lock().unwrap().remove("large");
    assert!(eventually(SOON, || first_source(&props).degraded.is_none()));

    mounted.again("remount,ro");
    store.set("n", 3);
    assert!(eventually(SOON, || first_source(&props).degraded.is_some()));
    assert_eq!(props.get::<i64>("n").unwrap(), 3);
    mounted.again("remount,rw");
    assert!(eventually(SOON, || first_source(&props).degraded.is_none()));
    assert_eq!(files(&place.dir), [file]);
    drop(props);
    assert_eq!(
        place
            .start(&Store::down("test"))
            .unwrap()
            .get::<i64>("n")
            .unwrap(),
        3
    );
}

/// A source that the test pushes through, and that loads what it was given.
#[derive(Clone, Default)]
struct Stream(Arc<Mutex<(i64, Option<SourceContext>)>>);

impl Stream {
    fn document(n: i64) -> Document {
        let mut document = Document::new();
        // All say the same, or the file is of two writers.
        for key in 0..20 {
            document
                .set(&format!("k{key}"), n, Origin::new("stream", "test"))
                .unwrap();
        }
        document
    }

    /// A document that takes a while to write.
    fn send_large(&self, n: i64) {
        let mut document = Self::document(n);
        let text = "x".repeat(9 << 20);
        document
            .set("large", text, Origin::new("stream", "test"))
            .unwrap();
        let updates = self.0.lock().unwrap().1.clone();
        updates.unwrap().send(Update::full(document)).unwrap();
    }

    fn send(&self, n: i64) {
        let updates = {
            let mut inner = self.0.lock().unwrap();
            inner.0 = n;
            inner.1.clone()
        };
        if let Some(updates) = updates {
            updates.send(Update::full(Self::document(n))).unwrap();
        }
    }
}

impl Source for Stream {
    fn origin(&self) -> Origin {
        Origin::new("stream", "test")
    }

    fn load(&self) -> Result<Document, Error> {
        Ok(Self::document(self.0.lock().unwrap().0))
    }

    fn watching(&self) -> Watching {
        Watching::Push
    }

    fn watch(&self, updates: &SourceContext) -> Result<(), Error> {
        let mut inner = self.0.lock().unwrap();
        inner.1 = Some(updates.clone());
        let document = Self::document(inner.0);
        drop(inner);
        updates.send(Update::full(document)).map(drop)
    }
}

/// The same place in the store, which does not answer.
struct Silent;

impl Source for Silent {
    fn origin(&self) -> Origin {
        Origin::new("stream", "test")
    }

    fn load(&self) -> Result<Document, Error> {
        Err(Error::new(ErrorKind::Unavailable, "the stream is down"))
    }
}

fn streaming(dir: &Path) -> (Stream, Properties) {
    let stream = Stream::default();
    let source = stream.clone().with(|policy| policy.cached());
    let props = Properties::builder()
        .state_dir(dir)
        .source(source)
        .build()
        .unwrap();
    (stream, props)
}

/// What is kept of the stream, if all of it is of one writer.
fn kept(dir: &Path) -> Result<i64, Error> {
    let source = Silent.with(|policy| policy.cached());
    let props = Properties::builder()
        .state_dir(dir)
        .source(source)
        .build()?;
    let all: Vec<i64> = (0..20)
        .map(|key| props.get(&format!("k{key}")).unwrap())
        .collect();
    assert!(all.windows(2).all(|two| two[0] == two[1]), "mixed: {all:?}");
    assert_eq!(first_source(&props).rejections, 0);
    Ok(all[0])
}

#[test]
fn many_updates_are_few_writes_and_the_last_is_durable() {
    let place = Place::new();
    let (stream, props) = streaming(&place.dir);
    let done = Arc::new(AtomicBool::new(false));
    let (dir, stop) = (place.dir.clone(), Arc::clone(&done));
    // A write is a file of its own, so its number tells.
    let counter = thread::spawn(move || {
        use std::os::unix::fs::MetadataExt;
        let (mut last, mut writes) = ((0, 0), 0);
        while !stop.load(Ordering::SeqCst) {
            let now = files(&dir)
                .iter()
                .filter(|file| file.extension().is_some_and(|e| e == "cache"))
                .find_map(|file| fs::metadata(file).ok())
                .map_or((0, 0), |data| (data.ino(), data.mtime_nsec()));
            writes += usize::from(now != last);
            last = now;
            thread::sleep(Duration::from_millis(1));
        }
        writes
    });
    let begun = Instant::now();
    let mut sent = 0;
    while begun.elapsed() < Duration::from_secs(2) {
        sent += 1;
        stream.send(sent);
        let due = Duration::from_millis(sent.unsigned_abs());
        thread::sleep(due.saturating_sub(begun.elapsed()));
    }
    let ended = Instant::now();
    // A process that is killed now has what was read here.
    assert!(eventually(DURABLE, || kept(&place.dir).is_ok_and(|n| n == sent)));
    let durable = ended.elapsed();
    done.store(true, Ordering::SeqCst);
    let writes = counter.join().unwrap();
    println!("{sent} updates in 2 s, {writes} writes, the last durable after {durable:?}");
    assert!(
        sent > 500 && writes <= 5 * 2 + 3,
        "{sent} updates, {writes} writes"
    );
    drop(props);
}

#[test]
fn a_kill_at_any_moment_leaves_the_old_or_the_new() {
    if let Some(dir) = child::role() {
        let (stream, _props) = streaming(Path::new(&dir));
        child::report("ready");
        for n in 1.. {
            stream.send(n);
        }
    }
    let place = Place::new();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut loaded, mut temporary, mut advanced) = (0, 0, 0);
    let mut last = -1;
    const KILLS: usize = 110;
    for _ in 0..KILLS {
        let child = Child::of("a_kill_at_any_moment_leaves_the_old_or_the_new")
            .role(place.dir.display())
            .start();
        // Half of them are killed about when the first write happens.
        let wait = match random.below(2) {
            0 => 45_000 + random.below(25_000),
            _ => random.below(300_000),
        };
        child.output.recv_timeout(SOON).unwrap();
        thread::sleep(Duration::from_micros(wait));
        child.signal("-KILL");
        drop(child);
        temporary += files(&place.dir)
            .iter()
            .filter(|file| file.extension().is_some_and(|extension| extension == "tmp"))
            .count();
        match kept(&place.dir) {
            Ok(n) => {
                advanced += usize::from(n != last);
                (last, loaded) = (n, loaded + 1);
            }
            Err(error) => {
                let none = error.to_string().contains("no values are cached");
                assert!(none && loaded == 0, "{error}");
            }
        }
    }
    let left: Vec<_> = files(&place.dir)
        .into_iter()
        .filter(|file| file.extension().is_some_and(|extension| extension == "tmp"))
        .collect();
    println!(
        "{KILLS} kills: {loaded} loaded, {advanced} of them newer, {temporary} half written, \
         {} left",
        left.len()
    );
    assert!(
        loaded >= 60 && advanced >= 5,
        "{loaded} loaded, {advanced} newer"
    );
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn two_processes_on_one_directory_never_mix() {
    if let Some(role) = child::role() {
        let (dir, first) = role.rsplit_once(' ').unwrap();
        let (stream, _props) = streaming(Path::new(dir));
        let mut n: i64 = first.parse().unwrap();
        child::report("ready");
        loop {
            n += 2;
            stream.send(n);
            thread::sleep(Duration::from_micros(200));
        }
    }
    let place = Place::new();
    let child = |first: i64| {
        let role = format!("{} {first}", place.dir.display());
        let child = Child::of("two_processes_on_one_directory_never_mix")
            .role(role)
            .start();
        child.output.recv_timeout(SOON).unwrap();
        child
    };
    let _writers = [child(0), child(1)];
    assert!(eventually(SOON, || !files(&place.dir).is_empty()));
    let begun = Instant::now();
    let (mut reads, mut odd, mut even) = (0, 0, 0);
    while begun.elapsed() < Duration::from_secs(2) {
        match kept(&place.dir) {
            Ok(n) if n % 2 == 0 => even += 1,
            Ok(_) => odd += 1,
            Err(error) => assert!(
                error.to_string().contains("no values are cached"),
                "{error}"
            ),
        }
        reads += 1;
    }
    println!("{reads} reads, {even} of the one and {odd} of the other");
    assert!(odd > 0 && even > 0);
}

#[test]
fn only_the_user_may_read_whatever_the_umask() {
    if let Some(dir) = child::role() {
        let place = PathBuf::from(dir);
        let (stream, props) = streaming(&place);
        stream.send(1);
        drop(props);
        child::report("kept");
        return;
    }
    let test = "only_the_user_may_read_whatever_the_umask";
    for umask in ["000", "022", "077"] {
        let place = Place::new();
        let shell = format!("umask {umask}; exec \"$@\"");
        let child = Child::of(test).role(place.dir.display());
        child.under(&["sh", "-c", &shell, "sh"]).unwrap().succeeds();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&place.dir), 0o700, "umask {umask}");
        assert_eq!(mode(&place.file()), 0o600, "umask {umask}");
        assert_eq!(kept(&place.dir).unwrap(), 1);
    }
    // A directory that is there stays as it is.
    let place = Place::new();
    fs::DirBuilder::new()
        .mode(0o750)
        .create(&place.dir)
        .unwrap();
    place.keep(&[("n", 1.into())]);
    let mode = fs::metadata(&place.dir).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o750);
}

#[test]
fn shutdown_is_short_and_loses_nothing() {
    let place = Place::new();
    let (stream, props) = streaming(&place.dir);
    for n in 1..=50 {
        stream.send(n);
    }
    let begun = Instant::now();
    drop(props);
    assert!(
        begun.elapsed() < Duration::from_millis(1500),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(kept(&place.dir).unwrap(), 50);
}

#[test]
fn without_a_cached_source_nothing_is_written() {
    let place = Place::new();
    let store = Store::of(&[("n", 1.into())]);
    let props = Properties::builder()
        .state_dir(&place.dir)
        .source(store)
        .build()
        .unwrap();
    assert_eq!(props.get::<i64>("n").unwrap(), 1);
    drop(props);
    assert!(files(&place.dir).is_empty());
}

#[test]
fn the_time_of_confirmation_is_that_of_the_answer() {
    let place = Place::new();
    let before = SystemTime::now();
    place.keep(&[("n", 1.into())]);
    let after = SystemTime::now();
    let props = place.start(&Store::down("test")).unwrap();
    let confirmed = first_source(&props).cached.unwrap();
    assert!(before <= confirmed && confirmed <= after);
    assert_eq!(first_source(&props).last_success, Some(confirmed));
}

#[test]
fn a_cache_file_that_others_may_write_is_not_used() {
    let place = Place::new();
    let file = place.keep(&[("n", 1.into())]);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    let error = place.start(&Store::down("test")).unwrap_err();
    assert!(error.to_string().contains("writable by others"), "{error}");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    drop(place.start(&Store::down("test")).unwrap());
    if Command::new("chown")
        .arg("65534")
        .arg(&file)
        .status()
        .is_ok_and(|done| done.success())
    {
        let error = place.start(&Store::down("test")).unwrap_err();
        assert!(error.to_string().contains("another user"), "{error}");
    }
}

#[test]
fn a_good_cache_is_used_whatever_the_others_hold() {
    let place = Place::new();
    let store = |name: &str, value: i64| {
        let mut store = Store::of(&[(name, value.into())]);
        store.name = name.to_owned();
        store
    };
    let start = |down: bool, most: i64| {
        let mut builder = Properties::builder().state_dir(&place.dir);
        for (name, value) in [("a", 1), ("b", 5), ("c", 5)] {
            let store = store(name, value);
            store.is_down(down);
            let optional = name != "a";
            builder = builder.source(store.with(move |policy| match optional {
                true => policy.optional().cached(),
                false => policy.cached(),
            }));
        }
        let schema = ["a", "b", "c"].iter().fold(Schema::new(), |schema, key| {
            let key = Schema::key::<i64>(key);
            schema.declare(key.validate("too much", move |n| {
                (*n <= most)
                    .then_some(())
                    .ok_or_else(|| "not accepted".into())
            }))
        });
        builder.schema(schema).build()
    };
    drop(start(false, 9).unwrap());
    let props = start(true, 2).unwrap();
    assert_eq!(props.get::<i64>("a").unwrap(), 1);
    assert_eq!(props.get_opt::<i64>("b").unwrap(), None);
    assert!(
        props
            .health()
            .rejected
            .iter()
            .any(|rejected| rejected.error.to_string().contains("too much"))
    );
}

#[test]
fn a_start_uses_the_cache_while_the_store_sends_nonsense() {
    let place = Place::new();
    place.keep(&[("n", 1.into()), ("other", 1.into())]);
    let rule = |view: &liveprops::Snapshot| match view.get::<i64>("n").unwrap_or_default() {
        n if n > 9 => Err(format!("{n} is too much")),
        _ => Ok(()),
    };
    let store = Store::of(&[("n", 99.into()), ("other", 2.into())]);
    let source = store.clone().with(|policy| policy.cached());
    let builder = Properties::builder().state_dir(&place.dir).validate(rule);
    let props = builder.source(source).build().unwrap();
    let both = || {
        (
            props.get::<i64>("n").unwrap(),
            props.get::<i64>("other").unwrap(),
        )
    };
    assert_eq!(both(), (1, 1));
    let health = first_source(&props);
    assert!(health.cached.is_some(), "{health:?}");
    let Status::Stale { reason, .. } = health.status else {
        panic!("{health:?}");
    };
    let told = reason.to_string();
    assert!(
        told.contains("99 is too much") && told.contains("test"),
        "{told}"
    );
    store.set("n", 5);
    assert!(eventually(SOON, || both() == (5, 2)));
    assert!(eventually(SOON, || first_source(&props).cached.is_none()
        && props.health().is_up()));
    drop(props);

    // Without a cache, one that the program can do without is done without.
    let bad = Store::of(&[("n", 99.into())]);
    let start = |optional: bool| {
        let source = bad.clone().with(|policy| match optional {
            true => policy.optional(),
            false => policy,
        });
        Properties::builder().validate(rule).source(source).build()
    };
    assert!(start(false).is_err());
    let props = start(true).unwrap();
    assert_eq!(props.get_opt::<i64>("n").unwrap(), None);
    assert!(matches!(first_source(&props).status, Status::Down { .. }));
    bad.set("n", 3);
    assert!(eventually(SOON, || props.get_opt::<i64>("n").unwrap() == Some(3)));
    assert!(eventually(SOON, || props.health().is_up()));
}

/// A directory of fragments that is kept on disk.
#[cfg(feature = "toml")]
struct Fragments {
    place: Place,
    dir: PathBuf,
}

#[cfg(feature = "toml")]
impl Fragments {
    fn of(fragments: &[(&str, &str)]) -> Self {
        let place = Place::new();
        let dir = place._temporary.path().join("conf.d");
        fs::create_dir(&dir).unwrap();
        let all = Self { place, dir };
        for (name, text) in fragments {
            all.write(name, text);
        }
        all
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let aside = self.at(".aside");
        fs::write(&aside, text).unwrap();
        fs::rename(aside, self.at(name)).unwrap();
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.at(name)).unwrap();
    }

    fn start(&self) -> Properties {
        let source = liveprops::sources::Dir::new(&self.dir);
        let source = source.poll(Duration::from_millis(100));
        Properties::builder()
            .state_dir(&self.place.dir)
            .source(source.with(|policy| policy.cached()))
            .build()
            .unwrap()
    }
}

#[cfg(feature = "toml")]
fn number(props: &Properties, key: &str) -> Option<i64> {
    props.get_opt(key).unwrap()
}

/// The files of which a rejection is in the list.
#[cfg(feature = "toml")]
fn rejects(props: &Properties, file: &str) -> bool {
    let rejected = props.health().rejected;
    let mut texts = rejected.iter().map(|it| it.error.to_string());
    texts.any(|text| text.contains(file))
}

#[cfg(feature = "toml")]
#[test]
fn a_fragment_that_cannot_be_read_keeps_its_values_across_restarts() {
    type Break = fn(&Fragments);
    let ways: [(&str, Break); 4] = [
        ("no syntax", |it| it.write("2.toml", "b = [\n")),
        ("a dangling link", |it| {
            it.remove("2.toml");
            symlink("nowhere", it.at("2.toml")).unwrap();
        }),
        ("a link to itself", |it| {
            it.remove("2.toml");
            symlink("2.toml", it.at("2.toml")).unwrap();
        }),
        ("a pipe", |it| {
            it.remove("2.toml");
            let made = Command::new("mkfifo").arg(it.at("2.toml")).status();
            assert!(made.unwrap().success());
        }),
    ];
    for (way, breaks) in ways {
        let it = Fragments::of(&[("1.toml", "a = 1\n"), ("2.toml", "b = 2\n[deep]\nx = 3\n")]);
        drop(it.start());
        breaks(&it);
        it.write("1.toml", "a = 10\n");
        // The second restart finds what the first one left in the cache.
        for restart in 1..=2 {
            let props = it.start();
            let values = ["a", "b", "deep.x"].map(|key| number(&props, key));
            assert_eq!(
                values,
                [Some(10), Some(2), Some(3)],
                "{way}, restart {restart}"
            );
            assert!(
                matches!(first_source(&props).status, Status::Stale { .. }),
                "{way}"
            );
            assert!(!props.health().is_up(), "{way}");
            assert!(
                rejects(&props, "2.toml"),
                "{way}: {:?}",
                props.health().rejected
            );
            assert_eq!(first_source(&props).problems.len(), 1, "{way}");
            // The watch goes on with it.
            it.write("1.toml", "a = 10\nalso = 1\n");
            assert!(
                eventually(SOON, || number(&props, "also") == Some(1)),
                "{way}"
            );
            assert_eq!(
                number(&props, "deep.x"),
                Some(3),
                "{way}, restart {restart}"
            );
            it.write("1.toml", "a = 10\n");
            assert!(
                eventually(SOON, || number(&props, "also").is_none()),
                "{way}"
            );
        }
        let props = it.start();
        it.remove("2.toml");
        it.write("2.toml", "b = 20\n");
        assert!(
            eventually(SOON, || number(&props, "b") == Some(20)),
            "{way}"
        );
        assert!(eventually(SOON, || props.health().is_up()), "{way}");
        assert_eq!(number(&props, "deep.x"), None, "{way}: it was read");
    }
}

#[cfg(feature = "toml")]
#[test]
fn a_restart_after_a_rejection_and_a_broken_fragment_has_the_last_accepted_values() {
    let it = Fragments::of(&[("1.toml", "x = 1\n"), ("2.toml", "y = 1\n")]);
    let props = it.start();
    let x = props.property::<u32>("x").default(0).build().unwrap();
    it.write("1.toml", "x = \"many\"\n");
    assert!(eventually(SOON, || rejects(&props, "many")));
    it.write("1.toml", "x = =\n");
    assert!(eventually(SOON, || rejects(&props, "1.toml:1:5")));
    it.write("2.toml", "y = 2\n");
    assert!(eventually(SOON, || number(&props, "y") == Some(2)));
    assert_eq!(x.get(), 1);
    drop((x, props));
    for kept in [1, 0] {
        let props = it.start();
        let x = props.property::<u32>("x").default(0).build().unwrap();
        assert_eq!((x.get(), number(&props, "y")), (kept, Some(2)));
        assert!(rejects(&props, "1.toml:1:5") && !rejects(&props, "many"));
        assert!(!props.health().is_up());
        drop((x, props));
        fs::remove_dir_all(&it.place.dir).unwrap();
    }
}

/// Files and a directory that are kept on disk: a file, two files of a cascade, two fragments.
#[cfg(feature = "toml")]
struct Inputs(Fragments);

#[cfg(feature = "toml")]
impl Inputs {
    /// The files that are emptied, and the key of each.
    const EMPTIED: [(&str, &str); 4] = [
        ("one.toml", "one"),
        ("app.toml", "base"),
        ("app-prod.toml", "prod"),
        ("conf.d/1.toml", "first"),
    ];

    fn new() -> Self {
        let it = Self(Fragments::of(&[("2.toml", "second = 1\n")]));
        for (name, key) in Self::EMPTIED {
            it.write(name, &format!("{key} = 1\n"));
        }
        it
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.dir.parent().unwrap().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let aside = self.at(".aside");
        fs::write(&aside, text).unwrap();
        fs::rename(aside, self.at(name)).unwrap();
    }

    fn start(&self, allow_empty: bool) -> Properties {
        use liveprops::sources::{Dir, File};
        let often = Duration::from_millis(100);
        let cascade = File::cascade(self.at("app.toml"), ["prod"]).unwrap();
        let files = [File::new(self.at("one.toml"))].into_iter().chain(cascade);
        let files = files
            .map(|file| file.poll(often))
            .map(|file| match allow_empty {
                true => file.allow_empty(),
                false => file,
            });
        let dir = Dir::new(self.at("conf.d")).poll(often);
        let dir = match allow_empty {
            true => dir.allow_empty(),
            false => dir,
        };
        Properties::builder()
            .state_dir(&self.0.place.dir)
            .sources(files.map(|file| file.with(|policy| policy.cached())))
            .source(dir.with(|policy| policy.cached()))
            .build()
            .unwrap()
    }

    fn values(props: &Properties) -> Vec<Option<i64>> {
        let keys = Self::EMPTIED.iter().map(|(_, key)| *key);
        keys.chain(["second"])
            .map(|key| number(props, key))
            .collect()
    }
}

#[cfg(feature = "toml")]
#[test]
fn a_file_that_is_emptied_while_the_program_is_down_keeps_its_values() {
    for cut in ["", "# A comment.\n", "[table]\n"] {
        let it = Inputs::new();
        drop(it.start(false));
        Inputs::EMPTIED
            .iter()
            .for_each(|(name, _)| it.write(name, cut));
        // The second restart finds what the first one left in the cache.
        for restart in 1..=2 {
            let props = it.start(false);
            let is_kept = || Inputs::values(&props) == [Some(1); 5];
            assert!(is_kept(), "{cut:?}, restart {restart}");
            let all = props.health().sources;
            let is_stale = |it: &SourceHealth| matches!(it.status, Status::Stale { .. });
            assert!(all[1..].iter().all(is_stale), "{cut:?}: {all:?}");
            for (name, _) in Inputs::EMPTIED {
                assert!(rejects(&props, name), "{cut:?}: {name}");
            }
            // The watch reads the files again.
            it.write("conf.d/2.toml", "second = 2\n");
            assert!(eventually(SOON, || number(&props, "second") == Some(2)));
            it.write("one.toml", "# Another comment.\n");
            it.write("conf.d/2.toml", "second = 1\n");
            assert!(eventually(SOON, || number(&props, "second") == Some(1)));
            thread::sleep(Duration::from_millis(300));
            assert!(is_kept() && !props.health().is_up(), "{cut:?}");
        }
        let props = it.start(false);
        for (name, key) in Inputs::EMPTIED {
            it.write(name, &format!("{key} = 2\n"));
            assert!(
                eventually(SOON, || number(&props, key) == Some(2)),
                "{name}"
            );
        }
        assert!(eventually(SOON, || props.health().is_up()), "{cut:?}");
    }
}

#[cfg(feature = "toml")]
#[test]
fn a_file_that_may_be_empty_loses_its_values_while_the_program_is_down() {
    let it = Inputs::new();
    drop(it.start(true));
    Inputs::EMPTIED
        .iter()
        .for_each(|(name, _)| it.write(name, ""));
    let props = it.start(true);
    assert_eq!(Inputs::values(&props), [None, None, None, None, Some(1)]);
    assert!(props.health().is_up());
}

#[cfg(feature = "toml")]
#[test]
fn a_file_without_values_is_no_problem_where_none_were_kept() {
    let it = Inputs::new();
    Inputs::EMPTIED
        .iter()
        .for_each(|(name, _)| it.write(name, "# Nothing yet.\n"));
    for _ in 0..2 {
        let props = it.start(false);
        assert_eq!(Inputs::values(&props), [None, None, None, None, Some(1)]);
        assert!(props.health().is_up());
        it.write("conf.d/2.toml", "second = 2\n");
        assert!(eventually(SOON, || number(&props, "second") == Some(2)));
        assert!(props.health().is_up());
        it.write("conf.d/2.toml", "second = 1\n");
        assert!(eventually(SOON, || number(&props, "second") == Some(1)));
    }
}

#[cfg(feature = "toml")]
#[test]
fn a_fragment_that_is_removed_loses_its_kept_values_and_only_those() {
    let it = Fragments::of(&[
        ("1.toml", "a = 1\n"),
        ("2.toml", "b = 2\n"),
        ("3.toml", "c = 3\n"),
    ]);
    drop(it.start());
    it.write("2.toml", "b = [\n");
    it.remove("3.toml");
    let props = it.start();
    let values = ["a", "b", "c"].map(|key| number(&props, key));
    assert_eq!(values, [Some(1), Some(2), None]);
    // One that is broken and goes while the program runs.
    it.remove("2.toml");
    assert!(eventually(SOON, || number(&props, "b").is_none()));
    assert!(eventually(SOON, || props.health().is_up()));
    drop(props);
    let props = it.start();
    let values = ["a", "b", "c"].map(|key| number(&props, key));
    assert_eq!(values, [Some(1), None, None]);
    assert!(props.health().is_up());
}

#[cfg(feature = "toml")]
#[test]
fn a_broken_fragment_overrides_the_same_fragments_after_a_restart_as_before() {
    let it = Fragments::of(&[
        ("1.toml", "x = 1\ny = 1\n"),
        ("2.toml", "x = 2\ny = 2\n"),
        ("3.toml", "y = 3\n"),
    ]);
    let values = |props: &Properties| ["x", "y"].map(|key| number(props, key));
    let props = it.start();
    assert_eq!(values(&props), [Some(2), Some(3)]);
    drop(props);
    it.write("2.toml", "x = [\n");
    assert_eq!(values(&it.start()), [Some(2), Some(3)]);
    assert_eq!(values(&it.start()), [Some(2), Some(3)]);
}

#[cfg(feature = "toml")]
#[test]
fn without_kept_values_a_broken_fragment_is_left_out_and_reported() {
    let it = Fragments::of(&[("1.toml", "a = 1\n"), ("2.toml", "b = [\n")]);
    for _ in 0..2 {
        let props = it.start();
        assert_eq!(["a", "b"].map(|key| number(&props, key)), [Some(1), None]);
        assert!(matches!(first_source(&props).status, Status::Stale { .. }));
        assert!(!props.health().is_up());
        assert!(rejects(&props, "2.toml"));
    }
}

/// A polled source of documents that lack a part now and then.
struct Parts(Arc<Fill>);

type Fill = dyn Fn(&mut Document) -> Result<(), Error> + Send + Sync;

impl Source for Parts {
    fn origin(&self) -> Origin {
        Origin::new("parts", "")
    }

    fn load(&self) -> Result<Document, Error> {
        let mut document = Document::new();
        (self.0)(&mut document)?;
        Ok(document)
    }

    fn watching(&self) -> Watching {
        Watching::Poll(Duration::from_millis(20))
    }
}

#[test]
fn any_source_that_reports_a_part_keeps_its_values_while_it_runs_and_across_a_restart() {
    let problem = || Error::new(ErrorKind::Malformed, "cannot be read");
    let ways: [(&str, Error); 3] = [
        ("its key", problem().with_key("b".parse::<Key>().unwrap())),
        (
            "its origin",
            problem().with_origin(Origin::new("part", "two").at(3, 1)),
        ),
        ("nothing of it", problem()),
    ];
    for (way, problem) in ways {
        let place = Place::new();
        let broken = Arc::new(AtomicBool::new(false));
        let start = || {
            let (broken, problem) = (Arc::clone(&broken), problem.clone());
            let source = Parts(Arc::new(move |document| {
                document.set("a", 1, Origin::new("part", "one"))?;
                if broken.load(Ordering::SeqCst) {
                    document.report_unreadable(problem.clone());
                } else {
                    document.set("b.x", 2, Origin::new("part", "two").at(1, 5))?;
                }
                Ok(())
            }));
            let builder = Properties::builder().state_dir(&place.dir);
            builder
                .source(source.with(|policy| policy.cached()))
                .build()
                .unwrap()
        };
        let props = start();
        let (events, _guard) = diary(&props);
        broken.store(true, Ordering::SeqCst);
        assert!(eventually(SOON, || !props.health().is_up()), "{way}");
        assert_eq!(props.get::<i64>("b.x").unwrap(), 2, "{way}");
        let count = |which: fn(&SourceEventKind) -> bool| {
            let events = events.lock().unwrap();
            events.iter().filter(|kind| which(kind)).count()
        };
        let rejected = || count(|kind| matches!(kind, SourceEventKind::Rejected(_)));
        assert!(eventually(SOON, || rejected() == 1), "{way}");
        // Each poll repeats it, which is no event.
        let answered = first_source(&props).last_success;
        assert!(eventually(SOON, || first_source(&props).last_success > answered));
        assert_eq!(
            (rejected(), first_source(&props).rejections),
            (1, 1),
            "{way}"
        );
        assert_eq!(props.health().rejected.len(), 1, "{way}");
        drop(props);
        for _ in 0..2 {
            let props = start();
            assert_eq!(props.get::<i64>("b.x").unwrap(), 2, "{way}");
            assert!(!props.health().is_up(), "{way}");
            assert!(
                first_source(&props).cached.is_some(),
                "{way}: a value comes from disk"
            );
        }
        let props = start();
        let (events, _guard) = diary(&props);
        broken.store(false, Ordering::SeqCst);
        assert!(eventually(SOON, || props.health().is_up()), "{way}");
        let is_recovered = |kind: &SourceEventKind| matches!(kind, SourceEventKind::Recovered);
        let recovered = || events.lock().unwrap().iter().any(is_recovered);
        assert!(eventually(SOON, recovered), "{way}");
    }
}

#[test]
fn a_source_that_warns_is_not_up_and_loses_the_keys_that_it_omits() {
    let place = Place::new();
    let warns = Arc::new(AtomicBool::new(false));
    let start = || {
        let warns = Arc::clone(&warns);
        let source = Parts(Arc::new(move |document| {
            document.set("a", 1, Origin::new("part", "one"))?;
            if warns.load(Ordering::SeqCst) {
                let problem = Error::new(ErrorKind::Unavailable, "the token expires soon");
                document.report_problem(problem);
            } else {
                document.set("b", 2, Origin::new("part", "two"))?;
            }
            Ok(())
        }));
        let builder = Properties::builder().state_dir(&place.dir);
        let source = source.with(|policy| policy.cached());
        builder.source(source).build().unwrap()
    };
    let values = |props: &Properties| ["a", "b"].map(|key| props.get_opt::<i64>(key).unwrap());
    let props = start();
    assert_eq!(values(&props), [Some(1), Some(2)]);
    warns.store(true, Ordering::SeqCst);
    assert!(eventually(SOON, || values(&props) == [Some(1), None]));
    assert!(matches!(first_source(&props).status, Status::Stale { .. }));
    assert_eq!(props.health().rejected.len(), 1);
    drop(props);
    assert_eq!(values(&start()), [Some(1), None]);
}

/// A source that pushes, with a watch that the test supplies.
#[derive(Clone)]
struct Pusher {
    watch: Arc<Watch>,
    way: Watching,
}

type Watch = dyn Fn(&SourceContext) -> Result<(), Error> + Send + Sync;

impl Pusher {
    fn new(watch: impl Fn(&SourceContext) -> Result<(), Error> + Send + Sync + 'static) -> Self {
        Self {
            watch: Arc::new(watch),
            way: Watching::Push,
        }
    }

    fn document(n: i64) -> Document {
        let mut document = Document::new();
        document.set("n", n, Origin::new("pusher", "")).unwrap();
        document
    }

    fn start(&self, place: &Place) -> Result<Properties, Error> {
        let source = self.clone().with(|policy| policy.cached());
        let builder = Properties::builder().state_dir(&place.dir);
        builder.source(source).build()
    }
}

impl Source for Pusher {
    fn origin(&self) -> Origin {
        Origin::new("pusher", "")
    }

    fn load(&self) -> Result<Document, Error> {
        Err(Error::new(ErrorKind::Unavailable, "the pusher is down"))
    }

    fn watching(&self) -> Watching {
        self.way
    }

    fn watch(&self, updates: &SourceContext) -> Result<(), Error> {
        (self.watch)(updates)
    }
}

/// A place where the value 1 of the pusher is kept.
fn pushed() -> Place {
    let place = Place::new();
    let good = Pusher::new(|updates| updates.send(Update::full(Pusher::document(1))).map(drop));
    drop(good.start(&place).unwrap());
    place
}

#[test]
fn a_source_whose_watch_fails_at_the_start_starts_from_the_cache_and_retries() {
    for way in [Watching::Push, Watching::Stream] {
        let place = pushed();
        let down = Arc::new(AtomicBool::new(true));
        let is_down = Arc::clone(&down);
        let mut pusher = Pusher::new(move |updates| {
            if is_down.load(Ordering::SeqCst) {
                return Err(Error::new(ErrorKind::Unavailable, "the pusher is down"));
            }
            updates.send(Update::full(Pusher::document(2)))?;
            if way == Watching::Stream {
                updates.wait(SOON);
            }
            Ok(())
        });
        pusher.way = way;
        let props = pusher.start(&place).unwrap();
        assert_eq!(props.get::<i64>("n").unwrap(), 1, "{way:?}");
        let health = first_source(&props);
        assert!(health.cached.is_some(), "{way:?}: {health:?}");
        assert!(
            matches!(health.status, Status::Stale { .. }),
            "{way:?}: {health:?}"
        );
        let (events, _guard) = diary(&props);
        down.store(false, Ordering::SeqCst);
        let n = || props.get::<i64>("n").unwrap();
        assert!(
            eventually(SOON, || n() == 2),
            "{way:?}: {:?}",
            first_source(&props)
        );
        assert!(eventually(SOON, || props.health().is_up()), "{way:?}");
        assert!(first_source(&props).cached.is_none());
        let is_back = |kind: &SourceEventKind| matches!(kind, SourceEventKind::Reconnected);
        assert!(eventually(SOON, || events
            .lock()
            .unwrap()
            .iter()
            .any(is_back)));
    }
}

#[test]
fn a_source_that_has_not_pushed_yet_starts_from_the_cache_which_stays_as_it_is() {
    let place = pushed();
    let way_in: Arc<Mutex<Option<SourceContext>>> = Arc::default();
    let keeps = Arc::clone(&way_in);
    let pusher = Pusher::new(move |updates| {
        *keeps.lock().unwrap() = Some(updates.clone());
        Ok(())
    });
    // The first one ends without a push, which leaves the cache to the second.
    for _ in 0..2 {
        let props = pusher.start(&place).unwrap();
        assert_eq!(props.get::<i64>("n").unwrap(), 1);
        assert!(matches!(first_source(&props).status, Status::Stale { .. }));
    }
    let props = pusher.start(&place).unwrap();
    let updates = way_in.lock().unwrap().clone().unwrap();
    updates.send(Update::full(Pusher::document(2))).unwrap();
    assert_eq!(props.get::<i64>("n").unwrap(), 2);
    assert!(props.health().is_up() && first_source(&props).cached.is_none());
    drop(props);
    // One that pushes at once replaces what was kept, with all that belongs to it.
    let good = Pusher::new(|updates| updates.send(Update::full(Pusher::document(3))).map(drop));
    let props = good.start(&place).unwrap();
    assert_eq!(props.get::<i64>("n").unwrap(), 3);
    assert!(props.health().is_up() && first_source(&props).cached.is_none());
}

#[test]
fn a_source_that_pushes_less_at_the_start_than_was_kept_is_guarded_against() {
    let place = Place::new();
    let with = |keys: i64| {
        let pusher = Pusher::new(move |updates| {
            let mut document = Document::new();
            for key in 0..keys {
                document.set(&format!("k{key}"), key, Origin::new("pusher", ""))?;
            }
            // The source goes on although the update is withheld.
            let _ = updates.send(Update::full(document));
            Ok(())
        });
        let source = pusher.with(|policy| policy.cached().guarded(RemovalGuard::new()));
        let builder = Properties::builder().state_dir(&place.dir);
        builder.source(source).build().unwrap()
    };
    drop(with(20));
    let props = with(1);
    assert_eq!(props.snapshot().keys().len(), 20);
    assert!(
        first_source(&props).withheld.is_some(),
        "{:?}",
        first_source(&props)
    );
    assert!(!props.health().is_up());
}

#[test]
fn a_start_goes_on_without_an_optional_source_that_cannot_begin_to_push() {
    let down = Arc::new(AtomicBool::new(true));
    let is_down = Arc::clone(&down);
    let pusher = Pusher::new(move |updates| match is_down.load(Ordering::SeqCst) {
        true => Err(Error::new(ErrorKind::Unavailable, "the pusher is down")),
        false => updates.send(Update::full(Pusher::document(2))).map(drop),
    });
    let start = |optional: bool| {
        let source = pusher.clone().with(|policy| match optional {
            true => policy.optional(),
            false => policy,
        });
        Properties::builder().source(source).build()
    };
    assert_eq!(start(false).unwrap_err().kind(), ErrorKind::Unavailable);
    let props = start(true).unwrap();
    assert!(matches!(first_source(&props).status, Status::Down { .. }));
    down.store(false, Ordering::SeqCst);
    assert!(eventually(SOON, || props.get_opt::<i64>("n").unwrap() == Some(2)));
    assert!(eventually(SOON, || props.health().is_up()));
}

#[cfg(feature = "toml")]
#[test]
fn a_secret_of_a_broken_fragment_stays_known_as_one_across_restarts() {
    let text = "[db]\nentry = \"hunter2\"\nport = 5432\n";
    let it = Fragments::of(&[("1.toml", "a = 1\n"), ("2.toml", text)]);
    let props = it.start();
    // Only its being read as a secret makes it one.
    let secret = props.get::<Secret<String>>("db.entry").unwrap();
    assert_eq!(secret.expose(), "hunter2");
    drop(props);
    it.write("2.toml", "[db\n");
    for restart in 1..=2 {
        let props = it.start();
        assert_eq!(number(&props, "db.port"), Some(5432), "restart {restart}");
        assert_eq!(props.get_opt::<String>("db.entry").unwrap(), None);
    }
    it.write("2.toml", text);
    let props = it.start();
    assert_eq!(props.get::<String>("db.entry").unwrap(), "hunter2");
    let shown = props.explain("db.entry").to_string();
    assert!(!shown.contains("hunter2"), "{shown}");
    drop(props);
    assert!(!holds(&all_bytes(&it.place.dir), "hunter2"));
}

#[cfg(feature = "toml")]
#[test]
fn a_file_that_is_missing_at_a_start_keeps_its_cached_values() {
    use liveprops::sources::File;
    let place = Place::new();
    let path = place.dir.parent().unwrap().join("may-go.toml");
    let start = |drops: bool| {
        let file = File::new(&path)
            .allow_missing()
            .poll(Duration::from_millis(100));
        let file = match drops {
            true => file.drop_when_missing(),
            false => file,
        };
        let file = file.with(|policy| policy.cached());
        let builder = Properties::builder().state_dir(&place.dir);
        builder.source(file).build().unwrap()
    };
    // Where nothing was kept, a missing file is no problem.
    let props = start(false);
    assert!(props.health().is_up() && number(&props, "a").is_none());
    fs::write(&path, "a = 1\n").unwrap();
    assert!(eventually(SOON, || number(&props, "a") == Some(1)));
    drop(props);
    fs::remove_file(&path).unwrap();
    // The second restart finds what the first one left in the cache.
    for restart in 1..=2 {
        let props = start(false);
        assert_eq!(number(&props, "a"), Some(1), "restart {restart}");
        let health = props.health().sources.pop().unwrap();
        assert!(matches!(health.status, Status::Stale { .. }), "{health:?}");
        let problems: Vec<String> = health.problems.iter().map(ToString::to_string).collect();
        assert!(
            problems.iter().any(|it| it.contains("does not exist")),
            "{problems:?}"
        );
        for _ in 0..2 {
            // A missing file may be an error here; the values stay in either case.
            let _ = props.refresh_now();
        }
        assert_eq!(number(&props, "a"), Some(1), "restart {restart}");
        assert!(!props.health().is_up());
    }
    let props = start(false);
    fs::write(&path, "a = 2\n").unwrap();
    assert!(eventually(SOON, || number(&props, "a") == Some(2)));
    assert!(eventually(SOON, || props.health().is_up()));
    drop(props);
    fs::remove_file(&path).unwrap();
    let props = start(true);
    assert_eq!(number(&props, "a"), None);
    assert!(props.health().is_up());
}

#[cfg(feature = "toml")]
#[path = "cached/partial.rs"]
mod partial;

#[cfg(feature = "toml")]
#[path = "cached/from_disk.rs"]
mod from_disk;
