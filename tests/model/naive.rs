//! Computes the expected properties from scratch with the simplest code: plain maps, a recursive
//! merge, and recursive references with a stack.

use std::collections::{BTreeMap, BTreeSet};

use liveprops::{Key, Value};

pub(crate) type Tree = BTreeMap<String, Node>;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    Leaf(Raw),
    Table(Tree),
}

/// A written value whose references are not resolved.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Raw {
    Unset,
    Bool(bool),
    Int(i64),
    Text(Vec<Part>),
    List(Vec<Raw>),
    Table(BTreeMap<String, Raw>),
    /// Written like this and resolved permanently.
    Fixed(Box<Raw>, Result<Value, Broken>),
    /// A value without references.
    Literal(Value),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Part {
    Plain(String),
    /// `${key}` or `${key:default}`.
    Ref(Vec<Part>, Option<Vec<Part>>),
    /// `$${name}`, which means `${name}`.
    Escaped(String),
    /// `${` without an end; only at the end of the value.
    Open(String),
}

/// A key is a value and a table at once.
#[derive(Debug)]
pub(crate) struct Clash;

/// A reference is broken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Broken {
    /// Whether the reason is an undefined key.
    pub(crate) unresolved: bool,
}

/// The reference leads to a cycle or to a table.
const LOST: Broken = Broken { unresolved: false };

pub(crate) fn path(key: &str) -> Vec<String> {
    let key: Key = key.parse().unwrap();
    key.segments().map(|segment| segment.into_owned()).collect()
}

pub(crate) fn key_of(path: &[String]) -> String {
    Key::from_segments(path).unwrap().as_str().to_owned()
}

fn written(parts: &[Part]) -> String {
    let part = |part: &Part| match part {
        Part::Plain(text) => text.clone(),
        Part::Ref(key, None) => format!("${{{}}}", written(key)),
        Part::Ref(key, Some(default)) => format!("${{{}:{}}}", written(key), written(default)),
        Part::Escaped(name) => format!("$${{{name}}}"),
        Part::Open(text) => format!("${{{text}"),
    };
    parts.iter().map(part).collect()
}

impl Raw {
    pub(crate) fn value(&self) -> Value {
        match self {
            Raw::Unset => Value::Unset,
            Raw::Bool(value) => Value::from(*value),
            Raw::Int(value) => Value::from(*value),
            Raw::Text(parts) => Value::from(written(parts)),
            Raw::List(items) => Value::List(items.iter().map(Raw::value).collect()),
            Raw::Table(fields) => {
                let fields = fields.iter().map(|(k, v)| (k.as_str(), v.value()));
                Value::Table(fields.collect())
            }
            Raw::Fixed(raw, _) => raw.value(),
            Raw::Literal(value) => value.clone(),
        }
    }

    fn node(&self) -> Node {
        match self {
            Raw::Table(fields) => {
                Node::Table(fields.iter().map(|(k, v)| (k.clone(), v.node())).collect())
            }
            leaf => Node::Leaf(leaf.clone()),
        }
    }

    /// Returns whether a reference could replace the whole value.
    pub(crate) fn is_another(&self) -> bool {
        match self {
            Raw::List(items) => cases(items).is_some(),
            Raw::Text(_) => true,
            _ => false,
        }
    }

    pub(crate) fn refers(&self) -> bool {
        match self {
            Raw::Text(_) => matches!(self.value(), Value::Text(text) if text.contains("${")),
            Raw::List(items) => cases(items).is_some() || items.iter().any(Raw::refers),
            Raw::Table(fields) => fields.values().any(Raw::refers),
            _ => false,
        }
    }

    /// Returns whether the value contains a reference that is not escaped.
    fn has_reference(&self) -> bool {
        match self {
            Raw::Text(parts) => parts.iter().any(|part| matches!(part, Part::Ref(..))),
            Raw::List(items) => items.iter().any(Raw::has_reference),
            Raw::Table(fields) => fields.values().any(Raw::has_reference),
            _ => false,
        }
    }

