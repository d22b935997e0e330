//! How a bucket is read, and followed until something is wrong with that.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{self, Instant, MissedTickBehavior};

use crate::error::{Error, ErrorKind};
use crate::source::{Source, SourceContext, Update};
use crate::sources::nats::link::{Bucket, Change, Feed, Link, MAX_READ, News, Value};
use crate::sources::nats::memory::{Memory, entry, too_large};
use crate::sources::nats::{Connected, Nats, run};
use crate::sources::shared::kv::mirror::Mirror;
use crate::sources::shared::kv::{self, about};

/// How long reading everything may take without getting further, and altogether.
pub(super) const TIMEOUT: Duration = Duration::from_secs(3);
pub(super) const LONGEST: Duration = Duration::from_secs(60);
/// How often a long reading gives a sign of life.
const SIGN: Duration = Duration::from_millis(500);
/// How long a consumer is waited for at first; then another one is, for twice that.
const CREATED: Duration = Duration::from_millis(900);
/// By how much the pauses grow before another consumer is made, while they are placed on members that
/// do not lead.
const PLACED: Duration = Duration::from_millis(5);
/// How often is looked for what goes without a word.
const LOOK: Duration = Duration::from_secs(4);
/// How often everything is read again at least, while anything changes in the bucket.
const AGAIN: Duration = Duration::from_secs(60);
/// How often is looked for a bucket that is not there.
const MISSING: Duration = Duration::from_millis(500);
/// The shortest time from one update to the next.
const PAUSE: Duration = Duration::from_millis(100);
/// How long is waited for the rest of what has begun to come.
const TOGETHER: Duration = Duration::from_secs(1);
/// So many consumers of lost connections are remembered, to be deleted.
const MAX_LEFT: usize = 16;
/// How long the servers of a cluster may take to elect a leader, and how often they are asked in that
/// time without a pause.
const ELECTION: Duration = Duration::from_secs(10);
const TRIES: u32 = 8;

/// How far the reading of everything is, which gives signs of life.
pub(super) struct Progress<'a> {
    /// The most changes that one attempt brought.
    most: Cell<usize>,
    until: Cell<Instant>,
    end: Instant,
    signed: Cell<Instant>,
    sign: &'a dyn Fn(),
}

impl<'a> Progress<'a> {
    pub(super) fn new(sign: &'a dyn Fn()) -> Self {
        let now = Instant::now();
        Self {
            most: Cell::new(0),
            until: Cell::new(now + TIMEOUT),
            end: now + LONGEST,
            signed: Cell::new(now),
            sign,
        }
    }

    /// An attempt has brought so many changes: more than any before extends the deadline.
    pub(super) fn reached(&self, count: usize) {
        if count <= self.most.get() {
            return;
        }
        self.most.set(count);
        let now = Instant::now();
        self.until.set((now + TIMEOUT).min(self.end));
        if now - self.signed.get() > SIGN {
            self.signed.set(now);
            (self.sign)();
        }
    }

    /// Waits until the deadline is over; says which.
    async fn is_over(&self) -> Duration {
        loop {
            let until = self.until.get();
            time::sleep_until(until).await;
            if self.until.get() <= until {
                return if until < self.end { TIMEOUT } else { LONGEST };
            }
        }
    }
}

impl Nats {
    /// Everything there is, as it goes into the mirror, and the feed that brought it.
    pub(super) async fn read_all(
        &self,
        link: &Link,
        known: &mut Bucket,
        filter: &str,
        progress: &Progress<'_>,
    ) -> Result<(Feed, Vec<Change>), Error> {
        let mut late = None;
        let read = async {
            let mut limit = CREATED;
            let mut pause = Duration::ZERO;
            let mut again = false;
            loop {
                if std::mem::replace(&mut again, true) {
                    // Another member may lead by now.
                    time::sleep(pause).await;
                    let now = link.bucket(&self.options.bucket).await?;
                    *known = now.ok_or_else(|| {
                        Error::new(ErrorKind::Unavailable, "the bucket has just been deleted")
                    })?;
                }
                let feed = link.feed(&self.options.bucket, known, filter, limit);
                let mut feed = match feed.await {
                    // A cluster may give it to a member that has just died, or elects a leader and
                    // hears nobody: another one may be made.
                    Err(error) if error.kind() == ErrorKind::Timeout => {
                        late = Some(error);
                        limit *= 2;
                        continue;
                    }
                    feed => feed?,
                };
                if let Some(fault) = feed.fault() {
                    self.give_up(feed).await;
                    late = Some(fault);
                    pause = (pause + PLACED).min(10 * PLACED);
                    continue;
                }
                late = None;
                match feed.all(link, known, progress).await {
                    Ok(Some(all)) => return Ok((feed, all)),
                    Ok(None) => self.give_up(feed).await,
                    Err(error) => {
                        self.give_up(feed).await;
                        return Err(error);
                    }
                }
            }
        };
        tokio::select! {
            biased;
            outcome = read => outcome,
            limit = progress.is_over() => Err(late.unwrap_or_else(|| {
                let detail = format!(
                    "given up before everything was read: the timeout of {limit:?} is over"
                );
                Error::new(ErrorKind::Timeout, detail)
            })),
        }
    }

