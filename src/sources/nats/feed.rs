//! A consumer of a bucket's stream, and the changes that it delivers.
//!
//! A message that may have been missed ends the feed, and the source reads everything again.

use std::collections::HashMap;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::error::{Error, ErrorKind};
use crate::format::MAX_DOCUMENT_BYTES;
use crate::sources::nats::bucket::Bucket;
use crate::sources::nats::client::{Client, Subscription};
use crate::sources::nats::errors::{cut, unavailable};
use crate::sources::nats::jetstream::JetStream;
use crate::sources::nats::progress::ReadProgress;
use crate::sources::nats::protocol::Message;

/// How long a consumer may be silent before it counts as lost.
const SILENCE: Duration = Duration::from_millis(2500);
/// How long the deletion of a consumer may take.
const DELETE_TIMEOUT: Duration = Duration::from_millis(60);
/// The most bytes of all values that one read brings, each with its key and [`CHANGE_BYTES`].
pub(super) const MAX_READ: usize = 3 * MAX_DOCUMENT_BYTES;
const CHANGE_BYTES: usize = 64;

/// The status of a message that carries a heartbeat or flow control.
const STATUS_IDLE: u16 = 100;

/// The consumer, as the source follows it.
pub(super) struct Feed {
    client: Client,
    messages: Subscription,
    /// The subject of the request that deletes the consumer.
    delete: String,
    /// The prefix of the subjects of keys.
    subjects: String,
    bucket: String,
    /// The number of messages so far.
    delivered: u64,
    /// The number of values at the start.
    total: u64,
    /// The subject that the server waits for before it sends more.
    flow_control: Option<String>,
    /// The member that the consumer is on, unless that is the leader.
    follower: Option<String>,
    last_message_at: Instant,
}

/// What a feed delivers.
#[allow(clippy::large_enum_variant)] // it is never kept
pub(super) enum FeedEvent {
    Change(Change),
    /// All known messages have arrived.
    Idle,
    /// A message was missed, or the consumer is lost.
    Gap,
}

/// A key was set or deleted.
pub(super) struct Change {
    /// The bucket and the key, with a dot between them.
    pub(super) key: String,
    pub(super) revision: u64,
    /// The number of changes that follow.
    pub(super) remaining: u64,
    /// The number of this message among those of the consumer.
    sequence: u64,
    value: Value,
    /// Whether the rest of the same batch follows.
    is_batch_open: bool,
}

/// The value of a changed key.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Value {
    Set(Vec<u8>),
    Deleted,
    /// This many bytes, which are too many to be kept.
    TooLarge(usize),
}

impl Change {
    fn of(message: Message, bucket: &str, subjects: &str) -> Option<Self> {
        // `$JS.ACK.` stream, consumer, deliveries, revision, sequence, time, remaining; newer servers put the
        // domain and the account before these.
        let reply = message.reply.as_ref()?;
        let mut fields = match reply.split('.').count() {
            9 => reply.split('.').skip(5),
            11.. => reply.split('.').skip(7),
            _ => return None,
        };
        let revision = fields.next()?.parse().ok()?;
        let sequence = fields.next()?.parse().ok()?;
        let _time = fields.next()?;
        let remaining = fields.next()?.parse().ok()?;
        let name = message.subject.strip_prefix(subjects)?;
        let mut key = String::with_capacity(bucket.len() + 1 + name.len());
        key.push_str(bucket);
        key.push('.');
        key.push_str(name);
        let is_removal = |operation: &str| matches!(operation, "DEL" | "PURGE");
        let is_deleted = message.header("KV-Operation").is_some_and(is_removal)
            || message.header("Nats-Marker-Reason").is_some();
        let is_batch_open = message.header("Nats-Batch-Id").is_some()
            && message.header("Nats-Batch-Commit").is_none();
        let value = match (is_deleted, message.is_cut()) {
            (true, _) => Value::Deleted,
            (false, true) => Value::TooLarge(message.length),
            (false, false) => Value::Set(message.payload),
        };
        Some(Self {
            key,
            revision,
            remaining,
            sequence,
            value,
            is_batch_open,
        })
    }

    pub(super) fn value(&self) -> &Value {
        &self.value
    }

