//! The engine: the commit lock and the parts around it.

use std::any::Any;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use crate::engine::cache::{Cache, EarlierPin};
use crate::engine::clock::Clock;
use crate::engine::commit::dry_run::DryRun;
use crate::engine::commit::pins::Pin;
use crate::engine::commit::removal_guard::{Delivery, Passed, UpdateKind};
use crate::engine::commit::rules::Rules;
use crate::engine::commit::versions::RetiredVersions;
use crate::engine::commit::{Command, CommitState, Condition, OVERRIDES, bootstrap};
use crate::engine::dispatcher::{self, CallbackTrouble, Dispatcher};
use crate::engine::health::SourceEventKind;
use crate::engine::health::registry::{HealthRegistry, Notices};
use crate::engine::queue::Queue;
use crate::engine::shared::SharedValues;
use crate::engine::supervisor::Supervisor;
use crate::engine::threads::PATIENCE;
use crate::error::{Error, ErrorKind};
use crate::property::listen::Listeners;
use crate::property::registry::EngineRef;
use crate::source::{CommitOutcome, Edit, RejectionScope, RemovalGuard};
use crate::sync::Cell;
use crate::sync::discard::{Contained, discard};
use crate::sync::lock::{self, Building, CannotLock, CommitLock, Mutex};
use crate::sync::panics;
use crate::sync::process::ProcessId;
use crate::tree::layer::{Layer, SourceId};
use crate::tree::quoted::{SecretTexts, without_secrets};
use crate::tree::snapshot::{Found, Generation, GenerationStamp, Pinned};
use crate::value::document::Document;
use crate::value::key::Key;
use crate::value::node::Table;
use crate::value::scan::Seed;
use crate::value::secret::looks_secret;

/// Keeps one tree current.
pub(crate) struct Engine {
    pub(crate) current: Cell<Generation>,
    pub(super) commit_state: CommitLock<CommitState>,
    pub(super) queue: Mutex<Queue>,
    /// The id of the next source.
    next_source: AtomicU64,
    pub(super) closed: AtomicBool,
    pub(crate) rules: Rules,
    pub(crate) dispatcher: Dispatcher,
    pub(crate) commit_listeners: Listeners,
    pub(super) close_listeners: Listeners,
    pub(crate) health_registry: Arc<HealthRegistry>,
    pub(crate) supervisor: Supervisor,
    pub(crate) cache: Cache,
    pub(super) shared: SharedValues,
    /// Values that live as long as the engine, such as detached subscriptions.
    pub(super) detached: Mutex<Vec<Contained<Arc<dyn Any + Send + Sync>>>>,
    pub(super) retired_versions: Mutex<RetiredVersions>,
    engine_ref: EngineRef,
    me: Weak<Engine>,
    /// Where the threads of the engine run.
    pub(super) process: ProcessId,
}

impl Engine {
    pub(crate) fn new(rules: Rules, inline: bool, clock: Clock) -> Arc<Self> {
        Arc::new_cyclic(|me: &Weak<Engine>| {
            let engine_ref: Weak<Engine> = Weak::clone(me);
            let engine = Weak::clone(me);
            let wake = move || {
                if let Some(engine) = engine.upgrade() {
                    engine.supervisor.wake_or_start(&engine);
                }
            };
            let health_registry = Arc::new(HealthRegistry::new(clock.clone(), Arc::new(wake)));
            let engine = Weak::clone(me);
            let dispatcher = Dispatcher::new(inline, move |trouble| {
                if let Some(engine) = engine.upgrade() {
                    engine.report(trouble);
                }
            });
            let engine = Weak::clone(me);
            rules.secrets.on_new_key(move |key| {
                if let Some(engine) = engine.upgrade() {
                    engine.hide_in_health(key);
                }
            });
            Self {
                current: Cell::new(Arc::new(initial_generation(&rules))),
                commit_state: CommitLock::new(CommitState::new(clock.clone())),
                queue: Mutex::default(),
                next_source: AtomicU64::new(OVERRIDES.0 + 1),
                closed: AtomicBool::new(false),
                rules,
                dispatcher,
                commit_listeners: Listeners::default(),
                close_listeners: Listeners::default(),
                health_registry,
                supervisor: Supervisor::new(clock),
                cache: Cache::default(),
                shared: SharedValues::default(),
                detached: Mutex::default(),
                retired_versions: Mutex::default(),
                engine_ref: Arc::new(engine_ref),
                me: Weak::clone(me),
                process: ProcessId::current(),
            }
        })
    }

