//! A failed request, on its way from the value that is bad to the error that is reported.
//!
//! serde's traits return a [`Fault`]. It gets a [`Location`] at the first deserializer that it passes, and
//! becomes an [`Error`] at the end.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Expected, Unexpected};

use crate::decode::diagnose::form::INTEGERS;
use crate::decode::diagnose::rejection::{self, Rejection, Reported};
use crate::decode::diagnose::text_arena::address;
use crate::decode::diagnose::trial;
use crate::decode::diagnose::wording::{
    is_number, is_serde_internal, is_serde_wording, list_names, truncate,
};
use crate::decode::duplicates::describe_rival;
use crate::error::{Error, ErrorKind, MASK};
use crate::value::origin::Origin;

/// Replaces the message of a user's type, which may quote a secret value.
const HIDDEN_DETAIL: &str = "cannot be read";

/// The detail of an environment variable that is set to empty text.
pub(crate) const EMPTY_VARIABLE: &str = "empty text: the variable is set to nothing; unset it, or \
                                         skip empty variables by `Env::ignore_empty`";

/// The detail of a value of a type that is never accepted.
pub(super) const WRONG_TYPE: &str = "wrong type";

const WRONG_LENGTH: &str = "wrong length";

/// The message of a [`Secret`](crate::Secret) that serde had buffered.
const UNREAD_SECRET: &str = "a secret that cannot be read";

/// A failed request. Boxed, so that the result of a success stays small.
#[derive(Debug)]
pub(crate) struct Fault(pub(crate) Box<FaultData>);

#[derive(Debug)]
pub(crate) struct FaultData {
    pub(crate) kind: ErrorKind,
    pub(crate) detail: String,
    /// Whether `detail` is the message of a user's type, which may quote the value.
    pub(crate) custom: bool,
    pub(crate) expected: Option<String>,
    /// Whether `expected` is the type at the location, as the message names none.
    pub(crate) expected_from_type: bool,
    /// The type of the field, if `expected` is internal to serde.
    pub(crate) field_type: Option<String>,
    /// Whether the type rejected the value during its visit, so that serde had not buffered it.
    pub(crate) unbuffered: bool,
    /// The rejection that it is about.
    pub(crate) rejection: Option<Rejection>,
    /// The field that a struct has in several spellings.
    pub(crate) duplicate: Option<&'static str>,
    /// If the other spelling of that field is not known: the names of the table that the struct has read.
    /// The last one is a spelling, and one of the others is.
    pub(crate) read_names: Vec<Box<str>>,
    /// The names below the location that mean the same field or variant.
    pub(crate) rivals: Vec<Box<str>>,
    /// Whether the rivals are spellings of one field.
    pub(crate) are_spellings: bool,
    /// The field that a struct lacks.
    pub(crate) missing_field: Option<&'static str>,
    /// The length of a list of the wrong length.
    pub(crate) length: Option<usize>,
    /// The field that a struct does not know.
    pub(crate) unknown_field: Option<String>,
    /// Whether it is due to a placeholder.
    pub(crate) is_consequence: bool,
    /// Added to the detail.
    pub(crate) hint: Cow<'static, str>,
    /// An error that needs no location, such as that of a broken reference.
    pub(crate) complete: Option<Error>,
    pub(crate) location: Option<Location>,
}

impl FaultData {
    /// Whether the detail may quote a secret.
    fn hides_detail(&self) -> bool {
        let location = self.location.as_ref();
        let may_quote = location.is_none_or(|location| location.masked || location.may_quote);
        self.custom && may_quote && !is_serde_wording(&self.detail)
    }
}

/// A path of the tree, and what an error shows of the value there.
#[derive(Clone, Debug)]
pub(crate) struct Location {
    pub(crate) path: String,
    /// The kind and the shortened text of the value.
    pub(crate) description: Option<String>,
    pub(crate) origin: Option<Origin>,
    pub(crate) masked: bool,
    /// Whether the message of a user's type may quote a secret below the path.
    pub(crate) may_quote: bool,
    /// Whether the name of the entry is bad, and not its value.
    pub(crate) is_name: bool,
    /// Whether the value is the whole text of an environment variable.
    pub(crate) is_variable: bool,
}

