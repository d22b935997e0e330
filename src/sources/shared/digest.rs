//! Digests by which a source recognizes content that it has read before.

use std::hash::{BuildHasher, Hash};

/// Computes digests of content. They differ between processes, so nobody can craft two contents with the same
/// digest.
#[derive(Clone, Debug, Default)]
pub(crate) struct Digest(foldhash::quality::RandomState);

impl Digest {
    pub(crate) fn of(&self, content: impl Hash) -> u64 {
        self.0.hash_one(content)
    }
}
