//! What stays as it is whatever the layers say: a tree that was rolled back to, and keys that only
//! the start of the program sets.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::error::{Error, ErrorKind};
use crate::tree::diff;
use crate::tree::layer::LayerState;
use crate::tree::merge::Merge;
use crate::tree::snapshot::{Generation, Pinned};
use crate::value::key::{Key, push_segment};
use crate::value::map::Entry;
use crate::value::node::{Node, Table};

/// The rank of layers that only the start of the program sets: stronger than any other.
pub(crate) const BOOTSTRAP_RANK: i32 = i32::MIN;
/// The rank of what a program has by default: weaker than any other.
pub(crate) const DEFAULT_RANK: i32 = i32::MAX;

/// What stays as it is.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    /// The generations before the one in force, the oldest first.
    past: VecDeque<Arc<Generation>>,
    /// What was rolled back to.
    tree: Option<Pin>,
    frozen: Vec<Frozen>,
    /// What the keys that need a restart would be after it.
    waiting: Waiting,
}

/// A tree that stays in force whatever the layers say.
#[derive(Clone, Debug)]
pub(crate) struct Pin {
    pub(crate) pinned: Pinned,
    pub(crate) tree: Table,
    /// What is not in the tree and is what the layers say; only of an earlier run.
    pub(crate) secrets: Vec<Key>,
}

impl Pin {
    /// The tree that is in force, with the keys of it whose references are to be followed.
    ///
    /// References of a tree of this run were followed when it was in force. Over one of an earlier
    /// run stands what this start has set, and beneath it what this program has by default.
    pub(crate) fn over(
        &self,
        merged: &Table,
        layers: &[Arc<LayerState>],
        append: &BTreeSet<Key>,
    ) -> (Table, Vec<Key>) {
        if !self.pinned.by_earlier_run {
            return (self.tree.clone(), Vec::new());
        }
        let mut tree = self.tree.clone();
        for key in &self.secrets {
            let path: Vec<_> = key.segments().collect();
            if let Some(entry) = merged.find(&path) {
                // In vain below a value: then there is no such key in this tree.
                let _ = tree.put_path(&path, entry.node.clone());
            }
        }
        let of_rank = |rank: i32| {
            let layers = layers
                .iter()
                .filter(move |layer| layer.layer.rank() == rank);
            layers.map(|layer| &layer.root)
        };
        let over = of_rank(BOOTSTRAP_RANK).chain([&tree]);
        let all: Vec<&Table> = over.chain(of_rank(DEFAULT_RANK)).collect();
        let mut merge = Merge::new(append);
        let tree = merge.all(&all);
        (tree, merge.referring)
    }
}

/// Keys with what stands there in the layers; nothing if it is gone.
pub(crate) type Waiting = BTreeMap<Key, Option<Arc<Entry>>>;

/// A key that keeps the value it had at the start.
#[derive(Debug)]
struct Frozen {
    key: Key,
    path: Vec<String>,
    /// What stood there as it was written, and as it read.
    raw: Option<Node>,
    node: Option<Node>,
}

impl Pins {
    /// Keeps a generation that is replaced, and forgets those over the limit.
    pub(crate) fn keep(&mut self, replaced: &Arc<Generation>, most: usize) {
        if most == 0 || replaced.number() == 0 {
            return;
        }
        self.past.push_back(Arc::clone(replaced));
        while self.past.len() > most {
            self.past.pop_front();
        }
    }

    /// The generations before the one in force, the oldest first.
    pub(crate) fn past(&self) -> impl Iterator<Item = &Arc<Generation>> {
        self.past.iter()
    }

    /// Whether the history keeps a generation.
    pub(crate) fn keeps(&self, generation: &Arc<Generation>) -> bool {
        let number = generation.number();
        self.past
            .binary_search_by_key(&number, |past| past.number())
            .is_ok()
    }

    /// What is pinned.
    pub(crate) fn tree(&self) -> Option<&Pin> {
        self.tree.as_ref()
    }

    /// Pins a tree, or none; hands back what was pinned before.
    pub(crate) fn pin(&mut self, tree: Option<Pin>) -> Option<Pin> {
        std::mem::replace(&mut self.tree, tree)
    }

    /// Has keys keep what they are now.
    pub(crate) fn freeze(&mut self, keys: &[Key], now: &Generation) {
        self.frozen = keys
            .iter()
            .filter_map(|key| {
                let path: Vec<String> = key.segments().map(|name| name.into_owned()).collect();
                let node = now.root.find(&path).map(|entry| entry.node.clone());
                // What cannot be read is not worth keeping.
                if matches!(&node, Some(Node::Resolved(resolved)) if resolved.value.is_err()) {
                    return None;
                }
                Some(Frozen {
                    key: key.clone(),
                    path,
                    raw: node.as_ref().map(Node::raw),
                    node: node.as_ref().map(Node::fixed),
                })
            })
            .collect();
    }

