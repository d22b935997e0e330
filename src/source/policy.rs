//! What the program wants of one source: whether it can start without it, how long its values may
//! grow old, and what is not believed at once.

use std::time::Duration;

use crate::error::Error;
use crate::source::{Credentials, Refusal, Source, SourceContext, Timing, Update, Watching};
use crate::value::document::Document;
use crate::value::origin::Origin;

/// What the program wants of one source.
///
/// Given by [`Source::with`]; a source may bring its own by [`Source::policy`].
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

/// What `${` means in the values of a source.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum References {
    /// A reference to another key begins.
    Followed,
    /// Text, as any other.
    Literal,
}

/// What the start of the program does about a source that does not answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Start {
    /// Fails, after this or after what the builder says.
    Required(Option<Duration>),
    /// Goes on without it after this.
    Optional(Duration),
    /// Waits for it, however long.
    Waits,
}

/// How long a start waits for an optional source, unless told otherwise.
const PATIENCE: Duration = Duration::from_secs(1);

impl Policy {
    /// A source that is required, is not cached, and is believed whatever it says.
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

    /// The start fails if the source answers with an error, or not within
    /// [`Builder::load_timeout`](crate::Builder::load_timeout), and nothing of it is kept on disk. It is
    /// asked once: [`required_within`](Self::required_within) asks again. This is the default.
    pub fn required(mut self) -> Self {
        self.start = Start::Required(None);
        self
    }

    /// The start fails if the source gives no values within `time`, in which it is asked again after each
    /// failure, and nothing of it is kept on disk.
    pub fn required_within(mut self, time: Duration) -> Self {
        self.start = Start::Required(Some(time));
        self
    }

    /// The start goes on without the source if it gives no values within a second. It is asked
    /// again until it does.
    pub fn optional(self) -> Self {
        self.optional_after(PATIENCE)
    }

    /// The start goes on without the source if it gives no values within `time`. It is asked
    /// again until it does.
    pub fn optional_after(mut self, time: Duration) -> Self {
        self.start = Start::Optional(time);
        self
    }

    /// The start waits for the source, or its cache, however long that takes.
    pub fn wait_forever(mut self) -> Self {
        self.start = Start::Waits;
        self
    }

    /// Keeps the newest accepted values in the directory of
    /// [`Builder::state_dir`](crate::Builder::state_dir), and starts from there when the source does
    /// not answer. They count as stale until it does. A part that the source reports as unreadable by
    /// [`Document::report`](crate::Document::report) keeps its values in the cache.
    ///
    /// The cache belongs to one meaning of `${`: after a change between
    /// [`with_references`](Self::with_references) and [`without_references`](Self::without_references), a
    /// cache that holds `${` is reported and not used.
    pub fn cached(self) -> Self {
        self.cached_as(Cached::new())
    }

    /// As [`cached`](Self::cached), with limits.
    pub fn cached_as(mut self, cached: Cached) -> Self {
        self.cache = Some(cached);
        self
    }

    /// Holds an update that would take away most of what the source says, until it is confirmed.
    ///
    /// With [`cached`](Self::cached), that is also what the first answer of a start would take away
    /// of what was kept. A [`Memory`](crate::sources::Memory) takes back what is not believed, so
    /// there is nothing to confirm.
    pub fn guarded(mut self, guard: RemovalGuard) -> Self {
        self.guard = Some(guard);
        self
    }

    /// Believes the source whatever it takes away.
    pub fn unguarded(mut self) -> Self {
        self.guard = None;
        self
    }

    /// How old the source's values may grow while it does not answer before the whole counts as
    /// degraded. The default is 0: at once.
    pub fn max_stale(mut self, age: Duration) -> Self {
        self.max_stale = age;
        self
    }

    /// The values of the source contain no references: `${` in them is text, whether a key may be a
    /// secret or not.
    ///
    /// This is the default of sources that give single raw values, such as
    /// [`Env`](crate::sources::Env) and [`Args`](crate::sources::Args): a password may hold any
    /// characters. In the values of other sources `${key}` is a reference, and `$${` a literal `${`.
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

