//! The workers that run callbacks, under loom; see `property/models.rs` for how to run it.

use std::sync::{Arc, Weak};
use std::time::Instant;

use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;

use crate::engine::core::Engine;
use crate::engine::dispatcher::Dispatcher;
use crate::property::subscription::Subscriber;

/// Notes the newest value that a callback saw.
struct Seen {
    value: AtomicU64,
    seen: AtomicU64,
}

fn subscriber() -> (Arc<Seen>, Arc<Subscriber>) {
    let seen = Arc::new(Seen {
        value: AtomicU64::new(0),
        seen: AtomicU64::new(0),
    });
    let notes = Arc::clone(&seen);
    let job = move || {
        let value = notes.value.load(Ordering::Relaxed);
        notes.seen.store(value, Ordering::Relaxed);
    };
    let engine: Weak<Engine> = Weak::new();
    (seen, Subscriber::new(engine, Box::new(job)))
}

fn change(dispatcher: &Dispatcher, seen: &Seen, subscriber: &Arc<Subscriber>, value: u64) {
    seen.value.store(value, Ordering::Relaxed);
    if subscriber.mark_changed() {
        dispatcher.schedule(Arc::clone(subscriber));
    }
}

#[test]
fn a_job_that_comes_while_the_last_worker_ends_is_run() {
    loom::model(|| {
        let dispatcher = Dispatcher::new(false, |trouble| panic!("{trouble:?}"));
        let (seen, subscriber) = subscriber();
        change(&dispatcher, &seen, &subscriber, 1);
        change(&dispatcher, &seen, &subscriber, 2);
        // All workers end by themselves.
        dispatcher.join(Instant::now());
        assert_eq!(seen.seen.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn jobs_of_two_threads_are_run_by_workers_that_end() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(|| {
        let dispatcher = Dispatcher::new(false, |trouble| panic!("{trouble:?}"));
        let (seen, subscriber) = subscriber();
        let other = {
            let dispatcher = dispatcher.clone();
            thread::spawn(move || {
                let (seen, subscriber) = self::subscriber();
                change(&dispatcher, &seen, &subscriber, 1);
                seen
            })
        };
        change(&dispatcher, &seen, &subscriber, 1);
        let other = other.join().unwrap();
        dispatcher.join(Instant::now());
        assert_eq!(seen.seen.load(Ordering::Relaxed), 1);
        assert_eq!(other.seen.load(Ordering::Relaxed), 1);
    });
}
