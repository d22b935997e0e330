//! The limits and the errors that all formats share.
//!
//! The limits on the number of nodes bound the memory of a parser. A table or list takes up to 20 times
//! as much as its shortest text, `{},` or `[],`. The parsers of TOML and YAML hold up to 1.7 KiB for each.
//! `tests/parser_memory.rs` checks the bound in the documentation of [`Format`](super::Format).

use crate::error::{Error, ErrorKind};
use crate::format::BOM;
use crate::value::key::{self, MAX_DEPTH, MAX_KEY_BYTES, MAX_TABLES, MAX_VALUES};
use crate::value::origin::Origin;
use crate::value::secret::mask_text;

/// Detail of an error.
pub(crate) const NUL: &str = "a NUL character";

/// Detail of an error.
pub(crate) const SECOND_BOM: &str = "a second byte order mark; remove it, some editors and \
     the joining of files leave one";

/// Counts the nodes of a document up to their limits.
#[derive(Clone, Copy, Default)]
pub(crate) struct NodeCount {
    tables: usize,
    values: usize,
}

impl NodeCount {
    /// Adds a number of tables or lists.
    #[inline]
    pub(crate) fn add_tables(
        &mut self,
        count: usize,
        at: impl FnOnce() -> Origin,
    ) -> Result<(), Error> {
        self.tables += count;
        if self.tables > MAX_TABLES {
            return Err(too_many_tables_error(at()));
        }
        Ok(())
    }

    /// Adds a value that is neither a table nor a list.
    #[inline]
    pub(crate) fn add_value(&mut self, at: impl FnOnce() -> Origin) -> Result<(), Error> {
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(too_many_values_error(at()));
        }
        Ok(())
    }
}

#[cold]
pub(crate) fn too_many_tables_error(at: Origin) -> Error {
    let detail = format!(
        "more than {MAX_TABLES} tables and lists in one document; split it, or use fewer tables"
    );
    Error::new(ErrorKind::TooLarge, detail).with_origin(at)
}

#[cold]
pub(crate) fn too_many_values_error(at: Origin) -> Error {
    let detail = format!("more than {MAX_VALUES} values in one document; split it");
    Error::new(ErrorKind::TooLarge, detail).with_origin(at)
}

pub(crate) fn too_deep_error(at: Origin) -> Error {
    let detail = format!("nested deeper than {MAX_DEPTH} levels");
    Error::new(ErrorKind::TooLarge, detail).with_origin(at)
}

pub(crate) fn malformed_error(detail: impl Into<String>, at: Origin) -> Error {
    Error::new(ErrorKind::Malformed, detail).with_origin(at)
}

pub(crate) fn duplicate_key_error(key: &str, first_line: Option<u32>, at: Origin) -> Error {
    let mut detail = String::from("given twice");
    if let Some(line) = first_line {
        detail.push_str(&format!(", first on line {line}"));
    }
    if let Some((line, _)) = at.line() {
        detail.push_str(&format!(" and again on line {line}"));
    }
    with_key(Error::new(ErrorKind::InvalidKey, detail), key).with_origin(at)
}

/// Rejects a name that contains a byte order mark.
pub(crate) fn reject_bom(name: &str, at: impl FnOnce() -> Origin) -> Result<(), Error> {
    if name.contains(BOM) {
        return Err(malformed_error(SECOND_BOM, at()));
    }
    Ok(())
}

/// Adds a key to an error; a masked or truncated key only as text.
pub(crate) fn with_key(error: Error, key: &str) -> Error {
    let masked = masked_key(key);
    if masked == key {
        error.with_key_text(key)
    } else {
        error.with_subject(masked)
    }
}

/// Masks and truncates a key. In a malformed document, a value may be parsed as a key.
pub(crate) fn masked_key(key: &str) -> String {
    mask_text(key).chars().take(80).collect()
}

/// Tracks the key and the nesting of the node that a parser visits, and checks their limits.
#[derive(Default)]
pub(crate) struct PathTracker {
    key: String,
    depth: usize,
    nodes: NodeCount,
    hides_long_names: bool,
}

/// The first byte of a byte order mark in UTF-8.
const BOM_START: u8 = 0xEF;

impl PathTracker {
    /// Creates the tracker of a format whose names have no quotes, so that a long name may be a value.
    #[cfg(feature = "yaml")]
    pub(crate) fn hiding_long_names() -> Self {
        Self {
            hides_long_names: true,
            ..Self::default()
        }
    }

    /// Appends a name to the key; [`leave`](Self::leave) with the returned length removes it.
    pub(crate) fn enter(
        &mut self,
        name: &str,
        at: impl FnOnce() -> Origin,
    ) -> Result<usize, Error> {
        let before = self.key.len();
        // One pass over the bytes of every name; a search for the characters costs four times as much.
        if name.bytes().any(|byte| byte == 0 || byte == BOM_START) {
            if name.contains('\0') {
                return Err(malformed_error(NUL, at()));
            }
            if name.contains('\u{feff}') {
                return Err(malformed_error(SECOND_BOM, at()));
            }
        }
        key::push_segment(&mut self.key, name);
        if self.key.len() > MAX_KEY_BYTES {
            return Err(self.too_long_error(before).with_origin(at()));
        }
        Ok(before)
    }

    fn too_long_error(&self, before: usize) -> Error {
        let error = |detail| Error::new(ErrorKind::TooLarge, detail);
        if !self.hides_long_names {
            let detail = format!("not a valid key: longer than {MAX_KEY_BYTES} bytes");
            return with_key(error(detail), &self.key);
        }
        let above = &self.key[..before];
        let error = error(format!("a key in it is longer than {MAX_KEY_BYTES} bytes"));
        if above.is_empty() {
            error
        } else {
            with_key(error, above)
        }
    }

    /// Shortens the key to the length that [`enter`](Self::enter) returned.
    pub(crate) fn leave(&mut self, before: usize) {
        self.key.truncate(before);
    }

    /// Enters and counts a table or list. The root counts as a level, so that a value at the deepest level
    /// has a key of [`MAX_DEPTH`] segments.
    pub(crate) fn open(&mut self, at: impl FnOnce() -> Origin) -> Result<(), Error> {
        if self.depth >= MAX_DEPTH {
            return Err(with_key(too_deep_error(at()), &self.key));
        }
        self.depth += 1;
        self.nodes.add_tables(1, at)
    }

    /// Enters a table that [`open`](Self::open) has checked and counted before.
    pub(crate) fn reopen(&mut self) {
        self.depth += 1;
    }

    /// Leaves a table or list.
    pub(crate) fn close(&mut self) {
        self.depth -= 1;
    }

    /// Counts a value that is neither a table nor a list.
    pub(crate) fn add_value(&mut self, at: impl FnOnce() -> Origin) -> Result<(), Error> {
        self.nodes.add_value(at)
    }

    pub(crate) fn key(&self) -> &str {
        &self.key
    }
}
