//! The keys whose values go into a value through its references: if that is a secret, they are too.

use std::collections::BTreeMap;

use crate::tree::interpolate::parse::{Part, Parts};
use crate::tree::interpolate::resolve::{Progress, Sight};
use crate::tree::interpolate::{Context, MAX_TOTAL};
use crate::tree::snapshot::{Found, Generation};
use crate::value::Value;
use crate::value::key::Key;
use crate::value::node::{Node, Resolved, Table};
use crate::value::secret::buffered::SecretKeys;

/// The keys that a value refers to.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    /// The keys whose values are a value as a whole.
    pub(crate) whole: Vec<Key>,
    /// The keys whose values are parts of a text, or stand in for a missing value.
    pub(crate) parts: Vec<Key>,
}

impl Sources {
    /// The sources of a value as it is written. The keys of conditions, and those that only the name of a key
    /// is made of, are none. `tree` tells the names that are computed.
    fn of(value: &Value, tree: Option<&Table>) -> Self {
        let mut sources = Self::default();
        sources.add(value, tree);
        sources
    }

    fn add(&mut self, value: &Value, tree: Option<&Table>) {
        if let Some(cases) = value.cases() {
            for (_, value) in cases {
                self.add(value, tree);
            }
            return;
        }
        match value {
            Value::Text(text) if value.may_refer() => {
                if let Ok(parts) = Parts::of(text, 0) {
                    self.add_parts(&parts, is_sole(&parts), tree);
                }
            }
            Value::List(items) => items.iter().for_each(|item| self.add(item, tree)),
            Value::Table(fields) => fields.values().for_each(|value| self.add(value, tree)),
            _ => {}
        }
    }

    fn add_parts(&mut self, parts: &Parts<'_>, is_whole: bool, tree: Option<&Table>) {
        for part in &parts.0 {
            let Part::Reference { key, default, .. } = part else {
                continue;
            };
            let name = match key.0.as_slice() {
                [Part::Text(name)] => Some((*name).to_owned()),
                _ => tree.and_then(|tree| computed(key, tree)),
            };
            let key = name.and_then(|name| Key::parse(name.trim()).ok());
            let keys = if is_whole {
                &mut self.whole
            } else {
                &mut self.parts
            };
            keys.extend(key.filter(|key| !key.is_root()));
            if let Some(default) = default {
                self.add_parts(default, false, tree);
            }
        }
    }

    /// The sources of what stands at a path inside a value with references.
    pub(crate) fn inside(resolved: &Resolved, path: &[String], tree: Option<&Table>) -> Self {
        let written = &resolved.raw.value;
        if let Some(part) = written.descend(path) {
            return Self::of(part, tree);
        }
        // The value is a reference to a list, or a text that spells one.
        let mut sources = Self::of(written, tree);
        let inside = |key: Key| match tree {
            Some(tree) => key_inside(key, path, tree),
            None => key,
        };
        if matches!(written, Value::Text(_)) {
            sources.whole = sources.whole.into_iter().map(inside).collect();
        } else {
            sources.parts.append(&mut sources.whole);
        }
        sources
    }

    /// The sources of all values at and below a place.
    fn at_and_below(node: &Node, tree: &Table) -> Self {
        let mut sources = Self::default();
        sources.add_node(node, tree);
        sources
    }

    fn add_node(&mut self, node: &Node, tree: &Table) {
        match node {
            Node::Resolved(resolved) => self.add(&resolved.raw.value, Some(tree)),
            Node::Table(table) if table.special() => {
                for entry in table.map().iter() {
                    self.add_node(&entry.node, tree);
                }
            }
            Node::Table(_) | Node::Leaf(_) => {}
        }
    }

    /// Adds them to keys of secrets: as secrets too, or as guesses.
    pub(crate) fn add_to(self, secrets: &mut SecretKeys, is_guess: bool) {
        let text = |key: Key| key.as_str().to_owned();
        let whole = self.whole.into_iter().map(text);
        if is_guess {
            secrets.possible.extend(whole);
        } else {
            secrets.certain.extend(whole);
        }
        secrets.possible.extend(self.parts.into_iter().map(text));
    }
}

/// Whether a text is one reference and nothing else.
fn is_sole(parts: &Parts<'_>) -> bool {
    matches!(parts.0.as_slice(), [Part::Reference { .. }])
}

/// The name of a key that references make up.
fn computed(name: &Parts<'_>, tree: &Table) -> Option<String> {
    let context = Context {
        secret: &|_| false,
        keeps_unresolved: false,
        layers: None,
    };
    let none = BTreeMap::new();
    let mut sight = Sight::new(&none, tree, context, Progress::default(), MAX_TOTAL);
    sight.text(name).ok()
}

/// The key of a part of another value, or of that value if it is a text that spells the part.
fn key_inside(whole: Key, path: &[String], tree: &Table) -> Key {
    let names = whole.segments().map(Into::into).chain(path.iter().cloned());
    let inside = Key::from_segments(names.collect::<Vec<String>>()).ok();
    let is_there =
        |key: &Key| Found::in_tree(tree, key.as_str()).is_ok_and(|found| !found.is_nothing());
    inside.filter(is_there).unwrap_or(whole)
}

impl Generation {
    /// Adds the keys whose values go into secrets: as secrets too if they are one as a whole, or else as
    /// guesses.
    pub(crate) fn add_sources(&self, secrets: &mut SecretKeys) {
        let (mut certain, mut possible) = (0, 0);
        loop {
            let is_guess = certain == secrets.certain.len();
            let (at, keys) = if is_guess {
                (&mut possible, &secrets.possible)
            } else {
                (&mut certain, &secrets.certain)
            };
            let Some(key) = keys.get(*at) else {
                return;
            };
            *at += 1;
            let mut sources = self.sources_of(key);
            let is_new = |key: &Key| {
                let mut known = secrets.certain.iter().chain(&secrets.possible);
                !known.any(|known| *known == key.as_str())
            };
            sources.whole.retain(is_new);
            sources.parts.retain(is_new);
            sources.add_to(secrets, is_guess);
        }
    }

    fn sources_of(&self, key: &str) -> Sources {
        match Found::in_tree(&self.root, key) {
            Ok(Found::Entry(entry)) => Sources::at_and_below(&entry.node, &self.root),
            // A text may spell the list that the key leads into.
            Ok(Found::Inside(..) | Found::Broken(_) | Found::Nothing) => self
                .resolved_above(key)
                .map(|(resolved, path)| Sources::inside(resolved, &path, Some(&self.root)))
                .unwrap_or_default(),
            Ok(Found::Root(_)) | Err(_) => Sources::default(),
        }
    }
}
