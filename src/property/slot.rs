//! A slot: the current value of one property, shared by all handles on it.
//!
//! The value lives in a swap cell as a [`Version`]; a value that fits a word is kept as bits beside
//! it, so that `get` costs one atomic load. Both are written by the commit alone, the cell first.

use std::any::Any;
use std::fmt;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use crate::error::{Error, ErrorKind, MASK};
use crate::property::inline;
use crate::property::listen::Listener;
use crate::property::registry::Host;
use crate::sync::{AtomicU64, Cell, Guard, HasCell, Mutex, Ordering};
use crate::tree::snapshot::{Found, Generation};
use crate::value::key::Key;
use crate::value::origin::Origin;

/// A value together with where and when it came from, always matching each other.
#[derive(Clone)]
#[non_exhaustive]
pub struct Version<T> {
    /// The value.
    pub value: T,
    /// The generation that brought it.
    pub generation: u64,
    /// When that was, by the wall clock; for showing only.
    pub time: SystemTime,
    /// Where it was written; `None` for a default and for a struct, whose fields may come from
    /// many places.
    pub origin: Option<Origin>,
    /// The layer it came from, by the name of its source; `None` as for `origin`.
    pub layer: Option<Arc<str>>,
}

impl<T> fmt::Debug for Version<T> {
    /// Shows where the value came from, not the value: it may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Version")
            .field("generation", &self.generation)
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

/// How a slot gets its value out of a generation.
pub(crate) enum Rule<T> {
    /// From its keys, as the builder was told.
    Spec(Arc<Spec<T>>),
    /// From another slot.
    Map {
        /// From the version a commit has drawn for that slot, an `Arc<Version<_>>`.
        staged: FromVersion<T>,
        /// From any generation, by that slot's own rule.
        fresh: FromGeneration<T>,
    },
}

/// Draws a value from another slot's version.
pub(crate) type FromVersion<T> = Box<dyn Fn(&dyn Any) -> Option<Drawn<T>> + Send + Sync>;

/// Draws a value from a generation.
pub(crate) type FromGeneration<T> =
    Box<dyn Fn(&Generation) -> Result<Drawn<T>, Error> + Send + Sync>;

/// What a builder was told about a property.
pub(crate) struct Spec<T> {
    pub(crate) keys: Box<[Key]>,
    /// Whether an absent key reads as an empty table.
    pub(crate) bind: bool,
    pub(crate) decode: fn(&Generation, &str, Found<'_>) -> Result<T, Error>,
    pub(crate) absent: fn(&str) -> Result<T, Error>,
    pub(crate) default: Option<Arc<dyn Fn() -> T + Send + Sync>>,
    pub(crate) validators: Vec<Validator<T>>,
}

/// Says why a value is not acceptable.
pub(crate) type Validator<T> = Arc<dyn Fn(&T) -> Result<(), String> + Send + Sync>;

/// A value drawn from a generation.
pub(crate) struct Drawn<T> {
    pub(crate) value: T,
    pub(crate) origin: Option<Origin>,
    pub(crate) layer: Option<Arc<str>>,
}

impl<T> Rule<T> {
    /// Draws a value. A `Deserialize`, a validator or a mapping is the user's code, so a panic in
    /// it is an error like any other.
    pub(crate) fn draw(
        &self,
        keys: &[Key],
        generation: &Generation,
        parent: Option<&dyn Any>,
    ) -> Result<Drawn<T>, Error> {
        let draw = AssertUnwindSafe(|| match self {
            Rule::Spec(spec) => spec.draw(generation),
            Rule::Map { staged, fresh } => match parent.and_then(staged) {
                Some(drawn) => Ok(drawn),
                None => fresh(generation),
            },
        });
        catch_unwind(draw).unwrap_or_else(|panic| {
            let panic: &(dyn Any + Send) = if generation.hides_any(keys) {
                // What was panicked with may quote the value.
                &MASK
            } else {
                &*panic
            };
            Err(panicked("reading the value", panic))
        })
    }
}

impl<T> Spec<T> {
    fn draw(&self, generation: &Generation) -> Result<Drawn<T>, Error> {
        for key in &self.keys {
            let found = Found::in_tree(&generation.root, key.as_str())?;
            if found.is_nothing() {
                continue;
            }
            let value = (self.decode)(generation, key.as_str(), found)?;
            self.validate(&value).map_err(|reason| {
                let hidden = generation.hides(key.as_str(), found);
                let reason = match hidden {
                    // The reason may quote the value.
                    true => "refused by the property's validator".to_owned(),
                    false => reason,
                };
                let error = Error::new(ErrorKind::Refused, reason).with_key(key);
                let error = match found.shown(hidden) {
                    Some(shown) => error.with_found(shown),
                    None => error,
                };
                match found.origin() {
                    Some(origin) => error.with_origin(origin),
                    None => error,
                }
            })?;
            let origin = found.origin().cloned();
            let layer = origin
                .as_ref()
                .and_then(|origin| generation.layer_of(key.as_str(), origin));
            return Ok(Drawn {
                value,
                origin,
                layer,
            });
        }
        let value = match &self.default {
            Some(default) => default(),
            None => (self.absent)(self.keys[0].as_str())?,
        };
        Ok(Drawn {
            value,
            origin: None,
            layer: None,
        })
    }

