//! A source whose reports show none of its credentials: what the engine runs in its place.

use std::any::{Any, TypeId};
use std::sync::Arc;
use std::time::Duration;

use crate::error::Error;
use crate::source::forward::forward;
use crate::source::{
    Content, Make, Policy, RejectionScope, Sink, Source, SourceContext, Ticket, Timing, Update,
    Watching, WithPolicy,
};
use crate::value::document::Document;
use crate::value::origin::Origin;
use crate::value::secret::Credentials;

/// A source, and the credentials that are masked in all that it reports.
pub(crate) struct Masked {
    source: Box<dyn Source>,
    credentials: Credentials,
}

impl Masked {
    pub(crate) fn new(source: Box<dyn Source>, credentials: Credentials) -> Self {
        Self {
            source,
            credentials,
        }
    }

    /// Runs code of the source; what it panics with may quote a credential as well.
    fn run<R>(&self, run: impl FnOnce() -> Result<R, Error>) -> Result<R, Error> {
        let outcome = Error::catch("the source", run);
        outcome.map_err(|error| self.credentials.mask_error(error))
    }
}

#[deny(clippy::missing_trait_methods)]
impl Source for Masked {
    forward!(self => self.source; origin watching rejection_scope timing policy with);

    fn load(&self) -> Result<Document, Error> {
        let mut document = self.run(|| self.source.load())?;
        document.mask(&self.credentials);
        Ok(document)
    }

    fn poll(&self, committed: Option<&str>) -> Result<Update, Error> {
        let update = self.run(|| self.source.poll(committed))?;
        Ok(masked(update, &self.credentials))
    }

    fn watch(&self, updates: &SourceContext) -> Result<(), Error> {
        let sink = MaskingSink {
            sink: Arc::clone(&updates.0),
            credentials: self.credentials.clone(),
        };
        let updates = SourceContext::new(Arc::new(sink));
        self.run(|| self.source.watch(&updates))
    }

    fn credentials(&self) -> Credentials {
        self.credentials.clone()
    }
}

/// An update without credentials in its problems and its revision.
fn masked(mut update: Update, credentials: &Credentials) -> Update {
    if let Content::Full(document) = &mut update.content {
        document.mask(credentials);
    }
    let revision = update.revision.as_deref();
    if let Some(masked) = revision.and_then(|revision| credentials.masked(revision)) {
        update.revision = Some(masked.into());
    }
    update
}

/// The way to the engine of a source whose reports are masked.
struct MaskingSink {
    sink: Arc<dyn Sink>,
    credentials: Credentials,
}

impl Sink for MaskingSink {
    fn queue(&self, update: Update) -> Box<dyn Ticket> {
        self.sink.queue(masked(update, &self.credentials))
    }

    fn report_error(&self, error: Error) {
        self.sink.report_error(self.credentials.mask_error(error));
    }

    fn heartbeat(&self) {
        self.sink.heartbeat();
    }

    fn set_degraded(&self, reason: Option<Error>) {
        let reason = reason.map(|error| self.credentials.mask_error(error));
        self.sink.set_degraded(reason);
    }

    fn set_location(&self, place: Arc<str>) {
        let masked = self.credentials.masked(&place).map(Arc::from);
        self.sink.set_location(masked.unwrap_or(place));
    }

    fn is_stopped(&self) -> bool {
        self.sink.is_stopped()
    }

    fn wait(&self, pause: Duration) -> bool {
        self.sink.wait(pause)
    }

    fn on_stop(&self, hook: Box<dyn Fn() + Send + Sync>) {
        self.sink.on_stop(hook);
    }

    fn shared(&self, kind: TypeId, make: Make<'_>) -> Arc<dyn Any + Send + Sync> {
        self.sink.shared(kind, make)
    }
}
