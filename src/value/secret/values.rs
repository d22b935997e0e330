//! Finds the bounds of a value in a text, and whether it may be a secret. Shared by all forms.

use std::ops::Range;

use crate::error::MASK;

/// Receives a secret part of a text; returns whether to continue.
pub(super) type OnSecret<'a> = dyn FnMut(Range<usize>) -> bool + 'a;

/// The value that begins at `begin`, if it may be a secret. `ends` are the characters that end it.
pub(super) fn shown_value(text: &str, begin: usize, ends: &[char]) -> Option<Range<usize>> {
    let inner = text[begin..].trim_start_matches(['\\', '"', '\'', '{']);
    if inner.trim_start().starts_with(MASK) {
        return None;
    }
    let value = value_at(text, begin, ends);
    is_shown_value(&text[value.clone()]).then_some(value)
}

/// The value that begins at `begin`: in quotes or braces, or up to one of `ends`.
fn value_at(text: &str, begin: usize, ends: &[char]) -> Range<usize> {
    let rest = &text[begin..];
    // The quote is escaped in text that is quoted itself.
    let slash = usize::from(rest.starts_with('\\'));
    let close = match rest[slash..].chars().next() {
        Some('"') => '"',
        Some('\'') => '\'',
        Some('{') => '}',
        _ => {
            let end = rest.find(ends).unwrap_or(rest.len());
            return begin..begin + rest[..end].trim_end().len();
        }
    };
    let inner = begin + slash + 1;
    let mut escaped = false;
    let end = text[inner..].find(|c: char| {
        let is_end = c == close && (!escaped || slash > 0);
        escaped = c == '\\' && !escaped;
        is_end
    });
    let end = end.map_or(text.len(), |end| inner + end);
    inner..end - usize::from(slash > 0 && text[inner..end].ends_with('\\'))
}

/// Whether a value may be a secret, and is not empty, masked, a switch or a reference.
pub(super) fn is_shown_value(value: &str) -> bool {
    let value = value.trim();
    const SWITCHES: [&str; 11] = [
        "null", "~", "none", "nil", "true", "false", "on", "off", "yes", "no", "disabled",
    ];
    let is_switch = value.is_empty() || SWITCHES.iter().any(|it| value.eq_ignore_ascii_case(it));
    !is_switch && !value.starts_with(MASK) && !is_reference(value)
}

/// Whether a text is a reference to a key, without the value. A reference with a default may hold a secret.
pub(super) fn is_reference(text: &str) -> bool {
    let name = text.strip_prefix("${").and_then(|it| it.strip_suffix('}'));
    let is_name_char = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    name.is_some_and(|name| name.chars().all(is_name_char))
}

/// The words of a text as ranges.
pub(super) fn words<'a>(
    text: &'a str,
    separators: &'a [char],
) -> impl Iterator<Item = Range<usize>> + 'a {
    let base = text.as_ptr() as usize;
    text.split(separators)
        .filter(|word| !word.is_empty())
        .map(move |word| {
            let begin = word.as_ptr() as usize - base;
            begin..begin + word.len()
        })
}

/// A text up to the end of its line.
pub(super) fn line(text: &str) -> &str {
    text.split(['\n', '\r']).next().unwrap_or_default()
}

/// The last start of a character at or before `at`.
pub(super) fn boundary(text: &str, at: usize) -> usize {
    let at = at.min(text.len());
    (0..=at)
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0)
}

/// The number of blanks that a text begins with.
pub(super) fn blanks(text: &str) -> usize {
    text.len() - text.trim_start_matches([' ', '\t']).len()
}
