//! Commits one command of the queue, and records its outcome in the health and in the cache.
//!
//! The records are written while the commit lock is held, so that they follow the commits in their
//! order. The notifications are for the caller to send once the lock is released.

use std::sync::Arc;
use std::time::Instant;

use crate::engine::commit::{Command, CommitState, Committed};
use crate::engine::core::Engine;
use crate::engine::health::PendingRestart;
use crate::engine::health::registry::{Acceptance, Notices};
use crate::error::Error;
use crate::property::listen::Listener;
use crate::source::CommitOutcome;
use crate::sync::panics;
use crate::tree::diff;
use crate::tree::layer::SourceId;
use crate::tree::snapshot::{Generation, PendingRestarts};
use crate::value::document::Report;
use crate::value::hamt::Entry;

/// Notifies the listeners of a commit.
pub(super) type Notify = Box<dyn FnOnce()>;

/// The sender of a command, which decides where the outcome is recorded.
enum Sender {
    Source {
        id: SourceId,
        revision: Option<Arc<str>>,
        received_at: Option<Instant>,
    },
    /// The program accepts the withheld update of a source, and gets a rejection itself.
    Confirm(SourceId),
    /// The watchdog accepts the withheld update of a source.
    AcceptRepeated(SourceId),
    Program,
}

impl Sender {
    /// The sender of a command. Moves the revision out of an update, since a commit does not need it.
    fn of(command: &mut Command) -> Self {
        match command {
            Command::Update {
                source,
                update,
                received_at,
                ..
            } => Sender::Source {
                id: *source,
                revision: update.revision.take(),
                received_at: *received_at,
            },
            Command::Confirm(source) => Sender::Confirm(*source),
            Command::AcceptRepeated(source) => Sender::AcceptRepeated(*source),
            Command::Write { .. }
            | Command::Add(..)
            | Command::Pin(_)
            | Command::Remove(_)
            | Command::Move(..) => Sender::Program,
        }
    }
}

impl Engine {
    /// Commits one command. Returns its outcome, and how to notify.
    pub(super) fn commit_one(
        &self,
        commit_state: &mut CommitState,
        mut command: Command,
    ) -> (Result<CommitOutcome, Error>, Option<Notify>) {
        let sender = Sender::of(&mut command);
        if let Sender::Source { id, .. } = sender {
            if commit_state.guards.is_guarded(id) && self.health_registry.take_interrupted(id) {
                commit_state.guards.record_interruption(id);
            }
        }
        // Nothing is known to panic here: decoders and validators are contained one by one, and
        // publishing runs no user code.
        let committed = Error::catch("the commit", || {
            commit_state.commit(&self.current, &self.rules, command)
        });
        match committed {
            Ok(committed) => self.record_committed(commit_state, sender, committed),
            Err(error) => {
                let notify = self.record_rejected(commit_state, sender, &error);
                (Err(error), notify)
            }
        }
    }

    fn record_committed(
        &self,
        commit_state: &CommitState,
        sender: Sender,
        committed: Committed,
    ) -> (Result<CommitOutcome, Error>, Option<Notify>) {
        let Committed {
            outcome,
            problems,
            clashes,
            ignored_items,
            pending_restarts,
            stale,
            mut listeners,
            versions,
        } = committed;
        self.commit_listeners.collect_into(&mut listeners);
        if !versions.is_empty() {
            let now = self.supervisor.clock().now();
            self.retired_versions.lock().add(versions, now);
        }
        let mut notices = Notices::default();
        let health = &self.health_registry;
        let generation = outcome.generation;
        for clash in clashes {
            health.note_clash(&mut notices, generation, clash);
        }
        if !stale.is_empty() {
            health.record_stale(&mut notices, generation, stale);
        }
        if let Some((now, pending_restarts)) = pending_restarts {
            let shown = show_pending_restarts(&now, &pending_restarts);
            health.record_pending_restarts(&mut notices, generation, shown);
        }
        self.record_accepted(commit_state, &mut notices, sender, &outcome, problems);
        if let Some(items) = ignored_items {
            health.record_ignored_items(&mut notices, generation, items);
        }
        (Ok(outcome), notification(listeners, notices))
    }

