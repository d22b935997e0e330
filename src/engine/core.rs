//! The engine itself: the commit lock, the queue before it, and what is shared around it.

use std::any::{Any, TypeId};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::ReentrantMutex;

use crate::engine::cache::{Before, Cache};
use crate::engine::clock::Clock;
use crate::engine::commit::candidate::Rules;
use crate::engine::commit::pins::{self, Pin};
use crate::engine::commit::removal_guard::Said;
use crate::engine::commit::versions::{Look, RetiredVersions};
use crate::engine::commit::{Command, CommitState, Condition, Done, Instead};
use crate::engine::dispatcher::{self, Dispatcher, Trouble};
use crate::engine::health::registry::{Answer, HealthRegistry, News};
use crate::engine::health::{PendingRestart, SourceEventKind};
use crate::engine::supervisor::Supervisor;
use crate::engine::threads::PATIENCE;
use crate::error::{Error, ErrorKind};
use crate::property::listen::{Listener, Listeners};
use crate::property::registry::{Host, HostRef, Registry};
use crate::property::stale::Stale;
use crate::property::subscription::Subscriber;
use crate::source::{CommitOutcome, Content, Edit, Make, Refusal, RemovalGuard, Update};
use crate::sync::Cell;
use crate::sync::discard::{Contained, discard};
use crate::sync::lock::{self, Building, CannotLock, CommitLock, Mutex};
use crate::sync::panics::{self, Panicked};
use crate::sync::process::ProcessId;
use crate::tree::diff;
use crate::tree::layer::{Layer, LayerState, SourceId};
use crate::tree::quoted::{Quotable, without_secrets};
use crate::tree::snapshot::{Found, Generation, Pending, Pinned, Stamp};
use crate::value::document::Document;
use crate::value::hamt::Entry;
use crate::value::key::Key;
use crate::value::node::Table;
use crate::value::scan::Seed;
use crate::value::secret::looks_secret;

/// The pause before the watchdog retries what needs the commit lock, while a commit holds it.
const RETRY_WHILE_COMMITTING: Duration = Duration::from_millis(50);

/// The pause between two looks whether an order that another thread has taken is committed.
const POLL_OF_A_TAKEN_ORDER: Duration = Duration::from_micros(100);

/// The layer that the program writes to.
const OVERRIDES: SourceId = SourceId(1);

/// Keeps one tree current.
pub(crate) struct Engine {
    pub(crate) current: Cell<Generation>,
    commit_state: CommitLock<CommitState>,
    queue: Mutex<Queue>,
    sources: AtomicU64,
    closed: AtomicBool,
    pub(crate) rules: Rules,
    pub(crate) dispatcher: Dispatcher,
    pub(crate) commit_listeners: Listeners,
    close_listeners: Listeners,
    pub(crate) health_registry: Arc<HealthRegistry>,
    pub(crate) supervisor: Supervisor,
    pub(crate) cache: Cache,
    /// The layer that the program writes to.
    pub(crate) overrides: SourceId,
    shared: Mutex<HashMap<TypeId, Shared>>,
    kept: Mutex<Vec<Contained<Arc<dyn Any + Send + Sync>>>>,
    replaced: Mutex<RetiredVersions>,
    host: HostRef,
    me: Weak<Engine>,
    /// Where the threads of the engine run.
    process: ProcessId,
}

/// What several sources share, by type.
#[derive(Default)]
struct Shared {
    gate: Arc<ReentrantMutex<()>>,
    value: Option<Weak<dyn Any + Send + Sync>>,
}

/// Orders in the sequence they were given; whoever holds the commit lock serves all.
#[derive(Default)]
struct Queue {
    orders: VecDeque<Arc<QueuedCommand>>,
    /// Sources that push already and have no layer yet: what they say waits until they have.
    arriving: Vec<SourceId>,
}

impl Queue {
    fn next(&mut self) -> Option<Arc<QueuedCommand>> {
        if self.arriving.is_empty() {
            return self.orders.pop_front();
        }
        let waits =
            |placed: &QueuedCommand| placed.source.is_some_and(|id| self.arriving.contains(&id));
        let at = self.orders.iter().position(|placed| !waits(placed))?;
        self.orders.remove(at)
    }

