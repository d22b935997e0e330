//! A slot: the current value of one property, shared by all handles on it.
//!
//! The value lives in a swap cell as a [`Version`]; a value that fits a word is kept as bits beside
//! it, so that `get` costs one atomic load. Both are written by the commit alone, the cell first.

use std::any::Any;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use crate::error::{Error, ErrorKind, MASK};
use crate::property::inline;
use crate::property::listen::Listener;
use crate::property::registry::{HostRef, push_pruned};
use crate::sync::discard::{Contained, Discard, discard};
use crate::sync::panics;
use crate::sync::{AtomicU64, Cell, Guard, HasCell, Mutex, Ordering};
use crate::tree::quoted::without_secrets;
use crate::tree::snapshot::{Found, Generation, Stamp};
use crate::value::hamt::Entry;
use crate::value::key::Key;
use crate::value::origin::Origin;

/// A value together with where and when it came from, always matching each other.
#[derive(Clone)]
pub struct Version<T> {
    /// The value.
    pub value: T,
    /// Its layer among those of the stamp, counted from 1; 0 for none.
    layer: u32,
    stamp: Arc<Stamp>,
    /// Where the value stands in the tree, for its origin.
    leaf: Option<Arc<Entry>>,
}

impl<T> Version<T> {
    pub(crate) fn new(drawn: Drawn<T>, stamp: Arc<Stamp>) -> Self {
        Self {
            value: drawn.value,
            layer: drawn.layer,
            stamp,
            leaf: drawn.leaf,
        }
    }

    /// The generation that brought the value.
    pub fn generation(&self) -> u64 {
        self.stamp.number
    }

    /// When that was, by the wall clock; for showing only.
    pub fn time(&self) -> SystemTime {
        self.stamp.time
    }

    /// Where the value was written; `None` for a default and for a struct, whose fields may come
    /// from many places.
    pub fn origin(&self) -> Option<&Origin> {
        self.leaf.as_ref()?.node.origin()
    }

    /// The layer it came from, by the name of its source, at the generation that brought it.
    ///
    /// `None` as for [`origin`](Self::origin), and for a value that only a roll-back or a pending
    /// restart keeps in force. `None` also for a list that several layers make up: its origin
    /// names them.
    pub fn layer(&self) -> Option<&str> {
        let at = (self.layer as usize).checked_sub(1)?;
        self.stamp.layers.get(at).map(|name| &**name)
    }

    /// Another value drawn from the same place.
    pub(crate) fn derive<U>(&self, value: U) -> Drawn<U> {
        Drawn {
            value,
            leaf: self.leaf.clone(),
            layer: self.layer,
        }
    }
}

impl<T> fmt::Debug for Version<T> {
    /// Shows where the value came from, not the value: it may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Version")
            .field("generation", &self.generation())
            .field("origin", &self.origin())
            .finish_non_exhaustive()
    }
}

/// How a slot gets its value out of a generation.
pub(crate) enum Rule<T> {
    /// From its one key and on no terms, which is most of all slots: nothing of their own to keep.
    Plain(Decoder<T>),
    /// From its keys, as the builder was told.
    Spec(Box<Spec<T>>),
    /// From another slot.
    Map(Box<Mapped<T>>),
}

