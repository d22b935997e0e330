//! Durations and sizes as text.
//!
//! No crate reads them as these rules demand. What others do, by a program that called each:
//!
//! - `humantime` 2.4 knows no ISO 8601 such as `PT1H5M`. It reads `1M` as a month of 30.44 days, and adds a
//!   unit that is written twice.
//! - `jiff` 0.2 reads both forms, but `1d12h` and `P1D` only as calendar spans, which need a date.
//! - `bytesize` 2.7 reads `64k` as 64,000 although 65,536 may be meant. `0.0001kB` becomes 0, and `16EiB` becomes
//!   a byte less than it is.

mod size;

use std::time::Duration;

pub use size::ByteSize;
pub(crate) use size::{SIZE_NAME, byte_size};

/// The error of a number without a unit.
pub(crate) const NO_UNIT: &str = "a duration needs a unit, such as `30s`";

const TOO_LARGE: &str = "larger than the type can hold";
const MALFORMED: &str = "not a duration such as `30s`, `1h 5m` or `PT1H5M`";
const SECOND: u64 = 1_000_000_000;
const DAY: u64 = 86_400 * SECOND;

/// A duration as text, by its two largest units.
pub(crate) fn roughly(time: Duration) -> String {
    let seconds = time.as_secs();
    let units = [("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)];
    let Some(at) = units.iter().position(|(_, unit)| seconds >= *unit) else {
        return format!("{time:.0?}");
    };
    let (large, unit) = units[at];
    let mut text = format!("{} {large}", seconds / unit);
    if let Some((small, part)) = units.get(at + 1) {
        let rest = seconds % unit / part;
        if rest > 0 {
            text.push_str(&format!(" {rest} {small}"));
        }
    }
    text
}

/// Reads a duration: `30s`, `1h 5m`, `250ms`, `1.5s`, `2d`, or ISO 8601 such as `PT1H5M`.
///
/// The case of letters does not matter, except for a single `M`, which may mean months. A leading `+` is
/// allowed.
///
/// Larger units come first and each occurs once, which catches typing errors. The value is exact to the
/// nanosecond or rejected. Years and months have no fixed length and are rejected.
pub(crate) fn duration(text: &str) -> Result<Duration, &'static str> {
    let text = text.trim();
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    let nanos = match unsigned.as_bytes() {
        [] if text.is_empty() => return Err("empty text"),
        [] => return Err(MALFORMED),
        b"0" => 0,
        [b'-', ..] => return Err("a duration is not negative"),
        [b'P' | b'p', rest @ ..] if !rest.is_empty() => {
            iso(&unsigned[1..].to_ascii_uppercase().replace(',', "."))?
        }
        _ => plain(unsigned)?,
    };
    let seconds = u64::try_from(nanos / u128::from(SECOND)).map_err(|_| TOO_LARGE)?;
    let rest = u32::try_from(nanos % u128::from(SECOND)).map_err(|_| TOO_LARGE)?;
    Ok(Duration::new(seconds, rest))
}

fn plain(text: &str) -> Result<u128, &'static str> {
    let mut sum = Sum::default();
    let mut rest = text;
    while !rest.is_empty() {
        let (number, after) = decimal(rest)?;
        let after = after.trim_start();
        let end = after
            .find(|c: char| !c.is_alphabetic())
            .unwrap_or(after.len());
        let unit = match &after[..end] {
            "" if after.is_empty() => return Err(NO_UNIT),
            "M" => return Err("`M` may mean minutes or months: write `m` or `min`"),
            unit => unit_of(&unit.to_ascii_lowercase())?,
        };
        sum.add(number, unit)?;
        rest = after[end..].trim_start();
    }
    Ok(sum.nanos)
}

/// The nanoseconds of a unit, by its lowercase name.
fn unit_of(name: &str) -> Result<u64, &'static str> {
    Ok(match name {
        "ns" | "nsec" | "nanosecond" | "nanoseconds" => 1,
        "us" | "µs" | "μs" | "usec" | "microsecond" | "microseconds" => 1_000,
        "ms" | "msec" | "millis" | "millisecond" | "milliseconds" => 1_000_000,
        "s" | "sec" | "secs" | "second" | "seconds" => SECOND,
        "m" | "min" | "mins" | "minute" | "minutes" => 60 * SECOND,
        "h" | "hr" | "hrs" | "hour" | "hours" => 3_600 * SECOND,
        "d" | "day" | "days" => DAY,
        "w" | "week" | "weeks" => 7 * DAY,
        "y" | "yr" | "year" | "years" | "month" | "months" => {
            return Err("years and months have no fixed length");
        }
        _ => return Err(MALFORMED),
    })
}

fn iso(text: &str) -> Result<u128, &'static str> {
    let mut sum = Sum::default();
    let mut rest = text;
    let mut in_time = false;
    while !rest.is_empty() {
        if let (false, Some(time)) = (in_time, rest.strip_prefix('T')) {
            in_time = true;
            rest = time;
            if rest.is_empty() {
                return Err(MALFORMED);
            }
            continue;
        }
        let (number, after) = decimal(rest)?;
        let unit = match (in_time, after.bytes().next()) {
            (false, Some(b'W')) => 7 * DAY,
            (false, Some(b'D')) => DAY,
            (true, Some(b'H')) => 3_600 * SECOND,
            (true, Some(b'M')) => 60 * SECOND,
            (true, Some(b'S')) => SECOND,
            (false, Some(b'Y' | b'M')) => return Err("years and months have no fixed length"),
            _ => return Err(MALFORMED),
        };
        sum.add(number, unit)?;
        rest = &after[1..];
    }
    Ok(sum.nanos)
}

