//! Checks a candidate by user code: decodes for live handles, then the schema, then the validators.

use std::collections::HashSet;
use std::sync::Arc;

use crate::engine::commit::rejection::{
    CandidateRejection, KeyIndex, MAX_CULPRITS, naming_changes,
};
use crate::engine::commit::rules::Rules;
use crate::engine::commit::{Base, CommitState};
use crate::error::{Error, ErrorKind};
use crate::property::draft::Drafts;
use crate::property::registry::Seen;
use crate::property::stale::Stale;
use crate::schema::Schema;
use crate::sync::discard::discard;
use crate::sync::panics;
use crate::tree::diff::{self, LeafChange};
use crate::tree::interpolate::{self, LeafReferences};
use crate::tree::quoted::without_secrets;
use crate::tree::snapshot::{Generation, Snapshot};
use crate::value::key::Key;

impl CommitState {
    /// Decodes for the live handles under the changed keys. A handle whose value has an unresolved
    /// reference keeps its value: that is no reason to reject the update.
    pub(super) fn decode_for_handles(
        &self,
        candidate: &Arc<Generation>,
        changes: &[LeafChange],
        rejections: &mut Vec<CandidateRejection>,
    ) -> (Drafts, Vec<Stale>) {
        let mut drafts = Drafts::default();
        let mut stale = Vec::new();
        let mut seen = Seen::default();
        if self.registry.is_empty() {
            return (drafts, stale);
        }
        // Built for the first rejection, which most commits do not have.
        let mut index: Option<KeyIndex> = None;
        // Real changes first: a slot under both kinds has changed.
        for moved in [false, true] {
            for change in changes.iter().filter(|change| change.moved == moved) {
                for slot in self.registry.touched(change, &mut seen) {
                    let count = drafts.len();
                    let decoded = Arc::clone(&slot).add_drafts(candidate, None, moved, &mut drafts);
                    let Err(error) = decoded else {
                        continue;
                    };
                    drafts.truncate(count);
                    if error.is_unresolved() {
                        let key = slot.keys().into_iter().next().unwrap_or_else(Key::root);
                        stale.push(Stale::new(&slot, key, error));
                    } else {
                        let keys = changes.iter().map(|change| &change.key);
                        let index = index.get_or_insert_with(|| KeyIndex::new(keys));
                        rejections.push(CandidateRejection::of_slot(error, &slot.keys(), index));
                    }
                    // Without a draft this may be the last owner of the slot.
                    discard(slot);
                }
            }
        }
        (drafts, stale)
    }

    /// Checks the whole tree against the schema, and by the validators if nothing is wrong yet.
    pub(super) fn check_tree(
        &self,
        base: &Base<'_>,
        candidate: &Arc<Generation>,
        changes: &[LeafChange],
        changed_count: usize,
        rejections: &mut Vec<CandidateRejection>,
    ) {
        if let Some(schema) = &base.rules.schema {
            check_schema(schema, &base.old, candidate, changes, rejections);
        }
        if rejections.is_empty() && changed_count > 0 {
            validate(base.rules, &[candidate, &base.old], changes, rejections);
        }
    }

    /// Checks the tree of the next start, in which frozen keys have the values that wait for a restart. Checks
    /// nothing if no key waits with a new value.
    pub(super) fn check_next_start(
        &self,
        rules: &Rules,
        candidate: &Arc<Generation>,
        followed: &[LeafReferences],
    ) -> Vec<CandidateRejection> {
        if !self.frozen.has_new(&candidate.pending_restarts) {
            return Vec::new();
        }
        let mut root = candidate.root.clone();
        // What this commit refers to is not in the index yet.
        let leaves = followed.iter().filter(|one| !one.refers.is_empty());
        let mut referring: Vec<Key> = leaves.map(|one| one.leaf.clone()).collect();
        for (key, layered) in &*candidate.pending_restarts {
            let path: Vec<_> = key.segments().collect();
            root.remove_path(&path);
            if let Some(entry) = layered {
                // Fails below a value, which takes effect at the next start.
                let _ = root.put_path(&path, entry.node.clone());
                referring.extend(interpolate::referring(key, &entry.node));
            }
        }
        let diff = diff::diff(&candidate.root, &root, true);
        let mut changes = diff.changes;
        rules.follow(
            (&mut root, referring),
            &candidate.root,
            &self.references,
            &mut changes,
            Some(&*candidate.layers),
        );
        let next = Arc::new(Generation {
            fast_path_root: Generation::fast_path_root(&root, rules.usage.as_ref()),
            root,
            ..(**candidate).clone()
        });
        let mut rejections = Vec::new();
        // The drafts are not published.
        drop(self.decode_for_handles(&next, &changes, &mut rejections));
        if let Some(schema) = &rules.schema {
            let faults = schema.faults(&next, Some(&changes)).into_iter();
            let faults = faults.filter(|(error, _)| !error.is_unresolved());
            rejections
                .extend(faults.map(|(error, keys)| CandidateRejection::together(error, keys)));
        }
        if rejections.is_empty() {
            validate(rules, &[&next, candidate], &changes, &mut rejections);
        }
        rejections
    }
}

/// Adds the faults of keys that no handle has rejected already.
fn check_schema(
    schema: &Schema,
    old: &Generation,
    candidate: &Arc<Generation>,
    changes: &[LeafChange],
    rejections: &mut Vec<CandidateRejection>,
) {
    // At the start every key is checked: one that is missing is in no change.
    let changes = (!old.is_initial()).then_some(changes);
    let reported = rejections
        .iter()
        .map(|rejection| rejection.error.key_text());
    let reported: HashSet<Option<String>> = reported.map(|key| key.map(str::to_owned)).collect();
    for (error, keys) in schema.faults(candidate, changes) {
        // After the start, an unresolved reference rejects nothing: reading the key returns the error.
        let counts = old.is_initial() || !error.is_unresolved();
        if counts && !reported.contains(&error.key_text().map(str::to_owned)) {
            rejections.push(CandidateRejection::together(error, keys));
        }
    }
}

/// Runs the validators. Their messages show no secret of the candidate, nor of the generation that it
/// would replace.
fn validate(
    rules: &Rules,
    [candidate, old]: &[&Arc<Generation>; 2],
    changes: &[LeafChange],
    rejections: &mut Vec<CandidateRejection>,
) {
    let view = Snapshot(Arc::clone(candidate));
    let shown = |message: &str| without_secrets(message, &[candidate, old]);
    for validator in &rules.validators {
        let verdict = panics::catch(|| validator(&view));
        let error = match verdict {
            Ok(Ok(())) => continue,
            Ok(Err(reason)) => Error::new(ErrorKind::Rejected, shown(&reason)),
            Err(panic) => Error::from_panic("a validator", &shown(panic.message())),
        };
        let real = changes.iter().filter(|change| !change.moved);
        let keys = real.clone().take(MAX_CULPRITS);
        let keys = keys.map(|change| change.key.clone()).collect();
        rejections.push(CandidateRejection::together(
            naming_changes(error, real),
            keys,
        ));
    }
}
