//! Reads a bucket, and follows it until the connection or the feed fails.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime;
use tokio::sync::Notify;
use tokio::time::{self, Instant, MissedTickBehavior};

use crate::error::{Error, ErrorKind};
use crate::source::{Source, SourceContext, Update};
use crate::sources::nats::Nats;
use crate::sources::nats::bucket::Bucket;
use crate::sources::nats::connect::Connected;
use crate::sources::nats::feed::{Change, Feed, FeedEvent, MAX_READ, Value};
use crate::sources::nats::jetstream::JetStream;
use crate::sources::nats::memory::{Memory, entry, too_large};
use crate::sources::nats::progress::ReadProgress;
use crate::sources::shared::kv::mirror::Mirror;
use crate::sources::shared::kv::{self, jittered};
use crate::value::document::Document;

/// How long the first consumer may take to be created; the next one may take twice as long.
const CREATE_TIMEOUT: Duration = Duration::from_millis(900);
/// By how much the pauses grow before another consumer is created, while followers get them.
const PLACEMENT_PAUSE: Duration = Duration::from_millis(5);
/// How often the state of the bucket is checked for values that were removed without a message.
const CHECK_INTERVAL: Duration = Duration::from_secs(4);
/// How often everything is read again at least, while anything changes in the bucket.
const RESCAN_INTERVAL: Duration = Duration::from_secs(60);
/// How often a missing bucket is looked for, and the shortest time from one read to the next.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// The shortest time from one update to the next.
const PAUSE: Duration = Duration::from_millis(100);
/// How long the rest of a batch may take.
const BATCH_TIMEOUT: Duration = Duration::from_secs(1);
/// The most consumers of lost connections that are remembered, to be deleted.
const MAX_ABANDONED: usize = 16;
/// How long a cluster may take to elect a leader, and how often its servers are asked in that time
/// without a pause.
const ELECTION: Duration = Duration::from_secs(10);
const MAX_ELECTION_RETRIES: u32 = 8;

impl Nats {
    /// Reads everything on a new connection.
    pub(super) fn read_document(&self) -> Result<Document, Error> {
        let filter = self.filter()?;
        block_on(async {
            let Connected {
                jetstream, bucket, ..
            } = self.connect_any().await?;
            let Some(mut bucket) = bucket else {
                return self.with_memory(|memory| {
                    memory.mirror.replace([]);
                    memory.mirror.document("0")
                });
            };
            let progress = ReadProgress::new(&|| {});
            let read = self
                .read_all(&jetstream, &mut bucket, &filter, &progress)
                .await;
            let (feed, all) = read.map_err(|error| error.with_origin(self.origin()))?;
            self.end_feed(feed).await;
            let revision = newest_revision(&all, &bucket);
            self.with_memory(|memory| {
                let replaced = memory.replace(&bucket, &all);
                replaced.map_err(|error| error.with_origin(self.origin()))?;
                memory.mirror.document(revision.to_string())
            })
        })
    }

    /// Reads all values that match a filter; returns them with the feed that delivered them.
    async fn read_all(
        &self,
        jetstream: &JetStream,
        known: &mut Bucket,
        filter: &str,
        progress: &ReadProgress<'_>,
    ) -> Result<(Feed, Vec<Change>), Error> {
        let mut last_timeout = None;
        let read = async {
            let mut limit = CREATE_TIMEOUT;
            let mut pause = Duration::ZERO;
            let mut is_retry = false;
            loop {
                if std::mem::replace(&mut is_retry, true) {
                    // The leader may have changed.
                    time::sleep(pause).await;
                    let now = jetstream.bucket(&self.options.bucket).await?;
                    *known = now.ok_or_else(|| {
                        Error::new(ErrorKind::Unavailable, "the bucket has just been deleted")
                    })?;
                }
                let feed = jetstream.feed(&self.options.bucket, known, filter, limit);
                let mut feed = match feed.await {
                    // A cluster may place a consumer on a member that has just failed, or elect a leader
                    // and answer nobody: another attempt may succeed.
                    Err(error) if error.kind() == ErrorKind::Timeout => {
                        last_timeout = Some(error);
                        limit *= 2;
                        continue;
                    }
                    feed => feed?,
                };
                if let Some(error) = feed.placement_error() {
                    self.end_feed(feed).await;
                    last_timeout = Some(error);
                    pause = (pause + PLACEMENT_PAUSE).min(10 * PLACEMENT_PAUSE);
                    continue;
                }
                last_timeout = None;
                match feed.read_all(jetstream, known, progress).await {
                    Ok(Some(all)) => return Ok((feed, all)),
                    Ok(None) => self.end_feed(feed).await,
                    Err(error) => {
                        self.end_feed(feed).await;
                        return Err(error);
                    }
                }
            }
        };
        tokio::select! {
            biased;
            outcome = read => outcome,
            limit = progress.timeout() => Err(last_timeout.unwrap_or_else(|| {
                let detail = format!("the read of everything timed out after {limit:?}");
                Error::new(ErrorKind::Timeout, detail)
            })),
        }
    }

