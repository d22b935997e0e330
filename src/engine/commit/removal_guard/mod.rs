//! Withholds updates that would remove most of a layer's keys.
//!
//! An expired bucket, a wiped prefix and an unmounted directory all look like a mass removal. So an update
//! of a guarded source that removes too many keys is withheld. The update is accepted once the source has
//! repeated it for [`RemovalGuard::accept_after`], or once the program confirms it. It is discarded when the
//! keys return.
//!
//! A store may be restored key by key. So while an update of such a source is withheld, the guard lets no
//! key go: an update that still lacks one of the withheld keys is withheld too, however few it lacks. A
//! document is replaced at once, so a document within the limits ends the withholding.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use crate::engine::clock::Clock;
use crate::engine::commit::removal::{REMOVAL_WINDOW, Removal, Return, WithheldKeys};
use crate::engine::health::WithheldRemoval;
use crate::engine::health::registry::PendingRemoval;
use crate::error::Error;
use crate::source::{Content, RejectionScope, RemovalGuard, Update};
use crate::tree::diff;
use crate::tree::layer::SourceId;
use crate::value::node::Table;

/// The shortest pause before a retry of an update that the guard lets pass and the commit rejects.
const MIN_RETRY_DELAY: Duration = Duration::from_secs(1);

/// The state of the removal guard for each guarded source.
#[derive(Debug)]
pub(crate) struct RemovalGuards {
    clock: Clock,
    sources: HashMap<SourceId, GuardedSource>,
}

#[derive(Debug)]
struct GuardedSource {
    limits: RemovalGuard,
    delivery: Delivery,
    rejection_scope: RejectionScope,
    /// The layer as it was when the current window ([`REMOVAL_WINDOW`]) started. The removals of a window
    /// count together.
    baseline: Table,
    window_start: Instant,
    state: GuardState,
}

/// How a source delivers its data, which decides what counts as repeating an update.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Delivery {
    /// Each answer, full or delta, states what the source wants now. So the next answer repeats a withheld
    /// update.
    Polled,
    /// The last update stays valid until the source sends another one.
    Streamed,
}

#[derive(Debug)]
enum GuardState {
    Normal,
    /// An update within the limits followed a withheld one. Once it is committed, its layer becomes the
    /// baseline of a new window.
    Recovering,
    Withheld(WithheldUpdate),
}

#[derive(Debug)]
struct WithheldUpdate {
    /// The layer that the update would produce.
    wanted_layer: Table,
    keys: WithheldKeys,
    /// Since when the source has wanted it without a failure, and without the return of a withheld key.
    repeated_since: Instant,
    /// The removal, and when to accept it without another update; never if the source has to repeat it.
    pending: PendingRemoval,
}

/// How the guard treats an update.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum UpdateKind {
    Full,
    Delta,
    /// The source undoes the update itself if it is rejected. So the guard rejects it and keeps nothing.
    SelfReverting,
}

/// What the guard lets pass.
#[derive(Debug)]
pub(crate) enum Passed {
    Whole,
    /// The update without its removals, which are few; some of them were withheld before.
    WithoutRemovals {
        /// The layer that the update would produce, with the keys in force that it lacks.
        kept_layer: Table,
        withheld: Error,
    },
}

impl Passed {
    /// The layer to commit, and the error for the removals that are withheld from it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Withheld`] if a source commits its updates as a whole, and the guard withholds a part of
    /// a delta.
    pub(super) fn in_scope(
        self,
        wanted_layer: Table,
        rejection_scope: RejectionScope,
    ) -> Result<(Table, Option<Error>), Error> {
        match (self, rejection_scope) {
            (Passed::Whole, _) => Ok((wanted_layer, None)),
            (Passed::WithoutRemovals { withheld, .. }, RejectionScope::Whole) => Err(withheld),
            (
                Passed::WithoutRemovals {
                    kept_layer,
                    withheld,
                },
                RejectionScope::PerKey,
            ) => Ok((kept_layer, Some(withheld))),
        }
    }
}

