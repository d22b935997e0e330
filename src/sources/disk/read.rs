//! Reading a file that may be anything by now, and grow while it is read.

use std::fmt;
use std::fs::{Metadata, OpenOptions};
use std::hash::BuildHasher;
use std::io::{self, Read};
use std::path::Path;

use crate::error::{Error, ErrorKind};
use crate::format::MAX_DOCUMENT_BYTES;
use crate::value::origin::Origin;

/// What tells one state of a file from another without reading it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Stamp {
    #[cfg(unix)]
    numbers: [i64; 7],
    #[cfg(not(unix))]
    numbers: (u64, Option<std::time::SystemTime>),
}

impl Stamp {
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

    /// The stamp of what stands at a path now.
    pub(crate) fn at(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().map(|data| Self::of(&data))
    }
}

/// All bytes of a file, and its state when they were read.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) bytes: Vec<u8>,
    pub(crate) stamp: Stamp,
    /// Whether it changed while it was read.
    pub(crate) torn: bool,
    /// Whether somebody wrote to it moments ago.
    pub(crate) recent: bool,
}

/// Why a file could not be read.
#[derive(Debug)]
pub(crate) enum Fault {
    Missing,
    Io(io::Error),
    Kind(&'static str),
    Large,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Missing => f.write_str("the file does not exist"),
            Fault::Io(error) => write!(f, "cannot be read: {error}"),
            Fault::Kind(kind) => write!(f, "not a regular file but {kind}"),
            Fault::Large => write!(f, "larger than {MAX_DOCUMENT_BYTES} bytes"),
        }
    }
}

impl Fault {
    pub(crate) fn of(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Fault::Missing,
            _ => Fault::Io(error),
        }
    }

    pub(crate) fn error(&self, origin: &Origin) -> Error {
        let kind = match self {
            Fault::Large => ErrorKind::TooLarge,
            _ => ErrorKind::Unavailable,
        };
        Error::new(kind, self.to_string()).with_origin(origin)
    }
}

/// Reads a whole file, up to the limit of a document. Never waits for a pipe or a device.
pub(crate) fn read(path: &Path) -> Result<Content, Fault> {
    // Looked at before it is opened too: opening a device may already do something.
    regular(&std::fs::metadata(path).map_err(Fault::of)?)?;
    read_regular(path)
}

/// Reads a file that was a regular one a moment ago.
pub(crate) fn read_regular(path: &Path) -> Result<Content, Fault> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC);
    }
    let file = options.open(path).map_err(Fault::of)?;
    let data = file.metadata().map_err(Fault::Io)?;
    regular(&data)?;
    let limit = MAX_DOCUMENT_BYTES as u64;
    if data.len() > limit {
        return Err(Fault::Large);
    }
    // The size is only a hint: it is 0 for all of /proc, and a file may grow.
    let mut bytes = Vec::with_capacity(data.len() as usize + 1);
    (&file)
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(Fault::Io)?;
    if bytes.len() as u64 > limit {
        return Err(Fault::Large);
    }
    let stamp = Stamp::of(&data);
    let after = file.metadata().map_err(Fault::Io)?;
    Ok(Content {
        bytes,
        torn: Stamp::of(&after) != stamp,
        recent: recent(&after),
        stamp,
    })
}

fn regular(data: &Metadata) -> Result<(), Fault> {
    if data.is_file() {
        return Ok(());
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        let kind = data.file_type();
        if kind.is_fifo() {
            return Err(Fault::Kind("a pipe"));
        }
        if kind.is_socket() {
            return Err(Fault::Kind("a socket"));
        }
        if kind.is_char_device() || kind.is_block_device() {
            return Err(Fault::Kind("a device"));
        }
    }
    Err(Fault::Kind(if data.is_dir() {
        "a directory"
    } else {
        "something else"
    }))
}

/// Whether the last write is so young that more of it may follow. A clock that was set back makes
/// it look old or to come: then events and the next look must do.
fn recent(data: &Metadata) -> bool {
    let age = data.modified().ok().and_then(|time| time.elapsed().ok());
    age.is_some_and(|age| age < super::follow::QUIET * 2)
}

/// Whether there is nothing in there but white space and a byte order mark.
pub(crate) fn blank(bytes: &[u8]) -> bool {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    bytes.trim_ascii().is_empty()
}

/// A number that stands for content. It differs between processes, so nobody can craft two
/// contents that look the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Digest(foldhash::quality::RandomState);

impl Digest {
    pub(crate) fn of(&self, content: impl std::hash::Hash) -> u64 {
        self.0.hash_one(content)
    }
}
