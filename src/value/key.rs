//! Keys: dotted paths, with quotes around a segment that contains a dot.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::error::{Error, ErrorKind};
use crate::value::secret::mask_text;

/// The longest key, in bytes of its canonical text.
pub const MAX_KEY_BYTES: usize = 1024;

/// The deepest nesting of a key or a document, in segments.
pub const MAX_DEPTH: usize = 64;

/// The most tables and lists of a document. The root counts, and so do tables and lists in lists.
pub(crate) const MAX_TABLES: usize = 100_000;

/// The most values of a document that are neither tables nor lists. Items of lists count.
pub(crate) const MAX_VALUES: usize = 1_000_000;

/// A dotted, case-sensitive path such as `ratelimit.qps`.
///
/// A segment that is empty or contains a dot or a quote is written in double quotes, with `\"` and `\\`
/// inside: `hosts."db.example.com".port`. The empty text is the root of the tree. The text is
/// canonical: two keys are equal when their segments are.
///
/// ```
/// use liveprops::Key;
///
/// let key: Key = r#"hosts."db.example.com".port"#.parse()?;
/// let segments: Vec<_> = key.segments().collect();
/// assert_eq!(segments, ["hosts", "db.example.com", "port"]);
/// assert!("a..b".parse::<Key>().is_err());
/// # Ok::<(), liveprops::Error>(())
/// ```
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Key(Arc<str>);

#[derive(Debug)]
enum KeyFault {
    Empty,
    Unclosed,
    Trailing,
    Stray,
    Long,
    Deep,
}

impl fmt::Display for KeyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyFault::Empty => {
                f.write_str("a segment between two dots is empty; write it as \"\" if it is meant")
            }
            KeyFault::Unclosed => f.write_str("a quote is not closed"),
            KeyFault::Trailing => f.write_str("a quoted segment must end at a dot or at the end"),
            KeyFault::Stray => {
                f.write_str("an unquoted segment contains a quote; quote the whole segment")
            }
            KeyFault::Long => write!(f, "longer than {MAX_KEY_BYTES} bytes"),
            KeyFault::Deep => write!(f, "deeper than {MAX_DEPTH} segments"),
        }
    }
}

impl KeyFault {
    fn of(self, text: &str) -> Error {
        let kind = match self {
            KeyFault::Long | KeyFault::Deep => ErrorKind::TooLarge,
            _ => ErrorKind::InvalidKey,
        };
        // The text may be a misplaced value, such as an address with a password.
        let shown: String = mask_text(text).chars().take(80).collect();
        Error::new(kind, format!("not a valid key: {self}")).with_subject(shown)
    }
}

impl Key {
    /// The root of the tree, the empty key.
    pub fn root() -> Self {
        Self(Arc::from(""))
    }

    /// Parses a dotted path.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidKey`] for an empty segment or a wrong quote; [`ErrorKind::TooLarge`]
    /// over [`MAX_KEY_BYTES`] or [`MAX_DEPTH`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut canonical = true;
        let mut depth = 0;
        for segment in Segments::of(text) {
            let (segment, quoted) = segment.map_err(|fault| fault.of(text))?;
            // An escape may be needless, so the key is rebuilt from segments if one has escapes.
            canonical &= quoted == needs_quotes(&segment) && matches!(segment, Cow::Borrowed(_));
            depth += 1;
        }
        if depth > MAX_DEPTH {
            return Err(KeyFault::Deep.of(text));
        }
        if text.len() > MAX_KEY_BYTES {
            return Err(KeyFault::Long.of(text));
        }
        if canonical {
            return Ok(Self(Arc::from(text)));
        }
        Self::from_segments(Segments::of(text).filter_map(|s| s.ok().map(|(s, _)| s)))
    }

    /// Joins segments into a key. A segment may contain dots and quotes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TooLarge`] over [`MAX_KEY_BYTES`] or [`MAX_DEPTH`].
    pub fn from_segments<S: AsRef<str>>(
        segments: impl IntoIterator<Item = S>,
    ) -> Result<Self, Error> {
        let mut text = String::new();
        for (depth, segment) in segments.into_iter().enumerate() {
            push_segment(&mut text, segment.as_ref());
            if depth >= MAX_DEPTH {
                return Err(KeyFault::Deep.of(&text));
            }
            if text.len() > MAX_KEY_BYTES {
                return Err(KeyFault::Long.of(&text));
            }
        }
        Ok(Self(text.into()))
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The segments from the root down, without quotes.
    pub fn segments(&self) -> impl Iterator<Item = Cow<'_, str>> {
        segments(&self.0).filter_map(Result::ok)
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// This key with one more segment, which may contain dots and quotes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TooLarge`] over [`MAX_KEY_BYTES`] or [`MAX_DEPTH`].
    pub fn child(&self, segment: &str) -> Result<Self, Error> {
        let mut text = String::with_capacity(self.0.len() + segment.len() + 1);
        text.push_str(&self.0);
        push_segment(&mut text, segment);
        Self::bounded(text)
    }

    /// This key with `tail` below it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TooLarge`] over [`MAX_KEY_BYTES`] or [`MAX_DEPTH`].
    pub fn join(&self, tail: &Key) -> Result<Self, Error> {
        if self.is_root() {
            return Ok(tail.clone());
        }
        if tail.is_root() {
            return Ok(self.clone());
        }
        Self::bounded(format!("{}.{}", self.0, tail.0))
    }

    fn bounded(text: String) -> Result<Self, Error> {
        if text.len() > MAX_KEY_BYTES {
            return Err(KeyFault::Long.of(&text));
        }
        if Segments::of(&text).count() > MAX_DEPTH {
            return Err(KeyFault::Deep.of(&text));
        }
        Ok(Self(text.into()))
    }

    /// Whether this key is `ancestor` or is below it.
    ///
    /// Segments are compared whole: `app2.x` is not below `app`.
    pub fn is_under(&self, ancestor: &Key) -> bool {
        under(&self.0, &ancestor.0)
    }

    /// The texts of this key and of each of its ancestors, longest first, the root last.
    pub(crate) fn lineage(&self) -> impl Iterator<Item = &str> {
        lineage(&self.0)
    }
}

