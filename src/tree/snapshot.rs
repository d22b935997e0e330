//! The merged tree of one generation.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use serde::de::DeserializeOwned;

use crate::decode;
use crate::error::{Error, ErrorKind, MASK};
use crate::sorted::{self, SortedMap};
use crate::tree::change::{self, KeyChange};
use crate::tree::explain::Explanation;
use crate::tree::layer::LayerState;
use crate::tree::quoted::SecretTexts;
use crate::tree::usage::Usage;
use crate::value::hamt::Entry;
use crate::value::key::Key;
use crate::value::node::{Node, Table};
use crate::value::plain::plain;
use crate::value::scan::Seed;
use crate::value::secret::Secrets;
use crate::value::units;

pub(crate) use crate::tree::found::Found;

/// All keys of one generation: a view that never changes, and costs only memory.
///
/// A snapshot reads many keys from one commit. [`Properties`](crate::Properties) read each key from the
/// newest commit.
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

/// The number, the time and the layers of a generation, which all values of a commit share.
pub(crate) struct GenerationStamp {
    pub(crate) number: u64,
    pub(crate) time: SystemTime,
    /// The names of the layers, the strongest first.
    pub(crate) layers: Arc<[Arc<str>]>,
    /// The generation whose tree this is, if it was rolled back to.
    pub(crate) pinned: Option<Pinned>,
}

/// A roll-back that is in force; see [`Properties::rollback_to`](crate::Properties::rollback_to).
///
/// ```
/// use liveprops::{Properties, sources::Memory};
///
/// let memory = Memory::from([("qps", 100)]);
/// let props = Properties::builder().history(1).source(memory.clone()).build()?;
/// let good = props.generation();
/// memory.set("qps", 1)?;
/// props.rollback_to(good)?;
/// assert_eq!(props.pinned().unwrap().generation, good);
/// # Ok::<(), liveprops::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Pinned {
    /// The generation that was rolled back to.
    pub generation: u64,
    /// When it was rolled back to.
    pub since: SystemTime,
    /// Whether an earlier run of the program rolled back. The number of the generation is of that run.
    pub by_earlier_run: bool,
}

impl fmt::Display for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let age = units::roughly(self.since.elapsed().unwrap_or_default());
        let run = if self.by_earlier_run {
            " of an earlier run"
        } else {
            ""
        };
        write!(
            f,
            "rolled back to generation {}{run}, {age} ago",
            self.generation
        )
    }
}

/// The keys whose change is pending until a restart, each with its node in the merged layers, or `None`
/// if it is absent there.
pub(crate) type PendingRestarts = SortedMap<Key, Option<Arc<Entry>>>;

/// What one commit published.
#[derive(Clone)]
pub(crate) struct Generation {
    pub(crate) stamp: Arc<GenerationStamp>,
    pub(crate) root: Table,
    pub(crate) pending_restarts: Arc<PendingRestarts>,
    /// The keys whose lists are joined over all layers.
    pub(crate) append: Arc<BTreeSet<Key>>,
    /// The root for the fast path of reads. It is empty where each read is recorded, which costs less
    /// than a branch of nine instructions.
    pub(crate) fast_path_root: Table,
    /// The strongest first.
    pub(crate) layers: Vec<Arc<LayerState>>,
    pub(crate) secrets: Secrets,
    /// The secrets that texts of user code may quote, once an error has asked for them.
    pub(crate) secret_texts: SecretTexts,
    pub(crate) seed: Seed,
    /// Records which keys are read, if the builder asked for it.
    pub(crate) usage: Option<Arc<Usage>>,
}

impl Generation {
    /// The root for the fast path of reads.
    pub(crate) fn fast_path_root(root: &Table, usage: Option<&Arc<Usage>>) -> Table {
        match usage {
            Some(_) => Table::default(),
            None => root.clone(),
        }
    }

    pub(crate) fn number(&self) -> u64 {
        self.stamp.number
    }

