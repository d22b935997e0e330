//! Loads the first values of a source: from the source itself, or restored from disk.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::engine::cache::{NotRestored, Restored, TextSyntax};
use crate::engine::commit::fallback::Fallback;
use crate::engine::commit::removal_guard::Delivery;
use crate::engine::core::Engine;
use crate::engine::health::registry::{Acceptance, Expected, Notices};
use crate::engine::supervisor::{SourceRunner, Terms, catch_source_panic};
use crate::error::{Error, ErrorKind};
use crate::source::{CommitOutcome, Masked, Policy, References, Source, Start, Timing, Watching};
use crate::sync::discard::Discard;
use crate::tree::layer::{BOOTSTRAP_RANK, Layer, LayerState, SourceId, left_out_hint};
use crate::value::document::{Document, Report};
use crate::value::node::Table;

/// The end of a timeout that begins now; a timeout too long for the clock is a year.
pub(super) fn deadline_after(timeout: Duration) -> Instant {
    let now = Instant::now();
    let year = Duration::from_secs(365 * 24 * 60 * 60);
    now.checked_add(timeout).unwrap_or(now + year)
}

pub(super) fn empty_layer(id: SourceId, layer: Layer, name: &str) -> LayerState {
    LayerState {
        id,
        layer,
        name: name.into(),
        root: Table::default(),
        generation: 0,
        time: SystemTime::UNIX_EPOCH,
        restored: None,
        left_out: Arc::default(),
        is_literal: false,
    }
}

/// A layer with its first values, if there are any, and the runner of its source.
pub(super) struct Loaded {
    pub(super) state: LayerState,
    pub(super) runner: Arc<SourceRunner>,
    /// Whether the layer does not depend on values from disk: it has the values of the source, or waits for a
    /// source that pushes.
    is_loaded: bool,
    /// The rejected parts and the hints of the first document.
    report: Option<Report>,
    revision: Option<Arc<str>>,
    /// Why the values are not those of the source.
    failure: Option<Error>,
    /// The values from disk that are in the layer in place of the source's own.
    restored: Option<Restored>,
    /// The values from disk that replace the source's own if those are rejected.
    spare: Option<Restored>,
    /// Whether values from disk are in the layer until the source pushes its first ones.
    awaits_push: bool,
    /// Why the removal guard withholds the values of the source.
    withheld: Option<Error>,
    /// Why the file on disk cannot be used.
    unusable: Option<Error>,
}

impl Loaded {
    fn is_optional(&self) -> bool {
        matches!(self.runner.terms.policy.start, Start::Optional(_))
    }

    /// Why values from disk are in the layer, if they are.
    pub(super) fn restore_reason(&self) -> Option<Error> {
        self.restored.as_ref().and(self.failure.clone())
    }

    /// Reports restored values that the commit rejected. Returns the error if the program cannot start
    /// without them.
    pub(super) fn check_restored(&self, engine: &Engine, outcome: &CommitOutcome) -> Option<Error> {
        if self.restored.is_none() || layer_is_restored(engine, self.runner.id) {
            return None;
        }
        if self.pushes() && self.has_arrived(engine) {
            // The source has pushed other values meanwhile.
            return None;
        }
        let rejected = Error::all(outcome.rejected.clone());
        let detail = format!("the cached values are rejected: {rejected}");
        let rejected = Error::new(rejected.kind(), detail).with_source_name(&self.state.name);
        let health_registry = &engine.health_registry;
        health_registry.note_unusable(self.runner.id, outcome.generation, rejected.clone());
        if self.withheld.is_some() || self.awaits_push {
            // The values of the source are in force instead, or are still to come.
            return None;
        }
        let errors = self.failure.iter().cloned().chain([rejected]).collect();
        (!self.is_optional()).then(|| Error::all(errors))
    }

    /// The values that replace the first ones if those are rejected; `None` if the program cannot start
    /// without the first ones.
    pub(super) fn fallback(&self) -> Option<Fallback> {
        let spare = self.spare.as_ref();
        let is_possible = self.is_loaded && (spare.is_some() || self.is_optional());
        is_possible.then(|| Fallback {
            source: self.runner.id,
            root: spare.map(|spare| spare.root.clone()).unwrap_or_default(),
            restored: spare.map(|spare| spare.confirmed),
            left_out: spare
                .map(|spare| spare.left_out.clone().into())
                .unwrap_or_default(),
        })
    }

