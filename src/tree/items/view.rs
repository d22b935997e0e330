//! What the layers have at one path, down into their lists.

use crate::decode;
use crate::error::Error;
use crate::sorted::SortedMap;
use crate::tree::list_index::{IndexedItems, is_decimal};
use crate::value::Value;
use crate::value::hamt::Entry;
use crate::value::node::{Node, Resolved, Table};
use crate::value::origin::Origin;

/// What one layer has at a path: a node of its tree, or a value inside one of its lists.
#[derive(Clone, Copy, Debug)]
pub(super) enum Content<'a> {
    Node(&'a Node),
    /// With the origins of the value and of those in it, in the order of `Value::position`; none if
    /// they do not matter.
    Value(&'a Value, &'a [Origin]),
}

/// A value with the origins of it and of those in it, in the order of `Value::position`.
#[derive(Debug)]
pub(super) struct Located {
    /// As it would be written: `${` in what is resolved for good is escaped.
    pub(super) value: Value,
    pub(super) origins: Vec<Origin>,
    /// Why it cannot be read, if a reference in it is broken.
    pub(super) broken: Option<Error>,
}

impl Located {
    /// A list of some items.
    pub(super) fn list(origin: Origin, items: Vec<Located>) -> Self {
        let mut origins = vec![origin];
        let mut values = Vec::with_capacity(items.len());
        let mut broken = None;
        for item in items {
            origins.extend(item.origins);
            values.push(item.value);
            broken = broken.or(item.broken);
        }
        Self {
            value: Value::List(values.into()),
            origins,
            broken,
        }
    }

    /// The items of this list, or of this text that spells one.
    pub(super) fn items(&self) -> Option<Vec<Self>> {
        let (list, origins) = (&self.value, &self.origins);
        let values = decode::items(list)?;
        let is_each = matches!(list, Value::List(_)) && origins.len() == list.count();
        let mut rest = origins.get(1..).filter(|_| is_each);
        let whole = origins.first().cloned().unwrap_or_else(nowhere);
        let items = values.into_iter().map(|value| {
            let count = value.count();
            let own = rest.and_then(|all| all.split_at_checked(count));
            rest = own.map(|(_, after)| after);
            let origins = match own {
                Some((own, _)) => own.to_vec(),
                None => vec![whole.clone(); count],
            };
            let broken = broken_part(self.broken.as_ref(), &value).cloned();
            Self {
                value,
                origins,
                broken,
            }
        });
        Some(items.collect())
    }
}

/// Why a part of a value cannot be read, if the value cannot for this reason. Its other parts can.
pub(super) fn broken_part<'a>(broken: Option<&'a Error>, part: &Value) -> Option<&'a Error> {
    broken.filter(|_| part.has_reference())
}

/// The origin of a list that no source wrote.
pub(super) fn nowhere() -> Origin {
    Origin::new("joined", "")
}

/// What one layer has at a path, with the layer's position from the strongest.
#[derive(Clone, Copy, Debug)]
pub(in crate::tree) struct View<'a> {
    pub(super) layer: usize,
    pub(super) content: Content<'a>,
    /// Why parts of it cannot be read, if references in it are broken.
    pub(super) broken: Option<&'a Error>,
}

