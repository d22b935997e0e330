//! What stays as it is whatever the layers say: a tree that was rolled back to, and keys that only
//! the start of the program sets.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::engine::commit::candidate::Rules;
use crate::error::{Error, ErrorKind};
use crate::tree::diff;
use crate::tree::interpolate::{self, References};
use crate::tree::layer::{LayerState, count_bootstrap};
use crate::tree::merge::Merge;
use crate::tree::snapshot::{Found, Generation, Pending, Pinned};
use crate::value::Value;
use crate::value::hamt::Entry;
use crate::value::key::{Key, push_segment};
use crate::value::node::{Leaf, Node, Resolved, Table};
use crate::value::origin::Origin;

pub(crate) use crate::tree::layer::{BOOTSTRAP_RANK, DEFAULT_RANK};

/// What stays as it is.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    /// The generations before the one in force, the oldest first.
    past: VecDeque<Arc<Generation>>,
    /// What was rolled back to.
    tree: Option<Pin>,
    frozen: Vec<Frozen>,
    /// Where the layers differ from what is frozen.
    waiting: Waiting,
}

/// A tree that stays in force whatever the layers say.
#[derive(Clone, Debug)]
pub(crate) struct Pin {
    pub(crate) pinned: Pinned,
    pub(crate) tree: Table,
    /// What is not in the tree and is what the layers say; only of an earlier run.
    pub(crate) secrets: Vec<Key>,
    /// The defaults of the earlier run that a layer hid; empty for a tree of this run.
    pub(crate) hidden: Vec<Key>,
}

impl Pin {
    /// The tree that is in force, with the keys of it whose references are to be followed.
    ///
    /// References of a tree of this run were followed when it was in force. Over a tree of an earlier
    /// run stand the bootstrap values of this start. Beneath it stand the defaults that are new.
    /// Nothing is joined: the lists in the tree are joined already.
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
        let bootstrap = count_bootstrap(layers);
        let fixed: Vec<&Table> = layers[..bootstrap]
            .iter()
            .map(|state| &state.root)
            .collect();
        let fixed = Merge::new(append, bootstrap).all(&fixed);
        let mut all = vec![fixed, tree];
        all.extend(self.visible_defaults(layers));
        let nothing = BTreeSet::new();
        // One table has all that is of bootstrap layers.
        let mut merge = Merge::new(&nothing, usize::from(bootstrap > 0));
        let tree = merge.all(&all.iter().collect::<Vec<_>>());
        (tree, merge.referring)
    }

    /// The defaults of this program without those that were hidden in the earlier run.
    fn visible_defaults(&self, layers: &[Arc<LayerState>]) -> Option<Table> {
        let mut defaults = defaults(layers)?.clone();
        for key in &self.hidden {
            let path: Vec<_> = key.segments().collect();
            defaults.remove_path(&path);
        }
        Some(defaults)
    }
}

/// What the program has by default.
fn defaults(layers: &[Arc<LayerState>]) -> Option<&Table> {
    let last = layers.last()?;
    (last.layer.rank() == DEFAULT_RANK).then_some(&last.root)
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
            Some(there) => there.node.table().is_some() && default.node.table().is_none(),
            None => leaf_above(tree, &path).is_none(),
        };
        if is_hidden {
            hidden.push(key);
        }
    });
    hidden
}

/// Resolves the references of bootstrap layers for good, by the tree that these layers make.
pub(crate) fn fix_bootstrap(
    rules: &Rules,
    layers: &mut [Arc<LayerState>],
    mut merged: Table,
    mut referring: Vec<Key>,
    pin: Option<&Pin>,
) -> bool {
    let bootstrap = count_bootstrap(layers);
    let refers = |state: &Arc<LayerState>| state.root.special();
    if !layers[..bootstrap].iter().any(refers) {
        return false;
    }
    if let Some(pin) = pin {
        (merged, referring) = pin.over(&merged, layers, &rules.append);
    }
    rules.follow(
        (&mut merged, referring),
        &Table::default(),
        &References::default(),
        &mut Vec::new(),
        pin.is_none().then_some(&*layers),
    );
    for state in &mut layers[..bootstrap] {
        let root = &mut Arc::make_mut(state).root;
        rules.with_context(None, |context| interpolate::fix(root, &merged, context));
    }
    true
}

/// Where the layers differ from what is frozen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waiting {
    /// The frozen keys for which the merged layers have another node than the one in force.
    behind: BTreeMap<Key, Behind>,
    /// Of these, the keys whose value a restart changes.
    pub(crate) pending: Arc<Pending>,
}

