//! Scans the text before it is parsed: checks the limits on depth and nodes, and finds cuts.

use crate::value::key::{MAX_TABLES, MAX_VALUES};

/// A limit that a text exceeds, and the offset.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum LimitExceeded {
    Depth(usize),
    Tables(usize),
    Values(usize),
}

/// Returns the offsets of lines with the header of a table, each at least `min_piece` bytes after the one
/// before.
///
/// Fails at the offset where brackets or dotted names nest deeper than `max_depth`, or where there are
/// too many nodes. The parser has a limit on the depth as well, but another crate may disable it with the
/// feature `unbounded`. Dropping the tables of a deeper document could overflow a small stack.
pub(super) fn find_cuts(
    text: &[u8],
    max_depth: usize,
    min_piece: usize,
) -> Result<Vec<usize>, LimitExceeded> {
    let mut cuts = Vec::new();
    let mut cut_finder = CutFinder::default();
    let mut nodes = NodeCounter::new(text);
    let (mut open, mut at) = (0usize, 0usize);
    while let Some(byte) = text.get(at) {
        match byte {
            b'[' | b'{' => {
                if open == 0 {
                    if let Some(line) = cut_finder.cut_before(text, at) {
                        if line >= cuts.last().unwrap_or(&0) + min_piece {
                            cuts.push(line);
                        }
                    }
                }
                open += 1;
            }
            b']' | b'}' => open = open.saturating_sub(1),
            b'#' => {
                at += length_until(&text[at..], |b| b == b'\n');
                continue;
            }
            b'"' | b'\'' => {
                at = string_end(text, at);
                continue;
            }
            b'.' | b'\n' | b'=' | b',' => {}
            _ => {
                at += length_until(&text[at..], |b| IS_STRUCTURAL[usize::from(b)]);
                continue;
            }
        }
        nodes.count(*byte, at, open);
        // The brackets of a header are no levels, so two more than the limit may be open.
        if open > max_depth + 1 || nodes.dots.len() > max_depth {
            return Err(LimitExceeded::Depth(at));
        }
        nodes.check(at)?;
        at += 1;
    }
    Ok(cuts)
}

/// Counts an upper bound of the tables and values in the text.
///
/// A dotted name adds the tables that the previous dotted name does not have.
struct NodeCounter<'a> {
    text: &'a [u8],
    tables: usize,
    values: usize,
    /// Whether the scan is behind the `=` or the closing bracket of a header.
    in_value: bool,
    in_header: bool,
    /// A bit for each open bracket, the innermost one last; it is set for a brace.
    braces: u128,
    /// The start of the current name, and its dots.
    name_start: usize,
    dots: Vec<usize>,
    /// The last dotted names.
    last_header: &'a [u8],
    last_name: &'a [u8],
}

impl<'a> NodeCounter<'a> {
    fn new(text: &'a [u8]) -> Self {
        Self {
            text,
            tables: 1,
            values: 0,
            in_value: false,
            in_header: false,
            braces: 0,
            name_start: 0,
            dots: Vec::new(),
            last_header: &[],
            last_name: &[],
        }
    }

    /// Counts a structural byte outside strings and comments. `open` brackets are open after it.
    fn count(&mut self, byte: u8, at: usize, open: usize) {
        match byte {
            b'[' => self.open_bracket(at, open),
            b'{' => {
                self.braces = self.braces << 1 | 1;
                self.tables += 1;
                self.begin_name(at + 1);
            }
            b']' | b'}' => {
                self.braces >>= 1;
                if self.in_header && open == 0 {
                    self.last_header = self.end_name(at, self.last_header);
                    self.last_name = &[];
                    self.in_header = false;
                }
                self.in_value = true;
            }
            b'.' if !self.in_value => self.dots.push(at),
            b'=' if !self.in_value => {
                self.last_name = self.end_name(at, self.last_name);
                self.values += 1;
                self.in_value = true;
            }
            b',' if self.braces & 1 == 1 => self.begin_name(at + 1),
            b',' => self.values += 1,
            b'\n' if open == 0 => {
                self.in_header = false;
                self.begin_name(at + 1);
            }
            _ => {}
        }
    }

