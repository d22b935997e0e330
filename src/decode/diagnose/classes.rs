//! The forms that the values of one class want, and what tells the items of a class apart.

use crate::decode::braces;
use crate::decode::diagnose::form::{Form, Shape};
use crate::decode::input::Input;
use crate::decode::place::De;
use crate::decode::text;
use crate::value::key;
use crate::value::node::Table;
use crate::value::units;

/// How a value is written. Values of one class that are written alike are converted alike.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(in crate::decode) enum Written {
    Text,
    /// An item of JSON text.
    Item,
    Number,
    Bool,
    Table,
    Other,
}

impl Written {
    pub(in crate::decode) fn of(de: &De<'_, '_>) -> Self {
        match de.input.canonical() {
            Input::Text(_) if de.json.is_some() => Written::Item,
            Input::Text(_) => Written::Text,
            Input::Bool(_) => Written::Bool,
            Input::Int(_) | Input::Big(_) | Input::Float(_) => Written::Number,
            Input::Table(_) | Input::Fields(_) | Input::Nothing => Written::Table,
            _ => Written::Other,
        }
    }
}

/// The forms that a class wants. A value gets the first that it can be read as.
#[derive(Clone, Default)]
pub(in crate::decode) struct Forms(Vec<(Written, Form)>);

impl Forms {
    pub(in crate::decode) fn find(
        &self,
        written: Written,
        applies: impl Fn(Form) -> bool,
    ) -> Option<Form> {
        let forms = self.0.iter().filter(|(of, _)| *of == written);
        forms.map(|(_, form)| *form).find(|form| applies(*form))
    }

    /// Adds a form, behind those that earlier variants want of the same value.
    pub(in crate::decode) fn add(&mut self, written: Written, earlier: &[Form], form: Form) {
        let place =
            |all: &[(Written, Form)], form| all.iter().position(|it| *it == (written, form));
        let wanted = earlier.iter().copied().chain([form]);
        let first = wanted.clone().find_map(|form| place(&self.0, form));
        let mut at = first.unwrap_or(self.0.len());
        for form in wanted {
            match place(&self.0, form) {
                Some(known) => at = at.max(known + 1),
                None => {
                    self.0.insert(at, (written, form));
                    at += 1;
                }
            }
        }
    }

    /// Tries a form before all others.
    pub(in crate::decode) fn promote(&mut self, written: Written, form: Form) {
        self.0.retain(|it| *it != (written, form));
        self.0.insert(0, (written, form));
    }
}

impl Shape {
    /// What a table is whose names are these.
    pub(in crate::decode) fn of_names<'n>(names: impl Iterator<Item = &'n str>) -> Self {
        let Some(mut indexes) = names.map(key::list_index).collect::<Option<Vec<_>>>() else {
            return Shape::Named;
        };
        indexes.sort_unstable();
        if indexes.iter().enumerate().all(|(at, index)| at == *index) {
            Shape::Numbered
        } else {
            Shape::Gaps
        }
    }
}

/// So deep is looked into a value.
const DEEPEST: usize = 3;

/// Of a table of more entries, the names do not count.
const MOST_NAMES: usize = 16;

/// What a value looks like: two values with the same look are most likely read alike.
pub(in crate::decode) fn look(input: Input<'_>) -> String {
    let mut look = String::new();
    add_look(input, DEEPEST, &mut look);
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
        Input::Fields(fields) if fields.len() > MOST_NAMES => {
            let values = fields.values().map(Input::of_value);
            add_all(values, ['(', ')'], depth, look);
        }
        Input::Table(table) if table.len() > MOST_NAMES => {
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

/// The looks that there are among some values, in whatever order and number.
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

/// What a text can be read as.
fn add_text(text: &str, look: &mut String) {
    let is_pairs = || text.contains('=') && text::pairs(text).is_ok();
    let can_be = [
        text.trim().is_empty(),
        text::boolean(text).is_some(),
        text::whole(text).is_ok(),
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
