//! The generations that a program can roll back to, and the one that it has rolled back to.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use crate::engine::commit::bootstrap::path_of_leaf_above;
use crate::tree::layer::{DEFAULTS_RANK, LayerState, count_bootstrap};
use crate::tree::merge::Merge;
use crate::tree::snapshot::{Generation, Pinned};
use crate::value::key::Key;
use crate::value::node::Table;

/// The history, and the pinned tree.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    /// The generations before the one in force, the oldest first.
    past: VecDeque<Arc<Generation>>,
    pin: Option<Pin>,
}

/// A tree that stays in force whatever the layers contain.
#[derive(Clone, Debug)]
pub(crate) struct Pin {
    pub(crate) pinned: Pinned,
    pub(crate) tree: Table,
    /// The keys whose values the tree lacks and the layers give; only of an earlier run.
    pub(crate) missing_secrets: Vec<Key>,
    /// The defaults of the earlier run that a layer hid; empty for a tree of this run.
    pub(crate) hidden_defaults: Vec<Key>,
}

impl Pin {
    /// The tree that is in force, with the keys of it whose references are to be followed.
    ///
    /// References of a tree of this run were followed when it was in force. The bootstrap values of this
    /// start override a tree of an earlier run, and that tree overrides the new defaults. Lists replace each
    /// other here, since the lists in the tree are joined already.
    pub(crate) fn tree_in_force(
        &self,
        merged: &Table,
        layers: &[Arc<LayerState>],
        append: &BTreeSet<Key>,
    ) -> (Table, Vec<Key>) {
        if !self.pinned.by_earlier_run {
            return (self.tree.clone(), Vec::new());
        }
        let mut tree = self.tree.clone();
        for key in &self.missing_secrets {
            let path: Vec<_> = key.segments().collect();
            if let Some(entry) = merged.find(&path) {
                // Fails below a value: then the tree cannot have this key.
                let _ = tree.put_path(&path, entry.node.clone());
            }
        }
        let bootstrap = count_bootstrap(layers);
        let bootstrap_roots: Vec<&Table> = layers[..bootstrap]
            .iter()
            .map(|state| &state.root)
            .collect();
        let bootstrap_values = Merge::new(append, bootstrap).merge_all(&bootstrap_roots);
        let mut all = vec![bootstrap_values, tree];
        all.extend(self.visible_defaults(layers));
        let no_append = BTreeSet::new();
        // The bootstrap layers are one table here.
        let mut merge = Merge::new(&no_append, usize::from(bootstrap > 0));
        let tree = merge.merge_all(&all.iter().collect::<Vec<_>>());
        (tree, merge.referring)
    }

    /// The defaults of this program without those that were hidden in the earlier run.
    fn visible_defaults(&self, layers: &[Arc<LayerState>]) -> Option<Table> {
        let mut defaults = defaults(layers)?.clone();
        for key in &self.hidden_defaults {
            let path: Vec<_> = key.segments().collect();
            defaults.remove_path(&path);
        }
        Some(defaults)
    }
}

/// The layer of the defaults.
fn defaults(layers: &[Arc<LayerState>]) -> Option<&Table> {
    let last = layers.last()?;
    (last.layer.rank() == DEFAULTS_RANK).then_some(&last.root)
}

/// The defaults that are not in a tree because a layer hid them.
///
/// A value below which the tree has a table is one of them: if it is a list, indexes in that table would
/// override its items.
pub(crate) fn hidden_defaults(tree: &Table, layers: &[Arc<LayerState>]) -> Vec<Key> {
    let mut hidden = Vec::new();
    let Some(defaults) = defaults(layers) else {
        return hidden;
    };
    defaults.walk(&mut String::new(), &mut |key, default| {
        let Ok(key) = Key::parse(key) else { return };
        let path: Vec<_> = key.segments().collect();
        let is_hidden = match tree.find(&path) {
            Some(entry) => entry.node.table().is_some() && default.node.table().is_none(),
            None => path_of_leaf_above(tree, &path).is_none(),
        };
        if is_hidden {
            hidden.push(key);
        }
    });
    hidden
}

impl Pins {
    /// Keeps a generation that is replaced, and removes those over the limit.
    pub(crate) fn keep(&mut self, replaced: &Arc<Generation>, limit: usize) {
        if limit == 0 || replaced.is_initial() {
            return;
        }
        self.past.push_back(Arc::clone(replaced));
        while self.past.len() > limit {
            self.past.pop_front();
        }
    }

    /// The generations before the one in force, the oldest first.
    pub(crate) fn past(&self) -> impl Iterator<Item = &Arc<Generation>> {
        self.past.iter()
    }

    /// Whether the history keeps a generation.
    pub(crate) fn has_kept(&self, generation: &Arc<Generation>) -> bool {
        let number = generation.number();
        self.past
            .binary_search_by_key(&number, |past| past.number())
            .is_ok()
    }

    /// The pinned tree.
    pub(crate) fn pin(&self) -> Option<&Pin> {
        self.pin.as_ref()
    }

    /// Pins a tree, or none. Returns the pin before.
    pub(crate) fn set_pin(&mut self, pin: Option<Pin>) -> Option<Pin> {
        std::mem::replace(&mut self.pin, pin)
    }
}
