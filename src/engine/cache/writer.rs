//! Writes the files of the sources, one after the other.

use std::cell::RefCell;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use crate::engine::cache::{TextSyntax, age, encoding, file, is_secret};
use crate::engine::core::Engine;
use crate::error::{Error, ErrorKind};
use crate::sync::lock::{Condvar, Mutex};
use crate::tree::layer::SourceId;
use crate::value::Value;
use crate::value::key::Key;
use crate::value::node::Table;

/// Changes that come shortly after each other are written together.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// The shortest time from one write to the next: at most five a second.
const PAUSE: Duration = Duration::from_millis(200);
/// The longest, where a write takes long.
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// How old the time of confirmation on disk may grow while a source answers and nothing is new.
pub(super) const FRESH: Duration = if cfg!(test) {
    Duration::from_millis(500)
} else {
    Duration::from_secs(60)
};
/// How long to wait after a failure, and at most after several.
const RETRY: Duration = Duration::from_millis(500);
const MAX_RETRY: Duration = Duration::from_secs(30);

/// At most so many keys that are left out by a guess are listed.
const MAX_GUESSED: usize = 100;

/// The files to write.
#[derive(Default)]
pub(super) struct WriterQueue {
    state: Mutex<QueueState>,
    /// Notified when there is something to write.
    work: Condvar,
}

#[derive(Default)]
struct QueueState {
    files: Vec<SourceFile>,
    /// Whether a secret was found after the roll-back was written.
    rewrites_roll_back: bool,
    is_running: bool,
    has_ended: bool,
    /// Nothing is written before this.
    next: Option<Instant>,
}

/// The file of one source.
pub(super) struct SourceFile {
    pub(super) header: Header,
    /// Since when there is something to write.
    dirty_since: Option<Instant>,
    /// The number of changes, so that one during a write is noticed.
    changes: u64,
    retry: Option<Retry>,
}

/// The data that is written besides the values.
#[derive(Clone)]
pub(super) struct Header {
    source: SourceId,
    owner: Arc<str>,
    with_secrets: bool,
    syntax: TextSyntax,
    /// When the source last answered, and the revision that it named.
    pub(super) confirmed: SystemTime,
    pub(super) revision: Option<Arc<str>>,
    /// The secrets that the restored values lack.
    pub(super) missing_secrets: Arc<[Key]>,
    /// The state of the file on disk.
    written: Option<Written>,
}

#[derive(Clone, Copy)]
struct Written {
    digest: u64,
    confirmed: SystemTime,
}

/// When to retry after failed writes.
struct Retry {
    at: Instant,
    failures: u32,
}

enum Work {
    /// Write the file of a source, as of this many changes.
    Source(Header, u64),
    /// Write the roll-back again, since it contains a value that is a secret by now.
    RollBack,
}

impl Header {
    pub(super) fn new(
        source: SourceId,
        owner: Arc<str>,
        with_secrets: bool,
        syntax: TextSyntax,
    ) -> Self {
        Self {
            source,
            owner,
            with_secrets,
            syntax,
            confirmed: SystemTime::UNIX_EPOCH,
            revision: None,
            missing_secrets: Arc::default(),
            written: None,
        }
    }

    pub(super) fn is_written_long_ago(&self) -> bool {
        self.written
            .is_some_and(|written| age(written.confirmed) >= FRESH)
    }

    /// Writes the values in force. Returns the state of the file on disk.
    fn write(&self, dir: &file::StateDir, engine: &Engine) -> Result<Option<Written>, String> {
        let Some((root, restored)) = layer(engine, self.source) else {
            // The source has no layer yet, or was removed.
            return Ok(self.written);
        };
        // Restored values keep their time of confirmation.
        let confirmed = restored.unwrap_or(self.confirmed);
        let (body, guessed) = self.encode(engine, &root, restored.is_some());
        engine
            .health_registry
            .set_guessed_secrets(self.source, guessed);
        // This may be its last owner.
        drop(root);
        let revision = self.revision.as_deref();
        let digest = file::digest(&body) ^ file::digest(revision.unwrap_or_default().as_bytes());
        if let Some(written) = self.written {
            let since = confirmed.duration_since(written.confirmed);
            let is_fresh = since.is_ok_and(|since| since < FRESH);
            if written.digest == digest && is_fresh {
                return Ok(self.written);
            }
        }
        let file = encoding::file(&self.owner, confirmed, self.syntax, revision, &body);
        dir.write(&file::file_name(&self.owner), &file)?;
        Ok(Some(Written { digest, confirmed }))
    }

