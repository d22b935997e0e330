//! Reads a file that may have become a pipe, or grow meanwhile.

use std::fmt;
use std::fs::{Metadata, OpenOptions};
use std::io::{self, Read};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use crate::error::{Error, ErrorKind};
use crate::format::MAX_DOCUMENT_BYTES;
use crate::sources::fs::watch::suspect::{DEBOUNCE, LOAD_TIMEOUT};
use crate::value::document::Document;
use crate::value::node::{Node, Table};
use crate::value::origin::Origin;

/// The metadata that distinguish the states of a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct FileStamp {
    #[cfg(unix)]
    numbers: [i64; 7],
    #[cfg(not(unix))]
    numbers: (u64, Option<std::time::SystemTime>),
}

impl FileStamp {
    pub(crate) fn of(data: &Metadata) -> Self {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            Self {
                numbers: [
                    data.dev() as i64,
                    data.ino() as i64,
                    data.size() as i64,
                    data.mtime(),
                    data.mtime_nsec(),
                    data.ctime(),
                    data.ctime_nsec(),
                ],
            }
        }
        #[cfg(not(unix))]
        Self {
            numbers: (data.len(), data.modified().ok()),
        }
    }

    /// Whether the last change was no write, but for example a rename. A write sets both times to one value.
    pub(crate) fn is_changed_after_write(&self) -> bool {
        #[cfg(unix)]
        {
            let [.., written, written_nanos, changed, changed_nanos] = self.numbers;
            (written, written_nanos) < (changed, changed_nanos)
        }
        #[cfg(not(unix))]
        false
    }

    /// Whether the file is empty. A truncated file is empty before its times change and before any event.
    pub(crate) fn is_empty(&self) -> bool {
        #[cfg(unix)]
        {
            self.numbers[2] == 0
        }
        #[cfg(not(unix))]
        {
            self.numbers.0 == 0
        }
    }

    /// The stamp of the file at a path.
    pub(crate) fn at(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().map(|data| Self::of(&data))
    }
}

/// All bytes of a file, and its state when they were read.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) bytes: Vec<u8>,
    pub(crate) stamp: FileStamp,
    /// Whether the file changed during the read.
    pub(crate) torn: bool,
    /// Whether the file was written to moments ago.
    pub(crate) recent: bool,
}

impl Content {
    /// Whether more bytes may follow. A truncated file has its new length before its new times, so any empty file
    /// may be about to be written.
    pub(crate) fn may_be_incomplete(&self) -> bool {
        self.recent || self.torn || self.bytes.is_empty()
    }
}

/// Why a file could not be read.
#[derive(Debug)]
pub(crate) enum ReadError {
    Missing,
    Io(io::Error),
    Kind(&'static str),
    Large,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Missing => f.write_str("the file does not exist"),
            ReadError::Io(error) => write!(f, "cannot be read: {error}"),
            ReadError::Kind(kind) => write!(f, "not a regular file but {kind}"),
            ReadError::Large => write!(f, "larger than {MAX_DOCUMENT_BYTES} bytes"),
        }
    }
}

impl ReadError {
    pub(crate) fn of(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ReadError::Missing,
            _ => ReadError::Io(error),
        }
    }

    pub(crate) fn error(&self, origin: &Origin) -> Error {
        let kind = match self {
            ReadError::Large => ErrorKind::TooLarge,
            _ => ErrorKind::Unavailable,
        };
        Error::new(kind, self.to_string()).with_origin(origin)
    }
}

/// Reads a whole file, up to the size limit of a document. Never waits for a pipe or a device.
pub(crate) fn read(path: &Path) -> Result<Content, ReadError> {
    // Checked before the open as well, because the open of a device may have an effect.
    regular(&std::fs::metadata(path).map_err(ReadError::of)?)?;
    read_regular(path)
}

/// Reads a file that was a regular one a moment ago.
pub(crate) fn read_regular(path: &Path) -> Result<Content, ReadError> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC);
    }
    let file = options.open(path).map_err(ReadError::of)?;
    let data = file.metadata().map_err(ReadError::Io)?;
    regular(&data)?;
    let limit = MAX_DOCUMENT_BYTES as u64;
    if data.len() > limit {
        return Err(ReadError::Large);
    }
    // The size is only a hint: it is 0 for all of /proc, and a file may grow.
    let mut bytes = Vec::with_capacity(data.len() as usize + 1);
    (&file)
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(ReadError::Io)?;
    if bytes.len() as u64 > limit {
        return Err(ReadError::Large);
    }
    let stamp = FileStamp::of(&data);
    let after = file.metadata().map_err(ReadError::Io)?;
    Ok(Content {
        bytes,
        torn: FileStamp::of(&after) != stamp,
        recent: recent(&after),
        stamp,
    })
}

