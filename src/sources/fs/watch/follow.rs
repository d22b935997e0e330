//! Follows a file or a directory: waits for events and polls, reads, and commits the content that the rule in
//! [`suspect`](super::suspect) accepts.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind};
use crate::source::{DEFAULT_TIMEOUT, SourceContext, Timing};
use crate::sources::fs::watch::chain::Reach;
use crate::sources::fs::watch::mailbox::{Events, FileState, Mailbox, PathChange, Tag};
use crate::sources::fs::watch::read::FileStamp;
use crate::sources::fs::watch::shared_watcher::SharedWatcher;
use crate::sources::fs::watch::suspect::{EVENT_DELAY, Finding, MAX_WRITE_WAIT, Suspect};

/// How long a change may be incomplete.
const MAX_DEBOUNCE: Duration = MAX_WRITE_WAIT.saturating_add(EVENT_DELAY);

/// The timing of a source that scans at this interval.
pub(crate) fn timing(interval: Duration) -> Timing {
    let timing = Timing::new()
        .debounce(MAX_DEBOUNCE)
        .rescan_interval(interval);
    // Each scan sends a heartbeat, unless the file system hangs.
    timing.heartbeat_timeout(interval.saturating_add(DEFAULT_TIMEOUT))
}

/// A file or a directory of files to follow.
pub(crate) trait Target {
    /// The directories to watch.
    fn reach(&mut self) -> Reach;

    /// Whether the path leads to a plain file without a link.
    fn is_plain_file(&self) -> bool {
        false
    }

    /// Reads everything except `incomplete` files; returns those that differ from the last commit.
    /// `is_plain_file` is the result of [`is_plain_file`](Self::is_plain_file) a moment ago.
    fn scan(&mut self, incomplete: &HashSet<Tag>, is_plain_file: bool) -> Vec<Changed>;

    /// The current stamp of a file that was read.
    fn stamp(&self, tag: &OsStr) -> Option<FileStamp>;

    /// Commits the last scan, except `incomplete` files, which stay as they were. Returns the stamps of
    /// complete files that are deferred, because they belong together with an incomplete one.
    fn commit(
        &mut self,
        incomplete: &HashSet<Tag>,
        updates: &SourceContext,
    ) -> HashMap<Tag, FileStamp>;

    /// Records that a file exists under a name.
    fn mark_present(&mut self, tag: &OsStr);

    /// When to scan again without an event.
    fn deadline(&self) -> Option<Instant>;
}

/// A file that differs from the last commit.
#[derive(Debug)]
pub(crate) struct Changed {
    pub(crate) tag: Tag,
    pub(crate) digest: u64,
    pub(crate) stamp: FileStamp,
    /// Whether the file changed during the read.
    pub(crate) torn: bool,
    /// Whether the file was written to moments ago.
    pub(crate) recent: bool,
}

/// Follows `target` until the source stops.
pub(crate) fn run(
    target: &mut dyn Target,
    updates: &SourceContext,
    poll: Duration,
    uses_events: bool,
) -> Result<(), Error> {
    let mailbox = Arc::new(Mailbox::default());
    let weak = Arc::downgrade(&mailbox);
    updates.on_stop(move || {
        if let Some(mailbox) = weak.upgrade() {
            mailbox.stop();
        }
    });
    let mut follower = Follower {
        subscription: uses_events.then(|| Subscription {
            watcher: updates.shared(SharedWatcher::new),
            mailbox: Arc::clone(&mailbox),
            reach: Reach::default(),
            failure: None,
        }),
        mailbox,
        poll,
        next_poll: Instant::now() + poll,
        suspects: HashMap::new(),
        replaced: HashSet::new(),
        deferred: HashMap::new(),
        needs_scan: false,
        needs_watches: false,
        path_has_changed: false,
        stopped: false,
    };
    follower.update_watches(target, true);
    follower.scan(target, updates, true);
    while !follower.stopped && !updates.is_stopped() {
        follower.step(target, updates);
    }
    Ok(())
}

struct Follower {
    subscription: Option<Subscription>,
    mailbox: Arc<Mailbox>,
    poll: Duration,
    /// The time of the next poll. A flood of events does not delay it.
    next_poll: Instant,
    suspects: HashMap<Tag, Suspect>,
    /// The files that were replaced by a rename, and not read since.
    replaced: HashSet<Tag>,
    /// The complete files that were deferred.
    deferred: HashMap<Tag, FileStamp>,
    /// Whether anything may have changed.
    needs_scan: bool,
    /// Whether the watches have to be updated after the commit of replaced files.
    needs_watches: bool,
    /// Whether the last update of the watches found other directories.
    path_has_changed: bool,
    stopped: bool,
}