/// How a type is read.
pub(crate) struct Decoder<T> {
    /// Whether an absent key reads as an empty table.
    pub(crate) bind: bool,
    /// How many bytes of the key, from its beginning, are the prefix of the view that the handle is
    /// of: fallbacks are named below it.
    pub(crate) prefix: u16,
    /// Reads what stands at a key, which may be nothing.
    pub(crate) read: fn(&Generation, &str, Found<'_>) -> Result<T, Error>,
}

impl<T> Clone for Decoder<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Decoder<T> {}

/// What a builder was told about a property besides its key.
pub(crate) struct Spec<T> {
    pub(crate) decoder: Decoder<T>,
    /// The keys to fall back to.
    pub(crate) fallbacks: Box<[Key]>,
    pub(crate) default: Option<DefaultValue<T>>,
    pub(crate) validators: Box<[Validator<T>]>,
}

/// A value to be copied when it is needed.
pub(crate) struct DefaultValue<T> {
    pub(crate) value: Contained<T>,
    pub(crate) copy: fn(&T) -> T,
}

/// How a slot follows another.
pub(crate) struct Mapped<T> {
    /// From the version a commit has drawn for that slot, an `Arc<Version<_>>`.
    pub(crate) staged: Contained<FromVersion<T>>,
    /// From any generation, by that slot's own rule.
    pub(crate) fresh: Contained<FromGeneration<T>>,
    /// The keys that slot falls back to: what is read there may be a secret too.
    pub(crate) fallbacks: Box<[Key]>,
}

/// Draws a value from another slot's version.
pub(crate) type FromVersion<T> = Box<dyn Fn(&dyn Any) -> Option<Drawn<T>> + Send + Sync>;

/// Draws a value from a generation.
pub(crate) type FromGeneration<T> =
    Box<dyn Fn(&Generation) -> Result<Drawn<T>, Error> + Send + Sync>;

/// Says why a value is not acceptable.
pub(crate) type Validator<T> = Arc<Contained<Box<dyn Fn(&T) -> Result<(), String> + Send + Sync>>>;

/// A value drawn from a generation.
pub(crate) struct Drawn<T> {
    pub(crate) value: T,
    leaf: Option<Arc<Entry>>,
    layer: u32,
}

impl<T> Drawn<T> {
    /// A value that stands nowhere.
    pub(super) fn default_of(value: T) -> Self {
        Self {
            value,
            leaf: None,
            layer: 0,
        }
    }

    pub(crate) fn map<U>(self, compute: impl FnOnce(&T) -> U) -> Drawn<U>
    where
        T: 'static,
    {
        Drawn {
            value: compute(&Discard::new(self.value)),
            leaf: self.leaf,
            layer: self.layer,
        }
    }
}

impl<T> Rule<T> {
    /// Draws a value. A `Deserialize`, a validator or a mapping is the user's code, so a panic in
    /// it is an error like any other.
    pub(crate) fn draw(
        &self,
        key: &Key,
        generation: &Generation,
        parent: Option<&dyn Any>,
    ) -> Result<Drawn<T>, Error>
    where
        T: 'static,
    {
        let draw = || match self {
            Rule::Plain(decoder) => decoder.draw(key, &[], generation, &[], None),
            Rule::Spec(spec) => spec.decoder.draw(
                key,
                &spec.fallbacks,
                generation,
                &spec.validators,
                spec.default.as_ref(),
            ),
            Rule::Map(mapped) => match parent.and_then(&**mapped.staged) {
                Some(drawn) => Ok(drawn),
                None => (mapped.fresh)(generation),
            },
        };
        panics::catch(draw).unwrap_or_else(|panic| {
            // The message may quote the value, or any other.
            let message = if generation.hides_any(&self.keys(key)) {
                MASK.to_owned()
            } else {
                without_secrets(panic.message(), &[generation])
            };
            Err(Error::from_panic("decoding or validating", &message).with_key(key))
        })
    }

    /// All keys that the value may come from, the strongest first.
    fn keys(&self, key: &Key) -> Vec<Key> {
        let fallbacks = self.fallbacks().iter();
        std::iter::once(key).chain(fallbacks).cloned().collect()
    }

