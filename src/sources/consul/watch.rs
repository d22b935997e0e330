//! Watches by reads that block until something changes.
//!
//! Consul's documentation of blocking queries defines the indexes, and when not to trust one. After an index
//! that went backwards, and after any error, everything is read again. The answer with such an index is not
//! sent, since it may be older than the last one.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind};
use crate::source::{Source, SourceContext, Update};
use crate::sources::consul::Consul;
use crate::sources::consul::client::{Connection, WAIT};
use crate::sources::consul::heartbeat::{HEARTBEAT, Interrupt, WatchState};
use crate::sources::consul::response::Listing;
use crate::sources::shared::kv::{self, jittered, mirror::Mirror};
use crate::value::document::Document;

/// The shortest time from one read to the next.
const PAUSE: Duration = Duration::from_millis(100);

/// The longest time from one read to the next where answers bring no change.
const MAX_PAUSE: Duration = Duration::from_secs(4);

/// The pause before the next read. Answers without a change double it: an agent answers a blocking read of a
/// prefix without keys at each change of any key, and a broken agent may never block.
#[derive(Default)]
struct Pace {
    /// The number of early answers in a row that brought no change.
    unchanged: u32,
}

impl Pace {
    fn pause(&mut self, has_changed: bool, waited: Duration) -> Duration {
        if has_changed || waited >= HEARTBEAT {
            self.unchanged = 0;
            return PAUSE;
        }
        self.unchanged = self.unchanged.saturating_add(1);
        let pause = PAUSE
            .saturating_mul(1 << self.unchanged.min(10))
            .min(MAX_PAUSE);
        // One change wakes many programs, which should not continue in step.
        jittered(pause)
    }
}

/// The index that the next read waits to change; 0 reads everything at once.
fn next_index(before: u64, answered: u64, waited: Duration) -> u64 {
    // A restored store repeats an index, and answers early.
    let is_early = before > 0 && answered == before && waited < WAIT / 2;
    if is_early { 0 } else { answered }
}

impl Consul {
    /// Reads everything, and again after each change.
    pub(super) fn follow(&self, mirror: &mut Mirror, updates: &SourceContext) -> Result<(), Error> {
        let mut connection = Connection::of_watch(self.agent()?, updates);
        let watch = Arc::new(WatchState::new(connection.agent(), self.agent()?));
        let ended = Arc::clone(&watch);
        updates.on_stop(move || ended.end());
        let (listing, server) = match self.read_all(&mut connection) {
            Err(_) if updates.is_stopped() => return Ok(()),
            read => read?,
        };
        updates.set_location(server);
        self.send_all(mirror, &watch, updates, &listing);
        let index = listing.index.max(1);
        drop(listing);
        thread::scope(|threads| {
            let heartbeats = thread::Builder::new().name("liveprops-consul".to_owned());
            let sending =
                heartbeats.spawn_scoped(threads, || self.send_heartbeats(&watch, updates));
            let outcome = match sending {
                Ok(_) => self.follow_from(index, connection, mirror, &watch, updates),
                Err(fault) => {
                    let detail = format!("no thread can be started for the heartbeats: {fault}");
                    Err(Error::new(ErrorKind::Unavailable, detail).with_origin(self.origin()))
                }
            };
            watch.end();
            outcome
        })
    }

