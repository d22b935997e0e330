//! Decides between *rivals*: names of several layers that mean the same to a type, such as the variants of an enum, or
//! a field and its alias.
//!
//! The name in the strongest layer counts. The tables of a field and its alias are combined: of each value below them,
//! the one in the strongest layer counts.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::decode::{self, SecretKeys};
use crate::error::{Error, ErrorKind};
use crate::tree::snapshot::{Found, Generation};
use crate::value::Value;
use crate::value::hamt::Entry;
use crate::value::key::{self, Key, push_segment, under};
use crate::value::node::{Node, Table};
use crate::value::table::Table as Fields;

/// Limits the groups of rivals that are decided in one value.
const MAX_GROUPS: usize = 64;

/// Limits the pairs of names that are tried where no error names the rivals.
const MAX_TRIALS: usize = 8;

/// The value that a type reads once each group of rivals has one name.
pub(crate) struct Decided {
    pub(crate) entry: Arc<Entry>,
    /// The keys that count, each with one that it replaces.
    replaced: Vec<(String, String)>,
}

impl Decided {
    /// Adds the keys that the secrets have under their replaced names.
    pub(crate) fn add_replaced(&self, secrets: &mut SecretKeys) {
        for keys in [&mut secrets.certain, &mut secrets.possible] {
            // A replaced name may lie below another one.
            for (kept, replaced) in self.replaced.iter().rev() {
                let below = keys.iter().filter(|key| under(key, kept));
                let other = below.map(|key| format!("{replaced}{}", &key[kept.len()..]));
                let other: Vec<String> = other.collect();
                keys.extend(other);
            }
        }
    }
}

/// A value, and the names that are replaced in it so far.
#[derive(Clone)]
struct Decision {
    node: Node,
    replaced: Vec<(String, String)>,
}

/// The table that a group of rivals is in.
#[derive(Clone, Copy)]
struct RivalTable<'a> {
    /// The key that is read.
    read_key: &'a str,
    /// The key of the table.
    key: &'a str,
    /// The names from the read key to the table.
    path: &'a [String],
    /// Whether the rivals are spellings of one field.
    are_spellings: bool,
}

impl RivalTable<'_> {
    fn below(&self, name: &str) -> String {
        below(self.key, name)
    }
}

impl Generation {
    /// The value at a key without the names that a stronger layer replaces by others; `None` if there are no such
    /// names. `error` is that of decoding the value.
    pub(crate) fn without_rivals<T: DeserializeOwned>(
        &self,
        key: &str,
        found: Found<'_>,
        error: Error,
    ) -> Option<Decided> {
        let node = match found {
            Found::Root(table) => Node::Table(table.clone()),
            Found::Entry(entry) => entry.node.clone(),
            Found::Nothing | Found::Inside(..) | Found::Broken(_) => return None,
        };
        let mut decision = Decision {
            node,
            replaced: Vec::new(),
        };
        let mut error = error;
        for _ in 0..MAX_GROUPS {
            let before = decision.replaced.len();
            for rivals in error.iter().filter(|it| !it.rivals().is_empty()) {
                self.keep_strongest::<T>(&mut decision, key, rivals);
            }
            if decision.replaced.len() == before {
                self.keep_strongest_hidden::<T>(&mut decision, key, &error);
            }
            if decision.replaced.len() == before {
                break;
            }
            match decode::from_node::<T>(key, Some(&decision.node), true) {
                Ok(_) => break,
                Err(next) => error = next,
            }
        }
        let Decision { node, replaced } = decision;
        let name = "".into();
        let entry = Arc::new(Entry { name, node });
        (!replaced.is_empty()).then_some(Decided { entry, replaced })
    }

    /// Of some names, keeps the one that the strongest layer sets, and returns it; `None` if that layer sets
    /// several.
    fn keep_strongest<T: DeserializeOwned>(
        &self,
        decision: &mut Decision,
        key: &str,
        error: &Error,
    ) -> Option<String> {
        let at = error.key_text().unwrap_or_default();
        let depth = Key::parse(key).ok()?.segments().count();
        let path = path_from(at, depth)?;
        let table = RivalTable {
            read_key: key,
            key: at,
            path: &path,
            are_spellings: error.has_spellings(),
        };
        let names = error.rivals();
        let strongest = self.layers.iter().find_map(|layer| {
            let is_set = |name: &&str| sets(&layer.root, &table.below(name));
            let set: Vec<&str> = names.iter().map(|name| &**name).filter(is_set).collect();
            (!set.is_empty()).then_some(set)
        })?;
        let [kept] = strongest.as_slice() else {
            return self.keep_stronger::<T>(decision, table, &strongest);
        };
        for name in names.iter().filter(|name| &***name != *kept) {
            self.replace(decision, table, kept, name);
        }
        Some((*kept).to_owned())
    }

