//! The last good values on disk: a file a source, written by one thread, so that a program can start
//! while a store is down.
//!
//! What is written is taken from the generation in force when it is written, so it was accepted, and
//! what was replaced before its turn came is never written. A file that cannot be written is tried
//! again later; nothing waits for it.

use std::cell::RefCell;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant, SystemTime};

use crate::sync::lock::{Condvar, Mutex};

use crate::engine::core::Engine;
use crate::engine::threads::Threads;
use crate::error::{Error, ErrorKind};
use crate::source::Cached;
use crate::tree::layer::SourceId;
use crate::value::Value;
use crate::value::key::Key;
use crate::value::node::Table;
use crate::value::units;

mod encoding;
mod file;
mod rollback;
#[cfg(test)]
mod tests;

pub(crate) use encoding::{Form, Kept};
pub(crate) use rollback::Before;

/// What comes shortly after a change is written with it.
const SETTLE: Duration = Duration::from_millis(50);
/// The shortest time from one write to the next: at most five a second.
const PAUSE: Duration = Duration::from_millis(200);
/// The longest, where a write takes long.
const LONG_PAUSE: Duration = Duration::from_secs(1);
/// How old the time of confirmation on disk may grow while a source answers and nothing is new.
const FRESH: Duration = match cfg!(test) {
    false => Duration::from_secs(60),
    true => Duration::from_millis(500),
};
/// How long to wait after a failure, and at most after several.
const RETRY: Duration = Duration::from_millis(500);
const MAX_RETRY: Duration = Duration::from_secs(30);

/// So many keys that are left out by a guess are listed.
const MAX_GUESSED: usize = 100;

/// The caches of all sources of one engine.
#[derive(Default)]
pub(crate) struct Cache {
    dir: OnceLock<file::StateDir>,
    /// Whether the file of the roll-back is of this run, or was there when it began. Held while that
    /// is brought up to date.
    rollback: Mutex<bool>,
    shared: Arc<Shared>,
    threads: Threads,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    bell: Condvar,
}

#[derive(Default)]
struct State {
    files: Vec<Tended>,
    /// There are more secrets than when the roll-back was written.
    rollback: bool,
    running: bool,
    ended: bool,
    /// Nothing is written before this.
    next: Option<Instant>,
}

/// The file of one source.
struct Tended {
    source: SourceId,
    owner: Arc<str>,
    with_secrets: bool,
    form: Form,
    /// When the source last answered, and the revision that it named.
    confirmed: SystemTime,
    revision: Option<Arc<str>>,
    /// The secrets that what was read from disk is without.
    left_out: Arc<[Key]>,
    /// Since when there is something to write, and what tells whether more came meanwhile.
    dirty: Option<Instant>,
    marks: u64,
    /// What is on disk.
    written: Option<Written>,
    failures: u32,
    retry: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Written {
    hash: u64,
    confirmed: SystemTime,
}

/// What there is to do.
enum Work {
    Source(Job),
    /// The roll-back holds what is a secret by now.
    Rollback,
}

/// The values of a source to write.
struct Job {
    source: SourceId,
    owner: Arc<str>,
    with_secrets: bool,
    form: Form,
    confirmed: SystemTime,
    revision: Option<Arc<str>>,
    left_out: Arc<[Key]>,
    marks: u64,
    written: Option<Written>,
}

impl Cache {
    /// Keeps state in a directory from now on.
    pub(crate) fn open(&self, dir: PathBuf) {
        let dir = std::path::absolute(&dir).unwrap_or(dir);
        self.dir.get_or_init(|| file::StateDir::open(dir));
    }

    /// Whether there is a place to keep anything: every commit asks.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.dir.get().is_some()
    }

