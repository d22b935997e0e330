//! Builds [`Properties`]: starts the sources, waits for their first values, commits them as one.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::clock::Clock;
use crate::engine::commit::candidate::{Rules, TreeValidator};
use crate::engine::commit::pins::{BOOTSTRAP_RANK, DEFAULT_RANK, reserved};
use crate::engine::core::Engine;
use crate::engine::health::SourceEvent;
use crate::error::{Error, ErrorKind};
use crate::properties::start::{Limits, Loaded, Started, after, layer};
use crate::properties::{Owner, Properties};
use crate::schema::Schema;
use crate::source::Source;
use crate::sync::discard::{Contained, Discard};
use crate::tree::layer::Layer;
use crate::tree::snapshot::Snapshot;
use crate::tree::usage::Usage;
use crate::value::Value;
use crate::value::document::Document;
use crate::value::key::Key;
use crate::value::origin::Origin;
use crate::value::secret::Secrets;

/// The rank of the layer that [`Properties::set`] writes to: stronger than any but what only the
/// start sets.
const OVERRIDE_RANK: i32 = BOOTSTRAP_RANK + 1;

/// How long the builder waits for the first load of all sources.
pub(super) const DEFAULT_LOAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How late a change may be seen at the worst.
const MAX_PROPAGATION: Duration = Duration::from_secs(10);

/// Builds [`Properties`]: sources from the weakest to the strongest, and rules for all of them.
#[must_use = "a builder does nothing until `build` is called"]
pub struct Builder {
    sources: Vec<(Layer, Discard<Box<dyn Source>>)>,
    restart_required: Vec<Result<Key, Error>>,
    history: usize,
    defaults: Document,
    append: Vec<Result<Key, Error>>,
    secrets: Vec<Result<Key, Error>>,
    not_secrets: Vec<Result<Key, Error>>,
    validators: Vec<TreeValidator>,
    schema: Option<Schema>,
    tracks_usage: bool,
    keeps_unresolved: bool,
    inline: bool,
    timeout: Duration,
    faults: Vec<Error>,
    events: Vec<EventCallback>,
    max_propagation: Duration,
    clock: Clock,
    state_dir: Option<PathBuf>,
}

/// Hears of what happens to the sources.
type EventCallback = Box<dyn FnMut(&SourceEvent) + Send>;

