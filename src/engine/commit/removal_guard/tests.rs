use proptest::prelude::*;

use super::*;
use crate::engine::clock::FakeClock;
use crate::value::document::Document;
use crate::value::origin::Origin;

const SOURCE: SourceId = SourceId(7);
const PER_KEY: RejectionScope = RejectionScope::PerKey;
const WHOLE: RejectionScope = RejectionScope::Whole;

fn keys(of: std::ops::Range<u32>) -> Table {
    let mut document = Document::new();
    for n in of {
        let origin = Origin::new("store", "test");
        document.set(&format!("k{n}"), 1, origin).unwrap();
    }
    document.into_parts().0
}

fn is_whole(checked: &Result<Passed, Error>) -> bool {
    matches!(checked, Ok(Passed::Whole))
}

#[test]
fn a_withheld_removal_names_the_first_of_its_keys() {
    let mut guards = RemovalGuards::new(FakeClock::new().1);
    guards.add(SOURCE, RemovalGuard::new(), Delivery::Polled, PER_KEY);
    let mut check = |next: u32| guards.check(SOURCE, &keys(0..9), &keys(next..9), UpdateKind::Full);
    let text = check(9).unwrap_err().to_string();
    assert!(
        text.contains("9 of 9 keys (`k0`, `k1`, `k2`, ...)"),
        "{text}"
    );
    let mut guards = RemovalGuards::new(FakeClock::new().1);
    guards.add(SOURCE, RemovalGuard::new(), Delivery::Polled, PER_KEY);
    let error = guards.check(SOURCE, &keys(4..5), &keys(0..0), UpdateKind::Full);
    let text = error.unwrap_err().to_string();
    assert!(text.contains("1 of 1 keys (`k4`)"), "{text}");
}

