//! What one connection leaves to the next: the last state of the bucket.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Error, ErrorKind};
use crate::format::MAX_DOCUMENT_BYTES;
use crate::sources::nats::bucket::Bucket;
use crate::sources::nats::feed::{Change, Value};
use crate::sources::shared::kv::mapping::Mapping;
use crate::sources::shared::kv::mirror::{Mirror, StoreEntry};

/// How long a state that is older than the known one is rejected.
const MAX_SUSPECT: Duration = Duration::from_secs(10);

pub(super) struct Memory {
    pub(super) mirror: Mirror,
    /// The creation time of the bucket that the mirror is of.
    created: String,
    /// When the first of the older states was read.
    suspect_since: Option<Instant>,
}

impl Memory {
    pub(super) fn new(mapping: Mapping) -> Self {
        Self {
            mirror: Mirror::new(mapping),
            created: String::new(),
            suspect_since: None,
        }
    }

    /// Replaces the whole state, unless the new one is suspect.
    pub(super) fn replace(&mut self, known: &Bucket, all: &[Change]) -> Result<(), Error> {
        let read = all
            .iter()
            .map(|change| (change.key.as_str(), change.revision));
        self.check(&known.created, known.last, read)?;
        let large: BTreeMap<&str, usize> = all.iter().filter_map(large).collect();
        self.mirror
            .replace_except(entries(all), |key| large.contains_key(key));
        for (key, length) in large {
            self.mirror.reject(key, too_large(length));
        }
        Ok(())
    }

    /// Rejects a state that is older than the known one of the same bucket, because its server may be
    /// behind. A state that stays so is accepted: the newest value may have been deleted by its revision.
    /// A bucket that ends before the known revision was restored, and is accepted at once.
    fn check<'a>(
        &mut self,
        created: &str,
        last: u64,
        mut read: impl Iterator<Item = (&'a str, u64)>,
    ) -> Result<(), Error> {
        let older = read.find(|(key, revision)| {
            let known = self.mirror.revision_of(key).unwrap_or_default();
            known > *revision && known <= last
        });
        if let Some((key, revision)) = older.filter(|_| self.created == created) {
            let since = self.suspect_since.get_or_insert_with(Instant::now);
            if since.elapsed() < MAX_SUSPECT {
                let detail = format!(
                    "`{key}` was read at revision {revision}, which is older than what is known of \
                     it: the server may be behind"
                );
                return Err(Error::new(ErrorKind::Unavailable, detail));
            }
        }
        self.suspect_since = None;
        created.clone_into(&mut self.created);
        Ok(())
    }
}

pub(super) fn entry<'a>(change: &'a Change, bytes: &'a [u8]) -> StoreEntry<'a> {
    StoreEntry {
        key: &change.key,
        bytes,
        revision: change.revision,
    }
}

fn entries(all: &[Change]) -> impl Iterator<Item = StoreEntry<'_>> {
    all.iter().filter_map(|change| match change.value() {
        Value::Set(bytes) => Some(entry(change, bytes)),
        Value::Deleted | Value::TooLarge(_) => None,
    })
}

fn large(change: &Change) -> Option<(&str, usize)> {
    match change.value() {
        Value::TooLarge(length) => Some((&change.key, *length)),
        Value::Set(_) | Value::Deleted => None,
    }
}

pub(super) fn too_large(length: usize) -> Error {
    let detail = format!("{length} bytes are more than {MAX_DOCUMENT_BYTES}");
    Error::new(ErrorKind::TooLarge, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::nats::KIND;

    #[test]
    fn a_state_older_than_the_known_one_is_rejected_for_a_while() {
        let mut memory = Memory::new(Mapping::prefix(KIND, '.', "b"));
        memory.check("then", 9, [].into_iter()).unwrap();
        memory.mirror.put(&StoreEntry {
            key: "b.n",
            bytes: b"1",
            revision: 5,
        });
        let mut read = |created: &str, last, revision| {
            let read = [("b.other", 1), ("b.n", revision)].into_iter();
            let fine = memory.check(created, last, read).is_ok();
            if let Some(since) = &mut memory.suspect_since {
                *since -= MAX_SUSPECT / 3;
            }
            fine
        };
        assert!(read("then", 9, 5));
        assert!(!read("then", 9, 4));
        // It was behind, and is not any more.
        assert!(read("then", 9, 5));
        // Or it is so.
        assert!(!read("then", 9, 4) && !read("then", 9, 4) && !read("then", 9, 4));
        assert!(read("then", 9, 4));
        // Restored.
        assert!(read("then", 4, 4));
        // Created again.
        assert!(read("now", 9, 4));
    }
}
