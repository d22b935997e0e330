//! Frees replaced generations and versions whose last reader has gone on.

use std::time::{Duration, Instant};

use crate::engine::commit::CommitState;
use crate::engine::commit::versions::Look;
use crate::engine::core::Engine;

/// The pause before the watchdog retries what needs the commit lock, while a commit holds it.
const RETRY_WHILE_COMMITTING: Duration = Duration::from_millis(50);

impl Engine {
    /// Frees the replaced generations and versions that no reader uses any more. Returns when to
    /// retry.
    pub(crate) fn free_unused(&self) -> Option<Instant> {
        let retries = [self.free_generations(), self.free_versions()];
        retries.into_iter().flatten().min()
    }

    fn free_generations(&self) -> Option<Instant> {
        let now = self.supervisor.clock().now();
        let sweep = |commit_state: &mut CommitState| {
            (
                commit_state.sweep_retired(now),
                commit_state.retired.retry_at(),
            )
        };
        // The thread that holds the lock commits, and a validator may take long. This thread never
        // waits.
        match self.commit_state.try_with(sweep) {
            Some(((unused, retry), discarded)) => {
                drop((unused, discarded));
                retry
            }
            None => Some(now + RETRY_WHILE_COMMITTING),
        }
    }

    fn free_versions(&self) -> Option<Instant> {
        let look = self
            .retired_versions
            .lock()
            .look(self.supervisor.clock().now());
        match look {
            Look::Nothing => None,
            Look::At(next) => Some(next),
            Look::FreeAndLookAt(next) => {
                let me = self.weak();
                // The `Drop` of a value is user code.
                self.supervisor.spawn_aside(move || {
                    if let Some(engine) = me.upgrade() {
                        let unused = engine.retired_versions.lock().take_all_unused();
                        drop(unused);
                    }
                });
                Some(next)
            }
        }
    }
}
