//! How long to wait before the next attempt.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::source::MAX_RETRY_AFTER;

/// The longest pause between two attempts.
pub(super) const MAX_PAUSE: Duration = Duration::from_secs(5);
/// The pause after the first failure is at most this.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// A random pause up to a bound that doubles with each failure, so that many clients of one broken
/// store do not come back in step.
pub(super) fn after_failures(failures: u32) -> Duration {
    let bound = FIRST_PAUSE
        .saturating_mul(1 << failures.min(10).saturating_sub(1))
        .min(MAX_PAUSE);
    Duration::from_millis(1) + part_of(bound)
}

/// The pause after a failure whose error may ask for one. What is asked for is the least: of the
/// source's own interval a random part comes on top, so that a fleet that was told the same comes
/// back spread as it was.
pub(super) fn asked_for(failures: u32, asked: Option<Duration>, interval: Duration) -> Duration {
    let own = after_failures(failures);
    match asked {
        None => own,
        Some(asked) => {
            let spread = part_of(interval.min(MAX_PAUSE));
            own.max(asked.min(MAX_RETRY_AFTER) + spread)
        }
    }
}

/// The pause before the next poll, of which a random part is left out: as much as may have brought
/// programs into step, which is the time they were kept waiting for an answer, or all of it. So
/// two polls never begin closer than the interval, and a server that stood still does not have all
/// come back at once for ever.
pub(super) fn between_polls(every: Duration, waited: Option<Duration>) -> Duration {
    every - part_of(waited.map_or(every, |waited| waited.min(every)))
}

/// A random part of a time.
pub(super) fn part_of(whole: Duration) -> Duration {
    // A fresh `RandomState` is seeded differently each time, which is randomness enough here.
    let random = RandomState::new().hash_one(whole) % 1_000;
    whole.mul_f64(random as f64 / 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_cap_and_are_spread_over_their_whole_length() {
        for failures in 1..40 {
            let bound = FIRST_PAUSE * (1 << failures.min(10u32).saturating_sub(1));
            let bound = bound.min(MAX_PAUSE) + Duration::from_millis(1);
            let pauses: Vec<_> = (0..200).map(|_| after_failures(failures)).collect();
            assert!(pauses.iter().all(|pause| *pause <= bound), "{failures}");
            assert!(pauses.iter().any(|pause| *pause > bound / 2), "{failures}");
            assert!(pauses.iter().any(|pause| *pause < bound / 2), "{failures}");
        }
    }

    #[test]
    fn a_pause_that_is_asked_for_is_kept_up_to_a_cap_and_spread_above() {
        let second = Duration::from_secs(1);
        for (asked, most) in [(20, 20), (30, 30), (3_600, 30), (u64::MAX, 30)] {
            let pauses: Vec<_> = (0..200)
                .map(|_| asked_for(1, Some(Duration::from_secs(asked)), 2 * second))
                .collect();
            let least = most as u32 * second;
            assert!(pauses.iter().all(|pause| *pause >= least), "{asked}");
            let end = least + 2 * second;
            assert!(pauses.iter().all(|pause| *pause <= end), "{asked}");
            assert!(pauses.iter().any(|pause| *pause > least + second));
            assert!(pauses.iter().any(|pause| *pause < least + second));
        }
        let rare: Vec<_> = (0..200)
            .map(|_| asked_for(1, Some(second), Duration::MAX))
            .collect();
        assert!(rare.iter().all(|pause| *pause <= second + MAX_PAUSE));
    }

    #[test]
    fn a_pause_that_is_asked_for_shortens_no_back_off() {
        let asked = Some(Duration::ZERO);
        let pauses = (0..200).map(|_| asked_for(20, asked, Duration::ZERO));
        assert!(pauses.max() > Some(MAX_PAUSE / 2));
    }

    #[test]
    fn a_poll_comes_an_interval_after_its_predecessor_began_and_is_spread_by_what_that_took() {
        let every = Duration::from_secs(4);
        for waited in [Duration::ZERO, every / 4, every, 3 * every] {
            let pauses: Vec<_> = (0..200)
                .map(|_| between_polls(every, Some(waited)))
                .collect();
            let least = every.saturating_sub(waited);
            assert!(pauses.iter().all(|it| (least..=every).contains(it)));
            let half = waited.min(every) / 2;
            assert!(pauses.iter().any(|it| *it <= every - half), "{waited:?}");
            assert!(pauses.iter().any(|it| *it >= every - half), "{waited:?}");
        }
        let first = (0..200).map(|_| between_polls(every, None));
        assert!(first.min() < Some(every / 4));
    }
}