impl Fault {
    pub(crate) fn new(kind: ErrorKind, detail: impl Into<String>) -> Self {
        Self(Box::new(FaultData {
            kind,
            detail: detail.into(),
            custom: false,
            expected: None,
            expected_from_type: false,
            field_type: None,
            unbuffered: false,
            rejection: None,
            duplicate: None,
            read_names: Vec::new(),
            rivals: Vec::new(),
            are_spellings: false,
            missing_field: None,
            length: None,
            unknown_field: None,
            is_consequence: false,
            hint: Cow::Borrowed(""),
            complete: None,
            location: None,
        }))
    }

    pub(crate) fn mismatch(detail: &str, expected: impl Into<String>) -> Self {
        let mut fault = Self::new(ErrorKind::Mismatch, detail);
        fault.0.expected = Some(expected.into());
        fault
    }

    pub(crate) fn complete(error: Error) -> Self {
        let mut fault = Self::new(error.kind(), "");
        fault.0.complete = Some(error);
        fault
    }

    /// The fault of a rejection, which is recorded.
    fn rejected(detail: &str, rejection: Rejection) -> Self {
        rejection::push(&rejection);
        Self::of_rejection(detail, rejection)
    }

    /// Makes this the fault of rivals: names of a table that mean the same field or variant.
    pub(crate) fn set_rivals(
        &mut self,
        table: String,
        names: Vec<String>,
        origins: Vec<Option<Origin>>,
        duplicate: Option<&str>,
    ) {
        let Some(location) = &mut self.0.location else {
            return;
        };
        let what = match duplicate {
            Some(field) => format!("`{field}` is set twice"),
            None => "several variants are set".to_owned(),
        };
        let by = names.iter().zip(&origins);
        let by: Vec<_> = by
            .map(|(name, origin)| describe_rival(name, origin.as_ref()))
            .collect();
        self.0.detail = if location.masked {
            format!("{what}; leave one")
        } else {
            format!("{what}: by {}; leave one of them", by.join(" and "))
        };
        if location.path != table {
            location.path = table;
            location.description = None;
        }
        if let (Some(_), Some(origin)) = (duplicate, origins.into_iter().flatten().next()) {
            location.origin = Some(origin);
        }
        self.0.custom = false;
        self.0.rivals = names.into_iter().map(String::into_boxed_str).collect();
        self.0.are_spellings = duplicate.is_some();
    }

