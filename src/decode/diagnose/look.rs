//! What values look like, to split a class whose values expect different forms.

use crate::decode::braces;
use crate::decode::input::Input;
use crate::decode::text;
use crate::value::node::Table;
use crate::value::units;

/// How deep a value is looked into.
const MAX_NESTING: usize = 3;

/// The names of a larger table do not count.
const MAX_NAMES: usize = 16;

/// What a value looks like. Two values with the same look are most likely of one variant.
pub(crate) fn look(input: Input<'_>) -> String {
    let mut look = String::new();
    add_look(input, MAX_NESTING, &mut look);
    look
}

fn add_look(input: Input<'_>, depth: usize, look: &mut String) {
    match input.canonical() {
        Input::Text(text) => add_text(text, look),
        Input::Bool(_) => look.push('o'),
        Input::Int(0) => look.push('z'),
        Input::Int(_) | Input::Big(_) => look.push('n'),
        Input::Float(value) => look.push(if value.fract() == 0.0 { 'e' } else { 'f' }),
        Input::List(_) | Input::Fields(_) | Input::Table(_) if depth == 0 => look.push('.'),
        Input::List(items) => {
            let items = items.iter().map(Input::of_value);
            add_all(items, ['[', ']'], depth, look);
        }
        Input::Fields(fields) if fields.len() > MAX_NAMES => {
            let values = fields.values().map(Input::of_value);
            add_all(values, ['(', ')'], depth, look);
        }
        Input::Table(table) if table.len() > MAX_NAMES => {
            add_all(values(table), ['(', ')'], depth, look);
        }
        Input::Fields(fields) => {
            let entries = fields.iter();
            let entries = entries.map(|(name, value)| (name, Input::of_value(value)));
            add_entries(entries, depth, look);
        }
        Input::Table(table) => {
            let entries = table.map().sorted();
            let entries = entries
                .iter()
                .map(|entry| (&*entry.name, Input::of_node(&entry.node).0));
            add_entries(entries, depth, look);
        }
        _ => look.push('-'),
    }
}

fn values(table: &Table) -> impl Iterator<Item = Input<'_>> {
    let entries = table.map().iter();
    entries.map(|entry| Input::of_node(&entry.node).0)
}

/// Adds the set of the looks of some values.
fn add_all<'a>(
    all: impl Iterator<Item = Input<'a>>,
    [open, close]: [char; 2],
    depth: usize,
    look: &mut String,
) {
    let mut looks: Vec<String> = all
        .map(|input| {
            let mut look = String::new();
            add_look(input, depth - 1, &mut look);
            look
        })
        .collect();
    looks.sort_unstable();
    looks.dedup();
    look.push(open);
    look.extend(looks);
    look.push(close);
}

fn add_entries<'a>(
    entries: impl Iterator<Item = (&'a str, Input<'a>)>,
    depth: usize,
    look: &mut String,
) {
    look.push('{');
    for (name, input) in entries {
        look.push_str(name);
        look.push('=');
        add_look(input, depth - 1, look);
    }
    look.push('}');
}

/// Adds what a text can be read as.
fn add_text(text: &str, look: &mut String) {
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
    look.push('t');
    look.extend(char::from_u32(u32::from('0') + bits));
}
