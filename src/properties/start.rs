//! How the first values of a source come in: from the source, or from what was kept of it on disk.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::engine::cache::{Form, NotRestored, Restored};
use crate::engine::commit::fallback::Fallback;
use crate::engine::commit::removal_guard::Delivery;
use crate::engine::core::Engine;
use crate::engine::health::registry::{Acceptance, Expected, Notices};
use crate::engine::supervisor::{SourceRunner, Terms, guarded};
use crate::error::{Error, ErrorKind};
use crate::source::{CommitOutcome, Masked, Policy, References, Source, Start, Timing, Watching};
use crate::sync::discard::Discard;
use crate::tree::layer::{BOOTSTRAP_RANK, Layer, LayerState, SourceId, left_out_hint};
use crate::value::document::Report;
use crate::value::node::Table;

/// When a time to wait is over; one too long for the clock is a year.
pub(super) fn after(timeout: Duration) -> Instant {
    let now = Instant::now();
    let year = Duration::from_secs(365 * 24 * 60 * 60);
    now.checked_add(timeout).unwrap_or(now + year)
}

pub(super) fn layer(id: SourceId, layer: Layer, name: &str) -> LayerState {
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

/// A layer with its first values, if there are any, and who keeps it current.
pub(super) struct Loaded {
    pub(super) state: LayerState,
    pub(super) runner: Arc<SourceRunner>,
    /// Whether the source has given values; of what is pushed the commit tells.
    loaded: bool,
    /// What its document left out.
    problems: Option<Report>,
    revision: Option<Arc<str>>,
    /// Why it has given none.
    failure: Option<Error>,
    /// What was kept of it on disk and stands in for what it says.
    kept: Option<Restored>,
    /// What was kept of it, in case that what it says is refused.
    spare: Option<Restored>,
    /// Whether it is about to push its first values, and what was kept stands in until then.
    is_awaited: bool,
    /// Why what it said itself is not in force instead.
    withheld: Option<Error>,
    /// Why nothing can be had from there although there is something.
    unusable: Option<Error>,
}

impl Loaded {
    fn is_optional(&self) -> bool {
        matches!(self.runner.terms.policy.start, Start::Optional(_))
    }

    /// Why what was kept on disk stands in for what the source says.
    pub(super) fn stood_in_for(&self) -> Option<Error> {
        self.kept.as_ref().and(self.failure.clone())
    }

    /// Reports what was kept on disk of the source and is refused; for a source that is required,
    /// that is why there is no start.
    pub(super) fn lost(&self, engine: &Engine, applied: &CommitOutcome) -> Option<Error> {
        let (Some(_), false) = (&self.kept, is_kept(engine, self.runner.id)) else {
            return None;
        };
        if self.pushes() && self.has_arrived(engine) {
            // What it has pushed meanwhile has replaced the kept values.
            return None;
        }
        let rejected = Error::all(applied.rejected.clone());
        let detail = format!("the cached values are rejected: {rejected}");
        let rejected = Error::new(rejected.kind(), detail).with_source_name(&self.state.name);
        let health_registry = &engine.health_registry;
        health_registry.note_unusable(self.runner.id, applied.generation, rejected.clone());
        if self.withheld.is_some() || self.is_awaited {
            // The values of the source are in force instead, or are still to come.
            return None;
        }
        let errors = self.failure.iter().cloned().chain([rejected]).collect();
        (!self.is_optional()).then(|| Error::all(errors))
    }

    /// What replaces its first values if they are rejected; nothing if there is no start without them.
    pub(super) fn fallback(&self) -> Option<Fallback> {
        let kept = self.spare.as_ref();
        let possible = self.loaded && (kept.is_some() || self.is_optional());
        possible.then(|| Fallback {
            source: self.runner.id,
            root: kept.map(|kept| kept.root.clone()).unwrap_or_default(),
            restored: kept.map(|kept| kept.confirmed),
            left_out: kept
                .map(|kept| kept.left_out.clone().into())
                .unwrap_or_default(),
        })
    }

    /// Notes that its first values were refused, and something else is in their place.
    pub(super) fn judged(&mut self, engine: &Engine, applied: &CommitOutcome) {
        let rejected = match (&self.spare, self.loaded) {
            (_, false) => false,
            (Some(_), true) => is_kept(engine, self.runner.id),
            (None, true) => !self.state.root.is_empty() && is_empty(engine, self.runner.id),
        };
        if rejected {
            let why = Error::all(applied.rejected.clone());
            let detail = format!("its values are rejected: {why}");
            let error = Error::new(why.kind(), detail).with_source_name(&self.state.name);
            (self.failure, self.loaded) = (Some(error), false);
            self.kept = self.spare.take();
        }
    }

    fn pushes(&self) -> bool {
        self.runner.terms.watching == Watching::Push
    }

    /// Whether the first values are in the tree; what is pushed may still have to come.
    fn has_arrived(&self, engine: &Engine) -> bool {
        !self.pushes() || engine.health_registry.has_arrived(self.runner.id)
    }

    /// The layer is in the tree: says so in the health registry, and lets the source go on.
    pub(super) fn admitted(mut self, engine: &Engine, generation: u64, changed: bool) {
        let id = self.runner.id;
        if self.withheld.is_some() && !is_kept(engine, id) {
            // What was kept of it is refused, so there is nothing that it would take away.
            (self.withheld, self.failure, self.loaded) = (None, None, true);
        }
        if self.is_awaited && !is_kept(engine, id) {
            // The source has pushed values meanwhile, or the cached ones are rejected and it still will.
            (self.failure, self.loaded) = (None, true);
        }
        let arrived = self.loaded && self.has_arrived(engine);
        if let Some(unusable) = self.unusable {
            engine
                .health_registry
                .note_unusable(id, generation, unusable);
        }
        let keeps_values = self
            .problems
            .as_ref()
            .is_some_and(|report| report.keeps_values);
        if arrived {
            let revision = self.revision.clone();
            engine.cache.record_update(id, revision, keeps_values);
        }
        match self.failure {
            Some(failure) if is_kept(engine, id) => {
                if let Some(kept) = &self.kept {
                    engine
                        .health_registry
                        .record_restored(id, generation, kept, failure.clone());
                }
                if let Some(withheld) = self.withheld {
                    engine.report_withheld(id, generation, withheld);
                }
            }
            Some(failure) => engine.health_registry.report_error(id, generation, failure),
            None if arrived => {
                let mut notices = Notices::default();
                let acceptance = Acceptance {
                    generation,
                    changed,
                    problems: self.problems,
                    revision: self.revision,
                    restored: self
                        .spare
                        .filter(|_| keeps_values)
                        .map(|kept| kept.confirmed),
                    ..Acceptance::default()
                };
                engine
                    .health_registry
                    .record_accepted(&mut notices, id, acceptance);
                notices.deliver();
            }
            None => {}
        }
        self.runner.admit(self.loaded);
        if self.runner.terms.bootstrap && self.loaded {
            self.runner.watch_late_changes();
        }
    }
}

/// Whether a layer holds what was kept of it on disk.
fn is_kept(engine: &Engine, id: SourceId) -> bool {
    let current = engine.current.full();
    let mut layers = current.layers.iter();
    layers.any(|layer| layer.id == id && layer.restored.is_some())
}

/// Whether a layer holds nothing.
fn is_empty(engine: &Engine, id: SourceId) -> bool {
    let current = engine.current.full();
    let mut layers = current.layers.iter();
    layers.any(|layer| layer.id == id && layer.root.is_empty())
}

/// A source whose first load is on its way.
pub(super) struct Started {
    pub(super) state: LayerState,
    runner: Arc<SourceRunner>,
    engine: Arc<Engine>,
    kept: Option<Result<Restored, NotRestored>>,
}

impl Started {
    pub(super) fn one(
        engine: &Arc<Engine>,
        place: Layer,
        source: Discard<Box<dyn Source>>,
        limits: Limits,
    ) -> Result<Self, Error> {
        let id = engine.new_source();
        // A source is the user's code, in whatever it says.
        let bootstrap = place.rank() == BOOTSTRAP_RANK;
        let (origin, terms, credentials) = guarded(|| {
            let (timing, policy) = (source.timing(), source.policy());
            let terms = Terms {
                watching: if bootstrap {
                    Watching::Never
                } else {
                    source.watching()
                },
                bootstrap,
                rejection_scope: source.rejection_scope(),
                first: first_load(&timing, &policy, limits.load),
                timing,
                policy,
            };
            Ok((source.origin(), terms, source.credentials()))
        })?;
        let name = credentials.mask(&origin.to_string());
        let mut state = layer(id, place.clone(), &name);
        state.is_literal = terms.policy.references == References::Literal;
        in_time(&state.name, &terms, limits.propagation)?;
        let policy = &terms.policy;
        let expected = Expected {
            required: !matches!(policy.start, Start::Optional(_)),
            max_stale: policy.max_stale,
            polled: matches!(terms.watching, Watching::Poll(_)),
        };
        engine
            .health_registry
            .register(id, Arc::clone(&state.name), place, expected);
        if let Some(guard) = policy.guard {
            let delivery = match terms.watching {
                Watching::Stream | Watching::Push => Delivery::Streamed,
                _ => Delivery::Polled,
            };
            engine.guard(id, guard, delivery)?;
        }
        if terms.watching == Watching::Push {
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
            kept: None,
        })
    }

    /// Reads what was kept of it on disk while it is on its way.
    pub(super) fn recall(&mut self, engine: &Engine) -> Result<(), Error> {
        let Some(cached) = self.runner.terms.policy.cache else {
            return Ok(());
        };
        let id = self.runner.id;
        let form = if self.state.is_literal {
            Form::Literal
        } else {
            Form::References
        };
        let kept = engine
            .cache
            .add(engine, id, &self.state.name, &cached, form);
        let kept = kept.inspect_err(|_| engine.abandon(id))?;
        if let Ok(kept) = &kept {
            engine.add_known_secrets(&kept.left_out);
        }
        self.kept = Some(kept);
        Ok(())
    }

    /// Until when [`finish`](Self::finish) may wait, the longest last.
    pub(super) fn patience(&self, deadline: Instant) -> impl Ord + use<> {
        let until = self.runner.waits_until(deadline);
        (until.is_none(), until)
    }

    /// Waits for the first values, as the policy of the source wants it; where the start fails
    /// anyhow, until the source has answered once.
    pub(super) fn finish(self, deadline: Instant, doomed: bool) -> Result<Loaded, Error> {
        let Self {
            mut state,
            runner,
            engine,
            kept,
        } = self;
        let mut loaded = Loaded {
            state: state.clone(),
            loaded: true,
            problems: None,
            revision: None,
            failure: None,
            kept: None,
            spare: None,
            is_awaited: false,
            withheld: None,
            unusable: None,
            runner,
        };
        let (kept, missing) = match kept {
            Some(Ok(kept)) => (Some(kept), None),
            Some(Err(NotRestored::Missing(missing))) => (None, Some(missing)),
            Some(Err(NotRestored::Unusable(unusable))) => {
                loaded.unusable = Some(unusable.clone());
                (None, Some(unusable))
            }
            None => (None, None),
        };
        let name = Arc::clone(&state.name);
        let why = |error: Error| {
            // The error of a user's source need not name the source.
            let error = match error.origin() {
                Some(_) => error,
                None => error.with_source_name(&name),
            };
            Error::all([error].into_iter().chain(missing).collect())
        };
        let first = if !loaded.pushes() {
            let runner = &loaded.runner;
            runner.wait_for_first(deadline, kept.is_some(), doomed)
        } else if let Some(error) = loaded.runner.take_attach_error() {
            Err(error)
        } else if kept.is_none() {
            return Ok(loaded);
        } else {
            loaded.is_awaited = true;
            let detail = "has pushed no values since the start";
            Err(Error::new(ErrorKind::Unavailable, detail).with_source_name(&state.name))
        };
        let failure = match first {
            Ok(mut document) => {
                if state.is_literal {
                    document.escape_references();
                }
                if let Some(kept) = &kept {
                    document.keep_last_good(&kept.root);
                }
                // A store that was wiped while nobody looked is believed no sooner than one that is
                // wiped later.
                let check =
                    |kept: &Restored| engine.check_first(state.id, &kept.root, document.root());
                loaded.withheld = kept.as_ref().and_then(|kept| check(kept).err());
                loaded.revision = document.revision.clone();
                if let Some(kept) = &kept {
                    state.left_out = document.still_left_out(&kept.left_out);
                }
                let lost = loaded.unusable.clone().filter(|_| document.is_partial());
                let (root, mut report) = document.into_parts();
                report.hints.extend(left_out_hint(&state.left_out));
                // The values that would stay are lost.
                report.problems.extend(lost);
                loaded.problems = Some(report);
                match &loaded.withheld {
                    Some(withheld) => withheld.clone(),
                    None => {
                        state.root = root;
                        loaded.state = state;
                        loaded.spare = kept;
                        return Ok(loaded);
                    }
                }
            }
            Err(error) if kept.is_some() || loaded.is_optional() => error,
            Err(error) => return Err(why(error)),
        };
        loaded.loaded = false;
        loaded.failure = Some(why(failure));
        if let Some(kept) = &kept {
            let absent = kept.missing_secrets().into_iter();
            let errors = loaded.failure.take().into_iter().chain(absent);
            loaded.failure = Some(Error::all(errors.collect()));
            (state.root, state.restored) = (kept.root.clone(), Some(kept.confirmed));
            state.left_out = kept.left_out.clone().into();
        }
        loaded.kept = kept;
        loaded.state = state;
        Ok(loaded)
    }
}

/// What the builder allows.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// How late a change may be seen.
    pub(super) propagation: Duration,
    /// How long all first loads together may take.
    pub(super) load: Duration,
}

/// How long an attempt to load the first values may take: as long as the start waits, where it has
/// one attempt; where it may try again, no longer than later ones.
fn first_load(timing: &Timing, policy: &Policy, load: Duration) -> Duration {
    let one = timing.first_load_deadline();
    match policy.start {
        Start::Required(None) => one.max(load),
        Start::Optional(time) => one.max(time),
        Start::Required(Some(_)) | Start::Waits => one,
    }
}

/// Refuses a source whose changes may be seen later than the program wants.
fn in_time(name: &str, terms: &Terms, max_propagation: Duration) -> Result<(), Error> {
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
