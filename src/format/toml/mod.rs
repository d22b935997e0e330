//! Parses TOML with the spanned tables of the `toml` crate.
//!
//! The tokens, events and tables of that crate take up to 37 bytes for each byte of text. So a large
//! document is parsed in [`pieces`].

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use crate::error::{Error, ErrorKind};
use crate::format::limits::{
    duplicate_key_error, malformed_error, masked_key, too_deep_error, too_many_tables_error,
    too_many_values_error,
};
use crate::format::positions;
use crate::value::document::Document;
use crate::value::key::{self, MAX_DEPTH};
use crate::value::node::{Table, value_and_table_error};
use crate::value::origin::Origin;

mod build;
mod pieces;
mod scan;

use build::Builder;
use scan::LimitExceeded;

/// The minimum size of a piece in bytes.
///
/// The peak memory of reloading 100,000 keys is two trees, the text, and the parser's memory for one piece:
/// 3 % of a tree with 16 KiB, 15 % with 64, 50 % with 256, and three trees without pieces. Loading 8 MB
/// takes 1 % more instructions with 16 KiB than with 256, and no more time.
const MIN_PIECE: usize = 16 * 1024;

pub(crate) fn parse(text: &str, origin: &Origin) -> Result<Document, Error> {
    parse_with_min_piece(text, origin, MIN_PIECE)
}

fn parse_with_min_piece(text: &str, origin: &Origin, min: usize) -> Result<Document, Error> {
    let cuts = scan::find_cuts(text.as_bytes(), MAX_DEPTH, min).map_err(|exceeded| {
        let at = |offset| origin_at(text, origin, offset);
        match exceeded {
            LimitExceeded::Depth(offset) => too_deep_error(at(offset)),
            LimitExceeded::Tables(offset) => too_many_tables_error(at(offset)),
            LimitExceeded::Values(offset) => too_many_values_error(at(offset)),
        }
    })?;
    let root = match pieces::parse(text, &cuts, origin) {
        Some(root) => root,
        None => parse_whole(text, origin)?,
    };
    Ok(Document::from_table(root))
}

fn parse_whole(text: &str, origin: &Origin) -> Result<Table, Error> {
    let at = |offset| origin_at(text, origin, offset);
    let table = DeTable::parse(text).map_err(|error| syntax_error(text, &error, at))?;
    Builder::new(text, origin).table(table.into_inner(), 0)
}

fn origin_at(text: &str, origin: &Origin, offset: usize) -> Origin {
    let (line, column) = positions::position(text.as_bytes(), offset);
    origin.at(line, column)
}

/// Converts an error of the parser, whose own text quotes the line, which may have a secret.
fn syntax_error(text: &str, error: &toml::de::Error, at: impl Fn(usize) -> Origin) -> Error {
    let Some(span) = error.span() else {
        return malformed_error(error.message(), at(0));
    };
    let message = error.message();
    if message.starts_with("duplicate key") || message.starts_with("cannot extend") {
        let Some(first) = find_first_definition(text, span.clone()) else {
            return Error::new(ErrorKind::InvalidKey, "a key is given twice")
                .with_origin(at(span.start));
        };
        let (first_at, again) = (at(first.offset), at(span.start));
        if first.is_table != begins_table(&text[span.end..]) {
            let key = masked_key(&first.key);
            return value_and_table_error(&key, Some(&first_at), first.is_table, &again);
        }
        return duplicate_key_error(&first.key, first_at.line().map(|(line, _)| line), again);
    }
    let rest = text.get(span.start..).unwrap_or_default();
    if message.starts_with("invalid literal string") && rest.starts_with('}') {
        // The parser takes the missing value for an empty text in single quotes. A real one never ends
        // before a brace: without its quote, it ends with the line.
        return malformed_error(
            "a key without a value; expected `=` and a value",
            at(span.start),
        );
    }
    let end = rest.find(|c: char| c.is_whitespace() || ",#]}".contains(c));
    let word = &rest[..end.unwrap_or(rest.len())];
    malformed_error(with_remedy(message, word), at(span.start))
}

/// Returns a message of the parser with the way to correct the text. `word` is the rejected word; it is
/// not shown, since it may be part of a secret.
fn with_remedy(message: &str, word: &str) -> String {
    const NO_VALUE: &str = "not a value; expected text in quotes, a number, `true`, `false`, a date, a list or a table";
    const SCALARS: [&str; 11] = [
        "float",
        "mantissa",
        "fraction",
        "exponent",
        "integer",
        "date",
        "time",
        "offset",
        "hexadecimal",
        "octal",
        "binary",
    ];
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
    let is_scalar = message
        .strip_prefix("invalid ")
        .is_some_and(|kind| SCALARS.iter().any(|name| kind.starts_with(name)));
    if is_scalar || begins(&["`_` may only", "radix must be", "integers with a radix"]) {
        return format!("{message}; write text in quotes");
    }
    message.to_owned()
}

/// Whether a name is that of a table, by the text behind it.
fn begins_table(rest: &str) -> bool {
    let rest = rest.trim_start_matches([' ', '\t']);
    match rest.strip_prefix('=') {
        Some(value) => value.trim_start_matches([' ', '\t']).starts_with('{'),
        None => rest.starts_with(['.', ']']),
    }
}

/// The first definition of a repeated name.
struct FirstDefinition {
    key: String,
    offset: usize,
    is_table: bool,
}

/// Finds the first definition of the name that is repeated at `second`.
///
/// The parser reports only the second definition. So the document is parsed again with another name in
/// its place: the table with this stand-in has the first definition.
fn find_first_definition(text: &str, second: Range<usize>) -> Option<FirstDefinition> {
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
    let (offset, is_table) = find_beside(table.get_ref(), name.get_ref(), &stand_in, &mut key)?;
    Some(FirstDefinition {
        key,
        offset,
        is_table,
    })
}

/// Finds a name in the same table as the stand-in, and whether it is a table. Extends `key` to the name.
fn find_beside(
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
        if let Some(found) = find_beside_in_value(value.get_ref(), name, stand_in, key) {
            return Some(found);
        }
        key.truncate(before);
    }
    None
}

fn find_beside_in_value(
    value: &DeValue<'_>,
    name: &str,
    stand_in: &str,
    key: &mut String,
) -> Option<(usize, bool)> {
    match value {
        DeValue::Table(table) => find_beside(table, name, stand_in, key),
        DeValue::Array(items) => items.iter().enumerate().find_map(|(i, item)| {
            let before = key.len();
            key::push_segment(key, &i.to_string());
            let found = find_beside_in_value(item.get_ref(), name, stand_in, key);
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