    /// Masks a key that turned out to hold a secret in all that is shown.
    fn hide_in_health(&self, key: &Key) {
        let current = self.current.full();
        let is_hidden = |key: &str| {
            let found = Found::in_tree(&current.root, key).unwrap_or(Found::Nothing);
            current.hides(key, found)
        };
        let without_quotes = |text: &str| current.without_values_of(key.as_str(), text);
        self.health_registry.hide(&is_hidden, &without_quotes);
    }

    /// This engine, as handles see it.
    pub(crate) fn engine_ref(&self) -> EngineRef {
        Arc::clone(&self.engine_ref)
    }

    pub(crate) fn weak(&self) -> Weak<Engine> {
        Weak::clone(&self.me)
    }

    pub(crate) fn new_source(&self) -> SourceId {
        // A counter: its order with other memory does not matter.
        SourceId(self.next_source.fetch_add(1, Ordering::Relaxed))
    }

    /// Rejects the override layer, which cannot be moved or removed.
    pub(crate) fn check_is_source(&self, id: SourceId) -> Result<(), Error> {
        if id == OVERRIDES {
            let detail = "is the override layer, which cannot be removed or moved";
            return Err(Error::new(ErrorKind::Rejected, format!("{id} {detail}")));
        }
        Ok(())
    }

    /// Rejects a change that would move or remove a bootstrap source, or give its rank to another one.
    pub(crate) fn check_rank(&self, source: Option<SourceId>, to: &Layer) -> Result<(), Error> {
        let now = self.current.full();
        let mut layers = now.layers.iter();
        let state = source.and_then(|source| layers.find(|state| state.id == source));
        let is_fixed = state.is_some_and(|state| state.layer.is_bootstrap());
        if is_fixed || to.is_bootstrap() {
            Err(bootstrap::reserved_rank_error(
                state.map_or(to.name(), |state| &state.name),
            ))
        } else {
            Ok(())
        }
    }

    /// Whether the values of a source are in force, and only a start sets them.
    pub(super) fn is_fixed(&self, source: SourceId) -> bool {
        let now = self.current.load();
        let mut layers = now.layers.iter();
        let is_bootstrap = layers.any(|state| state.id == source && state.layer.is_bootstrap());
        is_bootstrap && self.health_registry.has_arrived(source)
    }

    /// Adds keys that had secrets in an earlier run.
    pub(crate) fn add_known_secrets(&self, keys: &[Key]) {
        let secrets = &self.rules.secrets;
        // A name that looks secret is known without this, and may turn out to be none.
        let is_new = |key: &&Key| !secrets.is_plain(key.as_str()) && !looks_secret(key.as_str());
        keys.iter()
            .filter(is_new)
            .for_each(|key| secrets.add(key.clone()));
    }

    /// Pins the tree that an earlier run had rolled back to.
    pub(crate) fn restore_pin(&self, earlier: EarlierPin) -> Result<(), Error> {
        self.add_known_secrets(&earlier.missing_secrets);
        let pin = Pin {
            pinned: Pinned {
                generation: earlier.generation,
                since: earlier.since,
                by_earlier_run: true,
            },
            tree: earlier.tree,
            missing_secrets: earlier.missing_secrets,
            hidden_defaults: earlier.hidden_defaults,
        };
        self.locked(|commit_state| drop(commit_state.pins.set_pin(Some(pin))))
    }

    /// The tree that is rolled back to.
    pub(crate) fn pin(&self) -> Result<Option<Pin>, Error> {
        self.locked(|commit_state| commit_state.pins.pin().cloned())
    }

    /// Rolls back, or ends that, here and on disk.
    pub(crate) fn roll_back(&self, to: Option<u64>) -> Result<CommitOutcome, Error> {
        let mut outcome = self.commit(Command::Pin(to))?;
        if let Err(error) = self.cache.write_roll_back(self) {
            self.health_registry.note(outcome.generation, error.clone());
            outcome.rejected.push(error);
        }
        Ok(outcome)
    }