/// A canonical key and each of its ancestors, longest first, the root last.
pub(crate) fn lineage(text: &str) -> impl Iterator<Item = &str> {
    let mut next = Some(text);
    std::iter::from_fn(move || {
        let now = next?;
        next = (!now.is_empty()).then(|| parent(now));
        Some(now)
    })
}

impl std::borrow::Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// Whether the canonical key `text` is `ancestor` or is below it.
pub(crate) fn under(text: &str, ancestor: &str) -> bool {
    ancestor.is_empty()
        || text
            .strip_prefix(ancestor)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The canonical text of the parent of a canonical key; the root has no other parent than itself.
pub(crate) fn parent(text: &str) -> &str {
    if !text.ends_with('"') {
        return &text[..text.rfind('.').unwrap_or(0)];
    }
    // A quoted last segment may contain dots: find its beginning from the front.
    let mut begin = 0;
    let mut segments = Segments::of(text);
    loop {
        let here = text.len() - segments.rest.map_or(0, str::len);
        match segments.next() {
            Some(_) => begin = here,
            None => return &text[..begin.saturating_sub(1)],
        }
    }
}

/// Adds one segment to the canonical text of a key.
pub(crate) fn push_segment(text: &mut String, segment: &str) {
    if !text.is_empty() {
        text.push('.');
    }
    if needs_quotes(segment) {
        text.push('"');
        for c in segment.chars() {
            if matches!(c, '"' | '\\') {
                text.push('\\');
            }
            text.push(c);
        }
        text.push('"');
    } else {
        text.push_str(segment);
    }
}

fn needs_quotes(segment: &str) -> bool {
    segment.is_empty() || first_stop(segment) < segment.len()
}

/// The segments of a written path, borrowed unless a quoted one has escapes.
///
/// This is the parser of every by-name read, so it allocates nothing for an ordinary key.
pub(crate) fn segments(text: &str) -> Texts<'_> {
    let segments = Segments::of(text);
    Texts { text, segments }
}

/// The texts of the segments of a path. A type of its own, since many iterators are built on it.
pub(crate) struct Texts<'a> {
    text: &'a str,
    segments: Segments<'a>,
}

impl<'a> Iterator for Texts<'a> {
    type Item = Result<Cow<'a, str>, Error>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match self.segments.next()? {
            Ok((segment, _)) => Some(Ok(segment)),
            Err(fault) => Some(Err(fault.of(self.text))),
        }
    }
}

/// The index of the first dot or quote, or the end.
///
/// It reads eight bytes at a time, since every read by name calls it.
#[inline]
pub(crate) fn first_stop(text: &str) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    // Sets the high bit of the first byte that is zero; the bits of later bytes may be wrong.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*chunk);
        let stops = zeros(word ^ (ONES * b'.' as u64)) | zeros(word ^ (ONES * b'"' as u64));
        if stops != 0 {
            return at + stops.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    while at < bytes.len() && !matches!(bytes[at], b'.' | b'"') {
        at += 1;
    }
    at
}

struct Segments<'a> {
    rest: Option<&'a str>,
}

impl<'a> Segments<'a> {
    fn of(text: &'a str) -> Self {
        Self {
            rest: (!text.is_empty()).then_some(text),
        }
    }

