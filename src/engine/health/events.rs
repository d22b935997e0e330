//! Brings what happens to the sources to whoever listens.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use crate::engine::health::SourceEvent;
use crate::error::Error;
use crate::property::listen::Listener;
use crate::property::registry::Host;
use crate::property::subscription::{Subscriber, Subscription};
use crate::sync::lock::Mutex;
use crate::sync::panics;

/// As many events wait for one callback; older ones are lost.
pub(super) const MAX_EVENTS: usize = 1024;

thread_local! {
    /// Whether this thread is inside a callback that listens to events.
    static LISTENING: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is inside a callback that listens to events.
pub(super) fn is_listening() -> bool {
    LISTENING.get()
}

/// Everybody who listens.
#[derive(Default)]
pub(super) struct Listeners(Mutex<Vec<Weak<EventBox>>>);

struct EventBox {
    waiting: Mutex<VecDeque<SourceEvent>>,
    subscriber: Arc<Subscriber>,
}

/// Who has events waiting. They are put there in the order of the commits, and told once no lock is
/// held.
#[derive(Default)]
#[must_use = "nobody hears of it before it is told"]
pub(crate) struct News {
    boxes: Vec<Arc<EventBox>>,
    /// What is not in the books any more: how the cause of an error is dropped is the user's code.
    pub(super) errors: Vec<Error>,
    lost: Vec<SourceEvent>,
}

impl News {
    pub(crate) fn is_empty(&self) -> bool {
        self.boxes.is_empty() && self.errors.is_empty() && self.lost.is_empty()
    }

    pub(crate) fn tell(self) {
        for events in self.boxes {
            let subscriber: Arc<dyn Listener> = Arc::<Subscriber>::clone(&events.subscriber);
            subscriber.tell();
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
    /// Puts an event where those who listen find it.
    pub(super) fn put(&self, news: &mut News, event: impl FnOnce() -> SourceEvent) {
        let boxes: Vec<Arc<EventBox>> = {
            let mut listeners = self.0.lock();
            listeners.retain(|listener| listener.strong_count() > 0);
            listeners.iter().filter_map(Weak::upgrade).collect()
        };
        if boxes.is_empty() {
            return;
        }
        let event = event();
        for events in boxes {
            {
                let mut waiting = events.waiting.lock();
                if waiting.len() == MAX_EVENTS {
                    news.lost.extend(waiting.pop_front());
                }
                waiting.push_back(event.clone());
            }
            // Once is enough, however many events there are.
            if !news.boxes.iter().any(|other| Arc::ptr_eq(other, &events)) {
                news.boxes.push(events);
            }
        }
    }

    pub(super) fn subscribe(
        &self,
        host: Weak<dyn Host>,
        mut callback: impl FnMut(&SourceEvent) + Send + 'static,
    ) -> Subscription {
        let reports = Weak::clone(&host);
        let events = Arc::new_cyclic(|events: &Weak<EventBox>| {
            let events = Weak::clone(events);
            let job = move || {
                // One at a time, so that a panic loses one event and no more.
                let Some(events) = events.upgrade() else {
                    return;
                };
                let (event, more) = {
                    let mut waiting = events.waiting.lock();
                    (waiting.pop_front(), !waiting.is_empty())
                };
                if more {
                    events.subscriber.poke();
                }
                if let Some(event) = event {
                    // What the callback itself causes is counted and not told: it would be told to
                    // the callback, for ever.
                    let before = LISTENING.replace(true);
                    let outcome = panics::catch(|| callback(&event));
                    if let (Err(panic), Some(host)) = (outcome, reports.upgrade()) {
                        host.callback_panicked(panic);
                    }
                    LISTENING.set(before);
                }
            };
            EventBox {
                waiting: Mutex::default(),
                subscriber: Subscriber::new(host, Box::new(job)),
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
