//! Replaced versions that readers use. The engine keeps each until no reader uses it, so that no reader
//! drops a value.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::property::draft::RetiredVersion;
use crate::sync::discard::Contained;

/// A commit checks this many versions, and two more for each version that it retires.
const SWEEP: usize = 8;
/// The pause before the first retry.
const RETRY: Duration = Duration::from_millis(50);
/// The longest pause between two retries.
const MAX_RETRY: Duration = Duration::from_secs(5);

/// The versions that were replaced while a reader had them, the longest retired first.
///
/// A reader has one version at a time. So there are as many as readers, and those that no commit has looked
/// at since their reader released them. Each commit looks at more than it adds, so these are at most as many
/// again.
///
/// Replaced generations are in [`RetiredGenerations`](crate::engine::commit::retired::RetiredGenerations), which shares no code with
/// this: they are few, so each commit looks at all of them, under the commit lock; the history keeps some
/// of them; and dropping one runs no user code.
#[derive(Default)]
pub(crate) struct RetiredVersions {
    versions: VecDeque<Contained<RetiredVersion>>,
    /// How many to look at for those that were added since the last look.
    due: usize,
    retry: Option<Retry>,
    /// Whether versions were retired since the last retry.
    has_new: bool,
}

/// The next retry of the watchdog.
struct Retry {
    at: Instant,
    /// The pause before this retry.
    pause: Duration,
    /// Whether the watchdog has seen this retry or was woken for it.
    is_known: bool,
}

/// The next step of the watchdog with retired versions.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Look {
    Nothing,
    /// Look again at that time.
    At(Instant),
    /// Free the versions that no reader has, and look again at that time.
    FreeAndLookAt(Instant),
}

impl RetiredVersions {
    pub(crate) fn add(&mut self, versions: Vec<RetiredVersion>, now: Instant) {
        self.due += 2 * versions.len();
        self.has_new = true;
        self.versions
            .extend(versions.into_iter().map(Contained::new));
        let at = now + RETRY;
        // An older deadline stays: where commits keep coming, each would postpone it.
        if self.retry.as_ref().is_none_or(|retry| retry.at > at) {
            self.retry = Some(Retry {
                at,
                pause: RETRY,
                is_known: false,
            });
        }
    }

    /// Returns whether the caller must wake the watchdog, once for each retry.
    pub(crate) fn take_wake(&mut self) -> bool {
        if self.versions.is_empty() {
            self.retry.take_if(|retry| !retry.is_known);
            return false;
        }
        let retry = self.retry.as_mut();
        retry.is_some_and(|retry| !std::mem::replace(&mut retry.is_known, true))
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

    /// Returns what the watchdog has to do now. The pause doubles while no version is retired.
    pub(crate) fn look(&mut self, now: Instant) -> Look {
        let Some(retry) = self.retry.as_mut().filter(|_| !self.versions.is_empty()) else {
            self.retry = None;
            return Look::Nothing;
        };
        retry.is_known = true;
        if retry.at > now {
            return Look::At(retry.at);
        }
        retry.pause = if std::mem::take(&mut self.has_new) {
            RETRY
        } else {
            (retry.pause * 2).min(MAX_RETRY)
        };
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
    fn versions_without_a_reader_are_freed_behind_many_that_have_one() {
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
    fn the_watchdog_looks_every_fifty_milliseconds_while_each_commit_retires_a_version() {
        let begin = Instant::now();
        let mut retired = RetiredVersions::default();
        let (mut wakes, mut looks, mut freed) = (0, 0, 0);
        let mut read: Option<RetiredVersion> = None;
        for commit in 0..10_000 {
            let now = begin + Duration::from_millis(commit);
            let version: RetiredVersion = Arc::new(commit);
            retired.add(vec![Arc::clone(&version)], now);
            wakes += u32::from(retired.take_wake());
            // The reader releases this version when it reads the next one.
            read.replace(version);
            match retired.look(now) {
                Look::FreeAndLookAt(_) => {
                    looks += 1;
                    freed += retired.take_all_unused().len();
                }
                look => assert!(matches!(look, Look::At(_)), "{look:?}"),
            }
        }
        assert_eq!(wakes, 1, "the watchdog knows an earlier moment");
        assert!((190..=200).contains(&looks), "{looks}");
        assert!(freed > 9_900, "{freed}");
    }

    #[test]
    fn a_version_that_is_retired_during_a_long_pause_brings_the_next_look_forward_once() {
        let mut now = Instant::now();
        let mut retired = RetiredVersions::default();
        let read: RetiredVersion = Arc::new(1);
        let wakes_after_add = |retired: &mut RetiredVersions, now| {
            retired.add(vec![Arc::clone(&read)], now);
            retired.take_wake()
        };
        assert!(wakes_after_add(&mut retired, now));
        for _ in 0..20 {
            now += MAX_RETRY;
            retired.look(now);
        }
        assert_eq!(retired.look(now), Look::At(now + MAX_RETRY));
        assert!(wakes_after_add(&mut retired, now));
        assert!(!wakes_after_add(&mut retired, now + RETRY / 2));
        assert_eq!(retired.look(now), Look::At(now + RETRY));
    }

    #[test]
    fn a_commit_that_frees_what_it_retires_schedules_no_retry() {
        let now = Instant::now();
        let mut retired = RetiredVersions::default();
        retired.add(vec![Arc::new(1)], now);
        assert_eq!(retired.take_few_unused().len(), 1);
        assert!(!retired.take_wake(), "nothing is left to free");
        let read: RetiredVersion = Arc::new(2);
        retired.add(vec![Arc::clone(&read)], now + RETRY / 2);
        assert!(retired.take_wake());
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
