//! The values that a pass has visited: which of them a rejection or a fault may be about.
//!
//! A *visit* is a call of a type's visitor with a value, after the type has asked for a value of any
//! type. serde may buffer the value, and reject it later without its path.

use std::collections::HashMap;

use crate::decode::deserializer::ValueDeserializer;
use crate::decode::diagnose::class_forms::Notation;
use crate::decode::diagnose::class_paths::{STEP, VARIANT, items_around};
use crate::decode::diagnose::fault::Location;
use crate::decode::diagnose::form::{Form, TableShape};
use crate::decode::diagnose::inference::Inference;
use crate::decode::diagnose::rejection::{Rejection, Reported};
use crate::decode::input::Input;
use crate::sorted::SortedMap;
use crate::value::Value;
use crate::value::key::{Key, parent, push_segment, under};
use crate::value::origin::Origin;

/// How many values others are compared with.
const MAX_NEAR: usize = 16;

/// A value that a pass has visited without knowing its type.
#[derive(Clone)]
pub(crate) struct Visit {
    pub(crate) path: String,
    pub(crate) id: String,
    pub(crate) class: String,
    pub(crate) reported: Reported,
    pub(super) raw: Raw,
    pub(crate) notation: Notation,
    /// The form that was inferred for it.
    pub(crate) form: Option<Form>,
    /// The forms that earlier variants of an enum expect of it.
    pub(crate) earlier_forms: Vec<Form>,
    /// Whether it is the name of an entry.
    pub(crate) is_name: bool,
    /// Whether it is the tag of an enum, which serde does not buffer.
    pub(super) is_tag: bool,
    /// Only in a pass that describes it.
    pub(crate) location: Option<Location>,
}

/// A value as the tree has it.
#[derive(Clone)]
pub(super) enum Raw {
    Scalar(Value),
    /// An item of JSON text.
    Item(String),
    Table(TableShape),
    Null,
    /// A list or a placeholder.
    Other,
}

impl Raw {
    pub(super) fn of(de: &ValueDeserializer<'_, '_>) -> Self {
        match de.input.canonical() {
            Input::Text(text) if de.json.is_some() => Raw::Item(text.to_owned()),
            Input::Text(text) => Raw::Scalar(text.into()),
            Input::Bool(value) => Raw::Scalar(value.into()),
            Input::Int(value) => Raw::Scalar(value.into()),
            Input::Big(value) => Raw::Scalar(value.get().into()),
            Input::Float(value) => Raw::Scalar(value.into()),
            Input::Table(_) | Input::Fields(_) | Input::AbsentTable => Raw::Table(de.shape()),
            Input::Absent => Raw::Null,
            _ => Raw::Other,
        }
    }

    fn is_text(&self) -> bool {
        matches!(self, Raw::Scalar(Value::Text(_)) | Raw::Item(_))
    }

    /// The form that the type expects which has rejected the value.
    pub(super) fn form(&self, rejection: &Rejection) -> Option<Form> {
        match self {
            Raw::Scalar(value) => Form::of(Input::of_value(value), rejection),
            Raw::Item(text) => Self::form_of_item(text, rejection),
            Raw::Table(shape) => Form::of_table(*shape, rejection),
            Raw::Null | Raw::Other => None,
        }
    }

    /// The form of an item of JSON text. An item that is wrong as JSON is plain text.
    fn form_of_item(text: &str, rejection: &Rejection) -> Option<Form> {
        let plain =
            || (rejection.reported != Reported::Text(text.to_owned())).then_some(Form::Text);
        match Form::of(Input::Text(text), rejection) {
            Some(Form::Plain) | None => plain(),
            form => form,
        }
    }
}

impl Visit {
    /// Whether a form is the fallback of the value: the value as it is written.
    pub(crate) fn is_fallback(&self, form: Form) -> bool {
        form == Form::Plain || (form == Form::Text && matches!(self.raw, Raw::Item(_)))
    }

    /// Whether it is itself an item of a list or a value of a map.
    pub(crate) fn is_item(&self) -> bool {
        items_around(&self.class).last().is_some_and(|item| {
            let rest = &self.class[item.len()..];
            rest.is_empty() || (rest.starts_with(VARIANT) && !rest.contains(STEP))
        })
    }

    /// Whether serde may have buffered it: serde buffers no name and no tag.
    fn is_buffered(&self) -> bool {
        !self.is_name && !self.is_tag
    }

    pub(super) fn is_boolean(&self) -> bool {
        matches!(self.raw, Raw::Scalar(Value::Bool(_)))
    }

