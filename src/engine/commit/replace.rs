//! Replaces a layer as a whole, without the keys that are rejected.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::engine::commit::candidate::{Candidate, MergedLayers};
use crate::engine::commit::rejected_parts::{RejectedParts, scopes};
use crate::engine::commit::rejection::{CandidateRejection, Scope};
use crate::engine::commit::{Base, CommitState, Committed, bootstrap};
use crate::error::Error;
use crate::source::RejectionScope;
use crate::tree::diff;
use crate::tree::layer::MissingSecrets;
use crate::tree::snapshot::Found;
use crate::value::key::{self, Key, push_segment};
use crate::value::node::Table;
use crate::value::origin::Origin;

/// A layer that can be replaced.
pub(super) struct Replacement {
    pub(super) candidate: Candidate,
    pub(super) rejected: RejectedParts,
}

/// The keys that are rejected so far, and where each was written.
type RejectedKeys = BTreeMap<String, Option<Origin>>;

impl CommitState {
    /// Replaces a layer.
    pub(super) fn replace(
        &mut self,
        base: &Base<'_>,
        at: usize,
        contents: (Table, MissingSecrets),
        rejection_scope: RejectionScope,
    ) -> Result<Committed, Error> {
        let Replacement {
            candidate,
            rejected,
        } = self.prepare_replacement(base, at, contents, rejection_scope)?;
        Ok(self.publish(base, candidate, rejected))
    }

    /// Builds the candidate with a replaced layer. A rejected key keeps its old value.
    pub(super) fn prepare_replacement(
        &self,
        base: &Base<'_>,
        at: usize,
        (mut root, missing_secrets): (Table, MissingSecrets),
        rejection_scope: RejectionScope,
    ) -> Result<Replacement, Error> {
        let before = &base.layer(at).root;
        let mut errors = Vec::new();
        let mut rejected = RejectedKeys::new();
        let mut round = 0;
        loop {
            let mut layers = base.old.layers.clone();
            let layer = Arc::make_mut(&mut layers[at]);
            (layer.root, layer.restored) = (root.clone(), None);
            layer.missing_secrets = Arc::clone(&missing_secrets);
            let mut merged = MergedLayers::merge(base.rules, layers, Some(at));
            let ignored = bootstrap::ignored_values(&merged.layers, at, None);
            merged.findings.clashes.extend(ignored);
            let rejections = match self.build_candidate(base, merged) {
                Ok(candidate) => {
                    let keys = rejected
                        .into_iter()
                        .filter_map(|(key, origin)| Some((Key::parse(&key).ok()?, origin)))
                        .collect();
                    return Ok(Replacement {
                        candidate,
                        rejected: RejectedParts::new(errors, keys),
                    });
                }
                Err(rejections) => rejections,
            };
            if rejection_scope == RejectionScope::Whole {
                return Err(CandidateRejection::all(rejections));
            }
            let culprits = self.culprits_in(&rejections, round, [&root, before], &rejected);
            for key in &culprits {
                let found = Found::in_tree(&root, key).ok();
                let origin = found.and_then(|found| found.origin().cloned());
                rejected.insert(key.clone(), origin);
            }
            if culprits.is_empty() || !restore_old_values(&mut root, before, &culprits) {
                return Err(CandidateRejection::all(rejections));
            }
            errors.extend(rejections.into_iter().map(|rejection| rejection.error));
            round += 1;
        }
    }

    /// The keys to reject in a round: those of the first scope that has some.
    fn culprits_in(
        &self,
        rejections: &[CandidateRejection],
        round: usize,
        layers: [&Table; 2],
        rejected: &RejectedKeys,
    ) -> BTreeSet<String> {
        let mut all = scopes(round)
            .iter()
            .map(|scope| self.new_culprits(rejections, *scope, layers, rejected));
        all.find(|culprits| !culprits.is_empty())
            .unwrap_or_default()
    }

    /// The keys of a replaced layer that led to the rejections, without those that are rejected already.
    fn new_culprits(
        &self,
        rejections: &[CandidateRejection],
        scope: Scope,
        [root, before]: [&Table; 2],
        rejected: &RejectedKeys,
    ) -> BTreeSet<String> {
        let culprits = self.culprits(rejections, scope, |key| {
            let found = |tree| Found::in_tree(tree, key.as_str());
            match (found(root), found(before)) {
                // An unchanged value did not lead here by itself.
                (Ok(Found::Entry(now)), Ok(Found::Entry(was)))
                    if diff::same_as_written(&now.node, &was.node) =>
                {
                    None
                }
                _ => deciding_key(key, [root, before]),
            }
        });
        let new: BTreeSet<String> = culprits
            .into_iter()
            .filter(|key| !rejected.contains_key(key))
            .collect();
        // The most specific ones first: perhaps the value above need not be rejected.
        let has_more_specific = |key: &&String| {
            let below = format!("{key}.");
            let mut after = new.range(below.clone()..);
            after.next().is_some_and(|next| next.starts_with(&below))
        };
        new.iter()
            .filter(|key| !has_more_specific(key))
            .cloned()
            .collect()
    }
}

/// The key by which a layer, before or after an update, decides about a key: the key itself, or one above
/// it that has a value or a tombstone. `None` if neither layer has the key.
fn deciding_key(key: &Key, layers: [&Table; 2]) -> Option<String> {
    let mut tables = layers.map(Some);
    let mut deciding = String::new();
    for segment in key.segments() {
        push_segment(&mut deciding, &segment);
        let entries = tables.map(|table| table.and_then(|table| table.get(&segment)));
        let mut present = entries.iter().flatten().peekable();
        present.peek()?;
        if present.any(|entry| entry.node.table().is_none()) {
            break;
        }
        tables = entries.map(|entry| entry.and_then(|entry| entry.node.table()));
    }
    Some(deciding)
}

/// Gives each rejected key its old value. Returns whether that changed the layer; `false` also if an old value
/// does not fit.
fn restore_old_values(root: &mut Table, before: &Table, culprits: &BTreeSet<String>) -> bool {
    let mut changed = false;
    for key in culprits {
        let path: Vec<_> = key::segments(key).map_while(Result::ok).collect();
        let old = before.find(&path).map(|entry| entry.node.clone());
        changed |= root.remove_path(&path).is_some() || old.is_some();
        if let Some(node) = old {
            if root.put_path(&path, node).is_err() {
                return false;
            }
        }
    }
    changed
}
