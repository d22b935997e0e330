//! Finds secrets behind secret names in headers, JSON, YAML and XML, and private keys.

use crate::value::secret::names::{header_looks_secret, looks_secret};
use crate::value::secret::values::{OnSecret, blanks, boundary, is_shown_value, shown_value};

/// Finds values behind a secret name and `:`, in headers, JSON and YAML.
pub(super) fn find_fields(text: &str, on_secret: &mut OnSecret<'_>) -> bool {
    let mut done = 0;
    for (at, _) in text.match_indices(':') {
        if at < done {
            continue;
        }
        let before = text[..at].trim_end();
        let quoted = before.ends_with(['"', '\'']);
        let before = before.trim_end_matches(['\\', '"', '\'']);
        let is_name_char = |c: char| c.is_alphanumeric() || "-_.".contains(c);
        let begin = before.len()
            - before
                .chars()
                .rev()
                .take_while(|c| is_name_char(*c))
                .map(char::len_utf8)
                .sum::<usize>();
        let name = &before[begin..];
        let lead = before[..begin].trim_end_matches([' ', '\t']);
        let is_begin = lead.is_empty()
            || lead.ends_with(['\n', '{', ',', '"', '\'', '-', '?'])
            || is_option_slash(lead)
            || lead.ends_with("-H")
            || lead.ends_with("--header");
        let after = &text[at + 1..];
        let is_field = quoted
            || (is_begin
                && (after.starts_with([' ', '\t']) || is_field_without_blank(name, after)));
        if name.is_empty() || !is_field || !header_looks_secret(name) {
            continue;
        }
        let begin = at + 1 + blanks(after);
        let ends: &[char] = if quoted || lead.ends_with(['{', ',']) {
            &[',', '}', '\n']
        } else {
            &['\n', '\r', '"', '\'']
        };
        if text[begin..].starts_with(['{', '[']) {
            return on_secret(begin..text.len());
        }
        let Some(value) = shown_value(text, begin, ends) else {
            continue;
        };
        done = value.end;
        if !on_secret(value) {
            return false;
        }
    }
    true
}

/// Whether a text ends with the slash of an option: `/password:hunter2`.
fn is_option_slash(lead: &str) -> bool {
    lead.strip_suffix('/')
        .is_some_and(|before| before.is_empty() || before.ends_with([' ', '\t', '\n']))
}

/// Whether a name and the text directly behind its colon are a field: `X-Api-Key:abc`, and not
/// `auth.example.com:8080`, `auth:latest` or `secret://path`.
fn is_field_without_blank(name: &str, after: &str) -> bool {
    let (before, last) = name.rsplit_once(['-', '_', '.']).unwrap_or(("", name));
    let ends_secret = header_looks_secret(last)
        || ["key", "id", "string"]
            .iter()
            .any(|it| last.eq_ignore_ascii_case(it))
        || !looks_secret(before);
    let value = after
        .split(['/', ',', ' ', '\n'])
        .next()
        .unwrap_or_default();
    let is_version = value.bytes().all(|b| b.is_ascii_digit() || b == b'.') && value.len() <= 8;
    let is_password = name.len() < 80 && {
        let name = name.to_ascii_lowercase();
        ["pass", "pw", "pin"].iter().any(|it| name.contains(it))
    };
    ends_secret
        && !after.starts_with([':', '/'])
        && value != "latest"
        && (is_password || !is_version)
}

/// Finds secrets in elements of XML: `<password>hunter2</password>`, `<add key="ApiKey" value="hunter2"/>`.
pub(super) fn find_elements(text: &str, on_secret: &mut OnSecret<'_>) -> bool {
    let mut done = 0;
    for (at, _) in text.match_indices("</") {
        let begin = text[done..at].rfind('>').map(|begin| done + begin + 1);
        done = at;
        let name = text[at + 2..boundary(text, at + 82)].split('>').next();
        let Some((begin, name)) = begin.zip(name) else {
            continue;
        };
        let value = begin..at;
        if looks_secret(name) && is_shown_value(&text[value.clone()]) && !on_secret(value) {
            return false;
        }
    }
    text.match_indices("value=").all(|(at, sign)| {
        let before = &text[boundary(text, at.saturating_sub(100))..at];
        let Some(before) = before.trim_end().strip_suffix(['"', '\'']) else {
            return true;
        };
        let (rest, name) = before.rsplit_once(['"', '\'']).unwrap_or_default();
        if !rest.ends_with(" key=") && !rest.ends_with(" name=") || !looks_secret(name) {
            return true;
        }
        let value = shown_value(text, at + sign.len(), &[' ', '>', '\n']);
        value.is_none_or(&mut *on_secret)
    })
}

/// Prefixes of private keys. The text before them is shown.
const PRIVATE_KEYS: [&str; 3] = [
    "AGE-SECRET-KEY-1",
    "PuTTY-User-Key-File-",
    "-----BEGIN OpenVPN Static key",
];

/// Finds private keys in PEM and in other text formats.
pub(super) fn find_private_keys(text: &str, on_secret: &mut OnSecret<'_>) -> bool {
    // Of PEM and of SSH2.
    for (begin, end) in [("-----BEGIN ", "-----"), ("---- BEGIN ", "----")] {
        for (at, _) in text.match_indices(begin) {
            let title = text[at + begin.len()..].split(end).next();
            if title.is_some_and(|title| title.contains("PRIVATE KEY")) {
                return on_secret(at..text.len());
            }
        }
    }
    PRIVATE_KEYS
        .iter()
        .all(|begin| text.find(begin).is_none_or(|at| on_secret(at..text.len())))
}
