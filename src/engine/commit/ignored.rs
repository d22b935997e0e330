//! List items that are not in force because of a gap: their lists have fewer items.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::error::Error;
use crate::tree::layer::{LayerState, SourceId};
use crate::tree::merge::Findings;
use crate::value::key::Key;

/// The ignored items of all layers. Each merge replaces those at and below the keys that it merged.
#[derive(Debug, Default)]
pub(crate) struct IgnoredItems(BTreeMap<Key, Vec<(SourceId, Error)>>);

impl IgnoredItems {
    /// Replaces the items at the keys that were merged. Returns all items if there is a difference.
    pub(crate) fn update(
        &mut self,
        findings: &Findings,
        layers: &[Arc<LayerState>],
    ) -> Option<Vec<(SourceId, Error)>> {
        if self.0.is_empty() && findings.ignored.is_empty() {
            return None;
        }
        let mut removed = BTreeMap::new();
        for key in &findings.merged_at {
            removed.extend(self.remove_under(key));
        }
        let mut found: BTreeMap<Key, Vec<(SourceId, Error)>> = BTreeMap::new();
        for item in &findings.ignored {
            let Some(layer) = layers.get(item.layer) else {
                continue;
            };
            let items = found.entry(item.key.clone()).or_default();
            // A list that was merged twice in one commit was found twice.
            if !items.iter().any(|(source, _)| *source == layer.id) {
                items.push((layer.id, item.error.clone()));
            }
        }
        let differs = !is_same(&removed, &found);
        self.0.extend(found);
        differs.then(|| self.0.values().flatten().cloned().collect())
    }

    /// Removes the items at and below a key.
    fn remove_under(&mut self, key: &str) -> Vec<(Key, Vec<(SourceId, Error)>)> {
        if key.is_empty() {
            return std::mem::take(&mut self.0).into_iter().collect();
        }
        // All keys below have a dot after the key, and `/` is the character after the dot.
        let (from, to) = (format!("{key}."), format!("{key}/"));
        let bounds = (Bound::Included(&*from), Bound::Excluded(&*to));
        let below = self.0.range::<str, _>(bounds).map(|(key, _)| key.clone());
        let mut keys: Vec<Key> = below.collect();
        keys.extend(Key::parse(key));
        let keys = keys.into_iter();
        keys.filter_map(|key| self.0.remove_entry(&key)).collect()
    }
}

fn is_same(
    before: &BTreeMap<Key, Vec<(SourceId, Error)>>,
    now: &BTreeMap<Key, Vec<(SourceId, Error)>>,
) -> bool {
    let text = |items: &BTreeMap<Key, Vec<(SourceId, Error)>>| -> Vec<(SourceId, String)> {
        let all = items.values().flatten();
        all.map(|(source, error)| (*source, error.to_string()))
            .collect()
    };
    text(before) == text(now)
}
