//! Sends requests to etcd's JSON gateway, and reads streams of lines.

use std::io::Read;
use std::time::{Duration, Instant};

use ureq::http::{HeaderValue, Response};
use ureq::{Body, BodyReader};

use crate::error::{Error, ErrorKind};
use crate::sources::etcd::json;
use crate::sources::etcd::login::{AUTH_DISABLED, Login};
use crate::sources::etcd::response;
use crate::sources::shared::http_client::reuse::Client;
use crate::sources::shared::http_client::url::Url;
use crate::sources::shared::http_client::{self, Limits};

/// The largest answer, and the longest line of a stream: 10 MiB of values, in base64 and with their
/// names.
const MAX_ANSWER: usize = 32 << 20;
/// The most bytes of an error that are read.
const MAX_ERROR: usize = 64 << 10;
/// The bytes of one read.
const CHUNK: usize = 64 << 10;

/// The failure of a request.
pub(super) struct EtcdError {
    pub(super) error: Error,
    /// Whether a new login may help.
    pub(super) needs_login: bool,
    /// The message of the server, if there is one.
    message: String,
}

impl From<Error> for EtcdError {
    fn from(error: Error) -> Self {
        Self {
            error,
            needs_login: false,
            message: String::new(),
        }
    }
}

/// The header of every answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) cluster: u64,
    pub(super) term: u64,
    pub(super) revision: u64,
}

/// The result of a read.
pub(super) struct Listing {
    pub(super) header: Header,
    /// The number of keys in the store, whether the answer holds them or not.
    pub(super) count: u64,
    pub(super) items: Vec<Item>,
}

pub(super) struct Item {
    /// None where the name is not UTF-8.
    pub(super) key: Option<String>,
    pub(super) bytes: Vec<u8>,
    pub(super) revision: u64,
    /// Whether the key was created.
    pub(super) is_new: bool,
}

pub(super) struct Event {
    pub(super) item: Item,
    pub(super) is_deleted: bool,
}

impl Event {
    /// How it changes the number of keys.
    pub(super) fn count_change(&self) -> i64 {
        if self.is_deleted {
            -1
        } else {
            i64::from(self.item.is_new)
        }
    }
}

/// A line of a stream.
pub(super) enum Message {
    Created(Header),
    /// The events of whole revisions, in their order.
    Events(Vec<Event>),
    /// The store has compacted the next revision.
    Compacted,
    /// The events of one message exceed the limit.
    TooLarge,
}

/// A request to one server.
pub(super) struct Request<'a> {
    pub(super) client: &'a Client,
    pub(super) server: &'a Url,
    pub(super) token: Option<HeaderValue>,
    pub(super) connect_timeout: Duration,
    pub(super) response_timeout: Duration,
    pub(super) timeout: Duration,
}

