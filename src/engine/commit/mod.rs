//! The only way to change a value.
//!
//! [`CommitState::commit`] passes each [`Command`] to the one function that serves it, in `update`,
//! `write`, `layers` or `roll_back`. These build a `Candidate` and publish it, or return why it is rejected.

use std::sync::Arc;
use std::time::Instant;

use crate::engine::clock::Clock;
use crate::engine::commit::fallback::Fallback;
use crate::engine::commit::frozen::FrozenKeys;
use crate::engine::commit::ignored::IgnoredItems;
use crate::engine::commit::pins::Pins;
use crate::engine::commit::removal_guard::{RemovalGuards, UpdateKind};
use crate::engine::commit::retired::RetiredGenerations;
use crate::engine::commit::rules::Rules;
use crate::error::{Error, ErrorKind};
use crate::property::draft::RetiredVersion;
use crate::property::listen::Listener;
use crate::property::registry::Registry;
use crate::property::stale::{StaleChange, StaleSlots};
use crate::source::{CommitOutcome, Content, Edit, RejectionScope, Update};
use crate::sync::Cell;
use crate::tree::interpolate::ReferenceIndex;
use crate::tree::layer::{Layer, LayerState, SourceId};
use crate::tree::snapshot::{Generation, PendingRestarts};
use crate::value::Value;
use crate::value::document::Report;
use crate::value::key::Key;

pub(crate) mod bootstrap;
mod candidate;
mod checks;
pub(crate) mod dry_run;
mod edit;
pub(crate) mod fallback;
mod frozen;
mod ignored;
mod layers;
pub(crate) mod pins;
mod publish;
mod rejected_parts;
mod rejection;
mod removal;
pub(crate) mod removal_guard;
mod replace;
pub(crate) mod retired;
mod roll_back;
pub(crate) mod rules;
mod update;
pub(crate) mod versions;
mod write;

/// The layer that the program writes to.
pub(crate) const OVERRIDES: SourceId = SourceId(1);

/// What one commit leaves to the next; guarded by the commit lock.
pub(crate) struct CommitState {
    references: ReferenceIndex,
    pub(crate) registry: Registry,
    /// Replaced generations that a reader may still use.
    pub(crate) retired: RetiredGenerations,
    pub(crate) guards: RemovalGuards,
    pub(crate) pins: Pins,
    frozen: FrozenKeys,
    /// The items of lists that are not in force.
    ignored_items: IgnoredItems,
    stale: StaleSlots,
}

/// A change to commit.
pub(crate) enum Command {
    /// A source sends an update.
    Update {
        source: SourceId,
        update: Update,
        rejection_scope: RejectionScope,
        /// When the source sent it, if that counts for its lag.
        received_at: Option<Instant>,
    },
    /// The program accepts the withheld update of a source.
    Confirm(SourceId),
    /// The source has repeated its withheld update for long enough.
    AcceptRepeated(SourceId),
    /// The program writes into the override layer.
    Write {
        edits: Vec<Edit>,
        conditions: Vec<Condition>,
    },
    /// Adds layers: those of all sources at the start, or the one of a source that is added later.
    Add(Vec<LayerState>, Vec<Fallback>),
    /// Keeps the tree of a generation in force whatever the layers contain; `None` ends that.
    Pin(Option<u64>),
    Remove(SourceId),
    Move(SourceId, Layer),
}

/// What must hold for a write to happen.
pub(crate) enum Condition {
    Generation(u64),
    Value(Key, Option<Value>),
}

/// What a commit did besides publishing.
pub(crate) struct Committed {
    pub(crate) outcome: CommitOutcome,
    /// The rejected parts of the document, if the commit brought one.
    pub(crate) problems: Option<Report>,
    pub(crate) clashes: Vec<Error>,
    /// The items of lists that are not in force, if that has changed.
    pub(crate) ignored_items: Option<Vec<(SourceId, Error)>>,
    /// The keys that wait for a restart, if that has changed, and the tree in force.
    pub(crate) pending_restarts: Option<(Arc<Generation>, Arc<PendingRestarts>)>,
    /// The handles that keep their last good values, or no longer do.
    pub(crate) stale: StaleChange,
    /// To be notified once the lock is released.
    pub(crate) listeners: Vec<Arc<dyn Listener>>,
    /// Versions that were replaced and that readers still have.
    pub(crate) versions: Vec<RetiredVersion>,
}

