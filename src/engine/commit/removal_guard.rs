//! Withholds updates that would remove most of a layer's keys.
//!
//! An expired bucket, a wiped prefix and an unmounted directory all look like a mass removal. So an update
//! of a guarded source that removes too many keys is withheld. The update is accepted once the source has
//! repeated it for [`RemovalGuard::accept_after`], or once the program confirms it. It is discarded when the
//! keys return.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use crate::engine::clock::Clock;
use crate::engine::commit::removal::{REMOVAL_WINDOW, Removal};
use crate::engine::health::WithheldRemoval;
use crate::engine::health::registry::PendingRemoval;
use crate::error::Error;
use crate::source::{Content, RemovalGuard, Update};
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
    /// Since when the source has wanted it without a failure in between.
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

    fn was_repeated_long_enough(&self, now: Instant) -> bool {
        let since = self
            .withheld_update()
            .map_or(now, |withheld| withheld.repeated_since);
        let repeated_for = now.saturating_duration_since(since);
        let accept_after = self.limits.repeated;
        accept_after.is_some_and(|accept_after| repeated_for >= accept_after)
    }

    /// Discards or changes the withheld update after an update that removes few keys.
    fn amend_withheld_update(&mut self, wanted_layer: &Table, kind: UpdateKind) {
        let Some(withheld) = self.withheld_update_mut() else {
            return;
        };
        match kind {
            // The source no longer wants the removal.
            UpdateKind::Full => self.state = GuardState::Recovering,
            // A delta applies to the withheld layer, so the removal is still wanted.
            UpdateKind::Delta => withheld.wanted_layer = wanted_layer.clone(),
            UpdateKind::SelfReverting => {}
        }
    }

    fn withhold(&mut self, wanted_layer: Table, removal: &Removal, now: Instant) {
        let (repeated_since, first_withheld_at) = match self.withheld_update() {
            Some(before) => (before.repeated_since, before.pending.removal.since),
            None => (now, SystemTime::now()),
        };
        let accept_after = match self.delivery {
            Delivery::Polled => None,
            Delivery::Streamed => self.limits.repeated,
        };
        self.state = GuardState::Withheld(WithheldUpdate {
            wanted_layer,
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

impl RemovalGuards {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            clock,
            sources: HashMap::new(),
        }
    }

    /// Guards a source from now on.
    pub(crate) fn add(&mut self, source: SourceId, limits: RemovalGuard, delivery: Delivery) {
        let guarded = GuardedSource {
            limits,
            delivery,
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
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let Some(guarded) = self.sources.get_mut(&source) else {
            return Ok(());
        };
        if guarded.needs_new_window(now) {
            guarded.start_window(current, now);
        }
        let kind = match (kind, guarded.delivery) {
            // A polled delta applies to the layer in force, so the keys that it leaves unchanged are wanted.
            (UpdateKind::Delta, Delivery::Polled) => UpdateKind::Full,
            (kind, _) => kind,
        };
        let Some(removal) =
            Removal::excessive(&guarded.limits, [&guarded.baseline, current, wanted_layer])
        else {
            guarded.amend_withheld_update(wanted_layer, kind);
            return Ok(());
        };
        let is_accepted = guarded.was_repeated_long_enough(now);
        if kind == UpdateKind::SelfReverting {
            return if is_accepted {
                Ok(())
            } else {
                Err(removal.rejected_error())
            };
        }
        // The commit may still reject an update that the guard lets pass. It stays withheld until
        // `record_accepted`.
        if !is_accepted || guarded.withheld_update().is_some() {
            guarded.withhold(wanted_layer.clone(), &removal, now);
        }
        if is_accepted {
            Ok(())
        } else {
            Err(removal.withheld_error())
        }
    }

    /// Returns what [`check`](Self::check) would return for a full update; changes nothing.
    pub(crate) fn dry_check(
        &self,
        source: SourceId,
        current: &Table,
        wanted_layer: &Table,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let Some(guarded) = self.sources.get(&source) else {
            return Ok(());
        };
        let baseline = if guarded.needs_new_window(now) {
            current
        } else {
            &guarded.baseline
        };
        match Removal::excessive(&guarded.limits, [baseline, current, wanted_layer]) {
            Some(removal) if !guarded.was_repeated_long_enough(now) => {
                Err(removal.withheld_error())
            }
            _ => Ok(()),
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
mod tests {
    use super::*;
    use crate::engine::clock::FakeClock;
    use crate::value::document::Document;
    use crate::value::origin::Origin;

    const SOURCE: SourceId = SourceId(7);

    fn keys(of: std::ops::Range<u32>) -> Table {
        let mut document = Document::new();
        for n in of {
            let origin = Origin::new("store", "test");
            document.set(&format!("k{n}"), 1, origin).unwrap();
        }
        document.into_parts().0
    }

    #[test]
    fn a_withheld_removal_names_the_first_of_its_keys() {
        let mut guards = RemovalGuards::new(FakeClock::new().1);
        guards.add(SOURCE, RemovalGuard::new(), Delivery::Polled);
        let mut check =
            |next: u32| guards.check(SOURCE, &keys(0..9), &keys(next..9), UpdateKind::Full);
        let text = check(9).unwrap_err().to_string();
        assert!(
            text.contains("9 of 9 keys (`k0`, `k1`, `k2`, ...)"),
            "{text}"
        );
        let mut guards = RemovalGuards::new(FakeClock::new().1);
        guards.add(SOURCE, RemovalGuard::new(), Delivery::Polled);
        let error = guards.check(SOURCE, &keys(4..5), &keys(0..0), UpdateKind::Full);
        let text = error.unwrap_err().to_string();
        assert!(text.contains("1 of 1 keys (`k4`)"), "{text}");
    }

    #[test]
    fn removals_within_ten_seconds_count_together_and_later_ones_do_not() {
        let (fake, clock) = FakeClock::new();
        let mut guards = RemovalGuards::new(clock);
        guards.add(SOURCE, RemovalGuard::new(), Delivery::Polled);
        let mut check = |before: u32, next: u32| {
            let checked = guards.check(SOURCE, &keys(0..before), &keys(0..next), UpdateKind::Full);
            checked.is_ok()
        };
        assert!(check(20, 12), "8 of 20");
        fake.advance(Duration::from_millis(9_999));
        assert!(!check(12, 9), "11 of 20");
        // Back, and the window is over.
        assert!(check(12, 12));
        fake.advance(Duration::from_millis(1));
        assert!(check(12, 9), "3 of 12");
        assert!(!check(9, 4), "8 of 12");
    }

    /// Whether the first update that leaves `next` of `before` keys is accepted.
    fn accepts(guard: RemovalGuard, before: u32, next: u32) -> bool {
        let mut guards = RemovalGuards::new(Clock::default());
        guards.add(SOURCE, guard, Delivery::Polled);
        let checked = guards.check(SOURCE, &keys(0..before), &keys(0..next), UpdateKind::Full);
        let tried = guards.dry_check(SOURCE, &keys(0..before), &keys(0..next));
        assert_eq!(checked.is_ok(), tried.is_ok(), "a dry run agrees");
        checked.is_ok()
    }

    #[test]
    fn exactly_the_share_may_go_and_one_key_more_may_not() {
        for (before, most) in [(8, 4), (9, 4), (20, 10), (101, 50)] {
            assert!(
                accepts(RemovalGuard::new(), before, before - most),
                "{most} of {before}"
            );
            assert!(
                !accepts(RemovalGuard::new(), before, before - most - 1),
                "{most} + 1 of {before}"
            );
        }
        let quarter = RemovalGuard::new().max_removed_ratio(0.25);
        assert!(accepts(quarter, 20, 15) && !accepts(quarter, 20, 14));
        assert!(accepts(RemovalGuard::all(), 20, 1) && !accepts(RemovalGuard::all(), 20, 0));
    }

    #[test]
    fn of_fewer_keys_than_the_least_number_all_but_one_may_go() {
        assert!(accepts(RemovalGuard::new(), 7, 1), "6 of 7");
        assert!(!accepts(RemovalGuard::new(), 7, 0), "all of 7");
        assert!(!accepts(RemovalGuard::new(), 8, 1), "7 of 8");
        assert!(!accepts(RemovalGuard::new().min_keys(7), 7, 1), "6 of 7");
        assert!(accepts(RemovalGuard::new(), 0, 0), "nothing goes");
    }

    #[test]
    fn growth_hides_no_wipe_and_is_no_wipe() {
        let (_fake, clock) = FakeClock::new();
        let mut guards = RemovalGuards::new(clock);
        guards.add(SOURCE, RemovalGuard::new(), Delivery::Polled);
        let mut check = |before: u32, next: std::ops::Range<u32>| {
            let checked = guards.check(SOURCE, &keys(0..before), &keys(next), UpdateKind::Full);
            checked.is_ok()
        };
        assert!(check(8, 0..100));
        assert!(check(100, 0..50), "exactly half of those there are now");
        assert!(!check(100, 0..49), "more than half of those there are now");
        assert!(
            !check(100, 5..100),
            "more than half of those at the beginning"
        );
        assert!(check(100, 4..100), "half of those at the beginning");
    }

    #[test]
    fn a_withheld_update_is_accepted_only_after_it_was_repeated_all_the_time() {
        let (fake, clock) = FakeClock::new();
        let mut guards = RemovalGuards::new(clock);
        let time = Duration::from_secs(60);
        let deliveries = [
            (Delivery::Polled, SourceId(8)),
            (Delivery::Streamed, SourceId(9)),
        ];
        for (delivery, source) in deliveries {
            guards.add(source, RemovalGuard::new().accept_after(time), delivery);
            let check = |guards: &mut RemovalGuards| {
                let checked = guards.check(source, &keys(0..20), &keys(0..1), UpdateKind::Full);
                checked.is_ok()
            };
            assert!(!check(&mut guards));
            // A polled source has to repeat it.
            let accept_at = guards.pending_removal(source).unwrap().accept_at;
            assert_eq!(accept_at.is_none(), delivery == Delivery::Polled);
            fake.advance(time / 2);
            guards.record_interruption(source);
            fake.advance(time / 2);
            assert!(!check(&mut guards), "it failed half-way");
            fake.advance(time / 2);
            assert!(check(&mut guards));
            // It stays withheld, in case it is rejected for another reason.
            assert!(guards.wanted_layer(source).is_some());
            guards.record_accepted(source, &keys(0..1));
            assert!(guards.pending_removal(source).is_none());
        }
    }
}
