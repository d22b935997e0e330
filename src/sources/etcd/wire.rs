//! What goes over the wire: etcd's JSON gateway, one request or one stream of lines at a time.

use std::io::Read;
use std::time::{Duration, Instant};

use ureq::http::{HeaderValue, Response};
use ureq::{Body, BodyReader};

use crate::error::{Error, ErrorKind};
use crate::sources::etcd::answer;
use crate::sources::etcd::json;
use crate::sources::etcd::login::{Login, OFF};
use crate::sources::shared::http_client::reuse::Client;
use crate::sources::shared::http_client::url::Url;
use crate::sources::shared::http_client::{self, Limits};

/// The largest answer, and the longest line of a stream: 10 MiB of values, in base64 and with their
/// names.
const MAX_ANSWER: usize = 32 << 20;
/// How much of a refusal is read.
const MAX_REFUSAL: usize = 64 << 10;
/// How much is read at a time.
const PIECE: usize = 64 << 10;

/// Why an answer is none.
pub(super) struct Fault {
    pub(super) error: Error,
    /// Whether another token may help.
    pub(super) renew: bool,
    /// What the server says, if it does.
    says: String,
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self {
            error,
            renew: false,
            says: String::new(),
        }
    }
}

/// What every answer begins with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) cluster: u64,
    pub(super) term: u64,
    pub(super) revision: u64,
}

/// What a read has brought.
pub(super) struct Listing {
    pub(super) header: Header,
    /// How many keys there are, whether the answer holds them or not.
    pub(super) count: u64,
    pub(super) items: Vec<Item>,
}

pub(super) struct Item {
    /// None of one whose name is not text.
    pub(super) key: Option<String>,
    pub(super) bytes: Vec<u8>,
    pub(super) revision: u64,
    /// Whether there was no such key before.
    pub(super) new: bool,
}

pub(super) struct Event {
    pub(super) item: Item,
    pub(super) deleted: bool,
}

impl Event {
    /// What it adds to the number of keys.
    pub(super) fn adds(&self) -> i64 {
        match (self.deleted, self.item.new) {
            (true, _) => -1,
            (false, new) => i64::from(new),
        }
    }
}

/// A line of a stream.
pub(super) enum Message {
    Created(Header),
    /// Whole revisions, in their order.
    Events(Vec<Event>),
    /// What was to come next is gone.
    Compacted,
    /// More events than are kept at once.
    TooLarge,
}

/// A request to one server.
pub(super) struct Ask<'a> {
    pub(super) client: &'a Client,
    pub(super) server: &'a Url,
    pub(super) token: Option<HeaderValue>,
    pub(super) connect: Duration,
    pub(super) response: Duration,
    pub(super) timeout: Duration,
}

