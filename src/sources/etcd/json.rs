//! JSON and base64 of etcd's gateway.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeSeed;
use serde_json::Value;

use crate::error::{Error, ErrorKind};

/// Parses an answer in one pass with a visitor. An error of its fields becomes `malformed`.
pub(super) fn visit<'de>(
    bytes: &'de [u8],
    visitor: impl DeserializeSeed<'de, Value = ()>,
    malformed: impl FnOnce() -> Error,
) -> Result<(), Error> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let outcome = visitor.deserialize(&mut json);
    let outcome = outcome.and_then(|()| json.end());
    outcome.map_err(|fault| match fault.classify() {
        serde_json::error::Category::Data => malformed(),
        _ => invalid(&fault),
    })
}

/// The error of an answer that is no JSON. It does not quote the answer.
fn invalid(fault: &serde_json::Error) -> Error {
    let (line, column) = (fault.line(), fault.column());
    let detail = format!("the answer is not valid JSON, at line {line} column {column}");
    Error::new(ErrorKind::Malformed, detail)
}

/// The bytes of a text in base64.
pub(super) fn from_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// Bytes in base64.
pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// A text as a JSON string, with its quotes.
pub(super) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}
