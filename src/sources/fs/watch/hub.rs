//! One watcher of the operating system for all files and directories of a `Properties`.
//!
//! Directories are known by identity, not by path: the same one may be reached by two paths, and
//! two may stand at the same path one after the other.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use crate::sync::lock::Mutex;
use notify::event::{AccessKind, AccessMode, Event, EventKind, ModifyKind, RenameMode};
use notify::{RecursiveMode, Watcher};

use crate::sources::fs::watch::chain::{DirId, Interest, Reach};
use crate::sources::fs::watch::mailbox::{Mailbox, Shift, Sign};

type Boxed = Box<dyn Watcher + Send>;
type Make = Box<dyn Fn(Handler) -> notify::Result<Boxed> + Send + Sync>;

/// How old a watch may become before it is made again. An unmount ends watches without an event, and
/// the same device mounted once more looks like the one before. Where a watch is alive,
/// inotify answers with the same one; other systems would stop and start theirs.
const REFRESH: Duration = Duration::from_secs(1);

/// How long the end of the watcher's thread is waited for.
const PARTING: Duration = Duration::from_millis(250);

/// The watcher and who follows what.
pub(crate) struct SharedWatcher {
    make: Make,
    /// Held while the watcher is told something, which waits for its thread. That thread calls the
    /// handler, so the handler must never need this lock; it takes only that of the routes.
    engine: Mutex<Option<Engine>>,
    routes: Arc<Mutex<Routes>>,
}

struct Engine {
    watcher: Boxed,
    /// Closed when the watcher's thread has let go of its handler.
    gone: Receiver<()>,
}

#[derive(Default)]
struct Routes {
    dirs: HashMap<DirId, Route>,
    /// Under which path each watch was made: events come with it in front.
    paths: HashMap<PathBuf, DirId>,
}

/// One directory and those who care.
struct Route {
    /// Where the watch was made; `None` when there is none that works.
    armed: Option<PathBuf>,
    /// Whether the watch must be made again, because events were lost.
    doubtful: bool,
    /// When the watch was made.
    made_at: Instant,
    followers: Vec<(Arc<Mailbox>, Interest)>,
}

/// What [`SharedWatcher::follow`] could do.
#[derive(Debug, Default)]
pub(crate) struct Followed {
    /// Whether a watch was made, so that what happened just before it went unseen.
    pub(crate) armed: bool,
    /// Why there are no events, or not all.
    pub(crate) failure: Option<String>,
}

impl SharedWatcher {
    pub(crate) fn new() -> Self {
        Self::with(|handler| {
            // Links are followed hop by hop, by us.
            let config = notify::Config::default().with_follow_symlinks(false);
            Ok(Box::new(notify::RecommendedWatcher::new(handler, config)?))
        })
    }

    /// A hub over another kind of watcher, such as one that fails.
    pub(crate) fn with(
        make: impl Fn(Handler) -> notify::Result<Boxed> + Send + Sync + 'static,
    ) -> Self {
        Self {
            make: Box::new(make),
            engine: Mutex::default(),
            routes: Arc::default(),
        }
    }

    /// Has events of the directories of `reach`, and of no others, put into `mailbox`.
    pub(crate) fn follow(&self, mailbox: &Arc<Mailbox>, reach: &Reach) -> Followed {
        let mut followed = Followed::default();
        let mut engine = self.engine.lock();
        if engine.is_none() {
            match self.start() {
                Ok(started) => *engine = Some(started),
                Err(error) => {
                    followed.failure = Some(plain(&error));
                    return followed;
                }
            }
        }
        let Some(Engine { watcher, .. }) = &mut *engine else {
            return followed;
        };
        let idle = self.routes.lock().reroute(mailbox, reach);
        for path in idle {
            // It may be gone by itself already.
            let _ = watcher.unwatch(&path);
        }
        for (path, interest) in &reach.dirs {
            let id = &interest.id;
            let Some(old) = self.routes.lock().prepare(path, id) else {
                continue;
            };
            if let Some(old) = old {
                let _ = watcher.unwatch(&old);
            }
            if let Err(error) = watcher.watch(path, RecursiveMode::NonRecursive) {
                self.routes.lock().disarm(id);
                if !passing(&error) {
                    followed.failure = Some(plain(&error));
                }
            } else if DirId::at(path).as_ref() != Some(id) {
                // Another one took its place meanwhile, and that is the one watched now. The
                // caller looks again and finds it.
                self.routes.lock().disarm(id);
                let _ = watcher.unwatch(path);
                followed.armed = true;
            } else {
                followed.armed = true;
            }
        }
        followed
    }

