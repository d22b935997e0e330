//! Floats with the digits of their source: the digits decide, and not the nearest 64-bit float.

use crate::decode::input::Input;
use crate::decode::text::{self, AnyInteger, Float, NumberError};
use crate::value::spelled;

/// A float, with the decimal number of its source if the canonical notation is another one.
#[derive(Clone, Copy, Debug)]
pub(super) struct WrittenFloat<'a> {
    value: f64,
    text: Option<&'a str>,
}

impl<'a> WrittenFloat<'a> {
    /// `None` if the input is no float. A notation that is no decimal number does not count: a format may
    /// have its own.
    pub(super) fn of(input: Input<'a>) -> Option<Self> {
        let Input::Float(value) = input.canonical() else {
            return None;
        };
        let text = match input {
            Input::Spelled(spelled) => Some(spelled.as_str()),
            _ => None,
        };
        let text = text.filter(|text| is_notation_of(text, value));
        Some(Self { value, text })
    }

    /// The integer that was written. `Malformed` is the error of a fraction, and `Inexact` that of digits that
    /// were lost before.
    pub(super) fn integer(self) -> Result<AnyInteger, NumberError> {
        if let Some(text) = self.text {
            return integer(text);
        }
        if self.value.fract() != 0.0 {
            return Err(NumberError::Malformed);
        }
        exact_integer(self.value)
    }

    pub(super) fn float<F: Float>(self) -> Result<F, NumberError> {
        match self.text {
            Some(text) => text::float(text),
            None => F::of_f64(self.value).ok_or(NumberError::Range),
        }
    }

    pub(super) fn is_zero(self) -> bool {
        self.value == 0.0 && self.integer() == Ok(AnyInteger::Signed(0))
    }

    /// The text of a number that is not 0 and would be 0 as a float. Only a type that is text can hold it.
    pub(super) fn vanished(self) -> Option<&'a str> {
        self.text.filter(|_| self.value == 0.0 && !self.is_zero())
    }
}

/// Whether a text is a decimal number and this the float that is nearest to it.
fn is_notation_of(text: &str, value: f64) -> bool {
    let decimal = text.bytes().any(|b| b.is_ascii_digit())
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'+' | b'-' | b'e' | b'E' | b'_'));
    let plain = text::without_separators(text).filter(|_| decimal);
    plain.is_some_and(|plain| plain.parse() == Ok(value))
}

/// The integer that a float without a fraction is, if no digit of it was lost: up to 2^53, and beyond
/// if its shortest notation has all of its digits.
fn exact_integer(value: f64) -> Result<AnyInteger, NumberError> {
    let magnitude = value.abs();
    if magnitude >= 2_f64.powi(128) {
        return Err(NumberError::Range);
    }
    if !spelled::is_shortest_exact(value) {
        return Err(NumberError::Inexact);
    }
    // The bound is a power of two, so it is exact, and so is the cast of what is below.
    AnyInteger::of(value < 0.0, magnitude as u128)
}

/// The integer that a decimal number is, such as `5.0` or `1.5e3`. The zeros of the
/// exponent are not written out, so the time depends on the length of the text alone.
fn integer(text: &str) -> Result<AnyInteger, NumberError> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, power(exponent)),
        None => (text, 0),
    };
    let digits = Digits::of(mantissa);
    match digits.number {
        Some(0) => return Ok(AnyInteger::Signed(0)),
        // The last digit is not zero, so each digit after the point is one of a fraction.
        _ if exponent.saturating_add(digits.exponent) < 0 => return Err(NumberError::Malformed),
        None => return Err(NumberError::Range),
        Some(_) => {}
    }
    let zeros = u32::try_from(exponent.saturating_add(digits.exponent)).ok();
    let scale = zeros.and_then(|zeros| 10u128.checked_pow(zeros));
    let magnitude = scale.and_then(|scale| digits.number?.checked_mul(scale));
    let magnitude = magnitude.ok_or(NumberError::Range)?;
    AnyInteger::of(mantissa.starts_with('-'), magnitude)
}

/// A power of ten; one that is too large for 64 bits is as good as the largest.
fn power(text: &str) -> i64 {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let digits = digits.bytes().filter(u8::is_ascii_digit);
    let power = digits.fold(0i64, |power, digit| {
        power
            .saturating_mul(10)
            .saturating_add(i64::from(digit - b'0'))
    });
    if negative { -power } else { power }
}

/// The digits of a number from the first to the last that is not zero, times a power of ten.
struct Digits {
    /// `None` if 128 bits do not hold them.
    number: Option<u128>,
    exponent: i64,
}

impl Digits {
    fn of(mantissa: &str) -> Self {
        let mut number = Some(0u128);
        let (mut zeros, mut decimals) = (0u32, 0i64);
        let mut after_point = false;
        for byte in mantissa.bytes() {
            match byte {
                b'.' => after_point = true,
                b'0'..=b'9' => {
                    decimals += i64::from(after_point);
                    zeros = zeros.saturating_add(1);
                }
                _ => {}
            }
            if let b'1'..=b'9' = byte {
                number = match number {
                    Some(0) => Some(0),
                    number => number.and_then(|n| n.checked_mul(10u128.checked_pow(zeros)?)),
                };
                number = number.and_then(|n| n.checked_add(u128::from(byte - b'0')));
                zeros = 0;
            }
        }
        let exponent = i64::from(zeros) - decimals;
        Self { number, exponent }
    }
}

#[cfg(test)]
mod tests;
