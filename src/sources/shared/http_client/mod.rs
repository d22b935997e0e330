//! The common part of sources over HTTP: clients, deadlines, and errors; `tls` sets up certificates, `url`
//! parses addresses, and `reuse` repeats requests that a closed connection has lost.

use std::io;
use std::time::{Duration, Instant};

use ureq::http::HeaderValue;
use ureq::http::header::HeaderName;
use ureq::tls::TlsConfig;
use ureq::{Agent, Timeout};

use crate::error::{Error, ErrorKind};
use crate::sources::shared::tls as shared_tls;

#[cfg(feature = "etcd")]
pub(crate) mod reuse;
pub(crate) mod tls;
#[cfg_attr(not(feature = "http"), allow(dead_code))] // stores need a part of it
pub(crate) mod url;

/// A header that is sent.
pub(crate) type Header = (HeaderName, HeaderValue);

/// The most characters that a message quotes.
const MAX_QUOTED: usize = 80;

/// The headers that the source sets itself: they frame the exchange or revalidate the document.
const RESERVED: [&str; 17] = [
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

/// The timeouts of a request.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) connect: Duration,
    pub(crate) response: Duration,
    pub(crate) deadline: Instant,
    /// The whole timeout, for messages.
    pub(crate) timeout: Duration,
}

impl Limits {
    /// The error of a part that took too long, or had no time left; `end` had to happen in time.
    pub(crate) fn part_timed_out(self, part: &str, limit: Duration, end: &str) -> Error {
        if Instant::now() >= self.deadline {
            return self.timed_out(end);
        }
        let detail = format!("{part} timed out after {limit:?}, before {end}");
        Error::new(ErrorKind::Timeout, detail)
    }

    /// The error of a request that took too long; `end` had to happen in time.
    pub(crate) fn timed_out(self, end: &str) -> Error {
        let limit = self.timeout;
        let detail = format!("the request timed out after {limit:?}, before {end}");
        Error::new(ErrorKind::Timeout, detail)
    }
}

/// Checks a header of the program. The error does not quote the value.
pub(crate) fn header(name: &str, value: &str) -> Result<Header, Error> {
    let reject = |why: &str| {
        let shown = cut(name);
        let detail = format!("the header `{shown}` cannot be sent: {why}");
        Err(Error::new(ErrorKind::InvalidConfig, detail))
    };
    let Ok(parsed) = HeaderName::from_bytes(name.as_bytes()) else {
        return reject("its name holds characters that no header name may hold");
    };
    if RESERVED.contains(&parsed.as_str()) {
        return reject("the source sets it by itself");
    }
    match HeaderValue::from_str(value) {
        Ok(mut value) => {
            value.set_sensitive(true);
            Ok((parsed, value))
        }
        Err(_) => {
            reject("its value holds a line break or other characters that no header may hold")
        }
    }
}

/// Creates a client without a proxy. A client without idle connections resolves names for each request.
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

/// Converts an error of the client; `end` had to happen in time.
pub(crate) fn explain(fault: ureq::Error, limits: Limits, end: &str) -> Error {
    match fault {
        ureq::Error::Timeout(Timeout::Resolve) => {
            limits.part_timed_out("connect", limits.connect, "the host's name was resolved")
        }
        ureq::Error::Timeout(Timeout::Connect) => {
            limits.part_timed_out("connect", limits.connect, "there was a connection")
        }
        ureq::Error::Timeout(Timeout::RecvResponse) => {
            limits.part_timed_out("response", limits.response, end)
        }
        ureq::Error::Timeout(_) => limits.timed_out(end),
        ureq::Error::Io(fault) if fault.kind() == io::ErrorKind::TimedOut => limits.timed_out(end),
        ureq::Error::Io(fault) => shared_tls::failure(&fault)
            .unwrap_or_else(|| unavailable(format!("the exchange failed: {fault}"))),
        ureq::Error::Rustls(fault) => shared_tls::failed(&fault),
        ureq::Error::Tls(fault) => unavailable(format!("TLS failed: {fault}")),
        ureq::Error::HostNotFound => unavailable("the host name has no address"),
        ureq::Error::Protocol(fault) => {
            unavailable(format!("the response is not valid HTTP: {fault}"))
        }
        ureq::Error::LargeResponseHeader(..) => unavailable("the response's headers are too large"),
        ureq::Error::ConnectProxyFailed(_) => unavailable("the proxy failed to connect"),
        ureq::Error::InvalidProxyUrl => unavailable("the address of the proxy is not valid"),
        // Its text would quote the address.
        ureq::Error::BadUri(_) => Error::new(ErrorKind::InvalidConfig, "the address is not valid"),
        fault => unavailable(format!("the request failed: {fault}")),
    }
}

/// The error of an answer with this status; `message` is what the server writes, `hint` what may help.
#[cfg(any(feature = "consul", feature = "etcd"))]
pub(crate) fn answered(status: u16, message: &str, hint: &str) -> Error {
    unavailable(format!(
        "the answer is {status}{}: {hint}",
        in_parentheses(message)
    ))
}

/// A text in parentheses after a space, or nothing if it is blank.
#[cfg(any(feature = "consul", feature = "etcd"))]
pub(crate) fn in_parentheses(text: &str) -> String {
    match text.trim() {
        "" => String::new(),
        text => format!(" ({text})"),
    }
}

pub(crate) fn unavailable(detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unavailable, detail)
}

/// The text of a header; none if it is not text.
#[cfg(any(feature = "consul", feature = "http"))]
pub(crate) fn text(
    response: &ureq::http::Response<ureq::Body>,
    name: HeaderName,
) -> Option<String> {
    let value = response.headers().get(name)?.to_str().ok()?;
    Some(value.trim().to_owned())
}

/// The start of a text, for a message.
pub(crate) fn cut(text: &str) -> String {
    text.chars().take(MAX_QUOTED).collect()
}
