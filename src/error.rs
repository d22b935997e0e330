//! The one error type: what went wrong, for which key, what was expected, what was found, and where
//! it was written.

use std::collections::HashSet;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::sync::discard::Discard;
use crate::sync::panics;
use crate::value::key::Key;
use crate::value::origin::Origin;

/// Why a source, a layer or a property could not do its work.
///
/// Cloning is cheap: one failure is often shown to many subscribers. The message tells a person
/// what to do; a program branches on [`kind`](Error::kind). Values that may be secret are masked
/// before they get here.
///
/// # Examples
///
/// ```
/// use liveprops::{ErrorKind, Key, Properties, sources::Memory};
///
/// let props = Properties::builder()
///     .source(Memory::from([("http.retries", "three")]))
///     .build()?;
/// let error = props.get::<u32>("http.retries").unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Mismatch);
/// assert_eq!(error.key().map(Key::as_str), Some("http.retries"));
/// # Ok::<(), liveprops::Error>(())
/// ```
#[derive(Clone)]
pub struct Error(Arc<Inner>);

/// What a caller can act on. New kinds may be added in a minor release.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ErrorKind {
    /// What was asked for is not there: no layer defines the key and nothing stands in for it, there is
    /// no such source, or none of its updates waits to be confirmed.
    NotFound,
    /// The value exists and cannot become the requested type.
    Mismatch,
    /// A source answered, but not in the format it promised.
    Malformed,
    /// A key is not a valid path, or means two things at once.
    InvalidKey,
    /// A source did not answer; the values it gave before stay in force.
    Unavailable,
    /// A document, a key, a value or a nesting is over its limit.
    TooLarge,
    /// A validator rejected the value.
    Rejected,
    /// An update would take away most of what its source said before; it waits to be confirmed.
    Withheld,
    /// Somebody else committed first.
    Conflict,
    /// A `${reference}` cannot be followed: no layer defines its key and it has no default, or it is a
    /// cycle, a table, or a chain over the limit.
    Reference,
    /// A call was made from a place where it cannot be answered, such as a write from inside a
    /// validator.
    Reentrant,
    /// Callbacks kept on triggering each other and were cut off.
    Loop,
    /// What was waited for did not happen in time.
    Timeout,
    /// The [`Properties`](crate::Properties) this belongs to is gone, or the source that sends an update
    /// was removed.
    Closed,
    /// User code (a validator, a `Deserialize`, a source) panicked.
    Panicked,
    /// An option that the program gave is wrong: a name or an address that is none, a duration out of
    /// range, a token or a certificate that cannot be used, or a policy that no source can meet. Nothing
    /// changes until the program or its files do.
    InvalidConfig,
}

/// What an error is about.
#[derive(Clone)]
enum Subject {
    Key(Key),
    /// A text that is no valid key, or that is shown in place of one.
    Text(Box<str>),
}

impl Subject {
    fn of_text(text: &str) -> Self {
        match Key::parse(text) {
            Ok(key) if key.as_str() == text => Subject::Key(key),
            _ => Subject::Text(text.into()),
        }
    }

    fn as_str(&self) -> &str {
        match self {
            Subject::Key(key) => key.as_str(),
            Subject::Text(text) => text,
        }
    }
}

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    key: Option<Subject>,
    expected: Option<Box<str>>,
    found: Option<Box<str>>,
    origin: Option<Origin>,
    detail: Option<Box<str>>,
    retry_after: Option<Duration>,
    /// Whether a reference is broken because no layer defines its key.
    unresolved: bool,
    /// Whether more is wrong than is listed.
    partial: bool,
    /// What may be shown in place of the detail if the key holds a secret.
    shareable: Option<Box<str>>,
    /// Names of one table that mean the same thing, of which one may be set.
    rivals: Vec<Box<str>>,
    /// Whether these are spellings of one field.
    are_spellings: bool,
    related: Vec<Error>,
    /// The error that the detail quotes. It is no [`source`](StdError::source), which would be shown twice.
    quoted: Option<Error>,
    /// Its `Drop` is user code.
    cause: Option<Discard<Arc<dyn StdError + Send + Sync>>>,
}

impl Inner {
    fn of(kind: ErrorKind) -> Self {
        Self {
            kind,
            key: None,
            expected: None,
            found: None,
            origin: None,
            detail: None,
            retry_after: None,
            unresolved: false,
            partial: false,
            shareable: None,
            rivals: Vec::new(),
            are_spellings: false,
            related: Vec::new(),
            quoted: None,
            cause: None,
        }
    }
}

