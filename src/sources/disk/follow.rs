//! When a reading can be trusted.
//!
//! A rename is whole: it is read and judged at once. A file that is written in place settles
//! first: nothing may happen to it for [`QUIET`]; a writer that never pauses that long is read
//! right after it closed the file, once [`PATIENCE`] is over; then nothing may have happened to it
//! [`ECHO`] after the reading either. A change that no event announced must look the same twice,
//! [`QUIET`] apart.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind};
use crate::source::{DEFAULT_TIMEOUT, Timing, Updates};
use crate::sources::disk::chain::Reach;
use crate::sources::disk::hub::Hub;
use crate::sources::disk::mailbox::{Mailbox, News, Note, Shift, Tag, Writing};
use crate::sources::disk::read::Stamp;

/// How long a file that is written in place must be left alone.
pub(crate) const QUIET: Duration = Duration::from_millis(30);

/// How long a writer that never pauses is waited for.
const PATIENCE: Duration = Duration::from_millis(750);

/// How long after a reading an event of before it may still arrive; above the 4 ms at which some
/// kernels step the time stamps of files.
const ECHO: Duration = Duration::from_millis(5);

/// How long a change may wait to be complete.
const SETTLE: Duration = PATIENCE.saturating_add(ECHO);

/// How long the parts of following take.
pub(crate) fn timing(look: Duration) -> Timing {
    let timing = Timing::new().settle(SETTLE).look(look);
    // Each look is a sign of life; a file system that hangs gives none.
    timing.silence(look.saturating_add(DEFAULT_TIMEOUT))
}

/// What is followed: one file, or a directory of them.
pub(crate) trait Target {
    /// Which directories matter.
    fn reach(&mut self) -> Reach;

    /// Whether a plain file stands where the path ends, so that the path leads nowhere else.
    fn ends(&self) -> bool {
        false
    }

    /// Reads everything but what is `held`, and says what differs from what was judged last;
    /// `ends` if [`ends`](Self::ends) has just been found true.
    fn look(&mut self, held: &HashSet<Tag>, ends: bool) -> Vec<Changed>;

    /// The state of something that was read, as it is now.
    fn stamp(&self, tag: &OsStr) -> Option<Stamp>;

    /// Judges what was read, but for what is `held`, which stays as it was. Returns what else was
    /// put off because it belongs together with something held, in the state it was read in.
    fn judge(&mut self, held: &HashSet<Tag>, updates: &Updates) -> HashMap<Tag, Stamp>;

    /// When to look again although nothing happens.
    fn deadline(&self) -> Option<Instant>;
}

/// One file that differs from what was judged last.
#[derive(Debug)]
pub(crate) struct Changed {
    pub(crate) tag: Tag,
    pub(crate) stamp: Stamp,
    /// Whether it changed while it was read.
    pub(crate) torn: bool,
    /// Whether somebody wrote to it moments ago.
    pub(crate) recent: bool,
}

/// A file that is not trusted yet.
#[derive(Debug)]
struct Pending {
    writing: Writing,
    /// What it must still look like, where no event is to be relied on.
    stamp: Option<Stamp>,
}

impl Pending {
    fn due(&self) -> Instant {
        let quiet = self.writing.last + QUIET;
        if self.writing.closed {
            quiet.min(self.writing.last.max(self.writing.first + PATIENCE))
        } else {
            quiet
        }
    }
}

/// Follows `target` until it is told to stop.
pub(crate) fn run(
    target: &mut dyn Target,
    updates: &Updates,
    poll: Duration,
    events: bool,
) -> Result<(), Error> {
    let mailbox = Arc::new(Mailbox::default());
    let weak = Arc::downgrade(&mailbox);
    updates.on_stop(move || {
        if let Some(mailbox) = weak.upgrade() {
            mailbox.stop();
        }
    });
    let mut follower = Follower {
        eyes: events.then(|| Eyes {
            hub: updates.shared(Hub::new),
            mailbox: Arc::clone(&mailbox),
            reach: Reach::default(),
            failure: None,
        }),
        mailbox,
        poll,
        pending: HashMap::new(),
        whole: HashSet::new(),
        trusted: HashMap::new(),
        rescan: false,
        unaimed: false,
        shifted: false,
        stopped: false,
    };
    follower.aim(target, true);
    follower.look(target, updates, true);
    while !follower.stopped && !updates.is_stopped() {
        follower.step(target, updates);
    }
    Ok(())
}