    /// Puts what the layers say in place of what is frozen, so that a change can be merged into it;
    /// `false` if that cannot be told from the merged tree, and it is to be merged anew.
    #[must_use]
    pub(crate) fn release(&self, merged: &mut Table, layers: &[Arc<LayerState>]) -> bool {
        for frozen in &self.frozen {
            // A value further up had to give way.
            let displaced =
                |layer: &Arc<LayerState>| leaf_above(&layer.root, &frozen.path).is_some();
            let gone = matches!(self.waiting.get(&frozen.key), Some(None));
            if gone && layers.iter().any(displaced) {
                return false;
            }
            let says = match (self.waiting.get(&frozen.key), &frozen.raw) {
                (Some(says), _) => says.as_ref().map(|entry| entry.node.clone()),
                (None, Some(raw)) if raw.special() => Some(raw.clone()),
                // It is what is frozen.
                (None, _) => continue,
            };
            merged.remove_path(&frozen.path);
            if let Some(node) = says {
                let _ = merged.put_path(&frozen.path, node);
            }
        }
        true
    }

    /// Puts what is frozen in place of what the layers say; says which keys wait for a restart then.
    ///
    /// All of them, whatever changed: a merged tree may be that of a layer, and hold none of it.
    pub(crate) fn hold(&self, merged: &mut Table) -> Option<Waiting> {
        let mut waiting = None;
        for frozen in &self.frozen {
            let says = merged.find(&frozen.path).cloned();
            let same = match (&says, &frozen.raw) {
                (None, None) => true,
                (Some(now), Some(raw)) => alike(&now.node, raw),
                _ => false,
            };
            let waiting = waiting.get_or_insert_with(|| self.waiting.clone());
            if same {
                waiting.remove(&frozen.key);
            } else {
                waiting.insert(frozen.key.clone(), says);
            }
            let refers = matches!(&frozen.raw, Some(raw) if raw.special());
            if !same || refers {
                merged.remove_path(&frozen.path);
                if let Some(node) = &frozen.node {
                    // A value that stands further up by now has to wait as well.
                    if let Some(above) = leaf_above(merged, &frozen.path) {
                        merged.remove_path(&frozen.path[..above]);
                    }
                    let _ = merged.put_path(&frozen.path, node.clone());
                }
            }
        }
        waiting
    }

    /// The keys that did not wait for a restart before, or for another value.
    pub(crate) fn news<'w>(
        &self,
        waiting: &'w Waiting,
    ) -> impl Iterator<Item = (&'w Key, Option<&'w Arc<Entry>>)> {
        let known = |(key, says): &(&Key, &Option<Arc<Entry>>)| {
            let before = self.waiting.get(*key);
            before.is_some_and(|before| same_entry(before, says))
        };
        let news = waiting.iter().filter(move |news| !known(news));
        news.map(|(key, says)| (key, says.as_ref()))
    }

    /// The keys wait for a restart from now on; says whether they did not before.
    pub(crate) fn wait(&mut self, waiting: &Waiting) -> bool {
        let same = self.waiting.len() == waiting.len() && self.news(waiting).next().is_none();
        self.waiting.clone_from(waiting);
        !same
    }
}

/// How long the part of a path is at which a value stands that leaves no room for the rest.
fn leaf_above(table: &Table, path: &[String]) -> Option<usize> {
    let above = 1..path.len();
    above.into_iter().find(|length| {
        let entry = table.find(&path[..*length]);
        entry.is_some_and(|entry| entry.node.table().is_none())
    })
}

fn same_entry(a: &Option<Arc<Entry>>, b: &Option<Arc<Entry>>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => alike(&a.node, &b.node),
        _ => false,
    }
}

/// Whether two nodes read the same.
fn alike(a: &Node, b: &Node) -> bool {
    match (a, b) {
        (Node::Table(a), Node::Table(b)) => {
            let diff = diff::diff(a, b, false);
            diff.uncounted == 0 && a.leaves() == b.leaves()
        }
        _ => diff::same(a, b),
    }
}

/// Why what a layer says is not in force: only the start of the program sets those keys.
pub(crate) fn ignored(layers: &[Arc<LayerState>], at: usize, only: Option<&[&Key]>) -> Vec<Error> {
    let mut errors = Vec::new();
    let said = &layers[at];
    if said.layer.rank() == BOOTSTRAP_RANK {
        return errors;
    }
    let set_at_start = layers
        .iter()
        .filter(|layer| layer.layer.rank() == BOOTSTRAP_RANK);
    for bootstrap in set_at_start {
        let mut compare = |key: &str, entry: &Arc<Entry>| {
            let Ok(key) = Key::parse(key) else { return };
            let Some(there) = said.root.find(key.segments()) else {
                return;
            };
            if alike(&there.node, &entry.node) {
                return;
            }
            let detail = format!(
                "is ignored: {} has set it at the start, and only a start sets it",
                bootstrap.name
            );
            let error = Error::new(ErrorKind::Refused, detail).with_key(&key);
            errors.push(match there.node.origin() {
                Some(origin) => error.with_origin(origin),
                None => error,
            });
        };
        match only {
            None => bootstrap.root.walk(&mut String::new(), &mut compare),
            Some(keys) => keys
                .iter()
                .for_each(|key| at_and_below(&bootstrap.root, key, &mut compare)),
        }
    }
    errors
}

/// The leaves of a table at a key, below it, or where its way ends.
fn at_and_below(table: &Table, key: &Key, f: &mut dyn FnMut(&str, &Arc<Entry>)) {
    let mut table = table;
    let mut path = String::new();
    for segment in key.segments() {
        let Some(entry) = table.get(&segment) else {
            return;
        };
        push_segment(&mut path, &segment);
        match entry.node.table() {
            Some(below) if !below.is_empty() => table = below,
            _ => return f(&path, entry),
        }
    }
    table.walk(&mut path, &mut |key, entry| f(key, entry));
}
