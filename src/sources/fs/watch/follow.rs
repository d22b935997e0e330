//! Follows a file or a directory: waits for events and polls, reads, and has judged what the rule in
//! [`trust`](super::trust) accepts.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind};
use crate::source::{DEFAULT_TIMEOUT, SourceContext, Timing};
use crate::sources::fs::watch::chain::Reach;
use crate::sources::fs::watch::hub::SharedWatcher;
use crate::sources::fs::watch::mailbox::{Mailbox, News, Note, Shift, Tag};
use crate::sources::fs::watch::read::Stamp;
use crate::sources::fs::watch::trust::{ECHO, Finding, PATIENCE, Suspect};

/// How long a change may wait to be complete.
const SETTLE: Duration = PATIENCE.saturating_add(ECHO);

/// How long the parts of following take.
pub(crate) fn timing(look: Duration) -> Timing {
    let timing = Timing::new().debounce(SETTLE).rescan_interval(look);
    // Each look is a sign of life; a file system that hangs gives none.
    timing.heartbeat_timeout(look.saturating_add(DEFAULT_TIMEOUT))
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
    fn judge(&mut self, held: &HashSet<Tag>, updates: &SourceContext) -> HashMap<Tag, Stamp>;

    /// Notes that something stands under a name now, whatever becomes of it.
    fn note_presence(&mut self, tag: &OsStr);

    /// When to look again although nothing happens.
    fn deadline(&self) -> Option<Instant>;
}

/// One file that differs from what was judged last.
#[derive(Debug)]
pub(crate) struct Changed {
    pub(crate) tag: Tag,
    pub(crate) digest: u64,
    pub(crate) stamp: Stamp,
    /// Whether it changed while it was read.
    pub(crate) torn: bool,
    /// Whether somebody wrote to it moments ago.
    pub(crate) recent: bool,
}