    /// Keeps the name of a stronger layer that means the same as some names of one layer, and returns it.
    fn keep_stronger<T: DeserializeOwned>(
        &self,
        decision: &mut Decision,
        table: RivalTable<'_>,
        rivals: &[&str],
    ) -> Option<String> {
        let (first, others) = rivals.split_first()?;
        let mut trial = decision.clone();
        let mut any_is_table = false;
        edit(&mut trial.node, table.path, |mut names| {
            for name in others {
                any_is_table |= names.is_table(name);
                names.remove(name);
            }
        })?;
        let error = decode::from_node::<T>(table.read_key, Some(&trial.node), true).err()?;
        let mut errors = error.iter();
        let next = errors.find(|it| {
            let is_here = it.key_text().unwrap_or_default() == table.key;
            is_here && it.rivals().iter().any(|name| **name == **first)
        })?;
        let kept = self.keep_strongest::<T>(&mut trial, table.read_key, next)?;
        let is_table = edit(&mut trial.node, table.path, |names| names.is_table(&kept))?;
        // Tables are combined, and it is not decided with which table of the weaker layer.
        if kept == *first || (any_is_table && is_table) {
            return None;
        }
        let replaced = others
            .iter()
            .map(|name| (table.below(&kept), table.below(name)));
        trial.replaced.extend(replaced);
        *decision = trial;
        Some(kept)
    }

    /// Keeps the strongest of two names that no error names: serde has buffered the tables of both, and one of them
    /// lacks a field. To find the names, a trial gives both the same table. The error then names them.
    fn keep_strongest_hidden<T: DeserializeOwned>(
        &self,
        decision: &mut Decision,
        key: &str,
        error: &Error,
    ) -> Option<String> {
        let depth = Key::parse(key).ok()?.segments().count();
        let missing = error.iter().filter(|it| it.kind() == ErrorKind::NotFound);
        let missing = missing.filter_map(|it| path_from(it.key_text()?, 0));
        let tables: BTreeSet<Vec<String>> = missing
            .flat_map(|path| (depth + 1..path.len()).map(move |end| path[..end].to_vec()))
            .collect();
        let mut trials = 0;
        for table in tables {
            let (name, around) = table.split_last()?;
            let at = Key::from_segments(around).ok()?;
            let path = &around[depth..];
            let others = edit(&mut decision.node, path, |names| names.other_tables(name));
            for other in others.unwrap_or_default() {
                let keys = [name, &other].map(|name| below(at.as_str(), name));
                if trials >= MAX_TRIALS || self.is_one_layer(&keys) {
                    continue;
                }
                trials += 1;
                let mut trial = decision.node.clone();
                edit(&mut trial, path, |mut names| names.copy(&other, name))?;
                let Err(error) = decode::from_node::<T>(key, Some(&trial), true) else {
                    continue;
                };
                let is_of_both = |it: &&Error| {
                    let has = |name: &str| it.rivals().iter().any(|rival| **rival == *name);
                    it.has_spellings() && has(name) && has(&other)
                };
                let found = error.iter().find(is_of_both);
                if let Some(rivals) =
                    found.filter(|it| it.key_text().unwrap_or_default() == at.as_str())
                {
                    return self.keep_strongest::<T>(decision, key, rivals);
                }
            }
        }
        None
    }

    /// Whether one layer sets both of two keys.
    fn is_one_layer(&self, keys: &[String; 2]) -> bool {
        let mut layers = self.layers.iter();
        layers.any(|layer| keys.iter().all(|key| sets(&layer.root, key)))
    }

    /// Replaces a name by another one.
    fn replace(&self, decision: &mut Decision, table: RivalTable<'_>, kept: &str, replaced: &str) {
        let keys = [table.below(kept), table.below(replaced)];
        let is_replaced = edit(&mut decision.node, table.path, |mut names| {
            let merges = table.are_spellings && names.is_table(kept);
            match &mut names {
                Names::Table(all) => {
                    let other = all.remove(replaced)?;
                    let node = all.get(kept).map(|kept| kept.node.clone());
                    if let (true, Some(Node::Table(mut kept_table)), Node::Table(other)) =
                        (merges, node, &other.node)
                    {
                        self.add_table(&mut kept_table, other, &keys);
                        all.put(kept, Node::Table(kept_table));
                    }
                }
                Names::Fields(all) => {
                    let other = all.remove(replaced)?;
                    if let (true, Some(Value::Table(kept)), Value::Table(other)) =
                        (merges, all.get_mut(kept), other)
                    {
                        self.add_fields(kept, other, &keys);
                    }
                }
            }
            Some(())
        });
        if is_replaced.flatten().is_some() {
            let [kept, replaced] = keys;
            decision.replaced.push((kept, replaced));
        }
    }