    fn open_bracket(&mut self, at: usize, open: usize) {
        self.braces <<= 1;
        if self.in_value {
            self.tables += 1;
            return;
        }
        // `[[` opens one table.
        self.tables += usize::from(!self.in_header || open > 2);
        self.in_header = true;
        self.begin_name(at + 1);
    }

    fn begin_name(&mut self, at: usize) {
        self.in_value = false;
        self.name_start = at;
        self.dots.clear();
    }

    /// Counts the tables of the current name. Returns the dotted name that the next one is compared with.
    fn end_name(&mut self, end: usize, last: &'a [u8]) -> &'a [u8] {
        if self.dots.is_empty() {
            return last;
        }
        let name = &self.text[self.name_start..end];
        let pairs = name.iter().zip(last);
        let common = self.name_start + pairs.take_while(|(a, b)| a == b).count();
        let new = self.dots.iter().rev().take_while(|dot| **dot >= common);
        self.tables += new.count();
        self.dots.clear();
        name
    }

    fn check(&self, at: usize) -> Result<(), LimitExceeded> {
        // The bound is larger than the limit: the commas and equal signs of tables in lists count as well.
        if self.tables > MAX_TABLES {
            Err(LimitExceeded::Tables(at))
        } else if self.values > MAX_VALUES + 2 * MAX_TABLES {
            Err(LimitExceeded::Values(at))
        } else {
            Ok(())
        }
    }
}

/// Finds the headers before which the text can be cut.
///
/// All elements of an array of tables belong in one piece, each with the tables below it. Their names are
/// compared as bytes. If one name is written in two ways, the text is cut between them, and
/// [`pieces`](super::pieces) rejects the pieces.
#[derive(Default)]
struct CutFinder<'a> {
    /// The name of the last array of tables.
    array: Option<&'a [u8]>,
}

impl<'a> CutFinder<'a> {
    /// Returns the start of the line if the bracket at `at` is its first character and a cut before it is
    /// valid.
    fn cut_before(&mut self, text: &'a [u8], at: usize) -> Option<usize> {
        let blanks = text[..at].iter().rev();
        let line = at - blanks.take_while(|b| matches!(b, b' ' | b'\t')).count();
        if text[at] != b'[' || (line > 0 && text[line - 1] != b'\n') {
            return None;
        }
        let inside = &text[at + 1..];
        let (is_array, inside) = match inside.strip_prefix(b"[") {
            Some(inside) => (true, inside),
            None => (false, inside),
        };
        let inside = inside.trim_ascii_start();
        let below = |array| {
            let rest = inside.strip_prefix(array).map(<[u8]>::trim_ascii_start);
            rest.is_some_and(|rest| matches!(rest.first(), Some(b']' | b'.')))
        };
        if self.array.is_some_and(below) {
            return None;
        }
        if is_array {
            let name = &inside[..length_until(inside, |b| matches!(b, b']' | b'\n'))];
            self.array = Some(name.trim_ascii_end());
        }
        Some(line)
    }
}

/// The bytes that [`find_cuts`] handles.
const IS_STRUCTURAL: [bool; 256] = {
    let mut is_structural = [false; 256];
    let bytes = b"[]{}.\n=,#\"'";
    let mut i = 0;
    while i < bytes.len() {
        is_structural[bytes[i] as usize] = true;
        i += 1;
    }
    is_structural
};

fn length_until(text: &[u8], stop: impl Fn(u8) -> bool) -> usize {
    text.iter().position(|b| stop(*b)).unwrap_or(text.len())
}

/// Returns the end of the string that begins with the quote at `at`.
fn string_end(text: &[u8], at: usize) -> usize {
    let quote = text[at];
    let long = text[at..].starts_with(&[quote; 3]);
    let mut at = at + if long { 3 } else { 1 };
    while let Some(byte) = text.get(at) {
        if *byte == b'\\' && quote == b'"' {
            // A line break ends a short string even after a backslash.
            at += if !long && text.get(at + 1) == Some(&b'\n') {
                1
            } else {
                2
            };
        } else if !long && matches!(byte, b'\n') {
            return at;
        } else if !long && *byte == quote {
            return at + 1;
        } else if long && text[at..].starts_with(&[quote; 3]) {
            // Up to two more quotes belong to the content.
            let quotes = text[at..].iter().take(5).take_while(|b| **b == quote);
            return at + quotes.count();
        } else {
            at += 1;
        }
    }
    text.len()
}
