//! The outcome of the first load of a source, before and after the commit of the first values.

use std::sync::Arc;

use crate::engine::cache::Restored;
use crate::engine::commit::fallback::Fallback;
use crate::engine::core::Engine;
use crate::engine::health::registry::{Acceptance, Notices};
use crate::engine::supervisor::SourceRunner;
use crate::error::Error;
use crate::source::{CommitOutcome, Start, Watching};
use crate::tree::layer::{LayerState, SourceId};
use crate::value::document::Report;

/// A layer with its first values, if there are any, and the runner of its source.
pub(super) struct Loaded {
    pub(super) state: LayerState,
    pub(super) runner: Arc<SourceRunner>,
    pub(super) first_load: FirstLoad,
    /// Why the file on disk cannot be used, if there is one that cannot.
    pub(super) unusable_file: Option<Error>,
}

/// What the first load of a source brought.
pub(super) enum FirstLoad {
    /// A document, whose values are in the layer.
    Document {
        document: FirstDocument,
        /// The values from disk that replace those of the document if the commit rejects these.
        fallback: Option<Restored>,
    },
    /// Nothing: the layer is empty until the source pushes its values.
    AwaitsPush,
    /// A failure, which leaves the layer empty.
    Failure(Error),
    /// Values from disk, which are in the layer in place of those of the source.
    Restored {
        restored: Restored,
        /// Why the values of the source are not in the layer, and which secrets are missing for that.
        failure: Error,
        cause: RestoreCause,
    },
}

/// Why values from disk are in a layer.
pub(super) enum RestoreCause {
    /// The source failed, or the commit rejected its values.
    Failure,
    /// The source has pushed no values yet.
    AwaitsPush,
    /// The removal guard withholds the first document of the source.
    Withheld {
        document: FirstDocument,
        reason: Error,
    },
}

/// What the first document of a source contains besides its values.
pub(super) struct FirstDocument {
    pub(super) report: Report,
    pub(super) revision: Option<Arc<str>>,
}

impl FirstLoad {
    /// Whether the layer does not depend on values from disk: it has the values of the source, or those that the
    /// source pushes.
    fn is_loaded(&self) -> bool {
        match self {
            FirstLoad::Document { .. } | FirstLoad::AwaitsPush => true,
            FirstLoad::Failure(_) | FirstLoad::Restored { .. } => false,
        }
    }
}

impl Loaded {
    fn is_optional(&self) -> bool {
        matches!(self.runner.terms.policy.start, Start::Optional(_))
    }

    /// Why values from disk are in the layer, if they are.
    pub(super) fn restore_reason(&self) -> Option<Error> {
        match &self.first_load {
            FirstLoad::Restored { failure, .. } => Some(failure.clone()),
            _ => None,
        }
    }

    /// The values that replace the first ones if those are rejected; `None` if the program cannot start
    /// without the first ones.
    pub(super) fn fallback(&self) -> Option<Fallback> {
        let source = self.runner.id;
        match &self.first_load {
            FirstLoad::Document {
                fallback: Some(restored),
                ..
            } => Some(Fallback {
                source,
                root: restored.root.clone(),
                restored: Some(restored.confirmed),
                missing_secrets: restored.missing_secrets.clone().into(),
            }),
            first_load if first_load.is_loaded() && self.is_optional() => {
                Some(Fallback::empty(source))
            }
            _ => None,
        }
    }

    /// Reports restored values that the commit rejected. Returns the error if the program cannot start
    /// without them.
    pub(super) fn report_rejected_restore(
        &self,
        engine: &Engine,
        outcome: &CommitOutcome,
    ) -> Option<Error> {
        let FirstLoad::Restored { failure, cause, .. } = &self.first_load else {
            return None;
        };
        let id = self.runner.id;
        let pushes = self.runner.terms.watching == Watching::Push;
        let has_pushed = || pushes && engine.health_registry.has_arrived(id);
        if layer_is_restored(engine, id) || has_pushed() {
            return None;
        }
        let rejected = self.rejection("the cached values are rejected", outcome);
        let health_registry = &engine.health_registry;
        health_registry.note_unusable_cache(id, outcome.generation, rejected.clone());
        match cause {
            RestoreCause::Failure if !self.is_optional() => {
                Some(Error::all(vec![failure.clone(), rejected]))
            }
            RestoreCause::Failure => None,
            // The values of the source are in force instead, or are still to come.
            RestoreCause::AwaitsPush | RestoreCause::Withheld { .. } => None,
        }
    }

