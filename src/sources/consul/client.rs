//! Requests to an agent, and how long each may take.

use std::time::{Duration, Instant};

use ureq::http::{HeaderValue, Response};
use ureq::{Agent, Body};

use crate::error::{Error, ErrorKind};
use crate::source::{Source, SourceContext};
use crate::sources::consul::answer::{self, Answer, Head};
use crate::sources::consul::{Consul, TIMEOUT};
use crate::sources::shared::http_client::url::{Url, shown_invalid};
use crate::sources::shared::http_client::{self, Limits};
use crate::sources::shared::kv::about;
use crate::sources::shared::kv::endpoints::named;

/// How long a read blocks while nothing changes. [`about`] takes up to a quarter off, so all keys are
/// read at most once a minute while nothing changes.
pub(super) const WAIT: Duration = Duration::from_secs(80);
/// What an agent may add to that, so that not all reads end at once.
const DITHER: u32 = 16;
/// How late the answer to a blocking read may begin.
const LATE: Duration = Duration::from_secs(1);
/// How long all requests of one heartbeat may take.
pub(super) const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// A request on a reused connection that fails this soon has met a closed connection, or at most twice as
/// late as the fastest answer came.
const CLOSED_EARLY: Duration = Duration::from_millis(20);
/// The longest pause before it is sent once more: programs whose agent has ended come back spread over it.
const RETRY: Duration = Duration::from_millis(400);
/// The name of a key that nobody sets, after the prefix or the key that the source reads.
const NOBODYS_KEY: &str = ".liveprops-heartbeat";

/// A client that keeps one connection.
pub(super) struct Link {
    agent: Agent,
    /// What a watch is told to end by; none for a single load.
    updates: Option<SourceContext>,
    /// Whether an answer was complete, so that the next request may reuse its connection.
    is_reused: bool,
    /// How soon the fastest answer began.
    fastest: Option<Duration>,
}

impl Link {
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

    /// Whether to send a request once more that failed after a time: its connection was closed, and the
    /// watch goes on. Waits for a random time before.
    fn retries(&mut self, after: Duration) -> bool {
        let was_closed = after < CLOSED_EARLY + 2 * self.fastest.unwrap_or_default();
        match &self.updates {
            Some(updates) if self.is_reused && was_closed => {
                self.is_reused = false;
                !updates.wait((RETRY - about(RETRY)) * 4)
            }
            _ => false,
        }
    }

    /// What ends a request that waits.
    pub(super) fn agent(&self) -> Agent {
        self.agent.clone()
    }
}

