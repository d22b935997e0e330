//! Shared by the formats whose lines are pairs of a key and a text, `.properties` and dotenv.

use crate::error::Error;
use crate::format::limits::{NodeCount, duplicate_key_error, reject_bom};
use crate::value::Value;
use crate::value::document::clash_error;
use crate::value::key::Key;
use crate::value::node::{Leaf, Node, Table};
use crate::value::origin::Origin;

/// The pairs of a document, as a tree.
#[derive(Default)]
pub(crate) struct PairTree {
    pub(crate) root: Table,
    nodes: NodeCount,
}

impl PairTree {
    /// Inserts a pair whose key is new.
    pub(crate) fn insert(&mut self, key: &Key, text: String, at: Origin) -> Result<(), Error> {
        let path: Vec<_> = key.segments().collect();
        reject_bom(key.as_str(), || at.clone())?;
        self.nodes.add_value(|| at.clone())?;
        let new_tables = path.len() - 1 - self.root.tables_on(&path);
        self.nodes.add_tables(new_tables, || at.clone())?;
        let node = Node::Leaf(Leaf::new(Value::from(text), at.clone()));
        match self.root.put_path(&path, node) {
            Ok(None) => Ok(()),
            Ok(Some(old)) => {
                let first = old.node.origin().and_then(Origin::line);
                let first_line = first.map(|(line, _)| line);
                Err(duplicate_key_error(key.as_str(), first_line, at))
            }
            Err(_) => Err(clash_error(&self.root, key, &path, &at)),
        }
    }
}

/// Reads a text by characters and tracks the position of the next one.
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

    /// Lets a carriage return without a newline end a line.
    #[cfg(feature = "properties")]
    pub(crate) fn with_lone_returns(self) -> Self {
        Self {
            lone_returns: true,
            ..self
        }
    }

    /// Returns the text that was not read yet.
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

    /// Returns `origin` at the position of the next character.
    pub(crate) fn at(&self, origin: &Origin) -> Origin {
        origin.at(self.line, self.column)
    }

    /// Returns the line of the next character.
    #[cfg(feature = "dotenv")]
    pub(crate) fn line(&self) -> u32 {
        self.line
    }

    /// Reads the next character.
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

    /// Skips a number of characters.
    pub(crate) fn steps(&mut self, count: usize) {
        for _ in 0..count {
            self.step();
        }
    }
}
