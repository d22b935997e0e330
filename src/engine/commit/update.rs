//! Commits what a source sends.

use std::borrow::Cow;

use crate::engine::commit::bootstrap::{late_change_error, same_tables};
use crate::engine::commit::edit::{Editor, apply_edit, apply_edits};
use crate::engine::commit::removal_guard::UpdateKind;
use crate::engine::commit::{Base, CommitState, Committed};
use crate::error::{Error, ErrorKind};
use crate::source::{Edit, RejectionScope};
use crate::tree::diff;
use crate::tree::interpolate;
use crate::tree::layer::{MissingSecrets, SourceId, missing_secrets_hint};
use crate::value::document::Document;
use crate::value::node::Table;

impl CommitState {
    /// Replaces a layer by a document.
    pub(super) fn update_layer(
        &mut self,
        base: &Base<'_>,
        source: SourceId,
        mut document: Document,
        kind: UpdateKind,
        rejection_scope: RejectionScope,
    ) -> Result<Committed, Error> {
        let at = base.index_of_sender(source)?;
        let layer = base.layer(at);
        document.keep_last_good(&layer.root);
        let missing_secrets = document.still_missing(&layer.missing_secrets);
        let (root, mut problems) = document.into_parts();
        problems
            .hints
            .extend(missing_secrets_hint(&missing_secrets));
        if layer.layer.is_bootstrap() {
            return confirm_bootstrap(base, at, &root);
        }
        let passed = self.guards.check(source, &layer.root, &root, kind)?;
        let (root, withheld) = passed.in_scope(root, rejection_scope)?;
        let mut committed = self.replace(base, at, (root, missing_secrets), rejection_scope)?;
        match withheld {
            Some(reason) => committed.outcome.rejected.push(reason),
            None => self.end_withholding(base, source),
        }
        committed.problems = Some(problems);
        Ok(committed)
    }

    /// Changes a few keys of a layer.
    pub(super) fn update_keys(
        &mut self,
        base: &Base<'_>,
        source: SourceId,
        edits: Vec<Edit>,
        kind: UpdateKind,
        rejection_scope: RejectionScope,
    ) -> Result<Committed, Error> {
        let at = base.index_of_sender(source)?;
        let layer = base.layer(at);
        if layer.layer.is_bootstrap() {
            let mut root = layer.root.clone();
            apply_edits(&mut root, &edits)?;
            return confirm_bootstrap(base, at, &root);
        }
        if self.guards.is_guarded(source) {
            self.update_guarded_keys(base, at, edits, kind, rejection_scope)
        } else {
            self.edit(base, at, edits, Editor::Source(rejection_scope))
        }
    }

    /// Changes a few keys of a guarded layer. Where the removals are withheld, the other edits are
    /// committed all the same.
    fn update_guarded_keys(
        &mut self,
        base: &Base<'_>,
        at: usize,
        mut edits: Vec<Edit>,
        kind: UpdateKind,
        rejection_scope: RejectionScope,
    ) -> Result<Committed, Error> {
        let (source, current) = (base.layer(at).id, &base.layer(at).root);
        let was_withheld = self.guards.wanted_layer(source).is_some();
        let delta_base = self.guards.delta_base(source);
        let follows_current = delta_base.is_none();
        let candidate = apply_leniently(delta_base.unwrap_or(current).clone(), &edits);
        let passed = self.guards.check(source, current, &candidate, kind);
        match passed.and_then(|passed| passed.in_scope(candidate, rejection_scope)) {
            Ok((candidate, None)) => {
                let committed = if follows_current {
                    self.edit(base, at, edits, Editor::Source(rejection_scope))?
                } else {
                    self.replace(
                        base,
                        at,
                        (candidate, MissingSecrets::default()),
                        rejection_scope,
                    )?
                };
                if was_withheld {
                    self.end_withholding(base, source);
                }
                Ok(committed)
            }
            Ok((kept, Some(withheld))) => {
                let contents = (kept, MissingSecrets::default());
                let mut committed = self.replace(base, at, contents, rejection_scope)?;
                committed.outcome.rejected.push(withheld);
                Ok(committed)
            }
            Err(withheld) => {
                edits.retain(|edit| removes_nothing(current, edit));
                if edits.is_empty() {
                    return Err(withheld);
                }
                let mut committed = self.edit(base, at, edits, Editor::Source(rejection_scope))?;
                committed.outcome.rejected.push(withheld);
                Ok(committed)
            }
        }
    }

    /// Accepts the withheld update of a source.
    pub(super) fn accept_withheld(
        &mut self,
        base: &Base<'_>,
        source: SourceId,
    ) -> Result<Committed, Error> {
        let at = base.index_of(source)?;
        let Some(mut root) = self.guards.wanted_layer(source).cloned() else {
            let detail = format!("{source} has no withheld update to confirm");
            return Err(Error::new(ErrorKind::NotFound, detail));
        };
        if base.layer(at).layer.is_bootstrap() {
            base.rules.with_context(None, |context| {
                interpolate::fix(&mut root, &base.old.root, context);
            });
        }
        let committed = self.replace(
            base,
            at,
            (root, MissingSecrets::default()),
            RejectionScope::Whole,
        )?;
        self.end_withholding(base, source);
        Ok(committed)
    }

    /// Records that the layer of a source is what the source wants.
    pub(super) fn end_withholding(&mut self, base: &Base<'_>, source: SourceId) {
        if self.guards.is_guarded(source) {
            let now = base.current.full();
            if let Some(layer) = now.layers.iter().find(|layer| layer.id == source) {
                self.guards.record_accepted(source, &layer.root);
            }
        }
    }
}

/// Accepts an update of a bootstrap source that changes nothing, and rejects any other.
fn confirm_bootstrap(base: &Base<'_>, at: usize, root: &Table) -> Result<Committed, Error> {
    let layer = base.layer(at);
    if same_tables(&layer.root, root) {
        Ok(Committed::nothing(&base.old))
    } else {
        Err(late_change_error(&layer.name))
    }
}

/// The table after some edits. An edit that clashes is left out; the commit rejects it.
fn apply_leniently(mut table: Table, edits: &[Edit]) -> Table {
    for edit in edits {
        let path: Vec<Cow<'_, str>> = edit.key.segments().collect();
        let _ = apply_edit(&mut table, edit, &path);
    }
    table
}

/// Whether an edit removes no key of a table. Setting a value may remove keys: a small table may replace a
/// large one.
fn removes_nothing(table: &Table, edit: &Edit) -> bool {
    if edit.value.is_none() {
        return false;
    }
    let mut after = table.clone();
    // An edit that clashes is rejected later.
    let clashes = apply_edits(&mut after, std::slice::from_ref(edit)).is_err();
    clashes || diff::count_removed(table, &after) == 0
}
