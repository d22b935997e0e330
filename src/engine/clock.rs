//! The time that pauses and deadlines are measured by. Tests bring their own.

use std::time::Instant;

use parking_lot::{Condvar, MutexGuard};

/// A monotonic clock: wall clocks are for display only.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clock {
    #[cfg(test)]
    fake: Option<std::sync::Arc<Fake>>,
}

impl Clock {
    pub(crate) fn now(&self) -> Instant {
        #[cfg(test)]
        if let Some(fake) = &self.fake {
            return fake.now();
        }
        Instant::now()
    }

    /// Waits for the bell, at the longest until a moment; may wake for nothing.
    pub(crate) fn wait<T>(
        &self,
        bell: &Condvar,
        held: &mut MutexGuard<'_, T>,
        until: Option<Instant>,
    ) {
        #[cfg(test)]
        if self.fake.is_some() {
            // A fake clock rings no bells, so look often.
            bell.wait_for(held, std::time::Duration::from_millis(1));
            return;
        }
        match until {
            Some(until) => drop(bell.wait_until(held, until)),
            None => bell.wait(held),
        }
    }
}

/// A clock that stands still until it is told to go on.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct Fake {
    began: Instant,
    gone: parking_lot::Mutex<std::time::Duration>,
}

#[cfg(test)]
impl Fake {
    pub(crate) fn new() -> (std::sync::Arc<Self>, Clock) {
        let fake = std::sync::Arc::new(Self {
            began: Instant::now(),
            gone: parking_lot::Mutex::default(),
        });
        let clock = Clock {
            fake: Some(std::sync::Arc::clone(&fake)),
        };
        (fake, clock)
    }

    pub(crate) fn now(&self) -> Instant {
        self.began + *self.gone.lock()
    }

    pub(crate) fn advance(&self, by: std::time::Duration) {
        *self.gone.lock() += by;
    }
}
