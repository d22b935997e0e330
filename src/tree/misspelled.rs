//! The keys that a type does not know and that may be misspellings of its secret fields.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::decode::Way;
use crate::schema::Lookalikes;
use crate::tree::diff;
use crate::tree::snapshot::Found;
use crate::value::Value;
use crate::value::hamt::Entry;
use crate::value::key::{self, Key};
use crate::value::node::{Node, Table};

/// The keys below a key that a type does not know and that are like one of its secret fields, given the
/// ways to these and the names of all fields on the ways.
pub(super) fn misspelled(
    key: &str,
    found: Found<'_>,
    ways: &BTreeSet<Way>,
    fields: &BTreeMap<Way, &'static [&'static str]>,
) -> Vec<String> {
    let mut look = Look {
        ways,
        fields,
        declared: BTreeSet::new(),
        secret: BTreeSet::new(),
        unknown: Vec::new(),
    };
    let here = match found {
        Found::Root(table) => Here::Table(table),
        Found::Entry(entry) => Here::of_node(&entry.node),
        Found::Inside(value, _) => Here::Value(value),
        Found::Nothing | Found::Broken(_) => return Vec::new(),
    };
    look.at(here, key, &Way::new());
    if look.unknown.is_empty() {
        return Vec::new();
    }
    let Some(lookalikes) = Lookalikes::of(look.declared, look.secret) else {
        return Vec::new();
    };
    look.unknown.retain(|key| lookalikes.has(key));
    look.unknown
}

/// What stands at a place.
#[derive(Clone, Copy)]
enum Here<'a> {
    Nothing,
    Table(&'a Table),
    Value(&'a Value),
}

impl<'a> Here<'a> {
    fn of_node(node: &'a Node) -> Self {
        match node.table() {
            Some(table) => Here::Table(table),
            None => diff::value(node).map_or(Here::Nothing, Here::Value),
        }
    }

    fn children(self) -> Vec<(String, Here<'a>)> {
        match self {
            Here::Table(table) => {
                let entries = table.map().iter();
                let child =
                    |entry: &'a Arc<Entry>| (entry.name.to_string(), Here::of_node(&entry.node));
                entries.map(child).collect()
            }
            Here::Value(Value::Table(fields)) => {
                let fields = fields.iter();
                fields
                    .map(|(name, value)| (name.to_string(), Here::Value(value)))
                    .collect()
            }
            Here::Value(Value::List(items)) => {
                let items = items.iter().enumerate();
                items
                    .map(|(at, value)| (at.to_string(), Here::Value(value)))
                    .collect()
            }
            Here::Nothing | Here::Value(_) => Vec::new(),
        }
    }
}

struct Look<'a> {
    ways: &'a BTreeSet<Way>,
    fields: &'a BTreeMap<Way, &'static [&'static str]>,
    declared: BTreeSet<Key>,
    secret: BTreeSet<Key>,
    unknown: Vec<String>,
}

impl Look<'_> {
    fn at(&mut self, here: Here<'_>, key: &str, way: &Way) {
        let ways = self.ways;
        // A field that is there several times is one.
        let next: BTreeSet<Option<&'static str>> = ways
            .iter()
            .filter(|long| long.starts_with(way))
            .filter_map(|long| long.get(way.len()).copied())
            .collect();
        let children = here.children();
        let below = |name: &str| {
            let mut path = key.to_owned();
            key::push_segment(&mut path, name);
            path
        };
        if let Some(fields) = self.fields.get(way) {
            for name in fields.iter().filter(|name| !next.contains(&Some(**name))) {
                self.declared.extend(Key::parse(&below(name)).ok());
            }
            for (name, child) in &children {
                if !fields.contains(&&**name) {
                    self.leaves(*child, below(name));
                }
            }
        }
        for name in next {
            let mut longer = way.clone();
            longer.push(name);
            let is_secret = ways.contains(&longer);
            match name {
                Some(name) => {
                    if is_secret {
                        let key = Key::parse(&below(name)).ok();
                        self.declared.extend(key.clone());
                        self.secret.extend(key);
                    }
                    let child = children.iter().find(|(child, _)| child == name);
                    let child = child.map_or(Here::Nothing, |(_, child)| *child);
                    self.at(child, &below(name), &longer);
                }
                None => {
                    for (name, child) in &children {
                        self.at(*child, &below(name), &longer);
                    }
                }
            }
        }
    }

    fn leaves(&mut self, here: Here<'_>, key: String) {
        let children = here.children();
        if children.is_empty() || matches!(here, Here::Value(Value::List(_))) {
            self.unknown.push(key);
            return;
        }
        for (name, child) in children {
            let mut path = key.clone();
            key::push_segment(&mut path, &name);
            self.leaves(child, path);
        }
    }
}