impl Follower {
    fn step(&mut self, target: &mut dyn Target, updates: &SourceContext) {
        loop {
            let deadline = target.deadline();
            if self.replaced.is_empty() && !self.needs_scan {
                let due = self.suspects.values().map(Suspect::due).min();
                let wake = [due, deadline].into_iter().flatten().min();
                let wake = wake.unwrap_or(self.next_poll).min(self.next_poll);
                let events = self.mailbox.wait(wake);
                self.apply(events, target);
            }
            if self.stopped {
                return;
            }
            let now = Instant::now();
            let is_poll_due = now >= self.next_poll;
            if is_poll_due {
                self.next_poll = now + self.poll;
                self.update_watches(target, true);
            }
            let is_late = deadline.is_some_and(|at| at <= now);
            let is_due = self.suspects.values().any(|suspect| suspect.due() <= now);
            if is_poll_due || is_late || is_due || self.needs_scan || !self.replaced.is_empty() {
                self.scan(target, updates, false);
                return;
            }
        }
    }

    /// Applies events.
    fn apply(&mut self, events: Events, target: &mut dyn Target) {
        self.stopped |= events.stopped;
        self.needs_scan |= events.rescan;
        for (tag, state) in events.files {
            match state {
                FileState::Replaced => {
                    self.suspects.remove(&tag);
                    self.replaced.insert(tag);
                }
                FileState::Removed => {
                    self.replaced.remove(&tag);
                    match self.suspects.get_mut(&tag) {
                        Some(suspect) => suspect.restart(Instant::now()),
                        None => self.needs_scan = true,
                    }
                }
                FileState::Touched if self.replaced.contains(&tag) => {}
                FileState::Touched => {
                    let touched = || Suspect::touched(Instant::now());
                    self.suspects.entry(tag).or_insert_with(touched);
                }
                FileState::Written(writing) => {
                    target.mark_present(&tag);
                    self.replaced.remove(&tag);
                    self.suspects
                        .entry(tag)
                        .and_modify(|suspect| suspect.record_write(writing))
                        .or_insert_with(|| Suspect::written(writing));
                }
            }
        }
        // A plain file that replaces another leaves the path as it was, so it is read first. Any other path
        // has to be watched before it is read, or a change in between would have no event.
        let is_last_name = events.path_change == PathChange::LastName && !events.rearm;
        if is_last_name && !self.replaced.is_empty() && target.is_plain_file() {
            self.needs_watches = true;
        } else if events.path_change != PathChange::None || events.rearm {
            self.update_watches(target, events.rearm);
        }
    }

    fn update_watches(&mut self, target: &mut dyn Target, always: bool) {
        if let Some(subscription) = &mut self.subscription {
            self.path_has_changed |= subscription.update(target, always);
        }
    }

    /// Updates the watches after the commit of `replaced` files. No event showed other directories. If there
    /// are some, the files were read before they were watched, and are read again.
    fn update_watches_late(&mut self, target: &mut dyn Target, replaced: HashSet<Tag>) {
        self.update_watches(target, false);
        if self.path_has_changed {
            let unread = replaced.into_iter();
            let unread = unread.filter(|tag| !self.suspects.contains_key(tag));
            self.replaced.extend(unread);
        }
    }

    /// Reads, and commits the accepted content.
    fn scan(&mut self, target: &mut dyn Target, updates: &SourceContext, is_first: bool) {
        let begun = Instant::now();
        let (due, mut incomplete) = self.split_suspects(begun);
        let replaced = std::mem::take(&mut self.replaced);
        self.path_has_changed = false;
        self.needs_scan = false;
        let changed = target.scan(&incomplete, self.needs_watches);
        let ended = Instant::now();
        let mut closed = Vec::new();
        let mut stable = HashSet::new();
        let mut may_be_written = false;
        for changed in changed {
            if self.is_complete(&changed, &replaced, is_first) {
                may_be_written |= changed.recent && !changed.stamp.is_changed_after_write();
                continue;
            }
            match self.compare(&changed, begun, ended) {
                Finding::Complete => {}
                Finding::Stable => drop(stable.insert(changed.tag)),
                Finding::Closed => closed.push((changed.tag, changed.stamp)),
                Finding::Incomplete => drop(incomplete.insert(changed.tag)),
            }
        }
        let is_waiting =
            |tag: &Tag| incomplete.contains(tag) || closed.iter().any(|(other, _)| other == tag);
        for tag in due.into_iter().filter(|tag| !is_waiting(tag)) {
            self.suspects.remove(&tag);
        }
        if may_be_written {
            self.await_events();
        }
        self.check_closed(target, closed, &stable, &mut incomplete);
        if !self.stopped {
            self.deferred = target.commit(&incomplete, updates);
            if std::mem::take(&mut self.needs_watches) {
                self.update_watches_late(target, replaced);
            }
            self.report_degraded(updates);
        }
    }

