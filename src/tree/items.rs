//! Lists that several layers make up: items written by index over a list of a lower layer, and lists
//! that are joined.
//!
//! An index in a layer over a list of a lower layer overrides that item. An index equal to the number
//! of items appends one. Indexes without a list below form a table, which reads as a list if they are
//! complete, and as a map in any case. Under a joined key they form the list of their layer. An index past the end is ignored and
//! reported until the list has grown up to it. Another spelling of a number, such as `01`, is no index
//! and is ignored and reported as well.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::decode;
use crate::error::{Error, ErrorKind};
use crate::tree::index::{Items, is_decimal, position, why_no_index};
use crate::value::Value;
use crate::value::hamt::Entry;
use crate::value::key::{self, Key};
use crate::value::node::{Leaf, Node, Resolved, Table};
use crate::value::origin::Origin;

/// An item that is not in force because its list does not reach up to it.
#[derive(Clone, Debug)]
pub(crate) struct IgnoredItem {
    pub(crate) key: Key,
    /// The position of its layer from the strongest.
    pub(crate) layer: usize,
    pub(crate) error: Error,
}

/// What one layer has at a place: a node of its tree, or a value inside one of its lists.
#[derive(Clone, Copy, Debug)]
enum Content<'a> {
    Node(&'a Node),
    /// With the origins of the value and of those in it, in the order of `Value::position`; none if
    /// they do not matter.
    Value(&'a Value, &'a [Origin]),
}

/// A value with the origins of it and of those in it, in the order of `Value::position`.
#[derive(Debug)]
struct Placed {
    /// As it would be written: `${` in what is resolved for good is escaped.
    value: Value,
    origins: Vec<Origin>,
    /// Why it cannot be read, if a reference in it is broken.
    broken: Option<Error>,
}

impl Placed {
    /// A list of some items.
    fn list(origin: Origin, items: Vec<Placed>) -> Self {
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
    fn items(&self) -> Option<Vec<Self>> {
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
fn broken_part<'a>(broken: Option<&'a Error>, part: &Value) -> Option<&'a Error> {
    broken.filter(|_| part.has_reference())
}

/// The origin of what a program wrote nowhere.
fn nowhere() -> Origin {
    Origin::new("joined", "")
}

/// What one layer has at a place, with the layer's position from the strongest.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    layer: usize,
    content: Content<'a>,
    /// Why parts of it cannot be read, if references in it are broken.
    broken: Option<&'a Error>,
}

