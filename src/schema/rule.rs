//! The rules of a declared key, and how they are shown.

use std::any::Any;
use std::fmt::{self, Debug};
use std::ops::Bound;

use crate::sync::discard::Contained;
use crate::value::Value;
use crate::value::secret;
use crate::value::units::ByteSize;

/// A rule, and how it is shown.
pub(super) struct Rule<T> {
    pub(super) limit: Limit,
    validator: Contained<Validator<T>>,
}

/// Returns why a value is not acceptable.
type Validator<T> = Box<dyn Fn(&T) -> Result<(), String> + Send + Sync>;

/// What a rule expects.
#[derive(Clone, Debug)]
pub(super) enum Limit {
    Range(Side, Side),
    Length(Bound<usize>, Bound<usize>),
    OneOf(Vec<Value>),
    /// What a validator of the program accepts, by name.
    Named(String),
}

/// One end of a range as text.
pub(super) type Side = Bound<String>;

impl<T> Rule<T> {
    pub(super) fn new(
        limit: Limit,
        validator: impl Fn(&T) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        Self {
            limit,
            validator: Contained::new(Box::new(validator)),
        }
    }

    pub(super) fn check(&self, value: &T) -> Result<(), String> {
        (self.validator)(value)
    }
}

pub(super) fn shown_bound<T: Debug + 'static>(value: &T) -> String {
    let any = value as &dyn Any;
    let optional = || any.downcast_ref::<Option<ByteSize>>()?.as_ref();
    if let Some(size) = any.downcast_ref::<ByteSize>().or_else(optional) {
        return size.to_string();
    }
    let text = format!("{value:?}");
    // `None` has no range.
    let inside = text
        .strip_prefix("Some(")
        .and_then(|rest| rest.strip_suffix(')'));
    inside.map(str::to_owned).unwrap_or(text)
}

impl Limit {
    /// The limit as text, without the values that a secret may have.
    pub(super) fn shown(&self, masked: bool) -> String {
        match self {
            Limit::Range(..) if masked => "a range".to_owned(),
            Limit::Range(start, end) => shown_range(start, end),
            Limit::Length(start, end) => format!("length {}", shown_range(start, end)),
            Limit::OneOf(values) if masked || values.iter().any(secret::holds_secret) => {
                "one of a few".to_owned()
            }
            Limit::OneOf(values) => {
                let values: Vec<String> = values.iter().map(ToString::to_string).collect();
                format!("one of {}", values.join(", "))
            }
            Limit::Named(name) => name.clone(),
        }
    }
}

pub(super) fn shown_range<B: fmt::Display>(start: &Bound<B>, end: &Bound<B>) -> String {
    let start = match start {
        Bound::Included(start) => start.to_string(),
        Bound::Excluded(start) => format!("{start}<"),
        Bound::Unbounded => String::new(),
    };
    match end {
        Bound::Included(end) => format!("{start}..={end}"),
        Bound::Excluded(end) => format!("{start}..{end}"),
        Bound::Unbounded => format!("{start}.."),
    }
}