    /// Whether two passes have failed with the same fault.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        let path = |fault: &Self| {
            let location = fault.0.location.as_ref();
            location.map(|location| location.path.clone())
        };
        self.reason() == other.reason() && path(self) == path(other)
    }

    /// What distinguishes it from other faults, wherever they are.
    pub(crate) fn reason(&self) -> impl PartialEq + use<> {
        let inner = &self.0;
        (
            inner.detail.clone(),
            inner.expected.clone(),
            inner.rejection.as_ref().map(|it| it.reported.clone()),
            inner.missing_field,
            inner.unknown_field.clone(),
        )
    }

    /// Whether it is about a secret that serde had buffered.
    pub(crate) fn is_about_secret(&self) -> bool {
        self.0.detail.contains(UNREAD_SECRET)
    }

    /// Whether it may be about a buffered value.
    pub(crate) fn may_be_buffered(&self) -> bool {
        let by_serde = self.0.custom || self.0.rejection.is_some() || self.0.detail == WRONG_LENGTH;
        by_serde && !self.0.unbuffered
    }

    /// The rejection of a text by a type that accepts no text at all, only numbers or booleans.
    pub(crate) fn rejection_of_any_text(&self) -> Option<&Rejection> {
        let is_wrong_type = self.0.detail == WRONG_TYPE;
        let rejection = self.0.rejection.as_ref().filter(|_| is_wrong_type)?;
        let is_scalar = rejection.expected == "a boolean" || is_number(&rejection.expected);
        let is_text = matches!(rejection.reported, Reported::Text(_));
        (is_scalar && is_text).then_some(rejection)
    }

    /// The fault of another text that the same type rejects.
    pub(crate) fn of_text(rejection: Rejection, location: Location) -> Self {
        let mut fault = Self::of_rejection(WRONG_TYPE, rejection);
        fault.0.location = Some(location);
        fault
    }

    fn of_rejection(detail: &str, rejection: Rejection) -> Self {
        let mut fault = Self::mismatch(detail, &*rejection.expected);
        fault.0.rejection = Some(rejection);
        fault
    }

    /// Masks what another fault of the same type masks.
    pub(crate) fn mask_as(&mut self, other: &Fault) {
        if let (Some(location), Some(other)) = (&mut self.0.location, &other.0.location) {
            location.masked |= other.masked;
            location.may_quote |= other.may_quote;
        }
    }

    /// Moves it to another location. The type at the old one is then not expected any more.
    pub(crate) fn move_to(&mut self, location: Location) {
        let inner = &mut *self.0;
        let is_elsewhere = inner
            .location
            .as_ref()
            .is_none_or(|old| old.path != location.path);
        if is_elsewhere && inner.expected_from_type {
            inner.expected = None;
        }
        inner.location = Some(location);
    }

    /// The error about the fault; `key` is that of a fault without a location.
    pub(crate) fn into_error(self, key: &str) -> Error {
        let inner = *self.0;
        let is_hidden = inner.hides_detail();
        let (path, found, origin, masked) = match inner.location {
            Some(location) => (
                location.path,
                location.description,
                location.origin,
                location.masked,
            ),
            None => (key.to_owned(), None, None, true),
        };
        if let Some(mut error) = inner.complete {
            if error.key_text().is_none() {
                error = error.with_key_text(&path);
            }
            return match (error.origin().is_some(), origin) {
                (false, Some(origin)) => error.with_origin(origin),
                _ => error,
            };
        }
        let detail = if is_hidden {
            HIDDEN_DETAIL.to_owned()
        } else {
            inner.detail
        };
        let detail = detail + &*inner.hint;
        let mut error = Error::new(inner.kind, detail);
        if !inner.rivals.is_empty() {
            error = error.with_rivals(inner.rivals, inner.are_spellings);
        }
        // The empty key is the root of the tree, which has no name to show.
        if !path.is_empty() {
            error = error.with_key_text(&path);
        }
        let expected = inner
            .expected
            .filter(|expected| !is_serde_internal(expected));
        if let Some(expected) = expected.or(inner.field_type) {
            error = error.with_expected(expected);
        }
        // The name is wrong. The value may be a secret of the field that was meant.
        if let Some(found) = found.filter(|_| inner.unknown_field.is_none()) {
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
        // A type may wrap this message into an error of its own, so it shows no secret either.
        let is_hidden = self.0.location.is_some() && self.0.hides_detail();
        f.write_str(if is_hidden {
            HIDDEN_DETAIL
        } else {
            &self.0.detail
        })
    }
}

impl std::error::Error for Fault {}

impl serde::de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        let message = message.to_string();
        trial::record_message(&message);
        let message = truncate(&message, 200);
        let mut fault = Self::new(ErrorKind::Mismatch, message);
        fault.0.custom = true;
        fault
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::rejected(WRONG_TYPE, Rejection::of(&unexpected, expected))
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let rejection = Rejection::of(&unexpected, expected);
        let is_integer = matches!(unexpected, Unexpected::Signed(_) | Unexpected::Unsigned(_));
        let detail = if is_integer && INTEGERS.contains(&rejection.expected.as_str()) {
            "out of range"
        } else {
            "invalid value"
        };
        Self::rejected(detail, rejection)
    }

    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        let expected = expected.to_string();
        trial::record_length(length, &expected);
        let mut fault = Self::mismatch(WRONG_LENGTH, expected);
        fault.0.length = Some(length);
        fault
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        trial::record_variants(expected);
        let rejection = Rejection {
            reported: Reported::Text(variant.into()),
            subject: Some(address(variant)),
            expected: list_names(expected),
            candidates: Vec::new(),
            variants: Some(expected),
        };
        Self::rejected("unknown variant", rejection)
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        trial::record_fields(expected);
        let mut fault = Self::mismatch("unknown field", list_names(expected));
        fault.0.unknown_field = Some(field.into());
        fault
    }

    fn missing_field(field: &'static str) -> Self {
        trial::record_fields(&[field]);
        let mut fault = Self::new(ErrorKind::NotFound, "not set");
        fault.0.missing_field = Some(field);
        fault
    }

    fn duplicate_field(field: &'static str) -> Self {
        let mut fault = Self::new(ErrorKind::Mismatch, format!("`{field}` is set twice"));
        fault.0.duplicate = Some(field);
        rejection::set_duplicate_field(field);
        fault
    }
}
