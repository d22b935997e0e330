//! Adds, removes, moves and refreshes the sources of [`Properties`].

use std::time::{Duration, Instant};

use crate::engine::commit::Command;
use crate::engine::health::StaleProperty;
use crate::error::Error;
#[cfg(doc)]
use crate::error::ErrorKind;
use crate::properties::Properties;
use crate::properties::builder::DEFAULT_LOAD_TIMEOUT;
use crate::properties::start::{StartLimits, Started, deadline_after};
use crate::source::{CommitOutcome, Source};
use crate::sync::discard::Discard;
use crate::tree::change::KeyChange;
use crate::tree::layer::{Layer, SourceId};
use crate::tree::snapshot::Snapshot;
use crate::value::document::Document;

impl Properties {
    /// Adds a source that overrides all others of the rank [`Layer::RANK`], and returns when its values
    /// are in force.
    ///
    /// # Errors
    ///
    /// The properties stay as they were.
    ///
    /// - The error of its first load, such as [`ErrorKind::Unavailable`], or [`ErrorKind::Timeout`] after
    ///   10 seconds.
    /// - [`ErrorKind::Rejected`], [`ErrorKind::Mismatch`] or [`ErrorKind::NotFound`] if a validator, the
    ///   schema or a live handle does not accept its values. While a roll-back is in force, they are
    ///   checked as they would be without it.
    /// - [`ErrorKind::InvalidConfig`] if its changes may be seen later than
    ///   [`Builder::max_propagation`](crate::Builder::max_propagation) allows.
    /// - [`ErrorKind::Reentrant`] inside a validator of any properties, and [`ErrorKind::Closed`] in a
    ///   fork.
    ///
    /// ```
    /// use liveprops::{Properties, sources::Memory};
    ///
    /// let props = Properties::builder().source(Memory::from([("qps", 100)])).build()?;
    /// let id = props.add_source(Memory::from([("qps", 500)]))?;
    /// assert_eq!(props.get::<u32>("qps")?, 500);
    /// props.remove_source(id)?;
    /// assert_eq!(props.get::<u32>("qps")?, 100);
    /// # Ok::<(), liveprops::Error>(())
    /// ```
    pub fn add_source(&self, source: impl Source) -> Result<SourceId, Error> {
        self.add_source_in(Layer::new("sources", Layer::RANK), source)
    }

