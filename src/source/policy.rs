//! The policy of a source: whether the program can start without it, how old its values may become, and
//! which removals are withheld.

use std::time::Duration;

use crate::error::Error;
use crate::source::forward::forward;
use crate::source::{Credentials, RejectionScope, Source, SourceContext, Timing, Update, Watching};
use crate::value::document::Document;
use crate::value::origin::Origin;

/// How the program uses one source: whether the start needs it, whether it is cached, and which of its
/// removals are withheld.
///
/// The program sets it by [`Source::with`]; a source may have its own default ([`Source::policy`]).
///
/// ```
/// use std::time::Duration;
/// use liveprops::{Properties, Source, sources::Memory};
///
/// let props = Properties::builder()
///     .source(
///         Memory::from([("qps", 100)])
///             .with(|policy| policy.optional().max_stale(Duration::from_secs(60))),
///     )
///     .build()?;
/// assert!(props.health().is_up());
/// # Ok::<(), liveprops::Error>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
#[must_use]
pub struct Policy {
    pub(crate) start: Start,
    pub(crate) cache: Option<Cached>,
    pub(crate) guard: Option<RemovalGuard>,
    pub(crate) max_stale: Duration,
    pub(crate) manual: bool,
    pub(crate) references: References,
}

/// The meaning of `${` in the values of a source.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum References {
    /// A reference to another key begins.
    Followed,
    /// Text, as any other.
    Literal,
}

/// What the start of the program does about a source without a response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Start {
    /// Fails, after this time or that of the builder.
    Required(Option<Duration>),
    /// Goes on without it after this time.
    Optional(Duration),
    /// Waits for it, however long.
    Waits,
}

/// The default time that a start waits for an optional source.
const OPTIONAL_WAIT: Duration = Duration::from_secs(1);

impl Policy {
    /// A source that is required, not cached and not guarded.
    pub fn new() -> Self {
        Self {
            start: Start::Required(None),
            cache: None,
            guard: None,
            max_stale: Duration::ZERO,
            manual: false,
            references: References::Followed,
        }
    }

    /// Lets the start fail if the source returns an error, or no values within
    /// [`Builder::load_timeout`](crate::Builder::load_timeout), and is not in the cache. The source is
    /// loaded once: [`required_within`](Self::required_within) retries. This is the default.
    pub fn required(mut self) -> Self {
        self.start = Start::Required(None);
        self
    }

    /// Lets the start fail if the source returns no values within `time`, and is not in the cache. The
    /// engine retries after each failure.
    pub fn required_within(mut self, time: Duration) -> Self {
        self.start = Start::Required(Some(time));
        self
    }

    /// Lets the start go on without the source if it returns no values within a second. The engine retries
    /// until it does.
    pub fn optional(self) -> Self {
        self.optional_after(OPTIONAL_WAIT)
    }

    /// Lets the start go on without the source if it returns no values within `time`. The engine retries
    /// until it does.
    pub fn optional_after(mut self, time: Duration) -> Self {
        self.start = Start::Optional(time);
        self
    }

    /// Lets the start wait for the source, or its cache, without a limit.
    pub fn wait_forever(mut self) -> Self {
        self.start = Start::Waits;
        self
    }

    /// Caches the newest accepted values in the directory of
    /// [`Builder::state_dir`](crate::Builder::state_dir), and starts from there if the source does not
    /// respond. They count as stale until it does. A part that the source reports as unreadable by
    /// [`Document::report_unreadable`](crate::Document::report_unreadable) keeps its values in the cache.
    ///
    /// The cache belongs to one meaning of `${`: after a change between
    /// [`with_references`](Self::with_references) and [`without_references`](Self::without_references), a
    /// cache that holds `${` is reported and not used.
    pub fn cached(self) -> Self {
        self.cached_as(Cached::new())
    }

    /// Caches the newest accepted values as [`cached`](Self::cached) does, with limits.
    pub fn cached_as(mut self, cached: Cached) -> Self {
        self.cache = Some(cached);
        self
    }

    /// Withholds an update that would remove most keys of the source, until it is confirmed.
    ///
    /// With [`cached`](Self::cached), the first load of a start is compared with the cache.
    /// [`Memory`](crate::sources::Memory) undoes a rejected update itself, so there is nothing to confirm.
    pub fn guarded(mut self, guard: RemovalGuard) -> Self {
        self.guard = Some(guard);
        self
    }

    /// Accepts every removal of the source.
    pub fn unguarded(mut self) -> Self {
        self.guard = None;
        self
    }

    /// Sets how old the values of a source without a response may become before the properties count as
    /// degraded. The default is 0: immediately.
    pub fn max_stale(mut self, age: Duration) -> Self {
        self.max_stale = age;
        self
    }

