//! The pauses before streams are opened again.

use std::time::Duration;

/// A stream that ends sooner was not healthy, whatever it delivered.
const MIN_HEALTHY: Duration = Duration::from_secs(1);
/// How many streams in a row may end, with growing pauses, before that is an error.
const MAX_RESTARTS: u32 = 4;
/// The first pause.
const MIN_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause. With the time of a read, it is shorter than the heartbeat timeout.
const MAX_PAUSE: Duration = Duration::from_millis(1600);

/// Counts the streams in a row that were not healthy. An answer does not reset it, because a server may answer
/// and end each stream at once.
#[derive(Debug, Default)]
pub(super) struct Pace {
    restarts: u32,
}

impl Pace {
    /// Records how long a stream lasted.
    pub(super) fn record_duration(&mut self, time: Duration) {
        if time >= MIN_HEALTHY {
            self.restarts = 0;
        }
    }

    /// Records that a stream has ended; returns whether the next may follow without an error.
    pub(super) fn record_end(&mut self) -> bool {
        self.restarts = self.restarts.saturating_add(1);
        self.restarts <= MAX_RESTARTS
    }

    /// The pause before the next stream.
    pub(super) fn pause(&self) -> Duration {
        match self.restarts {
            restarts @ 0..=MAX_RESTARTS => MIN_PAUSE * restarts.div_ceil(2),
            more => {
                let doubled = 2u32.saturating_pow(more - MAX_RESTARTS);
                (MIN_PAUSE * 2).saturating_mul(doubled).min(MAX_PAUSE)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_cap_until_a_stream_was_healthy() {
        let mut pace = Pace::default();
        let mut before = Duration::ZERO;
        assert_eq!(pace.pause(), before);
        for n in 1..100 {
            pace.record_duration(MIN_HEALTHY - MIN_PAUSE);
            assert_eq!(pace.record_end(), n <= MAX_RESTARTS);
            assert!(pace.pause() >= before && pace.pause() >= MIN_PAUSE, "{n}");
            assert!(
                n <= MAX_RESTARTS || before == MAX_PAUSE || pace.pause() > before,
                "{n}"
            );
            before = pace.pause();
        }
        assert_eq!(before, MAX_PAUSE);
        pace.record_duration(MIN_HEALTHY);
        assert!(pace.record_end() && pace.pause() == MIN_PAUSE);
    }
}