impl Ask<'_> {
    fn limits(&self) -> Limits {
        Limits {
            connect: self.connect,
            response: self.response,
            deadline: Instant::now() + self.timeout,
            timeout: self.timeout,
        }
    }

    /// Sends a request; `stream` is how long the answer goes on, if it is one that does.
    fn post(
        &self,
        path: &str,
        body: &str,
        stream: Option<Duration>,
    ) -> Result<(Response<Body>, Limits), Fault> {
        let limits = self.limits();
        let url = self.server.at(path).whole();
        let whole = match stream {
            None => self.timeout,
            Some(stream) => self.connect + self.response + stream,
        };
        let send = |spent: Duration| {
            let mut request = self
                .client
                .agent
                .post(&url)
                .header("content-type", "application/json");
            if let Some(token) = &self.token {
                request = request.header("authorization", token.clone());
            }
            if stream.is_some() {
                // A member that has lost the others ends the stream rather than be silent.
                request = request.header("grpc-metadata-hasleader", "true");
            }
            let left = self.response.saturating_sub(spent);
            request
                .config()
                .timeout_global(Some(whole.saturating_sub(spent)))
                .timeout_resolve(Some(self.connect))
                .timeout_connect(Some(self.connect.min(left)))
                .timeout_send_request(Some(left))
                .timeout_send_body(Some(left))
                .timeout_recv_response(Some(left))
                .timeout_recv_body(stream)
                .build()
                .send(body)
        };
        // No request changes anything but the number of tokens.
        let response = self
            .client
            .send(&self.server.whole(), send)
            .map_err(|fault| http_client::explain(fault, limits, "the response began"))?;
        match response.status().as_u16() {
            200 => Ok((response, limits)),
            status => {
                let bytes = beginning(response, limits)?;
                Err(refused(status, &bytes))
            }
        }
    }

    /// Sends a request and reads all of the answer.
    fn exchange(&self, path: &str, body: &str) -> Result<Vec<u8>, Fault> {
        let (response, limits) = self.post(path, body, None)?;
        let answer = all(response, limits)?;
        self.client.keeps(&self.server.whole());
        Ok(answer)
    }

    /// Reads what there is; only what is newer than a revision, if one is named.
    pub(super) fn range(&self, range: &str, since: Option<u64>) -> Result<Listing, Fault> {
        let newer = since.map_or_else(String::new, |revision| {
            format!(",\"min_mod_revision\":\"{}\"", revision.saturating_add(1))
        });
        let answer = self.exchange("/v3/kv/range", &format!("{{{range}{newer}}}"))?;
        Ok(answer::listing(&answer)?)
    }

    /// Logs a user in.
    pub(super) fn authenticate(&self, name: &str, password: &str) -> Result<Login, Fault> {
        let (name, password) = (json::quoted(name), json::quoted(password));
        let body = format!("{{\"name\":{name},\"password\":{password}}}");
        let answer = match self.exchange("/v3/auth/authenticate", &body) {
            Err(fault) if fault.says.contains(OFF) => return Ok(Login::Off),
            answer => answer?,
        };
        let (_, value) = http_client::header("authorization", &answer::token(&answer)?)?;
        Ok(Login::Token(value))
    }

    /// Opens a stream of what changes from a revision on.
    pub(super) fn watch(
        &self,
        range: &str,
        from: u64,
        stream: Duration,
    ) -> Result<(Lines, Message), Fault> {
        let body = format!("{{\"create_request\":{{{range},\"start_revision\":\"{from}\"}}}}");
        let (response, limits) = self.post("/v3/watch", &body, Some(stream))?;
        let mut lines = Lines {
            reader: response.into_body().into_reader(),
            buffer: Vec::new(),
            taken: 0,
            looked: 0,
            limits,
            end: Instant::now() + stream,
        };
        match lines.next()? {
            Next::Message(message) => Ok((lines, message)),
            Next::Over | Next::TooLong => Err(limits.whole_over("the stream began").into()),
        }
    }
}

/// A stream of messages, one a line.
pub(super) struct Lines {
    reader: BodyReader<'static>,
    /// What has come.
    buffer: Vec<u8>,
    /// So much of it is taken.
    taken: usize,
    /// So much of it is taken, or holds no end of a line.
    looked: usize,
    limits: Limits,
    end: Instant,
}

pub(super) enum Next {
    Message(Message),
    /// The time of the stream is over.
    Over,
    /// A line is longer than anything that is taken.
    TooLong,
}

impl Lines {
    /// The next message, waited for.
    pub(super) fn next(&mut self) -> Result<Next, Fault> {
        loop {
            if let Some(message) = self.ready()? {
                return Ok(Next::Message(message));
            }
            if self.buffer.len() - self.taken > MAX_ANSWER {
                return Ok(Next::TooLong);
            }
            if Instant::now() >= self.end {
                return Ok(Next::Over);
            }
            self.buffer.drain(..self.taken);
            self.looked -= std::mem::take(&mut self.taken);
            let filled = self.buffer.len();
            self.buffer.resize(filled + PIECE, 0);
            let read = self.reader.read(&mut self.buffer[filled..]);
            self.buffer.truncate(filled + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => {
                    return Err(http_client::unavailable("the server has ended the stream").into());
                }
                Ok(_) => {}
                Err(fault) => match ureq::Error::from(fault) {
                    ureq::Error::Timeout(_) => return Ok(Next::Over),
                    fault => {
                        let error = http_client::explain(fault, self.limits, "the stream was over");
                        return Err(error.into());
                    }
                },
            }
        }
    }

