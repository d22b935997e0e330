//! The contract between a place that values come from and the engine: [`Source`], [`Update`] and
//! [`SourceContext`], and the [`conformance`] suite that holds a source against it.

use std::any::{Any, TypeId};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Error;
use crate::value::Value;
use crate::value::document::Document;
use crate::value::key::Key;
use crate::value::origin::Origin;

pub mod conformance;
mod forward;
mod masked;
mod policy;
mod scope;
mod timing;

pub use policy::{Cached, Policy, RemovalGuard, WithPolicy};
pub use scope::Scope;
pub use timing::{DEFAULT_TIMEOUT, MAX_RETRY_AFTER, Timing};

pub use crate::value::secret::Credentials;

pub(crate) use masked::Masked;
pub(crate) use policy::{References, Start};
pub(crate) use scope::is_name;

/// The pause between two loads of a source that is polled, unless it says otherwise.
pub const DEFAULT_POLL: Duration = Duration::from_secs(5);

/// A place that values come from.
///
/// A source has two duties: say everything there is now ([`load`](Source::load)), and bring what
/// comes later ([`watch`](Source::watch), or being polled). Both may block: each source has a
/// thread of its own. Back-off after a failure, deadlines, health and restart are the engine's
/// work, so a source simply returns its error; where it knows when to come back it says so by
/// [`Error::with_retry_after`]. Nothing a source does or fails to do takes a good
/// value away. A call that hangs is left to itself, and the source is asked again on another thread,
/// so calls of a source that hangs may overlap.
///
/// What a source says of itself ([`origin`](Source::origin), [`watching`](Source::watching),
/// [`timing`](Source::timing), [`refusal`](Source::refusal), [`policy`](Source::policy)) is asked
/// once, when it is added.
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
    /// What and where this source is, such as `file app.toml`. It names the layer in messages.
    fn origin(&self) -> Origin;

    /// Says everything there is now.
    ///
    /// # Errors
    ///
    /// Whatever kept the source from answering. The values it gave before stay in force.
    fn load(&self) -> Result<Document, Error>;

    /// Says what there is now, or what has changed since the update of the revision `committed` was
    /// committed. The engine calls it in place of [`load`](Source::load) for each poll after the
    /// first load; the default loads.
    ///
    /// `committed` is the revision of the newest update that is in force as a whole. An update that
    /// was refused, or a part of it, does not move it: what it brought is asked for again.
    ///
    /// # Errors
    ///
    /// As [`load`](Source::load).
    fn poll(&self, committed: Option<&str>) -> Result<Update, Error> {
        let _ = committed;
        self.load().map(Update::full)
    }

    /// How later changes reach the engine. The default is to load again every [`DEFAULT_POLL`].
    fn watching(&self) -> Watching {
        Watching::Poll(DEFAULT_POLL)
    }

    /// Brings later changes: called when [`watching`](Source::watching) says
    /// [`Stream`](Watching::Stream) or [`Push`](Watching::Push).
    ///
    /// There must be no gap between the last load and the watch: begin to listen, then send
    /// everything once more as [`Update::full`].
    ///
    /// # Errors
    ///
    /// Whatever ended the watch early. The engine calls again after a pause.
    fn watch(&self, updates: &SourceContext) -> Result<(), Error> {
        let _ = updates;
        Ok(())
    }

    /// How far a refusal reaches when a value is not acceptable.
    fn refusal(&self) -> Refusal {
        Refusal::Whole
    }

    /// How long the parts of the source's work may take.
    fn timing(&self) -> Timing {
        Timing::new()
    }

    /// What the program wants of the source unless it says otherwise by [`with`](Source::with).
    fn policy(&self) -> Policy {
        Policy::new()
    }

    /// The credentials that the source sends, asked once, when it is added; none by default.
    ///
    /// The engine masks them in all that the source reports. The source may add more to the same
    /// [`Credentials`] later, such as those that it reads from a file.
    fn credentials(&self) -> Credentials {
        Credentials::new()
    }

    /// This source with another policy: `edit` gets the one it has.
    fn with(self, edit: impl FnOnce(Policy) -> Policy) -> WithPolicy<Self>
    where
        Self: Sized,
    {
        WithPolicy::edited(self, edit)
    }
}

/// How later changes of a source reach the engine.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Watching {
    /// Not at all: what was loaded stays.
    Never,
    /// The engine loads again after each pause.
    Poll(Duration),
    /// [`Source::watch`] runs on the source's thread and returns when [`SourceContext::is_stopped`].
    Stream,
    /// [`Source::watch`] only keeps a clone of the [`SourceContext`] and returns at once; the program
    /// pushes changes from threads of its own. It is called before the builder returns, in place
    /// of [`Source::load`], and must send [`Update::full`] itself. If it returns an error, the start
    /// fails, unless the source is optional or the cache holds values of it: then the engine calls it
    /// again after a pause. Until the first push, values from the cache are in force.
    Push,
}

