//! Parses the answers of etcd's JSON gateway.
//!
//! An answer is parsed in one pass that keeps the needed fields and skips the others. So it takes no more
//! memory than its text and the limits of the kept fields.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use crate::error::{Error, ErrorKind};
use crate::sources::etcd::client::{EtcdError, Event, Header, Item, Listing, Message, ended};
use crate::sources::etcd::json;
use crate::sources::shared::kv::mirror::{KEY_BYTES, MAX_KEPT_BYTES, MAX_KEPT_KEYS};

/// Parses the result of a read.
pub(super) fn listing(answer: &[u8]) -> Result<Listing, Error> {
    let mut fields = ListingFields::default();
    match parse_object(answer, &mut fields) {
        Err(_) if fields.budget.is_over => {
            let detail = format!(
                "the answer holds more than {MAX_KEPT_BYTES} bytes, which is the most that is read"
            );
            return Err(Error::new(ErrorKind::TooLarge, detail));
        }
        outcome => outcome?,
    }
    Ok(Listing {
        header: fields.header.finish().ok_or_else(malformed)?,
        count: fields.count,
        items: fields.items,
    })
}

/// Parses a line of a stream.
pub(super) fn message(line: &[u8]) -> Result<Message, EtcdError> {
    let mut fields = LineFields::default();
    let outcome = parse_object(line, &mut fields);
    let result = match (fields.error, fields.result) {
        (_, Some(result)) if result.budget.is_over => return Ok(Message::TooLarge),
        (Some(error), _) => return outcome.map_err(EtcdError::from).and(Err(ended(&error))),
        (None, Some(result)) => outcome.map(|()| result)?,
        (None, None) => return Err(outcome.err().unwrap_or_else(malformed).into()),
    };
    // A stream that is canceled at once is created as well.
    if result.compacted > 0 {
        return Ok(Message::Compacted);
    }
    if result.canceled {
        return Err(ended(&result.reason));
    }
    if result.created {
        let header = result.header.finish().ok_or_else(malformed)?;
        return Ok(Message::Created(header));
    }
    Ok(Message::Events(result.events))
}

/// Parses the token of a login.
pub(super) fn token(answer: &[u8]) -> Result<String, Error> {
    let mut fields = TextFields::of("token");
    parse_object(answer, &mut fields)?;
    fields.text.ok_or_else(malformed)
}

/// Parses the message of an error, if it is text.
pub(super) fn error_message(answer: &[u8]) -> Option<String> {
    ["message", "error"].into_iter().find_map(|name| {
        let mut fields = TextFields::of(name);
        parse_object(answer, &mut fields).ok()?;
        fields.text
    })
}

pub(super) fn malformed() -> Error {
    let detail =
        "the answer has not the expected fields: is this the JSON gateway of etcd 3.4 or newer?";
    Error::new(ErrorKind::Malformed, detail)
}

/// Parses an answer, which is an object.
fn parse_object<'de>(answer: &'de [u8], fields: &mut impl Fields<'de>) -> Result<(), Error> {
    json::visit(answer, Object(fields), malformed)
}

/// The memory that the kept fields of an answer may still take.
struct Budget {
    left: usize,
    keys_left: usize,
    is_over: bool,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            left: MAX_KEPT_BYTES,
            keys_left: MAX_KEPT_KEYS,
            is_over: false,
        }
    }
}

impl Budget {
    /// Spends the memory of one more key; `None` if too little is left.
    fn spend(&mut self, item: &Item) -> Option<()> {
        let name = item.key.as_ref().map_or(0, String::len);
        let left = self.left.checked_sub(KEY_BYTES + name + item.bytes.len());
        let keys_left = self.keys_left.checked_sub(1);
        self.is_over |= left.is_none() || keys_left.is_none();
        (self.left, self.keys_left) = (left?, keys_left?);
        Some(())
    }
}

/// The needed fields of an object.
trait Fields<'de> {
    /// Parses the value of a field, or skips it.
    fn parse<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error>;
}

/// Parses an object.
struct Object<'a, F>(&'a mut F);