    /// The written text, except for parts that are resolved permanently.
    pub(crate) fn unfixed(&self) -> Raw {
        match self {
            Raw::Fixed(_, Ok(value)) => Raw::Literal(value.clone()),
            Raw::Fixed(raw, Err(_)) => raw.unfixed(),
            Raw::List(items) => Raw::List(items.iter().map(Raw::unfixed).collect()),
            Raw::Table(fields) => {
                let fields = fields.iter().map(|(k, v)| (k.clone(), v.unfixed()));
                Raw::Table(fields.collect())
            }
            raw => raw.clone(),
        }
    }
}

pub(crate) fn find<'a>(tree: &'a Tree, path: &[String]) -> Option<&'a Node> {
    let (name, rest) = path.split_first()?;
    match tree.get(name)? {
        node if rest.is_empty() => Some(node),
        Node::Table(below) => find(below, rest),
        Node::Leaf(_) => None,
    }
}

pub(crate) fn put(tree: &mut Tree, path: &[String], raw: &Raw) -> Result<(), Clash> {
    let mut copy = tree.clone();
    put_in(&mut copy, path, raw.node())?;
    *tree = copy;
    Ok(())
}

fn put_in(tree: &mut Tree, path: &[String], node: Node) -> Result<(), Clash> {
    let (name, rest) = path.split_first().ok_or(Clash)?;
    if rest.is_empty() {
        let table = |node: &Node| matches!(node, Node::Table(_));
        if tree.get(name).is_some_and(|old| table(old) != table(&node)) {
            return Err(Clash);
        }
        tree.insert(name.clone(), node);
        return Ok(());
    }
    let below = tree.entry(name.clone()).or_insert(Node::Table(Tree::new()));
    match below {
        Node::Table(below) => put_in(below, rest, node),
        Node::Leaf(_) => Err(Clash),
    }
}

pub(crate) fn remove(tree: &mut Tree, path: &[String]) -> bool {
    let Some((name, rest)) = path.split_first() else {
        return false;
    };
    if rest.is_empty() {
        return tree.remove(name).is_some();
    }
    let Some(Node::Table(below)) = tree.get_mut(name) else {
        return false;
    };
    let gone = remove(below, rest);
    if gone && below.is_empty() {
        tree.remove(name);
    }
    gone
}

/// Which lists are joined.
#[derive(Clone, Debug, Default)]
pub(crate) struct Joins {
    pub(crate) append: BTreeSet<Vec<String>>,
    /// The number of strongest layers that are not joined with the others.
    pub(crate) bootstrap: usize,
}

/// Merges layers, the strongest first.
pub(crate) fn merge(layers: &[&Tree], joins: &Joins) -> Tree {
    merge_noting(layers, joins).0
}

/// The results of merging besides the tree.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// The ignored items of lists, each with its layer.
    pub(crate) ignored: BTreeSet<(String, usize)>,
    /// The lists with items by index, each with the layers of its parts.
    pub(crate) indexed: BTreeMap<String, BTreeSet<usize>>,
}

pub(crate) fn merge_noting(layers: &[&Tree], joins: &Joins) -> (Tree, Notes) {
    let layers: Vec<(usize, &Tree)> = layers.iter().copied().enumerate().collect();
    let mut notes = Notes::default();
    let tree = merge_at(&layers, joins, &mut Vec::new(), &mut notes);
    (tree, notes)
}

fn merge_at(
    layers: &[(usize, &Tree)],
    joins: &Joins,
    path: &mut Vec<String>,
    notes: &mut Notes,
) -> Tree {
    let names: BTreeSet<&String> = layers.iter().flat_map(|layer| layer.1.keys()).collect();
    let mut merged = Tree::new();
    for name in names {
        path.push(name.clone());
        if let Some(node) = merge_name(layers, joins, name, path, notes) {
            merged.insert(name.clone(), node);
        }
        path.pop();
    }
    merged
}

