//! Composed lists, which have items of several layers: items written by index over a list of a lower layer,
//! and lists that `append` joins.
//!
//! An index in a layer over a list of a lower layer overrides that item. An index equal to the number
//! of items appends one. Indexes without a list below form a table, which reads as a list if they are
//! complete, and as a map in any case. Under a joined key they form the list of their layer. An index past
//! the end is ignored and reported until the list has grown up to it. Another spelling of a number, such
//! as `01`, is no index and is ignored and reported as well.

mod compose;
mod view;

use std::borrow::Cow;
use std::sync::Arc;

use crate::decode;
use crate::error::Error;
use crate::sorted::SortedSet;
use crate::tree::items::compose::Composer;
use crate::tree::items::view::{
    Content, Located, WinningViews, by_index, by_name, nowhere, winning_views,
};
use crate::value::hamt::Entry;
use crate::value::key::{self, Key};
use crate::value::node::{Leaf, Node};
use crate::value::origin::Origin;

pub(super) use crate::tree::items::view::{View, is_indexed, overrides_items};

/// An item that is not in force because its list does not reach up to it.
#[derive(Clone, Debug)]
pub(crate) struct IgnoredItem {
    pub(crate) key: Key,
    /// The position of its layer from the strongest.
    pub(crate) layer: usize,
    pub(crate) error: Error,
}

/// A composed list, and the findings.
#[derive(Debug)]
pub(crate) struct ComposedList {
    pub(crate) entry: Arc<Entry>,
    /// The layers that have a part in it, the strongest first.
    pub(crate) layers: Vec<usize>,
    pub(crate) ignored: Vec<IgnoredItem>,
    pub(crate) clashes: Vec<Error>,
}

/// A list of a lower layer with items that are written by index. `tables` has the strongest layer first.
pub(in crate::tree) fn overlaid(
    tables: &[View<'_>],
    (layer, list): (usize, &Arc<Entry>),
    at: &str,
) -> Option<ComposedList> {
    let mut composer = Composer::default();
    let view = View::of(layer, list);
    let below = composer.include_value(view);
    match composer.override_items(tables, (layer, &below), &mut at.to_owned()) {
        Some(items) => composer.into_composed(&list.name, items),
        None => {
            composer.layers = SortedSet::from(vec![layer]);
            Some(composer.into_composed_entry(Arc::clone(list)))
        }
    }
}

/// Joins lists, the weakest layer's items first. Takes the strongest first; `None` if there is no list.
pub(in crate::tree) fn joined(lists: &[(usize, &Arc<Entry>)], at: &str) -> Option<ComposedList> {
    let (_, strongest) = lists.first()?;
    let mut composer = Composer::default();
    let mut items: Vec<Located> = Vec::new();
    for (layer, entry) in lists.iter().rev() {
        let view = View::of(*layer, entry);
        match &entry.node {
            Node::Table(_) => items.extend(composer.compose_own_list(view, &mut at.to_owned())),
            _ => {
                if let Some(opaque) = view.opaque() {
                    composer.include(view);
                    composer.opaque = Some(opaque.clone());
                    break;
                }
                items.extend(composer.include_value(view).items()?);
            }
        }
    }
    if composer.origins.is_empty() {
        // A list of ignored items alone.
        let list = Located::list(nowhere(), items);
        let leaf = Leaf::new(list.value, nowhere());
        let entry = Arc::new(Entry {
            name: strongest.name.clone(),
            node: Node::Leaf(leaf),
        });
        return Some(composer.into_composed_entry(entry));
    }
    composer.into_composed(&strongest.name, items)
}

/// How many items a layer has in a joined list.
pub(in crate::tree) fn own_count(entry: &Entry) -> usize {
    match &entry.node {
        Node::Table(_) => {
            let view = View::of(0, entry);
            Composer::default()
                .compose_own_list(view, &mut String::new())
                .len()
        }
        _ => {
            let items = View::of(0, entry).written().and_then(decode::items);
            items.map_or(0, |items| items.len())
        }
    }
}

/// The layers that have a part in a value inside a list with items by index, and its origin if there is
/// one.
pub(in crate::tree) fn parts_inside<S: AsRef<str>>(
    tables: &[View<'_>],
    list: (usize, &Entry),
    path: &[S],
) -> (Vec<usize>, Option<Origin>) {
    let list = View::of(list.0, list.1);
    let Some(value) = list.written() else {
        return (Vec::new(), None);
    };
    let path: Vec<Cow<'_, str>> = path
        .iter()
        .map(|name| Cow::Borrowed(name.as_ref()))
        .collect();
    let mut below: Vec<View<'_>> = tables.to_vec();
    below.push(View {
        content: Content::Value(value, &[]),
        ..list
    });
    let (layers, origin) = inside(&below, &path);
    let origin = match layers.as_slice() {
        [only] if *only == list.layer => list.origin().cloned(),
        _ => origin,
    };
    (layers, origin)
}

fn inside(views: &[View<'_>], path: &[Cow<'_, str>]) -> (Vec<usize>, Option<Origin>) {
    let Some((name, rest)) = path.split_first() else {
        let mut composer = Composer::default();
        composer.compose_value(views, &mut String::new());
        let origin = match composer.origins.as_slice() {
            [only] if composer.layers.len() == 1 => Some(only.clone()),
            _ => None,
        };
        return (composer.layers.into_iter().collect(), origin);
    };
    match winning_views(views, &mut false) {
        WinningViews::Nothing => (Vec::new(), None),
        WinningViews::Tables(tables) => {
            let children = by_name(&tables).remove(&**name);
            inside(&children.unwrap_or_default(), rest)
        }
        WinningViews::Value(list) => inside_list(&[], list, key::list_index(name), rest),
        WinningViews::Items(tables, list) => {
            inside_list(&tables, list, key::list_index(name), rest)
        }
    }
}

fn inside_list(
    tables: &[View<'_>],
    list: View<'_>,
    index: Option<usize>,
    rest: &[Cow<'_, str>],
) -> (Vec<usize>, Option<Origin>) {
    let Some(index) = index else {
        return (Vec::new(), None);
    };
    let items = list.written().and_then(decode::items).unwrap_or_default();
    let mut views: Vec<View<'_>> = by_index(tables).by_index.remove(&index).unwrap_or_default();
    views.extend(items.get(index).map(|item| View {
        content: Content::Value(item, &[]),
        ..list
    }));
    inside(&views, rest)
}
