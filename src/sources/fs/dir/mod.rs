//! A directory of fragments that together are one configuration.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::sync::lock::Mutex;

use crate::error::{Error, ErrorKind};
use crate::format::Format;
use crate::source::{Source, SourceContext, Timing, Watching};
use crate::sources::fs::dir::fragments::{Memory, Scan, young};
use crate::sources::fs::watch::chain::{End, Every, Reach};
use crate::sources::fs::watch::follow::{self, Changed, Target};
use crate::sources::fs::watch::mailbox::Tag;
use crate::sources::fs::watch::read::{self, Digest, Fault, Stamp};
use crate::sources::fs::watch::trust::{Finding, LOAD_BOUND, QUIET, Suspect};
use crate::sources::fs::watch::verdict::{Outcome, Verdicts};
use crate::sources::fs::watch::{GAP, POLL, absolute};
use crate::value::document::Document;
use crate::value::origin::Origin;

mod fragments;

/// How long a fragment that is being written is waited for at the start.
const PATIENCE: Duration = Duration::from_secs(1);

/// A directory of configuration fragments, such as `conf.d`.
///
/// Every file with the extension of a known format is read, in the order of the file names; later
/// ones override earlier ones. Hidden files, back-ups, swap files and subdirectories are left out.
///
/// Files of other extensions, such as secrets without one, are left out as well. A hint in the
/// source's health names them ([`SourceHealth::hints`](crate::health::SourceHealth::hints)). A file
/// whose format needs a feature that is off is a rejected part instead.
///
/// A fragment that cannot be read or parsed is rejected as a [`File`](crate::sources::File) is: an
/// event and an entry in the list of rejections report it, the source is not `Up`, and the last accepted
/// values of the fragment stay. With [`cached`](crate::source::Policy::cached) they stay across a
/// restart. Without accepted values the fragment is left out, and the start succeeds.
///
/// Only a name that is removed takes its keys with it: a symbolic link whose target is missing is a
/// fragment that cannot be read. When the directory itself goes, all values stay. All fragments
/// together hold at most 10 MiB.
///
/// Where the files are links through one link that is swung, as in a mounted Kubernetes ConfigMap,
/// all of them change in one update. A fragment is watched, and its content takes effect, as that of
/// a [`File`](crate::sources::File) does. A fragment that changes all the time holds no other back.
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
    allows_missing: bool,
    allow_empty: bool,
    watch: bool,
    poll: Duration,
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
                allows_missing: false,
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
    pub fn allow_missing(mut self) -> Self {
        self.options.allows_missing = true;
        self
    }

    /// Accepts a fragment without values: one that is empty, or has only comments, empty tables or
    /// `{}`. By default a fragment that had values and has none now counts as an accident: its values
    /// stay until it has values again, and the source's health reports it. With
    /// [`cached`](crate::source::Policy::cached) that holds for a fragment that loses its values while
    /// the program is down.
    #[must_use]
    pub fn allow_empty(mut self) -> Self {
        self.options.allow_empty = true;
        self
    }

    /// Sets the pause between two readings of the content that no event asked for. The default is
    /// 5 seconds; less than 1 millisecond counts as that. Much more than 5 seconds needs a
    /// [`Builder::max_propagation`](crate::Builder::max_propagation) that allows it.
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
        let mut trial = Trial::default();
        loop {
            let reading = Instant::now();
            let scan = match self.scan(&memory.digest, &HashSet::new()) {
                Ok(scan) => scan,
                Err(Fault::Missing) if read::may_appear(&self.path, begun) => {
                    std::thread::sleep(QUIET);
                    continue;
                }
                Err(Fault::Missing) if self.options.allows_missing => return Ok(Document::new()),
                Err(fault) => return Err(explain(fault, &self.origin())),
            };
            let incomplete = trial.compare(&scan, &memory.digest, &self.path, reading);
            if !incomplete.is_empty() && begun.elapsed() < LOAD_BOUND {
                std::thread::sleep(QUIET);
                continue;
            }
            // Somebody may be half-way through writing: wait for what would be left out.
            let young: Vec<OsString> = scan.files.iter().filter_map(young).collect();
            self.absorb(&mut memory, scan, &HashSet::new(), Duration::ZERO);
            memory.note_load();
            let broken = |name: &OsString| {
                memory
                    .fragments
                    .get(name)
                    .is_some_and(|it| !it.has_values())
            };
            if !young.iter().any(broken) || begun.elapsed() >= PATIENCE {
                let (_, mut document) = self.compose(&memory);
                for name in incomplete {
                    document.report(read::restless(&self.origin_of(&name)));
                }
                return Ok(document);
            }
            std::thread::sleep(QUIET);
        }
    }

    fn watching(&self) -> Watching {
        Watching::Stream
    }

    fn timing(&self) -> Timing {
        follow::timing(self.options.poll)
    }

    fn watch(&self, updates: &SourceContext) -> Result<(), Error> {
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

/// What a first load knows of the fragments that it cannot accept yet.
#[derive(Default)]
struct Trial(HashMap<OsString, Suspect>);

impl Trial {
    /// Compares a scan with the one before; returns the names that cannot be accepted yet. The empty
    /// name stands for the list of names.
    fn compare(
        &mut self,
        scan: &Scan,
        digests: &Digest,
        dir: &Path,
        begun: Instant,
    ) -> Vec<OsString> {
        let ended = Instant::now();
        let mut incomplete = Vec::new();
        let mut compare = |name: &OsStr, digest, stamp: &Stamp, torn| {
            let suspect = self.0.entry(name.to_os_string());
            let suspect = suspect.or_insert_with(|| Suspect::found(begun));
            let finding = suspect.compare(digest, stamp, torn, begun, ended);
            if finding == Finding::Incomplete {
                incomplete.push(name.to_os_string());
            }
        };
        if read::is_directory_recent(dir) {
            if let Some(stamp) = Stamp::at(dir) {
                let names: Vec<_> = scan.names.keys().collect();
                compare(OsStr::new(""), digests.of(names), &stamp, false);
            }
        }
        for (name, file) in &scan.files {
            match file {
                Ok((digest, content)) if content.may_be_incomplete() => {
                    compare(name, *digest, &content.stamp, content.torn);
                }
                _ => {}
            }
        }
        incomplete
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
    fn judge_missing(&mut self, updates: &SourceContext) {
        let since = *self.absent.get_or_insert_with(Instant::now);
        if !self.dir.memory.lock().seen && self.dir.options.allows_missing {
            if self.verdicts.in_force(0) {
                updates.heartbeat();
            } else {
                self.verdicts.send(0, Document::new(), updates);
            }
        } else if since.elapsed() >= GAP {
            let error = explain(Fault::Missing, &self.dir.origin());
            self.verdicts.report_error(error, updates);
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

    fn look(&mut self, held: &HashSet<Tag>, _: bool) -> Vec<Changed> {
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
                    digest: *digest,
                    stamp: content.stamp.clone(),
                    torn: content.torn,
                    recent: content.may_be_incomplete(),
                });
            }
        }
        self.found = Some(found);
        changed
    }

    fn stamp(&self, tag: &OsStr) -> Option<Stamp> {
        Stamp::at(&self.dir.path.join(tag))
    }

    fn judge(&mut self, held: &HashSet<Tag>, updates: &SourceContext) -> HashMap<Tag, Stamp> {
        let scan = match self.found.take() {
            None => return HashMap::new(),
            Some(Err(Fault::Missing)) => {
                self.judge_missing(updates);
                return HashMap::new();
            }
            Some(Err(fault)) => {
                let error = explain(fault, &self.dir.origin());
                self.verdicts.report_error(error, updates);
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
        let dangling = Dir::dangling(&mut memory, &scan, GAP);
        let mut waiting: HashSet<Tag> = held.union(&dangling).cloned().collect();
        let removed = self.dir.removed(&memory, &scan);
        waiting.retain(|name| !removed.contains(name));
        let all = self.dir.group(&memory, &scan, &waiting);
        let put_off = scan.stamps(|name| all.contains(name) && !held.contains(name));
        self.dir.absorb(&mut memory, scan, &all, GAP);
        let (digest, document) = self.dir.compose(&memory);
        let content = memory.usable();
        drop(memory);
        let outcome = if self.verdicts.in_force(digest) {
            self.verdicts.same(digest, updates);
            Outcome::Accepted
        } else if self.verdicts.known_bad(digest, updates) {
            return put_off;
        } else if self.verdicts.send(digest, document, updates) {
            Outcome::Accepted
        } else if self.verdicts.is_withheld() {
            Outcome::Withheld
        } else {
            Outcome::Rejected
        };
        self.dir.memory.lock().note(&content, outcome);
        put_off
    }

    fn note_presence(&mut self, tag: &OsStr) {
        if let Some(fragment) = self.dir.memory.lock().fragments.get_mut(tag) {
            fragment.absent = None;
        }
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
