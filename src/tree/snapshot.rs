//! The merged tree of one generation, and how a key is found in it.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use serde::de::DeserializeOwned;

use crate::decode::{self, Mask, Places};
use crate::error::{Error, ErrorKind, MASK};
use crate::tree::change::{self, KeyChange};
use crate::tree::diff;
use crate::tree::explain::Explanation;
use crate::tree::layer::{self, LayerState};
use crate::tree::merge::{self, SharedList};
use crate::tree::quoted::Quotable;
use crate::tree::usage::Usage;
use crate::value::Value;
use crate::value::hamt::Entry;
use crate::value::key::{self, Key};
use crate::value::node::{InsideBroken, Leaf, Node, Resolved, Table};
use crate::value::origin::Origin;
use crate::value::plain::plain;
use crate::value::scan::Seed;
use crate::value::secret::Secrets;
use crate::value::units;

/// All keys of one generation: a view that never changes and costs nothing to keep but memory.
///
/// Reading through a snapshot gives many keys from one commit; reading by name from the
/// [`Properties`](crate::Properties) gives each key as of now.
///
/// ```
/// use liveprops::{Properties, sources::Memory};
///
/// let memory = Memory::from([("range.min", 1), ("range.max", 9)]);
/// let props = Properties::builder().source(memory.clone()).build()?;
/// let view = props.snapshot();
/// memory.set("range.max", 100)?;
/// assert_eq!(view.get::<u32>("range.max")?, 9);
/// assert_eq!(props.get::<u32>("range.max")?, 100);
/// # Ok::<(), liveprops::Error>(())
/// ```
#[derive(Clone)]
pub struct Snapshot(pub(crate) Arc<Generation>);

/// Which generation something belongs to; one for all the values that a commit brings.
pub(crate) struct Stamp {
    pub(crate) number: u64,
    pub(crate) time: SystemTime,
    /// The names of the layers, the strongest first.
    pub(crate) layers: Arc<[Arc<str>]>,
    /// The generation whose tree this is, if it was rolled back to.
    pub(crate) pinned: Option<Pinned>,
}

/// What was rolled back to; see [`Properties::rollback_to`](crate::Properties::rollback_to).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Pinned {
    /// The generation.
    pub generation: u64,
    /// Since when it has been in force again.
    pub since: SystemTime,
    /// Whether a run of the program before this one rolled back: then the number of the generation
    /// is one of that run.
    pub by_earlier_run: bool,
}

impl fmt::Display for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let age = units::roughly(self.since.elapsed().unwrap_or_default());
        let run = match self.by_earlier_run {
            true => " of an earlier run",
            false => "",
        };
        write!(
            f,
            "rolled back to generation {}{run}, {age} ago",
            self.generation
        )
    }
}

/// The keys that wait for a restart, each with its node in the merged layers; `None` if it is absent
/// there.
pub(crate) type Pending = BTreeMap<Key, Option<Arc<Entry>>>;

/// What one commit published.
#[derive(Clone)]
pub(crate) struct Generation {
    pub(crate) stamp: Arc<Stamp>,
    pub(crate) root: Table,
    pub(crate) pending: Arc<Pending>,
    /// The keys whose lists are joined over all layers.
    pub(crate) append: Arc<BTreeSet<Key>>,
    /// What is read by the short way: the root, or nothing where each read is noted. That spares
    /// reading a branch, which costs nine instructions.
    pub(crate) at_hand: Table,
    /// The strongest first.
    pub(crate) layers: Vec<Arc<LayerState>>,
    pub(crate) secrets: Secrets,
    /// The secrets that words of user code may quote.
    pub(crate) quotable: Quotable,
    pub(crate) seed: Seed,
    /// Who notes what is read, if somebody wants to know.
    pub(crate) usage: Option<Arc<Usage>>,
}