    /// Ends a feed. A consumer that cannot be deleted now is deleted when that is possible.
    pub(super) async fn give_up(&self, feed: Feed) {
        let consumer = feed.consumer().to_owned();
        if !feed.end().await {
            let mut left = self.left.lock();
            if left.len() < MAX_LEFT {
                left.push(consumer);
            }
        }
    }

    /// Follows the bucket on one connection until something is wrong with that.
    async fn follow(
        &self,
        link: &Link,
        filter: &str,
        mut bucket: Option<Bucket>,
        current: &mut Option<Feed>,
        memory: &mut Memory,
        updates: &SourceContext,
    ) -> Result<(), Error> {
        let mut first = true;
        loop {
            let begun = Instant::now();
            let revision = match &mut bucket {
                None => {
                    updates.set_degraded(None);
                    memory.mirror.replace([]);
                    0
                }
                Some(known) => {
                    updates.set_degraded(known.warning(LOOK));
                    let alive = || updates.set_degraded(known.warning(LOOK));
                    let progress = Progress::new(&alive);
                    let mut now = known.clone();
                    let read = self.read_all(link, &mut now, filter, &progress).await;
                    *known = now;
                    let (feed, all) = read?;
                    if let Some(old) = current.replace(feed) {
                        self.give_up(old).await;
                    }
                    let newest = all.iter().map(|change| change.revision).max();
                    memory.replace(known, &all)?;
                    newest.unwrap_or_default().max(known.last)
                }
            };
            self.send(
                &mut memory.mirror,
                updates,
                revision,
                std::mem::take(&mut first),
            );
            bucket = match (bucket, current.as_mut()) {
                (Some(known), Some(feed)) => {
                    feed.listen_again();
                    let mirror = &mut memory.mirror;
                    let now = self.live(link, feed, known, mirror, updates).await?;
                    // What is wrong may be so again at once.
                    time::sleep_until(begun + MISSING).await;
                    now
                }
                _ => {
                    time::sleep(MISSING).await;
                    link.bucket(&self.options.bucket).await?
                }
            };
        }
    }

    /// Tells of what the feed brings, until everything has to be read again; with what is known of
    /// the bucket then.
    async fn live(
        &self,
        link: &Link,
        feed: &mut Feed,
        mut known: Bucket,
        mirror: &mut Mirror,
        updates: &SourceContext,
    ) -> Result<Option<Bucket>, Error> {
        let begun = Instant::now();
        let mut sent = begun;
        let mut changed = false;
        let mut look = time::interval_at(begun + about(LOOK), LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let news = tokio::select! {
                biased;
                _ = look.tick() => None,
                news = feed.next() => Some(news?),
            };
            let first = match news {
                Some(News::Change(change)) => change,
                Some(News::Calm) => {
                    // A document that is broken is so still.
                    self.send(mirror, updates, known.last, false);
                    continue;
                }
                Some(News::Doubt) => return link.bucket(&self.options.bucket).await,
                None => {
                    let Some(now) = link.bucket(&self.options.bucket).await? else {
                        return Ok(None);
                    };
                    changed |= now != known;
                    if now.doubts(&known) || changed && begun.elapsed() > AGAIN {
                        return Ok(Some(now));
                    }
                    known = now;
                    continue;
                }
            };
            let (changes, whole) = self.gather(feed, first, sent + PAUSE).await?;
            for change in &changes {
                match change.value() {
                    Value::Set(bytes) => mirror.put(&entry(change, bytes)),
                    Value::Deleted => mirror.delete(&change.key),
                    Value::TooLarge(length) => mirror.refuse(&change.key, too_large(*length)),
                }
            }
            let revision = changes.last().map_or(0, |change| change.revision);
            self.send(mirror, updates, revision, false);
            if !whole || mirror.wants_all() {
                return link.bucket(&self.options.bucket).await;
            }
            sent = Instant::now();
            feed.listen_again();
        }
    }

