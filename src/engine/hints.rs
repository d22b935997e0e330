//! Keys that are set in place of missing ones, as hints in the health of their sources.

use crate::engine::core::Engine;
use crate::engine::health::Health;
use crate::error::{Error, ErrorKind};
use crate::schema::Schema;
use crate::tree::snapshot::Found;
use crate::value::key::Key;

/// As many declared keys are compared with those that are set.
const MAX_COMPARED: usize = 1_000;

impl Engine {
    /// Adds to the health of the sources the keys that are set in place of missing ones.
    pub(crate) fn add_hints(&self, health: &mut Health) {
        let now = self.current.full();
        let declared = self.rules.schema.iter().flat_map(Schema::keys);
        let mut missing = self.books.missing();
        for key in declared.take(MAX_COMPARED) {
            missing.entry(key.clone()).or_default();
        }
        for (missing, is_table) in missing {
            let same = now.spelled_otherwise(missing.as_str());
            let below = || is_table.then(|| now.spelled_below(missing.as_str()));
            let Some(spelled) = same.or_else(|| below().flatten()) else {
                continue;
            };
            let is_declared = |key: &Key| {
                let schema = self.rules.schema.as_ref();
                schema.is_some_and(|schema| schema.has(key.as_str()))
            };
            let found = Found::in_tree(&now.root, spelled.key.as_str());
            let layer = found.map(|found| now.winners(spelled.key.as_str(), found));
            let layer = layer.ok().and_then(|layers| layers.first().copied());
            let source = layer.map(|at| now.layers[at].id);
            let source = health
                .sources
                .iter_mut()
                .find(|health| Some(health.source) == source);
            if let Some(source) = source.filter(|_| !is_declared(&spelled.key)) {
                let detail = format!("no layer defines it; {}", spelled.advice());
                let hint = Error::new(ErrorKind::Missing, detail).with_key(&missing);
                source.hints.push(match &spelled.origin {
                    Some(origin) => hint.with_origin(origin),
                    None => hint,
                });
            }
        }
    }
}
