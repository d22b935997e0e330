//! What sources that speak HTTP have in common: clients, their deadlines, and what their failures
//! mean; `tls` sets up what is trusted, `url` takes addresses apart, `reuse` sends again what a closed connection
//! has lost.

use std::io;
use std::time::{Duration, Instant};

use ureq::http::HeaderValue;
use ureq::http::header::HeaderName;
use ureq::tls::TlsConfig;
use ureq::{Agent, Timeout};

use crate::error::{Error, ErrorKind};

#[cfg(feature = "etcd")]
pub(crate) mod reuse;
pub(crate) mod tls;
#[cfg_attr(not(feature = "http"), allow(dead_code))] // stores need a part of it
pub(crate) mod url;

/// A header that is sent.
pub(crate) type Header = (HeaderName, HeaderValue);

/// How much of a header's text is shown.
const SHOWN: usize = 80;

/// The headers that frame the exchange or belong to revalidation: the source's own business.
const OWN: [&str; 17] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "expect",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "range",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// How long what may take.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) connect: Duration,
    pub(crate) response: Duration,
    pub(crate) deadline: Instant,
    /// What the program asked for, to be named in messages.
    pub(crate) timeout: Duration,
}

impl Limits {
    /// A part took too long, on its own or because nothing was left for it; `end` is what had to
    /// happen in time.
    pub(crate) fn over(self, what: &str, limit: Duration, end: &str) -> Error {
        if Instant::now() >= self.deadline {
            return self.whole_over(end);
        }
        let detail = format!("given up before {end}: the {what} timeout of {limit:?} is over");
        Error::new(ErrorKind::Timeout, detail)
    }

    pub(crate) fn whole_over(self, end: &str) -> Error {
        let limit = self.timeout;
        let detail = format!("given up before {end}: the timeout of {limit:?} is over");
        Error::new(ErrorKind::Timeout, detail)
    }
}

/// A header as the program gave it, checked; the error quotes no value.
pub(crate) fn header(name: &str, value: &str) -> Result<Header, Error> {
    let refuse = |why: &str| {
        let shown = cut(name);
        let detail = format!("the header `{shown}` cannot be sent: {why}");
        Err(Error::new(ErrorKind::InvalidConfig, detail))
    };
    let Ok(parsed) = HeaderName::from_bytes(name.as_bytes()) else {
        return refuse("its name holds characters that no header name may hold");
    };
    if OWN.contains(&parsed.as_str()) {
        return refuse("the source sets it by itself");
    }
    match HeaderValue::from_str(value) {
        Ok(mut value) => {
            value.set_sensitive(true);
            Ok((parsed, value))
        }
        Err(_) => {
            refuse("its value holds a line break or other characters that no header may hold")
        }
    }
}

/// A client that uses no proxy. One that keeps no idle connection resolves names for each request.
pub(crate) fn agent(tls: TlsConfig, idle: usize) -> Agent {
    let config = Agent::config_builder()
        .proxy(None)
        .tls_config(tls)
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .max_idle_connections(idle)
        .max_idle_connections_per_host(idle)
        .user_agent(concat!("liveprops/", env!("CARGO_PKG_VERSION")));
    config.build().new_agent()
}

/// What a client's failure means; `end` is what had to happen in time.
pub(crate) fn explain(fault: ureq::Error, limits: Limits, end: &str) -> Error {
    match fault {
        ureq::Error::Timeout(Timeout::Resolve) => {
            limits.over("connect", limits.connect, "the host's name was resolved")
        }
        ureq::Error::Timeout(Timeout::Connect) => {
            limits.over("connect", limits.connect, "there was a connection")
        }
        ureq::Error::Timeout(Timeout::RecvResponse) => {
            limits.over("response", limits.response, end)
        }
        ureq::Error::Timeout(_) => limits.whole_over(end),
        ureq::Error::Io(fault) if fault.kind() == io::ErrorKind::TimedOut => limits.whole_over(end),
        ureq::Error::Io(fault) => {
            let within = fault.get_ref();
            let tls = within.is_some_and(|it| it.is::<rustls::Error>());
            let what = if tls { "TLS" } else { "the exchange" };
            unavailable(format!("{what} failed: {fault}"))
        }
        ureq::Error::Rustls(fault) => unavailable(format!("TLS failed: {fault}")),
        ureq::Error::Tls(fault) => unavailable(format!("TLS failed: {fault}")),
        ureq::Error::HostNotFound => unavailable("the host's name has no address"),
        ureq::Error::Protocol(fault) => {
            unavailable(format!("the response is not valid HTTP: {fault}"))
        }
        ureq::Error::LargeResponseHeader(..) => unavailable("the response's headers are too large"),
        ureq::Error::ConnectProxyFailed(_) => unavailable("the proxy refused to connect"),
        ureq::Error::InvalidProxyUrl => unavailable("the address of the proxy is not valid"),
        // Its text would quote the address.
        ureq::Error::BadUri(_) => Error::new(ErrorKind::InvalidConfig, "the address is not valid"),
        fault => unavailable(format!("the exchange failed: {fault}")),
    }
}

pub(crate) fn unavailable(detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unavailable, detail)
}

/// A header's text; none if it is not text.
#[cfg(any(feature = "consul", feature = "http"))]
pub(crate) fn text(
    response: &ureq::http::Response<ureq::Body>,
    name: HeaderName,
) -> Option<String> {
    let value = response.headers().get(name)?.to_str().ok()?;
    Some(value.trim().to_owned())
}

/// As much of a text as a message shows.
pub(crate) fn cut(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}
