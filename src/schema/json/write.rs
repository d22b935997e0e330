//! JSON that is written, not read.

use crate::value::Value;

/// JSON whose scalars are text already; objects and lists are written with their indent.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Json {
    Text(String),
    Object(Vec<(String, Json)>),
    List(Vec<Json>),
}

impl Json {
    pub(super) fn write(&self, out: &mut String, depth: usize) {
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

pub(super) fn text(text: impl Into<String>) -> Json {
    Json::Text(text.into())
}

pub(super) fn string(raw: &str) -> Json {
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

pub(super) fn value(of: &Value) -> Json {
    match of.canonical() {
        Value::Unset => text("null"),
        Value::Bool(b) => text(b.to_string()),
        // JSON cannot express it; it is read from its text.
        Value::Number(n) if n.as_f64().is_some_and(|f| !f.is_finite()) => string(&n.to_string()),
        Value::Number(n) => text(n.to_string()),
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
