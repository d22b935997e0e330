//! Turns values of the tree into typed values, with one lenient serde deserializer.
//!
//! The environment and most stores hold only text, so text becomes whatever type is asked for. A
//! typed value keeps its type. Integers never pass through floats, and no digit is lost silently. A
//! float without a fraction is an integer, as it is in JSON: the written digits decide; see
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
//! # Flow
//!
//! A [`Request`] names the value to read. Its first *pass* runs the type's `Deserialize` over a
//! [`ValueDeserializer`](deserializer::ValueDeserializer), one for each value. A pass that
//! fails returns a [`Fault`](diagnose::fault::Fault) with a *location*. If the pass fails, [`diagnose`] runs
//! further passes, and returns the value or an error with all faults. Success pays nothing for it.
//!
//! # Terms
//!
//! - *input*: a value of the tree, wherever the tree keeps it.
//! - *location*: the key of a fault, with what an error shows of the value there.
//! - *origin*: where the value is written, such as a line of a file.
//! - *masked*: shown as `******` in errors.
//! - *rivals*: several names of one table that mean the same field or variant.
//! - *visit*: a call of the type's visitor with a value.
//! - *buffered*: serde keeps the value of `#[serde(flatten)]`, internally tagged and untagged types before
//!   it knows the type of each field. Such a value is visited as it is written, so that a password of
//!   digits is not forced into a number. [`diagnose`] finds out which other form the type expects.

mod access;
mod braces;
mod containers;
mod decimal;
mod deserializer;
mod diagnose;
mod duplicates;
mod forward;
mod gaps;
mod input;
mod location;
mod of_secret;
mod of_size;
mod part_masks;
mod request;
mod scalars;
#[cfg(test)]
mod tests;
mod text;

use std::any::TypeId;
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use serde::de::{Deserialize, DeserializeOwned};

use crate::decode::input::Input;
use crate::decode::request::Request;
use crate::error::Error;
use crate::value::Value;
use crate::value::key;
use crate::value::node::{Node, Table};
use crate::value::origin::Origin;
use crate::value::secret::{self, Secrets, buffered};
use crate::value::table::Table as Fields;

pub(crate) use crate::value::secret::buffered::SecretKeys;

pub(crate) use crate::decode::diagnose::secret_paths::{TypePath, is_secret_type, secret_paths};
pub(crate) use crate::decode::location::NULL_ITEM;

/// Which values errors mask.
#[derive(Clone, Copy)]
pub(crate) struct Mask<'a> {
    /// Whether errors mask every value.
    pub(crate) all: bool,
    /// The known secret keys; without them, the names of keys decide.
    pub(crate) secrets: Option<&'a Secrets>,
}

impl From<bool> for Mask<'_> {
    fn from(all: bool) -> Self {
        Self { all, secrets: None }
    }
}

/// The keys at and below `key` that a type reads as secrets, as far as its `Deserialize` shows them.
pub(crate) fn secret_keys<T: DeserializeOwned>(key: &str) -> Vec<String> {
    let paths = secret_paths::<T>();
    paths.iter().map(|path| key_of(key, path)).collect()
}

/// The key of a path inside a type. In a list or a map, the whole container counts.
fn key_of(key: &str, path: &TypePath) -> String {
    let mut key = key.to_owned();
    for name in path.iter().map_while(|name| *name) {
        key::push_segment(&mut key, name);
    }
    key
}

thread_local! {
    /// The secret fields of the types that this thread has read.
    static SECRET_FIELDS: RefCell<HashMap<TypeId, Rc<[TypePath]>>> = RefCell::default();
}

/// The keys of the fields below `key` that a type reads as secrets if they are set, as far as its
/// `Deserialize` shows them. The keys in lists and maps are not known before they are set.
pub(crate) fn secret_fields<T: DeserializeOwned + 'static>(key: &str) -> Vec<String> {
    let known = |fields: &RefCell<HashMap<_, _>>| fields.borrow().get(&TypeId::of::<T>()).cloned();
    let known: Option<Rc<[TypePath]>> = SECRET_FIELDS.try_with(known).ok().flatten();
    let fields = known.unwrap_or_else(|| {
        let is_field = |path: &TypePath| path.iter().all(Option::is_some);
        let fields: Rc<[TypePath]> = secret_paths::<T>().into_iter().filter(is_field).collect();
        let entry = (TypeId::of::<T>(), Rc::clone(&fields));
        let _ = SECRET_FIELDS.try_with(|all| all.borrow_mut().extend([entry]));
        fields
    });
    fields.iter().map(|path| key_of(key, path)).collect()
}

/// Decodes the value at a key; `None` is an absent key, which only an `Option` accepts.
pub(crate) fn from_node<'a, T: DeserializeOwned>(
    key: &'a str,
    node: Option<&'a Node>,
    mask: impl Into<Mask<'a>>,
) -> Result<T, Error> {
    request(key, node, mask.into()).decode()
}

/// As [`from_node`], and adds the keys that the type reads as [`Secret`](crate::Secret) to `secrets`.
pub(crate) fn from_node_recording<T: DeserializeOwned>(
    key: &str,
    node: Option<&Node>,
    masked: bool,
    secrets: &mut SecretKeys,
) -> Result<T, Error> {
    decode_recording(request(key, node, masked.into()), secrets)
}

