//! The cheapest way to read any type.

use std::fmt;
use std::sync::Arc;

use crate::property::slot::Slot;
use crate::property::version::Version;
use crate::sync::Cached;

/// A view of a property that belongs to one thread or task and keeps what it read last: the
/// cheapest read of a type of any size.
///
/// ```
/// use liveprops::{Properties, sources::Memory};
///
/// let memory = Memory::from([("motd", "hello")]);
/// let props = Properties::builder().source(memory.clone()).build()?;
/// let mut motd = props.property::<String>("motd").build()?.reader();
/// assert_eq!(motd.get(), "hello");
/// memory.set("motd", "goodbye")?;
/// assert_eq!(motd.get(), "goodbye");
/// # Ok::<(), liveprops::Error>(())
/// ```
pub struct Reader<T>(Cached<Slot<T>>);

impl<T> Reader<T> {
    pub(crate) fn new(slot: Arc<Slot<T>>) -> Self {
        Self(Cached::new(slot))
    }

    /// The current value.
    #[inline]
    pub fn get(&mut self) -> &T {
        &self.0.load().value
    }

    /// The current value with its generation and origin.
    #[inline]
    pub fn versioned(&mut self) -> &Version<T> {
        self.0.load()
    }
}

impl<T> fmt::Debug for Reader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reader")
    }
}