    /// Adds a source in a layer, and returns when its values are in force. The higher rank wins, and
    /// within one rank the source that was added later.
    ///
    /// # Errors
    ///
    /// The properties stay as they were.
    ///
    /// - The error of its first load, such as [`ErrorKind::Unavailable`], or [`ErrorKind::Timeout`] after
    ///   10 seconds.
    /// - [`ErrorKind::Rejected`], [`ErrorKind::Mismatch`] or [`ErrorKind::NotFound`] if a validator, the
    ///   schema or a live handle does not accept its values. While a roll-back is in force, they are
    ///   checked as they would be without it.
    /// - [`ErrorKind::InvalidConfig`] if its changes may be seen later than
    ///   [`Builder::max_propagation`](crate::Builder::max_propagation) allows.
    /// - [`ErrorKind::Reentrant`] inside a validator of any properties, and [`ErrorKind::Closed`] in a
    ///   fork.
    /// - [`ErrorKind::Rejected`] for the layer of a [bootstrap source](crate::Builder::bootstrap), whose
    ///   rank is reserved.
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
        let limits = StartLimits {
            propagation: self.0.max_propagation,
            load: timeout,
        };
        let mut started = Started::start(engine, layer, source, limits)?;
        started.restore()?;
        let id = started.state.id;
        self.admit(started, deadline_after(timeout))
            .inspect_err(|_| engine.abandon(id))?;
        Ok(id)
    }

    /// Waits for the first values of a source, and commits them.
    fn admit(&self, started: Started, deadline: Instant) -> Result<(), Error> {
        let engine = &self.0.engine;
        let loaded = started.finish(deadline, false)?;
        let fallbacks = loaded.fallback().into_iter().collect();
        let outcome = engine.admit(vec![loaded.state.clone()], fallbacks)?;
        if let Some(rejected) = loaded.report_rejected_restore(engine, &outcome) {
            // The layer is empty, so hardly anything can depend on it.
            let _ = engine.commit(Command::Remove(loaded.state.id));
            return Err(rejected);
        }
        loaded.record_admission(engine, &outcome, outcome.changed > 0);
        Ok(())
    }

    /// Removes a source with its layer, so that the values of weaker layers show.
    ///
    /// # Errors
    ///
    /// The source stays.
    ///
    /// - [`ErrorKind::NotFound`] if there is no such source, and [`ErrorKind::Closed`] in a fork.
    /// - [`ErrorKind::Rejected`] for a [bootstrap source](crate::Builder::bootstrap), and for the override
    ///   layer.
    /// - [`ErrorKind::Rejected`], [`ErrorKind::Mismatch`] or [`ErrorKind::NotFound`] if a validator, the
    ///   schema or a live handle does not accept the tree without it. While a roll-back is in force, that
    ///   is the tree that [`unpin`](Self::unpin) would publish.
    /// - [`ErrorKind::Reentrant`] inside a validator of the same properties.
    pub fn remove_source(&self, id: SourceId) -> Result<CommitOutcome, Error> {
        let engine = &self.0.engine;
        engine.check_is_source(id)?;
        engine.check_rank(Some(id), &Layer::new("", Layer::RANK))?;
        let outcome = engine.commit(Command::Remove(id))?;
        engine.remove_source(id);
        engine.health_registry.remove(id, outcome.generation);
        Ok(outcome)
    }

    /// Moves a source to another layer. Within one rank the source that was added later wins.
    ///
    /// # Errors
    ///
    /// The source stays where it is.
    ///
    /// - [`ErrorKind::NotFound`] if there is no such source, and [`ErrorKind::Closed`] in a fork.
    /// - [`ErrorKind::Rejected`] for a [bootstrap source](crate::Builder::bootstrap), for the layer of
    ///   one, whose rank is reserved, and for the override layer.
    /// - [`ErrorKind::Rejected`], [`ErrorKind::Mismatch`] or [`ErrorKind::NotFound`] if a validator, the
    ///   schema or a live handle does not accept the resulting tree.
    /// - [`ErrorKind::Reentrant`] inside a validator of the same properties.
    pub fn move_source(&self, id: SourceId, layer: Layer) -> Result<CommitOutcome, Error> {
        self.0.engine.check_is_source(id)?;
        self.0.engine.check_rank(Some(id), &layer)?;
        let outcome = self.0.engine.commit(Command::Move(id, layer.clone()))?;
        self.0.engine.health_registry.set_layer(id, layer);
        Ok(outcome)
    }

    /// Loads all sources again, now, and waits for the outcome: when this returns, their values are in
    /// force, or rejected.
    ///
    /// Sources that are polled load, those that watch begin their watch again, and those that are loaded
    /// once, such as the environment, load again. A source that pushes is always current. A call made
    /// while a poll runs waits for one more, and all calls made meanwhile share that one. So a source has
    /// twice the time that its [`Timing`](crate::source::Timing) gives one load. A watch without an answer
    /// by then counts as one that hangs.
    ///
    /// # Errors
    ///
    /// One error for all sources; see [`Error::iter`].
    ///
    /// - The error of a source that did not load, such as [`ErrorKind::Unavailable`] or
    ///   [`ErrorKind::Timeout`].
    /// - [`ErrorKind::Rejected`], [`ErrorKind::Mismatch`] or [`ErrorKind::NotFound`] for values that are
    ///   not accepted.
    /// - [`ErrorKind::Reentrant`], before any load, inside a validator of any properties, and on the
    ///   thread of a source that would have to load, where inline callbacks of its changes run.
    /// - [`ErrorKind::Closed`] in a fork.
    pub fn refresh_now(&self) -> Result<(), Error> {
        self.refresh(None)
    }

    /// Loads one source again, now, and waits for the outcome, as [`refresh_now`](Self::refresh_now)
    /// does for all.
    ///
    /// # Errors
    ///
    /// - The error of a source that did not load, such as [`ErrorKind::Unavailable`] or
    ///   [`ErrorKind::Timeout`].
    /// - [`ErrorKind::Rejected`], [`ErrorKind::Mismatch`] or [`ErrorKind::NotFound`] for values that are
    ///   not accepted.
    /// - [`ErrorKind::Reentrant`], before any load, inside a validator of any properties, and on the
    ///   thread of a source that would have to load, where inline callbacks of its changes run.
    /// - [`ErrorKind::NotFound`] if there is no such source, and [`ErrorKind::Closed`] in a fork.
    pub fn refresh_source(&self, id: SourceId) -> Result<(), Error> {
        self.refresh(Some(id))
    }

    fn refresh(&self, only: Option<SourceId>) -> Result<(), Error> {
        self.0.engine.may_wait()?;
        self.0.engine.supervisor.refresh(only)
    }

    /// Accepts an update that is withheld because it removes most of the keys of its source; see
    /// [`RemovalGuard`](crate::source::RemovalGuard) and
    /// [`SourceHealth::withheld`](crate::health::SourceHealth::withheld). It accepts the latest state of the
    /// source, and no earlier one.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::NotFound`] if there is no such source, or no update of it is withheld.
    /// - [`ErrorKind::Closed`] in a fork.
    /// - [`ErrorKind::Rejected`], [`ErrorKind::Mismatch`] or [`ErrorKind::NotFound`] if a validator, the
    ///   schema or a live handle does not accept the tree without those keys.
    /// - [`ErrorKind::Reentrant`] inside a validator of the same properties.
    pub fn confirm(&self, id: SourceId) -> Result<CommitOutcome, Error> {
        self.0.engine.commit(Command::Confirm(id))
    }

    /// Returns what a commit of `candidate` as the values of a source would do, and changes nothing.
    ///
    /// The candidate goes through all steps of a commit: the removal guard, merging, references, decoding
    /// for the live handles, and validators.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::NotFound`] if there is no such source, and [`ErrorKind::Closed`] in a fork.
    /// - [`ErrorKind::Rejected`], [`ErrorKind::Mismatch`] or [`ErrorKind::NotFound`] if the candidate
    ///   would be rejected as a whole, and [`ErrorKind::Withheld`] if the removal guard would withhold it
    ///   as a whole.
    /// - [`ErrorKind::Reentrant`] inside a validator of the same properties.
    ///
    /// ```
    /// use liveprops::{Document, Origin, Properties, sources::Memory};
    ///
    /// let props = Properties::builder().source(Memory::from([("qps", 100)])).build()?;
    /// let source = props.health().sources[0].source;
    /// let mut candidate = Document::new();
    /// candidate.set("qps", 500, Origin::new("editor", "draft"))?;
    /// let dry_run = props.check(source, candidate)?;
    /// assert_eq!(dry_run.changes[0].to_string(), "qps: 100 -> 500 (editor draft)");
    /// assert_eq!(props.get::<u32>("qps")?, 100);
    /// # Ok::<(), liveprops::Error>(())
    /// ```
    pub fn check(&self, source: SourceId, candidate: Document) -> Result<DryRun, Error> {
        let tried = self.0.engine.dry_run(source, candidate)?;
        let snapshot = Snapshot(tried.after);
        Ok(DryRun {
            changes: snapshot.changes_since(&Snapshot(tried.before)),
            snapshot,
            rejected: tried.rejected,
            stale_properties: tried.stale.into_iter().map(StaleProperty::now).collect(),
        })
    }
}

/// What a commit would do; see [`Properties::check`].
///
/// ```
/// use liveprops::{Document, Properties, sources::Memory};
///
/// let props = Properties::builder().source(Memory::from([("qps", 100)])).build()?;
/// let source = props.health().sources[0].source;
/// let dry_run = props.check(source, Document::new())?; // what if it had no values?
/// assert_eq!(dry_run.changes.len(), 1);
/// assert!(!dry_run.snapshot.contains("qps") && dry_run.rejected.is_empty());
/// # Ok::<(), liveprops::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DryRun {
    /// The tree that would be in force.
    pub snapshot: Snapshot,
    /// What would change.
    pub changes: Vec<KeyChange>,
    /// The keys that would be rejected, with the reason, while the others would be accepted.
    pub rejected: Vec<Error>,
    /// The live handles that would keep their last good value, because a reference is unresolved.
    pub stale_properties: Vec<StaleProperty>,
}
