//! Many layers, one tree: at each place the strongest layer wins, tables merge.
//!
//! Looking down from the strongest layer, tables are gathered until a value or a tombstone stops
//! the view. A value with no table above it wins; tables above hide it. What only one layer holds
//! is shared with that layer, not copied, so a change costs the path to it.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::error::{Error, ErrorKind};
use crate::value::Value;
use crate::value::coerce;
use crate::value::key::{self, Key};
use crate::value::map::Entry;
use crate::value::node::{Leaf, Node, Resolved, Table};
use crate::value::origin::Origin;

/// What merging takes into account and what it finds.
#[derive(Debug)]
pub(crate) struct Merge<'a> {
    /// Lists under these keys are joined over all layers instead of replaced.
    pub(crate) append: &'a BTreeSet<Key>,
    /// How many layers, from the strongest, are bootstrap layers: their lists are joined with no
    /// list of another layer.
    bootstrap: usize,
    /// Keys of merged leaves whose text holds references, still to be followed.
    pub(crate) referring: Vec<Key>,
    /// Places where a table and a value met.
    pub(crate) clashes: Vec<Error>,
}

/// One layer's table at some place, with the layer's position from the strongest.
type Seen<'a> = (usize, &'a Table);

/// What shows at one place.
enum Shown<'a> {
    Nothing,
    Leaf(&'a Arc<Entry>),
    Tables(Vec<(Seen<'a>, &'a Arc<Entry>)>),
}

impl<'m> Merge<'m> {
    pub(crate) fn new(append: &'m BTreeSet<Key>, bootstrap: usize) -> Self {
        Self {
            append,
            bootstrap,
            referring: Vec::new(),
            clashes: Vec::new(),
        }
    }

    /// Merges whole layers, the strongest first.
    pub(crate) fn all(&mut self, layers: &[&Table]) -> Table {
        let seen: Vec<Seen<'_>> = layers.iter().copied().enumerate().collect();
        self.tables(&seen, &mut String::new())
    }

