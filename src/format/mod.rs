//! Parses text into documents, without I/O. Each format has a module; `limits` and `positions` are shared.

use std::fmt;
use std::path::Path;

use crate::error::{Error, ErrorKind};
use crate::value::document::Document;
use crate::value::origin::Origin;

#[cfg(feature = "dotenv")]
mod dotenv;
#[cfg(any(feature = "properties", feature = "dotenv"))]
mod flat;
#[cfg(feature = "json")]
mod json;
#[allow(dead_code)] // each format uses a part
mod limits;
#[allow(dead_code)] // each format uses a part
mod positions;
#[cfg(feature = "properties")]
mod properties;
#[cfg(test)]
mod tests;
#[cfg(feature = "toml")]
mod toml;
#[cfg(feature = "yaml")]
mod yaml;

/// The maximum size of a document: 10 MiB.
pub const MAX_DOCUMENT_BYTES: usize = 10 * 1024 * 1024;

/// Parses the text of a configuration: TOML, JSON, YAML, `.properties`, dotenv, or a format of your own.
///
/// # Rules of all formats
///
/// - The text is UTF-8. One byte order mark at the beginning is skipped. A NUL character is rejected,
///   also as an escape.
/// - CRLF ends a line. A multi-line string of TOML keeps it.
/// - A key that is given twice, or that is both a value and a table, rejects the document. Dotenv
///   reports the line instead.
/// - The [`Origin`] of each value has its line and column.
/// - An error never quotes a value, which may be a secret.
/// - A number or boolean that is not in canonical form keeps its spelling: `3.10`, `0x1F`, `1_000` and
///   `TRUE` read as text are these characters.
///
/// # Limits
///
/// - A document has at most [`MAX_DOCUMENT_BYTES`] and 64 levels; a key has at most 1 KiB.
/// - A document has at most 100,000 tables and lists, and 1,000,000 other values. List items count.
/// - Parsing a document of scalar keys needs some 15 times its length in JSON, `.properties` and dotenv,
///   30 times in YAML, and 45 times in TOML. Any other document needs at most 4 times the memory of
///   scalar keys of the same length, or 192 MiB if that is more.
/// - The time to parse a document grows linearly with its length.
///
/// # Examples
///
#[cfg_attr(feature = "toml", doc = "```")]
#[cfg_attr(not(feature = "toml"), doc = "```ignore")]
/// use liveprops::{Format, Origin, Value};
///
/// let file = Origin::new("file", "app.toml");
/// let document = Format::toml().parse(b"[ratelimit]\nqps = 500\n", &file)?;
/// assert_eq!(document.get("ratelimit.qps"), Some(&Value::from(500)));
/// assert_eq!(document.origin("ratelimit.qps").unwrap().to_string(), "file app.toml:2:7");
/// # Ok::<(), liveprops::Error>(())
/// ```
#[derive(Clone, Copy)]
pub struct Format {
    name: &'static str,
    parse: fn(&str, &Origin) -> Result<Document, Error>,
}

impl Format {
    /// Creates a format of your own from its name and its parser.
    ///
    /// [`parse`](Self::parse) checks the encoding and the size, removes the byte order mark and calls the
    /// parser. The parser sets the line and column of each value with [`Origin::at`].
    ///
    /// ```
    /// use liveprops::{Document, Error, Format, Origin};
    ///
    /// fn words(text: &str, origin: &Origin) -> Result<Document, Error> {
    ///     let mut document = Document::new();
    ///     for (number, line) in (1..).zip(text.lines()) {
    ///         document.set(line.trim(), true, origin.at(number, 1))?;
    ///     }
    ///     Ok(document)
    /// }
    ///
    /// let flags = Format::new("flags", words);
    /// let document = flags.parse(b"dark_mode\nbeta", &Origin::new("file", "flags"))?;
    /// assert_eq!(document.len(), 2);
    /// # Ok::<(), Error>(())
    /// ```
    pub const fn new(
        name: &'static str,
        parse: fn(&str, &Origin) -> Result<Document, Error>,
    ) -> Self {
        Self { name, parse }
    }

    /// Returns the format for TOML. Dates and times become text as in RFC 3339, such as
    /// `1979-05-27T07:32:00Z`.
    #[cfg(feature = "toml")]
    pub const fn toml() -> Self {
        Self::new("toml", toml::parse)
    }

    /// Returns the format for JSON. The document is an object. A `null` hides the key of lower layers.
    /// A dot in a name is part of the name.
    #[cfg(feature = "json")]
    pub const fn json() -> Self {
        Self::new("json", json::parse)
    }

    /// Returns the format for YAML 1.2 with its core schema: `no` and `12:30` are text, `012` is twelve.
    /// A null hides the key of lower layers.
    ///
    /// A list or mapping in brackets where a key may begin, as in `- [a, b]`, has at most 70,000 brackets,
    /// braces, commas, colons and quotes: the parser buffers it, in up to 48 MiB, until it knows whether it
    /// is a key. This limit applies neither to a value behind `name: ` nor to a document in braces, such as
    /// JSON.
    ///
    /// Aliases and merge keys (`<<`) add at most 100,000 nodes and 10 MiB. A text with several documents,
    /// keys that are not scalars, and tags outside the core schema are rejected.
    #[cfg(feature = "yaml")]
    pub const fn yaml() -> Self {
        Self::new("yaml", yaml::parse)
    }

