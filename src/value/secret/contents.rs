//! Looks for secrets in lists and tables: by a name in them, or by the form of a text.

use crate::value::Value;
use crate::value::node::{Node, Table};
use crate::value::secret::forms;
use crate::value::secret::names::looks_secret;
use crate::value::table::Table as Fields;

/// What makes a value secret, whatever its key is.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Criterion {
    /// A secret name in it.
    Name,
    /// A secret name, or a text in the form of a secret.
    NameOrForm,
}

/// Whether a value looks secret, whatever its key is: a text in the form of a secret, or a table with a
/// secret name.
pub(crate) fn holds_secret(value: &Value) -> bool {
    value_has(value, "", Criterion::NameOrForm)
}

/// As [`holds_secret`], by the names in the value alone.
pub(crate) fn names_secret(value: &Value) -> bool {
    value_has(value, "", Criterion::Name)
}

/// As [`holds_secret`], for the items of a list.
pub(crate) fn list_holds_secret(items: &[Value]) -> bool {
    items.iter().any(holds_secret)
}

/// As [`holds_secret`], for the fields of a table.
pub(crate) fn fields_hold_secret(fields: &Fields) -> bool {
    fields_have(fields, "", Criterion::NameOrForm)
}

/// As [`holds_secret`], for a table of the tree.
pub(crate) fn table_holds_secret(table: &Table) -> bool {
    table_has(table, "")
}

/// As [`holds_secret`], for a node of the tree.
pub(crate) fn node_holds_secret(node: &Node) -> bool {
    node_has(node, "")
}

/// Whether a text looks secret: by its form, or because it is a table in braces with a secret name.
pub(crate) fn value_text_holds_secret(text: &str) -> bool {
    forms::text_holds_secret(text) || braces_name_secret(text)
}

/// Whether a text in braces has a secret name. The check is rough, and finds rather too much.
fn braces_name_secret(text: &str) -> bool {
    let entries = text.split([',', '{', '[', ';']);
    let mut names = entries.filter_map(|entry| entry.split_once([':', '=']));
    let is_secret = |name: &str| looks_secret(name.trim().trim_matches(['"', '\'']));
    text.trim_start().starts_with(['{', '[']) && names.any(|(name, _)| is_secret(name))
}

fn child_key(above: &str, name: &str) -> String {
    match above {
        "" => name.to_owned(),
        above => format!("{above}.{name}"),
    }
}

fn value_has(value: &Value, above: &str, criterion: Criterion) -> bool {
    match value {
        Value::Text(text) => criterion == Criterion::NameOrForm && value_text_holds_secret(text),
        Value::List(items) => items.iter().any(|item| value_has(item, above, criterion)),
        Value::Table(fields) => fields_have(fields, above, criterion),
        _ => false,
    }
}

fn fields_have(fields: &Fields, above: &str, criterion: Criterion) -> bool {
    fields.iter().any(|(name, value)| {
        let path = child_key(above, name);
        looks_secret(&path) || value_has(value, &path, criterion)
    })
}

fn table_has(table: &Table, above: &str) -> bool {
    table.map().iter().any(|entry| {
        let path = child_key(above, &entry.name);
        looks_secret(&path) || node_has(&entry.node, &path)
    })
}

fn node_has(node: &Node, above: &str) -> bool {
    match node {
        Node::Leaf(leaf) => value_has(&leaf.value, above, Criterion::NameOrForm),
        Node::Table(table) => table_has(table, above),
        // A broken reference has no text of a secret.
        Node::Resolved(resolved) => resolved
            .value
            .as_ref()
            .is_ok_and(|value| resolved.secret || value_has(value, above, Criterion::NameOrForm)),
    }
}
