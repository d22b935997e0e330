//! Reads the answers of an agent, with bounded memory.
//!
//! An answer is at most [`MAX_ANSWER`] bytes of JSON, and its items may hold at most [`MAX_ITEMS`]
//! bytes. The parser keeps only the three fields that the source needs, and checks both limits before it
//! allocates.

use std::fmt;
use std::io::{self, Read};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use ureq::Body;
use ureq::http::Response;
use ureq::http::header::HeaderName;

use crate::error::{Error, ErrorKind};
use crate::format::MAX_DOCUMENT_BYTES;
use crate::sources::shared::http_client::{self, Limits};
use crate::sources::shared::kv::mirror::StoreEntry;

/// The most bytes of one answer: 10 MiB of values, in base64 and with their names, with room to spare.
const MAX_ANSWER: u64 = 32 << 20;

/// The most bytes that the items of one answer may hold, each counting its name, its value and
/// [`ITEM_BYTES`]. Somewhat more than may be in force fits, so that the mirror can name the excess.
const MAX_ITEMS: usize = MAX_DOCUMENT_BYTES / 4 * 5;

/// What an item counts besides its name and its value.
const ITEM_BYTES: usize = 32;

/// The longest name of an item. Messages quote names.
const MAX_NAME: usize = 8 << 10;

/// The most bytes that are read of a body that explains an error.
const MAX_TEXT: u64 = 4 << 10;

/// How far a server of a stale answer may be behind its leader.
const MAX_LAG: Duration = Duration::from_secs(5);

/// The headers of an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Head {
    pub(super) index: u64,
    /// Whether the agent has none of the requested keys.
    pub(super) is_absent: bool,
    /// Whether the ACL token hides keys.
    is_filtered: bool,
}

/// The result of a read.
pub(super) struct Listing {
    pub(super) index: u64,
    /// An error if the items exceed a limit; the index counts all the same.
    items: Result<Vec<Item>, Error>,
}

#[derive(Debug, Eq, PartialEq)]
struct Item {
    key: String,
    bytes: Vec<u8>,
    index: u64,
}

impl Listing {
    /// The keys and their values.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TooLarge`] if it exceeds a limit.
    pub(super) fn entries(&self) -> Result<impl Iterator<Item = StoreEntry<'_>>, Error> {
        let items = self.items.as_ref().map_err(Error::clone)?;
        Ok(items.iter().map(|item| StoreEntry {
            key: &item.key,
            bytes: &item.bytes,
            revision: item.index,
        }))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.as_ref().is_ok_and(Vec::is_empty)
    }
}

/// Reads an answer with keys and values.
///
/// # Errors
///
/// [`ErrorKind::Unavailable`] if the agent rejects the request, has no leader or hides keys;
/// [`ErrorKind::Malformed`] if it is no agent.
pub(super) fn read(response: Response<Body>, limits: Limits) -> Result<Listing, Error> {
    let (head, response) = head(response, limits)?;
    reject_filtered(head)?;
    let index = head.index;
    if head.is_absent {
        // An empty store is an answer as any other.
        discard(response, limits)?;
        let items = Ok(Vec::new());
        return Ok(Listing { index, items });
    }
    match body(response, limits).and_then(|bytes| items(&bytes)) {
        Err(fault) if fault.kind() != ErrorKind::TooLarge => Err(fault),
        items => Ok(Listing { index, items }),
    }
}

/// Reads the headers of an answer and discards its body; `None` if the ACL token hides a part of it, unless
/// all of it `is_wanted`.
///
/// # Errors
///
/// As [`read`].
pub(super) fn read_head(
    response: Response<Body>,
    limits: Limits,
    is_wanted: bool,
) -> Result<Option<Head>, Error> {
    let (head, response) = head(response, limits)?;
    if is_wanted {
        reject_filtered(head)?;
    }
    discard(response, limits)?;
    Ok(Some(head).filter(|head| !head.is_filtered))
}

/// Rejects an answer that omits keys.
fn reject_filtered(head: Head) -> Result<(), Error> {
    if head.is_filtered {
        return Err(http_client::unavailable(
            "the answer omits keys: the ACL token may not read all keys below the prefix",
        ));
    }
    Ok(())
}

/// The headers, and the response with its unread body.
fn head(response: Response<Body>, limits: Limits) -> Result<(Head, Response<Body>), Error> {
    let status = response.status().as_u16();
    let header = |name| http_client::text(&response, HeaderName::from_static(name));
    let is_filtered = header("x-consul-results-filtered-by-acls").is_some_and(|it| it == "true");
    let has_leader = header("x-consul-knownleader").is_none_or(|it| it == "true");
    let contact = header("x-consul-lastcontact").and_then(|it| it.parse().ok());
    let lag = Duration::from_millis(contact.unwrap_or(0));
    let index = header("x-consul-index").and_then(|index| index.parse().ok());
    let index = match (status, index) {
        (200 | 404, Some(index)) => index,
        (200 | 404, None) => {
            let detail = "the answer names no index: is this an agent of Consul?";
            return Err(Error::new(ErrorKind::Malformed, detail));
        }
        _ => return Err(rejected(status, &text(response, limits)?)),
    };
    if !has_leader || lag > MAX_LAG {
        let detail = format!("the server has been without its leader for {lag:?}");
        return Err(http_client::unavailable(detail));
    }
    let head = Head {
        index,
        is_absent: status == 404,
        is_filtered,
    };
    Ok((head, response))
}

