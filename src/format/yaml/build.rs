//! Builds the tree from the nodes, and resolves aliases and merge keys.

use std::collections::HashSet;

use crate::error::{Error, ErrorKind};
use crate::format::limits::{PathTracker, malformed_error, too_deep_error};
use crate::format::positions::ItemPositions;
use crate::format::yaml::read::{Name, RawKind, RawNode};
use crate::value::Value;
use crate::value::key::MAX_DEPTH;
use crate::value::node::{Leaf, Node, Table};
use crate::value::origin::Origin;

/// The maximum number of nodes that aliases add to a document.
const MAX_ALIAS_NODES: usize = 100_000;

/// The maximum size of the names and scalars that aliases add to a document, in bytes.
const MAX_ALIAS_BYTES: usize = 10 * 1024 * 1024;

/// A field of a mapping.
struct Field<'r, 'a> {
    name: &'r Name<'a>,
    node: usize,
    is_merged: bool,
}

pub(super) struct Builder<'r, 'a> {
    nodes: &'r [RawNode<'a>],
    origin: &'r Origin,
    path: PathTracker,
    /// The positions of the outermost list and of the values in it.
    items: ItemPositions,
    /// The number of aliases and merge keys around the current node.
    alias_depth: usize,
    /// The number of nodes that aliases have added.
    alias_nodes: usize,
    alias_bytes: usize,
}

