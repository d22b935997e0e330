//! The wire: one GET with its deadlines, its limits, and what a response must be to count.

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

/// How many redirects are followed for one document.
const REDIRECTS: usize = 5;

/// The client, and the proxy that it goes through.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) agent: Agent,
    pub(super) proxy: Option<Arc<Proxy>>,
}

/// What is asked for.
pub(super) struct Ask<'a> {
    pub(super) url: &'a Url,
    pub(super) headers: &'a [Header],
    /// What the last good answer was marked with; none asks for the document in any case.
    pub(super) marks: Option<&'a Marks>,
    /// Whether the answer may be compressed.
    pub(super) compressed: bool,
    pub(super) limits: Limits,
}

/// What a server marks a version of a document with.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Marks {
    pub(super) etag: Option<String>,
    pub(super) modified: Option<String>,
}

impl Marks {
    pub(super) fn is_empty(&self) -> bool {
        self.etag.is_none() && self.modified.is_none()
    }
}

pub(super) enum Answer {
    /// What the marks stand for is still so.
    Same,
    Document(Fetched),
    /// No length and no chunks, though it may have been unpacked on the way: ask again for an
    /// answer that is not compressed.
    Unmeasured,
}

pub(super) struct Fetched {
    pub(super) bytes: Vec<u8>,
    pub(super) marks: Marks,
    pub(super) content_type: Option<String>,
}

/// Asks for a document, through redirects within its origin.
pub(super) fn fetch(client: &Client, ask: &Ask<'_>) -> Result<Answer, Error> {
    let mut url = ask.url.clone();
    for _ in 0..=REDIRECTS {
        let proxy = client.proxy.as_deref();
        let proxy = proxy.filter(|proxy| proxy.for_url(&url).is_some());
        // A connection that fails is the one to the proxy, and a cut may be the proxy's doing.
        let name_proxy = |error: Error| match (proxy, error.kind()) {
            (Some(proxy), ErrorKind::Unavailable | ErrorKind::Timeout) => proxy.name_in(&error),
            _ => error,
        };
        let through = proxy.and_then(|proxy| proxy.for_url(&url));
        let response = send(&client.agent, ask, &url, through).map_err(name_proxy)?;
        match response.status().as_u16() {
            200 => return document(response, ask).map_err(name_proxy),
            304 if ask.marks.is_some() => return Ok(Answer::Same),
            301 | 302 | 303 | 307 | 308 => {
                let Some(location) = text(&response, LOCATION) else {
                    return Err(unavailable("a redirect that does not say where to"));
                };
                url = url
                    .redirect(&location)
                    .map_err(|why| Error::new(ErrorKind::Unavailable, why))?;
            }
            status => return Err(refused(status, &response)),
        }
    }
    let detail = format!("more than {REDIRECTS} redirects: do they lead in a circle?");
    Err(unavailable(detail))
}

fn send(
    agent: &Agent,
    ask: &Ask<'_>,
    url: &Url,
    proxy: Option<&ureq::Proxy>,
) -> Result<Response<Body>, Error> {
    let limits = ask.limits;
    let left = limits.deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(limits.whole_over("the answer was complete"));
    }
    let mut request = agent.get(url.whole());
    for (name, value) in ask.headers {
        request = request.header(name.clone(), value.clone());
    }
    let encoding = if ask.compressed { "gzip" } else { "identity" };
    request = request
        .header("accept-encoding", encoding)
        // Nothing on the way may answer in the server's place.
        .header("cache-control", "no-cache")
        .header("connection", "close");
    let marks = ask.marks.cloned().unwrap_or_default();
    if let Some(etag) = marks.etag {
        request = request.header("if-none-match", etag);
    }
    if let Some(modified) = marks.modified {
        request = request.header("if-modified-since", modified);
    }
    request
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

