//! From nodes to the tree, aliases and merge keys followed.

use std::collections::HashSet;

use crate::error::{Error, ErrorKind};
use crate::format::limits::{Trail, malformed, too_deep};
use crate::format::spans::Spots;
use crate::format::yaml::read::{Is, Item, Name};
use crate::value::Value;
use crate::value::key::MAX_DEPTH;
use crate::value::node::{Leaf, Node, Table};
use crate::value::origin::Origin;

/// How many nodes aliases may add to a document.
const MAX_ALIAS_NODES: usize = 100_000;

/// How many bytes of names and scalars aliases may add to a document.
const MAX_ALIAS_BYTES: usize = 10 * 1024 * 1024;

/// A name of a mapping, its own or merged in, and the node it stands for.
struct Field<'r, 'a> {
    name: &'r Name<'a>,
    item: usize,
    merged: bool,
}

pub(super) struct Builder<'r, 'a> {
    items: &'r [Item<'a>],
    origin: &'r Origin,
    trail: Trail,
    /// The places of the list at hand and of what it holds.
    spots: Spots,
    /// How many aliases were followed on the way to here.
    aliases: usize,
    /// What aliases have added so far.
    nodes: usize,
    bytes: usize,
}

impl<'r, 'a> Builder<'r, 'a> {
    pub(super) fn new(items: &'r [Item<'a>], origin: &'r Origin) -> Self {
        Self {
            items,
            origin,
            trail: Trail::hiding_long_names(),
            spots: Spots::default(),
            aliases: 0,
            nodes: 0,
            bytes: 0,
        }
    }

    pub(super) fn at(&self, item: usize) -> Origin {
        let item = &self.items[item];
        self.origin.at(item.line, item.column)
    }

    /// Follows an alias, if this is one; says whether it was.
    fn follow(&self, item: usize) -> (usize, bool) {
        match self.items[item].is {
            // What an alias names is never an alias itself: those have no anchors.
            Is::Alias(named) => (named, true),
            _ => (item, false),
        }
    }

    fn count(&mut self, item: usize, bytes: usize) -> Result<(), Error> {
        if self.aliases > 0 {
            self.nodes += 1;
            self.bytes += bytes;
            if self.nodes > MAX_ALIAS_NODES || self.bytes > MAX_ALIAS_BYTES {
                let detail = format!(
                    "aliases add more than {MAX_ALIAS_NODES} nodes or {MAX_ALIAS_BYTES} bytes"
                );
                return Err(Error::new(ErrorKind::TooLarge, detail).with_origin(self.at(item)));
            }
        }
        Ok(())
    }

    fn open(&mut self, item: usize) -> Result<(), Error> {
        let (place, origin) = (&self.items[item], self.origin);
        self.trail.open(|| origin.at(place.line, place.column))
    }

    fn enter(&mut self, name: &Name<'_>) -> Result<usize, Error> {
        let origin = self.origin;
        self.trail
            .enter(&name.text, || origin.at(name.line, name.column))
    }

    pub(super) fn node(&mut self, item: usize) -> Result<Node, Error> {
        let (item, alias) = self.follow(item);
        self.aliases += usize::from(alias);
        let node = if let Is::Map(_) = self.items[item].is {
            self.count(item, 0)?;
            self.open(item)?;
            let mut table = Table::default();
            for Field { name, item, merged } in self.fields(item)? {
                let before = self.enter(name)?;
                self.aliases += usize::from(merged);
                let node = self.node(item)?;
                self.aliases -= usize::from(merged);
                table.put(&name.text, node);
                self.trail.leave(before);
            }
            self.trail.close();
            Node::Table(table)
        } else {
            let value = self.value(item)?;
            let origin = match value {
                Value::List(_) => self.origin.with_items(self.spots.take()),
                _ => self.at(item),
            };
            self.spots.take();
            Node::Leaf(Leaf::new(value, origin))
        };
        self.aliases -= usize::from(alias);
        Ok(node)
    }

    fn value(&mut self, item: usize) -> Result<Value, Error> {
        self.spots
            .push((self.items[item].line, self.items[item].column));
        let (item, alias) = self.follow(item);
        self.aliases += usize::from(alias);
        let items = self.items;
        let value = match &items[item].is {
            Is::Scalar(value) => {
                let bytes = match value {
                    Value::Text(text) => text.len(),
                    _ => 0,
                };
                self.count(item, bytes)?;
                value.clone()
            }
            Is::List(list) => {
                self.count(item, 0)?;
                self.open(item)?;
                let values = list.iter().map(|item| self.value(*item));
                let values = values.collect::<Result<_, _>>()?;
                self.trail.close();
                Value::List(values)
            }
            _ => {
                self.count(item, 0)?;
                self.open(item)?;
                let mut table = Vec::new();
                let mut starts = Vec::new();
                for Field { name, item, merged } in self.fields(item)? {
                    starts.push((Box::from(&*name.text), self.spots.len()));
                    let before = self.enter(name)?;
                    self.aliases += usize::from(merged);
                    let value = self.value(item)?;
                    self.aliases -= usize::from(merged);
                    table.push((&*name.text, value));
                    self.trail.leave(before);
                }
                self.spots.sort_fields(starts);
                self.trail.close();
                Value::Table(table.into_iter().collect())
            }
        };
        self.aliases -= usize::from(alias);
        Ok(value)
    }

    /// The names of a mapping and their values, with what it merges in.
    fn fields(&mut self, item: usize) -> Result<Vec<Field<'r, 'a>>, Error> {
        let Is::Map(fields) = &self.items[item].is else {
            return Ok(Vec::new());
        };
        let mut all = Vec::with_capacity(fields.len());
        if fields.iter().any(|(name, _)| name.merges) {
            self.merge(item, &mut all, &mut HashSet::new(), 0)?;
            return Ok(all);
        }
        for (name, value) in fields {
            self.count(*value, name.text.len())?;
            all.push(Field {
                name,
                item: *value,
                merged: false,
            });
        }
        Ok(all)
    }

    /// Adds the names of a mapping that are not there yet, its own before those it merges in.
    fn merge(
        &mut self,
        item: usize,
        all: &mut Vec<Field<'r, 'a>>,
        seen: &mut HashSet<&'r str>,
        chain: usize,
    ) -> Result<(), Error> {
        if chain > MAX_DEPTH {
            return Err(too_deep(self.at(item)));
        }
        let (item, alias) = self.follow(item);
        self.aliases += usize::from(alias);
        self.count(item, 0)?;
        let items = self.items;
        match &items[item].is {
            Is::Map(fields) => {
                for (name, value) in fields.iter().filter(|(name, _)| !name.merges) {
                    self.count(*value, name.text.len())?;
                    if seen.insert(&name.text) {
                        all.push(Field {
                            name,
                            item: *value,
                            merged: chain > 0,
                        });
                    }
                }
                for (_, value) in fields.iter().filter(|(name, _)| name.merges) {
                    self.merge(*value, all, seen, chain + 1)?;
                }
            }
            Is::List(list) if chain > 0 => {
                for value in list {
                    self.merge(*value, all, seen, chain + 1)?;
                }
            }
            _ => {
                let detail = "`<<` merges a mapping or a sequence of mappings, nothing else";
                return Err(malformed(detail, self.at(item)));
            }
        }
        self.aliases -= usize::from(alias);
        Ok(())
    }
}