    fn quoted(&mut self, inside: &'a str) -> Result<(Cow<'a, str>, bool), KeyFault> {
        let mut owned = String::new();
        let mut escaped = false;
        for (at, c) in inside.char_indices() {
            if escaped {
                owned.push(c);
                escaped = false;
            } else if c == '\\' {
                if owned.is_empty() {
                    owned.push_str(&inside[..at]);
                }
                escaped = true;
            } else if c == '"' {
                let after = &inside[at + 1..];
                self.rest = match after.strip_prefix('.') {
                    Some(more) => Some(more),
                    None if after.is_empty() => None,
                    None => return Err(KeyFault::Trailing),
                };
                let had_escapes = inside[..at].contains('\\');
                let text = if had_escapes {
                    Cow::Owned(owned)
                } else {
                    Cow::Borrowed(&inside[..at])
                };
                return Ok((text, true));
            } else if !owned.is_empty() || inside[..at].contains('\\') {
                owned.push(c);
            }
        }
        Err(KeyFault::Unclosed)
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = Result<(Cow<'a, str>, bool), KeyFault>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest.take()?;
        if let Some(inside) = rest.strip_prefix('"') {
            return Some(self.quoted(inside));
        }
        let end = first_stop(rest);
        let segment = match rest.as_bytes().get(end) {
            None => rest,
            Some(b'"') => return Some(Err(KeyFault::Stray)),
            Some(_) => {
                self.rest = Some(&rest[end + 1..]);
                &rest[..end]
            }
        };
        if segment.is_empty() {
            return Some(Err(KeyFault::Empty));
        }
        Some(Ok((Cow::Borrowed(segment), false)))
    }
}

impl std::str::FromStr for Key {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}

impl TryFrom<&str> for Key {
    type Error = Error;

    fn try_from(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}

impl From<&Key> for Key {
    fn from(key: &Key) -> Self {
        key.clone()
    }
}

impl PartialEq<str> for Key {
    /// Whether this is the canonical text of the key.
    fn eq(&self, text: &str) -> bool {
        *self.0 == *text
    }
}

impl PartialEq<&str> for Key {
    fn eq(&self, text: &&str) -> bool {
        self == *text
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.0)
    }
}

/// Reads the decimal name of a list item; leading zeros are allowed.
pub(crate) fn list_index(name: &str) -> Option<usize> {
    let decimal = !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit());
    decimal.then(|| name.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<String> {
        Key::parse(text)
            .unwrap()
            .segments()
            .map(Cow::into_owned)
            .collect()
    }

    #[test]
    fn quoted_segments_keep_their_dots_and_escapes() {
        assert_eq!(split("a.b.c"), ["a", "b", "c"]);
        assert_eq!(split(r#"a."b.c".d"#), ["a", "b.c", "d"]);
        assert_eq!(split(r#""\"x\\y".z"#), [r#""x\y"#, "z"]);
        assert_eq!(split(r#"a."x\"y.z""#), ["a", r#"x"y.z"#]);
        assert_eq!(split(r#"a."".b"#), ["a", "", "b"]);
        assert_eq!(split(""), Vec::<String>::new());
    }

    #[test]
    fn needless_quotes_are_dropped_so_that_equal_paths_are_equal_keys() {
        assert_eq!(
            Key::parse(r#""a"."b""#).unwrap(),
            Key::parse("a.b").unwrap()
        );
        assert_ne!(Key::parse(r#""a.b""#).unwrap(), Key::parse("a.b").unwrap());
    }

    proptest::proptest! {
        #[test]
        fn the_first_stop_is_that_of_a_plain_search(text in "[a-c.\"é]{0,30}") {
            let plain = text.find(['.', '"']).unwrap_or(text.len());
            proptest::prop_assert_eq!(first_stop(&text), plain);
        }
    }

    #[test]
    fn malformed_keys_are_rejected() {
        for bad in [
            ".", "a.", ".a", "a..b", "\"a", "\"a\"b", "a\"b\"", "\"a\".", "\"",
        ] {
            assert!(Key::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(
            Key::parse(&"a".repeat(1025)).unwrap_err().kind(),
            ErrorKind::TooLarge
        );
        assert!(Key::parse(&"a".repeat(1024)).is_ok());
        assert!(Key::parse(&vec!["a"; 64].join(".")).is_ok());
        assert_eq!(
            Key::parse(&vec!["a"; 65].join(".")).unwrap_err().kind(),
            ErrorKind::TooLarge
        );
    }

    #[test]
    fn lineage_goes_up_to_the_root_across_quotes() {
        let key = Key::parse(r#"a."b.c"."d\".e""#).unwrap();
        let up: Vec<_> = key.lineage().collect();
        assert_eq!(up, [r#"a."b.c"."d\".e""#, r#"a."b.c""#, "a", ""]);
        assert_eq!(
            Key::parse(r#""x.y""#)
                .unwrap()
                .lineage()
                .collect::<Vec<_>>(),
            [r#""x.y""#, ""]
        );
    }

    #[test]
    fn a_key_with_the_same_first_letters_is_not_below() {
        let below = |a: &str, b: &str| Key::parse(a).unwrap().is_under(&Key::parse(b).unwrap());
        assert!(below("app.x", "app") && below("app", "app") && below("app", ""));
        assert!(!below("app2.x", "app") && !below("app", "app.x"));
    }
}
