//! Following a store: a read of everything, then one stream after the other, and all of it again after a
//! doubt.

use std::time::Instant;

use crate::error::Error;
use crate::source::{Source, SourceContext, Update};
use crate::sources::etcd::pace::Pace;
use crate::sources::etcd::wire::{Ask, Event, Fault, Header, Item, Lines, Listing, Message, Next};
use crate::sources::etcd::{BEGIN, Etcd, PAUSE, STREAM};
use crate::sources::shared::http_client;
use crate::sources::shared::http_client::reuse::Client;
use crate::sources::shared::kv::mirror::{Entry, Mirror};
use crate::sources::shared::kv::{self, about};

/// How many updates may follow each other closely before [`PAUSE`] is between them.
const BURST: u32 = 32;
/// How far the store may be ahead of what we have seen before we ask whether we missed nothing: a
/// stream that begins long ago is work for the store.
const FAR: u64 = 10_000;

/// What the store holds, and at which revision.
pub(super) struct Held {
    pub(super) mirror: Mirror,
    pub(super) revision: u64,
    pace: Pace,
}

/// Up to where the store is followed.
struct Place {
    header: Header,
    /// How many keys there are.
    count: u64,
}

/// Why a stream is over, other than by an error.
enum End {
    /// The program is.
    Stopped,
    /// Everything is to be read again.
    Doubt,
}

impl Etcd {
    /// Runs a call with what the one before has left.
    pub(super) fn with_held<R>(&self, run: impl FnOnce(&mut Held) -> R) -> R {
        let make = || Held {
            mirror: Mirror::new(self.options.mapping.clone()),
            revision: 0,
            pace: Pace::default(),
        };
        self.held.with(make, run)
    }

    /// Reads all and follows from there, again after each doubt.
    pub(super) fn run(&self, held: &mut Held, updates: &SourceContext) -> Result<(), Error> {
        let client = self.client()?;
        let stopped = client.agent.clone();
        updates.on_stop(move || stopped.clone().shutdown());
        let mut watch = Watch {
            updates,
            held,
            client: &client,
            answered: false,
            due: Instant::now(),
        };
        let mut first = true;
        while !updates.wait(watch.held.pace.pause()) {
            let end = self.list_and_follow(&mut watch, &mut first);
            let (error, may_go_on) = match end {
                _ if updates.is_stopped() => return Ok(()),
                Ok(End::Stopped) => return Ok(()),
                Ok(End::Doubt) => {
                    let detail = "the servers do not agree on what the store is";
                    let error = http_client::unavailable(detail).with_origin(self.origin());
                    (error, true)
                }
                Err(error) if !watch.answered => return Err(error),
                // One has answered, and another member may have all that it has.
                Err(error) => (error, self.options.endpoints.count() > 1),
            };
            watch.answered = false;
            let quiet = watch.held.pace.ended();
            if !(quiet && may_go_on) {
                return Err(error);
            }
        }
        Ok(())
    }

    fn list_and_follow(&self, watch: &mut Watch<'_>, first: &mut bool) -> Result<End, Error> {
        let all = self.read_all(watch.client)?;
        watch.answered = true;
        let revision = all.header.revision.to_string();
        if watch.updates.is_stopped() {
            return Ok(End::Stopped);
        }
        watch.updates.set_degraded(self.login_warning());
        watch.held.replace(&all);
        let update = if std::mem::take(first) {
            let all = watch.held.mirror.whole(revision);
            all.map(|all| Some(Update::full(all)))
        } else {
            watch.held.update()
        };
        if watch.send(update) {
            return Ok(End::Stopped);
        }
        let mut place = Place {
            header: all.header,
            count: all.count,
        };
        drop(all);
        self.follow(watch, &mut place)
    }

    /// Follows the store from a place on, one stream after the other.
    fn follow(&self, watch: &mut Watch<'_>, place: &mut Place) -> Result<End, Error> {
        let range = self.range();
        // How far the store was when the last stream began.
        let mut seen = place.header.revision;
        loop {
            if seen.saturating_sub(place.header.revision) > FAR
                && !self.catch_up(watch, place, &range)?
            {
                return Ok(End::Doubt);
            }
            let from = place.header.revision.saturating_add(1);
            let stream = self.ask(watch.client, |ask| {
                let ask = Ask {
                    response: BEGIN,
                    token: ask.token.clone(),
                    ..*ask
                };
                ask.watch(&range, from, about(STREAM))
            })?;
            let ((mut lines, first), server) = stream;
            match first {
                Message::Created(now) if is_same(&place.header, &now) => seen = now.revision,
                _ => return Ok(End::Doubt),
            }
            watch.updates.set_location(server);
            watch.updates.set_degraded(self.login_warning());
            // A document that is broken is so still.
            let update = watch.held.update();
            if watch.send(update) {
                return Ok(End::Stopped);
            }
            let begun = Instant::now();
            let end = self.stream(watch, place, &mut lines);
            watch.held.pace.lasted(begun.elapsed());
            if let Some(end) = end? {
                return Ok(end);
            }
        }
    }

