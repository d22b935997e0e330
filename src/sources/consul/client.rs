//! Sends requests to an agent, with their deadlines.

use std::time::{Duration, Instant};

use ureq::http::{HeaderValue, Response};
use ureq::{Agent, Body};

use crate::error::{Error, ErrorKind};
use crate::source::{Source, SourceContext};
use crate::sources::consul::response::{self, Head, Listing};
use crate::sources::consul::{Consul, TIMEOUT};
use crate::sources::shared::http_client::url::{Url, masked};
use crate::sources::shared::http_client::{self, Limits};
use crate::sources::shared::kv::endpoints::named;
use crate::sources::shared::kv::jittered;
use crate::sync::random;
use crate::value::percent;

/// How long a read blocks while nothing changes. [`jittered`] shortens it by up to a quarter, so all keys
/// are read at most once a minute while nothing changes.
pub(super) const WAIT: Duration = Duration::from_secs(80);
/// The agent adds up to this part of the wait, so that not all reads end at once.
const DITHER: u32 = 16;
/// How late the answer to a blocking read may begin.
const MAX_DELAY: Duration = Duration::from_secs(1);
/// How long all requests of one heartbeat may take.
pub(super) const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// A request on a reused connection that fails this soon, plus twice the time of the fastest answer, has met
/// a closed connection.
const CLOSED_EARLY: Duration = Duration::from_millis(20);
/// The longest pause before the request is repeated. The programs of an agent that has ended spread their
/// requests over it.
const MAX_RETRY_PAUSE: Duration = Duration::from_millis(400);
/// The name of a key that nobody sets, below the prefix or the key that the source reads.
const UNUSED_KEY: &str = ".liveprops-heartbeat";

/// A client that keeps one connection.
pub(super) struct Connection {
    agent: Agent,
    /// The context of a watch; none for a single load.
    updates: Option<SourceContext>,
    /// Whether an answer was complete, so that the next request may reuse its connection.
    is_reused: bool,
    /// The time until the fastest answer began.
    fastest: Option<Duration>,
}

impl Connection {
    pub(super) fn new(agent: Agent) -> Self {
        Self {
            agent,
            updates: None,
            is_reused: false,
            fastest: None,
        }
    }

    /// The client of a watch.
    pub(super) fn of_watch(agent: Agent, updates: &SourceContext) -> Self {
        Self {
            updates: Some(updates.clone()),
            ..Self::new(agent)
        }
    }

    /// Waits for a random time and returns `true`, if a request that failed after `elapsed` is to be repeated:
    /// its connection was closed, and the watch continues.
    fn wait_to_retry(&mut self, elapsed: Duration) -> bool {
        let was_closed = elapsed < CLOSED_EARLY + 2 * self.fastest.unwrap_or_default();
        match &self.updates {
            Some(updates) if self.is_reused && was_closed => {
                self.is_reused = false;
                !updates.wait(random::part_of(MAX_RETRY_PAUSE))
            }
            _ => false,
        }
    }

    /// The client, whose shutdown ends a waiting request.
    pub(super) fn agent(&self) -> Agent {
        self.agent.clone()
    }
}

/// The requests of a heartbeat, in this order, until an answer shows that nothing has changed. The size of
/// an answer does not depend on the values, except that of `Exact` where the source reads a document.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Probe {
    /// A key that nobody sets. The agent answers with the index of all its keys, and does no work.
    Store,
    /// The names that begin as the prefix does, cut at the next slash: `app/` and `apple/`.
    Siblings,
    /// The names just below the prefix, or the key that holds the document.
    Exact,
}

/// A request.
struct Request {
    path: String,
    limits: Limits,
    /// How long the whole exchange may take.
    timeout: Duration,
}

impl Consul {
    pub(super) fn agent(&self) -> Result<Agent, Error> {
        http_client::tls::agent(&self.options.tls).map_err(|error| error.with_origin(self.origin()))
    }

