//! Why a key has the value it has.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use crate::error::{Error, MASK, Plain};
use crate::tree::diff;
use crate::tree::layer::SourceId;
use crate::tree::snapshot::{Found, Generation, Pinned};
use crate::value::Value;
use crate::value::coerce;
use crate::value::node::{Node, Table};
use crate::value::origin::Origin;
use crate::value::units;

/// What every layer says about a key, which one wins, and what was refused; secrets are masked.
///
/// Its `Display` is a short table for a person:
///
/// ```text
/// ratelimit.qps = 500
///   > env CHECKOUT_                 "500"  env CHECKOUT_RATELIMIT__QPS
///     file config/checkout.toml     100    file config/checkout.toml:2:7
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Explanation {
    /// The key asked for.
    pub key: String,
    /// The generation this was true in.
    pub generation: u64,
    /// The value in force as it would be written, `None` if no layer defines the key.
    pub value: Option<String>,
    /// Where the value in force was written.
    pub origin: Option<Origin>,
    /// Why the key cannot be read, such as a reference that leads in a circle.
    pub broken: Option<Error>,
    /// All layers, the strongest first.
    pub layers: Vec<LayerView>,
    /// The generation that was rolled back to, if one was: then its value is in force, whatever the
    /// layers say.
    pub pinned: Option<Pinned>,
    /// Updates of this key that were refused of late, with the reason.
    pub refused: Vec<Error>,
}

/// What one layer says about a key.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LayerView {
    /// The source behind the layer.
    pub source: SourceId,
    /// The source's name, such as `file app.toml`.
    pub name: String,
    /// The layer's rank; the lower one wins.
    pub rank: i32,
    /// What the layer holds at the key, as it was written.
    pub says: Says,
    /// Where that was written.
    pub origin: Option<Origin>,
    /// Whether this layer's value is the one in force.
    pub wins: bool,
    /// The generation that brought the newest change of this layer.
    pub generation: u64,
    /// When that was.
    pub time: SystemTime,
    /// When the layer's values were last confirmed, if they are those that were kept on disk and
    /// the source has not answered since.
    pub cached: Option<SystemTime>,
    /// Where the source reads from, as
    /// [`SourceHealth::location`](crate::health::SourceHealth::location); `None` in the explanation
    /// of a snapshot.
    pub location: Option<Arc<str>>,
}

/// What a layer holds at a key.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Says {
    /// Nothing.
    Nothing,
    /// A tombstone: the key is absent whatever lower layers say.
    Unset,
    /// A value, as it would be written.
    Value(String),
    /// A table of that many keys, which merges with those of other layers.
    Table(usize),
}

impl Explanation {
    pub(crate) fn of(generation: &Generation, key: &str) -> Self {
        let hidden = generation.secrets.hides(key);
        let show = |value: &Value, hidden: bool| {
            if hidden || coerce::holds_secret(value) {
                MASK.to_owned()
            } else {
                value.to_string()
            }
        };
        let mut explanation = Self {
            key: key.to_owned(),
            generation: generation.number(),
            value: None,
            origin: None,
            broken: None,
            layers: Vec::new(),
            pinned: generation.stamp.pinned,
            refused: Vec::new(),
        };
        let mut decided = false;
        // A default in a reference to a secret is one as well.
        let mut derived = false;
        let found = Found::in_tree(&generation.root, key);
        let absent = found.as_ref().is_ok_and(Found::is_nothing);
        match found {
            Ok(Found::Entry(entry)) => {
                explanation.origin = entry.node.origin().cloned();
                derived = generation.derives_from_secret(entry);
                explanation.value =
                    diff::value(&entry.node).map(|value| show(value, hidden || derived));
                if let Node::Resolved(resolved) = &entry.node {
                    explanation.broken = resolved.value.as_ref().err().cloned();
                }
            }
            Ok(Found::Inside(value, entry)) => {
                derived = generation.derives_from_secret(entry);
                explanation.value = Some(show(value, hidden || derived));
                explanation.origin = entry.node.origin().cloned();
            }
            Ok(_) => {}
            Err(error) => explanation.broken = Some(error),
        }
        for layer in &generation.layers {
            let found = layer_says(&layer.root, key);
            let (says, origin) = match found {
                Found::Nothing => (Says::Nothing, None),
                Found::Root(table) => (Says::Table(table.leaves()), None),
                Found::Entry(entry) => match &entry.node {
                    Node::Table(table) => (Says::Table(table.leaves()), None),
                    Node::Leaf(leaf) if leaf.value == Value::Unset => {
                        (Says::Unset, Some(leaf.origin.clone()))
                    }
                    node => {
                        let text = diff::value(node).map(|value| show(value, hidden || derived));
                        (
                            Says::Value(text.unwrap_or_default()),
                            node.origin().cloned(),
                        )
                    }
                },
                Found::Inside(value, entry) => (
                    Says::Value(show(value, hidden || derived)),
                    entry.node.origin().cloned(),
                ),
            };
            let speaks = matches!(says, Says::Value(_) | Says::Unset);
            explanation.layers.push(LayerView {
                source: layer.id,
                name: layer.name.to_string(),
                rank: layer.layer.rank(),
                wins: match says {
                    // What a table of a stronger layer keeps in view is not absent.
                    Says::Unset => !decided && absent,
                    Says::Value(_) => !decided && explanation.origin == origin,
                    Says::Nothing | Says::Table(_) => false,
                },
                says,
                origin,
                generation: layer.generation,
                time: layer.time,
                cached: layer.kept,
                location: None,
            });
            decided |= speaks;
        }
        explanation
    }
}

fn layer_says<'a>(root: &'a Table, key: &str) -> Found<'a> {
    Found::in_tree(root, key).unwrap_or(Found::Nothing)
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Plain(&self.key))?;
        match (&self.value, &self.broken) {
            (_, Some(error)) => write!(f, " cannot be read: {error}")?,
            (Some(value), None) => write!(f, " = {}", Plain(value))?,
            (None, None) => write!(f, " has no value of its own")?,
        }
        let width = self
            .layers
            .iter()
            .map(|layer| layer.name.len())
            .max()
            .unwrap_or(0);
        for layer in &self.layers {
            let says = match &layer.says {
                Says::Nothing => "-".to_owned(),
                Says::Unset => "unset".to_owned(),
                Says::Value(value) => value.clone(),
                Says::Table(keys) => format!("a table of {keys}"),
            };
            let mark = if layer.wins { '>' } else { ' ' };
            let name = Plain(&layer.name).to_string();
            write!(f, "\n  {mark} {name:width$}  {}", Plain(&says))?;
            if let Some(origin) = &layer.origin {
                write!(f, "  ({})", Plain(&origin.to_string()))?;
            }
            if let Some(place) = &layer.location {
                write!(f, "  read from {}", Plain(place))?;
            }
            if let Some(confirmed) = layer.cached {
                let age = units::roughly(confirmed.elapsed().unwrap_or_default());
                write!(f, "  kept on disk, confirmed {age} ago")?;
            }
        }
        if let Some(pinned) = self.pinned {
            write!(f, "\n  {pinned}; the layers wait until it is unpinned")?;
        }
        for refused in &self.refused {
            write!(f, "\n  refused: {refused}")?;
        }
        Ok(())
    }
}
