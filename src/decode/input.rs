//! What stands at a place of the tree, and the way there.

use std::borrow::Cow;

use crate::decode::diagnose::fault::shorten;
use crate::error::Error;
use crate::value::Value;
use crate::value::key;
use crate::value::node::{Node, Table};
use crate::value::origin::Origin;
use crate::value::scalar::{Number, Repr, Wide};
use crate::value::secret;
use crate::value::spelled::Spelled;
use crate::value::table::Table as Fields;

/// What stands at a place, in the form that is looked at.
#[derive(Clone, Copy)]
pub(super) enum Input<'a> {
    Absent,
    Bool(bool),
    Int(i64),
    Big(Wide),
    Float(f64),
    /// A number or a boolean that is not written in its canonical form.
    Spelled(&'a Spelled),
    Text(&'a str),
    List(&'a [Value]),
    Fields(&'a Fields),
    Table(&'a Table),
    /// A table without names.
    Nothing,
    /// A reference that cannot be followed.
    Failed(&'a Error),
    /// Only while reporting: stands in for a value that is known to be bad.
    Dummy(usize),
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

    /// The input, where it was written, and whether it may be secret.
    #[inline]
    pub(super) fn of_node(node: &'a Node) -> (Self, Option<&'a Origin>, bool) {
        match node {
            Node::Leaf(leaf) => (Self::of_value(&leaf.value), Some(&leaf.origin), false),
            Node::Table(table) => (Input::Table(table), None, false),
            Node::Resolved(resolved) => {
                let (input, is_secret) = match &resolved.value {
                    Ok(value) => (Self::of_value(value), resolved.secret),
                    // Nothing of a secret went into it.
                    Err(error) => (Input::Failed(error), false),
                };
                (input, Some(&resolved.raw.origin), is_secret)
            }
        }
    }

    /// The same without its spelling, for who wants no text.
    #[inline]
    pub(super) fn canonical(self) -> Self {
        match self {
            Input::Spelled(spelled) => Self::of_value(spelled.value()),
            input => input,
        }
    }

    /// Kind and shortened value, for a message.
    pub(super) fn shown(&self) -> String {
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
            Input::Nothing => "table of 0".into(),
            Input::Failed(_) => "a reference that cannot be followed".into(),
            Input::Dummy(_) => "a placeholder".into(),
        }
    }

    /// Whether anything in here looks secret by its name or is an address with a password.
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

    /// Text of a scalar, for who wants text.
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

/// The way to a place, on the stack; it becomes text only when something goes wrong.
pub(super) struct Path<'a> {
    pub(super) parent: Option<&'a Path<'a>>,
    pub(super) segment: Segment<'a>,
    /// The tag of the table around it, once it is known which entry that is.
    pub(super) variant: Option<&'a str>,
}

#[derive(Clone, Copy)]
pub(super) enum Segment<'a> {
    Name(&'a str),
    Index(usize),
    /// The root, whose name the context knows, or a name that may be part of a secret.
    Hidden,
}

impl Path<'_> {
    /// How many steps lead here.
    pub(super) fn depth(&self) -> usize {
        let up = |path: &&Self| path.parent;
        std::iter::successors(self.parent, up).count()
    }

    /// The segments from the root to here; `None` if one is not known.
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
