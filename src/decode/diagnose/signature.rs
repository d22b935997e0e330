//! The signatures of values: what tells the values of one variant from those of another.
//!
//! If the values of one class expect different forms, the class is split by their signatures.

use crate::decode::braces;
use crate::decode::input::Input;
use crate::decode::text;
use crate::value::node::Table;
use crate::value::units;

/// How deep a signature goes into a value.
const MAX_NESTING: usize = 3;

/// The names of a larger table do not count.
const MAX_NAMES: usize = 16;

/// What a value can be read as, with its names. Two values of one signature are most likely of one variant.
pub(crate) fn signature(input: Input<'_>) -> String {
    let mut signature = String::new();
    add_signature(input, MAX_NESTING, &mut signature);
    signature
}

fn add_signature(input: Input<'_>, depth: usize, signature: &mut String) {
    match input.canonical() {
        Input::Text(text) => add_text(text, signature),
        Input::Bool(_) => signature.push('o'),
        Input::Int(0) => signature.push('z'),
        Input::Int(_) | Input::Big(_) => signature.push('n'),
        Input::Float(value) => signature.push(if value.fract() == 0.0 { 'e' } else { 'f' }),
        Input::List(_) | Input::Fields(_) | Input::Table(_) if depth == 0 => signature.push('.'),
        Input::List(items) => {
            let items = items.iter().map(Input::of_value);
            add_all(items, ['[', ']'], depth, signature);
        }
        Input::Fields(fields) if fields.len() > MAX_NAMES => {
            let values = fields.values().map(Input::of_value);
            add_all(values, ['(', ')'], depth, signature);
        }
        Input::Table(table) if table.len() > MAX_NAMES => {
            add_all(values(table), ['(', ')'], depth, signature);
        }
        Input::Fields(fields) => {
            let entries = fields.iter();
            let entries = entries.map(|(name, value)| (name, Input::of_value(value)));
            add_entries(entries, depth, signature);
        }
        Input::Table(table) => {
            let entries = table.map().sorted();
            let entries = entries
                .iter()
                .map(|entry| (&*entry.name, Input::of_node(&entry.node).0));
            add_entries(entries, depth, signature);
        }
        _ => signature.push('-'),
    }
}

fn values(table: &Table) -> impl Iterator<Item = Input<'_>> {
    let entries = table.map().iter();
    entries.map(|entry| Input::of_node(&entry.node).0)
}

/// Adds the set of the signatures of some values.
fn add_all<'a>(
    all: impl Iterator<Item = Input<'a>>,
    [open, close]: [char; 2],
    depth: usize,
    signature: &mut String,
) {
    let mut signatures: Vec<String> = all
        .map(|input| {
            let mut signature = String::new();
            add_signature(input, depth - 1, &mut signature);
            signature
        })
        .collect();
    signatures.sort();
    signatures.dedup();
    signature.push(open);
    signature.extend(signatures);
    signature.push(close);
}

fn add_entries<'a>(
    entries: impl Iterator<Item = (&'a str, Input<'a>)>,
    depth: usize,
    signature: &mut String,
) {
    signature.push('{');
    for (name, input) in entries {
        signature.push_str(name);
        signature.push('=');
        add_signature(input, depth - 1, signature);
    }
    signature.push('}');
}

/// Adds what a text can be read as.
fn add_text(text: &str, signature: &mut String) {
    let is_pairs = || text.contains('=') && text::pairs(text).is_ok();
    let can_be = [
        text.trim().is_empty(),
        text::boolean(text).is_some(),
        text::integer(text).is_ok(),
        text::float::<f64>(text).is_ok(),
        units::duration(text).is_ok(),
        braces::is_braced(text) || is_pairs(),
        text.contains([',', '[']),
    ];
    let bits = can_be
        .iter()
        .fold(0, |bits, can| bits << 1 | u32::from(*can));
    signature.push('t');
    signature.extend(char::from_u32(u32::from('0') + bits));
}
