//! Why a key has the value it has.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use crate::error::{Error, MASK, Plain};
use crate::tree::diff;
use crate::tree::layer::SourceId;
use crate::tree::snapshot::{Found, Generation, Pinned};
use crate::value::Value;
use crate::value::hamt::Entry;
use crate::value::key::Key;
use crate::value::node::{Leaf, Node, Table};
use crate::value::origin::Origin;
use crate::value::secret;
use crate::value::units;

/// What every layer says about a key, which one wins, and what was refused; secrets are masked.
///
/// Its `Display` is a short table for a person, in which a value of more than 1,024 bytes is cut; the
/// fields here hold it whole:
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
    /// Why the key is absent, if it is; `None` also for a malformed key.
    pub absent: Option<Absence>,
    /// What to write instead, if no layer defines the key and one has a key that is spelled nearly like it.
    pub advice: Option<String>,
    /// All layers, the strongest first.
    pub layers: Vec<LayerView>,
    /// The generation that was rolled back to, if one was: then its value is in force, whatever the
    /// layers say.
    pub pinned: Option<Pinned>,
    /// What a restart would bring, if the key waits for one; see
    /// [`Builder::restart_required`](crate::Builder::restart_required).
    pub pending_restart: Option<LayerValue>,
    /// Updates of this key that were refused of late, with the reason.
    pub refused: Vec<Error>,
    /// Clashes of layers at this key, above or below it: a value in force hides one of a weaker layer.
    /// Nothing was refused.
    pub clashes: Vec<Error>,
}

/// Why a key is absent.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Absence {
    /// No layer defines it, or only a roll-back or the need of a restart keeps its value out.
    Undefined,
    /// A tombstone hides what weaker layers have.
    Unset {
        /// Where the tombstone stands: at the key or above it.
        key: Key,
        /// Where it was written.
        origin: Origin,
    },
    /// A value that stands further up hides what weaker layers have.
    Hidden {
        /// Where the value stands.
        key: Key,
        /// Where it was written.
        origin: Origin,
    },
    /// The key, or one below it, is a secret of a source that has not answered since the start, or not in
    /// full, and secrets are not kept on disk; see [`Cached::with_secrets`](crate::source::Cached::with_secrets).
    NotKept {
        /// The name of the source.
        source: String,
    },
    /// No case of a contextual value holds, and no weaker layer has a value.
    NoCase {
        /// Where the contextual value was written.
        origin: Origin,
    },
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
    pub says: LayerValue,
    /// Where that was written.
    pub origin: Option<Origin>,
    /// Whether this layer's value is the one in force, or a part of it: several layers win where
    /// lists are joined ([`Builder::append`](crate::Builder::append)). No layer wins with another
    /// value than the one in force, while a roll-back or the need of a restart keeps that.
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
pub enum LayerValue {
    /// Nothing.
    Nothing,
    /// A tombstone at the key or above it: the key is absent whatever lower layers say.
    Unset,
    /// A value, as it would be written.
    Value(String),
    /// A table of that many keys, which merges with those of other layers.
    Table(usize),
}

/// As many bytes of a value are printed.
const MOST_SHOWN: usize = 1_024;

/// The beginning of a long value and its length, or the value.
fn shortened(value: &str) -> Cow<'_, str> {
    if value.len() <= MOST_SHOWN {
        return Cow::Borrowed(value);
    }
    let ends = value.char_indices().map(|(at, _)| at);
    let end = ends.take_while(|at| *at <= MOST_SHOWN).last().unwrap_or(0);
    Cow::Owned(format!("{}… ({} bytes)", &value[..end], value.len()))
}

/// Writes values as texts, with secrets masked.
struct Texts<'g> {
    generation: &'g Generation,
    masks: bool,
    /// Whether somebody has said that the key, or one above it, is no secret.
    is_plain: bool,
}

