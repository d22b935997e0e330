//! A large document again, with one change or none; said by a source on this thread, and by a file
//! that is renamed over.

use std::fs;
use std::hash::BuildHasher;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use liveprops::{DynamicProperty, Properties, Source, sources::File};
use tempfile::TempDir;

use crate::support::{Case, timed};
use crate::told::{CHANGED, Told, parsed, toml_text};

struct Rig {
    told: Told,
    handle: DynamicProperty<u32>,
    _props: Properties,
}

/// 100,000 keys with a handle on the one that changes.
fn rig() -> &'static Rig {
    static RIG: OnceLock<Rig> = OnceLock::new();
    RIG.get_or_init(|| {
        let (told, props) = Told::alone();
        told.say(parsed(&toml_text(1)));
        Rig {
            told,
            handle: props.property(CHANGED).build().unwrap(),
            _props: props,
        }
    })
}

fn parse_and_change(n: u64) -> Duration {
    let rig = rig();
    let texts = [toml_text(1_000), toml_text(2_000)];
    rig.told.say(parsed(&texts[0]));
    let mut turn = 0;
    timed(n, || {
        turn += 1;
        rig.told.say(parsed(&texts[turn % 2]));
        assert_eq!(rig.handle.get(), if turn % 2 == 0 { 1_000 } else { 2_000 });
    })
}

fn parse_the_same(n: u64) -> Duration {
    let text = toml_text(1);
    rig().told.say(parsed(&text));
    timed(n, || rig().told.say(parsed(&text)))
}

/// The comparing without the parsing. Each document is parsed right before it is said, and so as
/// warm in the caches as a reload finds it: one of many parsed beforehand has left them.
fn say_the_same(n: u64) -> Duration {
    let text = toml_text(1);
    rig().told.say(parsed(&text));
    (0..n)
        .map(|_| {
            let mut document = Some(parsed(&text));
            timed(1, || rig().told.say(document.take().unwrap()))
        })
        .sum()
}

/// The file in two versions, and a place for the one that a source reads.
struct Place {
    dir: TempDir,
    path: PathBuf,
}

const VALUES: [u32; 2] = [1_000, 2_000];

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("large.toml");
        let place = Self { dir, path };
        fs::write(&place.path, toml_text(VALUES[0] as usize)).unwrap();
        place
    }

    /// Writes what is then to be renamed over the file.
    fn fresh(&self, text: &str) -> PathBuf {
        let fresh = self.dir.path().join("fresh");
        fs::write(&fresh, text).unwrap();
        fresh
    }
}

fn read_to_table(n: u64) -> Duration {
    let place = Place::new();
    timed(n, || {
        let text = fs::read_to_string(&place.path).unwrap();
        toml::from_str::<toml::Table>(&text).unwrap()
    })
}

fn read_to_compare(n: u64) -> Duration {
    let place = Place::new();
    let before = fs::read(&place.path).unwrap();
    timed(n, || fs::read(&place.path).unwrap() == before)
}

/// Why a file of the same bytes is not parsed at all.
fn read_to_hash(n: u64) -> Duration {
    let place = Place::new();
    let state = foldhash::quality::RandomState::default();
    timed(n, || state.hash_one(fs::read(&place.path).unwrap()))
}

/// All that a reload does but for noticing, where it can be counted. The same path each time, as
/// another would be another origin of every key.
fn load_and_change(n: u64) -> Duration {
    let rig = rig();
    let place = Place::new();
    let texts = VALUES.map(|value| toml_text(value as usize));
    let file = File::new(&place.path);
    rig.told.say(file.load().unwrap());
    (1..=n as usize)
        .map(|turn| {
            fs::rename(place.fresh(&texts[turn % 2]), &place.path).unwrap();
            timed(1, || {
                rig.told.say(file.load().unwrap());
                assert_eq!(rig.handle.get(), VALUES[turn % 2]);
            })
        })
        .sum()
}

/// From the rename until the handle shows it.
#[cfg(feature = "watch")]
fn rename_and_wait(n: u64) -> Duration {
    let place = Place::new();
    let texts = VALUES.map(|value| toml_text(value as usize));
    let props = Properties::builder()
        .source(File::new(&place.path))
        .build()
        .unwrap();
    let handle = props.property::<u32>(CHANGED).build().unwrap();
    let patience = Duration::from_secs(20);
    // The first one waits until the source has read everything again, as it does when it begins to
    // watch; it does not count.
    (0..=n as usize)
        .map(|turn| {
            let value = VALUES[(turn + 1) % 2];
            let fresh = place.fresh(&texts[(turn + 1) % 2]);
            // The directory is watched: what was told of the fresh file is to be over.
            std::thread::sleep(Duration::from_millis(20));
            let took = timed(1, || {
                fs::rename(&fresh, &place.path).unwrap();
                handle.wait_until(|it| *it == value, patience).unwrap();
            });
            if turn == 0 { Duration::ZERO } else { took }
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
        case("the same document, parsed right before", TABLE, 0.0, 4, say_the_same),
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
