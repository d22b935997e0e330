//! Adds, removes and moves layers.

use std::sync::Arc;

use crate::engine::commit::bootstrap;
use crate::engine::commit::candidate::MergedLayers;
use crate::engine::commit::fallback::Fallback;
use crate::engine::commit::rejected_parts::RejectedParts;
use crate::engine::commit::rejection::CandidateRejection;
use crate::engine::commit::{Base, CommitState, Committed};
use crate::error::Error;
use crate::sorted;
use crate::tree::layer::{Layer, LayerState, SourceId};
use crate::value::key::Key;

impl CommitState {
    /// Adds layers, and freezes keys after the first load.
    pub(super) fn add_layers(
        &mut self,
        base: &Base<'_>,
        new: Vec<LayerState>,
        mut fallbacks: Vec<Fallback>,
    ) -> Result<Committed, Error> {
        // Without restored values, the layer has the withheld values of the source, or none.
        for layer in new.iter().filter(|layer| layer.restored.is_some()) {
            let withheld = self.guards.wanted_layer(layer.id).cloned();
            fallbacks.push(Fallback::not_restored(
                layer.id,
                withheld.unwrap_or_default(),
            ));
        }
        let mut layers = base.old.layers.clone();
        layers.extend(new.into_iter().map(Arc::new));
        sorted::sort_by_key(&mut layers, |layer| layer.precedence());
        let mut committed = self.rebuild_with_fallbacks(base, layers, fallbacks)?;
        let added = Base::new(base.current, base.rules);
        let now = &added.old;
        let all = 0..now.layers.len();
        let ignored = all.flat_map(|at| bootstrap::ignored_values(&now.layers, at, None));
        committed.clashes.extend(ignored);
        if base.old.is_initial() && self.freeze_keys(&added) {
            if let Ok(frozen) = self.rebuild(&added, now.layers.clone()) {
                committed.pending_restarts = frozen.pending_restarts;
            }
        }
        Ok(committed)
    }

    /// Freezes the keys that only a restart changes. Returns whether the tree must be published
    /// again: its references still follow other keys, or a roll-back differs from the layers.
    fn freeze_keys(&mut self, added: &Base<'_>) -> bool {
        let references = &self.references;
        let is_absent = |key: &Key| references.is_passed_over(key);
        let follows = self
            .frozen
            .freeze(&added.rules.frozen, &added.old, &is_absent);
        follows || self.pins.pin().is_some()
    }

    pub(super) fn remove_layer(
        &mut self,
        base: &Base<'_>,
        source: SourceId,
    ) -> Result<Committed, Error> {
        let mut layers = base.old.layers.clone();
        layers.remove(base.index_of(source)?);
        self.rebuild(base, layers)
    }

    pub(super) fn move_layer(
        &mut self,
        base: &Base<'_>,
        source: SourceId,
        to: Layer,
    ) -> Result<Committed, Error> {
        let mut layers = base.old.layers.clone();
        Arc::make_mut(&mut layers[base.index_of(source)?]).layer = to;
        sorted::sort_by_key(&mut layers, |layer| layer.precedence());
        self.rebuild(base, layers)
    }

    /// Merges all layers and publishes the tree.
    pub(super) fn rebuild(
        &mut self,
        base: &Base<'_>,
        layers: Vec<Arc<LayerState>>,
    ) -> Result<Committed, Error> {
        let mut merged = MergedLayers::merge(base.rules, layers, None);
        if base.old.is_initial() {
            let unfixed = (merged.tree.clone(), merged.referring.clone());
            let pin = self.pins.pin();
            if bootstrap::fix_references(base.rules, &mut merged.layers, unfixed, pin) {
                merged = MergedLayers::merge(base.rules, merged.layers, None);
            }
        }
        match self.build_candidate(base, merged) {
            Ok(candidate) => Ok(self.publish(base, candidate, RejectedParts::default())),
            Err(rejections) => Err(CandidateRejection::all(rejections)),
        }
    }
}