    /// Removes the updates of a source that is arriving, if a full document replaces them: it may wait
    /// long. The caller drops them without the lock.
    fn supersede(&mut self, placed: &QueuedCommand) -> Vec<Arc<QueuedCommand>> {
        let Some(source) = placed.source.filter(|id| self.arriving.contains(id)) else {
            return Vec::new();
        };
        let order = placed.order.lock();
        let all = |order: &Command| match order {
            Command::Update { update, .. } => matches!(update.content, Content::Full(_)),
            _ => false,
        };
        if order.as_ref().is_some_and(all) {
            return self.remove_of(source);
        }
        Vec::new()
    }

    /// Removes all updates of a source. The caller drops them without the lock.
    fn remove_of(&mut self, source: SourceId) -> Vec<Arc<QueuedCommand>> {
        let is_removed = |placed: &Arc<QueuedCommand>| placed.source == Some(source);
        let (removed, others) = std::mem::take(&mut self.orders)
            .into_iter()
            .partition(is_removed);
        self.orders = others;
        Vec::from(removed)
    }

    /// Takes the first document of a source that is arriving out of the sequence.
    fn take_first_document(&mut self, id: SourceId) -> Option<Document> {
        let ours = |placed: &Arc<QueuedCommand>| placed.source == Some(id);
        let at = self.orders.iter().position(ours)?;
        let mut order = self.orders[at].order.lock();
        match order.take() {
            Some(Command::Update {
                update:
                    Update {
                        content: Content::Full(document),
                        ..
                    },
                ..
            }) => {
                drop(order);
                self.orders.remove(at);
                Some(document)
            }
            other => {
                *order = other;
                None
            }
        }
    }
}

/// An order with its place in the sequence, and its outcome once there is one.
pub(crate) struct QueuedCommand {
    order: Mutex<Option<Command>>,
    outcome: Mutex<Option<Result<CommitOutcome, Error>>>,
    /// Which source says it, if one does.
    source: Option<SourceId>,
    /// How deep in a chain of callbacks it was given.
    depth: u32,
}

impl QueuedCommand {
    fn new(order: Command, depth: u32) -> Arc<Self> {
        let source = match &order {
            Command::Update { source, .. } => Some(*source),
            _ => None,
        };
        Arc::new(Self {
            order: Mutex::new(Some(order)),
            outcome: Mutex::default(),
            source,
            depth,
        })
    }
}

impl Engine {
    pub(crate) fn new(rules: Rules, inline: bool, clock: Clock) -> Arc<Self> {
        Arc::new_cyclic(|me: &Weak<Engine>| {
            let host: Weak<Engine> = Weak::clone(me);
            let watched = Weak::clone(me);
            let wake = move || {
                if let Some(engine) = watched.upgrade() {
                    engine.supervisor.wake(&engine);
                }
            };
            let health_registry = Arc::new(HealthRegistry::new(clock.clone(), Arc::new(wake)));
            let reports = Weak::clone(me);
            let dispatcher = Dispatcher::new(inline, move |trouble| {
                if let Some(engine) = reports.upgrade() {
                    engine.report(trouble);
                }
            });
            let scrubs = Weak::clone(me);
            rules.secrets.when_more(move |key| {
                if let Some(engine) = scrubs.upgrade() {
                    let current = engine.current.full();
                    let hidden = |key: &str| {
                        let found = Found::in_tree(&current.root, key).unwrap_or(Found::Nothing);
                        current.hides(key, found)
                    };
                    let quoting = |words: &str| current.without_values_of(key.as_str(), words);
                    engine.health_registry.hide(&hidden, &quoting);
                }
            });
            let root = Generation {
                stamp: Arc::new(Stamp {
                    number: 0,
                    time: SystemTime::now(),
                    layers: Arc::default(),
                    pinned: None,
                }),
                root: Table::default(),
                pending: Arc::default(),
                append: Arc::clone(&rules.append),
                at_hand: Table::default(),
                layers: Vec::new(),
                secrets: rules.secrets.clone(),
                quotable: Quotable::default(),
                seed: Seed::get(),
                usage: rules.usage.clone(),
            };
            Self {
                current: Cell::new(Arc::new(root)),
                commit_state: CommitLock::new(CommitState::new(clock.clone())),
                queue: Mutex::default(),
                sources: AtomicU64::new(OVERRIDES.0 + 1),
                closed: AtomicBool::new(false),
                rules,
                dispatcher,
                commit_listeners: Listeners::default(),
                close_listeners: Listeners::default(),
                health_registry,
                supervisor: Supervisor::new(clock),
                cache: Cache::default(),
                overrides: OVERRIDES,
                shared: Mutex::default(),
                kept: Mutex::default(),
                replaced: Mutex::default(),
                host: Arc::new(host),
                me: Weak::clone(me),
                process: ProcessId::current(),
            }
        })
    }

