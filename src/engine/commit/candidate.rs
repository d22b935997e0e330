//! Builds the next generation: pins, changed keys, references, and the checks of user code. What is in force
//! does not change here, except that the keys of secrets become known.

use std::sync::Arc;
use std::time::SystemTime;

use crate::engine::commit::frozen::Overlay;
use crate::engine::commit::pins::Pin;
use crate::engine::commit::rejection::CandidateRejection;
use crate::engine::commit::rules::Rules;
use crate::engine::commit::{Base, CommitState};
use crate::property::draft::Drafts;
use crate::property::stale::Stale;
use crate::tree::diff::{self, LeafChange};
use crate::tree::interpolate::{self, LeafReferences};
use crate::tree::layer::{LayerState, count_bootstrap};
use crate::tree::merge::{Findings, Merge};
use crate::tree::quoted::SecretTexts;
use crate::tree::snapshot::{Generation, GenerationStamp};
use crate::value::key::Key;
use crate::value::node::Table;
use crate::value::scan::Seed;
use crate::value::secret::Secrets;

/// The layers of a candidate, and the tree that they merge to.
#[derive(Clone)]
pub(super) struct MergedLayers<'a> {
    pub(super) layers: Vec<Arc<LayerState>>,
    /// The only layer that differs; `None` if layers were added, removed or moved.
    pub(super) changed_layer: Option<usize>,
    pub(super) tree: Table,
    /// The keys in the tree that have references.
    pub(super) referring: Vec<Key>,
    /// The keys at and below which the tree differs from the one in force; `None` if that is not
    /// known.
    pub(super) changed_keys: Option<&'a [&'a Key]>,
    pub(super) findings: Findings,
}

impl MergedLayers<'_> {
    /// Merges all layers.
    pub(super) fn merge(
        rules: &Rules,
        layers: Vec<Arc<LayerState>>,
        changed_layer: Option<usize>,
    ) -> Self {
        let mut merge = Merge::new(&rules.append, count_bootstrap(&layers));
        let roots: Vec<&Table> = layers.iter().map(|layer| &layer.root).collect();
        let tree = merge.merge_all(&roots);
        Self {
            layers,
            changed_layer,
            tree,
            referring: merge.referring,
            changed_keys: None,
            findings: merge.findings,
        }
    }
}

/// A generation that is ready to be published.
pub(super) struct Candidate {
    pub(super) generation: Arc<Generation>,
    pub(super) changes: Vec<LeafChange>,
    /// How many keys have another value.
    pub(super) changed_count: usize,
    pub(super) drafts: Drafts,
    pub(super) references: Vec<LeafReferences>,
    /// The handles that keep their last good values, since a reference is unresolved.
    pub(super) stale: Vec<Stale>,
    /// What frozen keys replace, if any are frozen.
    pub(super) overlay: Option<Overlay>,
    pub(super) findings: Findings,
}

impl CommitState {
    /// Builds a candidate, or returns why it is rejected.
    pub(super) fn build_candidate(
        &self,
        base: &Base<'_>,
        merged: MergedLayers<'_>,
    ) -> Result<Candidate, Vec<CandidateRejection>> {
        let Some(pin) = self.pins.pin() else {
            return self.build(base, merged, None);
        };
        // The changed keys are those of the layers, and the tree of the pin is in force.
        let merged = MergedLayers {
            changed_keys: None,
            ..merged
        };
        if !base.old.is_initial() && !has_same_layers(&base.old, &merged.layers) {
            self.check_behind_pin(base, merged.clone())?;
        }
        self.build(base, merged, Some(pin))
    }

    /// Rejects layers that would be rejected on the day the pin is removed, unless the layers in
    /// force would be rejected as well.
    fn check_behind_pin(
        &self,
        base: &Base<'_>,
        merged: MergedLayers<'_>,
    ) -> Result<(), Vec<CandidateRejection>> {
        let Err(rejections) = self.build(base, merged, None) else {
            return Ok(());
        };
        let before = MergedLayers::merge(base.rules, base.old.layers.clone(), None);
        match self.build(base, before, None) {
            Ok(_) => Err(rejections),
            Err(_) => Ok(()),
        }
    }

    /// Builds a candidate: the tree of the pin if one is given, else that of the layers.
    fn build(
        &self,
        base: &Base<'_>,
        merged: MergedLayers<'_>,
        pin: Option<&Pin>,
    ) -> Result<Candidate, Vec<CandidateRejection>> {
        let (mut merged, overlay) = self.apply_frozen_and_pinned(base.rules, merged, pin);
        let diff::Diff {
            mut changes,
            unlisted: unlisted_count,
        } = self.diff(base, &merged);
        let references = self.follow_references(base, &mut merged, pin, &mut changes);
        let findings = std::mem::take(&mut merged.findings);
        let changed_count = unlisted_count + changes.iter().filter(|change| !change.moved).count();
        let pending_restarts = match &overlay {
            Some(overlay) => &overlay.pending_restarts,
            None => self.frozen.pending_restarts(),
        };
        let generation = Arc::new(Generation {
            pending_restarts: Arc::clone(pending_restarts),
            ..next_generation(base, merged, pin, changed_count)
        });
        let mut rejections: Vec<CandidateRejection> = Vec::new();
        let (drafts, stale) = self.decode_for_handles(&generation, &changes, &mut rejections);
        self.check_tree(base, &generation, &changes, changed_count, &mut rejections);
        // `check_behind_pin` has checked the tree of the layers if there is a pin.
        if rejections.is_empty() && pin.is_none() && !base.old.is_initial() {
            rejections = self.check_next_start(base.rules, &generation, &references);
        }
        if rejections.is_empty() {
            Ok(Candidate {
                generation,
                changes,
                changed_count,
                drafts,
                references,
                stale,
                overlay,
                findings,
            })
        } else {
            Err(rejections)
        }
    }