fn merge_name(
    layers: &[(usize, &Tree)],
    joins: &Joins,
    name: &str,
    path: &mut Vec<String>,
    notes: &mut Notes,
) -> Option<Node> {
    if joins.append.contains(path) {
        if let Some(list) = join(layers, joins, name, path, notes) {
            return Some(Node::Leaf(list));
        }
    }
    let mut tables: Vec<(usize, &Tree)> = Vec::new();
    let nodes = layers
        .iter()
        .filter_map(|(at, layer)| Some((*at, layer.get(name)?)));
    for (at, node) in nodes {
        match node {
            Node::Table(table) => tables.push((at, table)),
            Node::Leaf(Raw::Unset) => break,
            Node::Leaf(leaf) if tables.is_empty() => return Some(Node::Leaf(leaf.clone())),
            Node::Leaf(leaf) => {
                let is_fixed = tables[0].0 < joins.bootstrap && at >= joins.bootstrap;
                let indexes = tables.iter().flat_map(|(_, table)| table.keys());
                let mut names = indexes.clone();
                if is_fixed || names.next().is_none() || !indexes.clone().all(|name| is_index(name))
                {
                    break;
                }
                let Some(list) = overridable(leaf) else { break };
                let tables: Vec<(usize, Node)> = tables
                    .iter()
                    .map(|(at, table)| (*at, Node::Table((*table).clone())))
                    .collect();
                let mut parts = BTreeSet::from([at]);
                let (items, any) = over_list(&tables, (at, list), path, notes, &mut parts);
                if !any {
                    return Some(Node::Leaf(leaf.clone()));
                }
                let key = key_of(path);
                notes.indexed.insert(key, parts);
                return Some(Node::Leaf(whole(items)));
            }
        }
    }
    if tables.is_empty() {
        return None;
    }
    let below = merge_at(&tables, joins, path, notes);
    // A table emptied by tombstones is absent; a table that is written empty exists.
    let is_there = !below.is_empty() || tables.iter().any(|(_, table)| table.is_empty());
    is_there.then_some(Node::Table(below))
}

