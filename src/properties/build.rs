//! Starts [`Properties`]: loads all sources, and commits their first values as one generation.

use std::sync::Arc;

use crate::engine::commit::OVERRIDES;
use crate::engine::commit::rules::Rules;
use crate::engine::core::Engine;
use crate::error::{Error, ErrorKind};
use crate::properties::builder::Builder;
use crate::properties::first_load::Loaded;
use crate::properties::start::{StartLimits, Started, deadline_after, empty_layer};
use crate::properties::{Owner, Properties};
use crate::sorted;
use crate::tree::layer::{DEFAULTS_RANK, Layer, OVERRIDE_RANK};
use crate::tree::usage::Usage;
use crate::value::document::Document;
use crate::value::key::Key;
use crate::value::origin::Origin;
use crate::value::secret::Secrets;

impl Builder {
    /// Loads every source and starts to watch them.
    ///
    /// # Blocking
    ///
    /// Blocks the calling thread until each source has answered or its time is over. The sources load
    /// at the same time. A required source has the [`load_timeout`](Self::load_timeout), 10 seconds by
    /// default. An [optional](crate::source::Policy::optional) source that does not respond costs one
    /// second, a source with a time of its own in its [`Policy`](crate::source::Policy) that time.
    ///
    /// An async program builds before it starts its runtime, or on a thread that may block:
    ///
    /// ```no_run
    /// # async fn start() -> Result<(), Box<dyn std::error::Error>> {
    /// use liveprops::{Properties, sources::Env};
    ///
    /// let build = || Properties::builder().source(Env::prefix("APP_")).build();
    /// let props = tokio::task::spawn_blocking(build).await??;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// One error with everything that is wrong; see [`Error::iter`].
    ///
    /// - [`ErrorKind::InvalidKey`] for a malformed key, and for a default or a secret key of the builder
    ///   that the schema declares.
    /// - [`ErrorKind::Unavailable`] or [`ErrorKind::Timeout`] for a required source that cannot be
    ///   loaded, or another kind that the source returns.
    /// - [`ErrorKind::Rejected`], [`ErrorKind::Mismatch`] or [`ErrorKind::NotFound`] for a tree that
    ///   breaks the schema or that a validator rejects.
    /// - [`ErrorKind::InvalidConfig`] for a source whose changes may be seen later than
    ///   [`max_propagation`](Self::max_propagation) allows.
    pub fn build(mut self) -> Result<Properties, Error> {
        let mut faults = std::mem::take(&mut self.faults);
        let (rules, defaults) = self.rules(&mut faults);
        let engine = Engine::new(rules, self.inline, self.clock.clone());
        let _building = engine.begin_building();
        // From here on an early return ends what was started.
        let props = Properties(Arc::new(Owner {
            engine: Arc::clone(&engine),
            max_propagation: self.max_propagation,
        }));
        for callback in std::mem::take(&mut self.events) {
            props.on_source_event(callback).detach();
        }
        if let Some(dir) = self.state_dir.take() {
            engine.cache.open(dir);
            match engine.cache.earlier_pin() {
                Ok(Some(pin)) => engine.restore_pin(pin)?,
                Ok(None) => {}
                Err(unusable) => engine.health_registry.note(0, unusable),
            }
        }
        let loaded = self.load(&engine, &mut faults);
        if !faults.is_empty() {
            return Err(Error::all(faults));
        }
        commit_first(&engine, defaults, loaded)?;
        Ok(props)
    }

