//! Writes one declared key as JSON Schema.

use std::cmp::Ordering;
use std::fmt;
use std::num::ParseIntError;
use std::ops::Bound;
use std::str::FromStr;

use serde::de::DeserializeOwned;

use crate::decode;
use crate::schema::Masking;
use crate::schema::field::Field;
use crate::schema::json::defs::CHAR;
use crate::schema::json::write::{Json, string, text, value};
use crate::schema::rule::{Limit, Side, shown_range};
use crate::schema::shape::Kind;
use crate::value::Value;
use crate::value::units::{self, ByteSize};

/// The keywords for a key itself. `all` receives schemas that must hold besides.
pub(super) fn object(field: &Field, masking: Masking, all: &mut Vec<Json>) -> Vec<(String, Json)> {
    let masked = masking != Masking::None;
    let mut object = Vec::new();
    let mut comments = Vec::new();
    let mut put = |name: &str, json: Json| object.push((name.to_owned(), json));
    if !field.description.is_empty() {
        put("description", string(&field.description));
    }
    let ranges: Vec<_> = field.limits.iter().filter_map(range).collect();
    // The bounds of a secret would reveal what it may be.
    let ranges = if masked { &[] } else { &*ranges };
    if field.shape.is_list {
        put("type", string("array"));
        let mut items = Vec::new();
        kind(field.shape.kind, &[], &mut |name, json| {
            items.push((name.to_owned(), json));
        });
        put("items", Json::Object(items));
    } else {
        kind(field.shape.kind, ranges, &mut put);
    }
    let not_expressed = ranges.iter().filter(|range| !is_expressed(field, range));
    comments.extend(not_expressed.map(|(start, end)| format!("range {}", shown_range(start, end))));
    if field.shape.kind == Kind::Duration && !ranges.iter().all(holds_zero) {
        let zero = Json::Object(vec![("const".to_owned(), text("0"))]);
        all.push(Json::Object(vec![("not".to_owned(), zero)]));
    }
    lengths(field, all, &mut put);
    allowed(field, masked, &mut comments, all, &mut put);
    let named = field.limits.iter().filter_map(|limit| match limit {
        Limit::Named(name) => Some(name.clone()),
        _ => None,
    });
    comments.extend(named);
    if let Some(default) = field.default.as_ref().filter(|_| !masked) {
        match typed(field, default).filter(|_| !default.may_refer()) {
            Some(default) => put("default", default),
            None => comments.push(format!("default {default}")),
        }
    }
    if masking == Masking::Whole {
        put("writeOnly", text("true"));
    }
    if let Some(instead) = &field.deprecated {
        put("deprecated", text("true"));
        if !instead.is_empty() {
            comments.push(format!("deprecated: {instead}"));
        }
    }
    if !comments.is_empty() {
        put("$comment", string(&comments.join("; ")));
    }
    if field.restart_required {
        put("x-restart-required", text("true"));
    }
    object
}

/// The two ends of a range.
type Ends<'a> = (&'a Side, &'a Side);

fn range(limit: &Limit) -> Option<Ends<'_>> {
    match limit {
        Limit::Range(start, end) => Some((start, end)),
        _ => None,
    }
}

/// The type, and its bounds with those of all ranges.
fn kind(kind: Kind, ranges: &[Ends<'_>], put: &mut dyn FnMut(&str, Json)) {
    let (mut least, mut most) = (Bound::Unbounded, Bound::Unbounded);
    match kind {
        Kind::Integer(min, max) => {
            put("type", string("integer"));
            least = Bound::Included(min.to_string());
            most = Bound::Included(max.to_string());
        }
        Kind::F32 => {
            put("type", string("number"));
            // From here on a number rounds to infinity: half a step beyond `f32::MAX`.
            let end = f64::from(f32::MAX) + 2_f64.powi(103);
            least = Bound::Excluded(format!("{:e}", -end));
            most = Bound::Excluded(format!("{end:e}"));
        }
        Kind::F64 => put("type", string("number")),
        Kind::Bool => put("type", string("boolean")),
        Kind::Text => put("type", string("string")),
        Kind::Char => {
            put("type", string("string"));
            put("pattern", string(CHAR));
        }
        Kind::Duration => put("$ref", string("#/$defs/duration")),
        Kind::ByteSize => put("$ref", string("#/$defs/size")),
        Kind::Any => {}
    }
    for (start, end) in ranges {
        least = tighter(least, number(kind, start), Ordering::Greater);
        most = tighter(most, number(kind, end), Ordering::Less);
    }
    let mut put_bound = |side: Side, included: &str, excluded: &str| match side {
        Bound::Included(bound) => put(included, text(bound)),
        Bound::Excluded(bound) => put(excluded, text(bound)),
        Bound::Unbounded => {}
    };
    put_bound(least, "minimum", "exclusiveMinimum");
    put_bound(most, "maximum", "exclusiveMaximum");
}

/// An integer of any of Rust's integer types; the order of the variants is theirs.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Integer {
    Signed(i128),
    /// More than an `i128` holds.
    Large(u128),
}

