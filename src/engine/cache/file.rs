//! The files of the caches: written aside and renamed, so that a file is whole or absent, and read
//! without following links.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::engine::cache::encoding::MAX_BYTES;
use crate::sync::random;

/// The prefix of the name of a file that is being written.
const ASIDE: &str = ".liveprops-";
const ASIDE_END: &str = ".tmp";
/// Nobody writes a file for as long as this.
const ABANDONED: Duration = Duration::from_secs(60);
/// How often a write is tried that loses its file to another process.
const ATTEMPTS: u32 = 3;
/// At most so much of a source's name is in that of its file.
const SLUG: usize = 40;

/// The name of a source's file: readable as far as that goes, and different for another source.
pub(super) fn file_name(owner: &str) -> String {
    let mut slug = String::new();
    for c in owner.chars() {
        if slug.len() >= SLUG {
            break;
        }
        if c.is_ascii_alphanumeric() {
            slug.push(c.to_ascii_lowercase());
        } else if !slug.ends_with('-') {
            slug.push('-');
        }
    }
    format!(
        "{}-{:016x}.cache",
        slug.trim_matches('-'),
        digest(owner.as_bytes())
    )
}

/// FNV-1a: the same in every process and every version.
pub(super) fn digest(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// The process that writes a file, as the name of the unfinished file shows it.
///
/// A number identifies a process in its own PID namespace only, and until the next boot. Two
/// containers that share a directory may both be process 1, so the name has the namespace as well.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Writer {
    /// The namespace and the boot; 0 where they are not known.
    pub(super) space: u64,
    pub(super) process: u32,
    /// Distinguishes this process from one that had its number before.
    pub(super) run: u64,
}

impl Writer {
    /// This process. Reads `/proc`, so a [`StateDir`] keeps the answer.
    pub(super) fn this() -> Self {
        static RUN: OnceLock<u64> = OnceLock::new();
        Self {
            space: space().unwrap_or_default(),
            process: std::process::id(),
            run: *RUN.get_or_init(random::number),
        }
    }

    pub(super) fn file_name(self, count: u64) -> String {
        let Self {
            space,
            process,
            run,
        } = self;
        format!("{ASIDE}{space:016x}-{process}-{run:016x}-{count}{ASIDE_END}")
    }

    fn of_file_name(name: &str) -> Option<Self> {
        let mut parts = name
            .strip_prefix(ASIDE)?
            .strip_suffix(ASIDE_END)?
            .split('-');
        let space = u64::from_str_radix(parts.next()?, 16).ok()?;
        let process = parts.next()?.parse().ok()?;
        let run = u64::from_str_radix(parts.next()?, 16).ok()?;
        parts.next()?;
        parts.next().is_none().then_some(Self {
            space,
            process,
            run,
        })
    }

    /// Whether this writer has certainly ended, as far as `this` process can know.
    fn has_ended(self, this: Self) -> bool {
        if self.space != this.space || this.space == 0 {
            return false;
        }
        if self.process == this.process {
            self.run != this.run
        } else {
            !Path::new("/proc").join(self.process.to_string()).exists()
        }
    }
}

/// The directory of the caches, and the process that writes there. A fork that opens it gets a `StateDir` of
/// its own, because its process number and its namespace may differ.
#[derive(Clone, Debug)]
pub(super) struct StateDir {
    pub(super) path: PathBuf,
    writer: Writer,
}

impl StateDir {
    /// Opens a directory, and removes unfinished files of writers that have ended.
    pub(super) fn open(path: PathBuf) -> Self {
        let writer = Writer::this();
        clean(&path, writer);
        Self { path, writer }
    }

    /// Writes a whole file and makes it durable.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), String> {
        if bytes.len() > MAX_BYTES {
            Err(format!("{} bytes are too many", bytes.len()))
        } else {
            self.put(name, bytes).map_err(|error| error.to_string())
        }
    }

    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        make(&self.path)?;
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.put_once(name, bytes) {
                // Another process used the name, or took this process for one that has ended.
                Err(error) if attempts < ATTEMPTS && is_taken(&error) && self.path.is_dir() => {}
                done => return done,
            }
        }
    }

    fn put_once(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        // A counter: its order with other memory does not matter.
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let aside = self.path.join(self.writer.file_name(count));
        let mut options = OpenOptions::new();
        // Never opens an existing file, nor follows a link.
        options.write(true).create_new(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt;
            options.mode(0o600);
        }
        let file = options.open(&aside)?;
        let written = fill(file, bytes).and_then(|()| fs::rename(&aside, self.path.join(name)));
        if let Err(error) = written {
            let _ = fs::remove_file(&aside);
            return Err(error);
        }
        sync_dir(&self.path)
    }
}

