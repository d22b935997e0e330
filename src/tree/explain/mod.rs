//! Explains the value of a key: the value in each layer, the winner and the rejected values.

mod absence;
mod display;

use std::sync::Arc;
use std::time::SystemTime;

use crate::error::{Error, MASK};
use crate::tree::diff;
use crate::tree::layer::{LayerState, SourceId};
use crate::tree::snapshot::{Found, Generation, Pinned};
use crate::value::Value;
use crate::value::hamt::Entry;
use crate::value::key::Key;
use crate::value::node::{Leaf, Node, Table};
use crate::value::origin::Origin;
use crate::value::secret;

pub(crate) use absence::absence;
use absence::layer_value_at;

/// The value of a key in every layer, which layer wins, and which values were rejected; secrets are
/// masked.
///
/// Its `Display` is a short table for a person, in which a value of more than 1,024 bytes is cut. The
/// fields hold the whole value.
///
/// ```
/// use liveprops::{Properties, sources::Memory};
///
/// let props = Properties::builder()
///     .source(Memory::from([("qps", 100)]))
///     .source(Memory::from([("qps", 500)]))
///     .build()?;
/// let explanation = props.explain("qps");
/// assert_eq!(explanation.value.as_deref(), Some("500"));
/// let winner = explanation.layers.iter().find(|layer| layer.wins).unwrap();
/// assert_eq!((winner.name.as_str(), winner.rank), ("memory", 500));
/// assert!(explanation.to_string().starts_with("qps = 500\n"));
/// let malformed = props.explain("a..b").to_string();
/// assert!(malformed.contains("not a valid key: a segment between two dots is empty"));
/// # Ok::<(), liveprops::Error>(())
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
    /// Why the key cannot be read, such as a reference that leads in a circle. For a malformed key this
    /// is the one field with content, with [`ErrorKind::InvalidKey`](crate::ErrorKind::InvalidKey) or
    /// [`ErrorKind::TooLarge`](crate::ErrorKind::TooLarge).
    pub broken: Option<Error>,
    /// Why the key is absent, if it is; `None` also for a malformed key.
    pub absent: Option<Absence>,
    /// What to write instead, if no layer defines the key and one has a key with a similar spelling.
    pub advice: Option<String>,
    /// All layers, the strongest first; none for a malformed key.
    pub layers: Vec<LayerView>,
    /// The generation that was rolled back to, if one was: then its value is in force, whatever the
    /// layers say.
    pub pinned: Option<Pinned>,
    /// What a restart would bring, if the key waits for one; see
    /// [`Builder::restart_required`](crate::Builder::restart_required).
    pub pending_restart: Option<LayerValue>,
    /// Recently rejected updates of this key, with the reason.
    pub rejected: Vec<Error>,
    /// Clashes of layers at this key, above or below it: a value in force hides one of a weaker layer.
    /// The clash rejects nothing.
    pub clashes: Vec<Error>,
}

/// Why a key is absent.
///
/// ```
/// use liveprops::{Properties, explain::Absence, sources::Memory};
///
/// let memory = Memory::from([("qps", 1)]);
/// memory.unset("qps")?;
/// let props = Properties::builder().source(memory).build()?;
/// assert!(matches!(props.explain("qps").absent, Some(Absence::Unset { .. })));
/// assert_eq!(props.explain("burst").absent, Some(Absence::Undefined));
/// # Ok::<(), liveprops::Error>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Absence {
    /// No layer defines it, or only a roll-back or the need of a restart keeps its value out.
    Undefined,
    /// A tombstone hides what weaker layers have.
    Unset {
        /// The key of the tombstone: the key itself or one above it.
        key: Key,
        /// Where it was written.
        origin: Origin,
    },
    /// A value at a key above hides what weaker layers have.
    Hidden {
        /// The key of that value.
        key: Key,
        /// Where it was written.
        origin: Origin,
    },
    /// The key, or one below it, is a secret of a source that has not answered since the start, or not in full, and
    /// secrets are not kept on disk; see [`Cached::with_secrets`](crate::source::Cached::with_secrets).
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

