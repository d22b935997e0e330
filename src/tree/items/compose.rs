//! Composes lists from the items of several layers.

use std::sync::Arc;

use crate::error::{Error, ErrorKind};
use crate::sorted::{SortedMap, SortedSet};
use crate::tree::items::view::{
    Content, Located, View, WinningViews, by_index, by_name, nowhere, winning_views,
};
use crate::tree::items::{ComposedList, IgnoredItem};
use crate::tree::list_index::{IndexedItems, why_no_index};
use crate::value::Value;
use crate::value::hamt::Entry;
use crate::value::key::{self, Key};
use crate::value::node::{Leaf, Node, Resolved};
use crate::value::origin::Origin;

/// Composes one list from the items of several layers.
#[derive(Debug, Default)]
pub(super) struct Composer {
    pub(super) ignored: Vec<IgnoredItem>,
    pub(super) clashes: Vec<Error>,
    /// The layers that have a part in the list.
    pub(super) layers: SortedSet<usize>,
    /// The origins of its first parts.
    pub(super) origins: Vec<Origin>,
    /// What its parts refer to.
    references: Option<Resolved>,
    /// A part whose number of items is unknown, because a reference is broken.
    pub(super) opaque: Option<Resolved>,
}

impl Composer {
    /// Records the layer, the origin and the references of a part.
    pub(super) fn include(&mut self, view: View<'_>) {
        self.layers.insert(view.layer);
        if let Some(origin) = view.origin() {
            if self.origins.len() <= MAX_ORIGINS && !self.origins.contains(origin) {
                self.origins.push(origin.clone());
            }
        }
        if let Content::Node(Node::Resolved(resolved)) = view.content {
            self.references = Some(joined_references(self.references.take(), resolved));
        }
    }

    /// Includes a part, and returns its value.
    pub(super) fn include_value(&mut self, view: View<'_>) -> Located {
        self.include(view);
        view.located()
    }

