//! What JSON Schema can say of one declared key.

use std::cmp::Ordering;
use std::ops::Bound;

use serde_core::de::DeserializeOwned;

use crate::schema::Veil;
use crate::schema::declaration::{Field, Limit, Side, shown_range};
use crate::schema::json::write::{Json, string, text, value};
use crate::schema::shape::Kind;
use crate::value::Value;
use crate::value::coerce;
use crate::value::origin::Origin;
use crate::value::units::ByteSize;

/// All that is said of a key itself.
pub(super) fn object(field: &Field, veil: Veil) -> Vec<(String, Json)> {
    let masked = veil != Veil::None;
    let mut object = Vec::new();
    let mut comments = Vec::new();
    let mut put = |name: &str, json: Json| object.push((name.to_owned(), json));
    if !field.description.is_empty() {
        put("description", string(&field.description));
    }
    let ranges: Vec<_> = field.limits.iter().filter_map(range).collect();
    // The bounds of a secret say what it may be.
    let ranges = if masked { &[] } else { &*ranges };
    match field.shape.list {
        true => {
            put("type", string("array"));
            let mut items = Vec::new();
            kind(field.shape.kind, &[], &mut |name, json| {
                items.push((name.to_owned(), json));
            });
            put("items", Json::Object(items));
        }
        false => kind(field.shape.kind, ranges, &mut put),
    }
    let untold = ranges.iter().filter(|range| !is_told(field, range));
    comments.extend(untold.map(|(start, end)| format!("range {}", shown_range(start, end))));
    lengths(field, &mut comments, &mut put);
    allowed(field, masked, &mut comments, &mut put);
    let checks = field.limits.iter().filter_map(|limit| match limit {
        Limit::Check(name) => Some(name.clone()),
        _ => None,
    });
    comments.extend(checks);
    if let Some(default) = field.default.as_ref().filter(|_| !masked) {
        match typed(field, default).filter(|_| !default.may_refer()) {
            Some(default) => put("default", default),
            None => comments.push(format!("default {default}")),
        }
    }
    if veil == Veil::Whole {
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
    if field.restart {
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
        Kind::Float => put("type", string("number")),
        Kind::Bool => put("type", string("boolean")),
        Kind::Text | Kind::Duration => put("type", string("string")),
        Kind::ByteSize => {
            let types = vec![string("string"), string("integer")];
            put("type", Json::List(types));
            least = Bound::Included("0".to_owned());
        }
        Kind::Any => {}
    }
    for (start, end) in ranges {
        least = tighter(least, number(kind, start), Ordering::Greater);
        most = tighter(most, number(kind, end), Ordering::Less);
    }
    let mut tell = |side: Side, included: &str, excluded: &str| match side {
        Bound::Included(bound) => put(included, text(bound)),
        Bound::Excluded(bound) => put(excluded, text(bound)),
        Bound::Unbounded => {}
    };
    tell(least, "minimum", "exclusiveMinimum");
    tell(most, "maximum", "exclusiveMaximum");
}

/// An end of a range as a number; no bound where it is none, such as `30s`, `inf` or `'a'`.
fn number(kind: Kind, side: &Side) -> Side {
    let number = |text: &String| match kind {
        Kind::Integer(..) => text.parse::<i128>().ok().map(|n| n.to_string()),
        Kind::Float => {
            let finite = text.parse::<f64>().ok().filter(|n| n.is_finite());
            finite.map(|_| text.clone())
        }
        Kind::ByteSize => Some(text.parse::<ByteSize>().ok()?.as_u64().to_string()),
        _ => None,
    };
    match side {
        Bound::Included(text) => number(text).map_or(Bound::Unbounded, Bound::Included),
        Bound::Excluded(text) => number(text).map_or(Bound::Unbounded, Bound::Excluded),
        Bound::Unbounded => Bound::Unbounded,
    }
}

/// Of two bounds on the same side the one that leaves less.
fn tighter(one: Side, other: Side, inward: Ordering) -> Side {
    let (Bound::Included(a) | Bound::Excluded(a)) = &one else {
        return other;
    };
    let (Bound::Included(b) | Bound::Excluded(b)) = &other else {
        return one;
    };
    // Floats do not tell apart what integers do.
    let order = match (b.parse::<i128>(), a.parse::<i128>()) {
        (Ok(b), Ok(a)) => b.cmp(&a),
        _ => {
            let float = |text: &str| text.parse::<f64>().unwrap_or_default();
            float(b).total_cmp(&float(a))
        }
    };
    let excludes = matches!(other, Bound::Excluded(_));
    match order == inward || (order == Ordering::Equal && excludes) {
        true => other,
        false => one,
    }
}

/// Whether the bounds of the type say all of a range. Those of sizes are not for text.
fn is_told(field: &Field, (start, end): &Ends<'_>) -> bool {
    let kind = field.shape.kind;
    let told = |side: &Side| {
        matches!(side, Bound::Unbounded) || !matches!(number(kind, side), Bound::Unbounded)
    };
    !field.shape.list && kind != Kind::ByteSize && told(start) && told(end)
}

fn lengths(field: &Field, comments: &mut Vec<String>, put: &mut dyn FnMut(&str, Json)) {
    let (mut least, mut most): (Option<usize>, Option<usize>) = (None, None);
    for limit in &field.limits {
        let Limit::Length(min, max) = limit else {
            continue;
        };
        let ends = (whole(min, 1), whole(max, -1));
        let (Ok(min), Ok(max)) = ends else {
            comments.push(limit.shown(false)); // no length at all
            continue;
        };
        least = least.max(min);
        most = match (most, max) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
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
        Some(values) => put("enum", Json::List(values)),
        None => {}
    }
}

/// An allowed value, if a document has but this one way to write it.
fn spelled(field: &Field, of: &Value) -> Option<Json> {
    match (field.shape.kind, of) {
        (Kind::Duration | Kind::ByteSize, _) => None,
        (Kind::Any, Value::Text(raw)) => {
            // It may be meant as a number, a list or a table.
            let read = coerce::decode_value::<f64>("", of, &Origin::new("", ""), false).is_ok()
                || coerce::decode_value::<bool>("", of, &Origin::new("", ""), false).is_ok();
            let apart = raw.contains([',', '=', '[', '{']);
            (!read && !apart).then(|| value(of))
        }
        _ => typed(field, of),
    }
}

/// A value as a document holds it, by the declared type.
fn typed(field: &Field, of: &Value) -> Option<Json> {
    let list = field.shape.list;
    match field.shape.kind {
        Kind::Integer(..) => read::<i128>(list, of, |n| Some(text(n.to_string()))),
        Kind::Float => read::<f64>(list, of, |f| f.is_finite().then(|| text(format!("{f:?}")))),
        Kind::Bool => read::<bool>(list, of, |b| Some(text(b.to_string()))),
        Kind::Text | Kind::Duration | Kind::ByteSize => {
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
    let origin = Origin::new("", "");
    if !list {
        return write(coerce::decode_value("", of, &origin, true).ok()?);
    }
    let items: Vec<T> = coerce::decode_value("", of, &origin, true).ok()?;
    let items: Option<Vec<Json>> = items.into_iter().map(write).collect();
    items.map(Json::List)
}
