//! The files of a directory: read at one moment, judged one by one, put together.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind};
use crate::format::{Format, MAX_DOCUMENT_BYTES, feature_of};
use crate::source::Source;
use crate::sources::fs::dir::Dir;
use crate::sources::fs::watch::chain::{DirId, End, Every, Reach};
use crate::sources::fs::watch::mailbox::Tag;
use crate::sources::fs::watch::read::{self, Content, Digest, Fault, Stamp};
use crate::sources::fs::watch::verdict::Outcome;
use crate::value::document::Document;
use crate::value::key::Key;
use crate::value::node::{Node, Table};
use crate::value::origin::Origin;

/// How often a directory that changes while it is read is read anew before it has to settle.
const ROUNDS: usize = 5;

/// What was seen so far.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Whether there has been a directory.
    pub(super) seen: bool,
    /// Whether the properties have accepted or rejected an update of the watch. Before that, the
    /// newest content of a load stands for the accepted one.
    is_judged: bool,
    pub(super) digest: Digest,
    pub(super) fragments: BTreeMap<OsString, Fragment>,
}

/// One file of the directory.
#[derive(Debug, Default)]
pub(super) struct Fragment {
    /// The content that was judged last.
    pub(super) last: Option<u64>,
    /// The newest content that parses.
    pub(super) parsed: Option<(u64, Document)>,
    /// The content that the properties accepted last, if this is known.
    good: Option<(u64, Document)>,
    /// Whether the properties may have values of it.
    full: bool,
    pub(super) problem: Option<Error>,
    pub(super) absent: Option<Instant>,
    /// The directory in which it stands when all links are followed.
    pub(super) home: Option<PathBuf>,
}

impl Fragment {
    /// Whether the newest content can be used and has values.
    pub(super) fn has_values(&self) -> bool {
        let parsed = self.parsed.as_ref();
        self.problem.is_none() && parsed.is_some_and(|(_, it)| !read::is_void(it))
    }
}

impl Memory {
    /// The content of a fragment that counts: the newest, or the last accepted one while the newest
    /// cannot be used.
    fn content<'a>(&self, fragment: &'a Fragment) -> Option<&'a (u64, Document)> {
        let parsed = fragment.parsed.as_ref();
        match fragment.problem {
            None => parsed,
            Some(_) => fragment
                .good
                .as_ref()
                .or(parsed.filter(|_| !self.is_judged)),
        }
    }

    /// The fragments whose newest content can be used, and the digest of it.
    pub(super) fn usable(&self) -> HashMap<Tag, u64> {
        let usable = self.fragments.iter();
        let usable = usable.filter(|(_, fragment)| fragment.problem.is_none());
        usable
            .filter_map(|(name, fragment)| Some((name.clone(), fragment.parsed.as_ref()?.0)))
            .collect()
    }

    /// Notes that a first load has read the fragments: the properties are about to accept them.
    pub(super) fn note_load(&mut self) {
        if !self.is_judged {
            for fragment in self.fragments.values_mut() {
                fragment.full |= fragment.has_values();
            }
        }
    }

    /// Notes what the properties did with an update that was made of this content.
    pub(super) fn note(&mut self, content: &HashMap<Tag, u64>, outcome: Outcome) {
        self.is_judged = true;
        for (name, fragment) in &mut self.fragments {
            let Some((digest, document)) = &fragment.parsed else {
                continue;
            };
            if content.get(name) != Some(digest) {
                continue;
            }
            let is_good = matches!(&fragment.good, Some((good, _)) if good == digest);
            let has_values = !read::is_void(document);
            match outcome {
                Outcome::Accepted => {
                    fragment.good.clone_from(&fragment.parsed);
                    fragment.full = has_values;
                }
                // It may be confirmed at any time, so only the properties know what they hold.
                Outcome::Withheld if !is_good => {
                    fragment.good = None;
                    fragment.full |= has_values;
                }
                Outcome::Withheld | Outcome::Rejected => {}
            }
        }
    }
}