impl UpdateKind {
    pub(super) fn of(update: &Update) -> Self {
        if update.undone {
            return UpdateKind::SelfReverting;
        }
        match &update.content {
            Content::Full(_) => UpdateKind::Full,
            Content::Delta(_) => UpdateKind::Delta,
        }
    }
}

impl GuardedSource {
    /// Whether the layer in force becomes the baseline. An empty baseline protects nothing. While an update is
    /// withheld, the window stays open, so that the removal is not forgotten.
    fn needs_new_window(&self, now: Instant) -> bool {
        let is_over = || now.saturating_duration_since(self.window_start) >= REMOVAL_WINDOW;
        self.baseline.is_empty() || (self.withheld_update().is_none() && is_over())
    }

    fn start_window(&mut self, baseline: &Table, now: Instant) {
        (self.baseline, self.window_start) = (baseline.clone(), now);
    }

    fn withheld_update(&self) -> Option<&WithheldUpdate> {
        match &self.state {
            GuardState::Withheld(withheld) => Some(withheld),
            GuardState::Normal | GuardState::Recovering => None,
        }
    }

    fn withheld_update_mut(&mut self) -> Option<&mut WithheldUpdate> {
        match &mut self.state {
            GuardState::Withheld(withheld) => Some(withheld),
            GuardState::Normal | GuardState::Recovering => None,
        }
    }

    /// Which of the withheld keys an update brings back.
    fn returned(&self, wanted_layer: &Table) -> Return {
        self.withheld_update()
            .map_or_else(Return::default, |withheld| {
                withheld.keys.returned(wanted_layer)
            })
    }

    /// The removal of an update that the guard does not let pass at once.
    fn removal(&self, tables: [&Table; 3], returned: Return, kind: UpdateKind) -> Option<Removal> {
        let [_, current, wanted_layer] = tables;
        // A full update of a document is no step of a restore.
        let may_be_a_step =
            self.rejection_scope == RejectionScope::PerKey || kind == UpdateKind::Delta;
        Removal::excessive(&self.limits, tables).or_else(|| {
            (returned.is_partial && may_be_a_step).then(|| Removal::of(current, wanted_layer))
        })
    }

    /// Whether the source has repeated an update long enough, if it repeats it now. An update with a
    /// returned key repeats nothing.
    fn was_repeated_long_enough(&self, now: Instant, returned: Return) -> bool {
        if returned.has_any {
            return false;
        }
        let since = self
            .withheld_update()
            .map_or(now, |withheld| withheld.repeated_since);
        let repeated_for = now.saturating_duration_since(since);
        let accept_after = self.limits.repeated;
        accept_after.is_some_and(|accept_after| repeated_for >= accept_after)
    }

    /// Discards or changes the withheld update after an update that passes.
    fn amend_withheld_update(&mut self, wanted_layer: &Table, kind: UpdateKind) {
        let Some(withheld) = self.withheld_update_mut() else {
            return;
        };
        match kind {
            // The source no longer wants the removal.
            UpdateKind::Full => self.state = GuardState::Recovering,
            // A delta applies to the withheld layer, so the removal is still wanted.
            UpdateKind::Delta => {
                withheld.wanted_layer = wanted_layer.clone();
                withheld.keys.remove_returned(wanted_layer);
            }
            UpdateKind::SelfReverting => {}
        }
    }

