//! Infers in which form the types expect the values that serde buffers.
//!
//! serde buffers a value before a type asks for it. The type then rejects the buffered value, and its
//! error says what it expected, but not where. So [`passes`](crate::decode::diagnose::passes) repeats
//! the decoding until each value has the form that its type expects. This module keeps what the
//! passes have inferred. Values of one type share their form:
//!
//! - A *site* is a path at which serde asked for a value of any type.
//! - A *class* is the path of a site with `*` in place of each index, and in place of each name in a
//!   table that turned out to be a map. The class of a tagged table includes the value of its tag; see
//!   [`class_paths`](crate::decode::diagnose::class_paths).
//! - A *probe* is an additional entry that no type can read. If an error is about the probe, the table
//!   is a map: all of its entries have one type. A struct ignores the probe. The probe at the end of a
//!   list tells a list from a tuple.
//! - If values of one class expect different forms, as in an untagged enum, the class is split: by the
//!   value of a tag, or else by the signatures of its values.
//!
//! So the number of passes depends on how many classes a type has and in how many ways its values are
//! written, not on how many values there are.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use crate::decode::access::Child;
use crate::decode::deserializer::ValueDeserializer;
use crate::decode::diagnose::alternatives::Alternatives;
use crate::decode::diagnose::assumptions::{Assumptions, EntryTypes, Guess};
use crate::decode::diagnose::class_forms::Notation;
use crate::decode::diagnose::class_paths::{EACH, STEP, Site, VARIANT};
use crate::decode::diagnose::form::{Form, Formed};
use crate::decode::diagnose::rejection::{self, Reported};
use crate::decode::diagnose::signature::signature;
use crate::decode::diagnose::tags::TableTexts;
use crate::decode::diagnose::text_arena::address;
use crate::decode::diagnose::visits::{Raw, Visit, below};
use crate::decode::input::{Input, Path, Segment};
use crate::value::key::under;

/// The name and the value of a probe.
pub(crate) const PROBE: &str = "\u{1}liveprops probe";
/// The part of [`PROBE`] that keys and messages show unescaped.
pub(crate) const PROBE_WORDS: &str = "liveprops probe";

/// How many values may expect another form than others of their class.
const MAX_EXCEPTIONS: usize = 256;

/// What the passes have inferred about the values that serde buffers.
#[derive(Clone, Default)]
pub(crate) struct Inference {
    /// The values that this pass has visited, in order.
    pub(super) visits: Vec<Visit>,
    /// The indexes of equal visits.
    pub(super) by_reported: HashMap<Reported, Vec<usize>>,
    /// The indexes of visits by the addresses of their texts.
    addresses: HashMap<usize, usize>,
    pub(super) assumptions: Assumptions,
    /// The forms that may not be needed.
    pub(crate) guesses: Vec<Guess>,
    /// The classes of the tables that were entered.
    tables: HashSet<String>,
    /// How many values expected another form than others of their class.
    pub(super) exception_count: usize,
    pub(crate) alternatives: Alternatives,
    /// Whether this pass has found a tag, so that its classes are out of date.
    pub(super) found_tag: bool,
    /// The class of the container that the next pass probes.
    pub(crate) probing: Option<String>,
    /// The sites whose values the next pass replaces by markers: unique values.
    pub(crate) markers: HashMap<String, usize>,
    /// The paths that the next pass leaves out.
    pub(crate) omitted: HashSet<String>,
    /// The texts in tables by class, while a pass searches for a tag.
    pub(crate) table_texts: Option<HashMap<String, TableTexts>>,
    /// How many rejections there were before the last visit. Later ones are about buffered values.
    pub(crate) rejections_before: usize,
    /// Whether the passes collect errors.
    pub(crate) reporting: bool,
    /// The path at and below which the next pass records the location of each visit.
    pub(crate) described_below: Option<String>,
    /// The sites of which the next pass records the location.
    pub(crate) described_ids: HashSet<String>,
}

