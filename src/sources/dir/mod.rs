//! A directory of fragments that together are one configuration.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::error::{Error, ErrorKind};
use crate::format::{Format, MAX_DOCUMENT_BYTES};
use crate::source::{Source, Updates, Watching};
use crate::sources::disk::chain::{DirId, End, Every, Reach};
use crate::sources::disk::follow::{self, Changed, Target};
use crate::sources::disk::mailbox::Tag;
use crate::sources::disk::read::{self, Content, Digest, Fault, Stamp};
use crate::sources::disk::verdict::Verdicts;
use crate::sources::disk::{GAP, POLL, absolute};
use crate::value::document::Document;
use crate::value::key::Key;
use crate::value::node::{Node, Table};
use crate::value::origin::Origin;

/// How often a directory that changes while it is read is read anew before it has to settle.
const ROUNDS: usize = 5;

/// How long a fragment that is being written is waited for at the start.
const PATIENCE: Duration = Duration::from_secs(1);

/// A directory of configuration fragments, such as `conf.d`.
///
/// Every file with the extension of a known format is read, in the order of the file names; later
/// ones override earlier ones. Hidden files, back-ups, swap files, subdirectories and files of
/// other extensions are left out.
///
/// A fragment that is broken is left out and reported; one that breaks while the program runs keeps
/// its last good values. A fragment that is removed takes its keys with it. When the directory
/// itself goes, all values stay. All fragments together hold at most 10 MiB.
///
/// Where the files are links through one link that is swung, as in a mounted Kubernetes ConfigMap,
/// all of them change in one update. Watching and settling are as for a
/// [`File`](crate::sources::File).
///
/// # Examples
///
/// ```
/// use liveprops::{Source, sources::Dir};
///
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path();
/// std::fs::write(path.join("10-base.toml"), "retries = 3\n").unwrap();
/// std::fs::write(path.join("20-local.toml"), "retries = 5\n").unwrap();
/// let document = Dir::new(path).load()?;
/// assert_eq!(document.get("retries"), Some(&5.into()));
/// # Ok::<(), liveprops::Error>(())
/// ```
#[derive(Debug)]
pub struct Dir {
    given: PathBuf,
    path: PathBuf,
    options: Options,
    /// Outlives a watch that the engine starts anew.
    memory: Arc<Mutex<Memory>>,
}

#[derive(Clone, Debug)]
struct Options {
    format: Option<Format>,
    optional: bool,
    allow_empty: bool,
    watch: bool,
    poll: Duration,
}

/// What was seen so far.
#[derive(Debug, Default)]
struct Memory {
    /// Whether there has been a directory.
    seen: bool,
    digest: Digest,
    fragments: BTreeMap<OsString, Fragment>,
}

/// One file of the directory.
#[derive(Debug, Default)]
struct Fragment {
    /// The content that was judged last.
    last: Option<u64>,
    good: Option<(u64, Document)>,
    /// Whether the last good content said something.
    full: bool,
    problem: Option<Error>,
    absent: Option<Instant>,
    /// The directory in which it stands when all links are followed.
    home: Option<PathBuf>,
}

