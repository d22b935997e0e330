//! The content in force is always complete, regardless of how a file is written.
//!
//! Writers pick editing styles, numbers of parts and pauses at random. A pause lasts up to half of
//! the debounce time. A writer measures its own pauses, because a busy machine makes them longer: a
//! round with a pause of the debounce time or more is counted and not asserted.
//!
//! `LIVEPROPS_STRESS_ROUNDS=10000 cargo test --features json,yaml,properties,dotenv --test torn_writes`
//! writes that many rounds; the default is as many as fit into some seconds.
#![cfg(all(unix, feature = "toml"))]
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use liveprops::property::Subscription;
use liveprops::sources::{Dir, File};
use liveprops::{Format, Properties, Snapshot};
use support::{DEADLINE, Random, eventually};

/// The debounce time.
const DEBOUNCE: Duration = Duration::from_millis(30);

/// The keys of a file. Each contains the number of the version.
const KEYS: usize = 24;

/// The duration of the short form.
const SHORT: Duration = Duration::from_secs(4);

/// Files of each format and kind.
const COPIES: usize = 2;

const FORMATS: [&str; 5] = ["toml", "json", "yaml", "properties", "dotenv"];

/// Returns the extensions of all enabled formats.
fn formats() -> impl Iterator<Item = &'static str> {
    FORMATS
        .into_iter()
        .filter(|name| Format::from_extension(extension(name)).is_some())
}

fn extension(format: &str) -> &str {
    match format {
        "dotenv" => "env",
        other => other,
    }
}

/// How a writer replaces a version.
#[derive(Clone, Copy, Debug)]
enum Style {
    RemoveAndRewrite,
    RenameAwayAndRewrite,
    Truncate,
    Overwrite,
    EmptyThenFilled,
    CommentThenFilled,
    Rename,
    Link,
}

const STYLES: [Style; 8] = [
    Style::RemoveAndRewrite,
    Style::RenameAwayAndRewrite,
    Style::Truncate,
    Style::Overwrite,
    Style::EmptyThenFilled,
    Style::CommentThenFilled,
    Style::Rename,
    Style::Link,
];

/// The text of a version; all versions of a file have the same size.
fn body(format: &str, prefix: &str, version: usize) -> String {
    let value = format!("v{version:06}");
    let lines = |line: &dyn Fn(usize) -> String| (0..KEYS).map(line).collect::<String>();
    match format {
        "toml" => {
            let keys = lines(&|k| format!("k{k} = \"{value}\"\n"));
            format!("# A comment.\n[{prefix}]\n{keys}")
        }
        "json" => {
            let keys: Vec<_> = (0..KEYS)
                .map(|k| format!("\"k{k}\": \"{value}\""))
                .collect();
            format!("{{\"{prefix}\": {{\n{}\n}}}}\n", keys.join(",\n"))
        }
        "yaml" => {
            let keys = lines(&|k| format!("  k{k}: {value}\n"));
            format!("# A comment.\n{prefix}:\n{keys}")
        }
        "properties" => {
            let keys = lines(&|k| format!("{prefix}.k{k}={value}\n"));
            format!("# A comment.\n{keys}")
        }
        _ => {
            let name = prefix.to_uppercase();
            let keys = lines(&|k| format!("{name}__K{k}={value}\n"));
            format!("# A comment.\n{keys}")
        }
    }
}

/// The text of a version without values.
fn void(format: &str) -> &'static str {
    match format {
        "json" => "{}",
        _ => "# A comment.\n",
    }
}

/// The styles that keep the file, for a writer with another link to it.
const IN_PLACE: [Style; 4] = [
    Style::Truncate,
    Style::Overwrite,
    Style::EmptyThenFilled,
    Style::CommentThenFilled,
];

/// A file and its writer.
struct Writer {
    path: PathBuf,
    styles: &'static [Style],
    format: &'static str,
    prefix: String,
    version: usize,
    random: Random,
    /// The start of the last step, and the longest time from a start to the end of the next step.
    began: Option<Instant>,
    longest: Duration,
}