/// What shows at a place inside a list.
enum Shown<'a> {
    Nothing,
    Value(View<'a>),
    Tables(Vec<View<'a>>),
    /// Items by index over a list.
    Items(Vec<View<'a>>, View<'a>),
}

impl<'a> View<'a> {
    pub(super) fn of(layer: usize, entry: &'a Entry) -> Self {
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

    fn of_value(layer: usize, placed: &'a Placed) -> Self {
        Self {
            layer,
            content: Content::Value(&placed.value, &placed.origins),
            broken: placed.broken.as_ref(),
        }
    }

    fn scalar(&self) -> Option<&'a Value> {
        match self.content {
            Content::Node(Node::Leaf(leaf)) => Some(&leaf.value),
            Content::Node(Node::Resolved(resolved)) => resolved.value.as_ref().ok(),
            Content::Node(Node::Table(_)) | Content::Value(Value::Table(_), _) => None,
            Content::Value(value, _) => Some(value),
        }
    }

    /// A value of which at most parts cannot be read.
    fn written(&self) -> Option<&'a Value> {
        match self.content {
            Content::Node(Node::Resolved(resolved)) if resolved.value.is_err() => {
                Some(&resolved.raw.value).filter(|_| !resolved.stands_for_another())
            }
            _ => self.scalar(),
        }
    }

    /// A value that only a broken reference would tell, and with it how many items it has.
    fn opaque(&self) -> Option<&'a Resolved> {
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

    fn is_tombstone(&self) -> bool {
        matches!(self.scalar(), Some(Value::Unset))
    }

    fn is_empty_table(&self) -> bool {
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

    fn origin(&self) -> Option<&'a Origin> {
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

    /// Where this begins.
    fn start(&self) -> Origin {
        let start = match self.content {
            Content::Node(_) => self.origin(),
            Content::Value(_, origins) => origins.first(),
        };
        start.cloned().unwrap_or_else(nowhere)
    }

    /// The origins of a value that stands here, and of those in it.
    fn origins(&self, value: &Value) -> Vec<Origin> {
        match self.content {
            Content::Value(_, origins) if origins.len() == value.count() => origins.to_vec(),
            _ => self.start().of_all(value),
        }
    }

    /// What stands here.
    fn placed(&self) -> Placed {
        let (value, broken) = match self.content {
            Content::Node(Node::Resolved(resolved)) => match &resolved.value {
                Ok(value) => (value.clone().escaped(), None),
                Err(_) => (resolved.raw.value.clone(), self.broken),
            },
            _ => {
                let value = self.scalar().cloned().unwrap_or(Value::Unset);
                let broken = broken_part(self.broken, &value);
                (value, broken)
            }
        };
        Placed {
            origins: self.origins(&value),
            broken: broken.cloned(),
            value,
        }
    }
}

/// Whether a value is a list whose items can be overridden: a list, or a text that spells one. How many
/// items a text with references has is not known before they are followed.
fn is_list(value: &Value) -> bool {
    match value {
        Value::List(_) => true,
        Value::Text(_) => {
            !value.may_refer() && decode::items(value).is_some() && !decode::spells_a_map(value)
        }
        _ => false,
    }
}

/// Whether the names of some tables are decimal, and there is one.
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
pub(super) fn is_indexed(node: &Node) -> bool {
    matches!(node, Node::Table(_)) && are_indexes(&[View::of_node(0, node)])
}

/// Whether indexes over an entry override its items.
pub(super) fn overrides_items(tables: &[View<'_>], below: &Entry) -> bool {
    View::of(0, below).is_list() && are_indexes(tables)
}

fn look<'a>(views: &[View<'a>], clash: &mut bool) -> Shown<'a> {
    let mut tables: Vec<View<'a>> = Vec::new();
    for view in views {
        if view.is_table() {
            tables.push(*view);
        } else if view.is_tombstone() {
            break;
        } else if tables.is_empty() {
            return Shown::Value(*view);
        } else if view.is_list() && are_indexes(&tables) {
            return Shown::Items(tables, *view);
        } else {
            *clash = true;
            break;
        }
    }
    if tables.is_empty() {
        Shown::Nothing
    } else {
        Shown::Tables(tables)
    }
}

/// The children of some tables by name, each with the strongest first.
fn by_name<'a>(tables: &[View<'a>]) -> BTreeMap<&'a str, Vec<View<'a>>> {
    let mut names: BTreeMap<&str, Vec<View<'a>>> = BTreeMap::new();
    for table in tables {
        for (name, child) in table.children() {
            names.entry(name).or_default().push(child);
        }
    }
    names
}

/// The children of some tables by index.
fn by_index<'a>(tables: &[View<'a>]) -> Items<'a, View<'a>> {
    let mut items = Items::new();
    for table in tables {
        for (name, child) in table.children() {
            items.add(name, child);
        }
    }
    items
}

/// Puts one list together.
#[derive(Debug, Default)]
struct Composer {
    ignored: Vec<IgnoredItem>,
    clashes: Vec<Error>,
    /// The layers that have a part in the list.
    layers: BTreeSet<usize>,
    /// Where its first parts were written.
    origins: Vec<Origin>,
    /// What its parts refer to.
    references: Option<Resolved>,
    /// A part whose number of items only a broken reference would tell.
    opaque: Option<Resolved>,
}

impl Composer {
    fn include(&mut self, view: View<'_>) {
        self.layers.insert(view.layer);
        if let Some(origin) = view.origin() {
            if self.origins.len() <= MOST_ORIGINS && !self.origins.contains(origin) {
                self.origins.push(origin.clone());
            }
        }
        if let Content::Node(Node::Resolved(resolved)) = view.content {
            self.references = Some(joined_references(self.references.take(), resolved));
        }
    }

    fn placed(&mut self, view: View<'_>) -> Placed {
        self.include(view);
        view.placed()
    }

