//! The contract between a source and the engine: [`Source`], [`Update`] and [`SourceContext`], and the
//! [`conformance`] suite that tests a source.

use std::time::Duration;

use crate::error::Error;
use crate::value::document::Document;
use crate::value::origin::Origin;

pub mod conformance;
mod context;
mod forward;
mod masked;
mod policy;
mod scope;
mod timing;
mod update;

pub use context::{Queued, SourceContext};
pub use policy::{Cached, Policy, RemovalGuard, WithPolicy};
pub use scope::Scope;
pub use timing::{DEFAULT_TIMEOUT, MAX_RETRY_AFTER, Timing};
pub use update::{CommitOutcome, Update};

pub use crate::value::secret::Credentials;

pub(crate) use context::{Make, Sink, Ticket};
pub(crate) use masked::Masked;
pub(crate) use policy::{References, Start};
pub(crate) use scope::is_name;
pub(crate) use update::{Content, Edit};

/// The default pause between two loads of a polled source.
pub const DEFAULT_POLL: Duration = Duration::from_secs(5);

/// A place that values come from.
///
/// A source has two duties: return all values ([`load`](Source::load)), and deliver later changes
/// ([`watch`](Source::watch), or by being polled). Both may block: each source has a thread of its own.
/// The engine handles back-off after a failure, deadlines, health and restart, so a source simply returns
/// its error. A source that knows when to retry sets [`Error::with_retry_after`]. A failing source never
/// removes a good value. The engine abandons a call that hangs and calls the source again on another
/// thread, so the calls of such a source may overlap.
///
/// The engine reads the description of a source ([`origin`](Source::origin),
/// [`watching`](Source::watching), [`timing`](Source::timing), [`rejection_scope`](Source::rejection_scope),
/// [`policy`](Source::policy)) once, when the source is added.
///
/// # Examples
///
/// A source of one value that is polled twice a second:
///
/// ```
/// use std::time::Duration;
/// use liveprops::{Document, Error, Origin, Properties, Source, Watching};
///
/// #[derive(Debug)]
/// struct Uptime(std::time::Instant);
///
/// impl Source for Uptime {
///     fn origin(&self) -> Origin {
///         Origin::new("uptime", "this process")
///     }
///
///     fn load(&self) -> Result<Document, Error> {
///         let mut document = Document::new();
///         document.set("uptime.seconds", self.0.elapsed().as_secs(), self.origin())?;
///         Ok(document)
///     }
///
///     fn watching(&self) -> Watching {
///         Watching::Poll(Duration::from_millis(500))
///     }
/// }
///
/// let props = Properties::builder().source(Uptime(std::time::Instant::now())).build()?;
/// assert!(props.get::<u64>("uptime.seconds")? < 60);
/// # Ok::<(), liveprops::Error>(())
/// ```
pub trait Source: Send + Sync + 'static {
    /// The kind and the place of this source, such as `file app.toml`. It names the layer in messages.
    fn origin(&self) -> Origin;

    /// Returns all current values.
    ///
    /// # Errors
    ///
    /// The reason why the source has no answer, such as
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable). Its earlier values stay in force.
    fn load(&self) -> Result<Document, Error>;

    /// Returns all current values, or the changes since the revision `committed`. The engine calls it for
    /// each poll after the first load; the default calls [`load`](Source::load).
    ///
    /// `committed` is the revision of the newest update that is in force as a whole. An update that was
    /// rejected, or a part of it, does not advance it, so that its changes are requested again.
    ///
    /// # Errors
    ///
    /// The reason why the source has no answer, such as
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable). Its earlier values stay in force.
    fn poll(&self, committed: Option<&str>) -> Result<Update, Error> {
        let _ = committed;
        self.load().map(Update::full)
    }

    /// How later changes reach the engine. The default is to poll every [`DEFAULT_POLL`].
    fn watching(&self) -> Watching {
        Watching::Poll(DEFAULT_POLL)
    }

    /// Delivers later changes. The engine calls it if [`watching`](Source::watching) is
    /// [`Stream`](Watching::Stream) or [`Push`](Watching::Push).
    ///
    /// There must be no gap between the last load and the watch: begin to listen, then send all values once
    /// more as [`Update::full`].
    ///
    /// # Errors
    ///
    /// The reason why the watch ended early, such as
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable). The engine calls again after a pause.
    fn watch(&self, updates: &SourceContext) -> Result<(), Error> {
        let _ = updates;
        Ok(())
    }

    /// How much of an update is rejected when one value is not acceptable. The default is all of it.
    fn rejection_scope(&self) -> RejectionScope {
        RejectionScope::Whole
    }

    /// How long the parts of the source's work may take.
    fn timing(&self) -> Timing {
        Timing::new()
    }

    /// The default policy, which the program changes by [`with`](Source::with).
    fn policy(&self) -> Policy {
        Policy::new()
    }

    /// The credentials that the source sends; none by default. The engine reads them once, when the source
    /// is added.
    ///
    /// The engine masks them in all reports of the source. The source may add more to the same
    /// [`Credentials`] later, such as those that it reads from a file.
    fn credentials(&self) -> Credentials {
        Credentials::new()
    }

    /// This source with another policy, which `edit` makes from the present one.
    ///
    /// ```
    /// use std::time::Duration;
    /// use liveprops::{Source, sources::Memory};
    ///
    /// let source = Memory::new().with(|policy| policy.optional().max_stale(Duration::from_secs(60)));
    /// assert_eq!(source.policy(), Memory::new().policy().optional().max_stale(Duration::from_secs(60)));
    /// ```
    fn with(self, edit: impl FnOnce(Policy) -> Policy) -> WithPolicy<Self>
    where
        Self: Sized,
    {
        WithPolicy::edited(self, edit)
    }
}

/// How later changes of a source reach the engine.
///
/// ```
/// use std::time::Duration;
/// use liveprops::{Source, Watching, sources::{Args, Memory}};
///
/// assert_eq!(Args::from(["--qps=5"]).watching(), Watching::Never);
/// assert_eq!(Memory::new().watching(), Watching::Push);
/// let twice_a_second = Watching::Poll(Duration::from_millis(500)); // of a source of one's own
/// # let _ = twice_a_second;
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Watching {
    /// Not at all: the loaded values stay.
    Never,
    /// The engine loads again after each pause.
    Poll(Duration),
    /// [`Source::watch`] runs on the source's thread and returns when [`SourceContext::is_stopped`].
    Stream,
    /// [`Source::watch`] only keeps a clone of the [`SourceContext`] and returns at once; the program
    /// pushes changes from its own threads. The builder calls it instead of [`Source::load`], and it must
    /// send [`Update::full`] itself. If it returns an error, the start fails, unless the source is optional
    /// or the cache has its values: then the engine calls it again after a pause. Until the first push,
    /// values from the cache are in force.
    Push,
}

/// How much of an update is rejected when one value is not acceptable.
///
/// ```
/// use liveprops::{RejectionScope, Source, sources::Memory};
///
/// assert_eq!(Memory::new().rejection_scope(), RejectionScope::PerKey);
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum RejectionScope {
    /// All of it, for values that belong together, as those of a file.
    Whole,
    /// The key alone, for independent values, as those of a key-value store.
    ///
    /// A live struct rejects the changed keys that its error names, and accepts its others. With more than
    /// four bad keys, it rejects all changed keys in their tables. A validator names none, so it rejects all
    /// changed keys below its property. Of keys that are rejected together, up to 32 are reported each, and
    /// the last report counts the others.
    PerKey,
}
