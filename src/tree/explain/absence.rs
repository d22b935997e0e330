//! Finds why a key is absent.

use std::sync::Arc;

use crate::tree::explain::Absence;
use crate::tree::snapshot::{Found, Generation};
use crate::value::Value;
use crate::value::hamt::Entry;
use crate::value::key::Key;
use crate::value::node::Table;

/// What a layer has at a key; of a key under a tombstone, the tombstone.
pub(super) fn layer_value_at<'a>(root: &'a Table, key: &str) -> Found<'a> {
    let found = Found::in_tree(root, key).unwrap_or(Found::Nothing);
    let tombstone = || {
        let (_, above) = leaf_above(root, key)?;
        (above.node.written() == Some(&Value::Unset)).then_some(above)
    };
    match found {
        Found::Nothing => tombstone().map_or(Found::Nothing, Found::Entry),
        found => found,
    }
}

/// The leaf of a layer that leaves no room for a key, and its key.
fn leaf_above<'a>(root: &'a Table, key: &str) -> Option<(Key, &'a Arc<Entry>)> {
    let key = Key::parse(key).ok()?;
    let path: Vec<_> = key.segments().collect();
    (1..path.len()).find_map(|length| {
        let entry = root.find(&path[..length])?;
        let above = Key::from_segments(&path[..length]).ok()?;
        entry.node.table().is_none().then_some((above, entry))
    })
}

/// Why a key is absent from the tree that the layers make, and the layer that is the reason.
pub(crate) fn absence(generation: &Generation, key: &str) -> (Absence, Option<usize>) {
    let in_force = Found::in_tree(&generation.root, key);
    let is_unset = in_force.is_ok_and(|found| found.reads_as_unset());
    for (at, layer) in generation.layers.iter().enumerate() {
        if layer.lacks_secret(key) {
            let source = layer.name.to_string();
            return (Absence::NotKept { source }, Some(at));
        }
        let here = match Found::in_tree(&layer.root, key) {
            Ok(Found::Entry(entry)) if entry.node.table().is_none() => {
                Key::parse(key).ok().map(|key| (key, entry, true))
            }
            Ok(Found::Nothing) => {
                leaf_above(&layer.root, key).map(|(above, entry)| (above, entry, false))
            }
            _ => None,
        };
        let Some((key, entry, is_at_key)) = here else {
            continue;
        };
        let Some((written, origin)) = entry.node.written().zip(entry.node.origin().cloned()) else {
            continue;
        };
        let reason = match (written, is_at_key) {
            (Value::Unset, _) => Absence::Unset { key, origin },
            // A case holds, and its value is none.
            (value, true) if is_unset && value.cases().is_some() => Absence::Unset { key, origin },
            (_, false) => Absence::Hidden { key, origin },
            (value, true) if value.cases().is_some() => Absence::NoCase { origin },
            (_, true) => Absence::Undefined,
        };
        return (reason, Some(at));
    }
    (Absence::Undefined, None)
}
