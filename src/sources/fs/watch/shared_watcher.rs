//! One watcher of the operating system for all files and directories of a `Properties`.
//!
//! Directories are identified by number, not by path: two paths may lead to one directory, and a path may lead to
//! two directories one after the other.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use crate::sync::lock::Mutex;
use notify::event::{AccessKind, AccessMode, Event, EventKind, ModifyKind, RenameMode};
use notify::{RecursiveMode, Watcher};

use crate::sources::fs::watch::chain::{DirId, Interest, Reach};
use crate::sources::fs::watch::mailbox::{FileEvent, Mailbox, PathChange};

type Boxed = Box<dyn Watcher + Send>;
type Make = Box<dyn Fn(Handler) -> notify::Result<Boxed> + Send + Sync>;

/// The age at which a watch is made again. An unmount ends watches without an event, and a device that is
/// mounted again looks like the one before. inotify keeps a living watch then; other systems would stop and
/// start theirs.
const MAX_WATCH_AGE: Duration = Duration::from_secs(1);

/// How long the drop waits for the end of the watcher's thread.
const END_TIMEOUT: Duration = Duration::from_millis(250);

/// The watcher, and the followers of each directory.
pub(crate) struct SharedWatcher {
    make: Make,
    /// Locked during a request to the watcher, which waits for its thread. That thread calls the handler, so
    /// the handler must never lock this; it locks only the routes.
    engine: Mutex<Option<Engine>>,
    routes: Arc<Mutex<Routes>>,
}

struct Engine {
    watcher: Boxed,
    /// Closed when the watcher's thread has dropped its handler.
    ended: Receiver<()>,
}

#[derive(Default)]
struct Routes {
    dirs: HashMap<DirId, Route>,
    /// The path with which each watch was made; the paths of its events begin with it.
    paths: HashMap<PathBuf, DirId>,
}

/// One directory and its followers.
struct Route {
    /// The path with which the watch was made; `None` where none works.
    watched: Option<PathBuf>,
    /// Whether events were lost, so that the watch has to be made again.
    has_lost_events: bool,
    /// When the watch was made.
    made_at: Instant,
    followers: Vec<(Arc<Mailbox>, Interest)>,
}

/// The result of [`SharedWatcher::follow`].
#[derive(Debug, Default)]
pub(crate) struct Followed {
    /// Whether a watch was made, so that changes just before it had no event.
    pub(crate) has_new_watch: bool,
    /// Why there are no events, or not all.
    pub(crate) failure: Option<String>,
}

impl SharedWatcher {
    pub(crate) fn new() -> Self {
        Self::with(|handler| {
            // `chain` follows the links.
            let config = notify::Config::default().with_follow_symlinks(false);
            Ok(Box::new(notify::RecommendedWatcher::new(handler, config)?))
        })
    }

    /// Creates one over another kind of watcher, such as one that fails.
    pub(crate) fn with(
        make: impl Fn(Handler) -> notify::Result<Boxed> + Send + Sync + 'static,
    ) -> Self {
        Self {
            make: Box::new(make),
            engine: Mutex::default(),
            routes: Arc::default(),
        }
    }

    /// Posts the events of the directories of `reach`, and of no others, to `mailbox`.
    pub(crate) fn follow(&self, mailbox: &Arc<Mailbox>, reach: &Reach) -> Followed {
        let mut followed = Followed::default();
        let mut engine = self.engine.lock();
        if engine.is_none() {
            match self.start() {
                Ok(started) => *engine = Some(started),
                Err(error) => {
                    followed.failure = Some(describe(&error));
                    return followed;
                }
            }
        }
        let Some(Engine { watcher, .. }) = &mut *engine else {
            return followed;
        };
        let idle = self.routes.lock().reroute(mailbox, reach);
        for path in idle {
            // The watch may have ended already.
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
                self.routes.lock().remove_watch(id);
                if !is_made_up_by_polling(&error) {
                    followed.failure = Some(describe(&error));
                }
            } else if DirId::at(path).as_ref() != Some(id) {
                // Another directory has this path now, and is watched. The caller finds it by another scan.
                self.routes.lock().remove_watch(id);
                let _ = watcher.unwatch(path);
                followed.has_new_watch = true;
            } else {
                followed.has_new_watch = true;
            }
        }
        followed
    }

    /// Returns when the events of all changes before the call are in the mailboxes. The watcher's
    /// thread handles events and requests in the order of their arrival, so it answers a request
    /// after the events before it. This request has no effect: no watch has an empty path.
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

    /// Blocks the handler while the result lives.
    #[cfg(test)]
    pub(crate) fn stall(&self) -> impl Sized + '_ {
        self.routes.lock()
    }

    /// Alive as long as this or the watcher's thread.
    #[cfg(test)]
    pub(crate) fn pulse(&self) -> std::sync::Weak<dyn Send + Sync> {
        let routes: Arc<dyn Send + Sync> = Arc::clone(&self.routes) as _;
        Arc::downgrade(&routes)
    }

    fn start(&self) -> notify::Result<Engine> {
        let (alive, ended) = channel();
        let handler = Handler {
            routes: Arc::clone(&self.routes),
            _alive: alive,
        };
        let watcher = (self.make)(handler)?;
        Ok(Engine { watcher, ended })
    }
}