    /// The next message, if all of it is there.
    pub(super) fn ready(&mut self) -> Result<Option<Message>, Fault> {
        loop {
            let Some(at) = self.buffer[self.looked..].iter().position(|b| *b == b'\n') else {
                self.looked = self.buffer.len();
                return Ok(None);
            };
            let end = self.looked + at;
            let begin = std::mem::replace(&mut self.taken, end + 1);
            self.looked = self.taken;
            let line = self.buffer[begin..end].trim_ascii();
            if !line.is_empty() {
                return answer::message(line).map(Some);
            }
        }
    }

    /// Whether a message has begun to come.
    pub(super) fn is_within(&self) -> bool {
        self.buffer.len() > self.taken
    }
}

/// As much of an answer as may say why it is refused.
fn beginning(response: Response<Body>, limits: Limits) -> Result<Vec<u8>, Error> {
    read(response, MAX_REFUSAL, limits)
}

fn all(response: Response<Body>, limits: Limits) -> Result<Vec<u8>, Error> {
    let bytes = read(response, MAX_ANSWER + 1, limits)?;
    if bytes.len() > MAX_ANSWER {
        let detail = format!("the answer is longer than {MAX_ANSWER} bytes");
        return Err(Error::new(ErrorKind::TooLarge, detail));
    }
    Ok(bytes)
}

fn read(response: Response<Body>, most: usize, limits: Limits) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let mut body = response.into_body().into_reader().take(most as u64);
    body.read_to_end(&mut bytes).map_err(|fault| {
        http_client::explain(ureq::Error::from(fault), limits, "the answer was complete")
    })?;
    Ok(bytes)
}

/// A stream that the server has ended.
pub(super) fn ended(says: &str) -> Fault {
    let says = http_client::cut(says);
    Fault {
        error: http_client::unavailable(format!("the server has ended the stream ({says})")),
        renew: true,
        says,
    }
}

