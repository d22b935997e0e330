//! Byte offsets to lines and columns, both counted from 1, columns in characters.

#[cfg(any(feature = "toml", feature = "json", feature = "yaml"))]
use crate::value::origin::Spot;

/// Finds one place by counting from the start; for errors, of which there is one.
pub(crate) fn place(text: &[u8], offset: usize) -> (u32, u32) {
    let before = &text[..offset.min(text.len())];
    let start = after_last_newline(before).unwrap_or(0);
    (newlines(before) + 1, characters(&before[start..]) + 1)
}

/// Finds many places in any order, each for the same small price.
///
/// The text is cut into blocks; what came before a block is counted once. A look-up then counts
/// within one block, so neither a document of a single long line nor values that come out of
/// order make it slow.
#[cfg(any(feature = "toml", feature = "json"))]
pub(crate) struct Lines<'a> {
    text: &'a [u8],
    blocks: Vec<Block>,
    /// Whether each character is one byte, so that columns need no counting.
    ascii: bool,
}

/// What stands before a block.
#[cfg(any(feature = "toml", feature = "json"))]
#[derive(Clone, Copy, Default)]
struct Block {
    newlines: u32,
    characters: u32,
    /// Where the line begins that runs into this block.
    line_start: u32,
}

#[cfg(any(feature = "toml", feature = "json"))]
const BLOCK: usize = 64;

#[cfg(any(feature = "toml", feature = "json"))]
impl<'a> Lines<'a> {
    /// Indexes a text, which must be shorter than 4 GiB.
    pub(crate) fn new(text: &'a str) -> Self {
        let ascii = text.is_ascii();
        let text = text.as_bytes();
        let mut blocks = Vec::with_capacity(text.len() / BLOCK + 1);
        let mut before = Block::default();
        for (i, block) in text.chunks(BLOCK).enumerate() {
            blocks.push(before);
            let newlines = newlines(block);
            if newlines > 0 {
                before.newlines += newlines;
                let start = after_last_newline(block).unwrap_or(0);
                before.line_start = (i * BLOCK + start) as u32;
            }
            if !ascii {
                before.characters += characters(block);
            }
        }
        blocks.push(before);
        Self {
            text,
            blocks,
            ascii,
        }
    }

    /// The line and the column of a byte offset.
    pub(crate) fn place(&self, offset: usize) -> (u32, u32) {
        let offset = offset.min(self.text.len());
        let (before, rest) = self.block(offset);
        let newlines = newlines(rest);
        let line = before.newlines + newlines + 1;
        let line_start = match newlines {
            0 => before.line_start as usize,
            _ => offset - rest.len() + after_last_newline(rest).unwrap_or(0),
        };
        if self.ascii {
            return (line, (offset - line_start) as u32 + 1);
        }
        let (start, lead) = self.block(line_start);
        let column = before.characters + characters(rest) - start.characters - characters(lead) + 1;
        (line, column)
    }

    /// What is known of the block an offset falls into, and the block's bytes before it.
    fn block(&self, offset: usize) -> (Block, &'a [u8]) {
        let at = offset / BLOCK;
        let block = self.blocks.get(at).copied().unwrap_or_default();
        (block, &self.text[at * BLOCK..offset])
    }
}

/// The places of a list and of the values in it, as [`Origin::with_items`] takes them.
///
/// [`Origin::with_items`]: crate::value::origin::Origin::with_items
#[cfg(any(feature = "toml", feature = "json", feature = "yaml"))]
#[derive(Default)]
pub(crate) struct Spots(Vec<Spot>);

#[cfg(any(feature = "toml", feature = "json", feature = "yaml"))]
impl Spots {
    pub(crate) fn push(&mut self, spot: Spot) {
        self.0.push(spot);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn take(&mut self) -> Vec<Spot> {
        std::mem::take(&mut self.0)
    }

    /// Puts the fields of a table, the last values here, in the order of their names. Each name comes
    /// with where its values begin here.
    pub(crate) fn sort_fields(&mut self, mut fields: Vec<(Box<str>, usize)>) {
        if fields.is_sorted() {
            return;
        }
        let end = self.0.len();
        let ends = fields.iter().skip(1).map(|(_, start)| *start).chain([end]);
        let ends: Vec<usize> = ends.collect();
        let first = fields.first().map_or(end, |(_, start)| *start);
        let mut ranges: Vec<_> = fields.drain(..).zip(ends).collect();
        ranges.sort();
        let sorted: Vec<Spot> = ranges
            .iter()
            .flat_map(|((_, start), end)| &self.0[*start..*end])
            .copied()
            .collect();
        self.0.truncate(first);
        self.0.extend(sorted);
    }
}

fn newlines(bytes: &[u8]) -> u32 {
    // Counted in bytes, of which the compiler adds up sixteen or more at once.
    let few = |bytes: &[u8]| -> u8 { bytes.iter().map(|b| u8::from(*b == b'\n')).sum() };
    bytes.chunks(128).map(|bytes| u32::from(few(bytes))).sum()
}

/// Characters that begin in here: all bytes but those that go on with one.
fn characters(bytes: &[u8]) -> u32 {
    bytes.iter().map(|b| u32::from(b & 0xC0 != 0x80)).sum()
}

fn after_last_newline(bytes: &[u8]) -> Option<usize> {
    bytes.iter().rposition(|b| *b == b'\n').map(|at| at + 1)
}

#[cfg(all(test, any(feature = "toml", feature = "json")))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_index_finds_what_counting_finds(text in "[a\u{e9}\u{1f600}\r\n]{0,700}") {
            let lines = Lines::new(&text);
            let (mut line, mut column) = (1, 1);
            for (at, c) in text.char_indices() {
                prop_assert_eq!(lines.place(at), (line, column));
                prop_assert_eq!(place(text.as_bytes(), at), (line, column));
                (line, column) = if c == '\n' { (line + 1, 1) } else { (line, column + 1) };
            }
            prop_assert_eq!(lines.place(text.len()), (line, column));
            prop_assert_eq!(lines.place(text.len() + 9), (line, column));
        }
    }
}