    /// Records that an update of a source is in force.
    fn record_accepted(
        &self,
        commit_state: &CommitState,
        notices: &mut Notices,
        sender: Sender,
        outcome: &CommitOutcome,
        problems: Option<Report>,
    ) {
        let (source, was_withheld, revision, received_at) = match sender {
            Sender::Source {
                id,
                revision,
                received_at,
            } => (id, false, revision, received_at),
            Sender::Confirm(id) | Sender::AcceptRepeated(id) => (id, true, None, None),
            Sender::Program => return,
        };
        if self.cache.is_open() {
            let is_whole = outcome.rejected.is_empty();
            let revision = revision.clone().filter(|_| is_whole);
            let keeps_values = problems.as_ref().is_some_and(|report| report.keeps_values);
            self.cache.record_update(source, revision, keeps_values);
        }
        let acceptance = Acceptance {
            generation: outcome.generation,
            changed: outcome.changed > 0,
            was_withheld,
            problems,
            revision,
            rejected: outcome.rejected.clone(),
            restored: None,
            withheld: commit_state.guards.pending_removal(source),
            received_at,
        };
        self.health_registry
            .record_accepted(notices, source, acceptance);
    }

    fn record_rejected(
        &self,
        commit_state: &mut CommitState,
        sender: Sender,
        error: &Error,
    ) -> Option<Notify> {
        let source = match sender {
            Sender::Source { id, .. } => id,
            Sender::AcceptRepeated(id) => {
                commit_state.guards.schedule_retry(id);
                id
            }
            // The caller gets the error.
            Sender::Confirm(_) | Sender::Program => return None,
        };
        let withheld = commit_state.guards.pending_removal(source);
        let mut notices = Notices::default();
        // A repeated update may have been discarded meanwhile, which is no rejection.
        if withheld.is_some() || matches!(sender, Sender::Source { .. }) {
            let generation = self.current.load().number();
            let health = &self.health_registry;
            if self.is_fixed(source) {
                // Its values of the start stay in force as they are.
                health.note_of(&mut notices, source, generation, error.clone());
            } else {
                health.record_rejected(&mut notices, source, generation, error.clone(), withheld);
            }
        }
        let me = self.weak();
        Some(Box::new(move || {
            notices.deliver();
            if let Some(engine) = me.upgrade() {
                engine.supervisor.wake();
            }
        }))
    }
}

/// How to notify, if there is anybody to notify.
fn notification(listeners: Vec<Arc<dyn Listener>>, notices: Notices) -> Option<Notify> {
    if listeners.is_empty() && notices.is_empty() {
        return None;
    }
    Some(Box::new(move || {
        for listener in listeners {
            // Waking a task is the executor's code.
            let _ = panics::catch(|| listener.notify());
        }
        notices.deliver();
    }))
}

/// The keys that wait for a restart, as the operators see them.
fn show_pending_restarts(
    now: &Arc<Generation>,
    pending_restarts: &PendingRestarts,
) -> Vec<PendingRestart> {
    pending_restarts
        .iter()
        .map(|(key, layered)| {
            let running = now.root.find(key.segments());
            let hidden = now.secrets.hides(key.as_str());
            let show = |entry: Option<&Arc<Entry>>| {
                let entry = entry?;
                let hidden = hidden || now.derives_from_secret(entry);
                Some(diff::display_node(&entry.node, hidden))
            };
            PendingRestart {
                running: show(running),
                waiting: show(layered.as_ref()),
                origin: layered
                    .as_ref()
                    .and_then(|entry| entry.node.origin().cloned()),
                key: key.clone(),
            }
        })
        .collect()
}
