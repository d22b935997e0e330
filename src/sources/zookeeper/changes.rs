//! The states of nodes that were read, on their way to the mirror.

use std::collections::BTreeMap;

use crate::error::{Error, ErrorKind};
use crate::format::MAX_DOCUMENT_BYTES;
use crate::sources::shared::kv::mirror::{Mirror, StoreEntry};
use crate::sources::zookeeper::KIND;
use crate::value::origin::Origin;

/// The most bytes of a tree that are read, each node counting its path, its data and [`NODE_BYTES`]: twice the
/// limit of an update, so that the error of a larger tree can name its size.
const MAX_TREE_BYTES: usize = 2 * MAX_DOCUMENT_BYTES;
pub(super) const NODE_BYTES: usize = 32;

/// The states that were read, by the keys of the mapping.
#[derive(Default)]
pub(super) struct Changes {
    all: BTreeMap<String, Change>,
    bytes: usize,
}

/// The state of a node.
pub(super) enum Change {
    Set { bytes: Vec<u8>, revision: u64 },
    Removed,
    Denied,
    TooLarge(usize),
}

impl Change {
    /// A node without data is no property.
    pub(super) fn of(bytes: &[u8], revision: u64) -> Self {
        if bytes.is_empty() {
            return Change::Removed;
        }
        let bytes = bytes.to_vec();
        Change::Set { bytes, revision }
    }

    fn bytes(&self) -> usize {
        match self {
            Change::Set { bytes, .. } => bytes.len(),
            Change::Removed | Change::Denied | Change::TooLarge(_) => 0,
        }
    }
}

impl Changes {
    pub(super) fn insert(&mut self, key: &str, change: Change) {
        self.bytes += change.bytes();
        match self.all.insert(key.to_owned(), change) {
            Some(old) => self.bytes -= old.bytes(),
            None => self.bytes += NODE_BYTES + key.len(),
        }
    }

    /// Fails if more was read than may be kept.
    pub(super) fn check(&self) -> Result<(), Error> {
        check_bytes(self.bytes)
    }

    /// Replaces the state of the mirror.
    pub(super) fn replace(&self, mirror: &mut Mirror) {
        let entries = self.all.iter().filter_map(entry);
        let is_unread = |key: &str| {
            let change = self.all.get(key);
            matches!(change, Some(Change::Denied | Change::TooLarge(_)))
        };
        mirror.replace_except(entries, is_unread);
        for (key, change) in &self.all {
            reject(mirror, key, change);
        }
    }

    /// Adds the changes to the mirror.
    pub(super) fn apply(&self, mirror: &mut Mirror) {
        for (key, change) in &self.all {
            match (change, entry((key, change))) {
                (Change::Removed, _) => mirror.delete(key),
                (_, Some(entry)) => mirror.put(&entry),
                (_, None) => reject(mirror, key, change),
            }
        }
    }
}

fn entry<'a>((key, change): (&'a String, &'a Change)) -> Option<StoreEntry<'a>> {
    match change {
        Change::Set { bytes, revision } => Some(StoreEntry {
            key,
            bytes,
            revision: *revision,
        }),
        Change::Removed | Change::Denied | Change::TooLarge(_) => None,
    }
}

/// Reports a node whose data cannot be read; its last value stays.
fn reject(mirror: &mut Mirror, key: &str, change: &Change) {
    let fault = match change {
        Change::Set { .. } | Change::Removed => return,
        Change::Denied => denied(),
        Change::TooLarge(length) => {
            let detail = format!("{length} bytes are more than {MAX_DOCUMENT_BYTES}");
            Error::new(ErrorKind::TooLarge, detail)
        }
    };
    mirror.reject(key, fault.with_origin(Origin::new(KIND, key)));
}

pub(super) fn denied() -> Error {
    let detail = "may not be read: check the digest, and the ACL of the node";
    Error::new(ErrorKind::Unavailable, detail)
}

/// Fails if a tree of this size may not be read.
pub(super) fn check_bytes(bytes: usize) -> Result<(), Error> {
    if bytes <= MAX_TREE_BYTES {
        return Ok(());
    }
    let detail = format!(
        "the tree has more than {MAX_TREE_BYTES} bytes, each node counting its path, its data and \
         {NODE_BYTES}: use a narrower prefix"
    );
    Err(Error::new(ErrorKind::TooLarge, detail))
}
