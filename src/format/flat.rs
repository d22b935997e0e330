//! Formats of one key a line: puts the pairs into a tree.

use crate::error::Error;
use crate::format::limits::twice;
use crate::value::Value;
use crate::value::key::Key;
use crate::value::node::{Leaf, Node, Table};
use crate::value::origin::Origin;

/// Puts a text at a key that must not have been given before.
pub(crate) fn put(root: &mut Table, key: &Key, text: String, at: Origin) -> Result<(), Error> {
    let path: Vec<_> = key.segments().collect();
    let node = Node::Leaf(Leaf::new(Value::from(text), at.clone()));
    let first = match root.put_path(&path, node) {
        Ok(None) => return Ok(()),
        Ok(Some(old)) => first_line(&old.node),
        // Either a part of the path is a value, or the whole path is a table.
        Err(_) => (1..=path.len())
            .filter_map(|end| root.find(&path[..end]))
            .find(|entry| entry.node.table().is_none())
            .or_else(|| root.find(&path))
            .and_then(|entry| first_line(&entry.node)),
    };
    Err(twice(key.as_str(), first, at))
}

fn first_line(node: &Node) -> Option<u32> {
    let line = |origin: Option<&Origin>| origin?.line().map(|(line, _)| line);
    let Some(table) = node.table() else {
        return line(node.origin());
    };
    let mut first = None;
    table.walk(&mut String::new(), &mut |_, entry| {
        let here = line(entry.node.origin());
        first = match (first, here) {
            (Some(a), Some(b)) => Some(std::cmp::min(a, b)),
            (a, b) => a.or(b),
        };
    });
    first
}

/// Reads a text character by character and knows the place of the next one.
#[derive(Clone)]
pub(crate) struct Cursor<'a> {
    rest: std::str::Chars<'a>,
    line: u32,
    column: u32,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self {
            rest: text.chars(),
            line: 1,
            column: 1,
        }
    }

    /// The text from here on.
    pub(crate) fn rest(&self) -> &'a str {
        self.rest.as_str()
    }

    pub(crate) fn peek(&self) -> Option<char> {
        self.rest.clone().next()
    }

    pub(crate) fn skip_while(&mut self, skip: impl Fn(char) -> bool) {
        while self.peek().is_some_and(&skip) {
            self.step();
        }
    }

    /// The place of the next character.
    pub(crate) fn at(&self, origin: &Origin) -> Origin {
        origin.at(self.line, self.column)
    }

    /// Takes the next character.
    pub(crate) fn step(&mut self) -> Option<char> {
        let c = self.rest.next()?;
        if c == '\n' {
            self.line += 1;
            self.column = 1;
        } else {
            self.column += 1;
        }
        Some(c)
    }

    pub(crate) fn steps(&mut self, count: usize) {
        for _ in 0..count {
            self.step();
        }
    }
}
