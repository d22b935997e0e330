//! Runs subscribers on threads of their own, so that no callback delays a commit or another
//! callback.
//!
//! One worker runs callbacks one after the other. If one of them takes longer than [`GRACE`], another
//! worker serves the queue. Threads are started when a callback is due, and each ends when it has been idle
//! for [`IDLE`].
//!
//! If the system cannot start a thread, the callbacks stay in the queue. Every commit, every call of
//! `health` and the watchdog try again.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crate::engine::threads::Threads;
use crate::error::{Error, ErrorKind};
use crate::property::subscription::{After, Subscriber};
use crate::sync::panics::Panicked;
use crate::sync::{self, Condvar, Mutex};

/// How long a callback may take before another thread runs those that wait.
const GRACE: Duration = if cfg!(loom) {
    // A model has no time.
    Duration::ZERO
} else {
    Duration::from_millis(2)
};
/// How long a thread stays that has nothing to do.
const IDLE: Duration = Duration::from_secs(10);
/// How long after a thread could not be started the next attempt is due.
pub(crate) const RETRY: Duration = Duration::from_millis(100);
/// The most threads: so many callbacks may be stuck at once before others wait for them.
const MAX_THREADS: usize = 64;
/// How many callbacks may trigger each other in a row.
pub(crate) const MAX_DEPTH: u32 = 32;

mod inline;

pub(crate) use inline::never_here;

thread_local! {
    /// How deep in a chain of callbacks that trigger each other this thread is; 0 outside.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    /// The depth of the commit whose subscribers this thread is notifying.
    static CAUSE: Cell<u32> = const { Cell::new(0) };
}

/// The depth a commit made by this thread has.
pub(crate) fn depth_of_commit() -> u32 {
    DEPTH.get()
}

/// The depth of the commit whose subscribers this thread is notifying.
pub(crate) fn cause() -> u32 {
    CAUSE.get()
}

/// Runs `notify`; its notifications count as caused by a commit of that depth.
pub(crate) fn caused_by(depth: u32, notify: impl FnOnce()) {
    let before = CAUSE.replace(depth);
    notify();
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
    idle: Duration,
    panics: AtomicU64,
    report: Box<dyn Fn(CallbackTrouble) + Send + Sync>,
}

/// A failure of the dispatcher or of a callback.
#[derive(Debug)]
pub(crate) enum CallbackTrouble {
    /// The message of a callback's panic, which may quote a secret.
    Panicked(String),
    /// No thread can be started for callbacks that wait. Reported when that begins.
    NoThread(Error),
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Arc<Subscriber>>,
    /// When each busy worker began its callback.
    busy: Vec<(u64, Instant)>,
    workers: usize,
    /// Workers that wait or are just being started.
    idle: usize,
    next: u64,
    /// Since when no thread can be started for the jobs, and why not. There are fewer than
    /// [`MAX_THREADS`] workers then: only a thread that starts adds one, and it clears this.
    starved: Option<(SystemTime, Error)>,
    stopped: bool,
}

impl Queue {
    /// Records that no thread could be started. Returns the error to report, if it is new.
    fn set_starved(&mut self, cause: &io::Error) -> Option<CallbackTrouble> {
        if self.starved.is_some() {
            return None;
        }
        let detail = format!(
            "no thread can be started for the callbacks: {cause}; they wait, and each commit tries \
             again (raise the limit on threads of the process)"
        );
        let error = Error::new(ErrorKind::Unavailable, detail);
        self.starved = Some((SystemTime::now(), error.clone()));
        Some(CallbackTrouble::NoThread(error))
    }
}

impl Dispatcher {
    pub(crate) fn new(
        inline: bool,
        report: impl Fn(CallbackTrouble) + Send + Sync + 'static,
    ) -> Self {
        Self::with_idle(inline, IDLE, report)
    }

