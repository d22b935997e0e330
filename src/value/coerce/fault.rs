//! What goes wrong on the way, before it is an [`Error`].

use std::fmt;

use serde_core::de::{Expected, Unexpected};

use crate::error::{Error, ErrorKind, MASK};

/// Stands for the words of a user's type: they may quote the value, and that one may be secret.
const UNSAID: &str = "cannot be read";

/// A failure that learns its place while it travels up. Boxed, so that success stays small.
#[derive(Debug)]
pub(super) struct Fault(pub(super) Box<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) kind: ErrorKind,
    pub(super) detail: String,
    /// Whether `detail` comes from a type of the user and may quote the value.
    pub(super) custom: bool,
    pub(super) wanted: Option<String>,
    /// What serde says it got, when it judged a value that it had buffered.
    pub(super) got: Option<Got>,
    /// The field a struct lacks.
    pub(super) missing: Option<&'static str>,
    /// The field a struct does not know.
    pub(super) unknown: Option<String>,
    /// An error that is complete already.
    pub(super) done: Option<Error>,
    pub(super) place: Option<Place>,
}

/// Where a fault was noticed.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) path: String,
    pub(super) found: Option<String>,
    pub(super) origin: Option<String>,
    pub(super) masked: bool,
    /// Whether the name was at fault, not the value.
    pub(super) name: bool,
}

/// A scalar as serde reports it back.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Got {
    Text(String),
    Number(String),
    Bool(bool),
    Other,
}

impl Got {
    fn of(unexpected: &Unexpected<'_>) -> Self {
        match *unexpected {
            Unexpected::Str(text) => Got::Text(text.into()),
            Unexpected::Char(c) => Got::Text(c.into()),
            Unexpected::Signed(value) => Got::Number(value.to_string()),
            Unexpected::Unsigned(value) => Got::Number(value.to_string()),
            Unexpected::Float(value) => Got::Number(format!("{value:?}")),
            Unexpected::Bool(value) => Got::Bool(value),
            _ => Got::Other,
        }
    }

    pub(super) fn shown(&self) -> Option<String> {
        match self {
            Got::Text(value) => Some(format!("text {}", shorten(value))),
            Got::Number(value) => Some(format!("number {value}")),
            Got::Bool(value) => Some(format!("boolean {value}")),
            Got::Other => None,
        }
    }
}

impl Fault {
    pub(super) fn new(kind: ErrorKind, detail: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            detail: detail.into(),
            custom: false,
            wanted: None,
            got: None,
            missing: None,
            unknown: None,
            done: None,
            place: None,
        }))
    }

    pub(super) fn mismatch(detail: &str, wanted: impl Into<String>) -> Self {
        let mut fault = Self::new(ErrorKind::Mismatch, detail);
        fault.0.wanted = Some(wanted.into());
        fault
    }

    pub(super) fn done(error: Error) -> Self {
        let mut fault = Self::new(error.kind(), "");
        fault.0.done = Some(error);
        fault
    }

    fn judged(detail: &str, got: Got, wanted: String) -> Self {
        let mut fault = Self::mismatch(detail, wanted);
        fault.0.got = Some(got);
        fault
    }

    pub(super) fn into_error(self, key: &str) -> Error {
        let inner = *self.0;
        let (path, found, origin, masked) = match inner.place {
            Some(place) => (place.path, place.found, place.origin, place.masked),
            None => (key.to_owned(), None, None, true),
        };
        if let Some(mut error) = inner.done {
            if error.key().is_none() {
                error = error.with_key(path);
            }
            return match (error.origin().is_some(), origin) {
                (false, Some(origin)) => error.with_origin(origin),
                _ => error,
            };
        }
        let detail = if inner.custom && masked {
            UNSAID.to_owned()
        } else {
            inner.detail
        };
        let mut error = Error::new(inner.kind, detail);
        // The empty key is the root of the tree, which has no name to show.
        if !path.is_empty() {
            error = error.with_key(path);
        }
        if let Some(wanted) = inner.wanted {
            error = error.with_wanted(wanted);
        }
        if let Some(found) = found {
            error = error.with_found(if masked { MASK.to_owned() } else { found });
        }
        if let Some(origin) = origin {
            error = error.with_origin(origin);
        }
        error
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A type may wrap these words into an error of its own, so a secret is kept out here too.
        let masked = self.0.place.as_ref().is_some_and(|place| place.masked);
        f.write_str(if self.0.custom && masked {
            UNSAID
        } else {
            &self.0.detail
        })
    }
}

impl std::error::Error for Fault {}

impl serde_core::de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        let message = cut(&message.to_string(), 200);
        let mut fault = Self::new(ErrorKind::Mismatch, message);
        fault.0.custom = true;
        fault
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::judged("wrong type", Got::of(&unexpected), expected.to_string())
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::judged("invalid value", Got::of(&unexpected), expected.to_string())
    }

    fn invalid_length(_: usize, expected: &dyn Expected) -> Self {
        Self::mismatch("wrong length", expected.to_string())
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let got = Got::Text(variant.into());
        Self::judged("unknown variant", got, one_of(expected))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let mut fault = Self::mismatch("unknown field", one_of(expected));
        fault.0.unknown = Some(field.into());
        fault
    }

    fn missing_field(field: &'static str) -> Self {
        let mut fault = Self::new(ErrorKind::Missing, "missing");
        fault.0.missing = Some(field);
        fault
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::new(ErrorKind::Mismatch, format!("`{field}` is set twice"))
    }
}

fn one_of(names: &[&str]) -> String {
    if names.is_empty() {
        return "nothing".into();
    }
    let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    cut(&format!("one of {}", names.join(", ")), 200)
}

/// Quotes text and cuts it to a readable length.
pub(super) fn shorten(text: &str) -> String {
    format!("{:?}", cut(text, 32))
}

pub(super) fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// The name of a type without its modules.
pub(super) fn type_name<T: ?Sized>() -> String {
    let full = std::any::type_name::<T>();
    let mut short = String::new();
    let mut word = String::new();
    let mut chars = full.chars().peekable();
    while let Some(c) = chars.next() {
        if c == ':' && chars.peek() == Some(&':') {
            chars.next();
            word.clear();
        } else if c.is_alphanumeric() || c == '_' {
            word.push(c);
        } else {
            short.push_str(&std::mem::take(&mut word));
            short.push(c);
        }
    }
    short.push_str(&word);
    cut(&short, 60)
}
