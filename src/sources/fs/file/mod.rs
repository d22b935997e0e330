//! One file of configuration, followed wherever it goes.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::sync::lock::Mutex;

use crate::error::{Error, ErrorKind};
use crate::format::Format;
use crate::source::{Scope, Source, SourceContext, Timing, Watching, is_name};
use crate::sources::fs::watch::chain::{End, Reach};
use crate::sources::fs::watch::follow::{self, Changed, Target};
use crate::sources::fs::watch::mailbox::Tag;
use crate::sources::fs::watch::read::{self, Content, Digest, Fault, Stamp};
use crate::sources::fs::watch::trust::{LOAD_BOUND, QUIET, is_accepted};
use crate::sources::fs::watch::verdict::Verdicts;
use crate::sources::fs::watch::{GAP, POLL, absolute};
use crate::value::document::Document;
use crate::value::origin::Origin;

/// How long a file must be away before its values go, where they go at all.
const GRACE: Duration = Duration::from_secs(1);

/// What stands for no file at all, among the digests of contents.
const NOTHING: u64 = 0;

/// A configuration file.
///
/// The format follows from the extension, or from [`format`](File::format). The file is watched
/// through the operating system, and read every 5 seconds besides, for changes that cause no
/// event: those on network file systems, through hard links and memory maps.
///
/// # When content takes effect
///
/// Content decides what changed, never a time stamp. One rule decides when content is complete:
///
/// - A file that an event shows to be renamed onto the name is complete. So is a file behind a
///   symbolic link that was swapped by a rename. Such a file takes effect at once.
/// - All other content is read twice, at least 30 ms apart, and both readings must be equal. That
///   holds for a file that is written in place, created, linked, or written after a removal or a
///   rename to another name; for whatever a poll finds; for an empty file; and for the first load of
///   a file that changed less than 60 ms ago. The first load of an older file reads it once.
///
/// A writer that pauses for 30 ms or more can be seen half-way, so let programs rename. A first load
/// reads a half-written file on a network file system as complete if the server's clock is more than
/// 60 ms behind.
///
/// A file that is touched all the time does not hide a change. Content that stays equal for 300 ms
/// is accepted whatever happens to the file. A writer that rewrites the file without ever pausing
/// for 30 ms is read, after 750 ms, when it closes the file; without events such a writer is waited
/// for. A first load waits 3 seconds at most; then it accepts the newest content if that parses, and
/// reports it as a problem of the document.
///
/// Nothing that goes wrong takes values away: a file that vanishes, cannot be read or parsed, or is
/// over 10 MiB leaves the values as they were and shows in the source's health. So does a file that
/// lost its last value: it is empty, or has only comments, an empty table or `{}`.
///
/// An extension that stands for no format is an error of the first load, also of an optional file that
/// is not there yet.
///
/// The path is fixed when the source is made: a later change of the working directory does not
/// move it.
///
/// # Examples
///
/// ```
/// use liveprops::{Source, sources::File};
///
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("app.toml");
/// std::fs::write(&path, "retries = 3\n").unwrap();
/// let file = File::new(&path);
/// assert_eq!(file.load()?.get("retries"), Some(&3.into()));
/// # Ok::<(), liveprops::Error>(())
/// ```
#[derive(Debug)]
pub struct File {
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
    drop_when_missing: bool,
    watch: bool,
    poll: Duration,
}

/// What was seen so far.
#[derive(Debug, Default)]
struct Memory {
    /// Whether there has been a file.
    seen: bool,
    /// Whether the last good content said something.
    full: bool,
    /// What the newest load has read, and what that said: the watch that follows reads the file
    /// again, and need not parse it again.
    loaded: Option<(u64, Document)>,
    digest: Digest,
}

