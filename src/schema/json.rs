//! A schema as JSON Schema, draft 2020-12.
//!
//! Written by hand: serde_json comes with a feature only, what there is to write is a tree of
//! objects, and so every program can have its schema written.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::schema::Schema;
use crate::schema::declaration::{Field, Limit, Side};
use crate::schema::shape::Kind;
use crate::value::Value;
use crate::value::key::Key;

/// What is declared at a key and below it.
struct Branch<'a> {
    at: Key,
    field: Option<&'a Field>,
    below: BTreeMap<String, Branch<'a>>,
}

/// JSON that is ready, except that objects are kept apart to be written with their indent.
enum Json {
    Text(String),
    Object(Vec<(String, Json)>),
    List(Vec<Json>),
}

impl Schema {
    /// The declared keys as JSON Schema, draft 2020-12, for editors and for checks in CI: dotted
    /// keys are nested objects, and under a strict prefix other names are not allowed.
    ///
    /// It describes documents. The environment and stores of bytes hold text for every type, which
    /// is read all the same. Defaults of secrets are left out, and what a
    /// [`check`](crate::schema::Declaration::check) does is told in a comment.
    ///
    /// A value that is required is so in the layers together; hold a single document of several
    /// against it without `required`.
    pub fn to_json_schema(&self) -> String {
        let mut root = Branch::new(Key::root());
        for (key, field) in &self.fields {
            let mut branch = &mut root;
            for name in key.segments() {
                // What stands above a key is one.
                let Ok(at) = branch.at.child(&name) else {
                    break;
                };
                let below = branch.below.entry(name.into_owned());
                branch = below.or_insert_with(|| Branch::new(at));
            }
            branch.field = Some(field);
        }
        let dialect = "https://json-schema.org/draft/2020-12/schema";
        let mut whole = vec![("$schema".to_owned(), string(dialect))];
        whole.extend(self.branch(&root));
        let mut text = String::new();
        Json::Object(whole).write(&mut text, 0);
        text.push('\n');
        text
    }

    fn branch(&self, branch: &Branch<'_>) -> Vec<(String, Json)> {
        let mut object = match branch.field {
            Some(field) => self.field(&branch.at, field),
            None => vec![("type".to_owned(), string("object"))],
        };
        if branch.below.is_empty() && branch.field.is_some() {
            return object;
        }
        let properties = branch.below.iter();
        let properties = properties.map(|(name, b)| (name.clone(), Json::Object(self.branch(b))));
        object.push(("properties".to_owned(), Json::Object(properties.collect())));
        let required = branch.below.iter().filter(|(_, below)| below.is_required());
        let required: Vec<Json> = required.map(|(name, _)| string(name)).collect();
        if !required.is_empty() {
            object.push(("required".to_owned(), Json::List(required)));
        }
        if branch.field.is_none() && self.is_strict(&branch.at) {
            object.push(("additionalProperties".to_owned(), text("false")));
        }
        object
    }

    fn field(&self, key: &Key, field: &Field) -> Vec<(String, Json)> {
        let masked = self.hides(key, field);
        let mut object = Vec::new();
        let mut put = |name: &str, json: Json| object.push((name.to_owned(), json));
        if !field.description.is_empty() {
            put("description", string(&field.description));
        }
        match field.shape.list {
            true => {
                put("type", string("array"));
                let mut items = Vec::new();
                kind(field, &mut |name, json| items.push((name.to_owned(), json)));
                put("items", Json::Object(items));
            }
            false => kind(field, &mut put),
        }
        // Of several rules of a kind the last one is told; bounds are with the type.
        let mut limits = field.limits.iter().rev();
        if let Some(Limit::Length(min, max)) =
            limits.clone().find(|l| matches!(l, Limit::Length(..)))
        {
            if let Some(min) = whole(min, 1) {
                put("minLength", text(min.to_string()));
            }
            if let Some(max) = whole(max, -1) {
                put("maxLength", text(max.to_string()));
            }
        }
        if let Some(Limit::OneOf(values)) = limits.find(|l| matches!(l, Limit::OneOf(_))) {
            if !masked {
                put("enum", Json::List(values.iter().map(value).collect()));
            }
        }
        let checks = field.limits.iter().filter_map(|limit| match limit {
            Limit::Check(name) => Some(name.as_str()),
            _ => None,
        });
        let checks: Vec<&str> = checks.collect();
        if !checks.is_empty() {
            put("$comment", string(&checks.join("; ")));
        }
        if let Some(default) = field.default.as_ref().filter(|_| !masked) {
            put("default", value(default));
        }
        if masked {
            put("writeOnly", text("true"));
        }
        if field.deprecated.is_some() {
            put("deprecated", text("true"));
        }
        if field.restart {
            put("x-restart-required", text("true"));
        }
        object
    }
}

