//! What all formats refuse alike: too deep, too many values, too long a key, a key given twice.
//!
//! The limits on numbers bound the memory of a parser. A table or a list takes up to 20 times as much
//! as the shortest text that spells one, `{},` or `[],`, and the parsers of TOML and YAML hold up to
//! 1.7 KiB for each. With the limits no document takes more than 4 times what the scalar keys take that
//! fit into its length, or than 192 MiB if that is more (see `tests/parser_memory.rs`).

use crate::error::{Error, ErrorKind};
#[cfg(any(feature = "toml", feature = "json", feature = "yaml"))]
use crate::value::key::{self, MAX_DEPTH, MAX_KEY_BYTES};
use crate::value::origin::Origin;
#[cfg(any(
    feature = "toml",
    feature = "json",
    feature = "yaml",
    feature = "properties",
    feature = "dotenv"
))]
use crate::value::secret::mask_text;

#[cfg(any(
    feature = "toml",
    feature = "json",
    feature = "yaml",
    feature = "properties",
    feature = "dotenv"
))]
pub(crate) use crate::value::key::{MAX_TABLES, MAX_VALUES};

/// How many nodes a document has so far.
#[cfg(any(
    feature = "toml",
    feature = "json",
    feature = "yaml",
    feature = "properties",
    feature = "dotenv"
))]
#[derive(Clone, Copy, Default)]
pub(crate) struct Nodes {
    tables: usize,
    values: usize,
}

#[cfg(any(
    feature = "toml",
    feature = "json",
    feature = "yaml",
    feature = "properties",
    feature = "dotenv"
))]
impl Nodes {
    /// Adds so many tables or lists.
    #[inline]
    pub(crate) fn add_tables(
        &mut self,
        count: usize,
        at: impl FnOnce() -> Origin,
    ) -> Result<(), Error> {
        self.tables += count;
        match self.tables {
            0..=MAX_TABLES => Ok(()),
            _ => Err(too_many_tables(at())),
        }
    }

    /// Adds a value that is neither a table nor a list.
    #[inline]
    pub(crate) fn add_value(&mut self, at: impl FnOnce() -> Origin) -> Result<(), Error> {
        self.values += 1;
        match self.values {
            0..=MAX_VALUES => Ok(()),
            _ => Err(too_many_values(at())),
        }
    }
}

#[cfg(any(
    feature = "toml",
    feature = "json",
    feature = "yaml",
    feature = "properties",
    feature = "dotenv"
))]
#[cold]
pub(crate) fn too_many_tables(at: Origin) -> Error {
    let detail = format!(
        "more than {MAX_TABLES} tables and lists in one document; split it, or use fewer tables"
    );
    Error::new(ErrorKind::TooLarge, detail).with_origin(at)
}

#[cfg(any(
    feature = "toml",
    feature = "json",
    feature = "yaml",
    feature = "properties",
    feature = "dotenv"
))]
#[cold]
pub(crate) fn too_many_values(at: Origin) -> Error {
    let detail = format!("more than {MAX_VALUES} values in one document; split it");
    Error::new(ErrorKind::TooLarge, detail).with_origin(at)
}

/// A fault in the document at one place.
pub(crate) fn malformed(detail: impl Into<String>, at: Origin) -> Error {
    Error::new(ErrorKind::Malformed, detail).with_origin(at)
}

/// The detail of a fault.
#[cfg(any(
    feature = "toml",
    feature = "json",
    feature = "yaml",
    feature = "properties"
))]
pub(crate) const NUL: &str = "a NUL character";

/// The detail of a fault.
pub(crate) const SECOND_MARK: &str = "a second byte order mark; remove it, some editors and \
     the joining of files leave one";

/// Refuses a name that holds a byte order mark.
#[cfg(any(feature = "properties", feature = "dotenv"))]
pub(crate) fn refuse_mark(name: &str, at: impl FnOnce() -> Origin) -> Result<(), Error> {
    if name.contains('\u{feff}') {
        return Err(malformed(SECOND_MARK, at()));
    }
    Ok(())
}

/// Nested too deep, at one place.
#[cfg(any(feature = "toml", feature = "json", feature = "yaml"))]
pub(crate) fn too_deep(at: Origin) -> Error {
    let detail = format!("nested deeper than {MAX_DEPTH} levels");
    Error::new(ErrorKind::TooLarge, detail).with_origin(at)
}