#[test]
fn removals_within_ten_seconds_count_together_and_later_ones_do_not() {
    let (fake, clock) = FakeClock::new();
    let mut guards = RemovalGuards::new(clock);
    guards.add(SOURCE, RemovalGuard::new(), Delivery::Polled, PER_KEY);
    let mut check = |before: u32, next: u32| {
        let checked = guards.check(SOURCE, &keys(0..before), &keys(0..next), UpdateKind::Full);
        is_whole(&checked)
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
    guards.add(SOURCE, guard, Delivery::Polled, PER_KEY);
    let checked = guards.check(SOURCE, &keys(0..before), &keys(0..next), UpdateKind::Full);
    let tried = guards.dry_check(SOURCE, &keys(0..before), &keys(0..next));
    assert_eq!(is_whole(&checked), is_whole(&tried), "a dry run agrees");
    is_whole(&checked)
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
    guards.add(SOURCE, RemovalGuard::new(), Delivery::Polled, PER_KEY);
    let mut check = |before: u32, next: std::ops::Range<u32>| {
        let checked = guards.check(SOURCE, &keys(0..before), &keys(next), UpdateKind::Full);
        is_whole(&checked)
    };
    assert!(check(8, 0..100));
    assert!(check(100, 0..50), "exactly half of those there are now");
    assert!(!check(100, 0..49), "more than half of those there are now");
    assert!(check(100, 0..100), "they are back");
    assert!(
        !check(100, 5..100),
        "more than half of those at the beginning"
    );
    assert!(check(100, 0..100), "they are back");
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
        guards.add(
            source,
            RemovalGuard::new().accept_after(time),
            delivery,
            PER_KEY,
        );
        let check = |guards: &mut RemovalGuards| {
            let checked = guards.check(source, &keys(0..20), &keys(0..1), UpdateKind::Full);
            is_whole(&checked)
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

/// A guard of 10 keys that are gone, at a source that is restored.
struct Restored {
    guards: RemovalGuards,
    in_force: Table,
    kind: UpdateKind,
}

impl Restored {
    fn new(clock: Clock, guard: RemovalGuard, delivery: Delivery, kind: UpdateKind) -> Self {
        Self::with_scope(clock, guard, delivery, kind, PER_KEY)
    }

    fn with_scope(
        clock: Clock,
        guard: RemovalGuard,
        delivery: Delivery,
        kind: UpdateKind,
        rejection_scope: RejectionScope,
    ) -> Self {
        let mut guards = RemovalGuards::new(clock);
        guards.add(SOURCE, guard, delivery, rejection_scope);
        let mut restored = Self {
            guards,
            in_force: keys(0..10),
            kind,
        };
        restored.send(0..0).unwrap_err();
        restored
    }

    /// Checks an update that leaves these keys, and commits what passes.
    fn send(&mut self, left: std::ops::Range<u32>) -> Result<Passed, Error> {
        let wanted = keys(left);
        let guards = &mut self.guards;
        let tried = guards.dry_check(SOURCE, &self.in_force, &wanted);
        let checked = guards.check(SOURCE, &self.in_force, &wanted, self.kind);
        // A dry run checks a document.
        if self.kind == UpdateKind::Full {
            assert_eq!(is_whole(&checked), is_whole(&tried), "a dry run agrees");
        }
        let passed = checked?;
        match &passed {
            Passed::Whole => {
                self.in_force = wanted;
                self.guards.record_accepted(SOURCE, &self.in_force);
            }
            Passed::WithoutRemovals { kept_layer, .. } => self.in_force = kept_layer.clone(),
        }
        Ok(passed)
    }

    fn withheld(&self) -> Option<(usize, usize)> {
        let pending = self.guards.pending_removal(SOURCE)?;
        Some((pending.removal.removed, pending.removal.total))
    }
}

const KINDS: [(Delivery, UpdateKind); 4] = [
    (Delivery::Polled, UpdateKind::Full),
    (Delivery::Polled, UpdateKind::Delta),
    (Delivery::Streamed, UpdateKind::Full),
    (Delivery::Streamed, UpdateKind::Delta),
];

#[test]
fn keys_stay_until_the_last_withheld_one_is_back() {
    for (delivery, kind) in KINDS {
        let (_fake, clock) = FakeClock::new();
        let mut restored = Restored::new(clock, RemovalGuard::new(), delivery, kind);
        for left in [1..2, 0..4, 0..5, 0..9, 0..8] {
            let removed = 10 - left.len();
            assert!(!is_whole(&restored.send(left.clone())));
            assert_eq!(restored.in_force.leaves(), 10, "{left:?}");
            assert_eq!(restored.withheld(), Some((removed, 10)), "{left:?}");
        }
        assert!(is_whole(&restored.send(0..10)), "{delivery:?} {kind:?}");
        assert_eq!(restored.withheld(), None);
        assert!(is_whole(&restored.send(0..5)), "half may go again");
    }
}

#[test]
fn an_update_that_brings_all_withheld_keys_back_may_remove_few_others() {
    let (_fake, clock) = FakeClock::new();
    let guard = RemovalGuard::new();
    let mut restored = Restored::new(clock, guard, Delivery::Streamed, UpdateKind::Full);
    restored.send(0..8).unwrap();
    // The keys 8 and 9 are back.
    assert!(is_whole(&restored.send(1..10)));
    assert_eq!((restored.in_force.leaves(), restored.withheld()), (9, None));
}

#[test]
fn a_key_that_is_created_while_others_are_withheld_is_not_one_of_them() {
    for (delivery, kind) in KINDS {
        // The key is removed alone, or the whole prefix is wiped once more.
        for later in [1..10, 0..0] {
            let (_fake, clock) = FakeClock::new();
            let mut restored = Restored::new(clock, RemovalGuard::new(), delivery, kind);
            assert!(!is_whole(&restored.send(1..11)));
            assert!(!is_whole(&restored.send(later.clone())));
            assert_eq!(restored.in_force.leaves(), 11, "{later:?}");
            assert!(is_whole(&restored.send(0..10)), "{later:?}");
            let after = (restored.in_force.leaves(), restored.withheld());
            assert_eq!(after, (10, None), "{later:?}");
        }
    }
}

#[test]
fn the_keys_of_each_removal_over_the_limits_are_withheld() {
    for (delivery, kind) in KINDS {
        let (_fake, clock) = FakeClock::new();
        let mut restored = Restored::new(clock, RemovalGuard::new(), delivery, kind);
        restored.send(0..10).unwrap();
        restored.send(6..10).unwrap_err();
        restored.send(0..0).unwrap_err();
        assert!(!is_whole(&restored.send(0..6)), "the other four stay");
        assert_eq!(restored.in_force.leaves(), 10);
        assert!(is_whole(&restored.send(0..10)));
    }
}

#[test]
fn an_update_within_the_limits_replaces_all_values_of_a_document() {
    for (delivery, kind) in KINDS {
        let (_fake, clock) = FakeClock::new();
        let guard = RemovalGuard::new();
        let mut document = Restored::with_scope(clock, guard, delivery, kind, WHOLE);
        document.send(0..4).unwrap_err();
        let passed = document.send(0..5);
        if (delivery, kind) == (Delivery::Streamed, UpdateKind::Delta) {
            assert!(!is_whole(&passed), "deltas restore key by key");
            continue;
        }
        assert!(is_whole(&passed), "{delivery:?} {kind:?}");
        let after = (document.in_force.leaves(), document.withheld());
        assert_eq!(after, (5, None), "{delivery:?} {kind:?}");
    }
}

#[test]
fn the_time_starts_again_when_a_withheld_key_returns() {
    let time = Duration::from_secs(60);
    for (delivery, kind) in KINDS {
        let (fake, clock) = FakeClock::new();
        let guard = RemovalGuard::new().accept_after(time);
        let mut restored = Restored::new(clock, guard, delivery, kind);
        fake.advance(time);
        let accept_at = restored.guards.pending_removal(SOURCE).unwrap().accept_at;
        for left in [0..2, 0..7] {
            assert!(!is_whole(&restored.send(left)));
            assert_eq!(restored.in_force.leaves(), 10);
            fake.advance(time - Duration::from_millis(1));
        }
        let later = restored.guards.pending_removal(SOURCE).unwrap().accept_at;
        assert_eq!(later > accept_at, delivery == Delivery::Streamed);
        // One more goes. That repeats the removal of the others.
        assert!(!is_whole(&restored.send(0..6)));
        fake.advance(Duration::from_millis(1));
        assert!(is_whole(&restored.send(0..6)), "{delivery:?} {kind:?}");
        assert_eq!((restored.in_force.leaves(), restored.withheld()), (6, None));
    }
}

#[test]
fn an_update_that_the_source_undoes_is_rejected_while_it_lacks_a_withheld_key() {
    let (_fake, clock) = FakeClock::new();
    let mut guards = RemovalGuards::new(clock);
    guards.add(SOURCE, RemovalGuard::new(), Delivery::Streamed, PER_KEY);
    let mut check = |next: u32, kind| guards.check(SOURCE, &keys(0..10), &keys(0..next), kind);
    // The first values of the source, where others were restored.
    check(0, UpdateKind::Full).unwrap_err();
    let error = check(9, UpdateKind::SelfReverting).unwrap_err().to_string();
    assert!(
        error.ends_with("removes 1 of 10 keys (`k9`); the update is rejected"),
        "{error}"
    );
    assert!(is_whole(&check(10, UpdateKind::SelfReverting)));
}

#[test]
fn a_kept_layer_lacks_no_key_and_has_the_new_values() {
    fn table(values: &[(&str, i64)]) -> Table {
        let mut document = Document::new();
        for (key, value) in values {
            document
                .set(key, *value, Origin::new("store", "test"))
                .unwrap();
        }
        document.into_parts().0
    }
    let before = table(&[("a", 1), ("b.x", 1), ("b.y", 1), ("c.x", 1), ("d", 1)]);
    let after = table(&[("a.x", 2), ("b.y", 2), ("c", 2), ("d", 2), ("e.x", 2)]);
    let kept = diff::with_removed(&before, &after);
    let mut leaves = Vec::new();
    kept.walk(&mut String::new(), &mut |key, entry| {
        leaves.push(format!("{key} {}", diff::display_node(&entry.node, false)));
    });
    leaves.sort();
    assert_eq!(leaves, ["a 1", "b.x 1", "b.y 2", "c.x 1", "d 2", "e.x 2"]);
    assert_eq!(diff::count_removed(&before, &kept), 0);
}

/// The keys `k0` to `k11` whose bits are set.
fn keys_of(bits: u32) -> Table {
    let mut document = Document::new();
    for n in (0..12).filter(|n| bits & (1 << n) != 0) {
        let origin = Origin::new("store", "test");
        document.set(&format!("k{n}"), 1, origin).unwrap();
    }
    document.into_parts().0
}

proptest! {
    #[test]
    fn no_key_goes_while_a_withheld_one_is_missing(
        updates in prop::collection::vec((0..1_u32 << 12, 0..12_u32, any::<bool>(), 0..40_u64), 1..40),
        is_polled in any::<bool>(),
        kept_in_part in any::<bool>(),
    ) {
        let (fake, clock) = FakeClock::new();
        let time = Duration::from_secs(60);
        let mut guards = RemovalGuards::new(clock);
        let delivery = if is_polled { Delivery::Polled } else { Delivery::Streamed };
        guards.add(SOURCE, RemovalGuard::new().accept_after(time), delivery, PER_KEY);
        let (mut in_force, mut wanted_before) = (0xfff_u32, None::<u32>);
        // The keys that were in force at the first withheld update, and those of them that are withheld.
        let (mut in_force_before, mut withheld) = (0, 0);
        // Since when no withheld key has returned.
        let mut repeated_for = Duration::ZERO;
        for (bits, shared, repeats, pause) in updates {
            // Many updates follow from the one before, as those of a restored store do.
            let wanted = match wanted_before {
                Some(before) if repeats => before | (1 << shared),
                _ => bits,
            };
            fake.advance(Duration::from_secs(pause));
            repeated_for += Duration::from_secs(pause);
            if wanted_before.is_none() {
                (in_force_before, withheld) = (in_force, 0);
            }
            if wanted_before.is_none() || withheld & wanted != 0 {
                repeated_for = Duration::ZERO;
            }
            let (current, next) = (keys_of(in_force), keys_of(wanted));
            let passed = guards.check(SOURCE, &current, &next, UpdateKind::Full);
            let lacks_withheld = withheld & !wanted != 0;
            if lacks_withheld {
                prop_assert_eq!(is_whole(&passed), repeated_for >= time);
            }
            match passed {
                Ok(Passed::Whole) => {
                    guards.record_accepted(SOURCE, &next);
                    (in_force, wanted_before) = (wanted, None);
                }
                Ok(Passed::WithoutRemovals { kept_layer, .. }) => {
                    prop_assert!(lacks_withheld);
                    withheld &= !wanted;
                    prop_assert_eq!(diff::count_removed(&current, &kept_layer), 0);
                    prop_assert_eq!(kept_layer.leaves(), (in_force | wanted).count_ones() as usize);
                    if kept_in_part {
                        in_force |= wanted;
                    }
                    wanted_before = Some(wanted);
                }
                Err(_) => {
                    withheld = in_force_before & !wanted;
                    wanted_before = Some(wanted);
                }
            }
            prop_assert_eq!(guards.pending_removal(SOURCE).is_some(), wanted_before.is_some());
        }
    }
}
