//! Errors of a connection to NATS.

use std::time::Duration;

use crate::error::{Error, ErrorKind};

/// The most characters that an error quotes of a server.
const MAX_QUOTED: usize = 120;

pub(super) fn unavailable(detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unavailable, detail)
}

pub(super) fn timed_out(what: &str, limit: Duration) -> Error {
    Error::new(
        ErrorKind::Timeout,
        format!("{what} timed out after {limit:?}"),
    )
}

pub(super) fn cut(text: &str) -> String {
    text.chars().take(MAX_QUOTED).collect()
}