impl Dir {
    /// Creates a source over `path`. Touches nothing until the first load.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let given = path.into();
        Self {
            path: absolute(&given),
            given,
            options: Options {
                format: None,
                optional: false,
                allow_empty: false,
                watch: true,
                poll: POLL,
            },
            memory: Arc::default(),
        }
    }

    /// Reads every file in this format, whatever its extension. Hidden files and the leavings of
    /// editors stay out.
    #[must_use]
    pub fn format(mut self, format: Format) -> Self {
        self.options.format = Some(format);
        self
    }

    /// Lets the directory be missing at the start: it is picked up when it appears. By default
    /// that is an error.
    #[must_use]
    pub fn optional(mut self) -> Self {
        self.options.optional = true;
        self
    }

    /// Takes an empty fragment for what it says: no keys. By default a fragment that had content
    /// and is empty now is held for an accident, and its values stay.
    #[must_use]
    pub fn allow_empty(mut self) -> Self {
        self.options.allow_empty = true;
        self
    }

    /// Sets the pause between two readings of the content that no event asked for. The default is
    /// 5 seconds; less than 1 millisecond counts as that.
    #[must_use]
    pub fn poll(mut self, every: Duration) -> Self {
        self.options.poll = every.max(Duration::from_millis(1));
        self
    }

    /// Uses no events of the operating system: the content is read at each [`poll`](Dir::poll).
    #[must_use]
    pub fn without_watch(mut self) -> Self {
        self.options.watch = false;
        self
    }

    fn takes(&self) -> Every {
        match self.options.format {
            Some(_) => Every::Any,
            None => Every::Known,
        }
    }

    /// The names of the fragments, and which of them are links.
    fn list(&self) -> Result<BTreeMap<OsString, bool>, Fault> {
        let mut names = BTreeMap::new();
        for entry in std::fs::read_dir(&self.path).map_err(Fault::of)? {
            let entry = entry.map_err(Fault::of)?;
            let name = entry.file_name();
            if self.takes().takes(&name) {
                let link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
                names.insert(name, link);
            }
        }
        Ok(names)
    }

    /// Reads all fragments but the held ones, at one moment: if anything changed meanwhile, again.
    fn scan(&self, digest: &Digest, held: &HashSet<Tag>) -> Result<Scan, Fault> {
        let mut scan = self.scan_once(digest, held)?;
        for _ in 1..ROUNDS {
            if self.still(&scan) {
                return Ok(scan);
            }
            scan = self.scan_once(digest, held)?;
        }
        if !self.still(&scan) {
            for (_, content) in scan.files.values_mut().flatten() {
                content.torn = true;
            }
        }
        Ok(scan)
    }

    fn scan_once(&self, digest: &Digest, held: &HashSet<Tag>) -> Result<Scan, Fault> {
        let place = self.place();
        let names = self.list()?;
        let mut files = BTreeMap::new();
        let mut total = 0;
        for name in names.keys().filter(|name| !held.contains(*name)) {
            let content = match read::read(&self.path.join(name)) {
                Err(Fault::Missing | Fault::Kind("a directory")) => continue,
                other => other,
            };
            total += content.as_ref().map_or(0, |it| it.bytes.len());
            let content = match content {
                Ok(_) if total > MAX_DOCUMENT_BYTES => Err(Fault::Large),
                other => other.map(|content| (digest.of(&content.bytes), content)),
            };
            files.insert(name.clone(), content);
        }
        Ok(Scan {
            place,
            names,
            files,
        })
    }

    /// Whether nothing has changed since a scan.
    fn still(&self, scan: &Scan) -> bool {
        scan.place == self.place()
            && self.list().is_ok_and(|names| names == scan.names)
            && scan.files.iter().all(|(name, content)| match content {
                Ok((_, it)) => Stamp::at(&self.path.join(name)).as_ref() == Some(&it.stamp),
                Err(_) => true,
            })
    }

    /// Which directory the path leads to.
    fn place(&self) -> Option<DirId> {
        DirId::at(&self.path.canonicalize().ok()?)
    }

    fn origin_of(&self, name: &OsStr) -> Origin {
        Origin::new("file", self.given.join(name).display().to_string())
    }

    fn parse(&self, name: &OsStr, bytes: &[u8]) -> Result<Document, Error> {
        let format = self
            .options
            .format
            .or_else(|| Format::of_path(name.as_ref()));
        match format {
            Some(format) => format.parse(bytes, &self.origin_of(name)),
            None => Err(Error::new(ErrorKind::Malformed, "no format is known")
                .with_origin(self.origin_of(name))),
        }
    }

    /// Takes what a scan found into the memory. A fragment that is away goes after `gap`.
    fn absorb(&self, memory: &mut Memory, scan: Scan, held: &HashSet<Tag>, gap: Duration) {
        memory.seen = true;
        let mut here: HashSet<Tag> = held.clone();
        for (name, found) in scan.files {
            here.insert(name.clone());
            if held.contains(&name) {
                continue;
            }
            let fragment = memory.fragments.entry(name.clone()).or_default();
            fragment.absent = None;
            fragment.home = home(&self.path.join(&name));
            self.judge_one(fragment, &name, found);
        }
        let now = Instant::now();
        memory.fragments.retain(|name, fragment| {
            if here.contains(name) {
                return true;
            }
            // Its place was swapped for another that has no such file: that is no editor's gap.
            if home(&self.path.join(name)) != fragment.home {
                return false;
            }
            now.duration_since(*fragment.absent.get_or_insert(now)) < gap
        });
    }

    /// What is held, and what belongs together with it: links that lead to one directory elsewhere
    /// are swung together, and so they change together.
    fn group(&self, memory: &Memory, scan: &Scan, held: &HashSet<Tag>) -> HashSet<Tag> {
        let mut all = held.clone();
        let linked = |name: &OsString| scan.names.get(name) == Some(&true);
        let homes: HashSet<_> = held
            .iter()
            .filter(|name| linked(name))
            .map(|name| home(&self.path.join(name)))
            .collect();
        if homes.is_empty() {
            return all;
        }
        let read = scan.files.keys().filter(|name| linked(name));
        all.extend(
            read.filter(|name| homes.contains(&home(&self.path.join(name))))
                .cloned(),
        );
        // Nor must what the swing takes away go before the rest comes.
        let gone = memory.fragments.keys();
        all.extend(gone.filter(|name| !scan.files.contains_key(*name)).cloned());
        all
    }

    fn judge_one(
        &self,
        fragment: &mut Fragment,
        name: &OsStr,
        found: Result<(u64, Content), Fault>,
    ) {
        let (digest, content) = match found {
            Ok(found) => found,
            Err(fault) => {
                fragment.last = None;
                fragment.problem = Some(fault.error(&self.origin_of(name)));
                return;
            }
        };
        if fragment.last.replace(digest) == Some(digest) {
            return;
        }
        fragment.problem = None;
        if matches!(&fragment.good, Some((good, _)) if *good == digest) {
            return;
        }
        let blank = read::blank(&content.bytes);
        if blank && fragment.full && !self.options.allow_empty {
            let detail = "the file became empty; its last values stay until it has content again";
            let error = Error::new(ErrorKind::Malformed, detail);
            fragment.problem = Some(error.with_origin(self.origin_of(name)));
            return;
        }
        match self.parse(name, &content.bytes) {
            Ok(document) => {
                fragment.full = !blank;
                fragment.good = Some((digest, document));
            }
            Err(error) => fragment.problem = Some(error),
        }
    }

    /// All fragments as one document, and a number that stands for it.
    fn compose(&self, memory: &Memory) -> (u64, Document) {
        let mut whole = Document::new();
        let mut parts = Vec::new();
        for (name, fragment) in &memory.fragments {
            if let Some((digest, document)) = &fragment.good {
                let mut found = Vec::new();
                clashes(whole.root(), document.root(), &mut Vec::new(), &mut found);
                for clash in found {
                    parts.push((name, 0, clash.to_string()));
                    whole.report(clash);
                }
                whole.merge(document.clone());
                parts.push((name, *digest, String::new()));
            }
            if let Some(problem) = &fragment.problem {
                parts.push((name, 0, problem.to_string()));
                whole.report(problem.clone());
            }
        }
        (memory.digest.of(&parts), whole)
    }
}

