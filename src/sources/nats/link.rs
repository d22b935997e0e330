//! One connection to a server of NATS, and what is asked of JetStream on it.
//!
//! Any doubt about what was delivered ends the feed, and everything is read anew.

use std::collections::HashMap;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use serde_json::{Value as Json, json};
use tokio::time::{Instant, timeout, timeout_at};

use crate::error::{Error, ErrorKind};
use crate::format::MAX_DOCUMENT_BYTES;
use crate::sources::nats::client::{Client, Connection, Subscription, Unanswered, new_inbox};
use crate::sources::nats::follow::Progress;
use crate::sources::nats::wire::Message;

/// How long it may take to get an answer.
const ANSWER: Duration = Duration::from_secs(2);
/// How often a consumer says that it is there while it has nothing to deliver.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How long one may be silent before it is taken for dead.
const SILENCE: Duration = Duration::from_millis(2500);
/// How long one that leads may have heard nothing of another that keeps the same bucket: they say
/// something each second.
const HEARD: Duration = Duration::from_secs(3);
/// After what time without a reader the server drops a consumer.
const INACTIVE: Duration = Duration::from_secs(5);
/// How long the end of a feed may take.
const AT_ONCE: Duration = Duration::from_millis(60);
/// What all values that are read at once may hold, each with its key and [`CHANGE_BYTES`].
pub(super) const MAX_READ: usize = 3 * MAX_DOCUMENT_BYTES;
pub(super) const CHANGE_BYTES: usize = 64;
/// The largest answer of JetStream: what is asked for takes a few KiB.
const MAX_ANSWER: usize = 256 << 10;
/// How much is shown of what a server says.
const SHOWN: usize = 120;

/// What JetStream answers where a stream is not there.
const NO_STREAM: u64 = 10059;

pub(super) struct Link {
    connection: Connection,
    client: Client,
    /// What requests to JetStream begin with.
    api: String,
}

impl Link {
    /// Asks on a connection, which is not made again when it is lost.
    pub(super) fn new(connection: Connection, domain: Option<&str>) -> Self {
        Self {
            client: connection.client().clone(),
            connection,
            api: match domain {
                Some(domain) => format!("$JS.{domain}.API"),
                None => "$JS.API".to_owned(),
            },
        }
    }

    /// Waits for the connection to end, and says so.
    pub(super) async fn ended(&self) -> Error {
        let why = self.connection.lost().await;
        unavailable(format!(
            "the connection has ended: {}{}",
            cut(&why),
            self.said()
        ))
    }

    /// What the server said last, to be added to an error.
    fn said(&self) -> String {
        let said = self.connection.said();
        said.map_or_else(String::new, |said| format!(" ({})", cut(&said)))
    }

    async fn ask(&self, what: &str, body: String) -> Result<Json, Error> {
        let subject = format!("{}.{what}", self.api);
        let answer = self.client.request(&subject, body.as_bytes(), ANSWER).await;
        let answer = answer.map_err(|why| match why {
            Unanswered::Late => late(&format!("JetStream answered{}", self.said()), ANSWER),
            Unanswered::NoResponders => unavailable("there is no JetStream here"),
            Unanswered::InvalidSubject => {
                Error::new(ErrorKind::InvalidConfig, "a name is not valid")
            }
            Unanswered::Ended => unavailable("the connection has ended"),
        })?;
        if answer.length > MAX_ANSWER {
            let detail = format!(
                "JetStream answers with {} bytes, which are more than {MAX_ANSWER}",
                answer.length
            );
            return Err(Error::new(ErrorKind::TooLarge, detail));
        }
        serde_json::from_slice(&answer.payload)
            .map_err(|_| Error::new(ErrorKind::Malformed, "the answer is not that of JetStream"))
    }

