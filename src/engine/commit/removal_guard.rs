//! Withholds updates that would remove most of a layer's keys.
//!
//! An expired bucket, a wiped prefix and an unmounted directory all look like a mass removal. A
//! guarded source's update that removes too many keys is withheld until the source has repeated it
//! for [`RemovalGuard::accept_after`], until the keys return, or until the program confirms it.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use crate::engine::clock::Clock;
use crate::engine::commit::removal::{REMOVAL_WINDOW, Removal};
use crate::engine::health::Withheld;
use crate::error::Error;
use crate::source::{Content, RemovalGuard, Update};
use crate::tree::layer::SourceId;
use crate::value::node::Table;

/// Minimum delay before an update that was due for acceptance, but was rejected, is retried.
const MIN_RETRY_DELAY: Duration = Duration::from_secs(1);

/// The removal guards of all guarded sources.
#[derive(Debug)]
pub(crate) struct RemovalGuards {
    clock: Clock,
    sources: HashMap<SourceId, GuardedSource>,
}

#[derive(Debug)]
struct GuardedSource {
    limits: RemovalGuard,
    delivery: Delivery,
    /// The layer as it was when the current window started.
    baseline: Table,
    window_start: Instant,
    state: GuardState,
}

/// How a source delivers its data, which decides what counts as repeating an update.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Delivery {
    /// Every answer is complete; a withheld update is repeated by the next answer.
    Polled,
    /// The last update stays valid until the source sends another one.
    Streamed,
}

#[derive(Debug)]
enum GuardState {
    Normal,
    /// The keys have returned. The next accepted update starts a new window.
    Recovering,
    Withheld(WithheldUpdate),
}

#[derive(Debug)]
struct WithheldUpdate {
    /// The complete layer that the source wants.
    candidate: Table,
    /// Since when the source has wanted it without a failure in between.
    since: Instant,
    /// When to accept it without another update; `None` if the source has to repeat it.
    accept_at: Option<Instant>,
    shown: Withheld,
}

/// What an update contains, compared with the source's previous one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum UpdateKind {
    Complete,
    Delta,
    /// The source undoes the update itself if it is rejected, so it is never withheld.
    SelfReverting,
}

impl UpdateKind {
    pub(super) fn of(update: &Update) -> Self {
        match &update.content {
            _ if update.undone => UpdateKind::SelfReverting,
            Content::Full(_) => UpdateKind::Complete,
            Content::Delta(_) => UpdateKind::Delta,
        }
    }
}

impl GuardedSource {
    fn starts_window(&self, now: Instant) -> bool {
        let is_over = || now.saturating_duration_since(self.window_start) >= REMOVAL_WINDOW;
        self.baseline.is_empty() || (self.withheld().is_none() && is_over())
    }

    fn start_window(&mut self, baseline: &Table, now: Instant) {
        (self.baseline, self.window_start) = (baseline.clone(), now);
    }

    fn withheld(&self) -> Option<&WithheldUpdate> {
        match &self.state {
            GuardState::Withheld(withheld) => Some(withheld),
            GuardState::Normal | GuardState::Recovering => None,
        }
    }

    fn withheld_mut(&mut self) -> Option<&mut WithheldUpdate> {
        match &mut self.state {
            GuardState::Withheld(withheld) => Some(withheld),
            GuardState::Normal | GuardState::Recovering => None,
        }
    }

    fn was_repeated_long_enough(&self, now: Instant) -> bool {
        let since = self.withheld().map_or(now, |withheld| withheld.since);
        let time = now.saturating_duration_since(since);
        self.limits.repeated.is_some_and(|after| time >= after)
    }

    /// Brings a withheld update up to date with an update that removes few keys.
    fn keep_or_discard_withheld(&mut self, candidate: &Table, kind: UpdateKind) {
        let Some(withheld) = self.withheld_mut() else {
            return;
        };
        match kind {
            UpdateKind::Complete => self.state = GuardState::Recovering,
            UpdateKind::Delta => withheld.candidate = candidate.clone(),
            UpdateKind::SelfReverting => {}
        }
    }

