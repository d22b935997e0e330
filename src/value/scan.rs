//! Names as machine words: the end of a segment is found and its hash computed in one pass.
//!
//! This is in the way of every by-name read. Looking for the dot first and hashing the name then
//! reads each byte twice and takes short names apart byte by byte: 120 instructions for
//! `section0.key7`; in one pass over words of eight bytes it is 62.

use std::hash::{BuildHasher, Hasher};
use std::sync::LazyLock;

use foldhash::SharedSeed;
use foldhash::fast::SeedableRandomState;

/// All maps of a process hash alike, so that they can be walked side by side; the seed differs
/// from process to process, so that nobody outside can prepare names that collide.
static HASHER: LazyLock<SeedableRandomState> =
    LazyLock::new(|| SeedableRandomState::with_seed(0, SharedSeed::global_random()));

/// What names are hashed with; whoever reads often keeps it, since asking whether it is there yet
/// costs five instructions.
#[derive(Clone, Copy)]
pub(crate) struct Seed(&'static SeedableRandomState);

impl Seed {
    pub(crate) fn get() -> Self {
        Self(&HASHER)
    }
}

/// Takes a key apart.
#[derive(Clone, Copy)]
pub(crate) struct Scan {
    seed: Seed,
    /// The last eight bytes of the key; zeros stand before a key that is shorter.
    last: u64,
}

/// The hash of a name, whatever bytes it is made of.
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

    /// The length and the hash of the segment that the rest of the key begins with. It ends at the
    /// end, at a dot, or at a byte that calls for a closer look, see [`stops`].
    #[inline(always)]
    pub(crate) fn segment(self, rest: &[u8]) -> (usize, u64) {
        self.scan::<true>(rest)
    }

    /// A word at a time. Nothing is no word, so that a name of eight bytes hashes alike whether or
    /// not something follows.
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
        // The last bytes of the key without those that stand before what is left.
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

/// How many bytes stand before the first stop, and only those.
#[inline(always)]
fn before(stops: u64, word: u64) -> (usize, u64) {
    let mask = (stops & stops.wrapping_neg()) - 1;
    (stops.trailing_zeros() as usize / 8, word & (mask >> 7))
}

/// Sets the high bit of the first byte that is a dot, a quote, `&`, `*` or not ASCII; above it it
/// may err. The first four are one pattern with two bits left out, so one comparison finds them,
/// and telling bytes beyond ASCII apart would cost three instructions a word: what is rare in keys
/// takes a closer look instead.
#[inline(always)]
fn stops(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    const FREE: u64 = ONES * (b'.' ^ b'"') as u64;
    let zero_where = (word & !FREE) ^ (ONES * b'"' as u64);
    zero_where.wrapping_sub(ONES) & HIGH
}

/// Fewer than eight bytes, by loads that may overlap: what is read twice is the same.
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

/// Whether two names are equal. Names are short: two words that may overlap spare the call of a
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

    /// Where a segment ends, found byte after byte.
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
        fn a_segment_ends_where_it_ends_and_hashes_as_by_itself(
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