    /// What is known of a bucket; `None` if there is none.
    pub(super) async fn bucket(&self, name: &str) -> Result<Option<Bucket>, Error> {
        let answer = self
            .ask(&format!("STREAM.INFO.KV_{name}"), String::new())
            .await?;
        match failure(&answer) {
            Some((NO_STREAM, _)) => Ok(None),
            Some((_, error)) => Err(error),
            None if is_alone(&answer["cluster"]) => Err(unavailable(
                "the server has no leader, or lost the others of its cluster",
            )),
            None => Ok(Some(Bucket::of(&answer))),
        }
    }

    /// Deletes consumers that earlier connections left, if that can be done at once.
    pub(super) async fn delete(&self, consumers: Vec<String>) {
        let each = async {
            for consumer in consumers {
                let _ = self.client.request(&consumer, b"", ANSWER).await;
            }
        };
        let _ = timeout(ANSWER / 4, each).await;
    }

    /// A feed of everything that a filter of keys lets through, and of what changes, if it can be had
    /// within `limit`.
    pub(super) async fn feed(
        &self,
        bucket: &str,
        known: &Bucket,
        filter: &str,
        limit: Duration,
    ) -> Result<Feed, Error> {
        let inbox = new_inbox();
        let name = inbox.rsplit('.').next().unwrap_or_default().to_owned();
        // Messages may be here before the answer is.
        let messages = match self.client.subscribe(&inbox) {
            Ok(messages) => messages,
            Err(_) => return Err(unavailable("the connection has ended")),
        };
        let mut feed = Feed {
            client: self.client.clone(),
            messages,
            consumer: format!("{}.CONSUMER.DELETE.KV_{bucket}.{name}", self.api),
            subjects: format!("$KV.{}.", known.mirrors.as_deref().unwrap_or(bucket)),
            bucket: bucket.to_owned(),
            delivered: 0,
            total: 0,
            owed: None,
            elsewhere: None,
            heard: Instant::now(),
        };
        let subject = format!("{}{filter}", feed.subjects);
        let body = json!({
            "stream_name": format!("KV_{bucket}"),
            "config": {
                "name": name,
                "deliver_subject": inbox,
                "deliver_policy": "last_per_subject",
                "filter_subject": subject,
                "ack_policy": "none",
                "max_deliver": 1,
                "replay_policy": "instant",
                "flow_control": true,
                "idle_heartbeat": nanos(HEARTBEAT),
                "inactive_threshold": nanos(INACTIVE),
                "mem_storage": true,
                "num_replicas": 1,
            },
        });
        let what = format!("CONSUMER.CREATE.KV_{bucket}.{name}.{subject}");
        let created = match timeout(limit, self.ask(&what, body.to_string())).await {
            Ok(created) => created,
            Err(_) => {
                let end = format!("a consumer was made{}", self.said());
                Err(late(&end, limit))
            }
        };
        let created = created.and_then(|answer| match failure(&answer) {
            Some((_, error)) => Err(error),
            None => Ok(answer),
        });
        match created {
            Ok(answer) => {
                // What was delivered in the meantime is no longer pending.
                let delivered = number(&answer, &["delivered", "consumer_seq"]);
                feed.total = number(&answer, &["num_pending"]).saturating_add(delivered);
                feed.elsewhere = known.elsewhere(&answer["cluster"]);
                Ok(feed)
            }
            Err(error) => {
                // It may be there all the same.
                feed.end().await;
                Err(error)
            }
        }
    }
}

/// What is known of a bucket.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Bucket {
    pub(super) created: String,
    /// The member of a cluster that has all of it.
    leader: Option<String>,
    messages: u64,
    first: u64,
    pub(super) last: u64,
    deleted: u64,
    subjects: u64,
    /// How old a value may get, in nanoseconds; 0 for any.
    max_age: u64,
    /// Whether a value may have an age of its own.
    ages: bool,
    /// Whether the server tells of what has expired.
    tells: bool,
    /// The bucket that this one mirrors, whose name its subjects have.
    mirrors: Option<String>,
}