/// Follows `target` until it is told to stop.
pub(crate) fn run(
    target: &mut dyn Target,
    updates: &SourceContext,
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
            hub: updates.shared(SharedWatcher::new),
            mailbox: Arc::clone(&mailbox),
            reach: Reach::default(),
            failure: None,
        }),
        mailbox,
        poll,
        next_tick: Instant::now() + poll,
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
    /// When everything is looked over next. No flood of events moves it.
    next_tick: Instant,
    pending: HashMap<Tag, Suspect>,
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
    fn step(&mut self, target: &mut dyn Target, updates: &SourceContext) {
        loop {
            let deadline = target.deadline();
            if self.whole.is_empty() && !self.rescan {
                let due = self.pending.values().map(Suspect::due).min();
                let wake = [due, deadline].into_iter().flatten().min();
                let wake = wake.unwrap_or(self.next_tick).min(self.next_tick);
                let news = self.mailbox.wait(wake);
                self.merge(news, target);
            }
            if self.stopped {
                return;
            }
            let now = Instant::now();
            let ticked = now >= self.next_tick;
            if ticked {
                self.next_tick = now + self.poll;
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
                Note::Gone => {
                    self.whole.remove(&tag);
                    match self.pending.get_mut(&tag) {
                        Some(suspect) => suspect.restart(Instant::now()),
                        None => self.rescan = true,
                    }
                }
                Note::Touched if self.whole.contains(&tag) => {}
                Note::Touched => {
                    let touched = || Suspect::touched(Instant::now());
                    self.pending.entry(tag).or_insert_with(touched);
                }
                Note::Written(writing) => {
                    target.note_presence(&tag);
                    self.whole.remove(&tag);
                    self.pending
                        .entry(tag)
                        .and_modify(|suspect| suspect.note_write(writing))
                        .or_insert_with(|| Suspect::written(writing));
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

    /// Reads, and has judged what is accepted.
    fn look(&mut self, target: &mut dyn Target, updates: &SourceContext, at_start: bool) {
        let begun = Instant::now();
        let (due, mut held) = self.sort(begun);
        let whole = std::mem::take(&mut self.whole);
        self.shifted = false;
        self.rescan = false;
        // Found in what came just before this, if at all: what a last glance finds is aimed at in
        // the same look.
        let ends = self.unaimed;
        let found = target.look(&held, ends);
        let ended = Instant::now();
        let mut closed = Vec::new();
        let mut calm = HashSet::new();
        let mut written_since = false;
        for changed in found {
            let renamed = whole.contains(OsStr::new("")) || whole.contains(&changed.tag);
            let proven = renamed && !changed.stamp.is_empty();
            let old = at_start && !changed.recent;
            let put_off = self.trusted.get(&changed.tag) == Some(&changed.stamp);
            if (proven || old || put_off) && !changed.torn {
                written_since |= changed.recent && !changed.stamp.is_changed_after_write();
                continue;
            }
            match self.compare(&changed, begun, ended) {
                Finding::Complete => {}
                Finding::Calm => drop(calm.insert(changed.tag)),
                Finding::Closed => closed.push((changed.tag, changed.stamp)),
                Finding::Incomplete => drop(held.insert(changed.tag)),
            }
        }
        let waits = |tag: &Tag| held.contains(tag) || closed.iter().any(|(it, _)| it == tag);
        for tag in due.into_iter().filter(|tag| !waits(tag)) {
            self.pending.remove(&tag);
        }
        if written_since {
            self.await_events();
        }
        self.watch_closed(target, closed, &calm, &mut held);
        if !self.stopped {
            self.trusted = target.judge(&held, updates);
            if std::mem::take(&mut self.unaimed) {
                self.aim_late(target, whole);
            }
            self.tell(updates);
        }
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
        let suspect = self.pending.entry(tag.clone());
        let suspect = suspect.or_insert_with(|| Suspect::found(ended));
        suspect.compare(*digest, stamp, *torn, begun, ended)
    }

    /// Waits for the events of what happened so far: whether a file was written to after its rename
    /// cannot be seen from its time stamps.
    fn await_events(&self) {
        if let Some(eyes) = &self.eyes {
            eyes.hub.await_events();
        }
    }

    /// Holds back whatever is written to right after the reading. What was just `closed` is watched
    /// for a moment; for the rest a last glance must do, and what is `calm` needs none.
    fn watch_closed(
        &mut self,
        target: &mut dyn Target,
        closed: Vec<(Tag, Stamp)>,
        calm: &HashSet<Tag>,
        held: &mut HashSet<Tag>,
    ) {
        let until = self.echo(&closed);
        loop {
            let news = match until {
                Some(until) => self.mailbox.wait(until),
                None => self.mailbox.take(),
            };
            let written = news.notes.iter();
            let written = written.filter(|(_, note)| !matches!(note, Note::Touched));
            let written = written.map(|(tag, _)| tag);
            held.extend(written.filter(|tag| !calm.contains(*tag)).cloned());
            self.merge(news, target);
            if self.stopped || until.is_none_or(|until| Instant::now() >= until) {
                break;
            }
        }
        for (tag, stamp) in closed {
            if held.contains(&tag) {
                continue;
            }
            if target.stamp(&tag) == Some(stamp) {
                self.pending.remove(&tag);
            } else {
                if let Some(suspect) = self.pending.get_mut(&tag) {
                    suspect.restart(Instant::now());
                }
                held.insert(tag);
            }
        }
    }

    /// Until when an event of before the reading may still arrive. A close that was seen counts
    /// from when it was seen: a writer that pauses no longer than [`ECHO`] must have its turn.
    fn echo(&self, closed: &[(Tag, Stamp)]) -> Option<Instant> {
        let now = Instant::now();
        let since = closed.iter().map(|(tag, _)| match self.pending.get(tag) {
            Some(suspect) if suspect.last + ECHO > now => suspect.last,
            _ => now,
        });
        Some((since.max()? + ECHO).max(now + ECHO / 2))
    }

    /// What is to be read now, and what later.
    fn sort(&self, now: Instant) -> (HashSet<Tag>, HashSet<Tag>) {
        let pending = self.pending.iter();
        let (due, held): (Vec<_>, Vec<_>) = pending.partition(|(_, it)| it.due() <= now);
        let names = |part: Vec<(&Tag, _)>| part.into_iter().map(|(tag, _)| tag.clone()).collect();
        (names(due), names(held))
    }

    /// Says whether there are events, and why not.
    fn tell(&self, updates: &SourceContext) {
        let failure = self.eyes.as_ref().and_then(|eyes| eyes.failure.as_ref());
        updates.set_degraded(failure.map(|why| {
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
    hub: Arc<SharedWatcher>,
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