    /// Guards a source against mass removal.
    pub(crate) fn guard(
        &self,
        source: SourceId,
        limits: RemovalGuard,
        delivery: Delivery,
        rejection_scope: RejectionScope,
    ) -> Result<(), Error> {
        self.locked(|commit_state| {
            let guards = &mut commit_state.guards;
            guards.add(source, limits, delivery, rejection_scope);
        })
    }

    /// Accepts or withholds the first values of a source, compared with those that were restored.
    pub(crate) fn check_first(
        &self,
        id: SourceId,
        restored: &Table,
        first: &Table,
    ) -> Result<(), Error> {
        self.locked(|commit_state| {
            let kind = UpdateKind::Full;
            let passed = commit_state.guards.check(id, restored, first, kind)?;
            // The first values come from the source or from disk, as a whole.
            match passed {
                Passed::Whole => Ok(()),
                Passed::WithoutRemovals { withheld, .. } => Err(withheld),
            }
        })?
    }

    /// Reports that the first values of a source are withheld.
    pub(crate) fn report_withheld(&self, id: SourceId, generation: u64, reason: Error) {
        let mut notices = Notices::default();
        // Only a validator could hold the lock here; the next answer is withheld as well.
        let _ = self.locked(|commit_state| {
            let withheld = commit_state.guards.pending_removal(id);
            self.health_registry
                .record_rejected(&mut notices, id, generation, reason, withheld);
        });
        notices.deliver();
        self.supervisor.wake();
    }

    /// Stops a source that is not added after all, and removes its records.
    pub(crate) fn abandon(&self, source: SourceId) {
        self.remove_source(source);
        self.discard_updates(source);
        self.health_registry
            .remove(source, self.current.load().number());
    }

    /// Stops a source and its cache.
    pub(crate) fn remove_source(&self, source: SourceId) {
        self.supervisor.remove(source);
        self.cache.remove(source);
        // Only a validator could hold the lock here; what is left then is a few bytes.
        let _ = self.locked(|commit_state| commit_state.guards.remove(source));
    }

    /// Rejects whatever needs the engine's threads or locks in a fork of the process that built the
    /// properties. A lock that another thread held at the fork stays locked in the child.
    pub(crate) fn check_process(&self) -> Result<(), Error> {
        if self.process.is_current() {
            return Ok(());
        }
        let detail = "the properties belong to the process that built them, and this is a fork of \
                      that process: build new ones here";
        Err(Error::new(ErrorKind::Closed, detail))
    }

    /// Rejects a call that waits for other threads where [`lock::is_committing`] forbids it.
    pub(crate) fn may_wait(&self) -> Result<(), Error> {
        self.check_process()?;
        if lock::is_committing() {
            let detail = "a validator or a decoder may not wait for sources";
            return Err(Error::new(ErrorKind::Reentrant, detail));
        }
        Ok(())
    }

    /// Runs `f` under the commit lock, or rejects a thread that holds the lock. What `f` discards is
    /// dropped after the lock is released.
    pub(super) fn locked<R>(&self, f: impl FnOnce(&mut CommitState) -> R) -> Result<R, Error> {
        self.check_process()?;
        let (outcome, discarded) = self.commit_state.with(f).map_err(reentrant)?;
        drop(discarded);
        Ok(outcome)
    }

    /// Notes that this thread builds the properties, until the result is dropped.
    pub(crate) fn begin_building(&self) -> Building {
        Building::begin(&self.commit_state)
    }

    /// Commits a write of the program into the override layer.
    pub(crate) fn write(
        &self,
        edits: Vec<Edit>,
        conditions: Vec<Condition>,
    ) -> Result<CommitOutcome, Error> {
        self.commit(Command::Write { edits, conditions })
    }

    /// The generations that are kept, the newest last, which is in force.
    pub(crate) fn history(&self) -> Result<Vec<Arc<Generation>>, Error> {
        self.locked(|commit_state| {
            let past = commit_state.pins.past().cloned();
            past.chain([self.current.full()]).collect()
        })
    }