    fn value(&mut self, views: &[View<'_>], at: &mut String) -> Option<Placed> {
        let mut clash = false;
        let shown = look(views, &mut clash);
        if clash {
            let detail = "a table hides a value of a lower layer";
            let error = Error::new(ErrorKind::InvalidKey, detail).with_key_text(&*at);
            self.clashes.push(error);
        }
        match shown {
            Shown::Nothing => None,
            Shown::Value(view) => Some(self.placed(view)),
            Shown::Items(tables, list) => {
                let below = self.placed(list);
                match self.items(&tables, (list.layer, &below), at) {
                    Some(items) => Some(Placed::list(list.start(), items)),
                    None => Some(below),
                }
            }
            Shown::Tables(tables) => {
                let mut fields = Vec::new();
                let start = tables.first().map_or_else(nowhere, View::start);
                let mut origins = vec![start];
                let mut broken = None;
                for (name, views) in by_name(&tables) {
                    let length = at.len();
                    key::push_segment(at, name);
                    if let Some(field) = self.value(&views, at) {
                        fields.push((name, field.value));
                        origins.extend(field.origins);
                        broken = broken.or(field.broken);
                    }
                    at.truncate(length);
                }
                // What only tombstones emptied is not there; what a source wrote empty is.
                let empty = tables.iter().filter(|table| table.is_empty_table());
                self.layers.extend(empty.clone().map(|table| table.layer));
                let is_there = !fields.is_empty() || empty.count() > 0;
                let value = Value::Table(fields.into_iter().collect());
                is_there.then_some(Placed {
                    value,
                    origins,
                    broken,
                })
            }
        }
    }

    /// The items of a list of a lower layer with those that are written by index; `None` if none of
    /// these counts.
    fn items(
        &mut self,
        tables: &[View<'_>],
        (layer, list): (usize, &Placed),
        at: &mut String,
    ) -> Option<Vec<Placed>> {
        let mut items = list.items().unwrap_or_default();
        let mut any_counts = false;
        let Items { by_index, others } = by_index(tables);
        for (index, views) in by_index {
            let length = at.len();
            key::push_segment(at, &index.to_string());
            let count = items.len();
            match items.get(index) {
                Some(below) => {
                    let mut all = views.clone();
                    all.push(View::of_value(layer, below));
                    match self.value(&all, at) {
                        Some(item) => {
                            items[index] = item;
                            any_counts = true;
                        }
                        None => self.ignore(&views, at, UNSET_ITEM.to_owned()),
                    }
                }
                None if index == count => {
                    items.extend(self.value(&views, at));
                    any_counts |= items.len() > count;
                }
                None => {
                    let detail = format!(
                        "is ignored: the list of the lower layer ends with {}, and only the next item \
                         can be appended; it counts again when the list reaches up to it",
                        last_item(count)
                    );
                    self.ignore_value(&views, at, detail);
                }
            }
            at.truncate(length);
        }
        self.ignore_others(others, at);
        any_counts.then_some(items)
    }

    /// The list that one layer writes by index.
    fn own(&mut self, table: View<'_>, at: &mut String) -> Vec<Placed> {
        let mut items: Vec<Placed> = Vec::new();
        let Items { by_index, others } = by_index(&[table]);
        for (index, views) in by_index {
            let length = at.len();
            key::push_segment(at, &index.to_string());
            if index == items.len() {
                items.extend(self.value(&views, at));
            } else {
                let detail = format!(
                    "is ignored: the list of this layer ends with {}, and only the next item can be \
                     appended",
                    last_item(items.len())
                );
                self.ignore_value(&views, at, detail);
            }
            at.truncate(length);
        }
        self.ignore_others(others, at);
        items
    }

    /// Reports the names that are decimal and no index.
    fn ignore_others(&mut self, others: BTreeMap<&str, Vec<View<'_>>>, at: &mut String) {
        for (name, views) in others {
            let length = at.len();
            key::push_segment(at, name);
            self.ignore_value(&views, at, why_no_index(name));
            at.truncate(length);
        }
    }

    /// Reports an item that has a value and does not count.
    fn ignore_value(&mut self, views: &[View<'_>], at: &str, detail: String) {
        let is_set = views.first().is_some_and(|view| !view.is_tombstone());
        if is_set {
            self.ignore(views, at, detail);
        }
    }

    fn ignore(&mut self, views: &[View<'_>], at: &str, detail: String) {
        let (Some(view), Ok(key)) = (views.first(), Key::parse(at)) else {
            return;
        };
        let mut error = Error::new(ErrorKind::InvalidKey, detail).with_key(&key);
        if let Some(origin) = view.origin() {
            error = error.with_origin(origin);
        }
        self.ignored.push(IgnoredItem {
            key,
            layer: view.layer,
            error,
        });
    }

    /// The list as a leaf.
    fn entry(&self, name: &Entry, items: Vec<Placed>) -> Option<Arc<Entry>> {
        let node = match &self.opaque {
            Some(opaque) => Node::Resolved(Box::new(opaque.clone())),
            None => {
                let start = match self.origins.as_slice() {
                    [] => return None,
                    [only] => only.clone(),
                    several => joined_origin(several),
                };
                let list = Placed::list(start.clone(), items);
                let origin = match self.origins.len() {
                    1 => start,
                    _ => start.with_parts(list.origins),
                };
                let leaf = Leaf::new(list.value, origin);
                match self.references.clone() {
                    None => Node::Leaf(leaf),
                    Some(references) => Node::Resolved(Box::new(Resolved {
                        value: match list.broken {
                            Some(error) => Err(error),
                            None => Ok(leaf.value.clone().unescaped()),
                        },
                        raw: leaf,
                        ..references
                    })),
                }
            }
        };
        Some(Arc::new(Entry {
            name: name.name.clone(),
            node,
        }))
    }
}

const UNSET_ITEM: &str = "is ignored: an item of a list cannot be unset, since the items after it would \
                          move; override the item or the whole list";

/// The places named in the origin of a list are as many at most.
const MOST_ORIGINS: usize = 8;

fn last_item(count: usize) -> String {
    match count.checked_sub(1) {
        Some(last) => format!("item {last}"),
        None => "no item".to_owned(),
    }
}

fn joined_origin(origins: &[Origin]) -> Origin {
    let shown = origins.iter().take(MOST_ORIGINS);
    let mut names: Vec<String> = shown.map(Origin::to_string).collect();
    if origins.len() > MOST_ORIGINS {
        names.push("...".to_owned());
    }
    Origin::new("joined", names.join(" + "))
}

/// A resolved value that refers to all that both refer to.
fn joined_references(first: Option<Resolved>, second: &Resolved) -> Resolved {
    let Some(first) = first else {
        return second.clone();
    };
    let refers = first.refers.iter().chain(&second.refers).cloned();
    Resolved {
        refers: refers.collect(),
        chain: first.chain.max(second.chain),
        secret: first.secret || second.secret,
        ..second.clone()
    }
}

/// What came of putting one list together.
#[derive(Debug)]
pub(crate) struct Composed {
    pub(crate) entry: Arc<Entry>,
    /// The layers that have a part in it, the strongest first.
    pub(crate) layers: Vec<usize>,
    pub(crate) ignored: Vec<IgnoredItem>,
    pub(crate) clashes: Vec<Error>,
}

/// A list of a lower layer with items that are written by index, the strongest layer first.
pub(super) fn overlaid(
    tables: &[View<'_>],
    (layer, list): (usize, &Arc<Entry>),
    at: &str,
) -> Option<Composed> {
    let mut composer = Composer::default();
    let view = View::of(layer, list);
    let below = composer.placed(view);
    match composer.items(tables, (layer, &below), &mut at.to_owned()) {
        Some(items) => composed(composer, list, items),
        None => Some(Composed {
            entry: Arc::clone(list),
            layers: vec![layer],
            ignored: composer.ignored,
            clashes: composer.clashes,
        }),
    }
}

fn composed(composer: Composer, name: &Entry, items: Vec<Placed>) -> Option<Composed> {
    let entry = composer.entry(name, items)?;
    Some(Composed {
        entry,
        layers: composer.layers.into_iter().collect(),
        ignored: composer.ignored,
        clashes: composer.clashes,
    })
}

/// The lists of several layers as one list, the weakest layer's items first. Takes the strongest
/// first; `None` if there is no list.
pub(super) fn joined(lists: &[(usize, &Arc<Entry>)], at: &str) -> Option<Composed> {
    let (_, strongest) = lists.first()?;
    let mut composer = Composer::default();
    let mut items: Vec<Placed> = Vec::new();
    for (layer, entry) in lists.iter().rev() {
        let view = View::of(*layer, entry);
        match &entry.node {
            Node::Table(_) => items.extend(composer.own(view, &mut at.to_owned())),
            _ => {
                if let Some(opaque) = view.opaque() {
                    composer.include(view);
                    composer.opaque = Some(opaque.clone());
                    break;
                }
                items.extend(composer.placed(view).items()?);
            }
        }
    }
    if composer.origins.is_empty() {
        // A list of ignored items alone.
        let list = Placed::list(nowhere(), items);
        let leaf = Leaf::new(list.value, nowhere());
        let entry = Arc::new(Entry {
            name: strongest.name.clone(),
            node: Node::Leaf(leaf),
        });
        return Some(Composed {
            entry,
            layers: composer.layers.into_iter().collect(),
            ignored: composer.ignored,
            clashes: composer.clashes,
        });
    }
    composed(composer, strongest, items)
}

/// How many items a layer has in a joined list.
pub(super) fn own_count(entry: &Entry) -> usize {
    match &entry.node {
        Node::Table(_) => {
            let view = View::of(0, entry);
            Composer::default().own(view, &mut String::new()).len()
        }
        _ => {
            let items = View::of(0, entry).written().and_then(decode::items);
            items.map_or(0, |items| items.len())
        }
    }
}

/// The layers that have a part in what stands inside a list with items by index, and its origin if it
/// is of one place.
pub(super) fn parts_inside<S: AsRef<str>>(
    tables: &[View<'_>],
    list: (usize, &Entry),
    path: &[S],
) -> (Vec<usize>, Option<Origin>) {
    let list = View::of(list.0, list.1);
    let Some(value) = list.written() else {
        return (Vec::new(), None);
    };
    let path: Vec<Cow<'_, str>> = path
        .iter()
        .map(|name| Cow::Borrowed(name.as_ref()))
        .collect();
    let mut below: Vec<View<'_>> = tables.to_vec();
    below.push(View {
        content: Content::Value(value, &[]),
        ..list
    });
    let (layers, origin) = inside(&below, &path);
    let origin = match layers.as_slice() {
        [only] if *only == list.layer => list.origin().cloned(),
        _ => origin,
    };
    (layers, origin)
}

fn inside(views: &[View<'_>], path: &[Cow<'_, str>]) -> (Vec<usize>, Option<Origin>) {
    let Some((name, rest)) = path.split_first() else {
        let mut composer = Composer::default();
        composer.value(views, &mut String::new());
        let origin = match composer.origins.as_slice() {
            [only] if composer.layers.len() == 1 => Some(only.clone()),
            _ => None,
        };
        return (composer.layers.into_iter().collect(), origin);
    };
    match look(views, &mut false) {
        Shown::Nothing => (Vec::new(), None),
        Shown::Tables(tables) => {
            let children = by_name(&tables).remove(&**name);
            inside(&children.unwrap_or_default(), rest)
        }
        Shown::Value(list) => inside_list(&[], list, position(name), rest),
        Shown::Items(tables, list) => inside_list(&tables, list, position(name), rest),
    }
}

fn inside_list(
    tables: &[View<'_>],
    list: View<'_>,
    index: Option<usize>,
    rest: &[Cow<'_, str>],
) -> (Vec<usize>, Option<Origin>) {
    let Some(index) = index else {
        return (Vec::new(), None);
    };
    let items = list.written().and_then(decode::items).unwrap_or_default();
    let mut views: Vec<View<'_>> = by_index(tables).by_index.remove(&index).unwrap_or_default();
    views.extend(items.get(index).map(|item| View {
        content: Content::Value(item, &[]),
        ..list
    }));
    inside(&views, rest)
}
