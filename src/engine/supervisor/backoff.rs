//! How long to wait before the next attempt.

use std::time::{Duration, Instant};

use crate::source::MAX_RETRY_AFTER;
use crate::sync::random::part_of;

/// The longest pause between two attempts.
pub(super) const MAX_PAUSE: Duration = Duration::from_secs(5);
/// The pause after the first failure is at most this: many programs that are cut off at one moment
/// come back over all of it.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(400);
/// Pauses that do not grow any more are at least this.
pub(super) const FULL_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause after an attempt that was a pause by itself.
const SHORT_PAUSE: Duration = Duration::from_millis(500);

/// A random pause up to a bound that doubles with each failure, so that many clients of one broken
/// store do not come back in step.
pub(super) fn after_failures(failures: u32) -> Duration {
    let bound = FIRST_PAUSE
        .saturating_mul(1 << failures.min(10).saturating_sub(1))
        .min(MAX_PAUSE);
    let least = if bound < MAX_PAUSE {
        Duration::from_millis(1)
    } else {
        FULL_PAUSE
    };
    least + part_of(bound - least)
}

/// The pause after a watch that has been silent for longer than a second: a silent store may answer at
/// any time, and is asked at most once a second this way.
pub(super) fn after_silence() -> Duration {
    part_of(SHORT_PAUSE)
}

/// The pause after a failure whose error may ask for a pause. The result is at least that pause. A random
/// part of the source's interval is added, so that a fleet that got the same error does not retry in step.
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

/// The pause while more threads of one source hang than are replaced soon, and its upper bound, which
/// doubles with each thread. So the attempts go on, and the number of threads that may hang for ever
/// grows with the logarithm of the outage.
pub(super) fn while_threads_hang(more: u32) -> (Duration, Duration) {
    let most = MAX_PAUSE.saturating_mul(2u32.saturating_pow(more));
    (most / 2 + part_of(most / 2), most)
}

/// When the next poll is due: a whole number of intervals after `last_due`, or at a random time in the next
/// interval if there was no poll. It is counted from when a poll was due and not from when it ended. So
/// programs do not fall into step when a server delays all of them, and a slow answer delays no other poll.
pub(super) fn next_poll(
    now: Instant,
    every: Duration,
    last_due: Option<Instant>,
) -> Option<Instant> {
    let elapsed = match last_due {
        None => part_of(every),
        Some(last_due) => {
            let elapsed = now.saturating_duration_since(last_due).as_nanos() % every.as_nanos();
            Duration::from_nanos(u64::try_from(elapsed).unwrap_or(u64::MAX))
        }
    };
    now.checked_add(every - elapsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_cap_and_are_random_over_their_whole_length() {
        for failures in 1..40 {
            let bound = FIRST_PAUSE * (1 << failures.min(10u32).saturating_sub(1));
            let bound = bound.min(MAX_PAUSE) + Duration::from_millis(1);
            let pauses: Vec<_> = (0..200).map(|_| after_failures(failures)).collect();
            let full = pauses.iter().all(|pause| *pause >= FULL_PAUSE);
            assert_eq!(full, bound > MAX_PAUSE, "{failures}");
            assert!(pauses.iter().all(|pause| *pause <= bound), "{failures}");
            assert!(pauses.iter().any(|pause| *pause > bound / 2), "{failures}");
            assert!(pauses.iter().any(|pause| *pause < bound / 2), "{failures}");
        }
    }

    #[test]
    fn a_requested_pause_is_kept_up_to_a_cap_with_a_random_part_on_top() {
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
    fn a_requested_pause_shortens_no_back_off() {
        let asked = Some(Duration::ZERO);
        let pauses = (0..200).map(|_| asked_for(20, asked, Duration::ZERO));
        assert!(pauses.max() > Some(MAX_PAUSE / 2));
    }

    #[test]
    fn polls_are_due_at_whole_intervals_however_long_their_answers_take() {
        let every = Duration::from_secs(4);
        let slot = Instant::now();
        for (over_after, due_after) in [(0, 4_000), (100, 4_000), (3_999, 4_000), (9_500, 12_000)] {
            let now = slot + Duration::from_millis(over_after);
            let due = slot + Duration::from_millis(due_after);
            assert_eq!(next_poll(now, every, Some(slot)), Some(due));
        }
        let first: Vec<_> = (0..200)
            .filter_map(|_| next_poll(slot, every, None))
            .collect();
        assert!(first.iter().all(|at| *at > slot && *at <= slot + every));
        assert!(first.iter().min() < Some(&(slot + every / 4)));
        assert!(first.iter().max() > Some(&(slot + every / 4 * 3)));
    }

    #[test]
    fn pauses_while_threads_hang_double_without_a_bound() {
        for more in 0..8 {
            let (pause, most) = while_threads_hang(more);
            assert_eq!(most, MAX_PAUSE * 2u32.pow(more));
            assert!(pause >= most / 2 && pause <= most);
        }
        assert!(while_threads_hang(u32::MAX).0 > Duration::from_secs(1 << 30));
    }
}
