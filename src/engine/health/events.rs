//! Delivers events to the listeners.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use crate::engine::health::{SourceEvent, SourceEventKind};
use crate::error::Error;
use crate::property::listen::Listener;
use crate::property::registry::PropertyEngine;
use crate::property::subscription::{Subscriber, Subscription};
use crate::sync::lock::Mutex;
use crate::sync::panics;

/// At most so many events wait for one callback, an event of several errors counting as that many; older
/// ones are lost.
pub(super) const MAX_EVENTS: usize = 1024;

thread_local! {
    /// Whether this thread is inside a callback that listens to events.
    static LISTENING: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is inside a callback that listens to events.
pub(super) fn is_listening() -> bool {
    LISTENING.get()
}

/// The mailboxes of all listeners.
#[derive(Default)]
pub(super) struct Listeners(Mutex<Vec<Weak<Mailbox>>>);

struct Mailbox {
    waiting: Mutex<Waiting>,
    subscriber: Arc<Subscriber>,
}

#[derive(Default)]
struct Waiting {
    events: VecDeque<SourceEvent>,
    weight: usize,
}

impl Waiting {
    /// Adds an event, and moves the oldest into `lost` until the rest is within bounds.
    fn push(&mut self, event: SourceEvent, lost: &mut Vec<SourceEvent>) {
        self.weight += weight(&event.kind);
        self.events.push_back(event);
        while self.weight > MAX_EVENTS && self.events.len() > 1 {
            lost.extend(self.pop());
        }
    }

    fn pop(&mut self) -> Option<SourceEvent> {
        let event = self.events.pop_front()?;
        self.weight -= weight(&event.kind);
        Some(event)
    }
}

/// How much an event counts.
fn weight(kind: &SourceEventKind) -> usize {
    match kind {
        SourceEventKind::Rejected(error)
        | SourceEventKind::Suspended(error)
        | SourceEventKind::Stale(error)
        | SourceEventKind::Degraded(error)
        | SourceEventKind::CallbackPanicked(error)
        | SourceEventKind::Malformed(error) => error.iter().count().max(1),
        SourceEventKind::PropertyStale(stale) => stale.reason.iter().count().max(1),
        SourceEventKind::Initialized
        | SourceEventKind::PropertyRecovered(_)
        | SourceEventKind::Updated
        | SourceEventKind::Recovered
        | SourceEventKind::Reconnected
        | SourceEventKind::Removed
        | SourceEventKind::RestartRequired(_) => 1,
    }
}

/// Listeners with new events in their mailboxes. Events are put there in the order of the commits, and
/// the listeners are notified once no lock is held.
#[derive(Default)]
#[must_use = "no listener is notified before `deliver`"]
pub(crate) struct Notices {
    mailboxes: Vec<Arc<Mailbox>>,
    /// Errors that were removed from the health registry: the `Drop` of an error's cause is user code.
    pub(super) errors: Vec<Error>,
    lost: Vec<SourceEvent>,
    /// Wakes the thread that reports suppressed events, if one was suppressed.
    pub(super) wake: Option<Wake>,
}

/// Wakes the thread that reports events later.
pub(crate) type Wake = Arc<dyn Fn() + Send + Sync>;

impl Notices {
    pub(crate) fn is_empty(&self) -> bool {
        self.mailboxes.is_empty()
            && self.errors.is_empty()
            && self.lost.is_empty()
            && self.wake.is_none()
    }

    /// Notifies the listeners, and drops what was removed.
    pub(crate) fn deliver(self) {
        for mailbox in self.mailboxes {
            let subscriber: Arc<dyn Listener> = Arc::<Subscriber>::clone(&mailbox.subscriber);
            subscriber.notify();
        }
        if let Some(wake) = self.wake {
            wake();
        }
        for error in self.errors {
            let _ = panics::drop_contained(error);
        }
        for event in self.lost {
            let _ = panics::drop_contained(event);
        }
    }
}

impl Listeners {
    /// Puts an event into all mailboxes.
    pub(super) fn put(&self, notices: &mut Notices, event: impl FnOnce() -> SourceEvent) {
        let mailboxes: Vec<Arc<Mailbox>> = {
            let mut listeners = self.0.lock();
            listeners.retain(|listener| listener.strong_count() > 0);
            listeners.iter().filter_map(Weak::upgrade).collect()
        };
        if mailboxes.is_empty() {
            return;
        }
        let event = event();
        for mailbox in mailboxes {
            mailbox
                .waiting
                .lock()
                .push(event.clone(), &mut notices.lost);
            let mut notified = notices.mailboxes.iter();
            if !notified.any(|other| Arc::ptr_eq(other, &mailbox)) {
                notices.mailboxes.push(mailbox);
            }
        }
    }

    pub(super) fn subscribe(
        &self,
        engine: Weak<dyn PropertyEngine>,
        mut callback: impl FnMut(&SourceEvent) + Send + 'static,
    ) -> Subscription {
        let reports = Weak::clone(&engine);
        let events = Arc::new_cyclic(|events: &Weak<Mailbox>| {
            let events = Weak::clone(events);
            let job = move || {
                // One at a time, so that a panic loses one event and no more.
                let Some(events) = events.upgrade() else {
                    return;
                };
                let (event, more) = {
                    let mut waiting = events.waiting.lock();
                    (waiting.pop(), !waiting.events.is_empty())
                };
                if more {
                    events.subscriber.mark_changed();
                }
                if let Some(event) = event {
                    // An event that the callback itself causes is counted and not reported, since it
                    // would call the callback without end.
                    let before = LISTENING.replace(true);
                    let outcome = panics::catch(|| callback(&event));
                    if let (Err(panic), Some(engine)) = (outcome, reports.upgrade()) {
                        engine.callback_panicked(panic);
                    }
                    LISTENING.set(before);
                }
            };
            Mailbox {
                waiting: Mutex::default(),
                subscriber: Subscriber::new(engine, Box::new(job)),
            }
        });
        let mut listeners = self.0.lock();
        if listeners.len() == listeners.capacity() {
            listeners.retain(|listener| listener.strong_count() > 0);
        }
        listeners.push(Arc::downgrade(&events));
        drop(listeners);
        let subscriber = Arc::clone(&events.subscriber);
        Subscription::holding(subscriber, events)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn event(errors: usize, generation: u64) -> SourceEvent {
        let error = |i| Error::new(ErrorKind::Unavailable, format!("part {i} does not answer"));
        let kind = match errors {
            0 => SourceEventKind::Updated,
            _ => SourceEventKind::Suspended(Error::all((0..errors).map(error).collect())),
        };
        SourceEvent {
            source: None,
            name: Arc::from("test"),
            kind,
            generation,
            repeated: 0,
        }
    }

    #[test]
    fn what_waits_for_a_stuck_listener_is_bounded_by_the_errors_in_it() {
        let (mut waiting, mut lost) = (Waiting::default(), Vec::new());
        for (errors, left) in [(0, 1024), (1, 1024), (100, 10), (1024, 1), (5_000, 1)] {
            for generation in 0..2_000 {
                waiting.push(event(errors, generation), &mut lost);
                lost.clear();
            }
            assert_eq!(waiting.events.len(), left, "events of {errors} errors");
            let newest = waiting.events.back().map(|event| event.generation);
            assert_eq!(newest, Some(1_999));
        }
        while waiting.pop().is_some() {}
        assert_eq!(waiting.weight, 0);
    }
}
