//! The wire: one GET with its deadlines, its limits, and what a response must be to count.

use std::io::{self, Read};
use std::time::{Duration, Instant, SystemTime};

use flate2::read::MultiGzDecoder;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use ureq::http::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, DATE, ETAG, LAST_MODIFIED, LOCATION,
    RETRY_AFTER, TRANSFER_ENCODING,
};
use ureq::http::{HeaderName, HeaderValue, Response};
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};
use ureq::{Agent, Body, Timeout};

use crate::error::{Error, ErrorKind};
use crate::format::MAX_DOCUMENT_BYTES;
use crate::sources::http::url::Url;

/// How many redirects are followed for one document.
const REDIRECTS: usize = 5;

/// A header that is sent.
pub(super) type Header = (HeaderName, HeaderValue);

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

/// How long what may take.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub(super) connect: Duration,
    pub(super) response: Duration,
    pub(super) deadline: Instant,
    /// What the program asked for, to be named in messages.
    pub(super) timeout: Duration,
}

impl Limits {
    /// A part took too long, on its own or because nothing was left for it; `end` is what had to
    /// happen in time.
    fn over(self, what: &str, limit: Duration, end: &str) -> Error {
        if Instant::now() >= self.deadline {
            return self.whole_over(end);
        }
        let detail = format!("given up before {end}: the {what} timeout of {limit:?} is over");
        Error::new(ErrorKind::Timeout, detail)
    }