impl Texts<'_> {
    fn text(&self, value: &Value) -> String {
        self.masked(value, self.masks)
    }

    fn masked(&self, value: &Value, masks: bool) -> String {
        let form_counts = !self.is_plain;
        if masks || secret::names_secret(value) || (form_counts && secret::holds_secret(value)) {
            MASK.to_owned()
        } else {
            value.to_string()
        }
    }

    /// The value of a layer whose source has no references, as the source wrote it.
    fn literal_value(&self, entry: &Arc<Entry>) -> (LayerValue, Option<Origin>) {
        let written = match (entry.node.written(), entry.node.origin()) {
            (Some(value), Some(origin)) => Leaf::new(value.clone().unescaped(), origin.clone()),
            _ => return self.layer_value(Found::Entry(entry)),
        };
        self.layer_value(Found::Entry(&Arc::new(Entry {
            name: entry.name.clone(),
            node: Node::Leaf(written),
        })))
    }

    /// The value of one layer at a key, and its origin.
    fn layer_value(&self, found: Found<'_>) -> (LayerValue, Option<Origin>) {
        let value = match found {
            Found::Nothing | Found::Broken(_) => LayerValue::Nothing,
            Found::Root(table) => LayerValue::Table(table.leaves()),
            Found::Inside(value, entry) => {
                let masks = self.masks || self.generation.derives_from_secret(entry);
                LayerValue::Value(self.masked(value, masks))
            }
            Found::Entry(entry) => match &entry.node {
                Node::Table(table) => LayerValue::Table(table.leaves()),
                node if node.written() == Some(&Value::Unset) => LayerValue::Unset,
                node => {
                    let text = node.written().map(|value| self.text(value));
                    LayerValue::Value(text.unwrap_or_default())
                }
            },
        };
        (value, found.origin().cloned())
    }
}

impl Explanation {
    pub(crate) fn of(generation: &Generation, key: &str) -> Self {
        let found = Found::in_tree(&generation.root, key);
        let in_force = found.as_ref().map_or(Found::Nothing, |found| *found);
        // A default in a reference to a secret is one as well.
        let show = Texts {
            generation,
            masks: generation.hides(key, in_force),
            is_plain: generation.secrets.form_is_plain(key),
        };
        let mut explanation = Self {
            key: key.to_owned(),
            generation: generation.number(),
            value: None,
            origin: generation.origin(key, in_force),
            broken: found.as_ref().err().cloned(),
            absent: None,
            advice: None,
            layers: Vec::new(),
            pinned: generation.stamp.pinned,
            pending_restart: pending(generation, key, in_force, &show),
            refused: Vec::new(),
            clashes: Vec::new(),
        };
        match in_force {
            Found::Entry(entry) => {
                explanation.value = diff::value(&entry.node).map(|value| show.text(value));
                explanation.broken = broken(generation, entry);
            }
            Found::Inside(value, _) => explanation.value = Some(show.text(value)),
            Found::Broken(entry) => explanation.broken = broken(generation, entry),
            Found::Nothing | Found::Root(_) => {}
        }
        let mut winners = generation.winners(key, in_force);
        let layers = generation.layers.iter();
        let shown = layers.map(|layer| {
            let found = layer_says(&layer.root, key);
            match (layer.is_literal, found) {
                (true, Found::Entry(entry)) => show.literal_value(entry),
                // What a bootstrap layer has reads as the source wrote it.
                (true, Found::Inside(value, entry)) if matches!(entry.node, Node::Leaf(_)) => {
                    let written = value.clone().unescaped();
                    show.layer_value(Found::Inside(&written, entry))
                }
                _ => show.layer_value(found),
            }
        });
        let shown: Vec<(LayerValue, Option<Origin>)> = shown.collect();
        if found.is_ok_and(|found| found.is_nothing()) {
            let (absent, by) = match explanation.is_up_to_the_layers() {
                true => absence(generation, key),
                false => (Absence::Undefined, None),
            };
            winners.extend(by.filter(|_| matches!(absent, Absence::Unset { .. })));
            if absent == Absence::Undefined && explanation.is_up_to_the_layers() {
                explanation.advice = generation.advice(key);
            }
            explanation.absent = Some(absent);
        }
        for (at, (layer, (says, origin))) in generation.layers.iter().zip(shown).enumerate() {
            explanation.layers.push(LayerView {
                source: layer.id,
                name: layer.name.to_string(),
                rank: layer.layer.rank(),
                wins: winners.contains(&at),
                says,
                origin,
                generation: layer.generation,
                time: layer.time,
                cached: layer.restored,
                location: None,
            });
        }
        explanation
    }

    /// Whether nothing keeps the values of the layers out.
    fn is_up_to_the_layers(&self) -> bool {
        self.pinned.is_none() && self.pending_restart.is_none()
    }
}

/// Why a leaf cannot be read.
fn broken(generation: &Generation, entry: &Entry) -> Option<Error> {
    match &entry.node {
        Node::Resolved(resolved) => {
            let error = resolved.value.as_ref().err()?;
            Some(generation.fault_of(error, resolved))
        }
        Node::Leaf(_) | Node::Table(_) => None,
    }
}