    /// This engine, as handles see it.
    pub(crate) fn host(&self) -> HostRef {
        Arc::clone(&self.host)
    }

    pub(crate) fn weak(&self) -> Weak<Engine> {
        Weak::clone(&self.me)
    }

    pub(crate) fn new_source(&self) -> SourceId {
        // A counter: its order with other memory does not matter.
        SourceId(self.sources.fetch_add(1, Ordering::Relaxed))
    }

    /// Refuses the layer of the program's own writes, which stays where it is.
    pub(crate) fn is_a_source(&self, id: SourceId) -> Result<(), Error> {
        if id == self.overrides {
            let detail = "is the override layer, which always is there and always wins";
            return Err(Error::new(ErrorKind::Rejected, format!("{id} {detail}")));
        }
        Ok(())
    }

    /// Rejects what would move or remove a bootstrap source, or give its rank to another one.
    pub(crate) fn check_rank(&self, source: Option<SourceId>, to: &Layer) -> Result<(), Error> {
        let now = self.current.full();
        let mut layers = now.layers.iter();
        let state = source.and_then(|source| layers.find(|state| state.id == source));
        let is_fixed = state.is_some_and(|state| state.layer.is_bootstrap());
        if is_fixed || to.is_bootstrap() {
            Err(pins::reserved(state.map_or(to.name(), |state| &state.name)))
        } else {
            Ok(())
        }
    }

    /// Whether the values of a source are in force and only a start sets them.
    fn is_fixed(&self, source: SourceId) -> bool {
        let now = self.current.load();
        let mut layers = now.layers.iter();
        let is_bootstrap = layers.any(|state| state.id == source && state.layer.is_bootstrap());
        is_bootstrap && self.health_registry.has_arrived(source)
    }

    /// Keys that held secrets in an earlier run do so still.
    pub(crate) fn known_secrets(&self, keys: &[Key]) {
        let secrets = &self.rules.secrets;
        // What looks like one is known without this, and may turn out to be none.
        let tells = |key: &&Key| !secrets.is_plain(key.as_str()) && !looks_secret(key.as_str());
        keys.iter()
            .filter(tells)
            .for_each(|key| secrets.add(key.clone()));
    }

    /// Begins with what an earlier run had rolled back to.
    pub(crate) fn begin_with(&self, before: Before) -> Result<(), Error> {
        self.known_secrets(&before.secrets);
        let pin = Pin {
            pinned: Pinned {
                generation: before.generation,
                since: before.since,
                by_earlier_run: true,
            },
            tree: before.tree,
            secrets: before.secrets,
            hidden: before.hidden,
        };
        self.locked(|commit_state| drop(commit_state.pins.pin(Some(pin))))
    }

    /// What is rolled back to.
    pub(crate) fn rolled_back(&self) -> Result<Option<Pin>, Error> {
        self.locked(|commit_state| commit_state.pins.tree().cloned())
    }

    /// Rolls back, or ends that, here and on disk.
    pub(crate) fn roll_back(&self, to: Option<u64>) -> Result<CommitOutcome, Error> {
        let mut applied = self.commit(Command::Pin(to))?;
        if let Err(error) = self.cache.keep_rollback(self) {
            self.health_registry.note(applied.generation, error.clone());
            applied.refused.push(error);
        }
        Ok(applied)
    }

