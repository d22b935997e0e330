//! Formats of one key a line: puts the pairs into a tree.

use crate::error::Error;
use crate::format::limits::{Nodes, refuse_mark, twice};
use crate::value::Value;
use crate::value::document::clash;
use crate::value::key::Key;
use crate::value::node::{Leaf, Node, Table};
use crate::value::origin::Origin;

/// What a text said so far.
#[derive(Default)]
pub(crate) struct Tree {
    pub(crate) root: Table,
    nodes: Nodes,
}

/// Puts a text at a key that must not have been given before.
pub(crate) fn put(tree: &mut Tree, key: &Key, text: String, at: Origin) -> Result<(), Error> {
    let path: Vec<_> = key.segments().collect();
    refuse_mark(key.as_str(), || at.clone())?;
    tree.nodes.add_value(|| at.clone())?;
    let missing = path.len() - 1 - tree.root.tables_on(&path);
    tree.nodes.add_tables(missing, || at.clone())?;
    let root = &mut tree.root;
    let node = Node::Leaf(Leaf::new(Value::from(text), at.clone()));
    match root.put_path(&path, node) {
        Ok(None) => Ok(()),
        Ok(Some(old)) => {
            let first = old.node.origin().and_then(Origin::line);
            Err(twice(key.as_str(), first.map(|(line, _)| line), at))
        }
        Err(_) => Err(clash(root, key, &path, &at)),
    }
}

/// Reads a text character by character and knows the place of the next one.
#[derive(Clone)]
pub(crate) struct Cursor<'a> {
    rest: std::str::Chars<'a>,
    line: u32,
    column: u32,
    /// Whether a carriage return without a newline ends a line.
    lone_returns: bool,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self {
            rest: text.chars(),
            line: 1,
            column: 1,
            lone_returns: false,
        }
    }

    /// The same where a carriage return without a newline ends a line.
    #[cfg(feature = "properties")]
    pub(crate) fn with_lone_returns(self) -> Self {
        Self {
            lone_returns: true,
            ..self
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

    /// The line of the next character.
    #[cfg(feature = "dotenv")]
    pub(crate) fn line(&self) -> u32 {
        self.line
    }

    /// Takes the next character.
    pub(crate) fn step(&mut self) -> Option<char> {
        let c = self.rest.next()?;
        if c == '\n' || (c == '\r' && self.lone_returns && self.peek() != Some('\n')) {
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
