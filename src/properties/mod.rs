//! [`Properties`] and its builder: sources in, handles out.

mod build;
pub(crate) mod builder;
mod first_load;
mod history;
mod report;
pub(crate) mod scoped;
pub(crate) mod sources;
mod start;
pub(crate) mod transaction;

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use crate::engine::core::Engine;
use crate::engine::health::SourceEvent;
use crate::error::{Error, ErrorKind};
use crate::properties::builder::Builder;
use crate::properties::scoped::Scoped;
use crate::properties::start::deadline_after;
use crate::property::batch::{Batch, Mailbox};
use crate::property::builder::PropertyBuilder;
use crate::property::listen::Signal;
use crate::property::registry::{EngineRef, PropertyEngine};
use crate::property::subscription::{Subscriber, Subscription};
use crate::tree::snapshot::Snapshot;
use crate::value::key::Key;

pub use sources::DryRun;

/// Layered sources as one tree of live, typed properties.
///
/// Cloning is cheap, and all clones are the same properties. Properties that were built separately share
/// nothing. Dropping the last clone stops every thread and waits for their end, at most 0.9 seconds: a
/// callback or a source that hangs keeps its thread. Handles go on reading their last values. Calls and
/// futures that wait for a change of a handle end with [`ErrorKind::Closed`].
///
/// # Blocking
///
/// Reads never block. These calls block their thread, so an async program makes them on a thread that
/// may block, such as one of tokio's `spawn_blocking`:
///
/// - [`Builder::build`](crate::Builder::build), [`add_source`](Self::add_source) and
///   [`refresh_now`](Self::refresh_now) wait for sources, each within the time that it documents.
/// - The drop of the last clone waits up to 0.9 seconds while a source hangs in a call, for example
///   in a connection to a server that does not respond.
/// - [`wait_for`](Self::wait_for) waits at most the time that it is given. The future of
///   [`changed`](crate::DynamicProperty::changed) is the async alternative.
/// - Writes wait for the commit before them.
///
/// # Forks
///
/// The threads stay in the process that built the properties. In a fork, reading works and gives the
/// values of the moment of the fork. [`health`](Self::health) is not up. Each call that would change
/// something or wait returns [`ErrorKind::Closed`], also the futures of
/// [`changed`](crate::DynamicProperty::changed). Dropping waits for nothing. A key that the fork cannot
/// look up in the list of secrets is shown masked. A child that needs live values builds its own
/// properties.
///
/// # Inside validators and decoders
///
/// A validator or a decoder runs inside a commit, which holds up all other commits of its properties.
/// So no call inside one waits for another thread, whichever properties the call belongs to:
///
/// - Calls that wait for sources, changes or callbacks return [`ErrorKind::Reentrant`].
/// - Calls that commit return it too, if they belong to the same properties, or if another thread
///   commits to theirs. They change nothing then.
///
/// Building properties inside one works, and waits for their sources.
///
/// ```
/// use liveprops::{Properties, sources::Memory};
///
/// let props = Properties::builder()
///     .source(Memory::from([("ratelimit.qps", 100), ("ratelimit.burst", 10)])) // lowest
///     .source(Memory::from([("ratelimit.qps", 500)]))                          // highest
///     .build()?;
///
/// assert_eq!(props.get::<u32>("ratelimit.qps")?, 500);
/// assert_eq!(props.get_or("ratelimit.burst", 1u32), 10);
/// assert_eq!(props.get_opt::<u32>("ratelimit.window")?, None);
/// # Ok::<(), liveprops::Error>(())
/// ```
#[derive(Clone)]
pub struct Properties(Arc<Owner>);

/// Ends the engine with the last clone.
struct Owner {
    engine: Arc<Engine>,
    max_propagation: Duration,
}

impl Drop for Owner {
    fn drop(&mut self) {
        if self.engine.check_process().is_err() {
            // There are no threads to stop in a fork, and the drop of an engine may wait for its threads.
            std::mem::forget(Arc::clone(&self.engine));
            return;
        }
        self.engine.shut_down();
    }
}