/// How far a refusal reaches when one value of an update is not acceptable.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Refusal {
    /// The update belongs together, as a file does: refuse all of it.
    Whole,
    /// Each key stands for itself, as in a key-value store: refuse that key.
    ///
    /// A live struct refuses the changed keys that its error names, and accepts its others; of more than
    /// four bad keys, it refuses all that changed in their tables. A validator
    /// names none, so it refuses all changed keys below its property. Of keys that are refused together, up
    /// to 32 are reported each, and the last report counts the others.
    PerKey,
}

/// What a source hands over. Its `Debug` shows keys, never values: one may be a secret.
#[derive(Clone)]
pub struct Update {
    pub(crate) content: Content,
    pub(crate) revision: Option<Arc<str>>,
    /// Whether the source takes it back if it is refused.
    pub(crate) undone: bool,
}

impl fmt::Debug for Update {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.content {
            Content::Full(document) => f.debug_tuple("Full").field(document).finish(),
            Content::Delta(edits) => {
                let keys: Vec<&Key> = edits.iter().map(|edit| &edit.key).collect();
                f.debug_tuple("Delta").field(&keys).finish()
            }
        }
    }
}

#[derive(Clone)]
pub(crate) enum Content {
    Full(Document),
    Delta(Vec<Edit>),
}

/// One change of one key.
#[derive(Clone)]
pub(crate) struct Edit {
    pub(crate) key: Key,
    /// `None` takes the key and all below it out of the layer.
    pub(crate) value: Option<(Value, Origin)>,
}

impl Update {
    /// Has all values contain no references: `${` in them is text.
    pub(crate) fn escape_references(&mut self) {
        match &mut self.content {
            Content::Full(document) => document.escape_references(),
            Content::Delta(edits) => {
                let values = edits.iter_mut().filter_map(|edit| edit.value.as_mut());
                for (value, _) in values {
                    *value = std::mem::replace(value, Value::Unset).escaped();
                }
            }
        }
    }

    /// Everything there is: what is missing from it is gone.
    pub fn full(document: Document) -> Self {
        let revision = document.revision.clone();
        Self {
            content: Content::Full(document),
            revision,
            undone: false,
        }
    }

    /// A list of changes, applied in the order they are added, as one.
    pub fn delta() -> Self {
        Self {
            content: Content::Delta(Vec::new()),
            revision: None,
            undone: false,
        }
    }

    /// Names the store's revision that this update leads to; see [`Source::poll`]. The revision of
    /// a full update is its document's unless it is named here.
    #[must_use]
    pub fn at_revision(mut self, revision: impl Into<Arc<str>>) -> Self {
        self.revision = Some(revision.into());
        self
    }

    /// The store's revision that this update leads to, if the source names one.
    pub fn revision(&self) -> Option<&str> {
        self.revision.as_deref()
    }

    /// The change of one key: its new value, or none.
    pub(crate) fn edit(key: Key, value: Option<(Value, Origin)>) -> Self {
        Self {
            content: Content::Delta(vec![Edit { key, value }]),
            revision: None,
            undone: false,
        }
    }

    /// Says that the source takes the update back if it is refused: nothing of it is held then.
    pub(crate) fn undone_if_refused(mut self) -> Self {
        self.undone = true;
        self
    }

    /// Adds setting a key. [`Value::Unset`] sets a tombstone, which hides the key in lower layers.
    /// On a full update it sets the key of the document.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidKey`](crate::ErrorKind::InvalidKey) or
    /// [`ErrorKind::TooLarge`](crate::ErrorKind::TooLarge) if the key is not valid.
    pub fn set(
        mut self,
        key: &str,
        value: impl Into<Value>,
        origin: Origin,
    ) -> Result<Self, Error> {
        match &mut self.content {
            Content::Full(document) => document.set(key, value, origin)?,
            Content::Delta(edits) => edits.push(Edit {
                key: Key::parse(key)?,
                value: Some((value.into(), origin)),
            }),
        }
        Ok(self)
    }

    /// Adds the removal of a key and all below it, so that lower layers show.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    pub fn remove(mut self, key: &str) -> Result<Self, Error> {
        match &mut self.content {
            Content::Full(document) => drop(document.remove(key)),
            Content::Delta(edits) => edits.push(Edit {
                key: Key::parse(key)?,
                value: None,
            }),
        }
        Ok(self)
    }
}

/// What became of an update.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CommitOutcome {
    /// The generation that holds the update; the one before if nothing changed.
    pub generation: u64,
    /// How many keys of the merged tree changed.
    pub changed: usize,
    /// Keys that were refused, with the reason; the old values stay.
    pub refused: Vec<Error>,
    /// The keys of the source's own layer that were left as they were because of that.
    pub kept: Vec<Key>,
}