    /// The value that the layers together have at a path inside a list.
    pub(super) fn compose_value(&mut self, views: &[View<'_>], at: &mut String) -> Option<Located> {
        let mut clash = false;
        let winner = winning_views(views, &mut clash);
        if clash {
            let detail = "a table hides a value of a lower layer";
            let error = Error::new(ErrorKind::InvalidKey, detail).with_key_text(&*at);
            self.clashes.push(error.with_shareable_detail());
        }
        match winner {
            WinningViews::Nothing => None,
            WinningViews::Value(view) => Some(self.include_value(view)),
            WinningViews::Items(tables, list) => {
                let below = self.include_value(list);
                match self.override_items(&tables, (list.layer, &below), at) {
                    Some(items) => Some(Located::list(list.first_origin(), items)),
                    None => Some(below),
                }
            }
            WinningViews::Tables(tables) => {
                let mut fields = Vec::new();
                let start = tables.first().map_or_else(nowhere, View::first_origin);
                let mut origins = vec![start];
                let mut broken = None;
                for (name, views) in by_name(&tables) {
                    let length = at.len();
                    key::push_segment(at, name);
                    if let Some(field) = self.compose_value(&views, at) {
                        fields.push((name, field.value));
                        origins.extend(field.origins);
                        broken = broken.or(field.broken);
                    }
                    at.truncate(length);
                }
                // A table that tombstones emptied is absent; one that a source wrote empty is present.
                let empty = tables.iter().filter(|table| table.is_empty_table());
                self.layers.extend(empty.clone().map(|table| table.layer));
                let is_present = !fields.is_empty() || empty.count() > 0;
                let value = Value::Table(fields.into_iter().collect());
                is_present.then_some(Located {
                    value,
                    origins,
                    broken,
                })
            }
        }
    }

    /// The items of a list of a lower layer with those that are written by index; `None` if all of these
    /// are ignored.
    pub(super) fn override_items(
        &mut self,
        tables: &[View<'_>],
        (layer, list): (usize, &Located),
        at: &mut String,
    ) -> Option<Vec<Located>> {
        let mut items = list.items().unwrap_or_default();
        let mut is_overridden = false;
        let IndexedItems { by_index, others } = by_index(tables);
        for (index, views) in by_index {
            let length = at.len();
            key::push_segment(at, &index.to_string());
            let count = items.len();
            match items.get(index) {
                Some(below) => {
                    let mut all = views.clone();
                    all.push(View::of_value(layer, below));
                    match self.compose_value(&all, at) {
                        Some(item) => {
                            items[index] = item;
                            is_overridden = true;
                        }
                        None => self.ignore(&views, at, UNSET_ITEM.to_owned()),
                    }
                }
                None if index == count => {
                    items.extend(self.compose_value(&views, at));
                    is_overridden |= items.len() > count;
                }
                None => {
                    let detail = format!(
                        "is ignored: the list of the lower layer ends with {}, and only the next item \
                         can be appended; it counts again when the list reaches up to it",
                        last_item(count)
                    );
                    self.ignore_value(&views, at, detail);
                }
            }
            at.truncate(length);
        }
        self.ignore_others(others, at);
        is_overridden.then_some(items)
    }

    /// The list that one layer writes by index.
    pub(super) fn compose_own_list(&mut self, table: View<'_>, at: &mut String) -> Vec<Located> {
        let mut items: Vec<Located> = Vec::new();
        let IndexedItems { by_index, others } = by_index(&[table]);
        for (index, views) in by_index {
            let length = at.len();
            key::push_segment(at, &index.to_string());
            if index == items.len() {
                items.extend(self.compose_value(&views, at));
            } else {
                let detail = format!(
                    "is ignored: the list of this layer ends with {}, and only the next item can be \
                     appended",
                    last_item(items.len())
                );
                self.ignore_value(&views, at, detail);
            }
            at.truncate(length);
        }
        self.ignore_others(others, at);
        items
    }

    /// Reports the names that are decimal and no index.
    fn ignore_others(&mut self, others: SortedMap<&str, Vec<View<'_>>>, at: &mut String) {
        for (name, views) in others {
            let length = at.len();
            key::push_segment(at, name);
            self.ignore_value(&views, at, why_no_index(name));
            at.truncate(length);
        }
    }

    /// Reports an ignored item that has a value.
    fn ignore_value(&mut self, views: &[View<'_>], at: &str, detail: String) {
        let is_set = views.first().is_some_and(|view| !view.is_tombstone());
        if is_set {
            self.ignore(views, at, detail);
        }
    }

    fn ignore(&mut self, views: &[View<'_>], at: &str, detail: String) {
        let (Some(view), Ok(key)) = (views.first(), Key::parse(at)) else {
            return;
        };
        let error = Error::new(ErrorKind::InvalidKey, detail).with_key(&key);
        let mut error = error.with_shareable_detail();
        if let Some(origin) = view.origin() {
            error = error.with_origin(origin);
        }
        self.ignored.push(IgnoredItem {
            key,
            layer: view.layer,
            error,
        });
    }

    /// The list as a leaf, with the findings; `None` if it has no part.
    pub(super) fn into_composed(self, name: &str, items: Vec<Located>) -> Option<ComposedList> {
        let node = self.list_node(items)?;
        let name = name.into();
        Some(self.into_composed_entry(Arc::new(Entry { name, node })))
    }

    /// An entry with the findings.
    pub(super) fn into_composed_entry(self, entry: Arc<Entry>) -> ComposedList {
        ComposedList {
            entry,
            layers: self.layers.into_iter().collect(),
            ignored: self.ignored,
            clashes: self.clashes,
        }
    }

    fn list_node(&self, items: Vec<Located>) -> Option<Node> {
        if let Some(opaque) = &self.opaque {
            return Some(Node::Resolved(Box::new(opaque.clone())));
        }
        let start = match self.origins.as_slice() {
            [] => return None,
            [only] => only.clone(),
            several => joined_origin(several),
        };
        let list = Located::list(start.clone(), items);
        let origin = match self.origins.len() {
            1 => start,
            _ => start.with_parts(list.origins),
        };
        let leaf = Leaf::new(list.value, origin);
        Some(match self.references.clone() {
            None => Node::Leaf(leaf),
            Some(references) => Node::Resolved(Box::new(Resolved {
                value: match list.broken {
                    Some(error) => Err(error),
                    None => Ok(leaf.value.clone().unescaped()),
                },
                raw: leaf,
                ..references
            })),
        })
    }
}

const UNSET_ITEM: &str = "is ignored: an item of a list cannot be unset, since the items after it would \
                          move; override the item or the whole list";

/// Limits the origins that the origin of a list names.
const MAX_ORIGINS: usize = 8;

fn last_item(count: usize) -> String {
    match count.checked_sub(1) {
        Some(last) => format!("item {last}"),
        None => "no item".to_owned(),
    }
}

fn joined_origin(origins: &[Origin]) -> Origin {
    let shown = origins.iter().take(MAX_ORIGINS);
    let mut names: Vec<String> = shown.map(Origin::to_string).collect();
    if origins.len() > MAX_ORIGINS {
        names.push("...".to_owned());
    }
    Origin::new("joined", names.join(" + "))
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