impl Builder {
    pub(super) fn new() -> Self {
        Self {
            sources: Vec::new(),
            restart_required: Vec::new(),
            history: 0,
            defaults: Document::new(),
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

    /// Adds a source in a layer: the layer with the lower rank wins, and within a rank the source
    /// added later.
    ///
    /// The rank of [bootstrap sources](Self::bootstrap) is reserved: their layer is an error in
    /// [`build`](Self::build).
    pub fn source_in(mut self, layer: Layer, source: impl Source) -> Self {
        if layer.is_bootstrap() {
            self.faults.push(reserved(layer.name()));
        }
        self.sources.push((layer, Discard::new(Box::new(source))));
        self
    }

    /// Adds a source whose values are fixed from the start on: it is loaded once, it is stronger than
    /// all others, and what they, or the program itself, say of its keys is ignored and reported.
    ///
    /// For what a program needs to reach its other sources, such as the address of a store, which the
    /// store must not be able to change. Several of them override each other in their order.
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
    /// assert_eq!(props.health().refused[0].error.key().map(Key::as_str), Some("store.url"));
    /// assert!(props.set("store.url", "https://third.example").is_err());
    /// # Ok::<(), liveprops::Error>(())
    /// ```
    pub fn bootstrap(mut self, source: impl Source) -> Self {
        let layer = Layer::with_any_rank("bootstrap", BOOTSTRAP_RANK);
        self.sources.push((layer, Discard::new(Box::new(source))));
        self
    }

    /// Has a key, and all below it, keep the value it has at the start: a change of it waits for the
    /// program to be restarted, see
    /// [`Health::pending_restart`](crate::health::Health::pending_restart).
    ///
    /// A list changes as a whole: a key that names an item of a list, such as `listen.0.port`, has
    /// the whole list wait. A key whose reference is broken at the start has no value to keep, and
    /// neither has a contextual value without a matching case.
    ///
    /// For what a program reads once, such as the port it listens on. A
    /// [`RestartRequired`](crate::health::SourceEventKind::RestartRequired) event tells of each new
    /// value, so that the program can end itself when that suits it.
    pub fn restart_required(mut self, key: &str) -> Self {
        self.restart_required.push(Key::parse(key));
        self
    }

    /// How many generations before the one in force are kept, for
    /// [`Properties::history`] and [`Properties::rollback_to`]. The default is 0. A start without
    /// values is generation 0, and is kept as any other.
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

    /// Sets the value a key has while no source defines it.
    ///
    /// Defaults are the weakest layer. At a key that is given to [`append`](Self::append), a default
    /// list is joined with the lists of the sources, as their first part.
    pub fn default(mut self, key: &str, value: impl Into<Value>) -> Self {
        if let Err(error) = self.defaults.set(key, value, Origin::new("default", "")) {
            self.faults.push(error);
        }
        self
    }

    /// Keeps references that cannot be resolved as they are written: `http://${host}` stays
    /// `http://${host}` while no layer defines `host`.
    ///
    /// Without this, an unresolved reference is an error of the keys that refer to it
    /// ([`ErrorKind::Reference`](crate::ErrorKind::Reference)). For values whose references another
    /// program resolves. If no value of a source has references,
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

    /// Never shows the values of a key and of all keys below it.
    ///
    /// Keys that look like secrets, such as `db.password`, and keys read as
    /// [`Secret`](crate::Secret) are masked without being named here. A key that is named here is
    /// secret, even if it or a key above it is given to [`not_secret`](Self::not_secret).
    pub fn secret(mut self, key: &str) -> Self {
        self.secrets.push(Key::parse(key));
        self
    }

    /// Shows a key that looks like a secret and is none, and keeps it in the
    /// [cache](crate::source::Cached).
    ///
    /// Neither the key's name nor the form of a value at the key or below it counts any more. Of a key
    /// below it only the names from there on count: after `not_secret("auth")`, `auth.server` is shown,
    /// and `auth.password` is not. The same holds for the items of a list and the entries of a table
    /// that stand in the value of the key itself. A key that is read as a [`Secret`](crate::Secret) stays one.
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

    /// Adds a rule for the tree as a whole: an update after which `check` fails is refused, and
    /// the reason it returns is reported, with `******` in place of each known secret. It sees the candidate, so it can compare keys of several
    /// sources. An unresolved reference is accepted unless `check` rejects the error that reading the
    /// key returns.
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
        check: impl Fn(&Snapshot) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.validators.push(Contained::new(Box::new(check)));
        self
    }

    /// Declares keys: what they are, what they may be and what they must not lack; see
    /// [`Schema`]. A second schema adds to the first.
    ///
    /// What breaks the schema in the first load is told by [`build`](Self::build), all at once;
    /// later an update that breaks it is refused as by a validator, and the old values stay.
    pub fn schema(mut self, schema: Schema) -> Self {
        self.schema = Some(match self.schema.take() {
            Some(first) => first.and(schema),
            None => schema,
        });
        self
    }

    /// Notes which keys are read, for [`Properties::unused_keys`]. Reading by name is slower then,
    /// about as slow as a search in a map behind a lock; reading a handle is not.
    pub fn track_usage(mut self) -> Self {
        self.tracks_usage = true;
        self
    }

    /// Runs callbacks on the thread that commits in place of threads of their own. For tests, and
    /// for callbacks that are short and must not wait for a thread.
    ///
    /// A change that a source brings is committed on the thread of that source, which does nothing
    /// else while a callback runs: in there, [`Properties::refresh_now`] of that source is refused.
    ///
    /// While one thread commits at a time, they have run when its call returns. Of several that
    /// commit at once, one may commit and call back for the others. What is told without a commit,
    /// such as that a source hangs, may be told on another thread.
    pub fn inline_callbacks(mut self) -> Self {
        self.inline = true;
        self
    }

    /// Calls `callback` with what happens to the sources from their first load on, for as long as
    /// the properties live; see [`Properties::on_source_event`].
    pub fn on_source_event(mut self, callback: impl FnMut(&SourceEvent) + Send + 'static) -> Self {
        self.events.push(Box::new(callback));
        self
    }

    /// How long [`build`](Self::build) waits for the first load of all sources together. The
    /// default is 10 seconds. A source whose policy says how long it is waited for has that time
    /// instead, unless the start fails anyhow.
    pub fn load_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How late a change may be seen at the worst while its source answers; see
    /// [`Timing::worst_case_latency`](crate::source::Timing::worst_case_latency). The default is 10 seconds.
    ///
    /// A source whose interval, settling and timeouts add up to more is refused by
    /// [`build`](Self::build), with the sum in the message; one that is loaded once or only on
    /// request is not.
    pub fn max_propagation(mut self, time: Duration) -> Self {
        self.max_propagation = time;
        self
    }

    /// The directory in which the newest accepted values of each source are kept whose policy says
    /// [`cached`](crate::Policy::cached), a file a source. It is made, for the user of the process
    /// alone, when it is not there; several processes may share it.
    ///
    /// It also holds what was [rolled back to](Properties::rollback_to). Processes that share it
    /// should therefore be those of one program: a roll-back in one is that of the others when they
    /// start anew.
    ///
    /// A start for which a source has no answer uses what is there, says so in
    /// [`SourceHealth::cached`](crate::health::SourceHealth::cached), and goes on asking. A file
    /// that cannot be written keeps nothing from working: see
    /// [`SourceHealth::degraded`](crate::health::SourceHealth::degraded).
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

    #[cfg(test)]
    pub(crate) fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Loads every source and starts to watch them.
    ///
    /// # Blocking
    ///
    /// Blocks the calling thread until each source has answered or its time is over. The sources load
    /// at the same time. A required source has the [`load_timeout`](Self::load_timeout), 10 seconds by
    /// default. An [optional](crate::source::Policy::optional) source that does not respond costs one
    /// second, a source with a time of its own in its [`Policy`](crate::source::Policy) that time.
    ///
    /// An async program builds before it starts its runtime, or on a thread that may block:
    ///
    /// ```no_run
    /// # async fn start() -> Result<(), Box<dyn std::error::Error>> {
    /// use liveprops::{Properties, sources::Env};
    ///
    /// let build = || Properties::builder().source(Env::prefix("APP_")).build();
    /// let props = tokio::task::spawn_blocking(build).await??;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Everything that is wrong at once: each source that cannot be loaded, each malformed key,
    /// or why the tree is refused.
    pub fn build(mut self) -> Result<Properties, Error> {
        let mut faults = self.faults;
        let mut keys = |keys: Vec<Result<Key, Error>>| -> Vec<Key> {
            keys.into_iter()
                .filter_map(|key| key.map_err(|error| faults.push(error)).ok())
                .collect()
        };
        let append: BTreeSet<Key> = keys(self.append).into_iter().collect();
        let secrets = Secrets::default();
        secrets.set_plain(keys(self.not_secrets).into_iter().collect());
        keys(self.secrets)
            .into_iter()
            .for_each(|key| secrets.add(key));
        let mut frozen = keys(self.restart_required);
        let mut defaults = self.defaults;
        if let Some(schema) = &mut self.schema {
            schema.settle(&mut defaults, &secrets, &mut faults);
            frozen.extend(schema.restart_required().cloned());
        }
        if frozen.iter().any(Key::is_root) {
            let detail = "`restart_required` does not take the whole tree; name the keys that a \
                          program reads once";
            faults.push(Error::new(ErrorKind::InvalidKey, detail));
        }
        let rules = Rules {
            append: Arc::new(append),
            validators: self.validators,
            secrets,
            frozen,
            history: self.history,
            schema: self.schema,
            keeps_unresolved: self.keeps_unresolved,
            usage: self.tracks_usage.then(Arc::<Usage>::default),
        };
        let engine = Engine::new(rules, self.inline, self.clock);
        let _building = engine.begin_building();
        // From here on an early return ends what was started.
        let props = Properties(Arc::new(Owner {
            engine: Arc::clone(&engine),
            max_propagation: self.max_propagation,
        }));
        for callback in self.events {
            props.on_source_event(callback).detach();
        }
        if let Some(dir) = self.state_dir {
            engine.cache.open(dir);
            match engine.cache.rolled_back() {
                Ok(Some(before)) => engine.begin_with(before)?,
                Ok(None) => {}
                Err(unusable) => engine.health_registry.note(0, unusable),
            }
        }
        let deadline = after(self.timeout);

        let mut layers = vec![layer(
            engine.overrides,
            Layer::with_any_rank("overrides", OVERRIDE_RANK),
            "overrides",
        )];
        if !defaults.is_empty() {
            let mut layer = layer(
                engine.new_source(),
                Layer::with_any_rank("defaults", DEFAULT_RANK),
                "defaults",
            );
            layer.root = defaults.into_parts().0;
            layers.push(layer);
        }
        let limits = Limits {
            propagation: self.max_propagation,
            load: self.timeout,
        };
        let mut started = Vec::new();
        for (layer, source) in self.sources {
            match Started::one(&engine, layer, source, limits) {
                Ok(source) => started.push(source),
                Err(error) => faults.push(error),
            }
        }
        // A source that is waited for, however long, comes last: what is wrong with another may
        // mean that there is nothing to wait for.
        started.sort_by_key(|source: &Started| source.patience(deadline));
        let mut follow: Vec<Loaded> = Vec::new();
        for mut source in started {
            let doomed = !faults.is_empty();
            match source
                .recall(&engine)
                .and_then(|()| source.finish(deadline, doomed))
            {
                Ok(loaded) => follow.push(loaded),
                Err(error) => faults.push(error),
            }
        }
        follow.sort_by_key(|loaded| loaded.state.id);
        layers.extend(follow.iter().map(|loaded| loaded.state.clone()));
        if !faults.is_empty() {
            return Err(Error::all(faults));
        }
        let instead = follow.iter().filter_map(Loaded::instead).collect();
        let applied = engine.admit(layers, instead).map_err(|error| {
            let missing = follow.iter().filter_map(Loaded::stood_in_for);
            Error::all([error].into_iter().chain(missing).collect())
        })?;
        let lost: Vec<Error> = follow
            .iter()
            .filter_map(|loaded| loaded.lost(&engine, &applied))
            .collect();
        if !lost.is_empty() {
            return Err(Error::all(lost));
        }
        for mut loaded in follow {
            loaded.judged(&engine, &applied);
            loaded.admitted(&engine, applied.generation, true);
        }
        Ok(props)
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("sources", &self.sources.len())
            .finish_non_exhaustive()
    }
}
