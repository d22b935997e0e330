//! Drafts: values that a commit has decoded and not published yet.

use std::any::Any;
use std::sync::Arc;

use crate::error::Error;
use crate::property::listen::Listener;
use crate::property::slot::Slot;
use crate::property::version::Version;
use crate::sync::discard::{Contained, Discard, discard};
use crate::tree::snapshot::{Generation, GenerationStamp};
use crate::value::key::Key;

/// A slot without its type, for commits.
pub(crate) trait AnySlot: Send + Sync {
    /// The key and the ones it falls back to.
    fn keys(&self) -> Vec<Key>;

    /// Whether the canonical `key` is one of them.
    fn is_on(&self, key: &str) -> bool;

    /// This slot for a handle that knows its type.
    fn any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;

    /// Decodes the value in a candidate generation, and adds it and those of the mapped slots to the drafts.
    /// `moved`: only the origin of the value differs, so it keeps its generation.
    ///
    /// The caller keeps the slot alive, so that it is not dropped here.
    fn add_drafts(
        self: Arc<Self>,
        candidate: &Generation,
        parent: Option<&dyn Any>,
        moved: bool,
        drafts: &mut Drafts,
    ) -> Result<(), Error>;
}

/// A draft without its type.
pub(crate) trait AnyDraft: Send {
    /// Makes the value current and keeps the one before it.
    fn publish(&mut self);

    /// Adds the listeners of the slot, after all values of the commit and its number are visible.
    fn collect_listeners(&self, notified: &mut Vec<Arc<dyn Listener>>);

    /// The address of the slot.
    fn address(&self) -> usize;

    /// The value before, if a reader still has it and its `Drop` may take long.
    fn retire(&mut self) -> Option<RetiredVersion>;
}

/// A version that was replaced while a reader had it.
pub(crate) type RetiredVersion = Arc<dyn Any + Send + Sync>;

/// The drafts of one commit.
///
/// They may be the last owners of slots and versions, whose drop is user code. So the drafts are
/// discarded, also after a rejected commit.
#[derive(Default)]
pub(crate) struct Drafts(Vec<Box<dyn AnyDraft>>);

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

    /// Adds the listeners of all slots.
    pub(crate) fn collect_listeners(&self, notified: &mut Vec<Arc<dyn Listener>>) {
        self.0
            .iter()
            .for_each(|draft| draft.collect_listeners(notified));
    }

    /// The addresses of all slots.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = usize> {
        self.0.iter().map(|draft| draft.address())
    }

    /// Moves out the replaced versions that readers still have.
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

    fn add_drafts(
        self: Arc<Self>,
        candidate: &Generation,
        parent: Option<&dyn Any>,
        moved: bool,
        drafts: &mut Drafts,
    ) -> Result<(), Error> {
        let decoded = self.rule.decode(&self.key, candidate, parent)?;
        let mut stamp = Arc::clone(&candidate.stamp);
        if moved {
            let current = self.cell.load();
            stamp = Arc::new(GenerationStamp {
                number: current.stamp.number,
                time: current.stamp.time,
                layers: Arc::clone(&stamp.layers),
                pinned: None,
            });
        }
        let version = Arc::new(Version::new(decoded, stamp));
        let mapped_slots = self.mapped_slots();
        let draft = Draft {
            slot: Contained::new(self),
            version: Some(Contained::new(Arc::clone(&version))),
            before: None,
        };
        drafts.0.push(Box::new(draft));
        if !mapped_slots.is_empty() {
            let mapped_slots = Discard::new(mapped_slots);
            for slot in mapped_slots.iter() {
                Arc::clone(slot).add_drafts(candidate, Some(&version), moved, drafts)?;
            }
        }
        Ok(())
    }
}

impl<T: Send + Sync + 'static> AnyDraft for Draft<T> {
    fn publish(&mut self) {
        if let Some(version) = self.version.take() {
            let before = self.slot.publish(version.into_inner());
            self.before = Some(Contained::new(before));
        }
    }

    fn collect_listeners(&self, notified: &mut Vec<Arc<dyn Listener>>) {
        self.slot.collect_listeners(notified);
    }

    fn address(&self) -> usize {
        Arc::as_ptr(&self.slot).cast::<()>() as usize
    }

    fn retire(&mut self) -> Option<RetiredVersion> {
        // A value without a destructor costs a reader one deallocation.
        if !std::mem::needs_drop::<T>() {
            return None;
        }
        // A version without readers is dropped with this draft.
        let is_read = |version: &Arc<Version<T>>| Arc::strong_count(version) > 1;
        let before = self.before.take_if(|before| is_read(before))?;
        Some(before.into_inner())
    }
}