    fn withhold(&mut self, candidate: Table, removal: &Removal, now: Instant) {
        let (since, shown_since) = match self.withheld() {
            Some(before) => (before.since, before.shown.since),
            None => (now, SystemTime::now()),
        };
        let accept_after = match self.delivery {
            Delivery::Polled => None,
            Delivery::Streamed => self.limits.repeated,
        };
        self.state = GuardState::Withheld(WithheldUpdate {
            candidate,
            since,
            accept_at: accept_after.and_then(|after| since.checked_add(after)),
            shown: Withheld {
                gone: removal.removed,
                of: removal.total,
                since: shown_since,
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

    /// Forgets what was accepted of a source: none of its values is in force.
    pub(crate) fn reset(&mut self, source: SourceId) {
        if let Some(guarded) = self.sources.get_mut(&source) {
            (guarded.baseline, guarded.state) = (Table::default(), GuardState::Normal);
        }
    }

    pub(crate) fn is_guarded(&self, source: SourceId) -> bool {
        self.sources.contains_key(&source)
    }

    fn withheld_update(&self, source: SourceId) -> Option<&WithheldUpdate> {
        self.sources.get(&source)?.withheld()
    }

    /// The withheld update of a source, and when it is accepted without another update.
    pub(crate) fn withheld(&self, source: SourceId) -> Option<(Withheld, Option<Instant>)> {
        let withheld = self.withheld_update(source)?;
        Some((withheld.shown, withheld.accept_at))
    }

    /// The complete layer that a source wants, if its update is withheld.
    pub(crate) fn candidate(&self, source: SourceId) -> Option<&Table> {
        Some(&self.withheld_update(source)?.candidate)
    }

    /// Returns the layer that a delta of a source applies to, if that is not the published layer.
    pub(crate) fn delta_base(&self, source: SourceId) -> Option<&Table> {
        let guarded = self.sources.get(&source)?;
        let withheld = guarded.withheld()?;
        (guarded.delivery == Delivery::Streamed).then_some(&withheld.candidate)
    }

    /// Accepts an update or withholds it.
    ///
    /// `current` is the layer in force and `candidate` the layer that the update would produce. A
    /// withheld update that the source no longer wants is discarded in either case.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Withheld`] if the update would remove more keys than the guard allows.
    pub(crate) fn check(
        &mut self,
        source: SourceId,
        current: &Table,
        candidate: &Table,
        kind: UpdateKind,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let Some(guarded) = self.sources.get_mut(&source) else {
            return Ok(());
        };
        if guarded.starts_window(now) {
            guarded.start_window(current, now);
        }
        let kind = match (kind, guarded.delivery) {
            // Even a delta repeats the rest by leaving it unchanged.
            (UpdateKind::Delta, Delivery::Polled) => UpdateKind::Complete,
            (kind, _) => kind,
        };
        let Some(removal) =
            Removal::excessive(&guarded.limits, [&guarded.baseline, current, candidate])
        else {
            guarded.keep_or_discard_withheld(candidate, kind);
            return Ok(());
        };
        let is_accepted = guarded.was_repeated_long_enough(now);
        if kind == UpdateKind::SelfReverting {
            return if is_accepted {
                Ok(())
            } else {
                Err(removal.to_error("the update is rejected"))
            };
        }
        // An accepted update may still be rejected for another reason, and is withheld until then.
        if !is_accepted || guarded.withheld().is_some() {
            guarded.withhold(candidate.clone(), &removal, now);
        }
        if is_accepted {
            Ok(())
        } else {
            Err(removal.to_error(WITHHELD))
        }
    }

    /// Returns what [`check`](Self::check) would return; changes nothing.
    pub(crate) fn would_withhold(
        &self,
        source: SourceId,
        current: &Table,
        candidate: &Table,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let Some(guarded) = self.sources.get(&source) else {
            return Ok(());
        };
        let baseline = if guarded.starts_window(now) {
            current
        } else {
            &guarded.baseline
        };
        match Removal::excessive(&guarded.limits, [baseline, current, candidate]) {
            Some(removal) if !guarded.was_repeated_long_enough(now) => {
                Err(removal.to_error(WITHHELD))
            }
            _ => Ok(()),
        }
    }

    /// Records that a layer is what its source wants.
    pub(crate) fn record_accepted(&mut self, source: SourceId, current: &Table) {
        let now = self.clock.now();
        if let Some(guarded) = self.sources.get_mut(&source) {
            let state = std::mem::replace(&mut guarded.state, GuardState::Normal);
            if !matches!(state, GuardState::Normal) || guarded.baseline.is_empty() {
                guarded.start_window(current, now);
            }
        }
    }

    /// Records that a source has failed since it sent the withheld update: the time for which it must
    /// repeat the update starts again.
    pub(crate) fn record_interruption(&mut self, source: SourceId) {
        let now = self.clock.now();
        let guarded = self.sources.get_mut(&source);
        if let Some(withheld) = guarded.and_then(GuardedSource::withheld_mut) {
            withheld.since = now;
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
        if let Some(withheld) = guarded.withheld_mut() {
            withheld.accept_at = pause.and_then(|pause| now.checked_add(pause));
        }
    }
}

const WITHHELD: &str =
    "withheld until the keys return or `Properties::confirm` accepts the removal";

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
            |next: u32| guards.check(SOURCE, &keys(0..9), &keys(next..9), UpdateKind::Complete);
        let text = check(9).unwrap_err().to_string();
        assert!(
            text.contains("9 of 9 keys (`k0`, `k1`, `k2`, ...)"),
            "{text}"
        );
        let mut guards = RemovalGuards::new(FakeClock::new().1);
        guards.add(SOURCE, RemovalGuard::new(), Delivery::Polled);
        let error = guards.check(SOURCE, &keys(4..5), &keys(0..0), UpdateKind::Complete);
        let text = error.unwrap_err().to_string();
        assert!(text.contains("1 of 1 keys (`k4`)"), "{text}");
    }

    #[test]
    fn removals_within_ten_seconds_count_together_and_later_ones_do_not() {
        let (fake, clock) = FakeClock::new();
        let mut guards = RemovalGuards::new(clock);
        guards.add(SOURCE, RemovalGuard::new(), Delivery::Polled);
        let mut check = |there: u32, next: u32| {
            let checked = guards.check(
                SOURCE,
                &keys(0..there),
                &keys(0..next),
                UpdateKind::Complete,
            );
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

    /// Whether the first update that leaves `next` of `there` keys is accepted.
    fn accepts(guard: RemovalGuard, there: u32, next: u32) -> bool {
        let mut guards = RemovalGuards::new(Clock::default());
        guards.add(SOURCE, guard, Delivery::Polled);
        let checked = guards.check(
            SOURCE,
            &keys(0..there),
            &keys(0..next),
            UpdateKind::Complete,
        );
        let tried = guards.would_withhold(SOURCE, &keys(0..there), &keys(0..next));
        assert_eq!(checked.is_ok(), tried.is_ok(), "a dry run agrees");
        checked.is_ok()
    }

    #[test]
    fn exactly_the_share_may_go_and_one_key_more_may_not() {
        for (there, most) in [(8, 4), (9, 4), (20, 10), (101, 50)] {
            assert!(
                accepts(RemovalGuard::new(), there, there - most),
                "{most} of {there}"
            );
            assert!(
                !accepts(RemovalGuard::new(), there, there - most - 1),
                "{most} + 1 of {there}"
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
        let mut check = |there: u32, next: std::ops::Range<u32>| {
            let checked = guards.check(SOURCE, &keys(0..there), &keys(next), UpdateKind::Complete);
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
                let checked = guards.check(source, &keys(0..20), &keys(0..1), UpdateKind::Complete);
                checked.is_ok()
            };
            assert!(!check(&mut guards));
            // A polled source has to repeat it.
            let (_, accept_at) = guards.withheld(source).unwrap();
            assert_eq!(accept_at.is_none(), delivery == Delivery::Polled);
            fake.advance(time / 2);
            guards.record_interruption(source);
            fake.advance(time / 2);
            assert!(!check(&mut guards), "it failed half-way");
            fake.advance(time / 2);
            assert!(check(&mut guards));
            // It stays withheld, in case it is rejected for another reason.
            assert!(guards.candidate(source).is_some());
            guards.record_accepted(source, &keys(0..1));
            assert!(guards.withheld(source).is_none());
        }
    }
}
