//! The rule by which content is accepted.
//!
//! A file that was renamed onto its name is complete, and only an event proves a rename: a new
//! inode may as well have been created and be half written. All other content is read twice,
//! [`DEBOUNCE`] apart, and both readings must be equal, without a write in between. So is an
//! empty file, even a renamed one: a truncation is visible before its event and its time stamps.
//!
//! Two bounds keep a busy file from starving:
//!
//! - [`STABLE_TIME`]: readings that stay equal for this long are accepted, whatever happens to the file
//!   meanwhile. So time stamps, permissions and writes of equal bytes only delay a change.
//! - [`MAX_WRITE_WAIT`]: a writer whose pauses are all shorter than [`DEBOUNCE`] is read when it closes the
//!   file, and nothing may happen to the file for [`EVENT_DELAY`] afterwards.

use std::time::{Duration, Instant};

use crate::sources::fs::watch::mailbox::Writing;
use crate::sources::fs::watch::read::{Content, FileStamp};

/// The shortest time between two equal readings.
pub(crate) const DEBOUNCE: Duration = Duration::from_millis(30);

/// How long the source waits for a writer that never pauses.
pub(crate) const MAX_WRITE_WAIT: Duration = Duration::from_millis(750);

/// How long after a write its event may still arrive; above the 4 ms at which some kernels step
/// the time stamps of files. The first reading comes this long after the last event.
pub(crate) const EVENT_DELAY: Duration = Duration::from_millis(5);

/// How long content stays equal before events and time stamps no longer count.
pub(crate) const STABLE_TIME: Duration = Duration::from_millis(300);

/// How long a first load waits for content that it can accept; below the default timeout of a load.
pub(crate) const LOAD_TIMEOUT: Duration = Duration::from_secs(3);

/// A file that changed and whose content is not accepted yet.
#[derive(Debug)]
pub(crate) struct Suspect {
    /// The first event of the change.
    pub(crate) first: Instant,
    /// The newest event of a write.
    pub(crate) last: Instant,
    /// Whether that event was a writer closing the file.
    pub(crate) closed: bool,
    /// When to read it next.
    next: Instant,
    reading: Option<Reading>,
}

/// Whether content may be accepted that is read without events: it is old, or was read twice.
/// `suspect` is the state after the readings before.
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

/// The newest reading.
#[derive(Debug)]
struct Reading {
    digest: u64,
    stamp: FileStamp,
    /// When the first of the equal readings in a row ended.
    equal_since: Instant,
    /// When the first of the readings ended that had no write between them.
    undisturbed_since: Instant,
    /// Whether the file was written to during this reading or since.
    disturbed: bool,
}

/// The result of one more reading.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Finding {
    /// Read twice with the debounce time between.
    Complete,
    /// Equal for so long that events no longer count.
    Stable,
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
            next: writing.last + EVENT_DELAY,
            reading: None,
        }
    }

    /// A file whose time stamps or permissions changed, without another event.
    pub(crate) fn touched(now: Instant) -> Self {
        Self {
            next: now + DEBOUNCE,
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

    /// Records a write.
    pub(crate) fn record_write(&mut self, writing: Writing) {
        self.last = writing.last;
        self.closed = writing.closed;
        if let Some(reading) = &mut self.reading {
            reading.disturbed = true;
        }
        // A flood of events does not delay the next reading.
        let newest = self.reading.as_ref().map(|it| it.undisturbed_since);
        let latest = newest.unwrap_or(self.first) + DEBOUNCE;
        self.next = latest.min(self.last + EVENT_DELAY);
        if self.closed {
            let latest = self.first + MAX_WRITE_WAIT;
            self.next = self.next.min(self.last.max(latest));
        }
    }

    /// Drops the reading: the file is another one, or has changed since.
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
        stamp: &FileStamp,
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
            if begun.saturating_duration_since(old.equal_since) >= STABLE_TIME {
                return Finding::Stable;
            }
            reading.equal_since = old.equal_since;
            if !old.disturbed && !torn && old.stamp == *stamp {
                if begun.saturating_duration_since(old.undisturbed_since) >= DEBOUNCE {
                    return Finding::Complete;
                }
                reading.undisturbed_since = old.undisturbed_since;
            }
        }
        self.next = reading.undisturbed_since + DEBOUNCE;
        self.reading = Some(reading);
        if self.closed && !torn && begun >= self.first + MAX_WRITE_WAIT {
            Finding::Closed
        } else {
            Finding::Incomplete
        }
    }
}
