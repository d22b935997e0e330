//! What was done with each reading, so that nothing is sent or said twice.

use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind};
use crate::source::{SourceContext, Update};
use crate::value::document::Document;

/// How long refused content rests at least before a look at it offers it again.
const RETRY: Duration = Duration::from_secs(1);

/// What the properties did with an update.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    Accepted,
    /// The removal guard waits for a confirmation.
    Withheld,
    Rejected,
}

/// The memory of one watch.
#[derive(Debug, Default)]
pub(crate) struct Verdicts {
    /// The content that is in force, as far as this watch knows: what is in force after something
    /// was refused is not known, for what is held may be confirmed at any time.
    sent: Option<u64>,
    /// The content that was judged last, and what is wrong with it.
    last: Option<(u64, Option<Error>)>,
    /// When `last` was refused by the properties. Their mind may change although the content does
    /// not: a rule may compare it with other sources.
    refused: Option<Instant>,
    /// The problem that was reported last and is not solved.
    said: Option<String>,
}

impl Verdicts {
    /// Whether this content would be news.
    pub(crate) fn differs(&self, digest: u64) -> bool {
        self.last.as_ref().is_none_or(|(last, _)| *last != digest)
    }

    /// Whether this content is in force.
    pub(crate) fn in_force(&self, digest: u64) -> bool {
        self.sent == Some(digest)
    }

    /// Whether the removal guard withholds the content that was judged last.
    pub(crate) fn is_withheld(&self) -> bool {
        let error = self.last.as_ref().and_then(|(_, error)| error.as_ref());
        error.is_some_and(|error| error.kind() == ErrorKind::Withheld)
    }

    /// Everything is as it was sent.
    pub(crate) fn same(&mut self, digest: u64, updates: &SourceContext) {
        self.refused = None;
        self.last = Some((digest, None));
        self.said = None;
        updates.heartbeat();
    }

    /// Whether this content was found wanting before; then the reason is reported, if something
    /// else was since.
    pub(crate) fn known_bad(&mut self, digest: u64, updates: &SourceContext) -> bool {
        if self.refused.is_some_and(|at| at.elapsed() >= RETRY) {
            return false;
        }
        match &self.last {
            Some((last, Some(error))) if *last == digest => {
                let error = error.clone();
                self.report_error(error, updates);
                true
            }
            _ => false,
        }
    }

    /// Reports a problem, unless it was the last that was reported.
    pub(crate) fn report_error(&mut self, error: Error, updates: &SourceContext) {
        let text = error.to_string();
        if self.said.as_ref() != Some(&text) {
            self.said = Some(text);
            updates.report_error(error);
        }
    }

    /// Content that will not be sent, now or when it is read again.
    pub(crate) fn bad(&mut self, digest: u64, error: Error, updates: &SourceContext) {
        self.refused = None;
        self.last = Some((digest, Some(error.clone())));
        self.report_error(error, updates);
    }

    /// Sends content; says whether it was taken. What is refused is offered again when it changes,
    /// and now and then as it is.
    pub(crate) fn send(
        &mut self,
        digest: u64,
        document: Document,
        updates: &SourceContext,
    ) -> bool {
        match updates.send(Update::full(document)) {
            Ok(_) => {
                self.sent = Some(digest);
                self.refused = None;
                self.last = Some((digest, None));
                self.said = None;
                true
            }
            Err(error) => {
                // The engine knows already and has told; it is said again only after another
                // problem came between.
                if error.kind() != ErrorKind::Closed {
                    self.said = Some(error.to_string());
                }
                self.sent = None;
                self.refused = Some(Instant::now());
                self.last = Some((digest, Some(error)));
                false
            }
        }
    }
}
