//! Starts a source, and waits for its first values: those of the source itself, or those restored from disk.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::engine::cache::{NotRestored, Restored, TextSyntax};
use crate::engine::commit::removal_guard::Delivery;
use crate::engine::core::Engine;
use crate::engine::health::registry::Expected;
use crate::engine::supervisor::{SourceRunner, Terms, catch_source_panic};
use crate::error::{Error, ErrorKind};
use crate::properties::first_load::{FirstDocument, FirstLoad, Loaded, RestoreCause};
use crate::source::{Masked, Policy, References, Source, Start, Timing, Watching};
use crate::sync::discard::Discard;
use crate::tree::layer::{BOOTSTRAP_RANK, Layer, LayerState, SourceId, missing_secrets_hint};
use crate::value::document::Document;
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
        missing_secrets: Arc::default(),
        is_literal: false,
    }
}

/// A source whose first load has begun.
pub(super) struct Started {
    pub(super) state: LayerState,
    runner: Arc<SourceRunner>,
    engine: Arc<Engine>,
    /// The values on disk, or why there are none; `None` if the source is not cached.
    restored: Option<Result<Restored, NotRestored>>,
}

/// The first answer of a source that has started.
enum FirstAnswer {
    Document(Document),
    Failure(Error),
    /// None: the source pushes its values when it has some.
    AwaitsPush,
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
        let is_bootstrap = layer.rank() == BOOTSTRAP_RANK;
        let (origin, terms, credentials) = catch_source_panic(|| {
            let terms = read_terms(&**source, is_bootstrap, limits.load);
            Ok((source.origin(), terms, source.credentials()))
        })?;
        let name = credentials.mask(&origin.to_string());
        let mut state = empty_layer(id, layer.clone(), &name);
        state.is_literal = terms.policy.references == References::Literal;
        let name = Arc::clone(&state.name);
        check_propagation(&name, &terms, limits.propagation)?;
        let health_registry = &engine.health_registry;
        health_registry.register(id, Arc::clone(&name), layer, health_terms(&terms));
        if let Some(guard) = terms.policy.guard {
            let delivery = match terms.watching {
                Watching::Stream | Watching::Push => Delivery::Streamed,
                _ => Delivery::Polled,
            };
            engine.guard(id, guard, delivery, terms.rejection_scope)?;
        }
        if terms.watching == Watching::Push {
            // What the source pushes before its layer is in the tree waits for the admission.
            engine.delay_updates(id);
        }
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
    pub(super) fn restore(&mut self) -> Result<(), Error> {
        let Some(cached) = self.runner.terms.policy.cache else {
            return Ok(());
        };
        let (engine, id) = (&self.engine, self.runner.id);
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
            engine.add_known_secrets(&restored.missing_secrets);
        }
        self.restored = Some(restored);
        Ok(())
    }

    /// The key to sort sources by the time that [`finish`](Self::finish) may wait, the longest last.
    pub(super) fn patience(&self, deadline: Instant) -> impl Ord + use<> {
        let until = self.runner.waits_until(deadline);
        (until.is_none(), until)
    }

    /// Waits for the first values, as long as the policy of the source wants, and puts them or those from disk
    /// into the layer. If the start fails anyhow, the wait ends with the first answer.
    pub(super) fn finish(mut self, deadline: Instant, start_fails: bool) -> Result<Loaded, Error> {
        let (restored, not_restored) = match self.restored.take() {
            Some(Ok(restored)) => (Some(restored), None),
            Some(Err(reason)) => (None, Some(reason)),
            None => (None, None),
        };
        let answer = self.wait_for_answer(deadline, restored.is_some(), start_fails);
        let unusable_file = match &not_restored {
            Some(NotRestored::Unusable(reason)) => Some(reason.clone()),
            Some(NotRestored::Missing(_)) | None => None,
        };
        let first_load = match (answer, restored) {
            (FirstAnswer::Document(document), restored) => {
                self.accept_document(document, restored, unusable_file.as_ref())
            }
            (FirstAnswer::AwaitsPush, None) => FirstLoad::AwaitsPush,
            (FirstAnswer::AwaitsPush, Some(restored)) => {
                let detail = "has pushed no values since the start";
                let failure = Error::new(ErrorKind::Unavailable, detail);
                self.use_restored(restored, failure, RestoreCause::AwaitsPush)
            }
            (FirstAnswer::Failure(error), Some(restored)) => {
                self.use_restored(restored, error, RestoreCause::Failure)
            }
            (FirstAnswer::Failure(error), None) => {
                let not_restored = not_restored.map(NotRestored::into_reason);
                let errors = [self.named(error)].into_iter().chain(not_restored);
                let failure = Error::all(errors.collect());
                if !matches!(self.runner.terms.policy.start, Start::Optional(_)) {
                    return Err(failure);
                }
                FirstLoad::Failure(failure)
            }
        };
        Ok(Loaded {
            state: self.state,
            runner: self.runner,
            first_load,
            unusable_file,
        })
    }

    fn wait_for_answer(
        &self,
        deadline: Instant,
        is_restored: bool,
        start_fails: bool,
    ) -> FirstAnswer {
        let runner = &self.runner;
        if runner.terms.watching == Watching::Push {
            return match runner.take_attach_error() {
                Some(error) => FirstAnswer::Failure(error),
                None => FirstAnswer::AwaitsPush,
            };
        }
        match runner.wait_for_first(deadline, is_restored, start_fails) {
            Ok(document) => FirstAnswer::Document(document),
            Err(error) => FirstAnswer::Failure(error),
        }
    }

    /// Puts the first document of the source into the layer, with last good values for parts that could not be
    /// read. If the removal guard withholds the document, the restored values come into the layer.
    fn accept_document(
        &mut self,
        mut document: Document,
        restored: Option<Restored>,
        unusable_file: Option<&Error>,
    ) -> FirstLoad {
        if self.state.is_literal {
            document.escape_references();
        }
        let mut withheld = None;
        if let Some(restored) = &restored {
            document.keep_last_good(&restored.root);
            // A store that was wiped while the program was down is guarded as one that is wiped later.
            let checked = self
                .engine
                .check_first(self.state.id, &restored.root, document.root());
            withheld = checked.err();
            self.state.missing_secrets = document.still_missing(&restored.missing_secrets);
        }
        let revision = document.revision.clone();
        // Last good values of parts that could not be read would come from this file.
        let why_none_kept = unusable_file.filter(|_| document.is_partial()).cloned();
        let (root, mut report) = document.into_parts();
        let hint = missing_secrets_hint(&self.state.missing_secrets);
        report.hints.extend(hint);
        report.problems.extend(why_none_kept);
        let document = FirstDocument { report, revision };
        match (withheld, restored) {
            (Some(reason), Some(restored)) => {
                let cause = RestoreCause::Withheld {
                    document,
                    reason: reason.clone(),
                };
                self.use_restored(restored, reason, cause)
            }
            (_, fallback) => {
                self.state.root = root;
                FirstLoad::Document { document, fallback }
            }
        }
    }

    /// Puts the restored values into the layer.
    fn use_restored(
        &mut self,
        restored: Restored,
        failure: Error,
        cause: RestoreCause,
    ) -> FirstLoad {
        let hint = restored.missing_secrets_hint();
        let errors = [self.named(failure)].into_iter().chain(hint);
        let failure = Error::all(errors.collect());
        let state = &mut self.state;
        (state.root, state.restored) = (restored.root.clone(), Some(restored.confirmed));
        state.missing_secrets = restored.missing_secrets.clone().into();
        FirstLoad::Restored {
            restored,
            failure,
            cause,
        }
    }

    /// The error with the name of the source, which the error of a user's source need not have.
    fn named(&self, error: Error) -> Error {
        match error.origin() {
            Some(_) => error,
            None => error.with_source_name(&self.state.name),
        }
    }
}

/// Reads the settings of a source.
fn read_terms(source: &dyn Source, is_bootstrap: bool, load_timeout: Duration) -> Terms {
    let (timing, policy) = (source.timing(), source.policy());
    Terms {
        watching: if is_bootstrap {
            Watching::Never
        } else {
            source.watching()
        },
        bootstrap: is_bootstrap,
        rejection_scope: source.rejection_scope(),
        first: first_load_timeout(&timing, &policy, load_timeout),
        timing,
        policy,
    }
}

fn health_terms(terms: &Terms) -> Expected {
    Expected {
        required: !matches!(terms.policy.start, Start::Optional(_)),
        max_stale: terms.policy.max_stale,
        polled: matches!(terms.watching, Watching::Poll(_)),
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
