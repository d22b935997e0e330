//! A change of one typed property, as a callback gets it.

use std::fmt;
use std::time::SystemTime;

use crate::property::version::Version;
use crate::value::key::Key;
use crate::value::origin::Origin;

/// A change of one property: the value before, the value now, and where each was written.
///
/// [`DynamicProperty::on_change`](crate::DynamicProperty::on_change) calls its callback with one. A
/// slow callback gets the changes that came meanwhile as one.
///
/// ```
/// use std::sync::mpsc::channel;
/// use liveprops::{Properties, sources::Memory};
///
/// let memory = Memory::from([("ratelimit.qps", 100)]);
/// let props = Properties::builder().source(memory.clone()).inline_callbacks().build()?;
/// let qps = props.property::<u32>("ratelimit.qps").build()?;
/// let (report, reports) = channel();
/// let _subscription = qps.on_change(move |change| {
///     let line = format!("{}: {} -> {}", change.key(), change.old_value(), change.new_value());
///     report.send((line, change.generation())).unwrap();
/// });
/// memory.set("ratelimit.qps", 500)?;
/// let (line, generation) = reports.recv().unwrap();
/// assert_eq!(line, "ratelimit.qps: 100 -> 500");
/// assert_eq!(generation, props.generation());
/// # Ok::<(), liveprops::Error>(())
/// ```
pub struct Change<'a, T> {
    key: &'a Key,
    before: &'a Version<T>,
    now: &'a Version<T>,
}

impl<'a, T> Change<'a, T> {
    pub(super) fn new(key: &'a Key, before: &'a Version<T>, now: &'a Version<T>) -> Self {
        Self { key, before, now }
    }

    /// The property's key. It stays the first one also while the value comes from a fallback key.
    pub fn key(&self) -> &'a Key {
        self.key
    }

    /// The value that this subscriber saw last.
    pub fn old_value(&self) -> &'a T {
        &self.before.value
    }

    /// The value now.
    pub fn new_value(&self) -> &'a T {
        &self.now.value
    }

    /// Where the old value was written; `None` for a default and for a struct, whose fields may come
    /// from many places.
    pub fn old_origin(&self) -> Option<&'a Origin> {
        self.before.origin()
    }

    /// Where the new value is written; `None` for a default and for a struct, whose fields may come
    /// from many places.
    ///
    /// ```
    /// use std::sync::mpsc::channel;
    /// use liveprops::{Properties, sources::Memory};
    ///
    /// let memory = Memory::from([("qps", 100)]);
    /// let props = Properties::builder().source(memory.clone()).inline_callbacks().build()?;
    /// let qps = props.property::<u32>("qps").default(1).build()?;
    /// let (report, reports) = channel();
    /// let _subscription = qps.on_change(move |change| {
    ///     report.send((change.old_origin().is_some(), change.new_origin().is_some())).unwrap();
    /// });
    /// memory.remove("qps")?; // the default is in force
    /// assert_eq!(reports.recv().unwrap(), (true, false));
    /// # Ok::<(), liveprops::Error>(())
    /// ```
    pub fn new_origin(&self) -> Option<&'a Origin> {
        self.now.origin()
    }

    /// The generation that brought the new value.
    pub fn generation(&self) -> u64 {
        self.now.generation()
    }

    /// When the new value was published, by the wall clock; for showing only.
    pub fn time(&self) -> SystemTime {
        self.now.time()
    }
}

impl<T> fmt::Debug for Change<'_, T> {
    /// Shows where the values were written, not the values: they may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Change")
            .field("key", self.key)
            .field("generation", &self.generation())
            .field("old_origin", &self.old_origin())
            .field("new_origin", &self.new_origin())
            .finish_non_exhaustive()
    }
}
