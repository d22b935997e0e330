//! Values to types: one lenient serde deserializer over the tree.
//!
//! The environment and most stores hold only text, so text becomes whatever type is asked for; a
//! typed value is taken at its word. Integers never pass through floats and nothing is cut off
//! silently. A float without a fraction is an integer, as it is in JSON.
//!
//! | asked for | accepted |
//! |---|---|
//! | integers | integers in range; floats in range that have no fraction; text such as `42`, `+5`, `1_000`, `012` (decimal), `0x1f`, `0o17`, `0b1` |
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
//! type wants; see [`learn`]. Values of the same type get their form at once, so the number of passes
//! depends on the type only.
//!
//! # Errors
//!
//! The first failure starts a slower second pass that replaces each bad field with a placeholder,
//! to find them all. Success pays nothing for it.

mod access;
mod braces;
mod de;
mod dummy;
mod fault;
mod form;
mod input;
mod learn;
mod passes;
mod place;
mod probe;
mod report;
#[cfg(test)]
mod tests;
mod text;

use std::cell::RefCell;

use serde_core::de::DeserializeOwned;

use crate::error::Error;
use crate::value::Value;
use crate::value::coerce::input::Input;
use crate::value::coerce::place::Root;
use crate::value::node::{Node, Table};
use crate::value::origin::Origin;

pub(crate) use crate::value::coerce::place::{Hidden, Hides};
pub(crate) use crate::value::coerce::probe::{Way, secret_places};

/// Reads what stands at a key as a `T`; `None` is an absent key, which only an `Option` accepts.
///
/// `masked` hides the value in errors, beside the keys that look secret by name.
pub(crate) fn decode<T: DeserializeOwned>(
    key: &str,
    node: Option<&Node>,
    masked: bool,
) -> Result<T, Error> {
    root(key, node, masked).decode()
}

/// As [`decode`], masking the keys that are known to hold secrets, and only these.
pub(crate) fn decode_hiding<T: DeserializeOwned>(
    key: &str,
    node: &Node,
    hides: Hides<'_>,
) -> Result<T, Error> {
    root(key, Some(node), false).hiding(hides).decode()
}

/// As [`decode_table`], masking the keys that are known to hold secrets, and only these.
pub(crate) fn decode_table_hiding<T: DeserializeOwned>(
    key: &str,
    table: &Table,
    hides: Hides<'_>,
) -> Result<T, Error> {
    table_root(key, Some(table), false).hiding(hides).decode()
}

/// As [`decode`], and adds the keys that were read into a [`Secret`](crate::Secret) to `secrets`.
pub(crate) fn decode_noting<T: DeserializeOwned>(
    key: &str,
    node: Option<&Node>,
    masked: bool,
    secrets: &mut Vec<String>,
) -> Result<T, Error> {
    noting(root(key, node, masked), secrets)
}

/// Reads a single value, such as an item of a list.
pub(crate) fn decode_value<T: DeserializeOwned>(
    key: &str,
    value: &Value,
    origin: &Origin,
    masked: bool,
) -> Result<T, Error> {
    Root::new(key, Input::of_value(value), Some(origin), masked).decode()
}

/// Reads a table as a `T`; an absent one is an empty one, so that each missing field is named.
pub(crate) fn decode_table<T: DeserializeOwned>(
    key: &str,
    table: Option<&Table>,
    masked: bool,
) -> Result<T, Error> {
    table_root(key, table, masked).decode()
}

/// As [`decode_table`], and adds the keys that were read into a [`Secret`](crate::Secret).
pub(crate) fn decode_table_noting<T: DeserializeOwned>(
    key: &str,
    table: Option<&Table>,
    masked: bool,
    secrets: &mut Vec<String>,
) -> Result<T, Error> {
    noting(table_root(key, table, masked), secrets)
}

/// The value at a path inside a value: list items by index, table fields by name.
pub(crate) fn descend<S: AsRef<str>>(
    value: &Value,
    segments: impl IntoIterator<Item = S>,
) -> Option<&Value> {
    let mut value = value;
    for segment in segments {
        let segment = segment.as_ref();
        value = match value {
            Value::List(items) => items.get(text::index(segment)?)?,
            Value::Table(fields) => fields.get(segment)?,
            _ => return None,
        };
    }
    (!matches!(value, Value::Unset)).then_some(value)
}

fn root<'a>(key: &'a str, node: Option<&'a Node>, masked: bool) -> Root<'a> {
    match node {
        Some(node) => {
            let (input, origin, secret) = Input::of_node(node);
            Root::new(key, input, origin, masked || secret)
        }
        None => Root::new(key, Input::Absent, None, masked),
    }
}

fn table_root<'a>(key: &'a str, table: Option<&'a Table>, masked: bool) -> Root<'a> {
    let input = table.map_or(Input::Nothing, Input::Table);
    Root::new(key, input, None, masked)
}

fn noting<T: DeserializeOwned>(root: Root<'_>, secrets: &mut Vec<String>) -> Result<T, Error> {
    let notes = RefCell::new(Vec::new());
    let result = root.noting(&notes).decode();
    let mut found = notes.into_inner();
    found.retain(|key| !key.contains(learn::PROBE_WORDS));
    found.sort_unstable();
    found.dedup();
    secrets.append(&mut found);
    result
}

/// The number that text spells in any base, if 64 bits hold it.
pub(crate) fn natural(text: &str) -> Option<u64> {
    match text::whole(text) {
        Ok(text::Whole::Signed(number)) => u64::try_from(number).ok(),
        _ => None,
    }
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
    if masked || holds_secret(value) {
        return crate::error::MASK.to_owned();
    }
    Input::of_value(value).shown()
}

/// Whether a value looks secret whatever its key is: an address with a password, or a table with
/// such a name in it.
pub(crate) fn holds_secret(value: &Value) -> bool {
    Input::of_value(value).holds_secret()
}

/// As [`holds_secret`], for what stands at a place of a tree.
pub(crate) fn node_holds_secret(node: &Node) -> bool {
    let (input, _, secret) = Input::of_node(node);
    secret || input.holds_secret()
}