impl File {
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
                drop_when_missing: false,
                watch: true,
                poll: POLL,
            },
            memory: Arc::default(),
        }
    }

    /// Creates the files of a profile and its refinements: `app.toml`, `app-prod.toml`,
    /// `app-prod-eu.toml`.
    ///
    /// Later ones override earlier ones when handed to the builder in this order. The first is
    /// required; the others may be missing, come and go.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidKey`] if a profile is not 1 to 64 letters, digits, `_`, `.` or `-`, is
    /// `.` or `..`, or if `path` has no file name.
    ///
    /// # Examples
    ///
    /// ```
    /// use liveprops::{Source, sources::File};
    ///
    /// let files = File::cascade("config/app.toml", ["prod", "eu"])?;
    /// let names: Vec<_> = files.iter().map(|file| file.origin().to_string()).collect();
    /// assert_eq!(names[2], "file config/app-prod-eu.toml");
    /// assert!(File::cascade("config/app.toml", ["../etc"]).is_err());
    /// # Ok::<(), liveprops::Error>(())
    /// ```
    pub fn cascade<P: AsRef<str>>(
        path: impl Into<PathBuf>,
        profiles: impl IntoIterator<Item = P>,
    ) -> Result<Vec<Self>, Error> {
        let path = path.into();
        let Some(stem) = path.file_stem() else {
            let detail = format!("`{}` has no file name", path.display());
            return Err(Error::new(ErrorKind::InvalidKey, detail));
        };
        let mut name = stem.to_os_string();
        let mut files = vec![Self::new(&path)];
        for profile in profiles {
            let profile = profile.as_ref();
            if !is_name(profile) {
                let shown: String = profile.chars().take(80).collect();
                let detail = format!(
                    "`{shown}` is not a profile: 1 to 64 of letters, digits, `_`, `.` and `-`"
                );
                return Err(Error::new(ErrorKind::InvalidKey, detail));
            }
            name.push("-");
            name.push(profile);
            let mut whole = name.clone();
            if let Some(extension) = path.extension() {
                whole.push(".");
                whole.push(extension);
            }
            files.push(
                Self::new(path.with_file_name(whole))
                    .allow_missing()
                    .drop_when_missing(),
            );
        }
        Ok(files)
    }

    /// Creates the files of a scope in a directory, the weakest first: `common.toml`,
    /// `common-prod.toml`, `checkout.toml`, `checkout-prod.toml`. Each may be missing, come and go.
    ///
    /// # Errors
    ///
    /// As [`Scope::names`].
    ///
    /// # Examples
    ///
    /// ```
    /// use liveprops::{Properties, source::Scope, sources::File};
    ///
    /// let scope = Scope::app("checkout").profile("prod");
    /// let props = Properties::builder()
    ///     .sources(File::of_scope("config", &scope, "toml")?)
    ///     .build()?;
    /// # Ok::<(), liveprops::Error>(())
    /// ```
    pub fn of_scope(
        dir: impl AsRef<Path>,
        scope: &Scope,
        extension: &str,
    ) -> Result<Vec<Self>, Error> {
        let file = |name| {
            let path = dir.as_ref().join(format!("{name}.{extension}"));
            Self::new(path).allow_missing().drop_when_missing()
        };
        Ok(scope.names()?.into_iter().map(file).collect())
    }

    /// Sets the format, whatever the extension says.
    #[must_use]
    pub fn format(mut self, format: Format) -> Self {
        self.options.format = Some(format);
        self
    }

    /// Lets the file be missing at the start: it is picked up when it appears. By default that is
    /// an error.
    ///
    /// With [`cached`](crate::source::Policy::cached), a file that is missing at the start keeps the
    /// values it had last, and the source's health reports that, unless
    /// [`drop_when_missing`](File::drop_when_missing) lets them go.
    #[must_use]
    pub fn allow_missing(mut self) -> Self {
        self.options.allows_missing = true;
        self
    }

    /// Accepts a file without values: one that is empty, or has only comments, empty tables or `{}`.
    /// By default a file that had values and has none now counts as an accident: its values stay
    /// until it has values again, and the source's health reports it. With
    /// [`cached`](crate::source::Policy::cached) that holds for a file that loses its values while the
    /// program is down.
    #[must_use]
    pub fn allow_empty(mut self) -> Self {
        self.options.allow_empty = true;
        self
    }

    /// Drops the values when the file is away for 1 second and its directory is still there. By
    /// default they stay and the source's health says that the file is missing. With
    /// [`allow_missing`](File::allow_missing) and [`cached`](crate::source::Policy::cached), a start at which the
    /// file is missing drops the values that were kept on disk as well.
    #[must_use]
    pub fn drop_when_missing(mut self) -> Self {
        self.options.drop_when_missing = true;
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

    /// Uses no events of the operating system: the content is read at each [`poll`](File::poll) and
    /// accepted when a second reading, 30 ms later, is equal. Without events nothing proves a rename,
    /// so a renamed file is read twice too.
    #[must_use]
    pub fn without_watch(mut self) -> Self {
        self.options.watch = false;
        self
    }

    fn read(&self) -> Result<Content, Fault> {
        read::read(&self.path)
    }

    /// The format of the content. Looked up here and not in `new`: a wrong extension is an error like
    /// any other.
    fn known_format(&self) -> Result<Format, Error> {
        let format = self.options.format.or_else(|| Format::of_path(&self.path));
        format.ok_or_else(|| {
            let detail = Format::unknown(&self.path);
            Error::new(ErrorKind::Malformed, detail).with_origin(self.origin())
        })
    }

    fn parse(&self, content: &[u8]) -> Result<Document, Error> {
        let origin = self.origin();
        let mut document = self.known_format()?.parse(content, &origin)?;
        if !self.options.allow_empty {
            read::report_void(&mut document, &origin);
        }
        Ok(document)
    }

    /// What a file says that is missing and may be. If values of it were kept on disk, they stay.
    fn absent(&self) -> Document {
        let mut document = Document::new();
        if !self.options.drop_when_missing {
            let detail = "the file does not exist; the values it had last, kept on disk, stay until it \
                          is there again (`drop_when_missing` lets them go)";
            let origin = self.origin();
            let error = Error::new(ErrorKind::Unavailable, detail).with_origin(&origin);
            document.report_emptied(&origin, error);
        }
        document
    }

    /// Why the file cannot be read by a first load.
    fn unreadable(&self, fault: &Fault) -> Error {
        match fault {
            Fault::Missing => {
                let path = self.path.display();
                let detail = format!(
                    "the file does not exist: expected it at `{path}`; create it, or let it be missing \
                     with `File::allow_missing`"
                );
                Error::new(ErrorKind::Unavailable, detail).with_origin(self.origin())
            }
            fault => fault.error(&self.origin()),
        }
    }
}