/// What stands at a key.
#[derive(Clone, Copy)]
pub(crate) enum Found<'a> {
    Nothing,
    Root(&'a Table),
    Entry(&'a Arc<Entry>),
    /// Inside a list: the value, and the leaf that holds it.
    Inside(&'a Value, &'a Arc<Entry>),
    /// Inside a leaf whose reference is broken.
    Broken(&'a Arc<Entry>),
}

impl<'a> Found<'a> {
    pub(crate) fn in_tree(root: &'a Table, key: &str) -> Result<Self, Error> {
        // Most keys are plain and there.
        if let Some(entry) = root.find_bare(key, Seed::get()) {
            return Ok(Found::Entry(entry));
        }
        let mut table = root;
        let mut segments = key::segments(key);
        let Some(first) = segments.next() else {
            return Ok(Found::Root(root));
        };
        let mut name = first?;
        loop {
            let Some(entry) = table.get(&name) else {
                // The rest of the key must be well formed all the same.
                return segments
                    .find_map(Result::err)
                    .map_or(Ok(Found::Nothing), Err);
            };
            let Some(next) = segments.next() else {
                return Ok(Found::Entry(entry));
            };
            name = next?;
            match &entry.node {
                Node::Table(below) => table = below,
                leaf => {
                    let mut rest = vec![name];
                    for segment in segments {
                        rest.push(segment?);
                    }
                    if let Node::Resolved(resolved) = leaf {
                        if resolved.value.is_err() {
                            return Ok(match resolved.inside_broken(&rest) {
                                InsideBroken::Value(value) => Found::Inside(value, entry),
                                InsideBroken::Broken => Found::Broken(entry),
                                InsideBroken::Nothing => Found::Nothing,
                            });
                        }
                    }
                    let value = diff::value(leaf);
                    let inside = value.and_then(|value| value.descend(&rest));
                    return Ok(inside.map_or(Found::Nothing, |value| Found::Inside(value, entry)));
                }
            }
        }
    }

    pub(crate) fn is_nothing(&self) -> bool {
        matches!(self, Found::Nothing)
    }

    /// Whether a tombstone stands here.
    pub(crate) fn is_unset(&self) -> bool {
        matches!(self, Found::Entry(entry) if entry.node.written() == Some(&Value::Unset))
    }

    /// Whether what stands here is no value, by a tombstone or by a reference to nothing.
    pub(crate) fn reads_as_unset(&self) -> bool {
        matches!(self, Found::Entry(entry) if diff::value(&entry.node) == Some(&Value::Unset))
    }

    pub(crate) fn origin(&self) -> Option<&'a Origin> {
        self.leaf().and_then(|entry| entry.node.origin())
    }

    /// The leaf that the value stands in; a table has none.
    pub(crate) fn leaf(&self) -> Option<&'a Arc<Entry>> {
        match self {
            Found::Entry(entry) | Found::Inside(_, entry) | Found::Broken(entry) => {
                entry.node.table().is_none().then_some(*entry)
            }
            Found::Nothing | Found::Root(_) => None,
        }
    }

    /// The value for a message; `None` for a table.
    pub(crate) fn shown(&self, masked: bool) -> Option<String> {
        let (value, derived) = match self {
            Found::Nothing | Found::Root(_) | Found::Broken(..) => return None,
            Found::Entry(entry) => (diff::value(&entry.node)?, entry),
            Found::Inside(value, entry) => (*value, entry),
        };
        let secret = matches!(&derived.node, Node::Resolved(r) if r.secret);
        Some(decode::shown(value, masked || secret))
    }

    /// The value by the short way, for a key that is not plain itself.
    fn plain<T: 'static>(&self) -> Option<T> {
        match self {
            Found::Entry(entry) => plain(diff::value(&entry.node)?),
            Found::Inside(value, _) => plain(value),
            Found::Nothing | Found::Root(_) | Found::Broken(..) => None,
        }
    }

    pub(crate) fn decode<T: DeserializeOwned>(
        &self,
        key: &str,
        mut mask: Mask<'_>,
    ) -> Result<T, Error> {
        match self {
            Found::Nothing => decode::from_node(key, None, mask),
            Found::Root(table) => decode::from_table(key, Some(table), mask),
            Found::Entry(entry) => decode::from_node(key, Some(&entry.node), mask),
            Found::Broken(entry) => {
                let error = decode::from_node::<T>(key, Some(&entry.node), mask).err();
                Err(error.unwrap_or_else(|| Error::new(ErrorKind::Reference, "cannot be read")))
            }
            Found::Inside(value, entry) => {
                mask.all |= matches!(&entry.node, Node::Resolved(r) if r.secret);
                let nowhere = Origin::new("", "");
                let origin = entry.node.origin().unwrap_or(&nowhere);
                let decode = |origin: &Origin| decode::from_value(key, value, origin, mask);
                decode(origin).or_else(|error| match item_origin(key, entry) {
                    Some(item) => decode(&item),
                    None => Err(error),
                })
            }
        }
    }

    /// As [`decode`](Self::decode) without a mask, and adds the keys that were read as a secret.
    fn decode_noting<T: DeserializeOwned>(
        &self,
        key: &str,
        secrets: &mut Places,
    ) -> Result<T, Error> {
        match self {
            Found::Nothing => decode::from_node_noting(key, None, false, secrets),
            Found::Root(table) => decode::from_table_noting(key, Some(table), false, secrets),
            Found::Entry(entry) => decode::from_node_noting(key, Some(&entry.node), false, secrets),
            Found::Broken(_) => self.decode(key, false.into()),
            Found::Inside(value, entry) => {
                let nowhere = Origin::new("", "");
                let origin = entry.node.origin().unwrap_or(&nowhere);
                decode::from_value_noting(key, value, origin, false, secrets)
            }
        }
    }
}