/// The views of one path whose layers win.
pub(super) enum WinningViews<'a> {
    Nothing,
    Value(View<'a>),
    Tables(Vec<View<'a>>),
    /// Items by index over a list.
    Items(Vec<View<'a>>, View<'a>),
}

impl<'a> View<'a> {
    pub(in crate::tree) fn of(layer: usize, entry: &'a Entry) -> Self {
        Self::of_node(layer, &entry.node)
    }

    fn of_node(layer: usize, node: &'a Node) -> Self {
        let broken = match node {
            Node::Resolved(resolved) => resolved.value.as_ref().err(),
            Node::Leaf(_) | Node::Table(_) => None,
        };
        Self {
            layer,
            content: Content::Node(node),
            broken,
        }
    }

    pub(super) fn of_value(layer: usize, located: &'a Located) -> Self {
        Self {
            layer,
            content: Content::Value(&located.value, &located.origins),
            broken: located.broken.as_ref(),
        }
    }

    /// The value; a table has none.
    fn value(&self) -> Option<&'a Value> {
        match self.content {
            Content::Node(Node::Leaf(leaf)) => Some(&leaf.value),
            Content::Node(Node::Resolved(resolved)) => resolved.value.as_ref().ok(),
            Content::Node(Node::Table(_)) | Content::Value(Value::Table(_), _) => None,
            Content::Value(value, _) => Some(value),
        }
    }

    /// The value, or as it is written if parts of it cannot be read.
    pub(super) fn written(&self) -> Option<&'a Value> {
        match self.content {
            Content::Node(Node::Resolved(resolved)) if resolved.value.is_err() => {
                Some(&resolved.raw.value).filter(|_| !resolved.stands_for_another())
            }
            _ => self.value(),
        }
    }

    /// A value that is a broken reference as a whole, so that the number of its items is unknown.
    pub(super) fn opaque(&self) -> Option<&'a Resolved> {
        match self.content {
            Content::Node(Node::Resolved(resolved)) if resolved.stands_for_another() => {
                Some(resolved)
            }
            _ => None,
        }
    }

    fn is_table(&self) -> bool {
        matches!(
            self.content,
            Content::Node(Node::Table(_)) | Content::Value(Value::Table(_), _)
        )
    }

    pub(super) fn is_tombstone(&self) -> bool {
        matches!(self.value(), Some(Value::Unset))
    }

    pub(super) fn is_empty_table(&self) -> bool {
        match self.content {
            Content::Node(Node::Table(table)) => table.is_empty(),
            Content::Value(Value::Table(fields), _) => fields.is_empty(),
            _ => false,
        }
    }

    fn is_list(&self) -> bool {
        self.written().is_some_and(is_list)
    }

    /// The entries of a table.
    fn children(&self) -> Vec<(&'a str, View<'a>)> {
        match self.content {
            Content::Node(Node::Table(table)) => {
                let entries = table.map().sorted().into_iter();
                entries
                    .map(|entry| (&*entry.name, View::of(self.layer, entry)))
                    .collect()
            }
            Content::Value(Value::Table(fields), origins) => {
                let mut rest = origins.get(1..).unwrap_or_default();
                let fields = fields.iter();
                fields
                    .map(|(name, value)| {
                        let own = rest.split_at_checked(value.count());
                        let (own, after) = own.unwrap_or_default();
                        rest = after;
                        let content = Content::Value(value, own);
                        (name, View { content, ..*self })
                    })
                    .collect()
            }
            _ => Vec::new(),
        }
    }

    /// The origin of a node, or of the first value below it.
    pub(super) fn origin(&self) -> Option<&'a Origin> {
        fn first(table: &Table) -> Option<&Origin> {
            let entries = table.map().sorted();
            entries.into_iter().find_map(|entry| of(&entry.node))
        }
        fn of(node: &Node) -> Option<&Origin> {
            match node {
                Node::Table(table) => first(table),
                leaf => leaf.origin(),
            }
        }
        match self.content {
            Content::Node(node) => of(node),
            Content::Value(..) => None,
        }
    }

    /// The origin of the value, or of the first value of a table.
    pub(super) fn first_origin(&self) -> Origin {
        let first = match self.content {
            Content::Node(_) => self.origin(),
            Content::Value(_, origins) => origins.first(),
        };
        first.cloned().unwrap_or_else(nowhere)
    }

    /// The origins of a value here, and of those in it.
    fn origins(&self, value: &Value) -> Vec<Origin> {
        match self.content {
            Content::Value(_, origins) if origins.len() == value.count() => origins.to_vec(),
            _ => self.first_origin().of_all(value),
        }
    }

    /// The value here with its origins.
    pub(super) fn located(&self) -> Located {
        let (value, broken) = match self.content {
            Content::Node(Node::Resolved(resolved)) => match &resolved.value {
                Ok(value) => (value.clone().escaped(), None),
                Err(_) => (resolved.raw.value.clone(), self.broken),
            },
            _ => {
                let value = self.value().cloned().unwrap_or(Value::Unset);
                let broken = broken_part(self.broken, &value);
                (value, broken)
            }
        };
        Located {
            origins: self.origins(&value),
            broken: broken.cloned(),
            value,
        }
    }
}

/// Whether the items of a value can be overridden: of a list, or of a text that spells one. The number of
/// items of a text with references is unknown before they are followed.
fn is_list(value: &Value) -> bool {
    match value {
        Value::List(_) => true,
        Value::Text(_) => {
            !value.may_refer() && decode::items(value).is_some() && !decode::is_map_text(value)
        }
        _ => false,
    }
}

/// Whether some tables have names, and all of them are decimal.
fn are_indexes(tables: &[View<'_>]) -> bool {
    let mut any = false;
    for table in tables {
        let all = match table.content {
            Content::Node(Node::Table(table)) => {
                any |= !table.is_empty();
                table.map().iter().all(|entry| is_decimal(&entry.name))
            }
            Content::Value(Value::Table(fields), _) => {
                any |= !fields.is_empty();
                fields.keys().all(is_decimal)
            }
            _ => false,
        };
        if !all {
            return false;
        }
    }
    any
}

/// Whether a table has the items of a list by index.
pub(in crate::tree) fn is_indexed(node: &Node) -> bool {
    matches!(node, Node::Table(_)) && are_indexes(&[View::of_node(0, node)])
}

/// Whether indexes over an entry override its items.
pub(in crate::tree) fn overrides_items(tables: &[View<'_>], below: &Entry) -> bool {
    View::of(0, below).is_list() && are_indexes(tables)
}

/// The views of one path that win, from those of all layers, the strongest first. Sets `clash` if a table hides a
/// value.
pub(super) fn winning_views<'a>(views: &[View<'a>], clash: &mut bool) -> WinningViews<'a> {
    let mut tables: Vec<View<'a>> = Vec::new();
    for view in views {
        if view.is_table() {
            tables.push(*view);
        } else if view.is_tombstone() {
            break;
        } else if tables.is_empty() {
            return WinningViews::Value(*view);
        } else if view.is_list() && are_indexes(&tables) {
            return WinningViews::Items(tables, *view);
        } else {
            *clash = true;
            break;
        }
    }
    if tables.is_empty() {
        WinningViews::Nothing
    } else {
        WinningViews::Tables(tables)
    }
}

/// The children of some tables by name, each with the strongest first.
pub(super) fn by_name<'a>(tables: &[View<'a>]) -> SortedMap<&'a str, Vec<View<'a>>> {
    SortedMap::group(children(tables))
}

/// The children of some tables by index.
pub(super) fn by_index<'a>(tables: &[View<'a>]) -> IndexedItems<'a, View<'a>> {
    IndexedItems::new(children(tables))
}

fn children<'a>(tables: &[View<'a>]) -> Vec<(&'a str, View<'a>)> {
    tables.iter().flat_map(View::children).collect()
}
