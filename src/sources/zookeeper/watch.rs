//! Reads a tree in one session, and follows it.
//!
//! The watch is persistent and recursive, and set before the tree is read. All events of a transaction arrive
//! before the answer to any request that the server executes after that transaction. So a read brings one state
//! of the tree if no event arrives meanwhile.
//!
//! A server sends no event of a node that the session may not read at that moment, and never one of a
//! change of an ACL. Three rules find such changes: each heartbeat asks again for nodes that may not be read;
//! an answer that shows a changed ACL has everything read again; and so does, after some time, a transaction
//! number that has increased since the last read.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind};
use crate::source::SourceContext;
use crate::sources::shared::kv::mirror::Mirror;
use crate::sources::shared::kv::{self, jittered};
use crate::sources::zookeeper::changes::{Change, Changes, denied};
use crate::sources::zookeeper::client::Session;
use crate::sources::zookeeper::deadline::Deadline;
use crate::sources::zookeeper::protocol::{Answer, Request};
use crate::sources::zookeeper::read::TreeRead;
use crate::sources::zookeeper::root::Root;
use crate::sync::random;

/// The longest silence of a watch before the source asks the server for a heartbeat.
pub(super) const HEARTBEAT: Duration = Duration::from_millis(1500);
/// How long an answer may take after the one before it.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a read of everything may take while answers arrive.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the source collects changes that may belong to the first.
pub(super) const DEBOUNCE: Duration = Duration::from_millis(500);
/// The shortest time from one update to the next.
const PAUSE: Duration = Duration::from_millis(20);
/// The shortest time from one read of everything to the next after a change of an ACL; longer if a read takes
/// long.
const ACL_RESCAN_INTERVAL: Duration = Duration::from_secs(2);
/// How often a long read sends a heartbeat.
const READ_HEARTBEAT: Duration = Duration::from_millis(500);

/// The most unreadable nodes that a heartbeat asks for.
const MAX_DENIED_PER_PING: usize = 100;

/// The heartbeats of a long read.
pub(super) struct ReadHeartbeats<'a> {
    last: Instant,
    send: &'a mut dyn FnMut(),
}

impl<'a> ReadHeartbeats<'a> {
    pub(super) fn new(send: &'a mut dyn FnMut()) -> Self {
        let last = Instant::now();
        Self { last, send }
    }

    /// Sends a heartbeat, unless the last one was a moment ago.
    fn send(&mut self) {
        if self.last.elapsed() > READ_HEARTBEAT {
            self.last = Instant::now();
            (self.send)();
        }
    }
}

/// Whether the state of a session may differ from that of the server.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Freshness {
    Current,
    /// An ACL has changed, which may have hidden other changes.
    AclChanged,
    /// Events were lost.
    EventsLost,
}

/// A session, and the tree it reads.
pub(super) struct Tree {
    pub(super) session: Session,
    root: Root,
    /// The name of its server, for messages.
    pub(super) server: String,
    /// The nodes that may not be read.
    denied: BTreeSet<String>,
    /// The last of them that a heartbeat asked for.
    last_asked: String,
    freshness: Freshness,
    last_read: LastRead,
    rescan_interval: Duration,
}

/// The last read of everything.
struct LastRead {
    ended: Instant,
    duration: Duration,
    zxid: i64,
    /// The time until the next one, if the state is current.
    pause: Duration,
}

impl Tree {
    pub(super) fn new(
        session: Session,
        root: Root,
        server: String,
        rescan_interval: Duration,
    ) -> Self {
        Self {
            session,
            root,
            server,
            denied: BTreeSet::new(),
            last_asked: String::new(),
            freshness: Freshness::Current,
            last_read: LastRead {
                ended: Instant::now(),
                duration: Duration::ZERO,
                zxid: 0,
                pause: rescan_interval,
            },
            rescan_interval,
        }
    }

    /// Sets the watch and reads the tree.
    pub(super) fn read_all(
        &mut self,
        mirror: &mut Mirror,
        heartbeats: &mut ReadHeartbeats<'_>,
    ) -> Result<(), Error> {
        let begun = Instant::now();
        let mut changes = self.read_once(mirror, heartbeats)?;
        while self.freshness == Freshness::EventsLost {
            if begun.elapsed() > READ_TIMEOUT {
                let detail = "more changes than the source can keep arrived without end while it read everything";
                return Err(Error::new(ErrorKind::TooLarge, detail));
            }
            changes = self.read_once(mirror, heartbeats)?;
        }
        changes.replace(mirror);
        self.last_read = LastRead {
            ended: Instant::now(),
            duration: begun.elapsed(),
            zxid: self.session.zxid(),
            // Up to a quarter more, so that programs that start together do not continue in step.
            pause: self.rescan_interval + random::part_of(self.rescan_interval / 4),
        };
        Ok(())
    }