impl Branch<'_> {
    fn new(at: Key) -> Self {
        Self {
            at,
            field: None,
            below: BTreeMap::new(),
        }
    }

    /// Whether it has to be there: a default stands in for what is not.
    fn is_required(&self) -> bool {
        self.field
            .is_some_and(|f| f.required && f.default.is_none())
            || self.below.values().any(Branch::is_required)
    }
}

/// The type and its bounds.
fn kind(field: &Field, put: &mut dyn FnMut(&str, Json)) {
    match field.shape.kind {
        Kind::Integer(least, most) => {
            put("type", string("integer"));
            bounds(field, Some(least), Some(most), put);
        }
        Kind::Float => {
            put("type", string("number"));
            bounds(field, None, None, put);
        }
        Kind::Bool => put("type", string("boolean")),
        Kind::Text | Kind::Duration => put("type", string("string")),
        Kind::ByteSize => {
            put(
                "type",
                Json::List(vec![string("string"), string("integer")]),
            );
            put("minimum", text("0"));
        }
        Kind::Any => {}
    }
}

/// The bounds of the last range, or else those of the type.
fn bounds(field: &Field, least: Option<i128>, most: Option<i128>, put: &mut dyn FnMut(&str, Json)) {
    let mut ranges = field.limits.iter().filter_map(|limit| match limit {
        Limit::Range(start, end) if !field.shape.list => Some((start, end)),
        _ => None,
    });
    let (start, end) = ranges
        .next_back()
        .unwrap_or((&Bound::Unbounded, &Bound::Unbounded));
    let mut side = |side: &Side, of_type: Option<i128>, included: &str, excluded: &str| match side {
        Bound::Included(bound) if is_number(bound) => put(included, text(bound)),
        Bound::Excluded(bound) if is_number(bound) => put(excluded, text(bound)),
        _ => {
            if let Some(bound) = of_type {
                put(included, text(bound.to_string()));
            }
        }
    };
    side(start, least, "minimum", "exclusiveMinimum");
    side(end, most, "maximum", "exclusiveMaximum");
}

/// Not so of `inf` and `NaN`, nor of a bound inside `Some(..)`.
fn is_number(text: &str) -> bool {
    text.parse::<f64>().is_ok_and(f64::is_finite)
}

fn whole(bound: &Bound<usize>, inward: isize) -> Option<usize> {
    match bound {
        Bound::Included(bound) => Some(*bound),
        Bound::Excluded(bound) => bound.checked_add_signed(inward),
        Bound::Unbounded => None,
    }
}

fn text(text: impl Into<String>) -> Json {
    Json::Text(text.into())
}

fn string(raw: &str) -> Json {
    let mut text = String::from("\"");
    for c in raw.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            c if c.is_control() => text.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => text.push(c),
        }
    }
    text.push('"');
    Json::Text(text)
}

fn value(of: &Value) -> Json {
    match of {
        Value::Unset => text("null"),
        Value::Bool(b) => text(b.to_string()),
        Value::Int(n) => text(n.to_string()),
        Value::Big(n) => text(n.to_string()),
        Value::Float(f) if f.is_finite() => text(format!("{f:?}")),
        // JSON has no word for it; it is read from its text.
        Value::Float(f) => string(&f.to_string()),
        Value::Text(raw) => string(raw),
        Value::List(items) => Json::List(items.iter().map(value).collect()),
        Value::Table(fields) => {
            let fields = fields.iter();
            Json::Object(
                fields
                    .map(|(name, v)| (name.to_string(), value(v)))
                    .collect(),
            )
        }
    }
}

impl Json {
    fn write(&self, out: &mut String, depth: usize) {
        let indent = |out: &mut String, depth: usize| {
            out.push('\n');
            out.extend(std::iter::repeat_n("  ", depth));
        };
        match self {
            Json::Text(text) => out.push_str(text),
            Json::List(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    out.push_str(if at == 0 { "" } else { ", " });
                    item.write(out, depth);
                }
                out.push(']');
            }
            Json::Object(fields) if fields.is_empty() => out.push_str("{}"),
            Json::Object(fields) => {
                out.push('{');
                for (at, (name, value)) in fields.iter().enumerate() {
                    out.push_str(if at == 0 { "" } else { "," });
                    indent(out, depth + 1);
                    string(name).write(out, depth);
                    out.push_str(": ");
                    value.write(out, depth + 1);
                }
                indent(out, depth);
                out.push('}');
            }
        }
    }
}