    /// Looks twice at what a source removes.
    pub(crate) fn guard(
        &self,
        source: SourceId,
        guard: RemovalGuard,
        asked: bool,
    ) -> Result<(), Error> {
        self.locked(|commit_state| commit_state.guards.add(source, guard, asked))
    }

    /// Judges the first values of a source beside those that were kept of it.
    pub(crate) fn judge_first(
        &self,
        id: SourceId,
        kept: &Table,
        says: &Table,
    ) -> Result<(), Error> {
        self.locked(|commit_state| commit_state.guards.judge(id, kept, says, Said::All))?
    }

    /// Shows that the first values of a source are held.
    pub(crate) fn show_held(&self, id: SourceId, generation: u64, held: Error) {
        let mut news = News::default();
        // Only a validator could hold the lock here; the next answer is held as well.
        let _ = self.locked(|commit_state| {
            let what = commit_state.guards.held(id);
            self.health_registry
                .refused(&mut news, id, generation, held, what);
        });
        news.tell();
        self.supervisor.ring();
    }

    /// Ends what was begun for a source that is not added after all.
    pub(crate) fn give_up(&self, source: SourceId) {
        self.forget(source);
        self.turn_away(source);
        self.health_registry
            .close(source, self.current.load().number());
    }

    /// Ends what is done for a source.
    pub(crate) fn forget(&self, source: SourceId) {
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
    fn locked<R>(&self, f: impl FnOnce(&mut CommitState) -> R) -> Result<R, Error> {
        self.check_process()?;
        let (outcome, discarded) = self.commit_state.with(f).map_err(reentrant)?;
        drop(discarded);
        Ok(outcome)
    }

    /// Notes that this thread builds the properties, until the result is dropped.
    pub(crate) fn begin_building(&self) -> Building {
        Building::begin(&self.commit_state)
    }

    /// Has what a source pushes wait until [`admit`](Self::admit) gives it a layer.
    pub(crate) fn arriving(&self, id: SourceId) {
        self.queue.lock().arriving.push(id);
    }

    /// Drops what a source has pushed that is not let in.
    pub(crate) fn turn_away(&self, id: SourceId) {
        let removed = {
            let mut queue = self.queue.lock();
            queue.arriving.retain(|other| *other != id);
            queue.remove_of(id)
        };
        drop(removed);
    }

    /// Whether an order may be given now, and how deep in a chain of callbacks it would be.
    fn depth(&self) -> Result<u32, Error> {
        self.check_process()?;
        if self.commit_state.is_held() {
            let detail = "a validator or a decoder may not change properties";
            return Err(Error::new(ErrorKind::Reentrant, detail));
        }
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Closed, "the properties are gone"));
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

    /// Gives an order its place in the sequence.
    pub(crate) fn place(&self, order: Command) -> Result<Arc<QueuedCommand>, Error> {
        let placed = QueuedCommand::new(order, self.depth()?);
        let superseded = {
            let mut queue = self.queue.lock();
            let superseded = queue.supersede(&placed);
            queue.orders.push_back(Arc::clone(&placed));
            superseded
        };
        drop(superseded);
        Ok(placed)
    }

    /// Commits everything up to and including a placed order and says what became of it.
    pub(crate) fn settle(&self, placed: &QueuedCommand) -> Result<CommitOutcome, Error> {
        let arriving = |id| self.queue.lock().arriving.contains(&id);
        if placed.source.is_some_and(arriving) {
            // Part of the source's first load, which commits it.
            return Ok(CommitOutcome {
                generation: 0,
                changed: 0,
                refused: Vec::new(),
                kept: Vec::new(),
            });
        }
        self.serve_to(placed)?;
        let outcome = placed.outcome.lock().take();
        outcome.unwrap_or_else(|| Err(Error::new(ErrorKind::Closed, "the properties are gone")))
    }

    /// Commits the queue up to a placed order, or withdraws the order if this thread cannot commit.
    fn serve_to(&self, placed: &QueuedCommand) -> Result<(), Error> {
        while let Err(why) = self.serve() {
            if why == CannotLock::IsHeld || self.withdraw(placed) {
                return Err(reentrant(why));
            }
            // Another thread has taken the order. It is not waiting for this one.
            if placed.outcome.lock().is_some() {
                break;
            }
            std::thread::sleep(POLL_OF_A_TAKEN_ORDER);
        }
        Ok(())
    }

