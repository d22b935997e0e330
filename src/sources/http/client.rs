//! Sends one GET with its deadlines and limits, and checks the response.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use flate2::read::MultiGzDecoder;
use ureq::http::Response;
use ureq::http::header::{
    CONTENT_ENCODING, CONTENT_TYPE, DATE, ETAG, LAST_MODIFIED, LOCATION, RETRY_AFTER,
};
use ureq::{Agent, Body};

use crate::error::{Error, ErrorKind};
use crate::format::MAX_DOCUMENT_BYTES;
use crate::sources::http::framing::{Framing, list};
use crate::sources::http::proxy::Proxy;
use crate::sources::shared::http_client::url::Url;
use crate::sources::shared::http_client::{Header, Limits, cut, explain, text, unavailable};

/// The most redirects that are followed for one document.
const MAX_REDIRECTS: usize = 5;

/// The client, and its proxy.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) agent: Agent,
    pub(super) proxy: Option<Arc<Proxy>>,
}

/// A request for a document.
pub(super) struct Request<'a> {
    pub(super) url: &'a Url,
    pub(super) headers: &'a [Header],
    /// The validators of the last good response; none requests the document in any case.
    pub(super) validators: Option<&'a Validators>,
    /// Whether the response may be compressed.
    pub(super) compressed: bool,
    pub(super) limits: Limits,
}

/// The names of a document's version.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Validators {
    pub(super) etag: Option<String>,
    pub(super) modified: Option<String>,
}

impl Validators {
    pub(super) fn is_empty(&self) -> bool {
        self.etag.is_none() && self.modified.is_none()
    }
}

pub(super) enum Answer {
    /// The version of the validators is still current.
    NotModified,
    Document(Fetched),
    /// The body has no length and no chunks, perhaps because the client has unpacked it: the caller requests
    /// an uncompressed one.
    UnknownLength,
}

pub(super) struct Fetched {
    pub(super) bytes: Vec<u8>,
    pub(super) validators: Validators,
    pub(super) content_type: Option<String>,
}

/// Fetches a document, through redirects within its origin.
pub(super) fn fetch(client: &Client, request: &Request<'_>) -> Result<Answer, Error> {
    let mut url = request.url.clone();
    for _ in 0..=MAX_REDIRECTS {
        let proxy = client.proxy.as_deref();
        let proxy = proxy.filter(|proxy| proxy.for_url(&url).is_some());
        // The proxy may have failed to connect, or have cut the response.
        let name_proxy = |error: Error| match (proxy, error.kind()) {
            (Some(proxy), ErrorKind::Unavailable | ErrorKind::Timeout) => proxy.name_in(&error),
            _ => error,
        };
        let through = proxy.and_then(|proxy| proxy.for_url(&url));
        let response = send(&client.agent, request, &url, through).map_err(name_proxy)?;
        match response.status().as_u16() {
            200 => return document(response, request).map_err(name_proxy),
            304 if request.validators.is_some() => return Ok(Answer::NotModified),
            301 | 302 | 303 | 307 | 308 => {
                let Some(location) = text(&response, LOCATION) else {
                    return Err(unavailable("a redirect without a target"));
                };
                url = url
                    .redirect(&location)
                    .map_err(|why| Error::new(ErrorKind::Unavailable, why))?;
            }
            status => return Err(rejected(status, &response)),
        }
    }
    let detail = format!("more than {MAX_REDIRECTS} redirects: do they lead in a circle?");
    Err(unavailable(detail))
}

fn send(
    agent: &Agent,
    request: &Request<'_>,
    url: &Url,
    proxy: Option<&ureq::Proxy>,
) -> Result<Response<Body>, Error> {
    let limits = request.limits;
    let left = limits.deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(limits.timed_out("the answer was complete"));
    }
    let mut builder = agent.get(url.with_secrets());
    for (name, value) in request.headers {
        builder = builder.header(name.clone(), value.clone());
    }
    let encoding = if request.compressed {
        "gzip"
    } else {
        "identity"
    };
    builder = builder
        .header("accept-encoding", encoding)
        // No cache may answer instead of the server.
        .header("cache-control", "no-cache")
        .header("connection", "close");
    let validators = request.validators.cloned().unwrap_or_default();
    if let Some(etag) = validators.etag {
        builder = builder.header("if-none-match", etag);
    }
    if let Some(modified) = validators.modified {
        builder = builder.header("if-modified-since", modified);
    }
    builder
        .config()
        .proxy(proxy.cloned())
        .timeout_global(Some(left))
        .timeout_resolve(Some(limits.connect.min(left)))
        .timeout_connect(Some(limits.connect.min(left)))
        .timeout_recv_response(Some(limits.response.min(left)))
        .build()
        .call()
        .map_err(|fault| explain(fault, limits, "the response began"))
}

