//! The paths of the values in the input of a request.

use crate::decode::diagnose::visits::{below, is_below};
use crate::decode::input::Input;
use crate::decode::request::Request;
use crate::value::Value;
use crate::value::key;

/// The paths of the values below a table that are no containers.
pub(super) fn values_below(request: Request<'_>, table: &str) -> Vec<String> {
    let mut paths = Vec::new();
    if let Some(input) = input_at(request, table) {
        add_values(input, table, &mut paths);
    }
    paths.retain(|path| is_below(path, table));
    paths
}

/// The value at a path.
fn input_at<'a>(request: Request<'a>, path: &str) -> Option<Input<'a>> {
    let mut names = names_below(request.key, path).into_iter();
    names.try_fold(request.input, |input, name| match input {
        Input::Table(table) => Some(Input::of_node(&table.get(&name)?.node).0),
        Input::Fields(fields) => fields.get(&name).map(Input::of_value),
        Input::List(items) => items.get(key::list_index(&name)?).map(Input::of_value),
        _ => None,
    })
}

/// The items of the list at a path.
pub(super) fn items_at(request: Request<'_>, path: &str) -> Vec<Value> {
    match input_at(request, path) {
        Some(Input::List(items)) => items.to_vec(),
        _ => Vec::new(),
    }
}

/// The list that a path is an item of.
pub(super) fn list_of<'p>(request: Request<'_>, path: &'p str) -> Option<&'p str> {
    let name = names_below(request.key, path).pop()?;
    key::list_index(&name).map(|_| key::parent(path))
}

/// The paths of the values below a table, and below the other items if it is in a list, each with its item.
pub(super) fn values_of_items(request: Request<'_>, table: &str) -> Vec<(String, String)> {
    let Some(list) = list_of(request, table) else {
        let values = values_below(request, table).into_iter();
        return values.map(|path| (table.to_owned(), path)).collect();
    };
    let item = |path: String| {
        let index = names_below(list, &path).into_iter().next()?;
        Some((below(list, &index), path))
    };
    let values = values_below(request, list).into_iter();
    values
        .filter_map(item)
        .filter(|(item, path)| item != path)
        .collect()
}

/// Adds the paths of the values that are no containers.
fn add_values(input: Input<'_>, path: &str, paths: &mut Vec<String>) {
    match input {
        Input::Table(table) => {
            for entry in table.map().iter() {
                let (input, _, _) = Input::of_node(&entry.node);
                add_values(input, &below(path, &entry.name), paths);
            }
        }
        Input::Fields(fields) => {
            for (name, value) in fields.iter() {
                add_values(Input::of_value(value), &below(path, name), paths);
            }
        }
        Input::List(items) => {
            for (at, item) in items.iter().enumerate() {
                add_values(Input::of_value(item), &below(path, &at.to_string()), paths);
            }
        }
        Input::Absent | Input::AbsentTable => {}
        _ => paths.push(path.to_owned()),
    }
}

/// Adds the paths of the values to which a path of a type leads.
pub(super) fn add_matching(
    input: Input<'_>,
    path: &str,
    rest: &[Option<&str>],
    found: &mut Vec<String>,
) {
    let Some((name, rest)) = rest.split_first() else {
        found.push(path.to_owned());
        return;
    };
    let is_meant = |segment: &str| name.is_none_or(|name| name == segment);
    let mut add = |segment: &str, input: Input<'_>| {
        if is_meant(segment) {
            add_matching(input, &below(path, segment), rest, found);
        }
    };
    match input {
        Input::Table(table) => {
            let entries = table.map().iter();
            entries.for_each(|entry| add(&entry.name, Input::of_node(&entry.node).0));
        }
        Input::Fields(fields) => {
            let fields = fields.iter();
            fields.for_each(|(name, value)| add(name, Input::of_value(value)));
        }
        Input::List(items) => {
            let items = items.iter().enumerate();
            items.for_each(|(at, item)| add(&at.to_string(), Input::of_value(item)));
        }
        Input::Absent | Input::AbsentTable => {}
        // A text may spell the table. One that spells a list is read to its end.
        _ => found.extend(name.map(|name| below(path, name))),
    }
}

/// The words of the text at a path, which may be names of a table that cannot be read.
pub(super) fn words_at(request: Request<'_>, path: &str) -> Vec<String> {
    let Some(text) = input_at(request, path).and_then(|input| input.text()) else {
        return Vec::new();
    };
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    let words = text.split(|c| !is_part(c));
    words
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The names of a path below another one.
pub(super) fn names_below(above: &str, path: &str) -> Vec<String> {
    let rest = path.get(above.len()..).unwrap_or_default();
    key::segments(rest.strip_prefix('.').unwrap_or(rest))
        .map_while(Result::ok)
        .map(Into::into)
        .collect()
}
