//! Changes a few keys of a layer, without the edits that are rejected.

use std::borrow::Cow;
use std::sync::Arc;

use crate::engine::commit::candidate::MergedLayers;
use crate::engine::commit::rejected_parts::{RejectedParts, scopes};
use crate::engine::commit::rejection::{CandidateRejection, KeyIndex, Scope};
use crate::engine::commit::{Base, CommitState, Committed, bootstrap};
use crate::error::{Error, ErrorKind};
use crate::source::{Edit, RejectionScope};
use crate::tree::layer::{MissingSecrets, count_bootstrap};
use crate::tree::merge::{Findings, Merge};
use crate::value::document::clash_error;
use crate::value::key::Key;
use crate::value::node::{Node, Table};
use crate::value::origin::Origin;

/// Who changes a few keys of a layer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Editor {
    Source(RejectionScope),
    /// The program itself, which gets an error at once if an edit has no effect.
    Program,
}

impl Editor {
    fn rejection_scope(self) -> RejectionScope {
        match self {
            Editor::Source(rejection_scope) => rejection_scope,
            Editor::Program => RejectionScope::Whole,
        }
    }
}

/// The layers after some edits, and the tree that they merge to.
struct Edited {
    /// The root of the layer that is edited.
    root: Table,
    tree: Table,
    referring: Vec<Key>,
    findings: Findings,
    /// Whether the tree differs from the one before at and below the edited keys only.
    is_local: bool,
    /// The edits that clash with a value or a table, by their index.
    clashing: Vec<(usize, Error)>,
}

impl Edited {
    /// The layers with the edited one. `keys` are the edited keys.
    fn into_merged_layers<'k>(
        self,
        base: &Base<'_>,
        at: usize,
        keys: &'k [&'k Key],
    ) -> MergedLayers<'k> {
        let mut layers = base.old.layers.clone();
        let layer = Arc::make_mut(&mut layers[at]);
        if layer.restored.is_some() {
            layer.missing_secrets = MissingSecrets::default();
        }
        (layer.root, layer.restored) = (self.root, None);
        let changed_keys = self.is_local.then_some(keys);
        let mut findings = self.findings;
        let ignored = bootstrap::ignored_values(&layers, at, changed_keys);
        findings.clashes.extend(ignored);
        MergedLayers {
            layers,
            changed_layer: Some(at),
            tree: self.tree,
            referring: self.referring,
            changed_keys,
            findings,
        }
    }
}

/// The edits of an update that are rejected so far.
#[derive(Default)]
struct RejectedEdits {
    errors: Vec<Error>,
    keys: Vec<(Key, Option<Origin>)>,
}

impl CommitState {
    /// Changes a few keys of a layer. It tries again without the edits that are rejected, until the rest is
    /// accepted.
    pub(super) fn edit(
        &mut self,
        base: &Base<'_>,
        at: usize,
        mut edits: Vec<Edit>,
        editor: Editor,
    ) -> Result<Committed, Error> {
        let mut rejected = RejectedEdits::default();
        for round in 0.. {
            let edited = self.merge_edits(base, at, &edits);
            if !edited.clashing.is_empty() {
                rejected.move_clashing(&mut edits, edited.clashing, editor)?;
                continue;
            }
            if editor == Editor::Program {
                reject_ignored_items(&edited.findings, at, &edits)?;
            }
            let keys: Vec<&Key> = edits.iter().map(|edit| &edit.key).collect();
            let merged = edited.into_merged_layers(base, at, &keys);
            match self.build_candidate(base, merged) {
                Ok(candidate) => return Ok(self.publish(base, candidate, rejected.into_parts())),
                Err(rejections) => {
                    if editor.rejection_scope() == RejectionScope::Whole
                        || !self.move_culprits(&mut edits, &rejections, round, &mut rejected)
                    {
                        return Err(CandidateRejection::all(rejections));
                    }
                    let errors = rejections.into_iter().map(|rejection| rejection.error);
                    rejected.errors.extend(errors);
                }
            }
            if edits.is_empty() {
                break;
            }
        }
        // Nothing is left to commit: the sender gets the reasons.
        Err(Error::all(rejected.into_parts().errors))
    }

