//! Random numbers for jitter and for names. They are not fit for secrets.

use std::time::Duration;

/// Returns a random part of a duration, so that many programs do not act in step.
pub(crate) fn part_of(whole: Duration) -> Duration {
    whole.mul_f64(fastrand::f64())
}

/// Returns a random number.
pub(crate) fn number() -> u64 {
    fastrand::u64(..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_spread_over_the_whole() {
        let whole = Duration::from_secs(8);
        let parts: Vec<Duration> = (0..200).map(|_| part_of(whole)).collect();
        assert!(parts.iter().all(|part| *part < whole));
        assert!(parts.iter().any(|part| *part < whole / 4));
        assert!(parts.iter().any(|part| *part > whole / 4 * 3));
        assert_eq!(part_of(Duration::ZERO), Duration::ZERO);
        assert!(part_of(Duration::MAX) <= Duration::MAX);
    }
}
