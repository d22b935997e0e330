//! Checks how a response marks the end of its body.
//!
//! The client is more lenient: it reads an unknown coding, and one in HTTP/1.0, until the connection is
//! closed, which may bring half a document.

use ureq::Body;
use ureq::http::header::{CONTENT_LENGTH, HeaderName, TRANSFER_ENCODING};
use ureq::http::{Response, Version};

use crate::error::Error;
use crate::sources::shared::http_client::{cut, unavailable};

/// Where a body ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Framing {
    Length(u64),
    /// At the last chunk.
    Chunked,
    /// At the end of the connection, which may be a cut.
    Close,
}

impl Framing {
    /// Reads the framing of a response.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if the headers contradict each other, or
    /// name an end that the client does not find.
    pub(super) fn of(response: &Response<Body>) -> Result<Self, Error> {
        let length = length(response)?;
        let Some(codings) = list(response, TRANSFER_ENCODING) else {
            return Ok(length.map_or(Self::Close, Self::Length));
        };
        let coding = cut(&codings);
        let remedy = "have the server send Content-Length or chunks, and one of them only";
        if response.version() < Version::HTTP_11 {
            return Err(unavailable(format!(
                "the Transfer-Encoding `{coding}` in an HTTP/1.0 response, which knows none: {remedy}"
            )));
        }
        if !codings.eq_ignore_ascii_case("chunked") {
            return Err(unavailable(format!(
                "the Transfer-Encoding `{coding}` where only `chunked` is supported: {remedy}"
            )));
        }
        match length {
            None => Ok(Self::Chunked),
            Some(_) => Err(unavailable(format!(
                "both Content-Length and chunks, of which one is wrong: {remedy}"
            ))),
        }
    }
}

/// The length that the server names; an error if it is no number, or there are two.
fn length(response: &Response<Body>) -> Result<Option<u64>, Error> {
    let mut all = response.headers().get_all(CONTENT_LENGTH).iter();
    let Some(first) = all.next() else {
        return Ok(None);
    };
    let digits = |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let text = first.to_str().ok().map(str::trim).filter(digits);
    let number = text.and_then(|text| text.parse().ok());
    if number.is_none() || all.any(|other| other != first) {
        return Err(unavailable("a Content-Length that is no single number"));
    }
    Ok(number)
}

/// All lines of a header as one; bytes that are not UTF-8 are replaced.
pub(super) fn list(response: &Response<Body>, name: HeaderName) -> Option<String> {
    let mut lines = response.headers().get_all(name).iter().peekable();
    lines.peek()?;
    let lines: Vec<_> = lines
        .map(|line| String::from_utf8_lossy(line.as_bytes()).trim().to_owned())
        .collect();
    Some(lines.join(", "))
}