    /// Takes an order out of the queue. Returns `false` if a thread has taken it to commit it.
    fn withdraw(&self, placed: &QueuedCommand) -> bool {
        let mut queue = self.queue.lock();
        if placed.order.lock().take().is_none() {
            return false;
        }
        queue.orders.retain(|other| !std::ptr::eq(&**other, placed));
        true
    }

    /// Places an order and commits it.
    pub(crate) fn commit(&self, order: Command) -> Result<CommitOutcome, Error> {
        let placed = self.place(order)?;
        self.settle(&placed)
    }

    /// Commits new layers as one generation, with the first documents their sources have pushed
    /// meanwhile, and from then on commits what those sources say.
    pub(crate) fn admit(
        &self,
        mut layers: Vec<LayerState>,
        instead: Vec<Instead>,
    ) -> Result<CommitOutcome, Error> {
        let ids: Vec<SourceId> = layers.iter().map(|layer| layer.id).collect();
        let placed = self.depth().map(|depth| {
            let mut queue = self.queue.lock();
            for layer in &mut layers {
                // Where the cache stands in, the document replaces the kept values by a commit of its
                // own, which is guarded as any other.
                if queue.arriving.contains(&layer.id) && layer.kept.is_none() {
                    if let Some(document) = queue.take_first_document(layer.id) {
                        let (root, problems) = document.into_parts();
                        layer.root = root;
                        self.health_registry.arrived(layer.id, problems);
                    }
                }
            }
            let placed = QueuedCommand::new(Command::Add(layers, instead), depth);
            // Before what the same sources said later.
            queue.orders.push_front(Arc::clone(&placed));
            queue.arriving.retain(|id| !ids.contains(id));
            placed
        });
        match placed {
            Ok(placed) => self.settle(&placed),
            Err(error) => {
                ids.into_iter().for_each(|id| self.turn_away(id));
                Err(error)
            }
        }
    }

    fn serve(&self) -> Result<(), CannotLock> {
        let mut tell = Vec::new();
        // The last one is dropped after the lock is released: freeing a tree takes long.
        let mut unused = Vec::new();
        let (is_in_use, discarded) = self.commit_state.with(|commit_state| {
            loop {
                let next = self.queue.lock().next();
                let Some(placed) = next else {
                    break;
                };
                // One old tree at most waits beside the new one.
                unused.clear();
                let order = placed.order.lock().take();
                if let Some(order) = order {
                    let outcome = self.serve_one(commit_state, order, placed.depth, &mut tell);
                    *placed.outcome.lock() = Some(outcome);
                    unused = commit_state.retired.take_unused();
                }
            }
            // Where readers use none, the clock is not read.
            !commit_state.retired.is_empty()
                && commit_state.schedule_sweep(self.supervisor.clock().now())
        })?;
        self.dispatcher.deliver(|| {
            for (depth, told) in tell {
                dispatcher::caused_by(depth, told);
            }
        });
        drop(unused);
        drop(discarded);
        let (unused, is_read) = {
            let mut versions = self.replaced.lock();
            (versions.take_few_unused(), versions.take_wake())
        };
        if !unused.is_empty() {
            discard(unused);
        }
        if is_in_use || is_read {
            self.supervisor.wake(self);
        }
        Ok(())
    }

    /// Has replaced versions dropped whose last reader has gone on. Returns when to look again.
    fn free_versions(&self) -> Option<Instant> {
        let look = self.replaced.lock().look(self.supervisor.clock().now());
        match look {
            Look::Nothing => None,
            Look::At(next) => Some(next),
            Look::FreeAndLookAt(next) => {
                let me = self.weak();
                // How a value is dropped is user code.
                self.supervisor.aside(move || {
                    if let Some(engine) = me.upgrade() {
                        let unused = engine.replaced.lock().take_all_unused();
                        drop(unused);
                    }
                });
                Some(next)
            }
        }
    }

