//! Values to types: one lenient serde deserializer over the tree.
//!
//! The environment and most stores hold only text, so text becomes whatever type is asked for; a
//! typed value is taken at its word. Integers never pass through floats and nothing is cut off
//! silently. A float without a fraction is an integer, as it is in JSON: the written digits decide; see
//! [`decimal`].
//!
//! | asked for | accepted |
//! |---|---|
//! | integers | integers in range; floats in range without a fraction as written; text such as `42`, `+5`, `1_000`, `012` (decimal), `0x1f`, `0o17`, `0b1` |
//! | floats | floats; integers that are exact; text such as `1.5`, `1e3`, and literally `nan`, `inf`, `-inf` |
//! | `bool` | booleans; text `true t yes y on 1` and `false f no n off 0` in any case |
//! | text | text as it is; numbers and booleans as their text |
//! | `Duration` | text with units, ISO 8601, `0`, or a table of `secs` and `nanos` |
//! | lists, tuples | lists; comma text; array text `[..]`; tables whose names are all decimal |
//! | maps, structs | tables; text such as `a=1, b=2`, `{a = 1}` or JSON |
//! | enums | the name of a variant; a table of one name |
//!
//! # What serde buffers
//!
//! `#[serde(flatten)]`, internally tagged and untagged types are buffered by serde before it knows
//! what each field is. Values stay what they are there, so that a password of digits is not forced
//! into a number. When that fails, the decoding is repeated until each value has the form that its
//! type wants; see [`learn`]. Values of the same type that are written alike get their form at once, so
//! the number of passes does not grow with the number of values.
//!
//! # Errors
//!
//! The first failure starts a slower second pass that replaces each bad field with a placeholder,
//! to find them all. Bad items of one list or map are found in one pass; see [`collect`]. Success pays
//! nothing for it.

mod access;
mod braces;
mod cuts;
mod de;
mod decimal;
mod diagnose;
mod gaps;
mod input;
mod of_secret;
mod of_size;
mod place;
#[cfg(test)]
mod tests;
mod text;

use std::any::TypeId;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use serde::de::{Deserialize, DeserializeOwned};

use crate::decode::input::Input;
use crate::decode::place::Root;
use crate::error::Error;
use crate::value::Value;
use crate::value::key;
use crate::value::node::{Node, Table};
use crate::value::origin::Origin;
use crate::value::secret::{self, Secrets, buffered};

pub(crate) use crate::value::secret::buffered::Places;

pub(crate) use crate::decode::diagnose::probe::{Way, is_secret_type, secret_places};
pub(crate) use crate::decode::place::NULL_ITEM;

/// What errors do not show: everything, or what is secret by itself.
#[derive(Clone, Copy)]
pub(crate) struct Mask<'a> {
    /// Nothing is shown of any value.
    pub(crate) all: bool,
    /// What is known of the secret keys, where anything is.
    pub(crate) secrets: Option<&'a Secrets>,
}

impl From<bool> for Mask<'_> {
    fn from(all: bool) -> Self {
        Self { all, secrets: None }
    }
}

/// The keys at and below a key that a type reads as secrets, as far as it tells.
pub(crate) fn secret_keys<T: DeserializeOwned>(key: &str) -> Vec<String> {
    let key_of = |way: Way| {
        let mut path = key.to_owned();
        // Of a list or a map, all is hidden.
        for name in way.into_iter().map_while(|name| name) {
            key::push_segment(&mut path, name);
        }
        path
    };
    secret_places::<T>().into_iter().map(key_of).collect()
}

thread_local! {
    static WAYS: RefCell<HashMap<TypeId, Rc<[Way]>>> = RefCell::default();
}

/// The keys of the fields below a key that a type reads as secrets where they are set, as far as it
/// tells. What is in lists and maps is not known before it is there. Each thread asks a type once.
pub(crate) fn secret_fields<T: DeserializeOwned + 'static>(key: &str) -> Vec<String> {
    let known = |ways: &RefCell<HashMap<_, _>>| ways.borrow().get(&TypeId::of::<T>()).cloned();
    let known: Option<Rc<[Way]>> = WAYS.try_with(known).ok().flatten();
    let ways = known.unwrap_or_else(|| {
        let is_field = |way: &Way| way.iter().all(Option::is_some);
        let ways: Rc<[Way]> = secret_places::<T>().into_iter().filter(is_field).collect();
        let _ = WAYS.try_with(|all| all.borrow_mut().insert(TypeId::of::<T>(), Rc::clone(&ways)));
        ways
    });
    let key_of = |way: &Way| {
        let mut path = key.to_owned();
        let names = way.iter().flatten();
        names.for_each(|name| key::push_segment(&mut path, name));
        path
    };
    ways.iter().map(key_of).collect()
}

/// Reads what stands at a key as a `T`; `None` is an absent key, which only an `Option` accepts.
///
/// `mask` hides the value in errors, beside the keys that look secret by name.
pub(crate) fn from_node<'a, T: DeserializeOwned>(
    key: &'a str,
    node: Option<&'a Node>,
    mask: impl Into<Mask<'a>>,
) -> Result<T, Error> {
    root(key, node, mask.into()).decode()
}

