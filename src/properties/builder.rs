//! Builds [`Properties`](crate::Properties): the sources, and the rules for all of them.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::engine::clock::Clock;
use crate::engine::commit::bootstrap::reserved_rank_error;
use crate::engine::commit::rules::TreeValidator;
use crate::engine::health::SourceEvent;
#[cfg(feature = "test-util")]
use crate::engine::manual_clock::ManualClock;
use crate::error::Error;
#[cfg(doc)]
use crate::error::ErrorKind;
#[cfg(doc)]
use crate::properties::Properties;
use crate::schema::Schema;
use crate::source::Source;
use crate::sync::discard::{Contained, Discard};
use crate::tree::layer::{BOOTSTRAP_RANK, Layer};
use crate::tree::snapshot::Snapshot;
use crate::value::Value;
use crate::value::key::Key;

/// The default of [`Builder::load_timeout`].
pub(super) const DEFAULT_LOAD_TIMEOUT: Duration = Duration::from_secs(10);

/// The default of [`Builder::max_propagation`].
const MAX_PROPAGATION: Duration = Duration::from_secs(10);

/// Builds [`Properties`]: sources from the weakest to the strongest, and rules for all of them.
///
/// ```
/// use liveprops::{Properties, sources::Memory};
///
/// let props = Properties::builder()
///     .default("qps", 10)                      // the weakest layer
///     .source(Memory::from([("qps", 100)]))
///     .source(Memory::from([("qps", 500)]))    // overrides the source before it
///     .build()?;
/// assert_eq!(props.get::<u32>("qps")?, 500);
/// # Ok::<(), liveprops::Error>(())
/// ```
#[must_use = "a builder does nothing until `build` is called"]
pub struct Builder {
    pub(super) sources: Vec<(Layer, Discard<Box<dyn Source>>)>,
    pub(super) restart_required: Vec<Result<Key, Error>>,
    pub(super) history: usize,
    pub(super) defaults: Vec<(Result<Key, Error>, Value)>,
    pub(super) append: Vec<Result<Key, Error>>,
    pub(super) secrets: Vec<Result<Key, Error>>,
    pub(super) not_secrets: Vec<Result<Key, Error>>,
    pub(super) validators: Vec<TreeValidator>,
    pub(super) schema: Option<Schema>,
    pub(super) tracks_usage: bool,
    pub(super) keeps_unresolved: bool,
    pub(super) inline: bool,
    pub(super) timeout: Duration,
    pub(super) faults: Vec<Error>,
    pub(super) events: Vec<EventCallback>,
    pub(super) max_propagation: Duration,
    pub(super) clock: Clock,
    pub(super) state_dir: Option<PathBuf>,
}

/// Gets the events of all sources.
type EventCallback = Box<dyn FnMut(&SourceEvent) + Send>;

impl Builder {
    pub(super) fn new() -> Self {
        Self {
            sources: Vec::new(),
            restart_required: Vec::new(),
            history: 0,
            defaults: Vec::new(),
            append: Vec::new(),
            secrets: Vec::new(),
            not_secrets: Vec::new(),
            validators: Vec::new(),
            schema: None,
            tracks_usage: false,
            keeps_unresolved: false,
            inline: false,
            timeout: DEFAULT_LOAD_TIMEOUT,
            faults: Vec::new(),
            events: Vec::new(),
            max_propagation: MAX_PROPAGATION,
            clock: Clock::default(),
            state_dir: None,
        }
    }

    /// Adds a source that overrides the ones before it.
    pub fn source(self, source: impl Source) -> Self {
        self.source_in(Layer::new("sources", Layer::RANK), source)
    }

    /// Adds a source in a layer. The higher rank wins, and within one rank the source that was added
    /// later.
    ///
    /// The rank of [bootstrap sources](Self::bootstrap) is reserved: their layer is an error in
    /// [`build`](Self::build).
    pub fn source_in(mut self, layer: Layer, source: impl Source) -> Self {
        if layer.is_bootstrap() {
            self.faults.push(reserved_rank_error(layer.name()));
        }
        self.sources.push((layer, Discard::new(Box::new(source))));
        self
    }

