//! What a property can hold: [`Value`], [`Key`], [`Origin`], and the trees made of them.

use std::collections::BTreeMap;
use std::fmt;

use crate::error::{Error, ErrorKind};
use crate::value::key::MAX_DEPTH;
use crate::value::spelled::Spelled;

pub(crate) mod document;
pub(crate) mod envname;
pub(crate) mod fields;
pub(crate) mod hamt;
pub(crate) mod key;
pub(crate) mod literal;
pub(crate) mod name;
pub(crate) mod node;
pub(crate) mod origin;
pub(crate) mod percent;
pub(crate) mod plain;
pub(crate) mod scan;
pub(crate) mod secret;
pub(crate) mod spelled;
pub(crate) mod units;
pub(crate) mod unread;

/// The largest single value.
const MAX_VALUE_BYTES: usize = 10 * 1024 * 1024;

/// A value as a source wrote it, before it becomes the type a program asks for.
///
/// Text stays text: `"007"` from the environment is a number for who asks for a number, and three
/// characters for who asks for text. A number or a boolean keeps its spelling: `3.10` in a file is
/// the number 3.1 for who asks for a number, and `3.10` for who asks for text.
///
/// Two values are equal if they are written the same, so `1_000` differs from `1000`. Compare
/// [`canonical`](Self::canonical) forms where the spelling does not matter.
///
/// ```
/// use liveprops::Value;
///
/// assert_eq!(Value::from(500u32), Value::Int(500));
/// assert_eq!(Value::from("500").to_string(), "\"500\"");
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Value {
    /// A tombstone: the key reads as absent although lower layers define it.
    Unset,
    /// A boolean.
    Bool(bool),
    /// An integer that fits 64 signed bits.
    Int(i64),
    /// An integer that does not.
    Big(Box<i128>),
    /// A floating-point number.
    Float(f64),
    /// A number or a boolean that is not written in its canonical form, with the text as written.
    Spelled(Box<Spelled>),
    /// Text; also dates and times, as in RFC 3339.
    Text(Box<str>),
    /// A list. It replaces the list of a lower layer as a whole.
    List(Box<[Value]>),
    /// Keys and values inside a list. Given to a setter it becomes a subtree.
    Table(Box<BTreeMap<Box<str>, Value>>),
}