    /// The error for values of this layer that a commit rejected.
    fn rejection(&self, what: &str, outcome: &CommitOutcome) -> Error {
        let reasons = Error::all(outcome.rejected.clone());
        let error = Error::new(reasons.kind(), format!("{what}: {reasons}"));
        error.with_source_name(&self.state.name)
    }

    /// Records in the health registry and in the cache that the layer is in the tree, and lets the source go on.
    pub(super) fn record_admission(
        mut self,
        engine: &Engine,
        outcome: &CommitOutcome,
        changed: bool,
    ) {
        self.apply_replacement(engine, outcome);
        let (id, generation) = (self.runner.id, outcome.generation);
        let health_registry = &engine.health_registry;
        if let Some(reason) = self.unusable_file {
            health_registry.note_unusable_cache(id, generation, reason);
        }
        let is_loaded = self.first_load.is_loaded();
        record_first_load(engine, id, self.first_load, generation, changed);
        self.runner.admit(is_loaded);
        if self.runner.terms.bootstrap && is_loaded {
            self.runner.watch_late_changes();
        }
    }

    /// Brings `first_load` up to date with a commit that put other values into the layer.
    fn apply_replacement(&mut self, engine: &Engine, outcome: &CommitOutcome) {
        let id = self.runner.id;
        let is_restored = layer_is_restored(engine, id);
        let first_load = std::mem::replace(&mut self.first_load, FirstLoad::AwaitsPush);
        self.first_load = match first_load {
            FirstLoad::Document {
                fallback: Some(restored),
                ..
            } if is_restored => FirstLoad::Restored {
                restored,
                failure: self.rejection("its values are rejected", outcome),
                cause: RestoreCause::Failure,
            },
            // Without restored values, the fallback is an empty layer.
            FirstLoad::Document { fallback: None, .. }
                if !self.state.root.is_empty() && layer_is_empty(engine, id) =>
            {
                FirstLoad::Failure(self.rejection("its values are rejected", outcome))
            }
            FirstLoad::Restored { failure, cause, .. } if !is_restored => match cause {
                RestoreCause::Failure => FirstLoad::Failure(failure),
                // The source has pushed values meanwhile, or the restored values are rejected and it still will.
                RestoreCause::AwaitsPush => FirstLoad::AwaitsPush,
                // The restored values are rejected. Without them, the document removes nothing.
                RestoreCause::Withheld { document, .. } => FirstLoad::Document {
                    document,
                    fallback: None,
                },
            },
            unchanged => unchanged,
        };
    }
}

/// Records what the first load of a source brought.
fn record_first_load(
    engine: &Engine,
    id: SourceId,
    first_load: FirstLoad,
    generation: u64,
    changed: bool,
) {
    let health_registry = &engine.health_registry;
    let acceptance = Acceptance {
        generation,
        changed,
        ..Acceptance::default()
    };
    match first_load {
        FirstLoad::Document { document, fallback } => {
            let FirstDocument { report, revision } = document;
            let kept = fallback.filter(|_| report.keeps_values);
            let acceptance = Acceptance {
                restored: kept.map(|restored| restored.confirmed),
                problems: Some(report),
                revision,
                ..acceptance
            };
            record_accepted(engine, id, acceptance);
        }
        FirstLoad::AwaitsPush if health_registry.has_arrived(id) => {
            record_accepted(engine, id, acceptance);
        }
        FirstLoad::AwaitsPush => {}
        FirstLoad::Failure(failure) => health_registry.report_error(id, generation, failure),
        FirstLoad::Restored {
            restored,
            failure,
            cause,
        } => {
            health_registry.record_restored(id, generation, &restored, failure);
            if let RestoreCause::Withheld { reason, .. } = cause {
                engine.report_withheld(id, generation, reason);
            }
        }
    }
}

/// Records in the cache and in the health registry that the first values of a source are in force.
fn record_accepted(engine: &Engine, id: SourceId, acceptance: Acceptance) {
    let report = acceptance.problems.as_ref();
    let keeps_values = report.is_some_and(|report| report.keeps_values);
    let revision = acceptance.revision.clone();
    engine.cache.record_update(id, revision, keeps_values);
    let mut notices = Notices::default();
    engine
        .health_registry
        .record_accepted(&mut notices, id, acceptance);
    notices.deliver();
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
