//! The concurrent pieces under loom, which tries every interleaving and every stale read that the
//! memory model allows:
//!
//! ```text
//! export RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom
//! cargo test --config profile.dev.package.loom.opt-level=3 --lib models
//! ```
//!
//! Each model fails if what it proves is broken, except
//! `after_a_publish_returned_nobody_reads_what_was_before`: the model of the swap cell is at least as strong
//! as that by construction. All models are in one file, because they share their fixtures.

use std::any::Any;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, SystemTime};

use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use loom::thread;

use crate::error::{Error, ErrorKind};
use crate::property::handle::DynamicProperty;
use crate::property::listen::{Changes, Listener, Listeners, Signal};
use crate::property::reader::Reader;
use crate::property::registry::{EngineRef, PropertyEngine, Registry};
use crate::property::rule::{Decoded, Mapped, Rule};
use crate::property::slot::Slot;
use crate::property::subscription::{After, Subscriber, Subscription};
use crate::property::version::Version;
use crate::sync::Mutex;
use crate::sync::discard::Contained;
use crate::sync::panics::Panicked;
use crate::tree::snapshot::{Generation, GenerationStamp};
use crate::value::key::Key;

/// An engine that runs subscribers on the thread that schedules them, and has the number of the generation
/// in force.
#[derive(Default)]
struct Inline {
    generation: AtomicU64,
    closed: AtomicBool,
    close_listeners: Listeners,
}

