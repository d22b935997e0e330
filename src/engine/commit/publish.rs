//! Makes a candidate current.

use std::sync::Arc;

use crate::engine::commit::candidate::Candidate;
use crate::engine::commit::rejected_parts::RejectedParts;
use crate::engine::commit::{Base, CommitState, Committed};
use crate::property::batch::Commit;
use crate::property::listen::Listener;
use crate::property::subscription::Subscriber;
use crate::source::CommitOutcome;
use crate::sync::discard::{Publishing, discard};
use crate::tree::diff::LeafChange;
use crate::tree::snapshot::{Generation, Snapshot};

impl CommitState {
    /// Makes a candidate current and collects the listeners to notify. Cannot fail.
    pub(super) fn publish(
        &mut self,
        base: &Base<'_>,
        candidate: Candidate,
        rejected: RejectedParts,
    ) -> Committed {
        let Candidate {
            generation,
            changes,
            changed_count,
            mut drafts,
            references,
            stale,
            overlay,
            findings,
        } = candidate;
        for followed in references {
            self.references.set(followed);
        }
        let mut listeners: Vec<Arc<dyn Listener>> = Vec::new();
        // No user code runs before this guard is dropped, so no panic can interrupt the publication.
        let publishing = Publishing::begin();
        drafts.publish();
        // Readers see the number of a generation only after all its values.
        let old = base.current.full();
        base.current.store(Arc::clone(&generation));
        if changed_count > 0 {
            self.pins.keep(&old, base.rules.history);
        }
        self.retired.add(old);
        let overlay = overlay.filter(|overlay| self.frozen.set_overlay(overlay));
        drafts.collect_listeners(&mut listeners);
        if changed_count > 0 {
            self.fill_mailboxes(&generation, changes, &mut listeners);
        }
        let versions = drafts.retire();
        let ignored_items = self.ignored_items.update(&findings, &generation.layers);
        drop(publishing);
        let stale = self.stale.commit(&drafts, stale);
        Committed {
            outcome: CommitOutcome {
                generation: generation.number(),
                changed: changed_count,
                rejected: rejected.errors,
                kept: rejected.keys,
            },
            problems: None,
            clashes: findings.clashes,
            ignored_items,
            pending_restarts: overlay.map(|overlay| (generation, overlay.pending_restarts)),
            stale,
            listeners,
            versions,
        }
    }

    /// Gives a commit to the subscribers of whole commits.
    fn fill_mailboxes(
        &mut self,
        generation: &Arc<Generation>,
        changes: Vec<LeafChange>,
        listeners: &mut Vec<Arc<dyn Listener>>,
    ) {
        let mailboxes = self.registry.mailboxes();
        if mailboxes.is_empty() {
            return;
        }
        let snapshot = Snapshot(Arc::clone(generation));
        let commit = Arc::new(Commit { snapshot, changes });
        for mailbox in &mailboxes {
            if mailbox.put(&commit) {
                let subscriber: Arc<dyn Listener> = Arc::<Subscriber>::clone(&mailbox.subscriber);
                listeners.push(subscriber);
            }
        }
        // This may be the last owner of some.
        discard(mailboxes);
    }
}
