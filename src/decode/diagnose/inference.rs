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
//!   value of a tag, or else by what its values look like.
//!
//! So the number of passes depends on how many classes a type has and in how many ways its values are
//! written, not on how many values there are.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use crate::decode::access::Child;
use crate::decode::deserializer::ValueDeserializer;
use crate::decode::diagnose::alternatives::Alternatives;
use crate::decode::diagnose::class_forms::{Forms, Notation};
use crate::decode::diagnose::class_paths::{
    EACH, STEP, Site, VARIANT, field_of_variant, is_in_class, items_around,
};
use crate::decode::diagnose::form::{Form, Formed};
use crate::decode::diagnose::look::look;
use crate::decode::diagnose::rejection::{self, Found};
use crate::decode::diagnose::text_arena::address;
use crate::decode::diagnose::visits::{Raw, Visit, below, parent};
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
    pub(super) by_found: HashMap<Found, Vec<usize>>,
    /// The indexes of visits by the addresses of their texts.
    addresses: HashMap<usize, usize>,
    pub(super) assumptions: Assumptions,
    /// The forms that may not be needed.
    pub(crate) guesses: Vec<Guess>,
    /// The classes of the tables that were entered.
    tables: HashSet<String>,
    /// How many values expected another form than others of their class.
    exception_count: usize,
    pub(crate) alternatives: Alternatives,
    /// Whether this pass has found a tag, so that its classes are out of date.
    found_tag: bool,
    /// The class of the container that the next pass probes.
    pub(crate) probing: Option<String>,
    /// The sites whose values the next pass replaces by markers: unique values.
    pub(crate) markers: HashMap<String, usize>,
    /// The paths that the next pass leaves out.
    pub(crate) omitted: HashSet<String>,
    /// The texts in tables by class, while a tag is looked for.
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

/// What may turn out wrong, so that [`Alternatives`] restores it.
#[derive(Clone, Default)]
pub(super) struct Assumptions {
    /// The forms of each class.
    pub(crate) forms: HashMap<String, Forms>,
    /// The forms of sites that differ from those of their class.
    pub(crate) exceptions: HashMap<String, Form>,
    /// The sites, with their forms, that a class got its forms from.
    pub(crate) evidence: HashMap<String, Vec<(String, Form)>>,
    /// The forms that a site had already.
    pub(crate) tried: HashSet<(String, Form)>,
    /// Whether the entries of a container have one type, by its class.
    pub(crate) entry_types: HashMap<String, EntryTypes>,
    /// The classes of tables that are read as lists.
    pub(crate) read_as_list: HashSet<String>,
    /// The name of the tag, by the class of its table.
    pub(crate) tags: HashMap<String, String>,
    /// The classes whose items are told apart by what they look like.
    pub(crate) split_classes: HashSet<String>,
    /// The forms that were put before the others of their class.
    pub(crate) promoted: HashSet<(String, Notation, Form)>,
}

/// A form of a class that was chosen from the rejections of several variants.
pub(crate) type Guess = (String, Notation, Form);

/// The texts of the entries in each table of a class, with the path of the table.
type TableTexts = Vec<(String, HashMap<String, String>)>;