    /// Whether it is an integer that 64 bits do not hold.
    pub(super) fn is_long_integer(&self) -> bool {
        let Raw::Scalar(Value::Number(number)) = &self.raw else {
            return false;
        };
        number.is_integer() && number.as_i64().is_none() && number.as_u64().is_none()
    }

    /// The path of the table or the list around it, and its name there.
    pub(super) fn entry(&self) -> Option<(String, String)> {
        let key = Key::parse(&self.path).ok()?;
        let around = key.lineage().nth(1).unwrap_or_default();
        Some((around.to_owned(), key.segments().last()?.into_owned()))
    }

    fn is_null(&self) -> bool {
        matches!(self.raw, Raw::Null)
    }

    pub(crate) fn is_container(&self) -> bool {
        matches!(self.reported, Reported::Map | Reported::Seq)
    }
}

impl Inference {
    /// The indexes of the visits that a rejection may be about.
    pub(crate) fn visits_of(&self, rejection: &Rejection) -> Vec<usize> {
        match rejection.subject {
            Some(at) => vec![at],
            None => self
                .by_reported
                .get(&rejection.reported)
                .cloned()
                .unwrap_or_default(),
        }
    }

    /// The only visit at or below a path that a rejection may be about.
    pub(crate) fn only_rejected(&self, rejection: &Rejection, path: &str) -> Option<&Visit> {
        let visits = self.visits_of(rejection).into_iter();
        let visits = visits.filter_map(|at| self.visits.get(at));
        let mut visits = visits.filter(|visit| under(&visit.path, path));
        match (visits.next(), visits.next()) {
            (Some(one), None) => Some(one),
            _ => None,
        }
    }

    /// The origin of the first visit at or below a path.
    pub(crate) fn origin_below(&self, path: &str) -> Option<Origin> {
        let below = self.visits.iter().filter(|visit| under(&visit.path, path));
        below
            .filter_map(|visit| visit.location.as_ref()?.origin.clone())
            .next()
    }

    /// Whether the pass has visited a value at a path that is no table.
    pub(crate) fn is_value(&self, path: &str) -> bool {
        let here = |visit: &Visit| {
            visit.is_buffered() && visit.path == path && !matches!(visit.raw, Raw::Table(_))
        };
        self.visits.iter().any(here)
    }

    /// The text or the number that the pass has visited at a path.
    pub(crate) fn value_at(&self, path: &str) -> Option<&Visit> {
        let here = |visit: &&Visit| {
            !visit.is_name
                && visit.path == path
                && matches!(visit.reported, Reported::Text(_) | Reported::Number(_))
        };
        self.visits.iter().find(here)
    }

    /// Whether the pass has visited anything at or below a path.
    pub(crate) fn has_visits_below(&self, path: &str) -> bool {
        self.visits.iter().any(|visit| under(&visit.path, path))
    }

    /// The location of a site, after a pass that described it.
    pub(crate) fn location_of(&self, id: &str) -> Option<Location> {
        let visit = self.visits.iter().find(|visit| visit.id == id);
        visit.and_then(|visit| visit.location.clone())
    }

    /// The value and the location of a site, after a pass that described it.
    pub(crate) fn text_of(&self, id: &str) -> Option<(Reported, Location)> {
        let visit = self.visits.iter().find(|visit| visit.id == id)?;
        Some((visit.reported.clone(), visit.location.clone()?))
    }

    /// The table and the name of the tag at a path, if serde has asked for a tag there.
    pub(super) fn tag_at(&self, path: &str) -> Option<(String, String)> {
        let is_here = |visit: &&Visit| visit.is_tag && !visit.is_name && visit.path == path;
        self.visits.iter().find(is_here)?.entry()
    }

    /// The name of the tag in a table, if serde has asked for one there.
    pub(super) fn tag_in(&self, table: &str) -> Option<String> {
        let tags = self
            .visits
            .iter()
            .filter(|visit| visit.is_tag && !visit.is_name);
        let mut entries = tags.filter_map(Visit::entry);
        entries
            .find(|(around, _)| around == table)
            .map(|(_, tag)| tag)
    }

    /// The visit at a path whose value serde may have buffered.
    pub(crate) fn buffered_at(&self, path: &str) -> Option<Visit> {
        let mut visits = self.visits.iter();
        let found = visits.find(|visit| visit.is_buffered() && visit.path == path);
        found.cloned()
    }

