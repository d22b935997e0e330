//! The outcomes of earlier content, so that nothing is sent or reported twice.

use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind};
use crate::source::{SourceContext, Update};
use crate::value::document::Document;

/// How long rejected content waits at least before it is sent again.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// What the properties did with an update.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    Accepted,
    /// The removal guard waits for a confirmation.
    Withheld,
    Rejected,
}

/// The newest content of a watch.
#[derive(Debug, Default)]
enum Newest {
    #[default]
    None,
    /// The properties have it.
    Accepted(u64),
    /// The source cannot use it.
    Unusable(u64, Error),
    /// The properties rejected it at this moment. They may accept it later although it stays the same: a
    /// validator may compare it with other sources.
    Rejected(u64, Error, Instant),
}

impl Newest {
    fn digest(&self) -> Option<u64> {
        match self {
            Self::None => None,
            Self::Accepted(digest) | Self::Unusable(digest, _) | Self::Rejected(digest, ..) => {
                Some(*digest)
            }
        }
    }

    fn error(&self) -> Option<&Error> {
        match self {
            Self::None | Self::Accepted(_) => None,
            Self::Unusable(_, error) | Self::Rejected(_, error, _) => Some(error),
        }
    }
}

/// The history of one watch.
#[derive(Debug, Default)]
pub(crate) struct History {
    newest: Newest,
    /// The content that the properties have, if that is known: they may confirm withheld content at any
    /// time.
    current: Option<u64>,
    /// The text of the last report, until its problem is solved.
    last_report: Option<String>,
}

impl History {
    /// Whether this content differs from the newest.
    pub(crate) fn is_new(&self, digest: u64) -> bool {
        self.newest.digest() != Some(digest)
    }

    /// Whether the properties have this content.
    pub(crate) fn is_current(&self, digest: u64) -> bool {
        self.current == Some(digest)
    }

    /// Whether the removal guard withholds the newest content.
    pub(crate) fn is_withheld(&self) -> bool {
        let error = self.newest.error();
        error.is_some_and(|error| error.kind() == ErrorKind::Withheld)
    }

    /// Records that the file has the content that the properties have.
    pub(crate) fn confirm(&mut self, digest: u64, updates: &SourceContext) {
        self.newest = Newest::Accepted(digest);
        self.last_report = None;
        updates.heartbeat();
    }

    /// Whether this content failed before and need not be sent again. Reports the error if another one was
    /// reported since.
    pub(crate) fn is_known_failure(&mut self, digest: u64, updates: &SourceContext) -> bool {
        if matches!(&self.newest, Newest::Rejected(.., at) if at.elapsed() >= RETRY_INTERVAL) {
            return false;
        }
        let error = match self.newest.error() {
            Some(error) if !self.is_new(digest) => error.clone(),
            _ => return false,
        };
        self.report_error(error, updates);
        true
    }

    /// Reports a problem, unless it was the last one that was reported.
    pub(crate) fn report_error(&mut self, error: Error, updates: &SourceContext) {
        let text = error.to_string();
        if self.last_report.as_ref() != Some(&text) {
            self.last_report = Some(text);
            updates.report_error(error);
        }
    }

    /// Records and reports content that the source cannot use.
    pub(crate) fn record_unusable(&mut self, digest: u64, error: Error, updates: &SourceContext) {
        self.newest = Newest::Unusable(digest, error.clone());
        self.report_error(error, updates);
    }

    /// Sends content; returns whether it was accepted. Rejected content is sent again when it changes, and
    /// from time to time as it is.
    pub(crate) fn send(
        &mut self,
        digest: u64,
        document: Document,
        updates: &SourceContext,
    ) -> bool {
        match updates.send(Update::full(document)) {
            Ok(_) => {
                self.newest = Newest::Accepted(digest);
                self.current = Some(digest);
                self.last_report = None;
                true
            }
            Err(error) => {
                // The engine has reported the error. It is reported again only after another one.
                if error.kind() != ErrorKind::Closed {
                    self.last_report = Some(error.to_string());
                }
                self.newest = Newest::Rejected(digest, error, Instant::now());
                self.current = None;
                false
            }
        }
    }
}