    /// Returns what would become of the tree if a source sent this document; changes nothing.
    pub(crate) fn dry_run(
        &self,
        source: SourceId,
        mut document: Document,
    ) -> Result<DryRun, Error> {
        let rejection_scope = self.supervisor.rejection_scope(source);
        if self.supervisor.is_literal(source) {
            document.escape_references();
        }
        self.locked(|commit_state| {
            // The decoders and validators are user code.
            Error::catch("trying an update", || {
                commit_state.dry_run(
                    &self.current,
                    &self.rules,
                    source,
                    document,
                    rejection_scope,
                )
            })
        })?
    }

    /// Reports a failure of the dispatcher or of a callback.
    fn report(&self, trouble: CallbackTrouble) {
        match trouble {
            CallbackTrouble::Panicked(message) => {
                let shown = without_secrets(&message, &[&self.current.full()]);
                let error = Error::from_panic("a callback", &shown);
                self.report_event(SourceEventKind::CallbackPanicked(error));
            }
            CallbackTrouble::NoThread(error) => {
                self.health_registry
                    .note(self.current.load().number(), error);
                // The watchdog retries.
                self.supervisor.wake();
            }
        }
    }

    /// Reports an event that concerns no single source.
    pub(crate) fn report_event(&self, kind: SourceEventKind) {
        self.health_registry
            .report_event(self.current.load().number(), kind);
    }

    /// Reports the events that are due, and accepts withheld updates that are due. Returns when the next
    /// is due.
    pub(crate) fn run_due(&self) -> Option<Instant> {
        let generation = self.current.load().number();
        let (mut next, accepted) = self.health_registry.report_due(generation);
        for source in accepted {
            let me = self.weak();
            let is_started = self.supervisor.spawn_aside(move || {
                if let Some(engine) = me.upgrade() {
                    // A rejection is in the health registry already.
                    let _ = engine.commit(Command::AcceptRepeated(source));
                }
            });
            if !is_started {
                let retry = self.supervisor.clock().now() + dispatcher::RETRY;
                self.health_registry.accept_at(source, retry);
                next = next.into_iter().chain([retry]).min();
            }
        }
        next
    }

    /// Wakes the threads that wait for changes, since no more changes come.
    fn notify_closed(&self) {
        let mut listeners = Vec::new();
        self.close_listeners.collect_into(&mut listeners);
        for listener in listeners {
            // A waker is user code.
            if let Err(panic) = panics::catch(|| listener.notify()) {
                self.dispatcher.panicked(&panic);
            }
        }
    }

    /// Stops and joins every thread.
    pub(crate) fn shut_down(&self) {
        self.closed.store(true, Ordering::Release);
        self.notify_closed();
        // One deadline for all threads. Inside a validator nothing is waited for, since the threads may
        // wait for the commit.
        let patience = if lock::is_committing() {
            Duration::ZERO
        } else {
            PATIENCE
        };
        let until = Instant::now() + patience;
        self.supervisor.stop();
        self.cache.stop();
        self.dispatcher.stop();
        self.dispatcher.join(until);
        self.supervisor.join(until);
        self.cache.join(until);
        // A detached subscription may have the engine's last reference to itself.
        let detached = std::mem::take(&mut *self.detached.lock());
        discard(detached);
    }
}

/// The generation before the first commit.
fn initial_generation(rules: &Rules) -> Generation {
    Generation {
        stamp: Arc::new(GenerationStamp {
            number: 0,
            time: SystemTime::now(),
            layers: Arc::default(),
            pinned: None,
        }),
        root: Table::default(),
        pending_restarts: Arc::default(),
        append: Arc::clone(&rules.append),
        fast_path_root: Table::default(),
        layers: Vec::new(),
        secrets: rules.secrets.clone(),
        secret_texts: SecretTexts::default(),
        seed: Seed::get(),
        usage: rules.usage.clone(),
    }
}

pub(super) fn reentrant(why: CannotLock) -> Error {
    Error::new(ErrorKind::Reentrant, why.to_string())
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("generation", &self.current.load().number())
            .finish_non_exhaustive()
    }
}
