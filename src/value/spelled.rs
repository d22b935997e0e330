//! Numbers and booleans that are not written in their canonical form.

use std::fmt::{self, Write};

use crate::value::Value;
use crate::value::scalar::{Bool, Number, Repr};

/// A number or a boolean with the text that its source wrote, such as `0x1F`, `1_000`, `3.10` or
/// `TRUE`.
///
/// Its canonical form is the text of [`value`](Self::value). A value whose text is canonical needs
/// no `Spelled`, but for large floats; see [`Value::with_spelling`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Spelled {
    value: Value,
    text: Box<str>,
}

impl Spelled {
    /// The number or the boolean.
    pub(crate) fn value(&self) -> &Value {
        &self.value
    }

    /// The text as the source wrote it.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }
}

impl Value {
    /// Returns this number or boolean with the text that a source wrote for it.
    ///
    /// A value that is neither, and one whose canonical form is this text, stays as it is. So does an
    /// integer whose text is the canonical form of another integer: no source writes `7` as `8`. Any
    /// other text is kept unread, since each format spells values in its own way. For the parser of a
    /// [`Format`](crate::Format) of your own.
    ///
    /// A float of the size of an integer keeps its canonical text too if its value is not exactly that of
    /// the text: the float nearest to `1e23` is 8388608 less. Reading it as an integer gives that of the
    /// text.
    ///
    /// ```
    /// use liveprops::Value;
    ///
    /// let version = Value::from(3.1).with_spelling("3.10");
    /// assert_eq!(version.to_string(), "3.10");
    /// assert_eq!(version.canonical(), &Value::from(3.1));
    /// assert_eq!(Value::from(7).with_spelling("7"), Value::from(7));
    /// assert_eq!(Value::from(7).with_spelling("8"), Value::from(7), "another number");
    /// ```
    #[must_use]
    pub fn with_spelling(self, text: &str) -> Self {
        if self.spelled().is_some() {
            return self;
        }
        let is_float_of_integer =
            |value: f64| value.abs() < BEYOND_INTEGERS && !is_shortest_exact(value);
        let spell = |value: Value| {
            Box::new(Spelled {
                value,
                text: text.into(),
            })
        };
        match self {
            Value::Number(Number(Repr::Float(value))) if is_float_of_integer(value) => {
                Value::Number(Number(Repr::Spelled(spell(self))))
            }
            Value::Number(_) if !is_canonical(&self, text) => {
                Value::Number(Number(Repr::Spelled(spell(self))))
            }
            Value::Bool(ref value) if !is_canonical(&self, text) => {
                Value::Bool(Bool::with_spelling(value.get(), spell(self)))
            }
            _ => self,
        }
    }

    /// Whether this is the wanted value. A wanted value without a spelling matches any spelling.
    pub(crate) fn is(&self, wanted: &Value) -> bool {
        self == wanted || self.canonical() == wanted
    }

    /// Returns this value without its spelling: the number or the boolean alone, and any other value
    /// itself. Items of lists keep theirs.
    #[inline]
    pub fn canonical(&self) -> &Value {
        self.spelled().map_or(self, Spelled::value)
    }
}

/// A float of this size is larger than any integer type.
const BEYOND_INTEGERS: f64 = 340_282_366_920_938_463_463_374_607_431_768_211_456.0;

/// Whether the canonical form of a float without a fraction has exactly its value. Up to 2^53 it has.
pub(crate) fn is_shortest_exact(value: f64) -> bool {
    const FIRST_GAP: f64 = 9_007_199_254_740_992.0;
    // The first form is that of the shortest text, and the second has all digits.
    value.abs() <= FIRST_GAP || value.fract() != 0.0 || format!("{value}") == format!("{value:.0}")
}

/// Whether a text is the canonical form of a number or a boolean. For an integer it may be that of
/// another one, which is no spelling of it either.
fn is_canonical(value: &Value, text: &str) -> bool {
    // Nearly all numbers are short digits: they are not written out for this.
    if let Value::Number(Number(Repr::Int(_))) = value {
        let digits = text.strip_prefix('-').unwrap_or(text).as_bytes();
        return match digits {
            [b'0'] => digits.len() == text.len(),
            [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
            _ => false,
        };
    }
    let mut rest = Rest(text);
    write!(rest, "{value}").is_ok() && rest.0.is_empty()
}

/// The rest of a text after its written prefix.
struct Rest<'a>(&'a str);

impl fmt::Write for Rest<'_> {
    fn write_str(&mut self, written: &str) -> fmt::Result {
        self.0 = self.0.strip_prefix(written).ok_or(fmt::Error)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_text_that_is_not_canonical_is_kept() {
        for value in [
            Value::from(0),
            Value::from(-70),
            Value::from(u64::MAX),
            Value::from(1.0),
            Value::from(-0.5),
            Value::from(1e300),
            Value::from(f64::NAN),
            Value::from(true),
        ] {
            let text = value.to_string();
            assert_eq!(value.clone().with_spelling(&text), value, "{text}");
            for other in [format!("+{text}"), format!("0{text}"), String::new()] {
                let spelled = value.clone().with_spelling(&other);
                assert_eq!(spelled.to_string(), other);
                assert_eq!(spelled.canonical(), &value);
                assert_ne!(spelled, value);
            }
        }
        assert_eq!(Value::from("x").with_spelling("y"), Value::from("x"));
        assert_eq!(Value::Unset.with_spelling("~"), Value::Unset);
        assert_eq!(Value::from(0).with_spelling("-0").to_string(), "-0");
        // The nearest float is 99999999999999991611392.
        assert_ne!(Value::from(1e23).with_spelling("1e23"), Value::from(1e23));
        assert_eq!(Value::from(1e22).with_spelling("1e22"), Value::from(1e22));
        for (value, another) in [(7, "8"), (7, "-7"), (0, "10"), (-1, "1")] {
            let value = Value::from(value);
            assert_eq!(value.clone().with_spelling(another), value, "{another}");
        }
    }

    #[test]
    fn a_value_is_no_larger_for_its_spelling() {
        assert_eq!(size_of::<Value>(), 3 * size_of::<usize>());
    }
}
