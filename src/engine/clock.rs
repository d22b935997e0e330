//! The time that pauses and deadlines are measured by. Tests bring their own.

use std::time::Instant;

use crate::sync::lock::{Condvar, MutexGuard};

/// A monotonic clock: wall clocks are for display only.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clock {
    #[cfg(any(test, feature = "test-util"))]
    fake: Option<std::sync::Arc<Fake>>,
}

impl Clock {
    pub(crate) fn now(&self) -> Instant {
        #[cfg(any(test, feature = "test-util"))]
        if let Some(fake) = &self.fake {
            return fake.now();
        }
        Instant::now()
    }

    /// A thread that goes by this clock is about to begin: a test's clock waits for it.
    pub(crate) fn expect_thread(&self) {
        #[cfg(any(test, feature = "test-util"))]
        if let Some(fake) = &self.fake {
            fake.expect_thread();
        }
    }

    /// That thread has begun.
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
pub(crate) use fake::Fake;

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
        /// What this thread knows of the time.
        static KNOWN: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    }

    /// A clock that stands still until a test advances it.
    #[derive(Debug)]
    pub(crate) struct Fake {
        began: Instant,
        elapsed: Mutex<Duration>,
        threads: Mutex<HashMap<ThreadId, Doing>>,
        /// How many were started and have not begun.
        expected: Mutex<usize>,
    }

    /// What a thread does that has waited by the clock.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Doing {
        /// It waits, and knew this time when it began to.
        Waits(Duration),
        Works,
        /// It was not waited for any longer: it hangs, or has ended.
        IsAway,
    }

    impl Fake {
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
                .insert(thread::current().id(), Doing::Works);
            let mut expected = self.expected.lock();
            *expected = expected.saturating_sub(1);
        }

        pub(super) fn wait<T>(&self, condvar: &Condvar, guard: &mut MutexGuard<'_, T>) {
            let me = thread::current().id();
            self.threads.lock().insert(me, Doing::Waits(KNOWN.get()));
            // A fake clock notifies nobody, so look often.
            condvar.wait_for(guard, Duration::from_millis(1));
            KNOWN.set(*self.elapsed.lock());
            self.threads.lock().insert(me, Doing::Works);
        }

        /// Lets every thread that waits notice what time it is, and do what is to be done then.
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
                    for doing in threads.values_mut() {
                        if *doing == Doing::Works && !patient {
                            *doing = Doing::IsAway;
                        }
                    }
                    let knows = |doing: &Doing| match doing {
                        Doing::Waits(known) => *known == elapsed,
                        Doing::Works => false,
                        Doing::IsAway => true,
                    };
                    // A thread that hangs bounds the wait.
                    let late = begun.elapsed() > Duration::from_secs(10);
                    let here = *self.expected.lock() == 0;
                    if late || here && threads.values().all(knows) {
                        return;
                    }
                }
                thread::sleep(Duration::from_micros(200));
            }
        }
    }
}
