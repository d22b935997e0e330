//! TOML, through the spanned tables of the `toml` crate.
//!
//! For each byte of text that crate holds up to 37 bytes at once: tokens, events and tables. So a
//! large document is parsed a few sections at a time, see [`pieces`].

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use crate::error::{Error, ErrorKind};
use crate::format::limits::{malformed, shown, too_deep, too_many_tables, too_many_values, twice};
use crate::format::spans;
use crate::value::document::Document;
use crate::value::key::{self, MAX_DEPTH};
use crate::value::node::{Table, both};
use crate::value::origin::Origin;

mod build;
mod pieces;
mod scan;

use build::Builder;
use scan::Excess;

/// The least bytes of a piece. What lives at most while 100,000 keys are reloaded, beside what
/// lived before, is two trees, the text, and what the parser holds for one piece: 3 % of a tree with
/// 16 KiB, 15 % with 64, 50 % with 256, three trees without pieces. Loading 8 MB takes 1 % more
/// instructions with 16 KiB than with 256, and no more time.
const PIECE: usize = 16 * 1024;

pub(crate) fn parse(text: &str, origin: &Origin) -> Result<Document, Error> {
    parse_by(text, origin, PIECE)
}

fn parse_by(text: &str, origin: &Origin, piece: usize) -> Result<Document, Error> {
    let cuts = scan::cuts(text.as_bytes(), MAX_DEPTH, piece).map_err(|excess| {
        let at = |offset| place(text, origin, offset);
        match excess {
            Excess::Depth(offset) => too_deep(at(offset)),
            Excess::Tables(offset) => too_many_tables(at(offset)),
            Excess::Values(offset) => too_many_values(at(offset)),
        }
    })?;
    // Whatever stands in the way of pieces, the text as a whole gives the verdict.
    let root = match pieces::parse(text, &cuts, origin) {
        Some(root) => root,
        None => whole(text, origin)?,
    };
    Ok(Document::from_table(root))
}

fn whole(text: &str, origin: &Origin) -> Result<Table, Error> {
    let at = |offset| place(text, origin, offset);
    let table = DeTable::parse(text).map_err(|fault| refuse(text, &fault, at))?;
    Builder::new(text, origin).table(table.into_inner(), 0)
}

fn place(text: &str, origin: &Origin, offset: usize) -> Origin {
    let (line, column) = spans::place(text.as_bytes(), offset);
    origin.at(line, column)
}

/// Says in our words what the parser refused; its own rendering shows the line, secrets and all.
fn refuse(text: &str, fault: &toml::de::Error, at: impl Fn(usize) -> Origin) -> Error {
    let Some(span) = fault.span() else {
        return malformed(fault.message(), at(0));
    };
    let message = fault.message();
    if message.starts_with("duplicate key") || message.starts_with("cannot extend") {
        if let Some(first) = earlier(text, span.clone()) {
            let (there, again) = (at(first.offset), at(span.start));
            if first.is_table != begins_table(&text[span.end..]) {
                return both(&shown(&first.key), Some(&there), first.is_table, &again);
            }
            return twice(&first.key, there.line().map(|(line, _)| line), again);
        }
        return Error::new(ErrorKind::InvalidKey, "a key is given twice")
            .with_origin(at(span.start));
    }
    let rest = text.get(span.start..).unwrap_or_default();
    let end = rest.find(|c: char| c.is_whitespace() || ",#]}".contains(c));
    let word = &rest[..end.unwrap_or(rest.len())];
    malformed(advice(message, word), at(span.start))
}

