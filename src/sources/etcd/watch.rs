//! Watches a store: a read of everything, then one stream after the other. A change that may have been missed
//! has everything read again.

use std::time::Instant;

use crate::error::Error;
use crate::source::{Source, SourceContext, Update};
use crate::sources::etcd::client::{
    EtcdError, Event, Header, Item, Lines, Listing, Message, Next, Request,
};
use crate::sources::etcd::pace::Pace;
use crate::sources::etcd::{Etcd, PAUSE, RESPONSE_TIMEOUT, STREAM};
use crate::sources::shared::http_client;
use crate::sources::shared::http_client::reuse::Client;
use crate::sources::shared::kv::mirror::{Mirror, StoreEntry};
use crate::sources::shared::kv::{self, jittered};

/// The number of updates that may follow each other without a [`PAUSE`].
const BURST: u32 = 32;
/// How many revisions the store may be ahead before the source skips them by a read: a stream from an old
/// revision costs the store much.
const MAX_LAG: u64 = 10_000;

/// The last state of the store, which one call leaves to the next.
pub(super) struct Memory {
    pub(super) mirror: Mirror,
    pub(super) revision: u64,
    pace: Pace,
}

/// The revision up to which the source has followed the store.
struct Position {
    header: Header,
    /// The number of keys at that revision.
    count: u64,
}

/// Why a stream has ended, other than by an error.
enum End {
    /// The engine stops the source.
    Stopped,
    /// Everything has to be read again.
    Reload,
}

impl Etcd {
    /// Runs a call with the memory of the call before.
    pub(super) fn with_memory<R>(&self, run: impl FnOnce(&mut Memory) -> R) -> R {
        let make = || Memory {
            mirror: Mirror::new(self.options.mapping.clone()),
            revision: 0,
            pace: Pace::default(),
        };
        self.memory.with(make, run)
    }