    /// Applies edits to a layer and merges the keys that they change.
    fn merge_edits(&self, base: &Base<'_>, at: usize, edits: &[Edit]) -> Edited {
        let layers = &base.old.layers;
        let mut roots: Vec<Table> = layers.iter().map(|layer| layer.root.clone()).collect();
        let mut tree = base.old.root.clone();
        // A pinned tree is not that of the layers.
        let mut is_local = self.pins.pin().is_none() && self.frozen.remove_from(&mut tree);
        let mut merge = Merge::new(&base.rules.append, count_bootstrap(layers));
        let mut clashing = Vec::new();
        for (i, edit) in edits.iter().enumerate() {
            let path: Vec<Cow<'_, str>> = edit.key.segments().collect();
            let mut after = roots[at].clone();
            if let Err(error) = apply_edit(&mut after, edit, &path) {
                clashing.push((i, error));
                continue;
            }
            is_local &= !path.is_empty();
            let before = std::mem::replace(&mut roots[at], after);
            if is_local {
                let now: Vec<&Table> = roots.iter().collect();
                let mut was = now.clone();
                was[at] = &before;
                merge.merge_path(&mut tree, &was, &now, at, &path);
            }
        }
        if !is_local {
            tree = merge.merge_all(&roots.iter().collect::<Vec<_>>());
        }
        Edited {
            root: roots.swap_remove(at),
            tree,
            referring: merge.referring,
            findings: merge.findings,
            is_local,
            clashing,
        }
    }

    /// Moves the edits that led to the rejections to the rejected ones: those that the first scope with any
    /// selects. Returns whether a scope has selected some.
    fn move_culprits(
        &self,
        edits: &mut Vec<Edit>,
        rejections: &[CandidateRejection],
        round: usize,
        rejected: &mut RejectedEdits,
    ) -> bool {
        let before = edits.len();
        for scope in scopes(round) {
            let culprits = self.culprits_among(edits, rejections, *scope);
            let culprits = KeyIndex::new(culprits.iter());
            edits.retain(|edit| {
                let stays = !culprits.has_related(edit.key.as_str());
                if !stays {
                    let origin = edit.value.as_ref().map(|(_, origin)| origin.clone());
                    rejected.keys.push((edit.key.clone(), origin));
                }
                stays
            });
            if edits.len() < before {
                return true;
            }
        }
        false
    }

    /// The keys of the edits that led to the rejections.
    fn culprits_among(
        &self,
        edits: &[Edit],
        rejections: &[CandidateRejection],
        scope: Scope,
    ) -> Vec<Key> {
        let edited = KeyIndex::new(edits.iter().map(|edit| &edit.key));
        let culprits = self.culprits(rejections, scope, |key| {
            let is_edited = edited.has_related(key.as_str());
            is_edited.then(|| key.as_str().to_owned())
        });
        let culprits = culprits.iter();
        culprits.filter_map(|key| Key::parse(key).ok()).collect()
    }
}

impl RejectedEdits {
    fn into_parts(self) -> RejectedParts {
        RejectedParts::new(self.errors, self.keys)
    }

    /// Moves the edits that clash to these, or rejects the update as a whole.
    fn move_clashing(
        &mut self,
        edits: &mut Vec<Edit>,
        clashing: Vec<(usize, Error)>,
        editor: Editor,
    ) -> Result<(), Error> {
        let (indexes, errors): (Vec<usize>, Vec<Error>) = clashing.into_iter().unzip();
        if editor.rejection_scope() == RejectionScope::Whole {
            return Err(Error::all(errors));
        }
        self.errors.extend(errors);
        let mut i = 0;
        edits.retain(|edit| {
            let stays = indexes.binary_search(&i).is_err();
            if !stays {
                self.keys.push((edit.key.clone(), None));
            }
            i += 1;
            stays
        });
        Ok(())
    }
}

/// Rejects edits of list items whose indexes follow a gap.
fn reject_ignored_items(findings: &Findings, at: usize, edits: &[Edit]) -> Result<(), Error> {
    let edited = KeyIndex::new(edits.iter().map(|edit| &edit.key));
    let own = findings.ignored.iter().filter(|item| item.layer == at);
    let own = own.filter(|item| edited.has_related(item.key.as_str()));
    let errors: Vec<Error> = own.map(|item| item.error.clone()).collect();
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Error::all(errors))
    }
}

/// Makes edits in a table, until one clashes.
pub(super) fn apply_edits(table: &mut Table, edits: &[Edit]) -> Result<(), Error> {
    for edit in edits {
        let path: Vec<Cow<'_, str>> = edit.key.segments().collect();
        apply_edit(table, edit, &path)?;
    }
    Ok(())
}

/// Makes one edit in a table, or changes nothing if it clashes.
pub(super) fn apply_edit(
    table: &mut Table,
    edit: &Edit,
    path: &[Cow<'_, str>],
) -> Result<(), Error> {
    let Some((value, origin)) = &edit.value else {
        if path.is_empty() {
            *table = Table::default();
        } else {
            table.remove_path(path);
        }
        return Ok(());
    };
    if path.is_empty() {
        let detail = "the root cannot have a value; set the keys below it";
        return Err(Error::new(ErrorKind::InvalidKey, detail).with_origin(origin));
    }
    let fits = value.check(path.len());
    fits.map_err(|error| error.with_key(&edit.key).with_origin(origin))?;
    table
        .put_path(path, Node::of(value.clone(), origin))
        .map(drop)
        .map_err(|_| clash_error(table, &edit.key, path, origin))
}
