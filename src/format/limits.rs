//! What all formats refuse alike: too deep, too long a key, a key given twice.

use crate::error::{Error, ErrorKind};
#[cfg(any(feature = "toml", feature = "json", feature = "yaml"))]
use crate::value::key::{self, MAX_DEPTH, MAX_KEY_BYTES};
use crate::value::origin::Origin;

/// A fault in the document at one place.
pub(crate) fn malformed(detail: impl Into<String>, at: Origin) -> Error {
    Error::new(ErrorKind::Malformed, detail).with_origin(at)
}

/// Nested too deep, at one place.
#[cfg(any(feature = "toml", feature = "json", feature = "yaml"))]
pub(crate) fn too_deep(at: Origin) -> Error {
    let detail = format!("nested deeper than {MAX_DEPTH} levels");
    Error::new(ErrorKind::TooLarge, detail).with_origin(at)
}

/// A key that was given before, or that would be a value and a table at once.
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
    Error::new(ErrorKind::InvalidKey, detail)
        .with_key(shown(key))
        .with_origin(at)
}

#[cfg(any(
    feature = "toml",
    feature = "json",
    feature = "yaml",
    feature = "properties",
    feature = "dotenv"
))]
pub(crate) fn shown(key: &str) -> String {
    key.chars().take(80).collect()
}

/// Where a walk down a document stands: the key so far, and the tables and lists around it.
#[cfg(any(feature = "toml", feature = "json", feature = "yaml"))]
#[derive(Default)]
pub(crate) struct Trail {
    key: String,
    depth: usize,
}

#[cfg(any(feature = "toml", feature = "json", feature = "yaml"))]
impl Trail {
    /// Steps down to a name; what comes back is for [`leave`](Self::leave).
    pub(crate) fn enter(
        &mut self,
        name: &str,
        at: impl FnOnce() -> Origin,
    ) -> Result<usize, Error> {
        let before = self.key.len();
        key::push_segment(&mut self.key, name);
        if self.key.len() > MAX_KEY_BYTES {
            let detail = format!("not a valid key: longer than {MAX_KEY_BYTES} bytes");
            return Err(Error::new(ErrorKind::TooLarge, detail)
                .with_key(shown(&self.key))
                .with_origin(at()));
        }
        Ok(before)
    }

    pub(crate) fn leave(&mut self, before: usize) {
        self.key.truncate(before);
    }

    /// Steps into a table or a list. The root counts, so that a value at the deepest level has a
    /// key of [`MAX_DEPTH`] segments.
    pub(crate) fn open(&mut self, at: impl FnOnce() -> Origin) -> Result<(), Error> {
        if self.depth >= MAX_DEPTH {
            return Err(too_deep(at()).with_key(shown(&self.key)));
        }
        self.depth += 1;
        Ok(())
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
