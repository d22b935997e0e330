//! The engine itself: the commit lock, the queue before it, and what is shared around it.

use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Instant, SystemTime};

use parking_lot::Mutex;

use crate::engine::commit::{Condition, Done, Ledger, Order, Rules};
use crate::engine::dispatch::{self, Dispatcher};
use crate::engine::health::{Books, SourceEventKind};
use crate::engine::supervise::Supervisor;
use crate::engine::threads::PATIENCE;
use crate::error::{Error, ErrorKind};
use crate::property::registry::{Host, Registry};
use crate::property::subscription::Subscriber;
use crate::source::{Applied, Edit, Make, Refusal, Update};
use crate::sync::Cell;
use crate::tree::layer::{LayerState, SourceId};
use crate::tree::snapshot::Generation;
use crate::value::node::Table;

thread_local! {
    /// The engines whose commit lock this thread holds, by address.
    static COMMITTING: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// Keeps one tree current.
pub(crate) struct Engine {
    pub(crate) current: Cell<Generation>,
    ledger: Mutex<Ledger>,
    /// Orders in the sequence they were given; whoever holds the commit lock serves all.
    queue: Mutex<VecDeque<Arc<Placed>>>,
    /// Whether the initial load is done; until then orders wait.
    open: AtomicBool,
    closed: AtomicBool,
    pub(crate) rules: Rules,
    pub(crate) dispatcher: Dispatcher,
    pub(crate) books: Arc<Books>,
    pub(crate) supervisor: Supervisor,
    /// The layer that the program writes to.
    pub(crate) overrides: SourceId,
    shared: Mutex<HashMap<TypeId, Weak<dyn Any + Send + Sync>>>,
    kept: Mutex<Vec<Arc<dyn Any + Send + Sync>>>,
    me: Weak<Engine>,
}

/// An order with its place in the sequence, and its outcome once there is one.
pub(crate) struct Placed {
    order: Mutex<Option<Order>>,
    outcome: Mutex<Option<Result<Applied, Error>>>,
    /// How deep in a chain of callbacks it was given.
    depth: u32,
}

impl Engine {
    pub(crate) fn new(rules: Rules, inline: bool) -> Arc<Self> {
        Arc::new_cyclic(|me: &Weak<Engine>| {
            let books = Arc::new(Books::new());
            let reports = Weak::clone(me);
            let dispatcher = Dispatcher::new(inline, move |error| {
                if let Some(engine) = reports.upgrade() {
                    engine.tell_whole(SourceEventKind::CallbackPanicked(error));
                }
            });
            let root = Generation {
                number: 0,
                time: SystemTime::now(),
                root: Table::default(),
                layers: Vec::new(),
                secrets: rules.secrets.clone(),
            };
            let mut ledger = Ledger::new();
            let overrides = ledger.new_source();
            Self {
                current: Cell::new(Arc::new(root)),
                ledger: Mutex::new(ledger),
                queue: Mutex::default(),
                open: AtomicBool::new(false),
                closed: AtomicBool::new(false),
                rules,
                dispatcher,
                books,
                supervisor: Supervisor::default(),
                overrides,
                shared: Mutex::default(),
                kept: Mutex::default(),
                me: Weak::clone(me),
            }
        })
    }

    pub(crate) fn weak(&self) -> Weak<Engine> {
        Weak::clone(&self.me)
    }

    pub(crate) fn new_source(&self) -> Result<SourceId, Error> {
        self.locked(Ledger::new_source)
    }

    /// Refuses the layer of the program's own writes, which stays where it is.
    pub(crate) fn is_a_source(&self, id: SourceId) -> Result<(), Error> {
        if id == self.overrides {
            let detail = "is the override layer, which always is there and always wins";
            return Err(Error::new(ErrorKind::Other, format!("{id} {detail}")));
        }
        Ok(())
    }

    /// Keeps what a source pushes from now on until its layer is added.
    pub(crate) fn expect(&self, source: SourceId) -> Result<(), Error> {
        self.locked(|ledger| ledger.expect(source))
    }

    /// Ends what was begun for a source that is not added after all.
    pub(crate) fn give_up(&self, source: SourceId) {
        self.supervisor.remove(source);
        self.books.close(source, self.current.load().number);
        // Refused only inside a commit, where nothing is added.
        let _ = self.locked(|ledger| ledger.expect_no_more(source));
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Whether this thread is inside a commit of this engine, in code of the user's.
    fn is_committing(&self) -> bool {
        COMMITTING.with_borrow(|held| held.contains(&self.address()))
    }

    /// Holds the commit lock around `f`, or refuses if this thread holds it already.
    fn locked<R>(&self, f: impl FnOnce(&mut Ledger) -> R) -> Result<R, Error> {
        if self.is_committing() {
            let detail = "called from inside a validator or a decoder of the same properties, where nothing can be changed";
            return Err(Error::new(ErrorKind::Reentrant, detail));
        }
        struct Held(usize);
        impl Drop for Held {
            fn drop(&mut self) {
                COMMITTING.with_borrow_mut(|held| held.retain(|address| *address != self.0));
            }
        }
        let mut ledger = self.ledger.lock();
        COMMITTING.with_borrow_mut(|held| held.push(self.address()));
        let _held = Held(self.address());
        Ok(f(&mut ledger))
    }

    /// Gives an order its place in the sequence.
    pub(crate) fn place(&self, order: Order) -> Result<Arc<Placed>, Error> {
        if self.is_committing() {
            let detail = "a validator or a decoder may not change properties";
            return Err(Error::new(ErrorKind::Reentrant, detail));
        }
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Closed, "the properties are gone"));
        }
        let depth = dispatch::depth_of_commit();
        if depth > dispatch::MAX_DEPTH {
            let detail = format!(
                "callbacks triggered each other more than {} times in a row",
                dispatch::MAX_DEPTH
            );
            let error = Error::new(ErrorKind::Loop, detail);
            self.books.note(error.clone());
            return Err(error);
        }
        let placed = Arc::new(Placed {
            order: Mutex::new(Some(order)),
            outcome: Mutex::default(),
            depth,
        });
        self.queue.lock().push_back(Arc::clone(&placed));
        Ok(placed)
    }

    /// Commits everything up to and including a placed order and says what became of it.
    pub(crate) fn settle(&self, placed: &Placed) -> Result<Applied, Error> {
        if !self.open.load(Ordering::Acquire) {
            // Part of the initial load, which commits it.
            return Ok(Applied {
                generation: 0,
                changed: 0,
                refused: Vec::new(),
            });
        }
        self.serve()?;
        let outcome = placed.outcome.lock().take();
        outcome.unwrap_or_else(|| Err(Error::new(ErrorKind::Closed, "the properties are gone")))
    }

    /// Places an order and commits it.
    pub(crate) fn commit(&self, order: Order) -> Result<Applied, Error> {
        let placed = self.place(order)?;
        self.settle(&placed)
    }

    /// Commits the initial layers as one generation, with what sources have pushed meanwhile, and
    /// from then on commits orders as they come.
    pub(crate) fn begin(&self, mut layers: Vec<LayerState>) -> Result<Applied, Error> {
        let order = {
            let mut queue = self.queue.lock();
            queue.retain(|placed| {
                let mut order = placed.order.lock();
                let layer = match &*order {
                    Some(Order::Update { source, .. }) => {
                        layers.iter_mut().find(|layer| layer.id == *source)
                    }
                    _ => None,
                };
                let Some(layer) = layer else {
                    return true;
                };
                if let Some(Order::Update { source, update, .. }) = order.take() {
                    if let Some(problems) = layer.take(update) {
                        self.books.left_out(source, problems);
                    }
                }
                *placed.outcome.lock() = Some(Ok(Applied {
                    generation: 0,
                    changed: 0,
                    refused: Vec::new(),
                }));
                false
            });
            let order = Order::Add(layers);
            let placed = Placed {
                order: Mutex::new(Some(order)),
                outcome: Mutex::default(),
                depth: 0,
            };
            let placed = Arc::new(placed);
            queue.push_front(Arc::clone(&placed));
            placed
        };
        self.open.store(true, Ordering::Release);
        self.settle(&order)
    }

    fn serve(&self) -> Result<(), Error> {
        let mut tell = Vec::new();
        self.locked(|ledger| {
            loop {
                let next = self.queue.lock().pop_front();
                let Some(placed) = next else {
                    break;
                };
                let order = placed.order.lock().take();
                if let Some(order) = order {
                    let outcome = self.serve_one(ledger, order, placed.depth, &mut tell);
                    *placed.outcome.lock() = Some(outcome);
                }
            }
        })?;
        for (depth, told) in tell {
            dispatch::caused_by(depth, told);
        }
        Ok(())
    }

    fn serve_one(
        &self,
        ledger: &mut Ledger,
        order: Order,
        depth: u32,
        tell: &mut Vec<(u32, Told)>,
    ) -> Result<Applied, Error> {
        let (source, writes) = match &order {
            // What a source pushes before its layer is added is no news yet.
            Order::Update { source, .. } if ledger.expects(*source) => (None, false),
            Order::Update { source, .. } => (Some(*source), false),
            Order::Write { source, .. } => (Some(*source), true),
            _ => (None, false),
        };
        let added = match &order {
            Order::Add(layers) if layers.len() == 1 => Some(layers[0].id),
            _ => None,
        };
        let outcome = ledger.commit(&self.current, &self.rules, order);
        let books = Arc::clone(&self.books);
        match outcome {
            Ok(Done {
                applied,
                problems,
                clashes,
                told,
            }) => {
                let (generation, changed) = (applied.generation, applied.changed > 0);
                let refused = applied.refused.clone();
                if let (Some(added), Some(problems)) = (added, &problems) {
                    books.left_out(added, problems.clone());
                }
                tell.push((
                    depth,
                    Box::new(move || {
                        for listener in told {
                            // Waking a task is the executor's code.
                            let _ = catch_unwind(AssertUnwindSafe(|| listener.tell()));
                        }
                        for clash in clashes {
                            books.note(clash);
                        }
                        if let Some(source) = source {
                            books.answered(source, generation, changed, problems, refused.first());
                            books.refused(source, generation, &refused, false);
                        }
                    }),
                ));
                Ok(applied)
            }
            Err(error) => {
                if let (Some(source), false) = (source, writes) {
                    let (generation, error) = (self.current.load().number, error.clone());
                    tell.push((
                        depth,
                        Box::new(move || books.refused(source, generation, &[error], true)),
                    ));
                }
                Err(error)
            }
        }
    }

    pub(crate) fn tell_whole(&self, kind: SourceEventKind) {
        self.books.whole(self.current.load().number, kind);
    }

    /// The one value of a type that all sources share.
    pub(crate) fn shared(&self, kind: TypeId, make: Make<'_>) -> Arc<dyn Any + Send + Sync> {
        let mut shared = self.shared.lock();
        if let Some(there) = shared.get(&kind).and_then(Weak::upgrade) {
            return there;
        }
        let made = make();
        shared.insert(kind, Arc::downgrade(&made));
        made
    }

    /// Commits a write of the program into the override layer.
    pub(crate) fn write(
        &self,
        edits: Vec<Edit>,
        conditions: Vec<Condition>,
    ) -> Result<Applied, Error> {
        self.commit(Order::Write {
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
    ) -> Result<Arc<Placed>, Error> {
        self.place(Order::Update {
            source,
            update,
            refusal,
        })
    }

    /// Stops and joins every thread.
    pub(crate) fn shut_down(&self) {
        self.closed.store(true, Ordering::Release);
        // One bound for all: a source that hangs uses up no more than a callback that does.
        let until = Instant::now() + PATIENCE;
        self.supervisor.stop();
        self.dispatcher.stop();
        self.dispatcher.join(until);
        self.supervisor.join(until);
        // What was kept for good may hold the engine's last reference to itself.
        let kept = std::mem::take(&mut *self.kept.lock());
        drop(kept);
    }
}

/// Tells whoever is to hear of a commit.
type Told = Box<dyn FnOnce()>;

impl Host for Engine {
    fn between_commits(
        &self,
        f: &mut dyn FnMut(&Arc<Generation>, &mut Registry),
    ) -> Result<(), Error> {
        self.locked(|ledger| {
            let current = self.current.full();
            f(&current, &mut ledger.registry);
        })
    }

    fn schedule(&self, subscriber: Arc<Subscriber>) {
        self.dispatcher.schedule(subscriber);
    }

    fn cause(&self) -> u32 {
        dispatch::cause()
    }

    fn callback_panicked(&self, panic: Box<dyn Any + Send>) {
        self.dispatcher.panicked(&*panic);
    }

    fn keep(&self, holder: Arc<dyn Any + Send + Sync>) {
        self.kept.lock().push(holder);
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("generation", &self.current.load().number)
            .finish_non_exhaustive()
    }
}