    /// Keeps a source from now on, and reads what was kept of it before.
    ///
    /// The outer error is why it cannot be kept at all, the inner one why nothing can be had from
    /// before.
    pub(crate) fn add(
        &self,
        engine: &Engine,
        source: SourceId,
        owner: &Arc<str>,
        cached: &Cached,
        form: Form,
    ) -> Result<Result<Kept, Unkept>, Error> {
        let refuse =
            |detail: &str| Error::new(ErrorKind::InvalidConfig, detail).with_source_name(owner);
        let Some(file::StateDir { path: dir, .. }) = self.dir.get() else {
            let detail = "is to be kept on disk, and `Builder::state_dir` does not say where";
            return Err(refuse(detail));
        };
        {
            let mut state = self.shared.state.lock();
            if state.files.iter().any(|file| file.owner == *owner) {
                let detail = "is to be kept on disk twice, and both would have the same file";
                return Err(refuse(detail));
            }
            state.files.push(Tended {
                source,
                owner: Arc::clone(owner),
                with_secrets: cached.secrets,
                form,
                confirmed: SystemTime::UNIX_EPOCH,
                revision: None,
                left_out: Arc::default(),
                dirty: None,
                marks: 0,
                written: None,
                failures: 0,
                retry: None,
            });
        }
        self.run(engine).map_err(|cause| {
            self.remove(source);
            let detail = format!("no thread can be started to keep it: {cause}");
            Error::new(ErrorKind::Unavailable, detail).with_source_name(owner)
        })?;
        let path = file::path(dir, owner);
        let unusable = |reason: String| {
            let detail = format!("what was kept of it in {} is {reason}", path.display());
            Unkept::Unusable(Error::new(ErrorKind::Malformed, detail).with_source_name(owner))
        };
        let read = || {
            let bytes = file::read(&path).map_err(unusable)?.ok_or_else(|| {
                let detail = format!("nothing was kept of it in {} yet", dir.display());
                Unkept::Missing(Error::new(ErrorKind::NotFound, detail).with_source_name(owner))
            })?;
            let kept = encoding::read(&bytes, owner).map_err(unusable)?;
            if kept.form != form && kept.root.has_reference_syntax() {
                return Err(unusable(of_other_form(kept.form)));
            }
            let age = age(kept.confirmed);
            match cached.max_age {
                Some(most) if age > most => Err(unusable(format!(
                    "{} old, and {} is the most that `Cached::max_age` allows",
                    units::roughly(age),
                    units::roughly(most)
                ))),
                _ => Ok(kept),
            }
        };
        let kept = read();
        if let Ok(kept) = &kept {
            self.shared.edit(source, |file| {
                file.confirmed = kept.confirmed;
                file.revision.clone_from(&kept.revision);
                file.left_out = kept.left_out.clone().into();
            });
        }
        Ok(kept)
    }

    pub(crate) fn remove(&self, source: SourceId) {
        self.shared
            .state
            .lock()
            .files
            .retain(|file| file.source != source);
    }

    /// The source said something that is in force now.
    pub(crate) fn heard(&self, source: SourceId, revision: Option<Arc<str>>) {
        self.shared.edit(source, |file| {
            file.confirmed = SystemTime::now();
            if revision.is_some() {
                file.revision = revision;
            }
            file.mark();
        });
    }

    /// The source answered, and nothing is new.
    pub(crate) fn heartbeat(&self, source: SourceId) {
        self.shared.edit(source, |file| {
            file.confirmed = SystemTime::now();
            // Before the first values there is nothing to confirm.
            if file
                .written
                .is_some_and(|written| age(written.confirmed) >= FRESH)
            {
                file.mark();
            }
        });
    }

    fn run(&self, engine: &Engine) -> std::io::Result<()> {
        let Some(dir) = self.dir.get().cloned() else {
            return Ok(());
        };
        {
            let mut state = self.shared.state.lock();
            if state.running || state.ended {
                return Ok(());
            }
            state.running = true;
        }
        let shared = Arc::clone(&self.shared);
        let engine_of = engine.weak();
        let run = move || while shared.step(&dir, &engine_of) {};
        self.threads
            .spawn("liveprops-cache", run)
            .inspect_err(|_| self.shared.state.lock().running = false)?;
        let shared = Arc::downgrade(&self.shared);
        // What turns out to be a secret must not stay on disk.
        engine.rules.secrets.when_more(move |_| {
            if let Some(shared) = shared.upgrade() {
                shared.hide();
            }
        });
        Ok(())
    }