impl Properties {
    /// Begins to build properties.
    pub fn builder() -> Builder {
        Builder::new()
    }

    fn engine_ref(&self) -> EngineRef {
        self.0.engine.engine_ref()
    }

    /// The current value of a key.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::NotFound`] if no layer defines the key.
    /// - [`ErrorKind::Mismatch`] if its value cannot become a `T`. Weaker layers do not stand in for a
    ///   malformed value.
    /// - [`ErrorKind::Reference`] if a reference in it, or in a key that it refers to, is unresolved or
    ///   broken.
    /// - [`ErrorKind::InvalidKey`] for a malformed key.
    #[inline]
    pub fn get<T: DeserializeOwned + 'static>(&self, key: &str) -> Result<T, Error> {
        if let Some(value) = self.0.engine.current.load().get_plain(key) {
            return Ok(value);
        }
        // Decoding may run user code, so it holds no guard on the cell.
        self.0.engine.current.full().get_slowly(key)
    }

    /// The current value of a key, or `None` if no layer defines it.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Mismatch`] if its value cannot become a `T`. Weaker layers do not stand in for a
    ///   malformed value.
    /// - [`ErrorKind::Reference`] if a reference in it, or in a key that it refers to, is unresolved or
    ///   broken.
    /// - [`ErrorKind::InvalidKey`] for a malformed key.
    pub fn get_opt<T: DeserializeOwned + 'static>(&self, key: &str) -> Result<Option<T>, Error> {
        if let Some(value) = self.0.engine.current.load().get_plain(key) {
            return Ok(Some(value));
        }
        self.0.engine.current.full().get_opt_slowly(key)
    }

    /// The current value of a key, or `default` if no layer defines it.
    ///
    /// It returns the default for a malformed value as well, and reports that in
    /// [`health`](Self::health) and as a
    /// [`SourceEventKind::Malformed`](crate::health::SourceEventKind::Malformed). A default of the
    /// [schema](crate::schema::Declaration::default) or of the [builder](crate::Builder::default) makes a
    /// key defined, so `default` does not count there.
    pub fn get_or<T: DeserializeOwned + 'static>(&self, key: &str, default: T) -> T {
        match self.get_opt(key) {
            Ok(Some(value)) => value,
            Ok(None) => default,
            Err(error) => {
                let engine = &self.0.engine;
                if engine.check_process().is_err() {
                    return default;
                }
                engine
                    .health_registry
                    .report_malformed(key, self.generation(), error);
                default
            }
        }
    }

    /// Begins a live handle on a key.
    pub fn property<T: DeserializeOwned + Send + Sync + 'static>(
        &self,
        key: &str,
    ) -> PropertyBuilder<T> {
        PropertyBuilder::new(self.engine_ref(), Key::root(), key, false)
    }

    /// Begins a live handle on a subtree as a struct, which is swapped as one.
    ///
    /// An absent subtree is decoded as an empty one, so that the fields' own defaults count; the
    /// empty key binds the whole tree. Errors name every bad field at once.
    pub fn bind<T: DeserializeOwned + Send + Sync + 'static>(
        &self,
        key: &str,
    ) -> PropertyBuilder<T> {
        PropertyBuilder::new(self.engine_ref(), Key::root(), key, true)
    }

    /// The current tree, for reading many keys from one generation.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.0.engine.current.full())
    }

    /// The number of the generation in force; it grows by one with each commit that changed
    /// something.
    pub fn generation(&self) -> u64 {
        self.0.engine.current.load().number()
    }

    /// A view of the keys under a prefix, by their names below it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidKey`] if the prefix is malformed.
    pub fn scoped(&self, prefix: &str) -> Result<Scoped, Error> {
        Ok(Scoped {
            props: self.clone(),
            prefix: Key::parse(prefix)?,
        })
    }

    /// Calls `callback` once per generation with all its changes under a prefix; the empty prefix
    /// is the whole tree.
    ///
    /// The generations that come while a call runs are merged into one batch for the next call; see
    /// [`Batch`]. The memory of pending changes is bounded by the keys, however long a call takes: one
    /// tree, and the oldest and the newest value of each key that changed.
    ///
    /// Threads, slow callbacks and panics are handled as by
    /// [`DynamicProperty::on_change`](crate::DynamicProperty::on_change).
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidKey`] if the prefix is malformed.
    /// - [`ErrorKind::Reentrant`] inside a validator, and [`ErrorKind::Closed`] in a fork.
    pub fn on_change_under(
        &self,
        prefix: &str,
        callback: impl FnMut(&Batch) + Send + 'static,
    ) -> Result<Subscription, Error> {
        self.subscribe(Key::parse(prefix)?, callback)
    }

    fn subscribe(
        &self,
        prefix: Key,
        callback: impl FnMut(&Batch) + Send + 'static,
    ) -> Result<Subscription, Error> {
        let engine = &self.0.engine;
        let mailbox = Mailbox::new(
            prefix,
            engine.rules.secrets.clone(),
            Weak::clone(&self.engine_ref()),
            callback,
        );
        engine.between_commits(&mut |_, registry| registry.subscribe(Arc::downgrade(&mailbox)))?;
        Ok(Subscription::holding(
            Arc::clone(&mailbox.subscriber),
            mailbox,
        ))
    }

    /// Calls `callback` with the events of all sources: initialized, updated, rejected, suspended,
    /// reconnected, removed.
    pub fn on_source_event(
        &self,
        callback: impl FnMut(&SourceEvent) + Send + 'static,
    ) -> Subscription {
        let engine_ref: Weak<dyn PropertyEngine> = Weak::clone(&self.engine_ref());
        match self.0.engine.check_process() {
            Ok(()) => self
                .0
                .engine
                .health_registry
                .subscribe(engine_ref, callback),
            // In a fork there are no events.
            Err(_) => Subscription::new(Subscriber::new(engine_ref, Box::new(|| {}))),
        }
    }

    /// Waits until all keys have a value, or a table, at most `within`.
    ///
    /// It waits for commits and not for callbacks, so no stuck callback holds it up.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Timeout`] after `within`; it names the missing keys.
    /// - [`ErrorKind::InvalidKey`] for a malformed key.
    /// - [`ErrorKind::Reentrant`] inside a validator of any properties, and [`ErrorKind::Closed`] in a
    ///   fork.
    pub fn wait_for<K: AsRef<str>>(
        &self,
        keys: impl IntoIterator<Item = K>,
        within: Duration,
    ) -> Result<(), Error> {
        self.0.engine.check_process()?;
        let keys: Vec<Key> = keys
            .into_iter()
            .map(|key| Key::parse(key.as_ref()))
            .collect::<Result<_, _>>()?;
        let engine = &self.0.engine;
        engine.may_wait()?;
        let signal = Arc::new(Signal::default());
        let listener: Weak<Signal> = Arc::downgrade(&signal);
        engine.commit_listeners.add(listener);
        let until = deadline_after(within);
        loop {
            signal.reset();
            let now = self.snapshot();
            let missing: Vec<&Key> = keys
                .iter()
                .filter(|key| !now.contains(key.as_str()))
                .collect();
            if missing.is_empty() {
                return Ok(());
            }
            // After the snapshot, since a commit may have come at the last moment.
            if Instant::now() >= until {
                let names: Vec<String> = missing.iter().map(|key| format!("`{key}`")).collect();
                let detail = format!("still missing after {within:?}: {}", names.join(", "));
                return Err(Error::new(ErrorKind::Timeout, detail));
            }
            signal.wait(Some(until));
        }
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Properties")
            .field("generation", &self.generation())
            .finish_non_exhaustive()
    }
}