    /// Adds a source whose values are fixed from the start on. It is loaded once, and it is stronger
    /// than all others: values that these, or the program itself, have for its keys are ignored and
    /// reported.
    ///
    /// It is for values that a program needs to reach its other sources, such as the address of a store.
    /// The store must not be able to change that. A later bootstrap source overrides an earlier one.
    ///
    /// References and contextual values of these sources are resolved once, by the values that all
    /// sources have at the start. Their lists are [joined](Self::append) among bootstrap sources only.
    /// A bootstrap source cannot be moved or removed. [`Memory`](crate::sources::Memory) rejects
    /// changes after the start, as any source that pushes can.
    ///
    /// ```
    /// use liveprops::{Key, Properties, sources::Memory};
    ///
    /// let remote = Memory::from([("store.url", "https://elsewhere.example"), ("qps", "5")]);
    /// let props = Properties::builder()
    ///     .bootstrap(Memory::from([("store.url", "https://store.example")]))
    ///     .source(remote.clone())
    ///     .build()?;
    /// assert_eq!(props.get::<String>("store.url")?, "https://store.example");
    /// assert_eq!(props.get::<u32>("qps")?, 5);
    /// assert_eq!(props.health().rejected[0].error.key().map(Key::as_str), Some("store.url"));
    /// assert!(props.set("store.url", "https://third.example").is_err());
    /// # Ok::<(), liveprops::Error>(())
    /// ```
    pub fn bootstrap(mut self, source: impl Source) -> Self {
        let layer = Layer::with_any_rank("bootstrap", BOOTSTRAP_RANK);
        self.sources.push((layer, Discard::new(Box::new(source))));
        self
    }

    /// Keeps the value that a key, and all below it, has at the start. A change waits for the next
    /// start; see [`Health::pending_restart`](crate::health::Health::pending_restart).
    ///
    /// A list changes as a whole: a key that names an item of a list, such as `listen.0.port`, has
    /// the whole list wait. A key whose reference is broken at the start has no value to keep, and
    /// neither has a contextual value without a matching case.
    ///
    /// It is for values that a program reads once, such as the port it listens on. A
    /// [`RestartRequired`](crate::health::SourceEventKind::RestartRequired) event reports each new
    /// value, so that the program can end itself when that suits it.
    pub fn restart_required(mut self, key: &str) -> Self {
        self.restart_required.push(Key::parse(key));
        self
    }

    /// Keeps this many generations before the one in force, for [`Properties::history`] and
    /// [`Properties::rollback_to`]. The default is 0. A start without values is generation 0, and is
    /// kept as any other.
    ///
    /// Generations share what they have in common, so one costs what it changed.
    pub fn history(mut self, generations: usize) -> Self {
        self.history = generations;
        self
    }

    /// Adds several sources, each overriding the ones before it.
    pub fn sources<S: Source>(self, sources: impl IntoIterator<Item = S>) -> Self {
        sources
            .into_iter()
            .fold(self, |builder, source| builder.source(source))
    }

    /// Sets the value that a key has while no source defines it.
    ///
    /// Defaults are in the weakest layer: every source overrides them, and the
    /// [default of a handle](crate::property::PropertyBuilder::default) does not count while they are
    /// there. At a key that is given to [`append`](Self::append), a default list is joined with the
    /// lists of the sources, as their first part.
    ///
    /// A key that the [schema](Self::schema) declares gets its default there, by
    /// [`Declaration::default`](crate::schema::Declaration::default): [`build`](Self::build) returns
    /// [`ErrorKind::InvalidKey`] if it is also given here.
    pub fn default(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.defaults.push((Key::parse(key), value.into()));
        self
    }

    /// Keeps references that cannot be resolved as they are written: `http://${host}` stays
    /// `http://${host}` while no layer defines `host`.
    ///
    /// Without this, an unresolved reference is an error of the keys that refer to it
    /// ([`ErrorKind::Reference`](crate::ErrorKind::Reference)). It is for values whose references
    /// another program resolves. If no value of a source has references,
    /// [`Policy::without_references`](crate::Policy::without_references) of that source is the better
    /// choice.
    ///
    /// ```
    /// use liveprops::{ErrorKind, Properties, sources::Memory};
    ///
    /// let memory = Memory::from([("home", "${HOME}/data")]);
    /// let props = Properties::builder().source(memory.clone()).build()?;
    /// let error = props.get::<String>("home").unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Reference);
    ///
    /// let builder = Properties::builder().keep_unresolved_references();
    /// let props = builder.source(memory).build()?;
    /// assert_eq!(props.get::<String>("home")?, "${HOME}/data");
    /// # Ok::<(), liveprops::Error>(())
    /// ```
    pub fn keep_unresolved_references(mut self) -> Self {
        self.keeps_unresolved = true;
        self
    }

