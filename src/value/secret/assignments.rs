//! Finds secrets behind a secret name and `=`: in queries of addresses, connection strings, command lines
//! and documents.

use crate::value::secret::names::{looks_secret, parameter_looks_secret};
use crate::value::secret::values::{OnSecret, blanks, boundary, is_shown_value, shown_value};

/// The characters that end the value of a parameter in an address.
const PARAMETER_ENDS: [char; 9] = ['&', ';', '#', ' ', '\n', '"', '\'', '<', '>'];

/// As [`PARAMETER_ENDS`], for a parameter of the path: `/x;jsessionid=S?a=b`.
const PATH_PARAMETER_ENDS: [char; 10] = ['?', '&', ';', '#', ' ', '\n', '"', '\'', '<', '>'];

/// `&` as HTML escapes it.
const AMPERSANDS: [&str; 4] = ["&amp;", "&#38;", "&#x26;", "&AMP;"];

/// The maximum length of an index behind a name: `user[password]`.
const LONGEST_INDEX: usize = 80;

/// Finds the values behind a secret name and `=`.
pub(super) fn find_assignments(text: &str, on_secret: &mut OnSecret<'_>) -> bool {
    let pair_ends: &[char] = if text.contains(';') {
        &[';', '\n']
    } else {
        &[' ', '\t', '\n']
    };
    let mut done = 0;
    let mut word = WordBefore::default();
    for (at, _) in text.match_indices('=') {
        word.advance(text, at);
        if at < done {
            continue;
        }
        let name = Name::before(&text[..at]);
        let Some(ending) = name.secret_value_ending(&word) else {
            continue;
        };
        let begin = at + 1 + blanks(&text[at + 1..]);
        let ends = match ending {
            Ending::Pair => pair_ends,
            Ending::Parameter if name.is_separated() || word.has_query => &PARAMETER_ENDS[..],
            Ending::Parameter => &PATH_PARAMETER_ENDS,
        };
        let Some(value) = shown_value(text, begin, ends) else {
            continue;
        };
        if is_count(name.text, &text[value.clone()]) {
            continue;
        }
        done = value.end;
        if !on_secret(value) {
            return false;
        }
    }
    true
}

/// The part of a word before a position.
#[derive(Default)]
struct WordBefore {
    at: usize,
    /// Whether it contains `?` or `#`, so that parameters follow.
    has_query: bool,
    /// Whether it is an address.
    has_scheme: bool,
    /// Whether it is an address of the web, whose values contain no blank.
    is_web: bool,
}

impl WordBefore {
    /// Moves to a later position.
    fn advance(&mut self, text: &str, to: usize) {
        let from = self.at;
        for (at, byte) in (from..).zip(&text.as_bytes()[from..to]) {
            match byte {
                b' ' | b'\t' | b'\n' | b'"' | b'\'' | b'<' | b'>' => {
                    *self = Self::default();
                }
                b'?' | b'#' => self.has_query = true,
                b':' if text.as_bytes()[at..].starts_with(b"://") => {
                    let scheme = &text.as_bytes()[..at];
                    self.has_scheme = true;
                    self.is_web = scheme.ends_with(b"http") || scheme.ends_with(b"https");
                }
                _ => {}
            }
        }
        self.at = to;
    }
}

/// The characters that end a value.
enum Ending {
    /// Those that separate the pairs of a connection string or a command line.
    Pair,
    /// Those that end a parameter in an address.
    Parameter,
}

/// The name before a `=`.
struct Name<'a> {
    text: &'a str,
    /// The brackets behind the name: `[0][password]`.
    index: &'a str,
    /// The character before it.
    lead: Option<char>,
}

impl<'a> Name<'a> {
    /// The name at the end of a text.
    fn before(text: &'a str) -> Self {
        let text = text.trim_end_matches([' ', '"', '\'']);
        let index = index_before(text);
        let text = text[..text.len() - index.len()].trim_end_matches([' ', '"', '\'']);
        let ends = |c: char| "=;,&?#{}()[]\"'\n<>|".contains(c);
        let begin = text.rfind(ends).map_or(0, |at| {
            at + text[at..].chars().next().map_or(1, char::len_utf8)
        });
        let before = &text[..begin];
        // `&` as JSON escapes it: `1\u0026sig`.
        let escaped = text[begin..].rsplit_once(r"\u0026");
        let name = escaped.map_or(&text[begin..], |(_, name)| name).trim();
        let is_ampersand = escaped.is_some() || AMPERSANDS.iter().any(|it| before.ends_with(it));
        let lead = if is_ampersand {
            Some('&')
        } else {
            before.chars().next_back()
        };
        // `host=h password=pw` has blanks between the pairs, `Shared Key=pw` in a name.
        let most = if lead == Some('=') { 1 } else { 3 };
        let from = name
            .rmatch_indices([' ', '\t'])
            .nth(most - 1)
            .map_or(0, |(at, _)| at + 1);
        Self {
            text: &name[from..],
            index,
            lead,
        }
    }

    /// Whether the character before the name makes it a parameter.
    fn is_separated(&self) -> bool {
        matches!(self.lead, Some('?' | '&' | '#'))
    }

