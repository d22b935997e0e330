//! Replaces a layer as a whole, without the keys that are rejected.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::engine::commit::candidate::{Candidate, MergedLayers};
use crate::engine::commit::layers::merge_all;
use crate::engine::commit::rejection::{Rejection, Scope};
use crate::engine::commit::withheld::{Withheld, scopes};
use crate::engine::commit::{Base, CommitState, Committed, bootstrap};
use crate::error::Error;
use crate::source::RejectionScope;
use crate::tree::diff;
use crate::tree::layer::LeftOut;
use crate::tree::merge::Findings;
use crate::tree::snapshot::Found;
use crate::value::key::{self, Key, push_segment};
use crate::value::node::Table;
use crate::value::origin::Origin;

/// A layer that can be replaced.
pub(super) struct Replacement {
    pub(super) candidate: Candidate,
    findings: Findings,
    pub(super) withheld: Withheld,
}

/// The keys that are withheld so far, and where each was written.
type WithheldKeys = BTreeMap<String, Option<Origin>>;

impl CommitState {
    /// Replaces a layer.
    pub(super) fn replace(
        &mut self,
        base: &Base<'_>,
        at: usize,
        contents: (Table, LeftOut),
        rejection_scope: RejectionScope,
    ) -> Result<Committed, Error> {
        let Replacement {
            candidate,
            findings,
            withheld,
        } = self.prepare(base, at, contents, rejection_scope)?;
        Ok(self.publish(base, candidate, findings, withheld))
    }

    /// Builds the candidate with a replaced layer. A rejected key keeps its old value.
    pub(super) fn prepare(
        &self,
        base: &Base<'_>,
        at: usize,
        (mut root, left_out): (Table, LeftOut),
        rejection_scope: RejectionScope,
    ) -> Result<Replacement, Error> {
        let before = &base.layer(at).root;
        let mut rejected = Vec::new();
        let mut withheld = WithheldKeys::new();
        let mut round = 0;
        loop {
            let mut layers = base.old.layers.clone();
            let layer = Arc::make_mut(&mut layers[at]);
            (layer.root, layer.restored) = (root.clone(), None);
            layer.left_out = Arc::clone(&left_out);
            let (tree, referring, mut findings) = merge_all(base.rules, &layers);
            let ignored = bootstrap::ignored(&layers, at, None);
            findings.clashes.extend(ignored);
            let merged = MergedLayers {
                layers,
                changed: Some(at),
                tree,
                referring,
                only: None,
            };
            let rejections = match self.build_candidate(base, merged) {
                Ok(candidate) => {
                    let withheld = withheld.into_iter();
                    let keys = withheld
                        .filter_map(|(key, origin)| Some((Key::parse(&key).ok()?, origin)))
                        .collect();
                    return Ok(Replacement {
                        candidate,
                        findings,
                        withheld: Withheld::new(rejected, keys),
                    });
                }
                Err(rejections) => rejections,
            };
            if rejection_scope == RejectionScope::Whole {
                return Err(Rejection::all(rejections));
            }
            let culprits = self.culprits_in(&rejections, round, [&root, before], &withheld);
            for key in &culprits {
                let found = Found::in_tree(&root, key).ok();
                let origin = found.and_then(|found| found.origin().cloned());
                withheld.insert(key.clone(), origin);
            }
            if culprits.is_empty() || !restore(&mut root, before, &culprits) {
                return Err(Rejection::all(rejections));
            }
            rejected.extend(rejections.into_iter().map(|rejection| rejection.error));
            round += 1;
        }
    }

    /// The keys to withhold in a round: of the first scope that has some.
    fn culprits_in(
        &self,
        rejections: &[Rejection],
        round: usize,
        layers: [&Table; 2],
        withheld: &WithheldKeys,
    ) -> BTreeSet<String> {
        let mut all = scopes(round)
            .iter()
            .map(|scope| self.new_culprits(rejections, *scope, layers, withheld));
        all.find(|culprits| !culprits.is_empty())
            .unwrap_or_default()
    }

    /// The keys to withhold of a layer that is replaced, without those that are withheld already.
    fn new_culprits(
        &self,
        rejections: &[Rejection],
        scope: Scope,
        [root, before]: [&Table; 2],
        withheld: &WithheldKeys,
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
                _ => place_of(key, [root, before]),
            }
        });
        let new: BTreeSet<String> = culprits
            .into_iter()
            .filter(|key| !withheld.contains_key(key))
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

/// Where a layer, before or after an update, decides about a key: at the key, or further up if a
/// value or a tombstone stands there.
fn place_of(key: &Key, layers: [&Table; 2]) -> Option<String> {
    let mut tables = layers.map(Some);
    let mut place = String::new();
    for segment in key.segments() {
        push_segment(&mut place, &segment);
        let here = tables.map(|table| table.and_then(|table| table.get(&segment)));
        let mut there = here.iter().flatten().peekable();
        there.peek()?;
        if there.any(|entry| entry.node.table().is_none()) {
            break;
        }
        tables = here.map(|entry| entry.and_then(|entry| entry.node.table()));
    }
    Some(place)
}

/// Gives each rejected key its old value. Returns whether that changed anything.
fn restore(root: &mut Table, before: &Table, culprits: &BTreeSet<String>) -> bool {
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
