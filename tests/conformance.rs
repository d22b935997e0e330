//! The conformance suite of sources: it accepts correct sources and names each violation of the
//! contract.
#![cfg(feature = "toml")]
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use liveprops::source::conformance::{Editor, check};
#[cfg(feature = "watch")]
use liveprops::sources::Dir;
use liveprops::sources::{Env, File, Memory};
use liveprops::{Document, Error, Origin, Source, SourceContext, Update, Watching};

const STEP: Duration = Duration::from_millis(10);

type Outcome = Result<(), Vec<String>>;
type Keys = BTreeMap<String, String>;

fn passes<S: Source>(make: impl Fn() -> S, editor: &dyn Editor) {
    assert_eq!(check(&make, editor), Ok(()));
}

/// Asserts that the suite detects this fault.
#[track_caller]
fn finds(outcome: Outcome, fault: &str) -> Vec<String> {
    let faults = outcome.expect_err("the suite must not pass this");
    let found = faults.iter().any(|it| it.contains(fault));
    assert!(found, "wanted `{fault}`, found {faults:?}");
    faults
}

/// Rewrites one file, or one file per key, by a rename.
struct Disk {
    dir: tempfile::TempDir,
    keys: Mutex<Keys>,
    split: bool,
}

impl Disk {
    fn new(split: bool) -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            keys: Mutex::default(),
            split,
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("app.toml")
    }

    fn write(&self, path: PathBuf, text: &str) {
        let aside = self.dir.path().join(".aside");
        fs::write(&aside, text).unwrap();
        fs::rename(aside, path).unwrap();
    }

    fn line((key, text): (&String, &String)) -> String {
        format!("{key} = \"{text}\"\n")
    }

    fn rewrite(&self, keys: &Keys) {
        let text: String = keys.iter().map(Self::line).collect();
        self.write(self.path(), &text);
    }
}

impl Editor for Disk {
    fn set(&self, key: &str, text: &str) {
        let mut keys = self.keys.lock().unwrap();
        keys.insert(key.to_owned(), text.to_owned());
        if self.split {
            let path = self.dir.path().join(format!("{key}.toml"));
            self.write(path, &Self::line((&key.to_owned(), &text.to_owned())));
        } else {
            self.rewrite(&keys);
        }
    }

    fn remove(&self, key: &str) {
        let mut keys = self.keys.lock().unwrap();
        keys.remove(key);
        if self.split {
            fs::remove_file(self.dir.path().join(format!("{key}.toml"))).unwrap();
        } else {
            self.rewrite(&keys);
        }
    }
}

struct InMemory(Memory);

impl Editor for InMemory {
    fn set(&self, key: &str, text: &str) {
        self.0.set(key, text).unwrap();
    }

    fn remove(&self, key: &str) {
        self.0.remove(key).unwrap();
    }
}

/// A store that notifies listeners: the keys, and a revision that increases with each write.
#[derive(Clone, Default)]
struct Store(Arc<(Mutex<(Keys, u64)>, Condvar)>);

impl Store {
    fn lock(&self) -> MutexGuard<'_, (Keys, u64)> {
        self.0.0.lock().unwrap()
    }

    fn change(&self, change: impl FnOnce(&mut Keys)) {
        let mut state = self.lock();
        change(&mut state.0);
        state.1 += 1;
        self.0.1.notify_all();
    }

    fn document(&self, origin: &Origin) -> Result<(Document, u64), Error> {
        let state = self.lock();
        let mut document = Document::new();
        for (key, text) in &state.0 {
            document.set(key, text.as_str(), origin.clone())?;
        }
        Ok((document, state.1))
    }

    /// Waits a short time until the store is past a revision.
    fn past(&self, revision: u64) -> bool {
        let wait = self
            .0
            .1
            .wait_timeout_while(self.lock(), STEP, |it| it.1 <= revision);
        wait.unwrap().0.1 > revision
    }
}

impl Editor for Store {
    fn set(&self, key: &str, text: &str) {
        self.change(|keys| drop(keys.insert(key.to_owned(), text.to_owned())));
    }

