//! The engine keeps the tree current: one commit path, supervised sources, a dispatcher.

pub(crate) mod cache;
pub(crate) mod clock;
pub(crate) mod commit;
pub(crate) mod core;
pub(crate) mod dispatcher;
pub(crate) mod health;
#[cfg(feature = "test-util")]
pub(crate) mod manual_clock;
#[cfg(all(test, loom))]
mod models;
mod property_engine;
pub(crate) mod queue;
mod record;
mod shared;
pub(crate) mod supervisor;
mod sweep;
pub(crate) mod threads;
