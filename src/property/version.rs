//! A value as it was published, and the guard that reads it.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::SystemTime;

use crate::property::rule::Decoded;
use crate::sync::Guard;
use crate::tree::snapshot::GenerationStamp;
use crate::value::hamt::Entry;
use crate::value::origin::Origin;

/// A value with its generation, time, layer and origin, which always belong to it.
///
/// ```
/// use liveprops::{Properties, sources::Memory};
///
/// let props = Properties::builder().source(Memory::from([("qps", 100)])).build()?;
/// let version = props.property::<u32>("qps").build()?.versioned();
/// assert_eq!(version.value, 100);
/// assert_eq!(version.generation(), props.generation());
/// assert_eq!(version.layer(), Some("memory"));
/// assert_eq!(version.origin().unwrap().to_string(), "memory @ 0");
/// # Ok::<(), liveprops::Error>(())
/// ```
#[derive(Clone)]
pub struct Version<T> {
    /// The value.
    pub value: T,
    /// Its layer among those of the stamp, counted from 1; 0 for none.
    layer: u32,
    pub(super) stamp: Arc<GenerationStamp>,
    /// The leaf of the tree that holds the value, for its origin.
    leaf: Option<Arc<Entry>>,
}

impl<T> Version<T> {
    pub(crate) fn new(decoded: Decoded<T>, stamp: Arc<GenerationStamp>) -> Self {
        Self {
            value: decoded.value,
            layer: decoded.layer,
            stamp,
            leaf: decoded.leaf,
        }
    }

    /// The generation that brought the value.
    pub fn generation(&self) -> u64 {
        self.stamp.number
    }

    /// When that generation was published, by the wall clock; for showing only.
    pub fn time(&self) -> SystemTime {
        self.stamp.time
    }

    /// Where the value was written; `None` for a default and for a struct, whose fields may come
    /// from many places.
    pub fn origin(&self) -> Option<&Origin> {
        self.leaf.as_ref()?.node.origin()
    }

    /// The layer it came from, by the name of its source, at the generation that brought it.
    ///
    /// `None` as for [`origin`](Self::origin), and for a value that only a roll-back or a pending
    /// restart keeps in force. `None` also for a
    /// [composed list](crate::guide::conversions#composed-lists): its origin names the layers.
    pub fn layer(&self) -> Option<&str> {
        let at = (self.layer as usize).checked_sub(1)?;
        self.stamp.layers.get(at).map(|name| &**name)
    }

    /// Another value with the origin and layer of this one.
    pub(crate) fn with_value<U>(&self, value: U) -> Decoded<U> {
        Decoded {
            value,
            leaf: self.leaf.clone(),
            layer: self.layer,
        }
    }
}

impl<T> fmt::Debug for Version<T> {
    /// Shows where the value came from, not the value: it may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Version")
            .field("generation", &self.generation())
            .field("origin", &self.origin())
            .finish_non_exhaustive()
    }
}

/// The current value of a handle without a clone; made by
/// [`DynamicProperty::load`](crate::DynamicProperty::load).
///
/// ```
/// use liveprops::{Properties, sources::Memory};
///
/// let props = Properties::builder().source(Memory::from([("name", "shop")])).build()?;
/// let name = props.property::<String>("name").build()?;
/// assert!(name.load().starts_with("sh"));
/// # Ok::<(), liveprops::Error>(())
/// ```
pub struct ValueGuard<T>(pub(crate) Guard<Version<T>>);

impl<T> Deref for ValueGuard<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T: fmt::Debug> fmt::Debug for ValueGuard<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: fmt::Display> fmt::Display for ValueGuard<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