/// Decodes a single value, such as an item of a list.
pub(crate) fn from_value<'a, T: DeserializeOwned>(
    key: &'a str,
    value: &'a Value,
    origin: &'a Origin,
    mask: impl Into<Mask<'a>>,
) -> Result<T, Error> {
    Request::new(key, Input::of_value(value), Some(origin), mask.into()).decode()
}

/// As [`from_value`], and adds the keys that the type reads as [`Secret`](crate::Secret) to `secrets`.
pub(crate) fn from_value_recording<T: DeserializeOwned>(
    key: &str,
    value: &Value,
    origin: &Origin,
    masked: bool,
    secrets: &mut SecretKeys,
) -> Result<T, Error> {
    let input = Input::of_value(value);
    decode_recording(
        Request::new(key, input, Some(origin), masked.into()),
        secrets,
    )
}

/// Decodes a value without a key or an origin.
pub(crate) fn read_bare<'de, T: Deserialize<'de>>(value: &Value) -> Option<T> {
    let mask = Mask::from(true);
    Request::new("", Input::of_value(value), None, mask)
        .run(None)
        .ok()
}

/// Decodes a table. An absent table counts as an empty one, so that errors name each missing field.
pub(crate) fn from_table<'a, T: DeserializeOwned>(
    key: &'a str,
    table: Option<&'a Table>,
    mask: impl Into<Mask<'a>>,
) -> Result<T, Error> {
    table_request(key, table, mask.into()).decode()
}

/// As [`from_table`], and adds the keys that the type reads as [`Secret`](crate::Secret) to `secrets`.
pub(crate) fn from_table_recording<T: DeserializeOwned>(
    key: &str,
    table: Option<&Table>,
    masked: bool,
    secrets: &mut SecretKeys,
) -> Result<T, Error> {
    decode_recording(table_request(key, table, masked.into()), secrets)
}

fn request<'a>(key: &'a str, node: Option<&'a Node>, mut mask: Mask<'a>) -> Request<'a> {
    match node {
        Some(node) => {
            let (input, origin, secret) = Input::of_node(node);
            mask.all |= secret;
            Request::new(key, input, origin, mask)
        }
        None => Request::new(key, Input::Absent, None, mask),
    }
}

fn table_request<'a>(key: &'a str, table: Option<&'a Table>, mask: Mask<'a>) -> Request<'a> {
    let input = table.map_or(Input::AbsentTable, Input::Table);
    Request::new(key, input, None, mask)
}

/// Decodes, and adds the keys that the type reads as secrets to `secrets`. If the type reads a secret from
/// serde's buffer, a traced pass finds its key.
fn decode_recording<T: DeserializeOwned>(
    request: Request<'_>,
    secrets: &mut SecretKeys,
) -> Result<T, Error> {
    let keys = RefCell::new(Vec::new());
    let request = request.recording_secrets(&keys);
    let (result, is_buffered) = buffered::detect_secrets(|| request.decode());
    if is_buffered {
        let decode = || drop(request.traced().decode::<T>());
        let ((), mut found) = buffered::trace_secrets(decode);
        if result.is_err() && request.is_table() {
            // The type has not read the table, so the table is not secret as a whole.
            let unnamed = buffered::unnamed_below(request.key);
            let is_whole = |key: &String| *key == request.key || *key == unnamed;
            found.possible.retain(|key| !is_whole(key));
        }
        if result.is_ok() && found.certain.is_empty() && found.possible.is_empty() {
            // The type has read something else the second time.
            found.possible.push(request.key.to_owned());
        }
        secrets.certain.append(&mut found.certain);
        secrets.possible.append(&mut found.possible);
    }
    secrets.certain.append(&mut keys.into_inner());
    secrets.normalize(|key| key.contains(diagnose::inference::PROBE_WORDS));
    result
}

/// The items of a list, or of a text that spells one.
pub(crate) fn items(value: &Value) -> Option<Vec<Value>> {
    match value {
        Value::List(items) => Some(items.to_vec()),
        Value::Text(text) => {
            let items = text::items(text).ok()?;
            let json = braces::json_list(text).filter(|json| json.len() == items.len());
            let item = |(at, item): (usize, Cow<'_, str>)| match json.as_ref().map(|json| &json[at])
            {
                Some(Value::Unset) => Value::Unset,
                _ => Value::from(item.into_owned()),
            };
            Some(items.into_iter().enumerate().map(item).collect())
        }
        _ => None,
    }
}

/// The entries of a text that spells a table.
pub(crate) fn entries(text: &str) -> Option<Fields> {
    if braces::is_braced(text) {
        return braces::table(text).ok();
    }
    let pairs = text::pairs(text).ok().filter(|pairs| !pairs.is_empty())?;
    let entry =
        |(name, value): text::Pair<'_>| (name.into_owned(), Value::from(value.into_owned()));
    Some(pairs.into_iter().map(entry).collect())
}

/// Whether a text is a map, such as `a=1, b=2`.
pub(crate) fn is_map_text(value: &Value) -> bool {
    let Value::Text(text) = value else {
        return false;
    };
    text.trim_start().starts_with('{') || text::pairs(text).is_ok_and(|pairs| !pairs.is_empty())
}

/// The kind and the shortened text of a value for an error, or the mask.
pub(crate) fn describe(value: &Value, masked: bool) -> String {
    if masked || secret::holds_secret(value) {
        return crate::error::MASK.to_owned();
    }
    Input::of_value(value).description()
}