/// One layer in an [`Explanation`].
///
/// ```
/// use liveprops::{Properties, explain::LayerValue, sources::Memory};
///
/// let props = Properties::builder().source(Memory::from([("qps", 100)])).build()?;
/// let explanation = props.explain("qps");
/// let layer = &explanation.layers[1]; // below the override layer
/// assert_eq!((layer.name.as_str(), layer.wins), ("memory", true));
/// assert_eq!(layer.value, LayerValue::Value("100".to_owned()));
/// # Ok::<(), liveprops::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LayerView {
    /// The source behind the layer.
    pub source: SourceId,
    /// The source's name, such as `file app.toml`.
    pub name: String,
    /// The layer's rank; the higher one wins.
    pub rank: i32,
    /// The value of the layer at the key, as it was written.
    pub value: LayerValue,
    /// Where that was written.
    pub origin: Option<Origin>,
    /// Whether this layer's value is the one in force, or a part of it: several layers win at a
    /// [composed list](crate::guide::conversions#composed-lists). No layer wins with another value than
    /// the one in force, while a roll-back or the need of a restart keeps that.
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

/// The value of a layer at a key.
///
/// ```
/// use liveprops::{Properties, explain::LayerValue, sources::Memory};
///
/// let props = Properties::builder().source(Memory::from([("http.port", 80)])).build()?;
/// assert_eq!(props.explain("http").layers[1].value, LayerValue::Table(1));
/// assert_eq!(props.explain("none").layers[1].value, LayerValue::Nothing);
/// # Ok::<(), liveprops::Error>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum LayerValue {
    /// Nothing.
    Nothing,
    /// A tombstone at the key or above it: the key is absent whatever lower layers have.
    Unset,
    /// A value, as it would be written.
    Value(String),
    /// A table of that many keys, which merges with those of other layers.
    Table(usize),
}

/// Writes values as texts, with secrets masked.
struct MaskedTexts<'g> {
    generation: &'g Generation,
    masks: bool,
    /// Whether the builder was given the key, or one above it, as not secret.
    is_plain: bool,
}