/// Why an answer is none, and what may help.
fn refused(status: u16, body: &[u8]) -> Fault {
    let says = http_client::cut(&answer::refusal(body).unwrap_or_default());
    let hint = match status {
        400 | 401 => "check user and password",
        403 => "check the permissions of the user",
        404 => "is this the JSON gateway of etcd 3.4 or newer?",
        503 => "the members have no leader",
        _ => "see the log of the member",
    };
    Fault {
        error: http_client::unavailable(format!("the answer is {status} ({says}): {hint}")),
        // A token that is too old is told of in several ways.
        renew: matches!(status, 400 | 401 | 403),
        says,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(line: &str) -> Result<Message, Fault> {
        answer::message(line.as_bytes())
    }

    #[test]
    fn a_stream_that_is_canceled_as_it_is_created_is_canceled() {
        let header = r#""header":{"cluster_id":"7","revision":"5","raft_term":"2"}"#;
        let created = told(&format!(r#"{{"result":{{{header},"created":true}}}}"#));
        assert!(matches!(created, Ok(Message::Created(header)) if header.revision == 5));
        let reason = r#""created":true,"canceled":true,"cancel_reason":"user name is empty""#;
        let canceled = told(&format!(r#"{{"result":{{{header},{reason}}}}}"#));
        assert!(canceled.is_err_and(|fault| fault.renew));
        let gone = r#""created":true,"canceled":true,"compact_revision":"9""#;
        let compacted = told(&format!(r#"{{"result":{{{header},{gone}}}}}"#));
        assert!(matches!(compacted, Ok(Message::Compacted)));
        assert!(told(r#"{"error":{"grpc_code":14,"message":"no leader"}}"#).is_err());
        assert!(told("[]").is_err() && told("{}").is_err() && told("{").is_err());
    }

    /// Gives a few bytes at a time.
    struct Drops(Vec<u8>, usize);

    impl Read for Drops {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let count = self.1.min(self.0.len()).min(buffer.len());
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0.drain(..count);
            Ok(count)
        }
    }

    fn lines(bytes: &[u8], piece: usize) -> Lines {
        let timeout = Duration::from_secs(9);
        let drops = Drops(bytes.to_vec(), piece);
        Lines {
            reader: Body::builder().reader(drops).into_reader(),
            buffer: Vec::new(),
            taken: 0,
            looked: 0,
            limits: Limits {
                connect: timeout,
                response: timeout,
                deadline: Instant::now() + timeout,
                timeout,
            },
            end: Instant::now() + timeout,
        }
    }

    #[test]
    fn lines_are_put_together_however_they_come_and_a_rest_is_no_message() {
        let one = r#"{"result":{"events":[{"kv":{"key":"YQ==","mod_revision":"7"}}]}}"#;
        let all = format!("{one}\n\n{one}\n{one}");
        for piece in [1, 3, one.len(), one.len() + 1, one.len() + 2, 10_000] {
            let mut lines = lines(all.as_bytes(), piece);
            for _ in 0..2 {
                let next = lines.next();
                assert!(matches!(next, Ok(Next::Message(Message::Events(_)))));
            }
            assert!(lines.next().is_err());
            assert!(lines.is_within());
        }
    }

    #[test]
    fn a_line_without_an_end_is_not_kept() {
        let mut lines = lines(&vec![b'x'; MAX_ANSWER + PIECE + 2], PIECE);
        assert!(matches!(lines.next(), Ok(Next::TooLong)));
    }

    #[test]
    fn no_line_whatever_it_holds_ends_in_a_panic() {
        use proptest::prelude::*;

        let part = prop::sample::select(vec![
            "{",
            "}",
            "[",
            "]",
            ":",
            ",",
            "\"result\"",
            "\"header\"",
            "\"events\"",
            "\"kv\"",
            "\"key\"",
            "\"cluster_id\"",
            "\"created\"",
            "\"error\"",
            "true",
            "null",
            "-1",
            "\"7\"",
        ]);
        proptest!(|(parts in prop::collection::vec(part, 0..40))| {
            let _ = told(&parts.concat());
            let _ = answer::listing(parts.concat().as_bytes());
        });
    }

    #[test]
    fn events_are_told_apart() {
        let line = r#"{"result":{"header":{"cluster_id":"7"},"events":[
            {"kv":{"key":"YQ==","mod_revision":"7","version":"1"}},
            {"kv":{"key":"YQ==","mod_revision":"7","version":"2","value":"MQ=="}},
            {"type":"DELETE","kv":{"key":"/w==","mod_revision":"8"}}]}}"#;
        let Ok(Message::Events(events)) = told(line) else {
            panic!("not events")
        };
        let adds: Vec<i64> = events.iter().map(Event::adds).collect();
        assert_eq!(adds, [1, 0, -1]);
        assert_eq!(events[0].item.key.as_deref(), Some("a"));
        assert!(events[0].item.bytes.is_empty() && events[1].item.bytes == b"1");
        assert!(events[2].item.key.is_none() && events[2].item.revision == 8);
    }

    #[test]
    fn what_a_server_says_is_shown_in_part_only() {
        let long = "x".repeat(500);
        let Fault { error, renew, .. } =
            refused(401, format!("{{\"message\":\"{long}\"}}").as_bytes());
        assert!(renew && error.to_string().len() < 300, "{error}");
    }
}
