//! One pass over the text before any parsing: how deep it nests, and where it can be cut.

/// Where lines begin that hold the header of a table, each at least `piece` bytes after the one
/// before; or as error where brackets or dotted names first nest deeper than `limit`.
///
/// The parser has a limit of its own, but any crate of the program can turn it off (its feature
/// `unbounded`), and what it then builds could not even be dropped on a small stack.
pub(super) fn cuts(text: &[u8], limit: usize, piece: usize) -> Result<Vec<usize>, usize> {
    let mut cuts = Vec::new();
    let mut headers = Headers::default();
    let (mut open, mut dots, mut at) = (0usize, 0usize, 0usize);
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
            b'.' => dots += 1,
            b'\n' | b'=' | b',' => dots = 0,
            b'#' => {
                at += until(&text[at..], |b| b == b'\n');
                continue;
            }
            b'"' | b'\'' => {
                at = string_end(text, at);
                continue;
            }
            _ => {
                at += until(&text[at..], |b| MARKS[usize::from(b)]);
                continue;
            }
        }
        // A header's own brackets are no level, so there may be two more than the limit.
        if open > limit + 1 || dots > limit {
            return Err(at);
        }
        at += 1;
    }
    Ok(cuts)
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
