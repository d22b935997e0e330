//! The engine as properties use it.

use std::any::Any;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use crate::engine::core::Engine;
use crate::engine::dispatcher;
use crate::error::Error;
use crate::property::listen::Listener;
use crate::property::registry::{PropertyEngine, Registry};
use crate::property::subscription::Subscriber;
use crate::sync::discard::Contained;
use crate::sync::panics::Panicked;
use crate::tree::snapshot::Generation;
use crate::value::key::Key;

impl PropertyEngine for Engine {
    fn between_commits(
        &self,
        f: &mut dyn FnMut(&Arc<Generation>, &mut Registry),
    ) -> Result<(), Error> {
        self.locked(|commit_state| {
            let current = self.current.full();
            f(&current, &mut commit_state.registry);
        })
    }

    fn generation(&self) -> u64 {
        self.current.load().number()
    }

    fn check_process(&self) -> Result<(), Error> {
        Engine::check_process(self)
    }

    fn note_missing(&self, key: &Key, is_table: bool) {
        self.health_registry.note_missing(key, is_table);
    }

    fn records_reads(&self) -> bool {
        Engine::records_reads(self)
    }

    fn note_read(&self, keys: Vec<Key>) {
        self.health_registry.note_read(keys);
    }

    fn schedule(&self, subscriber: Arc<Subscriber>) {
        self.dispatcher.schedule(subscriber);
    }

    fn cause(&self) -> u32 {
        dispatcher::cause()
    }

    fn callback_panicked(&self, panic: Panicked) {
        self.dispatcher.panicked(&panic);
    }

    fn on_close(&self, listener: Weak<dyn Listener>) {
        self.close_listeners.add(listener);
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn keep(&self, holder: Arc<dyn Any + Send + Sync>) {
        if self.process.is_current() {
            self.detached.lock().push(Contained::new(holder));
        } else {
            std::mem::forget(holder);
        }
    }
}
