//! Files that are replaced by a rename: this crate beside a bare loop around `notify`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use liveprops::{Properties, sources::File};
use notify::event::{Event, EventKind, ModifyKind, RenameMode};
use notify::{RecursiveMode, Watcher};
use tempfile::TempDir;

use crate::support::latency::{Budget, Latency};

/// Which thread notices that the new value is visible.
#[derive(Clone, Copy)]
enum Seen {
    /// The thread that publishes it; the thread of the benchmark sleeps meanwhile.
    Publisher,
    /// The thread of the benchmark, which reads without a pause.
    Reader,
}

/// A small file that is replaced by one that differs in one value.
struct Replaced {
    dir: TempDir,
    path: PathBuf,
    version: u64,
}

impl Replaced {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.toml");
        fs::write(&path, text(0)).unwrap();
        Self {
            dir,
            path,
            version: 0,
        }
    }

    /// Replaces the file by the next text; returns its version and the time at which the rename began.
    fn next(&mut self) -> (u64, Instant) {
        self.version += 1;
        put(
            &self.dir,
            text(self.version).as_bytes(),
            &self.path,
            |began| (self.version, began),
        )
    }
}

/// Renames a file with these bytes over `path`.
fn put<R>(dir: &TempDir, bytes: &[u8], path: &Path, began: impl FnOnce(Instant) -> R) -> R {
    let new = dir.path().join("new");
    fs::write(&new, bytes).unwrap();
    // A watcher of the directory gets an event for the new file too, and must be asleep again.
    thread::sleep(Duration::from_millis(5));
    let now = Instant::now();
    fs::rename(new, path).unwrap();
    began(now)
}

/// Twenty keys, one of which is the version.
fn text(version: u64) -> String {
    let mut text = format!("version = {version}\n\n[service]\n");
    for i in 0..9 {
        text.push_str(&format!(
            "number{i} = {i}\nname{i} = \"the value of {i}\"\n"
        ));
    }
    text.push_str("last = true\n");
    text
}

/// The least code that does it: acts on the rename, reads, parses, publishes.
fn bare(who: Seen) -> Box<dyn FnMut() -> Duration> {
    let mut file = Replaced::new();
    let (events, watcher) = watched(&file.dir);
    let (report, reported) = channel();
    let value = Arc::new(AtomicU64::new(0));
    let publish = Arc::clone(&value);
    let path = file.path.clone();
    thread::spawn(move || {
        for event in events {
            if replaces(&event, &path) {
                let text = fs::read_to_string(&path).unwrap();
                let table: toml::Table = toml::from_str(&text).unwrap();
                let version = table["version"].as_integer().unwrap();
                publish.store(version as u64, Ordering::Release);
                let _ = report.send(Instant::now());
            }
        }
    });
    Box::new(move || {
        let _watcher = &watcher;
        let (version, began) = file.next();
        let at = match who {
            Seen::Publisher => reported.recv().unwrap(),
            Seen::Reader => spin(|| value.load(Ordering::Acquire) == version),
        };
        if let Seen::Reader = who {
            reported.recv().unwrap();
        }
        at - began
    })
}

/// The same by a `File` source, a handle and a callback.
fn source(who: Seen) -> Box<dyn FnMut() -> Duration> {
    let mut file = Replaced::new();
    let props = Properties::builder()
        .source(File::new(&file.path))
        .inline_callbacks()
        .build()
        .unwrap();
    let handle = props.property::<u64>("version").build().unwrap();
    let (report, reported) = channel();
    let subscription = handle.on_change(move |_| {
        let _ = report.send(Instant::now());
    });
    Box::new(move || {
        let _alive = (&props, &subscription);
        let (version, began) = file.next();
        let at = match who {
            Seen::Publisher => reported.recv().unwrap(),
            Seen::Reader => spin(|| handle.get() == version),
        };
        if let Seen::Reader = who {
            reported.recv().unwrap();
        }
        at - began
    })
}