    fn whole_over(self, end: &str) -> Error {
        let limit = self.timeout;
        let detail = format!("given up before {end}: the timeout of {limit:?} is over");
        Error::new(ErrorKind::Timeout, detail)
    }
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

/// The text of the files that TLS is set up with.
#[derive(Default, Hash)]
pub(super) struct Pems {
    pub(super) ca: Option<Vec<u8>>,
    pub(super) client: Option<(Vec<u8>, Vec<u8>)>,
}

/// A header as the program gave it, checked; the error quotes no value.
pub(super) fn header(name: &str, value: &str) -> Result<Header, Error> {
    let refuse = |why: &str| {
        let shown = cut(name);
        let detail = format!("the header `{shown}` cannot be sent: {why}");
        Err(Error::new(ErrorKind::Other, detail))
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

/// A client that keeps no connection: names are resolved anew for each request.
pub(super) fn agent(pems: &Pems, proxy: bool) -> Result<Agent, Error> {
    let mut tls = TlsConfig::builder();
    if let Some(ca) = &pems.ca {
        let certificates = certificates(ca, "CA")?;
        let owned = certificates
            .iter()
            .map(|it| Certificate::from_der(it).to_owned());
        tls = tls.root_certs(RootCerts::from(owned));
    }
    if let Some((chain, key)) = &pems.client {
        tls = tls.client_cert(Some(client_certificate(chain, key)?));
    }
    let mut config = Agent::config_builder()
        .tls_config(tls.build())
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .max_idle_connections(0)
        .max_idle_connections_per_host(0)
        .user_agent(concat!("liveprops/", env!("CARGO_PKG_VERSION")));
    if !proxy {
        config = config.proxy(None);
    }
    Ok(config.build().new_agent())
}

fn unusable(what: &str, why: &str) -> Error {
    Error::new(ErrorKind::Other, format!("{what} {why}"))
}

fn certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let what = format!("the file of the {what} certificate");
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if all.is_empty() => Err(unusable(&what, "holds no certificate in PEM")),
        Ok(all) => Ok(all),
        Err(_) => Err(unusable(&what, "is not valid PEM")),
    }
}

fn client_certificate(chain: &[u8], key: &[u8]) -> Result<ClientCert, Error> {
    let what = "the file of the client certificate's key";
    let chain = certificates(chain, "client")?;
    let (Ok(der), Ok(own)) = (
        PrivateKeyDer::from_pem_slice(key),
        PrivateKey::from_pem(key),
    ) else {
        return Err(unusable(what, "holds no private key in PEM"));
    };
    // The client would panic at a pair that does not match.
    let provider = rustls::crypto::ring::default_provider();
    if let Err(fault) = rustls::sign::CertifiedKey::from_der(chain.clone(), der, &provider) {
        let why = format!("and its key do not make a pair that can be used: {fault}");
        return Err(unusable("the client certificate", &why));
    }
    let chain: Vec<_> = chain
        .iter()
        .map(|it| Certificate::from_der(it).to_owned())
        .collect();
    Ok(ClientCert::new_with_certs(&chain, own))
}

/// Asks for a document, through redirects within its origin.
pub(super) fn fetch(agent: &Agent, ask: &Ask<'_>) -> Result<Answer, Error> {
    let mut url = ask.url.clone();
    for _ in 0..=REDIRECTS {
        let response = send(agent, ask, &url)?;
        match response.status().as_u16() {
            200 => return document(response, ask),
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

fn send(agent: &Agent, ask: &Ask<'_>, url: &Url) -> Result<Response<Body>, Error> {
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
    let packed = match text(&response, CONTENT_ENCODING).as_deref() {
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
    let length = length(&response)?;
    let chunked = text(&response, TRANSFER_ENCODING)
        .is_some_and(|it| it.to_ascii_lowercase().contains("chunked"));
    if length.is_none() && !chunked {
        if ask.compressed {
            return Ok(Answer::Unmeasured);
        }
        let detail = "a body of unknown length, whose end cannot be told from a cut: \
                      have the server send Content-Length or chunks";
        return Err(unavailable(detail));
    }
    if length.is_some_and(|length| length > MAX_DOCUMENT_BYTES as u64) {
        return Err(too_large());
    }
    let marks = Marks {
        etag: text(&response, ETAG),
        modified: text(&response, LAST_MODIFIED),
    };
    let wire = Capped::new(response.into_body().into_reader());
    let bytes = match packed {
        true => all(Capped::new(MultiGzDecoder::new(wire)), None),
        false => all(wire, length),
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

/// The length that the server names; an error if it names two.
fn length(response: &Response<Body>) -> Result<Option<u64>, Error> {
    let mut all = response.headers().get_all(CONTENT_LENGTH).iter();
    let Some(first) = all.next() else {
        return Ok(None);
    };
    let number = first.to_str().ok().and_then(|it| it.trim().parse().ok());
    if number.is_none() || all.any(|other| other != first) {
        return Err(unavailable("a Content-Length that is no single number"));
    }
    Ok(number)
}

fn body_fault(fault: io::Error, length: Option<u64>, packed: bool, limits: Limits) -> Error {
    let packed = if packed { "gzip " } else { "" };
    match fault.kind() {
        io::ErrorKind::FileTooLarge => too_large(),
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted => {
            let of = match length {
                Some(length) => format!(" of {length} bytes"),
                None => String::new(),
            };
            unavailable(format!("the {packed}body{of} was cut off"))
        }
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData if !packed.is_empty() => {
            let detail = "the body is not the gzip that its header promises";
            Error::new(ErrorKind::Malformed, detail)
        }
        _ => explain(ureq::Error::from(fault), limits, "the body was complete"),
    }
}

/// What a client's failure means; `end` is what had to happen in time.
fn explain(fault: ureq::Error, limits: Limits, end: &str) -> Error {
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
        ureq::Error::BadUri(_) => Error::new(ErrorKind::Other, "the address is not valid"),
        fault => unavailable(format!("the exchange failed: {fault}")),
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

fn unavailable(detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unavailable, detail)
}

fn too_large() -> Error {
    let detail = format!("the document is longer than {MAX_DOCUMENT_BYTES} bytes");
    Error::new(ErrorKind::TooLarge, detail)
}

/// A header's text; none if it is not text.
fn text(response: &Response<Body>, name: HeaderName) -> Option<String> {
    let value = response.headers().get(name)?.to_str().ok()?;
    Some(value.trim().to_owned())
}

/// A content type without its parameters, in lower case.
pub(super) fn media_type(content_type: &str) -> String {
    let media = content_type.split(';').next().unwrap_or_default();
    media.trim().to_ascii_lowercase()
}

/// As much of a text as a message shows.
pub(super) fn cut(text: &str) -> String {
    text.chars().take(SHOWN).collect()
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
