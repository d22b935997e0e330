//! Finds the tags of tables: the entry whose text names the variant of its table.
//!
//! serde asks for the tag of an internally tagged enum, which [`record_tag`](Inference::record_tag) records. Other
//! enums have a tag only by convention. It is found among the texts of their tables.

use std::collections::{HashMap, HashSet};

use crate::decode::access::Child;
use crate::decode::deserializer::ValueDeserializer;
use crate::decode::diagnose::class_paths::{EACH, STEP};
use crate::decode::diagnose::inference::Inference;
use crate::decode::diagnose::visits::{Visit, below};
use crate::decode::input::{Input, Segment};
use crate::value::key::{parent, under};

/// The texts of the entries in each table of a class, with the path of the table.
pub(super) type TableTexts = Vec<(String, HashMap<String, String>)>;

impl Inference {
    /// Records that serde asks for the tag of an enum here.
    pub(crate) fn record_tag(&mut self, de: &ValueDeserializer<'_, '_>) {
        let (Some(table), Segment::Name(name)) = (de.path.parent, de.path.segment) else {
            return;
        };
        let class = self.class(table);
        let known = self.assumptions.tags.insert(class, name.to_owned());
        self.found_tag |= known.is_none();
    }

    /// Records the texts of a table, to find its tag among them.
    pub(super) fn record_texts(&mut self, class: &str, path: &str, entries: &[Child<'_>]) {
        let Some(texts) = &mut self.table_texts else {
            return;
        };
        if !class.ends_with(EACH) {
            return;
        }
        let text = |child: &Child<'_>| match child.input {
            Input::Text(text) => Some((child.name.to_owned(), text.to_owned())),
            _ => None,
        };
        let entries = entries.iter().filter_map(text).collect();
        let texts = texts.entry(class.to_owned()).or_default();
        texts.push((path.to_owned(), entries));
    }

    /// Whether the last pass has found a tag, so that it has to be repeated.
    pub(crate) fn take_found_tag(&mut self) -> bool {
        std::mem::take(&mut self.found_tag)
    }

    /// The innermost table around a class that is one of several alike and has no tag yet.
    pub(crate) fn untagged_item(&self, class: &str) -> Option<String> {
        let ends = class.match_indices(STEP).map(|(at, _)| at);
        let tables = ends.map(|end| &class[..end]);
        let mut tables = tables
            .filter(|table| table.ends_with(EACH) && !self.assumptions.tags.contains_key(*table));
        tables.next_back().map(str::to_owned)
    }

    /// Finds the tag of the tables of a class: of the entries that differ between two tables whose values
    /// expect different forms, the one with the fewest texts. Returns whether there is one.
    pub(crate) fn choose_tag(&mut self, table: &str, visit: &Visit) -> bool {
        let Some(mut texts) = self.table_texts.take() else {
            return false;
        };
        let texts = texts.remove(table).unwrap_or_default();
        let around = |path: &str| {
            let around = texts.iter().find(|(table, _)| under(path, table));
            around.map(|(_, entries)| entries)
        };
        let evidence = self.assumptions.evidence.get(&visit.class);
        let first = evidence.and_then(|sites| sites.first());
        let (Some(one), Some(other)) = (first.and_then(|(id, _)| around(id)), around(&visit.path))
        else {
            return false;
        };
        let texts_of = |name: &str| -> HashSet<&String> {
            let texts = texts.iter().filter_map(|(_, entries)| entries.get(name));
            texts.collect()
        };
        let everywhere = |name: &str| texts.iter().all(|(_, entries)| entries.contains_key(name));
        let tag = one
            .iter()
            .filter(|(name, text)| {
                other.get(*name).is_some_and(|other| other != *text)
                    // The value that expects different forms is no tag.
                    && below(parent(&visit.path), name) != visit.path
                    && everywhere(name)
            })
            .map(|(name, _)| (texts_of(name).len(), name))
            .filter(|(distinct, _)| distinct * 2 <= texts.len().max(4))
            .min();
        let Some((_, tag)) = tag else {
            return false;
        };
        self.assumptions.tags.insert(table.to_owned(), tag.clone());
        self.forget_below(table);
        true
    }
}
