//! Collects events of the operating system until the source's thread reads them.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::time::Instant;

use crate::sync::lock::{Condvar, Mutex};

/// What an event concerns: a fragment of a directory by its name, or everything if it is empty.
pub(crate) type Tag = OsString;

/// The kind of an event.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum FileEvent {
    /// A complete file was renamed onto the name.
    Replaced,
    /// The file was removed. A later one was created, and may be incomplete.
    Removed,
    /// Bytes are being written.
    Written,
    /// A writer closed the file.
    Closed,
    /// Only permissions or time stamps changed.
    Touched,
}

/// Whether an event may have changed where a path leads.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum PathChange {
    #[default]
    None,
    /// Only if its last name is a link or a directory now.
    LastName,
    Ancestor,
}

/// The combined events of one tag.
#[derive(Clone, Copy, Debug)]
pub(crate) enum FileState {
    /// A complete file was renamed onto the name, and not written to since.
    Replaced,
    /// The file was removed; a later one is not known.
    Removed,
    /// Only permissions or time stamps changed.
    Touched,
    Written(Writing),
}

/// A file that is being written in place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Writing {
    pub(crate) first: Instant,
    pub(crate) last: Instant,
    /// Whether the last event was a writer closing it.
    pub(crate) closed: bool,
}

/// The events since the last read.
#[derive(Debug, Default)]
pub(crate) struct Events {
    pub(crate) files: HashMap<Tag, FileState>,
    /// Whether other directories may have to be watched.
    pub(crate) path_change: PathChange,
    /// Events may have been lost, or a watch has died.
    pub(crate) rearm: bool,
    /// Anything may have changed.
    pub(crate) rescan: bool,
    pub(crate) stopped: bool,
}

impl Events {
    fn any(&self) -> bool {
        !self.files.is_empty()
            || self.path_change != PathChange::None
            || self.rearm
            || self.rescan
            || self.stopped
    }

    fn drain(&mut self) -> Self {
        // A stop is for ever, also for later readers.
        let stopped = self.stopped;
        let rest = Self {
            stopped,
            ..Self::default()
        };
        std::mem::replace(self, rest)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    events: Mutex<Events>,
    changed: Condvar,
}

impl Mailbox {
    /// Adds one event for all its tags. A reader sees it for all of them or for none.
    pub(crate) fn post(&self, tags: &[&OsStr], event: FileEvent, path_change: PathChange) {
        if tags.is_empty() {
            return;
        }
        let now = Instant::now();
        let mut events = self.events.lock();
        events.path_change = events.path_change.max(path_change);
        for tag in tags {
            let state = combine(events.files.get(*tag), event, now);
            events.files.insert(tag.to_os_string(), state);
        }
        // The woken thread needs the lock.
        drop(events);
        self.changed.notify_all();
    }

    /// Has the watches made again, and with `rescan` everything read.
    pub(crate) fn rearm(&self, rescan: bool) {
        let mut events = self.events.lock();
        events.rearm = true;
        events.rescan |= rescan;
        self.changed.notify_all();
    }

    pub(crate) fn stop(&self) {
        self.events.lock().stopped = true;
        self.changed.notify_all();
    }

    /// Waits for events until `deadline`, and removes and returns them.
    pub(crate) fn wait(&self, deadline: Instant) -> Events {
        let mut events = self.events.lock();
        while !events.any() {
            if self.changed.wait_until(&mut events, deadline) {
                break;
            }
        }
        events.drain()
    }

    /// Removes and returns the events.
    pub(crate) fn drain(&self) -> Events {
        self.events.lock().drain()
    }
}

/// The state of a tag after one more event.
fn combine(before: Option<&FileState>, event: FileEvent, now: Instant) -> FileState {
    let closed = match (event, before) {
        (FileEvent::Replaced, _) => return FileState::Replaced,
        (FileEvent::Removed, _) => return FileState::Removed,
        // Permissions and time stamps are no content.
        (FileEvent::Touched, before) => return before.copied().unwrap_or(FileState::Touched),
        // A writer that renames a file before closing it has written all of it.
        (FileEvent::Closed, Some(FileState::Replaced)) => return FileState::Replaced,
        (FileEvent::Closed, _) => true,
        (FileEvent::Written, _) => false,
    };
    let first = match before {
        Some(FileState::Written(writing)) => writing.first,
        _ => now,
    };
    FileState::Written(Writing {
        first,
        last: now,
        closed,
    })
}