impl Drop for SharedWatcher {
    /// Waits for the end of the watcher's thread, which the watcher does not join.
    fn drop(&mut self) {
        if let Some(Engine { watcher, ended }) = self.engine.get_mut().take() {
            drop(watcher);
            let _ = ended.recv_timeout(END_TIMEOUT);
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

/// The reason of a failure, for a message.
fn describe(error: &notify::Error) -> String {
    match &error.kind {
        notify::ErrorKind::MaxFilesWatch => "the limit of file watches is reached".to_owned(),
        notify::ErrorKind::Io(error) => error.to_string(),
        _ => error.to_string(),
    }
}

/// Whether polling makes up for a directory that cannot be watched: it was removed, or may be traversed but not
/// read.
fn is_made_up_by_polling(error: &notify::Error) -> bool {
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
    /// Replaces the directories of a mailbox; returns the watches without a follower.
    fn reroute(&mut self, mailbox: &Arc<Mailbox>, reach: &Reach) -> Vec<PathBuf> {
        for route in self.dirs.values_mut() {
            route
                .followers
                .retain(|(other, _)| !Arc::ptr_eq(other, mailbox));
        }
        for interest in reach.dirs.values() {
            let route = self.dirs.entry(interest.id.clone()).or_insert(Route {
                watched: None,
                has_lost_events: false,
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
            if let Some(path) = route.watched.take() {
                if paths.get(&path) == Some(id) {
                    paths.remove(&path);
                    idle.push(path);
                }
            }
            false
        });
        idle
    }

    /// Whether a directory needs a watch, and the path whose watch has to be removed before. It counts as
    /// watched from here on, so that a watch that ends while it is made is noticed.
    fn prepare(&mut self, path: &Path, id: &DirId) -> Option<Option<PathBuf>> {
        let route = self.dirs.get_mut(id)?;
        let has_lost_events = std::mem::take(&mut route.has_lost_events);
        let is_old = cfg!(target_os = "linux") && route.made_at.elapsed() >= MAX_WATCH_AGE;
        if let Some(watched) = &route.watched {
            // A watch by another path would be a new one, with a gap between the two.
            let is_renewed = is_old && watched == path;
            if !has_lost_events && !is_renewed {
                return None;
            }
            if watched == path {
                route.made_at = Instant::now();
                // A watch of the same directory by the same path leaves no gap.
                return Some(None);
            }
        }
        let before = route.watched.replace(path.to_path_buf());
        route.made_at = Instant::now();
        if let Some(before) = &before {
            self.paths.remove(before);
        }
        let other = self.paths.insert(path.to_path_buf(), id.clone());
        if let Some(other) = other.filter(|other| other != id) {
            // The watch of the directory that had this path before ends; its followers find it again.
            if let Some(route) = self.dirs.get_mut(&other) {
                route.watched = None;
                route
                    .followers
                    .iter()
                    .for_each(|(mailbox, _)| mailbox.rearm(false));
            }
        }
        Some(Some(before.unwrap_or_else(|| path.to_path_buf())))
    }

    fn remove_watch(&mut self, id: &DirId) {
        if let Some(path) = self.dirs.get_mut(id).and_then(|route| route.watched.take()) {
            self.paths.remove(&path);
        }
    }

    /// Handles the removal or move of a directory: the watcher drops its watch and those below.
    fn handle_removed_directory(&mut self, path: &Path) {
        let removed: Vec<DirId> = self
            .paths
            .iter()
            .filter(|(watched, _)| watched.starts_with(path))
            .map(|(_, id)| id.clone())
            .collect();
        for id in removed {
            self.remove_watch(&id);
            if let Some(route) = self.dirs.get(&id) {
                for (mailbox, interest) in &route.followers {
                    mailbox.rearm(false);
                    mailbox.post(&interest.all(), FileEvent::Removed, PathChange::Ancestor);
                }
            }
        }
    }

    fn post(&self, path: &Path, event: FileEvent, is_path_change: bool) {
        let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
            return;
        };
        let Some(route) = self.paths.get(dir).and_then(|id| self.dirs.get(id)) else {
            return;
        };
        for (mailbox, interest) in &route.followers {
            let (tags, is_last) = interest.tags(name);
            let path_change = match (is_path_change, is_last) {
                (false, _) => PathChange::None,
                (true, true) => PathChange::LastName,
                (true, false) => PathChange::Ancestor,
            };
            mailbox.post(&tags, event, path_change);
        }
    }

    fn rescan(&mut self) {
        for route in self.dirs.values_mut() {
            route.has_lost_events = true;
            route
                .followers
                .iter()
                .for_each(|(mailbox, _)| mailbox.rearm(true));
        }
    }
}

/// Receives events on the watcher's thread and posts them.
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
        let (file_event, is_path_change, is_removal) = match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => {
                (FileEvent::Closed, false, false)
            }
            // Reads cause these events, and the source reads after each event.
            EventKind::Access(_) => return,
            // An event for each half has arrived before.
            EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => return,
            EventKind::Modify(ModifyKind::Name(RenameMode::From)) => {
                (FileEvent::Removed, true, true)
            }
            EventKind::Modify(ModifyKind::Name(RenameMode::To)) => {
                (FileEvent::Replaced, true, false)
            }
            // Some systems do not report which of the two names this is: that proves nothing.
            EventKind::Modify(ModifyKind::Name(_)) => (FileEvent::Removed, true, false),
            EventKind::Modify(ModifyKind::Metadata(_)) => (FileEvent::Touched, true, false),
            EventKind::Create(_) => (FileEvent::Written, true, false),
            EventKind::Remove(_) => (FileEvent::Removed, true, true),
            _ => (FileEvent::Written, false, false),
        };
        for path in &event.paths {
            routes.post(path, file_event, is_path_change);
            if is_removal {
                routes.handle_removed_directory(path);
            }
        }
    }
}