/// The PID namespace and the boot in which process numbers mean what `/proc` shows; `None` where
/// `/proc` is missing or shows another namespace.
fn space() -> Option<u64> {
    let shown = fs::read_link("/proc/self").ok()?;
    if shown.as_os_str() != std::process::id().to_string().as_str() {
        return None;
    }
    let mut text = fs::read("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = fs::read_link("/proc/self/ns/pid").ok()?;
    text.extend(namespace.as_os_str().as_encoded_bytes());
    Some(digest(&text))
}

/// Creates the directory for its user alone. An existing one keeps its mode.
pub(super) fn make(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    // From the outermost inwards; each name is made durable in its parent.
    let mut missing: Vec<&Path> = dir.ancestors().take_while(|dir| !dir.is_dir()).collect();
    while let Some(dir) = missing.pop() {
        let mut builder = DirBuilder::new();
        #[cfg(unix)]
        {
            use std::os::unix::fs::DirBuilderExt;
            builder.mode(0o700);
        }
        match builder.create(dir) {
            // Another process was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
            made => made?,
        }
        dir.parent().map_or(Ok(()), sync_dir)?;
    }
    Ok(())
}

/// Makes the names in a directory durable: it is a file as well.
fn sync_dir(dir: &Path) -> io::Result<()> {
    if !cfg!(unix) {
        return Ok(());
    }
    match File::open(dir)?.sync_all() {
        // Some file systems cannot sync a directory.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        done => done,
    }
}

/// Removes unfinished files of writers that have ended: at once where that is certain, and after
/// [`ABANDONED`] where it is not, as in another container. A writer that loses its file writes another.
fn clean(dir: &Path, this: Writer) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let is_unfinished = |name: &&str| name.starts_with(ASIDE) && name.ends_with(ASIDE_END);
        let Some(name) = name.to_str().filter(is_unfinished) else {
            continue;
        };
        // Does not follow a link.
        let Ok(data) = entry.metadata() else {
            continue;
        };
        let age = data.modified().ok().and_then(|time| time.elapsed().ok());
        let is_old = age.is_some_and(|age| age >= ABANDONED);
        let is_abandoned = match Writer::of_file_name(name) {
            Some(writer) if writer == this => false,
            Some(writer) => is_old || writer.has_ended(this) && is_own(&data),
            None => is_old,
        };
        if data.is_file() && is_abandoned {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Whether a file belongs to the user of this process: `/proc` may hide the processes of others.
fn is_own(data: &fs::Metadata) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        fs::metadata("/proc/self").is_ok_and(|own| own.uid() == data.uid())
    }
    #[cfg(not(unix))]
    {
        let _ = data;
        false
    }
}

fn is_taken(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound
    )
}

fn fill(mut file: File, bytes: &[u8]) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // The umask does not apply here.
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
    }
    file.write_all(bytes)?;
    file.sync_all()
}

/// Removes a file, if there is one, and makes that durable.
pub(super) fn remove(dir: &Path, name: &str) -> Result<(), String> {
    let removed = match fs::remove_file(dir.join(name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => sync_dir(dir),
    };
    removed.map_err(|error| error.to_string())
}

/// Reads a file; `None` if there is none.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, String> {
    let io = |error: io::Error| format!("unreadable: {error}");
    let data = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        data => data.map_err(io)?,
    };
    check(&data)?;
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // The file may have been replaced since the check.
        options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY);
    }
    let file = options.open(path).map_err(io)?;
    let data = file.metadata().map_err(io)?;
    check(&data)?;
    #[cfg(unix)]
    check_trust(&data)?;
    let mut bytes = Vec::new();
    let mut limited = file.take(MAX_BYTES as u64 + 1);
    limited.read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() > MAX_BYTES {
        Err(format!("larger than {MAX_BYTES} bytes"))
    } else {
        Ok(Some(bytes))
    }
}

fn check(data: &fs::Metadata) -> Result<(), String> {
    if !data.is_file() {
        Err("not a regular file".to_owned())
    } else if data.len() > MAX_BYTES as u64 {
        Err(format!("larger than {MAX_BYTES} bytes"))
    } else {
        Ok(())
    }
}

/// Rejects a file that somebody else may have written: a checksum is no signature.
#[cfg(unix)]
fn check_trust(data: &fs::Metadata) -> Result<(), String> {
    use std::os::unix::fs::MetadataExt;
    if data.mode() & 0o022 != 0 {
        return Err("writable by others than its owner".to_owned());
    }
    // Without `/proc`, only the mode is checked.
    let own = fs::metadata("/proc/self").map(|own| own.uid());
    if own.is_ok_and(|own| own != data.uid()) {
        Err(format!("owned by another user, {}", data.uid()))
    } else {
        Ok(())
    }
}

/// Where a source's file is.
pub(super) fn path(dir: &Path, owner: &str) -> PathBuf {
    dir.join(file_name(owner))
}
