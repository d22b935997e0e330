//! Runs subscribers on threads of their own, so that no callback delays a commit or another
//! callback.
//!
//! One worker runs callbacks one after the other for as long as it gets on. When it is stuck in
//! one for longer than [`GRACE`], a standby takes over the queue. Threads are started when the
//! first callback is due and end when they have been idle for a while.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::engine::threads::Threads;
use crate::error::Error;
use crate::property::subscription::{After, Subscriber};
use crate::sync::panics::Panicked;

/// How long a callback may take before another thread takes over those that wait.
const GRACE: Duration = Duration::from_millis(2);
/// How long a thread that is not needed stays.
const IDLE: Duration = Duration::from_secs(10);
/// The most threads: so many callbacks may be stuck at once before others wait for them.
const MAX_THREADS: usize = 64;
/// How many callbacks may trigger each other in a row.
pub(crate) const MAX_DEPTH: u32 = 32;

thread_local! {
    /// How deep in a chain of callbacks that trigger each other this thread is; 0 outside.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    /// The depth of the commit whose subscribers this thread is telling.
    static CAUSE: Cell<u32> = const { Cell::new(0) };
    /// The inline dispatchers whose queues this thread is emptying, by address.
    static DRAINING: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
    /// Whether this thread runs no callbacks, not even inline.
    static NEVER_HERE: Cell<bool> = const { Cell::new(false) };
}

/// From now on this thread runs no callbacks, not even inline.
pub(crate) fn never_here() {
    NEVER_HERE.set(true);
}

/// The depth a commit made by this thread has.
pub(crate) fn depth_of_commit() -> u32 {
    DEPTH.get()
}

/// The depth of the commit whose subscribers this thread is telling.
pub(crate) fn cause() -> u32 {
    CAUSE.get()
}

/// Has everything told inside `tell` count as caused by a commit of that depth.
pub(crate) fn caused_by(depth: u32, tell: impl FnOnce()) {
    let before = CAUSE.replace(depth);
    tell();
    CAUSE.set(before);
}

/// Runs subscribers.
#[derive(Clone)]
pub(crate) struct Dispatcher(Arc<Inner>);

struct Inner {
    queue: Mutex<Queue>,
    wake: Condvar,
    threads: Threads,
    inline: bool,
    panics: AtomicU64,
    /// Told of each panic of a callback.
    report: Box<dyn Fn(Error) + Send + Sync>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<(Arc<Subscriber>, u32)>,
    /// When each busy worker began its callback.
    busy: Vec<(u64, Instant)>,
    workers: usize,
    /// Workers that wait or are just being started.
    idle: usize,
    next: u64,
    stopped: bool,
}

impl Dispatcher {
    pub(crate) fn new(inline: bool, report: impl Fn(Error) + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner {
            queue: Mutex::new(Queue::default()),
            wake: Condvar::new(),
            threads: Threads::default(),
            inline,
            panics: AtomicU64::new(0),
            report: Box::new(report),
        }))
    }

    /// Has a subscriber run: on a worker, or on this thread if callbacks run inline and this is
    /// not one that must not run any.
    pub(crate) fn schedule(&self, subscriber: Arc<Subscriber>) {
        let depth = CAUSE.get();
        {
            let mut queue = self.0.queue.lock();
            if queue.stopped {
                return;
            }
            queue.jobs.push_back((subscriber, depth));
            if !self.0.inline {
                self.provide(&mut queue);
            }
        }
        if self.0.inline && NEVER_HERE.get() {
            let elsewhere = self.clone();
            let run = move || elsewhere.drain();
            // If the system has no thread to give, the next that is told runs it.
            let _ = self.0.threads.spawn("liveprops-callbacks", run);
        } else if self.0.inline {
            self.drain();
        }
    }

    /// How many callbacks have panicked.
    pub(crate) fn panics(&self) -> u64 {
        self.0.panics.load(Ordering::Relaxed)
    }

    pub(crate) fn panicked(&self, panic: &Panicked) {
        self.0.panics.fetch_add(1, Ordering::Relaxed);
        (self.0.report)(Error::from_panic("a callback", panic.message()));
    }

    /// Waits for running callbacks, at the longest until `until`.
    pub(crate) fn join(&self, until: Instant) {
        self.0.threads.join(until);
    }

    /// Lets running callbacks finish and starts no more.
    pub(crate) fn stop(&self) {
        let jobs = {
            let mut queue = self.0.queue.lock();
            queue.stopped = true;
            self.0.wake.notify_all();
            std::mem::take(&mut queue.jobs)
        };
        drop(jobs);
    }

    /// Makes sure that somebody is there to look after the queue.
    fn provide(&self, queue: &mut Queue) {
        if queue.idle > 0 {
            self.0.wake.notify_one();
        } else if queue.workers < MAX_THREADS {
            let worker = self.clone();
            // If the system has no thread to give, the next change asks again.
            if self
                .0
                .threads
                .spawn("liveprops-callbacks", move || worker.work())
                .is_ok()
            {
                queue.workers += 1;
                queue.idle += 1;
            }
        }
    }

    fn work(&self) {
        let mut queue = self.0.queue.lock();
        loop {
            if queue.stopped {
                break;
            }
            if queue.jobs.is_empty() {
                let late = self.0.wake.wait_for(&mut queue, IDLE).timed_out();
                if late && queue.jobs.is_empty() && queue.idle > 1 {
                    break;
                }
                continue;
            }
            let now = Instant::now();
            let newest = queue.busy.iter().map(|(_, began)| *began).max();
            if let Some(began) = newest {
                // Somebody is at it and was not long ago: stand by.
                let waited = now.saturating_duration_since(began);
                if waited < GRACE {
                    self.0.wake.wait_for(&mut queue, GRACE - waited);
                    continue;
                }
            }
            queue.idle -= 1;
            let me = queue.next;
            queue.next += 1;
            while let Some((subscriber, depth)) = queue.jobs.pop_front() {
                queue.busy.retain(|(id, _)| *id != me);
                queue.busy.push((me, Instant::now()));
                if !queue.jobs.is_empty() && queue.idle == 0 {
                    self.provide(&mut queue);
                }
                parking_lot::MutexGuard::unlocked(&mut queue, || self.run(subscriber, depth));
                if queue.stopped {
                    break;
                }
            }
            queue.busy.retain(|(id, _)| *id != me);
            queue.idle += 1;
        }
        queue.idle -= 1;
        queue.workers -= 1;
    }

    fn run(&self, subscriber: Arc<Subscriber>, depth: u32) {
        let before = DEPTH.replace(depth + 1);
        let ran = subscriber.run();
        DEPTH.set(before);
        if let Some(panic) = ran.panic {
            self.panicked(&panic);
        }
        if let After::Again(depth) = ran.after {
            let mut queue = self.0.queue.lock();
            if !queue.stopped {
                queue.jobs.push_back((subscriber, depth));
            }
        }
    }

    /// Runs all that waits on this thread; what that triggers waits its turn.
    fn drain(&self) {
        let me = Arc::as_ptr(&self.0).addr();
        if DRAINING.with_borrow(|draining| draining.contains(&me)) {
            return;
        }
        DRAINING.with_borrow_mut(|draining| draining.push(me));
        loop {
            let next = self.0.queue.lock().jobs.pop_front();
            match next {
                Some((subscriber, depth)) => self.run(subscriber, depth),
                None => break,
            }
        }
        DRAINING.with_borrow_mut(|draining| draining.retain(|other| *other != me));
    }
}

impl fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dispatcher")
    }
}