impl Committed {
    /// A commit that published nothing.
    fn nothing(generation: &Generation) -> Self {
        Self {
            outcome: CommitOutcome {
                generation: generation.number(),
                changed: 0,
                rejected: Vec::new(),
                kept: Vec::new(),
            },
            problems: None,
            clashes: Vec::new(),
            ignored_items: None,
            pending_restarts: None,
            stale: StaleChange::default(),
            listeners: Vec::new(),
            versions: Vec::new(),
        }
    }
}

/// The state that a command changes, and the rules for it.
struct Base<'a> {
    current: &'a Cell<Generation>,
    rules: &'a Rules,
    /// The generation in force when the command begins.
    old: Arc<Generation>,
}

impl<'a> Base<'a> {
    fn new(current: &'a Cell<Generation>, rules: &'a Rules) -> Self {
        Self {
            current,
            rules,
            old: current.full(),
        }
    }

    /// The index of the layer of a source that the program names.
    fn index_of(&self, source: SourceId) -> Result<usize, Error> {
        self.find(source, ErrorKind::NotFound)
    }

    /// The index of the layer of a source that sends an update.
    fn index_of_sender(&self, source: SourceId) -> Result<usize, Error> {
        self.find(source, ErrorKind::Closed)
    }

    fn find(&self, source: SourceId, if_absent: ErrorKind) -> Result<usize, Error> {
        let mut layers = self.old.layers.iter();
        let index = layers.position(|layer| layer.id == source);
        index.ok_or_else(|| Error::new(if_absent, format!("{source} was removed")))
    }

    fn layer(&self, at: usize) -> &LayerState {
        &self.old.layers[at]
    }
}

impl CommitState {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            references: ReferenceIndex::default(),
            registry: Registry::default(),
            retired: RetiredGenerations::default(),
            guards: RemovalGuards::new(clock),
            pins: Pins::default(),
            frozen: FrozenKeys::default(),
            ignored_items: IgnoredItems::default(),
            stale: StaleSlots::default(),
        }
    }

    /// Commits one command, or rejects it and changes nothing.
    pub(crate) fn commit(
        &mut self,
        current: &Cell<Generation>,
        rules: &Rules,
        command: Command,
    ) -> Result<Committed, Error> {
        let base = Base::new(current, rules);
        match command {
            Command::Update {
                source,
                update,
                rejection_scope,
                ..
            } => {
                let kind = UpdateKind::of(&update);
                match update.content {
                    Content::Full(document) => {
                        self.update_layer(&base, source, document, kind, rejection_scope)
                    }
                    Content::Delta(edits) => {
                        self.update_keys(&base, source, edits, kind, rejection_scope)
                    }
                }
            }
            Command::Confirm(source) | Command::AcceptRepeated(source) => {
                self.accept_withheld(&base, source)
            }
            Command::Write { edits, conditions } => self.write(&base, edits, conditions),
            Command::Add(layers, fallbacks) => self.add_layers(&base, layers, fallbacks),
            Command::Pin(generation) => self.set_pin(&base, generation),
            Command::Remove(source) => self.remove_layer(&base, source),
            Command::Move(source, to) => self.move_layer(&base, source, to),
        }
    }

    /// Has the watchdog retry to free the generations that readers use. Returns whether it must be woken,
    /// since the retry is earlier than its next one.
    pub(crate) fn schedule_sweep(&mut self, now: Instant) -> bool {
        let pins = &self.pins;
        self.retired
            .schedule(now, |generation| pins.has_kept(generation))
    }

    /// Takes the replaced generations that nobody uses any more, if a retry is due.
    pub(crate) fn sweep_retired(&mut self, now: Instant) -> Vec<Arc<Generation>> {
        if self.retired.retry_at().is_none_or(|at| at > now) {
            return Vec::new();
        }
        let unused = self.retired.take_unused();
        let pins = &self.pins;
        self.retired
            .reschedule(now, |generation| pins.has_kept(generation));
        unused
    }
}