    /// Records whether the commit replaced the first values by the fallback.
    pub(super) fn record_fallback(&mut self, engine: &Engine, outcome: &CommitOutcome) {
        let id = self.runner.id;
        let is_replaced = match &self.spare {
            _ if !self.is_loaded => false,
            Some(_) => layer_is_restored(engine, id),
            // Without a spare, the fallback is an empty layer.
            None => !self.state.root.is_empty() && layer_is_empty(engine, id),
        };
        if is_replaced {
            let why = Error::all(outcome.rejected.clone());
            let detail = format!("its values are rejected: {why}");
            let error = Error::new(why.kind(), detail).with_source_name(&self.state.name);
            (self.failure, self.is_loaded) = (Some(error), false);
            self.restored = self.spare.take();
        }
    }

    fn pushes(&self) -> bool {
        self.runner.terms.watching == Watching::Push
    }

    /// Whether the source has sent its first values. A source that does not push has always done so.
    fn has_arrived(&self, engine: &Engine) -> bool {
        !self.pushes() || engine.health_registry.has_arrived(self.runner.id)
    }

    /// Records in the health registry that the layer is in the tree, and lets the source go on.
    pub(super) fn record_admission(mut self, engine: &Engine, generation: u64, changed: bool) {
        let id = self.runner.id;
        if self.withheld.is_some() && !layer_is_restored(engine, id) {
            // The commit rejected the restored values and took those of the source, which remove nothing now.
            (self.withheld, self.failure, self.is_loaded) = (None, None, true);
        }
        if self.awaits_push && !layer_is_restored(engine, id) {
            // The source has pushed values meanwhile, or the cached ones are rejected and it still will.
            (self.failure, self.is_loaded) = (None, true);
        }
        let has_arrived = self.is_loaded && self.has_arrived(engine);
        if let Some(unusable) = self.unusable {
            engine
                .health_registry
                .note_unusable(id, generation, unusable);
        }
        let keeps_values = self
            .report
            .as_ref()
            .is_some_and(|report| report.keeps_values);
        if has_arrived {
            let revision = self.revision.clone();
            engine.cache.record_update(id, revision, keeps_values);
        }
        match self.failure {
            Some(failure) if layer_is_restored(engine, id) => {
                if let Some(restored) = &self.restored {
                    engine.health_registry.record_restored(
                        id,
                        generation,
                        restored,
                        failure.clone(),
                    );
                }
                if let Some(withheld) = self.withheld {
                    engine.report_withheld(id, generation, withheld);
                }
            }
            Some(failure) => engine.health_registry.report_error(id, generation, failure),
            None if has_arrived => {
                let mut notices = Notices::default();
                let acceptance = Acceptance {
                    generation,
                    changed,
                    problems: self.report,
                    revision: self.revision,
                    restored: self
                        .spare
                        .filter(|_| keeps_values)
                        .map(|restored| restored.confirmed),
                    ..Acceptance::default()
                };
                engine
                    .health_registry
                    .record_accepted(&mut notices, id, acceptance);
                notices.deliver();
            }
            None => {}
        }
        self.runner.admit(self.is_loaded);
        if self.runner.terms.bootstrap && self.is_loaded {
            self.runner.watch_late_changes();
        }
    }

    /// Accepts the first document of the source and returns its values: adds last good values for parts that
    /// could not be read, and asks the removal guard.
    fn accept_first_document(
        &mut self,
        engine: &Engine,
        mut document: Document,
        restored: Option<&Restored>,
    ) -> Table {
        if self.state.is_literal {
            document.escape_references();
        }
        if let Some(restored) = restored {
            document.keep_last_good(&restored.root);
            // A store that was wiped while the program was down is guarded as one that is wiped later.
            let checked = engine.check_first(self.state.id, &restored.root, document.root());
            self.withheld = checked.err();
            self.state.left_out = document.still_left_out(&restored.left_out);
        }
        self.revision = document.revision.clone();
        // Last good values of parts that could not be read would come from the cache, which is unusable.
        let why_none_kept = self.unusable.clone().filter(|_| document.is_partial());
        let (root, mut report) = document.into_parts();
        report.hints.extend(left_out_hint(&self.state.left_out));
        report.problems.extend(why_none_kept);
        self.report = Some(report);
        root
    }

