//! Tries an update without publishing anything.

use std::sync::Arc;

use crate::engine::commit::bootstrap::{late_change_error, same_tables};
use crate::engine::commit::rules::Rules;
use crate::engine::commit::{Base, CommitState};
use crate::error::Error;
use crate::property::stale::Stale;
use crate::source::RejectionScope;
use crate::sync::Cell;
use crate::tree::layer::SourceId;
use crate::tree::snapshot::Generation;
use crate::value::document::Document;

/// The tree before an update and after it.
pub(crate) struct DryRun {
    pub(crate) before: Arc<Generation>,
    pub(crate) after: Arc<Generation>,
    /// The keys that would be rejected.
    pub(crate) rejected: Vec<Error>,
    /// The handles that would keep their last good values.
    pub(crate) stale: Vec<Stale>,
}

impl CommitState {
    /// Returns what the tree would be if a source sent this document.
    pub(crate) fn dry_run(
        &self,
        current: &Cell<Generation>,
        rules: &Rules,
        source: SourceId,
        mut document: Document,
        rejection_scope: RejectionScope,
    ) -> Result<DryRun, Error> {
        let base = Base::new(current, rules);
        let at = base.index_of(source)?;
        let layer = base.layer(at);
        document.keep_last_good(&layer.root);
        let missing_secrets = document.still_missing(&layer.missing_secrets);
        let (root, _) = document.into_parts();
        if layer.layer.is_bootstrap() {
            return if same_tables(&layer.root, &root) {
                Ok(DryRun {
                    before: Arc::clone(&base.old),
                    after: base.old,
                    rejected: Vec::new(),
                    stale: Vec::new(),
                })
            } else {
                Err(late_change_error(&layer.name))
            };
        }
        let passed = self.guards.dry_check(source, &layer.root, &root)?;
        let (root, withheld) = passed.in_scope(root, rejection_scope)?;
        let replaced =
            self.prepare_replacement(&base, at, (root, missing_secrets), rejection_scope)?;
        let mut rejected = replaced.rejected.errors;
        rejected.extend(withheld);
        Ok(DryRun {
            before: base.old,
            after: replaced.candidate.generation,
            rejected,
            stale: replaced.candidate.stale,
        })
    }
}