    /// The other texts of the class of a rejected value that have no form which the type accepts.
    pub(crate) fn texts_alike(&self, rejected: &Visit, rejection: &Rejection) -> Vec<Visit> {
        let is_alike = |visit: &&Visit| {
            let other = || Rejection {
                reported: visit.reported.clone(),
                ..rejection.clone()
            };
            visit.is_buffered()
                && visit.class == rejected.class
                && visit.id != rejected.id
                && matches!(visit.reported, Reported::Text(_))
                && visit.raw.is_text()
                && visit.raw.form(&other()).is_none()
        };
        self.visits.iter().filter(is_alike).cloned().collect()
    }

    /// The visits below a path in order, without names and tags.
    pub(crate) fn buffered_visits_below(&self, path: &str) -> Vec<Visit> {
        let below = |visit: &&Visit| visit.is_buffered() && is_below(&visit.path, path);
        self.visits.iter().filter(below).cloned().collect()
    }

    /// The tables at and below a path, each with the names of its visited entries.
    pub(crate) fn entries_below(&self, path: &str) -> Vec<(String, Vec<String>)> {
        let visits = self.visits.iter();
        let below = visits.filter(|visit| !visit.is_name && is_below(&visit.path, path));
        let entries = below.filter_map(Visit::entry).collect();
        SortedMap::group(entries).into_iter().collect()
    }

    /// The outermost items of lists and maps that the pass has visited below a path.
    pub(crate) fn items_below(&self, path: &str) -> Vec<Visit> {
        let mut items: Vec<Visit> = Vec::new();
        for visit in &self.visits {
            let is_inside = items
                .last()
                .is_some_and(|item| under(&visit.path, &item.path));
            if visit.is_buffered() && is_below(&visit.path, path) && visit.is_item() && !is_inside {
                items.push(visit.clone());
            }
        }
        items
    }

    /// Whether serde may have buffered anything at or below a path.
    pub(crate) fn buffers_below(&self, path: &str) -> bool {
        let mut visits = self.visits.iter();
        visits.any(|visit| visit.is_buffered() && under(&visit.path, path))
    }

    pub(crate) fn visit(&self, at: usize) -> Option<Visit> {
        self.visits.get(at).cloned()
    }

    /// The visits that a rejection may be about and that could have another form, with that form.
    pub(crate) fn candidates(&self, rejection: &Rejection, path: &str) -> Vec<(usize, Form)> {
        let all = self.visits_of(rejection);
        let find = |is_name: bool| -> Vec<(usize, Form)> {
            let visits = all
                .iter()
                .filter_map(|at| Some((*at, self.visits.get(*at)?)));
            visits
                .filter(|(_, visit)| visit.is_name == is_name && under(&visit.path, path))
                .filter_map(|(at, visit)| Some((at, visit.raw.form(rejection)?)))
                .filter(|(at, form)| {
                    let id = &self.visits[*at].id;
                    !self.assumptions.tried.contains(&(id.clone(), *form))
                })
                .collect()
        };
        let values = find(false);
        if values.is_empty() {
            find(true)
        } else {
            values
        }
    }