    /// Treats `${` in the values of the source as text.
    ///
    /// This is the default of sources with single raw values, such as [`Env`](crate::sources::Env) and
    /// [`Args`](crate::sources::Args), because a password may contain any characters. In the values of other
    /// sources `${key}` is a reference, and `$${` a literal `${`.
    ///
    /// ```
    /// use liveprops::{Properties, Source, sources::Memory};
    ///
    /// let memory = Memory::from([("template", "Dear ${name}")]);
    /// let source = memory.with(|policy| policy.without_references());
    /// let props = Properties::builder().source(source).build()?;
    /// assert_eq!(props.get::<String>("template")?, "Dear ${name}");
    /// # Ok::<(), liveprops::Error>(())
    /// ```
    pub fn without_references(mut self) -> Self {
        self.references = References::Literal;
        self
    }

    /// Treats `${key}` in the values of the source as a reference to another key. This is the default of
    /// sources with documents.
    pub fn with_references(mut self) -> Self {
        self.references = References::Followed;
        self
    }

    /// Loads a polled source only for [`Properties::refresh_now`](crate::Properties::refresh_now), also after
    /// a failure. Until its first response it is polled as any other. It is for tests, and for programs that
    /// decide themselves when to load.
    pub fn manual(mut self) -> Self {
        self.manual = true;
        self
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::new()
    }
}

/// How the newest values of a source are cached on disk.
///
/// ```
/// use std::time::Duration;
/// use liveprops::{Source, source::Cached, sources::Memory};
///
/// let day = Duration::from_secs(24 * 60 * 60);
/// let source = Memory::new().with(|policy| policy.cached_as(Cached::new().max_age(day)));
/// ```
///
/// Secrets are left out, in one of four ways in which a value counts as one:
///
/// - The name of its key looks like it: `db.password`, `api.key`, `dbPass`.
/// - Its text has a known form: an address with a user or a secret parameter, a connection string
///   (`host=h password=pw`, `user:pw@tcp(h)/d`), a header, a private key, a token of a known service.
/// - The program named the key by [`Builder::secret`](crate::Builder::secret) or declared it as secret in
///   the [`Schema`](crate::Schema).
/// - The program read the key as a [`Secret`](crate::Secret), by whatever call. Its value is on disk
///   until then, in the first run of all, and is taken off as soon as the key is read. A key to which
///   such a value refers as a whole counts as read. A key to which it refers in a part of a text does
///   not: declare that key itself.
///
/// Names and forms are a guess. It cannot know a plain password below a plain name (`db.value =
/// "hunter2"`), a secret within a longer text of no known form, a secret of a service whose tokens have
/// no form of their own, nor one that is encoded. Names that mostly hold something else are no sign either:
/// `ssl_key` and `tls_key` are paths, `kms_key` is an id, `session` and `seed` are settings. A private key
/// below such a name is known by its form. Declare the keys that hold those, or read them into a
/// `Secret` in the declared type. A wrong guess leaves a key out that is no secret:
/// [`SourceHealth::guessed_secrets`](crate::health::SourceHealth::guessed_secrets) lists the keys that
/// are left out by a guess, and [`Builder::not_secret`](crate::Builder::not_secret) puts one back.
///
/// Four more things are good to know:
///
/// - A list is one value: a list with a secret in one of its items is left out as a whole. So is a text
///   that spells a struct with a secret field.
/// - Where serde buffers (`#[serde(flatten)]`, internally tagged and untagged types), a secret is found
///   by its value. A buffered value of the same struct that equals the secret is left out too; it is one
///   of the `guessed_secrets`.
/// - The secrets of a flattened `Option` of a struct are not known while serde makes it `None`, which it
///   does without an error if any of its fields is missing or wrong. Name their keys.
/// - A secret field that is absent in a struct that serde buffers is not known before it is read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub struct Cached {
    pub(crate) max_age: Option<Duration>,
    pub(crate) secrets: bool,
}

impl Cached {
    /// A cache of any age, without secrets.
    pub fn new() -> Self {
        Self {
            max_age: None,
            secrets: false,
        }
    }

    /// Rejects cached values that were confirmed longer ago than this.
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    /// Writes secrets as well, readable by the user of the process and in clear. Without this, keys
    /// that are masked elsewhere are missing after a start from the cache. The same holds for a part of a
    /// source whose last values stay from the cache, such as a file that is emptied or malformed. Reading
    /// such a key is an error that gives this as the reason, and so do
    /// [`explain`](crate::Properties::explain) and the [hints](crate::health::SourceHealth::hints) of the
    /// source until it answers in full.
    pub fn with_secrets(mut self) -> Self {
        self.secrets = true;
        self
    }
}

impl Default for Cached {
    fn default() -> Self {
        Self::new()
    }
}

