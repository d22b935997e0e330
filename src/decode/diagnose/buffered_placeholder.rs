//! The placeholders of bad values that serde buffers: serde does not ask for the type of such a value.

use std::cell::Cell;
use std::time::Duration;

use serde::de::{Deserializer, Visitor};

use crate::decode::access::{Child, EntryAccess, ItemAccess};
use crate::decode::deserializer::ValueDeserializer;
use crate::decode::diagnose::fault::Fault;
use crate::decode::diagnose::fault_search::ONE_VARIANT;
use crate::decode::diagnose::form::LISTS;
use crate::decode::diagnose::placeholder::{LEVELS, Placeholder};
use crate::decode::diagnose::rejection::Reported;
use crate::decode::diagnose::wording::is_number;
use crate::decode::input::Input;
use crate::decode::scalars::duration_parts;

/// serde's name for the type of a duration.
pub(super) const DURATION: &str = "struct Duration";

/// What serde expects where it has the name of a variant and no content.
const CONTENT_VARIANTS: [&str; 3] = ["newtype variant", "tuple variant", "struct variant"];

/// What serde expects where the type may accept text.
const TEXTS: [&str; 5] = [
    "a character",
    "a string",
    "variant identifier",
    "string or map",
    ONE_VARIANT,
];

/// The most items of a tuple that get placeholders.
const MAX_ITEMS: usize = 64;

/// What the visitor gets as the placeholder of a buffered value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum BufferedPlaceholder {
    /// A number, text, a boolean, null, a list, a table: in this order, from this one on.
    Simple(usize),
    Number,
    Text,
    Duration,
    /// The name of a variant.
    Name(&'static [&'static str]),
    /// A table of one variant, whose content has a placeholder of its own.
    Variant(&'static [&'static str]),
    /// A table, which gets the fields that the type asks for.
    Table,
    /// A list whose items have placeholders of their own.
    Items(usize),
}

impl Default for BufferedPlaceholder {
    fn default() -> Self {
        BufferedPlaceholder::Simple(0)
    }
}

impl BufferedPlaceholder {
    /// The placeholder that the type accepts according to its fault. `present` is the one that it rejects.
    pub(super) fn accepted_by(fault: &Fault, present: Option<Self>) -> Option<Self> {
        if fault.0.missing_field.is_some() {
            // A number may be the index of a variant.
            return Some(BufferedPlaceholder::Simple(1));
        }
        let rejection = fault.0.rejection.as_ref();
        if let Some(names) = rejection.and_then(|rejection| rejection.variants) {
            return Some(BufferedPlaceholder::Name(names));
        }
        let expected = fault.0.expected.as_deref()?;
        if let (Some(BufferedPlaceholder::Name(names)), true) = (present, is_without_content(fault))
        {
            return Some(BufferedPlaceholder::Variant(names));
        }
        let mut words = expected.split(|c: char| !c.is_alphanumeric());
        let is_list = words.clone().any(|word| LISTS.contains(&word));
        if expected == DURATION {
            Some(BufferedPlaceholder::Duration)
        } else if expected.rsplit(' ').next().is_some_and(is_number) {
            Some(BufferedPlaceholder::Number)
        } else if TEXTS.contains(&expected) {
            Some(BufferedPlaceholder::Text)
        } else if expected == "a boolean" {
            Some(BufferedPlaceholder::Simple(2))
        } else if expected.starts_with("unit") {
            Some(BufferedPlaceholder::Simple(3))
        } else if expected.starts_with("tuple") || is_list {
            let length = words.find_map(|word| word.parse().ok());
            Some(match length {
                Some(length) if length <= MAX_ITEMS => BufferedPlaceholder::Items(length),
                _ => BufferedPlaceholder::Simple(4),
            })
        } else if expected == "a map"
            || expected.starts_with("struct ")
            || expected.contains(" tagged enum ")
        {
            Some(BufferedPlaceholder::Table)
        } else {
            None
        }
    }

    /// The names below it that have placeholders of their own.
    pub(super) fn names(self) -> Vec<String> {
        match self {
            BufferedPlaceholder::Items(length) => (0..length).map(|at| at.to_string()).collect(),
            BufferedPlaceholder::Variant(names) => {
                names.iter().map(|name| (*name).to_owned()).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The name of the variant at a level, if it is one.
    pub(super) fn variant(self, level: usize) -> Option<&'static str> {
        match self {
            BufferedPlaceholder::Name(names) => Some(name(names, level)),
            _ => None,
        }
    }

    /// How serde reports it. Each further level is another value.
    pub(super) fn reported(self, level: usize) -> Reported {
        match self {
            BufferedPlaceholder::Simple(first) => simple(first, level).reported(),
            BufferedPlaceholder::Number => {
                Reported::Number(Placeholder::new(level).number().to_string())
            }
            BufferedPlaceholder::Text => match Placeholder::new(level).text() {
                Some(text) => Reported::Text(text.to_owned()),
                None => Placeholder::new(0).reported(),
            },
            BufferedPlaceholder::Name(names) => Reported::Text(name(names, level).to_owned()),
            BufferedPlaceholder::Variant(_) | BufferedPlaceholder::Table => Reported::Map,
            BufferedPlaceholder::Duration | BufferedPlaceholder::Items(_) => Reported::Seq,
        }
    }

    pub(super) fn visit<'de, V: Visitor<'de>>(
        self,
        level: usize,
        de: ValueDeserializer<'_, 'de>,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let last = Cell::new(None);
        match self {
            BufferedPlaceholder::Simple(first) => simple(first, level).deserialize_any(visitor),
            BufferedPlaceholder::Number => Placeholder::new(level).deserialize_u64(visitor),
            BufferedPlaceholder::Text => match Placeholder::new(level).text() {
                Some(text) => visitor.visit_str(text),
                None => Placeholder::new(0).deserialize_any(visitor),
            },
            BufferedPlaceholder::Name(names) => visitor.visit_str(name(names, level)),
            BufferedPlaceholder::Duration => visitor.visit_seq(duration_parts(Duration::ZERO)),
            BufferedPlaceholder::Variant(names) => {
                let content = Child::entry(name(names, level), Input::Absent);
                visitor.visit_map(EntryAccess::new(de, vec![content], &last))
            }
            BufferedPlaceholder::Table => {
                visitor.visit_map(EntryAccess::new(de, Vec::new(), &last))
            }
            BufferedPlaceholder::Items(length) => {
                let items = (0..length).map(|at| Child::item(at, Input::Absent));
                visitor.visit_seq(ItemAccess::new(de, items.collect()))
            }
        }
    }
}

/// Whether a fault is about the name of a variant that has content.
pub(super) fn is_without_content(fault: &Fault) -> bool {
    let expected = fault.0.expected.as_deref().unwrap_or_default();
    CONTENT_VARIANTS.contains(&expected)
}

fn simple(first: usize, level: usize) -> Placeholder {
    Placeholder::new((first + level) % LEVELS)
}

fn name(names: &'static [&'static str], level: usize) -> &'static str {
    names
        .get(level % names.len().max(1))
        .copied()
        .unwrap_or_default()
}