impl Inference {
    /// The form that is inferred for a value, and the value in it.
    pub(crate) fn form<'a>(
        &self,
        site: &Site,
        de: &ValueDeserializer<'a, '_>,
    ) -> Option<(Form, Formed<'a>)> {
        let apply = |form: Form| Some((form, form.apply(de)?));
        let exception = self.assumptions.exceptions.get(&site.id).copied();
        let of_class = || {
            let forms = self.assumptions.forms.get(&site.class)?;
            forms.find(Notation::of(de), apply)
        };
        exception.and_then(apply).or_else(of_class)
    }

    /// Records the visit of a value.
    pub(crate) fn record_visit(
        &mut self,
        site: Site,
        de: &ValueDeserializer<'_, '_>,
        reported: Reported,
        form: Option<Form>,
        is_tag: bool,
    ) {
        let same = self.by_reported.entry(reported.clone()).or_default();
        same.push(self.visits.len());
        let is_described = self.described_below.as_ref();
        let is_described = is_described.is_some_and(|at| under(&site.path, at));
        let is_described = is_described || self.described_ids.contains(&site.id);
        let location = is_described.then(|| de.location());
        self.visits.push(Visit {
            path: site.path,
            id: site.id,
            class: site.class,
            reported,
            raw: Raw::of(de),
            notation: Notation::of(de),
            form,
            earlier_forms: Vec::new(),
            is_name: site.is_name,
            is_tag,
            location,
        });
    }

    /// Records whether the entries of a container have one type.
    pub(crate) fn record_entry_types(&mut self, path: &Path<'_>, kind: EntryTypes) {
        let class = self.class(path);
        self.assumptions.entry_types.insert(class, kind);
    }

    /// Whether the pass leaves out an entry of a table.
    pub(crate) fn is_omitted(&self, table: &str, name: &str) -> bool {
        !self.omitted.is_empty() && self.omitted.contains(&below(table, name))
    }

    /// Leaves out omitted entries of a table, and adds the probe; returns the value of the table's tag.
    pub(crate) fn enter_table<'a>(
        &mut self,
        de: &ValueDeserializer<'_, '_>,
        entries: &mut Vec<Child<'a>>,
    ) -> Option<Cow<'a, str>> {
        if !self.omitted.is_empty() {
            let path = de.path_text();
            entries.retain(|entry| !self.is_omitted(&path, entry.name));
        }
        let mut class = self.class(de.path);
        if self.table_texts.is_some() {
            self.record_texts(&class, &de.path_text(), entries);
        }
        let tag = self.assumptions.tags.get(&class);
        let text = |child: &Child<'a>| match child.input {
            Input::Text(text) => Some(text),
            _ => None,
        };
        let variant = tag.and_then(|tag| {
            let child = entries.iter().find(|child| child.name == tag);
            child.and_then(text)
        });
        let signature = || Cow::Owned(signature(de.input));
        let variant = match (variant, self.assumptions.split_classes.contains(&class)) {
            (Some(tag), _) => Some(Cow::Borrowed(tag)),
            (None, is_split) => is_split.then(signature),
        };
        if let Some(variant) = &variant {
            class.push(VARIANT);
            class.push_str(variant);
        }
        if self.probing.as_ref() == Some(&class) {
            entries.insert(0, Child::entry(PROBE, Input::Text(PROBE)));
        }
        self.tables.insert(class);
        variant
    }

    /// Leaves out omitted items of a list, and adds the probe.
    pub(crate) fn enter_list(
        &mut self,
        de: &ValueDeserializer<'_, '_>,
        items: &mut Vec<Child<'_>>,
    ) {
        let path = de.path;
        if !self.omitted.is_empty() {
            let list = de.path_text();
            let name = |item: &Child<'_>| match item.segment {
                Segment::Index(at) => at.to_string(),
                _ => item.name.to_owned(),
            };
            items.retain(|item| !self.omitted.contains(&below(&list, &name(item))));
        }
        if self.probing.is_some() && self.probing == Some(self.class(path)) {
            items.push(Child::item(items.len(), Input::Text(PROBE)));
        }
    }

    /// The number of the marker that replaces the value of a site in this pass.
    pub(crate) fn marker(&self, site: &Site) -> Option<usize> {
        self.markers.get(&site.id).copied()
    }

    /// Records the address of the text that was visited last.
    pub(crate) fn record_address(&mut self, text: &str) {
        if let Some(last) = self.visits.len().checked_sub(1) {
            self.addresses.insert(address(text), last);
        }
    }

    /// Replaces the address of a rejected text by the index of its visit.
    pub(crate) fn resolve(&self, subject: &mut Option<usize>) {
        *subject = subject.and_then(|address| self.addresses.get(&address).copied());
    }

    /// Forgets the visits of the last pass.
    pub(crate) fn start_pass(&mut self) {
        self.visits.clear();
        self.by_reported.clear();
        self.addresses.clear();
    }

    /// The outermost table around a class that has not been probed.
    pub(crate) fn unknown_table(&self, class: &str) -> Option<String> {
        let ends = class.match_indices(STEP).map(|(at, _)| at);
        ends.map(|end| &class[..end])
            .find(|table| {
                self.tables.contains(*table)
                    && !self.assumptions.read_as_list.contains(*table)
                    && !self.assumptions.entry_types.contains_key(*table)
            })
            .map(str::to_owned)
    }

    /// A list whose items share a form and that has not been probed.
    pub(crate) fn unknown_list(&self) -> Option<String> {
        let each = format!("{STEP}{EACH}");
        let lists = self.assumptions.forms.keys().flat_map(|class| {
            let ends = class.match_indices(&each).map(|(at, _)| at);
            ends.map(|end| &class[..end]).collect::<Vec<_>>()
        });
        lists
            .filter(|list| !self.assumptions.entry_types.contains_key(*list))
            .min()
            .map(str::to_owned)
    }

    /// The outermost list around a class that has not been probed.
    pub(crate) fn unknown_list_around(&self, class: &str) -> Option<String> {
        let each = format!("{STEP}{EACH}");
        let mut lists = class.match_indices(&each).map(|(at, _)| &class[..at]);
        let list = lists.find(|list| !self.assumptions.entry_types.contains_key(*list));
        list.map(str::to_owned)
    }

    /// The sites that have a form.
    pub(crate) fn formed_sites(&self) -> HashMap<String, Form> {
        let formed = self
            .visits
            .iter()
            .filter_map(|visit| Some((visit.id.clone(), visit.form?)));
        formed.collect()
    }

    /// Whether so many values expect a form of their own that the search ends.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.exception_count >= MAX_EXCEPTIONS
    }

    /// Counts a choice that is reverted.
    pub(crate) fn count_retry(&mut self) {
        self.exception_count += 1;
    }

    /// Records how many rejections there were before the present visit.
    pub(crate) fn record_rejections_before(&mut self) {
        self.rejections_before = rejection::count();
    }
}
