//! Values: [`Value`], [`Key`], [`Origin`], and the trees made of them.

use std::fmt;

use crate::error::{Error, ErrorKind};
use crate::value::key::MAX_DEPTH;
use crate::value::scalar::{Bool, Number, Repr};
use crate::value::spelled::Spelled;
use crate::value::table::Table;

mod convert;
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
pub(crate) mod scalar;
pub(crate) mod scan;
pub(crate) mod secret;
pub(crate) mod spelled;
pub(crate) mod table;
pub(crate) mod units;
pub(crate) mod unread;

/// The largest single value.
const MAX_VALUE_BYTES: usize = 10 * 1024 * 1024;

/// A value as a source wrote it, before it becomes the type a program asks for.
///
/// Text stays text: `"007"` from the environment reads as a number or as three characters, as the program
/// asks. A number or a boolean keeps its spelling: `3.10` in a file reads as the number 3.1 or as the text
/// `3.10`.
///
/// Two values are equal if they are written the same, so `1_000` differs from `1000`. Compare
/// [`canonical`](Self::canonical) forms where the spelling does not matter.
///
/// ```
/// use liveprops::Value;
///
/// let qps = Value::from(500);
/// assert_eq!(qps.as_i64(), Some(500));
/// assert_eq!(Value::from("500").as_i64(), None, "text stays text");
/// assert_eq!(Value::from("500").to_string(), "\"500\"");
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Value {
    /// A tombstone: the key reads as absent although lower layers define it.
    Unset,
    /// A boolean, with its spelling.
    Bool(Bool),
    /// An integer or a floating-point number, with its spelling.
    Number(Number),
    /// Text; also dates and times, as in RFC 3339.
    Text(Box<str>),
    /// A list. It replaces the list of a lower layer as a whole.
    List(Box<[Value]>),
    /// Keys and values inside a list. Given to a setter it becomes a subtree.
    Table(Table),
}

impl Value {
    /// Returns whether this is a tombstone.
    pub fn is_unset(&self) -> bool {
        matches!(self, Value::Unset)
    }

