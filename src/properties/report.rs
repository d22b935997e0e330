//! What [`Properties`] report: explanations, findings of the schema, and health.

use crate::engine::health::{CallbackHealth, Health, Status};
use crate::properties::Properties;
use crate::schema::{Deprecated, Schema, Unknown};
use crate::tree::explain::Explanation;
use crate::value::key::Key;

impl Properties {
    /// Explains a key: its value in every layer, which one wins, where it was written, and which values
    /// were rejected.
    ///
    /// The explanation of a malformed key has the error in [`Explanation::broken`].
    pub fn explain(&self, key: &str) -> Explanation {
        let mut explanation = self.snapshot().explain(key);
        let (Ok(key), Ok(())) = (Key::parse(key), self.0.engine.check_process()) else {
            return explanation;
        };
        for (source, location) in self.0.engine.health_registry.locations() {
            let mut layers = explanation.layers.iter_mut();
            if let Some(layer) = layers.find(|layer| layer.source == source) {
                layer.location = Some(location);
            }
        }
        (explanation.rejected, explanation.clashes) =
            self.0.engine.health_registry.rejected_of(key.as_str());
        explanation
    }

    /// The schema of the builder, or all of its schemas as one. What it writes masks the secrets of the
    /// builder, too.
    pub fn schema(&self) -> Option<&Schema> {
        self.0.engine.rules.schema.as_ref()
    }

    /// The undeclared keys under the strict prefixes of the [`Schema`], in order, each with its origin and
    /// the declared key that may be meant.
    pub fn unknown_keys(&self) -> Vec<Unknown> {
        let now = self.0.engine.current.full();
        self.schema()
            .map_or_else(Vec::new, |schema| schema.unknown(&now))
    }

    /// The keys that are set although the [`Schema`] declares them
    /// [deprecated](crate::schema::Declaration::deprecated), in order, each with its origin and what to do
    /// instead. Keys that only have the default of the schema are left out.
    pub fn deprecated_keys(&self) -> Vec<Deprecated> {
        let now = self.0.engine.current.full();
        self.schema()
            .map_or_else(Vec::new, |schema| schema.deprecated(&now))
    }

    /// The keys with a value that was not read since the start. Reads by name, by a
    /// snapshot and by a validator count. So does a handle or a struct that is bound at or above the key,
    /// and a reference from a key that was read. The list is empty without [`Builder::track_usage`](crate::Builder::track_usage).
    ///
    /// In a fork of the process that built the properties, reads of the fork may not count, and the
    /// list may be empty.
    pub fn unused_keys(&self) -> Vec<Key> {
        self.0.engine.current.full().unused()
    }

    /// The status of the properties as a whole, which costs less than [`health`](Self::health).
    ///
    /// In a fork of the process that built the properties it is [`Status::Stale`].
    pub fn status(&self) -> Status {
        let engine = &self.0.engine;
        match engine.check_process() {
            Ok(()) => engine.health_registry.status(engine.dispatcher.starved()),
            Err(reason) => Status::in_a_fork(reason),
        }
    }

    /// The health of the sources, the rejected values, and the number of callbacks that panicked.
    ///
    /// In a fork of the process that built the properties it is [`Status::Stale`] and names no
    /// source.
    pub fn health(&self) -> Health {
        let engine = &self.0.engine;
        let generation = self.generation();
        match engine.check_process() {
            Ok(()) => {
                let callbacks = CallbackHealth {
                    panics: engine.dispatcher.panics(),
                    starved: engine.dispatcher.starved(),
                };
                let mut health = engine
                    .health_registry
                    .health(&engine.current.full(), callbacks);
                engine.add_hints(&mut health);
                health
            }
            Err(reason) => Health::in_a_fork(generation, engine.dispatcher.panics(), reason),
        }
    }
}
