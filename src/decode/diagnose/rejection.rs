//! What serde rejected during a pass, and how serde reports a rejected value.
//!
//! A type may hide the rejections of its values: an untagged enum tries its variants, and a secret shows
//! no reason. So all rejections of a pass are recorded here.

use std::cell::{Cell, RefCell};

use serde::de::{Expected, Unexpected};

use crate::decode::diagnose::text_arena::address;
use crate::decode::diagnose::wording::shorten;
use crate::decode::input::Input;

/// A value that a type does not accept.
#[derive(Clone, Debug)]
pub(crate) struct Rejection {
    pub(crate) reported: Reported,
    /// Which value it is: the address of its text, and after the pass the index of its visit.
    pub(crate) subject: Option<usize>,
    pub(crate) expected: String,
    /// The visits that it may be about; if empty, all that are equal.
    pub(crate) candidates: Vec<usize>,
    /// The variants of the enum, if the value is the name of an unknown one.
    pub(crate) variants: Option<&'static [&'static str]>,
}

/// A value as serde reports it in an error.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Reported {
    Text(String),
    Number(String),
    Bool(bool),
    Map,
    Seq,
    Unit,
    Other,
}

thread_local! {
    /// The rejections of the present pass; `None` outside of a diagnosis.
    static REJECTIONS: RefCell<Option<Vec<Rejection>>> = const { RefCell::new(None) };
    /// The field that a struct had twice in the last pass.
    static DUPLICATE_FIELD: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// Runs `act` and returns the rejections during it, in order.
pub(super) fn record<R>(act: impl FnOnce() -> R) -> (R, Vec<Rejection>) {
    /// Restores the outer log, even if a type panics.
    struct Outer(Option<Vec<Rejection>>);
    impl Drop for Outer {
        fn drop(&mut self) {
            REJECTIONS.set(self.0.take());
        }
    }
    let _outer = Outer(REJECTIONS.replace(Some(Vec::new())));
    DUPLICATE_FIELD.set(None);
    let outcome = act();
    (outcome, REJECTIONS.take().unwrap_or_default())
}

/// The field that a struct had twice in the last [`record`].
pub(super) fn last_duplicate_field() -> Option<&'static str> {
    DUPLICATE_FIELD.get()
}

/// Adds a rejection to those of the present pass.
pub(super) fn push(rejection: &Rejection) {
    REJECTIONS.with_borrow_mut(|log| {
        if let Some(log) = log {
            log.push(rejection.clone());
        }
    });
}

/// Records that a struct has a field twice.
pub(super) fn set_duplicate_field(field: &'static str) {
    DUPLICATE_FIELD.set(Some(field));
}

/// The number of rejections of the present pass.
pub(super) fn count() -> usize {
    REJECTIONS.with_borrow(|log| log.as_ref().map_or(0, Vec::len))
}

impl Rejection {
    pub(super) fn of(unexpected: &Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self {
            reported: Reported::of(unexpected),
            subject: match unexpected {
                Unexpected::Str(text) => Some(address(text)),
                _ => None,
            },
            expected: expected.to_string(),
            candidates: Vec::new(),
            variants: None,
        }
    }
}

impl Reported {
    /// How serde reports a value that is visited as it is.
    pub(crate) fn of_input(input: &Input<'_>) -> Option<Self> {
        Some(match input {
            Input::Text(text) => Reported::Text((*text).to_owned()),
            Input::Bool(value) => Reported::Bool(*value),
            Input::Int(value) => Reported::Number(value.to_string()),
            Input::Big(value) => match u64::try_from(value.get()) {
                Ok(value) => Reported::Number(value.to_string()),
                Err(_) => Reported::Other,
            },
            Input::Float(value) => Reported::Number(format!("{value:?}")),
            Input::List(_) => Reported::Seq,
            Input::Table(_) | Input::Fields(_) | Input::AbsentTable => Reported::Map,
            Input::Absent => Reported::Unit,
            _ => return None,
        })
    }

    fn of(unexpected: &Unexpected<'_>) -> Self {
        match *unexpected {
            Unexpected::Str(text) => Reported::Text(text.into()),
            Unexpected::Char(c) => Reported::Text(c.into()),
            Unexpected::Signed(value) => Reported::Number(value.to_string()),
            Unexpected::Unsigned(value) => Reported::Number(value.to_string()),
            Unexpected::Float(value) => Reported::Number(format!("{value:?}")),
            Unexpected::Bool(value) => Reported::Bool(value),
            Unexpected::Map => Reported::Map,
            Unexpected::Seq => Reported::Seq,
            Unexpected::Unit => Reported::Unit,
            _ => Reported::Other,
        }
    }

    /// The description of the value for an error, if serde reports its text.
    pub(crate) fn description(&self) -> Option<String> {
        match self {
            Reported::Text(value) => Some(format!("text {}", shorten(value))),
            Reported::Number(value) => Some(format!("number {value}")),
            Reported::Bool(value) => Some(format!("boolean {value}")),
            Reported::Map | Reported::Seq | Reported::Unit | Reported::Other => None,
        }
    }
}