/// The sum of the units so far.
#[derive(Default)]
struct Sum {
    nanos: u128,
    last: Option<u64>,
}

impl Sum {
    fn add(&mut self, number: Decimal, unit: u64) -> Result<(), &'static str> {
        if self.last.is_some_and(|last| last <= unit) {
            return Err("larger units come first and each occurs once");
        }
        self.last = Some(unit);
        let nanos = number.times(unit)?;
        self.nanos = self.nanos.checked_add(nanos).ok_or(TOO_LARGE)?;
        Ok(())
    }
}

/// An exact decimal number: the digits as one integer, and how many of them are fractional.
#[derive(Clone, Copy)]
struct Decimal {
    digits: u128,
    places: u32,
}

impl Decimal {
    fn times(self, unit: u64) -> Result<u128, &'static str> {
        let product = self.digits.checked_mul(u128::from(unit)).ok_or(TOO_LARGE)?;
        let scale = 10u128.pow(self.places);
        if product % scale != 0 {
            return Err("finer than the smallest unit");
        }
        Ok(product / scale)
    }
}

/// Reads a number at the beginning of a text. Returns it with the rest of the text.
fn decimal(text: &str) -> Result<(Decimal, &str), &'static str> {
    let mut number = Decimal {
        digits: 0,
        places: 0,
    };
    let mut point = false;
    let mut after_digit = false;
    let mut end = text.len();
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'0'..=b'9' => {
                let digit = u128::from(byte - b'0');
                let digits = number.digits.checked_mul(10);
                number.digits = digits.and_then(|d| d.checked_add(digit)).ok_or(TOO_LARGE)?;
                number.places += u32::from(point);
                after_digit = true;
            }
            b'.' if !point && after_digit => {
                point = true;
                after_digit = false;
            }
            b'_' if after_digit => after_digit = false,
            _ => {
                end = at;
                break;
            }
        }
        if number.places > 9 {
            return Err("more than nine digits after the point");
        }
    }
    if !after_digit {
        return Err("not a number with a unit");
    }
    Ok((number, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_exact_or_rejected() {
        let nanos = |text: &str| duration(text).map(|d| d.as_nanos());
        for (text, expected) in [
            ("0", 0),
            ("0s", 0),
            ("30s", 30_000_000_000),
            (" 30 s ", 30_000_000_000),
            ("250ms", 250_000_000),
            ("1.5s", 1_500_000_000),
            ("1h 5m", 3_900_000_000_000),
            ("1h5m", 3_900_000_000_000),
            ("2d", 172_800_000_000_000),
            ("1w", 604_800_000_000_000),
            ("7us", 7_000),
            ("7µs", 7_000),
            ("7ns", 7),
            ("0.000000001s", 1),
            ("1_000ms", 1_000_000_000),
            ("2 hours 3 minutes 4 seconds", 7_384_000_000_000),
            ("PT1H5M", 3_900_000_000_000),
            ("P1DT2H", 93_600_000_000_000),
            ("PT0.5S", 500_000_000),
            ("P2W", 1_209_600_000_000_000),
            ("pt1h", 3_600_000_000_000),
            ("p1dT2h", 93_600_000_000_000),
            ("PT0,5S", 500_000_000),
            ("+PT1H", 3_600_000_000_000),
            ("+10s", 10_000_000_000),
            ("+0", 0),
            ("1 h", 3_600_000_000_000),
            ("1.5h", 5_400_000_000_000),
            ("5S", 5_000_000_000),
            ("1D 2H", 93_600_000_000_000),
            ("3 Min", 180_000_000_000),
            ("250MS", 250_000_000),
            ("2 Hours", 7_200_000_000_000),
            ("7msec", 7_000_000),
            (
                "18446744073709551615s",
                18_446_744_073_709_551_615_000_000_000,
            ),
        ] {
            assert_eq!(nanos(text), Ok(expected), "{text}");
        }
        for bad in [
            "",
            " ",
            "30",
            "-5s",
            "s",
            "5x",
            "1.s",
            ".5s",
            "1s 1s",
            "1m 1h",
            "0.0000000001s",
            "0.5ns",
            "P",
            "PT",
            "P1Y",
            "P1M",
            "PT1D",
            "5M",
            "1h 5M",
            "+",
            "+-5s",
            "++5s",
            "- 5s",
            "-PT1H",
            "P-1D",
            "1 month",
            "2y",
            "1e3s",
            "nan",
            "18446744073709551616s",
            "99999999999999999999999999999999999999999w",
            "P1DT",
            "1__0s",
            "1h5",
        ] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert_eq!(duration("30"), Err(NO_UNIT));
        assert_eq!(duration("-10s"), Err("a duration is not negative"));
        assert_eq!(
            duration("1 month"),
            Err("years and months have no fixed length")
        );
    }
}