    fn serve_one(
        &self,
        commit_state: &mut CommitState,
        mut order: Command,
        depth: u32,
        tell: &mut Vec<(u32, Told)>,
    ) -> Result<CommitOutcome, Error> {
        let mut revision = None;
        let mut said = None;
        let mut by_time = false;
        let (source, writes, confirmed) = match &mut order {
            Command::Update {
                source,
                update,
                told,
                ..
            } => {
                revision = update.revision.take();
                said = *told;
                if commit_state.guards.watches(*source)
                    && self.health_registry.was_interrupted(*source)
                {
                    commit_state.guards.interrupted(*source);
                }
                (Some(*source), false, false)
            }
            Command::Confirm {
                source,
                by_time: told,
            } => {
                by_time = *told;
                (Some(*source), !by_time, true)
            }
            Command::Write { source, .. } => (Some(*source), true, false),
            _ => (None, false, false),
        };
        // Nothing is known to panic here: decoders and validators are contained one by one, and
        // publishing runs no user code.
        let commit = || commit_state.commit(&self.current, &self.rules, order);
        let outcome = panics::catch(commit)
            .unwrap_or_else(|panic| Err(Error::from_panic("the commit", panic.message())));
        let mut news = News::default();
        match outcome {
            Ok(Done {
                applied,
                problems,
                waiting,
                clashes,
                ignored_items,
                stale,
                mut told,
                versions,
            }) => {
                self.commit_listeners.collect_into(&mut told);
                if !versions.is_empty() {
                    self.replaced
                        .lock()
                        .add(versions, self.supervisor.clock().now());
                }
                let (generation, changed) = (applied.generation, applied.changed > 0);
                for clash in clashes {
                    self.health_registry
                        .note_clash(&mut news, generation, clash);
                }
                if !stale.is_empty() {
                    self.health_registry.stale(&mut news, generation, stale);
                }
                if let Some((now, waiting)) = waiting {
                    let waiting = waiting_keys(&now, &waiting);
                    self.health_registry
                        .waits_for_restart(&mut news, generation, waiting);
                }
                if let Some(source) = source.filter(|source| *source != self.overrides) {
                    if self.cache.is_open() {
                        let whole = applied.refused.is_empty();
                        self.cache.heard(source, revision.clone().filter(|_| whole));
                    }
                    let answer = Answer {
                        generation,
                        changed,
                        confirmed,
                        problems,
                        revision,
                        refused: applied.refused.clone(),
                        held: commit_state.guards.held(source),
                        told: said,
                    };
                    self.health_registry.answered(&mut news, source, answer);
                }
                if let Some(items) = ignored_items {
                    self.health_registry
                        .ignored_items(&mut news, generation, items);
                }
                if !(told.is_empty() && news.is_empty()) {
                    let tell_all = move || {
                        for listener in told {
                            // Waking a task is the executor's code.
                            let _ = panics::catch(|| listener.tell());
                        }
                        news.tell();
                    };
                    tell.push((depth, Box::new(tell_all)));
                }
                Ok(applied)
            }
            Err(error) => {
                if let (Some(source), false) = (source, writes) {
                    if by_time {
                        commit_state.guards.put_off(source);
                    }
                    let held = commit_state.guards.held(source);
                    // What was to be believed by now may have been let go meanwhile.
                    if !by_time || held.is_some() {
                        let generation = self.current.load().number();
                        let health_registry = &self.health_registry;
                        match self.is_fixed(source) {
                            // Its values of the start stay in force as they are.
                            true => health_registry.note_of(
                                &mut news,
                                source,
                                generation,
                                error.clone(),
                            ),
                            false => {
                                health_registry.refused(
                                    &mut news,
                                    source,
                                    generation,
                                    error.clone(),
                                    held,
                                );
                            }
                        }
                    }
                    let me = self.weak();
                    let tell_all = move || {
                        news.tell();
                        if let Some(engine) = me.upgrade() {
                            engine.supervisor.ring();
                        }
                    };
                    tell.push((depth, Box::new(tell_all)));
                }
                Err(error)
            }
        }
    }

