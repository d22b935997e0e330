//! Files and directories.

pub(super) mod dir;
pub(super) mod file;
pub(super) mod watch;
