//! What files and directories share: reading that cannot hang, and watching that misses nothing.
//!
//! A path is followed as a *chain*: every directory on it, and on each hop of a symbolic link, is
//! watched, and only the names that lead to the file count. So a swapped release link, a replaced
//! parent and a file that is not there yet are all seen, and a noisy neighbour is not.
//!
//! `read` reads, `chain` finds the directories, `hub` shares one watcher of the operating system,
//! `mailbox` carries its events to the source's thread, `trust` has the rule by which content is
//! accepted, `follow` applies it, `verdict` remembers what was done with it.

use std::path::{Path, PathBuf};
use std::time::Duration;

#[cfg_attr(not(feature = "watch"), allow(dead_code))] // only events need all of it
pub(in crate::sources) mod chain;
pub(in crate::sources) mod follow;
#[cfg(feature = "watch")]
pub(in crate::sources) mod hub;
#[cfg(not(feature = "watch"))]
#[path = "no_hub.rs"]
pub(in crate::sources) mod hub;
#[cfg_attr(not(feature = "watch"), allow(dead_code))] // only events post to it
pub(in crate::sources) mod mailbox;
pub(in crate::sources) mod read;
#[cfg(test)]
pub(in crate::sources) mod testing;
pub(in crate::sources) mod trust;
pub(in crate::sources) mod verdict;

/// The pause between two readings of content that no event announced.
pub(in crate::sources) const POLL: Duration = Duration::from_secs(5);

/// How long a file may be away before anybody is told: editors rename.
pub(in crate::sources) const GAP: Duration = Duration::from_millis(200);

/// The path as it is from here: a later change of the working directory must not move it.
pub(in crate::sources) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}