    fn with_idle(
        inline: bool,
        idle: Duration,
        report: impl Fn(CallbackTrouble) + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Inner {
            queue: Mutex::new(Queue::default()),
            wake: Condvar::default(),
            threads: Threads::default(),
            inline,
            idle,
            panics: AtomicU64::new(0),
            report: Box::new(report),
        }))
    }

    /// Has a subscriber run: on this thread if callbacks run inline and this thread may run them, else on a
    /// worker.
    pub(crate) fn schedule(&self, subscriber: Arc<Subscriber>) {
        if self.0.inline && !inline::is_never_here() {
            let is_outermost = self.begin_inline();
            self.enqueue(subscriber);
            if is_outermost {
                self.run_inline();
            }
            return;
        }
        let trouble = {
            let mut queue = self.0.queue.lock();
            if queue.stopped {
                return;
            }
            queue.jobs.push_back(subscriber);
            if self.0.inline {
                None
            } else {
                self.ensure_thread(&mut queue)
            }
        };
        self.report(trouble);
        if self.0.inline {
            self.hand_over();
        }
    }

    /// Notifies the listeners of commits, and then runs the callbacks of the subscribers among them, if
    /// they run inline: a thread that waits for a commit waits for no callback.
    pub(crate) fn deliver(&self, notify: impl FnOnce()) {
        let is_outermost = self.0.inline && !inline::is_never_here() && self.begin_inline();
        notify();
        if is_outermost {
            self.run_inline();
        } else {
            self.retry();
        }
    }

    /// Tries again to start a thread for the queue, if none could be started.
    pub(crate) fn retry(&self) {
        let trouble = {
            let mut queue = self.0.queue.lock();
            if queue.starved.is_none() {
                return;
            }
            if queue.jobs.is_empty() {
                queue.starved = None;
                return;
            }
            self.ensure_thread(&mut queue)
        };
        self.report(trouble);
    }

    /// As [`retry`](Self::retry), and returns when to try again.
    pub(crate) fn retry_at(&self, now: Instant) -> Option<Instant> {
        self.retry();
        let starved = self.0.queue.lock().starved.is_some();
        starved.then(|| now + RETRY)
    }

    /// Since when callbacks wait for a thread that cannot be started, and why it cannot.
    pub(crate) fn starved(&self) -> Option<(SystemTime, Error)> {
        self.retry();
        self.0.queue.lock().starved.clone()
    }

    fn report(&self, trouble: Option<CallbackTrouble>) {
        if let Some(trouble) = trouble {
            (self.0.report)(trouble);
        }
    }

    /// How many callbacks have panicked.
    pub(crate) fn panics(&self) -> u64 {
        self.0.panics.load(Ordering::Relaxed)
    }

    pub(crate) fn panicked(&self, panic: &Panicked) {
        self.0.panics.fetch_add(1, Ordering::Relaxed);
        let message = panic.message().to_owned();
        self.report(Some(CallbackTrouble::Panicked(message)));
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

    /// Makes sure that a thread serves the queue. Returns what is to be reported once the lock is
    /// released.
    #[must_use]
    fn ensure_thread(&self, queue: &mut Queue) -> Option<CallbackTrouble> {
        if queue.idle > 0 {
            queue.starved = None;
            self.0.wake.notify_one();
            return None;
        }
        if queue.workers == MAX_THREADS {
            // `starved` is not set: see its invariant.
            return None;
        }
        let worker = self.clone();
        let work = move || {
            if worker.0.inline {
                worker.run_handed_over();
            } else {
                worker.work();
            }
        };
        match self.0.threads.spawn("liveprops-callbacks", work) {
            Ok(()) => {
                queue.workers += 1;
                queue.idle += 1;
                queue.starved = None;
                None
            }
            Err(cause) => queue.set_starved(&cause),
        }
    }

    fn work(&self) {
        let mut queue = self.0.queue.lock();
        loop {
            if queue.stopped {
                break;
            }
            if queue.jobs.is_empty() {
                let late = sync::wait_or_time_out(&self.0.wake, &mut queue, self.0.idle);
                // Decided under the lock that `schedule` holds: a job comes before this and is
                // seen, or after the counts below and starts another thread.
                // Proof: engine/models.rs, `a_job_that_comes_while_the_last_worker_ends_is_run`.
                if late && queue.jobs.is_empty() {
                    break;
                }
                continue;
            }
            let now = Instant::now();
            let newest = queue.busy.iter().map(|(_, began)| *began).max();
            if let Some(began) = newest {
                // Another worker has begun a callback shortly before and may serve the queue soon.
                let waited = now.saturating_duration_since(began);
                if waited < GRACE {
                    self.0.wake.wait_for(&mut queue, GRACE - waited);
                    continue;
                }
            }
            queue.idle -= 1;
            let me = queue.next;
            queue.next += 1;
            while let Some(subscriber) = queue.jobs.pop_front() {
                queue.busy.retain(|(id, _)| *id != me);
                queue.busy.push((me, Instant::now()));
                let trouble = if !queue.jobs.is_empty() && queue.idle == 0 {
                    self.ensure_thread(&mut queue)
                } else {
                    None
                };
                drop(queue);
                self.report(trouble);
                self.run(subscriber);
                queue = self.0.queue.lock();
                if queue.stopped {
                    break;
                }
            }
            queue.busy.retain(|(id, _)| *id != me);
            queue.idle += 1;
        }
        queue.idle -= 1;
        queue.workers -= 1;
        let has_ended_itself = !queue.stopped;
        drop(queue);
        if has_ended_itself {
            self.0.threads.forget_current();
        }
    }

    fn run(&self, subscriber: Arc<Subscriber>) {
        let before = DEPTH.get();
        let ran = subscriber.run(|depth| DEPTH.set(depth + 1));
        DEPTH.set(before);
        if let Some(panic) = ran.panic {
            self.panicked(&panic);
        }
        if ran.after == After::Again {
            self.enqueue(subscriber);
        }
    }
}