impl Bucket {
    fn of(answer: &Json) -> Self {
        let state = |name| number(answer, &["state", name]);
        let config = &answer["config"];
        Self {
            created: answer["created"].as_str().unwrap_or_default().to_owned(),
            leader: leader(&answer["cluster"]),
            messages: state("messages"),
            first: state("first_seq"),
            last: state("last_seq"),
            deleted: state("num_deleted"),
            subjects: state("num_subjects"),
            max_age: number(answer, &["config", "max_age"]),
            ages: config["allow_msg_ttl"].as_bool().unwrap_or_default(),
            tells: number(answer, &["config", "subject_delete_marker_ttl"]) > 0,
            mirrors: config["mirror"]["name"]
                .as_str()
                .and_then(|name| name.strip_prefix("KV_"))
                .map(str::to_owned),
        }
    }

    /// Whether values go without a word.
    fn expires(&self) -> bool {
        (self.max_age > 0 || self.ages) && !self.tells
    }

    /// What is wrong with a bucket whose values go without a word.
    pub(super) fn warning(&self, every: Duration) -> Option<Error> {
        if !self.expires() {
            return None;
        }
        let age = match self.max_age {
            0 => "an age of their own".to_owned(),
            age => format!("{:?}", Duration::from_nanos(age)),
        };
        let detail = format!(
            "values expire in this bucket, after {age}, of which the server tells nobody: they are \
             looked for every {every:?}"
        );
        Some(Error::new(ErrorKind::InvalidConfig, detail))
    }

    /// The member that a consumer is on, if that is not the one that leads. The server takes any
    /// member, also one that has just come back and does not have everything yet.
    fn elsewhere(&self, cluster: &Json) -> Option<String> {
        leader(cluster).filter(|there| self.leader.as_ref().is_some_and(|it| it != there))
    }

    /// Whether something may have gone since `before` that no message told of: expired, purged
    /// without a marker, pushed out by a limit; or the bucket is another one, or another member
    /// leads.
    pub(super) fn doubts(&self, before: &Self) -> bool {
        if self == before {
            return false;
        }
        self.created != before.created
            || self.leader != before.leader
            || self.last <= before.last
            || self.subjects < before.subjects
            || self.expires()
    }
}

/// What a consumer delivers.
pub(super) struct Feed {
    client: Client,
    messages: Subscription,
    /// The request that deletes the consumer.
    consumer: String,
    /// What subjects begin with, and keys.
    subjects: String,
    bucket: String,
    /// How many messages have come.
    delivered: u64,
    /// How many there were at its beginning.
    total: u64,
    /// What the server waits for before it sends more.
    owed: Option<String>,
    /// The member that it is from, if that is not the one that leads.
    elsewhere: Option<String>,
    heard: Instant,
}

/// What comes from a feed.
#[allow(clippy::large_enum_variant)] // it is never kept
pub(super) enum News {
    Change(Change),
    /// Nothing is new, and all that is known of has come.
    Calm,
    /// Something was missed, or the consumer is gone.
    Doubt,
}

/// A key was set or deleted.
pub(super) struct Change {
    /// The bucket and the key, with a dot between them.
    pub(super) key: String,
    pub(super) revision: u64,
    /// How many more changes there are.
    pub(super) pending: u64,
    place: u64,
    value: Value,
    goes_on: bool,
}

/// What a key holds.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Value {
    Set(Vec<u8>),
    Deleted,
    /// So many bytes, which are too many to be kept.
    TooLarge(usize),
}

impl Change {
    fn of(message: Message, bucket: &str, subjects: &str) -> Option<Self> {
        // `$JS.ACK.` stream, consumer, deliveries, revision, place, time, pending; newer ones have
        // the domain and the account before these.
        let reply = message.reply.as_ref()?;
        let mut at = match reply.split('.').count() {
            9 => reply.split('.').skip(5),
            11.. => reply.split('.').skip(7),
            _ => return None,
        };
        let revision = at.next()?.parse().ok()?;
        let place = at.next()?.parse().ok()?;
        let _time = at.next()?;
        let pending = at.next()?.parse().ok()?;
        let name = message.subject.strip_prefix(subjects)?;
        let mut key = String::with_capacity(bucket.len() + 1 + name.len());
        key.push_str(bucket);
        key.push('.');
        key.push_str(name);
        let gone = |it: &str| matches!(it, "DEL" | "PURGE");
        let is_deleted = message.header("KV-Operation").is_some_and(gone)
            || message.header("Nats-Marker-Reason").is_some();
        let goes_on = message.header("Nats-Batch-Id").is_some()
            && message.header("Nats-Batch-Commit").is_none();
        let value = match (is_deleted, message.is_cut()) {
            (true, _) => Value::Deleted,
            (false, true) => Value::TooLarge(message.length),
            (false, false) => Value::Set(message.payload),
        };
        Some(Self {
            key,
            revision,
            pending,
            place,
            value,
            goes_on,
        })
    }