impl Error {
    /// Creates an error of `kind` that says `detail`.
    ///
    /// Sources use this to report what went wrong in words of their own.
    ///
    /// ```
    /// use liveprops::{Error, ErrorKind};
    ///
    /// let error = Error::new(ErrorKind::Unavailable, "the fridge does not answer");
    /// assert_eq!(error.to_string(), "the fridge does not answer");
    /// ```
    pub fn new(kind: ErrorKind, detail: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            detail: Some(detail.into().into()),
            ..Inner::of(kind)
        }))
    }

    /// Creates the error for a caught panic of user code.
    pub(crate) fn from_panic(doing: &str, message: &str) -> Self {
        Self::new(ErrorKind::Panicked, format!("{doing} panicked: {message}"))
    }

    /// Runs user code; its panic is an error.
    pub(crate) fn catch<R>(doing: &str, run: impl FnOnce() -> Result<R, Self>) -> Result<R, Self> {
        panics::catch(run).unwrap_or_else(|panic| Err(Self::from_panic(doing, panic.message())))
    }

    /// Creates the error for a call that comes after the end of the properties.
    pub(crate) fn closed() -> Self {
        Self::new(ErrorKind::Closed, "the properties were dropped")
    }

    /// Bundles several errors into one, of the kind of the first; a single one stays itself, and one
    /// that is a bundle gives its parts. Errors of the same kind and text count once. An empty list gives
    /// an error of kind [`ErrorKind::Rejected`].
    pub fn all(errors: Vec<Error>) -> Self {
        let pause = errors.iter().filter_map(|error| error.0.retry_after).max();
        let parts = errors.into_iter().flat_map(Error::into_parts).collect();
        let mut errors = Self::distinct(parts);
        match errors.len() {
            0 => Self::new(ErrorKind::Rejected, "no error was given"),
            1 => errors.remove(0),
            _ => {
                let kind = errors[0].kind();
                let key = errors[0].0.key.clone();
                Self(Arc::new(Inner {
                    key,
                    related: errors,
                    retry_after: pause,
                    ..Inner::of(kind)
                }))
            }
        }
    }

    /// Removes the errors that repeat the problem of a key. The text of an error contains its key and its origin.
    pub(crate) fn distinct(errors: Vec<Error>) -> Vec<Error> {
        if errors.len() < 2 {
            return errors;
        }
        let mut known = HashSet::new();
        // Two sources may fail alike.
        let mut is_new = |part: &Error| {
            part.key_text().is_none() || known.insert((part.kind(), part.to_string()))
        };
        let new_part = |error: Error| {
            let all = error.clone().into_parts();
            let count = all.len();
            let new: Vec<Error> = all.into_iter().filter(&mut is_new).collect();
            match new.len() {
                0 => None,
                some if some == count => Some(error),
                _ => Some(Self::all(new)),
            }
        };
        errors.into_iter().filter_map(new_part).collect()
    }

    /// The single errors in here, each with where it happened, if that is known of all.
    fn into_parts(self) -> Vec<Error> {
        if self.0.related.is_empty() {
            return vec![self];
        }
        let parts = self.0.related.iter().cloned();
        let placed = |part: Error| match (part.origin(), self.origin()) {
            (None, Some(origin)) => part.with_origin(origin),
            _ => part,
        };
        parts.map(placed).collect()
    }

    /// This without what it says of keys whose values must not be shown, if it says anything of one.
    pub(crate) fn without(&self, hidden: &dyn Fn(&str) -> bool) -> Option<Self> {
        let inner = &*self.0;
        if inner
            .related
            .iter()
            .any(|error| error.without(hidden).is_some())
        {
            let shown = |error: &Error| error.without(hidden).unwrap_or_else(|| error.clone());
            return Some(Self::all(inner.related.iter().map(shown).collect()));
        }
        let key = inner.key.as_ref().filter(|key| hidden(key.as_str()))?;
        let hidden = "what was wrong is not shown, as the key holds a secret";
        let detail = inner.shareable.as_deref().unwrap_or(hidden);
        Some(Self(Arc::new(Inner {
            key: Some(key.clone()),
            origin: inner.origin.clone(),
            detail: Some(detail.into()),
            unresolved: inner.unresolved,
            partial: inner.partial,
            shareable: inner.shareable.clone(),
            ..Inner::of(inner.kind)
        })))
    }

    /// Notes that a reference is broken because no layer defines its key.
    pub(crate) fn with_unresolved(self) -> Self {
        self.edit(|inner| inner.unresolved = true)
    }

    /// Notes that the detail has no part of a value, so that it is shown if the key holds a secret.
    pub(crate) fn with_shareable_detail(self) -> Self {
        self.edit(|inner| inner.shareable = inner.detail.clone())
    }

    /// Whether the detail is shown even if the key holds a secret.
    pub(crate) fn has_shareable_detail(&self) -> bool {
        self.0.shareable.is_some()
    }

    /// The words that are shown if the key holds a secret.
    pub(crate) fn with_shareable(self, detail: String) -> Self {
        self.edit(|inner| inner.shareable = Some(detail.into()))
    }

    /// This with nothing of the detail to show if the key holds a secret.
    pub(crate) fn without_shareable(self) -> Self {
        self.edit(|inner| inner.shareable = None)
    }

    /// Adds to what is wrong.
    pub(crate) fn with_note(self, note: &str) -> Self {
        self.edit(|inner| {
            inner.detail = Some(match inner.detail.take() {
                Some(detail) => format!("{detail}; {note}").into(),
                None => note.into(),
            });
        })
    }

    /// Adds to what is wrong that more is wrong than is listed.
    pub(crate) fn with_more(self, note: &str) -> Self {
        self.with_note(note).edit(|inner| inner.partial = true)
    }

    /// Whether more is wrong than is listed.
    pub(crate) fn is_partial(&self) -> bool {
        self.iter().any(|error| error.0.partial)
    }

    /// Whether this is about references to keys that no layer defines, and about nothing else.
    pub(crate) fn is_unresolved(&self) -> bool {
        self.iter().all(|error| error.0.unresolved)
    }

    /// Names the error that the detail quotes.
    pub(crate) fn with_quoted(self, error: Error) -> Self {
        self.edit(|inner| inner.quoted = Some(error))
    }

    /// The error that the detail quotes.
    pub(crate) fn quoted(&self) -> Option<&Self> {
        self.0.quoted.as_ref()
    }

    /// Notes names below the key that mean the same thing, of which one may be set.
    pub(crate) fn with_rivals(self, names: Vec<Box<str>>, are_spellings: bool) -> Self {
        self.edit(|inner| (inner.rivals, inner.are_spellings) = (names, are_spellings))
    }

    /// What is wrong, without key, place and values.
    pub(crate) fn detail(&self) -> Option<&str> {
        self.0.detail.as_deref()
    }

    /// Names below the key that mean the same thing, of which one may be set.
    pub(crate) fn rivals(&self) -> &[Box<str>] {
        &self.0.rivals
    }

    /// Whether the rivals are spellings of one field, and not variants of an enum.
    pub(crate) fn has_spellings(&self) -> bool {
        self.0.are_spellings
    }

    /// This without the key that it names.
    #[cfg(feature = "dotenv")]
    pub(crate) fn without_key(self) -> Self {
        self.edit(|inner| inner.key = None)
    }

    /// This with other texts, where `map` has another one. The failure of a library is dropped if
    /// its own text would have to change. `map_own` is for the key and what was expected.
    pub(crate) fn map_texts(
        self,
        map: &dyn Fn(&str) -> Option<String>,
        map_own: &dyn Fn(&str) -> Option<String>,
    ) -> Self {
        let inner = &*self.0;
        let mapped = |text: &Option<Box<str>>, map: &dyn Fn(&str) -> Option<String>| {
            let text = text.as_deref()?;
            let mapped = map(text).unwrap_or_else(|| text.to_owned());
            Some(mapped.into_boxed_str())
        };
        let key = inner.key.as_ref().map(|key| match map_own(key.as_str()) {
            Some(text) => Subject::of_text(&text),
            None => key.clone(),
        });
        let origin = inner
            .origin
            .as_ref()
            .map(|origin| match map(&origin.to_string()) {
                Some(text) => Origin::of_text(&text),
                None => origin.clone(),
            });
        let expected = mapped(&inner.expected, map_own);
        let [found, detail] = [&inner.found, &inner.detail].map(|text| mapped(text, map));
        let mut next: Option<&(dyn StdError + 'static)> = self.source();
        let mut shows = false;
        while let Some(cause) = next {
            shows |= map(&format!("{cause} {cause:?}")).is_some();
            next = cause.source();
        }
        let related = inner.related.iter().cloned();
        let related = related.map(|error| error.map_texts(map, map_own)).collect();
        self.edit(|inner| {
            (inner.key, inner.expected, inner.found) = (key, expected, found);
            (inner.origin, inner.detail, inner.related) = (origin, detail, related);
            inner.quoted = None;
            let shareable = inner.shareable.take();
            inner.shareable = shareable.filter(|text| map(text).is_none());
            if shows {
                inner.cause = None;
            }
        })
    }

    /// This with the details that `map` gives in place of those that quote a secret; `None` if none does.
    pub(crate) fn without_quotes(&self, map: &dyn Fn(&str) -> Option<String>) -> Option<Self> {
        let inner = &*self.0;
        if inner.related.is_empty() {
            let detail = map(inner.detail.as_deref()?)?;
            return Some(
                self.clone()
                    .edit(|inner| inner.detail = Some(detail.into())),
            );
        }
        let shown: Vec<Option<Self>> = inner
            .related
            .iter()
            .map(|it| it.without_quotes(map))
            .collect();
        if shown.iter().all(Option::is_none) {
            return None;
        }
        let pairs = shown.into_iter().zip(&inner.related);
        let related = pairs.map(|(shown, error)| shown.unwrap_or_else(|| error.clone()));
        let related = related.collect();
        Some(self.clone().edit(|inner| inner.related = related))
    }

    fn edit(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// Names the key the error is about.
    #[must_use]
    pub fn with_key(self, key: impl Into<Key>) -> Self {
        self.edit(|inner| inner.key = Some(Subject::Key(key.into())))
    }

    /// Names the key by its text, which may be none that is valid.
    #[must_use]
    pub(crate) fn with_key_text(self, key: &str) -> Self {
        self.edit(|inner| inner.key = Some(Subject::of_text(key)))
    }

    /// Shows a text where the key stands, as there is no valid key.
    #[must_use]
    pub(crate) fn with_subject(self, text: impl Into<String>) -> Self {
        self.edit(|inner| inner.key = Some(Subject::Text(text.into().into())))
    }

    /// Names where the offending value was written.
    #[must_use]
    pub fn with_origin(self, origin: impl Into<Origin>) -> Self {
        self.edit(|inner| inner.origin = Some(origin.into()))
    }

    /// Names the source that the error is about, by the text of its origin.
    #[must_use]
    pub(crate) fn with_source_name(self, name: &str) -> Self {
        self.with_origin(Origin::of_text(name))
    }

    /// Keeps the failure of a library below as the [`source`](StdError::source) of this one.
    #[must_use]
    pub fn with_cause(self, cause: impl StdError + Send + Sync + 'static) -> Self {
        self.edit(|inner| inner.cause = Some(Discard::new(Arc::new(cause))))
    }

    /// Says what was expected, such as `u32`.
    #[must_use]
    pub fn with_expected(self, expected: impl Into<String>) -> Self {
        self.edit(|inner| inner.expected = Some(expected.into().into()))
    }

    /// Says what was found instead. It is shown as it is: mask what may be a secret.
    #[must_use]
    pub fn with_found(self, found: impl Into<String>) -> Self {
        self.edit(|inner| inner.found = Some(found.into().into()))
    }

    /// Says that whoever was asked wants to be left alone for a while. A source that returns such an
    /// error is asked again after that, and not before; see
    /// [`MAX_RETRY_AFTER`](crate::source::MAX_RETRY_AFTER) for how far the engine follows.
    ///
    /// ```
    /// use std::time::Duration;
    /// use liveprops::{Error, ErrorKind};
    ///
    /// let busy = Error::new(ErrorKind::Unavailable, "the fridge defrosts");
    /// let busy = busy.with_retry_after(Duration::from_secs(20));
    /// assert_eq!(busy.retry_after(), Some(Duration::from_secs(20)));
    /// assert_eq!(busy.to_string(), "the fridge defrosts, wants no retry for 20s");
    /// ```
    #[must_use]
    pub fn with_retry_after(self, pause: Duration) -> Self {
        self.edit(|inner| inner.retry_after = Some(pause))
    }

    /// What a caller can branch on.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The key the error is about. It is `None` too if that is no valid key; the message then shows the
    /// text.
    pub fn key(&self) -> Option<&Key> {
        match self.0.key.as_ref()? {
            Subject::Key(key) => Some(key),
            Subject::Text(_) => None,
        }
    }

    /// The text of the key, also if it is none that is valid.
    pub(crate) fn key_text(&self) -> Option<&str> {
        self.0.key.as_ref().map(Subject::as_str)
    }

    /// What the caller expected, such as `u32`.
    pub fn expected(&self) -> Option<&str> {
        self.0.expected.as_deref()
    }

    /// What was found instead, cut to a readable length, `******` if it may be secret.
    pub fn found(&self) -> Option<&str> {
        self.0.found.as_deref()
    }

    /// Where the offending value was written, such as `file app.toml:12:7`.
    pub fn origin(&self) -> Option<&Origin> {
        self.0.origin.as_ref()
    }

    /// How long whoever was asked wants to be left alone; of several errors, the longest.
    pub fn retry_after(&self) -> Option<Duration> {
        let related = self.0.related.iter().filter_map(Error::retry_after);
        self.0.retry_after.into_iter().chain(related).max()
    }

    /// Every single error in here: those of all fields of a struct, or just this one.
    pub fn iter(&self) -> impl Iterator<Item = &Error> {
        let alone = self.0.related.is_empty().then_some(self);
        alone.into_iter().chain(self.0.related.iter())
    }
}

/// The text shown in place of a value that may be secret.
pub(crate) const MASK: &str = "******";

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        if !inner.related.is_empty() {
            write!(f, "{} problems", inner.related.len())?;
            for error in &inner.related {
                write!(f, "; {error}")?;
            }
            return Ok(());
        }
        let mut gap = "";
        if let Some(key) = &inner.key {
            write!(f, "`{}`", Plain(key.as_str()))?;
            gap = ": ";
        }
        if let Some(detail) = &inner.detail {
            write!(f, "{gap}{}", Plain(detail))?;
            gap = ", ";
        }
        if let Some(expected) = &inner.expected {
            write!(f, "{gap}expected {}", Plain(expected))?;
            gap = ", ";
        }
        if let Some(found) = &inner.found {
            write!(f, "{gap}found {}", Plain(found))?;
            gap = ", ";
        }
        if let Some(pause) = inner.retry_after {
            write!(f, "{gap}wants no retry for {pause:?}")?;
        }
        if let Some(origin) = &inner.origin {
            write!(f, " ({})", Plain(&origin.to_string()))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({:?}: {self})", self.kind())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        let cause = self.0.cause.as_ref()?;
        Some(&***cause as &(dyn StdError + 'static))
    }
}

/// Shows text without its control characters, so that a value cannot forge a log line.
pub(crate) struct Plain<'a>(pub(crate) &'a str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            let steers = matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            if c.is_control() || steers {
                write!(f, "{}", c.escape_unicode())?;
            } else {
                fmt::Write::write_char(f, c)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_errors_the_longest_pause_that_is_wanted_counts() {
        let error = |pause: u64| {
            let error = Error::new(ErrorKind::Unavailable, "busy");
            error.with_retry_after(Duration::from_secs(pause))
        };
        let plain = || Error::new(ErrorKind::Malformed, "odd");
        assert_eq!(Error::all(vec![plain(), plain()]).retry_after(), None);
        let inner = Error::all(vec![error(7), plain(), error(30)]);
        let all = Error::all(vec![plain(), error(20), inner, error(1)]);
        assert_eq!(all.retry_after(), Some(Duration::from_secs(30)));
    }

    #[test]
    fn bundles_of_bundles_are_one_list_in_which_each_says_where_it_is() {
        let plain = |detail: &str| Error::new(ErrorKind::Malformed, detail);
        let inner = Error::all(vec![plain("a"), plain("b").with_source_name("there")]);
        let all = Error::all(vec![inner.with_source_name("here"), plain("c")]);
        assert_eq!(all.to_string(), "3 problems; a (here); b (there); c");
        assert_eq!(all.iter().count(), 3);
        assert!(all.iter().all(|one| one.iter().count() == 1));
    }

    #[test]
    fn the_same_problem_of_a_key_counts_once_whatever_bundle_says_it() {
        let plain = |detail: &str| Error::new(ErrorKind::Malformed, detail);
        let of_key = |detail: &str| plain(detail).with_key(Key::parse("k").unwrap());
        let bundle = |details: [&str; 2]| Error::all(details.map(of_key).to_vec());
        let all = Error::all(vec![of_key("a"), bundle(["a", "b"]), bundle(["b", "a"])]);
        assert_eq!(all.to_string(), "2 problems; `k`: a; `k`: b");
        let same = Error::all(vec![of_key("a"), of_key("a")]);
        assert_eq!(same.to_string(), "`k`: a");
        let others = [
            of_key("a"),
            Error::new(ErrorKind::Rejected, "a").with_key(Key::parse("k").unwrap()),
            of_key("a").with_source_name("here"),
            plain("a").with_key(Key::parse("l").unwrap()),
        ];
        assert_eq!(Error::all(others.to_vec()).iter().count(), 4);
        // Two sources may be down alike.
        assert_eq!(Error::all(vec![plain("a"), plain("a")]).iter().count(), 2);
    }
}