pub(crate) fn renamed() -> Vec<Latency> {
    let case = |name, floor, budget, once| Latency {
        name,
        floor,
        budget,
        once,
    };
    vec![
        case(
            "bare notify loop, value stored",
            "",
            Budget::None,
            bare(Seen::Publisher),
        ),
        case(
            "File source, inline callback",
            "bare notify loop, value stored",
            Budget::Times(1.5),
            source(Seen::Publisher),
        ),
        case(
            "bare notify loop, seen by a busy reader",
            "",
            Budget::None,
            bare(Seen::Reader),
        ),
        case(
            "File source, seen by a busy reader",
            "bare notify loop, seen by a busy reader",
            Budget::Times(1.5),
            source(Seen::Reader),
        ),
    ]
}

/// A large file is replaced by the same bytes: compared with what a bare loop has to do to know.
pub(crate) fn same() -> Vec<Latency> {
    let mut text = String::new();
    for section in 0..1_000 {
        text.push_str(&format!("[section{section}]\n"));
        (0..100).for_each(|i| text.push_str(&format!("key{i} = {i}\n")));
    }
    let again = text.clone();
    vec![
        Latency {
            name: "bare notify loop, 100,000 keys, read and compared",
            floor: "",
            budget: Budget::None,
            once: bare_same(text),
        },
        Latency {
            name: "File source, 100,000 keys, found unchanged",
            floor: "bare notify loop, 100,000 keys, read and compared",
            budget: Budget::Times(1.2),
            once: source_same(again),
        },
    ]
}

fn bare_same(text: String) -> Box<dyn FnMut() -> Duration> {
    let file = Replaced::new();
    fs::write(&file.path, &text).unwrap();
    let (events, watcher) = watched(&file.dir);
    let (report, reported) = channel();
    let path = file.path.clone();
    let before = text.clone().into_bytes();
    thread::spawn(move || {
        for event in events {
            if replaces(&event, &path) {
                assert_eq!(fs::read(&path).unwrap(), before);
                let _ = report.send(Instant::now());
            }
        }
    });
    Box::new(move || {
        let _watcher = &watcher;
        let began = put(&file.dir, text.as_bytes(), &file.path, |began| began);
        reported.recv().unwrap() - began
    })
}

fn source_same(text: String) -> Box<dyn FnMut() -> Duration> {
    let file = Replaced::new();
    fs::write(&file.path, &text).unwrap();
    let props = Properties::builder()
        .source(File::new(&file.path))
        .build()
        .unwrap();
    let generation = props.generation();
    Box::new(move || {
        // Health has the wall-clock time of the last answer of the source.
        let began = put(&file.dir, text.as_bytes(), &file.path, |began| {
            SystemTime::now() - began.elapsed()
        });
        let late = loop {
            let last = props.health().sources.iter().find_map(|it| it.last_success);
            match last.and_then(|last| last.duration_since(began).ok()) {
                Some(late) => break late,
                None => thread::sleep(Duration::from_micros(100)),
            }
        };
        assert_eq!(props.generation(), generation);
        late
    })
}

/// Events of a directory, for as long as the watcher lives.
fn watched(dir: &TempDir) -> (Receiver<notify::Result<Event>>, impl Watcher + use<>) {
    let (send, events) = channel();
    let mut watcher = notify::recommended_watcher(send).unwrap();
    watcher
        .watch(dir.path(), RecursiveMode::NonRecursive)
        .unwrap();
    (events, watcher)
}

/// Whether a file was renamed to `path`; the event that tells of both names comes on top.
fn replaces(event: &notify::Result<Event>, path: &Path) -> bool {
    let Ok(event) = event else { return false };
    let renamed = matches!(
        event.kind,
        EventKind::Modify(ModifyKind::Name(mode)) if mode != RenameMode::Both
    );
    renamed && event.paths.iter().any(|it| it == path)
}

fn spin(mut is_there: impl FnMut() -> bool) -> Instant {
    while !is_there() {
        std::hint::spin_loop();
    }
    Instant::now()
}
