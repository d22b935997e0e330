//! The health of the sources for operators: which source is fresh, which is stale since when, what was
//! rejected and why.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::error::Error;
use crate::tree::layer::{Layer, SourceId};
use crate::value::key::Key;
use crate::value::origin::Origin;

mod damper;
mod event_state;
mod events;
mod hints;
mod notes;
mod record;
pub(crate) mod registry;
mod report;
mod state;

/// How a source, or the whole, is doing.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Status {
    /// It has not answered yet.
    Starting,
    /// Its last contact succeeded, and everything that it sent is in force.
    Up,
    /// Its values are in force, and it has not answered, or was rejected, since then.
    Stale {
        /// When the trouble began.
        since: SystemTime,
        /// What went wrong last.
        reason: Error,
    },
    /// No values of it have ever been in force.
    Down {
        /// What went wrong last.
        reason: Error,
    },
}

/// The health of one source.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SourceHealth {
    /// Which source.
    pub source: SourceId,
    /// Its name, such as `file app.toml`.
    pub name: Arc<str>,
    /// Where it reads from, if its name does not show that: the server that answered last, and how
    /// its address was found.
    pub location: Option<Arc<str>>,
    /// The layer it fills.
    pub layer: Layer,
    /// How it is doing.
    pub status: Status,
    /// When it last answered.
    pub last_success: Option<SystemTime>,
    /// How long ago that was, whatever the wall clock did since.
    pub age: Option<Duration>,
    /// How old its values may grow before the whole counts as degraded.
    pub max_stale: Duration,
    /// Whether the program cannot start without it.
    pub required: bool,
    /// The store's revision of what is in force, if it names one.
    pub revision: Option<Arc<str>>,
    /// The generation of its newest change; 0 before the first.
    pub generation: u64,
    /// How late its newest change may have been: the time since it was last known to be unchanged
    /// if it is polled, and the time from its arrival until it was visible if it is watched; `None` if
    /// the source pushes.
    pub lag: Option<Duration>,
    /// When all its values were last confirmed, if some of them come from the
    /// [cache](crate::source::Cached) on disk: the source has not answered since the start, or its answer
    /// lacked a part or had a rejected key, whose cached values stay.
    pub cached: Option<SystemTime>,
    /// An update that is withheld because it would remove most keys, or because it still lacks some of the
    /// keys that such an update lacked; they stay until it is confirmed. See
    /// [`Properties::confirm`](crate::Properties::confirm).
    pub withheld: Option<WithheldRemoval>,
    /// How many of its updates brought a change.
    pub commits: u64,
    /// How many of its updates, or single keys, were rejected; a document that cannot be parsed is one
    /// of them. A rejection that repeats for the same reason counts once.
    pub rejections: u64,
    /// The parts of its last document that were rejected, with the reasons, and the items of lists that
    /// are ignored because their lists do not reach up to them. While there is one, the status is not
    /// [`Up`](Status::Up).
    pub problems: Vec<Error>,
    /// What was read as documented and probably is a mistake: a variable that sets `ratelimit_qps`
    /// while `ratelimit.qps` is declared or has a handle and is missing, or that overrides no
    /// `rate-limit.qps` of a weaker layer; an argument whose value follows after a space; a reference such as
    /// `${env:HOME}`; a prefix of a store without keys. Hints change no status and cause no event. While
    /// the values are those of the [cache](crate::source::Cached), a hint names a secret that is missing for
    /// that. Of a source of variables or arguments, 1,000 keys are compared; of handles and the fields of the structs that they
    /// read, 1,000 keys if there is such a source, and else the first 256 that were missing.
    pub hints: Vec<Error>,
    /// Why it does not work as it should although its changes arrive, as long as that is so: it
    /// polls, for example, because there are no file events, or its values cannot be kept on disk.
    /// The status does not change for it.
    pub degraded: Option<Error>,
    /// The keys that the [cache](crate::source::Cached) leaves out because their names or the forms of
    /// their values look secret, or because they may hold a secret that was read from what serde had
    /// buffered, the first 100. The status does not change for it: it is a hint.
    /// [`Builder::not_secret`](crate::Builder::not_secret) puts back what is no secret,
    /// [`Builder::secret`](crate::Builder::secret) confirms what is one.
    pub guessed_secrets: Vec<Key>,
}

/// An update that is withheld because it would remove most keys of its source, or some of those that were
/// withheld before and have not returned.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct WithheldRemoval {
    /// How many keys the update would remove, with those that were removed within 10 seconds before; see
    /// [`RemovalGuard`](crate::source::RemovalGuard).
    pub removed: usize,
    /// How many keys there are, or were before the first of these was removed.
    pub total: usize,
    /// Since when the update has been withheld.
    pub since: SystemTime,
}

/// Something that was rejected: an update, a document that cannot be parsed, a part of a document, a
/// key, or a clash of keys.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Rejected {
    /// The source that sent it; `None` for what concerns several.
    pub source: Option<SourceId>,
    /// The reason, with the key and where it was written.
    pub error: Error,
    /// When it was rejected last.
    pub time: SystemTime,
    /// How many times it was rejected for the same reason.
    pub count: u64,
    /// The generation that stayed in force.
    pub generation: u64,
    /// Whether this is a clash of layers: nothing was rejected, and the value of the stronger layer is in
    /// force.
    pub is_clash: bool,
}

