//! Layers: the position of a source in the order of precedence, and the values that it fills it with.

use std::cmp::Reverse;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use crate::error::{Error, ErrorKind};
use crate::value::key::{Key, under};
use crate::value::node::Table;

/// The rank of bootstrap layers: stronger than any other.
pub(crate) const BOOTSTRAP_RANK: i32 = i32::MAX;
/// The rank of the layer that [`Properties::set`](crate::Properties::set) writes to: stronger than any
/// but the bootstrap layers.
pub(crate) const OVERRIDE_RANK: i32 = BOOTSTRAP_RANK - 1;
/// The rank of the layer of defaults: weaker than any other.
pub(crate) const DEFAULTS_RANK: i32 = i32::MIN;

/// A name and a rank, which decides which layer wins.
///
/// The higher rank wins, and within one rank the source that was added later. Sources without a layer
/// all have the rank [`Layer::RANK`], so each overrides the ones before it.
///
/// Tables are merged key by key. A value replaces what weaker layers have at its key.
///
/// # Lists
///
/// A list replaces the lists of weaker layers, unless [`Builder::append`](crate::Builder::append) joins
/// them. A layer can also write items of a list by index, as `hosts.1`, or `HOSTS__1` in the
/// environment:
///
/// - An index overrides that item of the list of a weaker layer. Of an item that is a table, single
///   fields can be overridden: `hosts.1.port`. A text that spells a list, such as `a, b`, counts as one.
/// - An index equal to the number of items appends an item.
/// - An index past the end is ignored. The health of its source reports the item, and is not `Up`,
///   until the list reaches up to it: the weaker list may grow and shrink at any time.
///   [`Properties::set`](crate::Properties::set) of such an item is an error.
/// - An index is written without leading zeros. `hosts.01` over a list is no index: it is ignored and
///   reported under this name.
/// - Without a list in a weaker layer, the indexes form a table. It reads as a list if they are 0 to n
///   without a gap. Otherwise reading a list from it is an error that names the gap.
/// - Under [`Builder::append`](crate::Builder::append) the indexes form the list of their own layer,
///   which is joined with the others. An item after a gap is ignored and reported.
/// - A removal ([`Memory::unset`](crate::sources::Memory::unset), `null`) of an item is ignored and
///   reported, because the items after it would move.
///
/// # Names that mean the same
///
/// Two layers may use two names for one thing: two variants of an enum, such as `storage.s3` and
/// `storage.file`, or a field and its `#[serde(alias)]`. Then the name in the stronger layer counts.
///
/// - The tables of a field and its alias are merged value by value, as those of one name are.
/// - If one layer has two of the names, reading the type is an error that names both places, unless a
///   stronger layer decides.
/// - A removal under an alias removes the alias alone, since layers are merged before a type reads them.
///
/// ```
/// use liveprops::{Layer, Properties, sources::Memory};
///
/// let props = Properties::builder()
///     .source_in(Layer::new("emergency", 900), Memory::from([("limit", 1)]))
///     .source(Memory::from([("limit", 100)]))
///     .build()?;
/// assert_eq!(props.get::<u32>("limit")?, 1);
/// # Ok::<(), liveprops::Error>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Layer {
    name: Arc<str>,
    rank: i32,
}

impl Layer {
    /// The rank of a source that names no layer.
    pub const RANK: i32 = 500;

    /// Names a layer and its rank; the higher rank wins.
    ///
    /// The two highest and the lowest `i32` belong to the bootstrap sources, the override layer and the
    /// defaults. Each of these is replaced by the nearest rank that is allowed.
    pub fn new(name: impl AsRef<str>, rank: i32) -> Self {
        Self::with_any_rank(
            name.as_ref(),
            rank.clamp(DEFAULTS_RANK + 1, OVERRIDE_RANK - 1),
        )
    }

    pub(crate) fn with_any_rank(name: &str, rank: i32) -> Self {
        Self {
            name: name.into(),
            rank,
        }
    }

    /// Whether only the start of the program sets the values of this layer.
    pub(crate) fn is_bootstrap(&self) -> bool {
        self.rank == BOOTSTRAP_RANK
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The rank; the higher one wins.
    pub fn rank(&self) -> i32 {
        self.rank
    }

    /// The key that sorts sources from the strongest to the weakest. Ids grow, so a later source has a higher one.
    pub(crate) fn precedence(&self, source: SourceId) -> Reverse<(i32, SourceId)> {
        Reverse((self.rank, source))
    }
}

/// Identifies a source of one [`Properties`](crate::Properties) for as long as those live.
///
/// ```
/// use liveprops::{Properties, sources::Memory};
///
/// let props = Properties::builder().build()?;
/// let id = props.add_source(Memory::from([("qps", 100)]))?;
/// assert_eq!(props.health().sources[0].source, id);
/// # Ok::<(), liveprops::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SourceId(pub(crate) u64);

impl fmt::Display for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "source {}", self.0)
    }
}

/// The keys of secrets that a layer lacks because they are not written to disk.
pub(crate) type MissingSecrets = Arc<[Key]>;

/// One source's values at one generation.
#[derive(Clone, Debug)]
pub(crate) struct LayerState {
    pub(crate) id: SourceId,
    pub(crate) layer: Layer,
    /// The text of the source's origin.
    pub(crate) name: Arc<str>,
    pub(crate) root: Table,
    /// The generation that brought the newest change of this layer; 0 until there is one.
    pub(crate) generation: u64,
    /// When it did.
    pub(crate) time: SystemTime,
    /// When the values were last confirmed, if they were restored from disk.
    pub(crate) restored: Option<SystemTime>,
    /// The keys of the secrets that are missing since the values were restored: secrets are not written to disk.
    /// After the source was read in part, only those of the parts that it could not read.
    pub(crate) missing_secrets: MissingSecrets,
    /// Whether the values of the source contain no references: a text that looks like one is escaped.
    pub(crate) is_literal: bool,
}

impl LayerState {
    /// Whether a key, one below it or one above it has no value because secrets are not written to disk.
    pub(crate) fn lacks_secret(&self, key: &str) -> bool {
        let is_related = |secret: &Key| under(secret.as_str(), key) || under(key, secret.as_str());
        self.missing_secrets.iter().any(is_related)
    }

    /// The key that sorts layers from the strongest to the weakest.
    pub(crate) fn precedence(&self) -> Reverse<(i32, SourceId)> {
        self.layer.precedence(self.id)
    }
}

/// The hint that secrets are missing because they are not written to disk, if some are.
pub(crate) fn missing_secrets_hint(missing_secrets: &[Key]) -> Option<Error> {
    let first = missing_secrets.first()?;
    let count = missing_secrets.len();
    let detail = format!(
        "one of {count} that started without a value, as secrets are not kept on disk; see \
         `Cached::with_secrets`"
    );
    Some(Error::new(ErrorKind::NotFound, detail).with_key(first))
}

/// How many of the layers, sorted from the strongest, are bootstrap layers.
pub(crate) fn count_bootstrap(layers: &[Arc<LayerState>]) -> usize {
    layers
        .iter()
        .take_while(|state| state.layer.is_bootstrap())
        .count()
}
