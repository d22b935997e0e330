//! Subscriptions: a callback that lives as long as its guard, runs on one thread at a time, and
//! can be closed from anywhere.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, Weak};

use crate::error::{Error, ErrorKind};
use crate::property::listen::Listener;
use crate::property::registry::PropertyEngine;
use crate::sync::discard::discard;
use crate::sync::lock;
use crate::sync::panics::{self, Panicked};
use crate::sync::runner::{Awaited, Runner, WaitCycle};
use crate::sync::{AtomicU8, Condvar, Mutex, Ordering};

/// A subscription: the callback lives as long as this guard.
///
/// Dropping it ends the subscription without waiting: a call that runs on another thread finishes, and
/// none begins afterwards. [`close_and_wait`](Self::close_and_wait) also waits for the running call.
/// [`detach`](Self::detach) keeps the callback for as long as the properties live; if the callback holds a
/// clone of them, that is for ever.
///
/// ```
/// use liveprops::{Properties, sources::Memory};
///
/// let memory = Memory::from([("qps", 1)]);
/// let props = Properties::builder().source(memory.clone()).build()?;
/// let qps = props.property::<u32>("qps").build()?;
/// let subscription = qps.on_change(|change| println!("now {}", change.new_value()));
/// memory.set("qps", 2)?;
/// subscription.close_and_wait()?; // no call runs any more
/// # Ok::<(), liveprops::Error>(())
/// ```
#[must_use = "dropping the guard ends the subscription at once"]
pub struct Subscription {
    subscriber: Arc<Subscriber>,
    /// Another value that the callback needs alive.
    holder: Option<Arc<dyn Any + Send + Sync>>,
    is_detached: bool,
}

impl Subscription {
    pub(crate) fn new(subscriber: Arc<Subscriber>) -> Self {
        Self {
            subscriber,
            holder: None,
            is_detached: false,
        }
    }

    pub(crate) fn holding(subscriber: Arc<Subscriber>, holder: Arc<dyn Any + Send + Sync>) -> Self {
        Self {
            subscriber,
            holder: Some(holder),
            is_detached: false,
        }
    }

    /// Ends the subscription and waits until no call runs any more.
    ///
    /// Inside the callback itself it ends the subscription and returns immediately, since the running call
    /// is the caller.
    ///
    /// # Errors
    ///
    /// The subscription is ended in any case, but the call does not wait.
    ///
    /// - [`ErrorKind::Reentrant`] inside a validator or a decoder of any properties: a running call may
    ///   wait for the commit that the validator is part of.
    /// - [`ErrorKind::Reentrant`] inside a callback that the running call waits for, in its own
    ///   `close_and_wait` or through further callbacks: they would wait for each other for ever.
    pub fn close_and_wait(self) -> Result<(), Error> {
        self.subscriber.close();
        if lock::is_committing() {
            let detail = "a validator or a decoder may not wait for a callback";
            return Err(Error::new(ErrorKind::Reentrant, detail));
        }
        self.subscriber.wait().map_err(|WaitCycle| {
            let detail = "the callback to wait for waits for this one: close one of the two from \
                          another thread, or drop its guard";
            Error::new(ErrorKind::Reentrant, detail)
        })
    }