    /// Records a failure of the source, and fills the layer with the restored values if there are any.
    fn use_restored(&mut self, failure: Error, restored: Option<Restored>) {
        (self.is_loaded, self.failure) = (false, Some(failure));
        if let Some(restored) = &restored {
            let errors = self.failure.take().into_iter();
            let errors = errors.chain(restored.missing_secrets());
            self.failure = Some(Error::all(errors.collect()));
            let state = &mut self.state;
            (state.root, state.restored) = (restored.root.clone(), Some(restored.confirmed));
            state.left_out = restored.left_out.clone().into();
        }
        self.restored = restored;
    }
}

/// Whether the values of a layer were restored from disk.
fn layer_is_restored(engine: &Engine, id: SourceId) -> bool {
    let current = engine.current.full();
    let mut layers = current.layers.iter();
    layers.any(|layer| layer.id == id && layer.restored.is_some())
}

/// Whether a layer has no values.
fn layer_is_empty(engine: &Engine, id: SourceId) -> bool {
    let current = engine.current.full();
    let mut layers = current.layers.iter();
    layers.any(|layer| layer.id == id && layer.root.is_empty())
}

/// A source whose first load has begun.
pub(super) struct Started {
    pub(super) state: LayerState,
    runner: Arc<SourceRunner>,
    engine: Arc<Engine>,
    restored: Option<Result<Restored, NotRestored>>,
}

impl Started {
    /// Registers a source and begins its first load.
    pub(super) fn start(
        engine: &Arc<Engine>,
        layer: Layer,
        source: Discard<Box<dyn Source>>,
        limits: StartLimits,
    ) -> Result<Self, Error> {
        let id = engine.new_source();
        let bootstrap = layer.rank() == BOOTSTRAP_RANK;
        let (origin, terms, credentials) = catch_source_panic(|| {
            let (timing, policy) = (source.timing(), source.policy());
            let terms = Terms {
                watching: if bootstrap {
                    Watching::Never
                } else {
                    source.watching()
                },
                bootstrap,
                rejection_scope: source.rejection_scope(),
                first: first_load_timeout(&timing, &policy, limits.load),
                timing,
                policy,
            };
            Ok((source.origin(), terms, source.credentials()))
        })?;
        let name = credentials.mask(&origin.to_string());
        let mut state = empty_layer(id, layer.clone(), &name);
        state.is_literal = terms.policy.references == References::Literal;
        check_propagation(&state.name, &terms, limits.propagation)?;
        let policy = &terms.policy;
        let expected = Expected {
            required: !matches!(policy.start, Start::Optional(_)),
            max_stale: policy.max_stale,
            polled: matches!(terms.watching, Watching::Poll(_)),
        };
        engine
            .health_registry
            .register(id, Arc::clone(&state.name), layer, expected);
        if let Some(guard) = policy.guard {
            let delivery = match terms.watching {
                Watching::Stream | Watching::Push => Delivery::Streamed,
                _ => Delivery::Polled,
            };
            engine.guard(id, guard, delivery)?;
        }
        if terms.watching == Watching::Push {
            // What it pushes before its layer is in the tree waits for the admission.
            engine.delay_updates(id);
        }
        let name = Arc::clone(&state.name);
        let source = Box::new(Masked::new(source.keep(), credentials));
        let runner = engine.supervisor.start(engine, id, name, terms, source);
        let runner = runner.inspect_err(|_| engine.abandon(id))?;
        Ok(Self {
            state,
            runner,
            engine: Arc::clone(engine),
            restored: None,
        })
    }

    /// Reads the values on disk while the source loads.
    pub(super) fn restore(&mut self, engine: &Engine) -> Result<(), Error> {
        let Some(cached) = self.runner.terms.policy.cache else {
            return Ok(());
        };
        let id = self.runner.id;
        let syntax = if self.state.is_literal {
            TextSyntax::Literal
        } else {
            TextSyntax::References
        };
        let restored = engine
            .cache
            .add(engine, id, &self.state.name, &cached, syntax);
        let restored = restored.inspect_err(|_| engine.abandon(id))?;
        if let Ok(restored) = &restored {
            engine.add_known_secrets(&restored.left_out);
        }
        self.restored = Some(restored);
        Ok(())
    }