    /// Has the thread write what is still to be written, and end.
    pub(crate) fn stop(&self) {
        self.shared.state.lock().ended = true;
        self.shared.bell.notify_all();
    }

    /// Waits for the thread, at the longest until `until`.
    pub(crate) fn join(&self, until: Instant) {
        self.threads.join(until);
    }
}

/// Why there are no values from before.
#[derive(Clone, Debug)]
pub(crate) enum Unkept {
    /// There is no file.
    Missing(Error),
    /// There is one that is not to be used.
    Unusable(Error),
}

/// Why a file cannot be used whose texts are of another form. A format may have its own texts without
/// references, so they cannot be converted.
fn of_other_form(form: Form) -> String {
    let (then, now) = match form {
        Form::References => ("began a reference", "text"),
        Form::Literal => ("was text", "the beginning of a reference"),
    };
    format!(
        "of other settings: `${{` {then} when it was written and is {now} now, see \
         `Policy::without_references`"
    )
}

/// How long ago that was, as far as the wall clock tells.
pub(crate) fn age(time: SystemTime) -> Duration {
    time.elapsed().unwrap_or_default()
}

impl Tended {
    fn mark(&mut self) {
        self.marks += 1;
        self.dirty.get_or_insert_with(Instant::now);
    }

    /// When it is to be written.
    fn due(&self) -> Option<Instant> {
        let due = self.dirty? + SETTLE;
        Some(self.retry.map_or(due, |retry| retry.max(due)))
    }
}

impl Shared {
    fn edit(&self, source: SourceId, change: impl FnOnce(&mut Tended)) {
        let mut state = self.state.lock();
        let file = state.files.iter_mut().find(|file| file.source == source);
        if let Some(file) = file {
            let waited = file.dirty.is_some();
            change(file);
            if file.dirty.is_some() && !waited {
                self.bell.notify_all();
            }
        }
    }

    /// There are more secrets than before.
    fn hide(&self) {
        let mut state = self.state.lock();
        for file in state.files.iter_mut().filter(|file| !file.with_secrets) {
            file.mark();
        }
        state.rollback = true;
        self.bell.notify_all();
    }

    /// Waits for something to write and writes it; says whether to go on.
    fn step(&self, dir: &file::StateDir, engine: &Weak<Engine>) -> bool {
        let Some(work) = self.next() else {
            return false;
        };
        let Some(engine) = engine.upgrade() else {
            return false;
        };
        let generation = engine.current.load().number();
        let job = match work {
            Work::Source(job) => job,
            Work::Rollback => {
                // Nothing else ends it: what is there may be damaged, or refused for now.
                if engine.current.load().stamp.pinned.is_none() {
                    return true;
                }
                if let Err(error) = engine.cache.keep_rollback(&engine) {
                    engine.health_registry.note(generation, error);
                }
                return true;
            }
        };
        let began = Instant::now();
        let outcome = job.run(dir, &engine);
        let now = Instant::now();
        let pause = ((now - began) * 3).clamp(PAUSE, LONG_PAUSE);
        let problem = outcome.as_ref().err().map(|cause| {
            let detail = format!(
                "its values cannot be kept in {}, which is tried again: {cause}",
                dir.path.display()
            );
            Error::new(ErrorKind::Unavailable, detail).with_source_name(&job.owner)
        });
        {
            let mut state = self.state.lock();
            // Nothing was written if nothing is new, and looking is not for free either.
            state.next = Some(began + pause);
            let ended = state.ended;
            let mut files = state.files.iter_mut();
            if let Some(file) = files.find(|file| file.source == job.source) {
                match outcome {
                    Ok(written) => {
                        (file.written, file.failures, file.retry) = (written, 0, None);
                        // What came meanwhile is written next.
                        file.dirty = (file.marks != job.marks).then_some(began);
                    }
                    Err(_) => {
                        let pause = RETRY * 2u32.saturating_pow(file.failures.min(10));
                        file.failures += 1;
                        file.retry = Some(now + pause.min(MAX_RETRY));
                        // At the end it is tried once.
                        if ended {
                            file.dirty = None;
                        }
                    }
                }
            }
        }
        engine
            .health_registry
            .unkept(job.source, generation, problem);
        true
    }