    /// Ends a feed. A consumer that cannot be deleted now is deleted by a later connection.
    async fn end_feed(&self, feed: Feed) {
        let delete = feed.delete_request().to_owned();
        if !feed.end().await {
            let mut abandoned = self.abandoned.lock();
            if abandoned.len() < MAX_ABANDONED {
                abandoned.push(delete);
            }
        }
    }

    /// Follows the bucket on one connection until that fails. `current` is the feed to end then.
    async fn follow(
        &self,
        jetstream: &JetStream,
        filter: &str,
        mut bucket: Option<Bucket>,
        current: &mut Option<Feed>,
        memory: &mut Memory,
        updates: &SourceContext,
    ) -> Result<(), Error> {
        let mut is_first = true;
        loop {
            let begun = Instant::now();
            let revision = match &mut bucket {
                None => {
                    updates.set_degraded(None);
                    memory.mirror.replace([]);
                    0
                }
                Some(known) => {
                    let heartbeat = || updates.set_degraded(known.expiry_warning(CHECK_INTERVAL));
                    heartbeat();
                    let progress = ReadProgress::new(&heartbeat);
                    let mut now = known.clone();
                    let read = self.read_all(jetstream, &mut now, filter, &progress).await;
                    *known = now;
                    let (feed, all) = read?;
                    if let Some(old) = current.replace(feed) {
                        self.end_feed(old).await;
                    }
                    memory.replace(known, &all)?;
                    newest_revision(&all, known)
                }
            };
            let mirror = &mut memory.mirror;
            send(mirror, updates, revision, std::mem::take(&mut is_first));
            bucket = match (bucket, current.as_mut()) {
                (Some(known), Some(feed)) => {
                    feed.reset_silence();
                    let now = self
                        .follow_feed(jetstream, feed, known, mirror, updates)
                        .await?;
                    // The next feed may fail as soon as this one did.
                    time::sleep_until(begun + RETRY_INTERVAL).await;
                    now
                }
                _ => {
                    time::sleep(RETRY_INTERVAL).await;
                    jetstream.bucket(&self.options.bucket).await?
                }
            };
        }
    }