    /// Adds another table to one. Where both have a value, that of the stronger layer counts.
    fn add_table(&self, table: &mut Table, other: &Table, keys: &[String; 2]) {
        for entry in other.map().iter() {
            let keys = keys.each_ref().map(|at| below(at, &entry.name));
            let own = table.get(&entry.name).map(|own| own.node.clone());
            match (own, &entry.node) {
                (Some(Node::Table(mut own)), Node::Table(other)) => {
                    self.add_table(&mut own, other, &keys);
                    table.put(&entry.name, Node::Table(own));
                }
                (Some(_), _) if !self.is_second_stronger(&keys) => {}
                _ => drop(table.insert(Arc::clone(entry))),
            }
        }
    }

    /// As [`add_table`](Self::add_table), in a list.
    fn add_fields(&self, table: &mut Fields, other: Fields, keys: &[String; 2]) {
        let mut new = Vec::new();
        for (name, value) in other {
            let keys = keys.each_ref().map(|at| below(at, &name));
            match (table.get_mut(&name), value) {
                (Some(Value::Table(own)), Value::Table(other)) => {
                    self.add_fields(own, other, &keys);
                }
                (Some(_), _) if !self.is_second_stronger(&keys) => {}
                (_, value) => new.push((name, value)),
            }
        }
        let mut fields: Vec<_> = std::mem::take(table).into_iter().collect();
        fields.append(&mut new);
        *table = Fields::from_fields(fields);
    }

    fn is_second_stronger(&self, keys: &[String; 2]) -> bool {
        let [first, second] = keys.each_ref().map(|key| {
            let mut layers = self.layers.iter();
            layers.position(|layer| sets(&layer.root, key))
        });
        second.is_some_and(|second| first.is_none_or(|first| second < first))
    }
}

/// Whether a layer has a value or a table at a key.
fn sets(root: &Table, key: &str) -> bool {
    Found::in_tree(root, key).is_ok_and(|found| !found.is_nothing() && !found.is_unset())
}

/// The segments of a key from one of them on.
fn path_from(key: &str, depth: usize) -> Option<Vec<String>> {
    let path = key::segments(key).skip(depth);
    path.map(|name| Some(name.ok()?.into_owned())).collect()
}

fn below(at: &str, name: &str) -> String {
    let mut key = at.to_owned();
    push_segment(&mut key, name);
    key
}

/// The names of a table, in the tree or in a list.
enum Names<'a> {
    Table(&'a mut Table),
    Fields(&'a mut Fields),
}

impl Names<'_> {
    fn is_table(&self, name: &str) -> bool {
        match self {
            Names::Table(table) => {
                let entry = table.get(name);
                entry.is_some_and(|entry| entry.node.table().is_some())
            }
            Names::Fields(fields) => matches!(fields.get(name), Some(Value::Table(_))),
        }
    }

    /// The names of the tables but for one.
    fn other_tables(&self, name: &str) -> Vec<String> {
        let names: Vec<&str> = match self {
            Names::Table(table) => table.map().iter().map(|entry| &*entry.name).collect(),
            Names::Fields(fields) => fields.keys().collect(),
        };
        let others = names.into_iter().filter(|other| *other != name);
        let tables = others.filter(|other| self.is_table(other));
        tables.map(str::to_owned).collect()
    }

    /// Gives a name the value of another one.
    fn copy(&mut self, from: &str, to: &str) {
        match self {
            Names::Table(table) => {
                if let Some(entry) = table.get(from).cloned() {
                    table.put(to, entry.node.clone());
                }
            }
            Names::Fields(fields) => {
                if let (Some(value), Some(to)) = (fields.get(from).cloned(), fields.get_mut(to)) {
                    *to = value;
                }
            }
        }
    }

    fn remove(&mut self, name: &str) {
        match self {
            Names::Table(table) => drop(table.remove(name)),
            Names::Fields(fields) => drop(fields.remove(name)),
        }
    }
}

/// Edits the table at a path, which may lead into a list.
fn edit<R>(node: &mut Node, path: &[String], change: impl FnOnce(Names<'_>) -> R) -> Option<R> {
    match node {
        Node::Table(table) => {
            let Some((name, rest)) = path.split_first() else {
                return Some(change(Names::Table(table)));
            };
            let mut below = table.get(name)?.node.clone();
            let result = edit(&mut below, rest, change)?;
            table.put(name, below);
            Some(result)
        }
        Node::Leaf(leaf) => edit_inside(&mut leaf.value, path, change),
        Node::Resolved(resolved) => edit_inside(resolved.value.as_mut().ok()?, path, change),
    }
}

fn edit_inside<R>(
    value: &mut Value,
    path: &[String],
    change: impl FnOnce(Names<'_>) -> R,
) -> Option<R> {
    let Some((name, rest)) = path.split_first() else {
        return match value {
            Value::Table(fields) => Some(change(Names::Fields(fields))),
            _ => None,
        };
    };
    let below = match value {
        Value::List(items) => items.get_mut(name.parse::<usize>().ok()?)?,
        Value::Table(fields) => fields.get_mut(name)?,
        _ => return None,
    };
    edit_inside(below, rest, change)
}