    /// The bytes that it counts.
    pub(super) fn bytes(&self) -> usize {
        let value = match &self.value {
            Value::Set(bytes) => bytes.len(),
            Value::Deleted | Value::TooLarge(_) => 0,
        };
        CHANGE_BYTES + self.key.len() + value
    }

    pub(super) fn is_batch_open(&self) -> bool {
        self.is_batch_open
    }
}

impl Feed {
    /// A feed whose consumer is about to be created.
    pub(super) fn new(
        client: Client,
        messages: Subscription,
        delete: String,
        bucket: &str,
        known: &Bucket,
    ) -> Self {
        Self {
            client,
            messages,
            delete,
            subjects: format!("$KV.{}.", known.mirrored.as_deref().unwrap_or(bucket)),
            bucket: bucket.to_owned(),
            delivered: 0,
            total: 0,
            flow_control: None,
            follower: None,
            last_message_at: Instant::now(),
        }
    }

    /// Records the state of the created consumer.
    pub(super) fn start(&mut self, total: u64, follower: Option<String>) {
        (self.total, self.follower) = (total, follower);
    }

    /// The prefix of the subjects of keys.
    pub(super) fn subjects(&self) -> &str {
        &self.subjects
    }

    /// Reads all current values; `None` where the read has to be repeated.
    ///
    /// A key that is set meanwhile is skipped and delivered behind the others, and the count of remaining
    /// messages may not include it. So unless each value of the start was delivered, the read continues
    /// up to the newest revision, or until the server has nothing to send.
    pub(super) async fn read_all(
        &mut self,
        jetstream: &JetStream,
        known: &Bucket,
        progress: &ReadProgress<'_>,
    ) -> Result<Option<Vec<Change>>, Error> {
        let mut received = Received::new(known.last);
        let (mut idle, mut end) = (0, None);
        while self.total > 0 {
            let change = match self.next().await? {
                FeedEvent::Gap => return Ok(None),
                FeedEvent::Idle => {
                    idle += 1;
                    if end.is_none() && idle > 1 && received.count() < self.total {
                        return Ok(None);
                    }
                    if end.is_some() || idle > 1 {
                        break;
                    }
                    continue;
                }
                FeedEvent::Change(change) => change,
            };
            idle = 0;
            let (revision, sequence) = (change.revision, change.sequence);
            let is_last = change.remaining == 0;
            let is_new_batch_open = change.is_batch_open && revision > known.last;
            received.add(change)?;
            progress.reached(received.newest.len());
            if is_new_batch_open {
                continue;
            }
            if is_last && received.old == self.total {
                break;
            }
            if end.is_none() && (is_last || sequence >= self.total) {
                let Some(now) = jetstream.bucket(&self.bucket).await? else {
                    return Ok(None);
                };
                end = Some(now.last);
            }
            if end.is_some_and(|end| revision >= end) {
                break;
            }
        }
        Ok(Some(received.into_changes()))
    }

    /// Waits for the next event. A call may be cancelled without losing any.
    pub(super) async fn next(&mut self) -> Result<FeedEvent, Error> {
        loop {
            if let Some(subject) = &self.flow_control {
                if self.client.publish(subject, b"").is_err() {
                    return Err(unavailable("the connection has ended"));
                }
                self.flow_control = None;
            }
            let deadline = self.last_message_at + SILENCE;
            let message = match timeout_at(deadline, self.messages.next()).await {
                Ok(Some(message)) => message,
                Ok(None) => return Err(unavailable("the connection has ended")),
                // The consumer was deleted, or the server is gone: the next request finds out.
                Err(_) => return Ok(FeedEvent::Gap),
            };
            self.last_message_at = Instant::now();
            match message.status() {
                None => match Change::of(message, &self.bucket, &self.subjects) {
                    Some(change) if change.sequence == self.delivered + 1 => {
                        self.delivered = change.sequence;
                        return Ok(FeedEvent::Change(change));
                    }
                    _ => return Ok(FeedEvent::Gap),
                },
                Some(STATUS_IDLE) => {
                    let stalled = message.header("Nats-Consumer-Stalled");
                    self.flow_control = message.reply.as_deref().or(stalled).map(str::to_owned);
                    if self.flow_control.is_some() {
                        continue;
                    }
                    let last = message.header("Nats-Last-Consumer");
                    let last = last.and_then(|last| last.parse::<u64>().ok());
                    return Ok(match last {
                        Some(last) if last != self.delivered => FeedEvent::Gap,
                        _ => FeedEvent::Idle,
                    });
                }
                Some(_) => return Ok(FeedEvent::Gap),
            }
        }
    }