/// A key that keeps the value it had at the start while its layers have another; secrets are masked.
///
/// A restart brings the value that the layers have by then. What the program set is not among them,
/// and a roll-back stays in force until it is unpinned.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct PendingRestart {
    /// The key.
    pub key: Key,
    /// The value in force, as it would be written; `None` if the key is absent.
    pub running: Option<String>,
    /// The value that waits; `None` if the key would be absent.
    pub waiting: Option<String>,
    /// Where that is written.
    pub origin: Option<Origin>,
}

/// A live handle, or a bound struct, that keeps its last good value because the new one has an
/// unresolved reference; secrets are masked.
///
/// The update that led to this is in force. The handle follows again as soon as the reference
/// resolves.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StaleProperty {
    /// The key of the handle; of a bound struct, the key of its table.
    pub key: Key,
    /// Since when it has kept its value.
    pub since: SystemTime,
    /// Why: each key with an unresolved reference, with its origin.
    pub reason: Error,
}

/// The health of all sources at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Health {
    /// The generation in force.
    pub generation: u64,
    /// Each source, the strongest first.
    pub sources: Vec<SourceHealth>,
    /// How the whole is doing: [`Status::Down`] if a required source has never given values,
    /// [`Status::Stale`] if values are older than the policy of their source allows, something of a
    /// source is rejected or withheld, an optional source is missing, a live handle keeps its last good
    /// value because a reference is unresolved, or callbacks wait because no thread can be started for
    /// them, [`Status::Starting`] while a source has not answered yet.
    pub status: Status,
    /// The newest rejections and clashes, the oldest first, at most 64.
    ///
    /// A clash is a key that is a value in one layer and a table in another. It is listed although the
    /// value of the stronger layer is in force: the value of the weaker layer is not. It counts once for
    /// each generation.
    pub rejected: Vec<Rejected>,
    /// The keys whose new values wait for a restart.
    pub pending_restart: Vec<PendingRestart>,
    /// The live handles that keep their last good value because a reference is unresolved, in the order
    /// of their keys.
    pub stale_properties: Vec<StaleProperty>,
    /// The keys of the tree in force whose references are broken, whether a handle reads them or not,
    /// each with its origin and the reason. The status does not change for them.
    pub broken_references: Vec<Error>,
    /// How many callbacks have panicked.
    pub callback_panics: u64,
}

impl Health {
    /// Whether every source answered at its last contact, or not longer ago than its policy allows,
    /// nothing of its last update is rejected or withheld, every live handle has the value of its keys,
    /// and no callback waits because no thread can be started for it.
    pub fn is_up(&self) -> bool {
        matches!(self.status, Status::Up)
    }
}

/// How the callbacks are doing.
pub(crate) struct CallbackHealth {
    /// How many have panicked.
    pub(crate) panics: u64,
    /// Since when some wait because no thread can be started for them, and why it cannot.
    pub(crate) starved: Option<(SystemTime, Error)>,
}

/// Something that happened to a source.
///
/// Events are damped; [`health`](crate::Properties::health) and
/// [`status`](crate::Properties::status) are exact at any time. An event is suppressed and counted if two
/// of the same source, kind and cause were reported in the last minute. A cause is the message without
/// its numbers; for a rejection, the key and the origin are part of it, without line and column. A state
/// that lasts for five seconds is reported all the same, unless the newest reported events have
/// announced it. So the events show each state that lasts, and a source that alternates ten times a
/// second causes two events a minute for each kind and cause. After 1,024 kinds and causes within a minute,
/// the others count as one cause for each kind. Of those, only the newest state is reported if it lasts.
/// [`Initialized`](SourceEventKind::Initialized), [`Updated`](SourceEventKind::Updated),
/// [`Removed`](SourceEventKind::Removed) and events of the whole are never suppressed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SourceEvent {
    /// Which source; `None` for what concerns the whole.
    pub source: Option<SourceId>,
    /// Its name, such as `file app.toml`.
    pub name: Arc<str>,
    /// What happened.
    pub kind: SourceEventKind,
    /// How many events of the same kind and cause were suppressed since the last one was reported.
    pub repeated: u64,
    /// The generation in force then.
    pub generation: u64,
}

/// What happened to a source.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum SourceEventKind {
    /// Its first values are in force.
    Initialized,
    /// It brought a change.
    Updated,
    /// An update, a part of a document, or one key was rejected; the last good values stay. Reported
    /// once, however often the source repeats it.
    Rejected(Error),
    /// All that it reports is in force again, after a rejection.
    Recovered,
    /// It does not answer any more; its values stay. Reported again when it fails for another reason,
    /// not when only a number in the message differs.
    Suspended(Error),
    /// Its values are now older than its policy allows; they stay.
    Stale(Error),
    /// It answers again, after a failure.
    Reconnected,
    /// It does not work as it should, and its changes arrive all the same; for as long as that is
    /// so, see [`SourceHealth::degraded`].
    Degraded(Error),
    /// It was removed with its layer.
    Removed,
    /// The value of a key has changed that keeps the one it had at the start: only a restart brings
    /// it. Reported once for each new value.
    RestartRequired(PendingRestart),
    /// A callback panicked. Its message shows no secret of the generation in force. A secret that an
    /// update has replaced is not known any more.
    CallbackPanicked(Error),
    /// A reading with a default met a malformed value.
    Malformed(Error),
    /// A live handle keeps its last good value, since a reference is unresolved. Reported again when
    /// the reason is another one.
    PropertyStale(StaleProperty),
    /// The live handle on this key follows again.
    PropertyRecovered(Key),
}