/// Where the item of a list was written that stands at a key, below the leaf that is the list.
#[cold]
fn item_origin(key: &str, leaf: &Entry) -> Option<Origin> {
    let Some(Value::List(items)) = diff::value(&leaf.node) else {
        return None;
    };
    let origin = leaf.node.origin()?;
    let path: Vec<String> = key::segments(key)
        .map_while(Result::ok)
        .map(Cow::into_owned)
        .collect();
    // The name of the leaf says how much of the key leads to it: the first path that is in the list.
    (1..path.len())
        .filter(|end| path[end - 1] == *leaf.name)
        .find_map(|end| origin.of_item(items, &path[end..]))
}

/// Said about a reference to a secret that is missing after a start from the cache.
const NOT_KEPT: &str = "the key has no value until its source answers, as secrets are not kept on disk; \
                        see `Cached::with_secrets`";

impl Generation {
    /// What is to be read by the short way of a tree.
    pub(crate) fn short_way(root: &Table, usage: Option<&Arc<Usage>>) -> Table {
        match usage {
            Some(_) => Table::default(),
            None => root.clone(),
        }
    }

    pub(crate) fn number(&self) -> u64 {
        self.stamp.number
    }

    /// Decodes again, for an error that shows nothing of what is known to be secret by now.
    fn decode_masked<T: DeserializeOwned>(&self, key: &str, found: Found<'_>) -> Result<T, Error> {
        let mut mask = self.mask(key, found);
        if let Some(Node::Resolved(resolved)) = found.leaf().map(|entry| &entry.node) {
            if resolved.value.is_err() {
                // Nothing of a secret went into the value, since there is none.
                mask.all = self.secrets.hides(key);
            }
        }
        let shown = |error: &Error, resolved: &Resolved| self.fault_of(error, resolved);
        let marked = |node: &Node| {
            node.map_resolved(&|resolved| {
                let mut marked = resolved.clone();
                marked.secret = self.refers_to_secret(resolved);
                marked.value = marked.value.map_err(|error| shown(&error, resolved));
                Node::Resolved(Box::new(marked))
            })
        };
        match found {
            Found::Root(table) => match marked(&Node::Table(table.clone())) {
                Node::Table(table) => decode::from_table(key, Some(&table), mask),
                node => decode::from_node(key, Some(&node), mask),
            },
            Found::Entry(entry) => decode::from_node(key, Some(&marked(&entry.node)), mask),
            Found::Broken(entry) => {
                let (name, node) = (entry.name.clone(), marked(&entry.node));
                Found::Broken(&Arc::new(Entry { name, node })).decode(key, mask)
            }
            found => found.decode(key, mask),
        }
    }