    fn remove(&self, key: &str) {
        self.change(|keys| drop(keys.remove(key)));
    }
}

#[cfg(feature = "watch")]
#[test]
fn a_file_keeps_the_contract() {
    let disk = Disk::new(false);
    passes(|| File::new(disk.path()), &disk);
}

#[test]
fn a_polled_file_keeps_the_contract() {
    let disk = Disk::new(false);
    passes(|| File::new(disk.path()).without_watch().poll(STEP), &disk);
}

#[cfg(feature = "watch")]
#[test]
fn a_directory_keeps_the_contract() {
    let disk = Disk::new(true);
    passes(|| Dir::new(disk.dir.path()), &disk);
}

#[test]
fn a_memory_keeps_the_contract() {
    let memory = Memory::named("test");
    passes(|| memory.clone(), &InMemory(memory.clone()));
}

/// A simulated environment that tests can change safely.
struct Environment(Store);

impl Environment {
    fn env(&self) -> Env {
        let keys = self.0.lock().0.clone();
        let name = |key: &str| format!("APP_{}", key.to_uppercase().replace('.', "__"));
        let vars = keys.into_iter().map(|(key, text)| (name(&key), text));
        Env::prefix("APP_").reread(STEP).vars(vars)
    }
}

impl Source for Environment {
    fn origin(&self) -> Origin {
        self.env().origin()
    }

    fn load(&self) -> Result<Document, Error> {
        self.env().load()
    }

    fn watching(&self) -> Watching {
        self.env().watching()
    }
}

#[test]
fn an_environment_that_is_read_again_keeps_the_contract() {
    let store = Store::default();
    passes(|| Environment(store.clone()), &store);
}

/// The fault of a source.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wrong {
    Nothing,
    /// Sends only what changes after the watch has begun.
    SendsNothingFirst,
    /// Registers its listener some time after the first update.
    ListensLate,
    /// Does not return when it is stopped.
    IgnoresStop,
    /// Keys have no location.
    NoOrigin,
    /// The source itself has no name.
    NoName,
    /// Never reports a removal.
    KeepsRemoved,
    /// Returns a different document at each load.
    Counts,
    /// Sends unchanged values as changes.
    Jitters,
    /// Returns an error when it is stopped.
    EndsBadly,
}

impl Wrong {
    fn is_slow(self) -> bool {
        use Wrong::{KeepsRemoved, ListensLate, SendsNothingFirst};
        matches!(self, SendsNothingFirst | ListensLate | KeepsRemoved)
    }
}

/// A source of a store, polled or streamed, with or without a fault.
struct Custom {
    store: Store,
    wrong: Wrong,
    polled: bool,
}

impl Custom {
    fn of(store: &Store, wrong: Wrong) -> Self {
        Self {
            store: store.clone(),
            wrong,
            polled: false,
        }
    }

    fn polled(store: &Store, wrong: Wrong) -> Self {
        let polled = true;
        Self {
            polled,
            ..Self::of(store, wrong)
        }
    }

    fn read(&self) -> Result<(Document, u64), Error> {
        let origin = match self.wrong {
            Wrong::NoOrigin => Origin::new("", ""),
            _ => self.origin(),
        };
        self.store.document(&origin)
    }
}

impl Source for Custom {
    fn origin(&self) -> Origin {
        match self.wrong {
            Wrong::NoName => Origin::new("custom", ""),
            _ => Origin::new("custom", "store"),
        }
    }

    fn load(&self) -> Result<Document, Error> {
        let (mut document, _) = self.read()?;
        if self.wrong == Wrong::Counts {
            self.store.change(|_| {});
            document.set("loads", self.store.lock().1, self.origin())?;
        }
        Ok(document)
    }

    fn watching(&self) -> Watching {
        match self.polled {
            true => Watching::Poll(STEP),
            false => Watching::Stream,
        }
    }