    /// The forms that a rejection asks for, whether the value can be read in them or not.
    pub(crate) fn candidate_forms(&self, at: usize, rejection: &Rejection) -> &'static [Form] {
        match self.visits.get(at).map(|visit| &visit.raw) {
            Some(Raw::Scalar(Value::Text(text))) if rejection.variants.is_none() => {
                Form::candidates(Input::Text(text), rejection)
            }
            _ => &[],
        }
    }

    /// The innermost visit at or around some others that has a form from others of its class.
    pub(crate) fn innermost_formed_around(&self, all: &[usize], path: &str) -> Option<Visit> {
        let is_tried = |visit: &Visit| {
            let tried = &self.assumptions.tried;
            tried.contains(&(visit.id.clone(), Form::Plain))
        };
        let mut around: Vec<&Visit> = Vec::new();
        for inner in all.iter().filter_map(|at| self.visits.get(*at)) {
            // Null and placeholders are the same in any form of what is around them.
            let is_any = matches!(inner.raw, Raw::Null | Raw::Other);
            if is_any && inner.reported != Reported::Seq {
                continue;
            }
            around.extend(self.visits.iter().filter(|visit| {
                under(&inner.path, &visit.path)
                    && !visit.is_name
                    && under(&visit.path, path)
                    && visit.form.is_some_and(|form| form != Form::Plain)
                    && !is_tried(visit)
            }));
        }
        let innermost = around.into_iter().max_by_key(|visit| visit.path.len());
        innermost.cloned()
    }

    /// The path of the outermost item around a visit, or else `path`.
    pub(crate) fn item_around(&self, at: Option<usize>, path: &str) -> String {
        if self
            .visits
            .iter()
            .any(|visit| !visit.is_name && visit.path == path)
        {
            return path.to_owned();
        }
        let inner = at.and_then(|at| self.visits.get(at));
        let item = inner.and_then(|inner| {
            let around = self.visits.iter();
            around
                .filter(|visit| !visit.is_name && is_below(&visit.path, path) && visit.is_item())
                .find(|visit| under(&inner.path, &visit.path))
        });
        item.map_or(path, |item| &item.path).to_owned()
    }

    /// The visits at and below a path that a rejection may be about, without those around others.
    pub(crate) fn rejected_below(&self, rejection: &Rejection, path: &str) -> Vec<usize> {
        let mut all = self.visits_of(rejection);
        all.retain(|at| {
            self.visits
                .get(*at)
                .is_some_and(|visit| under(&visit.path, path))
        });
        // A pass visits a container before its entries.
        let is_around =
            |pair: &[usize]| is_below(&self.visits[pair[1]].path, &self.visits[pair[0]].path);
        let outer: Vec<_> = all
            .windows(2)
            .filter(|pair| is_around(pair))
            .map(|it| it[0])
            .collect();
        all.retain(|at| !outer.contains(at));
        all
    }

    /// The visits at and below a path that a rejection may be about, in order.
    pub(in crate::decode) fn all_rejected(&self, rejection: &Rejection, path: &str) -> Vec<Visit> {
        let all = self.visits_of(rejection).into_iter();
        let visits = all.filter_map(|at| self.visits.get(at));
        visits
            .filter(|visit| under(&visit.path, path))
            .cloned()
            .collect()
    }

    /// Whether visits belong to several items of a list or a map.
    pub(crate) fn are_of_several_items(&self, all: &[usize]) -> bool {
        let path = |at: &usize| self.visits.get(*at).map(|visit| parent(&visit.path));
        let is_item = |at: &usize| self.visits.get(*at).is_some_and(Visit::is_item);
        all.iter().any(is_item) || all.windows(2).any(|pair| path(&pair[0]) != path(&pair[1]))
    }

    /// The visits that a rejection may be about and that are near others.
    pub(crate) fn rejected_near(
        &self,
        rejection: &Rejection,
        others: &[usize],
        path: &str,
    ) -> Vec<usize> {
        let mut all = self.rejected_below(rejection, path);
        let others: Vec<&str> = others
            .iter()
            .filter_map(|at| Some(&*self.visits.get(*at)?.path))
            .take(MAX_NEAR)
            .collect();
        all.retain(|at| others.iter().any(|other| self.is_near(*at, other)));
        all
    }

    /// Whether a visit is at, around, inside or beside a path. Items of a list or a map are not beside
    /// each other.
    pub(crate) fn is_near(&self, at: usize, path: &str) -> bool {
        let Some(visit) = self.visits.get(at) else {
            return false;
        };
        // One variant may reject a field of what another variant rejects as a whole.
        let nested = under(&visit.path, path) || under(path, &visit.path);
        nested || (parent(&visit.path) == parent(path) && !visit.is_item())
    }

    /// The lists of a length at and below a path, in order.
    pub(crate) fn lists_of_length(&self, length: usize, path: &str) -> Vec<Visit> {
        let mut lengths: HashMap<String, usize> = HashMap::new();
        for (around, _) in self.visits.iter().filter_map(Visit::entry) {
            *lengths.entry(around).or_default() += 1;
        }
        let is_it = |visit: &&Visit| {
            let items = lengths.get(&visit.path).copied().unwrap_or(0);
            visit.reported == Reported::Seq && items == length && under(&visit.path, path)
        };
        self.visits.iter().filter(is_it).cloned().collect()
    }

    /// The entries below a path that have a name and are in a table.
    pub(crate) fn entries_named(&self, name: &str, path: &str) -> Vec<Visit> {
        let is_table = |path: &str| {
            let mut visits = self.visits.iter();
            visits.any(|visit| visit.path == path && visit.reported == Reported::Map)
        };
        let mut all = self.buffered_visits_below(path);
        all.retain(|visit| {
            let entry = visit.entry();
            entry.is_some_and(|(table, other)| other == name && is_table(&table))
        });
        all
    }

    /// Whether the value at a path is null.
    pub(crate) fn is_null(&self, path: &str) -> bool {
        let mut visits = self.visits.iter();
        visits.any(|visit| visit.path == path && visit.is_null())
    }
}

/// Whether a path is below another one.
pub(super) fn is_below(path: &str, above: &str) -> bool {
    path != above && under(path, above)
}

/// The path of an entry of a table.
pub(super) fn below(table: &str, name: &str) -> String {
    let mut path = table.to_owned();
    push_segment(&mut path, name);
    path
}
