//! [`Properties`] and its builder: sources in, handles out.

pub(crate) mod builder;
pub(crate) mod scoped;
mod start;
pub(crate) mod transaction;

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use crate::engine::commit::Command;
use crate::engine::core::Engine;
use crate::engine::health::{CallbackHealth, Health, SourceEvent, StaleProperty, Status};
use crate::error::{Error, ErrorKind};
use crate::properties::builder::{Builder, DEFAULT_LOAD_TIMEOUT};
use crate::properties::scoped::Scoped;
use crate::properties::start::{Limits, Started, after};
use crate::properties::transaction::Transaction;
use crate::property::batch::{Batch, Mailbox};
use crate::property::builder::PropertyBuilder;
use crate::property::listen::Bell;
use crate::property::registry::{Host, HostRef};
use crate::property::subscription::{Subscriber, Subscription};
use crate::schema::{Deprecated, Schema, Unknown};
use crate::source::{CommitOutcome, Source};
use crate::sync::discard::Discard;
use crate::tree::change::KeyChange;
use crate::tree::explain::Explanation;
use crate::tree::layer::{Layer, SourceId};
use crate::tree::snapshot::{Pinned, Snapshot};
use crate::value::Value;
use crate::value::document::Document;
use crate::value::key::Key;

/// Layered sources as one tree of live, typed properties.
///
/// A plain value: cloning is cheap, all clones are the same properties, and two that were built
/// separately never know of each other. Dropping the last clone stops every thread and
/// waits for their end, at most 0.9 seconds: a callback or a source that hangs keeps its thread. Handles
/// go on reading their last values. Calls and futures that wait for a change of a handle end with
/// [`ErrorKind::Closed`].
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
/// The threads stay in the process that built the properties. In a fork of it, reading works and
/// gives the values of the moment of the fork. [`health`](Self::health) is not up. Whatever would
/// change something or wait returns [`ErrorKind::Closed`], also the futures of
/// [`changed`](crate::DynamicProperty::changed), and dropping waits for nothing. A key that the fork
/// cannot look up in the list of secrets is shown masked. A child that needs live values builds
/// properties of its own.
///
/// # Inside validators and decoders
///
/// A validator or a decoder runs inside a commit, which holds up all other commits of its properties.
/// So no call inside one waits for another thread, whichever properties the call belongs to:
///
/// - Calls that wait for sources, changes or callbacks return [`ErrorKind::Reentrant`].
/// - Calls that commit return it if they belong to the same properties, or if another thread commits
///   to those that they belong to. Nothing is changed then.
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
            // There are no threads to stop here, and what an engine drops may wait for its threads.
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

    fn host(&self) -> HostRef {
        self.0.engine.host()
    }

    /// The value of a key, now.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if no layer defines it, [`ErrorKind::Mismatch`](crate::ErrorKind::Mismatch) if it cannot become
    /// a `T`, [`ErrorKind::Reference`](crate::ErrorKind::Reference) if a reference in it, or in a key that it
    /// refers to, is unresolved or broken, [`ErrorKind::InvalidKey`](crate::ErrorKind::InvalidKey)
    /// for a malformed key. Weaker layers are not asked in place of a malformed value.
    #[inline]
    pub fn get<T: DeserializeOwned + 'static>(&self, key: &str) -> Result<T, Error> {
        if let Some(value) = self.0.engine.current.load().get_plain(key) {
            return Ok(value);
        }
        // What follows may run code of the user's, so it holds no guard on the cell.
        self.0.engine.current.full().get_slowly(key)
    }

    /// The value of a key, now, or `None` if no layer defines it.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get), without [`ErrorKind::NotFound`](crate::ErrorKind::NotFound).
    pub fn get_opt<T: DeserializeOwned + 'static>(&self, key: &str) -> Result<Option<T>, Error> {
        if let Some(value) = self.0.engine.current.load().get_plain(key) {
            return Ok(Some(value));
        }
        self.0.engine.current.full().get_opt_slowly(key)
    }

    /// The value of a key, now, or `default` if no layer defines it.
    ///
    /// A value that is there and malformed is answered with the default as well, and reported: in
    /// [`health`](Self::health) and as a [`SourceEventKind::Malformed`](crate::health::SourceEventKind::Malformed).
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
                    .malformed(key, self.generation(), error);
                default
            }
        }
    }

    /// Begins a live handle on a key.
    pub fn property<T: DeserializeOwned + Send + Sync + 'static>(
        &self,
        key: &str,
    ) -> PropertyBuilder<T> {
        PropertyBuilder::new(self.host(), Key::root(), key, false)
    }

    /// Begins a live handle on a subtree as a struct, which is swapped as one.
    ///
    /// An absent subtree is decoded as an empty one, so that the fields' own defaults count; the
    /// empty key binds the whole tree. Errors name every bad field at once.
    pub fn bind<T: DeserializeOwned + Send + Sync + 'static>(
        &self,
        key: &str,
    ) -> PropertyBuilder<T> {
        PropertyBuilder::new(self.host(), Key::root(), key, true)
    }

    /// The tree as it is now, for reading many keys from one generation.
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
    /// [`ErrorKind::InvalidKey`](crate::ErrorKind::InvalidKey) if the prefix is malformed.
    pub fn scoped(&self, prefix: &str) -> Result<Scoped, Error> {
        Ok(Scoped {
            props: self.clone(),
            prefix: Key::parse(prefix)?,
        })
    }

    /// What every layer says about a key, which one wins, where it was written, and what was
    /// refused.
    pub fn explain(&self, key: &str) -> Explanation {
        let mut explanation = self.snapshot().explain(key);
        if self.0.engine.check_process().is_err() {
            return explanation;
        }
        for (source, place) in self.0.engine.health_registry.locations() {
            let mut layers = explanation.layers.iter_mut();
            if let Some(layer) = layers.find(|layer| layer.source == source) {
                layer.location = Some(place);
            }
        }
        let key = Key::parse(key).unwrap_or_else(|_| Key::root());
        explanation.refused = self.0.engine.health_registry.refused_of(key.as_str());
        explanation
    }

    /// The schema that was given to the builder, all of them as one; it hides what the builder was
    /// told to, too.
    pub fn schema(&self) -> Option<&Schema> {
        self.0.engine.rules.schema.as_ref()
    }

    /// The keys under the strict prefixes of the [`Schema`] that it does not
    /// declare, in order, each with where it was written and the declared key that may be meant.
    pub fn unknown_keys(&self) -> Vec<Unknown> {
        let now = self.0.engine.current.full();
        self.schema()
            .map_or_else(Vec::new, |schema| schema.unknown(&now))
    }

    /// The keys that the [`Schema`] declares
    /// [deprecated](crate::schema::Declaration::deprecated) and that are set all the same, in order,
    /// each with where it was written and what to do instead. What only the schema sets by a default
    /// is left out.
    pub fn deprecated_keys(&self) -> Vec<Deprecated> {
        let now = self.0.engine.current.full();
        self.schema()
            .map_or_else(Vec::new, |schema| schema.deprecated(&now))
    }

    /// The keys that have a value which nobody has read since the start: by name, by a snapshot, by
    /// a handle or a struct bound to them or above them, by a validator, or by a reference from a
    /// key that was read. Empty unless [`Builder::track_usage`] was asked for.
    ///
    /// In a fork of the process that built the properties, reads of the fork may not count, and the
    /// list may be empty.
    pub fn unused_keys(&self) -> Vec<Key> {
        self.0.engine.current.full().unused()
    }

    /// Calls `callback` once per generation with all its changes under a prefix; the empty prefix
    /// is the whole tree.
    ///
    /// The generations that come while a call runs are merged into one batch for the next call; see
    /// [`Batch`]. What waits is bounded by the keys, however long a call takes: one tree, and the
    /// oldest and the newest value of each key that changed.
    ///
    /// What [`DynamicProperty::on_change`](crate::DynamicProperty::on_change) says of threads, slowness and panics holds here too.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidKey`](crate::ErrorKind::InvalidKey) if the prefix is malformed, [`ErrorKind::Reentrant`](crate::ErrorKind::Reentrant) if called
    /// from inside a validator.
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
            Weak::clone(&self.host()),
            callback,
        );
        engine.between_commits(&mut |_, registry| registry.subscribe(Arc::downgrade(&mailbox)))?;
        Ok(Subscription::holding(
            Arc::clone(&mailbox.subscriber),
            mailbox,
        ))
    }

    /// Calls `callback` with what happens to the sources: initialized, updated, rejected,
    /// suspended, reconnected, removed.
    pub fn on_source_event(
        &self,
        callback: impl FnMut(&SourceEvent) + Send + 'static,
    ) -> Subscription {
        let host: Weak<dyn Host> = Weak::clone(&self.host());
        match self.0.engine.check_process() {
            Ok(()) => self.0.engine.health_registry.subscribe(host, callback),
            // In a fork there are no events.
            Err(_) => Subscription::new(Subscriber::new(host, Box::new(|| {}))),
        }
    }

    /// Sets a key in the override layer, which is stronger than all sources.
    ///
    /// # Errors
    ///
    /// As [`transaction`](Self::transaction).
    pub fn set(&self, key: &str, value: impl Into<Value>) -> Result<CommitOutcome, Error> {
        self.transaction(|tx| tx.set(key, value))
    }

    /// Takes a key and all below it out of the override layer, so that the sources show again.
    ///
    /// # Errors
    ///
    /// As [`transaction`](Self::transaction).
    pub fn remove(&self, key: &str) -> Result<CommitOutcome, Error> {
        self.transaction(|tx| tx.remove(key))
    }

    /// Writes several keys of the override layer as one: all become visible in one generation, or
    /// none does.
    ///
    /// ```
    /// use liveprops::{ErrorKind, Properties};
    ///
    /// let props = Properties::builder().build()?;
    /// props.transaction(|tx| {
    ///     tx.set("range.min", 1)?;
    ///     tx.set("range.max", 9)
    /// })?;
    /// let seen = props.generation();
    /// props.set("range.max", 10)?;
    /// let late = props.transaction(|tx| {
    ///     tx.if_generation(seen);
    ///     tx.set("range.max", 11)
    /// });
    /// assert_eq!(late.unwrap_err().kind(), ErrorKind::Conflict);
    /// # Ok::<(), liveprops::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Whatever `write` returns; [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) if a condition does not hold;
    /// [`ErrorKind::Rejected`](crate::ErrorKind::Rejected) or [`ErrorKind::Mismatch`](crate::ErrorKind::Mismatch), for all keys at once, if a validator or
    /// a live handle does not accept what would result; [`ErrorKind::Loop`](crate::ErrorKind::Loop) if callbacks trigger
    /// each other without end; [`ErrorKind::Reentrant`](crate::ErrorKind::Reentrant)
    /// [inside a validator](Self#inside-validators-and-decoders).
    pub fn transaction(
        &self,
        write: impl FnOnce(&mut Transaction) -> Result<(), Error>,
    ) -> Result<CommitOutcome, Error> {
        let mut transaction = Transaction::new(self.snapshot());
        write(&mut transaction)?;
        let (edits, conditions) = transaction.into_parts();
        self.0.engine.write(edits, conditions)
    }

    /// Adds a source, stronger than all others without a layer. Returns when its values are in
    /// force.
    ///
    /// # Errors
    ///
    /// Whatever its first load returns, or why its values are refused; the properties are then as
    /// they were. While a roll-back is in force, its values are judged as they would be without it.
    /// [`ErrorKind::Reentrant`](crate::ErrorKind::Reentrant) from inside a validator of any properties.
    pub fn add_source(&self, source: impl Source) -> Result<SourceId, Error> {
        self.add_source_in(Layer::new("sources", Layer::RANK), source)
    }

    /// Adds a source in a layer. Returns when its values are in force.
    ///
    /// # Errors
    ///
    /// As [`add_source`](Self::add_source); [`ErrorKind::Rejected`](crate::ErrorKind::Rejected) for
    /// the layer of a [bootstrap source](Builder::bootstrap), whose rank is reserved.
    pub fn add_source_in(&self, layer: Layer, source: impl Source) -> Result<SourceId, Error> {
        self.add(layer, Discard::new(Box::new(source)), DEFAULT_LOAD_TIMEOUT)
    }

    fn add(
        &self,
        layer: Layer,
        source: Discard<Box<dyn Source>>,
        timeout: Duration,
    ) -> Result<SourceId, Error> {
        let engine = &self.0.engine;
        engine.may_wait()?;
        engine.check_rank(None, &layer)?;
        let limits = Limits {
            propagation: self.0.max_propagation,
            load: timeout,
        };
        let mut started = Started::one(engine, layer, source, limits)?;
        started.recall(engine)?;
        let id = started.state.id;
        let mut loaded = match started.finish(after(timeout), false) {
            Ok(loaded) => loaded,
            Err(error) => {
                engine.give_up(id);
                return Err(error);
            }
        };
        let instead = loaded.instead().into_iter().collect();
        match engine.admit(vec![loaded.state.clone()], instead) {
            Ok(applied) => {
                if let Some(lost) = loaded.lost(engine, &applied) {
                    // It holds nothing, so hardly anything can be against that.
                    let _ = engine.commit(Command::Remove(id));
                    engine.give_up(id);
                    return Err(lost);
                }
                loaded.judged(engine, &applied);
                loaded.admitted(engine, applied.generation, applied.changed > 0);
                Ok(id)
            }
            Err(error) => {
                engine.give_up(id);
                Err(error)
            }
        }
    }

    /// Removes a source with its layer; what weaker layers say shows again.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if it is not there;
    /// [`ErrorKind::Rejected`](crate::ErrorKind::Rejected) for a
    /// [bootstrap source](Builder::bootstrap), which stays; why the tree without it is refused, for
    /// example because a live handle needs one of its keys. While a roll-back is in force, that is
    /// checked with the tree that [`unpin`](Self::unpin) would bring.
    pub fn remove_source(&self, id: SourceId) -> Result<CommitOutcome, Error> {
        let engine = &self.0.engine;
        engine.is_a_source(id)?;
        engine.check_rank(Some(id), &Layer::new("", Layer::RANK))?;
        let applied = engine.commit(Command::Remove(id))?;
        engine.forget(id);
        engine.health_registry.close(id, applied.generation);
        Ok(applied)
    }

    /// Moves a source to another layer. Within one rank it keeps its place by age.
    ///
    /// # Errors
    ///
    /// As [`remove_source`](Self::remove_source);
    /// [`ErrorKind::Rejected`](crate::ErrorKind::Rejected) also for the layer of a bootstrap source,
    /// whose rank is reserved.
    pub fn move_source(&self, id: SourceId, layer: Layer) -> Result<CommitOutcome, Error> {
        self.0.engine.is_a_source(id)?;
        self.0.engine.check_rank(Some(id), &layer)?;
        let applied = self.0.engine.commit(Command::Move(id, layer.clone()))?;
        self.0.engine.health_registry.moved(id, layer);
        Ok(applied)
    }

    /// Asks all sources again, now, and waits for what comes of it: when this returns, what they
    /// said is in force, or refused.
    ///
    /// Sources that are polled are loaded, those that watch begin their watch again, those that are
    /// loaded once, such as the environment, are loaded again; a source that pushes is always
    /// current. A call made while a poll runs waits for one more, and all calls made meanwhile share
    /// that one, so a source has twice the time that its [`Timing`](crate::source::Timing) gives one
    /// load. A watch that has not answered by then counts as one that hangs.
    ///
    /// # Errors
    ///
    /// Why sources did not answer, or what of theirs is refused, for all of them at once;
    /// [`ErrorKind::Reentrant`](crate::ErrorKind::Reentrant), at once and without asking any, from
    /// inside a validator of any properties, and from the thread of a source that would have to answer, where inline
    /// callbacks of its changes run.
    pub fn refresh_now(&self) -> Result<(), Error> {
        self.refresh(None)
    }

    /// Asks one source again, as [`refresh_now`](Self::refresh_now) asks all.
    ///
    /// # Errors
    ///
    /// As [`refresh_now`](Self::refresh_now); [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if it is not there.
    pub fn refresh_source(&self, id: SourceId) -> Result<(), Error> {
        self.refresh(Some(id))
    }

    fn refresh(&self, only: Option<SourceId>) -> Result<(), Error> {
        self.0.engine.may_wait()?;
        self.0.engine.supervisor.refresh(only)
    }

    /// Believes an update that is held because it takes away most of what its source said before;
    /// see [`RemovalGuard`](crate::source::RemovalGuard) and [`SourceHealth::held`](crate::health::SourceHealth::held).
    /// Only what the source says by now can be confirmed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if the source is not there or nothing of it
    /// is held; why the tree without those keys is refused.
    pub fn confirm(&self, id: SourceId) -> Result<CommitOutcome, Error> {
        self.0.engine.commit(Command::Confirm {
            source: id,
            by_time: false,
        })
    }

    /// The generations that are kept, see [`Builder::history`], the oldest first; the last is the one
    /// in force. Each of them can be rolled back to, also generation 0: a start without values.
    /// [`Snapshot::changes_since`] tells what one changed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Reentrant`](crate::ErrorKind::Reentrant) if called from inside a validator.
    pub fn history(&self) -> Result<Vec<Snapshot>, Error> {
        let kept = self.0.engine.history()?;
        Ok(kept.into_iter().map(Snapshot).collect())
    }

    /// Puts the tree of an earlier generation in force, as a generation of its own, until
    /// [`unpin`](Self::unpin): what the sources and the program say meanwhile waits in the layers.
    ///
    /// With a [`Builder::state_dir`] that survives a restart: the tree is on disk when this returns,
    /// but for its secrets, which are what the layers say then. The next start restores it as it was,
    /// below its own bootstrap values and above defaults that are new. If the tree
    /// cannot be written, [`CommitOutcome::refused`] has the error. If the next start rejects the tree,
    /// [`Health::refused`](crate::health::Health::refused) has the error, and each later start tries the
    /// tree again until [`unpin`](Self::unpin).
    ///
    /// ```
    /// use liveprops::{Properties, sources::Memory};
    ///
    /// let memory = Memory::from([("qps", 100)]);
    /// let props = Properties::builder().history(8).source(memory.clone()).build()?;
    /// let good = props.generation();
    /// memory.set("qps", 1)?; // a bad push
    /// props.rollback_to(good)?;
    /// memory.set("qps", 2)?; // and another
    /// assert_eq!(props.get::<u32>("qps")?, 100);
    /// props.unpin()?;
    /// assert_eq!(props.get::<u32>("qps")?, 2);
    /// # Ok::<(), liveprops::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if the generation is not kept; why its tree is refused, if a live
    /// handle or a validator does not accept it any more.
    pub fn rollback_to(&self, generation: u64) -> Result<CommitOutcome, Error> {
        self.0.engine.roll_back(Some(generation))
    }

    /// Ends [`rollback_to`](Self::rollback_to): what the layers say is in force again.
    ///
    /// # Errors
    ///
    /// Why that is refused, if it is; the tree then stays pinned.
    pub fn unpin(&self) -> Result<CommitOutcome, Error> {
        self.0.engine.roll_back(None)
    }

    /// What was rolled back to and is in force.
    pub fn pinned(&self) -> Option<Pinned> {
        self.0.engine.current.load().stamp.pinned
    }

    /// What would become of the tree if a source said this now; changes nothing.
    ///
    /// The way is that of an update that is committed: merging, references, decoding for the live
    /// handles, validators, the guard.
    ///
    /// # Errors
    ///
    /// Why it would be refused as a whole; [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if the source is not there.
    pub fn check(&self, source: SourceId, candidate: Document) -> Result<DryRun, Error> {
        let tried = self.0.engine.try_out(source, candidate)?;
        let snapshot = Snapshot(tried.after);
        Ok(DryRun {
            changes: snapshot.changes_since(&Snapshot(tried.before)),
            snapshot,
            refused: tried.refused,
            stale_properties: tried.stale.into_iter().map(StaleProperty::now).collect(),
        })
    }

    /// Waits until all keys have a value, or a table, at most `within`.
    ///
    /// It waits for commits and not for callbacks, so no stuck callback holds it up.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Timeout`](crate::ErrorKind::Timeout), which names the keys that are missing, after `within`;
    /// [`ErrorKind::InvalidKey`](crate::ErrorKind::InvalidKey) for a malformed key;
    /// [`ErrorKind::Reentrant`](crate::ErrorKind::Reentrant) from inside a validator of any properties.
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
        let bell = Arc::new(Bell::default());
        let listener: Weak<Bell> = Arc::downgrade(&bell);
        engine.commit_listeners.add(listener);
        let until = after(within);
        loop {
            bell.reset();
            let now = self.snapshot();
            let missing: Vec<&Key> = keys
                .iter()
                .filter(|key| !now.contains(key.as_str()))
                .collect();
            if missing.is_empty() {
                return Ok(());
            }
            // A commit may have come at the last moment: what is there in the end counts.
            if Instant::now() >= until {
                let names: Vec<String> = missing.iter().map(|key| format!("`{key}`")).collect();
                let detail = format!("still missing after {within:?}: {}", names.join(", "));
                return Err(Error::new(ErrorKind::Timeout, detail));
            }
            bell.wait(Some(until));
        }
    }

    /// How the whole is doing, which is cheaper to ask than [`health`](Self::health).
    ///
    /// In a fork of the process that built the properties it is [`Status::Stale`].
    pub fn status(&self) -> Status {
        let engine = &self.0.engine;
        match engine.check_process() {
            Ok(()) => engine.health_registry.status(engine.dispatcher.starved()),
            Err(reason) => Status::in_a_fork(reason),
        }
    }

    /// How the sources are doing, what was refused, and how many callbacks panicked.
    ///
    /// In a fork of the process that built the properties it is [`Status::Stale`] and names no
    /// source.
    pub fn health(&self) -> Health {
        let engine = &self.0.engine;
        let generation = self.generation();
        match engine.check_process() {
            Ok(()) => {
                let callbacks = CallbackHealth {
                    panics: engine.dispatcher.panics(),
                    starved: engine.dispatcher.starved(),
                };
                let mut health = engine
                    .health_registry
                    .health(&engine.current.full(), callbacks);
                engine.add_hints(&mut health);
                health
            }
            Err(reason) => Health::in_a_fork(generation, engine.dispatcher.panics(), reason),
        }
    }
}

/// What would become of the tree; see [`Properties::check`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DryRun {
    /// The tree that would be in force.
    pub snapshot: Snapshot,
    /// What would change.
    pub changes: Vec<KeyChange>,
    /// The keys that would be refused, with the reason, while the rest is taken.
    pub refused: Vec<Error>,
    /// The live handles that would keep their last good value, since a reference is unresolved.
    pub stale_properties: Vec<StaleProperty>,
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Properties")
            .field("generation", &self.generation())
            .finish_non_exhaustive()
    }
}