/// What a heartbeat asks an agent for, in this order, until an answer shows that nothing has changed. No
/// size depends on the values, but for that of the last one where the source reads a document.
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
struct Ask {
    path: String,
    limits: Limits,
    /// How long the whole exchange may take.
    whole: Duration,
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
            // Without one the agent answers as to anybody, and that may look empty.
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                "the ACL token is empty",
            ));
        }
        let (_, value) = http_client::header("x-consul-token", token.trim())?;
        Ok(Some(value))
    }

    /// Checks that an agent can be asked for the prefix or key. It answers others with a redirect to
    /// another key.
    fn check_path(&self) -> Result<(), Error> {
        let mapping = &self.options.mapping;
        let kind = if mapping.is_document() {
            "key"
        } else {
            "prefix"
        };
        let is_root = |path: &str| path.is_empty() && !mapping.is_document();
        for path in [&self.options.given, mapping.wanted()] {
            // A slash before and after it does not count.
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

    /// The path of a request for a key, with a part of its query.
    fn path(&self, key: &str, query: &str) -> String {
        let key: Vec<String> = key.split('/').map(http_client::url::escape).collect();
        let mut path = format!("/v1/kv/{}?{query}", key.join("/"));
        if let Some(datacenter) = &self.options.datacenter {
            path.push_str(&format!("dc={}&", http_client::url::escape(datacenter)));
        }
        if self.options.stale {
            path.push_str("stale&");
        }
        path
    }

    /// A read of everything, which blocks while nothing is newer than an index.
    fn read_path(&self, index: u64, wait: Option<Duration>) -> String {
        let mapping = &self.options.mapping;
        let query = if mapping.is_document() {
            ""
        } else {
            "recurse&"
        };
        let mut path = self.path(mapping.wanted(), query);
        path.push_str(&format!("index={index}"));
        if let Some(wait) = wait {
            path.push_str(&format!("&wait={}ms", wait.as_millis()));
        }
        path
    }

    fn probe_path(&self, probe: Probe) -> String {
        const NAMES: &str = "keys&separator=/&";
        let mapping = &self.options.mapping;
        let wanted = mapping.wanted();
        let mut path = match probe {
            Probe::Store => self.path(&format!("{wanted}{NOBODYS_KEY}"), ""),
            Probe::Siblings => self.path(wanted.trim_end_matches('/'), NAMES),
            Probe::Exact if mapping.is_document() => self.path(wanted, ""),
            Probe::Exact => self.path(wanted, NAMES),
        };
        path.push_str("index=0");
        path
    }

    /// One read, and where it was made. It blocks until something is newer than `index`, unless that
    /// is 0. `on_answer` runs as soon as the answer begins.
    pub(super) fn read(
        &self,
        link: &mut Link,
        index: u64,
        on_answer: impl FnOnce(),
    ) -> Result<(Answer, String), Error> {
        let wait = (index > 0).then(|| about(WAIT));
        let begins = wait.map_or(TIMEOUT, |wait| wait + wait / DITHER + LATE);
        let ask = Ask {
            path: self.read_path(index, wait),
            limits: limits(begins),
            whole: wait.map_or(TIMEOUT, |_| begins + TIMEOUT),
        };
        let read = |response| {
            on_answer();
            answer::read(response, ask.limits)
        };
        self.ask(link, &ask, read)
            .inspect_err(|_| self.options.endpoints.next())
    }

    /// Reads everything, from the first server that answers.
    pub(super) fn read_all(&self, link: &mut Link) -> Result<(Answer, String), Error> {
        self.check_path()?;
        let endpoints = &self.options.endpoints;
        endpoints.first(|| self.read(link, 0, || {}))
    }

    /// What a probe brings; `None` if the ACL token may see nothing or only a part of that.
    pub(super) fn probe(
        &self,
        link: &mut Link,
        probe: Probe,
        deadline: Instant,
    ) -> Result<Option<Head>, Error> {
        let left = deadline.saturating_duration_since(Instant::now());
        let ask = Ask {
            path: self.probe_path(probe),
            limits: limits(left),
            whole: left,
        };
        let read = |response: Response<Body>| match response.status().as_u16() {
            403 if probe != Probe::Exact => answer::discard(response, ask.limits).map(|()| None),
            _ => answer::read_head(response, ask.limits, probe == Probe::Exact),
        };
        self.ask(link, &ask, read).map(|(head, _)| head)
    }

    /// Sends a request and reads its answer.
    fn ask<T>(
        &self,
        link: &mut Link,
        ask: &Ask,
        read: impl FnOnce(Response<Body>) -> Result<T, Error>,
    ) -> Result<(T, String), Error> {
        let server = self.options.endpoints.current()?;
        let place = server.place(shown);
        let exchange = || -> Result<T, Error> {
            let url = http_client::tls::server(&server.address, &self.options.tls, "v1")?;
            let answer = read(self.send(link, &url, ask)?)?;
            link.is_reused = true;
            Ok(answer)
        };
        exchange()
            .map(|answer| (answer, place.clone()))
            .map_err(|error| named(error, &self.origin(), &place))
    }

    /// Sends a request, and once more if its connection turns out to be closed: servers close those that
    /// are idle without notice.
    fn send(&self, link: &mut Link, url: &Url, ask: &Ask) -> Result<Response<Body>, Error> {
        let begun = Instant::now();
        let mut outcome = self.send_once(link, url, ask)?;
        let is_closed = matches!(outcome, Err(ureq::Error::Io(_)));
        if is_closed && link.retries(begun.elapsed()) {
            outcome = self.send_once(link, url, ask)?;
        }
        if outcome.is_ok() {
            let took = begun.elapsed();
            link.fastest = Some(link.fastest.map_or(took, |fastest| fastest.min(took)));
        }
        outcome.map_err(|fault| http_client::explain(fault, ask.limits, "the response began"))
    }

    fn send_once(
        &self,
        link: &Link,
        url: &Url,
        ask: &Ask,
    ) -> Result<Result<Response<Body>, ureq::Error>, Error> {
        let mut request = link.agent.get(url.at(&ask.path).whole());
        if let Some(token) = self.token_header()? {
            request = request.header("x-consul-token", token);
        }
        let limits = ask.limits;
        Ok(request
            .config()
            .timeout_global(Some(ask.whole))
            .timeout_resolve(Some(limits.connect))
            .timeout_connect(Some(limits.connect))
            .timeout_recv_response(Some(limits.response))
            .timeout_recv_body(Some(TIMEOUT))
            .build()
            .call())
    }
}

/// The limits of a request whose answer has to begin within a time.
fn limits(begins: Duration) -> Limits {
    Limits {
        connect: (TIMEOUT / 2).min(begins),
        response: begins,
        deadline: Instant::now() + begins,
        timeout: begins,
    }
}

/// An address without what may be secret in it.
fn shown(address: &str) -> String {
    match Url::parse(address) {
        Ok(url) => url.to_string(),
        Err(_) => shown_invalid(address)
            .unwrap_or("an address that is not valid")
            .to_owned(),
    }
}
