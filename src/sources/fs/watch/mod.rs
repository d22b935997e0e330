//! The common part of files and directories: reads that cannot hang, and a watch that misses no change.
//!
//! A path is followed as a *chain*: every directory on it, and on each hop of a symbolic link, is
//! watched, and only the names that lead to the file count. So a swapped release link, a replaced
//! parent and a file that is not there yet are all seen, and a noisy neighbour is not.
//!
//! `read` reads files and `chain` finds the directories to watch. `shared_watcher` is one watcher of the
//! operating system, and `mailbox` carries its events to the source's thread. `suspect` has the rule by which
//! content is accepted, `follow` applies it, and `history` has the outcomes.

use std::path::{Path, PathBuf};
use std::time::Duration;

#[cfg_attr(not(feature = "watch"), allow(dead_code))] // only events need all of it
pub(in crate::sources) mod chain;
pub(in crate::sources) mod follow;
pub(in crate::sources) mod history;
#[cfg_attr(not(feature = "watch"), allow(dead_code))] // only events post to it
pub(in crate::sources) mod mailbox;
pub(in crate::sources) mod read;
#[cfg(feature = "watch")]
pub(in crate::sources) mod shared_watcher;
#[cfg(not(feature = "watch"))]
#[path = "no_watcher.rs"]
pub(in crate::sources) mod shared_watcher;
pub(in crate::sources) mod suspect;
#[cfg(test)]
pub(in crate::sources) mod testing;

/// The pause between two readings of content that no event announced.
pub(in crate::sources) const POLL: Duration = Duration::from_secs(5);

/// How long a file may be missing before that is reported, because editors rename.
pub(in crate::sources) const RENAME_GAP: Duration = Duration::from_millis(200);

/// The absolute path, which a later change of the working directory does not move.
pub(in crate::sources) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}