    /// A change and those that come with it, and whether nothing was missed.
    async fn gather(
        &self,
        feed: &mut Feed,
        first: Change,
        until: Instant,
    ) -> Result<(Vec<Change>, bool), Error> {
        let limit = Instant::now() + TOGETHER;
        let mut bytes = first.bytes();
        let mut changes = vec![first];
        loop {
            if bytes > MAX_READ {
                return Ok((changes, true));
            }
            let until = match changes.last() {
                Some(last) if last.pending > 0 => limit,
                // The end of a batch may be a key that is not asked for.
                Some(last) if last.goes_on() => until.max(Instant::now() + PAUSE),
                _ => until,
            };
            // What is here already is taken in any case.
            let news = match feed.ready() {
                Some(news) => news,
                None if Instant::now() >= until => return Ok((changes, true)),
                None => match time::timeout_at(until, feed.next()).await {
                    Ok(news) => news,
                    Err(_) => return Ok((changes, true)),
                },
            };
            match news? {
                News::Change(change) => {
                    bytes += change.bytes();
                    changes.push(change);
                }
                News::Calm => {}
                News::Doubt => return Ok((changes, false)),
            }
            if Instant::now() > limit {
                return Ok((changes, true));
            }
        }
    }

    /// Follows the bucket on one connection, or on several one after the other.
    pub(super) fn watch_all(
        &self,
        memory: &mut Memory,
        updates: &SourceContext,
    ) -> Result<(), Error> {
        let filter = self.filter()?;
        let stop = Arc::new(Notify::new());
        let stopped = Arc::clone(&stop);
        updates.on_stop(move || stopped.notify_one());
        run(async {
            let mut tries = 0;
            loop {
                let begun = Instant::now();
                let outcome = self.watch_one(&stop, &filter, memory, updates).await;
                let outcome = outcome.inspect_err(|_| self.options.endpoints.next());
                if begun.elapsed() > ELECTION {
                    tries = 0;
                }
                match outcome {
                    // A cluster that elects a leader says nothing, and that took its time already.
                    Err(error)
                        if error.kind() == ErrorKind::Timeout
                            && self.options.endpoints.count() > 1
                            && tries < TRIES =>
                    {
                        tries += 1;
                        updates.report_error(error);
                    }
                    outcome => return outcome,
                }
            }
        })
    }

    /// Follows the bucket on one connection.
    async fn watch_one(
        &self,
        stop: &Notify,
        filter: &str,
        memory: &mut Memory,
        updates: &SourceContext,
    ) -> Result<(), Error> {
        let Connected {
            link,
            bucket,
            place,
        } = tokio::select! {
            biased;
            () = stop.notified() => return Ok(()),
            link = self.connect_any() => link?,
        };
        updates.set_location(place);
        let mut feed = None;
        let outcome = tokio::select! {
            biased;
            () = stop.notified() => Ok(()),
            error = link.ended() => Err(error),
            outcome = self.follow(&link, filter, bucket, &mut feed, memory, updates) => outcome,
        };
        if let Some(feed) = feed {
            self.give_up(feed).await;
        }
        outcome.map_err(|error| match error.origin() {
            None => error.with_origin(self.origin()),
            Some(_) => error,
        })
    }

    /// Hands over what is new in the mirror, or all of it.
    fn send(&self, mirror: &mut Mirror, updates: &SourceContext, revision: u64, all: bool) {
        let revision = revision.to_string();
        let update = if all {
            mirror.whole(revision).map(|all| Some(Update::full(all)))
        } else {
            mirror.update(revision)
        };
        kv::send(update, updates);
    }
}