/// Withholds an update that would remove most keys of a source.
///
/// An expired bucket, a wiped prefix, an unmounted directory and a page that is not the configuration all
/// look like a mass removal.
///
/// ```
/// use liveprops::{ErrorKind, Source, Properties, source::RemovalGuard, sources::Memory};
///
/// let memory = Memory::from([("a", 1), ("b", 2)]);
/// let guarded = memory.clone().with(|policy| policy.guarded(RemovalGuard::all()));
/// let props = Properties::builder().source(guarded).build()?;
/// let error = memory.replace([("c", 3)]).unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Withheld);
/// assert_eq!(props.get::<u32>("a")?, 1);
/// # Ok::<(), liveprops::Error>(())
/// ```
///
/// Removals within 10 seconds count together, since a prefix may be wiped key by key. The guard
/// compares an update with the present keys, and with the keys at the beginning of the 10 seconds.
/// For example, of 10 keys an update may remove 5. A second update within the same 10 seconds may
/// remove none of the other 5: that would be 6 of 10. The 10 seconds begin with the first update
/// after the last ones are over. They begin again when the update is confirmed or the keys return.
///
/// A store may be restored key by key. So while an update is withheld from a source that accepts values
/// [per key](crate::source::RejectionScope::PerKey), as the stores do, or that sends single keys, no key
/// goes, not even one of few: each key stays until the source has all withheld keys again, or until the
/// program confirms the removal, or until the source has repeated it for
/// [`accept_after`](Self::accept_after). A key that is created in the meantime is not one of the withheld
/// keys. A key that returns with another value has that value
///
/// - at once, if the source sends single keys,
/// - else once the update lacks no more keys than the guard allows.
///
/// A [document](crate::source::RejectionScope::Whole) is replaced at once. So one that lacks no more keys
/// than the guard allows is accepted as a whole, also after one that was withheld.
///
/// What is withheld is not kept across a restart. The first answer after it is compared with the values of
/// the [cache](Cached).
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use]
pub struct RemovalGuard {
    pub(crate) share: f64,
    pub(crate) at_least: usize,
    pub(crate) repeated: Option<Duration>,
}

impl Eq for RemovalGuard {}

impl RemovalGuard {
    /// Withholds an update that removes all keys, or more than half of at least 8.
    pub fn new() -> Self {
        Self {
            share: 0.5,
            at_least: 8,
            repeated: None,
        }
    }

    /// Withholds an update that removes all keys, and no other.
    pub fn all() -> Self {
        Self::new().max_removed_ratio(1.0)
    }

    /// Withholds an update that removes more than this ratio of the keys, from 0 to 1. The default is 0.5.
    pub fn max_removed_ratio(mut self, ratio: f64) -> Self {
        self.share = ratio;
        self
    }

    /// Of fewer keys than this, withholds only an update that removes all. The default is 8.
    pub fn min_keys(mut self, keys: usize) -> Self {
        self.at_least = keys;
        self
    }

    /// Accepts the update once the source has repeated it for this long. By default it stays withheld until
    /// [`Properties::confirm`](crate::Properties::confirm), or until the keys return.
    ///
    /// A polled source has to repeat it after that time. The update of a source that watches or pushes counts
    /// as repeated until the source sends another one. A failure in between restarts the time with the next
    /// repetition. The return of a withheld key restarts it for those that are still missing.
    pub fn accept_after(mut self, time: Duration) -> Self {
        self.repeated = Some(time);
        self
    }

    /// Whether an update that removes `removed` of `total` keys is withheld.
    pub(crate) fn holds(&self, removed: usize, total: usize) -> bool {
        if removed == 0 || total == 0 {
            return false;
        }
        removed == total || (total >= self.at_least && removed as f64 > self.share * total as f64)
    }
}

impl Default for RemovalGuard {
    fn default() -> Self {
        Self::new()
    }
}

/// A source with another policy; made by [`Source::with`].
///
/// ```
/// use liveprops::{Source, source::WithPolicy, sources::Memory};
///
/// let source: WithPolicy<Memory> = Memory::new().with(|policy| policy.optional());
/// ```
#[derive(Clone, Debug)]
pub struct WithPolicy<S> {
    source: S,
    policy: Policy,
}

impl<S: Source> WithPolicy<S> {
    /// A source with what `edit` makes of its own policy.
    pub(super) fn edited(source: S, edit: impl FnOnce(Policy) -> Policy) -> Self {
        let policy = edit(source.policy());
        Self { source, policy }
    }
}

#[deny(clippy::missing_trait_methods)]
impl<S: Source> Source for WithPolicy<S> {
    forward!(self => self.source;
        origin load poll watching watch rejection_scope timing credentials with);

    fn policy(&self) -> Policy {
        self.policy.clone()
    }
}