    /// Reports what goes wrong while callbacks are run.
    fn report(&self, trouble: Trouble) {
        match trouble {
            Trouble::Panicked(message) => {
                let shown = without_secrets(&message, &[&self.current.full()]);
                let error = Error::from_panic("a callback", &shown);
                self.tell_whole(SourceEventKind::CallbackPanicked(error));
            }
            Trouble::NoThread(error) => {
                self.health_registry
                    .note(self.current.load().number(), error);
                // It tries again.
                self.supervisor.ring();
            }
        }
    }

    pub(crate) fn tell_whole(&self, kind: SourceEventKind) {
        self.health_registry
            .whole(self.current.load().number(), kind);
    }

    /// The one value of a type that all sources share.
    pub(crate) fn shared(&self, kind: TypeId, make: Make<'_>) -> Arc<dyn Any + Send + Sync> {
        let gate = Arc::clone(&self.shared.lock().entry(kind).or_default().gate);
        // One maker at a time for each type, and no lock over all of them: what is made may share
        // something else, such as a client that needs the runtime. A maker that asks for its own type
        // makes another. Inside a validator nobody is waited for: a maker may wait for the commit.
        let _one = if lock::is_committing() {
            gate.try_lock()
        } else {
            Some(gate.lock())
        };
        let there = self
            .shared
            .lock()
            .get(&kind)
            .and_then(|shared| shared.value.as_ref()?.upgrade());
        if let Some(there) = there {
            return there;
        }
        let made = make();
        if let Some(shared) = self.shared.lock().get_mut(&kind) {
            shared.value = Some(Arc::downgrade(&made));
        }
        made
    }

    /// Commits a write of the program into the override layer.
    pub(crate) fn write(
        &self,
        edits: Vec<Edit>,
        conditions: Vec<Condition>,
    ) -> Result<CommitOutcome, Error> {
        self.commit(Command::Write {
            source: self.overrides,
            edits,
            conditions,
        })
    }

    /// Commits what a source says.
    pub(crate) fn update(
        &self,
        source: SourceId,
        update: Update,
        refusal: Refusal,
        told: Option<Instant>,
    ) -> Result<Arc<QueuedCommand>, Error> {
        self.place(Command::Update {
            source,
            update,
            refusal,
            told,
        })
    }

    /// The generations that are kept, the newest last, which is in force.
    pub(crate) fn history(&self) -> Result<Vec<Arc<Generation>>, Error> {
        self.locked(|commit_state| {
            let past = commit_state.pins.past().cloned();
            past.chain([self.current.full()]).collect()
        })
    }

    /// What would become of the tree if a source said this; changes nothing.
    pub(crate) fn try_out(&self, source: SourceId, document: Document) -> Result<Tried, Error> {
        let refusal = self.supervisor.refusal(source);
        let is_literal = self.supervisor.is_literal(source);
        self.locked(|commit_state| {
            let old = self.current.full();
            let mut document = document;
            if is_literal {
                document.escape_references();
            }
            if let Some(layer) = old.layers.iter().find(|layer| layer.id == source) {
                document.keep_last_good(&layer.root);
            }
            let (root, _) = document.into_parts();
            // The decoders and validators are the user's code.
            let tried =
                panics::catch(|| commit_state.try_out(&self.rules, &old, source, root, refusal))
                    .unwrap_or_else(|panic| {
                        Err(Error::from_panic("trying an update", panic.message()))
                    })?;
            Ok(Tried {
                before: old,
                after: tried.after,
                refused: tried.refused,
                stale: tried.stale,
            })
        })?
    }

    /// Frees the replaced generations and versions that no reader uses any more; returns when to retry.
    pub(crate) fn free_unused(&self) -> Option<Instant> {
        let retries = [self.free_retired(), self.free_versions()];
        retries.into_iter().flatten().min()
    }