/// Whether the entries of a container have one type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum EntryTypes {
    /// As in a list or a map.
    Uniform,
    /// As in a tuple or a struct.
    Distinct,
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
        found: Found,
        form: Option<Form>,
        is_tag: bool,
    ) {
        let same = self.by_found.entry(found.clone()).or_default();
        same.push(self.visits.len());
        let is_described = self.described_below.as_ref();
        let is_described = is_described.is_some_and(|at| under(&site.path, at));
        let is_described = is_described || self.described_ids.contains(&site.id);
        let location = is_described.then(|| de.location());
        self.visits.push(Visit {
            path: site.path,
            id: site.id,
            class: site.class,
            found,
            raw: Raw::of(de),
            notation: Notation::of(de),
            form,
            earlier: Vec::new(),
            is_name: site.is_name,
            is_tag,
            location,
        });
    }

    /// Records that serde asks for the tag of an enum here.
    pub(crate) fn record_tag(&mut self, de: &ValueDeserializer<'_, '_>) {
        let (Some(table), Segment::Name(name)) = (de.path.parent, de.path.segment) else {
            return;
        };
        let class = self.class(table);
        self.found_tag |= self
            .assumptions
            .tags
            .insert(class, name.to_owned())
            .is_none();
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

    /// Leaves out and adds what the pass wants of a table's entries; returns the value of its tag.
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
        let look = || Cow::Owned(look(de.input));
        let variant = match (variant, self.assumptions.split_classes.contains(&class)) {
            (Some(tag), _) => Some(Cow::Borrowed(tag)),
            (None, is_split) => is_split.then(look),
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

    /// Leaves out and adds what the pass wants of a list's items.
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

    /// Records the texts of a table, to find its tag among them.
    fn record_texts(&mut self, class: &str, path: &str, entries: &[Child<'_>]) {
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
        self.by_found.clear();
        self.addresses.clear();
    }

    /// Whether the last pass has found a tag, so that it has to be repeated.
    pub(crate) fn take_found_tag(&mut self) -> bool {
        std::mem::take(&mut self.found_tag)
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

    /// Gives the items of a tuple forms of their own, instead of one for all. Items of which no form is known
    /// are read as they are written.
    pub(crate) fn separate_items(&mut self, list: &str, formed: &HashMap<String, Form>) {
        let each = format!("{list}{STEP}{EACH}");
        let assumptions = &mut self.assumptions;
        assumptions.tried.clear();
        let classes = assumptions
            .forms
            .keys()
            .filter(|class| class.starts_with(&each));
        for class in classes.cloned().collect::<Vec<_>>() {
            assumptions.forms.remove(&class);
            for (id, form) in assumptions.evidence.remove(&class).unwrap_or_default() {
                let form = formed.get(&id).copied().unwrap_or(form);
                assumptions.exceptions.insert(id, form);
            }
        }
    }

    /// Whether a value has another form already, which others of its class expect.
    pub(crate) fn conflicts(&self, visit: &Visit) -> bool {
        let has_forms = self.assumptions.forms.contains_key(&visit.class);
        (has_forms && visit.form.is_some()) || self.assumptions.exceptions.contains_key(&visit.id)
    }

    /// Gives a form to a value, and to the others of its class where none of them conflicts.
    pub(crate) fn set_form(&mut self, visit: &Visit, form: Form) {
        self.assumptions.tried.insert((visit.id.clone(), form));
        if form == Form::List {
            self.assumptions.read_as_list.insert(visit.class.clone());
        }
        if !self.conflicts(visit) {
            let forms = self
                .assumptions
                .forms
                .entry(visit.class.clone())
                .or_default();
            forms.add(visit.notation, &visit.earlier, form);
            let evidence = self
                .assumptions
                .evidence
                .entry(visit.class.clone())
                .or_default();
            evidence.push((visit.id.clone(), form));
            return;
        }
        let is_split = self
            .assumptions
            .split_classes
            .iter()
            .any(|item| is_in_class(&visit.class, item));
        let promoted = (visit.class.clone(), visit.notation, form);
        if is_split && self.assumptions.promoted.insert(promoted) {
            self.exception_count += 1;
            // Other values may expect their form again.
            self.assumptions
                .tried
                .retain(|(id, _)| under(id, &visit.id));
            let forms = self
                .assumptions
                .forms
                .entry(visit.class.clone())
                .or_default();
            forms.promote(visit.notation, form);
        } else {
            self.set_exception(visit, form);
        }
    }

    /// Records that a form may not be needed.
    pub(crate) fn record_guess(&mut self, visit: &Visit, form: Form) {
        let guess = (visit.class.clone(), visit.notation, form);
        if form != Form::Plain && !self.guesses.contains(&guess) {
            self.guesses.push(guess);
        }
    }

    /// Takes back a form of a class.
    pub(crate) fn remove_form(&mut self, (class, notation, form): &Guess) {
        if let Some(forms) = self.assumptions.forms.get_mut(class) {
            forms.remove(*notation, *form);
        }
    }

    /// Gives a value a form of its own.
    pub(crate) fn set_exception(&mut self, visit: &Visit, form: Form) {
        self.exception_count += 1;
        self.assumptions.tried.insert((visit.id.clone(), form));
        self.assumptions.exceptions.insert(visit.id.clone(), form);
    }

    /// Splits the class of a value that expects another form than others of its class; returns whether
    /// there was a class to split.
    pub(crate) fn split(&mut self, visit: &Visit, form: Form) -> bool {
        let mut items = items_around(&visit.class);
        let field = field_of_variant(&visit.class);
        items.extend(
            field
                .filter(|(item, _)| self.assumptions.tags.contains_key(*item))
                .map(|(_, field)| field),
        );
        let is_split = items
            .iter()
            .any(|item| self.assumptions.split_classes.contains(*item));
        let promoted = (visit.class.clone(), visit.notation, form);
        if is_split && !self.assumptions.promoted.contains(&promoted) {
            return false;
        }
        let is_new = |item: &&&str| {
            !self.assumptions.split_classes.contains(**item)
                && !self.assumptions.tags.contains_key(**item)
        };
        let Some(item) = items
            .iter()
            .rev()
            .find(is_new)
            .map(|item| (*item).to_owned())
        else {
            return false;
        };
        self.exception_count += 1;
        self.forget_below(&item);
        self.assumptions.split_classes.insert(item);
        true
    }

    /// Forgets the forms of the items of a class.
    fn forget_below(&mut self, item: &str) {
        self.assumptions
            .forms
            .retain(|class, _| !is_in_class(class, item));
        self.assumptions
            .evidence
            .retain(|class, _| !is_in_class(class, item));
        self.assumptions.tried.clear();
    }

    /// Whether so many values expect a form of their own that the search ends.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.exception_count >= MAX_EXCEPTIONS
    }

    /// Counts a choice that is taken back.
    pub(crate) fn count_retry(&mut self) {
        self.exception_count += 1;
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
        let source = self
            .assumptions
            .evidence
            .get(&visit.class)
            .and_then(|ids| ids.first())
            .map(|(id, _)| id);
        let (Some(one), Some(other)) = (source.and_then(|id| around(id)), around(&visit.path))
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
            .filter(|(name, text)| other.get(*name).is_some_and(|other| other != *text))
            // The value that expects different forms is no tag.
            .filter(|(name, _)| below(parent(&visit.path), name) != visit.path)
            .filter(|(name, _)| everywhere(name))
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

    /// Records how many rejections there were before the present visit.
    pub(crate) fn record_rejections_before(&mut self) {
        self.rejections_before = rejection::count();
    }
}
