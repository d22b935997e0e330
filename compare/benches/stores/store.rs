//! What the bench needs of a store.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use liveprops::Source;

use crate::arrival::Arrival;
use crate::server::Kind;

/// All keys below a prefix, with their values.
pub(crate) type All = HashMap<String, Vec<u8>>;

/// Starts a thread on which a bare client follows a prefix until the server ends. Returns once the
/// client follows it.
pub(crate) type Watch = fn(port: u16, prefix: &str, arrival: Arc<Arrival>);

/// A client that writes to a store, and the bare client of that store.
pub(crate) trait Store: Sized {
    const KIND: Kind;
    const NAME: &'static str;
    /// How the bare client receives a value.
    const BARE: &'static str;
    /// How the bare client reads all values.
    const READ: &'static str;
    /// The shortest interval at which liveprops does not debounce updates.
    const APART: Duration;
    /// A second method to follow the store, for another table.
    const OTHER: Option<Watch> = None;

    fn connect(port: u16) -> Self;

    fn put(&mut self, key: &str, value: &str);

    /// Puts many keys as fast as possible.
    fn fill(&mut self, all: &[(String, String)]);

    fn source(port: u16, prefix: &str) -> Box<dyn Source>;

    /// The [`Watch`] of the bare client.
    fn watch(port: u16, prefix: &str, arrival: Arc<Arrival>);

    /// Connects a bare client and reads all keys below a prefix.
    fn read(port: u16, prefix: &str) -> All;
}
