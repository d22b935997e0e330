//! Finds the lines and columns of byte offsets. Both count from 1, and columns count characters.

use crate::sorted;
use crate::value::origin::{Origin, Position};

/// Finds one position by counting from the start of the text; used for errors.
pub(crate) fn position(text: &[u8], offset: usize) -> Position {
    let before = &text[..offset.min(text.len())];
    let line_start = after_last_newline(before).unwrap_or(0);
    (newlines(before) + 1, characters(&before[line_start..]) + 1)
}

/// An index of a text that finds each position in constant time.
///
/// The text is split into blocks, and the newlines and characters before each block are counted once. A
/// look-up counts within one block. So neither a long line nor look-ups out of order are slow.
pub(crate) struct LineIndex<'a> {
    text: &'a [u8],
    blocks: Vec<BlockStart>,
    /// Whether each character is one byte, so that columns need no counting.
    ascii: bool,
}

/// Counts of the text before a block.
#[derive(Clone, Copy, Default)]
struct BlockStart {
    newlines: u32,
    characters: u32,
    /// The offset of the line that continues in this block.
    line_start: u32,
}

const BLOCK_BYTES: usize = 64;

impl<'a> LineIndex<'a> {
    /// Indexes a text, which must be shorter than 4 GiB.
    pub(crate) fn new(text: &'a str) -> Self {
        let ascii = text.is_ascii();
        let text = text.as_bytes();
        let mut blocks = Vec::with_capacity(text.len() / BLOCK_BYTES + 1);
        let mut before = BlockStart::default();
        for (i, block) in text.chunks(BLOCK_BYTES).enumerate() {
            blocks.push(before);
            let newlines = newlines(block);
            if newlines > 0 {
                before.newlines += newlines;
                let start = after_last_newline(block).unwrap_or(0);
                before.line_start = (i * BLOCK_BYTES + start) as u32;
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

    /// Returns the line and the column of a byte offset.
    pub(crate) fn position(&self, offset: usize) -> Position {
        let offset = offset.min(self.text.len());
        let (block, bytes) = self.block_before(offset);
        let newlines = newlines(bytes);
        let line = block.newlines + newlines + 1;
        let line_start = match newlines {
            0 => block.line_start as usize,
            _ => offset - bytes.len() + after_last_newline(bytes).unwrap_or(0),
        };
        if self.ascii {
            return (line, (offset - line_start) as u32 + 1);
        }
        let (line_block, line_bytes) = self.block_before(line_start);
        let line_characters = line_block.characters + characters(line_bytes);
        let column = block.characters + characters(bytes) - line_characters + 1;
        (line, column)
    }

    /// Returns the block of an offset, and the bytes between the start of the block and the offset.
    fn block_before(&self, offset: usize) -> (BlockStart, &'a [u8]) {
        let i = offset / BLOCK_BYTES;
        let block = self.blocks.get(i).copied().unwrap_or_default();
        (block, &self.text[i * BLOCK_BYTES..offset])
    }
}

/// Finds the origins of byte offsets in a text, or in one piece of it after the other.
pub(crate) struct Locator<'a> {
    pub(crate) origin: &'a Origin,
    lines: LineIndex<'a>,
    /// The number of lines before the piece.
    lines_before: u32,
}

impl<'a> Locator<'a> {
    pub(crate) fn new(text: &'a str, origin: &'a Origin) -> Self {
        Self {
            origin,
            lines: LineIndex::new(text),
            lines_before: 0,
        }
    }

    /// Moves on to the next piece, which starts with a line.
    pub(crate) fn start_piece(&mut self, piece: &'a str) {
        self.lines_before += self.lines.position(usize::MAX).0 - 1;
        self.lines = LineIndex::new(piece);
    }

    pub(crate) fn origin_at(&self, offset: usize) -> Origin {
        let (line, column) = self.position(offset);
        self.origin.at(line, column)
    }

    pub(crate) fn position(&self, offset: usize) -> Position {
        let (line, column) = self.lines.position(offset);
        (self.lines_before + line, column)
    }
}

/// The positions of a list and of the values in it, in the order of [`Origin::with_items`].
///
/// [`Origin::with_items`]: crate::value::origin::Origin::with_items
#[derive(Default)]
pub(crate) struct ItemPositions(Vec<Position>);

impl ItemPositions {
    pub(crate) fn push(&mut self, position: Position) {
        self.0.push(position);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Removes and returns all positions.
    pub(crate) fn take(&mut self) -> Vec<Position> {
        std::mem::take(&mut self.0)
    }

    /// Sorts the positions of the last table by the names of its fields. `fields` has each name, with the
    /// index of the first position of its value.
    pub(crate) fn sort_fields(&mut self, mut fields: Vec<(Box<str>, usize)>) {
        if fields.is_sorted() {
            return;
        }
        let end = self.0.len();
        let ends = fields.iter().skip(1).map(|(_, start)| *start).chain([end]);
        let ends: Vec<usize> = ends.collect();
        let first = fields.first().map_or(end, |(_, start)| *start);
        let mut ranges: Vec<_> = fields.drain(..).zip(ends).collect();
        sorted::sort(&mut ranges);
        let sorted: Vec<Position> = ranges
            .iter()
            .flat_map(|((_, start), end)| &self.0[*start..*end])
            .copied()
            .collect();
        self.0.truncate(first);
        self.0.extend(sorted);
    }
}

fn newlines(bytes: &[u8]) -> u32 {
    // A sum of bytes lets the compiler add sixteen or more at once.
    let of_chunk = |chunk: &[u8]| -> u8 { chunk.iter().map(|b| u8::from(*b == b'\n')).sum() };
    let chunks = bytes.chunks(128);
    chunks.map(|chunk| u32::from(of_chunk(chunk))).sum()
}

/// Counts the first bytes of characters.
fn characters(bytes: &[u8]) -> u32 {
    bytes.iter().map(|b| u32::from(b & 0xC0 != 0x80)).sum()
}

fn after_last_newline(bytes: &[u8]) -> Option<usize> {
    bytes.iter().rposition(|b| *b == b'\n').map(|at| at + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_index_and_counting_find_the_same_position(text in "[a\u{e9}\u{1f600}\r\n]{0,700}") {
            let index = LineIndex::new(&text);
            let (mut line, mut column) = (1, 1);
            for (at, c) in text.char_indices() {
                prop_assert_eq!(index.position(at), (line, column));
                prop_assert_eq!(position(text.as_bytes(), at), (line, column));
                (line, column) = if c == '\n' { (line + 1, 1) } else { (line, column + 1) };
            }
            prop_assert_eq!(index.position(text.len()), (line, column));
            prop_assert_eq!(index.position(text.len() + 9), (line, column));
        }
    }
}
