//! The common part of key-value stores: their servers (`endpoints`, `locator`), the keys that a source reads
//! and their names as properties (`mapping`), the document that they become (`mirror`), the options of every
//! builder (`options`), and what one call of a source leaves to the next (`slot`).

pub(crate) mod endpoints;
pub(crate) mod locator;
pub(crate) mod mapping;
pub(crate) mod mirror;
pub(crate) mod options;
pub(crate) mod slot;

use std::time::Duration;

use crate::error::Error;
use crate::source::{Policy, RemovalGuard, SourceContext, Update};
use crate::sync::random;

/// The policy of every store: required, and guarded, because a wiped store looks like a mass removal.
pub(crate) fn policy() -> Policy {
    Policy::new().guarded(RemovalGuard::new())
}

/// Sends the update of a mirror, a heartbeat where nothing has changed, or an error.
pub(crate) fn send(update: Result<Option<Update>, Error>, updates: &SourceContext) {
    match update {
        Ok(Some(update)) => drop(updates.send(update)),
        Ok(None) => updates.heartbeat(),
        Err(error) => updates.report_error(error),
    }
}

/// A duration, or up to a quarter less, so that programs that start together do not continue in step.
pub(crate) fn jittered(duration: Duration) -> Duration {
    duration - random::part_of(duration / 4)
}