/// What a 200 says.
fn document(response: Response<Body>, ask: &Ask<'_>) -> Result<Answer, Error> {
    let content_type = text(&response, CONTENT_TYPE);
    if let Some(media) = content_type.as_deref().map(media_type) {
        if media == "text/html" || media == "application/xhtml+xml" {
            let detail = "a web page (`text/html`) came in place of a document: \
                          is there a login or an error page in between?";
            return Err(Error::new(ErrorKind::Malformed, detail));
        }
    }
    let packed = match list(&response, CONTENT_ENCODING).as_deref() {
        None | Some("" | "identity") => false,
        Some("gzip" | "x-gzip") => true,
        Some(other) => {
            let detail = format!(
                "the content encoding `{}` is not supported: send gzip, or none",
                cut(other)
            );
            return Err(Error::new(ErrorKind::Malformed, detail));
        }
    };
    let length = match Framing::of(&response)? {
        Framing::Length(length) => Some(length),
        Framing::Chunked => None,
        Framing::Close if ask.compressed => return Ok(Answer::Unmeasured),
        Framing::Close => {
            let detail = "a body of unknown length, whose end cannot be told from a cut: \
                          have the server send Content-Length or chunks";
            return Err(unavailable(detail));
        }
    };
    if length.is_some_and(|length| length > MAX_DOCUMENT_BYTES as u64) {
        return Err(too_large());
    }
    let marks = Marks {
        etag: text(&response, ETAG),
        modified: text(&response, LAST_MODIFIED),
    };
    let wire = Capped::new(response.into_body().into_reader());
    let bytes = if packed {
        all(Capped::new(MultiGzDecoder::new(wire)), None)
    } else {
        all(wire, length)
    };
    let bytes = bytes.map_err(|fault| body_fault(fault, length, packed, ask.limits))?;
    Ok(Answer::Document(Fetched {
        bytes,
        marks,
        content_type,
    }))
}

fn all(mut reader: impl Read, length: Option<u64>) -> io::Result<Vec<u8>> {
    // Room for all at once: growing would hold what is there twice, and what is not touched costs
    // nothing. A longer one was refused.
    let room = length.map_or(MAX_DOCUMENT_BYTES, |length| length as usize);
    let mut bytes = Vec::with_capacity(room);
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
            // The connection was closed within what frames a chunk.
            ureq::Error::BodyStalled => cut_off(),
            fault => explain(fault, limits, "the body was complete"),
        },
    }
}

/// Why a response that is no document is refused, and what may help.
fn refused(status: u16, response: &Response<Body>) -> Error {
    let hint = match status {
        204 | 205 => "an empty answer is no document: to take all keys away, send an empty one",
        206 => "a part of the document came unasked",
        304 => "the server says that nothing has changed to a request that did not ask",
        401 | 403 | 407 => "check the credentials",
        404 | 410 => "check the address; the values stay as they are",
        429 => "the server asks for fewer requests: poll less often",
        500..=599 => "the server, or one before it, has a problem",
        _ => "only 200 brings a document",
    };
    let reason = response.status().canonical_reason().unwrap_or_default();
    let line = format!("{status} {reason}");
    let error = unavailable(format!("the answer is {}: {hint}", line.trim_end()));
    match retry_after(response) {
        Some(pause) if status == 429 || status >= 500 => error.with_retry_after(pause),
        _ => error,
    }
}

/// How long the server wants to be left alone: a number of seconds, or until a date.
fn retry_after(response: &Response<Body>) -> Option<Duration> {
    let after = text(response, RETRY_AFTER)?;
    let date = |text: &str| httpdate::parse_http_date(text).ok();
    if !after.is_empty() && after.bytes().all(|byte| byte.is_ascii_digit()) {
        // More than fits is for ever.
        return Some(Duration::from_secs(after.parse().unwrap_or(u64::MAX)));
    }
    // By the server's own clock, if it shows it: the one here may be wrong by hours.
    let now = text(response, DATE).and_then(|now| date(&now));
    let now = now.unwrap_or_else(SystemTime::now);
    let pause = date(&after)?.duration_since(now).unwrap_or_default();
    // To the second, as the date is; never less than what it says.
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

/// A reader that fails once there is more than a document may hold.
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