/// Returns whether a name is written as an index.
fn is_index(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns the index that a name means; each index has one name.
fn index_of(name: &str) -> Option<usize> {
    let index = name.parse::<usize>().ok();
    index.filter(|index| index.to_string() == name)
}

/// The items of a list that indexes may override.
fn overridable(raw: &Raw) -> Option<Vec<Raw>> {
    match raw {
        Raw::Text(parts) => {
            let is_plain = parts.iter().all(|part| matches!(part, Part::Plain(_)));
            let text = written(parts);
            let items = text.split(',').filter(|_| !text.is_empty());
            let items = items.map(|item| Raw::Literal(Value::from(item)));
            is_plain.then(|| items.collect())
        }
        Raw::Fixed(written, Err(broken)) => broken_items(written, *broken),
        raw => items(raw),
    }
}

/// Returns the items of a list with at least one broken item; `None` if only the reference defines
/// the items.
fn broken_items(written: &Raw, broken: Broken) -> Option<Vec<Raw>> {
    let part = |item: &Raw| broken_part(item, broken);
    match written {
        Raw::List(items) if cases(items).is_none() => Some(items.iter().map(part).collect()),
        _ => None,
    }
}

/// A part of a broken value: parts without references are readable.
fn broken_part(raw: &Raw, broken: Broken) -> Raw {
    match raw {
        Raw::Table(fields) => {
            let fields = fields.iter();
            let fields = fields.map(|(k, v)| (k.clone(), broken_part(v, broken)));
            Raw::Table(fields.collect())
        }
        raw if !raw.refers() => raw.clone(),
        raw => {
            let reads = match raw.has_reference() {
                true => Err(broken),
                false => without_cases(&Tree::new(), raw, &mut Vec::new()),
            };
            Raw::Fixed(Box::new(raw.clone()), reads)
        }
    }
}

/// Creates a list, resolved permanently if one of its items is.
fn whole(items: Vec<Raw>) -> Raw {
    fn broken(raw: &Raw) -> Option<Broken> {
        match raw {
            Raw::Fixed(_, Err(broken)) => Some(*broken),
            Raw::List(items) => items.iter().find_map(broken),
            Raw::Table(fields) => fields.values().find_map(broken),
            _ => None,
        }
    }
    fn fixed(raw: &Raw) -> bool {
        match raw {
            Raw::Fixed(..) => true,
            Raw::List(items) => items.iter().any(fixed),
            Raw::Table(fields) => fields.values().any(fixed),
            _ => false,
        }
    }
    fn read(raw: &Raw) -> Value {
        match raw {
            Raw::Fixed(_, Ok(value)) => value.clone(),
            Raw::List(items) => Value::List(items.iter().map(read).collect()),
            Raw::Table(fields) => {
                let fields = fields.iter().map(|(k, v)| (k.as_str(), read(v)));
                Value::Table(fields.collect())
            }
            raw => raw.value(),
        }
    }
    let list = Raw::List(items);
    if let Some(broken) = broken(&list) {
        return Raw::Fixed(Box::new(list.unfixed()), Err(broken));
    }
    if fixed(&list) {
        let value = read(&list);
        return Raw::Fixed(Box::new(Raw::Literal(value.clone())), Ok(value));
    }
    list
}

/// Applies the items that tables have by index, strongest table first. Also returns whether one of
/// them counts.
fn over_list(
    tables: &[(usize, Node)],
    (below, mut items): (usize, Vec<Raw>),
    path: &mut Vec<String>,
    notes: &mut Notes,
    parts: &mut BTreeSet<usize>,
) -> (Vec<Raw>, bool) {
    let mut any_counts = false;
    let mut indexes: Vec<usize> = tables
        .iter()
        .flat_map(|(_, node)| match node {
            Node::Table(table) => table.keys().filter_map(|name| index_of(name)).collect(),
            Node::Leaf(_) => Vec::new(),
        })
        .collect();
    indexes.sort_unstable();
    indexes.dedup();
    for index in indexes {
        path.push(index.to_string());
        let mut views = children(tables, &index.to_string());
        let (layer, first) = views[0].clone();
        let is_unset = first == Node::Leaf(Raw::Unset);
        if index > items.len() {
            if !is_unset {
                notes.ignored.insert((key_of(path), layer));
            }
        } else {
            views.extend(items.get(index).map(|item| (below, item.node())));
            let item = over(&views, path, notes, parts);
            any_counts |= item.is_some();
            match (item, index == items.len()) {
                (Some(item), true) => items.push(item),
                (Some(item), false) => items[index] = item,
                (None, true) => {}
                (None, false) => drop(notes.ignored.insert((key_of(path), layer))),
            }
        }
        path.pop();
    }
    note_other_names(tables, path, notes);
    (items, any_counts)
}

/// Records decimal names that are no index.
fn note_other_names(tables: &[(usize, Node)], path: &mut Vec<String>, notes: &mut Notes) {
    let names = tables.iter().flat_map(|(_, node)| match node {
        Node::Table(table) => table.keys().collect(),
        Node::Leaf(_) => Vec::new(),
    });
    let others: BTreeSet<&String> = names.filter(|name| index_of(name).is_none()).collect();
    for name in others {
        let (layer, first) = children(tables, name)[0].clone();
        if first != Node::Leaf(Raw::Unset) {
            path.push(name.clone());
            notes.ignored.insert((key_of(path), layer));
            path.pop();
        }
    }
}

fn children(tables: &[(usize, Node)], name: &str) -> Vec<(usize, Node)> {
    let tables = tables.iter();
    let child = |(at, node): &(usize, Node)| match node {
        Node::Table(table) => table.get(name).map(|node| (*at, node.clone())),
        Node::Leaf(_) => None,
    };
    tables.filter_map(child).collect()
}

/// Merges what several layers have at one place inside a list.
fn over(
    views: &[(usize, Node)],
    path: &mut Vec<String>,
    notes: &mut Notes,
    parts: &mut BTreeSet<usize>,
) -> Option<Raw> {
    let mut tables: Vec<(usize, Node)> = Vec::new();
    for (at, node) in views {
        match node {
            Node::Table(_) => tables.push((*at, node.clone())),
            Node::Leaf(Raw::Unset) => break,
            Node::Leaf(leaf) if tables.is_empty() => {
                parts.insert(*at);
                return Some(leaf.clone());
            }
            Node::Leaf(leaf) => {
                let mut names = tables.iter().flat_map(|(_, node)| match node {
                    Node::Table(table) => table.keys().collect(),
                    Node::Leaf(_) => Vec::new(),
                });
                let any = names.clone().next().is_some();
                match overridable(leaf) {
                    Some(list) if any && names.all(|name| is_index(name)) => {
                        parts.insert(*at);
                        let list = (*at, list);
                        let (items, any) = over_list(&tables, list, path, notes, parts);
                        return Some(if any { Raw::List(items) } else { leaf.clone() });
                    }
                    _ => break,
                }
            }
        }
    }
    if tables.is_empty() {
        return None;
    }
    let mut names: BTreeSet<String> = BTreeSet::new();
    let mut is_there = false;
    for (at, node) in &tables {
        if let Node::Table(table) = node {
            if table.is_empty() {
                is_there = true;
                parts.insert(*at);
            }
            names.extend(table.keys().cloned());
        }
    }
    let mut fields = BTreeMap::new();
    for name in names {
        path.push(name.clone());
        if let Some(raw) = over(&children(&tables, &name), path, notes, parts) {
            fields.insert(name, raw);
        }
        path.pop();
    }
    (is_there || !fields.is_empty()).then_some(Raw::Table(fields))
}

/// The layers whose lists are joined at a name, strongest first.
fn lists<'a>(layers: &[(usize, &'a Tree)], joins: &Joins, name: &str) -> Vec<(usize, &'a Raw)> {
    let mut lists: Vec<(usize, &Raw)> = Vec::new();
    for (at, layer) in layers {
        if lists
            .first()
            .is_some_and(|(first, _)| *first < joins.bootstrap && *at >= joins.bootstrap)
        {
            break;
        }
        match layer.get(name) {
            None => {}
            Some(Node::Leaf(raw)) if matches!(raw, Raw::Fixed(_, Err(_))) => {
                lists.push((*at, raw));
            }
            Some(Node::Leaf(raw)) if items(raw).is_some() => lists.push((*at, raw)),
            Some(Node::Table(table))
                if !table.is_empty() && table.keys().all(|name| is_index(name)) =>
            {
                lists.push((*at, INDEXED));
            }
            Some(_) => break,
        }
    }
    lists
}