    /// Keeps the callback for as long as the properties live.
    pub fn detach(mut self) {
        self.is_detached = true;
        if let Some(engine) = self.subscriber.engine.upgrade() {
            let subscriber: Arc<dyn Any + Send + Sync> = Arc::<Subscriber>::clone(&self.subscriber);
            engine.keep(self.holder.take().unwrap_or(subscriber));
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if !self.is_detached {
            self.subscriber.close();
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Subscription")
    }
}

/// Runs after a change.
type Job = Box<dyn FnMut() + Send>;

/// A callback with the state that keeps it to one thread at a time.
pub(crate) struct Subscriber {
    engine: Weak<dyn PropertyEngine>,
    state: AtomicU8,
    causes: Mutex<Causes>,
    job: Mutex<Option<Job>>,
    /// The thread that runs the job, for threads that wait for its end.
    running: Mutex<Option<Arc<Runner>>>,
    ended: Condvar,
}

/// The depths, in a chain of callbacks, of the commits that notify a subscriber.
#[derive(Default)]
struct Causes {
    /// The least depth of the commits that no run has seen yet, since a write from outside ends a chain.
    unseen: Option<u32>,
    /// The depth of the commits that the last run has seen.
    seen: u32,
}

impl Causes {
    fn add(&mut self, depth: u32) {
        self.unseen = Some(self.unseen.map_or(depth, |unseen| unseen.min(depth)));
    }

    /// The depth of the commits for a run that begins now.
    fn begin_run(&mut self) -> u32 {
        // Without an unseen commit, the run before has seen the depth of this one's commit.
        self.seen = self.unseen.take().unwrap_or(self.seen);
        self.seen
    }
}

/// Waits in a queue to be run.
const QUEUED: u8 = 1;
/// A thread is inside the job.
const RUNNING: u8 = 2;
/// No call may begin any more.
const CLOSED: u8 = 4;

/// What to do after a run.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum After {
    Nothing,
    /// Something changed while the job ran: queue it again.
    Again,
}

/// The outcome of a run.
pub(crate) struct Ran {
    pub(crate) after: After,
    /// The panic of the callback.
    pub(crate) panic: Option<Panicked>,
}

impl Subscriber {
    pub(crate) fn new(engine: Weak<dyn PropertyEngine>, job: Job) -> Arc<Self> {
        Arc::new(Self {
            engine,
            state: AtomicU8::new(0),
            causes: Mutex::default(),
            job: Mutex::new(Some(job)),
            running: Mutex::new(None),
            ended: Condvar::default(),
        })
    }

    /// Sets `QUEUED`. Returns whether the caller has to queue this subscriber.
    pub(crate) fn mark_changed(&self) -> bool {
        // ORDERING: AcqRel; pairs with the AcqRel in `begin`, which clears `QUEUED`.
        // Orders: the run that clears it sees the change that was published before it was set.
        // Weaker breaks: a run could clear it and read the old value, and no run would follow.
        // Stronger buys nothing: one word carries the whole protocol.
        // Proof: property/models.rs, `a_change_during_a_run_is_not_lost`.
        let before = self.state.fetch_or(QUEUED, Ordering::AcqRel);
        before & (QUEUED | RUNNING | CLOSED) == 0
    }

    fn begin(&self) -> bool {
        let mut state = self.state.load(Ordering::Acquire);
        loop {
            if state & (CLOSED | RUNNING) != 0 {
                // A running job sees `QUEUED` when it ends, and is queued again.
                return false;
            }
            let next = (state & !QUEUED) | RUNNING;
            // ORDERING: AcqRel; pairs with the AcqRel in `mark_changed`, see there. Weaker breaks: the
            // run clears `QUEUED` of a change that it does not see.
            // Proof: property/models.rs,
            // `a_change_before_the_mark_is_seen_by_the_run_that_clears_it`.
            // Against `close` the one word is enough under any ordering: either the close came
            // first and no call begins, or the call began first and the closer sees RUNNING.
            // Proof: `no_call_begins_after_the_close_returned`.
            match self
                .state
                .compare_exchange_weak(state, next, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return true,
                Err(now) => state = now,
            }
        }
    }