    pub(super) fn value(&self) -> &Value {
        &self.value
    }

    /// How many bytes it counts.
    pub(super) fn bytes(&self) -> usize {
        let value = match &self.value {
            Value::Set(bytes) => bytes.len(),
            Value::Deleted | Value::TooLarge(_) => 0,
        };
        CHANGE_BYTES + self.key.len() + value
    }

    /// Whether it is a part of a batch that goes on.
    pub(super) fn goes_on(&self) -> bool {
        self.goes_on
    }
}

impl Feed {
    /// Everything there is now; `None` where it has to be begun anew.
    ///
    /// A key that is set while this goes on is passed over and comes again behind the others, of
    /// which the count of what is pending may know nothing. So unless each one came that was there
    /// before, it goes on up to the newest there is, or until the server has nothing to send.
    pub(super) async fn all(
        &mut self,
        link: &Link,
        known: &Bucket,
        progress: &Progress<'_>,
    ) -> Result<Option<Vec<Change>>, Error> {
        let mut newest: HashMap<String, Change> = HashMap::new();
        let (mut bytes, mut old, mut calm) = (0, 0u64, 0);
        let mut end = None;
        while self.total > 0 {
            match self.next().await? {
                News::Change(mut change) => {
                    calm = 0;
                    bytes += change.bytes();
                    if bytes > MAX_READ {
                        return Err(too_large());
                    }
                    let (revision, pending, place) =
                        (change.revision, change.pending, change.place);
                    let part = change.goes_on() && revision > known.last;
                    let key = std::mem::take(&mut change.key);
                    let before = newest.insert(key, change);
                    progress.reached(newest.len());
                    // Older servers may send two values of a key.
                    let was_old = before.is_some_and(|it| it.revision <= known.last);
                    old += u64::from(revision <= known.last);
                    old -= u64::from(was_old);
                    if part {
                        continue;
                    }
                    if pending == 0 && old == self.total {
                        break;
                    }
                    if end.is_none() && (pending == 0 || place >= self.total) {
                        let Some(now) = link.bucket(&self.bucket).await? else {
                            return Ok(None);
                        };
                        end = Some(now.last);
                    }
                    if end.is_some_and(|end| revision >= end) {
                        break;
                    }
                }
                News::Calm => {
                    calm += 1;
                    if end.is_none() && calm > 1 && (newest.len() as u64) < self.total {
                        return Ok(None);
                    }
                    if end.is_some() || calm > 1 {
                        break;
                    }
                }
                News::Doubt => return Ok(None),
            }
        }
        let all = newest.into_iter();
        let all = all.map(|(key, change)| Change { key, ..change });
        Ok(Some(all.collect()))
    }

