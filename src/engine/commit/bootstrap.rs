//! The values that only the start of the program sets.

use std::sync::Arc;

use crate::engine::commit::pins::Pin;
use crate::engine::commit::rules::Rules;
use crate::error::{Error, ErrorKind};
use crate::tree::diff;
use crate::tree::interpolate::{self, ReferenceIndex};
use crate::tree::layer::{DEFAULTS_RANK, LayerState, count_bootstrap};
use crate::value::Value;
use crate::value::hamt::Entry;
use crate::value::key::{Key, push_segment};
use crate::value::node::{Node, Table};

/// Resolves the references of bootstrap layers for good, by the tree of all layers. Returns whether
/// there were any.
pub(super) fn fix_references(
    rules: &Rules,
    layers: &mut [Arc<LayerState>],
    (mut merged, mut referring): (Table, Vec<Key>),
    pin: Option<&Pin>,
) -> bool {
    let bootstrap = count_bootstrap(layers);
    let refers = |state: &Arc<LayerState>| state.root.special();
    if !layers[..bootstrap].iter().any(refers) {
        return false;
    }
    if let Some(pin) = pin {
        (merged, referring) = pin.tree_in_force(&merged, layers, &rules.append);
    }
    rules.follow(
        (&mut merged, referring),
        &Table::default(),
        &ReferenceIndex::default(),
        &mut Vec::new(),
        pin.is_none().then_some(&*layers),
    );
    for state in &mut layers[..bootstrap] {
        let root = &mut Arc::make_mut(state).root;
        rules.with_context(None, |context| interpolate::fix(root, &merged, context));
    }
    true
}

/// The path above another one at which a table has a value, and so no keys below.
pub(super) fn path_of_leaf_above<'p, S: AsRef<str>>(
    table: &Table,
    path: &'p [S],
) -> Option<&'p [S]> {
    let mut above = (1..path.len()).map(|length| &path[..length]);
    above.find(|above| {
        let entry = table.find(*above);
        entry.is_some_and(|entry| entry.node.table().is_none())
    })
}

/// Whether two tables have the same values as written.
pub(super) fn same_tables(a: &Table, b: &Table) -> bool {
    diff::same_as_written(&Node::Table(a.clone()), &Node::Table(b.clone()))
}

/// The error for a bootstrap source that changes after the start.
pub(super) fn late_change_error(name: &str) -> Error {
    let detail = "bootstrap sources cannot change after start-up; restart the program";
    Error::new(ErrorKind::Rejected, detail).with_source_name(name)
}

/// The error for a source that would get or lose the bootstrap rank.
pub(crate) fn reserved_rank_error(name: &str) -> Error {
    let detail =
        "the bootstrap rank is reserved for sources of `Builder::bootstrap`, which keep it";
    Error::new(ErrorKind::Rejected, detail).with_source_name(name)
}

/// The errors for values of a layer that are ignored, since a bootstrap layer has set their keys.
pub(super) fn ignored_values(
    layers: &[Arc<LayerState>],
    at: usize,
    only: Option<&[&Key]>,
) -> Vec<Error> {
    let mut errors = Vec::new();
    let layer = &layers[at];
    // A default is made to be overridden.
    if layer.layer.is_bootstrap() || layer.layer.rank() == DEFAULTS_RANK {
        return errors;
    }
    let set_at_start = layers.iter().filter(|state| state.layer.is_bootstrap());
    for bootstrap in set_at_start {
        let mut compare = |key: &str, entry: &Arc<Entry>| {
            let Ok(key) = Key::parse(key) else { return };
            let path: Vec<_> = key.segments().collect();
            let Some(own) = layer
                .root
                .find(&path)
                .or_else(|| tombstone_above(&layer.root, &path))
            else {
                return;
            };
            if diff::same_as_written(&own.node, &entry.node) {
                return;
            }
            let detail = format!(
                "is ignored: {} set it at the start; bootstrap values change only with a restart",
                bootstrap.name
            );
            let error = Error::new(ErrorKind::Rejected, detail).with_key(&key);
            let error = error.with_shareable_detail();
            errors.push(match own.node.origin() {
                Some(origin) => error.with_origin(origin),
                None => error,
            });
        };
        match only {
            None => bootstrap.root.walk(&mut String::new(), &mut compare),
            Some(keys) => keys
                .iter()
                .for_each(|key| walk_at_and_below(&bootstrap.root, key, &mut compare)),
        }
    }
    errors
}

/// The tombstone that hides a key from weaker layers. (A value hides it too, and is reported as a
/// clash.)
fn tombstone_above<'a, S: AsRef<str>>(table: &'a Table, path: &[S]) -> Option<&'a Arc<Entry>> {
    let above = path_of_leaf_above(table, path)?;
    let entry = table.find(above)?;
    (entry.node.written() == Some(&Value::Unset)).then_some(entry)
}

/// Rejects a write of the program that bootstrap values would leave without effect.
pub(super) fn reject_ineffective_write(layers: &[Arc<LayerState>], key: &Key) -> Result<(), Error> {
    let path: Vec<_> = key.segments().collect();
    for bootstrap in layers.iter().filter(|state| state.layer.is_bootstrap()) {
        let at = match (
            bootstrap.root.find(&path),
            path_of_leaf_above(&bootstrap.root, &path),
        ) {
            (Some(_), _) => key.clone(),
            (None, Some(above)) => Key::from_segments(above)?,
            (None, None) => continue,
        };
        let detail = format!(
            "would have no effect: {} set `{at}` at the start; bootstrap values change only with a restart",
            bootstrap.name
        );
        return Err(Error::new(ErrorKind::Rejected, detail).with_key(key));
    }
    Ok(())
}

/// Calls `f` with the leaves of a table at a key and below it, or with the value above that the key
/// leads into.
pub(super) fn walk_at_and_below(table: &Table, key: &Key, f: &mut dyn FnMut(&str, &Arc<Entry>)) {
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