    /// Runs the job once unless it is closed or running elsewhere. A panic is caught.
    ///
    /// Calls `begin` before the job, with the depth of the commits that the job is to see.
    pub(crate) fn run(&self, begin: impl FnOnce(u32)) -> Ran {
        if !self.begin() {
            return Ran {
                after: After::Nothing,
                panic: None,
            };
        }
        *self.running.lock() = Some(Runner::current());
        let depth = self.causes.lock().begin_run();
        begin(depth);
        let job = self.job.lock().take();
        let (job, mut panic) = match job {
            Some(mut job) => {
                let outcome = panics::catch(&mut job);
                (Some(job), outcome.err())
            }
            None => (None, None),
        };
        *self.job.lock() = job;
        let before = {
            let mut running = self.running.lock();
            *running = None;
            // ORDERING: any. The changes of one word come one after the other, so exactly one of
            // this and `close` drops the job, which has a lock of its own; `wait` sees the change
            // through the lock of `running`. Relaxed passes all models.
            // Proof of the rule: property/models.rs,
            // `captured_values_are_dropped_once_and_with_the_close` and
            // `no_call_is_running_once_the_wait_returned`.
            let before = self.state.fetch_and(!RUNNING, Ordering::AcqRel);
            self.ended.notify_all();
            before
        };
        if before & CLOSED != 0 {
            panic = panic.or(self.drop_job());
            return Ran {
                after: After::Nothing,
                panic,
            };
        }
        let after = if before & QUEUED != 0 {
            After::Again
        } else {
            After::Nothing
        };
        Ran { after, panic }
    }

    /// Lets no further call begin.
    pub(crate) fn close(&self) {
        // ORDERING: any; see the end of `run`.
        let before = self.state.fetch_or(CLOSED, Ordering::AcqRel);
        if before & (RUNNING | CLOSED) == 0 && self.is_in_its_process() {
            // The captured values are dropped now, and a panic of a drop is contained.
            drop(self.drop_job());
        }
    }

    /// Whether the threads of the engine are in this process, and not in the one it was forked from.
    fn is_in_its_process(&self) -> bool {
        let engine = self.engine.upgrade();
        engine.is_none_or(|engine| engine.check_process().is_ok())
    }

    /// Waits until no call is running on another thread. In a fork of the engine's process none is.
    pub(crate) fn wait(self: &Arc<Self>) -> Result<(), WaitCycle> {
        if !self.is_in_its_process() || self.runs_here() {
            return Ok(());
        }
        let awaited = Arc::<Self>::clone(self);
        let _waiting = Runner::begin_waiting(awaited)?;
        let mut running = self.running.lock();
        // ORDERING: any; the lock of `running` is held here and around the end of a run.
        while self.state.load(Ordering::Acquire) & RUNNING != 0 {
            self.ended.wait(&mut running);
        }
        Ok(())
    }

    /// Whether this thread is inside the job.
    fn runs_here(&self) -> bool {
        let running = self.running.lock();
        running.as_ref().is_some_and(|runner| runner.is_current())
    }

    fn drop_job(&self) -> Option<Panicked> {
        let job = self.job.lock().take();
        panics::drop_contained(job).err()
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        // The captured values are user code. A detached subscription still has them.
        let job = self.job.lock().take();
        if let Some(job) = job {
            discard(job);
        }
    }
}

impl Awaited for Subscriber {
    fn runner(&self) -> Option<Arc<Runner>> {
        self.running.lock().clone()
    }
}

impl Listener for Subscriber {
    fn notify(self: Arc<Self>) {
        let Some(engine) = self.engine.upgrade() else {
            return;
        };
        // Before `QUEUED` is set, for the run that clears it.
        self.causes.lock().add(engine.cause());
        if self.mark_changed() {
            engine.schedule(self);
        }
    }
}

impl fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Subscriber")
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_run_has_the_least_depth_of_the_commits_that_it_sees() {
        let mut causes = Causes::default();
        for (depths, counts) in [
            (&[3, 1, 2][..], 1),
            // The second of two runs sees the same commits.
            (&[], 1),
            (&[5], 5),
            (&[], 5),
            (&[6, 0], 0),
            (&[7], 7),
        ] {
            depths.iter().for_each(|depth| causes.add(*depth));
            assert_eq!(causes.begin_run(), counts, "{depths:?}");
        }
    }
}