/// As [`from_node`], and adds the keys that were read into a [`Secret`](crate::Secret) to `secrets`.
pub(crate) fn from_node_noting<T: DeserializeOwned>(
    key: &str,
    node: Option<&Node>,
    masked: bool,
    secrets: &mut Places,
) -> Result<T, Error> {
    noting(root(key, node, masked.into()), secrets)
}

/// Reads a single value, such as an item of a list.
pub(crate) fn from_value<'a, T: DeserializeOwned>(
    key: &'a str,
    value: &'a Value,
    origin: &'a Origin,
    mask: impl Into<Mask<'a>>,
) -> Result<T, Error> {
    Root::new(key, Input::of_value(value), Some(origin), mask.into()).decode()
}

/// As [`from_value`], and adds the keys that were read into a [`Secret`](crate::Secret).
pub(crate) fn from_value_noting<T: DeserializeOwned>(
    key: &str,
    value: &Value,
    origin: &Origin,
    masked: bool,
    secrets: &mut Places,
) -> Result<T, Error> {
    let input = Input::of_value(value);
    noting(Root::new(key, input, Some(origin), masked.into()), secrets)
}

/// Reads a value of which nothing is known but itself.
pub(crate) fn read_bare<'de, T: Deserialize<'de>>(value: &Value) -> Option<T> {
    let mask = Mask::from(true);
    Root::new("", Input::of_value(value), None, mask)
        .run(None)
        .ok()
}

/// Reads a table as a `T`; an absent one is an empty one, so that each missing field is named.
pub(crate) fn from_table<'a, T: DeserializeOwned>(
    key: &'a str,
    table: Option<&'a Table>,
    mask: impl Into<Mask<'a>>,
) -> Result<T, Error> {
    table_root(key, table, mask.into()).decode()
}

/// As [`from_table`], and adds the keys that were read into a [`Secret`](crate::Secret).
pub(crate) fn from_table_noting<T: DeserializeOwned>(
    key: &str,
    table: Option<&Table>,
    masked: bool,
    secrets: &mut Places,
) -> Result<T, Error> {
    noting(table_root(key, table, masked.into()), secrets)
}

fn root<'a>(key: &'a str, node: Option<&'a Node>, mut mask: Mask<'a>) -> Root<'a> {
    match node {
        Some(node) => {
            let (input, origin, secret) = Input::of_node(node);
            mask.all |= secret;
            Root::new(key, input, origin, mask)
        }
        None => Root::new(key, Input::Absent, None, mask),
    }
}

fn table_root<'a>(key: &'a str, table: Option<&'a Table>, mask: Mask<'a>) -> Root<'a> {
    let input = table.map_or(Input::Nothing, Input::Table);
    Root::new(key, input, None, mask)
}

fn noting<T: DeserializeOwned>(root: Root<'_>, secrets: &mut Places) -> Result<T, Error> {
    let notes = RefCell::new(Vec::new());
    let root = root.noting(&notes);
    let (result, is_buffered) = buffered::noticing(|| root.decode());
    if is_buffered {
        let again = || drop(root.traced().decode::<T>());
        let ((), mut places) = buffered::tracing(again);
        if result.is_err() && root.is_table() {
            // It was not read at all, so nothing says that everything is secret.
            let inside = buffered::inside_of(root.key);
            let is_root = |place: &String| *place == root.key || *place == inside;
            places.possible.retain(|place| !is_root(place));
        }
        if result.is_ok() && places.certain.is_empty() && places.possible.is_empty() {
            // The type read something else the second time.
            places.possible.push(root.key.to_owned());
        }
        secrets.certain.append(&mut places.certain);
        secrets.possible.append(&mut places.possible);
    }
    secrets.certain.append(&mut notes.into_inner());
    secrets.settle(|key| key.contains(diagnose::learn::PROBE_WORDS));
    result
}

/// The items of a list, or of a text that spells one.
pub(crate) fn items(value: &Value) -> Option<Vec<Value>> {
    match value {
        Value::List(items) => Some(items.to_vec()),
        Value::Text(text) => {
            let items = text::items(text).ok()?;
            Some(
                items
                    .into_iter()
                    .map(|item| Value::from(item.into_owned()))
                    .collect(),
            )
        }
        _ => None,
    }
}

/// Whether a text spells a map, such as `a=1, b=2`.
pub(crate) fn spells_a_map(value: &Value) -> bool {
    let Value::Text(text) = value else {
        return false;
    };
    text.trim_start().starts_with('{') || text::pairs(text).is_ok_and(|pairs| !pairs.is_empty())
}

/// A value for a message: its kind and its text, cut to a readable length, or the mask.
pub(crate) fn shown(value: &Value, masked: bool) -> String {
    if masked || secret::holds_secret(value) {
        return crate::error::MASK.to_owned();
    }
    Input::of_value(value).shown()
}