    /// Brings the merged tree up to date after one layer changed at `path` and nowhere else.
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
        let there = |tables: &[&'_ Table]| tables.iter().filter(|table| !table.is_empty()).count();
        if there(after) == 1 && self.append.is_empty() {
            if let Some(only) = after
                .iter()
                .find(|table| !table.is_empty() && !table.special())
            {
                // What only one layer says is shared with it from the root on.
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
        if !rest.is_empty() {
            let was = self.quiet(before, name);
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
                    // The same other layers show here as before, so the difference lies further
                    // down this path alone. (A table of one layer alone is shared, below.)
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
        match self.entry(now, after, name, at) {
            Some(entry) => drop(merged.insert(entry)),
            None => drop(merged.remove(name)),
        }
        at.truncate(length);
    }

    fn tables(&mut self, seen: &[Seen<'_>], at: &mut String) -> Table {
        // What says nothing does not keep the other from being shared, as the layer of the program's
        // own writes at the start.
        let mut speaking = seen.iter().filter(|(_, table)| !table.is_empty());
        if let (Some((_, only)), None) = (speaking.next(), speaking.next()) {
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
        match shown {
            Shown::Nothing => None,
            Shown::Leaf(entry) => {
                let joined = self
                    .append
                    .contains(at.as_str())
                    .then(|| self.join(seen, name))
                    .flatten();
                let entry = joined.unwrap_or_else(|| Arc::clone(entry));
                if let Node::Leaf(leaf) = &entry.node {
                    if leaf.value.may_refer() {
                        self.referring.extend(Key::parse(at).ok());
                    }
                }
                Some(entry)
            }
            Shown::Tables(tables) => {
                if let [((_, only), entry)] = tables.as_slice() {
                    if !only.special() && !self.appends_under(at) {
                        return Some(Arc::clone(entry));
                    }
                }
                let seen: Vec<_> = tables.iter().map(|(seen, _)| *seen).collect();
                let merged = self.tables(&seen, at);
                // What only tombstones emptied is not there; what a source wrote empty is.
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
        let (shown, hidden) = look(seen, name);
        if let Some((above, below)) = hidden {
            let place = |entry: &Entry| match entry.node.origin() {
                Some(origin) => format!("a value ({origin})"),
                None => "a table".to_owned(),
            };
            let detail = format!("{} hides {} of a lower layer", place(above), place(below));
            self.clashes
                .push(Error::new(ErrorKind::InvalidKey, detail).with_key(at));
        }
        shown
    }

    /// What shows, without telling of clashes once more.
    fn quiet<'a>(&self, seen: &[Seen<'a>], name: &str) -> Shown<'a> {
        look(seen, name).0
    }

    /// Joins the lists of all layers at one key.
    fn join(&self, seen: &[Seen<'_>], name: &str) -> Option<Arc<Entry>> {
        let lists = lists(seen, self.bootstrap, name);
        let lists: Vec<&Arc<Entry>> = lists.into_iter().map(|(_, entry)| entry).collect();
        joined(&lists)
    }

    fn appends_under(&self, at: &str) -> bool {
        let from = (Bound::Included(at), Bound::Unbounded);
        let keys = self.append.range::<str, _>(from);
        let mut keys = keys.take_while(|key| key.as_str().starts_with(at));
        keys.any(|key| key::under(key.as_str(), at))
    }
}

/// Of so few layers, each is asked for each name. That allocates nothing.
const FEW_LAYERS: usize = 8;

/// The layers that have each name. Asking each of many layers for each name would be quadratic.
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

fn look<'a>(seen: &[Seen<'a>], name: &str) -> (Shown<'a>, Clashing<'a>) {
    let mut tables: Vec<(Seen<'a>, &'a Arc<Entry>)> = Vec::new();
    let mut winner: Option<&Arc<Entry>> = None;
    let mut hidden = None;
    for (layer, table) in seen {
        let Some(entry) = table.get(name) else {
            continue;
        };
        match (&entry.node, winner) {
            (Node::Table(_), Some(above)) => {
                hidden = Some((above, entry));
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
            let Shown::Tables(tables) = look(&seen, name).0 else {
                return None;
            };
            seen = tables.into_iter().map(|(seen, _)| seen).collect();
        }
        let shown = look(&seen, name).0;
        let layer = match &shown {
            Shown::Leaf(_) => seen.iter().find(|(_, table)| table.get(name).is_some()),
            Shown::Nothing | Shown::Tables(_) => None,
        };
        let layer = layer.map(|(layer, _)| *layer);
        let mut merge = Merge::new(self.append, self.bootstrap);
        let entry = merge.entry(shown, &seen, name, &mut key.as_str().to_owned())?;
        Some(Visible { entry, layer })
    }
}

/// The layers whose lists are joined at a key, each with its list, the strongest first.
/// `layers` are all layers, the strongest first.
pub(crate) fn contributors<'a, S: AsRef<str>>(
    layers: &[&'a Table],
    bootstrap: usize,
    path: &[S],
) -> Vec<(usize, &'a Arc<Entry>)> {
    let Some((name, above)) = path.split_last() else {
        return Vec::new();
    };
    let mut seen: Vec<Seen<'a>> = layers.iter().copied().enumerate().collect();
    for name in above {
        let Shown::Tables(tables) = look(&seen, name.as_ref()).0 else {
            return Vec::new();
        };
        seen = tables.into_iter().map(|(seen, _)| seen).collect();
    }
    match look(&seen, name.as_ref()).0 {
        Shown::Leaf(_) => lists(&seen, bootstrap, name.as_ref()),
        Shown::Nothing | Shown::Tables(_) => Vec::new(),
    }
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
        Node::Leaf(leaf) => coerce::items(&leaf.value).is_some(),
        Node::Resolved(resolved) => match &resolved.value {
            Ok(value) => coerce::items(value).is_some(),
            Err(_) => true,
        },
        Node::Table(_) => false,
    }
}

/// The lists of several layers as one list, the weakest layer's items first. Takes the strongest
/// first; `None` if there is no list.
pub(crate) fn joined(lists: &[&Arc<Entry>]) -> Option<Arc<Entry>> {
    let strongest = lists.first()?;
    let mut items: Vec<Value> = Vec::new();
    let mut origins: Vec<String> = Vec::new();
    let mut fixed: Option<Resolved> = None;
    for entry in lists.iter().rev() {
        let value = match &entry.node {
            Node::Leaf(leaf) => &leaf.value,
            Node::Resolved(resolved) => match &resolved.value {
                Ok(value) => {
                    fixed = Some(joined_references(fixed, resolved));
                    value
                }
                Err(_) => return Some(Arc::clone(entry)),
            },
            Node::Table(_) => return None,
        };
        items.extend(coerce::items(value)?);
        origins.extend(entry.node.origin().map(Origin::to_string));
    }
    let origin = match lists {
        [only] => only.node.origin()?.clone(),
        _ => Origin::new("joined", origins.join(" + ")),
    };
    let leaf = Leaf::new(Value::List(items.into()), origin);
    let node = match fixed {
        None => Node::Leaf(leaf),
        Some(fixed) => Node::Resolved(Box::new(Resolved {
            value: Ok(leaf.value.clone()),
            raw: leaf,
            ..fixed
        })),
    };
    Some(Arc::new(Entry {
        name: strongest.name.clone(),
        node,
    }))
}

/// A resolved value that refers to all that both refer to.
fn joined_references(first: Option<Resolved>, second: &Resolved) -> Resolved {
    let Some(first) = first else {
        return second.clone();
    };
    let refers = first.refers.iter().chain(&second.refers).cloned();
    Resolved {
        refers: refers.collect(),
        chain: first.chain.max(second.chain),
        secret: first.secret || second.secret,
        ..second.clone()
    }
}