    /// The key to sort sources by the time that [`finish`](Self::finish) may wait, the longest last.
    pub(super) fn patience(&self, deadline: Instant) -> impl Ord + use<> {
        let until = self.runner.waits_until(deadline);
        (until.is_none(), until)
    }

    /// Waits for the first values, as long as the policy of the source wants. If the start fails anyhow,
    /// the wait ends with the first answer.
    pub(super) fn finish(self, deadline: Instant, start_fails: bool) -> Result<Loaded, Error> {
        let mut loaded = Loaded {
            state: self.state,
            runner: self.runner,
            is_loaded: true,
            report: None,
            revision: None,
            failure: None,
            restored: None,
            spare: None,
            awaits_push: false,
            withheld: None,
            unusable: None,
        };
        let (restored, missing) = match self.restored {
            Some(Ok(restored)) => (Some(restored), None),
            Some(Err(NotRestored::Missing(missing))) => (None, Some(missing)),
            Some(Err(NotRestored::Unusable(unusable))) => {
                loaded.unusable = Some(unusable.clone());
                (None, Some(unusable))
            }
            None => (None, None),
        };
        let name = Arc::clone(&loaded.state.name);
        let explain = |error: Error| {
            // The error of a user's source need not name the source.
            let error = match error.origin() {
                Some(_) => error,
                None => error.with_source_name(&name),
            };
            Error::all([error].into_iter().chain(missing).collect())
        };
        let first = if !loaded.pushes() {
            let runner = &loaded.runner;
            runner.wait_for_first(deadline, restored.is_some(), start_fails)
        } else if let Some(error) = loaded.runner.take_attach_error() {
            Err(error)
        } else if restored.is_none() {
            return Ok(loaded);
        } else {
            loaded.awaits_push = true;
            let detail = "has pushed no values since the start";
            Err(Error::new(ErrorKind::Unavailable, detail).with_source_name(&name))
        };
        let failure = match first {
            Ok(document) => {
                let root = loaded.accept_first_document(&self.engine, document, restored.as_ref());
                let Some(withheld) = &loaded.withheld else {
                    loaded.state.root = root;
                    loaded.spare = restored;
                    return Ok(loaded);
                };
                withheld.clone()
            }
            Err(error) if restored.is_some() || loaded.is_optional() => error,
            Err(error) => return Err(explain(error)),
        };
        loaded.use_restored(explain(failure), restored);
        Ok(loaded)
    }
}

/// The limits of the builder for a source that starts.
#[derive(Clone, Copy)]
pub(super) struct StartLimits {
    /// How late a change may be seen.
    pub(super) propagation: Duration,
    /// How long all first loads together may take.
    pub(super) load: Duration,
}

/// How long an attempt to load the first values may take. If the policy allows one attempt, it may take as
/// long as the start waits. If it allows several, each has the time of a later load.
fn first_load_timeout(timing: &Timing, policy: &Policy, load: Duration) -> Duration {
    let attempt = timing.first_load_deadline();
    match policy.start {
        Start::Required(None) => attempt.max(load),
        Start::Optional(time) => attempt.max(time),
        Start::Required(Some(_)) | Start::Waits => attempt,
    }
}

/// Rejects a source whose changes may be seen later than the program allows.
fn check_propagation(name: &str, terms: &Terms, max_propagation: Duration) -> Result<(), Error> {
    let Terms {
        watching, timing, ..
    } = terms;
    match timing.worst_case_latency(*watching) {
        Some(worst) if worst > max_propagation && !terms.policy.manual => {
            let detail = format!(
                "changes may be seen {worst:?} late ({}), expected at most {max_propagation:?}; poll more often, shorten the timeout, or raise `Builder::max_propagation`",
                timing.arithmetic(*watching),
            );
            Err(Error::new(ErrorKind::InvalidConfig, detail).with_source_name(name))
        }
        _ => Ok(()),
    }
}