impl Writer {
    fn new(path: PathBuf, format: &'static str, prefix: String) -> Self {
        Self {
            path,
            styles: &STYLES,
            format,
            prefix,
            version: 0,
            random: Random::new("torn writes"),
            began: None,
            longest: Duration::ZERO,
        }
    }

    /// Writes a first version.
    fn begin(self) -> Self {
        fs::write(&self.path, self.text()).unwrap();
        self
    }

    fn text(&self) -> String {
        body(self.format, &self.prefix, self.version)
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(suffix);
        name.into()
    }

    /// Runs a step and measures the time since the start of the previous one.
    fn step<R>(&mut self, part: impl FnOnce(&Self) -> R) -> R {
        let began = Instant::now();
        let done = part(self);
        let since = self.began.replace(began);
        let pause = since.map_or(Duration::ZERO, |since| since.elapsed());
        self.longest = self.longest.max(pause);
        done
    }

    fn pause(&mut self) {
        let half = DEBOUNCE.as_micros() as usize / 2;
        let micros = match self.random.index(4) {
            0 => 0,
            1 => self.random.index(2_000),
            _ => self.random.index(half),
        };
        if micros > 0 {
            sleep(Duration::from_micros(micros as u64));
        }
    }

    /// Writes the next version in a random style; returns the style and the longest pause.
    fn write(&mut self) -> (Style, Duration) {
        self.version += 1;
        self.began = None;
        self.longest = Duration::ZERO;
        let style = self.styles[self.random.index(self.styles.len())];
        let text = self.text();
        let mut create = OpenOptions::new();
        create.write(true).create(true).truncate(true);
        match style {
            Style::RemoveAndRewrite => {
                self.step(|it| fs::remove_file(&it.path).unwrap());
                self.pause();
                self.fill(&create, &text);
            }
            Style::RenameAwayAndRewrite => {
                let backup = self.beside("~");
                self.step(|it| fs::rename(&it.path, backup).unwrap());
                self.pause();
                self.fill(&create, &text);
            }
            Style::Truncate => self.fill(&create, &text),
            Style::Overwrite => self.fill(OpenOptions::new().write(true), &text),
            Style::EmptyThenFilled => {
                self.step(|it| fs::write(&it.path, "").unwrap());
                self.pause();
                self.fill(&create, &text);
            }
            Style::CommentThenFilled => {
                self.step(|it| fs::write(&it.path, void(it.format)).unwrap());
                self.pause();
                self.fill(&create, &text);
            }
            Style::Rename | Style::Link => {
                let fresh = self.beside(".tmp");
                fs::write(&fresh, &text).unwrap();
                if matches!(style, Style::Rename) {
                    self.step(|it| fs::rename(fresh, &it.path).unwrap());
                } else {
                    self.step(|it| fs::remove_file(&it.path).unwrap());
                    self.pause();
                    self.step(|it| fs::hard_link(&fresh, &it.path).unwrap());
                    fs::remove_file(fresh).unwrap();
                }
            }
        }
        (style, self.longest)
    }

    /// Writes the text in parts: split anywhere, or at line breaks, where each prefix parses.
    fn fill(&mut self, options: &OpenOptions, text: &str) {
        let parts = 1 + self.random.index(8);
        let mut cuts: Vec<usize> = (1..parts).map(|_| self.random.index(text.len())).collect();
        if self.random.index(4) > 0 {
            let line = |at: &mut usize| *at = text[..*at].rfind('\n').map_or(0, |end| end + 1);
            cuts.iter_mut().for_each(line);
        }
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        cuts.dedup();
        let mut file = self.step(|it| options.open(&it.path).unwrap());
        for cut in cuts.windows(2) {
            self.pause();
            self.step(|_| file.write_all(&text.as_bytes()[cut[0]..cut[1]]).unwrap());
        }
        if self.random.index(2) == 0 {
            self.pause();
        }
        self.step(|_| drop(file));
    }
}

