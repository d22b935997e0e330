//! Replaces the shared watcher where the feature `watch` is off: there are no events.

use std::sync::Arc;

use crate::sources::fs::watch::chain::Reach;
use crate::sources::fs::watch::mailbox::Mailbox;

#[derive(Debug)]
pub(crate) struct SharedWatcher;

#[derive(Debug, Default)]
pub(crate) struct Followed {
    pub(crate) has_new_watch: bool,
    pub(crate) failure: Option<String>,
}

impl SharedWatcher {
    pub(crate) fn new() -> Self {
        Self
    }

    pub(crate) fn follow(&self, _: &Arc<Mailbox>, _: &Reach) -> Followed {
        Followed::default()
    }

    pub(crate) fn await_events(&self) {}

    pub(crate) fn leave(&self, _: &Arc<Mailbox>) {}
}
