//! Splits a text at its `${references}`.

use crate::error::Error;
use crate::tree::interpolate::reference_error;

/// Limits the references inside references.
const MAX_NESTING: usize = 16;

/// A text, split at its references.
pub(super) struct Parts<'a>(pub(super) Vec<Part<'a>>);

pub(super) enum Part<'a> {
    Text(&'a str),
    Reference {
        key: Parts<'a>,
        default: Option<Parts<'a>>,
        written: &'a str,
    },
}

impl<'a> Parts<'a> {
    pub(super) fn of(text: &'a str, nesting: usize) -> Result<Self, Error> {
        if nesting > MAX_NESTING {
            return Err(reference_error(format!(
                "nests more than {MAX_NESTING} references in each other"
            )));
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            // Each pair of the dollars before the brace is one dollar; one that is left over opens a
            // reference.
            let before = rest[..at].trim_end_matches('$');
            let dollars = at + 1 - before.len();
            parts.push(Part::Text(&rest[..before.len() + dollars / 2]));
            if dollars % 2 == 0 {
                parts.push(Part::Text("{"));
                rest = &rest[at + 2..];
                continue;
            }
            let Some(end) = closing(&rest[at + 2..]) else {
                rest = &rest[at..];
                break;
            };
            let inside = &rest[at + 2..at + 2 + end];
            let written = &rest[at..at + 2 + end + 1];
            let (key, default) = match colon(inside) {
                Some(colon) => (
                    &inside[..colon],
                    Some(Self::of(&inside[colon + 1..], nesting + 1)?),
                ),
                None => (inside, None),
            };
            parts.push(Part::Reference {
                key: Self::of(key, nesting + 1)?,
                default,
                written,
            });
            rest = &rest[at + 2 + end + 1..];
        }
        parts.push(Part::Text(rest));
        parts.retain(|part| !matches!(part, Part::Text("")));
        Ok(Self(parts))
    }
}

/// The default of a reference as it is written, without the operator of a shell at its start.
pub(super) fn default_after_operator(written: &str) -> Option<&str> {
    let inside = written.strip_prefix("${")?.strip_suffix('}')?;
    let default = &inside[colon(inside)? + 1..];
    default.get(1..)
}

/// Where the brace closes that was opened just before `text`.
fn closing(text: &str) -> Option<usize> {
    let mut open = 0usize;
    let bytes = text.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'{' if at > 0 && bytes[at - 1] == b'$' => open += 1,
            b'}' if open == 0 => return Some(at),
            b'}' => open -= 1,
            _ => {}
        }
    }
    None
}

/// Where the default begins: the first colon outside quotes and inner references.
fn colon(inside: &str) -> Option<usize> {
    let mut open = 0usize;
    let mut quoted = false;
    let bytes = inside.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'"' if open == 0 => quoted = !quoted,
            b'{' if at > 0 && bytes[at - 1] == b'$' => open += 1,
            b'}' if open > 0 => open -= 1,
            b':' if open == 0 && !quoted => return Some(at),
            _ => {}
        }
    }
    None
}