impl Clone for File {
    /// The same file with the same options; what one has seen means nothing to the other.
    fn clone(&self) -> Self {
        Self {
            given: self.given.clone(),
            path: self.path.clone(),
            options: self.options.clone(),
            memory: Arc::default(),
        }
    }
}

impl Source for File {
    fn origin(&self) -> Origin {
        Origin::new("file", self.given.display().to_string())
    }

    fn load(&self) -> Result<Document, Error> {
        self.known_format()?;
        let begun = Instant::now();
        let digests = self.memory.lock().digest.clone();
        let mut suspect = None;
        loop {
            let reading = Instant::now();
            let content = match self.read() {
                Ok(content) => content,
                Err(Fault::Missing) if read::may_appear(&self.path, begun) => {
                    std::thread::sleep(QUIET);
                    continue;
                }
                Err(Fault::Missing) if self.options.allows_missing => return Ok(self.absent()),
                Err(fault) => return Err(self.unreadable(&fault)),
            };
            let digest = digests.of(&content.bytes);
            let accepted = is_accepted(&mut suspect, digest, &content, reading);
            if !accepted && begun.elapsed() < LOAD_BOUND {
                std::thread::sleep(QUIET);
                continue;
            }
            let mut parsed = self.parse(&content.bytes);
            let void = read::blank(&content.bytes) || parsed.as_ref().is_ok_and(read::is_void);
            // Somebody may be half-way through writing it: that is no reason not to start.
            let doubtful = content.recent && (void || parsed.is_err());
            if doubtful && begun.elapsed() < GRACE {
                std::thread::sleep(QUIET);
                continue;
            }
            if let Ok(document) = &mut parsed {
                if !accepted {
                    document.report(read::restless(&self.origin()));
                }
                let mut memory = self.memory.lock();
                memory.seen = true;
                memory.full = !void;
                memory.loaded = Some((digest, document.clone()));
            }
            return parsed;
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
            file: self,
            digest: self.memory.lock().digest.clone(),
            verdicts: Verdicts::default(),
            found: None,
            absent: None,
        };
        follow::run(
            &mut followed,
            updates,
            self.options.poll,
            self.options.watch,
        )
    }
}

/// A file that is being followed.
struct Followed<'a> {
    file: &'a File,
    digest: Digest,
    verdicts: Verdicts,
    /// What the last look found; `None` when it was judged.
    found: Option<Result<(u64, Content), Fault>>,
    absent: Option<Absent>,
}

/// How long a file has been away.
#[derive(Clone, Copy)]
struct Absent {
    since: Instant,
    /// Whether its directory is there.
    parent: bool,
}

