//! Calls the hooks of a source on a thread of their own: they are the source's code, and may hang as it
//! does.

use std::sync::Arc;

use crate::engine::supervisor::runner::SourceRunner;
use crate::engine::supervisor::worker::{self, Hook};

impl SourceRunner {
    /// Has hooks called. One thread at a time calls those of a source.
    pub(super) fn call_aside(self: &Arc<Self>, hooks: Vec<Hook>) {
        if hooks.is_empty() {
            return;
        }
        {
            let mut state = self.state.lock();
            if let Some(waiting) = &mut state.hooks {
                waiting.extend(hooks);
                return;
            }
            state.hooks = Some(hooks);
        }
        let runner = Arc::clone(self);
        let spawned = self
            .threads
            .spawn("liveprops-source", move || runner.call_hooks());
        if spawned.is_err() {
            // Without a call, the thread that waits would never end.
            self.call_hooks();
        }
    }

    fn call_hooks(&self) {
        while let Some(hooks) = self.next_hooks() {
            worker::call(hooks);
        }
    }

    fn next_hooks(&self) -> Option<Vec<Hook>> {
        let mut state = self.state.lock();
        let hooks = std::mem::take(state.hooks.as_mut()?);
        if hooks.is_empty() {
            state.hooks = None;
            return None;
        }
        Some(hooks)
    }
}