    fn token_header(&self) -> Result<Option<HeaderValue>, Error> {
        let Some(token) = &self.options.token else {
            return Ok(None);
        };
        let token = token.read("the file of the token")?;
        self.options.credentials.add(&token);
        if token.trim().is_empty() {
            // Without a token the agent may show an empty store.
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                "the ACL token is empty",
            ));
        }
        let (_, value) = http_client::header("x-consul-token", token.trim())?;
        Ok(Some(value))
    }

    /// Checks that an agent can serve the prefix or key. It redirects some others to another key.
    fn check_path(&self) -> Result<(), Error> {
        let mapping = &self.options.mapping;
        let kind = if mapping.is_document() {
            "key"
        } else {
            "prefix"
        };
        let is_root = |path: &str| path.is_empty() && !mapping.is_document();
        for path in [&self.options.given, mapping.path()] {
            // A slash before and after the path does not count.
            let names = path.strip_prefix('/').unwrap_or(path);
            let names = names.strip_suffix('/').unwrap_or(names);
            let mut names = names.split('/').filter(|_| !is_root(names));
            let what = match names.find(|name| matches!(*name, "" | "." | "..")) {
                None => continue,
                Some("") => "an empty name".to_owned(),
                Some(name) => format!("the name `{name}`"),
            };
            let detail = format!(
                "the {kind} `{path}` cannot be read over HTTP, because it holds {what} between \
                 slashes: use a {kind} without, or rename the keys in the store"
            );
            return Err(Error::new(ErrorKind::InvalidKey, detail).with_origin(self.origin()));
        }
        Ok(())
    }

    /// The path of a request for a key, with the first part of its query.
    fn path(&self, key: &str, query: &str) -> String {
        let key: Vec<String> = key.split('/').map(percent::encode).collect();
        let mut path = format!("/v1/kv/{}?{query}", key.join("/"));
        if let Some(datacenter) = &self.options.datacenter {
            path.push_str(&format!("dc={}&", percent::encode(datacenter)));
        }
        if self.options.stale {
            path.push_str("stale&");
        }
        path
    }

    /// The path of a read of everything, which blocks while nothing is newer than an index.
    ///
    /// A read that does not block asks for consistency. Without that, a server that has become the leader may
    /// answer while it still applies its log, with values older than before (issue 2644 of Consul).
    fn read_path(&self, index: u64, wait: Option<Duration>) -> String {
        let mapping = &self.options.mapping;
        let query = if mapping.is_document() {
            ""
        } else {
            "recurse&"
        };
        let mut path = self.path(mapping.path(), query);
        if index == 0 && !self.options.stale {
            path.push_str("consistent&");
        }
        path.push_str(&format!("index={index}"));
        if let Some(wait) = wait {
            path.push_str(&format!("&wait={}ms", wait.as_millis()));
        }
        path
    }

    fn probe_path(&self, probe: Probe) -> String {
        const NAMES: &str = "keys&separator=/&";
        let mapping = &self.options.mapping;
        let path = mapping.path();
        let mut request = match probe {
            Probe::Store => self.path(&format!("{path}{UNUSED_KEY}"), ""),
            Probe::Siblings => self.path(path.trim_end_matches('/'), NAMES),
            Probe::Exact if mapping.is_document() => self.path(path, ""),
            Probe::Exact => self.path(path, NAMES),
        };
        request.push_str("index=0");
        request
    }

    /// Reads everything once, and returns it with the name of the server. Blocks until something is newer than
    /// `index`, unless that is 0. Calls `on_answer` as soon as the answer begins.
    pub(super) fn read(
        &self,
        connection: &mut Connection,
        index: u64,
        on_answer: impl FnOnce(),
    ) -> Result<(Listing, String), Error> {
        let wait = (index > 0).then(|| jittered(WAIT));
        let response_timeout = wait.map_or(TIMEOUT, |wait| wait + wait / DITHER + MAX_DELAY);
        let request = Request {
            path: self.read_path(index, wait),
            limits: limits(response_timeout),
            timeout: wait.map_or(TIMEOUT, |_| response_timeout + TIMEOUT),
        };
        let read = |response| {
            on_answer();
            response::read(response, request.limits)
        };
        self.exchange(connection, &request, read)
            .inspect_err(|_| self.options.endpoints.next())
    }

    /// Reads everything from the first server that answers.
    pub(super) fn read_all(&self, connection: &mut Connection) -> Result<(Listing, String), Error> {
        self.check_path()?;
        let endpoints = &self.options.endpoints;
        endpoints.first(|| self.read(connection, 0, || {}))
    }

    /// Sends a probe; `None` if the ACL token may read nothing or only a part of the answer.
    pub(super) fn probe(
        &self,
        connection: &mut Connection,
        probe: Probe,
        deadline: Instant,
    ) -> Result<Option<Head>, Error> {
        let left = deadline.saturating_duration_since(Instant::now());
        let request = Request {
            path: self.probe_path(probe),
            limits: limits(left),
            timeout: left,
        };
        let read = |response: Response<Body>| match response.status().as_u16() {
            403 if probe != Probe::Exact => {
                response::discard(response, request.limits).map(|()| None)
            }
            _ => response::read_head(response, request.limits, probe == Probe::Exact),
        };
        self.exchange(connection, &request, read)
            .map(|(head, _)| head)
    }

    /// Sends a request to the current server and reads its answer.
    fn exchange<T>(
        &self,
        connection: &mut Connection,
        request: &Request,
        read: impl FnOnce(Response<Body>) -> Result<T, Error>,
    ) -> Result<(T, String), Error> {
        let endpoint = self.options.endpoints.current()?;
        let server = endpoint.name(masked);
        let send = || -> Result<T, Error> {
            let url = http_client::tls::server(&endpoint.address, &self.options.tls, "v1")?;
            let answer = read(self.send(connection, &url, request)?)?;
            connection.is_reused = true;
            Ok(answer)
        };
        send()
            .map(|answer| (answer, server.clone()))
            .map_err(|error| named(error, &self.origin(), &server))
    }

    /// Sends a request, and repeats it if its connection turns out to be closed: servers close idle
    /// connections without notice.
    fn send(
        &self,
        connection: &mut Connection,
        url: &Url,
        request: &Request,
    ) -> Result<Response<Body>, Error> {
        let begun = Instant::now();
        let mut outcome = self.send_once(connection, url, request)?;
        let is_closed = matches!(outcome, Err(ureq::Error::Io(_)));
        if is_closed && connection.wait_to_retry(begun.elapsed()) {
            outcome = self.send_once(connection, url, request)?;
        }
        if outcome.is_ok() {
            let elapsed = begun.elapsed();
            connection.fastest = Some(
                connection
                    .fastest
                    .map_or(elapsed, |fastest| fastest.min(elapsed)),
            );
        }
        outcome.map_err(|fault| http_client::explain(fault, request.limits, "the response began"))
    }

    /// Sends a request. The inner error is a failure of the connection, which may be repeated.
    fn send_once(
        &self,
        connection: &Connection,
        url: &Url,
        request: &Request,
    ) -> Result<Result<Response<Body>, ureq::Error>, Error> {
        let mut builder = connection.agent.get(url.at(&request.path).with_secrets());
        if let Some(token) = self.token_header()? {
            builder = builder.header("x-consul-token", token);
        }
        let limits = request.limits;
        Ok(builder
            .config()
            .timeout_global(Some(request.timeout))
            .timeout_resolve(Some(limits.connect))
            .timeout_connect(Some(limits.connect))
            .timeout_recv_response(Some(limits.response))
            .timeout_recv_body(Some(TIMEOUT))
            .build()
            .call())
    }
}

/// The limits of a request whose answer has to begin within a time.
fn limits(response_timeout: Duration) -> Limits {
    Limits {
        connect: (TIMEOUT / 2).min(response_timeout),
        response: response_timeout,
        deadline: Instant::now() + response_timeout,
        timeout: response_timeout,
    }
}
