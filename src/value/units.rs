//! Durations and sizes as text.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::error::{Error, ErrorKind};

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
            return Err("larger units come first and each stands once");
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

/// A number of bytes, written as `10 MiB`, `1.5GB` or a bare number.
///
/// `kB MB GB TB PB EB` are powers of 1000, `KiB MiB GiB TiB PiB EiB` (also without the `B`) powers
/// of 1024, in any case. A single letter as in `64k` is rejected, because it may mean 64,000 or 65,536.
/// The arithmetic is exact.
///
/// # Examples
///
/// ```
/// use liveprops::ByteSize;
///
/// let size: ByteSize = "1.5 KiB".parse()?;
/// assert_eq!(size.bytes(), 1536);
/// assert_eq!(ByteSize::from_bytes(10 << 20).to_string(), "10 MiB");
/// assert!("64k".parse::<ByteSize>().is_err());
/// # Ok::<(), liveprops::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ByteSize(u64);

const SIZES: [(&str, u64); 13] = [
    ("EiB", 1 << 60),
    ("EB", 1_000_000_000_000_000_000),
    ("PiB", 1 << 50),
    ("PB", 1_000_000_000_000_000),
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("B", 1),
];

impl ByteSize {
    /// Creates the size of a number of bytes.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Returns the number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

const UNKNOWN_UNIT: &str =
    "an unknown unit: write B, kB, MB, GB, TB, PB or EB, or KiB, MiB, GiB, TiB, PiB or EiB";

/// The name by which a [`ByteSize`] requests a size from the deserializer of this crate.
pub(crate) const SIZE_NAME: &str = "$liveprops::ByteSize";

/// Reads a size: `10 MiB`, `1.5GB` or a bare number.
pub(crate) fn byte_size(text: &str) -> Result<ByteSize, &'static str> {
    let text = text.trim();
    if text.is_empty() {
        return Err("empty text");
    }
    let (number, unit) = decimal(text.strip_prefix('+').unwrap_or(text)).map_err(|detail| {
        if text.starts_with('-') {
            "a size is not negative"
        } else {
            detail
        }
    })?;
    let unit = unit.trim_start();
    let is = |name: &str| {
        unit.eq_ignore_ascii_case(name)
            || (name.contains('i')
                && name
                    .strip_suffix('B')
                    .is_some_and(|n| unit.eq_ignore_ascii_case(n)))
    };
    let factor = match unit {
        "" | "byte" | "bytes" => 1,
        _ => match SIZES.iter().find(|(name, _)| is(name)) {
            Some((_, factor)) => *factor,
            None if unit.chars().all(char::is_alphabetic) => {
                return Err(ambiguous(unit).unwrap_or(UNKNOWN_UNIT));
            }
            None => return Err("not a size such as `10 MiB` or `1.5GB`"),
        },
    };
    let bytes = number.times(factor)?;
    u64::try_from(bytes)
        .map(ByteSize::from_bytes)
        .map_err(|_| TOO_LARGE)
}

/// The remedy for a single letter, which may mean a power of 1000 or of 1024.
fn ambiguous(unit: &str) -> Option<&'static str> {
    Some(match unit {
        "k" | "K" => "an ambiguous unit: write kB for 1000 or KiB for 1024 bytes",
        "m" | "M" => "an ambiguous unit: write MB for 1000 kB or MiB for 1024 KiB",
        "g" | "G" => "an ambiguous unit: write GB for 1000 MB or GiB for 1024 MiB",
        "t" | "T" => "an ambiguous unit: write TB for 1000 GB or TiB for 1024 GiB",
        "p" | "P" => "an ambiguous unit: write PB for 1000 TB or PiB for 1024 TiB",
        "e" | "E" => "an ambiguous unit: write EB for 1000 PB or EiB for 1024 PiB",
        _ => return None,
    })
}

impl FromStr for ByteSize {
    type Err = Error;

    /// Reads a size.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Mismatch`] for an unknown unit, a fraction of a byte, or more than 64 bits.
    fn from_str(text: &str) -> Result<Self, Error> {
        byte_size(text).map_err(|detail| Error::new(ErrorKind::Mismatch, detail))
    }
}

impl fmt::Display for ByteSize {
    /// Shows the largest unit that needs no fraction, so the text reads back as the same size.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |unit: &&(&str, u64)| self.0 != 0 && self.0 % unit.1 == 0;
        match SIZES.iter().find(whole) {
            Some((name, factor)) => write!(f, "{} {name}", self.0 / factor),
            None => f.write_str("0 B"),
        }
    }
}

impl From<u64> for ByteSize {
    fn from(bytes: u64) -> Self {
        Self(bytes)
    }
}

impl From<ByteSize> for u64 {
    fn from(size: ByteSize) -> Self {
        size.0
    }
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

    #[test]
    fn sizes_are_exact_or_rejected() {
        for (text, expected) in [
            ("0", 0),
            ("1024", 1024),
            ("10 MiB", 10 << 20),
            ("10mib", 10 << 20),
            ("10Mi", 10 << 20),
            ("1.5GB", 1_500_000_000),
            ("64kB", 64_000),
            ("64KiB", 65_536),
            ("3 bytes", 3),
            ("7B", 7),
            ("1_000", 1000),
            ("+5", 5),
            ("0.5KiB", 512),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(
                byte_size(text),
                Ok(ByteSize::from_bytes(expected)),
                "{text}"
            );
        }
        for bad in [
            "",
            "64k",
            "5M",
            "0.5B",
            "0.3KiB",
            "-1",
            "1.5",
            "16EiB",
            "18446744073709551616",
            "x",
            "MiB",
            "1 MiB 2",
            "1e3",
        ] {
            assert!(byte_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_text_of_a_size_reads_back_as_the_same_size() {
        for bytes in [
            0,
            1,
            999,
            1000,
            1023,
            1024,
            1536,
            10 << 20,
            1_500_000_000,
            u64::MAX,
        ] {
            let text = ByteSize::from_bytes(bytes).to_string();
            assert_eq!(byte_size(&text), Ok(ByteSize::from_bytes(bytes)), "{text}");
        }
    }

    #[test]
    fn an_unknown_unit_is_not_called_ambiguous() {
        let rejected = |text: &str| text.parse::<ByteSize>().unwrap_err().to_string();
        for text in ["64k", "1 M", "2G", "3t", "4P", "5e"] {
            assert!(rejected(text).contains("ambiguous"), "{text}");
        }
        for text in ["1x", "10 q", "3 \u{b5}", "5 bits", "1 Kb/s"] {
            let shown = rejected(text);
            assert!(!shown.contains("ambiguous"), "{text}: {shown}");
        }
        for text in ["1x", "10 q", "5 bits"] {
            let shown = rejected(text);
            for unit in ["kB", "KiB", "EB", "EiB"] {
                assert!(shown.contains(unit), "{text}: {shown}");
            }
        }
    }
}