impl MaskedTexts<'_> {
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

    /// The value of a layer at a key, and its origin.
    fn layer_value(&self, layer: &LayerState, key: &str) -> (LayerValue, Option<Origin>) {
        let found = layer_value_at(&layer.root, key);
        match found {
            Found::Entry(entry) if layer.is_literal => {
                let written = entry.node.written().zip(entry.node.origin());
                let Some((value, origin)) = written else {
                    return self.found_value(found);
                };
                let name = entry.name.clone();
                let node = Node::Leaf(Leaf::new(value.clone().unescaped(), origin.clone()));
                self.found_value(Found::Entry(&Arc::new(Entry { name, node })))
            }
            // What a bootstrap layer has reads as the source wrote it.
            Found::Inside(value, entry)
                if layer.is_literal && matches!(entry.node, Node::Leaf(_)) =>
            {
                let written = value.clone().unescaped();
                self.found_value(Found::Inside(&written, entry))
            }
            _ => self.found_value(found),
        }
    }

    /// A value that was found in a tree, and its origin.
    fn found_value(&self, found: Found<'_>) -> (LayerValue, Option<Origin>) {
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
    /// The explanation of a malformed key, which no layer can have.
    pub(crate) fn of_malformed(generation: &Generation, key: &str, error: Error) -> Self {
        Self {
            // It may be a value by mistake, such as an address with a password.
            key: secret::mask_text(key),
            generation: generation.number(),
            value: None,
            origin: None,
            broken: Some(error),
            absent: None,
            advice: None,
            layers: Vec::new(),
            pinned: generation.stamp.pinned,
            pending_restart: None,
            rejected: Vec::new(),
            clashes: Vec::new(),
        }
    }

    pub(crate) fn of(generation: &Generation, key: &str) -> Self {
        let found = Key::parse(key).and_then(|_| Found::in_tree(&generation.root, key));
        let in_force = match found {
            Ok(found) => found,
            Err(error) => return Self::of_malformed(generation, key, error),
        };
        // A default in a reference to a secret is one as well.
        let texts = MaskedTexts {
            generation,
            masks: generation.hides(key, in_force),
            is_plain: generation.secrets.form_is_plain(key),
        };
        let (value, broken) = match in_force {
            Found::Entry(entry) => (
                diff::value(&entry.node).map(|value| texts.text(value)),
                broken(generation, entry),
            ),
            Found::Inside(value, _) => (Some(texts.text(value)), None),
            Found::Broken(entry) => (None, broken(generation, entry)),
            Found::Nothing | Found::Root(_) => (None, None),
        };
        let mut explanation = Self {
            key: key.to_owned(),
            generation: generation.number(),
            value,
            origin: generation.origin(key, in_force),
            broken,
            absent: None,
            advice: None,
            layers: Vec::new(),
            pinned: generation.stamp.pinned,
            pending_restart: pending(generation, key, in_force, &texts),
            rejected: Vec::new(),
            clashes: Vec::new(),
        };
        let mut winners = generation.winners(key, in_force);
        if in_force.is_nothing() {
            winners.extend(explanation.explain_absence(generation, key));
        }
        let layers = generation.layers.iter().enumerate();
        let view = |(at, layer): (usize, &Arc<LayerState>)| {
            let (value, origin) = texts.layer_value(layer, key);
            LayerView {
                source: layer.id,
                name: layer.name.to_string(),
                rank: layer.layer.rank(),
                wins: winners.contains(&at),
                value,
                origin,
                generation: layer.generation,
                time: layer.time,
                cached: layer.restored,
                location: None,
            }
        };
        explanation.layers = layers.map(view).collect();
        explanation
    }

    /// Sets why the key is absent; returns the layer that unsets it.
    fn explain_absence(&mut self, generation: &Generation, key: &str) -> Option<usize> {
        let (absent, layer) = if self.is_decided_by_layers() {
            absence(generation, key)
        } else {
            (Absence::Undefined, None)
        };
        if absent == Absence::Undefined && self.is_decided_by_layers() {
            self.advice = generation.advice(key);
        }
        let layer = layer.filter(|_| matches!(absent, Absence::Unset { .. }));
        self.absent = Some(absent);
        layer
    }

    /// Whether the layers decide the value: no roll-back and no pending restart keeps another one in force.
    fn is_decided_by_layers(&self) -> bool {
        self.pinned.is_none() && self.pending_restart.is_none()
    }
}

/// Why a leaf cannot be read.
fn broken(generation: &Generation, entry: &Entry) -> Option<Error> {
    match &entry.node {
        Node::Resolved(resolved) => {
            let error = resolved.value.as_ref().err()?;
            Some(generation.shown_error(error, resolved))
        }
        Node::Leaf(_) | Node::Table(_) => None,
    }
}

/// What a restart would bring, if the key waits for one.
fn pending(
    generation: &Generation,
    key: &str,
    in_force: Found<'_>,
    texts: &MaskedTexts<'_>,
) -> Option<LayerValue> {
    let parsed = Key::parse(key).ok()?;
    let above = parsed.lineage();
    let (at, layered) = above
        .into_iter()
        .find_map(|key| generation.pending_restarts.get_key_value(key))?;
    let mut layers = Table::default();
    if let Some(entry) = layered {
        let path: Vec<_> = at.segments().collect();
        // There is nothing else in the table.
        let _ = layers.put_path(&path, entry.node.clone());
    }
    let pending = layer_value_at(&layers, key);
    if at.as_str() != parsed.as_str() && is_same(pending, in_force) {
        return None;
    }
    Some(texts.found_value(pending).0)
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