    fn withhold(
        &mut self,
        [current, wanted_layer]: [&Table; 2],
        removal: &Removal,
        repeated_since: Instant,
    ) {
        let (first_withheld_at, mut keys) =
            match std::mem::replace(&mut self.state, GuardState::Normal) {
                GuardState::Withheld(before) => (before.pending.removal.since, before.keys),
                GuardState::Normal | GuardState::Recovering => {
                    (SystemTime::now(), WithheldKeys::new(current))
                }
            };
        keys.remove_returned(wanted_layer);
        if removal.is_excessive {
            keys.add_removed(wanted_layer);
        }
        let accept_after = match self.delivery {
            Delivery::Polled => None,
            Delivery::Streamed => self.limits.repeated,
        };
        self.state = GuardState::Withheld(WithheldUpdate {
            wanted_layer: wanted_layer.clone(),
            keys,
            repeated_since,
            pending: PendingRemoval {
                removal: WithheldRemoval {
                    removed: removal.removed,
                    total: removal.total,
                    since: first_withheld_at,
                },
                accept_at: accept_after.and_then(|after| repeated_since.checked_add(after)),
            },
        });
    }
}

impl Removal {
    /// An update without this removal. Fails if the removal is excessive: the rest of such an update may be
    /// wrong as well.
    fn without_removed(&self, current: &Table, wanted_layer: &Table) -> Result<Passed, Error> {
        let withheld = self.withheld_error();
        if self.is_excessive {
            return Err(withheld);
        }
        Ok(Passed::WithoutRemovals {
            kept_layer: diff::with_removed(current, wanted_layer),
            withheld,
        })
    }
}