    /// Whether one reading is enough: the file was renamed onto the name, is old, or was deferred.
    fn is_complete(&self, changed: &Changed, replaced: &HashSet<Tag>, is_first: bool) -> bool {
        let is_renamed = replaced.contains(OsStr::new("")) || replaced.contains(&changed.tag);
        let is_replaced = is_renamed && !changed.stamp.is_empty();
        let is_old = is_first && !changed.recent;
        let is_deferred = self.deferred.get(&changed.tag) == Some(&changed.stamp);
        (is_replaced || is_old || is_deferred) && !changed.torn
    }

    /// Compares a reading with the one before.
    fn compare(&mut self, changed: &Changed, begun: Instant, ended: Instant) -> Finding {
        let Changed {
            tag,
            digest,
            stamp,
            torn,
            ..
        } = changed;
        let suspect = self.suspects.entry(tag.clone());
        let suspect = suspect.or_insert_with(|| Suspect::found(ended));
        suspect.compare(*digest, stamp, *torn, begun, ended)
    }

    /// Waits for the events of all changes so far. Time stamps do not show whether a renamed file was written to
    /// after its rename.
    fn await_events(&self) {
        if let Some(subscription) = &self.subscription {
            subscription.watcher.await_events();
        }
    }

    /// Adds the files that were written to right after the scan to `incomplete`. Waits for a moment for events
    /// of `closed` files; of others only those that have arrived count, and none of `stable` files.
    fn check_closed(
        &mut self,
        target: &mut dyn Target,
        closed: Vec<(Tag, FileStamp)>,
        stable: &HashSet<Tag>,
        incomplete: &mut HashSet<Tag>,
    ) {
        let until = self.last_event_at(&closed);
        loop {
            let events = match until {
                Some(until) => self.mailbox.wait(until),
                None => self.mailbox.drain(),
            };
            let written = events.files.iter();
            let written = written.filter(|(_, state)| !matches!(state, FileState::Touched));
            let written = written.map(|(tag, _)| tag);
            incomplete.extend(written.filter(|tag| !stable.contains(*tag)).cloned());
            self.apply(events, target);
            if self.stopped || until.is_none_or(|until| Instant::now() >= until) {
                break;
            }
        }
        for (tag, stamp) in closed {
            if incomplete.contains(&tag) {
                continue;
            }
            if target.stamp(&tag) == Some(stamp) {
                self.suspects.remove(&tag);
            } else {
                if let Some(suspect) = self.suspects.get_mut(&tag) {
                    suspect.restart(Instant::now());
                }
                incomplete.insert(tag);
            }
        }
    }

    /// The time until which an event from before the scan may still arrive. It counts from the event of the
    /// close, because a writer may continue within [`EVENT_DELAY`].
    fn last_event_at(&self, closed: &[(Tag, FileStamp)]) -> Option<Instant> {
        let now = Instant::now();
        let since = closed.iter().map(|(tag, _)| match self.suspects.get(tag) {
            Some(suspect) if suspect.last + EVENT_DELAY > now => suspect.last,
            _ => now,
        });
        Some((since.max()? + EVENT_DELAY).max(now + EVENT_DELAY / 2))
    }

    /// The suspects to read now, and those to read later.
    fn split_suspects(&self, now: Instant) -> (HashSet<Tag>, HashSet<Tag>) {
        let suspects = self.suspects.iter();
        let (due, later): (Vec<_>, Vec<_>) = suspects.partition(|(_, it)| it.due() <= now);
        let names = |part: Vec<(&Tag, _)>| part.into_iter().map(|(tag, _)| tag.clone()).collect();
        (names(due), names(later))
    }

    /// Reports whether there are events, and why not.
    fn report_degraded(&self, updates: &SourceContext) {
        let subscription = self.subscription.as_ref();
        let failure = subscription.and_then(|subscription| subscription.failure.as_ref());
        updates.set_degraded(failure.map(|why| {
            let detail = format!(
                "file events are not available ({why}); polling every {:?}",
                self.poll
            );
            Error::new(ErrorKind::Unavailable, detail)
        }));
    }
}

/// Receives the events of a target.
struct Subscription {
    watcher: Arc<SharedWatcher>,
    mailbox: Arc<Mailbox>,
    reach: Reach,
    failure: Option<String>,
}

impl Subscription {
    /// Watches the current directories of the target; returns whether they have changed.
    fn update(&mut self, target: &mut dyn Target, always: bool) -> bool {
        let mut always = always;
        let mut has_changed = false;
        // A directory may change before it is watched, so the path is followed once more after each new
        // watch. Events show directories that change faster than this.
        for _ in 0..8 {
            let reach = target.reach();
            let is_same = reach == self.reach;
            if !always && is_same {
                break;
            }
            has_changed |= !is_same;
            let followed = self.watcher.follow(&self.mailbox, &reach);
            self.reach = reach;
            self.failure = followed.failure;
            always = false;
            if !followed.has_new_watch {
                break;
            }
        }
        has_changed
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.watcher.leave(&self.mailbox);
    }
}
