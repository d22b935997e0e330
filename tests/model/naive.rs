//! What the properties should say, computed from scratch and with nothing clever: plain maps,
//! a recursive merge, references followed by recursion with a stack of what is being followed.

use std::collections::{BTreeMap, BTreeSet};

use liveprops::{Key, Value};

pub(crate) type Tree = BTreeMap<String, Node>;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    Leaf(Raw),
    Table(Tree),
}

/// A value as it is written, with its references not yet text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Raw {
    Unset,
    Bool(bool),
    Int(i64),
    Text(Vec<Part>),
    List(Vec<Raw>),
    Table(BTreeMap<String, Raw>),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Part {
    Plain(String),
    /// `${key}` or `${key:default}`.
    Ref(Vec<Part>, Option<Vec<Part>>),
    /// `$${name}`, which means `${name}`.
    Escaped(String),
    /// `${` that nothing closes; only at the very end.
    Open(String),
}

/// A key is a value and a table at once.
#[derive(Debug)]
pub(crate) struct Clash;

/// A reference leads nowhere good.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Broken;

pub(crate) fn path(key: &str) -> Vec<String> {
    let key: Key = key.parse().unwrap();
    key.segments().map(|segment| segment.into_owned()).collect()
}

fn key_of(path: &[String]) -> String {
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
                let fields = fields.iter().map(|(k, v)| (k.as_str().into(), v.value()));
                Value::Table(Box::new(fields.collect()))
            }
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

    pub(crate) fn refers(&self) -> bool {
        match self {
            Raw::Text(_) => matches!(self.value(), Value::Text(text) if text.contains("${")),
            Raw::List(items) => items.iter().any(Raw::refers),
            Raw::Table(fields) => fields.values().any(Raw::refers),
            _ => false,
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

/// Merges layers, the strongest first.
pub(crate) fn merge(layers: &[&Tree]) -> Tree {
    let names: BTreeSet<&String> = layers.iter().flat_map(|layer| layer.keys()).collect();
    let mut merged = Tree::new();
    for name in names {
        let mut tables: Vec<&Tree> = Vec::new();
        let mut winner = None;
        for node in layers.iter().filter_map(|layer| layer.get(name)) {
            match node {
                Node::Table(table) => tables.push(table),
                Node::Leaf(leaf) => {
                    if tables.is_empty() && *leaf != Raw::Unset {
                        winner = Some(leaf);
                    }
                    break;
                }
            }
        }
        if let Some(leaf) = winner {
            merged.insert(name.clone(), Node::Leaf(leaf.clone()));
        } else if !tables.is_empty() {
            let below = merge(&tables);
            // What only tombstones emptied is not there; what was written empty is.
            if !below.is_empty() || tables.iter().any(|table| table.is_empty()) {
                merged.insert(name.clone(), Node::Table(below));
            }
        }
    }
    merged
}

/// What a leaf reads as.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Seen {
    Value(Value),
    Broken,
    /// A table without keys.
    Empty,
}

/// The merged tree with its references followed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct View {
    pub(crate) leaves: BTreeMap<String, Seen>,
    pub(crate) merged: Tree,
}

/// What reading a key by name gives.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Read {
    Missing,
    Broken,
    Value(Value),
}

impl View {
    pub(crate) fn of(layers: &[&Tree]) -> Self {
        let merged = merge(layers);
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
        // Perhaps inside a list.
        for end in (1..path.len()).rev() {
            if let Some(Seen::Value(value)) = self.leaves.get(&key_of(&path[..end])) {
                return descend(value, &path[end..]).map_or(Read::Missing, Read::Value);
            }
        }
        Read::Missing
    }

    fn node(&self, node: &Node, path: &[String]) -> Read {
        let Node::Table(table) = node else {
            return match &self.leaves[&key_of(path)] {
                Seen::Value(value) => Read::Value(value.clone()),
                _ => Read::Broken,
            };
        };
        let mut fields = BTreeMap::new();
        for (name, node) in table {
            let mut path = path.to_vec();
            path.push(name.clone());
            match self.node(node, &path) {
                Read::Value(value) => drop(fields.insert(name.as_str().into(), value)),
                other => return other,
            }
        }
        Read::Value(Value::Table(Box::new(fields)))
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
                    Err(Broken) => Seen::Broken,
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
        return Err(Broken);
    }
    stack.push(path.to_vec());
    let value = evaluate(root, raw, stack);
    stack.pop();
    value
}

fn evaluate(root: &Tree, raw: &Raw, stack: &mut Stack) -> Result<Value, Broken> {
    match raw {
        Raw::Text(parts) => match parts.as_slice() {
            [only @ Part::Ref(..)] => refer(root, only, stack),
            parts => text(root, parts, stack).map(Value::from),
        },
        Raw::List(items) => {
            let items = items.iter().map(|item| evaluate(root, item, stack));
            Ok(Value::List(items.collect::<Result<_, _>>()?))
        }
        Raw::Table(fields) => {
            let mut table = BTreeMap::new();
            for (name, raw) in fields {
                table.insert(name.as_str().into(), evaluate(root, raw, stack)?);
            }
            Ok(Value::Table(Box::new(table)))
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
                Value::List(_) | Value::Table(_) => return Err(Broken),
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
        // No name at all, such as a shell writes it: not a reference of ours.
        return as_written();
    }
    match find(root, &path) {
        Some(Node::Table(_)) => return Err(Broken),
        Some(Node::Leaf(raw)) => return resolve(root, &path, raw, stack),
        None => {}
    }
    for end in 1..path.len() {
        if let Some(Node::Leaf(raw)) = find(root, &path[..end]) {
            let value = resolve(root, &path[..end], raw, stack)?;
            if let Some(inside) = descend(&value, &path[end..]) {
                return Ok(inside);
            }
        }
    }
    match default {
        Some(default) => match default.as_slice() {
            [only @ Part::Ref(..)] => refer(root, only, stack),
            parts => text(root, parts, stack).map(Value::from),
        },
        None => as_written(),
    }
}

fn descend(value: &Value, path: &[String]) -> Option<Value> {
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
