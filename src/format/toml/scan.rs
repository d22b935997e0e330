//! One pass over the text before any parsing: how deep it nests, how many nodes it has, and where it
//! can be cut.

use crate::format::limits::{MAX_TABLES, MAX_VALUES};

/// Why a text is not parsed, and where.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Excess {
    Depth(usize),
    Tables(usize),
    Values(usize),
}

/// Where lines begin that hold the header of a table, each at least `piece` bytes after the one
/// before; or as error where brackets or dotted names first nest deeper than `limit`, or where there
/// are too many nodes.
///
/// The parser has a limit of its own on the depth, but any crate of the program can turn it off (its
/// feature `unbounded`), and what it then builds could not even be dropped on a small stack.
pub(super) fn cuts(text: &[u8], limit: usize, piece: usize) -> Result<Vec<usize>, Excess> {
    let mut cuts = Vec::new();
    let mut headers = Headers::default();
    let mut nodes = Nodes::new(text);
    let (mut open, mut at) = (0usize, 0usize);
    while let Some(byte) = text.get(at) {
        match byte {
            b'[' | b'{' => {
                if open == 0 {
                    if let Some(line) = headers.line(text, at) {
                        if line >= cuts.last().unwrap_or(&0) + piece {
                            cuts.push(line);
                        }
                    }
                }
                open += 1;
            }
            b']' | b'}' => open = open.saturating_sub(1),
            b'#' => {
                at += until(&text[at..], |b| b == b'\n');
                continue;
            }
            b'"' | b'\'' => {
                at = string_end(text, at);
                continue;
            }
            b'.' | b'\n' | b'=' | b',' => {}
            _ => {
                at += until(&text[at..], |b| MARKS[usize::from(b)]);
                continue;
            }
        }
        nodes.mark(*byte, at, open);
        // A header's own brackets are no level, so there may be two more than the limit.
        if open > limit + 1 || nodes.dots.len() > limit {
            return Err(Excess::Depth(at));
        }
        nodes.check(at)?;
        at += 1;
    }
    Ok(cuts)
}

/// Counts the tables and the values that the text has at most.
///
/// A dotted name makes the tables that the dotted name before it does not have.
struct Nodes<'a> {
    text: &'a [u8],
    tables: usize,
    values: usize,
    /// Whether a value comes next, or is there already.
    in_value: bool,
    in_header: bool,
    /// A bit for each open bracket, the innermost one last; it is set for a brace.
    braces: u128,
    /// Where the name at hand begins, and where its dots are.
    name: usize,
    dots: Vec<usize>,
    /// The last dotted names.
    last_header: &'a [u8],
    last_name: &'a [u8],
}

impl<'a> Nodes<'a> {
    fn new(text: &'a [u8]) -> Self {
        Self {
            text,
            tables: 1,
            values: 0,
            in_value: false,
            in_header: false,
            braces: 0,
            name: 0,
            dots: Vec::new(),
            last_header: &[],
            last_name: &[],
        }
    }

    /// Takes a byte that is no part of a string or a comment; so many brackets are open after it.
    fn mark(&mut self, byte: u8, at: usize, open: usize) {
        match byte {
            b'[' => self.bracket(at, open),
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

    fn bracket(&mut self, at: usize, open: usize) {
        self.braces <<= 1;
        if self.in_value {
            self.tables += 1;
            return;
        }
        // The second bracket of `[[` is no further table.
        self.tables += usize::from(!self.in_header || open > 2);
        self.in_header = true;
        self.begin_name(at + 1);
    }

    fn begin_name(&mut self, at: usize) {
        self.in_value = false;
        self.name = at;
        self.dots.clear();
    }

    /// Counts the tables of the name at hand; returns the name to which the next one is compared.
    fn end_name(&mut self, end: usize, last: &'a [u8]) -> &'a [u8] {
        if self.dots.is_empty() {
            return last;
        }
        let name = &self.text[self.name..end];
        let pairs = name.iter().zip(last);
        let common = self.name + pairs.take_while(|(a, b)| a == b).count();
        let new = self.dots.iter().rev().take_while(|dot| **dot >= common);
        self.tables += new.count();
        self.dots.clear();
        name
    }

    fn check(&self, at: usize) -> Result<(), Excess> {
        // Of tables in a list, commas and equal signs are counted that are no values.
        if self.tables > MAX_TABLES {
            Err(Excess::Tables(at))
        } else if self.values > MAX_VALUES + 2 * MAX_TABLES {
            Err(Excess::Values(at))
        } else {
            Ok(())
        }
    }
}

/// Looks for headers before which the text can be cut.
///
/// All elements of an array of tables belong in one piece, each with the tables below it. Their
/// names are compared as they are written: one that is written in two ways is cut, and the whole
/// parsed after all.
#[derive(Default)]
struct Headers<'a> {
    /// The name of the last array of tables.
    array: Option<&'a [u8]>,
}

impl<'a> Headers<'a> {
    /// Where the line begins whose first sign is the bracket at `at`, if it may begin a piece.
    fn line(&mut self, text: &'a [u8], at: usize) -> Option<usize> {
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
            let name = &inside[..until(inside, |b| matches!(b, b']' | b'\n'))];
            self.array = Some(name.trim_ascii_end());
        }
        Some(line)
    }
}

/// The bytes that matter for the nesting.
const MARKS: [bool; 256] = {
    let mut marks = [false; 256];
    let bytes = b"[]{}.\n=,#\"'";
    let mut i = 0;
    while i < bytes.len() {
        marks[bytes[i] as usize] = true;
        i += 1;
    }
    marks
};

fn until(text: &[u8], stop: impl Fn(u8) -> bool) -> usize {
    text.iter().position(|b| stop(*b)).unwrap_or(text.len())
}

/// Where the string ends that begins with the quote at `at`.
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
