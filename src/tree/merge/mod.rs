//! Merges layers into one tree: at each path the strongest layer wins, and tables merge.
//!
//! From the strongest layer down, tables are collected until a value or a tombstone. A value without a
//! table above it wins; tables above hide it. A subtree of one layer alone is shared with that layer, not
//! copied, so a change costs the path to it.

mod composed_value;

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::decode;
use crate::error::{Error, ErrorKind};
use crate::tree::items::{self, ComposedList, IgnoredItem, View};
use crate::value::Value;
use crate::value::hamt::Entry;
use crate::value::key::{self, Key};
use crate::value::node::{Leaf, Node, Table};

pub(crate) use composed_value::{ComposedValue, find_composed_value};

/// The rules of a merge, and its findings.
#[derive(Debug)]
pub(crate) struct Merge<'a> {
    /// Lists under these keys are joined over all layers instead of replaced.
    pub(crate) append: &'a BTreeSet<Key>,
    /// How many layers, from the strongest, are bootstrap layers: their lists are joined with no
    /// list of another layer.
    bootstrap: usize,
    /// Keys of merged leaves whose text holds references, still to be followed.
    pub(crate) referring: Vec<Key>,
    pub(crate) findings: Findings,
}

/// The findings of a merge.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings {
    /// The keys at which a table and a value met.
    pub(crate) clashes: Vec<Error>,
    /// The items of lists that are not in force.
    pub(crate) ignored: Vec<IgnoredItem>,
    /// The keys at and below which all ignored items are found; the empty text is the root.
    pub(crate) merged_at: Vec<String>,
}

impl Findings {
    /// Begins a merge at a key, which replaces the findings of an earlier change in the same commit.
    fn begin(&mut self, at: &str) {
        self.ignored
            .retain(|item| !key::under(item.key.as_str(), at));
        self.merged_at.push(at.to_owned());
    }
}

/// A layer's table at some path, with the layer's position from the strongest.
type LayerTable<'a> = (usize, &'a Table);

/// What wins of the entries that the layers have at one path.
enum Winner<'a> {
    Nothing,
    Leaf(&'a Arc<Entry>),
    Tables(Vec<(LayerTable<'a>, &'a Arc<Entry>)>),
    /// Tables of items by index over a list of a lower layer.
    Items(Vec<View<'a>>, (usize, &'a Arc<Entry>)),
}

impl<'m> Merge<'m> {
    pub(crate) fn new(append: &'m BTreeSet<Key>, bootstrap: usize) -> Self {
        Self {
            append,
            bootstrap,
            referring: Vec::new(),
            findings: Findings::default(),
        }
    }

    /// Merges whole layers, the strongest first.
    pub(crate) fn merge_all(&mut self, layers: &[&Table]) -> Table {
        let layers: Vec<LayerTable<'_>> = layers.iter().copied().enumerate().collect();
        self.findings.begin("");
        self.merge_tables(&layers, &mut String::new())
    }

