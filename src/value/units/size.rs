//! Sizes in bytes.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, ErrorKind};
use crate::value::units::{TOO_LARGE, decimal};

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