impl fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dispatcher")
    }
}

#[cfg(all(test, not(loom)))]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Weak;
    use std::sync::atomic::AtomicUsize;
    use std::thread;

    use super::*;
    use crate::engine::core::Engine;

    /// Counts its runs.
    fn counter() -> (Arc<Subscriber>, Arc<AtomicUsize>) {
        let runs = Arc::new(AtomicUsize::new(0));
        let counts = Arc::clone(&runs);
        let job = move || {
            counts.fetch_add(1, Ordering::SeqCst);
        };
        let engine: Weak<Engine> = Weak::new();
        (Subscriber::new(engine, Box::new(job)), runs)
    }

    #[track_caller]
    fn wait_until(mut cond: impl FnMut() -> bool) {
        let until = Instant::now() + Duration::from_secs(10);
        while !cond() {
            assert!(Instant::now() < until, "it did not happen in time");
            thread::yield_now();
        }
    }

    #[test]
    fn a_job_that_comes_while_the_last_worker_ends_is_run() {
        // So short that nearly each job meets a worker which is about to end.
        let report = |trouble| eprintln!("{trouble:?}");
        let dispatcher = Dispatcher::with_idle(false, Duration::from_micros(30), report);
        let schedulers: Vec<_> = (0..3)
            .map(|i| {
                let dispatcher = dispatcher.clone();
                thread::spawn(move || {
                    let (subscriber, runs) = counter();
                    for round in 0..2_000 {
                        if subscriber.mark_changed() {
                            dispatcher.schedule(Arc::clone(&subscriber));
                        }
                        wait_until(|| {
                            // The system may not have been able to start a thread.
                            dispatcher.retry();
                            runs.load(Ordering::SeqCst) > round
                        });
                        let pause = (round * 7 + i * 13) % 120;
                        let begun = Instant::now();
                        while begun.elapsed() < Duration::from_micros(pause as u64) {
                            std::hint::spin_loop();
                        }
                    }
                })
            })
            .collect();
        for scheduler in schedulers {
            scheduler.join().unwrap();
        }
        wait_until(|| dispatcher.0.queue.lock().workers == 0);
        let queue = dispatcher.0.queue.lock();
        assert_eq!((queue.idle, queue.busy.len(), queue.jobs.len()), (0, 0, 0));
    }

    #[test]
    fn callbacks_that_wait_for_stuck_callbacks_do_not_count_as_without_a_thread() {
        let dispatcher = Dispatcher::with_idle(false, IDLE, |_| {});
        // A thread could not be started before.
        let rejected = io::Error::other("rejected");
        let trouble = dispatcher.0.queue.lock().set_starved(&rejected);
        assert!(matches!(trouble, Some(CallbackTrouble::NoThread(_))));
        let gate = Arc::new(std::sync::RwLock::new(()));
        let stuck = gate.write().unwrap();
        for _ in 0..MAX_THREADS {
            let gate = Arc::clone(&gate);
            let engine: Weak<Engine> = Weak::new();
            let job = move || drop(gate.read().unwrap());
            let subscriber = Subscriber::new(engine, Box::new(job));
            assert!(subscriber.mark_changed());
            dispatcher.schedule(subscriber);
        }
        let (waiting, runs) = counter();
        assert!(waiting.mark_changed());
        dispatcher.schedule(waiting);
        wait_until(|| dispatcher.0.queue.lock().workers == MAX_THREADS);
        assert!(dispatcher.starved().is_none());
        assert_eq!(runs.load(Ordering::SeqCst), 0);
        drop(stuck);
        wait_until(|| runs.load(Ordering::SeqCst) == 1);
    }

    #[test]
    fn each_worker_ends_when_it_is_idle_and_leaves_nothing_behind() {
        let dispatcher = Dispatcher::with_idle(false, Duration::from_millis(5), |_| {});
        let release = Arc::new(std::sync::Barrier::new(6));
        for _ in 0..5 {
            let release = Arc::clone(&release);
            let engine: Weak<Engine> = Weak::new();
            let job = move || {
                release.wait();
            };
            let subscriber = Subscriber::new(engine, Box::new(job));
            assert!(subscriber.mark_changed());
            dispatcher.schedule(subscriber);
        }
        release.wait();
        assert!(dispatcher.0.queue.lock().workers >= 5);
        wait_until(|| dispatcher.0.queue.lock().workers == 0);
        wait_until(|| dispatcher.0.threads.is_empty());
        let (subscriber, runs) = counter();
        assert!(subscriber.mark_changed());
        dispatcher.schedule(subscriber);
        wait_until(|| runs.load(Ordering::SeqCst) == 1);
    }
}
