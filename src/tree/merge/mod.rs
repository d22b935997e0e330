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

/// One layer's table at some path, with the layer's position from the strongest.
type Seen<'a> = (usize, &'a Table);

/// What the layers have at one path.
enum Shown<'a> {
    Nothing,
    Leaf(&'a Arc<Entry>),
    Tables(Vec<(Seen<'a>, &'a Arc<Entry>)>),
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
    pub(crate) fn all(&mut self, layers: &[&Table]) -> Table {
        let seen: Vec<Seen<'_>> = layers.iter().copied().enumerate().collect();
        self.findings.begin("");
        self.tables(&seen, &mut String::new())
    }

    /// Updates the merged tree after one layer changed at `path` alone.
    ///
    /// `before` and `after` are all layers, the strongest first; they differ in `changed` only.
    pub(crate) fn path(
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
        let before: Vec<Seen<'_>> = before.iter().copied().enumerate().collect();
        let after: Vec<Seen<'_>> = after.iter().copied().enumerate().collect();
        self.step(merged, &before, &after, changed, path, &mut String::new());
    }

    fn step(
        &mut self,
        merged: &mut Table,
        before: &[Seen<'_>],
        after: &[Seen<'_>],
        changed: usize,
        path: &[Cow<'_, str>],
        at: &mut String,
    ) {
        let Some((name, rest)) = path.split_first() else {
            return;
        };
        let length = at.len();
        key::push_segment(at, name);
        let now = self.shown(after, name, at);
        if !rest.is_empty() && !self.append.contains(at.as_str()) {
            let was = self.shown_again(before, name);
            if let (Shown::Tables(was), Shown::Tables(now)) = (&was, &now) {
                let others = |tables: &[(Seen<'_>, &Arc<Entry>)]| -> Vec<usize> {
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
                    let was: Vec<_> = was.iter().map(|(seen, _)| *seen).collect();
                    let now: Vec<_> = now.iter().map(|(seen, _)| *seen).collect();
                    self.step(&mut below, &was, &now, changed, rest, at);
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
        match self.entry(now, after, name, at) {
            Some(entry) => drop(merged.insert(entry)),
            None => drop(merged.remove(name)),
        }
        at.truncate(length);
    }

    fn tables(&mut self, seen: &[Seen<'_>], at: &mut String) -> Table {
        // Empty tables, such as the override layer at the start, do not prevent sharing.
        let mut filled = seen.iter().filter(|(_, table)| !table.is_empty());
        if let (Some((_, only)), None) = (filled.next(), filled.next()) {
            if !only.special() && !self.appends_under(at) {
                return (*only).clone();
            }
        }
        let mut merged = Table::default();
        if seen.len() > FEW_LAYERS {
            for (name, seen) in by_name(seen) {
                self.name(&mut merged, &seen, name, at);
            }
            return merged;
        }
        for (i, (_, table)) in seen.iter().enumerate() {
            for entry in table.map().iter() {
                let name = &*entry.name;
                if seen[..i].iter().all(|(_, above)| above.get(name).is_none()) {
                    self.name(&mut merged, &seen[i..], name, at);
                }
            }
        }
        merged
    }

    /// Merges what the layers have under one name.
    fn name(&mut self, merged: &mut Table, seen: &[Seen<'_>], name: &str, at: &mut String) {
        let length = at.len();
        key::push_segment(at, name);
        let shown = self.shown(seen, name, at);
        if let Some(entry) = self.entry(shown, seen, name, at) {
            merged.insert(entry);
        }
        at.truncate(length);
    }

    fn entry(
        &mut self,
        shown: Shown<'_>,
        seen: &[Seen<'_>],
        name: &str,
        at: &mut String,
    ) -> Option<Arc<Entry>> {
        if self.append.contains(at.as_str()) {
            let lists = lists(seen, self.bootstrap, name);
            if let Some(composed) = items::joined(&lists, at) {
                return Some(self.record_composed(composed, at));
            }
        }
        match shown {
            Shown::Nothing => None,
            Shown::Leaf(entry) => {
                self.note_references(entry, at);
                Some(Arc::clone(entry))
            }
            Shown::Items(tables, (layer, list)) => {
                let composed = items::overlaid(&tables, (layer, list), at)?;
                Some(self.record_composed(composed, at))
            }
            Shown::Tables(tables) => {
                if let [((_, only), entry)] = tables.as_slice() {
                    if !only.special() && !self.appends_under(at) {
                        return Some(Arc::clone(entry));
                    }
                }
                let seen: Vec<_> = tables.iter().map(|(seen, _)| *seen).collect();
                let merged = self.tables(&seen, at);
                // A table that tombstones emptied is absent; one that a source wrote empty is present.
                if merged.is_empty() && !seen.iter().any(|(_, table)| table.is_empty()) {
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

    fn shown<'a>(&mut self, seen: &[Seen<'a>], name: &str, at: &str) -> Shown<'a> {
        let (shown, hidden) = look(seen, self.bootstrap, name);
        if let Some((above, below)) = hidden {
            let located = |entry: &Entry| match entry.node.origin() {
                Some(origin) => format!("a value ({origin})"),
                None => "a table".to_owned(),
            };
            let detail = format!(
                "{} hides {} of a lower layer",
                located(above),
                located(below)
            );
            self.findings
                .clashes
                .push(Error::new(ErrorKind::InvalidKey, detail).with_key_text(at));
        }
        shown
    }

    /// What the layers have under a name, without reporting clashes again.
    fn shown_again<'a>(&self, seen: &[Seen<'a>], name: &str) -> Shown<'a> {
        look(seen, self.bootstrap, name).0
    }

    /// Records the findings of a composed list. Returns its entry.
    fn record_composed(&mut self, composed: ComposedList, at: &str) -> Arc<Entry> {
        self.findings.clashes.extend(composed.clashes);
        self.findings.ignored.extend(composed.ignored);
        self.note_references(&composed.entry, at);
        composed.entry
    }

    fn note_references(&mut self, entry: &Entry, at: &str) {
        if let Node::Leaf(leaf) = &entry.node {
            if leaf.value.may_refer() {
                self.referring.extend(Key::parse(at).ok());
            }
        }
    }

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
fn by_name<'a>(seen: &[Seen<'a>]) -> HashMap<&'a str, Vec<Seen<'a>>, RandomState> {
    let mut names: HashMap<&str, Vec<Seen<'_>>, RandomState> = HashMap::default();
    for (layer, table) in seen {
        for entry in table.map().iter() {
            names.entry(&entry.name).or_default().push((*layer, table));
        }
    }
    names
}

/// A table and the value it met, the stronger first.
type Clashing<'a> = Option<(&'a Arc<Entry>, &'a Arc<Entry>)>;

fn look<'a>(seen: &[Seen<'a>], bootstrap: usize, name: &str) -> (Shown<'a>, Clashing<'a>) {
    let mut tables: Vec<(Seen<'a>, &'a Arc<Entry>)> = Vec::new();
    let mut winner: Option<&Arc<Entry>> = None;
    let mut hidden = None;
    for (layer, table) in seen {
        let Some(entry) = table.get(name) else {
            continue;
        };
        match (&entry.node, winner) {
            (Node::Table(_), Some(above)) => {
                let both_are_lists = holds_list(&above.node) && items::is_indexed(&entry.node);
                hidden = (!both_are_lists).then_some((above, entry));
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
                    return (Shown::Items(views, (*layer, entry)), None);
                }
                hidden = tables.last().map(|(_, above)| (*above, entry));
                break;
            }
        }
    }
    let shown = match winner {
        Some(entry) => Shown::Leaf(entry),
        None if tables.is_empty() => Shown::Nothing,
        None => Shown::Tables(tables),
    };
    (shown, hidden)
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
        let mut seen: Vec<Seen<'_>> = self.roots.iter().copied().enumerate().skip(from).collect();
        for name in above {
            let Shown::Tables(tables) = look(&seen, self.bootstrap, name).0 else {
                return None;
            };
            seen = tables.into_iter().map(|(seen, _)| seen).collect();
        }
        let shown = look(&seen, self.bootstrap, name).0;
        let layer = match &shown {
            Shown::Leaf(_) => seen.iter().find(|(_, table)| table.get(name).is_some()),
            Shown::Nothing | Shown::Tables(_) | Shown::Items(..) => None,
        };
        let layer = layer.map(|(layer, _)| *layer);
        let mut merge = Merge::new(self.append, self.bootstrap);
        let entry = merge.entry(shown, &seen, name, &mut key.as_str().to_owned())?;
        Some(Visible { entry, layer })
    }
}

/// The tables that override items of a list below by index. Bootstrap layers override no item of
/// another layer, which may change.
fn items_over<'a>(
    tables: &[(Seen<'a>, &'a Arc<Entry>)],
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
fn lists<'a>(seen: &[Seen<'a>], bootstrap: usize, name: &str) -> Vec<(usize, &'a Arc<Entry>)> {
    let mut lists: Vec<(usize, &Arc<Entry>)> = Vec::new();
    for (layer, table) in seen {
        let is_fixed = lists.first().is_some_and(|(first, _)| *first < bootstrap);
        if is_fixed && *layer >= bootstrap {
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
