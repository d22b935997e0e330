//! Reloads a large document with one change or none: from a source on this thread, and from a file
//! that is replaced by a rename.

use std::fs;
use std::hash::BuildHasher;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use liveprops::{DynamicProperty, Properties, Source, sources::File};
use tempfile::TempDir;

use crate::manual_source::{CHANGED, ManualSource, parsed, toml_text};
use crate::support::{Case, timed};

struct Rig {
    source: ManualSource,
    handle: DynamicProperty<u32>,
    _props: Properties,
}

/// 100,000 keys with a handle on the one that changes.
fn rig() -> &'static Rig {
    static RIG: OnceLock<Rig> = OnceLock::new();
    RIG.get_or_init(|| {
        let (source, props) = ManualSource::with_properties();
        source.send(parsed(&toml_text(1)));
        Rig {
            source,
            handle: props.property(CHANGED).build().unwrap(),
            _props: props,
        }
    })
}

fn parse_and_change(n: u64) -> Duration {
    let rig = rig();
    let texts = [toml_text(1_000), toml_text(2_000)];
    rig.source.send(parsed(&texts[0]));
    let mut round = 0;
    timed(n, || {
        round += 1;
        rig.source.send(parsed(&texts[round % 2]));
        assert_eq!(rig.handle.get(), if round % 2 == 0 { 1_000 } else { 2_000 });
    })
}

fn parse_the_same(n: u64) -> Duration {
    let text = toml_text(1);
    rig().source.send(parsed(&text));
    timed(n, || rig().source.send(parsed(&text)))
}

/// Comparing without parsing. Each document is parsed immediately before it is sent, so that it is in
/// the caches as in a real reload.
fn send_the_same(n: u64) -> Duration {
    let text = toml_text(1);
    rig().source.send(parsed(&text));
    (0..n)
        .map(|_| {
            let mut document = Some(parsed(&text));
            timed(1, || rig().source.send(document.take().unwrap()))
        })
        .sum()
}

/// A directory with the file that a source reads.
struct Directory {
    dir: TempDir,
    path: PathBuf,
}

const VALUES: [u32; 2] = [1_000, 2_000];

impl Directory {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("large.toml");
        let dir = Self { dir, path };
        fs::write(&dir.path, toml_text(VALUES[0] as usize)).unwrap();
        dir
    }

    /// Writes the file that the benchmark then renames over the other.
    fn write_new(&self, text: &str) -> PathBuf {
        let new = self.dir.path().join("new");
        fs::write(&new, text).unwrap();
        new
    }
}

fn read_to_table(n: u64) -> Duration {
    let dir = Directory::new();
    timed(n, || {
        let text = fs::read_to_string(&dir.path).unwrap();
        toml::from_str::<toml::Table>(&text).unwrap()
    })
}

fn read_to_compare(n: u64) -> Duration {
    let dir = Directory::new();
    let before = fs::read(&dir.path).unwrap();
    timed(n, || fs::read(&dir.path).unwrap() == before)
}

/// The cost of recognizing a file with the same bytes, which is then not parsed.
fn read_to_hash(n: u64) -> Duration {
    let dir = Directory::new();
    let state = foldhash::quality::RandomState::default();
    timed(n, || state.hash_one(fs::read(&dir.path).unwrap()))
}

/// A reload without the watcher, on one thread, where its instructions can be counted. The path is
/// the same each time, because another path would change the origin of every key.
fn load_and_change(n: u64) -> Duration {
    let rig = rig();
    let dir = Directory::new();
    let texts = VALUES.map(|value| toml_text(value as usize));
    let file = File::new(&dir.path);
    rig.source.send(file.load().unwrap());
    (1..=n as usize)
        .map(|round| {
            fs::rename(dir.write_new(&texts[round % 2]), &dir.path).unwrap();
            timed(1, || {
                rig.source.send(file.load().unwrap());
                assert_eq!(rig.handle.get(), VALUES[round % 2]);
            })
        })
        .sum()
}

/// From the rename until the handle shows it.
#[cfg(feature = "watch")]
fn rename_and_wait(n: u64) -> Duration {
    let dir = Directory::new();
    let texts = VALUES.map(|value| toml_text(value as usize));
    let props = Properties::builder()
        .source(File::new(&dir.path))
        .build()
        .unwrap();
    let handle = props.property::<u32>(CHANGED).build().unwrap();
    let deadline = Duration::from_secs(20);
    // The first round does not count: it also waits until the source has started to watch, which
    // includes one more load.
    (0..=n as usize)
        .map(|round| {
            let value = VALUES[(round + 1) % 2];
            let new = dir.write_new(&texts[(round + 1) % 2]);
            // The directory is watched: the events of the new file must be over.
            std::thread::sleep(Duration::from_millis(20));
            let took = timed(1, || {
                fs::rename(&new, &dir.path).unwrap();
                handle.wait_until(|it| *it == value, deadline).unwrap();
            });
            if round == 0 { Duration::ZERO } else { took }
        })
        .sum()
}

fn case(
    name: &'static str,
    floor: &'static str,
    budget: f64,
    n: u64,
    run: fn(u64) -> Duration,
) -> Case {
    Case {
        name,
        floor,
        budget,
        in_instructions: false,
        at_most: None,
        n,
        counted: 2,
        run,
    }
}

const TABLE: &str = "toml::Table";
const READ: &str = "read the file, toml::Table";
const COMPARED: &str = "read the file, compare the bytes";

#[rustfmt::skip] // a table
pub(crate) fn cases() -> Vec<Case> {
    vec![
        case(TABLE, "", 0.0, 4, |n| {
            let text = toml_text(1);
            timed(n, || toml::from_str::<toml::Table>(&text).unwrap())
        }),
        case("parsing alone, with origins", TABLE, 1.3, 4, |n| {
            let text = toml_text(1);
            timed(n, || parsed(&text))
        }),
        case("reload, one key changed", TABLE, 1.3, 4, parse_and_change),
        case("reload, nothing changed", TABLE, 1.3, 4, parse_the_same),
        case("the same document, parsed right before", TABLE, 0.0, 4, send_the_same),
        case(READ, "", 0.0, 4, read_to_table),
        case("reload of the file on one thread, one key changed", READ, 1.3, 4, load_and_change),
        #[cfg(feature = "watch")]
        Case {
            // The source's thread does the work.
            counted: 0,
            ..case("File renamed over until a handle shows it, one key changed", READ, 1.3, 4, rename_and_wait)
        },
        case(COMPARED, READ, 0.0, 100, read_to_compare),
        case("read the file, hash the bytes", COMPARED, 0.0, 100, read_to_hash),
    ]
}
