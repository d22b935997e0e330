//! Requests to JetStream on one connection.

use std::time::Duration;

use serde_json::{Value as Json, json};
use tokio::time::timeout;

use crate::error::{Error, ErrorKind};
use crate::sources::nats::bucket::{Bucket, lacks_quorum};
use crate::sources::nats::client::{Client, Connection, RequestError, new_inbox};
use crate::sources::nats::errors::{cut, timed_out, unavailable};
use crate::sources::nats::feed::Feed;

/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a consumer without messages sends a heartbeat.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How long the server keeps a consumer without a reader.
const INACTIVE: Duration = Duration::from_secs(5);
/// The largest answer of JetStream; the requests of a source bring a few KiB.
const MAX_ANSWER: usize = 256 << 10;

/// The error code of JetStream for a missing stream.
const NO_STREAM: u64 = 10059;

pub(super) struct JetStream {
    connection: Connection,
    client: Client,
    /// The prefix of the subjects of requests.
    api: String,
}

impl JetStream {
    /// Sends requests on a connection, which is not replaced when it is lost.
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

    /// Waits until the connection is lost; returns why.
    pub(super) async fn wait_for_loss(&self) -> Error {
        let why = self.connection.wait_for_loss().await;
        unavailable(format!(
            "the connection has ended: {}{}",
            cut(&why),
            self.server_error()
        ))
    }

    /// The newest error that the server sent by itself, as a suffix of a message.
    fn server_error(&self) -> String {
        let error = self.connection.take_server_error();
        error.map_or_else(String::new, |error| format!(" ({})", cut(&error)))
    }

    async fn request(&self, path: &str, body: String) -> Result<Json, Error> {
        let subject = format!("{}.{path}", self.api);
        let answer = self
            .client
            .request(&subject, body.as_bytes(), ANSWER_TIMEOUT)
            .await;
        let answer = answer.map_err(|why| match why {
            RequestError::TimedOut => timed_out(
                &format!("a request to JetStream{}", self.server_error()),
                ANSWER_TIMEOUT,
            ),
            RequestError::NoResponders => unavailable("there is no JetStream here"),
            RequestError::InvalidSubject => {
                Error::new(ErrorKind::InvalidConfig, "a name is not valid")
            }
            RequestError::Lost => unavailable("the connection has ended"),
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

    /// The state of a bucket; `None` if it does not exist.
    pub(super) async fn bucket(&self, name: &str) -> Result<Option<Bucket>, Error> {
        let path = format!("STREAM.INFO.KV_{name}");
        let answer = self.request(&path, String::new()).await?;
        match failure(&answer) {
            Some((NO_STREAM, _)) => Ok(None),
            Some((_, error)) => Err(error),
            None if lacks_quorum(&answer["cluster"]) => Err(unavailable(
                "the server has no leader, or lost the others of its cluster",
            )),
            None => Ok(Some(Bucket::of(&answer))),
        }
    }

    /// Deletes the consumers of earlier connections, as far as that takes little time.
    pub(super) async fn delete_consumers(&self, requests: Vec<String>) {
        let each = async {
            for request in requests {
                let _ = self.client.request(&request, b"", ANSWER_TIMEOUT).await;
            }
        };
        let _ = timeout(ANSWER_TIMEOUT / 4, each).await;
    }

    /// Creates a feed of all keys that match a filter, and of their changes. Fails if that takes longer
    /// than `limit`.
    pub(super) async fn feed(
        &self,
        bucket: &str,
        known: &Bucket,
        filter: &str,
        limit: Duration,
    ) -> Result<Feed, Error> {
        let inbox = new_inbox();
        let name = inbox.rsplit('.').next().unwrap_or_default().to_owned();
        // Messages may arrive before the answer.
        let messages = match self.client.subscribe(&inbox) {
            Ok(messages) => messages,
            Err(_) => return Err(unavailable("the connection has ended")),
        };
        let delete = format!("{}.CONSUMER.DELETE.KV_{bucket}.{name}", self.api);
        let mut feed = Feed::new(self.client.clone(), messages, delete, bucket, known);
        let subject = format!("{}{filter}", feed.subjects());
        let body = consumer_request(bucket, &name, &inbox, &subject);
        let path = format!("CONSUMER.CREATE.KV_{bucket}.{name}.{subject}");
        let created = match timeout(limit, self.request(&path, body.to_string())).await {
            Ok(created) => created,
            Err(_) => {
                let what = format!("the creation of a consumer{}", self.server_error());
                Err(timed_out(&what, limit))
            }
        };
        let created = created.and_then(|answer| match failure(&answer) {
            Some((_, error)) => Err(error),
            None => Ok(answer),
        });
        match created {
            Ok(answer) => {
                // The server does not count messages that arrived in the meantime.
                let delivered = number(&answer, &["delivered", "consumer_seq"]);
                let total = number(&answer, &["num_pending"]).saturating_add(delivered);
                feed.start(total, known.follower_of_consumer(&answer["cluster"]));
                Ok(feed)
            }
            Err(error) => {
                // The consumer may exist all the same.
                feed.end().await;
                Err(error)
            }
        }
    }
}

/// The request for a consumer that delivers the last value of each matching key, and its changes.
fn consumer_request(bucket: &str, name: &str, inbox: &str, subject: &str) -> Json {
    json!({
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
    })
}

pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The error of an answer, and its code.
fn failure(answer: &Json) -> Option<(u64, Error)> {
    let error = answer.get("error")?;
    let code = number(error, &["err_code"]);
    let description = cut(error["description"].as_str().unwrap_or_default());
    let detail = format!("JetStream rejects the request ({code}: {description})");
    Some((code, unavailable(detail)))
}

pub(super) fn number(json: &Json, path: &[&str]) -> u64 {
    let found = path.iter().try_fold(json, |json, name| json.get(name));
    found.and_then(Json::as_u64).unwrap_or_default()
}
