//! How fast following begins again after it has ended.

use std::time::Duration;

/// A stream that ends before this was not healthy, whatever it brought.
const HEALTHY: Duration = Duration::from_secs(1);
/// How often in a row it may begin again, a little later and later, before that is an error.
const QUIET: u32 = 4;
/// The first pause, and the longest: with what a read may take, it is shorter than a silence that would
/// count as a hang.
const FIRST: Duration = Duration::from_millis(100);
const MOST: Duration = Duration::from_millis(1600);

/// How often in a row following has ended before it was healthy. What a server answers resets nothing:
/// one that ends each stream as it begins would be asked without a pause.
#[derive(Debug, Default)]
pub(super) struct Pace {
    ended: u32,
}

impl Pace {
    /// A stream is over after this time.
    pub(super) fn lasted(&mut self, time: Duration) {
        if time >= HEALTHY {
            self.ended = 0;
        }
    }

    /// Following has ended; says whether it may begin again without an error.
    pub(super) fn ended(&mut self) -> bool {
        self.ended = self.ended.saturating_add(1);
        self.ended <= QUIET
    }

    /// How long to wait before it begins again.
    pub(super) fn pause(&self) -> Duration {
        match self.ended {
            quiet @ 0..=QUIET => FIRST * quiet.div_ceil(2),
            more => {
                let doubled = 2u32.saturating_pow(more - QUIET);
                (FIRST * 2).saturating_mul(doubled).min(MOST)
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
            pace.lasted(HEALTHY - FIRST);
            assert_eq!(pace.ended(), n <= QUIET);
            assert!(pace.pause() >= before && pace.pause() >= FIRST, "{n}");
            assert!(n <= QUIET || before == MOST || pace.pause() > before, "{n}");
            before = pace.pause();
        }
        assert_eq!(before, MOST);
        pace.lasted(HEALTHY);
        assert!(pace.ended() && pace.pause() == FIRST);
    }
}