impl FromStr for Integer {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        let signed = text.parse().map(Self::Signed);
        signed.or_else(|_| text.parse().map(Self::Large))
    }
}

impl fmt::Display for Integer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signed(number) => number.fmt(f),
            Self::Large(number) => number.fmt(f),
        }
    }
}

/// An end of a range as a number; no bound if it is not a number, such as `30s`, `inf` or `'a'`.
fn number(kind: Kind, side: &Side) -> Side {
    let number = |text: &String| match kind {
        Kind::Integer(..) => text.parse::<Integer>().ok().map(|n| n.to_string()),
        Kind::F32 | Kind::F64 => {
            let finite = text.parse::<f64>().ok().filter(|n| n.is_finite());
            finite.map(|_| text.clone())
        }
        Kind::ByteSize => Some(text.parse::<ByteSize>().ok()?.bytes().to_string()),
        _ => None,
    };
    match side {
        Bound::Included(text) => number(text).map_or(Bound::Unbounded, Bound::Included),
        Bound::Excluded(text) => number(text).map_or(Bound::Unbounded, Bound::Excluded),
        Bound::Unbounded => Bound::Unbounded,
    }
}

/// Of two bounds on the same side, the one that allows less.
fn tighter(one: Side, other: Side, inward: Ordering) -> Side {
    let (Bound::Included(a) | Bound::Excluded(a)) = &one else {
        return other;
    };
    let (Bound::Included(b) | Bound::Excluded(b)) = &other else {
        return one;
    };
    // Floats do not distinguish all integers.
    let order = match (b.parse::<Integer>(), a.parse::<Integer>()) {
        (Ok(b), Ok(a)) => b.cmp(&a),
        _ => {
            let float = |text: &str| text.parse::<f64>().unwrap_or_default();
            float(b).total_cmp(&float(a))
        }
    };
    let excludes = matches!(other, Bound::Excluded(_));
    if order == inward || (order == Ordering::Equal && excludes) {
        other
    } else {
        one
    }
}

/// Whether the bounds of the type express the whole range. Bounds of sizes do not apply to text.
fn is_expressed(field: &Field, (start, end): &Ends<'_>) -> bool {
    let kind = field.shape.kind;
    let is_expressed = |side: &Side| {
        matches!(side, Bound::Unbounded) || !matches!(number(kind, side), Bound::Unbounded)
    };
    !field.shape.is_list && kind != Kind::ByteSize && is_expressed(start) && is_expressed(end)
}

fn lengths(field: &Field, all: &mut Vec<Json>, put: &mut dyn FnMut(&str, Json)) {
    let (mut least, mut most): (Option<usize>, Option<usize>) = (None, None);
    let mut possible = true;
    for limit in &field.limits {
        let Limit::Length(min, max) = limit else {
            continue;
        };
        let ends = (whole(min, 1), whole(max, -1));
        let (Ok(min), Ok(max)) = ends else {
            possible = false;
            continue;
        };
        least = least.max(min);
        most = match (most, max) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }
    if !possible {
        all.push(text("false"));
    }
    if let Some(least) = least {
        put("minLength", text(least.to_string()));
    }
    if let Some(most) = most {
        put("maxLength", text(most.to_string()));
    }
}

/// The last number that is within a bound, or `Err` where there is none.
fn whole(bound: &Bound<usize>, inward: isize) -> Result<Option<usize>, ()> {
    match bound {
        Bound::Included(bound) => Ok(Some(*bound)),
        Bound::Excluded(bound) => bound.checked_add_signed(inward).map(Some).ok_or(()),
        Bound::Unbounded => Ok(None),
    }
}