    /// Why a leaf cannot be read, to be shown. What looks like an unresolved reference may be a part
    /// of a secret: of the leaf, or of one that it gets its error from.
    pub(crate) fn fault_of(&self, error: &Error, resolved: &Resolved) -> Error {
        let hides = error.is_unresolved() && self.breaks_through_secret(error, resolved);
        let masked = hides.then(|| error.without(&|_| true)).flatten();
        let shown = masked.unwrap_or_else(|| error.clone());
        let is_not_kept = |key: &Key| {
            let found = Found::in_tree(&self.root, key.as_str());
            found.is_ok_and(|found| found.is_nothing())
                && self
                    .layers
                    .iter()
                    .any(|layer| layer.lacks_secret(key.as_str()))
        };
        if error.is_unresolved() && resolved.refers.iter().any(is_not_kept) {
            return shown.with_note(NOT_KEPT);
        }
        shown
    }

    /// Whether a leaf whose references are broken, or one with a broken reference that it refers to,
    /// may hold a secret.
    fn breaks_through_secret(&self, error: &Error, resolved: &Resolved) -> bool {
        let mut seen: BTreeSet<&Key> = BTreeSet::new();
        let mut queue = vec![(error, resolved)];
        while let Some((error, resolved)) = queue.pop() {
            if error.key_text().is_some_and(|key| self.secrets.hides(key)) {
                return true;
            }
            for key in resolved.refers.iter().filter(|key| seen.insert(key)) {
                let next = match Found::in_tree(&self.root, key.as_str()) {
                    Ok(Found::Entry(next) | Found::Inside(_, next) | Found::Broken(next)) => next,
                    Ok(Found::Nothing | Found::Root(_)) | Err(_) => continue,
                };
                if let Node::Resolved(next) = &next.node {
                    queue.extend(next.value.as_ref().err().map(|error| (error, &**next)));
                }
            }
        }
        false
    }

    /// What an error about a key does not show: all of it if the key is secret, and what is secret
    /// below it.
    pub(crate) fn mask(&self, key: &str, found: Found<'_>) -> Mask<'_> {
        let entry = match found {
            Found::Entry(entry) | Found::Inside(_, entry) | Found::Broken(entry) => Some(entry),
            Found::Nothing | Found::Root(_) => None,
        };
        let derived = entry.is_some_and(|entry| self.derives_from_secret(entry));
        Mask {
            all: derived || self.secrets.is_secret(key),
            secrets: Some(&self.secrets),
        }
    }

    /// Decodes what stands at a key, and from now on hides what was read as a secret. Errors do not
    /// show what may be one.
    pub(crate) fn decode_noting<T: DeserializeOwned>(
        &self,
        key: &str,
        found: Found<'_>,
    ) -> Result<T, Error> {
        self.check_arguments::<T>(key, found)?;
        match self.decode_once_noting(key, found) {
            Ok(value) => Ok(value),
            Err(error) => match self.without_rivals::<T>(key, found, error) {
                Some(entry) => {
                    let found = Found::Entry(&entry);
                    let outcome = self.decode_once_noting(key, found);
                    outcome.or_else(|_| self.decode_masked(key, found))
                }
                None => self.decode_masked(key, found),
            }
            .map_err(|error| self.explain_argument(self.explain_referred(error))),
        }
    }

    fn decode_once_noting<T: DeserializeOwned>(
        &self,
        key: &str,
        found: Found<'_>,
    ) -> Result<T, Error> {
        let mut secrets = Places::default();
        let outcome = found.decode_noting(key, &mut secrets);
        self.add_referred_secrets(&mut secrets.certain);
        self.add_referred_secrets(&mut secrets.possible);
        self.secrets.add_read(secrets);
        outcome
    }

    /// Decodes an absent subtree as an empty one, and from now on hides what is read as a secret in it.
    pub(crate) fn decode_absent<T: DeserializeOwned>(&self, key: &str) -> Result<T, Error> {
        let mut secrets = Places::default();
        let outcome = decode::from_table_noting(key, None, false, &mut secrets);
        self.secrets.add_read(secrets);
        // What is read later is a secret before it is there.
        self.secrets.add_all(decode::secret_keys::<T>(key));
        outcome
    }

    /// Hides from now on the fields of a struct that it reads as secrets, also those that are absent.
    fn hide_fields<T: DeserializeOwned + 'static>(&self, key: &str, found: Found<'_>) {
        let is_table = match found {
            Found::Root(_) => true,
            Found::Entry(entry) => entry.node.table().is_some(),
            Found::Nothing | Found::Inside(..) | Found::Broken(_) => false,
        };
        if is_table {
            self.secrets.add_all(decode::secret_fields::<T>(key));
        }
    }

