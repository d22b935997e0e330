//! The rules of the builder for all commits.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::schema::Schema;
use crate::sync::discard::Contained;
use crate::tree::diff::LeafChange;
use crate::tree::interpolate::{self, Context, LeafReferences, ReferenceIndex};
use crate::tree::layer::{LayerState, count_bootstrap};
use crate::tree::merge::Layers;
use crate::tree::snapshot::Snapshot;
use crate::tree::usage::Usage;
use crate::value::key::Key;
use crate::value::node::Table;
use crate::value::secret::Secrets;

/// Returns why a candidate tree is rejected.
pub(crate) type TreeValidator =
    Contained<Box<dyn Fn(&Snapshot) -> Result<(), String> + Send + Sync>>;

/// The rules that a commit reads and never changes.
pub(crate) struct Rules {
    pub(crate) append: Arc<BTreeSet<Key>>,
    pub(crate) validators: Vec<TreeValidator>,
    pub(crate) secrets: Secrets,
    /// The keys that keep the value they have at the start.
    pub(crate) frozen: Vec<Key>,
    /// How many generations before the one in force are kept.
    pub(crate) history: usize,
    pub(crate) schema: Option<Schema>,
    /// Whether unresolved references stay as they are written.
    pub(crate) keeps_unresolved: bool,
    pub(crate) usage: Option<Arc<Usage>>,
}

impl Rules {
    /// Follows the references of a merged tree. `layers` are those that it is merged from.
    pub(in crate::engine) fn follow(
        &self,
        (merged, referring): (&mut Table, Vec<Key>),
        old: &Table,
        references: &ReferenceIndex,
        changes: &mut Vec<LeafChange>,
        layers: Option<&[Arc<LayerState>]>,
    ) -> Vec<LeafReferences> {
        if referring.is_empty() && references.is_empty() {
            return Vec::new();
        }
        let roots: Vec<&Table> = layers
            .into_iter()
            .flatten()
            .map(|layer| &layer.root)
            .collect();
        let layers = layers.map(|layers| Layers {
            roots: &roots,
            append: &self.append,
            bootstrap: count_bootstrap(layers),
        });
        self.with_context(layers, |context| {
            interpolate::follow(merged, old, references, referring, changes, context)
        })
    }

    /// Calls `f` with the context in which references are followed.
    pub(in crate::engine) fn with_context<R>(
        &self,
        layers: Option<Layers<'_>>,
        f: impl FnOnce(Context<'_>) -> R,
    ) -> R {
        f(Context {
            may_be_secret: &|key| self.secrets.hides(key),
            keeps_unresolved: self.keeps_unresolved,
            layers,
        })
    }
}