    /// Reads everything and follows the changes, again after each stream that ends.
    pub(super) fn watch_all(
        &self,
        memory: &mut Memory,
        updates: &SourceContext,
    ) -> Result<(), Error> {
        let client = self.client()?;
        let stopped = client.agent.clone();
        updates.on_stop(move || stopped.clone().shutdown());
        let mut watch = Watch {
            updates,
            memory,
            client: &client,
            has_answered: false,
            has_sent_all: false,
            due: Instant::now(),
        };
        while !updates.wait(watch.memory.pace.pause()) {
            let end = self.read_and_follow(&mut watch);
            let (error, may_continue) = match end {
                _ if updates.is_stopped() => return Ok(()),
                Ok(End::Stopped) => return Ok(()),
                Ok(End::Reload) => {
                    let detail = "the servers do not agree on what the store is";
                    let error = http_client::unavailable(detail).with_origin(self.origin());
                    (error, true)
                }
                Err(error) if !watch.has_answered => return Err(error),
                // A member has answered, and another one may continue.
                Err(error) => (error, self.options.endpoints.count() > 1),
            };
            watch.has_answered = false;
            if !watch.memory.pace.record_end() || !may_continue {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Reads everything, and follows the changes until a stream ends.
    fn read_and_follow(&self, watch: &mut Watch<'_>) -> Result<End, Error> {
        let all = self.read_all(watch.client)?;
        watch.has_answered = true;
        let revision = all.header.revision.to_string();
        if watch.updates.is_stopped() {
            return Ok(End::Stopped);
        }
        watch.updates.set_degraded(self.login_warning());
        watch.memory.replace(&all);
        let update = if std::mem::replace(&mut watch.has_sent_all, true) {
            watch.memory.update()
        } else {
            let all = watch.memory.mirror.document(revision);
            all.map(|all| Some(Update::full(all)))
        };
        if watch.send(update) {
            return Ok(End::Stopped);
        }
        let mut position = Position {
            header: all.header,
            count: all.count,
        };
        drop(all);
        self.follow(watch, &mut position)
    }

    /// Follows the store from a position on, one stream after the other.
    fn follow(&self, watch: &mut Watch<'_>, position: &mut Position) -> Result<End, Error> {
        let range = self.range_fields();
        // The revision of the store when the last stream began.
        let mut newest = position.header.revision;
        loop {
            if newest.saturating_sub(position.header.revision) > MAX_LAG
                && !self.catch_up(watch, position, &range)?
            {
                return Ok(End::Reload);
            }
            let from = position.header.revision.saturating_add(1);
            let stream = self.request(watch.client, |request| {
                let request = Request {
                    response_timeout: RESPONSE_TIMEOUT,
                    token: request.token.clone(),
                    ..*request
                };
                request.watch(&range, from, jittered(STREAM))
            })?;
            let ((mut lines, first), server) = stream;
            match first {
                Message::Created(now) if is_same_store(&position.header, &now) => {
                    newest = now.revision
                }
                _ => return Ok(End::Reload),
            }
            watch.updates.set_location(server);
            watch.updates.set_degraded(self.login_warning());
            // Repeats the error of a document that is still broken.
            let update = watch.memory.update();
            if watch.send(update) {
                return Ok(End::Stopped);
            }
            let begun = Instant::now();
            let end = self.follow_stream(watch, position, &mut lines);
            watch.memory.pace.record_duration(begun.elapsed());
            if let Some(end) = end? {
                return Ok(end);
            }
        }
    }

    /// Applies the changes of a stream; returns `None` once its duration has passed, or why it ended before.
    fn follow_stream(
        &self,
        watch: &mut Watch<'_>,
        position: &mut Position,
        lines: &mut Lines,
    ) -> Result<Option<End>, Error> {
        let mut is_idle = true;
        let fail = |fault: EtcdError| {
            if fault.needs_login {
                self.clear_login();
            }
            self.options.endpoints.next();
            fault.error.with_origin(self.origin())
        };
        loop {
            let mut message = match lines.next().map_err(fail)? {
                Next::Message(message) => Some(message),
                // A message that takes longer than a stream is replaced by a read of everything.
                Next::TimedOut if is_idle && lines.has_partial_message() => {
                    return Ok(Some(End::Reload));
                }
                Next::TimedOut => return Ok(None),
                Next::TooLong => return Ok(Some(End::Reload)),
            };
            is_idle = false;
            while let Some(now) = message {
                match now {
                    Message::Created(_) => {}
                    Message::Compacted | Message::TooLarge => return Ok(Some(End::Reload)),
                    Message::Events(_) if watch.updates.is_stopped() => {
                        return Ok(Some(End::Stopped));
                    }
                    Message::Events(events) => watch.memory.apply(&events, position),
                }
                message = lines.ready().map_err(fail)?;
            }
            let update = watch.memory.update();
            if watch.send(update) {
                return Ok(Some(End::Stopped));
            }
            if watch.memory.mirror.needs_reload() {
                return Ok(Some(End::Reload));
            }
        }
    }

    /// Moves the position to the revision of the store. Returns `false` if a key of the source has changed since.
    fn catch_up(
        &self,
        watch: &Watch<'_>,
        position: &mut Position,
        range: &str,
    ) -> Result<bool, Error> {
        let since = position.header.revision;
        let (newer, _) = self.request(watch.client, |request| request.range(range, Some(since)))?;
        let is_unchanged = newer.items.is_empty() && newer.count == position.count;
        if is_unchanged && is_same_store(&position.header, &newer.header) {
            position.header = newer.header;
            return Ok(true);
        }
        Ok(false)
    }
}

impl Memory {
    /// Replaces the whole state.
    pub(super) fn replace(&mut self, all: &Listing) {
        self.mirror.replace(all.items.iter().filter_map(entry));
        self.revision = all.header.revision;
    }

    /// The whole state, if anything has changed.
    fn update(&mut self) -> Result<Option<Update>, Error> {
        self.mirror.update(self.revision.to_string())
    }

    /// Applies the events of whole revisions, and moves the position.
    fn apply(&mut self, events: &[Event], position: &mut Position) {
        for event in events {
            position.count = position.count.saturating_add_signed(event.count_change());
            // A read in between brought a newer state.
            if event.item.revision <= self.revision {
                continue;
            }
            match (entry(&event.item), event.is_deleted) {
                (Some(entry), true) => self.mirror.delete(entry.key),
                (Some(entry), false) => self.mirror.put(&entry),
                (None, _) => {}
            }
        }
        if let Some(last) = events.last() {
            position.header.revision = last.item.revision;
            self.revision = self.revision.max(last.item.revision);
        }
    }
}

/// The state of one call of [`Source::watch`].
struct Watch<'a> {
    updates: &'a SourceContext,
    memory: &'a mut Memory,
    client: &'a Client,
    /// Whether a read has succeeded since the last failure.
    has_answered: bool,
    /// Whether the document of everything was sent, so that only changes follow.
    has_sent_all: bool,
    /// When the last update would have been sent if all were [`PAUSE`] apart.
    due: Instant,
}

impl Watch<'_> {
    /// Sends an update, and waits if many were sent; returns whether the source has to stop.
    fn send(&mut self, update: Result<Option<Update>, Error>) -> bool {
        kv::send(update, self.updates);
        let now = Instant::now();
        self.due = self.due.max(now) + PAUSE;
        let ahead = self.due.duration_since(now);
        self.updates.wait(ahead.saturating_sub(PAUSE * BURST))
    }
}

fn entry(item: &Item) -> Option<StoreEntry<'_>> {
    Some(StoreEntry {
        key: item.key.as_deref()?,
        bytes: &item.bytes,
        revision: item.revision,
    })
}

/// Whether a store is the same as before, and not behind.
fn is_same_store(before: &Header, now: &Header) -> bool {
    before.cluster == now.cluster && before.term == now.term && before.revision <= now.revision
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_store_or_an_older_one_is_not_the_same() {
        let then = Header {
            cluster: 1,
            term: 2,
            revision: 10,
        };
        assert!(is_same_store(
            &then,
            &Header {
                revision: 11,
                ..then
            }
        ));
        assert!(!is_same_store(
            &then,
            &Header {
                revision: 9,
                ..then
            }
        ));
        assert!(!is_same_store(&then, &Header { cluster: 2, ..then }));
        assert!(!is_same_store(&then, &Header { term: 3, ..then }));
    }
}