impl<'de, F: Fields<'de>> DeserializeSeed<'de> for Object<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        value.deserialize_map(self)
    }
}

impl<'de, F: Fields<'de>> Visitor<'de> for Object<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<Scalar<'de>>()? {
            self.0.parse(name.text().unwrap_or_default(), &mut map)?;
        }
        Ok(())
    }
}

fn skip<'de, A: MapAccess<'de>>(map: &mut A) -> Result<(), A::Error> {
    map.next_value::<IgnoredAny>().map(drop)
}

/// Parses a list, and passes one element after the other to a function, which returns `None` to reject it.
struct List<'a, T>(&'a mut dyn FnMut(T) -> Option<()>);

impl<'de, T: Fields<'de> + Default> DeserializeSeed<'de> for List<'_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        value.deserialize_seq(self)
    }
}

impl<'de, T: Fields<'de> + Default> Visitor<'de> for List<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        loop {
            let mut element = T::default();
            if list.next_element_seed(Object(&mut element))?.is_none() {
                return Ok(());
            }
            let fault = || A::Error::custom("an element is rejected");
            (self.0)(element).ok_or_else(fault)?;
        }
    }
}

/// A value that is no object and no list.
enum Scalar<'de> {
    Null,
    Bool(bool),
    Number(u64),
    Text(Cow<'de, str>),
    /// Another value, which was skipped.
    Other,
}

impl Scalar<'_> {
    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A whole number, which may be written as text.
    fn number(&self) -> Option<u64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// The bytes of a text in base64; `null` is no bytes.
    fn bytes(&self) -> Option<Vec<u8>> {
        match self {
            Self::Null => Some(Vec::new()),
            Self::Text(text) => json::from_base64(text),
            _ => None,
        }
    }

    fn is_true(&self) -> bool {
        matches!(self, Self::Bool(true))
    }
}

impl<'de> Deserialize<'de> for Scalar<'de> {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        value.deserialize_any(AnyScalar)
    }
}

struct AnyScalar;

impl<'de> Visitor<'de> for AnyScalar {
    type Value = Scalar<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Scalar::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Scalar::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Scalar::Number(value))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Scalar::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Scalar::Other)
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
        IgnoredAny.visit_seq(list).map(|_| Scalar::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        IgnoredAny.visit_map(map).map(|_| Scalar::Other)
    }
}

/// The header of every answer.
#[derive(Default)]
struct HeaderFields {
    cluster: Option<u64>,
    // The gateway omits fields that are 0.
    term: u64,
    revision: u64,
}

impl HeaderFields {
    fn finish(&self) -> Option<Header> {
        Some(Header {
            cluster: self.cluster?,
            term: self.term,
            revision: self.revision,
        })
    }
}

impl<'de> Fields<'de> for HeaderFields {
    fn parse<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "cluster_id" => self.cluster = map.next_value::<Scalar<'_>>()?.number(),
            "raft_term" => self.term = map.next_value::<Scalar<'_>>()?.number().unwrap_or(0),
            "revision" => self.revision = map.next_value::<Scalar<'_>>()?.number().unwrap_or(0),
            _ => skip(map)?,
        }
        Ok(())
    }
}

/// A key with its value.
#[derive(Default)]
struct ItemFields {
    key: Option<Vec<u8>>,
    bytes: Option<Vec<u8>>,
    revision: Option<u64>,
    version: u64,
    is_broken: bool,
}

impl ItemFields {
    fn finish(self) -> Option<Item> {
        // No key has an empty name.
        let key = self.key.filter(|key| !key.is_empty() && !self.is_broken)?;
        Some(Item {
            key: String::from_utf8(key).ok(),
            bytes: self.bytes.unwrap_or_default(),
            revision: self.revision?,
            is_new: self.version == 1,
        })
    }
}

