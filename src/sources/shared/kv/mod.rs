//! What key-value stores have in common: what one call hands to the next (`slot`), where one is (`endpoints`, `locator`), which of its keys are
//! meant and what they are called (`mapping`), what a store holds as one document (`mirror`), and the
//! options that all have (`options`).

pub(crate) mod endpoints;
pub(crate) mod locator;
pub(crate) mod mapping;
pub(crate) mod mirror;
pub(crate) mod options;
pub(crate) mod slot;

use crate::error::Error;
use crate::source::{Policy, RemovalGuard, SourceContext, Update};

/// Required, and guarded: a wiped store looks like a wish to remove everything.
pub(crate) fn policy() -> Policy {
    Policy::new().guarded(RemovalGuard::new())
}

/// Sends what is new in a mirror, if anything is.
pub(crate) fn send(update: Result<Option<Update>, Error>, updates: &SourceContext) {
    match update {
        Ok(Some(update)) => drop(updates.send(update)),
        Ok(None) => updates.heartbeat(),
        Err(error) => updates.report_error(error),
    }
}

/// A time, or up to a quarter less: what many programs began at one moment does not go on in step.
pub(crate) fn about(time: std::time::Duration) -> std::time::Duration {
    use std::hash::{BuildHasher, RandomState};

    // Seeded anew each time, which is randomness enough here.
    let random = RandomState::new().hash_one(time) % 1_000;
    time - (time / 4).mul_f64(random as f64 / 1_000.0)
}