    /// `${key}` in the values of the source is a reference to another key. This is the default of
    /// sources that give documents.
    pub fn with_references(mut self) -> Self {
        self.references = References::Followed;
        self
    }

    /// Loads a source that is polled only when
    /// [`Properties::refresh_now`](crate::Properties::refresh_now) asks for it, also after a failure; until
    /// it has answered once, it is asked as any other. For tests, and for programs that decide
    /// themselves when to look.
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

/// How the newest values of a source are kept on disk.
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
    /// Of any age, without secrets.
    pub fn new() -> Self {
        Self {
            max_age: None,
            secrets: false,
        }
    }

    /// Refuses to start from values that were confirmed longer ago than this.
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

/// What of an update is not believed at once: that most keys are gone.
///
/// An expired bucket, a wiped prefix, an unmounted directory and a page that is not the
/// configuration look like this.
///
/// Removals within 10 seconds count together, since a prefix may be wiped key by key. The guard
/// compares an update with the present keys, and with the keys at the beginning of the 10 seconds.
/// For example, of 10 keys an update may remove 5. A second update within the same 10 seconds may
/// remove none of the other 5: that would be 6 of 10. The 10 seconds begin with the first update
/// after the last ones are over. They begin again when the update is confirmed or the keys return.
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use]
pub struct RemovalGuard {
    pub(crate) share: f64,
    pub(crate) at_least: usize,
    pub(crate) repeated: Option<Duration>,
}

impl Eq for RemovalGuard {}

impl RemovalGuard {
    /// Holds an update that takes away all keys, or more than half of at least 8.
    pub fn new() -> Self {
        Self {
            share: 0.5,
            at_least: 8,
            repeated: None,
        }
    }

    /// Holds an update that takes away all keys, and no other.
    pub fn all() -> Self {
        Self::new().max_removed_ratio(1.0)
    }

    /// Holds an update that takes away more than this share of the keys, from 0 to 1.
    pub fn max_removed_ratio(mut self, share: f64) -> Self {
        self.share = share;
        self
    }

    /// With fewer keys than this, only an update that takes away all of them is held.
    pub fn min_keys(mut self, keys: usize) -> Self {
        self.at_least = keys;
        self
    }

    /// Believes the update after all when the source has gone on saying so for this long. By
    /// default it never does: only [`Properties::confirm`](crate::Properties::confirm) and values
    /// that come back end it.
    ///
    /// A source that is polled has to say it again when the time is over. What a source said that
    /// watches or pushes stands until it says otherwise. A failure in between lets the time begin
    /// anew, with the next time it says so.
    pub fn accept_after(mut self, time: Duration) -> Self {
        self.repeated = Some(time);
        self
    }

    /// Whether an update that leaves out `gone` of `before` keys is held.
    pub(crate) fn holds(&self, gone: usize, before: usize) -> bool {
        if gone == 0 || before == 0 {
            return false;
        }
        gone == before || (before >= self.at_least && gone as f64 > self.share * before as f64)
    }
}

impl Default for RemovalGuard {
    fn default() -> Self {
        Self::new()
    }
}

/// A source with a policy; see [`Source::with`].
#[derive(Clone, Debug)]
pub struct WithPolicy<S> {
    source: S,
    policy: Policy,
}

impl<S> WithPolicy<S> {
    pub(super) fn new(source: S, policy: Policy) -> Self {
        Self { source, policy }
    }
}

impl<S: Source> Source for WithPolicy<S> {
    fn origin(&self) -> Origin {
        self.source.origin()
    }

    fn load(&self) -> Result<Document, Error> {
        self.source.load()
    }

    fn poll(&self, committed: Option<&str>) -> Result<Update, Error> {
        self.source.poll(committed)
    }

    fn watching(&self) -> Watching {
        self.source.watching()
    }

    fn watch(&self, updates: &SourceContext) -> Result<(), Error> {
        self.source.watch(updates)
    }

    fn refusal(&self) -> Refusal {
        self.source.refusal()
    }

    fn timing(&self) -> Timing {
        self.source.timing()
    }

    fn policy(&self) -> Policy {
        self.policy.clone()
    }

    fn credentials(&self) -> Credentials {
        self.source.credentials()
    }
}