    /// The next that comes. A call may be given up without losing anything.
    pub(super) async fn next(&mut self) -> Result<News, Error> {
        loop {
            if let Some(owed) = &self.owed {
                if self.client.publish(owed, b"").is_err() {
                    return Err(unavailable("the connection has ended"));
                }
                self.owed = None;
            }
            let message = match timeout_at(self.heard + SILENCE, self.messages.next()).await {
                Ok(Some(message)) => message,
                Ok(None) => return Err(unavailable("the connection has ended")),
                // The consumer was deleted, or the server is gone: asking tells which.
                Err(_) => return Ok(News::Doubt),
            };
            self.heard = Instant::now();
            match message.status() {
                None => match Change::of(message, &self.bucket, &self.subjects) {
                    Some(change) if change.place == self.delivered + 1 => {
                        self.delivered = change.place;
                        return Ok(News::Change(change));
                    }
                    _ => return Ok(News::Doubt),
                },
                Some(100) => {
                    if let Some(reply) = &message.reply {
                        self.owed = Some(reply.clone());
                        continue;
                    }
                    if let Some(stalled) = message.header("Nats-Consumer-Stalled") {
                        self.owed = Some(stalled.to_owned());
                        continue;
                    }
                    let last = message.header("Nats-Last-Consumer");
                    let last = last.and_then(|last| last.parse::<u64>().ok());
                    return Ok(match last {
                        Some(last) if last != self.delivered => News::Doubt,
                        _ => News::Calm,
                    });
                }
                Some(_) => return Ok(News::Doubt),
            }
        }
    }

    /// What is there already, without waiting.
    pub(super) fn ready(&mut self) -> Option<Result<News, Error>> {
        let next = pin!(self.next());
        match next.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(news) => Some(news),
            Poll::Pending => None,
        }
    }

    /// The program was busy, and could not hear.
    pub(super) fn listen_again(&mut self) {
        self.heard = Instant::now();
    }

    /// Why it is not to be believed, if another member leads than the one that it is from.
    pub(super) fn fault(&self) -> Option<Error> {
        let member = self.elsewhere.as_ref()?;
        let detail = format!(
            "given up before the server placed a consumer on the member that leads: the last was on \
             `{}`, which may be behind",
            cut(member)
        );
        Some(Error::new(ErrorKind::Timeout, detail))
    }

    /// Deletes the consumer, which otherwise stays for a while, if that can be done at once; says
    /// whether it was.
    pub(super) async fn end(self) -> bool {
        if self.client.is_lost() {
            return false;
        }
        let request = self.client.request(&self.consumer, b"", AT_ONCE);
        request.await.is_ok()
    }

    /// The request that deletes the consumer, for a later connection.
    pub(super) fn consumer(&self) -> &str {
        &self.consumer
    }
}

/// Whether what a server says of a bucket is not backed by most of those that keep it. One that leads
/// and is cut off from the others goes on to lead for up to 20 seconds, while they choose another.
fn is_alone(cluster: &Json) -> bool {
    let Some(replicas) = cluster["replicas"].as_array() else {
        return false;
    };
    let heard = |replica: &&Json| {
        let silent = number(replica, &["active"]);
        silent < nanos(HEARD) && (silent > 0 || replica["current"] == true)
    };
    let heard = replicas.iter().filter(heard).count();
    !cluster["leader"].is_string() || (heard + 1) * 2 <= replicas.len() + 1
}

/// The member that leads, where there are several.
fn leader(cluster: &Json) -> Option<String> {
    cluster["leader"].as_str().map(str::to_owned)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Why JetStream refused, and its number for that.
fn failure(answer: &Json) -> Option<(u64, Error)> {
    let error = answer.get("error")?;
    let code = number(error, &["err_code"]);
    let says = error["description"].as_str().unwrap_or_default();
    let detail = format!("JetStream refuses ({code}: {})", cut(says));
    Some((code, unavailable(detail)))
}

fn number(json: &Json, path: &[&str]) -> u64 {
    let found = path.iter().try_fold(json, |json, name| json.get(name));
    found.and_then(Json::as_u64).unwrap_or_default()
}

pub(super) fn too_large() -> Error {
    let detail = format!(
        "more than {MAX_READ} bytes are below it, each key counting its name, its value and \
         {CHANGE_BYTES}"
    );
    Error::new(ErrorKind::TooLarge, detail)
}

pub(super) fn unavailable(detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unavailable, detail)
}

pub(super) fn late(end: &str, limit: Duration) -> Error {
    let detail = format!("given up before {end}: the timeout of {limit:?} is over");
    Error::new(ErrorKind::Timeout, detail)
}

