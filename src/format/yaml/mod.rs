//! YAML 1.2, through the events of `saphyr-parser`.
//!
//! First the events become a list of nodes in which an alias is a number; then the nodes are
//! followed from the root, and what aliases add is counted.

use crate::error::Error;
use crate::format::limits::{self, malformed};
use crate::format::spans;
use crate::value::Value;
use crate::value::document::Document;
use crate::value::node::Node;
use crate::value::origin::Origin;

mod build;
mod input;
mod read;
mod scalars;
#[cfg(test)]
mod tests;

use build::Builder;
use read::Reader;

pub(crate) fn parse(text: &str, origin: &Origin) -> Result<Document, Error> {
    refuse_marks(text, origin)?;
    let mut reader = Reader::new(origin);
    reader.read(text)?;
    let Some(root) = reader.root else {
        return Ok(Document::new());
    };
    let mut builder = Builder::new(&reader.items, origin);
    match builder.node(root)? {
        Node::Table(table) => Ok(Document::from_table(table)),
        Node::Leaf(leaf) if leaf.value == Value::Unset => Ok(Document::new()),
        _ => Err(malformed("the document is not a mapping", builder.at(root))),
    }
}

/// Refuses a byte order mark at the beginning of a line, where files were joined: the parser skips it.
fn refuse_marks(text: &str, origin: &Origin) -> Result<(), Error> {
    match text.find("\n\u{feff}") {
        Some(at) => {
            let (line, column) = spans::place(text.as_bytes(), at + 1);
            Err(malformed(limits::SECOND_MARK, origin.at(line, column)))
        }
        None => Ok(()),
    }
}
