//! How long to wait before the next attempt.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

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
}