/// Represents a table of items by index.
const INDEXED: &Raw = &Raw::Unset;

/// Returns the layers whose lists are joined at a path, strongest first; `None` if there is no
/// list.
pub(crate) fn contributors(layers: &[&Tree], joins: &Joins, path: &[String]) -> Option<Vec<usize>> {
    let (name, above) = path.split_last().unwrap();
    let mut seen: Vec<(usize, &Tree)> = layers.iter().copied().enumerate().collect();
    for name in above {
        let tables = seen.iter().map_while(|(at, tree)| match tree.get(name) {
            None => Some(None),
            Some(Node::Table(below)) => Some(Some((*at, below))),
            Some(Node::Leaf(_)) => None,
        });
        seen = tables.flatten().collect();
    }
    let lists = lists(&seen, joins, name);
    let has_part = |(at, raw): &(usize, &Raw)| {
        if *raw != INDEXED {
            return true;
        }
        let (_, layer) = seen.iter().find(|(layer, _)| layer == at).unwrap();
        let table = (*at, layer[name].clone());
        let (notes, parts) = (&mut Notes::default(), &mut BTreeSet::new());
        over_list(&[table], (*at, Vec::new()), &mut Vec::new(), notes, parts);
        !parts.is_empty()
    };
    if lists.is_empty() {
        return None;
    }
    // A part with a broken reference has unknown items and represents the whole list. Stronger
    // layers are not shown.
    let is_opaque = |(_, raw): &(usize, &Raw)| match raw {
        Raw::Fixed(written, Err(broken)) => broken_items(written, *broken).is_none(),
        _ => false,
    };
    let weakest = lists.iter().rposition(is_opaque).unwrap_or(0);
    let lists = lists.into_iter().skip(weakest).filter(has_part);
    Some(lists.map(|(at, _)| at).collect())
}

fn join(
    layers: &[(usize, &Tree)],
    joins: &Joins,
    name: &str,
    path: &mut Vec<String>,
    notes: &mut Notes,
) -> Option<Raw> {
    let lists = lists(layers, joins, name);
    if lists.is_empty() {
        return None;
    }
    let mut joined = Vec::new();
    for (at, raw) in lists.iter().rev() {
        if let Raw::Fixed(written, Err(broken)) = raw {
            match broken_items(written, *broken) {
                Some(items) => joined.extend(items),
                None => return Some((*raw).clone()),
            }
            continue;
        }
        if *raw == INDEXED {
            let (_, layer) = layers.iter().find(|(layer, _)| layer == at)?;
            let table = (*at, layer.get(name)?.clone());
            let nothing = (*at, Vec::new());
            let parts = &mut BTreeSet::new();
            joined.extend(over_list(&[table], nothing, path, notes, parts).0);
        } else {
            joined.extend(items(raw)?);
        }
    }
    Some(whole(joined))
}

