//! Names that mean the same thing to a type and come from several layers: the variants of an enum, or a
//! field and its alias. The one of the strongest layer counts. If several are tables, they are combined:
//! of each value below, the one of the strongest layer counts.

use std::collections::{BTreeMap, BTreeSet};
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

/// As many places of one value are decided.
const MAX_PLACES: usize = 64;

/// As many pairs of names are tried where no error names the rivals.
const MAX_TRIALS: usize = 8;

/// What a type reads once each group of rivals has one name.
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
struct Place<'a> {
    /// The key that is read.
    key: &'a str,
    at: &'a str,
    /// The names from the key to the table.
    path: &'a [String],
    are_spellings: bool,
}

impl Place<'_> {
    fn below(&self, name: &str) -> String {
        below(self.at, name)
    }
}

impl Generation {
    /// What stands at a key without the names that a stronger layer replaces by others; `None` if there
    /// are none. `error` is what decoding it led to.
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
        for _ in 0..MAX_PLACES {
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

    /// Keeps the one of some names that the strongest layer sets, and returns it; `None` if that layer sets
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
        let place = Place {
            key,
            at,
            path: &path,
            are_spellings: error.has_spellings(),
        };
        let names = error.rivals();
        let strongest = self.layers.iter().find_map(|layer| {
            let is_set = |name: &&str| sets(&layer.root, &place.below(name));
            let set: Vec<&str> = names.iter().map(|name| &**name).filter(is_set).collect();
            (!set.is_empty()).then_some(set)
        })?;
        let [kept] = strongest.as_slice() else {
            return self.keep_stronger::<T>(decision, place, &strongest);
        };
        for name in names.iter().filter(|name| &***name != *kept) {
            self.replace(decision, place, kept, name);
        }
        Some((*kept).to_owned())
    }

    /// Keeps the name of a stronger layer that means the same as some names of one layer, and returns it.
    fn keep_stronger<T: DeserializeOwned>(
        &self,
        decision: &mut Decision,
        place: Place<'_>,
        rivals: &[&str],
    ) -> Option<String> {
        let (first, others) = rivals.split_first()?;
        let mut trial = decision.clone();
        let mut any_is_table = false;
        edit(&mut trial.node, place.path, |mut names| {
            for name in others {
                any_is_table |= names.is_table(name);
                names.remove(name);
            }
        })?;
        let error = decode::from_node::<T>(place.key, Some(&trial.node), true).err()?;
        let mut errors = error.iter();
        let next = errors.find(|it| {
            let is_here = it.key_text().unwrap_or_default() == place.at;
            is_here && it.rivals().iter().any(|name| **name == **first)
        })?;
        let kept = self.keep_strongest::<T>(&mut trial, place.key, next)?;
        let is_table = edit(&mut trial.node, place.path, |names| names.is_table(&kept))?;
        // Of a table, the tables of the weaker layer still count, and which of them is not decided.
        if kept == *first || (any_is_table && is_table) {
            return None;
        }
        let replaced = others
            .iter()
            .map(|name| (place.below(&kept), place.below(name)));
        trial.replaced.extend(replaced);
        *decision = trial;
        Some(kept)
    }

    /// Keeps the strongest of two names of which an error tells nothing: serde has buffered the tables of both,
    /// and one of them lacks a field. To find them, both names get the same table, which then is set twice.
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
                let places = [name, &other].map(|name| below(at.as_str(), name));
                if trials >= MAX_TRIALS || self.is_one_layer(&places) {
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
    fn replace(&self, decision: &mut Decision, place: Place<'_>, kept: &str, replaced: &str) {
        let places = [place.below(kept), place.below(replaced)];
        let is_replaced = edit(&mut decision.node, place.path, |mut names| {
            let table = place.are_spellings && names.is_table(kept);
            match &mut names {
                Names::Table(all) => {
                    let other = all.remove(replaced)?;
                    let node = all.get(kept).map(|kept| kept.node.clone());
                    if let (true, Some(Node::Table(mut kept_table)), Node::Table(other)) =
                        (table, node, &other.node)
                    {
                        self.add_table(&mut kept_table, other, &places);
                        all.put(kept, Node::Table(kept_table));
                    }
                }
                Names::Fields(all) => {
                    let other = all.remove(replaced)?;
                    if let (true, Some(Value::Table(kept)), Value::Table(other)) =
                        (table, all.get_mut(kept), other)
                    {
                        self.add_fields(kept, other, &places);
                    }
                }
            }
            Some(())
        });
        if is_replaced.flatten().is_some() {
            let [kept, replaced] = places;
            decision.replaced.push((kept, replaced));
        }
    }

    /// Adds another table to one. Where both have a value, that of the stronger layer counts.
    fn add_table(&self, table: &mut Table, other: &Table, places: &[String; 2]) {
        for entry in other.map().iter() {
            let places = places.each_ref().map(|at| below(at, &entry.name));
            let own = table.get(&entry.name).map(|own| own.node.clone());
            match (own, &entry.node) {
                (Some(Node::Table(mut own)), Node::Table(other)) => {
                    self.add_table(&mut own, other, &places);
                    table.put(&entry.name, Node::Table(own));
                }
                (Some(_), _) if !self.is_second_stronger(&places) => {}
                _ => drop(table.insert(Arc::clone(entry))),
            }
        }
    }

    /// As [`add_table`](Self::add_table), in a list.
    fn add_fields(&self, table: &mut Fields, other: Fields, places: &[String; 2]) {
        let mut fields: BTreeMap<Box<str>, Value> = std::mem::take(table).into_iter().collect();
        for (name, value) in other {
            let places = places.each_ref().map(|at| below(at, &name));
            match (fields.get_mut(&name), value) {
                (Some(Value::Table(own)), Value::Table(other)) => {
                    self.add_fields(own, other, &places);
                }
                (Some(_), _) if !self.is_second_stronger(&places) => {}
                (_, value) => drop(fields.insert(name, value)),
            }
        }
        *table = fields.into();
    }

    fn is_second_stronger(&self, places: &[String; 2]) -> bool {
        let [first, second] = places.each_ref().map(|place| {
            let mut layers = self.layers.iter();
            layers.position(|layer| sets(&layer.root, place))
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