    /// Returns the boolean, however it is spelled. The texts `"true"` and `"on"` and the number 1 are
    /// no booleans.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(value) => Some(value.get()),
            _ => None,
        }
    }

    /// Returns the text. A number or a boolean is no text; `to_string` shows it as it is written.
    ///
    /// ```
    /// use liveprops::Value;
    ///
    /// assert_eq!(Value::from("abc").as_str(), Some("abc"));
    /// assert_eq!(Value::from(5).as_str(), None);
    /// ```
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the integer if it fits, however it is spelled: `0x10` is 16. The text `"5"` and the
    /// float `5.0` are no integers; read the key as an `i64` for that.
    ///
    /// ```
    /// use liveprops::Value;
    ///
    /// assert_eq!(Value::from(16).with_spelling("0x10").as_i64(), Some(16));
    /// assert_eq!(Value::from(u64::MAX).as_i64(), None);
    /// assert_eq!(Value::from("5").as_i64(), None);
    /// assert_eq!(Value::from(5.0).as_i64(), None);
    /// ```
    pub fn as_i64(&self) -> Option<i64> {
        self.as_number()?.as_i64()
    }

    /// Returns the integer if it fits; see [`as_i64`](Self::as_i64).
    pub fn as_u64(&self) -> Option<u64> {
        self.as_number()?.as_u64()
    }

    /// Returns the integer; see [`as_i64`](Self::as_i64).
    pub fn as_i128(&self) -> Option<i128> {
        self.as_number()?.as_i128()
    }

    /// Returns the number as a float, however it is spelled. An integer counts if a float has exactly its
    /// value, as all integers up to 2^53.
    ///
    /// ```
    /// use liveprops::Value;
    ///
    /// assert_eq!(Value::from(0.5).as_f64(), Some(0.5));
    /// assert_eq!(Value::from(5).as_f64(), Some(5.0));
    /// assert_eq!(Value::from((1u64 << 53) + 1).as_f64(), None);
    /// ```
    pub fn as_f64(&self) -> Option<f64> {
        self.as_number()?.as_f64()
    }

    /// Returns the number.
    pub fn as_number(&self) -> Option<&Number> {
        match self {
            Value::Number(number) => Some(number),
            _ => None,
        }
    }

    /// Returns the items of the list. The text `"a, b"` is no list.
    pub fn as_list(&self) -> Option<&[Value]> {
        match self {
            Value::List(items) => Some(items),
            _ => None,
        }
    }

    /// Returns the table.
    pub fn as_table(&self) -> Option<&Table> {
        match self {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    /// The spelling of a number or a boolean that is not written in its canonical form.
    pub(crate) fn spelled(&self) -> Option<&Spelled> {
        match self {
            Value::Bool(value) => value.spelled(),
            Value::Number(Number(Repr::Spelled(spelled))) => Some(spelled),
            _ => None,
        }
    }

    /// The name of this kind of value in a message.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Value::Unset => "nothing",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_integer() => "integer",
            Value::Number(_) => "float",
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

    /// Whether this may contain a `${reference}`.
    pub(crate) fn may_refer(&self) -> bool {
        match self {
            Value::Text(text) => text.as_bytes().contains(&b'$') && text.contains("${"),
            Value::List(items) => self.cases().is_some() || items.iter().any(Value::may_refer),
            Value::Table(fields) => fields.values().any(Value::may_refer),
            _ => false,
        }
    }

    /// The cases of a contextual value: a list of tables, each with a `value` and an `if` that names the
    /// required values of other keys. The case for all other conditions has no `if`.
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

    /// The size in bytes; a number counts 8, and an item of a list 16 more.
    fn bytes(&self) -> usize {
        match self {
            Value::Text(text) => text.len(),
            Value::List(items) => items.iter().map(|item| 16 + item.bytes()).sum(),
            Value::Table(fields) => {
                let sizes = fields
                    .iter()
                    .map(|(name, value)| name.len() + value.bytes());
                sizes.sum()
            }
            _ => 8 + self.spelled().map_or(0, |spelled| spelled.as_str().len()),
        }
    }

    /// Rejects a value that is nested too deep below `above` levels, or too large.
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

    /// The number of values in this, itself included.
    pub(crate) fn count(&self) -> usize {
        match self {
            Value::List(items) => count(items),
            Value::Table(fields) => 1 + fields.values().map(Value::count).sum::<usize>(),
            _ => 1,
        }
    }

    /// The number of values of a list before the one at a path, the list itself included. The fields of a
    /// table are in the order of their names.
    fn position<S: AsRef<str>>(&self, path: &[S]) -> Option<usize> {
        let Some((name, rest)) = path.split_first() else {
            return Some(0);
        };
        let name = name.as_ref();
        let (before, below) = match self {
            Value::List(items) => return position(items, path),
            Value::Table(fields) => {
                let before = fields.iter().take_while(|(field, _)| *field < name);
                let before: usize = before.map(|(_, value)| value.count()).sum();
                (before, fields.get(name)?)
            }
            _ => return None,
        };
        Some(1 + before + below.position(rest)?)
    }

    /// The levels of tables and lists in this value, itself included.
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
        (Some(Value::Table(wanted)), 2) => Some((Some(wanted), value)),
        _ => None,
    }
}

/// Why a list is no contextual value, if it looks like one.
pub(crate) fn malformed_case(items: &[Value]) -> Option<String> {
    let tables: Vec<_> = items.iter().map(Value::as_table).collect::<Option<_>>()?;
    let looks_like = |name| tables.iter().any(|fields| fields.get(name).is_some());
    if !looks_like("if") && !looks_like("value") {
        return None;
    }
    let fault = |fields: &Table| {
        let other = fields.keys().find(|name| !matches!(*name, "if" | "value"));
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

/// The condition of a case, and its value.
pub(crate) type Case<'a> = (Option<&'a Table>, &'a Value);

impl PartialEq for Value {
    /// Whether both are written the same. Floats compare by their bits: a value that did not change
    /// is equal to itself, even if it is not a number.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Value::Unset, Value::Unset) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Number(a), Value::Number(b)) => a == b,
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
            Value::Number(value) => write!(f, "{value}"),
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
