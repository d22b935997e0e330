//! The queue of commands. The thread that has the commit lock commits all of them, in the order in which they
//! were enqueued.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::commit::Command;
use crate::engine::commit::fallback::Fallback;
use crate::engine::core::{Engine, reentrant};
use crate::engine::dispatcher;
use crate::error::{Error, ErrorKind};
use crate::property::registry::PropertyEngine;
use crate::source::{CommitOutcome, Content, RejectionScope, Update};
use crate::sync::discard::discard;
use crate::sync::lock::{CannotLock, Mutex};
use crate::tree::layer::{LayerState, SourceId};
use crate::value::document::Document;

/// The pause between two looks whether a command that another thread has taken is committed.
const POLL_TAKEN_COMMAND: Duration = Duration::from_micros(100);

/// Commands in the order in which they were enqueued.
#[derive(Default)]
pub(crate) struct Queue {
    commands: VecDeque<Arc<QueuedCommand>>,
    /// Sources that push already and have no layer yet: their updates wait until they have.
    delayed: Vec<SourceId>,
}

/// A command, and its outcome once there is one.
pub(crate) struct QueuedCommand {
    /// `None` once a thread has taken the command to commit it.
    command: Mutex<Option<Command>>,
    outcome: Mutex<Option<Result<CommitOutcome, Error>>>,
    /// The source that sends it, if one does.
    source: Option<SourceId>,
    /// How deep in a chain of callbacks it was enqueued.
    depth: u32,
}

impl Queue {
    fn next(&mut self) -> Option<Arc<QueuedCommand>> {
        if self.delayed.is_empty() {
            return self.commands.pop_front();
        }
        let is_delayed =
            |queued: &QueuedCommand| queued.source.is_some_and(|id| self.delayed.contains(&id));
        let at = self
            .commands
            .iter()
            .position(|queued| !is_delayed(queued))?;
        self.commands.remove(at)
    }

    /// Removes the updates of a delayed source that a full document replaces: they may wait long. The
    /// caller drops them without the lock.
    fn remove_superseded(&mut self, queued: &QueuedCommand) -> Vec<Arc<QueuedCommand>> {
        let Some(source) = queued.source.filter(|id| self.delayed.contains(id)) else {
            return Vec::new();
        };
        let is_full = |command: &Command| match command {
            Command::Update { update, .. } => matches!(update.content, Content::Full(_)),
            _ => false,
        };
        if queued.command.lock().as_ref().is_some_and(is_full) {
            return self.remove_of(source);
        }
        Vec::new()
    }

    /// Removes all updates of a source. The caller drops them without the lock.
    fn remove_of(&mut self, source: SourceId) -> Vec<Arc<QueuedCommand>> {
        let is_removed = |queued: &Arc<QueuedCommand>| queued.source == Some(source);
        let (removed, others) = std::mem::take(&mut self.commands)
            .into_iter()
            .partition(is_removed);
        self.commands = others;
        Vec::from(removed)
    }

    /// Removes the first document of a delayed source.
    fn remove_first_document(&mut self, id: SourceId) -> Option<Document> {
        let is_own = |queued: &Arc<QueuedCommand>| queued.source == Some(id);
        let at = self.commands.iter().position(is_own)?;
        let mut command = self.commands[at].command.lock();
        match command.take() {
            Some(Command::Update {
                update:
                    Update {
                        content: Content::Full(document),
                        ..
                    },
                ..
            }) => {
                drop(command);
                self.commands.remove(at);
                Some(document)
            }
            other => {
                *command = other;
                None
            }
        }
    }
}

impl QueuedCommand {
    fn new(command: Command, depth: u32) -> Arc<Self> {
        let source = match &command {
            Command::Update { source, .. } => Some(*source),
            _ => None,
        };
        Arc::new(Self {
            command: Mutex::new(Some(command)),
            outcome: Mutex::default(),
            source,
            depth,
        })
    }
}

impl Engine {
    /// Has the updates of a source wait until [`admit`](Self::admit) gives it a layer.
    pub(crate) fn delay_updates(&self, id: SourceId) {
        self.queue.lock().delayed.push(id);
    }

    /// Drops the updates of a source that gets no layer.
    pub(crate) fn discard_updates(&self, id: SourceId) {
        let removed = {
            let mut queue = self.queue.lock();
            queue.delayed.retain(|other| *other != id);
            queue.remove_of(id)
        };
        drop(removed);
    }

    /// Whether a command may be enqueued now, and how deep in a chain of callbacks it would be.
    fn depth(&self) -> Result<u32, Error> {
        self.check_process()?;
        if self.commit_state.is_held() {
            let detail = "a validator or a decoder may not change properties";
            return Err(Error::new(ErrorKind::Reentrant, detail));
        }
        if self.is_closed() {
            return Err(Error::closed());
        }
        let depth = dispatcher::depth_of_commit();
        if depth > dispatcher::MAX_DEPTH {
            let detail = format!(
                "callbacks triggered each other more than {} times in a row",
                dispatcher::MAX_DEPTH
            );
            let error = Error::new(ErrorKind::Loop, detail);
            self.health_registry
                .note(self.current.load().number(), error.clone());
            return Err(error);
        }
        Ok(depth)
    }

