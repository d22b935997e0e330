//! What the program holds: handles that always read the current value, and subscriptions.

pub(crate) mod batch;
pub(crate) mod builder;
pub(crate) mod change;
pub(crate) mod handle;
pub(crate) mod inline;
pub(crate) mod listen;
#[cfg(all(test, loom))]
mod models;
pub(crate) mod reader;
pub(crate) mod registry;
pub(crate) mod slot;
pub(crate) mod stale;
pub(crate) mod subscription;

pub use crate::tree::change::KeyChange;
pub use batch::Batch;
pub use builder::PropertyBuilder;
pub use change::Change;
pub use listen::{Changed, Changes};
pub use reader::Reader;
pub use slot::{ValueGuard, Version};
pub use subscription::Subscription;
