//! What happens after a failure: finding the form that serde's buffers want, and all errors.
//!
//! Nothing in here runs while values are good and no type buffers them.

pub(super) mod classes;
pub(super) mod collect;
pub(super) mod dummy;
pub(super) mod fault;
pub(super) mod form;
pub(super) mod identity;
pub(super) mod learn;
pub(super) mod passes;
pub(super) mod probe;
pub(super) mod report;
pub(super) mod suspect;
pub(super) mod untagged;
pub(super) mod watch;
