//! Numbers and booleans, which keep the spelling of their source.

use std::fmt;

use crate::value::spelled::Spelled;

/// A boolean as a source wrote it: `TRUE` in YAML is true, and keeps its spelling.
///
/// Two booleans are equal if they are written the same.
#[derive(Clone, PartialEq)]
pub struct Bool {
    value: bool,
    spelled: Option<Box<Spelled>>,
}

impl Bool {
    pub(crate) const fn new(value: bool) -> Self {
        Self {
            value,
            spelled: None,
        }
    }

    pub(super) fn with_spelling(value: bool, spelled: Box<Spelled>) -> Self {
        Self {
            value,
            spelled: Some(spelled),
        }
    }

    /// Returns the boolean.
    pub const fn get(&self) -> bool {
        self.value
    }

    pub(crate) fn spelled(&self) -> Option<&Spelled> {
        self.spelled.as_deref()
    }
}

impl fmt::Display for Bool {
    /// Shows the boolean as it is written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.spelled {
            Some(spelled) => f.write_str(spelled.as_str()),
            None => write!(f, "{}", self.value),
        }
    }
}

impl fmt::Debug for Bool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A number as a source wrote it: an integer of at most 128 bits, or a float. It keeps its spelling,
/// such as `0x1F`, `1_000` or `3.10`.
///
/// Two numbers are equal if they are written the same, so `1_000` differs from `1000`.
///
/// ```
/// use liveprops::Value;
///
/// let value = Value::from(31).with_spelling("0x1F");
/// let number = value.as_number().unwrap();
/// assert_eq!(number.as_i64(), Some(31));
/// assert_eq!(number.to_string(), "0x1F");
/// assert!(number.is_integer());
/// ```
#[derive(Clone, PartialEq)]
pub struct Number(pub(crate) Repr);

#[derive(Clone, Debug)]
pub(crate) enum Repr {
    Int(i64),
    /// An integer that does not fit 64 signed bits.
    Big(Wide),
    Float(f64),
    /// A number that is not written in its canonical form.
    Spelled(Box<Spelled>),
}

impl PartialEq for Repr {
    /// Floats compare by their bits: a value that did not change is equal to itself, even if it is
    /// not a number.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Repr::Int(a), Repr::Int(b)) => a == b,
            (Repr::Big(a), Repr::Big(b)) => a == b,
            (Repr::Float(a), Repr::Float(b)) => a.to_bits() == b.to_bits(),
            (Repr::Spelled(a), Repr::Spelled(b)) => a == b,
            _ => false,
        }
    }
}

impl Number {
    /// Returns the integer if it fits; `None` for a float, also for `5.0`.
    pub fn as_i64(&self) -> Option<i64> {
        self.as_i128()?.try_into().ok()
    }

    /// Returns the integer if it fits; `None` for a float, also for `5.0`.
    pub fn as_u64(&self) -> Option<u64> {
        self.as_i128()?.try_into().ok()
    }

    /// Returns the integer; `None` for a float, also for `5.0`.
    pub fn as_i128(&self) -> Option<i128> {
        match self.canonical() {
            Repr::Int(value) => Some(i128::from(*value)),
            Repr::Big(value) => Some(value.get()),
            _ => None,
        }
    }

    /// Returns the float, or the integer if a float has exactly its value.
    pub fn as_f64(&self) -> Option<f64> {
        /// The first float beyond `i128`.
        const BEYOND: f64 = 170_141_183_460_469_231_731_687_303_715_884_105_728.0;
        match self.canonical() {
            Repr::Float(value) => Some(*value),
            _ => {
                let value = self.as_i128()?;
                let float = value as f64;
                (float < BEYOND && float as i128 == value).then_some(float)
            }
        }
    }

    /// Returns whether this is written as an integer.
    pub fn is_integer(&self) -> bool {
        matches!(self.canonical(), Repr::Int(_) | Repr::Big(_))
    }

    fn canonical(&self) -> &Repr {
        match &self.0 {
            Repr::Spelled(spelled) => match spelled.value().as_number() {
                Some(number) => &number.0,
                None => &self.0,
            },
            repr => repr,
        }
    }
}

impl fmt::Display for Number {
    /// Shows the number as it is written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::Int(value) => write!(f, "{value}"),
            Repr::Big(value) => write!(f, "{value}"),
            Repr::Float(value) => write!(f, "{value:?}"),
            Repr::Spelled(spelled) => f.write_str(spelled.as_str()),
        }
    }
}

impl fmt::Debug for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An `i128` with the alignment of a `u64`: a [`Value`](crate::value::Value) stays at three words, and
/// the discriminant of [`Repr`] has room for those of the other kinds of value.
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Wide([u64; 2]);

impl Wide {
    pub(crate) fn new(value: i128) -> Self {
        let value = value as u128;
        Self([value as u64, (value >> 64) as u64])
    }

    pub(crate) fn get(self) -> i128 {
        let [low, high] = self.0.map(u128::from);
        (high << 64 | low) as i128
    }
}

impl fmt::Display for Wide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

impl fmt::Debug for Wide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Value;

    #[test]
    fn an_integer_keeps_all_its_bits() {
        for value in [0, 1, -1, i128::MAX, i128::MIN, 1 << 64, -(1 << 64) + 7] {
            assert_eq!(Wide::new(value).get(), value);
            assert_eq!(Value::from(value).as_i128(), Some(value));
        }
    }

    #[test]
    fn an_accessor_reads_numbers_of_its_kind_and_range() {
        let max = Value::from(u64::MAX);
        assert_eq!((max.as_i64(), max.as_u64()), (None, Some(u64::MAX)));
        let low = Value::from(-1);
        assert_eq!((low.as_i64(), low.as_u64()), (Some(-1), None));
        let hex = Value::from(16).with_spelling("0x10");
        assert_eq!((hex.as_i64(), hex.as_f64()), (Some(16), Some(16.0)));
        let float = Value::from(3.1).with_spelling("3.10");
        assert_eq!((float.as_i64(), float.as_f64()), (None, Some(3.1)));
        let yes = Value::from(true).with_spelling("TRUE");
        assert_eq!(
            (yes.as_bool(), yes.as_i64(), yes.as_str()),
            (Some(true), None, None)
        );
        assert_eq!(Value::from("5").as_i64(), None);
        assert_eq!(Value::from(i128::MAX).as_f64(), None);
        assert_eq!(Value::from(i128::MIN).as_f64(), Some(-(2_f64.powi(127))));
        assert_eq!(Value::from(1i64 << 53).as_f64(), Some(2_f64.powi(53)));
        assert_eq!(Value::from((1i64 << 53) + 1).as_f64(), None);
    }
}