    /// Whether what stands at a key may be a secret, or be made from one.
    pub(crate) fn hides(&self, key: &str, found: Found<'_>) -> bool {
        let entry = match found {
            Found::Entry(entry) | Found::Inside(_, entry) | Found::Broken(entry) => Some(entry),
            Found::Nothing | Found::Root(_) => None,
        };
        self.secrets.hides(key) || entry.is_some_and(|entry| self.derives_from_secret(entry))
    }

    /// Whether a secret went into a value through its references. Asked when a value is to be
    /// shown, since a key may turn out to be a secret after others have referred to it.
    pub(crate) fn derives_from_secret(&self, entry: &Entry) -> bool {
        matches!(&entry.node, Node::Resolved(resolved) if self.refers_to_secret(resolved))
    }

    pub(crate) fn refers_to_secret(&self, resolved: &Resolved) -> bool {
        let mut seen: BTreeSet<&Key> = BTreeSet::new();
        let mut queue = vec![resolved];
        while let Some(resolved) = queue.pop() {
            if resolved.secret {
                return true;
            }
            for key in resolved.refers.iter().filter(|key| seen.insert(key)) {
                if self.secrets.hides(key.as_str()) {
                    return true;
                }
                if let Ok(Found::Entry(next) | Found::Inside(_, next)) =
                    Found::in_tree(&self.root, key.as_str())
                {
                    if let Node::Resolved(next) = &next.node {
                        queue.push(next);
                    }
                }
            }
        }
        false
    }

