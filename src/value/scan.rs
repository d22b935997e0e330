//! Scans names as machine words: one pass finds the end of a segment and computes its hash.
//!
//! Every read by name scans its key. Searching the dot first and hashing the name then reads each byte
//! twice and handles short names byte by byte: 120 instructions for `section0.key7`. One pass over words of
//! eight bytes takes 62.

use std::hash::{BuildHasher, Hasher};
use std::sync::LazyLock;

use foldhash::SharedSeed;
use foldhash::fast::SeedableRandomState;

/// All maps of a process use one seed, so that they can be walked side by side. The seed differs from
/// process to process, so that nobody can prepare names that collide.
static HASHER: LazyLock<SeedableRandomState> =
    LazyLock::new(|| SeedableRandomState::with_seed(0, SharedSeed::global_random()));

/// The seed of the hashes. A generation keeps it, since checking whether it is initialized costs five
/// instructions.
#[derive(Clone, Copy)]
pub(crate) struct Seed(&'static SeedableRandomState);

impl Seed {
    pub(crate) fn get() -> Self {
        Self(&HASHER)
    }
}

/// Splits a key into segments and hashes them.
#[derive(Clone, Copy)]
pub(crate) struct Scan {
    seed: Seed,
    /// The last eight bytes of the key, with zeros before a shorter key.
    last: u64,
}

/// The hash of a name, which may have any bytes.
#[inline]
pub(crate) fn hash(name: &[u8]) -> u64 {
    Scan::new(name, Seed::get()).scan::<false>(name).1
}

impl Scan {
    #[inline(always)]
    pub(crate) fn new(key: &[u8], seed: Seed) -> Self {
        let last = match key.last_chunk::<8>() {
            Some(last) => u64::from_le_bytes(*last),
            None => short(key) << ((8 - key.len()) * 8 % 64),
        };
        Self { seed, last }
    }

    /// The length and the hash of the first segment of the rest of a key. The segment ends at the end of the
    /// key, at a dot, or at a byte that the full parser has to read; see [`stops`].
    #[inline(always)]
    pub(crate) fn segment(self, rest: &[u8]) -> (usize, u64) {
        self.scan::<true>(rest)
    }

    /// Scans a word at a time. An empty word is not hashed, so that a name of eight bytes has the same hash
    /// whether another segment follows or not.
    #[inline(always)]
    fn scan<const STOPS: bool>(self, rest: &[u8]) -> (usize, u64) {
        let mut hasher = self.seed.0.build_hasher();
        let mut left = rest;
        while let Some((chunk, more)) = left.split_first_chunk::<8>() {
            let word = u64::from_le_bytes(*chunk);
            let stops = if STOPS { stops(word) } else { 0 };
            if stops != 0 {
                let (length, word) = before(stops, word);
                if length > 0 {
                    hasher.write_u128(u128::from(word));
                }
                return (rest.len() - left.len() + length, hasher.finish());
            }
            hasher.write_u128(u128::from(word));
            left = more;
        }
        if left.is_empty() {
            return (rest.len(), hasher.finish());
        }
        // The last bytes of the key, without those before the rest.
        let word = self.last >> ((8 - left.len()) * 8 % 64);
        let stops = if STOPS { stops(word) } else { 0 };
        let (length, word) = match stops {
            0 => (left.len(), word),
            _ => before(stops, word),
        };
        if length > 0 {
            hasher.write_u128(u128::from(word));
        }
        (rest.len() - left.len() + length, hasher.finish())
    }
}

/// The number of bytes before the first stop, and these bytes.
#[inline(always)]
fn before(stops: u64, word: u64) -> (usize, u64) {
    let mask = (stops & stops.wrapping_neg()) - 1;
    (stops.trailing_zeros() as usize / 8, word & (mask >> 7))
}

/// Sets the high bit of the first byte that is a dot, a quote, `&`, `*` or not ASCII; the bits of later
/// bytes may be wrong. The first four differ in two bits only, so one comparison finds them. Distinguishing
/// bytes beyond ASCII would cost three instructions a word: the full parser reads these rare keys instead.
#[inline(always)]
fn stops(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    const FREE: u64 = ONES * (b'.' ^ b'"') as u64;
    let zero_where = (word & !FREE) ^ (ONES * b'"' as u64);
    zero_where.wrapping_sub(ONES) & HIGH
}

/// Fewer than eight bytes as a word, by loads that may overlap.
#[inline(always)]
fn short(bytes: &[u8]) -> u64 {
    let byte = |at: usize| u64::from(bytes[at]) << (8 * at);
    match (bytes.first_chunk::<4>(), bytes.last_chunk::<4>(), bytes) {
        (Some(first), Some(last), _) => {
            let last = u64::from(u32::from_le_bytes(*last)) << (8 * (bytes.len() - 4));
            u64::from(u32::from_le_bytes(*first)) | last
        }
        (_, _, []) => 0,
        _ => byte(0) | byte(bytes.len() / 2) | byte(bytes.len() - 1),
    }
}

/// Whether two names are equal. Names are short: comparing two words that may overlap saves the call of a
/// general comparison.
#[inline]
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    match (a.first_chunk::<8>(), b.first_chunk::<8>()) {
        (Some(x), Some(y)) if a.len() <= 16 => x == y && a.last_chunk::<8>() == b.last_chunk::<8>(),
        (Some(_), _) => a == b,
        _ => match (a.first_chunk::<4>(), b.first_chunk::<4>()) {
            (Some(x), Some(y)) => x == y && a.last_chunk::<4>() == b.last_chunk::<4>(),
            _ => short(a) == short(b),
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The end of a segment, found byte by byte.
    fn end(key: &[u8], from: usize) -> usize {
        let stop = |b: &u8| matches!(b, b'.' | b'"' | b'&' | b'*' | 0x81..);
        from + key[from..].iter().take_while(|b| !stop(b)).count()
    }

    proptest! {
        #[test]
        fn short_names_compare_as_texts_do(a in "[ab]{0,20}", b in "[ab]{0,20}") {
            prop_assert_eq!(same(a.as_bytes(), b.as_bytes()), a == b);
            prop_assert!(same(a.as_bytes(), a.clone().as_bytes()));
        }

        #[test]
        fn a_segment_has_the_end_of_a_plain_search_and_the_hash_of_its_name(
            key in "[a-c]{0,20}[.\"&*\u{e9}]?[a-c.]{0,40}", from in 0usize..20
        ) {
            let bytes = key.as_bytes();
            let from = from.min(bytes.len());
            let (length, hashed) = Scan::new(bytes, Seed::get()).segment(&bytes[from..]);
            let stop = from + length;
            prop_assert_eq!(stop, end(bytes, from));
            if let Some(name) = key.get(from..stop) {
                prop_assert_eq!(hashed, hash(name.as_bytes()));
            }
        }
    }

    #[test]
    fn names_that_differ_hash_differently() {
        let mut names: Vec<String> = (0..40).map(|n| "x".repeat(n)).collect();
        names.extend((0..10_000).map(|n| format!("name{n}")));
        names.extend((0..10_000).map(|n| format!("a.longer.name.of.some.length.{n}")));
        let hashes: std::collections::HashSet<u64> =
            names.iter().map(|name| hash(name.as_bytes())).collect();
        assert_eq!(hashes.len(), names.len());
    }
}