/// The directory in which a file stands, or would, when all links are followed.
fn home(path: &Path) -> Option<PathBuf> {
    match Reach::default().add(path, OsStr::new("")) {
        End::Here(path) | End::Absent(path) => path.parent().map(Path::to_path_buf),
        End::Lost | End::Broken => None,
    }
}

/// Finds the keys that are a value in one tree and a table in the other.
fn clashes<'a>(base: &Table, over: &'a Table, path: &mut Vec<&'a str>, found: &mut Vec<Error>) {
    for entry in over.map().iter() {
        let Some(old) = base.get(&entry.name) else {
            continue;
        };
        path.push(&entry.name);
        match (&old.node, &entry.node) {
            (Node::Table(old), Node::Table(new)) => clashes(old, new, path, found),
            (old, new) if old.table().is_some() != new.table().is_some() => {
                let detail = "a value here and a table there; the later fragment wins";
                let mut error = Error::new(ErrorKind::InvalidKey, detail);
                if let Ok(key) = Key::from_segments(&*path) {
                    error = error.with_key(key);
                }
                if let Some(origin) = new.origin().or(old.origin()) {
                    error = error.with_origin(origin);
                }
                found.push(error);
            }
            _ => {}
        }
        path.pop();
    }
}

/// What a directory held at one moment.
struct Scan {
    place: Option<DirId>,
    /// The names of the fragments, and whether each is a link.
    names: BTreeMap<OsString, bool>,
    files: BTreeMap<OsString, Result<(u64, Content), Fault>>,
}