impl<'r, 'a> Builder<'r, 'a> {
    pub(super) fn new(nodes: &'r [RawNode<'a>], origin: &'r Origin) -> Self {
        Self {
            nodes,
            origin,
            path: PathTracker::hiding_long_names(),
            items: ItemPositions::default(),
            alias_depth: 0,
            alias_nodes: 0,
            alias_bytes: 0,
        }
    }

    pub(super) fn origin_of(&self, node: usize) -> Origin {
        let (line, column) = self.nodes[node].position;
        self.origin.at(line, column)
    }

    /// Returns the node that an alias refers to, or the node itself, and whether it was an alias.
    fn resolve_alias(&self, node: usize) -> (usize, bool) {
        match self.nodes[node].kind {
            // An alias has no anchor, so the target is no alias.
            RawKind::Alias(target) => (target, true),
            _ => (node, false),
        }
    }

    /// Counts a node if an alias adds it.
    fn count(&mut self, node: usize, bytes: usize) -> Result<(), Error> {
        if self.alias_depth > 0 {
            self.alias_nodes += 1;
            self.alias_bytes += bytes;
            if self.alias_nodes > MAX_ALIAS_NODES || self.alias_bytes > MAX_ALIAS_BYTES {
                let detail = format!(
                    "aliases add more than {MAX_ALIAS_NODES} nodes or {MAX_ALIAS_BYTES} bytes"
                );
                let at = self.origin_of(node);
                return Err(Error::new(ErrorKind::TooLarge, detail).with_origin(at));
            }
        }
        Ok(())
    }

    fn open(&mut self, node: usize) -> Result<(), Error> {
        let ((line, column), origin) = (self.nodes[node].position, self.origin);
        self.path.open(|| origin.at(line, column))
    }

    fn enter(&mut self, name: &Name<'_>) -> Result<usize, Error> {
        let ((line, column), origin) = (name.position, self.origin);
        self.path.enter(&name.text, || origin.at(line, column))
    }

    pub(super) fn node(&mut self, node: usize) -> Result<Node, Error> {
        let (node, is_alias) = self.resolve_alias(node);
        self.alias_depth += usize::from(is_alias);
        let node = if let RawKind::Map(_) = self.nodes[node].kind {
            self.count(node, 0)?;
            self.open(node)?;
            let mut table = Table::default();
            for Field {
                name,
                node,
                is_merged,
            } in self.fields(node)?
            {
                let before = self.enter(name)?;
                self.alias_depth += usize::from(is_merged);
                let node = self.node(node)?;
                self.alias_depth -= usize::from(is_merged);
                table.put(&name.text, node);
                self.path.leave(before);
            }
            self.path.close();
            Node::Table(table)
        } else {
            let value = self.value(node)?;
            let positions = self.items.take();
            let origin = match value {
                Value::List(_) => self.origin.with_items(positions),
                _ => self.origin_of(node),
            };
            Node::Leaf(Leaf::new(value, origin))
        };
        self.alias_depth -= usize::from(is_alias);
        Ok(node)
    }

    fn value(&mut self, node: usize) -> Result<Value, Error> {
        self.items.push(self.nodes[node].position);
        let (node, is_alias) = self.resolve_alias(node);
        self.alias_depth += usize::from(is_alias);
        let nodes = self.nodes;
        let value = match &nodes[node].kind {
            RawKind::Scalar(value) => {
                let bytes = match value {
                    Value::Text(text) => text.len(),
                    _ => 0,
                };
                self.count(node, bytes)?;
                value.clone()
            }
            RawKind::List(list) => {
                self.count(node, 0)?;
                self.open(node)?;
                let values = list.iter().map(|item| self.value(*item));
                let values = values.collect::<Result<_, _>>()?;
                self.path.close();
                Value::List(values)
            }
            _ => {
                self.count(node, 0)?;
                self.open(node)?;
                let mut table = Vec::new();
                let mut starts = Vec::new();
                for Field {
                    name,
                    node,
                    is_merged,
                } in self.fields(node)?
                {
                    starts.push((Box::from(&*name.text), self.items.len()));
                    let before = self.enter(name)?;
                    self.alias_depth += usize::from(is_merged);
                    let value = self.value(node)?;
                    self.alias_depth -= usize::from(is_merged);
                    table.push((&*name.text, value));
                    self.path.leave(before);
                }
                self.items.sort_fields(starts);
                self.path.close();
                Value::Table(table.into_iter().collect())
            }
        };
        self.alias_depth -= usize::from(is_alias);
        Ok(value)
    }

    /// Returns the fields of a mapping, including the merged ones.
    fn fields(&mut self, node: usize) -> Result<Vec<Field<'r, 'a>>, Error> {
        let RawKind::Map(fields) = &self.nodes[node].kind else {
            return Ok(Vec::new());
        };
        let mut all = Vec::with_capacity(fields.len());
        if fields.iter().any(|(name, _)| name.is_merge_key) {
            self.merge(node, &mut all, &mut HashSet::new(), 0)?;
            return Ok(all);
        }
        for (name, value) in fields {
            self.count(*value, name.text.len())?;
            all.push(Field {
                name,
                node: *value,
                is_merged: false,
            });
        }
        Ok(all)
    }

    /// Adds the fields of a mapping whose names are new: first its own, then those that it merges.
    ///
    /// `depth` is the number of merge keys around the mapping.
    fn merge(
        &mut self,
        node: usize,
        all: &mut Vec<Field<'r, 'a>>,
        seen: &mut HashSet<&'r str>,
        depth: usize,
    ) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(too_deep_error(self.origin_of(node)));
        }
        let (node, is_alias) = self.resolve_alias(node);
        self.alias_depth += usize::from(is_alias);
        self.count(node, 0)?;
        let nodes = self.nodes;
        match &nodes[node].kind {
            RawKind::Map(fields) => {
                for (name, value) in fields.iter().filter(|(name, _)| !name.is_merge_key) {
                    self.count(*value, name.text.len())?;
                    if seen.insert(&name.text) {
                        all.push(Field {
                            name,
                            node: *value,
                            is_merged: depth > 0,
                        });
                    }
                }
                for (_, value) in fields.iter().filter(|(name, _)| name.is_merge_key) {
                    self.merge(*value, all, seen, depth + 1)?;
                }
            }
            RawKind::List(list) if depth > 0 => {
                for value in list {
                    self.merge(*value, all, seen, depth + 1)?;
                }
            }
            _ => {
                let detail = "`<<` merges a mapping or a sequence of mappings, nothing else";
                return Err(malformed_error(detail, self.origin_of(node)));
            }
        }
        self.alias_depth -= usize::from(is_alias);
        Ok(())
    }
}
