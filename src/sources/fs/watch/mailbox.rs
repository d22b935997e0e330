//! What the operating system said, kept until the source's thread comes for it.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::time::Instant;

use crate::sync::lock::{Condvar, Mutex};

/// Whom an event concerns: the name of one fragment of a directory, or, when it is empty, all.
pub(crate) type Tag = OsString;

/// One event, as far as it matters.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Sign {
    /// Something complete was moved here.
    Whole,
    /// What was here is gone. What stands here later came otherwise, and may be incomplete.
    Gone,
    /// Bytes are being written.
    Written,
    /// A writer closed the file.
    Closed,
    /// Only permissions or time stamps changed.
    Touched,
}

/// Whether an event may have made a path lead elsewhere.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Shift {
    #[default]
    None,
    /// Only if what stands at its end now is a link or a directory.
    End,
    Way,
}

/// All events of one tag, oldest first, as one.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Note {
    /// Complete, and not written to since.
    Whole,
    /// Gone, and nothing is known of what stands there now.
    Gone,
    /// Only permissions or time stamps changed.
    Touched,
    Written(Writing),
}

/// A file that is being written in place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Writing {
    pub(crate) first: Instant,
    pub(crate) last: Instant,
    /// Whether the last that happened was a writer closing it.
    pub(crate) closed: bool,
}

/// What came since the last visit.
#[derive(Debug, Default)]
pub(crate) struct News {
    pub(crate) notes: HashMap<Tag, Note>,
    /// Whether the directories to watch may be others now.
    pub(crate) shift: Shift,
    /// Events may have been lost, or a watch has died.
    pub(crate) rearm: bool,
    /// Anything may have changed.
    pub(crate) rescan: bool,
    pub(crate) stopped: bool,
}

impl News {
    fn any(&self) -> bool {
        !self.notes.is_empty()
            || self.shift != Shift::None
            || self.rearm
            || self.rescan
            || self.stopped
    }

    fn taken(&mut self) -> Self {
        // A stop is for ever, whoever hears of it first.
        let stopped = self.stopped;
        let left = Self {
            stopped,
            ..Self::default()
        };
        std::mem::replace(self, left)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    news: Mutex<News>,
    bell: Condvar,
}

impl Mailbox {
    /// Puts one event in, for all it concerns at once: who takes the news sees all of it or none.
    pub(crate) fn post(&self, tags: &[&OsStr], sign: Sign, shift: Shift) {
        if tags.is_empty() {
            return;
        }
        let now = Instant::now();
        let mut news = self.news.lock();
        news.shift = news.shift.max(shift);
        for tag in tags {
            let note = next(news.notes.get(*tag), sign, now);
            news.notes.insert(tag.to_os_string(), note);
        }
        // Whoever is woken needs the lock.
        drop(news);
        self.bell.notify_all();
    }

    pub(crate) fn rearm(&self, rescan: bool) {
        let mut news = self.news.lock();
        news.rearm = true;
        news.rescan |= rescan;
        self.bell.notify_all();
    }

    pub(crate) fn stop(&self) {
        self.news.lock().stopped = true;
        self.bell.notify_all();
    }

    /// Waits for news until `deadline` and takes them.
    pub(crate) fn wait(&self, deadline: Instant) -> News {
        let mut news = self.news.lock();
        while !news.any() {
            if self.bell.wait_until(&mut news, deadline) {
                break;
            }
        }
        news.taken()
    }

    /// Takes what is there.
    pub(crate) fn take(&self) -> News {
        self.news.lock().taken()
    }
}

/// What is known of a tag after one more event.
fn next(before: Option<&Note>, sign: Sign, now: Instant) -> Note {
    let closed = match (sign, before) {
        (Sign::Whole, _) => return Note::Whole,
        (Sign::Gone, _) => return Note::Gone,
        // Permissions and time stamps are no content: what is known stays known.
        (Sign::Touched, before) => return before.copied().unwrap_or(Note::Touched),
        // Whoever renames a file before closing it has written all of it.
        (Sign::Closed, Some(Note::Whole)) => return Note::Whole,
        (Sign::Closed, _) => true,
        (Sign::Written, _) => false,
    };
    let first = match before {
        Some(Note::Written(writing)) => writing.first,
        _ => now,
    };
    Note::Written(Writing {
        first,
        last: now,
        closed,
    })
}
