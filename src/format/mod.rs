//! Text to values, without any I/O: one file a format, and one set of rules for all of them.

use std::ffi::OsStr;
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
mod limits;
#[cfg(feature = "properties")]
mod properties;
mod spans;
#[cfg(test)]
mod tests;
#[cfg(feature = "toml")]
mod toml;
#[cfg(feature = "yaml")]
mod yaml;

/// The largest document, in bytes.
pub const MAX_DOCUMENT_BYTES: usize = 10 * 1024 * 1024;

/// How a text says keys and values: TOML, JSON, YAML, `.properties`, dotenv, or one of your own.
///
/// All formats keep the same rules. A document is at most [`MAX_DOCUMENT_BYTES`] long, nests at
/// most 64 levels, and has keys of at most 1 KiB. It is UTF-8; one byte order mark at the
/// beginning is skipped, CRLF ends a line (inside a TOML text of several lines it stays as it is written), a
/// NUL is refused, also as an escape. A key that is given
/// twice, or that would be a value and a table at once, refuses the whole document; dotenv reports the
/// line instead. Each value knows its line and column. No message quotes a
/// value of the document, for it may be a secret. A number or a boolean that is not written in its
/// canonical form keeps its spelling: `3.10`, `0x1F`, `1_000` and `TRUE` read as text as they stand
/// there.
///
/// A document has at most 100,000 tables and lists and 1,000,000 other values; the items of lists
/// count. While a document of scalar keys is parsed, it takes some 15 times its length in JSON,
/// `.properties` and dotenv, some 30 times in YAML, and some 45 times in TOML. No document takes more
/// than 4 times what the scalar keys take that fit into its length, or than 192 MiB if that is more. The
/// time to parse a document grows linearly with its length.
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
    /// The parser is given text that kept the rules of all formats, with the byte order mark
    /// taken off. It should set the place of each value with [`Origin::at`].
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

    /// TOML. Dates and times become text as in RFC 3339, such as `1979-05-27T07:32:00Z`.
    #[cfg(feature = "toml")]
    pub const fn toml() -> Self {
        Self::new("toml", toml::parse)
    }

    /// JSON. The document is an object; a `null` hides the key of lower layers; a dot in a name
    /// is part of the name.
    #[cfg(feature = "json")]
    pub const fn json() -> Self {
        Self::new("json", json::parse)
    }

    /// YAML 1.2 with its core schema: `no` and `12:30` are text, `012` is twelve, a null hides
    /// the key of lower layers.
    ///
    /// A list or a mapping in brackets that stands where a key may stand, as in `- [a, b]`, is read as a
    /// whole before the parser knows what it is. So it may have at most 70,000 brackets, braces, commas,
    /// colons and quotes, which take up to 48 MiB. That holds neither for a value behind `name: ` nor for
    /// the mapping in braces that is the document, such as JSON.
    ///
    /// Aliases and merge keys (`<<`) may add at most 100,000 nodes and 10 MiB. Several documents
    /// in one text, keys that are not scalars, and tags beyond the core ones are refused.
    #[cfg(feature = "yaml")]
    pub const fn yaml() -> Self {
        Self::new("yaml", yaml::parse)
    }

    /// Java's `.properties`, in UTF-8. Dotted keys become paths, all values are text.
    #[cfg(feature = "properties")]
    pub const fn properties() -> Self {
        Self::new("properties", properties::parse)
    }

    /// Dotenv, as in `.env` files. All values are text, nothing is expanded, and
    /// `RATELIMIT__MAX_BURST` becomes `ratelimit.max_burst`.
    ///
    /// A bad line is reported in [`Document::problems`], and the rest of the document counts:
    ///
    /// - A line that sets no key is left out, as a variable is by `Env`: a bare `NAME`, `A-B=1`,
    ///   `A___B=1`, or `FOO__BAR` after `FOO`.
    /// - A line with text after the closing quote is left out, such as `A='it'\''s'`. The key keeps the
    ///   value that it had.
    /// - Of a name that is given twice the last line counts.
    ///
    /// A quote that is not closed and a last line without `=` and newline reject the document: it was
    /// cut.
    ///
    /// systemd's `EnvironmentFile` has a syntax of its own. Simple lines mean the same in both.
    /// Comments after a value, backslashes and text around quotes do not.
    ///
    /// `${key}` without quotes or in double quotes is a reference, as in any document. In single quotes,
    /// and where `\$` writes the dollar (in double quotes, or before a brace without quotes), it is text: the
    /// document has it escaped, as `$${key}`.
    #[cfg(feature = "dotenv")]
    pub const fn dotenv() -> Self {
        Self::new("dotenv", dotenv::parse)
    }

    /// Returns the format of a file name extension, in any case; `None` if there is no such
    /// format or its feature is off.
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

    /// Returns the format of a file by its name: its extension decides, and `.env` as well as
    /// `.env.local` and the like are dotenv.
    pub fn of_path(path: &Path) -> Option<Self> {
        let name = path.file_name().and_then(OsStr::to_str)?;
        if name == ".env" || name.starts_with(".env.") {
            return Self::from_extension("env");
        }
        Self::from_extension(path.extension()?.to_str()?)
    }

    /// Why no format is known for a path: the feature that it needs is off, or it has no extension of a
    /// format.
    pub(crate) fn unknown(path: &Path) -> String {
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        let extension = if name == ".env" || name.starts_with(".env.") {
            Some("env")
        } else {
            path.extension().and_then(OsStr::to_str)
        };
        match extension.and_then(feature_of) {
            Some(feature) => format!("its format needs the feature `{feature}` of liveprops"),
            None => "no format is known for its name; set one with `format`".to_owned(),
        }
    }

    /// The name of the format, such as `toml`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Returns what a document says, each value with its place in `origin`.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::TooLarge`] for a document, a nesting, a key or a number of values over its limit.
    /// - [`ErrorKind::Malformed`] for text that is not of this format.
    /// - [`ErrorKind::InvalidKey`] for a key that is given twice, is both a value and a table,
    ///   or is no key at all.
    pub fn parse(&self, bytes: &[u8], origin: &Origin) -> Result<Document, Error> {
        if bytes.len() > MAX_DOCUMENT_BYTES {
            let detail = format!("the document is longer than {MAX_DOCUMENT_BYTES} bytes");
            return Err(Error::new(ErrorKind::TooLarge, detail).with_origin(origin));
        }
        let text = std::str::from_utf8(bytes).map_err(|fault| {
            let offset = fault.valid_up_to();
            let (line, column) = spans::place(without_mark(&bytes[..offset]), offset);
            let detail = format!("not UTF-8: invalid at byte {offset}, line {line}");
            limits::malformed(detail, origin.at(line, column))
        })?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if text.starts_with('\u{feff}') {
            return Err(limits::malformed(limits::SECOND_MARK, origin.at(1, 1)));
        }
        if let Some(offset) = text.find('\0') {
            let (line, column) = spans::place(text.as_bytes(), offset);
            let detail = format!("a NUL character at {line}:{column}");
            return Err(limits::malformed(detail, origin.at(line, column)));
        }
        (self.parse)(text, origin)
    }
}

/// The feature that brings the format of a file name extension.
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

fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes)
}

impl fmt::Debug for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Format({})", self.name)
    }
}