    pub(crate) fn get<T: DeserializeOwned + 'static>(&self, key: &str) -> Result<T, Error> {
        match self.get_plain(key) {
            Some(value) => Ok(value),
            None => self.get_slowly(key),
        }
    }

    /// The value of a key by the fast path: without serde, for a type that needs none.
    #[inline]
    pub(crate) fn get_plain<T: 'static>(&self, key: &str) -> Option<T> {
        match &self.fast_path_root.find_bare(key, self.seed)?.node {
            Node::Leaf(leaf) => plain(&leaf.value),
            _ => None,
        }
    }

    pub(crate) fn get_slowly<T: DeserializeOwned + 'static>(&self, key: &str) -> Result<T, Error> {
        let found = Found::in_tree(&self.root, key)?;
        self.record_read(key, found);
        match found.plain() {
            Some(value) => Ok(value),
            None => {
                self.hide_fields::<T>(key, found);
                self.decode_recording(key, found)
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
        self.record_read(key, found);
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
                    self.decode_recording(key, found)
                        .map(Some)
                        .map_err(|error| self.explain_missing(error))
                }
            },
        }
    }

    /// Whether the value at one of the keys may be a secret.
    pub(crate) fn hides_any(&self, keys: &[Key]) -> bool {
        keys.iter().any(|key| {
            let found = Found::in_tree(&self.root, key.as_str());
            self.secrets.hides(key.as_str())
                || found.is_ok_and(|found| found.description(false).as_deref() == Some(MASK))
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
            // Other tables have no references.
            if !table.special() {
                return;
            }
            for entry in table.map().iter() {
                match &entry.node {
                    Node::Table(below) => walk(generation, below, errors),
                    Node::Resolved(resolved) => {
                        let error = resolved.value.as_ref().err();
                        errors.extend(error.map(|error| generation.shown_error(error, resolved)));
                    }
                    Node::Leaf(_) => {}
                }
            }
        }
        let mut errors = Vec::new();
        walk(self, &self.root, &mut errors);
        sorted::sort_by(&mut errors, |a, b| a.key().cmp(&b.key()));
        errors
    }

    /// Whether this is the generation before the first commit, which has no layers.
    pub(crate) fn is_initial(&self) -> bool {
        self.layers.is_empty()
    }
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
    /// - [`ErrorKind::NotFound`] if no layer defines the key.
    /// - [`ErrorKind::Mismatch`] if its value cannot become a `T`.
    /// - [`ErrorKind::Reference`] if a reference in it, or in a key that it refers to, is unresolved or
    ///   broken.
    /// - [`ErrorKind::InvalidKey`] for a malformed key.
    pub fn get<T: DeserializeOwned + 'static>(&self, key: &str) -> Result<T, Error> {
        self.0.get(key)
    }

    /// The value of a key, or `None` if no layer defines it.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Mismatch`] if its value cannot become a `T`.
    /// - [`ErrorKind::Reference`] if a reference in it, or in a key that it refers to, is unresolved or
    ///   broken.
    /// - [`ErrorKind::InvalidKey`] for a malformed key.
    pub fn get_opt<T: DeserializeOwned + 'static>(&self, key: &str) -> Result<Option<T>, Error> {
        self.0.get_opt(key)
    }

    /// A subtree as a struct. An absent one is decoded as an empty table, so that the defaults of the
    /// fields count.
    ///
    /// # Errors
    ///
    /// One error with everything that is wrong with the subtree; see [`Error::iter`].
    ///
    /// - [`ErrorKind::NotFound`] for a field that is absent and has no default.
    /// - [`ErrorKind::Mismatch`] for a field whose value cannot become its type.
    /// - [`ErrorKind::Reference`] for a reference that is unresolved or broken.
    /// - [`ErrorKind::InvalidKey`] for a malformed key.
    pub fn bind<T: DeserializeOwned>(&self, key: &str) -> Result<T, Error> {
        let found = Found::in_tree(&self.0.root, key)?;
        self.0.record_read(key, found);
        let read = match found {
            Found::Nothing => self.0.decode_absent(key),
            found => self.0.decode_recording(key, found),
        };
        read.map_err(|error| self.0.explain_missing(error))
    }

    /// Whether any layer defines the key, as a value or as a table.
    pub fn contains(&self, key: &str) -> bool {
        Found::in_tree(&self.0.root, key).is_ok_and(|found| !found.is_nothing())
    }

    /// The changes from an older snapshot to this one, in the order of the keys. Secrets are masked when
    /// they are shown.
    ///
    /// The snapshots may be of different properties, for example to compare a change that was tried
    /// elsewhere.
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
        keys.sort();
        keys
    }

    /// Finds the key of a name in another spelling: case, `-` and `_` are ignored.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::NotFound`] if there is none.
    /// - [`ErrorKind::InvalidKey`] if there are several, with all of their names, and for a malformed name.
    ///
    /// ```
    /// use liveprops::{Properties, sources::Memory};
    ///
    /// let props = Properties::builder().source(Memory::from([("http.max-idle", 5)])).build()?;
    /// assert_eq!(props.snapshot().find_relaxed("HTTP.MaxIdle")?.as_str(), "http.max-idle");
    /// # Ok::<(), liveprops::Error>(())
    /// ```
    pub fn find_relaxed(&self, name: &str) -> Result<Key, Error> {
        let fold = |text: &str| -> String {
            text.chars()
                .filter(|c| !matches!(c, '-' | '_'))
                .flat_map(char::to_lowercase)
                .collect()
        };
        let segments: Vec<String> = Key::parse(name)?.segments().map(|s| fold(&s)).collect();
        let mut candidates = vec![(Key::root(), Some(&self.0.root))];
        for segment in &segments {
            let mut next = Vec::new();
            for (key, table) in candidates {
                for entry in table.into_iter().flat_map(|table| table.map().iter()) {
                    if fold(&entry.name) == *segment {
                        next.push((key.child(&entry.name)?, entry.node.table()));
                    }
                }
            }
            candidates = next;
        }
        let mut keys: Vec<Key> = candidates.into_iter().map(|(key, _)| key).collect();
        keys.sort();
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

    /// Explains a key: its value in every layer, which one wins, and where it was written.
    ///
    /// The explanation of a malformed key has the error in [`Explanation::broken`].
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
