//! A value that one call of a source leaves to the next.

use crate::sync::lock::Mutex;

/// The value of a call, which the next call reuses. Two calls at one time have one each: an abandoned call may
/// still run, and a source may be shared.
pub(crate) struct Slot<T>(Mutex<Option<T>>);

impl<T> Slot<T> {
    pub(crate) fn empty() -> Self {
        Self(Mutex::new(None))
    }

    /// Runs a call with the value; a panic drops the value.
    pub(crate) fn with<R>(&self, make: impl FnOnce() -> T, run: impl FnOnce(&mut T) -> R) -> R {
        let mut value = self.0.lock().take().unwrap_or_else(make);
        let outcome = run(&mut value);
        let before = self.0.lock().replace(value);
        drop(before);
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_reuses_the_value_of_the_last_one_and_never_that_of_a_running_one() {
        let slot = Slot::empty();
        slot.with(
            || 0,
            |first| {
                *first = 1;
                slot.with(|| 0, |second| assert_eq!(std::mem::replace(second, 2), 0));
                assert_eq!(*first, 1);
            },
        );
        slot.with(|| 0, |third| assert_eq!(*third, 1));
    }
}