struct Follower {
    eyes: Option<Eyes>,
    mailbox: Arc<Mailbox>,
    poll: Duration,
    pending: HashMap<Tag, Pending>,
    /// What was replaced as a whole and not read since.
    whole: HashSet<Tag>,
    /// What could have been judged and was put off.
    trusted: HashMap<Tag, Stamp>,
    /// Whether anything may have changed.
    rescan: bool,
    /// Whether the directories are to be looked over once what was replaced is judged.
    unaimed: bool,
    /// Whether the directories were others than before when they were last looked over.
    shifted: bool,
    stopped: bool,
}

impl Follower {
    fn step(&mut self, target: &mut dyn Target, updates: &Updates) {
        let tick = Instant::now() + self.poll;
        loop {
            let deadline = target.deadline();
            if self.whole.is_empty() && !self.rescan {
                let due = self.pending.values().map(Pending::due).min();
                let wake = [Some(tick), due, deadline].into_iter().flatten().min();
                let news = self.mailbox.wait(wake.unwrap_or(tick));
                self.merge(news, target);
            }
            if self.stopped {
                return;
            }
            let now = Instant::now();
            let ticked = now >= tick;
            if ticked {
                self.aim(target, true);
            }
            let late = deadline.is_some_and(|at| at <= now);
            let due = self.pending.values().any(|pending| pending.due() <= now);
            if ticked || late || due || self.rescan || !self.whole.is_empty() {
                self.look(target, updates, false);
                return;
            }
        }
    }

    /// Takes in what happened.
    fn merge(&mut self, news: News, target: &mut dyn Target) {
        self.stopped |= news.stopped;
        self.rescan |= news.rescan;
        for (tag, note) in news.notes {
            match note {
                Note::Whole => {
                    self.pending.remove(&tag);
                    self.whole.insert(tag);
                }
                Note::Written(writing) => {
                    self.whole.remove(&tag);
                    let first = self.pending.get(&tag).map(|old| old.writing.first);
                    let first = first.unwrap_or(writing.first);
                    let writing = Writing { first, ..writing };
                    let stamp = None;
                    self.pending.insert(tag, Pending { writing, stamp });
                }
            }
        }
        // A plain file in place of another leaves the path as it was: it is read first, for
        // somebody waits for it. Anything else has to be watched before it is read, lest a change
        // of it in between goes unseen.
        if news.shift == Shift::End && !news.rearm && !self.whole.is_empty() && target.ends() {
            self.unaimed = true;
        } else if news.shift != Shift::None || news.rearm {
            self.aim(target, news.rearm);
        }
    }

    fn aim(&mut self, target: &mut dyn Target, always: bool) {
        if let Some(eyes) = &mut self.eyes {
            self.shifted |= eyes.aim(target, always);
        }
    }

    /// Looks over the directories after what was `replaced` has been judged. No event said that
    /// they changed; if they did all the same, that was read before they were watched, and is read
    /// again.
    fn aim_late(&mut self, target: &mut dyn Target, replaced: HashSet<Tag>) {
        self.aim(target, false);
        if self.shifted {
            let since = replaced.into_iter();
            let since = since.filter(|tag| !self.pending.contains_key(tag));
            self.whole.extend(since);
        }
    }

