//! Callbacks that run inline, on the thread that commits.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::Arc;

use crate::engine::dispatcher::Dispatcher;
use crate::property::subscription::Subscriber;

thread_local! {
    /// The callbacks that this thread runs inline, for each dispatcher whose callbacks it is running.
    static INLINE: RefCell<Vec<InlineQueue>> = const { RefCell::new(Vec::new()) };
    /// Whether this thread runs no callbacks, not even inline.
    static NEVER_HERE: Cell<bool> = const { Cell::new(false) };
}

/// From now on this thread runs no callbacks, not even inline.
pub(crate) fn never_here() {
    NEVER_HERE.set(true);
}

/// Whether this thread runs no callbacks, not even inline.
pub(super) fn is_never_here() -> bool {
    NEVER_HERE.get()
}

/// The callbacks of one dispatcher that one thread runs inline. No other thread runs them, so they have
/// run when the commit returns that caused them.
struct InlineQueue {
    /// The address of the dispatcher.
    dispatcher: usize,
    jobs: VecDeque<Arc<Subscriber>>,
}

/// Calls `f` with the inline queues of this thread; `None` at the end of the thread, when its thread-local
/// data is gone.
fn with_inline<R>(f: impl FnOnce(&mut Vec<InlineQueue>) -> R) -> Option<R> {
    INLINE.try_with(|queues| f(&mut queues.borrow_mut())).ok()
}

impl Dispatcher {
    /// Puts a subscriber into the inline queue of this thread if it has one, else into that of all.
    pub(super) fn enqueue(&self, subscriber: Arc<Subscriber>) {
        let mut subscriber = Some(subscriber);
        self.with_own(|jobs| jobs.extend(subscriber.take()));
        if let Some(subscriber) = subscriber {
            let mut queue = self.0.queue.lock();
            if !queue.stopped {
                queue.jobs.push_back(subscriber);
            }
        }
    }

    /// Has another thread run the queue: this one must not run callbacks.
    pub(super) fn hand_over(&self) {
        let trouble = {
            let mut queue = self.0.queue.lock();
            if queue.jobs.is_empty() || queue.stopped {
                None
            } else {
                self.ensure_thread(&mut queue)
            }
        };
        self.report(trouble);
    }

    /// Runs the callbacks that other threads must not run, and ends the thread.
    pub(super) fn run_handed_over(&self) {
        {
            let mut queue = self.0.queue.lock();
            queue.idle -= 1;
            queue.workers -= 1;
        }
        if self.begin_inline() {
            while let Some(subscriber) = self.next_own().or_else(|| self.next_shared()) {
                self.run(subscriber);
            }
            self.end_inline();
        }
        self.0.threads.forget_current();
    }

    /// Runs the callbacks of this thread, and then those that they trigger. Where no thread can be started
    /// for callbacks that were handed over, this thread runs those too.
    pub(super) fn run_inline(&self) {
        while let Some(subscriber) = self.next_own().or_else(|| self.next_abandoned()) {
            self.run(subscriber);
        }
        self.end_inline();
    }

    fn next_own(&self) -> Option<Arc<Subscriber>> {
        let next = self.with_own(VecDeque::pop_front).flatten()?;
        (!self.0.queue.lock().stopped).then_some(next)
    }

    fn next_shared(&self) -> Option<Arc<Subscriber>> {
        self.0.queue.lock().jobs.pop_front()
    }

    /// A callback that waits for a thread that cannot be started. At the end of a thread its own callbacks
    /// are among those.
    fn next_abandoned(&self) -> Option<Arc<Subscriber>> {
        let has_no_own = self.with_own(|_| ()).is_none();
        let mut queue = self.0.queue.lock();
        if has_no_own || queue.starved.is_some() {
            return queue.jobs.pop_front();
        }
        None
    }

    fn address(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    /// Calls `f` with the inline queue that this thread has for this dispatcher, if it has one.
    fn with_own<R>(&self, f: impl FnOnce(&mut VecDeque<Arc<Subscriber>>) -> R) -> Option<R> {
        let me = self.address();
        with_inline(|queues| {
            let own = queues.iter_mut().find(|queue| queue.dispatcher == me);
            own.map(|queue| f(&mut queue.jobs))
        })
        .flatten()
    }

    /// Begins an inline queue on this thread, unless it has one already.
    pub(super) fn begin_inline(&self) -> bool {
        let me = self.address();
        let begun = with_inline(|queues| {
            let is_new = queues.iter().all(|queue| queue.dispatcher != me);
            if is_new {
                queues.push(InlineQueue {
                    dispatcher: me,
                    jobs: VecDeque::new(),
                });
            }
            is_new
        });
        begun.unwrap_or(true)
    }

    pub(super) fn end_inline(&self) {
        let me = self.address();
        let ended = with_inline(|queues| {
            let at = queues.iter().position(|queue| queue.dispatcher == me);
            at.map(|at| queues.swap_remove(at))
        });
        // It is empty unless the dispatcher has stopped, and dropped without a borrow.
        drop(ended);
    }
}
