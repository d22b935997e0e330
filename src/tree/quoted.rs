//! The secrets of a generation in words that are no value: those of validators, decoders and callbacks.
//!
//! Only an error asks for this. It looks at each value of the tree, first whether the words have its
//! beginning, and then whether it is a secret.

use std::cell::OnceCell;

use crate::tree::diff;
use crate::tree::snapshot::{Found, Generation};
use crate::value::Value;
use crate::value::key;
use crate::value::map::Entry;
use crate::value::node::Table;
use crate::value::secret::{Quoted, text_holds_secret};

/// Words of user code with the mask in place of each secret of some generations.
pub(crate) fn without_secrets(words: &str, generations: &[&Generation]) -> String {
    let mut quoted = Quoted::new(words);
    for generation in generations {
        let mut look = |key: &str, entry: &std::sync::Arc<Entry>| {
            if let Some(value) = diff::value(&entry.node) {
                let of = Of {
                    generation,
                    entry,
                    derived: OnceCell::new(),
                };
                of.look(&mut key.to_owned(), value, &mut quoted);
            }
        };
        generation.root.walk(&mut String::new(), &mut look);
    }
    quoted.masked().unwrap_or_else(|| words.to_owned())
}

impl Generation {
    /// Words with the mask in place of the values at and below a key; `None` if none is in them.
    pub(crate) fn without_values_of(&self, key: &str, words: &str) -> Option<String> {
        fn add_table(table: &Table, quoted: &mut Quoted<'_>) {
            table.walk(&mut String::new(), &mut |_, entry| {
                if let Some(value) = diff::value(&entry.node) {
                    add(value, quoted);
                }
            });
        }
        let mut quoted = Quoted::new(words);
        match Found::in_tree(&self.root, key).ok()? {
            Found::Root(table) => add_table(table, &mut quoted),
            Found::Entry(entry) => match (entry.node.table(), diff::value(&entry.node)) {
                (Some(table), _) => add_table(table, &mut quoted),
                (None, Some(value)) => add(value, &mut quoted),
                (None, None) => {}
            },
            Found::Inside(value, _) => add(value, &mut quoted),
            Found::Nothing | Found::Broken(_) => {}
        }
        quoted.masked()
    }
}

/// Adds all texts of a secret value.
fn add(value: &Value, quoted: &mut Quoted<'_>) {
    match value {
        Value::Unset | Value::Bool(_) => {}
        Value::List(items) => items.iter().for_each(|item| add(item, quoted)),
        Value::Table(fields) => fields.values().for_each(|value| add(value, quoted)),
        Value::Text(text) => quoted.add(text),
        number => quoted.add(&number.to_string()),
    }
}

/// The value of a leaf.
struct Of<'g> {
    generation: &'g Generation,
    entry: &'g Entry,
    /// Whether the leaf is made from a secret.
    derived: OnceCell<bool>,
}

impl Of<'_> {
    fn is_secret(&self, key: &str) -> bool {
        let derives = || self.generation.derives_from_secret(self.entry);
        self.generation.secrets.hides(key) || *self.derived.get_or_init(derives)
    }

    fn look(&self, key: &mut String, value: &Value, quoted: &mut Quoted<'_>) {
        match value {
            Value::Unset | Value::Bool(_) => {}
            Value::List(items) => {
                for (at, item) in items.iter().enumerate() {
                    self.look_below(key, &at.to_string(), item, quoted);
                }
            }
            Value::Table(fields) => {
                for (name, value) in fields.iter() {
                    self.look_below(key, name, value, quoted);
                }
            }
            Value::Text(text) => {
                if quoted.may_quote(text) && self.is_secret(key) {
                    quoted.add(text);
                } else if text_holds_secret(text) && !self.generation.secrets.form_is_plain(key) {
                    quoted.add_parts(text);
                }
            }
            number => {
                let text = number.to_string();
                if quoted.may_quote(&text) && self.is_secret(key) {
                    quoted.add(&text);
                }
            }
        }
    }

    fn look_below(&self, key: &mut String, name: &str, value: &Value, quoted: &mut Quoted<'_>) {
        let before = key.len();
        key::push_segment(key, name);
        self.look(key, value, quoted);
        key.truncate(before);
    }
}
