//! The handle that a source uses to reach the engine.

use std::any::{Any, TypeId};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Error;
use crate::source::{CommitOutcome, Update};

/// The handle that a source uses to reach the engine. Cloning is cheap.
///
/// ```
/// use std::time::Duration;
/// use liveprops::{Document, Error, Origin, Source, SourceContext, Update, Watching};
///
/// struct Ticker;
///
/// impl Source for Ticker {
///     fn origin(&self) -> Origin {
///         Origin::new("ticker", "every second")
///     }
///
///     fn load(&self) -> Result<Document, Error> {
///         let mut document = Document::new();
///         document.set("ticks", 0, self.origin())?;
///         Ok(document)
///     }
///
///     fn watching(&self) -> Watching {
///         Watching::Stream
///     }
///
///     fn watch(&self, context: &SourceContext) -> Result<(), Error> {
///         context.send(Update::full(self.load()?))?; // no gap between load and watch
///         for tick in 1.. {
///             if context.wait(Duration::from_secs(1)) {
///                 break; // the engine wants the watch to end
///             }
///             context.send(Update::delta().set("ticks", tick, self.origin())?)?;
///         }
///         Ok(())
///     }
/// }
/// ```
#[derive(Clone)]
pub struct SourceContext(pub(super) Arc<dyn Sink>);

/// The engine, or a test, behind a [`SourceContext`].
pub(crate) trait Sink: Send + Sync {
    fn queue(&self, update: Update) -> Box<dyn Ticket>;
    fn report_error(&self, error: Error);
    fn heartbeat(&self);
    fn set_degraded(&self, reason: Option<Error>);
    fn set_location(&self, location: Arc<str>);
    fn is_stopped(&self) -> bool;
    fn wait(&self, pause: Duration) -> bool;
    fn on_stop(&self, hook: Box<dyn Fn() + Send + Sync>);
    fn shared(&self, kind: TypeId, make: Make<'_>) -> Arc<dyn Any + Send + Sync>;
}

/// Creates a value that several sources share.
pub(crate) type Make<'a> = Box<dyn FnOnce() -> Arc<dyn Any + Send + Sync> + 'a>;

/// An update in the queue of commits.
pub(crate) trait Ticket: Send {
    fn commit(self: Box<Self>) -> Result<CommitOutcome, Error>;
}

impl SourceContext {
    pub(crate) fn new(sink: Arc<dyn Sink>) -> Self {
        Self(sink)
    }

    /// Commits an update. When this returns, every thread reads it.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Rejected`](crate::ErrorKind::Rejected),
    ///   [`ErrorKind::Mismatch`](crate::ErrorKind::Mismatch) or
    ///   [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if the update is rejected as a whole.
    /// - [`ErrorKind::Withheld`](crate::ErrorKind::Withheld) if the removal guard withholds it.
    /// - [`ErrorKind::Reentrant`](crate::ErrorKind::Reentrant) inside a validator.
    /// - [`ErrorKind::Closed`](crate::ErrorKind::Closed) once the properties are dropped.
    pub fn send(&self, update: Update) -> Result<CommitOutcome, Error> {
        self.queue(update).commit()
    }

    /// Adds an update to the queue of commits without committing it.
    ///
    /// It is for a source whose own lock keeps its updates in order. Such a source queues under that lock
    /// and commits after releasing it, so that callbacks may call the source again. The next commit of any
    /// source commits a queued update, at the latest [`Queued::commit`].
    pub fn queue(&self, update: Update) -> Queued {
        Queued(self.0.queue(update))
    }

    /// Reports a failure while the source goes on watching. Values stay as they are; the source's
    /// health shows the reason until the next update or [`heartbeat`](Self::heartbeat).
    pub fn report_error(&self, error: Error) {
        self.0.report_error(error);
    }

    /// Reports that the source responded and nothing changed since its last report. Rejected and withheld
    /// values still count as current.
    pub fn heartbeat(&self) {
        self.0.heartbeat();
    }

    /// Reports why the source works worse than it should although it delivers its changes, such as polling
    /// where there are no events. `None` withdraws the report. It changes no status, and shows in the
    /// source's health until it is replaced or withdrawn. Repeating a report costs nothing.
    pub fn set_degraded(&self, reason: Option<Error>) {
        self.0.set_degraded(reason);
    }

    /// Sets where the source reads from, such as the one of its servers that responded and how that was
    /// found. It shows in the source's health and in explanations. It must not contain a password.
    pub fn set_location(&self, location: impl Into<Arc<str>>) {
        self.0.set_location(location.into());
    }

    /// Whether the engine wants [`Source::watch`](crate::Source::watch) to return.
    pub fn is_stopped(&self) -> bool {
        self.0.is_stopped()
    }

    /// Waits, at most `pause`, until the engine wants [`Source::watch`](crate::Source::watch) to return;
    /// returns whether it does.
    pub fn wait(&self, pause: Duration) -> bool {
        self.0.wait(pause)
    }

    /// Calls `hook` once when the engine wants [`Source::watch`](crate::Source::watch) to return, to wake
    /// it. The call is on a thread of the engine, or immediate if the watch already has to return.
    pub fn on_stop(&self, hook: impl Fn() + Send + Sync + 'static) {
        self.0.on_stop(Box::new(hook));
    }

    /// The one `T` that all sources of these properties share, such as a file watcher or the runtime of a
    /// client library. The first call creates it, and it is dropped with the last user.
    ///
    /// `make` may share values of other types. If it requests its own type, it gets one that is not shared.
    /// Inside a validator the call waits for no other thread, and may return one that is not shared.
    pub fn shared<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Arc<T> {
        let any = self
            .0
            .shared(TypeId::of::<T>(), Box::new(|| Arc::new(make())));
        match any.downcast() {
            Ok(shared) => shared,
            Err(_) => unreachable!("a value under the id of a type is of that type"),
        }
    }
}

impl fmt::Debug for SourceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceContext")
            .field("stopped", &self.is_stopped())
            .finish()
    }
}

/// An update in the queue of commits; see [`SourceContext::queue`].
///
/// ```
/// use std::sync::Mutex;
/// use liveprops::{Document, Error, SourceContext, Update};
///
/// fn replace(document: &Mutex<Document>, new: Document, context: &SourceContext) -> Result<(), Error> {
///     let queued = {
///         let mut document = document.lock().unwrap();
///         *document = new.clone();
///         context.queue(Update::full(new)) // in the order of the changes of `document`
///     };
///     queued.commit().map(drop) // callbacks may lock `document`
/// }
/// ```
#[must_use = "only `commit` returns the outcome"]
pub struct Queued(Box<dyn Ticket>);

impl Queued {
    /// Commits the update and all that were queued before it, unless another commit already did.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Rejected`](crate::ErrorKind::Rejected),
    ///   [`ErrorKind::Mismatch`](crate::ErrorKind::Mismatch) or
    ///   [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if the update is rejected as a whole.
    /// - [`ErrorKind::Withheld`](crate::ErrorKind::Withheld) if the removal guard withholds it.
    /// - [`ErrorKind::Reentrant`](crate::ErrorKind::Reentrant) inside a validator.
    /// - [`ErrorKind::Closed`](crate::ErrorKind::Closed) once the properties are dropped.
    pub fn commit(self) -> Result<CommitOutcome, Error> {
        self.0.commit()
    }
}

impl fmt::Debug for Queued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Queued")
    }
}