    /// Takes what a stream brings until its time is over; or says what ended it.
    fn stream(
        &self,
        watch: &mut Watch<'_>,
        place: &mut Place,
        lines: &mut Lines,
    ) -> Result<Option<End>, Error> {
        let mut idle = true;
        let explained = |fault: Fault| {
            if fault.renew {
                self.forget();
            }
            self.options.endpoints.next();
            fault.error.with_origin(self.origin())
        };
        loop {
            let mut message = match lines.next().map_err(explained)? {
                Next::Message(message) => Some(message),
                // What is too large for the time there is comes with everything else.
                Next::Over if idle && lines.is_within() => return Ok(Some(End::Doubt)),
                Next::Over => return Ok(None),
                Next::TooLong => return Ok(Some(End::Doubt)),
            };
            idle = false;
            while let Some(now) = message {
                match now {
                    Message::Created(_) => {}
                    Message::Compacted | Message::TooLarge => return Ok(Some(End::Doubt)),
                    Message::Events(_) if watch.updates.is_stopped() => {
                        return Ok(Some(End::Stopped));
                    }
                    Message::Events(events) => watch.held.apply(&events, place),
                }
                message = lines.ready().map_err(explained)?;
            }
            let update = watch.held.update();
            if watch.send(update) {
                return Ok(Some(End::Stopped));
            }
            if watch.held.mirror.wants_all() {
                return Ok(Some(End::Doubt));
            }
        }
    }

    /// Moves the place to where the store is now, if nothing of ours has changed on the way.
    fn catch_up(&self, watch: &Watch<'_>, place: &mut Place, range: &str) -> Result<bool, Error> {
        let since = place.header.revision;
        let (newer, _) = self.ask(watch.client, |ask| ask.range(range, Some(since)))?;
        let same = newer.items.is_empty() && newer.count == place.count;
        if same && is_same(&place.header, &newer.header) {
            place.header = newer.header;
            return Ok(true);
        }
        Ok(false)
    }
}

impl Held {
    /// This is all there is.
    pub(super) fn replace(&mut self, all: &Listing) {
        self.mirror.replace(all.items.iter().filter_map(entry));
        self.revision = all.header.revision;
    }

    /// All of it, if anything is new.
    fn update(&mut self) -> Result<Option<Update>, Error> {
        self.mirror.update(self.revision.to_string())
    }

    /// Whole revisions have come: the place moves when all of their events are in.
    fn apply(&mut self, events: &[Event], place: &mut Place) {
        for event in events {
            place.count = place.count.saturating_add_signed(event.adds());
            // What was read in between is newer.
            if event.item.revision <= self.revision {
                continue;
            }
            match (entry(&event.item), event.deleted) {
                (Some(entry), true) => self.mirror.delete(entry.key),
                (Some(entry), false) => self.mirror.put(&entry),
                (None, _) => {}
            }
        }
        if let Some(last) = events.last() {
            place.header.revision = last.item.revision;
            self.revision = self.revision.max(last.item.revision);
        }
    }
}

/// What one call of [`Source::watch`] goes by.
struct Watch<'a> {
    updates: &'a SourceContext,
    held: &'a mut Held,
    client: &'a Client,
    /// Whether everything was read since the last failure.
    answered: bool,
    /// When the last update would have come if all had come at their distance.
    due: Instant,
}

impl Watch<'_> {
    /// Sends what is new, and waits while too much is; returns whether the source is to end.
    fn send(&mut self, update: Result<Option<Update>, Error>) -> bool {
        kv::send(update, self.updates);
        let now = Instant::now();
        self.due = self.due.max(now) + PAUSE;
        let ahead = self.due.duration_since(now);
        self.updates.wait(ahead.saturating_sub(PAUSE * BURST))
    }
}

fn entry(item: &Item) -> Option<Entry<'_>> {
    Some(Entry {
        key: item.key.as_deref()?,
        bytes: &item.bytes,
        revision: item.revision,
    })
}

/// Whether a store is the one that was read, and not behind that.
fn is_same(then: &Header, now: &Header) -> bool {
    then.cluster == now.cluster && then.term == now.term && then.revision <= now.revision
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
        assert!(is_same(
            &then,
            &Header {
                revision: 11,
                ..then
            }
        ));
        assert!(!is_same(
            &then,
            &Header {
                revision: 9,
                ..then
            }
        ));
        assert!(!is_same(&then, &Header { cluster: 2, ..then }));
        assert!(!is_same(&then, &Header { term: 3, ..then }));
    }
}