/// What a restart would bring, if the key waits for one.
fn pending(
    generation: &Generation,
    key: &str,
    in_force: Found<'_>,
    show: &Texts,
) -> Option<LayerValue> {
    let parsed = Key::parse(key).ok()?;
    let above = parsed.lineage();
    let (at, layered) = above
        .into_iter()
        .find_map(|key| generation.pending.get_key_value(key))?;
    let mut layers = Table::default();
    if let Some(entry) = layered {
        let path: Vec<_> = at.segments().collect();
        // There is nothing else in the table.
        let _ = layers.put_path(&path, entry.node.clone());
    }
    let waits = layer_says(&layers, key);
    if at.as_str() != parsed.as_str() && is_same(waits, in_force) {
        return None;
    }
    Some(show.layer_value(waits).0)
}

/// Whether two nodes have the same values as written.
fn is_same(a: Found<'_>, b: Found<'_>) -> bool {
    match (a, b) {
        (Found::Nothing, Found::Nothing) => true,
        (Found::Inside(a, _), Found::Inside(b, _)) => a == b,
        (Found::Entry(a), Found::Entry(b)) => diff::same_as_written(&a.node, &b.node),
        _ => false,
    }
}

/// What a layer has at a key; of a key under a tombstone, the tombstone.
fn layer_says<'a>(root: &'a Table, key: &str) -> Found<'a> {
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

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Plain(&self.key))?;
        match (&self.value, &self.broken) {
            (_, Some(error)) => write!(f, " cannot be read: {error}")?,
            (Some(value), None) => write!(f, " = {}", Plain(&shortened(value)))?,
            (None, None) => match &self.absent {
                Some(Absence::Unset { key, origin }) => {
                    write!(f, " is unset by {}", Plain(&origin.to_string()))?;
                    if key.as_str() != self.key {
                        write!(f, " at `{}`", Plain(key.as_str()))?;
                    }
                }
                Some(Absence::Hidden { key, origin }) => {
                    let origin = origin.to_string();
                    write!(f, " is hidden by the value of `{}`", Plain(key.as_str()))?;
                    write!(f, " ({})", Plain(&origin))?;
                }
                Some(Absence::NotKept { source }) => {
                    write!(f, " has no value until {} answers in full: ", Plain(source))?;
                    write!(
                        f,
                        "secrets are not kept on disk; see `Cached::with_secrets`"
                    )?;
                }
                Some(Absence::NoCase { origin }) => {
                    let origin = origin.to_string();
                    write!(
                        f,
                        " is absent: no case holds of the value ({})",
                        Plain(&origin)
                    )?;
                }
                Some(Absence::Undefined) if self.is_up_to_the_layers() => {
                    write!(f, " is missing: no layer defines it")?;
                    if let Some(advice) = &self.advice {
                        write!(f, "; {}", Plain(advice))?;
                    }
                }
                Some(Absence::Undefined) | None => write!(f, " has no value of its own")?,
            },
        }
        let width = self
            .layers
            .iter()
            .map(|layer| layer.name.len())
            .max()
            .unwrap_or(0);
        for layer in &self.layers {
            let says = match &layer.says {
                LayerValue::Nothing => "-".to_owned(),
                LayerValue::Unset => "unset".to_owned(),
                LayerValue::Value(value) => shortened(value).into_owned(),
                LayerValue::Table(keys) => format!("a table of {keys}"),
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
        let restart = match self.pinned {
            Some(_) => "a restart after the unpin",
            None => "a restart",
        };
        match &self.pending_restart {
            Some(LayerValue::Value(value)) => {
                write!(f, "\n  {restart} brings {}", Plain(&shortened(value)))?;
            }
            Some(LayerValue::Table(keys)) => write!(f, "\n  {restart} brings a table of {keys}")?,
            Some(LayerValue::Nothing | LayerValue::Unset) => {
                write!(f, "\n  {restart} takes it away")?
            }
            None => {}
        }
        if let Some(pinned) = self.pinned {
            write!(f, "\n  {pinned}; the layers wait until it is unpinned")?;
        }
        for refused in &self.refused {
            write!(f, "\n  refused: {refused}")?;
        }
        for clash in &self.clashes {
            write!(f, "\n  note: {clash}")?;
        }
        Ok(())
    }
}