/// What the parser refused and how to put it right. `word` is what stands there, which is not shown: it
/// may be a part of a secret.
fn advice(message: &str, word: &str) -> String {
    const NO_VALUE: &str = "not a value; expected text in quotes, a number, `true`, `false`, a date, a list or a table";
    let begins = |all: &[&str]| all.iter().any(|start| message.starts_with(start));
    let is = |all: &[&str]| all.iter().any(|known| word.eq_ignore_ascii_case(known));
    let is_text = begins(&["string values must be quoted"]);
    let is_word = is_text || begins(&["invalid float", "invalid boolean"]);
    if is_word && is(&["null", "none", "nil", "undefined"]) {
        return "TOML has no null: leave the key out, or write text in quotes".to_owned();
    }
    if is_word && is(&["true", "false", "yes", "no", "on", "off"]) {
        return "a boolean is `true` or `false` in small letters; write text in quotes".to_owned();
    }
    let is_number = word.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
    if is_text || (is_word && !is_number) {
        return NO_VALUE.to_owned();
    }
    let message = message.trim_end_matches(", expected nothing");
    if begins(&["unexpected leading zero"]) {
        return format!("{message}: write the number without it, or text in quotes");
    }
    if begins(&["unexpected key or value"]) {
        return format!(
            "{message}: a value ends with its line; write text in quotes and a list in brackets"
        );
    }
    let scalars = [
        "float", "mantissa", "fraction", "exponent", "integer", "date", "time", "offset",
    ];
    let radixes = ["hexadecimal", "octal", "binary"];
    let is_scalar = message.strip_prefix("invalid ").is_some_and(|what| {
        let mut names = scalars.iter().chain(&radixes);
        names.any(|name| what.starts_with(name))
    });
    if is_scalar || begins(&["`_` may only", "radix must be", "integers with a radix"]) {
        return format!("{message}; write text in quotes");
    }
    message.to_owned()
}

/// Whether a name stands for a table, by what follows it.
fn begins_table(rest: &str) -> bool {
    let rest = rest.trim_start_matches([' ', '\t']);
    match rest.strip_prefix('=') {
        Some(value) => value.trim_start_matches([' ', '\t']).starts_with('{'),
        None => rest.starts_with(['.', ']']),
    }
}

/// What a repeated name was given as first.
struct First {
    key: String,
    offset: usize,
    is_table: bool,
}

/// Finds the full key of a repeated name, and where the name was given first.
///
/// The parser tells only where the second one stands. So the document is read once more with
/// another name in that place: the table that holds it then is the one that holds the first.
fn earlier(text: &str, second: Range<usize>) -> Option<First> {
    let name = text.get(second.clone())?;
    let alone = format!("{name} = 0");
    let alone = DeTable::parse(&alone).ok()?;
    let (name, _) = alone.get_ref().iter().next()?;
    let mut stand_in = String::from("stand-in");
    while text.contains(&stand_in) {
        stand_in.push('-');
    }
    let other = [&text[..second.start], &stand_in, &text[second.end..]].concat();
    let (table, _) = DeTable::parse_recoverable(&other);
    let mut key = String::new();
    let (offset, is_table) = sibling(table.get_ref(), name.get_ref(), &stand_in, &mut key)?;
    Some(First {
        key,
        offset,
        is_table,
    })
}

/// Where the name beside the stand-in is, and whether it is a table.
fn sibling(
    table: &DeTable<'_>,
    name: &str,
    stand_in: &str,
    key: &mut String,
) -> Option<(usize, bool)> {
    if table.contains_key(stand_in) {
        key::push_segment(key, name);
        let (name, value) = table.get_key_value(name)?;
        let is_table = matches!(value.get_ref(), DeValue::Table(_));
        return Some((name.span().start, is_table));
    }
    for (below, value) in table.iter() {
        let before = key.len();
        key::push_segment(key, below.get_ref());
        if let Some(found) = sibling_in(value.get_ref(), name, stand_in, key) {
            return Some(found);
        }
        key.truncate(before);
    }
    None
}

fn sibling_in(
    value: &DeValue<'_>,
    name: &str,
    stand_in: &str,
    key: &mut String,
) -> Option<(usize, bool)> {
    match value {
        DeValue::Table(table) => sibling(table, name, stand_in, key),
        DeValue::Array(items) => items.iter().enumerate().find_map(|(i, item)| {
            let before = key.len();
            key::push_segment(key, &i.to_string());
            let found = sibling_in(item.get_ref(), name, stand_in, key);
            if found.is_none() {
                key.truncate(before);
            }
            found
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
