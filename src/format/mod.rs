//! Text to values, without I/O: one file a format.

use std::path::Path;

use crate::error::{Error, ErrorKind};
use crate::value::document::Document;
use crate::value::origin::Origin;

/// The largest document, in bytes.
pub const MAX_DOCUMENT_BYTES: usize = 10 << 20;

/// Stand-in: `key = value` lines.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Format;

impl Format {
    /// By the extension of a path.
    pub fn of_path(path: &Path) -> Option<Format> {
        Format::from_extension(path.extension()?.to_str()?)
    }

    /// By an extension.
    pub fn from_extension(extension: &str) -> Option<Format> {
        (extension == "toml").then_some(Format)
    }

    /// The name.
    pub fn name(&self) -> &'static str {
        "toml"
    }

    /// Parses.
    pub fn parse(&self, bytes: &[u8], origin: &Origin) -> Result<Document, Error> {
        let text = std::str::from_utf8(bytes)
            .map_err(|_| Error::new(ErrorKind::Malformed, "not UTF-8").with_origin(origin))?;
        let mut document = Document::new();
        for (number, line) in text.lines().enumerate() {
            let at = origin.at(number as u32 + 1, 1);
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let Some((key, value)) = line.split_once('=') else {
                return Err(Error::new(ErrorKind::Malformed, "no `=`").with_origin(at));
            };
            let value = value.trim();
            match value.parse::<i64>() {
                Ok(number) => document.set(key.trim(), number, at)?,
                Err(_) => document.set(key.trim(), value.trim_matches('"'), at)?,
            }
        }
        Ok(document)
    }
}
