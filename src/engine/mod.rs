//! The engine keeps the tree current: one commit path, supervised sources, a dispatcher.

pub(crate) mod cache;
pub(crate) mod clock;
pub(crate) mod commit;
pub(crate) mod core;
pub(crate) mod dispatch;
pub(crate) mod guard;
pub(crate) mod health;
mod hints;
pub(crate) mod ignored;
#[cfg(all(test, loom))]
mod models;
pub(crate) mod pins;
pub(crate) mod propose;
pub(crate) mod retired;
pub(crate) mod supervise;
pub(crate) mod threads;
pub(crate) mod update;
mod versions;
