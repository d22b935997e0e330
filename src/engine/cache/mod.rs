//! The last good values on disk, so that a program can start while a store is down: a file a source,
//! written by one thread.
//!
//! The written values are those of the generation in force at that time, so they were accepted. A value
//! that is replaced before the next write is never written. A failed write is retried later; nothing waits
//! for it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use crate::engine::cache::writer::{Header, SourceFile, WriterQueue};
use crate::engine::core::Engine;
use crate::engine::threads::Threads;
use crate::error::{Error, ErrorKind};
use crate::source::Cached;
use crate::sync::lock::Mutex;
use crate::tree::layer::SourceId;
use crate::value::Value;
use crate::value::units;

mod encoding;
mod file;
mod rollback;
#[cfg(test)]
mod tests;
mod writer;

pub(crate) use encoding::{Restored, TextSyntax};
pub(crate) use rollback::EarlierPin;

/// The caches of all sources of one engine.
#[derive(Default)]
pub(crate) struct Cache {
    dir: OnceLock<file::StateDir>,
    /// Whether this run has written the file of the roll-back, or found it at the start. Locked while the
    /// file is written.
    owns_roll_back: Mutex<bool>,
    queue: Arc<WriterQueue>,
    threads: Threads,
}

/// Why no values were restored.
#[derive(Clone, Debug)]
pub(crate) enum NotRestored {
    /// There is no file.
    Missing(Error),
    /// There is a file that cannot be used.
    Unusable(Error),
}

impl NotRestored {
    pub(crate) fn into_reason(self) -> Error {
        match self {
            NotRestored::Missing(reason) | NotRestored::Unusable(reason) => reason,
        }
    }
}

impl Cache {
    /// Keeps state in a directory from now on.
    pub(crate) fn open(&self, dir: PathBuf) {
        let dir = std::path::absolute(&dir).unwrap_or(dir);
        self.dir.get_or_init(|| file::StateDir::open(dir));
    }

    /// Whether there is a directory. Every commit calls this.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.dir.get().is_some()
    }

    /// Caches a source from now on, and restores its values.
    ///
    /// The outer error is why it cannot be cached at all, the inner one why nothing can be restored.
    pub(crate) fn add(
        &self,
        engine: &Engine,
        source: SourceId,
        owner: &Arc<str>,
        cached: &Cached,
        syntax: TextSyntax,
    ) -> Result<Result<Restored, NotRestored>, Error> {
        let reject =
            |detail: &str| Error::new(ErrorKind::InvalidConfig, detail).with_source_name(owner);
        let Some(file::StateDir { path: dir, .. }) = self.dir.get() else {
            let detail = "a cached source needs `Builder::state_dir`";
            return Err(reject(detail));
        };
        let header = Header::new(source, Arc::clone(owner), cached.secrets, syntax);
        if !self.queue.add(SourceFile::new(header)) {
            let detail =
                "two cached sources have this name and would share a file; give one another name";
            return Err(reject(detail));
        }
        self.run(engine).map_err(|cause| {
            self.remove(source);
            let detail = format!("no thread can be started for the cache: {cause}");
            Error::new(ErrorKind::Unavailable, detail).with_source_name(owner)
        })?;
        let restored = restore(dir, owner, cached, syntax);
        if let Ok(restored) = &restored {
            self.queue.edit(source, |file| {
                file.header.confirmed = restored.confirmed;
                file.header.revision.clone_from(&restored.revision);
                file.header.missing_secrets = restored.missing_secrets.clone().into();
            });
        }
        Ok(restored)
    }

    pub(crate) fn remove(&self, source: SourceId) {
        self.queue.remove(source);
    }

    /// Records that an update of a source is in force. An update that keeps earlier values does not
    /// confirm those.
    pub(crate) fn record_update(
        &self,
        source: SourceId,
        revision: Option<Arc<str>>,
        keeps_values: bool,
    ) {
        self.queue.edit(source, |file| {
            if !keeps_values {
                file.header.confirmed = SystemTime::now();
            }
            if revision.is_some() {
                file.header.revision = revision;
            }
            file.mark_dirty();
        });
    }

    /// Records that a source answers without a change.
    pub(crate) fn record_heartbeat(&self, source: SourceId) {
        self.queue.edit(source, |file| {
            file.header.confirmed = SystemTime::now();
            // Before the first values there is nothing to confirm.
            if file.header.is_written_long_ago() {
                file.mark_dirty();
            }
        });
    }

    fn run(&self, engine: &Engine) -> std::io::Result<()> {
        let Some(dir) = self.dir.get().cloned() else {
            return Ok(());
        };
        if !self.queue.begin() {
            return Ok(());
        }
        let queue = Arc::clone(&self.queue);
        let weak = engine.weak();
        let run = move || while queue.write_next(&dir, &weak) {};
        self.threads
            .spawn("liveprops-cache", run)
            .inspect_err(|_| self.queue.set_not_running())?;
        let queue = Arc::downgrade(&self.queue);
        // A value that turns out to be a secret must not stay on disk.
        engine.rules.secrets.on_new_key(move |_| {
            if let Some(queue) = queue.upgrade() {
                queue.rewrite_without_secrets();
            }
        });
        Ok(())
    }

    /// Has the thread write all changed files, and end.
    pub(crate) fn stop(&self) {
        self.queue.end();
    }

    /// Waits for the thread, at the longest until `until`.
    pub(crate) fn join(&self, until: Instant) {
        self.threads.join(until);
    }
}

/// Reads the file of a source.
fn restore(
    dir: &Path,
    owner: &Arc<str>,
    cached: &Cached,
    syntax: TextSyntax,
) -> Result<Restored, NotRestored> {
    let path = file::path(dir, owner);
    let unusable = |reason: String| {
        let detail = format!("the cache file {} is {reason}", path.display());
        NotRestored::Unusable(Error::new(ErrorKind::Malformed, detail).with_source_name(owner))
    };
    let bytes = file::read(&path).map_err(unusable)?.ok_or_else(|| {
        let detail = format!("no values are cached in {} yet", dir.display());
        NotRestored::Missing(Error::new(ErrorKind::NotFound, detail).with_source_name(owner))
    })?;
    let restored = encoding::read(&bytes, owner).map_err(unusable)?;
    if restored.syntax != syntax && restored.root.has_reference_syntax() {
        return Err(unusable(of_other_syntax(restored.syntax)));
    }
    let age = age(restored.confirmed);
    match cached.max_age {
        Some(max_age) if age > max_age => Err(unusable(format!(
            "{} old, and {} is the most that `Cached::max_age` allows",
            units::roughly(age),
            units::roughly(max_age)
        ))),
        _ => Ok(restored),
    }
}

/// The reason why a file whose texts have another syntax cannot be used. Some formats have texts without
/// references of their own, so the texts cannot be converted.
fn of_other_syntax(syntax: TextSyntax) -> String {
    let (then, now) = match syntax {
        TextSyntax::References => ("began a reference", "text"),
        TextSyntax::Literal => ("was text", "the beginning of a reference"),
    };
    format!(
        "of other settings: `${{` {then} when it was written and is {now} now, see \
         `Policy::without_references`"
    )
}

/// How long ago that was by the wall clock.
pub(crate) fn age(time: SystemTime) -> Duration {
    time.elapsed().unwrap_or_default()
}

fn is_secret(engine: &Engine, key: &str, value: &Value) -> bool {
    engine.rules.secrets.hides_value(key, value)
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("dir", &self.dir.get().map(|dir| &dir.path))
            .finish_non_exhaustive()
    }
}