/// Reads the document of a 200.
fn document(response: Response<Body>, request: &Request<'_>) -> Result<Answer, Error> {
    let content_type = text(&response, CONTENT_TYPE);
    if let Some(media) = content_type.as_deref().map(media_type) {
        if media == "text/html" || media == "application/xhtml+xml" {
            let detail = "expected a document, found a web page (`text/html`); look for a login or an error page in between";
            return Err(Error::new(ErrorKind::Malformed, detail));
        }
    }
    let packed = match list(&response, CONTENT_ENCODING).as_deref() {
        None | Some("" | "identity") => false,
        Some("gzip" | "x-gzip") => true,
        Some(other) => {
            let detail = format!(
                "the content encoding `{}` is not supported; have the server send gzip, or none",
                cut(other)
            );
            return Err(Error::new(ErrorKind::Malformed, detail));
        }
    };
    let length = match Framing::of(&response)? {
        Framing::Length(length) => Some(length),
        Framing::Chunked => None,
        Framing::Close if request.compressed => return Ok(Answer::UnknownLength),
        Framing::Close => {
            let detail = "a body of unknown length, whose end looks like a cut: \
                          have the server send Content-Length or chunks";
            return Err(unavailable(detail));
        }
    };
    if length.is_some_and(|length| length > MAX_DOCUMENT_BYTES as u64) {
        return Err(too_large());
    }
    let validators = Validators {
        etag: text(&response, ETAG),
        modified: text(&response, LAST_MODIFIED),
    };
    let wire = Capped::new(response.into_body().into_reader());
    let bytes = if packed {
        read_body(Capped::new(MultiGzDecoder::new(wire)), None)
    } else {
        read_body(wire, length)
    };
    let bytes = bytes.map_err(|fault| body_fault(fault, length, packed, request.limits))?;
    Ok(Answer::Document(Fetched {
        bytes,
        validators,
        content_type,
    }))
}

fn read_body(mut reader: impl Read, length: Option<u64>) -> io::Result<Vec<u8>> {
    // The whole capacity at once: growth would copy the bytes, and untouched memory costs nothing.
    let capacity = length.map_or(MAX_DOCUMENT_BYTES, |length| length as usize);
    let mut bytes = Vec::with_capacity(capacity);
    reader.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn body_fault(fault: io::Error, length: Option<u64>, packed: bool, limits: Limits) -> Error {
    let packed = if packed { "gzip " } else { "" };
    let cut_off = || {
        let of = match length {
            Some(length) => format!(" of {length} bytes"),
            None => String::new(),
        };
        unavailable(format!("the {packed}body{of} was cut off"))
    };
    match fault.kind() {
        io::ErrorKind::FileTooLarge => too_large(),
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted => cut_off(),
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData if !packed.is_empty() => {
            let detail = "the body is not the gzip that its header promises";
            Error::new(ErrorKind::Malformed, detail)
        }
        _ => match ureq::Error::from(fault) {
            // The connection was closed inside the frame of a chunk.
            ureq::Error::BodyStalled => cut_off(),
            fault => explain(fault, limits, "the body was complete"),
        },
    }
}

/// The error of a response that is no document, and what may help.
fn rejected(status: u16, response: &Response<Body>) -> Error {
    let hint = match status {
        204 | 205 => "an empty answer is no document: to remove all keys, send an empty document",
        206 => "the server sent a part of the document unasked",
        304 => "the request had no condition",
        401 | 403 | 407 => "check the credentials",
        404 | 410 => "check the address; the values stay as they are",
        429 => "poll less often",
        500..=599 => "the server, or a proxy before it, failed",
        _ => "expected status 200",
    };
    let reason = response.status().canonical_reason().unwrap_or_default();
    let line = format!("{status} {reason}");
    let error = unavailable(format!("the server answered {}; {hint}", line.trim_end()));
    match retry_after(response) {
        Some(pause) if status == 429 || status >= 500 => error.with_retry_after(pause),
        _ => error,
    }
}

/// The pause that the server asks for: a number of seconds, or until a date.
fn retry_after(response: &Response<Body>) -> Option<Duration> {
    let after = text(response, RETRY_AFTER)?;
    let date = |text: &str| httpdate::parse_http_date(text).ok();
    if !after.is_empty() && after.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number that does not fit means for ever.
        return Some(Duration::from_secs(after.parse().unwrap_or(u64::MAX)));
    }
    // Uses the server's clock if it sends its time: the local one may be wrong by hours.
    let now = text(response, DATE).and_then(|now| date(&now));
    let now = now.unwrap_or_else(SystemTime::now);
    let pause = date(&after)?.duration_since(now).unwrap_or_default();
    // Rounds up to seconds, the precision of the date.
    Some(Duration::from_secs(pause.as_secs_f64().ceil() as u64))
}

fn too_large() -> Error {
    let detail = format!("the document is longer than {MAX_DOCUMENT_BYTES} bytes");
    Error::new(ErrorKind::TooLarge, detail)
}

/// A content type without its parameters, in lower case.
pub(super) fn media_type(content_type: &str) -> String {
    let media = content_type.split(';').next().unwrap_or_default();
    media.trim().to_ascii_lowercase()
}

/// A reader that fails after the size limit of a document.
struct Capped<R> {
    reader: R,
    left: usize,
}

impl<R> Capped<R> {
    fn new(reader: R) -> Self {
        Self {
            reader,
            left: MAX_DOCUMENT_BYTES,
        }
    }
}

impl<R: Read> Read for Capped<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.left = self
            .left
            .checked_sub(read)
            .ok_or_else(|| io::Error::from(io::ErrorKind::FileTooLarge))?;
        Ok(read)
    }
}
