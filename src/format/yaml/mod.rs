//! Parses YAML 1.2 with the events of `saphyr-parser`.
//!
//! [`Reader`] turns the events into a list of nodes, in which an alias is an index. [`Builder`] turns the
//! nodes into a tree, and limits the nodes that aliases add.

use crate::error::Error;
use crate::format::limits::{self, malformed_error};
use crate::format::positions;
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
    reject_inner_bom(text, origin)?;
    let flow_document = insert_document_start(text);
    let mut reader = Reader::new(origin);
    match &flow_document {
        Some((text, line)) => reader.read_with_document_start(text, *line)?,
        None => reader.read(text)?,
    }
    let Some(root) = reader.root else {
        return Ok(Document::new());
    };
    let mut builder = Builder::new(&reader.nodes, origin);
    match builder.node(root)? {
        Node::Table(table) => Ok(Document::from_table(table)),
        Node::Leaf(leaf) if leaf.value == Value::Unset => Ok(Document::new()),
        _ => {
            let at = builder.origin_of(root);
            Err(malformed_error("the document is not a mapping", at))
        }
    }
}

/// Inserts [`DOCUMENT_START`] before a document in braces. Returns the text and the line of the marker.
///
/// No key can begin behind the marker on its line. So the scanner does not buffer the document to find out
/// whether it is a key, see [`input::MAX_LOOKAHEAD`].
fn insert_document_start(text: &str) -> Option<(String, u32)> {
    let mut at = 0;
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        let content = line.trim_end_matches('\n').trim_end_matches('\r');
        if content.contains('\r') {
            return None;
        }
        match line.trim_start_matches(' ').bytes().next() {
            Some(b'{' | b'[') => {
                let text = [&text[..at], DOCUMENT_START, &text[at..]].concat();
                return Some((text, number));
            }
            None | Some(b'#' | b'\n' | b'\r') => at += line.len(),
            Some(_) => return None,
        }
    }
    None
}

/// The marker at the start of a document.
const DOCUMENT_START: &str = "--- ";

/// Rejects a byte order mark at the start of a line, where files were joined. The parser would skip it.
fn reject_inner_bom(text: &str, origin: &Origin) -> Result<(), Error> {
    match text.find("\n\u{feff}") {
        Some(at) => {
            let (line, column) = positions::position(text.as_bytes(), at + 1);
            let at = origin.at(line, column);
            Err(malformed_error(limits::SECOND_BOM, at))
        }
        None => Ok(()),
    }
}