impl<'de> Fields<'de> for ItemFields {
    fn parse<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "key" => self.key = map.next_value::<Scalar<'_>>()?.bytes(),
            "value" => {
                self.bytes = map.next_value::<Scalar<'_>>()?.bytes();
                self.is_broken |= self.bytes.is_none();
            }
            "mod_revision" => self.revision = map.next_value::<Scalar<'_>>()?.number(),
            "version" => self.version = map.next_value::<Scalar<'_>>()?.number().unwrap_or(0),
            _ => skip(map)?,
        }
        Ok(())
    }
}

#[derive(Default)]
struct EventFields {
    item: Option<ItemFields>,
    is_deleted: bool,
}

impl EventFields {
    fn finish(self) -> Option<Event> {
        Some(Event {
            item: self.item?.finish()?,
            is_deleted: self.is_deleted,
        })
    }
}

impl<'de> Fields<'de> for EventFields {
    fn parse<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "type" => self.is_deleted = map.next_value::<Scalar<'_>>()?.text() == Some("DELETE"),
            "kv" => {
                let item = self.item.insert(ItemFields::default());
                map.next_value_seed(Object(item))?;
            }
            _ => skip(map)?,
        }
        Ok(())
    }
}

/// An answer to a read.
#[derive(Default)]
struct ListingFields {
    header: HeaderFields,
    count: u64,
    items: Vec<Item>,
    budget: Budget,
}

impl<'de> Fields<'de> for ListingFields {
    fn parse<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "header" => map.next_value_seed(Object(&mut self.header))?,
            "count" => self.count = map.next_value::<Scalar<'_>>()?.number().unwrap_or(0),
            "kvs" => {
                let (items, budget) = (&mut self.items, &mut self.budget);
                map.next_value_seed(List(&mut |fields: ItemFields| {
                    let item = fields.finish()?;
                    budget.spend(&item)?;
                    items.push(item);
                    Some(())
                }))?;
            }
            _ => skip(map)?,
        }
        Ok(())
    }
}

/// A line of a stream: a result or an error.
#[derive(Default)]
struct LineFields {
    result: Option<ResultFields>,
    error: Option<String>,
}

impl<'de> Fields<'de> for LineFields {
    fn parse<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "result" => {
                let result = self.result.insert(ResultFields::default());
                map.next_value_seed(Object(result))?;
            }
            "error" => {
                let mut fields = TextFields::of("message");
                map.next_value_seed(Object(&mut fields))?;
                self.error = Some(fields.text.unwrap_or_default());
            }
            _ => skip(map)?,
        }
        Ok(())
    }
}

#[derive(Default)]
struct ResultFields {
    header: HeaderFields,
    created: bool,
    canceled: bool,
    reason: String,
    compacted: u64,
    events: Vec<Event>,
    budget: Budget,
}

impl<'de> Fields<'de> for ResultFields {
    fn parse<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "header" => map.next_value_seed(Object(&mut self.header))?,
            "created" => self.created = map.next_value::<Scalar<'_>>()?.is_true(),
            "canceled" => self.canceled = map.next_value::<Scalar<'_>>()?.is_true(),
            "cancel_reason" => {
                let reason = map.next_value::<Scalar<'_>>()?;
                self.reason = reason.text().unwrap_or_default().to_owned();
            }
            "compact_revision" => {
                self.compacted = map.next_value::<Scalar<'_>>()?.number().unwrap_or(0);
            }
            "events" => {
                let (events, budget) = (&mut self.events, &mut self.budget);
                map.next_value_seed(List(&mut |fields: EventFields| {
                    let event = fields.finish()?;
                    budget.spend(&event.item)?;
                    events.push(event);
                    Some(())
                }))?;
            }
            _ => skip(map)?,
        }
        Ok(())
    }
}

/// One field that is text.
struct TextFields {
    name: &'static str,
    text: Option<String>,
}

impl TextFields {
    fn of(name: &'static str) -> Self {
        Self { name, text: None }
    }
}

impl<'de> Fields<'de> for TextFields {
    fn parse<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        if name != self.name {
            return skip(map);
        }
        self.text = map.next_value::<Scalar<'_>>()?.text().map(str::to_owned);
        Ok(())
    }
}
