//! Runs each source on a thread of its own: load, then watch or poll, again after a failure.

use std::any::{Any, TypeId};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak, mpsc};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::engine::core::{Engine, Placed};
use crate::engine::threads::Threads;
use crate::error::{Error, ErrorKind};
use crate::property::slot::panicked;
use crate::source::{Applied, Make, Refusal, Sink, Source, Ticket, Update, Updates, Watching};
use crate::tree::layer::SourceId;
use crate::value::document::Document;

/// The longest pause between two attempts.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// The shortest pause between two loads.
const MIN_POLL: Duration = Duration::from_millis(1);
/// The pause after the first failure is at most this.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// All sources that run.
#[derive(Default)]
pub(crate) struct Supervisor {
    threads: Threads,
    running: Mutex<Vec<(SourceId, Arc<Stop>)>>,
}

/// Tells one source's thread to end.
#[derive(Default)]
pub(crate) struct Stop {
    state: Mutex<Stopping>,
    wake: Condvar,
}

#[derive(Default)]
struct Stopping {
    stopped: bool,
    hooks: Vec<Box<dyn Fn() + Send + Sync>>,
}

impl Stop {
    fn stop(&self) {
        let hooks = {
            let mut state = self.state.lock();
            state.stopped = true;
            self.wake.notify_all();
            std::mem::take(&mut state.hooks)
        };
        for hook in hooks {
            // A hook is the source's code.
            let _ = catch_unwind(AssertUnwindSafe(hook));
        }
    }

    fn is_stopped(&self) -> bool {
        self.state.lock().stopped
    }

    fn forget_hooks(&self) {
        let hooks = std::mem::take(&mut self.state.lock().hooks);
        // What they hold is the source's.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(hooks)));
    }

    fn wait(&self, pause: Duration) -> bool {
        let until = Instant::now().checked_add(pause);
        let mut state = self.state.lock();
        while !state.stopped {
            let left = match until {
                Some(until) => until.saturating_duration_since(Instant::now()),
                None => Duration::from_secs(3600),
            };
            if left.is_zero() {
                return false;
            }
            self.wake.wait_for(&mut state, left);
        }
        true
    }
}

/// The way from one source to the engine.
pub(crate) struct EngineSink {
    engine: Weak<Engine>,
    id: SourceId,
    refusal: Refusal,
    stop: Arc<Stop>,
}

struct EngineTicket {
    engine: Weak<Engine>,
    placed: Result<Arc<Placed>, Error>,
}

impl Ticket for EngineTicket {
    fn commit(self: Box<Self>) -> Result<Applied, Error> {
        let engine = self.engine.upgrade().ok_or_else(closed)?;
        engine.settle(&*self.placed?)
    }
}

fn closed() -> Error {
    Error::new(
        ErrorKind::Closed,
        "the properties are gone, or the source was removed",
    )
}

impl Sink for EngineSink {
    fn queue(&self, update: Update) -> Box<dyn Ticket> {
        let placed = match self.engine.upgrade() {
            Some(engine) if !self.stop.is_stopped() => engine.update(self.id, update, self.refusal),
            _ => Err(closed()),
        };
        Box::new(EngineTicket {
            engine: Weak::clone(&self.engine),
            placed,
        })
    }

    fn failed(&self, error: Error) {
        if let Some(engine) = self.engine.upgrade() {
            let generation = engine.current.load().number();
            engine.books.failed(self.id, generation, error);
        }
    }

    fn alive(&self) {
        if let Some(engine) = self.engine.upgrade() {
            let generation = engine.current.load().number();
            engine
                .books
                .answered(self.id, generation, false, None, None);
        }
    }

    fn degraded(&self, reason: Option<Error>) {
        if let Some(engine) = self.engine.upgrade() {
            let generation = engine.current.load().number();
            engine.books.degraded(self.id, generation, reason);
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.is_stopped()
    }

    fn wait(&self, pause: Duration) -> bool {
        self.stop.wait(pause)
    }

    fn on_stop(&self, hook: Box<dyn Fn() + Send + Sync>) {
        let mut state = self.stop.state.lock();
        if state.stopped {
            drop(state);
            hook();
        } else {
            state.hooks.push(hook);
        }
    }

    fn shared(&self, kind: TypeId, make: Make<'_>) -> Arc<dyn Any + Send + Sync> {
        match self.engine.upgrade() {
            Some(engine) => engine.shared(kind, make),
            None => make(),
        }
    }
}

/// The first load of a source, on its way.
pub(crate) struct Loading {
    name: Arc<str>,
    answer: mpsc::Receiver<Result<Document, Error>>,
    go: mpsc::Sender<()>,
}

impl Loading {
    /// Waits for the first load until `deadline`.
    pub(crate) fn wait(&self, deadline: Instant) -> Result<Document, Error> {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.answer.recv_timeout(left) {
            Ok(answer) => answer,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let detail = "did not answer before the deadline of the initial load";
                Err(Error::new(ErrorKind::Timeout, detail).with_origin(&self.name))
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(Error::new(
                ErrorKind::Panicked,
                "its thread ended during the first load",
            )
            .with_origin(&self.name)),
        }
    }