    fn read_once(
        &mut self,
        mirror: &Mirror,
        heartbeats: &mut ReadHeartbeats<'_>,
    ) -> Result<Changes, Error> {
        let start = self.root.path.clone();
        let requests = [
            Request::Watch(start.clone()),
            // A server that is behind would return older values.
            Request::Sync(start.clone()),
            Request::Data(start),
        ];
        self.denied.clear();
        let mut read = TreeRead::new(&self.root, &mut self.denied, mirror);
        let deadline = Deadline::each(ANSWER_TIMEOUT, READ_TIMEOUT);
        self.session.exchange(
            VecDeque::from(requests),
            deadline,
            |request, answer, more| {
                heartbeats.send();
                read.record(request, answer, more)
            },
        )?;
        let mut changes = read.finish();
        self.freshness = Freshness::Current;
        self.read_changed(&mut changes, heartbeats)?;
        Ok(changes)
    }

    /// Reads the nodes that the watch has reported, until it reports no more meanwhile.
    fn read_changed(
        &mut self,
        changes: &mut Changes,
        heartbeats: &mut ReadHeartbeats<'_>,
    ) -> Result<(), Error> {
        let Self {
            session,
            root,
            denied: denied_nodes,
            freshness,
            ..
        } = self;
        let end = Instant::now() + DEBOUNCE;
        while !session.changed.is_empty() && Instant::now() < end {
            let Some(changed) = session.changed.drain() else {
                *freshness = Freshness::EventsLost;
                return Ok(());
            };
            let changed = changed.into_iter();
            let requests = changed
                .filter(|path| root.key(path).is_some())
                .map(Request::Data);
            let deadline = Deadline::each(ANSWER_TIMEOUT, READ_TIMEOUT);
            session.exchange(requests.collect(), deadline, |request, answer, _| {
                let Request::Data(path) = request else {
                    return Ok(());
                };
                heartbeats.send();
                let is_denied = matches!(answer, Answer::Denied);
                if is_denied && path == root.path && root.is_alone {
                    return Err(denied());
                }
                let change = match answer {
                    Answer::Data {
                        bytes, revision, ..
                    } => Change::of(bytes, revision),
                    Answer::Denied => Change::Denied,
                    Answer::TooLarge(length) => Change::TooLarge(length),
                    _ => Change::Removed,
                };
                if let Some(key) = root.key(&path) {
                    changes.insert(key, change);
                }
                let was_denied = if is_denied {
                    !denied_nodes.insert(path)
                } else {
                    denied_nodes.remove(&path)
                };
                if is_denied != was_denied {
                    *freshness = (*freshness).max(Freshness::AclChanged);
                }
                changes.check()
            })?;
        }
        Ok(())
    }

    /// Asks for a heartbeat, and for some of the nodes that may not be read.
    fn ping(&mut self) -> Result<(), Error> {
        let after = self.denied.range(self.last_asked.clone()..);
        let round = after
            .chain(&self.denied)
            .skip_while(|path| **path == self.last_asked);
        let denied: Vec<String> = round
            .take(MAX_DENIED_PER_PING.min(self.denied.len()))
            .cloned()
            .collect();
        self.last_asked = denied.last().cloned().unwrap_or_default();
        let requests = denied.into_iter().map(Request::Data);
        // A server that has lost the others still answers reads for a while, but no sync.
        let requests = requests.chain([Request::Sync(self.root.path.clone())]);
        let freshness = &mut self.freshness;
        let deadline = Deadline::all(ANSWER_TIMEOUT);
        self.session
            .exchange(requests.collect(), deadline, |request, answer, _| {
                if matches!(request, Request::Data(_)) && !matches!(answer, Answer::Denied) {
                    *freshness = (*freshness).max(Freshness::AclChanged);
                }
                Ok(())
            })
    }

    /// Whether everything has to be read again.
    fn is_due(&self) -> bool {
        let since = self.last_read.ended.elapsed();
        match self.freshness {
            Freshness::EventsLost => true,
            Freshness::AclChanged => since >= ACL_RESCAN_INTERVAL.max(4 * self.last_read.duration),
            Freshness::Current => {
                since >= self.last_read.pause && self.session.zxid() != self.last_read.zxid
            }
        }
    }

    /// Sends the changes until an error, or until the source stops.
    pub(super) fn follow(
        &mut self,
        mirror: &mut Mirror,
        updates: &SourceContext,
    ) -> Result<(), Error> {
        let mut next_ping = Instant::now() + jittered(HEARTBEAT);
        let mut heartbeat = || updates.set_degraded(None);
        let heartbeats = &mut ReadHeartbeats::new(&mut heartbeat);
        loop {
            let has_event = self.session.wait_for_event(next_ping)?;
            let begun = Instant::now();
            if has_event {
                let mut changes = Changes::default();
                self.read_changed(&mut changes, heartbeats)?;
                // Lost events may belong to the same transaction.
                if self.freshness < Freshness::EventsLost {
                    changes.apply(mirror);
                }
            }
            // Changes without a pause do not delay the ping.
            if begun >= next_ping {
                self.ping()?;
                next_ping = Instant::now() + jittered(HEARTBEAT);
            }
            if mirror.needs_reload() || self.is_due() {
                self.read_all(mirror, heartbeats)?;
            }
            // Also repeats the error of a document that is still broken.
            kv::send(mirror.update(self.session.revision()), updates);
            if has_event && updates.wait(PAUSE.saturating_sub(begun.elapsed())) {
                return Ok(());
            }
        }
    }
}