/// Returns the items of a list, or of a text that spells one. Texts here contain at most one comma.
fn items(raw: &Raw) -> Option<Vec<Raw>> {
    let literals = |items: &[Value]| items.iter().cloned().map(Raw::Literal).collect();
    match raw {
        Raw::List(items) => Some(items.clone()),
        Raw::Text(parts) => match parts.as_slice() {
            [Part::Plain(text)] => {
                let items = text.split(',').map(|item| Raw::Literal(Value::from(item)));
                Some(items.collect())
            }
            _ => Some(vec![raw.clone()]),
        },
        Raw::Fixed(_, Ok(value)) | Raw::Literal(value) => match value {
            Value::List(items) => Some(literals(items)),
            Value::Text(text) => Some(literals(
                &text.split(',').map(Value::from).collect::<Vec<_>>(),
            )),
            _ => None,
        },
        _ => None,
    }
}

/// A condition and the value if it is true.
type Case<'a> = (Option<&'a BTreeMap<String, Raw>>, &'a Raw);

/// The cases of a contextual value.
fn cases(items: &[Raw]) -> Option<Vec<Case<'_>>> {
    fn case(item: &Raw) -> Option<Case<'_>> {
        let Raw::Table(fields) = item else {
            return None;
        };
        match (fields.get("if"), fields.get("value"), fields.len()) {
            (None, Some(value), 1) => Some((None, value)),
            (Some(Raw::Table(wanted)), Some(value), 2) => Some((Some(wanted), value)),
            _ => None,
        }
    }
    let cases: Vec<_> = items.iter().map(case).collect::<Option<_>>()?;
    let mut wanted = cases.iter().map(|(wanted, _)| wanted);
    wanted.any(Option::is_some).then_some(cases)
}

/// The readable value of a leaf.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Seen {
    Value(Value),
    Broken(Broken),
    /// A table without keys.
    Empty,
}

impl Seen {
    pub(crate) fn reads(&self) -> Result<Value, Broken> {
        match self {
            Seen::Value(value) => Ok(value.clone()),
            Seen::Broken(broken) => Err(*broken),
            Seen::Empty => Err(LOST),
        }
    }
}

/// The merged tree with resolved references.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct View {
    pub(crate) leaves: BTreeMap<String, Seen>,
    pub(crate) merged: Tree,
}

/// Returns the result of reading a key by name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Read {
    Missing,
    Broken(Broken),
    Value(Value),
}

impl View {
    pub(crate) fn of(layers: &[&Tree]) -> Self {
        Self::of_tree(merge(layers, &Joins::default()))
    }

    pub(crate) fn of_tree(merged: Tree) -> Self {
        let mut leaves = BTreeMap::new();
        collect(&merged, &merged, &mut Vec::new(), &mut leaves);
        Self { leaves, merged }
    }

    pub(crate) fn keys(&self) -> Vec<&String> {
        let values = self.leaves.iter().filter(|(_, seen)| **seen != Seen::Empty);
        values.map(|(key, _)| key).collect()
    }

    pub(crate) fn read(&self, key: &str) -> Read {
        let path = path(key);
        if let Some(node) = find(&self.merged, &path) {
            return self.node(node, &path);
        }
        // The key may be inside a list.
        for end in (1..path.len()).rev() {
            match self.leaves.get(&key_of(&path[..end])) {
                Some(Seen::Value(value)) => {
                    return descend(value, &path[end..]).map_or(Read::Missing, Read::Value);
                }
                Some(Seen::Broken(broken)) => {
                    let Some(Node::Leaf(raw)) = find(&self.merged, &path[..end]) else {
                        unreachable!("what is broken is a leaf");
                    };
                    return match inside_broken(raw, &path[end..], *broken) {
                        Ok(Some(value)) => Read::Value(value),
                        Ok(None) => Read::Missing,
                        Err(broken) => Read::Broken(broken),
                    };
                }
                _ => {}
            }
        }
        Read::Missing
    }

