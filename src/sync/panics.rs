//! Contains panics of user code.
//!
//! Callbacks, decoders, validators, wakers, sources and every `Drop` of their values may panic, and
//! so may the `Drop` of what they panic with. No other file calls `catch_unwind`.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::sync::discard::{Publishing, discard};

/// Payloads that panic while they are dropped are dropped one after another, up to this many; the
/// next one is leaked.
const MAX_NESTED_PAYLOADS: usize = 16;

/// The message of a caught panic. The payload itself is [discarded](discard).
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Panicked {
    message: Box<str>,
}

impl Panicked {
    /// Returns the message of the panic, or a placeholder for a payload that is not text.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    fn from_payload(payload: Box<dyn Any + Send>) -> Self {
        let text = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let message = text.unwrap_or("no message").into();
        discard(Payload(Some(payload)));
        Self { message }
    }
}

/// Runs user code and catches its panic.
///
/// The caller must not rely on state that `run` was changing when it panicked.
pub(crate) fn catch<R>(run: impl FnOnce() -> R) -> Result<R, Panicked> {
    debug_assert!(
        !Publishing::is_active(),
        "user code runs between the stores of a commit and its list of listeners"
    );
    catch_unwind(AssertUnwindSafe(run)).map_err(Panicked::from_payload)
}

/// Drops a value whose `Drop` is user code, and returns its panic.
///
/// Two panicking fields of one value abort the program; no caller can contain that.
pub(crate) fn drop_contained<T>(value: T) -> Result<(), Panicked> {
    catch(move || drop(value))
}

/// The payload of a panic. Its `Drop` is user code as well.
struct Payload(Option<Box<dyn Any + Send>>);

impl Drop for Payload {
    fn drop(&mut self) {
        if let Some(payload) = self.0.take() {
            dispose(payload);
        }
    }
}

/// Drops a payload whose own `Drop` may panic with the next payload.
fn dispose(mut payload: Box<dyn Any + Send>) {
    for _ in 0..MAX_NESTED_PAYLOADS {
        match catch_unwind(AssertUnwindSafe(move || drop(payload))) {
            Ok(()) => return,
            Err(next) => payload = next,
        }
    }
    std::mem::forget(payload);
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::panic::panic_any;

    use super::*;

    /// Panics while it is dropped, with a payload that does the same `depth` more times.
    struct Bomb {
        depth: usize,
    }

    impl Drop for Bomb {
        fn drop(&mut self) {
            if let Some(depth) = self.depth.checked_sub(1) {
                panic_any(Bomb { depth });
            }
        }
    }

    #[test]
    fn the_message_of_a_panic_is_kept() {
        let text = catch(|| panic!("static")).unwrap_err();
        assert_eq!(text.message(), "static");
        let text = catch(|| panic!("{}", "owned")).unwrap_err();
        assert_eq!(text.message(), "owned");
        let other = catch(|| panic_any(7)).unwrap_err();
        assert_eq!(other.message(), "no message");
        assert_eq!(catch(|| 7), Ok(7));
    }

    #[test]
    fn a_payload_that_panics_while_it_is_dropped_is_contained() {
        for depth in [0, 1, 2, MAX_NESTED_PAYLOADS - 1, MAX_NESTED_PAYLOADS + 5] {
            let panic = catch(|| panic_any(Bomb { depth })).unwrap_err();
            assert_eq!(panic.message(), "no message");
        }
    }

    #[test]
    fn a_value_that_panics_while_it_is_dropped_is_contained() {
        assert!(drop_contained(Bomb { depth: 3 }).is_err());
        assert!(drop_contained(Bomb { depth: 0 }).is_ok());
    }
}