impl Request<'_> {
    fn limits(&self) -> Limits {
        Limits {
            connect: self.connect_timeout,
            response: self.response_timeout,
            deadline: Instant::now() + self.timeout,
            timeout: self.timeout,
        }
    }

    /// Sends a request; `stream` is the duration of the answer, if it is a stream.
    fn post(
        &self,
        path: &str,
        body: &str,
        stream: Option<Duration>,
    ) -> Result<(Response<Body>, Limits), EtcdError> {
        let limits = self.limits();
        let url = self.server.at(path).with_secrets();
        let send = |spent: Duration| self.send_once(&url, body, stream, spent);
        // A request changes only the number of tokens, so it may be sent twice.
        let response = self
            .client
            .send(&self.server.with_secrets(), send)
            .map_err(|fault| http_client::explain(fault, limits, "the response began"))?;
        match response.status().as_u16() {
            200 => Ok((response, limits)),
            status => {
                let bytes = read(response, MAX_ERROR, limits)?;
                Err(rejected(status, &bytes))
            }
        }
    }

    /// Sends a request, for which `spent` of its time has passed.
    fn send_once(
        &self,
        url: &str,
        body: &str,
        stream: Option<Duration>,
        spent: Duration,
    ) -> Result<Response<Body>, ureq::Error> {
        let agent = &self.client.agent;
        let mut request = agent.post(url).header("content-type", "application/json");
        if let Some(token) = &self.token {
            request = request.header("authorization", token.clone());
        }
        if stream.is_some() {
            // A member that has lost its leader ends the stream instead of being silent.
            request = request.header("grpc-metadata-hasleader", "true");
        }
        let timeout = match stream {
            None => self.timeout,
            Some(stream) => self.connect_timeout + self.response_timeout + stream,
        };
        let left = self.response_timeout.saturating_sub(spent);
        request
            .config()
            .timeout_global(Some(timeout.saturating_sub(spent)))
            .timeout_resolve(Some(self.connect_timeout))
            .timeout_connect(Some(self.connect_timeout.min(left)))
            .timeout_send_request(Some(left))
            .timeout_send_body(Some(left))
            .timeout_recv_response(Some(left))
            .timeout_recv_body(stream)
            .build()
            .send(body)
    }

    /// Sends a request and reads the whole answer.
    fn exchange(&self, path: &str, body: &str) -> Result<Vec<u8>, EtcdError> {
        let (response, limits) = self.post(path, body, None)?;
        let answer = read_answer(response, limits)?;
        self.client.set_reusable(&self.server.with_secrets());
        Ok(answer)
    }

    /// Reads the keys; only those newer than `since`, if that is given.
    pub(super) fn range(&self, range: &str, since: Option<u64>) -> Result<Listing, EtcdError> {
        let newer = since.map_or_else(String::new, |revision| {
            format!(",\"min_mod_revision\":\"{}\"", revision.saturating_add(1))
        });
        let answer = self.exchange("/v3/kv/range", &format!("{{{range}{newer}}}"))?;
        Ok(response::listing(&answer)?)
    }

    /// Logs a user in.
    pub(super) fn authenticate(&self, name: &str, password: &str) -> Result<Login, EtcdError> {
        let (name, password) = (json::quoted(name), json::quoted(password));
        let body = format!("{{\"name\":{name},\"password\":{password}}}");
        let answer = match self.exchange("/v3/auth/authenticate", &body) {
            Err(fault) if fault.message.contains(AUTH_DISABLED) => return Ok(Login::Disabled),
            answer => answer?,
        };
        let (_, value) = http_client::header("authorization", &response::token(&answer)?)?;
        Ok(Login::Token(value))
    }

    /// Opens a stream of the changes from a revision on.
    pub(super) fn watch(
        &self,
        range: &str,
        from: u64,
        stream: Duration,
    ) -> Result<(Lines, Message), EtcdError> {
        let body = format!("{{\"create_request\":{{{range},\"start_revision\":\"{from}\"}}}}");
        let (response, limits) = self.post("/v3/watch", &body, Some(stream))?;
        let mut lines = Lines {
            reader: response.into_body().into_reader(),
            buffer: Vec::new(),
            consumed: 0,
            scanned: 0,
            limits,
            end: Instant::now() + stream,
        };
        match lines.next()? {
            Next::Message(message) => Ok((lines, message)),
            Next::TimedOut | Next::TooLong => Err(limits.timed_out("the stream began").into()),
        }
    }
}

/// A stream of messages, one a line.
pub(super) struct Lines {
    reader: BodyReader<'static>,
    /// The bytes that have arrived.
    buffer: Vec<u8>,
    /// The number of bytes of `buffer` that belong to earlier messages.
    consumed: usize,
    /// The number of bytes of `buffer` that are consumed, or hold no end of a line.
    scanned: usize,
    limits: Limits,
    end: Instant,
}

/// The outcome of a wait for a message.
pub(super) enum Next {
    Message(Message),
    /// The duration of the stream has passed.
    TimedOut,
    /// A line exceeds the limit.
    TooLong,
}

impl Lines {
    /// Waits for the next message.
    pub(super) fn next(&mut self) -> Result<Next, EtcdError> {
        loop {
            if let Some(message) = self.ready()? {
                return Ok(Next::Message(message));
            }
            if self.buffer.len() - self.consumed > MAX_ANSWER {
                return Ok(Next::TooLong);
            }
            if Instant::now() >= self.end {
                return Ok(Next::TimedOut);
            }
            self.buffer.drain(..self.consumed);
            self.scanned -= std::mem::take(&mut self.consumed);
            let filled = self.buffer.len();
            self.buffer.resize(filled + CHUNK, 0);
            let read = self.reader.read(&mut self.buffer[filled..]);
            self.buffer.truncate(filled + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => {
                    return Err(http_client::unavailable("the server has ended the stream").into());
                }
                Ok(_) => {}
                Err(fault) => match ureq::Error::from(fault) {
                    ureq::Error::Timeout(_) => return Ok(Next::TimedOut),
                    fault => {
                        let error = http_client::explain(fault, self.limits, "the stream was over");
                        return Err(error.into());
                    }
                },
            }
        }
    }

    /// The next message, if all of it has arrived.
    pub(super) fn ready(&mut self) -> Result<Option<Message>, EtcdError> {
        loop {
            let Some(at) = self.buffer[self.scanned..].iter().position(|b| *b == b'\n') else {
                self.scanned = self.buffer.len();
                return Ok(None);
            };
            let end = self.scanned + at;
            let begin = std::mem::replace(&mut self.consumed, end + 1);
            self.scanned = self.consumed;
            let line = self.buffer[begin..end].trim_ascii();
            if !line.is_empty() {
                return response::message(line).map(Some);
            }
        }
    }

    /// Whether a part of a message has arrived.
    pub(super) fn has_partial_message(&self) -> bool {
        self.buffer.len() > self.consumed
    }
}