    /// Sends the changes of a feed until everything has to be read again; returns the state of the bucket.
    async fn follow_feed(
        &self,
        jetstream: &JetStream,
        feed: &mut Feed,
        mut known: Bucket,
        mirror: &mut Mirror,
        updates: &SourceContext,
    ) -> Result<Option<Bucket>, Error> {
        let begun = Instant::now();
        let mut sent = begun;
        let mut has_changed = false;
        let mut check = time::interval_at(begun + jittered(CHECK_INTERVAL), CHECK_INTERVAL);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let event = tokio::select! {
                biased;
                _ = check.tick() => None,
                event = feed.next() => Some(event?),
            };
            let first = match event {
                Some(FeedEvent::Change(change)) => change,
                Some(FeedEvent::Idle) => {
                    // Repeats the error of a document that is still broken.
                    send(mirror, updates, known.last, false);
                    continue;
                }
                Some(FeedEvent::Gap) => return jetstream.bucket(&self.options.bucket).await,
                None => {
                    let Some(now) = jetstream.bucket(&self.options.bucket).await? else {
                        return Ok(None);
                    };
                    has_changed |= now != known;
                    let is_due = has_changed && begun.elapsed() > RESCAN_INTERVAL;
                    if now.may_have_lost_values(&known) || is_due {
                        return Ok(Some(now));
                    }
                    known = now;
                    continue;
                }
            };
            let (changes, is_complete) = gather(feed, first, sent + PAUSE).await?;
            for change in &changes {
                match change.value() {
                    Value::Set(bytes) => mirror.put(&entry(change, bytes)),
                    Value::Deleted => mirror.delete(&change.key),
                    Value::TooLarge(length) => mirror.reject(&change.key, too_large(*length)),
                }
            }
            let revision = changes.last().map_or(0, |change| change.revision);
            send(mirror, updates, revision, false);
            if !is_complete || mirror.needs_reload() {
                return jetstream.bucket(&self.options.bucket).await;
            }
            sent = Instant::now();
            feed.reset_silence();
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
        let on_stop = Arc::clone(&stop);
        updates.on_stop(move || on_stop.notify_one());
        block_on(async {
            let mut retries = 0;
            loop {
                let begun = Instant::now();
                let outcome = self.watch_one(&stop, &filter, memory, updates).await;
                let outcome = outcome.inspect_err(|_| self.options.endpoints.next());
                if begun.elapsed() > ELECTION {
                    retries = 0;
                }
                match outcome {
                    // A cluster that elects a leader answers nobody; the timeout was the pause.
                    Err(error)
                        if error.kind() == ErrorKind::Timeout
                            && self.options.endpoints.count() > 1
                            && retries < MAX_ELECTION_RETRIES =>
                    {
                        retries += 1;
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
            jetstream,
            bucket,
            server,
        } = tokio::select! {
            biased;
            () = stop.notified() => return Ok(()),
            connected = self.connect_any() => connected?,
        };
        updates.set_location(server);
        let mut feed = None;
        let outcome = tokio::select! {
            biased;
            () = stop.notified() => Ok(()),
            error = jetstream.wait_for_loss() => Err(error),
            outcome = self.follow(&jetstream, filter, bucket, &mut feed, memory, updates) => outcome,
        };
        if let Some(feed) = feed {
            self.end_feed(feed).await;
        }
        outcome.map_err(|error| match error.origin() {
            None => error.with_origin(self.origin()),
            Some(_) => error,
        })
    }
}

/// Collects a change and those that arrive with it; returns whether no message was missed.
async fn gather(
    feed: &mut Feed,
    first: Change,
    until: Instant,
) -> Result<(Vec<Change>, bool), Error> {
    let limit = Instant::now() + BATCH_TIMEOUT;
    let mut bytes = first.bytes();
    let mut changes = vec![first];
    loop {
        if bytes > MAX_READ {
            return Ok((changes, true));
        }
        let until = match changes.last() {
            Some(last) if last.remaining > 0 => limit,
            // The last key of a batch may not match the filter.
            Some(last) if last.is_batch_open() => until.max(Instant::now() + PAUSE),
            _ => until,
        };
        // Events that have arrived are collected in any case.
        let event = match feed.ready() {
            Some(event) => event,
            None if Instant::now() >= until => return Ok((changes, true)),
            None => match time::timeout_at(until, feed.next()).await {
                Ok(event) => event,
                Err(_) => return Ok((changes, true)),
            },
        };
        match event? {
            FeedEvent::Change(change) => {
                bytes += change.bytes();
                changes.push(change);
            }
            FeedEvent::Idle => {}
            FeedEvent::Gap => return Ok((changes, false)),
        }
        if Instant::now() > limit {
            return Ok((changes, true));
        }
    }
}

fn newest_revision(all: &[Change], bucket: &Bucket) -> u64 {
    let newest = all.iter().map(|change| change.revision).max();
    newest.unwrap_or_default().max(bucket.last)
}

/// Sends the changes of the mirror, or all of it.
fn send(mirror: &mut Mirror, updates: &SourceContext, revision: u64, all: bool) {
    let revision = revision.to_string();
    let update = if all {
        mirror.document(revision).map(|all| Some(Update::full(all)))
    } else {
        mirror.update(revision)
    };
    kv::send(update, updates);
}

/// Runs a future on this thread, without waiting for a name lookup that it has left behind.
fn block_on<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|fault| {
        let detail = format!("no runtime can be had: {fault}");
        Error::new(ErrorKind::Unavailable, detail)
    })?;
    let outcome = runtime.block_on(work);
    runtime.shutdown_background();
    outcome
}