    /// The keys to fall back to.
    pub(crate) fn fallbacks(&self) -> &[Key] {
        match self {
            Rule::Spec(spec) => &spec.fallbacks,
            Rule::Map(mapped) => &mapped.fallbacks,
            Rule::Plain(_) => &[],
        }
    }
}

impl<T> Decoder<T> {
    fn draw(
        &self,
        key: &Key,
        fallbacks: &[Key],
        generation: &Generation,
        validators: &[Validator<T>],
        default: Option<&DefaultValue<T>>,
    ) -> Result<Drawn<T>, Error>
    where
        T: 'static,
    {
        if let Some(usage) = &generation.usage {
            let keys = std::iter::once(key).chain(fallbacks);
            keys.for_each(|key| usage.note(key.as_str()));
        }
        for key in std::iter::once(key).chain(fallbacks) {
            let found = Found::in_tree(&generation.root, key.as_str())?;
            if found.is_nothing() {
                continue;
            }
            let value = Discard::new((self.read)(generation, key.as_str(), found)?);
            validate(validators, &value)
                .map_err(|reason| refused(reason, key, generation, found))?;
            let (leaf, layer) = generation.place_of(key.as_str(), found);
            return Ok(Drawn {
                value: value.keep(),
                leaf,
                layer: layer.map_or(0, |at| at as u32 + 1),
            });
        }
        let value = match default {
            Some(default) => (default.copy)(&default.value),
            None => (self.read)(generation, key.as_str(), Found::Nothing)?,
        };
        Ok(Drawn::default_of(value))
    }
}

/// What all validators say.
pub(crate) fn validate<T>(validators: &[Validator<T>], value: &T) -> Result<(), String> {
    validators.iter().try_for_each(|validator| validator(value))
}

fn refused(reason: String, key: &Key, generation: &Generation, found: Found<'_>) -> Error {
    let hidden = generation.hides(key.as_str(), found);
    // The reason may quote the value, or a secret part of it, or any other.
    let reason = if hidden {
        "refused by the property's validator".to_owned()
    } else {
        without_secrets(&reason, &[generation])
    };
    let error = Error::new(ErrorKind::Rejected, reason).with_key(key);
    let error = match found.shown(hidden) {
        Some(shown) => error.with_found(shown),
        None => error,
    };
    match found.origin() {
        Some(origin) => error.with_origin(origin),
        None => error,
    }
}

/// The current value of one property.
///
/// There may be as many slots as keys, so it is kept small: a slot of a number with its version
/// takes 128 bytes, a default 64 more.
///
/// What a commit writes stands first and together, 32 bytes of 88: so no line of 64 bytes holds
/// the `bits` of one slot and what is written of another, however close they lie.
#[repr(C)]
pub(crate) struct Slot<T> {
    /// The value as bits, if it fits; see [`inline`].
    bits: AtomicU64,
    cell: Cell<Version<T>>,
    followers: Mutex<Option<Box<Followers>>>,
    host: HostRef,
    pub(crate) key: Key,
    pub(crate) rule: Rule<T>,
}

/// Who follows a slot; most have nobody.
#[derive(Default)]
struct Followers {
    listeners: Vec<Weak<dyn Listener>>,
    derived: Vec<Weak<dyn AnySlot>>,
}

impl<T> HasCell for Slot<T> {
    type Held = Version<T>;

