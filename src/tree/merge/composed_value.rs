//! Finds which layers have a part in a value that is a composed list, or is inside one.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::tree::items::{self, ComposedList};
use crate::tree::merge::{LayerTable, Winner, find_winner, joined_lists};
use crate::value::hamt::Entry;
use crate::value::key::{self, Key};
use crate::value::node::Table;
use crate::value::origin::Origin;

/// A value that is a composed list, or is inside one.
#[derive(Debug)]
pub(crate) struct ComposedValue {
    /// The whole list.
    pub(crate) list: Arc<Entry>,
    /// The layers that have a part in the value, the strongest first.
    pub(crate) layers: Vec<usize>,
    /// The origin of the value, if it has one.
    pub(crate) origin: Option<Origin>,
}

/// The value at a path, if that or a path above it has a composed list. `layers` are all layers, the strongest
/// first.
pub(crate) fn find_composed_value<S: AsRef<str>>(
    layers: &[&Table],
    append: &BTreeSet<Key>,
    bootstrap: usize,
    path: &[S],
) -> Option<ComposedValue> {
    let mut tables_here: Vec<LayerTable<'_>> = layers.iter().copied().enumerate().collect();
    let mut at = String::new();
    for (depth, name) in path.iter().enumerate() {
        let (name, inside) = (name.as_ref(), &path[depth + 1..]);
        key::push_segment(&mut at, name);
        if append.contains(at.as_str()) {
            let lists = joined_lists(&tables_here, bootstrap, name);
            if let Some(composed) = items::joined(&lists, &at) {
                return Some(value_in_joined(composed, &lists, inside));
            }
        }
        match find_winner(&tables_here, bootstrap, name).0 {
            Winner::Tables(tables) => {
                tables_here = tables
                    .into_iter()
                    .map(|(tables_here, _)| tables_here)
                    .collect()
            }
            Winner::Items(tables, (layer, list)) => {
                let composed = items::overlaid(&tables, (layer, list), &at)?;
                let (layers, origin) = if inside.is_empty() {
                    (composed.layers, composed.entry.node.origin().cloned())
                } else {
                    items::parts_inside(&tables, (layer, list.as_ref()), inside)
                };
                return Some(ComposedValue {
                    list: composed.entry,
                    layers,
                    origin,
                });
            }
            Winner::Nothing | Winner::Leaf(_) => return None,
        }
    }
    None
}

/// The value in a list that `append` joins.
fn value_in_joined<S: AsRef<str>>(
    composed: ComposedList,
    lists: &[(usize, &Arc<Entry>)],
    inside: &[S],
) -> ComposedValue {
    let layers = match inside.first() {
        None => composed.layers,
        // Only the items of the weakest layer that has one have the same number in its own list.
        Some(index) => {
            let index = index.as_ref().parse::<usize>().ok();
            let mut counts = lists
                .iter()
                .rev()
                .map(|(layer, list)| (*layer, items::own_count(list)));
            let weakest = counts.find(|(_, count)| *count > 0);
            let of_weakest = weakest.filter(|(_, count)| index.is_some_and(|index| index < *count));
            of_weakest.map(|(layer, _)| layer).into_iter().collect()
        }
    };
    ComposedValue {
        origin: composed.entry.node.origin().cloned(),
        list: composed.entry,
        layers,
    }
}