    pub(crate) fn get<T: DeserializeOwned + 'static>(&self, key: &str) -> Result<T, Error> {
        match self.get_plain(key) {
            Some(value) => Ok(value),
            None => self.get_slowly(key),
        }
    }

    /// The value of a key by the short way, if there is one.
    #[inline]
    pub(crate) fn get_plain<T: 'static>(&self, key: &str) -> Option<T> {
        match &self.at_hand.find_bare(key, self.seed)?.node {
            Node::Leaf(leaf) => plain(&leaf.value),
            _ => None,
        }
    }

    pub(crate) fn get_slowly<T: DeserializeOwned + 'static>(&self, key: &str) -> Result<T, Error> {
        let found = Found::in_tree(&self.root, key)?;
        self.note(key, found);
        match found.plain() {
            Some(value) => Ok(value),
            None => {
                self.hide_fields::<T>(key, found);
                self.decode_noting(key, found)
                    .map_err(|error| self.explain_missing_of::<T>(key, error))
            }
        }
    }

    pub(crate) fn get_opt<T: DeserializeOwned + 'static>(
        &self,
        key: &str,
    ) -> Result<Option<T>, Error> {
        match self.get_plain(key) {
            Some(value) => Ok(Some(value)),
            None => self.get_opt_slowly(key),
        }
    }

    pub(crate) fn get_opt_slowly<T: DeserializeOwned + 'static>(
        &self,
        key: &str,
    ) -> Result<Option<T>, Error> {
        let found = Found::in_tree(&self.root, key)?;
        self.note(key, found);
        match found {
            Found::Nothing => {
                if decode::is_secret_type::<T>() {
                    self.secrets.add_all([key.to_owned()]);
                }
                Ok(None)
            }
            found => match found.plain() {
                Some(value) => Ok(Some(value)),
                None => {
                    self.hide_fields::<T>(key, found);
                    self.decode_noting(key, found)
                        .map(Some)
                        .map_err(|error| self.explain_missing(error))
                }
            },
        }
    }

    /// Whether what stands at one of the keys may be a secret.
    pub(crate) fn hides_any(&self, keys: &[Key]) -> bool {
        keys.iter().any(|key| {
            let found = Found::in_tree(&self.root, key.as_str());
            self.secrets.hides(key.as_str())
                || found.is_ok_and(|found| found.shown(false).as_deref() == Some(MASK))
        })
    }

    /// Whether a value at or below a key has a broken reference.
    pub(crate) fn has_broken_reference(&self, key: &str) -> bool {
        fn is_broken(node: &Node) -> bool {
            match node {
                Node::Leaf(_) => false,
                Node::Resolved(resolved) => resolved.value.is_err(),
                Node::Table(table) => {
                    table.special() && table.map().iter().any(|entry| is_broken(&entry.node))
                }
            }
        }
        match Found::in_tree(&self.root, key) {
            Ok(Found::Entry(entry)) => is_broken(&entry.node),
            Ok(Found::Root(table)) => is_broken(&Node::Table(table.clone())),
            Ok(Found::Broken(..)) => true,
            Ok(Found::Nothing | Found::Inside(..)) | Err(_) => false,
        }
    }

    /// Why keys whose references are broken cannot be read, in the order of the keys.
    pub(crate) fn broken_references(&self) -> Vec<Error> {
        fn walk(generation: &Generation, table: &Table, errors: &mut Vec<Error>) {
            // All else is not worth looking at.
            if !table.special() {
                return;
            }
            for entry in table.map().iter() {
                match &entry.node {
                    Node::Table(below) => walk(generation, below, errors),
                    Node::Resolved(resolved) => {
                        let error = resolved.value.as_ref().err();
                        errors.extend(error.map(|error| generation.fault_of(error, resolved)));
                    }
                    Node::Leaf(_) => {}
                }
            }
        }
        let mut errors = Vec::new();
        walk(self, &self.root, &mut errors);
        errors.sort_by(|a, b| a.key().cmp(&b.key()));
        errors
    }

    /// Whether this is what was before the first commit: it has no layers.
    pub(crate) fn is_initial(&self) -> bool {
        self.layers.is_empty()
    }

    /// The leaf that a value was written in, for its origin, and the one layer that it is of. An item
    /// of a list that several layers make up has its own.
    pub(crate) fn place_of(
        &self,
        key: &str,
        found: Found<'_>,
    ) -> (Option<Arc<Entry>>, Option<usize>) {
        let Some(leaf) = found.leaf() else {
            return (None, None);
        };
        let Some(shared) = self.shared_list(key, leaf) else {
            return (Some(Arc::clone(leaf)), self.layer_of_leaf(key, leaf));
        };
        let layer = match shared.layers.as_slice() {
            [only] => Some(*only),
            _ => None,
        };
        let own = match found {
            Found::Inside(value, _) => shared.origin.map(|origin| {
                let node = Node::Leaf(Leaf::new(value.clone(), origin));
                let name = leaf.name.clone();
                Arc::new(Entry { name, node })
            }),
            _ => None,
        };
        (own.or_else(|| Some(Arc::clone(leaf))), layer)
    }

    /// The layers whose values are in force at a key, the strongest first. There is none for a table,
    /// and none for a value that only a roll-back or a pending restart keeps in force.
    pub(crate) fn winners(&self, key: &str, found: Found<'_>) -> Vec<usize> {
        let Some(leaf) = found.leaf() else {
            return Vec::new();
        };
        match self.shared_list(key, leaf) {
            Some(shared) => shared.layers,
            None => self.layer_of_leaf(key, leaf).into_iter().collect(),
        }
    }

    /// Where what stands at a key was written.
    pub(crate) fn origin(&self, key: &str, found: Found<'_>) -> Option<Origin> {
        let (leaf, _) = self.place_of(key, found);
        leaf?.node.origin().cloned()
    }

    /// The strongest layer that has the leaf at a key.
    fn layer_of_leaf(&self, key: &str, leaf: &Arc<Entry>) -> Option<usize> {
        self.layers.iter().position(|layer| {
            Found::in_tree(&layer.root, key)
                .ok()
                .and_then(|found| found.leaf())
                .is_some_and(|there| same_leaf(there, leaf))
        })
    }

    /// The list in force that several layers make up at or above a key; `None` if there is none.
    fn shared_list(&self, key: &str, leaf: &Arc<Entry>) -> Option<SharedList> {
        let is_list = matches!(leaf.node.written(), Some(Value::List(_)));
        // A part whose reference is broken stands for the whole list.
        let is_broken = matches!(&leaf.node, Node::Resolved(it) if it.value.is_err());
        if !is_list && !is_broken && self.append.is_empty() {
            return None;
        }
        let key = Key::parse(key).ok()?;
        let path: Vec<_> = key.segments().collect();
        let roots: Vec<&Table> = self.layers.iter().map(|layer| &layer.root).collect();
        let bootstrap = layer::count_bootstrap(&self.layers);
        let shared = merge::shared_list(&roots, &self.append, bootstrap, &path)?;
        // Another value may be in force, perhaps that of one layer.
        same_leaf(&shared.entry, leaf).then_some(shared)
    }

    /// As [`explain_missing`](Self::explain_missing) for a key that is read as a `T`: if that is a
    /// struct or a map, also the key that may be meant for one below.
    pub(crate) fn explain_missing_of<T: DeserializeOwned>(&self, key: &str, error: Error) -> Error {
        let is_absent = error.kind() == ErrorKind::NotFound && error.key_text() == Some(key);
        if !is_absent || self.spelled_otherwise(key).is_some() {
            return self.explain_missing(error);
        }
        // What a table lacks stands below it.
        let as_table = decode::from_table::<T>(key, None, true).map(drop);
        let fields = match &as_table {
            Ok(()) => Vec::new(),
            Err(errors) => errors.iter().filter_map(Error::key_text).collect(),
        };
        if fields.contains(&key) {
            return self.explain_missing(error);
        }
        let mut fields = fields.into_iter();
        let spelled = fields.find_map(|field| self.spelled_otherwise(field));
        match spelled.or_else(|| self.spelled_below(key)) {
            Some(spelled) => spelled.explain(key, &error),
            None => self.explain_missing(error),
        }
    }
}

