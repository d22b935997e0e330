//! Masks the secrets of a generation in words of user code: of validators, decoders and callbacks.
//!
//! Only an error asks for this. The first one scans each value of the tree and keeps the secrets with the
//! generation, since one commit may reject many values.

use std::cell::OnceCell;
use std::fmt::{Debug, Display};
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::decode;
use crate::sync::lock::Mutex;
use crate::tree::diff;
use crate::tree::snapshot::{Found, Generation};
use crate::value::Value;
use crate::value::hamt::Entry;
use crate::value::key;
use crate::value::node::Table;
use crate::value::secret::{Quoted, text_holds_secret};

/// A text that is a secret, or that has secret parts by its form.
enum SecretText {
    Whole(Box<str>),
    Parts(Box<str>),
}

/// The secrets of a generation, with the number of secret keys at the time of the scan. A clone has none.
#[derive(Default)]
pub(crate) struct SecretTexts(Mutex<Option<(u64, Arc<[SecretText]>)>>);

impl Clone for SecretTexts {
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// Masks each secret of some generations in words of user code.
pub(crate) fn without_secrets(words: &str, generations: &[&Generation]) -> String {
    let mut quoted = Quoted::new(words);
    for generation in generations {
        for known in generation.secret_texts().iter() {
            match known {
                SecretText::Whole(text) => quoted.add(text),
                SecretText::Parts(text) => quoted.add_parts(text),
            }
        }
    }
    quoted.masked().unwrap_or_else(|| words.to_owned())
}

impl Generation {
    fn secret_texts(&self) -> Arc<[SecretText]> {
        let now = self.secrets.count();
        if let Some((count, known)) = &*self.secret_texts.0.lock() {
            if *count == now {
                return Arc::clone(known);
            }
        }
        let mut all = Vec::new();
        self.root.walk(&mut String::new(), &mut |key, entry| {
            if let Some(value) = diff::value(&entry.node) {
                let scan = LeafScan {
                    generation: self,
                    entry,
                    derived: OnceCell::new(),
                };
                scan.collect(&mut key.to_owned(), value, &mut all);
            }
        });
        let known: Arc<[SecretText]> = all.into();
        *self.secret_texts.0.lock() = Some((now, Arc::clone(&known)));
        known
    }

    /// Masks the values at and below a key in words; `None` if the words have none.
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
        Value::Unset => {}
        Value::Bool(value) if value.spelled().is_none() => {}
        Value::List(items) => items.iter().for_each(|item| add(item, quoted)),
        Value::Table(fields) => fields.values().for_each(|value| add(value, quoted)),
        scalar => displayed_texts(scalar)
            .iter()
            .for_each(|text| quoted.add(text)),
    }
}

/// A secret text or number as words may show it: as it is written, and as each type of number that reads it
/// displays it.
fn displayed_texts(value: &Value) -> Vec<Box<str>> {
    fn number<T: DeserializeOwned + Display + Debug>(value: &Value) -> Option<[String; 2]> {
        decode::read_bare::<T>(value).map(|number| [number.to_string(), format!("{number:?}")])
    }
    let mut texts: Vec<Box<str>> = vec![match value {
        Value::Text(text) => text.clone(),
        number => number.to_string().into(),
    }];
    let canonical = value.spelled().map(|it| it.value().to_string());
    // One type reads a number that another one rejects.
    let numbers = [
        number::<i128>(value),
        number::<u128>(value),
        number::<f64>(value),
        number::<f32>(value),
    ];
    let numbers = numbers.into_iter().flatten().flatten();
    for number in numbers.chain(canonical) {
        if !texts.iter().any(|text| **text == *number) {
            texts.push(number.into());
        }
    }
    texts
}

/// The search for secrets in one leaf.
struct LeafScan<'g> {
    generation: &'g Generation,
    entry: &'g Entry,
    /// Whether the leaf is made from a secret.
    derived: OnceCell<bool>,
}

impl LeafScan<'_> {
    fn is_secret(&self, key: &str) -> bool {
        let derives = || self.generation.derives_from_secret(self.entry);
        self.generation.secrets.hides(key) || *self.derived.get_or_init(derives)
    }

    /// Adds the secrets of a value at or below a leaf.
    fn collect(&self, key: &mut String, value: &Value, all: &mut Vec<SecretText>) {
        match value {
            Value::Unset => {}
            Value::Bool(value) if value.spelled().is_none() => {}
            Value::List(items) => {
                for (at, item) in items.iter().enumerate() {
                    self.collect_below(key, &at.to_string(), item, all);
                }
            }
            Value::Table(fields) => {
                for (name, value) in fields.iter() {
                    self.collect_below(key, name, value, all);
                }
            }
            Value::Text(text) => {
                let is_secret = self.is_secret(key);
                if is_secret {
                    all.extend(displayed_texts(value).into_iter().map(SecretText::Whole));
                }
                let form_counts = is_secret || !self.generation.secrets.form_is_plain(key);
                if form_counts && text_holds_secret(text) {
                    all.push(SecretText::Parts((&**text).into()));
                }
            }
            number => {
                if self.is_secret(key) {
                    all.extend(displayed_texts(number).into_iter().map(SecretText::Whole));
                }
            }
        }
    }

    fn collect_below(
        &self,
        key: &mut String,
        name: &str,
        value: &Value,
        all: &mut Vec<SecretText>,
    ) {
        let before = key.len();
        key::push_segment(key, name);
        self.collect(key, value, all);
        key.truncate(before);
    }
}