impl Followed<'_> {
    /// Whether the first load has accepted this content.
    fn is_loaded(&self, digest: u64) -> bool {
        let memory = self.file.memory.lock();
        matches!(&memory.loaded, Some((loaded, _)) if *loaded == digest)
    }

    fn judge_missing(&mut self, updates: &SourceContext) {
        let options = &self.file.options;
        let seen = self.file.memory.lock().seen;
        if !seen && options.allows_missing {
            // It was never there, and need not be.
            return self.drop_values(updates);
        }
        let Some(absent) = self.absent else { return };
        let away = absent.since.elapsed();
        if away >= GRACE && absent.parent && options.drop_when_missing {
            return self.drop_values(updates);
        }
        if away >= GAP && !self.verdicts.in_force(NOTHING) {
            let error = Fault::Missing.error(&self.file.origin());
            self.verdicts.report_error(error, updates);
        }
    }

    fn drop_values(&mut self, updates: &SourceContext) {
        if self.verdicts.in_force(NOTHING) {
            return self.verdicts.same(NOTHING, updates);
        }
        if self.verdicts.known_bad(NOTHING, updates) {
            return;
        }
        if self.verdicts.send(NOTHING, self.file.absent(), updates) {
            let before = std::mem::take(&mut *self.file.memory.lock());
            // The old document may be large.
            drop(before);
        }
    }

    fn judge_content(&mut self, digest: u64, content: &Content, updates: &SourceContext) {
        if self.verdicts.in_force(digest) {
            return self.verdicts.same(digest, updates);
        }
        if self.verdicts.known_bad(digest, updates) {
            return;
        }
        let loaded = self.file.memory.lock().loaded.take();
        let parsed = match loaded {
            Some((same, document)) if same == digest => Ok(document),
            _ => self.file.parse(&content.bytes),
        };
        let void = read::blank(&content.bytes) || parsed.as_ref().is_ok_and(read::is_void);
        let full = self.file.memory.lock().full;
        if void && full && !self.file.options.allow_empty {
            let error = read::emptied(&self.file.origin());
            return self.verdicts.bad(digest, error, updates);
        }
        match parsed {
            Err(error) => self.verdicts.bad(digest, error, updates),
            Ok(document) => {
                if self.verdicts.send(digest, document, updates) {
                    let mut memory = self.file.memory.lock();
                    memory.seen = true;
                    memory.full = !void;
                }
            }
        }
    }
}

impl Target for Followed<'_> {
    fn reach(&mut self) -> Reach {
        let mut reach = Reach::default();
        reach.add(&self.file.path, OsStr::new(""));
        reach
    }

    fn ends(&self) -> bool {
        std::fs::symlink_metadata(&self.file.path).is_ok_and(|data| data.is_file())
    }

    fn look(&mut self, held: &HashSet<Tag>, ends: bool) -> Vec<Changed> {
        if held.contains(OsStr::new("")) {
            // Somebody writes it, so it was not away all the time.
            self.absent = None;
            return Vec::new();
        }
        let found = match ends {
            true => read::read_regular(&self.file.path),
            false => self.file.read(),
        };
        let found = found.map(|content| (self.digest.of(&content.bytes), content));
        let mut changed = Vec::new();
        match &found {
            Ok((digest, content)) if self.verdicts.differs(*digest) => {
                self.absent = None;
                changed.push(Changed {
                    tag: OsString::new(),
                    digest: *digest,
                    stamp: content.stamp.clone(),
                    torn: content.torn,
                    recent: content.may_be_incomplete() && !self.is_loaded(*digest),
                });
            }
            Err(Fault::Missing) => {
                let parent = parent_stands(&self.file.path);
                let since = match self.absent {
                    // A directory that was away starts the grace anew when it is back.
                    Some(absent) if absent.parent == parent => absent.since,
                    _ => Instant::now(),
                };
                self.absent = Some(Absent { since, parent });
            }
            _ => self.absent = None,
        }
        self.found = Some(found);
        changed
    }

    fn stamp(&self, _: &OsStr) -> Option<Stamp> {
        Stamp::at(&self.file.path)
    }

    fn judge(&mut self, held: &HashSet<Tag>, updates: &SourceContext) -> HashMap<Tag, Stamp> {
        if held.contains(OsStr::new("")) {
            return HashMap::new();
        }
        match self.found.take() {
            None => {}
            Some(Err(Fault::Missing)) => self.judge_missing(updates),
            Some(Err(fault)) => {
                let error = fault.error(&self.file.origin());
                self.verdicts.report_error(error, updates);
            }
            Some(Ok((digest, content))) => {
                self.judge_content(digest, &content, updates);
            }
        }
        HashMap::new()
    }

    fn note_presence(&mut self, _: &OsStr) {
        self.absent = None;
    }

    fn deadline(&self) -> Option<Instant> {
        let absent = self.absent?;
        let now = Instant::now();
        [GAP, GRACE]
            .into_iter()
            .map(|pause| absent.since + pause)
            .find(|at| *at > now)
    }
}

/// Whether the directory is there in which the file, with all links followed, would stand.
fn parent_stands(path: &Path) -> bool {
    matches!(
        Reach::default().add(path, OsStr::new("")),
        End::Absent(_) | End::Here(_)
    )
}

#[cfg(test)]
mod tests;
