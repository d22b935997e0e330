//! Answers in JSON, as the interfaces of stores give them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
pub(crate) use serde_json::Value;

use crate::error::{Error, ErrorKind};

/// The most objects and lists of an answer. A store tells each key as an object, and 10 MiB of a source
/// are fewer keys than this.
const MAX_OBJECTS: usize = 400_000;

/// The most values of an answer: several for each key.
const MAX_VALUES: usize = 10 * MAX_OBJECTS;

/// Reads an answer; what it holds is not quoted where it is not JSON.
///
/// # Errors
///
/// [`ErrorKind::TooLarge`] for more objects or values than any store has to tell: an object takes a
/// hundred times as much memory as the shortest text of one.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value, Error> {
    refuse_too_many(bytes)?;
    serde_json::from_slice(bytes).map_err(|fault| {
        let detail = format!(
            "the answer is not valid JSON, at line {} column {}",
            fault.line(),
            fault.column()
        );
        Error::new(ErrorKind::Malformed, detail)
    })
}

/// Counts what is not text in one pass, before anything is built.
fn refuse_too_many(bytes: &[u8]) -> Result<(), Error> {
    let (mut objects, mut values, mut at) = (0usize, 0usize, 0usize);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'{' | b'[' => objects += 1,
            b',' => values += 1,
            b'"' => at = end_of_text(bytes, at),
            _ => {}
        }
        at += 1;
    }
    if objects > MAX_OBJECTS || values > MAX_VALUES {
        let detail = format!(
            "the answer has more than {MAX_OBJECTS} objects and lists, or more than {MAX_VALUES} values"
        );
        return Err(Error::new(ErrorKind::TooLarge, detail));
    }
    Ok(())
}

/// Where the text ends that begins with the quote at `at`.
fn end_of_text(bytes: &[u8], at: usize) -> usize {
    let mut at = at + 1;
    loop {
        match bytes.get(at) {
            Some(b'\\') => at += 2,
            Some(b'"') | None => return at,
            Some(_) => at += 1,
        }
    }
}

/// The bytes of a text in base64; nothing is no bytes.
pub(crate) fn bytes(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::Null => Some(Vec::new()),
        Value::String(text) => STANDARD.decode(text).ok(),
        _ => None,
    }
}

/// Bytes in base64.
#[cfg(feature = "etcd")]
pub(crate) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// A text as JSON has it, with its quotes.
#[cfg(feature = "etcd")]
pub(crate) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// The fields of an object.
pub(crate) struct Object<'a>(&'a serde_json::Map<String, Value>);

impl<'a> Object<'a> {
    pub(crate) fn of(value: &'a Value) -> Option<Self> {
        value.as_object().map(Self)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&'a Value> {
        self.0.get(name)
    }

    pub(crate) fn text(&self, name: &str) -> Option<&'a str> {
        self.get(name)?.as_str()
    }

    /// A whole number, which may stand there as text.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        let value = self.get(name)?;
        value.as_u64().or_else(|| value.as_str()?.parse().ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_with_more_objects_or_values_than_any_store_has_is_refused() {
        for (piece, count) in [
            ("{\"\":0}", MAX_OBJECTS),
            ("[]", MAX_OBJECTS),
            ("0", MAX_VALUES + 1),
        ] {
            let list = |count: usize| format!("[{}0]", format!("{piece},").repeat(count));
            let error = parse(list(count).as_bytes()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TooLarge, "{piece}");
        }
        let text = format!(
            "[\"{}\\\\\\\"{}\"]",
            "{".repeat(MAX_OBJECTS),
            "[,".repeat(MAX_OBJECTS)
        );
        assert!(parse(text.as_bytes()).is_ok(), "brackets in text are none");
        for text in ["\"", "\"\\", "[\"\\\"", ""] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