    fn watch(&self, updates: &SourceContext) -> Result<(), Error> {
        let (document, mut seen) = self.read()?;
        let mut last = document.clone();
        if self.wrong != Wrong::SendsNothingFirst {
            updates.send(Update::full(document))?;
        }
        if self.wrong == Wrong::ListensLate {
            updates.wait(STEP * 10);
            seen = self.store.lock().1;
        }
        while !updates.is_stopped() {
            if !self.store.past(seen) {
                continue;
            }
            let (mut document, revision) = self.read()?;
            seen = revision;
            if self.wrong == Wrong::KeepsRemoved {
                let now = document;
                document = last.clone();
                document.merge(now);
            }
            if self.wrong == Wrong::Jitters {
                document.set("revision", revision, self.origin())?;
            }
            last = document.clone();
            updates.send(Update::full(document))?;
        }
        match self.wrong {
            Wrong::IgnoresStop => thread::sleep(Duration::from_secs(60)),
            Wrong::EndsBadly => {
                let why = "stopped";
                return Err(Error::new(liveprops::ErrorKind::Unavailable, why));
            }
            _ => {}
        }
        Ok(())
    }
}

fn run_broken(wrong: Wrong) -> Outcome {
    let store = Store::default();
    check(&|| Custom::of(&store, wrong), &store)
}

/// Faults that the suite detects at its deadline. They run concurrently, to wait only once.
static SLOW: LazyLock<[(Wrong, Outcome); 3]> = LazyLock::new(|| {
    let slow = [
        Wrong::SendsNothingFirst,
        Wrong::ListensLate,
        Wrong::KeepsRemoved,
    ];
    let threads = slow.map(|wrong| (wrong, thread::spawn(move || run_broken(wrong))));
    threads.map(|(wrong, thread)| (wrong, thread.join().unwrap()))
});

#[track_caller]
fn wrong(wrong: Wrong, fault: &str) -> Vec<String> {
    let outcome = if wrong.is_slow() {
        let outcome = SLOW.iter().find(|(slow, _)| *slow == wrong);
        outcome.unwrap().1.clone()
    } else {
        run_broken(wrong)
    };
    finds(outcome, fault)
}

#[test]
fn custom_polled_and_streamed_sources_keep_the_contract() {
    let store = Store::default();
    passes(|| Custom::of(&store, Wrong::Nothing), &store);
    let store = Store::default();
    passes(|| Custom::polled(&store, Wrong::Nothing), &store);
}

#[test]
fn a_watch_without_a_complete_first_update_is_detected() {
    let faults = wrong(
        Wrong::SendsNothingFirst,
        "a watch does not send what is there",
    );
    assert_eq!(faults.len(), 1, "{faults:?}");
}

#[test]
fn a_source_with_a_gap_between_load_and_watch_is_detected() {
    wrong(Wrong::ListensLate, "a changed value does not arrive");
}

#[test]
fn a_source_that_ignores_its_stop_is_detected() {
    let faults = wrong(Wrong::IgnoresStop, "does not return within 1 second");
    assert_eq!(faults.len(), 1, "{faults:?}");
}

#[test]
fn a_source_that_fails_when_it_is_stopped_is_detected() {
    let faults = wrong(Wrong::EndsBadly, "the watch ends with an error");
    assert_eq!(faults.len(), 1, "{faults:?}");
}

#[test]
fn a_source_without_origins_or_a_name_is_detected() {
    let faults = wrong(Wrong::NoOrigin, "`conformance.first` has no origin");
    assert_eq!(faults.len(), 1, "{faults:?}");
    let faults = wrong(Wrong::NoName, "no kind or no name");
    assert_eq!(faults.len(), 1, "{faults:?}");
}

#[test]
fn a_source_that_never_removes_a_key_is_detected() {
    wrong(Wrong::KeepsRemoved, "a removal does not arrive");
}

#[test]
fn a_source_whose_loads_differ_is_detected() {
    wrong(
        Wrong::Counts,
        "two loads with no change between them differ",
    );
}

#[test]
fn a_source_that_sends_unchanged_values_is_detected() {
    wrong(
        Wrong::Jitters,
        "content that did not change is sent as a change",
    );
}

#[test]
fn a_polled_source_with_unstable_content_is_detected() {
    let store = Store::default();
    let outcome = check(&|| Custom::polled(&store, Wrong::Counts), &store);
    finds(outcome, "content that did not change is sent as a change");
}
