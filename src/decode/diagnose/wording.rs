//! The words of errors: names of types, lists of names, shortened values.

use crate::decode::diagnose::form::INTEGERS;

/// Stands for the name of a type that is internal to serde.
const SERDE_INTERNAL: &str = "\u{1}serde";

/// The name of a type without its modules.
pub(crate) fn type_name<T: ?Sized>() -> String {
    without_modules(std::any::type_name::<T>())
}

fn without_modules(full: &str) -> String {
    let inside = [
        "serde_core::private",
        "serde::__private",
        "serde::private",
        "::__Field",
    ];
    if inside.iter().any(|part| full.contains(part)) {
        return SERDE_INTERNAL.to_owned();
    }
    let full = implemented_for(full);
    let mut short = String::new();
    let mut word = String::new();
    let mut chars = full.chars().peekable();
    while let Some(c) = chars.next() {
        if c == ':' && chars.peek() == Some(&':') {
            chars.next();
            word.clear();
        } else if c.is_alphanumeric() || c == '_' {
            word.push(c);
        } else {
            short.push_str(&std::mem::take(&mut word));
            short.push(c);
        }
    }
    short.push_str(&word);
    truncate(&short, 60)
}

/// The implementing type in the name of an item of an `impl`: `X` of `<impl Trait for X>::f::Visitor`.
fn implemented_for(name: &str) -> &str {
    let start = name
        .find("<impl ")
        .and_then(|at| Some(at + name[at..].find(" for ")? + " for ".len()));
    let Some(start) = start else { return name };
    let mut depth = 1usize;
    let end = name[start..].find(|c| {
        match c {
            '<' => depth += 1,
            '>' => depth -= 1,
            _ => {}
        }
        depth == 0
    });
    &name[start..end.map_or(name.len(), |end| start + end)]
}

/// Whether the name of an expected type means nothing outside of serde.
pub(crate) fn is_serde_internal(expected: &str) -> bool {
    expected == SERDE_INTERNAL || expected == "any value"
}

/// Whether a message is serde's own about an untagged enum, which quotes no value.
pub(super) fn is_serde_wording(message: &str) -> bool {
    let name = message.strip_prefix("data did not match any variant of untagged enum ");
    name.is_some_and(|name| {
        name.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    })
}

/// Whether this is serde's name for a type of numbers.
pub(super) fn is_number(expected: &str) -> bool {
    INTEGERS.contains(&expected) || ["f32", "f64"].contains(&expected)
}

/// The expected names of an error: "one of `a`, `b`".
pub(super) fn list_names(names: &[&str]) -> String {
    if names.is_empty() {
        return "nothing".into();
    }
    let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    truncate(&format!("one of {}", names.join(", ")), 200)
}

/// Quotes a text and truncates it to a readable length.
pub(crate) fn shorten(text: &str) -> String {
    format!("{:?}", truncate(text, 32))
}

/// The first `most` characters of a text.
pub(super) fn truncate(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}