/// The node of the merged layers at a frozen key.
#[derive(Clone, Debug)]
struct Behind {
    layered: Option<Arc<Entry>>,
    /// Whether a value that stands further up had to give way.
    displaced: bool,
}

/// A key that keeps the value it had at the start.
#[derive(Debug)]
struct Frozen {
    key: Key,
    path: Vec<String>,
    /// The node at the start, its references resolved for good; `None` if the key was absent.
    node: Option<Node>,
}

impl Frozen {
    /// Freezes a key; `None` if its reference is broken, since it has no value to keep.
    fn of(key: Key, now: &Generation) -> Option<Self> {
        let path: Vec<String> = key.segments().map(|name| name.into_owned()).collect();
        let node = now.root.find(&path).map(|entry| entry.node.clone());
        if matches!(&node, Some(Node::Resolved(resolved)) if resolved.value.is_err()) {
            return None;
        }
        Some(Self {
            key,
            path,
            node: node.as_ref().map(Node::fixed),
        })
    }

    /// Replaces the node of the merged layers by the frozen one. Returns the replaced node, if they
    /// differ, and whether a restart changes the value.
    fn hold(&self, merged: &mut Table) -> Option<(Behind, bool)> {
        let layered = merged.find(&self.path).cloned();
        let (node, is_pending) = match (&self.node, &layered) {
            (None, None) => return self.keep_absent(merged),
            (None, Some(_)) => (None, true),
            (Some(frozen), layered) => {
                let mut is_pending = false;
                let layered = layered.as_ref().map(|entry| &entry.node);
                let node = instead(frozen, layered, &mut is_pending)?;
                (Some(node), is_pending)
            }
        };
        merged.remove_path(&self.path);
        let mut displaced = false;
        if let Some(node) = node {
            // A value that stands further up by now has to wait as well.
            if let Some(above) = leaf_above(merged, &self.path) {
                merged.remove_path(&self.path[..above]);
                displaced = true;
            }
            let _ = merged.put_path(&self.path, node);
        }
        Some((Behind { layered, displaced }, is_pending))
    }

    /// Removes a list that contains the key, which is absent at the start.
    fn keep_absent(&self, merged: &mut Table) -> Option<(Behind, bool)> {
        let Ok(Found::Inside(value, entry)) = Found::in_tree(merged, self.key.as_str()) else {
            return None;
        };
        let origin = entry.node.origin()?.clone();
        let layered = Entry {
            name: entry.name.clone(),
            node: Node::Leaf(Leaf::new(value.clone(), origin)),
        };
        let above = leaf_above(merged, &self.path)?;
        merged.remove_path(&self.path[..above]);
        let behind = Behind {
            layered: Some(Arc::new(layered)),
            displaced: true,
        };
        Some((behind, true))
    }
}

/// Returns the node that replaces the one of the merged layers; `None` if they are the same.
///
/// A leaf that the layers write as at the start keeps the layers' present origin.
fn instead(frozen: &Node, layered: Option<&Node>, is_pending: &mut bool) -> Option<Node> {
    match (frozen, layered) {
        (Node::Table(frozen), Some(Node::Table(layered))) => {
            table_instead(frozen, layered, is_pending)
        }
        (Node::Resolved(frozen), Some(Node::Leaf(layered)))
            if frozen.raw.value == layered.value =>
        {
            Some(fixed_at(frozen, &layered.origin))
        }
        // Nothing has changed here since the references were followed for the last time.
        (Node::Resolved(frozen), Some(Node::Resolved(layered)))
            if !layered.fixed && frozen.raw.value == layered.raw.value =>
        {
            Some(fixed_at(frozen, &layered.raw.origin))
        }
        (frozen, Some(layered))
            if layered.written().is_some() && frozen.written() == layered.written() =>
        {
            None
        }
        _ => {
            *is_pending = true;
            Some(frozen.clone())
        }
    }
}

/// A frozen value with the origin that it has now.
fn fixed_at(frozen: &Resolved, origin: &Origin) -> Node {
    let mut node = frozen.clone();
    node.raw.origin = origin.clone();
    Node::Resolved(Box::new(node))
}

