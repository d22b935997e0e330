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
    let marked = mark_root(text);
    let mut reader = Reader::new(origin);
    match &marked {
        Some((marked, line)) => reader.read_marked(marked, *line)?,
        None => reader.read(text)?,
    }
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

/// Marks the beginning of a document that is a mapping in braces, and says on which line.
///
/// After the mark no key can begin on the line, so that the scanner does not read the whole document
/// ahead (see [`input::MAX_AHEAD`]).
fn mark_root(text: &str) -> Option<(String, u32)> {
    let mut at = 0;
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        let content = line.trim_end_matches('\n').trim_end_matches('\r');
        if content.contains('\r') {
            return None;
        }
        match line.trim_start_matches(' ').bytes().next() {
            Some(b'{' | b'[') => {
                let marked = [&text[..at], MARK, &text[at..]].concat();
                return Some((marked, number));
            }
            None | Some(b'#' | b'\n' | b'\r') => at += line.len(),
            Some(_) => return None,
        }
    }
    None
}

/// The beginning of a document, on the line of its root.
const MARK: &str = "--- ";

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