/// Returns the version in force, or an error if its content is torn.
fn version(snapshot: &Snapshot, prefix: &str) -> Result<usize, String> {
    let value = |key| {
        snapshot
            .get_opt::<String>(&format!("{prefix}.k{key}"))
            .unwrap()
    };
    let first = value(0);
    let torn = (1..KEYS).find(|key| value(*key) != first);
    let first = first.and_then(|text| text.strip_prefix('v')?.parse().ok());
    match (torn, first) {
        (None, Some(version)) => Ok(version),
        _ => {
            let values = (0..KEYS).map(value);
            let mut values: Vec<_> = values.map(|it| it.unwrap_or_default()).collect();
            values.dedup();
            Err(format!("{values:?}"))
        }
    }
}

/// The totals of all rounds.
#[derive(Default)]
struct Tally {
    /// Rounds with pauses below the debounce time.
    fast: AtomicUsize,
    /// The other rounds.
    slow: AtomicUsize,
    torn_slow: AtomicUsize,
    torn: Mutex<Vec<String>>,
    seen: AtomicUsize,
}

impl Tally {
    fn count(&self, longest: Duration) -> bool {
        let fast = longest < DEBOUNCE;
        let which = if fast { &self.fast } else { &self.slow };
        which.fetch_add(1, Ordering::Relaxed);
        fast
    }