    pub(crate) fn validate(&self, value: &T) -> Result<(), String> {
        self.validators
            .iter()
            .try_for_each(|validator| validator(value))
    }
}

/// The current value of one property.
pub(crate) struct Slot<T> {
    /// The value as bits, if it fits; see [`inline`].
    bits: AtomicU64,
    cell: Cell<Version<T>>,
    /// The key, then the keys it falls back to.
    pub(crate) keys: Box<[Key]>,
    pub(crate) rule: Rule<T>,
    pub(crate) host: Weak<dyn Host>,
    listeners: Mutex<Vec<Weak<dyn Listener>>>,
    derived: Mutex<Vec<Weak<dyn AnySlot>>>,
}

impl<T> HasCell for Slot<T> {
    type Held = Version<T>;

    #[inline]
    fn cell(&self) -> &Cell<Version<T>> {
        &self.cell
    }
}

impl<T: Send + Sync + 'static> Slot<T> {
    /// Makes a slot and draws its first value.
    pub(crate) fn new(
        keys: Box<[Key]>,
        rule: Rule<T>,
        host: Weak<dyn Host>,
        generation: &Generation,
    ) -> Result<Arc<Self>, Error> {
        let drawn = rule.draw(&keys, generation, None)?;
        Ok(Self::with(keys, rule, host, version(drawn, generation)))
    }

    /// Makes a slot that follows `parent`.
    pub(crate) fn mapped<P: Send + Sync + 'static>(
        parent: &Arc<Slot<P>>,
        rule: Rule<T>,
    ) -> Arc<Self> {
        let mut rule = Some(rule);
        let mut make = || {
            let now = parent.full();
            let rule = rule.take()?;
            let Rule::Map { staged, .. } = &rule else {
                return None;
            };
            let drawn = staged(&now)?;
            let version = version_at(drawn, now.generation, now.time);
            Some(Self::with(
                parent.keys.clone(),
                rule,
                parent.host.clone(),
                version,
            ))
        };
        let mut slot = None;
        if let Some(host) = parent.host.upgrade() {
            // Between two commits, so that none is drawn for the parent and missed by the child.
            let _ = host.between_commits(&mut |_, _| {
                slot = make();
                if let Some(slot) = &slot {
                    let child: Weak<Self> = Arc::downgrade(slot);
                    parent.derive(child);
                }
            });
        }
        // Without an engine nothing changes any more. (A rule other than a mapping never gets here.)
        match slot.or_else(make) {
            Some(slot) => slot,
            None => unreachable!("a mapping of a slot's own version always has a value"),
        }
    }

    pub(super) fn with(
        keys: Box<[Key]>,
        rule: Rule<T>,
        host: Weak<dyn Host>,
        version: Version<T>,
    ) -> Arc<Self> {
        Arc::new(Self {
            bits: AtomicU64::new(inline::to_bits(&version.value).unwrap_or(0)),
            cell: Cell::new(Arc::new(version)),
            keys,
            rule,
            host,
            listeners: Mutex::new(Vec::new()),
            derived: Mutex::new(Vec::new()),
        })
    }

    /// The value, if it fits a word.
    #[inline(always)]
    pub(crate) fn small(&self) -> Option<T>
    where
        T: Clone,
    {
        // ORDERING: Acquire; pairs with the Release in `publish`.
        // Orders: whoever sees the new bits also sees the cell that was stored before them, so a
        // `get` followed by a `versioned` never goes back. Weaker breaks exactly that on machines
        // that reorder loads; on x86 both are the same instruction. Stronger buys nothing.
        // Proof: property/models.rs, `the_cell_is_never_older_than_the_bits`.
        inline::from_bits(self.bits.load(Ordering::Acquire))
    }

    #[inline]
    pub(crate) fn load(&self) -> Guard<Version<T>> {
        self.cell.load()
    }

    #[inline]
    pub(crate) fn full(&self) -> Arc<Version<T>> {
        self.cell.full()
    }

    /// The version for a subscriber: `None` while the commit that brought it is not visible as a
    /// whole, since that commit tells all subscribers when it is.
    pub(crate) fn settled(&self) -> Option<Arc<Version<T>>> {
        let now = self.full();
        match self.host.upgrade() {
            Some(host) if now.generation > host.generation() => None,
            _ => Some(now),
        }
    }