fn read_answer(response: Response<Body>, limits: Limits) -> Result<Vec<u8>, Error> {
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

/// The fault of a stream that the server has ended.
pub(super) fn ended(message: &str) -> EtcdError {
    let message = http_client::cut(message);
    EtcdError {
        error: http_client::unavailable(format!(
            "the server has ended the stream{}",
            http_client::in_parentheses(&message)
        )),
        needs_login: true,
        message,
    }
}

/// The fault of an answer with this status, and what may help.
fn rejected(status: u16, body: &[u8]) -> EtcdError {
    let message = http_client::cut(&response::error_message(body).unwrap_or_default());
    let hint = match status {
        400 | 401 => "check user and password",
        403 => "check the permissions of the user",
        404 => "is this the JSON gateway of etcd 3.4 or newer?",
        503 => "the members have no leader",
        _ => "see the log of the member",
    };
    EtcdError {
        error: http_client::answered(status, &message, hint),
        // Servers report an expired token in several ways.
        needs_login: matches!(status, 400 | 401 | 403),
        message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Message, EtcdError> {
        response::message(line.as_bytes())
    }

    #[test]
    fn a_stream_that_is_canceled_as_it_is_created_is_canceled() {
        let header = r#""header":{"cluster_id":"7","revision":"5","raft_term":"2"}"#;
        let created = parse(&format!(r#"{{"result":{{{header},"created":true}}}}"#));
        assert!(matches!(created, Ok(Message::Created(header)) if header.revision == 5));
        let reason = r#""created":true,"canceled":true,"cancel_reason":"user name is empty""#;
        let canceled = parse(&format!(r#"{{"result":{{{header},{reason}}}}}"#));
        assert!(canceled.is_err_and(|fault| fault.needs_login));
        let gone = r#""created":true,"canceled":true,"compact_revision":"9""#;
        let compacted = parse(&format!(r#"{{"result":{{{header},{gone}}}}}"#));
        assert!(matches!(compacted, Ok(Message::Compacted)));
        assert!(parse(r#"{"error":{"grpc_code":14,"message":"no leader"}}"#).is_err());
        assert!(parse("[]").is_err() && parse("{}").is_err() && parse("{").is_err());
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
        let timeout = Duration::from_secs(60);
        let drops = Drops(bytes.to_vec(), piece);
        Lines {
            reader: Body::builder().reader(drops).into_reader(),
            buffer: Vec::new(),
            consumed: 0,
            scanned: 0,
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
    fn lines_are_joined_however_they_arrive_and_a_rest_is_no_message() {
        let one = r#"{"result":{"events":[{"kv":{"key":"YQ==","mod_revision":"7"}}]}}"#;
        let all = format!("{one}\n\n{one}\n{one}");
        for piece in [1, 3, one.len(), one.len() + 1, one.len() + 2, 10_000] {
            let mut lines = lines(all.as_bytes(), piece);
            for _ in 0..2 {
                let next = lines.next();
                assert!(matches!(next, Ok(Next::Message(Message::Events(_)))));
            }
            assert!(lines.next().is_err());
            assert!(lines.has_partial_message());
        }
    }

    #[test]
    fn a_line_without_an_end_is_not_kept() {
        let mut lines = lines(&vec![b'x'; MAX_ANSWER + CHUNK + 2], CHUNK);
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
            let _ = parse(&parts.concat());
            let _ = response::listing(parts.concat().as_bytes());
        });
    }

    #[test]
    fn created_changed_and_deleted_keys_are_distinguished() {
        let line = r#"{"result":{"header":{"cluster_id":"7"},"events":[
            {"kv":{"key":"YQ==","mod_revision":"7","version":"1"}},
            {"kv":{"key":"YQ==","mod_revision":"7","version":"2","value":"MQ=="}},
            {"type":"DELETE","kv":{"key":"/w==","mod_revision":"8"}}]}}"#;
        let Ok(Message::Events(events)) = parse(line) else {
            panic!("not events")
        };
        let changes: Vec<i64> = events.iter().map(Event::count_change).collect();
        assert_eq!(changes, [1, 0, -1]);
        assert_eq!(events[0].item.key.as_deref(), Some("a"));
        assert!(events[0].item.bytes.is_empty() && events[1].item.bytes == b"1");
        assert!(events[2].item.key.is_none() && events[2].item.revision == 8);
    }

    #[test]
    fn an_error_quotes_only_the_start_of_a_server_message() {
        let long = "x".repeat(500);
        let EtcdError {
            error, needs_login, ..
        } = rejected(401, format!("{{\"message\":\"{long}\"}}").as_bytes());
        assert!(needs_login && error.to_string().len() < 300, "{error}");
    }

    #[test]
    fn an_error_without_a_message_has_no_empty_parentheses() {
        for body in ["", "{}", "{\"message\":\"\"}", "not JSON"] {
            let error = rejected(503, body.as_bytes()).error.to_string();
            assert!(error.contains("the answer is 503: "), "{body}: {error}");
        }
        let error = ended(" ").error.to_string();
        assert_eq!(error, "the server has ended the stream");
    }
}