    #[inline]
    fn cell(&self) -> &Cell<Version<T>> {
        &self.cell
    }
}

impl<T: Send + Sync + 'static> Slot<T> {
    /// Makes a slot that follows `parent`.
    pub(crate) fn mapped<P: Send + Sync + 'static>(
        parent: &Arc<Slot<P>>,
        mapped: Mapped<T>,
    ) -> Arc<Self> {
        let mut mapped = Some(mapped);
        let mut make = || {
            let now = parent.full();
            // A panic in here leaves the closures to this function, which has released the lock.
            let drawn = (mapped.as_ref()?.staged)(&now)?;
            let version = Version::new(drawn, Arc::clone(&now.stamp));
            let mapped = mapped.take()?;
            Some(Self::with(
                parent.key.clone(),
                Rule::Map(Box::new(mapped)),
                Arc::clone(&parent.host),
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
        // Without an engine nothing changes any more.
        match slot.or_else(make) {
            Some(slot) => slot,
            None => unreachable!("a mapping of a slot's own version always has a value"),
        }
    }

    pub(super) fn with(key: Key, rule: Rule<T>, host: HostRef, version: Version<T>) -> Arc<Self> {
        Arc::new(Self {
            bits: AtomicU64::new(inline::to_bits(&version.value).unwrap_or(0)),
            cell: Cell::new(Arc::new(version)),
            followers: Mutex::default(),
            host,
            key,
            rule,
        })
    }

    /// The engine that keeps this slot current, which may be gone.
    pub(crate) fn host(&self) -> &HostRef {
        &self.host
    }

    /// Whether the properties are closed, so that nothing changes any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.host.upgrade().is_none_or(|host| host.is_closed())
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

    /// Rejects what needs other threads or locks in a fork of the engine's process.
    pub(crate) fn check_process(&self) -> Result<(), Error> {
        self.host
            .upgrade()
            .map_or(Ok(()), |host| host.check_process())
    }

    /// The version for a subscriber: `None` while the commit that brought it is not visible as a
    /// whole, since that commit tells all subscribers when it is.
    pub(crate) fn settled(&self) -> Option<Arc<Version<T>>> {
        let now = self.full();
        self.is_visible(&now).then_some(now)
    }

    /// Whether the generation that brought a version is in force.
    pub(crate) fn is_visible(&self, version: &Version<T>) -> bool {
        let host = self.host.upgrade();
        host.is_none_or(|host| version.generation() <= host.generation())
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
        if self.check_process().is_err() {
            // No commit follows, and the lock may be held for ever.
            return self.cell.full();
        }
        let mut followers = self.followers.lock();
        push_pruned(&mut followers.get_or_insert_default().listeners, listener);
        // Read under the lock that `notify` takes after publishing. A commit that takes the lock
        // before has published already and is seen here; one that takes it later finds the listener.
        // Proof: property/models.rs, `each_change_is_in_the_answer_or_told`.
        self.cell.full()
    }

    /// Collects who is to be told, after the version was published.
    pub(super) fn notify(&self, told: &mut Vec<Arc<dyn Listener>>) {
        if let Some(followers) = &mut *self.followers.lock() {
            followers
                .listeners
                .retain(|listener| match listener.upgrade() {
                    Some(listener) => {
                        told.push(listener);
                        true
                    }
                    None => false,
                });
        }
    }

    pub(crate) fn derive(&self, slot: Weak<dyn AnySlot>) {
        let mut followers = self.followers.lock();
        push_pruned(&mut followers.get_or_insert_default().derived, slot);
    }

    /// The slots made of this one.
    fn derived(&self) -> Vec<Arc<dyn AnySlot>> {
        match &*self.followers.lock() {
            Some(followers) => followers.derived.iter().filter_map(Weak::upgrade).collect(),
            None => Vec::new(),
        }
    }
}

/// A slot whatever its type, as a commit sees it.
pub(crate) trait AnySlot: Send + Sync {
    /// The key and the ones it falls back to.
    fn keys(&self) -> Vec<Key>;

    /// Whether the canonical `key` is one of them.
    fn is_on(&self, key: &str) -> bool;

    /// This slot for a handle that knows its type.
    fn any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;

    /// Draws the value of a candidate generation without making it current. `moved`: only the
    /// place where the value is written differs, so it keeps its generation.
    ///
    /// The caller keeps the slot alive, so that it is not dropped here.
    fn stage(
        self: Arc<Self>,
        candidate: &Generation,
        parent: Option<&dyn Any>,
        moved: bool,
        staged: &mut Drafts,
    ) -> Result<(), Error>;
}

/// A value drawn and not yet current.
pub(crate) trait Staged: Send {
    /// Makes the value current and keeps the one before it.
    fn publish(&mut self);

    /// Collects who is to be told, after all values of the commit and its number are visible.
    fn notify(&self, told: &mut Vec<Arc<dyn Listener>>);

    /// The address of the slot.
    fn address(&self) -> usize;

    /// The value before, if a reader still has it and its `Drop` may take long.
    fn retire(&mut self) -> Option<RetiredVersion>;
}

/// A version that was replaced while a reader had it.
pub(crate) type RetiredVersion = Arc<dyn Any + Send + Sync>;

/// The drafts of one commit.
///
/// They own slots and versions, perhaps as the last: how those are dropped is user code, so the
/// drafts are discarded, whatever becomes of the commit.
#[derive(Default)]
pub(crate) struct Drafts(Vec<Box<dyn Staged>>);

impl Drafts {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        drop(Self(self.0.split_off(len)));
    }

    /// Makes all values current.
    pub(crate) fn publish(&mut self) {
        self.0.iter_mut().for_each(|draft| draft.publish());
    }

    /// Collects the listeners of all slots.
    pub(crate) fn notify(&self, listeners: &mut Vec<Arc<dyn Listener>>) {
        self.0.iter().for_each(|draft| draft.notify(listeners));
    }

    /// The addresses of all slots.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = usize> {
        self.0.iter().map(|draft| draft.address())
    }

    /// Hands over the replaced versions that readers still have.
    pub(crate) fn retire(&mut self) -> Vec<RetiredVersion> {
        let drafts = self.0.iter_mut();
        drafts.filter_map(|draft| draft.retire()).collect()
    }
}