    /// Frees the replaced generations that nobody uses any more; returns when to retry.
    fn free_retired(&self) -> Option<Instant> {
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

    /// Does what is due by now, and says when to look again.
    pub(crate) fn grown_old(&self) -> Option<Instant> {
        let (mut next, believed) = self.health_registry.grown_old(self.current.load().number());
        for source in believed {
            let me = self.weak();
            let started = self.supervisor.aside(move || {
                if let Some(engine) = me.upgrade() {
                    // Why not is in the health registry already.
                    let _ = engine.commit(Command::Confirm {
                        source,
                        by_time: true,
                    });
                }
            });
            if !started {
                let again = self.supervisor.clock().now() + dispatcher::RETRY;
                self.health_registry.accept_at(source, again);
                next = next.into_iter().chain([again]).min();
            }
        }
        next
    }

    /// Wakes those who wait for changes that do not come any more.
    fn notify_closed(&self) {
        let mut listeners = Vec::new();
        self.close_listeners.collect_into(&mut listeners);
        for listener in listeners {
            // A waker is user code.
            if let Err(panic) = panics::catch(|| listener.tell()) {
                self.dispatcher.panicked(&panic);
            }
        }
    }

    /// Stops and joins every thread.
    pub(crate) fn shut_down(&self) {
        self.closed.store(true, Ordering::Release);
        self.notify_closed();
        // One bound for all: a source that hangs uses up no more than a callback that does. Inside a
        // validator it is over at once, since the threads may wait for the commit.
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
        // What was kept for good may hold the engine's last reference to itself.
        let kept = std::mem::take(&mut *self.kept.lock());
        discard(kept);
    }
}

fn reentrant(why: CannotLock) -> Error {
    Error::new(ErrorKind::Reentrant, why.to_string())
}

/// What would become of the tree.
pub(crate) struct Tried {
    pub(crate) before: Arc<Generation>,
    pub(crate) after: Arc<Generation>,
    /// The keys that would be refused.
    pub(crate) refused: Vec<Error>,
    /// The handles that would keep their last good values.
    pub(crate) stale: Vec<Stale>,
}

/// The keys that wait for a restart, as the operators see them.
fn waiting_keys(now: &Arc<Generation>, waiting: &Pending) -> Vec<PendingRestart> {
    waiting
        .iter()
        .map(|(key, says)| {
            let running = now.root.find(key.segments());
            let hidden = now.secrets.hides(key.as_str());
            let show = |entry: Option<&Arc<Entry>>| {
                let entry = entry?;
                let hidden = hidden || now.derives_from_secret(entry);
                Some(diff::shown(&entry.node, hidden))
            };
            PendingRestart {
                running: show(running),
                waiting: show(says.as_ref()),
                origin: says.as_ref().and_then(|entry| entry.node.origin().cloned()),
                key: key.clone(),
            }
        })
        .collect()
}

/// Tells whoever is to hear of a commit.
type Told = Box<dyn FnOnce()>;

impl Host for Engine {
    fn between_commits(
        &self,
        f: &mut dyn FnMut(&Arc<Generation>, &mut Registry),
    ) -> Result<(), Error> {
        self.locked(|commit_state| {
            let current = self.current.full();
            f(&current, &mut commit_state.registry);
        })
    }

    fn generation(&self) -> u64 {
        self.current.load().number()
    }

    fn check_process(&self) -> Result<(), Error> {
        Engine::check_process(self)
    }

    fn note_missing(&self, key: &Key, is_table: bool) {
        self.health_registry.note_missing(key, is_table);
    }

    fn records_reads(&self) -> bool {
        Engine::records_reads(self)
    }

    fn note_read(&self, keys: Vec<Key>) {
        self.health_registry.note_read(keys);
    }

    fn schedule(&self, subscriber: Arc<Subscriber>) {
        self.dispatcher.schedule(subscriber);
    }

    fn cause(&self) -> u32 {
        dispatcher::cause()
    }

    fn callback_panicked(&self, panic: Panicked) {
        self.dispatcher.panicked(&panic);
    }

    fn on_close(&self, listener: Weak<dyn Listener>) {
        self.close_listeners.add(listener);
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn keep(&self, holder: Arc<dyn Any + Send + Sync>) {
        if self.process.is_current() {
            self.kept.lock().push(Contained::new(holder));
        } else {
            std::mem::forget(holder);
        }
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("generation", &self.current.load().number())
            .finish_non_exhaustive()
    }
}