    fn node(&self, node: &Node, path: &[String]) -> Read {
        let Node::Table(table) = node else {
            return match &self.leaves[&key_of(path)] {
                Seen::Value(value) => Read::Value(value.clone()),
                Seen::Broken(broken) => Read::Broken(*broken),
                Seen::Empty => Read::Broken(LOST),
            };
        };
        let mut broken: Option<Broken> = None;
        let mut fields = BTreeMap::new();
        for (name, node) in table {
            let mut path = path.to_vec();
            path.push(name.clone());
            match self.node(node, &path) {
                Read::Value(value) => drop(fields.insert(name.as_str(), value)),
                Read::Broken(field) => {
                    let unresolved = field.unresolved && broken.is_none_or(|b| b.unresolved);
                    broken = Some(Broken { unresolved });
                }
                Read::Missing => return Read::Missing,
            }
        }
        if let Some(broken) = broken {
            return Read::Broken(broken);
        }
        Read::Value(Value::from(fields))
    }
}

fn collect(root: &Tree, at: &Tree, path: &mut Vec<String>, leaves: &mut BTreeMap<String, Seen>) {
    for (name, node) in at {
        path.push(name.clone());
        match node {
            Node::Table(below) if !below.is_empty() => collect(root, below, path, leaves),
            Node::Table(_) => drop(leaves.insert(key_of(path), Seen::Empty)),
            Node::Leaf(raw) => {
                let seen = match resolve(root, path, raw, &mut Vec::new()) {
                    Ok(value) => Seen::Value(value),
                    Err(broken) => Seen::Broken(broken),
                };
                leaves.insert(key_of(path), seen);
            }
        }
        path.pop();
    }
}

type Stack = Vec<Vec<String>>;

fn resolve(root: &Tree, path: &[String], raw: &Raw, stack: &mut Stack) -> Result<Value, Broken> {
    if stack.iter().any(|other| other == path) {
        return Err(LOST);
    }
    stack.push(path.to_vec());
    let value = evaluate(root, raw, stack);
    stack.pop();
    value
}

pub(crate) fn evaluate(root: &Tree, raw: &Raw, stack: &mut Stack) -> Result<Value, Broken> {
    if let Some(cases) = match raw {
        Raw::List(items) => cases(items),
        _ => None,
    } {
        for (wanted, value) in cases {
            if holds(root, wanted, stack)? {
                return without_cases(root, value, stack);
            }
        }
        unreachable!("each contextual value has a last resort here");
    }
    without_cases(root, raw, stack)
}

/// Returns whether the condition of a case is true.
fn holds(
    root: &Tree,
    wanted: Option<&BTreeMap<String, Raw>>,
    stack: &mut Stack,
) -> Result<bool, Broken> {
    let text = |value: &Value| match value {
        Value::Text(text) => text.to_string(),
        other => other.to_string(),
    };
    let mut holds = true;
    for (key, wanted) in wanted.into_iter().flatten() {
        let found = look_up(root, &path(key), stack)?;
        holds &= found.is_some_and(|found| text(&found) == text(&wanted.value()));
    }
    Ok(holds)
}

fn without_cases(root: &Tree, raw: &Raw, stack: &mut Stack) -> Result<Value, Broken> {
    match raw {
        Raw::Fixed(_, reads) => reads.clone(),
        Raw::Text(parts) => match parts.as_slice() {
            [only @ Part::Ref(..)] => refer(root, only, stack),
            parts => text(root, parts, stack).map(Value::from),
        },
        Raw::List(items) => {
            let items = items.iter().map(|item| without_cases(root, item, stack));
            Ok(Value::List(items.collect::<Result<_, _>>()?))
        }
        Raw::Table(fields) => {
            let mut table = BTreeMap::new();
            for (name, raw) in fields {
                table.insert(name.as_str(), without_cases(root, raw, stack)?);
            }
            Ok(Value::from(table))
        }
        plain => Ok(plain.value()),
    }
}

fn text(root: &Tree, parts: &[Part], stack: &mut Stack) -> Result<String, Broken> {
    let mut all = String::new();
    for part in parts {
        match part {
            Part::Plain(text) => all.push_str(text),
            Part::Escaped(name) => all.push_str(&format!("${{{name}}}")),
            Part::Open(text) => all.push_str(&format!("${{{text}")),
            Part::Ref(..) => match refer(root, part, stack)? {
                Value::Text(text) => all.push_str(&text),
                Value::List(_) | Value::Table(_) => return Err(LOST),
                value => all.push_str(&value.to_string()),
            },
        }
    }
    Ok(all)
}

