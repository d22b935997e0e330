//! Retired generations: those that a commit has replaced. They are kept until no reader uses them, so that no
//! reader has to free a tree.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::tree::snapshot::Generation;

/// The pause before the first retry for a generation that a reader uses.
const RETRY: Duration = Duration::from_millis(50);
/// The longest pause between two retries.
const MAX_RETRY: Duration = Duration::from_secs(5);

/// The replaced generations, and when the watchdog looks at them again.
#[derive(Default)]
pub(crate) struct RetiredGenerations {
    generations: Vec<Arc<Generation>>,
    retry: Option<Retry>,
}

#[derive(Clone, Copy)]
struct Retry {
    at: Instant,
    pause: Duration,
    /// How many generations were in use when the retry was scheduled.
    in_use: usize,
}

impl RetiredGenerations {
    pub(crate) fn add(&mut self, generation: Arc<Generation>) {
        self.generations.push(generation);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.generations.is_empty()
    }

    /// Removes the generations that nobody else uses. The caller drops them, best without a lock.
    pub(crate) fn take_unused(&mut self) -> Vec<Arc<Generation>> {
        let mut unused = Vec::new();
        let mut at = 0;
        while let Some(generation) = self.generations.get(at) {
            match Arc::strong_count(generation) {
                1 => unused.push(self.generations.swap_remove(at)),
                _ => at += 1,
            }
        }
        unused
    }

    /// Schedules a retry if a reader uses a generation that `is_kept` does not explain. Returns
    /// whether the retry is earlier than the one before.
    pub(crate) fn schedule(
        &mut self,
        now: Instant,
        is_kept: impl Fn(&Arc<Generation>) -> bool,
    ) -> bool {
        let in_use = self.count_in_use(is_kept);
        match self.retry {
            _ if in_use == 0 => {
                self.retry = None;
                false
            }
            Some(retry) if in_use <= retry.in_use => false,
            _ => {
                self.retry = Some(Retry {
                    at: now + RETRY,
                    pause: RETRY,
                    in_use,
                });
                true
            }
        }
    }

    /// When the watchdog retries.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        self.retry.map(|retry| retry.at)
    }

    /// Schedules the retry after one that was due; the pause doubles.
    pub(crate) fn reschedule(&mut self, now: Instant, is_kept: impl Fn(&Arc<Generation>) -> bool) {
        let in_use = self.count_in_use(is_kept);
        self.retry = self.retry.filter(|_| in_use > 0).map(|retry| {
            let pause = (retry.pause * 2).min(MAX_RETRY);
            Retry {
                at: now + pause,
                pause,
                in_use,
            }
        });
    }

    fn count_in_use(&self, is_kept: impl Fn(&Arc<Generation>) -> bool) -> usize {
        let generations = self.generations.iter();
        generations
            .filter(|generation| !is_kept(generation))
            .count()
    }
}

impl fmt::Debug for RetiredGenerations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetiredGenerations")
            .field("generations", &self.generations.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;

    use super::*;
    use crate::properties::Properties;
    use crate::sources::Memory;

    fn is_freed_soon(generation: &Weak<Generation>) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(10) {
            if generation.strong_count() == 0 {
                return true;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        false
    }

    fn start() -> (Memory, Properties) {
        let memory = Memory::from([("n", 1)]);
        let props = Properties::builder().source(memory.clone()).build();
        (memory, props.unwrap())
    }

    fn current(props: &Properties) -> Weak<Generation> {
        Arc::downgrade(&props.snapshot().0)
    }

    #[test]
    fn a_commit_frees_the_generation_that_it_replaces() {
        let (memory, props) = start();
        let old = current(&props);
        memory.set("n", 2).unwrap();
        assert_eq!(old.strong_count(), 0);
        let old = current(&props);
        props.set("n", 3).unwrap();
        assert_eq!(old.strong_count(), 0);
    }

    #[test]
    fn a_generation_is_freed_soon_after_its_last_reader_without_another_commit() {
        let (memory, props) = start();
        for round in 0..3 {
            let reader = props.snapshot();
            let old = current(&props);
            memory.set("n", 10 + round).unwrap();
            assert_eq!(reader.get::<i64>("n").unwrap(), [1, 10, 11][round as usize]);
            assert!(old.strong_count() > 1, "the reader alone would free it");
            drop(reader);
            assert!(is_freed_soon(&old), "round {round}");
        }
    }

    #[test]
    fn a_retry_that_is_scheduled_while_the_watchdog_ends_is_served() {
        let all: Vec<_> = (0..8).map(|_| start()).collect();
        for round in 0..25_u32 {
            let old: Vec<_> = all
                .iter()
                .map(|(memory, props)| {
                    let (reader, old) = (props.snapshot(), current(props));
                    memory.set("n", 10 + round).unwrap();
                    drop(reader);
                    old
                })
                .collect();
            for old in &old {
                assert!(is_freed_soon(old), "round {round}");
            }
            // The watchdogs are about to end.
            std::thread::sleep(Duration::from_micros(20 * u64::from(round)));
        }
    }

    #[test]
    fn a_generation_of_the_history_needs_no_retry() {
        let memory = Memory::from([("n", 0)]);
        let builder = Properties::builder().source(memory.clone()).history(2);
        let props = builder.build().unwrap();
        let mut past = Vec::new();
        for n in 1..=5 {
            past.push(current(&props));
            memory.set("n", n).unwrap();
        }
        let freed: Vec<bool> = past.iter().map(|old| old.strong_count() == 0).collect();
        assert_eq!(freed, [true, true, true, false, false]);
    }

    #[test]
    fn a_retry_is_scheduled_for_readers_only_and_its_pause_doubles() {
        let (_, props) = start();
        let mut retired = RetiredGenerations::default();
        let reader = props.snapshot();
        retired.add(Arc::clone(&reader.0));
        let now = Instant::now();
        assert!(!retired.schedule(now, |_| true), "the history keeps it");
        assert_eq!(retired.retry_at(), None);
        assert!(retired.schedule(now, |_| false));
        assert!(!retired.schedule(now, |_| false), "it is scheduled already");
        let pause = |retired: &RetiredGenerations| retired.retry_at().map(|at| at - now);
        assert_eq!(pause(&retired), Some(RETRY));
        for _ in 0..20 {
            retired.reschedule(now, |_| false);
        }
        assert_eq!(pause(&retired), Some(MAX_RETRY));
        retired.add(Arc::clone(&reader.0));
        assert!(retired.schedule(now, |_| false), "another reader");
        assert_eq!(pause(&retired), Some(RETRY));
        retired.reschedule(now, |_| true);
        assert_eq!(retired.retry_at(), None);
    }
}
