//! The paths that a watch has reported, within a limit.

use std::collections::BTreeSet;

/// The most bytes of paths that are kept, each counting [`PATH_BYTES`] besides.
const MAX_BYTES: usize = 4 << 20;
const PATH_BYTES: usize = 64;

/// The paths of the nodes that a watch has reported.
#[derive(Default)]
pub(super) struct ChangedPaths {
    paths: BTreeSet<String>,
    bytes: usize,
    has_overflowed: bool,
}

impl ChangedPaths {
    pub(super) fn is_empty(&self) -> bool {
        self.paths.is_empty() && !self.has_overflowed
    }

    /// Removes and returns the paths; `None` if there were too many, and everything has to be read.
    pub(super) fn drain(&mut self) -> Option<BTreeSet<String>> {
        let all = std::mem::take(self);
        (!all.has_overflowed).then_some(all.paths)
    }

    pub(super) fn insert(&mut self, path: &str) {
        if self.has_overflowed || self.paths.contains(path) {
            return;
        }
        self.bytes += PATH_BYTES + path.len();
        if self.bytes > MAX_BYTES {
            *self = Self {
                has_overflowed: true,
                ..Self::default()
            };
            return;
        }
        self.paths.insert(path.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_over_the_limit_are_dropped() {
        let mut changed = ChangedPaths::default();
        assert!(changed.is_empty());
        for n in 0..MAX_BYTES / PATH_BYTES {
            changed.insert("/app/the same");
            changed.insert(&format!("/app/{n}"));
        }
        assert!(changed.has_overflowed && changed.paths.is_empty() && !changed.is_empty());
        assert_eq!(changed.drain(), None);
        assert!(changed.is_empty());
        changed.insert("/app");
        assert_eq!(changed.drain().unwrap().len(), 1);
    }
}
