//! Replaced versions that readers still have. The engine keeps them until no reader does, so that no
//! reader drops a value.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::property::slot::RetiredVersion;
use crate::sync::discard::Contained;

/// A commit looks at this many versions, and at two more for each that it retires.
const SWEEP: usize = 8;
/// The pause before the watchdog looks for the first time.
const RETRY: Duration = Duration::from_millis(50);
/// The longest pause before the watchdog looks again.
const MAX_RETRY: Duration = Duration::from_secs(5);

/// The versions that were replaced while a reader had them, the longest retired first.
///
/// A reader has one version at a time, so this holds as many as there are readers, and those that
/// no commit has looked at since their reader went on. Each commit looks at more than it adds, so
/// these are at most as many again.
#[derive(Default)]
pub(crate) struct RetiredVersions {
    versions: VecDeque<Contained<RetiredVersion>>,
    /// How many to look at for those that were added since the last look.
    due: usize,
    retry: Option<Retry>,
    /// Whether versions were retired since the watchdog was last told.
    is_new: bool,
}

/// When the watchdog looks again, and how long it waited for that.
struct Retry {
    at: Instant,
    pause: Duration,
}

/// What the watchdog has to do about retired versions.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Look {
    Nothing,
    /// Look again at that time.
    At(Instant),
    /// Have those freed that no reader has, and look again at that time.
    FreeAndLookAt(Instant),
}

impl RetiredVersions {
    pub(crate) fn add(&mut self, versions: Vec<RetiredVersion>, now: Instant) {
        self.due += 2 * versions.len();
        self.is_new = true;
        self.versions
            .extend(versions.into_iter().map(Contained::new));
        self.retry = Some(Retry {
            at: now + RETRY,
            pause: RETRY,
        });
    }

    /// Whether the watchdog has to look earlier than it knows. Says so once.
    pub(crate) fn is_new(&mut self) -> bool {
        std::mem::take(&mut self.is_new) && !self.versions.is_empty()
    }

    /// Takes out versions that nobody else has, looking at a few of many. The caller drops them.
    pub(crate) fn take_few_unused(&mut self) -> Vec<Contained<RetiredVersion>> {
        let looks = SWEEP + std::mem::take(&mut self.due);
        self.take_unused(looks)
    }

    /// Takes out all versions that nobody else has. The caller drops them.
    pub(crate) fn take_all_unused(&mut self) -> Vec<Contained<RetiredVersion>> {
        self.take_unused(self.versions.len())
    }

    fn take_unused(&mut self, looks: usize) -> Vec<Contained<RetiredVersion>> {
        let mut unused = Vec::new();
        for _ in 0..looks.min(self.versions.len()) {
            match self.versions.pop_front() {
                Some(version) if Arc::strong_count(&version) == 1 => unused.push(version),
                version => self.versions.extend(version),
            }
        }
        unused
    }

    /// Says what the watchdog has to do now. It looks ever more rarely while nothing is retired.
    pub(crate) fn look(&mut self, now: Instant) -> Look {
        let Some(retry) = self.retry.as_mut().filter(|_| !self.versions.is_empty()) else {
            self.retry = None;
            return Look::Nothing;
        };
        if retry.at > now {
            return Look::At(retry.at);
        }
        retry.pause = (retry.pause * 2).min(MAX_RETRY);
        retry.at = now + retry.pause;
        let mut versions = self.versions.iter();
        if versions.any(|version| Arc::strong_count(version) == 1) {
            return Look::FreeAndLookAt(retry.at);
        }
        Look::At(retry.at)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn versions_without_a_reader_do_not_pile_up_behind_many_that_have_one() {
        let now = Instant::now();
        let mut retired = RetiredVersions::default();
        let read: Vec<RetiredVersion> = (0..10_000).map(|n| Arc::new(n) as _).collect();
        retired.add(read.clone(), now);
        for n in 0..50_000 {
            retired.add(vec![Arc::new(n)], now);
            retired.take_few_unused();
        }
        assert!(retired.versions.len() < 2 * read.len());
        drop(read);
        let left = retired.versions.len();
        assert_eq!(retired.take_all_unused().len(), left);
    }

    #[test]
    fn the_watchdog_looks_ever_more_rarely_while_a_reader_keeps_its_version() {
        let mut now = Instant::now();
        let mut retired = RetiredVersions::default();
        assert_eq!(retired.look(now), Look::Nothing);
        let read: RetiredVersion = Arc::new(1);
        retired.add(vec![Arc::clone(&read)], now);
        let mut looks = 0;
        let end = now + Duration::from_secs(60);
        while let Look::At(next) = retired.look(now) {
            if next > end {
                break;
            }
            (now, looks) = (next, looks + 1);
        }
        assert!((15..25).contains(&looks), "{looks}");
        drop(read);
        now += MAX_RETRY;
        assert!(matches!(retired.look(now), Look::FreeAndLookAt(_)));
        assert_eq!(retired.take_all_unused().len(), 1);
        assert_eq!(retired.look(now), Look::Nothing);
    }
}
