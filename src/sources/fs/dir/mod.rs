//! A directory of fragments that together are one configuration.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind};
use crate::format::Format;
use crate::source::{Source, SourceContext, Timing, Watching};
use crate::sources::fs::dir::fragments::Memory;
use crate::sources::fs::dir::scan::{Scan, recent_name};
use crate::sources::fs::dir::watch::Followed;
use crate::sources::fs::watch::chain::NewNames;
use crate::sources::fs::watch::follow;
use crate::sources::fs::watch::read::{self, FileStamp, ReadError};
use crate::sources::fs::watch::suspect::{DEBOUNCE, Finding, LOAD_TIMEOUT, Suspect};
use crate::sources::fs::watch::{POLL, absolute};
use crate::sources::shared::digest::Digest;
use crate::sync::lock::Mutex;
use crate::value::document::Document;
use crate::value::origin::Origin;

mod compose;
mod fragments;
mod scan;
mod watch;

/// How long the start waits for a fragment that is being written.
const MAX_START_WAIT: Duration = Duration::from_secs(1);

/// A directory of configuration fragments, such as `conf.d`.
///
/// NewNames file with the extension of a known format is read, in the order of the file names; later
/// ones override earlier ones. Hidden files, back-ups, swap files and subdirectories are left out.
///
/// Files of other extensions, such as secrets without one, are left out as well. A hint in the
/// source's health names them ([`SourceHealth::hints`](crate::health::SourceHealth::hints)). A file
/// whose format needs a feature that is off is a rejected part instead.
///
/// A fragment that cannot be read or parsed is rejected as a [`File`](crate::sources::File) is: an
/// event and an entry in the list of rejections report it, the source is not `Up`, and the last accepted
/// values of the fragment stay. With [`cached`](crate::source::Policy::cached) they stay across a
/// restart. Without accepted values the fragment is skipped, and the start succeeds.
///
/// The removal of a name removes its keys. A symbolic link whose target is missing is a
/// fragment that cannot be read. When the directory itself is removed, all values stay. All fragments
/// together may have 10 MiB.
///
/// Where the files are links through one link that is swapped, as in a mounted Kubernetes ConfigMap,
/// all of them change in one update. The source watches a fragment, and its content takes effect, as that of
/// a [`File`](crate::sources::File). A fragment that changes all the time does not delay others.
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
    /// Outlives a watch, which the engine may restart.
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

    /// Reads every file in this format, whatever its extension, except hidden files and the temporary files of
    /// editors.
    #[must_use]
    pub fn format(mut self, format: Format) -> Self {
        self.options.format = Some(format);
        self
    }

    /// Lets the directory be missing at the start: the source reads it when it appears. By default
    /// that is an error.
    #[must_use]
    pub fn allow_missing(mut self) -> Self {
        self.options.allows_missing = true;
        self
    }

    /// Accepts a fragment without values: one that is empty, or has only comments, empty tables or
    /// `{}`. By default the loss of all values of a fragment counts as an accident: its values
    /// stay until it has values again, and the source's health reports it. With
    /// [`cached`](crate::source::Policy::cached) that applies to a fragment that loses its values while
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

    /// Uses no events of the operating system: the source reads the content at each [`poll`](Dir::poll).
    #[must_use]
    pub fn without_watch(mut self) -> Self {
        self.options.watch = false;
        self
    }

    /// The names of fragments.
    fn names(&self) -> NewNames {
        match self.options.format {
            Some(_) => NewNames::All,
            None => NewNames::KnownFormats,
        }
    }
}

impl Clone for Dir {
    /// The same directory and options with a state of its own.
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
        let mut suspects = Suspects::default();
        loop {
            let reading = Instant::now();
            let scan = match self.scan(&memory.digest, &HashSet::new()) {
                Ok(scan) => scan,
                Err(ReadError::Missing) if read::may_appear(&self.path, begun) => {
                    std::thread::sleep(DEBOUNCE);
                    continue;
                }
                Err(ReadError::Missing) if self.options.allows_missing => {
                    return Ok(Document::new());
                }
                Err(fault) => return Err(explain(fault, &self.origin())),
            };
            let incomplete = suspects.compare(&scan, &memory.digest, &self.path, reading);
            if !incomplete.is_empty() && begun.elapsed() < LOAD_TIMEOUT {
                std::thread::sleep(DEBOUNCE);
                continue;
            }
            // Waits for fragments that are being written and would be skipped.
            let recent: Vec<OsString> = scan.files.iter().filter_map(recent_name).collect();
            self.apply_scan(&mut memory, scan, &HashSet::new(), Duration::ZERO);
            memory.record_load();
            let broken = |name: &OsString| {
                memory
                    .fragments
                    .get(name)
                    .is_some_and(|it| !it.has_values())
            };
            if !recent.iter().any(broken) || begun.elapsed() >= MAX_START_WAIT {
                let (_, mut document) = self.compose(&memory);
                for name in incomplete {
                    document.report_unreadable(read::restless(&self.origin_of(&name)));
                }
                return Ok(document);
            }
            std::thread::sleep(DEBOUNCE);
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

fn explain(fault: ReadError, origin: &Origin) -> Error {
    match fault {
        ReadError::Missing => Error::new(
            ErrorKind::Unavailable,
            "not a directory, or it does not exist",
        )
        .with_origin(origin),
        fault => fault.error(origin),
    }
}

/// The fragments that a load cannot accept yet.
#[derive(Default)]
struct Suspects(HashMap<OsString, Suspect>);

impl Suspects {
    /// Compares a scan with the last one; returns the names that cannot be accepted yet. The empty
    /// name is the list of names.
    fn compare(
        &mut self,
        scan: &Scan,
        digests: &Digest,
        dir: &Path,
        begun: Instant,
    ) -> Vec<OsString> {
        let ended = Instant::now();
        let mut incomplete = Vec::new();
        let mut compare = |name: &OsStr, digest, stamp: &FileStamp, torn| {
            let suspect = self.0.entry(name.to_os_string());
            let suspect = suspect.or_insert_with(|| Suspect::found(begun));
            let finding = suspect.compare(digest, stamp, torn, begun, ended);
            if finding == Finding::Incomplete {
                incomplete.push(name.to_os_string());
            }
        };
        if read::is_directory_recent(dir) {
            if let Some(stamp) = FileStamp::at(dir) {
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

#[cfg(test)]
mod tests;