impl Scan {
    fn stamps(&self, want: impl Fn(&OsString) -> bool) -> HashMap<Tag, Stamp> {
        let read = self.files.iter().filter(|(name, _)| want(name));
        read.filter_map(|(name, file)| {
            let (_, content) = file.as_ref().ok()?;
            Some((name.clone(), content.stamp.clone()))
        })
        .collect()
    }
}

impl Clone for Dir {
    /// The same directory with the same options; what one has seen means nothing to the other.
    fn clone(&self) -> Self {
        Self {
            given: self.given.clone(),
            path: self.path.clone(),
            options: self.options.clone(),
            memory: Arc::default(),
        }
    }
}

impl Source for Dir {
    fn origin(&self) -> Origin {
        Origin::new("dir", self.given.display().to_string())
    }

    fn load(&self) -> Result<Document, Error> {
        let begun = Instant::now();
        let mut memory = self.memory.lock();
        loop {
            let scan = match self.scan(&memory.digest, &HashSet::new()) {
                Ok(scan) => scan,
                Err(Fault::Missing) if self.options.optional => return Ok(Document::new()),
                Err(fault) => return Err(explain(fault, &self.origin())),
            };
            // Somebody may be half-way through writing: wait for what would be left out.
            let young: Vec<OsString> = scan.files.iter().filter_map(young).collect();
            self.absorb(&mut memory, scan, &HashSet::new(), Duration::ZERO);
            let broken = |name: &OsString| {
                memory
                    .fragments
                    .get(name)
                    .is_some_and(|it| it.problem.is_some() || !it.full)
            };
            if !young.iter().any(broken) || begun.elapsed() >= PATIENCE {
                return Ok(self.compose(&memory).1);
            }
            std::thread::sleep(follow::QUIET);
        }
    }

    fn watching(&self) -> Watching {
        Watching::Stream
    }

    fn watch(&self, updates: &Updates) -> Result<(), Error> {
        let mut followed = Followed {
            dir: self,
            verdicts: Verdicts::default(),
            found: None,
            absent: None,
            since: Instant::now(),
            begun: false,
        };
        follow::run(
            &mut followed,
            updates,
            self.options.poll,
            self.options.watch,
        )
    }
}

/// The name of a file that was written moments ago.
fn young((name, found): (&OsString, &Result<(u64, Content), Fault>)) -> Option<OsString> {
    let young = found.as_ref().is_ok_and(|(_, it)| it.recent || it.torn);
    young.then(|| name.clone())
}

fn explain(fault: Fault, origin: &Origin) -> Error {
    match fault {
        Fault::Missing => Error::new(
            ErrorKind::Unavailable,
            "the directory does not exist, or is none",
        )
        .with_origin(origin),
        fault => fault.error(origin),
    }
}