/// Whether two leaves have the same value as written, and the same origin.
fn same_leaf(a: &Entry, b: &Entry) -> bool {
    // A layer and the merged tree share what only that layer has.
    if std::ptr::eq(a, b) {
        return true;
    }
    let written = a.node.written();
    written.is_some() && a.node.origin() == b.node.origin() && written == b.node.written()
}

impl Snapshot {
    /// The generation this is a view of.
    pub fn generation(&self) -> u64 {
        self.0.number()
    }

    /// When the generation was published, by the wall clock; for showing only.
    pub fn time(&self) -> SystemTime {
        self.0.stamp.time
    }

    /// The value of a key.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if no layer defines it, [`ErrorKind::Mismatch`] if it cannot become
    /// a `T`, [`ErrorKind::Reference`] if a reference in it is broken.
    pub fn get<T: DeserializeOwned + 'static>(&self, key: &str) -> Result<T, Error> {
        self.0.get(key)
    }

    /// The value of a key, or `None` if no layer defines it.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get), without [`ErrorKind::NotFound`].
    pub fn get_opt<T: DeserializeOwned + 'static>(&self, key: &str) -> Result<Option<T>, Error> {
        self.0.get_opt(key)
    }

    /// A subtree as a struct; an absent one is decoded as an empty table, so that the fields'
    /// own defaults count.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the subtree in one error; see [`Error::iter`].
    pub fn bind<T: DeserializeOwned>(&self, key: &str) -> Result<T, Error> {
        let found = Found::in_tree(&self.0.root, key)?;
        self.0.note(key, found);
        let read = match found {
            Found::Nothing => self.0.decode_absent(key),
            found => self.0.decode_noting(key, found),
        };
        read.map_err(|error| self.0.explain_missing(error))
    }

    /// Whether any layer defines the key, as a value or as a table.
    pub fn contains(&self, key: &str) -> bool {
        Found::in_tree(&self.0.root, key).is_ok_and(|found| !found.is_nothing())
    }

    /// What changed from an older snapshot to this one, in the order of the keys; secrets are masked
    /// when it is shown.
    ///
    /// The snapshots may be of different properties, as the one before and the one after a change
    /// that was tried elsewhere.
    pub fn changes_since(&self, older: &Snapshot) -> Vec<KeyChange> {
        change::between(&older.0, &self.0)
    }

    /// All keys that have a value, in order.
    pub fn keys(&self) -> Vec<Key> {
        let mut keys = Vec::new();
        self.0.root.walk(&mut String::new(), &mut |key, entry| {
            if entry.node.table().is_none() {
                keys.extend(Key::parse(key).ok());
            }
        });
        keys.sort_unstable();
        keys
    }

    /// Finds the key that is meant by a name whose letters' case and whose `-` and `_` may differ.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if there is none, [`ErrorKind::InvalidKey`] naming all candidates if
    /// there are several.
    pub fn find_relaxed(&self, name: &str) -> Result<Key, Error> {
        let fold = |text: &str| -> String {
            text.chars()
                .filter(|c| !matches!(c, '-' | '_'))
                .flat_map(char::to_lowercase)
                .collect()
        };
        let wanted: Vec<String> = Key::parse(name)?.segments().map(|s| fold(&s)).collect();
        let mut places = vec![(Key::root(), Some(&self.0.root))];
        for segment in &wanted {
            let mut next = Vec::new();
            for (key, table) in places {
                for entry in table.into_iter().flat_map(|table| table.map().iter()) {
                    if fold(&entry.name) == *segment {
                        next.push((key.child(&entry.name)?, entry.node.table()));
                    }
                }
            }
            places = next;
        }
        let mut keys: Vec<Key> = places.into_iter().map(|(key, _)| key).collect();
        keys.sort_unstable();
        match keys.as_slice() {
            [] => Err(Error::new(
                ErrorKind::NotFound,
                "no layer defines it, in whatever spelling",
            )
            .with_key_text(name)),
            [only] => Ok(only.clone()),
            several => {
                let list: Vec<String> = several.iter().map(|key| format!("`{key}`")).collect();
                let detail = format!("could be any of {}", list.join(", "));
                Err(Error::new(ErrorKind::InvalidKey, detail).with_key_text(name))
            }
        }
    }

    /// What every layer says about a key, which one wins and where it was written.
    pub fn explain(&self, key: &str) -> Explanation {
        Explanation::of(&self.0, key)
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("generation", &self.0.number())
            .field("layers", &self.0.layers.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Generation({})", self.number())
    }
}
