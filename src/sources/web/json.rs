//! Answers in JSON, as the interfaces of stores give them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
#[cfg(feature = "etcd")]
use serde_core::de::DeserializeSeed;
use serde_json::Value;

use crate::error::{Error, ErrorKind};

/// Reads an answer; what it holds is not quoted where it is not JSON.
#[cfg(feature = "consul")]
pub(crate) fn parse(bytes: &[u8]) -> Result<Value, Error> {
    serde_json::from_slice(bytes).map_err(|fault| invalid(&fault))
}

/// Reads an answer in one pass, which keeps of it what the visitor does; an error of what it holds is
/// `malformed`.
#[cfg(feature = "etcd")]
pub(crate) fn visit<'de>(
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

/// What is no JSON; nothing of it is quoted.
fn invalid(fault: &serde_json::Error) -> Error {
    let (line, column) = (fault.line(), fault.column());
    let detail = format!("the answer is not valid JSON, at line {line} column {column}");
    Error::new(ErrorKind::Malformed, detail)
}

/// The bytes of a text in base64; nothing is no bytes.
#[cfg(feature = "consul")]
pub(crate) fn bytes(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::Null => Some(Vec::new()),
        Value::String(text) => STANDARD.decode(text).ok(),
        _ => None,
    }
}

/// The bytes of a text in base64.
#[cfg(feature = "etcd")]
pub(crate) fn from_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
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
#[cfg(feature = "consul")]
pub(crate) struct Object<'a>(&'a serde_json::Map<String, Value>);

#[cfg(feature = "consul")]
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