/// A directory that is being followed.
struct Followed<'a> {
    dir: &'a Dir,
    verdicts: Verdicts,
    /// What the last look found; `None` when it was judged.
    found: Option<Result<Scan, Fault>>,
    /// Since when the directory is away.
    absent: Option<Instant>,
    since: Instant,
    /// Whether anything was sent.
    begun: bool,
}

impl Followed<'_> {
    fn judge_missing(&mut self, updates: &Updates) {
        let since = *self.absent.get_or_insert_with(Instant::now);
        if !self.dir.memory.lock().seen && self.dir.options.optional {
            if self.verdicts.in_force(0) {
                updates.alive();
            } else {
                self.verdicts.send(0, Document::new(), updates);
            }
        } else if since.elapsed() >= GAP {
            let error = explain(Fault::Missing, &self.dir.origin());
            self.verdicts.failed(error, updates);
        }
    }
}

impl Target for Followed<'_> {
    fn reach(&mut self) -> Reach {
        let mut reach = Reach::default();
        if let End::Here(place) = reach.add(&self.dir.path, OsStr::new("")) {
            reach.every(&place, self.dir.takes());
            // A plain file is known by its name in the directory; a link leads elsewhere.
            for (name, link) in self.dir.list().unwrap_or_default() {
                if link {
                    reach.add(&place.join(&name), &name);
                }
            }
        }
        reach
    }

    fn look(&mut self, held: &HashSet<Tag>) -> Vec<Changed> {
        let memory = self.dir.memory.lock();
        let found = self.dir.scan(&memory.digest, held);
        let mut changed = Vec::new();
        for (name, file) in found.iter().flat_map(|scan| &scan.files) {
            let Ok((digest, content)) = file else {
                continue;
            };
            let known = memory.fragments.get(name).and_then(|it| it.last);
            if known != Some(*digest) {
                changed.push(Changed {
                    tag: name.clone(),
                    stamp: content.stamp.clone(),
                    torn: content.torn,
                    recent: content.recent,
                });
            }
        }
        self.found = Some(found);
        changed
    }

    fn stamp(&self, tag: &OsStr) -> Option<Stamp> {
        Stamp::at(&self.dir.path.join(tag))
    }

    fn judge(&mut self, held: &HashSet<Tag>, updates: &Updates) -> HashMap<Tag, Stamp> {
        let scan = match self.found.take() {
            None => return HashMap::new(),
            Some(Err(Fault::Missing)) => {
                self.judge_missing(updates);
                return HashMap::new();
            }
            Some(Err(fault)) => {
                let error = explain(fault, &self.dir.origin());
                self.verdicts.failed(error, updates);
                return HashMap::new();
            }
            Some(Ok(scan)) => scan,
        };
        self.absent = None;
        // What is sent first must not lack what is about to settle.
        let early = !self.begun && !held.is_empty() && self.since.elapsed() < PATIENCE;
        // What concerns the directory itself concerns all of it: the next look is near.
        if early || held.contains(OsStr::new("")) {
            return scan.stamps(|name| !held.contains(name));
        }
        self.begun = true;
        let mut memory = self.dir.memory.lock();
        let all = self.dir.group(&memory, &scan, held);
        let put_off = scan.stamps(|name| all.contains(name) && !held.contains(name));
        self.dir.absorb(&mut memory, scan, &all, GAP);
        let (digest, document) = self.dir.compose(&memory);
        drop(memory);
        if self.verdicts.in_force(digest) {
            self.verdicts.same(digest, updates);
        } else if !self.verdicts.known_bad(digest, updates) {
            self.verdicts.send(digest, document, updates);
        }
        put_off
    }

    fn deadline(&self) -> Option<Instant> {
        let memory = self.dir.memory.lock();
        let away = memory.fragments.values().filter_map(|it| it.absent);
        let now = Instant::now();
        away.chain(self.absent)
            .map(|since| since + GAP)
            .filter(|at| *at > now)
            .min()
    }
}

#[cfg(test)]
mod tests;
