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

#[cfg(feature = "toml")]
#[path = "cached/partial.rs"]
mod partial;

#[cfg(feature = "toml")]
#[path = "cached/from_disk.rs"]
mod from_disk;

#[path = "cached/file_system.rs"]
mod file_system;

#[cfg(feature = "toml")]
#[path = "cached/fragments.rs"]
mod fragments;

#[path = "cached/pushing.rs"]
mod pushing;

#[path = "cached/writing.rs"]
mod writing;