    /// Joins the lists of all layers at a key, the weakest layer's items first, where lists
    /// otherwise replace each other.
    ///
    /// The [defaults](Self::default) are a layer as well: their items come first. A layer with
    /// another value than a list, such as a tombstone, ends the joining: weaker layers are left out.
    /// Lists of [bootstrap sources](Self::bootstrap) are joined with no list of another layer.
    /// Items that a layer writes by index (`key.0`, `key.1`) form its list. An item after a gap is
    /// ignored and reported in the health of its source.
    pub fn append(mut self, key: &str) -> Self {
        self.append.push(Key::parse(key));
        self
    }

    /// Masks the values of a key and of all keys below it, in every output.
    ///
    /// Keys that look like secrets, such as `db.password`, and keys read as
    /// [`Secret`](crate::Secret) are masked without being named here. A key that is named here is
    /// secret, even if it or a key above it is given to [`not_secret`](Self::not_secret). So is a key
    /// that its value refers to as a whole (`${vault.pw}`).
    ///
    /// A key that the [schema](Self::schema) declares is marked there, by
    /// [`Declaration::secret`](crate::schema::Declaration::secret): [`build`](Self::build) returns
    /// [`ErrorKind::InvalidKey`] if it is also given here. A key above declared keys may be given here.
    pub fn secret(mut self, key: &str) -> Self {
        self.secrets.push(Key::parse(key));
        self
    }

    /// Shows a key that only looks like a secret, and keeps it in the [cache](crate::source::Cached).
    ///
    /// Neither the name of the key nor the form of its values counts any more. Of a key below it only
    /// the names from there on count: after `not_secret("auth")`, `auth.server` is shown, and
    /// `auth.password` is not. The same holds for the items and entries in the value of the key. A key
    /// that is read as a [`Secret`](crate::Secret) stays secret.
    ///
    /// ```
    /// use liveprops::{Properties, sources::Memory};
    ///
    /// let props = Properties::builder()
    ///     .source(Memory::from([("gate.pin", "board 7"), ("gate.password", "s3cr3t")]))
    ///     .not_secret("gate.pin")
    ///     .build()?;
    /// assert!(props.explain("gate.pin").to_string().contains("board 7"));
    /// assert!(!props.explain("gate.password").to_string().contains("s3cr3t"));
    /// # Ok::<(), liveprops::Error>(())
    /// ```
    pub fn not_secret(mut self, key: &str) -> Self {
        self.not_secrets.push(Key::parse(key));
        self
    }

    /// Rejects updates that lead to a tree for which `validator` returns an error. It gets the tree as
    /// it would be, so it can compare keys of several sources.
    ///
    /// The returned text is the reason in the reported error, with `******` in place of each known
    /// secret. An unresolved reference is accepted unless `validator` returns the error of reading its
    /// key. A validator runs inside the commit; see
    /// [`Properties`](crate::Properties#inside-validators-and-decoders). Its panic rejects the update.
    ///
    /// ```
    /// use liveprops::{Properties, sources::Memory};
    ///
    /// let low = Memory::from([("min", 1)]);
    /// let high = Memory::from([("max", 9)]);
    /// let props = Properties::builder()
    ///     .source(low.clone())
    ///     .source(high.clone())
    ///     .validate(|tree| match (tree.get::<u32>("min"), tree.get::<u32>("max")) {
    ///         (Ok(min), Ok(max)) if min > max => Err("min must not exceed max".into()),
    ///         _ => Ok(()),
    ///     })
    ///     .build()?;
    /// assert!(low.set("min", 10).is_err());
    /// assert_eq!(props.get::<u32>("min")?, 1);
    /// # Ok::<(), liveprops::Error>(())
    /// ```
    pub fn validate(
        mut self,
        validator: impl Fn(&Snapshot) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.validators.push(Contained::new(Box::new(validator)));
        self
    }

    /// Declares keys with their types, rules and defaults; see [`Schema`]. A second schema adds to the
    /// first.
    ///
    /// [`build`](Self::build) reports everything that breaks the schema in the first load. Later an
    /// update that breaks it is rejected as by a validator, and the old values stay.
    pub fn schema(mut self, schema: Schema) -> Self {
        self.schema = Some(match self.schema.take() {
            Some(first) => first.and(schema),
            None => schema,
        });
        self
    }

