//! Typed handles that always read the current value, and subscriptions to their changes.

pub(crate) mod batch;
pub(crate) mod builder;
pub(crate) mod change;
pub(crate) mod draft;
pub(crate) mod handle;
pub(crate) mod inline;
pub(crate) mod listen;
#[cfg(all(test, loom))]
mod models;
pub(crate) mod reader;
pub(crate) mod registry;
pub(crate) mod rule;
pub(crate) mod slot;
pub(crate) mod stale;
pub(crate) mod subscription;
pub(crate) mod version;

pub use crate::tree::change::KeyChange;
pub use batch::Batch;
pub use builder::PropertyBuilder;
pub use change::Change;
pub use listen::{Changed, Changes};
pub use reader::Reader;
pub use subscription::Subscription;
pub use version::{ValueGuard, Version};