    /// The next event if it has already arrived.
    pub(super) fn ready(&mut self) -> Option<Result<FeedEvent, Error>> {
        let next = pin!(self.next());
        match next.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(event) => Some(event),
            Poll::Pending => None,
        }
    }

    /// Restarts the wait for a message after the program was busy with others.
    pub(super) fn reset_silence(&mut self) {
        self.last_message_at = Instant::now();
    }

    /// The error of a consumer that is not on the leader.
    pub(super) fn placement_error(&self) -> Option<Error> {
        let member = self.follower.as_ref()?;
        let detail = format!(
            "no consumer was placed on the leader in time: the last was on `{}`, which may be behind",
            cut(member)
        );
        Some(Error::new(ErrorKind::Timeout, detail))
    }

    /// Deletes the consumer, which the server otherwise keeps for a while, if that takes little time; returns
    /// whether it was deleted.
    pub(super) async fn end(self) -> bool {
        if self.client.is_lost() {
            return false;
        }
        let request = self.client.request(&self.delete, b"", DELETE_TIMEOUT);
        request.await.is_ok()
    }

    /// The subject of the request that deletes the consumer, for a later connection.
    pub(super) fn delete_request(&self) -> &str {
        &self.delete
    }
}

/// The changes that a read of all values has received so far.
struct Received {
    /// The newest revision at the start of the read.
    last: u64,
    newest: HashMap<String, Change>,
    bytes: usize,
    /// The number of keys whose newest change is from before the read.
    old: u64,
}

impl Received {
    fn new(last: u64) -> Self {
        Self {
            last,
            newest: HashMap::new(),
            bytes: 0,
            old: 0,
        }
    }

    /// Adds a change, which replaces an earlier one of its key: older servers may send two.
    fn add(&mut self, mut change: Change) -> Result<(), Error> {
        self.bytes += change.bytes();
        if self.bytes > MAX_READ {
            return Err(too_large());
        }
        self.old += u64::from(change.revision <= self.last);
        let key = std::mem::take(&mut change.key);
        let before = self.newest.insert(key, change);
        let was_old = before.is_some_and(|before| before.revision <= self.last);
        self.old -= u64::from(was_old);
        Ok(())
    }

    fn count(&self) -> u64 {
        self.newest.len() as u64
    }

    fn into_changes(self) -> Vec<Change> {
        let all = self.newest.into_iter();
        all.map(|(key, change)| Change { key, ..change }).collect()
    }
}

fn too_large() -> Error {
    let detail = format!(
        "more than {MAX_READ} bytes are below it, each key counting its name, its value and \
         {CHANGE_BYTES}"
    );
    Error::new(ErrorKind::TooLarge, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(subject: &str, reply: &str) -> Message {
        Message::made_up(subject, reply, "", b"1")
    }

    #[test]
    fn the_position_of_a_message_is_read_from_old_and_new_servers() {
        for reply in [
            "$JS.ACK.KV_b.c.1.70.3.1700000000.5",
            "$JS.ACK.hub.hash.KV_b.c.1.70.3.1700000000.5",
            "$JS.ACK.hub.hash.KV_b.c.1.70.3.1700000000.5.random",
        ] {
            let change = Change::of(message("$KV.b.app.n", reply), "b", "$KV.b.").unwrap();
            assert_eq!(
                (change.revision, change.sequence, change.remaining),
                (70, 3, 5)
            );
            assert_eq!(change.key, "b.app.n");
            assert_eq!(change.value(), &Value::Set(b"1".to_vec()));
        }
        for reply in ["", "a.b", "$JS.ACK.KV_b.c.1.x.3.1700000000.5"] {
            assert!(Change::of(message("$KV.b.app.n", reply), "b", "$KV.b.").is_none());
        }
    }
}