    /// The rules that every commit applies, and the layer of defaults.
    fn rules(&mut self, faults: &mut Vec<Error>) -> (Rules, Document) {
        let append = parsed(&mut self.append, faults).into_iter().collect();
        let mut frozen = parsed(&mut self.restart_required, faults);
        let secrets = Secrets::default();
        let not_secrets = parsed(&mut self.not_secrets, faults);
        secrets.set_plain(not_secrets.into_iter().collect());
        let secret_keys = parsed(&mut self.secrets, faults);
        secret_keys.iter().for_each(|key| secrets.add(key.clone()));
        let mut defaults = Document::new();
        if let Some(schema) = &mut self.schema {
            defaults = schema.install(&secrets, faults);
            let declared = |key| schema.reject_declared(key, "Declaration::secret");
            faults.extend(secret_keys.iter().filter_map(declared));
            frozen.extend(schema.restart_required().cloned());
        }
        let mut own_defaults = Document::new();
        let origin = Origin::new("default", "");
        for (key, value) in std::mem::take(&mut self.defaults) {
            let set = key.and_then(|key| {
                let schema = self.schema.as_ref();
                match schema.and_then(|it| it.reject_declared(&key, "Declaration::default")) {
                    Some(declared) => Err(declared),
                    None => own_defaults.set_key(&key, value, &origin),
                }
            });
            faults.extend(set.err());
        }
        defaults.merge(own_defaults);
        if frozen.iter().any(Key::is_root) {
            let detail = "`restart_required` cannot cover the whole tree; name the keys that a program reads once";
            faults.push(Error::new(ErrorKind::InvalidKey, detail));
        }
        let rules = Rules {
            append: Arc::new(append),
            validators: std::mem::take(&mut self.validators),
            secrets,
            frozen,
            history: self.history,
            schema: self.schema.take(),
            keeps_unresolved: self.keeps_unresolved,
            usage: self.tracks_usage.then(Arc::<Usage>::default),
        };
        (rules, defaults)
    }

    /// Starts all sources and waits for their first values.
    fn load(&mut self, engine: &Arc<Engine>, faults: &mut Vec<Error>) -> Vec<Loaded> {
        let deadline = deadline_after(self.timeout);
        let limits = StartLimits {
            propagation: self.max_propagation,
            load: self.timeout,
        };
        let mut started = Vec::new();
        for (layer, source) in std::mem::take(&mut self.sources) {
            match Started::start(engine, layer, source, limits) {
                Ok(source) => started.push(source),
                Err(error) => faults.push(error),
            }
        }
        // The sources with the most time come last: after the error of another one they need not be
        // waited for.
        sorted::sort_by_key(&mut started, |source: &Started| source.patience(deadline));
        let mut all = Vec::new();
        for mut source in started {
            let start_fails = !faults.is_empty();
            let loaded = source
                .restore()
                .and_then(|()| source.finish(deadline, start_fails));
            match loaded {
                Ok(loaded) => all.push(loaded),
                Err(error) => faults.push(error),
            }
        }
        sorted::sort_by_key(&mut all, |loaded| loaded.state.id);
        all
    }
}

/// The keys that are well formed.
fn parsed(keys: &mut Vec<Result<Key, Error>>, faults: &mut Vec<Error>) -> Vec<Key> {
    let keys = std::mem::take(keys).into_iter();
    keys.filter_map(|key| key.map_err(|error| faults.push(error)).ok())
        .collect()
}

/// Commits the first values of all layers as one generation, and lets the sources go on.
fn commit_first(
    engine: &Arc<Engine>,
    defaults: Document,
    loaded: Vec<Loaded>,
) -> Result<(), Error> {
    let mut layers = vec![empty_layer(
        OVERRIDES,
        Layer::with_any_rank("overrides", OVERRIDE_RANK),
        "overrides",
    )];
    if !defaults.is_empty() {
        let mut layer = empty_layer(
            engine.new_source(),
            Layer::with_any_rank("defaults", DEFAULTS_RANK),
            "defaults",
        );
        layer.root = defaults.into_parts().0;
        layers.push(layer);
    }
    layers.extend(loaded.iter().map(|loaded| loaded.state.clone()));
    let fallbacks = loaded.iter().filter_map(Loaded::fallback).collect();
    let outcome = engine.admit(layers, fallbacks).map_err(|error| {
        let reasons = loaded.iter().filter_map(Loaded::restore_reason);
        Error::all([error].into_iter().chain(reasons).collect())
    })?;
    let rejected: Vec<Error> = loaded
        .iter()
        .filter_map(|loaded| loaded.report_rejected_restore(engine, &outcome))
        .collect();
    if !rejected.is_empty() {
        return Err(Error::all(rejected));
    }
    for loaded in loaded {
        loaded.record_admission(engine, &outcome, true);
    }
    Ok(())
}
