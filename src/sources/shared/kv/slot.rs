//! What one call of a source hands to the next.

use crate::sync::lock::Mutex;

/// Something that a call makes or takes over from the one before, and leaves when it ends. Two calls at
/// one time have one each: one that was left to itself may still run, and a source may be shared.
pub(crate) struct Slot<T>(Mutex<Option<T>>);

impl<T> Slot<T> {
    pub(crate) fn empty() -> Self {
        Self(Mutex::new(None))
    }

    /// Runs a call; what it has is lost if it panics.
    pub(crate) fn with<R>(&self, make: impl FnOnce() -> T, run: impl FnOnce(&mut T) -> R) -> R {
        let left = self.0.lock().take();
        let mut value = left.unwrap_or_else(make);
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
    fn a_call_takes_over_from_the_one_before_and_never_from_one_that_runs() {
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