    pub(crate) fn enqueue(&self, command: Command) -> Result<Arc<QueuedCommand>, Error> {
        let queued = QueuedCommand::new(command, self.depth()?);
        let superseded = {
            let mut queue = self.queue.lock();
            let superseded = queue.remove_superseded(&queued);
            queue.commands.push_back(Arc::clone(&queued));
            superseded
        };
        drop(superseded);
        Ok(queued)
    }

    /// Enqueues the update of a source.
    pub(crate) fn enqueue_update(
        &self,
        source: SourceId,
        update: Update,
        rejection_scope: RejectionScope,
        received_at: Option<Instant>,
    ) -> Result<Arc<QueuedCommand>, Error> {
        self.enqueue(Command::Update {
            source,
            update,
            rejection_scope,
            received_at,
        })
    }

    /// Commits the queue up to and including a command. Returns the outcome of the command.
    pub(crate) fn commit_up_to(&self, queued: &QueuedCommand) -> Result<CommitOutcome, Error> {
        let is_delayed = |id| self.queue.lock().delayed.contains(&id);
        if queued.source.is_some_and(is_delayed) {
            // Part of the source's first load, which commits it.
            return Ok(CommitOutcome {
                generation: 0,
                changed: 0,
                rejected: Vec::new(),
                kept: Vec::new(),
            });
        }
        while let Err(why) = self.commit_queue() {
            if why == CannotLock::IsHeld || self.withdraw(queued) {
                return Err(reentrant(why));
            }
            // Another thread has taken the command. It is not waiting for this one.
            if queued.outcome.lock().is_some() {
                break;
            }
            std::thread::sleep(POLL_TAKEN_COMMAND);
        }
        let outcome = queued.outcome.lock().take();
        outcome.unwrap_or_else(|| Err(Error::closed()))
    }

    /// Removes a command from the queue. Returns `false` if a thread has taken it to commit it.
    fn withdraw(&self, queued: &QueuedCommand) -> bool {
        let mut queue = self.queue.lock();
        if queued.command.lock().take().is_none() {
            return false;
        }
        queue
            .commands
            .retain(|other| !std::ptr::eq(&**other, queued));
        true
    }

    /// Enqueues a command and commits it.
    pub(crate) fn commit(&self, command: Command) -> Result<CommitOutcome, Error> {
        let queued = self.enqueue(command)?;
        self.commit_up_to(&queued)
    }

    /// Commits new layers as one generation, with the first documents that their sources have pushed
    /// meanwhile. From then on updates of those sources are committed.
    pub(crate) fn admit(
        &self,
        mut layers: Vec<LayerState>,
        fallbacks: Vec<Fallback>,
    ) -> Result<CommitOutcome, Error> {
        let ids: Vec<SourceId> = layers.iter().map(|layer| layer.id).collect();
        let queued = self.depth().map(|depth| {
            let mut queue = self.queue.lock();
            for layer in &mut layers {
                // A document replaces restored values by a commit of its own, which is guarded as any
                // other.
                if queue.delayed.contains(&layer.id) && layer.restored.is_none() {
                    if let Some(document) = queue.remove_first_document(layer.id) {
                        let (root, problems) = document.into_parts();
                        layer.root = root;
                        self.health_registry.record_first_push(layer.id, problems);
                    }
                }
            }
            let queued = QueuedCommand::new(Command::Add(layers, fallbacks), depth);
            // Before the later updates of the same sources.
            queue.commands.push_front(Arc::clone(&queued));
            queue.delayed.retain(|id| !ids.contains(id));
            queued
        });
        match queued {
            Ok(queued) => self.commit_up_to(&queued),
            Err(error) => {
                ids.into_iter().for_each(|id| self.discard_updates(id));
                Err(error)
            }
        }
    }

    /// Commits all commands of the queue, and then notifies.
    fn commit_queue(&self) -> Result<(), CannotLock> {
        let mut notifications = Vec::new();
        // The last one is dropped after the lock is released: freeing a tree takes long.
        let mut unused = Vec::new();
        let (is_in_use, discarded) = self.commit_state.with(|commit_state| {
            loop {
                let next = self.queue.lock().next();
                let Some(queued) = next else {
                    break;
                };
                // One old tree at most waits beside the new one.
                unused.clear();
                let command = queued.command.lock().take();
                if let Some(command) = command {
                    let (outcome, notify) = self.commit_one(commit_state, command);
                    notifications.extend(notify.map(|notify| (queued.depth, notify)));
                    *queued.outcome.lock() = Some(outcome);
                    unused = commit_state.retired.take_unused();
                }
            }
            // Without a reader of a replaced generation, the clock is not read.
            !commit_state.retired.is_empty()
                && commit_state.schedule_sweep(self.supervisor.clock().now())
        })?;
        self.dispatcher.deliver(|| {
            for (depth, notify) in notifications {
                dispatcher::caused_by(depth, notify);
            }
        });
        drop(unused);
        drop(discarded);
        let (unused, is_read) = {
            let mut versions = self.retired_versions.lock();
            (versions.take_few_unused(), versions.take_wake())
        };
        if !unused.is_empty() {
            discard(unused);
        }
        if is_in_use || is_read {
            self.supervisor.wake_or_start(self);
        }
        Ok(())
    }
}