/// A key that was given before.
#[cfg(any(
    feature = "toml",
    feature = "json",
    feature = "yaml",
    feature = "properties",
    feature = "dotenv"
))]
pub(crate) fn twice(key: &str, first_line: Option<u32>, at: Origin) -> Error {
    let mut detail = String::from("given twice");
    if let Some(line) = first_line {
        detail.push_str(&format!(", first on line {line}"));
    }
    if let Some((line, _)) = at.line() {
        detail.push_str(&format!(" and again on line {line}"));
    }
    with_key(Error::new(ErrorKind::InvalidKey, detail), key).with_origin(at)
}

/// Names the key, masked and cut if it may be a value gone wrong.
#[cfg(any(
    feature = "toml",
    feature = "json",
    feature = "yaml",
    feature = "properties",
    feature = "dotenv"
))]
pub(crate) fn with_key(error: Error, key: &str) -> Error {
    let shown = shown(key);
    if shown == key {
        error.with_key_text(key)
    } else {
        error.with_subject(shown)
    }
}

#[cfg(any(
    feature = "toml",
    feature = "json",
    feature = "yaml",
    feature = "properties",
    feature = "dotenv"
))]
pub(crate) fn shown(key: &str) -> String {
    // The name of a key may be a value gone wrong.
    let key = mask_text(key);
    key.chars().take(80).collect()
}

/// Where a walk down a document stands: the key so far, and the tables and lists around it.
#[cfg(any(feature = "toml", feature = "json", feature = "yaml"))]
#[derive(Default)]
pub(crate) struct Trail {
    key: String,
    depth: usize,
    /// What was counted on the way.
    nodes: Nodes,
}

/// The first byte of a byte order mark in UTF-8.
#[cfg(any(feature = "toml", feature = "json", feature = "yaml"))]
const MARK_START: u8 = 0xEF;

#[cfg(any(feature = "toml", feature = "json", feature = "yaml"))]
impl Trail {
    /// Steps down to a name; what comes back is for [`leave`](Self::leave).
    pub(crate) fn enter(
        &mut self,
        name: &str,
        at: impl FnOnce() -> Origin,
    ) -> Result<usize, Error> {
        let before = self.key.len();
        // One pass over the bytes of every name; a search for the characters costs four times as much.
        if name.bytes().any(|byte| byte == 0 || byte == MARK_START) {
            if name.contains('\0') {
                return Err(malformed(NUL, at()));
            }
            if name.contains('\u{feff}') {
                return Err(malformed(SECOND_MARK, at()));
            }
        }
        key::push_segment(&mut self.key, name);
        if self.key.len() > MAX_KEY_BYTES {
            // The name itself is not shown: so long a one may be a value gone wrong.
            let detail = format!("not a valid key: longer than {MAX_KEY_BYTES} bytes");
            let error = Error::new(ErrorKind::TooLarge, detail).with_origin(at());
            return Err(with_key(error, &self.key[..before]));
        }
        Ok(before)
    }

    pub(crate) fn leave(&mut self, before: usize) {
        self.key.truncate(before);
    }

    /// Steps into a table or a list, and counts it. The root counts, so that a value at the deepest level has a
    /// key of [`MAX_DEPTH`] segments.
    pub(crate) fn open(&mut self, at: impl FnOnce() -> Origin) -> Result<(), Error> {
        if self.depth >= MAX_DEPTH {
            return Err(with_key(too_deep(at()), &self.key));
        }
        self.depth += 1;
        self.nodes.add_tables(1, at)
    }

    /// Steps into a table that was counted before, and whose depth was checked.
    #[cfg(feature = "toml")]
    pub(crate) fn open_again(&mut self) {
        self.depth += 1;
    }

    /// Steps over a value.
    #[cfg(any(feature = "toml", feature = "json"))]
    pub(crate) fn value(&mut self, at: impl FnOnce() -> Origin) -> Result<(), Error> {
        self.nodes.add_value(at)
    }

    pub(crate) fn close(&mut self) {
        self.depth -= 1;
    }

    /// The key here.
    #[cfg(any(feature = "toml", feature = "json"))]
    pub(crate) fn key(&self) -> &str {
        &self.key
    }
}