impl Value {
    /// The word for this kind of value in a message.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Value::Unset => "nothing",
            Value::Bool(_) => "boolean",
            Value::Int(_) | Value::Big(_) => "integer",
            Value::Float(_) => "float",
            Value::Spelled(spelled) => spelled.value().kind(),
            Value::Text(_) => "text",
            Value::List(_) => "list",
            Value::Table(_) => "table",
        }
    }

    /// The value at a path inside this one: list items by index, table fields by name.
    pub(crate) fn descend<S: AsRef<str>>(
        &self,
        segments: impl IntoIterator<Item = S>,
    ) -> Option<&Value> {
        let mut value = self;
        for segment in segments {
            let segment = segment.as_ref();
            value = match value {
                Value::List(items) => items.get(key::list_index(segment)?)?,
                Value::Table(fields) => fields.get(segment)?,
                _ => return None,
            };
        }
        (!matches!(value, Value::Unset)).then_some(value)
    }

    /// Whether a `${reference}` may hide in here.
    pub(crate) fn may_refer(&self) -> bool {
        match self {
            Value::Text(text) => text.as_bytes().contains(&b'$') && text.contains("${"),
            Value::List(items) => self.cases().is_some() || items.iter().any(Value::may_refer),
            Value::Table(fields) => fields.values().any(Value::may_refer),
            _ => false,
        }
    }

    /// The cases of a contextual value: a list of tables of a `value` and, but for the last
    /// resort, an `if` with the keys that must have certain values.
    pub(crate) fn cases(&self) -> Option<Vec<Case<'_>>> {
        let Value::List(items) = self else {
            return None;
        };
        let cases: Vec<Case<'_>> = items.iter().map(case).collect::<Option<_>>()?;
        cases
            .iter()
            .any(|(wanted, _)| wanted.is_some())
            .then_some(cases)
    }

    /// What it holds, in bytes; a number is 8, an item of a list 16 more.
    fn bytes(&self) -> usize {
        match self {
            Value::Text(text) => text.len(),
            Value::Spelled(spelled) => 8 + spelled.as_str().len(),
            Value::List(items) => items.iter().map(|item| 16 + item.bytes()).sum(),
            Value::Table(fields) => {
                let sizes = fields
                    .iter()
                    .map(|(name, value)| name.len() + value.bytes());
                sizes.sum()
            }
            _ => 8,
        }
    }

    /// Refuses a value that is nested too deep below so many levels, or too large.
    pub(crate) fn check(&self, above: usize) -> Result<(), Error> {
        if above + self.depth() > MAX_DEPTH {
            let detail = format!("nested deeper than {MAX_DEPTH} levels");
            return Err(Error::new(ErrorKind::TooLarge, detail));
        }
        let bytes = self.bytes();
        if bytes > MAX_VALUE_BYTES {
            let detail = format!("a value of {bytes} bytes, expected at most {MAX_VALUE_BYTES}");
            return Err(Error::new(ErrorKind::TooLarge, detail));
        }
        Ok(())
    }

    /// How many values this is and holds; the names of tables are none.
    pub(crate) fn count(&self) -> usize {
        match self {
            Value::List(items) => count(items),
            Value::Table(fields) => 1 + fields.values().map(Value::count).sum::<usize>(),
            _ => 1,
        }
    }

    /// How many values of a list come before the one at a path, the list itself included. The fields
    /// of a table come in the order of their names.
    fn position<S: AsRef<str>>(&self, path: &[S]) -> Option<usize> {
        let Some((name, rest)) = path.split_first() else {
            return Some(0);
        };
        let name = name.as_ref();
        let (before, below) = match self {
            Value::List(items) => return position(items, path),
            Value::Table(fields) => {
                let before = fields.iter().take_while(|(field, _)| ***field < *name);
                let before: usize = before.map(|(_, value)| value.count()).sum();
                (before, fields.get(name)?)
            }
            _ => return None,
        };
        Some(1 + before + below.position(rest)?)
    }

    /// The tables and lists this value nests, itself included.
    pub(crate) fn depth(&self) -> usize {
        match self {
            Value::List(items) => 1 + items.iter().map(Value::depth).max().unwrap_or(0),
            Value::Table(fields) => 1 + fields.values().map(Value::depth).max().unwrap_or(0),
            _ => 0,
        }
    }
}

/// As [`Value::count`], of a list.
pub(crate) fn count(items: &[Value]) -> usize {
    1 + items.iter().map(Value::count).sum::<usize>()
}

/// As [`Value::position`], in a list.
pub(crate) fn position<S: AsRef<str>>(items: &[Value], path: &[S]) -> Option<usize> {
    let Some((index, rest)) = path.split_first() else {
        return Some(0);
    };
    let index: usize = index.as_ref().parse().ok()?;
    let (before, from) = items.split_at_checked(index)?;
    Some(count(before) + from.first()?.position(rest)?)
}

/// An item of a contextual value.
pub(crate) fn case(item: &Value) -> Option<Case<'_>> {
    let Value::Table(fields) = item else {
        return None;
    };
    let value = fields.get("value")?;
    match (fields.get("if"), fields.len()) {
        (None, 1) => Some((None, value)),
        (Some(Value::Table(wanted)), 2) => Some((Some(&**wanted), value)),
        _ => None,
    }
}

/// What keeps a list from being a contextual value, if it looks like one.
pub(crate) fn malformed_case(items: &[Value]) -> Option<String> {
    let tables = items.iter().map(|item| match item {
        Value::Table(fields) => Some(&**fields),
        _ => None,
    });
    let tables: Vec<_> = tables.collect::<Option<_>>()?;
    let looks_like = |name| tables.iter().any(|fields| fields.contains_key(name));
    if !looks_like("if") && !looks_like("value") {
        return None;
    }
    let fault = |fields: &BTreeMap<Box<str>, Value>| {
        let other = fields
            .keys()
            .find(|name| !matches!(&***name, "if" | "value"));
        match (other, fields.get("if"), fields.get("value")) {
            (Some(other), _, _) => Some(format!("has `{other}`")),
            (None, _, None) => Some("has no `value`".to_owned()),
            (None, None | Some(Value::Table(_)), Some(_)) => None,
            (None, Some(_), Some(_)) => Some("has an `if` that is no table".to_owned()),
        }
    };
    let mut faults = tables.iter().enumerate();
    let faulty = faults.find_map(|(at, fields)| fault(fields).map(|fault| (at, fault)));
    let fault = match faulty {
        Some((at, fault)) => format!("case {at} {fault}"),
        None => "no case has an `if`".to_owned(),
    };
    Some(format!(
        "the list looks like a contextual value, and {fault}; a case has a table `if` and a `value`"
    ))
}

