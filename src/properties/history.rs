//! Earlier generations of [`Properties`], and roll-backs to them.

use crate::error::Error;
#[cfg(doc)]
use crate::error::ErrorKind;
use crate::properties::Properties;
use crate::source::CommitOutcome;
use crate::tree::snapshot::{Pinned, Snapshot};

impl Properties {
    /// The generations that are kept (see [`Builder::history`](crate::Builder::history)), the oldest
    /// first; the last is the one in force. Each can be rolled back to, also generation 0: a start without
    /// values. [`Snapshot::changes_since`] compares two of them.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Reentrant`] inside a validator, and [`ErrorKind::Closed`] in a fork.
    pub fn history(&self) -> Result<Vec<Snapshot>, Error> {
        let kept = self.0.engine.history()?;
        Ok(kept.into_iter().map(Snapshot).collect())
    }

    /// Publishes the tree of an earlier generation as a new generation, which stays in force until
    /// [`unpin`](Self::unpin). Updates meanwhile change the layers only.
    ///
    /// With a [`Builder::state_dir`](crate::Builder::state_dir) the roll-back survives a restart. The
    /// tree is on disk when this returns, without its secrets: those come from the layers at the next
    /// start. That start restores the tree below its own bootstrap values and above new defaults. If the
    /// tree cannot be written, [`CommitOutcome::rejected`] has the error. If the next start rejects the
    /// tree, [`Health::rejected`](crate::health::Health::rejected) has the error, and each later start tries
    /// the tree again until [`unpin`](Self::unpin).
    ///
    /// ```
    /// use liveprops::{Properties, sources::Memory};
    ///
    /// let memory = Memory::from([("qps", 100)]);
    /// let props = Properties::builder().history(8).source(memory.clone()).build()?;
    /// let good = props.generation();
    /// memory.set("qps", 1)?; // a bad push
    /// props.rollback_to(good)?;
    /// memory.set("qps", 2)?; // and another
    /// assert_eq!(props.get::<u32>("qps")?, 100);
    /// props.unpin()?;
    /// assert_eq!(props.get::<u32>("qps")?, 2);
    /// # Ok::<(), liveprops::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::NotFound`] if the generation is not kept.
    /// - [`ErrorKind::Rejected`], [`ErrorKind::Mismatch`] or [`ErrorKind::NotFound`] if a validator, the
    ///   schema or a live handle does not accept its tree any more.
    /// - [`ErrorKind::Reentrant`] inside a validator of the same properties, and [`ErrorKind::Closed`] in
    ///   a fork.
    pub fn rollback_to(&self, generation: u64) -> Result<CommitOutcome, Error> {
        self.0.engine.roll_back(Some(generation))
    }

    /// Ends [`rollback_to`](Self::rollback_to): the values of the layers are in force again.
    ///
    /// # Errors
    ///
    /// The tree stays pinned.
    ///
    /// - [`ErrorKind::Rejected`], [`ErrorKind::Mismatch`] or [`ErrorKind::NotFound`] if a validator, the
    ///   schema or a live handle does not accept the tree of the layers.
    /// - [`ErrorKind::Reentrant`] inside a validator of the same properties, and [`ErrorKind::Closed`] in
    ///   a fork.
    pub fn unpin(&self) -> Result<CommitOutcome, Error> {
        self.0.engine.roll_back(None)
    }

    /// The roll-back that is in force, if there is one.
    pub fn pinned(&self) -> Option<Pinned> {
        self.0.engine.current.load().stamp.pinned
    }
}
