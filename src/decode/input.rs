//! A value of the tree as the deserializer sees it, and the path to it.

use std::borrow::Cow;

use crate::decode::diagnose::wording::shorten;
use crate::error::Error;
use crate::value::Value;
use crate::value::key;
use crate::value::node::{Node, Table};
use crate::value::origin::Origin;
use crate::value::scalar::{Number, Repr, Wide};
use crate::value::secret;
use crate::value::spelled::Spelled;
use crate::value::table::Table as Fields;

/// A value, wherever the tree keeps it.
#[derive(Clone, Copy)]
pub(super) enum Input<'a> {
    Absent,
    Bool(bool),
    Int(i64),
    Big(Wide),
    Float(f64),
    /// A number or a boolean in a notation that is not canonical.
    Spelled(&'a Spelled),
    Text(&'a str),
    List(&'a [Value]),
    Fields(&'a Fields),
    Table(&'a Table),
    /// A table that no layer has; it reads as an empty one.
    AbsentTable,
    /// A reference that cannot be followed.
    Failed(&'a Error),
    /// In a diagnosis, the placeholder of a bad value, with its level.
    Placeholder(usize),
}

impl<'a> Input<'a> {
    #[inline]
    pub(super) fn of_value(value: &'a Value) -> Self {
        match value {
            Value::Unset => Input::Absent,
            Value::Bool(value) => match value.spelled() {
                Some(spelled) => Input::Spelled(spelled),
                None => Input::Bool(value.get()),
            },
            Value::Number(Number(value)) => match value {
                Repr::Int(value) => Input::Int(*value),
                Repr::Big(value) => Input::Big(*value),
                Repr::Float(value) => Input::Float(*value),
                Repr::Spelled(value) => Input::Spelled(value),
            },
            Value::Text(value) => Input::Text(value),
            Value::List(items) => Input::List(items),
            Value::Table(fields) => Input::Fields(fields),
        }
    }

    /// The input, its origin, and whether it may be secret.
    #[inline]
    pub(super) fn of_node(node: &'a Node) -> (Self, Option<&'a Origin>, bool) {
        match node {
            Node::Leaf(leaf) => (Self::of_value(&leaf.value), Some(&leaf.origin), false),
            Node::Table(table) => (Input::Table(table), None, false),
            Node::Resolved(resolved) => {
                let (input, is_secret) = match &resolved.value {
                    Ok(value) => (Self::of_value(value), resolved.secret),
                    // A broken reference has no text of a secret.
                    Err(error) => (Input::Failed(error), false),
                };
                (input, Some(&resolved.raw.origin), is_secret)
            }
        }
    }

    /// The value without its notation, for a type that is no text.
    #[inline]
    pub(super) fn canonical(self) -> Self {
        match self {
            Input::Spelled(spelled) => Self::of_value(spelled.value()),
            input => input,
        }
    }

    /// The kind and the shortened text, for an error.
    pub(super) fn description(&self) -> String {
        match self {
            Input::Absent => "nothing".into(),
            Input::Bool(value) => format!("boolean {value}"),
            Input::Int(value) => format!("integer {value}"),
            Input::Big(value) => format!("integer {value}"),
            Input::Float(value) => format!("float {value:?}"),
            Input::Spelled(value) => format!("{} {}", value.value().kind(), value.as_str()),
            Input::Text(value) => format!("text {}", shorten(value)),
            Input::List(items) => format!("list of {}", items.len()),
            Input::Fields(fields) => format!("table of {}", fields.len()),
            Input::Table(table) => format!("table of {}", table.len()),
            Input::AbsentTable => "table of 0".into(),
            Input::Failed(_) => "a reference that cannot be followed".into(),
            Input::Placeholder(_) => "a placeholder".into(),
        }
    }

    /// Whether a name in the value, or the form of a text in it, looks secret.
    pub(super) fn holds_secret(&self) -> bool {
        match self {
            Input::Text(text) => secret::value_text_holds_secret(text),
            Input::List(items) => secret::list_holds_secret(items),
            Input::Fields(fields) => secret::fields_hold_secret(fields),
            Input::Table(table) => secret::table_holds_secret(table),
            _ => false,
        }
    }

    pub(super) fn is_container(&self) -> bool {
        matches!(self, Input::List(_) | Input::Fields(_) | Input::Table(_))
    }

    /// The text of a scalar, for a type that is text.
    pub(super) fn text(&self) -> Option<Cow<'a, str>> {
        match *self {
            Input::Text(value) => Some(Cow::Borrowed(value)),
            Input::Spelled(value) => Some(Cow::Borrowed(value.as_str())),
            Input::Bool(value) => Some(Cow::Borrowed(if value { "true" } else { "false" })),
            Input::Int(value) => Some(Cow::Owned(value.to_string())),
            Input::Big(value) => Some(Cow::Owned(value.to_string())),
            Input::Float(value) => Some(Cow::Owned(format!("{value:?}"))),
            _ => None,
        }
    }
}

/// The path to a value, on the stack. It becomes text only when a request fails.
pub(super) struct Path<'a> {
    pub(super) parent: Option<&'a Path<'a>>,
    pub(super) segment: Segment<'a>,
    /// The tag of the table around it, if its name is known.
    pub(super) variant: Option<&'a str>,
}

#[derive(Clone, Copy)]
pub(super) enum Segment<'a> {
    Name(&'a str),
    Index(usize),
    /// The root, whose key is in the request, or a name that may be part of a secret.
    Hidden,
}

impl<'a> Path<'a> {
    /// The path of an entry or an item of a container.
    #[inline]
    pub(super) fn below(
        parent: &'a Path<'a>,
        segment: Segment<'a>,
        variant: Option<&'a str>,
    ) -> Self {
        let parent = Some(parent);
        Self {
            parent,
            segment,
            variant,
        }
    }

    /// The number of segments.
    pub(super) fn depth(&self) -> usize {
        let up = |path: &&Self| path.parent;
        std::iter::successors(self.parent, up).count()
    }

    /// The segments; `None` if one is hidden.
    pub(super) fn segments(&self) -> Option<Vec<String>> {
        let Some(parent) = self.parent else {
            return Some(Vec::new());
        };
        let mut segments = parent.segments()?;
        segments.push(match self.segment {
            Segment::Name(name) => name.to_owned(),
            Segment::Index(at) => at.to_string(),
            Segment::Hidden => return None,
        });
        Some(segments)
    }

    /// Appends the segments to a key.
    pub(super) fn write(&self, text: &mut String) {
        if let Some(parent) = self.parent {
            parent.write(text);
        }
        match self.segment {
            Segment::Name(name) => key::push_segment(text, name),
            Segment::Index(at) => key::push_segment(text, &at.to_string()),
            Segment::Hidden => {}
        }
    }
}