    /// Returns when the events of what happened before the call are in the mailboxes. The watcher's
    /// thread handles events and requests in the order of their arrival, so it answers a request
    /// after the events before it. This request does nothing: no watch has an empty path.
    pub(crate) fn await_events(&self) {
        if let Some(Engine { watcher, .. }) = &mut *self.engine.lock() {
            let _ = watcher.unwatch(Path::new(""));
        }
    }

    /// Stops events for a mailbox.
    pub(crate) fn leave(&self, mailbox: &Arc<Mailbox>) {
        let mut engine = self.engine.lock();
        let idle = self.routes.lock().reroute(mailbox, &Reach::default());
        if let Some(Engine { watcher, .. }) = &mut *engine {
            for path in idle {
                let _ = watcher.unwatch(&path);
            }
        }
    }

    /// Keeps the handler from getting anywhere while the result lives.
    #[cfg(test)]
    pub(crate) fn stall(&self) -> impl Sized + '_ {
        self.routes.lock()
    }

    /// Alive as long as the hub or its watcher's thread.
    #[cfg(test)]
    pub(crate) fn pulse(&self) -> std::sync::Weak<dyn Send + Sync> {
        let routes: Arc<dyn Send + Sync> = Arc::clone(&self.routes) as _;
        Arc::downgrade(&routes)
    }

    fn start(&self) -> notify::Result<Engine> {
        let (alive, gone) = channel();
        let handler = Handler {
            routes: Arc::clone(&self.routes),
            _alive: alive,
        };
        let watcher = (self.make)(handler)?;
        Ok(Engine { watcher, gone })
    }
}

impl Drop for SharedWatcher {
    /// Waits until the watcher's thread is through: it does not join it itself.
    fn drop(&mut self) {
        if let Some(Engine { watcher, gone }) = self.engine.get_mut().take() {
            drop(watcher);
            let _ = gone.recv_timeout(PARTING);
        }
    }
}

impl std::fmt::Debug for SharedWatcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let routes = self.routes.lock();
        f.debug_struct("SharedWatcher")
            .field("directories", &routes.paths.keys())
            .finish()
    }
}

/// The reason in words.
fn plain(error: &notify::Error) -> String {
    match &error.kind {
        notify::ErrorKind::MaxFilesWatch => "the limit of file watches is reached".to_owned(),
        notify::ErrorKind::Io(error) => error.to_string(),
        _ => error.to_string(),
    }
}

/// Whether a directory just cannot be watched, which polling makes up for: it is gone again, or
/// may be passed through but not read.
fn passing(error: &notify::Error) -> bool {
    match &error.kind {
        notify::ErrorKind::PathNotFound => true,
        notify::ErrorKind::Io(error) => matches!(
            error.kind(),
            std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied
        ),
        _ => false,
    }
}

impl Routes {
    /// Notes what a mailbox cares for now; returns the watches nobody needs any more.
    fn reroute(&mut self, mailbox: &Arc<Mailbox>, reach: &Reach) -> Vec<PathBuf> {
        for route in self.dirs.values_mut() {
            route
                .followers
                .retain(|(who, _)| !Arc::ptr_eq(who, mailbox));
        }
        for interest in reach.dirs.values() {
            let route = self.dirs.entry(interest.id.clone()).or_insert(Route {
                armed: None,
                doubtful: false,
                made_at: Instant::now(),
                followers: Vec::new(),
            });
            route
                .followers
                .push((Arc::clone(mailbox), interest.clone()));
        }
        let mut idle = Vec::new();
        let paths = &mut self.paths;
        self.dirs.retain(|id, route| {
            if !route.followers.is_empty() {
                return true;
            }
            if let Some(path) = route.armed.take() {
                if paths.get(&path) == Some(id) {
                    paths.remove(&path);
                    idle.push(path);
                }
            }
            false
        });
        idle
    }