fn allowed(
    field: &Field,
    masked: bool,
    comments: &mut Vec<String>,
    all: &mut Vec<Json>,
    put: &mut dyn FnMut(&str, Json),
) {
    let mut common: Option<Vec<Json>> = None;
    for limit in field.limits.iter().filter(|_| !masked) {
        let Limit::OneOf(values) = limit else {
            continue;
        };
        let json: Option<Vec<Json>> = values.iter().map(|value| spelled(field, value)).collect();
        let Some(json) = json else {
            comments.push(limit.shown(false));
            continue;
        };
        match &mut common {
            Some(common) => common.retain(|value| json.contains(value)),
            None => common = Some(json),
        }
    }
    match common {
        Some(values) if values.is_empty() => put("not", Json::Object(Vec::new())),
        Some(_) if field.shape.kind == Kind::Char && !field.shape.is_list => {
            let pattern = one_character_of(field);
            all.push(Json::Object(vec![("pattern".to_owned(), string(&pattern))]));
        }
        Some(values) => put("enum", Json::List(values)),
        None => {}
    }
}

/// The pattern of the characters that all rules allow; space around a character does not matter.
fn one_character_of(field: &Field) -> String {
    let allowed = field.limits.iter().filter_map(|limit| match limit {
        Limit::OneOf(values) => {
            let values = values.iter();
            Some(values.filter_map(decode::read_bare).collect::<Vec<char>>())
        }
        _ => None,
    });
    let common = allowed.reduce(|one, other| {
        let both = one.into_iter().filter(|c| other.contains(c));
        both.collect()
    });
    let each = common.unwrap_or_default().into_iter().map(|c| match c {
        c if c.is_whitespace() => c.to_string(),
        c if c.is_ascii_punctuation() => format!("\\s*\\{c}\\s*"),
        c => format!("\\s*{c}\\s*"),
    });
    format!("^({})$", each.collect::<Vec<_>>().join("|"))
}

/// Whether a range of durations contains zero, which is the only one that is written without a unit.
fn holds_zero((start, end): &Ends<'_>) -> bool {
    let length = |text: &str| units::duration(text).unwrap_or_default();
    let starts = match start {
        Bound::Included(start) => length(start).is_zero(),
        Bound::Excluded(_) => false,
        Bound::Unbounded => true,
    };
    let ends = match end {
        Bound::Excluded(end) => !length(end).is_zero(),
        _ => true,
    };
    starts && ends
}

/// An allowed value, if a document has only one way to write it.
fn spelled(field: &Field, of: &Value) -> Option<Json> {
    match (field.shape.kind, of) {
        // Several numbers of a document round to one `f32`.
        (Kind::Duration | Kind::ByteSize | Kind::F32, _) => None,
        (Kind::Any, Value::Text(raw)) => {
            // It may be meant as a number, a list or a table.
            let read =
                decode::read_bare::<f64>(of).is_some() || decode::read_bare::<bool>(of).is_some();
            let is_composite = raw.contains([',', '=', '[', '{']);
            (!read && !is_composite).then(|| value(of))
        }
        _ => typed(field, of),
    }
}

/// A value as a document has it, by the declared type.
fn typed(field: &Field, of: &Value) -> Option<Json> {
    let list = field.shape.is_list;
    match field.shape.kind {
        Kind::Integer(..) => read::<i128>(list, of, |n| Some(text(n.to_string())))
            .or_else(|| read::<u128>(list, of, |n| Some(text(n.to_string())))),
        Kind::F32 | Kind::F64 => {
            read::<f64>(list, of, |f| f.is_finite().then(|| text(format!("{f:?}"))))
        }
        Kind::Bool => read::<bool>(list, of, |b| Some(text(b.to_string()))),
        Kind::Text | Kind::Char | Kind::Duration | Kind::ByteSize => {
            read::<String>(list, of, |raw| Some(string(&raw)))
        }
        Kind::Any => (!matches!(of, Value::Unset)).then(|| value(of)),
    }
}

fn read<T: DeserializeOwned>(
    list: bool,
    of: &Value,
    write: impl Fn(T) -> Option<Json>,
) -> Option<Json> {
    if !list {
        return write(decode::read_bare(of)?);
    }
    let items: Vec<T> = decode::read_bare(of)?;
    let items: Option<Vec<Json>> = items.into_iter().map(write).collect();
    items.map(Json::List)
}