impl Dir {
    /// The names of the fragments, and which of them are links.
    pub(super) fn list(&self) -> Result<BTreeMap<OsString, bool>, Fault> {
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
    pub(super) fn scan(&self, digest: &Digest, held: &HashSet<Tag>) -> Result<Scan, Fault> {
        let mut scan = self.scan_once(digest, held)?;
        for _ in 1..ROUNDS {
            if self.still(&scan) {
                return Ok(scan);
            }
            scan = self.scan_once(digest, held)?;
        }
        self.mark_torn(&mut scan);
        Ok(scan)
    }

    fn scan_once(&self, digest: &Digest, held: &HashSet<Tag>) -> Result<Scan, Fault> {
        let place = self.place();
        let names = self.list()?;
        let mut files = BTreeMap::new();
        let mut total = 0;
        for (name, link) in names.iter().filter(|(name, _)| !held.contains(*name)) {
            let content = match read::read(&self.path.join(name)) {
                // A link that leads nowhere is a name that exists.
                Err(Fault::Missing) if !link => continue,
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

    /// Marks what has changed since a scan. Other files of the directory do not count: one that
    /// changes all the time must not keep the rest from being accepted.
    fn mark_torn(&self, scan: &mut Scan) {
        let all = scan.place != self.place() || self.list().ok().as_ref() != Some(&scan.names);
        for (name, file) in &mut scan.files {
            if let Ok((_, content)) = file {
                let stamp = Stamp::at(&self.path.join(name));
                content.torn |= all || stamp.as_ref() != Some(&content.stamp);
            }
        }
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

    pub(super) fn origin_of(&self, name: &OsStr) -> Origin {
        Origin::new("file", self.given.join(name).display().to_string())
    }

    fn parse(&self, name: &OsStr, bytes: &[u8]) -> Result<Document, Error> {
        let format = self
            .options
            .format
            .or_else(|| Format::of_path(name.as_ref()));
        let origin = self.origin_of(name);
        match format {
            Some(format) => {
                let mut document = format.parse(bytes, &origin)?;
                if !self.options.allow_empty {
                    read::report_void(&mut document, &origin);
                }
                Ok(document)
            }
            None => {
                let detail = Format::unknown(name.as_ref());
                Err(Error::new(ErrorKind::Malformed, detail).with_origin(origin))
            }
        }
    }

    /// Takes what a scan found into the memory. A fragment that is away goes after `gap`.
    pub(super) fn absorb(
        &self,
        memory: &mut Memory,
        scan: Scan,
        held: &HashSet<Tag>,
        gap: Duration,
    ) {
        memory.seen = true;
        let mut here: HashSet<Tag> = held.clone();
        let mut dangling = HashSet::new();
        for (name, found) in scan.files {
            if matches!(found, Err(Fault::Missing)) {
                dangling.insert(name.clone());
            }
            let is_known = memory.fragments.contains_key(&name);
            if matches!(found, Err(Fault::Kind("a directory"))) && !is_known {
                continue;
            }
            here.insert(name.clone());
            if held.contains(&name) {
                continue;
            }
            let fragment = memory.fragments.entry(name.clone()).or_default();
            fragment.home = home(&self.path.join(&name));
            if !matches!(found, Err(Fault::Missing)) {
                fragment.absent = None;
            }
            self.judge_one(fragment, &name, found);
        }
        let now = Instant::now();
        memory.fragments.retain(|name, fragment| {
            if here.contains(name) {
                // A file that is written to was not away all the time. A link may lead nowhere still.
                if !dangling.contains(name) {
                    fragment.absent = None;
                }
                return true;
            }
            if self.has_moved(name, fragment) {
                return false;
            }
            now.duration_since(*fragment.absent.get_or_insert(now)) < gap
        });
    }

    /// The links that have led nowhere for less than `gap`. A program that replaces their target may
    /// be about to remove the links too, and both are one change.
    pub(super) fn dangling(memory: &mut Memory, scan: &Scan, gap: Duration) -> HashSet<Tag> {
        let now = Instant::now();
        let lost = scan.files.iter();
        let lost = lost.filter(|(_, found)| matches!(found, Err(Fault::Missing)));
        let mut dangling = HashSet::new();
        for (name, _) in lost {
            let known = memory.fragments.get_mut(name);
            if let Some(fragment) = known.filter(|fragment| fragment.parsed.is_some()) {
                if now.duration_since(*fragment.absent.get_or_insert(now)) < gap {
                    dangling.insert(name.clone());
                }
            }
        }
        dangling
    }

    /// Whether a name that is gone led to another directory: a link that was removed, or one that was
    /// swung. That is no editor's gap.
    fn has_moved(&self, name: &OsStr, fragment: &Fragment) -> bool {
        home(&self.path.join(name)) != fragment.home
    }

    /// The links that were removed: nothing of them is still to come.
    pub(super) fn removed(&self, memory: &Memory, scan: &Scan) -> HashSet<Tag> {
        let gone = memory.fragments.iter();
        let gone = gone.filter(|(name, _)| !scan.names.contains_key(*name));
        gone.filter(|(name, fragment)| self.has_moved(name, fragment))
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// What is held, and what belongs together with it: links that lead to one directory elsewhere
    /// are swung together, and so they change together.
    pub(super) fn group(&self, memory: &Memory, scan: &Scan, held: &HashSet<Tag>) -> HashSet<Tag> {
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
                let origin = self.origin_of(name);
                fragment.last = None;
                fragment.problem = Some(match fault {
                    Fault::Missing => {
                        let detail = "the symbolic link leads to no file; remove the link to remove \
                                      its keys";
                        Error::new(ErrorKind::Unavailable, detail).with_origin(&origin)
                    }
                    fault => fault.error(&origin),
                });
                return;
            }
        };
        if fragment.last.replace(digest) == Some(digest) {
            return;
        }
        fragment.problem = None;
        if matches!(&fragment.parsed, Some((parsed, _)) if *parsed == digest) {
            return;
        }
        let parsed = self.parse(name, &content.bytes);
        let void = read::blank(&content.bytes) || parsed.as_ref().is_ok_and(read::is_void);
        if void && fragment.full && !self.options.allow_empty {
            fragment.problem = Some(read::emptied(&self.origin_of(name)));
            return;
        }
        match parsed {
            Ok(document) => fragment.parsed = Some((digest, document)),
            Err(error) => fragment.problem = Some(error),
        }
    }

    /// All fragments as one document, and a number that stands for it.
    pub(super) fn compose(&self, memory: &Memory) -> (u64, Document) {
        let mut whole = Document::new();
        whole.set_later_wins();
        let mut parts = Vec::new();
        for (name, fragment) in &memory.fragments {
            if let Some((digest, document)) = memory.content(fragment) {
                let mut found = Vec::new();
                clashes(whole.root(), document.root(), &mut Vec::new(), &mut found);
                for clash in found {
                    parts.push((name, 0, clash.to_string()));
                    whole.warn(clash);
                }
                whole.merge(document.clone());
                parts.push((name, *digest, String::new()));
            }
            if let Some(problem) = &fragment.problem {
                parts.push((name, 0, problem.to_string()));
                whole.report_fragment(&self.origin_of(name), problem.clone());
            }
        }
        let unknown = self.unknown();
        let digest = memory.digest.of((&parts, &unknown));
        for name in unknown.iter().filter(|name| needs_feature(name)) {
            let detail = format!("is left out: {}", Format::unknown(name.as_ref()));
            let error = Error::new(ErrorKind::Malformed, detail);
            whole.warn(error.with_origin(self.origin_of(name)));
        }
        if let Some(hint) = self.left_out(&unknown) {
            whole.hint(hint);
        }
        (digest, whole)
    }

    /// The files of the directory that are no fragments, since their formats are not known.
    fn unknown(&self) -> BTreeSet<OsString> {
        let mut unknown = BTreeSet::new();
        if self.options.format.is_some() {
            return unknown;
        }
        let entries = std::fs::read_dir(&self.path).into_iter().flatten();
        for entry in entries.flatten() {
            let name = entry.file_name();
            let is_candidate = Every::Any.takes(&name) && !self.takes().takes(&name);
            if is_candidate && entry.path().is_file() && unknown.len() < MAX_UNKNOWN {
                unknown.insert(name);
            }
        }
        unknown
    }

    fn left_out(&self, unknown: &BTreeSet<OsString>) -> Option<Error> {
        let names = unknown.iter().filter(|name| !needs_feature(name));
        let names: Vec<String> = names
            .map(|name| format!("`{}`", name.to_string_lossy()))
            .collect();
        if names.is_empty() {
            return None;
        }
        let mut shown = names[..names.len().min(MAX_NAMED)].join(", ");
        if names.len() > MAX_NAMED {
            shown.push_str(", ...");
        }
        let detail = format!(
            "files of no known format are left out: {shown}; name their format by `format`, or move \
             them elsewhere"
        );
        Some(Error::new(ErrorKind::Malformed, detail).with_origin(Source::origin(self)))
    }
}

/// Whether a file is of a format whose feature is off.
fn needs_feature(name: &OsStr) -> bool {
    let extension = Path::new(name).extension().and_then(OsStr::to_str);
    extension.and_then(feature_of).is_some()
}

/// As many files of unknown format are looked at, and as many are named.
const MAX_UNKNOWN: usize = 1_000;
const MAX_NAMED: usize = 8;

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
pub(super) struct Scan {
    pub(super) place: Option<DirId>,
    /// The names of the fragments, and whether each is a link.
    pub(super) names: BTreeMap<OsString, bool>,
    pub(super) files: BTreeMap<OsString, Result<(u64, Content), Fault>>,
}

impl Scan {
    pub(super) fn stamps(&self, want: impl Fn(&OsString) -> bool) -> HashMap<Tag, Stamp> {
        let read = self.files.iter().filter(|(name, _)| want(name));
        read.filter_map(|(name, file)| {
            let (_, content) = file.as_ref().ok()?;
            Some((name.clone(), content.stamp.clone()))
        })
        .collect()
    }
}

/// The name of a file that was written moments ago.
pub(super) fn young(
    (name, found): (&OsString, &Result<(u64, Content), Fault>),
) -> Option<OsString> {
    let young = found.as_ref().is_ok_and(|(_, it)| it.recent || it.torn);
    young.then(|| name.clone())
}