    /// The values as bytes, and the keys that are left out by a guess.
    fn encode(&self, engine: &Engine, root: &Table, is_restored: bool) -> (Vec<u8>, Vec<Key>) {
        let guessed = RefCell::new(Vec::new());
        let is_hidden = |key: &str, value: &Value| {
            let is_hidden = !self.with_secrets && is_secret(engine, key, value);
            if is_hidden && !engine.rules.secrets.is_known(key) {
                let mut guessed = guessed.borrow_mut();
                if guessed.len() < MAX_GUESSED {
                    guessed.extend(Key::parse(key).ok());
                }
            }
            is_hidden
        };
        // While a part of the source is restored, its secrets are still missing.
        let lacks_some = is_restored || engine.health_registry.check_whole(self.source).is_err();
        let is_absent = |key: &&Key| root.find(key.segments()).is_none();
        let absent: Vec<Key> = if lacks_some {
            self.missing_secrets
                .iter()
                .filter(is_absent)
                .cloned()
                .collect()
        } else {
            Vec::new()
        };
        let body = encoding::body(root, &absent, &is_hidden);
        (body, guessed.into_inner())
    }
}

impl SourceFile {
    pub(super) fn new(header: Header) -> Self {
        Self {
            header,
            dirty_since: None,
            changes: 0,
            retry: None,
        }
    }

    pub(super) fn mark_dirty(&mut self) {
        self.changes += 1;
        self.dirty_since.get_or_insert_with(Instant::now);
    }

    /// When it is to be written.
    fn due(&self) -> Option<Instant> {
        let due = self.dirty_since? + DEBOUNCE;
        Some(self.retry.as_ref().map_or(due, |retry| retry.at.max(due)))
    }

    /// Schedules another attempt after a failed one.
    fn retry_after(&mut self, now: Instant) {
        let failures = self.retry.as_ref().map_or(0, |retry| retry.failures);
        let pause = RETRY * 2u32.saturating_pow(failures.min(10));
        self.retry = Some(Retry {
            at: now + pause.min(MAX_RETRY),
            failures: failures + 1,
        });
    }
}

impl WriterQueue {
    /// Adds a file, unless there is one of the same name.
    pub(super) fn add(&self, file: SourceFile) -> bool {
        let mut state = self.state.lock();
        let owner = &file.header.owner;
        if state.files.iter().any(|other| other.header.owner == *owner) {
            return false;
        }
        state.files.push(file);
        true
    }

    pub(super) fn remove(&self, source: SourceId) {
        let mut state = self.state.lock();
        state.files.retain(|file| file.header.source != source);
    }

    pub(super) fn edit(&self, source: SourceId, change: impl FnOnce(&mut SourceFile)) {
        let mut state = self.state.lock();
        let mut files = state.files.iter_mut();
        if let Some(file) = files.find(|file| file.header.source == source) {
            let was_dirty = file.dirty_since.is_some();
            change(file);
            if file.dirty_since.is_some() && !was_dirty {
                self.work.notify_all();
            }
        }
    }

    /// Whether the caller has to start the thread.
    pub(super) fn begin(&self) -> bool {
        let mut state = self.state.lock();
        if state.is_running || state.has_ended {
            return false;
        }
        state.is_running = true;
        true
    }

    pub(super) fn set_not_running(&self) {
        self.state.lock().is_running = false;
    }

    /// Has the thread write all changed files, and end.
    pub(super) fn end(&self) {
        self.state.lock().has_ended = true;
        self.work.notify_all();
    }