    /// Returns how the value ends, if the name is secret.
    fn secret_value_ending(&self, word: &WordBefore) -> Option<Ending> {
        let is_parameter = || self.any(parameter_looks_secret);
        let is_named = || self.text.len() < 80 && self.any(looks_secret);
        if self.is_separated() {
            return is_parameter().then_some(Ending::Parameter);
        }
        let in_address = self.lead == Some(';') && (word.has_query || word.has_scheme);
        if is_named() {
            // In a connection string, a value may contain characters that end a parameter.
            return Some(if in_address && word.is_web {
                Ending::Parameter
            } else {
                Ending::Pair
            });
        }
        (in_address && is_parameter()).then_some(Ending::Parameter)
    }

    /// Whether the name or a part of its index is secret.
    fn any(&self, is_secret: impl Fn(&str) -> bool) -> bool {
        let parts = self.index.split(['[', ']', '"', '\'']);
        let mut parts = parts.filter(|part| !part.is_empty());
        (!self.text.is_empty() && is_secret(self.text)) || parts.any(is_secret)
    }
}

/// The brackets at the end of a text, with their content.
fn index_before(text: &str) -> &str {
    let first = boundary(text, text.len().saturating_sub(LONGEST_INDEX));
    let mut begin = text.len();
    while text[first..begin].ends_with(']') {
        match text[first..begin].rfind('[') {
            Some(open) => begin = first + open,
            None => break,
        }
    }
    &text[begin..]
}

/// Whether a value is a small number of a name that often counts: `http://h/?code=404`, `pass=3 fail=0`.
fn is_count(name: &str, value: &str) -> bool {
    let counts = ["pass", "code", "key", "ticket"];
    (1..=3).contains(&value.len())
        && value.bytes().all(|b| b.is_ascii_digit())
        && counts.iter().any(|it| name.eq_ignore_ascii_case(it))
}

/// Finds secret parameters of an address that is itself the value of a parameter: `?to=%2Fx%3Fsig%3DS`.
pub(super) fn find_escaped_parameters(text: &str, on_secret: &mut OnSecret<'_>) -> bool {
    let mut done = 0;
    for (at, _) in text.match_indices(['D', 'd']) {
        let begin = at + 1;
        let before = text[..at].strip_suffix('3').and_then(unescaped_percent);
        let name = before.and_then(escaped_name);
        if begin < done || !name.is_some_and(parameter_looks_secret) {
            continue;
        }
        let end = begin + escaped_value(&text[begin..]).len();
        if !is_shown_value(&text[begin..end]) {
            continue;
        }
        done = end;
        if !on_secret(begin..end) {
            return false;
        }
    }
    true
}

/// The value at the start of a text, up to a separator, which may be escaped.
fn escaped_value(text: &str) -> &str {
    let is_end = |(at, c): &(usize, char)| {
        let code = || text[at + 1..].trim_start_matches("25");
        PARAMETER_ENDS.contains(c)
            || (*c == '%' && SEPARATORS.iter().any(|it| code().starts_with(it)))
    };
    let end = text.char_indices().find(is_end);
    &text[..end.map_or(text.len(), |(at, _)| at)]
}

/// The escapes of the separators of parameters, and of `#`.
const SEPARATORS: [&str; 6] = ["26", "3F", "3f", "3B", "3b", "23"];

/// The text before the `%` at its end, which may be escaped itself, even more than once.
fn unescaped_percent(text: &str) -> Option<&str> {
    text.trim_end_matches("25").strip_suffix('%')
}

/// The name of a parameter at the end of a text, behind an escaped separator.
fn escaped_name(text: &str) -> Option<&str> {
    let (_, run) = text.rsplit_once('%')?;
    let run = run.trim_start_matches("25");
    let name = SEPARATORS.iter().find_map(|it| run.strip_prefix(it))?;
    let is_name = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    (!name.is_empty() && name.len() < 80 && name.chars().all(is_name)).then_some(name)
}

#[cfg(test)]
mod tests {
    use crate::value::secret::forms::mask_text;

    #[test]
    fn only_the_value_of_a_parameter_is_masked() {
        for (text, masked) in [
            ("http://h/x?a=1;sig=S;b=2", "http://h/x?a=1;sig=******;b=2"),
            ("http://h/x;sig=S/y?b=2", "http://h/x;sig=******?b=2"),
            ("http://h/x?sig[]=S&b=2", "http://h/x?sig[]=******&b=2"),
            ("http://h/x?u[pwd]=S&b=2", "http://h/x?u[pwd]=******&b=2"),
            (
                "http://h/x?a=1&amp;sig=S&amp;b=2",
                "http://h/x?a=1&amp;sig=******&amp;b=2",
            ),
            (
                "http://h/?to=%2Fy%3Fsig%3DS%26b%3D2&c=3",
                "http://h/?to=%2Fy%3Fsig%3D******%26b%3D2&c=3",
            ),
            ("x://h;a=1;pwd=p w;b=2", "x://h;a=1;pwd=******;b=2"),
        ] {
            assert_eq!(mask_text(text), masked);
            assert_eq!(mask_text(masked), masked, "masked twice");
        }
    }
}