    /// Makes a version current. Only a commit calls this, one at a time.
    /// Hands back the version before: dropping it is the user's code and has to wait.
    pub(crate) fn publish(&self, version: Arc<Version<T>>) -> Arc<Version<T>> {
        let bits = inline::to_bits(&version.value);
        let before = self.cell.swap(version);
        if let Some(bits) = bits {
            // ORDERING: Release; pairs with the Acquire in `small`, see there.
            self.bits.store(bits, Ordering::Release);
        }
        before
    }

    /// Adds a listener and says what was current at that moment: of the changes to come, each is
    /// either in the answer or told to the listener.
    pub(crate) fn listen(&self, listener: Weak<dyn Listener>) -> Arc<Version<T>> {
        let mut listeners = self.listeners.lock();
        if listeners.len() == listeners.capacity() {
            listeners.retain(|listener| listener.strong_count() > 0);
        }
        listeners.push(listener);
        // Read under the lock that `notify` takes after publishing. A commit that takes the lock
        // before has published already and is seen here; one that takes it later finds the listener.
        // Proof: property/models.rs, `each_change_is_in_the_answer_or_told`.
        self.cell.full()
    }

    /// Collects who is to be told, after the version was published.
    pub(super) fn notify(&self, told: &mut Vec<Arc<dyn Listener>>) {
        let mut listeners = self.listeners.lock();
        listeners.retain(|listener| match listener.upgrade() {
            Some(listener) => {
                told.push(listener);
                true
            }
            None => false,
        });
    }

    pub(crate) fn derive(&self, slot: Weak<dyn AnySlot>) {
        let mut derived = self.derived.lock();
        if derived.len() == derived.capacity() {
            derived.retain(|slot| slot.strong_count() > 0);
        }
        derived.push(slot);
    }
}

/// An error that tells of a panic in the user's code.
pub(crate) fn panicked(doing: &str, panic: &(dyn Any + Send)) -> Error {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    Error::new(ErrorKind::Panicked, format!("{doing} panicked: {text}"))
}

fn version<T>(drawn: Drawn<T>, generation: &Generation) -> Version<T> {
    version_at(drawn, generation.number, generation.time)
}

fn version_at<T>(drawn: Drawn<T>, generation: u64, time: SystemTime) -> Version<T> {
    Version {
        value: drawn.value,
        generation,
        time,
        origin: drawn.origin,
        layer: drawn.layer,
    }
}

/// A slot whatever its type, as a commit sees it.
pub(crate) trait AnySlot: Send + Sync {
    fn keys(&self) -> &[Key];

    /// Draws the value of a candidate generation without making it current. `moved`: only the
    /// place where the value is written differs, so it keeps its generation.
    fn stage(
        self: Arc<Self>,
        candidate: &Generation,
        parent: Option<&dyn Any>,
        moved: bool,
        staged: &mut Vec<Box<dyn Staged>>,
    ) -> Result<(), Error>;
}

/// A value drawn and not yet current.
pub(crate) trait Staged: Send {
    /// Makes the value current and keeps the one before for later.
    fn publish(&self, before: &mut Vec<Arc<dyn Any + Send + Sync>>);

    /// Collects who is to be told, after all values of the commit and its number are visible.
    fn notify(&self, told: &mut Vec<Arc<dyn Listener>>);
}

struct Draft<T> {
    slot: Arc<Slot<T>>,
    version: Arc<Version<T>>,
}

impl<T: Send + Sync + 'static> AnySlot for Slot<T> {
    fn keys(&self) -> &[Key] {
        &self.keys
    }

    fn stage(
        self: Arc<Self>,
        candidate: &Generation,
        parent: Option<&dyn Any>,
        moved: bool,
        staged: &mut Vec<Box<dyn Staged>>,
    ) -> Result<(), Error> {
        let mut version = version(self.rule.draw(&self.keys, candidate, parent)?, candidate);
        if moved {
            let current = self.cell.full();
            (version.generation, version.time) = (current.generation, current.time);
        }
        let version = Arc::new(version);
        let derived: Vec<_> = self
            .derived
            .lock()
            .iter()
            .filter_map(Weak::upgrade)
            .collect();
        let draft = Draft {
            slot: self,
            version: Arc::clone(&version),
        };
        staged.push(Box::new(draft));
        for slot in derived {
            slot.stage(candidate, Some(&version), moved, staged)?;
        }
        Ok(())
    }
}

impl<T: Send + Sync + 'static> Staged for Draft<T> {
    fn publish(&self, before: &mut Vec<Arc<dyn Any + Send + Sync>>) {
        before.push(self.slot.publish(Arc::clone(&self.version)));
    }

    fn notify(&self, told: &mut Vec<Arc<dyn Listener>>) {
        self.slot.notify(told);
    }
}

impl<T> fmt::Debug for Slot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

/// What a handle currently reads, without cloning it.
pub struct ValueGuard<T>(pub(crate) Guard<Version<T>>);

impl<T> Deref for ValueGuard<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T: fmt::Debug> fmt::Debug for ValueGuard<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: fmt::Display> fmt::Display for ValueGuard<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