    /// Has files be written again, since there are more secrets than before.
    pub(super) fn rewrite_without_secrets(&self) {
        let mut state = self.state.lock();
        let files = state.files.iter_mut();
        files
            .filter(|file| !file.header.with_secrets)
            .for_each(SourceFile::mark_dirty);
        state.rewrites_roll_back = true;
        self.work.notify_all();
    }

    /// Waits for something to write and writes it. Returns whether to go on.
    pub(super) fn write_next(&self, dir: &file::StateDir, engine: &Weak<Engine>) -> bool {
        let Some(work) = self.next() else {
            return false;
        };
        let Some(engine) = engine.upgrade() else {
            return false;
        };
        match work {
            Work::Source(header, changes) => self.write_source(dir, &engine, &header, changes),
            Work::RollBack => rewrite_roll_back(&engine),
        }
        true
    }

    fn write_source(&self, dir: &file::StateDir, engine: &Engine, header: &Header, changes: u64) {
        let generation = engine.current.load().number();
        let began = Instant::now();
        let outcome = header.write(dir, engine);
        let now = Instant::now();
        let failure = outcome.as_ref().err().map(|cause| {
            let detail = format!(
                "its values cannot be cached in {}; retrying: {cause}",
                dir.path.display()
            );
            Error::new(ErrorKind::Unavailable, detail).with_source_name(&header.owner)
        });
        {
            let mut state = self.state.lock();
            // Comparing costs time too, so the pause follows even if nothing was written.
            state.next = Some(began + ((now - began) * 3).clamp(PAUSE, MAX_PAUSE));
            let has_ended = state.has_ended;
            let mut files = state.files.iter_mut();
            if let Some(file) = files.find(|file| file.header.source == header.source) {
                match outcome {
                    Ok(written) => {
                        (file.header.written, file.retry) = (written, None);
                        // Changes that came meanwhile are written next.
                        file.dirty_since = (file.changes != changes).then_some(began);
                    }
                    Err(_) => {
                        file.retry_after(now);
                        // At the end there is one attempt.
                        if has_ended {
                            file.dirty_since = None;
                        }
                    }
                }
            }
        }
        engine
            .health_registry
            .set_cache_failure(header.source, generation, failure);
    }

    /// Waits for the next thing to write; `None` at the end.
    fn next(&self) -> Option<Work> {
        let mut state = self.state.lock();
        loop {
            if std::mem::take(&mut state.rewrites_roll_back) {
                return Some(Work::RollBack);
            }
            let next = state.next;
            let due = |file: &SourceFile| {
                let due = file.due()?;
                Some(next.map_or(due, |next| next.max(due)))
            };
            // The file that has waited longest comes first.
            let first = state
                .files
                .iter()
                .filter_map(|file| Some((due(file)?, file.dirty_since, file)))
                .min_by_key(|(due, dirty_since, _)| (*due, *dirty_since));
            match first {
                Some((due, _, file)) if state.has_ended || due <= Instant::now() => {
                    return Some(Work::Source(file.header.clone(), file.changes));
                }
                None if state.has_ended => return None,
                Some((due, ..)) => {
                    let _ = self.work.wait_until(&mut state, due);
                }
                None => self.work.wait(&mut state),
            }
        }
    }
}

fn rewrite_roll_back(engine: &Engine) {
    // Without a roll-back in force, its file stays: it may be damaged, or rejected by this start only.
    let current = engine.current.load();
    if current.stamp.pinned.is_none() {
        return;
    }
    let generation = current.number();
    drop(current);
    if let Err(error) = engine.cache.write_roll_back(engine) {
        engine.health_registry.note(generation, error);
    }
}

/// The layer of a source, and when it was confirmed if it was restored.
fn layer(engine: &Engine, source: SourceId) -> Option<(Table, Option<SystemTime>)> {
    let current = engine.current.full();
    let layer = current.layers.iter().find(|layer| layer.id == source)?;
    Some((layer.root.clone(), layer.restored))
}