/// What must hold, and the value if it does.
pub(crate) type Case<'a> = (Option<&'a BTreeMap<Box<str>, Value>>, &'a Value);

impl PartialEq for Value {
    /// Whether both are written the same. Floats compare by their bits: a value that did not change
    /// is equal to itself, even if it is not a number.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Value::Unset, Value::Unset) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Int(a), Value::Int(b)) => a == b,
            (Value::Big(a), Value::Big(b)) => a == b,
            (Value::Float(a), Value::Float(b)) => a.to_bits() == b.to_bits(),
            (Value::Spelled(a), Value::Spelled(b)) => a == b,
            (Value::Text(a), Value::Text(b)) => a == b,
            (Value::List(a), Value::List(b)) => a == b,
            (Value::Table(a), Value::Table(b)) => a == b,
            _ => false,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Unset => f.write_str("unset"),
            Value::Bool(value) => write!(f, "{value}"),
            Value::Int(value) => write!(f, "{value}"),
            Value::Big(value) => write!(f, "{value}"),
            Value::Float(value) => write!(f, "{value:?}"),
            Value::Spelled(value) => f.write_str(value.as_str()),
            Value::Text(value) => write!(f, "{value:?}"),
            Value::List(items) => {
                f.write_str("[")?;
                for (i, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if i == 0 { "" } else { ", " })?;
                }
                f.write_str("]")
            }
            Value::Table(fields) => {
                f.write_str("{")?;
                for (i, (name, value)) in fields.iter().enumerate() {
                    write!(f, "{}{name} = {value}", if i == 0 { "" } else { ", " })?;
                }
                f.write_str("}")
            }
        }
    }
}

macro_rules! small_integers {
    ($($t:ty)*) => {$(
        impl From<$t> for Value {
            fn from(value: $t) -> Self {
                Value::Int(i64::from(value))
            }
        }
    )*};
}
small_integers!(i8 i16 i32 i64 u8 u16 u32);

impl From<i128> for Value {
    fn from(value: i128) -> Self {
        match i64::try_from(value) {
            Ok(small) => Value::Int(small),
            Err(_) => Value::Big(Box::new(value)),
        }
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Value::from(i128::from(value))
    }
}

impl From<u128> for Value {
    /// Beyond `i128::MAX` the digits are kept as text, which reads back as the same number.
    fn from(value: u128) -> Self {
        match i128::try_from(value) {
            Ok(fits) => Value::from(fits),
            Err(_) => Value::Text(value.to_string().into()),
        }
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Self {
        Value::from(value as u128)
    }
}

impl From<isize> for Value {
    fn from(value: isize) -> Self {
        Value::from(value as i128)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Value::Float(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Value::Bool(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Value::Text(value.into())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Value::Text(value.into())
    }
}

impl<V: Into<Value>> From<Vec<V>> for Value {
    fn from(value: Vec<V>) -> Self {
        Value::List(value.into_iter().map(Into::into).collect())
    }
}

impl<V: Into<Value>, const N: usize> From<[V; N]> for Value {
    fn from(value: [V; N]) -> Self {
        Value::List(value.into_iter().map(Into::into).collect())
    }
}

impl<K: Into<Box<str>>, V: Into<Value>> From<BTreeMap<K, V>> for Value {
    fn from(value: BTreeMap<K, V>) -> Self {
        let fields = value.into_iter().map(|(k, v)| (k.into(), v.into()));
        Value::Table(Box::new(fields.collect()))
    }
}

impl<'de> serde::de::Deserialize<'de> for Value {
    fn deserialize<D: serde::de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> serde::de::Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u128<E>(self, value: u128) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Unset)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Unset)
    }

    fn visit_some<D: serde::de::Deserializer<'de>>(self, inner: D) -> Result<Value, D::Error> {
        serde::de::Deserialize::deserialize(inner)
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list.into()))
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut fields = BTreeMap::new();
        while let Some((name, value)) = entries.next_entry::<Box<str>, Value>()? {
            fields.insert(name, value);
        }
        Ok(Value::Table(Box::new(fields)))
    }
}
