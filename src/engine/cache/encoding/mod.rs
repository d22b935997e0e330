//! The bytes of a cache: the values of a layer, when its source confirmed them, and a checksum. Reading
//! trusts nothing: it is bounded in depth, in size and in what it allocates.
//!
//! ```text
//! magic, version, length, checksum | owner, confirmed, syntax, revision, table,
//!     keys of missing secrets, keys of defaults that were hidden (if some were)
//! table = count, then name and node each; node = a table, or origin and value
//! ```
//!
//! Numbers are little-endian, a text is its length and its bytes. The kind and the name of an origin are
//! written where they occur first; after that a number stands for them.

use std::sync::Arc;
use std::time::SystemTime;

use crate::error::Error;
use crate::tree::layer;
use crate::value::key::{Key, MAX_DEPTH};
use crate::value::node::Table;

mod read;
mod write;

pub(super) use read::read;
pub(super) use write::{body, body_in_force, file};

const MAGIC: [u8; 8] = *b"LIVEPROP";
/// Version 1 lacked the syntax of the texts.
const VERSION: u32 = 2;
/// Magic, version, length of the rest, checksum.
const HEADER: usize = 8 + 4 + 8 + 4;

/// A larger file is neither written nor read.
pub(super) const MAX_BYTES: usize = 64 << 20;
/// The most names, values and items: a document of 10 MiB has fewer.
const MAX_PARTS: u32 = 6_000_000;
/// The most tables and lists in each other: no source may nest half as deep.
const MAX_NESTING: usize = 2 * MAX_DEPTH;

mod tag {
    pub(super) const TABLE: u8 = 0;
    pub(super) const LEAF: u8 = 1;
    /// A leaf whose references were resolved for good.
    pub(super) const FIXED: u8 = 2;

    pub(super) const REFERENCES: u8 = 0;
    pub(super) const LITERAL: u8 = 1;

    pub(super) const UNSET: u8 = 0;
    pub(super) const FALSE: u8 = 1;
    pub(super) const TRUE: u8 = 2;
    pub(super) const INT: u8 = 3;
    pub(super) const BIG: u8 = 4;
    pub(super) const FLOAT: u8 = 5;
    pub(super) const TEXT: u8 = 6;
    pub(super) const LIST: u8 = 7;
    pub(super) const FIELDS: u8 = 8;
    /// A number or a boolean, and its text.
    pub(super) const SPELLED: u8 = 9;

    pub(super) const WHOLE: u8 = 0;
    pub(super) const LINE: u8 = 1;
    pub(super) const REVISION: u8 = 2;
    /// The positions of a list and of its items.
    pub(super) const ITEMS: u8 = 3;
}

/// The meaning of `${` in the texts of a file, before they are escaped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum TextSyntax {
    /// `${` begins a reference.
    References,
    /// `${` is text, and is escaped.
    Literal,
}

/// The values of a source, or of a roll-back, as read from disk.
#[derive(Clone, Debug)]
pub(crate) struct Restored {
    /// When the source last confirmed them.
    pub(crate) confirmed: SystemTime,
    pub(crate) syntax: TextSyntax,
    pub(crate) revision: Option<Arc<str>>,
    pub(crate) root: Table,
    /// The keys of the secrets that the file lacks, since secrets are not written to disk.
    pub(crate) missing_secrets: Vec<Key>,
    /// The defaults that were not in a tree that was rolled back to, because a layer hid them.
    pub(crate) hidden_defaults: Vec<Key>,
}

impl Restored {
    /// The hint that secrets are missing, if some are.
    pub(crate) fn missing_secrets_hint(&self) -> Option<Error> {
        layer::missing_secrets_hint(&self.missing_secrets)
    }
}

fn checksum(header: &[u8], rest: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    hasher.update(rest);
    hasher.finalize()
}