fn table_instead(frozen: &Table, layered: &Table, is_pending: &mut bool) -> Option<Node> {
    if !frozen.special() && same_tables(frozen, layered) {
        return None;
    }
    let mut differs = false;
    let mut kept = frozen.clone();
    for entry in frozen.map().iter() {
        let there = layered.get(&entry.name);
        let node = instead(&entry.node, there.map(|there| &there.node), is_pending);
        match (node, there) {
            (Some(node), _) => {
                differs = true;
                kept.put(&entry.name, node);
            }
            (None, Some(there)) => drop(kept.insert(Arc::clone(there))),
            (None, None) => {}
        }
    }
    let is_more = |entry: &Arc<Entry>| frozen.get(&entry.name).is_none();
    if layered.map().iter().any(is_more) {
        (differs, *is_pending) = (true, true);
    }
    differs.then_some(Node::Table(kept))
}

/// The keys to freeze for those that are named: an item of a list is frozen with its list, since a
/// list changes as a whole.
fn whole_lists(keys: &[Key], root: &Table) -> BTreeSet<Key> {
    let whole: BTreeSet<Key> = keys.iter().map(|key| whole_list(key, root)).collect();
    let has_above = |key: &Key| {
        let mut above = key.lineage().skip(1);
        above.any(|above| whole.contains(above))
    };
    let outermost = whole.iter().filter(|key| !has_above(key));
    outermost.cloned().collect()
}

/// The key of the list that a key reaches into, or may reach into once there is one.
fn whole_list(key: &Key, root: &Table) -> Key {
    let path: Vec<_> = key.segments().collect();
    let is_index = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
    let mut table = Some(root);
    for (at, name) in path.iter().enumerate() {
        if at > 0 && table.is_none() && is_index(name) {
            return Key::from_segments(&path[..at]).unwrap_or_else(|_| key.clone());
        }
        let entry = table.and_then(|table| table.get(name));
        table = entry.and_then(|entry| entry.node.table());
    }
    key.clone()
}

impl Pins {
    /// Keeps a generation that is replaced, and forgets those over the limit.
    pub(crate) fn keep(&mut self, replaced: &Arc<Generation>, most: usize) {
        if most == 0 || replaced.is_initial() {
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

    /// Freezes keys at their present values, without the contextual values of which no case holds.
    /// Returns whether the tree must be published again: its
    /// references still follow other keys, or a roll-back differs from the layers.
    pub(crate) fn freeze(
        &mut self,
        keys: &[Key],
        now: &Generation,
        is_passed_over: &dyn Fn(&Key) -> bool,
    ) -> bool {
        let keys = whole_lists(keys, &now.root);
        self.frozen = keys
            .into_iter()
            .filter(|key| !is_passed_over(key))
            .filter_map(|key| Frozen::of(key, now))
            .collect();
        let mut nodes = self.frozen.iter().filter_map(|frozen| frozen.node.as_ref());
        self.tree.is_some() || nodes.any(Node::special)
    }

    /// Puts what the layers say in place of what is frozen, so that a change can be merged into it;
    /// `false` if that cannot be told from the merged tree, and it is to be merged anew.
    #[must_use]
    pub(crate) fn release(&self, merged: &mut Table) -> bool {
        if self.waiting.behind.values().any(|behind| behind.displaced) {
            return false;
        }
        for frozen in &self.frozen {
            let Some(behind) = self.waiting.behind.get(&frozen.key) else {
                // The node of the layers is in force.
                continue;
            };
            merged.remove_path(&frozen.path);
            if let Some(entry) = &behind.layered {
                let _ = merged.put_path(&frozen.path, entry.node.clone());
            }
        }
        true
    }

    /// Puts what is frozen in place of what the layers say; says which keys wait for a restart then.
    ///
    /// All of them, whatever changed: a merged tree may be that of a layer, and hold none of it.
    pub(crate) fn hold(&self, merged: &mut Table) -> Option<Waiting> {
        if self.frozen.is_empty() {
            return None;
        }
        let mut behind = BTreeMap::new();
        let mut pending = Pending::new();
        for frozen in &self.frozen {
            if let Some((there, is_pending)) = frozen.hold(merged) {
                if is_pending {
                    pending.insert(frozen.key.clone(), there.layered.clone());
                }
                behind.insert(frozen.key.clone(), there);
            }
        }
        Some(Waiting {
            behind,
            pending: Arc::new(pending),
        })
    }

    /// The keys that wait for a restart.
    pub(crate) fn pending(&self) -> &Arc<Pending> {
        &self.waiting.pending
    }

    /// The keys that did not wait for a restart before, or for another value.
    pub(crate) fn news<'w>(
        &self,
        pending: &'w Pending,
    ) -> impl Iterator<Item = (&'w Key, Option<&'w Arc<Entry>>)> {
        let known = |(key, says): &(&Key, &Option<Arc<Entry>>)| {
            let before = self.waiting.pending.get(*key);
            before.is_some_and(|before| same_entry(before, says))
        };
        let news = pending.iter().filter(move |news| !known(news));
        news.map(|(key, says)| (key, says.as_ref()))
    }

    /// The keys wait for a restart from now on; says whether they did not before.
    pub(crate) fn wait(&mut self, waiting: &Waiting) -> bool {
        let same = self.waiting.pending.len() == waiting.pending.len()
            && self.news(&waiting.pending).next().is_none();
        self.waiting = waiting.clone();
        !same
    }
}

/// How long the part of a path is at which a value stands that leaves no room for the rest.
fn leaf_above<S: AsRef<str>>(table: &Table, path: &[S]) -> Option<usize> {
    let above = 1..path.len();
    above.into_iter().find(|length| {
        let entry = table.find(&path[..*length]);
        entry.is_some_and(|entry| entry.node.table().is_none())
    })
}

/// Whether two tables have the same values as written.
pub(crate) fn same_tables(a: &Table, b: &Table) -> bool {
    diff::same_as_written(&Node::Table(a.clone()), &Node::Table(b.clone()))
}

fn same_entry(a: &Option<Arc<Entry>>, b: &Option<Arc<Entry>>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => diff::same_as_written(&a.node, &b.node),
        _ => false,
    }
}