impl PropertyEngine for Inline {
    fn between_commits(
        &self,
        _: &mut dyn FnMut(&Arc<Generation>, &mut Registry),
    ) -> Result<(), Error> {
        Ok(())
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    fn schedule(&self, subscriber: Arc<Subscriber>) {
        run(&subscriber);
    }

    fn cause(&self) -> u32 {
        0
    }

    fn callback_panicked(&self, _: Panicked) {}

    fn on_close(&self, listener: Weak<dyn Listener>) {
        self.close_listeners.add(listener);
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn keep(&self, _: Arc<dyn Any + Send + Sync>) {}
}

fn run(subscriber: &Subscriber) {
    while subscriber.run(|_| ()).after != After::Nothing {}
}

fn no_engine() -> EngineRef {
    engine_ref(Weak::new())
}

fn engine_ref(engine: Weak<Inline>) -> EngineRef {
    let engine: Weak<dyn PropertyEngine> = engine;
    Arc::new(engine)
}

fn version(value: u64) -> Arc<Version<u64>> {
    let stamp = Arc::new(GenerationStamp {
        number: value,
        time: SystemTime::UNIX_EPOCH,
        layers: Arc::default(),
        pinned: None,
    });
    Arc::new(Version::new(Decoded::default_of(value), stamp))
}

/// A slot with the value 0, which no commit decodes.
fn slot(engine: EngineRef) -> Arc<Slot<u64>> {
    let rule = Rule::Map(Box::new(Mapped {
        from_version: Contained::new(Box::new(|_| None)),
        from_generation: Contained::new(Box::new(|_| {
            Err(Error::new(ErrorKind::NotFound, "has no keys"))
        })),
        fallbacks: Box::default(),
    }));
    let version = Version::clone(&version(0));
    Slot::with(Key::root(), rule, engine, version)
}

/// Publishes a value, and notifies the listeners.
fn commit(slot: &Slot<u64>, value: u64) {
    commit_on(None, slot, value);
}

/// Publishes a value, then the number of the generation, and notifies the listeners, as a commit does.
fn commit_on(engine: Option<&Inline>, slot: &Slot<u64>, value: u64) {
    slot.publish(version(value));
    if let Some(engine) = engine {
        engine.generation.store(value, Ordering::Release);
    }
    let mut listeners = Vec::new();
    slot.collect_listeners(&mut listeners);
    listeners.into_iter().for_each(Listener::notify);
}

#[test]
fn the_cell_is_never_older_than_the_bits() {
    loom::model(|| {
        let slot = slot(no_engine());
        let writer = {
            let slot = Arc::clone(&slot);
            thread::spawn(move || {
                slot.publish(version(1));
                slot.publish(version(2));
            })
        };
        let bits = slot.load_inline().unwrap();
        assert!(slot.full().value >= bits);
        assert!(slot.load().value >= bits);
        writer.join().unwrap();
    });
}

#[test]
fn readers_never_go_back() {
    loom::model(|| {
        let slot = slot(no_engine());
        let writer = {
            let slot = Arc::clone(&slot);
            thread::spawn(move || {
                slot.publish(version(1));
                slot.publish(version(2));
            })
        };
        let mut reader = Reader::new(Arc::clone(&slot));
        let bits = slot.load_inline().unwrap();
        let full = slot.full().value;
        let read = *reader.get();
        assert!(bits <= full && full <= read);
        assert!(bits <= slot.load_inline().unwrap());
        assert!(read <= slot.full().value);
        writer.join().unwrap();
    });
}

#[test]
fn after_a_publish_returned_nobody_reads_what_was_before() {
    loom::model(|| {
        let slot = slot(no_engine());
        let returned = Arc::new(AtomicBool::new(false));
        let writer = {
            let (slot, returned) = (Arc::clone(&slot), Arc::clone(&returned));
            thread::spawn(move || {
                slot.publish(version(1));
                // However the program informs another thread, it does at least this.
                returned.store(true, Ordering::Release);
            })
        };
        let mut reader = Reader::new(Arc::clone(&slot));
        if returned.load(Ordering::Acquire) {
            assert_eq!(slot.load_inline(), Some(1));
            assert_eq!(slot.full().value, 1);
            assert_eq!(*reader.get(), 1);
        }
        writer.join().unwrap();
        assert_eq!((slot.load_inline(), slot.full().value), (Some(1), 1));
        assert_eq!(*reader.get(), 1);
    });
}

/// A listener that keeps the newest value of its notifications.
struct NewestListener {
    slot: Arc<Slot<u64>>,
    newest: AtomicU64,
}

impl Listener for NewestListener {
    fn notify(self: Arc<Self>) {
        self.newest
            .fetch_max(self.slot.full().value, Ordering::AcqRel);
    }
}

#[test]
fn each_change_is_in_the_answer_or_notified() {
    loom::model(|| {
        let slot = slot(no_engine());
        let listener = Arc::new(NewestListener {
            slot: Arc::clone(&slot),
            newest: AtomicU64::new(0),
        });
        let writer = {
            let slot = Arc::clone(&slot);
            thread::spawn(move || {
                commit(&slot, 1);
                commit(&slot, 2);
            })
        };
        let weak: Weak<NewestListener> = Arc::downgrade(&listener);
        let answer = slot.listen(weak).value;
        writer.join().unwrap();
        let notified = listener.newest.load(Ordering::Acquire);
        assert!(answer == 2 || notified == 2, "{answer}, {notified}");
    });
}

#[test]
fn a_callback_registered_during_a_commit_misses_no_change() {
    loom::model(|| {
        let engine = Arc::new(Inline::default());
        let slot = slot(engine_ref(Arc::downgrade(&engine)));
        let writer = {
            let (engine, slot) = (Arc::clone(&engine), Arc::clone(&slot));
            thread::spawn(move || commit_on(Some(&engine), &slot, 1))
        };
        let calls = Arc::new(std::sync::Mutex::new(Vec::new()));
        let property = DynamicProperty {
            slot: Arc::clone(&slot),
        };
        let log = Arc::clone(&calls);
        let subscription: Subscription = property.on_change(move |change| {
            log.lock()
                .unwrap()
                .push((*change.old_value(), *change.new_value()));
        });
        writer.join().unwrap();
        commit_on(Some(&engine), &slot, 2);
        let calls = calls.lock().unwrap();
        // If the first change was not notified, it came before the registration.
        assert!(
            matches!(calls.as_slice(), [(1, 2)] | [(0, 1), (1, 2)]),
            "{calls:?}"
        );
        drop(calls);
        drop(subscription);
    });
}

#[test]
fn a_callback_that_is_called_at_once_is_first_and_ends_on_the_final_value() {
    loom::model(|| {
        let engine = Arc::new(Inline::default());
        let slot = slot(engine_ref(Arc::downgrade(&engine)));
        let writer = {
            let (engine, slot) = (Arc::clone(&engine), Arc::clone(&slot));
            thread::spawn(move || commit_on(Some(&engine), &slot, 1))
        };
        let calls = Arc::new(std::sync::Mutex::new(Vec::new()));
        let property = DynamicProperty { slot };
        let log = Arc::clone(&calls);
        let subscription = property.on_change_now(move |value| log.lock().unwrap().push(*value));
        assert!(
            !calls.lock().unwrap().is_empty(),
            "called before this returned"
        );
        writer.join().unwrap();
        let calls = std::mem::take(&mut *calls.lock().unwrap());
        assert!(matches!(calls.as_slice(), [1] | [0, 1]), "{calls:?}");
        drop(subscription);
    });
}

/// Records that a task was woken.
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

#[test]
fn a_task_that_waits_for_a_change_is_woken_by_it() {
    loom::model(|| {
        let engine = Arc::new(Inline::default());
        let slot = slot(engine_ref(Arc::downgrade(&engine)));
        let mut changes = Changes::new(Arc::clone(&slot));
        let writer = {
            let (engine, slot) = (Arc::clone(&engine), Arc::clone(&slot));
            thread::spawn(move || commit_on(Some(&engine), &slot, 1))
        };
        let woken = Arc::new(Woken(AtomicBool::new(false)));
        let waker = Waker::from(Arc::clone(&woken));
        let mut poll = || pin!(changes.changed()).poll(&mut Context::from_waker(&waker));
        let first = poll();
        writer.join().unwrap();
        let second = match first {
            Poll::Ready(version) => version.unwrap(),
            Poll::Pending => {
                assert!(
                    woken.0.load(Ordering::Acquire),
                    "no_engine would poll again"
                );
                match poll() {
                    Poll::Ready(version) => version.unwrap(),
                    Poll::Pending => panic!("the change is lost"),
                }
            }
        };
        assert_eq!(second.value, 1);
    });
}

#[test]
fn a_task_that_waits_for_a_change_is_woken_by_the_end() {
    loom::model(|| {
        let engine = Arc::new(Inline::default());
        let slot = slot(engine_ref(Arc::downgrade(&engine)));
        let mut changes = Changes::new(slot);
        let closer = {
            let engine = Arc::clone(&engine);
            thread::spawn(move || {
                engine.closed.store(true, Ordering::Release);
                let mut listeners = Vec::new();
                engine.close_listeners.collect_into(&mut listeners);
                listeners.into_iter().for_each(Listener::notify);
            })
        };
        let woken = Arc::new(Woken(AtomicBool::new(false)));
        let waker = Waker::from(Arc::clone(&woken));
        let mut poll = || pin!(changes.changed()).poll(&mut Context::from_waker(&waker));
        let first = poll();
        closer.join().unwrap();
        if first.is_pending() {
            assert!(
                woken.0.load(Ordering::Acquire),
                "no_engine would poll again"
            );
            assert!(poll().is_ready(), "the end is lost");
        }
    });
}

#[test]
fn a_thread_that_waits_for_a_change_is_woken_by_it() {
    loom::model(|| {
        let engine = Arc::new(Inline::default());
        let slot = slot(engine_ref(Arc::downgrade(&engine)));
        let mut changes = Changes::new(Arc::clone(&slot));
        let writer = {
            let (engine, slot) = (Arc::clone(&engine), Arc::clone(&slot));
            thread::spawn(move || commit_on(Some(&engine), &slot, 1))
        };
        // No time passes in a model: if nothing wakes this thread, loom reports a deadlock.
        assert_eq!(changes.recv_timeout(Duration::MAX).unwrap().value, 1);
        writer.join().unwrap();
    });
}

#[test]
fn a_change_is_received_only_once_its_generation_is_in_force() {
    loom::model(|| {
        let engine = Arc::new(Inline::default());
        let slot = slot(engine_ref(Arc::downgrade(&engine)));
        let mut changes = Changes::new(Arc::clone(&slot));
        let writer = {
            let (engine, slot) = (Arc::clone(&engine), Arc::clone(&slot));
            thread::spawn(move || commit_on(Some(&engine), &slot, 1))
        };
        if let Some(version) = changes.try_recv() {
            assert!(version.generation() <= engine.generation());
        }
        writer.join().unwrap();
    });
}

#[test]
fn a_thread_that_waits_for_a_commit_is_woken_by_it() {
    loom::model(|| {
        let in_force = Arc::new(AtomicU64::new(0));
        let listeners = Arc::new(Listeners::default());
        let signal = Arc::new(Signal::default());
        let listener: Weak<Signal> = Arc::downgrade(&signal);
        listeners.add(listener);
        let writer = {
            let (in_force, listeners) = (Arc::clone(&in_force), Arc::clone(&listeners));
            thread::spawn(move || {
                in_force.store(1, Ordering::Release);
                let mut notified = Vec::new();
                listeners.collect_into(&mut notified);
                notified.into_iter().for_each(Listener::notify);
            })
        };
        // As `Properties::wait_for` does.
        loop {
            signal.reset();
            if in_force.load(Ordering::Acquire) == 1 {
                break;
            }
            assert!(signal.wait(None));
        }
        writer.join().unwrap();
    });
}

#[test]
fn two_threads_that_run_one_subscriber_lose_no_change() {
    loom::model(|| {
        let value = Arc::new(AtomicU64::new(0));
        let seen = Arc::new(AtomicU64::new(0));
        let subscriber = {
            let (value, seen) = (Arc::clone(&value), Arc::clone(&seen));
            let job = move || seen.store(value.load(Ordering::Relaxed), Ordering::Relaxed);
            Subscriber::new(Weak::clone(&no_engine()), Box::new(job))
        };
        // Both run it, whether the mark requires that or not.
        let change = move |value: &AtomicU64, subscriber: &Subscriber| {
            value.fetch_add(1, Ordering::Relaxed);
            subscriber.mark_changed();
            run(subscriber);
        };
        let other = {
            let (value, subscriber) = (Arc::clone(&value), Arc::clone(&subscriber));
            thread::spawn(move || change(&value, &subscriber))
        };
        change(&value, &subscriber);
        other.join().unwrap();
        assert_eq!(seen.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn a_change_before_the_mark_is_seen_by_the_run_that_clears_it() {
    loom::model(|| {
        let value = Arc::new(AtomicU64::new(0));
        let seen = Arc::new(AtomicU64::new(0));
        let subscriber = {
            let (value, seen) = (Arc::clone(&value), Arc::clone(&seen));
            let job = move || seen.store(value.load(Ordering::Relaxed), Ordering::Relaxed);
            Subscriber::new(Weak::clone(&no_engine()), Box::new(job))
        };
        // It is in the queue already, so the mark below does not queue it again.
        assert!(subscriber.mark_changed());
        let worker = {
            let subscriber = Arc::clone(&subscriber);
            thread::spawn(move || run(&subscriber))
        };
        value.store(1, Ordering::Relaxed);
        if subscriber.mark_changed() {
            run(&subscriber);
        }
        worker.join().unwrap();
        assert_eq!(seen.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn a_change_during_a_run_is_not_lost() {
    loom::model(|| {
        let slot = slot(no_engine());
        let seen = Arc::new(AtomicU64::new(0));
        let subscriber = {
            let (slot, seen) = (Arc::clone(&slot), Arc::clone(&seen));
            let job = move || seen.store(slot.full().value, Ordering::Relaxed);
            Subscriber::new(Weak::clone(&no_engine()), Box::new(job))
        };
        let one_at_a_time = Arc::new(Mutex::new(()));
        let committers: Vec<_> = (0..2)
            .map(|_| {
                let (slot, subscriber) = (Arc::clone(&slot), Arc::clone(&subscriber));
                let one_at_a_time = Arc::clone(&one_at_a_time);
                thread::spawn(move || {
                    {
                        let _commit = one_at_a_time.lock();
                        let next = slot.full().value + 1;
                        slot.publish(version(next));
                    }
                    if subscriber.mark_changed() {
                        run(&subscriber);
                    }
                })
            })
            .collect();
        for committer in committers {
            committer.join().unwrap();
        }
        assert_eq!(seen.load(Ordering::Relaxed), slot.full().value);
    });
}

#[test]
fn no_call_begins_after_the_close_returned() {
    loom::model(|| {
        let closed = Arc::new(AtomicBool::new(false));
        let subscriber = {
            let closed = Arc::clone(&closed);
            let job = move || assert!(!closed.load(Ordering::Relaxed) || thread::panicking());
            Subscriber::new(Weak::clone(&no_engine()), Box::new(job))
        };
        let worker = {
            let subscriber = Arc::clone(&subscriber);
            thread::spawn(move || {
                if subscriber.mark_changed() {
                    // The callback panics in a late call.
                    assert!(subscriber.run(|_| ()).panic.is_none());
                }
            })
        };
        subscriber.close();
        subscriber.wait().expect("no cycle");
        closed.store(true, Ordering::Relaxed);
        if subscriber.mark_changed() {
            run(&subscriber);
        }
        assert!(subscriber.run(|_| ()).panic.is_none());
        worker.join().unwrap();
    });
}

#[test]
fn no_call_is_running_once_the_wait_returned() {
    loom::model(|| {
        let inside = Arc::new(AtomicUsize::new(0));
        let calls = Arc::new(AtomicUsize::new(0));
        let subscriber = {
            let (inside, calls) = (Arc::clone(&inside), Arc::clone(&calls));
            let job = move || {
                calls.fetch_add(1, Ordering::Relaxed);
                inside.store(1, Ordering::Relaxed);
                inside.store(0, Ordering::Relaxed);
            };
            Subscriber::new(Weak::clone(&no_engine()), Box::new(job))
        };
        let worker = {
            let subscriber = Arc::clone(&subscriber);
            thread::spawn(move || {
                if subscriber.mark_changed() {
                    run(&subscriber);
                }
            })
        };
        Subscription::new(Arc::clone(&subscriber))
            .close_and_wait()
            .expect("no validator runs");
        assert_eq!(inside.load(Ordering::Relaxed), 0);
        let before = calls.load(Ordering::Relaxed);
        worker.join().unwrap();
        assert_eq!(calls.load(Ordering::Relaxed), before);
    });
}

/// Two callbacks that close each other: loom fails if both wait.
#[test]
fn two_callbacks_that_close_each_other_both_end_and_one_wait_is_rejected() {
    loom::model(|| {
        type Peer = Arc<Mutex<Option<Arc<Subscriber>>>>;
        let rejected = Arc::new(AtomicUsize::new(0));
        let began = Arc::new(AtomicUsize::new(0));
        let peers: [Peer; 2] = [0, 1].map(|_| Arc::new(Mutex::new(None)));
        let subscribers = [0, 1].map(|at: usize| {
            let peer = Arc::clone(&peers[at]);
            let (rejected, began) = (Arc::clone(&rejected), Arc::clone(&began));
            let job = move || {
                let peer = peer.lock().take().expect("set before the run");
                began.fetch_add(1, Ordering::AcqRel);
                peer.close();
                if peer.wait().is_err() {
                    rejected.fetch_add(1, Ordering::Relaxed);
                }
            };
            Subscriber::new(Weak::clone(&no_engine()), Box::new(job))
        });
        for at in 0..2 {
            *peers[at].lock() = Some(Arc::clone(&subscribers[1 - at]));
        }
        let [first, second] = subscribers;
        let worker = thread::spawn(move || drop(first.run(|_| ())));
        drop(second.run(|_| ()));
        worker.join().unwrap();
        // One that is closed before it begins closes nothing.
        let both = began.load(Ordering::Acquire) == 2;
        assert!(rejected.load(Ordering::Relaxed) <= began.load(Ordering::Acquire));
        assert!(both || rejected.load(Ordering::Relaxed) == 0);
    });
}

/// Counts how often it is dropped.
struct Dropped(Arc<AtomicUsize>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn captured_values_are_dropped_once_and_with_the_close() {
    loom::model(|| {
        let drops = Arc::new(AtomicUsize::new(0));
        let captured = Dropped(Arc::clone(&drops));
        let job = move || assert_eq!(captured.0.load(Ordering::Relaxed), 0, "called when dropped");
        let subscriber = Subscriber::new(Weak::clone(&no_engine()), Box::new(job));
        let worker = {
            let subscriber = Arc::clone(&subscriber);
            thread::spawn(move || {
                if subscriber.mark_changed() {
                    assert!(subscriber.run(|_| ()).panic.is_none());
                }
            })
        };
        let closer = {
            let subscriber = Arc::clone(&subscriber);
            thread::spawn(move || subscriber.close())
        };
        subscriber.close();
        worker.join().unwrap();
        closer.join().unwrap();
        assert_eq!(drops.load(Ordering::Relaxed), 1);
    });
}