    fn count_torn(&self, fast: bool, what: String) {
        if fast {
            self.torn.lock().unwrap().push(what);
        } else {
            self.torn_slow.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn check(&self, what: &str) {
        let torn = self.torn.lock().unwrap();
        let count = |it: &AtomicUsize| it.load(Ordering::Relaxed);
        println!(
            "{what}: {} torn of {} rounds with pauses below {DEBOUNCE:?}, {} versions seen; \
             {} torn of {} rounds with longer pauses",
            torn.len(),
            count(&self.fast),
            count(&self.seen),
            count(&self.torn_slow),
            count(&self.slow),
        );
        assert!(torn.is_empty(), "{:#?}", &torn[..torn.len().min(20)]);
    }
}

/// When to stop writing: after the requested rounds, or after a short time.
struct Until {
    rounds: Option<usize>,
    began: Instant,
}

impl Until {
    fn new() -> Self {
        let rounds = std::env::var("LIVEPROPS_STRESS_ROUNDS");
        Self {
            rounds: rounds.ok().map(|text| text.parse().unwrap()),
            began: Instant::now(),
        }
    }

    fn reached(&self, tally: &Tally) -> bool {
        match self.rounds {
            Some(rounds) => tally.fast.load(Ordering::Relaxed) >= rounds,
            None => self.began.elapsed() >= SHORT,
        }
    }
}

/// The versions of one file that callbacks have received.
#[derive(Default)]
struct Observed {
    /// The version being written.
    writing: AtomicUsize,
    /// The version received last.
    seen: AtomicUsize,
    /// Torn content: the versions that it may belong to, and its text.
    torn: Mutex<Vec<(RangeInclusive<usize>, String)>>,
}

/// Checks the values in force of one file.
fn observe(props: &Properties, prefix: &str, tally: &Arc<Tally>) -> (Arc<Observed>, Subscription) {
    let observed = Arc::new(Observed::default());
    let (into, tally, prefix) = (Arc::clone(&observed), Arc::clone(tally), prefix.to_owned());
    let guard = props.on_change_under(&prefix.clone(), move |batch| {
        match version(batch.snapshot(), &prefix) {
            Ok(version) => {
                into.seen.store(version, Ordering::Relaxed);
                tally.seen.fetch_add(1, Ordering::Relaxed);
            }
            Err(how) => {
                let digits = how.split(|c: char| !c.is_ascii_digit());
                let newest = digits.filter_map(|text| text.parse().ok()).max();
                // A callback may run long after its change, so it checks only that the content is a
                // complete version.
                let versions = newest.map_or_else(
                    || into.seen.load(Ordering::Relaxed)..=into.writing.load(Ordering::Relaxed),
                    |newest| newest..=newest,
                );
                into.torn.lock().unwrap().push((versions, how));
            }
        }
    });
    (observed, guard.unwrap())
}

/// Rewrites one file until the end and counts rounds.
fn rewrite(mut writer: Writer, props: &Properties, tally: &Arc<Tally>, until: &Until) {
    let (observed, _guard) = observe(props, &writer.prefix, tally);
    let mut rounds = Vec::new();
    while !until.reached(tally) {
        observed
            .writing
            .store(writer.version + 1, Ordering::Relaxed);
        let (style, longest) = writer.write();
        rounds.push((style, tally.count(longest)));
        // Usually the next version follows at once; sometimes a pause makes this one visible.
        match writer.random.index(4) {
            0 => sleep(DEBOUNCE * 2),
            1 => {}
            _ => writer.pause(),
        }
    }
    let last = Ok(writer.version);
    let seen = || version(&props.snapshot(), &writer.prefix);
    let found = eventually(DEADLINE, || seen() == last);
    assert!(
        found,
        "{}: {:?} after {last:?}",
        writer.path.display(),
        seen()
    );
    for (versions, how) in observed.torn.lock().unwrap().drain(..) {
        let possible = &rounds[versions.start().saturating_sub(1)..*versions.end()];
        let styles: Vec<_> = possible.iter().map(|(style, _)| style).collect();
        let path = writer.path.display();
        let what = format!("{path}: versions {versions:?}, {styles:?}: {how}");
        tally.count_torn(possible.iter().all(|(_, fast)| *fast), what);
    }
}

/// Creates a writer for each format; the files share no keys.
fn writers(dir: &Path, kind: &str) -> Vec<Writer> {
    let copies = formats().flat_map(|format| (0..COPIES).map(move |copy| (format, copy)));
    copies
        .map(|(format, copy)| {
            let prefix = format!("{kind}{format}{copy}");
            let path = dir.join(format!("{prefix}.{}", extension(format)));
            Writer::new(path, format, prefix).begin()
        })
        .collect()
}

/// How files are followed and written.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    File,
    PolledFile,
    /// Written through a link in another directory, which causes no event.
    LinkedFile,
    Dir,
    PolledDir,
}

const OFTEN: Duration = Duration::from_millis(10);

fn file(path: &Path, kind: Kind) -> File {
    match kind {
        Kind::PolledFile => File::new(path).without_watch().poll(OFTEN),
        Kind::LinkedFile => File::new(path).poll(OFTEN),
        _ => File::new(path),
    }
}

/// Writers of one kind of file, and the properties that follow them. Half of the sources with file
/// events accept an empty file: a partial file must not be in force there either. Polls cannot
/// distinguish a file that is empty twice from one that stays empty.
fn writers_of_kind(home: &Path, kind: Kind) -> (Vec<Writer>, Properties) {
    let name = format!("{kind:?}").to_lowercase();
    let dir = home.join(&name);
    fs::create_dir(&dir).unwrap();
    let mut writers = writers(&dir, &name);
    let mut builder = Properties::builder().inline_callbacks();
    if matches!(kind, Kind::Dir | Kind::PolledDir) {
        builder = builder.source(match kind {
            Kind::PolledDir => Dir::new(&dir).without_watch().poll(OFTEN),
            _ => Dir::new(&dir),
        });
    } else {
        for (at, writer) in writers.iter().enumerate() {
            let file = file(&writer.path, kind);
            let may_be_empty = kind == Kind::File && at % 2 == 1;
            builder = builder.source(if may_be_empty {
                file.allow_empty()
            } else {
                file
            });
        }
    }
    if kind == Kind::LinkedFile {
        let elsewhere = home.join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        for writer in &mut writers {
            let link = elsewhere.join(writer.path.file_name().unwrap());
            fs::hard_link(&writer.path, &link).unwrap();
            writer.path = link;
            writer.styles = &IN_PLACE;
        }
    }
    (writers, builder.build().unwrap())
}

/// Rewrites files of some kinds, in the given styles or, without any, in all styles.
fn stress(what: &str, kinds: &[Kind], styles: Option<&'static [Style]>) {
    let dir = tempfile::tempdir().unwrap();
    let tally = Arc::new(Tally::default());
    let kinds: Vec<_> = kinds
        .iter()
        .map(|kind| writers_of_kind(dir.path(), *kind))
        .collect();
    let until = Until::new();
    thread::scope(|scope| {
        for (writers, props) in kinds {
            for mut writer in writers {
                writer.styles = styles.unwrap_or(writer.styles);
                let (props, tally, until) = (props.clone(), &tally, &until);
                scope.spawn(move || rewrite(writer, &props, tally, until));
            }
        }
    });
    tally.check(what);
}

#[test]
fn content_in_force_is_a_complete_version_however_files_are_rewritten() {
    let kinds = [
        Kind::File,
        Kind::PolledFile,
        Kind::LinkedFile,
        Kind::Dir,
        Kind::PolledDir,
    ];
    stress("all styles", &kinds, None);
}

#[test]
fn a_file_that_is_removed_or_moved_away_and_rewritten_is_never_half_in_force() {
    let styles = &[Style::RemoveAndRewrite, Style::RenameAwayAndRewrite];
    let kinds = [Kind::File, Kind::Dir];
    stress("removed or moved away", &kinds, Some(styles));
}

#[test]
fn a_file_that_is_polled_and_rewritten_in_parts_is_never_half_in_force() {
    let kinds = [Kind::PolledFile, Kind::LinkedFile, Kind::PolledDir];
    stress("polled", &kinds, Some(&IN_PLACE));
}

/// Starts a program while a file is rewritten.
fn start(writer: &mut Writer, random: &mut Random, tally: &Tally) {
    let (path, prefix) = (writer.path.clone(), writer.prefix.clone());
    let delay = Duration::from_micros(random.index(60_000) as u64);
    let kind = [Kind::File, Kind::PolledFile, Kind::Dir][random.index(3)];
    let before = writer.version;
    let (written, found) = thread::scope(|scope| {
        let written = scope.spawn(|| writer.write());
        sleep(delay);
        let builder = Properties::builder();
        let builder = match kind {
            Kind::Dir => builder.source(Dir::new(path.parent().unwrap())),
            _ => builder.source(file(&path, kind)),
        };
        let found = builder
            .build()
            .map(|props| version(&props.snapshot(), &prefix));
        (written.join().unwrap(), found)
    });
    let (style, longest) = written;
    let fast = tally.count(longest);
    let problem = match found {
        Ok(Ok(version)) if version == before || version == before + 1 => {
            tally.seen.fetch_add(1, Ordering::Relaxed);
            return;
        }
        Ok(found) => format!("{found:?}"),
        Err(error) => error.to_string(),
    };
    let path = path.display();
    let what = format!("{path}: {kind:?}, {style:?}, {delay:?} later: {problem}");
    tally.count_torn(fast, what);
}

#[test]
fn a_start_finds_a_complete_version_while_a_file_is_rewritten() {
    let dir = tempfile::tempdir().unwrap();
    let tally = Arc::new(Tally::default());
    let until = Until::new();
    thread::scope(|scope| {
        for format in formats() {
            for copy in 0..2 * COPIES {
                let home = dir.path().join(format!("{format}{copy}"));
                fs::create_dir(&home).unwrap();
                let path = home.join(format!("app.{}", extension(format)));
                let mut writer = Writer::new(path, format, "app".to_owned()).begin();
                let (tally, until) = (&tally, &until);
                scope.spawn(move || {
                    let mut random = Random::new("torn writes");
                    while !until.reached(tally) {
                        start(&mut writer, &mut random, tally);
                        // Half of the starts find a file that was unchanged for a while.
                        if random.index(2) == 0 {
                            sleep(DEBOUNCE * 3);
                        }
                    }
                });
            }
        }
    });
    tally.check("at start");
}
