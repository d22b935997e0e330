//! The one error type: what went wrong, for which key, what was expected, what was found, and where
//! it was written.

mod display;
mod masking;
mod several;

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use crate::sync::discard::Discard;
use crate::sync::panics;
use crate::value::key::Key;
use crate::value::origin::Origin;

pub(crate) use display::Plain;
pub(crate) use masking::MASK;

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
    /// What was asked for is not there: no layer defines the key and it has no default, there is
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

    /// Notes that a reference is broken because no layer defines its key.
    pub(crate) fn with_unresolved(self) -> Self {
        self.edit(|inner| inner.unresolved = true)
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

    /// Shows a text in place of the key, as there is no valid key.
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
}
