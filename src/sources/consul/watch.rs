//! The watch: reads that block until something changes.
//!
//! What the indexes mean, and when not to trust one, is from Consul's documentation of blocking
//! queries. After an index that went backwards, and after any error, everything is read again.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind};
use crate::source::{Source, SourceContext, Update};
use crate::sources::consul::Consul;
use crate::sources::consul::answer::Answer;
use crate::sources::consul::client::{Link, WAIT};
use crate::sources::consul::heartbeat::{HEARTBEAT, Pulse, Verdict};
use crate::sources::shared::kv::{self, about, mirror::Mirror};
use crate::value::document::Document;

/// The shortest time from one read to the next.
const PAUSE: Duration = Duration::from_millis(100);

/// The longest time from one read to the next where answers bring no news.
const MAX_PAUSE: Duration = Duration::from_secs(4);

/// How long to wait before the next read. Answers without news double the pause: an agent wakes those that
/// wait for a prefix without keys at each change of any key, and one that is broken may never wait.
#[derive(Default)]
struct Pace {
    /// How many answers in a row came early and brought no news.
    vain: u32,
}

impl Pace {
    fn pause(&mut self, has_news: bool, waited: Duration) -> Duration {
        if has_news || waited >= HEARTBEAT {
            self.vain = 0;
            return PAUSE;
        }
        self.vain = self.vain.saturating_add(1);
        let pause = PAUSE.saturating_mul(1 << self.vain.min(10)).min(MAX_PAUSE);
        // Programs that one change has woken do not go on in step.
        about(pause)
    }
}

/// The index to wait for a change of, after an answer; 0 reads everything at once.
fn next_index(before: u64, answered: u64, waited: Duration) -> u64 {
    // A store that is restored says what it said before, and says it early.
    let is_early = before > 0 && answered == before && waited < WAIT / 2;
    // An index that goes backwards means another past. 0 would not block.
    if is_early || answered < before {
        0
    } else {
        answered.max(1)
    }
}

impl Consul {
    /// Reads everything, and then again each time that something is new.
    pub(super) fn follow(&self, mirror: &mut Mirror, updates: &SourceContext) -> Result<(), Error> {
        let mut link = Link::of_watch(self.agent()?, updates);
        let pulse = Arc::new(Pulse::new(link.agent(), self.agent()?));
        let ended = Arc::clone(&pulse);
        updates.on_stop(move || ended.end());
        let (answer, place) = match self.read_all(&mut link) {
            Err(_) if updates.is_stopped() => return Ok(()),
            read => read?,
        };
        updates.set_location(place);
        self.send_all(mirror, &pulse, updates, &answer);
        let index = answer.index.max(1);
        drop(answer);
        thread::scope(|threads| {
            let heartbeats = thread::Builder::new().name("liveprops-consul".to_owned());
            let sending =
                heartbeats.spawn_scoped(threads, || self.send_heartbeats(&pulse, updates));
            let outcome = match sending {
                Ok(_) => self.follow_from(index, link, mirror, &pulse, updates),
                Err(fault) => {
                    let detail = format!("no thread can be started for the heartbeats: {fault}");
                    Err(Error::new(ErrorKind::Unavailable, detail).with_origin(self.origin()))
                }
            };
            pulse.end();
            outcome
        })
    }

    /// Follows the changes after an index.
    fn follow_from(
        &self,
        mut index: u64,
        mut link: Link,
        mirror: &mut Mirror,
        pulse: &Pulse,
        updates: &SourceContext,
    ) -> Result<(), Error> {
        let mut pace = Pace::default();
        let mut pause = PAUSE;
        while !updates.wait(pause) {
            let begun = Instant::now();
            if index > 0 {
                pulse.waits();
            }
            let read = self.read(&mut link, index, || pulse.is_busy());
            pulse.is_busy();
            if updates.is_stopped() {
                return Ok(());
            }
            let doubt = match pulse.take_verdict() {
                Some(Verdict::Failed(error)) => return Err(error),
                doubt => doubt.is_some(),
            };
            if doubt {
                link = Link::of_watch(self.agent()?, updates);
                pulse.renew(link.agent());
                (index, pause) = (0, Duration::ZERO);
                continue;
            }
            let (answer, _) = read?;
            let waited = begun.elapsed();
            let has_news = self.send_news(mirror, pulse, updates, &answer);
            index = next_index(index, answer.index, waited);
            let least = pace.pause(has_news, waited);
            pause = least.saturating_sub(begun.elapsed());
        }
        Ok(())
    }

    /// Sends everything that the first read of a watch has brought.
    fn send_all(
        &self,
        mirror: &mut Mirror,
        pulse: &Pulse,
        updates: &SourceContext,
        answer: &Answer,
    ) {
        let update = self.to_document(mirror, answer).map(Update::full).map(Some);
        self.send_update(update, pulse, updates, answer);
    }

    /// Sends what a read has brought; says whether that was anything new.
    fn send_news(
        &self,
        mirror: &mut Mirror,
        pulse: &Pulse,
        updates: &SourceContext,
        answer: &Answer,
    ) -> bool {
        let update = self
            .replace(mirror, answer)
            .and_then(|()| mirror.update(answer.index.to_string()));
        let has_news = matches!(update, Ok(Some(_)));
        self.send_update(update, pulse, updates, answer);
        has_news
    }

    fn send_update(
        &self,
        update: Result<Option<Update>, Error>,
        pulse: &Pulse,
        updates: &SourceContext,
        answer: &Answer,
    ) {
        let fault = update.as_ref().err().cloned();
        pulse.has_read(answer.index, answer.is_empty(), fault);
        kv::send(update, updates);
    }

    /// All that an answer brings, as a document.
    pub(super) fn to_document(
        &self,
        mirror: &mut Mirror,
        answer: &Answer,
    ) -> Result<Document, Error> {
        self.replace(mirror, answer)?;
        mirror.whole(answer.index.to_string())
    }

    fn replace(&self, mirror: &mut Mirror, answer: &Answer) -> Result<(), Error> {
        let entries = answer
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
    fn answers_without_news_double_the_pause_until_there_is_news_or_the_watch_waits_again() {
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
    fn an_index_that_went_backwards_or_came_back_early_is_not_waited_on() {
        assert_eq!(next_index(5, 7, SECOND), 7);
        assert_eq!(next_index(5, 4, SECOND), 0);
        assert_eq!(next_index(5, 5, SECOND), 0);
        assert_eq!(next_index(5, 5, WAIT), 5);
        assert_eq!(next_index(0, 0, SECOND), 1);
        assert_eq!(next_index(0, 5, SECOND), 5);
    }
}