    /// Updates the merged tree after one layer changed at `path` alone.
    ///
    /// `before` and `after` are all layers, the strongest first; they differ in `changed` only.
    pub(crate) fn merge_path(
        &mut self,
        merged: &mut Table,
        before: &[&Table],
        after: &[&Table],
        changed: usize,
        path: &[Cow<'_, str>],
    ) {
        let count_filled =
            |tables: &[&'_ Table]| tables.iter().filter(|table| !table.is_empty()).count();
        if count_filled(after) == 1 && self.append.is_empty() {
            if let Some(only) = after
                .iter()
                .find(|table| !table.is_empty() && !table.special())
            {
                // The tree of one layer alone is shared with it.
                self.findings.begin("");
                *merged = (*only).clone();
                return;
            }
        }
        let before: Vec<LayerTable<'_>> = before.iter().copied().enumerate().collect();
        let after: Vec<LayerTable<'_>> = after.iter().copied().enumerate().collect();
        self.merge_step(merged, &before, &after, changed, path, &mut String::new());
    }

    /// Updates the merged tree below one segment of the path.
    fn merge_step(
        &mut self,
        merged: &mut Table,
        before: &[LayerTable<'_>],
        after: &[LayerTable<'_>],
        changed: usize,
        path: &[Cow<'_, str>],
        at: &mut String,
    ) {
        let Some((name, rest)) = path.split_first() else {
            return;
        };
        let length = at.len();
        key::push_segment(at, name);
        let now = self.winner_reporting_clash(after, name, at);
        if !rest.is_empty() && !self.append.contains(at.as_str()) {
            let was = find_winner(before, self.bootstrap, name).0;
            if let (Winner::Tables(was), Winner::Tables(now)) = (&was, &now) {
                let others = |tables: &[(LayerTable<'_>, &Arc<Entry>)]| -> Vec<usize> {
                    tables
                        .iter()
                        .map(|((i, _), _)| *i)
                        .filter(|i| *i != changed)
                        .collect()
                };
                let below = merged
                    .get(name)
                    .and_then(|entry| entry.node.table().cloned());
                let alone = matches!(now.as_slice(), [((_, only), _)]
                    if !only.special() && !self.appends_under(at));
                if let (false, true, Some(mut below)) = (alone, others(was) == others(now), below) {
                    // The other layers here are the same as before, so the difference is further down
                    // this path. (A table of one layer alone is shared below.)
                    let was: Vec<_> = was.iter().map(|(layers, _)| *layers).collect();
                    let now: Vec<_> = now.iter().map(|(layers, _)| *layers).collect();
                    self.merge_step(&mut below, &was, &now, changed, rest, at);
                    if below.is_empty() && !now.iter().any(|(_, table)| table.is_empty()) {
                        merged.remove(name);
                    } else {
                        merged.put(name, Node::Table(below));
                    }
                    at.truncate(length);
                    return;
                }
            }
        }
        self.findings.begin(at);
        match self.merge_winner(now, after, name, at) {
            Some(entry) => drop(merged.insert(entry)),
            None => drop(merged.remove(name)),
        }
        at.truncate(length);
    }

    /// Merges the tables of some layers.
    fn merge_tables(&mut self, layers: &[LayerTable<'_>], at: &mut String) -> Table {
        // Empty tables, such as the override layer at the start, do not prevent sharing.
        let mut filled = layers.iter().filter(|(_, table)| !table.is_empty());
        if let (Some((_, only)), None) = (filled.next(), filled.next()) {
            if !only.special() && !self.appends_under(at) {
                return (*only).clone();
            }
        }
        let mut merged = Table::default();
        if layers.len() > FEW_LAYERS {
            for (name, layers) in by_name(layers) {
                self.merge_name(&mut merged, &layers, name, at);
            }
            return merged;
        }
        for (i, (_, table)) in layers.iter().enumerate() {
            for entry in table.map().iter() {
                let name = &*entry.name;
                if layers[..i]
                    .iter()
                    .all(|(_, above)| above.get(name).is_none())
                {
                    self.merge_name(&mut merged, &layers[i..], name, at);
                }
            }
        }
        merged
    }

    /// Merges what the layers have under one name.
    fn merge_name(
        &mut self,
        merged: &mut Table,
        layers: &[LayerTable<'_>],
        name: &str,
        at: &mut String,
    ) {
        let length = at.len();
        key::push_segment(at, name);
        let winner = self.winner_reporting_clash(layers, name, at);
        if let Some(entry) = self.merge_winner(winner, layers, name, at) {
            merged.insert(entry);
        }
        at.truncate(length);
    }

    /// Merges what wins under a name.
    fn merge_winner(
        &mut self,
        winner: Winner<'_>,
        layers: &[LayerTable<'_>],
        name: &str,
        at: &mut String,
    ) -> Option<Arc<Entry>> {
        if self.append.contains(at.as_str()) {
            let lists = joined_lists(layers, self.bootstrap, name);
            if let Some(composed) = items::joined(&lists, at) {
                return Some(self.record_composed(composed, at));
            }
        }
        match winner {
            Winner::Nothing => None,
            Winner::Leaf(entry) => {
                self.record_references(entry, at);
                Some(Arc::clone(entry))
            }
            Winner::Items(tables, (layer, list)) => {
                let composed = items::overlaid(&tables, (layer, list), at)?;
                Some(self.record_composed(composed, at))
            }
            Winner::Tables(tables) => {
                if let [((_, only), entry)] = tables.as_slice() {
                    if !only.special() && !self.appends_under(at) {
                        return Some(Arc::clone(entry));
                    }
                }
                let layers: Vec<_> = tables.iter().map(|(layers, _)| *layers).collect();
                let merged = self.merge_tables(&layers, at);
                // A table that tombstones emptied is absent; one that a source wrote empty is present.
                if merged.is_empty() && !layers.iter().any(|(_, table)| table.is_empty()) {
                    return None;
                }
                let node = Node::Table(merged);
                Some(Arc::new(Entry {
                    name: name.into(),
                    node,
                }))
            }
        }
    }

    /// Finds what wins under a name, and reports a clash.
    fn winner_reporting_clash<'a>(
        &mut self,
        layers: &[LayerTable<'a>],
        name: &str,
        at: &str,
    ) -> Winner<'a> {
        let (winner, clash) = find_winner(layers, self.bootstrap, name);
        if let Some((above, below)) = clash {
            let describe = |entry: &Entry| match entry.node.origin() {
                Some(origin) => format!("a value ({origin})"),
                None => "a table".to_owned(),
            };
            let detail = format!(
                "{} hides {} of a lower layer",
                describe(above),
                describe(below)
            );
            let error = Error::new(ErrorKind::InvalidKey, detail).with_key_text(at);
            self.findings.clashes.push(error.with_shareable_detail());
        }
        winner
    }

    /// Records the findings of a composed list. Returns its entry.
    fn record_composed(&mut self, composed: ComposedList, at: &str) -> Arc<Entry> {
        self.findings.clashes.extend(composed.clashes);
        self.findings.ignored.extend(composed.ignored);
        self.record_references(&composed.entry, at);
        composed.entry
    }

    fn record_references(&mut self, entry: &Entry, at: &str) {
        if let Node::Leaf(leaf) = &entry.node {
            if leaf.value.may_refer() {
                self.referring.extend(Key::parse(at).ok());
            }
        }
    }

    /// Whether lists at or below a key are joined.
    fn appends_under(&self, at: &str) -> bool {
        let from = (Bound::Included(at), Bound::Unbounded);
        let keys = self.append.range::<str, _>(from);
        let mut keys = keys.take_while(|key| key.as_str().starts_with(at));
        keys.any(|key| key::under(key.as_str(), at))
    }
}

/// Up to this number of layers, each layer is searched for each name, which allocates nothing.
const FEW_LAYERS: usize = 8;

/// The layers that have each name. To search each of many layers for each name would be quadratic.
fn by_name<'a>(layers: &[LayerTable<'a>]) -> HashMap<&'a str, Vec<LayerTable<'a>>, RandomState> {
    let mut names: HashMap<&str, Vec<LayerTable<'_>>, RandomState> = HashMap::default();
    for (layer, table) in layers {
        for entry in table.map().iter() {
            names.entry(&entry.name).or_default().push((*layer, table));
        }
    }
    names
}

/// A table and a value of one path, the stronger first.
type Clashing<'a> = Option<(&'a Arc<Entry>, &'a Arc<Entry>)>;

/// What wins of the entries that some tables have under a name, and the entries that clash.
fn find_winner<'a>(
    layers: &[LayerTable<'a>],
    bootstrap: usize,
    name: &str,
) -> (Winner<'a>, Clashing<'a>) {
    let mut tables: Vec<(LayerTable<'a>, &'a Arc<Entry>)> = Vec::new();
    let mut winner: Option<&Arc<Entry>> = None;
    let mut clash = None;
    for (layer, table) in layers {
        let Some(entry) = table.get(name) else {
            continue;
        };
        match (&entry.node, winner) {
            (Node::Table(_), Some(above)) => {
                let both_are_lists = holds_list(&above.node) && items::is_indexed(&entry.node);
                clash = (!both_are_lists).then_some((above, entry));
                break;
            }
            (_, Some(_)) => break,
            (Node::Table(below), None) => tables.push(((*layer, below), entry)),
            (
                Node::Leaf(Leaf {
                    value: Value::Unset,
                    ..
                }),
                None,
            ) => break,
            (_, None) if tables.is_empty() => winner = Some(entry),
            (_, None) => {
                if let Some(views) = items_over(&tables, (*layer, entry), bootstrap) {
                    return (Winner::Items(views, (*layer, entry)), None);
                }
                clash = tables.last().map(|(_, above)| (*above, entry));
                break;
            }
        }
    }
    let winner = match winner {
        Some(entry) => Winner::Leaf(entry),
        None if tables.is_empty() => Winner::Nothing,
        None => Winner::Tables(tables),
    };
    (winner, clash)
}

/// All layers, the strongest first, with the rules of merging.
#[derive(Clone, Copy)]
pub(crate) struct Layers<'a> {
    pub(crate) roots: &'a [&'a Table],
    pub(crate) append: &'a BTreeSet<Key>,
    /// How many layers, from the strongest, are bootstrap layers.
    pub(crate) bootstrap: usize,
}

/// What some layers have at a key.
pub(crate) struct Visible {
    pub(crate) entry: Arc<Entry>,
    /// The strongest layer that has the value; `None` for a table.
    pub(crate) layer: Option<usize>,
}

impl Layers<'_> {
    /// What the layers have at a key, as if those stronger than `from` were not there.
    pub(crate) fn visible(&self, from: usize, key: &Key) -> Option<Visible> {
        let path: Vec<_> = key.segments().collect();
        let (name, above) = path.split_last()?;
        let mut layers: Vec<LayerTable<'_>> =
            self.roots.iter().copied().enumerate().skip(from).collect();
        for name in above {
            let Winner::Tables(tables) = find_winner(&layers, self.bootstrap, name).0 else {
                return None;
            };
            layers = tables.into_iter().map(|(layers, _)| layers).collect();
        }
        let winner = find_winner(&layers, self.bootstrap, name).0;
        let layer = match &winner {
            Winner::Leaf(_) => layers.iter().find(|(_, table)| table.get(name).is_some()),
            Winner::Nothing | Winner::Tables(_) | Winner::Items(..) => None,
        };
        let layer = layer.map(|(layer, _)| *layer);
        let mut merge = Merge::new(self.append, self.bootstrap);
        let entry = merge.merge_winner(winner, &layers, name, &mut key.as_str().to_owned())?;
        Some(Visible { entry, layer })
    }
}

/// The tables that override items of a list below by index. Bootstrap layers override no item of
/// another layer, which may change.
fn items_over<'a>(
    tables: &[(LayerTable<'a>, &'a Arc<Entry>)],
    (layer, below): (usize, &Arc<Entry>),
    bootstrap: usize,
) -> Option<Vec<View<'a>>> {
    let strongest = tables.first().map(|((layer, _), _)| *layer)?;
    if strongest < bootstrap && layer >= bootstrap {
        return None;
    }
    let tables = tables.iter();
    let views: Vec<View<'a>> = tables
        .map(|((layer, _), entry)| View::of(*layer, entry))
        .collect();
    items::overrides_items(&views, below).then_some(views)
}

/// The lists that are joined at one key: from the strongest layer down to the first that has
/// something else there, or to the last bootstrap layer if the strongest is one.
fn joined_lists<'a>(
    layers: &[LayerTable<'a>],
    bootstrap: usize,
    name: &str,
) -> Vec<(usize, &'a Arc<Entry>)> {
    let mut lists: Vec<(usize, &Arc<Entry>)> = Vec::new();
    for (layer, table) in layers {
        let is_bootstrap = lists.first().is_some_and(|(first, _)| *first < bootstrap);
        if is_bootstrap && *layer >= bootstrap {
            break;
        }
        let Some(entry) = table.get(name) else {
            continue;
        };
        if !holds_list(&entry.node) {
            break;
        }
        lists.push((*layer, entry));
    }
    lists
}

/// Whether a node is a list, or a text that spells one. The value of a broken reference counts: it
/// breaks the whole list.
fn holds_list(node: &Node) -> bool {
    match node {
        Node::Leaf(leaf) => decode::items(&leaf.value).is_some(),
        Node::Resolved(resolved) => match &resolved.value {
            Ok(value) => decode::items(value).is_some(),
            Err(_) => true,
        },
        Node::Table(_) => items::is_indexed(node),
    }
}