fn explain(fault: io::Error, limits: Limits) -> Error {
    http_client::explain(ureq::Error::from(fault), limits, "the answer was complete")
}

/// The whole body, up to [`MAX_ANSWER`].
fn body(response: Response<Body>, limits: Limits) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let mut body = response.into_body().into_reader().take(MAX_ANSWER + 1);
    body.read_to_end(&mut bytes)
        .map_err(|fault| explain(fault, limits))?;
    if bytes.len() as u64 > MAX_ANSWER {
        return Err(too_large(&format!("more than {MAX_ANSWER} bytes")));
    }
    Ok(bytes)
}

/// The beginning of a body that explains an error.
fn text(response: Response<Body>, limits: Limits) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let mut body = response.into_body().into_reader().take(MAX_TEXT);
    body.read_to_end(&mut bytes)
        .map_err(|fault| explain(fault, limits))?;
    Ok(bytes)
}

/// Reads a body to its end, so that the connection can be used again, and keeps nothing of it.
pub(super) fn discard(response: Response<Body>, limits: Limits) -> Result<(), Error> {
    let mut body = response.into_body().into_reader().take(MAX_ANSWER);
    io::copy(&mut body, &mut io::sink())
        .map(drop)
        .map_err(|fault| explain(fault, limits))
}

/// The error of an answer with this status, and what may help.
fn rejected(status: u16, body: &[u8]) -> Error {
    let hint = match status {
        403 => "check the ACL token and its rules",
        429 => "send fewer requests",
        500 => "the servers have no leader, or the data centre is not known",
        _ => "see the log of the agent",
    };
    let text = String::from_utf8_lossy(body);
    let text = http_client::cut(text.lines().next().unwrap_or_default());
    http_client::answered(status, &text, hint)
}

fn too_large(what: &str) -> Error {
    let detail = format!(
        "the answer holds {what}, and {MAX_DOCUMENT_BYTES} bytes of names and values are the most \
         that is accepted: read a longer prefix"
    );
    Error::new(ErrorKind::TooLarge, detail)
}

/// The keys and values of an answer.
fn items(bytes: &[u8]) -> Result<Vec<Item>, Error> {
    let mut items = Items::default();
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let parsed = items.deserialize(&mut json).and_then(|()| json.end());
    match parsed {
        Ok(()) => Ok(items.all),
        Err(_) if items.is_over => Err(too_large(&format!("more than {MAX_ITEMS} bytes"))),
        // The text of the fault may quote a value.
        Err(fault) => {
            let (line, column) = (fault.line(), fault.column());
            let detail = format!(
                "the answer is no list of keys and values, at line {line} column {column}: is this \
                 an agent of Consul?"
            );
            Err(Error::new(ErrorKind::Malformed, detail))
        }
    }
}

/// The items that were parsed so far.
#[derive(Default)]
struct Items {
    all: Vec<Item>,
    /// What `all` holds, as [`MAX_ITEMS`] counts it.
    bytes: usize,
    /// Whether the next item would exceed [`MAX_ITEMS`].
    is_over: bool,
}

impl Items {
    /// Counts `bytes` more.
    fn count<E: serde::de::Error>(&mut self, bytes: usize) -> Result<(), E> {
        self.bytes = self.bytes.saturating_add(bytes);
        self.is_over = self.bytes > MAX_ITEMS;
        if self.is_over {
            return Err(E::custom("too many bytes"));
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for &mut Items {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for &mut Items {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of keys and values")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(item) = list.next_element_seed(OneItem(self))? {
            self.all.push(item);
        }
        Ok(())
    }
}

/// Parses one item, whose size counts with that of those before it.
struct OneItem<'a>(&'a mut Items);

impl<'de> DeserializeSeed<'de> for OneItem<'_> {
    type Value = Item;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Item, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for OneItem<'_> {
    type Value = Item;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key and its value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Item, A::Error> {
        let Self(items) = self;
        items.count(ITEM_BYTES)?;
        let (mut key, mut value, mut index) = (None, None, None);
        while let Some(field) = fields.next_key_seed(FieldName)? {
            match field {
                Field::Key => {
                    let text: String = fields.next_value()?;
                    if text.len() > MAX_NAME {
                        return Err(A::Error::custom("too long a name"));
                    }
                    items.count(text.len())?;
                    key = Some(text);
                }
                Field::Value => value = Some(fields.next_value_seed(Base64(items))?),
                Field::ModifyIndex => index = Some(fields.next_value()?),
                Field::Other => drop(fields.next_value::<IgnoredAny>()?),
            }
        }
        let missing = A::Error::missing_field;
        Ok(Item {
            key: key.ok_or_else(|| missing("Key"))?,
            bytes: value.ok_or_else(|| missing("Value"))?,
            index: index.ok_or_else(|| missing("ModifyIndex"))?,
        })
    }
}

