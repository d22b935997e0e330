//! When content is accepted.
//!
//! A file that was renamed onto its name is complete, and only an event proves a rename: a new
//! inode may as well have been created and be half written. All other content is read twice,
//! [`QUIET`] apart, and both readings must be equal, with no sign of a write in between. So is an
//! empty file, even a renamed one: a truncation shows before its event and its time stamps.
//!
//! Two bounds keep a busy file from starving:
//!
//! - [`CALM`]: readings that stay equal for this long are accepted, whatever happens to the file
//!   meanwhile. So time stamps, permissions and writes of equal bytes delay a change and no more.
//! - [`PATIENCE`]: a writer whose pauses are all shorter than [`QUIET`] is read when it closes the
//!   file, and nothing may happen to the file for [`ECHO`] afterwards.

use std::time::{Duration, Instant};

use crate::sources::fs::watch::mailbox::Writing;
use crate::sources::fs::watch::read::{Content, Stamp};

/// The debounce time: how far apart two equal readings are at least.
pub(crate) const QUIET: Duration = Duration::from_millis(30);

/// How long a writer that never pauses is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_millis(750);

/// How long after a write its event may still arrive; above the 4 ms at which some kernels step
/// the time stamps of files. The first reading comes this long after the last event.
pub(crate) const ECHO: Duration = Duration::from_millis(5);

/// How long content stays equal before events and time stamps no longer count.
pub(crate) const CALM: Duration = Duration::from_millis(300);

/// How long a first load waits for content that it can accept; below the default timeout of a load.
pub(crate) const LOAD_BOUND: Duration = Duration::from_secs(3);

/// A file that changed and whose content is not accepted yet.
#[derive(Debug)]
pub(crate) struct Suspect {
    /// The first sign of the change.
    pub(crate) first: Instant,
    /// The newest sign that bytes are written.
    pub(crate) last: Instant,
    /// Whether that sign was a writer closing the file.
    pub(crate) closed: bool,
    /// When to read it next.
    next: Instant,
    reading: Option<Reading>,
}

/// Whether content may be accepted that is read without events: it is old, or was read twice.
/// `suspect` is what the readings before found.
pub(crate) fn is_accepted(
    suspect: &mut Option<Suspect>,
    digest: u64,
    content: &Content,
    begun: Instant,
) -> bool {
    if !content.may_be_incomplete() {
        return true;
    }
    let ended = Instant::now();
    let suspect = suspect.get_or_insert_with(|| Suspect::found(begun));
    let finding = suspect.compare(digest, &content.stamp, content.torn, begun, ended);
    finding != Finding::Incomplete
}

/// The content that the newest reading found.
#[derive(Debug)]
struct Reading {
    digest: u64,
    stamp: Stamp,
    /// When the first of the equal readings in a row ended.
    equal_since: Instant,
    /// When the first of those ended that nothing came between.
    undisturbed_since: Instant,
    /// Whether the file was written to during this reading or since.
    disturbed: bool,
}

/// What one more reading shows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Finding {
    /// Read twice with the debounce time between.
    Complete,
    /// Equal for so long that events no longer count.
    Calm,
    /// Written without a pause, and closed just now.
    Closed,
    /// Not accepted yet.
    Incomplete,
}

impl Suspect {
    /// A file that is being written.
    pub(crate) fn written(writing: Writing) -> Self {
        Self {
            first: writing.first,
            last: writing.last,
            closed: writing.closed,
            next: writing.last + ECHO,
            reading: None,
        }
    }

    /// A file whose time stamps or permissions changed: nothing more was announced.
    pub(crate) fn touched(now: Instant) -> Self {
        Self {
            next: now + QUIET,
            ..Self::found(now)
        }
    }

    /// A file that changed without any event.
    pub(crate) fn found(now: Instant) -> Self {
        Self {
            first: now,
            last: now,
            closed: false,
            next: now,
            reading: None,
        }
    }

    /// When to read it next.
    pub(crate) fn due(&self) -> Instant {
        self.next
    }

    /// Notes that bytes were written.
    pub(crate) fn note_write(&mut self, writing: Writing) {
        self.last = writing.last;
        self.closed = writing.closed;
        if let Some(reading) = &mut self.reading {
            reading.disturbed = true;
        }
        // A flood of events must not put the next reading off.
        let newest = self.reading.as_ref().map(|it| it.undisturbed_since);
        let latest = newest.unwrap_or(self.first) + QUIET;
        self.next = latest.min(self.last + ECHO);
        if self.closed {
            let patience = self.first + PATIENCE;
            self.next = self.next.min(self.last.max(patience));
        }
    }

    /// Forgets what was read: the file is another one now, or has changed since.
    pub(crate) fn restart(&mut self, now: Instant) {
        self.reading = None;
        self.closed = false;
        self.last = now;
        self.next = now;
    }

    /// Compares a reading with the one before. It lasted from `begun` to `ended`, and is `torn` if the
    /// file changed meanwhile.
    pub(crate) fn compare(
        &mut self,
        digest: u64,
        stamp: &Stamp,
        torn: bool,
        begun: Instant,
        ended: Instant,
    ) -> Finding {
        let mut reading = Reading {
            digest,
            stamp: stamp.clone(),
            equal_since: ended,
            undisturbed_since: ended,
            disturbed: torn,
        };
        if let Some(old) = self.reading.take().filter(|old| old.digest == digest) {
            if begun.saturating_duration_since(old.equal_since) >= CALM {
                return Finding::Calm;
            }
            reading.equal_since = old.equal_since;
            if !old.disturbed && !torn && old.stamp == *stamp {
                if begun.saturating_duration_since(old.undisturbed_since) >= QUIET {
                    return Finding::Complete;
                }
                reading.undisturbed_since = old.undisturbed_since;
            }
        }
        self.next = reading.undisturbed_since + QUIET;
        self.reading = Some(reading);
        if self.closed && !torn && begun >= self.first + PATIENCE {
            Finding::Closed
        } else {
            Finding::Incomplete
        }
    }
}
