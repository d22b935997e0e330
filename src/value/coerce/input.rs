//! What stands at a place of the tree, and the way there.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::error::Error;
use crate::value::Value;
use crate::value::coerce::fault::shorten;
use crate::value::key;
use crate::value::node::{Node, Table};
use crate::value::origin::Origin;
use crate::value::secret::{has_user_info, segment_looks_secret};

/// What stands at a place, in the form that is looked at.
#[derive(Clone, Copy)]
pub(super) enum Input<'a> {
    Absent,
    Bool(bool),
    Int(i64),
    /// By reference, so that the plain case stays small.
    Big(&'a i128),
    Float(f64),
    Text(&'a str),
    List(&'a [Value]),
    Fields(&'a BTreeMap<Box<str>, Value>),
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
            Value::Bool(value) => Input::Bool(*value),
            Value::Int(value) => Input::Int(*value),
            Value::Big(value) => Input::Big(value),
            Value::Float(value) => Input::Float(*value),
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

    /// Kind and shortened value, for a message.
    pub(super) fn shown(&self) -> String {
        match self {
            Input::Absent => "nothing".into(),
            Input::Bool(value) => format!("boolean {value}"),
            Input::Int(value) => format!("integer {value}"),
            Input::Big(value) => format!("integer {value}"),
            Input::Float(value) => format!("float {value:?}"),
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
            Input::Text(text) => has_user_info(text),
            Input::List(items) => items.iter().any(|v| Input::of_value(v).holds_secret()),
            Input::Fields(fields) => fields
                .iter()
                .any(|(name, v)| segment_looks_secret(name) || Input::of_value(v).holds_secret()),
            Input::Table(table) => table.map().iter().any(|entry| {
                let (input, _, secret) = Input::of_node(&entry.node);
                secret || segment_looks_secret(&entry.name) || input.holds_secret()
            }),
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