    /// Replaces values of the layers by those of the frozen keys, and the tree by that of the pin. Returns
    /// what the frozen keys replace.
    fn apply_frozen_and_pinned<'a>(
        &self,
        rules: &Rules,
        mut merged: MergedLayers<'a>,
        pin: Option<&Pin>,
    ) -> (MergedLayers<'a>, Option<Overlay>) {
        let overlay = self.frozen.put_into(&mut merged.tree);
        if let Some(pin) = pin {
            (merged.tree, merged.referring) =
                pin.tree_in_force(&merged.tree, &merged.layers, &rules.append);
            if pin.pinned.by_earlier_run {
                // This tree was restored with its references, which are followed at each commit. So the
                // frozen values are put into it as well.
                let _ = self.frozen.put_into(&mut merged.tree);
            }
        }
        (merged, overlay)
    }

    /// The keys whose values have changed, before references are resolved.
    fn diff(&self, base: &Base<'_>, merged: &MergedLayers<'_>) -> diff::Diff {
        let (rules, old) = (base.rules, &base.old);
        // Without a handle or a rule nobody needs the list of changes, which matters for a first load.
        let is_listed = !self.registry.is_empty()
            || !self.references.is_empty()
            // A rejection names the keys that led to it; the first load names none.
            || ((!rules.validators.is_empty() || rules.schema.is_some()) && !old.is_initial());
        match merged.changed_keys {
            Some(keys) => {
                let differences = diff::diff_at_keys(&old.root, &merged.tree, keys, is_listed);
                debug_assert!(differences.has_same_keys(&diff::diff(
                    &old.root,
                    &merged.tree,
                    is_listed
                )));
                differences
            }
            None => diff::diff(&old.root, &merged.tree, is_listed),
        }
    }

    /// Resolves the references of the tree, unless it was pinned in this run: then it was resolved when it was in
    /// force.
    fn follow_references(
        &self,
        base: &Base<'_>,
        merged: &mut MergedLayers<'_>,
        pin: Option<&Pin>,
        changes: &mut Vec<LeafChange>,
    ) -> Vec<LeafReferences> {
        if pin.is_some_and(|pin| !pin.pinned.by_earlier_run) {
            return Vec::new();
        }
        let referring = std::mem::take(&mut merged.referring);
        let followed = base.rules.follow(
            (&mut merged.tree, referring),
            &base.old.root,
            &self.references,
            changes,
            pin.is_none().then_some(&*merged.layers),
        );
        add_referred_secrets(&base.rules.secrets, &merged.tree, &followed);
        followed
    }
}

/// Marks the keys to which known secrets refer now as secret. A read would find them as well, but a key may be
/// shown without one.
fn add_referred_secrets(secrets: &Secrets, tree: &Table, followed: &[LeafReferences]) {
    let leaves = followed.iter().filter(|one| !one.refers.is_empty());
    let mut keys: Vec<String> = leaves.flat_map(|one| secrets.known_in(&one.leaf)).collect();
    let known = keys.len();
    interpolate::add_referred(tree, &mut keys);
    secrets.add_all(keys.drain(known..));
}

/// Whether a generation has the same layers.
fn has_same_layers(generation: &Generation, layers: &[Arc<LayerState>]) -> bool {
    let mut pairs = generation.layers.iter().zip(layers);
    generation.layers.len() == layers.len() && pairs.all(|(a, b)| Arc::ptr_eq(a, b))
}

/// The generation after the one in force. Its number stays if no value has changed.
fn next_generation(
    base: &Base<'_>,
    merged: MergedLayers<'_>,
    pin: Option<&Pin>,
    changed_count: usize,
) -> Generation {
    let (rules, old) = (base.rules, &base.old);
    let MergedLayers {
        mut layers,
        changed_layer,
        tree,
        ..
    } = merged;
    let number = old.number() + u64::from(changed_count > 0);
    let time = SystemTime::now();
    for (i, layer) in layers.iter_mut().enumerate() {
        if changed_layer == Some(i) || (changed_layer.is_none() && layer.generation == 0) {
            let layer = Arc::make_mut(layer);
            (layer.generation, layer.time) = (number, time);
        }
    }
    Generation {
        stamp: Arc::new(GenerationStamp {
            number,
            time: if changed_count > 0 {
                time
            } else {
                old.stamp.time
            },
            layers: match changed_layer {
                Some(_) => Arc::clone(&old.stamp.layers),
                None => layers.iter().map(|layer| Arc::clone(&layer.name)).collect(),
            },
            pinned: pin.map(|pin| pin.pinned),
        }),
        fast_path_root: Generation::fast_path_root(&tree, rules.usage.as_ref()),
        root: tree,
        pending_restarts: Arc::default(),
        append: Arc::clone(&rules.append),
        layers,
        secrets: rules.secrets.clone(),
        secret_texts: SecretTexts::default(),
        seed: Seed::get(),
        usage: rules.usage.clone(),
    }
}
