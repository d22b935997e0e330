//! What is known of a bucket, from one connection to the next.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Error, ErrorKind};
use crate::format::MAX_DOCUMENT_BYTES;
use crate::sources::nats::link::{Bucket, Change, Value};
use crate::sources::shared::kv::mapping::Mapping;
use crate::sources::shared::kv::mirror::{Entry, Mirror};

/// How long a bucket is doubted that is older than it was.
const DOUBTED: Duration = Duration::from_secs(10);

/// What the store holds, and of which bucket that is.
pub(super) struct Memory {
    pub(super) mirror: Mirror,
    created: String,
    /// Since when what is read is older than that.
    doubted: Option<Instant>,
}

impl Memory {
    pub(super) fn new(mapping: Mapping) -> Self {
        Self {
            mirror: Mirror::new(mapping),
            created: String::new(),
            doubted: None,
        }
    }

    /// This is all there is, unless that is doubted.
    pub(super) fn replace(&mut self, known: &Bucket, all: &[Change]) -> Result<(), Error> {
        let read = all
            .iter()
            .map(|change| (change.key.as_str(), change.revision));
        self.check(&known.created, known.last, read)?;
        let large: BTreeMap<&str, usize> = all.iter().filter_map(large).collect();
        self.mirror
            .replace_but(entries(all), |key| large.contains_key(key));
        for (key, length) in large {
            self.mirror.refuse(key, too_large(length));
        }
        Ok(())
    }

    /// Doubts what is older than what is held of the same bucket: whoever said so may be behind. If
    /// that goes on it is so, as after a newest value was deleted by its revision; and a bucket
    /// that ends before what is held was restored.
    pub(super) fn check<'a>(
        &mut self,
        created: &str,
        last: u64,
        mut read: impl Iterator<Item = (&'a str, u64)>,
    ) -> Result<(), Error> {
        let older = read.find(|(key, revision)| {
            let held = self.mirror.revision_of(key).unwrap_or_default();
            held > *revision && held <= last
        });
        if let Some((key, revision)) = older.filter(|_| self.created == created) {
            if self.doubted.get_or_insert_with(Instant::now).elapsed() < DOUBTED {
                let detail = format!(
                    "`{key}` was read at revision {revision}, which is older than what is known of \
                     it: the server may be behind"
                );
                return Err(Error::new(ErrorKind::Unavailable, detail));
            }
        }
        self.doubted = None;
        created.clone_into(&mut self.created);
        Ok(())
    }
}

pub(super) fn entry<'a>(change: &'a Change, bytes: &'a [u8]) -> Entry<'a> {
    Entry {
        key: &change.key,
        bytes,
        revision: change.revision,
    }
}

fn entries(all: &[Change]) -> impl Iterator<Item = Entry<'_>> {
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
    fn what_is_older_than_it_was_is_doubted_for_a_while() {
        let mut memory = Memory::new(Mapping::prefix(KIND, '.', "b"));
        memory.check("then", 9, [].into_iter()).unwrap();
        memory.mirror.put(&Entry {
            key: "b.n",
            bytes: b"1",
            revision: 5,
        });
        let mut read = |created: &str, last, revision| {
            let read = [("b.other", 1), ("b.n", revision)].into_iter();
            let fine = memory.check(created, last, read).is_ok();
            if let Some(since) = &mut memory.doubted {
                *since -= DOUBTED / 3;
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
        // Made anew.
        assert!(read("now", 9, 4));
    }
}