/// The way from a source to the engine. Cloning is cheap.
#[derive(Clone)]
pub struct SourceContext(Arc<dyn Sink>);

/// What the engine, or a test, does with what a source says.
pub(crate) trait Sink: Send + Sync {
    fn queue(&self, update: Update) -> Box<dyn Ticket>;
    fn report_error(&self, error: Error);
    fn heartbeat(&self);
    fn set_degraded(&self, reason: Option<Error>);
    fn set_location(&self, place: Arc<str>);
    fn is_stopped(&self) -> bool;
    fn wait(&self, pause: Duration) -> bool;
    fn on_stop(&self, hook: Box<dyn Fn() + Send + Sync>);
    fn shared(&self, kind: TypeId, make: Make<'_>) -> Arc<dyn Any + Send + Sync>;
}

/// Makes a value that several sources share.
pub(crate) type Make<'a> = Box<dyn FnOnce() -> Arc<dyn Any + Send + Sync> + 'a>;

/// An update that has its place in the order of commits.
pub(crate) trait Ticket: Send {
    fn commit(self: Box<Self>) -> Result<CommitOutcome, Error>;
}

impl SourceContext {
    pub(crate) fn new(sink: Arc<dyn Sink>) -> Self {
        Self(sink)
    }

    /// Commits an update: when this returns, every thread reads it.
    ///
    /// # Errors
    ///
    /// The reason if the update was refused as a whole;
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed) if the properties are gone.
    pub fn send(&self, update: Update) -> Result<CommitOutcome, Error> {
        self.queue(update).commit()
    }

    /// Gives an update its place in the order of commits without committing it.
    ///
    /// For a source whose own lock keeps its updates in order: queue under that lock, commit after
    /// releasing it, so that callbacks may call the source again. What is queued is committed by
    /// the next commit of any source, or at the latest by [`Queued::commit`].
    pub fn queue(&self, update: Update) -> Queued {
        Queued(self.0.queue(update))
    }

    /// Reports a failure while the source goes on watching. Values stay as they are; the source's
    /// health shows the reason until the next update or [`heartbeat`](Self::heartbeat).
    pub fn report_error(&self, error: Error) {
        self.0.report_error(error);
    }

    /// Reports that the source answered and nothing changed since it last said something. What of
    /// that was refused, or is held, it still says.
    pub fn heartbeat(&self) {
        self.0.heartbeat();
    }

    /// Reports what keeps the source from working as it should although it brings its changes, such
    /// as polling where there are no events; `None` takes that back. It changes no status and shows
    /// in the source's health until it is replaced or taken back, whatever the source says besides.
    /// Saying the same again costs nothing.
    pub fn set_degraded(&self, reason: Option<Error>) {
        self.0.set_degraded(reason);
    }

    /// Tells where the source reads from since now, such as the one of its servers that answered and
    /// how that was found. It shows in the source's health and in explanations until another is told;
    /// it must not hold a password.
    pub fn set_location(&self, place: impl Into<Arc<str>>) {
        self.0.set_location(place.into());
    }

    /// Whether the engine wants [`Source::watch`] to return.
    pub fn is_stopped(&self) -> bool {
        self.0.is_stopped()
    }

    /// Waits, at most `pause`, for the engine to want [`Source::watch`] to return; says whether it
    /// does.
    pub fn wait(&self, pause: Duration) -> bool {
        self.0.wait(pause)
    }

    /// Has `hook` called once when the engine wants [`Source::watch`] to return, to wake it from
    /// whatever it waits for. Called on a thread of the engine's, or at once if that is so already.
    pub fn on_stop(&self, hook: impl Fn() + Send + Sync + 'static) {
        self.0.on_stop(Box::new(hook));
    }

    /// The one `T` that all sources of these properties share, such as a file watcher or a client
    /// library's runtime; made at the first call, dropped with the last user.
    ///
    /// `make` may share values of other types. If it asks for its own type, it gets one that is not
    /// shared. Inside a validator the call waits for no other maker, and may make one that is not
    /// shared.
    pub fn shared<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Arc<T> {
        let any = self
            .0
            .shared(TypeId::of::<T>(), Box::new(|| Arc::new(make())));
        match any.downcast() {
            Ok(shared) => shared,
            Err(_) => unreachable!("what is kept under the id of a type is of that type"),
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

/// An update that has its place in the order of commits; see [`SourceContext::queue`].
#[must_use = "commit it, or nobody tells the caller what became of it"]
pub struct Queued(Box<dyn Ticket>);

impl Queued {
    /// Commits the update, with all that was queued before it, unless that has happened already.
    ///
    /// # Errors
    ///
    /// As [`SourceContext::send`].
    pub fn commit(self) -> Result<CommitOutcome, Error> {
        self.0.commit()
    }
}

impl fmt::Debug for Queued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Queued")
    }
}