/// The error for a bootstrap source that changes after the start.
pub(crate) fn too_late(name: &str) -> Error {
    let detail = "bootstrap sources cannot change after start-up; restart the program";
    Error::new(ErrorKind::Rejected, detail).with_source_name(name)
}

/// The error for a source that would take or leave the bootstrap rank.
pub(crate) fn reserved(name: &str) -> Error {
    let detail = "the bootstrap rank is reserved: a source has it from `Builder::bootstrap` on, for \
                  good";
    Error::new(ErrorKind::Rejected, detail).with_source_name(name)
}

/// Why what a layer says is not in force: only the start of the program sets those keys.
pub(crate) fn ignored(layers: &[Arc<LayerState>], at: usize, only: Option<&[&Key]>) -> Vec<Error> {
    let mut errors = Vec::new();
    let said = &layers[at];
    // A default is made to be overridden.
    if said.layer.is_bootstrap() || said.layer.rank() == DEFAULT_RANK {
        return errors;
    }
    let set_at_start = layers.iter().filter(|state| state.layer.is_bootstrap());
    for bootstrap in set_at_start {
        let mut compare = |key: &str, entry: &Arc<Entry>| {
            let Ok(key) = Key::parse(key) else { return };
            let path: Vec<_> = key.segments().collect();
            let Some(there) = said
                .root
                .find(&path)
                .or_else(|| tombstone_above(&said.root, &path))
            else {
                return;
            };
            if diff::same_as_written(&there.node, &entry.node) {
                return;
            }
            let detail = format!(
                "is ignored: {} has set it at the start, and only a start sets it",
                bootstrap.name
            );
            let error = Error::new(ErrorKind::Rejected, detail).with_key(&key);
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

/// The tombstone that hides a key from weaker layers. (A value hides it too, and is reported as a
/// clash.)
fn tombstone_above<'a, S: AsRef<str>>(table: &'a Table, path: &[S]) -> Option<&'a Arc<Entry>> {
    let above = leaf_above(table, path)?;
    let entry = table.find(&path[..above])?;
    (entry.node.written() == Some(&Value::Unset)).then_some(entry)
}

/// Rejects a write of the program that bootstrap values would leave without effect.
pub(crate) fn check_write(layers: &[Arc<LayerState>], key: &Key) -> Result<(), Error> {
    let path: Vec<_> = key.segments().collect();
    for bootstrap in layers.iter().filter(|state| state.layer.is_bootstrap()) {
        let at = match (
            bootstrap.root.find(&path),
            leaf_above(&bootstrap.root, &path),
        ) {
            (Some(_), _) => key.clone(),
            (None, Some(above)) => Key::from_segments(&path[..above])?,
            (None, None) => continue,
        };
        let detail = format!(
            "would have no effect: {} set `{at}` at the start, and only a start sets it",
            bootstrap.name
        );
        return Err(Error::new(ErrorKind::Rejected, detail).with_key(key));
    }
    Ok(())
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