    /// Follows the changes after an index.
    fn follow_from(
        &self,
        mut index: u64,
        mut connection: Connection,
        mirror: &mut Mirror,
        watch: &WatchState,
        updates: &SourceContext,
    ) -> Result<(), Error> {
        let mut pace = Pace::default();
        let mut pause = PAUSE;
        while !updates.wait(pause) {
            let begun = Instant::now();
            if index > 0 {
                watch.set_waiting();
            }
            let read = self.read(&mut connection, index, || watch.set_busy());
            watch.set_busy();
            if updates.is_stopped() {
                return Ok(());
            }
            match watch.take_interrupt() {
                None => {}
                Some(Interrupt::Failed(error)) => return Err(error),
                Some(Interrupt::Stale) => {
                    connection = Connection::of_watch(self.agent()?, updates);
                    watch.set_client(connection.agent());
                    (index, pause) = (0, Duration::ZERO);
                    continue;
                }
            }
            let (listing, _) = read?;
            let waited = begun.elapsed();
            // A broken agent answers with 0, which would not block.
            let answered = listing.index.max(1);
            if answered < index {
                // The server is behind, or it has another history. A consistent read decides.
                (index, pause) = (0, PAUSE.saturating_sub(waited));
                continue;
            }
            let has_changed = self.send_changes(mirror, watch, updates, &listing);
            index = next_index(index, answered, waited);
            // The pause counts from the start of the read.
            pause = pace
                .pause(has_changed, waited)
                .saturating_sub(begun.elapsed());
        }
        Ok(())
    }

    /// Sends everything that the first read of a watch brought.
    fn send_all(
        &self,
        mirror: &mut Mirror,
        watch: &WatchState,
        updates: &SourceContext,
        listing: &Listing,
    ) {
        let update = self
            .to_document(mirror, listing)
            .map(Update::full)
            .map(Some);
        self.send_update(update, watch, updates, listing);
    }

    /// Sends what a read has changed; returns whether anything has.
    fn send_changes(
        &self,
        mirror: &mut Mirror,
        watch: &WatchState,
        updates: &SourceContext,
        listing: &Listing,
    ) -> bool {
        let update = self
            .replace(mirror, listing)
            .and_then(|()| mirror.update(listing.index.to_string()));
        let has_changed = matches!(update, Ok(Some(_)));
        self.send_update(update, watch, updates, listing);
        has_changed
    }

    fn send_update(
        &self,
        update: Result<Option<Update>, Error>,
        watch: &WatchState,
        updates: &SourceContext,
        listing: &Listing,
    ) {
        let fault = update.as_ref().err().cloned();
        watch.record_read(listing.index, listing.is_empty(), fault);
        kv::send(update, updates);
    }

    /// The state after a read, as a document.
    pub(super) fn to_document(
        &self,
        mirror: &mut Mirror,
        listing: &Listing,
    ) -> Result<Document, Error> {
        self.replace(mirror, listing)?;
        mirror.document(listing.index.to_string())
    }

    fn replace(&self, mirror: &mut Mirror, listing: &Listing) -> Result<(), Error> {
        let entries = listing
            .entries()
            .map_err(|error| error.with_origin(self.origin()))?;
        mirror.replace(entries);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn answers_without_a_change_double_the_pause_until_there_is_one_or_the_watch_waits_again() {
        let mut pace = Pace::default();
        assert_eq!(pace.pause(true, Duration::ZERO), PAUSE);
        let mut last = PAUSE;
        for _ in 0..5 {
            let pause = pace.pause(false, Duration::ZERO);
            assert!(
                pause >= last.min(MAX_PAUSE * 3 / 4),
                "{pause:?} after {last:?}"
            );
            last = pause;
        }
        for _ in 0..100 {
            let pause = pace.pause(false, SECOND);
            assert!(
                pause >= MAX_PAUSE * 3 / 4 && pause <= MAX_PAUSE,
                "{pause:?}"
            );
        }
        assert_eq!(pace.pause(false, HEARTBEAT), PAUSE);
        assert!(pace.pause(false, SECOND) > PAUSE);
        assert_eq!(pace.pause(true, SECOND), PAUSE);
    }

    #[test]
    fn an_index_that_came_back_early_is_not_waited_on() {
        assert_eq!(next_index(5, 7, SECOND), 7);
        assert_eq!(next_index(5, 5, SECOND), 0);
        assert_eq!(next_index(5, 5, WAIT), 5);
        assert_eq!(next_index(0, 5, SECOND), 5);
    }
}