fn regular(data: &Metadata) -> Result<(), ReadError> {
    if data.is_file() {
        return Ok(());
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        let kind = data.file_type();
        if kind.is_fifo() {
            return Err(ReadError::Kind("a pipe"));
        }
        if kind.is_socket() {
            return Err(ReadError::Kind("a socket"));
        }
        if kind.is_char_device() || kind.is_block_device() {
            return Err(ReadError::Kind("a device"));
        }
    }
    Err(ReadError::Kind(if data.is_dir() {
        "a directory"
    } else {
        "something else"
    }))
}

/// Whether the last change is so recent that a write may follow. Times of a clock that runs ahead count as
/// recent. A clock that was set forward makes a change look old, as does a slow clock of a file server; then
/// events and the next scan find the rest.
fn recent(data: &Metadata) -> bool {
    let Some((changed, nanoseconds)) = changed(data) else {
        return true;
    };
    // Some file systems keep times in steps of up to two seconds.
    let step = match nanoseconds {
        0 => Duration::from_secs(2),
        _ => Duration::ZERO,
    };
    let age = SystemTime::now().duration_since(changed);
    age.map_or(true, |age| age < DEBOUNCE * 2 + step)
}

/// The time of the last change: the change time where there is one, because programs cannot set it.
fn changed(data: &Metadata) -> Option<(SystemTime, u32)> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let seconds = Duration::from_secs(data.ctime().try_into().ok()?);
        let nanoseconds: u32 = data.ctime_nsec().try_into().ok()?;
        let since = seconds + Duration::from_nanos(nanoseconds.into());
        Some((SystemTime::UNIX_EPOCH.checked_add(since)?, nanoseconds))
    }
    #[cfg(not(unix))]
    {
        let changed = data.modified().ok()?;
        let since = changed.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        Some((changed, since.subsec_nanos()))
    }
}

/// Whether a file that is missing at the start may have been removed a moment ago, to be created again.
pub(crate) fn may_appear(path: &Path, begun: Instant) -> bool {
    begun.elapsed() < DEBOUNCE * 2 && path.parent().is_some_and(is_directory_recent)
}

/// Whether names were added to a directory or removed from it moments ago.
pub(crate) fn is_directory_recent(dir: &Path) -> bool {
    std::fs::metadata(dir).is_ok_and(|data| data.is_dir() && recent(&data))
}

/// Whether a text has only white space and a byte order mark.
pub(crate) fn is_blank(bytes: &[u8]) -> bool {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    bytes.trim_ascii().is_empty()
}

/// Whether a document has no value: the text was empty, had only comments, or was cut before the
/// first value. `server: null` counts as a value: it hides one of a lower layer.
pub(crate) fn is_void(document: &Document) -> bool {
    fn void(table: &Table) -> bool {
        table.map().iter().all(|entry| match &entry.node {
            Node::Table(table) => void(table),
            _ => false,
        })
    }
    void(document.root())
}

/// The problem of a file that had values and has none now.
pub(crate) fn emptied(origin: &Origin) -> Error {
    let detail = "the file became empty: it has no value any more; its last values stay until it \
                  has one again (`allow_empty` accepts a file without values)";
    Error::new(ErrorKind::Malformed, detail).with_origin(origin)
}

/// Reports a document without values: its file lost them if the properties have some of it.
pub(crate) fn report_void(document: &mut Document, origin: &Origin) {
    if is_void(document) {
        document.report_emptied(origin, emptied(origin));
    }
}

/// The problem of a file that was written to during the whole of a first load.
pub(crate) fn restless(origin: &Origin) -> Error {
    let detail = format!(
        "the file kept changing for {LOAD_TIMEOUT:?}, so its content may be incomplete; expected two \
         equal readings {DEBOUNCE:?} apart; write a new file and rename it onto the name"
    );
    Error::new(ErrorKind::Unavailable, detail).with_origin(origin)
}
