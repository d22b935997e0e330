//! Class paths: which values of a type are alike, so that they share a form.
//!
//! `servers.0.port` and `servers.1.port` have the class `servers.*.port`, written with control
//! characters as separators. See [`inference`](crate::decode::diagnose::inference).

use crate::decode::deserializer::ValueDeserializer;
use crate::decode::diagnose::assumptions::EntryTypes;
use crate::decode::diagnose::inference::Inference;
use crate::decode::diagnose::signature::signature;
use crate::decode::input::{Path, Segment};
use crate::value::key;

/// Separates the segments of a class path.
pub(super) const STEP: char = '\u{1f}';

/// Stands for each index of a list, or each name of a map.
pub(super) const EACH: &str = "*";

/// Follows the class of a table in the class of its names.
pub(super) const NAMES: char = '\u{1e}';

/// Separates the class of a table from the value of its tag.
pub(super) const VARIANT: char = '\u{1d}';

/// A path at which serde asked for a value of any type.
pub(crate) struct Site {
    pub(super) path: String,
    /// The path, and whether the name or the value is meant.
    pub(super) id: String,
    pub(super) class: String,
    /// Whether it is the name of an entry, and not its value.
    pub(super) is_name: bool,
}

impl Inference {
    /// The site of a value.
    pub(crate) fn site(&self, de: &ValueDeserializer<'_, '_>) -> Site {
        let path = de.path_text();
        let (id, class) = if de.is_name {
            let table = de.path.parent.map(|table| self.class(table));
            let class = table.unwrap_or_default();
            (format!("{path}{NAMES}"), format!("{class}{NAMES}"))
        } else {
            let mut class = self.class(de.path);
            if self.assumptions.split_classes.contains(&class)
                && !self.assumptions.tags.contains_key(&class)
            {
                class.push(VARIANT);
                class.push_str(&signature(de.input));
            }
            (path.clone(), class)
        };
        Site {
            path,
            id,
            class,
            is_name: de.is_name,
        }
    }

    /// The class of the value at a path.
    pub(super) fn class(&self, path: &Path<'_>) -> String {
        let Some(parent) = path.parent else {
            return String::new();
        };
        let mut class = self.class(parent);
        let mut is_list = self.assumptions.read_as_list.contains(&class);
        if let Some(variant) = path.variant {
            class.push(VARIANT);
            class.push_str(variant);
            is_list |= self.assumptions.read_as_list.contains(&class);
        }
        let kind = self.assumptions.entry_types.get(&class);
        let each = match path.segment {
            Segment::Index(_) => kind != Some(&EntryTypes::Distinct),
            Segment::Name(name) if is_list && key::list_index(name).is_some() => {
                kind != Some(&EntryTypes::Distinct)
            }
            _ => kind == Some(&EntryTypes::Uniform),
        };
        class.push(STEP);
        match path.segment {
            _ if each => class.push_str(EACH),
            Segment::Name(name) => class.push_str(name),
            Segment::Index(at) => class.push_str(&at.to_string()),
            Segment::Hidden => class.push('?'),
        }
        class
    }
}

/// Whether a class is `item`, or that of a value in such an item.
pub(super) fn is_in_class(class: &str, item: &str) -> bool {
    let rest = class.strip_prefix(item);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([STEP, NAMES, VARIANT]))
}

/// The classes at and around a class that stand for one of several alike, outermost first.
pub(super) fn items_around(class: &str) -> Vec<&str> {
    let ends = class
        .match_indices([STEP, VARIANT, NAMES])
        .map(|(at, _)| at);
    let ends = ends.chain([class.len()]);
    let items = ends.map(|end| &class[..end]);
    items.filter(|item| item.ends_with(EACH)).collect()
}

/// The innermost item around a class whose tag is known, and the field of it that the class is in.
pub(super) fn field_of_variant(class: &str) -> Option<(&str, &str)> {
    let item = class.rfind(&format!("{EACH}{VARIANT}"))? + EACH.len();
    let start = item + class[item..].find(STEP)? + STEP.len_utf8();
    let end = class[start..].find([STEP, VARIANT, NAMES]);
    let field = &class[..end.map_or(class.len(), |end| start + end)];
    Some((&class[..item], field))
}

/// The class with `*` instead of the name in a table that turned out to be a map.
pub(super) fn with_each(class: &str, table: &str) -> String {
    let rest = &class[table.len() + STEP.len_utf8()..];
    let end = rest.find([STEP, NAMES, VARIANT]).unwrap_or(rest.len());
    format!("{table}{STEP}{EACH}{}", &rest[end..])
}