pub(super) fn cut(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(subject: &str, reply: &str) -> Message {
        Message::made_up(subject, reply, "", b"1")
    }

    #[test]
    fn where_a_message_stands_is_read_from_old_and_new_servers() {
        for reply in [
            "$JS.ACK.KV_b.c.1.70.3.1700000000.5",
            "$JS.ACK.hub.hash.KV_b.c.1.70.3.1700000000.5",
            "$JS.ACK.hub.hash.KV_b.c.1.70.3.1700000000.5.random",
        ] {
            let change = Change::of(message("$KV.b.app.n", reply), "b", "$KV.b.").unwrap();
            assert_eq!((change.revision, change.place, change.pending), (70, 3, 5));
            assert_eq!(change.key, "b.app.n");
            assert_eq!(change.value(), &Value::Set(b"1".to_vec()));
        }
        for reply in ["", "a.b", "$JS.ACK.KV_b.c.1.x.3.1700000000.5"] {
            assert!(Change::of(message("$KV.b.app.n", reply), "b", "$KV.b.").is_none());
        }
    }

    #[test]
    fn one_that_leads_and_hears_of_nobody_is_alone() {
        let cluster = |leader: Json, others: &[(u64, bool)]| {
            let replica = |(active, current): &(u64, bool)| {
                let nanos = active * 1_000_000_000;
                json!({"active": nanos, "current": current})
            };
            let replicas: Vec<Json> = others.iter().map(replica).collect();
            json!({"leader": leader, "replicas": replicas})
        };
        let led = |others: &[(u64, bool)]| !is_alone(&cluster(json!("a"), others));
        assert!(led(&[(1, true), (2, true)]));
        assert!(led(&[(1, true), (50, false)]), "most are there");
        assert!(led(&[(0, true), (0, false)]));
        assert!(!led(&[(4, true), (4, true)]));
        assert!(!led(&[(0, false), (0, false)]), "of none it ever heard");
        assert!(led(&[(1, true), (1, true), (9, false), (9, false)]));
        assert!(
            !led(&[(1, true), (9, true), (9, false)]),
            "half are not most"
        );
        assert!(is_alone(&cluster(Json::Null, &[(1, true), (1, true)])));
        // One server, or one that keeps it in a cluster.
        assert!(!is_alone(&Json::Null));
        assert!(!is_alone(&json!({"leader": "a"})));
        assert!(led(&[]));
    }

    #[test]
    fn what_may_have_gone_without_a_word_is_doubted() {
        let answer = json!({
            "created": "then",
            "config": {},
            "state": {"messages": 9, "first_seq": 1, "last_seq": 20, "num_subjects": 9},
        });
        let before = Bucket::of(&answer);
        let after = |edit: &dyn Fn(&mut Json)| {
            let mut answer = answer.clone();
            edit(&mut answer);
            Bucket::of(&answer).doubts(&before)
        };
        assert!(!after(&|_| {}));
        assert!(!after(&|it| it["state"]["last_seq"] = json!(21)), "a put");
        assert!(after(&|it| it["state"]["messages"] = json!(8)), "a purge");
        assert!(
            after(&|it| it["state"]["last_seq"] = json!(19)),
            "a restore"
        );
        assert!(after(&|it| it["created"] = json!("now")), "another bucket");
        assert!(after(&|it| {
            it["state"]["last_seq"] = json!(21);
            it["cluster"] = json!({"leader": "another"});
        }));
        assert!(after(&|it| {
            it["state"]["last_seq"] = json!(30);
            it["state"]["num_subjects"] = json!(8);
        }));
        assert!(after(&|it| {
            it["config"]["max_age"] = json!(1);
            it["state"]["last_seq"] = json!(21);
        }));
        let mut marked = answer.clone();
        marked["config"] = json!({"max_age": 5_000_000_000u64});
        assert!(
            Bucket::of(&marked)
                .warning(SILENCE)
                .unwrap()
                .to_string()
                .contains("5s")
        );
        marked["config"]["subject_delete_marker_ttl"] = json!(1);
        assert!(Bucket::of(&marked).warning(SILENCE).is_none());
    }
}
