//! The time that pauses and deadlines are measured by. Tests bring their own.

use std::time::Instant;

use crate::sync::lock::{Condvar, MutexGuard};

/// A monotonic clock: wall clocks are for display only.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clock {
    #[cfg(any(test, feature = "test-util"))]
    fake: Option<std::sync::Arc<FakeClock>>,
}

impl Clock {
    pub(crate) fn now(&self) -> Instant {
        #[cfg(any(test, feature = "test-util"))]
        if let Some(fake) = &self.fake {
            return fake.now();
        }
        Instant::now()
    }

    /// Announces a thread that will use this clock. A test's clock waits until the thread begins.
    pub(crate) fn expect_thread(&self) {
        #[cfg(any(test, feature = "test-util"))]
        if let Some(fake) = &self.fake {
            fake.expect_thread();
        }
    }

    /// Records that an announced thread, the calling one, has begun.
    pub(crate) fn thread_begins(&self) {
        #[cfg(any(test, feature = "test-util"))]
        if let Some(fake) = &self.fake {
            fake.thread_begins();
        }
    }

    /// Waits for a notification, at the longest until a moment; may wake for nothing.
    pub(crate) fn wait<T>(
        &self,
        condvar: &Condvar,
        guard: &mut MutexGuard<'_, T>,
        until: Option<Instant>,
    ) {
        #[cfg(any(test, feature = "test-util"))]
        if let Some(fake) = &self.fake {
            fake.wait(condvar, guard);
            return;
        }
        match until {
            Some(until) => {
                let _ = condvar.wait_until(guard, until);
            }
            None => condvar.wait(guard),
        }
    }
}

#[cfg(any(test, feature = "test-util"))]
pub(crate) use fake::FakeClock;

#[cfg(any(test, feature = "test-util"))]
mod fake {
    use std::cell::Cell;
    use std::collections::HashMap;
    use std::sync::Arc;
    use std::thread::{self, ThreadId};
    use std::time::{Duration, Instant};

    use crate::sync::lock::Mutex;

    use crate::sync::lock::{Condvar, MutexGuard};

    use super::Clock;

    thread_local! {
        /// The time of the clock that this thread has read last.
        static KNOWN: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    }

    /// A clock that does not move until a test advances it.
    #[derive(Debug)]
    pub(crate) struct FakeClock {
        began: Instant,
        elapsed: Mutex<Duration>,
        threads: Mutex<HashMap<ThreadId, Activity>>,
        /// How many were started and have not begun.
        expected: Mutex<usize>,
    }

    /// The activity of a thread that uses the clock.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Activity {
        /// It waits, and had read this time before.
        Waiting(Duration),
        Working,
        /// It worked for too long: it hangs, or has ended.
        Away,
    }

    impl FakeClock {
        pub(crate) fn new() -> (Arc<Self>, Clock) {
            let fake = Arc::new(Self {
                began: Instant::now(),
                elapsed: Mutex::default(),
                threads: Mutex::default(),
                expected: Mutex::default(),
            });
            let clock = Clock {
                fake: Some(Arc::clone(&fake)),
            };
            (fake, clock)
        }

        pub(crate) fn now(&self) -> Instant {
            let elapsed = *self.elapsed.lock();
            KNOWN.set(elapsed);
            self.began + elapsed
        }

        pub(crate) fn advance(&self, by: Duration) {
            *self.elapsed.lock() += by;
        }

        pub(super) fn expect_thread(&self) {
            *self.expected.lock() += 1;
        }

        pub(super) fn thread_begins(&self) {
            self.threads
                .lock()
                .insert(thread::current().id(), Activity::Working);
            let mut expected = self.expected.lock();
            *expected = expected.saturating_sub(1);
        }

        pub(super) fn wait<T>(&self, condvar: &Condvar, guard: &mut MutexGuard<'_, T>) {
            let me = thread::current().id();
            self.threads
                .lock()
                .insert(me, Activity::Waiting(KNOWN.get()));
            // A fake clock notifies nobody, so look often.
            condvar.wait_for(guard, Duration::from_millis(1));
            KNOWN.set(*self.elapsed.lock());
            self.threads.lock().insert(me, Activity::Working);
        }

        /// Waits until every thread has read the current time and done what is due.
        #[cfg(test)]
        pub(crate) fn catch_up(&self) {
            self.catch_up_within(Duration::from_millis(100));
        }

        /// As [`catch_up`](Self::catch_up). A thread that works longer than `patience` counts as away.
        pub(crate) fn catch_up_within(&self, patience: Duration) {
            let begun = Instant::now();
            let elapsed = *self.elapsed.lock();
            loop {
                {
                    let mut threads = self.threads.lock();
                    let patient = begun.elapsed() < patience;
                    for activity in threads.values_mut() {
                        if *activity == Activity::Working && !patient {
                            *activity = Activity::Away;
                        }
                    }
                    let has_caught_up = |activity: &Activity| match activity {
                        Activity::Waiting(known) => *known == elapsed,
                        Activity::Working => false,
                        Activity::Away => true,
                    };
                    // A thread that never begins does not prolong the wait without end.
                    let late = begun.elapsed() > Duration::from_secs(10);
                    let all_begun = *self.expected.lock() == 0;
                    if late || all_begun && threads.values().all(has_caught_up) {
                        return;
                    }
                }
                thread::sleep(Duration::from_micros(200));
            }
        }
    }
}