    /// Returns the format for Java's `.properties`, in UTF-8. Dotted keys become paths; all values are text.
    #[cfg(feature = "properties")]
    pub const fn properties() -> Self {
        Self::new("properties", properties::parse)
    }

    /// Returns the format for dotenv, as in `.env` files. All values are text, nothing is expanded, and
    /// `RATELIMIT__MAX_BURST` becomes `ratelimit.max_burst`.
    ///
    /// A bad line is reported in [`Document::problems`]; the other lines are read:
    ///
    /// - A line that sets no key is skipped, as `Env` skips such a variable: a bare `NAME`, `A-B=1`,
    ///   `A___B=1`, or `FOO__BAR` after `FOO`.
    /// - A line with text after the closing quote is skipped, such as `A='it'\''s'`. The key keeps its
    ///   earlier value.
    /// - The last line of a repeated name is used.
    ///
    /// An open quote, and a last line with neither `=` nor a newline, reject the document: it is truncated.
    ///
    /// systemd's `EnvironmentFile` reads simple lines in the same way. Comments after a value, backslashes
    /// and text around quotes differ.
    ///
    /// `${key}` without quotes or in double quotes is a reference, as in any document. It is text in single
    /// quotes, and where `\$` escapes the dollar: in double quotes, or before a brace without quotes. The
    /// document then contains `$${key}`.
    #[cfg(feature = "dotenv")]
    pub const fn dotenv() -> Self {
        Self::new("dotenv", dotenv::parse)
    }

    /// Returns the format of a file name extension in any case, or `None` if no enabled feature has one.
    pub fn from_extension(extension: &str) -> Option<Self> {
        match extension.to_ascii_lowercase().as_str() {
            #[cfg(feature = "toml")]
            "toml" => Some(Self::toml()),
            #[cfg(feature = "json")]
            "json" => Some(Self::json()),
            #[cfg(feature = "yaml")]
            "yaml" | "yml" => Some(Self::yaml()),
            #[cfg(feature = "properties")]
            "properties" => Some(Self::properties()),
            #[cfg(feature = "dotenv")]
            "env" => Some(Self::dotenv()),
            _ => None,
        }
    }

    /// Returns the format of a file by its extension. `.env`, `.env.local` and the like are dotenv.
    pub fn of_path(path: &Path) -> Option<Self> {
        Self::from_extension(extension_of(path)?)
    }

    /// Explains why a path has no format: its feature is off, or its extension is unknown.
    pub(crate) fn unknown(path: &Path) -> String {
        match extension_of(path).and_then(feature_of) {
            Some(feature) => format!("its format needs the feature `{feature}` of liveprops"),
            None => "no format is known for its name; set one with `format`".to_owned(),
        }
    }

    /// Returns the name of the format, such as `toml`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Parses a document. Each value gets `origin` with its line and column.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::TooLarge`]: the document, its nesting, a key, or the number of values exceeds its
    ///   limit.
    /// - [`ErrorKind::Malformed`]: the text is not of this format.
    /// - [`ErrorKind::InvalidKey`]: a key is given twice, is both a value and a table, or is not valid.
    pub fn parse(&self, bytes: &[u8], origin: &Origin) -> Result<Document, Error> {
        if bytes.len() > MAX_DOCUMENT_BYTES {
            let detail = format!("the document is longer than {MAX_DOCUMENT_BYTES} bytes");
            return Err(Error::new(ErrorKind::TooLarge, detail).with_origin(origin));
        }
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let offset = error.valid_up_to();
            let valid = bytes[..offset].strip_prefix(BOM.as_bytes());
            let (line, column) = positions::position(valid.unwrap_or(&bytes[..offset]), offset);
            let detail = format!("not UTF-8: invalid at byte {offset}, line {line}");
            limits::malformed_error(detail, origin.at(line, column))
        })?;
        let text = text.strip_prefix(BOM).unwrap_or(text);
        if text.starts_with(BOM) {
            return Err(limits::malformed_error(limits::SECOND_BOM, origin.at(1, 1)));
        }
        if let Some(offset) = text.find('\0') {
            let (line, column) = positions::position(text.as_bytes(), offset);
            let detail = format!("a NUL character at {line}:{column}");
            return Err(limits::malformed_error(detail, origin.at(line, column)));
        }
        (self.parse)(text, origin)
    }
}

/// A byte order mark.
const BOM: &str = "\u{feff}";

/// The extension that decides the format of a path; `env` for `.env.local`.
fn extension_of(path: &Path) -> Option<&str> {
    let name = path.file_name()?.to_str()?;
    if name == ".env" || name.starts_with(".env.") {
        return Some("env");
    }
    path.extension()?.to_str()
}

/// The feature that enables the format of a file name extension.
pub(crate) fn feature_of(extension: &str) -> Option<&'static str> {
    match extension.to_ascii_lowercase().as_str() {
        "toml" => Some("toml"),
        "json" => Some("json"),
        "yaml" | "yml" => Some("yaml"),
        "properties" => Some("properties"),
        "env" => Some("dotenv"),
        _ => None,
    }
}

impl fmt::Debug for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Format({})", self.name)
    }
}