impl Drop for Drafts {
    fn drop(&mut self) {
        if !self.0.is_empty() {
            discard(std::mem::take(&mut self.0));
        }
    }
}

struct Draft<T> {
    slot: Contained<Arc<Slot<T>>>,
    /// The new version, until the slot has it.
    version: Option<Contained<Arc<Version<T>>>>,
    /// The version before, once it is replaced.
    before: Option<Contained<Arc<Version<T>>>>,
}

impl<T: Send + Sync + 'static> AnySlot for Slot<T> {
    fn keys(&self) -> Vec<Key> {
        self.rule.keys(&self.key)
    }

    fn is_on(&self, key: &str) -> bool {
        let fallbacks = self.rule.fallbacks().iter();
        self.key.as_str() == key || fallbacks.into_iter().any(|other| other.as_str() == key)
    }

    fn any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn stage(
        self: Arc<Self>,
        candidate: &Generation,
        parent: Option<&dyn Any>,
        moved: bool,
        staged: &mut Drafts,
    ) -> Result<(), Error> {
        let drawn = self.rule.draw(&self.key, candidate, parent)?;
        let mut stamp = Arc::clone(&candidate.stamp);
        if moved {
            let current = self.cell.load();
            stamp = Arc::new(Stamp {
                number: current.stamp.number,
                time: current.stamp.time,
                layers: Arc::clone(&stamp.layers),
                pinned: None,
            });
        }
        let version = Arc::new(Version::new(drawn, stamp));
        let derived = self.derived();
        let draft = Draft {
            slot: Contained::new(self),
            version: Some(Contained::new(Arc::clone(&version))),
            before: None,
        };
        staged.0.push(Box::new(draft));
        if !derived.is_empty() {
            let derived = Discard::new(derived);
            for slot in derived.iter() {
                Arc::clone(slot).stage(candidate, Some(&version), moved, staged)?;
            }
        }
        Ok(())
    }
}

impl<T: Send + Sync + 'static> Staged for Draft<T> {
    fn publish(&mut self) {
        if let Some(version) = self.version.take() {
            let before = self.slot.publish(version.into_inner());
            self.before = Some(Contained::new(before));
        }
    }

    fn notify(&self, told: &mut Vec<Arc<dyn Listener>>) {
        self.slot.notify(told);
    }

    fn address(&self) -> usize {
        Arc::as_ptr(&self.slot).cast::<()>() as usize
    }

    fn retire(&mut self) -> Option<RetiredVersion> {
        // A value without a destructor costs a reader one deallocation.
        if !std::mem::needs_drop::<T>() {
            return None;
        }
        // Else it stays with this draft, and is dropped with it.
        let is_read = |version: &Arc<Version<T>>| Arc::strong_count(version) > 1;
        let before = self.before.take_if(|before| is_read(before))?;
        Some(before.into_inner())
    }
}

impl<T> fmt::Debug for Slot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("key", &self.key)
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

#[cfg(all(test, not(loom), target_pointer_width = "64"))]
mod tests {
    use std::mem::{offset_of, size_of};

    use super::*;

    #[test]
    fn a_slot_of_a_number_takes_128_bytes_with_its_version() {
        // Two counts stand before what an `Arc` holds.
        let counts = 2 * size_of::<usize>();
        let slot = counts + size_of::<Slot<u32>>();
        let version = counts + size_of::<Version<u32>>();
        assert_eq!((slot, version), (88, 40));
        assert_eq!(size_of::<Spec<u32>>(), 64);
    }

    #[test]
    fn what_a_commit_writes_of_one_slot_is_a_line_away_from_the_bits_of_the_next() {
        const LINE: usize = 64;
        let counts = 2 * size_of::<usize>();
        let written =
            counts + offset_of!(Slot<u32>, followers) + size_of::<Mutex<Option<Box<()>>>>();
        let next = counts + size_of::<Slot<u32>>() + counts + offset_of!(Slot<u32>, bits);
        // An allocation is aligned to 16 bytes.
        assert!(
            next.next_multiple_of(16) - written >= LINE,
            "{written} {next}"
        );
        assert_eq!(offset_of!(Slot<u32>, bits), 0);
    }
}