    /// Waits for the next thing to write; `None` at the end.
    fn next(&self) -> Option<Work> {
        let mut state = self.state.lock();
        loop {
            if std::mem::take(&mut state.rollback) {
                return Some(Work::Rollback);
            }
            let next = state.next;
            let due = |file: &Tended| {
                let due = file.due()?;
                Some(next.map_or(due, |next| next.max(due)))
            };
            // What has waited longest comes first.
            let first = state
                .files
                .iter()
                .filter_map(|file| Some((due(file)?, file.dirty, file)))
                .min_by_key(|(due, dirty, _)| (*due, *dirty));
            match first {
                Some((due, _, file)) if state.ended || due <= Instant::now() => {
                    return Some(Work::Source(Job {
                        source: file.source,
                        owner: Arc::clone(&file.owner),
                        with_secrets: file.with_secrets,
                        form: file.form,
                        confirmed: file.confirmed,
                        revision: file.revision.clone(),
                        left_out: Arc::clone(&file.left_out),
                        marks: file.marks,
                        written: file.written,
                    }));
                }
                None if state.ended => return None,
                Some((due, ..)) => {
                    let _ = self.bell.wait_until(&mut state, due);
                }
                None => self.bell.wait(&mut state),
            }
        }
    }
}

impl Job {
    /// Writes what is in force; says what is on disk then.
    fn run(&self, dir: &file::StateDir, engine: &Engine) -> Result<Option<Written>, String> {
        let Some((root, kept)) = layer(engine, self.source) else {
            // Not in the tree, or not any more.
            return Ok(self.written);
        };
        // What was read from here is as old as it was.
        let confirmed = kept.unwrap_or(self.confirmed);
        let guessed = RefCell::new(Vec::new());
        let hidden = |key: &str, value: &Value| {
            let hidden = !self.with_secrets && is_secret(engine, key, value);
            if hidden && !engine.rules.secrets.is_known(key) {
                let mut guessed = guessed.borrow_mut();
                if guessed.len() < MAX_GUESSED {
                    guessed.extend(Key::parse(key).ok());
                }
            }
            hidden
        };
        // While a part of the source is as it was read from here, its secrets are still missing.
        let lacks_some = kept.is_some() || engine.health_registry.is_whole(self.source).is_err();
        let is_absent = |key: &&Key| root.find(key.segments()).is_none();
        let absent: Vec<Key> = if lacks_some {
            self.left_out.iter().filter(is_absent).cloned().collect()
        } else {
            Vec::new()
        };
        let body = encoding::body(&root, &absent, &hidden);
        engine
            .health_registry
            .left_out(self.source, guessed.into_inner());
        // It may be the last that holds it.
        drop(root);
        let revision = self.revision.as_deref();
        let hash = file::hash(&body) ^ file::hash(revision.unwrap_or_default().as_bytes());
        if let Some(written) = self.written {
            let since = confirmed.duration_since(written.confirmed);
            let fresh = since.is_ok_and(|since| since < FRESH);
            if written.hash == hash && fresh {
                return Ok(self.written);
            }
        }
        let file = encoding::file(&self.owner, confirmed, self.form, revision, &body);
        dir.write(&file::file_name(&self.owner), &file)?;
        Ok(Some(Written { hash, confirmed }))
    }
}

fn is_secret(engine: &Engine, key: &str, value: &Value) -> bool {
    engine.rules.secrets.hides_value(key, value)
}

/// What a source's layer holds now, and when that was confirmed if it was read from disk.
fn layer(engine: &Engine, source: SourceId) -> Option<(Table, Option<SystemTime>)> {
    let current = engine.current.full();
    let layer = current.layers.iter().find(|layer| layer.id == source)?;
    Some((layer.root.clone(), layer.kept))
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("dir", &self.dir.get().map(|dir| &dir.path))
            .finish_non_exhaustive()
    }
}
