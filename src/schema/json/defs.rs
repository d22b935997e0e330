//! Types that several keys of an export refer to.

use std::fmt::Write;

use crate::schema::Schema;
use crate::schema::json::write::{Json, string, text};
use crate::schema::shape::Kind;

/// A text that is one character; space around it does not matter.
pub(super) const CHAR: &str = r"^(\s|\s*\S\s*)$";

const NUMBER: &str = "[0-9](_?[0-9])*";

/// The content of `$defs`: the types that the schema uses.
pub(super) fn definitions(schema: &Schema) -> Vec<(String, Json)> {
    let uses = |kind: Kind| schema.fields.values().any(|field| field.shape.kind == kind);
    let mut all = Vec::new();
    if uses(Kind::Duration) {
        all.push((
            "duration".to_owned(),
            any_of(vec![duration(), zero(), parts()]),
        ));
    }
    if uses(Kind::ByteSize) {
        let bytes = integer(u64::MAX);
        all.push(("size".to_owned(), any_of(vec![bytes, pattern(&size())])));
    }
    all
}

fn any_of(all: Vec<Json>) -> Json {
    object(vec![("anyOf", Json::List(all))])
}

fn object(fields: Vec<(&str, Json)>) -> Json {
    let fields = fields.into_iter();
    Json::Object(fields.map(|(name, json)| (name.to_owned(), json)).collect())
}

fn pattern(pattern: &str) -> Json {
    object(vec![
        ("type", string("string")),
        ("pattern", string(pattern)),
    ])
}

fn integer(most: u64) -> Json {
    object(vec![
        ("type", string("integer")),
        ("minimum", text("0")),
        ("maximum", text(most.to_string())),
    ])
}

/// The pattern of a number with up to `digits` digits behind the point, and zeros up to the ninth.
fn decimal(digits: usize) -> String {
    let zeros = match 9 - digits.max(1) {
        0 => String::new(),
        zeros => format!("(_?0){{0,{zeros}}}"),
    };
    match digits {
        0 => format!(r"{NUMBER}(\.0{zeros})?"),
        _ => format!(r"{NUMBER}(\.[0-9](_?[0-9]){{0,{}}}{zeros})?", digits - 1),
    }
}

/// A duration as text: larger units come first, and each is there once.
fn duration() -> Json {
    let units = [
        (9, "w|weeks?"),
        (9, "d|days?"),
        (9, "h|hrs?|hours?"),
        (9, "m|mins?|minutes?"),
        (9, "s|secs?|seconds?"),
        (6, "ms|msec|millis|milliseconds?"),
        (3, "us|usec|microseconds?|\u{b5}s|\u{3bc}s"),
        (0, "ns|nsec|nanoseconds?"),
    ];
    let mut plain = String::new();
    for (digits, unit) in units {
        let number = decimal(digits);
        let unit = any_case(unit);
        let _ = write!(plain, r"({number}\s*({unit})\s*)?");
    }
    let n = decimal(9).replace(r"\.", "[.,]");
    let time = format!("[tT]({n}[hH]({n}[mM])?({n}[sS])?|{n}[mM]({n}[sS])?|{n}[sS])");
    let iso = format!(r"[pP]({n}[wW])?({n}[dD])?({time})?\s*");
    object(vec![
        ("type", string("string")),
        ("pattern", string(&format!(r"^\s*\+?(0\s*|{plain}|{iso})$"))),
        // Each part is optional, but a duration has at least one.
        (
            "allOf",
            Json::List(vec![object(vec![("pattern", string("[0-9]"))])]),
        ),
    ])
}

/// Names in any case, except for the single `m`: `M` would be a month.
fn any_case(names: &str) -> String {
    let each = names.split('|').map(|name| match name {
        "m" => name.to_owned(),
        name => name.chars().map(any_case_of).collect(),
    });
    each.collect::<Vec<String>>().join("|")
}

fn any_case_of(c: char) -> String {
    if c.is_ascii_lowercase() {
        format!("[{c}{}]", c.to_ascii_uppercase())
    } else {
        c.to_string()
    }
}

/// Zero: the only duration without a unit.
fn zero() -> Json {
    object(vec![("const", text("0"))])
}

/// A duration as serde writes it.
fn parts() -> Json {
    let fields = [
        ("secs", integer(u64::MAX)),
        ("nanos", integer(u32::MAX.into())),
    ];
    let names = fields.iter().map(|(name, _)| string(name)).collect();
    object(vec![
        ("type", string("object")),
        ("properties", object(fields.into())),
        ("required", Json::List(names)),
        ("additionalProperties", text("false")),
    ])
}

/// A size as text.
fn size() -> String {
    let units = [
        (0, "([bB]|bytes?)?"),
        (3, "[kK][bB]"),
        (6, "[mM][bB]"),
        (9, "[gGtTpPeE][bB]"),
        (9, "[kKmMgGtTpPeE][iI][bB]?"),
    ];
    // A number in another base has no unit.
    let bases = "0[xX][0-9a-fA-F](_?[0-9a-fA-F])*|0[oO][0-7](_?[0-7])*|0[bB][01](_?[01])*";
    let each = units.map(|(digits, unit)| format!(r"{}\s*{unit}", decimal(digits)));
    format!(r"^\s*\+?({}|{bases})\s*$", each.join("|"))
}