    /// Lets the source go on to watch.
    pub(crate) fn go(self) {
        // The thread may have ended already: it has nothing to watch.
        let _ = self.go.send(());
    }
}

impl Supervisor {
    /// Starts a source whose changes are pushed: it is asked to send all it has, now.
    pub(crate) fn attach(
        &self,
        engine: &Engine,
        id: SourceId,
        refusal: Refusal,
        source: &dyn Source,
    ) -> Result<(), Error> {
        let (updates, stop) = self.sink(engine, id, refusal);
        self.running.lock().push((id, stop));
        let outcome = guarded(|| source.watch(&updates));
        if outcome.is_err() {
            self.remove(id);
        }
        outcome
    }

    /// Starts a source on a thread of its own and begins its first load.
    pub(crate) fn start(
        &self,
        engine: &Engine,
        id: SourceId,
        refusal: Refusal,
        name: Arc<str>,
        source: Box<dyn Source>,
    ) -> Result<Loading, Error> {
        let (updates, stop) = self.sink(engine, id, refusal);
        self.running.lock().push((id, Arc::clone(&stop)));
        let (answer, answers) = mpsc::channel();
        let (go, going) = mpsc::channel();
        let run = move || {
            let first = guarded(|| source.load());
            let loaded = first.is_ok();
            // Whoever waited may have given up; then `going` is closed as well.
            let _ = answer.send(first);
            drop(answer);
            if loaded && going.recv().is_ok() {
                follow(&*source, &updates, &stop);
            }
        };
        if let Err(cause) = self.threads.spawn("liveprops-source", run) {
            self.remove(id);
            let error = Error::new(
                ErrorKind::Unavailable,
                format!("no thread can be started for it: {cause}"),
            );
            return Err(error.with_origin(&name));
        }
        Ok(Loading {
            name,
            answer: answers,
            go,
        })
    }

    fn sink(&self, engine: &Engine, id: SourceId, refusal: Refusal) -> (Updates, Arc<Stop>) {
        let stop = Arc::new(Stop::default());
        let sink = EngineSink {
            engine: engine.weak(),
            id,
            refusal,
            stop: Arc::clone(&stop),
        };
        (Updates::new(Arc::new(sink)), stop)
    }

    /// Tells a source to end, and does not wait.
    pub(crate) fn remove(&self, id: SourceId) {
        let gone: Vec<_> = {
            let mut running = self.running.lock();
            let (gone, stay) = running.drain(..).partition(|(other, _)| *other == id);
            *running = stay;
            gone
        };
        for (_, stop) in gone {
            stop.stop();
        }
    }

    /// Waits for the threads of the sources, at the longest until `until`.
    pub(crate) fn join(&self, until: Instant) {
        self.threads.join(until);
    }

    /// Tells all sources to end.
    pub(crate) fn stop(&self) {
        let running = std::mem::take(&mut *self.running.lock());
        for (_, stop) in running {
            stop.stop();
        }
    }
}

/// Watches or polls until told to stop, for ever, with a pause after each failure.
fn follow(source: &dyn Source, updates: &Updates, stop: &Stop) {
    let mut failures = 0u32;
    while !updates.is_stopped() {
        let outcome = guarded(|| Ok(source.watching())).and_then(|watching| match watching {
            Watching::Never | Watching::Push => Ok(After::Done),
            Watching::Poll(every) => poll(source, updates, every, failures > 0),
            Watching::Stream => {
                let began = Instant::now();
                let outcome = guarded(|| source.watch(updates));
                // The hooks of this watch are done with it; the next one brings its own.
                stop.forget_hooks();
                if began.elapsed() > MAX_PAUSE {
                    failures = 0;
                }
                outcome?;
                match updates.is_stopped() {
                    true => Ok(After::Done),
                    false => Err(Error::new(
                        ErrorKind::Unavailable,
                        "the watch ended by itself",
                    )),
                }
            }
        });
        match outcome {
            Ok(After::Done) => return,
            Ok(After::GoOn) => failures = 0,
            Err(error) => {
                updates.failed(error);
                failures = failures.saturating_add(1);
                if updates.wait(pause(failures)) {
                    return;
                }
            }
        }
    }
}

/// What follows a round of following.
enum After {
    Done,
    GoOn,
}

/// Waits and loads again; after a failure the pause was waited for already.
fn poll(
    source: &dyn Source,
    updates: &Updates,
    every: Duration,
    retry: bool,
) -> Result<After, Error> {
    if !retry && updates.wait(every.max(MIN_POLL)) {
        return Ok(After::Done);
    }
    let document = guarded(|| source.load())?;
    // A refusal is in the books already.
    let _ = updates.send(Update::full(document));
    Ok(After::GoOn)
}

/// A random pause up to a bound that doubles with each failure, so that many clients of one broken
/// store do not come back in step.
fn pause(failures: u32) -> Duration {
    let bound = FIRST_PAUSE
        .saturating_mul(1 << failures.min(10).saturating_sub(1))
        .min(MAX_PAUSE);
    // A fresh `RandomState` is seeded differently each time, which is randomness enough here.
    let random = RandomState::new().hash_one(failures) % 1_000;
    Duration::from_millis(1) + bound.mul_f64(random as f64 / 1_000.0)
}

/// Runs a source's code; a panic in it is an error.
pub(crate) fn guarded<R>(run: impl FnOnce() -> Result<R, Error>) -> Result<R, Error> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| Err(panicked("the source", &*panic)))
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Supervisor")
    }
}
