//! Compares values with those that the conditions of contextual values expect.

use std::borrow::Cow;

use crate::decode;
use crate::value::Value;

/// Whether a key has the expected value: by the type of that value, as `get` would read the key.
pub(super) fn reads_as(expected: &Value, found: &Value) -> bool {
    let is_equal = expected == found || expected.canonical() == found.canonical();
    is_equal
        || match expected.canonical() {
            Value::Bool(expected) => decode::read_bare::<bool>(found) == Some(expected.get()),
            Value::Number(expected) => match expected.as_i128() {
                Some(expected) => decode::read_bare::<i128>(found) == Some(expected),
                None => decode::read_bare::<f64>(found) == expected.as_f64(),
            },
            _ => reads_alike(expected, found),
        }
}

/// Whether two values are the same as text.
fn reads_alike(a: &Value, b: &Value) -> bool {
    fn text(value: &Value) -> Cow<'_, str> {
        match value {
            Value::Text(text) => Cow::Borrowed(text),
            other => Cow::Owned(other.to_string()),
        }
    }
    text(a) == text(b) || text(a.canonical()) == text(b.canonical())
}
