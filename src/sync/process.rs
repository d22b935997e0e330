//! Tells a process from its forks.
//!
//! A fork copies the memory of a process and only the thread that forks. Threads, and whoever would
//! unlock a lock that another thread held, do not exist in the child.

/// The process that made something.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct ProcessId(u32);

impl ProcessId {
    pub(crate) fn current() -> Self {
        Self(std::process::id())
    }

    /// Whether the caller runs in this process. Costs a system call, so no read asks this.
    pub(crate) fn is_current(self) -> bool {
        self == Self::current()
    }
}