fn refer(root: &Tree, part: &Part, stack: &mut Stack) -> Result<Value, Broken> {
    let Part::Ref(key, default) = part else {
        unreachable!("only called for references");
    };
    let name = text(root, key, stack)?;
    let as_written = || Ok(Value::from(written(std::slice::from_ref(part))));
    let Ok(key) = name.trim().parse::<Key>() else {
        return as_written();
    };
    let path: Vec<String> = key.segments().map(|s| s.into_owned()).collect();
    if path.is_empty() {
        // An empty name, as in shells, is no reference.
        return as_written();
    }
    if let Some(found) = look_up(root, &path, stack)? {
        return Ok(found);
    }
    match default {
        Some(default) => match default.as_slice() {
            // A form of shells, and no default.
            [Part::Plain(text), ..] if is_shell_form(text) => Err(Broken { unresolved: true }),
            [only @ Part::Ref(..)] => refer(root, only, stack),
            parts => text(root, parts, stack).map(Value::from),
        },
        None => Err(Broken { unresolved: true }),
    }
}

/// A sign before a number is part of the number.
fn is_shell_form(default: &str) -> bool {
    let is_number = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
    let signed = default.strip_prefix(['-', '+']);
    default.starts_with(['=', '?']) || signed.is_some_and(|rest| !is_number(rest))
}

fn look_up(root: &Tree, path: &[String], stack: &mut Stack) -> Result<Option<Value>, Broken> {
    match find(root, path) {
        Some(Node::Table(_)) => return Err(LOST),
        Some(Node::Leaf(raw)) => return resolve(root, path, raw, stack).map(Some),
        None => {}
    }
    for end in 1..path.len() {
        if let Some(Node::Leaf(raw)) = find(root, &path[..end]) {
            let value = resolve(root, &path[..end], raw, stack)?;
            if let Some(inside) = descend(&value, &path[end..]) {
                return Ok(Some(inside));
            }
        }
    }
    Ok(None)
}

/// Returns a part of a broken leaf: a part without references is readable.
fn inside_broken(raw: &Raw, path: &[String], broken: Broken) -> Result<Option<Value>, Broken> {
    let mut part = raw;
    while let Raw::Fixed(raw, _) = part {
        part = raw;
    }
    if part.is_another() {
        let is_index = |name: &String| name.bytes().all(|byte| byte.is_ascii_digit());
        return if path.iter().any(is_index) {
            Err(broken)
        } else {
            Ok(None)
        };
    }
    for name in path {
        let inside = match part {
            Raw::List(items) => name.parse::<usize>().ok().and_then(|at| items.get(at)),
            Raw::Table(fields) => fields.get(name),
            _ => None,
        };
        let Some(inside) = inside else {
            return Ok(None);
        };
        part = inside;
    }
    if holds_references(&part.value()) {
        return Err(broken);
    }
    Ok(Some(part.value()).filter(|value| !matches!(value, Value::Unset)))
}

fn holds_references(value: &Value) -> bool {
    match value {
        Value::Text(text) => text.contains("${"),
        Value::List(items) => are_cases(items) || items.iter().any(holds_references),
        Value::Table(fields) => fields.values().any(holds_references),
        _ => false,
    }
}

/// Returns whether a list would be a contextual value outside of its list. It is not readable while
/// that list is broken.
fn are_cases(items: &[Value]) -> bool {
    let is_case = |item: &Value| {
        let Value::Table(fields) = item else {
            return None;
        };
        match (fields.get("if"), fields.get("value"), fields.len()) {
            (None, Some(_), 1) => Some(false),
            (Some(Value::Table(_)), Some(_), 2) => Some(true),
            _ => None,
        }
    };
    let cases: Option<Vec<bool>> = items.iter().map(is_case).collect();
    cases.is_some_and(|conditional| conditional.contains(&true))
}

pub(crate) fn descend(value: &Value, path: &[String]) -> Option<Value> {
    let mut value = value;
    for name in path {
        value = match value {
            Value::List(items) => items.get(name.parse::<usize>().ok()?)?,
            Value::Table(fields) => fields.get(name.as_str())?,
            _ => return None,
        };
    }
    (!matches!(value, Value::Unset)).then(|| value.clone())
}
