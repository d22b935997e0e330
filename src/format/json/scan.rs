//! Finds tokens in the text of a JSON document.

/// Returns the start and the end of the next token that is no separator. A token that opens a list or an
/// object is its bracket.
pub(super) fn next_token(text: &[u8], mut at: usize) -> (usize, usize) {
    let is_separator =
        |b: &u8| matches!(b, b' ' | b'\t' | b'\r' | b'\n' | b',' | b':' | b']' | b'}');
    while text.get(at).is_some_and(is_separator) {
        at += 1;
    }
    let start = at;
    match text.get(at) {
        None => {}
        Some(b'{' | b'[') => at += 1,
        Some(b'"') => {
            at += 1;
            while let Some(byte) = text.get(at) {
                at += if *byte == b'\\' { 2 } else { 1 };
                if *byte == b'"' {
                    break;
                }
            }
        }
        Some(_) => {
            while text.get(at).is_some_and(|b| !is_separator(b)) {
                at += 1;
            }
        }
    }
    (start.min(text.len()), at.min(text.len()))
}

/// Returns the end of the next value, including the values in it.
pub(super) fn value_end(text: &[u8], at: usize) -> Option<usize> {
    let (start, mut end) = next_token(text, at);
    if !matches!(text.get(start)?, b'{' | b'[') {
        return Some(end);
    }
    let mut depth = 1;
    while depth > 0 {
        match text.get(end)? {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            b'"' => {
                end = next_token(text, end).1;
                continue;
            }
            _ => {}
        }
        end += 1;
    }
    Some(end)
}

pub(super) fn last_unescaped_quote(text: &str) -> Option<usize> {
    let is_unescaped = |(at, _): &(usize, &str)| {
        let slashes = text[..*at].bytes().rev().take_while(|byte| *byte == b'\\');
        slashes.count() % 2 == 0
    };
    text.rmatch_indices('"')
        .find(is_unescaped)
        .map(|(at, _)| at)
}