impl RemovalGuards {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            clock,
            sources: HashMap::new(),
        }
    }

    /// Guards a source from now on.
    pub(crate) fn add(
        &mut self,
        source: SourceId,
        limits: RemovalGuard,
        delivery: Delivery,
        rejection_scope: RejectionScope,
    ) {
        let guarded = GuardedSource {
            limits,
            delivery,
            rejection_scope,
            baseline: Table::default(),
            window_start: self.clock.now(),
            state: GuardState::Normal,
        };
        self.sources.insert(source, guarded);
    }

    pub(crate) fn remove(&mut self, source: SourceId) {
        self.sources.remove(&source);
    }

    /// Forgets the baseline and the withheld update of a source. Call it when none of its values is in force.
    pub(crate) fn reset(&mut self, source: SourceId) {
        if let Some(guarded) = self.sources.get_mut(&source) {
            (guarded.baseline, guarded.state) = (Table::default(), GuardState::Normal);
        }
    }

    pub(crate) fn is_guarded(&self, source: SourceId) -> bool {
        self.sources.contains_key(&source)
    }

    fn withheld_update(&self, source: SourceId) -> Option<&WithheldUpdate> {
        self.sources.get(&source)?.withheld_update()
    }

    /// The removal of the withheld update of a source.
    pub(crate) fn pending_removal(&self, source: SourceId) -> Option<PendingRemoval> {
        Some(self.withheld_update(source)?.pending)
    }

    /// The layer that the withheld update of a source would produce.
    pub(crate) fn wanted_layer(&self, source: SourceId) -> Option<&Table> {
        Some(&self.withheld_update(source)?.wanted_layer)
    }

    /// Returns the layer that a delta of a source applies to, if that is not the layer in force. A polled
    /// source reports relative to the layer in force.
    pub(crate) fn delta_base(&self, source: SourceId) -> Option<&Table> {
        let guarded = self.sources.get(&source)?;
        let withheld = guarded.withheld_update()?;
        (guarded.delivery == Delivery::Streamed).then_some(&withheld.wanted_layer)
    }

    /// Lets an update pass, or withholds or rejects it.
    ///
    /// `current` is the layer in force and `wanted_layer` the layer that the update would produce. A
    /// withheld update that the source no longer wants is discarded in either case.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Withheld`] if the update would remove more keys than the guard allows, and the source has
    /// not repeated it for [`RemovalGuard::accept_after`].
    pub(crate) fn check(
        &mut self,
        source: SourceId,
        current: &Table,
        wanted_layer: &Table,
        kind: UpdateKind,
    ) -> Result<Passed, Error> {
        let now = self.clock.now();
        let Some(guarded) = self.sources.get_mut(&source) else {
            return Ok(Passed::Whole);
        };
        if guarded.needs_new_window(now) {
            guarded.start_window(current, now);
        }
        let kind = match (kind, guarded.delivery) {
            // A polled delta applies to the layer in force, so the keys that it leaves unchanged are wanted.
            (UpdateKind::Delta, Delivery::Polled) => UpdateKind::Full,
            (kind, _) => kind,
        };
        let returned = guarded.returned(wanted_layer);
        let tables = [&guarded.baseline, current, wanted_layer];
        let Some(removal) = guarded.removal(tables, returned, kind) else {
            guarded.amend_withheld_update(wanted_layer, kind);
            return Ok(Passed::Whole);
        };
        let is_accepted = guarded.was_repeated_long_enough(now, returned);
        if kind == UpdateKind::SelfReverting {
            return if is_accepted {
                Ok(Passed::Whole)
            } else {
                Err(removal.rejected_error())
            };
        }
        // The commit may still reject an update that the guard lets pass. It stays withheld until
        // `record_accepted`.
        let before = guarded
            .withheld_update()
            .map(|before| before.repeated_since);
        if !is_accepted || before.is_some() {
            let repeated_since = before.filter(|_| !returned.has_any).unwrap_or(now);
            guarded.withhold([current, wanted_layer], &removal, repeated_since);
        }
        if is_accepted {
            Ok(Passed::Whole)
        } else {
            removal.without_removed(current, wanted_layer)
        }
    }

    /// Returns what [`check`](Self::check) would return for a full update; changes nothing.
    pub(crate) fn dry_check(
        &self,
        source: SourceId,
        current: &Table,
        wanted_layer: &Table,
    ) -> Result<Passed, Error> {
        let now = self.clock.now();
        let Some(guarded) = self.sources.get(&source) else {
            return Ok(Passed::Whole);
        };
        let baseline = if guarded.needs_new_window(now) {
            current
        } else {
            &guarded.baseline
        };
        let returned = guarded.returned(wanted_layer);
        let tables = [baseline, current, wanted_layer];
        match guarded.removal(tables, returned, UpdateKind::Full) {
            Some(removal) if !guarded.was_repeated_long_enough(now, returned) => {
                removal.without_removed(current, wanted_layer)
            }
            _ => Ok(Passed::Whole),
        }
    }

    /// Records that a commit put this layer in force: no update of the source is withheld, and a pending window
    /// starts.
    pub(crate) fn record_accepted(&mut self, source: SourceId, layer: &Table) {
        let now = self.clock.now();
        if let Some(guarded) = self.sources.get_mut(&source) {
            let state = std::mem::replace(&mut guarded.state, GuardState::Normal);
            if !matches!(state, GuardState::Normal) || guarded.baseline.is_empty() {
                guarded.start_window(layer, now);
            }
        }
    }

    /// Records that a source has failed since it sent the withheld update: the time for which it must
    /// repeat the update starts again.
    pub(crate) fn record_interruption(&mut self, source: SourceId) {
        let now = self.clock.now();
        let guarded = self.sources.get_mut(&source);
        if let Some(withheld) = guarded.and_then(GuardedSource::withheld_update_mut) {
            // The scheduled acceptance may now be too early: the check at that time withholds the update again.
            withheld.repeated_since = now;
        }
    }

    /// Schedules a retry for an update that was due for acceptance and was rejected for another reason.
    pub(crate) fn schedule_retry(&mut self, source: SourceId) {
        let now = self.clock.now();
        let Some(guarded) = self.sources.get_mut(&source) else {
            return;
        };
        let pause = guarded
            .limits
            .repeated
            .map(|after| after.max(MIN_RETRY_DELAY));
        if let Some(withheld) = guarded.withheld_update_mut() {
            withheld.pending.accept_at = pause.and_then(|pause| now.checked_add(pause));
        }
    }
}

#[cfg(test)]
mod tests;