enum Field {
    Key,
    Value,
    ModifyIndex,
    Other,
}

struct FieldName;

impl<'de> DeserializeSeed<'de> for FieldName {
    type Value = Field;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Field, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for FieldName {
    type Value = Field;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field")
    }

    fn visit_str<E>(self, name: &str) -> Result<Field, E> {
        Ok(match name {
            "Key" => Field::Key,
            "Value" => Field::Value,
            "ModifyIndex" => Field::ModifyIndex,
            _ => Field::Other,
        })
    }
}

/// Decodes a text in base64; `null` is no bytes.
struct Base64<'a>(&'a mut Items);

impl<'de> DeserializeSeed<'de> for Base64<'_> {
    type Value = Vec<u8>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<u8>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Base64<'_> {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text in base64, or null")
    }

    fn visit_unit<E>(self) -> Result<Vec<u8>, E> {
        Ok(Vec::new())
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Vec<u8>, E> {
        // Checked before the decoder allocates.
        self.0.count(text.len() / 4 * 3)?;
        STANDARD
            .decode(text)
            .map_err(|_| E::custom("no valid base64"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(bytes: &[u8]) -> Error {
        items(bytes).unwrap_err()
    }

    #[test]
    fn an_error_without_a_body_has_no_empty_parentheses() {
        for body in ["", "\nNo cluster leader", "  \n"] {
            let error = rejected(500, body.as_bytes()).to_string();
            assert!(error.contains("the answer is 500: "), "{body:?}: {error}");
        }
        let error = rejected(500, b"No cluster leader\n").to_string();
        assert!(error.contains("500 (No cluster leader): "), "{error}");
    }

    #[test]
    fn the_needed_fields_are_read_and_others_are_skipped() {
        let json = br#"[{"LockIndex":0,"Key":"a\u002fb","Flags":[{"x":{}}],"Value":"MQ==",
            "CreateIndex":7,"ModifyIndex":9},{"Key":"c","Value":null,"ModifyIndex":18446744073709551615}]"#;
        let item = |key: &str, bytes: &[u8], index| Item {
            key: key.to_owned(),
            bytes: bytes.to_owned(),
            index,
        };
        let all = [item("a/b", b"1", 9), item("c", b"", u64::MAX)];
        assert_eq!(items(json).unwrap(), all);
        assert_eq!(items(b"[]").unwrap(), []);
    }

    #[test]
    fn an_answer_that_is_no_list_of_keys_and_values_is_malformed_and_not_quoted() {
        let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
        let deep_field = [&br#"[{"x":"#[..], &deep, b"}]"].concat();
        let all: [&[u8]; 14] = [
            b"",
            b"null",
            b"{}",
            br#"{"":0}"#,
            b"[{}]",
            b"[1]",
            b"[{\"Key\":\"a\"",
            br#"[{"Key":"a","Value":"MQ=="}]"#,
            br#"[{"Key":"a","ModifyIndex":1}]"#,
            br#"[{"Key":"a","Value":"s3cret!","ModifyIndex":1}]"#,
            br#"[{"Key":"a","Value":7,"ModifyIndex":1}]"#,
            br#"[{"Key":"a","Value":null,"ModifyIndex":"s3cret"}]"#,
            &deep,
            &deep_field,
        ];
        for json in all {
            let fault = fault(json);
            assert_eq!(fault.kind(), ErrorKind::Malformed, "{fault}");
            let text = fault.to_string();
            assert!(
                text.contains("agent of Consul") && !text.contains("s3cret"),
                "{text}"
            );
        }
    }

    #[test]
    fn items_count_with_their_names_and_values_up_to_a_limit() {
        let one = r#"{"Key":"k","Value":null,"ModifyIndex":1}"#;
        let list = |count: usize| format!("[{}]", vec![one; count].join(","));
        let most = MAX_ITEMS / (ITEM_BYTES + 1);
        assert_eq!(items(list(most).as_bytes()).unwrap().len(), most);
        assert_eq!(fault(list(most + 1).as_bytes()).kind(), ErrorKind::TooLarge);
        let name = "k".repeat(MAX_NAME + 1);
        let json = format!(r#"[{{"Key":"{name}","Value":null,"ModifyIndex":1}}]"#);
        assert_eq!(fault(json.as_bytes()).kind(), ErrorKind::Malformed);
        let value = "A".repeat(MAX_ITEMS / 3 * 4 + 4);
        let json = format!(r#"[{{"Key":"k","Value":"{value}","ModifyIndex":1}}]"#);
        assert_eq!(fault(json.as_bytes()).kind(), ErrorKind::TooLarge);
    }
}