    /// Whether a directory needs a watch, and the path whose watch has to go before. It counts as
    /// armed from here on: a watch that dies while it is being made must not be taken for alive.
    fn prepare(&mut self, path: &Path, id: &DirId) -> Option<Option<PathBuf>> {
        let route = self.dirs.get_mut(id)?;
        let doubtful = std::mem::take(&mut route.doubtful);
        let aged = cfg!(target_os = "linux") && route.made_at.elapsed() >= REFRESH;
        if let Some(armed) = &route.armed {
            // By another path it would be a new watch, with a gap between the two.
            let renewed = aged && armed == path;
            if !doubtful && !renewed {
                return None;
            }
            if armed == path {
                route.made_at = Instant::now();
                // The same directory at the same path: watching it once more leaves no gap.
                return Some(None);
            }
        }
        let before = route.armed.replace(path.to_path_buf());
        route.made_at = Instant::now();
        if let Some(before) = &before {
            self.paths.remove(before);
        }
        let other = self.paths.insert(path.to_path_buf(), id.clone());
        if let Some(other) = other.filter(|other| other != id) {
            // The watch on what stood here before goes; whoever still follows it finds it again.
            if let Some(route) = self.dirs.get_mut(&other) {
                route.armed = None;
                route.followers.iter().for_each(|(who, _)| who.rearm(false));
            }
        }
        Some(Some(before.unwrap_or_else(|| path.to_path_buf())))
    }

    fn disarm(&mut self, id: &DirId) {
        if let Some(path) = self.dirs.get_mut(id).and_then(|route| route.armed.take()) {
            self.paths.remove(&path);
        }
    }

    /// A directory was removed or moved away: the watcher drops its watch and those below.
    fn bury(&mut self, path: &Path) {
        let dead: Vec<DirId> = self
            .paths
            .iter()
            .filter(|(watched, _)| watched.starts_with(path))
            .map(|(_, id)| id.clone())
            .collect();
        for id in dead {
            self.disarm(&id);
            if let Some(route) = self.dirs.get(&id) {
                for (who, interest) in &route.followers {
                    who.rearm(false);
                    who.post(&interest.all(), Sign::Gone, Shift::Way);
                }
            }
        }
    }

    fn post(&self, path: &Path, sign: Sign, moved: bool) {
        let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
            return;
        };
        let Some(route) = self.paths.get(dir).and_then(|id| self.dirs.get(id)) else {
            return;
        };
        for (who, interest) in &route.followers {
            let (tags, last) = interest.tags(name);
            let shift = match (moved, last) {
                (false, _) => Shift::None,
                (true, true) => Shift::End,
                (true, false) => Shift::Way,
            };
            who.post(&tags, sign, shift);
        }
    }

    fn rescan(&mut self) {
        for route in self.dirs.values_mut() {
            route.doubtful = true;
            route.followers.iter().for_each(|(who, _)| who.rearm(true));
        }
    }
}

/// Takes events on the watcher's thread and passes them on.
pub(crate) struct Handler {
    routes: Arc<Mutex<Routes>>,
    _alive: Sender<()>,
}

impl notify::EventHandler for Handler {
    fn handle_event(&mut self, event: notify::Result<Event>) {
        let mut routes = self.routes.lock();
        let event = match event {
            Ok(event) if !event.need_rescan() => event,
            _ => return routes.rescan(),
        };
        let (sign, moved, gone) = match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => (Sign::Closed, false, false),
            // Reading makes these: to act on them is to go round in circles.
            EventKind::Access(_) => return,
            // Both halves came before, each for itself.
            EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => return,
            EventKind::Modify(ModifyKind::Name(RenameMode::From)) => (Sign::Gone, true, true),
            EventKind::Modify(ModifyKind::Name(RenameMode::To)) => (Sign::Whole, true, false),
            // Some systems do not report which of the two names this is: that proves nothing.
            EventKind::Modify(ModifyKind::Name(_)) => (Sign::Gone, true, false),
            EventKind::Modify(ModifyKind::Metadata(_)) => (Sign::Touched, true, false),
            EventKind::Create(_) => (Sign::Written, true, false),
            EventKind::Remove(_) => (Sign::Gone, true, true),
            _ => (Sign::Written, false, false),
        };
        for path in &event.paths {
            routes.post(path, sign, moved);
            if gone {
                routes.bury(path);
            }
        }
    }
}