    /// Reads, and has judged what can be trusted.
    fn look(&mut self, target: &mut dyn Target, updates: &Updates, at_start: bool) {
        let now = Instant::now();
        let (due, mut held) = self.sort(now);
        let whole = std::mem::take(&mut self.whole);
        self.shifted = false;
        let all = whole.contains(OsStr::new(""));
        self.rescan = false;
        let mut settled = Vec::new();
        // Found in what came just before this, if at all: what a last glance finds is aimed at in
        // the same look.
        let ends = self.unaimed;
        for changed in target.look(&held, ends) {
            let Changed { tag, stamp, .. } = changed;
            let trusted = all
                || whole.contains(&tag)
                || (at_start && !changed.recent)
                || self.trusted.get(&tag) == Some(&stamp);
            if trusted && !changed.torn {
                continue;
            }
            let pending = self.pending.get(&tag).map(|pending| &pending.stamp);
            let same = pending.is_some_and(|before| before.as_ref().is_none_or(|it| *it == stamp));
            if same && !changed.torn {
                settled.push((tag, stamp));
            } else {
                // Nobody announced this, or it goes on.
                self.distrust(&tag, Some(stamp), now);
                held.insert(tag);
            }
        }
        if settled.is_empty() {
            // One last glance whether somebody writes into what has just arrived.
            let news = self.mailbox.take();
            held.extend(news.notes.keys().cloned());
            self.merge(news, target);
        } else {
            let until = self.echo(&settled);
            while Instant::now() < until && !self.stopped {
                let news = self.mailbox.wait(until);
                held.extend(news.notes.keys().cloned());
                self.merge(news, target);
            }
        }
        for (tag, stamp) in settled {
            if !held.contains(&tag) && target.stamp(&tag) != Some(stamp) {
                self.distrust(&tag, None, Instant::now());
                held.insert(tag);
            }
        }
        for tag in due.difference(&held) {
            self.pending.remove(tag);
        }
        if !self.stopped {
            self.trusted = target.judge(&held, updates);
            if std::mem::take(&mut self.unaimed) {
                self.aim_late(target, whole);
            }
            self.tell(updates);
        }
    }

    /// Until when an event of before the reading may still arrive. A close that was seen counts
    /// from when it was seen: a writer that pauses no longer than [`ECHO`] must have its turn.
    fn echo(&self, settled: &[(Tag, Stamp)]) -> Instant {
        let now = Instant::now();
        let since = settled.iter().map(|(tag, _)| match self.pending.get(tag) {
            Some(Pending { writing, .. }) if writing.closed && writing.last + ECHO > now => {
                writing.last
            }
            _ => now,
        });
        let since = since.max().unwrap_or(now);
        (since + ECHO).max(now + ECHO / 2)
    }

    /// What has settled, and what has not.
    fn sort(&self, now: Instant) -> (HashSet<Tag>, HashSet<Tag>) {
        let pending = self.pending.iter();
        let (due, held): (Vec<_>, Vec<_>) = pending.partition(|(_, it)| it.due() <= now);
        let names = |part: Vec<(&Tag, _)>| part.into_iter().map(|(tag, _)| tag.clone()).collect();
        (names(due), names(held))
    }

    /// Lets a file settle, anew if it did already.
    fn distrust(&mut self, tag: &OsStr, stamp: Option<Stamp>, last: Instant) {
        let first = self.pending.get(tag).map_or(last, |it| it.writing.first);
        let writing = Writing {
            first,
            last,
            closed: false,
        };
        self.pending
            .insert(tag.to_os_string(), Pending { writing, stamp });
    }

    /// Says whether there are events, and why not.
    fn tell(&self, updates: &Updates) {
        let failure = self.eyes.as_ref().and_then(|eyes| eyes.failure.as_ref());
        updates.degraded(failure.map(|why| {
            let detail = format!(
                "file events are not available ({why}); polling every {:?}",
                self.poll
            );
            Error::new(ErrorKind::Unavailable, detail)
        }));
    }
}

/// What receives events.
struct Eyes {
    hub: Arc<Hub>,
    mailbox: Arc<Mailbox>,
    reach: Reach,
    failure: Option<String>,
}

impl Eyes {
    /// Watches the directories that lead to the target now; says whether they are others than
    /// before.
    fn aim(&mut self, target: &mut dyn Target, always: bool) -> bool {
        let mut always = always;
        let mut shifted = false;
        // A directory may change between being found and being watched, so look once more after
        // each watch that was made. Whoever swaps directories faster than this is met again by
        // the events of those swaps.
        for _ in 0..8 {
            let reach = target.reach();
            let same = reach == self.reach;
            if !always && same {
                break;
            }
            shifted |= !same;
            let followed = self.hub.follow(&self.mailbox, &reach);
            self.reach = reach;
            self.failure = followed.failure;
            always = false;
            if !followed.armed {
                break;
            }
        }
        shifted
    }
}

impl Drop for Eyes {
    fn drop(&mut self) {
        self.hub.leave(&self.mailbox);
    }
}
