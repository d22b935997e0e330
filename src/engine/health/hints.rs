//! Hints in the health of sources: keys that are set in place of others, and references that look like
//! those of other tools.

use std::collections::BTreeSet;

use crate::engine::core::Engine;
use crate::engine::health::Health;
use crate::error::{Error, ErrorKind};
use crate::schema::Schema;
use crate::sorted::{SortedMap, SortedSet};
use crate::tree::layer::{LayerState, SourceId};
use crate::tree::similar_key::SimilarKey;
use crate::tree::snapshot::{Found, Generation};
use crate::value::key::Key;
use crate::value::node::Table;

/// As many keys of each kind are compared with those that are set.
const MAX_COMPARED: usize = 1_000;

impl Engine {
    /// Adds the hints that depend on all sources to the health of each.
    pub(crate) fn add_hints(&self, health: &mut Health) {
        let now = self.current.full();
        let read = self.health_registry.read_keys();
        self.add_hints_of_missing(&now, &read, health);
        self.add_hints_of_respelled(&now, &read, health);
        for (source, hint) in now.lookup_hints() {
            add(health, source, hint);
        }
    }

    /// Whether the keys of handles are to be recorded: a source may fail to set them.
    pub(crate) fn records_reads(&self) -> bool {
        let now = self.current.full();
        let records = self.check_process().is_ok() && now.layers.iter().any(|it| is_flat(it));
        records && self.health_registry.records_reads()
    }

    /// Whether the schema declares a key, or a handle reads it.
    fn is_known(&self, key: &Key, read: &BTreeSet<Key>) -> bool {
        let schema = self.rules.schema.as_ref();
        read.contains(key) || schema.is_some_and(|schema| schema.has(key.as_str()))
    }

    /// Names the keys that are set in place of missing ones: of declared keys, of handles and of the
    /// fields of bound structs.
    fn add_hints_of_missing(&self, now: &Generation, read: &BTreeSet<Key>, health: &mut Health) {
        let declared = self.rules.schema.iter().flat_map(Schema::keys);
        let wanted = declared.take(MAX_COMPARED).chain(read);
        let mut missing: SortedMap<Key, bool> = self.health_registry.missing();
        for key in wanted {
            missing.get_or_insert_with(key.clone(), || false);
        }
        let mut named = SortedSet::new();
        for (missing, is_table) in missing {
            let same = now.similar_key(missing.as_str());
            let below = || is_table.then(|| now.similar_key_below(missing.as_str()));
            let Some(similar) = same.or_else(|| below().flatten()) else {
                continue;
            };
            // A bound struct misses its table and its fields.
            let is_named = !named.insert((similar.key.clone(), similar.missing.clone()));
            if is_named || self.is_known(&similar.key, read) {
                continue;
            }
            if let Some(source) = source_of(now, &similar) {
                let detail = format!("no layer defines it; {}", similar.advice());
                let hint = Error::new(ErrorKind::NotFound, detail).with_key(&missing);
                let hint = match &similar.origin {
                    Some(origin) => hint.with_origin(origin),
                    None => hint,
                };
                add(health, source, hint);
            }
        }
    }

    /// Names the variables and arguments that override nothing, since another layer spells the key
    /// otherwise.
    fn add_hints_of_respelled(&self, now: &Generation, read: &BTreeSet<Key>, health: &mut Health) {
        for (at, layer) in now.layers.iter().enumerate() {
            if !is_flat(layer) {
                continue;
            }
            for key in leaves(&layer.root) {
                if self.is_known(&key, read) {
                    continue;
                }
                if let Some(similar) = now.similar_key_in_weaker_layer(at, &key) {
                    add(health, layer.id, similar.not_overridden());
                }
            }
        }
    }
}

/// Whether a layer is of variables or of arguments: their names are easily spelled otherwise than the keys
/// of documents.
fn is_flat(layer: &LayerState) -> bool {
    let kind = layer.name.split(' ').next();
    matches!(kind, Some("env" | "args"))
}

/// The source whose value is in force at the key that is set in place of another.
fn source_of(now: &Generation, similar: &SimilarKey) -> Option<SourceId> {
    let key = similar.key.as_str();
    let found = Found::in_tree(&now.root, key).ok()?;
    let layer = now.winners(key, found).first().copied()?;
    Some(now.layers[layer].id)
}

/// The first keys of a layer.
fn leaves(root: &Table) -> Vec<Key> {
    let mut keys = Vec::new();
    root.walk(&mut String::new(), &mut |key, _| {
        if keys.len() < MAX_COMPARED {
            keys.extend(Key::parse(key).ok());
        }
    });
    keys.sort();
    keys
}

fn add(health: &mut Health, source: SourceId, hint: Error) {
    let mut sources = health.sources.iter_mut();
    if let Some(source) = sources.find(|health| health.source == source) {
        source.hints.push(hint);
    }
}