    /// Records which keys are read, for [`Properties::unused_keys`]. Reading by name is slower then,
    /// about as slow as a search in a map behind a lock; reading a handle is not.
    pub fn track_usage(mut self) -> Self {
        self.tracks_usage = true;
        self
    }

    /// Runs callbacks on the thread that commits, not on threads of their own. It is for tests, and for
    /// short callbacks that must not wait for a thread.
    ///
    /// The thread of a source commits its changes, and does nothing else while a callback runs. In that
    /// callback, [`Properties::refresh_now`] of the source returns [`ErrorKind::Reentrant`].
    ///
    /// While one thread commits at a time, its callbacks have run when its call returns. Of several
    /// threads that commit at once, one may commit and run the callbacks for the others. An event without
    /// a commit, such as that a source hangs, may be reported on another thread.
    pub fn inline_callbacks(mut self) -> Self {
        self.inline = true;
        self
    }

    /// Calls `callback` with the events of all sources from their first load on, for as long as the
    /// properties live; see [`Properties::on_source_event`].
    pub fn on_source_event(mut self, callback: impl FnMut(&SourceEvent) + Send + 'static) -> Self {
        self.events.push(Box::new(callback));
        self
    }

    /// Limits how long [`build`](Self::build) waits for the first load of all sources together. The
    /// default is 10 seconds. A source with a time of its own in its [`Policy`](crate::Policy) has that
    /// time instead, unless the start fails for another reason.
    pub fn load_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Limits how late a change may be seen while its source answers; see
    /// [`Timing::worst_case_latency`](crate::source::Timing::worst_case_latency). The default is 10 seconds.
    ///
    /// [`build`](Self::build) rejects a source whose interval, debounce and timeouts add up to more, with
    /// the sum in the message. It accepts one that is loaded once or only on request.
    pub fn max_propagation(mut self, time: Duration) -> Self {
        self.max_propagation = time;
        self
    }

    /// Sets the directory for the newest accepted values of each [cached](crate::Policy::cached)
    /// source, one file for each. The builder creates the directory, for the user of the process alone.
    /// Several processes may share it.
    ///
    /// It also holds the tree of a [roll-back](Properties::rollback_to). Processes that share it should
    /// therefore be those of one program: a roll-back in one is in force in the others after their next
    /// start.
    ///
    /// A start without an answer of a source uses its cached values, shows that in
    /// [`SourceHealth::cached`](crate::health::SourceHealth::cached), and goes on loading. A file that
    /// cannot be written is reported in
    /// [`SourceHealth::degraded`](crate::health::SourceHealth::degraded), and has no other effect.
    ///
    /// ```
    /// use liveprops::{Document, Error, ErrorKind, Origin, Properties, Source};
    ///
    /// struct Store(bool);
    ///
    /// impl Source for Store {
    ///     fn origin(&self) -> Origin {
    ///         Origin::new("store", "checkout")
    ///     }
    ///
    ///     fn load(&self) -> Result<Document, Error> {
    ///         if !self.0 {
    ///             return Err(Error::new(ErrorKind::Unavailable, "the store is down"));
    ///         }
    ///         let mut document = Document::new();
    ///         document.set("qps", 500, self.origin())?;
    ///         Ok(document)
    ///     }
    /// }
    ///
    /// # let temporary = tempfile::tempdir().unwrap();
    /// # let dir = temporary.path().join("state");
    /// let start = |is_up| {
    ///     let store = Store(is_up).with(|policy| policy.cached());
    ///     Properties::builder().state_dir(&dir).source(store).build()
    /// };
    /// drop(start(true)?);
    /// let props = start(false)?;
    /// assert_eq!(props.get::<u32>("qps")?, 500);
    /// assert!(props.health().sources[0].cached.is_some());
    /// # Ok::<(), liveprops::Error>(())
    /// ```
    pub fn state_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.state_dir = Some(path.into());
        self
    }

    /// Measures pauses and deadlines by a clock that a test moves by hand, in place of the system's.
    #[cfg(feature = "test-util")]
    pub fn manual_clock(mut self, clock: &ManualClock) -> Self {
        self.clock = clock.clock();
        self
    }

    #[cfg(test)]
    pub(crate) fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("sources", &self.sources.len())
            .finish_non_exhaustive()
    }
}
