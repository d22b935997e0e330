//! One file of configuration, followed wherever it goes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind};
use crate::format::Format;
use crate::source::{Scope, Source, SourceContext, Timing, Watching, is_name};
use crate::sources::fs::file::watch::Followed;
use crate::sources::fs::watch::follow;
use crate::sources::fs::watch::read::{self, Content, ReadError};
use crate::sources::fs::watch::suspect::{DEBOUNCE, LOAD_TIMEOUT, is_accepted};
use crate::sources::fs::watch::{POLL, absolute};
use crate::sources::shared::digest::Digest;
use crate::sync::lock::Mutex;
use crate::value::document::Document;
use crate::value::origin::Origin;

mod watch;

/// How long a file has to be missing before its values are dropped, where they are dropped at all.
const GRACE: Duration = Duration::from_secs(1);

/// A configuration file.
///
/// The format follows from the extension, or from [`format`](File::format). The source watches the file
/// through the operating system, and also reads it every 5 seconds, for changes without an event: those on
/// network file systems, through hard links and memory maps.
///
/// # When content takes effect
///
/// Content decides what changed, never a time stamp. One rule decides when content is complete:
///
/// - A file that an event shows to be renamed onto the name is complete. So is a file behind a
///   symbolic link that was swapped by a rename. Such a file takes effect immediately.
/// - All other content is read twice, at least 30 ms apart, and both readings must be equal. That
///   applies to a file that is written in place, created, linked, or written after a removal or a
///   rename to another name; to content that a poll finds; to an empty file; and to the first load of
///   a file that changed less than 60 ms ago. The first load of an older file reads it once.
///
/// The source may read a part of a file whose writer pauses for 30 ms or more, so let programs rename. A first
/// load accepts a half-written file on a network file system if the server's clock is more than 60 ms behind.
///
/// A file that is touched all the time does not hide a change. Content that stays equal for 300 ms
/// is accepted whatever happens to the file. If a writer never pauses for 30 ms, the source reads the file
/// after 750 ms, when the writer closes it; without events the source waits for the writer. A first load waits
/// 3 seconds at most; then it accepts the newest content if that parses, and reports it as a problem of the
/// document.
///
/// No failure removes values: a file that vanishes, cannot be read or parsed, or is over 10 MiB leaves the
/// values as they were, and the source's health shows that. The same applies to a file that lost its last
/// value: it is empty, or has only comments, an empty table or `{}`.
///
/// An unknown extension is an error of the first load, also of an optional file that does not exist yet.
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
    /// Outlives a watch, which the engine may restart.
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

/// The state that loads and watches share.
#[derive(Debug, Default)]
struct Memory {
    /// Whether the file has ever existed.
    has_existed: bool,
    /// Whether the last accepted content had values.
    has_values: bool,
    /// The content of the newest load, and its digest: the watch reads the file again, but need not parse it
    /// again.
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
    /// required; the others may be missing, appear and disappear.
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
                    "`{shown}` is not a profile; expected 1 to 64 letters, digits, `_`, `.` and `-`"
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
    /// `common-prod.toml`, `checkout.toml`, `checkout-prod.toml`. Each may be missing, appear and disappear.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidKey`] if a name or a profile is not 1 to 64 letters, digits, `_`, `.` or `-`, or is `.` or
    /// `..`.
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

    /// Sets the format, regardless of the extension.
    #[must_use]
    pub fn format(mut self, format: Format) -> Self {
        self.options.format = Some(format);
        self
    }

    /// Lets the file be missing at the start: the source reads it when it appears. By default that is
    /// an error.
    ///
    /// With [`cached`](crate::source::Policy::cached), a file that is missing at the start keeps the
    /// last values, and the source's health reports that, unless
    /// [`drop_when_missing`](File::drop_when_missing) drops them.
    #[must_use]
    pub fn allow_missing(mut self) -> Self {
        self.options.allows_missing = true;
        self
    }

    /// Accepts a file without values: one that is empty, or has only comments, empty tables or `{}`.
    /// By default the loss of all values counts as an accident: the values stay
    /// until the file has values again, and the source's health reports it. With
    /// [`cached`](crate::source::Policy::cached) that applies to a file that loses its values while the
    /// program is down.
    #[must_use]
    pub fn allow_empty(mut self) -> Self {
        self.options.allow_empty = true;
        self
    }

    /// Drops the values when the file is missing for 1 second and its directory still exists. By
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

    /// Uses no events of the operating system. The source reads the content at each [`poll`](File::poll), and
    /// accepts it when a second reading, 30 ms later, is equal. Without events nothing proves a rename,
    /// so a renamed file is read twice too.
    #[must_use]
    pub fn without_watch(mut self) -> Self {
        self.options.watch = false;
        self
    }

    fn read(&self) -> Result<Content, ReadError> {
        read::read(&self.path)
    }

    /// The format of the content. An unknown extension is an error of the load, not of `new`.
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

    /// The document of a file that may be missing, and is. Values that were kept on disk stay.
    fn absent(&self) -> Document {
        let mut document = Document::new();
        if !self.options.drop_when_missing {
            let detail = "the file does not exist; its last values, kept on disk, stay until it \
                          exists again (`drop_when_missing` drops them)";
            let origin = self.origin();
            let error = Error::new(ErrorKind::Unavailable, detail).with_origin(&origin);
            document.report_emptied(&origin, error);
        }
        document
    }

    /// The error of a load that cannot read the file.
    fn unreadable(&self, fault: &ReadError) -> Error {
        match fault {
            ReadError::Missing => {
                let path = self.path.display();
                let detail = format!(
                    "the file does not exist: expected it at `{path}`; create it, or allow its absence with `File::allow_missing`"
                );
                Error::new(ErrorKind::Unavailable, detail).with_origin(self.origin())
            }
            fault => fault.error(&self.origin()),
        }
    }
}

impl Clone for File {
    /// The same file and options with a state of its own.
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
                Err(ReadError::Missing) if read::may_appear(&self.path, begun) => {
                    std::thread::sleep(DEBOUNCE);
                    continue;
                }
                Err(ReadError::Missing) if self.options.allows_missing => return Ok(self.absent()),
                Err(fault) => return Err(self.unreadable(&fault)),
            };
            let digest = digests.of(&content.bytes);
            let accepted = is_accepted(&mut suspect, digest, &content, reading);
            if !accepted && begun.elapsed() < LOAD_TIMEOUT {
                std::thread::sleep(DEBOUNCE);
                continue;
            }
            let mut parsed = self.parse(&content.bytes);
            let is_void =
                read::is_blank(&content.bytes) || parsed.as_ref().is_ok_and(read::is_void);
            // A file that is being written does not fail the start.
            let is_suspect = content.recent && (is_void || parsed.is_err());
            if is_suspect && begun.elapsed() < GRACE {
                std::thread::sleep(DEBOUNCE);
                continue;
            }
            if let Ok(document) = &mut parsed {
                if !accepted {
                    document.report_unreadable(read::restless(&self.origin()));
                }
                let mut memory = self.memory.lock();
                memory.has_existed = true;
                memory.has_values = !is_void;
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
        follow::run(
            &mut Followed::new(self),
            updates,
            self.options.poll,
            self.options.watch,
        )
    }
}

#[cfg(test)]
mod tests;
