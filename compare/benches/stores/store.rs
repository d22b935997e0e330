//! What the bench does with a store, whichever it is.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use liveprops::Source;

use crate::seen::Seen;
use crate::server::Kind;

/// All there is below a prefix.
pub(crate) type All = HashMap<String, Vec<u8>>;

/// Has a bare client follow a prefix, on a thread of its own, for as long as the server is there.
/// Returns when it does.
pub(crate) type Watch = fn(port: u16, prefix: &str, seen: Arc<Seen>);

/// What writes to a store, and its bare client.
pub(crate) trait Store: Sized {
    const KIND: Kind;
    const NAME: &'static str;
    /// What the bare client does to learn a value.
    const BARE: &'static str;
    /// What it does to read all of them.
    const READ: &'static str;
    /// After what time two updates of ours are no burst.
    const APART: Duration;
    /// Another way to follow it, which another table is about.
    const OTHER: Option<Watch> = None;

    fn connect(port: u16) -> Self;

    fn put(&mut self, key: &str, value: &str);

    /// Puts many, as fast as may be.
    fn fill(&mut self, all: &[(String, String)]);

    fn source(port: u16, prefix: &str) -> Box<dyn Source>;

    /// As [`Watch`] says.
    fn watch(port: u16, prefix: &str, seen: Arc<Seen>);

    /// Has the bare client connect and read all below a prefix.
    fn read(port: u16, prefix: &str) -> All;
}
